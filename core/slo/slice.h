/*
 * slice.h - the integers Sluice keeps per (tenant, service, minute), and nothing but integers.
 *
 * Everything an SLO figure needs is a sum of slices: windows add them, a refused event subtracts,
 * late events change their own minute. Ratios are formed once, at the end.
 *
 * A slice holds three sparse counters:
 *   status     HTTP status -> events               any good-status rule can be applied afterwards
 *   latency    exponential bucket -> events        schema 5, see histogram.h
 *   threshold  2t -> events at or below t us, 2t + 1 -> events above it; exact latency objectives
 * and the totals good, bad (status rule < 500) and timed (events that had a latency).
 *
 * Both sides of a threshold are counted, so that an objective made today does not take the events
 * of yesterday, which nobody compared with its threshold, for slow ones.
 *
 * Values, not objects: a zeroed slice is empty; slice_clear() frees. One thread at a time.
 */
#ifndef SLUICE_CORE_SLICE_H
#define SLUICE_CORE_SLICE_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"
#include "core/base/sparse.h"
#include "core/event/event.h"

struct slice {
    uint64_t good;
    uint64_t bad;
    uint64_t timed;
    struct sparse status;
    struct sparse latency;
    struct sparse threshold;
};

enum {
    SLICE_THRESHOLDS_MAX = 9, /* of one service: its objectives' and the default one */
    SLICE_RANGES_MAX = 8,
};

/* The largest good + bad of any slice, so that no sum of counters comes near the end of 64 bits. */
#define SLICE_TOTAL_MAX (UINT64_C(1) << 56)

struct thresholds;

/* Latency thresholds counted exactly, in microseconds, ascending. Borrowed, constant while used. */
struct slice_rules {
    uint32_t threshold_us[SLICE_THRESHOLDS_MAX]; /* each at least 1 */
    uint32_t threshold_count;
    struct thresholds *by_service; /* further ones of some services, see thresholds.h; NULL: none */
};

/* Statuses that are good: those in one of the ranges, or below 500 when there is none. */
struct slice_status_rule {
    uint32_t range_count;
    struct slice_status_range {
        uint16_t first;
        uint16_t last;
    } range[SLICE_RANGES_MAX]; /* unused ones are zero, so that equal rules have equal bytes */
};

/* What an objective takes for good: by status, or with a threshold by latency. */
struct slice_measure {
    uint32_t threshold_us; /* 0: GOOD_STATUS decides */
    struct slice_status_rule good_status;
};
_Static_assert(sizeof(struct slice_measure) == 4 + 4 + 4 * SLICE_RANGES_MAX, "no padding");

