/*
 * test_http_access.c - keys and rate limits as a client sees them: what opens what, in which order
 * things are judged, what the fields say. Time is a fake clock's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/log.h"
#include "http/internal.h"
#include "http/server.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_journal.h"

enum {
    PATIENCE_S = 30,
    EVENT_MAX = 2048,
};

#define NOW_US INT64_C(1790000000000000)
#define KEYS "t1:k1,t2:k2,t1:k3"

static struct {
    struct fake_clock clock;
    struct fake_journal *journal;
    struct slices *slices;
    struct slo_config slo;
    struct tenants *tenants;
    struct server *server;
    int fd;
} f;

struct setup {
    const char *keys;
    const char *admin;
    double rate;
    uint64_t burst;
    double tenant_rate;
    uint64_t tenant_burst;
    bool no_tenants;
};

static void
on_durable(void *self, const struct append_event *appended)
{
    struct event event;

    (void)self;
    assert_int_equal(event_decode(appended->body, &event), ERR_OK);
    assert_int_equal(slices_add_event(f.slices, &event, 1, NOW_US), ERR_OK);
}

static int
connect_to_server(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(server_port(f.server))};
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

static void
start(const struct setup *setup)
{
    const struct slices_config slices = {.series_max = 100, .retain_minutes = 60 * 24 * 31};
    const struct fake_journal_config journal = {
        .partitions = 1, .id_window = 1000, .observer = {on_durable, NULL}};
    const struct tenants_config tenants = {.keys = setup->keys,
                                           .admin_key = setup->admin,
                                           .rate = setup->tenant_rate,
                                           .burst = setup->tenant_burst,
                                           .clock = &f.clock.port};
    const struct server_config config = {
        .host = "127.0.0.1",
        .threads = 2,
        .body_bytes_max = 16 * 1024,
        .event_bytes_max = EVENT_MAX,
        .buffered_bytes_max = 1 << 20,
        .connections_max = 64,
        .read_timeout_ms = 60000,
        .idle_timeout_ms = 60000,
        .future_skew_max_us = 1000000,
        .rate = setup->rate,
        .rate_burst = setup->burst,
    };
    struct buffer problem = BUFFER_EMPTY;
    struct server_deps deps;

    memset(&f, 0, sizeof(f));
    log_setup(LOG_ERROR, LOG_JSON, 2);
    fake_clock_init(&f.clock, NOW_US);
    assert_int_equal(slices_new(&f.slices, &slices), ERR_OK);
    f.slo.objective_count = 1;
    f.slo.objective[0] = (struct slo_objective){.id = "default-availability",
                                                .type = SLO_AVAILABILITY,
                                                .target = 0.999,
                                                .window_minutes = 43200};
    if (!setup->no_tenants) {
        assert_int_equal(tenants_open(&f.tenants, &tenants, &problem), ERR_OK);
    }
    f.journal = fake_journal_new(&journal);
    fake_journal_start(f.journal);
    deps = (struct server_deps){.journal = fake_journal_port(f.journal),
                                .slices = f.slices,
                                .slo = &f.slo,
                                .clock = &f.clock.port,
                                .tenants = f.tenants};
    assert_int_equal(server_open(&f.server, &config, &deps), ERR_OK);
    assert_int_equal(server_start(f.server), ERR_OK);
    f.fd = connect_to_server();
    buffer_free(&problem);
}

static void
finish(void)
{
    (void)close(f.fd);
    server_stop(f.server, 0, 10000);
    fake_journal_free(f.journal);
    server_close(f.server);
    tenants_free(f.tenants);
    slices_free(f.slices);
}

/* ---- a client ---- */

static char answer[64 * 1024]; /* the last one, whole */

static void
send_text(const char *text)
{
    size_t len = strlen(text);

    while (len > 0) {
        ssize_t n = send(f.fd, text, len, MSG_NOSIGNAL);

        assert_true(n > 0);
        text += n;
        len -= (size_t)n;
    }
}

/* Reads one answer to its last byte and returns its status. */
static int
read_status(void)
{
    size_t len = 0;
    size_t want = 0;
    int status = 0;

    answer[0] = '\0';
    while (want == 0 || len < want) {
        ssize_t n = recv(f.fd, answer + len, sizeof(answer) - 1 - len, 0);
        char *end;

        assert_true(n > 0);
        len += (size_t)n;
        answer[len] = '\0';
        end = strstr(answer, "\r\n\r\n");
        if (end != NULL && want == 0) {
            const char *length = strstr(answer, "Content-Length: ");

            assert_non_null(length);
            want = (size_t)(end + 4 - answer) + strtoul(length + 16, NULL, 10);
        }
    }
    assert_int_equal(len, want);
    assert_int_equal(sscanf(answer, "HTTP/1.1 %d ", &status), 1);
    return status;
}

