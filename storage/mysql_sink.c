/*
 * A batch as one transaction. The order inside it is also the order of locks: first the offset row,
 * which serialises everything of this (node, partition), then rows, dead letters and slices, each
 * in the order of their keys.
 *
 * Nothing is done twice on doubt. As long as COMMIT has not been sent, losing the connection means
 * that nothing was stored (SINK_RETRY); once it has been sent, only the offset row can tell
 * (SINK_UNKNOWN, and the connection is dropped so that position() asks on a new one).
 */
#include "storage/mysql_sink.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/log.h"
#include "core/base/uuid.h"
#include "storage/mysql_connect.h"
#include "storage/mysql_errors.h"
#include "storage/mysql_rows.h"
#include "storage/mysql_schema.h"

enum {
    STATEMENT_BYTES_MAX = 1 << 20, /* larger ones gain nothing and cost memory on both sides */
    STATEMENT_KEYS_MAX = 200,      /* keys in one IN (...): beyond it servers change their plan */
    DUPLICATE_ROUNDS_MAX = 8,      /* other nodes may store the same ids while we look */
    PACKET_SLACK = 1024,           /* kept free of the packet for protocol and statement head */
    LOAD_PIECE_BYTES = 64 << 10,   /* of LOAD DATA's text, made at a time */
    LOAD_ROWS_MAX = 9999,          /* Galera may commit a LOAD DATA by itself after 10000 */
    LOAD_PAUSE_BATCHES = 32,       /* sent by INSERT alone after a LOAD DATA was doubted */
};

struct mysql_sink {
    struct mysql_config config;
    struct mysql_owner owner;
    uint32_t partition;
    const struct slice_rules *rules;
    struct mysql_session session;
    bool schema_checked; /* since the last sign of a missing table */
    bool flush_warned;
    bool load_refused;   /* this session takes no LOAD DATA LOCAL ... */
    bool refusal_logged; /* ... as has been said */
    unsigned load_pause; /* batches until LOAD DATA is tried again */
    struct buffer sql;   /* the statement being written */
    struct buffer row;   /* one row, dead letter or slice of it */
    char where[128];     /* "node_id = 0x.. AND partition_id = .." */
    char identity[48];   /* "0x..,": the node id as the first value of a row */
};

/* ---- connection ---- */

static void
drop(struct mysql_sink *sink)
{
    mysql_session_close(&sink->session);
}

static void
warn_if_not_flushed(struct mysql_sink *sink)
{
    if (!sink->session.flush_each_commit && !sink->flush_warned) {
        sink->flush_warned = true;
        log_warn("mysql.commit_not_durable",
                 LOG_STR("detail", "innodb_flush_log_at_trx_commit is not 1: a power loss of the "
                                   "database can undo commits; the log sends them again as far "
                                   "as WAL_RETAIN_BYTES reaches"),
                 LOG_END);
    }
}

/* Opens a session if there is none, and the schema if it has not been looked at. */
static enum err
connect_sink(struct mysql_sink *sink)
{
    enum err err;

    if (sink->session.mysql == NULL) {
        err = mysql_session_open(&sink->session, &sink->config);
        if (err != ERR_OK) {
            return err;
        }
        warn_if_not_flushed(sink);
        sink->load_refused = false;
    }
    if (!sink->schema_checked) {
        err = mysql_schema_ensure(&sink->session);
        if (err != ERR_OK) {
            drop(sink);
            return err;
        }
        sink->schema_checked = true;
    }
    return ERR_OK;
}

/* Ends what is open. What cannot be rolled back by word is rolled back by closing. */
static void
rollback(struct mysql_sink *sink)
{
    if (sink->session.mysql != NULL &&
        mysql_session_run_text(&sink->session, "ROLLBACK", NULL) != 0) {
        drop(sink);
    }
}

static unsigned
run(struct mysql_sink *sink, MYSQL_RES **result_out)
{
    return mysql_session_run(&sink->session, buffer_span(&sink->sql), result_out);
}

/* What an error means when the statement carries no client's data: never the data's fault. */
static enum sink_result
fail(struct mysql_sink *sink, unsigned number, const char *step)
{
    const enum mysql_class class = mysql_classify(number);

    mysql_session_log_error(&sink->session, "mysql.retry", step, !mysql_text_quotes_data(number));
    switch (class) {
    case MYSQL_CLASS_RECONNECT:
    case MYSQL_CLASS_SPLIT: /* the server closes a connection after too large a packet */
        drop(sink);
        break;
    case MYSQL_CLASS_SCHEMA:
        sink->schema_checked = false;
        break;
    case MYSQL_CLASS_RETRY:
    case MYSQL_CLASS_WAIT:
    case MYSQL_CLASS_POISON:
    case MYSQL_CLASS_DUPLICATE:
        break;
    }
    return class == MYSQL_CLASS_SPLIT ? SINK_TOO_BIG : SINK_RETRY;
}

static enum sink_result
no_memory(const char *step)
{
    log_error("mysql.retry", LOG_STR("step", step), LOG_ERR(ERR_NO_MEMORY), LOG_END);
    return SINK_RETRY;
}

