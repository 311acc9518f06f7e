/*
 * slice.c - adding, subtracting and writing down slices.
 *
 * A slice's bytes. Every number is an unsigned LEB128 varint in its shortest form:
 *
 *   +---------+------+-----+-------+-------------+----------------+--------------+
 *   | version | good | bad | timed | status list | threshold list | latency list |
 *   +---------+------+-----+-------+-------------+----------------+--------------+
 *     1 byte = 1
 *
 *   list:   length, then per entry key and count
 *   key:    the first zig-zag coded ((k << 1) ^ (k >> 63)), each further one as the distance to
 *           the key before minus 1: ascending order needs no check because nothing else can be
 * written count:  at least 1
 *
 * What every slice satisfies, checked when bytes are read: the statuses below 500 sum to good and
 * all of them to good + bad; the latency buckets sum to timed; timed <= good + bad; the two sides
 * of each threshold sum to at most timed. A total is at most SLICE_TOTAL_MAX, so that sums of
 * slices stay far from the end of 64 bits.
 */
#include "core/slo/slice.h"

#include <stdlib.h>

#include "core/base/histogram.h"

enum {
    SLICE_VERSION = 1,
    VARINT_BYTES_MAX = 10,
    GOOD_STATUS_BELOW = 500,
    STATUS_MAX =
        UINT16_MAX, /* what an event can hold; which ones are accepted is decode.h's matter */
    SET_INDEX_SIZE_FIRST = 64,
};

/* No list has keys this far apart; keeps the arithmetic on keys far from overflow. */
#define CODED_KEY_MAX (UINT64_C(1) << 40)

int64_t
minute_of_us(int64_t us)
{
    const int64_t minute_us = INT64_C(60) * 1000 * 1000;
    int64_t minute = us / minute_us;

    return us % minute_us < 0 ? minute - 1 : minute;
}

bool
slice_rules_valid(const struct slice_rules *rules)
{
    uint32_t previous = 0;

    if (rules->threshold_count > SLICE_THRESHOLDS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < rules->threshold_count; i++) {
        if (rules->threshold_us[i] <= previous) {
            return false;
        }
        previous = rules->threshold_us[i];
    }
    return true;
}

void
slice_clear(struct slice *slice)
{
    sparse_clear(&slice->status);
    sparse_clear(&slice->latency);
    sparse_clear(&slice->threshold);
    *slice = (struct slice){0};
}

/* The keys of a threshold's two sides; both sides of one threshold are neighbours in the list. */
static int64_t
at_or_below(uint32_t threshold_us)
{
    return 2 * (int64_t)threshold_us;
}

static int64_t
above(uint32_t threshold_us)
{
    return 2 * (int64_t)threshold_us + 1;
}

static bool
is_good_status(const struct slice_status_rule *rule, int64_t status)
{
    for (uint32_t i = 0; i < rule->range_count; i++) {
        if (status >= rule->range[i].first && status <= rule->range[i].last) {
            return true;
        }
    }
    return false;
}

void
slice_good_bad(const struct slice *slice, const struct slice_measure *measure, uint64_t *good_out,
               uint64_t *bad_out)
{
    if (measure->threshold_us != 0) {
        *good_out = sparse_get(&slice->threshold, at_or_below(measure->threshold_us));
        *bad_out = sparse_get(&slice->threshold, above(measure->threshold_us));
        return;
    }
    *good_out = slice->good;
    if (measure->good_status.range_count > 0) {
        *good_out = 0;
        for (uint32_t i = 0; i < slice->status.len; i++) {
            const struct sparse_entry *entry = &slice->status.entries[i];
            *good_out += is_good_status(&measure->good_status, entry->key) ? entry->count : 0;
        }
    }
    *bad_out = slice->good + slice->bad - *good_out;
}

/* ---- one event ---- */

