/*
 * alerts.h - every objective's alerts, of all tenants: judged when slices change, kept, told.
 *
 * The book holds one alert_state per (tenant, service, objective, severity). alerts_judge() moves
 * on the series that changed, and once a minute all of them, since windows move. Readers get their
 * tenant's changes judged first, so an answer includes every acked event.
 *
 * After a start other nodes' slices are not there at once. On some of the events nothing is judged,
 * or a restart would fire what all of them together do not, and resolve what they do: until the
 * store has settled the book shows what was restored.
 *
 * What has happened is made durable before anybody is told: alerts_collect() hands out the book's
 * bytes and the notices that are due as one cut; the caller stores the first, then passes on the
 * second. The bytes also say which changes the receiver has confirmed, so that a restart repeats
 * only what it must.
 *
 * Any thread may call anything. One lock guards the book; the store of slices is read under it.
 */
#ifndef SLUICE_CORE_ALERTS_H
#define SLUICE_CORE_ALERTS_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"
#include "core/base/metrics.h"
#include "core/slo/alert.h"
#include "core/slo/notifier.h"
#include "core/slo/slices.h"
#include "core/slo/slo.h"

struct alerts;

/* Fills *OUT with the objectives of a service. Must not call back; any thread. */
typedef void alerts_objectives_fn(void *arg, struct span tenant, struct span service,
                                  struct slo_config *out);

typedef void alerts_series_fn(void *arg, struct span tenant, struct span service);

struct alerts_config {
    struct slices *slices; /* borrowed */
    alerts_objectives_fn *objectives;
    /* Another number after every change of any objective; one call at a time. NULL: never. */
    uint64_t (*objectives_version)(void *arg);
    void *objectives_arg;
    /* Calls FN for each service that somebody has defined objectives of: it is watched before its
     * first event, too. ARG is objectives_arg; FN calls nothing of this. NULL: there are none. */
    void (*each_defined)(void *arg, alerts_series_fn *fn, void *fn_arg);
    /* Whether the store holds what it can have: nothing is judged before it has said so once. NULL:
     * from the beginning. Any thread, under the book's lock; must not call back. */
    bool (*settled)(void *arg);
    void *settled_arg;
};

/* ERR_NO_MEMORY. */
MUST_CHECK enum err alerts_new(struct alerts **out, const struct alerts_config *config);
void alerts_free(struct alerts *alerts); /* NULL allowed; no other thread may use it any more */

/*
 * Judges what has changed, and everything when NOW_US is in another minute than the last time or
 * objectives have changed. Series that cannot be judged for want of memory are judged with the next
 * minute.
 */
void alerts_judge(struct alerts *alerts, int64_t now_us);

/* Judges TENANT's changed series, and everything after a change of objectives: before reading. */
void alerts_refresh(struct alerts *alerts, struct span tenant, int64_t now_us);

/* ---- reading ---- */

/* The windows of one rule at this moment. */
struct alert_reading {
    struct alert_rule rule;
    double threshold;
    struct alert_window long_window;
    struct alert_window short_window;
};

struct alert_view {
    struct span tenant;
    struct span service;
    const struct slo_objective *objective;
    enum alert_severity severity;
    struct alert_state state;
    struct alert_reading reading[ALERT_RULES]; /* those of SEVERITY, the fastest first */
    uint8_t rule_number[ALERT_RULES];          /* the bit of state.rules */
    uint32_t reading_count;
    struct alert_window period;
};

struct alerts_filter {
    struct span tenant;
    struct span service; /* absent: all */
    int status;          /* enum alert_status, negative: all */
    int severity;        /* enum alert_severity, negative: all */
};

/*
 * Calls FN with each alert FILTER lets through, in the order of the names, figures of NOW_US. Under
 * the book's lock: FN must not call back. ERR_NO_MEMORY ends the walk.
 */
MUST_CHECK enum err alerts_each(struct alerts *alerts, const struct alerts_filter *filter,
                                int64_t now_us,
                                void (*fn)(void *arg, const struct alert_view *view), void *arg);

/* The states alone, without figures: of one service, or of all tenants (TENANT absent). As above.
 */
void alerts_each_state(struct alerts *alerts, struct span tenant, struct span service,
                       void (*fn)(void *arg, struct span tenant, struct span service,
                                  const char *objective, enum alert_severity severity,
                                  const struct alert_state *state),
                       void *arg);

struct alerts_stats {
    uint64_t watched; /* objectives of services */
    uint64_t fired;   /* since start */
    uint64_t resolved;
    uint64_t unsaved; /* times the state could not be stored */
    uint64_t judged;  /* objectives of services, as often as they were */
};
void alerts_stats(struct alerts *alerts, struct alerts_stats *out);
const struct metric_histogram *alerts_judge_seconds(const struct alerts *alerts);

/* ---- keeping and telling ---- */

enum {
    ALERTS_COLLECT_MAX = 256 /* notices in one cut */
};

/* Notices of one cut; free with alerts_cut_free(). */
struct alerts_cut {
    struct buffer bytes; /* the book's, when BYTES_DUE */
    bool bytes_due;
    struct notice *notices;
    size_t notice_count;
    bool was_full; /* there may be more notices due; kept when the cut is freed */
};

/*
 * One cut at NOW_US. Bytes are due after an alert fired, resolved or was confirmed, and for any
 * other change after a minute, or at once with ALL. Notices are due as REPEAT_US (see notifier.h)
 * says; negative: none, there is nobody to tell. They count as queued from now on. ERR_NO_MEMORY:
 * as if not called.
 */
MUST_CHECK enum err alerts_collect(struct alerts *alerts, int64_t now_us, int64_t repeat_us,
                                   bool all, struct alerts_cut *out);
void alerts_cut_free(struct alerts_cut *cut);

/* The bytes of the last cut could not be stored: they are due again. */
void alerts_unsaved(struct alerts *alerts);

/* NOTICE could not be queued: it is due again. */
void alerts_untold(struct alerts *alerts, const struct notice *notice);

/* The receiver has confirmed NOTICE, or will never take it. */
void alerts_told(struct alerts *alerts, const struct notice *notice);

/*
 * Takes over stored bytes, into a new book. ERR_CORRUPT, ERR_FORMAT (another version),
 * ERR_NO_MEMORY: the book is empty.
 */
MUST_CHECK enum err alerts_restore(struct alerts *alerts, struct span bytes);

#endif
