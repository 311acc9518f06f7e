/*
 * test_token_bucket.c - the arithmetic of the rate limit, at any distance in time, and its sharing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "core/base/token_bucket.h"

enum {
    SECOND_US = 1000000,
};

#define START_US INT64_C(987654321)

static struct token_bucket bucket;
static struct token_level level;
static uint64_t wait_s;

static void
make(double rate, uint64_t burst)
{
    token_bucket_init(&bucket, rate, burst, START_US);
    level = (struct token_level){0, 0};
    wait_s = 0;
}

/* A take AFTER_US after the bucket was made. */
static enum token_answer
take(uint64_t count, int64_t after_us)
{
    return token_bucket_take(&bucket, count, START_US + after_us, &level, &wait_s);
}

static void
a_bucket_starts_full_and_gives_its_burst_at_once_and_no_more(void **state)
{
    (void)state;
    make(1, 5);
    for (uint64_t i = 0; i < 5; i++) {
        assert_int_equal(take(1, 0), TOKENS_TAKEN);
        assert_int_equal(level.left, 4 - i);
        assert_int_equal(level.reset_s, i + 1);
    }
    assert_int_equal(take(1, 0), TOKENS_LATER);
    assert_int_equal(wait_s, 1);
    assert_int_equal(level.left, 0);
    assert_int_equal(level.reset_s, 5);
}

static void
tokens_flow_in_at_the_rate_to_the_microsecond(void **state)
{
    (void)state;
    make(4, 1); /* one per 250 ms */
    assert_int_equal(take(1, 0), TOKENS_TAKEN);
    assert_int_equal(take(1, 249999), TOKENS_LATER);
    assert_int_equal(take(1, 250000), TOKENS_TAKEN);
    assert_int_equal(take(1, 499999), TOKENS_LATER);
    assert_int_equal(take(1, 500000), TOKENS_TAKEN);
}

static void
a_pause_saves_up_the_burst_and_not_more(void **state)
{
    (void)state;
    make(10, 3);
    assert_int_equal(take(3, 0), TOKENS_TAKEN);
    assert_int_equal(take(4, INT64_C(3600) * SECOND_US), TOKENS_NEVER);
    assert_int_equal(take(3, INT64_C(3600) * SECOND_US), TOKENS_TAKEN);
    assert_int_equal(take(1, INT64_C(3600) * SECOND_US), TOKENS_LATER);
}

static void
many_are_taken_whole_or_not_at_all(void **state)
{
    (void)state;
    make(2, 10);
    assert_int_equal(take(7, 0), TOKENS_TAKEN);
    assert_int_equal(take(4, 0), TOKENS_LATER); /* one short: half a second, said as one */
    assert_int_equal(wait_s, 1);
    assert_int_equal(level.left, 3);
    assert_int_equal(take(3, 0), TOKENS_TAKEN); /* nothing of the four was kept */
    assert_int_equal(take(10, 0), TOKENS_LATER);
    assert_int_equal(wait_s, 5);
    assert_int_equal(take(0, 0), TOKENS_TAKEN); /* an empty bulk costs nothing */
}

static void
the_wait_is_enough_and_a_second_less_is_not(void **state)
{
    static const double RATES[] = {0.001, 0.3, 1, 7, 33.3, 1000.1};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(RATES); i++) {
        make(RATES[i], 5000);
        assert_int_equal(take(5000, 0), TOKENS_TAKEN);
        for (uint64_t count = 1; count <= 5000; count = count * 3 + 1) {
            uint64_t wait;

            assert_int_equal(take(count, 345), TOKENS_LATER);
            wait = wait_s;
            assert_true(wait >= 1);
            if (wait > 1) {
                assert_int_equal(take(count, 345 + (int64_t)(wait - 1) * SECOND_US), TOKENS_LATER);
            }
            assert_int_equal(take(count, 345 + (int64_t)wait * SECOND_US), TOKENS_TAKEN);
            make(RATES[i], 5000);
            assert_int_equal(take(5000, 0), TOKENS_TAKEN);
        }
    }
}

static void
what_passes_in_an_hour_is_the_rate_within_one_in_ten_thousand(void **state)
{
    static const double RATES[] = {0.001, 0.5, 3, 99.5, 100, 101, 12345.678, 999999, 1e6};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(RATES); i++) {
        const int64_t hour_us = INT64_C(3600) * SECOND_US;
        const uint64_t burst = 10 + (uint64_t)(RATES[i] / 10);
        uint64_t passed = 0;
        double want = RATES[i] * 3600;

        make(RATES[i], burst);
        assert_int_equal(take(burst, 0), TOKENS_TAKEN);
        for (int64_t at = 0; at <= hour_us; at += SECOND_US / 20) {
            (void)take(0, at);
            if (level.left > 0) {
                passed += level.left;
                assert_int_equal(take(level.left, at), TOKENS_TAKEN);
            }
        }
        assert_true((double)passed >= want * 0.9999 - 1);
        assert_true((double)passed <= want * 1.0001 + 1);
    }
}

static void
a_rate_without_a_burst_gets_one_second_s_worth(void **state)
{
    (void)state;
    make(100, 0);
    assert_int_equal(bucket.burst, 100);
    assert_int_equal(token_bucket_window_s(&bucket), 1);
    make(2.5, 0);
    assert_int_equal(bucket.burst, 3);
    assert_int_equal(token_bucket_window_s(&bucket), 2);
    make(0.01, 0);
    assert_int_equal(bucket.burst, 1);
    assert_int_equal(token_bucket_window_s(&bucket), 100);
    make(1e6, 1); /* fills in a microsecond: a window is a second at least */
    assert_int_equal(token_bucket_window_s(&bucket), 1);
}

