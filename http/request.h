/*
 * request.h - from a connection's bytes to requests: the parser layer, without sockets.
 *
 * llhttp in strict mode does the grammar. On top of it stand the rules it leaves to its user: no
 * folded header values, versions 1.0 and 1.1 only, exactly one Host for HTTP/1.1, no transfer
 * coding but chunked, single-valued headers given once, and a limit on everything a client can make
 * long. Whatever is odd about the framing is refused and ends the connection, since the next
 * request's start can then not be trusted.
 *
 * A parser belongs to one connection and one thread. It pauses at the end of each head, so the
 * owner can refuse before the body is read, and at the end of each request.
 */
#ifndef SLUICE_HTTP_REQUEST_H
#define SLUICE_HTTP_REQUEST_H

#include <llhttp.h>
#include <stdatomic.h>

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "http/problem.h"

#if !LLHTTP_STRICT_MODE
#error "llhttp must be used in strict mode: without it requests can be smuggled"
#endif

/* The headers somebody reads. Single-valued ones given twice are refused. */
#define REQUEST_FIELDS(X)                                                                          \
    X(FIELD_HOST, "host", true)                                                                    \
    X(FIELD_CONTENT_TYPE, "content-type", true)                                                    \
    X(FIELD_CONTENT_ENCODING, "content-encoding", true)                                            \
    X(FIELD_TRANSFER_ENCODING, "transfer-encoding", true)                                          \
    X(FIELD_EXPECT, "expect", false)                                                               \
    X(FIELD_IDEMPOTENCY_KEY, "idempotency-key", true)                                              \
    X(FIELD_TRACEPARENT, "traceparent", false)                                                     \
    X(FIELD_REQUEST_ID, "x-request-id", false)                                                     \
    X(FIELD_ACCEPT, "accept", false)                                                               \
    X(FIELD_API_KEY, "x-api-key", true)                                                            \
    X(FIELD_ORIGIN, "origin", false)                                                               \
    X(FIELD_PREFLIGHT, "access-control-request-method", false)

enum request_field {
#define FIELD_MEMBER(name, text, single) name,
    REQUEST_FIELDS(FIELD_MEMBER)
#undef FIELD_MEMBER
    FIELD_COUNT
};

/* The methods told apart; the rest share one. */
#define REQUEST_METHODS(X)                                                                         \
    X(METHOD_GET, "GET", HTTP_GET)                                                                 \
    X(METHOD_HEAD, "HEAD", HTTP_HEAD)                                                              \
    X(METHOD_POST, "POST", HTTP_POST)                                                              \
    X(METHOD_PUT, "PUT", HTTP_PUT)                                                                 \
    X(METHOD_PATCH, "PATCH", HTTP_PATCH)                                                           \
    X(METHOD_DELETE, "DELETE", HTTP_DELETE)                                                        \
    X(METHOD_OPTIONS, "OPTIONS", HTTP_OPTIONS)

enum request_method {
#define METHOD_MEMBER(name, text, number) name,
    REQUEST_METHODS(METHOD_MEMBER)
#undef METHOD_MEMBER
    METHOD_OTHER,
    METHOD_COUNT
};

const char *request_method_name(enum request_method method); /* "other" for METHOD_OTHER */

/* Bytes held for clients by all connections together. Any thread. */
struct budget {
    _Atomic size_t used;
    size_t max;
};

MUST_CHECK bool budget_take(struct budget *budget, size_t bytes); /* false: nothing was taken */
void budget_give(struct budget *budget, size_t bytes);

struct request_limits {
    size_t head_bytes_max;
    size_t url_bytes_max;
    uint32_t fields_max;
};

struct request_slot {
    uint32_t at;
    uint32_t len;
    bool present;
};

struct request {
    enum request_method method;
    bool keep_alive;
    bool http_1_1;
    bool http_1_0;
    bool chunked;
    bool has_length;
    uint64_t content_length;

    /* Set by the owner between PARSE_HEAD and the next feed. */
    size_t body_max; /* a longer body is refused with PROBLEM_BODY_TOO_LARGE */
    bool discard;    /* read the body and throw it away */
    /* Gets the body as it comes, which is then not kept. Returns PROBLEM_NONE or the refusal. */
    enum problem (*take)(void *arg, struct span bytes);
    void *take_arg;

