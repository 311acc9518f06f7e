/*
 * bench_wal.c - the log alone: how many events a second become durable, at groups of a given size.
 *
 *   bench_wal DIR SECONDS
 *
 * For each group size the log's own committer gets one group at a time, handed over by another
 * thread when the one before is answered, with events of 120 bytes and everything marked as
 * replicated, so that trimming runs too. Beside it, in the same run and directory, a bare LMDB does
 * the least it could: one value per event, MDB_APPEND, one commit per group, deleting as many as it
 * adds. One line per run; commits are those the log itself counted, latency is from hand-over to
 * answer.
 */
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/event/event.h"
#include "wal/wal.h"

enum {
    EVENT_BYTES = 120,
    GROUP_MAX = 1024,
    IN_FLIGHT = 1, /* more fall into step: the groups then share their commits */
    SAMPLES_MAX = 1 << 20,
    BARE_KEEP = 100000, /* records the bare peer keeps before it deletes */
};

struct run {
    const char *name;
    uint32_t group;
    double seconds;
    uint64_t events;
    uint64_t commits;
    double *sample_us;
    size_t samples;
};

static double
now_us(void)
{
    return (double)clock_monotonic_us(clock_system());
}

static int
compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

static void
report(struct run *run)
{
    qsort(run->sample_us, run->samples, sizeof(double), compare);
    printf("wal server=%s group=%u events_s=%.0f commits_s=%.0f per_commit=%.1f p50_us=%.0f "
           "p99_us=%.0f p999_us=%.0f\n",
           run->name, run->group, (double)run->events / run->seconds,
           (double)run->commits / run->seconds, (double)run->events / (double)run->commits,
           run->sample_us[run->samples / 2], run->sample_us[run->samples * 99 / 100],
           run->sample_us[run->samples * 999 / 1000]);
    fflush(stdout);
}

static void
sample(struct run *run, double us)
{
    if (run->samples < SAMPLES_MAX) {
        run->sample_us[run->samples++] = us;
    }
}

/* A T-shaped event whose encoded form has EVENT_BYTES bytes. */
static struct buffer
make_body(void)
{
    struct buffer body = BUFFER_EMPTY;
    struct event event = {
        .shape = EVENT_TELEMETRY,
        .has_status = true,
        .has_latency = true,
        .status = 200,
        .latency_ms = 12.5,
        .tenant = SPAN_LITERAL("default"),
        .id = SPAN_LITERAL("018bcfe5-6800-71c4-9ce0"),
        .name = SPAN_LITERAL("telemetry"),
        .service = SPAN_LITERAL("billing-a"),
    };

    event_encode(&event, &body);
    return body;
}

/* ---- the log ---- */

struct in_flight {
    struct append append;
    struct append_event events[GROUP_MAX];
    double handed_us;
    struct feeder *feeder;
};

struct feeder {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct in_flight *done[IN_FLIGHT];
    int done_count;
};

static void
note_done(struct append *append)
{
    struct in_flight *item = append->owner;
    struct feeder *feeder = item->feeder;

    pthread_mutex_lock(&feeder->lock);
    feeder->done[feeder->done_count++] = item;
    pthread_cond_signal(&feeder->changed);
    pthread_mutex_unlock(&feeder->lock);
}

static struct in_flight *
take_done(struct feeder *feeder)
{
    struct in_flight *item;

    pthread_mutex_lock(&feeder->lock);
    while (feeder->done_count == 0) {
        pthread_cond_wait(&feeder->changed, &feeder->lock);
    }
    item = feeder->done[--feeder->done_count];
    pthread_mutex_unlock(&feeder->lock);
    return item;
}

static void
hand_over(struct journal *journal, struct in_flight *item)
{
    item->handed_us = now_us();
    if (journal->ops->append(journal->self, &item->append) != ERR_OK) {
        fprintf(stderr, "bench_wal: the log refused an append\n");
        exit(1);
    }
    journal->ops->kick(journal->self);
}

/* Stands for a sink that is never behind by more than a moment. */
static void
mark_replicated(struct journal *journal)
{
    const struct slice_set none = {0};
    uint64_t durable = journal->ops->durable_seq(journal->self);

    if (durable > journal->ops->replicated_seq(journal->self, 0) &&
        journal->ops->advance(journal->self, 0, durable, &none, NULL) != ERR_OK) {
        exit(1);
    }
}

/* Commits that held events, as the log counted them. */
static uint64_t
commits_of(const struct journal *journal)
{
    const struct metric_histogram *histogram = journal->group_events;
    uint64_t count = 0;

    for (size_t i = 0; i < ARRAY_LEN(histogram->bucket); i++) {
        count += atomic_load(&histogram->bucket[i]);
    }
    return count;
}

