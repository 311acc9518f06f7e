/*
 * Counts: GET /v1/counts, GET /metrics with a count's parameters, GET /events/names.
 *
 * All but the choice of the line is done on the pool's thread: parameters, the zone's file, the
 * sums. What needs single users may wait for the database and keeps to the line for that.
 */
#include <stdio.h>

#include "core/query/count_answer.h"
#include "http/internal.h"

bool
counts_asked(const struct request *request)
{
    static const char *const NAMES[] = {"event_name", "from", "to", "group_by"};
    struct buffer value = BUFFER_EMPTY;
    bool found = false;

    for (size_t i = 0; i < ARRAY_LEN(NAMES) && !found; i++) {
        found = request_query(request, NAMES[i], &value) != ERR_NOT_FOUND;
    }
    buffer_free(&value);
    return found;
}

static enum problem
refuse(struct buffer *problem, const char *sentence)
{
    buffer_append_text(problem, sentence);
    return PROBLEM_VALIDATION;
}

/* The parameter that NAME is, NULL when it is none. */
static struct span *
find_param(struct count_params *params, struct span name)
{
    const struct {
        const char *name;
        struct span *value;
    } rows[] = {
        {"event_name", &params->event_name},
        {"from", &params->from},
        {"to", &params->to},
        {"group_by", &params->group_by},
        {"tz", &params->tz},
        {"limit", &params->limit},
        {"order", &params->order},
        {"fill", &params->fill},
        {"format", &params->format},
        {"filter[channel]", &params->channel},
        {"filter[campaign_id]", &params->campaign_id},
        {"filter[user_id]", &params->user_id},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (span_is(name, rows[i].name)) {
            return rows[i].value;
        }
    }
    return NULL;
}

/* One member of the query; VALUES has room for what it holds, so what is in it stays in place. */
static enum problem
take_param(const struct request *request, size_t *at, struct count_params *params,
           struct buffer *name, struct buffer *values, struct buffer *problem, bool *more)
{
    const size_t begin = values->len;
    enum err err;
    struct span *param;

    buffer_clear(name, KEEP_BYTES_MAX);
    err = request_query_next(request, at, name, values);
    *more = err == ERR_OK;
    if (err == ERR_NOT_FOUND) {
        return PROBLEM_NONE;
    }
    if (err == ERR_NO_MEMORY) {
        return PROBLEM_BACKPRESSURE;
    }
    if (err != ERR_OK) {
        return refuse(problem, "the query is not valid percent-encoded text");
    }
    param = find_param(params, buffer_span(name));
    if (param != NULL && param->data != NULL) {
        return refuse(problem, "each parameter may be given once");
    }
    if (param != NULL) {
        *param = (struct span){values->data + begin, values->len - begin};
    } else if (name->len >= 6 && memcmp(name->data, "filter", 6) == 0) {
        /* Anything else unknown is not ours to judge, but a filter left out changes the count. */
        return refuse(problem, "filters are filter[channel], filter[campaign_id] and "
                               "filter[user_id]");
    }
    return PROBLEM_NONE;
}

/* Fills PARAMS, whose texts are VALUES', from the query and from Accept. */
static enum problem
read_params(const struct request *request, struct count_params *params, struct buffer *values,
            struct buffer *problem)
{
    struct buffer name = BUFFER_EMPTY;
    enum problem why = PROBLEM_NONE;
    bool more = true;
    size_t at = 0;

    if (buffer_reserve(values, URL_BYTES_MAX) != ERR_OK) {
        return PROBLEM_BACKPRESSURE;
    }
    while (more && why == PROBLEM_NONE) {
        why = take_param(request, &at, params, &name, values, problem, &more);
    }
    buffer_free(&name);
    if (params->format.len == 0) {
        const struct span accept = request_field(request, FIELD_ACCEPT);

        if (accept.len >= 8 && memcmp(accept.data, "text/csv", 8) == 0) {
            params->format = SPAN_LITERAL("csv");
        }
    }
    return why;
}

