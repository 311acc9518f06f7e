/*
 * fake_history.c - a flat list, searched from the start: tests have few keys.
 */
#include "tests/fakes/fake_history.h"

#include <stdlib.h>

static char *
copy_bytes(struct span span)
{
    char *copy = malloc(span.len + 1);

    ASSERT(copy != NULL);
    if (span.len > 0) {
        memcpy(copy, span.data, span.len);
    }
    copy[span.len] = '\0';
    return copy;
}

void
fake_history_clear(struct fake_history *history)
{
    for (size_t i = 0; i < history->len; i++) {
        free(history->entries[i].tenant);
        free(history->entries[i].service);
        slice_clear(&history->entries[i].slice);
    }
    free(history->entries);
    *history = (struct fake_history){0};
}

struct slice_key
fake_history_key(const struct fake_history_entry *entry)
{
    return (struct slice_key){
        {entry->tenant, entry->tenant_len}, {entry->service, entry->service_len}, entry->minute};
}

static const struct fake_history_entry *
find_entry(const struct fake_history *history, const struct slice_key *key)
{
    for (size_t i = 0; i < history->len; i++) {
        struct slice_key own = fake_history_key(&history->entries[i]);

        if (own.minute == key->minute && span_equal(own.tenant, key->tenant) &&
            span_equal(own.service, key->service)) {
            return &history->entries[i];
        }
    }
    return NULL;
}

static struct fake_history_entry *
entry_for(struct fake_history *history, const struct slice_key *key)
{
    const struct fake_history_entry *found = find_entry(history, key);

    if (found != NULL) {
        return &history->entries[found - history->entries];
    }
    if (history->len == history->capacity) {
        size_t capacity = history->capacity == 0 ? 16 : history->capacity * 2;
        struct fake_history_entry *grown =
            realloc(history->entries, capacity * sizeof(*history->entries));

        ASSERT(grown != NULL);
        history->entries = grown;
        history->capacity = capacity;
    }
    history->entries[history->len] = (struct fake_history_entry){
        .tenant = copy_bytes(key->tenant),
        .tenant_len = key->tenant.len,
        .service = copy_bytes(key->service),
        .service_len = key->service.len,
        .minute = key->minute,
    };
    return &history->entries[history->len++];
}

void
fake_history_add(struct fake_history *history, const struct slice_key *key,
                 const struct slice *slice)
{
    enum err err = slice_add(&entry_for(history, key)->slice, slice);

    ASSERT(err == ERR_OK);
}

void
fake_history_add_set(struct fake_history *history, const struct slice_set *set)
{
    for (size_t i = 0; i < set->len; i++) {
        fake_history_add(history, &set->entries[i].key, &set->entries[i].slice);
    }
}

void
fake_history_add_all(struct fake_history *history, const struct fake_history *other)
{
    for (size_t i = 0; i < other->len; i++) {
        struct slice_key key = fake_history_key(&other->entries[i]);

        fake_history_add(history, &key, &other->entries[i].slice);
    }
}

void
fake_history_add_event(struct fake_history *history, const struct event *event,
                       const struct slice_rules *rules)
{
    struct slice_key key = {event->tenant, event->service, minute_of_us(event->occurred_at_us)};
    enum err err = slice_add_event(&entry_for(history, &key)->slice, event, rules);

    ASSERT(err == ERR_OK);
}

static bool
slice_equal(const struct slice *a, const struct slice *b)
{
    struct buffer a_bytes = BUFFER_EMPTY;
    struct buffer b_bytes = BUFFER_EMPTY;
    bool equal = false;

    slice_encode(a, &a_bytes);
    slice_encode(b, &b_bytes);
    ASSERT(!a_bytes.failed);
    ASSERT(!b_bytes.failed);
    equal = span_equal(buffer_span(&a_bytes), buffer_span(&b_bytes));
    buffer_free(&a_bytes);
    buffer_free(&b_bytes);
    return equal;
}

/* True when each non-empty slice of A is the same in B. */
static bool
covered_by(const struct fake_history *a, const struct fake_history *b)
{
    for (size_t i = 0; i < a->len; i++) {
        const struct slice *slice = &a->entries[i].slice;
        struct slice_key key = fake_history_key(&a->entries[i]);
        const struct fake_history_entry *other = find_entry(b, &key);

        if (slice->good + slice->bad == 0) {
            continue;
        }
        if (other == NULL || !slice_equal(slice, &other->slice)) {
            return false;
        }
    }
    return true;
}

bool
fake_history_equal(const struct fake_history *a, const struct fake_history *b)
{
    return covered_by(a, b) && covered_by(b, a);
}

uint64_t
fake_history_events(const struct fake_history *history)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < history->len; i++) {
        sum += history->entries[i].slice.good + history->entries[i].slice.bad;
    }
    return sum;
}
