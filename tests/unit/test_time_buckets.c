/* Ranges cut by the local clock, in zones that make it hard. */
#include "core/base/time_buckets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/timestamp.h"

static const int64_t minute_us = INT64_C(60000000);

static struct time_zone *
load(const char *name)
{
    struct time_zone *zone = NULL;

    if (timezone_load(TIMEZONE_DIR, span_of(name), &zone) != ERR_OK) {
        fail_msg("%s cannot be read", name);
    }
    return zone;
}

static int64_t
at(const char *text)
{
    int64_t us = 0;

    if (timestamp_parse(span_of(text), &us) != ERR_OK) {
        fail_msg("%s", text);
    }
    return us;
}

/* Each stretch as "NAME MINUTES", in their order. */
static void
assert_cut(const char *name, enum time_unit unit, const char *from, const char *to,
           const char *want)
{
    struct time_zone *zone = load(name);
    struct time_buckets buckets;
    char text[4096] = "";
    size_t len = 0;

    assert_int_equal(time_buckets_cut(zone, unit, at(from), at(to), &buckets), ERR_OK);
    for (size_t i = 0; i < buckets.count; i++) {
        const struct time_stretch *one = &buckets.stretch[i];
        char bucket[TIME_BUCKET_NAME_SIZE];

        time_bucket_name(unit, one->local_us, bucket);
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s %lld", i == 0 ? "" : "|",
                                bucket, (long long)((one->to_us - one->from_us) / minute_us));
        assert_true(len < sizeof(text));
    }
    assert_string_equal(text, want);
    time_buckets_free(&buckets);
    timezone_free(zone);
}

static void
plain_ranges_are_cut_where_the_clock_turns(void **state)
{
    (void)state;
    assert_cut("UTC", TIME_HOUR, "2026-01-02T03:30:00Z", "2026-01-02T05:15:00Z",
               "2026-01-02 03:00:00 30|2026-01-02 04:00:00 60|2026-01-02 05:00:00 15");
    assert_cut("UTC", TIME_MINUTE, "2026-01-02T23:59:00Z", "2026-01-03T00:01:00Z",
               "2026-01-02 23:59:00 1|2026-01-03 00:00:00 1");
    assert_cut("UTC", TIME_DAY, "2026-02-28T12:00:00Z", "2026-03-02T00:00:00Z",
               "2026-02-28 720|2026-03-01 1440");
    assert_cut("UTC", TIME_WEEK, "2026-01-01T00:00:00Z", "2026-01-13T00:00:00Z",
               "2025-12-29 5760|2026-01-05 10080|2026-01-12 1440");
    assert_cut("UTC", TIME_MONTH, "2024-01-31T00:00:00Z", "2024-03-01T00:01:00Z",
               "2024-01 1440|2024-02 41760|2024-03 1");
    assert_cut("UTC", TIME_MONTH, "2025-12-01T00:00:00Z", "2026-01-02T00:00:00Z",
               "2025-12 44640|2026-01 1440");
    assert_cut("UTC", TIME_DAY, "1969-12-31T23:00:00Z", "1970-01-01T01:00:00Z",
               "1969-12-31 60|1970-01-01 60");
    assert_cut("UTC", TIME_HOUR, "2026-01-02T03:30:00Z", "2026-01-02T03:30:00Z", "");
}

static void
days_begin_at_local_midnight(void **state)
{
    (void)state;
    assert_cut("Asia/Kolkata", TIME_DAY, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z",
               "2026-01-01 1110|2026-01-02 330");
    assert_cut("Asia/Kathmandu", TIME_HOUR, "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z",
               "2026-01-01 05:00:00 15|2026-01-01 06:00:00 45");
    assert_cut("America/New_York", TIME_MONTH, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z",
               "2025-12 300|2026-01 1140");
    assert_cut("Pacific/Auckland", TIME_WEEK, "2026-01-04T10:00:00Z", "2026-01-04T12:00:00Z",
               "2025-12-29 60|2026-01-05 60"); /* Monday comes at 11:00 UTC */
}

