#include "wal/verify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/base/bytes.h"

enum {
    INSTANCE_SIZE = 16,
};

struct checked_segment {
    uint64_t first;
    uint64_t last;
    uint64_t bytes;
    uint64_t bytes_seen;
    bool seen_from_first; /* its first block was read, so it was not trimmed in part */
};

struct verifier {
    struct log_verified *out;
    void (*finding)(void *arg, uint64_t seq, const char *text);
    void *arg;
    struct buffer segments; /* of struct checked_segment, as the start found them */
    size_t segment_at;      /* the one the records are in now */
    uint64_t block;         /* key of the block read last */
    uint64_t last_id_seq;
    uint64_t last_epoch;
    bool epoch_seen;
};

static PRINTF_LIKE(3, 4) void found(struct verifier *verifier, uint64_t seq, const char *format,
                                    ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    verifier->out->findings++;
    verifier->finding(verifier->arg, seq, text);
}

/* ---- state ---- */

static void
check_state(struct verifier *verifier)
{
    const struct log_summary *start = &verifier->out->start;
    const struct log_state *state = &start->state;

    if (state->epoch == 0 || state->first_seq == 0) {
        found(verifier, 0, "the state record has epoch %" PRIu64 " and first seq %" PRIu64,
              state->epoch, state->first_seq);
    }
    for (uint32_t p = 0; p < state->partitions; p++) {
        const uint64_t replicated = state->replicated[p];

        if (replicated > start->last_seq) {
            found(verifier, replicated,
                  "partition %" PRIu32 " is replicated up to a seq after the log's last, %" PRIu64,
                  p, start->last_seq);
        } else if (replicated != 0 && journal_partition_of(replicated, state->partitions) != p) {
            found(verifier, replicated,
                  "partition %" PRIu32 " is replicated up to a seq of another partition", p);
        }
    }
}

/* ---- segments ---- */

static struct checked_segment *
segment_at(struct verifier *verifier, size_t i)
{
    return (struct checked_segment *)(void *)verifier->segments.data + i;
}

static size_t
segment_count(const struct verifier *verifier)
{
    return verifier->segments.len / sizeof(struct checked_segment);
}

static enum err
read_segment(void *arg, struct span key, struct span value)
{
    struct verifier *verifier = arg;
    struct checked_segment segment = {0};
    size_t count = segment_count(verifier);

    if (key.len != sizeof(segment.first)) {
        found(verifier, 0, "an entry of the segments has the wrong size");
        return ERR_OK;
    }
    memcpy(&segment.first, key.data, sizeof(segment.first));
    if (segment_value_decode(segment.first, value, &segment.last, &segment.bytes) != ERR_OK) {
        found(verifier, segment.first, "an entry of the segments is damaged");
        return ERR_OK;
    }
    if (segment.last < segment.first) {
        found(verifier, segment.first, "a segment ends before it begins");
        return ERR_OK;
    }
    if (count > 0 && segment_at(verifier, count - 1)->last + 1 != segment.first) {
        found(verifier, segment.first, "a segment does not follow on the one before, %" PRIu64,
              segment_at(verifier, count - 1)->last);
    }
    buffer_append(&verifier->segments, &segment, sizeof(segment));
    verifier->out->segments++;
    return verifier->segments.failed ? ERR_NO_MEMORY : ERR_OK;
}

/* Adds a block to its segment. Blocks come in order, so the segments are walked along with them. */
static void
count_block(struct verifier *verifier, uint64_t key, size_t size)
{
    struct checked_segment *segment;

    while (verifier->segment_at < segment_count(verifier) &&
           segment_at(verifier, verifier->segment_at)->last < key) {
        verifier->segment_at++;
    }
    if (verifier->segment_at == segment_count(verifier)) {
        return; /* in the open segment */
    }
    segment = segment_at(verifier, verifier->segment_at);
    if (key == segment->first) {
        segment->seen_from_first = true;
    }
    if (key >= segment->first) {
        segment->bytes_seen += block_footprint(size, verifier->out->start.page_size);
    }
}

