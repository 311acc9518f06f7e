/*
 * What the database says about other nodes (history) and about ourselves (audit).
 */
#include <pthread.h>
#include <signal.h>

#include "storage/mysql_audit.h"
#include "storage/mysql_history.h"
#include "tests/integration/sink_fixture.h"

static struct test_db shared_db; /* set up once, read by every test */

static const uint8_t US[JOURNAL_NODE_ID_SIZE] = {9};

static int
set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    *state = f;
    fixture_open(f, &shared_db);
    return 0;
}

/* What one load gave. */
struct seen {
    unsigned count;
    uint64_t good;
    uint64_t source; /* of the last slice */
    enum err answer;
};

static enum err
see_slice(void *arg, uint64_t source, const struct slice_key *key, struct span encoded)
{
    struct seen *seen = arg;
    struct slice slice = {0};

    assert_true(span_is(key->tenant, "default"));
    assert_true(span_is(key->service, "api"));
    assert_int_equal(slice_decode_add(encoded, &slice), ERR_OK);
    seen->good += slice.good;
    seen->source = source;
    seen->count++;
    slice_clear(&slice);
    return seen->answer;
}

static struct seen
load(struct mysql_history *history)
{
    struct seen seen = {.answer = ERR_OK};

    assert_int_equal(mysql_history_load(history, see_slice, &seen), ERR_OK);
    return seen;
}

/* Stores one good event of PARTITION as the node NODE_ID. */
static void
store_as(struct fixture *f, const uint8_t node_id[JOURNAL_NODE_ID_SIZE], uint32_t partition)
{
    struct mysql_owner owner = f->owner;
    struct batch batch = make_batch(0, 1);
    struct sink sink;
    uint64_t seq;

    memcpy(owner.node_id, node_id, JOURNAL_NODE_ID_SIZE);
    sink = new_sink(&f->config, &owner, partition);
    assert_int_equal(sink.ops->position(sink.self, &seq), ERR_OK);
    batch.partition = partition;
    batch.events[0].seq += partition * JOURNAL_STRIPE;
    batch.to_seq = batch.events[0].seq;
    assert_int_equal(apply_to(&sink, &batch), SINK_APPLIED);
    sink.ops->close(sink.self);
    batch_free(&batch);
}

static void
history_gives_other_nodes_slices_as_they_change(void **state)
{
    struct fixture *f = *state;
    struct mysql_history *history;
    struct batch later;
    struct seen seen;

    store_as(f, US, 0); /* our own: never given */
    assert_int_equal(mysql_history_open(&history, &f->config, US), ERR_OK);
    assert_int_equal(load(history).count, 0);
    apply_and_free(f, make_batch(0, 1));
    seen = load(history);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.good, 1);
    assert_int_equal(load(history).count, 0);

    apply_and_free(f, make_batch(1, 1));
    assert_int_equal(load(history).good, 2); /* the whole slice, not the difference */
    later = make_batch(2, 1);
    later.events[0].event.occurred_at_us += 10 * (int64_t)MINUTE_US;
    apply_and_free(f, later);
    assert_int_equal(load(history).count, 1); /* only what changed */

    test_db_do(f->admin, "UPDATE replication_offsets SET last_seq = 2 WHERE node_id = " NODE_HEX);
    assert_int_equal(load(history).count, 2); /* the offset went back: all of that source */
    mysql_history_close(history);
    mysql_history_close(NULL);
}

static void
history_tells_partitions_of_a_node_apart(void **state)
{
    struct fixture *f = *state;
    static const uint8_t OTHER[JOURNAL_NODE_ID_SIZE] = {7};
    struct mysql_history *history;
    uint64_t first;

    assert_int_equal(mysql_history_open(&history, &f->config, US), ERR_OK);
    store_as(f, OTHER, 0);
    first = load(history).source;
    store_as(f, OTHER, 1);
    assert_int_not_equal(load(history).source, first);
    mysql_history_close(history);
}

static void
a_load_that_failed_is_given_again(void **state)
{
    struct fixture *f = *state;
    struct mysql_history *history;
    struct seen seen = {.answer = ERR_NO_MEMORY};

    apply_and_free(f, make_batch(0, 1));
    assert_int_equal(mysql_history_open(&history, &f->config, US), ERR_OK);
    assert_int_equal(mysql_history_load(history, see_slice, &seen), ERR_NO_MEMORY);
    assert_int_equal(load(history).count, 1);
    mysql_history_close(history);
}

static void
history_outlives_its_connection(void **state)
{
    struct fixture *f = *state;
    struct mysql_history *history;
    struct mysql_config nowhere = f->config;
    struct seen seen = {.answer = ERR_OK};
    char sink_connection[32];

    apply_and_free(f, make_batch(0, 1));
    snprintf(sink_connection, sizeof sink_connection, "%.31s",
             ask(f, "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND "
                    "id <> CONNECTION_ID()"));
    assert_int_equal(mysql_history_open(&history, &f->config, US), ERR_OK);
    assert_int_equal(load(history).count, 1);
    test_db_do(f->admin, "SET @sink = %s", sink_connection);
    ask(f, "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND "
           "id NOT IN (CONNECTION_ID(), @sink)");
    test_db_do(f->admin, "KILL %s", f->text);
    assert_int_equal(load(history).count, 0);
    mysql_history_close(history);

    nowhere.socket = "/nonexistent/socket";
    assert_int_equal(mysql_history_open(&history, &nowhere, US), ERR_OK);
    assert_int_equal(mysql_history_load(history, see_slice, &seen), ERR_UNAVAILABLE);
    mysql_history_close(history);
}

