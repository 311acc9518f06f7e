/*
 * load.c - an open-loop client: requests are due by the clock, whether or not the server keeps up.
 *
 *   load PORT CONNECTIONS RATE SECONDS
 *
 * Request i is due i/RATE seconds after the start, on connection i mod CONNECTIONS. Its latency is
 * counted from that moment, also when it had to wait because the connection's previous answer was
 * late: a pause of the server is thus felt by all who would have called during it. (A closed-loop
 * client stops asking while it waits, and hides the pause.)
 *
 * Posts one telemetry event per request to 127.0.0.1 and prints one line of key=value pairs,
 * latencies in microseconds. Exit code 1 when a request was not answered with 2xx.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/clock.h"

enum {
    CONNECTIONS_MAX = 10000,
    REQUESTS_MAX = 100000000,
    ANSWER_BYTES_MAX = 4096,
    READY_MAX = 512,
    DRAIN_US = 2000000, /* how long late answers are waited for */
};

static const char REQUEST[] = "POST /ingest HTTP/1.1\r\n"
                              "Host: 127.0.0.1\r\n"
                              "Content-Type: application/json\r\n"
                              "Content-Length: 54\r\n"
                              "\r\n"
                              "{\"service\":\"billing-a\",\"status\":200,\"latency_ms\":12.5}";

struct conn {
    int fd;
    uint32_t index;
    uint64_t handed; /* requests that have come due */
    uint64_t done;   /* requests answered; the next one is on its way if handed > done */
    bool broken;
    size_t len;
    char answer[ANSWER_BYTES_MAX + 1];
};

struct load {
    const struct clock *clock;
    struct conn *conns;
    uint32_t count;
    double rate;
    uint64_t total;
    uint64_t next; /* first request that is not due yet */
    int64_t began_us;
    int epoll_fd;
    uint32_t *sample_us;
    uint64_t samples;
    uint64_t errors;
    int64_t last_us;
};

static void
fail(const char *what)
{
    perror(what);
    exit(1);
}

static int64_t
now_us(const struct load *load)
{
    return clock_monotonic_us(load->clock);
}

static int64_t
due_us(const struct load *load, uint64_t request)
{
    return load->began_us + (int64_t)((double)request * 1e6 / load->rate);
}

/* Which request of the whole schedule is the N-th of CONN. */
static uint64_t
request_of(const struct load *load, const struct conn *conn, uint64_t n)
{
    return n * load->count + conn->index;
}

static void
break_off(struct load *load, struct conn *conn)
{
    if (!conn->broken) {
        conn->broken = true;
        (void)epoll_ctl(load->epoll_fd, EPOLL_CTL_DEL, conn->fd, NULL);
    }
}

/* One request is on its way at a time and is far smaller than a socket's buffer. */
static void
send_request(struct load *load, struct conn *conn)
{
    ssize_t n = send(conn->fd, REQUEST, sizeof(REQUEST) - 1, MSG_NOSIGNAL);

    if (n != (ssize_t)(sizeof(REQUEST) - 1)) {
        break_off(load, conn);
    }
}

static void
hand_over_due(struct load *load, int64_t now)
{
    while (load->next < load->total && due_us(load, load->next) <= now) {
        struct conn *conn = &load->conns[load->next % load->count];

        conn->handed++;
        if (!conn->broken && conn->handed == conn->done + 1) {
            send_request(load, conn);
        }
        load->next++;
    }
}

/* Length of the whole answer at hand: 0 more is needed, SIZE_MAX not an answer we understand. */
static size_t
answer_len(const struct conn *conn)
{
    const char *end = strstr(conn->answer, "\r\n\r\n");
    const char *field;
    size_t len;

    if (end == NULL) {
        return conn->len == ANSWER_BYTES_MAX ? SIZE_MAX : 0;
    }
    field = strcasestr(conn->answer, "\r\nContent-Length:");
    if (field == NULL || field > end) {
        return SIZE_MAX;
    }
    len = (size_t)(end + 4 - conn->answer) + strtoul(field + 17, NULL, 10);
    if (len > ANSWER_BYTES_MAX) {
        return SIZE_MAX;
    }
    return len <= conn->len ? len : 0;
}

static void
note_answer(struct load *load, struct conn *conn, int64_t now)
{
    int64_t latency = now - due_us(load, request_of(load, conn, conn->done));

    if (strncmp(conn->answer, "HTTP/1.1 2", 10) != 0) {
        load->errors++;
    }
    load->sample_us[load->samples++] = latency > UINT32_MAX ? UINT32_MAX : (uint32_t)latency;
    load->last_us = now;
    conn->done++;
    conn->len = 0;
    if (conn->handed > conn->done) {
        send_request(load, conn);
    }
}

static void
take_answer(struct load *load, struct conn *conn)
{
    ssize_t n = recv(conn->fd, conn->answer + conn->len, ANSWER_BYTES_MAX - conn->len, 0);
    size_t len;

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        break_off(load, conn);
        return;
    }
    conn->len += (size_t)n;
    conn->answer[conn->len] = '\0';
    len = answer_len(conn);
    if (len == 0) {
        return;
    }
    if (len != conn->len || conn->handed == conn->done) { /* more than one answer is none of ours */
        break_off(load, conn);
        return;
    }
    note_answer(load, conn, now_us(load));
}

