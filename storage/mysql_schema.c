/*
 * The tables. What holds for all of them:
 *
 * - utf8mb4 with utf8mb4_bin. That collation ignores trailing spaces, so where two names must never
 *   fall together (keys of slo_slices) the column is VARBINARY and holds the same UTF-8 bytes.
 * - Times are DATETIME(6) in UTC, written by us: TIMESTAMP ends in 2038, and a column default would
 * use the time zone of whoever writes.
 * - MariaDB's JSON is a text with CHECK (json_valid()), which refuses what is nested 32 levels
 * deep. Events are checked when they arrive and may be deeper, so on MariaDB the column is the bare
 * text.
 * - events has its own order as primary key; dedupe_key is random where the client chose the id
 *   and in order of time where the server did (mysql_rows_settle_key), which costs little. by_name
 * is what reading raw events needs; it costs about an eighth of the insert rate, a random key a
 * quarter.
 */
#include "storage/mysql_schema.h"

#include <stdio.h>

#include "core/base/log.h"
#include "storage/mysql_errors.h"

#define TABLE_OPTIONS ") ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
#define NAME "VARCHAR(255)"
#define BYTES_NAME "VARBINARY(255)"
/* Conditional comments: the first is read by MySQL 8 alone, the second by MariaDB alone. */
#define JSON_TEXT                                                                                  \
    "/*!80000 JSON *"                                                                              \
    "/ /*M! LONGTEXT *"                                                                            \
    "/"