static inline bool
slice_measure_equal(const struct slice_measure *a, const struct slice_measure *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

/* True when RULES are as described above; rules given to any function here must be. */
bool slice_rules_valid(const struct slice_rules *rules);

/* Frees what the slice owns and empties it. */
void slice_clear(struct slice *slice);

static inline bool
slice_is_empty(const struct slice *slice)
{
    return slice->good == 0 && slice->bad == 0;
}

/*
 * Good and bad in the sense of one objective: by the statuses of all events, or by latencies at or
 * below and above its threshold, of the events that were compared with it.
 */
void slice_good_bad(const struct slice *slice, const struct slice_measure *measure,
                    uint64_t *good_out, uint64_t *bad_out);

/* Adds one measured event (asserted). Errors as slice_add(). */
MUST_CHECK enum err slice_add_event(struct slice *slice, const struct event *event,
                                    const struct slice_rules *rules);

/*
 * INTO += FROM, two different slices. ERR_NO_MEMORY, or ERR_CORRUPT when the total would be above
 * SLICE_TOTAL_MAX (no real traffic gets there), leave INTO as it was.
 */
MUST_CHECK enum err slice_add(struct slice *into, const struct slice *from);

/*
 * slice_add() in two steps, to change several slices together or none: after a reserve that
 * succeeded, slice_add_reserved() of the same FROM cannot fail, also if something was subtracted in
 * between.
 */
MUST_CHECK enum err slice_reserve(struct slice *into, const struct slice *from);
void slice_add_reserved(struct slice *into, const struct slice *from);

/* True when FROM can be subtracted: no counter of it is above INTO's. */
bool slice_covers(const struct slice *into, const struct slice *from);

/* INTO -= FROM. Subtracting more than is there is a bug (asserted). */
void slice_subtract(struct slice *into, const struct slice *from);

/* The slice's bytes (version, varint lists; drawn in slice.c), for the log and for MySQL. */
void slice_encode(const struct slice *slice, struct buffer *out);

/*
 * Adds the encoded slice to *INTO. ERR_FORMAT: another version; ERR_CORRUPT: not exactly one slice,
 * or its sums disagree; ERR_NO_MEMORY. All leave *INTO as it was. Equal slices have equal bytes,
 * and other bytes for the same slice are refused.
 */
MUST_CHECK enum err slice_decode_add(struct span bytes, struct slice *into);

/*
 * slice_good_bad() of an encoded slice that this process has made itself and kept in memory: read
 * no further than need be, not checked (asserted).
 */
void slice_own_good_bad(struct span bytes, const struct slice_measure *measure, uint64_t *good_out,
                        uint64_t *bad_out);

/* ---- slice_unit: one event as a slice, on the stack ---- */

/* SLICE borrows from the unit's own arrays: never copy a unit, never clear its slice. */
struct slice_unit {
    struct slice slice;
    struct sparse_entry status;
    struct sparse_entry latency;
    struct sparse_entry threshold[SLICE_THRESHOLDS_MAX];
};

/* Fills *UNIT from one measured event (asserted). */
void slice_unit_init(struct slice_unit *unit, const struct event *event,
                     const struct slice_rules *rules);

/* ---- slice_total: the sum of many slices ---- */

/*
 * Latency buckets are added up in a flat array, which costs a tenth of merging sorted lists. Errors
 * are those of slice_add(); after ERR_NO_MEMORY the total may only be cleared.
 */
struct slice_total {
    struct slice counts; /* its latency list stays empty */
    uint64_t *latency;   /* HISTOGRAM_BUCKETS zeroed counts of the caller's; NULL leaves them out */
    uint32_t used_from;  /* those of its counts that may not be zero */
    uint32_t used_to;
};

void slice_total_clear(struct slice_total *total);
MUST_CHECK enum err slice_total_add(struct slice_total *total, const struct slice *from);

/*
 * Takes out a part of what was added before (asserted). In between a total may be above
 * SLICE_TOTAL_MAX by the part of one addition that is to be taken out again.
 */
void slice_total_subtract(struct slice_total *total, const struct slice *from);

/*
 * The same for an encoded slice that this process has made itself and kept in memory: read once,
 * not checked (asserted). After an error the total may only be cleared.
 */
MUST_CHECK enum err slice_total_add_own(struct slice_total *total, struct span bytes);
void slice_total_subtract_own(struct slice_total *total, struct span bytes);

/* *INTO += TOTAL, or as it was on an error. */
MUST_CHECK enum err slice_total_finish(struct slice_total *total, struct slice *into);

/* ---- slice_set: the slices one batch touches, keyed (tenant, service, minute) ---- */

struct slice_key {
    struct span tenant;
    struct span service;
    int64_t minute; /* minutes since 1970, floor(occurred_at / 60 s) */
};
struct slice_set_entry {
    struct slice_key key; /* spans owned by the set */
    struct slice slice;
};
struct slice_set {
    struct slice_set_entry
        *entries; /* in key order (tenant, service, minute) after slice_set_sort */
    size_t len;
    size_t capacity;
    uint32_t *index; /* open-addressing table of entry numbers + 1 */
    size_t index_size;
};

void slice_set_clear(struct slice_set *set);

/* Adds one measured event to the slice of its minute. Errors leave the set as it was. */
MUST_CHECK enum err slice_set_add_event(struct slice_set *set, const struct event *event,
                                        const struct slice_rules *rules);

/* Orders the entries by key; afterwards only reading and clearing are allowed. */
void slice_set_sort(struct slice_set *set);

/* floor(us / 60 s), also for times before 1970. */
int64_t minute_of_us(int64_t us);

#endif
