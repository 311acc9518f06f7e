/*
 * alerts_tell.c - what of the book is due to be stored and told, as one cut.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/sha256.h"
#include "core/slo/alert_windows.h"
#include "core/slo/alerts_internal.h"

#define SAVE_INTERVAL_US INT64_C(60000000)

/* What the receiver ought to know of STATE; ALERT_OK: nothing. */
static struct told
present_of(const struct alert_state *state)
{
    if (state->fired_us == 0) {
        return (struct told){ALERT_OK, 0};
    }
    return (struct told){state->status == ALERT_FIRING ? ALERT_FIRING : ALERT_RESOLVED,
                         state->fired_us};
}

static bool
is_same(struct told a, struct told b)
{
    return a.status == b.status && a.fired_us == b.fired_us;
}

static bool
is_due(const struct watched *watched, unsigned severity, int64_t now_us, int64_t repeat_us)
{
    const struct alert_state *state = &watched->state[severity];
    const struct told present = present_of(state);
    const struct told queued = watched->queued[severity];
    const struct told told = watched->told[severity];
    const int64_t since_queued_us = now_us - watched->queued_us[severity];
    bool again = repeat_us > 0 && (since_queued_us >= repeat_us || since_queued_us < 0);
    bool known = is_same(present, queued) || is_same(present, told);
    bool heard = queued.fired_us == state->fired_us || told.fired_us == state->fired_us;

    if (present.status == ALERT_OK) {
        return false;
    }
    if (present.status == ALERT_FIRING) {
        return !known || again;
    }
    if (now_us - state->resolved_us < ALERT_RESOLVED_US) {
        return !known || again;
    }
    return !known && heard; /* the end of what nobody heard of is no news */
}

static void
set_id(struct notice *notice, const struct watched *watched)
{
    static const char HEX[] = "0123456789abcdef";
    uint8_t digest[SHA256_SIZE];
    char fixed[2 * EVENT_NAME_MAX + 256];
    int len =
        snprintf(fixed, sizeof(fixed), "%zu %zu %s %s %s %lld ", notice_tenant(notice).len,
                 notice_service(notice).len, watched->id, alert_severity_name(notice->severity),
                 alert_status_name(notice->status), (long long)notice->fired_us);

    ASSERT(len > 0 && (size_t)len + notice->tenant_len + notice->service_len <= sizeof(fixed));
    memcpy(fixed + len, notice->tenant, notice->tenant_len);
    memcpy(fixed + len + notice->tenant_len, notice->service, notice->service_len);
    sha256(fixed, (size_t)len + notice->tenant_len + notice->service_len, digest);
    for (size_t i = 0; i < (NOTICE_ID_SIZE - 1) / 2; i++) {
        notice->id[2 * i] = HEX[digest[i] >> 4];
        notice->id[2 * i + 1] = HEX[digest[i] & 15];
    }
    notice->id[NOTICE_ID_SIZE - 1] = '\0';
}

static enum err
fill_notice(struct notice *notice, const struct watched *watched, const struct alert_view *view)
{
    const uint8_t told = alert_rule_told(&view->state, view->severity);
    const struct alert_reading *reading = &view->reading[0];
    struct alert_state state = view->state;
    struct alert_facts facts;
    struct buffer sentence = BUFFER_EMPTY;
    enum err err = ERR_NO_MEMORY;

    for (uint32_t i = 0; i < view->reading_count; i++) {
        reading = view->rule_number[i] == told ? &view->reading[i] : reading;
    }
    *notice = (struct notice){
        .severity = view->severity,
        .status = (enum alert_status)present_of(&view->state).status,
        .tenant_len = narrow_u8(view->tenant.len),
        .service_len = narrow_u8(view->service.len),
        .objective = *view->objective,
        .rule = reading->rule,
        .fired_us = view->state.fired_us,
        .resolved_us = view->state.resolved_us,
        .threshold = reading->threshold,
        .burn_long = alert_burn_rate(view->objective, reading->long_window),
        .burn_short = alert_burn_rate(view->objective, reading->short_window),
    };
    memcpy(notice->tenant, view->tenant.data, view->tenant.len);
    memcpy(notice->service, view->service.data, view->service.len);
    state.status = notice->status; /* long over and told late: still the end of an alert */
    facts = (struct alert_facts){
        view->service,  view->objective,      view->severity,        &state,
        &reading->rule, reading->long_window, reading->short_window, view->period};
    notice->budget_spent = alert_budget_spent(&facts);
    alert_sentence(&facts, &sentence);
    if (!sentence.failed) {
        /* A service's name is the only part of any length, so no character is cut. */
        ASSERT(sentence.len <= sizeof(notice->sentence));
        memcpy(notice->sentence, sentence.data, sentence.len);
        notice->sentence_len = narrow_u16(sentence.len);
        set_id(notice, watched);
        err = ERR_OK;
    }
    buffer_free(&sentence);
    return err;
}

/* The objective WATCHED is about; one that is no more has left its name only. */
static const struct slo_objective *
objective_of(const struct slo_config *objectives, const struct watched *watched,
             struct slo_objective *gone)
{
    for (uint32_t i = 0; i < objectives->objective_count; i++) {
        if (strcmp(objectives->objective[i].id, watched->id) == 0) {
            return &objectives->objective[i];
        }
    }
    *gone = (struct slo_objective){
        .type = SLO_AVAILABILITY, .target = 0.999, .window_minutes = INT64_C(30) * 24 * 60};
    memcpy(gone->id, watched->id, sizeof(gone->id));
    return gone;
}

