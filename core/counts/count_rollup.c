/*
 * count_rollup.c - making roll-ups for buckets that have come to rest.
 *
 * A bucket is due when it is over and nothing has been added to it for a moment. Seconds come
 * before minutes, minutes before hours, hours before days, each read from the level below. Nothing
 * is wrong while a roll-up is missing, only slower.
 */
#include <stdlib.h>

#include "core/base/log.h"
#include "core/counts/counts_internal.h"

enum {
    TODO_SLOTS_FIRST = 64,
    NODE_SLOTS_FIRST = 64,
    BUCKETS_PER_COMMIT = 32,
    COMMIT_BYTES = 2 << 20,
    BUILD_BYTES_MAX = 64 << 20, /* of memory, for one bucket */
    WEIGH_EVERY = 4096,
    NODES_OF_ENTRY = 4,
};

#define SETTLE_US INT64_C(2000000)

/* ---- what is to be done ---- */

static uint64_t
hash_bucket(enum count_level level, uint32_t name, int64_t bucket_us)
{
    uint64_t hash = (uint64_t)bucket_us * UINT64_C(0x9e3779b97f4a7c15);

    hash ^= ((uint64_t)name << 3 | level) * UINT64_C(0xff51afd7ed558ccd);
    hash *= UINT64_C(0xc4ceb9fe1a85ec53);
    return hash ^ hash >> 32;
}

static size_t
todo_slot(const struct todo_list *list, enum count_level level, uint32_t name, int64_t bucket_us)
{
    size_t slot = (size_t)hash_bucket(level, name, bucket_us) & (list->slot_count - 1);

    while (list->slots[slot] != 0) {
        const struct todo *item = &list->items[list->slots[slot] - 1];

        if (item->level == level && item->name == name && item->bucket_us == bucket_us) {
            break;
        }
        slot = (slot + 1) & (list->slot_count - 1);
    }
    return slot;
}

static void
index_items(struct todo_list *list)
{
    memset(list->slots, 0, list->slot_count * sizeof(*list->slots));
    for (size_t i = 0; i < list->len; i++) {
        const struct todo *item = &list->items[i];

        list->slots[todo_slot(list, item->level, item->name, item->bucket_us)] = narrow_u32(i + 1);
    }
}

static enum err
todo_reserve(struct todo_list *list)
{
    if (list->len == list->capacity) {
        size_t capacity = list->capacity == 0 ? TODO_SLOTS_FIRST / 2 : list->capacity * 2;
        struct todo *items = realloc(list->items, capacity * sizeof(*items));

        if (items == NULL) {
            return ERR_NO_MEMORY;
        }
        list->items = items;
        list->capacity = capacity;
    }
    if ((list->len + 1) * 2 > list->slot_count) {
        size_t count = list->slot_count == 0 ? TODO_SLOTS_FIRST : list->slot_count * 2;
        uint32_t *slots = malloc(count * sizeof(*slots));

        if (slots == NULL) {
            return ERR_NO_MEMORY;
        }
        free(list->slots);
        list->slots = slots;
        list->slot_count = count;
        index_items(list);
    }
    return ERR_OK;
}

enum err
todo_mark(struct todo_list *list, enum count_level level, uint32_t name, int64_t bucket_us,
          int64_t now_us, bool saved, bool *overflowed_out)
{
    enum err err = todo_reserve(list);
    size_t slot;

    if (err != ERR_OK) {
        return err;
    }
    slot = todo_slot(list, level, name, bucket_us);
    if (list->slots[slot] != 0) {
        list->items[list->slots[slot] - 1].touched_us = now_us;
        return ERR_OK;
    }
    if (list->len >= TODO_MAX) {
        if (!*overflowed_out) {
            log_warn("counts.rollups_skipped", LOG_U64("waiting", list->len),
                     LOG_STR("meaning", "some ranges stay slower to count"), LOG_END);
        }
        *overflowed_out = true;
        return ERR_OK;
    }
    list->items[list->len++] = (struct todo){level, name, bucket_us, now_us, saved};
    list->slots[slot] = narrow_u32(list->len);
    return ERR_OK;
}

