/*
 * GET /events: a page of raw events. The question is read twice from the request's head: on the
 * loop, to refuse what is wrong with it, and on the pool's thread that answers it, in the line for
 * what may wait for the database.
 */
#include "core/base/json.h"
#include "core/base/time_range.h"
#include "core/query/archive_json.h"
#include "http/internal.h"

enum {
    LIMIT_DEFAULT = 100,
};

enum parameter {
    PARAMETER_EVENT_NAME, /* these first are compared with what events hold */
    PARAMETER_SERVICE,
    PARAMETER_CHANNEL,
    PARAMETER_USER_ID,
    PARAMETER_CAMPAIGN_ID,
    PARAMETER_FROM,
    PARAMETER_TO,
    PARAMETER_LIMIT,
    PARAMETER_ORDER,
    PARAMETER_CURSOR,
    PARAMETER_COUNT,
};

static const char *const NAMES[PARAMETER_COUNT] = {
    [PARAMETER_EVENT_NAME] = "event_name",
    [PARAMETER_SERVICE] = "service",
    [PARAMETER_CHANNEL] = "channel",
    [PARAMETER_USER_ID] = "user_id",
    [PARAMETER_CAMPAIGN_ID] = "campaign_id",
    [PARAMETER_FROM] = "from",
    [PARAMETER_TO] = "to",
    [PARAMETER_LIMIT] = "limit",
    [PARAMETER_ORDER] = "order",
    [PARAMETER_CURSOR] = "cursor",
};

struct question {
    struct buffer text; /* what the spans borrow from */
    struct span value[PARAMETER_COUNT];
    struct archive_request request;
};

static enum err
refuse(struct buffer *problem, const char *sentence)
{
    buffer_append_text(problem, sentence);
    return ERR_INVALID;
}

/* Decodes the parameters; one that is empty counts as not given. */
static enum err
read_values(struct question *question, const struct request *request, struct buffer *problem)
{
    size_t end[PARAMETER_COUNT];
    size_t at = 0;

    for (size_t i = 0; i < PARAMETER_COUNT; i++) {
        const enum err err = request_query(request, NAMES[i], &question->text);

        if (err == ERR_INVALID) {
            buffer_printf(problem, "%s is not a valid query value", NAMES[i]);
            return err;
        }
        if (err == ERR_NO_MEMORY || question->text.failed) {
            return ERR_NO_MEMORY;
        }
        end[i] = question->text.len;
    }
    for (size_t i = 0; i < PARAMETER_COUNT; i++) {
        if (end[i] > at) {
            question->value[i] = (struct span){question->text.data + at, end[i] - at};
        }
        at = end[i];
    }
    return ERR_OK;
}

static enum err
check_names(const struct question *question, struct buffer *problem)
{
    for (size_t i = 0; i < PARAMETER_FROM; i++) {
        if (question->value[i].len > EVENT_NAME_MAX) {
            buffer_printf(problem, "%s must be at most %d bytes", NAMES[i], EVENT_NAME_MAX);
            return ERR_INVALID;
        }
        if (!json_is_utf8(question->value[i])) {
            buffer_printf(problem, "%s is not valid UTF-8", NAMES[i]);
            return ERR_INVALID;
        }
    }
    return ERR_OK;
}

static enum err
read_limit(struct span text, uint32_t *limit, struct buffer *problem)
{
    uint32_t value = 0;

    *limit = LIMIT_DEFAULT;
    if (text.len == 0) {
        return ERR_OK;
    }
    for (size_t i = 0; i < text.len && value <= ARCHIVE_LIMIT_MAX; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            value = 0;
            break;
        }
        value = value * 10 + (uint32_t)(text.data[i] - '0');
    }
    if (value < 1 || value > ARCHIVE_LIMIT_MAX) {
        buffer_printf(problem, "limit must be a whole number from 1 to %d", ARCHIVE_LIMIT_MAX);
        return ERR_INVALID;
    }
    *limit = value;
    return ERR_OK;
}

