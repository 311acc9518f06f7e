/*
 * test_whole_file.c - a file that is always whole.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/whole_file.h"

enum {
    MOST = 100
};

static enum err
write_text(const char *path, const char *first, const char *second)
{
    const struct span parts[] = {span_of(first), span_of(second)};

    return whole_file_write(path, parts, ARRAY_LEN(parts));
}

static void
assert_holds(const char *path, const char *text)
{
    struct buffer bytes = BUFFER_EMPTY;

    assert_int_equal(whole_file_read(path, MOST, &bytes), ERR_OK);
    assert_true(span_is(buffer_span(&bytes), text));
    buffer_free(&bytes);
}

static void
a_file_is_replaced_as_a_whole(void **state)
{
    struct buffer bytes = BUFFER_EMPTY;

    (void)state;
    assert_int_equal(whole_file_read("f", MOST, &bytes), ERR_NOT_FOUND);
    assert_int_equal(write_text("f", "on", "e"), ERR_OK);
    assert_holds("f", "one");
    assert_int_equal(write_text("./f", "another", ""), ERR_OK);
    assert_holds("f", "another");
    assert_int_equal(access("f.new", F_OK), -1);
    buffer_free(&bytes);
}

static void
what_is_in_the_way_keeps_the_old_file(void **state)
{
    (void)state;
    assert_int_equal(write_text("f", "old", ""), ERR_OK);
    assert_int_equal(mkdir("f.new", 0700), 0);
    assert_int_equal(write_text("f", "new", ""), ERR_IO);
    assert_int_equal(errno, EISDIR);
    assert_holds("f", "old");
    assert_int_equal(rmdir("f.new"), 0);
    assert_int_equal(write_text("no-such-dir/f", "x", ""), ERR_IO);
    assert_int_equal(errno, ENOENT);
}

static void
what_cannot_be_read_is_told_apart(void **state)
{
    struct buffer bytes = BUFFER_EMPTY;
    char text[MOST + 2];

    (void)state;
    assert_int_equal(whole_file_read("no-such-dir/f", MOST, &bytes), ERR_NOT_FOUND);
    assert_int_equal(whole_file_read(".", MOST, &bytes), ERR_IO);
    memset(text, 'x', sizeof(text));
    text[MOST] = '\0';
    assert_int_equal(write_text("long", text, ""), ERR_OK);
    assert_holds("long", text);
    assert_int_equal(write_text("long", text, "x"), ERR_OK);
    assert_int_equal(whole_file_read("long", MOST, &bytes), ERR_TOO_BIG);
    buffer_free(&bytes);
}

static void
a_full_disk_is_told(void **state)
{
    (void)state;
    if (access("/dev/full", W_OK) != 0) {
        print_message("there is no /dev/full here\n");
        skip();
    }
    assert_int_equal(symlink("/dev/full", "full.new"), 0);
    assert_int_equal(write_text("full", "x", ""), ERR_NO_SPACE);
    assert_int_equal(access("full", F_OK), -1);
    assert_int_equal(unlink("full.new"), 0);
}

static int
enter_directory(void **state)
{
    const char *tmp = getenv("TMPDIR");
    char path[WHOLE_FILE_PATH_SIZE];

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/whole-file-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    return mkdtemp(path) == NULL ? -1 : chdir(path);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_replaced_as_a_whole),
        cmocka_unit_test(what_is_in_the_way_keeps_the_old_file),
        cmocka_unit_test(what_cannot_be_read_is_told_apart),
        cmocka_unit_test(a_full_disk_is_told),
    };

    return cmocka_run_group_tests(tests, enter_directory, NULL);
}
