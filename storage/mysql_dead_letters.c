/*
 * A change is tried until it is known what became of it. Up to COMMIT a lost connection means that
 * nothing happened. After it the letter itself tells: it bears the moment this change gave it, or
 * another's, or none. Asking waits for the letter's lock, so what the lost session left open has
 * ended by then.
 */
#include "storage/mysql_dead_letters.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "storage/mysql_connect.h"
#include "storage/mysql_errors.h"
#include "storage/mysql_rows.h"

enum {
    ATTEMPTS_MAX = 4,
    AWAY_US = 1000000,
    PACKET_SLACK = 512, /* kept free of the packet for the protocol */
    MOMENT_SIZE = 32,
};

struct mysql_dead_letters {
    struct mysql_config config;
    pthread_mutex_t lock;        /* guards SPARE */
    struct mysql_session *spare; /* nobody uses it now; NULL: none */
    _Atomic int64_t away_until_us;
    _Atomic int64_t pending;
};

/* One call: its session and the statement it writes. */
struct work {
    struct mysql_dead_letters *letters;
    struct mysql_session *session; /* NULL while not connected */
    struct buffer sql;
};

static int64_t
now_us(void)
{
    return clock_monotonic_us(clock_system());
}

/* ---- sessions ---- */

static struct mysql_session *
take_spare(struct mysql_dead_letters *letters)
{
    struct mysql_session *session;

    pthread_mutex_lock(&letters->lock);
    session = letters->spare;
    letters->spare = NULL;
    pthread_mutex_unlock(&letters->lock);
    return session;
}

static void
drop(struct work *work)
{
    if (work->session != NULL) {
        mysql_session_close(work->session);
        free(work->session);
        work->session = NULL;
    }
}

/* Ends the call. The session is in no transaction. */
static void
work_end(struct work *work)
{
    struct mysql_dead_letters *letters = work->letters;

    pthread_mutex_lock(&letters->lock);
    if (letters->spare == NULL) {
        letters->spare = work->session;
        work->session = NULL;
    }
    pthread_mutex_unlock(&letters->lock);
    drop(work);
    buffer_free(&work->sql);
}

static enum err
open_session(struct work *work)
{
    struct mysql_dead_letters *letters = work->letters;
    enum err err;

    if (now_us() < atomic_load(&letters->away_until_us)) {
        return ERR_UNAVAILABLE;
    }
    work->session = calloc(1, sizeof(*work->session));
    if (work->session == NULL) {
        return ERR_NO_MEMORY;
    }
    err = mysql_session_open(work->session, &letters->config);
    if (err == ERR_OK &&
        mysql_session_limit_time(work->session, (int64_t)letters->config.timeout_ms * 750) != 0) {
        mysql_session_log_error(work->session, "mysql.dead_letters_failed", "limit time", true);
        err = ERR_UNAVAILABLE;
    }
    if (err == ERR_UNAVAILABLE) {
        atomic_store(&letters->away_until_us, now_us() + AWAY_US);
    }
    if (err != ERR_OK) {
        drop(work);
    }
    return err;
}

/* A session that was idle may have been closed by the server. */
static enum err
connect_work(struct work *work)
{
    if (work->session == NULL) {
        work->session = take_spare(work->letters);
    }
    if (work->session != NULL && mysql_ping(work->session->mysql) != 0) {
        drop(work);
    }
    return work->session != NULL ? ERR_OK : open_session(work);
}

/* The statement in SQL failed with NUMBER. What is open is undone. */
static enum err
failed(struct work *work, unsigned number, const char *step)
{
    const enum mysql_class class = mysql_classify(number);

    mysql_session_log_error(work->session, "mysql.dead_letters_failed", step,
                            !mysql_text_quotes_data(number));
    if (class == MYSQL_CLASS_RECONNECT ||
        mysql_session_run_text(work->session, "ROLLBACK", NULL) != 0) {
        drop(work);
    }
    return class == MYSQL_CLASS_RETRY ? ERR_AGAIN : ERR_UNAVAILABLE;
}

static enum err
run(struct work *work, const char *step, MYSQL_RES **result_out)
{
    unsigned number;

    if (work->sql.failed) {
        return ERR_NO_MEMORY;
    }
    number = mysql_session_run(work->session, buffer_span(&work->sql), result_out);
    return number == 0 ? ERR_OK : failed(work, number, step);
}

/* ---- looking ---- */

#define LETTER_COLUMNS                                                                             \
    "id,node_id,seq,tenant_id,event_id,event_name,reason,error_code,payload,"                      \
    "duplicate," MYSQL_MICROSECONDS("created_at") "," MYSQL_MICROSECONDS(                          \
        "replayed_at") "," MYSQL_MICROSECONDS("discarded_at")

