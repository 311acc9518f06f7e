/*
 * Raw events read back from a real server: what the archive_store port promises.
 */
#include <signal.h>

#include "core/base/timestamp.h"
#include "storage/mysql_archive.h"
#include "tests/integration/sink_fixture.h"

static struct test_db shared_db; /* set up once, read by every test */

enum {
    ROWS_MAX = 64
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

struct seen {
    struct archive_position position[ROWS_MAX];
    size_t count;
    bool whole; /* the row was what went in */
    size_t fail_at;
};

static enum err
see_row(void *arg, const struct archive_position *position, const struct event *event)
{
    struct seen *seen = arg;

    assert_true(seen->count < ROWS_MAX);
    if (seen->fail_at != 0 && seen->count + 1 == seen->fail_at) {
        return ERR_TOO_BIG;
    }
    seen->position[seen->count++] = *position;
    seen->whole = span_is(event->tenant, "default") && span_is(event->id, "fresh") &&
                  span_is(event->service, "api") && event->has_status && event->status == 200 &&
                  event->has_latency && event->latency_ms == 12.5 &&
                  span_is(event->channel, "wéb") && span_is(event->campaign_id, "spring") &&
                  span_is(event->user_id, "o'neill\\") && span_is(event->tags, "[\"a\"]") &&
                  span_is(event->properties, "{\"n\": 1.50}") &&
                  span_is(event->trace_id, "0af7651916cd43dd8448eb211c80319c") &&
                  event->created_at_us == T0_US + 5;
    return ERR_OK;
}

static struct archive_rows
all_rows(bool descending)
{
    return (struct archive_rows){
        .filter = {.tenant = SPAN_LITERAL("default"),
                   .from_us = TIMESTAMP_MIN_US,
                   .to_us = TIMESTAMP_MAX_US + 1},
        .descending = descending,
        .limit = ROWS_MAX,
    };
}

static struct archive_store
new_store(struct fixture *f)
{
    struct archive_store store;

    assert_int_equal(mysql_archive_new(&store, &f->config), ERR_OK);
    return store;
}

static void *
begin(struct fixture *f, const struct archive_store *store, uint64_t *after)
{
    void *snapshot = NULL;

    assert_int_equal(store->ops->begin(store->self, f->owner.node_id, 2, after, &snapshot), ERR_OK);
    return snapshot;
}

static size_t
count_rows(const struct archive_store *store, void *snapshot, struct archive_rows rows)
{
    struct seen seen = {.count = 0};

    assert_int_equal(store->ops->rows(snapshot, &rows, see_row, &seen), ERR_OK);
    return seen.count;
}

static void
a_snapshot_shows_the_rows_its_offsets_tell_of(void **state)
{
    struct fixture *f = *state;
    struct archive_store store = new_store(f);
    uint64_t after[2] = {7, 7};
    void *before;
    void *later;

    apply_and_free(f, make_batch(0, 5));
    before = begin(f, &store, after);
    assert_int_equal(after[0], 5);
    assert_int_equal(after[1], 0);
    apply_and_free(f, make_batch(5, 3));
    later = begin(f, &store, after);
    assert_int_equal(after[0], 8);
    assert_int_equal(count_rows(&store, later, all_rows(true)), 8);
    assert_int_equal(count_rows(&store, before, all_rows(true)), 5);
    store.ops->end(before);
    store.ops->end(later);
    before = begin(f, &store, after);
    assert_int_equal(count_rows(&store, before, all_rows(true)), 8);
    store.ops->end(before);
    store.ops->close(store.self);
}

static void
a_row_comes_back_as_it_went_in(void **state)
{
    struct fixture *f = *state;
    struct archive_store store = new_store(f);
    struct batch batch = make_batch(0, 1);
    struct event *event = &batch.events[0].event;
    const struct archive_rows rows = all_rows(true);
    struct seen seen = {.count = 0};
    uint64_t after[2];
    void *snapshot;

    event->channel = SPAN_LITERAL("wéb");
    event->campaign_id = SPAN_LITERAL("spring");
    event->user_id = SPAN_LITERAL("o'neill\\");
    event->tags = SPAN_LITERAL("[\"a\"]");
    event->properties = SPAN_LITERAL("{\"n\": 1.50}");
    event->trace_id = SPAN_LITERAL("0af7651916cd43dd8448eb211c80319c");
    event->occurred_at_us = -1;
    apply_and_free(f, batch);
    snapshot = begin(f, &store, after);
    assert_int_equal(store.ops->rows(snapshot, &rows, see_row, &seen), ERR_OK);
    assert_int_equal(seen.count, 1);
    assert_true(seen.whole);
    assert_int_equal(seen.position[0].occurred_us, -1);
    assert_int_equal(seen.position[0].seq, 1);
    assert_memory_equal(seen.position[0].node_id, f->owner.node_id, JOURNAL_NODE_ID_SIZE);
    store.ops->end(snapshot);
    store.ops->close(store.self);
}

/* Rows of two nodes, most of one time, read in steps of STEP behind a cursor and before a bound. */
static void
ranges_cut_the_order_exactly(void **state)
{
    struct fixture *f = *state;
    struct archive_store store = new_store(f);
    struct batch batch = make_batch(0, 12);
    struct seen whole;
    uint64_t after[2];
    void *snapshot;

    for (size_t i = 0; i < batch.count; i++) {
        batch.events[i].event.occurred_at_us = T0_US + (i < 9 ? 0 : (int64_t)i);
    }
    apply_and_free(f, batch);
    test_db_do(f->admin,
               "INSERT INTO events (node_id, seq, tenant_id, event_id, event_name, occurred_at, "
               "created_at) SELECT REPEAT(CHAR(seq * 40), 16), seq, tenant_id, event_id, "
               "event_name, occurred_at, created_at FROM events WHERE seq < 6");
    snapshot = begin(f, &store, after);
    for (int order = 0; order < 2; order++) {
        struct archive_rows rows = all_rows(order == 1);

        rows.filter.event_name = SPAN_LITERAL("telemetry");
        whole = (struct seen){.count = 0};
        assert_int_equal(store.ops->rows(snapshot, &rows, see_row, &whole), ERR_OK);
        assert_int_equal(whole.count, 17);
        for (size_t i = 1; i < whole.count; i++) {
            const int sign = archive_position_compare(&whole.position[i - 1], &whole.position[i]);

            assert_true(order == 1 ? sign > 0 : sign < 0);
        }
        for (size_t from = 0; from < whole.count; from++) {
            struct seen part = {.count = 0};

            rows.has_after = true;
            rows.after = whole.position[from];
            rows.has_until = false;
            rows.limit = 3;
            assert_int_equal(store.ops->rows(snapshot, &rows, see_row, &part), ERR_OK);
            assert_int_equal(part.count, whole.count - from - 1 < 3 ? whole.count - from - 1 : 3);
            for (size_t i = 0; i < part.count; i++) {
                assert_int_equal(
                    archive_position_compare(&part.position[i], &whole.position[from + 1 + i]), 0);
            }
            rows.limit = ROWS_MAX;
            for (size_t to = from; to < whole.count; to++) {
                rows.has_until = true;
                rows.until = whole.position[to];
                assert_int_equal(count_rows(&store, snapshot, rows), to > from ? to - from - 1 : 0);
            }
        }
    }
    store.ops->end(snapshot);
    store.ops->close(store.self);
}

struct names {
    char text[256];
};

static enum err
see_name(void *arg, struct span name)
{
    struct names *names = arg;
    const size_t len = strlen(names->text);

    snprintf(names->text + len, sizeof names->text - len, "%.*s,", (int)name.len, name.data);
    return ERR_OK;
}

static void
names_are_found_one_by_one_and_trailing_spaces_count(void **state)
{
    struct fixture *f = *state;
    struct archive_store store = new_store(f);
    struct batch batch = make_batch(0, 8);
    const char *const texts[] = {"b", "a", "b ", "c", "b", "a\t", "é", "b"};
    struct names names = {""};
    struct archive_rows rows = all_rows(true);
    uint64_t after[2];
    void *snapshot;

    for (size_t i = 0; i < batch.count; i++) {
        batch.events[i].event.name = span_of(texts[i]);
    }
    batch.events[7].event.tenant = SPAN_LITERAL("default ");
    apply_and_free(f, batch);
    snapshot = begin(f, &store, after);
    assert_int_equal(store.ops->names(snapshot, SPAN_LITERAL("default"), 100, see_name, &names),
                     ERR_OK);
    assert_true(strstr(names.text, "b,c,é,") != NULL || strstr(names.text, "b ,c,é,") != NULL);
    assert_non_null(strstr(names.text, "a\t,"));
    names.text[0] = '\0';
    assert_int_equal(store.ops->names(snapshot, SPAN_LITERAL("default"), 2, see_name, &names),
                     ERR_OK);
    assert_int_equal(strlen(names.text), strlen("a\t,a,"));
    assert_int_equal(count_rows(&store, snapshot, rows), 7);
    rows.filter.event_name = SPAN_LITERAL("b");
    assert_int_equal(count_rows(&store, snapshot, rows), 2);
    rows.name_padded = true;
    assert_int_equal(count_rows(&store, snapshot, rows), 3);
    rows.name_padded = false;
    rows.filter.event_name = SPAN_LITERAL("b ");
    assert_int_equal(count_rows(&store, snapshot, rows), 1);
    store.ops->end(snapshot);
    store.ops->close(store.self);
}

struct groups {
    size_t count;
    uint64_t total;
    uint64_t alone;     /* of the user "u " */
    uint64_t anonymous; /* without a user */
    int64_t first_us;
};

static enum err
see_group(void *arg, int64_t occurred_us, uint64_t count, struct span user_id, struct span channel,
          struct span campaign_id)
{
    struct groups *groups = arg;

