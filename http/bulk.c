/*
 * Bodies that are not simply kept: gzip of any ingest route, and POST /events/bulk.
 *
 * A bulk is decoded and encoded while it arrives. What stays are its encoded events, charged to the
 * budget, so a body's size alone costs no memory. All its events are one append: stored and
 * answered together.
 *
 * A refused element never ends the reading by itself, so that the client gets its answer and keeps
 * its connection; only what is beyond a limit does.
 */
#include <stdio.h>
#include <stdlib.h>

#include "http/internal.h"

enum {
    FEED_BYTES = 16 * 1024,  /* between two looks at the budget */
    ERRORS_LISTED_MAX = 100, /* in a refusal of the whole; an answer of 202 lists all */
};

struct upload {
    struct bulk bulk;
    struct bulk_pack pack;
    struct buffer errors; /* JSON objects with commas between them */
    bool partial;         /* the good events are stored although others are not */
    bool ids;             /* the answer lists them */
    bool over;            /* the answer is decided: further bytes mean nothing */
    enum problem problem; /* why the whole is refused */
    char message[256];    /* and the sentence; until then the first refused element's */
    uint64_t refused;     /* elements */
    uint64_t refused_as[PROBLEM_COUNT];
};

/* ---- memory ---- */

static size_t
memory_of(const struct exchange *exchange)
{
    const struct upload *upload = exchange->upload;
    size_t bytes = exchange->inflater == NULL ? 0 : INFLATER_BYTES;

    if (upload != NULL) {
        bytes += sizeof(*upload) + bulk_memory(&upload->bulk) + bulk_pack_memory(&upload->pack) +
                 upload->errors.capacity;
    }
    return bytes;
}

/* Brings the charge in line with what is held now; false: the budget has no more. */
static bool
charge(struct exchange *exchange)
{
    struct budget *budget = &exchange->loop->server->budget;
    const size_t bytes = memory_of(exchange);

    if (bytes > exchange->upload_charged) {
        if (!budget_take(budget, bytes - exchange->upload_charged)) {
            return false;
        }
    } else {
        budget_give(budget, exchange->upload_charged - bytes);
    }
    exchange->upload_charged = bytes;
    return true;
}

static void
free_parts(struct exchange *exchange)
{
    struct upload *upload = exchange->upload;

    inflater_free(exchange->inflater);
    exchange->inflater = NULL;
    if (upload != NULL) {
        bulk_fini(&upload->bulk);
        bulk_pack_free(&upload->pack);
        buffer_free(&upload->errors);
        free(upload);
        exchange->upload = NULL;
    }
}

void
upload_end(struct exchange *exchange)
{
    free_parts(exchange);
    budget_give(&exchange->loop->server->budget, exchange->upload_charged);
    exchange->upload_charged = 0;
}

/* ---- elements ---- */

static void
settle(struct upload *upload, enum problem problem, const char *message)
{
    upload->over = true;
    upload->problem = problem;
    snprintf(upload->message, sizeof(upload->message), "%s", message);
}

static enum problem
problem_of_code(const char *code)
{
    if (strcmp(code, problem_code(PROBLEM_INVALID_JSON)) == 0) {
        return PROBLEM_INVALID_JSON;
    }
    return strcmp(code, problem_code(PROBLEM_BODY_TOO_LARGE)) == 0 ? PROBLEM_BODY_TOO_LARGE
                                                                   : PROBLEM_VALIDATION;
}

static void
note_refused(struct upload *upload, const struct bulk_item *item)
{
    struct buffer *errors = &upload->errors;

    if (upload->refused == 0) {
        snprintf(upload->message, sizeof(upload->message), "event %llu: %s",
                 (unsigned long long)item->index, item->error.message);
    }
    upload->refused++;
    upload->refused_as[problem_of_code(item->error.code)]++;
    buffer_append_text(errors, errors->len == 0 ? "{\"index\":" : ",{\"index\":");
    buffer_append_u64(errors, item->index);
    buffer_append_text(errors, ",\"code\":\"");
    buffer_append_text(errors, item->error.code);
    buffer_append_text(errors, "\",\"message\":");
    buffer_append_json_string(errors, span_of(item->error.message));
    buffer_append_char(errors, '}');
    if (!upload->partial && upload->refused == ERRORS_LISTED_MAX) {
        upload->over = true;
    }
}

