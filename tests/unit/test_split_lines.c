/* Lines, cut at every place. */
#include "tests/unit/split_case.h"

static void
lines_become_elements_without_the_space_around_them(void **state)
{
    static const struct split_case CASES[] = {
        {"", ".\n"},
        {"{}", "{}\n.\n"},
        {"{}\n", "{}\n.\n"},
        {"{}\r\n[1]\r\n", "{}\n[1]\n.\n"},
        {"\n\r\n  \t\r\n{} \n\n x y\t", "{}\nx y\n.\n"},
    };

    (void)state;
    split_case_check(SPLIT_LINES, CASES, ARRAY_LEN(CASES));
}

static void
a_line_that_is_too_long_is_bad_and_the_next_is_not(void **state)
{
    static const struct split_case CASES[] = {
        {HUNDRED "\n{}", HUNDRED "\n{}\n.\n"},
        {HUNDRED "x\n{}", "!" TOO_LONG "\n{}\n.\n"},
        {"{}\n" HUNDRED HUNDRED, "{}\n!" TOO_LONG "\n.\n"},
    };

    (void)state;
    split_case_check(SPLIT_LINES, CASES, ARRAY_LEN(CASES));
}

int
main(void)
{
    static const struct CMUnitTest TESTS[] = {
        cmocka_unit_test(lines_become_elements_without_the_space_around_them),
        cmocka_unit_test(a_line_that_is_too_long_is_bad_and_the_next_is_not),
    };

    return cmocka_run_group_tests(TESTS, NULL, NULL);
}
