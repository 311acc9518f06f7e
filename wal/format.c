#include "wal/format.h"

#include "core/base/bytes.h"
#include "core/base/crc32c.h"

void
frame_append(struct buffer *block, uint64_t seq, struct span body)
{
    uint8_t header[FRAME_HEADER_SIZE] = {0};

    put_u32(header + 4, crc32c(0, body.data, body.len));
    put_u64(header + 8, seq);
    put_u32(header + 16, narrow_u32(body.len));
    header[20] = FRAME_VERSION;
    header[21] = FRAME_KIND_EVENT;
    put_u32(header, crc32c(0, header + 4, FRAME_HEADER_SIZE - 4));
    buffer_append(block, header, sizeof(header));
    buffer_append_span(block, body);
}

size_t
frame_size(struct span rest)
{
    uint8_t header[FRAME_HEADER_SIZE];
    size_t size;

    ASSERT(rest.len >= sizeof(header));
    memcpy(header, rest.data, sizeof(header));
    size = sizeof(header) + get_u32(header + 16);
    ASSERT(size <= rest.len);
    return size;
}

enum err
frame_next(struct span *rest, struct frame *out, uint64_t *seq_out)
{
    uint8_t header[FRAME_HEADER_SIZE];
    struct span body;

    *seq_out = 0;
    if (rest->len == 0) {
        return ERR_NOT_FOUND;
    }
    if (rest->len < FRAME_HEADER_SIZE) {
        *rest = (struct span){NULL, 0};
        return ERR_CORRUPT;
    }
    memcpy(header, rest->data, sizeof(header));
    body = (struct span){rest->data + FRAME_HEADER_SIZE, get_u32(header + 16)};
    if (get_u32(header) != crc32c(0, header + 4, FRAME_HEADER_SIZE - 4) ||
        body.len > rest->len - FRAME_HEADER_SIZE) {
        *rest = (struct span){NULL, 0};
        return ERR_CORRUPT;
    }
    *seq_out = get_u64(header + 8);
    rest->data += FRAME_HEADER_SIZE + body.len;
    rest->len -= FRAME_HEADER_SIZE + body.len;
    if (header[20] != FRAME_VERSION || header[21] != FRAME_KIND_EVENT) {
        return ERR_FORMAT;
    }
    if (get_u32(header + 4) != crc32c(0, body.data, body.len)) {
        return ERR_CORRUPT;
    }
    *out = (struct frame){*seq_out, body};
    return ERR_OK;
}

/* Checksum of a database value together with its key: LMDB's pages have none of their own. */
static uint32_t
value_crc(const void *key, size_t key_len, const void *bytes, size_t len)
{
    return crc32c(crc32c(0, key, key_len), bytes, len);
}

static uint32_t
seq_value_crc(uint64_t key, const void *bytes, size_t len)
{
    uint8_t raw[8];

    put_u64(raw, key);
    return value_crc(raw, sizeof(raw), bytes, len);
}

size_t
id_block_encode(const struct id_entry *entries, size_t count, uint8_t out[BLOCK_MAX])
{
    uint8_t *at = out + ID_BLOCK_HEADER_SIZE;
    size_t size = ID_BLOCK_HEADER_SIZE + count * ID_ENTRY_SIZE;

    ASSERT(count > 0);
    ASSERT(count <= ID_BLOCK_ENTRIES_MAX);
    for (size_t i = 0; i < count; i++, at += ID_ENTRY_SIZE) {
        memcpy(at, entries[i].key, EVENT_KEY_SIZE);
        put_u32(at + 16, entries[i].content_crc);
        put_u32(at + 20, narrow_u32(entries[i].seq - entries[0].seq));
    }
    put_u16(out + 4, FORMAT_VERSION);
    put_u16(out + 6, narrow_u16(count));
    put_u32(out, seq_value_crc(entries[0].seq, out + 4, size - 4));
    return size;
}

static enum err
id_block_check(struct span block, uint64_t first_seq, uint8_t header[ID_BLOCK_HEADER_SIZE])
{
    if (block.len < ID_BLOCK_HEADER_SIZE) {
        return ERR_CORRUPT;
    }
    memcpy(header, block.data, ID_BLOCK_HEADER_SIZE);
    if (get_u32(header) != seq_value_crc(first_seq, block.data + 4, block.len - 4)) {
        return ERR_CORRUPT;
    }
    if (get_u16(header + 4) != FORMAT_VERSION) {
        return ERR_FORMAT;
    }
    if (block.len != ID_BLOCK_HEADER_SIZE + (size_t)get_u16(header + 6) * ID_ENTRY_SIZE) {
        return ERR_CORRUPT;
    }
    return ERR_OK;
}

