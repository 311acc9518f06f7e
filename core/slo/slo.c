/*
 * slo.c - one pass over sums: fetch each window once, then form every ratio from integers.
 */
#include "core/slo/slo.h"

#include <math.h>

#include "core/base/histogram.h"
#include "core/base/time_buckets.h"
#include "core/base/timezone.h"

enum {
    DAY = 24 * 60,
    BURN_HOUR = 2, /* the burn window that risk and exhaustion are judged by */
    PPB = 1000000000,
    WINDOWS_MAX = SLO_BURN_WINDOWS + SLO_OBJECTIVES_MAX,
};

#define AT_RISK_BELOW 0.25

const char *const SLO_BURN_WINDOW_NAME[SLO_BURN_WINDOWS] = {"5m", "30m", "1h", "6h", "3d"};
const int64_t SLO_BURN_WINDOW_MINUTES[SLO_BURN_WINDOWS] = {5, 30, 60, INT64_C(6) * 60,
                                                           INT64_C(3) * 24 * 60};

const char *const SLO_QUANTILE_NAME[SLO_QUANTILES] = {"p50", "p90", "p95", "p99"};
static const uint32_t QUANTILE_PER_MILLE[SLO_QUANTILES] = {500, 900, 950, 990};

const char *
slo_health_name(enum slo_health health)
{
    switch (health) {
    case SLO_NO_DATA:
        return "no_data";
    case SLO_HEALTHY:
        return "healthy";
    case SLO_AT_RISK:
        return "at_risk";
    case SLO_VIOLATED:
        return "violated";
    }
    ASSERT(false); /* all values are above */
    return "";
}

const char *
slo_type_name(enum slo_type type)
{
    switch (type) {
    case SLO_AVAILABILITY:
        return "availability";
    case SLO_LATENCY:
        return "latency";
    }
    ASSERT(false); /* all values are above */
    return "";
}

uint32_t
slo_budget_ppb(double target)
{
    double ppb = round((1.0 - target) * PPB);

    if (!(ppb >= 1.0)) {
        return 1;
    }
    return ppb > PPB ? PPB : (uint32_t)ppb;
}

struct slice_measure
slo_measure(const struct slo_objective *objective)
{
    struct slice_measure measure = {0};

    if (objective->type == SLO_LATENCY) {
        measure.threshold_us = objective->threshold_us;
    } else {
        measure.good_status = objective->good_status;
    }
    return measure;
}

struct slices_limit
slo_limit(const struct slo_objective *objective)
{
    return (struct slices_limit){slo_measure(objective), slo_budget_ppb(objective->target)};
}

uint32_t
slo_limits(const struct slo_config *config, struct slices_limit *limits)
{
    ASSERT(config->objective_count <= SLO_OBJECTIVES_MAX);
    for (uint32_t i = 0; i < config->objective_count; i++) {
        limits[i] = slo_limit(&config->objective[i]);
    }
    return config->objective_count;
}

/* ---- windows ---- */

bool
slo_zone_is_known(const char *zone)
{
    struct time_zone *loaded;

    if (timezone_load(TIMEZONE_DIR, (struct span){zone, strlen(zone)}, &loaded) != ERR_OK) {
        return false;
    }
    timezone_free(loaded);
    return true;
}

/* First minute of the local week or month of NOW_US. Without its zone's file (known when it was
 * defined) a window is UTC's. */
static int64_t
calendar_from(const struct slo_objective *objective, int64_t now_us)
{
    const struct span name = {objective->zone, strlen(objective->zone)};
    const enum time_unit unit = objective->window == SLO_WEEK ? TIME_WEEK : TIME_MONTH;
    struct time_zone *zone = NULL;
    int64_t from_us;

    if (timezone_load(TIMEZONE_DIR, name, &zone) != ERR_OK) {
        zone = NULL;
    }
    from_us = time_bucket_from(zone, unit, now_us);
    timezone_free(zone);
    return minute_of_us(from_us);
}

