/*
 * One connection: bytes in, requests in order, answers out in the same order, and a fair end.
 *
 * Parsing stops at a request's boundary when the queue, the unsent answers or a client that does
 * not read say so; the bytes at hand wait in UNREAD and the socket is left alone until there is
 * room. A connection never ends by close() alone while the client may still be sending, since the
 * reset that follows would destroy the answer on its way: it shuts its side and reads on for a
 * moment.
 */
#include <stdlib.h>

#include "http/internal.h"

static void
on_closed(uv_handle_t *handle)
{
    struct conn *conn = handle->data;

    buffer_free(&conn->unread);
    buffer_free(&conn->out);
    free(conn);
}

static void
release_unread(struct conn *conn)
{
    budget_give(&conn->loop->server->budget, conn->unread_charged);
    conn->unread_charged = 0;
    conn->unread_at = 0;
    buffer_free(&conn->unread);
}

static struct exchange *
pop_exchange(struct conn *conn)
{
    struct exchange *exchange = conn->head;

    conn->head = exchange->next;
    if (conn->head == NULL) {
        conn->tail = NULL;
    }
    conn->queued--;
    exchange->next = NULL;
    return exchange;
}

static void
uncount(struct conn *conn)
{
    struct server *server = conn->loop->server;

    atomic_fetch_sub(conn->over_limit ? &server->connections_over : &server->connections, 1);
}

void
conn_close(struct conn *conn)
{
    struct loop *loop = conn->loop;

    if (conn->state == CONN_CLOSING) {
        return;
    }
    conn->state = CONN_CLOSING;
    conn->current = NULL;
    while (conn->head != NULL) {
        struct exchange *exchange = pop_exchange(conn);

        exchange->conn = NULL;
        if (exchange->state != EXCHANGE_WAITING) { /* else it comes back as an orphan */
            exchange_free(exchange);
        }
    }
    release_unread(conn);
    if (conn->prev != NULL) {
        conn->prev->next = conn->next;
    } else {
        loop->conns = conn->next;
    }
    if (conn->next != NULL) {
        conn->next->prev = conn->prev;
    }
    uncount(conn);
    uv_close((uv_handle_t *)&conn->tcp, on_closed);
}

/* ---- answers ---- */

static void
on_written(uv_write_t *write, int status)
{
    struct conn *conn = write->data;

    conn->writing = false;
    buffer_clear(&conn->out, 0);
    if (conn->state == CONN_CLOSING) {
        return;
    }
    if (status < 0) {
        conn_close(conn);
        return;
    }
    loop_touch_time(conn->loop);
    conn->idle_since_ms = uv_now(&conn->loop->uv);
    conn_pump(conn);
}

/* Hands OUT to the kernel as it takes it. False: the connection is closed. */
static bool
write_out(struct conn *conn)
{
    uv_buf_t buf;

    if (conn->out.len == 0) {
        return true;
    }
    buf = uv_buf_init(conn->out.data, narrow_u32(conn->out.len));
    conn->write.data = conn;
    if (conn->out.failed ||
        uv_write(&conn->write, (uv_stream_t *)&conn->tcp, &buf, 1, on_written) != 0) {
        conn_close(conn);
        return false;
    }
    conn->writing = true;
    conn->write_left = conn->out.len;
    conn->progress_ms = uv_now(&conn->loop->uv);
    conn->writing_since_ms = conn->progress_ms;
    return true;
}

/* Bytes of BUFS the kernel took at once; negative: the connection is closed. */
static int
write_now(struct conn *conn, uv_buf_t *bufs, unsigned count)
{
    int sent = uv_try_write((uv_stream_t *)&conn->tcp, bufs, count);

    if (sent == UV_EAGAIN) {
        return 0;
    }
    if (sent < 0) {
        conn_close(conn);
    }
    return sent;
}

