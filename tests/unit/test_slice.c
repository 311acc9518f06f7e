/*
 * test_slice.c - counting events, adding and subtracting, the bytes, the set of one batch.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/base/histogram.h"
#include "core/slo/slice.h"
#include "tests/unit/failing_alloc.h"

static const struct slice_rules RULES = {{250000, 500000}, 2, NULL};

static struct event
event_of(uint16_t status, double latency_ms)
{
    return (struct event){
        .has_status = true,
        .has_latency = latency_ms >= 0,
        .status = status,
        .latency_ms = latency_ms,
        .tenant = SPAN_LITERAL("acme"),
        .service = SPAN_LITERAL("checkout"),
    };
}

static void
add(struct slice *slice, uint16_t status, double latency_ms)
{
    struct event event = event_of(status, latency_ms);

    assert_int_equal(slice_add_event(slice, &event, &RULES), ERR_OK);
}

/* A slice of COUNT pseudo-random events. */
static void
add_random(struct slice *slice, int count)
{
    static const uint16_t statuses[] = {200, 201, 204, 301, 404, 429, 500, 503, 599};

    for (int i = 0; i < count; i++) {
        double latency = drand48() < 0.1 ? -1.0 : drand48() * drand48() * 2000.0;
        add(slice, statuses[(size_t)(drand48() * 9)], latency);
    }
}

static struct buffer
encoded(const struct slice *slice)
{
    struct buffer bytes = BUFFER_EMPTY;

    slice_encode(slice, &bytes);
    assert_false(bytes.failed);
    return bytes;
}

static void
assert_same(const struct slice *a, const struct slice *b)
{
    struct buffer x = encoded(a);
    struct buffer y = encoded(b);

    assert_int_equal(x.len, y.len);
    assert_memory_equal(x.data, y.data, x.len);
    buffer_free(&x);
    buffer_free(&y);
}

static void
an_event_is_counted_by_status_bucket_and_threshold(void **state)
{
    struct slice slice = {0};
    uint64_t good;
    uint64_t bad;

    (void)state;
    add(&slice, 200, 100.0);
    add(&slice, 404, 300.0);
    add(&slice, 500, 700.0);
    add(&slice, 503, -1.0);
    assert_int_equal(slice.good, 2);
    assert_int_equal(slice.bad, 2);
    assert_int_equal(slice.timed, 3);
    assert_int_equal(sparse_get(&slice.status, 404), 1);
    assert_int_equal(sparse_get(&slice.status, 201), 0);
    assert_int_equal(sparse_get(&slice.latency, histogram_index(300.0)), 1);
    slice_good_bad(&slice, &(struct slice_measure){.threshold_us = 0}, &good, &bad);
    assert_int_equal(good, 2);
    assert_int_equal(bad, 2);
    slice_good_bad(&slice, &(struct slice_measure){.threshold_us = 250000}, &good, &bad);
    assert_int_equal(good, 1);
    assert_int_equal(bad, 2);
    slice_good_bad(&slice, &(struct slice_measure){.threshold_us = 500000}, &good, &bad);
    assert_int_equal(good, 2);
    assert_int_equal(bad, 1);
    slice_good_bad(&slice, &(struct slice_measure){.threshold_us = 100000}, &good,
                   &bad); /* a threshold nobody compared with */
    assert_int_equal(good + bad, 0);
    slice_clear(&slice);
}

static void
a_latency_at_the_threshold_is_good_without_rounding(void **state)
{
    static const struct {
        uint32_t threshold_us;
        double latency_ms;
    } at[] = {{500000, 500.0}, {100, 0.1},       {300, 0.3},        {700, 0.7},
              {1100, 1.1},     {250250, 250.25}, {999999, 999.999}, {UINT32_MAX, 4294967.295}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(at); i++) {
        const struct slice_rules rules = {{at[i].threshold_us}, 1, NULL};
        struct event event = event_of(200, at[i].latency_ms);
        struct slice slice = {0};
        uint64_t good;
        uint64_t bad;
        assert_int_equal(slice_add_event(&slice, &event, &rules), ERR_OK);
        event.latency_ms = at[i].latency_ms * (1.0 + 1e-12);
        assert_int_equal(slice_add_event(&slice, &event, &rules), ERR_OK);
        slice_good_bad(&slice, &(struct slice_measure){.threshold_us = at[i].threshold_us}, &good,
                       &bad);
        assert_int_equal(good, 1);
        assert_int_equal(bad, 1);
        slice_clear(&slice);
    }
}

