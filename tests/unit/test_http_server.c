/*
 * The whole front over real sockets, against journals in memory: one that behaves as the log does,
 * and one whose appends the test completes in any order it likes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/slo/slices.h"
#include "http/server.h"
#include "tests/fakes/fake_journal.h"

/* Sanitizers bring their own allocator. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FAILING_ALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FAILING_ALLOC 0
#endif
#endif
#ifndef FAILING_ALLOC
#define FAILING_ALLOC 1
void *__libc_calloc(size_t count, size_t size);
#endif

enum {
    EVENT_MAX = 2048,
    PATIENCE_S = 30, /* a socket that says nothing for so long is a failure */
};

/* ---- memory that runs out for the server ---- */

#if FAILING_ALLOC
static _Atomic int callocs_to_fail;

void *
calloc(size_t count, size_t size)
{
    if (atomic_load(&callocs_to_fail) > 0 && atomic_fetch_sub(&callocs_to_fail, 1) > 0) {
        return NULL;
    }
    return __libc_calloc(count, size);
}
#endif

/* ---- a journal the test completes by hand ---- */

struct manual_journal {
    struct journal port;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct append *held[256];
    size_t count;
    uint64_t kicks;
    uint64_t seq;
    bool stats_held; /* stats() does not return meanwhile */
    uint32_t stats_waiting;
};

static enum err
manual_append(void *self, struct append *append)
{
    struct manual_journal *m = self;

    pthread_mutex_lock(&m->mutex);
    ASSERT(m->count < ARRAY_LEN(m->held));
    m->held[m->count++] = append;
    pthread_mutex_unlock(&m->mutex);
    return ERR_OK;
}

static void
manual_kick(void *self)
{
    struct manual_journal *m = self;

    pthread_mutex_lock(&m->mutex);
    m->kicks++;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->mutex);
}

static void
manual_stats(void *self, struct journal_stats *out)
{
    struct manual_journal *m = self;

    pthread_mutex_lock(&m->mutex);
    m->stats_waiting++;
    pthread_cond_broadcast(&m->changed);
    while (m->stats_held) {
        pthread_cond_wait(&m->changed, &m->mutex);
    }
    m->stats_waiting--;
    pthread_mutex_unlock(&m->mutex);
    memset(out, 0, sizeof(*out));
}

static void
manual_hold_stats(struct manual_journal *m, bool held)
{
    pthread_mutex_lock(&m->mutex);
    m->stats_held = held;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->mutex);
}

/* Waits until somebody is in stats(). */
static void
manual_wait_stats(struct manual_journal *m)
{
    pthread_mutex_lock(&m->mutex);
    while (m->stats_waiting == 0) {
        pthread_cond_wait(&m->changed, &m->mutex);
    }
    pthread_mutex_unlock(&m->mutex);
}

static const struct journal_ops MANUAL_OPS = {
    .append = manual_append,
    .kick = manual_kick,
    .stats = manual_stats,
};

static void
manual_init(struct manual_journal *m)
{
    memset(m, 0, sizeof(*m));
    m->port.ops = &MANUAL_OPS;
    m->port.self = m;
    m->port.partitions = 1;
    pthread_mutex_init(&m->mutex, NULL);
    pthread_cond_init(&m->changed, NULL);
}

/* Waits until COUNT appends have been handed over and kicked. */
static void
manual_wait(struct manual_journal *m, size_t count)
{
    pthread_mutex_lock(&m->mutex);
    while (m->count < count || m->kicks == 0) {
        pthread_cond_wait(&m->changed, &m->mutex);
    }
    pthread_mutex_unlock(&m->mutex);
}

static void
manual_finish(struct manual_journal *m, size_t index, enum err result)
{
    struct append *append = m->held[index];

    append->events[0].seq = ++m->seq;
    append->result = result;
    append->done(append);
}

/* ---- the server under test ---- */

struct fixture {
    struct fake_journal *fake;
    struct manual_journal manual;
    struct slices *slices;
    struct slo_config slo;
    struct server_config config;
    struct server *server;
    bool stopped;
};

static struct server_config
default_config(void)
{
    return (struct server_config){
        .host = "127.0.0.1",
        .threads = 1,
        .body_bytes_max = 16 * 1024,
        .event_bytes_max = EVENT_MAX,
        .bulk_events_max = 100,
        .buffered_bytes_max = 1 << 20,
        .connections_max = 64,
        .read_timeout_ms = 60000,
        .idle_timeout_ms = 60000,
        .future_skew_max_us = 1000000,
        .version = "test",
    };
}

static void
open_server(struct fixture *f, const struct server_config *config, struct journal *journal)
{
    struct slices_config slices_config = {.series_max = 5000, .retain_minutes = 60 * 24 * 31};
    struct server_deps deps;

    log_setup(LOG_ERROR, LOG_JSON, 2);
    assert_int_equal(slices_new(&f->slices, &slices_config), ERR_OK);
    f->slo.objective_count = 1;
    f->slo.objective[0] = (struct slo_objective){.id = "default-availability",
                                                 .type = SLO_AVAILABILITY,
                                                 .target = 0.999,
                                                 .window_minutes = 43200};
    f->config = *config;
    deps = (struct server_deps){
        .journal = journal, .slices = f->slices, .slo = &f->slo, .clock = clock_system()};
    assert_int_equal(server_open(&f->server, &f->config, &deps), ERR_OK);
    assert_int_equal(server_start(f->server), ERR_OK);
    assert_int_not_equal(server_port(f->server), 0);
}

/* With a journal that commits by its own thread. */
static void
start(struct fixture *f, const struct server_config *config)
{
    struct fake_journal_config journal = {.partitions = 1, .id_window = 100000};

    memset(f, 0, sizeof(*f));
    f->fake = fake_journal_new(&journal);
    fake_journal_start(f->fake);
    open_server(f, config, fake_journal_port(f->fake));
}

static void
start_manual(struct fixture *f, const struct server_config *config)
{
    memset(f, 0, sizeof(*f));
    manual_init(&f->manual);
    open_server(f, config, &f->manual.port);
}

static void
finish(struct fixture *f)
{
    if (!f->stopped) {
        server_stop(f->server, 0, 10000);
    }
    fake_journal_free(f->fake);
    server_close(f->server);
    slices_free(f->slices);
}

/* ---- a client that shows every byte ---- */

struct client {
    int fd;
    char data[512 * 1024];
    size_t len;
    size_t used; /* of DATA, by the answer given last */
};

struct answer {
    int status;
    char head[4096];
    char *body; /* in the client's data, valid until the next answer */
    size_t body_len;
};

static int
connect_to(const struct fixture *f)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(server_port(f->server))};
    struct timeval patience = {PATIENCE_S, 0};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static struct client *
client_new(const struct fixture *f)
{
    struct client *client = calloc(1, sizeof(*client));

    assert_non_null(client);
    client->fd = connect_to(f);
    return client;
}

static void
client_free(struct client *client)
{
    (void)close(client->fd);
    free(client);
}

static void
send_bytes(struct client *client, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(client->fd, data, len, MSG_NOSIGNAL);

        assert_true(n > 0);
        data += n;
        len -= (size_t)n;
    }
}

static void
send_text(struct client *client, const char *text)
{
    send_bytes(client, text, strlen(text));
}

