/*
 * slices.c - the table of all series (series.h), and the locks.
 *
 * Locks: TABLE_LOCK (read) over every use of a series, then the series' own LOCK inside. Only
 * adding and removing series takes TABLE_LOCK for writing, which then needs no series' lock.
 */
#include "core/slo/slices.h"

#include <stdlib.h>

#include "core/base/histogram.h"
#include "core/slo/series.h"
#include "core/slo/thresholds.h"

enum {
    PACK_AFTER = 10, /* minutes after an hour's end: stragglers mostly come before */
    OPEN_HOURS_DEFAULT = 2048,
    TABLE_SIZE_FIRST = 64,
};

struct slices {
    struct slices_config config;
    struct series_room room;
    pthread_rwlock_t table_lock; /* guards the next four, and the life of every series */
    struct series **table;       /* open addressing, at most half full */
    size_t table_size;
    struct series **sorted; /* by (tenant, service); room for table_size / 2 */
    uint32_t series_count;
    _Atomic(struct series *) last; /* the series used last, a guess to save the look-up */
    _Atomic uint64_t dropped;
};

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
    series = series_new(&slices->room, tenant, service);
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
    slices->room.open_hours_max =
        config->open_hours_max == 0 ? OPEN_HOURS_DEFAULT : config->open_hours_max;
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
        series_free(slices->sorted[i]);
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
    return minute_floor(minute_of_us(now_us) - slices->config.retain_minutes, DAY);
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
        err = series_add(series, key->minute, slice);
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
    err = series_subtract_own(series, key.minute, &unit.slice);
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
        err = series_set_foreign(series, id, key->minute, slice);
        leave_series(slices, series);
    }
    return err;
}

/* ---- sums ---- */

static enum err
sum_range(struct slices *slices, struct span tenant, struct span service, int64_t from_minute,
          int64_t to_minute, uint64_t *latency, struct slice *sum)
{
    const struct range range = range_clip(from_minute, to_minute);
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
        const struct range range = range_clip(windows[i].from_minute, to_minute);

        err = series_sum(series, range, windows[i].with_latency ? latency : NULL, &windows[i].sum);
    }
    if (series != NULL) {
        leave_series(slices, series);
    }
    return err;
}

/* ---- violations ---- */

uint64_t
slices_violations(struct slices *slices, struct span tenant, struct span service,
                  int64_t from_minute, int64_t to_minute, struct slices_limit limit)
{
    struct series *series = enter_series(slices, tenant, service);
    uint64_t count = 0;

    if (series != NULL) {
        count = series_violations(series, range_clip(from_minute, to_minute), limit);
        leave_series(slices, series);
    }
    return count;
}

void
slices_each_violation(struct slices *slices, struct span tenant, struct span service,
                      int64_t from_minute, int64_t to_minute, struct slices_limit limit,
                      void (*fn)(void *arg, int64_t minute, uint64_t good, uint64_t bad), void *arg)
{
    struct series *series = enter_series(slices, tenant, service);

    if (series != NULL) {
        series_each_violation(series, range_clip(from_minute, to_minute), limit, fn, arg);
        leave_series(slices, series);
    }
}

/* ---- walking ---- */

void
slices_each_minute(struct slices *slices, struct span tenant, struct span service,
                   int64_t from_minute, int64_t to_minute,
                   void (*fn)(void *arg, int64_t minute, uint64_t good, uint64_t bad), void *arg)
{
    const struct slice_measure by_status = {0};
    const struct range range = range_clip(from_minute, to_minute);
    struct series *series = enter_series(slices, tenant, service);
    const struct hour *hour;
    size_t at;

    if (series == NULL) {
        return;
    }
    at = series_first_hour(series, range.from);
    while ((hour = series_next_hour(series, &at, range.to)) != NULL) {
        struct minute_walk walk = hour_walk(hour);
        struct minute_view view;
        while (minute_walk_next(&walk, &view)) {
            uint64_t good;
            uint64_t bad;
            if (view.start >= range.from && view.start < range.to) {
                minute_view_good_bad(&view, &by_status, &good, &bad);
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
    const struct range range = range_clip(from_minute, to_minute);
    struct series *series = enter_series(slices, tenant, service);
    const struct hour *hour;
    enum err err = ERR_OK;
    size_t at;

    if (series == NULL) {
        return ERR_OK;
    }
    at = series_first_hour(series, range.from);
    while (err == ERR_OK && (hour = series_next_hour(series, &at, range.to)) != NULL) {
        struct minute_walk walk = hour_walk(hour);
        struct minute_view view;

        while (err == ERR_OK && minute_walk_next(&walk, &view)) {
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
    out->slices = atomic_load_explicit(&slices->room.minutes, memory_order_relaxed);
    out->open_hours = atomic_load_explicit(&slices->room.open_hours, memory_order_relaxed);
    out->dropped_events = atomic_load_explicit(&slices->dropped, memory_order_relaxed);
}

/* ---- expiry ---- */

/* TABLE_LOCK held for writing: nobody is inside a series. */
static void
drop_empty_series(struct slices *slices)
{
    uint32_t kept = 0;

    atomic_store_explicit(&slices->last, NULL, memory_order_release);
    for (uint32_t i = 0; i < slices->series_count; i++) {
        struct series *series = slices->sorted[i];
        if (series->hours.len == 0) {
            series_free(series);
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
        series_expire(series, cutoff(slices, now_us), minute_of_us(now_us) - PACK_AFTER);
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
