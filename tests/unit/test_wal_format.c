/* The bytes in the log's file: round trips, every truncation, every flipped bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "wal/format.h"

/* A copy with nothing behind its end that may be read. */
static char *
exact_copy(const void *bytes, size_t len)
{
    char *copy = malloc(len == 0 ? 1 : len);

    assert_non_null(copy);
    memcpy(copy, bytes, len);
    return copy;
}

/* ---- frames ---- */

static struct buffer
three_frames(void)
{
    struct buffer block = BUFFER_EMPTY;

    frame_append(&block, 7, SPAN_LITERAL("first"));
    frame_append(&block, 8, (struct span){"", 0});
    frame_append(&block, UINT64_MAX - 1, SPAN_LITERAL("third"));
    assert_false(block.failed);
    return block;
}

static void
frames_come_back_in_order(void **state)
{
    struct buffer block = three_frames();
    struct span rest = buffer_span(&block);
    struct frame frame;
    uint64_t seq;

    (void)state;
    assert_int_equal(frame_next(&rest, &frame, &seq), ERR_OK);
    assert_int_equal(frame.seq, 7);
    assert_int_equal(seq, 7);
    assert_true(span_is(frame.body, "first"));
    assert_int_equal(frame_next(&rest, &frame, &seq), ERR_OK);
    assert_int_equal(frame.seq, 8);
    assert_int_equal(frame.body.len, 0);
    assert_int_equal(frame_next(&rest, &frame, &seq), ERR_OK);
    assert_true(frame.seq == UINT64_MAX - 1);
    assert_true(span_is(frame.body, "third"));
    assert_int_equal(frame_next(&rest, &frame, &seq), ERR_NOT_FOUND);
    assert_int_equal(frame_next(&rest, &frame, &seq), ERR_NOT_FOUND);
    buffer_free(&block);
}

static void
a_block_cut_anywhere_gives_only_whole_frames(void **state)
{
    struct buffer block = three_frames();

    (void)state;
    for (size_t len = 0; len < block.len; len++) {
        char *copy = exact_copy(block.data, len);
        struct span rest = {copy, len};
        struct frame frame;
        uint64_t seq;
        size_t whole = 0;
        enum err err;

        while ((err = frame_next(&rest, &frame, &seq)) == ERR_OK) {
            whole++;
        }
        assert_int_equal(whole, len < 29 ? 0 : len < 53 ? 1 : 2);
        assert_int_equal(err, len == 0 || len == 29 || len == 53 ? ERR_NOT_FOUND : ERR_CORRUPT);
        free(copy);
    }
    buffer_free(&block);
}

static void
each_flipped_bit_of_a_frame_is_found_and_named(void **state)
{
    struct buffer block = three_frames();

    (void)state;
    for (size_t bit = 0; bit < 29 * 8; bit++) {
        struct span rest = buffer_span(&block);
        struct frame frame = {0, {NULL, 0}};
        uint64_t seq;

        block.data[bit / 8] = (char)(block.data[bit / 8] ^ 1 << bit % 8);
        assert_int_equal(frame_next(&rest, &frame, &seq), ERR_CORRUPT);
        assert_int_equal(frame.seq, 0);
        if (bit >= FRAME_HEADER_SIZE * 8) {
            assert_int_equal(seq, 7);
            /* The next one can still be read. */
            assert_int_equal(frame_next(&rest, &frame, &seq), ERR_OK);
            assert_int_equal(frame.seq, 8);
        } else {
            assert_int_equal(seq, 0);
            assert_int_equal(rest.len, 0);
        }
        block.data[bit / 8] = (char)(block.data[bit / 8] ^ 1 << bit % 8);
    }
    buffer_free(&block);
}

static void
a_frame_of_another_version_is_not_read(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct buffer block = three_frames();
        struct span rest = buffer_span(&block);
        struct frame frame;
        uint8_t header[FRAME_HEADER_SIZE];
        uint64_t seq;

        memcpy(header, block.data, sizeof(header));
        header[20 + i] = 2;
        put_u32(header, crc32c(0, header + 4, sizeof(header) - 4));
        memcpy(block.data, header, sizeof(header));
        assert_int_equal(frame_next(&rest, &frame, &seq), ERR_FORMAT);
        assert_int_equal(seq, 7);
        assert_int_equal(frame_next(&rest, &frame, &seq), ERR_OK);
        assert_int_equal(frame.seq, 8);
        buffer_free(&block);
    }
}

