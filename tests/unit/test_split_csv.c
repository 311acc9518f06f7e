/* CSV, cut at every place. */
#include "tests/unit/split_case.h"

#define COUNT "!a row must have as many cells as the header row\n"
#define NAMES "#the header row must name each column once, in valid UTF-8\n"

static void
rows_become_objects_named_by_the_header(void **state)
{
    static const struct split_case CASES[] = {
        {"", ".\n"},
        {"id,type", ".\n"},
        {"id,type\r\n1,t\r\n", "{\"id\":\"1\",\"type\":\"t\"}\n.\n"},
        {"id,type\n1,t", "{\"id\":\"1\",\"type\":\"t\"}\n.\n"},
        {"\r\nid\n\n1\n\n\n2\n", "{\"id\":\"1\"}\n{\"id\":\"2\"}\n.\n"},
        {"a b,\"c,\"\"d\"\"\"\n1,2\n", "{\"a b\":\"1\",\"c,\\\"d\\\"\":\"2\"}\n.\n"},
        {"\xEF\xBB\xBFid\n1\n", "{\"id\":\"1\"}\n.\n"},
        {"\xEF\xBB\xBF\"id\",b\n1,2\n", "{\"id\":\"1\",\"b\":\"2\"}\n.\n"},
        {"id,\xEF\xBD\x89\n1,2\n", "{\"id\":\"1\",\"\xEF\xBD\x89\":\"2\"}\n.\n"},
        {"\xEF\xBD\x89,\"a\nb\"\n1,2\n", "{\"\xEF\xBD\x89\":\"1\",\"a\\nb\":\"2\"}\n.\n"},
    };

    (void)state;
    split_case_check(SPLIT_CSV, CASES, ARRAY_LEN(CASES));
}

static void
quoted_cells_hold_commas_quotes_and_line_ends(void **state)
{
    static const struct split_case CASES[] = {
        {"a,b\n\"x,y\",\"line\r\nnext\"\n", "{\"a\":\"x,y\",\"b\":\"line\\u000d\\nnext\"}\n.\n"},
        {"a\n\"say \"\"hi\"\"\"\n\"\"\"\"\n", "{\"a\":\"say \\\"hi\\\"\"}\n{\"a\":\"\\\"\"}\n.\n"},
        {"a,b\n\"\",\"x\"\r\n", "{\"b\":\"x\"}\n.\n"},
    };

    (void)state;
    split_case_check(SPLIT_CSV, CASES, ARRAY_LEN(CASES));
}

static void
cells_become_what_their_column_holds(void **state)
{
    static const struct split_case CASES[] = {
        {"status,latency_ms,timestamp,id\n200,1.5,1700000000,7\n",
         "{\"status\":200,\"latency_ms\":1.5,\"timestamp\":1700000000,\"id\":\"7\"}\n.\n"},
        {"status,timestamp\n0200,2024-01-01T00:00:00Z\n+1,true\n",
         "{\"status\":\"0200\",\"timestamp\":\"2024-01-01T00:00:00Z\"}\n"
         "{\"status\":\"+1\",\"timestamp\":\"true\"}\n.\n"},
        {"properties,tags,x\n\"{\"\"a\"\":[1]}\",\"[\"\"t\"\"]\",{}\n",
         "{\"properties\":{\"a\":[1]},\"tags\":[\"t\"],\"x\":\"{}\"}\n.\n"},
        {"payload,metadata\n{,5\n", "{\"payload\":\"{\",\"metadata\":\"5\"}\n.\n"},
    };

    (void)state;
    split_case_check(SPLIT_CSV, CASES, ARRAY_LEN(CASES));
}

static void
a_row_that_does_not_fit_is_bad_and_the_next_is_not(void **state)
{
    static const struct split_case CASES[] = {
        {"a,b\n1\n1,2,3\n1,2,\n1,2\n", COUNT COUNT COUNT "{\"a\":\"1\",\"b\":\"2\"}\n.\n"},
        {"a,b\n,\n1,\n", "!every cell of the row is empty\n{\"a\":\"1\"}\n.\n"},
        {"a\nx\"y\n1\n", "!a quote in a cell that does not begin with one\n{\"a\":\"1\"}\n.\n"},
        {"a\n\"x\"y\n1\n", "!something follows the closing quote of a cell\n{\"a\":\"1\"}\n.\n"},
        {"a\n" HUNDRED "x\n1\n", "!" TOO_LONG "\n{\"a\":\"1\"}\n.\n"},
        {"a\n\"" HUNDRED "\n\"\n1\n", "!" TOO_LONG "\n{\"a\":\"1\"}\n.\n"},
        {"a\n" HUNDRED "\n1\n", "!" TOO_LONG "\n{\"a\":\"1\"}\n.\n"}, /* as an object */
    };

    (void)state;
    split_case_check(SPLIT_CSV, CASES, ARRAY_LEN(CASES));
}

static void
a_header_that_names_nothing_usable_breaks_all(void **state)
{
    static const struct split_case CASES[] = {
        {"a,a\n1,2\n", NAMES},
        {"a,\xFF\n1,2\n", NAMES},
        {"\xEF\xBBxx\n1\n", NAMES},
        {"a,,b\n1,2,3\n", "#a column name must be 1 to 255 bytes\n"},
        {"a\"\n1\n", "#a quote in a cell that does not begin with one\n"},
        {HUNDRED "x\n1\n", "#the header row is too long\n"},
        {"a\n1\n\"2\n3\n", "{\"a\":\"1\"}\n#a quoted cell is not closed\n"},
        {"\"a\n", "#a quoted cell is not closed\n"},
    };

    (void)state;
    split_case_check(SPLIT_CSV, CASES, ARRAY_LEN(CASES));
}

int
main(void)
{
    static const struct CMUnitTest TESTS[] = {
        cmocka_unit_test(rows_become_objects_named_by_the_header),
        cmocka_unit_test(quoted_cells_hold_commas_quotes_and_line_ends),
        cmocka_unit_test(cells_become_what_their_column_holds),
        cmocka_unit_test(a_row_that_does_not_fit_is_bad_and_the_next_is_not),
        cmocka_unit_test(a_header_that_names_nothing_usable_breaks_all),
    };

    return cmocka_run_group_tests(TESTS, NULL, NULL);
}
