/*
 * reader.c - everything that reads the log: batches, what a start needs, statistics.
 *
 * A read copies out and ends its transaction before anybody waits for anything: pages freed since
 * the oldest open read cannot be reused. Nothing beyond the durable watermark is ever given out,
 * even if LMDB already shows it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/log.h"
#include "wal/wal_internal.h"

/* ---- reads in progress, for the age of the oldest ---- */

enum err
read_begin(struct wal *wal, struct open_read *read)
{
    int64_t now_us = clock_monotonic_us(wal->config.clock);
    int rc = mdb_txn_begin(wal->env, NULL, MDB_RDONLY, &read->txn);

    if (rc != 0) {
        log_error("wal.read_failed", LOG_STR("step", "begin"), LOG_STR("cause", mdb_strerror(rc)),
                  LOG_END);
        return rc == MDB_READERS_FULL ? ERR_AGAIN : ERR_IO;
    }
    for (read->slot = 0; read->slot < READ_SLOTS; read->slot++) {
        int64_t empty = 0;

        if (atomic_compare_exchange_strong(&wal->read_began_us[read->slot], &empty, now_us)) {
            break;
        }
    }
    return ERR_OK;
}

void
read_end(struct wal *wal, struct open_read *read)
{
    mdb_txn_abort(read->txn);
    if (read->slot < READ_SLOTS) {
        atomic_store(&wal->read_began_us[read->slot], 0);
    }
}

/* ---- walking the blocks ---- */

struct walk {
    struct wal *wal;
    MDB_cursor *cursor;
    struct span rest;   /* frames of the current block not yet looked at */
    uint64_t seq;       /* what the last frame claims to be, 0 when its header is damaged */
    uint64_t block_seq; /* first seq of the current block */
};

static void
walk_enter(struct walk *walk, int rc, MDB_val key, MDB_val value)
{
    walk->rest = (struct span){NULL, 0};
    if (rc == 0) {
        memcpy(&walk->block_seq, key.mv_data, sizeof(walk->block_seq));
        walk->rest = span_of_val(value);
    }
}

/* Puts the walk before the block that holds SEQ, or the first block after it. */
static int
walk_seek(struct walk *walk, uint64_t seq)
{
    MDB_val key = val_of(&seq, sizeof(seq));
    MDB_val value;
    int rc = mdb_cursor_get(walk->cursor, &key, &value, MDB_SET_RANGE);
    uint64_t found = 0;

    if (rc == 0) {
        memcpy(&found, key.mv_data, sizeof(found));
    }
    if (rc == MDB_NOTFOUND) {
        rc = mdb_cursor_get(walk->cursor, &key, &value, MDB_LAST);
    } else if (rc == 0 && found != seq) {
        rc = mdb_cursor_get(walk->cursor, &key, &value, MDB_PREV);
        if (rc == MDB_NOTFOUND) {
            rc = mdb_cursor_get(walk->cursor, &key, &value, MDB_FIRST);
        }
    }
    walk_enter(walk, rc, key, value);
    return rc;
}

/* The next frame: ERR_NOT_FOUND at the end of the log; ERR_CORRUPT, ERR_FORMAT as frame_next(). */
static enum err
walk_next(struct walk *walk, struct frame *frame)
{
    for (;;) {
        enum err err = frame_next(&walk->rest, frame, &walk->seq);
        MDB_val key;
        MDB_val value;
        int rc;

        if (err != ERR_NOT_FOUND) {
            return err;
        }
        rc = mdb_cursor_get(walk->cursor, &key, &value, MDB_NEXT);
        if (rc != 0) {
            return rc == MDB_NOTFOUND ? ERR_NOT_FOUND : ERR_IO;
        }
        walk_enter(walk, rc, key, value);
    }
}

static void
log_damage(const struct walk *walk, uint64_t seq, enum err err)
{
    log_error("wal.record_damaged", LOG_U64("seq", seq), LOG_U64("block", walk->block_seq),
              LOG_ERR(err), LOG_END);
}