/*
 * Opens a transaction. An idle session may have been closed by the server, so the first statement
 * is tried on a new one once: nothing is under way yet, and what follows asks for the owner. Errors
 * as position().
 */
static enum err
begin(struct mysql_sink *sink)
{
    for (int attempt = 0;; attempt++) {
        unsigned number;
        enum err err = connect_sink(sink);

        if (err != ERR_OK) {
            return err;
        }
        number = mysql_session_run_text(&sink->session, "START TRANSACTION", NULL);
        if (number == 0) {
            return ERR_OK;
        }
        if (attempt > 0 || mysql_classify(number) != MYSQL_CLASS_RECONNECT) {
            (void)fail(sink, number, "start transaction");
            return ERR_UNAVAILABLE;
        }
        drop(sink);
    }
}

/* ---- position ---- */

struct offset_row {
    bool exists;
    uint64_t epoch;
    uint64_t last_seq;
    uint8_t instance[16];
};

static unsigned
read_offset(struct mysql_sink *sink, bool lock, struct offset_row *out)
{
    MYSQL_RES *result;
    MYSQL_ROW row;
    unsigned number;

    *out = (struct offset_row){0};
    buffer_clear(&sink->sql, STATEMENT_BYTES_MAX);
    buffer_printf(&sink->sql,
                  "SELECT epoch, last_seq, instance FROM replication_offsets WHERE %s%s",
                  sink->where, lock ? " FOR UPDATE" : "");
    number = run(sink, &result);
    if (number != 0) {
        return number;
    }
    row = mysql_fetch_row(result);
    if (row != NULL) {
        const struct span instance = mysql_row_span(result, row, 2);

        out->exists = true;
        out->epoch = mysql_row_u64(row, 0);
        out->last_seq = mysql_row_u64(row, 1);
        if (instance.len == sizeof out->instance) {
            memcpy(out->instance, instance.data, instance.len);
        }
    }
    mysql_free_result(result);
    return 0;
}

/* May we own the partition whose row says ROW? */
static enum err
judge_owner(const struct mysql_sink *sink, const struct offset_row *row)
{
    const struct mysql_owner *owner = &sink->owner;
    const bool ours = memcmp(row->instance, owner->instance, sizeof row->instance) == 0;
    const bool known = ours || owner->known_instance(owner->arg, row->instance);
    char instance[UUID_TEXT_SIZE];
    enum err err = ERR_OK;

    if (row->epoch > owner->epoch) {
        err = ERR_FENCED;
    } else if (!known) {
        err = ERR_IDENTITY;
    } else if (row->epoch == owner->epoch && !ours) {
        err = ERR_FENCED;
    }
    if (err != ERR_OK) {
        uuid_text(row->instance, instance);
        log_error("mysql.not_the_owner", LOG_ERR(err), LOG_U64("partition", sink->partition),
                  LOG_U64("epoch", owner->epoch), LOG_U64("found_epoch", row->epoch),
                  LOG_U64("found_seq", row->last_seq), LOG_STR("found_instance", instance),
                  LOG_BOOL("instance_known", known), LOG_STR("detail", err_text(err)), LOG_END);
    }
    return err;
}

/* Writes our epoch and instance into the locked row, or the first row. */
static unsigned
take_over(struct mysql_sink *sink, const struct offset_row *row)
{
    struct buffer *sql = &sink->sql;

    buffer_clear(sql, STATEMENT_BYTES_MAX);
    if (row->exists) {
        buffer_printf(sql, "UPDATE replication_offsets SET epoch = %" PRIu64 ", instance = ",
                      sink->owner.epoch);
        mysql_append_hex(sql, sink->owner.instance, sizeof sink->owner.instance);
        buffer_printf(sql, ", updated_at = UTC_TIMESTAMP(6) WHERE %s", sink->where);
    } else {
        buffer_printf(sql,
                      "INSERT INTO replication_offsets "
                      "(node_id, partition_id, epoch, last_seq, instance, updated_at) VALUES "
                      "(%s%" PRIu32 ",%" PRIu64 ",0,",
                      sink->identity, sink->partition, sink->owner.epoch);
        mysql_append_hex(sql, sink->owner.instance, sizeof sink->owner.instance);
        buffer_append_text(sql, ",UTC_TIMESTAMP(6))");
    }
    return sql->failed ? MYSQL_NUMBER_UNKNOWN : run(sink, NULL);
}

static bool
is_ours(const struct mysql_sink *sink, const struct offset_row *row)
{
    return row->exists && row->epoch == sink->owner.epoch &&
           memcmp(row->instance, sink->owner.instance, sizeof row->instance) == 0;
}

