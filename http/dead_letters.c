/*
 * Dead letters: GET /dead-letters, POST /dead-letters/{id}/replay, DELETE /dead-letters/{id}.
 *
 * The database is asked on the line that may wait for it, one question of a loop at a time. What it
 * said of a refused event is part of the letter, and shown to the admin as such; what it says of
 * its own troubles is not.
 */
#include "core/query/dead_letters.h"

#include <stdio.h>

#include "core/base/json.h"
#include "core/base/log.h"
#include "http/internal.h"

enum {
    LIMIT_DEFAULT = 100,
};

enum parameter {
    PARAMETER_TENANT, /* these first are compared with what letters hold */
    PARAMETER_EVENT_NAME,
    PARAMETER_REASON,
    PARAMETER_ERROR_CODE,
    PARAMETER_STATE,
    PARAMETER_ORDER,
    PARAMETER_LIMIT,
    PARAMETER_CURSOR,
    PARAMETER_COUNT,
};

static const char *const NAMES[PARAMETER_COUNT] = {
    [PARAMETER_TENANT] = "tenant", [PARAMETER_EVENT_NAME] = "event_name",
    [PARAMETER_REASON] = "reason", [PARAMETER_ERROR_CODE] = "error_code",
    [PARAMETER_STATE] = "state",   [PARAMETER_ORDER] = "order",
    [PARAMETER_LIMIT] = "limit",   [PARAMETER_CURSOR] = "cursor",
};

/* NULL without a database: then there are no letters. */
static const struct dead_letter_store *
store_of(const struct exchange *exchange)
{
    return exchange->loop->server->deps.dead_letters;
}

/* ---- the list ---- */

struct question {
    struct buffer text[PARAMETER_COUNT];
    struct dead_letter_request request;
};

/* Decodes the parameters; one that is empty counts as not given. False: a refusal. */
static bool
read_values(struct question *question, const struct exchange *exchange,
            struct outcome_page *outcome)
{
    char message[64];

    for (size_t i = 0; i < PARAMETER_COUNT; i++) {
        const enum err err = request_query(&exchange->request, NAMES[i], &question->text[i]);

        if (err == ERR_NO_MEMORY || question->text[i].failed) {
            outcome_refuse(outcome, PROBLEM_BACKPRESSURE, NULL);
            return false;
        }
        if (err == ERR_INVALID || question->text[i].len > EVENT_NAME_MAX ||
            !json_is_utf8(buffer_span(&question->text[i]))) {
            (void)snprintf(message, sizeof(message), "%s is not a valid query value", NAMES[i]);
            outcome_refuse(outcome, PROBLEM_VALIDATION, message);
            return false;
        }
    }
    return true;
}

static struct span
value_of(const struct question *question, enum parameter parameter)
{
    const struct buffer *text = &question->text[parameter];

    return text->len > 0 ? buffer_span(text) : (struct span){NULL, 0};
}

/* A whole number of at most MAX; *OUT is left alone when it is not given. */
static bool
read_number(struct span text, uint64_t max, uint32_t *out)
{
    uint64_t value;

    if (text.data == NULL) {
        return true;
    }
    if (dead_letter_id_parse(text, &value) != ERR_OK || value > max) {
        return false;
    }
    *out = (uint32_t)value;
    return true;
}

/* NULL, or a sentence on what is wrong. */
static const char *
read_request(struct question *question)
{
    struct dead_letter_request *request = &question->request;
    struct dead_letter_filter *filter = &request->filter;
    const struct span state = value_of(question, PARAMETER_STATE);
    const struct span order = value_of(question, PARAMETER_ORDER);
    const struct span cursor = value_of(question, PARAMETER_CURSOR);

    filter->tenant = value_of(question, PARAMETER_TENANT);
    filter->event_name = value_of(question, PARAMETER_EVENT_NAME);
    filter->reason = value_of(question, PARAMETER_REASON);
    filter->has_code = value_of(question, PARAMETER_ERROR_CODE).data != NULL;
    if (!read_number(value_of(question, PARAMETER_ERROR_CODE), INT32_MAX, &filter->error_code)) {
        return "error_code must be a whole number from 1";
    }
    if (state.data != NULL && dead_letter_state_parse(state, &filter->state) != ERR_OK) {
        return "state must be pending, replayed, discarded or all";
    }
    request->descending = !span_is(order, "asc");
    if (order.data != NULL && request->descending && !span_is(order, "desc")) {
        return "order must be asc or desc";
    }
    request->limit = LIMIT_DEFAULT;
    if (!read_number(value_of(question, PARAMETER_LIMIT), DEAD_LETTERS_LIMIT_MAX,
                     &request->limit)) {
        return "limit must be a whole number from 1 to 1000";
    }
    if (cursor.data != NULL && dead_letter_id_parse(cursor, &request->after_id) != ERR_OK) {
        return "cursor is not one this server gave out";
    }
    return NULL;
}

_Static_assert(DEAD_LETTERS_LIMIT_MAX == 1000, "as the sentence says");