/*
 * Walks on to the record SEQ. Damage in front of it is somebody else's; ERR_CORRUPT, logged, when
 * the record itself is damaged, missing, or hidden behind a damaged header.
 */
static enum err
walk_to(struct walk *walk, uint64_t seq, struct frame *frame)
{
    enum err err;

    do {
        err = walk_next(walk, frame);
    } while (err != ERR_NOT_FOUND && err != ERR_IO && walk->seq != 0 && walk->seq < seq);
    if (err == ERR_OK && walk->seq == seq) {
        return ERR_OK;
    }
    if (err == ERR_OK || err == ERR_NOT_FOUND) {
        log_error("wal.record_missing", LOG_U64("seq", seq), LOG_END);
        return ERR_CORRUPT;
    }
    log_damage(walk, seq, err);
    return err;
}

/* ---- batches ---- */

static enum err
batch_push(struct batch *batch, const struct frame *frame)
{
    if (batch->count == batch->capacity) {
        size_t capacity = batch->capacity == 0 ? 256 : batch->capacity * 2;
        struct batch_event *events = realloc(batch->events, capacity * sizeof(*events));

        if (events == NULL) {
            return ERR_NO_MEMORY;
        }
        batch->events = events;
        batch->capacity = capacity;
    }
    buffer_append_span(&batch->bytes, frame->body);
    if (batch->bytes.failed) {
        return ERR_NO_MEMORY;
    }
    batch->events[batch->count++] = (struct batch_event){
        .seq = frame->seq,
        .body = {NULL, frame->body.len}, /* set once the buffer has stopped moving */
    };
    return ERR_OK;
}

/*
 * The seq, DURABLE at most, up to which LMDB's next snapshot holds everything a read may give.
 * Waits for what is staged only when that would make the batch larger.
 */
static uint64_t
readable_seq(struct wal *wal, uint32_t partition, uint64_t after_seq,
             const struct batch_limits *limits, uint64_t durable)
{
    const uint32_t partitions = wal->state.partitions;
    const uint64_t wanted = limits->to_seq < durable ? limits->to_seq : durable;
    uint64_t logged = atomic_load_explicit(&wal->logged_seq, memory_order_acquire);

    if (logged < wanted) {
        uint64_t there = journal_partition_count(logged, partition, partitions);
        uint64_t passed = journal_partition_count(after_seq, partition, partitions);

        if ((there <= passed || there - passed < limits->events_max) &&
            journal_partition_count(wanted, partition, partitions) > there) {
            /* Draining is what makes room in a full log, so what it has is given at once. */
            logged = wal_log_up_to(wal, wanted, there <= passed);
        }
    }
    return logged < durable ? logged : durable;
}

/* Everything up to READABLE is in the walk's snapshot. */
static enum err
collect(struct walk *walk, uint64_t readable, const struct batch_limits *limits, struct batch *out)
{
    const uint32_t partitions = walk->wal->state.partitions;
    const uint64_t to_seq = limits->to_seq < readable ? limits->to_seq : readable;
    uint64_t wanted = next_seq_of_partition(out->after_seq, out->partition, partitions);
    bool seek = true;

    while (wanted <= to_seq && out->count < limits->events_max) {
        struct frame frame;
        enum err err;

        if (seek && walk_seek(walk, wanted) != 0) {
            log_error("wal.record_missing", LOG_U64("seq", wanted), LOG_END);
            return ERR_CORRUPT;
        }
        err = walk_to(walk, wanted, &frame);
        if (err != ERR_OK) {
            return err;
        }
        if (out->count > 0 && out->bytes.len + frame.body.len > limits->bytes_max) {
            break;
        }
        err = batch_push(out, &frame);
        if (err != ERR_OK) {
            return err;
        }
        out->to_seq = wanted;
        wanted = next_seq_of_partition(wanted, out->partition, partitions);
        seek = wanted != out->to_seq + 1; /* the next stripe is some blocks away */
    }
    return out->count > 0 ? ERR_OK : ERR_NOT_FOUND;
}

