/*
 * mysql_objectives.c - whether anything changed is one query over the whole table, which is small:
 * a count and a checksum of the rows find every change, however it was made.
 */
#include "storage/mysql_objectives.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/log.h"
#include "core/base/timestamp.h"
#include "storage/mysql_connect.h"
#include "storage/mysql_errors.h"

#define COLUMNS                                                                                    \
    "id,tenant_id,service_name,slo_type,slo_value,threshold_ms,windows_days,window_minutes,"       \
    "window_kind,time_zone,good_status,min_bad_events,version,created_at,updated_at,updated_by,"   \
    "counted_from"

enum column {
    COLUMN_ID,
    COLUMN_TENANT,
    COLUMN_SERVICE,
    COLUMN_TYPE,
    COLUMN_VALUE,
    COLUMN_THRESHOLD,
    COLUMN_DAYS,
    COLUMN_MINUTES,
    COLUMN_KIND,
    COLUMN_ZONE,
    COLUMN_GOOD_STATUS,
    COLUMN_MIN_BAD,
    COLUMN_VERSION,
    COLUMN_CREATED,
    COLUMN_UPDATED,
    COLUMN_UPDATED_BY,
    COLUMN_COUNTED_FROM,
};

struct digest {
    uint64_t rows;
    uint64_t checksum;
};

struct mysql_objectives {
    struct mysql_config config;
    uint8_t node_id[JOURNAL_NODE_ID_SIZE];
    struct objective_store store;
    struct mysql_session session;
    struct buffer sql;
    bool loaded;
    struct digest digest; /* of the last load; valid when LOADED */
};

static enum err load(void *self, bool *changed,
                     enum err (*fn)(void *arg, const struct objective *objective), void *arg);
static enum err change(void *self, enum objective_change what, const struct objective *objective);

enum err
mysql_objectives_open(struct mysql_objectives **out, const struct mysql_config *config,
                      const uint8_t node_id[JOURNAL_NODE_ID_SIZE])
{
    struct mysql_objectives *objectives = calloc(1, sizeof(*objectives));

    if (objectives == NULL) {
        return ERR_NO_MEMORY;
    }
    objectives->config = *config;
    memcpy(objectives->node_id, node_id, JOURNAL_NODE_ID_SIZE);
    objectives->store = (struct objective_store){load, change, objectives};
    *out = objectives;
    return ERR_OK;
}

void
mysql_objectives_close(struct mysql_objectives *objectives)
{
    if (objectives == NULL) {
        return;
    }
    mysql_session_close(&objectives->session);
    buffer_free(&objectives->sql);
    free(objectives);
}

const struct objective_store *
mysql_objectives_store(const struct mysql_objectives *objectives)
{
    return &objectives->store;
}

/* NUMBER of a statement before which nothing was changed; the session is of no use after it. */
static enum err
unavailable(struct mysql_objectives *objectives, unsigned number, const char *step)
{
    const bool no_tables = mysql_classify(number) == MYSQL_CLASS_SCHEMA;

    if (!no_tables) {
        mysql_session_log_error(&objectives->session, "mysql.objectives_failed", step, true);
    }
    mysql_session_close(&objectives->session);
    return no_tables ? ERR_NOT_FOUND : ERR_UNAVAILABLE;
}

/* A session that was idle may have been closed by the server. */
static enum err
connect(struct mysql_objectives *objectives)
{
    struct mysql_session *session = &objectives->session;

    if (session->mysql != NULL && mysql_ping(session->mysql) != 0) {
        mysql_session_close(session);
    }
    return session->mysql != NULL ? ERR_OK : mysql_session_open(session, &objectives->config);
}

/* ---- load ---- */

static unsigned
read_digest(struct mysql_objectives *objectives, struct digest *out)
{
    MYSQL_RES *result;
    MYSQL_ROW row;
    unsigned number = mysql_session_run_text(
        &objectives->session,
        "SELECT COUNT(*), COALESCE(BIT_XOR(CRC32(CONCAT_WS('|',status," COLUMNS "))),0) FROM slo",
        &result);

    if (number != 0) {
        return number;
    }
    row = mysql_fetch_row(result);
    if (row != NULL) {
        *out = (struct digest){mysql_row_u64(row, 0), mysql_row_u64(row, 1)};
    }
    mysql_free_result(result);
    return 0;
}

/* A column as text; false when it does not fit. NULL is the empty text. */
static bool
copy_text(MYSQL_RES *result, MYSQL_ROW row, enum column column, char *out, size_t size)
{
    const struct span text = mysql_row_span(result, row, column);

    if (text.len >= size) {
        return false;
    }
    if (text.len > 0) {
        memcpy(out, text.data, text.len);
    }
    out[text.len] = '\0';
    return true;
}