static struct count_sources
sources_of(const struct exchange *exchange)
{
    const struct server *server = exchange->loop->server;
    struct journal *journal = server->deps.journal;
    struct journal_stats stats;

    memset(&stats, 0, sizeof(stats));
    journal->ops->stats(journal->self, &stats);
    return (struct count_sources){
        .counts = server->deps.counts,
        .archive = server->deps.archive,
        .tenant = request_tenant(exchange),
        .zone_dir = TIMEZONE_DIR,
        .now_us = clock_wall_us(server->deps.clock),
        .pending_events = stats.pending_events,
        .degraded = server_degraded(server),
    };
}

static enum problem
problem_of_answer(enum err err, struct buffer *problem)
{
    switch (err) {
    case ERR_OK:
        return PROBLEM_NONE;
    case ERR_INVALID:
        return PROBLEM_VALIDATION;
    case ERR_TIMEOUT:
        buffer_append_text(problem, "the answer took too long; ask for a shorter range");
        return PROBLEM_BACKPRESSURE;
    default:
        buffer_append_text(problem, "the figures cannot be read now");
        return PROBLEM_BACKPRESSURE;
    }
}

static void
settle(struct outcome_page *outcome, enum problem why, struct buffer *problem)
{
    buffer_append_char(problem, '\0');
    if (why != PROBLEM_NONE) {
        outcome_refuse(outcome, why, problem->failed ? NULL : problem->data);
    }
}

static void
work_count(struct exchange *exchange, struct outcome_page *outcome)
{
    struct buffer values = BUFFER_EMPTY;
    struct buffer problem = BUFFER_EMPTY;
    struct count_params params = {.event_name = {NULL, 0}};
    struct count_query query;
    enum problem why = read_params(&exchange->request, &params, &values, &problem);

    if (why == PROBLEM_NONE && count_query_parse(&params, &query, &problem) != ERR_OK) {
        why = PROBLEM_VALIDATION;
    }
    if (why == PROBLEM_NONE) {
        const struct count_sources sources = sources_of(exchange);
        bool degraded = false;
        enum err err = count_answer(&sources, &query, &outcome->body, &degraded, &problem);

        exchange->page_type =
            query.csv ? "text/csv; charset=utf-8; header=present" : "application/json";
        if (query.csv && degraded) {
            (void)snprintf(outcome->headers, sizeof(outcome->headers), "Sluice-Degraded: true\r\n");
        }
        why = problem_of_answer(err, &problem);
    }
    settle(outcome, why, &problem);
    buffer_free(&values);
    buffer_free(&problem);
}

static void
work_names(struct exchange *exchange, struct outcome_page *outcome)
{
    const struct count_sources sources = sources_of(exchange);
    struct buffer problem = BUFFER_EMPTY;
    enum problem why = problem_of_answer(count_names(&sources, &outcome->body), &problem);

    settle(outcome, why, &problem);
    buffer_free(&problem);
}

/* The query speaks of users: see above. */
static bool
names_users(const struct request *request)
{
    const struct span url = request_target(request);

    return url.len > 0 && memmem(url.data, url.len, "user_id", sizeof("user_id") - 1) != NULL;
}

static bool
keeps_counts(struct exchange *exchange)
{
    const struct server_deps *deps = &exchange->loop->server->deps;

    if (deps->counts == NULL || deps->archive == NULL) {
        exchange_problem(exchange, PROBLEM_BACKPRESSURE, "this server keeps no counts");
        return false;
    }
    return true;
}

void
handle_counts(struct exchange *exchange)
{
    if (keeps_counts(exchange)) {
        page_work(exchange, names_users(&exchange->request) ? LINE_WRITE : LINE_READ, work_count,
                  "application/json");
    }
}

void
handle_names(struct exchange *exchange)
{
    if (keeps_counts(exchange)) {
        page_work(exchange, LINE_READ, work_names, "application/json");
    }
}
