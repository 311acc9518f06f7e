/*
 * What the MySQL sink stores on a real server, what it refuses, and who may write.
 */
#include <pthread.h>
#include <signal.h>

#include "storage/mysql_schema.h"
#include "tests/integration/sink_fixture.h"

static struct test_db shared_db; /* set up once, read by every test */

static int
set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    *state = f;
    fixture_open(f, &shared_db);
    return 0;
}

/* ---- what is stored ---- */

static void
every_column_holds_what_the_event_had(void **state)
{
    struct fixture *f = *state;
    static const char NAME[] = "it's \"q\" \\ \n\t\0 \x1a \xf0\x9f\x98\x80 %";
    struct batch batch = make_batch(0, 2);
    struct event *event = &batch.events[0].event;
    char key[33];

    event->tenant = SPAN_LITERAL("tenant");
    event->name = (struct span){NAME, sizeof NAME - 1};
    event->channel = SPAN_LITERAL("web");
    event->campaign_id = SPAN_LITERAL("c1");
    event->user_id = SPAN_LITERAL("\\'; DROP TABLE events; -- ");
    event->trace_id = SPAN_LITERAL("0123456789abcdef0123456789abcdef");
    event->tags = SPAN_LITERAL("[ \"a\", \"b\" ]");
    event->properties = SPAN_LITERAL("{\"a\":1, \"a\":2,\"n\":9007199254740993,\"u\":\"\\u0000\"}");
    event->latency_ms = 0.1 + 0.2;
    set_id(&batch, 0, "id-1");
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    assert_int_equal(batch.events[0].outcome, OUTCOME_STORED);

    expect_sql(f, "2", "SELECT COUNT(*) FROM events");
    expect_sql(f, "1",
               "SELECT COUNT(*) FROM events WHERE seq = 1 AND node_id = " NODE_HEX
               " AND tenant_id = 'tenant' AND event_id = 'id-1' AND service = 'api' AND "
               "status = 200 AND is_good = 1 AND channel = 'web' AND campaign_id = 'c1' AND "
               "trace_id = '0123456789abcdef0123456789abcdef' AND "
               "occurred_at = '2025-10-09 08:53:20.123456' AND occurred_at_us IS NULL AND "
               "created_at = '2025-10-09 08:53:20.123461'");
    expect_sql(f, "\\'; DROP TABLE events; -- ", "SELECT user_id FROM events WHERE seq = 1");
    expect_sql(f, "6974277320227122205C200A0900201A20F09F98802025",
               "SELECT HEX(event_name) FROM events WHERE seq = 1");
    expect_sql(f, "[ \"a\", \"b\" ]", "SELECT tags FROM events WHERE seq = 1");
    expect_sql(f, "{\"a\":1, \"a\":2,\"n\":9007199254740993,\"u\":\"\\u0000\"}",
               "SELECT properties FROM events WHERE seq = 1");
    assert_true(strtod(ask(f, "SELECT latency_ms FROM events WHERE seq = 1"), NULL) == 0.1 + 0.2);
    key_hex(event, key);
    expect_sql(f, key, "SELECT HEX(dedupe_key) FROM events WHERE seq = 1");
    expect_sql(f, "1",
               "SELECT COUNT(*) FROM events WHERE seq = 2 AND service IS NULL AND status IS NULL "
               "AND latency_ms IS NULL AND is_good IS NULL AND channel IS NULL AND "
               "campaign_id IS NULL AND user_id IS NULL AND tags IS NULL AND properties IS NULL "
               "AND trace_id IS NULL AND dedupe_key IS NULL");
    expect_sql(f, "2 2", "SELECT CONCAT(last_seq, ' ', stored) FROM replication_offsets");
    batch_free(&batch);
}

static void
sixty_four_kibibytes_of_properties_come_back_unchanged(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 1);
    static char big[65536];
    char digest[33];

    memset(big, '\'', sizeof big);
    memcpy(big, "{\"a\":\"", 6);
    memcpy(big + sizeof big - 2, "\"}", 2);
    batch.events[0].event.properties = (struct span){big, sizeof big};
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    snprintf(digest, sizeof digest, "%.32s",
             ask(f, "SELECT MD5(CONCAT('{\"a\":\"', REPEAT(CHAR(39), 65528), '\"}'))"));
    expect_sql(f, digest, "SELECT MD5(properties) FROM events");
    batch_free(&batch);
}

static void
json_nested_as_deep_as_decoding_allows_is_a_row(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 1);
    char deep[128];

    memset(deep, '[', 64);
    memset(deep + 64, ']', 64);
    batch.events[0].event.tags = (struct span){deep, sizeof deep};
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    batch_free(&batch);
}

static void
times_a_datetime_cannot_hold_are_kept_exactly_beside_it(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 5);

    batch.events[0].event.occurred_at_us = MYSQL_DATETIME_MIN_US - 1;
    batch.events[1].event.occurred_at_us = MYSQL_DATETIME_MIN_US;
    batch.events[2].event.occurred_at_us = MYSQL_DATETIME_MAX_US;
    batch.events[3].event.occurred_at_us = INT64_MAX;
    batch.events[4].event.occurred_at_us = -1;
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    expect_sql(f,
               "0001-01-01 00:00:00.000000 -62135596800000001,"
               "0001-01-01 00:00:00.000000 -,"
               "9999-12-31 23:59:59.999999 -,"
               "9999-12-31 23:59:59.999999 9223372036854775807,"
               "1969-12-31 23:59:59.999999 -",
               "SELECT GROUP_CONCAT(CONCAT(occurred_at, ' ', COALESCE(occurred_at_us, '-')) "
               "ORDER BY seq) FROM events");
    batch_free(&batch);
}

