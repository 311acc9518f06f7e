/*
 * counts.h - how many events, and of how many users, by tenant, event name, channel, campaign and
 * time: exact to the microsecond at both edges, always up to the last ack.
 *
 * Two parts make up every answer: the history, in a store whose changes the journal makes durable
 * (core/counts/count_store.h), covers every event up to the sequence number the store itself
 * records; the tail, in memory, holds the events after it. A view takes the store's snapshot and
 * pins the tail after the number that snapshot names, so an event is always in exactly one of the
 * two (P4). The history follows the log, not the sink: the tail stays short while the sink is away,
 * and a restart has only the events after that number to read again.
 *
 * An event the sink turns out to hold already leaves the counts in the same commit
 * that notes the sink's progress: batch_fold() puts a removal into what advance() commits. The
 * total is right from that commit on; the user of a removed event leaves a moment later, when the
 * engine's thread has gone over the history.
 *
 * Threads: counts_add() and the journal's committer are one thread. A thread of the engine moves
 * the tail into the history and rolls it up. Views may be opened by any thread, each used by one.
 */
#ifndef SLUICE_CORE_COUNTS_H
#define SLUICE_CORE_COUNTS_H

#include "core/base/base.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/counts/count_store.h"
#include "core/counts/user_set.h"
#include "core/event/event.h"

enum {
    COUNTS_NAMES_MAX = 10000,  /* event names of all tenants; events of further ones are left out */
    COUNTS_CHANNELS_MAX = 255, /* per name; further ones count as COUNTS_OTHER */
    COUNTS_CAMPAIGNS_MAX = 1000, /* likewise */
    COUNTS_VALUES_MAX = 100000,  /* channels and campaigns of all names; likewise */
};

/* The value under which each_value() gives the events whose own value is beyond the limits. */
#define COUNTS_OTHER "(other)"

struct counts;      /* the engine */
struct counts_view; /* one consistent cut: every acked event once */

enum counts_dimension {
    COUNTS_BY_CHANNEL,
    COUNTS_BY_CAMPAIGN,
};

struct counts_filter {  /* spans borrowed for the call; data == NULL: any */
    struct span tenant; /* required */
    struct span event_name;
    struct span channel;
    struct span campaign_id;
};

/* A stored sum whose users were counted when it was stored, and have not been read yet. */
struct counts_part {
    bool present;
    uint8_t level;
    uint16_t channel;
    uint16_t campaign;
    uint32_t name;
    int64_t bucket_us;
    uint64_t users;
};

/*
 * A value: a zeroed sum is empty; counts_sum_clear() frees. A sum that is one stored sum and
 * nothing else keeps it in LONE, and USERS is empty: to say how many they are nobody has to read
 * them.
 */
struct counts_sum {
    uint64_t total;
    struct user_set users;
    struct counts_part lone;
};
uint64_t counts_sum_users(const struct counts_sum *sum);
void counts_sum_clear(struct counts_sum *sum);

struct counts_config {
    const struct clock *clock;
    struct count_store store;   /* borrowed until counts_free() */
    uint64_t history_bytes_max; /* of the store; beyond it the oldest days go */
};

/*
 * Reads what the store holds: names, and up to which sequence number it counts (counts_counted()).
 * The caller then gives each later record to counts_load(), in order. ERR_FORMAT: written by a
 * newer build; ERR_CORRUPT, ERR_IO, ERR_NO_MEMORY.
 */
MUST_CHECK enum err counts_new(struct counts **out, const struct counts_config *config);

/* Stops, frees. NULL allowed. No view may be open. */
void counts_free(struct counts *counts);

/* The last sequence number the history covers. Any thread. */
uint64_t counts_counted(struct counts *counts);

/*
 * A store that has never counted begins after SEQ: what came before is not in the counts. To be
 * called before the first event, and does nothing to a store that has begun.
 */
void counts_begin(struct counts *counts, uint64_t seq);

/*
 * Adds one durable event; numbers rise, gaps are records that could not be read. Before its ack, on
 * the committer's thread, and at start before counts_start(). Errors leave the event out and are
 * counted (dropped_events): ERR_NO_MEMORY.
 */
MUST_CHECK enum err counts_add(struct counts *counts, uint64_t seq, const struct event *event);

/*
 * Moves the whole tail into the history and rolls up what is due at NOW_US (wall clock). While the
 * engine's thread does not run: for a stop, and for tests.
 */
MUST_CHECK enum err counts_fold(struct counts *counts, int64_t now_us);

/* One commit of that; ERR_NOT_FOUND when nothing is due. */
MUST_CHECK enum err counts_fold_once(struct counts *counts, int64_t now_us);

/* Starts the engine's thread; the store must take changes by now. */
MUST_CHECK enum err counts_start(struct counts *counts);

/* Moves what the tail holds into the history, as far as the store takes it, joins. Idempotent. */
void counts_stop(struct counts *counts);

/*
 * ERR_AGAIN: too many readers now; ERR_IO, ERR_NO_MEMORY; ERR_CORRUPT: the history's state is
 * damaged. Any thread.
 */
MUST_CHECK enum err counts_view_open(struct counts *counts, struct counts_view **out);

/* NULL allowed. Views are short: never held over a call to the database or a socket. */
void counts_view_close(struct counts_view *view);

/*
 * Adds to *SUM, empty or of this view, the events with occurred_at in [FROM_US, TO_US), exact at
 * both edges. ERR_NO_MEMORY, ERR_CORRUPT, ERR_IO: *SUM may only be cleared.
 */
MUST_CHECK enum err counts_view_sum(struct counts_view *view, const struct counts_filter *filter,
                                    int64_t from_us, int64_t to_us, struct counts_sum *sum);

/*
 * The same per value of DIMENSION; VALUE.data == NULL: events without one. FN's first error ends
 * it. Values without events in the range are not given. Order unspecified.
 */
MUST_CHECK enum err counts_view_each_value(
    struct counts_view *view, const struct counts_filter *filter, enum counts_dimension dimension,
    int64_t from_us, int64_t to_us,
    enum err (*fn)(void *arg, struct span value, const struct counts_sum *sum), void *arg);

/*
 * Names of TENANT with their totals over the whole history and when each was last seen (the
 * latest occurred_at). Ordered by the name's bytes.
 */
MUST_CHECK enum err counts_view_each_name(struct counts_view *view, struct span tenant,
                                          enum err (*fn)(void *arg, struct span name,
                                                         uint64_t total, int64_t last_us),
                                          void *arg);

/*
 * True when an answer of this view so far was not all there is: it split or filtered by a value
 * some of whose events count as COUNTS_OTHER, damaged history was left out, there are events of
 * names beyond the limit or left out without memory, or it reached back to what has been dropped.
 */
bool counts_view_degraded(const struct counts_view *view);

/* In the last case: from when on the answers are complete. INT64_MIN: none reached so far. */
int64_t counts_view_complete_from(const struct counts_view *view);

struct counts_stats {
    uint32_t names;
    uint32_t values;      /* channels and campaigns over all names */
    uint64_t tail_events; /* in memory, not in the history yet */
    uint64_t counted_seq; /* last one the history covers */
    uint64_t begin_seq;   /* the history starts after this one */
    int64_t from_us;      /* earlier times have been dropped; INT64_MIN: none has */
    uint64_t history_bytes;
    uint64_t history_bytes_max;
    uint64_t dropped_events; /* of names beyond the limit, or without memory, since the start */
    uint64_t other_events;   /* with a value beyond the limits, since the start */
};
void counts_stats(struct counts *counts, struct counts_stats *out); /* any thread */

#endif