static void
bench_log(const char *dir, uint32_t group, double seconds, const struct buffer *body,
          struct run *run)
{
    const struct wal_config config = {
        .dir = dir,
        .bytes_max = (uint64_t)4 << 30,
        .retain_bytes = 32 << 20,
        .partitions = 1,
        .queue_events = 1 << 20,
        .id_window = 1000,
        .clock = clock_system(),
    };
    struct feeder feeder = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, {0}, 0};
    struct in_flight *items = calloc(IN_FLIGHT, sizeof(*items));
    struct journal *journal;
    struct wal *wal;
    double began;
    double marked;

    if (items == NULL || wal_open(&wal, &config) != ERR_OK || wal_start(wal) != ERR_OK) {
        exit(1);
    }
    journal = wal_journal(wal);
    *run = (struct run){"sluice", group, 0, 0, 0, run->sample_us, 0};
    for (int i = 0; i < IN_FLIGHT; i++) {
        items[i].feeder = &feeder;
        items[i].append = (struct append){
            .events = items[i].events,
            .count = group,
            .body_bytes = (size_t)group * body->len,
            .done = note_done,
            .owner = &items[i],
        };
        for (uint32_t j = 0; j < group; j++) {
            items[i].events[j].body = buffer_span(body);
        }
        hand_over(journal, &items[i]);
    }
    began = now_us();
    marked = began;
    for (int open = IN_FLIGHT; open > 0;) {
        struct in_flight *item = take_done(&feeder);
        double now = now_us();

        sample(run, now - item->handed_us);
        run->events += group;
        if (now - began > seconds * 1e6) {
            open--;
            continue;
        }
        hand_over(journal, item);
        if (now - marked > 20000) {
            marked = now;
            mark_replicated(journal);
        }
    }
    run->seconds = (now_us() - began) / 1e6;
    run->commits = commits_of(journal);
    wal_close(wal);
    free(items);
}

/* ---- bare LMDB ---- */

static void
must(int rc)
{
    if (rc != 0) {
        fprintf(stderr, "bench_wal: %s\n", mdb_strerror(rc));
        exit(1);
    }
}

static void
bare_group(MDB_env *env, MDB_dbi dbi, const struct buffer *body, uint32_t group, uint64_t *next)
{
    MDB_txn *txn;
    MDB_cursor *cursor;

    must(mdb_txn_begin(env, NULL, 0, &txn));
    must(mdb_cursor_open(txn, dbi, &cursor));
    for (uint32_t i = 0; i < group; i++) {
        uint64_t seq = (*next)++;
        MDB_val key = {sizeof(seq), &seq};
        MDB_val value = {body->len, body->data};

        must(mdb_cursor_put(cursor, &key, &value, MDB_APPEND));
    }
    for (uint32_t i = 0; *next > BARE_KEEP && i < group; i++) {
        MDB_val key;
        MDB_val value;

        must(mdb_cursor_get(cursor, &key, &value, MDB_FIRST));
        must(mdb_cursor_del(cursor, 0));
    }
    mdb_cursor_close(cursor);
    must(mdb_txn_commit(txn));
}

static void
bench_bare(const char *dir, uint32_t group, double seconds, const struct buffer *body,
           struct run *run)
{
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *txn;
    uint64_t next = 1;
    double began;

    mkdir(dir, 0700);
    must(mdb_env_create(&env));
    must(mdb_env_set_mapsize(env, (size_t)4 << 30));
    must(mdb_env_open(env, dir, 0, 0600));
    must(mdb_txn_begin(env, NULL, 0, &txn));
    must(mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, &dbi));
    must(mdb_txn_commit(txn));
    *run = (struct run){"bare-lmdb", group, 0, 0, 0, run->sample_us, 0};
    began = now_us();
    while (now_us() - began < seconds * 1e6) {
        double start = now_us();

        bare_group(env, dbi, body, group, &next);
        sample(run, now_us() - start);
        run->events += group;
        run->commits++;
    }
    run->seconds = (now_us() - began) / 1e6;
    mdb_env_close(env);
}

static void
remove_dir(const char *dir)
{
    static const char *const FILES[] = {"data.mdb", "lock.mdb", "sluice.lock"};
    char path[4096];

    for (size_t i = 0; i < ARRAY_LEN(FILES); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, FILES[i]);
        unlink(path);
    }
    rmdir(dir);
}

int
main(int argc, char **argv)
{
    static const uint32_t GROUPS[] = {1, 64, 256, 1024};
    struct buffer body = make_body();
    struct run run = {0};
    char dir[4000];

    if (argc != 3 || atof(argv[2]) <= 0) {
        fprintf(stderr, "usage: bench_wal DIR SECONDS\n");
        return 2;
    }
    log_setup(LOG_WARN, LOG_TEXT, 2);
    run.sample_us = calloc(SAMPLES_MAX, sizeof(double));
    if (run.sample_us == NULL || body.len != EVENT_BYTES) {
        fprintf(stderr, "bench_wal: no memory, or an event of %zu bytes\n", body.len);
        return 1;
    }
    for (size_t i = 0; i < ARRAY_LEN(GROUPS); i++) {
        snprintf(dir, sizeof(dir), "%s/log-%u", argv[1], GROUPS[i]);
        bench_log(dir, GROUPS[i], atof(argv[2]), &body, &run);
        report(&run);
        remove_dir(dir);
        snprintf(dir, sizeof(dir), "%s/bare-%u", argv[1], GROUPS[i]);
        bench_bare(dir, GROUPS[i], atof(argv[2]), &body, &run);
        report(&run);
        remove_dir(dir);
    }
    free(run.sample_us);
    buffer_free(&body);
    return 0;
}
