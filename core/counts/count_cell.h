/*
 * count_cell.h - what the history of counts is made of: keys and values of the store, byte by byte.
 * Integers in keys are big-endian, so that keys sort as they count (times with the sign bit
 * flipped); in values they are little-endian. Each value begins with a version, u8 = 1; a roll-up's
 * is 2, older ones are read as well.
 *
 *   key 'M'                                       the engine's state
 *       value  u64 counted seq, u64 begin seq, i64 from_us
 *   key 'N' u32 name                              an event name
 *       value  u8 length, tenant, u8 length, name
 *   key 'V' u32 name, u8 dimension, u16 index     a channel or campaign, indexes from 1
 *       value  u8 present, the bytes
 *   key 'T' u32 name                              its total
 *       value  u64 total, i64 latest occurred_at
 *   key 'E' u32 name, u8 width, i64 slot, u32 n   a chunk of entries, the newest first
 *       value  entries of 16 bytes: u32 microseconds after SLOT, u16 channel, u16 campaign,
 *              u64 user_hash() or 0
 *   key 'U' u8 level, u32 name, i64 bucket, u16 channel, u16 campaign, u8 piece    a roll-up
 *       value  (all pieces together) u64 total, since version 2 u64 how many users, user set
 *       (core/counts/user_set.c)
 *   key 'X' u8 level, u32 name, i64 bucket        a bucket to be rolled up
 *   key 'R' u64 seq                               a removal not yet worked into the rest
 *       value  i64 occurred_at, u64 user hash, u8 length, tenant, the same for name, channel,
 *              campaign (each with u8 present before the length)
 *
 * Entries lie in slots of a minute, or, where many came at once, of a second, so that a bound
 * inside a dense minute reads only its own second. A roll-up stands for all entries of its bucket
 * (at the level of seconds: of the second's own slot) and exists only while that is true: whoever
 * adds an entry deletes it in the same commit. So what has no roll-up is read a level lower, and
 * nothing depends on when they are made. Channel or campaign 0 in a roll-up: over all of them.
 */
#ifndef SLUICE_CORE_COUNT_CELL_H
#define SLUICE_CORE_COUNT_CELL_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"
#include "core/counts/count_store.h"
#include "core/counts/user_set.h"
#include "core/event/event.h"

enum count_level {
    COUNT_SECOND,
    COUNT_MINUTE,
    COUNT_HOUR,
    COUNT_DAY,
    COUNT_LEVELS,
};

enum count_width { /* of a slot of entries */
    COUNT_SLOT_SECOND,
    COUNT_SLOT_MINUTE,
};

enum {
    COUNT_ENTRY_SIZE = 16,
    COUNT_CHUNK_ENTRIES = (COUNT_VALUE_MAX - 1) / COUNT_ENTRY_SIZE,
    COUNT_ANY = 0,            /* channel or campaign of a roll-up: all of them */
    COUNT_OTHER = UINT16_MAX, /* beyond the limits */
    COUNT_PIECES_MAX = 64,
};

/* A key being built, or the bytes of one. */
struct count_key {
    char bytes[COUNT_KEY_MAX];
    size_t len;
};

static inline struct span
count_key_span(const struct count_key *key)
{
    return (struct span){key->bytes, key->len};
}

/* Microseconds of one bucket, and the start of the one US is in (also before 1970). */
int64_t count_level_us(enum count_level level);
int64_t count_floor(int64_t us, int64_t width_us);

struct count_key count_key_state(void);
struct count_key count_key_name(uint32_t name);
struct count_key count_key_value(uint32_t name, uint8_t dimension, uint16_t index);
struct count_key count_key_total(uint32_t name);
struct count_key count_key_chunk(uint32_t name, enum count_width width, int64_t slot_us,
                                 uint32_t n);
struct count_key count_key_rollup(enum count_level level, uint32_t name, int64_t bucket_us,
                                  uint16_t channel, uint16_t campaign, uint8_t piece);
struct count_key count_key_todo(enum count_level level, uint32_t name, int64_t bucket_us);
struct count_key count_key_removal(uint64_t seq);

/* Each is false when KEY is not of that kind. */
struct count_chunk_key {
    uint32_t name;
    enum count_width width;
    int64_t slot_us;
    uint32_t n;
};
struct count_rollup_key {
    enum count_level level;
    uint32_t name;
    int64_t bucket_us;
    uint16_t channel;
    uint16_t campaign;
    uint8_t piece;
};
struct count_value_key {
    uint32_t name;
    uint8_t dimension;
    uint16_t index;
};
bool count_parse_name(struct span key, uint32_t *name_out);
bool count_parse_value(struct span key, struct count_value_key *out);
bool count_parse_chunk(struct span key, struct count_chunk_key *out);
bool count_parse_rollup(struct span key, struct count_rollup_key *out);
bool count_parse_todo(struct span key, struct count_rollup_key *out);
bool count_parse_removal(struct span key, uint64_t *seq_out);

/* ---- values ---- ERR_FORMAT: another version; ERR_CORRUPT: not exactly one such value. */

struct count_state {
    uint64_t counted_seq;
    uint64_t begin_seq;
    int64_t from_us;
};
void count_state_encode(const struct count_state *state, struct buffer *out);
MUST_CHECK enum err count_state_decode(struct span value, struct count_state *out);

void count_name_encode(struct span tenant, struct span name, struct buffer *out);
MUST_CHECK enum err count_name_decode(struct span value, struct span *tenant, struct span *name);

void count_value_encode(struct span value, struct buffer *out);
MUST_CHECK enum err count_value_decode(struct span bytes, struct span *value);

struct count_total {
    uint64_t total;
    int64_t last_us;
};
void count_total_encode(const struct count_total *total, struct buffer *out);
MUST_CHECK enum err count_total_decode(struct span value, struct count_total *out);

struct count_entry {
    uint32_t offset_us; /* in its slot */
    uint16_t channel;
    uint16_t campaign;
    uint64_t user; /* 0: the event has none */
};
/* The number of entries of a chunk, checked; each can then be read. */
MUST_CHECK enum err count_chunk_count(struct span value, size_t *count_out);
struct count_entry count_chunk_entry(struct span value, size_t i);
void count_chunk_begin(struct buffer *out);
void count_chunk_append(struct buffer *chunk, const struct count_entry *entry);

/* A roll-up in one piece, as it is before it is cut and after it has been put together. */
void count_rollup_encode(uint64_t total, const struct user_set *users, struct buffer *out);
/* Adds it to *TOTAL and *USERS. */
MUST_CHECK enum err count_rollup_decode(struct span bytes, uint64_t *total, struct user_set *users);
/* Its two numbers, for which the first piece is enough. False: it does not say how many users. */
bool count_rollup_peek(struct span piece, uint64_t *total_out, uint64_t *users_out);

struct count_removal {
    int64_t occurred_us;
    uint64_t user;
    struct span tenant;
    struct span name;
    struct span channel;
    struct span campaign_id;
};
/* The removal of EVENT, which was record SEQ, as a change. */
void count_removal_put(struct count_changes *changes, uint64_t seq, const struct event *event);
MUST_CHECK enum err count_removal_decode(struct span value, struct count_removal *out);

#endif
