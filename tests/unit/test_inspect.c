/*
 * test_inspect.c - the read-only view and the checks, on logs written here and damaged on purpose.
 *
 * Damage is written through LMDB, so that the tree stays whole and each check is met alone; what
 * damaged pages do is tested with the whole program.
 */
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/bytes.h"
#include "core/base/log.h"
#include "wal/verify.h"
#include "wal/wal.h"

enum {
    PARTITIONS = 2,
    PROPERTIES_SIZE = 700, /* two or three records to a block */
};

struct fixture {
    char dir[256];
    struct buffer problem;
    struct buffer found; /* "seq: text\n" per finding */
    struct log_view *view;
    struct log_verified verified;
};

static int
setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    snprintf(f->dir, sizeof(f->dir), "%s/test_inspect.XXXXXX",
             getenv("TMPDIR") == NULL ? "/tmp" : getenv("TMPDIR"));
    assert_non_null(mkdtemp(f->dir));
    *state = f;
    return 0;
}

static void
forget_view(struct fixture *f)
{
    log_view_close(f->view);
    f->view = NULL;
    log_verified_free(&f->verified);
}

static void
remove_file(const struct fixture *f, const char *name)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    (void)unlink(path);
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    forget_view(f);
    remove_file(f, "data.mdb");
    remove_file(f, "lock.mdb");
    remove_file(f, "sluice.lock");
    (void)rmdir(f->dir);
    buffer_free(&f->problem);
    buffer_free(&f->found);
    free(f);
    return 0;
}

/* ---- a log ---- */

struct writer {
    struct append append;
    atomic_bool done;
};

static void
mark_done(struct append *append)
{
    struct writer *writer = append->owner;

    atomic_store(&writer->done, true);
}

static void
encode(uint64_t n, struct buffer *out)
{
    char id[32];
    char properties[PROPERTIES_SIZE + 1];
    struct event event = {
        .shape = EVENT_TELEMETRY,
        .has_status = true,
        .status = 200,
        .id_by_client = n % 2 == 0,
        .occurred_at_us = 1700000000000000 + (int64_t)n,
        .created_at_us = 1700000000000000 + (int64_t)n,
        .tenant = SPAN_LITERAL("default"),
        .name = SPAN_LITERAL("telemetry"),
        .service = SPAN_LITERAL("checkout"),
        .properties = {properties, PROPERTIES_SIZE},
    };

    snprintf(id, sizeof(id), "id-%llu", (unsigned long long)n);
    memset(properties, ' ', sizeof(properties));
    properties[0] = '{';
    properties[PROPERTIES_SIZE - 1] = '}';
    event.id = span_of(id);
    if (event.id_by_client) {
        event_key(event.tenant, event.id, event.key);
    }
    event_encode(&event, out);
}

static struct wal *
open_wal(const struct fixture *f)
{
    const struct wal_config config = {
        .dir = f->dir,
        .bytes_max = 64 << 20,
        .partitions = PARTITIONS,
        .queue_events = 100000,
        .id_window = 10000,
        .clock = clock_system(),
    };
    struct wal *wal = NULL;

    assert_int_equal(wal_open(&wal, &config), ERR_OK);
    assert_int_equal(wal_start(wal), ERR_OK);
    return wal;
}

/* Appends events FIRST to LAST, as one group each PER_GROUP, and waits for each. */
static void
append_events(struct wal *wal, uint64_t first, uint64_t last, uint64_t per_group)
{
    struct journal *journal = wal_journal(wal);

    while (first <= last) {
        uint64_t count = last - first + 1 < per_group ? last - first + 1 : per_group;
        struct append_event *events = calloc(count, sizeof(*events));
        struct buffer *bodies = calloc(count, sizeof(*bodies));
        struct writer writer = {.append = {.events = events, .count = (uint32_t)count}};

        assert_non_null(events);
        assert_non_null(bodies);
        for (uint64_t i = 0; i < count; i++) {
            struct event event;

            encode(first + i, &bodies[i]);
            assert_int_equal(event_decode(buffer_span(&bodies[i]), &event), ERR_OK);
            events[i].body = buffer_span(&bodies[i]);
            events[i].has_key = event.id_by_client;
            memcpy(events[i].key, event.key, EVENT_KEY_SIZE);
            writer.append.body_bytes += bodies[i].len;
        }
        writer.append.done = mark_done;
        writer.append.owner = &writer;
        assert_int_equal(journal->ops->append(journal->self, &writer.append), ERR_OK);
        journal->ops->kick(journal->self);
        while (!atomic_load(&writer.done)) {
            usleep(100);
        }
        assert_int_equal(writer.append.result, ERR_OK);
        for (uint64_t i = 0; i < count; i++) {
            buffer_free(&bodies[i]);
        }
        free(bodies);
        free(events);
        first += count;
    }
}

