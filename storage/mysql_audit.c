#include "storage/mysql_audit.h"

#include "core/log.h"
#include "storage/mysql_connect.h"
#include "storage/mysql_errors.h"

enum { AUDIT_TIMEOUT_MS = 3600 * 1000 };

/* Runs the query made of HEAD, the node id and TAIL. */
static unsigned
ask(struct mysql_session *session, const char *head,
    const uint8_t node_id[JOURNAL_NODE_ID_SIZE], const char *tail, MYSQL_RES **result_out)
{
    struct buffer sql = BUFFER_EMPTY;
    unsigned number = MYSQL_NUMBER_UNKNOWN;

    buffer_append_text(&sql, head);
    mysql_append_hex(&sql, node_id, JOURNAL_NODE_ID_SIZE);
    buffer_append_text(&sql, tail);
    if (!sql.failed) {
        number = mysql_session_run(session, buffer_span(&sql), result_out);
    }
    buffer_free(&sql);
    return number;
}

static unsigned
count(struct mysql_session *session, const char *head,
      const uint8_t node_id[JOURNAL_NODE_ID_SIZE], uint64_t *count_out)
{
    MYSQL_RES *result;
    MYSQL_ROW row;
    const unsigned number = ask(session, head, node_id, "", &result);

    if (number != 0) {
        return number;
    }
    row = mysql_fetch_row(result);
    *count_out = row == NULL ? 0 : mysql_row_u64(row, 0);
    mysql_free_result(result);
    return 0;
}

static unsigned
read_partitions(struct mysql_session *session, const uint8_t node_id[JOURNAL_NODE_ID_SIZE],
                struct mysql_audit *out)
{
    MYSQL_RES *result;
    MYSQL_ROW row;
    const unsigned number = ask(session,
                                "SELECT partition_id, epoch, last_seq, stored, dead, duplicates "
                                "FROM replication_offsets WHERE node_id = ",
                                node_id, " ORDER BY partition_id", &result);

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

enum err
mysql_audit_read(const struct mysql_config *config, const uint8_t node_id[JOURNAL_NODE_ID_SIZE],
                 struct mysql_audit *out)
{
    struct mysql_config patient = *config;
    struct mysql_session session = {0};
    struct mysql_audit audit = {0};
    unsigned number;
    enum err err;

    patient.timeout_ms = AUDIT_TIMEOUT_MS;
    err = mysql_session_open(&session, &patient);
    if (err != ERR_OK) {
        return err;
    }
    number = mysql_session_run_text(
        &session, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", NULL);
    if (number == 0) {
        number =
            mysql_session_run_text(&session, "START TRANSACTION WITH CONSISTENT SNAPSHOT", NULL);
    }
    if (number == 0) {
        number = read_partitions(&session, node_id, &audit);
    }
    if (number == 0) {
        number = count(&session, "SELECT COUNT(*) FROM events WHERE node_id = ", node_id,
                       &audit.rows);
    }
    if (number == 0) {
        number = count(&session, "SELECT COUNT(*) FROM dead_letters WHERE node_id = ", node_id,
                       &audit.dead_letters);
    }
    if (number != 0) {
        mysql_session_log_error(&session, "mysql.audit_failed", "read", true);
        mysql_session_close(&session);
        return ERR_UNAVAILABLE;
    }
    mysql_session_close(&session);
    *out = audit;
    return ERR_OK;
}
