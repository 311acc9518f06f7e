/*
 * fake_count_store.h - the port count_store in memory: sorted pairs, snapshots that never change,
 * commits that fail on demand.
 */
#ifndef SLUICE_TESTS_FAKES_FAKE_COUNT_STORE_H
#define SLUICE_TESTS_FAKES_FAKE_COUNT_STORE_H

#include "core/counts/count_store.h"

struct fake_count_store;

struct fake_count_store *fake_count_store_new(void);
/* No snapshot may be open. */
void fake_count_store_free(struct fake_count_store *fake);
struct count_store fake_count_store_port(struct fake_count_store *fake);

/* What the journal does by itself: changes of an advance(). */
void fake_count_store_apply(struct fake_count_store *fake, const struct count_changes *changes);

/* The next COUNT commits return ERR and change nothing. */
void fake_count_store_fail(struct fake_count_store *fake, enum err err, int count);

/* What bytes() answers. */
void fake_count_store_set_bytes(struct fake_count_store *fake, uint64_t bytes);

/* Values of keys of KIND give ERR_CORRUPT from now on; 0: none do. */
void fake_count_store_damage(struct fake_count_store *fake, char kind);

/* What hold() and commit() said last; UINT64_MAX before. */
uint64_t fake_count_store_held(struct fake_count_store *fake);
/* How many keys begin with KIND; all for 0. */
size_t fake_count_store_keys(struct fake_count_store *fake, char kind);
/* Seeks and nexts so far. */
uint64_t fake_count_store_reads(struct fake_count_store *fake);

#endif
