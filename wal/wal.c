/*
 * wal.c - opening and closing the log: directory, lock, space, identity, epoch; and the port's
 * table.
 */
#include "wal/wal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/base/uuid.h"
#include "wal/wal_internal.h"

enum {
    OPEN_SPACE_MIN = 4 << 20, /* free bytes without which not even opening is tried */
    LOCK_TABLE_SIZE = 16384,  /* LMDB's lock.mdb: some 250 reader slots */
    LMDB_FLAGS = MDB_NOTLS | MDB_NOMEMINIT,
};

/* Room in the map, beyond what records and ids may use, for slices and copy-on-write. */
#define MAP_EXTRA_BYTES ((uint64_t)1 << 30)
#define SLICES_BYTES_MAX (MAP_EXTRA_BYTES / 2)
#define ID_BYTES_MAX ((uint64_t)64) /* of one remembered id, when each has a block of its own */

static enum err
fail_errno(const char *what, const char *path)
{
    enum err err = errno == ENOSPC || errno == EDQUOT ? ERR_NO_SPACE : ERR_IO;

    log_error("wal.open_failed", LOG_STR("step", what), LOG_STR("path", path),
              LOG_STR("cause", strerror(errno)), LOG_END);
    return err;
}

static enum err
fail_lmdb(const char *what, int rc)
{
    log_error("wal.open_failed", LOG_STR("step", what), LOG_STR("cause", mdb_strerror(rc)),
              LOG_END);
    switch (rc) {
    case ENOSPC:
    case EDQUOT:
        return ERR_NO_SPACE;
    case ENOMEM:
        return ERR_NO_MEMORY;
    case MDB_VERSION_MISMATCH:
        return ERR_FORMAT;
    case MDB_INVALID:
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
        return ERR_CORRUPT;
    default:
        return ERR_IO;
    }
}

/* ---- directory ---- */

static enum err
sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err err = ERR_OK;

    if (fd < 0) {
        return fail_errno("open directory", path);
    }
    if (fsync(fd) != 0) {
        err = fail_errno("sync directory", path);
    }
    close(fd);
    return err;
}

/* The entry of PATH in its parent directory must survive power loss as well. */
static enum err
sync_parent(const char *path)
{
    char *copy = strdup(path);
    char *slash;
    enum err err;

    if (copy == NULL) {
        return ERR_NO_MEMORY;
    }
    slash = strrchr(copy, '/');
    if (slash == NULL) {
        err = sync_dir(".");
    } else {
        *(slash == copy ? slash + 1 : slash) = '\0';
        err = sync_dir(copy);
    }
    free(copy);
    return err;
}

/* mkdir -p, each new entry synced. PATH is changed and restored meanwhile. */
static enum err
make_dirs(char *path)
{
    for (char *at = path + 1;; at++) {
        char kept = *at;
        enum err err = ERR_OK;

        if (kept != '/' && kept != '\0') {
            continue;
        }
        *at = '\0';
        if (mkdir(path, 0750) == 0) {
            err = sync_parent(path);
        } else if (errno != EEXIST) {
            err = fail_errno("make directory", path);
        }
        *at = kept;
        if (err != ERR_OK || kept == '\0') {
            return err;
        }
    }
}