/* Sleeps until an answer comes or the next request is due: ppoll() for its finer clock. */
static void
wait_and_take(struct load *load, int64_t until_us)
{
    struct epoll_event ready[READY_MAX];
    int64_t left_us = until_us - now_us(load);
    int count;

    if (left_us > 0) {
        struct pollfd poll_fd = {load->epoll_fd, POLLIN, 0};
        struct timespec left = {left_us / 1000000, (left_us % 1000000) * 1000};

        if (ppoll(&poll_fd, 1, &left, NULL) == 0) {
            return;
        }
    }
    count = epoll_wait(load->epoll_fd, ready, READY_MAX, 0);
    for (int i = 0; i < count; i++) {
        take_answer(load, ready[i].data.ptr);
    }
}

static void
run(struct load *load)
{
    int64_t end_us;

    load->began_us = now_us(load);
    end_us = due_us(load, load->total) + DRAIN_US;
    while (load->samples < load->total) {
        int64_t now = now_us(load);

        if (now >= end_us) {
            break;
        }
        hand_over_due(load, now);
        wait_and_take(load, load->next < load->total ? due_us(load, load->next) : end_us);
    }
}

/* What was never answered counts as late as it is now, so that it cannot improve the figures. */
static uint64_t
note_unanswered(struct load *load)
{
    int64_t now = now_us(load);
    uint64_t unanswered = load->total - load->samples;

    for (uint32_t i = 0; i < load->count; i++) {
        struct conn *conn = &load->conns[i];

        for (uint64_t n = conn->done; request_of(load, conn, n) < load->total; n++) {
            int64_t latency = now - due_us(load, request_of(load, conn, n));

            load->sample_us[load->samples++] = latency > 0 ? (uint32_t)latency : 0;
        }
    }
    return unanswered;
}

static int
compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static uint32_t
percentile(const struct load *load, double part)
{
    uint64_t rank = (uint64_t)((double)load->samples * part);

    return load->sample_us[rank < load->samples ? rank : load->samples - 1];
}

static void
report(struct load *load)
{
    double seconds = (double)(load->last_us - load->began_us) / 1e6;
    uint64_t answered = load->samples;
    uint64_t unanswered = note_unanswered(load);

    qsort(load->sample_us, load->samples, sizeof(load->sample_us[0]), compare);
    printf("load req_s=%.0f p50_us=%u p99_us=%u p999_us=%u max_us=%u errors=%llu\n",
           answered == 0 ? 0 : (double)answered / seconds, percentile(load, 0.5),
           percentile(load, 0.99), percentile(load, 0.999), load->sample_us[load->samples - 1],
           (unsigned long long)(load->errors + unanswered));
    load->errors += unanswered;
}

static void
connect_all(struct load *load, uint16_t port)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr = {htonl(INADDR_LOOPBACK)},
    };
    int on = 1;

    for (uint32_t i = 0; i < load->count; i++) {
        struct conn *conn = &load->conns[i];
        struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = conn}};

        conn->index = i;
        conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (conn->fd < 0 ||
            connect(conn->fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
            setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0 ||
            epoll_ctl(load->epoll_fd, EPOLL_CTL_ADD, conn->fd, &event) != 0) {
            fail("load: connect");
        }
    }
}

int
main(int argc, char **argv)
{
    struct load load = {.clock = clock_system()};
    long port = argc == 5 ? strtol(argv[1], NULL, 10) : 0;
    long count = argc == 5 ? strtol(argv[2], NULL, 10) : 0;
    double seconds = argc == 5 ? strtod(argv[4], NULL) : 0;

    load.rate = argc == 5 ? strtod(argv[3], NULL) : 0;
    if (port < 1 || port > UINT16_MAX || count < 1 || count > CONNECTIONS_MAX ||
        !(load.rate >= 1) || !(load.rate * seconds >= 1) || load.rate * seconds > REQUESTS_MAX) {
        fprintf(stderr, "usage: load PORT CONNECTIONS RATE SECONDS\n");
        return 2;
    }
    load.count = narrow_u32((uint64_t)count);
    load.total = (uint64_t)(load.rate * seconds);
    load.conns = calloc(load.count, sizeof(*load.conns));
    load.sample_us = calloc(load.total, sizeof(*load.sample_us));
    load.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (load.conns == NULL || load.sample_us == NULL || load.epoll_fd < 0) {
        fail("load");
    }
    connect_all(&load, narrow_u16((uint64_t)port));
    run(&load);
    report(&load);
    for (uint32_t i = 0; i < load.count; i++) {
        (void)close(load.conns[i].fd);
    }
    (void)close(load.epoll_fd);
    free(load.conns);
    free(load.sample_us);
    return load.errors == 0 ? 0 : 1;
}
