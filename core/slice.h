/*
 * slice.h - the integers Sluice keeps per (tenant, service, minute), and nothing but integers.
 *
 * Everything an SLO figure needs is a sum of slices: windows add them, a refused event subtracts,
 * late events change their own minute. Ratios are formed once, at the end.
 *
 * A slice holds three sparse counters:
 *   status     HTTP status -> events               any good-status rule can be applied afterwards
 *   latency    exponential bucket -> events        schema 5, see histogram.h
 *   threshold  threshold in microseconds -> events at or below it, exact latency objectives
 * and the totals good, bad (status rule < 500) and timed (events that had a latency).
 *
 * Values, not objects: a zeroed slice is empty; slice_clear() frees. One thread at a time.
 */
#ifndef SLUICE_CORE_SLICE_H
#define SLUICE_CORE_SLICE_H

#include "core/base.h"
#include "core/buffer.h"
#include "core/err.h"
#include "core/event.h"

/* Sorted by key, no zero counts. */
struct sparse_entry {
    int32_t key;
    uint64_t count;
};
struct sparse {
    struct sparse_entry *entries;
    uint32_t len;
    uint32_t capacity;
};

struct slice {
    uint64_t good;
    uint64_t bad;
    uint64_t timed;
    struct sparse status;
    struct sparse latency;
    struct sparse threshold;
};

enum {
    SLICE_THRESHOLDS_MAX = 8
};

/* Latency thresholds counted exactly, in microseconds, ascending. Borrowed, constant while used. */
struct slice_rules {
    uint32_t threshold_us[SLICE_THRESHOLDS_MAX];
    uint32_t threshold_count;
};

/* Frees what the slice owns and empties it. */
void slice_clear(struct slice *slice);

/* Adds one measured event. ERR_NO_MEMORY leaves the slice as it was. */
MUST_CHECK enum err slice_add_event(struct slice *slice, const struct event *event,
                                    const struct slice_rules *rules);

/* INTO += FROM, or INTO -= FROM. Subtracting more than is there is a bug (asserted). */
MUST_CHECK enum err slice_add(struct slice *into, const struct slice *from);
MUST_CHECK enum err slice_subtract(struct slice *into, const struct slice *from);

/* The slice's bytes (version, varint lists; drawn in slice.c), for the log and for MySQL. */
void slice_encode(const struct slice *slice, struct buffer *out);

/* Adds the encoded slice to *INTO. ERR_CORRUPT or ERR_FORMAT leave it as it was. */
MUST_CHECK enum err slice_decode_add(struct span bytes, struct slice *into);

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

/* Adds one measured event to the slice of its minute. */
MUST_CHECK enum err slice_set_add_event(struct slice_set *set, const struct event *event,
                                        const struct slice_rules *rules);

/* Orders the entries by key; afterwards only reading and clearing are allowed. */
void slice_set_sort(struct slice_set *set);

/* floor(us / 60 s), also for times before 1970. */
int64_t minute_of_us(int64_t us);

#endif