static enum err
read_cursor(struct span text, struct archive_request *request, struct buffer *problem)
{
    if (text.len == 0) {
        return ERR_OK;
    }
    switch (archive_cursor_read(text, request)) {
    case ERR_OK:
        return ERR_OK;
    case ERR_NOT_FOUND:
        return refuse(problem, "cursor belongs to another question: only limit may change from "
                               "page to page");
    default:
        return refuse(problem, "cursor is not one this server gave out");
    }
}

/* ERR_INVALID with a sentence in PROBLEM; ERR_NO_MEMORY. QUESTION starts zeroed; free its text. */
static enum err
read_question(struct question *question, const struct exchange *exchange, struct buffer *problem)
{
    const struct span *value = question->value;
    struct archive_request *request = &question->request;
    struct time_range range;
    enum err err = read_values(question, &exchange->request, problem);

    if (err != ERR_OK) {
        return err;
    }
    if (check_names(question, problem) != ERR_OK ||
        time_range_parse(value[PARAMETER_FROM], value[PARAMETER_TO], &range, problem) != ERR_OK ||
        read_limit(value[PARAMETER_LIMIT], &request->limit, problem) != ERR_OK) {
        return ERR_INVALID;
    }
    request->descending = !span_is(value[PARAMETER_ORDER], "asc");
    if (value[PARAMETER_ORDER].len > 0 && request->descending &&
        !span_is(value[PARAMETER_ORDER], "desc")) {
        return refuse(problem, "order must be asc or desc");
    }
    request->filter = (struct archive_filter){
        .tenant = request_tenant(exchange),
        .event_name = value[PARAMETER_EVENT_NAME],
        .service = value[PARAMETER_SERVICE],
        .channel = value[PARAMETER_CHANNEL],
        .campaign_id = value[PARAMETER_CAMPAIGN_ID],
        .user_id = value[PARAMETER_USER_ID],
        .from_us = range.from_us,
        .to_us = range.to_us,
    };
    return read_cursor(value[PARAMETER_CURSOR], request, problem);
}

static enum err
write_page(const struct server *server, const struct archive_request *request, struct buffer *out)
{
    struct journal *journal = server->deps.journal;
    struct archive_page page;
    struct journal_stats stats;
    enum err err = archive_read_page(server->deps.archive, request, &page);

    if (err != ERR_OK) {
        return err;
    }
    memset(&stats, 0, sizeof(stats));
    journal->ops->stats(journal->self, &stats);
    archive_page_json(
        &(struct archive_answer){
            .request = request,
            .page = &page,
            .now_us = clock_wall_us(server->deps.clock),
            .pending_events = stats.pending_events,
        },
        out);
    archive_page_clear(&page);
    return ERR_OK;
}

/* NULL: the route's own sentence says it. */
static const char *
sentence_of(enum err err)
{
    switch (err) {
    case ERR_TIMEOUT:
        return "reading the events took too long; ask for a shorter range";
    case ERR_AGAIN:
        return "too much is being read or moved now; ask again";
    case ERR_IO:
        return "the events cannot be read now";
    default:
        return NULL;
    }
}

static void
work_events(struct exchange *exchange, struct outcome_page *outcome)
{
    struct question question = {.text = BUFFER_EMPTY};
    struct buffer problem = BUFFER_EMPTY;
    enum err err = read_question(&question, exchange, &problem);

    if (err == ERR_OK) {
        err = write_page(exchange->loop->server, &question.request, &outcome->body);
    }
    if (err != ERR_OK) {
        outcome_refuse(outcome, PROBLEM_BACKPRESSURE, sentence_of(err));
    }
    buffer_free(&problem);
    buffer_free(&question.text);
}

void
handle_events(struct exchange *exchange)
{
    struct question question = {.text = BUFFER_EMPTY};
    struct buffer problem = BUFFER_EMPTY;
    enum err err = read_question(&question, exchange, &problem);

    buffer_append_char(&problem, '\0');
    if (err == ERR_NO_MEMORY || problem.failed || exchange->loop->server->deps.archive == NULL) {
        exchange_problem(exchange, PROBLEM_BACKPRESSURE, NULL);
    } else if (err != ERR_OK) {
        exchange_problem(exchange, PROBLEM_VALIDATION, problem.data);
    } else {
        page_work(exchange, LINE_WRITE, work_events, "application/json");
    }
    buffer_free(&problem);
    buffer_free(&question.text);
}
