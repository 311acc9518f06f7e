/*
 * Whatever happens to the connection or the server while a batch is being applied, it is in the
 * database once or not at all, and the sink's answer says which, or says to ask.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>

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

static int
start_own(void **state, const char *options)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    *state = f;
    if (!test_db_start(&f->own, options)) {
        return -1;
    }
    fixture_open(f, &f->own);
    return 0;
}

/* For tests that kill or reconfigure the server. */
static int
set_up_own(void **state)
{
    return start_own(state, "");
}

static int
set_up_own_on_tcp(void **state)
{
    return start_own(state, "--port auto");
}

/* ---- locks ---- */

static void
a_lock_wait_ends_in_retry(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 2);
    uint64_t seq;

    test_db_do(f->admin, "START TRANSACTION");
    test_db_do(f->admin, "SELECT * FROM replication_offsets FOR UPDATE");
    assert_int_equal(apply(f, &batch), SINK_RETRY);
    assert_int_equal(f->sink.ops->position(f->sink.self, &seq), ERR_UNAVAILABLE);
    test_db_do(f->admin, "ROLLBACK");
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    expect_sql(f, "2", "SELECT COUNT(*) FROM events");
    batch_free(&batch);
}

/* 1205 rolls back only its statement: what came before it in the transaction must go as well. */
static void
a_lock_wait_in_the_middle_rolls_everything_back(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 2);
    char key[33];

    set_id(&batch, 1, "contested");
    key_hex(&batch.events[1].event, key);
    test_db_do(f->admin, "START TRANSACTION");
    test_db_do(f->admin,
               "INSERT INTO events (node_id, seq, tenant_id, event_id, event_name, occurred_at, "
               "created_at, dedupe_key) VALUES (0xaa, 1, 't', 'i', 'n', NOW(), NOW(), 0x%s)",
               key);
    assert_int_equal(apply(f, &batch), SINK_RETRY);
    test_db_do(f->admin, "ROLLBACK");
    expect_sql(f, "0 0", "SELECT CONCAT(last_seq, ' ', stored) FROM replication_offsets");
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    assert_int_equal(batch.events[1].outcome, OUTCOME_STORED);
    expect_sql(f, "2", "SELECT COUNT(*) FROM events");
    batch_free(&batch);
}

static void
a_deadlock_ends_in_retry_and_then_in_a_repeat(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 2);
    struct applier applier;
    char key[33];

    set_id(&batch, 0, "contested");
    key_hex(&batch.events[0].event, key);
    test_db_do(f->admin, "START TRANSACTION");
    for (int i = 0; i < 50; i++) { /* the transaction that has written more survives */
        test_db_do(f->admin,
                   "INSERT INTO events (node_id, seq, tenant_id, event_id, event_name, "
                   "occurred_at, created_at) VALUES (0xaa, %d, 't', 'i', 'n', NOW(), NOW())",
                   i);
    }
    test_db_do(f->admin, "UPDATE events SET dedupe_key = 0x%s WHERE seq = 0", key);
    start_applier(&applier, f, &batch);
    wait_for(f, "SELECT trx_id FROM information_schema.innodb_trx WHERE "
                "trx_state = 'LOCK WAIT' AND (trx_query LIKE 'INSERT INTO events%' OR "
                "trx_query LIKE 'LOAD DATA%')");
    test_db_do(f->admin, "SELECT * FROM replication_offsets FOR UPDATE");
    pthread_join(applier.thread, NULL);
    assert_int_equal(applier.result, SINK_RETRY);
    test_db_do(f->admin, "COMMIT");
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    assert_int_equal(batch.events[0].outcome, OUTCOME_DUPLICATE);
    assert_int_equal(batch.events[1].outcome, OUTCOME_STORED);
    batch_free(&batch);
}

/* ---- connections ---- */

static void
a_connection_killed_in_a_transaction_ends_in_retry(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 2);
    struct applier applier;

    start_blocked_applier(&applier, f, &batch);
    test_db_do(f->admin, "KILL %s", f->text);
    pthread_join(applier.thread, NULL);
    assert_int_equal(applier.result, SINK_RETRY);
    test_db_do(f->admin, "ROLLBACK");
    assert_int_equal(position(f), 0);
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    expect_sql(f, "2", "SELECT COUNT(*) FROM events");
    batch_free(&batch);
}

