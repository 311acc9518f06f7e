/*
 * mysql_archive.h - the archive_store port on MySQL and MariaDB: rows of events, and the offsets
 * that belong to them.
 *
 * A snapshot is a session with a consistent read open (REPEATABLE READ), from a small pool whose
 * sessions are opened when first needed. No statement may run longer than three quarters of the
 * configured timeout, and no snapshot starts one later than that. A database without tables yet is
 * an empty one. After a failure to connect nobody tries again for a second.
 */
#ifndef SLUICE_STORAGE_MYSQL_ARCHIVE_H
#define SLUICE_STORAGE_MYSQL_ARCHIVE_H

#include "core/query/archive_store.h"
#include "storage/mysql_config.h"

/* Connects to nothing yet. CONFIG's strings are borrowed for the store's life. ERR_NO_MEMORY. */
MUST_CHECK enum err mysql_archive_new(struct archive_store *out, const struct mysql_config *config);

#endif
