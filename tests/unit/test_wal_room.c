/* How much the log holds, when it refuses, what it drops, and that it always gets going again. */
#include <dlfcn.h>
#include <fcntl.h>
#include <lmdb.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/log.h"
#include "tests/fakes/wal_fixture.h"
#include "wal/wal_internal.h"

static size_t small_map; /* when not 0, the size of a map for which hundreds of MiB are asked */

/* Found before LMDB's own. */
int
mdb_env_set_mapsize(MDB_env *env, size_t size)
{
    int (*real)(MDB_env *, size_t);
    void *symbol = dlsym(RTLD_NEXT, "mdb_env_set_mapsize");

    ASSERT(symbol != NULL);
    memcpy(&real, &symbol, sizeof(real));
    return real(env, small_map != 0 && size > 100 << 20 ? small_map : size);
}

static int
set_up(void **state)
{
    struct wal_fixture *fixture = malloc(sizeof(*fixture));

    assert_non_null(fixture);
    wal_fixture_init(fixture);
    fixture->config.bytes_max = 2 << 20;
    *state = fixture;
    return 0;
}

static int
tear_down(void **state)
{
    small_map = 0;
    wal_fixture_fini(*state);
    free(*state);
    return 0;
}

static struct journal_stats
stats_of(struct wal_fixture *fixture)
{
    struct journal_stats stats;

    fixture->journal->ops->stats(fixture->journal->self, &stats);
    return stats;
}

/* Appends from number *NEXT until refused; returns how many were accepted. */
static uint64_t
fill(struct wal_fixture *fixture, uint64_t *next, uint32_t count, size_t body_size)
{
    uint64_t accepted = 0;

    for (;;) {
        enum err err = wal_fixture_append(fixture, *next, count, body_size);

        if (err != ERR_OK) {
            assert_int_equal(err, ERR_FULL);
            return accepted;
        }
        *next += count;
        accepted += count;
    }
}

/* The log makes room by itself, in turns of its own: waits until an append is taken. */
static void
append_when_there_is_room(struct wal_fixture *fixture, uint64_t *next, uint32_t count,
                          size_t body_size)
{
    enum err err;

    while ((err = wal_fixture_append(fixture, *next, count, body_size)) == ERR_FULL) {
        usleep(2000);
    }
    assert_int_equal(err, ERR_OK);
    *next += count;
}

static void
wait_until_trimmed(struct wal_fixture *fixture)
{
    wal_stop(fixture->wal);
    assert_false(trim_is_due(fixture->wal));
}

/* ---- full ---- */

/* More rounds show only that the file does not creep: nothing for the race detector. */
#ifdef __SANITIZE_THREAD__
#define ROUNDS(n) ((n) / 3)
#else
#define ROUNDS(n) (n)
#endif

static void
fill_and_drain(struct wal_fixture *fixture, uint32_t count, size_t body_size, int rounds)
{
    uint64_t next = 1;
    uint64_t drained = 0;
    uint64_t file_early = 0;

    wal_fixture_start(fixture);
    for (int round = 0; round < rounds; round++) {
        struct journal_stats stats;

        append_when_there_is_room(fixture, &next, count, body_size);
        fill(fixture, &next, count, body_size);
        stats = stats_of(fixture);
        assert_true(stats.bytes <= stats.bytes_limit + stats.bytes_limit / 4);
        assert_int_equal(stats.durable_seq, next - 1);
        assert_int_equal(stats.pending_events, next - 1 - drained);
        drained += wal_fixture_drain_all(fixture);
        assert_int_equal(drained, next - 1);
        assert_int_equal(wal_failure(fixture->wal), ERR_OK);
        if (round == rounds / 3) {
            file_early = wal_fixture_file_bytes(fixture);
        }
    }
    /*
     * The file takes what a full log needs and then goes on reusing it. How much of the stage a
     * commit brings depends on the moment, and the pages it frees come back a commit later.
     */
    assert_in_range(wal_fixture_file_bytes(fixture), 1,
                    file_early + file_early / 4 + 2 * (uint64_t)STAGE_BYTES);
    assert_true(wal_fixture_file_bytes(fixture) <= 4 * fixture->config.bytes_max);
    wal_fixture_close(fixture);
    wal_fixture_open(fixture);
    assert_int_equal(wal_fixture_stored_events(fixture), next - 1);
    assert_int_equal(fixture->journal->ops->durable_seq(fixture->journal->self), next - 1);
}