static void
write_log(const struct fixture *f, uint64_t events)
{
    struct wal *wal = open_wal(f);

    append_events(wal, 1, events, 500);
    wal_close(wal);
}

/* ---- damage ---- */

static MDB_txn *
begin_damage(const struct fixture *f, const char *table, unsigned flags, MDB_env **env,
             MDB_dbi *dbi)
{
    MDB_txn *txn = NULL;

    assert_int_equal(mdb_env_create(env), 0);
    assert_int_equal(mdb_env_set_maxdbs(*env, 8), 0);
    assert_int_equal(mdb_env_set_mapsize(*env, (size_t)1 << 30), 0);
    assert_int_equal(mdb_env_open(*env, f->dir, MDB_NOTLS, 0640), 0);
    assert_int_equal(mdb_txn_begin(*env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, table, flags, dbi), 0);
    return txn;
}

static void
end_damage(MDB_env *env, MDB_txn *txn)
{
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static MDB_val
val(void *data, size_t len)
{
    return (MDB_val){len, data};
}

/* Changes the value of the entry at or after KEY (else the last) by FN; VALUE is a copy with room
 * to spare. */
static void
change(const struct fixture *f, const char *table, uint64_t key,
       size_t (*fn)(uint8_t *value, size_t len))
{
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *txn = begin_damage(f, table, MDB_INTEGERKEY, &env, &dbi);
    MDB_cursor *cursor = NULL;
    MDB_val at = val(&key, sizeof(key));
    MDB_val value;
    uint8_t copy[8192];
    uint64_t found;

    assert_int_equal(mdb_cursor_open(txn, dbi, &cursor), 0);
    if (mdb_cursor_get(cursor, &at, &value, MDB_SET_RANGE) != 0) {
        assert_int_equal(mdb_cursor_get(cursor, &at, &value, MDB_LAST), 0);
    }
    assert_true(value.mv_size < sizeof(copy) / 2);
    memcpy(copy, value.mv_data, value.mv_size);
    memcpy(&found, at.mv_data, sizeof(found));
    mdb_cursor_close(cursor);
    value = val(copy, fn(copy, value.mv_size));
    at = val(&found, sizeof(found));
    assert_int_equal(
        value.mv_size == 0 ? mdb_del(txn, dbi, &at, NULL) : mdb_put(txn, dbi, &at, &value, 0), 0);
    end_damage(env, txn);
}

static size_t
drop(uint8_t *value, size_t len)
{
    (void)value;
    (void)len;
    return 0;
}

static size_t
flip_first(uint8_t *value, size_t len)
{
    value[0] ^= 1;
    return len;
}

static size_t
flip_in_first_body(uint8_t *value, size_t len)
{
    value[FRAME_HEADER_SIZE + 80] ^= 1;
    return len;
}

static size_t
cut_one_byte(uint8_t *value, size_t len)
{
    (void)value;
    return len - 1;
}

/* The first record again, under the number of a later one. */
static size_t
renumber_first(uint8_t *value, size_t len)
{
    struct buffer block = BUFFER_EMPTY;
    struct span rest = {(const char *)value, len};
    struct frame frame;
    uint64_t seq;

    assert_int_equal(frame_next(&rest, &frame, &seq), ERR_OK);
    frame_append(&block, seq + 1000000, frame.body);
    assert_int_equal(block.len, len - rest.len);
    memcpy(value, block.data, block.len);
    buffer_free(&block);
    return len;
}

/* A body that has its checksum but is no event. */
static size_t
replace_by_nonsense(uint8_t *value, size_t len)
{
    struct buffer block = BUFFER_EMPTY;
    struct span rest = {(const char *)value, len};
    struct frame frame;
    uint64_t seq;
    size_t new_len;

    assert_int_equal(frame_next(&rest, &frame, &seq), ERR_OK);
    frame_append(&block, seq, SPAN_LITERAL("\1 this is no event"));
    buffer_append_span(&block, rest);
    new_len = block.len;
    memcpy(value, block.data, block.len);
    buffer_free(&block);
    return new_len;
}

/* Another id under the same key: what a wrong copy would look like. */
static size_t
replace_id(uint8_t *value, size_t len)
{
    struct buffer block = BUFFER_EMPTY;
    struct buffer body = BUFFER_EMPTY;
    struct span rest = {(const char *)value, len};
    struct event event;
    size_t new_len;

    for (;;) {
        struct frame frame;
        uint64_t seq;
        enum err err = frame_next(&rest, &frame, &seq);

        if (err == ERR_NOT_FOUND) {
            break;
        }
        assert_int_equal(err, ERR_OK);
        assert_int_equal(event_decode(frame.body, &event), ERR_OK);
        if (event.id_by_client) {
            event.id = SPAN_LITERAL("another");
        }
        buffer_clear(&body, SIZE_MAX);
        event_encode(&event, &body);
        frame_append(&block, seq, buffer_span(&body));
    }
    new_len = block.len;
    memcpy(value, block.data, block.len);
    buffer_free(&block);
    buffer_free(&body);
    return new_len;
}

static void
change_state(const struct fixture *f, void (*fn)(struct log_state *state))
{
    uint8_t raw[STATE_FIXED_SIZE + 8 * JOURNAL_PARTITIONS_MAX];
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *txn = begin_damage(f, "meta", 0, &env, &dbi);
    char name[] = "state";
    MDB_val key = val(name, 5);
    MDB_val value;
    struct log_state state;

    assert_int_equal(mdb_get(txn, dbi, &key, &value), 0);
    assert_int_equal(log_state_decode((struct span){value.mv_data, value.mv_size}, &state), ERR_OK);
    fn(&state);
    value = val(raw, log_state_encode(&state, raw));
    assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
    end_damage(env, txn);
}

/* ---- looking ---- */

static enum err
open_view(struct fixture *f)
{
    forget_view(f);
    buffer_clear(&f->problem, SIZE_MAX);
    return log_view_open(&f->view, f->dir, &f->problem);
}

static void
assert_says(struct buffer *buffer, const char *text)
{
    buffer_append(buffer, "", 1);
    if (strstr(buffer->data, text) == NULL) {
        fail_msg("'%s' does not say '%s'", buffer->data, text);
    }
}

static void
note_finding(void *arg, uint64_t seq, const char *text)
{
    struct fixture *f = arg;

    buffer_printf(&f->found, "%llu: %s\n", (unsigned long long)seq, text);
}

static uint64_t
findings(struct fixture *f)
{
    assert_int_equal(open_view(f), ERR_OK);
    buffer_clear(&f->found, SIZE_MAX);
    assert_int_equal(log_verify(f->view, note_finding, f, &f->verified, &f->problem), ERR_OK);
    return f->verified.findings;
}

struct seen {
    uint64_t count[LOG_ITEM_TRIMMED + 1]; /* seqs per kind; misplaced ones: calls */
    uint64_t next;                        /* every seq comes once and in order */
    uint64_t stop_at;
};

static enum err
see(void *arg, const struct log_item *item)
{
    struct seen *seen = arg;

    if (item->kind == LOG_ITEM_MISPLACED) {
        seen->count[item->kind]++;
        return ERR_OK;
    }
    if (seen->next != 0) {
        assert_int_equal(item->seq, seen->next);
    }
    assert_true(item->last_seq >= item->seq);
    seen->next = item->last_seq + 1;
    seen->count[item->kind] += item->last_seq - item->seq + 1;
    if (item->kind == LOG_ITEM_RECORD) {
        assert_int_equal(item->event.occurred_at_us - 1700000000000000, item->seq);
    } else {
        assert_non_null(item->why);
    }
    return item->seq == seen->stop_at ? ERR_CLOSED : ERR_OK;
}

static struct seen
look(struct fixture *f, uint64_t from, uint64_t to)
{
    struct seen seen = {.next = 0};

    if (f->view == NULL) {
        assert_int_equal(open_view(f), ERR_OK);
    }
    assert_int_equal(log_view_each(f->view, from, to, see, &seen, &f->problem), ERR_OK);
    return seen;
}

/* ---- opening ---- */

static void
a_place_without_a_log_is_told_apart_from_a_damaged_one(void **state)
{
    struct fixture *f = *state;
    char path[512];
    struct buffer problem = BUFFER_EMPTY;
    int fd;

    assert_int_equal(log_view_open(&f->view, "/nonexistent/place", &problem), ERR_NOT_FOUND);
    assert_says(&problem, "No such file");
    buffer_free(&problem);
    assert_int_equal(open_view(f), ERR_NOT_FOUND);
    assert_says(&f->problem, "there is no log in");
    snprintf(path, sizeof(path), "%s/lock.mdb", f->dir);
    assert_int_equal(access(path, F_OK), -1);

    snprintf(path, sizeof(path), "%s/data.mdb", f->dir);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
    assert_true(fd >= 0);
    assert_int_equal(open_view(f), ERR_CORRUPT);
    assert_says(&f->problem, "is empty");
    assert_int_equal(ftruncate(fd, 100000), 0);
    assert_int_equal(open_view(f), ERR_CORRUPT);
    close(fd);
}

static void
a_file_of_lmdb_without_a_log_is_no_log(void **state)
{
    struct fixture *f = *state;
    MDB_env *env = NULL;

    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, f->dir, 0, 0640), 0);
    mdb_env_close(env);
    assert_int_equal(open_view(f), ERR_NOT_FOUND);
    assert_says(&f->problem, "no start has been completed");
}

