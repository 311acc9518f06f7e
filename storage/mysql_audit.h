/*
 * mysql_audit.h - the database's side of the conservation audit (P9), read in one snapshot.
 *
 * For a node whose partitions are applied up to last_seq: rows = sum of stored and of what was
 * replayed since, dead_letters = sum of dead, and for each partition stored + dead + duplicates =
 * journal_partition_count(last_seq,
 * ..). Rows and dead letters beyond their partition's offset must not exist. Any thread.
 *
 * Nothing is created or changed.
 */
#ifndef SLUICE_STORAGE_MYSQL_AUDIT_H
#define SLUICE_STORAGE_MYSQL_AUDIT_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/journal.h"
#include "storage/mysql_config.h"

struct mysql_audit_partition {
    uint32_t partition;
    uint64_t epoch;
    uint64_t last_seq;
    uint64_t stored;
    uint64_t dead;
    uint64_t duplicates;
};

/* What the tables hold of one partition, whatever its offset says. */
struct mysql_audit_held {
    uint64_t rows;         /* of events */
    uint64_t dead_letters; /* replayed and discarded ones included */
    uint64_t replayed;     /* of them: those that became rows by it */
    uint64_t last_seq;     /* the highest of either, 0 none */
};

struct mysql_audit {
    uint64_t rows;         /* of events */
    uint64_t dead_letters; /* replayed and discarded ones included */
    uint32_t partition_count;
    struct mysql_audit_partition partition[JOURNAL_PARTITIONS_MAX]; /* in order of partition */
    struct mysql_audit_held held[JOURNAL_PARTITIONS_MAX];           /* by partition */
};

/*
 * Counts what the database holds of NODE_ID, whose log has PARTITIONS of them, in steps that each
 * stay within config->timeout_ms. ERR_UNAVAILABLE, logged.
 */
MUST_CHECK enum err mysql_audit_read(const struct mysql_config *config,
                                     const uint8_t node_id[JOURNAL_NODE_ID_SIZE],
                                     uint32_t partitions, struct mysql_audit *out);

/*
 * Gives FN the ranges of seq up to TO_SEQ of which PARTITION has neither a row nor a dead letter,
 * at most RANGES_MAX of them: what is lost, and repeats. ERR_UNAVAILABLE, logged.
 */
MUST_CHECK enum err mysql_audit_absent(const struct mysql_config *config,
                                       const uint8_t node_id[JOURNAL_NODE_ID_SIZE],
                                       uint32_t partition, uint32_t partitions, uint64_t to_seq,
                                       uint32_t ranges_max,
                                       void (*fn)(void *arg, uint64_t first, uint64_t last),
                                       void *arg);

#endif
