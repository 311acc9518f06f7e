#include "core/counts/count_cell.h"

#include "core/base/bytes.h"

enum {
    VALUE_VERSION = 1,
    ROLLUP_VERSION = 2,
    ROLLUP_HEADER_SIZE_1 = 1 + 8, /* of version 1 */
    ROLLUP_HEADER_SIZE = 1 + 8 + 8,
    MINUTE_US = 60 * 1000 * 1000,
};

int64_t
count_level_us(enum count_level level)
{
    static const int64_t width_us[COUNT_LEVELS] = {
        [COUNT_SECOND] = INT64_C(1000000),
        [COUNT_MINUTE] = INT64_C(60000000),
        [COUNT_HOUR] = INT64_C(3600000000),
        [COUNT_DAY] = INT64_C(86400000000),
    };

    return width_us[level];
}

int64_t
count_floor(int64_t us, int64_t width_us)
{
    int64_t rest = us % width_us;

    return us - (rest < 0 ? rest + width_us : rest);
}

/* ---- keys ---- */

static void
key_add(struct count_key *key, uint64_t value, size_t bytes)
{
    ASSERT(key->len + bytes <= sizeof(key->bytes));
    for (size_t i = bytes; i > 0; i--) {
        key->bytes[key->len++] = (char)(uint8_t)(value >> 8 * (i - 1));
    }
}

static void
key_add_time(struct count_key *key, int64_t us)
{
    key_add(key, (uint64_t)us ^ UINT64_C(1) << 63, 8);
}

static struct count_key
key_of(char kind)
{
    struct count_key key = {{0}, 0};

    key_add(&key, (uint8_t)kind, 1);
    return key;
}

struct count_key
count_key_state(void)
{
    return key_of('M');
}

struct count_key
count_key_name(uint32_t name)
{
    struct count_key key = key_of('N');

    key_add(&key, name, 4);
    return key;
}

struct count_key
count_key_value(uint32_t name, uint8_t dimension, uint16_t index)
{
    struct count_key key = key_of('V');

    key_add(&key, name, 4);
    key_add(&key, dimension, 1);
    key_add(&key, index, 2);
    return key;
}

struct count_key
count_key_total(uint32_t name)
{
    struct count_key key = key_of('T');

    key_add(&key, name, 4);
    return key;
}

struct count_key
count_key_chunk(uint32_t name, enum count_width width, int64_t slot_us, uint32_t n)
{
    struct count_key key = key_of('E');

    key_add(&key, name, 4);
    key_add(&key, width, 1);
    key_add_time(&key, slot_us);
    key_add(&key, n, 4);
    return key;
}

struct count_key
count_key_rollup(enum count_level level, uint32_t name, int64_t bucket_us, uint16_t channel,
                 uint16_t campaign, uint8_t piece)
{
    struct count_key key = key_of('U');

    key_add(&key, level, 1);
    key_add(&key, name, 4);
    key_add_time(&key, bucket_us);
    key_add(&key, channel, 2);
    key_add(&key, campaign, 2);
    key_add(&key, piece, 1);
    return key;
}

struct count_key
count_key_todo(enum count_level level, uint32_t name, int64_t bucket_us)
{
    struct count_key key = key_of('X');

    key_add(&key, level, 1);
    key_add(&key, name, 4);
    key_add_time(&key, bucket_us);
    return key;
}

struct count_key
count_key_removal(uint64_t seq)
{
    struct count_key key = key_of('R');

    key_add(&key, seq, 8);
    return key;
}

static uint64_t
take(const char **at, size_t bytes)
{
    uint64_t value = 0;

    for (size_t i = 0; i < bytes; i++) {
        value = value << 8 | (uint8_t) * (*at)++;
    }
    return value;
}

static int64_t
take_time(const char **at)
{
    uint64_t raw = take(at, 8) ^ UINT64_C(1) << 63;
    int64_t us;

    memcpy(&us, &raw, sizeof(us));
    return us;
}

/* True for a key of KIND with LEN bytes in all; *AT then stands behind the kind. */
static bool
is_key(struct span key, char kind, size_t len, const char **at)
{
    *at = key.data + 1;
    return key.len == len && key.data[0] == kind;
}

bool
count_parse_name(struct span key, uint32_t *name_out)
{
    const char *at;

    if (!is_key(key, 'N', 5, &at)) {
        return false;
    }
    *name_out = (uint32_t)take(&at, 4);
    return true;
}

bool
count_parse_value(struct span key, struct count_value_key *out)
{
    const char *at;

    if (!is_key(key, 'V', 8, &at)) {
        return false;
    }
    out->name = (uint32_t)take(&at, 4);
    out->dimension = (uint8_t)take(&at, 1);
    out->index = (uint16_t)take(&at, 2);
    return true;
}

bool
count_parse_chunk(struct span key, struct count_chunk_key *out)
{
    const char *at;
    uint64_t width;

    if (!is_key(key, 'E', 18, &at)) {
        return false;
    }
    out->name = (uint32_t)take(&at, 4);
    width = take(&at, 1);
    out->slot_us = take_time(&at);
    out->n = (uint32_t)take(&at, 4);
    out->width = width == COUNT_SLOT_SECOND ? COUNT_SLOT_SECOND : COUNT_SLOT_MINUTE;
    return width <= COUNT_SLOT_MINUTE;
}