static void
a_full_log_refuses_drains_and_accepts_again(void **state)
{
    fill_and_drain(*state, 100, 0, ROUNDS(15));
}

static void
a_log_full_of_single_events_does_so_too(void **state)
{
    struct wal_fixture *fixture = *state;

    fixture->config.bytes_max = 1 << 20;
    fill_and_drain(fixture, 3, 900, 9);
}

static void
a_log_full_of_records_with_pages_of_their_own_does_so_too(void **state)
{
    fill_and_drain(*state, 5, 2100, ROUNDS(12));
}

static void
a_log_full_of_huge_records_does_so_too(void **state)
{
    struct wal_fixture *fixture = *state;

    fixture->config.bytes_max = 4 << 20;
    fill_and_drain(fixture, 2, 65536, 12);
}

static void
a_retained_window_larger_than_the_limit_does_not_wedge_the_log(void **state)
{
    struct wal_fixture *fixture = *state;

    fixture->config.retain_bytes = 256 << 20;
    fill_and_drain(fixture, 20, 2100, 9);
}

static void
ids_beyond_the_limit_do_not_wedge_the_log(void **state)
{
    struct wal_fixture *fixture = *state;
    uint64_t next = 1;

    /* The window would hold many times what the log may. */
    fixture->config.bytes_max = 1 << 20;
    fixture->config.id_window = 1000000;
    wal_fixture_start(fixture);
    while (next < 120000) {
        append_when_there_is_room(fixture, &next, 500, 0);
        if (next % 3000 == 1) {
            wal_fixture_drain_all(fixture);
        }
    }
    assert_int_equal(stats_of(fixture).id_window_events, next - 1);
}

static void
an_append_larger_than_the_log_is_refused_and_others_are_not(void **state)
{
    struct wal_fixture *fixture = *state;

    wal_fixture_start(fixture);
    assert_int_equal(wal_fixture_append(fixture, 1, 30, 100000), ERR_FULL);
    assert_false(stats_of(fixture).full);
    assert_int_equal(wal_fixture_append(fixture, 1, 30, 10000), ERR_OK);
    assert_int_equal(stats_of(fixture).durable_seq, 30);
}

static void
a_full_log_still_opens_and_drains(void **state)
{
    struct wal_fixture *fixture = *state;
    uint64_t next = 1;
    uint64_t accepted;

    wal_fixture_start(fixture);
    accepted = fill(fixture, &next, 10, 1000);
    wal_fixture_restart(fixture);
    assert_true(stats_of(fixture).bytes > 0);
    assert_int_equal(wal_fixture_drain_all(fixture), accepted);
    append_when_there_is_room(fixture, &next, 10, 1000);
}

static void
a_log_opens_and_drains_under_a_much_lower_limit(void **state)
{
    struct wal_fixture *fixture = *state;
    uint64_t next = 1;
    uint64_t accepted;

    fixture->config.bytes_max = 8 << 20;
    wal_fixture_start(fixture);
    accepted = fill(fixture, &next, 100, 1500);
    wal_fixture_close(fixture);
    fixture->config.bytes_max = 1 << 20;
    small_map = 2 << 20; /* the file alone is larger */
    wal_fixture_start(fixture);
    assert_true(stats_of(fixture).full);
    assert_int_equal(wal_fixture_append(fixture, next, 1, 0), ERR_FULL);
    assert_int_equal(wal_fixture_drain_all(fixture), accepted);
    append_when_there_is_room(fixture, &next, 10, 1000);
}

