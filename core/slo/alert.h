/*
 * alert.h - multi-window, multi-burn-rate alerts of one objective: rules, and the state machine.
 *
 * Pure arithmetic in given time (SLO.md; Google SRE Workbook, table 5-8). An objective has three
 * rules. Each compares the burn rate over a long and a short window with one threshold:
 *
 *   severity   long   short   budget spent   burn rate above (30 days)
 *   page       1 h    5 min    2 %           14.4
 *   page       6 h    30 min   5 %            6
 *   ticket     3 d    6 h     10 %            1
 *
 * Threshold = budget spent x period / long window, so every period has its own; it is clamped to
 * 1 / (1 - T), which a total outage just reaches. A period below 14 days scales the windows by
 * period / 14 days, rounded up to whole minutes: its thresholds stay about those of 14 days. All
 * comparisons are made in integers.
 *
 * A rule begins to hold when both windows are above the threshold, a page also only with
 * min_bad_events bad events in the long one. It ends when the short window is not above any more. A
 * short window without events decides nothing: the rule stays as it is, frozen. An alert is what
 * the rules of one severity make together: it fires while any of them holds.
 */
#ifndef SLUICE_CORE_ALERT_H
#define SLUICE_CORE_ALERT_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"
#include "core/slo/slo.h"

enum alert_severity {
    ALERT_PAGE,
    ALERT_TICKET, /* does not begin to fire while the objective's page fires */
    ALERT_SEVERITIES
};

/* The numbers are those of the state file. */
enum alert_status {
    ALERT_OK = 0,
    ALERT_NO_DATA = 1,  /* not firing, and no rule's short window had an event: nothing is judged */
    ALERT_FIRING = 2,   /* also while frozen: silence is no recovery */
    ALERT_RESOLVED = 3, /* for ALERT_RESOLVED_US after it fired, then ok */
    ALERT_STATUSES
};

enum {
    ALERT_RULES = 3,
    ALERT_RULE_NONE = 255
};

#define ALERT_RESOLVED_US INT64_C(300000000)

struct alert_rule {
    enum alert_severity severity;
    uint32_t share_percent; /* of the period's budget, spent in the long window at the threshold */
    int64_t long_minutes;
    int64_t short_minutes;
};

/* The rules of a period, the fastest first. PERIOD_MINUTES > 0. */
void alert_rules(int64_t period_minutes, struct alert_rule out[ALERT_RULES]);

/* The burn rate above which RULE holds, clamped. */
double alert_threshold(const struct alert_rule *rule, const struct slo_objective *objective);

/* Events of one window, in the objective's sense of good. */
struct alert_window {
    uint64_t good;
    uint64_t bad;
};

/* (bad / total) / (1 - T); NAN without events. */
double alert_burn_rate(const struct slo_objective *objective, struct alert_window window);

/* Whether WINDOW burns above RULE's threshold; a total outage does when the threshold is clamped.
 */
bool alert_above(const struct alert_rule *rule, const struct slo_objective *objective,
                 struct alert_window window);

/* One alert. Zeroed: never judged. Times are microseconds since 1970, 0 for never. */
struct alert_state {
    enum alert_status status;
    uint8_t rules;       /* bit per rule that holds */
    uint8_t rule;        /* the one that made it fire last, ALERT_RULE_NONE when none has */
    bool no_data;        /* frozen, or never judged, for want of events */
    bool held_back;      /* a ticket that would fire if the page did not */
    int64_t since_us;    /* when STATUS began */
    int64_t fired_us;    /* when it last began to fire ... */
    int64_t resolved_us; /* ... and when that ended; 0 while it fires */
};

/* Gives the events of the MINUTES that end with the present one. */
typedef enum err alert_window_fn(void *arg, int64_t minutes, struct alert_window *out);

/*
 * Moves the objective's alerts on to NOW_US. Long windows are asked for only where they decide.
 * *CHANGED is set when an alert began to fire or resolved, else left. An error of WINDOW is
 * returned, and the states are as they were.
 */
MUST_CHECK enum err alert_judge(const struct slo_objective *objective, int64_t now_us,
                                alert_window_fn *window, void *arg,
                                struct alert_state state[ALERT_SEVERITIES], bool *changed);

/* The objective is no more: what fires resolves. True when something did. */
bool alert_withdraw(struct alert_state state[ALERT_SEVERITIES], int64_t now_us);

/* "page", "ticket"; "ok", "pending-no-data", "firing", "resolved". */
const char *alert_severity_name(enum alert_severity severity);
const char *alert_status_name(enum alert_status status);

/* Reads such a name. ERR_NOT_FOUND: it is none. */
MUST_CHECK enum err alert_severity_parse(struct span name, enum alert_severity *out);
MUST_CHECK enum err alert_status_parse(struct span name, enum alert_status *out);

/* What the sentence about an alert is made of. */
struct alert_facts {
    struct span service;
    const struct slo_objective *objective;
    enum alert_severity severity;
    const struct alert_state *state;
    const struct alert_rule *rule; /* the one told of */
    struct alert_window long_window;
    struct alert_window short_window;
    struct alert_window period;
};

/* The rule to tell of: the fastest that holds, else the one that fired last, else the fastest. */
uint8_t alert_rule_told(const struct alert_state *state, enum alert_severity severity);

/* Share of the period's budget that the long window has spent, at the period's mean traffic. */
double alert_budget_spent(const struct alert_facts *facts);

/* Appends one plain sentence: "... at this rate the 30-day budget is gone in 2 d 1 h". */
void alert_sentence(const struct alert_facts *facts, struct buffer *out);

/* Appends a span of time in its two largest units: "2 d 1 h", "3 h 20 min", "41 min". */
void alert_duration(struct buffer *out, double seconds);

/* Appends a window's name: 30d, 36h, 90m. */
void alert_window_name(struct buffer *out, int64_t minutes);

#endif
