/*
 * What the log says when the disk fails: surely not stored, or unknown, never a false "stored".
 *
 * The failures are made by standing between LMDB and the C library: the program's own fdatasync(),
 * pwrite() and writev() are found first, and fail when told to. So is mdb_txn_begin(), to let
 * something happen right after a snapshot was taken.
 */
#include <dlfcn.h>
#include <errno.h>
#include <lmdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/log.h"
#include "tests/fakes/wal_fixture.h"

/* The size of LMDB's write of a meta page; nothing else that is written is near it. */
enum {
    META_WRITE_MIN = 100,
    META_WRITE_MAX = 200
};

static atomic_int fail_syncs; /* how many of the next fdatasync() fail */
static atomic_int fail_metas; /* ... of the next writes of a meta page */
static atomic_int fail_pages; /* ... of the next writes of pages */
static atomic_int hold_syncs; /* fdatasync() waits while it is set */
static atomic_int syncs_waiting;

static bool
takes_one(atomic_int *counter)
{
    int left = atomic_load(counter);

    while (left > 0) {
        if (atomic_compare_exchange_weak(counter, &left, left - 1)) {
            return true;
        }
    }
    return false;
}

int fdatasync(int fd);
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset);
ssize_t writev(int fd, const struct iovec *parts, int count);

static void *
next_symbol(const char *name)
{
    void *symbol = dlsym(RTLD_NEXT, name);

    ASSERT(symbol != NULL);
    return symbol;
}

int
fdatasync(int fd)
{
    int (*real)(int);
    void *symbol = next_symbol("fdatasync");

    memcpy(&real, &symbol, sizeof(real));
    atomic_fetch_add(&syncs_waiting, 1);
    while (atomic_load(&hold_syncs) != 0) {
        usleep(200);
    }
    atomic_fetch_sub(&syncs_waiting, 1);
    if (takes_one(&fail_syncs)) {
        errno = EIO;
        return -1;
    }
    return real(fd);
}

ssize_t
pwrite(int fd, const void *bytes, size_t len, off_t offset)
{
    ssize_t (*real)(int, const void *, size_t, off_t);
    void *symbol = next_symbol("pwrite");

    memcpy(&real, &symbol, sizeof(real));
    if ((len >= META_WRITE_MIN && len <= META_WRITE_MAX && takes_one(&fail_metas)) ||
        (len >= 4096 && takes_one(&fail_pages))) {
        errno = EIO;
        return -1;
    }
    return real(fd, bytes, len, offset);
}

ssize_t
writev(int fd, const struct iovec *parts, int count)
{
    ssize_t (*real)(int, const struct iovec *, int);
    void *symbol = next_symbol("writev");

    memcpy(&real, &symbol, sizeof(real));
    if (takes_one(&fail_pages)) {
        return parts[0].iov_len > 10 ? 10 : 0; /* as a full disk does */
    }
    return real(fd, parts, count);
}

struct between {
    void (*run)(void *arg);
    void *arg;
};
static _Thread_local struct between
    after_snapshot; /* run once, after this thread's next read begins */

int
mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned int flags, MDB_txn **txn)
{
    int (*real)(MDB_env *, MDB_txn *, unsigned int, MDB_txn **);
    void *symbol = next_symbol("mdb_txn_begin");
    int rc;

    memcpy(&real, &symbol, sizeof(real));
    rc = real(env, parent, flags, txn);
    if (rc == 0 && (flags & MDB_RDONLY) != 0 && after_snapshot.run != NULL) {
        const struct between once = after_snapshot;

        after_snapshot.run = NULL;
        once.run(once.arg);
    }
    return rc;
}

static int
set_up(void **state)
{
    struct wal_fixture *fixture = malloc(sizeof(*fixture));

    assert_non_null(fixture);
    wal_fixture_init(fixture);
    *state = fixture;
    return 0;
}

static int
tear_down(void **state)
{
    atomic_store(&fail_syncs, 0);
    atomic_store(&fail_metas, 0);
    atomic_store(&fail_pages, 0);
    atomic_store(&hold_syncs, 0);
    wal_fixture_fini(*state);
    free(*state);
    return 0;
}

