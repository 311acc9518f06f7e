/* Members of an object being written: escapes, absence, one line, times at the calendar's edges. */
#include "core/base/json_member.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/timestamp.h"

static void
expect(struct buffer *out, const char *text)
{
    assert_false(out->failed);
    assert_int_equal(out->len, strlen(text));
    assert_memory_equal(out->data, text, out->len);
    buffer_free(out);
}

static void
text_is_escaped_and_null_when_absent(void **state)
{
    struct buffer out = BUFFER_EMPTY;

    (void)state;
    json_member_text(&out, "a", SPAN_LITERAL("x\"\n\\"));
    json_member_text(&out, "b", SPAN_LITERAL(""));
    json_member_text(&out, "c", (struct span){NULL, 0});
    expect(&out, ",\"a\":\"x\\\"\\n\\\\\",\"b\":\"\",\"c\":null");
}

static void
raw_json_stays_as_it_is_but_on_one_line(void **state)
{
    struct buffer out = BUFFER_EMPTY;

    (void)state;
    buffer_append_text(&out, "before\n");
    json_member_raw(&out, "a", SPAN_LITERAL("{\"x\":\r\n [1.50, \"\\n\"]\n}"));
    json_member_raw(&out, "b", (struct span){NULL, 0});
    expect(&out, "before\n,\"a\":{\"x\":   [1.50, \"\\n\"] },\"b\":null");
}

static void
times_outside_of_the_calendar_are_null(void **state)
{
    struct buffer out = BUFFER_EMPTY;

    (void)state;
    json_member_time(&out, "a", 0);
    json_member_time(&out, "b", TIMESTAMP_MIN_US);
    json_member_time(&out, "c", TIMESTAMP_MIN_US - 1);
    json_member_time(&out, "d", TIMESTAMP_MAX_US + 1);
    expect(&out, ",\"a\":\"1970-01-01T00:00:00Z\",\"b\":\"0001-01-01T00:00:00Z\",\"c\":null,"
                 "\"d\":null");
}

static void
a_moment_that_has_not_come_is_null(void **state)
{
    struct buffer out = BUFFER_EMPTY;

    (void)state;
    json_member_moment(&out, "a", 0);
    json_member_moment(&out, "b", 1500000);
    expect(&out, ",\"a\":null,\"b\":\"1970-01-01T00:00:01.500Z\"");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_escaped_and_null_when_absent),
        cmocka_unit_test(raw_json_stays_as_it_is_but_on_one_line),
        cmocka_unit_test(times_outside_of_the_calendar_are_null),
        cmocka_unit_test(a_moment_that_has_not_come_is_null),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