static void
calendar_arithmetic_agrees_with_the_server(void **state)
{
    struct fixture *f = *state;
    /* Around the ends of February in leap, common and century years, and the range's ends. */
    static const int DAYS[] = {-719162, -25509, -25508, 0,     58,    59,    11015, 11016,
                               11017,   19781,  19782,  19783, 20453, 47540, 47541, 2932896};

    for (size_t i = 0; i < ARRAY_LEN(DAYS); i++) {
        struct buffer text = BUFFER_EMPTY;
        char ours[40];
        char sql[128];

        mysql_append_datetime(&text, DAYS[i] * INT64_C(86400000000) + 3723000004);
        snprintf(ours, sizeof ours, "%.*s", (int)text.len, text.data);
        snprintf(sql, sizeof sql,
                 "SELECT CAST('1970-01-01' AS DATETIME(6)) + INTERVAL %d DAY + "
                 "INTERVAL 3723000004 MICROSECOND",
                 DAYS[i]);
        expect_sql(f, ours, sql);
        buffer_free(&text);
    }
}

static void
a_batch_longer_than_one_statement_is_one_transaction(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 6000);

    for (size_t i = 0; i < batch.count; i++) {
        batch.events[i].event.properties =
            SPAN_LITERAL("{\"text\":\"one hundred bytes of properties so that the rows of this "
                         "batch need more than one statement\"}");
    }
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    expect_sql(f, "6000", "SELECT COUNT(*) FROM events");
    expect_sql(f, "6000", "SELECT stored FROM replication_offsets");
    batch_free(&batch);
}

/* ---- LOAD DATA ---- */

/* How often the server was given a statement of this kind. */
static uint64_t
statements(struct fixture *f, const char *kind)
{
    char sql[160];

    snprintf(sql, sizeof sql,
             "SELECT variable_value FROM information_schema.global_status WHERE "
             "variable_name = '%s'",
             kind);
    return strtoull(ask(f, sql), NULL, 10);
}

static void
batches_of_enough_rows_go_by_load_data(void **state)
{
    struct fixture *f = *state;
    const uint64_t loads = statements(f, "COM_LOAD");
    const uint64_t inserts = statements(f, "COM_INSERT");

    f->config.load_rows_min = 4;
    renew_sink(f);
    apply_and_free(f, make_batch(0, 3));
    assert_int_equal(statements(f, "COM_LOAD"), loads);
    apply_and_free(f, make_batch(3, 5));
    assert_int_equal(statements(f, "COM_LOAD"), loads + 1);
    assert_int_equal(statements(f, "COM_INSERT"), inserts + 3); /* of events, slices, slices */
    expect_sql(f, "8 8", "SELECT CONCAT_WS(' ', COUNT(*), MAX(seq)) FROM events");
    expect_sql(f, "8", "SELECT stored FROM replication_offsets");
    apply_and_free(f, make_batch(8, 10000)); /* beyond what one transaction is sure to keep whole */
    assert_int_equal(statements(f, "COM_LOAD"), loads + 1);
}

/* Text that either way of writing has to escape, and what looks like its escapes. */
static const struct span NASTY[] = {
    SPAN_LITERAL("\\N"),
    SPAN_LITERAL("NULL"),
    SPAN_LITERAL("\\"),
    SPAN_LITERAL("a\\\\\\"),
    SPAN_LITERAL("\t"),
    SPAN_LITERAL("\n"),
    SPAN_LITERAL("\r\n"),
    SPAN_LITERAL("\0\0"),
    SPAN_LITERAL("\\0\\t\\n\\Z\\b"),
    SPAN_LITERAL("\x1a"),
    SPAN_LITERAL("'\"`,;"),
    SPAN_LITERAL("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf"),
    SPAN_LITERAL("\xc2\x80\xe2\x80\xa8"),
    SPAN_LITERAL(" spaces "),
    SPAN_LITERAL("@dedupe_key"),
};

/* Every ASCII character alone, the texts above, numbers and times at their ends, all absent. */
static struct batch
make_nasty_batch(void)
{
    static char characters[128];
    struct batch batch = make_batch(0, 128 + ARRAY_LEN(NASTY));

    for (size_t i = 0; i < batch.count; i++) {
        struct event *event = &batch.events[i].event;

        characters[i % 128] = (char)(i % 128);
        event->user_id = i < 128 ? (struct span){&characters[i], 1} : NASTY[i - 128];
        event->name = event->user_id;
        if (i % 3 == 0) {
            event->channel = (struct span){"", 0};
            event->campaign_id = event->user_id;
            event->tags = SPAN_LITERAL("[\"\\n\\t\\\\\",\"\t\"]");
            event->properties = SPAN_LITERAL("{\"a\\\\\": \"\\u0000\"}");
            event->trace_id = SPAN_LITERAL("0123456789abcdef0123456789abcdef");
        }
        if (event->has_latency) {
            event->latency_ms = i % 8 == 0 ? 1.7976931348623157e308 : 0.1 * (double)i;
        }
        if (i % 5 == 0) {
            event->occurred_at_us = i % 2 == 0 ? INT64_MAX : INT64_MIN;
        }
    }
    set_id(&batch, 7, "seven");
    set_id(&batch, 8, "\t\\N\n");
    batch.events[20].outcome = OUTCOME_DEAD;
    return batch;
}