/* The transaction of position(), between its begin and COMMIT. Asked again it writes nothing. */
static enum err
lock_and_take_over(struct mysql_sink *sink, uint64_t *seq_out, bool *taken_out)
{
    struct offset_row row;
    unsigned number;
    enum err err;

    number = read_offset(sink, true, &row);
    if (number != 0) {
        (void)fail(sink, number, "lock offset");
        return ERR_UNAVAILABLE;
    }
    if (row.exists) {
        err = judge_owner(sink, &row);
        if (err != ERR_OK) {
            return err;
        }
    }
    *taken_out = !is_ours(sink, &row);
    if (*taken_out) {
        number = take_over(sink, &row);
        if (number != 0) {
            (void)fail(sink, number, "take over");
            return ERR_UNAVAILABLE;
        }
    }
    *seq_out = row.last_seq;
    return ERR_OK;
}

static enum err
mysql_sink_position(void *self, uint64_t *seq_out)
{
    struct mysql_sink *sink = self;
    uint64_t seq = 0;
    bool taken = false;
    unsigned number;
    enum err err = begin(sink);

    if (err != ERR_OK) {
        return err;
    }
    err = lock_and_take_over(sink, &seq, &taken);
    if (err != ERR_OK) {
        rollback(sink);
        return err;
    }
    number = mysql_session_run_text(&sink->session, "COMMIT", NULL);
    if (number != 0) {
        /* Taken or not, asking again does no harm. */
        (void)fail(sink, number, "commit takeover");
        drop(sink);
        return ERR_UNAVAILABLE;
    }
    if (taken) {
        log_info("mysql.position", LOG_U64("partition", sink->partition), LOG_U64("seq", seq),
                 LOG_U64("epoch", sink->owner.epoch), LOG_END);
    }
    *seq_out = seq;
    return ERR_OK;
}

/* ---- apply: the offset ---- */

static enum sink_result
fenced(struct mysql_sink *sink, const struct batch *batch)
{
    struct offset_row row;
    const unsigned number = read_offset(sink, false, &row);

    if (number != 0) {
        return fail(sink, number, "read offset");
    }
    log_warn("mysql.offset_moved", LOG_U64("partition", sink->partition),
             LOG_U64("expected_seq", batch->after_seq), LOG_U64("found_seq", row.last_seq),
             LOG_U64("epoch", sink->owner.epoch), LOG_U64("found_epoch", row.epoch), LOG_END);
    return SINK_FENCED;
}

/* Moves the offset if and only if it is where the batch starts; counts all events as stored. */
static enum sink_result
move_offset(struct mysql_sink *sink, const struct batch *batch)
{
    struct buffer *sql = &sink->sql;
    unsigned number;

    buffer_clear(sql, STATEMENT_BYTES_MAX);
    buffer_printf(sql,
                  "UPDATE replication_offsets SET last_seq = %" PRIu64 ", stored = stored + %zu, "
                  "updated_at = UTC_TIMESTAMP(6) WHERE %s AND epoch = %" PRIu64
                  " AND last_seq = %" PRIu64 " AND instance = ",
                  batch->to_seq, batch->count, sink->where, sink->owner.epoch, batch->after_seq);
    mysql_append_hex(sql, sink->owner.instance, sizeof sink->owner.instance);
    if (sql->failed) {
        return no_memory("move offset");
    }
    number = run(sink, NULL);
    if (number != 0) {
        return fail(sink, number, "move offset");
    }
    if (mysql_affected_rows(sink->session.mysql) != 1) {
        return fenced(sink, batch);
    }
    return SINK_APPLIED;
}

/* move_offset() took all for stored; the few that were not are moved to their own counters. */
static enum sink_result
correct_counters(struct mysql_sink *sink, const struct batch *batch)
{
    size_t dead = 0;
    size_t duplicates = 0;
    unsigned number;

    for (size_t i = 0; i < batch->count; i++) {
        dead += batch->events[i].outcome == OUTCOME_DEAD;
        duplicates += batch->events[i].outcome == OUTCOME_DUPLICATE;
    }
    if (dead + duplicates == 0) {
        return SINK_APPLIED;
    }
    buffer_clear(&sink->sql, STATEMENT_BYTES_MAX);
    buffer_printf(&sink->sql,
                  "UPDATE replication_offsets SET stored = stored - %zu, dead = dead + %zu, "
                  "duplicates = duplicates + %zu WHERE %s",
                  dead + duplicates, dead, duplicates, sink->where);
    if (sink->sql.failed) {
        return no_memory("correct counters");
    }
    number = run(sink, NULL);
    return number == 0 ? SINK_APPLIED : fail(sink, number, "correct counters");
}

/* ---- apply: rows ---- */

static size_t
statement_limit(const struct mysql_sink *sink)
{
    const uint64_t packet = sink->session.packet_max;
    const uint64_t room = packet > UINT64_C(2) * PACKET_SLACK ? packet - PACKET_SLACK : packet / 2;

    return room < STATEMENT_BYTES_MAX ? (size_t)room : STATEMENT_BYTES_MAX;
}

