#include "core/base/json_member.h"

#include "core/base/timestamp.h"

static void
append_name(struct buffer *out, const char *name)
{
    buffer_append_text(out, ",\"");
    buffer_append_text(out, name);
    buffer_append_text(out, "\":");
}

void
json_member_text(struct buffer *out, const char *name, struct span value)
{
    append_name(out, name);
    if (value.data == NULL) {
        buffer_append_text(out, "null");
    } else {
        buffer_append_json_string(out, value);
    }
}

void
json_member_raw(struct buffer *out, const char *name, struct span value)
{
    size_t start;

    append_name(out, name);
    start = out->len;
    buffer_append_span(out, value.data == NULL ? SPAN_LITERAL("null") : value);
    for (size_t i = start; i < out->len; i++) {
        if (out->data[i] == '\n' || out->data[i] == '\r') {
            out->data[i] = ' ';
        }
    }
}

void
json_member_time(struct buffer *out, const char *name, int64_t us)
{
    char text[TIMESTAMP_TEXT_SIZE];

    if (us < TIMESTAMP_MIN_US || us > TIMESTAMP_MAX_US) {
        json_member_text(out, name, (struct span){NULL, 0});
    } else {
        json_member_text(out, name, (struct span){text, timestamp_format(us, text)});
    }
}

void
json_member_moment(struct buffer *out, const char *name, int64_t us)
{
    json_member_time(out, name, us == 0 ? INT64_MIN : us);
}
