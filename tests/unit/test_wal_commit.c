/* What the log promises while it runs: numbers, order of telling, duplicates, reads, waits, stop.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/log.h"
#include "tests/fakes/wal_fixture.h"
#include "wal/wal_internal.h"

static int
set_up(void **state)
{
    struct wal_fixture *fixture = malloc(sizeof(*fixture));

    assert_non_null(fixture);
    wal_fixture_init(fixture);
    *state = fixture;
    return 0;
}

static int
tear_down(void **state)
{
    wal_fixture_fini(*state);
    free(*state);
    return 0;
}

/* ---- sequence numbers ---- */

enum {
    APPENDERS = 4,
    REQUESTS_EACH = 60,
    EVENTS_EACH = 17
};

struct appender {
    struct wal_fixture *fixture;
    uint64_t first;
    uint64_t seqs[REQUESTS_EACH][EVENTS_EACH];
};

static void *
append_many(void *arg)
{
    struct appender *appender = arg;

    for (uint32_t r = 0; r < REQUESTS_EACH; r++) {
        struct request *request =
            request_new(appender->first + r * EVENTS_EACH, EVENTS_EACH, 100, r % 2 == 0);

        ASSERT(request_send(request, appender->fixture) == ERR_OK);
        ASSERT(request_wait(request) == ERR_OK);
        for (uint32_t i = 0; i < EVENTS_EACH; i++) {
            appender->seqs[r][i] = request->append.events[i].seq;
        }
        request_drop(request);
    }
    return NULL;
}

static void
appends_of_many_threads_get_numbers_without_a_gap(void **state)
{
    struct wal_fixture *fixture = *state;
    const uint64_t total = (uint64_t)APPENDERS * REQUESTS_EACH * EVENTS_EACH;
    struct appender *appenders = calloc(APPENDERS, sizeof(*appenders));
    bool *seen = calloc(total + 1, sizeof(*seen));
    pthread_t threads[APPENDERS];

    wal_fixture_start(fixture);
    for (size_t t = 0; t < APPENDERS; t++) {
        appenders[t].fixture = fixture;
        appenders[t].first = t * 1000000;
        assert_int_equal(pthread_create(&threads[t], NULL, append_many, &appenders[t]), 0);
    }
    for (size_t t = 0; t < APPENDERS; t++) {
        pthread_join(threads[t], NULL);
    }
    for (size_t t = 0; t < APPENDERS; t++) {
        for (size_t r = 0; r < REQUESTS_EACH; r++) {
            for (size_t i = 0; i < EVENTS_EACH; i++) {
                uint64_t seq = appenders[t].seqs[r][i];

                assert_in_range(seq, 1, total);
                assert_false(seen[seq]);
                seen[seq] = true;
                /* The events of one request lie side by side. */
                assert_true(i == 0 || seq == appenders[t].seqs[r][i - 1] + 1);
            }
        }
    }
    assert_int_equal(fixture->journal->ops->durable_seq(fixture->journal->self), total);
    assert_int_equal(wal_fixture_count(fixture, 0, 0) + wal_fixture_count(fixture, 1, 0), total);
    free(appenders);
    free(seen);
}

/* ---- who learns what, and when ---- */

struct observed {
    struct wal_fixture *fixture;
    uint64_t events;
    uint64_t last_seq;
    const struct request *request;
    bool early;
    bool late;
};

static void
observe(void *self, const struct append_event *event)
{
    struct observed *observed = self;
    const struct journal *journal = observed->fixture->journal;
    const struct batch_limits limits = {10, 1 << 20, UINT64_MAX};
    struct batch batch = {0};
    uint64_t durable = journal->ops->durable_seq(journal->self);

    ASSERT(!event->duplicate);
    observed->events++;
    observed->last_seq = event->seq;
    /* LMDB shows the record already; the journal must not, before the observer has returned. */
    if (durable >= event->seq ||
        journal->ops->read(journal->self, 0, event->seq - 1, &limits, &batch) != ERR_NOT_FOUND) {
        observed->early = true;
    }
    if (observed->request != NULL && observed->request->answered) {
        observed->late = true;
    }
    batch_free(&batch);
}

