/*
 * count_fold.c - from the tail into the history, and out of it again.
 *
 * A fold takes the next run of sequence numbers, sorts it by name and time, and appends it to the
 * newest chunk of each slot it touches: what is rewritten is at most one chunk per slot. Roll-ups
 * of the buckets it touches are deleted in the same commit, and marked to be made again.
 */
#include <stdlib.h>

#include "core/base/log.h"
#include "core/counts/counts_internal.h"

enum {
    REMOVALS_PER_COMMIT = 256,
    DROPS_PER_COMMIT = 4096,
};

/* ---- committing ---- */

static void
put_state(struct counts *counts, const struct count_state *state)
{
    struct count_key key = count_key_state();
    struct buffer value = BUFFER_EMPTY;

    count_state_encode(state, &value);
    if (value.failed) {
        counts->changes.bytes.failed = true;
    } else {
        count_changes_put(&counts->changes, count_key_span(&key), buffer_span(&value));
    }
    buffer_free(&value);
}

static void
put_marks(struct counts *counts)
{
    for (size_t i = 0; i < counts->todo.len; i++) {
        const struct todo *item = &counts->todo.items[i];

        if (!item->saved) {
            struct count_key key = count_key_todo(item->level, item->name, item->bucket_us);

            count_changes_put(&counts->changes, count_key_span(&key), SPAN_LITERAL("\1"));
        }
    }
}

enum err
count_commit(struct counts *counts, const struct count_state *state)
{
    const struct count_store *store = &counts->config.store;
    enum err err;

    put_state(counts, state);
    put_marks(counts);
    err = counts->changes.bytes.failed
              ? ERR_NO_MEMORY
              : store->ops->commit(store->self, &counts->changes, state->counted_seq);
    count_changes_clear(&counts->changes);
    if (err != ERR_OK) {
        return err;
    }
    for (size_t i = 0; i < counts->todo.len; i++) {
        counts->todo.items[i].saved = true;
    }
    counts->state = *state;
    counts->state_saved = true;
    atomic_store(&counts->from_us, state->from_us);
    atomic_store(&counts->counted_seq, state->counted_seq);
    count_tail_drop(&counts->tail, state->counted_seq);
    return ERR_OK;
}

/* ---- roll-ups that are no longer true ---- */

struct dropping {
    struct count_changes *changes;
    size_t count;
};

static void
drop_key(void *arg, struct span key)
{
    struct dropping *dropping = arg;

    count_changes_delete(dropping->changes, key);
    dropping->count++;
}

/* The bucket has changed: its roll-up goes. One that is LARGE, or had one, is to get one again. */
static enum err
touch(struct counts *counts, struct count_reader *reader, enum count_level level, uint32_t name,
      int64_t us, bool large, int64_t now_us)
{
    int64_t bucket_us = count_floor(us, count_level_us(level));
    struct dropping dropping = {&counts->changes, 0};
    enum err err = count_reader_rollup_keys(reader, level, name, bucket_us, drop_key, &dropping);

    if (err != ERR_OK || (dropping.count == 0 && !large)) {
        return err;
    }
    return todo_mark(&counts->todo, level, name, bucket_us, now_us, false,
                     &counts->todo_overflowed);
}

/* ---- filing entries ---- */

/* The newest chunk of a slot, or a new one. */
struct open_chunk {
    uint32_t name;
    enum count_width width;
    int64_t slot_us;
    uint32_t n;
    size_t count;
};

static enum err
open_chunk(struct counts *counts, struct count_reader *reader, struct open_chunk *chunk)
{
    struct count_key first = count_key_chunk(chunk->name, chunk->width, chunk->slot_us, 0);
    struct count_chunk_key found;
    struct span key;
    struct span value;
    enum err err = reader->store->ops->seek(reader->store->self, reader->snapshot,
                                            count_key_span(&first), &key, &value);

    count_chunk_begin(&counts->chunk);
    chunk->n = UINT32_MAX;
    chunk->count = 0;
    if (err == ERR_NOT_FOUND) {
        return ERR_OK;
    }
    if (err != ERR_OK && err != ERR_CORRUPT) {
        return err;
    }
    if (!count_parse_chunk(key, &found) || found.name != chunk->name ||
        found.width != chunk->width || found.slot_us != chunk->slot_us) {
        return ERR_OK;
    }
    chunk->n = found.n;
    if (err == ERR_OK && count_chunk_count(value, &chunk->count) == ERR_OK &&
        chunk->count < COUNT_CHUNK_ENTRIES) {
        buffer_clear(&counts->chunk, SIZE_MAX);
        buffer_append_span(&counts->chunk, value);
        return ERR_OK;
    }
    chunk->n--; /* full, or damaged: left alone */
    chunk->count = 0;
    return ERR_OK;
}