static void
without_a_rate_there_is_no_limit(void **state)
{
    (void)state;
    make(0, 5);
    assert_false(token_bucket_is_on(&bucket));
    make(0.001, 0);
    assert_true(token_bucket_is_on(&bucket));
}

static void
more_than_the_burst_is_never_to_be_had_and_takes_nothing(void **state)
{
    (void)state;
    make(1, 5);
    assert_int_equal(take(6, 0), TOKENS_NEVER);
    assert_int_equal(take(UINT64_MAX, 0), TOKENS_NEVER);
    assert_int_equal(level.left, 5);
    assert_int_equal(take(5, 0), TOKENS_TAKEN);
}

static void
what_is_given_back_can_be_taken_again(void **state)
{
    (void)state;
    make(1, 5);
    assert_int_equal(take(5, 0), TOKENS_TAKEN);
    token_bucket_give(&bucket, 2, START_US, &level);
    assert_int_equal(level.left, 2);
    assert_int_equal(level.reset_s, 3);
    assert_int_equal(take(3, 0), TOKENS_LATER);
    assert_int_equal(take(2, 0), TOKENS_TAKEN);
    /* Given back long after: full, and not fuller than full. */
    token_bucket_give(&bucket, 5, START_US + 100 * SECOND_US, &level);
    assert_int_equal(level.left, 5);
    assert_int_equal(take(6, 100 * SECOND_US), TOKENS_NEVER);
    assert_int_equal(take(5, 100 * SECOND_US), TOKENS_TAKEN);
    assert_int_equal(take(1, 100 * SECOND_US), TOKENS_LATER);
}

static void
a_clock_that_is_a_little_behind_gains_and_loses_nothing(void **state)
{
    (void)state;
    make(1, 2);
    assert_int_equal(take(2, 10 * SECOND_US), TOKENS_TAKEN);
    assert_int_equal(take(1, 10 * SECOND_US - 500), TOKENS_LATER);
    assert_int_equal(level.left, 0);
    assert_int_equal(take(1, -SECOND_US), TOKENS_LATER); /* before the bucket was made */
    assert_int_equal(take(1, 11 * SECOND_US), TOKENS_TAKEN);
}

static void
the_extremes_of_rate_burst_and_time_do_not_overflow(void **state)
{
    (void)state;
    make(TOKEN_RATE_MIN, TOKEN_BURST_MAX);
    assert_int_equal(token_bucket_window_s(&bucket), UINT64_C(1000000000000));
    assert_int_equal(take(TOKEN_BURST_MAX, 0), TOKENS_TAKEN);
    assert_int_equal(take(TOKEN_BURST_MAX, 0), TOKENS_LATER);
    assert_int_equal(wait_s, UINT64_C(1000000000000));
    assert_int_equal(take(1, INT64_MAX - START_US), TOKENS_TAKEN);
    make(TOKEN_RATE_MAX, TOKEN_BURST_MAX);
    assert_int_equal(take(TOKEN_BURST_MAX, 0), TOKENS_TAKEN);
    assert_int_equal(take(TOKEN_BURST_MAX, SECOND_US), TOKENS_TAKEN);
    assert_int_equal(take(1, INT64_MAX - START_US), TOKENS_TAKEN);
}

/* ---- shared ---- */

enum {
    THREADS = 4,
    TAKES = 20000,
};

static void *
take_many(void *arg)
{
    uint64_t *taken = arg;

    for (uint64_t i = 0; i < TAKES; i++) {
        struct token_level at;
        uint64_t wait;
        uint64_t count = i % 3 + 1;

        if (token_bucket_take(&bucket, count, START_US, &at, &wait) == TOKENS_TAKEN) {
            *taken += count;
            if (i % 7 == 0) {
                token_bucket_give(&bucket, count, START_US, &at);
                *taken -= count;
            }
        }
    }
    return NULL;
}

static void
threads_together_get_the_burst_exactly(void **state)
{
    pthread_t thread[THREADS];
    uint64_t taken[THREADS] = {0};
    uint64_t sum = 0;

    (void)state;
    make(0.001, 30001);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, take_many, &taken[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        sum += taken[i];
    }
    assert_int_equal(take(0, 0), TOKENS_TAKEN);
    assert_int_equal(sum + level.left, 30001);
}

#define TEST(name) cmocka_unit_test(name)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_bucket_starts_full_and_gives_its_burst_at_once_and_no_more),
        TEST(tokens_flow_in_at_the_rate_to_the_microsecond),
        TEST(a_pause_saves_up_the_burst_and_not_more),
        TEST(many_are_taken_whole_or_not_at_all),
        TEST(the_wait_is_enough_and_a_second_less_is_not),
        TEST(what_passes_in_an_hour_is_the_rate_within_one_in_ten_thousand),
        TEST(a_rate_without_a_burst_gets_one_second_s_worth),
        TEST(without_a_rate_there_is_no_limit),
        TEST(more_than_the_burst_is_never_to_be_had_and_takes_nothing),
        TEST(what_is_given_back_can_be_taken_again),
        TEST(a_clock_that_is_a_little_behind_gains_and_loses_nothing),
        TEST(the_extremes_of_rate_burst_and_time_do_not_overflow),
        TEST(threads_together_get_the_burst_exactly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
