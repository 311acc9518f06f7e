/*
 * test_journal_contract.c - what journal.h promises, asked of every journal there is.
 *
 * A factory opens, restarts and closes one kind; each test runs once per factory. A journal beside
 * these two is one factory more.
 */
#include "core/journal.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/log.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_journal.h"
#include "wal/wal.h"

enum {
    PARTITIONS = 2,
    ID_WINDOW = 1000,
    QUEUE_EVENTS = 4096,
};
static const int64_t NOW_US = INT64_C(1700000000) * 1000000;

/* ---- factories ---- */

struct subject;

struct factory {
    void (*open)(struct subject *subject);    /* a new, empty journal, started */
    void (*restart)(struct subject *subject); /* stopped, opened again, started */
    void (*stop)(struct subject *subject);    /* refuses appends from here on */
    void (*close)(struct subject *subject);
};

struct subject {
    const struct factory *factory;
    struct journal *journal;
    struct journal_observer observer;
    _Atomic uint64_t observed;
    _Atomic bool observed_early; /* the watermark was already there */
    struct fake_clock clock;
    struct fake_journal *fake;
    struct wal *wal;
    char dir[256];
};

static void
fake_open(struct subject *subject)
{
    subject->fake = fake_journal_new(&(struct fake_journal_config){
        .partitions = PARTITIONS,
        .queue_events = QUEUE_EVENTS,
        .id_window = ID_WINDOW,
        .observer = subject->observer,
    });
    subject->journal = fake_journal_port(subject->fake);
    fake_journal_start(subject->fake);
}

static void
fake_restart(struct subject *subject)
{
    fake_journal_stop(subject->fake);
    fake_journal_restart(subject->fake);
    fake_journal_start(subject->fake);
}

static void
fake_stop(struct subject *subject)
{
    fake_journal_stop(subject->fake);
}

static void
fake_close(struct subject *subject)
{
    fake_journal_free(subject->fake);
}

static void
start_wal(struct subject *subject)
{
    const struct wal_config config = {
        .dir = subject->dir,
        .bytes_max = 64 << 20,
        .retain_bytes = 1 << 20,
        .partitions = PARTITIONS,
        .queue_events = QUEUE_EVENTS,
        .id_window = ID_WINDOW,
        .clock = &subject->clock.port,
        .observer = subject->observer,
    };

    assert_int_equal(wal_open(&subject->wal, &config), ERR_OK);
    subject->journal = wal_journal(subject->wal);
    assert_int_equal(wal_start(subject->wal), ERR_OK);
}

static void
lmdb_open(struct subject *subject)
{
    const char *base = getenv("TMPDIR");

    (void)snprintf(subject->dir, sizeof(subject->dir), "%s/contract.XXXXXX",
                   base == NULL ? "/tmp" : base);
    assert_non_null(mkdtemp(subject->dir));
    start_wal(subject);
}

static void
lmdb_restart(struct subject *subject)
{
    wal_close(subject->wal);
    start_wal(subject);
}

static void
lmdb_stop(struct subject *subject)
{
    wal_stop(subject->wal);
}

static void
lmdb_close(struct subject *subject)
{
    const char *const files[] = {"data.mdb", "lock.mdb", "sluice.lock"};

    wal_close(subject->wal);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char path[320];

        (void)snprintf(path, sizeof(path), "%s/%s", subject->dir, files[i]);
        (void)unlink(path);
    }
    (void)rmdir(subject->dir);
}

static const struct factory IN_MEMORY = {fake_open, fake_restart, fake_stop, fake_close};
static const struct factory ON_LMDB = {lmdb_open, lmdb_restart, lmdb_stop, lmdb_close};

static uint64_t
durable_seq(const struct subject *subject)
{
    return subject->journal->ops->durable_seq(subject->journal->self);
}

static void
on_durable(void *self, const struct append_event *event)
{
    struct subject *subject = self;

    atomic_fetch_add(&subject->observed, 1);
    /* Not before subject->journal is known: records are observed after open() only. */
    if (durable_seq(subject) >= event->seq) {
        atomic_store(&subject->observed_early, true);
    }
}