void
todo_free(struct todo_list *list)
{
    free(list->items);
    free(list->slots);
    *list = (struct todo_list){0};
}

/* ---- one roll-up being made ---- */

struct node {
    uint16_t channel;
    uint16_t campaign;
    uint64_t total;
    struct user_set users;
};

struct build {
    struct counts *counts;
    struct count_reader *reader;
    const struct todo *item;
    struct node *nodes;
    size_t len;
    size_t capacity;
    uint32_t *slots;
    size_t slot_count;
    size_t since_weighed;
};

static size_t
node_slot(const struct build *build, uint16_t channel, uint16_t campaign)
{
    uint64_t hash = ((uint64_t)channel << 16 | campaign) * UINT64_C(0x9e3779b97f4a7c15);
    size_t slot = (size_t)(hash >> 32) & (build->slot_count - 1);

    while (build->slots[slot] != 0) {
        const struct node *node = &build->nodes[build->slots[slot] - 1];

        if (node->channel == channel && node->campaign == campaign) {
            break;
        }
        slot = (slot + 1) & (build->slot_count - 1);
    }
    return slot;
}

static enum err
node_reserve(struct build *build)
{
    size_t count = build->slot_count == 0 ? NODE_SLOTS_FIRST : build->slot_count * 2;
    struct node *nodes;
    uint32_t *slots;

    if ((build->len + 1) * 2 <= build->slot_count) {
        return ERR_OK;
    }
    nodes = realloc(build->nodes, count / 2 * sizeof(*nodes));
    if (nodes == NULL) {
        return ERR_NO_MEMORY;
    }
    build->nodes = nodes;
    slots = calloc(count, sizeof(*slots));
    if (slots == NULL) {
        return ERR_NO_MEMORY;
    }
    free(build->slots);
    build->slots = slots;
    build->slot_count = count;
    for (size_t i = 0; i < build->len; i++) {
        slots[node_slot(build, nodes[i].channel, nodes[i].campaign)] = narrow_u32(i + 1);
    }
    return ERR_OK;
}

static enum err
find_node(struct build *build, uint16_t channel, uint16_t campaign, struct node **out)
{
    enum err err = node_reserve(build);
    size_t slot;

    if (err != ERR_OK) {
        return err;
    }
    slot = node_slot(build, channel, campaign);
    if (build->slots[slot] == 0) {
        build->nodes[build->len++] = (struct node){channel, campaign, 0, {0}};
        build->slots[slot] = narrow_u32(build->len);
    }
    *out = &build->nodes[build->slots[slot] - 1];
    return ERR_OK;
}

/* ERR_TOO_BIG when the roll-up takes more memory than it may. */
static enum err
weigh(struct build *build, size_t more)
{
    size_t bytes = build->len * sizeof(struct node);

    build->since_weighed += more;
    if (build->since_weighed < WEIGH_EVERY) {
        return ERR_OK;
    }
    build->since_weighed = 0;
    for (size_t i = 0; i < build->len; i++) {
        const struct user_set *users = &build->nodes[i].users;

        bytes += users->table_size * sizeof(*users->table);
        bytes += users->registers != NULL ? USER_SET_REGISTERS : 0;
    }
    return bytes > BUILD_BYTES_MAX ? ERR_TOO_BIG : ERR_OK;
}

static enum err
build_entry(void *arg, const struct count_entry *entry)
{
    struct build *build = arg;
    const uint16_t nodes[NODES_OF_ENTRY][2] = {
        {COUNT_ANY, COUNT_ANY},
        {entry->channel, COUNT_ANY},
        {COUNT_ANY, entry->campaign},
        {entry->channel, entry->campaign},
    };

    for (size_t i = 0; i < NODES_OF_ENTRY; i++) {
        struct node *node;
        enum err err = find_node(build, nodes[i][0], nodes[i][1], &node);

        if (err == ERR_OK && entry->user != 0) {
            err = user_set_add(&node->users, entry->user);
        }
        if (err != ERR_OK) {
            return err;
        }
        node->total++;
    }
    return weigh(build, 1);
}

