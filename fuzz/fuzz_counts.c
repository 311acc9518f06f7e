/*
 * What a damaged history of counts might hand over, chosen by the first byte of the input:
 *
 *   U  a user set         O  a roll-up         C  a chunk of entries
 *   R  a removal          M  the state         N  a name          V  a value        T  a total
 *   K  a key
 *
 * What is accepted comes back from encoding it again, where there is one encoding only; a set
 * joined with itself does not grow.
 */
#include <stdlib.h>

#include "core/counts/count_cell.h"
#include "fuzz/fuzz.h"

static void
check_err(enum err err)
{
    ASSERT(err == ERR_OK || err == ERR_CORRUPT || err == ERR_FORMAT);
}

static void
check_same(struct span bytes, struct buffer *again)
{
    ASSERT(span_equal(bytes, buffer_span(again)));
    buffer_free(again);
}

static void
check_set(struct span bytes)
{
    struct user_set set = {0};
    struct user_set again = {0};
    struct buffer encoded = BUFFER_EMPTY;
    uint64_t count;
    enum err err = user_set_decode_union(bytes, &set);

    check_err(err);
    if (err != ERR_OK) {
        ASSERT(user_set_count(&set) == 0);
        return;
    }
    count = user_set_count(&set);
    user_set_encode(&set, &encoded);
    ASSERT(user_set_decode_union(buffer_span(&encoded), &again) == ERR_OK);
    ASSERT(user_set_count(&again) == count);
    ASSERT(user_set_union(&again, &set) == ERR_OK);
    ASSERT(user_set_count(&again) == count);
    user_set_clear(&set);
    user_set_clear(&again);
    buffer_free(&encoded);
}

static void
check_rollup(struct span bytes)
{
    struct user_set users = {0};
    uint64_t total = 0;

    check_err(count_rollup_decode(bytes, &total, &users));
    user_set_clear(&users);
}

static void
check_chunk(struct span bytes)
{
    struct buffer again = BUFFER_EMPTY;
    size_t count = 0;
    enum err err = count_chunk_count(bytes, &count);

    check_err(err);
    if (err != ERR_OK) {
        return;
    }
    count_chunk_begin(&again);
    for (size_t i = 0; i < count; i++) {
        struct count_entry entry = count_chunk_entry(bytes, i);

        count_chunk_append(&again, &entry);
    }
    check_same(bytes, &again);
}

static void
check_texts(char kind, struct span bytes)
{
    struct buffer again = BUFFER_EMPTY;
    struct count_removal removal;
    struct count_state state;
    struct count_total total;
    struct span a;
    struct span b;
    enum err err = ERR_CORRUPT;

    switch (kind) {
    case 'R':
        check_err(count_removal_decode(bytes, &removal));
        return;
    case 'M':
        err = count_state_decode(bytes, &state);
        if (err == ERR_OK) {
            count_state_encode(&state, &again);
        }
        break;
    case 'N':
        err = count_name_decode(bytes, &a, &b);
        if (err == ERR_OK) {
            count_name_encode(a, b, &again);
        }
        break;
    case 'V':
        err = count_value_decode(bytes, &a);
        if (err == ERR_OK) {
            count_value_encode(a, &again);
        }
        break;
    case 'T':
        err = count_total_decode(bytes, &total);
        if (err == ERR_OK) {
            count_total_encode(&total, &again);
        }
        break;
    default:
        break;
    }
    check_err(err);
    if (err == ERR_OK) {
        check_same(bytes, &again);
    }
}

static void
check_key(struct span key)
{
    struct count_rollup_key rollup;
    struct count_chunk_key chunk;
    struct count_value_key value;
    struct count_key again = {{0}, 0};
    uint64_t seq;
    uint32_t name;

    if (key.len == 0) {
        return;
    }
    if (count_parse_chunk(key, &chunk)) {
        again = count_key_chunk(chunk.name, chunk.width, chunk.slot_us, chunk.n);
    } else if (count_parse_rollup(key, &rollup)) {
        again = count_key_rollup(rollup.level, rollup.name, rollup.bucket_us, rollup.channel,
                                 rollup.campaign, rollup.piece);
    } else if (count_parse_todo(key, &rollup)) {
        again = count_key_todo(rollup.level, rollup.name, rollup.bucket_us);
    } else if (count_parse_value(key, &value)) {
        again = count_key_value(value.name, value.dimension, value.index);
    } else if (count_parse_name(key, &name)) {
        again = count_key_name(name);
    } else if (count_parse_removal(key, &seq)) {
        again = count_key_removal(seq);
    } else {
        return;
    }
    ASSERT(span_equal(key, count_key_span(&again)));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span bytes = {(const char *)data + 1, size - 1};

    if (size == 0) {
        return 0;
    }
    switch (data[0]) {
    case 'U':
        check_set(bytes);
        break;
    case 'O':
        check_rollup(bytes);
        break;
    case 'C':
        check_chunk(bytes);
        break;
    case 'K':
        check_key(bytes);
        break;
    default:
        check_texts((char)data[0], bytes);
        break;
    }
    return 0;
}
