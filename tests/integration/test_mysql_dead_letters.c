/*
 * Dead letters on a real server: what the port of core/query/dead_letters.h promises.
 */
#include <pthread.h>
#include <signal.h>

#include "core/base/timestamp.h"
#include "storage/mysql_audit.h"
#include "storage/mysql_dead_letters.h"
#include "tests/integration/sink_fixture.h"

static struct test_db shared_db; /* set up once, read by every test */

enum {
    LETTERS_MAX = 16
};

static int
set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    *state = f;
    fixture_open(f, &shared_db);
    return 0;
}

static struct dead_letter_store
new_store(struct fixture *f)
{
    struct dead_letter_store store;

    assert_int_equal(mysql_dead_letters_new(&store, &f->config), ERR_OK);
    return store;
}

static void
settle_body(struct batch *batch, size_t i, struct buffer *body)
{
    event_encode(&batch->events[i].event, body);
    batch->events[i].body = buffer_span(body);
}

/* COUNT events from AFTER_SEQ on, every one a dead letter; ids "l1" and so on, by number. */
static void
put_letters(struct fixture *f, uint64_t after_seq, size_t count)
{
    struct batch batch = make_batch(after_seq, count);
    struct buffer bodies[LETTERS_MAX] = {{0}};
    char ids[LETTERS_MAX][8];

    assert_true(count <= LETTERS_MAX);
    for (size_t i = 0; i < count; i++) {
        struct batch_event *item = &batch.events[i];

        snprintf(ids[i], sizeof ids[i], "l%d", (int)(after_seq + 1 + i));
        set_id(&batch, i, ids[i]);
        item->event.properties = SPAN_LITERAL("{\"k\": \"it's\"}");
        settle_body(&batch, i, &bodies[i]);
        item->outcome = OUTCOME_DEAD;
        item->reject_code = 4025;
        snprintf(item->reject_reason, sizeof item->reject_reason, "CONSTRAINT `c%d` failed",
                 (int)item->seq);
    }
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    for (size_t i = 0; i < count; i++) {
        buffer_free(&bodies[i]);
    }
    batch_free(&batch);
}

static enum dead_letter_result
change(const struct dead_letter_store *store, uint64_t id, enum dead_letter_change what,
       struct dead_letter_verdict *verdict)
{
    return store->ops->change(store->self, id, what, verdict);
}

static enum dead_letter_result
replay(const struct dead_letter_store *store, uint64_t id)
{
    struct dead_letter_verdict verdict;

    return change(store, id, LETTER_REPLAY, &verdict);
}

/* The audit of a node with one partition adds up. */
static void
expect_audit(struct fixture *f, uint64_t rows, uint64_t letters, uint64_t replayed)
{
    struct mysql_audit audit;

    assert_int_equal(mysql_audit_read(&f->config, f->owner.node_id, 1, &audit), ERR_OK);
    assert_int_equal(audit.rows, rows);
    assert_int_equal(audit.dead_letters, letters);
    assert_int_equal(audit.held[0].replayed, replayed);
    assert_int_equal(audit.held[0].rows, audit.partition[0].stored + audit.held[0].replayed);
    assert_int_equal(audit.held[0].dead_letters, audit.partition[0].dead);
}

/* ---- looking ---- */

struct seen {
    char ids[256];
    size_t count;
    size_t fail_at;
};

static enum err
see(void *arg, const struct dead_letter *letter)
{
    struct seen *seen = arg;
    const size_t at = strlen(seen->ids);

    if (seen->count + 1 == seen->fail_at) {
        return ERR_TOO_BIG;
    }
    seen->count++;
    snprintf(seen->ids + at, sizeof seen->ids - at, "%s%d", at > 0 ? " " : "", (int)letter->id);
    return ERR_OK;
}

static void
expect_list(const struct dead_letter_store *store, struct dead_letter_request request,
            const char *ids)
{
    struct seen seen = {.count = 0};

    request.limit = request.limit == 0 ? 100 : request.limit;
    assert_int_equal(store->ops->list(store->self, &request, see, &seen), ERR_OK);
    assert_string_equal(seen.ids, ids);
}

