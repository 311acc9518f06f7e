#include "storage/mysql_audit.h"

#include <inttypes.h>
#include <stdio.h>

#include "storage/mysql_connect.h"
#include "storage/mysql_errors.h"

/* A count of this many rows takes well below a second, so no step runs into the read timeout. */
enum {
    ROWS_PER_STEP = 1000000
};

struct audit_reader {
    struct mysql_session session;
    struct buffer node; /* "0x<node id>" and a NUL */
};

static unsigned
read_partitions(struct audit_reader *reader, struct mysql_audit *out)
{
    char sql[256];
    MYSQL_RES *result;
    MYSQL_ROW row;
    unsigned number;

    snprintf(sql, sizeof sql,
             "SELECT partition_id, epoch, last_seq, stored, dead, duplicates "
             "FROM replication_offsets WHERE node_id = %s ORDER BY partition_id",
             reader->node.data);
    number = mysql_session_run_text(&reader->session, sql, &result);
    if (number != 0) {
        return number;
    }
    while ((row = mysql_fetch_row(result)) != NULL &&
           out->partition_count < JOURNAL_PARTITIONS_MAX) {
        out->partition[out->partition_count++] = (struct mysql_audit_partition){
            .partition = (uint32_t)mysql_row_u64(row, 0),
            .epoch = mysql_row_u64(row, 1),
            .last_seq = mysql_row_u64(row, 2),
            .stored = mysql_row_u64(row, 3),
            .dead = mysql_row_u64(row, 4),
            .duplicates = mysql_row_u64(row, 5),
        };
    }
    mysql_free_result(result);
    return 0;
}

/* Counts the node's rows of TABLE with FIRST <= seq <= LAST. */
static unsigned
count_range(struct audit_reader *reader, const char *table, uint64_t first, uint64_t last,
            uint64_t *sum)
{
    char sql[256];
    uint64_t found = 0;
    unsigned number;

    snprintf(sql, sizeof sql,
             "SELECT COUNT(*) FROM %s WHERE node_id = %s AND seq BETWEEN %" PRIu64 " AND %" PRIu64,
             table, reader->node.data, first, last);
    number = mysql_session_number(&reader->session, sql, 0, &found);
    *sum += found;
    return number;
}

/* All of the node's rows, also those beyond every offset. */
static unsigned
count_table(struct audit_reader *reader, const char *table, const struct mysql_audit *audit,
            uint64_t *sum)
{
    uint64_t last_seq = 0;
    uint64_t first = 0;
    unsigned number = 0;

    for (uint32_t i = 0; i < audit->partition_count; i++) {
        if (audit->partition[i].last_seq > last_seq) {
            last_seq = audit->partition[i].last_seq;
        }
    }
    while (number == 0 && first + ROWS_PER_STEP <= last_seq) {
        number = count_range(reader, table, first, first + ROWS_PER_STEP - 1, sum);
        first += ROWS_PER_STEP;
    }
    return number != 0 ? number : count_range(reader, table, first, UINT64_MAX, sum);
}

static unsigned
read_snapshot(struct audit_reader *reader, struct mysql_audit *out)
{
    unsigned number = mysql_session_run_text(
        &reader->session, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", NULL);

    if (number == 0) {
        number = mysql_session_run_text(&reader->session,
                                        "START TRANSACTION WITH CONSISTENT SNAPSHOT", NULL);
    }
    if (number == 0) {
        number = read_partitions(reader, out);
    }
    if (number == 0) {
        number = count_table(reader, "events", out, &out->rows);
    }
    if (number == 0) {
        number = count_table(reader, "dead_letters", out, &out->dead_letters);
    }
    return number;
}

enum err
mysql_audit_read(const struct mysql_config *config, const uint8_t node_id[JOURNAL_NODE_ID_SIZE],
                 struct mysql_audit *out)
{
    struct audit_reader reader = {{0}, BUFFER_EMPTY};
    struct mysql_audit audit = {0};
    enum err err;

    mysql_append_hex(&reader.node, node_id, JOURNAL_NODE_ID_SIZE);
    buffer_append(&reader.node, "", 1);
    if (reader.node.failed) {
        buffer_free(&reader.node);
        return ERR_NO_MEMORY;
    }
    err = mysql_session_open(&reader.session, config);
    if (err == ERR_OK && read_snapshot(&reader, &audit) != 0) {
        mysql_session_log_error(&reader.session, "mysql.audit_failed", "read", true);
        err = ERR_UNAVAILABLE;
    }
    mysql_session_close(&reader.session);
    buffer_free(&reader.node);
    if (err == ERR_OK) {
        *out = audit;
    }
    return err;
}
