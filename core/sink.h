/*
 * sink.h - the port to where the log drains. storage implements it on MySQL; Kafka fits beside it.
 *
 * One sink object serves one partition and is used by that partition's replicator thread only. It
 * connects lazily in position() and drops its connection on any doubt; the replicator decides what
 * to do next from the answer. Numbers and texts of the backend are classified and logged inside.
 */
#ifndef SLUICE_CORE_SINK_H
#define SLUICE_CORE_SINK_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/journal.h"

enum sink_result {
    SINK_APPLIED,  /* rows, dead letters, slices and offset are durable together */
    SINK_RETRY,    /* nothing was stored; the same batch may be sent again after a wait */
    SINK_UNKNOWN,  /* the connection was lost during COMMIT: ask position() */
    SINK_REJECTED, /* the data itself is refused; see sink_reject: split, or dead-letter a single
                      one */
    SINK_TOO_BIG,  /* nothing was stored; a smaller batch may pass */
    SINK_FENCED,   /* the offset is not where this batch starts, or another instance owns it */
};

/* Why the last apply() was SINK_REJECTED: becomes the dead letter's reason. */
struct sink_reject {
    int code;
    char reason[256];
};

struct sink_ops {
    /*
     * Connects when needed, takes the partition over with this node's epoch, and gives the last seq
     * stored for it (0: none). Errors: ERR_UNAVAILABLE wait and ask again; ERR_FENCED a newer
     * instance owns it; ERR_IDENTITY the sink was written by an instance this log never had (log
     * restored from an old copy or cloned); ERR_FORMAT the sink's schema is newer than this build.
     * ERR_FENCED and ERR_IDENTITY are final; ERR_FORMAT is asked again slowly, ingest goes on.
     */
    enum err (*position)(void *self, uint64_t *seq_out);

    /*
     * Stores all of BATCH (non-empty) in one transaction, and only while the stored offset equals
     * batch->after_seq. Events marked OUTCOME_DEAD beforehand become dead letters; the others
     * become rows (OUTCOME_STORED) or are found to be repeats (OUTCOME_DUPLICATE, set here). Folds
     * batch->delta.
     */
    enum sink_result (*apply)(void *self, struct batch *batch, struct sink_reject *reject);

    /*
     * After a restart: for a BATCH that lies at or before position(), sets each event's outcome to
     * what the sink holds. ERR_UNAVAILABLE: wait and ask again; also when the stored offset is
     * before the batch's end by now, since what is missing then was not a repeat.
     */
    enum err (*recover)(void *self, struct batch *batch);

    void (*close)(void *self);
};

struct sink {
    const struct sink_ops *ops;
    void *self;
};

#endif
