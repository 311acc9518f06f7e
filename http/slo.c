/*
 * What the SLO engine answers: /slo/status, /slo/alerts, /slo/gate and /slo/windows.
 *
 * Figures come from memory alone, so they are there with the database up or down; the history of
 * windows is the database's, and memory's while that is away.
 */
#include "core/base/json.h"
#include "core/base/time_range.h"
#include "core/base/timestamp.h"
#include "core/slo/alerts_json.h"
#include "core/slo/slo_gate.h"
#include "core/slo/slo_json.h"
#include "core/slo/slo_window.h"
#include "http/internal.h"

/* Puts the value of query member NAME, which must be text as events hold it, into OUT, empty. */
static enum problem
query(const struct exchange *exchange, const char *name, struct buffer *out)
{
    switch (request_query(&exchange->request, name, out)) {
    case ERR_OK:
    case ERR_NOT_FOUND:
        return out->len <= EVENT_NAME_MAX && json_is_utf8(buffer_span(out)) ? PROBLEM_NONE
                                                                            : PROBLEM_VALIDATION;
    case ERR_NO_MEMORY:
        return PROBLEM_BACKPRESSURE;
    default:
        return PROBLEM_VALIDATION;
    }
}

/* What is asked: of whom, and which service. The texts are the buffers'. */
struct question {
    struct buffer tenant_text;
    struct buffer service_text;
    struct slo_status_request request;
    const struct objective_set *set;
};

static void
question_free(struct question *question)
{
    buffer_free(&question->tenant_text);
    buffer_free(&question->service_text);
    objective_set_release(question->set);
}

/* Fills QUESTION, or makes the outcome a refusal and returns false. */
static bool
question_read(const struct exchange *exchange, struct question *question,
              struct outcome_page *outcome)
{
    const struct server *server = exchange->loop->server;
    struct journal *journal = server->deps.journal;
    struct slo_status_request *request = &question->request;
    struct journal_stats stats;
    enum problem why = access_subject(exchange, &question->tenant_text, &request->tenant);

    if (why == PROBLEM_NONE && request->tenant.data == NULL) {
        outcome_refuse(outcome, PROBLEM_FORBIDDEN,
                       "the admin key stands for no tenant; name one with ?tenant=");
        return false;
    }
    if (why != PROBLEM_NONE) {
        access_refuse_subject(outcome, why);
        return false;
    }
    why = query(exchange, "service", &question->service_text);
    if (why != PROBLEM_NONE) {
        outcome_refuse(outcome, why,
                       why == PROBLEM_VALIDATION ? "service is not a valid query value" : NULL);
        return false;
    }
    memset(&stats, 0, sizeof(stats));
    journal->ops->stats(journal->self, &stats);
    question->set = objectives_now(server->deps.objectives);
    request->slices = server->deps.slices;
    request->alerts = server->deps.alerts;
    request->config = server->deps.slo;
    request->objectives = question->set;
    request->now_us = clock_wall_us(server->deps.clock);
    request->degraded = server_degraded(server) || objectives_stale(server->deps.objectives);
    request->pending_events = stats.pending_events;
    if (question->service_text.len > 0) {
        request->service = buffer_span(&question->service_text);
    }
    return true;
}

static void
work_status(struct exchange *exchange, struct outcome_page *outcome)
{
    struct question question = {BUFFER_EMPTY, BUFFER_EMPTY, {0}, NULL};

    if (question_read(exchange, &question, outcome)) {
        if (question.request.alerts != NULL) {
            alerts_refresh(question.request.alerts, question.request.tenant,
                           question.request.now_us);
        }
        slo_status_json(&question.request, &outcome->body);
    }
    question_free(&question);
}

static void
work_gate(struct exchange *exchange, struct outcome_page *outcome)
{
    struct question question = {BUFFER_EMPTY, BUFFER_EMPTY, {0}, NULL};

    if (!question_read(exchange, &question, outcome)) {
        question_free(&question);
        return;
    }
    if (question.request.service.data == NULL) {
        outcome_refuse(outcome, PROBLEM_VALIDATION, "service is required");
    } else {
        switch (slo_gate_json(&question.request, &outcome->body)) {
        case SLO_GATE_GO:
            break;
        case SLO_GATE_FREEZE:
            outcome->status = 409;
            break;
        case SLO_GATE_UNKNOWN:
            outcome_refuse(outcome, PROBLEM_NOT_FOUND,
                           "no event of that service has come, and it has no objectives");
            break;
        }
    }
    question_free(&question);
}

/* ---- /slo/windows ---- */

#define MINUTE_US INT64_C(60000000)

enum {
    WINDOWS_DEFAULT = 60, /* minutes, when no range is given */
};

/* RFC 3339, or a number since 1970. */
static enum err
parse_time(struct span text, int64_t *us_out)
{
    struct json_text number;
    struct json_error error;

    if (time_range_parse_time(text, us_out) == ERR_OK) {
        return ERR_OK;
    }
    if (json_scan(text, 1, &number, &error) != ERR_OK || number.value.type != JSON_NUMBER) {
        return ERR_INVALID;
    }
    return timestamp_from_number(number.value.raw, us_out);
}

/* Query member NAME as a time; *US_OUT is left alone when it is not given. False: a refusal. */
static bool
query_time(const struct exchange *exchange, const char *name, int64_t *us_out,
           struct outcome_page *outcome)
{
    struct buffer text = BUFFER_EMPTY;
    enum problem why = query(exchange, name, &text);