/* Sums of those segments that were read whole: nothing trimmed, nothing lost. */
static void
check_segments(struct verifier *verifier)
{
    for (size_t i = 0; i < segment_count(verifier); i++) {
        const struct checked_segment *segment = segment_at(verifier, i);

        if (segment->seen_from_first && segment->first > verifier->out->trimmed_to &&
            segment->bytes_seen != segment->bytes && verifier->out->lost.len == 0) {
            found(verifier, segment->first,
                  "the segment up to %" PRIu64 " holds %" PRIu64 " bytes, not %" PRIu64,
                  segment->last, segment->bytes_seen, segment->bytes);
        }
        if (segment->last > verifier->out->start.last_seq && segment->first <= segment->last &&
            segment->first <= verifier->out->start.last_seq) {
            found(verifier, segment->last, "a segment ends after the last record");
        }
    }
}

/* ---- records ---- */

static enum err
note_lost(struct verifier *verifier, const struct log_item *item)
{
    const struct log_range range = {item->seq, item->last_seq};

    if (item->seq == item->last_seq) {
        found(verifier, item->seq, "%s",
              item->kind == LOG_ITEM_MISSING ? "the record is missing" : item->why);
    } else {
        found(verifier, item->seq, "the records up to %" PRIu64 " are %s%s%s", item->last_seq,
              item->kind == LOG_ITEM_MISSING ? "missing" : "unreadable",
              item->kind == LOG_ITEM_MISSING ? "" : ": ",
              item->kind == LOG_ITEM_MISSING ? "" : item->why);
    }
    buffer_append(&verifier->out->lost, &range, sizeof(range));
    return verifier->out->lost.failed ? ERR_NO_MEMORY : ERR_OK;
}

static void
check_record(struct verifier *verifier, const struct log_item *item)
{
    const struct event *event = &item->event;
    uint8_t key[EVENT_KEY_SIZE];

    if (verifier->out->oldest_seq == 0) {
        verifier->out->oldest_seq = item->seq;
    }
    verifier->out->records++;
    if (item->block != 0 && item->block != verifier->block) {
        verifier->block = item->block;
        verifier->out->blocks++;
        count_block(verifier, item->block, item->block_size);
    }
    if (event->id_by_client) {
        event_key(event->tenant, event->id, key);
        if (memcmp(key, event->key, sizeof(key)) != 0) {
            found(verifier, item->seq, "its idempotency key does not belong to its id");
        }
    }
}

static enum err
check_item(void *arg, const struct log_item *item)
{
    struct verifier *verifier = arg;

    switch (item->kind) {
    case LOG_ITEM_RECORD:
        check_record(verifier, item);
        return ERR_OK;
    case LOG_ITEM_DAMAGED:
    case LOG_ITEM_MISSING:
        return note_lost(verifier, item);
    case LOG_ITEM_MISPLACED:
        found(verifier, item->seq, "%s", item->why);
        return ERR_OK;
    case LOG_ITEM_TRIMMED:
        verifier->out->trimmed_to = item->last_seq;
        return ERR_OK;
    }
    return ERR_OK;
}

/* ---- ids, slices, counts, starts ---- */

static void
check_id(void *arg, const struct id_entry *entry)
{
    struct verifier *verifier = arg;

    if (entry->seq <= verifier->last_id_seq) {
        found(verifier, entry->seq, "the remembered ids are out of order");
    }
    verifier->last_id_seq = entry->seq;
    verifier->out->ids++;
}

static enum err
check_id_block(void *arg, struct span key, struct span value)
{
    struct verifier *verifier = arg;
    uint64_t first = 0;
    enum err err;

    if (key.len == sizeof(first)) {
        memcpy(&first, key.data, sizeof(first));
    }
    verifier->out->id_blocks++;
    err = id_block_decode(value, first, check_id, verifier);
    if (err != ERR_OK) {
        found(verifier, first, "the remembered ids from this seq on are damaged (%s)",
              err_text(err));
    }
    return ERR_OK;
}

static enum err
check_slice(void *arg, struct span key, struct span value)
{
    struct verifier *verifier = arg;
    uint8_t expected[SLICE_KEY_SIZE];
    struct slice slice = {0};
    struct slice_key name;
    struct span encoded;
    enum err err = slice_value_decode(key, value, &name, &encoded);

    verifier->out->slices++;
    if (err == ERR_OK) {
        err = slice_decode_add(encoded, &slice);
    }
    slice_clear(&slice);
    if (err == ERR_NO_MEMORY) {
        return err;
    }
    if (err != ERR_OK) {
        found(verifier, 0, "a slice of the history, of minute %" PRId64 ", is damaged (%s)",
              slice_key_minute(key), err_text(err));
        return ERR_OK;
    }
    slice_key_encode(&name, expected);
    if (memcmp(expected, key.data, sizeof(expected)) != 0) {
        found(verifier, 0, "the slice of %.*s in minute %" PRId64 " has the key of another",
              (int)name.service.len, name.service.data, name.minute);
    }
    return ERR_OK;
}