/* ---- trimming ---- */

static enum err
count_record(void *arg, uint64_t seq, const struct event *event)
{
    (void)seq;
    (void)event;
    ++*(uint64_t *)arg;
    return ERR_OK;
}

static enum err
scan_from(struct wal_fixture *fixture, uint64_t seq, uint64_t *given_out)
{
    const struct journal_scan scan = {.from_seq = seq, .records_max = UINT32_MAX};
    struct journal_scanned scanned;

    *given_out = 0;
    return fixture->journal->ops->scan(fixture->journal->self, &scan, count_record, given_out,
                                       &scanned);
}

static void
trimming_keeps_the_window_behind_the_offset(void **state)
{
    struct wal_fixture *fixture = *state;
    uint64_t next = 1;
    uint64_t oldest = 1;
    uint64_t given;

    fixture->config.bytes_max = 16 << 20;
    fixture->config.retain_bytes = 1 << 20;
    wal_fixture_start(fixture);
    for (int i = 0; i < 60; i++) {
        struct journal_stats stats;

        assert_int_equal(wal_fixture_append(fixture, next, 100, 1000), ERR_OK);
        next += 100;
        wal_fixture_drain_all(fixture);
        stats = stats_of(fixture);
        /* Each record takes at least 1000 bytes and at most half a page. */
        if (stats.oldest_seq > 1) {
            assert_true((stats.durable_seq - stats.oldest_seq + 1) * 2100 >= 1 << 20);
        }
        assert_true(stats.oldest_seq >= oldest);
        oldest = stats.oldest_seq;
    }
    wait_until_trimmed(fixture);
    oldest = stats_of(fixture).oldest_seq;
    assert_in_range(next - oldest, (1 << 20) / 2100, 2 * (1 << 20) / 1000);
    /* What is said to be there is there, also for a sink that goes back in time. */
    assert_int_equal(wal_fixture_count(fixture, 0, oldest - 1) +
                         wal_fixture_count(fixture, 1, oldest - 1),
                     next - oldest);
    assert_int_equal(scan_from(fixture, 1, &given), ERR_NOT_FOUND);
    assert_int_equal(scan_from(fixture, oldest - 1, &given), ERR_NOT_FOUND);
    assert_int_equal(given, 0);
    assert_int_equal(scan_from(fixture, oldest, &given), ERR_OK);
    assert_int_equal(given, next - oldest);
    wal_fixture_close(fixture);
    wal_fixture_open(fixture);
    assert_int_equal(stats_of(fixture).oldest_seq, oldest);
}

static void
trimming_never_takes_what_one_partition_still_needs(void **state)
{
    struct wal_fixture *fixture = *state;
    uint64_t next = 1;

    fixture->config.bytes_max = 16 << 20;
    wal_fixture_start(fixture);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(wal_fixture_append(fixture, next, 500, 500), ERR_OK);
        next += 500;
        wal_fixture_drain(fixture, 0, 5000, SIZE_MAX);
    }
    wait_until_trimmed(fixture);
    assert_in_range(stats_of(fixture).oldest_seq, 2, 1025);
    assert_int_equal(wal_fixture_count(fixture, 1, 0), journal_partition_count(next - 1, 1, 2));
    wal_fixture_restart(fixture);
    assert_int_equal(wal_fixture_drain(fixture, 1, 5000, SIZE_MAX),
                     journal_partition_count(next - 1, 1, 2));
}

static void
the_newest_block_stays_so_no_number_is_given_twice(void **state)
{
    struct wal_fixture *fixture = *state;
    uint64_t next = 1;

    for (int i = 0; i < 6; i++) {
        struct journal_stats stats;

        wal_fixture_start(fixture);
        assert_int_equal(stats_of(fixture).durable_seq, next - 1);
        append_when_there_is_room(fixture, &next, 7, 60000);
        wal_fixture_drain_all(fixture);
        wait_until_trimmed(fixture);
        stats = stats_of(fixture);
        assert_true(stats.oldest_seq > 0);
        assert_true(stats.oldest_seq <= stats.durable_seq);
        wal_fixture_close(fixture);
    }
}

