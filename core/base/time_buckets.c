/*
 * Goes through the range from one moment to the next at which the local clock either reaches a new
 * bucket or is set. What meets at a border with the same name becomes one stretch.
 */
#include "core/base/time_buckets.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/timestamp.h"

static const int64_t second_us = INT64_C(1000000);
static const int64_t minute_us = INT64_C(60000000);
static const int64_t hour_us = INT64_C(3600000000);
static const int64_t day_us = INT64_C(86400000000);

static int64_t
floor_div(int64_t value, int64_t by)
{
    return value / by - (value % by < 0 ? 1 : 0);
}

static int64_t
month_begin(int32_t year, int32_t month)
{
    return days_from_civil((struct civil_date){year, narrow_u8((uint64_t)month), 1}) * day_us;
}

static int64_t
bucket_begin(enum time_unit unit, int64_t local_us)
{
    const int64_t day = floor_div(local_us, day_us);
    struct civil_date date;

    switch (unit) {
    case TIME_MINUTE:
        return floor_div(local_us, minute_us) * minute_us;
    case TIME_HOUR:
        return floor_div(local_us, hour_us) * hour_us;
    case TIME_DAY:
        return day * day_us;
    case TIME_WEEK: /* 1970-01-01 was a Thursday, 0001-01-01 a Monday */
        return (day - (day + 3 - floor_div(day + 3, 7) * 7)) * day_us;
    case TIME_MONTH:
        date = civil_from_days(day);
        return month_begin(date.year, date.month);
    }
    assert_failed(__FILE__, __LINE__, "a unit of the list");
}

static int64_t
bucket_end(enum time_unit unit, int64_t begin_us)
{
    struct civil_date date;

    switch (unit) {
    case TIME_MINUTE:
        return begin_us + minute_us;
    case TIME_HOUR:
        return begin_us + hour_us;
    case TIME_DAY:
        return begin_us + day_us;
    case TIME_WEEK:
        return begin_us + 7 * day_us;
    case TIME_MONTH:
        date = civil_from_days(begin_us / day_us);
        return date.month == 12 ? month_begin(date.year + 1, 1)
                                : month_begin(date.year, date.month + 1);
    }
    assert_failed(__FILE__, __LINE__, "a unit of the list");
}

/* Microseconds east of UTC at US, and until when. */
static int64_t
offset_us(const struct time_zone *zone, int64_t us, int64_t *until_us)
{
    int64_t until_s = INT64_MAX;
    const int64_t offset =
        zone == NULL ? 0 : timezone_offset_s(zone, floor_div(us, second_us), &until_s) * second_us;

    *until_us = until_s > TIMESTAMP_MAX_US / second_us ? INT64_MAX : until_s * second_us;
    return offset;
}

/* The first and the last day there are take in what local time would put beyond them. */
static int64_t
clamp(int64_t local_us)
{
    return local_us < TIMESTAMP_MIN_US   ? TIMESTAMP_MIN_US
           : local_us > TIMESTAMP_MAX_US ? TIMESTAMP_MAX_US
                                         : local_us;
}

int64_t
time_local_us(const struct time_zone *zone, int64_t us)
{
    int64_t until_us;

    return clamp(us + offset_us(zone, us, &until_us));
}

int64_t
time_bucket_of(const struct time_zone *zone, enum time_unit unit, int64_t us)
{
    return bucket_begin(unit, time_local_us(zone, us));
}

int64_t
time_bucket_from(const struct time_zone *zone, enum time_unit unit, int64_t us)
{
    const int64_t local_us = time_bucket_of(zone, unit, us);
    int64_t until_us;
    int64_t from_us = local_us - offset_us(zone, us, &until_us);
    int64_t earlier_us;

    /* The offset may have been another one when the bucket began; once more settles it. */
    from_us = local_us - offset_us(zone, from_us, &until_us);
    if (time_local_us(zone, from_us) < local_us) { /* a midnight that was jumped over */
        (void)offset_us(zone, from_us, &until_us);
        return until_us;
    }
    /* A midnight that came twice. */
    earlier_us = local_us - offset_us(zone, from_us - 1, &until_us);
    return earlier_us < from_us && time_local_us(zone, earlier_us) == local_us ? earlier_us
                                                                               : from_us;
}

