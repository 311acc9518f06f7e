/*
 * mysql_history.h - the slices that other nodes have written to the same database, as they change.
 *
 * A source is one partition of one node. Its slices are written under the lock of its offset row
 * and carry the offset that wrote them, so in one snapshot "everything of this source up to offset
 * S" is exact: a load reads the offsets and, of each source that moved, the slices beyond the
 * offset read last time. No clock takes part. One thread at a time (the SLO ticker's).
 */
#ifndef SLUICE_STORAGE_MYSQL_HISTORY_H
#define SLUICE_STORAGE_MYSQL_HISTORY_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/journal.h"
#include "core/slo/slice.h"
#include "storage/mysql_config.h"

struct mysql_history;

/* Connects nothing yet. Slices of OWN_NODE are never given. */
MUST_CHECK enum err mysql_history_open(struct mysql_history **out,
                                       const struct mysql_config *config,
                                       const uint8_t own_node[JOURNAL_NODE_ID_SIZE]);
void mysql_history_close(struct mysql_history *history); /* NULL allowed */

/* SOURCE identifies (node, partition) for slices_set_foreign(); KEY and ENCODED last for the call.
 */
typedef enum err mysql_history_fn(void *arg, uint64_t source, const struct slice_key *key,
                                  struct span encoded);

/*
 * Gives FN each slice that changed since the last successful load (the first time: all), as a
 * replacement of what that source gave for the key before; in one snapshot. A source whose offset
 * went back (a restored database) is given whole. ERR_UNAVAILABLE: the database did not answer;
 * ERR_NOT_FOUND: it has no tables yet.
 * FN's first error ends the load and is returned. After any error the next load gives again what
 * this one gave.
 */
MUST_CHECK enum err mysql_history_load(struct mysql_history *history, mysql_history_fn *fn,
                                       void *arg);

#endif
