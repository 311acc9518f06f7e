/*
 * One loop and its thread: the wake-up that brings finished appends back, the one kick per turn for
 * what was appended, the sweep that keeps every timeout, and the end.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "http/internal.h"

void
loop_touch_time(struct loop *loop)
{
    const struct clock *clock = loop->server->deps.clock;
    int64_t second;

    loop->now_us = clock_monotonic_us(clock);
    loop->wall_us = clock_wall_us(clock);
    second = loop->wall_us / 1000000;
    if (second != loop->date_s) {
        time_t t = (time_t)second;
        struct tm tm;

        loop->date_s = second;
        if (gmtime_r(&t, &tm) == NULL ||
            strftime(loop->date, sizeof(loop->date), "%a, %d %b %Y %H:%M:%S GMT", &tm) == 0) {
            loop->date[0] = '\0';
        }
    }
}

static void
kick(struct loop *loop)
{
    struct journal *journal = loop->server->deps.journal;

    if (loop->kick) {
        loop->kick = false;
        journal->ops->kick(journal->self);
    }
}

/*
 * Requests are taken before the poll (answers that went out made room) and in it, so the kick
 * stands on both sides of it: nothing appended waits for the next event.
 */
static void
on_prepare(uv_prepare_t *prepare)
{
    kick(prepare->data);
}

static void
on_check(uv_check_t *check)
{
    kick(check->data);
}

static void
on_connection(uv_stream_t *listener, int status)
{
    struct loop *loop = listener->data;

    loop_touch_time(loop);
    if (status < 0) {
        metric_add(&loop->metrics.accept_errors, 1);
        return;
    }
    loop->accept_waiting = !conn_accept(loop, listener);
}

