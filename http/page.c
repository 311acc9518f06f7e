/*
 * Pages that take long to compute: figures of thousands of services are hundreds of milliseconds,
 * in which no event would be taken if the loop did it. A thread of libuv's pool does, one page per
 * loop at a time in the order they were asked for, so that pages never take more than one CPU from
 * each loop, nor more memory than one page each and the answers' budget. What may wait for the
 * database stands in a line of its own, so that a hung one holds up no figures.
 */
#include <stdio.h>
#include <stdlib.h>

#include "http/internal.h"

static void begin_page(struct page_queue *queue);

/* The pool's thread. */
static void
compute_page(uv_work_t *work)
{
    struct page_queue *queue = work->data;
    struct exchange *exchange = queue->head;

    if (exchange->outcome != NULL) {
        exchange->work(exchange, exchange->outcome);
    } else {
        exchange->compute(exchange, &exchange->page);
    }
}

/* BODY was made in full: charges it to the answers' budget. */
static bool
charge_page(struct exchange *exchange, const struct buffer *body)
{
    size_t charge = body->len > PAGE_BYTES_FREE ? body->len : 0;

    if (body->failed || !budget_take(&exchange->loop->server->answers, charge)) {
        return false;
    }
    exchange->answer_charged = charge;
    return true;
}

static void
answer_page(struct exchange *exchange)
{
    struct buffer *page = &exchange->page;

    if (!charge_page(exchange, page)) {
        exchange_problem(exchange, PROBLEM_BACKPRESSURE, NULL);
    } else {
        exchange_answer(exchange, 200, exchange->page_type, buffer_span(page),
                        "Cache-Control: no-store\r\n");
    }
    buffer_free(page);
}

static void
answer_outcome(struct exchange *exchange)
{
    struct outcome_page *outcome = exchange->outcome;
    char headers[sizeof(outcome->headers) + 32];

    exchange->outcome = NULL;
    if (outcome->problem != PROBLEM_NONE) {
        exchange_problem_more(exchange, outcome->problem,
                              outcome->message[0] == '\0' ? NULL : outcome->message,
                              buffer_span(&outcome->more));
    } else if (!charge_page(exchange, &outcome->body)) {
        exchange_problem(exchange, PROBLEM_BACKPRESSURE, NULL);
    } else {
        (void)snprintf(headers, sizeof(headers), "%sCache-Control: no-store\r\n", outcome->headers);
        exchange_answer(
            exchange, outcome->status, outcome->status == 204 ? NULL : exchange->page_type,
            outcome->status == 204 ? SPAN_LITERAL("") : buffer_span(&outcome->body), headers);
    }
    buffer_free(&outcome->body);
    buffer_free(&outcome->more);
    free(outcome);
}

static struct exchange *
pop_page(struct page_queue *queue)
{
    struct exchange *exchange = queue->head;

    queue->head = exchange->page_next;
    if (queue->head == NULL) {
        queue->tail = NULL;
    }
    exchange->page_next = NULL;
    return exchange;
}

static void
finish_page(struct page_queue *queue)
{
    struct exchange *exchange = pop_page(queue);

    if (exchange->outcome != NULL) {
        answer_outcome(exchange);
    } else {
        answer_page(exchange);
    }
    loop_take_back(queue->loop, exchange);
}

static void
on_computed(uv_work_t *work, int status)
{
    struct page_queue *queue = work->data;

    ASSERT(status == 0); /* nobody cancels */
    loop_touch_time(queue->loop);
    finish_page(queue);
    begin_page(queue);
    loop_pump_dirty(queue->loop);
}

/* Nobody waits for the page any more, and it was not begun. */
static void
drop_page(struct page_queue *queue)
{
    struct exchange *exchange = queue->head;

    if (exchange->outcome != NULL) {
        outcome_refuse(exchange->outcome, PROBLEM_BACKPRESSURE, NULL);
    } else {
        exchange->page.failed = true;
    }
    finish_page(queue);
}

/* Sets the pool to work on the first page that somebody still waits for. */
static void
begin_page(struct page_queue *queue)
{
    while (queue->head != NULL && queue->head->conn == NULL) {
        drop_page(queue);
    }
    if (queue->head != NULL) {
        int rc;

        queue->work.data = queue;
        rc = uv_queue_work(&queue->loop->uv, &queue->work, compute_page, on_computed);
        ASSERT(rc == 0); /* fails for want of a function only */
    }
}

static void
push_page(struct exchange *exchange, enum page_line line, const char *type)
{
    struct loop *loop = exchange->loop;
    struct page_queue *queue = &loop->pages[line];
    bool busy = queue->head != NULL;

    queue->loop = loop;
    exchange->page_type = type;
    exchange->page_next = NULL;
    exchange->state = EXCHANGE_WAITING;
    loop->outstanding++;
    if (busy) {
        queue->tail->page_next = exchange;
    } else {
        queue->head = exchange;
    }
    queue->tail = exchange;
    if (!busy) {
        begin_page(queue);
    }
}

void
page_answer(struct exchange *exchange,
            void (*compute)(const struct exchange *exchange, struct buffer *page), const char *type)
{
    exchange->compute = compute;
    push_page(exchange, LINE_READ, type);
}

void
page_work(struct exchange *exchange, enum page_line line,
          void (*work)(struct exchange *exchange, struct outcome_page *outcome), const char *type)
{
    exchange->outcome = calloc(1, sizeof(*exchange->outcome));
    if (exchange->outcome == NULL) {
        exchange_problem(exchange, PROBLEM_BACKPRESSURE, NULL);
        return;
    }
    exchange->outcome->status = 200;
    exchange->work = work;
    push_page(exchange, line, type);
}

void
outcome_refuse(struct outcome_page *outcome, enum problem problem, const char *message)
{
    outcome->problem = problem;
    (void)snprintf(outcome->message, sizeof(outcome->message), "%s",
                   message == NULL ? "" : message);
}
