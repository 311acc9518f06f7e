/*
 * mysql_connect.h - opens a session with every setting the rest of storage relies on.
 *
 * All that differs between MariaDB's and Oracle's client library is in mysql_connect.c; everybody
 * else uses their common subset. A session has: strict SQL mode without NO_BACKSLASH_ESCAPES
 * (escaping depends on it), UTC, READ COMMITTED, utf8mb4 with utf8mb4_bin, CLIENT_FOUND_ROWS (an
 * UPDATE reports the rows it matched, so a compare-and-set that changes nothing still says 1),
 * timeouts, no row limit, unique checks, no auto-reconnect, autocommit on (transactions are always
 * opened and ended explicitly), whatever the server's own defaults are.
 *
 * One thread at a time uses a session.
 */
#ifndef SLUICE_STORAGE_MYSQL_CONNECT_H
#define SLUICE_STORAGE_MYSQL_CONNECT_H

#include <mysql/mysql.h>

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"
#include "storage/mysql_config.h"

/* The text a LOAD DATA LOCAL reads, made piece by piece while the server takes it. */
struct mysql_feed {
    void (*fill)(void *arg, struct buffer *text); /* appends the next piece; nothing at the end */
    void *arg;
    struct buffer text; /* the piece being read; the caller's to free */
    size_t given;       /* bytes of it */
};

struct mysql_session {
    MYSQL *mysql;            /* NULL while not connected */
    struct mysql_feed *feed; /* what the server may read now; NULL nothing, a file never */
    uint64_t packet_max;     /* max_allowed_packet: the longest statement, in bytes */
    bool flush_each_commit;  /* innodb_flush_log_at_trx_commit is 1: a commit survives power loss */
    unsigned refused_number; /* why the last connection was refused, 0 when it was not ... */
    int64_t refused_logged_us; /* ... and when that was logged */
};

/*
 * Connects, makes the database when it is missing (unless config->must_exist), sets the session up.
 * *SESSION must not move in memory until it is closed.
 * ERR_UNAVAILABLE leaves *SESSION closed; it is logged with the server's number, the same number
 * every 30 s at most.
 */
MUST_CHECK enum err mysql_session_open(struct mysql_session *session,
                                       const struct mysql_config *config);

/* Closes; a closed or zeroed session is allowed. An open transaction is thereby rolled back. */
void mysql_session_close(struct mysql_session *session);

/*
 * Runs one statement and, when it has a result set, stores it in *RESULT_OUT (NULL allowed, it is
 * then dropped; free with mysql_free_result()). Returns 0 or the error number.
 */
MUST_CHECK unsigned mysql_session_run(struct mysql_session *session, struct span sql,
                                      MYSQL_RES **result_out);

/* The same for a statement written as text. */
MUST_CHECK unsigned mysql_session_run_text(struct mysql_session *session, const char *sql,
                                           MYSQL_RES **result_out);

/*
 * Runs one query whose rows are fetched from the server one by one, however many there are. A row
 * of NULL is the end only if mysql_errno() is 0 then. mysql_free_result() before the next
 * statement.
 */
MUST_CHECK unsigned mysql_session_stream(struct mysql_session *session, struct span sql,
                                         MYSQL_RES **result_out);

/*
 * Runs LOAD DATA LOCAL with FEED as its file. Returns 0 or the error number; 0 says nothing about
 * the rows. The name of the file in SQL does not matter.
 */
MUST_CHECK unsigned mysql_session_load(struct mysql_session *session, struct span sql,
                                       struct mysql_feed *feed);

/*
 * True when the statement just run read exactly ROWS rows, stored each as it stood and had nothing
 * to remark. LOAD DATA LOCAL makes warnings of what strict mode refuses, and skips repeats.
 */
bool mysql_session_loaded_all(struct mysql_session *session, uint64_t rows);

/* Runs a query for one number. Returns 0 or the error number; no row or NULL gives MISSING. */
MUST_CHECK unsigned mysql_session_number(struct mysql_session *session, const char *sql,
                                         uint64_t missing, uint64_t *value_out);

/* Writes a log line of LEVEL with number and SQLSTATE; the text only if WITH_TEXT (it may quote
 * data). */
void mysql_session_log_error(struct mysql_session *session, const char *event, const char *step,
                             bool with_text);

/*
 * Writes the text of the last error, cut to SIZE - 1 bytes. It may quote a value cut anywhere: as
 * printable ASCII it fits every table and every log.
 */
void mysql_session_reason(struct mysql_session *session, char *out, size_t size);

/*
 * No statement of the session may run longer than LIMIT_US, on MySQL no SELECT. Returns 0 or the
 * error number.
 */
MUST_CHECK unsigned mysql_session_limit_time(struct mysql_session *session, int64_t limit_us);

/* ---- SQL text ---- */

/* Appends the digits alone; and 0x.., or '' when empty: binary data. */
void mysql_append_hex_digits(struct buffer *sql, const void *bytes, size_t len);
void mysql_append_hex(struct buffer *sql, const void *bytes, size_t len);

/* Appends 'text' escaped, or NULL when absent. */
void mysql_append_string(struct buffer *sql, struct mysql_session *session, struct span text);

/* The same as a field of a LOAD DATA file in its default format. */
void mysql_append_field(struct buffer *line, struct span text);

/* Appends YYYY-MM-DD HH:MM:SS.ffffff of microseconds since 1970 UTC; must be in the range below. */
void mysql_append_datetime(struct buffer *sql, int64_t us);

/* A DATETIME column as microseconds since 1970 UTC; read with mysql_row_i64(). */
#define MYSQL_MICROSECONDS(column) "TIMESTAMPDIFF(MICROSECOND,'1970-01-01 00:00:00'," column ")"

/* What a DATETIME can hold: 0001-01-01 00:00:00 to 9999-12-31 23:59:59.999999. */
#define MYSQL_DATETIME_MIN_US INT64_C(-62135596800000000)
#define MYSQL_DATETIME_MAX_US INT64_C(253402300799999999)

/* The bytes of a column of the current row; absent for NULL. */
struct span mysql_row_span(MYSQL_RES *result, MYSQL_ROW row, unsigned column);

/* An unsigned, or any, integer column; 0 for NULL. */
uint64_t mysql_row_u64(MYSQL_ROW row, unsigned column);
int64_t mysql_row_i64(MYSQL_ROW row, unsigned column);

#endif
