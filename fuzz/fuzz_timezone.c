/*
 * Any bytes as a TZif file. What is taken must answer for every instant there is: with an offset
 * that holds until the moment it says, and with buckets that leave nothing out.
 */
#include "core/base/time_buckets.h"
#include "core/base/timestamp.h"
#include "fuzz/fuzz.h"

static const int64_t second_us = INT64_C(1000000);

static void
check_instant(const struct time_zone *zone, int64_t utc_s)
{
    int64_t until_s;
    int64_t later_s;
    const int32_t offset_s = timezone_offset_s(zone, utc_s, &until_s);

    ASSERT(offset_s > -26 * 3600);
    ASSERT(offset_s < 27 * 3600);
    ASSERT(until_s > utc_s);
    if (until_s - 1 <= TIMESTAMP_MAX_US / second_us) {
        ASSERT(timezone_offset_s(zone, until_s - 1, &later_s) == offset_s);
        ASSERT(later_s == until_s);
    }
}

static void
check_cut(const struct time_zone *zone, enum time_unit unit, int64_t from_us, int64_t to_us)
{
    struct time_buckets buckets;
    int64_t sum_us = 0;
    enum err err = time_buckets_cut(zone, unit, from_us, to_us, &buckets);

    if (err != ERR_OK) {
        ASSERT(err == ERR_TOO_BIG);
        return;
    }
    for (size_t i = 0; i < buckets.count; i++) {
        const struct time_stretch *one = &buckets.stretch[i];
        char name[TIME_BUCKET_NAME_SIZE];

        ASSERT(one->from_us < one->to_us);
        ASSERT(i == 0 || one[-1].local_us <= one->local_us);
        ASSERT(time_bucket_of(zone, unit, one->to_us - 1) == one->local_us);
        time_bucket_name(unit, one->local_us, name);
        sum_us += one->to_us - one->from_us;
    }
    ASSERT(sum_us == to_us - from_us);
    time_buckets_free(&buckets);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int64_t days[] = {-719162, -36525, -25567, -1,    0,
                                   365,     20000,  24855,  25000, 2932896};
    static const int64_t day_us = INT64_C(86400000000);
    struct time_zone *zone;
    enum err err = timezone_parse((struct span){(const char *)data, size}, &zone);

    if (err != ERR_OK) {
        ASSERT(err == ERR_CORRUPT);
        return 0;
    }
    for (size_t i = 0; i < sizeof(days) / sizeof(days[0]); i++) {
        const int64_t from_us = days[i] * day_us;
        const int64_t left_us = TIMESTAMP_MAX_US + 1 - from_us;

        check_instant(zone, from_us / second_us);
        check_instant(zone, from_us / second_us + 86399);
        for (enum time_unit unit = TIME_MINUTE; unit <= TIME_MONTH; unit++) {
            const int64_t span_us = day_us * (unit == TIME_MINUTE ? 1
                                              : unit == TIME_HOUR ? 20
                                                                  : 400);

            check_cut(zone, unit, from_us, from_us + (span_us < left_us ? span_us : left_us));
        }
    }
    timezone_free(zone);
    return 0;
}
