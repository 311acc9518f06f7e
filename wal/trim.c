/*
 * trim.c - how much the log holds, how much more it may take, and what may go.
 *
 * Invariants: a record is dropped only when the sink has it and the retained window behind the
 * offset is full; the newest block is never dropped, so the next sequence number can always be
 * read from the log itself; appends stop well before LMDB's map is full, because a full map
 * cannot even delete.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#include "core/base/log.h"
#include "wal/wal_internal.h"

enum {
    ID_BLOCKS_PER_TURN = 256,
    SLICES_PER_TURN = 4096,
    ROOM_NONE_US = 1000000, /* after a refusal by LMDB itself nothing is tried for so long */
};

enum err
segment_list_push(struct segment_list *list, struct segment segment)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        struct segment *ring = calloc(capacity, sizeof(*ring));

        if (ring == NULL) {
            return ERR_NO_MEMORY;
        }
        ASSERT(list->count == 0 || list->ring != NULL);
        for (size_t i = 0; i < list->count; i++) {
            ring[i] = list->ring[(list->head + i) & (list->capacity - 1)];
        }
        free(list->ring);
        list->ring = ring;
        list->capacity = capacity;
        list->head = 0;
    }
    ASSERT(list->ring != NULL);
    list->ring[(list->head + list->count) & (list->capacity - 1)] = segment;
    list->count++;
    list->bytes += segment.bytes;
    return ERR_OK;
}

void
segment_list_free(struct segment_list *list)
{
    free(list->ring);
    *list = (struct segment_list){0};
}

static struct segment *
segment_at(const struct segment_list *list, size_t i)
{
    ASSERT(i < list->count);
    return &list->ring[(list->head + i) & (list->capacity - 1)];
}

uint64_t
next_seq_of_partition(uint64_t seq, uint32_t partition, uint32_t partitions)
{
    uint64_t next = seq + 1;
    uint32_t at = journal_partition_of(next, partitions);
    uint64_t stripe;

    if (at == partition) {
        return next;
    }
    stripe = (next - 1) / JOURNAL_STRIPE + (partition + partitions - at) % partitions;
    return stripe * JOURNAL_STRIPE + 1;
}

uint64_t
replicated_prefix(const struct wal *wal)
{
    uint64_t prefix = atomic_load_explicit(&wal->durable_seq, memory_order_acquire);

    for (uint32_t p = 0; p < wal->state.partitions; p++) {
        uint64_t replicated = atomic_load_explicit(&wal->replicated[p], memory_order_acquire);
        uint64_t next = next_seq_of_partition(replicated, p, wal->state.partitions);

        if (next - 1 < prefix) {
            prefix = next - 1;
        }
    }
    return prefix;
}

/* What may be dropped is in the sink and in the history of counts. */
static uint64_t
trimmable_prefix(const struct wal *wal)
{
    uint64_t replicated = replicated_prefix(wal);
    uint64_t counted = atomic_load(&wal->counted_seq);

    return replicated < counted ? replicated : counted;
}

static uint64_t
pages_of(MDB_txn *txn, MDB_dbi dbi)
{
    MDB_stat stat;

    if (mdb_stat(txn, dbi, &stat) != 0) {
        return 0;
    }
    return stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
}

/* ---- segments ---- */

static int
segment_store(struct wal *wal, MDB_txn *txn, const struct segment *segment)
{
    uint8_t raw[SEGMENT_VALUE_SIZE];
    MDB_val key = val_of(&segment->first_seq, sizeof(segment->first_seq));
    MDB_val value = val_of(raw, sizeof(raw));

    segment_value_encode(segment->first_seq, segment->last_seq, segment->bytes, raw);
    return mdb_put(txn, wal->segments_db, &key, &value, 0);
}

/* ERR_CORRUPT when an entry is damaged or does not follow the one before. */
static enum err
push_stored(struct wal *wal, MDB_val key, MDB_val value)
{
    struct segment_list *list = &wal->segments;
    struct segment segment;
    enum err err;

    if (key.mv_size != sizeof(segment.first_seq)) {
        return ERR_CORRUPT;
    }
    memcpy(&segment.first_seq, key.mv_data, sizeof(segment.first_seq));
    err = segment_value_decode(segment.first_seq, span_of_val(value), &segment.last_seq,
                               &segment.bytes);
    if (err != ERR_OK) {
        return err;
    }
    if (segment.last_seq < segment.first_seq || segment.last_seq > atomic_load(&wal->logged_seq) ||
        (list->count > 0 && segment_at(list, list->count - 1)->last_seq != segment.first_seq - 1)) {
        return ERR_CORRUPT;
    }
    return segment_list_push(list, segment);
}