static enum err
decode_batch(struct batch *batch)
{
    size_t offset = 0;

    for (size_t i = 0; i < batch->count; i++) {
        struct batch_event *item = &batch->events[i];
        enum err err;

        item->body.data = batch->bytes.data + offset;
        offset += item->body.len;
        err = event_decode(item->body, &item->event);
        if (err != ERR_OK) {
            log_error("wal.record_damaged", LOG_U64("seq", item->seq), LOG_ERR(err), LOG_END);
            batch->count = i;
            batch->to_seq = i == 0 ? batch->after_seq : batch->events[i - 1].seq;
            return i == 0 ? err : ERR_OK;
        }
    }
    return ERR_OK;
}

enum err
wal_read(void *self, uint32_t partition, uint64_t after_seq, const struct batch_limits *limits,
         struct batch *out)
{
    struct wal *wal = self;
    struct open_read read;
    struct walk walk = {.wal = wal};
    uint64_t durable;
    uint64_t readable;
    uint64_t wanted;
    enum err err;

    ASSERT(partition < wal->state.partitions);
    /* Once, and before the snapshot: one taken first could lack records that are durable by now. */
    durable = atomic_load_explicit(&wal->durable_seq, memory_order_acquire);
    readable = readable_seq(wal, partition, after_seq, limits, durable);
    wanted = next_seq_of_partition(after_seq, partition, wal->state.partitions);
    if (wanted > readable && wanted <= durable) {
        return ERR_AGAIN;
    }
    batch_clear(out);
    out->partition = partition;
    out->after_seq = after_seq;
    out->to_seq = after_seq;
    err = read_begin(wal, &read);
    if (err != ERR_OK) {
        return err;
    }
    if (mdb_cursor_open(read.txn, wal->log, &walk.cursor) != 0) {
        read_end(wal, &read);
        return ERR_IO;
    }
    err = collect(&walk, readable, limits, out);
    mdb_cursor_close(walk.cursor);
    read_end(wal, &read);
    /* What came before a damaged record is good: the next read starts at the damage and says so. */
    if (out->count == 0) {
        return err;
    }
    return decode_batch(out);
}

/* ---- scans ---- */

/* ERR_NOT_FOUND unless the log, as this read sees it, begins at or before SEQ. */
static enum err
check_not_trimmed(const struct walk *walk, uint64_t seq)
{
    uint64_t first = 0;
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_get(walk->cursor, &key, &value, MDB_FIRST);

    if (rc != 0) {
        return rc == MDB_NOTFOUND ? ERR_NOT_FOUND : ERR_IO;
    }
    memcpy(&first, key.mv_data, sizeof(first));
    return first <= seq ? ERR_OK : ERR_NOT_FOUND;
}

/*
 * Gives the frame the walk stands on, unless FRAME_ERR says that it cannot be read. Damage is not
 * logged: clients decide how often a scan passes it, and the replicator in front of it has named
 * it.
 */
static enum err
scan_frame(struct walk *walk, const struct frame *frame, enum err frame_err, journal_scan_fn *fn,
           void *arg, struct journal_scanned *scanned)
{
    struct event event;

    if (frame_err == ERR_OK) {
        frame_err = event_decode(frame->body, &event);
    }
    if (frame_err != ERR_OK) {
        scanned->damaged++;
        return ERR_OK;
    }
    return fn(arg, walk->seq, &event);
}

