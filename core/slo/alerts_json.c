#include "core/slo/alerts_json.h"

#include <stdlib.h>

#include "core/base/json_member.h"
#include "core/slo/objective.h"

/* Where one alert's JSON lies, and what it is sorted by. */
struct piece {
    uint32_t rank;
    uint32_t order; /* of the walk: by name */
    int64_t since_us;
    size_t at;
    size_t len;
};

struct pieces {
    struct buffer text;
    struct buffer items; /* of struct piece */
    uint32_t count;
    uint64_t firing;
};

static uint32_t
rank_of(const struct alert_view *view)
{
    switch (view->state.status) {
    case ALERT_FIRING:
        return view->severity == ALERT_PAGE ? 0 : 1;
    case ALERT_RESOLVED:
        return 2;
    case ALERT_NO_DATA:
        return 3;
    case ALERT_OK:
    case ALERT_STATUSES:
        break;
    }
    return 4;
}

static void
write_number(struct buffer *out, const char *key, double value)
{
    buffer_printf(out, ",\"%s\":", key);
    buffer_append_json_number(out, value);
}

static void
write_flag(struct buffer *out, const char *key, bool value)
{
    buffer_printf(out, ",\"%s\":%s", key, value ? "true" : "false");
}

static void
write_window(struct buffer *out, const char *key, int64_t minutes)
{
    buffer_printf(out, "\"%s\":\"", key);
    alert_window_name(out, minutes);
    buffer_append_char(out, '"');
}

static struct alert_facts
facts_of(const struct alert_view *view, uint32_t at)
{
    const struct alert_reading *reading = &view->reading[at];

    return (struct alert_facts){
        .service = view->service,
        .objective = view->objective,
        .severity = view->severity,
        .state = &view->state,
        .rule = &reading->rule,
        .long_window = reading->long_window,
        .short_window = reading->short_window,
        .period = view->period,
    };
}

static void
write_rule(struct buffer *out, const struct alert_view *view, uint32_t at)
{
    const struct alert_reading *reading = &view->reading[at];
    const struct alert_facts facts = facts_of(view, at);

    buffer_append_char(out, '{');
    write_window(out, "long_window", reading->rule.long_minutes);
    buffer_append_char(out, ',');
    write_window(out, "short_window", reading->rule.short_minutes);
    write_number(out, "threshold", reading->threshold);
    buffer_append_text(out, ",\"burn_rate\":{\"long\":");
    buffer_append_json_number(out, alert_burn_rate(view->objective, reading->long_window));
    write_number(out, "short", alert_burn_rate(view->objective, reading->short_window));
    buffer_append_text(out, "},\"bad_events\":");
    buffer_append_u64(out, reading->long_window.bad);
    write_number(out, "budget_spent", alert_budget_spent(&facts));
    write_flag(out, "holds", (view->state.rules >> view->rule_number[at] & 1U) != 0);
    buffer_append_char(out, '}');
}

static void
write_sentence(struct buffer *out, const struct alert_view *view)
{
    const uint8_t told = alert_rule_told(&view->state, view->severity);
    struct buffer sentence = BUFFER_EMPTY;
    struct alert_facts facts;
    uint32_t at = 0;

    for (uint32_t i = 0; i < view->reading_count; i++) {
        at = view->rule_number[i] == told ? i : at;
    }
    facts = facts_of(view, at);
    alert_sentence(&facts, &sentence);
    buffer_append_text(out, ",\"summary\":");
    buffer_append_json_string(out, buffer_span(&sentence));
    out->failed = out->failed || sentence.failed;
    buffer_free(&sentence);
}

