/*
 * The one file that knows which client library it is built with. Both are found under
 * <mysql/mysql.h>; MARIADB_BASE_VERSION tells MariaDB's.
 */
#include "storage/mysql_connect.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "storage/mysql_errors.h"

/*
 * The server ends a session of ours that is silent for this long. A session whose network was cut
 * in mid-transaction holds its row locks until then; one that was merely idle is opened again
 * before the next transaction.
 */
enum {
    SESSION_SILENCE_MAX_S = 60,
    REFUSAL_LOG_INTERVAL_US = 30000000,
};

void
mysql_library_start(void)
{
    /* Only a broken installation fails here, and then every session will say so. */
    if (mysql_library_init(0, NULL, NULL) != 0) {
        log_error("mysql.library", LOG_STR("detail", "the client library does not start"), LOG_END);
    }
}

void
mysql_library_stop(void)
{
    mysql_library_end();
}

void
mysql_library_thread_stop(void)
{
    mysql_thread_end();
}

#ifdef MARIADB_BASE_VERSION
static void
set_tls(MYSQL *mysql, const struct mysql_config *config)
{
    char yes = 1;
    char verify = config->tls_ca != NULL;

    if (config->tls == MYSQL_TLS_OFF) {
        return;
    }
    mysql_options(mysql, MYSQL_OPT_SSL_ENFORCE, &yes);
    mysql_options(mysql, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &verify);
    if (config->tls_ca != NULL) {
        mysql_options(mysql, MYSQL_OPT_SSL_CA, config->tls_ca);
    }
}
#else
static void
set_tls(MYSQL *mysql, const struct mysql_config *config)
{
    bool yes = true;
    unsigned mode = config->tls == MYSQL_TLS_OFF ? SSL_MODE_DISABLED
                    : config->tls_ca == NULL     ? SSL_MODE_REQUIRED
                                                 : SSL_MODE_VERIFY_IDENTITY;

    mysql_options(mysql, MYSQL_OPT_SSL_MODE, &mode);
    /* Without TLS the password of a caching_sha2 account travels encrypted with this key. */
    mysql_options(mysql, MYSQL_OPT_GET_SERVER_PUBLIC_KEY, &yes);
    if (config->tls_ca != NULL) {
        mysql_options(mysql, MYSQL_OPT_SSL_CA, config->tls_ca);
    }
}
#endif

/*
 * MariaDB's library takes "enforce" for a wish unless the certificate is to be verified as well. By
 * now the account is known to whoever is there, which without a CA is anybody's guess anyway; no
 * data is.
 */
static bool
lacks_tls(MYSQL *mysql, const struct mysql_config *config)
{
    return config->tls != MYSQL_TLS_OFF && mysql_get_ssl_cipher(mysql) == NULL;
}

static unsigned
timeout_s(const struct mysql_config *config)
{
    ASSERT(config->timeout_ms > 0);
    return ((unsigned)config->timeout_ms + 999) / 1000;
}

/* ---- LOAD DATA LOCAL reads memory ---- */

static int
feed_init(void **self, const char *name, void *arg)
{
    const struct mysql_session *session = arg;

    (void)name;
    *self = arg;
    return session->feed == NULL; /* a server that asks for a file on its own gets none */
}

static int
feed_read(void *self, char *out, unsigned len)
{
    struct mysql_feed *feed = ((struct mysql_session *)self)->feed;
    size_t left;

    if (feed->given == feed->text.len) {
        buffer_clear(&feed->text, SIZE_MAX);
        feed->given = 0;
        feed->fill(feed->arg, &feed->text);
        if (feed->text.failed) {
            return -1;
        }
    }
    left = feed->text.len - feed->given;
    len = left < len ? (unsigned)left : len;
    if (len > 0) {
        memcpy(out, feed->text.data + feed->given, len);
    }
    feed->given += len;
    return (int)len;
}

static void
feed_end(void *self)
{
    (void)self;
}

static int
feed_error(void *self, char *text, unsigned size)
{
    (void)self;
    snprintf(text, size, "no rows to read");
    return MYSQL_NUMBER_UNKNOWN;
}

