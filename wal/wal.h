/*
 * wal.h - the journal port on LMDB: group commit, duplicates, history of slices, trim.
 *
 * One committer thread owns the only write transaction. The directory belongs to one process (a
 * lock of our own); read-only opens may stand beside it. What the files hold is drawn in
 * wal/format.h.
 *
 * A commit that fails for any reason but a full map is final: the log latches, nothing is acked any
 * more, and the process must exit and open it again, since after a lost write-back the kernel may
 * call the next sync clean.
 */
#ifndef SLUICE_WAL_WAL_H
#define SLUICE_WAL_WAL_H

#include "core/base/base.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/counts/count_store.h"
#include "core/journal.h"

struct wal;

struct wal_config {
    const char *dir;
    uint64_t bytes_max;    /* live bytes of records at which appends are refused */
    uint64_t retain_bytes; /* kept behind the replicated offset, at most a quarter of bytes_max */
    uint32_t partitions; /* used when the log is created; a later value is ignored with a warning */
    uint32_t queue_events;     /* events waiting for a commit */
    uint32_t id_window;        /* ids remembered for the duplicate check */
    uint64_t counts_bytes_max; /* room in the map for the history of counts; 0: nobody counts */
    const struct clock *clock;
    struct journal_observer observer; /* durable may be NULL */
};

/*
 * Opens or creates the log, checks it, takes its lock, raises the epoch durably. Starts no thread.
 * ERR_LOCKED another process has it; ERR_NO_SPACE; ERR_FORMAT written by a newer build;
 * ERR_CORRUPT; ERR_IO. Each is logged with its cause.
 */
MUST_CHECK enum err wal_open(struct wal **out, const struct wal_config *config);

/* Starts the committer. */
MUST_CHECK enum err wal_start(struct wal *wal);

/*
 * Refuses new appends, commits what is queued, joins the committer. Every append that was taken has
 * its answer afterwards, every waiting advance and wait_durable has returned. Idempotent; a stopped
 * log is not started again.
 */
void wal_stop(struct wal *wal);

/* Stops if needed, closes, releases the lock, frees. NULL allowed. */
void wal_close(struct wal *wal);

/* The port; valid until wal_close(). */
struct journal *wal_journal(struct wal *wal);

/* This start's random instance id, and whether an id belongs to any start this log has had. Any
 * thread. */
const uint8_t *wal_instance(const struct wal *wal);
bool wal_knows_instance(void *wal, const uint8_t instance[16]);

/* Non-OK once the log has latched: ERR_FAILED. Any thread. */
enum err wal_failure(struct wal *wal);

/*
 * Gives each slice of the replicated history to FN. Before wal_start(). FN's first error ends it. A
 * damaged slice is logged with its minute and left out. The history is bounded: beyond 512 MiB its
 * oldest minutes are gone (MySQL has them).
 */
MUST_CHECK enum err wal_each_slice(struct wal *wal,
                                   enum err (*fn)(void *arg, const struct slice_key *key,
                                                  struct span encoded),
                                   void *arg);

/*
 * Gives each record not covered by that history to FN, in order. Before wal_start(). FN's first
 * error ends it. A damaged record is logged with its seq and left out; its replicator will stop in
 * front of it.
 */
MUST_CHECK enum err wal_each_pending(
    struct wal *wal, enum err (*fn)(void *arg, uint64_t seq, const struct event *event), void *arg);

/* The same for every record after AFTER_SEQ, replicated or not. */
MUST_CHECK enum err wal_each_after(struct wal *wal, uint64_t after_seq,
                                   enum err (*fn)(void *arg, uint64_t seq,
                                                  const struct event *event),
                                   void *arg);

/* The history of counts; valid until wal_close(). It takes changes between start and stop. */
struct count_store wal_count_store(struct wal *wal);

#endif
