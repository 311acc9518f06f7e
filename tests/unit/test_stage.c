/*
 * The stage: what was acknowledged is found again, what was torn is not, and what is missing is
 * said.
 */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/base/log.h"
#include "wal/format.h"
#include "wal/stage.h"

static const uint8_t NODE[JOURNAL_NODE_ID_SIZE] = "this log's node";
static const uint8_t OTHER[JOURNAL_NODE_ID_SIZE] = "another's node.";

static bool no_syncs;

/* The stage's own syncs: nothing here needs one. */
int fdatasync(int fd);

int
fdatasync(int fd)
{
    return no_syncs ? 0 : fsync(fd);
}

struct fixture {
    char dir[64];
    struct stage *stage;
    uint64_t next; /* seq of the next record */
};

static int
set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    assert_non_null(fixture);
    snprintf(fixture->dir, sizeof(fixture->dir), "/tmp/sluice-stage-XXXXXX");
    assert_non_null(mkdtemp(fixture->dir));
    assert_int_equal(stage_open(&fixture->stage, fixture->dir, NODE), ERR_OK);
    fixture->next = 1;
    *state = fixture;
    return 0;
}

static void
path_of(const struct fixture *fixture, char out[128])
{
    snprintf(out, 128, "%s/" STAGE_FILE, fixture->dir);
}

static int
tear_down(void **state)
{
    struct fixture *fixture = *state;
    char path[128];

    stage_close(fixture->stage);
    path_of(fixture, path);
    unlink(path);
    assert_int_equal(rmdir(fixture->dir), 0);
    free(fixture);
    return 0;
}

/* Appends an entry of COUNT records whose bodies have SIZE bytes, all the last digit of their seq.
 */
static void
append(struct fixture *fixture, uint32_t count, size_t size)
{
    struct buffer frames = BUFFER_EMPTY;
    char *body = malloc(size);

    assert_non_null(body);
    for (uint32_t i = 0; i < count; i++) {
        memset(body, '0' + (int)((fixture->next + i) % 10), size);
        frame_append(&frames, fixture->next + i, (struct span){body, size});
    }
    assert_true(stage_has_room(fixture->stage, frames.len));
    assert_int_equal(stage_append(fixture->stage, fixture->next, count, buffer_span(&frames)), 0);
    fixture->next += count;
    free(body);
    buffer_free(&frames);
}

/* Closes and opens again, as a start does. */
static enum err
recover(struct fixture *fixture, uint64_t after_seq, struct stage_content *content)
{
    stage_close(fixture->stage);
    fixture->stage = NULL;
    assert_int_equal(stage_open(&fixture->stage, fixture->dir, NODE), ERR_OK);
    return stage_recover(fixture->stage, after_seq, content);
}

/* CONTENT holds exactly the records (AFTER_SEQ, LAST_SEQ], whole; frees it. */
static void
assert_holds(struct stage_content *content, uint64_t after_seq, uint64_t last_seq)
{
    struct span rest = buffer_span(&content->frames);
    struct frame frame;
    uint64_t seq;

    assert_int_equal(content->last_seq, last_seq);
    for (uint64_t expected = after_seq + 1; expected <= last_seq; expected++) {
        assert_int_equal(frame_next(&rest, &frame, &seq), ERR_OK);
        assert_int_equal(seq, expected);
        assert_int_equal(frame.body.data[frame.body.len - 1], '0' + (int)(seq % 10));
    }
    assert_int_equal(rest.len, 0);
    buffer_free(&content->frames);
}

static void
change_byte(const struct fixture *fixture, long at)
{
    char path[128];
    unsigned char byte;
    int fd;

    path_of(fixture, path);
    fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void
a_new_stage_is_laid_out_whole_and_holds_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct stage_content content;
    struct stat info;
    char path[128];

    path_of(fixture, path);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, STAGE_BYTES);
    assert_true(info.st_blocks * 512 >= STAGE_BYTES);
    assert_int_equal(recover(fixture, 7, &content), ERR_OK);
    assert_holds(&content, 7, 7);
}

static void
what_was_appended_is_found_after_the_last_record_of_the_log(void **state)
{
    struct fixture *fixture = *state;
    struct stage_content content;

    append(fixture, 3, 100);
    append(fixture, 1, 10000);
    append(fixture, 20, 50);
    for (uint64_t after = 0; after <= 24; after += after == 0 ? 3 : after == 3 ? 1 : 20) {
        assert_int_equal(recover(fixture, after, &content), ERR_OK);
        assert_holds(&content, after, 24);
    }
    /* What a start found stays, and more goes behind it. */
    assert_int_equal(recover(fixture, 3, &content), ERR_OK);
    assert_holds(&content, 3, 24);
    append(fixture, 2, 10);
    assert_int_equal(recover(fixture, 3, &content), ERR_OK);
    assert_holds(&content, 3, 26);
}

