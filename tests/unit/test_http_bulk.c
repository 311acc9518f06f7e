/*
 * Bulks and gzip bodies over real sockets, against a journal in memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include "core/base/log.h"
#include "core/base/token_bucket.h"
#include "core/slo/slices.h"
#include "http/server.h"
#include "tests/fakes/fake_journal.h"

#define NDJSON "Content-Type: application/x-ndjson\r\n"
#define CSV "Content-Type: text/csv; charset=utf-8\r\n"
#define GZIP "Content-Encoding: gzip\r\n"

enum {
    PATIENCE_S = 30, /* a socket that says nothing for so long is a failure */
    BULK_EVENTS_MAX = 300,
    BODY_MAX = 128 * 1024,
};

/* ---- the server under test ---- */

struct fixture {
    struct fake_journal *fake;
    struct slices *slices;
    struct slo_config slo;
    struct server *server;
};

/* BURST: tokens there are, of which practically none come back; 0: no rate limit. */
static void
start_with(struct fixture *f, size_t buffered_bytes_max, uint64_t burst)
{
    struct fake_journal_config journal = {.partitions = 1, .id_window = 100000};
    struct slices_config slices = {.series_max = 100, .retain_minutes = 60 * 24 * 31};
    struct server_config config = {
        .host = "127.0.0.1",
        .threads = 1,
        .body_bytes_max = BODY_MAX,
        .event_bytes_max = 1024,
        .bulk_events_max = BULK_EVENTS_MAX,
        .buffered_bytes_max = buffered_bytes_max,
        .connections_max = 64,
        .read_timeout_ms = 60000,
        .idle_timeout_ms = 60000,
        .future_skew_max_us = 1000000,
        .rate = burst > 0 ? TOKEN_RATE_MIN : 0,
        .rate_burst = burst,
        .version = "test",
    };
    struct server_deps deps = {.slo = &f->slo, .clock = clock_system()};

    memset(f, 0, sizeof(*f));
    log_setup(LOG_ERROR, LOG_JSON, 2);
    assert_int_equal(slices_new(&f->slices, &slices), ERR_OK);
    f->slo.objective_count = 1;
    f->slo.objective[0] = (struct slo_objective){.id = "default-availability",
                                                 .type = SLO_AVAILABILITY,
                                                 .target = 0.999,
                                                 .window_minutes = 43200};
    f->fake = fake_journal_new(&journal);
    fake_journal_start(f->fake);
    deps.journal = fake_journal_port(f->fake);
    deps.slices = f->slices;
    assert_int_equal(server_open(&f->server, &config, &deps), ERR_OK);
    assert_int_equal(server_start(f->server), ERR_OK);
}

static void
start(struct fixture *f)
{
    start_with(f, 1 << 20, 0);
}

/* server_close() asserts that nothing of the budget is still taken. */
static void
finish(struct fixture *f)
{
    server_stop(f->server, 0, 10000);
    fake_journal_free(f->fake);
    server_close(f->server);
    slices_free(f->slices);
}

static uint64_t
stored(const struct fixture *f)
{
    struct journal *journal = fake_journal_port(f->fake);

    return journal->ops->durable_seq(journal->self);
}

/* ---- a client ---- */

struct client {
    int fd;
    char data[256 * 1024];
    size_t len;
    int status;
    char *head; /* of the last answer, NUL-terminated */
    char *body;
};