static void
close_unless_closing(uv_handle_t *handle)
{
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

static void
stop_listening(struct loop *loop)
{
    if (loop->listening) {
        loop->listening = false;
        close_unless_closing((uv_handle_t *)&loop->listener);
    }
}

static void
begin_drain(struct loop *loop)
{
    struct conn *next;
    int drain_ms = atomic_load(&loop->server->drain_ms);

    loop->draining = true;
    loop->drain_until_ms = uv_now(&loop->uv) + (uint64_t)drain_ms;
    stop_listening(loop);
    for (struct conn *conn = loop->conns; conn != NULL; conn = next) {
        next = conn->next;
        conn_drain(conn);
    }
}

/*
 * Ends the loop once nobody is owed an answer, or the time for it is over. The wake-up stays open,
 * unreferenced: the journal may still bring back appends of clients that are gone.
 */
static void
end_if_drained(struct loop *loop)
{
    bool late = uv_now(&loop->uv) >= loop->drain_until_ms;

    if (!loop->draining || (!late && (loop->conns != NULL || loop->outstanding > 0))) {
        return;
    }
    while (loop->conns != NULL) {
        conn_close(loop->conns);
    }
    uv_unref((uv_handle_t *)&loop->wake);
    close_unless_closing((uv_handle_t *)&loop->prepare);
    close_unless_closing((uv_handle_t *)&loop->check);
    close_unless_closing((uv_handle_t *)&loop->sweep);
}

/* Takes all finished exchanges, oldest first. */
static struct exchange *
take_finished(struct loop *loop)
{
    struct exchange *newest = atomic_exchange_explicit(&loop->finished, NULL, memory_order_acquire);
    struct exchange *oldest = NULL;

    while (newest != NULL) {
        struct exchange *next = newest->finished_next;

        newest->finished_next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

void
loop_take_back(struct loop *loop, struct exchange *exchange)
{
    ASSERT(loop->outstanding > 0);
    loop->outstanding--;
    if (exchange->conn != NULL) {
        conn_mark_dirty(exchange->conn);
    } else {
        exchange_free(exchange);
    }
}

void
loop_pump_dirty(struct loop *loop)
{
    while (loop->dirty != NULL) {
        struct conn *conn = loop->dirty;

        loop->dirty = conn->dirty_next;
        conn->dirty = false;
        if (conn->state != CONN_CLOSING) {
            conn_pump(conn);
        }
    }
}

static void
settle_finished(struct loop *loop)
{
    struct exchange *exchange = take_finished(loop);

    while (exchange != NULL) {
        struct exchange *next = exchange->finished_next;

        ingest_finish(exchange);
        loop_take_back(loop, exchange);
        exchange = next;
    }
    loop_pump_dirty(loop);
}

static void
on_wake(uv_async_t *wake)
{
    struct loop *loop = wake->data;

    loop_touch_time(loop);
    settle_finished(loop);
    if (!loop->draining && atomic_load(&loop->server->phase) == SERVER_DRAINING) {
        begin_drain(loop);
    }
    end_if_drained(loop);
}

static void
on_sweep(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    uint64_t now_ms = uv_now(&loop->uv);
    struct conn *next;

    loop_touch_time(loop);
    for (struct conn *conn = loop->conns; conn != NULL; conn = next) {
        next = conn->next;
        conn_sweep(conn, now_ms);
    }
    if (loop->accept_waiting && loop->listening) {
        loop->accept_waiting = !conn_accept(loop, (uv_stream_t *)&loop->listener);
    }
    end_if_drained(loop);
}

/*
 * Signals are main's. SIGPIPE too: blocked, a write to a gone client is just an error. What the
 * machine raises at a fault of ours stays open.
 */
static void
block_signals(void)
{
    sigset_t set;

    (void)sigfillset(&set);
    (void)sigdelset(&set, SIGSEGV);
    (void)sigdelset(&set, SIGBUS);
    (void)sigdelset(&set, SIGFPE);
    (void)sigdelset(&set, SIGILL);
    (void)sigdelset(&set, SIGABRT);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
}

void
loop_run(struct loop *loop)
{
    block_signals();
    uv_update_time(&loop->uv);
    loop_touch_time(loop);
    (void)uv_run(&loop->uv, UV_RUN_DEFAULT);
}

static enum err
init_handles(struct loop *loop, int fd)
{
    if (uv_async_init(&loop->uv, &loop->wake, on_wake) != 0 ||
        uv_prepare_init(&loop->uv, &loop->prepare) != 0 ||
        uv_check_init(&loop->uv, &loop->check) != 0 ||
        uv_timer_init(&loop->uv, &loop->sweep) != 0 ||
        uv_tcp_init(&loop->uv, &loop->listener) != 0) {
        return ERR_IO;
    }
    loop->wake.data = loop;
    loop->prepare.data = loop;
    loop->check.data = loop;
    loop->sweep.data = loop;
    loop->listener.data = loop;
    if (uv_prepare_start(&loop->prepare, on_prepare) != 0 ||
        uv_check_start(&loop->check, on_check) != 0 ||
        uv_timer_start(&loop->sweep, on_sweep, SWEEP_MS, SWEEP_MS) != 0 ||
        uv_tcp_open(&loop->listener, fd) != 0) {
        return ERR_IO;
    }
    return ERR_OK;
}

enum err
loop_init(struct loop *loop, struct server *server, uint32_t index, int fd)
{
    static const char HEX[] = "0123456789abcdef";
    uint8_t random[4];

    loop->server = server;
    loop->index = index;
    loop->date_s = -1;
    metric_histogram_init(&loop->metrics.seconds, METRIC_SECONDS_BOUNDS,
                          METRIC_SECONDS_BOUND_COUNT);
    metric_histogram_init(&loop->metrics.ingest_ms, LEGACY_MS_BOUNDS, LEGACY_MS_BOUND_COUNT);
    loop->read_block = malloc(READ_BYTES);
    if (loop->read_block == NULL) {
        return ERR_NO_MEMORY;
    }
    if (server->deps.tls != NULL) {
        loop->plain_block = malloc(READ_BYTES + TLS_RECORD_BYTES_MAX);
        if (loop->plain_block == NULL) {
            free(loop->read_block);
            loop->read_block = NULL;
            return ERR_NO_MEMORY;
        }
    }
    if (uv_random(NULL, NULL, random, sizeof(random), 0, NULL) != 0 ||
        uv_loop_init(&loop->uv) != 0) {
        free(loop->plain_block);
        free(loop->read_block);
        loop->read_block = NULL;
        return ERR_IO;
    }
    for (size_t i = 0; i < sizeof(random); i++) {
        loop->request_prefix[2 * i] = HEX[random[i] >> 4];
        loop->request_prefix[2 * i + 1] = HEX[random[i] & 15U];
    }
    if (init_handles(loop, fd) != ERR_OK ||
        uv_listen((uv_stream_t *)&loop->listener, 4096, on_connection) != 0) {
        loop_fini(loop);
        return ERR_IO;
    }
    loop->listening = true;
    return ERR_OK;
}

static void
close_any(uv_handle_t *handle, void *arg)
{
    (void)arg;
    close_unless_closing(handle);
}

void
loop_fini(struct loop *loop)
{
    if (loop->read_block == NULL) {
        return;
    }
    settle_finished(loop);
    ASSERT(loop->outstanding == 0); /* server_close(): the journal has given everything back */
    uv_walk(&loop->uv, close_any, NULL);
    (void)uv_run(&loop->uv, UV_RUN_DEFAULT);
    ASSERT(uv_loop_close(&loop->uv) == 0);
    while (loop->free_exchanges != NULL) {
        struct exchange *exchange = loop->free_exchanges;

        loop->free_exchanges = exchange->next;
        exchange_destroy(exchange);
    }
    buffer_free(&loop->body);
    buffer_free(&loop->sealed);
    free(loop->plain_block);
    free(loop->read_block);
    loop->read_block = NULL;
}
