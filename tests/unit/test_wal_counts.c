/*
 * test_wal_counts.c - the counts engine on a real log: what restarts find, what trimming leaves
 * alone, removals and progress in one commit, and that no moment exists at which an acked event is
 * missing or counted twice.
 */
#include <lmdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/counts/count_cell.h"
#include "core/counts/counts.h"
#include "tests/fakes/wal_fixture.h"
#include "wal/inspect.h"
#include "wal/wal_internal.h"

#define FIRST_US INT64_C(1700000000000000) /* the fixture's events: 600 seconds from here */

struct fixture {
    struct wal_fixture log;
    struct counts *counts;
    uint64_t next; /* number of the next event */
};

static const struct counts_filter TELEMETRY = {
    SPAN_LITERAL("tenant"), SPAN_LITERAL("telemetry"), {NULL, 0}, {NULL, 0}};

static void
on_durable(void *self, const struct append_event *appended)
{
    struct fixture *f = self;
    struct event event;

    ASSERT(event_decode(appended->body, &event) == ERR_OK);
    ASSERT(counts_add(f->counts, appended->seq, &event) == ERR_OK);
}

static enum err
load(void *self, uint64_t seq, const struct event *event)
{
    struct fixture *f = self;

    return counts_add(f->counts, seq, event);
}

/* As the server does it. */
static void
start(struct fixture *f, bool with_thread)
{
    struct counts_config config = {.clock = clock_system(), .history_bytes_max = 1 << 30};

    wal_fixture_open(&f->log);
    config.store = wal_count_store(f->log.wal);
    assert_int_equal(counts_new(&f->counts, &config), ERR_OK);
    counts_begin(f->counts, f->log.journal->ops->durable_seq(f->log.journal->self));
    assert_int_equal(wal_each_after(f->log.wal, counts_counted(f->counts), load, f), ERR_OK);
    wal_fixture_start(&f->log);
    if (with_thread) {
        assert_int_equal(counts_start(f->counts), ERR_OK);
    }
}

/* Without a last fold, like a kill. */
static void
stop(struct fixture *f)
{
    counts_free(f->counts);
    f->counts = NULL;
    wal_fixture_close(&f->log);
}

static int
set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    wal_fixture_init(&f->log);
    f->log.config.observer = (struct journal_observer){on_durable, f};
    f->log.config.counts_bytes_max = 64 << 20;
    f->next = 1;
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    struct fixture *f = *state;

    counts_free(f->counts);
    wal_fixture_fini(&f->log);
    free(f);
    return 0;
}

static void
append(struct fixture *f, uint32_t count)
{
    assert_int_equal(wal_fixture_append(&f->log, f->next, count, 100), ERR_OK);
    f->next += count;
}

static void
fold(struct fixture *f)
{
    assert_int_equal(counts_fold(f->counts, clock_wall_us(clock_system())), ERR_OK);
}

static uint64_t
total_between(struct fixture *f, int64_t from_us, int64_t to_us)
{
    struct counts_view *view;
    struct counts_sum sum = {0};
    uint64_t total;

    assert_int_equal(counts_view_open(f->counts, &view), ERR_OK);
    assert_int_equal(counts_view_sum(view, &TELEMETRY, from_us, to_us, &sum), ERR_OK);
    assert_false(counts_view_degraded(view));
    total = sum.total;
    counts_sum_clear(&sum);
    counts_view_close(view);
    return total;
}

static uint64_t
total(struct fixture *f)
{
    return total_between(f, INT64_MIN, INT64_MAX);
}

/* ---- restarts ---- */

static void
counts_survive_a_kill_before_and_after_a_fold(void **state)
{
    struct fixture *f = *state;

    start(f, false);
    append(f, 700);
    stop(f); /* nothing was ever folded: not even the beginning is noted */
    start(f, false);
    assert_int_equal(total(f), 0); /* so the history begins here, and says so */
    fold(f);
    append(f, 700);
    assert_int_equal(total(f), 700);
    stop(f);
    start(f, false);
    assert_int_equal(total(f), 700);
    fold(f);
    append(f, 300);
    assert_int_equal(total(f), 1000);
    stop(f);
    start(f, false);
    assert_int_equal(counts_counted(f->counts), 1400);
    assert_int_equal(total(f), 1000);
    assert_int_equal(total_between(f, FIRST_US, FIRST_US + 1),
                     total_between(f, FIRST_US - 1, FIRST_US + 1000000));
}

static void
the_engine_notes_its_beginning_before_the_first_event(void **state)
{
    struct fixture *f = *state;

    start(f, true);
    append(f, 10);
    stop(f);
    start(f, false);
    assert_int_equal(total(f), 10);
}