static enum err
collect_series(struct alerts *alerts, struct watched_series *series, int64_t now_us,
               int64_t repeat_us, struct alerts_cut *cut)
{
    struct slo_config objectives = {.objective_count = 0};
    bool open = false;
    struct alert_windows windows = {.count = 0};
    enum err err = ERR_OK;

    for (uint32_t i = 0; err == ERR_OK && i < series->count; i++) {
        struct watched *watched = &series->watched[i];

        for (unsigned s = 0; err == ERR_OK && s < ALERT_SEVERITIES; s++) {
            struct slo_objective gone;
            struct alert_view view;

            if (cut->notice_count == ALERTS_COLLECT_MAX || !is_due(watched, s, now_us, repeat_us)) {
                continue;
            }
            if (!open) {
                alerts->config.objectives(alerts->config.objectives_arg, series->tenant,
                                          series->service, &objectives);
                alert_windows_open(&windows, alerts->config.slices, series->tenant, series->service,
                                   now_us, objectives.future_us);
                open = true;
            }
            err = alert_view_fill(&view, &windows, objective_of(&objectives, watched, &gone),
                                  (enum alert_severity)s, &watched->state[s]);
            if (err == ERR_OK) {
                err = fill_notice(&cut->notices[cut->notice_count], watched, &view);
            }
            if (err == ERR_OK) {
                cut->notice_count++;
            }
        }
    }
    alert_windows_close(&windows);
    return err;
}

static struct watched *
find_noticed(const struct alerts *alerts, const struct notice *notice)
{
    struct watched_series *series =
        alerts_find_series(alerts, notice_tenant(notice), notice_service(notice));

    return series == NULL ? NULL : alerts_find_watched(series, span_of(notice->objective.id));
}

static void
mark_queued(struct alerts *alerts, const struct alerts_cut *cut, int64_t now_us)
{
    for (size_t i = 0; i < cut->notice_count; i++) {
        const struct notice *notice = &cut->notices[i];
        struct watched *watched = find_noticed(alerts, notice);

        if (watched == NULL) {
            continue; /* cannot be: the lock is still held */
        }
        watched->queued[notice->severity] =
            (struct told){(uint8_t)notice->status, notice->fired_us};
        watched->queued_us[notice->severity] = now_us;
    }
}

static enum err
collect_notices(struct alerts *alerts, int64_t now_us, int64_t repeat_us, struct alerts_cut *cut)
{
    enum err err = ERR_OK;

    cut->notices = malloc(ALERTS_COLLECT_MAX * sizeof(struct notice));
    if (cut->notices == NULL) {
        return ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; err == ERR_OK && i < alerts->count; i++) {
        err = collect_series(alerts, alerts->series[i], now_us, repeat_us, cut);
    }
    return err;
}

enum err
alerts_collect(struct alerts *alerts, int64_t now_us, int64_t repeat_us, bool all,
               struct alerts_cut *out)
{
    struct alerts_cut cut = {.bytes = BUFFER_EMPTY};
    enum err err = ERR_OK;

    pthread_mutex_lock(&alerts->lock);
    cut.bytes_due =
        alerts->urgent || (alerts->dirty && (all || now_us - alerts->saved_us >= SAVE_INTERVAL_US ||
                                             now_us < alerts->saved_us));
    if (cut.bytes_due) {
        alerts_encode(alerts, &cut.bytes);
        err = cut.bytes.failed ? ERR_NO_MEMORY : ERR_OK;
    }
    if (err == ERR_OK && repeat_us >= 0) {
        err = collect_notices(alerts, now_us, repeat_us, &cut);
    }
    if (err == ERR_OK) {
        mark_queued(alerts, &cut, now_us);
        cut.was_full = cut.notice_count == ALERTS_COLLECT_MAX;
        if (cut.bytes_due) {
            alerts->urgent = false;
            alerts->dirty = false;
            alerts->saved_us = now_us;
        }
    }
    pthread_mutex_unlock(&alerts->lock);
    if (err != ERR_OK) {
        alerts_cut_free(&cut);
        return err;
    }
    *out = cut;
    return ERR_OK;
}

void
alerts_cut_free(struct alerts_cut *cut)
{
    buffer_free(&cut->bytes);
    free(cut->notices);
    cut->notices = NULL;
    cut->notice_count = 0;
}

void
alerts_unsaved(struct alerts *alerts)
{
    pthread_mutex_lock(&alerts->lock);
    alerts->stats.unsaved++;
    alerts->dirty = true; /* not urgent: a full disk is not asked again at once */
    pthread_mutex_unlock(&alerts->lock);
}

void
alerts_untold(struct alerts *alerts, const struct notice *notice)
{
    const struct told this = {(uint8_t)notice->status, notice->fired_us};
    struct watched *watched;

    pthread_mutex_lock(&alerts->lock);
    watched = find_noticed(alerts, notice);
    if (watched != NULL && is_same(watched->queued[notice->severity], this)) {
        watched->queued[notice->severity] = (struct told){ALERT_OK, 0};
        watched->queued_us[notice->severity] = 0;
    }
    pthread_mutex_unlock(&alerts->lock);
}

void
alerts_told(struct alerts *alerts, const struct notice *notice)
{
    const struct told this = {(uint8_t)notice->status, notice->fired_us};
    struct watched *watched;

    pthread_mutex_lock(&alerts->lock);
    watched = find_noticed(alerts, notice);
    if (watched != NULL && !is_same(watched->told[notice->severity], this)) {
        watched->told[notice->severity] = this;
        alerts->urgent = true;
    }
    pthread_mutex_unlock(&alerts->lock);
}
