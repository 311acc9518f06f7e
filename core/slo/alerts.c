/*
 * alerts.c - the book: who is in it, who is judged when, what readers see.
 *
 * Locks: the book's, then (inside the store of slices) the table's read lock and a series' own. The
 * committer takes only the latter two, so it never waits for the book.
 */
#include "core/slo/alerts.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/base/log.h"
#include "core/slo/alert_windows.h"
#include "core/slo/alerts_internal.h"
#include "core/slo/series_names.h"

enum {
    SERIES_FIRST = 16,
};

/* How long a series may be missing before its alerts are withdrawn: other nodes' slices are read
 * back some time after a start. */
#define MISSING_US INT64_C(900000000)

/* ---- the book ---- */

static int
compare_span(struct span a, struct span b)
{
    int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);

    if (order != 0) {
        return order;
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

/* Number of the first series at or after (TENANT, SERVICE). */
static uint32_t
lower(const struct alerts *alerts, struct span tenant, struct span service)
{
    uint32_t low = 0;
    uint32_t high = alerts->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct watched_series *series = alerts->series[middle];
        int order = compare_span(series->tenant, tenant);

        if (order == 0) {
            order = compare_span(series->service, service);
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct watched_series *
alerts_find_series(const struct alerts *alerts, struct span tenant, struct span service)
{
    uint32_t at = lower(alerts, tenant, service);

    if (at < alerts->count && span_equal(alerts->series[at]->tenant, tenant) &&
        span_equal(alerts->series[at]->service, service)) {
        return alerts->series[at];
    }
    return NULL;
}

static bool
grow_book(struct alerts *alerts)
{
    uint32_t capacity = alerts->capacity == 0 ? SERIES_FIRST : alerts->capacity * 2;
    struct watched_series **grown;

    if (alerts->count < alerts->capacity) {
        return true;
    }
    grown = realloc(alerts->series, capacity * sizeof(struct watched_series *));
    if (grown == NULL) {
        return false;
    }
    alerts->series = grown;
    alerts->capacity = capacity;
    return true;
}

struct watched_series *
alerts_series(struct alerts *alerts, struct span tenant, struct span service)
{
    struct watched_series *series = alerts_find_series(alerts, tenant, service);
    uint32_t at;
    char *names;

    if (series != NULL) {
        return series;
    }
    if (!grow_book(alerts)) {
        return NULL;
    }
    series = calloc(1, sizeof(*series) + tenant.len + service.len);
    if (series == NULL) {
        return NULL;
    }
    names = (char *)(series + 1);
    memcpy(names, tenant.data, tenant.len);
    memcpy(names + tenant.len, service.data, service.len);
    series->tenant = (struct span){names, tenant.len};
    series->service = (struct span){names + tenant.len, service.len};
    at = lower(alerts, tenant, service);
    memmove(&alerts->series[at + 1], &alerts->series[at],
            (alerts->count - at) * sizeof(struct watched_series *));
    alerts->series[at] = series;
    alerts->count++;
    return series;
}

struct watched *
alerts_find_watched(const struct watched_series *series, struct span id)
{
    for (uint32_t i = 0; i < series->count; i++) {
        if (span_is(id, series->watched[i].id)) {
            return &series->watched[i];
        }
    }
    return NULL;
}

static void
remove_watched(struct watched_series *series, uint32_t at)
{
    series->count--;
    memmove(&series->watched[at], &series->watched[at + 1],
            (series->count - at) * sizeof(struct watched));
}

/* Room for one more: the first one whose objective is no more goes, if there are too many. */
static bool
grow_series(struct watched_series *series)
{
    uint32_t capacity = series->capacity == 0 ? 2 : series->capacity * 2;
    struct watched *grown;

    if (series->count == WATCHED_MAX) {
        uint32_t at = 0;

        while (at + 1 < series->count && series->watched[at].seen) {
            at++;
        }
        remove_watched(series, at);
    }
    if (series->count < series->capacity) {
        return true;
    }
    grown = realloc(series->watched, capacity * sizeof(struct watched));
    if (grown == NULL) {
        return false;
    }
    series->watched = grown;
    series->capacity = capacity;
    return true;
}

struct watched *
alerts_watch(struct watched_series *series, struct span id)
{
    struct watched *watched;

    ASSERT(id.len < sizeof(watched->id));
    if (!grow_series(series)) {
        return NULL;
    }
    watched = &series->watched[series->count++];
    *watched = (struct watched){.seen = true};
    memcpy(watched->id, id.data, id.len);
    return watched;
}

static void
free_series(struct watched_series *series)
{
    free(series->watched);
    free(series);
}

void
alerts_clear(struct alerts *alerts)
{
    for (uint32_t i = 0; i < alerts->count; i++) {
        free_series(alerts->series[i]);
    }
    free(alerts->series);
    alerts->series = NULL;
    alerts->count = 0;
    alerts->capacity = 0;
}

enum err
alerts_new(struct alerts **out, const struct alerts_config *config)
{
    struct alerts *alerts = calloc(1, sizeof(*alerts));

    ASSERT(config->slices != NULL && config->objectives != NULL);
    if (alerts == NULL) {
        return ERR_NO_MEMORY;
    }
    alerts->config = *config;
    alerts->judged_minute = INT64_MIN;
    metric_histogram_init(&alerts->judge_seconds, METRIC_SECONDS_BOUNDS,
                          METRIC_SECONDS_BOUND_COUNT);
    pthread_mutex_init(&alerts->lock, NULL);
    *out = alerts;
    return ERR_OK;
}

void
alerts_free(struct alerts *alerts)
{
    if (alerts == NULL) {
        return;
    }
    alerts_clear(alerts);
    pthread_mutex_destroy(&alerts->lock);
    free(alerts);
}

/* ---- judging ---- */

static bool
same_state(const struct alert_state *a, const struct alert_state *b)
{
    return a->status == b->status && a->rules == b->rules && a->rule == b->rule &&
           a->no_data == b->no_data && a->held_back == b->held_back && a->since_us == b->since_us &&
           a->fired_us == b->fired_us && a->resolved_us == b->resolved_us;
}

static void
log_change(const struct watched_series *series, const struct watched *watched,
           enum alert_severity severity)
{
    const struct alert_state *state = &watched->state[severity];
    char tenant[EVENT_NAME_MAX + 1];
    char service[EVENT_NAME_MAX + 1];

    snprintf(tenant, sizeof(tenant), "%.*s", (int)series->tenant.len, series->tenant.data);
    snprintf(service, sizeof(service), "%.*s", (int)series->service.len, series->service.data);
    log_warn(state->status == ALERT_FIRING ? "alert.firing" : "alert.resolved",
             LOG_STR("tenant", tenant), LOG_STR("service", service),
             LOG_STR("objective", watched->id), LOG_STR("severity", alert_severity_name(severity)),
             LOG_END);
}

/* Notes what has become of WATCHED, which was BEFORE. */
static void
note_changes(struct alerts *alerts, const struct watched_series *series,
             const struct watched *watched, const struct alert_state before[ALERT_SEVERITIES])
{
    for (unsigned s = 0; s < ALERT_SEVERITIES; s++) {
        const struct alert_state *after = &watched->state[s];

        if (same_state(&before[s], after)) {
            continue;
        }
        alerts->dirty = true;
        alerts->urgent = alerts->urgent || before[s].rules != after->rules;
        if (before[s].status == after->status) {
            continue;
        }
        if (after->status == ALERT_FIRING) {
            alerts->stats.fired++;
        } else if (after->status == ALERT_RESOLVED) {
            alerts->stats.resolved++;
        } else {
            continue;
        }
        alerts->urgent = true;
        log_change(series, watched, (enum alert_severity)s);
    }
}

static enum err
judge_objective(struct alerts *alerts, struct watched_series *series,
                const struct slo_objective *objective, struct alert_windows *windows,
                int64_t now_us)
{
    struct watched *watched = alerts_find_watched(series, span_of(objective->id));
    struct alert_state before[ALERT_SEVERITIES];
    bool changed = false;
    enum err err;

    if (watched == NULL) {
        watched = alerts_watch(series, span_of(objective->id));
        if (watched == NULL) {
            return ERR_NO_MEMORY;
        }
    }
    watched->seen = true;
    memcpy(before, watched->state, sizeof(before));
    windows->objective = objective;
    err = alert_judge(objective, now_us, alert_windows_get, windows, watched->state, &changed);
    if (err == ERR_OK) {
        alerts->stats.judged++;
        note_changes(alerts, series, watched, before);
    }
    return err;
}

/* Without memory the rest is left as it was, for the next round. */
static void
judge_series(struct alerts *alerts, struct span tenant, struct span service, int64_t now_us)
{
    struct watched_series *series = alerts_series(alerts, tenant, service);
    struct slo_config objectives = {.objective_count = 0};
    struct alert_windows windows;
    enum err err = ERR_OK;

    if (series == NULL) {
        return;
    }
    series->seen = true;
    series->missing_us = 0;
    alerts->config.objectives(alerts->config.objectives_arg, tenant, service, &objectives);
    alert_windows_open(&windows, alerts->config.slices, tenant, service, now_us,
                       objectives.future_us);
    for (uint32_t i = 0; err == ERR_OK && i < objectives.objective_count; i++) {
        err = judge_objective(alerts, series, &objectives.objective[i], &windows, now_us);
    }
    alert_windows_close(&windows);
}

static void
judge_list(struct alerts *alerts, const struct series_names *list, int64_t now_us)
{
    struct span tenant;
    struct span service;
    size_t at = 0;

    while (series_names_next(list, &at, &tenant, &service)) {
        judge_series(alerts, tenant, service, now_us);
    }
}

/* Nobody is to find an alert firing that nothing can resolve any more. */
static void
withdraw_unseen(struct alerts *alerts, struct watched_series *series, int64_t now_us)
{
    for (uint32_t i = series->count; i-- > 0;) {
        struct watched *watched = &series->watched[i];
        struct alert_state before[ALERT_SEVERITIES];
        bool gone = true;

        if (watched->seen) {
            continue;
        }
        memcpy(before, watched->state, sizeof(before));
        (void)alert_withdraw(watched->state, now_us);
        note_changes(alerts, series, watched, before);
        for (unsigned s = 0; s < ALERT_SEVERITIES; s++) {
            gone = gone && watched->state[s].status != ALERT_RESOLVED;
        }
        if (gone) {
            remove_watched(series, i);
            alerts->dirty = true;
        }
    }
}

static void
end_round(struct alerts *alerts, int64_t now_us)
{
    uint32_t kept = 0;

    alerts->stats.watched = 0;
    for (uint32_t i = 0; i < alerts->count; i++) {
        struct watched_series *series = alerts->series[i];

        if (!series->seen && series->missing_us == 0) {
            series->missing_us = now_us;
        }
        if (series->seen || now_us - series->missing_us >= MISSING_US) {
            withdraw_unseen(alerts, series, now_us);
        }
        if (!series->seen && series->count == 0) {
            free_series(series);
            continue;
        }
        alerts->stats.watched += series->count;
        alerts->series[kept++] = series;
    }
    alerts->count = kept;
}

static uint64_t
objectives_version(const struct alerts *alerts)
{
    if (alerts->config.objectives_version == NULL) {
        return 0;
    }
    return alerts->config.objectives_version(alerts->config.objectives_arg);
}

struct silent_list {
    struct slices *slices;
    struct series_names *list;
};

/* A service with definitions that has no events, and so is not in the store. */
static void
add_silent(void *arg, struct span tenant, struct span service)
{
    const struct silent_list *silent = arg;

    if (!slices_has_series(silent->slices, tenant, service)) {
        series_names_add(silent->list, tenant, service);
    }
}

static void
list_series(const struct alerts *alerts, struct series_names *list)
{
    struct silent_list silent = {alerts->config.slices, list};

    slices_each_series(alerts->config.slices, series_names_add, list);
    if (alerts->config.each_defined != NULL) {
        alerts->config.each_defined(alerts->config.objectives_arg, add_silent, &silent);
    }
}

static void
judge_all(struct alerts *alerts, int64_t now_us)
{
    const uint64_t version = objectives_version(alerts); /* of before: a later change shows again */
    struct series_names list = {BUFFER_EMPTY};

    for (uint32_t i = 0; i < alerts->count; i++) {
        struct watched_series *series = alerts->series[i];

        series->seen = false;
        for (uint32_t j = 0; j < series->count; j++) {
            series->watched[j].seen = false;
        }
    }
    list_series(alerts, &list);
    if (!list.text.failed) {
        judge_list(alerts, &list, now_us);
        end_round(alerts, now_us);
        alerts->judged_minute = minute_of_us(now_us);
        alerts->judged_version = version;
    }
    series_names_clear(&list);
}

/* Judges the changed series of TENANT, or of all. */
static void
judge_changed(struct alerts *alerts, struct span tenant, int64_t now_us)
{
    struct series_names list = {BUFFER_EMPTY};

    slices_take_changed(alerts->config.slices, tenant, series_names_add, &list);
    if (list.text.failed) {
        alerts->judged_minute = INT64_MIN; /* whose flags are lost is judged with the rest */
    } else {
        judge_list(alerts, &list, now_us);
    }
    series_names_clear(&list);
}

static bool
is_settled(struct alerts *alerts)
{
    alerts->settled = alerts->settled || alerts->config.settled == NULL ||
                      alerts->config.settled(alerts->config.settled_arg);
    return alerts->settled;
}

static double
seconds_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void
alerts_judge(struct alerts *alerts, int64_t now_us)
{
    double began = seconds_now(); /* a measurement; it decides nothing */

    pthread_mutex_lock(&alerts->lock);
    if (is_settled(alerts)) {
        judge_changed(alerts, (struct span){NULL, 0}, now_us);
        if (minute_of_us(now_us) != alerts->judged_minute ||
            objectives_version(alerts) != alerts->judged_version) {
            judge_all(alerts, now_us);
        }
    }
    pthread_mutex_unlock(&alerts->lock);
    metric_observe(&alerts->judge_seconds, seconds_now() - began);
}

void
alerts_refresh(struct alerts *alerts, struct span tenant, int64_t now_us)
{
    pthread_mutex_lock(&alerts->lock);
    if (is_settled(alerts)) {
        judge_changed(alerts, tenant, now_us);
        if (objectives_version(alerts) != alerts->judged_version) {
            judge_all(alerts, now_us);
        }
    }
    pthread_mutex_unlock(&alerts->lock);
}

/* ---- reading ---- */

static bool
is_wanted(const struct alerts_filter *filter, enum alert_severity severity,
          const struct alert_state *state)
{
    return state->since_us != 0 && (filter->severity < 0 || filter->severity == (int)severity) &&
           (filter->status < 0 || filter->status == (int)state->status);
}

static enum err
walk_series(struct alerts *alerts, const struct watched_series *series,
            const struct alerts_filter *filter, int64_t now_us,
            void (*fn)(void *arg, const struct alert_view *view), void *arg)
{
    struct slo_config objectives = {.objective_count = 0};
    struct alert_windows windows;
    enum err err = ERR_OK;

    alerts->config.objectives(alerts->config.objectives_arg, series->tenant, series->service,
                              &objectives);
    alert_windows_open(&windows, alerts->config.slices, series->tenant, series->service, now_us,
                       objectives.future_us);
    for (uint32_t i = 0; err == ERR_OK && i < objectives.objective_count; i++) {
        const struct slo_objective *objective = &objectives.objective[i];
        const struct watched *watched = alerts_find_watched(series, span_of(objective->id));

        for (unsigned s = 0; err == ERR_OK && watched != NULL && s < ALERT_SEVERITIES; s++) {
            struct alert_view view;

            if (!is_wanted(filter, (enum alert_severity)s, &watched->state[s])) {
                continue;
            }
            err = alert_view_fill(&view, &windows, objective, (enum alert_severity)s,
                                  &watched->state[s]);
            if (err == ERR_OK) {
                fn(arg, &view);
            }
        }
    }
    alert_windows_close(&windows);
    return err;
}

enum err
alerts_each(struct alerts *alerts, const struct alerts_filter *filter, int64_t now_us,
            void (*fn)(void *arg, const struct alert_view *view), void *arg)
{
    enum err err = ERR_OK;

    pthread_mutex_lock(&alerts->lock);
    for (uint32_t i = lower(alerts, filter->tenant, SPAN_LITERAL(""));
         err == ERR_OK && i < alerts->count &&
         span_equal(alerts->series[i]->tenant, filter->tenant);
         i++) {
        const struct watched_series *series = alerts->series[i];

        if (filter->service.data == NULL || span_equal(series->service, filter->service)) {
            err = walk_series(alerts, series, filter, now_us, fn, arg);
        }
    }
    pthread_mutex_unlock(&alerts->lock);
    return err;
}

void
alerts_each_state(struct alerts *alerts, struct span tenant, struct span service,
                  void (*fn)(void *arg, struct span tenant, struct span service,
                             const char *objective, enum alert_severity severity,
                             const struct alert_state *state),
                  void *arg)
{
    uint32_t i = 0;

    pthread_mutex_lock(&alerts->lock);
    if (tenant.data != NULL) {
        i = lower(alerts, tenant, service);
    }
    for (; i < alerts->count; i++) {
        const struct watched_series *series = alerts->series[i];

        if (tenant.data != NULL &&
            (!span_equal(series->tenant, tenant) || !span_equal(series->service, service))) {
            break;
        }
        for (uint32_t j = 0; j < series->count; j++) {
            const struct watched *watched = &series->watched[j];

            for (unsigned s = 0; s < ALERT_SEVERITIES; s++) {
                fn(arg, series->tenant, series->service, watched->id, (enum alert_severity)s,
                   &watched->state[s]);
            }
        }
    }
    pthread_mutex_unlock(&alerts->lock);
}

void
alerts_stats(struct alerts *alerts, struct alerts_stats *out)
{
    pthread_mutex_lock(&alerts->lock);
    *out = alerts->stats;
    pthread_mutex_unlock(&alerts->lock);
}

const struct metric_histogram *
alerts_judge_seconds(const struct alerts *alerts)
{
    return &alerts->judge_seconds;
}
