/*
 * test_user_set.c - exact while few, within the stated error when many, unions, bytes.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/counts/user_set.h"

static uint64_t
hash_of(uint64_t number)
{
    char text[32];
    int len = snprintf(text, sizeof(text), "user-%llu", (unsigned long long)number);

    return user_hash((struct span){text, (size_t)len});
}

static void
add_users(struct user_set *set, uint64_t first, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        assert_int_equal(user_set_add(set, hash_of(first + i)), ERR_OK);
    }
}

static struct buffer
encoded(const struct user_set *set)
{
    struct buffer bytes = BUFFER_EMPTY;

    user_set_encode(set, &bytes);
    assert_false(bytes.failed);
    return bytes;
}

static void
hashes_are_stable_and_never_zero(void **state)
{
    (void)state;
    /* Stored in logs: another value here is another format. */
    assert_true(user_hash(SPAN_LITERAL("alice")) == UINT64_C(0xaaff0bb0c36e07b2));
    assert_true(user_hash(SPAN_LITERAL("")) == UINT64_C(0xefd01f60ba992926));
    assert_true(user_hash(SPAN_LITERAL("a")) != user_hash(SPAN_LITERAL("b")));
}

static void
few_users_are_counted_exactly_however_often_they_come(void **state)
{
    struct user_set set = {0};

    (void)state;
    assert_int_equal(user_set_count(&set), 0);
    for (uint64_t n = 1; n <= USER_SET_EXACT_MAX; n++) {
        add_users(&set, n, 1);
        add_users(&set, n / 2 + 1, 1);
        assert_int_equal(user_set_count(&set), n);
    }
    assert_true(user_set_is_exact(&set));
    add_users(&set, USER_SET_EXACT_MAX + 1, 1);
    assert_false(user_set_is_exact(&set));
    user_set_clear(&set);
    assert_int_equal(user_set_count(&set), 0);
}

static void
many_users_are_estimated_within_the_stated_error(void **state)
{
    const uint64_t sizes[] = {1025, 3000, 8193, 20000, 50000, 100000, 200000, 500000, 1000000};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct user_set set = {0};
        double error;

        add_users(&set, i * 10000000, sizes[i]);
        error = fabs((double)user_set_count(&set) / (double)sizes[i] - 1);
        assert_true(error <= USER_SET_MAX_RELATIVE_ERROR);
        user_set_clear(&set);
    }
}

static void
the_standard_error_is_what_the_header_says(void **state)
{
    double squares = 0;
    const int trials = 100;

    (void)state;
    for (int trial = 0; trial < trials; trial++) {
        struct user_set set = {0};
        double error;

        add_users(&set, (uint64_t)trial * 1000000, 60000);
        error = (double)user_set_count(&set) / 60000 - 1;
        squares += error * error;
        user_set_clear(&set);
    }
    assert_true(sqrt(squares / trials) < 0.0055); /* 0.41 % and what 100 trials can stray */
}

static void
a_union_is_the_set_of_both(void **state)
{
    const uint64_t sizes[][2] = {{0, 0},       {10, 0},   {10, 20},  {1000, 1000},  {1020, 5},
                                 {8000, 8000}, {9000, 5}, {5, 9000}, {30000, 40000}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct user_set a = {0};
        struct user_set b = {0};
        struct user_set both = {0};
        struct buffer x;
        struct buffer y;

        add_users(&a, 0, sizes[i][0]);
        add_users(&b, sizes[i][0] / 2, sizes[i][1]);
        add_users(&both, sizes[i][0] / 2, sizes[i][1]);
        add_users(&both, 0, sizes[i][0]);
        assert_int_equal(user_set_union(&a, &b), ERR_OK);
        assert_int_equal(user_set_count(&a), user_set_count(&both));
        assert_int_equal(user_set_union(&a, &b), ERR_OK); /* idempotent */
        x = encoded(&a);
        y = encoded(&both);
        assert_int_equal(x.len, y.len);
        assert_memory_equal(x.data, y.data, x.len);
        buffer_free(&x);
        buffer_free(&y);
        user_set_clear(&a);
        user_set_clear(&b);
        user_set_clear(&both);
    }
}