static void
a_view_registers_as_a_reader_only_where_somebody_may_look(void **state)
{
    struct fixture *f = *state;
    char path[512];

    write_log(f, 10);
    remove_file(f, "lock.mdb");
    assert_int_equal(findings(f), 0);
    snprintf(path, sizeof(path), "%s/lock.mdb", f->dir);
    assert_int_equal(access(path, F_OK), -1);
}

/* ---- what is there ---- */

static void
an_empty_log_is_good_and_summed_up_as_empty(void **state)
{
    struct fixture *f = *state;
    struct log_summary summary;
    struct seen seen;

    wal_close(open_wal(f));
    assert_int_equal(findings(f), 0);
    assert_int_equal(log_view_summary(f->view, &summary, &f->problem), ERR_OK);
    assert_int_equal(summary.records, 0);
    assert_int_equal(summary.oldest_seq, 0);
    assert_int_equal(summary.last_seq, 0);
    assert_int_equal(summary.pending_events, 0);
    assert_int_equal(summary.starts, 1);
    assert_true(summary.oldest_created_us == INT64_MIN);
    seen = look(f, 1, UINT64_MAX);
    assert_int_equal(seen.next, 0);
}

static void
the_summary_counts_what_was_appended(void **state)
{
    struct fixture *f = *state;
    struct log_summary summary;

    write_log(f, 3000);
    wal_close(open_wal(f));
    assert_int_equal(findings(f), 0);
    assert_int_equal(log_view_summary(f->view, &summary, &f->problem), ERR_OK);
    assert_int_equal(summary.oldest_seq, 1);
    assert_int_equal(summary.last_seq, 3000);
    assert_int_equal(summary.records, 3000);
    assert_int_equal(summary.starts, 2);
    assert_int_equal(summary.state.epoch, 2);
    assert_int_equal(summary.pending[0], 1024 + 3000 - 2048);
    assert_int_equal(summary.pending[1], 1024);
    assert_int_equal(summary.pending_events, 3000);
    assert_true(summary.oldest_created_us == 1700000000000001);
    assert_true(summary.live_bytes > 3000 * PROPERTIES_SIZE);
    assert_true(summary.file_bytes >= summary.live_bytes);
    assert_int_equal(f->verified.records, 3000);
    assert_int_equal(f->verified.ids, 1500);
    assert_int_equal(f->verified.blocks, summary.blocks);
    assert_true(f->verified.segments > 0); /* their sums are checked, too */
    assert_int_equal(f->verified.pages_used + f->verified.pages_free, summary.pages);
}