/*
 * A handle with every option set, or NULL. The library would let the server read any file of ours
 * at any time; with these handlers it reads what SESSION feeds it, without a session nothing.
 */
static MYSQL *
new_handle(const struct mysql_config *config, struct mysql_session *session)
{
    const unsigned seconds = timeout_s(config);
    const unsigned load = session != NULL;
    MYSQL *mysql = mysql_init(NULL);

    if (mysql == NULL) {
        return NULL;
    }
    mysql_options(mysql, MYSQL_OPT_CONNECT_TIMEOUT, &seconds);
    mysql_options(mysql, MYSQL_OPT_READ_TIMEOUT, &seconds);
    mysql_options(mysql, MYSQL_OPT_WRITE_TIMEOUT, &seconds);
    mysql_options(mysql, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    mysql_options(mysql, MYSQL_OPT_LOCAL_INFILE, &load);
    if (session != NULL) {
        mysql_set_local_infile_handler(mysql, feed_init, feed_read, feed_end, feed_error, session);
    }
    set_tls(mysql, config);
    return mysql;
}

static bool
connect_to(MYSQL *mysql, const struct mysql_config *config, const char *database)
{
    return mysql_real_connect(mysql, config->host, config->user, config->password, database,
                              config->port, config->socket, CLIENT_FOUND_ROWS) != NULL;
}

/* Connects without a database and makes it. Refusal is only found out by the next try to use it. */
static void
create_database(const struct mysql_config *config)
{
    struct buffer sql = BUFFER_EMPTY;
    MYSQL *mysql = new_handle(config, NULL);

    if (mysql == NULL) {
        return;
    }
    buffer_append_text(&sql, "CREATE DATABASE IF NOT EXISTS `");
    for (const char *c = config->database; *c != '\0'; c++) {
        if (*c == '`') {
            buffer_append_char(&sql, '`');
        }
        buffer_append_char(&sql, *c);
    }
    buffer_append_text(&sql, "` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin");
    if (!sql.failed && connect_to(mysql, config, NULL) && !lacks_tls(mysql, config) &&
        mysql_real_query(mysql, sql.data, (unsigned long)sql.len) == 0) {
        log_info("mysql.database_created", LOG_STR("database", config->database), LOG_END);
    } else {
        log_warn("mysql.database_missing", LOG_STR("database", config->database),
                 LOG_U64("number", mysql_errno(mysql)), LOG_STR("detail", mysql_error(mysql)),
                 LOG_END);
    }
    mysql_close(mysql);
    buffer_free(&sql);
}

/* Every setting the rest relies on; the server's own defaults are not trusted. */
static unsigned
set_up(struct mysql_session *session, const struct mysql_config *config)
{
    /*
     * Waiting for a row or a table must end before our own read timeout ends the whole connection.
     * A row limit would make sums from a part of their rows; unique_checks = 0 lets InnoDB miss a
     * repeat.
     */
    const unsigned lock_wait_s = timeout_s(config) / 2 > 0 ? timeout_s(config) / 2 : 1;
    char sql[512];
    uint64_t flush = 0;
    unsigned number;

    snprintf(sql, sizeof sql,
             "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,"
             "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', "
             "autocommit = 1, completion_type = 0, unique_checks = 1, "
             "sql_select_limit = 18446744073709551615, innodb_lock_wait_timeout = %u, "
             "lock_wait_timeout = %u, wait_timeout = %d",
             lock_wait_s, lock_wait_s, SESSION_SILENCE_MAX_S);
    number = mysql_session_run_text(session, "SET NAMES utf8mb4 COLLATE utf8mb4_bin", NULL);
    if (number == 0) {
        number = mysql_session_run_text(session, sql, NULL);
    }
    if (number == 0) {
        number = mysql_session_run_text(
            session, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", NULL);
    }
    if (number == 0) {
        number =
            mysql_session_number(session, "SELECT @@max_allowed_packet", 0, &session->packet_max);
    }
    if (number == 0) {
        number =
            mysql_session_number(session, "SELECT @@innodb_flush_log_at_trx_commit", 0, &flush);
    }
    session->flush_each_commit = flush == 1;
    return number;
}

/* A database that stays away is one fact, not one per attempt. */
static bool
is_news(struct mysql_session *session, unsigned number)
{
    const int64_t now_us = clock_monotonic_us(clock_system());

    if (number == session->refused_number &&
        now_us - session->refused_logged_us < REFUSAL_LOG_INTERVAL_US) {
        return false;
    }
    session->refused_number = number;
    session->refused_logged_us = now_us;
    return true;
}

static void
note_refusal(struct mysql_session *session)
{
    if (is_news(session, mysql_errno(session->mysql))) {
        mysql_session_log_error(session, "mysql.unavailable", "connect", true);
    }
}

static void
note_lack_of_tls(struct mysql_session *session)
{
    if (is_news(session, MYSQL_NUMBER_TLS)) {
        log_warn(
            "mysql.unavailable", LOG_STR("step", "connect"), LOG_U64("number", MYSQL_NUMBER_TLS),
            LOG_STR("detail", "DB_URL requires TLS and the server does not speak it"), LOG_END);
    }
}

enum err
mysql_session_open(struct mysql_session *session, const struct mysql_config *config)
{
    ASSERT(session->mysql == NULL);
    for (int attempt = 0; attempt < 2; attempt++) {
        session->mysql = new_handle(config, session);
        if (session->mysql == NULL) {
            return ERR_UNAVAILABLE;
        }
        if (connect_to(session->mysql, config, config->database)) {
            if (lacks_tls(session->mysql, config)) {
                note_lack_of_tls(session);
                mysql_session_close(session);
                return ERR_UNAVAILABLE;
            }
            if (set_up(session, config) == 0) {
                session->refused_number = 0;
                return ERR_OK;
            }
            break;
        }
        if (attempt > 0 || config->must_exist ||
            mysql_errno(session->mysql) != MYSQL_NUMBER_NO_DATABASE) {
            break;
        }
        mysql_session_close(session);
        create_database(config);
    }
    note_refusal(session);
    mysql_session_close(session);
    return ERR_UNAVAILABLE;
}

void
mysql_session_close(struct mysql_session *session)
{
    if (session->mysql != NULL) {
        mysql_close(session->mysql);
    }
    session->mysql = NULL;
    session->packet_max = 0;
    session->flush_each_commit = false;
}

/* A call that failed without a number must not look like success. */
static unsigned
failure_number(MYSQL *mysql)
{
    const unsigned number = mysql_errno(mysql);

    return number != 0 ? number : MYSQL_NUMBER_UNKNOWN;
}

unsigned
mysql_session_run(struct mysql_session *session, struct span sql, MYSQL_RES **result_out)
{
    MYSQL_RES *result;

    ASSERT(session->mysql != NULL);
    if (mysql_real_query(session->mysql, sql.data, (unsigned long)sql.len) != 0) {
        return failure_number(session->mysql);
    }
    result = mysql_store_result(session->mysql);
    if (result == NULL && mysql_errno(session->mysql) != 0) {
        return failure_number(session->mysql);
    }
    if (result_out == NULL) {
        mysql_free_result(result);
        return 0;
    }
    if (result == NULL) {
        return MYSQL_NUMBER_UNKNOWN; /* the caller asked for rows, this statement has none */
    }
    *result_out = result;
    return 0;
}

unsigned
mysql_session_run_text(struct mysql_session *session, const char *sql, MYSQL_RES **result_out)
{
    return mysql_session_run(session, span_of(sql), result_out);
}

unsigned
mysql_session_stream(struct mysql_session *session, struct span sql, MYSQL_RES **result_out)
{
    MYSQL_RES *result = NULL;

    ASSERT(session->mysql != NULL);
    if (mysql_real_query(session->mysql, sql.data, (unsigned long)sql.len) == 0) {
        result = mysql_use_result(session->mysql);
    }
    if (result == NULL) {
        return failure_number(session->mysql);
    }
    *result_out = result;
    return 0;
}

unsigned
mysql_session_load(struct mysql_session *session, struct span sql, struct mysql_feed *feed)
{
    unsigned number;

    ASSERT(session->feed == NULL);
    session->feed = feed;
    number = mysql_session_run(session, sql, NULL);
    session->feed = NULL;
    return number;
}

bool
mysql_session_loaded_all(struct mysql_session *session, uint64_t rows)
{
    /* "Records: 3  Deleted: 0  Skipped: 0  Warnings: 0", in the server's language. */
    const uint64_t expected[] = {rows, 0, 0, 0};
    const char *at = mysql_info(session->mysql);

    for (size_t i = 0; at != NULL && i < ARRAY_LEN(expected); i++) {
        char *end;

        at = strpbrk(at, "0123456789");
        if (at == NULL || strtoull(at, &end, 10) != expected[i]) {
            return false;
        }
        at = end;
    }
    return at != NULL && mysql_affected_rows(session->mysql) == rows &&
           mysql_warning_count(session->mysql) == 0;
}

unsigned
mysql_session_number(struct mysql_session *session, const char *sql, uint64_t missing,
                     uint64_t *value_out)
{
    MYSQL_RES *result;
    MYSQL_ROW row;
    const unsigned number = mysql_session_run_text(session, sql, &result);

    if (number != 0) {
        return number;
    }
    row = mysql_fetch_row(result);
    *value_out = row != NULL && row[0] != NULL ? mysql_row_u64(row, 0) : missing;
    mysql_free_result(result);
    return 0;
}

void
mysql_session_reason(struct mysql_session *session, char *out, size_t size)
{
    const char *text = mysql_error(session->mysql);
    size_t len = 0;

    for (; len < size - 1 && text[len] != '\0'; len++) {
        out[len] = text[len] >= ' ' && text[len] <= '~' ? text[len] : '?';
    }
    out[len] = '\0';
}

/* The time limit's name and unit differ: the first comment is MySQL 8's, the second MariaDB's. */
unsigned
mysql_session_limit_time(struct mysql_session *session, int64_t limit_us)
{
    char sql[160];

    (void)snprintf(sql, sizeof(sql),
                   "SET SESSION /*!80000 max_execution_time = %" PRId64 " *"
                   "/ /*M! max_statement_time = %" PRId64 ".%06" PRId64 " *"
                   "/",
                   limit_us / 1000 > 0 ? limit_us / 1000 : 1, limit_us / 1000000,
                   limit_us % 1000000);
    return mysql_session_run_text(session, sql, NULL);
}

void
mysql_session_log_error(struct mysql_session *session, const char *event, const char *step,
                        bool with_text)
{
    if (session->mysql == NULL) {
        log_warn(event, LOG_STR("step", step), LOG_END);
        return;
    }
    log_warn(event, LOG_STR("step", step), LOG_U64("number", mysql_errno(session->mysql)),
             LOG_STR("sqlstate", mysql_sqlstate(session->mysql)),
             LOG_STR("detail", with_text ? mysql_error(session->mysql) : ""), LOG_END);
}

void
mysql_append_hex_digits(struct buffer *sql, const void *bytes, size_t len)
{
    static const char DIGITS[] = "0123456789abcdef";
    const uint8_t *in = bytes;

    if (buffer_reserve(sql, 2 * len) != ERR_OK) {
        return;
    }
    for (size_t i = 0; i < len; i++) {
        sql->data[sql->len++] = DIGITS[in[i] >> 4];
        sql->data[sql->len++] = DIGITS[in[i] & 15];
    }
}

void
mysql_append_hex(struct buffer *sql, const void *bytes, size_t len)
{
    if (len == 0) {
        buffer_append_text(sql, "''");
        return;
    }
    buffer_append_text(sql, "0x");
    mysql_append_hex_digits(sql, bytes, len);
}

void
mysql_append_string(struct buffer *sql, struct mysql_session *session, struct span text)
{
    unsigned long written;

    if (text.data == NULL) {
        buffer_append_text(sql, "NULL");
        return;
    }
    if (buffer_reserve(sql, 2 * text.len + 3) != ERR_OK) {
        return;
    }
    sql->data[sql->len++] = '\'';
    written = mysql_real_escape_string(session->mysql, sql->data + sql->len, text.data,
                                       (unsigned long)text.len);
    if (written == (unsigned long)-1) {
        sql->failed =
            true; /* the library refuses bytes that are no text of the session's charset */
        return;
    }
    sql->len += written;
    sql->data[sql->len++] = '\'';
}

void
mysql_append_field(struct buffer *line, struct span text)
{
    char *out;

    if (text.data == NULL) {
        buffer_append_text(line, "\\N");
        return;
    }
    if (buffer_reserve(line, 2 * text.len) != ERR_OK) {
        return;
    }
    out = line->data + line->len;
    for (size_t i = 0; i < text.len; i++) {
        const char c = text.data[i];

        /* No byte of a longer UTF-8 character is one of these. */
        if (c == '\\' || c == '\t' || c == '\n' || c == '\0') {
            *out++ = '\\';
        }
        *out++ = c == '\0' ? '0' : c == '\t' ? 't' : c == '\n' ? 'n' : c;
    }
    line->len = (size_t)(out - line->data);
}

/* Writes VALUE as COUNT decimal digits. */
static void
put_digits(char *out, unsigned value, size_t count)
{
    while (count > 0) {
        out[--count] = (char)('0' + value % 10);
        value /= 10;
    }
}

/*
 * The proleptic Gregorian calendar by arithmetic: two of these stand in every row, and gmtime_r()
 * with snprintf() would be a tenth of the time of writing it. Days are counted from 0000-03-01, so
 * that a leap day ends its year.
 */
void
mysql_append_datetime(struct buffer *sql, int64_t us)
{
    char text[] = "0000-00-00 00:00:00.000000";
    uint64_t left;
    unsigned era_day, era_year, year_day, month, day, year, second, micro;

    ASSERT(us >= MYSQL_DATETIME_MIN_US);
    ASSERT(us <= MYSQL_DATETIME_MAX_US);
    left = (uint64_t)(us + INT64_C(719468) * 86400 * 1000000); /* 0000-03-01 to 1970-01-01 */
    micro = (unsigned)(left % 1000000);
    left /= 1000000;
    second = (unsigned)(left % 86400);
    left /= 86400;
    era_day = (unsigned)(left % 146097); /* 400 years */
    era_year = (era_day - era_day / 1460 + era_day / 36524 - era_day / 146096) / 365;
    year_day = era_day - (365 * era_year + era_year / 4 - era_year / 100);
    month = (5 * year_day + 2) / 153; /* 0 is March */
    day = year_day - (153 * month + 2) / 5 + 1;
    year = era_year + (unsigned)(left / 146097) * 400 + (month >= 10);
    month = month < 10 ? month + 3 : month - 9;
    put_digits(text, year, 4);
    put_digits(text + 5, month, 2);
    put_digits(text + 8, day, 2);
    put_digits(text + 11, second / 3600, 2);
    put_digits(text + 14, second / 60 % 60, 2);
    put_digits(text + 17, second % 60, 2);
    put_digits(text + 20, micro, 6);
    buffer_append(sql, text, sizeof text - 1);
}

struct span
mysql_row_span(MYSQL_RES *result, MYSQL_ROW row, unsigned column)
{
    if (row[column] == NULL) {
        return (struct span){NULL, 0};
    }
    return (struct span){row[column], mysql_fetch_lengths(result)[column]};
}

uint64_t
mysql_row_u64(MYSQL_ROW row, unsigned column)
{
    return row[column] == NULL ? 0 : strtoull(row[column], NULL, 10);
}

int64_t
mysql_row_i64(MYSQL_ROW row, unsigned column)
{
    return row[column] == NULL ? 0 : strtoll(row[column], NULL, 10);
}
