/*
 * line.h - sorted arrays of items of one size, each beginning with the minute it starts at
 * (int64_t).
 *
 * What the SLO engine keeps over time is mostly asked about and changed at its end, so the end is
 * looked at first. SIZE is the size of an item, the same in every call for one line. An item's
 * address is valid until the next insertion or removal. No locks: whoever has the line has it
 * alone.
 */
#ifndef SLUICE_CORE_LINE_H
#define SLUICE_CORE_LINE_H

#include "core/base/base.h"

/* All zero: empty. */
struct line {
    void *items;
    size_t len;
    size_t capacity;
};

static inline void *
line_item(const struct line *line, size_t size, size_t at)
{
    return (char *)line->items + at * size;
}

static inline int64_t
line_start(const struct line *line, size_t size, size_t at)
{
    return *(const int64_t *)line_item(line, size, at);
}

/* The first item that starts at or after START; line->len when there is none. */
static inline size_t
line_lower(const struct line *line, size_t size, int64_t start)
{
    size_t low = 0;
    size_t high = line->len;

    if (high > 0 && line_start(line, size, high - 1) <= start) { /* nearly all writes are here */
        return line_start(line, size, high - 1) == start ? high - 1 : high;
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (line_start(line, size, middle) < start) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The item that starts at START; NULL when there is none. */
static inline void *
line_find(const struct line *line, size_t size, int64_t start)
{
    size_t at = line_lower(line, size, start);

    if (at == line->len || line_start(line, size, at) != start) {
        return NULL;
    }
    return line_item(line, size, at);
}

/* Makes a zeroed item for START, which must not be there yet; NULL without memory. */
void *line_insert(struct line *line, size_t size, int64_t start);

/* Removes COUNT items from AT on; what they own must be gone. */
void line_remove(struct line *line, size_t size, size_t at, size_t count);

/* Frees the array, not what its items own; the line is empty then. */
void line_free(struct line *line);

#endif
