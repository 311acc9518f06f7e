#include "wal/inspect.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wal/wal_internal.h"

enum {
    CHUNK_BYTES = 512 << 10, /* copied out in one read transaction, some thousand records */
    LOCK_FILE_MIN = 8192,    /* LMDB's own size of lock.mdb; a shorter one is not in use yet */
};

static const struct {
    const char *name;
    unsigned flags;
} TABLES[LOG_TABLE_COUNT] = {
    [LOG_TABLE_META] = {"meta", 0},
    [LOG_TABLE_RECORDS] = {"log", MDB_INTEGERKEY},
    [LOG_TABLE_SEGMENTS] = {"segments", MDB_INTEGERKEY},
    [LOG_TABLE_IDS] = {"ids", MDB_INTEGERKEY},
    [LOG_TABLE_SLICES] = {"slices", 0},
    [LOG_TABLE_INSTANCES] = {"instances", MDB_INTEGERKEY},
    [LOG_TABLE_COUNTS] = {"counts", 0},
};

struct log_view {
    MDB_env *env;
    MDB_dbi table[LOG_TABLE_COUNT]; /* 0: the log has no such table */
    char *data_path;
    char *lock_path;
    char *dir;
    bool without_lock; /* lock.mdb was not there to register in */
    struct log_progress *progress;
};

/* One entry copied out; offsets into the chunk's bytes. */
struct entry {
    size_t offset;
    size_t key_size;
    size_t value_size;
};

/* What one read transaction gave. */
struct chunk {
    struct buffer bytes;
    struct buffer entries; /* of struct entry */
    size_t count;
    bool at_end;
    struct log_state state; /* of the same snapshot, as are the next two; for records only */
    uint64_t oldest_key;
    uint64_t last_seq;
};

static void
note(struct log_view *view, const char *step, uint64_t seq)
{
    if (view->progress != NULL) {
        snprintf(view->progress->step, sizeof(view->progress->step), "%s", step);
        view->progress->seq = seq;
    }
}

void
log_view_watch(struct log_view *view, struct log_progress *progress)
{
    view->progress = progress;
}

static enum err
fail_lmdb(const char *what, int rc, struct buffer *problem)
{
    buffer_printf(problem, "%s: %s", what, mdb_strerror(rc));
    switch (rc) {
    case ENOMEM:
        return ERR_NO_MEMORY;
    case MDB_READERS_FULL:
        return ERR_AGAIN;
    case EACCES:
    case EPERM:
        return ERR_INVALID;
    case MDB_VERSION_MISMATCH:
        return ERR_FORMAT;
    case ENOENT:
    case MDB_INVALID:
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_BAD_TXN:
    case MDB_CURSOR_FULL:
    case MDB_INCOMPATIBLE:
    case MDB_NOTFOUND:
        return ERR_CORRUPT;
    default:
        return ERR_IO;
    }
}

static uint64_t
span_u64(struct span key)
{
    uint64_t value = 0;

    if (key.len == sizeof(value)) {
        memcpy(&value, key.data, sizeof(value));
    }
    return value;
}

static uint64_t
key_u64(MDB_val key)
{
    return span_u64(span_of_val(key));
}

/* ---- opening ---- */

static enum err
check_dir(const char *dir, struct buffer *problem)
{
    struct stat info;

    if (stat(dir, &info) != 0) {
        const enum err err = errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_INVALID;

        buffer_printf(problem, "the log's directory %s cannot be looked at: %s", dir,
                      strerror(errno));
        return err;
    }
    if (!S_ISDIR(info.st_mode)) {
        buffer_printf(problem, "%s is not a directory", dir);
        return ERR_NOT_FOUND;
    }
    return ERR_OK;
}

static enum err
check_data(const struct log_view *view, const char *dir, struct buffer *problem)
{
    struct stat info;

    if (stat(view->data_path, &info) != 0) {
        if (errno == ENOENT) {
            buffer_printf(problem, "there is no log in %s", dir);
            return ERR_NOT_FOUND;
        }
        buffer_printf(problem, "%s cannot be looked at: %s", view->data_path, strerror(errno));
        return ERR_INVALID;
    }
    if (access(view->data_path, R_OK) != 0) {
        buffer_printf(problem, "%s cannot be read: %s", view->data_path, strerror(errno));
        return ERR_INVALID;
    }
    if (info.st_size == 0) {
        buffer_printf(problem, "%s is empty: a start was interrupted, or it was cut",
                      view->data_path);
        return ERR_CORRUPT;
    }
    return ERR_OK;
}

/*
 * A reader registers in lock.mdb so that the server keeps the pages it reads. A server makes that
 * file in its full size before it touches the log, so without one nobody else is at work.
 */
