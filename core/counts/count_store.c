#include "core/counts/count_store.h"

#include "core/base/bytes.h"

enum {
    OPERATION_HEADER_SIZE = 3,
};

static void
add_operation(struct count_changes *changes, struct span key, struct span value)
{
    uint8_t header[OPERATION_HEADER_SIZE];

    ASSERT(key.len > 0);
    ASSERT(key.len <= COUNT_KEY_MAX);
    ASSERT(value.len <= COUNT_VALUE_MAX);
    header[0] = narrow_u8(key.len);
    put_u16(header + 1, narrow_u16(value.len));
    buffer_append(&changes->bytes, header, sizeof(header));
    buffer_append_span(&changes->bytes, key);
    buffer_append_span(&changes->bytes, value);
    changes->count++;
}

void
count_changes_put(struct count_changes *changes, struct span key, struct span value)
{
    ASSERT(value.len > 0);
    add_operation(changes, key, value);
}

void
count_changes_delete(struct count_changes *changes, struct span key)
{
    add_operation(changes, key, (struct span){NULL, 0});
}

void
count_changes_clear(struct count_changes *changes)
{
    buffer_clear(&changes->bytes, SIZE_MAX);
    changes->count = 0;
}

void
count_changes_free(struct count_changes *changes)
{
    buffer_free(&changes->bytes);
    changes->count = 0;
}

bool
count_changes_next(struct span *rest, struct span *key, struct span *value)
{
    const uint8_t *raw = (const uint8_t *)rest->data;
    size_t key_len;
    size_t value_len;

    if (rest->len == 0) {
        return false;
    }
    ASSERT(rest->len >= OPERATION_HEADER_SIZE);
    key_len = raw[0];
    value_len = get_u16(raw + 1);
    ASSERT(rest->len >= OPERATION_HEADER_SIZE + key_len + value_len);
    *key = (struct span){rest->data + OPERATION_HEADER_SIZE, key_len};
    *value = (struct span){key->data + key_len, value_len};
    rest->data += OPERATION_HEADER_SIZE + key_len + value_len;
    rest->len -= OPERATION_HEADER_SIZE + key_len + value_len;
    return true;
}
