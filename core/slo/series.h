/*
 * series.h - one (tenant, service) of the SLO engine's slices. Internal: of slices.c and
 * series_*.c.
 *
 *   series -> days   (start, sum)
 *          -> hours  (start, open: sum and minutes | packed: the same, encoded in one block)
 *          -> sources of other nodes (minute, encoded slice)
 *          -> runs   (sums of ranges asked about again and again, runs.h)
 *
 * Invariant: each hour is the sum of its minutes, each day that of its hours, and nothing empty is
 * kept. Minutes expire by whole days, so that the levels lose the same events at the same time.
 *
 * series.c changes, series_hours.c packs and opens, series_sum.c and series_violations.c read. No
 * function here locks: the caller holds the series' lock, except where it says otherwise.
 */
#ifndef SLUICE_CORE_SERIES_H
#define SLUICE_CORE_SERIES_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/base/base.h"
#include "core/base/bytes.h"
#include "core/base/err.h"
#include "core/slo/line.h"
#include "core/slo/runs.h"
#include "core/slo/slice.h"
#include "core/slo/slices.h"

enum {
    HOUR = 60, /* minutes */
    DAY = 24 * HOUR,
    OPEN_PER_SERIES = 2,         /* the present hour and the one before are never packed for room */
    LIMITS_MAX = RUN_LIMITS_MAX, /* of one series; a bit each in what an hour or a day knows */
    LENGTH_SHORT = 255, /* a packed slice's length is one byte; this one says that four follow */
    LENGTH_BYTES = 4,
};

struct minute {
    int64_t start;
    struct slice slice;
};

struct open_hour {
    struct slice sum;
    struct line minutes;
    uint64_t dirty;              /* bit m: minute m has changed since BROKEN was counted */
    uint64_t broken[LIMITS_MAX]; /* bit m: minute m is a violation of limit i ... */
    uint16_t counted;            /* ... if bit i is set here */
};

/* The limits a series was asked about last. What is known of one goes by its place here. */
struct limits {
    uint32_t len;
    uint64_t tick; /* questions */
    struct {
        struct slices_limit limit;
        uint64_t used; /* tick of the last question */
    } entry[LIMITS_MAX];
};

struct hour {
    int64_t start;
    struct open_hour *open; /* NULL while packed */
    char *packed;           /* NULL while open */
    uint64_t used;          /* series' tick at the last change */
    uint32_t packed_len;
    uint8_t minute_count;
    uint8_t violations[LIMITS_MAX]; /* those of limit i, while bit i of KNOWN is set */
    uint16_t known;
};

struct day {
    int64_t start;
    struct slice sum;
    uint16_t violations[LIMITS_MAX]; /* as an hour's */
    uint16_t known;
};

struct foreign {
    int64_t start;
    char *bytes;
    size_t len;
};

struct source {
    int64_t id; /* the caller's number, as the bits of a line's start */
    struct line slices;
};

/* What all series of a store hold together; any thread. */
struct series_room {
    _Atomic uint64_t minutes;
    _Atomic uint64_t open_hours;
    uint32_t open_hours_max; /* beside OPEN_PER_SERIES of each */
};

struct series {
    struct span tenant; /* both names are in one block behind the struct; never change */
    struct span service;
    uint64_t hash;
    struct series_room *room;
    _Atomic bool changed; /* since slices_take_changed() */
    pthread_mutex_t lock; /* guards all below */
    struct line days;
    struct line hours;
    struct line sources;
    struct limits *limits;
    struct runs *runs;
    uint64_t tick;
    uint32_t open_count;
};

/* Minutes [from, to), to at least from. */
struct range {
    int64_t from;
    int64_t to;
};

/*
 * A range as it is best read: [from, settled) from a run, if RUN is set, and [settled, to) from the
 * levels.
 */
struct reading {
    int64_t from;
    int64_t settled;
    int64_t to;
    struct run *run;
};

/* ---- life and changes (series.c) ---- */

/* A series without minutes; the names are copied. ROOM outlives it. NULL without memory. */
struct series *series_new(struct series_room *room, struct span tenant, struct span service);
void series_free(struct series *series); /* nobody else knows it any more */

/* Adds SLICE to MINUTE. ERR_NO_MEMORY, ERR_CORRUPT (a count beyond 64 bits): nothing was added. */
MUST_CHECK enum err series_add(struct series *series, int64_t minute, const struct slice *slice);

/*
 * Takes out one of this node's own events. One that is not there was dropped when it came, and must
 * not be taken from what other nodes have counted in the same minute. ERR_NO_MEMORY: nothing was
 * taken out.
 */
MUST_CHECK enum err series_subtract_own(struct series *series, int64_t minute,
                                        const struct slice *slice);

/* Sets what source ID has given for MINUTE; an empty SLICE takes it out. Errors as series_add(). */
MUST_CHECK enum err series_set_foreign(struct series *series, int64_t id, int64_t minute,
                                       const struct slice *slice);

/* Drops what starts before BEFORE, a whole day; packs open hours that ended before PACK_BEFORE. */
void series_expire(struct series *series, int64_t before, int64_t pack_before);

/* ---- hours (series_hours.c) ---- */

/* Opens HOUR, new or packed. ERR_NO_MEMORY leaves it as it was. */
MUST_CHECK enum err hour_open(struct series *series, struct hour *hour);

/* Packs an open hour. Without memory it stays open, which costs room and nothing else. */
void hour_pack(struct series *series, struct hour *hour);

/* Gives up what HOUR holds, except its place in the line. */
void hour_empty(struct series *series, struct hour *hour);

/*
 * Number of the first hour that could hold FROM or later minutes. Hours without events are few, so
 * counting back from the last one mostly finds it.
 */
