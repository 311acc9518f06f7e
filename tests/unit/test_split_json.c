/* JSON texts, cut at every place. */
#include "tests/unit/split_case.h"

#define EARLY "#invalid JSON payload: the text ends too early\n"

static void
an_array_becomes_its_elements(void **state)
{
    static const struct split_case CASES[] = {
        {"[]", ".\n"},
        {" [ ] \n", ".\n"},
        {"[{}]", "{}\n.\n"},
        {"[{\"a\":[1,{\"b\":\"]}\"}]} , {\"c\":\"\\\"\\\\\"}]",
         "{\"a\":[1,{\"b\":\"]}\"}]}\n{\"c\":\"\\\"\\\\\"}\n.\n"},
        {"[1,\"a,]\", null ,-1.5e3,[[]],true]", "1\n\"a,]\"\nnull\n-1.5e3\n[[]]\ntrue\n.\n"},
    };

    (void)state;
    split_case_check(SPLIT_JSON, CASES, ARRAY_LEN(CASES));
}

static void
the_member_events_of_an_object_is_the_array(void **state)
{
    static const struct split_case CASES[] = {
        {"{\"events\":[{},{}]}", "{}\n{}\n.\n"},
        {" { \"events\" : [ {} ] } ", "{}\n.\n"},
        {"{\"a\":{\"events\":[1]},\"\\u0065vents\":[{}],\"z\":2}", "{}\n.\n"},
        {"{\"events\":[]}", ".\n"},
    };

    (void)state;
    split_case_check(SPLIT_JSON, CASES, ARRAY_LEN(CASES));
}

static void
what_is_no_such_text_is_broken_where_that_is_seen(void **state)
{
    static const struct split_case CASES[] = {
        {"", EARLY},
        {" ", EARLY},
        {"[", EARLY},
        {"[{}", "{}\n" EARLY},
        {"[{},", "{}\n" EARLY},
        {"[{\"a\"", EARLY},
        {"[\"a\\\"", EARLY},
        {"{\"events\":[{}]", "{}\n" EARLY},
        {"null", "#an array, or an object with the array `events`, is expected\n"},
        {"[{} {}]", "{}\n#a comma or the end of the array is expected\n"},
        {"[{}}", "{}\n#a comma or the end of the array is expected\n"},
        {"[{}],", "{}\n#something follows the end of the value\n"},
        {"{}", "#events required\n"},
        {"{\"type\":\"t\"}", "#events required\n"},
        {"{\"events\":{}}", "#events must be an array\n"},
        {"{\"events\":null}", "#events must be an array\n"},
        {"{\"events\":[],\"events\":[]}", "#a member name that the object already has\n"},
        {"{\"events\":[],}", "#a member name in double quotes is expected\n"},
        {"{events:[]}", "#a member name in double quotes is expected\n"},
        {"{\"events\" []}", "#a colon is expected\n"},
        {"{\"a\":1 \"b\":2}", "#a comma or the end of the object is expected\n"},
        {"{\"a\":01}", "#a number must not have leading zeros\n"},
        {"{\"\\x\":1}", "#an escape that JSON does not have\n"},
        {"{\"a\":" HUNDRED "1}", "#a member beside `events` is too long\n"},
    };

    (void)state;
    split_case_check(SPLIT_JSON, CASES, ARRAY_LEN(CASES));
}

/* An element without any byte is one too: whoever reads it will say that it is no value. */
static void
a_comma_too_many_gives_an_empty_element(void **state)
{
    static const struct split_case CASES[] = {
        {"[{},]", "{}\n\n.\n"},
        {"[,]", "\n\n.\n"},
    };

    (void)state;
    split_case_check(SPLIT_JSON, CASES, ARRAY_LEN(CASES));
}

static void
an_element_that_is_too_long_is_bad_and_the_next_is_not(void **state)
{
    static const struct split_case CASES[] = {
        {"[\"" HUNDRED "\",{}]", "!" TOO_LONG "\n{}\n.\n"},
        {"[" HUNDRED ",{}]", HUNDRED "\n{}\n.\n"},
        {"[" HUNDRED "0 ,{}]", "!" TOO_LONG "\n{}\n.\n"},
    };

    (void)state;
    split_case_check(SPLIT_JSON, CASES, ARRAY_LEN(CASES));
}

int
main(void)
{
    static const struct CMUnitTest TESTS[] = {
        cmocka_unit_test(an_array_becomes_its_elements),
        cmocka_unit_test(the_member_events_of_an_object_is_the_array),
        cmocka_unit_test(what_is_no_such_text_is_broken_where_that_is_seen),
        cmocka_unit_test(a_comma_too_many_gives_an_empty_element),
        cmocka_unit_test(an_element_that_is_too_long_is_bad_and_the_next_is_not),
    };

    return cmocka_run_group_tests(TESTS, NULL, NULL);
}