/* A statement for one event that the server's packet cannot hold. */
static enum sink_result
too_long(struct mysql_sink *sink, const struct batch *batch, size_t bytes)
{
    if (batch->count > 1) {
        return SINK_TOO_BIG;
    }
    log_error("mysql.packet_too_small", LOG_U64("seq", batch->events[0].seq),
              LOG_U64("needed_bytes", bytes),
              LOG_U64("max_allowed_packet", sink->session.packet_max),
              LOG_STR("detail", "raise max_allowed_packet on the database server"), LOG_END);
    drop(sink); /* a raised limit is seen by new sessions only */
    return SINK_RETRY;
}

static enum sink_result
rejected(struct mysql_sink *sink, unsigned number, struct sink_reject *reject)
{
    mysql_session_log_error(&sink->session, "mysql.rejected", "insert events", false);
    reject->code = (int)number;
    mysql_session_reason(&sink->session, reject->reason, sizeof reject->reason);
    return SINK_REJECTED;
}

/*
 * Writes the INSERT for the rows from FIRST on that are to be stored, as many as fit. Gives the
 * index after the last event looked at and how many rows the statement has. Needs room for one row
 * at least.
 */
static enum sink_result
write_insert(struct mysql_sink *sink, const struct batch *batch, size_t first, size_t *end_out,
             size_t *rows_out)
{
    const size_t limit = statement_limit(sink);
    struct buffer *sql = &sink->sql;
    size_t rows = 0;
    size_t i;

    buffer_clear(sql, STATEMENT_BYTES_MAX);
    buffer_append_text(sql, MYSQL_ROWS_INSERT);
    for (i = first; i < batch->count; i++) {
        const struct batch_event *item = &batch->events[i];
        const size_t before = sql->len;

        if (item->outcome != OUTCOME_STORED) {
            continue;
        }
        if (rows > 0) {
            buffer_append_char(sql, ',');
        }
        mysql_rows_append_event(sql, &sink->session, span_of(sink->identity), item);
        if (sql->failed) {
            return no_memory("insert events");
        }
        if (sql->len > limit) {
            if (rows > 0) {
                sql->len = before;
                break;
            }
            if (sql->len + PACKET_SLACK / 2 > sink->session.packet_max) {
                return too_long(sink, batch, sql->len);
            }
            rows++;
            i++;
            break;
        }
        rows++;
    }
    *end_out = i;
    *rows_out = rows;
    return SINK_APPLIED;
}

/*
 * Marks the part's events that have this key. OWN_SEQ is the sequence number of the row that holds
 * it if that is a row of this node, else 0: an event is no repeat of a row with its own number.
 */
static size_t
mark_duplicates_of(struct batch *batch, size_t first, size_t end, struct span key, uint64_t own_seq)
{
    size_t marked = 0;

    for (size_t i = first; i < end; i++) {
        struct batch_event *item = &batch->events[i];

        if (item->outcome == OUTCOME_STORED && item->seq != own_seq && key.len == EVENT_KEY_SIZE &&
            memcmp(item->event.key, key.data, EVENT_KEY_SIZE) == 0) {
            item->outcome = OUTCOME_DUPLICATE;
            marked++;
        }
    }
    return marked;
}

/* Asks which of the part's ids are rows already and marks their events. */
static enum sink_result
mark_stored_before(struct mysql_sink *sink, struct batch *batch, size_t first, size_t end,
                   size_t *marked)
{
    struct buffer *sql = &sink->sql;
    size_t next = first;

    while (next < end) {
        MYSQL_RES *result;
        MYSQL_ROW row;
        size_t keys = 0;
        const size_t part = next;
        unsigned number;

        buffer_clear(sql, STATEMENT_BYTES_MAX);
        buffer_append_text(sql,
                           "SELECT dedupe_key, node_id, seq FROM events WHERE dedupe_key IN (");
        for (; next < end && keys < STATEMENT_KEYS_MAX; next++) {
            const struct batch_event *item = &batch->events[next];

            if (item->outcome == OUTCOME_STORED && mysql_rows_has_key(&item->event)) {
                buffer_append_text(sql, keys > 0 ? "," : "");
                mysql_append_hex(sql, item->event.key, EVENT_KEY_SIZE);
                keys++;
            }
        }
        buffer_append_char(sql, ')');
        if (sql->failed) {
            return no_memory("find duplicates");
        }
        if (keys == 0) {
            continue;
        }
        number = run(sink, &result);
        if (number != 0) {
            return fail(sink, number, "find duplicates");
        }
        while ((row = mysql_fetch_row(result)) != NULL) {
            const struct span node = mysql_row_span(result, row, 1);
            const struct span ours = {(const char *)sink->owner.node_id, JOURNAL_NODE_ID_SIZE};

            *marked += mark_duplicates_of(batch, part, next, mysql_row_span(result, row, 0),
                                          span_equal(node, ours) ? mysql_row_u64(row, 2) : 0);
        }
        mysql_free_result(result);
    }
    return SINK_APPLIED;
}

