/*
 * event.h - the one canonical event, whatever shape a client sent, and its bytes.
 *
 * The encoded form is the body of a log record (wal frames it with sequence number and checksum).
 * event_codec.c draws the layout byte by byte; changing it bumps EVENT_VERSION.
 * A decoded event borrows from the bytes it was decoded from. Any thread.
 */
#ifndef SLUICE_CORE_EVENT_H
#define SLUICE_CORE_EVENT_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"

enum {
    EVENT_VERSION = 1,
    EVENT_NAME_MAX = 255, /* bytes of any name, id or key */
    EVENT_KEY_SIZE = 16,  /* bytes of the idempotency key */
    EVENT_TRACE_MAX = 32, /* hex digits of a W3C trace id */
};

/* Which reference system's shape the request had; decides the answer's form. */
enum event_shape {
    EVENT_TELEMETRY = 1, /* T: service, status, latency_ms */
    EVENT_GENERIC = 2,   /* G: type, payload */
    EVENT_PRODUCT = 3,   /* A: event_name, properties */
    EVENT_CHANNEL = 4,   /* C: channel, user_id, epoch seconds */
};

struct event {
    enum event_shape shape;
    bool has_status;
    bool has_latency;
    bool id_by_client; /* false: the id is a fresh UUIDv7 and cannot be a repeat */
    uint16_t status;   /* 100-599 */
    double latency_ms; /* >= 0, finite */
    int64_t occurred_at_us;
    int64_t created_at_us;       /* when the server took it */
    uint8_t key[EVENT_KEY_SIZE]; /* event_key(tenant, id); zeros unless id_by_client */
    uint32_t content_crc; /* CRC32C of the request's own bytes, tells a repeat from a mismatch */
    struct span tenant;   /* 1-255 bytes */
    struct span id;       /* 1-255 bytes */
    struct span name;     /* 1-255 bytes */
    struct span service;  /* absent or 1-255 bytes; so are the next three */
    struct span channel;
    struct span campaign_id;
    struct span user_id;
    struct span trace_id;   /* absent or 32 hex digits */
    struct span tags;       /* absent or a JSON array, the bytes that came */
    struct span properties; /* absent or a JSON object, the bytes that came */
};

/* Good in the SLO sense unless an objective says otherwise: a status below 500. */
static inline bool
event_is_good(const struct event *event)
{
    return event->status < 500;
}

/* Only events with a service and a status take part in SLO figures. */
static inline bool
event_is_measured(const struct event *event)
{
    return event->service.data != NULL && event->has_status;
}

/*
 * First 16 bytes of SHA-256(tenant, 0x00, id): the idempotency key. Cryptographic, since a
 * collision would answer a new event as a duplicate, which is a loss.
 */
void event_key(struct span tenant, struct span id, uint8_t key_out[EVENT_KEY_SIZE]);

/* Appends the encoded event. Lengths must be within the limits above (asserted). */
void event_encode(const struct event *event, struct buffer *out);

/*
 * Reads an encoded event; *OUT borrows from BYTES. ERR_CORRUPT when the bytes are not exactly one
 * event, ERR_FORMAT when their version is unknown.
 */
MUST_CHECK enum err event_decode(struct span bytes, struct event *out);

#endif