static void
the_observer_is_told_before_readers_and_before_the_answer(void **state)
{
    struct wal_fixture *fixture = *state;
    struct observed observed = {.fixture = fixture};
    struct request *request = request_new(1, 5, 0, true);

    fixture->config.observer = (struct journal_observer){observe, &observed};
    wal_fixture_start(fixture);
    observed.request = request;
    assert_int_equal(request_send(request, fixture), ERR_OK);
    assert_int_equal(request_wait(request), ERR_OK);
    assert_int_equal(observed.events, 5);
    assert_int_equal(observed.last_seq, 5);
    assert_false(observed.early);
    assert_false(observed.late);
    /* A repeat is no new event. */
    assert_int_equal(request_send(request, fixture), ERR_OK);
    assert_int_equal(request_wait(request), ERR_OK);
    assert_int_equal(observed.events, 5);
    request_drop(request);
}

static void
each_group_and_its_commit_are_measured(void **state)
{
    struct wal_fixture *fixture = *state;
    struct buffer text = BUFFER_EMPTY;

    wal_fixture_start(fixture);
    assert_int_equal(wal_fixture_append(fixture, 1, 3, 0), ERR_OK);
    assert_int_equal(wal_fixture_append(fixture, 4, 1, 0), ERR_OK);
    wal_stop(fixture->wal);
    metrics_sample_histogram(&text, "g", "", fixture->journal->group_events);
    buffer_append_char(&text, '\0');
    assert_non_null(strstr(text.data, "g_bucket{le=\"1\"} 1\n"));
    assert_non_null(strstr(text.data, "g_sum 4\n"));
    assert_non_null(strstr(text.data, "g_count 2\n"));
    buffer_free(&text);
    metrics_sample_histogram(&text, "c", "", fixture->journal->commit_seconds);
    buffer_append_char(&text, '\0');
    assert_non_null(strstr(text.data, "c_count 2\n"));
    buffer_free(&text);
}

/* ---- duplicates ---- */

static void
a_repeat_within_one_append_points_to_the_first(void **state)
{
    struct wal_fixture *fixture = *state;
    struct request *request = request_new(1, 4, 0, true);

    request_set_key(request, 2, 1); /* event 3 under the id of event 1: other content */
    request_set_key(request, 3, 2);
    request->append.events[3].content_crc = request->append.events[1].content_crc;
    wal_fixture_start(fixture);
    assert_int_equal(request_send(request, fixture), ERR_OK);
    assert_int_equal(request_wait(request), ERR_OK);
    assert_false(request->append.events[0].duplicate);
    assert_false(request->append.events[1].duplicate);
    assert_true(request->append.events[2].duplicate);
    assert_true(request->append.events[2].mismatch);
    assert_int_equal(request->append.events[2].seq, 1);
    assert_true(request->append.events[3].duplicate);
    assert_false(request->append.events[3].mismatch);
    assert_int_equal(request->append.events[3].seq, 2);
    assert_int_equal(fixture->journal->ops->durable_seq(fixture->journal->self), 2);
    request_drop(request);
}

static void
a_repeat_within_one_group_points_to_the_first(void **state)
{
    struct wal_fixture *fixture = *state;
    struct request *first = request_new(1, 2, 0, true);
    struct request *second = request_new(2, 2, 0, true);
    uint64_t queued;
    struct journal_stats stats;

    /* Both are waiting when the committer starts, so it takes them as one group. */
    wal_fixture_open(fixture);
    assert_int_equal(request_send(first, fixture), ERR_OK);
    assert_int_equal(request_send(second, fixture), ERR_OK);
    fixture->journal->ops->stats(fixture->journal->self, &stats);
    queued = stats.queued_events;
    assert_int_equal(queued, 4);
    assert_int_equal(wal_start(fixture->wal), ERR_OK);
    assert_int_equal(request_wait(first), ERR_OK);
    assert_int_equal(request_wait(second), ERR_OK);
    assert_int_equal(first->append.events[1].seq, 2);
    assert_true(second->append.events[0].duplicate);
    assert_false(second->append.events[0].mismatch);
    assert_int_equal(second->append.events[0].seq, 2);
    assert_int_equal(second->append.events[1].seq, 3);
    fixture->journal->ops->stats(fixture->journal->self, &stats);
    assert_int_equal(stats.queued_events, 0);
    request_drop(first);
    request_drop(second);
}