static void
assert_latched(struct wal_fixture *fixture, uint64_t stored)
{
    const struct journal *journal = fixture->journal;
    struct journal_stats stats;
    struct slice_set nothing = {0};

    assert_int_equal(wal_failure(fixture->wal), ERR_FAILED);
    journal->ops->stats(journal->self, &stats);
    assert_true(stats.failed);
    assert_int_equal(stats.durable_seq, stored);
    assert_int_equal(stats.queued_events, 0);
    assert_int_equal(wal_fixture_append(fixture, 5000, 1, 0), ERR_FAILED);
    assert_int_equal(journal->ops->advance(journal->self, 0, 1, &nothing, NULL), ERR_FAILED);
    assert_int_equal(journal->ops->wait_durable(journal->self, stored + 1, -1), ERR_CLOSED);
}

static void
assert_found_after_restart(struct wal_fixture *fixture, uint64_t stored)
{
    wal_fixture_restart(fixture);
    assert_int_equal(wal_failure(fixture->wal), ERR_OK);
    assert_int_equal(fixture->journal->ops->durable_seq(fixture->journal->self), stored);
    assert_int_equal(wal_fixture_count(fixture, 0, 0), stored);
    /* A retry with the same ids is safe, whatever became of the first try. */
    assert_int_equal(wal_fixture_append(fixture, 1, 20, 0), ERR_OK);
    assert_int_equal(wal_fixture_count(fixture, 0, 0), 20);
}

/* Ten events that a stage takes, and are in LMDB all the same: a reader wanted them. */
static void
append_ten_and_log_them(struct wal_fixture *fixture)
{
    wal_fixture_start(fixture);
    assert_int_equal(wal_fixture_append(fixture, 1, 10, 0), ERR_OK);
    assert_int_equal(wal_fixture_count(fixture, 0, 0), 10);
}

/* The stage's sync is the last step of a small group: what it left behind is known to a start only.
 */
static void
after_a_failed_sync_of_the_stage_the_outcome_is_unknown(void **state)
{
    struct wal_fixture *fixture = *state;
    uint64_t found;

    append_ten_and_log_them(fixture);
    assert_int_equal(wal_fixture_append(fixture, 11, 2, 0), ERR_OK);
    atomic_store(&fail_syncs, 1); /* the next one would succeed, which must help nobody */
    log_setup(LOG_ERROR + 1, LOG_TEXT, 2);
    assert_int_equal(wal_fixture_append(fixture, 13, 8, 0), ERR_UNKNOWN);
    assert_latched(fixture, 12);
    wal_fixture_close(fixture);
    wal_fixture_open(fixture);
    found = fixture->journal->ops->durable_seq(fixture->journal->self);
    assert_true(found == 12 || found == 20);
    assert_found_after_restart(fixture, found);
}

static void
after_a_failed_write_of_the_stage_what_was_staged_before_is_kept(void **state)
{
    struct wal_fixture *fixture = *state;

    append_ten_and_log_them(fixture);
    assert_int_equal(wal_fixture_append(fixture, 11, 2, 0), ERR_OK);
    atomic_store(&fail_pages, 1);
    log_setup(LOG_ERROR + 1, LOG_TEXT, 2);
    assert_int_equal(wal_fixture_append(fixture, 13, 8, 0), ERR_UNKNOWN);
    assert_latched(fixture, 12);
    assert_found_after_restart(fixture, 12); /* nothing of it had been written */
}

/* A start finds what the kernel shows of a failed sync; it must reach the disk before it counts. */
static void
a_start_syncs_what_it_finds_in_the_stage(void **state)
{
    struct wal_fixture *fixture = *state;
    struct wal *wal = NULL;

    append_ten_and_log_them(fixture);
    atomic_store(&fail_syncs, 1);
    log_setup(LOG_ERROR + 1, LOG_TEXT, 2);
    assert_int_equal(wal_fixture_append(fixture, 11, 10, 0), ERR_UNKNOWN);
    wal_fixture_close(fixture);
    atomic_store(&fail_syncs, 1);
    assert_int_equal(wal_open(&wal, &fixture->config), ERR_IO);
    assert_int_equal(atomic_load(&fail_syncs), 0);
    assert_found_after_restart(fixture, 20);
}

