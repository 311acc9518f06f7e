/*
 * ticker.h - the SLO ticker: one thread that keeps the store of slices trimmed and in touch with
 * what other nodes have written to the same database, and the definitions in force those of it, and
 * table slo_windows true.
 *
 * Nobody waits for it: figures of this node's own events never depend on it.
 */
#ifndef SLUICE_CLI_TICKER_H
#define SLUICE_CLI_TICKER_H

#include "core/base/base.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/journal.h"
#include "core/query/dead_letters.h"
#include "core/slo/objectives.h"
#include "core/slo/requests.h"
#include "core/slo/slices.h"
#include "storage/mysql_config.h"

struct ticker;

struct ticker_config {
    struct slices *slices;         /* borrowed, as are the next three */
    struct objectives *objectives; /* NULL: none are looked after */
    const struct clock *clock;
    struct requests *requests;                    /* borrowed: the server's own; NULL: not kept */
    uint64_t epoch;                               /* of this process */
    const struct slo_config *slo;                 /* borrowed: of services without definitions */
    const struct mysql_config *mysql;             /* NULL without a database */
    const struct dead_letter_store *dead_letters; /* borrowed: counted for the metric; NULL: not */
    uint8_t node_id[JOURNAL_NODE_ID_SIZE];
    int interval_ms; /* how often other nodes' slices are looked at */
};

/* Starts the thread. */
MUST_CHECK enum err ticker_start(struct ticker **out, const struct ticker_config *config);

/*
 * Whether the store of slices has what other nodes have written: their slices were read once, or
 * the database did not answer, or a minute has passed. Stays so. Any thread.
 */
bool ticker_settled(const struct ticker *ticker);

/* Stops and joins it: waits for a running query, at most the database's timeout. NULL allowed. */
void ticker_stop(struct ticker *ticker);

#endif