static const char *const MIGRATION_1[] = {
    "CREATE TABLE IF NOT EXISTS events ("
    "node_id BINARY(16) NOT NULL,"
    "seq BIGINT UNSIGNED NOT NULL,"
    "tenant_id " NAME " NOT NULL,"
    "event_id " NAME " NOT NULL,"
    "event_name " NAME " NOT NULL,"
    "service " NAME " NULL,"
    "status SMALLINT UNSIGNED NULL,"
    "latency_ms DOUBLE NULL,"
    "is_good TINYINT(1) NULL," /* NULL unless the event is measured */
    "channel " NAME " NULL,"
    "campaign_id " NAME " NULL,"
    "user_id " NAME " NULL,"
    "tags " JSON_TEXT " NULL,"
    "properties " JSON_TEXT " NULL,"
    "trace_id CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NULL,"
    "occurred_at DATETIME(6) NOT NULL,"
    "occurred_at_us BIGINT NULL," /* the exact time, only where occurred_at cannot hold it */
    "created_at DATETIME(6) NOT NULL,"
    "dedupe_key BINARY(16) NULL,"
    "PRIMARY KEY (node_id, seq),"
    "UNIQUE KEY dedupe_key (dedupe_key),"
    "KEY by_name (tenant_id, event_name, occurred_at)" TABLE_OPTIONS,

    /* stored + dead + duplicates = how many of the partition's sequence numbers were applied. */
    "CREATE TABLE IF NOT EXISTS replication_offsets ("
    "node_id BINARY(16) NOT NULL,"
    "partition_id INT UNSIGNED NOT NULL,"
    "epoch BIGINT UNSIGNED NOT NULL,"
    "last_seq BIGINT UNSIGNED NOT NULL,"
    "instance BINARY(16) NOT NULL,"
    "stored BIGINT UNSIGNED NOT NULL DEFAULT 0,"
    "dead BIGINT UNSIGNED NOT NULL DEFAULT 0,"
    "duplicates BIGINT UNSIGNED NOT NULL DEFAULT 0,"
    "updated_at DATETIME(6) NOT NULL,"
    "PRIMARY KEY (node_id, partition_id)" TABLE_OPTIONS,

    /*
     * A row belongs to one partition of one node and is written under the lock of its offset row.
     * last_seq is the offset that wrote it: a reader that knows a source up to S asks for more than
     * S.
     */
    "CREATE TABLE IF NOT EXISTS slo_slices ("
    "tenant_id " BYTES_NAME " NOT NULL,"
    "service " BYTES_NAME " NOT NULL,"
    "minute BIGINT NOT NULL,"
    "node_id BINARY(16) NOT NULL,"
    "partition_id INT UNSIGNED NOT NULL,"
    "good BIGINT UNSIGNED NOT NULL,"
    "bad BIGINT UNSIGNED NOT NULL,"
    "total BIGINT UNSIGNED NOT NULL,"
    "detail MEDIUMBLOB NOT NULL,"
    "last_seq BIGINT UNSIGNED NOT NULL,"
    "updated_at DATETIME(6) NOT NULL,"
    "PRIMARY KEY (tenant_id, service, minute, node_id, partition_id),"
    "KEY changed (node_id, partition_id, last_seq)" TABLE_OPTIONS,

    "CREATE TABLE IF NOT EXISTS dead_letters ("
    "id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,"
    "node_id BINARY(16) NOT NULL,"
    "seq BIGINT UNSIGNED NOT NULL,"
    "tenant_id " NAME " NOT NULL,"
    "event_id " NAME " NOT NULL,"
    "reason VARCHAR(512) NOT NULL,"
    "error_code INT NOT NULL,"
    "payload LONGTEXT NOT NULL,"  /* the whole event as JSON, to read */
    "record MEDIUMBLOB NOT NULL," /* event_encode()d, to send again as it was */
    "created_at DATETIME(6) NOT NULL,"
    "replayed_at DATETIME(6) NULL,"
    "discarded_at DATETIME(6) NULL," /* rows stay, so that they can be counted */
    "PRIMARY KEY (id),"
    "UNIQUE KEY node_seq (node_id, seq)" TABLE_OPTIONS,

    "CREATE TABLE IF NOT EXISTS slo ("
    "id VARCHAR(63) NOT NULL,"
    "tenant_id " NAME " NOT NULL,"
    "service_name " NAME " NOT NULL,"
    "slo_type VARCHAR(16) NOT NULL," /* availability | latency */
    "slo_value DOUBLE NOT NULL,"
    "threshold_ms DOUBLE NULL,"
    "windows_days INT UNSIGNED NOT NULL,"
    "window_kind VARCHAR(16) NOT NULL DEFAULT 'rolling'," /* rolling | calendar */
    "good_status VARCHAR(255) NOT NULL DEFAULT 'lt500',"
    "min_bad_events INT UNSIGNED NOT NULL DEFAULT 5,"
    "status VARCHAR(32) NOT NULL DEFAULT 'active',"
    "created_at DATETIME(6) NOT NULL,"
    "updated_at DATETIME(6) NOT NULL,"
    "PRIMARY KEY (id),"
    "KEY tenant_service (tenant_id, service_name)" TABLE_OPTIONS,

    "CREATE TABLE IF NOT EXISTS slo_windows ("
    "tenant_id " NAME " NOT NULL,"
    "service " NAME " NOT NULL,"
    "window_start DATETIME(6) NOT NULL,"
    "window_end DATETIME(6) NOT NULL,"
    "good_count BIGINT UNSIGNED NOT NULL,"
    "bad_count BIGINT UNSIGNED NOT NULL,"
    "availability DOUBLE NULL," /* NULL: no traffic */
    "latency_p50 DOUBLE NULL,"
    "latency_p90 DOUBLE NULL,"
    "latency_p95 DOUBLE NULL,"
    "latency_p99 DOUBLE NULL,"
    "violated TINYINT(1) NOT NULL DEFAULT 0,"
    "updated_at DATETIME(6) NOT NULL,"
    "PRIMARY KEY (tenant_id, service, window_start, window_end)" TABLE_OPTIONS,

    "CREATE TABLE IF NOT EXISTS api_requests ("
    "node_id BINARY(16) NOT NULL,"
    "minute BIGINT NOT NULL,"
    "endpoint " NAME " NOT NULL,"
    "method VARCHAR(16) NOT NULL,"
    "status_code SMALLINT UNSIGNED NOT NULL,"
    "requests BIGINT UNSIGNED NOT NULL,"
    "latency_ms_sum DOUBLE NOT NULL,"
    "latency_ms_max DOUBLE NOT NULL,"
    "updated_at DATETIME(6) NOT NULL,"
    "PRIMARY KEY (node_id, minute, endpoint, method, status_code)" TABLE_OPTIONS,
};

