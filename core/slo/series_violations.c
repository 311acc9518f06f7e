/*
 * series_violations.c - which minutes of a series broke a limit, and how many.
 *
 * Violations are no sums, so each hour and day remembers how many it has of each limit the series
 * is asked about, until it changes, and a run does of its range. Hours count theirs when they are
 * packed, while their minutes are still at hand: the first question after a start finds them
 * counted.
 */
#include "core/slo/series.h"

#include <stdlib.h>

#include "core/slo/runs.h"

static bool
is_violation(const struct minute *minute, const struct slices_limit *limit)
{
    uint64_t good;
    uint64_t bad;

    slice_good_bad(&minute->slice, &limit->measure, &good, &bad);
    return slices_limit_broken(*limit, good, bad);
}

/* Which of the minutes in MASK are violations of LIMIT. */
static uint64_t
find_broken(const struct hour *hour, const struct slices_limit *limit, uint64_t mask)
{
    uint64_t broken = 0;

    for (; mask != 0; mask &= mask - 1) {
        const int bit = __builtin_ctzll(mask);
        const struct minute *minute =
            line_find(&hour->open->minutes, sizeof(*minute), hour->start + bit);

        if (minute != NULL && is_violation(minute, limit)) {
            broken |= UINT64_C(1) << bit;
        }
    }
    return broken;
}

void
limits_count_hour(const struct limits *limits, struct hour *hour)
{
    const uint64_t all = (UINT64_C(1) << HOUR) - 1;
    struct open_hour *open = hour->open;

    for (uint32_t at = 0; limits != NULL && at < limits->len; at++) {
        const uint64_t mask = ((uint32_t)open->counted >> at & 1U) != 0 ? open->dirty : all;

        open->broken[at] &= ~mask;
        open->broken[at] |= find_broken(hour, &limits->entry[at].limit, mask);
        open->counted |= (uint16_t)(1U << at);
        hour->violations[at] = narrow_u8((uint64_t)__builtin_popcountll(open->broken[at]));
        hour->known |= (uint16_t)(1U << at);
    }
    open->dirty = 0;
}

/* A limit and its place among the series' own; LIMITS_MAX: without memory there is none. */
struct asked {
    struct slices_limit limit;
    uint32_t at;
};

static bool
limits_equal(const struct slices_limit *a, const struct slices_limit *b)
{
    return a->budget_ppb == b->budget_ppb && slice_measure_equal(&a->measure, &b->measure);
}

/* Nothing is known any more of the limit at AT. */
static void
forget_limit(struct series *series, uint32_t at)
{
    for (size_t i = 0; i < series->hours.len; i++) {
        struct hour *hour = line_item(&series->hours, sizeof(*hour), i);
        hour->known &= (uint16_t) ~(1U << at);
        if (hour->open != NULL) {
            hour->open->counted &= (uint16_t) ~(1U << at);
        }
    }
    for (size_t i = 0; i < series->days.len; i++) {
        struct day *day = line_item(&series->days, sizeof(*day), i);
        day->known &= (uint16_t) ~(1U << at);
    }
    runs_forget_limit(series->runs, at);
}

/* The place of LIMIT: its own, or a free one, or that of the limit not asked about for longest. */
static uint32_t
place_of_limit(struct series *series, struct limits *limits, const struct slices_limit *limit)
{
    uint32_t oldest = 0;

    for (uint32_t at = 0; at < limits->len; at++) {
        if (limits_equal(&limits->entry[at].limit, limit)) {
            return at;
        }
        oldest = limits->entry[at].used < limits->entry[oldest].used ? at : oldest;
    }
    if (limits->len < LIMITS_MAX) {
        oldest = limits->len++;
    } else {
        forget_limit(series, oldest);
    }
    limits->entry[oldest].limit = *limit;
    return oldest;
}

static struct asked
ask(struct series *series, struct slices_limit limit)
{
    struct limits *limits = series->limits;
    struct asked asked = {limit, LIMITS_MAX};

    if (limits == NULL) {
        limits = series->limits = calloc(1, sizeof(*limits));
    }
    if (limits != NULL) {
        asked.at = place_of_limit(series, limits, &limit);
        limits->entry[asked.at].used = ++limits->tick;
    }
    return asked;
}

static bool
is_known(uint16_t known, const struct asked *asked)
{
    return asked->at < LIMITS_MAX && ((uint32_t)known >> asked->at & 1U) != 0;
}

/* Of the minutes in [FROM, TO) of an hour. */
static uint64_t
count_minutes(const struct hour *hour, int64_t from, int64_t to, const struct asked *asked)
{
    struct minute_walk walk = hour_walk(hour);
    struct minute_view view;
    uint64_t count = 0;
    uint64_t good;
    uint64_t bad;

    while (from < to && minute_walk_next(&walk, &view) && view.start < to) {
        if (view.start >= from) {
            minute_view_good_bad(&view, &asked->limit.measure, &good, &bad);
            count += slices_limit_broken(asked->limit, good, bad) ? 1 : 0;
        }
    }
    return count;
}