static void
rules_are_ascending_and_not_too_many(void **state)
{
    struct slice_rules rules = {{0}, 0, NULL};

    (void)state;
    assert_true(slice_rules_valid(&rules));
    assert_true(slice_rules_valid(&RULES));
    rules = (struct slice_rules){{0}, 1, NULL};
    assert_false(slice_rules_valid(&rules));
    rules = (struct slice_rules){{5, 5}, 2, NULL};
    assert_false(slice_rules_valid(&rules));
    rules = (struct slice_rules){{6, 5}, 2, NULL};
    assert_false(slice_rules_valid(&rules));
    rules.threshold_count = SLICE_THRESHOLDS_MAX + 1;
    assert_false(slice_rules_valid(&rules));
}

static void
adding_then_subtracting_gives_the_same_slice_again(void **state)
{
    (void)state;
    srand48(3);
    for (int round = 0; round < 50; round++) {
        struct slice a = {0};
        struct slice b = {0};
        struct slice sum = {0};
        struct slice other_way = {0};
        add_random(&a, (int)(drand48() * 200));
        add_random(&b, (int)(drand48() * 200));
        assert_int_equal(slice_add(&sum, &a), ERR_OK);
        assert_int_equal(slice_add(&sum, &b), ERR_OK);
        assert_int_equal(slice_add(&other_way, &b), ERR_OK);
        assert_int_equal(slice_add(&other_way, &a), ERR_OK);
        assert_same(&sum, &other_way);
        assert_int_equal(sum.good + sum.bad, sparse_total(&sum.status));
        assert_int_equal(sum.timed, sparse_total(&sum.latency));
        assert_true(slice_covers(&sum, &a));
        slice_subtract(&sum, &a);
        assert_same(&sum, &b);
        slice_subtract(&sum, &b);
        assert_true(slice_is_empty(&sum));
        assert_int_equal(sum.status.len + sum.latency.len + sum.threshold.len, 0);
        slice_clear(&a);
        slice_clear(&b);
        slice_clear(&sum);
        slice_clear(&other_way);
    }
}

static void
covering_looks_at_every_counter(void **state)
{
    struct slice a = {0};
    struct slice b = {0};

    (void)state;
    add(&a, 200, 10.0);
    add(&b, 200, 20.0);
    assert_true(slice_covers(&a, &a));
    assert_false(slice_covers(&a, &b));
    add(&a, 200, 20.0);
    assert_true(slice_covers(&a, &b));
    add(&b, 404, 10.0);
    assert_false(slice_covers(&a, &b));
    slice_clear(&a);
    slice_clear(&b);
}

static void
totals_beyond_the_limit_are_refused(void **state)
{
    struct sparse_entry entry = {200, SLICE_TOTAL_MAX};
    struct slice most = {.good = SLICE_TOTAL_MAX, .status = {&entry, 1, 1}};
    struct buffer bytes = encoded(&most);
    struct slice one = {0};
    struct slice before = {0};

    (void)state;
    add(&one, 200, 5.0);
    add(&before, 200, 5.0);
    assert_int_equal(slice_add(&one, &most), ERR_CORRUPT);
    assert_same(&one, &before);
    assert_int_equal(slice_decode_add(buffer_span(&bytes), &one), ERR_CORRUPT);
    assert_same(&one, &before);
    slice_clear(&one);
    assert_int_equal(slice_decode_add(buffer_span(&bytes), &one), ERR_OK);
    assert_same(&one, &most);
    slice_clear(&one);
    slice_clear(&before);
    buffer_free(&bytes);
}