/* Takes all elements of the bytes at hand. */
static enum problem
read_elements(struct upload *upload)
{
    while (!upload->over && !upload->errors.failed) {
        struct bulk_item item;

        switch (bulk_next(&upload->bulk, &item)) {
        case BULK_MORE:
        case BULK_DONE:
            return PROBLEM_NONE;
        case BULK_EVENT:
            if (upload->refused > 0 && !upload->partial) {
                break; /* nothing will be stored */
            }
            if (bulk_pack_add(&upload->pack, &item.event) != ERR_OK) {
                return PROBLEM_BACKPRESSURE;
            }
            break;
        case BULK_REFUSED:
            note_refused(upload, &item);
            break;
        case BULK_BROKEN:
            settle(upload, problem_of_code(item.error.code), item.error.message);
            break;
        case BULK_TOO_BIG:
            settle(upload, PROBLEM_BODY_TOO_LARGE, item.error.message);
            break;
        case BULK_NO_MEMORY:
            return PROBLEM_BACKPRESSURE;
        }
    }
    return upload->errors.failed ? PROBLEM_BACKPRESSURE : PROBLEM_NONE;
}

/* ---- the body's way: inflated or not, into elements or into the request ---- */

static enum problem
take_plain(void *arg, struct span bytes)
{
    struct exchange *exchange = arg;
    struct upload *upload = exchange->upload;

    if (upload == NULL) {
        return request_keep_body(&exchange->request, &exchange->loop->server->budget, bytes);
    }
    while (bytes.len > 0 && !upload->over) {
        const size_t len = bytes.len < FEED_BYTES ? bytes.len : FEED_BYTES;
        enum problem why;

        bulk_feed(&upload->bulk, (struct span){bytes.data, len}, exchange->loop->wall_us);
        why = read_elements(upload);
        if (why != PROBLEM_NONE) {
            return why;
        }
        if (!charge(exchange)) {
            return PROBLEM_BACKPRESSURE;
        }
        bytes = (struct span){bytes.data + len, bytes.len - len};
    }
    return PROBLEM_NONE;
}

static enum problem
take_gzip(void *arg, struct span bytes)
{
    struct exchange *exchange = arg;

    return inflater_feed(exchange->inflater, bytes, take_plain, exchange);
}

static void
read_query(struct upload *upload, const struct request *request)
{
    struct buffer value = BUFFER_EMPTY;
    enum err err = request_query(request, "mode", &value);

    upload->partial = span_is(buffer_span(&value), "partial");
    if (err != ERR_NOT_FOUND && !upload->partial && !span_is(buffer_span(&value), "atomic")) {
        settle(upload, PROBLEM_VALIDATION, "mode must be atomic or partial");
    }
    buffer_clear(&value, SIZE_MAX);
    err = request_query(request, "ids", &value);
    upload->ids = !span_is(buffer_span(&value), "0");
    if (err != ERR_NOT_FOUND && upload->ids && !span_is(buffer_span(&value), "1")) {
        settle(upload, PROBLEM_VALIDATION, "ids must be 0 or 1");
    }
    buffer_free(&value);
}

static enum problem
begin_bulk(struct exchange *exchange)
{
    const struct server_config *server = &exchange->loop->server->config;
    const struct request *request = &exchange->request;
    const struct bulk_config config = {
        .format = request_is_lines(request) ? SPLIT_LINES
                  : request_is_csv(request) ? SPLIT_CSV
                                            : SPLIT_JSON,
        .event_bytes_max = server->event_bytes_max,
        .elements_max = server->bulk_events_max,
        .text_bytes_max = server->body_bytes_max,
        .future_skew_max_us = server->future_skew_max_us,
        .tenant = request_tenant(exchange),
        .trace_id = request_trace_id(request),
    };

    exchange->upload = calloc(1, sizeof(*exchange->upload));
    if (exchange->upload == NULL) {
        return PROBLEM_BACKPRESSURE;
    }
    bulk_init(&exchange->upload->bulk, &config);
    read_query(exchange->upload, request);
    return PROBLEM_NONE;
}