static void
assert_says(const char *text)
{
    if (strstr(answer, text) == NULL) {
        fail_msg("no '%s' in: %s", text, answer);
    }
}

static void
assert_silent_of(const char *text)
{
    if (strstr(answer, text) != NULL) {
        fail_msg("'%s' in: %s", text, answer);
    }
}

/* HEADERS: complete lines. */
static int
post(const char *path, const char *headers, const char *body)
{
    char text[8192];
    int n = snprintf(text, sizeof(text),
                     "POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n%s\r\n%s", path,
                     strlen(body), headers, body);

    assert_true(n > 0 && (size_t)n < sizeof(text));
    send_text(text);
    return read_status();
}

static int
get(const char *path, const char *headers)
{
    char text[1024];

    (void)snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: h\r\n%s\r\n", path, headers);
    send_text(text);
    return read_status();
}

static int
ingest(const char *key, const char *id)
{
    char headers[128] = "";
    char body[256];

    if (key != NULL) {
        (void)snprintf(headers, sizeof(headers), "X-API-Key: %s\r\n", key);
    }
    (void)snprintf(body, sizeof(body),
                   "{\"service\":\"api\",\"status\":200,\"latency_ms\":1,\"event_id\":\"%s\"}", id);
    return post("/ingest", headers, body);
}

/* ---- keys ---- */

static void
without_keys_nobody_is_asked_for_one(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        start(&(struct setup){.no_tenants = i == 0});
        assert_int_equal(ingest(NULL, "a"), 202);
        assert_silent_of("RateLimit");
        assert_int_equal(ingest("whatever", "a"), 200);
        assert_int_equal(get("/slo/status", ""), 200);
        assert_says("\"service\":\"api\"");
        finish();
    }
}

static void
a_key_is_needed_and_each_of_a_tenant_s_keys_opens(void **state)
{
    (void)state;
    start(&(struct setup){.keys = KEYS, .admin = "root"});
    assert_int_equal(ingest(NULL, "a"), 401);
    assert_says("\"error\":\"unauthorized\"");
    assert_says("\r\nWWW-Authenticate: ApiKey header=\"X-API-Key\"\r\n");
    assert_int_equal(ingest("", "a"), 401);
    assert_int_equal(ingest("k", "a"), 401);
    assert_int_equal(ingest("k11", "a"), 401);
    assert_int_equal(ingest("t1:k1", "a"), 401);
    assert_int_equal(get("/slo/status", ""), 401);
    assert_int_equal(ingest("k1", "a"), 202);
    assert_int_equal(ingest("  k1\t", "b"), 202); /* blanks around it do not count */
    assert_int_equal(ingest("k3", "a"), 200);     /* the same tenant by another key */
    assert_int_equal(ingest("root", "a"), 403);   /* the admin is no tenant */
    assert_says("\"error\":\"forbidden\"");
    assert_int_equal(get("/slo/status", "X-API-Key: root\r\n"), 403);
    assert_int_equal(get("/slo/status", "x-api-key: k1\r\n"), 200);
    finish();
}

static void
two_keys_in_one_request_are_refused(void **state)
{
    (void)state;
    start(&(struct setup){.keys = KEYS});
    assert_int_equal(get("/slo/status", "X-API-Key: k1\r\nX-API-Key: k2\r\n"), 400);
    finish();
}

static void
what_is_open_stays_open(void **state)
{
    static const char *const OPEN[] = {"/health", "/livez",         "/ready",
                                       "/readyz", "/metrics",       "/metrics/prometheus",
                                       "/",       "/dashboard.css", "/dashboard.js"};

    (void)state;
    start(&(struct setup){.keys = KEYS});
    for (size_t i = 0; i < ARRAY_LEN(OPEN); i++) {
        assert_int_equal(get(OPEN[i], ""), 200);
        assert_int_equal(get(OPEN[i], "X-API-Key: wrong\r\n"), 200);
    }
    assert_int_equal(get("/metrics", ""), 200);
    assert_says("\nsluice_api_keys 3\n");
    assert_says("\nsluice_api_key_tenants 2\n");
    assert_int_equal(get("/nowhere", ""), 404);
    finish();
}

static void
every_route_that_writes_or_reads_events_needs_a_key(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ROUTE_COUNT; i++) {
        bool writes = ROUTES[i].method != METHOD_GET || ROUTES[i].body != BODY_NONE;
        bool slo = strncmp(ROUTES[i].path, "/slo", 4) == 0;

        assert_true(ROUTES[i].auth != AUTH_NONE || (!writes && !slo));
    }
}

