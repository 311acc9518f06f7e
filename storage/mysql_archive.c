/*
 * Access is always by by_name (tenant_id, event_name, occurred_at), to which InnoDB appends the
 * primary key (node_id, seq): with a name given that is the archive's order, so a page reads as
 * many rows as it shows and sorts nothing.
 *
 * utf8mb4_bin ignores trailing spaces, the archive does not: beside each comparison stands one of
 * the length, and groups are made of the bytes.
 */
#include "storage/mysql_archive.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/base/timestamp.h"
#include "storage/mysql_connect.h"
#include "storage/mysql_errors.h"

enum {
    SESSIONS = 8, /* more readers at once than threads of libuv's pool; a further one is refused */
    AWAY_US = 1000000,
    SQL_BYTES_KEPT = 64 << 10,
};

struct snapshot {
    struct mysql_archive *archive;
    bool in_use; /* guarded by the archive's lock; the rest is the user's */
    bool empty;  /* there are no tables yet */
    int64_t deadline_us;
    struct mysql_session session;
    struct buffer sql;
};

struct mysql_archive {
    struct mysql_config config;
    pthread_mutex_t lock; /* guards in_use of each snapshot */
    struct snapshot snapshots[SESSIONS];
    _Atomic int64_t away_until_us;
};

static int64_t
now_us(void)
{
    return clock_monotonic_us(clock_system());
}

static int64_t
time_limit_us(const struct mysql_archive *archive)
{
    return (int64_t)archive->config.timeout_ms * 750;
}

/* ---- snapshots ---- */

/* A free place, one with a session if there is. NULL: all are in use. */
static struct snapshot *
take_place(struct mysql_archive *archive)
{
    struct snapshot *found = NULL;

    pthread_mutex_lock(&archive->lock);
    for (size_t i = 0; i < SESSIONS; i++) {
        struct snapshot *place = &archive->snapshots[i];

        if (!place->in_use && (found == NULL || found->session.mysql == NULL)) {
            found = place;
        }
    }
    if (found != NULL) {
        found->in_use = true;
    }
    pthread_mutex_unlock(&archive->lock);
    return found;
}

static void
give_place(struct snapshot *snapshot)
{
    struct mysql_archive *archive = snapshot->archive;

    buffer_clear(&snapshot->sql, SQL_BYTES_KEPT);
    pthread_mutex_lock(&archive->lock);
    snapshot->in_use = false;
    pthread_mutex_unlock(&archive->lock);
}

/* What the session's last error means. After ERR_UNAVAILABLE the session is of no use any more. */
static enum err
meaning(struct snapshot *snapshot, const char *step)
{
    const unsigned number = mysql_errno(snapshot->session.mysql);

    if (mysql_classify(number) == MYSQL_CLASS_RETRY) { /* ended by its time limit, or by somebody */
        return now_us() >= snapshot->deadline_us ? ERR_TIMEOUT : ERR_AGAIN;
    }
    mysql_session_log_error(&snapshot->session, "mysql.archive_failed", step,
                            !mysql_text_quotes_data(number));
    return ERR_UNAVAILABLE;
}

static enum err
failed(struct snapshot *snapshot, const char *step)
{
    const enum err err = meaning(snapshot, step);

    if (err == ERR_UNAVAILABLE) {
        mysql_session_close(&snapshot->session);
    }
    return err;
}

static enum err
limit_time(struct snapshot *snapshot)
{
    if (mysql_session_limit_time(&snapshot->session, time_limit_us(snapshot->archive)) != 0) {
        return failed(snapshot, "limit time");
    }
    return ERR_OK;
}

static enum err
connect_session(struct snapshot *snapshot)
{
    struct mysql_archive *archive = snapshot->archive;
    enum err err;

    if (now_us() < atomic_load(&archive->away_until_us)) {
        return ERR_UNAVAILABLE;
    }
    /* One that was idle may have been closed by the server. */
    if (snapshot->session.mysql != NULL && mysql_ping(snapshot->session.mysql) != 0) {
        mysql_session_close(&snapshot->session);
    }
    if (snapshot->session.mysql != NULL) {
        return ERR_OK;
    }
    err = mysql_session_open(&snapshot->session, &archive->config);
    if (err == ERR_UNAVAILABLE) {
        atomic_store(&archive->away_until_us, now_us() + AWAY_US);
    }
    return err == ERR_OK ? limit_time(snapshot) : err;
}