static void
the_oldest_number_is_exact_while_a_segment_is_half_dropped(void **state)
{
    struct wal_fixture *fixture = *state;
    uint64_t next = 1;
    uint64_t oldest = 0;

    /* Segments of a thousand blocks: more than one turn drops. */
    fixture->config.bytes_max = 64 << 20;
    fixture->config.retain_bytes = 16 << 20;
    wal_fixture_start(fixture);
    while (next < 20000) {
        uint64_t before;

        assert_int_equal(wal_fixture_append(fixture, next, 200, 1500), ERR_OK);
        next += 200;
        wal_fixture_drain_all(fixture);
        before = stats_of(fixture).oldest_seq;
        if (before > oldest + 1 && oldest != 0) {
            const struct batch_limits limits = {1, SIZE_MAX, UINT64_MAX};
            struct batch batch = {0};
            uint32_t partition = journal_partition_of(before, 2);

            assert_int_equal(fixture->journal->ops->read(fixture->journal->self, partition,
                                                         before - 1, &limits, &batch),
                             ERR_OK);
            assert_int_equal(batch.events[0].seq, before);
            batch_free(&batch);
        }
        oldest = before;
    }
    assert_true(oldest > 1);
}

static uint64_t
entries_of(struct wal_fixture *fixture, MDB_dbi dbi)
{
    MDB_stat stat;
    MDB_txn *txn;

    assert_int_equal(mdb_txn_begin(fixture->wal->env, NULL, MDB_RDONLY, &txn), 0);
    assert_int_equal(mdb_stat(txn, dbi, &stat), 0);
    mdb_txn_abort(txn);
    return stat.ms_entries;
}

static void
ids_on_disk_stay_within_the_window_and_a_block(void **state)
{
    struct wal_fixture *fixture = *state;
    uint64_t next = 1;

    fixture->config.id_window = 1000;
    fixture->config.bytes_max = 64 << 20;
    wal_fixture_start(fixture);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(wal_fixture_append(fixture, next, 10000, 0), ERR_OK);
        next += 10000;
        for (int single = 0; single < 5; single++) {
            assert_int_equal(wal_fixture_append(fixture, next++, 1, 0), ERR_OK);
        }
    }
    wal_stop(fixture->wal);
    assert_in_range(fixture->wal->ids_on_disk, 1000, 1000 + 2 * ID_BLOCK_ENTRIES_MAX);
    assert_true(entries_of(fixture, fixture->wal->ids) < 100);
    wal_fixture_close(fixture);
    /* A smaller window than what is on disk: the newest are kept. */
    fixture->config.id_window = 10;
    wal_fixture_open(fixture);
    assert_int_equal(stats_of(fixture).id_window_events, 10);
}

static enum err
note_minutes(void *arg, const struct slice_key *key, struct span encoded)
{
    int64_t *range = arg; /* first and last */

    (void)encoded;
    range[0] = key->minute < range[0] ? key->minute : range[0];
    range[1] = key->minute > range[1] ? key->minute : range[1];
    return ERR_OK;
}

static void
the_history_of_slices_is_bounded_by_dropping_its_oldest_minutes(void **state)
{
    struct wal_fixture *fixture = *state;
    int64_t all[2] = {INT64_MAX, INT64_MIN};
    int64_t kept[2] = {INT64_MAX, INT64_MIN};

    wal_fixture_start(fixture);
    assert_int_equal(wal_fixture_append(fixture, 1, 600, 0), ERR_OK); /* 10 minutes, 3 services */
    wal_fixture_drain_all(fixture);
    wal_fixture_close(fixture);
    wal_fixture_open(fixture);
    assert_int_equal(wal_each_slice(fixture->wal, note_minutes, all), ERR_OK);
    assert_int_equal(all[1] - all[0], 10);
    fixture->wal->slices_bytes_max = 8192;
    assert_int_equal(wal_start(fixture->wal), ERR_OK);
    for (uint64_t i = 1; i < 6; i++) {
        assert_int_equal(wal_fixture_append(fixture, 1 + i * 600, 600, 0), ERR_OK);
        wal_fixture_drain_all(fixture);
    }
    wal_fixture_close(fixture);
    wal_fixture_open(fixture);
    assert_int_equal(wal_each_slice(fixture->wal, note_minutes, kept), ERR_OK);
    assert_int_equal(kept[1], all[1]);
    assert_in_range(wal_fixture_stored_events(fixture), 600, 3599);
}