static void
letters_are_found_by_what_is_asked_for(void **state)
{
    struct fixture *f = *state;
    struct dead_letter_store store = new_store(f);
    struct dead_letter_verdict verdict;
    struct seen seen = {.fail_at = 2};

    put_letters(f, 0, 5);
    test_db_do(f->admin, "UPDATE dead_letters SET tenant_id = 'acme' WHERE id = 2");
    test_db_do(f->admin, "UPDATE dead_letters SET tenant_id = 'acme ' WHERE id = 3");
    test_db_do(f->admin, "UPDATE dead_letters SET event_name = 'buy', error_code = 7 "
                         "WHERE id = 4");
    assert_int_equal(replay(&store, 1), LETTER_DONE);
    assert_int_equal(change(&store, 5, LETTER_DISCARD, &verdict), LETTER_DONE);

#define ASK(...) ((struct dead_letter_request){.filter = {__VA_ARGS__}})
    expect_list(&store, ASK(.state = LETTER_PENDING), "2 3 4");
    expect_list(&store, ASK(.state = LETTER_REPLAYED), "1");
    expect_list(&store, ASK(.state = LETTER_DISCARDED), "5");
    expect_list(&store, ASK(.state = LETTER_STATES), "1 2 3 4 5");
    expect_list(&store, ASK(.tenant = SPAN_LITERAL("acme")), "2");
    expect_list(&store, ASK(.tenant = SPAN_LITERAL("acme ")), "3");
    expect_list(&store, ASK(.event_name = SPAN_LITERAL("buy")), "4");
    expect_list(&store, ASK(.has_code = true, .error_code = 7), "4");
    expect_list(&store, ASK(.reason = SPAN_LITERAL("`c3`")), "3");
    expect_list(&store, ASK(.reason = SPAN_LITERAL("constraint")), "");
    expect_list(&store, ASK(.reason = SPAN_LITERAL("' OR '1' = '1")), "");
    expect_list(&store, ASK(.id = 5, .state = LETTER_STATES), "5");
#undef ASK
    expect_list(&store, (struct dead_letter_request){.descending = true, .limit = 2}, "4 3");
    expect_list(&store, (struct dead_letter_request){.descending = true, .after_id = 3}, "2");
    expect_list(&store, (struct dead_letter_request){.after_id = 3}, "4");
    assert_int_equal(
        store.ops->list(store.self, &(struct dead_letter_request){.limit = 9}, see, &seen),
        ERR_TOO_BIG);
    assert_int_equal(seen.count, 1);

    assert_int_equal(store.ops->pending(store.self), -1);
    assert_int_equal(store.ops->count(store.self), ERR_OK);
    assert_int_equal(store.ops->pending(store.self), 3);
    assert_int_equal(replay(&store, 2), LETTER_DONE);
    assert_int_equal(store.ops->pending(store.self), 2);
    store.ops->close(store.self);
}

static void
a_page_is_json_and_its_cursor_goes_on(void **state)
{
    struct fixture *f = *state;
    struct dead_letter_store store = new_store(f);
    struct dead_letter_request request = {.limit = 2};
    struct buffer page = BUFFER_EMPTY;

    put_letters(f, 0, 3);
    test_db_do(f->admin, "UPDATE dead_letters SET created_at = '2026-01-02 03:04:05.678901', "
                         "event_name = NULL, payload = IF(id = 2, 'by hand\\n', '{\"a\":\\n1}')");
    assert_int_equal(dead_letters_page(&store, &request, &page), ERR_OK);
    buffer_append_char(&page, '\0');
    assert_string_equal(
        page.data,
        "{\"dead_letters\":[{\"id\":1,\"state\":\"pending\",\"duplicate\":false,"
        "\"node_id\":\"11111111-1111-1111-1111-111111111111\",\"seq\":1,\"tenant_id\":\"default\","
        "\"event_id\":\"l1\",\"event_name\":null,\"reason\":\"CONSTRAINT `c1` failed\","
        "\"error_code\":4025,\"created_at\":\"2026-01-02T03:04:05.678901Z\",\"replayed_at\":null,"
        "\"discarded_at\":null,\"payload\":{\"a\": 1}},{\"id\":2,\"state\":\"pending\","
        "\"duplicate\":false,\"node_id\":\"11111111-1111-1111-1111-111111111111\",\"seq\":2,"
        "\"tenant_id\":\"default\",\"event_id\":\"l2\",\"event_name\":null,"
        "\"reason\":\"CONSTRAINT `c2` failed\",\"error_code\":4025,"
        "\"created_at\":\"2026-01-02T03:04:05.678901Z\",\"replayed_at\":null,"
        "\"discarded_at\":null,\"payload\":\"by hand\\n\"}],\"next_cursor\":\"2\"}\n");
    request.after_id = 2;
    buffer_clear(&page, SIZE_MAX);
    assert_int_equal(dead_letters_page(&store, &request, &page), ERR_OK);
    buffer_append_char(&page, '\0');
    assert_non_null(strstr(page.data, "\"id\":3"));
    assert_non_null(strstr(page.data, "],\"next_cursor\":null}\n"));
    buffer_free(&page);
    store.ops->close(store.self);
}

