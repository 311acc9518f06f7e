/*
 * committer.c - the one writer. Whatever queued up while the previous commit ran is the next group:
 * the previous sync is the only timer.
 *
 * A small group is staged: written to the stage with one sync, and acknowledged; LMDB gets it later
 * with many others. A large group, a full stage, progress to note and a reader that wants what is
 * staged make it an LMDB commit, which takes along all that was staged before. So LMDB always holds
 * a prefix of the durable records, and the stage the rest.
 *
 * Order within a turn, and why it matters:
 *   commit        the group is on stable storage (stage or LMDB), or nobody is told it is
 *   observer      the SLO slices learn of it, so a client that has its ack also sees its event
 *   durable_seq   rises; only now may replicators read the records
 *   done()        answers go out
 *
 * Any commit error but a full map latches the log: after a lost write-back the kernel may call the
 * next sync clean, so trying again could acknowledge bytes that are gone.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "core/base/log.h"
#include "wal/wal_internal.h"

enum {
    GROUP_EVENTS_MAX = 16384,
    GROUP_BYTES_MAX = 16 << 20,
    TRIM_BLOCKS_PER_TURN = 512,
    STAGED_IDLE_US = 100000, /* what is staged enters LMDB after this, if nothing else makes it */
    FULL_LOOK_US = 1000000,
    LOG_WAIT_US = 2000000, /* how long a reader waits for what is staged */
};

/* What one turn of the committer works on. */
struct group {
    struct append *first; /* linked by next, in order of arrival */
    struct append *last;
    struct advance_request *advances;
    struct count_request *counts; /* NULL: none */
    uint64_t events;
    uint64_t bytes;
    bool without_staged; /* staged records did not fit: progress and trimming alone */
};

/* ---- handing over ---- */

/* True while more events wait to be counted than memory is meant to hold. */
static bool
counting_lags(struct wal *wal)
{
    uint64_t counted = atomic_load_explicit(&wal->counted_seq, memory_order_relaxed);
    uint64_t durable = atomic_load_explicit(&wal->durable_seq, memory_order_relaxed);

    return durable > counted && durable - counted > COUNT_LAG_MAX;
}

enum err
wal_append(void *self, struct append *append)
{
    struct wal *wal = self;
    struct append *head;
    uint64_t queued;

    ASSERT(append->count > 0);
    if (atomic_load(&wal->failed)) {
        return ERR_FAILED;
    }
    if (atomic_load(&wal->stopping)) {
        return ERR_CLOSED;
    }
    if (atomic_load(&wal->full)) {
        return ERR_FULL;
    }
    if (counting_lags(wal)) {
        return ERR_AGAIN;
    }
    queued = atomic_fetch_add(&wal->queued_events, append->count);
    /* A bulk larger than the whole queue is let in when nothing else waits. */
    if (queued > 0 && queued + append->count > wal->config.queue_events) {
        atomic_fetch_sub(&wal->queued_events, append->count);
        return ERR_AGAIN;
    }
    head = atomic_load(&wal->inbox);
    do {
        if (head == &wal->inbox_closed) {
            atomic_fetch_sub(&wal->queued_events, append->count);
            return ERR_CLOSED;
        }
        append->next = head;
    } while (!atomic_compare_exchange_weak(&wal->inbox, &head, append));
    return ERR_OK;
}

void
wal_kick(void *self)
{
    struct wal *wal = self;

    /* Sequentially consistent with the committer's "sleeping = true, then look at the inbox". */
    if (atomic_load(&wal->sleeping)) {
        pthread_mutex_lock(&wal->lock);
        pthread_cond_signal(&wal->wake);
        pthread_mutex_unlock(&wal->lock);
    }
}