static struct subject *
subject_new(const struct factory *factory)
{
    struct subject *subject = calloc(1, sizeof(*subject));

    assert_non_null(subject);
    subject->factory = factory;
    subject->observer = (struct journal_observer){on_durable, subject};
    fake_clock_init(&subject->clock, NOW_US);
    factory->open(subject);
    return subject;
}

static void
subject_free(struct subject *subject)
{
    subject->factory->close(subject);
    free(subject);
}

/* ---- appending ---- */

struct request {
    struct append append;
    struct append_event *events;
    struct buffer bytes;
    struct subject *subject;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int done; /* calls of done() */
    uint64_t durable_at_done;
};

static void
request_done(struct append *append)
{
    struct request *request = append->owner;

    (void)pthread_mutex_lock(&request->mutex);
    request->done++;
    request->durable_at_done = durable_seq(request->subject);
    (void)pthread_cond_signal(&request->changed);
    (void)pthread_mutex_unlock(&request->mutex);
}

/* COUNT events; number FIRST + i is in each one's name. */
static struct request *
request_new(struct subject *subject, uint32_t count, uint64_t first)
{
    struct request *request = calloc(1, sizeof(*request));
    size_t *ends = calloc(count, sizeof(*ends));

    assert_non_null(request);
    assert_non_null(ends);
    request->subject = subject;
    request->events = calloc(count, sizeof(*request->events));
    assert_non_null(request->events);
    (void)pthread_mutex_init(&request->mutex, NULL);
    (void)pthread_cond_init(&request->changed, NULL);
    for (uint32_t i = 0; i < count; i++) {
        char name[32];
        struct event event = {
            .shape = EVENT_GENERIC,
            .occurred_at_us = NOW_US,
            .created_at_us = NOW_US + (int64_t)(first + i),
            .tenant = SPAN_LITERAL("acme"),
            .id = SPAN_LITERAL("id"),
        };

        (void)snprintf(name, sizeof(name), "event-%llu", (unsigned long long)first + i);
        event.name = span_of(name);
        event_encode(&event, &request->bytes);
        ends[i] = request->bytes.len;
    }
    assert_false(request->bytes.failed);
    for (uint32_t i = 0; i < count; i++) {
        size_t start = i == 0 ? 0 : ends[i - 1];

        request->events[i].body = (struct span){request->bytes.data + start, ends[i] - start};
    }
    free(ends);
    request->append = (struct append){.events = request->events,
                                      .count = count,
                                      .body_bytes = request->bytes.len,
                                      .done = request_done,
                                      .owner = request};
    return request;
}

static void
request_free(struct request *request)
{
    (void)pthread_cond_destroy(&request->changed);
    (void)pthread_mutex_destroy(&request->mutex);
    buffer_free(&request->bytes);
    free(request->events);
    free(request);
}

static void
set_key(struct append_event *event, const char *id, uint32_t content_crc)
{
    event->has_key = true;
    event_key(SPAN_LITERAL("acme"), span_of(id), event->key);
    event->content_crc = content_crc;
}

static void
send_request(struct request *request)
{
    struct journal *journal = request->subject->journal;

    assert_int_equal(journal->ops->append(journal->self, &request->append), ERR_OK);
    journal->ops->kick(journal->self);
}

static void
wait_request(struct request *request)
{
    (void)pthread_mutex_lock(&request->mutex);
    while (request->done == 0) {
        (void)pthread_cond_wait(&request->changed, &request->mutex);
    }
    (void)pthread_mutex_unlock(&request->mutex);
    assert_int_equal(request->append.result, ERR_OK);
}

/* Puts COUNT plain events in, in requests of up to 500. */
static void
put(struct subject *subject, uint64_t count)
{
    while (count > 0) {
        uint32_t some = count < 500 ? (uint32_t)count : 500;
        struct request *request = request_new(subject, some, durable_seq(subject) + 1);

        send_request(request);
        wait_request(request);
        request_free(request);
        count -= some;
    }
}

/* ---- numbers and answers ---- */