static void
load_data_stores_what_insert_stores(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_nasty_batch();
    const uint64_t loads = statements(f, "COM_LOAD");

    f->config.load_rows_min = 0;
    renew_sink(f);
    assert_int_equal(position(f), 0);
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    test_db_do(f->admin, "CREATE TABLE inserted AS SELECT * FROM events");
    test_db_do(f->admin, "DELETE FROM events");
    test_db_do(f->admin, "DELETE FROM dead_letters");
    test_db_do(f->admin, "UPDATE replication_offsets SET last_seq = 0");
    f->config.load_rows_min = 1;
    renew_sink(f);
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    assert_int_equal(statements(f, "COM_LOAD"), loads + 1);
    assert_int_equal(batch.events[20].outcome, OUTCOME_DEAD);
    expect_sql(f, "142", "SELECT COUNT(*) FROM inserted");
    expect_sql(f, "142", "SELECT COUNT(*) FROM events");
    /* Compared as bytes: the columns' collation calls some of them equal. */
    expect_sql(f, "142",
               "SELECT COUNT(*) FROM events a JOIN inserted b USING (node_id, seq) WHERE "
               "HEX(a.event_name) <=> HEX(b.event_name) AND HEX(a.event_id) <=> HEX(b.event_id) "
               "AND a.tenant_id <=> b.tenant_id AND a.service <=> b.service AND "
               "a.status <=> b.status AND a.latency_ms <=> b.latency_ms AND "
               "a.is_good <=> b.is_good AND HEX(a.channel) <=> HEX(b.channel) AND "
               "HEX(a.campaign_id) <=> HEX(b.campaign_id) AND HEX(a.user_id) <=> HEX(b.user_id) "
               "AND HEX(a.tags) <=> HEX(b.tags) AND HEX(a.properties) <=> HEX(b.properties) AND "
               "a.trace_id <=> b.trace_id AND a.occurred_at = b.occurred_at AND "
               "a.occurred_at_us <=> b.occurred_at_us AND a.created_at = b.created_at AND "
               "a.dedupe_key <=> b.dedupe_key");
    expect_sql(f, "5C4E", "SELECT HEX(user_id) FROM events WHERE seq = 129");
    expect_sql(f, "00", "SELECT HEX(event_name) FROM events WHERE seq = 1");
    batch_free(&batch);
}

/* LOAD DATA would have stored the first two cut short or turned into something else. */
static void
what_load_data_would_bend_is_refused_by_insert_and_named(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 40);
    struct sink_reject reject = {0};
    const uint64_t loads = statements(f, "COM_LOAD");

    f->config.load_rows_min = 2;
    renew_sink(f);
    batch.events[30].event.service = SPAN_LITERAL("bad \xff\xfe bytes");
    assert_int_equal(f->sink.ops->apply(f->sink.self, &batch, &reject), SINK_REJECTED);
    assert_int_equal(reject.code, 1366);
    assert_int_equal(statements(f, "COM_LOAD"), loads + 1);
    expect_sql(f, "0", "SELECT COUNT(*) FROM events");
    expect_sql(f, "0", "SELECT last_seq FROM replication_offsets");
    batch.events[30].event.service = SPAN_LITERAL("good");
    test_db_do(f->admin, "ALTER TABLE events MODIFY status TINYINT UNSIGNED NULL");
    renew_sink(f);
    assert_int_equal(f->sink.ops->apply(f->sink.self, &batch, &reject), SINK_REJECTED);
    /* Once doubted it rests: the halves of a batch with a poison row go by INSERT alone. */
    assert_int_equal(statements(f, "COM_LOAD"), loads + 2);
    assert_int_equal(f->sink.ops->apply(f->sink.self, &batch, &reject), SINK_REJECTED);
    assert_int_equal(statements(f, "COM_LOAD"), loads + 2);
    test_db_do(f->admin, "ALTER TABLE events MODIFY status SMALLINT UNSIGNED NULL");
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    batch_free(&batch);
    for (uint64_t i = 0; statements(f, "COM_LOAD") == loads + 2; i++) {
        assert_true(i < 100);
        apply_and_free(f, make_batch(40 + 2 * i, 2));
    }
}

static void
a_server_that_asks_for_a_file_gets_none(void **state)
{
    struct fixture *f = *state;
    struct mysql_session session = {0};

    test_db_do(f->admin, "CREATE TABLE stolen (line TEXT)");
    assert_int_equal(mysql_session_open(&session, &f->config), ERR_OK);
    assert_int_not_equal(
        mysql_session_run_text(&session, "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE stolen",
                               NULL),
        0);
    mysql_session_close(&session);
    expect_sql(f, "0", "SELECT COUNT(*) FROM stolen");
}

/* ---- the offset and its owner ---- */

static void
a_batch_is_applied_only_where_the_offset_stands(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 3);
    struct batch gap = make_batch(4, 3);

    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    assert_int_equal(apply(f, &batch), SINK_FENCED);
    assert_int_equal(apply(f, &gap), SINK_FENCED);
    expect_sql(f, "3", "SELECT COUNT(*) FROM events");
    assert_int_equal(position(f), 3);
    apply_and_free(f, make_batch(3, 1));
    batch_free(&batch);
    batch_free(&gap);
}

static void
asking_for_the_position_again_writes_nothing(void **state)
{
    struct fixture *f = *state;
    struct mysql_owner later = f->owner;

    apply_and_free(f, make_batch(0, 3));
    test_db_do(f->admin, "UPDATE replication_offsets SET updated_at = '2001-01-01'");
    assert_int_equal(position(f), 3);
    renew_sink(f); /* a new connection of the same owner takes nothing over either */
    assert_int_equal(position(f), 3);
    expect_sql(f, "2001-01-01 00:00:00.000000", "SELECT updated_at FROM replication_offsets");
    expect_sql(f, "1", "SELECT COUNT(*) FROM replication_offsets");
    /* The next instance of this log does. */
    memcpy(f->known, f->owner.instance, sizeof f->known);
    later.epoch = 2;
    memset(later.instance, 0x44, sizeof later.instance);
    f->owner = later;
    renew_sink(f);
    assert_int_equal(position(f), 3);
    expect_sql(f, "2 44444444444444444444444444444444 1",
               "SELECT CONCAT_WS(' ', epoch, HEX(instance), updated_at > '2001-01-02') "
               "FROM replication_offsets");
}

