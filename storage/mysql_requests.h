/*
 * mysql_requests.h - the server's own requests in the database: api_requests to read, api_slices
 * to get their figures back after a restart and to show them on other nodes.
 *
 * One thread (the SLO ticker's).
 */
#ifndef SLUICE_STORAGE_MYSQL_REQUESTS_H
#define SLUICE_STORAGE_MYSQL_REQUESTS_H

#include "core/base/err.h"
#include "core/journal.h"
#include "core/slo/requests.h"
#include "storage/mysql_config.h"

struct mysql_requests;

/* EPOCH tells this process from others of the node. Connects nothing yet. */
MUST_CHECK enum err mysql_requests_open(struct mysql_requests **out,
                                        const struct mysql_config *config,
                                        const uint8_t node_id[JOURNAL_NODE_ID_SIZE],
                                        uint64_t epoch);
void mysql_requests_close(struct mysql_requests *requests); /* NULL allowed */

/*
 * Adds one minute, once. ERR_UNAVAILABLE, ERR_NOT_FOUND (no tables yet): nothing was written.
 * ERR_UNKNOWN: it may have been, and must not be tried again.
 */
MUST_CHECK enum err mysql_requests_add(struct mysql_requests *requests,
                                       const struct requests_fold *fold);

/*
 * Gives FN the slices written by other processes that are new since the last load: of this node
 * (OWN, its earlier starts) and of others. SOURCE identifies the process. Errors as above, or FN's.
 */
MUST_CHECK enum err mysql_requests_load(struct mysql_requests *requests, int64_t from_minute,
                                        enum err (*fn)(void *arg, bool own, uint64_t source,
                                                       int64_t minute, struct span encoded),
                                        void *arg);

#endif