static void
an_append_of_nothing_but_repeats_stores_nothing(void **state)
{
    struct wal_fixture *fixture = *state;
    struct request *request = request_new(1, 3, 0, true);

    wal_fixture_start(fixture);
    assert_int_equal(wal_fixture_append(fixture, 1, 3, 0), ERR_OK);
    assert_int_equal(request_send(request, fixture), ERR_OK);
    assert_int_equal(request_wait(request), ERR_OK);
    for (uint64_t i = 0; i < 3; i++) {
        assert_true(request->append.events[i].duplicate);
        assert_int_equal(request->append.events[i].seq, i + 1);
    }
    assert_int_equal(wal_fixture_count(fixture, 0, 0), 3);
    request_drop(request);
}

static void
ids_the_server_made_are_not_looked_up(void **state)
{
    struct wal_fixture *fixture = *state;
    struct request *request = request_new(1, 3, 0, false);
    struct journal_stats stats;

    wal_fixture_start(fixture);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(request_send(request, fixture), ERR_OK);
        assert_int_equal(request_wait(request), ERR_OK);
        assert_false(request->append.events[0].duplicate);
    }
    fixture->journal->ops->stats(fixture->journal->self, &stats);
    assert_int_equal(stats.durable_seq, 6);
    assert_int_equal(stats.id_window_events, 0);
    request_drop(request);
}

static bool
is_known(struct wal_fixture *fixture, uint64_t number)
{
    struct request *request = request_new(number, 1, 0, true);
    bool duplicate;

    assert_int_equal(request_send(request, fixture), ERR_OK);
    assert_int_equal(request_wait(request), ERR_OK);
    duplicate = request->append.events[0].duplicate;
    request_drop(request);
    return duplicate;
}

static void
the_window_forgets_the_oldest_ids_first(void **state)
{
    struct wal_fixture *fixture = *state;
    struct journal_stats stats;

    fixture->config.id_window = 100;
    wal_fixture_start(fixture);
    assert_int_equal(wal_fixture_append(fixture, 1, 100, 0), ERR_OK);
    assert_true(is_known(fixture, 1));
    assert_int_equal(wal_fixture_append(fixture, 101, 1, 0), ERR_OK); /* pushes 1 out */
    assert_true(is_known(fixture, 2));
    assert_false(is_known(fixture, 1)); /* comes in again, pushes 2 out */
    assert_true(is_known(fixture, 1));
    assert_true(is_known(fixture, 3));
    assert_false(is_known(fixture, 2));
    fixture->journal->ops->stats(fixture->journal->self, &stats);
    assert_int_equal(stats.id_window_events, 100);
}

static void
a_group_larger_than_the_window_leaves_its_last_ids(void **state)
{
    struct wal_fixture *fixture = *state;

    fixture->config.id_window = 10;
    wal_fixture_start(fixture);
    assert_int_equal(wal_fixture_append(fixture, 1, 500, 0), ERR_OK);
    assert_true(is_known(fixture, 500));
    assert_true(is_known(fixture, 491));
    assert_false(is_known(fixture, 490));
}

/* ---- reading ---- */

