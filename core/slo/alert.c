/*
 * alert.c - thresholds in integers, the rules' latches, and the alerts they make.
 */
#include "core/slo/alert.h"

#include <math.h>

enum {
    MINUTES_PER_HOUR = 60,
    MINUTES_PER_DAY = 24 * MINUTES_PER_HOUR,
    SCALE_BELOW = 14 * MINUTES_PER_DAY,
    PERCENT = 100,
    PPB = 1000000000,
};

static const struct alert_rule RULES[ALERT_RULES] = {
    {ALERT_PAGE, 2, MINUTES_PER_HOUR, 5},
    {ALERT_PAGE, 5, INT64_C(6) * MINUTES_PER_HOUR, 30},
    {ALERT_TICKET, 10, INT64_C(3) * MINUTES_PER_DAY, INT64_C(6) * MINUTES_PER_HOUR},
};

static const char *const SEVERITY_NAMES[ALERT_SEVERITIES] = {
    [ALERT_PAGE] = "page",
    [ALERT_TICKET] = "ticket",
};

static const char *const STATUS_NAMES[ALERT_STATUSES] = {
    [ALERT_OK] = "ok",
    [ALERT_NO_DATA] = "pending-no-data",
    [ALERT_FIRING] = "firing",
    [ALERT_RESOLVED] = "resolved",
};

const char *
alert_severity_name(enum alert_severity severity)
{
    return severity < ALERT_SEVERITIES ? SEVERITY_NAMES[severity] : "";
}

const char *
alert_status_name(enum alert_status status)
{
    return status < ALERT_STATUSES ? STATUS_NAMES[status] : "";
}

static enum err
find_name(const char *const names[], unsigned count, struct span name, unsigned *out)
{
    for (unsigned i = 0; i < count; i++) {
        if (span_is(name, names[i])) {
            *out = i;
            return ERR_OK;
        }
    }
    return ERR_NOT_FOUND;
}

enum err
alert_severity_parse(struct span name, enum alert_severity *out)
{
    unsigned found;
    enum err err = find_name(SEVERITY_NAMES, ALERT_SEVERITIES, name, &found);

    if (err == ERR_OK) {
        *out = (enum alert_severity)found;
    }
    return err;
}

enum err
alert_status_parse(struct span name, enum alert_status *out)
{
    unsigned found;
    enum err err = find_name(STATUS_NAMES, ALERT_STATUSES, name, &found);

    if (err == ERR_OK) {
        *out = (enum alert_status)found;
    }
    return err;
}

/* ---- thresholds ---- */

static int64_t
scaled(int64_t minutes, int64_t period_minutes)
{
    if (period_minutes >= SCALE_BELOW) {
        return minutes;
    }
    return (minutes * period_minutes + SCALE_BELOW - 1) / SCALE_BELOW;
}

void
alert_rules(int64_t period_minutes, struct alert_rule out[ALERT_RULES])
{
    ASSERT(period_minutes > 0);
    for (size_t i = 0; i < ALERT_RULES; i++) {
        out[i] = RULES[i];
        out[i].long_minutes = scaled(RULES[i].long_minutes, period_minutes);
        out[i].short_minutes = scaled(RULES[i].short_minutes, period_minutes);
    }
}

double
alert_threshold(const struct alert_rule *rule, const struct slo_objective *objective)
{
    double threshold = (double)rule->share_percent * (double)objective->window_minutes /
                       ((double)rule->long_minutes * PERCENT);
    double reachable = (double)PPB / slo_budget_ppb(objective->target);

    return threshold < reachable ? threshold : reachable;
}

double
alert_burn_rate(const struct slo_objective *objective, struct alert_window window)
{
    uint64_t total = window.good + window.bad;

    if (total == 0) {
        return NAN;
    }
    return (double)window.bad / ((double)total * slo_budget_ppb(objective->target) / PPB);
}

/*
 * bad / total > share x period x (1 - T) / long. No product reaches 128 bits: a count has 56 of
 * them, a period 17, 10^11 has 37. When the right side is 1 or more only a total outage is left,
 * and when it is less a total outage is above it anyhow.
 */