/* The same kinds of failure in a group that goes to LMDB at once. */
enum {
    LARGE = 10000 /* bytes of a body; ten of them are more than a stage's entry */
};

static void
after_a_failed_sync_nothing_is_stored_or_acked(void **state)
{
    struct wal_fixture *fixture = *state;

    append_ten_and_log_them(fixture);
    atomic_store(&fail_syncs, 1);
    log_setup(LOG_ERROR + 1, LOG_TEXT, 2);
    assert_int_equal(wal_fixture_append(fixture, 11, 10, LARGE), ERR_FAILED);
    assert_latched(fixture, 10);
    /* What was durable before can still be read. */
    assert_int_equal(wal_fixture_count(fixture, 0, 0), 10);
    assert_found_after_restart(fixture, 10);
}

static void
after_a_failed_page_write_nothing_is_stored_or_acked(void **state)
{
    struct wal_fixture *fixture = *state;

    append_ten_and_log_them(fixture);
    atomic_store(&fail_pages, 1);
    log_setup(LOG_ERROR + 1, LOG_TEXT, 2);
    assert_int_equal(wal_fixture_append(fixture, 11, 10, LARGE), ERR_FAILED);
    assert_latched(fixture, 10);
    /* What was durable before can still be read. */
    assert_int_equal(wal_fixture_count(fixture, 0, 0), 10);
    assert_found_after_restart(fixture, 10);
}

static void
after_a_failed_meta_write_the_outcome_is_unknown(void **state)
{
    struct wal_fixture *fixture = *state;
    uint64_t found;

    append_ten_and_log_them(fixture);
    atomic_store(&fail_metas, 2); /* LMDB's own attempt to take it back fails as well */
    log_setup(LOG_ERROR + 1, LOG_TEXT, 2);
    assert_int_equal(wal_fixture_append(fixture, 11, 10, LARGE), ERR_UNKNOWN);
    assert_int_equal(atomic_load(&fail_metas), 0);
    assert_latched(fixture, 10);
    wal_fixture_close(fixture);
    wal_fixture_open(fixture);
    found = fixture->journal->ops->durable_seq(fixture->journal->self);
    assert_true(found == 10 || found == 20);
    assert_found_after_restart(fixture, found);
}

/* LMDB fails with records in the stage that are acknowledged: they are found again. */
static void
a_failed_commit_of_staged_records_loses_none(void **state)
{
    struct wal_fixture *fixture = *state;

    append_ten_and_log_them(fixture);
    assert_int_equal(wal_fixture_append(fixture, 11, 10, 0), ERR_OK);
    atomic_store(&fail_syncs, 1);
    log_setup(LOG_ERROR + 1, LOG_TEXT, 2);
    assert_int_equal(wal_fixture_count(fixture, 0, 0), 10); /* asks for the rest, which fails */
    assert_latched(fixture, 20);
    assert_found_after_restart(fixture, 20);
}

static int64_t
cpu_us(void)
{
    struct timespec used;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (int64_t)used.tv_sec * 1000000 + used.tv_nsec / 1000;
}

/* A reader still wants what is staged, and will not get it. */
static void
a_failed_log_with_staged_records_sleeps_until_it_is_closed(void **state)
{
    struct wal_fixture *fixture = *state;
    int64_t before;

    append_ten_and_log_them(fixture);
    assert_int_equal(wal_fixture_append(fixture, 11, 10, 0), ERR_OK);
    atomic_store(&fail_syncs, 1);
    log_setup(LOG_ERROR + 1, LOG_TEXT, 2);
    assert_int_equal(wal_fixture_count(fixture, 0, 0), 10);
    assert_latched(fixture, 20);
    before = cpu_us();
    usleep(500000);
    assert_true(cpu_us() - before < 100000); /* one that spins takes what it can get */
}

