/* What a log still knows after it was closed, killed, copied, damaged or cut short. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/base/log.h"
#include "tests/fakes/wal_fixture.h"
#include "wal/format.h"
#include "wal/wal_internal.h"

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
    wal_fixture_fini(*state);
    free(*state);
    return 0;
}

static uint64_t
durable(struct wal_fixture *fixture)
{
    return fixture->journal->ops->durable_seq(fixture->journal->self);
}

/* ---- identity ---- */

static void
opening_again_raises_the_epoch_and_keeps_the_identity(void **state)
{
    struct wal_fixture *fixture = *state;
    uint8_t node[JOURNAL_NODE_ID_SIZE];
    uint8_t instances[4][16];
    static const uint8_t STRANGER[16] = "somebody else's";

    for (uint64_t i = 0; i < 4; i++) {
        wal_fixture_open(fixture);
        assert_int_equal(fixture->journal->epoch, i + 1);
        if (i == 0) {
            memcpy(node, fixture->journal->node_id, sizeof(node));
        }
        assert_memory_equal(node, fixture->journal->node_id, sizeof(node));
        memcpy(instances[i], wal_instance(fixture->wal), 16);
        for (uint64_t known = 0; known <= i; known++) {
            assert_true(wal_knows_instance(fixture->wal, instances[known]));
            assert_true(known == i || memcmp(instances[known], instances[i], 16) != 0);
        }
        assert_false(wal_knows_instance(fixture->wal, STRANGER));
        wal_fixture_close(fixture);
    }
}

static void
the_number_of_partitions_is_the_logs_own(void **state)
{
    struct wal_fixture *fixture = *state;

    fixture->config.partitions = 5;
    wal_fixture_open(fixture);
    wal_fixture_close(fixture);
    fixture->config.partitions = 2;
    wal_fixture_open(fixture);
    assert_int_equal(fixture->journal->partitions, 5);
}

static void
a_missing_path_is_made_and_a_file_in_its_way_is_an_error(void **state)
{
    struct wal_fixture *fixture = *state;
    char deep[512];
    char file[512];
    struct wal *wal = NULL;

    wal_fixture_path(fixture, "a/b//c/", deep);
    fixture->config.dir = deep;
    wal_fixture_open(fixture);
    wal_fixture_close(fixture);
    wal_fixture_path(fixture, "a/b/c/data.mdb", deep);
    assert_int_equal(access(deep, R_OK), 0);
    wal_fixture_path(fixture, "a/b/c/data.mdb/x", file);
    fixture->config.dir = file;
    assert_int_equal(wal_open(&wal, &fixture->config), ERR_IO);
    fixture->config.dir = deep;
    assert_int_equal(wal_open(&wal, &fixture->config), ERR_IO);
    assert_null(wal);
}

/* ---- one process at a time ---- */

/* Runs this program again as ROLE, its output on the returned descriptor. */
static pid_t
run_role(const char *role, const char *dir, int *out)
{
    int pipes[2];
    pid_t child;

    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(pipes[1], 1);
        execl("/proc/self/exe", "test_wal_restart", role, dir, (char *)NULL);
        _exit(127);
    }
    close(pipes[1]);
    *out = pipes[0];
    return child;
}

