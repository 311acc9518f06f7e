#include "wal/id_window.h"

#include <stdlib.h>

struct id_window {
    struct id_entry *ring; /* entries [head, head + count) modulo capacity, oldest first */
    uint32_t capacity;
    uint32_t head;
    uint32_t count;
    uint32_t *table; /* linear probing; ring position + 1, 0 is empty */
    uint32_t mask;
};

enum err
id_window_new(struct id_window **out, uint32_t capacity)
{
    struct id_window *window = calloc(1, sizeof(*window));
    uint32_t size = 16;

    ASSERT(capacity >= 1);
    ASSERT(capacity <= UINT32_MAX / 4);
    if (window == NULL) {
        return ERR_NO_MEMORY;
    }
    while (size < capacity * 2) {
        size *= 2;
    }
    window->capacity = capacity;
    window->mask = size - 1;
    window->ring = calloc(capacity, sizeof(*window->ring));
    window->table = calloc(size, sizeof(*window->table));
    if (window->ring == NULL || window->table == NULL) {
        id_window_free(window);
        return ERR_NO_MEMORY;
    }
    *out = window;
    return ERR_OK;
}

void
id_window_free(struct id_window *window)
{
    if (window == NULL) {
        return;
    }
    free(window->ring);
    free(window->table);
    free(window);
}

/* Keys are cryptographic hashes: any four of their bytes are a good table position. */
static uint32_t
home_of(const struct id_window *window, const uint8_t *key)
{
    uint32_t hash;

    memcpy(&hash, key, sizeof(hash));
    return hash & window->mask;
}

const struct id_entry *
id_window_find(const struct id_window *window, const uint8_t key[EVENT_KEY_SIZE])
{
    for (uint32_t at = home_of(window, key); window->table[at] != 0; at = (at + 1) & window->mask) {
        const struct id_entry *entry = &window->ring[window->table[at] - 1];

        if (memcmp(entry->key, key, EVENT_KEY_SIZE) == 0) {
            return entry;
        }
    }
    return NULL;
}

/* Linear probing's deletion: move back each later entry whose home allows it. */
static void
table_remove(struct id_window *window, uint32_t position)
{
    uint32_t hole = home_of(window, window->ring[position].key);
    uint32_t at;

    while (window->table[hole] != position + 1) {
        ASSERT(window->table[hole] != 0);
        hole = (hole + 1) & window->mask;
    }
    for (at = (hole + 1) & window->mask; window->table[at] != 0; at = (at + 1) & window->mask) {
        uint32_t home = home_of(window, window->ring[window->table[at] - 1].key);

        if (((at - home) & window->mask) >= ((at - hole) & window->mask)) {
            window->table[hole] = window->table[at];
            hole = at;
        }
    }
    window->table[hole] = 0;
}

void
id_window_add(struct id_window *window, const struct id_entry *entry)
{
    uint32_t position;
    uint32_t at = home_of(window, entry->key);

    if (window->count == window->capacity) {
        table_remove(window, window->head);
        window->head = (window->head + 1) % window->capacity;
        window->count--;
    }
    position = (uint32_t)(((uint64_t)window->head + window->count) % window->capacity);
    window->ring[position] = *entry;
    window->count++;
    while (window->table[at] != 0) {
        at = (at + 1) & window->mask;
    }
    window->table[at] = position + 1;
}

void
id_window_clear(struct id_window *window)
{
    memset(window->table, 0, ((size_t)window->mask + 1) * sizeof(*window->table));
    window->head = 0;
    window->count = 0;
}

uint32_t
id_window_count(const struct id_window *window)
{
    return window->count;
}
