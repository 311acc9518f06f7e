/*
 * internal.h - what the files of the HTTP front share: server, loop, connection, exchange.
 *
 *   server --- loop (one thread) --- conn --- queue of exchanges, in the order they were asked
 *
 * An exchange is one request and its answer. It starts with the request's first byte, is parsed
 * into, perhaps travels to the journal or to the pool's thread, and ends when its answer is in the
 * socket (or in the connection's out buffer). Answers leave in queue order. While somebody else
 * holds an exchange, its connection may die: the exchange is then an orphan (conn == NULL) and is
 * dropped when it comes back.
 *
 * Everything here belongs to its loop's thread, but: server's atomics, loop->finished (any thread
 * pushes), loop->wake (uv_async_send), the metric counters, and of an exchange whose page is being
 * computed PAGE, which is the pool's thread's until it is done.
 */
#ifndef SLUICE_HTTP_INTERNAL_H
#define SLUICE_HTTP_INTERNAL_H

#include <uv.h>

#include "core/base/metrics.h"
#include "core/bulk.h"
#include "core/event/decode.h"
#include "core/journal.h"
#include "core/tenants.h"
#include "http/inflate.h"
#include "http/openapi.h"
#include "http/request.h"
#include "http/route.h"
#include "http/server.h"
#include "http/tls.h"

enum {
    PIPELINE_MAX = 64,             /* requests of one connection in flight */
    ANSWER_BYTES_MAX = 256 * 1024, /* answers of one connection not yet sent; beyond, no parsing */
    READ_BYTES = 64 * 1024,        /* one read */
    HEAD_BYTES_MAX = 32 * 1024,
    JSON_BYTES_MAX = 16 * 1024, /* of a BODY_JSON */
    URL_BYTES_MAX = 8 * 1024,
    FIELDS_MAX = 100,
    DISCARD_BYTES_MAX = 64 * 1024, /* a refused body up to this is read; a longer one ends it */
    KEEP_BYTES_MAX = 4 * 1024,     /* a recycled buffer keeps at most this */
    FREE_EXCHANGES_MAX = 1024,     /* per loop */
    PAGE_BYTES_FREE = 64 * 1024,   /* a longer page is charged to the answers' budget */
    SWEEP_MS = 200,                /* precision of every timeout */
    LINGER_MS = 2000,              /* how long an ended connection is still read */
    REFUSED_CONNECTIONS_MAX = 128, /* over the limit but still told so; beyond, closed at once */
    REQUEST_ID_MAX = 64,
    BEHIND_BYTES_MAX = 16 * 1024, /* of TLS's own messages waiting for a slow client */
};

/* Statuses that can be answered: the one list for status lines and metric labels. */
#define STATUS_LIST(X)                                                                             \
    X(200, "OK")                                                                                   \
    X(201, "Created")                                                                              \
    X(202, "Accepted")                                                                             \
    X(204, "No Content")                                                                           \
    X(400, "Bad Request")                                                                          \
    X(401, "Unauthorized")                                                                         \
    X(403, "Forbidden")                                                                            \
    X(404, "Not Found")                                                                            \
    X(405, "Method Not Allowed")                                                                   \
    X(408, "Request Timeout")                                                                      \
    X(409, "Conflict")                                                                             \
    X(411, "Length Required")                                                                      \
    X(413, "Content Too Large")                                                                    \
    X(414, "URI Too Long")                                                                         \
    X(415, "Unsupported Media Type")                                                               \
    X(422, "Unprocessable Content")                                                                \
    X(429, "Too Many Requests")                                                                    \
    X(431, "Request Header Fields Too Large")                                                      \
    X(500, "Internal Server Error")                                                                \
    X(503, "Service Unavailable")

enum status_index {
#define STATUS_MEMBER(status, text) STATUS_##status,
    STATUS_LIST(STATUS_MEMBER)
#undef STATUS_MEMBER
    STATUS_COUNT
};