/* Two servers on one LMDB directory do not fail by themselves. */
static enum err
take_lock(struct wal *wal)
{
    char path[4096];
    char text[24];
    int len;

    snprintf(path, sizeof(path), "%s/sluice.lock", wal->dir);
    wal->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (wal->lock_fd < 0) {
        return fail_errno("open lock", path);
    }
    if (flock(wal->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        ssize_t got = pread(wal->lock_fd, text, sizeof(text) - 1, 0);

        text[got > 0 ? got : 0] = '\0';
        log_error("wal.locked", LOG_STR("dir", wal->dir), LOG_STR("held_by_pid", text), LOG_END);
        return ERR_LOCKED;
    }
    len = snprintf(text, sizeof(text), "%ld", (long)getpid());
    /* Only for people who wonder who holds the lock, so a failure is no reason not to start. */
    if (ftruncate(wal->lock_fd, 0) == 0 && pwrite(wal->lock_fd, text, (size_t)len, 0) < 0) {
        log_warn("wal.lock_unsigned", LOG_STR("cause", strerror(errno)), LOG_END);
    }
    return ERR_OK;
}

/*
 * On a full disk LMDB would write through a mapping of lock.mdb that has no blocks behind it and
 * die of SIGBUS. So there must be space, and the file gets its blocks before LMDB sees it.
 */
static enum err
check_space(struct wal *wal)
{
    char path[4096];
    struct statvfs disk;
    enum err err = ERR_OK;
    int fd;
    int rc;

    if (statvfs(wal->dir, &disk) != 0) {
        return fail_errno("look at free space", wal->dir);
    }
    wal->disk_free = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (wal->disk_free < (uint64_t)OPEN_SPACE_MIN) {
        errno = ENOSPC;
        return fail_errno("look at free space", wal->dir);
    }
    snprintf(path, sizeof(path), "%s/lock.mdb", wal->dir);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0) {
        return fail_errno("open lock.mdb", path);
    }
    rc = posix_fallocate(fd, 0, LOCK_TABLE_SIZE);
    if (rc != 0) {
        errno = rc;
        err = fail_errno("reserve lock.mdb", path);
    }
    close(fd);
    return err;
}

/* ---- the environment ---- */

/*
 * LMDB makes its file in place, and does not open one that a power loss left half made. So a new
 * one is made under another name, and gets its own when all of it is on the disk.
 */
static enum err
make_data_file(struct wal *wal)
{
    char path[4096];
    char beside[4096];
    MDB_env *env = NULL;
    int rc;

    snprintf(path, sizeof(path), "%s/data.mdb", wal->dir);
    snprintf(beside, sizeof(beside), "%s/data.mdb.new", wal->dir);
    if (access(path, F_OK) == 0) {
        return ERR_OK;
    }
    if (errno != ENOENT || (unlink(beside) != 0 && errno != ENOENT)) {
        return fail_errno("look for data.mdb", wal->dir);
    }
    rc = mdb_env_create(&env);
    if (rc == 0) { /* sluice.lock is ours, so LMDB needs no lock file */
        rc = mdb_env_open(env, beside, MDB_NOSUBDIR | MDB_NOLOCK, 0640);
    }
    if (rc == 0) {
        rc = mdb_env_sync(env, 1);
    }
    if (env != NULL) {
        mdb_env_close(env);
    }
    if (rc != 0) {
        return fail_lmdb("make data.mdb", rc);
    }
    return rename(beside, path) == 0 ? sync_dir(wal->dir) : fail_errno("name data.mdb", path);
}

/*
 * A limit set lower than what the file already holds must still leave room to start and to drain: a
 * full map can do neither.
 */
static int
widen_map(struct wal *wal, const MDB_envinfo *info)
{
    uint64_t used = ((uint64_t)info->me_last_pgno + 1) * wal->page_size;

    if (used + used / 16 <= info->me_mapsize) {
        return 0;
    }
    return mdb_env_set_mapsize(wal->env, (size_t)(used + used / 4));
}

/*
 * A data file cut short would answer a read with SIGBUS. Its missing end is filled with zeros,
 * which LMDB and our checksums tell from what stood there. (The file may also end early by right:
 * pages that were taken and freed again in one transaction are never written.)
 */
static enum err
fill_file(struct wal *wal, const MDB_envinfo *info)
{
    off_t wanted = (off_t)(((uint64_t)info->me_last_pgno + 1) * wal->page_size);
    struct stat file;
    int fd;

    if (mdb_env_get_fd(wal->env, &fd) != 0 || fstat(fd, &file) != 0) {
        return fail_errno("look at data.mdb", wal->dir);
    }
    if (file.st_size < wanted) {
        log_warn("wal.file_short", LOG_I64("bytes", file.st_size), LOG_I64("wanted", wanted),
                 LOG_END);
        if (ftruncate(fd, wanted) != 0) {
            return fail_errno("extend data.mdb", wal->dir);
        }
    }
    return ERR_OK;
}