static void
sequence_numbers_are_gap_free_from_one_and_go_on_after_a_restart(void **state)
{
    struct subject *subject = subject_new(*state);
    uint64_t expected = 1;

    assert_int_equal(durable_seq(subject), 0);
    for (int round = 0; round < 3; round++) {
        struct request *request = request_new(subject, 7, expected);

        send_request(request);
        wait_request(request);
        for (uint32_t i = 0; i < 7; i++) {
            assert_int_equal(request->events[i].seq, expected++);
            assert_false(request->events[i].duplicate);
        }
        request_free(request);
        subject->factory->restart(subject);
        assert_int_equal(durable_seq(subject), expected - 1);
    }
    subject_free(subject);
}

static void
every_start_has_a_higher_epoch_and_the_same_node(void **state)
{
    struct subject *subject = subject_new(*state);
    uint64_t epoch = subject->journal->epoch;
    uint8_t node_id[JOURNAL_NODE_ID_SIZE];

    memcpy(node_id, subject->journal->node_id, sizeof(node_id));
    assert_true(epoch > 0);
    subject->factory->restart(subject);
    assert_true(subject->journal->epoch > epoch);
    assert_memory_equal(subject->journal->node_id, node_id, sizeof(node_id));
    subject_free(subject);
}

static void
an_answer_comes_once_after_the_observer_and_the_watermark(void **state)
{
    struct subject *subject = subject_new(*state);
    struct request *request = request_new(subject, 5, 1);

    send_request(request);
    wait_request(request);
    assert_int_equal(subject->observed, 5);
    assert_false(subject->observed_early);
    assert_true(request->durable_at_done >= 5);
    put(subject, 10);
    subject->factory->stop(subject);
    assert_int_equal(request->done, 1);
    request_free(request);
    subject_free(subject);
}

enum {
    WRITERS = 4,
    WRITES = 50
};

struct writer {
    struct subject *subject;
    pthread_t thread;
    struct request *request[WRITES];
};

static void *
write_all(void *arg)
{
    struct writer *writer = arg;

    for (int i = 0; i < WRITES; i++) {
        send_request(writer->request[i]);
        if (i % 8 == 7) {
            wait_request(writer->request[i]);
        }
    }
    return NULL;
}

static void
requests_of_many_threads_each_get_a_run_of_numbers_of_their_own(void **state)
{
    struct subject *subject = subject_new(*state);
    struct writer writer[WRITERS];
    static const uint32_t total = WRITERS * WRITES * 3;
    bool *seen = calloc(total + 1, sizeof(*seen));

    assert_non_null(seen);
    for (int w = 0; w < WRITERS; w++) {
        writer[w].subject = subject;
        for (int i = 0; i < WRITES; i++) {
            writer[w].request[i] = request_new(subject, 3, 1);
        }
        assert_int_equal(pthread_create(&writer[w].thread, NULL, write_all, &writer[w]), 0);
    }
    for (int w = 0; w < WRITERS; w++) {
        uint64_t last = 0;

        assert_int_equal(pthread_join(writer[w].thread, NULL), 0);
        for (int i = 0; i < WRITES; i++) {
            const struct append_event *events = writer[w].request[i]->events;

            wait_request(writer[w].request[i]);
            assert_true(events[0].seq > last); /* a thread's requests stay in order */
            last = events[2].seq;
            for (uint32_t e = 0; e < 3; e++) {
                assert_int_equal(events[e].seq, events[0].seq + e);
                assert_in_range(events[e].seq, 1, total);
                assert_false(seen[events[e].seq]);
                seen[events[e].seq] = true;
            }
            request_free(writer[w].request[i]);
        }
    }
    assert_int_equal(durable_seq(subject), total);
    free(seen);
    subject_free(subject);
}

