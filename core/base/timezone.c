/*
 * A TZif file, big-endian throughout:
 *
 *   header   "TZif", version '2' or later, 15 bytes; six counts of 4 bytes each: isut, isstd,
 *            leap, time, type, char
 *   block    of version 1, with times of 4 bytes; passed over
 *   header   the same again
 *   block    time * 8 bytes: instants of change, ascending
 *            time * 1: the type that begins there
 *            type * 6: offset (4), is daylight saving (1), where its designation begins (1)
 *            char * 1: designations; leap * 12: leap seconds; isstd * 1; isut * 1
 *   footer   newline, a POSIX TZ rule or nothing, newline
 *
 * The rule: "CET-1CEST,M3.5.0,M10.5.0/3": a name and an offset west of UTC, perhaps the same for
 * daylight saving time and the two days and local times of a year at which it begins and ends.
 */
#include "core/base/timezone.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/timestamp.h"

enum {
    HEADER_BYTES = 44,
    COUNTS_AT = 20,
    TYPE_BYTES = 6,
    TYPES_MAX = 256,
    OFFSET_MIN_S = -(25 * 3600 - 1), /* RFC 8536 */
    OFFSET_MAX_S = 26 * 3600 - 1,
    DAY_S = 86400,
    YEAR_CHANGES = 6, /* two in the year asked for, two each in its neighbours */
};

enum day_kind {
    DAY_JULIAN,  /* Jn: 1 to 365, 29 February is never counted */
    DAY_OF_YEAR, /* n: 0 to 365 */
    DAY_OF_WEEK, /* Mm.w.d: weekday d (0: Sunday) of week w (5: the last) of month m */
};

struct rule_day {
    enum day_kind kind;
    int32_t day;
    int32_t week;
    int32_t month;
    int32_t time_s; /* local time of the change, by the clock before it */
};

struct rule {
    int32_t standard_s; /* east of UTC */
    int32_t daylight_s;
    bool has_daylight;
    struct rule_day begin;
    struct rule_day end;
};

struct change {
    int64_t at_s;
    int32_t offset_s; /* from then on */
};

struct time_zone {
    int32_t first_s; /* before the first change */
    bool has_rule;   /* for what comes after the last one */
    struct rule rule;
    size_t count;
    struct change change[];
};

/* ---- the rule's text ---- */

struct cursor {
    const char *at;
    const char *end;
    bool extended; /* version 3: hours of a change from -167 to 167 instead of 0 to 24 */
};

static bool
take(struct cursor *cursor, char expected)
{
    if (cursor->at == cursor->end || *cursor->at != expected) {
        return false;
    }
    cursor->at++;
    return true;
}

/* One to three digits, MIN to MAX. */
static bool
take_number(struct cursor *cursor, int32_t min, int32_t max, int32_t *out)
{
    int32_t value = 0;
    int digits = 0;

    while (cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9' && digits < 3) {
        value = value * 10 + (*cursor->at - '0');
        cursor->at++;
        digits++;
    }
    *out = value;
    return digits > 0 && value >= min && value <= max;
}

/* At least three letters, or anything alphanumeric with signs between angle brackets. */
static bool
take_designation(struct cursor *cursor)
{
    const bool quoted = take(cursor, '<');
    const char *begin = cursor->at;

    while (cursor->at < cursor->end) {
        const char c = *cursor->at;
        const bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');

        if (!letter && !(quoted && ((c >= '0' && c <= '9') || c == '+' || c == '-'))) {
            break;
        }
        cursor->at++;
    }
    return cursor->at - begin >= 3 && (!quoted || take(cursor, '>'));
}

/* [+-]h[h[h]][:mm[:ss]] */
static bool
take_time(struct cursor *cursor, int32_t hours_max, int32_t *seconds_out)
{
    const bool negative = take(cursor, '-');
    int32_t hours;
    int32_t minutes = 0;
    int32_t seconds = 0;

    if (!negative) {
        (void)take(cursor, '+');
    }
    if (!take_number(cursor, 0, hours_max, &hours)) {
        return false;
    }
    if (take(cursor, ':') && (!take_number(cursor, 0, 59, &minutes) ||
                              (take(cursor, ':') && !take_number(cursor, 0, 59, &seconds)))) {
        return false;
    }
    seconds += (hours * 60 + minutes) * 60;
    *seconds_out = negative ? -seconds : seconds;
    return true;
}

/* An offset is written west of UTC. */
static bool
take_offset(struct cursor *cursor, int32_t *east_out)
{
    int32_t west;

    if (!take_time(cursor, 24, &west)) {
        return false;
    }
    *east_out = -west;
    return true;
}