static void
answer_list(struct question *question, const struct exchange *exchange,
            struct outcome_page *outcome)
{
    const char *complaint = read_request(question);

    if (complaint != NULL) {
        outcome_refuse(outcome, PROBLEM_VALIDATION, complaint);
        return;
    }
    if (store_of(exchange) == NULL) {
        buffer_append_text(&outcome->body, "{\"dead_letters\":[],\"next_cursor\":null}\n");
        return;
    }
    switch (dead_letters_page(store_of(exchange), &question->request, &outcome->body)) {
    case ERR_OK:
        return;
    case ERR_TIMEOUT:
        outcome_refuse(outcome, PROBLEM_BACKPRESSURE,
                       "the database took too long; ask for less at once");
        return;
    case ERR_NO_MEMORY:
        outcome_refuse(outcome, PROBLEM_BACKPRESSURE, NULL);
        return;
    default:
        outcome_refuse(outcome, PROBLEM_DATABASE, NULL);
    }
}

static void
work_list(struct exchange *exchange, struct outcome_page *outcome)
{
    struct question question = {0};

    if (read_values(&question, exchange, outcome)) {
        answer_list(&question, exchange, outcome);
    }
    for (size_t i = 0; i < PARAMETER_COUNT; i++) {
        buffer_free(&question.text[i]);
    }
}

/* ---- changes ---- */

static void
answer_replayed(uint64_t id, const struct dead_letter_verdict *verdict,
                struct outcome_page *outcome)
{
    buffer_append_text(&outcome->body, "{\"id\":");
    buffer_append_u64(&outcome->body, id);
    buffer_printf(&outcome->body, ",\"state\":\"replayed\",\"duplicate\":%s}\n",
                  verdict->duplicate ? "true" : "false");
}

/* The problem's further members say what the letter says by now. */
static void
answer_refused(const struct dead_letter_verdict *verdict, struct outcome_page *outcome)
{
    outcome_refuse(outcome, PROBLEM_LETTER_REFUSED, NULL);
    buffer_printf(&outcome->more, ",\"error_code\":%u,\"reason\":", verdict->error_code);
    buffer_append_json_string(&outcome->more, span_of(verdict->reason));
}

static void
answer_change(uint64_t id, enum dead_letter_change what, enum dead_letter_result result,
              const struct dead_letter_verdict *verdict, struct outcome_page *outcome)
{
    switch (result) {
    case LETTER_DONE:
        if (what == LETTER_REPLAY) {
            answer_replayed(id, verdict, outcome);
        } else {
            outcome->status = 204;
        }
        return;
    case LETTER_UNKNOWN:
        outcome_refuse(outcome, PROBLEM_NOT_FOUND, "there is no such dead letter");
        return;
    case LETTER_ENDED:
        outcome_refuse(outcome, PROBLEM_CONFLICT,
                       "the dead letter was replayed or discarded before");
        return;
    case LETTER_REFUSED:
        answer_refused(verdict, outcome);
        return;
    case LETTER_UNAVAILABLE:
        outcome_refuse(outcome, PROBLEM_DATABASE, NULL);
        return;
    case LETTER_IN_DOUBT:
        outcome_refuse(outcome, PROBLEM_OUTCOME_UNKNOWN,
                       "the change may or may not have been stored; asking again is safe");
        return;
    }
    assert_failed(__FILE__, __LINE__, "a result of the list");
}

static void
change_letter(struct exchange *exchange, enum dead_letter_change what, struct outcome_page *outcome)
{
    const struct dead_letter_store *store = store_of(exchange);
    const struct span text = route_parameter(exchange->route, request_path(&exchange->request));
    struct dead_letter_verdict verdict = {0};
    enum dead_letter_result result = LETTER_UNKNOWN;
    uint64_t id = 0;

    if (store != NULL && dead_letter_id_parse(text, &id) == ERR_OK) {
        result = store->ops->change(store->self, id, what, &verdict);
    }
    if (result == LETTER_DONE) {
        log_info(what == LETTER_REPLAY ? "dead_letter.replayed" : "dead_letter.discarded",
                 LOG_U64("id", id), LOG_BOOL("duplicate", verdict.duplicate), LOG_END);
    }
    answer_change(id, what, result, &verdict, outcome);
}

static void
work_replay(struct exchange *exchange, struct outcome_page *outcome)
{
    change_letter(exchange, LETTER_REPLAY, outcome);
}

static void
work_discard(struct exchange *exchange, struct outcome_page *outcome)
{
    change_letter(exchange, LETTER_DISCARD, outcome);
}

/* ---- handlers ---- */

void
handle_dead_letters(struct exchange *exchange)
{
    page_work(exchange, LINE_WRITE, work_list, "application/json");
}

void
handle_dead_letter_replay(struct exchange *exchange)
{
    page_work(exchange, LINE_WRITE, work_replay, "application/json");
}

void
handle_dead_letter_discard(struct exchange *exchange)
{
    page_work(exchange, LINE_WRITE, work_discard, "application/json");
}