static void *
append_twenty(void *arg)
{
    struct request *request = request_new(101, 20, 0, true);

    ASSERT(request_send(request, arg) == ERR_OK);
    ASSERT(request_wait(request) == ERR_FAILED);
    request_drop(request);
    return NULL;
}

struct advancer {
    struct wal_fixture *fixture;
    enum err err;
};

static void *
advance_five(void *arg)
{
    struct advancer *advancer = arg;
    const struct journal *journal = advancer->fixture->journal;
    struct slice_set nothing = {0};

    advancer->err = journal->ops->advance(journal->self, 0, 5, &nothing, NULL);
    return NULL;
}

static void
those_waiting_behind_a_failing_commit_get_an_answer_too(void **state)
{
    struct wal_fixture *fixture = *state;
    struct advancer advancer = {fixture, ERR_OK};
    struct request *first = request_new(11, 5, 0, true);
    pthread_t threads[2];
    struct journal_stats stats;

    append_ten_and_log_them(fixture);
    atomic_store(&hold_syncs, 1);
    assert_int_equal(request_send(first, fixture), ERR_OK);
    while (atomic_load(&syncs_waiting) == 0) {
        usleep(100);
    }
    /* The commit is under way; these queue up behind it. */
    assert_int_equal(pthread_create(&threads[0], NULL, append_twenty, fixture), 0);
    do {
        fixture->journal->ops->stats(fixture->journal->self, &stats);
    } while (stats.queued_events < 25);
    assert_int_equal(pthread_create(&threads[1], NULL, advance_five, &advancer), 0);
    log_setup(LOG_ERROR + 1, LOG_TEXT, 2);
    atomic_store(&fail_syncs, 1);
    atomic_store(&hold_syncs, 0);
    assert_int_equal(request_wait(first), ERR_UNKNOWN);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    assert_int_equal(advancer.err, ERR_FAILED);
    assert_latched(fixture, 10);
    request_drop(first);
}

static void
nothing_is_told_while_the_sync_runs(void **state)
{
    struct wal_fixture *fixture = *state;
    const struct batch_limits limits = {100, SIZE_MAX, UINT64_MAX};
    struct request *request = request_new(1, 5, 0, true);
    struct batch batch = {0};
    const struct journal *journal;

    wal_fixture_start(fixture);
    journal = fixture->journal;
    atomic_store(&hold_syncs, 1);
    assert_int_equal(request_send(request, fixture), ERR_OK);
    while (atomic_load(&syncs_waiting) == 0) {
        usleep(100);
    }
    assert_false(request->answered);
    assert_int_equal(journal->ops->durable_seq(journal->self), 0);
    assert_int_equal(journal->ops->wait_durable(journal->self, 1, 1), ERR_TIMEOUT);
    assert_int_equal(journal->ops->read(journal->self, 0, 0, &limits, &batch), ERR_NOT_FOUND);
    atomic_store(&hold_syncs, 0);
    assert_int_equal(request_wait(request), ERR_OK);
    assert_int_equal(journal->ops->read(journal->self, 0, 0, &limits, &batch), ERR_OK);
    assert_int_equal(batch.count, 5);
    batch_free(&batch);
    request_drop(request);
}

static void
append_five(void *arg)
{
    struct request *request = request_new(11, 5, 0, false);

    ASSERT(request_send(request, arg) == ERR_OK);
    ASSERT(request_wait(request) == ERR_OK);
    request_drop(request);
}

/* The watermark has risen when the read looks at it, its snapshot has not. */
static void
a_commit_right_after_a_reads_snapshot_is_simply_not_in_it(void **state)
{
    struct wal_fixture *fixture = *state;
    const struct batch_limits limits = {100, SIZE_MAX, UINT64_MAX};
    const struct journal *journal;
    struct batch batch = {0};

    wal_fixture_start(fixture);
    journal = fixture->journal;
    assert_int_equal(wal_fixture_append(fixture, 1, 10, 0), ERR_OK);
    after_snapshot = (struct between){append_five, fixture};
    assert_int_equal(journal->ops->read(journal->self, 0, 4, &limits, &batch), ERR_OK);
    assert_null(after_snapshot.run);
    assert_int_equal(batch.count, 6);
    assert_int_equal(batch.to_seq, 10);
    after_snapshot = (struct between){append_five, fixture};
    assert_int_equal(journal->ops->read(journal->self, 0, 15, &limits, &batch), ERR_NOT_FOUND);
    assert_null(after_snapshot.run);
    assert_int_equal(journal->ops->read(journal->self, 0, 10, &limits, &batch), ERR_OK);
    assert_int_equal(batch.to_seq, 20);
    batch_free(&batch);
}

