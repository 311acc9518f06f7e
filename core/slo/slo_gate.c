#include "core/slo/slo_gate.h"

#include <math.h>
#include <stdio.h>

#include "core/base/timestamp.h"

#define MINUTE_US INT64_C(60000000)

/* ---- incidents ---- */

struct incident_walk {
    struct slo_incident present;
    struct slo_incident worst;
    uint32_t min_bad_events;
};

static void
end_incident(struct incident_walk *walk)
{
    if (walk->present.bad > walk->worst.bad && walk->present.bad >= walk->min_bad_events) {
        walk->worst = walk->present;
    }
}

static void
take_violation(void *arg, int64_t minute, uint64_t good, uint64_t bad)
{
    struct incident_walk *walk = arg;

    (void)good;
    if (walk->present.bad == 0 || minute - walk->present.to_minute > SLO_GATE_INCIDENT_GAP) {
        end_incident(walk);
        walk->present = (struct slo_incident){.from_minute = minute};
    }
    walk->present.to_minute = minute + 1;
    walk->present.bad += bad;
}

struct slo_incident
slo_worst_incident(struct slices *slices, struct span tenant, struct span service,
                   const struct slo_figures *figures, int64_t end_minute)
{
    struct incident_walk walk = {.min_bad_events = figures->objective->min_bad_events};
    const double allowed = figures->events_left + (double)figures->bad;

    slices_each_violation(slices, tenant, service, figures->from_minute, end_minute,
                          slo_limit(figures->objective), take_violation, &walk);
    end_incident(&walk);
    if (walk.worst.bad > 0 && allowed > 0.0) {
        walk.worst.share = (double)walk.worst.bad / allowed;
    }
    return walk.worst;
}

/* ---- the decision ---- */

struct verdict {
    const struct slo_figures *figures;
    struct slo_incident incident;
    bool spent;
    bool incident_too_large;
};

struct decision {
    struct slo_service service;
    struct verdict verdict[SLO_OBJECTIVES_MAX];
    const struct verdict *freezes; /* the first that does, NULL when none */
    const struct verdict *least;   /* the least budget left, NULL without data */
};

static void
decide(const struct slo_status_request *request, const struct slo_config *config,
       struct decision *out)
{
    const int64_t end = minute_of_us(request->now_us + config->future_us) + 1;

    for (uint32_t i = 0; i < out->service.figure_count; i++) {
        struct verdict *verdict = &out->verdict[i];
        const struct slo_figures *figures = &out->service.figures[i];

        verdict->figures = figures;
        if (isnan(figures->error_budget_remaining)) {
            continue;
        }
        verdict->incident =
            slo_worst_incident(request->slices, request->tenant, request->service, figures, end);
        verdict->spent = figures->error_budget_remaining <= 0.0;
        verdict->incident_too_large = verdict->incident.share > SLO_GATE_INCIDENT_SHARE;
        if (out->freezes == NULL && (verdict->spent || verdict->incident_too_large)) {
            out->freezes = verdict;
        }
        if (out->least == NULL ||
            figures->error_budget_remaining < out->least->figures->error_budget_remaining) {
            out->least = verdict;
        }
    }
}

/* ---- writing ---- */

static void
minute_text(int64_t minute, char out[TIMESTAMP_TEXT_SIZE])
{
    (void)timestamp_format(minute * MINUTE_US, out);
}

/* One plain sentence, without its quotes; ids and numbers hold nothing to escape. */
static void
write_sentence(struct buffer *out, const struct decision *decision)
{
    const struct verdict *why = decision->freezes != NULL ? decision->freezes : decision->least;
    char window[OBJECTIVE_WINDOW_SIZE];
    char from[TIMESTAMP_TEXT_SIZE];
    char to[TIMESTAMP_TEXT_SIZE];
    const struct slo_figures *figures;

    if (why == NULL) {
        buffer_append_text(out, "Go, but without data: no event came within the window of any "
                                "objective.");
        return;
    }
    figures = why->figures;
    objective_window_text(figures->objective, window);
    if (decision->freezes == NULL) {
        buffer_printf(out, "Go: %s, the nearest to its limit, has %.1f %% of its %s budget left.",
                      figures->objective->id, 100.0 * figures->error_budget_remaining, window);
    } else if (why->spent) {
        buffer_printf(out, "Freeze: the %s budget of %s is spent, %llu bad events of %.1f allowed.",
                      window, figures->objective->id, (unsigned long long)figures->bad,
                      figures->events_left + (double)figures->bad);
    } else {
        minute_text(why->incident.from_minute, from);
        minute_text(why->incident.to_minute, to);
        buffer_printf(out,
                      "Freeze: one incident, %s to %s, took %.1f %% of the %s budget of %s; more "
                      "than %.0f %% is too much for one.",
                      from, to, 100.0 * why->incident.share, window, figures->objective->id,
                      100.0 * SLO_GATE_INCIDENT_SHARE);
    }
}

