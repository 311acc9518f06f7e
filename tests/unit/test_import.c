/* What an import must get right without a server: ids of elements, its state, places in a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/import_event.h"
#include "cli/import_file.h"
#include "cli/import_state.h"

static void
write_file(const char *path, const char *bytes, size_t len)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

/* ---- ids ---- */

static void
assert_line(const char *text, const char *line)
{
    struct buffer scratch = BUFFER_EMPTY;
    struct buffer out = BUFFER_EMPTY;
    struct decode_error error;

    assert_int_equal(import_event_append(span_of(text), "f", 7, &scratch, &out, &error), ERR_OK);
    buffer_append_char(&out, '\0');
    assert_string_equal(out.data, line);
    buffer_free(&scratch);
    buffer_free(&out);
}

static void
only_an_element_without_an_id_gets_one(void **state)
{
    (void)state;
    assert_line("{}", "{\"event_id\":\"f-7\"}\n");
    assert_line("{ }", "{\"event_id\":\"f-7\" }\n");
    assert_line("{\"type\":\"t\"}", "{\"event_id\":\"f-7\",\"type\":\"t\"}\n");
    assert_line("{\"type\":\"t\",\"event_id\":null}", "{\"type\":\"t\",\"event_id\":\"f-7\"}\n");
    assert_line("{\"event_id\":\"\",\"type\":\"t\"}", "{\"event_id\":\"f-7\",\"type\":\"t\"}\n");
    assert_line("{\"event\\u005fid\":null}", "{\"event\\u005fid\":\"f-7\"}\n");
    assert_line("{\"event_id\":\"a\",\"type\":\"t\"}", "{\"event_id\":\"a\",\"type\":\"t\"}\n");
    assert_line("{\"id\":\"a\"}", "{\"id\":\"a\"}\n");
    assert_line("{\"id\":\"\"}", "{\"event_id\":\"f-7\",\"id\":\"\"}\n");
    /* This shape has its content as id. */
    assert_line("{\"event_name\":\"e\",\"channel\":\"c\",\"user_id\":\"u\",\"timestamp\":5}",
                "{\"event_name\":\"e\",\"channel\":\"c\",\"user_id\":\"u\",\"timestamp\":5}\n");
}

static void
an_element_is_one_line(void **state)
{
    (void)state;
    assert_line("{\"id\":\"a\",\n\"payload\":{\n}}", "{\"id\":\"a\", \"payload\":{ }}\n");
    assert_line("{\n\"payload\":{}}", "{\"event_id\":\"f-7\", \"payload\":{}}\n");
}

static void
what_is_no_event_leaves_the_bulk_as_it_was(void **state)
{
    static const char *const BAD[] = {"", "[]", "{", "{\"type\":7}", "{\"event_id\":5}"};
    struct buffer scratch = BUFFER_EMPTY;
    struct buffer out = BUFFER_EMPTY;

    (void)state;
    buffer_append_text(&out, "before");
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        struct decode_error error = {NULL, ""};

        assert_int_equal(import_event_append(span_of(BAD[i]), "f", 1, &scratch, &out, &error),
                         ERR_INVALID);
        assert_non_null(error.code);
        assert_true(span_is(buffer_span(&out), "before"));
    }
    buffer_free(&scratch);
    buffer_free(&out);
}

/* ---- state ---- */

static void
state_reads_back_what_was_saved(void **state)
{
    const char *path = "import.state";
    struct import_state saved = {.identity = {.size = 123},
                                 .name = "na/me",
                                 .url = "http://h:1/",
                                 .place = {4, 5},
                                 .accepted = 6,
                                 .duplicates = 7,
                                 .rejected = 8,
                                 .rejects_bytes = 9};
    struct import_state read;
    struct buffer problem = BUFFER_EMPTY;

    (void)state;
    unlink(path);
    assert_int_equal(import_state_load(path, &read, &problem), ERR_NOT_FOUND);
    memset(saved.identity.digest, 0xA5, sizeof(saved.identity.digest));
    for (int i = 0; i < 2; i++) {
        saved.done = i == 1;
        assert_int_equal(import_state_save(path, &saved, &problem), ERR_OK);
        assert_int_equal(import_state_load(path, &read, &problem), ERR_OK);
        assert_int_equal(read.done, saved.done);
        assert_memory_equal(&read.identity, &saved.identity, sizeof(read.identity));
        assert_string_equal(read.name, saved.name);
        assert_string_equal(read.url, saved.url);
        assert_int_equal(read.place.offset, 4);
        assert_int_equal(read.place.lines, 5);
        assert_int_equal(read.accepted, 6);
        assert_int_equal(read.duplicates, 7);
        assert_int_equal(read.rejected, 8);
        assert_int_equal(read.rejects_bytes, 9);
    }
    assert_int_equal(problem.len, 0);
    unlink(path);
}

static void
state_that_is_none_is_refused(void **state)
{
    const char *path = "import.state";
    struct import_state saved = {.name = "n", .url = "u"};
    struct import_state read;
    struct buffer problem = BUFFER_EMPTY;
    char text[1024];
    FILE *file;
    size_t len;

    (void)state;
    assert_int_equal(import_state_save(path, &saved, &problem), ERR_OK);
    file = fopen(path, "rb");
    assert_non_null(file);
    len = fread(text, 1, sizeof(text), file);
    fclose(file);
    for (size_t cut = 0; cut + 1 < len;
         cut++) { /* without its last byte, a line end, it is whole */
        write_file(path, text, cut);
        assert_int_equal(import_state_load(path, &read, &problem), ERR_FORMAT);
    }
    text[strlen("{\"version\":")] = '2';
    write_file(path, text, len);
    assert_int_equal(import_state_load(path, &read, &problem), ERR_FORMAT);
    buffer_free(&problem);
    assert_int_equal(import_state_save("no/such/folder", &saved, &problem), ERR_IO);
    assert_true(problem.len > 0);
    buffer_free(&problem);
    unlink(path);
}