static void
a_length_beyond_the_block_is_found_although_its_checksum_fits(void **state)
{
    struct buffer block = BUFFER_EMPTY;
    struct span rest;
    struct frame frame;
    uint8_t header[FRAME_HEADER_SIZE];
    uint64_t seq;

    (void)state;
    frame_append(&block, 1, SPAN_LITERAL("body"));
    memcpy(header, block.data, sizeof(header));
    put_u32(header + 16, UINT32_MAX);
    put_u32(header, crc32c(0, header + 4, sizeof(header) - 4));
    memcpy(block.data, header, sizeof(header));
    rest = buffer_span(&block);
    assert_int_equal(frame_next(&rest, &frame, &seq), ERR_CORRUPT);
    assert_int_equal(rest.len, 0);
    buffer_free(&block);
}

/* ---- ids ---- */

struct collected {
    struct id_entry entries[ID_BLOCK_ENTRIES_MAX];
    size_t count;
};

static void
collect(void *arg, const struct id_entry *entry)
{
    struct collected *collected = arg;

    assert_true(collected->count < ID_BLOCK_ENTRIES_MAX);
    collected->entries[collected->count++] = *entry;
}

static void
make_entries(struct id_entry *entries, size_t count, uint64_t first)
{
    for (size_t i = 0; i < count; i++) {
        memset(entries[i].key, (int)i, EVENT_KEY_SIZE);
        entries[i].content_crc = (uint32_t)(i * 77);
        entries[i].seq = first + 3 * i;
    }
}

static void
id_blocks_of_every_size_come_back(void **state)
{
    struct id_entry entries[ID_BLOCK_ENTRIES_MAX];
    uint8_t raw[BLOCK_MAX];

    (void)state;
    make_entries(entries, ID_BLOCK_ENTRIES_MAX, UINT64_C(1) << 40);
    for (size_t count = 1; count <= ID_BLOCK_ENTRIES_MAX; count++) {
        struct collected collected = {.count = 0};
        size_t size = id_block_encode(entries, count, raw);
        char *copy = exact_copy(raw, size);
        uint32_t counted = 0;

        assert_true(size <= BLOCK_MAX);
        assert_int_equal(
            id_block_decode((struct span){copy, size}, entries[0].seq, collect, &collected),
            ERR_OK);
        assert_int_equal(collected.count, count);
        for (size_t i = 0; i < count; i++) {
            assert_memory_equal(collected.entries[i].key, entries[i].key, EVENT_KEY_SIZE);
            assert_int_equal(collected.entries[i].content_crc, entries[i].content_crc);
            assert_true(collected.entries[i].seq == entries[i].seq);
        }
        assert_int_equal(id_block_count((struct span){copy, size}, entries[0].seq, &counted),
                         ERR_OK);
        assert_int_equal(counted, count);
        free(copy);
    }
}

static void
a_damaged_id_block_gives_nothing(void **state)
{
    struct id_entry entries[5];
    struct collected collected = {.count = 0};
    uint8_t raw[BLOCK_MAX];
    uint32_t counted = 99;
    size_t size;

    (void)state;
    make_entries(entries, 5, 100);
    size = id_block_encode(entries, 5, raw);
    for (size_t len = 0; len < size; len++) {
        char *copy = exact_copy(raw, len);

        assert_int_equal(id_block_decode((struct span){copy, len}, 100, collect, &collected),
                         ERR_CORRUPT);
        free(copy);
    }
    for (size_t bit = 0; bit < size * 8; bit++) {
        raw[bit / 8] = (uint8_t)(raw[bit / 8] ^ 1 << bit % 8);
        assert_int_equal(
            id_block_decode((struct span){(char *)raw, size}, 100, collect, &collected),
            ERR_CORRUPT);
        raw[bit / 8] = (uint8_t)(raw[bit / 8] ^ 1 << bit % 8);
    }
    /* Its key is covered too: the numbers in it count from there. */
    assert_int_equal(id_block_decode((struct span){(char *)raw, size}, 101, collect, &collected),
                     ERR_CORRUPT);
    assert_int_equal(id_block_count((struct span){(char *)raw, size}, 101, &counted), ERR_CORRUPT);
    assert_int_equal(counted, 99);
    assert_int_equal(collected.count, 0);
}