static void
tenants_do_not_meet_though_services_and_ids_are_the_same(void **state)
{
    (void)state;
    start(&(struct setup){.keys = KEYS});
    assert_int_equal(ingest("k1", "same"), 202);
    assert_says("\"seq\":1}");
    assert_int_equal(ingest("k2", "same"), 202); /* not a repeat */
    assert_says("\"duplicate\":false,\"seq\":2}");
    assert_int_equal(ingest("k1", "same"), 200);
    assert_says("\"seq\":1}");
    assert_int_equal(ingest("k2", "same"), 200);
    assert_says("\"seq\":2}");
    assert_int_equal(ingest("k2", "further"), 202);
    assert_int_equal(
        post("/events", "X-API-Key: k2\r\n",
             "{\"service\":\"only-of-t2\",\"status\":500,\"latency_ms\":1,\"event_id\":\"o\"}"),
        202);
    assert_int_equal(get("/slo/status", "X-API-Key: k1\r\n"), 200);
    assert_says("\"total\":1,");
    assert_silent_of("only-of-t2");
    assert_int_equal(get("/slo/status?service=only-of-t2", "X-API-Key: k1\r\n"), 200);
    assert_silent_of("\"total\":1");
    assert_int_equal(get("/slo/status?service=api", "X-API-Key: k2\r\n"), 200);
    assert_says("\"total\":2,");
    finish();
}

static void
what_is_judged_first_is_answered_first(void **state)
{
    char large[EVENT_MAX + 200];
    const char *type = "Content-Type: text/plain\r\n";

    (void)state;
    start(&(struct setup){.keys = KEYS, .tenant_rate = 0.001, .tenant_burst = 2});
    memset(large, ' ', sizeof(large));
    large[sizeof(large) - 1] = '\0';
    assert_int_equal(post("/ingest", "", large), 413); /* size before key */
    assert_int_equal(post("/ingest", type, "x"), 401); /* key before all that follows */
    assert_int_equal(post("/ingest", "X-API-Key: k1\r\nContent-Type: text/plain\r\n", "x"), 415);
    assert_int_equal(post("/ingest", "X-API-Key: k1\r\n", large), 413);
    assert_silent_of("RateLimit");
    assert_int_equal(post("/ingest", "X-API-Key: k1\r\n", "{"), 400); /* the first token */
    assert_says("invalid_json");
    assert_says("RateLimit: \"tenant\";r=1;t=1000\r\n");
    assert_int_equal(post("/ingest", "X-API-Key: k1\r\n", "{}"), 400); /* the second */
    assert_says("RateLimit: \"tenant\";r=0;t=2000\r\n");
    assert_int_equal(post("/ingest", "X-API-Key: k1\r\n", "{"), 429); /* rate before JSON */
    assert_int_equal(ingest(NULL, "a"), 401);                         /* key before rate */
    finish();
}