static void
repeats_are_answered_with_the_first_number_and_not_stored(void **state)
{
    struct subject *subject = subject_new(*state);
    struct request *request = request_new(subject, 4, 1);

    set_key(&request->events[0], "a", 1);
    set_key(&request->events[1], "b", 1);
    set_key(&request->events[2], "a", 1); /* within a request */
    send_request(request);
    wait_request(request);
    assert_false(request->events[0].duplicate);
    assert_true(request->events[2].duplicate);
    assert_false(request->events[2].mismatch);
    assert_int_equal(request->events[2].seq, 1);
    assert_int_equal(request->events[3].seq, 3);
    request_free(request);
    for (int round = 0; round < 2; round++) {
        uint64_t observed = subject->observed;

        request = request_new(subject, 2, 1);
        set_key(&request->events[0], "b", 1);
        set_key(&request->events[1], "a", 2); /* same id, other content */
        send_request(request);
        wait_request(request);
        assert_true(request->events[0].duplicate);
        assert_false(request->events[0].mismatch);
        assert_int_equal(request->events[0].seq, 2);
        assert_true(request->events[1].duplicate);
        assert_true(request->events[1].mismatch);
        assert_int_equal(request->events[1].seq, 1);
        assert_int_equal(durable_seq(subject), 3);
        assert_int_equal(subject->observed, observed);
        request_free(request);
        subject->factory->restart(subject); /* the second round asks a new process */
    }
    subject_free(subject);
}

static void
events_without_a_key_are_never_repeats(void **state)
{
    struct subject *subject = subject_new(*state);
    struct request *request = request_new(subject, 2, 1);

    request->events[0].content_crc = request->events[1].content_crc = 9;
    send_request(request);
    wait_request(request);
    assert_false(request->events[1].duplicate);
    assert_int_equal(durable_seq(subject), 2);
    request_free(request);
    subject_free(subject);
}

static void
a_stopped_journal_refuses_and_the_caller_keeps_the_append(void **state)
{
    struct subject *subject = subject_new(*state);
    struct request *request = request_new(subject, 1, 1);
    struct journal *journal = subject->journal;

    subject->factory->stop(subject);
    assert_int_equal(journal->ops->append(journal->self, &request->append), ERR_CLOSED);
    assert_int_equal(request->done, 0);
    request_free(request);
    subject_free(subject);
}

static void
a_request_larger_than_the_queue_is_let_in_when_nothing_waits(void **state)
{
    struct subject *subject = subject_new(*state);
    struct request *request = request_new(subject, QUEUE_EVENTS + 1, 1);

    send_request(request);
    wait_request(request);
    assert_int_equal(durable_seq(subject), QUEUE_EVENTS + 1);
    request_free(request);
    subject_free(subject);
}

static void
what_was_handed_over_before_a_stop_is_durable_after_it(void **state)
{
    struct subject *subject = subject_new(*state);
    struct request *request = request_new(subject, 20, 1);

    send_request(request);
    subject->factory->stop(subject);
    assert_int_equal(request->done, 1);
    assert_int_equal(request->append.result, ERR_OK);
    assert_int_equal(durable_seq(subject), 20);
    request_free(request);
    subject_free(subject);
}

/* ---- waiting ---- */

static enum err
wait_for(struct subject *subject, uint64_t seq, int timeout_ms)
{
    return subject->journal->ops->wait_durable(subject->journal->self, seq, timeout_ms);
}

struct waiter {
    struct subject *subject;
    pthread_t thread;
    uint64_t seq;
    enum err err;
};

static void *
wait_without_limit(void *arg)
{
    struct waiter *waiter = arg;

    waiter->err = wait_for(waiter->subject, waiter->seq, -1);
    return NULL;
}

static void
waits_end_with_the_number_the_time_or_the_journal(void **state)
{
    struct subject *subject = subject_new(*state);
    struct waiter waiter = {.subject = subject, .seq = 7, .err = ERR_TIMEOUT};

    put(subject, 3);
    assert_int_equal(wait_for(subject, 0, 0), ERR_OK);
    assert_int_equal(wait_for(subject, 3, 0), ERR_OK);
    assert_int_equal(wait_for(subject, 4, 0), ERR_TIMEOUT);
    assert_int_equal(wait_for(subject, 4, 5), ERR_TIMEOUT);

    assert_int_equal(pthread_create(&waiter.thread, NULL, wait_without_limit, &waiter), 0);
    put(subject, 2);
    put(subject, 2);
    assert_int_equal(pthread_join(waiter.thread, NULL), 0);
    assert_int_equal(waiter.err, ERR_OK);

    waiter.seq = 8;
    assert_int_equal(pthread_create(&waiter.thread, NULL, wait_without_limit, &waiter), 0);
    subject->factory->stop(subject);
    assert_int_equal(pthread_join(waiter.thread, NULL), 0);
    assert_int_equal(waiter.err, ERR_CLOSED);
    assert_int_equal(wait_for(subject, 7, -1), ERR_OK);
    subject_free(subject);
}