enum err
id_block_decode(struct span block, uint64_t first_seq,
                void (*fn)(void *arg, const struct id_entry *entry), void *arg)
{
    uint8_t header[ID_BLOCK_HEADER_SIZE];
    enum err err = id_block_check(block, first_seq, header);
    const char *at;

    if (err != ERR_OK) {
        return err;
    }
    at = block.data + ID_BLOCK_HEADER_SIZE;
    for (uint16_t i = get_u16(header + 6); i > 0; i--, at += ID_ENTRY_SIZE) {
        uint8_t raw[ID_ENTRY_SIZE];
        struct id_entry entry;

        memcpy(raw, at, sizeof(raw));
        memcpy(entry.key, raw, EVENT_KEY_SIZE);
        entry.content_crc = get_u32(raw + 16);
        entry.seq = first_seq + get_u32(raw + 20);
        fn(arg, &entry);
    }
    return ERR_OK;
}

enum err
id_block_count(struct span block, uint64_t first_seq, uint32_t *count_out)
{
    uint8_t header[ID_BLOCK_HEADER_SIZE];
    enum err err = id_block_check(block, first_seq, header);

    if (err == ERR_OK) {
        *count_out = get_u16(header + 6);
    }
    return err;
}

uint64_t
block_footprint(size_t len, uint64_t page_size)
{
    const uint64_t page_header = 16;
    const uint64_t node = 8 + 8 + 2; /* LMDB's node header, the key, the slot in the page */

    if (len <= BLOCK_MAX) {
        return node + len;
    }
    return node + (page_header + len + page_size - 1) / page_size * page_size;
}

void
segment_value_encode(uint64_t first_seq, uint64_t last_seq, uint64_t bytes,
                     uint8_t out[SEGMENT_VALUE_SIZE])
{
    put_u32(out + 4, 0);
    put_u64(out + 8, last_seq);
    put_u64(out + 16, bytes);
    put_u32(out, seq_value_crc(first_seq, out + 4, SEGMENT_VALUE_SIZE - 4));
}

enum err
segment_value_decode(uint64_t first_seq, struct span value, uint64_t *last_seq_out,
                     uint64_t *bytes_out)
{
    uint8_t raw[SEGMENT_VALUE_SIZE];

    if (value.len != sizeof(raw)) {
        return ERR_CORRUPT;
    }
    memcpy(raw, value.data, sizeof(raw));
    if (get_u32(raw) != seq_value_crc(first_seq, raw + 4, sizeof(raw) - 4)) {
        return ERR_CORRUPT;
    }
    *last_seq_out = get_u64(raw + 8);
    *bytes_out = get_u64(raw + 16);
    return ERR_OK;
}

void
slice_key_encode(const struct slice_key *key, uint8_t out[SLICE_KEY_SIZE])
{
    uint64_t minute = (uint64_t)key->minute ^ (UINT64_C(1) << 63);

    for (int i = 0; i < 8; i++) {
        out[i] = (uint8_t)(minute >> (56 - 8 * i));
    }
    event_key(key->tenant, key->service, out + 8);
}

int64_t
slice_key_minute(struct span db_key)
{
    uint64_t minute = 0;

    if (db_key.len != SLICE_KEY_SIZE) {
        return 0;
    }
    for (int i = 0; i < 8; i++) {
        minute = minute << 8 | (unsigned char)db_key.data[i];
    }
    return (int64_t)(minute ^ (UINT64_C(1) << 63));
}

void
slice_value_encode(const struct slice_key *key, const struct slice *slice, struct buffer *out)
{
    uint8_t db_key[SLICE_KEY_SIZE];
    uint8_t crc[4] = {0};
    size_t start = out->len;

    buffer_append(out, crc, sizeof(crc));
    buffer_append_char(out, (char)narrow_u8(key->tenant.len));
    buffer_append_span(out, key->tenant);
    buffer_append_char(out, (char)narrow_u8(key->service.len));
    buffer_append_span(out, key->service);
    slice_encode(slice, out);
    if (out->failed) {
        return;
    }
    slice_key_encode(key, db_key);
    put_u32(crc, value_crc(db_key, sizeof(db_key), out->data + start + 4, out->len - start - 4));
    memcpy(out->data + start, crc, sizeof(crc));
}

static bool
take_name(struct span *rest, struct span *out)
{
    size_t len;

    if (rest->len == 0) {
        return false;
    }
    len = (unsigned char)rest->data[0];
    if (rest->len - 1 < len) {
        return false;
    }
    *out = (struct span){rest->data + 1, len};
    rest->data += 1 + len;
    rest->len -= 1 + len;
    return true;
}

