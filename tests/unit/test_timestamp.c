/* RFC 3339, epoch numbers and the calendar, against fixed points and against libc's calendar. */
#include "core/base/timestamp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static void
assert_parses(const char *text, int64_t expected_us)
{
    int64_t us = INT64_MIN;

    if (timestamp_parse(span_of(text), &us) != ERR_OK || us != expected_us) {
        fail_msg("%s: %lld instead of %lld", text, (long long)us, (long long)expected_us);
    }
}

static void
assert_refused(const char *text)
{
    int64_t us = 42;

    if (timestamp_parse(span_of(text), &us) != ERR_INVALID) {
        fail_msg("'%s' was accepted", text);
    }
    assert_int_equal(us, 42);
}

static void
rfc3339_examples_parse(void **state)
{
    (void)state;
    assert_parses("1970-01-01T00:00:00Z", 0);
    assert_parses("1985-04-12T23:20:50.52Z", INT64_C(482196050520000));
    assert_parses("1996-12-19T16:39:57-08:00", INT64_C(851042397000000));
    assert_parses("1937-01-01T12:00:27.87+00:20", INT64_C(-1041337172130000));
    assert_parses("2025-12-31T10:00:00z", INT64_C(1767175200000000));
    assert_parses("2025-12-31t10:00:00Z", INT64_C(1767175200000000));
    assert_parses("2025-12-31T10:00:00-00:00", INT64_C(1767175200000000));
    assert_parses("2025-12-31T23:59:00+23:59", INT64_C(1767139200000000));
}

static void
fractions_of_1_to_9_digits_are_cut_to_microseconds(void **state)
{
    (void)state;
    assert_parses("1970-01-01T00:00:00.1Z", 100000);
    assert_parses("1970-01-01T00:00:00.000001Z", 1);
    assert_parses("1970-01-01T00:00:00.1234567Z", 123456);
    assert_parses("1970-01-01T00:00:00.999999999Z", 999999);
    assert_parses("1969-12-31T23:59:59.999999999Z", -1);
    assert_refused("1970-01-01T00:00:00.Z");
    assert_refused("1970-01-01T00:00:00.1234567890Z");
    assert_refused("1970-01-01T00:00:00,5Z");
}

static void
leap_seconds_end_their_own_day(void **state)
{
    (void)state;
    assert_parses("1990-12-31T23:59:60Z", INT64_C(662687999999999));
    assert_parses("1990-12-31T15:59:60-08:00", INT64_C(662687999999999));
    assert_parses("2016-12-31T23:59:60.5Z", INT64_C(1483228799999999));
    assert_refused("1990-12-30T23:59:60Z"); /* not the end of a month */
    assert_refused("1990-12-31T23:58:60Z");
    assert_refused("1990-12-31T23:59:60+01:00"); /* 22:59:60 UTC */
    assert_refused("1990-12-31T23:59:61Z");
    assert_refused("9999-12-31T23:59:60Z");
}

static void
dates_must_be_in_the_calendar(void **state)
{
    (void)state;
    assert_parses("2024-02-29T00:00:00Z", INT64_C(1709164800000000));
    assert_parses("2000-02-29T00:00:00Z", INT64_C(951782400000000));
    assert_refused("2023-02-29T00:00:00Z");
    assert_refused("1900-02-29T00:00:00Z");
    assert_refused("2023-04-31T00:00:00Z");
    assert_refused("2023-00-01T00:00:00Z");
    assert_refused("2023-13-01T00:00:00Z");
    assert_refused("2023-01-00T00:00:00Z");
    assert_refused("2023-01-32T00:00:00Z");
    assert_refused("2023-01-01T24:00:00Z");
    assert_refused("2023-01-01T00:60:00Z");
    assert_refused("2023-01-01T00:00:00+24:00");
    assert_refused("2023-01-01T00:00:00+00:60");
}

static void
only_years_1_to_9999_in_utc_are_taken(void **state)
{
    (void)state;
    assert_parses("0001-01-01T00:00:00Z", TIMESTAMP_MIN_US);
    assert_parses("9999-12-31T23:59:59.999999Z", TIMESTAMP_MAX_US);
    assert_refused("0000-12-31T23:59:59Z");
    assert_refused("0001-01-01T00:00:00+00:01");
    assert_refused("9999-12-31T23:59:59-00:01");
    assert_parses("0001-01-01T00:01:00+00:01", TIMESTAMP_MIN_US);
}