static enum err
read_offsets(struct snapshot *snapshot, const uint8_t node_id[JOURNAL_NODE_ID_SIZE],
             uint32_t partitions, uint64_t *after_out)
{
    MYSQL_RES *result;
    MYSQL_ROW row;
    unsigned number;

    buffer_clear(&snapshot->sql, SIZE_MAX);
    buffer_append_text(&snapshot->sql,
                       "SELECT partition_id, last_seq FROM replication_offsets WHERE node_id = ");
    mysql_append_hex(&snapshot->sql, node_id, JOURNAL_NODE_ID_SIZE);
    if (snapshot->sql.failed) {
        return ERR_NO_MEMORY;
    }
    number = mysql_session_run(&snapshot->session, buffer_span(&snapshot->sql), &result);
    snapshot->empty = number == MYSQL_NUMBER_NO_TABLE;
    if (snapshot->empty) {
        return ERR_OK; /* a replicator is about to make the tables; no offset is none */
    }
    if (number != 0) {
        return failed(snapshot, "read offsets");
    }
    while ((row = mysql_fetch_row(result)) != NULL) {
        const uint64_t partition = mysql_row_u64(row, 0);

        if (partition < partitions) {
            after_out[partition] = mysql_row_u64(row, 1);
        }
    }
    mysql_free_result(result);
    return ERR_OK;
}

static void
op_end(void *self)
{
    struct snapshot *snapshot = self;

    if (snapshot->session.mysql != NULL &&
        mysql_session_run_text(&snapshot->session, "ROLLBACK", NULL) != 0) {
        mysql_session_close(&snapshot->session);
    }
    give_place(snapshot);
}

static enum err
op_begin(void *self, const uint8_t node_id[JOURNAL_NODE_ID_SIZE], uint32_t partitions,
         uint64_t *after_out, void **snapshot_out)
{
    struct mysql_archive *archive = self;
    struct snapshot *snapshot = take_place(archive);
    enum err err;

    if (snapshot == NULL) {
        return ERR_AGAIN;
    }
    memset(after_out, 0, partitions * sizeof(*after_out));
    snapshot->deadline_us = now_us() + time_limit_us(archive);
    err = connect_session(snapshot);
    if (err != ERR_OK) {
        give_place(snapshot);
        return err;
    }
    if (mysql_session_run_text(&snapshot->session,
                               "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", NULL) != 0 ||
        mysql_session_run_text(&snapshot->session, "START TRANSACTION WITH CONSISTENT SNAPSHOT",
                               NULL) != 0) {
        err = failed(snapshot, "begin");
    } else {
        err = read_offsets(snapshot, node_id, partitions, after_out);
    }
    if (err != ERR_OK) {
        op_end(snapshot);
        return err;
    }
    *snapshot_out = snapshot;
    return ERR_OK;
}

/* Runs the statement that was put together; its rows come one by one. */
static enum err
stream(struct snapshot *snapshot, const char *step, MYSQL_RES **result_out)
{
    if (snapshot->sql.failed) {
        return ERR_NO_MEMORY;
    }
    if (now_us() >= snapshot->deadline_us) {
        return ERR_TIMEOUT;
    }
    if (mysql_session_stream(&snapshot->session, buffer_span(&snapshot->sql), result_out) != 0) {
        return failed(snapshot, step);
    }
    return ERR_OK;
}

/* There was no further row, or ERR says why none is wanted: reads what is left. */
static enum err
end_stream(struct snapshot *snapshot, const char *step, MYSQL_RES *result, enum err err)
{
    const bool broken = err == ERR_OK && mysql_errno(snapshot->session.mysql) != 0;
    const enum err end = broken ? meaning(snapshot, step) : err;

    mysql_free_result(result);
    if (broken && end == ERR_UNAVAILABLE) {
        mysql_session_close(&snapshot->session);
    }
    return end;
}

/* ---- conditions ---- */

/* COLUMN holds exactly VALUE; nothing for an absent one. */
static void
append_equal(struct snapshot *snapshot, const char *column, struct span value)
{
    struct buffer *sql = &snapshot->sql;

    if (value.data == NULL) {
        return;
    }
    buffer_printf(sql, " AND %s = ", column);
    mysql_append_string(sql, &snapshot->session, value);
    buffer_printf(sql, " AND LENGTH(%s) = %zu", column, value.len);
}

static void
append_time(struct buffer *sql, const char *before, int64_t us)
{
    buffer_append_text(sql, before);
    buffer_append_char(sql, '\'');
    mysql_append_datetime(sql, us);
    buffer_append_char(sql, '\'');
}

static int64_t
clamp_datetime(int64_t us)
{
    if (us < MYSQL_DATETIME_MIN_US) {
        return MYSQL_DATETIME_MIN_US;
    }
    return us > MYSQL_DATETIME_MAX_US ? MYSQL_DATETIME_MAX_US : us;
}