static void
write_alert(struct buffer *out, const struct alert_view *view)
{
    const struct slo_objective *objective = view->objective;
    const struct alert_state *state = &view->state;
    char window[OBJECTIVE_WINDOW_SIZE];

    buffer_append_text(out, "{\"service\":");
    buffer_append_json_string(out, view->service);
    buffer_append_text(out, ",\"objective\":");
    buffer_append_json_string(out, span_of(objective->id));
    buffer_printf(out, ",\"type\":\"%s\",\"severity\":\"%s\",\"state\":\"%s\"",
                  slo_type_name(objective->type), alert_severity_name(view->severity),
                  alert_status_name(state->status));
    write_flag(out, "no_data", state->no_data);
    write_flag(out, "held_back", state->held_back);
    json_member_moment(out, "since", state->since_us);
    json_member_moment(out, "fired_at", state->fired_us);
    json_member_moment(out, "resolved_at", state->resolved_us);
    write_number(out, "target", objective->target);
    objective_window_text(objective, window);
    buffer_printf(out, ",\"window\":\"%s\"", window);
    buffer_printf(out, ",\"min_bad_events\":%u",
                  view->severity == ALERT_PAGE ? objective->min_bad_events : 0);
    buffer_append_text(out, ",\"rules\":[");
    for (uint32_t i = 0; i < view->reading_count; i++) {
        if (i > 0) {
            buffer_append_char(out, ',');
        }
        write_rule(out, view, i);
    }
    buffer_append_char(out, ']');
    write_sentence(out, view);
    buffer_append_char(out, '}');
}

static void
add_piece(void *arg, const struct alert_view *view)
{
    struct pieces *pieces = arg;
    struct piece piece = {
        .rank = rank_of(view),
        .order = pieces->count++,
        .since_us = view->state.since_us,
        .at = pieces->text.len,
    };

    write_alert(&pieces->text, view);
    piece.len = pieces->text.len - piece.at;
    pieces->firing += view->state.status == ALERT_FIRING ? 1 : 0;
    buffer_append(&pieces->items, &piece, sizeof(piece));
}

static int
compare_pieces(const void *left, const void *right)
{
    const struct piece *a = left;
    const struct piece *b = right;

    if (a->rank != b->rank) {
        return a->rank < b->rank ? -1 : 1;
    }
    if (a->since_us != b->since_us) {
        return a->since_us > b->since_us ? -1 : 1;
    }
    return a->order < b->order ? -1 : a->order > b->order;
}

void
alerts_json(struct alerts *alerts, const struct alerts_filter *filter, int64_t now_us,
            struct buffer *out)
{
    struct pieces pieces = {.text = BUFFER_EMPTY, .items = BUFFER_EMPTY};
    enum err err = alerts_each(alerts, filter, now_us, add_piece, &pieces);
    const struct piece *piece;

    if (err != ERR_OK || pieces.text.failed || pieces.items.failed) {
        out->failed = true;
    } else {
        if (pieces.count > 0) {
            qsort(pieces.items.data, pieces.count, sizeof(struct piece), compare_pieces);
        }
        buffer_append_text(out, "{\"firing\":");
        buffer_append_u64(out, pieces.firing);
        json_member_moment(out, "as_of", now_us);
        buffer_append_text(out, ",\"alerts\":[");
        piece = (const struct piece *)(const void *)pieces.items.data;
        for (uint32_t i = 0; i < pieces.count; i++) {
            if (i > 0) {
                buffer_append_char(out, ',');
            }
            buffer_append(out, pieces.text.data + piece[i].at, piece[i].len);
        }
        buffer_append_text(out, "]}");
    }
    buffer_free(&pieces.text);
    buffer_free(&pieces.items);
}

/* ---- the short form ---- */

struct brief {
    const char *objective;
    struct buffer *out;
    bool any;
};

static void
add_brief(void *arg, struct span tenant, struct span service, const char *objective,
          enum alert_severity severity, const struct alert_state *state)
{
    struct brief *brief = arg;

    (void)tenant;
    (void)service;
    if (strcmp(objective, brief->objective) != 0 ||
        (state->status != ALERT_FIRING && state->status != ALERT_RESOLVED)) {
        return;
    }
    buffer_printf(brief->out, "%s{\"severity\":\"%s\",\"state\":\"%s\"", brief->any ? "," : "",
                  alert_severity_name(severity), alert_status_name(state->status));
    write_flag(brief->out, "no_data", state->no_data);
    json_member_moment(brief->out, "since", state->since_us);
    buffer_append_char(brief->out, '}');
    brief->any = true;
}

void
alerts_json_brief(struct alerts *alerts, struct span tenant, struct span service,
                  const char *objective, struct buffer *out)
{
    struct brief brief = {objective, out, false};

    buffer_append_char(out, '[');
    if (alerts != NULL) {
        alerts_each_state(alerts, tenant, service, add_brief, &brief);
    }
    buffer_append_char(out, ']');
}