static void
a_read_without_a_limit_gets_what_is_staged_too(void **state)
{
    struct wal_fixture *fixture = *state;
    const struct batch_limits limits = {SIZE_MAX, SIZE_MAX, UINT64_MAX};
    const struct journal *journal;
    struct batch batch = {0};

    wal_fixture_start(fixture);
    journal = fixture->journal;
    assert_int_equal(wal_fixture_append(fixture, 1, 10, 0), ERR_OK);
    assert_int_equal(wal_fixture_count(fixture, 0, 0), 10); /* LMDB has them now */
    assert_int_equal(wal_fixture_append(fixture, 11, 10, 0), ERR_OK);
    assert_int_equal(journal->ops->read(journal->self, 0, 5, &limits, &batch), ERR_OK);
    assert_int_equal(batch.count, 15);
    batch_free(&batch);
}

static void
partitions_are_read_in_stripes(void **state)
{
    struct wal_fixture *fixture = *state;
    const uint64_t total = 7 * JOURNAL_STRIPE + 100;

    fixture->config.partitions = 3;
    wal_fixture_start(fixture);
    for (uint64_t at = 0; at < total; at += 500) {
        uint64_t count = total - at < 500 ? total - at : 500;

        assert_int_equal(wal_fixture_append(fixture, at + 1, (uint32_t)count, 0), ERR_OK);
    }
    assert_int_equal(wal_fixture_count(fixture, 0, 0), 3 * JOURNAL_STRIPE);
    assert_int_equal(wal_fixture_count(fixture, 1, 0), 2 * JOURNAL_STRIPE + 100);
    assert_int_equal(wal_fixture_count(fixture, 2, 0), 2 * JOURNAL_STRIPE);
    /* From the middle of a stripe, and from another partition's number. */
    assert_int_equal(wal_fixture_count(fixture, 0, 500), 3 * JOURNAL_STRIPE - 500);
    assert_int_equal(wal_fixture_count(fixture, 0, 2000), 2 * JOURNAL_STRIPE);
    assert_int_equal(wal_fixture_count(fixture, 1, total), 0);
}

static void
sizes_from_tiny_to_many_pages_come_back_whole(void **state)
{
    struct wal_fixture *fixture = *state;
    static const size_t SIZES[] = {0, 300, 1000, 1998, 1999, 2022, 2100, 4096, 70000, 150};
    const struct journal *journal;
    struct batch batch = {0};
    uint64_t number = 1;

    wal_fixture_start(fixture);
    journal = fixture->journal;
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < ARRAY_LEN(SIZES); i++) {
            assert_int_equal(wal_fixture_append(fixture, number, 3, SIZES[i]), ERR_OK);
            number += 3;
        }
    }
    for (uint64_t seq = 1; seq < number; seq += batch.count) {
        const struct batch_limits limits = {seq % 7 + 1, SIZE_MAX, UINT64_MAX};

        assert_int_equal(journal->ops->read(journal->self, 0, seq - 1, &limits, &batch), ERR_OK);
        for (size_t i = 0; i < batch.count; i++) {
            size_t size = SIZES[(seq + i - 1) / 3 % ARRAY_LEN(SIZES)];

            assert_int_equal(batch.events[i].seq, seq + i);
            assert_int_equal(event_number(&batch.events[i].event), seq + i);
            assert_true(batch.events[i].body.len >= size);
            assert_int_equal(batch.events[i].outcome, OUTCOME_STORED);
        }
    }
    batch_free(&batch);
}