    if (why == PROBLEM_NONE && text.len > 0 && parse_time(buffer_span(&text), us_out) != ERR_OK) {
        why = PROBLEM_VALIDATION;
    }
    buffer_free(&text);
    if (why != PROBLEM_NONE) {
        outcome_refuse(outcome, why,
                       why == PROBLEM_VALIDATION
                           ? "from and to must be RFC 3339 times or numbers since 1970"
                           : NULL);
    }
    return why == PROBLEM_NONE;
}

/* The finished minutes that were asked for. False: a refusal. */
static bool
query_range(const struct exchange *exchange, int64_t now_us, int64_t *from, int64_t *to,
            struct outcome_page *outcome)
{
    const int64_t running = minute_of_us(now_us);
    int64_t to_us = running * MINUTE_US;
    int64_t from_us = INT64_MIN;

    if (!query_time(exchange, "to", &to_us, outcome)) {
        return false;
    }
    *to = minute_of_us(to_us + MINUTE_US - 1);
    *to = *to > running ? running : *to;
    from_us = (*to - WINDOWS_DEFAULT) * MINUTE_US;
    if (!query_time(exchange, "from", &from_us, outcome)) {
        return false;
    }
    *from = minute_of_us(from_us);
    if (from_us >= to_us) {
        outcome_refuse(outcome, PROBLEM_VALIDATION, "from must be < to");
        return false;
    }
    *from = *from > *to ? *to : *from; /* nothing of the range is finished yet */
    if (*to - *from > SLO_WINDOWS_MAX) {
        outcome_refuse(outcome, PROBLEM_VALIDATION, "from and to may be at most 7 days apart");
        return false;
    }
    return true;
}

/* The server's own requests are no events, and so have no rows in slo_windows. */
static bool
is_own_tenant(struct span tenant)
{
    return span_is(tenant, REQUESTS_TENANT);
}

static void
work_windows(struct exchange *exchange, struct outcome_page *outcome)
{
    const struct server *server = exchange->loop->server;
    struct question question = {BUFFER_EMPTY, BUFFER_EMPTY, {0}, NULL};
    int64_t from;
    int64_t to;

    if (question_read(exchange, &question, outcome)) {
        if (question.request.service.data == NULL) {
            outcome_refuse(outcome, PROBLEM_VALIDATION, "service is required");
        } else if (query_range(exchange, question.request.now_us, &from, &to, outcome)) {
            /* While the database is known to be away nobody waits for it. */
            slo_windows_json(&question.request,
                             server_degraded(server) || is_own_tenant(question.request.tenant)
                                 ? NULL
                                 : server->deps.history,
                             from, to, &outcome->body);
        }
    }
    question_free(&question);
}

void
handle_slo_windows(struct exchange *exchange)
{
    page_work(exchange, LINE_WRITE, work_windows, "application/json");
}

/* ---- alerts ---- */

/* Reads query member NAME as one of the words that PARSE knows; -1 when it is not given. */
static enum problem
query_word(const struct exchange *exchange, const char *name, bool (*parse)(struct span, int *),
           int *out)
{
    struct buffer text = BUFFER_EMPTY;
    enum problem why = query(exchange, name, &text);

    *out = -1;
    if (why == PROBLEM_NONE && text.len > 0 && !parse(buffer_span(&text), out)) {
        why = PROBLEM_VALIDATION;
    }
    buffer_free(&text);
    return why;
}

static bool
parse_status(struct span word, int *out)
{
    enum alert_status status;

    if (alert_status_parse(word, &status) != ERR_OK) {
        return false;
    }
    *out = (int)status;
    return true;
}

static bool
parse_severity(struct span word, int *out)
{
    enum alert_severity severity;

    if (alert_severity_parse(word, &severity) != ERR_OK) {
        return false;
    }
    *out = (int)severity;
    return true;
}

/* Fills FILTER's words, or makes the outcome a refusal and returns false. */
static bool
read_words(const struct exchange *exchange, struct alerts_filter *filter,
           struct outcome_page *outcome)
{
    enum problem why = query_word(exchange, "state", parse_status, &filter->status);

    if (why != PROBLEM_NONE) {
        outcome_refuse(outcome, why,
                       why == PROBLEM_VALIDATION
                           ? "state must be ok, pending-no-data, firing or resolved"
                           : NULL);
        return false;
    }
    why = query_word(exchange, "severity", parse_severity, &filter->severity);
    if (why != PROBLEM_NONE) {
        outcome_refuse(outcome, why,
                       why == PROBLEM_VALIDATION ? "severity must be page or ticket" : NULL);
        return false;
    }
    return true;
}

static void
work_alerts(struct exchange *exchange, struct outcome_page *outcome)
{
    struct question question = {BUFFER_EMPTY, BUFFER_EMPTY, {0}, NULL};
    struct alerts_filter filter = {.status = -1, .severity = -1};
    struct slo_status_request *request = &question.request;

    if (read_words(exchange, &filter, outcome) && question_read(exchange, &question, outcome)) {
        filter.tenant = request->tenant;
        filter.service = request->service;
        alerts_refresh(request->alerts, request->tenant, request->now_us);
        alerts_json(request->alerts, &filter, request->now_us, &outcome->body);
    }
    question_free(&question);
}

void
handle_slo_alerts(struct exchange *exchange)
{
    if (exchange->loop->server->deps.alerts == NULL) { /* nobody judges here */
        exchange_answer(exchange, 200, "application/json",
                        SPAN_LITERAL("{\"firing\":0,\"as_of\":null,\"alerts\":[]}"),
                        "Cache-Control: no-store\r\n");
        return;
    }
    page_work(exchange, LINE_READ, work_alerts, "application/json");
}

void
handle_slo_status(struct exchange *exchange)
{
    page_work(exchange, LINE_READ, work_status, "application/json");
}

void
handle_slo_gate(struct exchange *exchange)
{
    page_work(exchange, LINE_READ, work_gate, "application/json");
}
