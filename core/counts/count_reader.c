#include "core/counts/count_reader.h"

#include "core/base/log.h"

enum err
count_reader_begin(struct count_reader *reader, const struct count_store *store)
{
    *reader = (struct count_reader){.store = store};
    return store->ops->begin(store->self, &reader->snapshot);
}

void
count_reader_end(struct count_reader *reader)
{
    if (reader->snapshot != NULL) {
        reader->store->ops->end(reader->store->self, reader->snapshot);
    }
    buffer_free(&reader->joined);
    reader->snapshot = NULL;
}

/* What is damaged is said once a snapshot and then left out. */
static void
note_damage(struct count_reader *reader, struct span key)
{
    char kind[2] = {key.data[0], '\0'};

    if (!reader->damaged) {
        log_error("counts.history_damaged", LOG_STR("kind", kind), LOG_END);
    }
    reader->damaged = true;
}

static enum err
seek(struct count_reader *reader, const struct count_key *key, struct span *key_out,
     struct span *value_out)
{
    return reader->store->ops->seek(reader->store->self, reader->snapshot, count_key_span(key),
                                    key_out, value_out);
}

static enum err
next(struct count_reader *reader, struct span *key_out, struct span *value_out)
{
    return reader->store->ops->next(reader->store->self, reader->snapshot, key_out, value_out);
}

enum err
count_reader_get(struct count_reader *reader, const struct count_key *key, struct span *value_out)
{
    struct span found;
    enum err err = seek(reader, key, &found, value_out);

    if ((err == ERR_OK || err == ERR_CORRUPT) && !span_equal(found, count_key_span(key))) {
        return ERR_NOT_FOUND;
    }
    return err;
}

/* ---- entries ---- */

static enum err
visit_chunk(struct count_reader *reader, struct span key, struct span value, int64_t slot_us,
            int64_t from_us, int64_t to_us, const struct count_visitor *visitor)
{
    size_t count = 0;
    enum err err = count_chunk_count(value, &count);

    if (err != ERR_OK) {
        note_damage(reader, key);
        return ERR_OK;
    }
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        struct count_entry entry = count_chunk_entry(value, i);
        int64_t us = slot_us + entry.offset_us;

        if (us >= from_us && us < to_us) {
            err = visitor->entry(visitor->arg, &entry);
        }
    }
    return err;
}