/*
 * Damaged entries are forgotten: the blocks themselves are then sized as one segment, which is
 * right about everything but how finely it can be trimmed.
 */
static int
load_closed(struct wal *wal, MDB_cursor *cursor)
{
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);

    for (; rc == 0; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        enum err err = push_stored(wal, key, value);

        if (err == ERR_NO_MEMORY) {
            return ENOMEM;
        }
        if (err != ERR_OK) {
            log_error("wal.segments_damaged", LOG_U64("count", wal->segments.count), LOG_ERR(err),
                      LOG_END);
            segment_list_free(&wal->segments);
            wal->segments_damaged = true;
            return 0;
        }
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* The open segment is not stored: its blocks are sized again, at most one segment's worth. */
static int
load_open(struct wal *wal, MDB_cursor *cursor, uint64_t after_seq)
{
    struct segment open = {0, atomic_load(&wal->logged_seq), 0};
    uint64_t first = after_seq + 1;
    MDB_val key = val_of(&first, sizeof(first));
    MDB_val value;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);

    for (; rc == 0; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (open.bytes == 0) {
            memcpy(&open.first_seq, key.mv_data, sizeof(open.first_seq));
        }
        open.bytes += block_footprint(value.mv_size, wal->page_size);
    }
    if (rc != MDB_NOTFOUND) {
        return rc;
    }
    if (open.bytes == 0) {
        return 0;
    }
    return segment_list_push(&wal->segments, open) == ERR_OK ? 0 : ENOMEM;
}

/* A segment may be half dropped, so the oldest record is asked of the log itself. */
static int
load_first_block(struct wal *wal, MDB_cursor *cursor)
{
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);

    wal->first_block_seq = 0;
    if (rc == 0) {
        memcpy(&wal->first_block_seq, key.mv_data, sizeof(wal->first_block_seq));
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int
segments_load(struct wal *wal, MDB_txn *txn)
{
    MDB_cursor *cursor = NULL;
    uint64_t closed_to = 0;
    int rc = mdb_cursor_open(txn, wal->segments_db, &cursor);

    segment_list_free(&wal->segments);
    wal->segments_damaged = false;
    if (rc != 0) {
        return rc;
    }
    rc = load_closed(wal, cursor);
    mdb_cursor_close(cursor);
    if (rc != 0) {
        return rc;
    }
    if (wal->segments.count > 0) {
        closed_to = segment_at(&wal->segments, wal->segments.count - 1)->last_seq;
    }
    rc = mdb_cursor_open(txn, wal->log, &cursor);
    if (rc != 0) {
        return rc;
    }
    rc = load_open(wal, cursor, closed_to);
    if (rc == 0) {
        rc = load_first_block(wal, cursor);
    }
    mdb_cursor_close(cursor);
    return rc;
}

int
segments_note_block(struct wal *wal, MDB_txn *txn, uint64_t first, uint64_t last, size_t len)
{
    struct segment_list *list = &wal->segments;
    struct segment *open = list->count == 0 ? NULL : segment_at(list, list->count - 1);
    const uint64_t bytes = block_footprint(len, wal->page_size);

    if (wal->first_block_seq == 0) {
        wal->first_block_seq = first;
    }
    if (open != NULL && open->bytes < wal->segment_bytes_max) {
        open->last_seq = last;
        open->bytes += bytes;
        list->bytes += bytes;
        return 0;
    }
    if (open != NULL) {
        int rc = segment_store(wal, txn, open);

        if (rc != 0) {
            return rc;
        }
    }
    return segment_list_push(list, (struct segment){first, last, bytes}) == ERR_OK ? 0 : ENOMEM;
}

/* ---- trimming ---- */

/*
 * True while the oldest closed segment is in the sink and the segments after it that are in the
 * sink too fill the retained window. Looks at no more of them than the window holds: this is asked
 * before every group, also with a long log behind.
 */
bool
trim_is_due(const struct wal *wal)
{
    const struct segment_list *list = &wal->segments;
    uint64_t prefix;
    uint64_t behind = 0;

    if (list->count < 2) {
        return false;
    }
    prefix = trimmable_prefix(wal);
    if (segment_at(list, 0)->last_seq > prefix) {
        return false;
    }
    for (size_t i = 1; i < list->count && behind < wal->retain_bytes; i++) {
        const struct segment *segment = segment_at(list, i);

        if (segment->last_seq > prefix) {
            return false;
        }
        behind += segment->bytes;
    }
    return behind >= wal->retain_bytes;
}

/* Deletes blocks of the oldest segment; *BLOCKS_LEFT bounds the work. MDB_NOTFOUND: none of it is
 * left. */
static int
drop_blocks(MDB_cursor *cursor, const struct segment *oldest, uint32_t *blocks_left)
{
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);

    while (rc == 0 && *blocks_left > 0) {
        uint64_t first;

        memcpy(&first, key.mv_data, sizeof(first));
        if (first > oldest->last_seq) {
            return MDB_NOTFOUND;
        }
        rc = mdb_cursor_del(cursor, 0);
        (*blocks_left)--;
        if (rc == 0) {
            rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
        }
    }
    return rc;
}

