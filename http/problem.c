/*
 * The table of problem.h as arrays.
 */
#include "http/problem.h"

struct problem_row {
    uint16_t status;
    const char *code;
    uint32_t retry_after_s;
    const char *title;
    const char *message;
};

static const struct problem_row ROWS[PROBLEM_COUNT] = {
#define PROBLEM_ROW(name, status, code, retry, title, message)                                     \
    [name] = {(status), (code), (retry), (title), (message)},
    PROBLEM_LIST(PROBLEM_ROW)
#undef PROBLEM_ROW
};

static const struct problem_row *
row(enum problem problem)
{
    ASSERT((unsigned)problem < PROBLEM_COUNT);
    return &ROWS[problem];
}

uint16_t
problem_status(enum problem problem)
{
    return row(problem)->status;
}

const char *
problem_code(enum problem problem)
{
    return row(problem)->code;
}

const char *
problem_title(enum problem problem)
{
    return row(problem)->title;
}

uint32_t
problem_retry_after_s(enum problem problem)
{
    return row(problem)->retry_after_s;
}

enum problem
problem_of_err(enum err err)
{
    ASSERT(err != ERR_OK);
    if (err == ERR_AGAIN || err == ERR_NO_MEMORY) {
        return PROBLEM_BACKPRESSURE;
    }
    if (err == ERR_FULL || err == ERR_NO_SPACE) {
        return PROBLEM_LOG_FULL;
    }
    if (err == ERR_CLOSED) {
        return PROBLEM_SHUTTING_DOWN;
    }
    if (err == ERR_FAILED) {
        return PROBLEM_LOG_FAILED;
    }
    /* Also for a code nobody expects here: claiming "nothing was stored" could be a lie. */
    return PROBLEM_OUTCOME_UNKNOWN;
}

void
problem_json(struct buffer *out, enum problem problem, const char *message, struct span request_id,
             struct span more)
{
    const struct problem_row *r = row(problem);
    struct span text = span_of(message != NULL ? message : r->message);

    buffer_append_text(out, "{\"type\":\"urn:sluice:problem:");
    buffer_append_text(out, r->code);
    buffer_append_text(out, "\",\"title\":\"");
    buffer_append_text(out, r->title);
    buffer_append_text(out, "\",\"status\":");
    buffer_append_u64(out, r->status);
    buffer_append_text(out, ",\"detail\":");
    buffer_append_json_string(out, text);
    buffer_append_text(out, ",\"error\":\"");
    buffer_append_text(out, r->code);
    buffer_append_text(out, "\",\"message\":");
    buffer_append_json_string(out, text);
    buffer_append_text(out, ",\"request_id\":");
    buffer_append_json_string(out, request_id);
    buffer_append_span(out, more);
    buffer_append_text(out, "}\n");
}
