/*
 * bench_ids.c - what the window of recent ids costs: memory, disk, and time at the start.
 *
 *   bench_ids DIR IDS GROUP
 *
 * Opens a log with a window of IDS ids, fills it twice over in groups of GROUP (1 to 1024) events,
 * so that it is full and has been trimmed, and opens it once more. Memory is the process's private
 * memory as the kernel counts it (the pages of LMDB's map are shared and not in it), disk the pages
 * of the table of ids.
 */
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/uuid.h"
#include "core/event/event.h"
#include "wal/wal.h"

enum {
    GROUP_MAX = 1024,
};

struct group {
    struct append append;
    struct append_event events[GROUP_MAX];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
};

static _Noreturn void
die(const char *what)
{
    fprintf(stderr, "bench_ids: %s\n", what);
    exit(1);
}

static double
now_s(void)
{
    return (double)clock_monotonic_us(clock_system()) / 1e6;
}

/* Resident bytes that belong to this process alone. */
static double
private_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long long size;
    unsigned long long resident;
    unsigned long long shared;

    if (file == NULL || fscanf(file, "%llu %llu %llu", &size, &resident, &shared) != 3) {
        die("/proc/self/statm cannot be read");
    }
    fclose(file);
    return (double)(resident - shared) * (double)sysconf(_SC_PAGESIZE);
}

static void
note_done(struct append *append)
{
    struct group *group = append->owner;

    pthread_mutex_lock(&group->lock);
    group->done = true;
    pthread_cond_signal(&group->changed);
    pthread_mutex_unlock(&group->lock);
}

/* Appends COUNT events with ids nobody had before and waits for the commit. */
static void
append(struct journal *journal, struct group *group, uint32_t count, struct span body)
{
    group->done = false;
    group->append.count = count;
    group->append.body_bytes = count * body.len;
    for (uint32_t i = 0; i < count; i++) {
        group->events[i] = (struct append_event){.body = body, .has_key = true};
        random_bytes(group->events[i].key, sizeof(group->events[i].key));
    }
    if (journal->ops->append(journal->self, &group->append) != ERR_OK) {
        die("the log refused an append");
    }
    journal->ops->kick(journal->self);
    pthread_mutex_lock(&group->lock);
    while (!group->done) {
        pthread_cond_wait(&group->changed, &group->lock);
    }
    pthread_mutex_unlock(&group->lock);
    if (group->append.result != ERR_OK) {
        die("a commit failed");
    }
}

static struct wal *
open_log(const char *dir, uint32_t ids)
{
    const struct wal_config config = {
        .dir = dir,
        .bytes_max = (uint64_t)1 << 30,
        .retain_bytes = 1 << 20,
        .partitions = 1,
        .queue_events = GROUP_MAX,
        .id_window = ids,
        .clock = clock_system(),
    };
    struct wal *wal;

    if (wal_open(&wal, &config) != ERR_OK || wal_start(wal) != ERR_OK) {
        die("the log does not open");
    }
    return wal;
}

static void
fill(struct wal *wal, uint64_t ids, uint32_t group_size, struct span body)
{
    const struct slice_set none = {0};
    struct journal *journal = wal_journal(wal);
    struct group *group = calloc(1, sizeof(*group));

    if (group == NULL) {
        die("no memory");
    }
    pthread_mutex_init(&group->lock, NULL);
    pthread_cond_init(&group->changed, NULL);
    group->append.events = group->events;
    group->append.done = note_done;
    group->append.owner = group;
    for (uint64_t done = 0; done < ids; done += group_size) {
        append(journal, group, group_size, body);
        if (done / group_size % 64 == 0 &&
            journal->ops->advance(journal->self, 0, journal->ops->durable_seq(journal->self), &none,
                                  NULL) != ERR_OK) {
            die("the log does not advance");
        }
    }
    free(group);
}

/* Bytes of the pages of the table of ids. */
static double
disk_bytes(const char *dir)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_stat stat;

    if (mdb_env_create(&env) != 0 || mdb_env_set_maxdbs(env, 8) != 0 ||
        mdb_env_open(env, dir, MDB_RDONLY | MDB_NOLOCK, 0) != 0 ||
        mdb_txn_begin(env, NULL, MDB_RDONLY, &txn) != 0 ||
        mdb_dbi_open(txn, "ids", MDB_INTEGERKEY, &dbi) != 0 || mdb_stat(txn, dbi, &stat) != 0) {
        die("the table of ids cannot be looked at");
    }
    mdb_txn_abort(txn);
    mdb_env_close(env);
    return (double)(stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages) *
           stat.ms_psize;
}

static void
measure(const char *base, uint32_t ids, uint32_t group_size)
{
    const struct event event = {.shape = EVENT_GENERIC,
                                .tenant = SPAN_LITERAL("t"),
                                .id = SPAN_LITERAL("i"),
                                .name = SPAN_LITERAL("n"),
                                .id_by_client = true};
    struct buffer body = BUFFER_EMPTY;
    char dir[256];
    struct wal *wal;
    double before;
    double memory;
    double opened;

    snprintf(dir, sizeof(dir), "%s/ids-%u", base, group_size);
    event_encode(&event, &body);
    wal = open_log(dir, 1);
    before = private_bytes();
    wal_close(wal);
    wal = open_log(dir, ids);
    fill(wal, 2 * (uint64_t)ids, group_size, buffer_span(&body));
    memory = private_bytes() - before;
    wal_close(wal);
    opened = now_s();
    wal = open_log(dir, ids);
    opened = now_s() - opened;
    wal_close(wal);
    printf("ids window=%u group=%u memory_per_id=%.1f disk_per_id=%.1f open_s=%.2f\n", ids,
           group_size, memory / ids, disk_bytes(dir) / ids, opened);
    fflush(stdout);
    buffer_free(&body);
}

int
main(int argc, char **argv)
{
    const long ids = argc == 4 ? atol(argv[2]) : 0;
    const long group_size = argc == 4 ? atol(argv[3]) : 0;

    if (ids < 1 || ids > 100000000 || group_size < 1 || group_size > GROUP_MAX) {
        fprintf(stderr, "usage: bench_ids DIR IDS GROUP\n");
        return 2;
    }
    log_setup(LOG_ERROR, LOG_TEXT, STDERR_FILENO);
    measure(argv[1], (uint32_t)ids, (uint32_t)group_size);
    return 0;
}