/* False at the end of the stream. */
static bool
receive(struct client *client)
{
    ssize_t n;

    assert_true(client->len < sizeof(client->data) - 1);
    n = recv(client->fd, client->data + client->len, sizeof(client->data) - 1 - client->len, 0);
    if (n < 0) {
        print_error("recv: %s\n", strerror(errno));
    }
    assert_true(n >= 0);
    client->len += (size_t)n;
    client->data[client->len] = '\0';
    return n > 0;
}

static void
drop(struct client *client, size_t len)
{
    assert_true(len <= client->len);
    memmove(client->data, client->data + len, client->len - len);
    client->len -= len;
    client->data[client->len] = '\0';
}

/* The value of header NAME in HEAD, "" when it is not there. */
static const char *
header(const struct answer *answer, const char *name, char value[256])
{
    const char *at = answer->head;
    size_t len = strlen(name);

    value[0] = '\0';
    while ((at = strstr(at, "\r\n")) != NULL) {
        at += 2;
        if (strncmp(at, name, len) == 0 && at[len] == ':') {
            size_t n = strcspn(at + len + 2, "\r");

            assert_true(n < 256);
            memcpy(value, at + len + 2, n);
            value[n] = '\0';
            return value;
        }
    }
    return value;
}

/* Reads one answer. NO_BODY: it answers HEAD. */
static struct answer
read_answer_to(struct client *client, bool no_body)
{
    struct answer answer = {0};
    char value[256];
    char *end;

    drop(client, client->used);
    client->used = 0;
    while ((end = strstr(client->data, "\r\n\r\n")) == NULL) {
        assert_true(receive(client));
    }
    assert_true((size_t)(end - client->data) + 4 < sizeof(answer.head));
    memcpy(answer.head, client->data, (size_t)(end - client->data) + 2);
    assert_int_equal(sscanf(answer.head, "HTTP/1.1 %d ", &answer.status), 1);
    client->used = (size_t)(end - client->data) + 4;
    if (!no_body) {
        answer.body_len = strtoul(header(&answer, "Content-Length", value), NULL, 10);
    }
    while (client->len < client->used + answer.body_len) {
        assert_true(receive(client));
    }
    answer.body = client->data + client->used;
    client->used += answer.body_len;
    if (answer.status == 100) {
        return answer;
    }
    assert_true(header(&answer, "X-Request-ID", value)[0] != '\0');
    assert_true(header(&answer, "Date", value)[0] != '\0');
    return answer;
}

static struct answer
read_answer(struct client *client)
{
    return read_answer_to(client, false);
}

/* The connection must end, with nothing more said. */
static void
assert_ends(struct client *client, const struct answer *last)
{
    size_t said = (size_t)(last->body - client->data) + last->body_len;

    while (receive(client)) {
    }
    assert_int_equal(client->len, said);
}

static bool
body_has(const struct answer *answer, const char *text)
{
    return memmem(answer->body, answer->body_len, text, strlen(text)) != NULL;
}

static void
post_with(struct client *client, const char *path, const char *headers, const char *body)
{
    char data[8192];
    int n = snprintf(data, sizeof(data),
                     "POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n%s\r\n%s", path,
                     strlen(body), headers, body);

    assert_true(n > 0 && (size_t)n < sizeof(data));
    send_bytes(client, data, (size_t)n);
}

static void
get(struct client *client, const char *path)
{
    char data[512];

    (void)snprintf(data, sizeof(data), "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path);
    send_text(client, data);
}

/* The value of a metric without labels, by a connection of its own. */
static double
metric(const struct fixture *f, const char *name)
{
    struct client *client = client_new(f);
    struct answer answer;
    char key[128];
    char *line;
    double value;

    get(client, "/metrics");
    answer = read_answer(client);
    answer.body[answer.body_len] = '\0';
    (void)snprintf(key, sizeof(key), "\n%s ", name);
    line = strstr(answer.body, key);
    assert_non_null(line);
    value = strtod(line + strlen(key), NULL);
    client_free(client);
    return value;
}

/* ---- answers ---- */

static void
each_shape_is_answered_as_the_contract_says(void **state)
{
    static const struct {
        const char *path;
        const char *body;
        int fresh;
        const char *form;
    } ROWS[] = {
        {"/ingest", "{\"id\":\"t1\",\"service\":\"api\",\"status\":200,\"latency_ms\":3}", 202,
         "{\"event_id\":\"t1\",\"status\":\"queued\","},
        {"/events", "{\"id\":\"t2\",\"service\":\"api\",\"status\":200,\"latency_ms\":3}", 202,
         "{\"event_id\":\"t2\",\"status\":\"queued\","},
        {"/events", "{\"id\":\"g1\",\"type\":\"x\",\"payload\":{\"a\":1}}", 202,
         "{\"id\":\"g1\",\"event_id\":\"g1\",\"status\":\"accepted\","},
        {"/events",
         "{\"event_id\":\"a1\",\"event_name\":\"x\",\"timestamp\":\"2024-01-01T00:00:00Z\"}", 201,
         "{\"event_id\":\"a1\",\"status\":\"accepted\","},
        {"/events",
         "{\"event_name\":\"x\",\"channel\":\"web\",\"user_id\":\"u\",\"timestamp\":1700000000}",
         202, "\"status\":\"accepted\","},
    };
    struct server_config config = default_config();
    struct fixture f;
    struct client *client;

    (void)state;
    start(&f, &config);
    client = client_new(&f);
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        struct answer answer;
        char value[256];
        char seq[32];

        (void)snprintf(seq, sizeof(seq), "\"seq\":%zu}", i + 1);
        post_with(client, ROWS[i].path, "Content-Type: application/json\r\n", ROWS[i].body);
        answer = read_answer(client);
        assert_int_equal(answer.status, ROWS[i].fresh);
        assert_string_equal(header(&answer, "Content-Type", value), "application/json");
        assert_true(body_has(&answer, ROWS[i].form));
        assert_true(body_has(&answer, "\"duplicate\":false"));
        assert_true(body_has(&answer, seq));
        post_with(client, ROWS[i].path, "", ROWS[i].body);
        answer = read_answer(client);
        assert_int_equal(answer.status, 200);
        assert_true(body_has(&answer, ROWS[i].form));
        assert_true(body_has(&answer, "\"duplicate\":true"));
        assert_true(body_has(&answer, seq));
    }
    client_free(client);
    assert_int_equal((int)metric(&f, "sluice_events_received_total"), 10);
    assert_int_equal((int)metric(&f, "sluice_events_acked_total"), 5);
    assert_int_equal((int)metric(&f, "sluice_events_duplicate_total"), 5);
    assert_int_equal((int)metric(&f, "sluice_audit_difference_events"), 0);
    finish(&f);
}

static void
a_key_with_another_body_is_a_mismatch_and_an_id_with_another_body_a_duplicate(void **state)
{
    struct server_config config = default_config();
    struct fixture f;
    struct client *client;
    struct answer answer;

    (void)state;
    start(&f, &config);
    client = client_new(&f);
    post_with(client, "/events", "Idempotency-Key: \"k\"\r\n", "{\"type\":\"a\"}");
    assert_int_equal(read_answer(client).status, 202);
    post_with(client, "/events", "Idempotency-Key: k\r\n", "{\"type\":\"a\"}");
    assert_int_equal(read_answer(client).status, 200);
    post_with(client, "/events", "Idempotency-Key: k\r\n", "{\"type\":\"b\"}");
    answer = read_answer(client);
    assert_int_equal(answer.status, 422);
    assert_true(body_has(&answer, "\"error\":\"idempotency_mismatch\""));
    post_with(client, "/events", "", "{\"id\":\"k\",\"type\":\"b\"}");
    assert_int_equal(read_answer(client).status, 200);
    client_free(client);
    finish(&f);
}