static void
a_range_is_given_whole_and_no_further(void **state)
{
    struct fixture *f = *state;
    struct seen seen;

    write_log(f, 2000);
    seen = look(f, 1, UINT64_MAX);
    assert_int_equal(seen.count[LOG_ITEM_RECORD], 2000);
    for (uint64_t from = 1; from <= 7; from++) {
        for (uint64_t to = from; to <= 7; to++) {
            seen = look(f, from, to);
            assert_int_equal(seen.count[LOG_ITEM_RECORD], to - from + 1);
            assert_int_equal(seen.next, to + 1);
        }
    }
    seen = look(f, 1995, UINT64_MAX);
    assert_int_equal(seen.count[LOG_ITEM_RECORD], 6);
    seen = look(f, 2001, UINT64_MAX);
    assert_int_equal(seen.next, 0);
    seen = (struct seen){.stop_at = 5};
    assert_int_equal(log_view_each(f->view, 1, 2000, see, &seen, &f->problem), ERR_CLOSED);
    assert_int_equal(seen.count[LOG_ITEM_RECORD], 5);
}

static void
trimmed_records_are_no_loss(void **state)
{
    struct fixture *f = *state;
    struct wal *wal = open_wal(f);
    struct journal *journal = wal_journal(wal);
    const struct slice_set none = {0};
    struct seen seen;
    uint64_t oldest;

    append_events(wal, 1, 4096, 500);
    assert_int_equal(journal->ops->advance(journal->self, 0, 3072, &none, NULL), ERR_OK);
    assert_int_equal(journal->ops->advance(journal->self, 1, 4096, &none, NULL), ERR_OK);
    append_events(wal, 4097, 4100, 1);
    wal_close(wal);
    assert_int_equal(findings(f), 0);
    oldest = f->verified.oldest_seq;
    assert_true(oldest > 1);
    assert_int_equal(f->verified.trimmed_to, oldest - 1);
    assert_int_equal(f->verified.records, 4100 - oldest + 1);
    seen = look(f, 1, UINT64_MAX);
    assert_int_equal(seen.count[LOG_ITEM_TRIMMED], oldest - 1);
    assert_int_equal(seen.count[LOG_ITEM_RECORD], 4100 - oldest + 1);
    assert_int_equal(seen.count[LOG_ITEM_MISSING], 0);
}