static bool
take_day(struct cursor *cursor, struct rule_day *out)
{
    *out = (struct rule_day){.time_s = 2 * 3600};
    if (take(cursor, 'J')) {
        out->kind = DAY_JULIAN;
        if (!take_number(cursor, 1, 365, &out->day)) {
            return false;
        }
    } else if (take(cursor, 'M')) {
        out->kind = DAY_OF_WEEK;
        if (!take_number(cursor, 1, 12, &out->month) || !take(cursor, '.') ||
            !take_number(cursor, 1, 5, &out->week) || !take(cursor, '.') ||
            !take_number(cursor, 0, 6, &out->day)) {
            return false;
        }
    } else {
        out->kind = DAY_OF_YEAR;
        if (!take_number(cursor, 0, 365, &out->day)) {
            return false;
        }
    }
    if (!take(cursor, '/')) {
        return true;
    }
    return take_time(cursor, cursor->extended ? 167 : 24, &out->time_s) &&
           (cursor->extended || out->time_s >= 0);
}

static bool
parse_rule(struct cursor cursor, struct rule *out)
{
    *out = (struct rule){.standard_s = 0};
    if (!take_designation(&cursor) || !take_offset(&cursor, &out->standard_s)) {
        return false;
    }
    if (cursor.at == cursor.end) {
        return true;
    }
    out->has_daylight = true;
    out->daylight_s = out->standard_s + 3600;
    if (!take_designation(&cursor)) {
        return false;
    }
    if (cursor.at < cursor.end && *cursor.at != ',' && !take_offset(&cursor, &out->daylight_s)) {
        return false;
    }
    /* POSIX lets the two days out, but then says nothing of when they are. */
    return take(&cursor, ',') && take_day(&cursor, &out->begin) && take(&cursor, ',') &&
           take_day(&cursor, &out->end) && cursor.at == cursor.end;
}

/* ---- the rule's meaning ---- */

static int64_t
first_day(int64_t year, uint8_t month)
{
    return days_from_civil((struct civil_date){(int32_t)year, month, 1});
}

/* The day RULE_DAY is in YEAR, in days since 1970. */
static int64_t
day_in_year(const struct rule_day *rule_day, int64_t year)
{
    int64_t day;
    int64_t next_month;

    switch (rule_day->kind) {
    case DAY_JULIAN:
        day = first_day(year, 1) + rule_day->day - 1;
        return day >= first_day(year, 2) + 28 ? day + first_day(year, 3) - first_day(year, 2) - 28
                                              : day;
    case DAY_OF_YEAR:
        return first_day(year, 1) + rule_day->day;
    case DAY_OF_WEEK:
        day = first_day(year, narrow_u8((uint64_t)rule_day->month));
        next_month = rule_day->month == 12
                         ? first_day(year + 1, 1)
                         : first_day(year, narrow_u8((uint64_t)rule_day->month + 1));
        /* 1970-01-01 was a Thursday; the sum stays positive for every year there is. */
        day += ((rule_day->day - (day + 4)) % 7 + 7) % 7;
        day += INT64_C(7) * (rule_day->week - 1);
        return day >= next_month ? day - 7 : day;
    }
    assert_failed(__FILE__, __LINE__, "a kind of the list");
}

/*
 * The year's two changes. Where one year's end meets the next one's beginning (daylight saving all
 * year long), the beginning counts: a stable order with the ends first sees to that.
 */
static void
changes_of_year(const struct rule *rule, int64_t year, struct change out[2])
{
    out[0] =
        (struct change){day_in_year(&rule->end, year) * DAY_S + rule->end.time_s - rule->daylight_s,
                        rule->standard_s};
    out[1] = (struct change){day_in_year(&rule->begin, year) * DAY_S + rule->begin.time_s -
                                 rule->standard_s,
                             rule->daylight_s};
}

static int64_t
year_of(int64_t local_s)
{
    int64_t day = local_s / DAY_S - (local_s % DAY_S < 0 ? 1 : 0);
    const int64_t first = TIMESTAMP_MIN_US / 1000000 / DAY_S;
    const int64_t last = TIMESTAMP_MAX_US / 1000000 / DAY_S;

    day = day < first ? first : day > last ? last : day;
    return civil_from_days(day).year;
}