static enum err
open_env(struct wal *wal)
{
    uint64_t map = wal->config.bytes_max + wal->config.bytes_max / 3 + MAP_EXTRA_BYTES +
                   wal->config.id_window * ID_BYTES_MAX + 2 * wal->config.counts_bytes_max;
    MDB_envinfo info;
    MDB_stat stat;
    int dead = 0;
    int rc = mdb_env_create(&wal->env);

    if (rc != 0) {
        return fail_lmdb("create environment", rc);
    }
    rc = mdb_env_set_maxdbs(wal->env, 8);
    if (rc == 0) {
        rc = mdb_env_set_mapsize(wal->env, (size_t)map);
    }
    if (rc == 0) {
        rc = mdb_env_open(wal->env, wal->dir, LMDB_FLAGS, 0640);
    }
    if (rc == 0) {
        rc = mdb_reader_check(wal->env, &dead);
    }
    if (rc == 0) {
        rc = mdb_env_stat(wal->env, &stat);
    }
    if (rc == 0) {
        wal->page_size = stat.ms_psize;
        rc = mdb_env_info(wal->env, &info);
    }
    if (rc == 0) {
        rc = widen_map(wal, &info);
    }
    if (rc == 0) {
        rc = mdb_env_info(wal->env, &info);
    }
    if (rc != 0) {
        return fail_lmdb("open environment", rc);
    }
    wal->map_pages = info.me_mapsize / stat.ms_psize;
    return fill_file(wal, &info);
}