    (void)campaign_id;
    assert_true(channel.data == NULL || span_is(channel, "web"));
    groups->count++;
    groups->total += count;
    groups->alone += span_is(user_id, "u ") ? count : 0;
    groups->anonymous += user_id.data == NULL ? count : 0;
    groups->first_us = occurred_us < groups->first_us ? occurred_us : groups->first_us;
    return ERR_OK;
}

static void
users_are_summed_by_their_bytes_and_by_time(void **state)
{
    struct fixture *f = *state;
    struct archive_store store = new_store(f);
    struct batch batch = make_batch(0, 12);
    struct archive_filter filter = all_rows(true).filter;
    const struct {
        int64_t bucket_us;
        size_t groups;
        int64_t first_us;
    } cases[] = {
        {ARCHIVE_NO_TIME, 5, TIMESTAMP_MIN_US},
        {0, 12, -1 - INT64_C(11) * MINUTE_US},
        {MINUTE_US, 12, -12 * (int64_t)MINUTE_US},
        {ARCHIVE_DAY_US, 5, -ARCHIVE_DAY_US},
    };
    uint64_t after[2];
    void *snapshot;

    for (size_t i = 0; i < batch.count; i++) {
        struct event *event = &batch.events[i].event;

        event->occurred_at_us = -1 - (int64_t)i * MINUTE_US;
        event->user_id = i % 3 == 0   ? SPAN_LITERAL("u")
                         : i % 3 == 1 ? SPAN_LITERAL("u ")
                                      : (struct span){NULL, 0};
        event->channel = i % 6 < 2 ? SPAN_LITERAL("web") : (struct span){NULL, 0};
    }
    apply_and_free(f, batch);
    snapshot = begin(f, &store, after);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct groups groups = {.first_us = INT64_MAX};

        filter.bucket_us = cases[i].bucket_us;
        assert_int_equal(store.ops->users(snapshot, &filter, see_group, &groups), ERR_OK);
        assert_int_equal(groups.count, cases[i].groups);
        assert_int_equal(groups.first_us, cases[i].first_us);
        assert_int_equal(groups.total, 12);
        assert_int_equal(groups.alone, 4);
        assert_int_equal(groups.anonymous, 4);
    }
    filter.user_id = SPAN_LITERAL("u ");
    filter.bucket_us = ARCHIVE_NO_TIME;
    {
        struct groups groups = {.first_us = INT64_MAX};

        assert_int_equal(store.ops->users(snapshot, &filter, see_group, &groups), ERR_OK);
        assert_int_equal(groups.total, 4);
    }
    store.ops->end(snapshot);
    store.ops->close(store.self);
}

