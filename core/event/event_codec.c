/*
 * The bytes of one event, little-endian, version 1:
 *
 *   0   u8   version = 1
 *   1   u8   shape (enum event_shape)
 *   2   u8   flags: 1 has_status, 2 has_latency, 4 id_by_client
 *   3   u8   zero
 *   4   u16  status
 *   6   u8   length of tenant       10  u8  length of channel
 *   7   u8   length of id           11  u8  length of campaign_id
 *   8   u8   length of name         12  u8  length of user_id
 *   9   u8   length of service      13  u8  length of trace_id
 *   14  u16  zero
 *   16  u32  length of tags
 *   20  u32  length of properties
 *   24  u32  CRC32C of the request's content
 *   28  u32  zero
 *   32  i64  occurred_at, microseconds since 1970 UTC
 *   40  i64  created_at
 *   48  f64  latency_ms, the bits of an IEEE 754 double
 *   56  16 bytes  idempotency key
 *   72  the strings, in the order of the lengths, then tags, then properties
 *
 * A length of zero means absent.
 */
#include "core/event/event.h"

#include <math.h>

#include "core/base/bytes.h"
#include "core/base/sha256.h"

enum {
    FIXED_SIZE = 72,
    STRING_COUNT = 8,
    FLAG_STATUS = 1,
    FLAG_LATENCY = 2,
    FLAG_CLIENT_ID = 4,
};

void
event_key(struct span tenant, struct span id, uint8_t key_out[EVENT_KEY_SIZE])
{
    uint8_t text[2 * EVENT_NAME_MAX + 1];
    uint8_t digest[SHA256_SIZE];

    ASSERT(tenant.len <= EVENT_NAME_MAX);
    ASSERT(id.len <= EVENT_NAME_MAX);
    memcpy(text, tenant.data, tenant.len);
    text[tenant.len] = 0; /* names hold no NUL, so the two cannot run into each other */
    memcpy(text + tenant.len + 1, id.data, id.len);
    sha256(text, tenant.len + 1 + id.len, digest);
    memcpy(key_out, digest, EVENT_KEY_SIZE);
}

void
event_encode(const struct event *event, struct buffer *out)
{
    const struct span string[STRING_COUNT] = {
        event->tenant,  event->id,          event->name,    event->service,
        event->channel, event->campaign_id, event->user_id, event->trace_id,
    };
    uint8_t fixed[FIXED_SIZE] = {0};
    uint64_t latency_bits;

    ASSERT(event->tenant.len > 0);
    ASSERT(event->id.len > 0);
    ASSERT(event->name.len > 0);
    fixed[0] = EVENT_VERSION;
    fixed[1] = narrow_u8((uint64_t)event->shape);
    fixed[2] =
        (uint8_t)((event->has_status ? FLAG_STATUS : 0) | (event->has_latency ? FLAG_LATENCY : 0) |
                  (event->id_by_client ? FLAG_CLIENT_ID : 0));
    put_u16(fixed + 4, event->status);
    for (int i = 0; i < STRING_COUNT; i++) {
        fixed[6 + i] = narrow_u8(string[i].len);
    }
    put_u32(fixed + 16, narrow_u32(event->tags.len));
    put_u32(fixed + 20, narrow_u32(event->properties.len));
    put_u32(fixed + 24, event->content_crc);
    put_u64(fixed + 32, (uint64_t)event->occurred_at_us);
    put_u64(fixed + 40, (uint64_t)event->created_at_us);
    memcpy(&latency_bits, &event->latency_ms, sizeof(latency_bits));
    put_u64(fixed + 48, latency_bits);
    memcpy(fixed + 56, event->key, EVENT_KEY_SIZE);

    buffer_append(out, fixed, FIXED_SIZE);
    for (int i = 0; i < STRING_COUNT; i++) {
        buffer_append_span(out, string[i]);
    }
    buffer_append_span(out, event->tags);
    buffer_append_span(out, event->properties);
}

static struct span
take(const char **at, size_t len)
{
    struct span span = {len == 0 ? NULL : *at, len};

    *at += len;
    return span;
}

static bool
lengths_fit(const uint8_t *fixed, size_t total)
{
    uint64_t sum = FIXED_SIZE;

    for (int i = 0; i < STRING_COUNT; i++) {
        sum += fixed[6 + i];
    }
    sum += get_u32(fixed + 16);
    sum += get_u32(fixed + 20);
    return sum == total;
}

static bool
fields_valid(const struct event *event, uint8_t flags)
{
    return event->shape >= EVENT_TELEMETRY && event->shape <= EVENT_CHANNEL && flags <= 7 &&
           event->tenant.len > 0 && event->id.len > 0 && event->name.len > 0 &&
           isfinite(event->latency_ms) && event->latency_ms >= 0 &&
           (!event->has_status || (event->status >= 100 && event->status <= 599));
}

enum err
event_decode(struct span bytes, struct event *out)
{
    uint8_t fixed[FIXED_SIZE];
    struct event event = {0};
    uint64_t latency_bits;
    const char *at;

    if (bytes.len < FIXED_SIZE) {
        return ERR_CORRUPT;
    }
    memcpy(fixed, bytes.data, FIXED_SIZE);
    if (fixed[0] != EVENT_VERSION) {
        return ERR_FORMAT;
    }
    if (!lengths_fit(fixed, bytes.len)) {
        return ERR_CORRUPT;
    }
    event.shape = (enum event_shape)fixed[1];
    event.has_status = (fixed[2] & FLAG_STATUS) != 0;
    event.has_latency = (fixed[2] & FLAG_LATENCY) != 0;
    event.id_by_client = (fixed[2] & FLAG_CLIENT_ID) != 0;
    event.status = get_u16(fixed + 4);
    event.content_crc = get_u32(fixed + 24);
    event.occurred_at_us = (int64_t)get_u64(fixed + 32);
    event.created_at_us = (int64_t)get_u64(fixed + 40);
    latency_bits = get_u64(fixed + 48);
    memcpy(&event.latency_ms, &latency_bits, sizeof(latency_bits));
    memcpy(event.key, fixed + 56, EVENT_KEY_SIZE);

    at = bytes.data + FIXED_SIZE;
    event.tenant = take(&at, fixed[6]);
    event.id = take(&at, fixed[7]);
    event.name = take(&at, fixed[8]);
    event.service = take(&at, fixed[9]);
    event.channel = take(&at, fixed[10]);
    event.campaign_id = take(&at, fixed[11]);
    event.user_id = take(&at, fixed[12]);
    event.trace_id = take(&at, fixed[13]);
    event.tags = take(&at, get_u32(fixed + 16));
    event.properties = take(&at, get_u32(fixed + 20));
    if (!fields_valid(&event, fixed[2])) {
        return ERR_CORRUPT;
    }
    *out = event;
    return ERR_OK;
}