static void
put_chunk(struct counts *counts, struct open_chunk *chunk)
{
    struct count_key key = count_key_chunk(chunk->name, chunk->width, chunk->slot_us, chunk->n);

    if (counts->chunk.failed) {
        counts->changes.bytes.failed = true;
        return;
    }
    count_changes_put(&counts->changes, count_key_span(&key), buffer_span(&counts->chunk));
    count_chunk_begin(&counts->chunk);
    chunk->n--;
    chunk->count = 0;
}

/* Files a run of entries of one name that lie in one slot. */
static enum err
file_slot(struct counts *counts, struct count_reader *reader, enum count_width width,
          const struct tail_entry *entries, size_t count)
{
    const int64_t width_us =
        count_level_us(width == COUNT_SLOT_SECOND ? COUNT_SECOND : COUNT_MINUTE);
    struct open_chunk chunk = {
        .name = entries[0].at.name,
        .width = width,
        .slot_us = count_floor(entries[0].occurred_us, width_us),
    };
    enum err err = open_chunk(counts, reader, &chunk);

    if (err != ERR_OK) {
        return err;
    }
    for (size_t i = 0; i < count; i++) {
        const struct count_entry entry = {
            .offset_us = (uint32_t)(entries[i].occurred_us - chunk.slot_us),
            .channel = entries[i].at.value[0],
            .campaign = entries[i].at.value[1],
            .user = entries[i].user,
        };

        if (chunk.count == COUNT_CHUNK_ENTRIES) {
            put_chunk(counts, &chunk);
        }
        count_chunk_append(&counts->chunk, &entry);
        chunk.count++;
    }
    put_chunk(counts, &chunk);
    return ERR_OK;
}

/* How many entries from I on have the same name and the same bucket of WIDTH_US as entry I. */
static size_t
run_length(const struct counts *counts, size_t i, size_t end, int64_t width_us)
{
    const struct tail_entry *entries = counts->entries;
    const int64_t bucket_us = count_floor(entries[i].occurred_us, width_us);
    size_t at = i + 1;

    while (at < end && entries[at].at.name == entries[i].at.name &&
           entries[at].occurred_us < bucket_us + width_us) {
        at++;
    }
    return at - i;
}

/* Files one minute of a name, by the second when much came at once. */
static enum err
file_minute(struct counts *counts, struct count_reader *reader, size_t first, size_t count,
            int64_t now_us)
{
    const struct tail_entry *entries = counts->entries + first;
    bool dense = count >= DENSE_MIN;
    enum err err = ERR_OK;

    if (!dense) {
        err = file_slot(counts, reader, COUNT_SLOT_MINUTE, entries, count);
    }
    for (size_t i = 0; dense && err == ERR_OK && i < count;) {
        size_t run = run_length(counts, first + i, first + count, count_level_us(COUNT_SECOND));

        err = file_slot(counts, reader, COUNT_SLOT_SECOND, entries + i, run);
        if (err == ERR_OK) {
            err = touch(counts, reader, COUNT_SECOND, entries[i].at.name, entries[i].occurred_us,
                        run >= ROLLUP_MIN / 2, now_us);
        }
        i += run;
    }
    if (err == ERR_OK) {
        err = touch(counts, reader, COUNT_MINUTE, entries[0].at.name, entries[0].occurred_us, dense,
                    now_us);
    }
    return err;
}

static enum err
touch_buckets(struct counts *counts, struct count_reader *reader, enum count_level level,
              int64_t now_us)
{
    for (size_t i = 0; i < counts->entry_count;) {
        const struct tail_entry *entry = &counts->entries[i];
        enum err err =
            touch(counts, reader, level, entry->at.name, entry->occurred_us, true, now_us);

        if (err != ERR_OK) {
            return err;
        }
        i += run_length(counts, i, counts->entry_count, count_level_us(level));
    }
    return ERR_OK;
}