static void
earlier_rounds_are_told_from_the_newest(void **state)
{
    struct fixture *fixture = *state;
    struct stage_content content;

    for (int round = 0; round < 5; round++) {
        uint64_t logged = fixture->next - 1;

        stage_reset(fixture->stage);
        assert_int_equal(recover(fixture, logged, &content), ERR_OK);
        assert_holds(&content, logged, logged);
        for (int i = 0; i < 6 - round; i++) { /* ever shorter rounds leave old entries behind */
            append(fixture, 10, i % 2 == 0 ? 2000 : 100);
            assert_int_equal(recover(fixture, logged, &content), ERR_OK);
            assert_holds(&content, logged, fixture->next - 1);
        }
        stage_reset(fixture->stage);
    }
}

static void
it_is_full_in_time(void **state)
{
    struct fixture *fixture = *state;
    struct stage_content content;
    uint32_t entries = 0;

    assert_false(stage_has_room(fixture->stage, STAGE_ENTRY_BYTES_MAX + 1));
    while (stage_has_room(fixture->stage, STAGE_ENTRY_BYTES_MAX)) {
        append(fixture, 1, STAGE_ENTRY_BYTES_MAX - FRAME_HEADER_SIZE);
        entries++;
    }
    assert_in_range(entries, 6, 8);
    while (stage_has_room(fixture->stage, FRAME_HEADER_SIZE + 1)) {
        append(fixture, 1, 1);
    }
    assert_int_equal(recover(fixture, 0, &content), ERR_OK);
    assert_holds(&content, 0, fixture->next - 1);
    assert_false(stage_has_room(fixture->stage, FRAME_HEADER_SIZE + 1));
}

static void
a_torn_last_entry_was_never_acked_and_ends_the_list(void **state)
{
    struct fixture *fixture = *state;
    struct stage_content content;

    append(fixture, 2, 3000); /* two blocks */
    append(fixture, 2, 3000);
    for (long at = 2 * STAGE_ALIGN; at < 2 * STAGE_ALIGN + STAGE_HEADER_SIZE + 6000; at += 97) {
        change_byte(fixture, at);
        assert_int_equal(recover(fixture, 0, &content), ERR_OK);
        assert_holds(&content, 0, 2);
        change_byte(fixture, at);
    }
    assert_int_equal(recover(fixture, 0, &content), ERR_OK);
    assert_holds(&content, 0, 4);
}

static void
a_damaged_entry_with_others_behind_it_is_named(void **state)
{
    struct fixture *fixture = *state;
    struct stage_content content;

    append(fixture, 4, 10);
    append(fixture, 5, 10);
    append(fixture, 6, 10);
    change_byte(fixture, STAGE_ALIGN + 100);
    assert_int_equal(recover(fixture, 0, &content), ERR_CORRUPT);
    assert_int_equal(content.missing_first, 5);
    assert_int_equal(content.missing_last, 9);
    assert_holds(&content, 0, 4);
    /* Once LMDB has them the damage is nobody's loss. */
    assert_int_equal(recover(fixture, 15, &content), ERR_OK);
    assert_holds(&content, 15, 15);
}

static void
a_log_older_than_its_stage_is_not_joined_with_it(void **state)
{
    struct fixture *fixture = *state;
    struct stage_content content;

    fixture->next = 101;
    append(fixture, 10, 10);
    assert_int_equal(recover(fixture, 100, &content), ERR_OK);
    assert_holds(&content, 100, 110);
    assert_int_equal(recover(fixture, 90, &content), ERR_CORRUPT);
    assert_int_equal(content.missing_first, 91);
    assert_int_equal(content.missing_last, 100);
    assert_holds(&content, 90, 90);
}

/* What a newer build has acknowledged is not taken for something torn. */
static void
an_entry_of_a_newer_version_is_refused_unless_the_log_has_it(void **state)
{
    struct fixture *fixture = *state;
    struct stage_content content;
    struct buffer bytes = BUFFER_EMPTY;
    uint8_t *header;
    uint32_t len;

    append(fixture, 3, 100);
    assert_int_equal(stage_copy(fixture->dir, &bytes), ERR_OK);
    header = (uint8_t *)bytes.data;
    len = get_u32(header + 12);
    put_u32(header + 8, 2);
    put_u32(header + 4, crc32c(0, bytes.data + 8, STAGE_HEADER_SIZE - 8 + len));
    assert_int_equal(stage_parse(buffer_span(&bytes), NODE, 0, &content), ERR_CORRUPT);
    assert_int_equal(content.missing_first, 1);
    assert_int_equal(content.missing_last, 3);
    buffer_free(&content.frames);
    assert_int_equal(stage_parse(buffer_span(&bytes), NODE, 3, &content), ERR_OK);
    assert_holds(&content, 3, 3);
    buffer_free(&bytes);
}