static bool
take_bucket(const char **at, struct count_rollup_key *out)
{
    uint64_t level = take(at, 1);

    *out = (struct count_rollup_key){.level = COUNT_SECOND};
    if (level >= COUNT_LEVELS) {
        return false;
    }
    out->level = (enum count_level)level;
    out->name = (uint32_t)take(at, 4);
    out->bucket_us = take_time(at);
    return true;
}

bool
count_parse_rollup(struct span key, struct count_rollup_key *out)
{
    const char *at;

    if (!is_key(key, 'U', 19, &at) || !take_bucket(&at, out)) {
        return false;
    }
    out->channel = (uint16_t)take(&at, 2);
    out->campaign = (uint16_t)take(&at, 2);
    out->piece = (uint8_t)take(&at, 1);
    return true;
}

bool
count_parse_todo(struct span key, struct count_rollup_key *out)
{
    const char *at;

    return is_key(key, 'X', 14, &at) && take_bucket(&at, out);
}

bool
count_parse_removal(struct span key, uint64_t *seq_out)
{
    const char *at;

    if (!is_key(key, 'R', 9, &at)) {
        return false;
    }
    *seq_out = take(&at, 8);
    return true;
}

/* ---- values ---- */

static void
add_u64(struct buffer *out, uint64_t value)
{
    uint8_t raw[8];

    put_u64(raw, value);
    buffer_append(out, raw, sizeof(raw));
}

static void
add_text(struct buffer *out, struct span text)
{
    ASSERT(text.len <= EVENT_NAME_MAX);
    buffer_append_char(out, text.data != NULL ? 1 : 0);
    buffer_append_char(out, (char)(uint8_t)text.len);
    buffer_append_span(out, text);
}

/* What is left of a value being read; FAILED once it was too short. */
struct input {
    const uint8_t *at;
    size_t len;
    bool failed;
};

static struct input
input_of(struct span value, size_t skip)
{
    return (struct input){(const uint8_t *)value.data + skip, value.len - skip, false};
}

static uint64_t
read_u64(struct input *input)
{
    uint64_t value;

    if (input->len < 8) {
        input->failed = true;
        return 0;
    }
    value = get_u64(input->at);
    input->at += 8;
    input->len -= 8;
    return value;
}

static int64_t
read_i64(struct input *input)
{
    uint64_t raw = read_u64(input);
    int64_t value;

    memcpy(&value, &raw, sizeof(value));
    return value;
}

static struct span
read_text(struct input *input)
{
    struct span text = {NULL, 0};
    size_t len;

    if (input->len < 2 || input->at[0] > 1) {
        input->failed = true;
        return text;
    }
    len = input->at[1];
    if (input->len - 2 < len || (input->at[0] == 0 && len > 0)) {
        input->failed = true;
        return text;
    }
    if (input->at[0] == 1) {
        text = (struct span){(const char *)input->at + 2, len};
    }
    input->at += 2 + len;
    input->len -= 2 + len;
    return text;
}

static enum err
input_end(const struct input *input)
{
    return input->failed || input->len > 0 ? ERR_CORRUPT : ERR_OK;
}

static enum err
check_version(struct span value)
{
    if (value.len == 0) {
        return ERR_CORRUPT;
    }
    return value.data[0] == VALUE_VERSION ? ERR_OK : ERR_FORMAT;
}

void
count_state_encode(const struct count_state *state, struct buffer *out)
{
    buffer_append_char(out, VALUE_VERSION);
    add_u64(out, state->counted_seq);
    add_u64(out, state->begin_seq);
    add_u64(out, (uint64_t)state->from_us);
}

enum err
count_state_decode(struct span value, struct count_state *out)
{
    enum err err = check_version(value);
    struct input input;
    struct count_state state;

    if (err != ERR_OK) {
        return err;
    }
    input = input_of(value, 1);
    state.counted_seq = read_u64(&input);
    state.begin_seq = read_u64(&input);
    state.from_us = read_i64(&input);
    err = input_end(&input);
    if (err == ERR_OK && state.begin_seq > state.counted_seq) {
        err = ERR_CORRUPT;
    }
    if (err == ERR_OK) {
        *out = state;
    }
    return err;
}

void
count_name_encode(struct span tenant, struct span name, struct buffer *out)
{
    buffer_append_char(out, VALUE_VERSION);
    add_text(out, tenant);
    add_text(out, name);
}

enum err
count_name_decode(struct span value, struct span *tenant, struct span *name)
{
    enum err err = check_version(value);
    struct input input;

    if (err != ERR_OK) {
        return err;
    }
    input = input_of(value, 1);
    *tenant = read_text(&input);
    *name = read_text(&input);
    return input_end(&input);
}

void
count_value_encode(struct span value, struct buffer *out)
{
    buffer_append_char(out, VALUE_VERSION);
    add_text(out, value);
}