/* Sends the run of finished answers at the queue's head, in one write. False: closed. */
static bool
send_answers(struct conn *conn)
{
    uv_buf_t bufs[PIPELINE_MAX];
    unsigned count = 0;
    size_t skip;
    int sent;

    bufs[0] = uv_buf_init(NULL, 0);
    for (struct exchange *e = conn->head; e != NULL && e->state == EXCHANGE_DONE; e = e->next) {
        if (e->answer.failed) {
            conn_close(conn);
            return false;
        }
        bufs[count++] = uv_buf_init(e->answer.data, narrow_u32(e->answer.len));
    }
    sent = write_now(conn, bufs, count);
    if (sent < 0) {
        return false;
    }
    skip = (size_t)sent;
    for (unsigned i = 0; i < count; i++) {
        struct exchange *exchange = pop_exchange(conn);
        size_t len = exchange->answer.len;

        if (skip >= len) {
            skip -= len;
        } else {
            buffer_append(&conn->out, exchange->answer.data + skip, len - skip);
            skip = 0;
        }
        conn->answer_bytes -= len;
        exchange_free(exchange);
    }
    conn->idle_since_ms = uv_now(&conn->loop->uv);
    return write_out(conn);
}

static bool
send_continue(struct conn *conn)
{
    static const char TEXT[] = "HTTP/1.1 100 Continue\r\n\r\n";
    char copy[sizeof(TEXT)];
    uv_buf_t buf;
    int sent;

    memcpy(copy, TEXT, sizeof(TEXT));
    buf = uv_buf_init(copy, sizeof(TEXT) - 1);
    conn->head->continue_wanted = false;
    sent = write_now(conn, &buf, 1);
    if (sent < 0) {
        return false;
    }
    buffer_append(&conn->out, TEXT + sent, sizeof(TEXT) - 1 - (size_t)sent);
    return write_out(conn);
}

static void
send_finished(struct conn *conn)
{
    bool open = true;

    while (open && !conn->writing && conn->head != NULL) {
        if (conn->head->state == EXCHANGE_DONE) {
            open = send_answers(conn);
        } else if (conn->head->state == EXCHANGE_READING && conn->head->continue_wanted) {
            open = send_continue(conn);
        } else {
            return;
        }
    }
}

/* ---- requests ---- */

static bool
can_take(const struct conn *conn)
{
    return conn->queued < PIPELINE_MAX && !conn->writing && conn->answer_bytes < ANSWER_BYTES_MAX;
}

static bool
begin_request(struct conn *conn)
{
    struct exchange *exchange = exchange_new(conn);

    if (exchange == NULL) {
        return false;
    }
    if (conn->tail == NULL) {
        conn->head = exchange;
    } else {
        conn->tail->next = exchange;
    }
    conn->tail = exchange;
    conn->queued++;
    conn->current = exchange;
    conn->request_since_ms = uv_now(&conn->loop->uv);
    parser_begin(&conn->parser, &exchange->request);
    return true;
}

/* Answers the request being read with WHY and ends the connection after it. */
static void
refuse_and_end(struct conn *conn, enum problem why)
{
    struct exchange *exchange = conn->current;

    conn->current = NULL;
    conn->state = CONN_LAST;
    exchange->close = true;
    exchange->continue_wanted = false;
    upload_end(exchange);
    if (exchange->refused) { /* its answer was ready, the rest of its body is not to be had */
        exchange->state = EXCHANGE_DONE;
        return;
    }
    ingest_count_refusal(exchange, why);
    exchange_problem(exchange, why, NULL);
}

/*
 * Prepares for an answer before the body is read: a short body is read and thrown away, a longer
 * one (or one the client holds back until it is told to go on) ends the connection.
 */
static void
decide_without_body(struct conn *conn)
{
    struct exchange *exchange = conn->current;
    struct request *request = &exchange->request;

    if (!request->keep_alive || conn->loop->draining || request->chunked ||
        request->content_length > DISCARD_BYTES_MAX ||
        (request_has_body(request) && request_expects_continue(request))) {
        exchange->close = true;
        conn->current = NULL;
        conn->state = CONN_LAST;
        return;
    }
    exchange->refused = true;
    request->discard = true;
    request->body_max = DISCARD_BYTES_MAX;
}

static void
refuse_at_head(struct conn *conn, enum problem why)
{
    struct exchange *exchange = conn->current;

    decide_without_body(conn);
    upload_end(exchange);
    ingest_count_refusal(exchange, why);
    exchange_problem(exchange, why, NULL);
}

static bool
is_type_taken(const struct exchange *exchange)
{
    const struct request *request = &exchange->request;

    return request_is_json(request) || (exchange->route->body == BODY_BULK &&
                                        (request_is_lines(request) || request_is_csv(request)));
}