/* Marks events of the part that repeat an earlier event of it: the first one wins. */
static size_t
mark_repeats_inside(struct batch *batch, size_t first, size_t end)
{
    size_t marked = 0;

    for (size_t i = first; i < end; i++) {
        const struct batch_event *item = &batch->events[i];

        if (item->outcome == OUTCOME_STORED && mysql_rows_has_key(&item->event)) {
            const struct span key = {(const char *)item->event.key, EVENT_KEY_SIZE};

            marked += mark_duplicates_of(batch, i + 1, end, key, 0);
        }
    }
    return marked;
}

/*
 * A unique key refused the part. Either ids are repeats (marked, the rest can be sent again), or
 * one of our sequence numbers is taken: then this log and the one that wrote the row have the same
 * identity.
 */
static enum sink_result
resolve_duplicates(struct mysql_sink *sink, struct batch *batch, size_t first, size_t end)
{
    size_t marked = 0;
    uint64_t taken = 0;
    unsigned number;
    enum sink_result result = mark_stored_before(sink, batch, first, end, &marked);

    if (result != SINK_APPLIED) {
        return result;
    }
    marked += mark_repeats_inside(batch, first, end);
    if (marked > 0) {
        return SINK_APPLIED;
    }
    buffer_clear(&sink->sql, STATEMENT_BYTES_MAX);
    buffer_append_text(&sink->sql, "SELECT COUNT(*) FROM events WHERE ");
    mysql_rows_append_range(&sink->sql, span_of(sink->identity), batch, first, end);
    buffer_append(&sink->sql, "", 1);
    if (sink->sql.failed) {
        return no_memory("find sequence numbers");
    }
    number = mysql_session_number(&sink->session, sink->sql.data, 0, &taken);
    if (number != 0) {
        return fail(sink, number, "find sequence numbers");
    }
    if (taken == 0) {
        return SINK_RETRY; /* the other row is gone again */
    }
    log_error("mysql.sequence_reused", LOG_U64("partition", sink->partition),
              LOG_U64("first_seq", batch->events[first].seq),
              LOG_U64("last_seq", batch->events[end - 1].seq), LOG_U64("rows", taken),
              LOG_STR("detail", "events holds rows with sequence numbers after this log's offset: "
                                "another log wrote as this node, or the offset table was "
                                "emptied by hand"),
              LOG_END);
    return SINK_FENCED;
}

/* Stores the rows from *NEXT on that fit into one statement, and moves *NEXT behind them. */
static enum sink_result
insert_part(struct mysql_sink *sink, struct batch *batch, size_t *next, struct sink_reject *reject)
{
    for (int round = 0; round < DUPLICATE_ROUNDS_MAX; round++) {
        size_t end = *next;
        size_t rows = 0;
        unsigned number;
        enum sink_result result = write_insert(sink, batch, *next, &end, &rows);

        if (result != SINK_APPLIED) {
            return result;
        }
        number = rows == 0 ? 0 : run(sink, NULL);
        if (number == 0) {
            *next = end;
            return SINK_APPLIED;
        }
        switch (mysql_classify(number)) {
        case MYSQL_CLASS_POISON:
            return rejected(sink, number, reject);
        case MYSQL_CLASS_DUPLICATE:
            result = resolve_duplicates(sink, batch, *next, end);
            break;
        case MYSQL_CLASS_SPLIT:
        case MYSQL_CLASS_RETRY:
        case MYSQL_CLASS_RECONNECT:
        case MYSQL_CLASS_WAIT:
        case MYSQL_CLASS_SCHEMA:
            return fail(sink, number, "insert events");
        }
        if (result != SINK_APPLIED) {
            return result;
        }
    }
    return SINK_RETRY;
}

static enum sink_result
insert_rows(struct mysql_sink *sink, struct batch *batch, struct sink_reject *reject)
{
    enum sink_result result = SINK_APPLIED;
    size_t next = 0;

    while (result == SINK_APPLIED && next < batch->count) {
        result = insert_part(sink, batch, &next, reject);
    }
    return result;
}

/* ---- apply: rows by LOAD DATA ---- */

/* The rows of a batch on their way into a LOAD DATA. */
struct load {
    const struct batch *batch;
    size_t next;
    size_t rows; /* written so far */
};

static void
fill_load(void *arg, struct buffer *text)
{
    struct load *load = arg;

    for (; load->next < load->batch->count && text->len < LOAD_PIECE_BYTES; load->next++) {
        if (load->batch->events[load->next].outcome == OUTCOME_STORED) {
            mysql_rows_append_line(text, &load->batch->events[load->next]);
            load->rows++;
        }
    }
}

static bool
may_load(struct mysql_sink *sink, const struct batch *batch)
{
    if (sink->load_pause > 0) {
        sink->load_pause--;
        return false;
    }
    return sink->config.load_rows_min > 0 && batch->count >= sink->config.load_rows_min &&
           batch->count <= LOAD_ROWS_MAX && !sink->load_refused;
}

static void
note_refused_load(struct mysql_sink *sink, unsigned number)
{
    sink->load_refused = true;
    if (!sink->refusal_logged) {
        sink->refusal_logged = true;
        log_info("mysql.load_refused", LOG_U64("partition", sink->partition),
                 LOG_U64("number", number),
                 LOG_STR("detail", "the server takes no LOAD DATA LOCAL (local_infile); rows go by "
                                   "INSERT, at about half the speed"),
                 LOG_END);
    }
}

