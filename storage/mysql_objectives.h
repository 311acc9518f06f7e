/*
 * mysql_objectives.h - the table of record for SLO definitions: slo, and slo_audit beside it.
 *
 * Definitions may also be written by people with SQL: a row needs only the columns without a
 * default, and is taken up at the next load. Every change made through here leaves a row in
 * slo_audit, in the same transaction: who, when, what.
 */
#ifndef SLUICE_STORAGE_MYSQL_OBJECTIVES_H
#define SLUICE_STORAGE_MYSQL_OBJECTIVES_H

#include "core/base/err.h"
#include "core/journal.h"
#include "core/slo/objectives.h"
#include "storage/mysql_config.h"

struct mysql_objectives;

/* Connects nothing yet. CONFIG's strings are borrowed. */
MUST_CHECK enum err mysql_objectives_open(struct mysql_objectives **out,
                                          const struct mysql_config *config,
                                          const uint8_t node_id[JOURNAL_NODE_ID_SIZE]);
void mysql_objectives_close(struct mysql_objectives *objectives); /* NULL allowed */

/* The port, valid until close. */
const struct objective_store *mysql_objectives_store(const struct mysql_objectives *objectives);

#endif