/* An acked event without a row counts by user as it does in sum, until it has a row. */
static void
users_of_dead_letters_count_once(void **state)
{
    struct fixture *f = *state;
    struct archive_store store = new_store(f);
    struct batch batch = make_batch(0, 2);
    struct batch_event *dead = &batch.events[1];
    struct archive_filter filter = all_rows(true).filter;
    struct buffer body = BUFFER_EMPTY;
    static const struct {
        const char *sql;
        uint64_t total;
    } steps[] = {
        {"DO 0", 2},
        {"UPDATE dead_letters SET discarded_at = NOW()", 2},
        {"UPDATE dead_letters SET replayed_at = NOW(), duplicate = 1", 2},
        {"UPDATE dead_letters SET duplicate = 0", 1}, /* its row, which is not made here, does */
    };

    dead->event.occurred_at_us = -1;
    dead->event.user_id = SPAN_LITERAL("u");
    event_encode(&dead->event, &body);
    dead->body = buffer_span(&body);
    dead->outcome = OUTCOME_DEAD;
    apply_and_free(f, batch);
    buffer_free(&body);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct groups groups = {.first_us = INT64_MAX};
        uint64_t after[2];
        void *snapshot;

        test_db_do(f->admin, "%s", steps[i].sql);
        snapshot = begin(f, &store, after);
        filter.bucket_us = MINUTE_US;
        assert_int_equal(store.ops->users(snapshot, &filter, see_group, &groups), ERR_OK);
        assert_int_equal(groups.total, steps[i].total);
        assert_true(steps[i].total == 1 || groups.first_us == -MINUTE_US);
        store.ops->end(snapshot);
    }
    store.ops->close(store.self);
}