static void
an_offset_row_deleted_meanwhile_is_made_again_at_zero(void **state)
{
    struct fixture *f = *state;

    apply_and_free(f, make_batch(0, 3));
    test_db_do(f->admin, "DELETE FROM replication_offsets");
    assert_int_equal(position(f), 0);
    expect_sql(f, "1 0", "SELECT CONCAT_WS(' ', epoch, last_seq) FROM replication_offsets");
}

static void
a_newer_epoch_fences_the_older_sink(void **state)
{
    struct fixture *f = *state;
    struct mysql_owner newer = f->owner;
    struct batch batch = make_batch(0, 3);
    struct sink twin;
    uint64_t seq = 99;

    memcpy(f->known, f->owner.instance, sizeof f->known);
    newer.epoch = 2;
    memset(newer.instance, 0x44, sizeof newer.instance);
    twin = new_sink(&f->config, &newer, 0);
    assert_int_equal(twin.ops->position(twin.self, &seq), ERR_OK);
    assert_int_equal(apply(f, &batch), SINK_FENCED);
    assert_int_equal(f->sink.ops->position(f->sink.self, &seq), ERR_FENCED);
    expect_sql(f, "0", "SELECT COUNT(*) FROM events");
    assert_int_equal(apply_to(&twin, &batch), SINK_APPLIED);
    twin.ops->close(twin.self);
    batch_free(&batch);
}

static void
an_instance_the_log_never_had_is_an_identity_conflict(void **state)
{
    struct fixture *f = *state;
    struct mysql_owner other = f->owner;
    struct sink sink;
    uint64_t seq;

    other.epoch = 5;
    memset(other.instance, 0x55, sizeof other.instance);
    sink = new_sink(&f->config, &other, 0); /* 0x22.. wrote the row, only 0x33.. is known */
    assert_int_equal(sink.ops->position(sink.self, &seq), ERR_IDENTITY);
    expect_sql(f, "1", "SELECT epoch FROM replication_offsets");
    memcpy(f->known, f->owner.instance, sizeof f->known);
    assert_int_equal(sink.ops->position(sink.self, &seq), ERR_OK);
    expect_sql(f, "5", "SELECT epoch FROM replication_offsets");
    sink.ops->close(sink.self);
}

static void
an_equal_epoch_of_another_instance_is_fenced(void **state)
{
    struct fixture *f = *state;
    struct mysql_owner other = f->owner;
    struct sink sink;
    uint64_t seq;

    memcpy(f->known, f->owner.instance, sizeof f->known);
    memset(other.instance, 0x55, sizeof other.instance);
    sink = new_sink(&f->config, &other, 0);
    assert_int_equal(sink.ops->position(sink.self, &seq), ERR_FENCED);
    sink.ops->close(sink.self);
}

static void
a_sequence_number_that_is_taken_stops_the_sink(void **state)
{
    struct fixture *f = *state;
    struct batch keyless = make_batch(0, 3);
    struct batch keyed = make_batch(0, 3);

    set_id(&keyed, 1, "one");
    apply_and_free(f, make_batch(0, 1));
    test_db_do(f->admin, "UPDATE replication_offsets SET last_seq = 0");
    assert_int_equal(apply(f, &keyless), SINK_FENCED);
    /* The very same event again with its own row still there: no repeat, but a reused number. */
    test_db_do(f->admin, "DELETE FROM events");
    assert_int_equal(apply(f, &keyed), SINK_APPLIED);
    test_db_do(f->admin, "DELETE FROM events WHERE seq <> 2");
    test_db_do(f->admin, "UPDATE replication_offsets SET last_seq = 0");
    assert_int_equal(apply(f, &keyed), SINK_FENCED);
    expect_sql(f, "1", "SELECT COUNT(*) FROM events");
    batch_free(&keyless);
    batch_free(&keyed);
}

/* ---- repeats ---- */

static void
repeats_are_found_wherever_they_stand_in_a_batch(void **state)
{
    struct fixture *f = *state;
    struct batch first = make_batch(0, 3);
    struct batch second = make_batch(3, 7);

    set_id(&first, 0, "a");
    set_id(&first, 1, "b");
    set_id(&first, 2, "c");
    set_id(&second, 0, "a");
    set_id(&second, 1, "new");
    set_id(&second, 3, "b");
    set_id(&second, 4, "new"); /* inside the same batch: the first one wins */
    set_id(&second, 6, "c");
    assert_int_equal(apply(f, &first), SINK_APPLIED);
    assert_int_equal(apply(f, &second), SINK_APPLIED);
    for (size_t i = 0; i < 7; i++) {
        const bool repeat = i == 0 || i == 3 || i == 4 || i == 6;

        assert_int_equal(second.events[i].outcome, repeat ? OUTCOME_DUPLICATE : OUTCOME_STORED);
    }
    expect_sql(f, "1,2,3,5,6,9", "SELECT GROUP_CONCAT(seq ORDER BY seq) FROM events");
    expect_sql(
        f, "10 6 0 4",
        "SELECT CONCAT_WS(' ', last_seq, stored, dead, duplicates) FROM replication_offsets");
    batch_free(&first);
    batch_free(&second);
}