bool
alert_above(const struct alert_rule *rule, const struct slo_objective *objective,
            struct alert_window window)
{
    unsigned __int128 total = (unsigned __int128)window.good + window.bad;
    unsigned __int128 spent =
        (unsigned __int128)window.bad * (uint64_t)rule->long_minutes * PPB * PERCENT;
    unsigned __int128 allowed = total * rule->share_percent * (uint64_t)objective->window_minutes *
                                slo_budget_ppb(objective->target);

    return window.bad > 0 && (window.good == 0 || spent > allowed);
}

/* ---- judging ---- */

static unsigned
rules_of(enum alert_severity severity)
{
    unsigned mask = 0;

    for (unsigned i = 0; i < ALERT_RULES; i++) {
        mask |= RULES[i].severity == severity ? 1U << i : 0;
    }
    return mask;
}

/* What the rules say at one moment: a bit per rule. */
struct verdict {
    unsigned hold;
    unsigned frozen;
};

/* Moves one rule on; HELD is whether it holds so far. */
static enum err
judge_rule(const struct alert_rule *rule, const struct slo_objective *objective,
           alert_window_fn *window, void *arg, bool *held, bool *frozen)
{
    struct alert_window recent;
    struct alert_window whole;
    enum err err = window(arg, rule->short_minutes, &recent);

    *frozen = false;
    if (err != ERR_OK) {
        return err;
    }
    if (recent.good + recent.bad == 0) {
        *frozen = true;
        return ERR_OK;
    }
    if (!alert_above(rule, objective, recent)) {
        *held = false;
        return ERR_OK;
    }
    if (*held) {
        return ERR_OK;
    }
    err = window(arg, rule->long_minutes, &whole);
    if (err == ERR_OK) {
        *held = alert_above(rule, objective, whole) &&
                (rule->severity != ALERT_PAGE || whole.bad >= objective->min_bad_events);
    }
    return err;
}

static enum err
judge_rules(const struct slo_objective *objective, alert_window_fn *window, void *arg,
            unsigned held_before, struct verdict *out)
{
    struct alert_rule rules[ALERT_RULES];

    *out = (struct verdict){0, 0};
    alert_rules(objective->window_minutes, rules);
    for (unsigned i = 0; i < ALERT_RULES; i++) {
        bool held = (held_before >> i & 1U) != 0;
        bool frozen;
        enum err err = judge_rule(&rules[i], objective, window, arg, &held, &frozen);

        if (err != ERR_OK) {
            return err;
        }
        out->hold |= held ? 1U << i : 0;
        out->frozen |= frozen ? 1U << i : 0;
    }
    return ERR_OK;
}

static uint8_t
first_rule(unsigned rules)
{
    return rules == 0 ? ALERT_RULE_NONE : (uint8_t)__builtin_ctz(rules);
}

static enum alert_status
next_status(const struct alert_state *state, unsigned hold, bool no_data, int64_t now_us)
{
    if (hold != 0) {
        return ALERT_FIRING;
    }
    if (state->status == ALERT_FIRING) {
        return ALERT_RESOLVED;
    }
    if (state->status == ALERT_RESOLVED && now_us - state->resolved_us < ALERT_RESOLVED_US) {
        return ALERT_RESOLVED;
    }
    return no_data ? ALERT_NO_DATA : ALERT_OK;
}

/* Enters STATUS. True when that is news to somebody who was told of the alert or must be. */
static bool
set_status(struct alert_state *state, enum alert_status status, int64_t now_us)
{
    bool first = state->since_us == 0;

    if (status == state->status && !first) {
        return false;
    }
    ASSERT(status != ALERT_RESOLVED || state->status == ALERT_FIRING);
    state->status = status;
    state->since_us = now_us;
    if (status == ALERT_FIRING) {
        state->fired_us = now_us;
        state->resolved_us = 0;
    } else if (status == ALERT_RESOLVED) {
        state->resolved_us = now_us;
    }
    return status == ALERT_FIRING || status == ALERT_RESOLVED;
}