static struct client *
client_new(const struct fixture *f)
{
    struct client *client = calloc(1, sizeof(*client));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(server_port(f->server))};
    struct timeval patience = {PATIENCE_S, 0};
    int on = 1;

    assert_non_null(client);
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(client->fd >= 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)),
                     0);
    assert_int_equal(setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), 0);
    assert_int_equal(connect(client->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return client;
}

static void
client_free(struct client *client)
{
    (void)close(client->fd);
    free(client);
}

static void
send_bytes(struct client *client, struct span bytes)
{
    while (bytes.len > 0) {
        ssize_t n = send(client->fd, bytes.data, bytes.len, MSG_NOSIGNAL);

        assert_true(n > 0);
        bytes = (struct span){bytes.data + n, bytes.len - (size_t)n};
    }
}

static struct buffer
request_of(const char *path, const char *headers, struct span body)
{
    struct buffer out = BUFFER_EMPTY;

    buffer_printf(&out, "POST %s HTTP/1.1\r\nHost: h\r\n%sContent-Length: %zu\r\n\r\n", path,
                  headers, body.len);
    buffer_append_span(&out, body);
    assert_false(out.failed);
    return out;
}

/* Reads one answer, the only one that is due. Returns its status. */
static int
read_answer(struct client *client)
{
    char *end = NULL;
    char *length;
    size_t whole = SIZE_MAX;

    client->len = 0;
    while (client->len < whole) {
        ssize_t n =
            recv(client->fd, client->data + client->len, sizeof(client->data) - 1 - client->len, 0);

        assert_true(n > 0);
        client->len += (size_t)n;
        client->data[client->len] = '\0';
        if (end == NULL && (end = strstr(client->data, "\r\n\r\n")) != NULL) {
            length = strstr(client->data, "Content-Length: ");
            assert_non_null(length);
            whole = (size_t)(end + 4 - client->data) + strtoul(length + 16, NULL, 10);
        }
    }
    assert_int_equal(client->len, whole);
    *end = '\0';
    client->head = client->data;
    client->body = end + 4;
    assert_int_equal(sscanf(client->data, "HTTP/1.1 %d ", &client->status), 1);
    return client->status;
}

static int
post_span(struct client *client, const char *path, const char *headers, struct span body)
{
    struct buffer request = request_of(path, headers, body);

    send_bytes(client, buffer_span(&request));
    buffer_free(&request);
    return read_answer(client);
}

static int
post(struct client *client, const char *path, const char *headers, const char *body)
{
    return post_span(client, path, headers, span_of(body));
}

static bool
says(const struct client *client, const char *text)
{
    return strstr(client->body, text) != NULL;
}

static uint64_t
metric(const struct fixture *f, const char *name)
{
    struct client *client = client_new(f);
    char key[128];
    char *line;
    uint64_t value;

    send_bytes(client, SPAN_LITERAL("GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_int_equal(read_answer(client), 200);
    (void)snprintf(key, sizeof(key), "\n%s ", name);
    line = strstr(client->body, key);
    assert_non_null(line);
    value = strtoull(line + strlen(key), NULL, 10);
    client_free(client);
    return value;
}

static struct buffer
packed(struct span plain)
{
    struct buffer out = BUFFER_EMPTY;
    z_stream stream = {0};

    assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(buffer_reserve(&out, deflateBound(&stream, plain.len)), ERR_OK);
    stream.next_in = (Bytef *)(uintptr_t)plain.data;
    stream.avail_in = (uInt)plain.len;
    stream.next_out = (Bytef *)out.data;
    stream.avail_out = (uInt)out.capacity;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    out.len = stream.total_out;
    assert_int_equal(deflateEnd(&stream), Z_OK);
    return out;
}

/* COUNT lines of LINE. */
static struct buffer
lines_of(const char *line, size_t count)
{
    struct buffer out = BUFFER_EMPTY;

    for (size_t i = 0; i < count; i++) {
        buffer_append_text(&out, line);
        buffer_append_char(&out, '\n');
    }
    assert_false(out.failed);
    return out;
}

/* ---- answers ---- */

static void
each_format_has_the_same_answer(void **state)
{
    static const struct {
        const char *headers;
        const char *body;
    } ROWS[] = {
        {"", "[{\"id\":\"a\"},{\"id\":\"b\",\"type\":\"t\"}]"},
        {"Content-Type: application/json\r\n", "{\"events\":[{\"id\":\"a\"},{\"id\":\"b\"}]}"},
        {"Content-Type: application/vnd.x+json\r\n", "[{\"id\":\"a\"},{\"id\":\"b\"}]"},
        {NDJSON, "{\"id\":\"a\"}\r\n\r\n{\"id\":\"b\"}"},
        {"Content-Type: application/jsonlines\r\n", "{\"id\":\"a\"}\n{\"id\":\"b\"}\n"},
        {CSV, "id,type\r\na,t\r\nb,\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        struct fixture f;
        struct client *client;

        start(&f);
        client = client_new(&f);
        assert_int_equal(post(client, "/events/bulk", ROWS[i].headers, ROWS[i].body), 202);
        assert_string_equal(client->body,
                            "{\"accepted\":2,\"rejected\":0,\"duplicates\":0,\"duplicate\":false,"
                            "\"seq\":2,\"event_ids\":[\"a\",\"b\"],\"errors\":[]}\n");
        assert_int_equal(post(client, "/events/bulk?ids=0", ROWS[i].headers, ROWS[i].body), 202);
        assert_string_equal(client->body,
                            "{\"accepted\":2,\"rejected\":0,\"duplicates\":2,\"duplicate\":true,"
                            "\"seq\":2,\"errors\":[]}\n");
        client_free(client);
        assert_int_equal(stored(&f), 2);
        assert_int_equal(metric(&f, "sluice_events_received_total"), 4);
        assert_int_equal(metric(&f, "sluice_events_acked_total"), 2);
        assert_int_equal(metric(&f, "sluice_events_duplicate_total"), 2);
        finish(&f);
    }
}

static void
repeats_within_a_bulk_are_found(void **state)
{
    struct fixture f;
    struct client *client;

    (void)state;
    start(&f);
    client = client_new(&f);
    assert_int_equal(post(client, "/events/bulk", NDJSON,
                          "{\"id\":\"a\"}\n{\"id\":\"b\"}\n{\"id\":\"a\",\"x\":1}\n"),
                     202);
    assert_string_equal(client->body,
                        "{\"accepted\":3,\"rejected\":0,\"duplicates\":1,\"duplicate\":false,"
                        "\"seq\":1,\"event_ids\":[\"a\",\"b\",\"a\"],\"errors\":[]}\n");
    assert_int_equal(stored(&f), 2);
    client_free(client);
    finish(&f);
}

static void
one_invalid_element_refuses_all_and_the_errors_are_listed(void **state)
{
    struct fixture f;
    struct client *client;

    (void)state;
    start(&f);
    client = client_new(&f);
    assert_int_equal(post(client, "/events/bulk?mode=atomic", NDJSON, "{}\n{\"type\":5}\n{}\n{x\n"),
                     400);
    assert_true(says(client, "\"error\":\"validation_error\""));
    assert_true(says(client, "\"message\":\"event 1: type must be a string\""));
    assert_true(says(client, ",\"errors\":[{\"index\":1,\"code\":\"validation_error\",\"message\":"
                             "\"type must be a string\"},{\"index\":3,\"code\":\"invalid_json\","));
    assert_int_equal(stored(&f), 0);
    /* The connection goes on. */
    assert_int_equal(post(client, "/events/bulk", NDJSON, "{}"), 202);
    client_free(client);
    assert_int_equal(metric(&f, "sluice_events_received_total"), 5);
    assert_int_equal(metric(&f, "sluice_events_rejected_total{reason=\"validation_error\"}"), 4);
    finish(&f);
}

static void
no_more_than_a_hundred_errors_are_listed_in_a_refusal(void **state)
{
    struct buffer lines = lines_of("5", 250);
    struct fixture f;
    struct client *client;

    (void)state;
    start(&f);
    client = client_new(&f);
    assert_int_equal(post_span(client, "/events/bulk", NDJSON, buffer_span(&lines)), 400);
    assert_true(says(client, "{\"index\":99,"));
    assert_false(says(client, "{\"index\":100,"));
    /* An answer that stores the others lists all. */
    buffer_append_text(&lines, "{}");
    assert_int_equal(post_span(client, "/events/bulk?mode=partial", NDJSON, buffer_span(&lines)),
                     202);
    assert_true(says(client, "{\"accepted\":1,\"rejected\":250,"));
    assert_true(says(client, "{\"index\":249,"));
    client_free(client);
    buffer_free(&lines);
    finish(&f);
}

static void
partial_mode_stores_the_valid_ones(void **state)
{
    struct fixture f;
    struct client *client;

    (void)state;
    start(&f);
    client = client_new(&f);
    assert_int_equal(post(client, "/events/bulk?mode=partial", CSV,
                          "id,status,service,latency_ms\na,,,\nb,99,s,1\nc,200,s,1\n"),
                     202);
    assert_string_equal(client->body,
                        "{\"accepted\":2,\"rejected\":1,\"duplicates\":0,\"duplicate\":false,"
                        "\"seq\":2,\"event_ids\":[\"a\",\"c\"],\"errors\":[{\"index\":1,\"code\":"
                        "\"validation_error\",\"message\":\"status must be an integer from 100 to "
                        "599\"}]}\n");
    assert_int_equal(post(client, "/events/bulk?mode=partial", NDJSON, "{x\n"), 400);
    assert_true(says(client, "\"errors\":[{\"index\":0,\"code\":\"invalid_json\""));
    /* A JSON text that is none says nothing about where its elements are. */
    assert_int_equal(post(client, "/events/bulk?mode=partial", "", "[{},{x]"), 400);
    assert_true(says(client, "\"error\":\"invalid_json\""));
    client_free(client);
    assert_int_equal(stored(&f), 2);
    assert_int_equal(metric(&f, "sluice_events_received_total"), 6);
    finish(&f);
}

static void
what_is_no_bulk_is_refused_and_the_connection_goes_on(void **state)
{
    static const struct {
        const char *path;
        const char *headers;
        const char *body;
        int status;
        const char *text;
    } ROWS[] = {
        {"/events/bulk", NDJSON, "", 400, "a bulk must hold at least one event"},
        {"/events/bulk", NDJSON, "\n \n", 400, "a bulk must hold at least one event"},
        {"/events/bulk", CSV, "id,type\n", 400, "a bulk must hold at least one event"},
        {"/events/bulk", "", "[]", 400, "a bulk must hold at least one event"},
        {"/events/bulk", "", "{\"events\":[]}", 400, "a bulk must hold at least one event"},
        {"/events/bulk", "", "{\"type\":\"t\"}", 400, "events required"},
        {"/events/bulk", "", "", 400, "invalid_json"},
        {"/events/bulk", "", "nonsense", 400, "invalid_json"},
        {"/events/bulk", CSV, "id,id\n1,2\n", 400, "the header row"},
        {"/events/bulk?mode=some", NDJSON, "{}", 400, "mode must be atomic or partial"},
        {"/events/bulk?mode=", NDJSON, "{}", 400, "mode must be atomic or partial"},
        {"/events/bulk?mode=%zz", NDJSON, "{}", 400, "mode must be atomic or partial"},
        {"/events/bulk?ids=no", NDJSON, "{}", 400, "ids must be 0 or 1"},
        {"/events/bulk", "Content-Type: text/plain\r\n", "{}", 415, "unsupported_media_type"},
        {"/events", NDJSON, "{}", 415, "unsupported_media_type"},
        {"/ingest", CSV, "a\n1\n", 415, "unsupported_media_type"},
        {"/events/bulk", NDJSON GZIP, "", 400, "the gzip body is cut short"},
        {"/events/bulk", NDJSON GZIP, "{}", 400, "the body is not valid gzip"},
    };
    struct fixture f;
    struct client *client;

    (void)state;
    start(&f);
    client = client_new(&f);
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        assert_int_equal(post(client, ROWS[i].path, ROWS[i].headers, ROWS[i].body), ROWS[i].status);
        if (!says(client, ROWS[i].text)) {
            print_error("%s\n%s\n", ROWS[i].body, client->body);
        }
        assert_true(says(client, ROWS[i].text));
        assert_null(strstr(client->head, "Connection: close"));
    }
    client_free(client);
    assert_int_equal(stored(&f), 0);
    finish(&f);
}

static void
limits_of_a_bulk_are_413(void **state)
{
    struct buffer lines = lines_of("{}", BULK_EVENTS_MAX);
    struct buffer wide = BUFFER_EMPTY;
    struct fixture f;
    struct client *client;

    (void)state;
    start(&f);
    client = client_new(&f);
    assert_int_equal(post_span(client, "/events/bulk?ids=0", NDJSON, buffer_span(&lines)), 202);
    buffer_append_text(&lines, "{}\n");
    assert_int_equal(post_span(client, "/events/bulk", NDJSON, buffer_span(&lines)), 413);
    assert_true(says(client, "MAX_BULK_EVENTS"));
    assert_true(says(client, "\"error\":\"body_too_large\""));
    assert_int_equal(stored(&f), BULK_EVENTS_MAX);
    /* An element that is too large is an invalid one. */
    buffer_clear(&lines, 0);
    buffer_printf(&lines, "{}\n{\"type\":\"%01030d\"}\n", 0);
    assert_int_equal(post_span(client, "/events/bulk", NDJSON, buffer_span(&lines)), 400);
    assert_true(says(client, "{\"index\":1,\"code\":\"body_too_large\","));
    /* Small rows under long names are large events. */
    buffer_printf(&wide, "%0250d,%0251d\n", 1, 2);
    for (int i = 0; i < BULK_EVENTS_MAX; i++) {
        buffer_append_text(&wide, "1,2\n");
    }
    assert_true(wide.len < 4096);
    assert_int_equal(post_span(client, "/events/bulk", CSV, buffer_span(&wide)), 413);
    client_free(client);
    buffer_free(&lines);
    buffer_free(&wide);
    finish(&f);
}

static void
a_body_larger_than_its_limit_ends_the_connection(void **state)
{
    struct buffer lines = lines_of("{}", 60000);
    struct fixture f;
    struct client *client;

    (void)state;
    assert_true(lines.len > BODY_MAX);
    start(&f);
    client = client_new(&f);
    assert_int_equal(post_span(client, "/events/bulk", NDJSON, buffer_span(&lines)), 413);
    assert_non_null(strstr(client->head, "Connection: close"));
    client_free(client);
    assert_int_equal(stored(&f), 0);
    buffer_free(&lines);
    finish(&f);
}

/* More than an answer may take without being charged. */
static void
a_long_list_of_ids_is_answered_whole(void **state)
{
    struct buffer lines = BUFFER_EMPTY;
    struct fixture f;
    struct client *client;

    (void)state;
    for (int i = 0; i < BULK_EVENTS_MAX; i++) {
        buffer_printf(&lines, "{\"id\":\"%0250d\"}\n", i);
    }
    start(&f);
    client = client_new(&f);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(post_span(client, "/events/bulk", NDJSON, buffer_span(&lines)), 202);
        assert_true(client->len > 64 * 1024);
        assert_true(says(client, "0299\"],\"errors\":[]}"));
    }
    client_free(client);
    assert_int_equal(stored(&f), BULK_EVENTS_MAX);
    buffer_free(&lines);
    finish(&f);
}

/* ---- the journal ---- */

static void
what_the_journal_refuses_is_not_acknowledged(void **state)
{
    struct fixture f;
    struct client *client;

    (void)state;
    start(&f);
    client = client_new(&f);
    fake_journal_next_append(f.fake, ERR_AGAIN);
    fake_journal_next_append(f.fake, ERR_FULL);
    assert_int_equal(post(client, "/events/bulk", NDJSON, "{}\n{}\n"), 503);
    assert_true(says(client, "\"error\":\"backpressure\""));
    assert_int_equal(post(client, "/events/bulk", NDJSON, "{}\n{}\n"), 503);
    assert_true(says(client, "\"error\":\"log_full\""));
    assert_non_null(strstr(client->head, "Retry-After: "));
    fake_journal_next_commit(f.fake, ERR_UNKNOWN, true);
    assert_int_equal(post(client, "/events/bulk?mode=partial", NDJSON, "{}\n{}\n5\n"), 500);
    assert_true(says(client, "\"error\":\"outcome_unknown\""));
    client_free(client);
    assert_int_equal(metric(&f, "sluice_events_received_total"), 7);
    assert_int_equal(metric(&f, "sluice_events_acked_total"), 0);
    assert_int_equal(metric(&f, "sluice_events_rejected_total{reason=\"outcome_unknown\"}"), 2);
    assert_int_equal(metric(&f, "sluice_events_rejected_total{reason=\"log_full\"}"), 2);
    finish(&f);
}

static void
a_bulk_is_one_append_and_is_answered_after_its_commit(void **state)
{
    struct buffer request = request_of("/events/bulk", NDJSON, SPAN_LITERAL("{}\n{}\n{}\n"));
    struct fixture f;
    struct client *client;
    char byte;

    (void)state;
    start(&f);
    client = client_new(&f);
    fake_journal_hold(f.fake);
    send_bytes(client, buffer_span(&request));
    fake_journal_wait_queued(f.fake, 3);
    assert_true(recv(client->fd, &byte, 1, MSG_DONTWAIT) < 0);
    fake_journal_release(f.fake);
    assert_int_equal(read_answer(client), 202);
    assert_true(says(client, "\"accepted\":3,"));
    assert_int_equal(stored(&f), 3);
    client_free(client);
    buffer_free(&request);
    finish(&f);
}

static void
a_client_that_leaves_takes_nothing_with_it(void **state)
{
    struct buffer request = request_of("/events/bulk", NDJSON, SPAN_LITERAL("{}\n{}\n{}\n"));
    struct fixture f;
    struct client *client;

    (void)state;
    start(&f);
    for (size_t cut = 1; cut <= request.len; cut += 7) { /* in the middle of the body too */
        client = client_new(&f);
        send_bytes(client, (struct span){request.data, cut});
        client_free(client);
    }
    fake_journal_hold(f.fake);
    client = client_new(&f);
    send_bytes(client, buffer_span(&request));
    fake_journal_wait_queued(f.fake, 3);
    client_free(client); /* the journal has its append */
    fake_journal_release(f.fake);
    client = client_new(&f);
    assert_int_equal(post(client, "/events/bulk", NDJSON, "{}"), 202);
    client_free(client);
    buffer_free(&request);
    finish(&f);
}

static void
events_beyond_the_budget_are_503(void **state)
{
    struct buffer lines = lines_of("{\"type\":\"t\"}", BULK_EVENTS_MAX);
    struct fixture f;
    struct client *client;

    (void)state;
    start_with(&f, 32 * 1024, 0);
    client = client_new(&f);
    assert_int_equal(post_span(client, "/events/bulk", NDJSON, buffer_span(&lines)), 503);
    assert_true(says(client, "\"error\":\"backpressure\""));
    client_free(client);
    client = client_new(&f);
    assert_int_equal(post(client, "/events/bulk", NDJSON, "{}"), 202);
    assert_int_equal(post(client, "/events", GZIP, "x"), 503); /* no room to unpack */
    client_free(client);
    assert_int_equal(stored(&f), 1);
    buffer_free(&lines);
    finish(&f);
}

static void
a_bulk_costs_a_token_per_element(void **state)
{
    struct fixture f;
    struct client *client;

    (void)state;
    start_with(&f, 1 << 20, 5);
    client = client_new(&f);
    assert_int_equal(post(client, "/events/bulk", NDJSON, "{}\n{}\n{}\n{}\n{}\n{}\n"), 413);
    assert_true(says(client, "burst"));
    assert_int_equal(post(client, "/events/bulk?mode=partial", NDJSON, "{}\n5\n{}\n"), 202);
    assert_int_equal(post(client, "/events/bulk", NDJSON, "{}\n{}\n{}\n"), 429);
    assert_true(says(client, "\"error\":\"rate_limited\""));
    assert_non_null(strstr(client->head, "Retry-After: "));
    assert_int_equal(post(client, "/events/bulk", NDJSON, "{}\n{}\n"), 202);
    assert_int_equal(stored(&f), 4);
    client_free(client);
    assert_int_equal(metric(&f, "sluice_events_rejected_total{reason=\"rate_limited\"}"), 3);
    finish(&f);
}

/* ---- gzip ---- */

static void
each_ingest_route_takes_gzip(void **state)
{
    static const struct {
        const char *path;
        const char *headers;
        const char *body;
    } ROWS[] = {
        {"/events", GZIP, "{\"type\":\"t\"}"},
        {"/events", "Content-Encoding: X-GZIP\r\n", "{\"type\":\"t\"}"},
        {"/ingest", GZIP, "{\"service\":\"s\",\"status\":200,\"latency_ms\":1}"},
        {"/events/bulk", NDJSON GZIP, "{}\n{}\n"},
        {"/events/bulk", CSV GZIP, "id,type\n1,t\n"},
        {"/events/bulk", GZIP, "[{}]"},
    };
    struct fixture f;
    struct client *client;

    (void)state;
    start(&f);
    client = client_new(&f);
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        struct buffer body = packed(span_of(ROWS[i].body));

        assert_int_equal(post_span(client, ROWS[i].path, ROWS[i].headers, buffer_span(&body)), 202);
        buffer_free(&body);
    }
    assert_int_equal(stored(&f), 7);
    client_free(client);
    finish(&f);
}

static void
gzip_that_is_cut_short_damaged_or_followed_by_garbage_is_400(void **state)
{
    struct buffer body = packed(SPAN_LITERAL("{\"type\":\"t\"}"));
    struct buffer two = BUFFER_EMPTY;
    struct fixture f;
    struct client *client;

    (void)state;
    start(&f);
    client = client_new(&f);
    for (size_t len = 0; len < body.len; len++) {
        assert_int_equal(post_span(client, "/events", GZIP, (struct span){body.data, len}), 400);
        assert_true(says(client, "the gzip body is cut short"));
    }
    buffer_append_span(&two, buffer_span(&body));
    buffer_append_char(&two, 'x');
    assert_int_equal(post_span(client, "/events", GZIP, buffer_span(&two)), 400);
    two.data[two.len - 1] = '\0';
    assert_int_equal(post_span(client, "/events", GZIP, buffer_span(&two)), 400);
    body.data[body.len - 5] ^= 1; /* its checksum */
    assert_int_equal(post_span(client, "/events", GZIP, buffer_span(&body)), 400);
    assert_true(says(client, "the body is not valid gzip"));
    assert_int_equal(stored(&f), 0);
    client_free(client);
    buffer_free(&body);
    buffer_free(&two);
    finish(&f);
}

static void
joined_gzip_members_are_one_body(void **state)
{
    struct buffer one = packed(SPAN_LITERAL("{\"id\":\"1\"}\n{\"id"));
    struct buffer empty = packed(SPAN_LITERAL(""));
    struct buffer two = packed(SPAN_LITERAL("\":\"2\"}\n"));
    struct fixture f;
    struct client *client;

    (void)state;
    buffer_append_span(&one, buffer_span(&empty));
    buffer_append_span(&one, buffer_span(&two));
    start(&f);
    client = client_new(&f);
    assert_int_equal(post_span(client, "/events/bulk", NDJSON GZIP, buffer_span(&one)), 202);
    assert_true(says(client, "\"event_ids\":[\"1\",\"2\"]"));
    client_free(client);
    buffer_free(&one);
    buffer_free(&empty);
    buffer_free(&two);
    finish(&f);
}

static void
gzip_is_bounded_by_what_it_unpacks_to(void **state)
{
    struct buffer blanks = BUFFER_EMPTY;
    struct buffer exact = BUFFER_EMPTY;
    struct buffer body;
    struct fixture f;
    struct client *client;

    (void)state;
    buffer_printf(&blanks, "%*s", 8 << 20, "");
    body = packed(buffer_span(&blanks));
    assert_true(body.len < 10000);
    start(&f);
    client = client_new(&f);
    assert_int_equal(post_span(client, "/events/bulk", NDJSON GZIP, buffer_span(&body)), 413);
    client_free(client);
    buffer_free(&body);
    buffer_printf(&exact, "{}%*s", 1022, ""); /* event_bytes_max, and one more */
    client = client_new(&f);
    body = packed(buffer_span(&exact));
    assert_int_equal(post_span(client, "/events", GZIP, buffer_span(&body)), 202);
    buffer_free(&body);
    buffer_append_char(&exact, ' ');
    body = packed(buffer_span(&exact));
    assert_int_equal(post_span(client, "/events", GZIP, buffer_span(&body)), 413);
    assert_true(says(client, "\"error\":\"body_too_large\""));
    client_free(client);
    assert_int_equal(stored(&f), 1);
    buffer_free(&body);
    buffer_free(&blanks);
    buffer_free(&exact);
    finish(&f);
}

static void
another_coding_is_415_and_says_which_one_is_taken(void **state)
{
    struct fixture f;
    struct client *client;

    (void)state;
    start(&f);
    client = client_new(&f);
    assert_int_equal(post(client, "/events", "Content-Encoding: br\r\n", "{}"), 415);
    assert_non_null(strstr(client->head, "\r\nAccept-Encoding: gzip"));
    assert_int_equal(post(client, "/events/bulk", "Content-Encoding: gzip, gzip\r\n", "{}"), 415);
    assert_non_null(strstr(client->head, "\r\nAccept-Encoding: gzip"));
    assert_int_equal(post(client, "/events", "Content-Encoding: identity\r\n", "{}"), 202);
    client_free(client);
    finish(&f);
}

static void
a_bulk_cut_anywhere_is_answered_the_same(void **state)
{
    struct buffer body = packed(SPAN_LITERAL("{\"id\":\"1\"}\n{\"id\":\"2\"}\n"));
    struct buffer requests[2];
    struct fixture f;
    struct client *client;

    (void)state;
    requests[0] = request_of("/events/bulk", NDJSON GZIP, buffer_span(&body));
    requests[1] = request_of("/events/bulk", CSV, SPAN_LITERAL("id,\"x\"\n1,\n2,\"a\n\"\n"));
    start(&f);
    client = client_new(&f);
    for (size_t r = 0; r < ARRAY_LEN(requests); r++) {
        struct span all = buffer_span(&requests[r]);

        for (size_t cut = 0; cut <= all.len; cut++) {
            send_bytes(client, (struct span){all.data, cut});
            sched_yield();
            send_bytes(client, (struct span){all.data + cut, all.len - cut});
            assert_int_equal(read_answer(client), 202);
            assert_true(says(client, "\"event_ids\":[\"1\",\"2\"],\"errors\":[]}"));
        }
        buffer_free(&requests[r]);
    }
    assert_int_equal(stored(&f), 2);
    client_free(client);
    buffer_free(&body);
    finish(&f);
}

static void
a_chunked_bulk_after_expect_continue_is_taken(void **state)
{
    static const char HEAD[] = "POST /events/bulk HTTP/1.1\r\nHost: h\r\n" NDJSON
                               "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n";
    struct fixture f;
    struct client *client;
    char hello[64];

    (void)state;
    start(&f);
    client = client_new(&f);
    send_bytes(client, SPAN_LITERAL(HEAD));
    assert_int_equal(recv(client->fd, hello, 25, MSG_WAITALL), 25);
    assert_memory_equal(hello, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    send_bytes(client, SPAN_LITERAL("4\r\n{}\n{\r\n2\r\n}\n\r\n0\r\n\r\n"));
    assert_int_equal(read_answer(client), 202);
    assert_true(says(client, "\"accepted\":2,"));
    client_free(client);
    finish(&f);
}

int
main(void)
{
    static const struct CMUnitTest TESTS[] = {
        cmocka_unit_test(each_format_has_the_same_answer),
        cmocka_unit_test(repeats_within_a_bulk_are_found),
        cmocka_unit_test(one_invalid_element_refuses_all_and_the_errors_are_listed),
        cmocka_unit_test(no_more_than_a_hundred_errors_are_listed_in_a_refusal),
        cmocka_unit_test(partial_mode_stores_the_valid_ones),
        cmocka_unit_test(what_is_no_bulk_is_refused_and_the_connection_goes_on),
        cmocka_unit_test(limits_of_a_bulk_are_413),
        cmocka_unit_test(a_body_larger_than_its_limit_ends_the_connection),
        cmocka_unit_test(a_long_list_of_ids_is_answered_whole),
        cmocka_unit_test(what_the_journal_refuses_is_not_acknowledged),
        cmocka_unit_test(a_bulk_is_one_append_and_is_answered_after_its_commit),
        cmocka_unit_test(a_client_that_leaves_takes_nothing_with_it),
        cmocka_unit_test(events_beyond_the_budget_are_503),
        cmocka_unit_test(a_bulk_costs_a_token_per_element),
        cmocka_unit_test(each_ingest_route_takes_gzip),
        cmocka_unit_test(gzip_that_is_cut_short_damaged_or_followed_by_garbage_is_400),
        cmocka_unit_test(joined_gzip_members_are_one_body),
        cmocka_unit_test(gzip_is_bounded_by_what_it_unpacks_to),
        cmocka_unit_test(another_coding_is_415_and_says_which_one_is_taken),
        cmocka_unit_test(a_bulk_cut_anywhere_is_answered_the_same),
        cmocka_unit_test(a_chunked_bulk_after_expect_continue_is_taken),
    };

    return cmocka_run_group_tests(TESTS, NULL, NULL);
}