/*
 * Stores all rows of BATCH by one LOAD DATA, or sets *DOUBTED_OUT: it says too little about what it
 * did not like, so the transaction is to be undone and INSERT decides.
 */
static enum sink_result
load_rows(struct mysql_sink *sink, const struct batch *batch, bool *doubted_out)
{
    struct load load = {.batch = batch};
    struct mysql_feed feed = {.fill = fill_load, .arg = &load, .text = sink->row};
    enum mysql_class class;
    unsigned number;

    buffer_clear(&sink->sql, STATEMENT_BYTES_MAX);
    buffer_append_text(&sink->sql, MYSQL_ROWS_LOAD);
    buffer_append(&sink->sql, sink->identity, strlen(sink->identity) - 1); /* without its comma */
    if (sink->sql.failed) {
        return no_memory("load events");
    }
    buffer_clear(&feed.text, STATEMENT_BYTES_MAX);
    number = mysql_session_load(&sink->session, buffer_span(&sink->sql), &feed);
    sink->row = feed.text;
    if (number == 0 && load.next == batch->count &&
        mysql_session_loaded_all(&sink->session, load.rows)) {
        return SINK_APPLIED;
    }
    class = mysql_classify(number);
    if (number != 0 && (class == MYSQL_CLASS_RECONNECT || class == MYSQL_CLASS_RETRY)) {
        return fail(sink, number, "load events");
    }
    if (mysql_load_is_refused(number)) {
        note_refused_load(sink, number);
    }
    sink->load_pause = LOAD_PAUSE_BATCHES;
    *doubted_out = true;
    return SINK_RETRY;
}

/* ---- apply: dead letters ---- */

static enum sink_result
insert_dead_letter(struct mysql_sink *sink, struct batch *batch, struct batch_event *item)
{
    struct buffer *sql = &sink->sql;
    unsigned number;

    buffer_clear(sql, STATEMENT_BYTES_MAX);
    mysql_rows_append_dead_letter(sql, &sink->row, &sink->session, sink->owner.node_id,
                                  span_of(sink->identity), item);
    if (sql->failed || sink->row.failed) {
        return no_memory("insert dead letter");
    }
    if (sql->len + PACKET_SLACK / 2 > sink->session.packet_max) {
        return too_long(sink, batch, sql->len);
    }
    number = run(sink, NULL);
    return number == 0 ? SINK_APPLIED : fail(sink, number, "insert dead letter");
}

static enum sink_result
insert_dead_letters(struct mysql_sink *sink, struct batch *batch)
{
    enum sink_result result = SINK_APPLIED;

    for (size_t i = 0; i < batch->count && result == SINK_APPLIED; i++) {
        struct batch_event *item = &batch->events[i];
        size_t marked = 0;

        if (item->outcome != OUTCOME_DEAD) {
            continue;
        }
        /* Refused or not, an id that is a row already must not also become a dead letter. */
        item->outcome = OUTCOME_STORED;
        result = mark_stored_before(sink, batch, i, i + 1, &marked);
        if (marked == 0) {
            item->outcome = OUTCOME_DEAD;
        }
        if (result == SINK_APPLIED && marked == 0) {
            result = insert_dead_letter(sink, batch, item);
        }
    }
    return result;
}

/* ---- apply: slices ---- */

/* Adds what is stored for the keys of ENTRIES to SUMS, by position. */
static enum sink_result
add_stored_slices(struct mysql_sink *sink, const struct slice_set_entry *entries, size_t count,
                  struct slice *sums)
{
    MYSQL_RES *result;
    MYSQL_ROW row;
    enum err err = ERR_OK;
    unsigned number;

    buffer_clear(&sink->sql, STATEMENT_BYTES_MAX);
    buffer_printf(&sink->sql,
                  "SELECT tenant_id, service, minute, detail FROM slo_slices WHERE %s AND "
                  "(tenant_id, service, minute) IN (",
                  sink->where);
    for (size_t i = 0; i < count; i++) {
        buffer_append_text(&sink->sql, i > 0 ? ",(" : "(");
        mysql_rows_append_slice_key(&sink->sql, &entries[i].key);
        buffer_append_char(&sink->sql, ')');
    }
    buffer_append_char(&sink->sql, ')');
    if (sink->sql.failed) {
        return no_memory("read slices");
    }
    number = run(sink, &result);
    if (number != 0) {
        return fail(sink, number, "read slices");
    }
    while (err == ERR_OK && (row = mysql_fetch_row(result)) != NULL) {
        const struct slice_key key = {
            .tenant = mysql_row_span(result, row, 0),
            .service = mysql_row_span(result, row, 1),
            .minute = row[2] == NULL ? 0 : strtoll(row[2], NULL, 10),
        };

        for (size_t i = 0; i < count; i++) {
            const struct slice_key *ours = &entries[i].key;

            if (ours->minute == key.minute && span_equal(ours->service, key.service) &&
                span_equal(ours->tenant, key.tenant)) {
                err = slice_decode_add(mysql_row_span(result, row, 3), &sums[i]);
                break;
            }
        }
    }
    mysql_free_result(result);
    if (err != ERR_OK) {
        log_error("mysql.slice_unreadable", LOG_U64("partition", sink->partition), LOG_ERR(err),
                  LOG_END);
        return SINK_RETRY;
    }
    return SINK_APPLIED;
}

