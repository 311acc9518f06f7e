/*
 * test_openmetrics.c - who gets OpenMetrics, and what it makes of the classic text.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "http/openmetrics.h"

static void
it_is_given_to_who_prefers_it_or_likes_it_as_well(void **state)
{
    static const struct {
        const char *accept;
        bool wanted;
    } ROWS[] = {
        {"", false},
        {"*/*", false},
        {"text/plain", false},
        {"text/*", false},
        {"application/openmetrics-text", true},
        {"Application/OpenMetrics-Text; version=1.0.0", true},
        {"application/openmetrics-text;version=1.0.0;q=0", false},
        {"application/openmetrics-text;q=0.000, text/plain", false},
        {"application/openmetrics-text; q=0.5, text/plain; q=0.4", true},
        {"application/openmetrics-text;q=0.4,text/plain;q=0.5", false},
        {"application/openmetrics-text;q=0.5,text/plain;q=0.5", true},
        {"text/plain;q=0.3, application/openmetrics-text", true},
        {"text/plain, application/openmetrics-text;Q=0.9", false},
        {"application/openmetrics-text-not", false},
        {"x-application/openmetrics-text", false},
        {"application/openmetrics-text;q=,text/plain;q=0.9", true}, /* no weight counts as 1 */
        {"application/openmetrics-text;q=2,text/plain", true},
        {"application/openmetrics-text;q=0.12345,text/plain", true},
        {",,;;=,", false},
        {";q=1", false},
        /* Prometheus 2.42 */
        {"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
         "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
         true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        /* A copy of its exact size, so that reading past it is seen. */
        size_t len = strlen(ROWS[i].accept);
        char *accept = malloc(len + 1);

        assert_non_null(accept);
        memcpy(accept, ROWS[i].accept, len);
        accept = realloc(accept, len > 0 ? len : 1);
        assert_non_null(accept);
        if (openmetrics_wanted((struct span){accept, len}) != ROWS[i].wanted) {
            fail_msg("Accept: %s", ROWS[i].accept);
        }
        free(accept);
    }
}

static void
assert_becomes(const char *classic, const char *expected)
{
    struct buffer out = BUFFER_EMPTY;

    openmetrics_write(span_of(classic), &out);
    buffer_append_char(&out, '\0');
    assert_false(out.failed);
    assert_string_equal(out.data, expected);
    buffer_free(&out);
}

static void
a_counter_s_family_loses_its_suffix_and_its_samples_keep_it(void **state)
{
    (void)state;
    assert_becomes("# HELP a_total What a is.\n# TYPE a_total counter\na_total{x=\"1\"} 7\n",
                   "# HELP a What a is.\n# TYPE a counter\na_total{x=\"1\"} 7\n# EOF\n");
    /* Only of counters. */
    assert_becomes("# HELP a_total A.\n# TYPE a_total gauge\na_total 7\n",
                   "# HELP a_total A.\n# TYPE a_total gauge\na_total 7\n# EOF\n");
    assert_becomes("# HELP a A.\n# TYPE a counter\na 7\n",
                   "# HELP a A.\n# TYPE a counter\na 7\n# EOF\n");
}

static void
a_name_s_unit_is_told(void **state)
{
    (void)state;
    assert_becomes("# HELP cpu_seconds_total C.\n# TYPE cpu_seconds_total counter\n"
                   "cpu_seconds_total 1.5\n",
                   "# HELP cpu_seconds C.\n# TYPE cpu_seconds counter\n# UNIT cpu_seconds seconds\n"
                   "cpu_seconds_total 1.5\n# EOF\n");
    assert_becomes(
        "# HELP m_bytes M.\n# TYPE m_bytes gauge\nm_bytes 2\n",
        "# HELP m_bytes M.\n# TYPE m_bytes gauge\n# UNIT m_bytes bytes\nm_bytes 2\n# EOF\n");
    assert_becomes("# HELP megabytes M.\n# TYPE megabytes gauge\n",
                   "# HELP megabytes M.\n# TYPE megabytes gauge\n# EOF\n");
    assert_becomes("# HELP bytes_limit M.\n# TYPE bytes_limit gauge\n",
                   "# HELP bytes_limit M.\n# TYPE bytes_limit gauge\n# EOF\n");
}

static void
bounds_of_buckets_are_floats(void **state)
{
    (void)state;
    assert_becomes(
        "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"10\"} 2\n"
        "h_bucket{p=\"0\",le=\"65536\"} 2\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n",
        "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\n"
        "h_bucket{le=\"10.0\"} 2\nh_bucket{p=\"0\",le=\"65536.0\"} 2\n"
        "h_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n# EOF\n");
    /* A label that only ends like it, or a value that only looks like it. */
    assert_becomes("a{file=\"1\"} 1\n", "a{file=\"1\"} 1\n# EOF\n");
    assert_becomes("a{s=\",le=\\\"1\\\"\"} 1\n", "a{s=\",le=\\\"1\\\"\"} 1\n# EOF\n");
}

static void
odd_texts_end_well(void **state)
{
    (void)state;
    assert_becomes("", "# EOF\n");
    assert_becomes("\n\n", "# EOF\n");
    assert_becomes("a 1", "a 1\n# EOF\n");
    assert_becomes("# HELP a\n# TYPE a\n", "# HELP a \n# TYPE a \n# EOF\n");
    assert_becomes("a{le=\"1", "a{le=\"1\n# EOF\n");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_given_to_who_prefers_it_or_likes_it_as_well),
        cmocka_unit_test(a_counter_s_family_loses_its_suffix_and_its_samples_keep_it),
        cmocka_unit_test(a_name_s_unit_is_told),
        cmocka_unit_test(bounds_of_buckets_are_floats),
        cmocka_unit_test(odd_texts_end_well),
    };

    (void)alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