/* In the contract's order: size, key, and what only then matters. */
static enum problem
check_event_head(struct exchange *exchange)
{
    const struct server *server = exchange->loop->server;
    struct request *request = &exchange->request;
    size_t max = server->config.body_bytes_max;
    enum problem why;

    if (exchange->route->body == BODY_EVENT && server->config.event_bytes_max < max) {
        max = server->config.event_bytes_max;
    } else if (exchange->route->body == BODY_JSON && JSON_BYTES_MAX < max) {
        max = JSON_BYTES_MAX;
    }
    if (!request->has_length && !request->chunked) {
        return PROBLEM_LENGTH_REQUIRED;
    }
    if (request->content_length > max) {
        return PROBLEM_BODY_TOO_LARGE;
    }
    why = access_check(exchange, exchange->route->auth);
    if (why != PROBLEM_NONE) {
        return why;
    }
    if (!is_type_taken(exchange)) {
        return PROBLEM_MEDIA_TYPE;
    }
    if (!request_is_identity(request) && !request_is_gzip(request)) {
        return PROBLEM_CODING;
    }
    request->body_max = max;
    return upload_begin(exchange);
}

static void
take_head(struct conn *conn)
{
    struct exchange *exchange = conn->current;
    struct request *request = &exchange->request;
    struct span path = request_path(request);
    uint32_t allowed;
    enum problem why;

    exchange->route = route_find(request->method, path, &allowed);
    if (request->method == METHOD_OPTIONS && (allowed != 0 || span_is(path, "*"))) {
        decide_without_body(conn);
        exchange_allow(exchange, allowed != 0 ? allowed : (1U << METHOD_OTHER) - 1U, false);
        return;
    }
    if (allowed == 0) {
        refuse_at_head(conn, PROBLEM_NOT_FOUND);
        return;
    }
    if (exchange->route == NULL) {
        decide_without_body(conn);
        exchange_allow(exchange, allowed, true);
        return;
    }
    if (exchange->route->body == BODY_NONE) {
        why = request->content_length > DISCARD_BYTES_MAX
                  ? PROBLEM_BODY_TOO_LARGE
                  : access_check(exchange, exchange->route->auth);
        if (why != PROBLEM_NONE) {
            refuse_at_head(conn, why);
            return;
        }
        request->discard = true;
        request->body_max = DISCARD_BYTES_MAX;
    } else {
        why = check_event_head(exchange);
        if (why != PROBLEM_NONE) {
            refuse_at_head(conn, why);
            return;
        }
    }
    exchange->continue_wanted = request_has_body(request) && request_expects_continue(request);
}

static void
take_request(struct conn *conn)
{
    struct exchange *exchange = conn->current;

    conn->current = NULL;
    exchange->continue_wanted = false; /* the body came anyway */
    if (exchange->refused) {
        exchange->state = EXCHANGE_DONE;
        return;
    }
    if (!exchange->request.keep_alive) {
        conn->state = CONN_LAST;
    }
    exchange->route->handle(exchange);
    /* From here on nothing may borrow from the bytes that were read. */
    exchange->request.in_place = (struct span){NULL, 0};
}

/* Empty lines before a request are allowed and mean nothing. */
static size_t
skip_line_ends(struct span bytes)
{
    size_t n = 0;

    while (n < bytes.len && (bytes.data[n] == '\r' || bytes.data[n] == '\n')) {
        n++;
    }
    return n;
}

/* Takes requests from BYTES while there is room. Returns how many bytes were used. */
static size_t
parse(struct conn *conn, struct span bytes)
{
    size_t done = 0;

    while (conn->state == CONN_OPEN) {
        enum problem why = PROBLEM_NONE;
        size_t used = 0;

        if (conn->current == NULL) {
            done += skip_line_ends((struct span){bytes.data + done, bytes.len - done});
            if (done == bytes.len || !can_take(conn)) {
                return done;
            }
            if (!begin_request(conn)) {
                conn_close(conn);
                return done;
            }
        }
        switch (parser_feed(&conn->parser, (struct span){bytes.data + done, bytes.len - done},
                            &used, &why)) {
        case PARSE_MORE:
            return done + used;
        case PARSE_HEAD:
            take_head(conn);
            break;
        case PARSE_COMPLETE:
            take_request(conn);
            break;
        case PARSE_REFUSED:
            refuse_and_end(conn, why);
            break;
        }
        done += used;
    }
    return done;
}

