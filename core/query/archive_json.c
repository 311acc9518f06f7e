#include "core/query/archive_json.h"

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/base/json_member.h"
#include "core/base/timestamp.h"
#include "core/base/uuid.h"

enum {
    CURSOR_VERSION = 1,
    CRC_AT = ARCHIVE_CURSOR_BYTES - 4,
};

/* ---- the cursor ---- */

static uint32_t
digest_span(uint32_t digest, struct span span)
{
    uint8_t head[9];

    head[0] = span.data != NULL;
    put_u64(head + 1, span.len);
    digest = crc32c(digest, head, sizeof(head));
    return span.len > 0 ? crc32c(digest, span.data, span.len) : digest;
}

static uint32_t
digest_filter(const struct archive_filter *filter)
{
    const struct span spans[] = {filter->tenant,  filter->event_name,  filter->service,
                                 filter->channel, filter->campaign_id, filter->user_id};
    uint8_t bounds[16];
    uint32_t digest = 0;

    for (size_t i = 0; i < ARRAY_LEN(spans); i++) {
        digest = digest_span(digest, spans[i]);
    }
    put_u64(bounds, (uint64_t)filter->from_us);
    put_u64(bounds + 8, (uint64_t)filter->to_us);
    return crc32c(digest, bounds, sizeof(bounds));
}

void
archive_cursor_write(const struct archive_request *request, const struct archive_position *at,
                     struct buffer *out)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t bytes[ARCHIVE_CURSOR_BYTES];

    bytes[0] = CURSOR_VERSION;
    bytes[1] = request->descending ? 1 : 0;
    put_u32(bytes + 2, digest_filter(&request->filter));
    put_u64(bytes + 6, (uint64_t)at->occurred_us);
    memcpy(bytes + 14, at->node_id, JOURNAL_NODE_ID_SIZE);
    put_u64(bytes + 30, at->seq);
    put_u32(bytes + CRC_AT, crc32c(0, bytes, CRC_AT));
    for (size_t i = 0; i < sizeof(bytes); i++) {
        buffer_append_char(out, digits[bytes[i] >> 4]);
        buffer_append_char(out, digits[bytes[i] & 15]);
    }
}

/* The value of a lower-case hexadecimal digit; 16 for anything else. */
static uint8_t
hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return (uint8_t)(c - '0');
    }
    return c >= 'a' && c <= 'f' ? (uint8_t)(c - 'a' + 10) : 16;
}

enum err
archive_cursor_read(struct span text, struct archive_request *request)
{
    uint8_t bytes[ARCHIVE_CURSOR_BYTES];

    if (text.len != ARCHIVE_CURSOR_LEN) {
        return ERR_INVALID;
    }
    for (size_t i = 0; i < sizeof(bytes); i++) {
        const uint8_t high = hex_value(text.data[2 * i]);
        const uint8_t low = hex_value(text.data[2 * i + 1]);

        if (high > 15 || low > 15) {
            return ERR_INVALID;
        }
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    if (bytes[0] != CURSOR_VERSION || bytes[1] > 1 ||
        get_u32(bytes + CRC_AT) != crc32c(0, bytes, CRC_AT)) {
        return ERR_INVALID;
    }
    if ((bytes[1] == 1) != request->descending ||
        get_u32(bytes + 2) != digest_filter(&request->filter)) {
        return ERR_NOT_FOUND;
    }
    request->after.occurred_us = (int64_t)get_u64(bytes + 6);
    memcpy(request->after.node_id, bytes + 14, JOURNAL_NODE_ID_SIZE);
    request->after.seq = get_u64(bytes + 30);
    /* A checksum is no proof that we made it: times outside of the calendar cannot be printed. */
    if (request->after.occurred_us < TIMESTAMP_MIN_US ||
        request->after.occurred_us > TIMESTAMP_MAX_US) {
        return ERR_INVALID;
    }
    request->has_after = true;
    return ERR_OK;
}

/* ---- the answer ---- */

static void
write_time(struct buffer *out, const char *name, int64_t us)
{
    json_member_time(out, name,
                     us < TIMESTAMP_MIN_US   ? TIMESTAMP_MIN_US
                     : us > TIMESTAMP_MAX_US ? TIMESTAMP_MAX_US
                                             : us);
}

static void
write_event(struct buffer *out, const struct archive_item *item)
{
    const struct event *event = &item->event;
    char node[UUID_TEXT_SIZE];

    buffer_append_text(out, "{\"event_id\":");
    buffer_append_json_string(out, event->id);
    json_member_text(out, "event_name", event->name);
    json_member_text(out, "service", event->service);
    buffer_append_text(out, ",\"status\":");
    if (event->has_status) {
        buffer_append_u64(out, event->status);
    } else {
        buffer_append_text(out, "null");
    }
    buffer_append_text(out, ",\"latency_ms\":");
    if (event->has_latency) {
        buffer_append_json_number(out, event->latency_ms);
    } else {
        buffer_append_text(out, "null");
    }
    json_member_text(out, "channel", event->channel);
    json_member_text(out, "campaign_id", event->campaign_id);
    json_member_text(out, "user_id", event->user_id);
    json_member_raw(out, "tags", event->tags);
    json_member_raw(out, "properties", event->properties);
    json_member_text(out, "trace_id", event->trace_id);
    write_time(out, "timestamp", item->position.occurred_us);
    write_time(out, "created_at", event->created_at_us);
    uuid_text(item->position.node_id, node);
    buffer_printf(out, ",\"node_id\":\"%s\",\"seq\":", node);
    buffer_append_u64(out, item->position.seq);
    buffer_append_char(out, '}');
}

void
archive_page_json(const struct archive_answer *answer, struct buffer *out)
{
    const struct archive_page *page = answer->page;

    buffer_append_text(out, "{\"events\":[");
    for (size_t i = 0; i < page->count; i++) {
        if (i > 0) {
            buffer_append_char(out, ',');
        }
        write_event(out, page->items[i]);
    }
    buffer_append_text(out, "],\"next_cursor\":");
    if (page->more && page->count > 0) {
        buffer_append_char(out, '"');
        archive_cursor_write(answer->request, &page->items[page->count - 1]->position, out);
        buffer_append_char(out, '"');
    } else {
        buffer_append_text(out, "null");
    }
    write_time(out, "as_of", answer->now_us);
    buffer_append_text(out, ",\"pending\":");
    buffer_append_u64(out, answer->pending_events);
    buffer_append_text(out, ",\"degraded\":");
    buffer_append_text(out, page->degraded ? "true" : "false");
    buffer_append_text(out, "}\n");
}
