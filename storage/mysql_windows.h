/*
 * mysql_windows.h - table slo_windows: a row per finished minute and service, kept true.
 *
 * The rows are sums of slo_slices, which the replicators of all nodes write in their transactions.
 * How far each source (a partition of a node) has been taken up stands in slo_window_cursors and
 * moves in the transaction that writes the rows. So whoever does it next, after a crash, on another
 * node or when the database was away for a day, goes on where the last one stopped, and doing it
 * twice changes nothing. A late event changes its minute's slice, and thereby its row. One node at
 * a time does it: a named lock of the database keeps an older sum from replacing a newer one.
 */
#ifndef SLUICE_STORAGE_MYSQL_WINDOWS_H
#define SLUICE_STORAGE_MYSQL_WINDOWS_H

#include "core/base/err.h"
#include "core/slo/objective_set.h"
#include "core/slo/slo_window.h"
#include "storage/mysql_config.h"

/* ---- writing: one thread ---- */

struct mysql_windows;

struct mysql_windows_rules {
    const struct objective_set *objectives;
    const struct slo_config *defaults;
    int64_t now_minute; /* the running one: only minutes before it are finished */
};

/* Connects nothing yet. CONFIG's strings are borrowed. */
MUST_CHECK enum err mysql_windows_open(struct mysql_windows **out,
                                       const struct mysql_config *config);
void mysql_windows_close(struct mysql_windows *windows); /* NULL allowed */

/*
 * Takes up what has changed, at most a few thousand slices a call; *MORE_OUT: some are left.
 * ERR_AGAIN: another node is at it. ERR_UNAVAILABLE, ERR_NOT_FOUND (no tables yet), ERR_NO_MEMORY:
 * what was not finished will be next time.
 */
MUST_CHECK enum err mysql_windows_update(struct mysql_windows *windows,
                                         const struct mysql_windows_rules *rules, bool *more_out);

struct mysql_windows_series {
    struct span tenant;
    struct span service;
};

/* Makes rows without traffic of MINUTE for the COUNT series that have none yet. Errors as above. */
MUST_CHECK enum err mysql_windows_add_silent(struct mysql_windows *windows, int64_t minute,
                                             const struct mysql_windows_series *series,
                                             size_t count);

/* ---- reading: any thread ---- */

struct mysql_windows_reader;

MUST_CHECK enum err mysql_windows_reader_open(struct mysql_windows_reader **out,
                                              const struct mysql_config *config);
void mysql_windows_reader_close(struct mysql_windows_reader *reader); /* NULL allowed */

/* The port, valid until close. */
const struct slo_history *mysql_windows_history(const struct mysql_windows_reader *reader);

#endif