/* The stretch that begins at FROM_US, cut at TO_US. */
static struct time_stretch
next_stretch(const struct time_zone *zone, enum time_unit unit, int64_t from_us, int64_t to_us)
{
    int64_t until_us;
    const int64_t offset = offset_us(zone, from_us, &until_us);
    const int64_t begin = bucket_begin(unit, clamp(from_us + offset));
    int64_t end = bucket_end(unit, begin) - offset;

    end = end <= from_us ? to_us : end; /* beyond the last day */
    end = end > until_us ? until_us : end;
    return (struct time_stretch){begin, from_us, end > to_us ? to_us : end};
}

/* Adds ONE, which begins where the last one ended. */
static enum err
add_stretch(struct time_buckets *buckets, size_t *capacity, struct time_stretch one)
{
    if (buckets->count > 0 && buckets->stretch[buckets->count - 1].local_us == one.local_us) {
        buckets->stretch[buckets->count - 1].to_us = one.to_us;
        return ERR_OK;
    }
    if (buckets->count == TIME_BUCKETS_MAX) {
        return ERR_TOO_BIG;
    }
    if (buckets->count == *capacity) {
        const size_t wanted = *capacity == 0 ? 64 : *capacity * 2;
        struct time_stretch *grown = realloc(buckets->stretch, wanted * sizeof(*grown));
        if (grown == NULL) {
            return ERR_NO_MEMORY;
        }
        buckets->stretch = grown;
        *capacity = wanted;
    }
    buckets->stretch[buckets->count++] = one;
    return ERR_OK;
}

static int
compare_stretches(const void *a, const void *b)
{
    const struct time_stretch *left = a;
    const struct time_stretch *right = b;

    if (left->local_us != right->local_us) {
        return left->local_us < right->local_us ? -1 : 1;
    }
    return left->from_us < right->from_us ? -1 : left->from_us > right->from_us;
}

enum err
time_buckets_cut(const struct time_zone *zone, enum time_unit unit, int64_t from_us, int64_t to_us,
                 struct time_buckets *out)
{
    struct time_buckets buckets = {NULL, 0};
    size_t capacity = 0;
    int64_t at_us = from_us;

    ASSERT(from_us >= TIMESTAMP_MIN_US);
    ASSERT(to_us <= TIMESTAMP_MAX_US + 1);
    while (at_us < to_us) {
        const struct time_stretch one = next_stretch(zone, unit, at_us, to_us);
        enum err err = add_stretch(&buckets, &capacity, one);

        if (err != ERR_OK) {
            time_buckets_free(&buckets);
            return err;
        }
        ASSERT(one.to_us > at_us);
        at_us = one.to_us;
    }
    if (buckets.count > 1) {
        qsort(buckets.stretch, buckets.count, sizeof(*buckets.stretch), compare_stretches);
    }
    *out = buckets;
    return ERR_OK;
}

void
time_buckets_free(struct time_buckets *buckets)
{
    free(buckets->stretch);
    *buckets = (struct time_buckets){NULL, 0};
}

void
time_bucket_name(enum time_unit unit, int64_t local_us, char out[TIME_BUCKET_NAME_SIZE])
{
    const int64_t day = floor_div(local_us, day_us);
    const struct civil_date date = civil_from_days(day);
    const unsigned minutes = (unsigned)((local_us - day * day_us) / minute_us) % 1440;
    const unsigned year = (unsigned)date.year % 10000;

    switch (unit) {
    case TIME_MINUTE:
    case TIME_HOUR:
        (void)snprintf(out, TIME_BUCKET_NAME_SIZE, "%04u-%02u-%02u %02u:%02u:00", year, date.month,
                       date.day, minutes / 60, minutes % 60);
        return;
    case TIME_DAY:
    case TIME_WEEK:
        (void)snprintf(out, TIME_BUCKET_NAME_SIZE, "%04u-%02u-%02u", year, date.month, date.day);
        return;
    case TIME_MONTH:
        (void)snprintf(out, TIME_BUCKET_NAME_SIZE, "%04u-%02u", year, date.month);
        return;
    }
    assert_failed(__FILE__, __LINE__, "a unit of the list");
}
