/*
 * mysql_sink.h - the sink port on MySQL 8 or MariaDB.
 *
 * One object, one connection, one partition, one thread at a time. A batch is one transaction:
 * compare-and-set of the offset row, rows, dead letters, slices, COMMIT. The compare-and-set asks
 * for epoch, instance and offset, so a connection may be opened anew before any transaction, never
 * inside one.
 *
 * main() calls mysql_library_start() before the first sink (mysql_config.h).
 */
#ifndef SLUICE_STORAGE_MYSQL_SINK_H
#define SLUICE_STORAGE_MYSQL_SINK_H

#include "core/base/base.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/journal.h"
#include "core/sink.h"
#include "core/slo/slice.h"
#include "storage/mysql_config.h"

/*
 * Who writes. INSTANCE is random per process start; KNOWN_INSTANCE says whether this log has had an
 * instance.
 */
struct mysql_owner {
    uint8_t node_id[JOURNAL_NODE_ID_SIZE];
    uint64_t epoch;
    uint8_t instance[16];
    bool (*known_instance)(void *arg, const uint8_t instance[16]);
    void *arg;
};

/*
 * Makes a sink for PARTITION; connects nothing yet. RULES are borrowed. sink.ops->close frees it.
 *
 * Beyond sink.h: an event marked OUTCOME_DEAD whose id is already a row becomes OUTCOME_DUPLICATE
 * and gets no dead letter. A single event too long for the server's max_allowed_packet is
 * SINK_RETRY, logged: its dead letter would be too long as well, so somebody has to raise the
 * limit.
 */
MUST_CHECK enum err mysql_sink_new(struct sink *out, const struct mysql_config *config,
                                   const struct mysql_owner *owner, uint32_t partition,
                                   const struct slice_rules *rules);

#endif