/* YYYY-MM-DD HH:MM:SS.ffffff, UTC. */
static int64_t
read_datetime(MYSQL_ROW row, enum column column)
{
    char text[32];
    int64_t us = 0;

    if (row[column] == NULL || strlen(row[column]) < 19 || strlen(row[column]) > 26) {
        return 0;
    }
    (void)snprintf(text, sizeof(text), "%sZ", row[column]);
    text[10] = 'T';
    return timestamp_parse(span_of(text), &us) == ERR_OK ? us : 0;
}

/* In minutes. Who changes a row by hand changes the days alone: the minutes must agree to count. */
static int64_t
read_length(MYSQL_ROW row)
{
    const int64_t days = (int64_t)narrow_u32(mysql_row_u64(row, COLUMN_DAYS));
    const int64_t minutes = (int64_t)narrow_u32(mysql_row_u64(row, COLUMN_MINUTES));

    return (minutes + 1439) / 1440 == days ? minutes : days * 1440;
}

static bool
read_window(MYSQL_RES *result, MYSQL_ROW row, struct slo_objective *out)
{
    char kind[32];

    if (!copy_text(result, row, COLUMN_KIND, kind, sizeof(kind)) ||
        !copy_text(result, row, COLUMN_ZONE, out->zone, sizeof(out->zone))) {
        return false;
    }
    if (strcmp(kind, "rolling") != 0) {
        return objective_parse_window(span_of(strcmp(kind, "calendar") == 0 ? "month" : kind),
                                      &out->window, &out->window_minutes) == ERR_OK &&
               out->window != SLO_ROLLING;
    }
    out->window = SLO_ROLLING;
    out->zone[0] = '\0';
    out->window_minutes = read_length(row);
    return true;
}

static bool
read_row(MYSQL_RES *result, MYSQL_ROW row, struct objective *out)
{
    struct slo_objective *slo = &out->slo;
    const struct span type = mysql_row_span(result, row, COLUMN_TYPE);
    const double threshold_ms =
        row[COLUMN_THRESHOLD] == NULL ? 0.0 : strtod(row[COLUMN_THRESHOLD], NULL);
    const char *why;

    memset(out, 0, sizeof(*out));
    if (!copy_text(result, row, COLUMN_ID, slo->id, sizeof(slo->id)) ||
        !copy_text(result, row, COLUMN_TENANT, out->tenant, sizeof(out->tenant)) ||
        !copy_text(result, row, COLUMN_SERVICE, out->service, sizeof(out->service)) ||
        !copy_text(result, row, COLUMN_UPDATED_BY, out->updated_by, sizeof(out->updated_by)) ||
        !read_window(result, row, slo)) {
        return false;
    }
    if (!span_is(type, "availability") && !span_is(type, "latency")) {
        return false;
    }
    slo->type = span_is(type, "latency") ? SLO_LATENCY : SLO_AVAILABILITY;
    slo->target = row[COLUMN_VALUE] == NULL ? 0.0 : strtod(row[COLUMN_VALUE], NULL);
    if (slo->type == SLO_LATENCY && threshold_ms >= 0.001 && threshold_ms <= 4294967.0) {
        slo->threshold_us = (uint32_t)round(threshold_ms * 1000.0);
    }
    if (slo->type == SLO_AVAILABILITY &&
        objective_parse_status(mysql_row_span(result, row, COLUMN_GOOD_STATUS),
                               &slo->good_status) != ERR_OK) {
        return false;
    }
    slo->min_bad_events = narrow_u32(mysql_row_u64(row, COLUMN_MIN_BAD));
    out->version = narrow_u32(mysql_row_u64(row, COLUMN_VERSION));
    out->created_us = read_datetime(row, COLUMN_CREATED);
    out->updated_us = read_datetime(row, COLUMN_UPDATED);
    if (slo->type == SLO_LATENCY) { /* a row made by hand is counted since it was seen */
        slo->counted_from_us = row[COLUMN_COUNTED_FROM] == NULL
                                   ? out->updated_us
                                   : read_datetime(row, COLUMN_COUNTED_FROM);
    }
    return objective_id_is_valid(span_of(slo->id)) && out->tenant[0] != '\0' && out->version > 0 &&
           objective_is_valid(out, &why);
}

static enum err
give_rows(struct mysql_objectives *objectives,
          enum err (*fn)(void *arg, const struct objective *objective), void *arg)
{
    MYSQL_RES *result;
    MYSQL_ROW row;
    enum err err = ERR_OK;
    unsigned number;