/* What a route of handle_metrics() is. */
enum metrics_detail {
    METRICS_ALONE,
    METRICS_OR_COUNTS, /* a count when its parameters are there */
};

struct loop;
struct conn;
struct upload; /* bulk.c: a bulk being read, and its events until the answer */

enum exchange_state {
    EXCHANGE_READING, /* the parser fills it; always its connection's last */
    EXCHANGE_WAITING, /* the journal holds its append, or its page is being computed */
    EXCHANGE_DONE,    /* the answer is complete */
};

enum rate_limit {
    RATE_TENANT,
    RATE_ALL,
    RATE_LIMITS
};

/* What a page turned out to be, when that is not known before. Owned by its exchange. */
struct outcome_page {
    enum problem problem; /* PROBLEM_NONE: the page, with STATUS */
    uint16_t status;
    char message[256]; /* of the problem; empty: its own */
    char headers[160]; /* further complete lines of the answer */
    struct buffer body;
    struct buffer more; /* a problem's further members, each with a comma before it */
};

/* Pages being computed one after the other, apart from those of the other lines. */
enum page_line {
    LINE_READ,
    LINE_WRITE, /* these may wait for the database */
    LINES
};

struct page_queue {
    struct loop *loop;
    uv_work_t work;
    struct exchange *head; /* pages wanted; the first one is being computed */
    struct exchange *tail;
};

struct exchange {
    struct exchange *next;          /* in its connection's queue, or in the free list */
    struct exchange *finished_next; /* in loop->finished */
    struct loop *loop;
    struct conn *conn; /* NULL: an orphan */
    enum exchange_state state;
    const struct route *route; /* NULL until found, and when there is none */
    struct request request;
    struct buffer scratch; /* what the decoded event borrows from */
    struct buffer encoded; /* the record's body while the journal holds it */
    struct buffer answer;
    bool refused;         /* the answer is written, the body is still being thrown away */
    bool continue_wanted; /* 100 Continue is to be sent when it is this exchange's turn */
    bool close;           /* the connection ends after this answer */
    bool id_in_header;
    uint32_t rated;                        /* bit per rate limit that was asked for tokens */
    struct token_level level[RATE_LIMITS]; /* as it was then */
    uint64_t retry_after_s;                /* valid when the answer is PROBLEM_RATE_LIMITED */
    struct tenant *tenant; /* NULL on routes that need none, and in a server without tenants */
    bool by_admin;         /* the admin's key was shown */
    uint16_t status;       /* of the answer */
    enum event_shape shape;
    uint8_t id_len;
    uint8_t request_id_len;
    char id[EVENT_NAME_MAX];
    char request_id[REQUEST_ID_MAX];
    size_t charged; /* taken from the budget for ENCODED */
    void (*compute)(const struct exchange *exchange, struct buffer *page);
    void (*work)(struct exchange *exchange, struct outcome_page *outcome); /* or this does */
    struct outcome_page *outcome;
    struct buffer page; /* what COMPUTE writes */
    const char *page_type;
    struct exchange *page_next;
    size_t answer_charged; /* taken from the answers' budget for ANSWER */
    int64_t began_us;
    struct inflater *inflater; /* of a gzip body, else NULL */
    struct upload *upload;     /* of a bulk, else NULL */
    size_t upload_charged;     /* taken from the budget for the two */
    struct append append;
    struct append_event event;
};

enum conn_state {
    CONN_OPEN,    /* requests are taken */
    CONN_LAST,    /* no further request is parsed; ends when all answers are out */
    CONN_LINGER,  /* answers are out, our side is shut; reads and throws away for a moment */
    CONN_CLOSING, /* uv_close() was called; only its callback is left */
};