static void
an_hour_that_comes_twice_is_one_and_one_left_out_is_none(void **state)
{
    (void)state;
    assert_cut("Europe/Berlin", TIME_HOUR, "2026-10-24T23:00:00Z", "2026-10-25T03:00:00Z",
               "2026-10-25 01:00:00 60|2026-10-25 02:00:00 120|2026-10-25 03:00:00 60");
    assert_cut("Europe/Berlin", TIME_HOUR, "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z",
               "2026-03-29 01:00:00 60|2026-03-29 03:00:00 60");
    assert_cut("Europe/Berlin", TIME_DAY, "2026-10-24T22:00:00Z", "2026-10-26T23:00:00Z",
               "2026-10-25 1500|2026-10-26 1440");
    assert_cut("Europe/Berlin", TIME_DAY, "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z",
               "2026-03-29 1380");
    /* The same by the rule alone, in 2040. */
    assert_cut("Europe/Berlin", TIME_HOUR, "2040-10-27T23:00:00Z", "2040-10-28T03:00:00Z",
               "2040-10-28 01:00:00 60|2040-10-28 02:00:00 120|2040-10-28 03:00:00 60");
    /* Its minutes are two stretches each. */
    assert_cut("Europe/Berlin", TIME_MINUTE, "2026-10-25T00:59:00Z", "2026-10-25T01:01:00Z",
               "2026-10-25 02:00:00 1|2026-10-25 02:59:00 1");
    assert_cut("Europe/Paris", TIME_MINUTE, "2026-10-25T00:00:00Z", "2026-10-25T00:01:00Z",
               "2026-10-25 02:00:00 1");
    /* Half an hour of daylight saving: 02:00 +11:00 becomes 01:30 +10:30, and the other way round.
     */
    assert_cut("Australia/Lord_Howe", TIME_HOUR, "2026-04-04T14:00:00Z", "2026-04-04T16:30:00Z",
               "2026-04-05 01:00:00 90|2026-04-05 02:00:00 60");
    assert_cut("Australia/Lord_Howe", TIME_HOUR, "2026-10-03T14:30:00Z", "2026-10-03T17:00:00Z",
               "2026-10-04 01:00:00 60|2026-10-04 02:00:00 30|2026-10-04 03:00:00 60");
    /* Clocks that were set back at one minute past midnight, into the day before. */
    assert_cut("America/St_Johns", TIME_DAY, "2006-10-28T12:00:00Z", "2006-10-29T12:00:00Z",
               "2006-10-28 870|2006-10-28 59|2006-10-29 1|2006-10-29 510");
    /* A day that never was. */
    assert_cut("Pacific/Apia", TIME_DAY, "2011-12-29T10:00:00Z", "2011-12-31T10:00:00Z",
               "2011-12-29 1440|2011-12-31 1440");
}

/* The first instant is in the bucket, and what comes before it is in an earlier one. */
static void
a_bucket_begins_at_its_first_instant(void **state)
{
    static const char *const NAMES[] = {
        "UTC",         "Europe/Berlin", "Asia/Kathmandu", "America/Havana", "Australia/Lord_Howe",
        "Africa/Cairo"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++) {
        struct time_zone *zone = load(NAMES[i]);

        for (int64_t us = at("2024-01-01T00:00:00Z"); us < at("2027-01-01T00:00:00Z");
             us += INT64_C(7777777777)) {
            for (enum time_unit unit = TIME_DAY; unit <= TIME_MONTH; unit++) {
                const int64_t from_us = time_bucket_from(zone, unit, us);

                assert_true(from_us <= us);
                assert_int_equal(time_bucket_of(zone, unit, from_us),
                                 time_bucket_of(zone, unit, us));
                assert_true(time_bucket_of(zone, unit, from_us - 1) <
                            time_bucket_of(zone, unit, us));
            }
        }
        timezone_free(zone);
    }
    assert_int_equal(time_bucket_from(NULL, TIME_MONTH, at("2026-02-28T23:59:59Z")),
                     at("2026-02-01T00:00:00Z"));
}

static void
a_minute_of_an_hour_that_comes_twice_has_both_its_stretches_together(void **state)
{
    struct time_zone *zone = load("Europe/Berlin");
    struct time_buckets buckets;

    (void)state;
    assert_int_equal(time_buckets_cut(zone, TIME_MINUTE, at("2026-10-25T00:00:00Z"),
                                      at("2026-10-25T02:00:00Z"), &buckets),
                     ERR_OK);
    assert_int_equal(buckets.count, 120);
    for (size_t i = 0; i < 120; i += 2) {
        assert_int_equal(buckets.stretch[i].local_us, buckets.stretch[i + 1].local_us);
        assert_int_equal(buckets.stretch[i + 1].from_us - buckets.stretch[i].from_us,
                         60 * minute_us);
    }
    time_buckets_free(&buckets);
    timezone_free(zone);
}

static int
compare_from(const void *a, const void *b)
{
    const struct time_stretch *left = a;
    const struct time_stretch *right = b;

    return left->from_us < right->from_us ? -1 : left->from_us > right->from_us;
}

/* Whatever the zone: nothing is left out, nothing is in twice, and each instant is where it
 * belongs. */