static void
a_statement_killed_alone_ends_in_retry(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 2);
    struct applier applier;

    start_blocked_applier(&applier, f, &batch);
    test_db_do(f->admin, "KILL QUERY %s", f->text);
    pthread_join(applier.thread, NULL);
    assert_int_equal(applier.result, SINK_RETRY);
    test_db_do(f->admin, "ROLLBACK");
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    expect_sql(f, "2", "SELECT COUNT(*) FROM events");
    batch_free(&batch);
}

static void
a_connection_lost_while_idle_is_opened_again_unseen(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 2);

    wait_for(f, "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND "
                "id <> CONNECTION_ID()");
    test_db_do(f->admin, "KILL %s", f->text);
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    batch_free(&batch);
}

static void
a_server_that_is_not_there_is_waited_for(void **state)
{
    struct fixture *f = *state;
    struct mysql_config config = f->config;
    struct batch batch = make_batch(0, 1);
    struct sink sink;
    uint64_t seq = 7;

    config.socket = "/nonexistent/socket";
    sink = new_sink(&config, &f->owner, 0);
    assert_int_equal(sink.ops->position(sink.self, &seq), ERR_UNAVAILABLE);
    assert_int_equal(apply_to(&sink, &batch), SINK_RETRY);
    assert_int_equal(sink.ops->recover(sink.self, &batch), ERR_UNAVAILABLE);
    assert_int_equal(seq, 7);
    sink.ops->close(sink.self);
    batch_free(&batch);
}

static void
demanded_tls_is_never_given_up(void **state)
{
    struct fixture *f = *state;
    struct mysql_config config = f->config;
    struct sink sink;
    uint64_t seq;

    config.tls = MYSQL_TLS_REQUIRED;
    sink = new_sink(&config, &f->owner, 0);
    assert_int_equal(sink.ops->position(sink.self, &seq), ERR_UNAVAILABLE);
    sink.ops->close(sink.self);
}

/* ---- a server that dies, hangs, or has other settings ---- */

static void
a_server_killed_in_a_transaction_loses_and_doubles_nothing(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 100);
    struct applier applier;
    uint64_t seq;

    start_blocked_applier(&applier, f, &batch);
    assert_true(test_db_action(f->db, "kill", ""));
    pthread_join(applier.thread, NULL);
    assert_int_equal(applier.result, SINK_RETRY);
    assert_int_equal(f->sink.ops->position(f->sink.self, &seq), ERR_UNAVAILABLE);
    assert_int_equal(apply(f, &batch), SINK_RETRY);

    assert_true(test_db_action(f->db, "start", ""));
    assert_int_equal(position(f), 0);
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    assert_true(test_db_action(f->db, "kill", ""));
    assert_true(test_db_action(f->db, "start", ""));
    assert_int_equal(position(f), 100);
    connect_admin(f);
    test_db_do(f->admin, "USE %s", f->database);
    expect_sql(f, "100", "SELECT COUNT(*) FROM events");
    expect_sql(f, "50", "SELECT SUM(total) FROM slo_slices");
    batch_free(&batch);
}

static void
a_hung_server_is_given_up_after_the_timeout(void **state)
{
    struct fixture *f = *state;
    struct mysql_config hasty = f->config;
    struct batch batch = make_batch(0, 2);
    struct sink sink;
    uint64_t seq;
    int pid;

    hasty.timeout_ms = 2000;
    sink = new_sink(&hasty, &f->owner, 0);
    assert_int_equal(sink.ops->position(sink.self, &seq), ERR_OK);
    pid = test_db_number(f->db, "pid");
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_int_equal(apply_to(&sink, &batch), SINK_RETRY);
    assert_int_equal(sink.ops->position(sink.self, &seq), ERR_UNAVAILABLE);
    assert_int_equal(kill(pid, SIGCONT), 0);
    assert_int_equal(sink.ops->position(sink.self, &seq), ERR_OK);
    assert_int_equal(apply_to(&sink, &batch), SINK_APPLIED);
    expect_sql(f, "2", "SELECT COUNT(*) FROM events");
    sink.ops->close(sink.self);
    batch_free(&batch);
}

