/*
 * slices.h - every slice the SLO engine may be asked about, in memory, always up to the last ack.
 *
 * The store holds the sum of two things and does not care which event is where: what the log's
 * history of slices already covers, and each durable record after it. An event enters once, before
 * its ack, when its group is durable; a record that moves from the log to MySQL changes nothing
 * here. Only an event that MySQL turned out to know already, or refused, is taken out again. So a
 * figure never counts an event twice or late.
 *
 * Beside them stand the slices other nodes have written to the same database, replaced source by
 * source as they are re-read; sums cover both.
 *
 * Per series three levels are kept (minutes, hours, days), so a 30-day sum adds some 200 slices.
 * Any thread may call; locks are held per series and briefly.
 */
#ifndef SLUICE_CORE_SLICES_H
#define SLUICE_CORE_SLICES_H

#include "core/base.h"
#include "core/err.h"
#include "core/slice.h"

struct slices;

struct slices_config {
    struct slice_rules rules;
    uint32_t
        series_max; /* series kept; an event beyond is logged and stored but not measured here */
    int64_t retain_minutes; /* minutes older than now - this are not kept */
};

MUST_CHECK enum err slices_new(struct slices **out, const struct slices_config *config);
void slices_free(struct slices *slices); /* NULL allowed; no other thread may use it any more */

const struct slice_rules *slices_rules(const struct slices *slices);

/* Adds or takes out one measured event of this node. NOW_US decides what is too old to keep. */
MUST_CHECK enum err slices_add_event(struct slices *slices, const struct event *event,
                                     int64_t now_us);
MUST_CHECK enum err slices_remove_event(struct slices *slices, const struct event *event,
                                        int64_t now_us);

/* Adds a slice of this node's stored history (at start). */
MUST_CHECK enum err slices_add(struct slices *slices, const struct slice_key *key,
                               const struct slice *slice, int64_t now_us);

/*
 * Sets the slice another node's partition has written for KEY; SOURCE identifies (node, partition).
 * Replaces what that source had given for the same key before.
 */
MUST_CHECK enum err slices_set_foreign(struct slices *slices, uint64_t source,
                                       const struct slice_key *key, const struct slice *slice,
                                       int64_t now_us);

/* Sum over minutes [FROM, TO) of one series, added to *SUM. An unknown series adds nothing. */
MUST_CHECK enum err slices_sum(struct slices *slices, struct span tenant, struct span service,
                               int64_t from_minute, int64_t to_minute, struct slice *sum);

/* Calls FN for each minute in [FROM, TO) of a series that has events, in order, with its good and
 * bad. */
void slices_each_minute(struct slices *slices, struct span tenant, struct span service,
                        int64_t from_minute, int64_t to_minute,
                        void (*fn)(void *arg, int64_t minute, uint64_t good, uint64_t bad),
                        void *arg);

/* Calls FN for each service of TENANT, in name order. FN may call back into the store. */
void slices_each_service(struct slices *slices, struct span tenant,
                         void (*fn)(void *arg, struct span service), void *arg);

/* Calls FN for each (tenant, service); for metrics. FN must not call back into the store. */
void slices_each_series(struct slices *slices,
                        void (*fn)(void *arg, struct span tenant, struct span service), void *arg);

struct slices_stats {
    uint32_t series;
    uint64_t slices;
    uint64_t dropped_events; /* beyond series_max or too old */
};
void slices_stats(struct slices *slices, struct slices_stats *out);

/* Drops minutes older than the retention. The SLO ticker calls it. */
void slices_expire(struct slices *slices, int64_t now_us);

#endif
