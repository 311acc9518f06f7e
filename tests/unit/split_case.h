/*
 * split_case.h - a splitter's steps written down as text, the same for every way to cut the input.
 *
 *   element'\n'   !why'\n' for a bad one   #why'\n' for broken   .'\n' for done
 */
#ifndef SLUICE_TESTS_UNIT_SPLIT_CASE_H
#define SLUICE_TESTS_UNIT_SPLIT_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "core/event/split.h"

enum {
    SPLIT_CASE_MAX = 100 /* bytes of an element */
};

struct split_case {
    const char *text;
    const char *steps;
};

static bool
split_case_note(struct splitter *splitter, struct buffer *steps)
{
    for (;;) {
        struct span element = {NULL, 0};
        enum split_step step = split_next(splitter, &element);

        switch (step) {
        case SPLIT_MORE:
            return true;
        case SPLIT_ELEMENT:
            buffer_append_span(steps, element);
            break;
        case SPLIT_BAD:
        case SPLIT_BROKEN:
            assert_non_null(splitter->error.code);
            buffer_append_char(steps, step == SPLIT_BAD ? '!' : '#');
            buffer_append_text(steps, splitter->error.text);
            break;
        case SPLIT_DONE:
            buffer_append_char(steps, '.');
            break;
        case SPLIT_NO_MEMORY:
            fail();
        }
        buffer_append_char(steps, '\n');
        if (step == SPLIT_DONE || step == SPLIT_BROKEN) {
            return false;
        }
    }
}

static void
split_case_run(enum split_format format, struct span text, size_t piece, struct buffer *steps)
{
    struct splitter splitter;
    bool open = true;

    split_init(&splitter, format, SPLIT_CASE_MAX);
    for (size_t at = 0; open && at < text.len; at += piece) {
        size_t len = text.len - at < piece ? text.len - at : piece;
        char *copy = malloc(len); /* of the exact size, and gone afterwards */

        assert_non_null(copy);
        memcpy(copy, text.data + at, len);
        split_feed(&splitter, (struct span){copy, len});
        open = split_case_note(&splitter, steps);
        free(copy);
    }
    if (open) {
        split_end(&splitter);
        assert_false(split_case_note(&splitter, steps));
    }
    assert_true(split_memory(&splitter) < 16 * 1024);
    split_fini(&splitter);
    assert_int_equal(split_memory(&splitter), 0);
}

static void
split_case_check(enum split_format format, const struct split_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct span text = span_of(cases[i].text);

        for (size_t piece = 1; piece <= text.len + 1; piece++) {
            struct buffer steps = BUFFER_EMPTY;

            split_case_run(format, text, piece, &steps);
            buffer_append_char(&steps, '\0');
            if (strcmp(steps.data, cases[i].steps) != 0) {
                print_error("%s\nin pieces of %zu\n", cases[i].text, piece);
            }
            assert_string_equal(steps.data, cases[i].steps);
            buffer_free(&steps);
        }
    }
}

#define TEN "0123456789"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN
#define TOO_LONG "the event is larger than MAX_EVENT_BYTES"

#endif