static int32_t
rule_offset_s(const struct rule *rule, int64_t utc_s, int64_t *until_s)
{
    struct change change[YEAR_CHANGES];
    int32_t offset_s = rule->standard_s;
    int64_t year;

    *until_s = INT64_MAX;
    if (!rule->has_daylight) {
        return offset_s;
    }
    year = year_of(utc_s + rule->standard_s);
    for (int i = 0; i < YEAR_CHANGES / 2; i++) {
        changes_of_year(rule, year - 1 + i, &change[(ptrdiff_t)2 * i]);
    }
    /* An insertion sort is stable. */
    for (int i = 1; i < YEAR_CHANGES; i++) {
        const struct change moved = change[i];
        int at = i;

        for (; at > 0 && change[at - 1].at_s > moved.at_s; at--) {
            change[at] = change[at - 1];
        }
        change[at] = moved;
    }
    for (int i = 0; i < YEAR_CHANGES; i++) {
        if (change[i].at_s > utc_s) {
            *until_s = change[i].at_s;
            break;
        }
        offset_s = change[i].offset_s;
    }
    return offset_s;
}

/* ---- the file ---- */

static uint32_t
get_be32(const char *in)
{
    const uint8_t *byte = (const uint8_t *)in;

    return (uint32_t)byte[0] << 24 | (uint32_t)byte[1] << 16 | (uint32_t)byte[2] << 8 | byte[3];
}

static int64_t
get_be64(const char *in)
{
    return (int64_t)((uint64_t)get_be32(in) << 32 | get_be32(in + 4));
}

struct header {
    char version;
    size_t isut;
    size_t isstd;
    size_t leaps;
    size_t times;
    size_t types;
    size_t chars;
};

static bool
take_bytes(struct span *rest, size_t len, const char **out)
{
    if (rest->len < len) {
        return false;
    }
    *out = rest->data;
    rest->data += len;
    rest->len -= len;
    return true;
}

static bool
take_header(struct span *rest, struct header *out)
{
    const char *at;

    if (!take_bytes(rest, HEADER_BYTES, &at) || memcmp(at, "TZif", 4) != 0) {
        return false;
    }
    *out = (struct header){
        .version = at[4],
        .isut = get_be32(at + COUNTS_AT),
        .isstd = get_be32(at + COUNTS_AT + 4),
        .leaps = get_be32(at + COUNTS_AT + 8),
        .times = get_be32(at + COUNTS_AT + 12),
        .types = get_be32(at + COUNTS_AT + 16),
        .chars = get_be32(at + COUNTS_AT + 20),
    };
    return out->version >= '2' && out->version <= '9' && out->types >= 1 &&
           out->types <= TYPES_MAX && out->chars >= 1 && out->leaps == 0 &&
           (out->isut == 0 || out->isut == out->types) &&
           (out->isstd == 0 || out->isstd == out->types);
}

/* The counts are 32 bits each, so the sum fits. */
static size_t
block_bytes(const struct header *header, size_t time_bytes)
{
    return header->times * (time_bytes + 1) + header->types * TYPE_BYTES + header->chars +
           header->isstd + header->isut;
}

static bool
is_good_type(const struct header *header, const char *type, const char *chars)
{
    const int32_t offset_s = (int32_t)get_be32(type);
    const uint8_t designation = (uint8_t)type[5];

    return offset_s >= OFFSET_MIN_S && offset_s <= OFFSET_MAX_S && (uint8_t)type[4] <= 1 &&
           designation < header->chars &&
           memchr(chars + designation, 0, header->chars - designation) != NULL;
}

static bool
are_flags(const char *at, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if ((uint8_t)at[i] > 1) {
            return false;
        }
    }
    return true;
}

/* Fills ZONE, which has room for HEADER's changes, from the block at TIMES. */
static bool
read_block(const struct header *header, const char *times, struct time_zone *zone)
{
    const char *indexes = times + header->times * 8;
    const char *types = indexes + header->times;
    const char *chars = types + header->types * TYPE_BYTES;

    for (size_t i = 0; i < header->types; i++) {
        if (!is_good_type(header, types + i * TYPE_BYTES, chars)) {
            return false;
        }
    }
    if (!are_flags(chars + header->chars, header->isstd + header->isut)) {
        return false;
    }
    for (size_t i = 0; i < header->times; i++) {
        const size_t type = (uint8_t)indexes[i];

        zone->change[i].at_s = get_be64(times + i * 8);
        if (type >= header->types || (i > 0 && zone->change[i].at_s <= zone->change[i - 1].at_s)) {
            return false;
        }
        zone->change[i].offset_s = (int32_t)get_be32(types + type * TYPE_BYTES);
    }
    zone->first_s = (int32_t)get_be32(types);
    zone->count = header->times;
    return true;
}

