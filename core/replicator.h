/*
 * replicator.h - drains one partition of the journal into its sink, exactly once, for ever.
 *
 * One thread per replicator. Its whole behaviour is replicator_step(): one move of the state
 * machine, no sleeping, so tests drive it with fakes; the thread only waits between steps.
 *
 *   CONNECTING --position()--> CATCHING_UP (sink ahead of the journal's notes: learn outcomes)
 *        ^                  \-> STREAMING <--> batches
 *        |                   \-> REPLAYING (sink went back in time: send the retained window again)
 *        |                    \-> BLOCKED (an operator is needed; asks again every backoff_max_ms)
 *        +-- any doubt: the batch in hand is thrown away, the sink's position decides
 *
 *   BLOCKED   the sink went back further than the log reaches, its schema is newer than this build,
 * or the next record is corrupt. Nothing is skipped; ingest goes on; it resumes by itself. STOPPED
 * final: fenced, identity conflict, the journal has failed or closed, or told to stop.
 *
 * Per batch the order is: sink (rows, slices and offset in one transaction), then what the sink did
 * not store leaves the in-memory slices, then the journal's note. A crash between them is what
 * CATCHING_UP repairs, since the slices are rebuilt from the journal's notes at start.
 *
 * A replay changes neither the journal's history nor the slices, which hold these records already.
 * So it relies on the sink coming to the same outcomes again; it does unless the same id, older
 * than the journal's own window, is on its way in another partition at that moment.
 */
#ifndef SLUICE_CORE_REPLICATOR_H
#define SLUICE_CORE_REPLICATOR_H

#include "core/base/base.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/base/metrics.h"
#include "core/journal.h"
#include "core/sink.h"
#include "core/slo/slices.h"

#define REPLICATOR_STATES(X)                                                                       \
    X(REPLICATOR_CONNECTING, "connecting")                                                         \
    X(REPLICATOR_CATCHING_UP, "catching_up")                                                       \
    X(REPLICATOR_STREAMING, "streaming")                                                           \
    X(REPLICATOR_REPLAYING, "replaying")                                                           \
    X(REPLICATOR_BLOCKED, "blocked")                                                               \
    X(REPLICATOR_STOPPED, "stopped")

enum replicator_state {
#define REPLICATOR_MEMBER(name, text) name,
    REPLICATOR_STATES(REPLICATOR_MEMBER)
#undef REPLICATOR_MEMBER
};

struct replicator_config {
    uint32_t partition;
    uint32_t batch_events_max; /* > 0 */
    uint64_t batch_bytes_max;
    int batch_wait_ms;  /* a batch that is not full waits this long for more; 0: not at all */
    int backoff_ms;     /* > 0; first wait after a failure; doubles, with full jitter ... */
    int backoff_max_ms; /* ... up to this; below backoff_ms it means backoff_ms */
    int idle_check_ms;  /* with nothing to send the sink is asked this often; 0: never */
};

struct replicator_status {
    enum replicator_state state;
    uint64_t offset;      /* last seq known to be in the sink */
    uint64_t lag_events;  /* durable records of this partition not yet known to be in the sink */
    uint64_t retries;     /* batches that had to be sent again */
    uint64_t stored;      /* rows since start, those found by catching up included */
    uint64_t dead;        /* events dead-lettered since start */
    uint64_t duplicates;  /* events the sink already knew, since start */
    uint64_t replayed;    /* events sent again after the sink went back; not in the three above */
    enum err last_error;  /* ERR_OK once a batch has passed or nothing is left to send */
    int64_t connected_us; /* wall time of the last successful answer, 0 for never */
};

struct replicator;

/*
 * Borrows JOURNAL, SLICES and CLOCK for its life. Takes SINK over on success and closes it in
 * replicator_free(); on ERR_NO_MEMORY the caller keeps it. Does not start a thread.
 */
MUST_CHECK enum err replicator_new(struct replicator **out, const struct replicator_config *config,
                                   struct journal *journal, struct sink sink, struct slices *slices,
                                   const struct clock *clock);

/* NULL allowed; otherwise stopped or never started. */
void replicator_free(struct replicator *replicator);

/*
 * One move. Returns how long to wait before the next, in milliseconds: 0 go on at once, negative:
 * nothing to do until the journal grows (or ever, when STOPPED). May block in the sink and in
 * journal->ops->advance(). Thread: the replicator's (or the test's).
 */
int replicator_step(struct replicator *replicator);

/* Starts the thread, once. ERR_NO_MEMORY when the system gives none. */
MUST_CHECK enum err replicator_start(struct replicator *replicator);

/*
 * Drains until the lag is 0, DRAIN_MS have passed or the sink cannot be reached, then joins the
 * thread. A wait is interrupted at once; a call already inside the sink is waited for. What is left
 * stays in the journal. Idempotent; nothing happens when it was never started. The journal must
 * still be running.
 */
void replicator_stop(struct replicator *replicator, int drain_ms);

void replicator_status(struct replicator *replicator,
                       struct replicator_status *out); /* any thread */

/* Time of one apply(). Any thread. */
const struct metric_histogram *replicator_batch_seconds(const struct replicator *replicator);

const char *replicator_state_name(enum replicator_state state);

/*
 * Non-OK once the replicator has met something final; the process must stop. ERR_FENCED: another
 * instance writes for this node. ERR_IDENTITY: the sink holds more than the log. Anything else is
 * the error of a journal that took no note, ERR_FAILED as a rule. Any thread.
 */
enum err replicator_fatal(struct replicator *replicator);

#endif