static void
many_bytes_end_a_page_early_and_the_next_goes_on(void **state)
{
    struct fixture *f = *state;
    struct dead_letter_store store = new_store(f);
    struct dead_letter_request request = {.limit = 10};
    struct buffer page = BUFFER_EMPTY;

    put_letters(f, 0, 3);
    test_db_do(f->admin, "UPDATE dead_letters SET payload = CONCAT('\"', REPEAT('x', 3 << 20), "
                         "'\"')");
    assert_int_equal(dead_letters_page(&store, &request, &page), ERR_OK);
    assert_true(page.len > (size_t)6 << 20);
    assert_memory_equal(page.data + page.len - 19, "\"next_cursor\":\"2\"}\n", 19);
    request.after_id = 2;
    buffer_clear(&page, 0);
    assert_int_equal(dead_letters_page(&store, &request, &page), ERR_OK);
    assert_true(page.len < (size_t)4 << 20);
    buffer_free(&page);
    store.ops->close(store.self);
}

/* ---- replaying ---- */

/* The row is the one a batch would have made, to the last column. */
static void
a_replayed_letter_is_the_row_its_batch_would_have_made(void **state)
{
    struct fixture *f = *state;
    struct dead_letter_store store = new_store(f);
    struct batch batch = make_batch(0, 2);
    struct buffer bodies[2] = {{0}};
    struct dead_letter_verdict verdict;

    for (size_t i = 0; i < batch.count; i++) {
        struct event *event = &batch.events[i].event;

        event->service = SPAN_LITERAL("a\\p'i");
        event->channel = SPAN_LITERAL("wéb");
        event->user_id = SPAN_LITERAL("o'neill\\");
        event->properties = SPAN_LITERAL("{\"n\": 1.50}");
        event->tags = SPAN_LITERAL("[\"a\"]");
        event->latency_ms = 0.1;
        event->occurred_at_us = i == 0 ? T0_US : INT64_MAX;
        set_id(&batch, i, i == 0 ? "chosen" : "01890a5d-ac96-774b-bcce-b302099a8057");
        settle_body(&batch, i, &bodies[i]);
        batch.events[i].outcome = OUTCOME_STORED;
    }
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    test_db_do(f->admin, "CREATE TABLE applied AS SELECT * FROM events");
    test_db_do(f->admin, "DELETE FROM events");
    test_db_do(f->admin, "DELETE FROM slo_slices");
    test_db_do(f->admin, "UPDATE replication_offsets SET last_seq = 0, stored = 0");
    batch.events[0].outcome = OUTCOME_DEAD;
    batch.events[1].outcome = OUTCOME_DEAD;
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    test_db_do(f->admin, "CREATE TABLE before_it AS SELECT * FROM slo_slices");
    expect_audit(f, 0, 2, 0);

    for (uint64_t id = 1; id <= 2; id++) {
        assert_int_equal(change(&store, id, LETTER_REPLAY, &verdict), LETTER_DONE);
        assert_false(verdict.duplicate);
    }
    expect_sql(f, "0",
               "SELECT COUNT(*) FROM (SELECT * FROM applied EXCEPT SELECT * FROM events) d");
    expect_sql(f, "2", "SELECT COUNT(*) FROM events");
    expect_sql(f, "2",
               "SELECT COUNT(*) FROM dead_letters WHERE replayed_at > NOW() - INTERVAL 1 "
               "DAY AND discarded_at IS NULL AND duplicate = 0");
    /* Slices and sums held them before. */
    expect_sql(f, "0",
               "SELECT COUNT(*) FROM (SELECT * FROM before_it EXCEPT SELECT * FROM slo_slices) d");
    expect_sql(f, "2 0 2",
               "SELECT CONCAT_WS(' ', last_seq, stored, dead) FROM replication_offsets");
    expect_audit(f, 2, 2, 2);
    for (size_t i = 0; i < 2; i++) {
        buffer_free(&bodies[i]);
    }
    batch_free(&batch);
    store.ops->close(store.self);
}