/* ---- totals per name ---- */

static enum err
change_total(struct counts *counts, struct count_reader *reader, uint32_t name, uint64_t more,
             uint64_t less, int64_t last_us)
{
    struct count_key key = count_key_total(name);
    struct count_total total = {0, INT64_MIN};
    struct buffer value = BUFFER_EMPTY;
    struct span stored;
    enum err err = count_reader_get(reader, &key, &stored);

    if (err == ERR_OK) {
        err = count_total_decode(stored, &total);
    }
    if (err == ERR_CORRUPT) {
        log_error("counts.total_damaged", LOG_U64("name", name), LOG_END);
        total = (struct count_total){0, INT64_MIN};
    } else if (err != ERR_OK && err != ERR_NOT_FOUND) {
        return err;
    }
    total.total += more;
    total.total -= less < total.total ? less : total.total;
    total.last_us = last_us > total.last_us ? last_us : total.last_us;
    count_total_encode(&total, &value);
    if (value.failed) {
        counts->changes.bytes.failed = true;
    } else {
        count_changes_put(&counts->changes, count_key_span(&key), buffer_span(&value));
    }
    buffer_free(&value);
    return ERR_OK;
}

static enum err
add_totals(struct counts *counts, struct count_reader *reader)
{
    for (size_t i = 0; i < counts->entry_count;) {
        const uint32_t name = counts->entries[i].at.name;
        size_t end = i;
        enum err err;

        while (end < counts->entry_count && counts->entries[end].at.name == name) {
            end++;
        }
        err = change_total(counts, reader, name, end - i, 0, counts->entries[end - 1].occurred_us);
        if (err != ERR_OK) {
            return err;
        }
        i = end;
    }
    return ERR_OK;
}

/* ---- one fold ---- */

static enum err
collect_entry(void *arg, const struct tail_entry *entry)
{
    struct counts *counts = arg;

    if (entry->occurred_us >= counts->state.from_us) {
        counts->entries[counts->entry_count++] = *entry;
    }
    return ERR_OK;
}

static int
compare_entries(const void *left, const void *right)
{
    const struct tail_entry *a = left;
    const struct tail_entry *b = right;

    if (a->at.name != b->at.name) {
        return a->at.name < b->at.name ? -1 : 1;
    }
    if (a->occurred_us != b->occurred_us) {
        return a->occurred_us < b->occurred_us ? -1 : 1;
    }
    return 0;
}

static size_t
count_cells(const struct counts *counts)
{
    size_t cells = 0;

    for (size_t i = 0; i < counts->entry_count; cells++) {
        i += run_length(counts, i, counts->entry_count, count_level_us(COUNT_MINUTE));
    }
    return cells;
}

/*
 * Collects, sorted, the run of numbers after the history that one commit may take: a run that
 * touches too many minutes would make the log's other work wait.
 */
static enum err
collect(struct counts *counts, uint64_t *to_seq_out)
{
    struct tail_pin pin;
    uint64_t after = counts->state.counted_seq;
    enum err err = count_tail_pin(&counts->tail, &pin);
    uint64_t events;

    if (err != ERR_OK) {
        return err;
    }
    events = pin.last_seq > after ? pin.last_seq - after : 0;
    events = events < FOLD_EVENTS_MAX ? events : FOLD_EVENTS_MAX;
    for (;;) {
        counts->entry_count = 0;
        err = count_tail_each(&pin, after, after + events, collect_entry, counts);
        ASSERT(err == ERR_OK);
        if (counts->entry_count > 0) {
            qsort(counts->entries, counts->entry_count, sizeof(*counts->entries), compare_entries);
        }
        if (events <= 1 || count_cells(counts) <= FOLD_CELLS_MAX) {
            break;
        }
        events /= 2;
    }
    count_tail_unpin(&pin);
    *to_seq_out = after + events;
    return events == 0 ? ERR_NOT_FOUND : ERR_OK;
}

static enum err
file_all(struct counts *counts, struct count_reader *reader, int64_t now_us)
{
    enum err err = ERR_OK;

    for (size_t i = 0; err == ERR_OK && i < counts->entry_count;) {
        size_t run = run_length(counts, i, counts->entry_count, count_level_us(COUNT_MINUTE));

        err = file_minute(counts, reader, i, run, now_us);
        i += run;
    }
    if (err == ERR_OK) {
        err = touch_buckets(counts, reader, COUNT_HOUR, now_us);
    }
    if (err == ERR_OK) {
        err = touch_buckets(counts, reader, COUNT_DAY, now_us);
    }
    return err == ERR_OK ? add_totals(counts, reader) : err;
}