static int
exit_of(pid_t child)
{
    int status;

    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static struct wal_config
role_config(const char *dir)
{
    return (struct wal_config){
        .dir = dir,
        .bytes_max = 64 << 20,
        .partitions = 2,
        .queue_events = 65536,
        .id_window = 10000,
        .clock = clock_system(),
    };
}

static int
role_open(const char *dir)
{
    struct wal_config config = role_config(dir);
    struct wal *wal = NULL;
    enum err err = wal_open(&wal, &config);

    wal_close(wal);
    return (int)err;
}

static void
a_second_process_is_told_that_the_log_is_taken(void **state)
{
    struct wal_fixture *fixture = *state;
    struct wal *second = NULL;
    int out;

    wal_fixture_start(fixture);
    assert_int_equal(exit_of(run_role("open", fixture->dir, &out)), ERR_LOCKED);
    close(out);
    assert_int_equal(wal_open(&second, &fixture->config), ERR_LOCKED);
    assert_int_equal(wal_fixture_append(fixture, 1, 1, 0), ERR_OK);
    wal_fixture_close(fixture);
    assert_int_equal(exit_of(run_role("open", fixture->dir, &out)), ERR_OK);
    close(out);
}

/* ---- what is remembered ---- */

static void
repeats_are_known_after_a_restart(void **state)
{
    struct wal_fixture *fixture = *state;
    struct request *request = request_new(1, 3, 0, true);

    wal_fixture_start(fixture);
    assert_int_equal(wal_fixture_append(fixture, 1, 2000, 0), ERR_OK);
    wal_fixture_restart(fixture);
    request_set_key(request, 1, 1500);
    request_set_key(request, 2, 5000);
    assert_int_equal(request_send(request, fixture), ERR_OK);
    assert_int_equal(request_wait(request), ERR_OK);
    assert_true(request->append.events[0].duplicate);
    assert_false(request->append.events[0].mismatch);
    assert_int_equal(request->append.events[0].seq, 1);
    assert_true(request->append.events[1].duplicate);
    assert_true(request->append.events[1].mismatch);
    assert_int_equal(request->append.events[1].seq, 1500);
    assert_false(request->append.events[2].duplicate);
    assert_int_equal(request->append.events[2].seq, 2001);
    request_drop(request);
}

static void
history_and_pending_records_always_add_up(void **state)
{
    struct wal_fixture *fixture = *state;
    uint64_t accepted = 0;
    uint64_t moved = 0;

    for (uint64_t round = 0; round < 12; round++) {
        wal_fixture_open(fixture);
        assert_int_equal(durable(fixture), accepted);
        assert_int_equal(wal_fixture_stored_events(fixture), moved);
        assert_int_equal(wal_fixture_pending_events(fixture), accepted - moved);
        assert_int_equal(wal_start(fixture->wal), ERR_OK);
        assert_int_equal(
            wal_fixture_append(fixture, 1 + accepted, (uint32_t)(400 + round * 37), round * 30),
            ERR_OK);
        accepted += 400 + round * 37;
        moved += wal_fixture_drain(fixture, round % 2, 90, round);
        wal_fixture_close(fixture);
    }
    wal_fixture_start(fixture);
    moved += wal_fixture_drain_all(fixture);
    assert_int_equal(moved, accepted);
    wal_fixture_close(fixture);
    wal_fixture_open(fixture);
    assert_int_equal(wal_fixture_stored_events(fixture), accepted);
    assert_int_equal(wal_fixture_pending_events(fixture), 0);
}

static enum err
refuse_third(void *arg, uint64_t seq, const struct event *event)
{
    int *calls = arg;

    (void)seq;
    (void)event;
    return ++*calls == 3 ? ERR_CORRUPT : ERR_OK;
}

static enum err
refuse_slice(void *arg, const struct slice_key *key, struct span encoded)
{
    (void)arg;
    (void)key;
    (void)encoded;
    return ERR_FORMAT;
}

static void
the_callers_own_error_ends_a_walk(void **state)
{
    struct wal_fixture *fixture = *state;
    int calls = 0;

    wal_fixture_start(fixture);
    assert_int_equal(wal_fixture_append(fixture, 1, 10, 0), ERR_OK);
    wal_fixture_drain(fixture, 0, 2, 1);
    wal_fixture_close(fixture);
    wal_fixture_open(fixture);
    assert_int_equal(wal_each_pending(fixture->wal, refuse_third, &calls), ERR_CORRUPT);
    assert_int_equal(calls, 3);
    assert_int_equal(wal_each_slice(fixture->wal, refuse_slice, NULL), ERR_FORMAT);
}

/* ---- kill -9 ---- */

enum {
    KILL_ROUNDS = 20
};

/* Appends until killed, telling each answer: first number and count. Drains a little beside it. */
static int
role_writer(const char *dir)
{
    struct wal_fixture fixture = {.config = role_config(dir)};
    uint64_t number;

    snprintf(fixture.dir, sizeof(fixture.dir), "%s", dir);
    fixture.config.dir = fixture.dir;
    fixture.config.bytes_max = 4 << 20;
    fixture.config.retain_bytes = 256 << 10;
    wal_fixture_start(&fixture);
    number = durable(&fixture) + 1;
    for (uint32_t i = 0;; i++) {
        uint64_t line[2] = {number, i % 40 + 1};

        ASSERT(wal_fixture_append(&fixture, number, (uint32_t)line[1], i % 9 == 0 ? 5000 : 0) ==
               ERR_OK);
        ASSERT(write(1, line, sizeof(line)) == sizeof(line));
        number += line[1];
        if (i % 7 == 0) {
            wal_fixture_drain_all(&fixture);
        }
    }
}

/* Reads the answers of a writer that has been killed: the highest number it was sure of. */
static uint64_t
last_acked(int fd, uint64_t before)
{
    uint64_t line[2];

    while (read(fd, line, sizeof(line)) == sizeof(line)) {
        assert_int_equal(line[0], before + 1);
        before += line[1];
    }
    return before;
}

static void
everything_acked_before_a_kill_is_there_afterwards(void **state)
{
    struct wal_fixture *fixture = *state;
    uint64_t acked = 0;

    fixture->config.bytes_max = 4 << 20;
    fixture->config.retain_bytes = 256 << 10;
    for (unsigned round = 0; round < KILL_ROUNDS; round++) {
        uint64_t found;
        uint64_t history;
        struct journal_stats stats;
        int out;
        pid_t child = run_role("writer", fixture->dir, &out);
        uint64_t seen[2];

        /* Once it has started to answer, at some moment of its work. */
        assert_int_equal(read(out, seen, sizeof(seen)), sizeof(seen));
        assert_int_equal(seen[0], acked + 1);
        usleep(500 + (useconds_t)(rand() % 40000));
        kill(child, SIGKILL);
        assert_int_equal(exit_of(child), 128 + SIGKILL);
        acked = last_acked(out, acked + seen[1]);
        close(out);

        wal_fixture_open(fixture);
        found = durable(fixture);
        /* The last group may have been committed without its answer having got out. */
        assert_in_range(found, acked, acked + 40);
        history = wal_fixture_stored_events(fixture);
        assert_int_equal(history + wal_fixture_pending_events(fixture), found);
        assert_int_equal(wal_start(fixture->wal), ERR_OK);
        wal_stop(fixture->wal); /* what was staged is in LMDB, where it can be read */
        fixture->journal->ops->stats(fixture->journal->self, &stats);
        assert_true(stats.oldest_seq >= 1);
        for (uint32_t p = 0; p < 2; p++) {
            uint64_t after = stats.oldest_seq - 1;

            assert_int_equal(wal_fixture_count(fixture, p, after),
                             journal_partition_count(found, p, 2) -
                                 journal_partition_count(after, p, 2));
        }
        acked = found;
        wal_fixture_close(fixture);
    }
}

/* ---- damage ---- */

static enum err
count_record(void *arg, uint64_t seq, const struct event *event)
{
    (void)seq;
    (void)event;
    ++*(uint64_t *)arg;
    return ERR_OK;
}

/* Scans all, in reads of RECORDS_MAX; *GIVEN_OUT records came. Returns how much damage was told. */
static uint64_t
scan_over_damage(struct wal_fixture *fixture, uint32_t records_max, uint64_t *given_out)
{
    const struct journal *journal = fixture->journal;
    struct journal_scan scan = {.from_seq = 1, .records_max = records_max};
    struct journal_scanned scanned = {.done = false};
    uint64_t damaged = 0;

    *given_out = 0;
    while (!scanned.done) {
        assert_int_equal(
            journal->ops->scan(journal->self, &scan, count_record, given_out, &scanned), ERR_OK);
        scan.from_seq = scanned.next_seq;
        damaged += scanned.damaged;
    }
    return damaged;
}

/* The CRC, length and so on of the frame around BODY, as it lies in the file. */
static size_t
frame_bytes(uint64_t seq, const struct append_event *event, struct buffer *out)
{
    buffer_clear(out, SIZE_MAX);
    frame_append(out, seq, event->body);
    return out->len;
}

struct damaged {
    uint64_t readable; /* before the damage */
    enum err then;
};

static struct damaged
read_until_damage(struct wal_fixture *fixture, uint64_t after_seq)
{
    const struct journal *journal = fixture->journal;
    const struct batch_limits limits = {1000, SIZE_MAX, UINT64_MAX};
    struct batch batch = {0};
    struct damaged result = {0, ERR_OK};

    for (;;) {
        result.then = journal->ops->read(journal->self, 0, after_seq, &limits, &batch);
        if (result.then != ERR_OK) {
            break;
        }
        after_seq = batch.to_seq;
        result.readable += batch.count;
    }
    batch_free(&batch);
    return result;
}

/* Where log lines go while a test looks at them. */
static void
log_to(int fd)
{
    log_setup(fd == 2 ? LOG_ERROR + 1 : LOG_WARN, LOG_JSON, fd);
}

static bool
log_says(int fd, const char *text)
{
    char lines[65536];
    ssize_t len = pread(fd, lines, sizeof(lines) - 1, 0);

    assert_true(len >= 0);
    lines[len] = '\0';
    return strstr(lines, text) != NULL;
}

static int
capture(struct wal_fixture *fixture)
{
    char path[512];
    int fd;

    wal_fixture_path(fixture, "lines", path);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    log_to(fd);
    return fd;
}

static void
stop_capture(int fd)
{
    log_to(2);
    close(fd);
}

static void
a_flipped_bit_in_a_record_is_named_and_never_served(void **state)
{
    struct wal_fixture *fixture = *state;
    struct request *request = request_new(1, 20, 0, true);
    struct buffer frame = BUFFER_EMPTY;
    struct damaged damaged;
    uint64_t given;
    int lines;

    wal_fixture_start(fixture);
    assert_int_equal(request_send(request, fixture), ERR_OK);
    assert_int_equal(request_wait(request), ERR_OK);
    wal_fixture_close(fixture);
    frame_bytes(8, &request->append.events[7], &frame);
    /* In the latency: only the checksum can tell. */
    assert_true(wal_fixture_flip(fixture, frame.data, frame.len, FRAME_HEADER_SIZE + 50) > 0);

    lines = capture(fixture);
    wal_fixture_start(fixture);
    assert_int_equal(durable(fixture), 20);
    damaged = read_until_damage(fixture, 0);
    assert_int_equal(damaged.readable, 7);
    assert_int_equal(damaged.then, ERR_CORRUPT);
    assert_true(log_says(lines, "\"event\":\"wal.record_damaged\",\"seq\":8,"));
    /* Those behind it are intact. */
    damaged = read_until_damage(fixture, 8);
    assert_int_equal(damaged.readable, 12);
    assert_int_equal(damaged.then, ERR_NOT_FOUND);
    for (uint32_t step = 1; step <= 25; step += 6) {
        assert_int_equal(scan_over_damage(fixture, step, &given), 1);
        assert_int_equal(given, 19);
    }
    wal_fixture_close(fixture);
    wal_fixture_open(fixture);
    assert_int_equal(wal_fixture_pending_events(fixture), 19);
    stop_capture(lines);
    buffer_free(&frame);
    request_drop(request);
}

static void
a_flipped_bit_in_a_frame_header_is_named_and_hides_only_its_block(void **state)
{
    struct wal_fixture *fixture = *state;
    struct request *request = request_new(1, 100, 0, true);
    struct buffer frame = BUFFER_EMPTY;
    struct damaged damaged;
    uint64_t next = 4;
    uint64_t given;
    int lines;

    wal_fixture_start(fixture);
    assert_int_equal(request_send(request, fixture), ERR_OK);
    assert_int_equal(request_wait(request), ERR_OK);
    wal_fixture_close(fixture);
    frame_bytes(4, &request->append.events[3], &frame);
    assert_true(wal_fixture_flip(fixture, frame.data, frame.len, 8) > 0);

    lines = capture(fixture);
    wal_fixture_start(fixture);
    assert_int_equal(durable(fixture), 100);
    damaged = read_until_damage(fixture, 0);
    assert_int_equal(damaged.readable, 3);
    assert_int_equal(damaged.then, ERR_CORRUPT);
    assert_true(log_says(lines, "\"event\":\"wal.record_damaged\",\"seq\":4,"));
    while (read_until_damage(fixture, next).then == ERR_CORRUPT) {
        assert_int_equal(read_until_damage(fixture, next).readable, 0);
        next++;
    }
    assert_in_range(next, 5, 20);
    assert_int_equal(read_until_damage(fixture, next).readable, 100 - next);
    for (uint32_t step = 1; step <= 101; step += 20) {
        assert_int_equal(scan_over_damage(fixture, step, &given), 1);
        assert_int_equal(given, 3 + 100 - next);
    }
    stop_capture(lines);
    buffer_free(&frame);
    request_drop(request);
}

static void
a_log_whose_last_numbers_are_unreadable_does_not_open(void **state)
{
    struct wal_fixture *fixture = *state;
    struct request *request = request_new(1, 5, 0, true);
    struct buffer frame = BUFFER_EMPTY;
    struct wal *wal = NULL;
    int lines;

    wal_fixture_start(fixture);
    assert_int_equal(request_send(request, fixture), ERR_OK);
    assert_int_equal(request_wait(request), ERR_OK);
    wal_fixture_close(fixture);
    frame_bytes(5, &request->append.events[4], &frame);
    assert_true(wal_fixture_flip(fixture, frame.data, frame.len, 0) > 0);
    lines = capture(fixture);
    assert_int_equal(wal_open(&wal, &fixture->config), ERR_CORRUPT);
    assert_true(log_says(lines, "wal.last_block_damaged"));
    stop_capture(lines);
    /* A damaged body does not hide the number. */
    assert_true(wal_fixture_flip(fixture, frame.data + 8, frame.len - 8, -8) > 0);
    assert_true(wal_fixture_flip(fixture, frame.data, frame.len, FRAME_HEADER_SIZE) > 0);
    log_setup(LOG_ERROR + 1, LOG_TEXT, 2);
    wal_fixture_start(fixture);
    assert_int_equal(durable(fixture), 5);
    assert_int_equal(wal_fixture_append(fixture, 6, 1, 0), ERR_OK);
    assert_int_equal(durable(fixture), 6);
    log_to(2);
    buffer_free(&frame);
    request_drop(request);
}

static void
damaged_ids_are_reported_and_the_log_goes_on(void **state)
{
    struct wal_fixture *fixture = *state;
    struct request *request = request_new(1, 1, 0, true);
    uint8_t entry[ID_ENTRY_SIZE];
    int lines;

    fixture->config.id_window = 200;
    wal_fixture_start(fixture);
    assert_int_equal(request_send(request, fixture), ERR_OK);
    assert_int_equal(request_wait(request), ERR_OK);
    assert_int_equal(wal_fixture_append(fixture, 2, 100, 0), ERR_OK);
    wal_fixture_close(fixture);
    memcpy(entry, request->append.events[0].key, EVENT_KEY_SIZE);
    put_u32(entry + 16, request->append.events[0].content_crc);
    put_u32(entry + 20, 0);
    assert_true(wal_fixture_flip(fixture, entry, sizeof(entry), 3) > 0);

    lines = capture(fixture);
    wal_fixture_start(fixture);
    assert_true(log_says(lines, "\"event\":\"wal.ids_damaged\",\"first_seq\":1,"));
    assert_int_equal(request_send(request, fixture), ERR_OK);
    assert_int_equal(request_wait(request), ERR_OK);
    assert_false(request->append.events[0].duplicate); /* MySQL is the judge of this one */
    /* The damaged block is the oldest: the window moves over it all the same. */
    for (uint64_t i = 0; i < 10; i++) {
        assert_int_equal(wal_fixture_append(fixture, 1000 + i * 100, 100, 0), ERR_OK);
    }
    assert_int_equal(wal_failure(fixture->wal), ERR_OK);
    wal_fixture_close(fixture);
    stop_capture(lines);
    lines = capture(fixture);
    wal_fixture_start(fixture);
    assert_false(log_says(lines, "wal.ids_damaged"));
    stop_capture(lines);
    request_drop(request);
}

static void
a_damaged_slice_is_reported_left_out_and_begun_anew(void **state)
{
    struct wal_fixture *fixture = *state;
    uint64_t before;
    uint64_t left;
    int lines;

    wal_fixture_start(fixture);
    assert_int_equal(wal_fixture_append(fixture, 1, 900, 0), ERR_OK);
    assert_int_equal(wal_fixture_drain_all(fixture), 900);
    wal_fixture_close(fixture);
    /* The names stand in front of each slice's counters, after their lengths. */
    assert_true(wal_fixture_flip(fixture, "\6tenant\11service-1", 17, 20) > 0);

    lines = capture(fixture);
    wal_fixture_open(fixture);
    before = wal_fixture_stored_events(fixture);
    assert_int_equal(before, 600); /* one service of three */
    assert_true(log_says(lines, "\"event\":\"wal.slice_damaged\",\"minute\":28333333,"));
    assert_int_equal(wal_start(fixture->wal), ERR_OK);
    assert_int_equal(wal_fixture_append(fixture, 2000, 300, 0), ERR_OK);
    assert_int_equal(wal_fixture_drain_all(fixture), 300);
    assert_int_equal(wal_failure(fixture->wal), ERR_OK);
    wal_fixture_close(fixture);
    wal_fixture_open(fixture);
    left = wal_fixture_stored_events(fixture);
    assert_in_range(left, before + 200, before + 300);
    stop_capture(lines);
}

static void
damaged_segments_are_sized_again(void **state)
{
    struct wal_fixture *fixture = *state;
    struct journal_stats stats;
    uint8_t value[SEGMENT_VALUE_SIZE];
    struct segment first;
    int lines;

    wal_fixture_start(fixture);
    for (uint64_t i = 0; i < 30; i++) {
        assert_int_equal(wal_fixture_append(fixture, 1 + i * 10, 10, 1500), ERR_OK);
    }
    wal_stop(fixture->wal);
    assert_true(fixture->wal->segments.count > 3);
    first = fixture->wal->segments.ring[fixture->wal->segments.head];
    wal_fixture_close(fixture);
    segment_value_encode(first.first_seq, first.last_seq, first.bytes, value);
    assert_true(wal_fixture_flip(fixture, value, sizeof(value), 8) > 0);

    lines = capture(fixture);
    wal_fixture_start(fixture);
    assert_true(log_says(lines, "wal.segments_damaged"));
    stop_capture(lines);
    lines = capture(fixture);
    wal_fixture_restart(fixture); /* what was damaged has been forgotten */
    assert_false(log_says(lines, "wal.segments_damaged"));
    assert_int_equal(wal_fixture_drain_all(fixture), 300);
    for (uint64_t i = 0; i < 30; i++) {
        assert_int_equal(wal_fixture_append(fixture, 1001 + i * 10, 10, 1500), ERR_OK);
        wal_fixture_drain_all(fixture);
    }
    fixture->journal->ops->stats(fixture->journal->self, &stats);
    assert_true(stats.oldest_seq > 300);
    stop_capture(lines);
    lines = capture(fixture);
    wal_fixture_restart(fixture);
    assert_false(log_says(lines, "wal.segments_damaged"));
    stop_capture(lines);
}

static void
a_damaged_state_does_not_open(void **state)
{
    struct wal_fixture *fixture = *state;
    uint8_t node[JOURNAL_NODE_ID_SIZE];
    struct wal *wal = NULL;
    int lines;

    wal_fixture_open(fixture);
    memcpy(node, fixture->journal->node_id, sizeof(node));
    wal_fixture_close(fixture);
    assert_true(wal_fixture_flip(fixture, node, sizeof(node), 16) > 0); /* in the epoch */
    lines = capture(fixture);
    assert_int_equal(wal_open(&wal, &fixture->config), ERR_CORRUPT);
    assert_true(log_says(lines, "wal.state_unreadable"));
    stop_capture(lines);
}

static void
a_newer_format_is_refused_by_name(void **state)
{
    struct wal_fixture *fixture = *state;
    uint8_t raw[STATE_FIXED_SIZE + 8 * JOURNAL_PARTITIONS_MAX];
    struct log_state log_state;
    struct wal *wal = NULL;
    MDB_val key = val_of("state", 5);
    MDB_val value;
    MDB_txn *txn;
    size_t size;
    int lines;

    wal_fixture_open(fixture);
    log_state = fixture->wal->state;
    size = log_state_encode(&log_state, raw);
    put_u32(raw + 4, STATE_VERSION + 1);
    put_u32(raw, crc32c(0, raw + 4, size - 4)); /* as a newer build would write it */
    assert_int_equal(mdb_txn_begin(fixture->wal->env, NULL, 0, &txn), 0);
    value = val_of(raw, size);
    assert_int_equal(mdb_put(txn, fixture->wal->meta, &key, &value, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    wal_fixture_close(fixture);
    lines = capture(fixture);
    assert_int_equal(wal_open(&wal, &fixture->config), ERR_FORMAT);
    stop_capture(lines);
}

static int
role_read(const char *dir)
{
    struct wal_fixture fixture = {.config = role_config(dir)};
    const struct batch_limits limits = {1000, SIZE_MAX, UINT64_MAX};
    struct batch batch = {0};
    enum err err;

    log_setup(LOG_ERROR + 1, LOG_TEXT, 2);
    err = wal_open(&fixture.wal, &fixture.config);
    if (err != ERR_OK) {
        return (int)err;
    }
    fixture.journal = wal_journal(fixture.wal);
    for (uint32_t p = 0; p < 2; p++) {
        uint64_t after = 0;

        while (fixture.journal->ops->read(fixture.wal, p, after, &limits, &batch) == ERR_OK) {
            after = batch.to_seq;
        }
    }
    batch_free(&batch);
    wal_close(fixture.wal);
    return ERR_OK;
}

/* A process of its own for each length: LMDB may abort, which is an end, but never SIGBUS. */
static void
a_data_file_that_was_half_made_is_made_anew(void **state)
{
    struct wal_fixture *fixture = *state;
    char path[512];
    int fd;

    wal_fixture_path(fixture, "data.mdb.new", path);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 8192), 0); /* as a power loss may leave it: nothing but zeros */
    close(fd);
    wal_fixture_start(fixture);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(wal_fixture_append(fixture, 1, 300, 0), ERR_OK);
    wal_fixture_restart(fixture);
    assert_int_equal(wal_fixture_drain_all(fixture), 300);
}

static void
a_data_file_cut_short_is_an_error_and_not_a_bus_error(void **state)
{
    struct wal_fixture *fixture = *state;
    char path[512];
    uint64_t size;
    int refused = 0;

    wal_fixture_start(fixture);
    assert_int_equal(wal_fixture_append(fixture, 1, 300, 3000), ERR_OK);
    assert_int_equal(wal_fixture_append(fixture, 301, 300, 0), ERR_OK);
    wal_fixture_close(fixture);
    wal_fixture_path(fixture, "data.mdb", path);
    size = wal_fixture_file_bytes(fixture) / 4096 * 4096;
    for (uint64_t left = size - 4096; left > 16 * 4096; left = left / 8 * 7 / 4096 * 4096) {
        int out;
        int code;

        assert_int_equal(truncate(path, (off_t)left), 0);
        code = exit_of(run_role("read", fixture->dir, &out));
        close(out);
        if (code != ERR_OK && code != ERR_CORRUPT && code != ERR_IO) {
            fail_msg("ended with %d at %llu bytes", code, (unsigned long long)left);
        }
        refused += code != ERR_OK;
    }
    assert_true(refused > 0);
}

/* ---- no space ---- */

static void
a_disk_without_space_at_the_start_is_said_to_be_full(void **state)
{
    struct wal_fixture *fixture = *state;
    char path[512];
    struct wal *wal = NULL;
    int lines;

    wal_fixture_path(fixture, "small", path);
    assert_int_equal(mkdir(path, 0700), 0);
    if (mount("sluice-test", path, "tmpfs", 0, "size=300k") != 0) {
        print_message("no tmpfs can be mounted here: %s\n", strerror(errno));
        skip();
    }
    fixture->config.dir = path;
    lines = capture(fixture);
    assert_int_equal(wal_open(&wal, &fixture->config), ERR_NO_SPACE);
    assert_null(wal);
    stop_capture(lines);
    assert_int_equal(umount(path), 0);
}

static void
a_disk_that_fills_up_refuses_before_it_fails(void **state)
{
    struct wal_fixture *fixture = *state;
    char path[512];
    uint64_t accepted = 0;
    enum err err = ERR_OK;
    int lines;

    wal_fixture_path(fixture, "small", path);
    assert_int_equal(mkdir(path, 0700), 0);
    if (mount("sluice-test", path, "tmpfs", 0, "size=24m") != 0) {
        print_message("no tmpfs can be mounted here: %s\n", strerror(errno));
        skip();
    }
    fixture->config.dir = path;
    lines = capture(fixture);
    wal_fixture_start(fixture);
    for (uint64_t i = 0; i < 400 && err == ERR_OK; i++) {
        err = wal_fixture_append(fixture, 1 + i * 50, 50, 2500);
        accepted += err == ERR_OK ? 50 : 0;
    }
    assert_int_equal(err, ERR_FULL);
    assert_int_equal(wal_failure(fixture->wal), ERR_OK);
    assert_int_equal(wal_fixture_drain_all(fixture), accepted);
    assert_int_equal(wal_failure(fixture->wal), ERR_OK);
    assert_int_equal(durable(fixture), accepted);
    wal_fixture_close(fixture);
    stop_capture(lines);
    assert_int_equal(umount(path), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(opening_again_raises_the_epoch_and_keeps_the_identity),
        TEST(the_number_of_partitions_is_the_logs_own),
        TEST(a_missing_path_is_made_and_a_file_in_its_way_is_an_error),
        TEST(a_second_process_is_told_that_the_log_is_taken),
        TEST(repeats_are_known_after_a_restart),
        TEST(history_and_pending_records_always_add_up),
        TEST(the_callers_own_error_ends_a_walk),
        TEST(everything_acked_before_a_kill_is_there_afterwards),
        TEST(a_flipped_bit_in_a_record_is_named_and_never_served),
        TEST(a_flipped_bit_in_a_frame_header_is_named_and_hides_only_its_block),
        TEST(a_log_whose_last_numbers_are_unreadable_does_not_open),
        TEST(damaged_ids_are_reported_and_the_log_goes_on),
        TEST(a_damaged_slice_is_reported_left_out_and_begun_anew),
        TEST(damaged_segments_are_sized_again),
        TEST(a_damaged_state_does_not_open),
        TEST(a_newer_format_is_refused_by_name),
        TEST(a_data_file_that_was_half_made_is_made_anew),
        TEST(a_data_file_cut_short_is_an_error_and_not_a_bus_error),
        TEST(a_disk_without_space_at_the_start_is_said_to_be_full),
        TEST(a_disk_that_fills_up_refuses_before_it_fails),
    };

    log_setup(LOG_ERROR + 1, LOG_TEXT, 2);
    if (argc == 3) {
        if (strcmp(argv[1], "open") == 0) {
            return role_open(argv[2]);
        }
        return strcmp(argv[1], "read") == 0 ? role_read(argv[2]) : role_writer(argv[2]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