static void
history_waits_for_tables_that_are_missing(void **state)
{
    struct fixture *f = *state;
    struct mysql_history *history;
    struct seen seen = {.answer = ERR_OK};

    apply_and_free(f, make_batch(0, 1));
    test_db_do(f->admin, "RENAME TABLE slo_slices TO away");
    assert_int_equal(mysql_history_open(&history, &f->config, US), ERR_OK);
    assert_int_equal(mysql_history_load(history, see_slice, &seen), ERR_NOT_FOUND);
    test_db_do(f->admin, "RENAME TABLE away TO slo_slices");
    assert_int_equal(load(history).count, 1);
    mysql_history_close(history);
}

static void
the_audit_counts_this_node_alone_and_all_of_it(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 5);
    struct mysql_audit audit;

    batch.events[1].outcome = OUTCOME_DEAD;
    set_id(&batch, 2, "a");
    set_id(&batch, 3, "a");
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    store_as(f, US, 0);
    /* A row beyond every offset: finding such a one is what an audit is for. */
    test_db_do(f->admin, "INSERT INTO events (node_id, seq, tenant_id, event_id, event_name, "
                         "occurred_at, created_at) VALUES (" NODE_HEX
                         ", 18446744073709551615, 't', 'i', 'n', NOW(), NOW())");
    test_db_do(f->admin,
               "UPDATE replication_offsets SET last_seq = 2500000 WHERE node_id = " NODE_HEX);
    assert_int_equal(mysql_audit_read(&f->config, f->owner.node_id, 1, &audit), ERR_OK);
    assert_int_equal(audit.rows, 3 + 1);
    assert_int_equal(audit.dead_letters, 1);
    assert_int_equal(audit.held[0].rows, 3 + 1);
    assert_int_equal(audit.held[0].dead_letters, 1);
    assert_true(audit.held[0].last_seq == UINT64_MAX);
    assert_int_equal(audit.partition_count, 1);
    assert_int_equal(audit.partition[0].partition, 0);
    assert_int_equal(audit.partition[0].epoch, 1);
    assert_int_equal(audit.partition[0].last_seq, 2500000);
    assert_int_equal(audit.partition[0].stored, 3);
    assert_int_equal(audit.partition[0].dead, 1);
    assert_int_equal(audit.partition[0].duplicates, 1);
    batch_free(&batch);
}

static void
an_audit_without_a_database_says_so(void **state)
{
    struct fixture *f = *state;
    struct mysql_config nowhere = f->config;
    struct mysql_audit audit = {.rows = 42};

    nowhere.socket = "/nonexistent/socket";
    assert_int_equal(mysql_audit_read(&nowhere, f->owner.node_id, 1, &audit), ERR_UNAVAILABLE);
    test_db_do(f->admin, "DROP TABLE dead_letters");
    assert_int_equal(mysql_audit_read(&f->config, f->owner.node_id, 1, &audit), ERR_UNAVAILABLE);
    assert_int_equal(audit.rows, 42);
}

/* Kills the session that is giving the slices, at the first one it gives. */
static enum err
see_and_kill(void *arg, uint64_t source, const struct slice_key *key, struct span encoded)
{
    struct fixture *f = arg;
    char id[32];

    (void)source;
    (void)key;
    (void)encoded;
    snprintf(id, sizeof id, "%.31s",
             ask(f, "SELECT COALESCE((SELECT id FROM information_schema.processlist WHERE "
                    "db = DATABASE() AND info LIKE 'SELECT tenant_id, service%'), '')"));
    if (id[0] != '\0') {
        test_db_do(f->admin, "KILL %s", id);
    }
    return ERR_OK;
}

static enum err
count_slice(void *arg, uint64_t source, const struct slice_key *key, struct span encoded)
{
    (void)source;
    (void)key;
    (void)encoded;
    ++*(unsigned *)arg;
    return ERR_OK;
}

/* More slices than the network holds: what was not given by then must be missed. */
static void
a_load_cut_off_in_the_middle_is_no_load(void **state)
{
    struct fixture *f = *state;
    struct mysql_history *history;
    unsigned count = 0;

    apply_and_free(f, make_batch(0, 1));
    test_db_do(f->admin, "INSERT INTO slo_slices SELECT tenant_id, service, seq, node_id, "
                         "partition_id, good, bad, total, REPEAT('x', 60000), last_seq, updated_at "
                         "FROM slo_slices, seq_1_to_400");
    assert_int_equal(mysql_history_open(&history, &f->config, US), ERR_OK);
    assert_int_equal(mysql_history_load(history, see_and_kill, f), ERR_UNAVAILABLE);
    assert_int_equal(mysql_history_load(history, count_slice, &count), ERR_OK);
    assert_int_equal(count, 401);
    mysql_history_close(history);
}

static int
end_shared_db(void **state)
{
    (void)state;
    test_db_end(&shared_db);
    mysql_library_stop();
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, fixture_close)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(history_gives_other_nodes_slices_as_they_change),
        TEST(history_tells_partitions_of_a_node_apart),
        TEST(a_load_that_failed_is_given_again),
        TEST(history_outlives_its_connection),
        TEST(history_waits_for_tables_that_are_missing),
        TEST(a_load_cut_off_in_the_middle_is_no_load),
        TEST(the_audit_counts_this_node_alone_and_all_of_it),
        TEST(an_audit_without_a_database_says_so),
    };

    log_setup(LOG_ERROR, LOG_TEXT, 2);
    signal(SIGPIPE, SIG_IGN);
    mysql_library_start();
    if (!test_db_use(&shared_db)) {
        return skip_all();
    }
    return cmocka_run_group_tests(tests, NULL, end_shared_db);
}