static void
write_incident(struct buffer *out, const struct slo_incident *incident)
{
    char from[TIMESTAMP_TEXT_SIZE];
    char to[TIMESTAMP_TEXT_SIZE];

    if (incident->bad == 0) {
        buffer_append_text(out, ",\"worst_incident\":null");
        return;
    }
    minute_text(incident->from_minute, from);
    minute_text(incident->to_minute, to);
    buffer_printf(out,
                  ",\"worst_incident\":{\"from\":\"%s\",\"to\":\"%s\",\"bad\":%llu,"
                  "\"budget_share\":",
                  from, to, (unsigned long long)incident->bad);
    buffer_append_json_number(out, incident->share);
    buffer_append_char(out, '}');
}

static void
write_verdict(struct buffer *out, const struct verdict *verdict)
{
    const struct slo_figures *figures = verdict->figures;
    char window[OBJECTIVE_WINDOW_SIZE];

    objective_window_text(figures->objective, window);
    buffer_append_text(out, "{\"id\":");
    buffer_append_json_string(out, span_of(figures->objective->id));
    buffer_printf(out, ",\"type\":\"%s\",\"target\":", slo_type_name(figures->objective->type));
    buffer_append_json_number(out, figures->objective->target);
    buffer_printf(out, ",\"window\":\"%s\",\"health\":\"%s\",\"error_budget_remaining\":", window,
                  slo_health_name(figures->health));
    buffer_append_json_number(out, figures->error_budget_remaining);
    buffer_append_text(out, ",\"reasons\":[");
    if (verdict->spent) {
        buffer_append_text(out, "\"budget_spent\"");
    }
    if (verdict->incident_too_large) {
        buffer_append_text(out, verdict->spent ? ",\"incident\"" : "\"incident\"");
    }
    buffer_append_char(out, ']');
    write_incident(out, &verdict->incident);
    buffer_append_char(out, '}');
}

static void
write_decision(struct buffer *out, const struct slo_status_request *request,
               const struct decision *decision)
{
    char as_of[TIMESTAMP_TEXT_SIZE];

    (void)timestamp_format(request->now_us, as_of);
    buffer_printf(out, "{\"as_of\":\"%s\",\"degraded\":%s,\"service\":", as_of,
                  request->degraded ? "true" : "false");
    buffer_append_json_string(out, request->service);
    buffer_printf(out, ",\"decision\":\"%s\",\"health\":\"%s\",\"reason\":\"",
                  decision->freezes == NULL ? "go" : "freeze",
                  slo_health_name(decision->service.health));
    write_sentence(out, decision);
    buffer_append_text(out, "\",\"objectives\":[");
    for (uint32_t i = 0; i < decision->service.figure_count; i++) {
        if (i > 0) {
            buffer_append_char(out, ',');
        }
        write_verdict(out, &decision->verdict[i]);
    }
    buffer_append_text(out, "]}\n");
}

enum slo_gate
slo_gate_json(const struct slo_status_request *request, struct buffer *out)
{
    const struct slo_config *config = objective_set_config(request->objectives, request->config,
                                                           request->tenant, request->service);
    struct decision decision = {0};

    if (objective_set_config(request->objectives, NULL, request->tenant, request->service) ==
            NULL &&
        !slices_has_series(request->slices, request->tenant, request->service)) {
        return SLO_GATE_UNKNOWN;
    }
    if (slo_service_figures(request->slices, config, request->tenant, request->service,
                            request->now_us, &decision.service) != ERR_OK) {
        out->failed = true;
        return SLO_GATE_GO;
    }
    decide(request, config, &decision);
    write_decision(out, request, &decision);
    return decision.freezes == NULL ? SLO_GATE_GO : SLO_GATE_FREEZE;
}