static const char *const MIGRATION_2[] = {
    "ALTER TABLE slo "
    "ADD COLUMN window_minutes INT UNSIGNED NULL," /* NULL: windows_days */
    "ADD COLUMN time_zone VARCHAR(64) NOT NULL DEFAULT 'UTC',"
    "ADD COLUMN version INT UNSIGNED NOT NULL DEFAULT 1,"
    "ADD COLUMN updated_by " NAME " NOT NULL DEFAULT '',"
    "ADD COLUMN counted_from DATETIME(6) NULL", /* 1970: always was */

    "CREATE TABLE IF NOT EXISTS slo_audit ("
    "id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,"
    "slo_id VARCHAR(63) NOT NULL,"
    "tenant_id " NAME " NOT NULL,"
    "action VARCHAR(16) NOT NULL," /* create | update | delete */
    "actor " NAME " NOT NULL,"
    "definition LONGTEXT NOT NULL," /* JSON, as it is afterwards; of a deleted one as it was */
    "node_id BINARY(16) NOT NULL,"
    "changed_at DATETIME(6) NOT NULL,"
    "PRIMARY KEY (id),"
    "KEY slo_id (slo_id)" TABLE_OPTIONS,

    /* Names of this table's key must not fall together, as in slo_slices. */
    "ALTER TABLE slo_windows MODIFY tenant_id " BYTES_NAME " NOT NULL,"
    "MODIFY service " BYTES_NAME " NOT NULL",

    /* The server's own requests as slices: a row per process and minute. */
    "CREATE TABLE IF NOT EXISTS api_slices ("
    "id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,"
    "node_id BINARY(16) NOT NULL,"
    "epoch BIGINT UNSIGNED NOT NULL,"
    "minute BIGINT NOT NULL,"
    "detail MEDIUMBLOB NOT NULL,"
    "PRIMARY KEY (id),"
    "KEY minute (minute)" TABLE_OPTIONS,

    /* How far the slices of each source are in slo_windows. */
    "CREATE TABLE IF NOT EXISTS slo_window_cursors ("
    "node_id BINARY(16) NOT NULL,"
    "partition_id INT UNSIGNED NOT NULL,"
    "last_seq BIGINT UNSIGNED NOT NULL,"
    "PRIMARY KEY (node_id, partition_id)" TABLE_OPTIONS,
};

static const char *const MIGRATION_3[] = {
    "ALTER TABLE dead_letters "
    "ADD COLUMN event_name " NAME " NULL,"
    /* Replayed, and found to repeat an older row: it has no row of its own. */
    "ADD COLUMN duplicate TINYINT(1) NOT NULL DEFAULT 0,"
    "ADD KEY state (replayed_at, discarded_at)",

    "UPDATE dead_letters SET event_name = JSON_UNQUOTE(JSON_EXTRACT(payload, '$.event_name')) "
    "WHERE event_name IS NULL AND JSON_VALID(payload)",
};

struct migration {
    const char *name;
    const char *const *statements;
    size_t statement_count;
};

/* Version = position + 1. Never change an entry that was released: append one. */
static const struct migration MIGRATIONS[] = {
    {"first tables", MIGRATION_1, ARRAY_LEN(MIGRATION_1)},
    {"slo definitions", MIGRATION_2, ARRAY_LEN(MIGRATION_2)},
    {"dead letters", MIGRATION_3, ARRAY_LEN(MIGRATION_3)},
};

/* Tables whose absence means that the steps have to run again, whatever the version says. */
#define TABLES                                                                                     \
    "'events','replication_offsets','slo_slices','dead_letters','slo','slo_windows',"              \
    "'api_requests','schema_migrations','slo_audit','slo_window_cursors',"                         \
    "'api_slices'"
enum {
    TABLE_COUNT = 11
};

static const char LOCK_NAME[] = "CONCAT('sluice.', MD5(DATABASE()))";
enum {
    LOCK_WAIT_S = 2
};

uint32_t
mysql_schema_version(void)
{
    return (uint32_t)ARRAY_LEN(MIGRATIONS);
}

static enum err
failed(struct mysql_session *session, const char *step)
{
    mysql_session_log_error(session, "mysql.schema_failed", step, true);
    return ERR_UNAVAILABLE;
}

