/*
 * series_sum.c - sums over ranges of one series.
 *
 * A range that cuts a day takes its hours, or the day less the hours outside, whichever are fewer,
 * and the same with an hour and its minutes. So no sum touches more than 12 hours and 30 minutes
 * at either end, and the end that is now costs nothing: nothing lies beyond it. Of ranges asked
 * about again and again a run (runs.h) holds all but the present day or hour.
 */
#include "core/slo/series.h"

#include "core/base/histogram.h"
#include "core/slo/runs.h"

enum {
    RUN_MIN = 10,          /* minutes: what is shorter is summed each time */
    RUN_OF_DAYS = 2 * DAY, /* minutes: what is longer has a run up to the present day */
};

/* Adds what lies in [FROM, TO) to a total, or takes it out. */
struct addend {
    struct slice_total *total;
    bool minus;
};

static enum err
add_slice_to(struct addend sum, const struct slice *slice)
{
    if (sum.minus) {
        slice_total_subtract(sum.total, slice);
        return ERR_OK;
    }
    return slice_total_add(sum.total, slice);
}

static enum err
add_own_to(struct addend sum, struct span bytes)
{
    if (sum.minus) {
        slice_total_subtract_own(sum.total, bytes);
        return ERR_OK;
    }
    return slice_total_add_own(sum.total, bytes);
}

static enum err
add_hour(struct addend sum, const struct hour *hour)
{
    return hour->open != NULL ? add_slice_to(sum, &hour->open->sum)
                              : add_own_to(sum, packed_sum(hour));
}

static enum err
add_minutes(struct addend sum, const struct hour *hour, int64_t from, int64_t to)
{
    struct minute_walk walk = hour_walk(hour);
    struct minute_view view;
    enum err err = ERR_OK;

    while (err == ERR_OK && from < to && minute_walk_next(&walk, &view) && view.start < to) {
        if (view.start >= from) {
            err = view.slice != NULL ? add_slice_to(sum, view.slice) : add_own_to(sum, view.bytes);
        }
    }
    return err;
}

static struct addend
opposite(struct addend sum)
{
    return (struct addend){sum.total, !sum.minus};
}

/* The hours of one day, or of a part of it. */
static enum err
add_hours(struct addend sum, const struct series *series, int64_t from, int64_t to)
{
    size_t at = series_first_hour(series, from);
    const struct hour *hour;
    enum err err = ERR_OK;

    while (err == ERR_OK && from < to && (hour = series_next_hour(series, &at, to)) != NULL) {
        if (!hour_is_most(hour, from, to)) {
            err = add_minutes(sum, hour, from, to);
            continue;
        }
        err = add_hour(sum, hour);
        if (err == ERR_OK) {
            err = add_minutes(opposite(sum), hour, hour->start, from);
        }
        if (err == ERR_OK) {
            err = add_minutes(opposite(sum), hour, to, hour->start + HOUR);
        }
    }
    return err;
}

static enum err
add_days(struct addend sum, const struct series *series, int64_t from, int64_t to)
{
    size_t at = line_lower(&series->days, sizeof(struct day), minute_floor(from, DAY));
    enum err err = ERR_OK;

    for (; err == ERR_OK && at < series->days.len; at++) {
        const struct day *day = line_item(&series->days, sizeof(*day), at);
        const int64_t end = day->start + DAY;

        if (day->start >= to) {
            break;
        }
        if (!range_is_most(day->start, DAY, from, to)) {
            err =
                add_hours(sum, series, from > day->start ? from : day->start, to < end ? to : end);
            continue;
        }
        err = add_slice_to(sum, &day->sum);
        if (err == ERR_OK) {
            err = add_hours(opposite(sum), series, day->start, from);
        }
        if (err == ERR_OK) {
            err = add_hours(opposite(sum), series, to, end);
        }
    }
    return err;
}

struct range
range_clip(int64_t from, int64_t to)
{
    const int64_t lowest = minute_of_us(INT64_MIN);
    const int64_t highest = minute_of_us(INT64_MAX) + 1;
    struct range range = {from < lowest ? lowest : from, to > highest ? highest : to};

    range.to = range.to < range.from ? range.from : range.to;
    return range;
}

/* Adds [FROM, TO) to *SUM, from the levels; run_sum_fn. */
static enum err
sum_levels(void *arg, int64_t from, int64_t to, bool with_latency, struct slice *sum)
{
    const struct series *series = arg;
    uint64_t latency[HISTOGRAM_BUCKETS];
    struct slice_total total = {.latency = NULL};
    enum err err;

    if (with_latency) {
        memset(latency, 0, sizeof(latency));
        total.latency = latency;
    }
    err = add_days((struct addend){&total, false}, series, from, to);
    if (err == ERR_OK) {
        err = slice_total_finish(&total, sum);
    }
    slice_total_clear(&total);
    return err;
}

/* The last minute held, or behind it within its hour. */
static int64_t
last_minute(const struct series *series)
{
    const struct line *hours = &series->hours;
    const struct hour *hour = line_item(hours, sizeof(*hour), hours->len - 1);
    const struct line *minutes;

    if (hour->open == NULL) {
        return hour->start + HOUR - 1;
    }
    minutes = &hour->open->minutes;
    return line_start(minutes, sizeof(struct minute), minutes->len - 1);
}

struct reading
series_plan(struct series *series, struct range range, bool with_latency)
{
    struct reading reading = {range.from, range.from, range.to, NULL};
    int64_t last;
    int64_t settled;

    if (range.from >= range.to || series->hours.len == 0) {
        return reading;
    }
    last = last_minute(series);
    settled = minute_floor(range.to - 1 < last ? range.to - 1 : last,
                           range.to - range.from > RUN_OF_DAYS ? DAY : HOUR);
    reading.to = range.to > last ? minute_floor(last, DAY) + DAY : range.to;
    if (settled - range.from >= RUN_MIN) { /* without memory for a run the levels give it */
        reading.run =
            runs_find(&series->runs, range.from, settled, with_latency, sum_levels, series);
    }
    if (reading.run != NULL) {
        reading.settled = settled;
    }
    return reading;
}

enum err
series_sum(struct series *series, struct range range,
           uint64_t *latency, /* NOLINT(readability-non-const-parameter): TOTAL writes through it */
           struct slice *sum)
{
    const struct reading reading = series_plan(series, range, latency != NULL);
    struct slice_total total = {.latency = latency};
    enum err err = ERR_OK;

    if (reading.run != NULL) {
        err = slice_total_add(&total, &reading.run->sum);
    }
    if (err == ERR_OK) {
        err = add_days((struct addend){&total, false}, series, reading.settled, reading.to);
    }
    if (err == ERR_OK) {
        err = slice_total_finish(&total, sum);
    }
    slice_total_clear(&total);
    return err;
}
