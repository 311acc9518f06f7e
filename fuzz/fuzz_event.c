/*
 * Two halves, chosen by the first byte of the input:
 *
 *   'R'        the rest is an encoded event, as a damaged log might hand it over;
 *   any other  one byte of choices (route, header key, trace id), then a request body.
 *
 * A refused request names a code and a sentence and leaves nothing behind. An accepted one keeps
 * every promise of event.h and decode.h, and survives encoding and decoding.
 */
#include <math.h>

#include "core/base/json.h"
#include "core/base/timestamp.h"
#include "core/event/decode.h"
#include "fuzz/fuzz.h"

static const int64_t now_us = INT64_C(1790000000000000);
static const int64_t skew_us = INT64_C(1000000);

static void
check_text(struct span text, bool required)
{
    ASSERT((text.data == NULL) == (text.len == 0));
    ASSERT(!required || text.len > 0);
    ASSERT(text.len <= EVENT_NAME_MAX);
    ASSERT(text.len == 0 || memchr(text.data, 0, text.len) == NULL);
}

static void
check_same(const struct event *a, const struct event *b)
{
    ASSERT(a->shape == b->shape);
    ASSERT(a->has_status == b->has_status);
    ASSERT(a->has_latency == b->has_latency);
    ASSERT(a->id_by_client == b->id_by_client);
    ASSERT(a->status == b->status);
    ASSERT(a->latency_ms == b->latency_ms);
    ASSERT(a->occurred_at_us == b->occurred_at_us);
    ASSERT(a->created_at_us == b->created_at_us);
    ASSERT(memcmp(a->key, b->key, EVENT_KEY_SIZE) == 0);
    ASSERT(a->content_crc == b->content_crc);
    ASSERT(span_equal(a->tenant, b->tenant));
    ASSERT(span_equal(a->id, b->id));
    ASSERT(span_equal(a->name, b->name));
    ASSERT(span_equal(a->service, b->service));
    ASSERT(span_equal(a->channel, b->channel));
    ASSERT(span_equal(a->campaign_id, b->campaign_id));
    ASSERT(span_equal(a->user_id, b->user_id));
    ASSERT(span_equal(a->trace_id, b->trace_id));
    ASSERT(span_equal(a->tags, b->tags));
    ASSERT(span_equal(a->properties, b->properties));
}

static void
check_round_trip(const struct event *event)
{
    struct buffer bytes = BUFFER_EMPTY;
    struct event back;
    enum err err;

    event_encode(event, &bytes);
    ASSERT(!bytes.failed);
    err = event_decode(buffer_span(&bytes), &back);
    ASSERT(err == ERR_OK);
    check_same(event, &back);
    buffer_free(&bytes);
}

static void
check_json(struct span raw, enum json_type type)
{
    struct json_text text;
    struct json_error error;
    enum err err;

    ASSERT((raw.data == NULL) == (raw.len == 0));
    if (raw.len == 0) {
        return;
    }
    err = json_scan(raw, DECODE_DEPTH_MAX, &text, &error);
    ASSERT(err == ERR_OK);
    ASSERT(text.value.type == type);
    ASSERT(text.value.raw.len == raw.len);
}

static void
check_event(const struct event *event, const struct decode_input *input)
{
    static const uint8_t no_key[EVENT_KEY_SIZE];
    uint8_t key[EVENT_KEY_SIZE];

    check_text(event->tenant, true);
    check_text(event->id, true);
    check_text(event->name, true);
    check_text(event->service, event->shape == EVENT_TELEMETRY);
    check_text(event->channel, event->shape == EVENT_CHANNEL);
    check_text(event->user_id, event->shape == EVENT_CHANNEL);
    check_text(event->campaign_id, false);
    check_json(event->tags, JSON_ARRAY);
    check_json(event->properties, JSON_OBJECT);
    ASSERT(input->route != DECODE_INGEST || event->shape == EVENT_TELEMETRY);
    ASSERT(event->has_status == (event->shape == EVENT_TELEMETRY));
    ASSERT(event->has_latency == (event->shape == EVENT_TELEMETRY));
    ASSERT(!event->has_status || (event->status >= 100 && event->status <= 599));
    ASSERT(isfinite(event->latency_ms));
    ASSERT(event->latency_ms >= 0 && !signbit(event->latency_ms));
    ASSERT(event->occurred_at_us >= TIMESTAMP_MIN_US);
    ASSERT(event->occurred_at_us <= now_us + skew_us);
    ASSERT(event->created_at_us == now_us);
    event_key(event->tenant, event->id, key);
    ASSERT(memcmp(event->key, event->id_by_client ? key : no_key, EVENT_KEY_SIZE) == 0);
    check_round_trip(event);
}

static void
try_request(uint8_t choices, struct span body)
{
    static const char *const header[] = {NULL, "key-1", "\"a\\\"b\"", " \t"};
    struct decode_input input = {
        .route = (choices & 1) != 0 ? DECODE_INGEST : DECODE_EVENTS,
        .body = body,
        .tenant = SPAN_LITERAL("default"),
        .idempotency_key = span_of(header[choices >> 1 & 3]),
        .now_us = now_us,
        .future_skew_max_us = skew_us,
    };
    struct buffer scratch = BUFFER_EMPTY;
    struct decode_error error = {NULL, ""};
    struct event event;
    enum err err;

    if ((choices & 8) != 0) {
        input.trace_id = SPAN_LITERAL("0af7651916cd43dd8448eb211c80319c");
    }
    if ((choices & 16) != 0) { /* the body is a header value this time */
        input.idempotency_key = body;
        input.body = SPAN_LITERAL("{}");
    }
    buffer_append_text(&scratch, "before");
    err = decode_event(&input, &scratch, &event, &error);
    ASSERT(scratch.len >= 6 && memcmp(scratch.data, "before", 6) == 0);
    if (err == ERR_OK) {
        check_event(&event, &input);
    } else {
        ASSERT(err == ERR_INVALID);
        ASSERT(scratch.len == 6);
        ASSERT(error.code != NULL);
        ASSERT(error.message[0] != 0);
        ASSERT(strlen(error.message) < sizeof(error.message) - 1);
    }
    buffer_free(&scratch);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct span rest = {(const char *)data + 1, size - 1};
    struct event event;

    if (size == 0) {
        return 0;
    }
    if (data[0] != 'R') {
        try_request(data[0], rest);
    } else if (event_decode(rest, &event) == ERR_OK) {
        check_round_trip(&event);
    }
    return 0;
}
