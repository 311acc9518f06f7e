/*
 * timestamp.h - instants as microseconds since 1970-01-01T00:00:00Z, from and to text.
 *
 * Integers only, and no time zone database: the proleptic Gregorian calendar for the years 0001 to
 * 9999, as RFC 3339 and MySQL's DATETIME(6) have it. Any thread.
 */
#ifndef SLUICE_CORE_TIMESTAMP_H
#define SLUICE_CORE_TIMESTAMP_H

#include "core/base/base.h"
#include "core/base/err.h"

enum {
    TIMESTAMP_TEXT_SIZE = 28 /* "9999-12-31T23:59:59.999999Z" and the NUL */
};

#define TIMESTAMP_MIN_US INT64_C(-62135596800000000) /* 0001-01-01T00:00:00Z */
#define TIMESTAMP_MAX_US INT64_C(253402300799999999) /* 9999-12-31T23:59:59.999999Z */

struct civil_date {
    int32_t year;
    uint8_t month; /* 1-12 */
    uint8_t day;   /* 1-31 */
};

/* Days from 1970-01-01 to DATE, which must exist in the calendar; negative before. */
int64_t days_from_civil(struct civil_date date);

/* The date that many days after 1970-01-01; DAYS within the years 0001 to 9999. */
struct civil_date civil_from_days(int64_t days);

/*
 * An RFC 3339 date-time: upper or lower case T and Z, an offset is required (-00:00 counts as UTC),
 * a fraction has 1 to 9 digits and is cut to microseconds. A leap second (23:59:60 UTC on the last
 * day of a month) becomes the last microsecond of its day, so it stays in its minute.
 * ERR_INVALID when TEXT is anything else, or outside of the years 0001 to 9999 in UTC.
 */
MUST_CHECK enum err timestamp_parse(struct span text, int64_t *us_out);

/*
 * A JSON number (already checked, of any notation) as time since 1970. The unit follows from the
 * size of its whole part N without the sign:
 *
 *         N < 10^11   seconds        until 5138-11-16
 *   10^11 <= N < 10^14   milliseconds   from 1973-03-03
 *   10^14 <= N < 10^17   microseconds
 *   10^17 <= N < 10^20   nanoseconds
 *
 * A fraction counts and is cut to microseconds. ERR_INVALID when the result is outside of the years
 * 0001 to 9999 or N is larger.
 */
MUST_CHECK enum err timestamp_from_number(struct span number, int64_t *us_out);

/*
 * Writes US (TIMESTAMP_MIN_US to TIMESTAMP_MAX_US) as RFC 3339 in UTC and returns the length. The
 * fraction is left out when zero, else it has 3 digits when that is exact, else 6.
 */
size_t timestamp_format(int64_t us, char out[TIMESTAMP_TEXT_SIZE]);

#endif