/* Takes over what the rules say of one severity; HOLD_BACK: it must not begin to fire. */
static bool
take_verdict(struct alert_state *state, enum alert_severity severity, const struct verdict *verdict,
             bool hold_back, int64_t now_us)
{
    const unsigned mine = rules_of(severity);
    unsigned hold = verdict->hold & mine;
    bool changed;

    state->held_back = hold_back && hold != 0 && state->status != ALERT_FIRING;
    if (state->held_back) {
        hold = 0; /* not remembered either: when the page is over both windows are asked anew */
    }
    /* An alert stands on the rules that hold; without any, on all. */
    state->no_data = (verdict->frozen & (hold != 0 ? hold : mine)) == (hold != 0 ? hold : mine);
    changed = set_status(state, next_status(state, hold, state->no_data, now_us), now_us);
    state->rules = (uint8_t)hold;
    if (changed && state->status == ALERT_FIRING) {
        state->rule = first_rule(hold);
    }
    return changed;
}

enum err
alert_judge(const struct slo_objective *objective, int64_t now_us, alert_window_fn *window,
            void *arg, struct alert_state state[ALERT_SEVERITIES], bool *changed)
{
    struct verdict verdict;
    enum err err = judge_rules(objective, window, arg,
                               state[ALERT_PAGE].rules | state[ALERT_TICKET].rules, &verdict);

    if (err != ERR_OK) {
        return err;
    }
    for (unsigned s = 0; s < ALERT_SEVERITIES; s++) {
        if (state[s].since_us == 0) {
            state[s].rule = ALERT_RULE_NONE;
        }
    }
    if (take_verdict(&state[ALERT_PAGE], ALERT_PAGE, &verdict, false, now_us)) {
        *changed = true;
    }
    if (take_verdict(&state[ALERT_TICKET], ALERT_TICKET, &verdict,
                     state[ALERT_PAGE].status == ALERT_FIRING, now_us)) {
        *changed = true;
    }
    return ERR_OK;
}

bool
alert_withdraw(struct alert_state state[ALERT_SEVERITIES], int64_t now_us)
{
    bool changed = false;

    for (unsigned s = 0; s < ALERT_SEVERITIES; s++) {
        state[s].rules = 0;
        state[s].no_data = true;
        state[s].held_back = false;
        changed = set_status(&state[s], next_status(&state[s], 0, true, now_us), now_us) || changed;
    }
    return changed;
}

/* ---- words ---- */

uint8_t
alert_rule_told(const struct alert_state *state, enum alert_severity severity)
{
    if (state->rules != 0) {
        return first_rule(state->rules);
    }
    if (state->fired_us != 0 && state->rule < ALERT_RULES) {
        return state->rule;
    }
    return first_rule(rules_of(severity));
}

double
alert_budget_spent(const struct alert_facts *facts)
{
    return alert_burn_rate(facts->objective, facts->long_window) *
           (double)facts->rule->long_minutes / (double)facts->objective->window_minutes;
}

void
alert_duration(struct buffer *out, double seconds)
{
    int64_t minutes = seconds >= 60.0 * MINUTES_PER_DAY * 100000 ? INT64_C(100000) * MINUTES_PER_DAY
                                                                 : (int64_t)(seconds / 60.0);

    if (minutes < 1) {
        buffer_append_text(out, "less than a minute");
    } else if (minutes >= MINUTES_PER_DAY) {
        buffer_printf(out, "%lld d %lld h", (long long)(minutes / MINUTES_PER_DAY),
                      (long long)(minutes % MINUTES_PER_DAY / MINUTES_PER_HOUR));
    } else if (minutes >= MINUTES_PER_HOUR) {
        buffer_printf(out, "%lld h %lld min", (long long)(minutes / MINUTES_PER_HOUR),
                      (long long)(minutes % MINUTES_PER_HOUR));
    } else {
        buffer_printf(out, "%lld min", (long long)minutes);
    }
}

/* MINUTES in the largest unit that divides them. */
static int64_t
in_unit(int64_t minutes, const char *const units[3], const char **unit)
{
    if (minutes % MINUTES_PER_DAY == 0) {
        *unit = units[0];
        return minutes / MINUTES_PER_DAY;
    }
    if (minutes % MINUTES_PER_HOUR == 0) {
        *unit = units[1];
        return minutes / MINUTES_PER_HOUR;
    }
    *unit = units[2];
    return minutes;
}