/* Whichever of the two becomes a row first; ids that only look alike are others. */
static void
an_id_the_server_made_is_known_when_a_client_sends_it(void **state)
{
    static const char MADE[] = "01a1fda8-6795-79fc-a254-ad1ed64ce890";
    static const char LATER[] = "01a1fda8-6795-79fc-a254-ad1ed64ce891";
    struct fixture *f = *state;
    struct batch first = make_batch(0, 4);
    struct batch second = make_batch(4, 7);

    first.events[0].event.id = span_of(MADE);
    set_id(&first, 1, LATER);
    set_id(&first, 2, "plain");
    set_id(&second, 0, MADE);
    second.events[1].event.id = span_of(LATER);
    second.events[2].event.tenant = SPAN_LITERAL("other");
    set_id(&second, 2, MADE);
    set_id(&second, 3, "01A1FDA8-6795-79FC-A254-AD1ED64CE890");
    set_id(&second, 4, "01a1fda8-6795-79fc-a254-ad1ed64ce89");
    set_id(&second, 5, "01a1fda8-6795-49fc-a254-ad1ed64ce890");
    set_id(&second, 6, "plain");
    assert_int_equal(apply(f, &first), SINK_APPLIED);
    assert_int_equal(apply(f, &second), SINK_APPLIED);
    for (size_t i = 0; i < 7; i++) {
        const bool repeat = i == 0 || i == 1 || i == 6;

        assert_int_equal(second.events[i].outcome, repeat ? OUTCOME_DUPLICATE : OUTCOME_STORED);
    }
    expect_sql(f, "1,2,3,4,7,8,9,10", "SELECT GROUP_CONCAT(seq ORDER BY seq) FROM events");
    expect_sql(f, "01A1FDA8679579FC", "SELECT LEFT(HEX(dedupe_key), 16) FROM events WHERE seq = 1");
    batch_free(&first);
    batch_free(&second);
}

static void
a_batch_of_repeats_alone_moves_only_the_offset(void **state)
{
    struct fixture *f = *state;
    struct batch first = make_batch(0, 1);
    struct batch second = make_batch(1, 1);

    set_id(&first, 0, "a");
    set_id(&second, 0, "a");
    assert_int_equal(apply(f, &first), SINK_APPLIED);
    assert_int_equal(apply(f, &second), SINK_APPLIED);
    assert_int_equal(second.delta.len, 0);
    assert_int_equal(position(f), 2);
    expect_sql(f, "1", "SELECT SUM(total) FROM slo_slices");
    batch_free(&first);
    batch_free(&second);
}

static void
repeats_across_the_statements_of_one_batch_are_found(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 8000);
    char(*ids)[16] = calloc(batch.count, sizeof *ids);

    assert_non_null(ids);
    for (size_t i = 0; i < batch.count; i++) {
        snprintf(ids[i], sizeof ids[i], "id-%zu", i % 4000);
        set_id(&batch, i, ids[i]);
    }
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    expect_sql(f, "4000 1 4000", "SELECT CONCAT_WS(' ', COUNT(*), MIN(seq), MAX(seq)) FROM events");
    expect_sql(f, "4000", "SELECT duplicates FROM replication_offsets");
    free(ids);
    batch_free(&batch);
}

/* ---- what is refused ---- */

static void
a_poison_row_stores_nothing_and_then_becomes_a_dead_letter(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 3);
    struct batch_event *poison = &batch.events[0];
    struct sink_reject reject = {0};
    struct buffer body = BUFFER_EMPTY;
    char body_hex[1024] = "";

    test_db_do(f->admin, "ALTER TABLE events ADD CHECK (channel <> 'poison')");
    poison->event.channel = SPAN_LITERAL("poison");
    poison->event.properties = SPAN_LITERAL("{\"k\": \"it's\"}");
    event_encode(&poison->event, &body);
    poison->body = buffer_span(&body);
    assert_int_equal(f->sink.ops->apply(f->sink.self, &batch, &reject), SINK_REJECTED);
    assert_int_equal(reject.code, 4025);
    assert_non_null(strstr(reject.reason, "CONSTRAINT"));
    expect_sql(f, "0", "SELECT COUNT(*) FROM events");
    assert_int_equal(position(f), 0);

    poison->outcome = OUTCOME_DEAD;
    poison->reject_code = reject.code;
    memcpy(poison->reject_reason, reject.reason, sizeof reject.reason);
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    expect_sql(f, "2,3", "SELECT GROUP_CONCAT(seq ORDER BY seq) FROM events");
    expect_sql(
        f, "3 2 1 0",
        "SELECT CONCAT_WS(' ', last_seq, stored, dead, duplicates) FROM replication_offsets");
    expect_sql(f, "1 default fresh 4025",
               "SELECT CONCAT_WS(' ', seq, tenant_id, event_id, error_code) FROM dead_letters "
               "WHERE replayed_at IS NULL AND reason LIKE '%CONSTRAINT%'");
    assert_non_null(strstr(ask(f, "SELECT payload FROM dead_letters"),
                           "\"service\":\"api\",\"status\":200,\"latency_ms\":12.5,"
                           "\"channel\":\"poison\",\"properties\":{\"k\": \"it's\"}}"));
    for (size_t i = 0; i < body.len && 2 * i + 3 < sizeof body_hex; i++) {
        snprintf(body_hex + 2 * i, 3, "%02X", (unsigned char)body.data[i]);
    }
    expect_sql(f, body_hex, "SELECT HEX(record) FROM dead_letters");
    expect_sql(f, "1", "SELECT event_name = JSON_VALUE(payload, '$.event_name') FROM dead_letters");
    expect_sql(f, "2", "SELECT SUM(total) FROM slo_slices"); /* the letter's counts too */
    buffer_free(&body);
    batch_free(&batch);
}

