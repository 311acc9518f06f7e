/*
 * decode.h - from a request's bytes to one canonical event, or to a refusal a client can act on.
 *
 * Knows the four shapes T, G, A and C (API.md section 3). JSON is checked strictly (RFC 8259, valid
 * UTF-8, no duplicate member names, bounded depth) and objects are kept as the bytes that came. Any
 * thread.
 */
#ifndef SLUICE_CORE_DECODE_H
#define SLUICE_CORE_DECODE_H

#include "core/base.h"
#include "core/buffer.h"
#include "core/err.h"
#include "core/event.h"

enum decode_route {
    DECODE_INGEST, /* POST /ingest: shape T only */
    DECODE_EVENTS, /* POST /events: the shape is found from the members */
};

struct decode_input {
    enum decode_route route;
    struct span body;
    struct span tenant;
    struct span
        idempotency_key;  /* the header's value as it came, bare or quoted; absent when none */
    struct span trace_id; /* absent or 32 hex digits */
    int64_t now_us;
    int64_t future_skew_max_us;
};

enum {
    DECODE_DEPTH_MAX = 64
};

struct decode_error {
    const char *code;  /* "invalid_json" or "validation_error" (API.md's codes) */
    char message[200]; /* one sentence, without the client's values longer than a few bytes */
};

/*
 * Fills *OUT, which borrows from INPUT's spans and from SCRATCH (appended to, never cleared; it
 * must stay untouched while *OUT is used). ERR_INVALID with *ERROR filled; ERR_NO_MEMORY.
 */
MUST_CHECK enum err decode_event(const struct decode_input *input, struct buffer *scratch,
                                 struct event *out, struct decode_error *error);

#endif
