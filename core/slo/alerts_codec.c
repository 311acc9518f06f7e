/*
 * The book of alerts as bytes. Integers are little-endian.
 *
 *   magic "SLUALERT" | version u32 | crc u32 (CRC-32C of all after it) | records u32
 *   record: tenant length u8 | service length u8 | id length u8 | tenant | service | id
 *           then for page and ticket:
 *           status u8 | rules u8 | rule u8 | flags u8 (1 no data, 2 held back) | told u8
 *           | since u64 | fired u64 | resolved u64 | told: fired u64
 */
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/slo/alerts_internal.h"

enum {
    MAGIC_SIZE = 8,
    VERSION = 1,
    VERSION_AT = MAGIC_SIZE,
    CRC_AT = VERSION_AT + 4,
    COUNT_AT = CRC_AT + 4,
    HEADER_SIZE = COUNT_AT + 4,
    LENGTHS_SIZE = 3,
    STATE_SIZE = 5 + 4 * 8,
    FLAG_NO_DATA = 1,
    FLAG_HELD_BACK = 2,
};

static const char MAGIC[MAGIC_SIZE] = {'S', 'L', 'U', 'A', 'L', 'E', 'R', 'T'};

static void
encode_state(struct buffer *out, const struct alert_state *state, struct told told)
{
    uint8_t bytes[STATE_SIZE];

    bytes[0] = (uint8_t)state->status;
    bytes[1] = state->rules;
    bytes[2] = state->rule;
    bytes[3] =
        (uint8_t)((state->no_data ? FLAG_NO_DATA : 0) | (state->held_back ? FLAG_HELD_BACK : 0));
    bytes[4] = told.status;
    put_u64(bytes + 5, (uint64_t)state->since_us);
    put_u64(bytes + 13, (uint64_t)state->fired_us);
    put_u64(bytes + 21, (uint64_t)state->resolved_us);
    put_u64(bytes + 29, (uint64_t)told.fired_us);
    buffer_append(out, bytes, sizeof(bytes));
}

void
alerts_encode(const struct alerts *alerts, struct buffer *out)
{
    uint8_t header[HEADER_SIZE] = {0};
    size_t at = out->len;
    uint32_t records = 0;

    buffer_append(out, header, sizeof(header));
    for (uint32_t i = 0; i < alerts->count; i++) {
        const struct watched_series *series = alerts->series[i];

        for (uint32_t j = 0; j < series->count; j++) {
            const struct watched *watched = &series->watched[j];
            struct span id = span_of(watched->id);

            buffer_append_char(out, (char)series->tenant.len);
            buffer_append_char(out, (char)series->service.len);
            buffer_append_char(out, (char)id.len);
            buffer_append_span(out, series->tenant);
            buffer_append_span(out, series->service);
            buffer_append_span(out, id);
            for (unsigned s = 0; s < ALERT_SEVERITIES; s++) {
                encode_state(out, &watched->state[s], watched->told[s]);
            }
            records++;
        }
    }
    if (out->failed) {
        return;
    }
    memcpy(header, MAGIC, MAGIC_SIZE);
    put_u32(header + VERSION_AT, VERSION);
    put_u32(header + COUNT_AT, records);
    memcpy(out->data + at, header, sizeof(header));
    put_u32(header + CRC_AT, crc32c(0, out->data + at + COUNT_AT, out->len - at - COUNT_AT));
    memcpy(out->data + at, header, sizeof(header));
}

/* Takes LEN bytes from *REST; NULL when there are fewer. */
static const char *
take(struct span *rest, size_t len)
{
    const char *bytes = rest->data;

    if (rest->len < len) {
        return NULL;
    }
    rest->data += len;
    rest->len -= len;
    return bytes;
}