/* Writes the sums as absolute values, as many statements as the packet asks for. */
static enum sink_result
write_slices(struct mysql_sink *sink, const struct batch *batch,
             const struct slice_set_entry *entries, size_t count, const struct slice *sums)
{
    const size_t limit = statement_limit(sink);
    struct buffer *sql = &sink->sql;
    size_t rows = 0;

    buffer_clear(sql, STATEMENT_BYTES_MAX);
    for (size_t i = 0; i < count; i++) {
        if (rows == 0) {
            buffer_append_text(sql, MYSQL_ROWS_SLICE_INSERT);
        }
        buffer_append_text(sql, rows > 0 ? ",(" : "(");
        mysql_rows_append_slice(sql, &sink->row, span_of(sink->identity), sink->partition,
                                &entries[i].key, &sums[i], batch->to_seq);
        buffer_append_char(sql, ')');
        rows++;
        /* The detail of one slice is a few hundred bytes, far below the slack of any packet. */
        if (i + 1 == count || sql->len > limit / 2) {
            unsigned number;

            buffer_append_text(sql, MYSQL_ROWS_SLICE_UPDATE);
            if (sql->failed || sink->row.failed) {
                return no_memory("write slices");
            }
            number = run(sink, NULL);
            if (number != 0) {
                return fail(sink, number, "write slices");
            }
            buffer_clear(sql, STATEMENT_BYTES_MAX);
            rows = 0;
        }
    }
    return SINK_APPLIED;
}

static enum sink_result
fold_part(struct mysql_sink *sink, const struct batch *batch, const struct slice_set_entry *entries,
          size_t count)
{
    struct slice sums[STATEMENT_KEYS_MAX] = {0};
    enum sink_result result;

    ASSERT(count <= STATEMENT_KEYS_MAX);
    result = add_stored_slices(sink, entries, count, sums);
    for (size_t i = 0; i < count && result == SINK_APPLIED; i++) {
        if (slice_add(&sums[i], &entries[i].slice) != ERR_OK) {
            result = no_memory("add slices");
        }
    }
    if (result == SINK_APPLIED) {
        result = write_slices(sink, batch, entries, count, sums);
    }
    for (size_t i = 0; i < count; i++) {
        slice_clear(&sums[i]);
    }
    return result;
}

static enum sink_result
fold_slices(struct mysql_sink *sink, struct batch *batch)
{
    enum sink_result result = SINK_APPLIED;

    if (batch_fold(batch, sink->rules) != ERR_OK) {
        return no_memory("fold");
    }
    for (size_t i = 0; i < batch->delta.len && result == SINK_APPLIED; i += STATEMENT_KEYS_MAX) {
        const size_t left = batch->delta.len - i;

        result = fold_part(sink, batch, batch->delta.entries + i,
                           left < STATEMENT_KEYS_MAX ? left : STATEMENT_KEYS_MAX);
    }
    return result;
}

/* ---- apply ---- */

/* Everything of a batch but COMMIT. DOUBTED_OUT: NULL forbids LOAD DATA. */
static enum sink_result
store(struct mysql_sink *sink, struct batch *batch, struct sink_reject *reject, bool *doubted_out)
{
    enum sink_result result = move_offset(sink, batch);

    if (result == SINK_APPLIED) {
        result = doubted_out != NULL ? load_rows(sink, batch, doubted_out)
                                     : insert_rows(sink, batch, reject);
    }
    if (result == SINK_APPLIED) {
        result = insert_dead_letters(sink, batch);
    }
    if (result == SINK_APPLIED) {
        result = correct_counters(sink, batch);
    }
    if (result == SINK_APPLIED) {
        result = fold_slices(sink, batch);
    }
    return result;
}

/* The same in a transaction, which is left open only when all went well. */
static enum sink_result
begin_and_store(struct mysql_sink *sink, struct batch *batch, struct sink_reject *reject,
                bool *doubted_out)
{
    enum sink_result result;

    if (begin(sink) != ERR_OK) {
        return SINK_RETRY; /* position() tells what is final */
    }
    result = store(sink, batch, reject, doubted_out);
    if (result != SINK_APPLIED) {
        rollback(sink);
    }
    return result;
}