static void
every_instant_is_in_one_bucket_the_one_of_its_local_time(void **state)
{
    static const char *const ZONES[] = {"UTC",
                                        "Europe/Berlin",
                                        "Australia/Lord_Howe",
                                        "Asia/Kathmandu",
                                        "America/St_Johns",
                                        "Africa/Casablanca",
                                        "Pacific/Apia",
                                        "Antarctica/Troll",
                                        "Africa/Monrovia",
                                        "America/Nuuk"};
    static const int64_t LONGEST_HOURS[] = {30, 24 * 20, 24 * 400, 24 * 2000, 24 * 4000};
    unsigned seed = (unsigned)getpid();

    (void)state;
    print_message("seed %u\n", seed);
    for (int round = 0; round < 1500; round++) {
        const char *name = ZONES[(size_t)rand_r(&seed) % ARRAY_LEN(ZONES)];
        struct time_zone *zone = load(name);
        const enum time_unit unit = (enum time_unit)(rand_r(&seed) % 5);
        const int64_t from_us = ((int64_t)rand_r(&seed) % 2000000000 * 2 - 1000000000) * 1000000 +
                                rand_r(&seed) % 1000000;
        const int64_t length_us = (int64_t)rand_r(&seed) % (LONGEST_HOURS[unit] * 3600) * 1000000 +
                                  rand_r(&seed) % 1000000;
        struct time_buckets buckets;
        int64_t reached_us = from_us;

        assert_int_equal(time_buckets_cut(zone, unit, from_us, from_us + length_us, &buckets),
                         ERR_OK);
        for (size_t i = 1; i < buckets.count; i++) {
            assert_true(buckets.stretch[i - 1].local_us <= buckets.stretch[i].local_us);
        }
        qsort(buckets.stretch, buckets.count, sizeof(*buckets.stretch), compare_from);
        for (size_t i = 0; i < buckets.count; i++) {
            const struct time_stretch *one = &buckets.stretch[i];
            const int64_t inside = one->from_us + rand_r(&seed) % (one->to_us - one->from_us);

            assert_int_equal(one->from_us, reached_us);
            reached_us = one->to_us;
            if (time_bucket_of(zone, unit, one->from_us) != one->local_us ||
                time_bucket_of(zone, unit, inside) != one->local_us ||
                time_bucket_of(zone, unit, one->to_us - 1) != one->local_us) {
                fail_msg("%s, unit %d, from %lld", name, (int)unit, (long long)one->from_us);
            }
        }
        assert_int_equal(reached_us, from_us + length_us);
        time_buckets_free(&buckets);
        timezone_free(zone);
    }
}

static void
the_first_and_the_last_days_there_are_have_buckets_too(void **state)
{
    static const char *const ZONES[] = {"UTC", "Pacific/Kiritimati", "Etc/GMT+12",
                                        "Pacific/Pago_Pago"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ZONES); i++) {
        for (enum time_unit unit = TIME_MINUTE; unit <= TIME_MONTH; unit++) {
            static const int64_t span_us = INT64_C(86400000000) * 3;
            struct time_zone *zone = load(ZONES[i]);
            struct time_buckets buckets;

            assert_int_equal(time_buckets_cut(zone, unit, TIMESTAMP_MIN_US,
                                              TIMESTAMP_MIN_US + span_us, &buckets),
                             ERR_OK);
            assert_true(buckets.count > 0);
            time_buckets_free(&buckets);
            assert_int_equal(time_buckets_cut(zone, unit, TIMESTAMP_MAX_US - span_us,
                                              TIMESTAMP_MAX_US + 1, &buckets),
                             ERR_OK);
            assert_true(buckets.count > 0);
            time_buckets_free(&buckets);
            timezone_free(zone);
        }
    }
}

static void
a_cut_into_too_many_is_refused(void **state)
{
    struct time_zone *zone = load("UTC");
    struct time_buckets buckets;

    (void)state;
    assert_int_equal(time_buckets_cut(zone, TIME_MINUTE, 0, TIME_BUCKETS_MAX * minute_us, &buckets),
                     ERR_OK);
    assert_int_equal(buckets.count, TIME_BUCKETS_MAX);
    time_buckets_free(&buckets);
    assert_int_equal(
        time_buckets_cut(zone, TIME_MINUTE, 0, TIME_BUCKETS_MAX * minute_us + 1, &buckets),
        ERR_TOO_BIG);
    timezone_free(zone);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_ranges_are_cut_where_the_clock_turns),
        cmocka_unit_test(days_begin_at_local_midnight),
        cmocka_unit_test(an_hour_that_comes_twice_is_one_and_one_left_out_is_none),
        cmocka_unit_test(a_bucket_begins_at_its_first_instant),
        cmocka_unit_test(a_minute_of_an_hour_that_comes_twice_has_both_its_stretches_together),
        cmocka_unit_test(every_instant_is_in_one_bucket_the_one_of_its_local_time),
        cmocka_unit_test(the_first_and_the_last_days_there_are_have_buckets_too),
        cmocka_unit_test(a_cut_into_too_many_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