static int
forget_oldest(struct wal *wal, MDB_txn *txn)
{
    struct segment_list *list = &wal->segments;
    struct segment *oldest = segment_at(list, 0);
    MDB_val key = val_of(&oldest->first_seq, sizeof(oldest->first_seq));
    int rc = mdb_del(txn, wal->segments_db, &key, NULL);

    list->bytes -= oldest->bytes;
    list->head = (list->head + 1) & (list->capacity - 1);
    list->count--;
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int
trim_some(struct wal *wal, MDB_txn *txn, uint32_t blocks_max)
{
    MDB_cursor *cursor = NULL;
    int rc = 0;

    if (!trim_is_due(wal)) {
        return 0;
    }
    rc = mdb_cursor_open(txn, wal->log, &cursor);
    if (rc != 0) {
        return rc;
    }
    do {
        rc = drop_blocks(cursor, segment_at(&wal->segments, 0), &blocks_max);
        if (rc == MDB_NOTFOUND) {
            rc = forget_oldest(wal, txn);
        }
    } while (rc == 0 && blocks_max > 0 && trim_is_due(wal));
    if (rc == 0) {
        rc = load_first_block(wal, cursor);
    }
    mdb_cursor_close(cursor);
    return rc;
}

/* Drops the oldest id block when the window does without it; *MORE says whether to go on. */
static int
drop_id_block(struct wal *wal, MDB_cursor *cursor, bool *more)
{
    MDB_val key;
    MDB_val value;
    uint64_t first = 0;
    uint32_t count = 0;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);

    *more = false;
    if (rc != 0) {
        return rc == MDB_NOTFOUND ? 0 : rc;
    }
    memcpy(&first, key.mv_data, sizeof(first));
    /* A damaged block is of no use to anybody: dropped as if empty, which is how it was loaded. */
    if (id_block_count(span_of_val(value), first, &count) != ERR_OK) {
        log_error("wal.ids_damaged", LOG_U64("first_seq", first), LOG_END);
    }
    if (wal->ids_on_disk < wal->config.id_window + count) {
        return 0;
    }
    wal->ids_on_disk -= count;
    *more = true;
    return mdb_cursor_del(cursor, 0);
}

int
trim_ids(struct wal *wal, MDB_txn *txn)
{
    /* Always more than the group adds. */
    size_t blocks = ID_BLOCKS_PER_TURN + 2 * wal->new_id_count / ID_BLOCK_ENTRIES_MAX;
    MDB_cursor *cursor = NULL;
    bool more = true;
    int rc;

    if (wal->ids_on_disk <= wal->config.id_window + ID_BLOCK_ENTRIES_MAX) {
        return 0;
    }
    rc = mdb_cursor_open(txn, wal->ids, &cursor);
    if (rc != 0) {
        return rc;
    }
    while (rc == 0 && more && blocks-- > 0) {
        rc = drop_id_block(wal, cursor, &more);
    }
    mdb_cursor_close(cursor);
    return rc;
}

static bool
slices_are_too_many(struct wal *wal, MDB_txn *txn)
{
    return pages_of(txn, wal->slices) * wal->page_size > wal->slices_bytes_max;
}