static uint64_t
violations_of_hour(const struct series *series, struct hour *hour, const struct asked *asked)
{
    uint64_t count;

    if (!is_known(hour->known, asked) && hour->open != NULL) {
        limits_count_hour(series->limits, hour); /* knows it now, unless the limit has no place */
    }
    if (is_known(hour->known, asked)) {
        return hour->violations[asked->at];
    }
    count = count_minutes(hour, hour->start, hour->start + HOUR, asked);
    if (asked->at < LIMITS_MAX) {
        hour->violations[asked->at] = narrow_u8(count);
        hour->known |= (uint16_t)(1U << asked->at);
    }
    return count;
}

/* FROM and TO are any minutes. As with sums, a part that is most of an hour is what the rest
 * leaves.
 */
static uint64_t
violations_by_hours(struct series *series, int64_t from, int64_t to, const struct asked *asked)
{
    size_t at = series_first_hour(series, from);
    uint64_t total = 0;
    struct hour *hour;

    while (from < to && (hour = series_next_hour(series, &at, to)) != NULL) {
        if (hour_is_most(hour, from, to)) {
            total += violations_of_hour(series, hour, asked);
            total -= count_minutes(hour, hour->start, from, asked);
            total -= count_minutes(hour, to, hour->start + HOUR, asked);
        } else {
            total += count_minutes(hour, from, to, asked);
        }
    }
    return total;
}

static uint64_t
violations_of_day(struct series *series, struct day *day, const struct asked *asked)
{
    uint64_t count;

    if (is_known(day->known, asked)) {
        return day->violations[asked->at];
    }
    count = violations_by_hours(series, day->start, day->start + DAY, asked);
    if (asked->at < LIMITS_MAX) {
        day->violations[asked->at] = narrow_u16(count);
        day->known |= (uint16_t)(1U << asked->at);
    }
    return count;
}

static uint64_t
violations_by_days(struct series *series, int64_t from, int64_t to, const struct asked *asked)
{
    size_t at = line_lower(&series->days, sizeof(struct day), minute_floor(from, DAY));
    uint64_t total = 0;

    for (; from < to && at < series->days.len; at++) {
        struct day *day = line_item(&series->days, sizeof(*day), at);
        const int64_t end = day->start + DAY;

        if (day->start >= to) {
            break;
        }
        if (range_is_most(day->start, DAY, from, to)) {
            total += violations_of_day(series, day, asked);
            total -= violations_by_hours(series, day->start, from, asked);
            total -= violations_by_hours(series, to, end, asked);
        } else {
            total += violations_by_hours(series, from > day->start ? from : day->start,
                                         to < end ? to : end, asked);
        }
    }
    return total;
}

static uint64_t
violations_of_run(struct series *series, struct run *run, const struct asked *asked)
{
    if (asked->at == LIMITS_MAX) {
        return violations_by_days(series, run->from, run->to, asked);
    }
    if (!is_known(run->known, asked)) {
        run->violations[asked->at] =
            narrow_u32(violations_by_days(series, run->from, run->to, asked));
        run->known |= (uint16_t)(1U << asked->at);
    }
    return run->violations[asked->at];
}

uint64_t
series_violations(struct series *series, struct range range, struct slices_limit limit)
{
    const struct asked asked = ask(series, limit);
    const struct reading reading = series_plan(series, range, false);
    uint64_t count = 0;

    if (reading.run != NULL) {
        count = violations_of_run(series, reading.run, &asked);
    }
    return count + violations_by_days(series, reading.settled, reading.to, &asked);
}

void
series_each_violation(struct series *series, struct range range, struct slices_limit limit,
                      void (*fn)(void *arg, int64_t minute, uint64_t good, uint64_t bad), void *arg)
{
    const struct asked asked = ask(series, limit);
    size_t at = series_first_hour(series, range.from);
    struct hour *hour;

    while ((hour = series_next_hour(series, &at, range.to)) != NULL) {
        struct minute_walk walk = hour_walk(hour);
        struct minute_view view;
        uint64_t good;
        uint64_t bad;

        if (violations_by_hours(series, hour->start, hour->start + HOUR, &asked) == 0) {
            continue;
        }
        while (minute_walk_next(&walk, &view)) {
            if (view.start >= range.from && view.start < range.to) {
                minute_view_good_bad(&view, &limit.measure, &good, &bad);
                if (slices_limit_broken(limit, good, bad)) {
                    fn(arg, view.start, good, bad);
                }
            }
        }
    }
}