/* ---- segments ---- */

static void
segments_come_back_or_are_found_damaged(void **state)
{
    uint8_t raw[SEGMENT_VALUE_SIZE];
    struct span value = {(char *)raw, sizeof(raw)};
    uint64_t last = 1;
    uint64_t bytes = 2;

    (void)state;
    segment_value_encode(10, 20, UINT64_C(1) << 50, raw);
    assert_int_equal(segment_value_decode(10, value, &last, &bytes), ERR_OK);
    assert_int_equal(last, 20);
    assert_true(bytes == UINT64_C(1) << 50);
    last = 1;
    assert_int_equal(segment_value_decode(11, value, &last, &bytes), ERR_CORRUPT);
    for (size_t bit = 0; bit < sizeof(raw) * 8; bit++) {
        raw[bit / 8] = (uint8_t)(raw[bit / 8] ^ 1 << bit % 8);
        assert_int_equal(segment_value_decode(10, value, &last, &bytes), ERR_CORRUPT);
        raw[bit / 8] = (uint8_t)(raw[bit / 8] ^ 1 << bit % 8);
    }
    for (size_t len = 0; len < sizeof(raw); len++) {
        value.len = len;
        assert_int_equal(segment_value_decode(10, value, &last, &bytes), ERR_CORRUPT);
    }
    assert_int_equal(last, 1);
}

/* ---- slices ---- */

static void
slices_come_back_under_their_own_key_only(void **state)
{
    const struct slice_key key = {SPAN_LITERAL("tenant"), SPAN_LITERAL("checkout"), -5};
    const struct event event = {.has_status = true,
                                .status = 503,
                                .has_latency = true,
                                .latency_ms = 12.5,
                                .service = SPAN_LITERAL("checkout")};
    const struct slice_rules rules = {.threshold_us = {500000}, .threshold_count = 1};
    struct slice slice = {0};
    struct slice back = {0};
    struct buffer value = BUFFER_EMPTY;
    uint8_t db_key[SLICE_KEY_SIZE];
    struct span key_span = {(char *)db_key, sizeof(db_key)};
    struct slice_key found = {.minute = 99};
    struct span encoded;

    (void)state;
    assert_int_equal(slice_add_event(&slice, &event, &rules), ERR_OK);
    slice_key_encode(&key, db_key);
    slice_value_encode(&key, &slice, &value);
    assert_int_equal(slice_key_minute(key_span), -5);
    assert_int_equal(slice_value_decode(key_span, buffer_span(&value), &found, &encoded), ERR_OK);
    assert_int_equal(found.minute, -5);
    assert_true(span_is(found.tenant, "tenant"));
    assert_true(span_is(found.service, "checkout"));
    assert_int_equal(slice_decode_add(encoded, &back), ERR_OK);
    assert_int_equal(back.bad, 1);
    assert_int_equal(back.good, 0);

    for (size_t bit = 0; bit < sizeof(db_key) * 8; bit++) {
        db_key[bit / 8] = (uint8_t)(db_key[bit / 8] ^ 1 << bit % 8);
        assert_int_equal(slice_value_decode(key_span, buffer_span(&value), &found, &encoded),
                         ERR_CORRUPT);
        db_key[bit / 8] = (uint8_t)(db_key[bit / 8] ^ 1 << bit % 8);
    }
    for (size_t bit = 0; bit < value.len * 8; bit++) {
        value.data[bit / 8] = (char)(value.data[bit / 8] ^ 1 << bit % 8);
        assert_int_equal(slice_value_decode(key_span, buffer_span(&value), &found, &encoded),
                         ERR_CORRUPT);
        value.data[bit / 8] = (char)(value.data[bit / 8] ^ 1 << bit % 8);
    }
    for (size_t len = 0; len < value.len; len++) {
        char *copy = exact_copy(value.data, len);

        assert_int_equal(slice_value_decode(key_span, (struct span){copy, len}, &found, &encoded),
                         ERR_CORRUPT);
        free(copy);
    }
    key_span.len--;
    assert_int_equal(slice_value_decode(key_span, buffer_span(&value), &found, &encoded),
                     ERR_CORRUPT);
    assert_int_equal(slice_key_minute(key_span), 0);
    slice_clear(&slice);
    slice_clear(&back);
    buffer_free(&value);
}

