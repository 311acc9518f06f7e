/*
 * The SLO ticker beside a database that others write to.
 */
#include <signal.h>

#include "cli/ticker.h"
#include "core/slo/slices.h"
#include "tests/integration/sink_fixture.h"

static struct test_db shared_db; /* set up once, read by every test */

static int
set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    *state = f;
    fixture_open(f, &shared_db);
    return 0;
}

static void
a_damaged_slice_of_another_node_does_not_hide_the_others(void **state)
{
    struct fixture *f = *state;
    const struct slices_config config = {
        .rules = RULES, .series_max = 10, .retain_minutes = INT64_C(36500) * 1440};
    struct ticker_config ticking = {.clock = clock_system(), .mysql = &f->config};
    struct slice sum = {0};
    struct ticker *ticker;

    apply_and_free(f, make_batch(0, 1));
    /* Two that are read before the good one: a service without a name, and no slice at all. */
    test_db_do(f->admin, "INSERT INTO slo_slices SELECT tenant_id, '', minute, node_id, "
                         "partition_id, good, bad, total, detail, last_seq, updated_at "
                         "FROM slo_slices");
    test_db_do(f->admin, "INSERT INTO slo_slices SELECT tenant_id, 'a', minute, node_id, "
                         "partition_id, good, bad, total, 'damaged', last_seq, updated_at "
                         "FROM slo_slices WHERE service = 'api'");
    assert_int_equal(slices_new(&ticking.slices, &config), ERR_OK);
    ticking.interval_ms = 10;
    memset(ticking.node_id, 9, sizeof ticking.node_id);
    assert_int_equal(ticker_start(&ticker, &ticking), ERR_OK);
    for (int attempt = 0; attempt < 500 && sum.good == 0; attempt++) {
        const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};

        nanosleep(&pause, NULL);
        assert_int_equal(slices_sum(ticking.slices, SPAN_LITERAL("default"), SPAN_LITERAL("api"), 0,
                                    T0_US / MINUTE_US + 1, &sum),
                         ERR_OK);
    }
    ticker_stop(ticker);
    assert_int_equal(sum.good, 1);
    slice_clear(&sum);
    slices_free(ticking.slices);
}

static void
wait_until_settled(const struct ticker *ticker)
{
    for (int attempt = 0; attempt < 3000 && !ticker_settled(ticker); attempt++) {
        const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};

        nanosleep(&pause, NULL);
    }
    assert_true(ticker_settled(ticker));
}

static void
once_settled_the_slices_of_other_nodes_are_there(void **state)
{
    struct fixture *f = *state;
    const struct slices_config config = {
        .rules = RULES, .series_max = 10, .retain_minutes = INT64_C(36500) * 1440};
    struct ticker_config ticking = {
        .clock = clock_system(), .mysql = &f->config, .interval_ms = 60000};
    struct slice sum = {0};
    struct ticker *ticker;

    apply_and_free(f, make_batch(0, 4));
    assert_int_equal(slices_new(&ticking.slices, &config), ERR_OK);
    memset(ticking.node_id, 9, sizeof ticking.node_id);
    assert_int_equal(ticker_start(&ticker, &ticking), ERR_OK);
    wait_until_settled(ticker);
    assert_int_equal(slices_sum(ticking.slices, SPAN_LITERAL("default"), SPAN_LITERAL("api"), 0,
                                T0_US / MINUTE_US + 1, &sum),
                     ERR_OK);
    assert_int_equal(sum.good, 1);
    assert_int_equal(sum.bad, 1);
    ticker_stop(ticker);
    slice_clear(&sum);
    slices_free(ticking.slices);
}

static void
without_an_answer_there_is_nothing_to_wait_for(void **state)
{
    struct fixture *f = *state;
    const struct slices_config config = {
        .rules = RULES, .series_max = 10, .retain_minutes = INT64_C(36500) * 1440};
    struct mysql_config nowhere = f->config;
    struct ticker_config ticking = {
        .clock = clock_system(), .mysql = &nowhere, .interval_ms = 60000};
    struct ticker *ticker;

    nowhere.socket = "/nowhere/s";
    assert_int_equal(slices_new(&ticking.slices, &config), ERR_OK);
    assert_int_equal(ticker_start(&ticker, &ticking), ERR_OK);
    wait_until_settled(ticker);
    ticker_stop(ticker);
    ticking.mysql = NULL;
    assert_int_equal(ticker_start(&ticker, &ticking), ERR_OK);
    assert_true(ticker_settled(ticker));
    ticker_stop(ticker);
    slices_free(ticking.slices);
}

static int
end_shared_db(void **state)
{
    (void)state;
    test_db_end(&shared_db);
    mysql_library_stop();
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, fixture_close)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_damaged_slice_of_another_node_does_not_hide_the_others),
        TEST(once_settled_the_slices_of_other_nodes_are_there),
        TEST(without_an_answer_there_is_nothing_to_wait_for),
    };

    log_setup(LOG_ERROR, LOG_TEXT, 2);
    signal(SIGPIPE, SIG_IGN);
    mysql_library_start();
    if (!test_db_use(&shared_db)) {
        return skip_all();
    }
    return cmocka_run_group_tests(tests, NULL, end_shared_db);
}