enum err
count_value_decode(struct span bytes, struct span *value)
{
    enum err err = check_version(bytes);
    struct input input;

    if (err != ERR_OK) {
        return err;
    }
    input = input_of(bytes, 1);
    *value = read_text(&input);
    return input_end(&input);
}

void
count_total_encode(const struct count_total *total, struct buffer *out)
{
    buffer_append_char(out, VALUE_VERSION);
    add_u64(out, total->total);
    add_u64(out, (uint64_t)total->last_us);
}

enum err
count_total_decode(struct span value, struct count_total *out)
{
    enum err err = check_version(value);
    struct input input;

    if (err != ERR_OK) {
        return err;
    }
    input = input_of(value, 1);
    out->total = read_u64(&input);
    out->last_us = read_i64(&input);
    return input_end(&input);
}

enum err
count_chunk_count(struct span value, size_t *count_out)
{
    enum err err = check_version(value);

    if (err != ERR_OK) {
        return err;
    }
    if ((value.len - 1) % COUNT_ENTRY_SIZE != 0) {
        return ERR_CORRUPT;
    }
    for (size_t at = 1; at < value.len; at += COUNT_ENTRY_SIZE) {
        if (get_u32((const uint8_t *)value.data + at) >= MINUTE_US) {
            return ERR_CORRUPT;
        }
    }
    *count_out = (value.len - 1) / COUNT_ENTRY_SIZE;
    return ERR_OK;
}

struct count_entry
count_chunk_entry(struct span value, size_t i)
{
    const uint8_t *raw = (const uint8_t *)value.data + 1 + i * COUNT_ENTRY_SIZE;

    return (struct count_entry){
        .offset_us = get_u32(raw),
        .channel = get_u16(raw + 4),
        .campaign = get_u16(raw + 6),
        .user = get_u64(raw + 8),
    };
}

void
count_chunk_begin(struct buffer *out)
{
    buffer_clear(out, SIZE_MAX);
    buffer_append_char(out, VALUE_VERSION);
}

void
count_chunk_append(struct buffer *chunk, const struct count_entry *entry)
{
    uint8_t raw[COUNT_ENTRY_SIZE];

    ASSERT(entry->offset_us < MINUTE_US);
    put_u32(raw, entry->offset_us);
    put_u16(raw + 4, entry->channel);
    put_u16(raw + 6, entry->campaign);
    put_u64(raw + 8, entry->user);
    buffer_append(chunk, raw, sizeof(raw));
}

void
count_rollup_encode(uint64_t total, const struct user_set *users, struct buffer *out)
{
    buffer_append_char(out, ROLLUP_VERSION);
    add_u64(out, total);
    add_u64(out, user_set_count(users));
    user_set_encode(users, out);
}

enum err
count_rollup_decode(struct span bytes, uint64_t *total, struct user_set *users)
{
    size_t header = ROLLUP_HEADER_SIZE;
    enum err err;

    if (bytes.len == 0) {
        return ERR_CORRUPT;
    }
    if (bytes.data[0] == VALUE_VERSION) {
        header = ROLLUP_HEADER_SIZE_1;
    } else if (bytes.data[0] != ROLLUP_VERSION) {
        return ERR_FORMAT;
    }
    if (bytes.len < header) {
        return ERR_CORRUPT;
    }
    err = user_set_decode_union((struct span){bytes.data + header, bytes.len - header}, users);
    if (err == ERR_OK) {
        *total += get_u64((const uint8_t *)bytes.data + 1);
    }
    return err;
}

bool
count_rollup_peek(struct span piece, uint64_t *total_out, uint64_t *users_out)
{
    if (piece.len < ROLLUP_HEADER_SIZE || piece.data[0] != ROLLUP_VERSION) {
        return false;
    }
    *total_out = get_u64((const uint8_t *)piece.data + 1);
    *users_out = get_u64((const uint8_t *)piece.data + 9);
    return true;
}

void
count_removal_put(struct count_changes *changes, uint64_t seq, const struct event *event)
{
    struct count_key key = count_key_removal(seq);
    struct buffer value = BUFFER_EMPTY;

    buffer_append_char(&value, VALUE_VERSION);
    add_u64(&value, (uint64_t)event->occurred_at_us);
    add_u64(&value, event->user_id.data == NULL ? 0 : user_hash(event->user_id));
    add_text(&value, event->tenant);
    add_text(&value, event->name);
    add_text(&value, event->channel);
    add_text(&value, event->campaign_id);
    if (value.failed) {
        changes->bytes.failed = true;
    } else {
        count_changes_put(changes, count_key_span(&key), buffer_span(&value));
    }
    buffer_free(&value);
}

enum err
count_removal_decode(struct span value, struct count_removal *out)
{
    enum err err = check_version(value);
    struct input input;

    if (err != ERR_OK) {
        return err;
    }
    input = input_of(value, 1);
    out->occurred_us = read_i64(&input);
    out->user = read_u64(&input);
    out->tenant = read_text(&input);
    out->name = read_text(&input);
    out->channel = read_text(&input);
    out->campaign_id = read_text(&input);
    return input_end(&input);
}