static void
a_letter_ends_once(void **state)
{
    struct fixture *f = *state;
    struct dead_letter_store store = new_store(f);
    struct dead_letter_verdict verdict;

    put_letters(f, 0, 2);
    assert_int_equal(replay(&store, 1), LETTER_DONE);
    assert_int_equal(replay(&store, 1), LETTER_ENDED);
    assert_int_equal(change(&store, 1, LETTER_DISCARD, &verdict), LETTER_ENDED);
    assert_int_equal(change(&store, 2, LETTER_DISCARD, &verdict), LETTER_DONE);
    assert_int_equal(change(&store, 2, LETTER_DISCARD, &verdict), LETTER_ENDED);
    assert_int_equal(replay(&store, 2), LETTER_ENDED);
    assert_int_equal(replay(&store, 3), LETTER_UNKNOWN);
    assert_int_equal(change(&store, UINT64_MAX, LETTER_DISCARD, &verdict), LETTER_UNKNOWN);
    expect_sql(f, "1", "SELECT GROUP_CONCAT(seq) FROM events");
    expect_audit(f, 1, 2, 1);
    store.ops->close(store.self);
}

static void
a_letter_whose_id_is_a_row_by_now_is_a_repeat(void **state)
{
    struct fixture *f = *state;
    struct dead_letter_store store = new_store(f);
    struct batch batch = make_batch(1, 1);
    struct dead_letter_verdict verdict;

    put_letters(f, 0, 1);
    set_id(&batch, 0, "l1");
    apply_and_free(f, batch);
    assert_int_equal(change(&store, 1, LETTER_REPLAY, &verdict), LETTER_DONE);
    assert_true(verdict.duplicate);
    expect_sql(f, "2", "SELECT GROUP_CONCAT(seq) FROM events");
    expect_sql(f, "1",
               "SELECT COUNT(*) FROM dead_letters WHERE replayed_at IS NOT NULL AND "
               "duplicate = 1");
    expect_audit(f, 1, 1, 0);
    store.ops->close(store.self);
}

static void
a_letter_that_is_still_refused_says_why_and_stays(void **state)
{
    struct fixture *f = *state;
    struct dead_letter_store store = new_store(f);
    struct dead_letter_verdict verdict;

    put_letters(f, 0, 1);
    test_db_do(f->admin, "ALTER TABLE events ADD CONSTRAINT still CHECK (event_id <> 'l1')");
    assert_int_equal(change(&store, 1, LETTER_REPLAY, &verdict), LETTER_REFUSED);
    assert_int_equal(verdict.error_code, 4025);
    assert_non_null(strstr(verdict.reason, "still"));
    expect_sql(f, "1",
               "SELECT COUNT(*) FROM dead_letters WHERE replayed_at IS NULL AND error_code = 4025 "
               "AND reason LIKE '%`still` failed%'");
    expect_sql(f, "0", "SELECT COUNT(*) FROM events");
    test_db_do(f->admin, "ALTER TABLE events DROP CONSTRAINT still");
    assert_int_equal(replay(&store, 1), LETTER_DONE);
    expect_audit(f, 1, 1, 1);
    store.ops->close(store.self);
}