/* FROM events WHERE .. with all of FILTER; its range is not empty. */
static void
append_from(struct snapshot *snapshot, const struct archive_filter *filter, bool name_padded)
{
    struct buffer *sql = &snapshot->sql;

    buffer_append_text(sql, " FROM events FORCE INDEX (by_name) WHERE tenant_id = ");
    mysql_append_string(sql, &snapshot->session, filter->tenant);
    buffer_printf(sql, " AND LENGTH(tenant_id) = %zu", filter->tenant.len);
    if (name_padded) {
        buffer_append_text(sql, " AND event_name = ");
        mysql_append_string(sql, &snapshot->session, filter->event_name);
    } else {
        append_equal(snapshot, "event_name", filter->event_name);
    }
    append_time(sql, " AND occurred_at >= ", clamp_datetime(filter->from_us));
    append_time(sql, " AND occurred_at <= ", clamp_datetime(filter->to_us - 1));
    append_equal(snapshot, "service", filter->service);
    append_equal(snapshot, "channel", filter->channel);
    append_equal(snapshot, "campaign_id", filter->campaign_id);
    append_equal(snapshot, "user_id", filter->user_id);
}

/* Behind AT (SIGN '<' or '>'), as disjoint ranges of the index: those of equal time are skipped
 * too. */
static void
append_beyond(struct buffer *sql, const struct archive_position *at, char sign)
{
    char beyond[] = " AND (occurred_at ? ";

    beyond[sizeof(beyond) - 3] = sign;
    append_time(sql, beyond, at->occurred_us);
    append_time(sql, " OR (occurred_at = ", at->occurred_us);
    buffer_printf(sql, " AND node_id %c ", sign);
    mysql_append_hex(sql, at->node_id, sizeof(at->node_id));
    append_time(sql, ") OR (occurred_at = ", at->occurred_us);
    buffer_append_text(sql, " AND node_id = ");
    mysql_append_hex(sql, at->node_id, sizeof(at->node_id));
    buffer_printf(sql, " AND seq %c %" PRIu64 "))", sign, at->seq);
}

/* ---- the port ---- */

/* The first name after NAME (absent: of all), as the index has them; absent when there is none. */
static enum err
next_name(struct snapshot *snapshot, struct span tenant, struct span *name,
          char room[EVENT_NAME_MAX])
{
    struct buffer *sql = &snapshot->sql;
    struct span found;
    MYSQL_RES *result;
    MYSQL_ROW row;

    buffer_clear(sql, SIZE_MAX);
    buffer_append_text(sql, "SELECT MIN(event_name) FROM events WHERE tenant_id = ");
    mysql_append_string(sql, &snapshot->session, tenant);
    if (name->data != NULL) {
        buffer_append_text(sql, " AND event_name > ");
        mysql_append_string(sql, &snapshot->session, *name);
    }
    if (sql->failed) {
        return ERR_NO_MEMORY;
    }
    if (now_us() >= snapshot->deadline_us) {
        return ERR_TIMEOUT;
    }
    if (mysql_session_run(&snapshot->session, buffer_span(sql), &result) != 0) {
        return failed(snapshot, "read names");
    }
    row = mysql_fetch_row(result);
    found = row == NULL ? (struct span){NULL, 0} : mysql_row_span(result, row, 0);
    if (found.len > EVENT_NAME_MAX) {
        found.len = EVENT_NAME_MAX; /* none of ours: what follows it is still found */
    }
    *name = (struct span){found.data == NULL ? NULL : room, found.len};
    if (found.data != NULL) {
        memcpy(room, found.data, found.len);
    }
    mysql_free_result(result);
    return ERR_OK;
}

/*
 * One look into the index for each name. SELECT DISTINCT would be one statement, but whether it
 * jumps from name to name or reads all of the tenant's entries is the optimizer's choice.
 */
static enum err
op_names(void *self, struct span tenant, uint32_t max, archive_name_fn *fn, void *arg)
{
    struct snapshot *snapshot = self;
    struct span name = {NULL, 0};
    char room[EVENT_NAME_MAX];
    enum err err = ERR_OK;

    for (uint32_t i = 0; err == ERR_OK && i < max && !snapshot->empty; i++) {
        err = next_name(snapshot, tenant, &name, room);
        if (err != ERR_OK || name.data == NULL) {
            break;
        }
        err = fn(arg, name);
    }
    return err;
}

