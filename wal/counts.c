/*
 * counts.c - the port of core/counts/count_store.h on a database of the log: short snapshots, and
 * changes that the committer writes.
 */
#include <stdlib.h>

#include "core/base/log.h"
#include "wal/wal_internal.h"

/* ---- reading ---- */

struct counts_snapshot {
    struct open_read read;
    MDB_cursor *cursor;
};

static enum err
counts_begin(void *self, void **snapshot_out)
{
    struct wal *wal = self;
    struct counts_snapshot *snapshot = calloc(1, sizeof(*snapshot));
    enum err err;

    if (snapshot == NULL) {
        return ERR_NO_MEMORY;
    }
    err = read_begin(wal, &snapshot->read);
    if (err != ERR_OK) {
        free(snapshot);
        return err;
    }
    if (mdb_cursor_open(snapshot->read.txn, wal->counts, &snapshot->cursor) != 0) {
        read_end(wal, &snapshot->read);
        free(snapshot);
        return ERR_NO_MEMORY;
    }
    *snapshot_out = snapshot;
    return ERR_OK;
}

static void
counts_end(void *self, void *arg)
{
    struct counts_snapshot *snapshot = arg;

    mdb_cursor_close(snapshot->cursor);
    read_end(self, &snapshot->read);
    free(snapshot);
}

static enum err
give(int rc, MDB_val key, MDB_val value, struct span *key_out, struct span *value_out)
{
    if (rc == MDB_NOTFOUND) {
        return ERR_NOT_FOUND;
    }
    if (rc != 0) {
        log_error("wal.read_failed", LOG_STR("step", "counts"), LOG_STR("cause", mdb_strerror(rc)),
                  LOG_END);
        return ERR_IO;
    }
    *key_out = span_of_val(key);
    return counts_value_decode(span_of_val(key), span_of_val(value), value_out);
}

static enum err
counts_seek(void *self, void *arg, struct span wanted, struct span *key_out, struct span *value_out)
{
    struct counts_snapshot *snapshot = arg;
    MDB_val key = val_of(wanted.data, wanted.len);
    MDB_val value;
    int rc = mdb_cursor_get(snapshot->cursor, &key, &value, MDB_SET_RANGE);

    (void)self;
    return give(rc, key, value, key_out, value_out);
}

static enum err
counts_next(void *self, void *arg, struct span *key_out, struct span *value_out)
{
    struct counts_snapshot *snapshot = arg;
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_get(snapshot->cursor, &key, &value, MDB_NEXT);

    (void)self;
    return give(rc, key, value, key_out, value_out);
}

/* ---- writing ---- */

int
put_count_changes(struct wal *wal, MDB_txn *txn, const struct count_changes *changes)
{
    struct span rest = buffer_span(&changes->bytes);
    uint8_t raw[COUNTS_CRC_SIZE + COUNT_VALUE_MAX];
    struct span key_span;
    struct span value_span;

    while (count_changes_next(&rest, &key_span, &value_span)) {
        MDB_val key = val_of(key_span.data, key_span.len);
        int rc;

        if (value_span.len == 0) {
            rc = mdb_del(txn, wal->counts, &key, NULL);
            rc = rc == MDB_NOTFOUND ? 0 : rc;
        } else {
            MDB_val value = val_of(raw, counts_value_encode(key_span, value_span, raw));

            rc = mdb_put(txn, wal->counts, &key, &value, 0);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static enum err
counts_commit(void *self, const struct count_changes *changes, uint64_t counted_seq)
{
    struct wal *wal = self;
    struct count_request request = {changes, counted_seq, false, ERR_OK};

    pthread_mutex_lock(&wal->lock);
    if (atomic_load(&wal->failed) || !wal->started) {
        pthread_mutex_unlock(&wal->lock);
        return atomic_load(&wal->failed) ? ERR_FAILED : ERR_CLOSED;
    }
    ASSERT(wal->count_request == NULL);
    wal->count_request = &request;
    pthread_cond_signal(&wal->wake);
    while (!request.answered) {
        pthread_cond_wait(&wal->advance_answered, &wal->lock);
    }
    pthread_mutex_unlock(&wal->lock);
    return request.err;
}

void
answer_counts(struct wal *wal, struct count_request *request, enum err err)
{
    if (request == NULL) {
        return;
    }
    pthread_mutex_lock(&wal->lock);
    request->err = err;
    request->answered = true;
    pthread_cond_broadcast(&wal->advance_answered);
    pthread_mutex_unlock(&wal->lock);
}

static void
counts_hold(void *self, uint64_t counted_seq)
{
    struct wal *wal = self;

    atomic_store(&wal->counted_seq, counted_seq);
}

/* As of the last commit that changed them. */
static uint64_t
counts_bytes(void *self)
{
    struct wal *wal = self;

    return atomic_load_explicit(&wal->counts_bytes, memory_order_relaxed);
}

static const struct count_store_ops COUNTS_OPS = {
    .begin = counts_begin,
    .end = counts_end,
    .seek = counts_seek,
    .next = counts_next,
    .commit = counts_commit,
    .hold = counts_hold,
    .bytes = counts_bytes,
};

struct count_store
wal_count_store(struct wal *wal)
{
    return (struct count_store){&COUNTS_OPS, wal};
}