static void
keep_unread(struct conn *conn, struct span rest)
{
    if (!budget_take(&conn->loop->server->budget, rest.len)) {
        conn->state = CONN_LAST; /* what was not parsed was not promised anything */
        return;
    }
    conn->unread_charged = rest.len;
    conn->unread_at = 0;
    buffer_append(&conn->unread, rest.data, rest.len);
    if (conn->unread.failed) {
        release_unread(conn);
        conn->state = CONN_LAST;
    }
}

/* ---- reading ---- */

static void
on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct conn *conn = handle->data;

    (void)suggested;
    *buf = uv_buf_init(conn->loop->read_block, READ_BYTES);
}

static void
on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *conn = stream->data;
    size_t used;

    if (n == 0 || conn->state == CONN_CLOSING) {
        return;
    }
    if (n < 0) {
        conn->peer_done = true;
        if (n != UV_EOF || conn->state == CONN_LINGER) {
            conn_close(conn);
            return;
        }
        conn_pump(conn);
        return;
    }
    if (conn->state != CONN_OPEN) {
        return;
    }
    ASSERT(conn->unread.len == 0);
    loop_touch_time(conn->loop);
    used = parse(conn, (struct span){buf->base, (size_t)n});
    if (conn->state == CONN_OPEN && used < (size_t)n) {
        keep_unread(conn, (struct span){buf->base + used, (size_t)n - used});
    }
    if (conn->state != CONN_CLOSING) {
        conn_pump(conn);
    }
}

static void
update_reading(struct conn *conn)
{
    bool wanted =
        !conn->peer_done && (conn->state != CONN_OPEN ||
                             (conn->unread.len == 0 && (conn->current != NULL || can_take(conn))));

    if (wanted == conn->reading) {
        return;
    }
    conn->reading = wanted;
    if (!wanted) {
        (void)uv_read_stop((uv_stream_t *)&conn->tcp); /* always succeeds */
    } else if (uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read) != 0) {
        conn_close(conn);
    }
}

static void
on_shutdown(uv_shutdown_t *shutdown, int status)
{
    struct conn *conn = shutdown->data;

    if (status < 0) {
        conn_close(conn);
    }
}

/* All answers are out: shuts our side and waits briefly for the client's end. */
static void
linger(struct conn *conn)
{
    conn->state = CONN_LINGER;
    conn->linger_since_ms = uv_now(&conn->loop->uv);
    conn->shutdown.data = conn;
    if (conn->peer_done ||
        uv_shutdown(&conn->shutdown, (uv_stream_t *)&conn->tcp, on_shutdown) != 0) {
        conn_close(conn);
    }
}

/* The client will send no more: a request cut short gets no answer, the others get theirs. */
static void
end_of_requests(struct conn *conn)
{
    struct exchange *cut = conn->current;

    conn->state = CONN_LAST;
    conn->current = NULL;
    if (cut == NULL) {
        return;
    }
    if (conn->head == cut) {
        conn->head = NULL;
        conn->tail = NULL;
    } else {
        struct exchange *before = conn->head;

        while (before->next != cut) {
            before = before->next;
        }
        before->next = NULL;
        conn->tail = before;
    }
    conn->queued--;
    conn->answer_bytes -= cut->answer.len;
    exchange_free(cut);
}

void
conn_pump(struct conn *conn)
{
    size_t used;

    for (;;) {
        send_finished(conn);
        if (conn->state != CONN_OPEN || conn->unread.len == 0 || !can_take(conn)) {
            break;
        }
        used = parse(conn, (struct span){conn->unread.data + conn->unread_at,
                                         conn->unread.len - conn->unread_at});
        if (conn->state == CONN_CLOSING) {
            return;
        }
        conn->unread_at += used;
        if (conn->unread_at == conn->unread.len) {
            release_unread(conn);
        }
    }
    if (conn->state == CONN_CLOSING) {
        return;
    }
    if (conn->state == CONN_OPEN && conn->peer_done && conn->unread.len == 0) {
        end_of_requests(conn);
        send_finished(conn);
    }
    if (conn->state == CONN_LAST) {
        release_unread(conn);
        if (conn->head == NULL && !conn->writing) {
            linger(conn);
        }
    }
    if (conn->state != CONN_CLOSING) {
        update_reading(conn);
    }
}