static void
values_that_do_not_fit_an_altered_column_are_rejected(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 1);
    struct sink_reject reject = {0};

    test_db_do(f->admin, "ALTER TABLE events MODIFY service VARCHAR(2) NULL");
    assert_int_equal(f->sink.ops->apply(f->sink.self, &batch, &reject), SINK_REJECTED);
    assert_int_equal(reject.code, 1406);
    test_db_do(f->admin, "ALTER TABLE events MODIFY service VARCHAR(255) NULL");
    batch.events[0].event.service = SPAN_LITERAL("\xff\xfe");
    assert_int_equal(f->sink.ops->apply(f->sink.self, &batch, &reject), SINK_REJECTED);
    assert_int_equal(reject.code, 1366);
    for (const char *c = reject.reason; *c != '\0'; c++) {
        assert_true(*c >= ' ' && *c <= '~');
    }
    batch_free(&batch);
}

static void
a_dead_letter_whose_id_is_a_row_is_a_repeat(void **state)
{
    struct fixture *f = *state;
    struct batch first = make_batch(0, 1);
    struct batch second = make_batch(1, 1);

    set_id(&first, 0, "a");
    set_id(&second, 0, "a");
    second.events[0].outcome = OUTCOME_DEAD;
    assert_int_equal(apply(f, &first), SINK_APPLIED);
    assert_int_equal(apply(f, &second), SINK_APPLIED);
    assert_int_equal(second.events[0].outcome, OUTCOME_DUPLICATE);
    expect_sql(f, "0", "SELECT COUNT(*) FROM dead_letters");
    expect_sql(f, "1", "SELECT duplicates FROM replication_offsets");
    batch_free(&first);
    batch_free(&second);
}

static void
a_failing_dead_letter_table_holds_everything_back(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 2);

    batch.events[1].outcome = OUTCOME_DEAD;
    test_db_do(f->admin, "ALTER TABLE dead_letters ADD CONSTRAINT never CHECK (seq > 1000)");
    assert_int_equal(apply(f, &batch), SINK_RETRY);
    assert_int_equal(batch.events[1].outcome, OUTCOME_DEAD);
    expect_sql(f, "0", "SELECT COUNT(*) FROM events");
    assert_int_equal(position(f), 0);
    test_db_do(f->admin, "ALTER TABLE dead_letters DROP CONSTRAINT never");
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    expect_sql(f, "1", "SELECT COUNT(*) FROM dead_letters");
    batch_free(&batch);
}

/* ---- slices ---- */

static void
slices_equal_a_recomputation_from_the_rows(void **state)
{
    struct fixture *f = *state;
    static const struct span SERVICES[] = {SPAN_LITERAL("api"), SPAN_LITERAL("api "),
                                           SPAN_LITERAL("API"), SPAN_LITERAL("\xc3\xa9")};
    struct slice expected = {0};
    struct slice stored = {0};
    struct buffer a = BUFFER_EMPTY;
    struct buffer b = BUFFER_EMPTY;
    char slices[16];
    MYSQL_RES *result;
    MYSQL_ROW row;

    for (uint64_t round = 0; round < 4; round++) {
        struct batch batch = make_batch(round * 1000, 1000);

        for (size_t i = 0; i < batch.count; i++) {
            struct event *event = &batch.events[i].event;

            event->occurred_at_us += (int64_t)(i % 300 + round * 100) * MINUTE_US;
            if (i == 10) {
                event->occurred_at_us = -1; /* the minute before 1970, not the first one of it */
            }
            if (event_is_measured(event)) {
                event->service = SERVICES[(i / 2) % ARRAY_LEN(SERVICES)];
                event->latency_ms = (double)(i + round);
                assert_int_equal(slice_add_event(&expected, event, &RULES), ERR_OK);
            }
        }
        apply_and_free(f, batch);
    }
    snprintf(slices, sizeof slices, "%.15s", ask(f, "SELECT COUNT(*) FROM slo_slices"));
    expect_sql(f, slices,
               "SELECT COUNT(*) FROM (SELECT tenant_id, CAST(service AS BINARY) s, "
               "FLOOR(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', occurred_at) / 60000000) m, "
               "SUM(is_good) good, SUM(1 - is_good) bad FROM events WHERE is_good IS NOT NULL "
               "GROUP BY 1, 2, 3) r JOIN slo_slices x ON x.tenant_id = r.tenant_id AND "
               "x.service = r.s AND x.minute = r.m AND x.good = r.good AND x.bad = r.bad AND "
               "x.total = r.good + r.bad");
    expect_sql(f, "2000 4000", "SELECT CONCAT(SUM(total), ' ', MAX(last_seq)) FROM slo_slices");
    assert_int_equal(mysql_query(f->admin, "SELECT detail FROM slo_slices"), 0);
    result = mysql_store_result(f->admin);
    while ((row = mysql_fetch_row(result)) != NULL) {
        assert_int_equal(slice_decode_add(mysql_row_span(result, row, 0), &stored), ERR_OK);
    }
    mysql_free_result(result);
    slice_encode(&expected, &a);
    slice_encode(&stored, &b);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    slice_clear(&expected);
    slice_clear(&stored);
    buffer_free(&a);
    buffer_free(&b);
}

static void
a_slice_that_cannot_be_read_holds_the_batch_back(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(1, 1);

    apply_and_free(f, make_batch(0, 1));
    test_db_do(f->admin, "UPDATE slo_slices SET detail = 'garbage'");
    assert_int_equal(apply(f, &batch), SINK_RETRY);
    assert_int_equal(position(f), 1);
    expect_sql(f, "1", "SELECT COUNT(*) FROM events");
    batch_free(&batch);
}

/* ---- after a restart ---- */

