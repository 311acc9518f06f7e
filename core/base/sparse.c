/*
 * sparse.c - sorted arrays with binary search: a slice's lists have a few to a few hundred keys,
 * where an array beats every tree or table, and adding to a key already there allocates nothing.
 */
#include "core/base/sparse.h"

#include <stdlib.h>

enum {
    SHORT_MAX = 8 /* keys: up to here each is searched for, beyond two lists are merged */
};

void
sparse_clear(struct sparse *sparse)
{
    free(sparse->entries);
    *sparse = (struct sparse){NULL, 0, 0};
}

/*
 * Number of the first entry whose key is at least KEY; LEN when there is none. Latencies are
 * random, so a branch per step would be guessed wrong half of the time: the step is chosen by
 * arithmetic.
 */
static uint32_t
lower_bound(const struct sparse *sparse, int64_t key)
{
    const struct sparse_entry *base = sparse->entries;
    uint32_t count = sparse->len;

    if (count == 0) {
        return 0;
    }
    while (count > 1) {
        uint32_t half = count / 2;
        base += (size_t)(base[half - 1].key < key ? 1U : 0U) * half;
        count -= half;
    }
    return (uint32_t)(base - sparse->entries) + (base->key < key ? 1 : 0);
}

static bool
has_key_at(const struct sparse *sparse, uint32_t at, int64_t key)
{
    return at < sparse->len && sparse->entries[at].key == key;
}

uint64_t
sparse_get(const struct sparse *sparse, int64_t key)
{
    uint32_t at = lower_bound(sparse, key);

    return has_key_at(sparse, at, key) ? sparse->entries[at].count : 0;
}

uint64_t
sparse_total(const struct sparse *sparse)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < sparse->len; i++) {
        total += sparse->entries[i].count;
    }
    return total;
}

/* How many keys of FROM are not in INTO. */
static uint32_t
count_missing(const struct sparse *into, const struct sparse *from)
{
    uint32_t missing = 0;
    uint32_t at = 0;

    for (uint32_t i = 0; i < from->len; i++) {
        int64_t key = from->entries[i].key;
        while (at < into->len && into->entries[at].key < key) {
            at++;
        }
        missing += has_key_at(into, at, key) ? 0 : 1;
    }
    return missing;
}

enum err
sparse_reserve_keys(struct sparse *into, uint32_t more)
{
    uint64_t need = (uint64_t)into->len + more;
    uint64_t capacity;
    struct sparse_entry *entries;

    if (need <= into->capacity) {
        return ERR_OK;
    }
    /* The first block fits exactly: most lists (statuses, thresholds) never grow again. */
    capacity = into->capacity == 0 ? need : need + need / 2;
    if (capacity > UINT32_MAX) {
        return ERR_NO_MEMORY;
    }
    entries = realloc(into->entries, (size_t)capacity * sizeof(*entries));
    if (entries == NULL) {
        return ERR_NO_MEMORY;
    }
    into->entries = entries;
    into->capacity = narrow_u32(capacity);
    return ERR_OK;
}

enum err
sparse_reserve(struct sparse *into, const struct sparse *from)
{
    if (into->capacity - into->len >= from->len) {
        return ERR_OK;
    }
    /* Some room to spare for a short list is cheaper than to look its keys up each time. */
    if (from->len <= SHORT_MAX) {
        return sparse_reserve_keys(into, from->len);
    }
    return sparse_reserve_keys(into, count_missing(into, from));
}

static void
raise_count(struct sparse_entry *entry, uint64_t count)
{
    ASSERT(count <= UINT64_MAX - entry->count);
    entry->count += count;
}

void
sparse_add_one(struct sparse *into, int64_t key, uint64_t count)
{
    uint32_t at = lower_bound(into, key);

    ASSERT(count > 0);
    if (has_key_at(into, at, key)) {
        raise_count(&into->entries[at], count);
        return;
    }
    ASSERT(into->len < into->capacity);
    memmove(&into->entries[at + 1], &into->entries[at], (into->len - at) * sizeof(*into->entries));
    into->entries[at] = (struct sparse_entry){key, count};
    into->len++;
}

/* Merges from the back, so that every entry of INTO moves at most once and in place. */
static void
merge(struct sparse *into, const struct sparse *from)
{
    uint32_t missing = count_missing(into, from);
    uint32_t write = into->len + missing;
    uint32_t old = into->len;
    uint32_t left = from->len;

    ASSERT(into->capacity - into->len >= missing);
    into->len = write;
    while (left > 0) {
        const struct sparse_entry *add = &from->entries[left - 1];
        write--;
        if (old > 0 && into->entries[old - 1].key > add->key) {
            into->entries[write] = into->entries[--old];
            continue;
        }
        if (old > 0 && into->entries[old - 1].key == add->key) {
            into->entries[write] = into->entries[--old];
            raise_count(&into->entries[write], add->count);
        } else {
            into->entries[write] = *add;
        }
        left--;
    }
}

void
sparse_add(struct sparse *into, const struct sparse *from)
{
    const uint32_t same = into->len < from->len ? into->len : from->len;
    struct sparse rest = *from;
    uint32_t i = 0;

    /* Statuses and thresholds are mostly the same keys from the first to the last. */
    while (i < same && into->entries[i].key == from->entries[i].key) {
        raise_count(&into->entries[i], from->entries[i].count);
        i++;
    }
    rest.entries += i;
    rest.len -= i;
    if (rest.len > SHORT_MAX) {
        merge(into, &rest);
        return;
    }
    for (i = 0; i < rest.len; i++) {
        sparse_add_one(into, rest.entries[i].key, rest.entries[i].count);
    }
}

void
sparse_subtract_one(struct sparse *into, int64_t key, uint64_t count)
{
    uint32_t at = lower_bound(into, key);

    ASSERT(has_key_at(into, at, key));
    ASSERT(into->entries[at].count >= count);
    into->entries[at].count -= count;
    if (into->entries[at].count == 0) {
        into->len--;
        memmove(&into->entries[at], &into->entries[at + 1],
                (into->len - at) * sizeof(*into->entries));
    }
}

bool
sparse_covers(const struct sparse *into, const struct sparse *from)
{
    for (uint32_t i = 0; i < from->len; i++) {
        if (sparse_get(into, from->entries[i].key) < from->entries[i].count) {
            return false;
        }
    }
    return true;
}

void
sparse_subtract(struct sparse *into, const struct sparse *from)
{
    bool any_zero = false;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < from->len; i++) {
        uint32_t at = lower_bound(into, from->entries[i].key);
        ASSERT(has_key_at(into, at, from->entries[i].key));
        ASSERT(into->entries[at].count >= from->entries[i].count);
        into->entries[at].count -= from->entries[i].count;
        any_zero = any_zero || into->entries[at].count == 0;
    }
    if (!any_zero) {
        return;
    }
    for (uint32_t i = 0; i < into->len; i++) {
        if (into->entries[i].count > 0) {
            into->entries[kept++] = into->entries[i];
        }
    }
    into->len = kept;
}
