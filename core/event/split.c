/*
 * What the formats share: lending bytes, keeping the one element that the pieces cut.
 */
#include "core/event/split.h"

enum {
    KEEP_MAX = 64 * 1024 /* of a buffer between two elements */
};

void
split_init(struct splitter *splitter, enum split_format format, size_t element_bytes_max)
{
    memset(splitter, 0, sizeof(*splitter));
    splitter->format = format;
    splitter->element_bytes_max = element_bytes_max;
}

void
split_fini(struct splitter *splitter)
{
    buffer_free(&splitter->held);
    split_csv_fini(splitter);
}

void
split_feed(struct splitter *splitter, struct span bytes)
{
    ASSERT(splitter->at == splitter->end);
    ASSERT(!splitter->ended);
    splitter->at = bytes.data;
    splitter->end = bytes.data == NULL ? NULL : bytes.data + bytes.len;
}

void
split_end(struct splitter *splitter)
{
    ASSERT(splitter->at == splitter->end);
    splitter->ended = true;
}

enum split_step
split_next(struct splitter *splitter, struct span *out)
{
    if (splitter->given) {
        splitter->given = false;
        buffer_clear(&splitter->held, KEEP_MAX);
    }
    switch (splitter->format) {
    case SPLIT_JSON:
        return split_json_next(splitter, out);
    case SPLIT_LINES:
        return split_lines_next(splitter, out);
    case SPLIT_CSV:
        break;
    }
    return split_csv_next(splitter, out);
}

size_t
split_memory(const struct splitter *splitter)
{
    const struct split_csv *csv = &splitter->csv;

    return splitter->held.capacity + csv->names.capacity + csv->cell.capacity + csv->json.capacity +
           csv->column_capacity * sizeof(*csv->columns);
}

bool
split_is_holding(const struct splitter *splitter)
{
    return splitter->held.len > 0 || splitter->too_long;
}

/* Adds to what is held; past the limit nothing is held any more. False: no memory. */
static bool
hold(struct splitter *splitter, const char *from, size_t len)
{
    if (splitter->too_long || len > splitter->element_bytes_max - splitter->held.len) {
        splitter->too_long = true;
        buffer_clear(&splitter->held, KEEP_MAX);
        return true;
    }
    buffer_append(&splitter->held, from, len);
    return !splitter->held.failed;
}

enum split_step
split_hold(struct splitter *splitter, const char *from)
{
    const size_t len = (size_t)(splitter->end - from);

    splitter->at = splitter->end;
    return hold(splitter, from, len) ? SPLIT_MORE : SPLIT_NO_MEMORY;
}

enum split_step
split_take(struct splitter *splitter, const char *from, const char *to, struct span *out)
{
    const size_t len = (size_t)(to - from);

    if (!split_is_holding(splitter) && len <= splitter->element_bytes_max) {
        *out = (struct span){from, len};
        return SPLIT_ELEMENT;
    }
    if (!hold(splitter, from, len)) {
        return SPLIT_NO_MEMORY;
    }
    if (splitter->too_long) {
        splitter->too_long = false;
        return split_fail(splitter, SPLIT_BAD, "body_too_large",
                          "the event is larger than MAX_EVENT_BYTES");
    }
    splitter->given = true;
    *out = buffer_span(&splitter->held);
    return SPLIT_ELEMENT;
}

enum split_step
split_fail(struct splitter *splitter, enum split_step step, const char *code, const char *text)
{
    splitter->error = (struct split_error){code, text};
    return step;
}