static void
recover_tells_rows_dead_letters_and_repeats_apart(void **state)
{
    struct fixture *f = *state;
    struct batch first = make_batch(0, 5);
    struct batch again = make_batch(0, 5);
    static const enum outcome EXPECTED[] = {OUTCOME_STORED, OUTCOME_DEAD, OUTCOME_STORED,
                                            OUTCOME_DUPLICATE, OUTCOME_STORED};

    first.events[1].outcome = OUTCOME_DEAD;
    set_id(&first, 2, "a");
    set_id(&first, 3, "a");
    first.events[4].seq = again.events[4].seq = 2049; /* the partition's next stripe */
    first.to_seq = again.to_seq = 2049;
    assert_int_equal(apply(f, &first), SINK_APPLIED);
    assert_int_equal(f->sink.ops->recover(f->sink.self, &again), ERR_OK);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(again.events[i].outcome, EXPECTED[i]);
    }
    batch_free(&first);
    batch_free(&again);
}

/* What is missing then was never a repeat, so nothing may be made of it. */
static void
recover_does_not_judge_a_batch_beyond_the_offset(void **state)
{
    struct fixture *f = *state;
    struct batch again = make_batch(0, 5);

    apply_and_free(f, make_batch(0, 5));
    assert_int_equal(f->sink.ops->recover(f->sink.self, &again), ERR_OK);
    test_db_do(f->admin, "DELETE FROM events WHERE seq > 4");
    test_db_do(f->admin, "UPDATE replication_offsets SET last_seq = 4");
    assert_int_equal(f->sink.ops->recover(f->sink.self, &again), ERR_UNAVAILABLE);
    again.count = 4;
    again.to_seq = 4;
    assert_int_equal(f->sink.ops->recover(f->sink.self, &again), ERR_OK);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(again.events[i].outcome, OUTCOME_STORED);
    }
    test_db_do(f->admin, "DELETE FROM replication_offsets");
    assert_int_equal(f->sink.ops->recover(f->sink.self, &again), ERR_UNAVAILABLE);
    batch_free(&again);
}

/* ---- schema ---- */

struct racer {
    struct fixture *f;
    uint32_t partition;
    uint64_t after_seq;
    uint64_t duplicates;
    enum err err;
};

static void *
race_to_migrate(void *arg)
{
    struct racer *racer = arg;
    struct sink sink;
    uint64_t seq;

    if (mysql_sink_new(&sink, &racer->f->config, &racer->f->owner, racer->partition, &RULES) ==
        ERR_OK) {
        racer->err = ERR_UNAVAILABLE;
        for (int attempt = 0; attempt < 20 && racer->err == ERR_UNAVAILABLE; attempt++) {
            racer->err = sink.ops->position(sink.self, &seq);
        }
        sink.ops->close(sink.self);
    }
    mysql_library_thread_stop();
    return NULL;
}

