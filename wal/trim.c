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

#include "core/bytes.h"
#include "core/log.h"
#include "wal/wal_internal.h"

enum {
    SEGMENT_VALUE_SIZE = 16
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
        for (size_t i = 0; i < list->count; i++) {
            ring[i] = list->ring[(list->head + i) % list->capacity];
        }
        free(list->ring);
        list->ring = ring;
        list->capacity = capacity;
        list->head = 0;
    }
    list->ring[(list->head + list->count) % list->capacity] = segment;
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
    return &list->ring[(list->head + i) % list->capacity];
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

/* ---- segments ---- */

static int
segment_store(struct wal *wal, MDB_txn *txn, const struct segment *segment)
{
    uint8_t raw[SEGMENT_VALUE_SIZE];
    MDB_val key = val_of(&segment->first_seq, sizeof(segment->first_seq));
    MDB_val value = val_of(raw, sizeof(raw));

    put_u64(raw, segment->last_seq);
    put_u64(raw + 8, segment->bytes);
    return mdb_put(txn, wal->segments_db, &key, &value, 0);
}

static int
load_closed(struct wal *wal, MDB_cursor *cursor)
{
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);

    for (; rc == 0; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        struct segment segment;
        uint8_t raw[SEGMENT_VALUE_SIZE];

        if (key.mv_size != sizeof(segment.first_seq) || value.mv_size != sizeof(raw)) {
            return MDB_CORRUPTED;
        }
        memcpy(&segment.first_seq, key.mv_data, sizeof(segment.first_seq));
        memcpy(raw, value.mv_data, sizeof(raw));
        segment.last_seq = get_u64(raw);
        segment.bytes = get_u64(raw + 8);
        if (segment_list_push(&wal->segments, segment) != ERR_OK) {
            return ENOMEM;
        }
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* The open segment is not stored: its blocks are sized again, at most one segment's worth. */
static int
load_open(struct wal *wal, MDB_cursor *cursor, uint64_t after_seq)
{
    struct segment open = {after_seq + 1, wal->next_seq - 1, 0};
    uint64_t first = after_seq + 1;
    MDB_val key = val_of(&first, sizeof(first));
    MDB_val value;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);

    for (; rc == 0; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        open.bytes += value.mv_size;
    }
    if (rc != MDB_NOTFOUND) {
        return rc;
    }
    if (open.bytes == 0) {
        return 0;
    }
    return segment_list_push(&wal->segments, open) == ERR_OK ? 0 : ENOMEM;
}

int
segments_load(struct wal *wal, MDB_txn *txn)
{
    MDB_cursor *cursor = NULL;
    uint64_t closed_to = 0;
    int rc = mdb_cursor_open(txn, wal->segments_db, &cursor);

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
    mdb_cursor_close(cursor);
    return rc;
}

