#include "core/slo/line.h"

#include <stdlib.h>

void *
line_insert(struct line *line, size_t size, int64_t start)
{
    size_t at = line_lower(line, size, start);
    char *item;

    if (line->len == line->capacity) {
        size_t capacity = line->capacity == 0 ? 4 : line->capacity + line->capacity / 2;
        void *items = realloc(line->items, capacity * size);
        if (items == NULL) {
            return NULL;
        }
        line->items = items;
        line->capacity = capacity;
    }
    item = line_item(line, size, at);
    memmove(item + size, item, (line->len - at) * size);
    memset(item, 0, size);
    *(int64_t *)(void *)item = start;
    line->len++;
    return item;
}

void
line_remove(struct line *line, size_t size, size_t at, size_t count)
{
    char *item = line_item(line, size, at);

    if (count == 0) {
        return;
    }
    ASSERT(at + count <= line->len);
    memmove(item, item + count * size, (line->len - at - count) * size);
    line->len -= count;
}

void
line_free(struct line *line)
{
    free(line->items);
    *line = (struct line){NULL, 0, 0};
}
