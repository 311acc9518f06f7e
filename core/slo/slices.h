/*
 * slices.h - every slice the SLO engine may be asked about, in memory, always up to the last ack.
 *
 * The store holds the sum of two things and does not care which event is where: what the log's
 * history of slices already covers, and each durable record after it. An event enters once, before
 * its ack, when its group is durable; a record that moves from the log to MySQL changes nothing
 * here, and neither does becoming a dead letter. Only an event that MySQL turned out to know
 * already is taken out again. So a figure never counts an event twice or late.
 *
 * Beside them stand the slices other nodes have written to the same database, replaced source by
 * source as they are re-read; sums cover both.
 *
 * Per series three levels are kept (minutes, hours, days), so a 30-day sum adds some 50 slices.
 * Minutes of an hour nobody writes to any more are packed into one block of encoded slices. Any
 * thread may call; locks are held per series and briefly.
 */
#ifndef SLUICE_CORE_SLICES_H
#define SLUICE_CORE_SLICES_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/slo/slice.h"

struct slices;

/*
 * Which minutes are violations: those whose bad share, in the sense of slice_good_bad(), is above
 * budget_ppb / 10^9. Compared in integers, so 999 of 1000 is not below 0.999.
 */
struct slices_limit {
    struct slice_measure measure;
    uint32_t budget_ppb; /* 1 to 10^9 */
};

/*
 * Fills LIMITS with those a new series will be asked about, at most MAX of them, and returns how
 * many. Called without a lock of the store's, from the thread that adds.
 */
typedef uint32_t slices_limits_fn(void *arg, struct span tenant, struct span service,
                                  struct slices_limit *limits, uint32_t max);

struct slices_config {
    struct slice_rules rules;
    slices_limits_fn *limits; /* whose violations are counted as minutes come, not at the first
                                 question; NULL: none */
    void *limits_arg;
    uint32_t
        series_max; /* series kept; an event beyond is logged and stored but not measured here */
    int64_t retain_minutes; /* minutes older than now - this are not kept; whole days (UTC) go at a
                               time */
    uint32_t
        open_hours_max; /* hours kept unpacked over all series, beside two per series; 0: 2048 */
};

/* ERR_INVALID: rules, series_max or retain_minutes make no sense. ERR_NO_MEMORY. */
MUST_CHECK enum err slices_new(struct slices **out, const struct slices_config *config);
void slices_free(struct slices *slices); /* NULL allowed; no other thread may use it any more */

const struct slice_rules *slices_rules(const struct slices *slices);

/*
 * Adds one measured event of this node; others are ignored. SEQ is its number in the log. NOW_US
 * decides what is too old to keep: such an event, and one of a series beyond series_max, is dropped
 * and counted. ERR_NO_MEMORY: nothing was added. One thread at a time, which is the only one that
 * makes changed thresholds count.
 */
MUST_CHECK enum err slices_add_event(struct slices *slices, const struct event *event, uint64_t seq,
                                     int64_t now_us);

/*
 * Takes an event out that slices_add_event() was given before, with the same SEQ. One that is no
 * longer there (dropped then, or expired since) is ignored. ERR_NO_MEMORY: nothing was taken out.
 */
MUST_CHECK enum err slices_remove_event(struct slices *slices, const struct event *event,
                                        uint64_t seq, int64_t now_us);

/*
 * Adds a slice of this node's stored history (at start). One that is too old is ignored. On
 * ERR_NO_MEMORY, ERR_CORRUPT (a count beyond 64 bits), ERR_INVALID (a name is not 1-255 bytes)
 * nothing was added.
 */
MUST_CHECK enum err slices_add(struct slices *slices, const struct slice_key *key,
                               const struct slice *slice, int64_t now_us);

/*
 * Sets the slice another node's partition has written for KEY; SOURCE identifies (node, partition).
 * Replaces what that source had given for the same key before; an empty slice takes it out. Errors
 * as slices_add(), with the former slice still in place.
 */
MUST_CHECK enum err slices_set_foreign(struct slices *slices, uint64_t source,
                                       const struct slice_key *key, const struct slice *slice,
                                       int64_t now_us);

/*
 * Sum over minutes [FROM, TO) of one series, added to *SUM; one consistent cut. An unknown series
 * and an empty range add nothing. ERR_NO_MEMORY and ERR_CORRUPT (overflow) leave *SUM as it was.
 */