static void
forget_progress(struct log_state *state)
{
    state->replicated[0] = 1000;
    state->replicated[1] = 0;
}

static void
records_gone_that_the_sink_does_not_have_are_a_loss(void **state)
{
    struct fixture *f = *state;
    struct wal *wal = open_wal(f);
    struct journal *journal = wal_journal(wal);
    const struct slice_set none = {0};
    uint64_t oldest;

    append_events(wal, 1, 4096, 500);
    assert_int_equal(journal->ops->advance(journal->self, 0, 3072, &none, NULL), ERR_OK);
    assert_int_equal(journal->ops->advance(journal->self, 1, 4096, &none, NULL), ERR_OK);
    append_events(wal, 4097, 4100, 1);
    wal_close(wal);
    change_state(f, forget_progress);
    assert_int_equal(findings(f), 1);
    oldest = f->verified.oldest_seq;
    assert_int_equal(f->verified.trimmed_to, 1000);
    assert_says(&f->found, "1001: the records up to ");
    assert_int_equal(log_verified_lost(&f->verified, 0, 0, UINT64_MAX) +
                         log_verified_lost(&f->verified, 1, 0, UINT64_MAX),
                     oldest - 1001);
    assert_int_equal(log_verified_lost(&f->verified, 0, 1000, 1010), 10);
    assert_int_equal(log_verified_lost(&f->verified, 0, 1005, 1010), 5);
    assert_int_equal(log_verified_lost(&f->verified, 1, 1000, 1024), 0);
    assert_int_equal(log_verified_lost(&f->verified, 0, 0, 1000), 0);
}

/* ---- what is wrong ---- */

