/*
 * sink_fixture.h - a database of its own for each test, a sink on it, and batches to give to it.
 *
 * The log of these tests is node 0x11.., instance 0x22.., epoch 1, partition 0; it also knows
 * instance 0x33.. as an earlier one of its own.
 */
#ifndef SLUICE_TESTS_INTEGRATION_SINK_FIXTURE_H
#define SLUICE_TESTS_INTEGRATION_SINK_FIXTURE_H

#include <pthread.h>

#include "core/base/log.h"
#include "core/event/event.h"
#include "storage/mysql_sink.h"
#include "tests/integration/test_db.h"

enum {
    MINUTE_US = 60 * 1000 * 1000
};
#define T0_US INT64_C(1760000000123456) /* 2025-10-09 08:53:20.123456 */
#define NODE_HEX "0x11111111111111111111111111111111"

static const struct slice_rules RULES = {.threshold_us = {500000}, .threshold_count = 1};

/* How rows travel: 0 by INSERT, 1 by LOAD DATA. A program runs its tests once with each. */
static uint32_t load_rows_min;

struct fixture {
    struct test_db own; /* used when own.dir is set */
    const struct test_db *db;
    MYSQL *admin;
    char database[64];
    char text[65536]; /* of the last ask() */
    struct mysql_config config;
    struct mysql_owner owner;
    uint8_t known[16];
    struct sink sink;
};

static inline bool
knows_instance(void *arg, const uint8_t instance[16])
{
    return memcmp(((struct fixture *)arg)->known, instance, 16) == 0;
}

static inline struct sink
new_sink(const struct mysql_config *config, const struct mysql_owner *owner, uint32_t partition)
{
    struct sink sink;

    assert_int_equal(mysql_sink_new(&sink, config, owner, partition, &RULES), ERR_OK);
    return sink;
}

static inline uint64_t
position(struct fixture *f)
{
    uint64_t seq = UINT64_MAX;

    assert_int_equal(f->sink.ops->position(f->sink.self, &seq), ERR_OK);
    return seq;
}

/* Forgets the sink's connection, as a new process would. */
static inline void
renew_sink(struct fixture *f)
{
    f->sink.ops->close(f->sink.self);
    f->sink = new_sink(&f->config, &f->owner, 0);
}

static inline void
connect_admin(struct fixture *f)
{
    if (f->admin != NULL) {
        mysql_close(f->admin);
    }
    f->admin = test_db_connect(f->db);
}

static inline void
fixture_open(struct fixture *f, const struct test_db *db)
{
    static unsigned number;

    f->db = db;
    connect_admin(f);
    snprintf(f->database, sizeof f->database, "sluice_test_%d_%u", (int)getpid(), ++number);
    f->config = (struct mysql_config){
        .socket = db->socket,
        .user = db->user,
        .password = db->password,
        .database = f->database,
        .timeout_ms = 4000,
        .load_rows_min = load_rows_min,
    };
    memset(f->owner.node_id, 0x11, sizeof f->owner.node_id);
    memset(f->owner.instance, 0x22, sizeof f->owner.instance);
    memset(f->known, 0x33, sizeof f->known);
    f->owner.epoch = 1;
    f->owner.known_instance = knows_instance;
    f->owner.arg = f;
    f->sink = new_sink(&f->config, &f->owner, 0);
    assert_int_equal(position(f), 0);
    test_db_do(f->admin, "USE %s", f->database);
}

static inline int
fixture_close(void **state)
{
    struct fixture *f = *state;

    if (f->sink.ops != NULL) {
        f->sink.ops->close(f->sink.self);
    }
    if (f->admin != NULL) {
        if (f->own.dir[0] == '\0') {
            test_db_do(f->admin, "DROP DATABASE IF EXISTS %s", f->database);
        }
        mysql_close(f->admin);
    }
    test_db_end(&f->own);
    free(f);
    return 0;
}

/* What a program runs when there is no server: one test that says so. */
static inline void
needs_a_database_server(void **state)
{
    (void)state;
    print_message("no database server can be started here, see above\n");
    skip();
}