/* What somebody has set for the whole server must not bend what we read or store. */
static void
the_servers_own_defaults_are_not_relied_on(void **state)
{
    struct fixture *f = *state;
    struct batch first = make_batch(0, 40);
    struct batch second = make_batch(40, 40);
    struct batch again = make_batch(0, 40);

    test_db_do(f->admin,
               "SET GLOBAL sql_select_limit = 1, GLOBAL unique_checks = 0, GLOBAL sql_mode = "
               "'NO_BACKSLASH_ESCAPES,ANSI_QUOTES', GLOBAL autocommit = 0, "
               "GLOBAL completion_type = 'CHAIN', GLOBAL tx_isolation = 'SERIALIZABLE'");
    renew_sink(f);
    assert_int_equal(position(f), 0);
    for (size_t i = 0; i < first.count; i++) {
        first.events[i].event.occurred_at_us += (int64_t)i * MINUTE_US;
        second.events[i].event.occurred_at_us += (int64_t)i * MINUTE_US;
        second.events[i].event.user_id = SPAN_LITERAL("it's \\ \"q\"");
    }
    set_id(&first, 1, "a");
    set_id(&first, 2, "b");
    set_id(&second, 1, "a");
    set_id(&second, 2, "b");
    assert_int_equal(apply(f, &first), SINK_APPLIED);
    assert_int_equal(apply(f, &second), SINK_APPLIED);
    expect_sql(f, "78", "SELECT COUNT(*) FROM events");
    expect_sql(f, "78 2", "SELECT CONCAT_WS(' ', stored, duplicates) FROM replication_offsets");
    expect_sql(f, "38", "SELECT COUNT(*) FROM events WHERE user_id = 'it\\'s \\\\ \"q\"'");
    expect_sql(f, "0",
               "SELECT (SELECT COUNT(*) FROM events WHERE is_good IS NOT NULL) - "
               "(SELECT SUM(total) FROM slo_slices)");
    assert_int_equal(f->sink.ops->recover(f->sink.self, &again), ERR_OK);
    for (size_t i = 0; i < again.count; i++) {
        assert_int_equal(again.events[i].outcome, OUTCOME_STORED);
    }
    batch_free(&first);
    batch_free(&second);
    batch_free(&again);
}

static void
a_server_that_takes_no_load_data_gets_inserts(void **state)
{
    static const char LOADS[] = "SELECT variable_value FROM information_schema.global_status "
                                "WHERE variable_name = 'COM_LOAD'";
    struct fixture *f = *state;
    struct batch first = make_batch(0, 3);
    char loads[32];

    test_db_do(f->admin, "SET GLOBAL local_infile = 0");
    f->config.load_rows_min = 1;
    renew_sink(f);
    assert_int_equal(apply(f, &first), SINK_APPLIED);
    snprintf(loads, sizeof loads, "%.31s", ask(f, LOADS));
    for (uint64_t i = 0; i < 50; i++) {
        apply_and_free(f, make_batch(3 + i, 1));
    }
    expect_sql(f, loads, LOADS); /* this session is not asked again */
    expect_sql(f, "53 53 53",
               "SELECT CONCAT_WS(' ', COUNT(*), MAX(seq), (SELECT stored FROM "
               "replication_offsets)) FROM events");
    test_db_do(f->admin, "SET GLOBAL local_infile = 1");
    renew_sink(f);
    apply_and_free(f, make_batch(53, 1));
    expect_sql(f, "54", "SELECT COUNT(*) FROM events");
    assert_true(strcmp(ask(f, LOADS), loads) != 0);
    batch_free(&first);
}

/* A table locked by an operator's work is a wait that ends in order, on the same connection. */
static void
a_locked_table_ends_in_retry_without_losing_the_connection(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 2);
    char id[32];

    wait_for(f, "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND "
                "id <> CONNECTION_ID()");
    snprintf(id, sizeof id, "%.31s", f->text);
    test_db_do(f->admin, "LOCK TABLES events WRITE");
    assert_int_equal(apply(f, &batch), SINK_RETRY);
    test_db_do(f->admin, "UNLOCK TABLES");
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    expect_sql(f, id,
               "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND "
               "id <> CONNECTION_ID()");
    batch_free(&batch);
}