    buffer_clear(&objectives->sql, SIZE_MAX);
    buffer_printf(&objectives->sql,
                  "SELECT " COLUMNS " FROM slo WHERE status = 'active' "
                  "ORDER BY created_at, id LIMIT %d",
                  OBJECTIVES_TOTAL_MAX);
    if (objectives->sql.failed) {
        return ERR_NO_MEMORY;
    }
    number = mysql_session_run(&objectives->session, buffer_span(&objectives->sql), &result);
    if (number != 0) {
        return unavailable(objectives, number, "read definitions");
    }
    while (err == ERR_OK && (row = mysql_fetch_row(result)) != NULL) {
        struct objective objective;

        if (read_row(result, row, &objective)) {
            err = fn(arg, &objective);
        } else {
            log_warn("mysql.objective_refused", LOG_STR("id", row[COLUMN_ID]),
                     LOG_STR("hint", "a row of table slo makes no sense; it is left out"), LOG_END);
        }
    }
    mysql_free_result(result);
    return err;
}

static enum err
load(void *self, bool *changed, enum err (*fn)(void *arg, const struct objective *objective),
     void *arg)
{
    const bool again = *changed;
    struct mysql_objectives *objectives = self;
    struct digest digest = {0, 0};
    unsigned number;
    enum err err = connect(objectives);

    *changed = false;
    if (err != ERR_OK) {
        return err;
    }
    number = read_digest(objectives, &digest);
    if (number != 0) {
        return unavailable(objectives, number, "look for changes");
    }
    if (!again && objectives->loaded && objectives->digest.rows == digest.rows &&
        objectives->digest.checksum == digest.checksum) {
        return ERR_OK;
    }
    /* Rows may be newer than the digest: then the next one differs, and they are read again. */
    err = give_rows(objectives, fn, arg);
    if (err == ERR_OK) {
        *changed = true;
        objectives->loaded = true;
        objectives->digest = digest;
    }
    return err;
}

/* ---- change ---- */

static void
append_text(struct mysql_objectives *objectives, const char *text)
{
    const struct span span = {text, strnlen(text, OBJECTIVE_NAME_SIZE)};

    mysql_append_string(&objectives->sql, &objectives->session, span);
}

static void
append_time(struct buffer *sql, int64_t us)
{
    buffer_append_char(sql, '\'');
    mysql_append_datetime(sql, us);
    buffer_append_char(sql, '\'');
}

static const char *
kind_name(enum slo_window window)
{
    switch (window) {
    case SLO_ROLLING:
        return "rolling";
    case SLO_WEEK:
        return "week";
    case SLO_MONTH:
        return "month";
    }
    assert_failed(__FILE__, __LINE__, "a window of the list");
}

/* "column=value" of everything a definition has, for INSERT .. SET and UPDATE .. SET. */
static void
append_assignments(struct mysql_objectives *objectives, const struct objective *objective)
{
    struct buffer *sql = &objectives->sql;
    const struct slo_objective *slo = &objective->slo;
    char status[OBJECTIVE_STATUS_SIZE];

    objective_status_text(&slo->good_status, status);
    buffer_append_text(sql, "service_name=");
    append_text(objectives, objective->service);
    buffer_printf(sql, ",slo_type='%s',slo_value=%.17g,threshold_ms=", slo_type_name(slo->type),
                  slo->target);
    if (slo->type == SLO_LATENCY) {
        buffer_printf(sql, "%.17g", (double)slo->threshold_us / 1000.0);
    } else {
        buffer_append_text(sql, "NULL");
    }
    buffer_printf(sql, ",windows_days=%lld,window_minutes=%lld,window_kind='%s',time_zone=",
                  (long long)((slo->window_minutes + 1439) / 1440), (long long)slo->window_minutes,
                  kind_name(slo->window));
    append_text(objectives, slo->zone[0] == '\0' ? "UTC" : slo->zone);
    buffer_printf(sql, ",good_status='%s',min_bad_events=%u,status='active',version=%u,updated_at=",
                  status, slo->min_bad_events, objective->version);
    append_time(sql, objective->updated_us);
    buffer_append_text(sql, ",updated_by=");
    append_text(objectives, objective->updated_by);
    buffer_append_text(sql, ",counted_from=");
    append_time(sql, slo->counted_from_us);
}

