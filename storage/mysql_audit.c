#include "storage/mysql_audit.h"

#include <inttypes.h>
#include <stdio.h>

#include "storage/mysql_connect.h"
#include "storage/mysql_errors.h"

/* A count of this many rows takes well below a second, so no step runs into the read timeout. */
enum {
    ROWS_PER_STEP = 250000
};

/* The stripe of a seq, in numbers that neither 0 nor the largest one can bring out of range. */
#define SQL_STRIPE "((seq - (seq > 0)) DIV %d)"

/* The letter's event is a row by now. */
#define SQL_IS_ROW "(replayed_at IS NOT NULL AND duplicate = 0)"

struct audit_reader {
    struct mysql_session session;
    struct buffer node; /* "0x<node id>" and a NUL */
    uint32_t partitions;
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

/* Which table is counted, and where the sums go. */
struct count_target {
    const char *table;
    bool dead; /* dead letters, else rows */
    struct mysql_audit *audit;
};

/* Counts the node's rows with FIRST <= seq <= LAST, per partition. */
static unsigned
count_range(struct audit_reader *reader, const struct count_target *target, uint64_t first,
            uint64_t last)
{
    char sql[384];
    MYSQL_RES *result;
    MYSQL_ROW row;
    unsigned number;

    snprintf(sql, sizeof sql,
             "SELECT " SQL_STRIPE " %% %" PRIu32 " AS p, COUNT(*), MAX(seq), %s FROM %s "
             "WHERE node_id = %s AND seq BETWEEN %" PRIu64 " AND %" PRIu64 " GROUP BY p",
             JOURNAL_STRIPE, reader->partitions, target->dead ? "SUM(" SQL_IS_ROW ")" : "0",
             target->table, reader->node.data, first, last);
    number = mysql_session_run_text(&reader->session, sql, &result);
    if (number != 0) {
        return number;
    }
    while ((row = mysql_fetch_row(result)) != NULL) {
        const uint64_t partition = mysql_row_u64(row, 0);
        const uint64_t count = mysql_row_u64(row, 1);
        const uint64_t highest = mysql_row_u64(row, 2);
        struct mysql_audit_held *held;

        ASSERT(partition < JOURNAL_PARTITIONS_MAX);
        held = &target->audit->held[partition];
        *(target->dead ? &held->dead_letters : &held->rows) += count;
        *(target->dead ? &target->audit->dead_letters : &target->audit->rows) += count;
        held->replayed += mysql_row_u64(row, 3);
        held->last_seq = highest > held->last_seq ? highest : held->last_seq;
    }
    mysql_free_result(result);
    return 0;
}

/* All of the node's rows, also those beyond every offset. */
static unsigned
count_table(struct audit_reader *reader, const struct count_target *target)
{
    const struct mysql_audit *audit = target->audit;
    uint64_t last_seq = 0;
    uint64_t first = 0;
    unsigned number = 0;

    for (uint32_t i = 0; i < audit->partition_count; i++) {
        if (audit->partition[i].last_seq > last_seq) {
            last_seq = audit->partition[i].last_seq;
        }
    }
    while (number == 0 && last_seq >= ROWS_PER_STEP && first <= last_seq - ROWS_PER_STEP) {
        number = count_range(reader, target, first, first + ROWS_PER_STEP - 1);
        first += ROWS_PER_STEP;
    }
    return number != 0 ? number : count_range(reader, target, first, UINT64_MAX);
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
        number = count_table(reader, &(const struct count_target){"events", false, out});
    }
    if (number == 0) {
        number = count_table(reader, &(const struct count_target){"dead_letters", true, out});
    }
    return number;
}

/* Opens a session that leaves the database as it is; close with reader_close() in any case. */
static enum err
reader_open(struct audit_reader *reader, const struct mysql_config *config,
            const uint8_t node_id[JOURNAL_NODE_ID_SIZE], uint32_t partitions)
{
    struct mysql_config existing = *config;

    ASSERT(partitions >= 1);
    ASSERT(partitions <= JOURNAL_PARTITIONS_MAX);
    existing.must_exist = true;
    *reader = (struct audit_reader){.node = BUFFER_EMPTY, .partitions = partitions};
    mysql_append_hex(&reader->node, node_id, JOURNAL_NODE_ID_SIZE);
    buffer_append(&reader->node, "", 1);
    return reader->node.failed ? ERR_NO_MEMORY : mysql_session_open(&reader->session, &existing);
}

