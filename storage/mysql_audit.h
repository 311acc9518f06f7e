/*
 * mysql_audit.h - the database's side of the conservation audit (P9), read in one snapshot.
 *
 * For a node whose partitions are applied up to last_seq: rows = sum of stored, dead_letters = sum
 * of dead, and for each partition stored + dead + duplicates = journal_partition_count(last_seq,
 * ..). Rows and dead letters beyond their partition's offset must not exist. Any thread.
 */
#ifndef SLUICE_STORAGE_MYSQL_AUDIT_H
#define SLUICE_STORAGE_MYSQL_AUDIT_H

#include "core/base.h"
#include "core/err.h"
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

struct mysql_audit {
    uint64_t rows;         /* of events */
    uint64_t dead_letters; /* replayed and discarded ones included */
    uint32_t partition_count;
    struct mysql_audit_partition partition[JOURNAL_PARTITIONS_MAX]; /* in order of partition */
};

/* Counts what the database holds of NODE_ID, in steps that each stay within config->timeout_ms.
 * ERR_UNAVAILABLE, logged. */
MUST_CHECK enum err mysql_audit_read(const struct mysql_config *config,
                                     const uint8_t node_id[JOURNAL_NODE_ID_SIZE],
                                     struct mysql_audit *out);

#endif