#define ROW_COLUMNS                                                                                \
    "node_id,seq,tenant_id,event_id,event_name,service,status,latency_ms,channel,campaign_id,"     \
    "user_id,tags,properties,trace_id," MYSQL_MICROSECONDS("occurred_at") "," MYSQL_MICROSECONDS(  \
        "created_at")

static enum err
give_row(MYSQL_RES *result, MYSQL_ROW row, archive_row_fn *fn, void *arg)
{
    const struct span node = mysql_row_span(result, row, 0);
    struct archive_position position = {
        .occurred_us = mysql_row_i64(row, 14),
        .seq = mysql_row_u64(row, 1),
    };
    const uint64_t status = mysql_row_u64(row, 6);
    const struct event event = {
        .has_status = row[6] != NULL && status <= UINT16_MAX,
        .has_latency = row[7] != NULL,
        .status = status <= UINT16_MAX ? (uint16_t)status : 0,
        .latency_ms = row[7] != NULL ? strtod(row[7], NULL) : 0,
        .occurred_at_us = position.occurred_us,
        .created_at_us = mysql_row_i64(row, 15),
        .tenant = mysql_row_span(result, row, 2),
        .id = mysql_row_span(result, row, 3),
        .name = mysql_row_span(result, row, 4),
        .service = mysql_row_span(result, row, 5),
        .channel = mysql_row_span(result, row, 8),
        .campaign_id = mysql_row_span(result, row, 9),
        .user_id = mysql_row_span(result, row, 10),
        .tags = mysql_row_span(result, row, 11),
        .properties = mysql_row_span(result, row, 12),
        .trace_id = mysql_row_span(result, row, 13),
    };

    if (node.len != sizeof(position.node_id)) {
        return ERR_OK; /* a column somebody has changed */
    }
    memcpy(position.node_id, node.data, sizeof(position.node_id));
    return fn(arg, &position, &event);
}

static enum err
op_rows(void *self, const struct archive_rows *rows, archive_row_fn *fn, void *arg)
{
    struct snapshot *snapshot = self;
    struct buffer *sql = &snapshot->sql;
    const char *const direction = rows->descending ? "DESC" : "ASC";
    MYSQL_RES *result;
    MYSQL_ROW row;
    enum err err;

    if (snapshot->empty || rows->filter.from_us >= rows->filter.to_us) {
        return ERR_OK;
    }
    buffer_clear(sql, SIZE_MAX);
    buffer_append_text(sql, "SELECT " ROW_COLUMNS);
    append_from(snapshot, &rows->filter, rows->name_padded);
    if (rows->has_after) {
        append_beyond(sql, &rows->after, rows->descending ? '<' : '>');
    }
    if (rows->has_until) {
        append_beyond(sql, &rows->until, rows->descending ? '>' : '<');
    }
    buffer_printf(sql, " ORDER BY occurred_at %s, node_id %s, seq %s LIMIT %" PRIu32, direction,
                  direction, direction, rows->limit);
    err = stream(snapshot, "read rows", &result);
    if (err != ERR_OK) {
        return err;
    }
    while (err == ERR_OK && (row = mysql_fetch_row(result)) != NULL) {
        err = give_row(result, row, fn, arg);
    }
    return end_stream(snapshot, "read rows", result, err);
}

/* The time of a group, as archive_filter says. Counted from the year 1, so that it is positive. */
static void
append_group_time(struct buffer *sql, const struct archive_filter *filter)
{
    if (filter->bucket_us == ARCHIVE_NO_TIME) {
        buffer_append_i64(sql, filter->from_us);
    } else if (filter->bucket_us == 0) {
        buffer_append_text(sql, MYSQL_MICROSECONDS("occurred_at"));
    } else {
        buffer_printf(sql,
                      "TIMESTAMPDIFF(MICROSECOND,'0001-01-01 00:00:00',occurred_at) "
                      "DIV %" PRId64 " * %" PRId64 " + (%" PRId64 ")",
                      filter->bucket_us, filter->bucket_us, TIMESTAMP_MIN_US);
    }
    buffer_append_text(sql, " AS time");
}

_Static_assert(TIMESTAMP_MIN_US % ARCHIVE_DAY_US == 0, "buckets of year 1 and of 1970 coincide");

/* The same in C, for events that are no rows. */
static int64_t
group_time(const struct archive_filter *filter, int64_t occurred_us)
{
    if (filter->bucket_us == ARCHIVE_NO_TIME) {
        return filter->from_us;
    }
    if (filter->bucket_us == 0) {
        return occurred_us;
    }
    return occurred_us - (occurred_us - TIMESTAMP_MIN_US) % filter->bucket_us;
}

