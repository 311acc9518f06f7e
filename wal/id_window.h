/*
 * id_window.h - the most recent idempotency keys, in memory: is this id a repeat, and of what?
 *
 * A ring of entries in seq order with a hash table over it; the oldest entry makes room for the
 * newest. Costs 40 to 48 bytes per id, all of it reserved at creation. Beyond the window MySQL's
 * unique key is the judge. One thread (the committer).
 */
#ifndef SLUICE_WAL_ID_WINDOW_H
#define SLUICE_WAL_ID_WINDOW_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "wal/format.h"

struct id_window;

/* Room for CAPACITY ids, at least 1. */
MUST_CHECK enum err id_window_new(struct id_window **out, uint32_t capacity);
void id_window_free(struct id_window *window);

/* The entry of KEY, or NULL. Valid until the next add or clear. */
const struct id_entry *id_window_find(const struct id_window *window,
                                      const uint8_t key[EVENT_KEY_SIZE]);

/* Adds an entry whose key is not in the window; forgets the oldest when full. */
void id_window_add(struct id_window *window, const struct id_entry *entry);

/* Forgets everything. */
void id_window_clear(struct id_window *window);

uint32_t id_window_count(const struct id_window *window);

#endif