static void
bytes_read_back_as_the_same_slice(void **state)
{
    (void)state;
    srand48(5);
    for (int round = 0; round < 100; round++) {
        struct slice slice = {0};
        struct slice back = {0};
        struct slice twice = {0};
        struct buffer bytes;
        uint64_t good;
        uint64_t bad;
        uint64_t coded_good;
        uint64_t coded_bad;
        add_random(&slice, (int)(drand48() * 300));
        bytes = encoded(&slice);
        assert_int_equal(slice_decode_add(buffer_span(&bytes), &back), ERR_OK);
        assert_same(&slice, &back);
        assert_int_equal(slice_decode_add(buffer_span(&bytes), &back), ERR_OK);
        assert_int_equal(slice_add(&twice, &slice), ERR_OK);
        assert_int_equal(slice_add(&twice, &slice), ERR_OK);
        assert_same(&twice, &back);
        for (uint32_t t = 0; t <= 500000; t += 250000) {
            slice_good_bad(&slice, &(struct slice_measure){.threshold_us = t}, &good, &bad);
            slice_own_good_bad(buffer_span(&bytes), &(struct slice_measure){.threshold_us = t},
                               &coded_good, &coded_bad);
            assert_int_equal(good, coded_good);
            assert_int_equal(bad, coded_bad);
        }
        slice_clear(&slice);
        slice_clear(&back);
        slice_clear(&twice);
        buffer_free(&bytes);
    }
}

/* The layout is on disk: these bytes may never mean anything else. */
static void
the_layout_is_the_drawn_one(void **state)
{
    static const uint8_t expected[] = {
        1,                               /* version */
        1, 1,    1,                      /* good, bad, timed */
        2, 0x90, 0x03, 1, 0xab, 0x02, 1, /* 200 zig-zag 400; 500 is 299 + 1 on */
    };
    struct slice slice = {0};
    struct buffer bytes;

    (void)state;
    add(&slice, 200, 1.0);
    add(&slice, 500, -1.0);
    bytes = encoded(&slice);
    assert_memory_equal(bytes.data, expected, 11);
    assert_int_equal(bytes.data[11], 2); /* two thresholds */
    /* 2 x 250000 zig-zag coded is 1000000, the varint c0 84 3d; 1000000 is 499999 + 1 on */
    assert_memory_equal(bytes.data + 12, "\xc0\x84\x3d\x01\x9f\xc2\x1e\x01", 8);
    /* one bucket: index -1 zig-zag coded is 1 */
    assert_memory_equal(bytes.data + 20, "\x01\x01\x01", 3);
    assert_int_equal(bytes.len, 23);
    slice_clear(&slice);
    buffer_free(&bytes);
}

static void
bytes_cut_anywhere_or_followed_by_more_are_refused(void **state)
{
    struct slice slice = {0};
    struct slice target = {0};
    struct slice before = {0};
    struct buffer bytes;

    (void)state;
    srand48(9);
    add_random(&slice, 40);
    add(&target, 200, 5.0);
    add(&before, 200, 5.0);
    bytes = encoded(&slice);
    for (size_t len = 0; len < bytes.len; len++) {
        assert_int_equal(slice_decode_add((struct span){bytes.data, len}, &target), ERR_CORRUPT);
        assert_same(&target, &before);
    }
    buffer_append_char(&bytes, 0);
    assert_int_equal(slice_decode_add(buffer_span(&bytes), &target), ERR_CORRUPT);
    bytes.len--;
    bytes.data[0] = 2;
    assert_int_equal(slice_decode_add(buffer_span(&bytes), &target), ERR_FORMAT);
    assert_same(&target, &before);
    assert_int_equal(slice_decode_add((struct span){NULL, 0}, &target), ERR_CORRUPT);
    slice_clear(&slice);
    slice_clear(&target);
    slice_clear(&before);
    buffer_free(&bytes);
}

/* Any bytes: refused with the target untouched, or exactly the bytes that slice would be written
 * as. */
