/*
 * Exchanges: recycling them, and writing answers into them.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/log.h"
#include "http/cors.h"
#include "http/internal.h"

static const char *const STATUS_LINES[STATUS_COUNT] = {
#define STATUS_LINE(status, text) [STATUS_##status] = "HTTP/1.1 " #status " " text "\r\nDate: ",
    STATUS_LIST(STATUS_LINE)
#undef STATUS_LINE
};

static enum status_index
status_index(uint16_t status)
{
    switch (status) {
#define STATUS_CASE(status, text)                                                                  \
    case status:                                                                                   \
        return STATUS_##status;
        STATUS_LIST(STATUS_CASE)
#undef STATUS_CASE
    default:
        assert_failed(__FILE__, __LINE__, "a status of the table");
    }
}

struct exchange *
exchange_new(struct conn *conn)
{
    struct loop *loop = conn->loop;
    struct exchange *exchange = loop->free_exchanges;

    if (exchange != NULL) {
        loop->free_exchanges = exchange->next;
        loop->free_count--;
    } else {
        exchange = calloc(1, sizeof(*exchange));
        if (exchange == NULL) {
            return NULL;
        }
        exchange->loop = loop;
    }
    exchange->next = NULL;
    exchange->conn = conn;
    exchange->state = EXCHANGE_READING;
    exchange->began_us = loop->now_us;
    return exchange;
}

void
exchange_destroy(struct exchange *exchange)
{
    struct budget *budget = &exchange->loop->server->budget;

    upload_end(exchange);
    request_free(&exchange->request, budget);
    budget_give(budget, exchange->charged);
    budget_give(&exchange->loop->server->answers, exchange->answer_charged);
    buffer_free(&exchange->page);
    buffer_free(&exchange->scratch);
    buffer_free(&exchange->encoded);
    buffer_free(&exchange->answer);
    free(exchange);
}

void
exchange_free(struct exchange *exchange)
{
    struct loop *loop = exchange->loop;
    struct budget *budget = &loop->server->budget;

    ASSERT(exchange->state != EXCHANGE_WAITING);
    if (loop->free_count >= FREE_EXCHANGES_MAX) {
        exchange_destroy(exchange);
        return;
    }
    upload_end(exchange);
    request_reset(&exchange->request, budget, KEEP_BYTES_MAX);
    budget_give(budget, exchange->charged);
    exchange->charged = 0;
    budget_give(&loop->server->answers, exchange->answer_charged);
    exchange->answer_charged = 0;
    buffer_free(&exchange->page);
    buffer_clear(&exchange->scratch, KEEP_BYTES_MAX);
    buffer_clear(&exchange->encoded, KEEP_BYTES_MAX);
    buffer_clear(&exchange->answer, KEEP_BYTES_MAX);
    exchange->conn = NULL;
    exchange->route = NULL;
    exchange->refused = false;
    exchange->continue_wanted = false;
    exchange->close = false;
    exchange->id_in_header = false;
    exchange->rated = 0;
    exchange->tenant = NULL;
    exchange->by_admin = false;
    exchange->status = 0;
    exchange->id_len = 0;
    exchange->request_id_len = 0;
    exchange->next = loop->free_exchanges;
    loop->free_exchanges = exchange;
    loop->free_count++;
}

static bool
is_sane_id(struct span id)
{
    if (id.len == 0 || id.len > REQUEST_ID_MAX) {
        return false;
    }
    for (size_t i = 0; i < id.len; i++) {
        if (id.data[i] < 0x21 || id.data[i] > 0x7e) {
            return false;
        }
    }
    return true;
}

void
exchange_identify(struct exchange *exchange)
{
    struct span given = request_field(&exchange->request, FIELD_REQUEST_ID);
    struct loop *loop = exchange->loop;
    char digits[16];
    uint64_t number;

    if (exchange->request_id_len != 0) {
        return;
    }
    if (is_sane_id(given)) {
        memcpy(exchange->request_id, given.data, given.len);
        exchange->request_id_len = narrow_u8(given.len);
        return;
    }
    number = loop->request_number++;
    for (size_t i = sizeof(digits); i > 0; i--) {
        digits[i - 1] = "0123456789abcdef"[number & 15U];
        number >>= 4;
    }
    memcpy(exchange->request_id, loop->request_prefix, 8);
    memcpy(exchange->request_id + 8, digits, sizeof(digits));
    exchange->request_id_len = 8 + sizeof(digits);
}

void
exchange_identify_by(struct exchange *exchange, struct span id)
{
    const struct request *request = &exchange->request;

    if (!is_sane_id(request_field(request, FIELD_REQUEST_ID)) && is_sane_id(id)) {
        memcpy(exchange->request_id, id.data, id.len);
        exchange->request_id_len = narrow_u8(id.len);
    }
}

/* Absent when two were given: then nobody knows who asks. */
static struct span
request_origin(const struct request *request)
{
    return request_field_repeated(request, FIELD_ORIGIN) ? SPAN_LITERAL("")
                                                         : request_field(request, FIELD_ORIGIN);
}