static enum err
build_rollup(void *arg, enum count_level level, int64_t bucket_us)
{
    struct build *build = arg;
    uint16_t channel = COUNT_ANY;
    uint16_t campaign = COUNT_ANY;

    do {
        struct count_node found;
        struct node *node;
        enum err err = count_reader_node(build->reader, level, build->item->name, bucket_us,
                                         channel, campaign, &found);

        if (err == ERR_NOT_FOUND) {
            return ERR_OK;
        }
        if (err == ERR_OK && found.bytes.data == NULL) {
            err = ERR_CORRUPT;
        }
        if (err == ERR_OK) {
            err = find_node(build, found.channel, found.campaign, &node);
        }
        if (err == ERR_OK) {
            err = count_rollup_decode(found.bytes, &node->total, &node->users);
        }
        if (err == ERR_OK) {
            err = weigh(build, WEIGH_EVERY / 64);
        }
        if (err != ERR_OK) {
            return err;
        }
        channel = found.channel;
        campaign = found.campaign;
    } while (count_next_node(&channel, &campaign));
    return ERR_OK;
}

static void
build_free(struct build *build)
{
    for (size_t i = 0; i < build->len; i++) {
        user_set_clear(&build->nodes[i].users);
    }
    free(build->nodes);
    free(build->slots);
}

/* Every piece but the last is full; one that ends with a full piece is told by the next key. */
static void
put_pieces(struct count_changes *changes, const struct todo *item, const struct node *node,
           struct span bytes)
{
    for (uint8_t piece = 0; bytes.len > 0; piece++) {
        size_t len = bytes.len < COUNT_VALUE_MAX ? bytes.len : COUNT_VALUE_MAX;
        struct count_key key = count_key_rollup(item->level, item->name, item->bucket_us,
                                                node->channel, node->campaign, piece);

        ASSERT(piece < COUNT_PIECES_MAX);
        count_changes_put(changes, count_key_span(&key), (struct span){bytes.data, len});
        bytes.data += len;
        bytes.len -= len;
    }
}

static void
put_nodes(struct build *build)
{
    struct count_changes *changes = &build->counts->changes;
    struct buffer bytes = BUFFER_EMPTY;

    for (size_t i = 0; i < build->len; i++) {
        buffer_clear(&bytes, SIZE_MAX);
        count_rollup_encode(build->nodes[i].total, &build->nodes[i].users, &bytes);
        if (bytes.failed) {
            changes->bytes.failed = true;
            break;
        }
        put_pieces(changes, build->item, &build->nodes[i], buffer_span(&bytes));
    }
    buffer_free(&bytes);
}

/* A second's roll-up stands for its own slot only (count_cell.h). */
static enum err
read_bucket(struct build *build)
{
    const struct count_visitor visitor = {build_entry, build_rollup, build};
    const struct todo *item = build->item;
    const int64_t end_us = item->bucket_us + count_level_us(item->level);

    if (item->level == COUNT_SECOND) {
        return count_reader_entries(build->reader, item->name, COUNT_SLOT_SECOND, item->bucket_us,
                                    end_us, &visitor);
    }
    if (item->level == COUNT_MINUTE) {
        enum err err = count_reader_entries(build->reader, item->name, COUNT_SLOT_MINUTE,
                                            item->bucket_us, end_us, &visitor);

        if (err != ERR_OK) {
            return err;
        }
    }
    return count_reader_range(build->reader, item->name, (enum count_level)(item->level - 1),
                              item->bucket_us, end_us, &visitor);
}

