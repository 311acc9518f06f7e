#include "wal/format.h"

#include "core/bytes.h"
#include "core/crc32c.h"

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
    put_u32(out, crc32c(0, out + 4, size - 4));
    return size;
}

static enum err
id_block_check(struct span block, uint8_t header[ID_BLOCK_HEADER_SIZE])
{
    if (block.len < ID_BLOCK_HEADER_SIZE) {
        return ERR_CORRUPT;
    }
    memcpy(header, block.data, ID_BLOCK_HEADER_SIZE);
    if (get_u32(header) != crc32c(0, block.data + 4, block.len - 4)) {
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
    enum err err = id_block_check(block, header);
    const char *at = block.data + ID_BLOCK_HEADER_SIZE;

    if (err != ERR_OK) {
        return err;
    }
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
id_block_count(struct span block, uint32_t *count_out)
{
    uint8_t header[ID_BLOCK_HEADER_SIZE];
    enum err err = id_block_check(block, header);

    if (err == ERR_OK) {
        *count_out = get_u16(header + 6);
    }
    return err;
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

void
slice_value_encode(const struct slice_key *key, const struct slice *slice, struct buffer *out)
{
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
    put_u32(crc, crc32c(0, out->data + start + 4, out->len - start - 4));
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
    uint64_t minute = 0;
    struct span rest;

    if (db_key.len != SLICE_KEY_SIZE || value.len < sizeof(crc)) {
        return ERR_CORRUPT;
    }
    memcpy(crc, value.data, sizeof(crc));
    rest = (struct span){value.data + 4, value.len - 4};
    if (get_u32(crc) != crc32c(0, rest.data, rest.len)) {
        return ERR_CORRUPT;
    }
    for (int i = 0; i < 8; i++) {
        minute = minute << 8 | (unsigned char)db_key.data[i];
    }
    key_out->minute = (int64_t)(minute ^ (UINT64_C(1) << 63));
    if (!take_name(&rest, &key_out->tenant) || !take_name(&rest, &key_out->service)) {
        return ERR_CORRUPT;
    }
    *encoded_out = rest;
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
    put_u32(out + 4, FORMAT_VERSION);
    memcpy(out + 8, state->node_id, JOURNAL_NODE_ID_SIZE);
    put_u64(out + 24, state->epoch);
    put_u32(out + 32, state->partitions);
    put_u64(out + 40, state->first_seq);
    for (uint32_t i = 0; i < state->partitions; i++) {
        put_u64(out + STATE_FIXED_SIZE + 8 * i, state->replicated[i]);
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
    if (get_u32(raw + 4) != FORMAT_VERSION) {
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
        state.replicated[i] = get_u64(raw + STATE_FIXED_SIZE + 8 * i);
    }
    *out = state;
    return ERR_OK;
}
