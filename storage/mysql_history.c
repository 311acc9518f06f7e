#include "storage/mysql_history.h"

#include <inttypes.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "storage/mysql_connect.h"
#include "storage/mysql_errors.h"

struct source {
    uint8_t node_id[JOURNAL_NODE_ID_SIZE];
    uint32_t partition;
    uint64_t seen_seq;  /* given up to here */
    uint64_t found_seq; /* the offset of the snapshot being read */
};

struct mysql_history {
    struct mysql_config config;
    uint8_t own_node[JOURNAL_NODE_ID_SIZE];
    struct mysql_session session;
    struct source *sources;
    size_t source_count;
    size_t source_capacity;
    struct buffer sql;
};

enum err
mysql_history_open(struct mysql_history **out, const struct mysql_config *config,
                   const uint8_t own_node[JOURNAL_NODE_ID_SIZE])
{
    struct mysql_history *history = calloc(1, sizeof *history);

    if (history == NULL) {
        return ERR_NO_MEMORY;
    }
    history->config = *config;
    memcpy(history->own_node, own_node, JOURNAL_NODE_ID_SIZE);
    *out = history;
    return ERR_OK;
}

void
mysql_history_close(struct mysql_history *history)
{
    if (history == NULL) {
        return;
    }
    mysql_session_close(&history->session);
    buffer_free(&history->sql);
    free(history->sources);
    free(history);
}

/* One number for (node, partition). Node ids are random, so mixing the partition in is enough. */
static uint64_t
source_number(const struct source *source)
{
    uint64_t mixed = get_u64(source->node_id) ^ get_u64(source->node_id + 8);

    mixed += (uint64_t)source->partition * UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ (mixed >> 31);
}

static enum err
unavailable(struct mysql_history *history, const char *step)
{
    if (mysql_errno(history->session.mysql) == MYSQL_NUMBER_NO_TABLE) {
        mysql_session_close(&history->session);
        return ERR_NOT_FOUND; /* a fresh database: a replicator is about to make the tables */
    }
    mysql_session_log_error(&history->session, "mysql.history_failed", step, true);
    mysql_session_close(&history->session);
    return ERR_UNAVAILABLE;
}

/* The source with this identity, made if it is new. NULL when there is no memory. */
static struct source *
find_source(struct mysql_history *history, struct span node, uint32_t partition)
{
    struct source *source;

    for (size_t i = 0; i < history->source_count; i++) {
        source = &history->sources[i];
        if (source->partition == partition &&
            memcmp(source->node_id, node.data, JOURNAL_NODE_ID_SIZE) == 0) {
            return source;
        }
    }
    if (history->source_count == history->source_capacity) {
        const size_t capacity = history->source_capacity == 0 ? 16 : history->source_capacity * 2;
        struct source *grown = realloc(history->sources, capacity * sizeof *grown);

        if (grown == NULL) {
            return NULL;
        }
        history->sources = grown;
        history->source_capacity = capacity;
    }
    source = &history->sources[history->source_count++];
    *source = (struct source){.partition = partition};
    memcpy(source->node_id, node.data, JOURNAL_NODE_ID_SIZE);
    return source;
}

/* Reads every other node's offsets into the sources. */
static enum err
read_offsets(struct mysql_history *history)
{
    struct buffer *sql = &history->sql;
    MYSQL_RES *result;
    MYSQL_ROW row;
    enum err err = ERR_OK;

    buffer_clear(sql, SIZE_MAX);
    buffer_append_text(sql, "SELECT node_id, partition_id, last_seq FROM replication_offsets "
                            "WHERE node_id <> ");
    mysql_append_hex(sql, history->own_node, JOURNAL_NODE_ID_SIZE);
    if (sql->failed) {
        return ERR_NO_MEMORY;
    }
    if (mysql_session_run(&history->session, buffer_span(sql), &result) != 0) {
        return unavailable(history, "read offsets");
    }
    for (size_t i = 0; i < history->source_count; i++) {
        history->sources[i].found_seq =
            0; /* a source without an offset row has no slices to give */
    }
    while ((row = mysql_fetch_row(result)) != NULL) {
        const struct span node = mysql_row_span(result, row, 0);
        struct source *source;

        if (node.len != JOURNAL_NODE_ID_SIZE) {
            continue;
        }
        source = find_source(history, node, narrow_u32(mysql_row_u64(row, 1)));
        if (source == NULL) {
            err = ERR_NO_MEMORY;
            break;
        }
        source->found_seq = mysql_row_u64(row, 2);
    }
    mysql_free_result(result);
    return err;
}