static void
a_chunked_body_without_a_key_is_not_read(void **state)
{
    (void)state;
    start(&(struct setup){.keys = KEYS});
    send_text("POST /ingest HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_int_equal(read_status(), 401);
    assert_says("Connection: close");
    finish();
}

static void
a_client_that_asks_first_is_told_before_it_sends(void **state)
{
    (void)state;
    start(&(struct setup){.keys = KEYS});
    send_text("POST /ingest HTTP/1.1\r\nHost: h\r\nContent-Length: 500\r\nExpect: 100-continue\r\n"
              "\r\n");
    assert_int_equal(read_status(), 401);
    finish();
}

static void
refusals_are_counted_by_reason(void **state)
{
    (void)state;
    start(&(struct setup){.keys = KEYS, .admin = "root", .tenant_rate = 0.001, .tenant_burst = 1});
    assert_int_equal(ingest(NULL, "a"), 401);
    assert_int_equal(ingest("wrong", "a"), 401);
    assert_int_equal(ingest("root", "a"), 403);
    assert_int_equal(ingest("k1", "a"), 202);
    assert_int_equal(ingest("k1", "b"), 429);
    assert_int_equal(get("/metrics", ""), 200);
    assert_says("sluice_events_received_total 5\n");
    assert_says("sluice_events_rejected_total{reason=\"unauthorized\"} 2\n");
    assert_says("sluice_events_rejected_total{reason=\"forbidden\"} 1\n");
    assert_says("sluice_events_rejected_total{reason=\"rate_limited\"} 1\n");
    finish();
}

/* ---- rates ---- */

static void
each_tenant_has_a_bucket_of_its_own(void **state)
{
    (void)state;
    start(&(struct setup){.keys = KEYS, .tenant_rate = 0.5, .tenant_burst = 2});
    assert_int_equal(ingest("k1", "a"), 202);
    assert_says("\r\nRateLimit-Policy: \"tenant\";q=2;w=4\r\n"
                "RateLimit: \"tenant\";r=1;t=2\r\n");
    assert_int_equal(ingest("k3", "a"), 200); /* a repeat costs, and keys share their tenant's */
    assert_says("\r\nRateLimit: \"tenant\";r=0;t=4\r\n");
    assert_int_equal(ingest("k1", "b"), 429);
    assert_says("\"error\":\"rate_limited\"");
    assert_says("\r\nRetry-After: 2\r\n");
    assert_says("\r\nRateLimit: \"tenant\";r=0;t=4\r\n");
    assert_int_equal(ingest("k2", "a"), 202);
    assert_int_equal(get("/slo/status", "X-API-Key: k1\r\n"), 200); /* reading is not limited */
    assert_silent_of("RateLimit");
    fake_clock_pass_ms(&f.clock, 1999);
    assert_int_equal(ingest("k1", "b"), 429);
    assert_says("\r\nRetry-After: 1\r\n");
    fake_clock_pass_ms(&f.clock, 1); /* two seconds, as was said */
    assert_int_equal(ingest("k1", "b"), 202);
    assert_int_equal(ingest("k1", "c"), 429);
    finish();
}

static void
the_common_bucket_is_for_all_and_its_refusal_costs_the_tenant_nothing(void **state)
{
    (void)state;
    start(&(struct setup){
        .keys = KEYS, .rate = 1, .burst = 3, .tenant_rate = 0.001, .tenant_burst = 2});
    assert_int_equal(ingest("k1", "a"), 202);
    assert_says("\r\nRateLimit-Policy: \"tenant\";q=2;w=2000, \"default\";q=3;w=3\r\n"
                "RateLimit: \"tenant\";r=1;t=1000, \"default\";r=2;t=1\r\n");
    assert_int_equal(ingest("k1", "b"), 202);
    assert_int_equal(ingest("k1", "c"), 429); /* by the tenant's: the common one keeps its token */
    assert_says("\r\nRetry-After: 1000\r\n");
    assert_silent_of("\"default\"");
    assert_int_equal(ingest("k2", "a"), 202);
    assert_says("\"default\";r=0;t=3\r\n");
    assert_int_equal(ingest("k2", "b"), 429); /* by the common one */
    assert_says("\r\nRetry-After: 1\r\n");
    assert_says("\"tenant\";r=1;t=1000, \"default\";r=0;t=3\r\n");
    fake_clock_pass_ms(&f.clock, 1000);
    assert_int_equal(ingest("k2", "b"), 202);
    assert_says("\"tenant\";r=0;");
    finish();
}

static void
without_keys_both_limits_hold_for_everybody(void **state)
{
    (void)state;
    start(&(struct setup){.tenant_rate = 0.001, .tenant_burst = 1});
    assert_int_equal(ingest(NULL, "a"), 202);
    assert_int_equal(ingest(NULL, "b"), 429);
    finish();
    start(&(struct setup){.rate = 0.001, .burst = 1, .no_tenants = true});
    assert_int_equal(ingest(NULL, "a"), 202);
    assert_says("RateLimit-Policy: \"default\";q=1;w=1000\r\n");
    assert_int_equal(ingest(NULL, "b"), 429);
    finish();
}

static void
loops_share_a_bucket(void **state)
{
    enum {
        BURST = 40
    };
    int taken = 0;

    (void)state;
    start(&(struct setup){.keys = KEYS, .tenant_rate = 0.001, .tenant_burst = BURST});
    for (int i = 0; i < 2 * BURST; i++) {
        char id[16];

        (void)close(f.fd); /* the kernel deals connections out to both loops */
        f.fd = connect_to_server();
        (void)snprintf(id, sizeof(id), "%d", i);
        taken += ingest("k1", id) == 202;
    }
    assert_int_equal(taken, BURST);
    finish();
}

/* ---- what handlers are given ---- */

static void
an_admin_route_wants_the_admin_s_key(void **state)
{
    static const struct {
        const char *keys;
        const char *admin;
        const char *given;
        enum problem want;
    } ROWS[] = {
        {KEYS, "root", "root", PROBLEM_NONE},          {KEYS, "root", "k1", PROBLEM_FORBIDDEN},
        {KEYS, "root", "wrong", PROBLEM_UNAUTHORIZED}, {KEYS, "root", NULL, PROBLEM_UNAUTHORIZED},
        {KEYS, NULL, "k1", PROBLEM_FORBIDDEN}, /* no admin: nobody may */
        {KEYS, NULL, NULL, PROBLEM_UNAUTHORIZED},      {NULL, "root", "root", PROBLEM_NONE},
        {NULL, "root", NULL, PROBLEM_UNAUTHORIZED},    {NULL, NULL, NULL, PROBLEM_NONE},
        {NULL, NULL, "whatever", PROBLEM_NONE},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        const struct tenants_config config = {
            .keys = ROWS[i].keys, .admin_key = ROWS[i].admin, .clock = clock_system()};
        struct buffer problem = BUFFER_EMPTY;
        struct server server = {.loop_count = 1};
        struct loop loop = {.server = &server};
        struct exchange exchange = {.loop = &loop};
        struct request_slot *slot = &exchange.request.field[FIELD_API_KEY];

        assert_int_equal(tenants_open(&server.deps.tenants, &config, &problem), ERR_OK);
        if (ROWS[i].given != NULL) {
            buffer_append_text(&exchange.request.head, ROWS[i].given);
            *slot = (struct request_slot){0, narrow_u32(strlen(ROWS[i].given)), true};
        }
        assert_int_equal(access_check(&exchange, AUTH_ADMIN), ROWS[i].want);
        assert_null(exchange.tenant);
        assert_int_equal(access_check(&exchange, AUTH_NONE), PROBLEM_NONE);
        buffer_free(&exchange.request.head);
        tenants_free(server.deps.tenants);
    }
}

static void
a_bulk_is_taken_whole_or_refused_whole(void **state)
{
    const struct tenants_config config = {
        .keys = KEYS, .rate = 0.001, .burst = 10, .clock = clock_system()};
    struct buffer problem = BUFFER_EMPTY;
    struct buffer fields = BUFFER_EMPTY;
    struct server server = {.loop_count = 1};
    struct loop loop = {.server = &server};
    struct exchange exchange = {.loop = &loop};

    (void)state;
    assert_int_equal(tenants_open(&server.deps.tenants, &config, &problem), ERR_OK);
    token_bucket_init(&server.rate, 0.001, 8, 0);
    loop.now_us = clock_monotonic_us(clock_system());
    assert_int_equal(tenants_find(server.deps.tenants, 0, SPAN_LITERAL("k1"), &exchange.tenant),
                     KEY_OF_TENANT);
    assert_int_equal(access_take(&exchange, 11), PROBLEM_OVER_BURST); /* of the tenant's */
    assert_int_equal(access_take(&exchange, 9), PROBLEM_OVER_BURST);  /* of the common one */
    assert_int_equal(access_take(&exchange, 7), PROBLEM_NONE);
    assert_int_equal(access_take(&exchange, 3), PROBLEM_RATE_LIMITED); /* of the common one */
    assert_int_equal(exchange.retry_after_s, 2000);
    assert_int_equal(access_take(&exchange, 1), PROBLEM_NONE);
    access_write_fields(&exchange, &fields);
    assert_true(span_is(buffer_span(&fields),
                        "RateLimit-Policy: \"tenant\";q=10;w=10000, \"default\";q=8;w=8000\r\n"
                        "RateLimit: \"tenant\";r=2;t=8000, \"default\";r=0;t=8000\r\n"));
    assert_int_equal(problem_status(PROBLEM_OVER_BURST), 413);
    assert_int_equal(problem_retry_after_s(PROBLEM_OVER_BURST), 0); /* waiting would not help */
    buffer_free(&fields);
    tenants_free(server.deps.tenants);
}

#define TEST(name) cmocka_unit_test(name)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_keys_nobody_is_asked_for_one),
        TEST(a_key_is_needed_and_each_of_a_tenant_s_keys_opens),
        TEST(two_keys_in_one_request_are_refused),
        TEST(what_is_open_stays_open),
        TEST(every_route_that_writes_or_reads_events_needs_a_key),
        TEST(tenants_do_not_meet_though_services_and_ids_are_the_same),
        TEST(what_is_judged_first_is_answered_first),
        TEST(a_chunked_body_without_a_key_is_not_read),
        TEST(a_client_that_asks_first_is_told_before_it_sends),
        TEST(refusals_are_counted_by_reason),
        TEST(each_tenant_has_a_bucket_of_its_own),
        TEST(the_common_bucket_is_for_all_and_its_refusal_costs_the_tenant_nothing),
        TEST(without_keys_both_limits_hold_for_everybody),
        TEST(loops_share_a_bucket),
        TEST(an_admin_route_wants_the_admin_s_key),
        TEST(a_bulk_is_taken_whole_or_refused_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