static void
a_damaged_body_costs_one_record(void **state)
{
    struct fixture *f = *state;
    struct seen seen;

    write_log(f, 100);
    change(f, "log", 51, flip_in_first_body);
    assert_int_equal(findings(f), 1);
    assert_says(&f->found, "its checksum does not match");
    seen = look(f, 1, UINT64_MAX);
    assert_int_equal(seen.count[LOG_ITEM_DAMAGED], 1);
    assert_int_equal(seen.count[LOG_ITEM_RECORD], 99);
}

static void
a_damaged_head_costs_the_rest_of_its_block(void **state)
{
    struct fixture *f = *state;
    struct seen seen;

    write_log(f, 100);
    change(f, "log", 51, flip_first);
    assert_int_equal(findings(f), 1);
    seen = look(f, 1, UINT64_MAX);
    assert_true(seen.count[LOG_ITEM_DAMAGED] >= 1);
    assert_true(seen.count[LOG_ITEM_DAMAGED] <= 3);
    assert_int_equal(seen.count[LOG_ITEM_DAMAGED] + seen.count[LOG_ITEM_RECORD], 100);
    assert_int_equal(seen.next, 101);
}

static void
damage_at_the_very_end_is_not_overlooked(void **state)
{
    struct fixture *f = *state;

    write_log(f, 100);
    change(f, "log", 100, flip_first); /* the last block, or the one that begins with 100 */
    assert_true(findings(f) >= 1);
    assert_true(f->verified.lost.len > 0);
}

static void
a_missing_block_is_named(void **state)
{
    struct fixture *f = *state;
    struct seen seen;

    write_log(f, 100);
    change(f, "log", 51, drop);
    assert_int_equal(findings(f), 1);
    assert_says(&f->found, "missing");
    seen = look(f, 1, UINT64_MAX);
    assert_true(seen.count[LOG_ITEM_MISSING] >= 1);
    assert_int_equal(seen.count[LOG_ITEM_MISSING] + seen.count[LOG_ITEM_RECORD], 100);
}

static void
a_missing_first_block_is_named_when_nothing_was_trimmed(void **state)
{
    struct fixture *f = *state;

    write_log(f, 100);
    change(f, "log", 1, drop);
    assert_int_equal(findings(f), 1);
    assert_says(&f->found, "1: the record");
    assert_true(look(f, 1, UINT64_MAX).count[LOG_ITEM_MISSING] >= 1);
}

static void
a_record_under_a_wrong_number_is_found(void **state)
{
    struct fixture *f = *state;

    write_log(f, 100);
    change(f, "log", 51, renumber_first);
    assert_true(findings(f) >= 1);
    assert_true(f->verified.lost.len > 0);
}

static void
a_body_that_is_no_event_is_found(void **state)
{
    struct fixture *f = *state;

    write_log(f, 100);
    change(f, "log", 51, replace_by_nonsense);
    assert_int_equal(findings(f), 1);
    assert_says(&f->found, "its event cannot be decoded");
}

static void
a_key_that_is_not_its_ids_is_found(void **state)
{
    struct fixture *f = *state;

    write_log(f, 100);
    change(f, "log", 51, replace_id);
    assert_true(findings(f) >= 1);
    assert_says(&f->found, "its idempotency key does not belong to its id");
}

static void
damaged_ids_are_found(void **state)
{
    struct fixture *f = *state;

    write_log(f, 1000);
    change(f, "ids", 3, flip_first);
    assert_int_equal(findings(f), 1);
    assert_says(&f->found, "remembered ids");
    change(f, "ids", 500, cut_one_byte);
    assert_int_equal(findings(f), 2);
}

/* Another content of the first segment, with its checksum. */
static size_t
end_one_later(uint8_t *value, size_t len)
{
    uint64_t last;
    uint64_t bytes;

    assert_int_equal(
        segment_value_decode(1, (struct span){(const char *)value, len}, &last, &bytes), ERR_OK);
    segment_value_encode(1, last + 1, bytes, value);
    return len;
}

static size_t
hold_one_byte_more(uint8_t *value, size_t len)
{
    uint64_t last;
    uint64_t bytes;

    assert_int_equal(
        segment_value_decode(1, (struct span){(const char *)value, len}, &last, &bytes), ERR_OK);
    segment_value_encode(1, last, bytes + 1, value);
    return len;
}

