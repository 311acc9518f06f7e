/*
 * The calendar turns on two formulas that count days in years beginning on 1 March, so that the
 * leap day comes last, and in eras of 400 years (146097 days): Howard Hinnant, "chrono-Compatible
 * Low-Level Date Algorithms" (days_from_civil, civil_from_days).
 */
#include "core/base/timestamp.h"

enum {
    DAYS_PER_ERA = 146097,
    DAYS_TO_1970 = 719468, /* from 0000-03-01 */
    NUMBER_DIGITS_MAX = 20,
};

static const int64_t second_us = INT64_C(1000000);
static const int64_t day_us = INT64_C(86400000000);

static bool
is_leap_year(int32_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static int32_t
days_in_month(int32_t year, int32_t month)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return month == 2 && is_leap_year(year) ? 29 : days[month - 1];
}

int64_t
days_from_civil(struct civil_date date)
{
    const int64_t year = date.year - (date.month <= 2 ? 1 : 0);
    const int64_t era = (year >= 0 ? year : year - 399) / 400;
    const int64_t year_of_era = year - era * 400;
    const int64_t month = date.month > 2 ? date.month - 3 : date.month + 9; /* March is 0 */
    const int64_t day_of_year = (153 * month + 2) / 5 + date.day - 1;
    const int64_t day_of_era =
        year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

    return era * DAYS_PER_ERA + day_of_era - DAYS_TO_1970;
}

struct civil_date
civil_from_days(int64_t days)
{
    const int64_t shifted = days + DAYS_TO_1970;
    const int64_t era = (shifted >= 0 ? shifted : shifted - (DAYS_PER_ERA - 1)) / DAYS_PER_ERA;
    const int64_t day_of_era = shifted - era * DAYS_PER_ERA;
    const int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    const int64_t day_of_year =
        day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const int64_t month = (5 * day_of_year + 2) / 153;
    const int64_t civil_month = month < 10 ? month + 3 : month - 9;

    ASSERT(days >= TIMESTAMP_MIN_US / day_us);
    ASSERT(days <= TIMESTAMP_MAX_US / day_us);
    return (struct civil_date){
        .year = (int32_t)(year_of_era + era * 400 + (civil_month <= 2 ? 1 : 0)),
        .month = narrow_u8((uint64_t)civil_month),
        .day = narrow_u8((uint64_t)(day_of_year - (153 * month + 2) / 5 + 1)),
    };
}

/* ---- RFC 3339 ---- */

struct reader {
    const char *at;
    const char *end;
};

/* Exactly COUNT digits, at most 9. */
static bool
take_digits(struct reader *reader, int count, int32_t *out)
{
    int32_t value = 0;

    if (reader->end - reader->at < count) {
        return false;
    }
    for (int i = 0; i < count; i++) {
        const char c = reader->at[i];

        if (c < '0' || c > '9') {
            return false;
        }
        value = value * 10 + (c - '0');
    }
    reader->at += count;
    *out = value;
    return true;
}

static bool
take_char(struct reader *reader, char expected)
{
    if (reader->at == reader->end || *reader->at != expected) {
        return false;
    }
    reader->at++;
    return true;
}

struct clock_time {
    int32_t hour;
    int32_t minute;
    int32_t second;
    int32_t fraction_us;
    int32_t offset_minutes; /* east of UTC */
};

static bool
take_date(struct reader *reader, int64_t *days_out)
{
    int32_t year;
    int32_t month;
    int32_t day;

    if (!take_digits(reader, 4, &year) || !take_char(reader, '-') ||
        !take_digits(reader, 2, &month) || !take_char(reader, '-') ||
        !take_digits(reader, 2, &day)) {
        return false;
    }
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month)) {
        return false;
    }
    *days_out = days_from_civil(
        (struct civil_date){year, narrow_u8((uint64_t)month), narrow_u8((uint64_t)day)});
    return true;
}

/* The digits after the point: 1 to 9, cut to 6. */
static bool
take_fraction(struct reader *reader, int32_t *us_out)
{
    int32_t unit = 100000;
    int32_t value = 0;
    int count = 0;
    int32_t digit;

    while (take_digits(reader, 1, &digit)) {
        value += digit * unit; /* from the seventh digit on the unit is zero */
        unit /= 10;
        count++;
    }
    *us_out = value;
    return count >= 1 && count <= 9;
}

static bool
take_offset(struct reader *reader, int32_t *minutes_out)
{
    int32_t hours;
    int32_t minutes;
    bool west;

    if (take_char(reader, 'Z') || take_char(reader, 'z')) {
        *minutes_out = 0;
        return true;
    }
    west = take_char(reader, '-');
    if (!west && !take_char(reader, '+')) {
        return false;
    }
    if (!take_digits(reader, 2, &hours) || !take_char(reader, ':') ||
        !take_digits(reader, 2, &minutes) || hours > 23 || minutes > 59) {
        return false;
    }
    minutes += hours * 60;
    *minutes_out = west ? -minutes : minutes;
    return true;
}

static bool
take_time(struct reader *reader, struct clock_time *out)
{
    out->fraction_us = 0;
    if (!take_digits(reader, 2, &out->hour) || !take_char(reader, ':') ||
        !take_digits(reader, 2, &out->minute) || !take_char(reader, ':') ||
        !take_digits(reader, 2, &out->second)) {
        return false;
    }
    if (out->hour > 23 || out->minute > 59 || out->second > 60) {
        return false;
    }
    if (take_char(reader, '.') && !take_fraction(reader, &out->fraction_us)) {
        return false;
    }
    return take_offset(reader, &out->offset_minutes);
}