static void
what_cannot_become_the_row_is_refused_and_kept(void **state)
{
    struct fixture *f = *state;
    struct dead_letter_store store = new_store(f);
    struct dead_letter_verdict verdict;

    put_letters(f, 0, 3);
    test_db_do(f->admin, "UPDATE dead_letters SET record = 0x00 WHERE id = 1");
    test_db_do(f->admin,
               "INSERT INTO events (node_id, seq, tenant_id, event_id, event_name, occurred_at, "
               "created_at) VALUES (" NODE_HEX ", 2, 'default', 'other', 'n', NOW(), NOW())");
    assert_int_equal(change(&store, 1, LETTER_REPLAY, &verdict), LETTER_REFUSED);
    assert_string_equal(verdict.reason, "the letter's record cannot be read");
    assert_int_equal(change(&store, 2, LETTER_REPLAY, &verdict), LETTER_REFUSED);
    assert_string_equal(verdict.reason, "another event has its sequence number");
    expect_sql(f, "3",
               "SELECT COUNT(*) FROM dead_letters WHERE replayed_at IS NULL AND reason "
               "LIKE 'CONSTRAINT%'");
    /* Put there by hand, and just what the letter stands for. */
    test_db_do(f->admin, "UPDATE events SET event_id = 'l2'");
    assert_int_equal(change(&store, 2, LETTER_REPLAY, &verdict), LETTER_DONE);
    expect_sql(f, "1", "SELECT COUNT(*) FROM events");
    expect_audit(f, 1, 3, 1);
    store.ops->close(store.self);
}

static void
an_altered_table_is_no_reason_to_blame_the_event(void **state)
{
    struct fixture *f = *state;
    struct dead_letter_store store = new_store(f);
    struct seen seen = {.count = 0};

    put_letters(f, 0, 1);
    test_db_do(f->admin, "RENAME TABLE events TO elsewhere");
    assert_int_equal(replay(&store, 1), LETTER_UNAVAILABLE);
    test_db_do(f->admin, "RENAME TABLE elsewhere TO events");
    expect_sql(f, "1", "SELECT COUNT(*) FROM dead_letters WHERE reason LIKE 'CONSTRAINT%'");
    assert_int_equal(replay(&store, 1), LETTER_DONE);
    test_db_do(f->admin, "RENAME TABLE dead_letters TO elsewhere");
    assert_int_equal(
        store.ops->list(store.self, &(struct dead_letter_request){.limit = 9}, see, &seen),
        ERR_UNAVAILABLE);
    assert_int_equal(store.ops->count(store.self), ERR_UNAVAILABLE);
    store.ops->close(store.self);
}

/* ---- several at once, and broken connections ---- */

struct changer {
    const struct dead_letter_store *store;
    enum dead_letter_change what;
    enum dead_letter_result result;
    struct dead_letter_verdict verdict;
    pthread_t thread;
};

static void *
change_on_a_thread(void *arg)
{
    struct changer *changer = arg;

    changer->result = change(changer->store, 1, changer->what, &changer->verdict);
    return NULL;
}

static void
of_several_at_once_one_wins(void **state)
{
    struct fixture *f = *state;
    struct dead_letter_store store = new_store(f);
    struct changer changers[4];
    unsigned done = 0;
    unsigned ended = 0;

    put_letters(f, 0, 1);
    /* They all wait for the letter, then go on one after the other. */
    test_db_do(f->admin, "START TRANSACTION");
    test_db_do(f->admin, "SELECT * FROM dead_letters FOR UPDATE");
    for (size_t i = 0; i < ARRAY_LEN(changers); i++) {
        changers[i] =
            (struct changer){.store = &store, .what = i == 3 ? LETTER_DISCARD : LETTER_REPLAY};
        assert_int_equal(
            pthread_create(&changers[i].thread, NULL, change_on_a_thread, &changers[i]), 0);
    }
    wait_for(f, "SELECT IF(COUNT(*) > 0, 'waits', '') FROM information_schema.innodb_trx WHERE "
                "trx_state = 'LOCK WAIT'");
    test_db_do(f->admin, "COMMIT");
    for (size_t i = 0; i < ARRAY_LEN(changers); i++) {
        pthread_join(changers[i].thread, NULL);
        done += changers[i].result == LETTER_DONE;
        ended += changers[i].result == LETTER_ENDED;
    }
    assert_int_equal(done, 1);
    assert_int_equal(ended, 3);
    expect_sql(f, "1", "SELECT (replayed_at IS NULL) + (discarded_at IS NULL) FROM dead_letters");
    expect_sql(f, "1",
               "SELECT (SELECT COUNT(*) FROM events) = (replayed_at IS NOT NULL) FROM "
               "dead_letters");
    store.ops->close(store.self);
}

