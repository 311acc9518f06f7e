/*
 * slices.c - three levels of sums per series.
 *
 *   series -> days   (start, sum)
 *          -> hours  (start, open: sum and minutes | packed: the same, encoded in one block)
 *          -> sources of other nodes (minute, encoded slice)
 *
 * Invariant, under the series' lock: each hour is the sum of its minutes, each day that of its
 * hours, and nothing empty is kept. A change goes to all three levels or to none: room is reserved
 * in each first. Minutes expire by whole days, so that the levels lose the same events at the same
 * time.
 *
 * A range that cuts a day takes its hours, or the day less the hours outside, whichever are fewer,
 * and the same with an hour and its minutes. So no sum touches more than 12 hours and 30 minutes
 * at either end, and the end that is now costs nothing: nothing lies beyond it.
 *
 * Of ranges asked about again and again a run (runs.h) holds all but the present day or hour.
 *
 * Violations are no sums, so each hour and day remembers how many it has of each limit the series
 * is asked about, until it changes. Hours count theirs when they are packed, while their minutes
 * are still at hand: the first question after a start finds them counted.
 *
 * Locks: TABLE_LOCK (read) over every use of a series, then the series' own LOCK inside. Only
 * adding and removing series takes TABLE_LOCK for writing, which then needs no series' lock.
 */
#include "core/slo/slices.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/histogram.h"
#include "core/slo/runs.h"
#include "core/slo/thresholds.h"

enum {
    HOUR = 60,
    DAY = 24 * HOUR,
    PACK_AFTER = 10,     /* minutes after an hour's end: stragglers mostly come before */
    OPEN_PER_SERIES = 2, /* the present hour and the one before are never packed for room */
    OPEN_HOURS_DEFAULT = 2048,
    LIMITS_MAX = RUN_LIMITS_MAX, /* of one series; a bit each in what an hour or a day knows */
    RUN_MIN = 10,                /* minutes: what is shorter is summed each time */
    RUN_OF_DAYS = 2 * DAY,       /* minutes: what is longer has a run up to the present day */
    TABLE_SIZE_FIRST = 64,
    LENGTH_SHORT = 255, /* a packed slice's length is one byte; this one says that four follow */
    LENGTH_BYTES = 4,
};

/* ---- lines: sorted arrays of items that begin with their start minute ---- */

struct line {
    void *items;
    size_t len;
    size_t capacity;
};

static void *
line_item(const struct line *line, size_t size, size_t at)
{
    return (char *)line->items + at * size;
}

static int64_t
line_start(const struct line *line, size_t size, size_t at)
{
    return *(const int64_t *)line_item(line, size, at);
}