static bool
is_wanted(struct span wanted, struct span value)
{
    return wanted.data == NULL || (value.data != NULL && span_equal(wanted, value));
}

/* Gives the event of a dead letter, if it matches. One that cannot be read is in no sum. */
static enum err
give_letter(const struct archive_filter *filter, struct span record, archive_user_fn *fn, void *arg)
{
    struct event event;
    int64_t occurred_us;

    if (event_decode(record, &event) != ERR_OK) {
        return ERR_OK;
    }
    occurred_us = clamp_datetime(event.occurred_at_us);
    if (occurred_us < filter->from_us || occurred_us >= filter->to_us ||
        !is_wanted(filter->tenant, event.tenant) || !is_wanted(filter->event_name, event.name) ||
        !is_wanted(filter->service, event.service) || !is_wanted(filter->channel, event.channel) ||
        !is_wanted(filter->campaign_id, event.campaign_id) ||
        !is_wanted(filter->user_id, event.user_id)) {
        return ERR_OK;
    }
    return fn(arg, group_time(filter, occurred_us), 1, event.user_id, event.channel,
              event.campaign_id);
}

/* Events that were acked and are no rows: they count like those that are. */
static enum err
give_letters(struct snapshot *snapshot, const struct archive_filter *filter, archive_user_fn *fn,
             void *arg)
{
    struct buffer *sql = &snapshot->sql;
    MYSQL_RES *result;
    MYSQL_ROW row;
    enum err err;

    buffer_clear(sql, SIZE_MAX);
    buffer_append_text(
        sql, "SELECT record FROM dead_letters WHERE (replayed_at IS NULL OR duplicate = 1)");
    append_equal(snapshot, "tenant_id", filter->tenant);
    append_equal(snapshot, "event_name", filter->event_name);
    err = stream(snapshot, "read dead letters", &result);
    if (err != ERR_OK) {
        return err;
    }
    while (err == ERR_OK && (row = mysql_fetch_row(result)) != NULL) {
        err = give_letter(filter, mysql_row_span(result, row, 0), fn, arg);
    }
    return end_stream(snapshot, "read dead letters", result, err);
}

static enum err
op_users(void *self, const struct archive_filter *filter, archive_user_fn *fn, void *arg)
{
    struct snapshot *snapshot = self;
    struct buffer *sql = &snapshot->sql;
    MYSQL_RES *result;
    MYSQL_ROW row;
    enum err err;

    if (snapshot->empty || filter->from_us >= filter->to_us) {
        return ERR_OK;
    }
    buffer_clear(sql, SIZE_MAX);
    buffer_append_text(sql, "SELECT ");
    append_group_time(sql, filter);
    buffer_append_text(sql,
                       ",COUNT(*),CAST(user_id AS BINARY) AS user,"
                       "CAST(channel AS BINARY) AS way,CAST(campaign_id AS BINARY) AS campaign");
    append_from(snapshot, filter, false);
    buffer_append_text(sql, " GROUP BY time, user, way, campaign");
    err = stream(snapshot, "read users", &result);
    if (err != ERR_OK) {
        return err;
    }
    while (err == ERR_OK && (row = mysql_fetch_row(result)) != NULL) {
        err = fn(arg, mysql_row_i64(row, 0), mysql_row_u64(row, 1), mysql_row_span(result, row, 2),
                 mysql_row_span(result, row, 3), mysql_row_span(result, row, 4));
    }
    err = end_stream(snapshot, "read users", result, err);
    return err == ERR_OK ? give_letters(snapshot, filter, fn, arg) : err;
}

static void
op_close(void *self)
{
    struct mysql_archive *archive = self;

    for (size_t i = 0; i < SESSIONS; i++) {
        mysql_session_close(&archive->snapshots[i].session);
        buffer_free(&archive->snapshots[i].sql);
    }
    pthread_mutex_destroy(&archive->lock);
    free(archive);
}

static const struct archive_store_ops MYSQL_ARCHIVE_OPS = {
    .begin = op_begin,
    .names = op_names,
    .rows = op_rows,
    .users = op_users,
    .end = op_end,
    .close = op_close,
};

enum err
mysql_archive_new(struct archive_store *out, const struct mysql_config *config)
{
    struct mysql_archive *archive = calloc(1, sizeof(*archive));

    if (archive == NULL) {
        return ERR_NO_MEMORY;
    }
    archive->config = *config;
    pthread_mutex_init(&archive->lock, NULL);
    for (size_t i = 0; i < SESSIONS; i++) {
        archive->snapshots[i].archive = archive;
    }
    *out = (struct archive_store){&MYSQL_ARCHIVE_OPS, archive};
    return ERR_OK;
}