static void
slice_keys_sort_by_minute_also_before_1970(void **state)
{
    static const int64_t MINUTES[] = {INT64_MIN, -28000000, -1, 0, 1, 28333333, INT64_MAX};
    uint8_t before[SLICE_KEY_SIZE];
    uint8_t key[SLICE_KEY_SIZE];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(MINUTES); i++) {
        const struct slice_key slice = {SPAN_LITERAL("t"), SPAN_LITERAL("s"), MINUTES[i]};

        slice_key_encode(&slice, key);
        assert_true(slice_key_minute((struct span){(char *)key, sizeof(key)}) == MINUTES[i]);
        assert_true(i == 0 || memcmp(before, key, sizeof(key)) < 0);
        memcpy(before, key, sizeof(key));
    }
}

/* ---- state ---- */

static void
the_state_comes_back_with_any_number_of_partitions(void **state)
{
    uint8_t raw[STATE_FIXED_SIZE + 8 * JOURNAL_PARTITIONS_MAX];

    (void)state;
    for (uint32_t partitions = 1; partitions <= JOURNAL_PARTITIONS_MAX; partitions++) {
        struct log_state log_state = {.epoch = 77, .first_seq = 12, .partitions = partitions};
        struct log_state back;
        size_t size;
        char *copy;

        memset(log_state.node_id, 0xAB, sizeof(log_state.node_id));
        for (uint32_t p = 0; p < partitions; p++) {
            log_state.replicated[p] = (uint64_t)p << 33;
        }
        size = log_state_encode(&log_state, raw);
        copy = exact_copy(raw, size);
        assert_int_equal(log_state_decode((struct span){copy, size}, &back), ERR_OK);
        assert_memory_equal(&back, &log_state, sizeof(back));
        free(copy);
    }
}

static void
a_damaged_or_foreign_state_is_refused(void **state)
{
    struct log_state log_state = {.epoch = 1, .first_seq = 1, .partitions = 3};
    struct log_state back = {.epoch = 99};
    uint8_t raw[STATE_FIXED_SIZE + 8 * JOURNAL_PARTITIONS_MAX];
    size_t size = log_state_encode(&log_state, raw);

    (void)state;
    for (size_t len = 0; len < size; len++) {
        char *copy = exact_copy(raw, len);

        assert_int_equal(log_state_decode((struct span){copy, len}, &back), ERR_CORRUPT);
        free(copy);
    }
    for (size_t bit = 0; bit < size * 8; bit++) {
        raw[bit / 8] = (uint8_t)(raw[bit / 8] ^ 1 << bit % 8);
        assert_int_equal(log_state_decode((struct span){(char *)raw, size}, &back), ERR_CORRUPT);
        raw[bit / 8] = (uint8_t)(raw[bit / 8] ^ 1 << bit % 8);
    }
    for (uint32_t partitions = 0; partitions < 200; partitions += 4) {
        put_u32(raw + 32, partitions); /* 3 are there */
        put_u32(raw, crc32c(0, raw + 4, size - 4));
        assert_int_equal(log_state_decode((struct span){(char *)raw, size}, &back), ERR_CORRUPT);
    }
    put_u32(raw + 4, STATE_VERSION + 1);
    put_u32(raw, crc32c(0, raw + 4, size - 4));
    assert_int_equal(log_state_decode((struct span){(char *)raw, size}, &back), ERR_FORMAT);
    assert_int_equal(back.epoch, 99);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_come_back_in_order),
        cmocka_unit_test(a_block_cut_anywhere_gives_only_whole_frames),
        cmocka_unit_test(each_flipped_bit_of_a_frame_is_found_and_named),
        cmocka_unit_test(a_frame_of_another_version_is_not_read),
        cmocka_unit_test(a_length_beyond_the_block_is_found_although_its_checksum_fits),
        cmocka_unit_test(id_blocks_of_every_size_come_back),
        cmocka_unit_test(a_damaged_id_block_gives_nothing),
        cmocka_unit_test(segments_come_back_or_are_found_damaged),
        cmocka_unit_test(slices_come_back_under_their_own_key_only),
        cmocka_unit_test(slice_keys_sort_by_minute_also_before_1970),
        cmocka_unit_test(the_state_comes_back_with_any_number_of_partitions),
        cmocka_unit_test(a_damaged_or_foreign_state_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