enum err
count_fold_tail(struct counts *counts, int64_t now_us)
{
    struct count_state state = counts->state;
    struct count_names_mark mark;
    struct count_reader reader;
    enum err err;

    if (counts->entries == NULL) {
        counts->entries = malloc(FOLD_EVENTS_MAX * sizeof(*counts->entries));
        if (counts->entries == NULL) {
            return ERR_NO_MEMORY;
        }
    }
    err = collect(counts, &state.counted_seq);
    if (err != ERR_OK) {
        return err;
    }
    err = count_reader_begin(&reader, &counts->config.store);
    if (err == ERR_OK) {
        err = file_all(counts, &reader, now_us);
    }
    count_reader_end(&reader);
    mark = count_names_put_unsaved(counts->names, &counts->changes);
    if (err == ERR_OK) {
        err = count_commit(counts, &state);
    } else {
        count_changes_clear(&counts->changes);
    }
    if (err == ERR_OK) {
        count_names_saved(counts->names, mark);
    }
    return err;
}

/* ---- removals ---- */

/* A chunk this commit has already changed. */
struct staged_chunk {
    struct count_chunk_key key;
    struct buffer value;
};

struct removing {
    struct counts *counts;
    struct count_reader *reader;
    int64_t now_us;
    struct staged_chunk *chunks;
    size_t chunk_count;
    uint32_t *names; /* of the removals that took place, in order */
    size_t name_count;
};

static struct staged_chunk *
find_staged(struct removing *removing, const struct count_chunk_key *key)
{
    for (size_t i = 0; i < removing->chunk_count; i++) {
        const struct count_chunk_key *at = &removing->chunks[i].key;

        if (at->name == key->name && at->width == key->width && at->slot_us == key->slot_us &&
            at->n == key->n) {
            return &removing->chunks[i];
        }
    }
    return NULL;
}

static bool
find_entry(struct span chunk, const struct count_entry *wanted, size_t *at_out)
{
    size_t count = 0;

    if (count_chunk_count(chunk, &count) != ERR_OK) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        struct count_entry entry = count_chunk_entry(chunk, i);

        if (entry.offset_us == wanted->offset_us && entry.channel == wanted->channel &&
            entry.campaign == wanted->campaign && entry.user == wanted->user) {
            *at_out = i;
            return true;
        }
    }
    return false;
}

/* Stages CHUNK without its entry AT. */
static enum err
cut_entry(struct removing *removing, const struct count_chunk_key *key, struct span chunk,
          size_t at)
{
    struct staged_chunk *staged = find_staged(removing, key);
    struct buffer value = BUFFER_EMPTY;
    size_t before = 1 + at * COUNT_ENTRY_SIZE;
    size_t after = before + COUNT_ENTRY_SIZE;

    buffer_append(&value, chunk.data, before);
    buffer_append(&value, chunk.data + after, chunk.len - after);
    if (value.failed) {
        buffer_free(&value);
        return ERR_NO_MEMORY;
    }
    if (staged == NULL) {
        staged = &removing->chunks[removing->chunk_count++];
        *staged = (struct staged_chunk){.key = *key, .value = BUFFER_EMPTY};
    }
    buffer_free(&staged->value);
    staged->value = value;
    return ERR_OK;
}

/* Looks for the entry in the slots of WIDTH; ERR_NOT_FOUND. */
static enum err
remove_from(struct removing *removing, uint32_t name, enum count_width width, int64_t us,
            struct count_entry wanted)
{
    const struct count_store *store = removing->reader->store;
    const int64_t slot_us =
        count_floor(us, count_level_us(width == COUNT_SLOT_SECOND ? COUNT_SECOND : COUNT_MINUTE));
    struct count_key first = count_key_chunk(name, width, slot_us, 0);
    struct span key;
    struct span value;
    enum err err = store->ops->seek(store->self, removing->reader->snapshot, count_key_span(&first),
                                    &key, &value);

