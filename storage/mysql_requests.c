#include "storage/mysql_requests.h"

#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/log.h"
#include "storage/mysql_connect.h"
#include "storage/mysql_errors.h"

enum {
    OVERLAP = 1000, /* ids that may still become visible below the highest one seen */
};

struct mysql_requests {
    struct mysql_config config;
    uint8_t node_id[JOURNAL_NODE_ID_SIZE];
    uint64_t epoch;
    struct mysql_session session;
    struct buffer sql;
    struct buffer detail;
    uint64_t seen_id; /* of api_slices */
    bool loaded;      /* the own node's earlier slices were given */
};

enum err
mysql_requests_open(struct mysql_requests **out, const struct mysql_config *config,
                    const uint8_t node_id[JOURNAL_NODE_ID_SIZE], uint64_t epoch)
{
    struct mysql_requests *requests = calloc(1, sizeof(*requests));

    if (requests == NULL) {
        return ERR_NO_MEMORY;
    }
    requests->config = *config;
    memcpy(requests->node_id, node_id, JOURNAL_NODE_ID_SIZE);
    requests->epoch = epoch;
    *out = requests;
    return ERR_OK;
}

void
mysql_requests_close(struct mysql_requests *requests)
{
    if (requests == NULL) {
        return;
    }
    mysql_session_close(&requests->session);
    buffer_free(&requests->sql);
    buffer_free(&requests->detail);
    free(requests);
}

static enum err
connect(struct mysql_requests *requests)
{
    struct mysql_session *session = &requests->session;

    if (session->mysql != NULL && mysql_ping(session->mysql) != 0) {
        mysql_session_close(session);
    }
    return session->mysql != NULL ? ERR_OK : mysql_session_open(session, &requests->config);
}

static enum err
unavailable(struct mysql_requests *requests, unsigned number, const char *step)
{
    const bool no_tables = mysql_classify(number) == MYSQL_CLASS_SCHEMA;

    if (!no_tables) {
        mysql_session_log_error(&requests->session, "mysql.requests_failed", step, true);
    }
    mysql_session_close(&requests->session);
    return no_tables ? ERR_NOT_FOUND : ERR_UNAVAILABLE;
}

static unsigned
run(struct mysql_requests *requests, MYSQL_RES **result_out)
{
    return mysql_session_run(&requests->session, buffer_span(&requests->sql), result_out);
}

/* ---- writing ---- */

static void
append_text(struct mysql_requests *requests, const char *text)
{
    mysql_append_string(&requests->sql, &requests->session, span_of(text));
}

static void
append_entries(struct mysql_requests *requests, const struct requests_fold *fold)
{
    struct buffer *sql = &requests->sql;

    buffer_clear(sql, SIZE_MAX);
    buffer_append_text(sql, "INSERT INTO api_requests (node_id,minute,endpoint,method,status_code,"
                            "requests,latency_ms_sum,latency_ms_max,updated_at) VALUES ");
    for (uint32_t i = 0; i < fold->len; i++) {
        const struct requests_entry *entry = &fold->entries[i];

        buffer_append_text(sql, i > 0 ? ",(" : "(");
        mysql_append_hex(sql, requests->node_id, JOURNAL_NODE_ID_SIZE);
        buffer_printf(sql, ",%lld,", (long long)fold->minute);
        append_text(requests, entry->endpoint);
        buffer_append_char(sql, ',');
        append_text(requests, entry->method);
        buffer_printf(sql, ",%u,%llu,%.17g,%.17g,UTC_TIMESTAMP(6))", entry->status,
                      (unsigned long long)entry->count, entry->latency_ms_sum,
                      entry->latency_ms_max);
    }
    /* A minute in which the process was started again is written by both. */
    buffer_append_text(sql, " ON DUPLICATE KEY UPDATE requests=requests+VALUES(requests),"
                            "latency_ms_sum=latency_ms_sum+VALUES(latency_ms_sum),"
                            "latency_ms_max=GREATEST(latency_ms_max,VALUES(latency_ms_max)),"
                            "updated_at=VALUES(updated_at)");
}