/* Makes one bucket's roll-up, if it is worth one, and takes its mark away. */
static enum err
roll_up(struct counts *counts, struct count_reader *reader, const struct todo *item)
{
    struct build build = {.counts = counts, .reader = reader, .item = item};
    struct count_key mark = count_key_todo(item->level, item->name, item->bucket_us);
    struct node *all = NULL;
    enum err err;

    reader->damaged = false;
    err = read_bucket(&build);
    if (err == ERR_OK) {
        err = find_node(&build, COUNT_ANY, COUNT_ANY, &all);
    }
    if (err == ERR_TOO_BIG || err == ERR_CORRUPT || err == ERR_FORMAT || reader->damaged) {
        log_warn("counts.rollup_skipped", LOG_U64("level", item->level),
                 LOG_U64("name", item->name), LOG_I64("bucket_us", item->bucket_us), LOG_ERR(err),
                 LOG_END);
        err = ERR_OK;
    } else if (err == ERR_OK && all->total >= ROLLUP_MIN) {
        put_nodes(&build);
    }
    if (err == ERR_OK) {
        count_changes_delete(&counts->changes, count_key_span(&mark));
    }
    build_free(&build);
    return err;
}

/* ---- which ones ---- */

static bool
is_due(const struct todo *item, int64_t now_us)
{
    /* A clock that was put back must not hold anything up. */
    bool settled = now_us - item->touched_us >= SETTLE_US || item->touched_us > now_us;

    return settled && item->bucket_us + count_level_us(item->level) + SETTLE_US <= now_us;
}

/* A larger bucket waits for the smaller ones in it, which are due no later. */
static int
lowest_level_due(const struct todo_list *list, int64_t now_us)
{
    int level = COUNT_LEVELS;

    for (size_t i = 0; i < list->len; i++) {
        if ((int)list->items[i].level < level && is_due(&list->items[i], now_us)) {
            level = (int)list->items[i].level;
        }
    }
    return level;
}

/* Takes the items done (level COUNT_LEVELS) out of the list. */
static void
forget_done(struct todo_list *list)
{
    size_t kept = 0;

    for (size_t i = 0; i < list->len; i++) {
        if (list->items[i].level != COUNT_LEVELS) {
            list->items[kept++] = list->items[i];
        }
    }
    list->len = kept;
    index_items(list);
}

static enum err
roll_up_level(struct counts *counts, struct count_reader *reader, int level, int64_t now_us,
              size_t *done, size_t *done_count)
{
    for (size_t i = 0; i < counts->todo.len && *done_count < BUCKETS_PER_COMMIT &&
                       counts->changes.bytes.len < COMMIT_BYTES;
         i++) {
        const struct todo *item = &counts->todo.items[i];
        enum err err;

        if ((int)item->level != level || !is_due(item, now_us)) {
            continue;
        }
        err = roll_up(counts, reader, item);
        if (err != ERR_OK) {
            return err;
        }
        counts->todo.items[i].saved = true; /* no mark is to be put for it any more */
        done[(*done_count)++] = i;
    }
    return ERR_OK;
}

enum err
count_rollup_due(struct counts *counts, int64_t now_us)
{
    size_t done[BUCKETS_PER_COMMIT];
    size_t done_count = 0;
    struct count_reader reader;
    int level = lowest_level_due(&counts->todo, now_us);
    enum err err;

    if (level == COUNT_LEVELS) {
        return ERR_NOT_FOUND;
    }
    err = count_reader_begin(&reader, &counts->config.store);
    if (err == ERR_OK) {
        err = roll_up_level(counts, &reader, level, now_us, done, &done_count);
    }
    count_reader_end(&reader);
    if (err != ERR_OK) {
        count_changes_clear(&counts->changes);
        return err;
    }
    err = count_commit(counts, &counts->state);
    if (err == ERR_OK) {
        for (size_t i = 0; i < done_count; i++) {
            counts->todo.items[done[i]].level = COUNT_LEVELS;
        }
        forget_done(&counts->todo);
    }
    return err;
}