/* The statement that makes the change. The version finds out whether somebody else was faster. */
static void
append_change(struct mysql_objectives *objectives, enum objective_change what,
              const struct objective *objective)
{
    struct buffer *sql = &objectives->sql;

    buffer_clear(sql, SIZE_MAX);
    switch (what) {
    case OBJECTIVE_CREATE:
        buffer_append_text(sql, "INSERT INTO slo SET id=");
        append_text(objectives, objective->slo.id);
        buffer_append_text(sql, ",tenant_id=");
        append_text(objectives, objective->tenant);
        buffer_append_text(sql, ",created_at=");
        append_time(sql, objective->created_us);
        buffer_append_char(sql, ',');
        append_assignments(objectives, objective);
        return;
    case OBJECTIVE_UPDATE:
        buffer_append_text(sql, "UPDATE slo SET ");
        append_assignments(objectives, objective);
        break;
    case OBJECTIVE_DELETE:
        buffer_append_text(sql, "DELETE FROM slo");
        break;
    }
    buffer_append_text(sql, " WHERE id=");
    append_text(objectives, objective->slo.id);
    buffer_append_text(sql, " AND tenant_id=");
    append_text(objectives, objective->tenant);
    buffer_printf(sql, " AND version=%u",
                  what == OBJECTIVE_UPDATE ? objective->version - 1 : objective->version);
}

static const char *
action_name(enum objective_change what)
{
    switch (what) {
    case OBJECTIVE_CREATE:
        return "create";
    case OBJECTIVE_UPDATE:
        return "update";
    case OBJECTIVE_DELETE:
        return "delete";
    }
    assert_failed(__FILE__, __LINE__, "a change of the list");
}

static void
append_audit(struct mysql_objectives *objectives, enum objective_change what,
             const struct objective *objective)
{
    struct buffer *sql = &objectives->sql;
    struct buffer definition = BUFFER_EMPTY;

    objective_write(&definition, objective);
    buffer_clear(sql, SIZE_MAX);
    buffer_printf(sql, "INSERT INTO slo_audit SET action='%s',slo_id=", action_name(what));
    append_text(objectives, objective->slo.id);
    buffer_append_text(sql, ",tenant_id=");
    append_text(objectives, objective->tenant);
    buffer_append_text(sql, ",actor=");
    append_text(objectives, objective->updated_by);
    buffer_append_text(sql, ",node_id=");
    mysql_append_hex(sql, objectives->node_id, JOURNAL_NODE_ID_SIZE);
    buffer_append_text(sql, ",changed_at=UTC_TIMESTAMP(6),definition=");
    mysql_append_string(sql, &objectives->session, buffer_span(&definition));
    sql->failed = sql->failed || definition.failed;
    buffer_free(&definition);
}

/* Runs what is in SQL; *ROWS_OUT is how many rows it found. */
static unsigned
run(struct mysql_objectives *objectives, uint64_t *rows_out)
{
    unsigned number = mysql_session_run(&objectives->session, buffer_span(&objectives->sql), NULL);

    *rows_out = number == 0 ? mysql_affected_rows(objectives->session.mysql) : 0;
    return number;
}

static void
roll_back(struct mysql_objectives *objectives)
{
    if (mysql_session_run_text(&objectives->session, "ROLLBACK", NULL) != 0) {
        mysql_session_close(&objectives->session); /* which rolls back too */
    }
}

static enum err
change(void *self, enum objective_change what, const struct objective *objective)
{
    struct mysql_objectives *objectives = self;
    uint64_t rows = 0;
    unsigned number;
    enum err err = connect(objectives);

    if (err != ERR_OK) {
        return err;
    }
    number = mysql_session_run_text(&objectives->session, "START TRANSACTION", NULL);
    if (number != 0) {
        return unavailable(objectives, number, "begin");
    }
    append_change(objectives, what, objective);
    if (objectives->sql.failed) {
        roll_back(objectives);
        return ERR_NO_MEMORY;
    }
    number = run(objectives, &rows);
    if (number == MYSQL_NUMBER_DUPLICATE) {
        roll_back(objectives);
        return ERR_INVALID;
    }
    if (number == 0 && rows == 0) { /* changed meanwhile: who asks again finds it as it is now */
        roll_back(objectives);
        return ERR_UNAVAILABLE;
    }
    if (number == 0) {
        append_audit(objectives, what, objective);
        if (objectives->sql.failed) {
            roll_back(objectives);
            return ERR_NO_MEMORY;
        }
        number = run(objectives, &rows);
    }
    if (number != 0) {
        err = unavailable(objectives, number, "change a definition");
        return err == ERR_NOT_FOUND ? ERR_UNAVAILABLE : err;
    }
    number = mysql_session_run_text(&objectives->session, "COMMIT", NULL);
    if (number != 0) {
        (void)unavailable(objectives, number, "commit");
        return ERR_UNKNOWN;
    }
    return ERR_OK;
}
