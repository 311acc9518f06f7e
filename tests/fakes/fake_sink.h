/*
 * fake_sink.h - a database in memory behind the sink port, for tests: fails on demand.
 *
 * One fake_store is the database all partitions write to; each partition gets a sink of its own
 * from it. It keeps what MySQL would: the offset, rows, dead letters, the unique id, the folded
 * slices, all moving in one transaction. Beside them it remembers the duplicates it saw, so a test
 * can account for every sequence number.
 *
 * Any thread may call anything; hooks run with the store locked and must not call back.
 * Out of memory aborts the test.
 */
#ifndef SLUICE_TESTS_FAKES_FAKE_SINK_H
#define SLUICE_TESTS_FAKES_FAKE_SINK_H

#include "core/sink.h"
#include "tests/fakes/fake_history.h"

struct fake_store;

/* What one apply() does instead of its work. */
enum fake_apply {
    FAKE_APPLY_WELL,           /* its work */
    FAKE_APPLY_RETRY,          /* nothing stored, SINK_RETRY */
    FAKE_APPLY_UNKNOWN_STORED, /* all stored, the answer to COMMIT lost */
    FAKE_APPLY_UNKNOWN_LOST,   /* nothing stored, the answer to COMMIT lost */
    FAKE_APPLY_TOO_BIG,
    FAKE_APPLY_REJECTED,
    FAKE_APPLY_FENCED,
};

/* Asked when no scripted answer is left; each may be NULL. */
struct fake_hooks {
    enum err (*position)(void *arg, uint32_t partition);
    enum fake_apply (*apply)(void *arg, const struct batch *batch);
    enum err (*recover)(void *arg, const struct batch *batch);
    bool (*poison)(void *arg, const struct event *event);      /* the row is refused */
    bool (*dead_poison)(void *arg, const struct event *event); /* so is its dead letter */
    void *arg;
};

/* RULES are borrowed. */
struct fake_store *fake_store_new(uint32_t partitions, const struct slice_rules *rules);
void fake_store_free(struct fake_store *store); /* all its sinks are closed; NULL allowed */

/* A sink for PARTITION; its close() must be called before fake_store_free(). */
struct sink fake_store_sink(struct fake_store *store, uint32_t partition);

void fake_store_set_hooks(struct fake_store *store, const struct fake_hooks *hooks);

/* Scripts: each call adds one answer for PARTITION's next calls. ERR_OK and WELL let one through.
 */
void fake_store_next_position(struct fake_store *store, uint32_t partition, enum err err);
void fake_store_next_apply(struct fake_store *store, uint32_t partition, enum fake_apply what);
void fake_store_next_recover(struct fake_store *store, uint32_t partition, enum err err);

/* While down, every call is ERR_UNAVAILABLE or SINK_RETRY. */
void fake_store_set_down(struct fake_store *store, bool down);

/* Batches of more events are SINK_TOO_BIG; 0 means no limit. */
void fake_store_set_events_max(struct fake_store *store, size_t events_max);

/* Sets the offset without rows, as if another log had written. */
void fake_store_set_offset(struct fake_store *store, uint32_t partition, uint64_t seq);

/* The database goes back in time: PARTITION's offset is SEQ and nothing after it was ever stored.
 */
void fake_store_roll_back(struct fake_store *store, uint32_t partition, uint64_t seq);

/* ---- looking ---- */

enum fake_kind {
    FAKE_ABSENT,
    FAKE_ROW,
    FAKE_DUPLICATE,
    FAKE_DEAD,
};
enum fake_kind fake_store_kind(struct fake_store *store, uint32_t partition, uint64_t seq);

/* The dead letter's code and reason; the letter must exist. Borrowed until the next roll back. */
int fake_store_reject(struct fake_store *store, uint32_t partition, uint64_t seq,
                      const char **reason_out);

uint64_t fake_store_offset(struct fake_store *store, uint32_t partition);
uint64_t fake_store_count(struct fake_store *store, enum fake_kind kind); /* all partitions */

/* What apply() folded into the database's slices, and the same worked out from the rows and dead
 * letters. */
void fake_store_folded(struct fake_store *store, struct fake_history *out);
void fake_store_summed(struct fake_store *store, struct fake_history *out);

/* Calls so far, all partitions. */
struct fake_store_calls {
    uint64_t position;
    uint64_t apply;
    uint64_t recover;
    uint64_t close;
    size_t last_apply_count; /* events in the last batch given to apply() */
};
struct fake_store_calls fake_store_calls(struct fake_store *store);

#endif
