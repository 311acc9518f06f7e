/*
 * decode.h - from a request's bytes to one canonical event, or to a refusal a client can act on.
 *
 * Knows the four shapes T, G, A and C (API.md section 3). JSON is checked strictly (RFC 8259, valid
 * UTF-8, no duplicate member names, bounded depth) and objects are kept as the bytes that came. Any
 * thread.
 *
 * Shape. On DECODE_INGEST always T. On DECODE_EVENTS the first that fits: `service` and `status`:
 * T; `channel` or `user_id`: C; `event_name`: A; `type`: G. Null members do not count. When none
 * fits, a member that is there at all (null, or one half of T's pair) tells what was meant, so that
 * the refusal names what is missing: `channel` or `user_id`: C; `event_name`: A; `service`: T.
 * Anything else, `{}` too, is G.
 *
 * Null, and an empty string where a name or an id may be left out, mean "absent".
 *
 * Event id: Idempotency-Key, else `event_id`, else `id`, else for C the lower-case SHA-256 hex of
 * `user_id|event_name|timestamp|campaign_id|channel`, else a UUIDv7. All but the last are the
 * client's (id_by_client): their repeats are duplicates.
 *
 * Name: `event_name`, else `type`, else "telemetry" for T and "event" for G.
 *
 * Timestamp: A takes RFC 3339, C whole seconds since 1970, both required. T and G take RFC 3339 or
 * a number (timestamp.h tells its unit), now when absent; 0 and Go's zero time
 * 0001-01-01T00:00:00Z, which is how clients in that language write an unset field, count as
 * absent.
 *
 * Properties. The object is the first of `properties`, `payload`, `metadata` that is there; each
 * must be an object. Nothing that came is dropped: members that fill no field of the event (unknown
 * ones, those that have no role in this shape, ids that another one outranks) are kept too.
 *   - no such members: the properties are the object's bytes as they came;
 *   - else they are one object: the object's members, then the others in their order, each value
 * the bytes that came;
 *   - if the two share a name, the object is not opened but stays a member under the name it had.
 */
#ifndef SLUICE_CORE_DECODE_H
#define SLUICE_CORE_DECODE_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"
#include "core/event/event.h"

enum decode_route {
    DECODE_INGEST, /* POST /ingest: shape T only */
    DECODE_EVENTS, /* POST /events: the shape is found from the members */
};

struct decode_input {
    enum decode_route route;
    struct span body;
    struct span tenant;          /* 1-255 bytes without NUL */
    struct span idempotency_key; /* the header's value as it came, bare or quoted; absent or blank
                                    when there is none */
    struct span trace_id;        /* absent or 32 hex digits */
    int64_t now_us;
    int64_t future_skew_max_us;
};

enum {
    DECODE_DEPTH_MAX = 64
};

struct decode_error {
    const char *code;  /* "invalid_json" or "validation_error" (API.md's codes) */
    char message[200]; /* one sentence, without the client's values */
};

/*
 * Fills *OUT, which borrows from INPUT's spans and from SCRATCH (appended to, never cleared; it
 * must stay untouched while *OUT is used). ERR_INVALID with *ERROR filled; ERR_NO_MEMORY. Either
 * leaves *OUT and SCRATCH's content as they were.
 *
 * Checks in this order: JSON, the shape's members, timestamp.
 */
MUST_CHECK enum err decode_event(const struct decode_input *input, struct buffer *scratch,
                                 struct event *out, struct decode_error *error);

#endif