static void
a_segment_that_does_not_add_up_is_found(void **state)
{
    struct fixture *f = *state;

    write_log(f, 3000);
    assert_int_equal(findings(f), 0);
    change(f, "segments", 1, end_one_later);
    assert_true(findings(f) >= 1);
    assert_says(&f->found, "a segment does not follow");
}

static void
a_segment_with_a_wrong_size_is_found(void **state)
{
    struct fixture *f = *state;

    write_log(f, 3000);
    change(f, "segments", 1, hold_one_byte_more);
    assert_int_equal(findings(f), 1);
    assert_says(&f->found, "bytes, not");
    change(f, "segments", 1, cut_one_byte);
    assert_true(findings(f) >= 1);
    assert_says(&f->found, "an entry of the segments is damaged");
}

static void
a_start_that_is_not_recorded_is_found(void **state)
{
    struct fixture *f = *state;

    write_log(f, 10);
    change(f, "instances", 1, drop);
    assert_int_equal(findings(f), 1);
    assert_says(&f->found, "the start of epoch 1 is not recorded");
}

static void
run_ahead(struct log_state *state)
{
    state->replicated[0] = 500;
    state->replicated[1] = 7;
}

static void
progress_the_log_cannot_have_made_is_found(void **state)
{
    struct fixture *f = *state;

    write_log(f, 100);
    change_state(f, run_ahead);
    assert_int_equal(findings(f), 2);
    assert_says(&f->found, "after the log's last");
    assert_int_equal(findings(f), 2);
    assert_says(&f->found, "of another partition");
}

static void
put_slice(const struct fixture *f, uint8_t flip_at, bool wrong_key)
{
    const struct slice_key key = {SPAN_LITERAL("default"), SPAN_LITERAL("checkout"), 28333333};
    const struct slice_key other = {SPAN_LITERAL("default"), SPAN_LITERAL("cart"), 28333333};
    const struct slice_rules rules = {.threshold_us = {1000}, .threshold_count = 1};
    struct event event = {.has_status = true, .status = 200, .service = key.service};
    struct slice slice = {0};
    struct buffer value = BUFFER_EMPTY;
    uint8_t raw[SLICE_KEY_SIZE];
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *txn = begin_damage(f, "slices", 0, &env, &dbi);
    MDB_val db_key = val(raw, sizeof(raw));
    MDB_val db_value;

    assert_int_equal(slice_add_event(&slice, &event, &rules), ERR_OK);
    slice_value_encode(&key, &slice, &value);
    slice_key_encode(wrong_key ? &other : &key, raw);
    value.data[4] = (char)(value.data[4] ^ flip_at);
    db_value = val(value.data, value.len);
    assert_int_equal(mdb_put(txn, dbi, &db_key, &db_value, 0), 0);
    end_damage(env, txn);
    slice_clear(&slice);
    buffer_free(&value);
}

static void
slices_are_decoded_and_belong_to_their_keys(void **state)
{
    struct fixture *f = *state;

    write_log(f, 10);
    put_slice(f, 0, false);
    assert_int_equal(findings(f), 0);
    assert_int_equal(f->verified.slices, 1);
    put_slice(f, 0, true);
    assert_int_equal(findings(f), 1);
    assert_says(&f->found, "of minute 28333333, is damaged");
    put_slice(f, 1, false);
    assert_int_equal(findings(f), 2);
    assert_says(&f->found, "of minute 28333333, is damaged");
}