/* ---- reading ---- */

static enum err
read_some(struct subject *subject, uint32_t partition, uint64_t after_seq,
          struct batch_limits limits, struct batch *out)
{
    return subject->journal->ops->read(subject->journal->self, partition, after_seq, &limits, out);
}

static const struct batch_limits NO_LIMITS = {SIZE_MAX, SIZE_MAX, UINT64_MAX};

/* Reads PARTITION in batches of at most EVENTS_MAX and checks every record; returns how many. */
static uint64_t
read_all(struct subject *subject, uint32_t partition, size_t events_max)
{
    const struct batch_limits limits = {events_max, SIZE_MAX, UINT64_MAX};
    struct batch batch = {0};
    uint64_t after = 0;
    uint64_t count = 0;
    enum err err = ERR_OK;

    while ((err = read_some(subject, partition, after, limits, &batch)) == ERR_OK) {
        assert_int_equal(batch.partition, partition);
        assert_int_equal(batch.after_seq, after);
        assert_in_range(batch.count, 1, events_max);
        for (size_t i = 0; i < batch.count; i++) {
            const struct batch_event *item = &batch.events[i];
            char name[32];

            (void)snprintf(name, sizeof(name), "event-%llu", (unsigned long long)item->seq);
            assert_true(item->seq > after);
            assert_int_equal(journal_partition_of(item->seq, PARTITIONS), partition);
            assert_true(span_is(item->event.name, name));
            assert_int_equal(item->outcome, OUTCOME_STORED);
            after = item->seq;
        }
        assert_true(batch.to_seq >= after);
        after = batch.to_seq;
        count += batch.count;
    }
    assert_int_equal(err, ERR_NOT_FOUND);
    batch_free(&batch);
    return count;
}

static void
each_partition_reads_all_of_its_stripes_and_no_other(void **state)
{
    struct subject *subject = subject_new(*state);
    const uint64_t total = 3 * JOURNAL_STRIPE + 100;

    put(subject, total);
    for (int round = 0; round < 2; round++) {
        for (uint32_t p = 0; p < PARTITIONS; p++) {
            assert_int_equal(read_all(subject, p, 700),
                             journal_partition_count(total, p, PARTITIONS));
        }
        assert_int_equal(read_all(subject, 0, 1000000),
                         journal_partition_count(total, 0, PARTITIONS));
        subject->factory->restart(subject);
    }
    subject_free(subject);
}

static void
a_read_keeps_to_its_limits_and_gives_at_least_one(void **state)
{
    struct subject *subject = subject_new(*state);
    struct batch batch = {0};

    assert_int_equal(read_some(subject, 0, 0, NO_LIMITS, &batch), ERR_NOT_FOUND);
    put(subject, 50);
    assert_int_equal(
        read_some(subject, 0, 10, (struct batch_limits){7, SIZE_MAX, UINT64_MAX}, &batch), ERR_OK);
    assert_int_equal(batch.count, 7);
    assert_int_equal(batch.events[0].seq, 11);
    assert_int_equal(batch.to_seq, 17);
    assert_int_equal(
        read_some(subject, 0, 10, (struct batch_limits){SIZE_MAX, 1, UINT64_MAX}, &batch), ERR_OK);
    assert_int_equal(batch.count, 1);
    assert_int_equal(
        read_some(subject, 0, 10, (struct batch_limits){SIZE_MAX, SIZE_MAX, 20}, &batch), ERR_OK);
    assert_int_equal(batch.count, 10);
    assert_int_equal(batch.to_seq, 20);
    assert_int_equal(
        read_some(subject, 0, 20, (struct batch_limits){SIZE_MAX, SIZE_MAX, 20}, &batch),
        ERR_NOT_FOUND);
    assert_int_equal(read_some(subject, 0, 50, NO_LIMITS, &batch), ERR_NOT_FOUND);
    assert_int_equal(read_some(subject, 1, 0, NO_LIMITS, &batch), ERR_NOT_FOUND);
    batch_free(&batch);
    subject_free(subject);
}