static struct append *
take_inbox(struct wal *wal)
{
    struct append *newest = atomic_exchange(&wal->inbox, NULL);
    struct append *oldest = NULL;

    while (newest != NULL) {
        struct append *next = newest->next;

        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

/*
 * Ends the handing over if nothing is waiting. Afterwards no append can enter, so none is ever left
 * without an answer, however a producer races with the stop.
 */
static bool
close_inbox(struct wal *wal)
{
    struct append *empty = NULL;

    return atomic_compare_exchange_strong(&wal->inbox, &empty, &wal->inbox_closed);
}

static void
push(struct group *group, struct append *append)
{
    append->next = NULL;
    if (group->last == NULL) {
        group->first = append;
    } else {
        group->last->next = append;
    }
    group->last = append;
    group->events += append->count;
    group->bytes += append->body_bytes + (uint64_t)append->count * FRAME_HEADER_SIZE;
}

/* done() hands the append back to its owner's thread: it must not be touched afterwards. */
static void
answer(struct wal *wal, struct append *append, enum err result)
{
    atomic_fetch_sub(&wal->queued_events, append->count);
    append->next = NULL;
    append->result = result;
    append->done(append);
}

void
answer_all(struct wal *wal, struct append *first, enum err result)
{
    while (first != NULL) {
        struct append *next = first->next;

        answer(wal, first, result);
        first = next;
    }
}

void
answer_advances(struct wal *wal, struct advance_request *first, enum err err)
{
    if (first == NULL) {
        return;
    }
    pthread_mutex_lock(&wal->lock);
    while (first != NULL) {
        struct advance_request *next = first->next;

        first->err = err;
        first->answered = true;
        first = next;
    }
    pthread_cond_broadcast(&wal->advance_answered);
    pthread_mutex_unlock(&wal->lock);
}

enum err
wal_advance(void *self, uint32_t partition, uint64_t to_seq, const struct slice_set *delta,
            const struct count_changes *removals)
{
    struct wal *wal = self;
    struct advance_request request = {NULL, partition, to_seq, delta, removals, false, ERR_OK};

    ASSERT(partition < wal->state.partitions);
    pthread_mutex_lock(&wal->lock);
    if (atomic_load(&wal->failed) || !wal->started) {
        pthread_mutex_unlock(&wal->lock);
        return atomic_load(&wal->failed) ? ERR_FAILED : ERR_CLOSED;
    }
    request.next = wal->advances;
    wal->advances = &request;
    pthread_cond_signal(&wal->wake);
    while (!request.answered) {
        pthread_cond_wait(&wal->advance_answered, &wal->lock);
    }
    pthread_mutex_unlock(&wal->lock);
    return request.err;
}

static struct timespec
after_us(int64_t us)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += us / 1000000;
    until.tv_nsec += us % 1000000 * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    return until;
}

enum err
wal_wait_durable(void *self, uint64_t seq, int timeout_ms)
{
    struct wal *wal = self;
    struct timespec until;
    enum err err = ERR_OK;

    if (atomic_load_explicit(&wal->durable_seq, memory_order_acquire) >= seq) {
        return ERR_OK;
    }
    until = after_us(timeout_ms > 0 ? (int64_t)timeout_ms * 1000 : 0);
    pthread_mutex_lock(&wal->lock);
    for (;;) {
        uint64_t wake_at = atomic_load(&wal->wake_at_seq);

        if (seq < wake_at) {
            atomic_store(&wal->wake_at_seq, seq);
        }
        if (atomic_load(&wal->durable_seq) >= seq) {
            break;
        }
        if (atomic_load(&wal->stopping) || atomic_load(&wal->failed)) {
            err = ERR_CLOSED;
            break;
        }
        if (timeout_ms < 0) {
            pthread_cond_wait(&wal->durable_changed, &wal->lock);
        } else if (pthread_cond_timedwait(&wal->durable_changed, &wal->lock, &until) == ETIMEDOUT) {
            err = atomic_load(&wal->durable_seq) >= seq ? ERR_OK : ERR_TIMEOUT;
            break;
        }
    }
    pthread_mutex_unlock(&wal->lock);
    return err;
}

uint64_t
wal_log_up_to(struct wal *wal, uint64_t seq, bool patient)
{
    const struct timespec until = after_us(LOG_WAIT_US);
    int rc = 0;

    pthread_mutex_lock(&wal->lock);
    if (seq > atomic_load(&wal->log_wanted_seq)) {
        atomic_store(&wal->log_wanted_seq, seq);
    }
    pthread_cond_signal(&wal->wake);
    while (rc != ETIMEDOUT && wal->started && atomic_load(&wal->logged_seq) < seq &&
           !atomic_load(&wal->stopping) && !atomic_load(&wal->failed) &&
           (patient || !atomic_load(&wal->full))) {
        rc = pthread_cond_timedwait(&wal->logged_changed, &wal->lock, &until);
    }
    pthread_mutex_unlock(&wal->lock);
    return atomic_load(&wal->logged_seq);
}

static void
wake_durable_waiters(struct wal *wal, uint64_t durable)
{
    if (durable < atomic_load(&wal->wake_at_seq)) {
        return;
    }
    pthread_mutex_lock(&wal->lock);
    atomic_store(&wal->wake_at_seq, UINT64_MAX); /* those still waiting put theirs back */
    pthread_cond_broadcast(&wal->durable_changed);
    pthread_mutex_unlock(&wal->lock);
}

/* ---- building a group inside the write transaction ---- */

static enum err
remember_id(struct wal *wal, const uint8_t key[EVENT_KEY_SIZE], uint32_t content_crc, uint64_t seq)
{
    struct id_entry entry;

    if (wal->new_id_count == wal->new_id_capacity) {
        size_t capacity = wal->new_id_capacity == 0 ? 1024 : wal->new_id_capacity * 2;
        struct id_entry *entries = realloc(wal->new_ids, capacity * sizeof(*entries));

        if (entries == NULL) {
            return ERR_NO_MEMORY;
        }
        wal->new_ids = entries;
        wal->new_id_capacity = capacity;
    }
    memcpy(entry.key, key, EVENT_KEY_SIZE);
    entry.content_crc = content_crc;
    entry.seq = seq;
    wal->new_ids[wal->new_id_count++] = entry;
    id_window_add(wal->window, &entry);
    return ERR_OK;
}

enum err
remember_staged(struct wal *wal, const struct frame *frame)
{
    struct event event;
    enum err err = event_decode(frame->body, &event);

    if (err != ERR_OK || !event.id_by_client) {
        return err;
    }
    return remember_id(wal, event.key, event.content_crc, frame->seq);
}

static bool
settle_duplicate(struct wal *wal, struct append_event *event)
{
    const struct id_entry *known;

    event->duplicate = false;
    event->mismatch = false;
    if (!event->has_key) {
        return false;
    }
    known = id_window_find(wal->window, event->key);
    if (known == NULL) {
        return false;
    }
    event->seq = known->seq;
    event->duplicate = true;
    event->mismatch = known->content_crc != event->content_crc;
    return true;
}

/* Numbers GROUP's new events, remembers their ids and adds their frames to what is staged. */
static enum err
take_in(struct wal *wal, const struct group *group)
{
    for (struct append *append = group->first; append != NULL; append = append->next) {
        for (uint32_t i = 0; i < append->count; i++) {
            struct append_event *event = &append->events[i];

            if (settle_duplicate(wal, event)) {
                continue;
            }
            event->seq = wal->next_seq++;
            frame_append(&wal->staged, event->seq, event->body);
            if (event->has_key &&
                remember_id(wal, event->key, event->content_crc, event->seq) != ERR_OK) {
                return ERR_NO_MEMORY;
            }
        }
    }
    return wal->staged.failed ? ERR_NO_MEMORY : ERR_OK;
}

static int
put_block(struct wal *wal, MDB_txn *txn, uint64_t first, uint64_t last, struct span frames)
{
    MDB_val key = val_of(&first, sizeof(first));
    MDB_val value = val_of(frames.data, frames.len);
    int rc = mdb_put(txn, wal->log, &key, &value, MDB_APPEND);

    return rc != 0 ? rc : segments_note_block(wal, txn, first, last, frames.len);
}

/* Moves the staged frames into LMDB, packed into blocks. */
static int
put_staged(struct wal *wal, MDB_txn *txn)
{
    struct span rest = buffer_span(&wal->staged);
    struct span block = {rest.data, 0};
    uint64_t first = atomic_load_explicit(&wal->logged_seq, memory_order_relaxed) + 1;
    uint64_t seq = first;

    while (rest.len > 0) {
        const size_t size = frame_size(rest);

        if (block.len > 0 && block.len + size > BLOCK_MAX) {
            int rc = put_block(wal, txn, first, seq - 1, block);

            if (rc != 0) {
                return rc;
            }
            first = seq;
            block = (struct span){rest.data, 0};
        }
        block.len += size;
        rest.data += size;
        rest.len -= size;
        seq++;
    }
    ASSERT(seq == wal->next_seq);
    return block.len > 0 ? put_block(wal, txn, first, seq - 1, block) : 0;
}

static int
put_ids(struct wal *wal, MDB_txn *txn)
{
    uint8_t raw[BLOCK_MAX];

    for (size_t at = 0; at < wal->new_id_count;) {
        const struct id_entry *entries = wal->new_ids + at;
        size_t left = wal->new_id_count - at;
        size_t count = left < ID_BLOCK_ENTRIES_MAX ? left : ID_BLOCK_ENTRIES_MAX;
        MDB_val key = val_of(&entries[0].seq, sizeof(entries[0].seq));
        MDB_val value = val_of(raw, id_block_encode(entries, count, raw));
        int rc = mdb_put(txn, wal->ids, &key, &value, MDB_APPEND);

        if (rc != 0) {
            return rc;
        }
        wal->ids_on_disk += (uint32_t)count;
        at += count;
    }
    return trim_ids(wal, txn);
}

/*
 * Adds the stored slice of KEY to *SUM. A damaged one is reported and counts as empty: it can no
 * longer be read by anybody, and the log must not stop for a figure that MySQL holds as well.
 */
static int
add_stored_slice(struct wal *wal, MDB_txn *txn, MDB_val key, struct slice *sum)
{
    struct slice_key stored;
    struct span encoded;
    MDB_val value;
    enum err err;
    int rc = mdb_get(txn, wal->slices, &key, &value);

    if (rc != 0) {
        return rc == MDB_NOTFOUND ? 0 : rc;
    }
    err = slice_value_decode(span_of_val(key), span_of_val(value), &stored, &encoded);
    if (err == ERR_OK) {
        err = slice_decode_add(encoded, sum);
    }
    if (err == ERR_NO_MEMORY) {
        return ENOMEM;
    }
    if (err != ERR_OK) {
        log_error("wal.slice_damaged", LOG_I64("minute", slice_key_minute(span_of_val(key))),
                  LOG_ERR(err), LOG_END);
    }
    return 0;
}

/* Adds one slice of a replicated batch to the log's own history. */
static int
fold_slice(struct wal *wal, MDB_txn *txn, const struct slice_set_entry *entry)
{
    uint8_t raw_key[SLICE_KEY_SIZE];
    MDB_val key = val_of(raw_key, sizeof(raw_key));
    MDB_val value;
    struct slice sum = {0};
    enum err err;
    int rc;

    slice_key_encode(&entry->key, raw_key);
    rc = add_stored_slice(wal, txn, key, &sum);
    if (rc != 0) {
        goto clear;
    }
    err = slice_add(&sum, &entry->slice);
    if (err == ERR_OK) {
        buffer_clear(&wal->scratch, GROUP_BYTES_MAX);
        slice_value_encode(&entry->key, &sum, &wal->scratch);
        err = wal->scratch.failed ? ERR_NO_MEMORY : ERR_OK;
    }
    if (err != ERR_OK) {
        rc = err == ERR_NO_MEMORY ? ENOMEM : MDB_CORRUPTED;
        goto clear;
    }
    value = val_of(wal->scratch.data, wal->scratch.len);
    rc = mdb_put(txn, wal->slices, &key, &value, 0);
clear:
    slice_clear(&sum);
    return rc;
}

static int
put_state(struct wal *wal, MDB_txn *txn)
{
    uint8_t raw[STATE_FIXED_SIZE + 8 * JOURNAL_PARTITIONS_MAX];
    MDB_val key = val_of("state", 5);
    MDB_val value = val_of(raw, log_state_encode(&wal->state, raw));

    return mdb_put(txn, wal->meta, &key, &value, 0);
}

static int
put_advances(struct wal *wal, MDB_txn *txn, const struct group *group)
{
    for (const struct advance_request *request = group->advances; request != NULL;
         request = request->next) {
        ASSERT(request->to_seq > wal->state.replicated[request->partition]);
        for (size_t i = 0; i < request->delta->len; i++) {
            int rc = fold_slice(wal, txn, &request->delta->entries[i]);

            if (rc != 0) {
                return rc;
            }
        }
        if (request->removals != NULL) {
            int rc = put_count_changes(wal, txn, request->removals);

            if (rc != 0) {
                return rc;
            }
        }
        wal->state.replicated[request->partition] = request->to_seq;
    }
    if (group->advances != NULL) {
        int rc = trim_slices(wal, txn);

        return rc != 0 ? rc : put_state(wal, txn);
    }
    return 0;
}

/* ---- commit and its failures ---- */

/*
 * After a commit error: was it the very last write, the meta page? LMDB then refuses every further
 * transaction with MDB_PANIC, and the commit may or may not survive. Otherwise the old meta page
 * stands and the group is surely not stored.
 */
static enum err
outcome_of_failed_commit(struct wal *wal)
{
    MDB_txn *probe = NULL;
    int rc = mdb_txn_begin(wal->env, NULL, 0, &probe);

    if (rc == 0) {
        mdb_txn_abort(probe);
    }
    return rc == MDB_PANIC ? ERR_UNKNOWN : ERR_FAILED;
}

static enum err
latch_failed(struct wal *wal, const char *step, int rc, enum err outcome)
{
    atomic_store(&wal->failed, true);
    log_error("wal.failed", LOG_STR("step", step), LOG_I64("code", rc),
              LOG_STR("cause", mdb_strerror(rc)), LOG_STR("outcome", err_name(outcome)), LOG_END);
    pthread_mutex_lock(&wal->lock);
    pthread_cond_broadcast(&wal->durable_changed);
    pthread_cond_broadcast(&wal->logged_changed);
    pthread_mutex_unlock(&wal->lock);
    return outcome;
}

/* What a group changes in memory, beside what is read back from the log itself. */
struct undo {
    uint64_t next_seq;
    size_t staged_len;
    size_t new_id_count;
    uint64_t replicated[JOURNAL_PARTITIONS_MAX];
};

static struct undo
undo_point(const struct wal *wal)
{
    struct undo undo = {wal->next_seq, wal->staged.len, wal->new_id_count, {0}};

    memcpy(undo.replicated, wal->state.replicated, sizeof(undo.replicated));
    return undo;
}

/*
 * After a refused group memory follows the log and its stage again. Rare, so the rest is simply
 * re-read.
 */
static enum err
undo_group(struct wal *wal, const struct undo *undo)
{
    MDB_txn *txn = NULL;
    enum err err;

    wal->next_seq = undo->next_seq;
    /* Not the whole state: other threads look at the number of partitions. */
    memcpy(wal->state.replicated, undo->replicated, sizeof(wal->state.replicated));
    wal->staged.len = undo->staged_len;
    wal->staged.failed = false;
    wal->new_id_count = undo->new_id_count;
    if (mdb_txn_begin(wal->env, NULL, MDB_RDONLY, &txn) != 0) {
        return ERR_IO;
    }
    err = segments_load(wal, txn) == 0 ? ids_load(wal, txn) : ERR_IO;
    mdb_txn_abort(txn);
    for (size_t i = 0; i < wal->new_id_count; i++) {
        id_window_add(wal->window, &wal->new_ids[i]);
    }
    return err;
}

/* True for an error that says "this much does not fit", before anything reached the disk. */
static bool
is_refusal(int rc, bool committing)
{
    return rc == MDB_MAP_FULL || rc == MDB_TXN_FULL || (rc == ENOMEM && !committing);
}

/* Undoes GROUP, for which there is no room: the log counts as full for a moment. */
static enum err
refuse_group(struct wal *wal, const struct group *group, const struct undo *undo, const char *step,
             int rc)
{
    if (undo_group(wal, undo) != ERR_OK) {
        return latch_failed(wal, step, rc, ERR_FAILED);
    }
    log_warn("wal.group_refused", LOG_STR("step", step), LOG_STR("cause", mdb_strerror(rc)),
             LOG_U64("events", group->events), LOG_END);
    room_none(wal);
    pthread_mutex_lock(&wal->lock);
    pthread_cond_broadcast(&wal->logged_changed);
    pthread_mutex_unlock(&wal->lock);
    return ERR_FULL;
}

/* Everything that GROUP and the stage change, inside TXN. *STEP names what failed. */
static int
write_group(struct wal *wal, MDB_txn *txn, const struct group *group, const char **step)
{
    const size_t blocks = wal->staged.len / (BLOCK_MAX / 2);
    int rc;

    *step = "advance";
    rc = put_advances(wal, txn, group);
    if (rc == 0 && group->counts != NULL) {
        *step = "counts";
        rc = put_count_changes(wal, txn, group->counts->changes);
    }
    if (rc == 0) {
        *step = "trim";
        /* Always more than is added, or a log under load would grow although replicated. */
        rc = trim_some(wal, txn, TRIM_BLOCKS_PER_TURN + narrow_u32(blocks));
    }
    if (rc == 0 && !group->without_staged) {
        *step = "append";
        rc = put_staged(wal, txn);
        if (rc == 0) {
            *step = "ids";
            rc = put_ids(wal, txn);
        }
    }
    return rc;
}

/* One LMDB transaction with GROUP, which has been taken in, and what was staged before. */
static enum err
log_group(struct wal *wal, const struct group *group, const struct undo *undo)
{
    const char *step = "begin";
    MDB_txn *txn = NULL;
    bool committing = false;
    uint64_t bytes;
    uint64_t counts_bytes;
    int rc;

    rc = mdb_txn_begin(wal->env, NULL, 0, &txn);
    if (rc != 0) {
        return latch_failed(wal, step, rc, ERR_FAILED);
    }
    rc = write_group(wal, txn, group, &step);
    if (rc == 0) {
        bytes = log_bytes(wal, txn);
        counts_bytes = count_bytes(wal, txn);
        step = "commit";
        committing = true;
        rc = mdb_txn_commit(txn); /* frees txn whatever it returns */
        if (rc == 0) {
            room_update(wal, bytes);
            atomic_store_explicit(&wal->counts_bytes, counts_bytes, memory_order_relaxed);
            return ERR_OK;
        }
    } else {
        mdb_txn_abort(txn);
    }
    if (is_refusal(rc, committing)) {
        return refuse_group(wal, group, undo, step, rc);
    }
    return latch_failed(wal, step, rc, outcome_of_failed_commit(wal));
}

/* Writes GROUP's frames to the stage. A failed write or sync leaves its outcome unknown. */
static enum err
stage_group(struct wal *wal, const struct undo *undo)
{
    const struct span frames = {wal->staged.data + undo->staged_len,
                                wal->staged.len - undo->staged_len};
    int rc = stage_append(wal->stage, undo->next_seq, narrow_u32(wal->next_seq - undo->next_seq),
                          frames);

    return rc == 0 ? ERR_OK : latch_failed(wal, "stage", rc, ERR_UNKNOWN);
}

/* ---- turns ---- */

static void
tell_observer(struct wal *wal, const struct group *group)
{
    const struct journal_observer *observer = &wal->config.observer;

    if (observer->durable == NULL) {
        return;
    }
    for (struct append *append = group->first; append != NULL; append = append->next) {
        for (uint32_t i = 0; i < append->count; i++) {
            if (!append->events[i].duplicate) {
                observer->durable(observer->self, &append->events[i]);
            }
        }
    }
}

/* LMDB has everything up to LOGGED, and GROUP's requests. */
static void
publish_logged(struct wal *wal, const struct group *group, uint64_t logged)
{
    for (uint32_t p = 0; p < wal->state.partitions; p++) {
        atomic_store_explicit(&wal->replicated[p], wal->state.replicated[p], memory_order_release);
    }
    if (group->counts != NULL) {
        atomic_store(&wal->counted_seq, group->counts->counted_seq);
    }
    atomic_store_explicit(&wal->oldest_seq, wal->first_block_seq, memory_order_release);
    pthread_mutex_lock(&wal->lock);
    atomic_store(&wal->logged_seq, logged);
    pthread_cond_broadcast(&wal->logged_changed);
    pthread_mutex_unlock(&wal->lock);
}

static void
publish_durable(struct wal *wal)
{
    const uint64_t durable = wal->next_seq - 1;

    atomic_store_explicit(&wal->id_count, id_window_count(wal->window), memory_order_relaxed);
    atomic_store(&wal->durable_seq, durable);
    wake_durable_waiters(wal, durable);
}

/* Nothing is staged any more. */
static void
forget_staged(struct wal *wal)
{
    stage_reset(wal->stage);
    wal->staged_is_in_doubt = false;
    buffer_clear(&wal->staged, STAGE_BYTES);
    wal->new_id_count = 0;
    atomic_store_explicit(&wal->staged_since_us, 0, memory_order_relaxed);
}

/* A reader waits for what is staged. */
static bool
log_is_wanted(const struct wal *wal)
{
    return atomic_load(&wal->log_wanted_seq) > atomic_load(&wal->logged_seq);
}

/*
 * Makes GROUP durable. Nothing but repeats needs nothing; a small group the stage; everything else
 * LMDB, and the stage with it.
 */
static enum err
commit_group(struct wal *wal, const struct group *group)
{
    const struct undo undo = undo_point(wal);
    enum err err = take_in(wal, group);
    const size_t added = wal->staged.len - undo.staged_len;

    if (err != ERR_OK) {
        return refuse_group(wal, group, &undo, "take in", ENOMEM);
    }
    if (group->first != NULL && group->advances == NULL && group->counts == NULL &&
        !log_is_wanted(wal) && !wal->staged_is_in_doubt &&
        (added == 0 || stage_has_room(wal->stage, added))) {
        if (added > 0) {
            err = stage_group(wal, &undo);
        }
        if (err == ERR_OK && undo.staged_len == 0 && added > 0) {
            wal->staged_mono_us = clock_monotonic_us(wal->config.clock);
            atomic_store_explicit(&wal->staged_since_us, clock_wall_us(wal->config.clock),
                                  memory_order_relaxed);
        }
        return err;
    }
    err = log_group(wal, group, &undo);
    if (err == ERR_OK) {
        if (!group->without_staged) {
            forget_staged(wal);
        }
        publish_logged(wal, group,
                       group->without_staged ? atomic_load(&wal->logged_seq) : wal->next_seq - 1);
    }
    return err;
}

static void
run_group(struct wal *wal, struct group *group)
{
    int64_t began_us = clock_monotonic_us(wal->config.clock);
    enum err err = commit_group(wal, group);

    if (err == ERR_FULL && group->counts != NULL) {
        /* History can wait: its events are in the log, and in the counters' memory. */
        answer_counts(wal, group->counts, ERR_FULL);
        group->counts = NULL;
        if (group->first == NULL && group->advances == NULL) {
            return;
        }
        err = commit_group(wal, group);
    }
    if (err == ERR_FULL && group->first != NULL) {
        /* What is new did not fit. */
        answer_all(wal, group->first, ERR_FULL);
        *group = (struct group){.advances = group->advances};
        err = commit_group(wal, group);
    }
    if (err == ERR_FULL && wal->staged.len > 0) {
        /* Progress and trimming alone are what makes room again. */
        group->without_staged = true;
        err = commit_group(wal, group);
    }
    if (err == ERR_OK && group->first != NULL) {
        tell_observer(wal, group);
        publish_durable(wal);
        metric_observe(&wal->group_events, (double)group->events);
        metric_observe(&wal->commit_seconds,
                       (double)(clock_monotonic_us(wal->config.clock) - began_us) / 1e6);
    }
    answer_advances(wal, group->advances, err);
    answer_counts(wal, group->counts, err);
    answer_all(wal, group->first, err);
}

/* Moves from BACKLOG to GROUP what one transaction may take; refuses what the log has no room for.
 */
static void
fill_group(struct wal *wal, struct append **backlog, struct group *group)
{
    while (*backlog != NULL && group->events < GROUP_EVENTS_MAX && group->bytes < GROUP_BYTES_MAX) {
        struct append *append = *backlog;
        const uint64_t bytes = append->body_bytes + (uint64_t)append->count * FRAME_HEADER_SIZE;
        const bool fits = room_for(wal, group->bytes, bytes);

        if (!fits && wal->staged.len > 0 && !room_is_none(wal) && !atomic_load(&wal->full)) {
            /* Whether the log is full is known once what is staged has its pages. */
            wal->staged_is_in_doubt = true;
            return;
        }
        *backlog = append->next;
        if (fits) {
            push(group, append);
        } else {
            answer(wal, append, ERR_FULL);
        }
    }
}

static void
take_requests(struct wal *wal, struct group *group)
{
    pthread_mutex_lock(&wal->lock);
    group->advances = wal->advances;
    wal->advances = NULL;
    group->counts = wal->count_request;
    wal->count_request = NULL;
    pthread_mutex_unlock(&wal->lock);
}

/* What is staged should enter LMDB now, and may. */
static bool
staged_is_due(struct wal *wal)
{
    return wal->staged.len > 0 && !room_is_none(wal) &&
           (log_is_wanted(wal) || wal->staged_is_in_doubt || atomic_load(&wal->stopping) ||
            clock_monotonic_us(wal->config.clock) - wal->staged_mono_us >= STAGED_IDLE_US);
}

/*
 * Sleeps until there is something to do. A full log is looked at again after a second at the
 * latest, however often refused producers kick, and what is staged after STAGED_IDLE_US.
 */
static void
wait_for_work(struct wal *wal)
{
    /* A failed log keeps what is staged: the next start takes it from there. */
    const bool staged = wal->staged.len > 0 && !atomic_load(&wal->failed);
    const bool full = atomic_load(&wal->full);
    struct timespec until = after_us(full ? FULL_LOOK_US : STAGED_IDLE_US);
    int rc = 0;

    pthread_mutex_lock(&wal->lock);
    atomic_store(&wal->sleeping, true);
    while (rc != ETIMEDOUT && atomic_load(&wal->inbox) == NULL && wal->advances == NULL &&
           wal->count_request == NULL && !atomic_load(&wal->stopping) &&
           (full || !staged || !log_is_wanted(wal))) {
        if (full || staged || atomic_load(&wal->full)) {
            rc = pthread_cond_timedwait(&wal->wake, &wal->lock, &until);
        } else {
            pthread_cond_wait(&wal->wake, &wal->lock);
        }
    }
    atomic_store(&wal->sleeping, false);
    pthread_mutex_unlock(&wal->lock);
}

/* While full without work: has the disk or a stuck reader made room meanwhile? */
static void
look_for_room(struct wal *wal)
{
    int dead = 0;

    mdb_reader_check(wal->env, &dead);
    room_update(wal, atomic_load_explicit(&wal->live_bytes, memory_order_relaxed));
}

void *
committer_run(void *self)
{
    struct wal *wal = self;
    struct append *backlog = NULL;

    for (;;) {
        /* Before the look at what there is to do: a stop that comes after it gets another turn. */
        const bool stopping = atomic_load(&wal->stopping);
        struct group group = {0};

        if (backlog == NULL) {
            backlog = take_inbox(wal);
        }
        take_requests(wal, &group);
        if (atomic_load(&wal->failed)) {
            answer_all(wal, backlog, ERR_FAILED);
            backlog = NULL;
            answer_advances(wal, group.advances, ERR_FAILED);
            answer_counts(wal, group.counts, ERR_FAILED);
        } else {
            fill_group(wal, &backlog, &group);
            if (group.first != NULL || group.advances != NULL || group.counts != NULL ||
                staged_is_due(wal) || (trim_is_due(wal) && !room_is_none(wal))) {
                run_group(wal, &group);
                continue;
            }
            if (atomic_load(&wal->full)) {
                look_for_room(wal);
            }
        }
        if (backlog != NULL) {
            continue;
        }
        if (stopping && close_inbox(wal)) {
            break;
        }
        wait_for_work(wal);
    }
    return NULL;
}