static void
count_request(struct exchange *exchange)
{
    struct loop *loop = exchange->loop;
    size_t route = exchange->route == NULL ? ROUTES_MAX : (size_t)(exchange->route - ROUTES);

    metric_add(
        &loop->metrics.requests[route][exchange->request.method][status_index(exchange->status)],
        1);
    metric_observe(&loop->metrics.seconds, (double)(loop->now_us - exchange->began_us) / 1e6);
    if (loop->server->config.metrics_legacy_names && exchange->route != NULL &&
        route_takes_events(exchange->route)) {
        metric_observe(&loop->metrics.ingest_ms, (double)(loop->now_us - exchange->began_us) / 1e3);
    }
}

/* Watching the server is not what it is for: such requests must not make its figures better. */
static bool
is_measured(const struct route *route)
{
    return route != NULL && (route->auth == AUTH_TENANT ||
                             (route->auth == AUTH_ADMIN && route->method != METHOD_GET));
}

/* The server as its own tenant. */
static void
note_request(const struct exchange *exchange)
{
    const struct loop *loop = exchange->loop;
    const double latency_ms = (double)(loop->now_us - exchange->began_us) / 1e3;
    const struct requests_entry answer = {
        .endpoint = exchange->route != NULL ? exchange->route->path : "none",
        .method = request_method_name(exchange->request.method),
        .status = exchange->status,
        .count = 1,
        .latency_ms_sum = latency_ms,
        .latency_ms_max = latency_ms,
    };

    requests_note(loop->server->deps.requests, loop->index % REQUESTS_SHARDS, &answer,
                  is_measured(exchange->route), loop->wall_us);
}

/* SPAN as text, cut to what fits. */
static void
copy_text(char *out, size_t size, struct span span)
{
    size_t len = span.len < size ? span.len : size - 1;

    if (len > 0) {
        memcpy(out, span.data, len);
    }
    out[len] = '\0';
}

/* For following one request through a system; what clients can cause is else only counted. */
static void
log_request(const struct exchange *exchange)
{
    const struct request *request = &exchange->request;
    char request_id[REQUEST_ID_MAX + 1];
    char trace_id[32 + 1];
    char event_id[EVENT_NAME_MAX + 1];

    copy_text(request_id, sizeof(request_id),
              (struct span){exchange->request_id, exchange->request_id_len});
    copy_text(trace_id, sizeof(trace_id), request_trace_id(request));
    copy_text(event_id, sizeof(event_id), (struct span){exchange->id, exchange->id_len});
    log_debug("http.request", LOG_STR("method", request_method_name(request->method)),
              LOG_STR("route", exchange->route != NULL ? exchange->route->path : "none"),
              LOG_U64("status", exchange->status),
              LOG_F64("duration_ms", (double)(exchange->loop->now_us - exchange->began_us) / 1e3),
              LOG_STR("request_id", request_id), LOG_STR("trace_id", trace_id),
              LOG_STR("event_id", event_id), LOG_END);
}

/*
 * Says Connection: close when the client wants it, when the framing is lost, or while stopping on
 * the last answer that is owed.
 */
static void
settle_connection(struct exchange *exchange)
{
    struct conn *conn = exchange->conn;

    if (!exchange->request.keep_alive) {
        exchange->close = true;
    }
    if (conn == NULL) {
        return;
    }
    if (exchange->loop->draining && exchange == conn->tail) {
        exchange->close = true;
    }
    if (exchange->close && conn->state == CONN_OPEN) {
        conn->state = CONN_LAST;
    }
}