/* Before COMMIT a lost connection has changed nothing, and the change is tried on a new one. */
static void
a_killed_session_is_replaced_and_the_change_made_once(void **state)
{
    struct fixture *f = *state;
    struct dead_letter_store store = new_store(f);
    struct changer changer = {.store = &store, .what = LETTER_REPLAY};

    put_letters(f, 0, 1);
    test_db_do(f->admin, "SELECT GET_LOCK('gate', 0)");
    test_db_do(f->admin, "CREATE TRIGGER held BEFORE INSERT ON events FOR EACH ROW "
                         "SET @gate = GET_LOCK('gate', 10) + RELEASE_LOCK('gate')");
    assert_int_equal(pthread_create(&changer.thread, NULL, change_on_a_thread, &changer), 0);
    wait_for(f, "SELECT id FROM information_schema.processlist WHERE state = 'User lock'");
    test_db_do(f->admin, "KILL %s", f->text);
    test_db_do(f->admin, "DO RELEASE_LOCK('gate')");
    pthread_join(changer.thread, NULL);
    assert_int_equal(changer.result, LETTER_DONE);
    assert_false(changer.verdict.duplicate);
    expect_sql(f, "1", "SELECT COUNT(*) FROM events");
    expect_audit(f, 1, 1, 1);
    store.ops->close(store.self);
}

static void
a_letter_that_somebody_holds_is_given_up_in_time(void **state)
{
    struct fixture *f = *state;
    struct dead_letter_store store;

    f->config.timeout_ms = 3000;
    store = new_store(f);
    put_letters(f, 0, 1);
    test_db_do(f->admin, "START TRANSACTION");
    test_db_do(f->admin, "SELECT * FROM dead_letters FOR UPDATE");
    assert_int_equal(replay(&store, 1), LETTER_UNAVAILABLE);
    test_db_do(f->admin, "COMMIT");
    assert_int_equal(replay(&store, 1), LETTER_DONE);
    store.ops->close(store.self);
}

static void
without_a_server_nothing_is_claimed(void **state)
{
    struct fixture *f = *state;
    struct dead_letter_store store;
    struct seen seen = {.count = 0};

    f->config.socket = "/nonexistent/socket";
    store = new_store(f);
    assert_int_equal(replay(&store, 1), LETTER_UNAVAILABLE);
    assert_int_equal(
        store.ops->list(store.self, &(struct dead_letter_request){.limit = 9}, see, &seen),
        ERR_UNAVAILABLE);
    assert_int_equal(store.ops->count(store.self), ERR_UNAVAILABLE);
    assert_int_equal(store.ops->pending(store.self), -1);
    store.ops->close(store.self);
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
        TEST(letters_are_found_by_what_is_asked_for),
        TEST(a_page_is_json_and_its_cursor_goes_on),
        TEST(many_bytes_end_a_page_early_and_the_next_goes_on),
        TEST(a_replayed_letter_is_the_row_its_batch_would_have_made),
        TEST(a_letter_ends_once),
        TEST(a_letter_whose_id_is_a_row_by_now_is_a_repeat),
        TEST(a_letter_that_is_still_refused_says_why_and_stays),
        TEST(what_cannot_become_the_row_is_refused_and_kept),
        TEST(an_altered_table_is_no_reason_to_blame_the_event),
        TEST(of_several_at_once_one_wins),
        TEST(a_killed_session_is_replaced_and_the_change_made_once),
        TEST(a_letter_that_somebody_holds_is_given_up_in_time),
        TEST(without_a_server_nothing_is_claimed),
    };

    log_setup(LOG_ERROR, LOG_TEXT, 2);
    signal(SIGPIPE, SIG_IGN);
    mysql_library_start();
    if (!test_db_use(&shared_db)) {
        return skip_all();
    }
    return cmocka_run_group_tests(tests, NULL, end_shared_db);
}