/* Finds the version (0: none yet) and whether all tables stand. */
static enum err
look(struct mysql_session *session, uint64_t *version_out, bool *complete_out)
{
    uint64_t tables = 0;
    uint64_t version = 0;
    unsigned number;

    number = mysql_session_number(session,
                                  "SELECT COUNT(*) FROM information_schema.tables "
                                  "WHERE table_schema = DATABASE() AND table_name IN (" TABLES ")",
                                  0, &tables);
    if (number != 0) {
        return failed(session, "count tables");
    }
    number =
        mysql_session_number(session, "SELECT MAX(version) FROM schema_migrations", 0, &version);
    if (number != 0 && number != MYSQL_NUMBER_NO_TABLE) {
        return failed(session, "read version");
    }
    if (version > mysql_schema_version()) {
        log_error("mysql.schema_too_new", LOG_U64("found", version),
                  LOG_U64("known", mysql_schema_version()),
                  LOG_STR("detail", "a newer build has migrated this database; run that one"),
                  LOG_END);
        return ERR_FORMAT;
    }
    *version_out = version;
    *complete_out = tables == TABLE_COUNT;
    return ERR_OK;
}

/* All statements of one migration, then its line in schema_migrations. */
static enum err
migrate(struct mysql_session *session, uint32_t version)
{
    const struct migration *migration = &MIGRATIONS[version - 1];
    char note[256];

    for (size_t i = 0; i < migration->statement_count; i++) {
        unsigned number = mysql_session_run_text(session, migration->statements[i], NULL);

        /* Columns that are there already were added by a run that did not come to its end. */
        if (number != 0 && number != MYSQL_NUMBER_DUPLICATE_COLUMN) {
            return failed(session, migration->name);
        }
    }
    snprintf(note, sizeof note,
             "INSERT INTO schema_migrations (version, name, applied_at) VALUES "
             "(%u, '%s', UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE name = VALUES(name)",
             version, migration->name);
    if (mysql_session_run_text(session, note, NULL) != 0) {
        return failed(session, "note the version");
    }
    return ERR_OK;
}

static enum err
migrate_all(struct mysql_session *session)
{
    uint64_t found;
    bool complete;
    enum err err = look(session, &found, &complete); /* another server may have done it meanwhile */

    if (err != ERR_OK || (complete && found == mysql_schema_version())) {
        return err;
    }
    if (mysql_session_run_text(session,
                               "CREATE TABLE IF NOT EXISTS schema_migrations ("
                               "version INT UNSIGNED NOT NULL,"
                               "name VARCHAR(128) NOT NULL,"
                               "applied_at DATETIME(6) NOT NULL,"
                               "PRIMARY KEY (version)" TABLE_OPTIONS,
                               NULL) != 0) {
        return failed(session, "schema_migrations");
    }
    /* From the first one on when a table is missing: every statement can be repeated. */
    for (uint32_t version = complete ? (uint32_t)found + 1 : 1; version <= mysql_schema_version();
         version++) {
        err = migrate(session, version);
        if (err != ERR_OK) {
            return err;
        }
    }
    log_info("mysql.schema_migrated", LOG_U64("from", found), LOG_U64("to", mysql_schema_version()),
             LOG_END);
    return ERR_OK;
}

enum err
mysql_schema_ensure(struct mysql_session *session)
{
    uint64_t found;
    uint64_t locked = 0;
    bool complete;
    char sql[160];
    enum err err = look(session, &found, &complete);

    if (err != ERR_OK || (complete && found == mysql_schema_version())) {
        return err;
    }
    snprintf(sql, sizeof sql, "SELECT GET_LOCK(%s, %d)", LOCK_NAME, LOCK_WAIT_S);
    if (mysql_session_number(session, sql, 0, &locked) != 0) {
        return failed(session, "lock");
    }
    if (locked != 1) {
        log_info("mysql.schema_busy", LOG_STR("detail", "another server is migrating"), LOG_END);
        return ERR_UNAVAILABLE;
    }
    err = migrate_all(session);
    snprintf(sql, sizeof sql, "SELECT RELEASE_LOCK(%s)", LOCK_NAME);
    if (mysql_session_number(session, sql, 0, &locked) != 0 && err == ERR_OK) {
        return failed(session, "unlock");
    }
    return err;
}