void
exchange_answer(struct exchange *exchange, uint16_t status, const char *type, struct span body,
                const char *headers)
{
    struct buffer *out = &exchange->answer;

    ASSERT(exchange->state != EXCHANGE_DONE);
    ASSERT(out->len == 0);
    exchange_identify(exchange);
    settle_connection(exchange);
    exchange->status = status;
    buffer_append_text(out, STATUS_LINES[status_index(status)]);
    buffer_append_text(out, exchange->loop->date);
    buffer_append_text(out, "\r\nX-Content-Type-Options: nosniff\r\nX-Request-ID: ");
    buffer_append(out, exchange->request_id, exchange->request_id_len);
    if (type != NULL) {
        buffer_append_text(out, "\r\nContent-Type: ");
        buffer_append_text(out, type);
    }
    if (status != 204) {
        buffer_append_text(out, "\r\nContent-Length: ");
        buffer_append_u64(out, body.len);
    }
    buffer_append_text(out, "\r\n");
    buffer_append_text(out, headers);
    if (exchange->rated != 0) {
        access_write_fields(exchange, out);
    }
    cors_write(exchange->loop->server->config.cors_origins, request_origin(&exchange->request),
               out);
    if (exchange->close) {
        buffer_append_text(out, "Connection: close\r\n");
    } else if (!exchange->request.http_1_1) {
        buffer_append_text(out, "Connection: keep-alive\r\n");
    }
    buffer_append_text(out, "\r\n");
    if (exchange->request.method != METHOD_HEAD) {
        buffer_append_span(out, body);
    }
    count_request(exchange);
    note_request(exchange);
    if (log_enabled(LOG_DEBUG)) {
        log_request(exchange);
    }
    if (exchange->conn != NULL) {
        exchange->conn->answer_bytes += out->len;
    }
    if (exchange->state == EXCHANGE_READING && exchange->refused) {
        return; /* its body is still to be read; exchange_done() is the reader's */
    }
    exchange->state = EXCHANGE_DONE;
}

/* The table's sentences are those of somebody who wanted to store something. */
static const char *
default_sentence(const struct exchange *exchange, enum problem problem)
{
    const enum request_method method = exchange->request.method;
    const bool reads = method == METHOD_GET || method == METHOD_HEAD;

    return problem == PROBLEM_BACKPRESSURE && reads
               ? "the server is at its limit and cannot answer this now; ask again"
               : NULL;
}

void
exchange_problem(struct exchange *exchange, enum problem problem, const char *message)
{
    exchange_problem_more(exchange, problem, message, (struct span){NULL, 0});
}

void
exchange_problem_more(struct exchange *exchange, enum problem problem, const char *message,
                      struct span more)
{
    struct buffer *body = &exchange->loop->body;
    uint64_t retry_after_s =
        problem == PROBLEM_RATE_LIMITED ? exchange->retry_after_s : problem_retry_after_s(problem);
    char headers[64] = "";

    if (message == NULL) {
        message = default_sentence(exchange, problem);
    }
    exchange_identify(exchange);
    buffer_clear(body, READ_BYTES);
    problem_json(body, problem, message,
                 (struct span){exchange->request_id, exchange->request_id_len}, more);
    if (retry_after_s != 0) {
        (void)snprintf(headers, sizeof(headers), "Retry-After: %llu\r\n",
                       (unsigned long long)retry_after_s);
    } else if (problem == PROBLEM_UNAUTHORIZED) {
        /* A 401 must name a scheme; browsers know none of this name and so ask for no password. */
        (void)snprintf(headers, sizeof(headers),
                       "WWW-Authenticate: ApiKey header=\"X-API-Key\"\r\n");
    } else if (problem == PROBLEM_CODING) { /* RFC 7694 */
        (void)snprintf(headers, sizeof(headers), "Accept-Encoding: gzip\r\n");
    }
    exchange_answer(exchange, problem_status(problem), "application/problem+json",
                    buffer_span(body), headers);
}

void
exchange_allow(struct exchange *exchange, uint32_t allowed, bool refuse)
{
    struct buffer *body = &exchange->loop->body;
    const char *origins = exchange->loop->server->config.cors_origins;
    char methods[64] = "";
    char headers[512];
    size_t len = 0;

    for (uint32_t m = 0; m < METHOD_OTHER; m++) {
        if ((allowed & 1U << m) != 0) {
            int n = snprintf(methods + len, sizeof(methods) - len, "%s%s", len == 0 ? "" : ", ",
                             request_method_name((enum request_method)m));

            ASSERT(n > 0 && (size_t)n < sizeof(methods) - len);
            len += (size_t)n;
        }
    }
    (void)snprintf(headers, sizeof(headers), "Allow: %s\r\n", methods);
    if (!refuse) {
        if (cors_allows(origins, request_origin(&exchange->request)) &&
            request_field(&exchange->request, FIELD_PREFLIGHT).len > 0) {
            (void)snprintf(headers, sizeof(headers), "Allow: %s\r\n" CORS_PREFLIGHT, methods,
                           methods);
        }
        exchange_answer(exchange, 204, NULL, SPAN_LITERAL(""), headers);
        return;
    }
    exchange_identify(exchange);
    buffer_clear(body, READ_BYTES);
    problem_json(body, PROBLEM_METHOD, NULL,
                 (struct span){exchange->request_id, exchange->request_id_len},
                 (struct span){NULL, 0});
    exchange_answer(exchange, 405, "application/problem+json", buffer_span(body), headers);
}