static void
other_forms_are_refused(void **state)
{
    static const char *const text[] = {
        "",
        "2025",
        "2025-12-31",
        "2025-12-31T10:00:00",
        "2025-12-31 10:00:00Z",
        "2025-12-31T10:00Z",
        "2025-12-31T10:00:00 Z",
        "2025-12-31T10:00:00Z ",
        " 2025-12-31T10:00:00Z",
        "2025-12-31T10:00:00ZZ",
        "2025-12-31T10:00:00+0100",
        "2025-12-31T10:00:00+01",
        "2025-12-31T10:00:00+1:00",
        "20251231T100000Z",
        "2025-W01-1T10:00:00Z",
        "+025-12-31T10:00:00Z",
        "2025-12-31T1a:00:00Z",
        "now",
        "1767175200",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(text); i++) {
        assert_refused(text[i]);
    }
    assert_int_equal(timestamp_parse((struct span){NULL, 0}, &(int64_t){0}), ERR_INVALID);
}

static void
every_prefix_and_every_changed_byte_is_judged_without_reading_beyond(void **state)
{
    const char *good = "2025-12-31T10:00:00.123456+01:30";
    char text[40];
    int64_t us;

    (void)state;
    for (size_t len = 0; len < strlen(good); len++) {
        assert_int_equal(timestamp_parse((struct span){good, len}, &us), ERR_INVALID);
    }
    for (size_t i = 0; i < strlen(good); i++) {
        for (int byte = 0; byte < 256; byte++) {
            strcpy(text, good);
            text[i] = (char)byte;
            if (timestamp_parse((struct span){text, strlen(good)}, &us) == ERR_OK) {
                assert_true(us >= TIMESTAMP_MIN_US);
                assert_true(us <= TIMESTAMP_MAX_US);
            }
        }
    }
}

static void
days_agree_with_the_calendar_of_libc(void **state)
{
    (void)state;
    for (int64_t days = TIMESTAMP_MIN_US / 86400000000; days <= TIMESTAMP_MAX_US / 86400000000;
         days += 1) {
        const time_t seconds = days * 86400;
        const struct civil_date date = civil_from_days(days);
        struct tm tm;

        if (days % 7 != 0 && date.day != 1) {
            assert_int_equal(days_from_civil(date), days);
            continue;
        }
        assert_non_null(gmtime_r(&seconds, &tm));
        assert_int_equal(date.year, tm.tm_year + 1900);
        assert_int_equal(date.month, tm.tm_mon + 1);
        assert_int_equal(date.day, tm.tm_mday);
        assert_int_equal(days_from_civil(date), days);
    }
}

static void
assert_number(const char *text, int64_t expected_us)
{
    int64_t us = INT64_MIN;

    if (timestamp_from_number(span_of(text), &us) != ERR_OK || us != expected_us) {
        fail_msg("%s: %lld instead of %lld", text, (long long)us, (long long)expected_us);
    }
}

static void
assert_number_refused(const char *text)
{
    int64_t us = 42;

    if (timestamp_from_number(span_of(text), &us) != ERR_INVALID) {
        fail_msg("%s was accepted as %lld", text, (long long)us);
    }
    assert_int_equal(us, 42);
}

static void
the_size_of_a_number_tells_its_unit(void **state)
{
    (void)state;
    assert_number("0", 0);
    assert_number("1", 1000000);
    assert_number("1700000000", INT64_C(1700000000000000));
    assert_number("1700000000123", INT64_C(1700000000123000));
    assert_number("1700000000123456", INT64_C(1700000000123456));
    assert_number("1700000000123456789", INT64_C(1700000000123456));
    assert_number("99999999999", INT64_C(99999999999000000));
    assert_number("100000000000", INT64_C(100000000000000));
    assert_number("99999999999999", INT64_C(99999999999999000));
    assert_number("100000000000000", INT64_C(100000000000000));
    assert_number("99999999999999999", INT64_C(99999999999999999));
    assert_number("100000000000000000", INT64_C(100000000000000));
    assert_number("99999999999999999999", INT64_C(99999999999999999));
    assert_number("-1", -1000000);
    assert_number("-1700000000123", INT64_C(-1700000000123000));
}