/* ---- scans ---- */

struct seen {
    uint64_t count;
    uint64_t last;
    uint64_t behind; /* of those left out by after, how many came all the same */
    const uint64_t *after;
    uint64_t fail_at;
};

static enum err
see_record(void *arg, uint64_t seq, const struct event *event)
{
    struct seen *seen = arg;
    char name[32];

    (void)snprintf(name, sizeof(name), "event-%llu", (unsigned long long)seq);
    assert_true(span_is(event->name, name));
    assert_true(seq > seen->last);
    if (seen->after != NULL && seq <= seen->after[journal_partition_of(seq, PARTITIONS)]) {
        seen->behind++;
    }
    if (seq == seen->fail_at) {
        return ERR_TOO_BIG;
    }
    seen->last = seq;
    seen->count++;
    return ERR_OK;
}

static void
scan_all(struct subject *subject, struct journal_scan scan, struct seen *seen)
{
    struct journal_scanned scanned = {.next_seq = scan.from_seq};

    seen->after = scan.after;
    while (!scanned.done) {
        const uint64_t before = seen->count;

        scan.from_seq = scanned.next_seq;
        assert_int_equal(
            subject->journal->ops->scan(subject->journal->self, &scan, see_record, seen, &scanned),
            ERR_OK);
        assert_int_equal(scanned.damaged, 0);
        assert_true(seen->count - before <= scan.records_max);
        assert_true(scanned.done || seen->count > before);
    }
}

static void
a_scan_gives_every_record_that_is_not_left_out_in_order(void **state)
{
    struct subject *subject = subject_new(*state);
    const uint64_t total = 3 * JOURNAL_STRIPE + 100;
    const uint64_t after[][PARTITIONS] = {
        {0, 0},
        {7, 0},
        {JOURNAL_STRIPE, JOURNAL_STRIPE + 9},
        {0, 3 * JOURNAL_STRIPE + 40}, /* beyond its own last record */
        {2 * JOURNAL_STRIPE + 5, 0},
        {total, total},
    };

    scan_all(subject, (struct journal_scan){1, NULL, 100}, &(struct seen){0});
    put(subject, total);
    for (int round = 0; round < 2; round++) {
        const uint32_t steps[] = {1, 333, UINT32_MAX};

        for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
            struct seen seen = {0};

            scan_all(subject, (struct journal_scan){1, NULL, steps[i]}, &seen);
            assert_int_equal(seen.count, total);
            seen = (struct seen){0};
            scan_all(subject, (struct journal_scan){total - 41, NULL, steps[i]}, &seen);
            assert_int_equal(seen.count, 42);
        }
        for (size_t i = 0; i < ARRAY_LEN(after); i++) {
            struct seen seen = {0};
            uint64_t expected = total;

            for (uint32_t p = 0; p < PARTITIONS; p++) {
                expected -= journal_partition_count(after[i][p], p, PARTITIONS);
            }
            scan_all(subject, (struct journal_scan){1, after[i], 500}, &seen);
            assert_int_equal(seen.behind, 0);
            assert_int_equal(seen.count, expected);
        }
        subject->factory->restart(subject);
    }
    subject_free(subject);
}

static void
a_scan_ends_with_the_readers_first_error(void **state)
{
    struct subject *subject = subject_new(*state);
    const struct journal_scan scan = {1, NULL, 100};
    struct journal_scanned scanned = {.next_seq = 77};
    struct seen seen = {.fail_at = 5};

    put(subject, 10);
    assert_int_equal(
        subject->journal->ops->scan(subject->journal->self, &scan, see_record, &seen, &scanned),
        ERR_TOO_BIG);
    assert_int_equal(seen.count, 4);
    assert_int_equal(scanned.next_seq, 77);
    subject_free(subject);
}

/* ---- notes ---- */