static void
a_batch_keeps_its_limits_and_gives_at_least_one(void **state)
{
    struct wal_fixture *fixture = *state;
    const struct journal *journal;
    struct batch batch = {0};
    struct batch_limits limits = {100, SIZE_MAX, UINT64_MAX};
    size_t body;

    wal_fixture_start(fixture);
    journal = fixture->journal;
    assert_int_equal(wal_fixture_append(fixture, 1, 10, 1000), ERR_OK);

    limits.events_max = 4;
    assert_int_equal(journal->ops->read(journal->self, 0, 0, &limits, &batch), ERR_OK);
    assert_int_equal(batch.count, 4);
    assert_int_equal(batch.after_seq, 0);
    assert_int_equal(batch.to_seq, 4);
    body = batch.events[0].body.len;

    limits = (struct batch_limits){100, 3 * body, UINT64_MAX};
    assert_int_equal(journal->ops->read(journal->self, 0, 0, &limits, &batch), ERR_OK);
    assert_int_equal(batch.count, 3);
    limits.bytes_max = 3 * body - 1;
    assert_int_equal(journal->ops->read(journal->self, 0, 0, &limits, &batch), ERR_OK);
    assert_int_equal(batch.count, 2);
    limits.bytes_max = 1;
    assert_int_equal(journal->ops->read(journal->self, 0, 0, &limits, &batch), ERR_OK);
    assert_int_equal(batch.count, 1);

    limits = (struct batch_limits){100, SIZE_MAX, 7};
    assert_int_equal(journal->ops->read(journal->self, 0, 2, &limits, &batch), ERR_OK);
    assert_int_equal(batch.count, 5);
    assert_int_equal(batch.to_seq, 7);
    assert_int_equal(journal->ops->read(journal->self, 0, 7, &limits, &batch), ERR_NOT_FOUND);
    assert_int_equal(batch.count, 0);
    assert_int_equal(journal->ops->read(journal->self, 1, 0, &limits, &batch), ERR_NOT_FOUND);
    batch_free(&batch);
}

struct reader {
    struct wal_fixture *fixture;
    uint32_t partition;
    uint64_t until;
    uint64_t moved;
};

static void *
read_along(void *arg)
{
    struct reader *reader = arg;
    const struct journal *journal = reader->fixture->journal;
    uint64_t mine = journal_partition_count(reader->until, reader->partition, journal->partitions);

    while (reader->moved < mine) {
        uint64_t after = journal->ops->replicated_seq(journal->self, reader->partition);

        ASSERT(journal->ops->wait_durable(journal->self, after + 1, -1) == ERR_OK);
        reader->moved += wal_fixture_drain(reader->fixture, reader->partition, 300, 10);
    }
    return NULL;
}

/* A read takes its snapshot while commits go on: what it is told to be durable must be in it. */
static void
readers_beside_appenders_miss_nothing(void **state)
{
    struct wal_fixture *fixture = *state;
    const uint64_t total = 6000;
    struct reader readers[2];
    pthread_t threads[2];

    wal_fixture_start(fixture);
    for (uint32_t p = 0; p < 2; p++) {
        readers[p] = (struct reader){fixture, p, total, 0};
        assert_int_equal(pthread_create(&threads[p], NULL, read_along, &readers[p]), 0);
    }
    for (uint64_t at = 1; at <= total; at += 10) {
        assert_int_equal(wal_fixture_append(fixture, at, 10, 0), ERR_OK);
    }
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    assert_int_equal(readers[0].moved + readers[1].moved, total);
    wal_fixture_close(fixture);
    wal_fixture_open(fixture);
    assert_int_equal(wal_fixture_stored_events(fixture), total);
    assert_int_equal(wal_fixture_pending_events(fixture), 0);
}

/* ---- waiting ---- */

static void
waiting_for_a_number_times_out_or_is_woken(void **state)
{
    struct wal_fixture *fixture = *state;
    const struct journal *journal;
    struct reader reader = {fixture, 0, 5, 0};
    pthread_t thread;

    wal_fixture_start(fixture);
    journal = fixture->journal;
    assert_int_equal(journal->ops->wait_durable(journal->self, 0, 0), ERR_OK);
    assert_int_equal(journal->ops->wait_durable(journal->self, 1, 0), ERR_TIMEOUT);
    assert_int_equal(journal->ops->wait_durable(journal->self, 1, 20), ERR_TIMEOUT);
    assert_int_equal(pthread_create(&thread, NULL, read_along, &reader), 0);
    for (uint64_t i = 1; i <= 5; i++) {
        assert_int_equal(wal_fixture_append(fixture, i, 1, 0), ERR_OK);
    }
    pthread_join(thread, NULL);
    assert_int_equal(journal->ops->wait_durable(journal->self, 5, 0), ERR_OK);
    assert_int_equal(journal->ops->wait_durable(journal->self, 6, 1), ERR_TIMEOUT);
}