#define IS_PENDING "replayed_at IS NULL AND discarded_at IS NULL"

static const char *const STATE_IS[LETTER_STATES + 1] = {
    [LETTER_PENDING] = IS_PENDING,
    [LETTER_REPLAYED] = "replayed_at IS NOT NULL",
    [LETTER_DISCARDED] = "replayed_at IS NULL AND discarded_at IS NOT NULL",
    [LETTER_STATES] = "TRUE",
};

/* COLUMN holds exactly VALUE: the collation alone would ignore trailing spaces. */
static void
append_equal(struct work *work, const char *column, struct span value)
{
    if (value.data != NULL) {
        buffer_printf(&work->sql, " AND %s = ", column);
        mysql_append_string(&work->sql, work->session, value);
        buffer_printf(&work->sql, " AND LENGTH(%s) = %zu", column, value.len);
    }
}

static void
append_question(struct work *work, const struct dead_letter_request *request)
{
    const struct dead_letter_filter *filter = &request->filter;
    struct buffer *sql = &work->sql;

    buffer_clear(sql, SIZE_MAX);
    buffer_printf(sql, "SELECT " LETTER_COLUMNS " FROM dead_letters WHERE %s",
                  STATE_IS[filter->state]);
    append_equal(work, "tenant_id", filter->tenant);
    append_equal(work, "event_name", filter->event_name);
    if (filter->reason.data != NULL) {
        buffer_append_text(sql, " AND LOCATE(");
        mysql_append_string(sql, work->session, filter->reason);
        buffer_append_text(sql, ", reason) > 0");
    }
    if (filter->has_code) {
        buffer_printf(sql, " AND error_code = %" PRIu32, filter->error_code);
    }
    if (filter->id != 0) {
        buffer_printf(sql, " AND id = %" PRIu64, filter->id);
    }
    if (request->after_id != 0) {
        buffer_printf(sql, " AND id %c %" PRIu64, request->descending ? '<' : '>',
                      request->after_id);
    }
    buffer_printf(sql, " ORDER BY id %s LIMIT %" PRIu32, request->descending ? "DESC" : "ASC",
                  request->limit);
}

static enum err
give_letter(MYSQL_RES *result, MYSQL_ROW row, dead_letter_fn *fn, void *arg)
{
    const struct span node = mysql_row_span(result, row, 1);
    struct dead_letter letter = {
        .id = mysql_row_u64(row, 0),
        .seq = mysql_row_u64(row, 2),
        .tenant = mysql_row_span(result, row, 3),
        .event_id = mysql_row_span(result, row, 4),
        .event_name = mysql_row_span(result, row, 5),
        .reason = mysql_row_span(result, row, 6),
        .error_code = mysql_row_u64(row, 7),
        .payload = mysql_row_span(result, row, 8),
        .duplicate = mysql_row_u64(row, 9) != 0,
        .created_us = mysql_row_i64(row, 10),
        .replayed_us = mysql_row_i64(row, 11),
        .discarded_us = mysql_row_i64(row, 12),
    };

    if (node.len == sizeof(letter.node_id)) {
        memcpy(letter.node_id, node.data, sizeof(letter.node_id));
    }
    return fn(arg, &letter);
}

/* The rows of one answer, one by one: a page may be many megabytes. */
static enum err
list_once(struct work *work, const struct dead_letter_request *request, dead_letter_fn *fn,
          void *arg)
{
    MYSQL_RES *result;
    MYSQL_ROW row;
    unsigned number;
    enum err err = ERR_OK;

    append_question(work, request);
    if (work->sql.failed) {
        return ERR_NO_MEMORY;
    }
    number = mysql_session_stream(work->session, buffer_span(&work->sql), &result);
    if (number != 0) {
        return failed(work, number, "list");
    }
    while (err == ERR_OK && (row = mysql_fetch_row(result)) != NULL) {
        err = give_letter(result, row, fn, arg);
    }
    number = err == ERR_OK ? mysql_errno(work->session->mysql) : 0;
    mysql_free_result(result);
    return number == 0 ? err : failed(work, number, "list");
}

static enum err
op_list(void *self, const struct dead_letter_request *request, dead_letter_fn *fn, void *arg)
{
    struct work work = {.letters = self, .sql = BUFFER_EMPTY};
    enum err err = connect_work(&work);

    ASSERT(request->limit > 0);
    if (err == ERR_OK) {
        err = list_once(&work, request, fn, arg);
    }
    work_end(&work);
    return err == ERR_AGAIN ? ERR_TIMEOUT : err; /* ended by its time limit, or by somebody */
}