int
segments_note_block(struct wal *wal, MDB_txn *txn, uint64_t first, uint64_t last, uint64_t bytes)
{
    struct segment_list *list = &wal->segments;
    struct segment *open = list->count == 0 ? NULL : segment_at(list, list->count - 1);

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

/* Bytes of whole segments the sink has. */
static uint64_t
replicated_bytes(const struct wal *wal)
{
    uint64_t prefix = replicated_prefix(wal);
    uint64_t pending = 0;

    for (size_t i = wal->segments.count; i > 0; i--) {
        const struct segment *segment = segment_at(&wal->segments, i - 1);

        if (segment->last_seq <= prefix) {
            break;
        }
        pending += segment->bytes;
    }
    return wal->segments.bytes - pending;
}

bool
trim_is_due(const struct wal *wal)
{
    const struct segment *oldest;

    if (wal->segments.count < 2) {
        return false;
    }
    oldest = segment_at(&wal->segments, 0);
    return oldest->last_seq <= replicated_prefix(wal) &&
           replicated_bytes(wal) >= wal->config.retain_bytes + oldest->bytes;
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
    list->head = (list->head + 1) % list->capacity;
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
    mdb_cursor_close(cursor);
    return rc;
}

int
trim_ids(struct wal *wal, MDB_txn *txn)
{
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    int rc;

    if (wal->ids_on_disk <= wal->config.id_window + ID_BLOCK_ENTRIES_MAX) {
        return 0;
    }
    rc = mdb_cursor_open(txn, wal->ids, &cursor);
    if (rc != 0) {
        return rc;
    }
    for (int i = 0; i < 256 && rc == 0; i++) {
        uint32_t count = 0;

        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
        if (rc != 0) {
            break;
        }
        if (id_block_count(span_of_val(value), &count) != ERR_OK) {
            rc = MDB_CORRUPTED;
            break;
        }
        if (wal->ids_on_disk - count < wal->config.id_window) {
            break;
        }
        rc = mdb_cursor_del(cursor, 0);
        wal->ids_on_disk -= count;
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* ---- room ---- */

static uint64_t
pages_of(MDB_txn *txn, MDB_dbi dbi)
{
    MDB_stat stat;

    if (mdb_stat(txn, dbi, &stat) != 0) {
        return 0;
    }
    return stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
}

/* Pages in LMDB's free list; each of its values begins with a count. */
static uint64_t
free_list_pages(MDB_txn *txn)
{
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    uint64_t total = 0;

    if (mdb_cursor_open(txn, 0, &cursor) != 0) {
        return 0;
    }
    while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
        size_t count;

        memcpy(&count, value.mv_data, sizeof(count));
        total += count;
    }
    mdb_cursor_close(cursor);
    return total;
}

/*
 * A stuck reader keeps freed pages from being reused, so the file can fill up although little
 * in it is alive. Looked at only once the file has grown into the reserve.
 */
static bool
map_is_short(struct wal *wal, MDB_txn *txn)
{
    const uint64_t reserve = wal->map_pages / 8;
    MDB_envinfo info;
    uint64_t untouched;

    if (mdb_env_info(wal->env, &info) != 0) {
        return true;
    }
    untouched = wal->map_pages - ((uint64_t)info.me_last_pgno + 1);
    return untouched < reserve && untouched + free_list_pages(txn) < reserve;
}

static bool
disk_is_short(struct wal *wal)
{
    int64_t now_us = clock_monotonic_us(wal->config.clock);
    struct statvfs disk;

    if (wal->disk_checked_us != 0 && now_us - wal->disk_checked_us < 100000) {
        return wal->disk_low;
    }
    wal->disk_checked_us = now_us;
    wal->disk_low = statvfs(wal->dir, &disk) == 0 &&
                    (uint64_t)disk.f_bavail * disk.f_frsize < (uint64_t)DISK_RESERVE;
    return wal->disk_low;
}

void
room_update(struct wal *wal, MDB_txn *txn)
{
    uint64_t live = (pages_of(txn, wal->log) + pages_of(txn, wal->ids)) * wal->page_size;
    uint64_t slack = wal->config.bytes_max / 64;
    bool was_full = atomic_load(&wal->full);
    bool full;

    atomic_store_explicit(&wal->live_bytes, live, memory_order_relaxed);
    full = live + (was_full ? slack : 0) >= wal->config.bytes_max || map_is_short(wal, txn) ||
           disk_is_short(wal);
    if (full != was_full) {
        atomic_store(&wal->full, full);
        log_warn(full ? "wal.full" : "wal.has_room", LOG_U64("live_bytes", live),
                 LOG_U64("limit_bytes", wal->config.bytes_max), LOG_BOOL("disk_low", wal->disk_low),
                 LOG_END);
    }
}

bool
room_for(struct wal *wal, uint64_t group_bytes, uint64_t bytes)
{
    uint64_t live = atomic_load_explicit(&wal->live_bytes, memory_order_relaxed);
    uint64_t wanted = group_bytes + bytes;

    /* Frames fill pages by about seven eighths. */
    return !atomic_load(&wal->full) && live + wanted + wanted / 7 <= wal->config.bytes_max;
}