void
slice_unit_init(struct slice_unit *unit, const struct event *event, const struct slice_rules *rules)
{
    struct slice *slice = &unit->slice;

    ASSERT(event_is_measured(event));
    ASSERT(rules->threshold_count <= SLICE_THRESHOLDS_MAX);
    *slice = (struct slice){0};
    slice->good = event_is_good(event) ? 1 : 0;
    slice->bad = 1 - slice->good;
    unit->status = (struct sparse_entry){event->status, 1};
    slice->status = (struct sparse){&unit->status, 1, 1};
    if (!event->has_latency) {
        return;
    }
    slice->timed = 1;
    unit->latency = (struct sparse_entry){histogram_index(event->latency_ms), 1};
    slice->latency = (struct sparse){&unit->latency, 1, 1};
    slice->threshold = (struct sparse){unit->threshold, 0, SLICE_THRESHOLDS_MAX};
    for (uint32_t i = 0; i < rules->threshold_count; i++) {
        uint32_t threshold_us = rules->threshold_us[i];
        /* t/1000.0 is the double nearest to t us in ms: what a client's 500 or 0.25 became. */
        bool within = event->latency_ms <= (double)threshold_us / 1000.0;
        unit->threshold[slice->threshold.len++] =
            (struct sparse_entry){within ? at_or_below(threshold_us) : above(threshold_us), 1};
    }
}

enum err
slice_add_event(struct slice *slice, const struct event *event, const struct slice_rules *rules)
{
    struct slice_unit unit;

    slice_unit_init(&unit, event, rules);
    return slice_add(slice, &unit.slice);
}

/* ---- sums ---- */

/* Every other counter of a slice is at most its total. */
static bool
totals_fit(const struct slice *a, const struct slice *b)
{
    uint64_t room = SLICE_TOTAL_MAX - (a->good + a->bad);

    return b->good <= room && b->bad <= room - b->good;
}

enum err
slice_reserve(struct slice *into, const struct slice *from)
{
    ASSERT(into != from);
    if (!totals_fit(into, from)) {
        return ERR_CORRUPT;
    }
    if (sparse_reserve(&into->status, &from->status) != ERR_OK ||
        sparse_reserve(&into->latency, &from->latency) != ERR_OK ||
        sparse_reserve(&into->threshold, &from->threshold) != ERR_OK) {
        return ERR_NO_MEMORY;
    }
    return ERR_OK;
}

void
slice_add_reserved(struct slice *into, const struct slice *from)
{
    into->good += from->good;
    into->bad += from->bad;
    into->timed += from->timed;
    sparse_add(&into->status, &from->status);
    sparse_add(&into->latency, &from->latency);
    sparse_add(&into->threshold, &from->threshold);
}

enum err
slice_add(struct slice *into, const struct slice *from)
{
    enum err err = slice_reserve(into, from);

    if (err == ERR_OK) {
        slice_add_reserved(into, from);
    }
    return err;
}

bool
slice_covers(const struct slice *into, const struct slice *from)
{
    return into->good >= from->good && into->bad >= from->bad && into->timed >= from->timed &&
           sparse_covers(&into->status, &from->status) &&
           sparse_covers(&into->latency, &from->latency) &&
           sparse_covers(&into->threshold, &from->threshold);
}

void
slice_subtract(struct slice *into, const struct slice *from)
{
    ASSERT(into->good >= from->good);
    ASSERT(into->bad >= from->bad);
    ASSERT(into->timed >= from->timed);
    into->good -= from->good;
    into->bad -= from->bad;
    into->timed -= from->timed;
    sparse_subtract(&into->status, &from->status);
    sparse_subtract(&into->latency, &from->latency);
    sparse_subtract(&into->threshold, &from->threshold);
}

/* ---- bytes ---- */