static void
a_small_packet_splits_statements_and_then_batches(void **state)
{
    struct fixture *f = *state;
    struct batch many = make_batch(0, 300);
    struct batch big = make_batch(300, 2);
    struct batch part;
    static char text[40000];

    test_db_do(f->admin, "SET GLOBAL max_allowed_packet = 16384");
    f->config.load_rows_min = 0; /* LOAD DATA knows no such limit */
    renew_sink(f);
    for (size_t i = 0; i < many.count; i++) {
        many.events[i].event.occurred_at_us += (int64_t)i * MINUTE_US; /* many slices too */
    }
    assert_int_equal(position(f), 0);
    assert_int_equal(apply(f, &many), SINK_APPLIED);
    expect_sql(f, "300", "SELECT COUNT(*) FROM events");
    expect_sql(f, "150", "SELECT COUNT(*) FROM slo_slices");

    memset(text, 'x', sizeof text);
    memcpy(text, "{\"a\":\"", 6);
    memcpy(text + sizeof text - 2, "\"}", 2);
    big.events[1].event.properties = (struct span){text, sizeof text};
    assert_int_equal(apply(f, &big), SINK_TOO_BIG);
    part = batch_part(&big, 0, 1);
    assert_int_equal(apply(f, &part), SINK_APPLIED);
    batch_unfold(&part);
    part = batch_part(&big, 1, 1);
    assert_int_equal(apply(f, &part), SINK_RETRY);
    part.events[0].outcome = OUTCOME_DEAD; /* its dead letter would be as long */
    assert_int_equal(apply(f, &part), SINK_RETRY);
    part.events[0].outcome = OUTCOME_STORED;
    expect_sql(f, "301", "SELECT last_seq FROM replication_offsets");
    test_db_do(f->admin, "SET GLOBAL max_allowed_packet = 16777216");
    assert_int_equal(apply(f, &part), SINK_APPLIED);
    expect_sql(f, "302", "SELECT COUNT(*) FROM events");
    batch_unfold(&part);
    batch_free(&many);
    batch_free(&big);
}

/* The sink as an account that has no more rights than it needs. */
static void
use_plain_account(struct fixture *f)
{
    test_db_do(f->admin, "CREATE USER plain@localhost");
    test_db_do(f->admin, "GRANT ALL ON %s.* TO plain@localhost", f->database);
    f->config.user = "plain";
    renew_sink(f);
    assert_int_equal(position(f), 0);
}

static void
a_read_only_server_is_waited_for(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 2);
    uint64_t seq;

    use_plain_account(f);
    test_db_do(f->admin, "SET GLOBAL read_only = 1");
    assert_int_equal(apply(f, &batch), SINK_RETRY);
    assert_int_equal(f->sink.ops->position(f->sink.self, &seq), ERR_UNAVAILABLE);
    test_db_do(f->admin, "SET GLOBAL read_only = 0");
    assert_int_equal(position(f), 0);
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    expect_sql(f, "2", "SELECT COUNT(*) FROM events");
    batch_free(&batch);
}

static void
revoked_rights_are_waited_for(void **state)
{
    struct fixture *f = *state;
    struct batch batch = make_batch(0, 2);
    uint64_t seq;

    use_plain_account(f);
    test_db_do(f->admin, "REVOKE INSERT ON %s.* FROM plain@localhost", f->database);
    renew_sink(f);
    assert_int_equal(apply(f, &batch), SINK_RETRY);
    expect_sql(f, "0", "SELECT last_seq FROM replication_offsets");
    test_db_do(f->admin, "GRANT INSERT ON %s.* TO plain@localhost", f->database);
    renew_sink(f);
    assert_int_equal(apply(f, &batch), SINK_APPLIED);
    test_db_do(f->admin, "ALTER USER plain@localhost IDENTIFIED BY 'other'");
    renew_sink(f);
    assert_int_equal(f->sink.ops->position(f->sink.self, &seq), ERR_UNAVAILABLE);
    batch_free(&batch);
}

