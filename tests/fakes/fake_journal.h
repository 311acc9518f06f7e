/*
 * fake_journal.h - the journal port in memory, for tests: fails on demand, holds completions back.
 *
 * Behaves as the log does: gap-free sequence numbers in stripes, duplicates by key, the observer
 * before the watermark before done(), a latch after a failed commit. Without a committer thread
 * fake_journal_commit() makes one group of what is queued, on the caller's thread; with
 * fake_journal_start() a thread does it whenever it is kicked.
 *
 * Any thread may call anything. Out of memory aborts the test.
 */
#ifndef SLUICE_TESTS_FAKES_FAKE_JOURNAL_H
#define SLUICE_TESTS_FAKES_FAKE_JOURNAL_H

#include "core/journal.h"
#include "tests/fakes/fake_history.h"

struct fake_journal;

struct fake_journal_config {
    uint32_t partitions;   /* 0 means 1 */
    uint32_t queue_events; /* events waiting for a commit, or one larger append; 0: no limit */
    uint64_t bytes_max;    /* body bytes held at which appends get ERR_FULL; 0 means no limit */
    uint32_t id_window;    /* keys recognised as repeats: the last so many; 0 means none */
    struct journal_observer observer; /* durable may be NULL */
};

struct fake_journal *fake_journal_new(const struct fake_journal_config *config);
void fake_journal_free(struct fake_journal *fake); /* stops the thread; NULL allowed */
struct journal *fake_journal_port(struct fake_journal *fake);

/* ---- committing ---- */

/* Starts the committer thread; it makes a group after each kick. */
void fake_journal_start(struct fake_journal *fake);

/* Commits what is queued, joins the thread if there is one; appends and waits get ERR_CLOSED. */
void fake_journal_stop(struct fake_journal *fake);

/* Commits what is queued as one group and completes it. Returns the number of appends completed. */
size_t fake_journal_commit(struct fake_journal *fake);

/* While held, nothing queued is committed: appends stay unanswered. Release wakes the committer. */
void fake_journal_hold(struct fake_journal *fake);
void fake_journal_release(struct fake_journal *fake);

/* Waits until COUNT events are queued (so a test may hold, send, and then release or fail). */
void fake_journal_wait_queued(struct fake_journal *fake, uint64_t count);

/*
 * Puts one event in and waits until it is durable; works with and without the thread, not while
 * held or failing. Returns its seq (the first one's for a repeat).
 */
uint64_t fake_journal_put(struct fake_journal *fake, const struct event *event);

/* ---- failing: each call adds to the end of that operation's script; after it all is well ---- */

/* The next append() is refused with ERR. ERR_OK lets one through. */
void fake_journal_next_append(struct fake_journal *fake, enum err err);

/*
 * The next group ends with RESULT. ERR_FULL stores nothing and goes on. ERR_FAILED stores nothing
 * and latches. ERR_UNKNOWN latches, and with STORED the records appear after
 * fake_journal_restart().
 */
void fake_journal_next_commit(struct fake_journal *fake, enum err result, bool stored);

void fake_journal_next_read(struct fake_journal *fake, enum err err);
void fake_journal_next_scan(struct fake_journal *fake, enum err err);

/* The next advance() returns ERR; with STORED it has taken effect all the same. Does not latch. */
void fake_journal_next_advance(struct fake_journal *fake, enum err err, bool stored);

/* Appends get ERR_FULL while on, whatever bytes_max says. */
void fake_journal_set_full(struct fake_journal *fake, bool full);

/* Latches: appends and advances get ERR_FAILED until fake_journal_restart(). */
void fake_journal_set_failed(struct fake_journal *fake);

/* A read that would start with SEQ gets ERR_CORRUPT, one that would reach it ends before it. */
void fake_journal_set_corrupt(struct fake_journal *fake, uint64_t seq, bool corrupt);

/* Reads pass over SEQ without a word, as no journal ever may. */
void fake_journal_set_missing(struct fake_journal *fake, uint64_t seq, bool missing);

/* What opening the log again does: latch and stop forgotten, epoch raised, scripts kept. No thread.
 */
void fake_journal_restart(struct fake_journal *fake);

/* Drops records up to SEQ, all of which must be replicated. */
void fake_journal_trim(struct fake_journal *fake, uint64_t seq);

/* ---- looking ---- */

/* Calls FN for each durable record after its partition's replicated seq, in order. */
void fake_journal_each_pending(struct fake_journal *fake,
                               void (*fn)(void *arg, uint64_t seq, const struct event *event),
                               void *arg);

/* Sums of all advances. Not while another thread advances. */
const struct fake_history *fake_journal_history(struct fake_journal *fake);

/* Likewise: what was taken out of the counts. */
const struct count_changes *fake_journal_removals(struct fake_journal *fake);

/* Calls so far. */
struct fake_journal_calls {
    uint64_t append;
    uint64_t kick;
    uint64_t commit; /* groups */
    uint64_t read;
    uint64_t scan;
    uint64_t advance;
};
struct fake_journal_calls fake_journal_calls(struct fake_journal *fake);

#endif