struct conn {
    uv_tcp_t tcp;
    uv_write_t write;
    uv_shutdown_t shutdown;
    struct conn *next;
    struct conn *prev;
    struct conn *dirty_next;
    struct loop *loop;
    enum conn_state state;
    bool secure;     /* speaks TLS */
    bool over_limit; /* not counted in server->connections */
    bool dirty;      /* in the loop's list of connections with new answers */
    bool reading;
    bool writing;            /* OUT is with the kernel */
    bool peer_done;          /* the client will send no more */
    struct tls_session *tls; /* NULL until a secure client's first byte */
    struct buffer behind;    /* made by TLS while OUT was with the kernel */
    struct parser parser;
    struct exchange *current; /* being read, NULL between requests */
    struct exchange *head;
    struct exchange *tail;
    uint32_t queued;
    size_t answer_bytes;  /* of the queue's finished answers */
    struct buffer unread; /* read but not parsed, since the queue was full */
    size_t unread_at;
    size_t unread_charged; /* taken from the budget for UNREAD */
    struct buffer out;
    size_t write_left;         /* of OUT, when last looked */
    uint64_t idle_since_ms;    /* valid with an empty queue */
    uint64_t request_since_ms; /* valid with CURRENT, and while TLS shakes hands */
    uint64_t progress_ms;      /* valid while WRITING */
    uint64_t writing_since_ms; /* valid while WRITING */
    uint64_t linger_since_ms;  /* valid in CONN_LINGER */
};

/* Why a handshake came to nothing: the label of a metric. */
enum handshake_error {
    HANDSHAKE_PROTOCOL,
    HANDSHAKE_CLIENT_CERTIFICATE,
    HANDSHAKE_ALERT,
    HANDSHAKE_PLAIN_HTTP,
    HANDSHAKE_TIMEOUT,
    HANDSHAKE_CLOSED,
    HANDSHAKE_ERRORS
};

struct loop_metrics {
    /* By route (the last: none), method and status. */
    struct metric_counter requests[ROUTES_MAX + 1][METHOD_COUNT][STATUS_COUNT];
    struct metric_histogram seconds;
    struct metric_histogram ingest_ms; /* only with metrics_legacy_names */
    struct metric_counter received;
    struct metric_counter acked;
    struct metric_counter duplicate;
    struct metric_counter rejected[PROBLEM_COUNT];
    struct metric_counter connections;
    struct metric_counter connections_refused;
    struct metric_counter accept_errors;
    struct metric_counter timeouts;
    struct metric_counter handshakes[2]; /* full, resumed */
    struct metric_counter handshake_errors[HANDSHAKE_ERRORS];
};

struct loop {
    struct server *server;
    uint32_t index;
    uv_loop_t uv;
    uv_tcp_t listener;
    uv_async_t wake;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_timer_t sweep;
    pthread_t thread;
    bool started;
    bool listening;
    bool draining;
    bool kick;           /* something was appended since the last kick */
    bool accept_waiting; /* a connection could not be taken yet */
    uint64_t drain_until_ms;
    _Atomic(struct exchange *) finished; /* stack, newest first */
    struct conn *conns;
    struct conn *dirty;
    struct exchange *free_exchanges;
    uint32_t free_count;
    uint64_t outstanding; /* exchanges in EXCHANGE_WAITING */
    struct page_queue pages[LINES];
    int64_t now_us; /* monotonic, taken once per callback */
    int64_t wall_us;
    int64_t date_s;
    char date[32]; /* "Sat, 21 Nov 2026 10:00:00 GMT" */
    uint64_t request_number;
    char request_prefix[9];
    struct buffer body; /* scratch for answers' bodies */
    char *read_block;
    char *plain_block;    /* what was in READ_BLOCK, unsealed; only with TLS */
    struct buffer sealed; /* scratch for what TLS makes */
    struct loop_metrics metrics;
};

enum server_phase {
    SERVER_SERVING,
    SERVER_NOT_READY, /* told to stop: /ready says so, the rest goes on */
    SERVER_DRAINING,  /* listeners close, connections end */
};