static enum err
op_count(void *self)
{
    struct mysql_dead_letters *letters = self;
    struct work work = {.letters = letters, .sql = BUFFER_EMPTY};
    uint64_t pending = 0;
    enum err err = connect_work(&work);

    if (err == ERR_OK) {
        const unsigned number = mysql_session_number(
            work.session, "SELECT COUNT(*) FROM dead_letters WHERE " IS_PENDING, 0, &pending);

        if (number == 0) {
            atomic_store(&letters->pending, (int64_t)pending);
        } else if (mysql_classify(number) == MYSQL_CLASS_SCHEMA) {
            err = ERR_UNAVAILABLE; /* a replicator is about to make the tables */
        } else {
            err = failed(&work, number, "count");
        }
    }
    work_end(&work);
    return err == ERR_AGAIN ? ERR_UNAVAILABLE : err;
}

static int64_t
op_pending(void *self)
{
    struct mysql_dead_letters *letters = self;

    return atomic_load(&letters->pending);
}

/* ---- changing ---- */

/* What one attempt came to. */
enum step {
    STEP_COMMIT,  /* all is written: COMMIT makes it so */
    STEP_REFUSED, /* likewise, but what is written is the refusal alone */
    STEP_AGAIN,   /* nothing was changed, and another attempt may be */
    STEP_OVER,    /* nothing was changed, and the result says why */
};

struct change {
    uint64_t id;
    enum dead_letter_change what;
    struct dead_letter_verdict *verdict;
    enum dead_letter_result result;
    bool in_doubt;            /* a COMMIT got no answer, and nobody could be asked since ... */
    char moment[MOMENT_SIZE]; /* ... what it would have written */
    char node[48];            /* of the letter, as "0x..," */
    uint64_t seq;
    struct buffer record; /* its event's bytes */
};

static enum step
over(struct change *change, enum dead_letter_result result)
{
    change->result = result;
    return STEP_OVER;
}

static enum step
step_of(struct change *change, enum err err)
{
    return err == ERR_AGAIN || err == ERR_UNAVAILABLE ? STEP_AGAIN
                                                      : over(change, LETTER_UNAVAILABLE);
}

static void
refuse(struct change *change, unsigned number, const char *reason)
{
    change->result = LETTER_REFUSED;
    change->verdict->error_code = number;
    (void)snprintf(change->verdict->reason, sizeof(change->verdict->reason), "%s", reason);
}

/* The letter has ended, at MOMENT: by an attempt of ours whose answer was lost? */
static enum step
judge_end(struct change *change, MYSQL_ROW row, unsigned column)
{
    if (change->in_doubt && row[column] != NULL && strcmp(row[column], change->moment) == 0) {
        change->in_doubt = false;
        change->verdict->duplicate = mysql_row_u64(row, 5) != 0;
        return over(change, LETTER_DONE);
    }
    change->in_doubt = false;
    return over(change, LETTER_ENDED);
}

/* Locks the letter and takes from it what the change needs. */
static enum step
lock_letter(struct work *work, struct change *change)
{
    const unsigned column = change->what == LETTER_REPLAY ? 3 : 4;
    enum step step = STEP_COMMIT;
    struct span node;
    MYSQL_RES *result;
    MYSQL_ROW row;
    enum err err;

    buffer_clear(&work->sql, SIZE_MAX);
    buffer_printf(&work->sql,
                  "SELECT node_id, seq, record, replayed_at, discarded_at, duplicate, "
                  "UTC_TIMESTAMP(6) FROM dead_letters WHERE id = %" PRIu64 " FOR UPDATE",
                  change->id);
    err = run(work, "lock", &result);
    if (err != ERR_OK) {
        return step_of(change, err);
    }
    row = mysql_fetch_row(result);
    if (row == NULL) {
        step = over(change, LETTER_UNKNOWN);
    } else if (row[3] != NULL || row[4] != NULL) {
        step = judge_end(change, row, column);
    } else {
        change->in_doubt = false; /* we hold the lock, so whatever went before has ended */
        node = mysql_row_span(result, row, 0);
        change->seq = mysql_row_u64(row, 1);
        (void)snprintf(change->moment, sizeof(change->moment), "%s", row[6]);
        buffer_clear(&change->record, SIZE_MAX);
        buffer_append_span(&change->record, mysql_row_span(result, row, 2));
        buffer_clear(&work->sql, SIZE_MAX);
        mysql_append_hex(&work->sql, node.data, node.len);
        (void)snprintf(change->node, sizeof(change->node), "%.*s,", (int)work->sql.len,
                       work->sql.data);
        if (work->sql.failed || change->record.failed) {
            step = over(change, LETTER_UNAVAILABLE);
        }
    }
    mysql_free_result(result);
    return step;
}