static void
a_stop_leaves_nothing_to_be_read_again(void **state)
{
    struct fixture *f = *state;

    start(f, true);
    append(f, 1000);
    counts_stop(f->counts);
    assert_int_equal(counts_counted(f->counts), 1000);
    assert_int_equal(total(f), 1000);
}

static void
a_log_of_an_older_build_opens_and_counts_from_there(void **state)
{
    struct fixture *f = *state;
    struct counts_stats stats;
    struct log_view *view = NULL;
    struct log_summary summary;
    struct buffer problem = BUFFER_EMPTY;
    MDB_txn *txn = NULL;

    start(f, true);
    append(f, 50);
    counts_stop(f->counts);
    wal_stop(f->log.wal);
    assert_int_equal(mdb_txn_begin(f->log.wal->env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_drop(txn, f->log.wal->counts, 1), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    stop(f);
    assert_int_equal(log_view_open(&view, f->log.dir, &problem), ERR_OK);
    assert_int_equal(log_view_summary(view, &summary, &problem), ERR_OK);
    assert_int_equal(summary.counts, 0);
    log_view_close(view);
    buffer_free(&problem);
    start(f, true);
    assert_int_equal(total(f), 0);
    append(f, 7);
    assert_int_equal(total(f), 7);
    counts_stats(f->counts, &stats);
    assert_int_equal(stats.begin_seq, 50);
}

/* ---- the log's side ---- */

static void
what_is_not_counted_yet_is_not_trimmed(void **state)
{
    struct fixture *f = *state;
    struct journal_stats stats;
    const struct journal *journal;

    start(f, false);
    journal = f->log.journal;
    fold(f);
    for (int i = 0; i < 40; i++) {
        append(f, 1000);
        wal_fixture_drain_all(&f->log);
    }
    journal->ops->stats(journal->self, &stats);
    assert_int_equal(stats.oldest_seq, 1);
    stop(f);
    start(f, false);
    assert_int_equal(total(f), 40000);
    fold(f);
    append(f, 1000);
    append(f, 1);
    f->log.journal->ops->stats(f->log.journal->self, &stats);
    assert_true(stats.oldest_seq > 1);
    assert_int_equal(total(f), 41001);
}

static void
appends_are_refused_while_too_many_wait_to_be_counted(void **state)
{
    struct fixture *f = *state;
    struct request *request = request_new(1, 1, 100, false);
    struct count_store store;

    wal_fixture_open(&f->log);
    store = wal_count_store(f->log.wal);
    atomic_store(&f->log.wal->durable_seq, COUNT_LAG_MAX + 1);
    assert_int_equal(request_send(request, &f->log), ERR_OK); /* nobody counts */
    store.ops->hold(store.self, 0);
    assert_int_equal(request_send(request, &f->log), ERR_AGAIN);
    store.ops->hold(store.self, 1);
    wal_stop(f->log.wal);
    assert_int_equal(request_wait(request), ERR_CLOSED);
    request_drop(request);
}

static void
changes_are_made_only_while_the_log_runs(void **state)
{
    struct fixture *f = *state;
    struct count_changes changes = {BUFFER_EMPTY, 0};
    struct count_store store;

    count_changes_put(&changes, SPAN_LITERAL("Z"), SPAN_LITERAL("value"));
    wal_fixture_open(&f->log);
    store = wal_count_store(f->log.wal);
    assert_int_equal(store.ops->commit(store.self, &changes, 0), ERR_CLOSED);
    assert_int_equal(wal_start(f->log.wal), ERR_OK);
    assert_int_equal(store.ops->commit(store.self, &changes, 0), ERR_OK);
    assert_true(store.ops->bytes(store.self) > 0);
    wal_stop(f->log.wal);
    assert_int_equal(store.ops->commit(store.self, &changes, 0), ERR_CLOSED);
    count_changes_free(&changes);
}

static void
keys_are_found_in_order_and_values_checked(void **state)
{
    struct fixture *f = *state;
    struct count_changes changes = {BUFFER_EMPTY, 0};
    const char *keys[] = {"b", "bb", "a", "c"};
    struct count_store store;
    void *snapshot;
    struct span key;
    struct span value;

    start(f, false);
    store = wal_count_store(f->log.wal);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        char text[32];

        snprintf(text, sizeof(text), "value of %s", keys[i]);
        count_changes_put(&changes, span_of(keys[i]), span_of(text));
    }
    count_changes_delete(&changes, SPAN_LITERAL("c"));
    count_changes_delete(&changes, SPAN_LITERAL("not there"));
    assert_int_equal(store.ops->commit(store.self, &changes, 0), ERR_OK);
    assert_int_equal(store.ops->begin(store.self, &snapshot), ERR_OK);
    assert_int_equal(store.ops->seek(store.self, snapshot, SPAN_LITERAL("aa"), &key, &value),
                     ERR_OK);
    assert_true(span_is(key, "b") && span_is(value, "value of b"));
    assert_int_equal(store.ops->next(store.self, snapshot, &key, &value), ERR_OK);
    assert_true(span_is(key, "bb") && span_is(value, "value of bb"));
    assert_int_equal(store.ops->next(store.self, snapshot, &key, &value), ERR_NOT_FOUND);
    store.ops->end(store.self, snapshot);
    count_changes_free(&changes);
    stop(f);
    assert_true(wal_fixture_flip(&f->log, "value of bb", 11, 0) > 0);
    start(f, false);
    store = wal_count_store(f->log.wal);
    assert_int_equal(store.ops->begin(store.self, &snapshot), ERR_OK);
    assert_int_equal(store.ops->seek(store.self, snapshot, SPAN_LITERAL("b"), &key, &value),
                     ERR_OK);
    assert_int_equal(store.ops->next(store.self, snapshot, &key, &value), ERR_CORRUPT);
    assert_true(span_is(key, "bb"));
    assert_int_equal(store.ops->next(store.self, snapshot, &key, &value), ERR_NOT_FOUND);
    store.ops->end(store.self, snapshot);
}

/*
 * Drains PARTITION; events whose number is a multiple of EVERY turn out to be repeats, and those
 * one beyond become dead letters.
 */
static uint64_t
drain_with_repeats(struct fixture *f, uint32_t partition, uint64_t every, size_t batches)
{
    static const struct slice_rules rules = {.threshold_us = {500000}, .threshold_count = 1};
    const struct journal *journal = f->log.journal;
    const struct batch_limits limits = {300, SIZE_MAX, UINT64_MAX};
    struct batch batch = {0};
    uint64_t repeats = 0;

    for (size_t n = 0; n < batches; n++) {
        uint64_t after = journal->ops->replicated_seq(journal->self, partition);
        enum err err = journal->ops->read(journal->self, partition, after, &limits, &batch);
        uint64_t found = 0;

        if (err == ERR_NOT_FOUND || err == ERR_AGAIN) {
            break;
        }
        ASSERT(err == ERR_OK);
        for (size_t i = 0; i < batch.count; i++) {
            if (event_number(&batch.events[i].event) % every == 0) {
                batch.events[i].outcome = OUTCOME_DUPLICATE;
                found++;
            } else if (event_number(&batch.events[i].event) % every == 1) {
                batch.events[i].outcome = OUTCOME_DEAD; /* stays counted */
            }
        }
        ASSERT(batch_fold(&batch, &rules) == ERR_OK);
        ASSERT(batch.removals.count == found);
        err = journal->ops->advance(journal->self, partition, batch.to_seq, &batch.delta,
                                    &batch.removals);
        ASSERT(err == ERR_OK);
        repeats += found;
    }
    batch_free(&batch);
    return repeats;
}

static void
what_the_sink_knew_already_leaves_the_counts_with_the_advance(void **state)
{
    struct fixture *f = *state;
    uint64_t removed = 0;

    start(f, false);
    fold(f);
    append(f, 1500);
    removed += drain_with_repeats(f, 0, 10, 2); /* before the fold */
    assert_int_equal(total(f), 1500 - removed);
    fold(f);
    assert_int_equal(total(f), 1500 - removed);
    removed += drain_with_repeats(f, 0, 10, 1); /* after it */
    removed += drain_with_repeats(f, 1, 10, 1);
    assert_true(removed > 0);
    assert_int_equal(total(f), 1500 - removed);
    stop(f);
    start(f, false);
    assert_int_equal(total(f), 1500 - removed);
    fold(f);
    assert_int_equal(total(f), 1500 - removed);
    removed += drain_with_repeats(f, 0, 10, 100) + drain_with_repeats(f, 1, 10, 100);
    fold(f);
    assert_int_equal(removed, 150);
    assert_int_equal(total(f), 1350);
}

/* ---- everything at once ---- */

enum {
    PRODUCERS = 3,
    REQUESTS = 150,
    READERS = 2,
};

struct hammer {
    struct fixture *f;
    _Atomic uint64_t next;
    _Atomic uint64_t sent;     /* events handed over */
    _Atomic uint64_t acked;    /* events answered */
    _Atomic uint64_t removing; /* events that advances may be taking out */
    _Atomic uint64_t removed;  /* events whose advance has returned */
    _Atomic uint64_t views;
    _Atomic uint64_t folds;
    atomic_bool stop;
};

static void *
produce(void *arg)
{
    struct hammer *hammer = arg;

    for (int i = 0; i < REQUESTS; i++) {
        uint32_t count = i % 5 == 0 ? 400 : 1 + (uint32_t)i % 7;
        uint64_t first = atomic_fetch_add(&hammer->next, count);

        atomic_fetch_add(&hammer->sent, count);
        ASSERT(wal_fixture_append(&hammer->f->log, first, count, 100) == ERR_OK);
        atomic_fetch_add(&hammer->acked, count);
    }
    return NULL;
}

/* The total lies between what was surely in and what can have been in, however the cut falls. */
static void *
query(void *arg)
{
    struct hammer *hammer = arg;

    while (!atomic_load(&hammer->stop)) {
        uint64_t acked = atomic_load(&hammer->acked);
        uint64_t removed = atomic_load(&hammer->removed);
        struct counts_view *view;
        struct counts_sum sum = {0};
        struct counts_sum parts = {0};
        uint64_t removing;
        uint64_t sent;

        ASSERT(counts_view_open(hammer->f->counts, &view) == ERR_OK);
        removing = atomic_load(&hammer->removing);
        sent = atomic_load(&hammer->sent);
        ASSERT(counts_view_sum(view, &TELEMETRY, INT64_MIN, INT64_MAX, &sum) == ERR_OK);
        ASSERT(sum.total + removing >= acked);
        ASSERT(sum.total + removed <= sent);
        for (int64_t at = 0; at < 600; at += 37) {
            int64_t end = at + 37 < 600 ? at + 37 : 600;

            ASSERT(counts_view_sum(view, &TELEMETRY, FIRST_US + at * 1000000,
                                   FIRST_US + end * 1000000, &parts) == ERR_OK);
        }
        ASSERT(parts.total == sum.total); /* one cut, however often it is asked */
        ASSERT(!counts_view_degraded(view));
        counts_sum_clear(&sum);
        counts_sum_clear(&parts);
        counts_view_close(view);
        atomic_fetch_add(&hammer->views, 1);
    }
    return NULL;
}

static void *
replicate(void *arg)
{
    struct hammer *hammer = arg;

    while (!atomic_load(&hammer->stop)) {
        for (uint32_t partition = 0; partition < 2; partition++) {
            /* At most the batch's 300 events in 50 or so are repeats. */
            uint64_t found;

            atomic_fetch_add(&hammer->removing, 300);
            found = drain_with_repeats(hammer->f, partition, 50, 1);
            atomic_fetch_add(&hammer->removed, found);
            atomic_fetch_sub(&hammer->removing, 300 - found);
        }
    }
    return NULL;
}

/* The engine's thread without its pauses. */
static void *
keep_folding(void *arg)
{
    struct hammer *hammer = arg;

    while (!atomic_load(&hammer->stop)) {
        ASSERT(counts_fold(hammer->f->counts, clock_wall_us(clock_system())) == ERR_OK);
        atomic_fetch_add(&hammer->folds, 1);
    }
    return NULL;
}

static void
every_view_counts_what_was_acked_once_while_everything_moves(void **state)
{
    struct fixture *f = *state;
    struct hammer hammer = {.f = f, .next = 1};
    pthread_t producers[PRODUCERS];
    pthread_t readers[READERS];
    pthread_t replicator;
    pthread_t folder;

    start(f, false);
    assert_int_equal(pthread_create(&folder, NULL, keep_folding, &hammer), 0);
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(pthread_create(&readers[i], NULL, query, &hammer), 0);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        assert_int_equal(pthread_create(&producers[i], NULL, produce, &hammer), 0);
    }
    assert_int_equal(pthread_create(&replicator, NULL, replicate, &hammer), 0);
    for (int i = 0; i < PRODUCERS; i++) {
        pthread_join(producers[i], NULL);
    }
    while (atomic_load(&hammer.views) < 20 || atomic_load(&hammer.folds) < 20) {
        sched_yield();
    }
    atomic_store(&hammer.stop, true);
    pthread_join(replicator, NULL);
    pthread_join(folder, NULL);
    for (int i = 0; i < READERS; i++) {
        pthread_join(readers[i], NULL);
    }
    assert_int_equal(total(f), atomic_load(&hammer.acked) - atomic_load(&hammer.removed));
    fold(f);
    assert_int_equal(total(f), atomic_load(&hammer.acked) - atomic_load(&hammer.removed));
    stop(f);
    start(f, true);
    assert_int_equal(total(f), atomic_load(&hammer.acked) - atomic_load(&hammer.removed));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(counts_survive_a_kill_before_and_after_a_fold),
        TEST(the_engine_notes_its_beginning_before_the_first_event),
        TEST(a_stop_leaves_nothing_to_be_read_again),
        TEST(a_log_of_an_older_build_opens_and_counts_from_there),
        TEST(what_is_not_counted_yet_is_not_trimmed),
        TEST(appends_are_refused_while_too_many_wait_to_be_counted),
        TEST(changes_are_made_only_while_the_log_runs),
        TEST(keys_are_found_in_order_and_values_checked),
        TEST(what_the_sink_knew_already_leaves_the_counts_with_the_advance),
        TEST(every_view_counts_what_was_acked_once_while_everything_moves),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