static void *
wait_for_ever(void *arg)
{
    struct wal_fixture *fixture = arg;
    const struct journal *journal = fixture->journal;

    return journal->ops->wait_durable(journal->self, 1000000, -1) == ERR_CLOSED ? arg : NULL;
}

static void
a_stop_ends_every_wait(void **state)
{
    struct wal_fixture *fixture = *state;
    pthread_t threads[3];

    wal_fixture_start(fixture);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, wait_for_ever, fixture), 0);
    }
    wal_stop(fixture->wal);
    for (size_t i = 0; i < 3; i++) {
        void *result;

        pthread_join(threads[i], &result);
        assert_ptr_equal(result, fixture);
    }
}

/* ---- limits and stop ---- */

static void
the_queue_has_a_limit(void **state)
{
    struct wal_fixture *fixture = *state;
    struct request *huge = request_new(1, 20, 0, true);
    struct request *small = request_new(100, 1, 0, true);
    struct request *fitting = request_new(200, 9, 0, true);

    fixture->config.queue_events = 10;
    wal_fixture_open(fixture); /* nobody takes anything yet */
    assert_int_equal(request_send(small, fixture), ERR_OK);
    assert_int_equal(request_send(huge, fixture), ERR_AGAIN);
    assert_int_equal(request_send(fitting, fixture), ERR_OK);
    assert_int_equal(wal_start(fixture->wal), ERR_OK);
    assert_int_equal(request_wait(small), ERR_OK);
    assert_int_equal(request_wait(fitting), ERR_OK);
    /* A bulk larger than the whole queue enters when nothing else waits. */
    assert_int_equal(request_send(huge, fixture), ERR_OK);
    assert_int_equal(request_wait(huge), ERR_OK);
    request_drop(huge);
    request_drop(small);
    request_drop(fitting);
}

static void
a_stop_commits_what_was_taken_and_refuses_the_rest(void **state)
{
    struct wal_fixture *fixture = *state;
    struct slice_set nothing = {0};
    struct request *requests[50];
    struct request *late = request_new(9000, 1, 0, true);
    const struct journal *journal;

    wal_fixture_start(fixture);
    journal = fixture->journal;
    for (uint64_t i = 0; i < ARRAY_LEN(requests); i++) {
        requests[i] = request_new(1 + i * 10, 10, 0, true);
        assert_int_equal(request_send(requests[i], fixture), ERR_OK);
    }
    wal_stop(fixture->wal);
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        assert_true(requests[i]->answered);
        assert_int_equal(requests[i]->append.result, ERR_OK);
        request_drop(requests[i]);
    }
    assert_int_equal(request_send(late, fixture), ERR_CLOSED);
    assert_int_equal(journal->ops->advance(journal->self, 0, 5, &nothing, NULL), ERR_CLOSED);
    wal_stop(fixture->wal);
    wal_fixture_restart(fixture);
    assert_int_equal(fixture->journal->ops->durable_seq(fixture->journal->self), 500);
    request_drop(late);
}

/* A producer may be held up between its look at the state and its hand-over, for ever so long. */
static void
an_append_that_comes_after_the_committers_end_is_refused(void **state)
{
    struct wal_fixture *fixture = *state;
    struct request *request = request_new(1, 1, 0, true);
    struct journal_stats stats;

    wal_fixture_start(fixture);
    wal_stop(fixture->wal);
    atomic_store(&fixture->wal->stopping, false); /* as that producer saw it */
    assert_int_equal(request_send(request, fixture), ERR_CLOSED);
    assert_false(request->answered);
    fixture->journal->ops->stats(fixture->journal->self, &stats);
    assert_int_equal(stats.queued_events, 0);
    request_drop(request);
}

