/*
 * sparse.h - a small sorted list of (key, count): the counters a slice is made of.
 *
 * Invariant: keys strictly ascending, no zero counts; so two lists that count the same events are
 * equal byte for byte. Adding is split in two, sparse_reserve() that may fail and sparse_add() that
 * cannot, so that a caller can change several lists together or none.
 *
 * Values, not objects: a zeroed list is empty; sparse_clear() frees. One thread at a time.
 */
#ifndef SLUICE_CORE_SPARSE_H
#define SLUICE_CORE_SPARSE_H

#include "core/base/base.h"
#include "core/base/err.h"

struct sparse_entry {
    int64_t key;
    uint64_t count;
};

struct sparse {
    struct sparse_entry *entries; /* owned */
    uint32_t len;
    uint32_t capacity;
};

/* Frees the entries and leaves an empty list. */
void sparse_clear(struct sparse *sparse);

/* The count of KEY, 0 when absent; and the sum of all counts (which must fit, as a slice's do). */
uint64_t sparse_get(const struct sparse *sparse, int64_t key);
uint64_t sparse_total(const struct sparse *sparse);

/* Makes room so that sparse_add(INTO, FROM) succeeds. ERR_NO_MEMORY leaves INTO as it was. */
MUST_CHECK enum err sparse_reserve(struct sparse *into, const struct sparse *from);

/* Makes room for MORE further keys. ERR_NO_MEMORY leaves INTO as it was. */
MUST_CHECK enum err sparse_reserve_keys(struct sparse *into, uint32_t more);

/* INTO += FROM. Room must have been reserved (asserted); sums must fit 64 bits (asserted). */
void sparse_add(struct sparse *into, const struct sparse *from);

/* INTO[KEY] += COUNT, COUNT > 0, room reserved. */
void sparse_add_one(struct sparse *into, int64_t key, uint64_t count);

/* True when each count of FROM is at most INTO's. */
bool sparse_covers(const struct sparse *into, const struct sparse *from);

/* INTO -= FROM; INTO must cover FROM (asserted). */
void sparse_subtract(struct sparse *into, const struct sparse *from);

/* INTO[KEY] -= COUNT; no more than is there (asserted). */
void sparse_subtract_one(struct sparse *into, int64_t key, uint64_t count);

#endif