static void
reader_close(struct audit_reader *reader)
{
    mysql_session_close(&reader->session);
    buffer_free(&reader->node);
}

enum err
mysql_audit_read(const struct mysql_config *config, const uint8_t node_id[JOURNAL_NODE_ID_SIZE],
                 uint32_t partitions, struct mysql_audit *out)
{
    struct audit_reader reader;
    struct mysql_audit audit = {0};
    enum err err = reader_open(&reader, config, node_id, partitions);

    if (err == ERR_OK && read_snapshot(&reader, &audit) != 0) {
        mysql_session_log_error(&reader.session, "mysql.audit_failed", "read", true);
        err = ERR_UNAVAILABLE;
    }
    reader_close(&reader);
    if (err == ERR_OK) {
        *out = audit;
    }
    return err;
}

/* ---- what is absent ---- */

struct absent {
    uint64_t to_seq;
    uint32_t partition;
    uint32_t ranges_left;
    void (*fn)(void *arg, uint64_t first, uint64_t last);
    void *arg;
};

static void
give_absent(struct absent *absent, uint64_t first, uint64_t last)
{
    if (first <= last && absent->ranges_left > 0) {
        absent->ranges_left--;
        absent->fn(absent->arg, first, last);
    }
}

/* One stripe: its seqs come in order, what lies between them is absent. */
static unsigned
find_in_stripe(struct audit_reader *reader, struct absent *absent, uint64_t first, uint64_t last)
{
    uint64_t expected = first;
    char sql[384];
    MYSQL_RES *result;
    MYSQL_ROW row;
    unsigned number;

    snprintf(sql, sizeof sql,
             "SELECT seq FROM events WHERE node_id = %s AND seq BETWEEN %" PRIu64 " AND %" PRIu64
             " UNION ALL SELECT seq FROM dead_letters WHERE node_id = %s AND seq BETWEEN %" PRIu64
             " AND %" PRIu64 " AND NOT " SQL_IS_ROW " ORDER BY seq",
             reader->node.data, first, last, reader->node.data, first, last);
    number = mysql_session_run_text(&reader->session, sql, &result);
    if (number != 0) {
        return number;
    }
    while ((row = mysql_fetch_row(result)) != NULL) {
        const uint64_t seq = mysql_row_u64(row, 0);

        give_absent(absent, expected, seq - 1);
        expected = seq + 1;
    }
    mysql_free_result(result);
    give_absent(absent, expected, last);
    return 0;
}

static unsigned
find_absent(struct audit_reader *reader, struct absent *absent)
{
    const uint64_t step = (uint64_t)JOURNAL_STRIPE * reader->partitions;
    unsigned number = 0;

    for (uint64_t first = (uint64_t)JOURNAL_STRIPE * absent->partition + 1;
         number == 0 && absent->ranges_left > 0 && first <= absent->to_seq; first += step) {
        uint64_t last = first + JOURNAL_STRIPE - 1;

        last = last < absent->to_seq ? last : absent->to_seq;
        number = find_in_stripe(reader, absent, first, last);
    }
    return number;
}

enum err
mysql_audit_absent(const struct mysql_config *config, const uint8_t node_id[JOURNAL_NODE_ID_SIZE],
                   uint32_t partition, uint32_t partitions, uint64_t to_seq, uint32_t ranges_max,
                   void (*fn)(void *arg, uint64_t first, uint64_t last), void *arg)
{
    struct absent absent = {to_seq, partition, ranges_max, fn, arg};
    struct audit_reader reader;
    enum err err = reader_open(&reader, config, node_id, partitions);

    if (err == ERR_OK && find_absent(&reader, &absent) != 0) {
        mysql_session_log_error(&reader.session, "mysql.audit_failed", "look for gaps", true);
        err = ERR_UNAVAILABLE;
    }
    reader_close(&reader);
    return err;
}
