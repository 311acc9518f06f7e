#include "core/bulk.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/json.h"

enum {
    SCRATCH_KEEP_MAX = 256 * 1024,
    FIRST_EVENTS = 64,
};

void
bulk_init(struct bulk *bulk, const struct bulk_config *config)
{
    memset(bulk, 0, sizeof(*bulk));
    bulk->config = *config;
    split_init(&bulk->splitter, config->format, config->event_bytes_max);
}

void
bulk_fini(struct bulk *bulk)
{
    split_fini(&bulk->splitter);
    buffer_free(&bulk->scratch);
}

void
bulk_feed(struct bulk *bulk, struct span bytes, int64_t now_us)
{
    bulk->now_us = now_us;
    split_feed(&bulk->splitter, bytes);
}

void
bulk_end(struct bulk *bulk)
{
    split_end(&bulk->splitter);
}

size_t
bulk_memory(const struct bulk *bulk)
{
    return split_memory(&bulk->splitter) + bulk->scratch.capacity;
}

static enum bulk_step
fail(struct bulk_item *item, enum bulk_step step, const char *code, const char *text)
{
    item->error.code = code;
    snprintf(item->error.message, sizeof(item->error.message), "%s", text);
    return step;
}

/*
 * An element that is no JSON. A line or a row is only itself; in a JSON text it means that the
 * whole is no JSON, and nothing in it can be trusted.
 */
static enum bulk_step
refuse_json(struct bulk *bulk, struct span text, struct bulk_item *item)
{
    struct json_text scanned;
    struct json_error error;
    enum err err;

    switch (bulk->config.format) {
    case SPLIT_LINES:
        break;
    case SPLIT_CSV: /* the object around the cells is ours */
        return fail(item, BULK_REFUSED, "validation_error", "a cell is not valid UTF-8");
    case SPLIT_JSON:
        err = json_scan(text, DECODE_DEPTH_MAX, &scanned, &error);
        if (err == ERR_INVALID) {
            return BULK_BROKEN;
        }
        return err == ERR_OK ? fail(item, BULK_REFUSED, "validation_error", "must be an object")
                             : BULK_NO_MEMORY;
    }
    return BULK_REFUSED;
}

static enum bulk_step
decode(struct bulk *bulk, struct span text, struct bulk_item *item)
{
    const struct decode_input input = {
        .route = DECODE_EVENTS,
        .body = text,
        .tenant = bulk->config.tenant,
        .trace_id = bulk->config.trace_id,
        .now_us = bulk->now_us,
        .future_skew_max_us = bulk->config.future_skew_max_us,
    };
    enum err err;

    buffer_clear(&bulk->scratch, SCRATCH_KEEP_MAX);
    err = decode_event(&input, &bulk->scratch, &item->event, &item->error);
    if (err == ERR_OK) {
        return BULK_EVENT;
    }
    if (err != ERR_INVALID) {
        return BULK_NO_MEMORY;
    }
    if (strcmp(item->error.code, "invalid_json") == 0) {
        return refuse_json(bulk, text, item);
    }
    return BULK_REFUSED;
}

static enum bulk_step
take_element(struct bulk *bulk, enum split_step step, struct span text, struct bulk_item *item)
{
    const struct bulk_config *config = &bulk->config;

    if (bulk->elements >= config->elements_max) {
        return fail(item, BULK_TOO_BIG, "body_too_large",
                    "more events in one bulk than MAX_BULK_EVENTS");
    }
    item->index = bulk->elements++;
    if (step == SPLIT_BAD) {
        const struct split_error *error = &bulk->splitter.error;

        return fail(item, BULK_REFUSED, error->code, error->text);
    }
    if (text.len > config->text_bytes_max - bulk->text_bytes) {
        return fail(item, BULK_TOO_BIG, "body_too_large",
                    "the rows as JSON are larger than MAX_BODY_BYTES");
    }
    bulk->text_bytes += text.len;
    return decode(bulk, text, item);
}

enum bulk_step
bulk_next(struct bulk *bulk, struct bulk_item *item)
{
    const struct split_error *error = &bulk->splitter.error;
    struct span text = {NULL, 0};
    enum split_step step = split_next(&bulk->splitter, &text);

    switch (step) {
    case SPLIT_MORE:
        return BULK_MORE;
    case SPLIT_DONE:
        return BULK_DONE;
    case SPLIT_NO_MEMORY:
        return BULK_NO_MEMORY;
    case SPLIT_BROKEN:
        return fail(item, BULK_BROKEN, error->code, error->text);
    case SPLIT_ELEMENT:
    case SPLIT_BAD:
        break;
    }
    return take_element(bulk, step, text, item);
}

/* ---- packs ---- */

static bool
reserve_event(struct bulk_pack *pack)
{
    const uint32_t capacity = pack->capacity == 0 ? FIRST_EVENTS : 2 * pack->capacity;
    struct append_event *events;

    if (pack->count < pack->capacity) {
        return true;
    }
    ASSERT(capacity > pack->capacity);
    events = realloc(pack->events, capacity * sizeof(*events));
    if (events == NULL) {
        return false;
    }
    pack->events = events;
    pack->capacity = capacity;
    return true;
}

enum err
bulk_pack_add(struct bulk_pack *pack, const struct event *event)
{
    const size_t start = pack->bytes.len;
    struct append_event *item;

    if (!reserve_event(pack)) {
        return ERR_NO_MEMORY;
    }
    event_encode(event, &pack->bytes);
    if (pack->bytes.failed) {
        return ERR_NO_MEMORY;
    }
    item = &pack->events[pack->count++];
    memset(item, 0, sizeof(*item));
    item->body.len = pack->bytes.len - start; /* where it lies is known when the block is final */
    item->has_key = event->id_by_client;
    memcpy(item->key, event->key, sizeof(item->key));
    item->content_crc = event->content_crc;
    return ERR_OK;
}

void
bulk_pack_seal(struct bulk_pack *pack)
{
    const char *at = pack->bytes.data;

    for (uint32_t i = 0; i < pack->count; i++) {
        pack->events[i].body.data = at;
        at += pack->events[i].body.len;
    }
}

void
bulk_pack_free(struct bulk_pack *pack)
{
    free(pack->events);
    buffer_free(&pack->bytes);
    *pack = (struct bulk_pack){0};
}

size_t
bulk_pack_memory(const struct bulk_pack *pack)
{
    return pack->bytes.capacity + pack->capacity * sizeof(*pack->events);
}
