/*
 * mysql_schema.h - the tables, as an ordered list of migrations.
 *
 * Several servers may start at once: the steps run under a named lock of the database server. Each
 * statement can be repeated, so a crash between two of them is mended by the next start, and so is
 * a table that somebody dropped.
 */
#ifndef SLUICE_STORAGE_MYSQL_SCHEMA_H
#define SLUICE_STORAGE_MYSQL_SCHEMA_H

#include "storage/mysql_connect.h"

/* The version this build writes and expects. */
uint32_t mysql_schema_version(void);

/*
 * Brings the session's database to mysql_schema_version(); one query when it is there already.
 * ERR_FORMAT: the database is of a newer version, nothing was touched. ERR_UNAVAILABLE: it did not
 * work now (rights, lock, connection). Both are logged.
 */
MUST_CHECK enum err mysql_schema_ensure(struct mysql_session *session);

#endif