static enum step
mark(struct work *work, struct change *change, const char *column)
{
    enum err err;

    buffer_clear(&work->sql, SIZE_MAX);
    buffer_printf(&work->sql,
                  "UPDATE dead_letters SET %s = '%s', duplicate = %d WHERE id = %" PRIu64, column,
                  change->moment, change->verdict->duplicate ? 1 : 0, change->id);
    err = run(work, "mark", NULL);
    return err == ERR_OK ? STEP_COMMIT : step_of(change, err);
}

/* Runs the query in SQL for the two texts of its only row. *FOUND_OUT: there was one. */
static enum err
read_identity(struct work *work, const struct event *event, bool *found_out, bool *same_out)
{
    MYSQL_RES *result;
    MYSQL_ROW row;
    enum err err = run(work, "find the row", &result);

    if (err != ERR_OK) {
        return err;
    }
    row = mysql_fetch_row(result);
    *found_out = row != NULL;
    *same_out = row != NULL && span_equal(mysql_row_span(result, row, 0), event->tenant) &&
                span_equal(mysql_row_span(result, row, 1), event->id);
    mysql_free_result(result);
    return ERR_OK;
}

/* A unique key refused the row: its number is taken, or its id is that of an older row. */
static enum step
resolve_duplicate(struct work *work, struct change *change, const struct event *event)
{
    struct buffer *sql = &work->sql;
    bool found = false;
    bool same = false;
    enum err err;

    buffer_clear(sql, SIZE_MAX);
    buffer_printf(sql,
                  "SELECT tenant_id, event_id FROM events WHERE seq = %" PRIu64 " AND node_id = ",
                  change->seq);
    buffer_append(sql, change->node, strlen(change->node) - 1); /* without its comma */
    err = read_identity(work, event, &found, &same);
    if (err != ERR_OK) {
        return step_of(change, err);
    }
    if (found && !same) {
        refuse(change, MYSQL_NUMBER_DUPLICATE, "another event has its sequence number");
        return STEP_OVER;
    }
    if (found) {
        return mark(work, change, "replayed_at"); /* put there by hand */
    }
    if (!mysql_rows_has_key(event)) {
        return STEP_AGAIN;
    }
    buffer_clear(sql, SIZE_MAX);
    buffer_append_text(sql, "SELECT tenant_id, event_id FROM events WHERE dedupe_key = ");
    mysql_append_hex(sql, event->key, EVENT_KEY_SIZE);
    err = read_identity(work, event, &found, &same);
    if (err != ERR_OK) {
        return step_of(change, err);
    }
    if (!found) {
        return STEP_AGAIN; /* the other row is gone again */
    }
    change->verdict->duplicate = true;
    return mark(work, change, "replayed_at");
}

/* The letter tells from now on why it was refused this time. */
static enum step
note_refusal(struct work *work, struct change *change, unsigned number)
{
    struct dead_letter_verdict *verdict = change->verdict;
    enum err err;

    mysql_session_log_error(work->session, "mysql.dead_letter_refused", "replay", false);
    mysql_session_reason(work->session, verdict->reason, sizeof(verdict->reason));
    verdict->error_code = number;
    change->result = LETTER_REFUSED;
    buffer_clear(&work->sql, SIZE_MAX);
    buffer_append_text(&work->sql, "UPDATE dead_letters SET reason = ");
    mysql_append_string(&work->sql, work->session, span_of(verdict->reason));
    buffer_printf(&work->sql, ", error_code = %u WHERE id = %" PRIu64, number, change->id);
    err = run(work, "note the refusal", NULL);
    return err == ERR_OK ? STEP_REFUSED : step_of(change, err);
}

static enum step
insert_row(struct work *work, struct change *change, const struct batch_event *item)
{
    unsigned number;

    buffer_clear(&work->sql, SIZE_MAX);
    buffer_append_text(&work->sql, MYSQL_ROWS_INSERT);
    mysql_rows_append_event(&work->sql, work->session, span_of(change->node), item);
    if (work->sql.failed) {
        return over(change, LETTER_UNAVAILABLE);
    }
    if (work->sql.len + PACKET_SLACK > work->session->packet_max) {
        refuse(change, 1153, "the event is longer than the database's max_allowed_packet");
        return STEP_OVER;
    }
    number = mysql_session_run(work->session, buffer_span(&work->sql), NULL);
    if (number == 0) {
        return mark(work, change, "replayed_at");
    }
    switch (mysql_classify(number)) {
    case MYSQL_CLASS_POISON:
        return note_refusal(work, change, number);
    case MYSQL_CLASS_DUPLICATE:
        return resolve_duplicate(work, change, &item->event);
    case MYSQL_CLASS_RETRY:
    case MYSQL_CLASS_RECONNECT:
    case MYSQL_CLASS_WAIT:
    case MYSQL_CLASS_SCHEMA:
    case MYSQL_CLASS_SPLIT:
        break;
    }
    return step_of(change, failed(work, number, "insert the row"));
}