void
alert_window_name(struct buffer *out, int64_t minutes)
{
    static const char *const UNITS[] = {"d", "h", "m"};
    const char *unit;
    int64_t count = in_unit(minutes, UNITS, &unit);

    buffer_printf(out, "%lld%s", (long long)count, unit);
}

static void
append_minutes(struct buffer *out, int64_t minutes)
{
    static const char *const UNITS[] = {"d", "h", "min"};
    const char *unit;
    int64_t count = in_unit(minutes, UNITS, &unit);

    buffer_printf(out, "%lld %s", (long long)count, unit);
}

/* "30-day budget" */
static void
append_budget(struct buffer *out, const struct slo_objective *objective)
{
    static const char *const UNITS[] = {"day", "hour", "minute"};
    const char *unit;
    int64_t count = in_unit(objective->window_minutes, UNITS, &unit);

    buffer_printf(out, "%lld-%s budget", (long long)count, unit);
}

/* "2.31 % of events failed in the last 1 h, 23.1 times what 99.9 % allows" */
static void
append_burn(struct buffer *out, const struct alert_facts *facts, struct alert_window window,
            int64_t minutes)
{
    const struct slo_objective *objective = facts->objective;
    double total = (double)window.good + (double)window.bad;
    double burn = alert_burn_rate(objective, window);

    buffer_printf(out, "%.3g %% of events ", 100.0 * (double)window.bad / total);
    if (objective->type == SLO_LATENCY) {
        buffer_printf(out, "took longer than %.10g ms in the last ",
                      objective->threshold_us / 1000.0);
    } else {
        buffer_append_text(out, "failed in the last ");
    }
    append_minutes(out, minutes);
    buffer_printf(
        out, burn < 100.0 ? ", %.3g times what %.9g %% allows" : ", %.0f times what %.9g %% allows",
        burn, objective->target * 100.0);
}

static void
append_end(struct buffer *out, const struct alert_facts *facts)
{
    const struct alert_window period = facts->period;
    double allowed =
        ((double)period.good + (double)period.bad) * slo_budget_ppb(facts->objective->target) / PPB;
    double left = allowed - (double)period.bad;
    double per_second = (double)facts->long_window.bad / ((double)facts->rule->long_minutes * 60.0);

    if (left <= 0.0) {
        buffer_append_text(out, "; the ");
        append_budget(out, facts->objective);
        buffer_append_text(out, " is gone");
    } else if (per_second > 0.0) {
        buffer_append_text(out, "; at this rate the ");
        append_budget(out, facts->objective);
        buffer_append_text(out, " is gone in ");
        alert_duration(out, left / per_second);
    }
}

static bool
has_events(struct alert_window window)
{
    return window.good + window.bad > 0;
}

void
alert_sentence(const struct alert_facts *facts, struct buffer *out)
{
    const struct alert_state *state = facts->state;

    buffer_append_span(out, facts->service);
    buffer_append_text(out, ": ");
    switch (state->status) {
    case ALERT_FIRING:
        if (has_events(facts->long_window)) {
            append_burn(out, facts, facts->long_window, facts->rule->long_minutes);
            append_end(out, facts);
        }
        if (state->no_data) {
            buffer_append_text(out, has_events(facts->long_window) ? "; " : "");
            buffer_append_text(out, "no events in the last ");
            append_minutes(out, facts->rule->short_minutes);
            buffer_append_text(out, ", so the alert stays as it was");
        }
        break;
    case ALERT_RESOLVED:
        if (has_events(facts->short_window)) {
            append_burn(out, facts, facts->short_window, facts->rule->short_minutes);
            buffer_append_text(out, "; ");
        }
        buffer_printf(out, "the %s is over", alert_severity_name(facts->severity));
        break;
    case ALERT_NO_DATA:
        buffer_append_text(out, "no events in the last ");
        append_minutes(out, facts->rule->short_minutes);
        buffer_append_text(out, ", so nothing is judged");
        break;
    case ALERT_OK:
        if (state->held_back) {
            buffer_append_text(out, "held back, since the objective's page fires");
        } else if (has_events(facts->long_window)) {
            append_burn(out, facts, facts->long_window, facts->rule->long_minutes);
        } else {
            buffer_append_text(out, "no alert");
        }
        break;
    case ALERT_STATUSES:
        ASSERT(false); /* not a status */
    }
}