static inline int
skip_all(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(needs_a_database_server)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

static inline const char *
ask(struct fixture *f, const char *sql)
{
    return test_db_ask(f->admin, f->text, sizeof f->text, sql);
}

static inline void
expect_sql(struct fixture *f, const char *expected, const char *sql)
{
    assert_string_equal(ask(f, sql), expected);
}

/*
 * Polls until the query's value is not empty, for twelve seconds at most. Its text is in f->text.
 * The pause is longer than 100 ms, since InnoDB's tables are read from a cache that polling faster
 * keeps alive.
 */
static inline void
wait_for(struct fixture *f, const char *sql)
{
    for (int attempt = 0; attempt < 100; attempt++) {
        const struct timespec pause = {.tv_nsec = 120 * 1000 * 1000};

        if (ask(f, sql)[0] != '\0') {
            return;
        }
        nanosleep(&pause, NULL);
    }
    fail_msg("never seen: %s", sql);
}

/* ---- batches ---- */

/*
 * COUNT events without an id of the client's, seq AFTER_SEQ + 1 on. Every other one is measured, of
 * those the first good, the next bad and so on, all within one second.
 */
static inline struct batch
make_batch(uint64_t after_seq, size_t count)
{
    struct batch batch = {.after_seq = after_seq, .to_seq = after_seq + count, .count = count};

    batch.events = calloc(count, sizeof *batch.events);
    assert_non_null(batch.events);
    for (size_t i = 0; i < count; i++) {
        struct event *event = &batch.events[i].event;

        batch.events[i].seq = after_seq + 1 + i;
        event->shape = EVENT_GENERIC;
        event->tenant = SPAN_LITERAL("default");
        event->id = SPAN_LITERAL("fresh");
        event->name = SPAN_LITERAL("telemetry");
        event->occurred_at_us = T0_US + (int64_t)i;
        event->created_at_us = T0_US + 5;
        if (i % 2 == 0) {
            event->service = SPAN_LITERAL("api");
            event->has_status = true;
            event->status = i % 4 == 0 ? 200 : 503;
            event->has_latency = true;
            event->latency_ms = 12.5;
        }
    }
    return batch;
}

static inline void
set_id(struct batch *batch, size_t i, const char *id)
{
    struct event *event = &batch->events[i].event;

    event->id = span_of(id);
    event->id_by_client = true;
    event_key(event->tenant, event->id, event->key);
}

static inline enum sink_result
apply_to(struct sink *sink, struct batch *batch)
{
    struct sink_reject reject = {0};

    return sink->ops->apply(sink->self, batch, &reject);
}

static inline enum sink_result
apply(struct fixture *f, struct batch *batch)
{
    return apply_to(&f->sink, batch);
}

static inline void
apply_and_free(struct fixture *f, struct batch batch)
{
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    batch_free(&batch);
}

/* An event's key as SQL writes it. */
static inline void
key_hex(const struct event *event, char out[2 * EVENT_KEY_SIZE + 1])
{
    for (size_t i = 0; i < EVENT_KEY_SIZE; i++) {
        snprintf(out + 2 * i, 3, "%02X", event->key[i]);
    }
}

/* ---- an apply() that somebody else disturbs ---- */

struct applier {
    struct sink *sink;
    struct batch *batch;
    enum sink_result result;
    pthread_t thread;
};

static inline void *
apply_on_a_thread(void *arg)
{
    struct applier *applier = arg;

    applier->result = apply_to(applier->sink, applier->batch);
    mysql_library_thread_stop();
    return NULL;
}

static inline void
start_applier(struct applier *applier, struct fixture *f, struct batch *batch)
{
    *applier = (struct applier){.sink = &f->sink, .batch = batch};
    assert_int_equal(pthread_create(&applier->thread, NULL, apply_on_a_thread, applier), 0);
}

/* Starts an apply() and returns once it waits for the offset row, which the test's session holds.
 */
static inline void
start_blocked_applier(struct applier *applier, struct fixture *f, struct batch *batch)
{
    test_db_do(f->admin, "START TRANSACTION");
    test_db_do(f->admin, "SELECT * FROM replication_offsets FOR UPDATE");
    start_applier(applier, f, batch);
    wait_for(f, "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND "
                "id <> CONNECTION_ID() AND info LIKE 'UPDATE replication_offsets%'");
}

#endif
