#include "core/base/buffer.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/decimal.h"

enum {
    FIRST_CAPACITY = 256
};

void
buffer_free(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = BUFFER_EMPTY;
}

void
buffer_clear(struct buffer *buffer, size_t keep_max)
{
    if (buffer->capacity > keep_max) {
        buffer_free(buffer);
    }
    buffer->len = 0;
    buffer->failed = false;
}

enum err
buffer_reserve(struct buffer *buffer, size_t more)
{
    size_t capacity = buffer->capacity == 0 ? FIRST_CAPACITY : buffer->capacity;
    char *data;

    if (more <= buffer->capacity - buffer->len) {
        return ERR_OK;
    }
    if (more > SIZE_MAX / 4 - buffer->len) {
        buffer->failed = true;
        return ERR_NO_MEMORY;
    }
    while (capacity - buffer->len < more) {
        capacity *= 2;
    }
    data = realloc(buffer->data, capacity);
    if (data == NULL) {
        buffer->failed = true;
        return ERR_NO_MEMORY;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return ERR_OK;
}

void
buffer_append(struct buffer *buffer, const void *bytes, size_t len)
{
    if (len == 0 || buffer->failed || buffer_reserve(buffer, len) != ERR_OK) {
        return;
    }
    memcpy(buffer->data + buffer->len, bytes, len);
    buffer->len += len;
}

void
buffer_append_span(struct buffer *buffer, struct span span)
{
    buffer_append(buffer, span.data, span.len);
}

void
buffer_append_text(struct buffer *buffer, const char *text)
{
    buffer_append(buffer, text, strlen(text));
}

void
buffer_append_char(struct buffer *buffer, char c)
{
    buffer_append(buffer, &c, 1);
}

void
buffer_append_u64(struct buffer *buffer, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);

    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    buffer_append(buffer, digits + at, sizeof(digits) - at);
}

void
buffer_append_i64(struct buffer *buffer, int64_t value)
{
    if (value < 0) {
        buffer_append_char(buffer, '-');
        buffer_append_u64(buffer, (uint64_t)(-(value + 1)) + 1);
        return;
    }
    buffer_append_u64(buffer, (uint64_t)value);
}

void
buffer_printf(struct buffer *buffer, const char *format, ...)
{
    size_t room;
    va_list args;
    int len;

    if (buffer->failed) {
        return;
    }
    room = buffer->capacity - buffer->len;
    va_start(args, format);
    len = vsnprintf(room == 0 ? NULL : buffer->data + buffer->len, room, format, args);
    va_end(args);
    ASSERT(len >= 0);
    if ((size_t)len >= room) { /* once more, with room */
        if (buffer_reserve(buffer, (size_t)len + 1) != ERR_OK) {
            return;
        }
        va_start(args, format);
        vsnprintf(buffer->data + buffer->len, (size_t)len + 1, format, args);
        va_end(args);
    }
    buffer->len += (size_t)len;
}

void
buffer_append_json_string(struct buffer *buffer, struct span text)
{
    size_t start = 0;

    buffer_append_char(buffer, '"');
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];

        if (c >= 0x20 && c != '"' && c != '\\') {
            continue;
        }
        buffer_append(buffer, text.data + start, i - start);
        start = i + 1;
        if (c == '"' || c == '\\') {
            buffer_append_char(buffer, '\\');
            buffer_append_char(buffer, (char)c);
        } else if (c == '\n') {
            buffer_append_text(buffer, "\\n");
        } else {
            buffer_printf(buffer, "\\u%04x", c);
        }
    }
    buffer_append(buffer, text.data + start, text.len - start);
    buffer_append_char(buffer, '"');
}

void
buffer_append_json_number(struct buffer *buffer, double value)
{
    char text[DECIMAL_TEXT_SIZE];

    if (!isfinite(value)) {
        buffer_append_text(buffer, "null");
        return;
    }
    buffer_append(buffer, text, decimal_format(value, text));
}