/* From scanned->next_seq, which is wanted, to DURABLE; both are in the walk's snapshot. */
static enum err
scan_records(struct walk *walk, const struct journal_scan *scan, uint64_t durable,
             journal_scan_fn *fn, void *arg, struct journal_scanned *scanned)
{
    const uint32_t partitions = walk->wal->state.partitions;
    uint32_t walked = 0;
    bool seek = true;

    while (walked < scan->records_max && !scanned->done) {
        const uint64_t wanted = scanned->next_seq;
        struct frame frame;
        enum err err;

        if (seek && walk_seek(walk, wanted) != 0) {
            return ERR_IO;
        }
        err = walk_next(walk, &frame);
        seek = false;
        if (err == ERR_IO) {
            return err;
        }
        if (err != ERR_NOT_FOUND && walk->seq < wanted) {
            continue; /* before it in its block, or (0) a header that hides the rest of the block */
        }
        if (err == ERR_NOT_FOUND || walk->seq > durable) {
            scanned->damaged++; /* WANTED is durable and not there */
            scanned->done = true;
            break;
        }
        scanned->damaged += walk->seq > wanted ? 1 : 0;
        if (walk->seq == journal_scan_first(scan, walk->seq, partitions)) {
            err = scan_frame(walk, &frame, err, fn, arg, scanned);
            if (err != ERR_OK) {
                return err;
            }
        }
        walked++;
        scanned->next_seq = journal_scan_first(scan, walk->seq + 1, partitions);
        scanned->done = scanned->next_seq > durable;
        seek = scanned->next_seq != walk->seq + 1; /* the next stripe is some blocks away */
    }
    return ERR_OK;
}

enum err
wal_scan(void *self, const struct journal_scan *scan, journal_scan_fn *fn, void *arg,
         struct journal_scanned *out)
{
    struct wal *wal = self;
    struct open_read read;
    struct walk walk = {.wal = wal};
    const uint64_t durable = atomic_load_explicit(&wal->durable_seq, memory_order_acquire);
    struct journal_scanned scanned = {0};
    enum err err;

    ASSERT(scan->from_seq > 0);
    ASSERT(scan->records_max > 0);
    scanned.next_seq = journal_scan_first(scan, scan->from_seq, wal->state.partitions);
    if (scanned.next_seq > durable) {
        scanned.done = true;
        *out = scanned;
        return ERR_OK;
    }
    /* Before the snapshot, as in wal_read(). */
    if (atomic_load_explicit(&wal->logged_seq, memory_order_acquire) < durable &&
        wal_log_up_to(wal, durable, true) < durable) {
        return ERR_AGAIN;
    }
    err = read_begin(wal, &read);
    if (err != ERR_OK) {
        return err;
    }
    if (mdb_cursor_open(read.txn, wal->log, &walk.cursor) != 0) {
        read_end(wal, &read);
        return ERR_IO;
    }
    err = check_not_trimmed(&walk, scanned.next_seq);
    if (err == ERR_OK) {
        err = scan_records(&walk, scan, durable, fn, arg, &scanned);
    }
    mdb_cursor_close(walk.cursor);
    read_end(wal, &read);
    if (err == ERR_OK) {
        *out = scanned;
    }
    return err;
}

/* ---- at start ---- */

