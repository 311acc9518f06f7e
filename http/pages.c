/*
 * The routes that only read: health, readiness, metrics, the dashboard and the docs.
 */
#include "http/dashboard.h"
#include "http/docs.h"
#include "http/internal.h"
#include "http/openmetrics.h"

#define NO_STORE "Cache-Control: no-store\r\n"

/* Pages load from here alone and talk to here alone. */
#define PAGE_HEADERS                                                                               \
    "Cache-Control: no-cache\r\n"                                                                  \
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "           \
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "              \
    "frame-ancestors 'none'\r\n"                                                                   \
    "X-Frame-Options: DENY\r\n"                                                                    \
    "Referrer-Policy: no-referrer\r\n"                                                             \
    "Cross-Origin-Opener-Policy: same-origin\r\n"

static struct buffer *
fresh_body(struct exchange *exchange)
{
    buffer_clear(&exchange->loop->body, READ_BYTES);
    return &exchange->loop->body;
}

/* Answers with the loop's body buffer, unless it could not be written in full. */
static void
answer_body(struct exchange *exchange, uint16_t status, const char *type, const char *headers)
{
    if (exchange->loop->body.failed) {
        exchange_problem(exchange, PROBLEM_BACKPRESSURE, NULL);
        return;
    }
    exchange_answer(exchange, status, type, buffer_span(&exchange->loop->body), headers);
}

void
handle_health(struct exchange *exchange)
{
    struct span accept = request_field(&exchange->request, FIELD_ACCEPT);

    if (accept.len >= sizeof("text/plain") - 1 &&
        memcmp(accept.data, "text/plain", sizeof("text/plain") - 1) == 0) {
        exchange_answer(exchange, 200, "text/plain; charset=utf-8", SPAN_LITERAL("OK\n"), NO_STORE);
        return;
    }
    exchange_answer(exchange, 200, "application/json", SPAN_LITERAL("{\"status\":\"ok\"}\n"),
                    NO_STORE);
}

static bool
is_connected(enum replicator_state state)
{
    switch (state) {
    case REPLICATOR_CATCHING_UP:
    case REPLICATOR_STREAMING:
    case REPLICATOR_REPLAYING:
        return true;
    case REPLICATOR_CONNECTING:
    case REPLICATOR_BLOCKED:
    case REPLICATOR_STOPPED:
        return false;
    }
    assert_failed(__FILE__, __LINE__, "a state of the list");
}

/* Each partition has a connection of its own; one that is lost means rows that do not arrive. */
static bool
all_connected(const struct server *server)
{
    for (uint32_t i = 0; i < server->deps.replicator_count; i++) {
        struct replicator_status status;

        replicator_status(server->deps.replicators[i], &status);
        if (!is_connected(status.state)) {
            return false;
        }
    }
    return server->deps.replicator_count > 0;
}

bool
server_degraded(const struct server *server)
{
    return server->config.has_db && !all_connected(server);
}

static const char *
database_word(const struct server *server)
{
    if (!server->config.has_db) {
        return "none";
    }
    return all_connected(server) ? "up" : "down";
}

void
handle_ready(struct exchange *exchange)
{
    struct server *server = exchange->loop->server;
    struct journal *journal = server->deps.journal;
    struct buffer *body = fresh_body(exchange);
    bool stopping = atomic_load(&server->phase) != SERVER_SERVING;
    const char *database = database_word(server);
    bool database_missing = server->config.ready_requires_db && strcmp(database, "up") != 0;
    struct journal_stats stats;
    bool ready;

    memset(&stats, 0, sizeof(stats));
    journal->ops->stats(journal->self, &stats);
    ready = !stopping && !stats.failed && !stats.full && !database_missing;
    buffer_append_text(body, ready ? "{\"status\":\"ready\"" : "{\"status\":\"not_ready\"");
    buffer_append_text(body, ",\"checks\":{\"log\":\"");
    buffer_append_text(body, stats.failed ? "failed" : stats.full ? "full" : "ok");
    buffer_append_text(body, "\",\"database\":\"");
    buffer_append_text(body, database);
    buffer_append_text(body, "\"}");
    if (!ready) {
        const char *mark = "";

        buffer_append_text(body, ",\"reasons\":[");
        if (stopping) {
            buffer_append_text(body, "\"stopping\"");
            mark = ",";
        }
        if (stats.failed || stats.full) {
            buffer_printf(body, "%s\"%s\"", mark, stats.failed ? "log_failed" : "log_full");
            mark = ",";
        }
        if (database_missing) {
            buffer_printf(body, "%s\"database_down\"", mark);
        }
        buffer_append_char(body, ']');
    }
    buffer_append_text(body, "}\n");
    answer_body(exchange, ready ? 200 : 503, "application/json",
                ready ? NO_STORE : NO_STORE "Retry-After: 2\r\n");
}

static void
compute_metrics(const struct exchange *exchange, struct buffer *page)
{
    exposition_write(exchange->loop->server, page);
}

static void
compute_openmetrics(const struct exchange *exchange, struct buffer *page)
{
    struct buffer classic = BUFFER_EMPTY;

    exposition_write(exchange->loop->server, &classic);
    openmetrics_write(buffer_span(&classic), page);
    page->failed = page->failed || classic.failed;
    buffer_free(&classic);
}

void
handle_metrics(struct exchange *exchange)
{
    if (openmetrics_wanted(request_field(&exchange->request, FIELD_ACCEPT))) {
        page_answer(exchange, compute_openmetrics, OPENMETRICS_TYPE);
    } else {
        page_answer(exchange, compute_metrics, "text/plain; version=0.0.4; charset=utf-8");
    }
}

void
handle_dashboard(struct exchange *exchange)
{
    enum dashboard_file file = (enum dashboard_file)exchange->route->detail;

    exchange_answer(exchange, 200, dashboard_type(file), dashboard_bytes(file), PAGE_HEADERS);
}

void
handle_docs(struct exchange *exchange)
{
    enum docs_file file = (enum docs_file)exchange->route->detail;

    exchange_answer(exchange, 200, docs_type(file), docs_bytes(file), PAGE_HEADERS);
}

void
handle_openapi(struct exchange *exchange)
{
    enum openapi_form form = (enum openapi_form)exchange->route->detail;

    exchange_answer(exchange, 200, openapi_type(form),
                    buffer_span(&exchange->loop->server->openapi.text[form]),
                    "Cache-Control: no-cache\r\n");
}
