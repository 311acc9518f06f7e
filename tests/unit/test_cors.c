/*
 * test_cors.c - which origins a list allows, and what an answer then says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "http/cors.h"

static const char *const LIST = "https://a.example, http://localhost:3000 ,https://[::1]:8443";

static void
a_list_holds_origins_and_nothing_else(void **state)
{
    static const char *const GOOD[] = {"*", LIST, "https://a.example", "app+x://host"};
    static const char *const BAD[] = {
        "",
        "a.example",
        "https://",
        "://a",
        "https://a/",
        "https://A",
        "https://a,",
        ",https://a",
        "https://a,*",
        "**",
        "null",
        "https://a?b",
        "https://u@a",
        "https://a\r\nX: y",
        "HTTPS://a",
        "https://*.example.com",
        "https://a https://b",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(GOOD); i++) {
        if (!cors_is_valid(GOOD[i])) {
            fail_msg("refused: %s", GOOD[i]);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        if (cors_is_valid(BAD[i])) {
            fail_msg("taken: %s", BAD[i]);
        }
    }
}

static void
an_origin_is_allowed_when_it_stands_in_the_list_as_it_came(void **state)
{
    static const struct {
        const char *origin;
        bool allowed;
    } ROWS[] = {
        {"https://a.example", true},
        {"http://localhost:3000", true},
        {"https://[::1]:8443", true},
        {"https://a.exampl", false},
        {"https://a.example.evil", false},
        {"https://a.example:443", false},
        {"http://a.example", false},
        {"http://localhost", false},
        {"null", false},
        {"", false},
        {"*", false},
        {"https://a.example, http://localhost:3000", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        assert_int_equal(cors_allows(LIST, span_of(ROWS[i].origin)), ROWS[i].allowed);
        assert_false(cors_allows(NULL, span_of(ROWS[i].origin)));
        assert_false(cors_allows("", span_of(ROWS[i].origin)));
    }
    assert_true(cors_allows("*", SPAN_LITERAL("https://anyone.example")));
    assert_true(cors_allows("*", SPAN_LITERAL("null")));
    assert_false(cors_allows("*", SPAN_LITERAL("")));
}

static void
assert_writes(const char *origins, const char *origin, const char *expected)
{
    struct buffer out = BUFFER_EMPTY;

    cors_write(origins, span_of(origin), &out);
    buffer_append_char(&out, '\0');
    assert_string_equal(out.data, expected);
    buffer_free(&out);
}

static void
answers_name_the_origin_they_are_for(void **state)
{
    static const char EXPOSE[] =
        "Access-Control-Expose-Headers: X-Request-ID, Retry-After, Allow, RateLimit, "
        "RateLimit-Policy\r\n";
    char expected[512];

    (void)state;
    assert_writes(NULL, "https://a.example", "");
    assert_writes("", "https://a.example", "");
    assert_writes(LIST, "", "Vary: Origin\r\n");
    assert_writes(LIST, "https://evil.example", "Vary: Origin\r\n");
    (void)snprintf(expected, sizeof(expected),
                   "Vary: Origin\r\nAccess-Control-Allow-Origin: http://localhost:3000\r\n%s",
                   EXPOSE);
    assert_writes(LIST, "http://localhost:3000", expected);
    (void)snprintf(expected, sizeof(expected), "Access-Control-Allow-Origin: *\r\n%s", EXPOSE);
    assert_writes("*", "https://evil.example", expected);
    assert_writes("*", "", expected);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_holds_origins_and_nothing_else),
        cmocka_unit_test(an_origin_is_allowed_when_it_stands_in_the_list_as_it_came),
        cmocka_unit_test(answers_name_the_origin_they_are_for),
    };

    (void)alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