/* Whether the second before MIDNIGHT_US, in UTC, may be followed by a leap second. */
static bool
may_leap_before(int64_t midnight_us)
{
    return midnight_us % day_us == 0 && midnight_us <= TIMESTAMP_MAX_US &&
           civil_from_days(midnight_us / day_us).day == 1;
}

enum err
timestamp_parse(struct span text, int64_t *us_out)
{
    struct reader reader;
    struct clock_time time;
    int64_t days;
    int64_t us;

    if (text.len == 0) {
        return ERR_INVALID;
    }
    reader = (struct reader){text.data, text.data + text.len};
    if (!take_date(&reader, &days) || !(take_char(&reader, 'T') || take_char(&reader, 't')) ||
        !take_time(&reader, &time) || reader.at != reader.end) {
        return ERR_INVALID;
    }
    us = days * day_us +
         ((int64_t)time.hour * 60 + time.minute - time.offset_minutes) * 60 * second_us +
         time.second * second_us;
    if (us < TIMESTAMP_MIN_US) {
        return ERR_INVALID;
    }
    if (time.second == 60) {
        if (!may_leap_before(us)) {
            return ERR_INVALID;
        }
        us -= 1;
    } else {
        us += time.fraction_us;
    }
    if (us > TIMESTAMP_MAX_US) {
        return ERR_INVALID;
    }
    *us_out = us;
    return ERR_OK;
}

/* ---- numbers ---- */

/* The digits of a JSON number and how many of them stand before the point; zeros lead nowhere. */
struct places {
    bool negative;
    int64_t whole; /* digits before the point; negative when zeros follow it first */
    size_t count;
    char digits[NUMBER_DIGITS_MAX + 9]; /* later ones cannot matter */
};

static void
add_place(struct places *places, char digit, bool fraction)
{
    const bool leading_zero = places->count == 0 && digit == '0';

    if (fraction) {
        places->whole -= leading_zero ? 1 : 0;
    } else {
        places->whole += leading_zero ? 0 : 1;
    }
    if (!leading_zero && places->count < sizeof(places->digits)) {
        places->digits[places->count++] = digit;
    }
}

static int64_t
read_exponent(const char *at, const char *end)
{
    const bool negative = *at == '-';
    int64_t value = 0;

    at += *at == '-' || *at == '+' ? 1 : 0;
    for (; at < end; at++) {
        if (value < INT64_C(1000000000000)) { /* more than any text has zeros to make up for */
            value = value * 10 + (*at - '0');
        }
    }
    return negative ? -value : value;
}

static void
read_places(struct places *places, struct span number)
{
    const char *at = number.data;
    const char *end = at + number.len;
    bool fraction = false;

    places->negative = *at == '-';
    places->whole = 0;
    places->count = 0;
    for (at += places->negative ? 1 : 0; at < end; at++) {
        if (*at == '.') {
            fraction = true;
        } else if (*at == 'e' || *at == 'E') {
            places->whole += read_exponent(at + 1, end);
            break;
        } else {
            add_place(places, *at, fraction);
        }
    }
}

/* The digit that stands INDEX places after the first one before the point, zero where none is. */
static uint64_t
digit_at(const struct places *places, int64_t index)
{
    if (index < 0 || index >= (int64_t)places->count) {
        return 0;
    }
    return (uint64_t)(places->digits[index] - '0');
}

enum err
timestamp_from_number(struct span number, int64_t *us_out)
{
    /* A whole part of up to so many digits is in a unit of 10^shift microseconds. */
    static const struct {
        int64_t digits_max;
        int shift;
    } units[] = {{11, 6}, {14, 3}, {17, 0}, {NUMBER_DIGITS_MAX, -3}};
    struct places places;
    uint64_t us = 0;
    size_t unit = 0;
    int64_t us_digits;

    read_places(&places, number);
    if (places.count == 0) {
        *us_out = 0;
        return ERR_OK;
    }
    while (unit < ARRAY_LEN(units) && places.whole > units[unit].digits_max) {
        unit++;
    }
    if (unit == ARRAY_LEN(units)) {
        return ERR_INVALID;
    }
    us_digits = places.whole + units[unit].shift; /* at most 17, so the sum fits */
    for (int64_t i = 0; i < us_digits; i++) {
        us = us * 10 + digit_at(&places, i);
    }
    if (places.negative ? us > (uint64_t)-TIMESTAMP_MIN_US : us > (uint64_t)TIMESTAMP_MAX_US) {
        return ERR_INVALID;
    }
    *us_out = places.negative ? -(int64_t)us : (int64_t)us;
    return ERR_OK;
}

/* ---- formatting ---- */

static char *
put_digits(char *out, int64_t value, int count)
{
    for (int i = count - 1; i >= 0; i--) {
        out[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return out + count;
}

size_t
timestamp_format(int64_t us, char out[TIMESTAMP_TEXT_SIZE])
{
    const int64_t days = us / day_us - (us % day_us < 0 ? 1 : 0);
    const int64_t us_of_day = us - days * day_us;
    const int64_t seconds = us_of_day / second_us;
    const int64_t fraction = us_of_day % second_us;
    const struct civil_date date = civil_from_days(days);
    char *at = out;

    at = put_digits(at, date.year, 4);
    *at++ = '-';
    at = put_digits(at, date.month, 2);
    *at++ = '-';
    at = put_digits(at, date.day, 2);
    *at++ = 'T';
    at = put_digits(at, seconds / 3600, 2);
    *at++ = ':';
    at = put_digits(at, seconds / 60 % 60, 2);
    *at++ = ':';
    at = put_digits(at, seconds % 60, 2);
    if (fraction != 0) {
        *at++ = '.';
        at =
            fraction % 1000 == 0 ? put_digits(at, fraction / 1000, 3) : put_digits(at, fraction, 6);
    }
    *at++ = 'Z';
    *at = 0;
    return (size_t)(at - out);
}