static void
a_log_that_never_started_answers_what_it_was_given(void **state)
{
    struct wal_fixture *fixture = *state;
    struct request *request = request_new(1, 1, 0, true);
    struct journal_stats stats;

    wal_fixture_open(fixture);
    assert_int_equal(request_send(request, fixture), ERR_OK);
    wal_stop(fixture->wal);
    assert_true(request->answered);
    assert_int_equal(request->append.result, ERR_CLOSED);
    assert_int_equal(request_send(request, fixture), ERR_CLOSED);
    fixture->journal->ops->stats(fixture->journal->self, &stats);
    assert_int_equal(stats.queued_events, 0);
    request_drop(request);
}

struct racer {
    struct wal_fixture *fixture;
    uint64_t first;
    uint64_t stored;
    bool advancing;
};

static void *
append_until_closed(void *arg)
{
    struct racer *racer = arg;

    for (uint64_t number = racer->first;; number++) {
        struct request *request = request_new(number, 1, 0, true);
        enum err err = request_send(request, racer->fixture);

        if (err == ERR_OK) {
            err = request_wait(request);
            ASSERT(err == ERR_OK);
            racer->stored++;
        }
        request_drop(request);
        if (err != ERR_OK) {
            ASSERT(err == ERR_CLOSED);
            return NULL;
        }
    }
}

static void *
advance_until_closed(void *arg)
{
    struct racer *racer = arg;
    const struct journal *journal = racer->fixture->journal;
    struct slice_set nothing = {0};
    uint64_t done = journal->ops->replicated_seq(journal->self, 0);

    for (;;) {
        uint64_t durable = journal->ops->durable_seq(journal->self);
        enum err err = ERR_OK;

        if (durable > done && durable <= JOURNAL_STRIPE) {
            err = journal->ops->advance(journal->self, 0, durable, &nothing, NULL);
            done = durable;
        } else {
            err = journal->ops->wait_durable(journal->self, durable + 1, 50);
        }
        if (err != ERR_OK && err != ERR_TIMEOUT) {
            ASSERT(err == ERR_CLOSED);
            return NULL;
        }
    }
}

/* Whoever races with the stop gets an answer, and what it was told is what is found afterwards. */
static void
a_stop_under_load_answers_everybody(void **state)
{
    struct wal_fixture *fixture = *state;

    for (uint64_t round = 0; round < 15; round++) {
        struct racer racers[4];
        pthread_t threads[4];
        uint64_t before;
        uint64_t stored = 0;

        wal_fixture_start(fixture);
        before = fixture->journal->ops->durable_seq(fixture->journal->self);
        for (size_t i = 0; i < 4; i++) {
            racers[i] = (struct racer){fixture, round * 1000000 + i * 100000, 0, i == 3};
            assert_int_equal(pthread_create(&threads[i], NULL,
                                            i == 3 ? advance_until_closed : append_until_closed,
                                            &racers[i]),
                             0);
        }
        usleep((useconds_t)(500 * round));
        wal_stop(fixture->wal);
        for (size_t i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
            stored += racers[i].stored;
        }
        wal_fixture_close(fixture);
        wal_fixture_open(fixture);
        assert_int_equal(fixture->journal->ops->durable_seq(fixture->journal->self),
                         before + stored);
        wal_fixture_close(fixture);
    }
}

static void
groups_are_bounded_but_everything_gets_in(void **state)
{
    struct wal_fixture *fixture = *state;
    struct request *requests[6];

    fixture->config.queue_events = 100000;
    wal_fixture_open(fixture);
    for (uint64_t i = 0; i < 6; i++) {
        requests[i] = request_new(1 + i * 10000, 10000, 0, true);
        assert_int_equal(request_send(requests[i], fixture), ERR_OK);
    }
    assert_int_equal(wal_start(fixture->wal), ERR_OK);
    for (uint64_t i = 0; i < 6; i++) {
        assert_int_equal(request_wait(requests[i]), ERR_OK);
        /* First come, first numbered. */
        assert_int_equal(requests[i]->append.events[0].seq, 1 + i * 10000);
        request_drop(requests[i]);
    }
    assert_int_equal(wal_fixture_count(fixture, 0, 0) + wal_fixture_count(fixture, 1, 0), 60000);
}

