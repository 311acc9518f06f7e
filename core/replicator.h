/*
 * replicator.h - drains one partition of the journal into its sink, exactly once, for ever.
 *
 * One thread per replicator. Its whole behaviour is replicator_step(): one move of the state
 * machine, no sleeping, so tests drive it with fakes; the thread only waits between steps.
 *
 *   CONNECTING --position()--> CATCHING_UP (sink ahead of the journal's notes: learn outcomes)
 *        ^                  \-> STREAMING <--> batches
 *        |                   \-> REPLAYING (sink went back in time: send the retained window again)
 *        +-- any doubt ----------+
 *   STOPPED is final: fenced, identity conflict, schema too new, or told to stop.
 */
#ifndef SLUICE_CORE_REPLICATOR_H
#define SLUICE_CORE_REPLICATOR_H

#include "core/base.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/journal.h"
#include "core/sink.h"
#include "core/slices.h"

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
    uint32_t batch_events_max;
    uint64_t batch_bytes_max;
    int batch_wait_ms;  /* a batch that is not full waits this long for more */
    int backoff_ms;     /* first wait after a failure; doubles, with jitter ... */
    int backoff_max_ms; /* ... up to this */
};

struct replicator_status {
    enum replicator_state state;
    uint64_t offset;      /* last seq known to be in the sink */
    uint64_t lag_events;  /* durable records of this partition not yet in the sink */
    uint64_t retries;     /* batches that had to be sent again */
    uint64_t stored;      /* events stored since start */
    uint64_t dead;        /* events dead-lettered since start */
    uint64_t duplicates;  /* events the sink already knew, since start */
    enum err last_error;  /* ERR_OK while streaming */
    int64_t connected_us; /* wall time of the last successful answer, 0 for never */
};

struct replicator;

/* Borrows JOURNAL, SINK, SLICES and CLOCK for its life. Does not start a thread. */
MUST_CHECK enum err replicator_new(struct replicator **out, const struct replicator_config *config,
                                   struct journal *journal, struct sink sink, struct slices *slices,
                                   const struct clock *clock);
void replicator_free(struct replicator *replicator); /* stopped or never started; closes the sink */

/*
 * One move. Returns how long to wait before the next, in milliseconds: 0 go on at once, negative:
 * nothing to do until the journal grows. Thread: the replicator's (or the test's).
 */
int replicator_step(struct replicator *replicator);

/* Starts the thread; replicator_stop() asks it to drain for at most DRAIN_MS and joins it. */
MUST_CHECK enum err replicator_start(struct replicator *replicator);
void replicator_stop(struct replicator *replicator, int drain_ms);

void replicator_status(struct replicator *replicator,
                       struct replicator_status *out); /* any thread */
const struct metric_histogram *replicator_batch_seconds(const struct replicator *replicator);
const char *replicator_state_name(enum replicator_state state);

/* Non-OK once the replicator has met something final: the process must stop (ERR_FENCED,
 * ERR_IDENTITY). */
enum err replicator_fatal(struct replicator *replicator);

#endif