struct server {
    struct server_config config;
    struct server_deps deps;
    struct request_limits limits;
    struct budget budget;
    struct token_bucket rate; /* of all tenants together */
    struct budget answers; /* long pages on their way to clients; as large as BUDGET, but apart: a
                              slow reader does not cost an event */
    _Atomic int phase;
    _Atomic int drain_ms;
    _Atomic uint32_t connections;
    _Atomic uint32_t connections_over; /* being told that there are too many */
    uint16_t port;
    struct loop *loops;
    uint32_t loop_count;
    struct openapi openapi;
    double audit_base; /* audit_balance() at open */
    int64_t started_wall_us;
};

/* ---- server.c ---- */
const char *server_version(const struct server *server);

/* ---- loop.c ---- */
MUST_CHECK enum err loop_init(struct loop *loop, struct server *server, uint32_t index, int fd);
void loop_fini(struct loop *loop); /* the thread has ended or never ran */
void loop_run(struct loop *loop);  /* the thread's body */
void loop_touch_time(struct loop *loop);

/* Takes back an exchange that was EXCHANGE_WAITING and is answered: sends, or drops an orphan. */
void loop_take_back(struct loop *loop, struct exchange *exchange);
void loop_pump_dirty(struct loop *loop); /* what was taken back goes out */

/* ---- conn.c ---- */

/*
 * False: there was no memory to take the connection with. It waits in LISTENER, which libuv has
 * stopped watching until somebody takes it: ask again later.
 */
MUST_CHECK bool conn_accept(struct loop *loop, uv_stream_t *listener);
void conn_mark_dirty(struct conn *conn);
void conn_pump(struct conn *conn); /* sends what is finished, takes what waits; may close */
void conn_sweep(struct conn *conn, uint64_t now_ms);
void conn_drain(struct conn *conn); /* the loop is stopping: end it as soon as is fair */
void conn_close(struct conn *conn);

/* ---- exchange.c ---- */
struct exchange *exchange_new(struct conn *conn); /* NULL: out of memory */
void exchange_free(struct exchange *exchange);    /* to the loop's free list */
void exchange_destroy(struct exchange *exchange);
void exchange_identify(
    struct exchange *exchange); /* sets the request id from the header or a new one */
/* Makes the event's ID the request's too, as G answers, unless the client gave one in the header.
 */
void exchange_identify_by(struct exchange *exchange, struct span id);

/* Completes the answer. TYPE NULL: no body. HEADERS: further complete lines, or "". */
void exchange_answer(struct exchange *exchange, uint16_t status, const char *type, struct span body,
                     const char *headers);
void exchange_problem(struct exchange *exchange, enum problem problem, const char *message);
void exchange_problem_more(struct exchange *exchange, enum problem problem, const char *message,
                           struct span more); /* MORE: as problem_json() */

/* 405 (or the answer to OPTIONS) with Allow for PATH. */
void exchange_allow(struct exchange *exchange, uint32_t allowed, bool refuse);

/* ---- handlers, by route.c's table ---- */
void handle_ingest(struct exchange *exchange);
void handle_bulk(struct exchange *exchange);
void handle_health(struct exchange *exchange);
void handle_ready(struct exchange *exchange);
void handle_metrics(struct exchange *exchange);
void handle_counts(struct exchange *exchange);
void handle_names(struct exchange *exchange);
void handle_slo_status(struct exchange *exchange);
void handle_slo_alerts(struct exchange *exchange);
void handle_slo_gate(struct exchange *exchange);
void handle_slo_windows(struct exchange *exchange);
void handle_objectives_list(struct exchange *exchange);
void handle_objective_create(struct exchange *exchange);
void handle_objective_get(struct exchange *exchange);
void handle_objective_put(struct exchange *exchange);
void handle_objective_delete(struct exchange *exchange);
void handle_events(struct exchange *exchange);
void handle_dead_letters(struct exchange *exchange);
void handle_dead_letter_replay(struct exchange *exchange);
void handle_dead_letter_discard(struct exchange *exchange);
void handle_dashboard(struct exchange *exchange);
void handle_openapi(struct exchange *exchange);
void handle_docs(struct exchange *exchange);

/* Writes the answer of an append that has come back. */
void ingest_finish(struct exchange *exchange);

