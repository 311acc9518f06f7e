/*
 * POST /events and /ingest: decode, encode, hand to the journal; answer when it is durable.
 *
 * P1 is kept here: the success answers are written by ingest_finish() alone (a bulk's by way of
 * bulk_finish()), and only for an append whose result is ERR_OK.
 */
#include "http/internal.h"

/* The committer's thread: hand the exchange back to its loop, touch nothing after that. */
static void
on_done(struct append *append)
{
    struct exchange *exchange = append->owner;
    struct loop *loop = exchange->loop;
    struct exchange *newest = atomic_load_explicit(&loop->finished, memory_order_relaxed);

    do {
        exchange->finished_next = newest;
    } while (!atomic_compare_exchange_weak_explicit(&loop->finished, &newest, exchange,
                                                    memory_order_release, memory_order_relaxed));
    if (newest == NULL) { /* else the one who found it empty has sent, or is about to */
        (void)uv_async_send(&loop->wake);
    }
}

static void
reject(struct exchange *exchange, enum problem problem, const char *message)
{
    metric_add(&exchange->loop->metrics.rejected[problem], 1);
    exchange_problem(exchange, problem, message);
}

void
ingest_count_refusal(struct exchange *exchange, enum problem problem)
{
    if (exchange->route != NULL && route_takes_events(exchange->route)) {
        metric_add(&exchange->loop->metrics.received, 1);
        metric_add(&exchange->loop->metrics.rejected[problem], 1);
    }
}

/* Fills exchange's encoded record, id and key from the request's body. */
static enum err
decode(struct exchange *exchange, struct decode_error *error)
{
    struct request *request = &exchange->request;
    struct decode_input input = {
        .route = (enum decode_route)exchange->route->detail,
        .body = request_body(request),
        .tenant = request_tenant(exchange),
        .idempotency_key = request_field(request, FIELD_IDEMPOTENCY_KEY),
        .trace_id = request_trace_id(request),
        .now_us = exchange->loop->wall_us,
        .future_skew_max_us = exchange->loop->server->config.future_skew_max_us,
    };
    struct event event;
    enum err err = decode_event(&input, &exchange->scratch, &event, error);

    if (err != ERR_OK) {
        return err;
    }
    event_encode(&event, &exchange->encoded);
    if (exchange->encoded.failed) {
        return ERR_NO_MEMORY;
    }
    exchange->shape = event.shape;
    if (event.shape == EVENT_GENERIC) {
        exchange_identify_by(exchange, event.id);
    }
    exchange->id_in_header = input.idempotency_key.len > 0;
    exchange->id_len = narrow_u8(event.id.len);
    memcpy(exchange->id, event.id.data, event.id.len);
    memset(&exchange->event, 0, sizeof(exchange->event));
    exchange->event.body = buffer_span(&exchange->encoded);
    exchange->event.has_key = event.id_by_client;
    memcpy(exchange->event.key, event.key, sizeof(event.key));
    exchange->event.content_crc = event.content_crc;
    return ERR_OK;
}

/* What is handed over is the encoded event: nothing else waits for the commit with it. */
static void
drop_source(struct exchange *exchange)
{
    request_drop_body(&exchange->request, &exchange->loop->server->budget, KEEP_BYTES_MAX);
    buffer_clear(&exchange->scratch, KEEP_BYTES_MAX);
    upload_end(exchange);
}

enum err
ingest_append(struct exchange *exchange)
{
    struct loop *loop = exchange->loop;
    struct journal *journal = loop->server->deps.journal;
    enum err err;

    exchange->append.done = on_done;
    exchange->append.owner = exchange;
    /* The journal may finish it before append() returns: its state must be right before. */
    exchange->state = EXCHANGE_WAITING;
    err = journal->ops->append(journal->self, &exchange->append);
    if (err != ERR_OK) {
        exchange->state = EXCHANGE_READING;
        return err;
    }
    loop->outstanding++;
    loop->kick = true;
    return ERR_OK;
}