static void
notes_move_one_partition_count_as_replicated_and_survive_a_restart(void **state)
{
    struct subject *subject = subject_new(*state);
    const struct slice_set nothing = {0};
    struct journal_stats stats;

    put(subject, JOURNAL_STRIPE + 10);
    for (uint64_t to = 100; to <= 300; to += 100) {
        const struct journal *journal = subject->journal;

        assert_int_equal(journal->ops->advance(journal->self, 0, to, &nothing, NULL), ERR_OK);
        assert_int_equal(journal->ops->replicated_seq(journal->self, 0), to);
        assert_int_equal(journal->ops->replicated_seq(journal->self, 1), 0);
        journal->ops->stats(journal->self, &stats);
        assert_int_equal(stats.durable_seq, JOURNAL_STRIPE + 10);
        assert_int_equal(stats.pending_events, JOURNAL_STRIPE + 10 - to);
        assert_int_equal(stats.oldest_pending_us, NOW_US + (int64_t)to + 1);
        assert_in_range(stats.oldest_seq, 1, to + 1);
        assert_false(stats.full);
        assert_false(stats.failed);
        subject->factory->restart(subject);
        assert_int_equal(subject->journal->ops->replicated_seq(subject->journal->self, 0), to);
    }
    assert_int_equal(subject->journal->ops->advance(subject->journal->self, 1, JOURNAL_STRIPE + 10,
                                                    &nothing, NULL),
                     ERR_OK);
    assert_int_equal(subject->journal->ops->advance(subject->journal->self, 0, JOURNAL_STRIPE + 5,
                                                    &nothing, NULL),
                     ERR_OK); /* past the partition's own last number */
    subject->journal->ops->stats(subject->journal->self, &stats);
    assert_int_equal(stats.pending_events, 0);
    assert_int_equal(stats.oldest_pending_us, 0);
    subject_free(subject);
}

static void
keys_are_counted_in_the_window(void **state)
{
    struct subject *subject = subject_new(*state);
    struct request *request = request_new(subject, 3, 1);
    struct journal_stats stats;

    set_key(&request->events[0], "a", 1);
    set_key(&request->events[2], "c", 1);
    send_request(request);
    wait_request(request);
    subject->journal->ops->stats(subject->journal->self, &stats);
    assert_int_equal(stats.id_window_events, 2);
    request_free(request);
    subject_free(subject);
}

#define CONTRACT(X)                                                                                \
    X(sequence_numbers_are_gap_free_from_one_and_go_on_after_a_restart)                            \
    X(every_start_has_a_higher_epoch_and_the_same_node)                                            \
    X(an_answer_comes_once_after_the_observer_and_the_watermark)                                   \
    X(requests_of_many_threads_each_get_a_run_of_numbers_of_their_own)                             \
    X(repeats_are_answered_with_the_first_number_and_not_stored)                                   \
    X(events_without_a_key_are_never_repeats)                                                      \
    X(a_stopped_journal_refuses_and_the_caller_keeps_the_append)                                   \
    X(a_request_larger_than_the_queue_is_let_in_when_nothing_waits)                                \
    X(what_was_handed_over_before_a_stop_is_durable_after_it)                                      \
    X(waits_end_with_the_number_the_time_or_the_journal)                                           \
    X(each_partition_reads_all_of_its_stripes_and_no_other)                                        \
    X(a_read_keeps_to_its_limits_and_gives_at_least_one)                                           \
    X(a_scan_gives_every_record_that_is_not_left_out_in_order)                                     \
    X(a_scan_ends_with_the_readers_first_error)                                                    \
    X(notes_move_one_partition_count_as_replicated_and_survive_a_restart)                          \
    X(keys_are_counted_in_the_window)

#define BOTH(test)                                                                                 \
    {#test "_in_memory", test, NULL, NULL, in_memory},                                             \
        {#test "_on_lmdb", test, NULL, NULL, on_lmdb},

int
main(void)
{
    struct factory memory = IN_MEMORY;
    struct factory lmdb = ON_LMDB;
    void *in_memory = &memory;
    void *on_lmdb = &lmdb;
    const struct CMUnitTest tests[] = {CONTRACT(BOTH)};

    (void)alarm(300);
    log_setup(LOG_ERROR, LOG_JSON, STDERR_FILENO);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