static void
a_set_comes_back_from_its_bytes(void **state)
{
    const uint64_t sizes[] = {0,     1,     100,   USER_SET_EXACT_MAX, USER_SET_EXACT_MAX + 1, 9000,
                              26000, 27000, 100000};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct user_set set = {0};
        struct user_set again = {0};
        struct buffer bytes;

        add_users(&set, 7, sizes[i]);
        bytes = encoded(&set);
        assert_int_equal(user_set_decode_union(buffer_span(&bytes), &again), ERR_OK);
        assert_int_equal(user_set_count(&again), user_set_count(&set));
        buffer_free(&bytes);
        user_set_clear(&set);
        user_set_clear(&again);
    }
}

static void
bytes_that_are_not_a_set_are_refused_and_change_nothing(void **state)
{
    struct user_set set = {0};
    struct user_set into = {0};
    struct buffer bytes;

    (void)state;
    add_users(&set, 0, 3);
    add_users(&into, 100, 2);
    bytes = encoded(&set);
    for (size_t len = 0; len < bytes.len; len++) {
        assert_int_equal(user_set_decode_union((struct span){bytes.data, len}, &into), ERR_CORRUPT);
    }
    bytes.data[0] = 2;
    assert_int_equal(user_set_decode_union(buffer_span(&bytes), &into), ERR_FORMAT);
    bytes.data[0] = 1;
    bytes.data[1] = 3;
    assert_int_equal(user_set_decode_union(buffer_span(&bytes), &into), ERR_CORRUPT);
    bytes.data[1] = 0;
    memcpy(bytes.data + 4 + 8, bytes.data + 4, 8); /* the same user twice */
    assert_int_equal(user_set_decode_union(buffer_span(&bytes), &into), ERR_CORRUPT);
    memset(bytes.data + 4, 0, 8); /* a hash that does not exist */
    assert_int_equal(user_set_decode_union(buffer_span(&bytes), &into), ERR_CORRUPT);
    buffer_free(&bytes);
    add_users(&set, 0, 9000);
    bytes = encoded(&set);
    assert_int_equal(bytes.data[1], 2);
    for (size_t len = 0; len < bytes.len; len += 7) {
        assert_int_equal(user_set_decode_union((struct span){bytes.data, len}, &into), ERR_CORRUPT);
    }
    bytes.data[4 + 2] = 50; /* a rank that does not exist */
    assert_int_equal(user_set_decode_union(buffer_span(&bytes), &into), ERR_CORRUPT);
    memcpy(bytes.data + 4, bytes.data + 7, 3); /* the same register twice */
    assert_int_equal(user_set_decode_union(buffer_span(&bytes), &into), ERR_CORRUPT);
    buffer_free(&bytes);
    add_users(&set, 0, 90000);
    bytes = encoded(&set);
    assert_int_equal(bytes.data[1], 1);
    bytes.data[1000] = 50;
    assert_int_equal(user_set_decode_union(buffer_span(&bytes), &into), ERR_CORRUPT);
    assert_int_equal(user_set_count(&into), 2);
    buffer_free(&bytes);
    user_set_clear(&set);
    user_set_clear(&into);
}

#define TEST(name) cmocka_unit_test(name)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(hashes_are_stable_and_never_zero),
        TEST(few_users_are_counted_exactly_however_often_they_come),
        TEST(many_users_are_estimated_within_the_stated_error),
        TEST(the_standard_error_is_what_the_header_says),
        TEST(a_union_is_the_set_of_both),
        TEST(a_set_comes_back_from_its_bytes),
        TEST(bytes_that_are_not_a_set_are_refused_and_change_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
