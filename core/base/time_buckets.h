/*
 * time_buckets.h - a range of time cut into minutes, hours, days, weeks or months of local time.
 *
 * A bucket is what the clock on the wall calls by one name. Where daylight saving ends, an hour has
 * that name twice: it is one bucket, of two hours (whose minutes are two stretches each). The hour
 * that is left out where it begins is no bucket at all. A zone of NULL is UTC. Any thread.
 */
#ifndef SLUICE_CORE_TIME_BUCKETS_H
#define SLUICE_CORE_TIME_BUCKETS_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/base/timezone.h"

enum {
    TIME_BUCKETS_MAX = 20000,   /* stretches of one cut */
    TIME_BUCKET_NAME_SIZE = 24, /* "9999-12-31 23:59:00" and the NUL */
};

enum time_unit {
    TIME_MINUTE,
    TIME_HOUR,
    TIME_DAY,
    TIME_WEEK, /* from Monday */
    TIME_MONTH,
};

/* A stretch of a bucket; buckets are runs of stretches with the same LOCAL_US. */
struct time_stretch {
    int64_t local_us; /* local time the bucket begins at, as if it were UTC: its identity */
    int64_t from_us;  /* UTC, [from, to) */
    int64_t to_us;
};

struct time_buckets {
    struct time_stretch *stretch; /* by local_us, then by from_us */
    size_t count;
};

/*
 * Cuts [FROM_US, TO_US), both within timestamp.h's years, TO_US at most a microsecond beyond; free
 * with time_buckets_free(). Every instant of the range is in exactly one stretch. ERR_TOO_BIG: it
 * would be more than TIME_BUCKETS_MAX; ERR_NO_MEMORY.
 */
MUST_CHECK enum err time_buckets_cut(const struct time_zone *zone, enum time_unit unit,
                                     int64_t from_us, int64_t to_us, struct time_buckets *out);
void time_buckets_free(struct time_buckets *buckets);

/* The local time US is at, as if it were UTC, kept within timestamp.h's years. */
int64_t time_local_us(const struct time_zone *zone, int64_t us);

/* LOCAL_US of the bucket that the instant US is in. */
int64_t time_bucket_of(const struct time_zone *zone, enum time_unit unit, int64_t us);

/*
 * The first instant of the bucket that the instant US is in; UNIT is a day or longer. Where the
 * clock jumps over its midnight, that is the instant of the jump.
 */
int64_t time_bucket_from(const struct time_zone *zone, enum time_unit unit, int64_t us);

/*
 * Writes the bucket's name: "2026-01-02 03:04:00" for a minute and, with zeros, for an hour;
 * "2026-01-02" for a day and for the Monday a week begins with; "2026-01" for a month.
 */
void time_bucket_name(enum time_unit unit, int64_t local_us, char out[TIME_BUCKET_NAME_SIZE]);

#endif