/* What the values say is core's affair; that they are what was written, and whole, is the log's. */
static enum err
check_count(void *arg, struct span key, struct span value)
{
    struct verifier *verifier = arg;
    struct span bytes;

    verifier->out->counts++;
    if (counts_value_decode(key, value, &bytes) != ERR_OK) {
        found(verifier, 0, "an entry of the history of counts, of kind %c, is damaged",
              key.len > 0 && key.data[0] >= 'A' && key.data[0] <= 'Z' ? key.data[0] : '?');
    }
    return ERR_OK;
}

static enum err
check_instance(void *arg, struct span key, struct span value)
{
    struct verifier *verifier = arg;

    verifier->out->starts++;
    if (key.len != sizeof(verifier->last_epoch) || value.len != INSTANCE_SIZE) {
        found(verifier, 0, "an entry of the starts has the wrong size");
        return ERR_OK;
    }
    memcpy(&verifier->last_epoch, key.data, sizeof(verifier->last_epoch));
    if (verifier->last_epoch == verifier->out->start.state.epoch) {
        verifier->epoch_seen = true;
    }
    return ERR_OK;
}

/* ---- all of it ---- */

static enum err
verify_tables(struct log_view *view, struct verifier *verifier, struct buffer *problem)
{
    struct log_verified *out = verifier->out;
    enum err err = log_view_each_entry(view, LOG_TABLE_IDS, check_id_block, verifier, problem);

    if (err == ERR_OK) {
        err = log_view_each_entry(view, LOG_TABLE_SLICES, check_slice, verifier, problem);
    }
    if (err == ERR_OK) {
        err = log_view_each_entry(view, LOG_TABLE_COUNTS, check_count, verifier, problem);
    }
    if (err == ERR_OK) {
        err = log_view_each_entry(view, LOG_TABLE_INSTANCES, check_instance, verifier, problem);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (!verifier->epoch_seen) {
        found(verifier, 0, "the start of epoch %" PRIu64 " is not recorded",
              out->start.state.epoch);
    }
    return log_view_check_space(view, &out->pages_used, &out->pages_free, problem);
}

enum err
log_verify(struct log_view *view, void (*finding)(void *arg, uint64_t seq, const char *text),
           void *arg, struct log_verified *out, struct buffer *problem)
{
    struct verifier verifier = {.out = out, .finding = finding, .arg = arg};
    enum err err;

    *out = (struct log_verified){.lost = BUFFER_EMPTY};
    err = log_view_each_entry(view, LOG_TABLE_SEGMENTS, read_segment, &verifier, problem);
    if (err == ERR_OK) {
        err = log_view_summary(view, &out->start, problem);
    }
    if (err == ERR_OK) {
        check_state(&verifier);
        err = log_view_each(view, 1, out->start.last_seq, check_item, &verifier, problem);
    }
    if (err == ERR_OK) {
        check_segments(&verifier);
        err = verify_tables(view, &verifier, problem);
    }
    buffer_free(&verifier.segments);
    return err;
}

void
log_verified_free(struct log_verified *verified)
{
    buffer_free(&verified->lost);
}

/* Seqs of PARTITION in [FIRST, LAST]. */
static uint64_t
count_between(uint64_t first, uint64_t last, uint32_t partition, uint32_t partitions)
{
    return journal_partition_count(last, partition, partitions) -
           journal_partition_count(first - 1, partition, partitions);
}

uint64_t
log_verified_lost(const struct log_verified *verified, uint32_t partition, uint64_t after,
                  uint64_t to)
{
    uint64_t count = 0;

    for (size_t at = 0; at < verified->lost.len; at += sizeof(struct log_range)) {
        struct log_range range;

        memcpy(&range, verified->lost.data + at, sizeof(range));
        range.first = range.first > after ? range.first : after + 1;
        range.last = range.last < to ? range.last : to;
        if (range.first <= range.last) {
            count +=
                count_between(range.first, range.last, partition, verified->start.state.partitions);
        }
    }
    return count;
}
