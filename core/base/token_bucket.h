/*
 * token_bucket.h - a rate limit: RATE tokens a second flow in, at most BURST lie there.
 *
 * One atomic integer, the moment at which the bucket will be full again (the "theoretical arrival
 * time" of GCRA), so loops share a bucket by compare-and-set and nothing ever refills it. Times are
 * integers in a unit chosen per bucket: the rate is kept to 1 in 10000 or better up to a million
 * a second, and the unit outlasts decades.
 *
 * Lives in its owner's memory. After token_bucket_init() any thread may call.
 */
#ifndef SLUICE_CORE_TOKEN_BUCKET_H
#define SLUICE_CORE_TOKEN_BUCKET_H

#include <stdatomic.h>

#include "core/base/base.h"

/* Limits of RATE and BURST. */
#define TOKEN_RATE_MIN 0.001
#define TOKEN_RATE_MAX 1e9
#define TOKEN_BURST_MAX 1000000000U

struct token_bucket {
    uint64_t burst;       /* 0: no limit, every take succeeds */
    int64_t per_us;       /* units of time in a microsecond */
    int64_t per_token;    /* units in which one token flows in */
    int64_t base_us;      /* monotonic time of init: units count from here */
    _Atomic int64_t full; /* in units: when all tokens will be back */
};

/* What a bucket holds, whole seconds rounded up. */
struct token_level {
    uint64_t left;    /* whole tokens */
    uint64_t reset_s; /* until it is full */
};

enum token_answer {
    TOKENS_TAKEN,
    TOKENS_LATER, /* not now */
    TOKENS_NEVER, /* more than BURST: there will never be as many at once */
};

/*
 * Starts full. RATE 0: no limit, whatever BURST is. BURST 0: one second's worth, at least 1.
 * NOW_US: monotonic, of the same clock as later calls.
 */
void token_bucket_init(struct token_bucket *bucket, double rate, uint64_t burst, int64_t now_us);

static inline bool
token_bucket_is_on(const struct token_bucket *bucket)
{
    return bucket->burst != 0;
}

/*
 * Takes all of COUNT tokens or none. *LEVEL_OUT tells what is left; *WAIT_S, after TOKENS_LATER
 * alone, in how many seconds (at least 1) they would be there if nobody else took any. The bucket
 * must be on.
 */
MUST_CHECK enum token_answer token_bucket_take(struct token_bucket *bucket, uint64_t count,
                                               int64_t now_us, struct token_level *level_out,
                                               uint64_t *wait_s_out);

/* Undoes a take of COUNT that was of no use, another limit having refused. */
void token_bucket_give(struct token_bucket *bucket, uint64_t count, int64_t now_us,
                       struct token_level *level_out);

/* Seconds in which an empty bucket fills, rounded up, at least 1. The bucket must be on. */
uint64_t token_bucket_window_s(const struct token_bucket *bucket);

#endif
