#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/base.h"
#include "storage/mysql_errors.h"

static void
unknown_numbers_mean_wait(void **state)
{
    (void)state;
    assert_int_equal(mysql_classify(0), MYSQL_CLASS_WAIT);
    assert_int_equal(mysql_classify(1999), MYSQL_CLASS_WAIT);
    assert_int_equal(mysql_classify(65000), MYSQL_CLASS_WAIT);
}

static void
each_class_has_its_numbers(void **state)
{
    static const struct {
        unsigned number;
        enum mysql_class class;
    } EXPECTED[] = {
        {1205, MYSQL_CLASS_RETRY},     {1213, MYSQL_CLASS_RETRY},     {1317, MYSQL_CLASS_RETRY},
        {2006, MYSQL_CLASS_RECONNECT}, {2013, MYSQL_CLASS_RECONNECT}, {1927, MYSQL_CLASS_RECONNECT},
        {1040, MYSQL_CLASS_WAIT},      {1045, MYSQL_CLASS_WAIT},      {1114, MYSQL_CLASS_WAIT},
        {1290, MYSQL_CLASS_WAIT},      {1142, MYSQL_CLASS_WAIT},      {1021, MYSQL_CLASS_WAIT},
        {1146, MYSQL_CLASS_SCHEMA},    {1054, MYSQL_CLASS_SCHEMA},    {1364, MYSQL_CLASS_SCHEMA},
        {1153, MYSQL_CLASS_SPLIT},     {2020, MYSQL_CLASS_SPLIT},     {1197, MYSQL_CLASS_SPLIT},
        {1406, MYSQL_CLASS_POISON},    {1264, MYSQL_CLASS_POISON},    {1366, MYSQL_CLASS_POISON},
        {4025, MYSQL_CLASS_POISON},    {3819, MYSQL_CLASS_POISON},    {3140, MYSQL_CLASS_POISON},
        {1062, MYSQL_CLASS_DUPLICATE},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(EXPECTED); i++) {
        assert_int_equal(mysql_classify(EXPECTED[i].number), EXPECTED[i].class);
    }
}

static void
texts_that_quote_clients_stay_out_of_the_log(void **state)
{
    (void)state;
    assert_true(mysql_text_quotes_data(1062));
    assert_true(mysql_text_quotes_data(1366));
    assert_true(mysql_text_quotes_data(1064));
    assert_false(mysql_text_quotes_data(1045));
    assert_false(mysql_text_quotes_data(2013));
}

static void
only_numbers_that_forbid_load_data_refuse_it(void **state)
{
    static const unsigned REFUSALS[] = {1148, 1235, 2068, 3948, 4166};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(REFUSALS); i++) {
        assert_true(mysql_load_is_refused(REFUSALS[i]));
    }
    assert_false(mysql_load_is_refused(0));
    assert_false(mysql_load_is_refused(1114));
    assert_false(mysql_load_is_refused(2013));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_numbers_mean_wait),
        cmocka_unit_test(each_class_has_its_numbers),
        cmocka_unit_test(texts_that_quote_clients_stay_out_of_the_log),
        cmocka_unit_test(only_numbers_that_forbid_load_data_refuse_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