static void
a_readers_error_ends_a_walk_and_leaves_the_session_usable(void **state)
{
    struct fixture *f = *state;
    struct archive_store store = new_store(f);
    const struct archive_rows rows = all_rows(true);
    struct seen seen = {.fail_at = 3};
    uint64_t after[2];
    void *snapshot;

    apply_and_free(f, make_batch(0, 10));
    snapshot = begin(f, &store, after);
    assert_int_equal(store.ops->rows(snapshot, &rows, see_row, &seen), ERR_TOO_BIG);
    assert_int_equal(count_rows(&store, snapshot, rows), 10);
    store.ops->end(snapshot);
    store.ops->close(store.self);
}

static void
a_database_without_tables_is_an_empty_one(void **state)
{
    struct fixture *f = *state;
    struct archive_store store = new_store(f);
    struct names names = {""};
    struct groups groups = {.count = 0};
    const struct archive_rows rows = all_rows(true);
    uint64_t after[2] = {9, 9};
    void *snapshot;

    test_db_do(f->admin, "DROP TABLE replication_offsets");
    snapshot = begin(f, &store, after);
    assert_int_equal(after[0], 0);
    assert_int_equal(after[1], 0);
    assert_int_equal(count_rows(&store, snapshot, all_rows(true)), 0);
    assert_int_equal(store.ops->names(snapshot, SPAN_LITERAL("default"), 9, see_name, &names),
                     ERR_OK);
    assert_int_equal(strlen(names.text), 0);
    assert_int_equal(store.ops->users(snapshot, &rows.filter, see_group, &groups), ERR_OK);
    assert_int_equal(groups.count, 0);
    store.ops->end(snapshot);
    store.ops->close(store.self);
}

/* Ends every session on the database but the test's own and the sink's. */
static void
kill_readers(struct fixture *f, const char *sink_connection)
{
    char sql[256];

    snprintf(sql, sizeof sql,
             "SELECT IFNULL(MIN(id), 0) FROM information_schema.processlist WHERE db = DATABASE() "
             "AND id NOT IN (CONNECTION_ID(), %s)",
             sink_connection);
    ask(f, sql);
    test_db_do(f->admin, "KILL %s", f->text);
}

static void
a_killed_session_is_said_and_replaced(void **state)
{
    struct fixture *f = *state;
    struct archive_store store = new_store(f);
    const struct archive_rows rows = all_rows(true);
    struct seen seen = {.count = 0};
    char sink_connection[32];
    uint64_t after[2];
    void *snapshot;

    apply_and_free(f, make_batch(0, 4));
    snprintf(sink_connection, sizeof sink_connection, "%.20s",
             ask(f, "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND "
                    "id <> CONNECTION_ID()"));
    snapshot = begin(f, &store, after);
    kill_readers(f, sink_connection);
    assert_int_equal(store.ops->rows(snapshot, &rows, see_row, &seen), ERR_UNAVAILABLE);
    store.ops->end(snapshot);

    snapshot = begin(f, &store, after);
    assert_int_equal(count_rows(&store, snapshot, rows), 4);
    store.ops->end(snapshot);
    kill_readers(f, sink_connection); /* while idle: nobody notices */
    snapshot = begin(f, &store, after);
    assert_int_equal(count_rows(&store, snapshot, rows), 4);
    store.ops->end(snapshot);
    store.ops->close(store.self);
}

