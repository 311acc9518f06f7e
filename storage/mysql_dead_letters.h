/*
 * mysql_dead_letters.h - the port of core/query/dead_letters.h on table dead_letters.
 *
 * The letters of all nodes that share the database. A replay makes the row a batch would have made,
 * under the letter's own node and sequence number, and marks the letter, in one transaction under
 * the letter's lock; replication_offsets and slo_slices stay as they are, since both took account
 * of the letter when it was written. If the answer to COMMIT is lost, the letter is read again.
 *
 * Nothing is created: database and tables are the server's to make. Each call has a session of its
 * own, one of which is kept for the next call. No statement may run longer than three quarters of
 * the configured timeout. After a failure to connect nobody tries again for a second.
 */
#ifndef SLUICE_STORAGE_MYSQL_DEAD_LETTERS_H
#define SLUICE_STORAGE_MYSQL_DEAD_LETTERS_H

#include "core/query/dead_letters.h"
#include "storage/mysql_config.h"

/* Connects to nothing yet. CONFIG's strings are borrowed for the store's life. ERR_NO_MEMORY. */
MUST_CHECK enum err mysql_dead_letters_new(struct dead_letter_store *out,
                                           const struct mysql_config *config);

#endif
