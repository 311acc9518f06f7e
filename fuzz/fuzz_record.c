/*
 * What a damaged log file might hand over, chosen by the first byte of the input:
 *
 *   F  a block of frames             I  8 bytes key, an id block
 *   S  24 bytes key, a slice         G  8 bytes key, a segment
 *   T  the state                     E  an encoded event
 *   B  bodies, each after a byte of length, to be framed and read back
 *
 * In lower case the checksums (of a block: of every frame that can be found) are set right first,
 * so that what stands behind them is reached. What is accepted comes back from encoding it again.
 */
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "fuzz/fuzz.h"
#include "wal/format.h"

/* ---- frames and events ---- */

static void
check_event(struct span bytes)
{
    struct buffer again = BUFFER_EMPTY;
    struct event event;
    enum err err = event_decode(bytes, &event);

    ASSERT(err == ERR_OK || err == ERR_CORRUPT || err == ERR_FORMAT);
    if (err == ERR_OK) {
        ASSERT(event.tenant.len >= 1);
        ASSERT(event.id.len >= 1);
        ASSERT(event.name.len >= 1);
        event_encode(&event, &again);
        ASSERT(again.len == bytes.len);
    }
    buffer_free(&again);
}

static void
check_frames(struct span block)
{
    const char *const end = block.data + block.len;
    struct buffer again = BUFFER_EMPTY;

    for (;;) {
        const char *const at = block.data;
        struct frame frame = {0, {NULL, 0}};
        uint64_t seq = 99;
        enum err err = frame_next(&block, &frame, &seq);

        ASSERT(block.len == 0 || block.data + block.len == end);
        if (err == ERR_NOT_FOUND) {
            break;
        }
        ASSERT(err == ERR_OK || err == ERR_CORRUPT || err == ERR_FORMAT);
        if (err != ERR_OK) {
            continue;
        }
        ASSERT(frame.seq == seq);
        ASSERT(frame.body.data == at + FRAME_HEADER_SIZE);
        ASSERT(frame.body.len <= (size_t)(end - frame.body.data));
        check_event(frame.body);
        buffer_clear(&again, SIZE_MAX);
        frame_append(&again, frame.seq, frame.body);
        /* But for the two bytes that nobody reads. */
        ASSERT(memcmp(again.data + 4, at + 4, FRAME_HEADER_SIZE - 6) == 0);
    }
    buffer_free(&again);
}

static void
mend_frames(uint8_t *block, size_t size)
{
    while (size >= FRAME_HEADER_SIZE) {
        size_t body = get_u32(block + 16);

        if (body <= size - FRAME_HEADER_SIZE) {
            put_u32(block + 4, crc32c(0, block + FRAME_HEADER_SIZE, body));
        }
        put_u32(block, crc32c(0, block + 4, FRAME_HEADER_SIZE - 4));
        if (body > size - FRAME_HEADER_SIZE) {
            break;
        }
        block += FRAME_HEADER_SIZE + body;
        size -= FRAME_HEADER_SIZE + body;
    }
}

static void
check_framing(const uint8_t *data, size_t size)
{
    struct buffer block = BUFFER_EMPTY;
    struct span rest;
    uint64_t seq;
    uint64_t count = 0;
    struct frame frame;

    for (size_t at = 0; at < size && data[at] <= size - at - 1; at += 1 + (size_t)data[at]) {
        frame_append(&block, ++count, (struct span){(const char *)data + at + 1, data[at]});
    }
    ASSERT(!block.failed);
    rest = buffer_span(&block);
    for (size_t at = 0; count > 0 && frame_next(&rest, &frame, &seq) == ERR_OK;
         at += 1 + (size_t)data[at]) {
        ASSERT(frame.body.len == data[at]);
        ASSERT(memcmp(frame.body.data, data + at + 1, data[at]) == 0);
        ASSERT(seq <= count);
        if (seq == count) {
            break;
        }
    }
    ASSERT(count == 0 || seq == count);
    buffer_free(&block);
}

/* ---- values under a key ---- */

struct ids {
    struct id_entry *entries;
    size_t count;
};

static void
keep_id(void *arg, const struct id_entry *entry)
{
    struct ids *ids = arg;

    ids->entries = realloc(ids->entries, (ids->count + 1) * sizeof(*ids->entries));
    ASSERT(ids->entries != NULL);
    ids->entries[ids->count++] = *entry;
}