enum err
wal_each_slice(struct wal *wal,
               enum err (*fn)(void *arg, const struct slice_key *key, struct span encoded),
               void *arg)
{
    struct open_read read;
    MDB_cursor *cursor = NULL;
    enum err err = read_begin(wal, &read);
    MDB_val key;
    MDB_val value;
    int rc = 0;

    if (err != ERR_OK) {
        return err;
    }
    if (mdb_cursor_open(read.txn, wal->slices, &cursor) != 0) {
        read_end(wal, &read);
        return ERR_IO;
    }
    while (err == ERR_OK && (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        struct slice_key name;
        struct span encoded;
        enum err damage = slice_value_decode(span_of_val(key), span_of_val(value), &name, &encoded);

        if (damage == ERR_OK) {
            err = fn(arg, &name, encoded);
        } else {
            log_error("wal.slice_damaged", LOG_I64("minute", slice_key_minute(span_of_val(key))),
                      LOG_ERR(damage), LOG_END);
        }
    }
    mdb_cursor_close(cursor);
    read_end(wal, &read);
    if (err == ERR_OK && rc != MDB_NOTFOUND) {
        log_error("wal.read_failed", LOG_STR("step", "slices"), LOG_STR("cause", mdb_strerror(rc)),
                  LOG_END);
        err = ERR_CORRUPT;
    }
    return err;
}

static bool
is_replicated(const struct wal *wal, uint64_t seq)
{
    const struct log_state *state = &wal->state;

    return seq <= state->replicated[journal_partition_of(seq, state->partitions)];
}

/* Gives each record after AFTER_SEQ that can be read to FN; with PENDING only those not replicated.
 */
static enum err
each_record(struct walk *walk, uint64_t after_seq, bool pending,
            enum err (*fn)(void *arg, uint64_t seq, const struct event *event), void *arg)
{
    const uint64_t from = after_seq + 1;

    if (from > atomic_load(&walk->wal->logged_seq)) {
        return ERR_OK;
    }
    if (walk_seek(walk, from) != 0) {
        return ERR_CORRUPT;
    }
    for (;;) {
        struct frame frame;
        struct event event;
        enum err err = walk_next(walk, &frame);

        if (err == ERR_NOT_FOUND || err == ERR_IO) {
            return err == ERR_NOT_FOUND ? ERR_OK : err;
        }
        if (walk->seq != 0 &&
            (walk->seq < from || (pending && is_replicated(walk->wal, walk->seq)))) {
            continue;
        }
        if (err == ERR_OK) {
            err = event_decode(frame.body, &event);
        }
        if (err != ERR_OK) {
            log_damage(walk, walk->seq, err);
            continue;
        }
        err = fn(arg, frame.seq, &event);
        if (err != ERR_OK) {
            return err;
        }
    }
}

static enum err
each_staged(struct wal *wal, uint64_t after_seq,
            enum err (*fn)(void *arg, uint64_t seq, const struct event *event), void *arg)
{
    struct span rest = buffer_span(&wal->staged);
    struct frame frame;
    struct event event;
    uint64_t seq;
    enum err err;

    while ((err = frame_next(&rest, &frame, &seq)) == ERR_OK) {
        err = event_decode(frame.body, &event);
        if (err == ERR_OK && seq > after_seq) {
            err = fn(arg, seq, &event);
        }
        if (err != ERR_OK) {
            return err;
        }
    }
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

static enum err
read_records(struct wal *wal, uint64_t after_seq, bool pending,
             enum err (*fn)(void *arg, uint64_t seq, const struct event *event), void *arg)
{
    struct open_read read;
    struct walk walk = {.wal = wal};
    enum err err = read_begin(wal, &read);

    if (err != ERR_OK) {
        return err;
    }
    if (mdb_cursor_open(read.txn, wal->log, &walk.cursor) != 0) {
        read_end(wal, &read);
        return ERR_IO;
    }
    err = each_record(&walk, after_seq, pending, fn, arg);
    mdb_cursor_close(walk.cursor);
    read_end(wal, &read);
    return err == ERR_OK ? each_staged(wal, after_seq, fn, arg) : err;
}

enum err
wal_each_pending(struct wal *wal,
                 enum err (*fn)(void *arg, uint64_t seq, const struct event *event), void *arg)
{
    return read_records(wal, replicated_prefix(wal), true, fn, arg);
}

enum err
wal_each_after(struct wal *wal, uint64_t after_seq,
               enum err (*fn)(void *arg, uint64_t seq, const struct event *event), void *arg)
{
    return read_records(wal, after_seq, false, fn, arg);
}

/* ---- statistics ---- */

/* created_at of the first record after SEQ, 0 when there is none or it cannot be read. */
static int64_t
created_after(struct wal *wal, uint64_t seq)
{
    struct open_read read;
    struct walk walk = {.wal = wal};
    struct frame frame = {0};
    struct event event;
    int64_t created_us = 0;
    enum err err = ERR_OK;

    if (read_begin(wal, &read) != ERR_OK) {
        return 0;
    }
    if (mdb_cursor_open(read.txn, wal->log, &walk.cursor) == 0) {
        if (walk_seek(&walk, seq + 1) == 0) {
            do {
                err = walk_next(&walk, &frame);
            } while (err == ERR_OK && frame.seq <= seq);
            if (err == ERR_OK && event_decode(frame.body, &event) == ERR_OK) {
                created_us = event.created_at_us;
            }
        }
        mdb_cursor_close(walk.cursor);
    }
    read_end(wal, &read);
    return created_us;
}

/* mdb_reader_list() speaks text: lines "pid thread txnid", the last one "-" for an idle slot. */
static int
note_reader(const char *line, void *arg)
{
    uint64_t *oldest = arg;
    unsigned long txn;
    char thread[32];
    int pid;

    if (sscanf(line, "%d %31s %lu", &pid, thread, &txn) == 3 && txn < *oldest) {
        *oldest = txn;
    }
    return 0;
}

uint64_t
oldest_snapshot(struct wal *wal)
{
    uint64_t oldest = UINT64_MAX;

    mdb_reader_list(wal->env, note_reader, &oldest);
    return oldest;
}

/* Age of the oldest snapshot anybody holds, our own short reads and other processes' alike. */
static int64_t
oldest_reader_age_us(struct wal *wal)
{
    int64_t now_us = clock_monotonic_us(wal->config.clock);
    const uint64_t oldest = oldest_snapshot(wal);
    int64_t age_us = 0;
    MDB_envinfo info;

    pthread_mutex_lock(&wal->foreign_reader_lock);
    if (oldest == UINT64_MAX || mdb_env_info(wal->env, &info) != 0 ||
        oldest >= info.me_last_txnid) {
        wal->foreign_reader_txn = 0;
    } else if (oldest != wal->foreign_reader_txn) {
        wal->foreign_reader_txn = oldest;
        wal->foreign_reader_since_us = now_us;
    } else {
        age_us = now_us - wal->foreign_reader_since_us;
    }
    pthread_mutex_unlock(&wal->foreign_reader_lock);
    for (size_t i = 0; i < READ_SLOTS; i++) {
        int64_t began_us = atomic_load(&wal->read_began_us[i]);

        if (began_us != 0 && now_us - began_us > age_us) {
            age_us = now_us - began_us;
        }
    }
    return age_us;
}

void
wal_stats(void *self, struct journal_stats *out)
{
    struct wal *wal = self;
    struct journal_stats stats = {0};
    const uint32_t partitions = wal->state.partitions;

    stats.durable_seq = atomic_load(&wal->durable_seq);
    for (uint32_t p = 0; p < partitions; p++) {
        uint64_t replicated = atomic_load(&wal->replicated[p]);
        uint64_t all = journal_partition_count(stats.durable_seq, p, partitions);
        uint64_t done = journal_partition_count(replicated, p, partitions);

        stats.pending_events += all > done ? all - done : 0;
    }
    if (stats.pending_events > 0) {
        const uint64_t prefix = replicated_prefix(wal);

        if (prefix >= atomic_load(&wal->logged_seq)) {
            stats.oldest_pending_us = atomic_load(&wal->staged_since_us);
        }
        if (stats.oldest_pending_us == 0) {
            stats.oldest_pending_us = created_after(wal, prefix);
        }
    }
    stats.oldest_seq = atomic_load_explicit(&wal->oldest_seq, memory_order_relaxed);
    if (stats.oldest_seq == 0 && stats.durable_seq > atomic_load(&wal->logged_seq)) {
        stats.oldest_seq = atomic_load(&wal->logged_seq) + 1; /* all there is, is staged */
    }
    stats.bytes = atomic_load_explicit(&wal->live_bytes, memory_order_relaxed);
    stats.bytes_limit = wal->config.bytes_max;
    stats.queued_events = atomic_load(&wal->queued_events);
    stats.id_window_events = atomic_load_explicit(&wal->id_count, memory_order_relaxed);
    stats.oldest_reader_us = oldest_reader_age_us(wal);
    stats.full = atomic_load(&wal->full);
    stats.failed = atomic_load(&wal->failed);
    *out = stats;
}