enum err
slice_value_decode(struct span db_key, struct span value, struct slice_key *key_out,
                   struct span *encoded_out)
{
    uint8_t crc[4];
    struct slice_key key;
    struct span rest;

    if (db_key.len != SLICE_KEY_SIZE || value.len < sizeof(crc)) {
        return ERR_CORRUPT;
    }
    memcpy(crc, value.data, sizeof(crc));
    rest = (struct span){value.data + 4, value.len - 4};
    if (get_u32(crc) != value_crc(db_key.data, db_key.len, rest.data, rest.len)) {
        return ERR_CORRUPT;
    }
    key.minute = slice_key_minute(db_key);
    if (!take_name(&rest, &key.tenant) || !take_name(&rest, &key.service)) {
        return ERR_CORRUPT;
    }
    *key_out = key;
    *encoded_out = rest;
    return ERR_OK;
}

size_t
counts_value_encode(struct span db_key, struct span value,
                    uint8_t out[COUNTS_CRC_SIZE + COUNT_VALUE_MAX])
{
    ASSERT(value.len <= COUNT_VALUE_MAX);
    memcpy(out + COUNTS_CRC_SIZE, value.data, value.len);
    put_u32(out, value_crc(db_key.data, db_key.len, value.data, value.len));
    return COUNTS_CRC_SIZE + value.len;
}

enum err
counts_value_decode(struct span db_key, struct span value, struct span *out)
{
    uint8_t crc[COUNTS_CRC_SIZE];
    struct span rest;

    if (value.len <= sizeof(crc)) {
        return ERR_CORRUPT;
    }
    memcpy(crc, value.data, sizeof(crc));
    rest = (struct span){value.data + sizeof(crc), value.len - sizeof(crc)};
    if (get_u32(crc) != value_crc(db_key.data, db_key.len, rest.data, rest.len)) {
        return ERR_CORRUPT;
    }
    *out = rest;
    return ERR_OK;
}

size_t
log_state_encode(const struct log_state *state,
                 uint8_t out[STATE_FIXED_SIZE + 8 * JOURNAL_PARTITIONS_MAX])
{
    size_t size = STATE_FIXED_SIZE + (size_t)8 * state->partitions;

    ASSERT(state->partitions >= 1);
    ASSERT(state->partitions <= JOURNAL_PARTITIONS_MAX);
    memset(out, 0, STATE_FIXED_SIZE);
    put_u32(out + 4, STATE_VERSION);
    memcpy(out + 8, state->node_id, JOURNAL_NODE_ID_SIZE);
    put_u64(out + 24, state->epoch);
    put_u32(out + 32, state->partitions);
    put_u64(out + 40, state->first_seq);
    for (uint32_t i = 0; i < state->partitions; i++) {
        put_u64(out + STATE_FIXED_SIZE + (size_t)8 * i, state->replicated[i]);
    }
    put_u32(out, crc32c(0, out + 4, size - 4));
    return size;
}

enum err
log_state_decode(struct span bytes, struct log_state *out)
{
    uint8_t raw[STATE_FIXED_SIZE + 8 * JOURNAL_PARTITIONS_MAX];
    struct log_state state = {0};

    if (bytes.len < STATE_FIXED_SIZE) {
        return ERR_CORRUPT;
    }
    memcpy(raw, bytes.data, STATE_FIXED_SIZE);
    if (get_u32(raw) != crc32c(0, bytes.data + 4, bytes.len - 4)) {
        return ERR_CORRUPT;
    }
    if (get_u32(raw + 4) < 1 || get_u32(raw + 4) > STATE_VERSION) {
        return ERR_FORMAT;
    }
    state.partitions = get_u32(raw + 32);
    if (state.partitions < 1 || state.partitions > JOURNAL_PARTITIONS_MAX ||
        bytes.len != STATE_FIXED_SIZE + (size_t)8 * state.partitions) {
        return ERR_CORRUPT;
    }
    memcpy(raw, bytes.data, bytes.len);
    memcpy(state.node_id, raw + 8, JOURNAL_NODE_ID_SIZE);
    state.epoch = get_u64(raw + 24);
    state.first_seq = get_u64(raw + 40);
    for (uint32_t i = 0; i < state.partitions; i++) {
        state.replicated[i] = get_u64(raw + STATE_FIXED_SIZE + (size_t)8 * i);
    }
    *out = state;
    return ERR_OK;
}