MUST_CHECK enum err slices_sum(struct slices *slices, struct span tenant, struct span service,
                               int64_t from_minute, int64_t to_minute, struct slice *sum);

/* The same without the latency buckets, several times cheaper: what ratios and burn rates need. */
MUST_CHECK enum err slices_sum_counts(struct slices *slices, struct span tenant,
                                      struct span service, int64_t from_minute, int64_t to_minute,
                                      struct slice *sum);

/* The sums of several windows that end at the same minute. */
struct slices_window {
    int64_t from_minute;
    bool with_latency;
    struct slice sum;
};

/*
 * slices_sum(), or slices_sum_counts(), of COUNT windows [from_minute, TO): all of one moment. On
 * an error some sums may have been added.
 */
MUST_CHECK enum err slices_sum_windows(struct slices *slices, struct span tenant,
                                       struct span service, int64_t to_minute,
                                       struct slices_window *windows, size_t count);

static inline bool
slices_limit_broken(struct slices_limit limit, uint64_t good, uint64_t bad)
{
    return (unsigned __int128)bad * 1000000000U >
           ((unsigned __int128)good + bad) * limit.budget_ppb;
}

/*
 * Violations in [FROM, TO). Counts of past hours and days are remembered, so asking over 30 days
 * walks the minutes of the window's two edges only; all of them the first time a limit is asked
 * about that the store was not told of when the series began.
 */
uint64_t slices_violations(struct slices *slices, struct span tenant, struct span service,
                           int64_t from_minute, int64_t to_minute, struct slices_limit limit);

/*
 * Calls FN for each minute that is a violation, in order, with its good and bad. Hours known to
 * have none are passed over. FN must not call back into the store: it runs under the series' lock.
 */
void slices_each_violation(struct slices *slices, struct span tenant, struct span service,
                           int64_t from_minute, int64_t to_minute, struct slices_limit limit,
                           void (*fn)(void *arg, int64_t minute, uint64_t good, uint64_t bad),
                           void *arg);

/*
 * Calls FN for each minute in [FROM, TO) of a series that has events, in order, with its good and
 * bad. FN must not call back into the store: it runs under the series' lock.
 */
void slices_each_minute(struct slices *slices, struct span tenant, struct span service,
                        int64_t from_minute, int64_t to_minute,
                        void (*fn)(void *arg, int64_t minute, uint64_t good, uint64_t bad),
                        void *arg);

/*
 * Calls FN for each minute in [FROM, TO) of a series that has events, in order, with its slice, as
 * slices_each_minute() does. ERR_NO_MEMORY ends it.
 */
MUST_CHECK enum err slices_each_slice(
    struct slices *slices, struct span tenant, struct span service, int64_t from_minute,
    int64_t to_minute, void (*fn)(void *arg, int64_t minute, const struct slice *slice), void *arg);

/* Some event of the series is held. */
bool slices_has_series(struct slices *slices, struct span tenant, struct span service);

/*
 * Calls FN for each service of TENANT, in the order of the names' bytes. No lock is held meanwhile:
 * FN may call back into the store, and a service that comes or goes during the walk may be seen or
 * not.
 */
void slices_each_service(struct slices *slices, struct span tenant,
                         void (*fn)(void *arg, struct span service), void *arg);

/* Calls FN for each (tenant, service); for metrics. FN must not call back into the store. */
void slices_each_series(struct slices *slices,
                        void (*fn)(void *arg, struct span tenant, struct span service), void *arg);

/*
 * Calls FN for each series that has changed since it was last called for it, of TENANT or, when
 * absent, of all. FN must not call back into the store.
 */
void slices_take_changed(struct slices *slices, struct span tenant,
                         void (*fn)(void *arg, struct span tenant, struct span service), void *arg);

struct slices_stats {
    uint32_t series;
    uint64_t slices;         /* minutes held, over all series */
    uint64_t open_hours;     /* hours held unpacked */
    uint64_t dropped_events; /* beyond series_max, or an event too old when it came */
};
void slices_stats(struct slices *slices, struct slices_stats *out);

/*
 * Drops minutes older than the retention and series left without any, packs hours that ended over
 * ten minutes ago. The SLO ticker calls it, once a minute.
 */
void slices_expire(struct slices *slices, int64_t now_us);

#endif