/* Gives the slices of SOURCE written after what was seen. */
static enum err
give_source(struct mysql_history *history, const struct source *source, mysql_history_fn *fn,
            void *arg)
{
    const uint64_t after = source->found_seq < source->seen_seq ? 0 : source->seen_seq;
    struct buffer *sql = &history->sql;
    MYSQL_RES *result;
    MYSQL_ROW row;
    enum err err = ERR_OK;

    buffer_clear(sql, SIZE_MAX);
    buffer_append_text(sql, "SELECT tenant_id, service, minute, detail FROM slo_slices "
                            "WHERE node_id = ");
    mysql_append_hex(sql, source->node_id, JOURNAL_NODE_ID_SIZE);
    buffer_printf(sql, " AND partition_id = %" PRIu32 " AND last_seq > %" PRIu64, source->partition,
                  after);
    if (sql->failed) {
        return ERR_NO_MEMORY;
    }
    /* Months of another node's slices would be gigabytes to hold at once. */
    if (mysql_session_stream(&history->session, buffer_span(sql), &result) != 0) {
        return unavailable(history, "read slices");
    }
    while (err == ERR_OK && (row = mysql_fetch_row(result)) != NULL) {
        const struct slice_key key = {
            .tenant = mysql_row_span(result, row, 0),
            .service = mysql_row_span(result, row, 1),
            .minute = row[2] == NULL ? 0 : strtoll(row[2], NULL, 10),
        };

        err = fn(arg, source_number(source), &key, mysql_row_span(result, row, 3));
    }
    if (err == ERR_OK && mysql_errno(history->session.mysql) != 0) {
        mysql_free_result(result);
        return unavailable(history, "read slices");
    }
    mysql_free_result(result);
    return err;
}

static enum err
begin_snapshot(struct mysql_history *history)
{
    if (mysql_session_run_text(&history->session, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                               NULL) != 0 ||
        mysql_session_run_text(&history->session, "START TRANSACTION WITH CONSISTENT SNAPSHOT",
                               NULL) != 0) {
        return unavailable(history, "begin");
    }
    return ERR_OK;
}

/* A session that was idle may have been closed by the server: then one more try on a new one. */
static enum err
connect_and_begin(struct mysql_history *history)
{
    if (history->session.mysql != NULL) {
        if (mysql_ping(history->session.mysql) != 0) {
            mysql_session_close(&history->session);
        }
    }
    if (history->session.mysql == NULL) {
        const enum err err = mysql_session_open(&history->session, &history->config);

        if (err != ERR_OK) {
            return err;
        }
    }
    return begin_snapshot(history);
}

enum err
mysql_history_load(struct mysql_history *history, mysql_history_fn *fn, void *arg)
{
    enum err err = connect_and_begin(history);

    if (err != ERR_OK) {
        return err;
    }
    err = read_offsets(history);
    for (size_t i = 0; i < history->source_count && err == ERR_OK; i++) {
        const struct source *source = &history->sources[i];

        if (source->found_seq != source->seen_seq) {
            err = give_source(history, source, fn, arg);
        }
    }
    if (history->session.mysql != NULL &&
        mysql_session_run_text(&history->session, "ROLLBACK", NULL) != 0) {
        mysql_session_close(&history->session); /* what was read in the snapshot stays true */
    }
    if (err != ERR_OK) {
        return err;
    }
    for (size_t i = 0; i < history->source_count; i++) {
        history->sources[i].seen_seq = history->sources[i].found_seq;
    }
    return ERR_OK;
}