/*
 * Hands exchange->append, its events filled in, to the journal. On an error nothing was stored and
 * the exchange has no answer yet.
 */
MUST_CHECK enum err ingest_append(struct exchange *exchange);

/* ---- counts.c ---- */

/* The query asks for a count: what makes GET /metrics one. */
bool counts_asked(const struct request *request);

/* ---- page.c ---- */

/*
 * Answers with what COMPUTE writes, as TYPE. COMPUTE runs on a thread of libuv's pool, one page of
 * a loop at a time: it may take long, and reads of the exchange only what is settled by now.
 */
void page_answer(struct exchange *exchange,
                 void (*compute)(const struct exchange *exchange, struct buffer *page),
                 const char *type);

/*
 * The same for an answer whose status only WORK finds out. It may also wait for the database, on
 * LINE_WRITE. EXCHANGE's request and scratch are its to read meanwhile. TYPE is that of the page.
 */
void page_work(struct exchange *exchange, enum page_line line,
               void (*work)(struct exchange *exchange, struct outcome_page *outcome),
               const char *type);

/* Makes the outcome a refusal. */
void outcome_refuse(struct outcome_page *outcome, enum problem problem, const char *message);

/* Counts a refusal of an ingest route's request that never reached its handler. */
void ingest_count_refusal(struct exchange *exchange, enum problem problem);

/* ---- bulk.c: bodies that are not simply kept ---- */

/* The head of a request that takes a body is good: makes ready what its body goes through. */
MUST_CHECK enum problem upload_begin(struct exchange *exchange);

/* The body is complete. NULL, or a sentence on what is wrong with its coding. */
const char *upload_complaint(const struct exchange *exchange);

/* Frees what upload_begin() made and gives back what it took. */
void upload_end(struct exchange *exchange);

/* Writes the answer of a bulk whose append has come back. */
void bulk_finish(struct exchange *exchange);

/* No replicator is streaming although a database is configured. */
bool server_degraded(const struct server *server);

/* ---- access.c ---- */

/*
 * Whether the request's X-API-Key opens what needs AUTH; sets exchange->tenant. PROBLEM_NONE,
 * PROBLEM_UNAUTHORIZED or PROBLEM_FORBIDDEN. The head must still be there.
 */
MUST_CHECK enum problem access_check(struct exchange *exchange, enum route_auth auth);

/* The tenant a request speaks for; "default" where none was needed. */
struct span request_tenant(const struct exchange *exchange);

/* Nobody is asked for a key: everybody may see and do everything. */
bool access_is_open(const struct exchange *exchange);

/*
 * The tenant a request on an AUTH_READER route is about: ?tenant= where the caller may name one,
 * else its own; appended to OUT. Absent for the admin who names none. PROBLEM_NONE,
 * PROBLEM_FORBIDDEN, PROBLEM_VALIDATION or PROBLEM_BACKPRESSURE. Any thread.
 */
MUST_CHECK enum problem access_subject(const struct exchange *exchange, struct buffer *out,
                                       struct span *tenant);

/* Makes OUTCOME the refusal that access_subject() gave. */
void access_refuse_subject(struct outcome_page *outcome, enum problem why);

/*
 * Takes EVENTS tokens from the tenant's and from the common bucket, or none at all. PROBLEM_NONE;
 * PROBLEM_RATE_LIMITED; PROBLEM_OVER_BURST: so many at once never pass. Call once per request: the
 * answer tells the levels.
 */
MUST_CHECK enum problem access_take(struct exchange *exchange, uint64_t events);

/* Appends RateLimit-Policy and RateLimit of an exchange that was rated. */
void access_write_fields(const struct exchange *exchange, struct buffer *out);

/* ---- exposition.c ---- */
extern const double LEGACY_MS_BOUNDS[];
extern const uint32_t LEGACY_MS_BOUND_COUNT;
void exposition_write(const struct server *server, struct buffer *out);
double audit_balance(const struct server_deps *deps);

#endif