static void
a_request_cut_anywhere_is_answered_the_same(void **state)
{
    static const char REQUEST[] =
        "POST /events HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        "9\r\n{\"type\":\"\r\n3\r\na\"}\r\n0\r\n\r\nGET /health HTTP/1.1\r\nHost: h\r\n\r\n";
    struct server_config config = default_config();
    struct fixture f;
    struct client *client;

    (void)state;
    start(&f, &config);
    client = client_new(&f);
    for (size_t cut = 0; cut < sizeof(REQUEST); cut++) {
        send_bytes(client, REQUEST, cut);
        sched_yield();
        send_bytes(client, REQUEST + cut, sizeof(REQUEST) - 1 - cut);
        assert_int_equal(read_answer(client).status, 202);
        assert_int_equal(read_answer(client).status, 200);
    }
    client_free(client);
    finish(&f);
}

static void
pipelined_answers_keep_their_order_whatever_order_commits_end_in(void **state)
{
    static const size_t ORDER[] = {5, 0, 3, 1, 4, 2};
    struct server_config config = default_config();
    struct fixture f;
    struct client *client;

    (void)state;
    start_manual(&f, &config);
    client = client_new(&f);
    for (size_t i = 0; i < ARRAY_LEN(ORDER); i++) {
        char body[64];

        (void)snprintf(body, sizeof(body), "{\"id\":\"n%zu\",\"type\":\"x\"}", i);
        post_with(client, "/events", "", body);
        get(client, "/health");
    }
    manual_wait(&f.manual, ARRAY_LEN(ORDER));
    for (size_t i = 0; i < ARRAY_LEN(ORDER); i++) {
        manual_finish(&f.manual, ORDER[i], ERR_OK);
    }
    for (size_t i = 0; i < ARRAY_LEN(ORDER); i++) {
        struct answer answer = read_answer(client);
        char id[32];

        (void)snprintf(id, sizeof(id), "\"event_id\":\"n%zu\"", i);
        assert_true(body_has(&answer, id));
        answer = read_answer(client);
        assert_true(body_has(&answer, "\"status\":\"ok\""));
    }
    client_free(client);
    finish(&f);
}

static void
more_requests_than_the_queue_holds_wait_and_are_all_answered(void **state)
{
    enum {
        COUNT = 300
    };
    struct server_config config = default_config();
    struct fixture f;
    struct client *client;

    (void)state;
    start(&f, &config);
    fake_journal_hold(f.fake);
    client = client_new(&f);
    for (size_t i = 0; i < COUNT; i++) {
        char body[64];

        (void)snprintf(body, sizeof(body), "{\"id\":\"n%zu\",\"type\":\"x\"}", i);
        post_with(client, "/events", "", body);
    }
    fake_journal_wait_queued(f.fake, 64);
    fake_journal_release(f.fake);
    for (size_t i = 0; i < COUNT; i++) {
        struct answer answer = read_answer(client);
        char id[32];

        (void)snprintf(id, sizeof(id), "\"event_id\":\"n%zu\"", i);
        assert_int_equal(answer.status, 202);
        assert_true(body_has(&answer, id));
    }
    client_free(client);
    finish(&f);
}

static void
each_outcome_of_the_journal_has_its_answer(void **state)
{
    static const struct {
        enum err err;
        int status;
        const char *code;
    } ROWS[] = {
        {ERR_AGAIN, 503, "backpressure"},      {ERR_FULL, 503, "log_full"},
        {ERR_CLOSED, 503, "shutting_down"},    {ERR_FAILED, 503, "log_failed"},
        {ERR_UNKNOWN, 500, "outcome_unknown"},
    };
    struct server_config config = default_config();
    struct fixture f;
    struct client *client;
    char value[256];
    char code[64];

    (void)state;
    start(&f, &config);
    client = client_new(&f);
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        struct answer answer;

        if (ROWS[i].err == ERR_UNKNOWN) {
            continue; /* not an answer of append() */
        }
        fake_journal_next_append(f.fake, ROWS[i].err);
        post_with(client, "/events", "", "{}");
        answer = read_answer(client);
        (void)snprintf(code, sizeof(code), "\"error\":\"%s\"", ROWS[i].code);
        assert_int_equal(answer.status, ROWS[i].status);
        assert_true(body_has(&answer, code));
        assert_true(header(&answer, "Retry-After", value)[0] != '\0');
        assert_string_equal(header(&answer, "Content-Type", value), "application/problem+json");
    }
    client_free(client);
    finish(&f);

    start_manual(&f, &config);
    client = client_new(&f);
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        struct answer answer;

        post_with(client, "/events", "", "{}");
        manual_wait(&f.manual, i + 1);
        manual_finish(&f.manual, i, ROWS[i].err);
        answer = read_answer(client);
        (void)snprintf(code, sizeof(code), "\"error\":\"%s\"", ROWS[i].code);
        assert_int_equal(answer.status, ROWS[i].status);
        assert_true(body_has(&answer, code));
    }
    client_free(client);
    assert_int_equal((int)metric(&f, "sluice_events_acked_total"), 0);
    finish(&f);
}

/* ---- refusals ---- */

#define REQUEST_TEXT(first, rest) first " HTTP/1.1\r\nHost: h\r\n" rest

