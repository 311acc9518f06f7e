/*
 * buffer.h - growable bytes: request bodies, answers, encoded records, JSON being written.
 *
 * A buffer lives in its owner's memory and owns one heap block. Out of memory is remembered
 * (buffer->failed) and later appends do nothing, so a writer checks once, at the end.
 * One thread at a time.
 */
#ifndef SLUICE_CORE_BUFFER_H
#define SLUICE_CORE_BUFFER_H

#include "core/base/base.h"
#include "core/base/err.h"

struct buffer {
    char *data;
    size_t len;
    size_t capacity;
    bool failed; /* an append found no memory; the content is incomplete */
};

#define BUFFER_EMPTY ((struct buffer){NULL, 0, 0, false})

/* Frees the block and leaves an empty buffer. */
void buffer_free(struct buffer *buffer);

/* Forgets the content, keeps the block when it is at most KEEP_MAX bytes. Clears FAILED. */
void buffer_clear(struct buffer *buffer, size_t keep_max);

/* Makes room for MORE further bytes. ERR_NO_MEMORY leaves the content as it was and sets FAILED. */
MUST_CHECK enum err buffer_reserve(struct buffer *buffer, size_t more);

void buffer_append(struct buffer *buffer, const void *bytes, size_t len);
void buffer_append_span(struct buffer *buffer, struct span span);
void buffer_append_text(struct buffer *buffer, const char *text);
void buffer_append_char(struct buffer *buffer, char c);
void buffer_append_u64(struct buffer *buffer, uint64_t value);
void buffer_append_i64(struct buffer *buffer, int64_t value);
void buffer_printf(struct buffer *buffer, const char *format, ...) PRINTF_LIKE(2, 3);

/* Appends TEXT as a JSON string with its quotes; TEXT must be valid UTF-8. */
void buffer_append_json_string(struct buffer *buffer, struct span text);

/* Appends a finite number in the shortest form that reads back the same; null when not finite. */
void buffer_append_json_number(struct buffer *buffer, double value);

static inline struct span
buffer_span(const struct buffer *buffer)
{
    return (struct span){buffer->data, buffer->len};
}

#endif
