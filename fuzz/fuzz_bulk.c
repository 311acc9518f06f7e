/*
 * A bulk as it comes from a socket. The first byte picks the format, the second how the rest is cut
 * into pieces; the same bytes in one piece must come to the same items.
 *
 * A refused element names a code and a sentence. An event survives encoding and decoding. No limit
 * of the config is passed.
 */
#include <stdlib.h>

#include "core/base/crc32c.h"
#include "core/bulk.h"
#include "fuzz/fuzz.h"

enum {
    ELEMENTS_MAX = 50,
    EVENT_BYTES_MAX = 200,
    TEXT_BYTES_MAX = 2000,
};

static const int64_t now_us = INT64_C(1790000000000000);

/* What a run over the bytes came to. */
struct reading {
    uint32_t digest; /* of all items */
    enum bulk_step last;
    uint64_t elements;
};

static void
mix(struct reading *reading, const void *bytes, size_t len)
{
    reading->digest = crc32c(reading->digest, &len, sizeof(len));
    reading->digest = crc32c(reading->digest, bytes == NULL ? "" : bytes, len);
}

static void
mix_span(struct reading *reading, struct span span)
{
    mix(reading, span.data, span.len);
}

static void
mix_event(struct reading *reading, const struct event *event)
{
    mix(reading, &event->shape, sizeof(event->shape));
    mix(reading, &event->status, sizeof(event->status));
    mix(reading, &event->latency_ms, sizeof(event->latency_ms));
    mix(reading, &event->occurred_at_us, sizeof(event->occurred_at_us));
    mix(reading, &event->content_crc, sizeof(event->content_crc));
    mix(reading, event->key, sizeof(event->key));
    if (event->id_by_client) { /* else it is a new one each time */
        mix_span(reading, event->id);
    }
    mix_span(reading, event->name);
    mix_span(reading, event->service);
    mix_span(reading, event->channel);
    mix_span(reading, event->campaign_id);
    mix_span(reading, event->user_id);
    mix_span(reading, event->tags);
    mix_span(reading, event->properties);
}

static void
take_error(struct reading *reading, const struct decode_error *error)
{
    ASSERT(strcmp(error->code, "invalid_json") == 0 ||
           strcmp(error->code, "validation_error") == 0 ||
           strcmp(error->code, "body_too_large") == 0);
    ASSERT(error->message[0] != '\0');
    mix_span(reading, span_of(error->code));
    mix_span(reading, span_of(error->message));
}

static void
take_event(struct reading *reading, const struct event *event, struct bulk_pack *pack)
{
    enum err err = bulk_pack_add(pack, event);

    ASSERT(err == ERR_OK);
    mix_event(reading, event);
}

/* Takes all items there are now; false after the last step. */
static bool
take_items(struct bulk *bulk, struct reading *reading, struct bulk_pack *pack)
{
    struct bulk_item item;

    for (;;) {
        enum bulk_step step = bulk_next(bulk, &item);

        reading->last = step;
        if (step == BULK_MORE) {
            return true;
        }
        mix(reading, &step, sizeof(step));
        switch (step) {
        case BULK_EVENT:
            ASSERT(item.index == reading->elements++);
            take_event(reading, &item.event, pack);
            break;
        case BULK_REFUSED:
            ASSERT(item.index == reading->elements++);
            take_error(reading, &item.error);
            break;
        case BULK_BROKEN:
        case BULK_TOO_BIG:
            take_error(reading, &item.error);
            return false;
        case BULK_DONE:
        case BULK_MORE:
            return false;
        case BULK_NO_MEMORY:
            ASSERT(false);
        }
    }
}

static void
check_pack(struct bulk_pack *pack)
{
    bulk_pack_seal(pack);
    for (uint32_t i = 0; i < pack->count; i++) {
        struct event event;
        enum err err = event_decode(pack->events[i].body, &event);

        ASSERT(err == ERR_OK);
        ASSERT(event.id_by_client == pack->events[i].has_key);
    }
    ASSERT(pack->count <= ELEMENTS_MAX);
}

static struct reading
run(enum split_format format, struct span bytes, size_t piece)
{
    const struct bulk_config config = {
        .format = format,
        .event_bytes_max = EVENT_BYTES_MAX,
        .elements_max = ELEMENTS_MAX,
        .text_bytes_max = TEXT_BYTES_MAX,
        .future_skew_max_us = 1000000,
        .tenant = SPAN_LITERAL("default"),
    };
    struct reading reading = {0, BULK_MORE, 0};
    struct bulk_pack pack = {0};
    struct bulk bulk;
    bool open = true;

    bulk_init(&bulk, &config);
    for (size_t at = 0; open && at < bytes.len; at += piece) {
        const size_t len = bytes.len - at < piece ? bytes.len - at : piece;
        char *copy = malloc(len); /* of the exact size: a step beyond it is seen */

        ASSERT(copy != NULL);
        memcpy(copy, bytes.data + at, len);
        bulk_feed(&bulk, (struct span){copy, len}, now_us);
        open = take_items(&bulk, &reading, &pack);
        free(copy);
    }
    if (open) {
        bulk_end(&bulk);
        open = take_items(&bulk, &reading, &pack);
        ASSERT(!open);
    }
    ASSERT(bulk.elements == reading.elements || /* the last step may be about an element */
           (!open && reading.last != BULK_DONE && bulk.elements == reading.elements + 1));
    ASSERT(bulk.text_bytes <= TEXT_BYTES_MAX);
    check_pack(&pack);
    bulk_pack_free(&pack);
    bulk_fini(&bulk);
    ASSERT(bulk_memory(&bulk) == 0);
    return reading;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span bytes;
    struct reading whole;
    struct reading cut;
    enum split_format format;

    if (size < 3) {
        return 0;
    }
    bytes = (struct span){(const char *)data + 2, size - 2};
    format = (enum split_format)(data[0] % 3);
    whole = run(format, bytes, bytes.len);
    cut = run(format, bytes, 1 + data[1] % 64U);
    ASSERT(whole.digest == cut.digest);
    ASSERT(whole.last == cut.last);
    ASSERT(whole.elements == cut.elements);
    return 0;
}