static void
another_logs_stage_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct stage_content content;
    struct buffer bytes = BUFFER_EMPTY;

    append(fixture, 3, 10);
    assert_int_equal(stage_copy(fixture->dir, &bytes), ERR_OK);
    assert_int_equal(bytes.len, STAGE_BYTES);
    assert_int_equal(stage_parse(buffer_span(&bytes), OTHER, 0, &content), ERR_CORRUPT);
    assert_non_null(strstr(content.why, "another log's"));
    buffer_free(&content.frames);
    assert_int_equal(stage_parse(buffer_span(&bytes), NODE, 0, &content), ERR_OK);
    assert_holds(&content, 0, 3);
    buffer_free(&bytes);
}

static void
a_missing_or_short_file_holds_what_it_holds(void **state)
{
    struct fixture *fixture = *state;
    struct stage_content content;
    struct buffer bytes = BUFFER_EMPTY;
    char path[128];

    append(fixture, 1, 10);
    append(fixture, 1, 10);
    path_of(fixture, path);
    assert_int_equal(truncate(path, STAGE_ALIGN + 20), 0);
    assert_int_equal(recover(fixture, 0, &content), ERR_OK);
    assert_holds(&content, 0, 1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(stage_copy(fixture->dir, &bytes), ERR_OK);
    assert_int_equal(bytes.len, 0);
    assert_int_equal(stage_parse(buffer_span(&bytes), NODE, 9, &content), ERR_OK);
    assert_holds(&content, 9, 9);
}

struct looker {
    const char *dir;
    _Atomic uint64_t logged; /* what LMDB would have */
    atomic_bool stop;
    uint64_t copies;
    uint64_t damaged;
};

/* As inspect and verify do it: the copy first, then what LMDB has. */
static void *
look_again_and_again(void *arg)
{
    struct looker *looker = arg;

    do {
        struct buffer bytes = BUFFER_EMPTY;
        struct stage_content content = {.frames = BUFFER_EMPTY};
        enum err err = stage_copy(looker->dir, &bytes);

        ASSERT(err == ERR_OK);
        err = stage_parse(buffer_span(&bytes), NODE, atomic_load(&looker->logged), &content);
        looker->damaged += err != ERR_OK;
        looker->copies++;
        buffer_free(&content.frames);
        buffer_free(&bytes);
    } while (!atomic_load(&looker->stop));
    return NULL;
}

static void
a_copy_beside_a_writer_never_looks_damaged(void **state)
{
    struct fixture *fixture = *state;
    struct looker looker = {.dir = fixture->dir};
    pthread_t thread;

    no_syncs = true; /* so that many entries are written during one copy */
    assert_int_equal(pthread_create(&thread, NULL, look_again_and_again, &looker), 0);
    for (int i = 0; i < 20000; i++) {
        const size_t size = i % 7 == 0 ? 9000 : 100;

        if (!stage_has_room(fixture->stage, size + FRAME_HEADER_SIZE)) {
            atomic_store(&looker.logged, fixture->next - 1);
            stage_reset(fixture->stage);
        }
        append(fixture, 1, size);
    }
    atomic_store(&looker.stop, true);
    pthread_join(thread, NULL);
    no_syncs = false;
    assert_true(looker.copies > 0);
    assert_int_equal(looker.damaged, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_new_stage_is_laid_out_whole_and_holds_nothing),
        TEST(what_was_appended_is_found_after_the_last_record_of_the_log),
        TEST(earlier_rounds_are_told_from_the_newest),
        TEST(it_is_full_in_time),
        TEST(a_torn_last_entry_was_never_acked_and_ends_the_list),
        TEST(a_damaged_entry_with_others_behind_it_is_named),
        TEST(a_log_older_than_its_stage_is_not_joined_with_it),
        TEST(an_entry_of_a_newer_version_is_refused_unless_the_log_has_it),
        TEST(another_logs_stage_is_refused),
        TEST(a_missing_or_short_file_holds_what_it_holds),
        TEST(a_copy_beside_a_writer_never_looks_damaged),
    };

    log_setup(LOG_ERROR, LOG_TEXT, 2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