static void
too_many_connections_are_waited_for(void **state)
{
    struct fixture *f = *state;
    struct sink second;
    uint64_t seq;

    use_plain_account(f);
    test_db_do(f->admin, "ALTER USER plain@localhost WITH MAX_USER_CONNECTIONS 1");
    renew_sink(f);
    /* The server may still be closing the connection that renewing gave up. */
    for (int attempt = 0; attempt < 500; attempt++) {
        const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};

        if (f->sink.ops->position(f->sink.self, &seq) == ERR_OK) {
            break;
        }
        nanosleep(&pause, NULL);
    }
    second = new_sink(&f->config, &f->owner, 1);
    assert_int_equal(second.ops->position(second.self, &seq), ERR_UNAVAILABLE);
    second.ops->close(second.self);
    assert_int_equal(position(f), 0);
}

/* ---- the answer to COMMIT is lost ---- */

enum proxy_mode {
    PROXY_PASS,
    PROXY_DROP_ANSWER, /* COMMIT reaches the server, its answer does not come back */
    PROXY_DROP_COMMIT, /* COMMIT does not reach the server */
};

struct proxy {
    int listener;
    uint16_t port;
    uint16_t server_port;
    _Atomic int mode; /* back to PROXY_PASS once it has acted */
    _Atomic bool stop;
    pthread_t thread;
};

static struct sockaddr_in
loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* Copies what FROM has to TO. False at the end of the stream. */
static bool
copy_once(int from, int to)
{
    char bytes[65536];
    const ssize_t got = recv(from, bytes, sizeof bytes, 0);

    return got > 0 && send(to, bytes, (size_t)got, MSG_NOSIGNAL) == got;
}

/* The head of a packet that says COMMIT: 3 bytes of length, 1 of sequence, COM_QUERY, the text. */
static bool
says_commit(int client)
{
    static const char COMMIT[] = "\x07\0\0\0\x03"
                                 "COMMIT";
    char head[sizeof COMMIT - 1];

    return recv(client, head, sizeof head, MSG_PEEK) == (ssize_t)sizeof head &&
           memcmp(head, COMMIT, sizeof head) == 0;
}

/* Carries one connection until an end closes it or a COMMIT is lost. */
static void
carry(struct proxy *proxy, int client, int server)
{
    struct pollfd fds[2] = {{.fd = client, .events = POLLIN}, {.fd = server, .events = POLLIN}};
    char answer[64];

    while (!proxy->stop) {
        if (poll(fds, 2, 50) <= 0) {
            continue;
        }
        if (fds[1].revents != 0 && !copy_once(server, client)) {
            return;
        }
        if (fds[0].revents == 0) {
            continue;
        }
        if (proxy->mode != PROXY_PASS && says_commit(client)) {
            if (proxy->mode == PROXY_DROP_ANSWER && copy_once(client, server)) {
                (void)!recv(server, answer, sizeof answer, 0);
            }
            proxy->mode = PROXY_PASS;
            return;
        }
        if (!copy_once(client, server)) {
            return;
        }
    }
}

static void *
run_proxy(void *arg)
{
    struct proxy *proxy = arg;
    struct pollfd listening = {.fd = proxy->listener, .events = POLLIN};

    while (!proxy->stop) {
        const struct sockaddr_in to = loopback(proxy->server_port);
        int client;
        int server;

        if (poll(&listening, 1, 50) <= 0) {
            continue;
        }
        client = accept(proxy->listener, NULL, NULL);
        server = socket(AF_INET, SOCK_STREAM, 0);
        if (client >= 0 && connect(server, (const struct sockaddr *)&to, sizeof to) == 0) {
            carry(proxy, client, server);
        }
        close(client);
        close(server);
    }
    return NULL;
}