/* ---- the map itself ---- */

static bool
known(struct wal_fixture *fixture, uint64_t number)
{
    struct request *request = request_new(number, 1, 0, true);
    bool duplicate;

    assert_int_equal(request_send(request, fixture), ERR_OK);
    assert_int_equal(request_wait(request), ERR_OK);
    duplicate = request->append.events[0].duplicate;
    request_drop(request);
    return duplicate;
}

struct watcher {
    struct wal_fixture *fixture;
    atomic_bool stop;
};

/* What /metrics does all the time, also while a group is undone. */
static void *
watch(void *arg)
{
    struct watcher *watcher = arg;

    while (!atomic_load(&watcher->stop)) {
        (void)stats_of(watcher->fixture);
    }
    return NULL;
}

static void
a_group_that_does_not_fit_the_map_leaves_no_trace(void **state)
{
    struct wal_fixture *fixture = *state;
    struct watcher watcher = {.fixture = fixture};
    pthread_t thread;
    uint64_t before;
    struct segment_list segments;

    small_map = 3 << 20;
    fixture->config.bytes_max = 64 << 20; /* so that only LMDB itself can refuse */
    fixture->config.id_window = 100;
    log_setup(LOG_ERROR, LOG_TEXT, 2);
    wal_fixture_start(fixture);
    assert_int_equal(pthread_create(&thread, NULL, watch, &watcher), 0);
    assert_int_equal(wal_fixture_append(fixture, 1, 500, 0), ERR_OK);
    before = stats_of(fixture).durable_seq;
    for (int i = 0; i < 3; i++) {
        uint64_t one = 0;

        assert_int_equal(wal_fixture_append(fixture, 10000, 200, 30000), ERR_FULL);
        assert_true(stats_of(fixture).full);
        assert_int_equal(wal_failure(fixture->wal), ERR_OK);
        assert_int_equal(stats_of(fixture).durable_seq, before);
        one = 1000 + (uint64_t)i;
        append_when_there_is_room(fixture, &one, 1, 0);
        before++;
        assert_int_equal(stats_of(fixture).durable_seq, before); /* no number was lost */
        /* Neither were the ids that the refused ones would have pushed out. */
        assert_true(known(fixture, 500));
        assert_true(known(fixture, 410));
        assert_true(known(fixture, 1000));
    }
    atomic_store(&watcher.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(wal_fixture_count(fixture, 0, 0), before);
    wal_stop(fixture->wal);
    segments = fixture->wal->segments;
    assert_int_equal(segments.ring[segments.head + segments.count - 1].last_seq, before);
    wal_fixture_close(fixture);
    wal_fixture_open(fixture);
    assert_int_equal(stats_of(fixture).durable_seq, before);
    assert_int_equal(wal_fixture_pending_events(fixture), before);
}

static void
a_log_that_has_grown_into_the_reserve_gets_out_of_it_by_draining(void **state)
{
    struct wal_fixture *fixture = *state;
    uint64_t next = 1;
    uint64_t drained = 0;

    small_map = 3 << 20;
    fixture->config.bytes_max = 64 << 20;
    wal_fixture_start(fixture);
    for (int round = 0; round < 6; round++) {
        uint64_t accepted = 0;

        fill(fixture, &next, 20, 1000);
        assert_true(stats_of(fixture).full);
        drained += wal_fixture_drain_all(fixture);
        assert_int_equal(drained, next - 1);
        append_when_there_is_room(fixture, &next, 20, 1000);
        /* The file is as large as ever, so it is the free pages that count. */
        for (int i = 0; i < 20; i++) {
            accepted += wal_fixture_append(fixture, next, 20, 1000) == ERR_OK;
            next += accepted > (uint64_t)i ? 20 : 0;
        }
        assert_int_equal(accepted, 20);
    }
    assert_int_equal(wal_failure(fixture->wal), ERR_OK);
}

/* ---- readers of other processes ---- */

/* Holds a snapshot until its standard input closes. */
static int
role_reader(const char *dir)
{
    MDB_env *env;
    MDB_txn *txn;
    char byte = 'r';
    int rc = mdb_env_create(&env);

    if (rc == 0) {
        rc = mdb_env_set_maxdbs(env, 8);
    }
    if (rc == 0) {
        rc = mdb_env_open(env, dir, MDB_RDONLY | MDB_NOTLS, 0);
    }
    if (rc == 0) {
        rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
    }
    if (rc != 0 || write(1, &byte, 1) != 1) {
        return 1;
    }
    while (read(0, &byte, 1) > 0) {
    }
    mdb_txn_abort(txn);
    mdb_env_close(env);
    return 0;
}

static pid_t
start_reader(struct wal_fixture *fixture, int *stop)
{
    int in[2];
    int out[2];
    char byte;
    pid_t child;

    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        execl("/proc/self/exe", "test_wal_room", "reader", fixture->dir, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    assert_int_equal(read(out[0], &byte, 1), 1);
    close(out[0]);
    *stop = in[1];
    return child;
}

static void
a_stuck_reader_of_another_process_is_seen(void **state)
{
    struct wal_fixture *fixture = *state;
    int stop;
    int status;
    pid_t reader;
    int64_t first = 0;

    wal_fixture_start(fixture);
    assert_int_equal(wal_fixture_append(fixture, 1, 10, 0), ERR_OK);
    assert_int_equal(stats_of(fixture).oldest_reader_us, 0);
    reader = start_reader(fixture, &stop);
    assert_int_equal(wal_fixture_append(fixture, 11, 10, 0), ERR_OK);
    assert_int_equal(wal_fixture_append(fixture, 21, 10, 0), ERR_OK);
    while (first == 0) { /* its age is counted from when it was first seen */
        first = stats_of(fixture).oldest_reader_us;
    }
    usleep(1000);
    assert_true(stats_of(fixture).oldest_reader_us >= first + 1000);
    close(stop);
    assert_int_equal(waitpid(reader, &status, 0), reader);
    assert_int_equal(stats_of(fixture).oldest_reader_us, 0);
}

struct drainer {
    struct wal_fixture *fixture;
    uint64_t refused;
    uint64_t advanced;
};

/* Goes on telling progress, record by record, until the map has no page left for it. */
static void
advance_until_refused(struct drainer *drainer)
{
    const struct journal *journal = drainer->fixture->journal;
    const uint64_t durable = journal->ops->durable_seq(journal->self);
    struct slice_set nothing = {0};

    for (uint64_t seq = journal->ops->replicated_seq(journal->self, 0) + 1; seq <= durable; seq++) {
        enum err err = journal->ops->advance(journal->self, 0, seq, &nothing, NULL);

        if (err != ERR_OK) {
            assert_int_equal(err, ERR_FULL);
            assert_int_equal(journal->ops->replicated_seq(journal->self, 0), seq - 1);
            drainer->refused++;
            return;
        }
        drainer->advanced++;
    }
}

/* Notes the next record's progress, which was refused before. */
static void
advance_when_there_is_room(struct wal_fixture *fixture)
{
    const struct journal *journal = fixture->journal;
    const uint64_t seq = journal->ops->replicated_seq(journal->self, 0) + 1;
    struct slice_set nothing = {0};
    enum err err;

    while ((err = journal->ops->advance(journal->self, 0, seq, &nothing, NULL)) == ERR_FULL) {
        usleep(2000);
    }
    assert_int_equal(err, ERR_OK);
}

static void
a_reader_that_holds_every_page_stops_the_log_only_as_long_as_it_lives(void **state)
{
    struct wal_fixture *fixture = *state;
    struct drainer drainer = {fixture, 0, 0};
    uint64_t next = 1;
    uint64_t accepted;
    MDB_envinfo info;
    int stop;
    int status;
    pid_t reader;

    small_map = 8 << 20; /* large beside the stage, which must find its pages in the reserve */
    fixture->config.bytes_max = 64 << 20;
    fixture->config.partitions = 1;
    wal_fixture_start(fixture);
    append_when_there_is_room(fixture, &next, 20, 500);
    reader = start_reader(fixture, &stop);
    accepted = 20 + fill(fixture, &next, 20, 500);
    assert_true(stats_of(fixture).full);
    /* It refused while the reserve was whole: what the reader holds does not count as free. */
    assert_int_equal(mdb_env_info(fixture->wal->env, &info), 0);
    assert_true(info.me_last_pgno + 1 <= fixture->wal->map_pages * 7 / 8 + 32);
    /* Each note of progress takes fresh pages now; in the end there are none. */
    advance_until_refused(&drainer);
    assert_true(drainer.advanced > 0);
    assert_int_equal(drainer.refused, 1);
    assert_int_equal(wal_failure(fixture->wal), ERR_OK);
    assert_int_equal(stats_of(fixture).durable_seq, accepted);
    kill(reader, SIGKILL);
    assert_int_equal(waitpid(reader, &status, 0), reader);
    close(stop);
    /* Dead readers are cleared away, and it goes on where it was: with progress, which makes room.
     */
    advance_when_there_is_room(fixture);
    wal_fixture_drain_all(fixture);
    append_when_there_is_room(fixture, &next, 1, 500);
    wal_fixture_drain_all(fixture);
    assert_int_equal(wal_failure(fixture->wal), ERR_OK);
    wal_fixture_close(fixture);
    wal_fixture_open(fixture);
    assert_int_equal(stats_of(fixture).durable_seq, accepted + 1);
    assert_int_equal(stats_of(fixture).pending_events, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_full_log_refuses_drains_and_accepts_again),
        TEST(a_log_full_of_single_events_does_so_too),
        TEST(a_log_full_of_records_with_pages_of_their_own_does_so_too),
        TEST(a_log_full_of_huge_records_does_so_too),
        TEST(a_retained_window_larger_than_the_limit_does_not_wedge_the_log),
        TEST(ids_beyond_the_limit_do_not_wedge_the_log),
        TEST(an_append_larger_than_the_log_is_refused_and_others_are_not),
        TEST(a_full_log_still_opens_and_drains),
        TEST(a_log_opens_and_drains_under_a_much_lower_limit),
        TEST(trimming_keeps_the_window_behind_the_offset),
        TEST(trimming_never_takes_what_one_partition_still_needs),
        TEST(the_newest_block_stays_so_no_number_is_given_twice),
        TEST(the_oldest_number_is_exact_while_a_segment_is_half_dropped),
        TEST(ids_on_disk_stay_within_the_window_and_a_block),
        TEST(the_history_of_slices_is_bounded_by_dropping_its_oldest_minutes),
        TEST(a_group_that_does_not_fit_the_map_leaves_no_trace),
        TEST(a_log_that_has_grown_into_the_reserve_gets_out_of_it_by_draining),
        TEST(a_stuck_reader_of_another_process_is_seen),
        TEST(a_reader_that_holds_every_page_stops_the_log_only_as_long_as_it_lives),
    };

    if (argc == 3) {
        return role_reader(argv[2]);
    }
    log_setup(LOG_ERROR, LOG_TEXT, 2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
