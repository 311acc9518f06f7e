/*
 * Units. A microsecond has PER_US of them, a token PER_TOKEN = PER_US * 1e6 / rate. PER_US grows
 * with the rate, so that PER_TOKEN stays a large integer and rounding it bends the rate little:
 *
 *   rate         per_us    per_token
 *   0.001             1    1000000000
 *   100               1         10000
 *   1000000       10000         10000
 *   1e9           10000            10
 *
 * The longest distance, BURST_MAX * 1e9, is 1e18 and fits beside the time since init.
 */
#include "core/base/token_bucket.h"

#include <math.h>

enum {
    PER_US_MAX = 10000
};

#define UNITS_MAX (INT64_MAX / 4) /* 7 years at the finest unit; time stands still after that */

static int64_t
div_up(int64_t value, int64_t by)
{
    return value / by + (value % by != 0);
}

static uint64_t
seconds_up(const struct token_bucket *bucket, int64_t units)
{
    return (uint64_t)div_up(units, bucket->per_us * 1000000);
}

void
token_bucket_init(struct token_bucket *bucket, double rate, uint64_t burst, int64_t now_us)
{
    memset(bucket, 0, sizeof(*bucket));
    bucket->base_us = now_us;
    atomic_init(&bucket->full, 0);
    if (rate <= 0) {
        return;
    }
    ASSERT(rate >= TOKEN_RATE_MIN);
    ASSERT(rate <= TOKEN_RATE_MAX);
    ASSERT(burst <= TOKEN_BURST_MAX);
    bucket->burst = burst > 0 ? burst : (uint64_t)ceil(rate);
    bucket->per_us = (int64_t)fmin(PER_US_MAX, fmax(1, ceil(rate / 100)));
    bucket->per_token = llround((double)bucket->per_us * 1e6 / rate);
    ASSERT(bucket->per_token > 0);
}

static int64_t
now_units(const struct token_bucket *bucket, int64_t now_us)
{
    /* A loop may bring a time it took before the bucket was made. */
    int64_t passed_us = now_us > bucket->base_us ? now_us - bucket->base_us : 0;

    return passed_us > UNITS_MAX / bucket->per_us ? UNITS_MAX : passed_us * bucket->per_us;
}

static struct token_level
level(const struct token_bucket *bucket, int64_t missing)
{
    const int64_t room = (int64_t)bucket->burst * bucket->per_token;

    /* Another loop's clock may be a little ahead of ours: then it looks emptier than empty. */
    return (struct token_level){
        .left = missing < room ? (uint64_t)((room - missing) / bucket->per_token) : 0,
        .reset_s = seconds_up(bucket, missing),
    };
}

enum token_answer
token_bucket_take(struct token_bucket *bucket, uint64_t count, int64_t now_us,
                  struct token_level *level_out, uint64_t *wait_s_out)
{
    const int64_t room = (int64_t)bucket->burst * bucket->per_token;
    const int64_t now = now_units(bucket, now_us);
    int64_t full = atomic_load_explicit(&bucket->full, memory_order_relaxed);
    enum token_answer answer;
    int64_t missing; /* from the bucket, in units, before and then after the take */

    ASSERT(token_bucket_is_on(bucket));
    for (;;) {
        int64_t cost;

        missing = full > now ? full - now : 0;
        if (count > bucket->burst) {
            answer = TOKENS_NEVER;
            break;
        }
        cost = (int64_t)count * bucket->per_token;
        if (cost > room - missing) {
            /* Whole seconds, so rounding up covers any part of a microsecond. */
            *wait_s_out = seconds_up(bucket, cost - (room - missing));
            answer = TOKENS_LATER;
            break;
        }
        if (atomic_compare_exchange_weak_explicit(&bucket->full, &full, now + missing + cost,
                                                  memory_order_relaxed, memory_order_relaxed)) {
            missing += cost;
            answer = TOKENS_TAKEN;
            break;
        }
    }
    *level_out = level(bucket, missing);
    return answer;
}

void
token_bucket_give(struct token_bucket *bucket, uint64_t count, int64_t now_us,
                  struct token_level *level_out)
{
    const int64_t now = now_units(bucket, now_us);
    int64_t gift;
    int64_t full;

    ASSERT(token_bucket_is_on(bucket));
    ASSERT(count <= bucket->burst);
    gift = (int64_t)count * bucket->per_token;
    full = atomic_fetch_sub_explicit(&bucket->full, gift, memory_order_relaxed) - gift;
    *level_out = level(bucket, full > now ? full - now : 0);
}

uint64_t
token_bucket_window_s(const struct token_bucket *bucket)
{
    uint64_t seconds;

    ASSERT(token_bucket_is_on(bucket));
    seconds = seconds_up(bucket, (int64_t)bucket->burst * bucket->per_token);
    return seconds > 0 ? seconds : 1;
}