int64_t
slo_window_from(const struct slo_objective *objective, int64_t now_us)
{
    int64_t minute = minute_of_us(now_us);

    switch (objective->window) {
    case SLO_ROLLING:
        ASSERT(objective->window_minutes > 0);
        return minute + 1 - objective->window_minutes;
    case SLO_WEEK:
    case SLO_MONTH:
        return calendar_from(objective, now_us);
    }
    ASSERT(false); /* all values are above */
    return minute;
}

/* ---- the sums of one service ---- */

struct windows {
    struct slices_window item[WINDOWS_MAX];
    uint32_t count;
    int64_t now_us;
    int64_t now;     /* first minute after the running one: windows count back from here ... */
    int64_t end;     /* ... and reach to the last minute an accepted event may be in */
    int64_t longest; /* where the longest of the objectives begins: latencies count from there */
};

static struct slices_window *
find_window(struct windows *windows, int64_t from)
{
    for (uint32_t i = 0; i < windows->count; i++) {
        if (windows->item[i].from_minute == from) {
            return &windows->item[i];
        }
    }
    return NULL;
}

static const struct slice *
window_sum(struct windows *windows, int64_t from)
{
    const struct slices_window *window = find_window(windows, from);

    ASSERT(window != NULL);
    return &window->sum;
}

static void
want_window(struct windows *windows, int64_t from)
{
    if (find_window(windows, from) == NULL) {
        ASSERT(windows->count < WINDOWS_MAX);
        windows->item[windows->count++] = (struct slices_window){.from_minute = from};
    }
}

static void
want_windows(struct windows *windows, const struct slo_config *config)
{
    for (uint32_t i = 0; i < SLO_BURN_WINDOWS; i++) {
        want_window(windows, windows->now - SLO_BURN_WINDOW_MINUTES[i]);
    }
    windows->longest = windows->end;
    for (uint32_t i = 0; i < config->objective_count; i++) {
        int64_t from = slo_window_from(&config->objective[i], windows->now_us);

        want_window(windows, from);
        windows->longest = from < windows->longest ? from : windows->longest;
    }
    if (config->objective_count > 0) {
        find_window(windows, windows->longest)->with_latency = true;
    }
}

static void
clear_windows(struct windows *windows)
{
    for (uint32_t i = 0; i < windows->count; i++) {
        slice_clear(&windows->item[i].sum);
    }
}

/* ---- figures ---- */

static double
ratio(uint64_t part, uint64_t total)
{
    return total == 0 ? NAN : (double)part / (double)total;
}

/* Bad events the budget allows for TOTAL events. */
static double
allowed_bad(uint64_t total, struct slices_limit limit)
{
    return (double)total * (double)limit.budget_ppb / PPB;
}

static double
burn_rate(const struct slice *sum, struct slices_limit limit)
{
    uint64_t good;
    uint64_t bad;

    slice_good_bad(sum, &limit.measure, &good, &bad);
    return good + bad == 0 ? NAN : (double)bad / allowed_bad(good + bad, limit);
}

static double
seconds_to_exhaustion(double events_left, const struct slice *last_hour, struct slices_limit limit)
{
    uint64_t good;
    uint64_t bad;

    slice_good_bad(last_hour, &limit.measure, &good, &bad);
    if (events_left <= 0.0) {
        return 0.0;
    }
    return bad == 0 ? NAN : events_left / ((double)bad / 3600.0);
}

static enum slo_health
judge(const struct slo_figures *figures, struct slices_limit limit)
{
    double window_s = (double)figures->objective->window_minutes * 60.0;

    if (figures->good + figures->bad == 0) {
        return SLO_NO_DATA;
    }
    if (slices_limit_broken(limit, figures->good, figures->bad)) {
        return SLO_VIOLATED;
    }
    if (figures->error_budget_remaining < AT_RISK_BELOW) {
        return SLO_AT_RISK;
    }
    /* Comparisons with NAN are false: an hour without events or bad ones is no risk. */
    if (figures->burn_rate[BURN_HOUR] > 1.0 && figures->time_to_exhaustion_s < window_s) {
        return SLO_AT_RISK;
    }
    return SLO_HEALTHY;
}