static void
fractions_and_exponents_of_numbers_count_exactly(void **state)
{
    (void)state;
    assert_number("1700000000.5", INT64_C(1700000000500000));
    assert_number("1700000000.123456789", INT64_C(1700000000123456));
    assert_number("1700000000.000001", INT64_C(1700000000000001));
    assert_number("1700000000123.456", INT64_C(1700000000123456));
    assert_number("1.7e9", INT64_C(1700000000000000));
    assert_number("1.7E+9", INT64_C(1700000000000000));
    assert_number("17000000000000e-4", INT64_C(1700000000000000));
    assert_number("0.0000017e15", INT64_C(1700000000000000));
    assert_number("0.5", 500000);
    assert_number("0.05", 50000);
    assert_number("-0.5", -500000);
    assert_number("0e999999999999999999999", 0);
    assert_number("1e-999999999999999999999", 0);
    assert_number("0.00000000000000000000000000000000001e35", 1000000);
}

static void
numbers_out_of_range_are_refused(void **state)
{
    (void)state;
    assert_number("-62135596800", TIMESTAMP_MIN_US);
    assert_number_refused("-62135596801");
    assert_number_refused("-62135596800.000001");
    assert_number_refused("100000000000000000000");
    assert_number_refused("1e300");
    assert_number_refused("-1e20");
    assert_number_refused("1e999999999999999999999");
}

static void
formatting_writes_only_the_digits_it_needs(void **state)
{
    static const struct {
        int64_t us;
        const char *text;
    } rows[] = {
        {0, "1970-01-01T00:00:00Z"},
        {-1, "1969-12-31T23:59:59.999999Z"},
        {500000, "1970-01-01T00:00:00.500Z"},
        {123456, "1970-01-01T00:00:00.123456Z"},
        {INT64_C(1709164800000000), "2024-02-29T00:00:00Z"},
        {TIMESTAMP_MIN_US, "0001-01-01T00:00:00Z"},
        {TIMESTAMP_MAX_US, "9999-12-31T23:59:59.999999Z"},
    };
    char text[TIMESTAMP_TEXT_SIZE];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(timestamp_format(rows[i].us, text), strlen(rows[i].text));
        assert_string_equal(text, rows[i].text);
    }
}

static void
what_is_formatted_parses_back(void **state)
{
    uint64_t seed = 12345;
    const uint64_t range = (uint64_t)(TIMESTAMP_MAX_US - TIMESTAMP_MIN_US);

    (void)state;
    for (int i = 0; i < 100000; i++) {
        char text[TIMESTAMP_TEXT_SIZE];
        int64_t us;
        int64_t back;
        size_t len;

        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
        us = TIMESTAMP_MIN_US + (int64_t)((seed >> 1) % range);
        us -= i % 3 == 0 ? us % 1000000 : 0;
        len = timestamp_format(us, text);
        assert_int_equal(timestamp_parse((struct span){text, len}, &back), ERR_OK);
        assert_int_equal(back, us);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc3339_examples_parse),
        cmocka_unit_test(fractions_of_1_to_9_digits_are_cut_to_microseconds),
        cmocka_unit_test(leap_seconds_end_their_own_day),
        cmocka_unit_test(dates_must_be_in_the_calendar),
        cmocka_unit_test(only_years_1_to_9999_in_utc_are_taken),
        cmocka_unit_test(other_forms_are_refused),
        cmocka_unit_test(every_prefix_and_every_changed_byte_is_judged_without_reading_beyond),
        cmocka_unit_test(days_agree_with_the_calendar_of_libc),
        cmocka_unit_test(the_size_of_a_number_tells_its_unit),
        cmocka_unit_test(fractions_and_exponents_of_numbers_count_exactly),
        cmocka_unit_test(numbers_out_of_range_are_refused),
        cmocka_unit_test(formatting_writes_only_the_digits_it_needs),
        cmocka_unit_test(what_is_formatted_parses_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