enum err
count_reader_entries(struct count_reader *reader, uint32_t name, enum count_width width,
                     int64_t from_us, int64_t to_us, const struct count_visitor *visitor)
{
    const int64_t width_us =
        count_level_us(width == COUNT_SLOT_SECOND ? COUNT_SECOND : COUNT_MINUTE);
    struct count_key first = count_key_chunk(name, width, count_floor(from_us, width_us), 0);
    struct span key;
    struct span value;
    enum err err = seek(reader, &first, &key, &value);

    while (err == ERR_OK || err == ERR_CORRUPT) {
        struct count_chunk_key chunk;

        if (!count_parse_chunk(key, &chunk) || chunk.name != name || chunk.width != width ||
            chunk.slot_us >= to_us) {
            return ERR_OK;
        }
        if (err == ERR_CORRUPT) {
            note_damage(reader, key);
        } else {
            err = visit_chunk(reader, key, value, chunk.slot_us, from_us, to_us, visitor);
            if (err != ERR_OK) {
                return err;
            }
        }
        err = next(reader, &key, &value);
    }
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

/* ---- ranges ---- */

enum err
count_reader_rollup_keys(struct count_reader *reader, enum count_level level, uint32_t name,
                         int64_t bucket_us, void (*fn)(void *arg, struct span key), void *arg)
{
    struct count_key first = count_key_rollup(level, name, bucket_us, COUNT_ANY, COUNT_ANY, 0);
    struct count_rollup_key found;
    struct span key;
    struct span value;
    enum err err = seek(reader, &first, &key, &value);

    while ((err == ERR_OK || err == ERR_CORRUPT) && count_parse_rollup(key, &found) &&
           found.level == level && found.name == name && found.bucket_us == bucket_us) {
        fn(arg, key);
        err = next(reader, &key, &value);
    }
    return err == ERR_NOT_FOUND || err == ERR_CORRUPT ? ERR_OK : err;
}

/* The first bucket of LEVEL at or after FROM_US and before END_US that has a roll-up. */
static enum err
find_bucket(struct count_reader *reader, uint32_t name, enum count_level level, int64_t from_us,
            int64_t end_us, int64_t *bucket_out)
{
    struct count_key first = count_key_rollup(level, name, from_us, COUNT_ANY, COUNT_ANY, 0);
    struct count_rollup_key found;
    struct span key;
    struct span value;
    enum err err = seek(reader, &first, &key, &value);

    if (err != ERR_OK && err != ERR_CORRUPT) {
        return err;
    }
    if (!count_parse_rollup(key, &found) || found.level != level || found.name != name ||
        found.bucket_us >= end_us) {
        return ERR_NOT_FOUND;
    }
    *bucket_out = found.bucket_us;
    return ERR_OK;
}

static enum err read_level(struct count_reader *reader, uint32_t name, int level, int64_t from_us,
                           int64_t to_us, const struct count_visitor *visitor);

/*
 * What no roll-up of a higher level covers. Below the minute there are two kinds of slots, and only
 * those of a second have roll-ups of their own.
 */
static enum err
read_lower(struct count_reader *reader, uint32_t name, int level, int64_t from_us, int64_t to_us,
           const struct count_visitor *visitor)
{
    enum err err = ERR_OK;

    if (from_us >= to_us) {
        return ERR_OK;
    }
    if (level == COUNT_SECOND) {
        return count_reader_entries(reader, name, COUNT_SLOT_SECOND, from_us, to_us, visitor);
    }
    if (level == COUNT_MINUTE) {
        err = count_reader_entries(reader, name, COUNT_SLOT_MINUTE, from_us, to_us, visitor);
    }
    return err != ERR_OK ? err : read_level(reader, name, level - 1, from_us, to_us, visitor);
}

/* The smallest multiple of WIDTH_US at or after US. */
static int64_t
ceiling(int64_t us, int64_t width_us)
{
    int64_t floor = count_floor(us, width_us);

    return floor == us ? us : floor + width_us;
}

static enum err
read_level(struct count_reader *reader, uint32_t name, int level, int64_t from_us, int64_t to_us,
           const struct count_visitor *visitor)
{
    const int64_t width_us = count_level_us((enum count_level)level);
    const int64_t end_us = count_floor(to_us, width_us);
    int64_t at_us = ceiling(from_us, width_us);
    enum err err;

    if (at_us >= end_us) {
        return read_lower(reader, name, level, from_us, to_us, visitor);
    }
    err = read_lower(reader, name, level, from_us, at_us, visitor);
    while (err == ERR_OK && at_us < end_us) {
        int64_t bucket_us = end_us;

        err = find_bucket(reader, name, (enum count_level)level, at_us, end_us, &bucket_us);
        if (err != ERR_OK && err != ERR_NOT_FOUND) {
            return err;
        }
        err = read_lower(reader, name, level, at_us, bucket_us, visitor);
        if (err == ERR_OK && bucket_us < end_us) {
            err = visitor->rollup(visitor->arg, (enum count_level)level, bucket_us);
            bucket_us += width_us;
        }
        at_us = bucket_us;
    }
    return err != ERR_OK ? err : read_lower(reader, name, level, end_us, to_us, visitor);
}

enum err
count_reader_range(struct count_reader *reader, uint32_t name, enum count_level top,
                   int64_t from_us, int64_t to_us, const struct count_visitor *visitor)
{
    return from_us >= to_us ? ERR_OK : read_level(reader, name, (int)top, from_us, to_us, visitor);
}

/* ---- nodes of a roll-up ---- */

bool
count_next_node(uint16_t *channel, uint16_t *campaign)
{
    if (*campaign < UINT16_MAX) {
        (*campaign)++;
        return true;
    }
    *campaign = 0;
    (*channel)++;
    return *channel != 0;
}

static bool
same_node(const struct count_rollup_key *a, const struct count_rollup_key *b)
{
    return a->level == b->level && a->name == b->name && a->bucket_us == b->bucket_us &&
           a->channel == b->channel && a->campaign == b->campaign;
}

/* Adds the pieces after the first, which VALUE is. */
static enum err
join(struct count_reader *reader, const struct count_rollup_key *node, struct span value,
     struct count_node *out)
{
    uint8_t piece = 0;
    enum err err;

    if (value.len < COUNT_VALUE_MAX) {
        out->bytes = value; /* only the last piece is shorter */
        return ERR_OK;
    }
    buffer_clear(&reader->joined, SIZE_MAX);
    for (;;) {
        struct count_rollup_key found;
        struct span key;

        buffer_append_span(&reader->joined, value);
        if (value.len < COUNT_VALUE_MAX) {
            break;
        }
        err = next(reader, &key, &value);
        if (err == ERR_NOT_FOUND) {
            break;
        }
        if (err != ERR_OK) {
            return err;
        }
        if (!count_parse_rollup(key, &found) || !same_node(&found, node) ||
            found.piece != ++piece) {
            break; /* a piece that is missing shows when the whole is decoded */
        }
    }
    out->bytes = buffer_span(&reader->joined);
    return reader->joined.failed ? ERR_NO_MEMORY : ERR_OK;
}

/* The first node with its first piece; *KEY_OUT is the key the cursor stands on. */
static enum err
find_node(struct count_reader *reader, enum count_level level, uint32_t name, int64_t bucket_us,
          uint16_t channel, uint16_t campaign, struct count_node *out, struct span *key_out)
{
    struct count_key first = count_key_rollup(level, name, bucket_us, channel, campaign, 0);
    struct count_rollup_key found;
    struct span value;
    enum err err = seek(reader, &first, key_out, &value);

    if (err != ERR_OK && err != ERR_CORRUPT) {
        return err;
    }
    if (!count_parse_rollup(*key_out, &found) || found.level != level || found.name != name ||
        found.bucket_us != bucket_us) {
        return ERR_NOT_FOUND;
    }
    *out = (struct count_node){found.channel, found.campaign, {NULL, 0}};
    if (err == ERR_CORRUPT) {
        note_damage(reader, *key_out);
    } else if (found.piece == 0) {
        out->bytes = value;
    }
    return ERR_OK;
}

enum err
count_reader_first_piece(struct count_reader *reader, enum count_level level, uint32_t name,
                         int64_t bucket_us, uint16_t channel, uint16_t campaign,
                         struct count_node *out)
{
    struct span key;

    return find_node(reader, level, name, bucket_us, channel, campaign, out, &key);
}

enum err
count_reader_node(struct count_reader *reader, enum count_level level, uint32_t name,
                  int64_t bucket_us, uint16_t channel, uint16_t campaign, struct count_node *out)
{
    struct span key;
    enum err err = find_node(reader, level, name, bucket_us, channel, campaign, out, &key);

    if (err == ERR_OK && out->bytes.data != NULL) {
        const struct count_rollup_key node = {
            .level = level,
            .name = name,
            .bucket_us = bucket_us,
            .channel = out->channel,
            .campaign = out->campaign,
        };

        err = join(reader, &node, out->bytes, out);
        if (err == ERR_CORRUPT) {
            note_damage(reader, key);
            out->bytes = (struct span){NULL, 0};
            err = ERR_OK;
        }
    }
    return err;
}