/* Writes PAGE into the list of free pages, by hand: LMDB lets nobody near it. */
static void
change_first_free_page(const struct fixture *f, size_t page)
{
    char path[512];
    char found[4096];
    char at_file[4096];
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *txn = begin_damage(f, "meta", 0, &env, &dbi);
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    size_t offset;
    int fd;
    bool done = false;

    mdb_txn_abort(txn);
    assert_int_equal(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn), 0); /* others may not read it */
    assert_int_equal(mdb_cursor_open(txn, 0, &cursor), 0);
    do {
        assert_int_equal(mdb_cursor_get(cursor, &key, &value, MDB_NEXT), 0);
    } while (value.mv_size < 2 * sizeof(page));
    offset = (uintptr_t)value.mv_data % sizeof(found);
    memcpy(found, (const char *)value.mv_data - offset, sizeof(found));
    mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    mdb_env_close(env);

    snprintf(path, sizeof(path), "%s/data.mdb", f->dir);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    for (off_t at = 0; pread(fd, at_file, sizeof(at_file), at) == sizeof(at_file);
         at += (off_t)sizeof(at_file)) {
        if (memcmp(at_file, found, sizeof(found)) == 0) {
            assert_int_equal(pwrite(fd, &page, sizeof(page), at + (off_t)(offset + sizeof(page))),
                             sizeof(page));
            done = true;
        }
    }
    close(fd);
    assert_true(done);
}

static void
a_list_of_free_pages_that_cannot_be_is_found(void **state)
{
    struct fixture *f = *state;
    struct wal *wal = open_wal(f);
    uint64_t used;
    uint64_t spare;

    append_events(wal, 1, 50, 1); /* each commit frees the pages it replaces */
    wal_close(wal);
    assert_int_equal(open_view(f), ERR_OK);
    assert_int_equal(log_view_check_space(f->view, &used, &spare, &f->problem), ERR_OK);
    assert_true(spare > 0);
    forget_view(f);
    change_first_free_page(f, (size_t)1 << 40);
    assert_int_equal(open_view(f), ERR_OK);
    assert_int_equal(log_view_check_space(f->view, &used, &spare, &f->problem), ERR_CORRUPT);
    assert_says(&f->problem, "does not exist");
    forget_view(f);
    change_first_free_page(f, 1);
    assert_int_equal(open_view(f), ERR_OK);
    assert_int_equal(log_view_check_space(f->view, &used, &spare, &f->problem), ERR_CORRUPT);
    assert_int_equal(log_verify(f->view, note_finding, f, &f->verified, &f->problem), ERR_CORRUPT);
}

static void
progress_is_told_for_a_sudden_end(void **state)
{
    struct fixture *f = *state;
    struct log_progress progress = {.seq = 0};
    struct seen seen = {.stop_at = 42};

    write_log(f, 100);
    assert_int_equal(open_view(f), ERR_OK);
    log_view_watch(f->view, &progress);
    assert_int_equal(log_view_each(f->view, 1, 100, see, &seen, &f->problem), ERR_CLOSED);
    assert_string_equal(progress.step, "records");
    assert_int_equal(progress.seq, 42);
    log_view_watch(f->view, NULL);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_place_without_a_log_is_told_apart_from_a_damaged_one),
        TEST(a_file_of_lmdb_without_a_log_is_no_log),
        TEST(a_view_registers_as_a_reader_only_where_somebody_may_look),
        TEST(an_empty_log_is_good_and_summed_up_as_empty),
        TEST(the_summary_counts_what_was_appended),
        TEST(a_range_is_given_whole_and_no_further),
        TEST(trimmed_records_are_no_loss),
        TEST(records_gone_that_the_sink_does_not_have_are_a_loss),
        TEST(a_damaged_body_costs_one_record),
        TEST(a_damaged_head_costs_the_rest_of_its_block),
        TEST(damage_at_the_very_end_is_not_overlooked),
        TEST(a_missing_block_is_named),
        TEST(a_missing_first_block_is_named_when_nothing_was_trimmed),
        TEST(a_record_under_a_wrong_number_is_found),
        TEST(a_body_that_is_no_event_is_found),
        TEST(a_key_that_is_not_its_ids_is_found),
        TEST(damaged_ids_are_found),
        TEST(a_segment_that_does_not_add_up_is_found),
        TEST(a_segment_with_a_wrong_size_is_found),
        TEST(a_start_that_is_not_recorded_is_found),
        TEST(progress_the_log_cannot_have_made_is_found),
        TEST(slices_are_decoded_and_belong_to_their_keys),
        TEST(a_list_of_free_pages_that_cannot_be_is_found),
        TEST(progress_is_told_for_a_sudden_end),
    };
#undef TEST

    (void)alarm(120);
    log_setup(LOG_ERROR, LOG_JSON, open("/dev/null", O_WRONLY | O_CLOEXEC));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