static void
check_ids(const uint8_t *key, struct span block)
{
    struct ids ids = {NULL, 0};
    uint8_t again[BLOCK_MAX];
    uint32_t count = 0;
    uint64_t first = get_u64(key);
    enum err err = id_block_decode(block, first, keep_id, &ids);

    ASSERT(err == id_block_count(block, first, &count));
    ASSERT(ids.count == count);
    ASSERT(err == ERR_OK || count == 0);
    if (count > 0 && count <= ID_BLOCK_ENTRIES_MAX && ids.entries[0].seq == first) {
        ASSERT(id_block_encode(ids.entries, ids.count, again) == block.len);
        ASSERT(memcmp(again, block.data, block.len) == 0);
    }
    free(ids.entries);
}

static void
check_slice(const uint8_t *key, struct span value)
{
    struct slice_key names = {.minute = 1};
    struct span db_key = {(const char *)key, SLICE_KEY_SIZE};
    struct span encoded = {NULL, 0};
    struct slice slice = {0};
    struct buffer again = BUFFER_EMPTY;
    uint8_t own_key[SLICE_KEY_SIZE];

    if (slice_value_decode(db_key, value, &names, &encoded) != ERR_OK) {
        ASSERT(names.minute == 1);
        return;
    }
    ASSERT(names.minute == slice_key_minute(db_key));
    if (slice_decode_add(encoded, &slice) == ERR_OK) {
        slice_value_encode(&names, &slice, &again);
        slice_key_encode(&names, own_key);
        ASSERT(again.len == value.len);
        ASSERT(memcmp(again.data + 4, value.data + 4, value.len - 4) == 0);
        ASSERT(memcmp(own_key, key, 8) == 0);
        ASSERT(slice_value_decode((struct span){(char *)own_key, sizeof(own_key)},
                                  buffer_span(&again), &names, &encoded) == ERR_OK);
    }
    slice_clear(&slice);
    buffer_free(&again);
}

static void
check_segment(const uint8_t *key, struct span value)
{
    uint8_t again[SEGMENT_VALUE_SIZE];
    uint64_t last;
    uint64_t bytes;

    if (segment_value_decode(get_u64(key), value, &last, &bytes) == ERR_OK) {
        segment_value_encode(get_u64(key), last, bytes, again);
        ASSERT(memcmp(again + 8, value.data + 8, SEGMENT_VALUE_SIZE - 8) == 0);
    }
}

static void
check_state(struct span value)
{
    uint8_t again[STATE_FIXED_SIZE + 8 * JOURNAL_PARTITIONS_MAX];
    struct log_state state;

    if (log_state_decode(value, &state) == ERR_OK) {
        ASSERT(state.partitions >= 1);
        ASSERT(state.partitions <= JOURNAL_PARTITIONS_MAX);
        ASSERT(log_state_encode(&state, again) == value.len);
        ASSERT(memcmp(again + 40, value.data + 40, value.len - 40) == 0);
    }
}

/* Sets the checksum at the start of a value right, which covers KEY_SIZE bytes before it as well.
 */
static void
mend_value(uint8_t *data, size_t size, size_t key_size)
{
    if (size >= key_size + 4) {
        put_u32(data + key_size,
                crc32c(crc32c(0, data, key_size), data + key_size + 4, size - key_size - 4));
    }
}

static void
check(char kind, bool mend, uint8_t *data, size_t size)
{
    const size_t key_size = kind == 'S' ? SLICE_KEY_SIZE : kind == 'I' || kind == 'G' ? 8 : 0;
    struct span value;

    if (size < key_size) {
        return;
    }
    if (mend && kind == 'F') {
        mend_frames(data, size);
    } else if (mend && (key_size > 0 || kind == 'T')) {
        mend_value(data, size, key_size);
    }
    value = (struct span){(const char *)data + key_size, size - key_size};
    switch (kind) {
    case 'F':
        check_frames(value);
        break;
    case 'I':
        check_ids(data, value);
        break;
    case 'S':
        check_slice(data, value);
        break;
    case 'G':
        check_segment(data, value);
        break;
    case 'T':
        check_state(value);
        break;
    case 'E':
        check_event(value);
        break;
    case 'B':
        check_framing(data, size);
        break;
    default:
        break;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy;

    if (size < 1) {
        return 0;
    }
    copy = malloc(size == 1 ? 1 : size - 1); /* to be mended, and not a byte longer */
    ASSERT(copy != NULL);
    memcpy(copy, data + 1, size - 1);
    check((char)(data[0] & ~0x20), (data[0] & 0x20) != 0, copy, size - 1);
    free(copy);
    return 0;
}