static const struct {
    const char *request;
    int status;
    const char *code;
    bool ends; /* the connection ends after it */
} REFUSALS[] = {
    {REQUEST_TEXT("GET /nowhere", "\r\n"), 404, "not_found", false},
    {REQUEST_TEXT("POST /nowhere", "Content-Length: 3\r\n\r\nabc"), 404, "not_found", false},
    {REQUEST_TEXT("DELETE /events", "\r\n"), 405, "method_not_allowed", false},
    {REQUEST_TEXT("LOCK /events", "\r\n"), 405, "method_not_allowed", false},
    {REQUEST_TEXT("CONNECT /events", "\r\n"), 405, "method_not_allowed", true},
    {REQUEST_TEXT("POST /events", "\r\n"), 411, "body_too_large", false},
    {REQUEST_TEXT("POST /events", "Content-Length: 2049\r\nConnection: close\r\n\r\n"), 413,
     "body_too_large", true},
    {REQUEST_TEXT("POST /events", "Content-Length: 1000000000\r\n\r\n{}"), 413, "body_too_large",
     true},
    {REQUEST_TEXT("POST /events", "Transfer-Encoding: chunked\r\n\r\n801\r\n"), 413,
     "body_too_large", true},
    {REQUEST_TEXT("POST /events", "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}"), 415,
     "unsupported_media_type", false},
    {REQUEST_TEXT("POST /events", "Content-Encoding: br\r\nContent-Length: 2\r\n\r\n{}"), 415,
     "unsupported_media_type", false},
    {REQUEST_TEXT("POST /events", "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"), 400,
     "validation_error", false},
    {REQUEST_TEXT("POST /events", "Content-Length: 1\r\n\r\n{"), 400, "invalid_json", false},
    {REQUEST_TEXT("POST /events", "Content-Length: 0\r\n\r\n"), 400, "invalid_json", false},
    {REQUEST_TEXT("POST /ingest", "Content-Length: 2\r\n\r\n{}"), 400, "validation_error", false},
    {REQUEST_TEXT("POST /events", "Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}"), 400,
     "validation_error", true},
    {REQUEST_TEXT("POST /events", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"), 400,
     "validation_error", true},
    {REQUEST_TEXT("GET /health", "X: a\r\n b\r\n\r\n"), 400, "validation_error", true},
    {"GET /health HTTP/1.1\r\n\r\n", 400, "validation_error", true},
    {"\x16\x03\x01", 400, "validation_error", true},
};

static void
each_refusal_has_its_code_and_ends_the_connection_only_when_it_must(void **state)
{
    struct server_config config = default_config();
    struct fixture f;

    (void)state;
    start(&f, &config);
    for (size_t i = 0; i < ARRAY_LEN(REFUSALS); i++) {
        struct client *client = client_new(&f);
        struct answer answer;
        char value[256];
        char code[64];

        send_text(client, REFUSALS[i].request);
        answer = read_answer(client);
        (void)snprintf(code, sizeof(code), "\"error\":\"%s\"", REFUSALS[i].code);
        if (answer.status != REFUSALS[i].status || !body_has(&answer, code)) {
            print_error("%s\n-> %s%.*s\n", REFUSALS[i].request, answer.head, (int)answer.body_len,
                        answer.body);
        }
        assert_int_equal(answer.status, REFUSALS[i].status);
        assert_true(body_has(&answer, code));
        assert_true(body_has(&answer, "\"request_id\":\""));
        assert_string_equal(header(&answer, "Connection", value), REFUSALS[i].ends ? "close" : "");
        if (answer.status == 405) {
            assert_string_equal(header(&answer, "Allow", value), "GET, HEAD, POST, OPTIONS");
        }
        if (REFUSALS[i].ends) {
            assert_ends(client, &answer);
        } else {
            get(client, "/health");
            assert_int_equal(read_answer(client).status, 200);
        }
        client_free(client);
    }
    finish(&f);
}

static void
heads_beyond_their_limits_are_refused(void **state)
{
    struct server_config config = default_config();
    struct buffer data = BUFFER_EMPTY;
    struct fixture f;

    (void)state;
    start(&f, &config);
    for (int which = 0; which < 3; which++) {
        struct client *client = client_new(&f);
        struct answer answer;

        buffer_clear(&data, SIZE_MAX);
        buffer_append_text(&data, "GET /");
        for (int i = 0; which == 0 && i < 9000; i++) {
            buffer_append_char(&data, 'x');
        }
        buffer_append_text(&data, " HTTP/1.1\r\nHost: h\r\n");
        for (int i = 0; which == 1 && i < 40000; i++) {
            buffer_append_text(&data, i == 0 ? "X: y" : "y");
        }
        for (int i = 0; which == 2 && i < 200; i++) {
            buffer_append_text(&data, "a: b\r\n");
        }
        buffer_append_text(&data, "\r\n\r\n");
        send_bytes(client, data.data, data.len);
        answer = read_answer(client);
        assert_int_equal(answer.status, which == 0 ? 414 : 431);
        assert_ends(client, &answer);
        client_free(client);
    }
    buffer_free(&data);
    finish(&f);
}

static void
a_client_that_is_still_sending_sees_its_refusal(void **state)
{
    enum {
        SIZE = 4 * 1024 * 1024
    };
    struct server_config config = default_config();
    char *block = calloc(1, SIZE);
    struct fixture f;
    struct client *client;
    struct answer answer;

    (void)state;
    assert_non_null(block);
    start(&f, &config);
    client = client_new(&f);
    send_text(client, "POST /events HTTP/1.1\r\nHost: h\r\nContent-Length: 4194304\r\n\r\n");
    send_bytes(client, block, SIZE); /* all of it, before looking at the answer */
    answer = read_answer(client);
    assert_int_equal(answer.status, 413);
    assert_ends(client, &answer);
    client_free(client);
    free(block);
    finish(&f);
}

static void
bodies_beyond_the_shared_budget_are_refused_and_the_budget_comes_back(void **state)
{
    struct server_config config = default_config();
    struct fixture f;
    struct client *first;
    struct client *second;
    struct answer answer;
    char body[1000];

    (void)state;
    config.buffered_bytes_max = 1500;
    start(&f, &config);
    first = client_new(&f);
    second = client_new(&f);
    memset(body, ' ', sizeof(body));
    send_text(first, "POST /events HTTP/1.1\r\nHost: h\r\nContent-Length: 1002\r\n\r\n");
    send_bytes(first, body, sizeof(body));
    while ((int)metric(&f, "sluice_http_buffered_bytes") < 1000) {
        sched_yield();
    }
    send_text(second, "POST /events HTTP/1.1\r\nHost: h\r\nContent-Length: 1002\r\n\r\n");
    send_bytes(second, body, sizeof(body));
    answer = read_answer(second);
    assert_int_equal(answer.status, 503);
    assert_true(body_has(&answer, "\"error\":\"backpressure\""));
    assert_ends(second, &answer);
    send_text(first, "{}");
    assert_int_equal(read_answer(first).status, 202);
    assert_int_equal((int)metric(&f, "sluice_http_buffered_bytes"), 0);
    client_free(first);
    client_free(second);
    finish(&f);
}

static void
an_event_waiting_for_its_commit_holds_its_record_and_not_its_request(void **state)
{
    struct server_config config = default_config();
    struct fixture f;
    struct client *client;
    char body[1000];

    (void)state;
    start_manual(&f, &config);
    client = client_new(&f);
    memset(body, ' ', sizeof(body));
    send_text(client, "POST /events HTTP/1.1\r\nHost: h\r\nContent-Length: 1002\r\n\r\n");
    send_bytes(client, body, sizeof(body));
    while ((int)metric(&f, "sluice_http_buffered_bytes") < 1000) {
        sched_yield();
    }
    send_text(client, "{}");
    manual_wait(&f.manual, 1);
    assert_in_range((int)metric(&f, "sluice_http_buffered_bytes"), 1, 500);
    manual_finish(&f.manual, 0, ERR_OK);
    assert_int_equal(read_answer(client).status, 202);
    client_free(client);
    finish(&f);
}

static void
connections_beyond_the_limit_are_told_so(void **state)
{
    struct server_config config = default_config();
    struct fixture f;
    struct client *first;
    struct client *second;
    struct answer answer;

    (void)state;
    config.connections_max = 1;
    start(&f, &config);
    first = client_new(&f);
    get(first, "/health");
    assert_int_equal(read_answer(first).status, 200);
    second = client_new(&f);
    answer = read_answer(second);
    assert_int_equal(answer.status, 503);
    assert_true(body_has(&answer, "\"error\":\"backpressure\""));
    assert_ends(second, &answer);
    client_free(second);
    get(first, "/metrics");
    answer = read_answer(first);
    assert_true(body_has(&answer, "\nsluice_http_connections_refused_total 1\n"));
    client_free(first);
    finish(&f);
}

/* ---- slow and strange clients ---- */

static void
a_connection_without_memory_for_it_does_not_stop_the_listener(void **state)
{
#if FAILING_ALLOC
    struct server_config config = default_config();
    struct fixture f;
    struct client *client;

    (void)state;
    start_manual(&f, &config);
    client = calloc(1, sizeof(*client));
    assert_non_null(client);
    atomic_store(&callocs_to_fail, 1);
    client->fd = connect_to(&f);
    get(client, "/health");
    assert_int_equal(read_answer(client).status, 200);
    assert_int_equal(atomic_load(&callocs_to_fail), 0);
    assert_true(metric(&f, "sluice_http_accept_errors_total") == 1);
    client_free(client);
    finish(&f);
#else
    (void)state;
    print_message("the sanitizers bring their own malloc()\n");
    skip();
#endif
}

static void
a_client_that_waits_to_be_told_is_told_to_go_on_or_refused(void **state)
{
    struct server_config config = default_config();
    struct fixture f;
    struct client *client;
    struct answer answer;

    (void)state;
    start(&f, &config);
    client = client_new(&f);
    send_text(client, "GET /health HTTP/1.1\r\nHost: h\r\n\r\n"
                      "POST /events HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n"
                      "Expect: 100-continue\r\n\r\n");
    assert_int_equal(read_answer(client).status, 200);
    assert_int_equal(read_answer(client).status, 100);
    send_text(client, "{}");
    assert_int_equal(read_answer(client).status, 202);
    send_text(client, "POST /events HTTP/1.1\r\nHost: h\r\nContent-Length: 2049\r\n"
                      "Expect: 100-continue\r\n\r\n");
    answer = read_answer(client);
    assert_int_equal(answer.status, 413);
    assert_ends(client, &answer);
    client_free(client);
    finish(&f);
}

static void
a_continue_waits_for_the_answers_before_it(void **state)
{
    struct server_config config = default_config();
    struct fixture f;
    struct client *client;

    (void)state;
    start_manual(&f, &config);
    client = client_new(&f);
    post_with(client, "/events", "", "{}");
    send_text(client, "POST /events HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n"
                      "Expect: 100-continue\r\n\r\n");
    manual_wait(&f.manual, 1);
    manual_finish(&f.manual, 0, ERR_OK);
    assert_int_equal(read_answer(client).status, 202);
    assert_int_equal(read_answer(client).status, 100);
    send_text(client, "{}");
    manual_wait(&f.manual, 2);
    manual_finish(&f.manual, 1, ERR_OK);
    assert_int_equal(read_answer(client).status, 202);
    client_free(client);
    finish(&f);
}

static void
a_request_that_does_not_arrive_in_time_is_timed_out(void **state)
{
    static const char *const STARTS[] = {
        "G",
        "GET /health HTTP/1.1\r\nHost: h\r\n",
        "POST /events HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n{",
        "POST /events HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    };
    struct server_config config = default_config();
    struct fixture f;

    (void)state;
    config.read_timeout_ms = 250;
    start(&f, &config);
    for (size_t i = 0; i < ARRAY_LEN(STARTS); i++) {
        struct client *client = client_new(&f);
        struct answer answer;

        send_text(client, STARTS[i]);
        answer = read_answer(client);
        assert_int_equal(answer.status, 408);
        assert_true(body_has(&answer, "\"error\":\"request_timeout\""));
        assert_ends(client, &answer);
        client_free(client);
    }
    assert_int_equal((int)metric(&f, "sluice_http_timeouts_total"), ARRAY_LEN(STARTS));
    finish(&f);
}

static void
an_idle_connection_is_closed_without_a_word(void **state)
{
    struct server_config config = default_config();
    struct fixture f;
    struct client *client;
    struct client *silent;

    (void)state;
    config.idle_timeout_ms = 1000;
    start(&f, &config);
    silent = client_new(&f);
    assert_false(receive(silent));
    client = client_new(&f);
    get(client, "/health");
    assert_int_equal(read_answer(client).status, 200);
    assert_false(receive(client));
    client_free(silent);
    client_free(client);
    finish(&f);
}

static void
a_client_that_does_not_read_is_closed(void **state)
{
    static const char ASK[] = "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n";
    struct server_config config = default_config();
    struct fixture f;
    int small = 4096;
    int fd;

    (void)state;
    config.write_timeout_ms = 250;
    start(&f, &config);
    fd = connect_to(&f);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    while (send(fd, ASK, sizeof(ASK) - 1, MSG_NOSIGNAL) == (ssize_t)sizeof(ASK) - 1) {
    }
    while ((int)metric(&f, "sluice_http_timeouts_total") < 1) {
        sched_yield();
    }
    (void)close(fd);
    finish(&f);
}

static void
a_client_that_reads_drop_by_drop_is_closed(void **state)
{
    const struct timespec pause = {0, 2 * 1000 * 1000};
    const int64_t now_us = clock_wall_us(clock_system());
    struct server_config config = default_config();
    size_t owed = 0;
    size_t got = 0;
    char data[4096];
    struct fixture f;
    struct client *client;
    ssize_t n;

    (void)state;
    config.buffered_bytes_max = 64 << 20;
    config.write_timeout_ms = 60000;
    config.idle_timeout_ms = 500;
    start(&f, &config);
    for (int i = 0; i < 5000; i++) { /* more than the kernel's buffers take */
        char name[201];
        struct event event = {.tenant = SPAN_LITERAL("default"),
                              .has_status = true,
                              .status = 200,
                              .occurred_at_us = now_us};

        (void)snprintf(name, sizeof(name), "%0200d", i);
        event.service = span_of(name);
        assert_int_equal(slices_add_event(f.slices, &event, 1, now_us), ERR_OK);
    }
    client = client_new(&f);
    get(client, "/metrics");
    while ((n = recv(client->fd, data, sizeof(data) - 1, 0)) > 0) {
        data[n] = '\0';
        if (owed == 0) {
            const char *length = strstr(data, "Content-Length: ");

            assert_non_null(length);
            owed = strtoul(length + sizeof("Content-Length: ") - 1, NULL, 10);
        }
        got += (size_t)n;
        assert_true(got < owed);
        (void)nanosleep(&pause, NULL);
    }
    assert_true(n == 0 || errno == ECONNRESET);
    client_free(client);
    finish(&f);
}

static void
a_client_may_die_while_its_event_is_being_committed(void **state)
{
    struct server_config config = default_config();
    struct linger reset = {1, 0};
    struct fixture f;

    (void)state;
    start_manual(&f, &config);
    for (size_t i = 0; i < 8; i++) {
        struct client *client = client_new(&f);

        post_with(client, "/events", "", "{}");
        manual_wait(&f.manual, i + 1);
        assert_int_equal(setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
        client_free(client);
    }
    while ((int)metric(&f, "sluice_http_connections") > 1) { /* its own */
        sched_yield();
    }
    for (size_t i = 0; i < 8; i++) {
        manual_finish(&f.manual, i, ERR_OK);
    }
    while ((int)metric(&f, "sluice_events_acked_total") < 8) {
        sched_yield();
    }
    finish(&f);
}

static void
a_half_closed_client_still_gets_its_answers(void **state)
{
    struct server_config config = default_config();
    struct fixture f;
    struct client *client;
    struct answer answer;

    (void)state;
    start_manual(&f, &config);
    client = client_new(&f);
    post_with(client, "/events", "", "{}");
    send_text(client, "GET /hea"); /* cut short: no answer */
    assert_int_equal(shutdown(client->fd, SHUT_WR), 0);
    manual_wait(&f.manual, 1);
    manual_finish(&f.manual, 0, ERR_OK);
    answer = read_answer(client);
    assert_int_equal(answer.status, 202);
    assert_ends(client, &answer);
    client_free(client);
    finish(&f);
}

/* ---- the other routes ---- */

static void
head_options_and_old_clients_are_served(void **state)
{
    struct server_config config = default_config();
    struct fixture f;
    struct client *client;
    struct answer answer;
    char value[256];

    (void)state;
    start(&f, &config);
    client = client_new(&f);
    send_text(client, "HEAD /health HTTP/1.1\r\nHost: h\r\n\r\n");
    answer = read_answer_to(client, true);
    assert_int_equal(answer.status, 200);
    assert_string_equal(header(&answer, "Content-Length", value), "16");
    send_text(client, "HEAD /nowhere HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(read_answer_to(client, true).status, 404);
    send_text(client, "OPTIONS /health HTTP/1.1\r\nHost: h\r\n\r\n");
    answer = read_answer(client);
    assert_int_equal(answer.status, 204);
    assert_string_equal(header(&answer, "Allow", value), "GET, HEAD, OPTIONS");
    send_text(client, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(read_answer(client).status, 204);
    send_text(client, "GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    answer = read_answer(client);
    assert_string_equal(header(&answer, "Connection", value), "keep-alive");
    send_text(client, "GET /health HTTP/1.0\r\nAccept: text/plain\r\n\r\nGET /ignored");
    answer = read_answer(client);
    assert_true(body_has(&answer, "OK\n"));
    assert_string_equal(header(&answer, "Connection", value), "close");
    assert_ends(client, &answer);
    client_free(client);
    finish(&f);
}

static void
a_sane_request_id_is_echoed_and_any_other_replaced(void **state)
{
    struct server_config config = default_config();
    struct fixture f;
    struct client *client;
    struct answer answer;
    char value[256];
    char other[256];

    (void)state;
    start(&f, &config);
    client = client_new(&f);
    send_text(client, "GET /health HTTP/1.1\r\nHost: h\r\nX-Request-ID: abc-1\r\n\r\n");
    answer = read_answer(client);
    assert_string_equal(header(&answer, "X-Request-ID", value), "abc-1");
    send_text(client, "GET /health HTTP/1.1\r\nHost: h\r\nX-Request-ID: a b\r\n\r\n");
    answer = read_answer(client);
    assert_int_equal(strlen(header(&answer, "X-Request-ID", value)), 24);
    send_text(client, "GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n");
    answer = read_answer(client);
    assert_int_equal(strlen(header(&answer, "X-Request-ID", other)), 24);
    assert_string_not_equal(value, other);
    assert_true(body_has(&answer, other));
    client_free(client);
    finish(&f);
}

static void
readiness_follows_the_log(void **state)
{
    struct server_config config = default_config();
    struct fixture f;
    struct client *client;
    struct answer answer;

    (void)state;
    config.ready_requires_db = false;
    start(&f, &config);
    client = client_new(&f);
    get(client, "/ready");
    answer = read_answer(client);
    assert_int_equal(answer.status, 200);
    assert_true(body_has(&answer, "{\"status\":\"ready\",\"checks\":{\"log\":\"ok\","
                                  "\"database\":\"none\"}}"));
    fake_journal_set_full(f.fake, true);
    get(client, "/readyz");
    answer = read_answer(client);
    assert_int_equal(answer.status, 503);
    assert_true(body_has(&answer, "\"reasons\":[\"log_full\"]"));
    fake_journal_set_full(f.fake, false);
    fake_journal_set_failed(f.fake);
    get(client, "/ready");
    answer = read_answer(client);
    assert_int_equal(answer.status, 503);
    assert_true(body_has(&answer, "\"status\":\"not_ready\""));
    assert_true(body_has(&answer, "log_failed"));
    client_free(client);
    finish(&f);
}

static void
readiness_can_depend_on_the_database(void **state)
{
    struct server_config config = default_config();
    struct fixture f;
    struct client *client;
    struct answer answer;

    (void)state;
    config.ready_requires_db = true;
    config.has_db = true;
    start(&f, &config); /* no replicator: as down as can be */
    client = client_new(&f);
    get(client, "/ready");
    answer = read_answer(client);
    assert_int_equal(answer.status, 503);
    assert_true(body_has(&answer, "\"database\":\"down\""));
    assert_true(body_has(&answer, "\"reasons\":[\"database_down\"]"));
    client_free(client);
    finish(&f);
}

/* The rules of promtool's linter that a text can break, checked line by line. */
static void
assert_lints(char *text)
{
    char family[128] = "";
    char type[32] = "";
    char *save = NULL;

    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        size_t len = strcspn(line, "{ ");
        bool counter;

        if (strncmp(line, "# HELP ", 7) == 0) {
            assert_int_equal(sscanf(line + 7, "%127s", family), 1);
            assert_true(strlen(line) > 8 + strlen(family));
            continue;
        }
        if (strncmp(line, "# TYPE ", 7) == 0) {
            char again[128];

            assert_int_equal(sscanf(line + 7, "%127s %31s", again, type), 2);
            assert_string_equal(again, family);
            len = strlen(family);
            counter = strcmp(type, "counter") == 0;
            assert_int_equal(counter, len > 6 && strcmp(family + len - 6, "_total") == 0);
            assert_null(strstr(family, "_ms"));
            continue;
        }
        assert_true(strncmp(line, family, strlen(family)) == 0);
        if (strcmp(type, "histogram") != 0) {
            assert_int_equal(len, strlen(family));
        }
        assert_true(strstr(line, "quantile=") == NULL || strcmp(type, "summary") == 0);
        assert_true(strrchr(line, ' ')[1] != '\0');
    }
}

static void
metrics_keep_the_rules_of_their_format(void **state)
{
    struct server_config config = default_config();
    struct event event = {.service = SPAN_LITERAL("a\"b\\c"),
                          .tenant = SPAN_LITERAL("default"),
                          .has_status = true,
                          .status = 200,
                          .has_latency = true,
                          .latency_ms = 5};
    struct fixture f;
    struct client *client;
    struct answer answer;
    char *text;

    (void)state;
    start(&f, &config);
    event.occurred_at_us = clock_wall_us(clock_system());
    assert_int_equal(slices_add_event(f.slices, &event, 1, event.occurred_at_us), ERR_OK);
    client = client_new(&f);
    post_with(client, "/events", "", "{}");
    assert_int_equal(read_answer(client).status, 202);
    get(client, "/metrics/prometheus");
    answer = read_answer(client);
    assert_int_equal(answer.status, 200);
    assert_true(body_has(&answer, "sluice_http_requests_total{route=\"/events\",method=\"POST\","
                                  "status=\"202\"} 1\n"));
    assert_true(body_has(&answer, "sluice_build_info{version=\"test\"} 1\n"));
    assert_true(body_has(&answer, "sluice_slo_availability_ratio{tenant=\"default\","
                                  "service=\"a\\\"b\\\\c\"} 1\n"));
    text = strndup(answer.body, answer.body_len);
    assert_non_null(text);
    assert_lints(text);
    free(text);
    client_free(client);
    finish(&f);
}

static void
slo_status_is_served_for_all_services_or_one(void **state)
{
    struct server_config config = default_config();
    struct event event = {.service = SPAN_LITERAL("api"),
                          .tenant = SPAN_LITERAL("default"),
                          .has_status = true,
                          .status = 200};
    struct fixture f;
    struct client *client;
    struct answer answer;

    (void)state;
    start(&f, &config);
    event.occurred_at_us = clock_wall_us(clock_system());
    assert_int_equal(slices_add_event(f.slices, &event, 1, event.occurred_at_us), ERR_OK);
    client = client_new(&f);
    get(client, "/slo/status");
    answer = read_answer(client);
    assert_int_equal(answer.status, 200);
    assert_true(body_has(&answer, "\"service\":\"api\""));
    assert_true(body_has(&answer, "\"degraded\":false"));
    get(client, "/slo/status?service=other");
    answer = read_answer(client);
    assert_int_equal(answer.status, 200);
    assert_false(body_has(&answer, "\"service\":\"api\""));
    get(client, "/slo/status?service=%zz");
    assert_int_equal(read_answer(client).status, 400);
    client_free(client);
    finish(&f);
}

static void
the_dashboard_needs_nothing_from_elsewhere(void **state)
{
    static const char *const PATHS[] = {"/", "/dashboard.css", "/dashboard.js"};
    struct server_config config = default_config();
    struct fixture f;
    struct client *client;

    (void)state;
    start(&f, &config);
    client = client_new(&f);
    for (size_t i = 0; i < ARRAY_LEN(PATHS); i++) {
        struct answer answer;
        char value[256];

        get(client, PATHS[i]);
        answer = read_answer(client);
        assert_int_equal(answer.status, 200);
        assert_true(answer.body_len > 500);
        assert_false(body_has(&answer, "http://"));
        assert_false(body_has(&answer, "https://"));
        assert_true(strstr(header(&answer, "Content-Security-Policy", value),
                           "default-src 'none'") != NULL);
    }
    client_free(client);
    finish(&f);
}

/* ---- stopping ---- */

struct load {
    const struct fixture *f;
    uint64_t acked;
    uint64_t sent;
    _Atomic bool warm; /* some answers are in */
};

/* Posts, three in flight, until the server ends the connection. Takes no part in cmocka's asserts.
 */
static void *
load_main(void *arg)
{
    static const char REQUEST[] = "POST /events HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}";
    struct load *load = arg;
    char data[65536];
    size_t len = 0;
    size_t in_flight = 0;
    int fd = connect_to(load->f);

    for (;;) {
        char *end;
        ssize_t n;

        while (in_flight < 3 && send(fd, REQUEST, sizeof(REQUEST) - 1, MSG_NOSIGNAL) ==
                                    (ssize_t)sizeof(REQUEST) - 1) {
            in_flight++;
            load->sent++;
        }
        n = recv(fd, data + len, sizeof(data) - 1 - len, 0);
        if (n <= 0) {
            break;
        }
        len += (size_t)n;
        data[len] = '\0';
        while ((end = strstr(data, "}\n")) != NULL) { /* every answer ends so */
            if (strncmp(data, "HTTP/1.1 202 ", 13) == 0) {
                load->acked++;
            }
            in_flight--;
            end += 2;
            len -= (size_t)(end - data);
            memmove(data, end, len + 1);
        }
        atomic_store(&load->warm, load->acked > 20);
    }
    (void)close(fd);
    return NULL;
}

static void
a_stop_under_load_loses_no_answer(void **state)
{
    enum {
        CLIENTS = 6
    };
    struct server_config config = default_config();
    struct load loads[CLIENTS];
    pthread_t threads[CLIENTS];
    struct journal_stats stats;
    struct fixture f;
    uint64_t acked = 0;

    (void)state;
    config.threads = 2;
    start(&f, &config);
    memset(loads, 0, sizeof(loads));
    for (size_t i = 0; i < CLIENTS; i++) {
        loads[i].f = &f;
        assert_int_equal(pthread_create(&threads[i], NULL, load_main, &loads[i]), 0);
    }
    for (size_t i = 0; i < CLIENTS; i++) {
        while (!atomic_load(&loads[i].warm)) {
            sched_yield();
        }
    }
    server_stop(f.server, 20, 20000);
    f.stopped = true;
    for (size_t i = 0; i < CLIENTS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        acked += loads[i].acked;
    }
    fake_journal_port(f.fake)->ops->stats(fake_journal_port(f.fake)->self, &stats);
    assert_true(acked > 0);
    assert_int_equal(stats.durable_seq, acked);
    finish(&f);
}

static void *
stop_main(void *arg)
{
    struct fixture *f = arg;

    server_stop(f->server, 0, 20000);
    return NULL;
}

static void
a_stop_waits_for_an_answer_that_is_owed(void **state)
{
    struct server_config config = default_config();
    struct fixture f;
    struct client *client;
    struct client *idle;
    struct answer answer;
    pthread_t stopper;
    char value[256];

    (void)state;
    start_manual(&f, &config);
    client = client_new(&f);
    idle = client_new(&f);
    get(idle, "/health");
    assert_int_equal(read_answer(idle).status, 200);
    post_with(client, "/events", "", "{}");
    manual_wait(&f.manual, 1);
    assert_int_equal(pthread_create(&stopper, NULL, stop_main, &f), 0);
    assert_false(receive(idle) && idle->len > 1000000); /* ended first */
    manual_finish(&f.manual, 0, ERR_OK);
    answer = read_answer(client);
    assert_int_equal(answer.status, 202);
    assert_string_equal(header(&answer, "Connection", value), "close");
    assert_ends(client, &answer);
    assert_int_equal(pthread_join(stopper, NULL), 0);
    f.stopped = true;
    client_free(client);
    client_free(idle);
    finish(&f);
}

static void
an_append_may_come_back_after_the_stop(void **state)
{
    struct server_config config = default_config();
    struct fixture f;
    struct client *client;

    (void)state;
    start_manual(&f, &config);
    client = client_new(&f);
    post_with(client, "/events", "", "{}");
    manual_wait(&f.manual, 1);
    server_stop(f.server, 0, 1);
    f.stopped = true;
    manual_finish(&f.manual, 0, ERR_OK);
    client_free(client);
    finish(&f);
}

static void
events_are_taken_and_answered_while_a_page_is_computed(void **state)
{
    struct server_config config = default_config();
    struct fixture f;
    struct client *reader;
    struct client *writer;

    (void)state;
    start_manual(&f, &config);
    reader = client_new(&f);
    writer = client_new(&f);
    manual_hold_stats(&f.manual, true);
    get(reader, "/metrics");
    get(reader, "/slo/status");
    get(reader, "/health");
    manual_wait_stats(&f.manual);
    get(writer, "/health");
    assert_int_equal(read_answer(writer).status, 200);
    post_with(writer, "/events", "", "{}");
    manual_wait(&f.manual, 1);
    manual_finish(&f.manual, 0, ERR_OK);
    assert_int_equal(read_answer(writer).status, 202);
    manual_hold_stats(&f.manual, false);
    for (int i = 0; i < 3; i++) {
        struct answer answer = read_answer(reader);

        assert_int_equal(answer.status, 200);
        assert_true(body_has(&answer, i == 0   ? "# TYPE sluice_wal_bytes gauge"
                                      : i == 1 ? "\"services\":["
                                               : "\"status\":\"ok\""));
    }
    client_free(reader);
    client_free(writer);
    finish(&f);
}

static void
a_client_may_die_while_its_page_is_computed(void **state)
{
    struct server_config config = default_config();
    struct linger reset = {1, 0};
    struct fixture f;
    struct client *dead;
    struct client *alive;

    (void)state;
    start_manual(&f, &config);
    dead = client_new(&f);
    alive = client_new(&f);
    manual_hold_stats(&f.manual, true);
    get(dead, "/metrics");
    get(dead, "/metrics");
    manual_wait_stats(&f.manual);
    assert_int_equal(setsockopt(dead->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
    client_free(dead);
    get(alive, "/health");
    assert_int_equal(read_answer(alive).status, 200);
    get(alive, "/slo/status");
    manual_hold_stats(&f.manual, false);
    assert_int_equal(read_answer(alive).status, 200);
    client_free(alive);
    finish(&f);
}

static void
a_stop_waits_for_pages_that_are_owed(void **state)
{
    struct server_config config = default_config();
    struct fixture f;
    struct client *client;
    struct answer answer;
    pthread_t stopper;

    (void)state;
    start_manual(&f, &config);
    client = client_new(&f);
    manual_hold_stats(&f.manual, true);
    send_text(client, "GET /slo/status HTTP/1.1\r\nHost: h\r\n\r\n"
                      "GET /slo/status HTTP/1.1\r\nHost: h\r\n\r\n");
    manual_wait_stats(&f.manual);
    assert_int_equal(pthread_create(&stopper, NULL, stop_main, &f), 0);
    manual_hold_stats(&f.manual, false);
    answer = read_answer(client);
    assert_int_equal(answer.status, 200);
    answer = read_answer(client);
    assert_int_equal(answer.status, 200);
    assert_int_equal(pthread_join(stopper, NULL), 0);
    f.stopped = true;
    client_free(client);
    finish(&f);
}

static void *
stop_now_main(void *arg)
{
    struct fixture *f = arg;

    server_stop(f->server, 0, 1);
    return NULL;
}

static void
a_stop_whose_time_is_up_drops_the_pages_nobody_waits_for(void **state)
{
    struct server_config config = default_config();
    struct fixture f;
    struct client *client;
    pthread_t stopper;

    (void)state;
    start_manual(&f, &config);
    client = client_new(&f);
    manual_hold_stats(&f.manual, true);
    send_text(client, "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"
                      "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n");
    manual_wait_stats(&f.manual);
    assert_int_equal(pthread_create(&stopper, NULL, stop_now_main, &f), 0);
    assert_false(receive(client));
    manual_hold_stats(&f.manual, false);
    assert_int_equal(pthread_join(stopper, NULL), 0);
    f.stopped = true;
    client_free(client);
    finish(&f);
}

static void
long_pages_are_charged_to_a_budget_of_their_own_and_give_it_back(void **state)
{
    struct server_config config = default_config();
    const int64_t now_us = clock_wall_us(clock_system());
    struct fixture f;
    struct client *client;
    struct answer answer;

    (void)state;
    for (int fits = 0; fits < 2; fits++) {
        config.buffered_bytes_max = fits != 0 ? 300 * 1024 : 10 * 1024;
        start(&f, &config);
        for (int i = 0; i < 100; i++) {
            char name[201];
            struct event event = {.tenant = SPAN_LITERAL("default"),
                                  .has_status = true,
                                  .status = 200,
                                  .occurred_at_us = now_us};

            (void)snprintf(name, sizeof(name), "%0200d", i);
            event.service = span_of(name);
            assert_int_equal(slices_add_event(f.slices, &event, 1, now_us), ERR_OK);
        }
        client = client_new(&f);
        for (int i = 0; i < 5; i++) {
            get(client, "/slo/status");
            answer = read_answer(client);
            assert_int_equal(answer.status, fits != 0 ? 200 : 503);
            assert_true(fits == 0 || answer.body_len > 64 * 1024);
            if (fits == 0) { /* somebody who only asked had nothing stored anyway */
                assert_non_null(strstr(answer.body, "cannot answer this now"));
                assert_null(strstr(answer.body, "stored"));
            }
        }
        post_with(client, "/events", "", "{}");
        assert_int_equal(read_answer(client).status, 202);
        client_free(client);
        finish(&f);
    }
}

static void
a_server_that_never_started_closes_and_a_taken_port_is_an_error(void **state)
{
    struct server_config config = default_config();
    struct fake_journal_config journal_config = {.partitions = 1};
    struct fake_journal *journal = fake_journal_new(&journal_config);
    struct server_deps deps = {.journal = fake_journal_port(journal), .clock = clock_system()};
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    struct server *server = NULL;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    (void)state;
    log_setup(LOG_ERROR, LOG_JSON, open("/dev/null", O_WRONLY));
    config.threads = 3;
    assert_int_equal(server_open(&server, &config, &deps), ERR_OK);
    server_close(server);
    server_close(NULL);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    config.port = ntohs(address.sin_port);
    assert_int_equal(server_open(&server, &config, &deps), ERR_IO);
    config.port = 0;
    config.host = "not an address";
    assert_int_equal(server_open(&server, &config, &deps), ERR_IO);
    (void)close(fd);
    fake_journal_free(journal);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_shape_is_answered_as_the_contract_says),
        cmocka_unit_test(
            a_key_with_another_body_is_a_mismatch_and_an_id_with_another_body_a_duplicate),
        cmocka_unit_test(a_request_cut_anywhere_is_answered_the_same),
        cmocka_unit_test(pipelined_answers_keep_their_order_whatever_order_commits_end_in),
        cmocka_unit_test(more_requests_than_the_queue_holds_wait_and_are_all_answered),
        cmocka_unit_test(each_outcome_of_the_journal_has_its_answer),
        cmocka_unit_test(each_refusal_has_its_code_and_ends_the_connection_only_when_it_must),
        cmocka_unit_test(heads_beyond_their_limits_are_refused),
        cmocka_unit_test(a_client_that_is_still_sending_sees_its_refusal),
        cmocka_unit_test(bodies_beyond_the_shared_budget_are_refused_and_the_budget_comes_back),
        cmocka_unit_test(an_event_waiting_for_its_commit_holds_its_record_and_not_its_request),
        cmocka_unit_test(connections_beyond_the_limit_are_told_so),
        cmocka_unit_test(a_connection_without_memory_for_it_does_not_stop_the_listener),
        cmocka_unit_test(a_client_that_waits_to_be_told_is_told_to_go_on_or_refused),
        cmocka_unit_test(a_continue_waits_for_the_answers_before_it),
        cmocka_unit_test(a_request_that_does_not_arrive_in_time_is_timed_out),
        cmocka_unit_test(an_idle_connection_is_closed_without_a_word),
        cmocka_unit_test(a_client_that_does_not_read_is_closed),
        cmocka_unit_test(a_client_that_reads_drop_by_drop_is_closed),
        cmocka_unit_test(a_client_may_die_while_its_event_is_being_committed),
        cmocka_unit_test(a_half_closed_client_still_gets_its_answers),
        cmocka_unit_test(head_options_and_old_clients_are_served),
        cmocka_unit_test(a_sane_request_id_is_echoed_and_any_other_replaced),
        cmocka_unit_test(readiness_follows_the_log),
        cmocka_unit_test(readiness_can_depend_on_the_database),
        cmocka_unit_test(metrics_keep_the_rules_of_their_format),
        cmocka_unit_test(slo_status_is_served_for_all_services_or_one),
        cmocka_unit_test(the_dashboard_needs_nothing_from_elsewhere),
        cmocka_unit_test(a_stop_under_load_loses_no_answer),
        cmocka_unit_test(a_stop_waits_for_an_answer_that_is_owed),
        cmocka_unit_test(an_append_may_come_back_after_the_stop),
        cmocka_unit_test(events_are_taken_and_answered_while_a_page_is_computed),
        cmocka_unit_test(a_client_may_die_while_its_page_is_computed),
        cmocka_unit_test(a_stop_waits_for_pages_that_are_owed),
        cmocka_unit_test(a_stop_whose_time_is_up_drops_the_pages_nobody_waits_for),
        cmocka_unit_test(long_pages_are_charged_to_a_budget_of_their_own_and_give_it_back),
        cmocka_unit_test(a_server_that_never_started_closes_and_a_taken_port_is_an_error),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