static void
changed_bytes_are_refused_or_are_another_slices_own(void **state)
{
    struct slice slice = {0};
    struct buffer bytes;
    int refused = 0;

    (void)state;
    srand48(11);
    add_random(&slice, 30);
    bytes = encoded(&slice);
    for (size_t at = 0; at < bytes.len; at++) {
        for (int value = 0; value < 256; value++) {
            char kept = bytes.data[at];
            struct slice back = {0};
            enum err err;
            bytes.data[at] = (char)value;
            err = slice_decode_add(buffer_span(&bytes), &back);
            if (err == ERR_OK) {
                struct buffer again = encoded(&back);
                assert_int_equal(again.len, bytes.len);
                assert_memory_equal(again.data, bytes.data, bytes.len);
                buffer_free(&again);
            } else {
                assert_true(err == ERR_CORRUPT || err == ERR_FORMAT);
                assert_true(slice_is_empty(&back));
                assert_null(back.status.entries);
                refused++;
            }
            slice_clear(&back);
            bytes.data[at] = kept;
        }
    }
    assert_true(refused > 0);
    slice_clear(&slice);
    buffer_free(&bytes);
}

#define BYTES(text) ((struct span){(text), sizeof(text) - 1})

static void
each_disagreement_is_refused(void **state)
{
    static const struct {
        const char *what;
        struct span bytes;
    } cases[] = {
        {"statuses sum to less than good", BYTES("\x01\x02\x00\x00\x01\x90\x03\x01\x00\x00")},
        {"a bad status among the good", BYTES("\x01\x01\x00\x00\x01\xe8\x07\x01\x00\x00")},
        {"more timed than events", BYTES("\x01\x01\x00\x02\x01\x90\x03\x01\x00\x01\x00\x02")},
        {"buckets sum to less than timed", BYTES("\x01\x01\x00\x01\x01\x90\x03\x01\x00\x00")},
        {"a count of zero", BYTES("\x01\x01\x00\x00\x02\x90\x03\x01\x00\x00\x00\x00")},
        {"a status below 0", BYTES("\x01\x01\x00\x00\x01\x01\x01\x00\x00")},
        {"a status above 65535", BYTES("\x01\x00\x01\x00\x01\x80\x80\x08\x01\x00\x00")},
        {"a bucket below the zero bucket",
         BYTES("\x01\x01\x00\x01\x01\x90\x03\x01\x00\x01\x83\x05\x01")},
        {"a bucket above the last", BYTES("\x01\x01\x00\x01\x01\x90\x03\x01\x00\x01\x80\x0f\x01")},
        {"a threshold of zero", BYTES("\x01\x01\x00\x01\x01\x90\x03\x01\x01\x00\x01\x01\x00\x01")},
        {"one side of a threshold above timed",
         BYTES("\x01\x02\x00\x01\x01\x90\x03\x02\x01\x04\x02\x01\x00\x01")},
        {"both sides of a threshold above timed",
         BYTES("\x01\x02\x00\x01\x01\x90\x03\x02\x02\x04\x01\x00\x01\x01\x00\x01")},
        {"a varint that is not the shortest",
         BYTES("\x01\x81\x00\x00\x00\x01\x90\x03\x01\x00\x00")},
        {"a varint beyond 64 bits",
         BYTES("\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x00\x00\x00\x00\x00")},
        {"a total beyond the limit",
         BYTES("\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01\x00\x00\x00\x00")},
        {"a list longer than its bytes",
         BYTES("\x01\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct slice slice = {0};
        enum err err = slice_decode_add(cases[i].bytes, &slice);
        if (err != ERR_CORRUPT) {
            print_error("%s: %s\n", cases[i].what, err_name(err));
        }
        assert_int_equal(err, ERR_CORRUPT);
        assert_true(slice_is_empty(&slice));
    }
}

static void
a_total_is_the_sum_of_its_slices_encoded_or_not(void **state)
{
    static uint64_t latency[HISTOGRAM_BUCKETS];
    struct slice_total total = {.latency = latency};
    struct slice_total counts = {.latency = NULL};
    struct slice expected = {0};
    struct slice sum = {0};
    struct slice counts_sum = {0};

    (void)state;
    srand48(13);
    for (int i = 0; i < 20; i++) {
        struct slice slice = {0};
        struct buffer bytes;
        add_random(&slice, 20);
        assert_int_equal(slice_add(&expected, &slice), ERR_OK);
        assert_int_equal(slice_total_add(&counts, &slice), ERR_OK);
        if (i % 2 == 0) {
            assert_int_equal(slice_total_add(&total, &slice), ERR_OK);
        } else {
            bytes = encoded(&slice);
            assert_int_equal(slice_total_add_own(&total, buffer_span(&bytes)), ERR_OK);
            buffer_free(&bytes);
        }
        slice_clear(&slice);
    }
    for (int i = 0; i < 20; i++) { /* what is added and taken out again, in either form */
        struct slice slice = {0};
        struct buffer bytes;
        add_random(&slice, 20);
        bytes = encoded(&slice);
        assert_int_equal(slice_total_add(&total, &slice), ERR_OK);
        assert_int_equal(slice_total_add_own(&counts, buffer_span(&bytes)), ERR_OK);
        if (i % 2 == 0) {
            slice_total_subtract(&total, &slice);
            slice_total_subtract_own(&counts, buffer_span(&bytes));
        } else {
            slice_total_subtract_own(&total, buffer_span(&bytes));
            slice_total_subtract(&counts, &slice);
        }
        buffer_free(&bytes);
        slice_clear(&slice);
    }
    assert_int_equal(slice_total_finish(&total, &sum), ERR_OK);
    assert_same(&sum, &expected);
    assert_int_equal(slice_total_finish(&counts, &counts_sum), ERR_OK);
    assert_int_equal(counts_sum.good, expected.good);
    assert_int_equal(counts_sum.latency.len, 0);
    assert_int_equal(counts_sum.status.len, expected.status.len);
    slice_total_clear(&total);
    slice_total_clear(&counts);
    assert_int_equal(latency[histogram_index(100.0) - HISTOGRAM_ZERO], 0);
    slice_clear(&expected);
    slice_clear(&sum);
    slice_clear(&counts_sum);
}

static void
minutes_are_rounded_down_also_before_1970(void **state)
{
    (void)state;
    assert_int_equal(minute_of_us(0), 0);
    assert_int_equal(minute_of_us(59999999), 0);
    assert_int_equal(minute_of_us(60000000), 1);
    assert_int_equal(minute_of_us(-1), -1);
    assert_int_equal(minute_of_us(-60000000), -1);
    assert_int_equal(minute_of_us(-60000001), -2);
    assert_true(minute_of_us(INT64_MIN) < minute_of_us(INT64_MAX));
}

static void
a_set_holds_each_key_once_and_sorts_by_its_bytes(void **state)
{
    static const char *const tenants[] = {"b", "a", "ab"};
    struct slice_set set = {0};
    uint64_t events = 0;

    (void)state;
    for (int i = 0; i < 3000; i++) {
        char service[16];
        struct event event = event_of(200, 1.0);
        snprintf(service, sizeof(service), "s%d", i % 10);
        event.tenant = span_of(tenants[i % 3]);
        event.service = span_of(service);
        event.occurred_at_us = INT64_C(60000000) * ((i % 7) - 3);
        assert_int_equal(slice_set_add_event(&set, &event, &RULES), ERR_OK);
    }
    assert_int_equal(set.len, 210);
    slice_set_sort(&set);
    for (size_t i = 0; i < set.len; i++) {
        events += set.entries[i].slice.good;
    }
    assert_int_equal(events, 3000);
    assert_true(span_is(set.entries[0].key.tenant, "a"));
    assert_true(span_is(set.entries[0].key.service, "s0"));
    assert_int_equal(set.entries[0].key.minute, -3);
    assert_int_equal(set.entries[1].key.minute, -2);
    assert_true(span_is(set.entries[7].key.service, "s1"));
    assert_true(span_is(set.entries[70].key.tenant, "ab"));
    assert_true(span_is(set.entries[209].key.tenant, "b"));
    slice_set_clear(&set);
    slice_set_clear(&set);
    slice_set_sort(&set);
    assert_int_equal(set.len, 0);
}

static void
names_that_only_join_alike_are_different_keys(void **state)
{
    struct slice_set set = {0};
    struct event event = event_of(200, 1.0);

    (void)state;
    event.tenant = SPAN_LITERAL("ab");
    event.service = SPAN_LITERAL("c");
    assert_int_equal(slice_set_add_event(&set, &event, &RULES), ERR_OK);
    event.tenant = SPAN_LITERAL("a");
    event.service = SPAN_LITERAL("bc");
    assert_int_equal(slice_set_add_event(&set, &event, &RULES), ERR_OK);
    assert_int_equal(set.len, 2);
    slice_set_clear(&set);
}

static void
without_memory_nothing_changes(void **state)
{
    struct slice from = {0};
    struct buffer bytes;

    (void)state;
    if (!FAILING_ALLOC) {
        print_message("the sanitizers bring their own malloc()\n");
        skip();
    }
    srand48(17);
    add_random(&from, 60);
    bytes = encoded(&from);
    for (int way = 0; way < 3; way++) {
        long allowed = 0;
        for (enum err err = ERR_NO_MEMORY; err != ERR_OK; allowed++) {
            struct slice into = {0};
            struct slice before = {0};
            struct event event = event_of(599, 123456.0);
            add(&into, 200, 77777.0);
            add(&before, 200, 77777.0);
            fail_allocations_after(allowed);
            err = way == 0   ? slice_add(&into, &from)
                  : way == 1 ? slice_decode_add(buffer_span(&bytes), &into)
                             : slice_add_event(&into, &event, &RULES);
            fail_allocations_after(-1);
            if (err != ERR_OK) {
                assert_int_equal(err, ERR_NO_MEMORY);
                assert_same(&into, &before);
            }
            slice_clear(&into);
            slice_clear(&before);
        }
        assert_true(allowed > 1);
    }
    slice_clear(&from);
    buffer_free(&bytes);
}

static void
without_memory_a_set_stays_as_it_was(void **state)
{
    struct event event = event_of(200, 5.0);
    long allowed = 0;

    (void)state;
    if (!FAILING_ALLOC) {
        print_message("the sanitizers bring their own malloc()\n");
        skip();
    }
    for (enum err err = ERR_NO_MEMORY; err != ERR_OK; allowed++) {
        struct slice_set set = {0};
        fail_allocations_after(allowed);
        err = slice_set_add_event(&set, &event, &RULES);
        fail_allocations_after(-1);
        assert_int_equal(set.len, err == ERR_OK ? 1 : 0);
        assert_int_equal(slice_set_add_event(&set, &event, &RULES), ERR_OK);
        assert_int_equal(set.len, 1);
        assert_int_equal(set.entries[0].slice.good, err == ERR_OK ? 2 : 1);
        slice_set_clear(&set);
    }
    assert_true(allowed > 4);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_is_counted_by_status_bucket_and_threshold),
        cmocka_unit_test(a_latency_at_the_threshold_is_good_without_rounding),
        cmocka_unit_test(rules_are_ascending_and_not_too_many),
        cmocka_unit_test(adding_then_subtracting_gives_the_same_slice_again),
        cmocka_unit_test(covering_looks_at_every_counter),
        cmocka_unit_test(totals_beyond_the_limit_are_refused),
        cmocka_unit_test(bytes_read_back_as_the_same_slice),
        cmocka_unit_test(the_layout_is_the_drawn_one),
        cmocka_unit_test(bytes_cut_anywhere_or_followed_by_more_are_refused),
        cmocka_unit_test(changed_bytes_are_refused_or_are_another_slices_own),
        cmocka_unit_test(each_disagreement_is_refused),
        cmocka_unit_test(a_total_is_the_sum_of_its_slices_encoded_or_not),
        cmocka_unit_test(minutes_are_rounded_down_also_before_1970),
        cmocka_unit_test(a_set_holds_each_key_once_and_sorts_by_its_bytes),
        cmocka_unit_test(names_that_only_join_alike_are_different_keys),
        cmocka_unit_test(without_memory_nothing_changes),
        cmocka_unit_test(without_memory_a_set_stays_as_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
