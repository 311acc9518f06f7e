/*
 * wal_fixture.h - a real log in a directory of its own, and requests that come back with answers.
 *
 * The events are numbered by the test: event N of a fixture always has the same id, and its body
 * tells N again when it is read back. One thread drives a fixture unless said otherwise.
 */
#ifndef SLUICE_TESTS_FAKES_WAL_FIXTURE_H
#define SLUICE_TESTS_FAKES_WAL_FIXTURE_H

#include <pthread.h>

#include "core/journal.h"
#include "wal/wal.h"

struct wal_fixture {
    char dir[256];
    struct wal_config config; /* change it before opening; dir is set */
    struct wal *wal;
    const struct journal *journal;
};

/* Makes the directory; the log is not opened yet. 2 partitions, 64 MiB, no retained window. */
void wal_fixture_init(struct wal_fixture *fixture);
/* Closes the log if need be and removes the directory. */
void wal_fixture_fini(struct wal_fixture *fixture);

/* Opens, without and with the committer running. Fails the test when that does not work. */
void wal_fixture_open(struct wal_fixture *fixture);
void wal_fixture_start(struct wal_fixture *fixture);
void wal_fixture_close(struct wal_fixture *fixture);
/* Closes and starts again. */
void wal_fixture_restart(struct wal_fixture *fixture);

/* One append with everything it borrows. */
struct request {
    struct append append; /* first: done() gets it back */
    struct buffer bodies;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool answered;
    uint32_t answers; /* must become 1 and stay there */
};

/* COUNT events numbered from FIRST, each with a body of at least BODY_SIZE bytes. */
struct request *request_new(uint64_t first, uint32_t count, size_t body_size, bool keyed);
void request_drop(struct request *request);
/* The id of event I becomes that of event NUMBER; its content stays what it was. */
void request_set_key(struct request *request, uint32_t i, uint64_t number);
enum err request_send(struct request *request, struct wal_fixture *fixture);
/* The append's result. */
enum err request_wait(struct request *request);

/* Appends, waits, frees: what append() or done() said. */
enum err wal_fixture_append(struct wal_fixture *fixture, uint64_t first, uint32_t count,
                            size_t body_size);

/* The number of the event in BODY. */
uint64_t event_number(const struct event *event);

/* Reads all of PARTITION after AFTER_SEQ, failing the test at a gap; returns how many there were.
 */
uint64_t wal_fixture_count(struct wal_fixture *fixture, uint32_t partition, uint64_t after_seq);

/*
 * Plays replicator: reads PARTITION from its offset, folds, advances; BATCHES_MAX rounds of at most
 * EVENTS_MAX events. Returns the records moved.
 */
uint64_t wal_fixture_drain(struct wal_fixture *fixture, uint32_t partition, size_t events_max,
                           size_t batches_max);
/* All partitions, all there is. */
uint64_t wal_fixture_drain_all(struct wal_fixture *fixture);

/* Good plus bad of the log's history and of the pending records. Only between open and start. */
uint64_t wal_fixture_stored_events(struct wal_fixture *fixture);
uint64_t wal_fixture_pending_events(struct wal_fixture *fixture);

uint64_t wal_fixture_file_bytes(const struct wal_fixture *fixture);
void wal_fixture_path(const struct wal_fixture *fixture, const char *name, char out[512]);

/* Inverts a bit of each occurrence of BYTES in data.mdb, AT bytes from its start. Returns how many.
 */
size_t wal_fixture_flip(const struct wal_fixture *fixture, const void *bytes, size_t len, long at);

#endif