/* ---- places ---- */

static struct import_file *
open_file(const char *path, enum split_format format)
{
    struct buffer problem = BUFFER_EMPTY;
    struct import_file *file = NULL;

    assert_int_equal(import_file_open(&file, path, format, 1024, &problem), ERR_OK);
    return file;
}

/* From every place between two elements reading goes on with the same elements and lines. */
static void
assert_resumable(const char *text, enum split_format format, size_t elements)
{
    struct import_place place[16];
    struct buffer found[16] = {BUFFER_EMPTY};
    uint64_t line[16];
    struct buffer problem = BUFFER_EMPTY;
    struct import_element element;
    struct import_file *file;
    size_t count = 0;

    write_file("import.file", text, strlen(text));
    file = open_file("import.file", format);
    place[0] = import_file_place(file);
    assert_int_equal(place[0].offset, 0);
    while (import_file_next(file, &element, &problem) == IMPORT_ELEMENT) {
        buffer_append_span(&found[count], element.text);
        line[count++] = element.line;
        place[count] = import_file_place(file);
    }
    assert_int_equal(count, elements);
    for (size_t from = 0; from <= count; from++) {
        assert_int_equal(import_file_seek(file, &place[from], &problem), ERR_OK);
        for (size_t i = from; i < count; i++) {
            assert_int_equal(import_file_next(file, &element, &problem), IMPORT_ELEMENT);
            assert_true(span_equal(element.text, buffer_span(&found[i])));
            assert_int_equal(element.line, line[i]);
            assert_int_equal(import_file_place(file).offset, place[i + 1].offset);
        }
        assert_int_equal(import_file_next(file, &element, &problem), IMPORT_END);
    }
    for (size_t i = 0; i < count; i++) {
        assert_true(i == 0 || line[i] > line[i - 1]);
        buffer_free(&found[i]);
    }
    assert_int_equal(problem.len, 0);
    import_file_close(file);
    unlink("import.file");
}

static void
reading_goes_on_from_any_place(void **state)
{
    (void)state;
    assert_resumable("{}\n{\"a\":1}\n\n{\"b\":2}", SPLIT_LINES, 3);
    assert_resumable("\xEF\xBB\xBF{}\r\n{\"a\":1}\r\n", SPLIT_LINES, 2);
    assert_resumable("", SPLIT_LINES, 0);
    assert_resumable("\n\n", SPLIT_LINES, 0);
    assert_resumable("a,b\n1,2\n\n\"x\ny\",\"\"\"\"\n3,4", SPLIT_CSV, 3);
    assert_resumable("\xEF\xBB\xBF\"a\nb\",c\r\n1,2\r\n3,4\r\n", SPLIT_CSV, 2);
    assert_resumable("a,b\n", SPLIT_CSV, 0);
}

static void
a_file_is_locked_while_it_is_read(void **state)
{
    struct buffer problem = BUFFER_EMPTY;
    struct import_file *first;
    struct import_file *second = NULL;

    (void)state;
    write_file("import.file", "{}", 2);
    first = open_file("import.file", SPLIT_LINES);
    assert_int_equal(import_file_open(&second, "import.file", SPLIT_LINES, 1024, &problem),
                     ERR_LOCKED);
    assert_true(problem.len > 0);
    import_file_close(first);
    import_file_close(open_file("import.file", SPLIT_LINES));
    buffer_free(&problem);
    unlink("import.file");
}

static void
a_change_of_the_file_is_seen(void **state)
{
    struct buffer problem = BUFFER_EMPTY;
    struct import_identity before;
    struct import_identity after;
    struct import_file *file;

    (void)state;
    write_file("import.file", "{\"a\":1}", 7);
    file = open_file("import.file", SPLIT_LINES);
    assert_int_equal(import_file_identify(file, &before, &problem), ERR_OK);
    assert_true(import_file_is_unchanged(file));
    assert_int_equal(before.size, 7);
    write_file("import.file", "{\"a\":2}\n", 8);
    assert_false(import_file_is_unchanged(file));
    import_file_close(file);
    file = open_file("import.file", SPLIT_LINES);
    assert_int_equal(import_file_identify(file, &after, &problem), ERR_OK);
    assert_memory_not_equal(before.digest, after.digest, sizeof(before.digest));
    import_file_close(file);
    unlink("import.file");
}

static int
enter_scratch(void **state)
{
    char path[] = "/tmp/sluice-import-XXXXXX";
    const char *base = getenv("TMPDIR");

    (void)state;
    return chdir(base != NULL ? base : mkdtemp(path));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_an_element_without_an_id_gets_one),
        cmocka_unit_test(an_element_is_one_line),
        cmocka_unit_test(what_is_no_event_leaves_the_bulk_as_it_was),
        cmocka_unit_test(state_reads_back_what_was_saved),
        cmocka_unit_test(state_that_is_none_is_refused),
        cmocka_unit_test(reading_goes_on_from_any_place),
        cmocka_unit_test(a_file_is_locked_while_it_is_read),
        cmocka_unit_test(a_change_of_the_file_is_seen),
    };

    return cmocka_run_group_tests(tests, enter_scratch, NULL);
}
