/*
 * test_slo_gate.c - calendar windows, status rules and the gate, in simulated time.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "core/slo/slo_gate.h"
#include "tests/fakes/fake_clock.h"

enum {
    DAY = 1440,
    NOW = 29000000,
};

#define TENANT SPAN_LITERAL("acme")
#define SERVICE SPAN_LITERAL("checkout")
#define MINUTE_US INT64_C(60000000)

static const struct slices_config STORE = {
    .rules = {{500000}, 1, NULL}, .series_max = 100, .retain_minutes = 92 * DAY};

static struct slo_config config;

static int
setup(void **state)
{
    struct slices *slices = NULL;

    assert_int_equal(slices_new(&slices, &STORE), ERR_OK);
    config = (struct slo_config){.objective = {{.id = "one",
                                                .type = SLO_AVAILABILITY,
                                                .target = 0.9,
                                                .window_minutes = 30 * DAY,
                                                .min_bad_events = 5}},
                                 .objective_count = 1};
    *state = slices;
    return 0;
}

static int
teardown(void **state)
{
    slices_free(*state);
    return 0;
}

static void
send(struct slices *slices, int64_t ago, int count, uint16_t status)
{
    for (int i = 0; i < count; i++) {
        const struct event event = {.has_status = true,
                                    .status = status,
                                    .occurred_at_us = (NOW - ago) * MINUTE_US,
                                    .tenant = TENANT,
                                    .service = SERVICE};
        assert_int_equal(slices_add_event(slices, &event, 1, NOW * MINUTE_US), ERR_OK);
    }
}

static enum slo_gate
ask(struct slices *slices, const char *expected)
{
    const struct slo_status_request request = {.slices = slices,
                                               .config = &config,
                                               .tenant = TENANT,
                                               .service = SERVICE,
                                               .now_us = NOW * MINUTE_US};
    struct buffer out = BUFFER_EMPTY;
    enum slo_gate gate = slo_gate_json(&request, &out);

    buffer_append_char(&out, '\0');
    assert_false(out.failed);
    if (strstr(out.data, expected) == NULL) {
        fail_msg("%s is not in %s", expected, out.data);
    }
    buffer_free(&out);
    return gate;
}

static int64_t
window_from(enum slo_window window, const char *zone, int64_t now_s)
{
    struct slo_objective objective = {.window = window};

    snprintf(objective.zone, sizeof(objective.zone), "%s", zone);
    return slo_window_from(&objective, now_s * 1000000) * 60;
}

/* The instants are Python's zoneinfo's. */
static void
calendar_windows_begin_by_the_clock_of_their_zone(void **state)
{
    (void)state;
    if (!slo_zone_is_known("Europe/Berlin")) {
        print_message("no tzdata here\n");
        skip();
    }
    /* Friday 2026-10-30 12:00 in Berlin: winter time since Sunday the 25th, the month began in
     * summer time. */
    assert_int_equal(window_from(SLO_WEEK, "Europe/Berlin", 1793358000), 1792969200);
    assert_int_equal(window_from(SLO_MONTH, "Europe/Berlin", 1793358000), 1790805600);
    /* 2026-11-30 20:00 UTC is December already in Kiritimati, and November for long in New York. */
    assert_int_equal(window_from(SLO_MONTH, "Pacific/Kiritimati", 1796068800), 1796032800);
    assert_int_equal(window_from(SLO_MONTH, "America/New_York", 1796068800), 1793505600);
    assert_int_equal(window_from(SLO_WEEK, "Asia/Kolkata", 1796068800), 1795977000);
    assert_false(slo_zone_is_known("Mars/Olympus"));
    assert_false(slo_zone_is_known("../../etc/passwd"));
    /* A zone that has gone since it was defined: UTC. */
    assert_int_equal(window_from(SLO_MONTH, "Mars/Olympus", 1796068800), 1793491200);
}

static void
calendar_windows_begin_where_the_calendar_says(void **state)
{
    struct fake_clock clock;
    const struct slo_objective week = {.window = SLO_WEEK, .zone = "UTC"};
    const struct slo_objective month = {.window = SLO_MONTH, .zone = "UTC"};

    (void)state;
    fake_clock_init(&clock, INT64_C(1700000000000000));
    for (int i = 0; i < 2000; i++) {
        const int64_t now_us = clock_wall_us(&clock.port);
        const time_t week_s = (time_t)slo_window_from(&week, now_us) * 60;
        const time_t month_s = (time_t)slo_window_from(&month, now_us) * 60;
        struct tm tm;

        assert_true(week_s <= now_us / 1000000 && now_us / 1000000 < week_s + 7 * 86400);
        assert_non_null(gmtime_r(&week_s, &tm));
        assert_int_equal(tm.tm_wday, 1);
        assert_int_equal(week_s % 86400, 0);
        assert_non_null(gmtime_r(&month_s, &tm));
        assert_int_equal(tm.tm_mday, 1);
        assert_int_equal(month_s % 86400, 0);
        assert_true(month_s <= now_us / 1000000 && now_us / 1000000 < month_s + 31 * 86400);
        fake_clock_pass_ms(&clock, 7 * 3600 * 1000 + 1);
    }
}

