#include "cli/import_event.h"

#include "core/base/clock.h"
#include "core/base/json.h"

enum {
    SCRATCH_KEEP_MAX = 1 << 20
};

/* The text's member event_id, which stands for "none" (null or an empty string), or false. */
static bool
find_empty_id(const struct json_text *text, struct span *value_out)
{
    struct json_walk walk = {0, 0};
    struct json_member member;

    while (json_text_next(text, &walk, &member)) {
        if (json_content_is(member.name, member.name_escaped, SPAN_LITERAL("event_id"))) {
            *value_out = member.value.raw;
            return true;
        }
    }
    return false;
}

static void
append_with_id(const struct json_text *text, const char *name, uint64_t line, struct buffer *out)
{
    const struct span raw = text->value.raw;
    const char *end = raw.data + raw.len;
    const char *from = raw.data + 1; /* behind the brace */
    struct span empty;

    if (find_empty_id(text, &empty)) {
        buffer_append(out, raw.data, (size_t)(empty.data - raw.data));
        from = empty.data + empty.len;
    } else {
        buffer_append_text(out, "{\"event_id\":");
    }
    buffer_append_char(out, '"');
    buffer_append_text(out, name);
    buffer_printf(out, "-%llu\"", (unsigned long long)line);
    if (text->member_count > 0 && from == raw.data + 1) {
        buffer_append_char(out, ',');
    }
    buffer_append(out, from, (size_t)(end - from));
}

/* In valid JSON a bare line end can only stand between tokens. */
static void
join_lines(struct buffer *out, size_t start)
{
    for (size_t i = start; i < out->len; i++) {
        if (out->data[i] == '\n') {
            out->data[i] = ' ';
        }
    }
}

enum err
import_event_append(struct span text, const char *name, uint64_t line, struct buffer *scratch,
                    struct buffer *out, struct decode_error *error)
{
    const struct decode_input input = {
        .route = DECODE_EVENTS,
        .body = text,
        .tenant = SPAN_LITERAL("default"),
        .now_us = clock_wall_us(clock_system()),
        .future_skew_max_us = INT64_MAX / 4, /* the server's clock is the judge */
    };
    const size_t start = out->len;
    struct event event;
    enum err err;

    buffer_clear(scratch, SCRATCH_KEEP_MAX);
    err = decode_event(&input, scratch, &event, error);
    if (err != ERR_OK) {
        return err;
    }
    if (event.id_by_client) {
        buffer_append_span(out, text);
    } else {
        struct json_text scanned;
        struct json_error ignored;

        err = json_scan(text, DECODE_DEPTH_MAX, &scanned, &ignored);
        ASSERT(err != ERR_INVALID); /* it was decoded */
        if (err != ERR_OK) {
            return err;
        }
        append_with_id(&scanned, name, line, out);
    }
    join_lines(out, start);
    buffer_append_char(out, '\n');
    if (out->failed) {
        return ERR_NO_MEMORY;
    }
    return ERR_OK;
}