static enum step
replay(struct work *work, struct change *change)
{
    struct batch_event item = {.seq = change->seq, .body = buffer_span(&change->record)};

    if (event_decode(item.body, &item.event) != ERR_OK) {
        refuse(change, 0, "the letter's record cannot be read");
        return STEP_OVER;
    }
    mysql_rows_settle_key(&item.event);
    return insert_row(work, change, &item);
}

/* All of a change but COMMIT. */
static enum step
begin_and_write(struct work *work, struct change *change)
{
    enum step step;
    enum err err;

    *change->verdict = (struct dead_letter_verdict){0};
    buffer_clear(&work->sql, SIZE_MAX);
    buffer_append_text(&work->sql, "START TRANSACTION");
    err = run(work, "begin", NULL);
    if (err != ERR_OK) {
        return step_of(change, err);
    }
    step = lock_letter(work, change);
    if (step != STEP_COMMIT) {
        return step;
    }
    return change->what == LETTER_REPLAY ? replay(work, change)
                                         : mark(work, change, "discarded_at");
}

/* Ends an attempt: true when change->result is what the whole came to. */
static bool
end_attempt(struct work *work, struct change *change, enum step step)
{
    if (step == STEP_COMMIT || step == STEP_REFUSED) {
        if (mysql_session_run_text(work->session, "COMMIT", NULL) == 0) {
            change->result = step == STEP_COMMIT ? LETTER_DONE : LETTER_REFUSED;
            return true;
        }
        mysql_session_log_error(work->session, "mysql.dead_letters_failed", "commit", true);
        drop(work);
        change->in_doubt = step == STEP_COMMIT;
        return step == STEP_REFUSED; /* noted or not, it was refused */
    }
    if (work->session != NULL && mysql_session_run_text(work->session, "ROLLBACK", NULL) != 0) {
        drop(work);
    }
    return step == STEP_OVER;
}

static enum dead_letter_result
change_letter(struct work *work, struct change *change)
{
    for (int attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        if (connect_work(work) != ERR_OK) {
            break;
        }
        if (end_attempt(work, change, begin_and_write(work, change))) {
            break;
        }
        change->result = LETTER_UNAVAILABLE;
    }
    return change->in_doubt ? LETTER_IN_DOUBT : change->result;
}

static enum dead_letter_result
op_change(void *self, uint64_t id, enum dead_letter_change what, struct dead_letter_verdict *out)
{
    struct mysql_dead_letters *letters = self;
    struct work work = {.letters = letters, .sql = BUFFER_EMPTY};
    struct change change = {
        .id = id,
        .what = what,
        .verdict = out,
        .result = LETTER_UNAVAILABLE,
        .record = BUFFER_EMPTY,
    };
    const enum dead_letter_result result = change_letter(&work, &change);

    if (result == LETTER_DONE && atomic_load(&letters->pending) > 0) {
        atomic_fetch_sub(&letters->pending, 1); /* the next count makes it exact again */
    }
    work_end(&work);
    buffer_free(&change.record);
    return result;
}

/* ---- life ---- */

static void
op_close(void *self)
{
    struct mysql_dead_letters *letters = self;

    if (letters->spare != NULL) {
        mysql_session_close(letters->spare);
        free(letters->spare);
    }
    pthread_mutex_destroy(&letters->lock);
    free(letters);
}

static const struct dead_letter_store_ops MYSQL_DEAD_LETTERS_OPS = {
    .list = op_list,
    .change = op_change,
    .count = op_count,
    .pending = op_pending,
    .close = op_close,
};

enum err
mysql_dead_letters_new(struct dead_letter_store *out, const struct mysql_config *config)
{
    struct mysql_dead_letters *letters = calloc(1, sizeof(*letters));

    if (letters == NULL) {
        return ERR_NO_MEMORY;
    }
    letters->config = *config;
    letters->config.must_exist = true;
    atomic_init(&letters->pending, -1);
    pthread_mutex_init(&letters->lock, NULL);
    *out = (struct dead_letter_store){&MYSQL_DEAD_LETTERS_OPS, letters};
    return ERR_OK;
}