int
trim_slices(struct wal *wal, MDB_txn *txn)
{
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    int rc;

    if (!slices_are_too_many(wal, txn)) {
        return 0;
    }
    rc = mdb_cursor_open(txn, wal->slices, &cursor);
    if (rc != 0) {
        return rc;
    }
    for (int i = 0; i < SLICES_PER_TURN && slices_are_too_many(wal, txn); i++) {
        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
        if (rc == 0) {
            rc = mdb_cursor_del(cursor, 0);
        }
        if (rc != 0) {
            break;
        }
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* ---- room ---- */

/*
 * Pages in LMDB's free list that the next transaction may reuse: those freed before the oldest
 * snapshot anybody still reads. Each entry is keyed by the transaction that freed it and begins
 * with a count. LMDB gives out the free list to read transactions only.
 */
static uint64_t
reusable_pages(struct wal *wal)
{
    uint64_t oldest = oldest_snapshot(wal);
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    uint64_t total = 0;

    if (mdb_txn_begin(wal->env, NULL, MDB_RDONLY, &txn) != 0) {
        return 0;
    }
    if (mdb_cursor_open(txn, 0, &cursor) == 0) {
        while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
            size_t freed_by;
            size_t count;

            memcpy(&freed_by, key.mv_data, sizeof(freed_by));
            if (freed_by >= oldest) {
                break;
            }
            memcpy(&count, value.mv_data, sizeof(count));
            total += count;
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return total;
}

/*
 * A stuck reader keeps freed pages from being reused, so the file can fill up although little
 * in it is alive. Looked at only once the file has grown into the reserve.
 */
static bool
map_is_short(struct wal *wal)
{
    /* What is staged has been accepted and must find its pages beside the reserve. */
    const uint64_t reserve = wal->map_pages / 8 + STAGE_BYTES / wal->page_size;
    MDB_envinfo info;
    uint64_t used;

    if (mdb_env_info(wal->env, &info) != 0) {
        return true;
    }
    used = (uint64_t)info.me_last_pgno + 1;
    return used + reserve > wal->map_pages && used + reserve > wal->map_pages + reusable_pages(wal);
}

static bool
disk_is_short(struct wal *wal)
{
    struct statvfs disk;

    if (statvfs(wal->dir, &disk) == 0) {
        wal->disk_free = (uint64_t)disk.f_bavail * disk.f_frsize;
    }
    return wal->disk_free < (uint64_t)DISK_RESERVE;
}

uint64_t
log_bytes(struct wal *wal, MDB_txn *txn)
{
    return pages_of(txn, wal->log) * wal->page_size;
}

uint64_t
count_bytes(struct wal *wal, MDB_txn *txn)
{
    return pages_of(txn, wal->counts) * wal->page_size;
}

static void
set_full(struct wal *wal, bool full, const char *cause)
{
    if (full != atomic_load(&wal->full)) {
        atomic_store(&wal->full, full);
        log_warn(full ? "wal.full" : "wal.has_room", LOG_STR("cause", cause),
                 LOG_U64("live_bytes", atomic_load(&wal->live_bytes)),
                 LOG_U64("limit_bytes", wal->config.bytes_max),
                 LOG_U64("disk_free_bytes", wal->disk_free), LOG_END);
    }
}

void
room_update(struct wal *wal, uint64_t live)
{
    /* A log that was full stays so until there is some room, or it would flap. */
    uint64_t slack = atomic_load(&wal->full) ? wal->config.bytes_max / 64 : 0;
    const char *cause = NULL;

    atomic_store_explicit(&wal->live_bytes, live, memory_order_relaxed);
    if (live + slack >= wal->config.bytes_max) {
        cause = "limit";
    } else if (disk_is_short(wal)) {
        cause = "disk";
    } else if (map_is_short(wal)) {
        cause = "map";
    } else if (room_is_none(wal)) {
        cause = "refused";
    }
    set_full(wal, cause != NULL, cause);
}

void
room_none(struct wal *wal)
{
    wal->none_until_us = clock_monotonic_us(wal->config.clock) + ROOM_NONE_US;
    set_full(wal, true, "refused");
}

bool
room_is_none(const struct wal *wal)
{
    return wal->none_until_us != 0 && clock_monotonic_us(wal->config.clock) < wal->none_until_us;
}

bool
room_for(struct wal *wal, uint64_t group_bytes, uint64_t bytes)
{
    uint64_t live = atomic_load_explicit(&wal->live_bytes, memory_order_relaxed);
    uint64_t wanted = group_bytes + bytes + wal->staged.len;

    /* Frames fill pages by about seven eighths. */
    return !atomic_load(&wal->full) && live + wanted + wanted / 7 <= wal->config.bytes_max &&
           2 * wanted + DISK_RESERVE / 2 <= wal->disk_free;
}