/* The first item that starts at or after START; line->len when there is none. */
static size_t
line_lower(const struct line *line, size_t size, int64_t start)
{
    size_t low = 0;
    size_t high = line->len;

    if (high > 0 && line_start(line, size, high - 1) <= start) { /* nearly all writes are here */
        return line_start(line, size, high - 1) == start ? high - 1 : high;
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (line_start(line, size, middle) < start) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void *
line_find(const struct line *line, size_t size, int64_t start)
{
    size_t at = line_lower(line, size, start);

    if (at == line->len || line_start(line, size, at) != start) {
        return NULL;
    }
    return line_item(line, size, at);
}

/* Makes a zeroed item for START, which must not be there yet; NULL without memory. */
static void *
line_insert(struct line *line, size_t size, int64_t start)
{
    size_t at = line_lower(line, size, start);
    char *item;

    if (line->len == line->capacity) {
        size_t capacity = line->capacity == 0 ? 4 : line->capacity + line->capacity / 2;
        void *items = realloc(line->items, capacity * size);
        if (items == NULL) {
            return NULL;
        }
        line->items = items;
        line->capacity = capacity;
    }
    item = line_item(line, size, at);
    memmove(item + size, item, (line->len - at) * size);
    memset(item, 0, size);
    *(int64_t *)(void *)item = start;
    line->len++;
    return item;
}

/* Removes COUNT items from AT on; what they own must be gone. */
static void
line_remove(struct line *line, size_t size, size_t at, size_t count)
{
    char *item = line_item(line, size, at);

    if (count == 0) {
        return;
    }
    ASSERT(at + count <= line->len);
    memmove(item, item + count * size, (line->len - at - count) * size);
    line->len -= count;
}

static void
line_free(struct line *line)
{
    free(line->items);
    *line = (struct line){NULL, 0, 0};
}

/* ---- the levels ---- */

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

struct series {
    struct span tenant; /* both names are in one block behind the struct; never change */
    struct span service;
    uint64_t hash;
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

struct slices {
    struct slices_config config;
    pthread_rwlock_t table_lock; /* guards the next four, and the life of every series */
    struct series **table;       /* open addressing, at most half full */
    size_t table_size;
    struct series **sorted; /* by (tenant, service); room for table_size / 2 */
    uint32_t series_count;
    _Atomic(struct series *) last; /* the series used last, a guess to save the look-up */
    _Atomic uint64_t minutes;
    _Atomic uint64_t open_hours;
    _Atomic uint64_t dropped;
};

static int64_t
floor_to(int64_t minute, int64_t unit)
{
    int64_t rest = minute % unit;

    return minute - (rest < 0 ? rest + unit : rest);
}

static void
free_open(struct open_hour *open)
{
    if (open == NULL) {
        return;
    }
    for (size_t i = 0; i < open->minutes.len; i++) {
        struct minute *minute = line_item(&open->minutes, sizeof(*minute), i);
        slice_clear(&minute->slice);
    }
    line_free(&open->minutes);
    slice_clear(&open->sum);
    free(open);
}

/* Gives up what HOUR holds, except its place in the line. */
static void
empty_hour(struct slices *slices, struct series *series, struct hour *hour)
{
    if (hour->open != NULL) {
        series->open_count--;
        atomic_fetch_sub_explicit(&slices->open_hours, 1, memory_order_relaxed);
    }
    atomic_fetch_sub_explicit(&slices->minutes, hour->minute_count, memory_order_relaxed);
    free_open(hour->open);
    free(hour->packed);
}

/* ---- packed hours: length and bytes of the sum, then of each minute, preceded by its place ----
 */

static void
pack_slice(struct buffer *scratch, struct buffer *out, const struct slice *slice)
{
    uint8_t length[LENGTH_BYTES];

    buffer_clear(scratch, SIZE_MAX);
    slice_encode(slice, scratch);
    if (scratch->failed) {
        out->failed = true;
        return;
    }
    if (scratch->len < LENGTH_SHORT) {
        buffer_append_char(out, (char)scratch->len);
    } else {
        buffer_append_char(out, (char)LENGTH_SHORT);
        put_u32(length, narrow_u32(scratch->len));
        buffer_append(out, length, sizeof(length));
    }
    buffer_append_span(out, buffer_span(scratch));
}

/* Takes the next packed slice from *REST. The bytes are our own, so a bad length is our bug. */
static struct span
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
static bool
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

static struct span
packed_sum(const struct hour *hour)
{
    struct span rest = {hour->packed, hour->packed_len};

    return unpack_slice(&rest);
}

static struct span
packed_minutes(const struct hour *hour)
{
    struct span rest = {hour->packed, hour->packed_len};

    (void)unpack_slice(&rest);
    return rest;
}

static bool
is_violation(const struct minute *minute, const struct slices_limit *limit)
{
    uint64_t good;
    uint64_t bad;

    slice_good_bad(&minute->slice, &limit->measure, &good, &bad);
    return slices_limit_broken(*limit, good, bad);
}

/* Which of the minutes in MASK are violations of LIMIT. */
static uint64_t
find_broken(const struct hour *hour, const struct slices_limit *limit, uint64_t mask)
{
    uint64_t broken = 0;

    for (; mask != 0; mask &= mask - 1) {
        const int bit = __builtin_ctzll(mask);
        const struct minute *minute =
            line_find(&hour->open->minutes, sizeof(*minute), hour->start + bit);

        if (minute != NULL && is_violation(minute, limit)) {
            broken |= UINT64_C(1) << bit;
        }
    }
    return broken;
}

/*
 * Counts an open hour's violations of all limits. Only minutes that have changed are looked at:
 * which they are is all that is noted when an event comes.
 */
static void
count_open(const struct limits *limits, struct hour *hour)
{
    const uint64_t all = (UINT64_C(1) << HOUR) - 1;
    struct open_hour *open = hour->open;

    for (uint32_t at = 0; limits != NULL && at < limits->len; at++) {
        const uint64_t mask = ((uint32_t)open->counted >> at & 1U) != 0 ? open->dirty : all;

        open->broken[at] &= ~mask;
        open->broken[at] |= find_broken(hour, &limits->entry[at].limit, mask);
        open->counted |= (uint16_t)(1U << at);
        hour->violations[at] = narrow_u8((uint64_t)__builtin_popcountll(open->broken[at]));
        hour->known |= (uint16_t)(1U << at);
    }
    open->dirty = 0;
}

/* Packs an open hour. Without memory it stays open, which costs room and nothing else. */
static void
pack_hour(struct slices *slices, struct series *series, struct hour *hour)
{
    struct buffer scratch = BUFFER_EMPTY;
    struct buffer bytes = BUFFER_EMPTY;
    const struct line *minutes = &hour->open->minutes;
    char *exact;

    count_open(series->limits, hour);
    pack_slice(&scratch, &bytes, &hour->open->sum);
    for (size_t i = 0; i < minutes->len; i++) {
        const struct minute *minute = line_item(minutes, sizeof(*minute), i);
        buffer_append_char(&bytes, (char)(minute->start - hour->start));
        pack_slice(&scratch, &bytes, &minute->slice);
    }
    exact = bytes.failed || bytes.len > UINT32_MAX ? NULL : malloc(bytes.len);
    if (exact != NULL) {
        memcpy(exact, bytes.data, bytes.len);
        hour->packed = exact;
        hour->packed_len = narrow_u32(bytes.len);
        free_open(hour->open);
        hour->open = NULL;
        series->open_count--;
        atomic_fetch_sub_explicit(&slices->open_hours, 1, memory_order_relaxed);
    }
    buffer_free(&bytes);
    buffer_free(&scratch);
}

/* Keeps the number of open hours bounded before one more opens: packs the series' least used. */
static void
make_room(struct slices *slices, struct series *series)
{
    struct hour *victim = NULL;

    if (series->open_count < OPEN_PER_SERIES ||
        atomic_load_explicit(&slices->open_hours, memory_order_relaxed) <
            slices->config.open_hours_max) {
        return;
    }
    for (size_t i = 0; i < series->hours.len; i++) {
        struct hour *hour = line_item(&series->hours, sizeof(*hour), i);
        if (hour->open != NULL && (victim == NULL || hour->used < victim->used)) {
            victim = hour;
        }
    }
    ASSERT(victim != NULL);
    pack_hour(slices, series, victim);
}

static enum err
unpack_into(const struct hour *hour, struct open_hour *open)
{
    struct span rest = packed_minutes(hour);
    struct span bytes;
    int64_t start;
    enum err err = slice_decode_add(packed_sum(hour), &open->sum);

    while (err == ERR_OK && unpack_minute(hour, &rest, &start, &bytes)) {
        struct minute *minute = line_insert(&open->minutes, sizeof(*minute), start);
        err = minute == NULL ? ERR_NO_MEMORY : slice_decode_add(bytes, &minute->slice);
    }
    return err;
}

/* Opens HOUR, new or packed. ERR_NO_MEMORY leaves it as it was. */
static enum err
open_hour(struct slices *slices, struct series *series, struct hour *hour)
{
    struct open_hour *open;

    if (hour->open != NULL) {
        return ERR_OK;
    }
    make_room(slices, series);
    open = calloc(1, sizeof(*open));
    if (open == NULL) {
        return ERR_NO_MEMORY;
    }
    if (hour->packed != NULL) {
        enum err err = unpack_into(hour, open);
        if (err != ERR_OK) {
            ASSERT(err == ERR_NO_MEMORY); /* the bytes are our own */
            free_open(open);
            return err;
        }
        free(hour->packed);
        hour->packed = NULL;
        hour->packed_len = 0;
    }
    hour->open = open;
    series->open_count++;
    atomic_fetch_add_explicit(&slices->open_hours, 1, memory_order_relaxed);
    return ERR_OK;
}

/* ---- changing one minute in all three levels ---- */

struct place {
    struct day *day;
    struct hour *hour; /* open */
    struct minute *minute;
};

/* Drops what is empty around MINUTE. */
static void
tidy(struct slices *slices, struct series *series, int64_t minute)
{
    size_t at = line_lower(&series->hours, sizeof(struct hour), floor_to(minute, HOUR));
    struct hour *hour;
    struct day *day;

    if (at < series->hours.len &&
        line_start(&series->hours, sizeof(*hour), at) == floor_to(minute, HOUR)) {
        hour = line_item(&series->hours, sizeof(*hour), at);
        if (hour->open != NULL) {
            struct line *minutes = &hour->open->minutes;
            struct minute *item = line_find(minutes, sizeof(*item), minute);
            if (item != NULL && slice_is_empty(&item->slice)) {
                slice_clear(&item->slice);
                line_remove(minutes, sizeof(*item), line_lower(minutes, sizeof(*item), minute), 1);
                hour->minute_count--;
                atomic_fetch_sub_explicit(&slices->minutes, 1, memory_order_relaxed);
            }
        }
        if (hour->minute_count == 0) {
            empty_hour(slices, series, hour);
            line_remove(&series->hours, sizeof(*hour), at, 1);
        }
    }
    day = line_find(&series->days, sizeof(*day), floor_to(minute, DAY));
    if (day != NULL && slice_is_empty(&day->sum)) {
        slice_clear(&day->sum);
        line_remove(&series->days, sizeof(*day),
                    line_lower(&series->days, sizeof(*day), floor_to(minute, DAY)), 1);
    }
}

/* Finds MINUTE in all levels, or ERR_NOT_FOUND; ERR_NO_MEMORY when its hour cannot be opened. */
static enum err
find_place(struct slices *slices, struct series *series, int64_t minute, struct place *out)
{
    struct hour *hour = line_find(&series->hours, sizeof(*hour), floor_to(minute, HOUR));
    enum err err;

    if (hour == NULL) {
        return ERR_NOT_FOUND;
    }
    err = open_hour(slices, series, hour);
    if (err != ERR_OK) {
        return err;
    }
    out->hour = hour;
    out->day = line_find(&series->days, sizeof(*out->day), floor_to(minute, DAY));
    ASSERT(out->day != NULL);
    out->minute = line_find(&hour->open->minutes, sizeof(*out->minute), minute);
    return out->minute == NULL ? ERR_NOT_FOUND : ERR_OK;
}

/* Finds or makes MINUTE in all levels. On ERR_NO_MEMORY the caller calls tidy(). */
static enum err
make_place(struct slices *slices, struct series *series, int64_t minute, struct place *out)
{
    struct day *day = line_find(&series->days, sizeof(*day), floor_to(minute, DAY));
    struct hour *hour = line_find(&series->hours, sizeof(*hour), floor_to(minute, HOUR));
    enum err err;

    if (day == NULL) {
        day = line_insert(&series->days, sizeof(*day), floor_to(minute, DAY));
    }
    if (hour == NULL) {
        hour = line_insert(&series->hours, sizeof(*hour), floor_to(minute, HOUR));
    }
    if (day == NULL || hour == NULL) {
        return ERR_NO_MEMORY;
    }
    err = open_hour(slices, series, hour);
    if (err != ERR_OK) {
        return err;
    }
    *out = (struct place){day, hour, NULL};
    out->minute = line_find(&hour->open->minutes, sizeof(*out->minute), minute);
    if (out->minute == NULL) {
        out->minute = line_insert(&hour->open->minutes, sizeof(*out->minute), minute);
        if (out->minute == NULL) {
            return ERR_NO_MEMORY;
        }
        hour->minute_count++;
        atomic_fetch_add_explicit(&slices->minutes, 1, memory_order_relaxed);
    }
    return ERR_OK;
}

static void
place_changed(struct series *series, const struct place *place)
{
    place->hour->used = ++series->tick;
    atomic_store_explicit(&series->changed, true, memory_order_release);
    place->hour->open->dirty |= UINT64_C(1) << (place->minute->start - place->hour->start);
    place->hour->known = 0;
    place->day->known = 0;
}

static void
place_subtract(struct series *series, const struct place *place, const struct slice *slice)
{
    slice_subtract(&place->minute->slice, slice);
    slice_subtract(&place->hour->open->sum, slice);
    slice_subtract(&place->day->sum, slice);
    runs_subtracted(series->runs, place->minute->start, slice);
    place_changed(series, place);
}

static void
place_add(struct series *series, const struct place *place, const struct slice *slice)
{
    slice_add_reserved(&place->minute->slice, slice);
    slice_add_reserved(&place->hour->open->sum, slice);
    slice_add_reserved(&place->day->sum, slice);
    runs_added(series->runs, place->minute->start, slice);
    place_changed(series, place);
}

/* Room in all levels; the day first, whose total is the largest. */
static enum err
place_reserve(const struct place *place, const struct slice *slice)
{
    enum err err = slice_reserve(&place->day->sum, slice);

    if (err == ERR_OK) {
        err = slice_reserve(&place->hour->open->sum, slice);
    }
    if (err == ERR_OK) {
        err = slice_reserve(&place->minute->slice, slice);
    }
    return err;
}

static enum err
series_add(struct slices *slices, struct series *series, int64_t minute, const struct slice *slice)
{
    struct place place;
    enum err err = make_place(slices, series, minute, &place);

    if (err == ERR_OK) {
        err = place_reserve(&place, slice);
    }
    if (err != ERR_OK) {
        tidy(slices, series, minute);
        return err;
    }
    place_add(series, &place, slice);
    return ERR_OK;
}

/* What other nodes have given for MINUTE, added to *SUM. ERR_NO_MEMORY. */
static enum err
sum_foreign(const struct series *series, int64_t minute, struct slice *sum)
{
    enum err err = ERR_OK;

    for (size_t i = 0; err == ERR_OK && i < series->sources.len; i++) {
        const struct source *source = line_item(&series->sources, sizeof(*source), i);
        const struct foreign *foreign = line_find(&source->slices, sizeof(*foreign), minute);
        if (foreign != NULL) {
            err = slice_decode_add((struct span){foreign->bytes, foreign->len}, sum);
        }
    }
    return err;
}

/*
 * Takes out one of this node's own events. One that is not there was dropped when it came, and must
 * not be taken from what other nodes have counted in the same minute.
 */
static enum err
series_subtract_own(struct slices *slices, struct series *series, int64_t minute,
                    const struct slice *slice)
{
    struct slice kept = {0};
    struct place place;
    enum err err = find_place(slices, series, minute, &place);

    if (err == ERR_NOT_FOUND) {
        return ERR_OK;
    }
    if (err == ERR_OK) {
        err = sum_foreign(series, minute, &kept);
    }
    if (err == ERR_OK) {
        err = slice_add(&kept, slice);
    }
    if (err == ERR_OK && slice_covers(&place.minute->slice, &kept)) {
        place_subtract(series, &place, slice);
        tidy(slices, series, minute);
    }
    slice_clear(&kept);
    return err;
}

/* ---- the table of series ---- */

static int
compare_names(struct span a, struct span b)
{
    int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);

    if (order != 0) {
        return order;
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

/* Number of the first sorted series that is after (TENANT, SERVICE), or at it when not AFTER. */
static uint32_t
sorted_lower(const struct slices *slices, struct span tenant, struct span service, bool after)
{
    uint32_t low = 0;
    uint32_t high = slices->series_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct series *series = slices->sorted[middle];
        int order = compare_names(series->tenant, tenant);
        if (order == 0) {
            order = compare_names(series->service, service);
        }
        if (order < 0 || (after && order == 0)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool
is_named(const struct series *series, struct span tenant, struct span service)
{
    return span_equal(series->service, service) && span_equal(series->tenant, tenant);
}

/* The table's place for a series: its own, or the free one where it belongs. */
static size_t
table_slot(const struct slices *slices, uint64_t hash, struct span tenant, struct span service)
{
    size_t slot = (size_t)hash & (slices->table_size - 1);

    while (slices->table[slot] != NULL &&
           (slices->table[slot]->hash != hash || !is_named(slices->table[slot], tenant, service))) {
        slot = (slot + 1) & (slices->table_size - 1);
    }
    return slot;
}

/* TABLE_LOCK held, for reading or writing. */
static struct series *
find_series(struct slices *slices, struct span tenant, struct span service)
{
    struct series *last = atomic_load_explicit(&slices->last, memory_order_acquire);
    struct series *found;

    if (last != NULL && is_named(last, tenant, service)) {
        return last;
    }
    found = slices->table[table_slot(slices, span_pair_hash(tenant, service), tenant, service)];
    if (found != NULL) {
        atomic_store_explicit(&slices->last, found, memory_order_release);
    }
    return found;
}

/* Fills a table of SIZE anew from the sorted list. TABLE_LOCK held for writing. */
static void
fill_table(struct slices *slices)
{
    memset(slices->table, 0, slices->table_size * sizeof(struct series *));
    for (uint32_t i = 0; i < slices->series_count; i++) {
        struct series *series = slices->sorted[i];
        slices->table[table_slot(slices, series->hash, series->tenant, series->service)] = series;
    }
}

static enum err
grow_table(struct slices *slices)
{
    size_t size = slices->table_size * 2;
    struct series **sorted = realloc(slices->sorted, size / 2 * sizeof(struct series *));
    struct series **table;

    if (sorted == NULL) {
        return ERR_NO_MEMORY;
    }
    slices->sorted = sorted;
    table = calloc(size, sizeof(struct series *));
    if (table == NULL) {
        return ERR_NO_MEMORY;
    }
    free(slices->table);
    slices->table = table;
    slices->table_size = size;
    fill_table(slices);
    return ERR_OK;
}

/* The limits a new series of this name is told of; NULL without any, or without memory. */
static struct limits *
first_limits(const struct slices *slices, struct span tenant, struct span service)
{
    struct slices_limit told[LIMITS_MAX];
    struct limits *limits;
    uint32_t count;

    if (slices->config.limits == NULL) {
        return NULL;
    }
    count = slices->config.limits(slices->config.limits_arg, tenant, service, told, LIMITS_MAX);
    ASSERT(count <= LIMITS_MAX);
    limits = count == 0 ? NULL : calloc(1, sizeof(*limits));
    for (uint32_t i = 0; limits != NULL && i < count; i++) {
        limits->entry[limits->len++].limit = told[i];
    }
    return limits;
}

static struct series *
new_series(struct span tenant, struct span service)
{
    struct series *series = calloc(1, sizeof(*series) + tenant.len + service.len);
    char *names;

    if (series == NULL) {
        return NULL;
    }
    if (pthread_mutex_init(&series->lock, NULL) != 0) {
        free(series);
        return NULL;
    }
    names = (char *)(series + 1);
    memcpy(names, tenant.data, tenant.len);
    memcpy(names + tenant.len, service.data, service.len);
    series->tenant = (struct span){names, tenant.len};
    series->service = (struct span){names + tenant.len, service.len};
    series->hash = span_pair_hash(tenant, service);
    return series;
}

static void
free_series(struct slices *slices, struct series *series)
{
    for (size_t i = 0; i < series->hours.len; i++) {
        empty_hour(slices, series, line_item(&series->hours, sizeof(struct hour), i));
    }
    for (size_t i = 0; i < series->days.len; i++) {
        struct day *day = line_item(&series->days, sizeof(*day), i);
        slice_clear(&day->sum);
    }
    for (size_t i = 0; i < series->sources.len; i++) {
        struct source *source = line_item(&series->sources, sizeof(*source), i);
        for (size_t j = 0; j < source->slices.len; j++) {
            struct foreign *foreign = line_item(&source->slices, sizeof(*foreign), j);
            free(foreign->bytes);
        }
        line_free(&source->slices);
    }
    line_free(&series->hours);
    line_free(&series->days);
    line_free(&series->sources);
    runs_free(series->runs);
    free(series->limits);
    pthread_mutex_destroy(&series->lock);
    free(series);
}

/* Makes a series unless it is there or SERIES_MAX is reached (ERR_FULL). */
static enum err
create_series(struct slices *slices, struct span tenant, struct span service)
{
    struct limits *limits = first_limits(slices, tenant, service); /* asks others: no lock held */
    enum err err = ERR_OK;
    struct series *series;
    uint32_t at;

    pthread_rwlock_wrlock(&slices->table_lock);
    if (find_series(slices, tenant, service) != NULL) {
        goto unlock;
    }
    if (slices->series_count >= slices->config.series_max) {
        err = ERR_FULL;
        goto unlock;
    }
    if (((size_t)slices->series_count + 1) * 2 > slices->table_size) {
        err = grow_table(slices);
        if (err != ERR_OK) {
            goto unlock;
        }
    }
    series = new_series(tenant, service);
    if (series == NULL) {
        err = ERR_NO_MEMORY;
        goto unlock;
    }
    series->limits = limits;
    limits = NULL;
    at = sorted_lower(slices, tenant, service, false);
    memmove(&slices->sorted[at + 1], &slices->sorted[at],
            (slices->series_count - at) * sizeof(struct series *));
    slices->sorted[at] = series;
    slices->series_count++;
    slices->table[table_slot(slices, series->hash, tenant, service)] = series;

unlock:
    pthread_rwlock_unlock(&slices->table_lock);
    free(limits);
    return err;
}

static bool
is_name(struct span name)
{
    return name.len >= 1 && name.len <= EVENT_NAME_MAX;
}

/*
 * Finds a series and takes its lock; the caller must leave_series(). NULL, with nothing locked,
 * when there is none
 */
static struct series *
enter_series(struct slices *slices, struct span tenant, struct span service)
{
    struct series *series;

    if (!is_name(tenant) || !is_name(service)) {
        return NULL;
    }
    pthread_rwlock_rdlock(&slices->table_lock);
    series = find_series(slices, tenant, service);
    if (series == NULL) {
        pthread_rwlock_unlock(&slices->table_lock);
        return NULL;
    }
    pthread_mutex_lock(&series->lock);
    return series;
}

static void
leave_series(struct slices *slices, struct series *series)
{
    pthread_mutex_unlock(&series->lock);
    pthread_rwlock_unlock(&slices->table_lock);
}

/* As enter_series(), but makes the series. ERR_FULL, ERR_NO_MEMORY, ERR_INVALID: nothing is locked.
 */
static enum err
enter_or_create(struct slices *slices, struct span tenant, struct span service, struct series **out)
{
    struct series *series = enter_series(slices, tenant, service);

    if (!is_name(tenant) || !is_name(service)) {
        return ERR_INVALID;
    }
    while (series == NULL) { /* again when it expired between the two locks */
        enum err err = create_series(slices, tenant, service);
        if (err != ERR_OK) {
            return err;
        }
        series = enter_series(slices, tenant, service);
    }
    *out = series;
    return ERR_OK;
}

/* ---- life ---- */

enum err
slices_new(struct slices **out, const struct slices_config *config)
{
    struct slices *slices;

    if (!slice_rules_valid(&config->rules) || config->series_max == 0 ||
        config->retain_minutes < DAY || config->retain_minutes > INT64_C(100) * 366 * DAY) {
        return ERR_INVALID;
    }
    slices = calloc(1, sizeof(*slices));
    if (slices == NULL) {
        return ERR_NO_MEMORY;
    }
    slices->config = *config;
    if (config->open_hours_max == 0) {
        slices->config.open_hours_max = OPEN_HOURS_DEFAULT;
    }
    slices->table_size = TABLE_SIZE_FIRST;
    slices->table = calloc(TABLE_SIZE_FIRST, sizeof(struct series *));
    slices->sorted = calloc(TABLE_SIZE_FIRST / 2, sizeof(struct series *));
    if (slices->table == NULL || slices->sorted == NULL ||
        pthread_rwlock_init(&slices->table_lock, NULL) != 0) {
        free(slices->table);
        free(slices->sorted);
        free(slices);
        return ERR_NO_MEMORY;
    }
    *out = slices;
    return ERR_OK;
}

void
slices_free(struct slices *slices)
{
    if (slices == NULL) {
        return;
    }
    for (uint32_t i = 0; i < slices->series_count; i++) {
        free_series(slices, slices->sorted[i]);
    }
    free(slices->table);
    free(slices->sorted);
    pthread_rwlock_destroy(&slices->table_lock);
    free(slices);
}

const struct slice_rules *
slices_rules(const struct slices *slices)
{
    return &slices->config.rules;
}

/* The first minute that is kept at NOW_US. */
static int64_t
cutoff(const struct slices *slices, int64_t now_us)
{
    return floor_to(minute_of_us(now_us) - slices->config.retain_minutes, DAY);
}

/* ---- adding and removing ---- */

static void
count_dropped(struct slices *slices, uint64_t events)
{
    atomic_fetch_add_explicit(&slices->dropped, events, memory_order_relaxed);
}

/* Adds SLICE to its series. One beyond series_max is dropped and counted. */
static enum err
add_slice(struct slices *slices, const struct slice_key *key, const struct slice *slice)
{
    struct series *series;
    enum err err = enter_or_create(slices, key->tenant, key->service, &series);

    if (err == ERR_FULL) {
        count_dropped(slices, slice->good + slice->bad);
        return ERR_OK;
    }
    if (err == ERR_OK) {
        err = series_add(slices, series, key->minute, slice);
        leave_series(slices, series);
    }
    return err;
}

static struct slice_key
key_of(const struct event *event)
{
    return (struct slice_key){event->tenant, event->service, minute_of_us(event->occurred_at_us)};
}

enum err
slices_add_event(struct slices *slices, const struct event *event, uint64_t seq, int64_t now_us)
{
    struct slice_key key = key_of(event);
    struct slice_unit unit;
    struct slice_rules rules;

    if (!event_is_measured(event)) {
        return ERR_OK;
    }
    if (key.minute < cutoff(slices, now_us)) {
        count_dropped(slices, 1);
        return ERR_OK;
    }
    thresholds_begin(&slices->config.rules, seq);
    rules = thresholds_of(&slices->config.rules, seq, key.tenant, key.service);
    slice_unit_init(&unit, event, &rules);
    return add_slice(slices, &key, &unit.slice);
}

enum err
slices_remove_event(struct slices *slices, const struct event *event, uint64_t seq, int64_t now_us)
{
    const struct slice_rules rules =
        thresholds_of(&slices->config.rules, seq, event->tenant, event->service);
    struct slice_key key = key_of(event);
    struct slice_unit unit;
    struct series *series;
    enum err err;

    if (!event_is_measured(event) || key.minute < cutoff(slices, now_us)) {
        return ERR_OK;
    }
    series = enter_series(slices, key.tenant, key.service);
    if (series == NULL) {
        return ERR_OK;
    }
    slice_unit_init(&unit, event, &rules);
    err = series_subtract_own(slices, series, key.minute, &unit.slice);
    leave_series(slices, series);
    return err;
}

enum err
slices_add(struct slices *slices, const struct slice_key *key, const struct slice *slice,
           int64_t now_us)
{
    if (slice_is_empty(slice) || key->minute < cutoff(slices, now_us)) {
        return ERR_OK;
    }
    return add_slice(slices, key, slice);
}

/* ---- other nodes ---- */

/* The encoded form in a block of its own; ERR_NO_MEMORY. */
static enum err
encode_exact(const struct slice *slice, char **bytes_out, size_t *len_out)
{
    struct buffer buffer = BUFFER_EMPTY;
    char *bytes;

    slice_encode(slice, &buffer);
    bytes = buffer.failed ? NULL : malloc(buffer.len);
    if (bytes == NULL) {
        buffer_free(&buffer);
        return ERR_NO_MEMORY;
    }
    memcpy(bytes, buffer.data, buffer.len);
    *bytes_out = bytes;
    *len_out = buffer.len;
    buffer_free(&buffer);
    return ERR_OK;
}

/* Finds or makes the entry of (ID, MINUTE); a new one has no bytes. NULL without memory. */
static struct foreign *
foreign_entry(struct series *series, int64_t id, int64_t minute)
{
    struct source *source = line_find(&series->sources, sizeof(*source), id);
    struct foreign *foreign;

    if (source == NULL) {
        source = line_insert(&series->sources, sizeof(*source), id);
    }
    if (source == NULL) {
        return NULL;
    }
    foreign = line_find(&source->slices, sizeof(*foreign), minute);
    if (foreign == NULL) {
        foreign = line_insert(&source->slices, sizeof(*foreign), minute);
    }
    return foreign;
}

/* Drops the entry of (ID, MINUTE) when it has no bytes, and the source when it was the last. */
static void
tidy_foreign(struct series *series, int64_t id, int64_t minute)
{
    size_t source_at = line_lower(&series->sources, sizeof(struct source), id);
    struct source *source = line_find(&series->sources, sizeof(*source), id);
    struct foreign *foreign;

    if (source == NULL) {
        return;
    }
    foreign = line_find(&source->slices, sizeof(*foreign), minute);
    if (foreign != NULL && foreign->bytes == NULL) {
        line_remove(&source->slices, sizeof(*foreign),
                    line_lower(&source->slices, sizeof(*foreign), minute), 1);
    }
    if (source->slices.len == 0) {
        line_free(&source->slices);
        line_remove(&series->sources, sizeof(*source), source_at, 1);
    }
}

/* Puts SLICE, not empty, in the place of what FOREIGN holds, in all levels. */
static enum err
foreign_replace(struct slices *slices, struct series *series, struct foreign *foreign,
                const struct slice *slice)
{
    struct slice old = {0};
    struct place place;
    char *bytes = NULL;
    size_t len = 0;
    enum err err = encode_exact(slice, &bytes, &len);

    if (err == ERR_OK && foreign->bytes != NULL) {
        if (len == foreign->len && memcmp(bytes, foreign->bytes, len) == 0) {
            free(bytes); /* mostly nothing has changed since the last reading */
            return ERR_OK;
        }
        err = slice_decode_add((struct span){foreign->bytes, foreign->len}, &old);
    }
    if (err == ERR_OK) {
        err = make_place(slices, series, foreign->start, &place);
    }
    if (err == ERR_OK) {
        err = place_reserve(&place, slice);
    }
    if (err == ERR_OK) {
        place_subtract(series, &place, &old);
        place_add(series, &place, slice);
        free(foreign->bytes);
        foreign->bytes = bytes;
        foreign->len = len;
        bytes = NULL;
    }
    tidy(slices, series, foreign->start);
    slice_clear(&old);
    free(bytes);
    return err;
}

/* Takes FOREIGN's slice out of all levels. */
static enum err
foreign_remove(struct slices *slices, struct series *series, struct foreign *foreign)
{
    struct slice old = {0};
    struct place place;
    enum err err;

    if (foreign->bytes == NULL) {
        return ERR_OK;
    }
    err = slice_decode_add((struct span){foreign->bytes, foreign->len}, &old);
    if (err == ERR_OK) {
        err = find_place(slices, series, foreign->start, &place);
        ASSERT(err != ERR_NOT_FOUND);
    }
    if (err == ERR_OK) {
        place_subtract(series, &place, &old);
        tidy(slices, series, foreign->start);
        free(foreign->bytes);
        foreign->bytes = NULL;
    }
    slice_clear(&old);
    return err;
}

static enum err
series_set_foreign(struct slices *slices, struct series *series, int64_t id, int64_t minute,
                   const struct slice *slice)
{
    struct foreign *foreign = foreign_entry(series, id, minute);
    enum err err = ERR_NO_MEMORY;

    if (foreign != NULL) {
        err = slice_is_empty(slice) ? foreign_remove(slices, series, foreign)
                                    : foreign_replace(slices, series, foreign, slice);
    }
    tidy_foreign(series, id, minute);
    return err;
}

enum err
slices_set_foreign(struct slices *slices, uint64_t source, const struct slice_key *key,
                   const struct slice *slice, int64_t now_us)
{
    struct series *series;
    int64_t id;
    enum err err;

    if (key->minute < cutoff(slices, now_us)) {
        return ERR_OK;
    }
    memcpy(&id, &source, sizeof(id));
    err = enter_or_create(slices, key->tenant, key->service, &series);
    if (err == ERR_FULL) {
        return ERR_OK; /* not measured; re-read again and again, so not counted as dropped either */
    }
    if (err == ERR_OK) {
        err = series_set_foreign(slices, series, id, key->minute, slice);
        leave_series(slices, series);
    }
    return err;
}

/* ---- sums ---- */

/*
 * Number of the first hour that could hold FROM or later minutes. Hours without events are few, so
 * counting back from the last one mostly finds it.
 */
static size_t
first_hour(const struct series *series, int64_t from)
{
    const struct line *hours = &series->hours;
    const int64_t start = floor_to(from, HOUR);
    int64_t back;

    if (hours->len > 0) {
        back = (line_start(hours, sizeof(struct hour), hours->len - 1) - start) / HOUR;
        if (back > 0 && back < (int64_t)hours->len) {
            const size_t at = hours->len - 1 - (size_t)back;
            if (line_start(hours, sizeof(struct hour), at) == start) {
                return at;
            }
        }
    }
    return line_lower(hours, sizeof(struct hour), start);
}

/* Hour number *AT when it starts before TO, else NULL; moves *AT on. */
static struct hour *
next_hour(const struct series *series, size_t *at, int64_t to)
{
    struct hour *hour;

    if (*at >= series->hours.len) {
        return NULL;
    }
    hour = line_item(&series->hours, sizeof(*hour), *at);
    (*at)++;
    return hour->start < to ? hour : NULL;
}

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

static struct minute_walk
walk_hour(const struct hour *hour)
{
    struct minute_walk walk = {hour, 0, {NULL, 0}};

    if (hour->open == NULL) {
        walk.rest = packed_minutes(hour);
    }
    return walk;
}

static bool
walk_next(struct minute_walk *walk, struct minute_view *out)
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

/* Adds what lies in [FROM, TO) to a total, or takes it out. */
struct addend {
    struct slice_total *total;
    bool minus;
};

static enum err
add_slice_to(struct addend sum, const struct slice *slice)
{
    if (sum.minus) {
        slice_total_subtract(sum.total, slice);
        return ERR_OK;
    }
    return slice_total_add(sum.total, slice);
}

static enum err
add_own_to(struct addend sum, struct span bytes)
{
    if (sum.minus) {
        slice_total_subtract_own(sum.total, bytes);
        return ERR_OK;
    }
    return slice_total_add_own(sum.total, bytes);
}

static enum err
add_hour(struct addend sum, const struct hour *hour)
{
    return hour->open != NULL ? add_slice_to(sum, &hour->open->sum)
                              : add_own_to(sum, packed_sum(hour));
}

static enum err
add_minutes(struct addend sum, const struct hour *hour, int64_t from, int64_t to)
{
    struct minute_walk walk = walk_hour(hour);
    struct minute_view view;
    enum err err = ERR_OK;

    while (err == ERR_OK && from < to && walk_next(&walk, &view) && view.start < to) {
        if (view.start >= from) {
            err = view.slice != NULL ? add_slice_to(sum, view.slice) : add_own_to(sum, view.bytes);
        }
    }
    return err;
}

/* [FROM, TO) in UNIT from START on is mostly inside it, so that what is left out is less. */
static bool
is_most(int64_t start, int64_t unit, int64_t from, int64_t to)
{
    const int64_t first = from > start ? from : start;
    const int64_t end = to < start + unit ? to : start + unit;

    return end - first > unit / 2;
}

/* Of an hour: by its minutes while they are at hand, since those to come weigh nothing. */
static bool
is_most_of_hour(const struct hour *hour, int64_t from, int64_t to)
{
    const struct line *minutes;
    size_t first;
    size_t end;

    if (hour->open == NULL) {
        return is_most(hour->start, HOUR, from, to);
    }
    minutes = &hour->open->minutes;
    first = line_lower(minutes, sizeof(struct minute), from);
    end = line_lower(minutes, sizeof(struct minute), to);
    return (end - first) * 2 > minutes->len;
}

static struct addend
opposite(struct addend sum)
{
    return (struct addend){sum.total, !sum.minus};
}

/* The hours of one day, or of a part of it. */
static enum err
add_hours(struct addend sum, const struct series *series, int64_t from, int64_t to)
{
    size_t at = first_hour(series, from);
    const struct hour *hour;
    enum err err = ERR_OK;

    while (err == ERR_OK && from < to && (hour = next_hour(series, &at, to)) != NULL) {
        if (!is_most_of_hour(hour, from, to)) {
            err = add_minutes(sum, hour, from, to);
            continue;
        }
        err = add_hour(sum, hour);
        if (err == ERR_OK) {
            err = add_minutes(opposite(sum), hour, hour->start, from);
        }
        if (err == ERR_OK) {
            err = add_minutes(opposite(sum), hour, to, hour->start + HOUR);
        }
    }
    return err;
}

static enum err
add_days(struct addend sum, const struct series *series, int64_t from, int64_t to)
{
    size_t at = line_lower(&series->days, sizeof(struct day), floor_to(from, DAY));
    enum err err = ERR_OK;

    for (; err == ERR_OK && at < series->days.len; at++) {
        const struct day *day = line_item(&series->days, sizeof(*day), at);
        const int64_t end = day->start + DAY;

        if (day->start >= to) {
            break;
        }
        if (!is_most(day->start, DAY, from, to)) {
            err =
                add_hours(sum, series, from > day->start ? from : day->start, to < end ? to : end);
            continue;
        }
        err = add_slice_to(sum, &day->sum);
        if (err == ERR_OK) {
            err = add_hours(opposite(sum), series, day->start, from);
        }
        if (err == ERR_OK) {
            err = add_hours(opposite(sum), series, to, end);
        }
    }
    return err;
}

struct range {
    int64_t from;
    int64_t to; /* at least FROM */
};

/* [FROM, TO) within the minutes an event can be in. */
static struct range
clip_range(int64_t from, int64_t to)
{
    const int64_t lowest = minute_of_us(INT64_MIN);
    const int64_t highest = minute_of_us(INT64_MAX) + 1;
    struct range range = {from < lowest ? lowest : from, to > highest ? highest : to};

    range.to = range.to < range.from ? range.from : range.to;
    return range;
}

/* Adds [FROM, TO) to *SUM, from the levels; run_sum_fn. */
static enum err
sum_levels(void *arg, int64_t from, int64_t to, bool with_latency, struct slice *sum)
{
    const struct series *series = arg;
    uint64_t latency[HISTOGRAM_BUCKETS];
    struct slice_total total = {.latency = NULL};
    enum err err;

    if (with_latency) {
        memset(latency, 0, sizeof(latency));
        total.latency = latency;
    }
    err = add_days((struct addend){&total, false}, series, from, to);
    if (err == ERR_OK) {
        err = slice_total_finish(&total, sum);
    }
    slice_total_clear(&total);
    return err;
}

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

/* The last minute held, or behind it within its hour. */
static int64_t
last_minute(const struct series *series)
{
    const struct line *hours = &series->hours;
    const struct hour *hour = line_item(hours, sizeof(*hour), hours->len - 1);
    const struct line *minutes;

    if (hour->open == NULL) {
        return hour->start + HOUR - 1;
    }
    minutes = &hour->open->minutes;
    return line_start(minutes, sizeof(struct minute), minutes->len - 1);
}

/*
 * How to read [FROM, TO). When nothing lies beyond TO it is moved behind the last day, so that the
 * end that is now cuts neither that day nor its hour. A run ends before that day or, of a shorter
 * range, before that hour, which most changes are made in.
 */
static struct reading
plan(struct series *series, struct range range, bool with_latency)
{
    struct reading reading = {range.from, range.from, range.to, NULL};
    int64_t last;
    int64_t settled;

    if (range.from >= range.to || series->hours.len == 0) {
        return reading;
    }
    last = last_minute(series);
    settled = floor_to(range.to - 1 < last ? range.to - 1 : last,
                       range.to - range.from > RUN_OF_DAYS ? DAY : HOUR);
    reading.to = range.to > last ? floor_to(last, DAY) + DAY : range.to;
    if (settled - range.from >= RUN_MIN) { /* without memory for a run the levels give it */
        reading.run =
            runs_find(&series->runs, range.from, settled, with_latency, sum_levels, series);
    }
    if (reading.run != NULL) {
        reading.settled = settled;
    }
    return reading;
}

/* Adds RANGE to *SUM; latencies by way of LATENCY, if any. */
static enum err
series_sum(struct series *series, struct range range,
           uint64_t *latency, /* NOLINT(readability-non-const-parameter): TOTAL writes through it */
           struct slice *sum)
{
    const struct reading reading = plan(series, range, latency != NULL);
    struct slice_total total = {.latency = latency};
    enum err err = ERR_OK;

    if (reading.run != NULL) {
        err = slice_total_add(&total, &reading.run->sum);
    }
    if (err == ERR_OK) {
        err = add_days((struct addend){&total, false}, series, reading.settled, reading.to);
    }
    if (err == ERR_OK) {
        err = slice_total_finish(&total, sum);
    }
    slice_total_clear(&total);
    return err;
}

static enum err
sum_range(struct slices *slices, struct span tenant, struct span service, int64_t from_minute,
          int64_t to_minute, uint64_t *latency, struct slice *sum)
{
    const struct range range = clip_range(from_minute, to_minute);
    struct series *series = enter_series(slices, tenant, service);
    enum err err = ERR_OK;

    if (series != NULL) {
        err = series_sum(series, range, latency, sum);
        leave_series(slices, series);
    }
    return err;
}

enum err
slices_sum(struct slices *slices, struct span tenant, struct span service, int64_t from_minute,
           int64_t to_minute, struct slice *sum)
{
    uint64_t latency[HISTOGRAM_BUCKETS] = {0};

    return sum_range(slices, tenant, service, from_minute, to_minute, latency, sum);
}

enum err
slices_sum_counts(struct slices *slices, struct span tenant, struct span service,
                  int64_t from_minute, int64_t to_minute, struct slice *sum)
{
    return sum_range(slices, tenant, service, from_minute, to_minute, NULL, sum);
}

enum err
slices_sum_windows(struct slices *slices, struct span tenant, struct span service,
                   int64_t to_minute, struct slices_window *windows, size_t count)
{
    uint64_t latency[HISTOGRAM_BUCKETS] = {0};
    struct series *series = enter_series(slices, tenant, service);
    enum err err = ERR_OK;

    for (size_t i = 0; series != NULL && err == ERR_OK && i < count; i++) {
        const struct range range = clip_range(windows[i].from_minute, to_minute);

        err = series_sum(series, range, windows[i].with_latency ? latency : NULL, &windows[i].sum);
    }
    if (series != NULL) {
        leave_series(slices, series);
    }
    return err;
}

/* ---- violations ---- */

/* A limit and its place among the series' own; LIMITS_MAX: without memory there is none. */
struct asked {
    struct slices_limit limit;
    uint32_t at;
};

static bool
limits_equal(const struct slices_limit *a, const struct slices_limit *b)
{
    return a->budget_ppb == b->budget_ppb && slice_measure_equal(&a->measure, &b->measure);
}

/* Nothing is known any more of the limit at AT. */
static void
forget_limit(struct series *series, uint32_t at)
{
    for (size_t i = 0; i < series->hours.len; i++) {
        struct hour *hour = line_item(&series->hours, sizeof(*hour), i);
        hour->known &= (uint16_t) ~(1U << at);
        if (hour->open != NULL) {
            hour->open->counted &= (uint16_t) ~(1U << at);
        }
    }
    for (size_t i = 0; i < series->days.len; i++) {
        struct day *day = line_item(&series->days, sizeof(*day), i);
        day->known &= (uint16_t) ~(1U << at);
    }
    runs_forget_limit(series->runs, at);
}

/* The place of LIMIT: its own, or a free one, or that of the limit not asked about for longest. */
static uint32_t
place_of_limit(struct series *series, struct limits *limits, const struct slices_limit *limit)
{
    uint32_t oldest = 0;

    for (uint32_t at = 0; at < limits->len; at++) {
        if (limits_equal(&limits->entry[at].limit, limit)) {
            return at;
        }
        oldest = limits->entry[at].used < limits->entry[oldest].used ? at : oldest;
    }
    if (limits->len < LIMITS_MAX) {
        oldest = limits->len++;
    } else {
        forget_limit(series, oldest);
    }
    limits->entry[oldest].limit = *limit;
    return oldest;
}

static struct asked
ask(struct series *series, struct slices_limit limit)
{
    struct limits *limits = series->limits;
    struct asked asked = {limit, LIMITS_MAX};

    if (limits == NULL) {
        limits = series->limits = calloc(1, sizeof(*limits));
    }
    if (limits != NULL) {
        asked.at = place_of_limit(series, limits, &limit);
        limits->entry[asked.at].used = ++limits->tick;
    }
    return asked;
}

static bool
is_known(uint16_t known, const struct asked *asked)
{
    return asked->at < LIMITS_MAX && ((uint32_t)known >> asked->at & 1U) != 0;
}

static void
good_bad_of(const struct minute_view *view, const struct slice_measure *measure, uint64_t *good,
            uint64_t *bad)
{
    if (view->slice != NULL) {
        slice_good_bad(view->slice, measure, good, bad);
    } else {
        slice_own_good_bad(view->bytes, measure, good, bad);
    }
}

/* Of the minutes in [FROM, TO) of an hour. */
static uint64_t
count_minutes(const struct hour *hour, int64_t from, int64_t to, const struct asked *asked)
{
    struct minute_walk walk = walk_hour(hour);
    struct minute_view view;
    uint64_t count = 0;
    uint64_t good;
    uint64_t bad;

    while (from < to && walk_next(&walk, &view) && view.start < to) {
        if (view.start >= from) {
            good_bad_of(&view, &asked->limit.measure, &good, &bad);
            count += slices_limit_broken(asked->limit, good, bad) ? 1 : 0;
        }
    }
    return count;
}

static uint64_t
violations_of_hour(const struct series *series, struct hour *hour, const struct asked *asked)
{
    uint64_t count;

    if (!is_known(hour->known, asked) && hour->open != NULL) {
        count_open(series->limits, hour); /* knows it now, unless the limit has no place */
    }
    if (is_known(hour->known, asked)) {
        return hour->violations[asked->at];
    }
    count = count_minutes(hour, hour->start, hour->start + HOUR, asked);
    if (asked->at < LIMITS_MAX) {
        hour->violations[asked->at] = narrow_u8(count);
        hour->known |= (uint16_t)(1U << asked->at);
    }
    return count;
}

/* FROM and TO are any minutes. As with sums, a part that is most of an hour is what the rest
 * leaves.
 */
static uint64_t
violations_by_hours(struct series *series, int64_t from, int64_t to, const struct asked *asked)
{
    size_t at = first_hour(series, from);
    uint64_t total = 0;
    struct hour *hour;

    while (from < to && (hour = next_hour(series, &at, to)) != NULL) {
        if (is_most_of_hour(hour, from, to)) {
            total += violations_of_hour(series, hour, asked);
            total -= count_minutes(hour, hour->start, from, asked);
            total -= count_minutes(hour, to, hour->start + HOUR, asked);
        } else {
            total += count_minutes(hour, from, to, asked);
        }
    }
    return total;
}

static uint64_t
violations_of_day(struct series *series, struct day *day, const struct asked *asked)
{
    uint64_t count;

    if (is_known(day->known, asked)) {
        return day->violations[asked->at];
    }
    count = violations_by_hours(series, day->start, day->start + DAY, asked);
    if (asked->at < LIMITS_MAX) {
        day->violations[asked->at] = narrow_u16(count);
        day->known |= (uint16_t)(1U << asked->at);
    }
    return count;
}

static uint64_t
violations_by_days(struct series *series, int64_t from, int64_t to, const struct asked *asked)
{
    size_t at = line_lower(&series->days, sizeof(struct day), floor_to(from, DAY));
    uint64_t total = 0;

    for (; from < to && at < series->days.len; at++) {
        struct day *day = line_item(&series->days, sizeof(*day), at);
        const int64_t end = day->start + DAY;

        if (day->start >= to) {
            break;
        }
        if (is_most(day->start, DAY, from, to)) {
            total += violations_of_day(series, day, asked);
            total -= violations_by_hours(series, day->start, from, asked);
            total -= violations_by_hours(series, to, end, asked);
        } else {
            total += violations_by_hours(series, from > day->start ? from : day->start,
                                         to < end ? to : end, asked);
        }
    }
    return total;
}

static uint64_t
violations_of_run(struct series *series, struct run *run, const struct asked *asked)
{
    if (asked->at == LIMITS_MAX) {
        return violations_by_days(series, run->from, run->to, asked);
    }
    if (!is_known(run->known, asked)) {
        run->violations[asked->at] =
            narrow_u32(violations_by_days(series, run->from, run->to, asked));
        run->known |= (uint16_t)(1U << asked->at);
    }
    return run->violations[asked->at];
}

uint64_t
slices_violations(struct slices *slices, struct span tenant, struct span service,
                  int64_t from_minute, int64_t to_minute, struct slices_limit limit)
{
    struct series *series = enter_series(slices, tenant, service);
    uint64_t count = 0;

    if (series != NULL) {
        const struct asked asked = ask(series, limit);
        const struct reading reading = plan(series, clip_range(from_minute, to_minute), false);

        if (reading.run != NULL) {
            count = violations_of_run(series, reading.run, &asked);
        }
        count += violations_by_days(series, reading.settled, reading.to, &asked);
        leave_series(slices, series);
    }
    return count;
}

void
slices_each_violation(struct slices *slices, struct span tenant, struct span service,
                      int64_t from_minute, int64_t to_minute, struct slices_limit limit,
                      void (*fn)(void *arg, int64_t minute, uint64_t good, uint64_t bad), void *arg)
{
    const struct range range = clip_range(from_minute, to_minute);
    struct series *series = enter_series(slices, tenant, service);
    struct asked asked;
    struct hour *hour;
    size_t at;

    if (series == NULL) {
        return;
    }
    asked = ask(series, limit);
    at = first_hour(series, range.from);
    while ((hour = next_hour(series, &at, range.to)) != NULL) {
        struct minute_walk walk = walk_hour(hour);
        struct minute_view view;
        uint64_t good;
        uint64_t bad;

        if (violations_by_hours(series, hour->start, hour->start + HOUR, &asked) == 0) {
            continue;
        }
        while (walk_next(&walk, &view)) {
            if (view.start >= range.from && view.start < range.to) {
                good_bad_of(&view, &limit.measure, &good, &bad);
                if (slices_limit_broken(limit, good, bad)) {
                    fn(arg, view.start, good, bad);
                }
            }
        }
    }
    leave_series(slices, series);
}

/* ---- walking ---- */

void
slices_each_minute(struct slices *slices, struct span tenant, struct span service,
                   int64_t from_minute, int64_t to_minute,
                   void (*fn)(void *arg, int64_t minute, uint64_t good, uint64_t bad), void *arg)
{
    const struct slice_measure by_status = {0};
    const struct range range = clip_range(from_minute, to_minute);
    struct series *series = enter_series(slices, tenant, service);
    const struct hour *hour;
    size_t at;

    if (series == NULL) {
        return;
    }
    at = first_hour(series, range.from);
    while ((hour = next_hour(series, &at, range.to)) != NULL) {
        struct minute_walk walk = walk_hour(hour);
        struct minute_view view;
        while (walk_next(&walk, &view)) {
            uint64_t good;
            uint64_t bad;
            if (view.start >= range.from && view.start < range.to) {
                good_bad_of(&view, &by_status, &good, &bad);
                fn(arg, view.start, good, bad);
            }
        }
    }
    leave_series(slices, series);
}

static enum err
give_slice(const struct minute_view *view,
           void (*fn)(void *arg, int64_t minute, const struct slice *slice), void *arg)
{
    struct slice slice = {0};
    enum err err;

    if (view->slice != NULL) {
        fn(arg, view->start, view->slice);
        return ERR_OK;
    }
    err = slice_decode_add(view->bytes, &slice);
    if (err == ERR_OK) {
        fn(arg, view->start, &slice);
    }
    slice_clear(&slice);
    return err;
}

enum err
slices_each_slice(struct slices *slices, struct span tenant, struct span service,
                  int64_t from_minute, int64_t to_minute,
                  void (*fn)(void *arg, int64_t minute, const struct slice *slice), void *arg)
{
    const struct range range = clip_range(from_minute, to_minute);
    struct series *series = enter_series(slices, tenant, service);
    const struct hour *hour;
    enum err err = ERR_OK;
    size_t at;

    if (series == NULL) {
        return ERR_OK;
    }
    at = first_hour(series, range.from);
    while (err == ERR_OK && (hour = next_hour(series, &at, range.to)) != NULL) {
        struct minute_walk walk = walk_hour(hour);
        struct minute_view view;

        while (err == ERR_OK && walk_next(&walk, &view)) {
            if (view.start >= range.from && view.start < range.to) {
                err = give_slice(&view, fn, arg);
            }
        }
    }
    leave_series(slices, series);
    return err;
}

bool
slices_has_series(struct slices *slices, struct span tenant, struct span service)
{
    struct series *series = enter_series(slices, tenant, service);

    if (series != NULL) {
        leave_series(slices, series);
    }
    return series != NULL;
}

void
slices_each_service(struct slices *slices, struct span tenant,
                    void (*fn)(void *arg, struct span service), void *arg)
{
    char name[EVENT_NAME_MAX];
    struct span service = {name, 0}; /* before every name */

    if (!is_name(tenant)) {
        return;
    }
    for (;;) {
        const struct series *series = NULL;
        uint32_t at;

        pthread_rwlock_rdlock(&slices->table_lock);
        at = sorted_lower(slices, tenant, service, true);
        if (at < slices->series_count && span_equal(slices->sorted[at]->tenant, tenant)) {
            series = slices->sorted[at];
            memcpy(name, series->service.data, series->service.len);
            service.len = series->service.len;
        }
        pthread_rwlock_unlock(&slices->table_lock);
        if (series == NULL) {
            return;
        }
        fn(arg, service);
    }
}

void
slices_each_series(struct slices *slices,
                   void (*fn)(void *arg, struct span tenant, struct span service), void *arg)
{
    pthread_rwlock_rdlock(&slices->table_lock);
    for (uint32_t i = 0; i < slices->series_count; i++) {
        fn(arg, slices->sorted[i]->tenant, slices->sorted[i]->service);
    }
    pthread_rwlock_unlock(&slices->table_lock);
}

void
slices_take_changed(struct slices *slices, struct span tenant,
                    void (*fn)(void *arg, struct span tenant, struct span service), void *arg)
{
    pthread_rwlock_rdlock(&slices->table_lock);
    for (uint32_t i = 0; i < slices->series_count; i++) {
        struct series *series = slices->sorted[i];

        if ((tenant.data == NULL || span_equal(series->tenant, tenant)) &&
            atomic_load_explicit(&series->changed, memory_order_relaxed)) {
            /* Lowered first: a change from now on raises it again. */
            (void)atomic_exchange_explicit(&series->changed, false, memory_order_acq_rel);
            fn(arg, series->tenant, series->service);
        }
    }
    pthread_rwlock_unlock(&slices->table_lock);
}

void
slices_stats(struct slices *slices, struct slices_stats *out)
{
    pthread_rwlock_rdlock(&slices->table_lock);
    out->series = slices->series_count;
    pthread_rwlock_unlock(&slices->table_lock);
    out->slices = atomic_load_explicit(&slices->minutes, memory_order_relaxed);
    out->open_hours = atomic_load_explicit(&slices->open_hours, memory_order_relaxed);
    out->dropped_events = atomic_load_explicit(&slices->dropped, memory_order_relaxed);
}

/* ---- expiry ---- */

static void
expire_sources(struct series *series, int64_t before)
{
    size_t kept = 0;

    for (size_t i = 0; i < series->sources.len; i++) {
        struct source *source = line_item(&series->sources, sizeof(*source), i);
        size_t gone = line_lower(&source->slices, sizeof(struct foreign), before);
        for (size_t j = 0; j < gone; j++) {
            struct foreign *foreign = line_item(&source->slices, sizeof(*foreign), j);
            free(foreign->bytes);
        }
        line_remove(&source->slices, sizeof(struct foreign), 0, gone);
        if (source->slices.len == 0) {
            line_free(&source->slices);
        } else {
            *(struct source *)line_item(&series->sources, sizeof(*source), kept++) = *source;
        }
    }
    series->sources.len = kept;
}

/* Drops what starts before BEFORE, a whole day; packs open hours that ended before PACK_BEFORE. */
static void
expire_series(struct slices *slices, struct series *series, int64_t before, int64_t pack_before)
{
    size_t hours = line_lower(&series->hours, sizeof(struct hour), before);
    size_t days = line_lower(&series->days, sizeof(struct day), before);

    for (size_t i = 0; i < hours; i++) {
        empty_hour(slices, series, line_item(&series->hours, sizeof(struct hour), i));
    }
    line_remove(&series->hours, sizeof(struct hour), 0, hours);
    for (size_t i = 0; i < days; i++) {
        struct day *day = line_item(&series->days, sizeof(*day), i);
        slice_clear(&day->sum);
    }
    line_remove(&series->days, sizeof(struct day), 0, days);
    expire_sources(series, before);
    runs_expire(series->runs, before);
    for (size_t i = 0; i < series->hours.len && series->open_count > 0; i++) {
        struct hour *hour = line_item(&series->hours, sizeof(*hour), i);
        if (hour->open != NULL && hour->start + HOUR <= pack_before) {
            pack_hour(slices, series, hour);
        }
    }
}

/* TABLE_LOCK held for writing: nobody is inside a series. */
static void
drop_empty_series(struct slices *slices)
{
    uint32_t kept = 0;

    atomic_store_explicit(&slices->last, NULL, memory_order_release);
    for (uint32_t i = 0; i < slices->series_count; i++) {
        struct series *series = slices->sorted[i];
        if (series->hours.len == 0) {
            free_series(slices, series);
        } else {
            slices->sorted[kept++] = series;
        }
    }
    slices->series_count = kept;
    fill_table(slices);
}

/*
 * Both locks are let go after each series: packing all of them takes long, and whoever wants to add
 * a series meanwhile is the committer. A series added before number AT makes the next call see one
 * series twice, never miss one, since nobody else removes any. False: there is no number AT.
 */
static bool
expire_one(struct slices *slices, uint32_t at, int64_t now_us, bool *any_empty)
{
    bool there;

    pthread_rwlock_rdlock(&slices->table_lock);
    there = at < slices->series_count;
    if (there) {
        struct series *series = slices->sorted[at];

        pthread_mutex_lock(&series->lock);
        expire_series(slices, series, cutoff(slices, now_us), minute_of_us(now_us) - PACK_AFTER);
        *any_empty = *any_empty || series->hours.len == 0;
        pthread_mutex_unlock(&series->lock);
    }
    pthread_rwlock_unlock(&slices->table_lock);
    return there;
}

void
slices_expire(struct slices *slices, int64_t now_us)
{
    bool any_empty = false;
    uint32_t at = 0;

    while (expire_one(slices, at, now_us, &any_empty)) {
        at++;
    }
    if (any_empty) {
        pthread_rwlock_wrlock(&slices->table_lock);
        drop_empty_series(slices);
        pthread_rwlock_unlock(&slices->table_lock);
    }
}
