/*
 * Pages that take long to compute: figures of thousands of services are hundreds of milliseconds,
 * in which no event would be taken if the loop did it. A thread of libuv's pool does, one page per
 * loop at a time in the order they were asked for, so that pages never take more than one CPU from
 * each loop, nor more memory than one page each and the answers' budget.
 */
#include "http/internal.h"

static void begin_page(struct loop *loop);

/* The pool's thread. */
static void
compute_page(uv_work_t *work)
{
    struct loop *loop = work->data;
    struct exchange *exchange = loop->page_head;

    exchange->compute(exchange, &exchange->page);
}

static void
answer_page(struct exchange *exchange)
{
    struct budget *answers = &exchange->loop->server->answers;
    struct buffer *page = &exchange->page;

    size_t charge = page->len > PAGE_BYTES_FREE ? page->len : 0;

    if (page->failed || !budget_take(answers, charge)) {
        exchange_problem(exchange, PROBLEM_BACKPRESSURE, NULL);
    } else {
        exchange->answer_charged = charge;
        exchange_answer(exchange, 200, exchange->page_type, buffer_span(page),
                        "Cache-Control: no-store\r\n");
    }
    buffer_free(page);
}

static struct exchange *
pop_page(struct loop *loop)
{
    struct exchange *exchange = loop->page_head;

    loop->page_head = exchange->page_next;
    if (loop->page_head == NULL) {
        loop->page_tail = NULL;
    }
    exchange->page_next = NULL;
    return exchange;
}

static void
finish_page(struct loop *loop)
{
    struct exchange *exchange = pop_page(loop);

    answer_page(exchange);
    loop_take_back(loop, exchange);
}

static void
on_computed(uv_work_t *work, int status)
{
    struct loop *loop = work->data;

    ASSERT(status == 0); /* nobody cancels */
    loop_touch_time(loop);
    finish_page(loop);
    begin_page(loop);
    loop_pump_dirty(loop);
}

/* Sets the pool to work on the first page that somebody still waits for. */
static void
begin_page(struct loop *loop)
{
    while (loop->page_head != NULL && loop->page_head->conn == NULL) {
        loop->page_head->page.failed = true;
        finish_page(loop);
    }
    if (loop->page_head != NULL) {
        int rc;

        loop->page_work.data = loop;
        rc = uv_queue_work(&loop->uv, &loop->page_work, compute_page, on_computed);
        ASSERT(rc == 0); /* fails for want of a function only */
    }
}

void
page_answer(struct exchange *exchange,
            void (*compute)(const struct exchange *exchange, struct buffer *page), const char *type)
{
    struct loop *loop = exchange->loop;
    bool busy = loop->page_head != NULL;

    exchange->compute = compute;
    exchange->page_type = type;
    exchange->page_next = NULL;
    exchange->state = EXCHANGE_WAITING;
    loop->outstanding++;
    if (busy) {
        loop->page_tail->page_next = exchange;
    } else {
        loop->page_head = exchange;
    }
    loop->page_tail = exchange;
    if (!busy) {
        begin_page(loop);
    }
}