/* Everything but the violations, which are not a matter of sums. */
static void
fill_figures(struct slo_figures *out, const struct slo_objective *objective,
             struct windows *windows)
{
    const struct slices_limit limit = slo_limit(objective);
    const struct slice *last_hour =
        window_sum(windows, windows->now - SLO_BURN_WINDOW_MINUTES[BURN_HOUR]);
    const int64_t from = slo_window_from(objective, windows->now_us);
    const struct slice *sum = window_sum(windows, from);
    uint64_t total;
    double allowed;

    *out = (struct slo_figures){.objective = objective, .from_minute = from};
    slice_good_bad(sum, &limit.measure, &out->good, &out->bad);
    for (uint32_t i = 0; i < SLO_BURN_WINDOWS; i++) {
        out->burn_rate[i] =
            burn_rate(window_sum(windows, windows->now - SLO_BURN_WINDOW_MINUTES[i]), limit);
    }
    total = out->good + out->bad;
    if (objective->type == SLO_LATENCY) {
        out->uncounted = sum->timed - total; /* both sides of a threshold are at most TIMED */
    }
    out->attained = ratio(out->good, total);
    if (total == 0) {
        out->error_budget_remaining = NAN;
        out->events_left = NAN;
        out->minutes_left = NAN;
        out->time_to_exhaustion_s = NAN;
    } else {
        allowed = allowed_bad(total, limit);
        out->events_left = allowed - (double)out->bad;
        out->error_budget_remaining = out->events_left / allowed;
        out->minutes_left = out->events_left / (double)total * (double)(windows->now - from);
        out->time_to_exhaustion_s = seconds_to_exhaustion(out->events_left, last_hour, limit);
    }
    out->health = judge(out, limit);
}

static void
fill_service(struct slo_service *out, const struct slice *sum)
{
    uint64_t total = sum->good + sum->bad;

    out->good = sum->good;
    out->bad = sum->bad;
    out->availability = ratio(sum->good, total);
    out->error_rate = ratio(sum->bad, total);
    for (uint32_t i = 0; i < SLO_QUANTILES; i++) {
        out->latency_ms[i] = histogram_quantile_ms(&sum->latency, QUANTILE_PER_MILLE[i]);
    }
}

enum err
slo_service_figures(struct slices *slices, const struct slo_config *config, struct span tenant,
                    struct span service, int64_t now_us, struct slo_service *out)
{
    static const struct slice nothing = {0};
    struct windows windows = {.now_us = now_us,
                              .now = minute_of_us(now_us) + 1,
                              .end = minute_of_us(now_us + config->future_us) + 1};
    enum err err;

    ASSERT(config->objective_count <= SLO_OBJECTIVES_MAX);
    ASSERT(config->future_us >= 0);
    want_windows(&windows, config);
    err = slices_sum_windows(slices, tenant, service, windows.end, windows.item, windows.count);
    if (err == ERR_OK) {
        *out = (struct slo_service){.health = SLO_NO_DATA};
        fill_service(out, config->objective_count == 0 ? &nothing
                                                       : window_sum(&windows, windows.longest));
        for (uint32_t i = 0; i < config->objective_count; i++) {
            const struct slo_objective *objective = &config->objective[i];
            struct slo_figures *figures = &out->figures[i];
            fill_figures(figures, objective, &windows);
            figures->violations = slices_violations(slices, tenant, service, figures->from_minute,
                                                    windows.end, slo_limit(objective));
            out->health = figures->health > out->health ? figures->health : out->health;
        }
        out->figure_count = config->objective_count;
    }
    clear_windows(&windows);
    return err;
}