static enum sink_result
mysql_sink_apply(void *self, struct batch *batch, struct sink_reject *reject)
{
    struct mysql_sink *sink = self;
    enum sink_result result = SINK_RETRY;
    bool doubted = false;
    unsigned number;

    ASSERT(batch->count > 0);
    ASSERT(batch->partition == sink->partition);
    ASSERT(batch->to_seq > batch->after_seq);
    for (size_t i = 0; i < batch->count; i++) {
        mysql_rows_settle_key(&batch->events[i].event);
        /* What an earlier try of this batch found out is looked up again. */
        if (batch->events[i].outcome == OUTCOME_DUPLICATE) {
            batch->events[i].outcome = OUTCOME_STORED;
        }
    }
    if (may_load(sink, batch)) {
        result = begin_and_store(sink, batch, reject, &doubted);
    } else {
        doubted = true;
    }
    if (doubted) {
        result = begin_and_store(sink, batch, reject, NULL);
    }
    if (result != SINK_APPLIED) {
        /* A single event cannot be split: wait for a larger limit. */
        return result == SINK_TOO_BIG && batch->count == 1 ? SINK_RETRY : result;
    }
    number = mysql_session_run_text(&sink->session, "COMMIT", NULL);
    if (number != 0) {
        mysql_session_log_error(&sink->session, "mysql.commit_unknown", "commit", true);
        drop(sink);
        return SINK_UNKNOWN;
    }
    return SINK_APPLIED;
}

/* ---- recover ---- */

/* Gives OUTCOME to the events of BATCH whose seq the query returns; both are in order. */
static unsigned
mark_found(struct mysql_sink *sink, const char *table, struct batch *batch, enum outcome outcome)
{
    struct buffer *sql = &sink->sql;
    MYSQL_RES *result;
    MYSQL_ROW row;
    size_t i = 0;
    unsigned number;

    buffer_clear(sql, STATEMENT_BYTES_MAX);
    buffer_printf(sql, "SELECT seq FROM %s WHERE ", table);
    mysql_rows_append_range(sql, span_of(sink->identity), batch, 0, batch->count);
    buffer_append_text(sql, " ORDER BY seq");
    if (sql->failed) {
        return MYSQL_NUMBER_UNKNOWN;
    }
    number = run(sink, &result);
    if (number != 0) {
        return number;
    }
    while ((row = mysql_fetch_row(result)) != NULL) {
        const uint64_t seq = mysql_row_u64(row, 0);

        while (i < batch->count && batch->events[i].seq < seq) {
            i++;
        }
        if (i < batch->count && batch->events[i].seq == seq) {
            batch->events[i].outcome = outcome;
        }
    }
    mysql_free_result(result);
    return 0;
}

static enum err
mysql_sink_recover(void *self, struct batch *batch)
{
    struct mysql_sink *sink = self;
    struct offset_row row;
    unsigned number;

    if (connect_sink(sink) != ERR_OK) {
        return ERR_UNAVAILABLE;
    }
    /* A record that is neither row nor dead letter was a repeat: nothing else moves the offset. */
    for (size_t i = 0; i < batch->count; i++) {
        batch->events[i].outcome = OUTCOME_DUPLICATE;
    }
    number = mark_found(sink, "dead_letters", batch, OUTCOME_DEAD);
    if (number == 0) {
        number = mark_found(sink, "events", batch, OUTCOME_STORED);
    }
    if (number == 0) {
        number = read_offset(sink, false, &row);
    }
    if (number != 0) {
        (void)fail(sink, number, "recover");
        return ERR_UNAVAILABLE;
    }
    /* A database put back meanwhile lacks rows that were never repeats. It can only have happened
     * before this connection, so the offset speaks for what was read above. */
    return row.last_seq >= batch->to_seq ? ERR_OK : ERR_UNAVAILABLE;
}

/* ---- life ---- */

static void
mysql_sink_close(void *self)
{
    struct mysql_sink *sink = self;

    drop(sink);
    buffer_free(&sink->sql);
    buffer_free(&sink->row);
    free(sink);
}

static const struct sink_ops MYSQL_SINK_OPS = {
    .position = mysql_sink_position,
    .apply = mysql_sink_apply,
    .recover = mysql_sink_recover,
    .close = mysql_sink_close,
};

enum err
mysql_sink_new(struct sink *out, const struct mysql_config *config, const struct mysql_owner *owner,
               uint32_t partition, const struct slice_rules *rules)
{
    struct mysql_sink *sink = calloc(1, sizeof *sink);
    struct buffer hex = BUFFER_EMPTY;

    if (sink == NULL) {
        return ERR_NO_MEMORY;
    }
    mysql_append_hex(&hex, owner->node_id, sizeof owner->node_id);
    buffer_append(&hex, "", 1);
    if (hex.failed) {
        buffer_free(&hex);
        free(sink);
        return ERR_NO_MEMORY;
    }
    sink->config = *config;
    sink->owner = *owner;
    sink->partition = partition;
    sink->rules = rules;
    snprintf(sink->where, sizeof sink->where, "node_id = %s AND partition_id = %" PRIu32, hex.data,
             partition);
    snprintf(sink->identity, sizeof sink->identity, "%s,", hex.data);
    buffer_free(&hex);
    out->ops = &MYSQL_SINK_OPS;
    out->self = sink;
    return ERR_OK;
}