size_t series_first_hour(const struct series *series, int64_t from);

/* Hour number *AT when it starts before TO, else NULL; moves *AT on. */
struct hour *series_next_hour(const struct series *series, size_t *at, int64_t to);

/*
 * More of HOUR is in [FROM, TO) than outside, so that leaving the rest out is less work. By its
 * minutes while they are at hand, since those to come weigh nothing.
 */
bool hour_is_most(const struct hour *hour, int64_t from, int64_t to);

/* The same of UNIT from START on. */
static inline bool
range_is_most(int64_t start, int64_t unit, int64_t from, int64_t to)
{
    const int64_t first = from > start ? from : start;
    const int64_t end = to < start + unit ? to : start + unit;

    return end - first > unit / 2;
}

/* ---- sums (series_sum.c) ---- */

/* [FROM, TO) within the minutes an event can be in. */
struct range range_clip(int64_t from, int64_t to);

/*
 * How to read RANGE. When nothing lies beyond its end that is moved behind the last day, so that
 * the end that is now cuts neither that day nor its hour. A run ends before that day or, of a
 * shorter range, before that hour, which most changes are made in.
 */
struct reading series_plan(struct series *series, struct range range, bool with_latency);

/*
 * Adds RANGE to *SUM; latencies by way of LATENCY (HISTOGRAM_BUCKETS zeros, and again afterwards),
 * if any. ERR_NO_MEMORY and ERR_CORRUPT (overflow) leave *SUM as it was.
 */
MUST_CHECK enum err series_sum(struct series *series, struct range range, uint64_t *latency,
                               struct slice *sum);

/* ---- violations (series_violations.c) ---- */

/* Those of LIMIT in RANGE. */
uint64_t series_violations(struct series *series, struct range range, struct slices_limit limit);

/* Calls FN for each of them, in order; hours known to have none are passed over. */
void series_each_violation(struct series *series, struct range range, struct slices_limit limit,
                           void (*fn)(void *arg, int64_t minute, uint64_t good, uint64_t bad),
                           void *arg);

/*
 * Counts an open hour's violations of all limits. Only minutes that have changed are looked at:
 * which they are is all that is noted when an event comes. LIMITS may be NULL.
 */
void limits_count_hour(const struct limits *limits, struct hour *hour);

/* The first minute of the UNIT (HOUR, DAY) that MINUTE is in. */
static inline int64_t
minute_floor(int64_t minute, int64_t unit)
{
    int64_t rest = minute % unit;

    return minute - (rest < 0 ? rest + unit : rest);
}

/* ---- packed hours: the sum's length and bytes, then of each minute its place and the same ---- */

/* Takes the next packed slice from *REST. The bytes are our own, so a bad length is our bug. */
static inline struct span
unpack_slice(struct span *rest)
{
    struct span slice = {rest->data + 1, 0};

    ASSERT(rest->len > 0);
    slice.len = (uint8_t)rest->data[0];
    if (slice.len == LENGTH_SHORT) {
        ASSERT(rest->len > LENGTH_BYTES);
        slice.len = get_u32((const uint8_t *)slice.data);
        slice.data += LENGTH_BYTES;
    }
    ASSERT(slice.len <= rest->len - (size_t)(slice.data - rest->data));
    rest->len -= (size_t)(slice.data - rest->data) + slice.len;
    rest->data = slice.data + slice.len;
    return slice;
}

/* The packed minutes of HOUR one by one; false after the last. *REST begins as packed_minutes(). */
static inline bool
unpack_minute(const struct hour *hour, struct span *rest, int64_t *minute, struct span *slice)
{
    if (rest->len == 0) {
        return false;
    }
    *minute = hour->start + (uint8_t)rest->data[0];
    rest->data++;
    rest->len--;
    *slice = unpack_slice(rest);
    return true;
}

static inline struct span
packed_sum(const struct hour *hour)
{
    struct span rest = {hour->packed, hour->packed_len};

    return unpack_slice(&rest);
}

static inline struct span
packed_minutes(const struct hour *hour)
{
    struct span rest = {hour->packed, hour->packed_len};

    (void)unpack_slice(&rest);
    return rest;
}

/* ---- walking the minutes of an hour ---- */

/* One minute of an hour, open (SLICE) or packed (BYTES). */
struct minute_view {
    int64_t start;
    const struct slice *slice;
    struct span bytes;
};

struct minute_walk {
    const struct hour *hour;
    size_t at;        /* open */
    struct span rest; /* packed */
};

static inline struct minute_walk
hour_walk(const struct hour *hour)
{
    struct minute_walk walk = {hour, 0, {NULL, 0}};

    if (hour->open == NULL) {
        walk.rest = packed_minutes(hour);
    }
    return walk;
}

/* The next minute; false after the last. */
static inline bool
minute_walk_next(struct minute_walk *walk, struct minute_view *out)
{
    const struct hour *hour = walk->hour;
    const struct minute *minute;

    out->slice = NULL;
    if (hour->open == NULL) {
        return unpack_minute(hour, &walk->rest, &out->start, &out->bytes);
    }
    if (walk->at == hour->open->minutes.len) {
        return false;
    }
    minute = line_item(&hour->open->minutes, sizeof(*minute), walk->at++);
    out->start = minute->start;
    out->slice = &minute->slice;
    return true;
}

static inline void
minute_view_good_bad(const struct minute_view *view, const struct slice_measure *measure,
                     uint64_t *good, uint64_t *bad)
{
    if (view->slice != NULL) {
        slice_good_bad(view->slice, measure, good, bad);
    } else {
        slice_own_good_bad(view->bytes, measure, good, bad);
    }
}

#endif