    wanted.offset_us = (uint32_t)(us - slot_us);
    while (err == ERR_OK || err == ERR_CORRUPT) {
        struct count_chunk_key found;
        const struct staged_chunk *staged;
        size_t at;

        if (!count_parse_chunk(key, &found) || found.name != name || found.width != width ||
            found.slot_us != slot_us) {
            return ERR_NOT_FOUND;
        }
        staged = find_staged(removing, &found);
        if (staged != NULL) {
            value = buffer_span(&staged->value);
        }
        if (err == ERR_OK && find_entry(value, &wanted, &at)) {
            return cut_entry(removing, &found, value, at);
        }
        err = store->ops->next(store->self, removing->reader->snapshot, &key, &value);
    }
    return err;
}

static enum err
touch_all(struct removing *removing, uint32_t name, int64_t us)
{
    enum err err = ERR_OK;

    for (int level = COUNT_SECOND; err == ERR_OK && level < COUNT_LEVELS; level++) {
        err = touch(removing->counts, removing->reader, (enum count_level)level, name, us, false,
                    removing->now_us);
    }
    return err;
}

uint16_t
count_value_index(struct counts *counts, uint32_t name, uint8_t dimension, struct span value)
{
    uint16_t index;

    return count_names_find_value(counts->names, name, dimension, value, &index) ? index
                                                                                 : COUNT_OTHER;
}

/* Takes one event out of the history. What is not in it (any more) needs no removing. */
static enum err
remove_event(struct removing *removing, const struct count_removal *removal)
{
    struct counts *counts = removing->counts;
    struct count_entry wanted = {.user = removal->user};
    uint32_t name;
    enum err err;

    if (removal->occurred_us < counts->state.from_us ||
        !count_names_find(counts->names, removal->tenant, removal->name, &name)) {
        return ERR_OK;
    }
    wanted.channel = count_value_index(counts, name, 0, removal->channel);
    wanted.campaign = count_value_index(counts, name, 1, removal->campaign_id);
    err = remove_from(removing, name, COUNT_SLOT_MINUTE, removal->occurred_us, wanted);
    if (err == ERR_NOT_FOUND) {
        err = remove_from(removing, name, COUNT_SLOT_SECOND, removal->occurred_us, wanted);
    }
    if (err == ERR_NOT_FOUND) {
        log_warn("counts.removal_without_event", LOG_U64("name", name), LOG_END);
        return ERR_OK;
    }
    if (err == ERR_OK) {
        removing->names[removing->name_count++] = name;
        err = touch_all(removing, name, removal->occurred_us);
    }
    return err;
}

static int
compare_names(const void *left, const void *right)
{
    uint32_t a;
    uint32_t b;

    memcpy(&a, left, sizeof(a));
    memcpy(&b, right, sizeof(b));
    return a < b ? -1 : a > b;
}

static enum err
finish_removing(struct removing *removing)
{
    struct counts *counts = removing->counts;

    for (size_t i = 0; i < removing->chunk_count; i++) {
        const struct staged_chunk *chunk = &removing->chunks[i];
        struct count_key key =
            count_key_chunk(chunk->key.name, chunk->key.width, chunk->key.slot_us, chunk->key.n);

        count_changes_put(&counts->changes, count_key_span(&key), buffer_span(&chunk->value));
    }
    qsort(removing->names, removing->name_count, sizeof(*removing->names), compare_names);
    for (size_t i = 0; i < removing->name_count;) {
        size_t end = i;
        enum err err;

        while (end < removing->name_count && removing->names[end] == removing->names[i]) {
            end++;
        }
        err = change_total(counts, removing->reader, removing->names[i], 0, end - i, INT64_MIN);
        if (err != ERR_OK) {
            return err;
        }
        i = end;
    }
    return ERR_OK;
}

/*
 * Works off the oldest removals whose events the history holds by now. The walk over the removals
 * has a cursor of its own, since working on one moves the reader's.
 */