static enum err
append_one(struct exchange *exchange)
{
    if (!budget_take(&exchange->loop->server->budget, exchange->encoded.len)) {
        return ERR_AGAIN;
    }
    exchange->charged = exchange->encoded.len;
    memset(&exchange->append, 0, sizeof(exchange->append));
    exchange->append.events = &exchange->event;
    exchange->append.count = 1;
    exchange->append.body_bytes = exchange->encoded.len;
    return ingest_append(exchange);
}

void
handle_ingest(struct exchange *exchange)
{
    struct loop *loop = exchange->loop;
    struct decode_error error = {"validation_error", ""};
    const char *complaint = upload_complaint(exchange);
    enum problem why;
    enum err err;

    metric_add(&loop->metrics.received, 1);
    exchange_identify(exchange); /* while the header is at hand */
    why = access_take(exchange, 1);
    if (why != PROBLEM_NONE) {
        reject(exchange, why, NULL);
        return;
    }
    if (complaint != NULL) {
        reject(exchange, PROBLEM_VALIDATION, complaint);
        return;
    }
    err = decode(exchange, &error);
    if (err == ERR_INVALID) {
        bool json = strcmp(error.code, problem_code(PROBLEM_INVALID_JSON)) == 0;

        reject(exchange, json ? PROBLEM_INVALID_JSON : PROBLEM_VALIDATION, error.message);
        return;
    }
    if (err == ERR_OK) {
        drop_source(exchange);
        err = append_one(exchange);
    }
    if (err != ERR_OK) {
        reject(exchange, problem_of_err(err), NULL);
    }
}

static void
write_id(struct buffer *out, const struct exchange *exchange, const char *name)
{
    buffer_append_char(out, '"');
    buffer_append_text(out, name);
    buffer_append_text(out, "\":");
    buffer_append_json_string(out, (struct span){exchange->id, exchange->id_len});
}

/* API.md section 3's table; every form also has seq and duplicate. */
static uint16_t
write_success(const struct exchange *exchange, struct buffer *out)
{
    bool duplicate = exchange->event.duplicate;
    const char *word = "accepted";
    uint16_t fresh = 202;

    buffer_append_char(out, '{');
    switch (exchange->shape) {
    case EVENT_TELEMETRY:
        word = "queued";
        break;
    case EVENT_GENERIC:
        write_id(out, exchange, "id");
        buffer_append_char(out, ',');
        break;
    case EVENT_PRODUCT:
        fresh = 201;
        break;
    case EVENT_CHANNEL:
        break;
    }
    write_id(out, exchange, "event_id");
    buffer_append_text(out, ",\"status\":\"");
    buffer_append_text(out, word);
    buffer_append_text(out, duplicate ? "\",\"duplicate\":true,\"seq\":"
                                      : "\",\"duplicate\":false,\"seq\":");
    buffer_append_u64(out, exchange->event.seq);
    buffer_append_text(out, "}\n");
    return duplicate ? 200 : fresh;
}

void
ingest_finish(struct exchange *exchange)
{
    struct loop *loop = exchange->loop;
    struct buffer *body = &loop->body;
    uint16_t status;

    ASSERT(exchange->state == EXCHANGE_WAITING);
    if (exchange->upload != NULL) {
        bulk_finish(exchange);
        return;
    }
    if (exchange->append.result != ERR_OK) {
        reject(exchange, problem_of_err(exchange->append.result), NULL);
        return;
    }
    if (exchange->event.mismatch && exchange->id_in_header) {
        reject(exchange, PROBLEM_MISMATCH, NULL);
        return;
    }
    metric_add(exchange->event.duplicate ? &loop->metrics.duplicate : &loop->metrics.acked, 1);
    buffer_clear(body, READ_BYTES);
    status = write_success(exchange, body);
    exchange_answer(exchange, status, "application/json", buffer_span(body), "");
}