enum problem
upload_begin(struct exchange *exchange)
{
    struct request *request = &exchange->request;
    enum problem why = PROBLEM_NONE;

    if (exchange->route->body == BODY_BULK) {
        why = begin_bulk(exchange);
        request->take = take_plain;
    }
    if (why == PROBLEM_NONE && request_is_gzip(request)) {
        request->take = take_gzip;
        if (inflater_new(&exchange->inflater, request->body_max) != ERR_OK) {
            why = PROBLEM_BACKPRESSURE;
        }
    }
    request->take_arg = exchange;
    if (why == PROBLEM_NONE && !charge(exchange)) {
        why = PROBLEM_BACKPRESSURE;
    }
    return why;
}

const char *
upload_complaint(const struct exchange *exchange)
{
    return exchange->inflater == NULL ? NULL : inflater_complaint(exchange->inflater);
}

/* ---- the answer ---- */

/*
 * The answer is written and nothing else is needed. A large one is charged as a page is; when there
 * is no room for that, what the events took stays charged until it is sent.
 */
static void
keep_answer(struct exchange *exchange)
{
    struct budget *answers = &exchange->loop->server->answers;
    const size_t len = exchange->answer.len;
    const size_t bytes = len > PAGE_BYTES_FREE ? len : 0;

    if (budget_take(answers, bytes)) {
        exchange->answer_charged = bytes;
        upload_end(exchange);
    } else {
        free_parts(exchange);
    }
}

/* All of the bulk is refused; the errors found so far are listed. */
static void
refuse(struct exchange *exchange, enum problem problem, const char *message)
{
    struct loop_metrics *metrics = &exchange->loop->metrics;
    struct upload *upload = exchange->upload;
    const uint64_t elements = upload->bulk.elements > 0 ? upload->bulk.elements : 1;
    struct buffer more = BUFFER_EMPTY;

    metric_add(&metrics->received, elements);
    metric_add(&metrics->rejected[problem], elements);
    if (upload->refused > 0) {
        buffer_append_text(&more, ",\"errors\":[");
        buffer_append_span(&more, buffer_span(&upload->errors));
        buffer_append_char(&more, ']');
    }
    exchange_problem_more(exchange, problem, message,
                          more.failed ? (struct span){NULL, 0} : buffer_span(&more));
    buffer_free(&more);
    keep_answer(exchange);
}

/* Decides what the whole body comes to. True: its events are to be stored. */
static bool
judge(struct exchange *exchange)
{
    struct upload *upload = exchange->upload;
    const char *complaint = upload_complaint(exchange);
    enum problem why = PROBLEM_NONE;

    if (complaint == NULL && !upload->over) {
        bulk_end(&upload->bulk);
        why = read_elements(upload);
    }
    if (why == PROBLEM_NONE && !charge(exchange)) {
        why = PROBLEM_BACKPRESSURE;
    }
    if (why == PROBLEM_NONE) { /* as many tokens as there are events is known only now */
        why = access_take(exchange, upload->bulk.elements > 0 ? upload->bulk.elements : 1);
    }
    if (why != PROBLEM_NONE) {
        refuse(exchange, why, NULL);
        return false;
    }
    if (complaint != NULL) {
        refuse(exchange, PROBLEM_VALIDATION, complaint);
        return false;
    }
    if (upload->problem != PROBLEM_NONE) {
        refuse(exchange, upload->problem, upload->message);
        return false;
    }
    if (upload->bulk.elements == 0) {
        refuse(exchange, PROBLEM_VALIDATION, "a bulk must hold at least one event");
        return false;
    }
    if (upload->pack.count == 0 || (upload->refused > 0 && !upload->partial)) {
        refuse(exchange, PROBLEM_VALIDATION, upload->message);
        return false;
    }
    return true;
}