static int
open_databases(struct wal *wal, MDB_txn *txn)
{
    const struct {
        const char *name;
        unsigned flags;
        MDB_dbi *dbi;
    } databases[] = {
        {"meta", 0, &wal->meta},
        {"log", MDB_INTEGERKEY, &wal->log},
        {"segments", MDB_INTEGERKEY, &wal->segments_db},
        {"ids", MDB_INTEGERKEY, &wal->ids},
        {"slices", 0, &wal->slices},
        {"instances", MDB_INTEGERKEY, &wal->instances_db},
        {"counts", 0, &wal->counts}, /* not in logs of older builds: made here */
    };

    for (size_t i = 0; i < ARRAY_LEN(databases); i++) {
        int rc =
            mdb_dbi_open(txn, databases[i].name, databases[i].flags | MDB_CREATE, databases[i].dbi);

        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static enum err
load_state(struct wal *wal, MDB_txn *txn)
{
    MDB_val key = val_of("state", 5);
    MDB_val value;
    int rc = mdb_get(txn, wal->meta, &key, &value);
    enum err err;

    if (rc == MDB_NOTFOUND) {
        uuid_v4(wal->state.node_id);
        wal->state.partitions = wal->config.partitions;
        wal->state.first_seq = 1;
        return ERR_OK;
    }
    if (rc != 0) {
        return fail_lmdb("read state", rc);
    }
    err = log_state_decode(span_of_val(value), &wal->state);
    if (err != ERR_OK) {
        log_error("wal.state_unreadable", LOG_ERR(err), LOG_END);
        return err;
    }
    if (wal->state.partitions != wal->config.partitions) {
        log_warn("wal.partitions_kept", LOG_U64("in_log", wal->state.partitions),
                 LOG_U64("configured", wal->config.partitions), LOG_END);
    }
    return ERR_OK;
}

/* Highest seq in BLOCK, whose key is FIRST; 0 when that cannot be known. */
static uint64_t
last_seq_of_block(struct span block, uint64_t first)
{
    uint64_t last = 0;

    for (;;) {
        struct frame frame;
        uint64_t seq;
        enum err err = frame_next(&block, &frame, &seq);

        if (err == ERR_NOT_FOUND) {
            return last;
        }
        /* A damaged body does not matter here, a damaged header hides how many follow. */
        if (seq == 0 || seq != (last == 0 ? first : last + 1)) {
            return 0;
        }
        last = seq;
    }
}

/* The last record of the last block is the newest; a log is never trimmed to nothing. */
static enum err
load_next_seq(struct wal *wal, MDB_txn *txn)
{
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    uint64_t first;
    uint64_t last;
    enum err err = ERR_OK;
    int rc = mdb_cursor_open(txn, wal->log, &cursor);

    if (rc != 0) {
        return fail_lmdb("read log", rc);
    }
    wal->next_seq = wal->state.first_seq;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
    if (rc == 0) {
        memcpy(&first, key.mv_data, sizeof(first));
        last = last_seq_of_block(span_of_val(value), first);
        wal->next_seq = last + 1;
        if (last == 0) {
            /* No new number can be chosen safely. */
            log_error("wal.last_block_damaged", LOG_U64("first_seq", first), LOG_END);
            err = ERR_CORRUPT;
        }
    } else if (rc != MDB_NOTFOUND) {
        err = fail_lmdb("read log", rc);
    }
    mdb_cursor_close(cursor);
    atomic_store(&wal->logged_seq, wal->next_seq - 1);
    return err;
}

static void
load_id(void *arg, const struct id_entry *entry)
{
    struct wal *wal = arg;

    if (id_window_find(wal->window, entry->key) == NULL) {
        id_window_add(wal->window, entry);
    }
    wal->ids_on_disk++;
}

enum err
ids_load(struct wal *wal, MDB_txn *txn)
{
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_open(txn, wal->ids, &cursor);

    if (rc != 0) {
        return fail_lmdb("read ids", rc);
    }
    id_window_clear(wal->window);
    wal->ids_on_disk = 0;
    while ((rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        uint64_t first;
        enum err err;

        memcpy(&first, key.mv_data, sizeof(first));
        err = id_block_decode(span_of_val(value), first, load_id, wal);
        if (err != ERR_OK) {
            /* MySQL's unique key still knows these ids. */
            log_error("wal.ids_damaged", LOG_U64("first_seq", first), LOG_ERR(err), LOG_END);
        }
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? ERR_OK : fail_lmdb("read ids", rc);
}

/* Takes back what the stage holds beyond LMDB: it was acknowledged, or soon would have been. */
static enum err
load_staged(struct wal *wal)
{
    struct stage_content content = {.frames = BUFFER_EMPTY};
    struct span rest;
    struct frame frame;
    uint64_t seq;
    enum err err = stage_open(&wal->stage, wal->dir, wal->state.node_id);

    if (err != ERR_OK) {
        return err;
    }
    err = stage_recover(wal->stage, wal->next_seq - 1, &content);
    wal->staged = content.frames;
    if (err == ERR_CORRUPT) {
        log_error("wal.stage_damaged", LOG_STR("cause", content.why),
                  LOG_U64("first_seq", content.missing_first),
                  LOG_U64("last_seq", content.missing_last), LOG_STR("file", STAGE_FILE),
                  LOG_STR("hint", "without the file the log opens, less what only the file holds"),
                  LOG_END);
    }
    rest = buffer_span(&wal->staged);
    while (err == ERR_OK && (err = frame_next(&rest, &frame, &seq)) == ERR_OK) {
        err = remember_staged(wal, &frame);
    }
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    wal->next_seq = content.last_seq + 1;
    wal->staged_mono_us = clock_monotonic_us(wal->config.clock);
    atomic_store(&wal->staged_since_us,
                 wal->staged.len == 0 ? 0 : clock_wall_us(wal->config.clock));
    return ERR_OK;
}

/* Raises the epoch and records this start, both durable before anything else happens. */
static int
store_start(struct wal *wal, MDB_txn *txn)
{
    uint8_t raw[STATE_FIXED_SIZE + 8 * JOURNAL_PARTITIONS_MAX];
    MDB_val key = val_of(&wal->state.epoch, sizeof(wal->state.epoch));
    MDB_val value = val_of(wal->instance, sizeof(wal->instance));
    int rc;

    wal->state.epoch++;
    random_bytes(wal->instance, sizeof(wal->instance));
    rc = mdb_put(txn, wal->instances_db, &key, &value, 0);
    if (rc != 0) {
        return rc;
    }
    key = val_of("state", 5);
    value = val_of(raw, log_state_encode(&wal->state, raw));
    return mdb_put(txn, wal->meta, &key, &value, 0);
}

static int
load_instances(struct wal *wal, MDB_txn *txn)
{
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    MDB_stat stat;
    int rc = mdb_stat(txn, wal->instances_db, &stat);

    if (rc != 0) {
        return rc;
    }
    wal->instances = calloc(stat.ms_entries, sizeof(*wal->instances));
    if (wal->instances == NULL) {
        return ENOMEM;
    }
    rc = mdb_cursor_open(txn, wal->instances_db, &cursor);
    if (rc != 0) {
        return rc;
    }
    while (wal->instance_count < stat.ms_entries &&
           (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        if (value.mv_size != sizeof(wal->instance)) {
            rc = MDB_CORRUPTED;
            break;
        }
        memcpy(wal->instances[wal->instance_count++], value.mv_data, value.mv_size);
    }
    mdb_cursor_close(cursor);
    return rc;
}

static enum err
load(struct wal *wal)
{
    MDB_txn *txn = NULL;
    uint64_t bytes;
    enum err err;
    int rc = mdb_txn_begin(wal->env, NULL, 0, &txn);

    if (rc != 0) {
        return fail_lmdb("begin", rc);
    }
    rc = open_databases(wal, txn);
    if (rc != 0) {
        err = fail_lmdb("open databases", rc);
        goto abort;
    }
    err = load_state(wal, txn);
    if (err == ERR_OK) {
        err = load_next_seq(wal, txn);
    }
    if (err == ERR_OK) {
        err = ids_load(wal, txn);
    }
    if (err == ERR_OK) {
        err = load_staged(wal);
    }
    if (err != ERR_OK) {
        goto abort;
    }
    rc = store_start(wal, txn);
    if (rc == 0) {
        rc = load_instances(wal, txn);
    }
    if (rc == 0) {
        rc = segments_load(wal, txn);
    }
    if (rc == 0 && wal->segments_damaged) {
        /* What is left of them would contradict those to come. */
        rc = mdb_drop(txn, wal->segments_db, 0);
    }
    if (rc != 0) {
        err = fail_lmdb("load", rc);
        goto abort;
    }
    bytes = log_bytes(wal, txn);
    atomic_store(&wal->counts_bytes, count_bytes(wal, txn));
    rc = mdb_txn_commit(txn);
    if (rc != 0) {
        return fail_lmdb("commit", rc);
    }
    room_update(wal, bytes);
    return ERR_OK;

abort:
    mdb_txn_abort(txn);
    return err;
}

/* ---- life ---- */

static uint64_t
wal_durable_seq(void *self)
{
    struct wal *wal = self;

    return atomic_load_explicit(&wal->durable_seq, memory_order_acquire);
}

static uint64_t
wal_replicated_seq(void *self, uint32_t partition)
{
    struct wal *wal = self;

    ASSERT(partition < wal->state.partitions);
    return atomic_load_explicit(&wal->replicated[partition], memory_order_acquire);
}

static const struct journal_ops WAL_OPS = {
    .append = wal_append,
    .kick = wal_kick,
    .durable_seq = wal_durable_seq,
    .wait_durable = wal_wait_durable,
    .read = wal_read,
    .scan = wal_scan,
    .replicated_seq = wal_replicated_seq,
    .advance = wal_advance,
    .stats = wal_stats,
};

static void
init_locks(struct wal *wal)
{
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&wal->lock, NULL);
    pthread_mutex_init(&wal->foreign_reader_lock, NULL);
    pthread_cond_init(&wal->wake, &monotonic);
    pthread_cond_init(&wal->durable_changed, &monotonic);
    pthread_cond_init(&wal->logged_changed, &monotonic);
    pthread_cond_init(&wal->advance_answered, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static void
publish_loaded(struct wal *wal)
{
    atomic_store(&wal->durable_seq, wal->next_seq - 1);
    atomic_store(&wal->wake_at_seq, UINT64_MAX);
    atomic_store(&wal->counted_seq, UINT64_MAX);
    atomic_store(&wal->id_count, id_window_count(wal->window));
    for (uint32_t p = 0; p < wal->state.partitions; p++) {
        atomic_store(&wal->replicated[p], wal->state.replicated[p]);
    }
    atomic_store(&wal->oldest_seq, wal->first_block_seq);
    wal->journal = (struct journal){
        .ops = &WAL_OPS,
        .self = wal,
        .partitions = wal->state.partitions,
        .epoch = wal->state.epoch,
        .commit_seconds = &wal->commit_seconds,
        .group_events = &wal->group_events,
    };
    memcpy(wal->journal.node_id, wal->state.node_id, JOURNAL_NODE_ID_SIZE);
}

/* How much stays behind the offset, and in pieces of which size it is dropped. */
static void
size_window(struct wal *wal)
{
    const struct wal_config *config = &wal->config;

    /* A window as large as the limit would leave no room for records that nobody has yet. */
    wal->retain_bytes = config->retain_bytes;
    if (wal->retain_bytes > config->bytes_max / 4) {
        wal->retain_bytes = config->bytes_max / 4;
        log_warn("wal.retain_limited", LOG_U64("configured_bytes", config->retain_bytes),
                 LOG_U64("bytes", wal->retain_bytes), LOG_END);
    }
    /* Small enough that a small retained window still consists of several. */
    wal->segment_bytes_max = wal->retain_bytes / 16;
    if (wal->segment_bytes_max < 64 << 10) {
        wal->segment_bytes_max = 64 << 10;
    } else if (wal->segment_bytes_max > 1 << 20) {
        wal->segment_bytes_max = 1 << 20;
    }
    wal->slices_bytes_max = SLICES_BYTES_MAX;
}

enum err
wal_open(struct wal **out, const struct wal_config *config)
{
    struct wal *wal = calloc(1, sizeof(*wal));
    char node[UUID_TEXT_SIZE];
    enum err err;

    ASSERT(config->partitions >= 1);
    ASSERT(config->partitions <= JOURNAL_PARTITIONS_MAX);
    if (wal == NULL) {
        return ERR_NO_MEMORY;
    }
    wal->config = *config;
    wal->lock_fd = -1;
    init_locks(wal);
    metric_histogram_init(&wal->commit_seconds, METRIC_SECONDS_BOUNDS, METRIC_SECONDS_BOUND_COUNT);
    metric_histogram_init(&wal->group_events, METRIC_COUNT_BOUNDS, METRIC_COUNT_BOUND_COUNT);
    size_window(wal);
    wal->dir = strdup(config->dir[0] == '\0' ? "." : config->dir);
    err = wal->dir == NULL ? ERR_NO_MEMORY : id_window_new(&wal->window, config->id_window);
    if (err == ERR_OK) {
        err = make_dirs(wal->dir);
    }
    if (err == ERR_OK) {
        err = take_lock(wal);
    }
    if (err == ERR_OK) {
        err = check_space(wal);
    }
    if (err == ERR_OK) {
        err = make_data_file(wal);
    }
    if (err == ERR_OK) {
        err = open_env(wal);
    }
    if (err == ERR_OK) {
        err = load(wal);
    }
    if (err == ERR_OK) {
        err = sync_dir(wal->dir);
    }
    if (err != ERR_OK) {
        wal_close(wal);
        return err;
    }
    publish_loaded(wal);
    uuid_text(wal->state.node_id, node);
    log_info("wal.opened", LOG_STR("dir", wal->dir), LOG_STR("node_id", node),
             LOG_U64("epoch", wal->state.epoch), LOG_U64("durable_seq", wal->next_seq - 1),
             LOG_U64("staged", wal->next_seq - 1 - atomic_load(&wal->logged_seq)),
             LOG_U64("partitions", wal->state.partitions),
             LOG_U64("ids", id_window_count(wal->window)), LOG_END);
    *out = wal;
    return ERR_OK;
}

enum err
wal_start(struct wal *wal)
{
    int rc;

    ASSERT(!wal->started);
    ASSERT(!atomic_load(&wal->stopping));
    pthread_mutex_lock(&wal->lock);
    wal->started = true;
    pthread_mutex_unlock(&wal->lock);
    rc = pthread_create(&wal->committer, NULL, committer_run, wal);
    if (rc != 0) {
        wal->started = false;
        log_error("wal.start_failed", LOG_STR("cause", strerror(rc)), LOG_END);
        return ERR_IO;
    }
    return ERR_OK;
}

void
wal_stop(struct wal *wal)
{
    struct advance_request *advances;
    struct count_request *count_request;
    struct append *left;

    pthread_mutex_lock(&wal->lock);
    atomic_store(&wal->stopping, true);
    pthread_cond_broadcast(&wal->wake);
    pthread_cond_broadcast(&wal->durable_changed);
    pthread_cond_broadcast(&wal->logged_changed);
    pthread_mutex_unlock(&wal->lock);
    if (wal->started) {
        pthread_join(wal->committer, NULL);
    }
    /* Progress reported between the committer's last look and its end. */
    pthread_mutex_lock(&wal->lock);
    wal->started = false;
    advances = wal->advances;
    wal->advances = NULL;
    count_request = wal->count_request;
    wal->count_request = NULL;
    pthread_mutex_unlock(&wal->lock);
    answer_advances(wal, advances, ERR_CLOSED);
    answer_counts(wal, count_request, ERR_CLOSED);
    /* A committer leaves a closed inbox behind; a log never started may have been given work. */
    left = atomic_exchange(&wal->inbox, &wal->inbox_closed);
    if (left != &wal->inbox_closed) {
        answer_all(wal, left, ERR_CLOSED);
    }
}

void
wal_close(struct wal *wal)
{
    if (wal == NULL) {
        return;
    }
    wal_stop(wal);
    if (wal->env != NULL) {
        mdb_env_close(wal->env);
    }
    if (wal->lock_fd >= 0) {
        close(wal->lock_fd);
    }
    pthread_mutex_destroy(&wal->lock);
    pthread_mutex_destroy(&wal->foreign_reader_lock);
    pthread_cond_destroy(&wal->wake);
    pthread_cond_destroy(&wal->durable_changed);
    pthread_cond_destroy(&wal->logged_changed);
    pthread_cond_destroy(&wal->advance_answered);
    segment_list_free(&wal->segments);
    stage_close(wal->stage);
    buffer_free(&wal->staged);
    buffer_free(&wal->scratch);
    id_window_free(wal->window);
    free(wal->new_ids);
    free(wal->instances);
    free(wal->dir);
    free(wal);
}

struct journal *
wal_journal(struct wal *wal)
{
    return &wal->journal;
}

const uint8_t *
wal_instance(const struct wal *wal)
{
    return wal->instance;
}

bool
wal_knows_instance(void *self, const uint8_t instance[16])
{
    const struct wal *wal = self;

    for (size_t i = 0; i < wal->instance_count; i++) {
        if (memcmp(wal->instances[i], instance, sizeof(wal->instance)) == 0) {
            return true;
        }
    }
    return false;
}

enum err
wal_failure(struct wal *wal)
{
    return atomic_load(&wal->failed) ? ERR_FAILED : ERR_OK;
}
