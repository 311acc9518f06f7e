/*
 * problem.h - every refusal the HTTP front can give: one table from our code to status, title and
 * Retry-After.
 *
 * Handlers name a problem; only this table knows numbers and texts. Nothing internal (paths, driver
 * texts, addresses) ever gets into an answer. Any thread.
 */
#ifndef SLUICE_HTTP_PROBLEM_H
#define SLUICE_HTTP_PROBLEM_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"

/* name, status, code, Retry-After in seconds (0: none), title, default message */
#define PROBLEM_LIST(X)                                                                            \
    X(PROBLEM_NONE, 200, "none", 0, "OK", "")                                                      \
    X(PROBLEM_MALFORMED, 400, "validation_error", 0, "Bad Request",                                \
      "the request is not valid HTTP/1.1")                                                         \
    X(PROBLEM_REPEATED, 400, "validation_error", 0, "Bad Request",                                 \
      "a header that may stand once was given more than once")                                     \
    X(PROBLEM_VALIDATION, 400, "validation_error", 0, "Bad Request", "the request is not valid")   \
    X(PROBLEM_INVALID_JSON, 400, "invalid_json", 0, "Bad Request", "the body is not valid JSON")   \
    X(PROBLEM_UNAUTHORIZED, 401, "unauthorized", 0, "Unauthorized", "a valid API key is required") \
    X(PROBLEM_FORBIDDEN, 403, "forbidden", 0, "Forbidden", "this API key may not do that")         \
    X(PROBLEM_NOT_FOUND, 404, "not_found", 0, "Not Found", "there is no such resource")            \
    X(PROBLEM_METHOD, 405, "method_not_allowed", 0, "Method Not Allowed",                          \
      "this resource does not know that method")                                                   \
    X(PROBLEM_CONFLICT, 409, "conflict", 0, "Conflict",                                            \
      "the resource is not in a state that allows it")                                             \
    X(PROBLEM_TIMEOUT, 408, "request_timeout", 0, "Request Timeout",                               \
      "the request did not arrive in time")                                                        \
    X(PROBLEM_LENGTH_REQUIRED, 411, "body_too_large", 0, "Length Required",                        \
      "a body needs Content-Length or Transfer-Encoding: chunked")                                 \
    X(PROBLEM_BODY_TOO_LARGE, 413, "body_too_large", 0, "Content Too Large",                       \
      "the body is larger than this server takes")                                                 \
    X(PROBLEM_URI_TOO_LONG, 414, "uri_too_long", 0, "URI Too Long",                                \
      "the request target is longer than this server takes")                                       \
    X(PROBLEM_MEDIA_TYPE, 415, "unsupported_media_type", 0, "Unsupported Media Type",              \
      "this resource does not take a body of that media type")                                     \
    X(PROBLEM_CODING, 415, "unsupported_media_type", 0, "Unsupported Media Type",                  \
      "the body must have no content coding, or gzip")                                             \
    X(PROBLEM_MISMATCH, 422, "idempotency_mismatch", 0, "Unprocessable Content",                   \
      "this Idempotency-Key was used before with a different body")                                \
    X(PROBLEM_LETTER_REFUSED, 422, "event_refused", 0, "Unprocessable Content",                    \
      "the database still refuses the event; its dead letter stays")                               \
    X(PROBLEM_RATE_LIMITED, 429, "rate_limited", 1, "Too Many Requests",                           \
      "more events than the rate limit allows")                                                    \
    X(PROBLEM_OVER_BURST, 413, "body_too_large", 0, "Content Too Large",                           \
      "more events at once than the rate limit's burst; send them in smaller requests")            \
    X(PROBLEM_HEADERS_TOO_LARGE, 431, "headers_too_large", 0, "Request Header Fields Too Large",   \
      "the request head is larger than this server takes")                                         \
    X(PROBLEM_OUTCOME_UNKNOWN, 500, "outcome_unknown", 0, "Internal Server Error",                 \
      "the event may or may not have been stored; a retry with the same id is safe")               \
    X(PROBLEM_BACKPRESSURE, 503, "backpressure", 1, "Service Unavailable",                         \
      "the server is at its limit; nothing was stored")                                            \
    X(PROBLEM_LOG_FULL, 503, "log_full", 5, "Service Unavailable",                                 \
      "the log has reached its byte limit; nothing was stored")                                    \
    X(PROBLEM_SHUTTING_DOWN, 503, "shutting_down", 2, "Service Unavailable",                       \
      "the server is stopping; nothing was stored")                                                \
    X(PROBLEM_LOG_FAILED, 503, "log_failed", 10, "Service Unavailable",                            \
      "the log takes no more writes; nothing was stored")                                          \
    X(PROBLEM_DATABASE, 503, "database_unavailable", 5, "Service Unavailable",                     \
      "the database cannot be reached; nothing was changed")

enum problem {
#define PROBLEM_MEMBER(name, status, code, retry, title, message) name,
    PROBLEM_LIST(PROBLEM_MEMBER)
#undef PROBLEM_MEMBER
    PROBLEM_COUNT
};

uint16_t problem_status(enum problem problem);
const char *problem_code(enum problem problem);  /* API.md's code, a static string */
const char *problem_title(enum problem problem); /* static string */
uint32_t problem_retry_after_s(enum problem problem);

/* What a journal's refusal or result means to a client; ERR must not be ERR_OK. */
enum problem problem_of_err(enum err err);

/*
 * Appends the application/problem+json body. MESSAGE NULL: the default sentence. MORE: further
 * members, each with a comma before it, or absent.
 */
void problem_json(struct buffer *out, enum problem problem, const char *message,
                  struct span request_id, struct span more);

#endif
