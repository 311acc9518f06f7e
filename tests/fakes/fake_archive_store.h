/*
 * fake_archive_store.h - the archive_store port in memory, for tests: fails on demand.
 *
 * Events are put in by hand, with the offset of the partition they belong to. A snapshot sees what
 * was there when it began. One thread at a time. Out of memory aborts the test.
 */
#ifndef SLUICE_TESTS_FAKES_FAKE_ARCHIVE_STORE_H
#define SLUICE_TESTS_FAKES_FAKE_ARCHIVE_STORE_H

#include "core/query/archive_store.h"

struct fake_archive_store;

struct fake_archive_store *fake_archive_store_new(void);
void fake_archive_store_free(struct fake_archive_store *fake); /* NULL allowed */

/* Its close() does nothing: the test frees the fake. */
struct archive_store fake_archive_store_port(struct fake_archive_store *fake);

void fake_archive_store_put(struct fake_archive_store *fake,
                            const uint8_t node_id[JOURNAL_NODE_ID_SIZE], uint64_t seq,
                            const struct event *event);
void fake_archive_store_set_offset(struct fake_archive_store *fake, uint32_t partition,
                                   uint64_t seq);

/* Called whenever a snapshot has just been taken. NULL: nobody. */
void fake_archive_store_on_begin(struct fake_archive_store *fake, void (*fn)(void *arg), void *arg);

/* The next TIMES calls of begin() return ERR. */
void fake_archive_store_fail_begin(struct fake_archive_store *fake, enum err err, int times);

/* The next TIMES calls of rows() or users() return ERR, after having given GIVEN events. */
void fake_archive_store_fail_walk(struct fake_archive_store *fake, enum err err, size_t given,
                                  int times);

struct fake_archive_store_calls {
    uint64_t begin;
    uint64_t rows;
    uint64_t open; /* snapshots not ended; must be 0 when nobody reads */
};
struct fake_archive_store_calls fake_archive_store_calls(const struct fake_archive_store *fake);

#endif