void
conn_mark_dirty(struct conn *conn)
{
    if (!conn->dirty) {
        conn->dirty = true;
        conn->dirty_next = conn->loop->dirty;
        conn->loop->dirty = conn;
    }
}

/* ---- time ---- */

static bool
passed(uint64_t now_ms, uint64_t since_ms, int limit_ms)
{
    return now_ms > since_ms && now_ms - since_ms >= (uint64_t)limit_ms;
}

static bool
is_idle(const struct conn *conn)
{
    return conn->state == CONN_OPEN && conn->head == NULL && !conn->writing &&
           conn->unread.len == 0;
}

void
conn_drain(struct conn *conn)
{
    if (is_idle(conn)) {
        conn->state = CONN_LAST;
        conn_pump(conn);
    }
}

/*
 * A client that takes no byte of its answer for the write timeout is gone; one that takes a few now
 * and then may hold what it is owed no longer than an idle client its connection.
 */
static bool
is_stuck(struct conn *conn, uint64_t now_ms)
{
    const struct server_config *config = &conn->loop->server->config;
    size_t left;

    if (!conn->writing) {
        return false;
    }
    left = uv_stream_get_write_queue_size((uv_stream_t *)&conn->tcp);
    if (left < conn->write_left) {
        conn->write_left = left;
        conn->progress_ms = now_ms;
    }
    return passed(now_ms, conn->progress_ms, config->write_timeout_ms) ||
           passed(now_ms, conn->writing_since_ms, config->idle_timeout_ms);
}

void
conn_sweep(struct conn *conn, uint64_t now_ms)
{
    struct loop *loop = conn->loop;
    const struct server_config *config = &loop->server->config;

    if (conn->state == CONN_LINGER) {
        if (passed(now_ms, conn->linger_since_ms, loop->draining ? LINGER_MS / 4 : LINGER_MS)) {
            conn_close(conn);
        }
        return;
    }
    if (is_stuck(conn, now_ms)) {
        metric_add(&loop->metrics.timeouts, 1);
        conn_close(conn);
        return;
    }
    if (conn->current != NULL && passed(now_ms, conn->request_since_ms, config->read_timeout_ms)) {
        metric_add(&loop->metrics.timeouts, 1);
        refuse_and_end(conn, PROBLEM_TIMEOUT);
        conn_pump(conn);
        return;
    }
    if (is_idle(conn) &&
        (loop->draining || passed(now_ms, conn->idle_since_ms, config->idle_timeout_ms))) {
        conn->state = CONN_LAST;
        conn_pump(conn);
    }
}

/* ---- beginning ---- */

/* Counts the connection; false: there are too many even to say so. */
static bool
count_in(struct conn *conn)
{
    struct server *server = conn->loop->server;

    if (atomic_fetch_add(&server->connections, 1) < server->config.connections_max) {
        return true;
    }
    atomic_fetch_sub(&server->connections, 1);
    metric_add(&conn->loop->metrics.connections_refused, 1);
    conn->over_limit = true;
    if (atomic_fetch_add(&server->connections_over, 1) < REFUSED_CONNECTIONS_MAX) {
        return true;
    }
    return false;
}

static void
refuse_connection(struct conn *conn)
{
    if (!begin_request(conn)) {
        conn_close(conn);
        return;
    }
    refuse_and_end(conn, PROBLEM_BACKPRESSURE);
    conn_pump(conn);
}

bool
conn_accept(struct loop *loop, uv_stream_t *listener)
{
    struct conn *conn = calloc(1, sizeof(*conn));
    bool welcome;

    if (conn == NULL || uv_tcp_init(&loop->uv, &conn->tcp) != 0) {
        free(conn);
        metric_add(&loop->metrics.accept_errors, 1);
        return false;
    }
    conn->loop = loop;
    conn->tcp.data = conn;
    conn->idle_since_ms = uv_now(&loop->uv);
    parser_init(&conn->parser, &loop->server->limits, &loop->server->budget);
    conn->next = loop->conns;
    if (conn->next != NULL) {
        conn->next->prev = conn;
    }
    loop->conns = conn;
    metric_add(&loop->metrics.connections, 1);
    welcome = count_in(conn);
    if (uv_accept(listener, (uv_stream_t *)&conn->tcp) != 0 || !welcome) {
        conn_close(conn);
    } else if (conn->over_limit) {
        refuse_connection(conn);
    } else {
        update_reading(conn);
    }
    return true;
}