static void
servers_starting_together_migrate_once(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[4];
    struct racer racers[4];

    test_db_do(f->admin, "DROP DATABASE %s", f->database);
    for (uint32_t i = 0; i < 4; i++) {
        racers[i] = (struct racer){.f = f, .partition = i, .err = ERR_FAILED};
        assert_int_equal(pthread_create(&threads[i], NULL, race_to_migrate, &racers[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(racers[i].err, ERR_OK);
    }
    test_db_do(f->admin, "USE %s", f->database);
    expect_sql(f, "3", "SELECT COUNT(*) FROM schema_migrations");
    expect_sql(f, "4", "SELECT COUNT(*) FROM replication_offsets");
}

static void
a_newer_schema_is_refused_and_left_alone(void **state)
{
    struct fixture *f = *state;
    struct sink sink;
    uint64_t seq;

    test_db_do(f->admin, "INSERT INTO schema_migrations VALUES (%u, 'future', NOW())",
               mysql_schema_version() + 1);
    test_db_do(f->admin, "DROP TABLE api_requests");
    sink = new_sink(&f->config, &f->owner, 0);
    assert_int_equal(sink.ops->position(sink.self, &seq), ERR_FORMAT);
    expect_sql(f, "0",
               "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() "
               "AND table_name = 'api_requests'");
    sink.ops->close(sink.self);
}

static void
a_dropped_table_is_made_again(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 2);

    test_db_do(f->admin, "DROP TABLE events");
    assert_int_equal(apply(f, &batch), SINK_RETRY);
    assert_int_equal(position(f), 0);
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    expect_sql(f, "2", "SELECT COUNT(*) FROM events");
    batch_free(&batch);
}

static void
an_altered_table_is_waited_for(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 2);
    struct batch next = make_batch(2, 2);

    test_db_do(f->admin, "ALTER TABLE events DROP COLUMN tags");
    assert_int_equal(apply(f, &batch), SINK_RETRY);
    assert_int_equal(position(f), 0);
    assert_int_equal(apply(f, &batch), SINK_RETRY);
    test_db_do(f->admin, "ALTER TABLE events ADD COLUMN tags LONGTEXT");
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    test_db_do(f->admin, "ALTER TABLE events ADD COLUMN must INT NOT NULL");
    assert_int_equal(apply(f, &next), SINK_RETRY); /* no default: not the data's fault */
    batch_free(&batch);
    batch_free(&next);
}

/* ---- two sinks at once ---- */

enum {
    RACE_BATCHES = 20,
    RACE_EVENTS = 100
};

/* One batch of the race: both partitions send the same ids, in opposite orders. */
static void
race_one_batch(struct racer *racer, struct sink *sink, unsigned n, uint64_t *after)
{
    struct batch batch = make_batch(racer->after_seq + n * RACE_EVENTS, RACE_EVENTS);
    enum sink_result result = SINK_RETRY;
    char ids[RACE_EVENTS][32];

    batch.partition = racer->partition;
    batch.after_seq = *after;
    for (unsigned i = 0; i < RACE_EVENTS; i++) {
        const unsigned id = racer->partition == 0 ? i : RACE_EVENTS - 1 - i;

        snprintf(ids[i], sizeof ids[i], "shared-%u-%u", n, id);
        set_id(&batch, i, ids[i]);
    }
    for (int attempt = 0; attempt < 50 && result == SINK_RETRY; attempt++) {
        result = apply_to(sink, &batch);
    }
    if (result != SINK_APPLIED) {
        racer->err = ERR_FAILED;
    }
    for (size_t i = 0; i < batch.count; i++) {
        racer->duplicates += batch.events[i].outcome == OUTCOME_DUPLICATE;
    }
    *after = batch.to_seq;
    batch_free(&batch);
}

static void *
race_to_store(void *arg)
{
    struct racer *racer = arg;
    struct sink sink;
    uint64_t after = 0;

    if (mysql_sink_new(&sink, &racer->f->config, &racer->f->owner, racer->partition, &RULES) !=
        ERR_OK) {
        return NULL;
    }
    racer->err = sink.ops->position(sink.self, &after);
    for (unsigned n = 0; n < RACE_BATCHES && racer->err == ERR_OK; n++) {
        race_one_batch(racer, &sink, n, &after);
    }
    sink.ops->close(sink.self);
    mysql_library_thread_stop();
    return NULL;
}

static void
two_partitions_with_the_same_ids_store_each_once(void **state)
{
    struct fixture *f = *state;
    struct racer racers[2];
    pthread_t threads[2];
    char total[16];

    snprintf(total, sizeof total, "%d", RACE_BATCHES * RACE_EVENTS);
    for (uint32_t i = 0; i < 2; i++) {
        racers[i] =
            (struct racer){.f = f, .partition = i, .after_seq = i * 1000000, .err = ERR_FAILED};
        assert_int_equal(pthread_create(&threads[i], NULL, race_to_store, &racers[i]), 0);
    }
    for (size_t i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(racers[i].err, ERR_OK);
    }
    assert_int_equal(racers[0].duplicates + racers[1].duplicates, RACE_BATCHES * RACE_EVENTS);
    expect_sql(f, total, "SELECT COUNT(*) FROM events");
    expect_sql(f, total, "SELECT COUNT(DISTINCT dedupe_key) FROM events");
    expect_sql(f, total, "SELECT SUM(stored) FROM replication_offsets");
    expect_sql(f, total, "SELECT SUM(duplicates) FROM replication_offsets");
    expect_sql(f, "0",
               "SELECT (SELECT COUNT(*) FROM events WHERE is_good IS NOT NULL) - "
               "(SELECT SUM(total) FROM slo_slices)");
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
        TEST(every_column_holds_what_the_event_had),
        TEST(sixty_four_kibibytes_of_properties_come_back_unchanged),
        TEST(json_nested_as_deep_as_decoding_allows_is_a_row),
        TEST(times_a_datetime_cannot_hold_are_kept_exactly_beside_it),
        TEST(calendar_arithmetic_agrees_with_the_server),
        TEST(a_batch_longer_than_one_statement_is_one_transaction),
        TEST(batches_of_enough_rows_go_by_load_data),
        TEST(load_data_stores_what_insert_stores),
        TEST(what_load_data_would_bend_is_refused_by_insert_and_named),
        TEST(a_server_that_asks_for_a_file_gets_none),
        TEST(a_batch_is_applied_only_where_the_offset_stands),
        TEST(asking_for_the_position_again_writes_nothing),
        TEST(an_offset_row_deleted_meanwhile_is_made_again_at_zero),
        TEST(a_newer_epoch_fences_the_older_sink),
        TEST(an_instance_the_log_never_had_is_an_identity_conflict),
        TEST(an_equal_epoch_of_another_instance_is_fenced),
        TEST(a_sequence_number_that_is_taken_stops_the_sink),
        TEST(repeats_are_found_wherever_they_stand_in_a_batch),
        TEST(an_id_the_server_made_is_known_when_a_client_sends_it),
        TEST(a_batch_of_repeats_alone_moves_only_the_offset),
        TEST(repeats_across_the_statements_of_one_batch_are_found),
        TEST(a_poison_row_stores_nothing_and_then_becomes_a_dead_letter),
        TEST(values_that_do_not_fit_an_altered_column_are_rejected),
        TEST(a_dead_letter_whose_id_is_a_row_is_a_repeat),
        TEST(a_failing_dead_letter_table_holds_everything_back),
        TEST(slices_equal_a_recomputation_from_the_rows),
        TEST(a_slice_that_cannot_be_read_holds_the_batch_back),
        TEST(recover_tells_rows_dead_letters_and_repeats_apart),
        TEST(recover_does_not_judge_a_batch_beyond_the_offset),
        TEST(servers_starting_together_migrate_once),
        TEST(a_newer_schema_is_refused_and_left_alone),
        TEST(a_dropped_table_is_made_again),
        TEST(an_altered_table_is_waited_for),
        TEST(two_partitions_with_the_same_ids_store_each_once),
    };

    int failed;

    log_setup(LOG_ERROR, LOG_TEXT, 2);
    signal(SIGPIPE, SIG_IGN);
    mysql_library_start();
    if (!test_db_use(&shared_db)) {
        return skip_all();
    }
    failed = cmocka_run_group_tests_name("rows by INSERT", tests, NULL, NULL);
    load_rows_min = 1;
    return failed + cmocka_run_group_tests_name("rows by LOAD DATA", tests, NULL, end_shared_db);
}