static enum err
remove_some(struct removing *removing, struct count_reader *list)
{
    const struct count_store *store = list->store;
    struct counts *counts = removing->counts;
    struct count_key first = count_key_removal(0);
    struct span key;
    struct span value;
    enum err err =
        store->ops->seek(store->self, list->snapshot, count_key_span(&first), &key, &value);
    size_t count = 0;
    uint64_t seq;

    while ((err == ERR_OK || err == ERR_CORRUPT) && count < REMOVALS_PER_COMMIT &&
           count_parse_removal(key, &seq) && seq <= counts->state.counted_seq) {
        struct count_removal removal;

        if (err == ERR_OK) {
            err = count_removal_decode(value, &removal);
        }
        if (err == ERR_OK && seq > counts->state.begin_seq) {
            enum err removed = remove_event(removing, &removal);

            if (removed != ERR_OK) {
                return removed;
            }
        } else if (err != ERR_OK) {
            log_error("counts.removal_damaged", LOG_U64("seq", seq), LOG_ERR(err), LOG_END);
        }
        count_changes_delete(&counts->changes, key);
        count++;
        err = store->ops->next(store->self, list->snapshot, &key, &value);
    }
    if (err != ERR_OK && err != ERR_CORRUPT && err != ERR_NOT_FOUND) {
        return err;
    }
    return count == 0 ? ERR_NOT_FOUND : finish_removing(removing);
}

static enum err
remove_with(struct removing *removing)
{
    struct count_reader list;
    enum err err = count_reader_begin(&list, removing->reader->store);

    if (err == ERR_OK) {
        err = remove_some(removing, &list);
    }
    count_reader_end(&list);
    return err;
}

enum err
count_fold_removals(struct counts *counts, int64_t now_us)
{
    struct staged_chunk *chunks = calloc(REMOVALS_PER_COMMIT, sizeof(*chunks));
    uint32_t *names = calloc(REMOVALS_PER_COMMIT, sizeof(*names));
    struct count_reader reader = {0};
    struct removing removing = {counts, &reader, now_us, chunks, 0, names, 0};
    enum err err = chunks == NULL || names == NULL ? ERR_NO_MEMORY : ERR_OK;

    if (err == ERR_OK) {
        err = count_reader_begin(&reader, &counts->config.store);
    }
    if (err == ERR_OK) {
        err = remove_with(&removing);
    }
    count_reader_end(&reader);
    for (size_t i = 0; i < removing.chunk_count; i++) {
        buffer_free(&chunks[i].value);
    }
    free(chunks);
    free(names);
    if (err == ERR_OK) {
        return count_commit(counts, &counts->state);
    }
    count_changes_clear(&counts->changes);
    return err;
}

/* ---- dropping the oldest ---- */

static enum err
seek_chunk(struct count_reader *reader, uint32_t name, enum count_width width, int64_t from_us,
           struct count_chunk_key *found_out)
{
    struct count_key first = count_key_chunk(name, width, from_us, 0);
    struct span key;
    struct span value;
    enum err err = reader->store->ops->seek(reader->store->self, reader->snapshot,
                                            count_key_span(&first), &key, &value);

    if (err != ERR_OK && err != ERR_CORRUPT) {
        return err;
    }
    if (!count_parse_chunk(key, found_out) || found_out->name != name ||
        found_out->width != width) {
        return ERR_NOT_FOUND;
    }
    return ERR_OK;
}

/* The oldest slot of all names. */
static enum err
find_oldest(struct counts *counts, struct count_reader *reader, int64_t *oldest_out)
{
    const uint32_t names = count_names_count(counts->names);
    bool found = false;

    for (uint32_t name = 1; name <= names; name++) {
        for (int width = COUNT_SLOT_SECOND; width <= COUNT_SLOT_MINUTE; width++) {
            struct count_chunk_key chunk;
            enum err err = seek_chunk(reader, name, (enum count_width)width, INT64_MIN, &chunk);

            if (err == ERR_NOT_FOUND) {
                continue;
            }
            if (err != ERR_OK) {
                return err;
            }
            if (!found || chunk.slot_us < *oldest_out) {
                *oldest_out = chunk.slot_us;
                found = true;
            }
        }
    }
    return found ? ERR_OK : ERR_NOT_FOUND;
}

/* Deletes chunks of one name before STATE's bound; *LEFT is how many keys may still go. */
static enum err
drop_chunks(struct counts *counts, struct count_reader *reader, uint32_t name,
            enum count_width width, int64_t from_us, size_t *left)
{
    const struct count_store *store = reader->store;
    struct count_key first = count_key_chunk(name, width, INT64_MIN, 0);
    uint64_t dropped = 0;
    struct count_chunk_key chunk;
    struct span key;
    struct span value;
    enum err err =
        store->ops->seek(store->self, reader->snapshot, count_key_span(&first), &key, &value);