static void
a_server_that_is_not_there_is_not_asked_again_at_once(void **state)
{
    struct fixture *f = *state;
    struct mysql_config nowhere = f->config;
    struct archive_store store;
    uint64_t after[2];
    void *snapshot;

    nowhere.socket = "/nonexistent/socket";
    assert_int_equal(mysql_archive_new(&store, &nowhere), ERR_OK);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(store.ops->begin(store.self, f->owner.node_id, 2, after, &snapshot),
                         ERR_UNAVAILABLE);
    }
    store.ops->close(store.self);
}

static void
a_statement_that_takes_too_long_is_ended(void **state)
{
    struct fixture *f = *state;
    struct mysql_config hasty = f->config;
    const struct archive_rows rows = all_rows(true);
    struct archive_store store;
    struct seen seen = {.count = 0};
    uint64_t after[2];
    void *snapshot;
    enum err err = ERR_UNAVAILABLE;

    apply_and_free(f, make_batch(0, 4));
    hasty.timeout_ms = 400;
    assert_int_equal(mysql_archive_new(&store, &hasty), ERR_OK);
    snapshot = begin(f, &store, after);
    store.ops->end(snapshot);
    test_db_do(f->admin, "LOCK TABLES events WRITE");
    /* On a machine that stands still for a second the connection's own limit is over as well. */
    for (int tries = 0; err == ERR_UNAVAILABLE && tries < 20; tries++) {
        snapshot = begin(f, &store, after);
        err = store.ops->rows(snapshot, &rows, see_row, &seen);
        store.ops->end(snapshot);
    }
    test_db_do(f->admin, "UNLOCK TABLES");
    assert_int_equal(err, ERR_TIMEOUT);
    snapshot = begin(f, &store, after);
    assert_int_equal(count_rows(&store, snapshot, rows), 4);
    store.ops->end(snapshot);
    store.ops->close(store.self);
}

static void
there_are_so_many_snapshots_and_no_more(void **state)
{
    struct fixture *f = *state;
    struct archive_store store = new_store(f);
    void *snapshots[64];
    size_t count = 0;
    uint64_t after[2];
    enum err err = ERR_OK;

    while (count < ARRAY_LEN(snapshots) && err == ERR_OK) {
        err = store.ops->begin(store.self, f->owner.node_id, 2, after, &snapshots[count]);
        count += err == ERR_OK ? 1 : 0;
    }
    assert_int_equal(err, ERR_AGAIN);
    assert_in_range(count, 4, 16);
    store.ops->end(snapshots[0]);
    snapshots[0] = begin(f, &store, after);
    while (count > 0) {
        store.ops->end(snapshots[--count]);
    }
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
        TEST(a_snapshot_shows_the_rows_its_offsets_tell_of),
        TEST(a_row_comes_back_as_it_went_in),
        TEST(ranges_cut_the_order_exactly),
        TEST(names_are_found_one_by_one_and_trailing_spaces_count),
        TEST(users_are_summed_by_their_bytes_and_by_time),
        TEST(users_of_dead_letters_count_once),
        TEST(a_readers_error_ends_a_walk_and_leaves_the_session_usable),
        TEST(a_database_without_tables_is_an_empty_one),
        TEST(a_killed_session_is_said_and_replaced),
        TEST(a_server_that_is_not_there_is_not_asked_again_at_once),
        TEST(a_statement_that_takes_too_long_is_ended),
        TEST(there_are_so_many_snapshots_and_no_more),
    };

    log_setup(LOG_ERROR, LOG_TEXT, 2);
    signal(SIGPIPE, SIG_IGN);
    mysql_library_start();
    if (!test_db_use(&shared_db)) {
        return skip_all();
    }
    return cmocka_run_group_tests(tests, NULL, end_shared_db);
}