    /* The rest is the parser's; read it through the functions below. */
    uint32_t repeated; /* bit per field given more than once */
    struct request_slot url;
    struct request_slot field[FIELD_COUNT];
    struct buffer head;   /* what the slots point into */
    struct buffer body;   /* a body that came in pieces */
    struct span in_place; /* a body that came in one, still in the caller's bytes */
    size_t body_len;
    size_t charged; /* taken from the budget for BODY */
};

enum parse_step {
    PARSE_MORE,     /* all bytes used, the request goes on (or has not begun) */
    PARSE_HEAD,     /* the head is complete; feed again, even with no bytes */
    PARSE_COMPLETE, /* the request is complete; its spans live until the bytes fed go away */
    PARSE_REFUSED,  /* *WHY says why; the connection must end after that answer */
};

struct parser {
    llhttp_t llhttp;
    const struct request_limits *limits;
    struct budget *budget;
    struct request *request;
    enum problem why;
    bool in_body;
    char last; /* of the head's bytes used so far */
    bool paused;
    size_t head_bytes;
    size_t wire_bytes; /* used since the head, with chunk framing and trailers */
    uint32_t fields;
    size_t name_len; /* of the header name being read; beyond NAME it is nobody's */
    enum request_field current;
    bool in_value;
    char name[32];
};

/* LIMITS and BUDGET are borrowed for the parser's life. */
void parser_init(struct parser *parser, const struct request_limits *limits, struct budget *budget);

/* Where the next request goes; must be set (zeroed or reset) before its first byte is fed. */
void parser_begin(struct parser *parser, struct request *request);

/*
 * Uses bytes up to the next step and says in *USED how many. After PARSE_REFUSED it must not be fed
 * again.
 */
MUST_CHECK enum parse_step parser_feed(struct parser *parser, struct span bytes, size_t *used,
                                       enum problem *why);

/* Empties REQUEST for reuse, giving back what it took; keeps blocks up to KEEP_MAX bytes each. */
void request_reset(struct request *request, struct budget *budget, size_t keep_max);
void request_free(struct request *request, struct budget *budget);

/* Forgets the body once nobody needs it, giving back what it took; the head stays. */
void request_drop_body(struct request *request, struct budget *budget, size_t keep_max);

struct span request_field(const struct request *request, enum request_field field);
bool request_field_repeated(const struct request *request, enum request_field field);

/* The target's path, without query; absolute-form targets are reduced to it. Not decoded. */
struct span request_path(const struct request *request);

/* The target as it came, with its query. */
struct span request_target(const struct request *request);

/*
 * Finds NAME in the query and appends its decoded value to OUT (nothing without '=').
 * ERR_NOT_FOUND: not given; ERR_INVALID: given twice, or not decodable as percent-encoded bytes
 * without NUL; ERR_NO_MEMORY.
 */
MUST_CHECK enum err request_query(const struct request *request, const char *name,
                                  struct buffer *out);

/*
 * The query's next member, both sides decoded and appended to NAME and VALUE (empty without '=').
 * *AT starts at 0. ERR_NOT_FOUND after the last; ERR_INVALID and ERR_NO_MEMORY as above.
 */
MUST_CHECK enum err request_query_next(const struct request *request, size_t *at,
                                       struct buffer *name, struct buffer *value);

struct span request_body(const struct request *request);

/* Adds BYTES to the body in memory of the request's own, taken from BUDGET. PROBLEM_NONE or why
 * not. */
MUST_CHECK enum problem request_keep_body(struct request *request, struct budget *budget,
                                          struct span bytes);

/* The request announced a body of at least one byte, or a chunked one. */
bool request_has_body(const struct request *request);

/* "100-continue" was asked for by a client that can understand the answer. */
bool request_expects_continue(const struct request *request);

/* application/json, application/anything+json, with parameters, or no type at all. */
bool request_is_json(const struct request *request);

/* The media types of a bulk beside JSON: one JSON text per line; CSV. */
bool request_is_lines(const struct request *request);
bool request_is_csv(const struct request *request);

/* No content coding, or identity. */
bool request_is_identity(const struct request *request);
bool request_is_gzip(const struct request *request);

/* The 32 hex digits of a well-formed W3C traceparent, else absent. */
struct span request_trace_id(const struct request *request);

#endif