    while ((err == ERR_OK || err == ERR_CORRUPT) && *left > 0 && count_parse_chunk(key, &chunk) &&
           chunk.name == name && chunk.width == width && chunk.slot_us < from_us) {
        size_t count = 0;

        if (err == ERR_OK && count_chunk_count(value, &count) == ERR_OK) {
            dropped += count;
        }
        count_changes_delete(&counts->changes, key);
        (*left)--;
        err = store->ops->next(store->self, reader->snapshot, &key, &value);
    }
    if (err != ERR_OK && err != ERR_CORRUPT && err != ERR_NOT_FOUND) {
        return err;
    }
    counts->dropping += dropped;
    return ERR_OK;
}

static enum err
drop_rollups(struct counts *counts, struct count_reader *reader, uint32_t name,
             enum count_level level, int64_t from_us, size_t *left)
{
    const struct count_store *store = reader->store;
    struct count_key first = count_key_rollup(level, name, INT64_MIN, 0, 0, 0);
    struct count_rollup_key found;
    struct span key;
    struct span value;
    enum err err =
        store->ops->seek(store->self, reader->snapshot, count_key_span(&first), &key, &value);

    while ((err == ERR_OK || err == ERR_CORRUPT) && *left > 0 && count_parse_rollup(key, &found) &&
           found.level == level && found.name == name && found.bucket_us < from_us) {
        count_changes_delete(&counts->changes, key);
        (*left)--;
        err = store->ops->next(store->self, reader->snapshot, &key, &value);
    }
    return err == ERR_CORRUPT || err == ERR_NOT_FOUND ? ERR_OK : err;
}

static enum err
drop_name(struct counts *counts, struct count_reader *reader, uint32_t name, int64_t from_us,
          size_t *left)
{
    enum err err = ERR_OK;

    counts->dropping = 0;
    for (int width = COUNT_SLOT_SECOND; err == ERR_OK && width <= COUNT_SLOT_MINUTE; width++) {
        err = drop_chunks(counts, reader, name, (enum count_width)width, from_us, left);
    }
    for (int level = 0; err == ERR_OK && level < COUNT_LEVELS; level++) {
        err = drop_rollups(counts, reader, name, (enum count_level)level, from_us, left);
    }
    if (err == ERR_OK && counts->dropping > 0) {
        err = change_total(counts, reader, name, 0, counts->dropping, INT64_MIN);
    }
    return err;
}

/*
 * The bound moves first and for good, so a half-done dropping shows to nobody: views leave out what
 * lies before it.
 */
static enum err
drop_with(struct counts *counts, struct count_reader *reader, struct count_state *state,
          int64_t now_us)
{
    const uint32_t names = count_names_count(counts->names);
    size_t left = DROPS_PER_COMMIT;
    int64_t oldest_us = 0;
    enum err err = find_oldest(counts, reader, &oldest_us);

    if (err != ERR_OK) {
        return err;
    }
    if (oldest_us >= state->from_us) {
        /* Coarse while it is old; the minute at hand always stays. */
        int64_t step_us = count_level_us(
            oldest_us < now_us - count_level_us(COUNT_DAY) ? COUNT_HOUR : COUNT_MINUTE);

        if (oldest_us >= count_floor(now_us, count_level_us(COUNT_MINUTE))) {
            return ERR_NOT_FOUND;
        }
        state->from_us = count_floor(oldest_us, step_us) + step_us;
        log_warn("counts.oldest_dropped", LOG_I64("before_us", state->from_us), LOG_END);
    }
    for (uint32_t name = 1; err == ERR_OK && left > 0 && name <= names; name++) {
        err = drop_name(counts, reader, name, state->from_us, &left);
    }
    return err;
}

enum err
count_drop_oldest(struct counts *counts, int64_t now_us)
{
    const struct count_store *store = &counts->config.store;
    struct count_state state = counts->state;
    struct count_reader reader;
    enum err err;

    if (store->ops->bytes(store->self) <= counts->config.history_bytes_max) {
        return ERR_NOT_FOUND;
    }
    err = count_reader_begin(&reader, store);
    if (err == ERR_OK) {
        err = drop_with(counts, &reader, &state, now_us);
    }
    count_reader_end(&reader);
    if (err == ERR_OK) {
        return count_commit(counts, &state);
    }
    count_changes_clear(&counts->changes);
    return err;
}