/* Only the events stay while the journal has them. */
static void
release_reader(struct exchange *exchange)
{
    struct upload *upload = exchange->upload;

    inflater_free(exchange->inflater);
    exchange->inflater = NULL;
    bulk_fini(&upload->bulk);
    if (!charge(exchange)) {
        ASSERT(false); /* less is held than before */
    }
}

void
handle_bulk(struct exchange *exchange)
{
    struct loop_metrics *metrics = &exchange->loop->metrics;
    struct upload *upload = exchange->upload;
    struct bulk_pack *pack = &upload->pack;
    enum err err;

    exchange_identify(exchange);
    if (!judge(exchange)) {
        return;
    }
    release_reader(exchange);
    bulk_pack_seal(pack);
    memset(&exchange->append, 0, sizeof(exchange->append));
    exchange->append.events = pack->events;
    exchange->append.count = pack->count;
    exchange->append.body_bytes = pack->bytes.len;
    err = ingest_append(exchange); /* from here on it may be the committer's */
    if (err != ERR_OK) {
        refuse(exchange, problem_of_err(err), NULL);
        return;
    }
    metric_add(&metrics->received, upload->bulk.elements);
    for (size_t p = 0; p < PROBLEM_COUNT; p++) {
        metric_add(&metrics->rejected[p], upload->refused_as[p]);
    }
}

static void
write_ids(const struct bulk_pack *pack, struct buffer *out)
{
    buffer_append_text(out, ",\"event_ids\":[");
    for (uint32_t i = 0; i < pack->count; i++) {
        struct event event;
        enum err err = event_decode(pack->events[i].body, &event);

        ASSERT(err == ERR_OK); /* we encoded it */
        if (i > 0) {
            buffer_append_char(out, ',');
        }
        buffer_append_json_string(out, event.id);
    }
    buffer_append_char(out, ']');
}

void
bulk_finish(struct exchange *exchange)
{
    struct loop *loop = exchange->loop;
    struct buffer *body = &loop->body;
    const struct upload *upload = exchange->upload;
    const struct bulk_pack *pack = &upload->pack;
    uint64_t duplicates = 0;

    if (exchange->append.result != ERR_OK) {
        enum problem problem = problem_of_err(exchange->append.result);

        metric_add(&loop->metrics.rejected[problem], pack->count);
        exchange_problem(exchange, problem, NULL);
        keep_answer(exchange);
        return;
    }
    for (uint32_t i = 0; i < pack->count; i++) {
        duplicates += pack->events[i].duplicate ? 1 : 0;
    }
    metric_add(&loop->metrics.duplicate, duplicates);
    metric_add(&loop->metrics.acked, pack->count - duplicates);
    buffer_clear(body, READ_BYTES);
    buffer_append_text(body, "{\"accepted\":");
    buffer_append_u64(body, pack->count);
    buffer_append_text(body, ",\"rejected\":");
    buffer_append_u64(body, upload->refused);
    buffer_append_text(body, ",\"duplicates\":");
    buffer_append_u64(body, duplicates);
    buffer_append_text(body, duplicates == pack->count ? ",\"duplicate\":true,\"seq\":"
                                                       : ",\"duplicate\":false,\"seq\":");
    buffer_append_u64(body, pack->events[pack->count - 1].seq);
    if (upload->ids) {
        write_ids(pack, body);
    }
    buffer_append_text(body, ",\"errors\":[");
    buffer_append_span(body, buffer_span(&upload->errors));
    buffer_append_text(body, "]}\n");
    if (body->failed) {
        exchange->answer.failed = true; /* the connection ends without an answer: a retry is safe */
    }
    exchange_answer(exchange, 202, "application/json", buffer_span(body), "");
    keep_answer(exchange);
}