static void
write_varint(struct buffer *out, uint64_t value)
{
    uint8_t bytes[VARINT_BYTES_MAX];
    size_t len = 0;

    while (value >= 0x80) {
        bytes[len++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    bytes[len++] = (uint8_t)value;
    buffer_append(out, bytes, len);
}

static void
write_list(struct buffer *out, const struct sparse *list)
{
    write_varint(out, list->len);
    for (uint32_t i = 0; i < list->len; i++) {
        int64_t key = list->entries[i].key;
        if (i == 0) {
            write_varint(out, ((uint64_t)key << 1) ^ (key < 0 ? UINT64_MAX : 0));
        } else {
            int64_t distance = key - list->entries[i - 1].key;
            ASSERT(distance > 0);
            write_varint(out, (uint64_t)(distance - 1));
        }
        write_varint(out, list->entries[i].count);
    }
}

void
slice_encode(const struct slice *slice, struct buffer *out)
{
    buffer_append_char(out, SLICE_VERSION);
    write_varint(out, slice->good);
    write_varint(out, slice->bad);
    write_varint(out, slice->timed);
    write_list(out, &slice->status);
    write_list(out, &slice->threshold);
    write_list(out, &slice->latency);
}

struct reader {
    const uint8_t *at;
    const uint8_t *end;
};

/* False at the end of the bytes, beyond 64 bits, and for a form that is not the shortest. */
static bool
read_varint(struct reader *reader, uint64_t *out)
{
    uint64_t value = 0;

    for (unsigned shift = 0; reader->at < reader->end; shift += 7) {
        uint8_t byte = *reader->at++;
        if (shift == 63 && byte > 1) {
            return false;
        }
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *out = value;
            return byte != 0 || shift == 0;
        }
    }
    return false;
}

/* A list inside the bytes: how many entries, and a reader that stands before the first. */
struct list {
    struct reader reader;
    uint64_t len;
};

/* Reads the next of a list's entries; KEY holds the one before, AT counts from 0. */
static bool
read_entry(struct reader *reader, uint64_t at, int64_t *key, uint64_t *count)
{
    uint64_t coded;

    if (!read_varint(reader, &coded) || coded > CODED_KEY_MAX || !read_varint(reader, count)) {
        return false;
    }
    if (at == 0) {
        *key = (int64_t)(coded >> 1) ^ -(int64_t)(coded & 1);
    } else {
        *key += (int64_t)coded + 1;
    }
    return *count > 0;
}

/* Checks one list: keys in [KEY_MIN, KEY_MAX], counts; leaves their sum, and the part with keys <
 * SPLIT. */
static bool
check_list(struct reader *reader, int64_t key_min, int64_t key_max, int64_t split, struct list *out,
           uint64_t *sum_out, uint64_t *below_out)
{
    uint64_t len;
    int64_t key = 0;
    uint64_t count;

    *sum_out = 0;
    *below_out = 0;
    if (!read_varint(reader, &len)) {
        return false;
    }
    *out = (struct list){*reader, len};
    for (uint64_t i = 0; i < len; i++) {
        if (!read_entry(reader, i, &key, &count) || key < key_min || key > key_max ||
            count > SLICE_TOTAL_MAX || __builtin_add_overflow(*sum_out, count, sum_out)) {
            return false;
        }
        *below_out += key < split ? count : 0;
    }
    return true;
}

/* The two sides of one threshold, neighbours in the list, may not sum to more than TIMED. */
static bool
thresholds_agree(struct list list, uint64_t timed)
{
    int64_t key = 0;
    int64_t previous_key = 0;
    uint64_t count = 0;
    uint64_t previous = 0;

    for (uint64_t i = 0; i < list.len; i++) {
        bool read = read_entry(&list.reader, i, &key, &count);
        ASSERT(read); /* check_list() has read it before */
        if (previous_key / 2 == key / 2) {
            count += previous; /* both at most SLICE_TOTAL_MAX */
        }
        if (count > timed) {
            return false;
        }
        previous = count;
        previous_key = key;
    }
    return true;
}

/* An encoded slice that has been checked. */
struct view {
    struct slice counts; /* good, bad and timed only */
    struct list status;
    struct list threshold;
    struct list latency;
};

static enum err
check_slice(struct span bytes, struct view *out)
{
    struct slice *counts = &out->counts;
    struct reader reader;
    uint64_t sum;
    uint64_t below;

    if (bytes.len == 0) {
        return ERR_CORRUPT;
    }
    reader.at = (const uint8_t *)bytes.data;
    reader.end = reader.at + bytes.len;
    if (*reader.at++ != SLICE_VERSION) {
        return ERR_FORMAT;
    }
    *counts = (struct slice){0};
    if (!read_varint(&reader, &counts->good) || !read_varint(&reader, &counts->bad) ||
        !read_varint(&reader, &counts->timed) || counts->good > SLICE_TOTAL_MAX ||
        counts->bad > SLICE_TOTAL_MAX - counts->good ||
        counts->timed > counts->good + counts->bad) {
        return ERR_CORRUPT;
    }
    if (!check_list(&reader, 0, STATUS_MAX, GOOD_STATUS_BELOW, &out->status, &sum, &below) ||
        sum != counts->good + counts->bad || below != counts->good) {
        return ERR_CORRUPT;
    }
    if (!check_list(&reader, 2, above(UINT32_MAX), 0, &out->threshold, &sum, &below) ||
        !thresholds_agree(out->threshold, counts->timed)) {
        return ERR_CORRUPT;
    }
    if (!check_list(&reader, HISTOGRAM_ZERO, HISTOGRAM_INDEX_MAX, 0, &out->latency, &sum, &below) ||
        sum != counts->timed || reader.at != reader.end) {
        return ERR_CORRUPT;
    }
    return ERR_OK;
}

/* Room for LIST's keys in INTO, counted as if none of them were there yet. */
static enum err
reserve_list(struct sparse *into, struct list list)
{
    ASSERT(list.len <= UINT32_MAX); /* keys are distinct and in a range */
    return sparse_reserve_keys(into, narrow_u32(list.len));
}

static void
add_list(struct sparse *into, struct list list)
{
    int64_t key = 0;
    uint64_t count = 0;

    for (uint64_t i = 0; i < list.len; i++) {
        bool read = read_entry(&list.reader, i, &key, &count);
        ASSERT(read); /* the list has been checked */
        sparse_add_one(into, key, count);
    }
}

enum err
slice_decode_add(struct span bytes, struct slice *into)
{
    struct view view;
    enum err err = check_slice(bytes, &view);

    if (err != ERR_OK) {
        return err;
    }
    if (!totals_fit(into, &view.counts)) {
        return ERR_CORRUPT;
    }
    if (reserve_list(&into->status, view.status) != ERR_OK ||
        reserve_list(&into->threshold, view.threshold) != ERR_OK ||
        reserve_list(&into->latency, view.latency) != ERR_OK) {
        return ERR_NO_MEMORY;
    }
    into->good += view.counts.good;
    into->bad += view.counts.bad;
    into->timed += view.counts.timed;
    add_list(&into->status, view.status);
    add_list(&into->threshold, view.threshold);
    add_list(&into->latency, view.latency);
    return ERR_OK;
}

/* ---- bytes of our own: read as far as need be, not checked ---- */

/* A reader that stands behind the version. */
static struct reader
read_own(struct span bytes)
{
    struct reader reader = {(const uint8_t *)bytes.data, (const uint8_t *)bytes.data + bytes.len};

    ASSERT(bytes.len > 0);
    ASSERT(*reader.at == SLICE_VERSION);
    reader.at++;
    return reader;
}

static uint64_t
own_varint(struct reader *reader)
{
    uint64_t value = 0;
    bool read;

    if (reader->at < reader->end && *reader->at < 0x80) { /* nearly all are this short */
        return *reader->at++;
    }
    read = read_varint(reader, &value);
    ASSERT(read);
    return value;
}

/* The next of a list's entries; KEY holds the one before, AT counts from 0. Returns its count. */
static uint64_t
own_entry(struct reader *reader, uint64_t at, int64_t *key)
{
    const uint64_t coded = own_varint(reader);

    if (at == 0) {
        *key = (int64_t)(coded >> 1) ^ -(int64_t)(coded & 1);
    } else {
        *key += (int64_t)coded + 1;
    }
    return own_varint(reader);
}

/* Goes past the list of statuses and tells how many are good by RULE. */
static uint64_t
own_good_status(struct reader *reader, const struct slice_status_rule *rule)
{
    const uint64_t len = own_varint(reader);
    uint64_t good = 0;
    int64_t key = 0;

    for (uint64_t i = 0; i < len; i++) {
        const uint64_t count = own_entry(reader, i, &key);
        good += is_good_status(rule, key) ? count : 0;
    }
    return good;
}

void
slice_own_good_bad(struct span bytes, const struct slice_measure *measure, uint64_t *good_out,
                   uint64_t *bad_out)
{
    struct reader reader = read_own(bytes);
    const uint64_t good = own_varint(&reader);
    const uint64_t bad = own_varint(&reader);
    const bool by_latency = measure->threshold_us != 0;
    uint64_t good_status;
    uint64_t len;
    int64_t key = 0;

    *good_out = good;
    *bad_out = bad;
    if (!by_latency && measure->good_status.range_count == 0) {
        return;
    }
    (void)own_varint(&reader); /* timed */
    good_status = own_good_status(&reader, &measure->good_status);
    if (!by_latency) {
        *good_out = good_status;
        *bad_out = good + bad - good_status;
        return;
    }
    *good_out = 0;
    *bad_out = 0;
    len = own_varint(&reader);
    for (uint64_t i = 0; i < len; i++) {
        const uint64_t count = own_entry(&reader, i, &key);
        *good_out += key == at_or_below(measure->threshold_us) ? count : 0;
        *bad_out += key == above(measure->threshold_us) ? count : 0;
    }
}

/* ---- slice_total ---- */

void
slice_total_clear(struct slice_total *total)
{
    slice_clear(&total->counts);
    if (total->latency != NULL) {
        memset(total->latency + total->used_from, 0,
               (total->used_to - total->used_from) * sizeof(*total->latency));
    }
    total->used_from = total->used_to = 0;
}

/* A place in the flat array, which is used from now on. */
static uint64_t *
latency_count(struct slice_total *total, int64_t bucket)
{
    const uint32_t at = (uint32_t)(bucket - HISTOGRAM_ZERO);

    ASSERT(bucket >= HISTOGRAM_ZERO);
    ASSERT(bucket <= HISTOGRAM_INDEX_MAX);
    if (total->used_to == 0) {
        total->used_from = at;
    }
    total->used_from = at < total->used_from ? at : total->used_from;
    total->used_to = at >= total->used_to ? at + 1 : total->used_to;
    return &total->latency[at];
}

/*
 * Whether a total may grow by a slice. What is subtracted again later lets it grow above what a
 * slice may hold; slice_total_finish() sees to that. Sparse counts stay as far from 64 bits.
 */
static bool
total_has_room(const struct slice *counts, uint64_t good, uint64_t bad)
{
    return counts->good + counts->bad + good + bad <= 4 * SLICE_TOTAL_MAX;
}

enum err
slice_total_add(struct slice_total *total, const struct slice *from)
{
    struct slice *counts = &total->counts;

    if (!total_has_room(counts, from->good, from->bad)) {
        return ERR_CORRUPT;
    }
    if (sparse_reserve(&counts->status, &from->status) != ERR_OK ||
        sparse_reserve(&counts->threshold, &from->threshold) != ERR_OK) {
        return ERR_NO_MEMORY;
    }
    counts->good += from->good;
    counts->bad += from->bad;
    counts->timed += from->timed;
    sparse_add(&counts->status, &from->status);
    sparse_add(&counts->threshold, &from->threshold);
    for (uint32_t i = 0; total->latency != NULL && i < from->latency.len; i++) {
        const struct sparse_entry *entry = &from->latency.entries[i];
        *latency_count(total, entry->key) += entry->count;
    }
    return ERR_OK;
}

static void
subtract_count(uint64_t *from, uint64_t count)
{
    ASSERT(*from >= count);
    *from -= count;
}

void
slice_total_subtract(struct slice_total *total, const struct slice *from)
{
    struct slice counts = *from;

    counts.latency = (struct sparse){NULL, 0, 0};
    slice_subtract(&total->counts, &counts);
    for (uint32_t i = 0; total->latency != NULL && i < from->latency.len; i++) {
        const struct sparse_entry *entry = &from->latency.entries[i];
        subtract_count(latency_count(total, entry->key), entry->count);
    }
}

/* Adds the list READER stands before, and leaves it behind that. */
static enum err
add_own_list(struct sparse *into, struct reader *reader)
{
    const uint64_t len = own_varint(reader);
    int64_t key = 0;

    if (sparse_reserve_keys(into, narrow_u32(len)) != ERR_OK) {
        return ERR_NO_MEMORY;
    }
    for (uint64_t i = 0; i < len; i++) {
        const uint64_t count = own_entry(reader, i, &key);
        if (i < into->len && into->entries[i].key == key) { /* mostly the same keys */
            into->entries[i].count += count;
        } else {
            sparse_add_one(into, key, count);
        }
    }
    return ERR_OK;
}

enum err
slice_total_add_own(struct slice_total *total, struct span bytes)
{
    struct slice *counts = &total->counts;
    struct reader reader = read_own(bytes);
    struct slice head = {0};
    int64_t key = 0;
    uint64_t len;

    head.good = own_varint(&reader);
    head.bad = own_varint(&reader);
    head.timed = own_varint(&reader);
    if (!total_has_room(counts, head.good, head.bad)) {
        return ERR_CORRUPT;
    }
    if (add_own_list(&counts->status, &reader) != ERR_OK ||
        add_own_list(&counts->threshold, &reader) != ERR_OK) {
        return ERR_NO_MEMORY;
    }
    counts->good += head.good;
    counts->bad += head.bad;
    counts->timed += head.timed;
    if (total->latency == NULL) {
        return ERR_OK; /* it is the last list */
    }
    len = own_varint(&reader);
    for (uint64_t i = 0; i < len; i++) {
        const uint64_t count = own_entry(&reader, i, &key);
        *latency_count(total, key) += count;
    }
    return ERR_OK;
}

static void
subtract_own_list(struct sparse *from, struct reader *reader)
{
    const uint64_t len = own_varint(reader);
    int64_t key = 0;

    for (uint64_t i = 0; i < len; i++) {
        const uint64_t count = own_entry(reader, i, &key);
        if (i < from->len && from->entries[i].key == key && from->entries[i].count > count) {
            from->entries[i].count -= count;
        } else {
            sparse_subtract_one(from, key, count);
        }
    }
}

void
slice_total_subtract_own(struct slice_total *total, struct span bytes)
{
    struct reader reader = read_own(bytes);
    int64_t key = 0;
    uint64_t len;

    subtract_count(&total->counts.good, own_varint(&reader));
    subtract_count(&total->counts.bad, own_varint(&reader));
    subtract_count(&total->counts.timed, own_varint(&reader));
    subtract_own_list(&total->counts.status, &reader);
    subtract_own_list(&total->counts.threshold, &reader);
    if (total->latency == NULL) {
        return;
    }
    len = own_varint(&reader);
    for (uint64_t i = 0; i < len; i++) {
        const uint64_t count = own_entry(&reader, i, &key);
        subtract_count(latency_count(total, key), count);
    }
}

enum err
slice_total_finish(struct slice_total *total, struct slice *into)
{
    struct sparse *latency = &total->counts.latency;
    uint32_t used = 0;

    for (uint32_t i = total->used_from; i < total->used_to; i++) {
        used += total->latency[i] > 0 ? 1 : 0;
    }
    if (sparse_reserve_keys(latency, used) != ERR_OK) {
        return ERR_NO_MEMORY;
    }
    for (uint32_t i = total->used_from; i < total->used_to; i++) {
        if (total->latency[i] > 0) {
            latency->entries[latency->len++] =
                (struct sparse_entry){(int64_t)i + HISTOGRAM_ZERO, total->latency[i]};
        }
    }
    if (slice_is_empty(into) && totals_fit(into, &total->counts)) { /* moved: most go this way */
        slice_clear(into);
        *into = total->counts;
        total->counts = (struct slice){0};
        return ERR_OK;
    }
    return slice_add(into, &total->counts);
}

/* ---- slice_set ---- */

static uint64_t
hash_key(const struct slice_key *key)
{
    uint64_t hash = span_pair_hash(key->tenant, key->service);

    hash = (hash ^ (uint64_t)key->minute) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 32;
}

static bool
key_equal(const struct slice_key *a, const struct slice_key *b)
{
    return a->minute == b->minute && span_equal(a->service, b->service) &&
           span_equal(a->tenant, b->tenant);
}

/* The place of KEY in the index: its own, or the free one where it belongs. */
static size_t
index_slot(const struct slice_set *set, const struct slice_key *key)
{
    size_t slot = (size_t)hash_key(key) & (set->index_size - 1);

    while (set->index[slot] != 0 && !key_equal(&set->entries[set->index[slot] - 1].key, key)) {
        slot = (slot + 1) & (set->index_size - 1);
    }
    return slot;
}

/* Room for one more entry, and an index that stays at most half full. */
static enum err
set_reserve(struct slice_set *set)
{
    if (set->len == set->capacity) {
        size_t capacity = set->capacity == 0 ? SET_INDEX_SIZE_FIRST / 2 : set->capacity * 2;
        struct slice_set_entry *entries = realloc(set->entries, capacity * sizeof(*entries));
        if (entries == NULL) {
            return ERR_NO_MEMORY;
        }
        set->entries = entries;
        set->capacity = capacity;
    }
    if ((set->len + 1) * 2 > set->index_size) {
        size_t size = set->index_size == 0 ? SET_INDEX_SIZE_FIRST : set->index_size * 2;
        uint32_t *index = calloc(size, sizeof(*index));
        if (index == NULL) {
            return ERR_NO_MEMORY;
        }
        free(set->index);
        set->index = index;
        set->index_size = size;
        for (size_t i = 0; i < set->len; i++) {
            set->index[index_slot(set, &set->entries[i].key)] = narrow_u32(i + 1);
        }
    }
    return ERR_OK;
}

/* Both names in one block, the tenant's first. */
static enum err
copy_key(const struct slice_key *key, struct slice_key *out)
{
    char *names = malloc(key->tenant.len + key->service.len + 1);

    if (names == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(names, key->tenant.data, key->tenant.len);
    memcpy(names + key->tenant.len, key->service.data, key->service.len);
    out->tenant = (struct span){names, key->tenant.len};
    out->service = (struct span){names + key->tenant.len, key->service.len};
    out->minute = key->minute;
    return ERR_OK;
}

static void
free_key(struct slice_key *key)
{
    free((void *)(uintptr_t)key->tenant.data); /* the block copy_key() made */
    *key = (struct slice_key){0};
}

void
slice_set_clear(struct slice_set *set)
{
    for (size_t i = 0; i < set->len; i++) {
        free_key(&set->entries[i].key);
        slice_clear(&set->entries[i].slice);
    }
    free(set->entries);
    free(set->index);
    *set = (struct slice_set){0};
}

enum err
slice_set_add_event(struct slice_set *set, const struct event *event,
                    const struct slice_rules *rules)
{
    struct slice_key key = {event->tenant, event->service, minute_of_us(event->occurred_at_us)};
    struct slice_set_entry *entry;
    size_t slot;
    enum err err;

    ASSERT(set->len == 0 || set->index_size > 0); /* not sorted yet */
    err = set_reserve(set);
    if (err != ERR_OK) {
        return err;
    }
    slot = index_slot(set, &key);
    if (set->index[slot] != 0) {
        return slice_add_event(&set->entries[set->index[slot] - 1].slice, event, rules);
    }
    entry = &set->entries[set->len];
    *entry = (struct slice_set_entry){0};
    err = copy_key(&key, &entry->key);
    if (err != ERR_OK) {
        return err;
    }
    err = slice_add_event(&entry->slice, event, rules);
    if (err != ERR_OK) {
        slice_clear(&entry->slice);
        free_key(&entry->key);
        return err;
    }
    set->len++;
    set->index[slot] = narrow_u32(set->len);
    return ERR_OK;
}

static int
compare_spans(struct span a, struct span b)
{
    int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);

    if (order != 0) {
        return order;
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

static int
compare_entries(const void *left, const void *right)
{
    const struct slice_key *a = &((const struct slice_set_entry *)left)->key;
    const struct slice_key *b = &((const struct slice_set_entry *)right)->key;
    int order = compare_spans(a->tenant, b->tenant);

    if (order == 0) {
        order = compare_spans(a->service, b->service);
    }
    if (order == 0) {
        order = a->minute < b->minute ? -1 : a->minute > b->minute;
    }
    return order;
}

void
slice_set_sort(struct slice_set *set)
{
    if (set->len > 0) {
        qsort(set->entries, set->len, sizeof(*set->entries), compare_entries);
    }
    free(set->index);
    set->index = NULL;
    set->index_size = 0;
}