static void
start_proxy(struct proxy *proxy, uint16_t server_port)
{
    struct sockaddr_in at = loopback(0);
    socklen_t size = sizeof at;

    *proxy = (struct proxy){.server_port = server_port};
    proxy->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(proxy->listener >= 0);
    assert_int_equal(bind(proxy->listener, (const struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(proxy->listener, 8), 0);
    assert_int_equal(getsockname(proxy->listener, (struct sockaddr *)&at, &size), 0);
    proxy->port = ntohs(at.sin_port);
    assert_int_equal(pthread_create(&proxy->thread, NULL, run_proxy, proxy), 0);
}

static void
stop_proxy(struct proxy *proxy)
{
    proxy->stop = true;
    pthread_join(proxy->thread, NULL);
    close(proxy->listener);
}

static void
a_lost_answer_to_commit_is_resolved_by_the_offset(void **state)
{
    struct fixture *f = *state;
    struct mysql_config config = f->config;
    struct batch batch = make_batch(0, 10);
    struct batch next = make_batch(10, 10);
    struct proxy proxy;
    struct sink sink;
    uint64_t seq = 99;

    start_proxy(&proxy, (uint16_t)test_db_number(f->db, "port"));
    config.socket = NULL;
    config.host = "127.0.0.1";
    config.port = proxy.port;
    sink = new_sink(&config, &f->owner, 0);
    assert_int_equal(sink.ops->position(sink.self, &seq), ERR_OK);
    assert_int_equal(seq, 0);

    proxy.mode = PROXY_DROP_ANSWER;
    assert_int_equal(apply_to(&sink, &batch), SINK_UNKNOWN);
    assert_int_equal(sink.ops->position(sink.self, &seq), ERR_OK);
    assert_int_equal(seq, 10);

    proxy.mode = PROXY_DROP_COMMIT;
    assert_int_equal(apply_to(&sink, &next), SINK_UNKNOWN);
    assert_int_equal(sink.ops->position(sink.self, &seq), ERR_OK);
    assert_int_equal(seq, 10);
    assert_int_equal(apply_to(&sink, &next), SINK_APPLIED);

    proxy.mode = PROXY_DROP_ANSWER; /* the answer to the takeover itself */
    assert_int_equal(sink.ops->position(sink.self, &seq), ERR_UNAVAILABLE);
    assert_int_equal(sink.ops->position(sink.self, &seq), ERR_OK);
    assert_int_equal(seq, 20);
    sink.ops->close(sink.self);
    stop_proxy(&proxy);
    expect_sql(f, "20", "SELECT COUNT(*) FROM events");
    expect_sql(f, "10", "SELECT SUM(total) FROM slo_slices");
    expect_sql(f, "20", "SELECT stored FROM replication_offsets");
    batch_free(&batch);
    batch_free(&next);
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
#define TEST_OWN_SERVER(name) cmocka_unit_test_setup_teardown(name, set_up_own, fixture_close)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_lock_wait_ends_in_retry),
        TEST(a_lock_wait_in_the_middle_rolls_everything_back),
        TEST(a_deadlock_ends_in_retry_and_then_in_a_repeat),
        TEST(a_connection_killed_in_a_transaction_ends_in_retry),
        TEST(a_statement_killed_alone_ends_in_retry),
        TEST(a_connection_lost_while_idle_is_opened_again_unseen),
        TEST(a_server_that_is_not_there_is_waited_for),
        TEST(demanded_tls_is_never_given_up),
        TEST_OWN_SERVER(a_server_killed_in_a_transaction_loses_and_doubles_nothing),
        TEST_OWN_SERVER(a_hung_server_is_given_up_after_the_timeout),
        TEST_OWN_SERVER(the_servers_own_defaults_are_not_relied_on),
        TEST_OWN_SERVER(a_server_that_takes_no_load_data_gets_inserts),
        TEST(a_locked_table_ends_in_retry_without_losing_the_connection),
        TEST_OWN_SERVER(a_small_packet_splits_statements_and_then_batches),
        TEST_OWN_SERVER(a_read_only_server_is_waited_for),
        TEST_OWN_SERVER(revoked_rights_are_waited_for),
        TEST_OWN_SERVER(too_many_connections_are_waited_for),
        cmocka_unit_test_setup_teardown(a_lost_answer_to_commit_is_resolved_by_the_offset,
                                        set_up_own_on_tcp, fixture_close),
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