static void
a_rule_of_statuses_is_applied_to_what_is_stored(void **state)
{
    struct slice_status_rule rule;
    struct slo_service figures;

    for (int64_t ago = 0; ago < 100 * 60; ago += 59) { /* open and packed hours */
        send(*state, ago, 1, 200);
        send(*state, ago, 1, 404);
        send(*state, ago, 1, 500);
    }
    slices_expire(*state, NOW * MINUTE_US);
    assert_int_equal(objective_parse_status(SPAN_LITERAL("200-299,500"), &rule), ERR_OK);
    config.objective[0].good_status = rule;
    assert_int_equal(
        slo_service_figures(*state, &config, TENANT, SERVICE, NOW * MINUTE_US, &figures), ERR_OK);
    assert_int_equal(figures.figures[0].good, 2 * 102);
    assert_int_equal(figures.figures[0].bad, 102);
    assert_int_equal(figures.figures[0].violations, 102);
    assert_int_equal(figures.bad, 102); /* the service's own figures keep to < 500 */
    /* Another rule in the same minutes is another count, remembered or not. */
    config.objective[0].good_status = (struct slice_status_rule){0};
    config.objective[0].target = 0.5;
    for (int again = 0; again < 2; again++) {
        assert_int_equal(
            slo_service_figures(*state, &config, TENANT, SERVICE, NOW * MINUTE_US, &figures),
            ERR_OK);
        assert_int_equal(figures.figures[0].violations, 0);
    }
}

static void
a_service_nobody_knows_is_unknown_and_one_without_events_goes(void **state)
{
    assert_int_equal(ask(*state, ""), SLO_GATE_UNKNOWN);
    send(*state, 40 * DAY, 1, 500);
    assert_int_equal(ask(*state, "without data"), SLO_GATE_GO);
}

static void
a_spent_budget_freezes(void **state)
{
    send(*state, 10, 91, 200);
    for (int i = 0; i < 9; i++) {
        send(*state, 100 + i * 60, 1, 500);
    }
    assert_int_equal(ask(*state, "\"decision\":\"go\""), SLO_GATE_GO);
    send(*state, 3000, 1, 500); /* 10 of 101: 10.1 allowed, 0.1 left */
    assert_int_equal(ask(*state, "\"reasons\":[]"), SLO_GATE_GO);
    send(*state, 4000, 1, 500);
    assert_int_equal(ask(*state, "\"reasons\":[\"budget_spent\"]"), SLO_GATE_FREEZE);
    assert_int_equal(ask(*state, "is spent, 11 bad events of 10.2 allowed"), SLO_GATE_FREEZE);
}

static void
one_incident_above_a_fifth_freezes(void **state)
{
    send(*state, 10, 1000, 200);
    /* 10 of some 1020: below a fifth of the 102 allowed, twice, six quiet minutes apart. */
    send(*state, 507, 10, 500);
    send(*state, 500, 11, 500);
    assert_int_equal(ask(*state, "\"reasons\":[]"), SLO_GATE_GO);
    /* An event in between makes one of the two. */
    send(*state, 503, 1, 500);
    assert_int_equal(ask(*state, "\"reasons\":[\"incident\"]"), SLO_GATE_FREEZE);
    assert_int_equal(ask(*state, "\"bad\":22,"), SLO_GATE_FREEZE);
    /* Too few events are no incident, however large their share. */
    config.objective[0].min_bad_events = 23;
    assert_int_equal(ask(*state, "\"worst_incident\":null"), SLO_GATE_GO);
}

int
main(void)
{
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calendar_windows_begin_where_the_calendar_says),
        cmocka_unit_test(calendar_windows_begin_by_the_clock_of_their_zone),
        STORE_TEST(a_rule_of_statuses_is_applied_to_what_is_stored),
        STORE_TEST(a_service_nobody_knows_is_unknown_and_one_without_events_goes),
        STORE_TEST(a_spent_budget_freezes),
        STORE_TEST(one_incident_above_a_fifth_freezes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