static void
append_slice(struct mysql_requests *requests, const struct requests_fold *fold)
{
    struct buffer *sql = &requests->sql;

    buffer_clear(&requests->detail, SIZE_MAX);
    slice_encode(&fold->slice, &requests->detail);
    buffer_clear(sql, SIZE_MAX);
    buffer_append_text(sql, "INSERT INTO api_slices (node_id,epoch,minute,detail) VALUES (");
    mysql_append_hex(sql, requests->node_id, JOURNAL_NODE_ID_SIZE);
    buffer_printf(sql, ",%llu,%lld,", (unsigned long long)requests->epoch, (long long)fold->minute);
    mysql_append_hex(sql, requests->detail.data, requests->detail.len);
    buffer_append_char(sql, ')');
    sql->failed = sql->failed || requests->detail.failed;
}

/* Runs what is in SQL; without memory nothing was run. */
static enum err
step(struct mysql_requests *requests, const char *name)
{
    unsigned number;

    if (requests->sql.failed) {
        mysql_session_close(&requests->session);
        return ERR_NO_MEMORY;
    }
    number = run(requests, NULL);
    return number == 0 ? ERR_OK : unavailable(requests, number, name);
}

enum err
mysql_requests_add(struct mysql_requests *requests, const struct requests_fold *fold)
{
    unsigned number;
    enum err err = connect(requests);

    if (err != ERR_OK || fold->len == 0) {
        return err;
    }
    number = mysql_session_run_text(&requests->session, "START TRANSACTION", NULL);
    if (number != 0) {
        return unavailable(requests, number, "begin");
    }
    append_entries(requests, fold);
    err = step(requests, "write requests");
    if (err == ERR_OK && !slice_is_empty(&fold->slice)) {
        append_slice(requests, fold);
        err = step(requests, "write slice");
    }
    if (err != ERR_OK) {
        return err;
    }
    number = mysql_session_run_text(&requests->session, "COMMIT", NULL);
    if (number != 0) {
        (void)unavailable(requests, number, "commit");
        return ERR_UNKNOWN;
    }
    return ERR_OK;
}

/* ---- loading ---- */

static uint64_t
source_number(struct span node, uint64_t epoch)
{
    uint64_t mixed = get_u64((const uint8_t *)node.data) ^ get_u64((const uint8_t *)node.data + 8) ^
                     (epoch + 1) * UINT64_C(0x9e3779b97f4a7c15);

    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    return mixed ^ (mixed >> 31);
}

enum err
mysql_requests_load(struct mysql_requests *requests, int64_t from_minute,
                    enum err (*fn)(void *arg, bool own, uint64_t source, int64_t minute,
                                   struct span encoded),
                    void *arg)
{
    const uint64_t after = requests->seen_id > OVERLAP ? requests->seen_id - OVERLAP : 0;
    const struct span self = {(const char *)requests->node_id, JOURNAL_NODE_ID_SIZE};
    uint64_t seen = requests->seen_id;
    MYSQL_RES *result;
    MYSQL_ROW row;
    unsigned number;
    enum err err = connect(requests);

    if (err != ERR_OK) {
        return err;
    }
    buffer_clear(&requests->sql, SIZE_MAX);
    buffer_printf(&requests->sql,
                  "SELECT id,node_id,epoch,minute,detail FROM api_slices "
                  "WHERE id > %llu AND minute >= %lld",
                  (unsigned long long)after, (long long)from_minute);
    number = requests->sql.failed ? 0 : run(requests, &result);
    if (requests->sql.failed) {
        return ERR_NO_MEMORY;
    }
    if (number != 0) {
        return unavailable(requests, number, "load");
    }
    while (err == ERR_OK && (row = mysql_fetch_row(result)) != NULL) {
        const struct span node = mysql_row_span(result, row, 1);
        const uint64_t epoch = mysql_row_u64(row, 2);
        const bool own = span_equal(node, self);

        seen = mysql_row_u64(row, 0) > seen ? mysql_row_u64(row, 0) : seen;
        if (node.len != JOURNAL_NODE_ID_SIZE ||
            (own && (requests->loaded || epoch >= requests->epoch))) {
            continue;
        }
        err = fn(arg, own, source_number(node, epoch),
                 row[3] == NULL ? 0 : strtoll(row[3], NULL, 10), mysql_row_span(result, row, 4));
    }
    mysql_free_result(result);
    if (err == ERR_OK) {
        requests->loaded = true;
        requests->seen_id = seen;
    }
    return err;
}