/* A checksum that matches says that we wrote it, not that it makes sense. */
static bool
decode_state(const char *from, struct alert_state *state, struct told *told)
{
    const uint8_t *bytes = (const uint8_t *)from;

    if (bytes[0] >= ALERT_STATUSES || bytes[1] >= 1U << ALERT_RULES ||
        (bytes[2] >= ALERT_RULES && bytes[2] != ALERT_RULE_NONE) ||
        (bytes[3] & ~(FLAG_NO_DATA | FLAG_HELD_BACK)) != 0 ||
        (bytes[0] == ALERT_FIRING) != (bytes[1] != 0) ||
        (bytes[4] != ALERT_OK && bytes[4] != ALERT_FIRING && bytes[4] != ALERT_RESOLVED)) {
        return false;
    }
    state->status = (enum alert_status)bytes[0];
    state->rules = bytes[1];
    state->rule = bytes[2];
    state->no_data = (bytes[3] & FLAG_NO_DATA) != 0;
    state->held_back = (bytes[3] & FLAG_HELD_BACK) != 0;
    state->since_us = (int64_t)get_u64(bytes + 5);
    state->fired_us = (int64_t)get_u64(bytes + 13);
    state->resolved_us = (int64_t)get_u64(bytes + 21);
    *told = (struct told){bytes[4], (int64_t)get_u64(bytes + 29)};
    return true;
}

static enum err
decode_record(struct alerts *alerts, struct span *rest)
{
    const char *lengths = take(rest, LENGTHS_SIZE);
    struct watched_series *series;
    struct watched *watched;
    const char *names;
    struct span tenant;
    struct span service;
    struct span id;

    if (lengths == NULL) {
        return ERR_CORRUPT;
    }
    tenant.len = (uint8_t)lengths[0];
    service.len = (uint8_t)lengths[1];
    id.len = (uint8_t)lengths[2];
    names = take(rest, tenant.len + service.len + id.len);
    if (names == NULL || tenant.len == 0 || service.len == 0 || id.len == 0 ||
        id.len >= sizeof(watched->id)) {
        return ERR_CORRUPT;
    }
    tenant.data = names;
    service.data = names + tenant.len;
    id.data = service.data + service.len;
    series = alerts_series(alerts, tenant, service);
    if (series == NULL) {
        return ERR_NO_MEMORY;
    }
    if (series->count == WATCHED_MAX) {
        return ERR_CORRUPT;
    }
    watched = alerts_watch(series, id);
    if (watched == NULL) {
        return ERR_NO_MEMORY;
    }
    for (unsigned s = 0; s < ALERT_SEVERITIES; s++) {
        const char *state = take(rest, STATE_SIZE);

        if (state == NULL || !decode_state(state, &watched->state[s], &watched->told[s])) {
            return ERR_CORRUPT;
        }
    }
    return ERR_OK;
}

static enum err
decode_book(struct alerts *alerts, struct span bytes)
{
    const uint8_t *header = (const uint8_t *)bytes.data;
    struct span rest;
    enum err err = ERR_OK;

    if (bytes.len < HEADER_SIZE || memcmp(header, MAGIC, MAGIC_SIZE) != 0) {
        return ERR_CORRUPT;
    }
    if (get_u32(header + VERSION_AT) != VERSION) {
        return ERR_FORMAT;
    }
    if (get_u32(header + CRC_AT) != crc32c(0, header + COUNT_AT, bytes.len - COUNT_AT)) {
        return ERR_CORRUPT;
    }
    rest = (struct span){bytes.data + HEADER_SIZE, bytes.len - HEADER_SIZE};
    for (uint32_t left = get_u32(header + COUNT_AT); err == ERR_OK && left > 0; left--) {
        err = decode_record(alerts, &rest);
    }
    return err == ERR_OK && rest.len > 0 ? ERR_CORRUPT : err;
}

enum err
alerts_restore(struct alerts *alerts, struct span bytes)
{
    enum err err;

    pthread_mutex_lock(&alerts->lock);
    ASSERT(alerts->count == 0);
    err = decode_book(alerts, bytes);
    if (err != ERR_OK) {
        alerts_clear(alerts);
    }
    pthread_mutex_unlock(&alerts->lock);
    return err;
}