static bool
read_footer(struct span footer, char version, struct time_zone *zone)
{
    struct cursor cursor;

    if (footer.len < 2 || footer.data[0] != '\n' || footer.data[footer.len - 1] != '\n') {
        return false;
    }
    zone->has_rule = footer.len > 2;
    if (!zone->has_rule) {
        return true;
    }
    cursor = (struct cursor){footer.data + 1, footer.data + footer.len - 1, version >= '3'};
    return parse_rule(cursor, &zone->rule);
}

enum err
timezone_parse(struct span bytes, struct time_zone **out)
{
    struct span rest = bytes;
    struct header header;
    const char *block;
    struct time_zone *zone;

    if (bytes.len > TIMEZONE_BYTES_MAX || !take_header(&rest, &header) ||
        !take_bytes(&rest, block_bytes(&header, 4), &block) || !take_header(&rest, &header) ||
        !take_bytes(&rest, block_bytes(&header, 8), &block)) {
        return ERR_CORRUPT;
    }
    zone = calloc(1, sizeof(*zone) + header.times * sizeof(zone->change[0]));
    if (zone == NULL) {
        return ERR_NO_MEMORY;
    }
    if (!read_block(&header, block, zone) || !read_footer(rest, header.version, zone)) {
        timezone_free(zone);
        return ERR_CORRUPT;
    }
    *out = zone;
    return ERR_OK;
}

void
timezone_free(struct time_zone *zone)
{
    free(zone);
}

int32_t
timezone_offset_s(const struct time_zone *zone, int64_t utc_s, int64_t *until_s)
{
    size_t low = 0; /* changes before it are not later than UTC_S */
    size_t high = zone->count;

    ASSERT(utc_s >= TIMESTAMP_MIN_US / 1000000);
    ASSERT(utc_s <= TIMESTAMP_MAX_US / 1000000);
    while (low < high) {
        const size_t middle = low + (high - low) / 2;

        if (zone->change[middle].at_s <= utc_s) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == zone->count) {
        if (zone->has_rule) {
            return rule_offset_s(&zone->rule, utc_s, until_s);
        }
        *until_s = INT64_MAX;
    } else {
        *until_s = zone->change[low].at_s;
    }
    return low == 0 ? zone->first_s : zone->change[low - 1].offset_s;
}

/* ---- names ---- */

/* Parts of letters, digits, '_', '+' and '-' between single slashes: no way out of the folder. */
static bool
is_safe_name(struct span name)
{
    bool begins = true;

    if (name.len == 0 || name.len > TIMEZONE_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        const char c = name.data[i];
        const bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        const bool later = (c >= '0' && c <= '9') || c == '_' || c == '+' || c == '-' || c == '/';

        if (!letter && (begins || !later)) {
            return false;
        }
        begins = c == '/';
    }
    return !begins;
}

/* Reads all of FD, a file of at most TIMEZONE_BYTES_MAX bytes. */
static enum err
read_zone(int fd, struct time_zone **out)
{
    struct stat info;
    size_t len = 0;
    size_t size;
    char *bytes;
    enum err err;

    if (fstat(fd, &info) != 0) {
        return ERR_IO;
    }
    if (!S_ISREG(info.st_mode)) {
        return ERR_NOT_FOUND;
    }
    if (info.st_size > TIMEZONE_BYTES_MAX) {
        return ERR_CORRUPT;
    }
    size = (size_t)info.st_size;
    bytes = malloc(size + 1);
    if (bytes == NULL) {
        return ERR_NO_MEMORY;
    }
    while (len < size) {
        ssize_t got = read(fd, bytes + len, size - len);

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            break;
        }
        len += (size_t)got;
    }
    err = len < size ? ERR_IO : timezone_parse((struct span){bytes, size}, out);
    free(bytes);
    return err;
}

enum err
timezone_load(const char *dir, struct span name, struct time_zone **out)
{
    char path[256];
    enum err err;
    int len;
    int fd;

    if (span_is(name, "UTC")) {
        struct time_zone *utc = calloc(1, sizeof(*utc));

        if (utc == NULL) {
            return ERR_NO_MEMORY;
        }
        *out = utc;
        return ERR_OK;
    }
    if (!is_safe_name(name)) {
        return ERR_NOT_FOUND;
    }
    len = snprintf(path, sizeof(path), "%s/%.*s", dir, (int)name.len, name.data);
    ASSERT(len > 0);
    ASSERT((size_t)len < sizeof(path)); /* DIR is not a client's */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_IO;
    }
    err = read_zone(fd, out);
    (void)close(fd);
    return err;
}