static void
statistics_follow_the_log(void **state)
{
    struct wal_fixture *fixture = *state;
    const struct journal *journal;
    struct journal_stats stats;

    wal_fixture_start(fixture);
    journal = fixture->journal;
    journal->ops->stats(journal->self, &stats);
    assert_int_equal(stats.durable_seq, 0);
    assert_int_equal(stats.oldest_seq, 0);
    assert_int_equal(stats.pending_events, 0);
    assert_int_equal(stats.oldest_pending_us, 0);
    assert_int_equal(stats.bytes_limit, 64 << 20);
    assert_false(stats.full);
    assert_false(stats.failed);

    assert_int_equal(wal_fixture_append(fixture, 1, 3000, 0), ERR_OK);
    journal->ops->stats(journal->self, &stats);
    assert_int_equal(stats.durable_seq, 3000);
    assert_int_equal(stats.oldest_seq, 1);
    assert_int_equal(stats.pending_events, 3000);
    assert_int_equal(stats.oldest_pending_us, INT64_C(1700000000000001));
    assert_int_equal(stats.id_window_events, 3000);
    assert_in_range(stats.bytes, 3000 * 138, 3000 * 200);

    assert_int_equal(wal_fixture_drain(fixture, 0, 100, 2), 200);
    journal->ops->stats(journal->self, &stats);
    assert_int_equal(stats.pending_events, 2800);
    assert_int_equal(stats.oldest_pending_us, INT64_C(1700000000000201));
    /* The other partition is ahead: the oldest pending record stays where it is. */
    wal_fixture_drain(fixture, 1, 5000, 1);
    journal->ops->stats(journal->self, &stats);
    assert_int_equal(stats.pending_events, 2800 - 1024);
    assert_int_equal(stats.oldest_pending_us, INT64_C(1700000000000201));
    wal_fixture_drain_all(fixture);
    journal->ops->stats(journal->self, &stats);
    assert_int_equal(stats.pending_events, 0);
    assert_int_equal(stats.oldest_pending_us, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(appends_of_many_threads_get_numbers_without_a_gap),
        TEST(the_observer_is_told_before_readers_and_before_the_answer),
        TEST(each_group_and_its_commit_are_measured),
        TEST(a_repeat_within_one_append_points_to_the_first),
        TEST(a_repeat_within_one_group_points_to_the_first),
        TEST(an_append_of_nothing_but_repeats_stores_nothing),
        TEST(ids_the_server_made_are_not_looked_up),
        TEST(the_window_forgets_the_oldest_ids_first),
        TEST(a_group_larger_than_the_window_leaves_its_last_ids),
        TEST(a_read_without_a_limit_gets_what_is_staged_too),
        TEST(partitions_are_read_in_stripes),
        TEST(sizes_from_tiny_to_many_pages_come_back_whole),
        TEST(a_batch_keeps_its_limits_and_gives_at_least_one),
        TEST(readers_beside_appenders_miss_nothing),
        TEST(waiting_for_a_number_times_out_or_is_woken),
        TEST(a_stop_ends_every_wait),
        TEST(the_queue_has_a_limit),
        TEST(a_stop_commits_what_was_taken_and_refuses_the_rest),
        TEST(an_append_that_comes_after_the_committers_end_is_refused),
        TEST(a_log_that_never_started_answers_what_it_was_given),
        TEST(a_stop_under_load_answers_everybody),
        TEST(groups_are_bounded_but_everything_gets_in),
        TEST(statistics_follow_the_log),
    };

    log_setup(LOG_ERROR, LOG_TEXT, 2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