static enum err
check_lock(struct log_view *view, struct buffer *problem)
{
    struct stat info;

    if (stat(view->lock_path, &info) != 0 || info.st_size < LOCK_FILE_MIN) {
        view->without_lock = true;
        return ERR_OK;
    }
    if (access(view->lock_path, R_OK | W_OK) == 0) {
        return ERR_OK;
    }
    if (errno == EROFS) {
        view->without_lock = true;
        return ERR_OK;
    }
    buffer_printf(problem,
                  "%s cannot be written (%s): beside a live server a reader must register there; "
                  "use the server's user",
                  view->lock_path, strerror(errno));
    return ERR_INVALID;
}

static char *
join(const char *dir, const char *name)
{
    char *path = NULL;

    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

/* A server with a larger WAL_MAX_BYTES may have started since: the map is then taken anew. */
static int
begin(struct log_view *view, MDB_txn **txn)
{
    int rc = mdb_txn_begin(view->env, NULL, MDB_RDONLY, txn);

    if (rc == MDB_MAP_RESIZED) {
        rc = mdb_env_set_mapsize(view->env, 0);
        if (rc == 0) {
            rc = mdb_txn_begin(view->env, NULL, MDB_RDONLY, txn);
        }
    }
    return rc;
}

static enum err
read_state(const struct log_view *view, MDB_txn *txn, struct log_state *out, struct buffer *problem)
{
    MDB_val key = val_of("state", 5);
    MDB_val value;
    int rc = mdb_get(txn, view->table[LOG_TABLE_META], &key, &value);
    enum err err;

    if (rc != 0) {
        return fail_lmdb("the state record cannot be read", rc, problem);
    }
    err = log_state_decode(span_of_val(value), out);
    if (err == ERR_FORMAT) {
        buffer_append_text(problem, "the log was written by a newer version of sluice");
    } else if (err != ERR_OK) {
        buffer_append_text(problem, "the state record is damaged");
    }
    return err;
}

static enum err
open_tables(struct log_view *view, const char *dir, struct buffer *problem)
{
    struct log_state state = {0};
    MDB_txn *txn = NULL;
    enum err err = ERR_OK;
    int rc = begin(view, &txn);

    if (rc != 0) {
        return fail_lmdb("no read can be begun", rc, problem);
    }
    for (size_t i = 0; i < LOG_TABLE_COUNT && err == ERR_OK; i++) {
        rc = mdb_dbi_open(txn, TABLES[i].name, TABLES[i].flags, &view->table[i]);
        if (rc == MDB_NOTFOUND && i == LOG_TABLE_META) {
            buffer_printf(problem, "there is no log in %s: no start has been completed", dir);
            err = ERR_NOT_FOUND;
        } else if (rc == MDB_NOTFOUND && i == LOG_TABLE_COUNTS) {
            view->table[i] = 0;
        } else if (rc != 0) {
            err = fail_lmdb("a table of the log cannot be opened", rc, problem);
        } else if (i == LOG_TABLE_META) {
            err = read_state(view, txn, &state, problem); /* before what its version may lack */
        }
    }
    if (err != ERR_OK) {
        mdb_txn_abort(txn);
        return err;
    }
    rc = mdb_txn_commit(txn); /* makes the handles last */
    return rc == 0 ? ERR_OK : fail_lmdb("the tables cannot be kept open", rc, problem);
}

static enum err
open_env(struct log_view *view, struct buffer *problem)
{
    const unsigned flags = MDB_RDONLY | MDB_NOTLS | (view->without_lock ? MDB_NOLOCK : 0U);
    int dead = 0;
    int rc = mdb_env_create(&view->env);

    if (rc == 0) {
        rc = mdb_env_set_maxdbs(view->env, 8);
    }
    if (rc == 0) {
        /* The directory is named by its data file, less the name: LMDB joins them again. */
        char *slash = strrchr(view->data_path, '/');

        *slash = '\0';
        rc = mdb_env_open(view->env, view->data_path, flags, 0);
        *slash = '/';
    }
    if (rc == 0 && !view->without_lock) {
        rc = mdb_reader_check(view->env, &dead); /* forgets readers that were killed */
    }
    if (rc == 0) {
        return ERR_OK;
    }
    return fail_lmdb("the log cannot be opened", rc, problem);
}

enum err
log_view_open(struct log_view **out, const char *dir, struct buffer *problem)
{
    struct log_view *view = calloc(1, sizeof(*view));
    enum err err = check_dir(dir, problem);

    if (view == NULL) {
        return ERR_NO_MEMORY;
    }
    view->data_path = join(dir, "data.mdb");
    view->lock_path = join(dir, "lock.mdb");
    view->dir = strdup(dir);
    if (err == ERR_OK &&
        (view->data_path == NULL || view->lock_path == NULL || view->dir == NULL)) {
        err = ERR_NO_MEMORY;
    }
    if (err == ERR_OK) {
        err = check_data(view, dir, problem);
    }
    if (err == ERR_OK) {
        err = check_lock(view, problem);
    }
    if (err == ERR_OK) {
        err = open_env(view, problem);
    }
    if (err == ERR_OK) {
        err = open_tables(view, dir, problem);
    }
    if (err != ERR_OK) {
        log_view_close(view);
        return err;
    }
    *out = view;
    return ERR_OK;
}

void
log_view_close(struct log_view *view)
{
    if (view == NULL) {
        return;
    }
    if (view->env != NULL) {
        mdb_env_close(view->env);
    }
    free(view->data_path);
    free(view->lock_path);
    free(view->dir);
    free(view);
}

/* ---- the stage: records LMDB does not have yet ---- */

static enum err
copy_stage(const struct log_view *view, struct buffer *bytes, struct buffer *problem)
{
    enum err err = stage_copy(view->dir, bytes);

    if (err != ERR_OK && err != ERR_NO_MEMORY) {
        buffer_append_text(problem, "the stage of the log (" STAGE_FILE ") cannot be read");
    }
    return err;
}

/*
 * What BYTES, copied before the snapshot, hold after its LAST_SEQ. Which records are damaged is for
 * *CONTENT to tell; ERR_CORRUPT when not even that can be said.
 */
static enum err
parse_stage(const struct buffer *bytes, const struct log_state *state, uint64_t last_seq,
            struct stage_content *content, struct buffer *problem)
{
    enum err err = stage_parse(buffer_span(bytes), state->node_id, last_seq, content);

    if (err == ERR_CORRUPT && content->missing_first != 0) {
        return ERR_OK;
    }
    if (err == ERR_CORRUPT) {
        buffer_printf(problem, "%s (" STAGE_FILE ")", content->why);
    }
    return err;
}

/* ---- summary ---- */

uint64_t
log_state_replicated_prefix(const struct log_state *state, uint64_t last_seq)
{
    uint64_t prefix = last_seq;

    for (uint32_t p = 0; p < state->partitions; p++) {
        uint64_t next = next_seq_of_partition(state->replicated[p], p, state->partitions);

        if (next - 1 < prefix) {
            prefix = next - 1;
        }
    }
    return prefix;
}

/* Last seq of a block; of a damaged one the first seq that cannot be read. */
static uint64_t
last_seq_of_block(uint64_t key, struct span block)
{
    uint64_t last = key - 1;

    for (;;) {
        struct frame frame;
        uint64_t seq;
        enum err err = frame_next(&block, &frame, &seq);

        if (err == ERR_NOT_FOUND) {
            return last;
        }
        if (seq == 0) {
            return last + 1;
        }
        last = seq;
    }
}

/* Oldest block's key (0: none) and the newest record's seq. */
static int
read_range(const struct log_view *view, MDB_txn *txn, const struct log_state *state,
           uint64_t *oldest_out, uint64_t *last_out, MDB_val *oldest_block_out)
{
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_open(txn, view->table[LOG_TABLE_RECORDS], &cursor);

    if (rc != 0) {
        return rc;
    }
    *oldest_out = 0;
    *last_out = state->first_seq - 1;
    rc = mdb_cursor_get(cursor, &key, oldest_block_out, MDB_FIRST);
    if (rc == 0) {
        *oldest_out = key_u64(key);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
    }
    if (rc == 0) {
        *last_out = last_seq_of_block(key_u64(key), span_of_val(value));
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static uint64_t
pages_of(const MDB_stat *stat)
{
    return (uint64_t)stat->ms_branch_pages + stat->ms_leaf_pages + stat->ms_overflow_pages;
}

/* Calls FN for each run of free pages LMDB keeps: a count, then page numbers, highest first. */
static int
each_free_run(MDB_txn *txn, enum err (*fn)(void *arg, struct span run), void *arg, enum err *err)
{
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_open(txn, 0, &cursor);

    if (rc != 0) {
        return rc;
    }
    while (*err == ERR_OK && (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        *err = fn(arg, span_of_val(value));
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static enum err
count_free(void *arg, struct span run)
{
    uint64_t *total = arg;
    size_t count = 0;

    if (run.len < sizeof(count)) {
        return ERR_CORRUPT;
    }
    memcpy(&count, run.data, sizeof(count));
    *total += count;
    return ERR_OK;
}

static void
summarise_oldest(struct log_summary *out, MDB_val block)
{
    struct span rest = span_of_val(block);
    struct frame frame;
    struct event event;
    uint64_t seq;

    if (frame_next(&rest, &frame, &seq) == ERR_OK && event_decode(frame.body, &event) == ERR_OK) {
        out->oldest_created_us = event.created_at_us;
    }
}

static void
summarise_pending(struct log_summary *out)
{
    const uint32_t partitions = out->state.partitions;

    for (uint32_t p = 0; p < partitions; p++) {
        uint64_t all = journal_partition_count(out->last_seq, p, partitions);
        uint64_t done = journal_partition_count(out->state.replicated[p], p, partitions);
        uint64_t unborn = journal_partition_count(out->state.first_seq - 1, p, partitions);

        done = done > unborn ? done : unborn;
        out->pending[p] = all > done ? all - done : 0;
        out->pending_events += out->pending[p];
    }
}

static int
summarise_space(struct log_view *view, MDB_txn *txn, struct log_summary *out)
{
    MDB_stat tables[LOG_TABLE_COUNT] = {0};
    MDB_envinfo info;
    struct stat file;
    enum err err = ERR_OK;
    int rc = mdb_env_info(view->env, &info);

    for (size_t i = 0; i < LOG_TABLE_COUNT && rc == 0; i++) {
        if (view->table[i] != 0) {
            rc = mdb_stat(txn, view->table[i], &tables[i]);
        }
    }
    if (rc == 0) {
        rc = each_free_run(txn, count_free, &out->free_pages, &err);
    }
    if (rc != 0) {
        return rc;
    }
    out->blocks = tables[LOG_TABLE_RECORDS].ms_entries;
    out->slices = tables[LOG_TABLE_SLICES].ms_entries;
    out->starts = tables[LOG_TABLE_INSTANCES].ms_entries;
    out->counts = tables[LOG_TABLE_COUNTS].ms_entries;
    out->page_size = tables[LOG_TABLE_RECORDS].ms_psize;
    out->pages = (uint64_t)info.me_last_pgno + 1;
    out->live_bytes = pages_of(&tables[LOG_TABLE_RECORDS]) * out->page_size;
    if (stat(view->data_path, &file) == 0) {
        out->file_bytes = (uint64_t)file.st_size;
    }
    return err == ERR_OK ? 0 : MDB_CORRUPTED;
}

static uint64_t
count_client_ids(struct span frames)
{
    struct frame frame = {0, {NULL, 0}};
    struct event event;
    uint64_t seq;
    uint64_t count = 0;

    while (frame_next(&frames, &frame, &seq) == ERR_OK) {
        count += event_decode(frame.body, &event) == ERR_OK && event.id_by_client;
    }
    return count;
}

/* Adds to *OUT, read from LMDB, the records that only the stage holds. */
static enum err
summarise_staged(const struct buffer *bytes, struct log_summary *out, struct buffer *problem)
{
    struct stage_content content = {.frames = BUFFER_EMPTY};
    enum err err = parse_stage(bytes, &out->state, out->last_seq, &content, problem);

    if (err == ERR_OK && content.last_seq > out->last_seq) {
        if (out->oldest_seq == 0) {
            out->oldest_seq = out->last_seq + 1;
            summarise_oldest(out, val_of(content.frames.data, content.frames.len));
        }
        out->staged = content.last_seq - out->last_seq;
        out->staged_ids = count_client_ids(buffer_span(&content.frames));
        out->records += out->staged;
        out->last_seq = content.last_seq;
    }
    if (err == ERR_OK && content.missing_last > out->last_seq) {
        out->last_seq = content.missing_last; /* they were acknowledged */
    }
    buffer_free(&content.frames);
    return err;
}

static enum err
summarise(struct log_view *view, struct log_summary *out, struct buffer *problem)
{
    struct log_summary summary = {.oldest_created_us = INT64_MIN};
    MDB_txn *txn = NULL;
    MDB_val oldest = {0, NULL};
    enum err err;
    int rc;

    rc = begin(view, &txn);
    if (rc != 0) {
        return fail_lmdb("no read can be begun", rc, problem);
    }
    err = read_state(view, txn, &summary.state, problem);
    if (err == ERR_OK) {
        rc = read_range(view, txn, &summary.state, &summary.oldest_seq, &summary.last_seq, &oldest);
        if (rc == 0 && summary.oldest_seq != 0) {
            summary.records = summary.last_seq - summary.oldest_seq + 1;
            summarise_oldest(&summary, oldest);
        }
        if (rc == 0) {
            rc = summarise_space(view, txn, &summary);
        }
        if (rc != 0) {
            err = fail_lmdb("the log cannot be read", rc, problem);
        }
    }
    mdb_txn_abort(txn);
    if (err == ERR_OK) {
        *out = summary;
    }
    return err;
}

enum err
log_view_summary(struct log_view *view, struct log_summary *out, struct buffer *problem)
{
    struct log_summary summary = {0};
    struct buffer stage = BUFFER_EMPTY;
    enum err err;

    note(view, "summary", 0);
    err = copy_stage(view, &stage, problem);
    if (err == ERR_OK) {
        err = summarise(view, &summary, problem);
    }
    if (err == ERR_OK) {
        err = summarise_staged(&stage, &summary, problem);
    }
    if (err == ERR_OK) {
        summarise_pending(&summary);
        *out = summary;
    }
    buffer_free(&stage);
    return err;
}

/* ---- copying out ---- */

static void
chunk_free(struct chunk *chunk)
{
    buffer_free(&chunk->bytes);
    buffer_free(&chunk->entries);
}

static void
chunk_push(struct chunk *chunk, MDB_val key, MDB_val value)
{
    const struct entry entry = {chunk->bytes.len, key.mv_size, value.mv_size};

    buffer_append(&chunk->bytes, key.mv_data, key.mv_size);
    buffer_append(&chunk->bytes, value.mv_data, value.mv_size);
    buffer_append(&chunk->entries, &entry, sizeof(entry));
    chunk->count++;
}

static struct span
chunk_get(const struct chunk *chunk, size_t i, struct span *key_out)
{
    struct entry entry;

    ASSERT(i < chunk->count);
    memcpy(&entry, chunk->entries.data + i * sizeof(entry), sizeof(entry));
    *key_out = (struct span){chunk->bytes.data + entry.offset, entry.key_size};
    return (struct span){chunk->bytes.data + entry.offset + entry.key_size, entry.value_size};
}

/* Copies what follows the key AFTER (absent: from the first entry on). */
static int
copy_entries(MDB_cursor *cursor, struct span after, bool include, struct chunk *chunk)
{
    MDB_val key = {after.len, NULL};
    MDB_val value;
    int rc;

    if (after.data == NULL) {
        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    } else {
        key = val_of(after.data, after.len);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        if (rc == 0 && !include && span_equal(span_of_val(key), after)) {
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        }
    }
    while (rc == 0) {
        chunk_push(chunk, key, value);
        if (chunk->bytes.len >= CHUNK_BYTES) {
            return 0;
        }
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    chunk->at_end = rc == MDB_NOTFOUND;
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/*
 * Fills *CHUNK from TABLE after the key AFTER, or from it on with INCLUDE. For records: AFTER is in
 * the block wanted first, which may begin before it.
 */
static enum err
chunk_read(struct log_view *view, enum log_table table, struct span after, bool include,
           struct chunk *chunk, struct buffer *problem)
{
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    MDB_val oldest;
    enum err err = ERR_OK;
    int rc;

    buffer_clear(&chunk->bytes, SIZE_MAX);
    buffer_clear(&chunk->entries, SIZE_MAX);
    chunk->count = 0;
    chunk->at_end = view->table[table] == 0;
    if (chunk->at_end) {
        return ERR_OK;
    }
    rc = begin(view, &txn);
    if (rc != 0) {
        return fail_lmdb("no read can be begun", rc, problem);
    }
    if (table == LOG_TABLE_RECORDS) {
        err = read_state(view, txn, &chunk->state, problem);
        if (err == ERR_OK) {
            rc =
                read_range(view, txn, &chunk->state, &chunk->oldest_key, &chunk->last_seq, &oldest);
        }
    }
    if (err == ERR_OK && rc == 0) {
        rc = mdb_cursor_open(txn, view->table[table], &cursor);
    }
    if (err == ERR_OK && rc == 0) {
        rc = copy_entries(cursor, after, include, chunk);
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    if (err == ERR_OK && rc != 0) {
        err = fail_lmdb("the log cannot be read", rc, problem);
    }
    if (err == ERR_OK && (chunk->bytes.failed || chunk->entries.failed)) {
        err = ERR_NO_MEMORY;
    }
    return err;
}

/* ---- records ---- */

struct scan {
    struct log_view *view;
    enum err (*fn)(void *arg, const struct log_item *item);
    void *arg;
    uint64_t from;
    uint64_t to;       /* the end, fixed at the start */
    uint64_t expected; /* next seq to come */
    bool unreadable;   /* what lies between EXPECTED and the next block is there but damaged */
};

static enum err
give(struct scan *scan, enum log_item_kind kind, uint64_t first, uint64_t last, const char *why)
{
    const struct log_item item = {.kind = kind, .seq = first, .last_seq = last, .why = why};

    return first > last ? ERR_OK : scan->fn(scan->arg, &item);
}

/* Accounts for [EXPECTED, NEXT - 1], which the log does not give. */
static enum err
give_gap(struct scan *scan, uint64_t next)
{
    const uint64_t last = next - 1 < scan->to ? next - 1 : scan->to;
    const uint64_t first = scan->expected;
    const bool unreadable = scan->unreadable;

    scan->unreadable = false;
    if (first > last) {
        return ERR_OK;
    }
    scan->expected = last + 1;
    if (unreadable) {
        return give(scan, LOG_ITEM_DAMAGED, first, last,
                    "the head of a record in its block is damaged");
    }
    return give(scan, LOG_ITEM_MISSING, first, last, "it is not in the log");
}

/* The oldest block of a snapshot begins after EXPECTED: what the sink had by then was trimmed. */
static enum err
give_trimmed(struct scan *scan, const struct chunk *chunk, uint64_t key)
{
    uint64_t last = log_state_replicated_prefix(&chunk->state, chunk->last_seq);
    enum err err;

    if (last > key - 1) {
        last = key - 1;
    }
    if (last > scan->to) {
        last = scan->to;
    }
    if (scan->expected > last) {
        return ERR_OK;
    }
    err = give(scan, LOG_ITEM_TRIMMED, scan->expected, last, "it was trimmed");
    scan->expected = last + 1;
    return err;
}

static const char *
why_damaged(enum err err)
{
    return err == ERR_FORMAT ? "it has a version this build does not know"
                             : "its checksum does not match";
}

static enum err
give_record(struct scan *scan, const struct frame *frame, uint64_t key, size_t size)
{
    struct log_item item = {.kind = LOG_ITEM_RECORD,
                            .seq = frame->seq,
                            .last_seq = frame->seq,
                            .block = key,
                            .block_size = size};
    enum err err = event_decode(frame->body, &item.event);

    if (err != ERR_OK) {
        return give(scan, LOG_ITEM_DAMAGED, frame->seq, frame->seq,
                    err == ERR_FORMAT ? "its event has a version this build does not know"
                                      : "its event cannot be decoded");
    }
    return scan->fn(scan->arg, &item);
}

/* One frame whose head is good; *ERR_READ is what frame_next() said. */
static enum err
scan_frame(struct scan *scan, const struct frame *frame, uint64_t seq, enum err read, uint64_t key,
           size_t size)
{
    enum err err;

    if (seq < scan->from || seq > scan->to) {
        return ERR_OK;
    }
    if (seq < scan->expected) {
        return give(scan, LOG_ITEM_MISPLACED, seq, seq, "its sequence number goes back");
    }
    err = give_gap(scan, seq);
    if (err != ERR_OK) {
        return err;
    }
    scan->expected = seq + 1;
    if (read != ERR_OK) {
        return give(scan, LOG_ITEM_DAMAGED, seq, seq, why_damaged(read));
    }
    return give_record(scan, frame, key, size);
}

static enum err
scan_block(struct scan *scan, const struct chunk *chunk, uint64_t key, struct span block)
{
    const size_t size = block.len;
    bool first = true;
    enum err err = ERR_OK;

    if (key > scan->expected && key == chunk->oldest_key) {
        err = give_trimmed(scan, chunk, key);
    }
    if (err == ERR_OK && key > scan->expected) {
        err = give_gap(scan, key);
    }
    while (err == ERR_OK) {
        struct frame frame = {0, {NULL, 0}};
        uint64_t seq;
        enum err read = frame_next(&block, &frame, &seq);

        if (read == ERR_NOT_FOUND) {
            return ERR_OK;
        }
        if (seq == 0) {
            scan->unreadable = true;
            return ERR_OK;
        }
        if (first && seq != key && seq >= scan->from && seq <= scan->to) {
            err = give(scan, LOG_ITEM_MISPLACED, seq, seq, "its block has another number");
        }
        first = false;
        if (err == ERR_OK) {
            note(scan->view, "records", seq);
            err = scan_frame(scan, &frame, seq, read, key, size);
        }
    }
    return err;
}

/* The key of the block that may hold SEQ, or SEQ itself. */
static enum err
find_block(struct log_view *view, uint64_t seq, uint64_t *key_out, uint64_t *last_out,
           struct log_state *state, struct buffer *problem)
{
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    MDB_val key = val_of(&seq, sizeof(seq));
    MDB_val value;
    uint64_t oldest;
    enum err err;
    int rc = begin(view, &txn);

    if (rc != 0) {
        return fail_lmdb("no read can be begun", rc, problem);
    }
    *key_out = seq;
    err = read_state(view, txn, state, problem);
    if (err == ERR_OK) {
        rc = read_range(view, txn, state, &oldest, last_out, &value);
    }
    if (err == ERR_OK && rc == 0) {
        rc = mdb_cursor_open(txn, view->table[LOG_TABLE_RECORDS], &cursor);
    }
    if (err == ERR_OK && rc == 0) {
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        if (rc == MDB_NOTFOUND || (rc == 0 && key_u64(key) != seq)) {
            rc = mdb_cursor_get(cursor, &key, &value, rc == 0 ? MDB_PREV : MDB_LAST);
        }
        if (rc == 0) {
            *key_out = key_u64(key);
        }
        rc = rc == MDB_NOTFOUND ? 0 : rc;
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return err == ERR_OK && rc != 0 ? fail_lmdb("the log cannot be read", rc, problem) : err;
}

static enum err
scan_chunks(struct scan *scan, uint64_t key, struct buffer *problem)
{
    struct chunk chunk = {.bytes = BUFFER_EMPTY, .entries = BUFFER_EMPTY};
    bool include = true;
    enum err err = ERR_OK;

    while (err == ERR_OK && scan->expected <= scan->to && !chunk.at_end) {
        err = chunk_read(scan->view, LOG_TABLE_RECORDS,
                         (struct span){(const char *)&key, sizeof(key)}, include, &chunk, problem);
        for (size_t i = 0; i < chunk.count && err == ERR_OK && scan->expected <= scan->to; i++) {
            struct span raw;
            struct span block = chunk_get(&chunk, i, &raw);
            uint64_t next = span_u64(raw);

            if (next < key || (next == key && !(include && i == 0))) {
                buffer_printf(problem, "the keys of the records are out of order after %" PRIu64,
                              key);
                err = ERR_CORRUPT;
                break;
            }
            key = next;
            err = scan_block(scan, &chunk, key, block);
        }
        include = false;
    }
    chunk_free(&chunk);
    if (err == ERR_OK) {
        err = give_gap(scan, scan->to + 1);
    }
    return err;
}

/* The records that only the stage holds, then what it should hold and does not. */
static enum err
scan_staged(struct scan *scan, const struct stage_content *content, uint64_t to)
{
    struct span rest = buffer_span(&content->frames);
    struct frame frame;
    uint64_t seq;
    enum err err = ERR_OK;

    while (err == ERR_OK && frame_next(&rest, &frame, &seq) == ERR_OK) {
        if (seq >= scan->from && seq <= to) {
            note(scan->view, "stage", seq);
            err = give_record(scan, &frame, 0, 0);
        }
    }
    if (err == ERR_OK && content->missing_first != 0 && content->missing_first <= to) {
        err = give(scan, LOG_ITEM_DAMAGED, content->missing_first, content->missing_last,
                   content->why);
    }
    return err;
}

/* LAST is the last record LMDB has; KEY that of the block which may hold FROM. */
static enum err
scan_all(struct scan *scan, const struct stage_content *content, uint64_t last, uint64_t key,
         uint64_t to, struct buffer *problem)
{
    enum err err = ERR_OK;

    scan->to = to < last ? to : last;
    scan->expected = scan->from;
    if (scan->from <= scan->to) {
        err = scan_chunks(scan, key, problem);
    }
    return err == ERR_OK ? scan_staged(scan, content, to) : err;
}

enum err
log_view_each(struct log_view *view, uint64_t from, uint64_t to,
              enum err (*fn)(void *arg, const struct log_item *item), void *arg,
              struct buffer *problem)
{
    struct scan scan = {.view = view, .fn = fn, .arg = arg};
    struct stage_content content = {.frames = BUFFER_EMPTY};
    struct buffer stage = BUFFER_EMPTY;
    struct log_state state = {0};
    uint64_t last = 0;
    uint64_t key = from;
    enum err err;

    note(view, "records", 0);
    err = copy_stage(view, &stage, problem);
    if (err == ERR_OK) {
        err = find_block(view, from, &key, &last, &state, problem);
    }
    if (err == ERR_OK) {
        err = parse_stage(&stage, &state, last, &content, problem);
    }
    if (err == ERR_OK) {
        scan.from = from > state.first_seq ? from : state.first_seq;
        err = scan_all(&scan, &content, last, key, to, problem);
    }
    buffer_free(&content.frames);
    buffer_free(&stage);
    return err;
}

/* ---- other tables ---- */

static bool
comes_after(enum log_table table, struct span key, struct span before)
{
    size_t len = key.len < before.len ? key.len : before.len;
    int order;

    if (before.len == 0) {
        return true;
    }
    if (TABLES[table].flags == MDB_INTEGERKEY) {
        return key.len == before.len && span_u64(key) > span_u64(before);
    }
    order = memcmp(key.data, before.data, len);
    return order > 0 || (order == 0 && key.len > before.len);
}

enum err
log_view_each_entry(struct log_view *view, enum log_table table,
                    enum err (*fn)(void *arg, struct span key, struct span value), void *arg,
                    struct buffer *problem)
{
    struct chunk chunk = {.bytes = BUFFER_EMPTY, .entries = BUFFER_EMPTY};
    struct buffer last = BUFFER_EMPTY;
    enum err err = ERR_OK;

    note(view, TABLES[table].name, 0);
    while (err == ERR_OK && !chunk.at_end) {
        err = chunk_read(view, table, buffer_span(&last), false, &chunk, problem);
        for (size_t i = 0; i < chunk.count && err == ERR_OK; i++) {
            struct span key;
            struct span value = chunk_get(&chunk, i, &key);

            if (!comes_after(table, key, buffer_span(&last))) {
                buffer_printf(problem, "the keys of the table '%s' are out of order",
                              TABLES[table].name);
                err = ERR_CORRUPT;
                break;
            }
            err = fn(arg, key, value);
            buffer_clear(&last, SIZE_MAX);
            buffer_append_span(&last, key);
            if (err == ERR_OK && last.failed) {
                err = ERR_NO_MEMORY;
            }
        }
    }
    chunk_free(&chunk);
    buffer_free(&last);
    return err;
}

/* ---- space ---- */

struct page_set {
    uint8_t *seen; /* a bit per page */
    uint64_t pages;
    uint64_t count;
    const char *why; /* what is wrong, NULL nothing */
};

static enum err
add_free_run(void *arg, struct span run)
{
    struct page_set *set = arg;
    size_t count = 0;

    if (run.len >= sizeof(count)) {
        memcpy(&count, run.data, sizeof(count));
    }
    if (run.len < sizeof(count) || count > run.len / sizeof(count) - 1) {
        set->why = "the list of free pages is damaged";
        return ERR_CORRUPT;
    }
    for (size_t i = 1; i <= count; i++) {
        size_t page;

        memcpy(&page, run.data + i * sizeof(page), sizeof(page));
        if (page < 2 || page >= set->pages) {
            set->why = "the list of free pages names one that does not exist";
            return ERR_CORRUPT;
        }
        if ((set->seen[page / 8] >> (page % 8) & 1) != 0) {
            set->why = "the list of free pages names one twice";
            return ERR_CORRUPT;
        }
        set->seen[page / 8] = (uint8_t)(set->seen[page / 8] | 1U << (page % 8));
        set->count++;
    }
    return ERR_OK;
}

/* Pages of all trees: ours, the one that names them (1), and the free list's own (0). */
static int
count_used(const struct log_view *view, MDB_txn *txn, uint64_t *used_out)
{
    uint64_t used = 2; /* the two meta pages */
    MDB_stat stat;

    for (unsigned i = 0; i < LOG_TABLE_COUNT + 2U; i++) {
        const MDB_dbi dbi = i < 2 ? i : view->table[i - 2];
        int rc;

        if (i >= 2 && dbi == 0) {
            continue;
        }
        rc = mdb_stat(txn, dbi, &stat);
        if (rc != 0) {
            return rc;
        }
        used += pages_of(&stat);
    }
    *used_out = used;
    return 0;
}

enum err
log_view_check_space(struct log_view *view, uint64_t *used_out, uint64_t *free_out,
                     struct buffer *problem)
{
    struct page_set set = {0};
    MDB_txn *txn = NULL;
    MDB_envinfo info = {0};
    uint64_t used = 0;
    enum err err = ERR_OK;
    int rc;

    note(view, "free pages", 0);
    rc = begin(view, &txn);
    if (rc != 0) {
        return fail_lmdb("no read can be begun", rc, problem);
    }
    /* Taken after the snapshot, so it can only be larger than what that knows. */
    rc = mdb_env_info(view->env, &info);
    set.pages = (uint64_t)info.me_last_pgno + 1;
    set.seen = rc == 0 ? calloc(set.pages / 8 + 1, 1) : NULL;
    if (rc == 0 && set.seen == NULL) {
        rc = ENOMEM;
    }
    if (rc == 0) {
        rc = count_used(view, txn, &used);
    }
    if (rc == 0) {
        rc = each_free_run(txn, add_free_run, &set, &err);
    }
    mdb_txn_abort(txn);
    free(set.seen);
    if (err != ERR_OK) {
        buffer_append_text(problem, set.why);
        return err;
    }
    if (rc != 0) {
        return fail_lmdb("the list of free pages cannot be read", rc, problem);
    }
    if (used + set.count > set.pages) {
        buffer_printf(problem,
                      "%" PRIu64 " pages in use and %" PRIu64
                      " free ones are more than the %" PRIu64 " there are: some are both",
                      used, set.count, set.pages);
        return ERR_CORRUPT;
    }
    *used_out = used;
    *free_out = set.count;
    return ERR_OK;
}