static void
what_queues_up_during_a_sync_is_one_group(void **state)
{
    struct wal_fixture *fixture = *state;
    struct request *requests[30];
    struct buffer text = BUFFER_EMPTY;

    wal_fixture_start(fixture);
    atomic_store(&hold_syncs, 1);
    for (uint64_t i = 0; i < ARRAY_LEN(requests); i++) {
        requests[i] = request_new(1 + i, 1, 0, true);
        assert_int_equal(request_send(requests[i], fixture), ERR_OK);
        while (i == 0 && atomic_load(&syncs_waiting) == 0) {
            usleep(100);
        }
    }
    atomic_store(&hold_syncs, 0);
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        assert_int_equal(request_wait(requests[i]), ERR_OK);
        request_drop(requests[i]);
    }
    wal_stop(fixture->wal);
    metrics_sample_histogram(&text, "g", "", fixture->journal->group_events);
    buffer_append_char(&text, '\0');
    assert_non_null(strstr(text.data, "g_count 2\n"));
    buffer_free(&text);
}

static void
a_failing_disk_at_the_start_is_an_error(void **state)
{
    struct wal_fixture *fixture = *state;
    struct wal *wal = NULL;

    log_setup(LOG_ERROR + 1, LOG_TEXT, 2);
    atomic_store(&fail_syncs, 1);
    assert_int_equal(wal_open(&wal, &fixture->config), ERR_IO);
    assert_null(wal);
    wal_fixture_start(fixture);
    assert_int_equal(wal_fixture_append(fixture, 1, 1, 0), ERR_OK);
    wal_fixture_close(fixture);
    atomic_store(&fail_metas, 1);
    assert_int_equal(wal_open(&wal, &fixture->config), ERR_IO);
    atomic_store(&fail_metas, 0);
    wal_fixture_start(fixture);
    assert_int_equal(fixture->journal->ops->durable_seq(fixture->journal->self), 1);
}

static void
a_stop_after_a_failure_ends(void **state)
{
    struct wal_fixture *fixture = *state;

    log_setup(LOG_ERROR + 1, LOG_TEXT, 2);
    wal_fixture_start(fixture);
    atomic_store(&fail_syncs, 1000000);
    assert_int_equal(wal_fixture_append(fixture, 1, 1, 0), ERR_UNKNOWN);
    wal_stop(fixture->wal);
    assert_int_equal(wal_fixture_append(fixture, 1, 1, 0), ERR_FAILED);
    wal_fixture_close(fixture);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(after_a_failed_sync_of_the_stage_the_outcome_is_unknown),
        TEST(after_a_failed_write_of_the_stage_what_was_staged_before_is_kept),
        TEST(a_start_syncs_what_it_finds_in_the_stage),
        TEST(after_a_failed_sync_nothing_is_stored_or_acked),
        TEST(after_a_failed_page_write_nothing_is_stored_or_acked),
        TEST(after_a_failed_meta_write_the_outcome_is_unknown),
        TEST(a_failed_commit_of_staged_records_loses_none),
        TEST(a_failed_log_with_staged_records_sleeps_until_it_is_closed),
        TEST(those_waiting_behind_a_failing_commit_get_an_answer_too),
        TEST(nothing_is_told_while_the_sync_runs),
        TEST(a_commit_right_after_a_reads_snapshot_is_simply_not_in_it),
        TEST(what_queues_up_during_a_sync_is_one_group),
        TEST(a_failing_disk_at_the_start_is_an_error),
        TEST(a_stop_after_a_failure_ends),
    };

    log_setup(LOG_ERROR, LOG_TEXT, 2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
