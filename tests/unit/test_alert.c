/*
 * test_alert.c - thresholds, the edges of every comparison, and the sentences. At which minute
 * alerts fire and resolve is compared with a second computation in tests/sim.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/slo/alert.h"

enum {
    HOUR = 60,
    DAY = 24 * HOUR,
    MINUTE_US = 60000000,
    NOW_MINUTE = 29000000,
};

static struct slo_objective
objective_of(double target, int64_t period)
{
    return (struct slo_objective){
        .id = "one",
        .type = SLO_AVAILABILITY,
        .target = target,
        .window_minutes = period,
        .min_bad_events = 5,
    };
}

static void
assert_close(double got, double expected)
{
    if (!(fabs(got - expected) <= 1e-9 * fabs(expected))) {
        fail_msg("%.17g is not %.17g", got, expected);
    }
}

/* ---- rules ---- */

static void
thresholds_are_those_of_the_workbook(void **state)
{
    static const struct {
        double target;
        int64_t period;
        int64_t windows[ALERT_RULES][2];
        double threshold[ALERT_RULES];
    } TABLE[] = {
        {0.999, 30 * DAY, {{60, 5}, {360, 30}, {4320, 360}}, {14.4, 6, 1}},
        {0.999, 28 * DAY, {{60, 5}, {360, 30}, {4320, 360}}, {13.44, 5.6, 2.8 / 3}},
        {0.999, 90 * DAY, {{60, 5}, {360, 30}, {4320, 360}}, {43.2, 18, 3}},
        {0.999, 14 * DAY, {{60, 5}, {360, 30}, {4320, 360}}, {6.72, 2.8, 1.4 / 3}},
        {0.999, 7 * DAY, {{30, 3}, {180, 15}, {2160, 180}}, {6.72, 2.8, 1.4 / 3}},
        {0.999, HOUR, {{1, 1}, {2, 1}, {13, 2}}, {1.2, 1.5, 6.0 / 13}},
        /* What cannot be reached is clamped: ten times too fast is all that fails. */
        {0.9, 30 * DAY, {{60, 5}, {360, 30}, {4320, 360}}, {10, 6, 1}},
        {0.9, 90 * DAY, {{60, 5}, {360, 30}, {4320, 360}}, {10, 10, 3}},
        {0.9999, 90 * DAY, {{60, 5}, {360, 30}, {4320, 360}}, {43.2, 18, 3}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(TABLE); i++) {
        const struct slo_objective objective = objective_of(TABLE[i].target, TABLE[i].period);
        struct alert_rule rules[ALERT_RULES];

        alert_rules(TABLE[i].period, rules);
        for (size_t r = 0; r < ALERT_RULES; r++) {
            assert_int_equal(rules[r].long_minutes, TABLE[i].windows[r][0]);
            assert_int_equal(rules[r].short_minutes, TABLE[i].windows[r][1]);
            assert_int_equal(rules[r].severity, r < 2 ? ALERT_PAGE : ALERT_TICKET);
            assert_close(alert_threshold(&rules[r], &objective), TABLE[i].threshold[r]);
        }
    }
}

static void
exactly_at_the_threshold_is_not_above_it(void **state)
{
    struct slo_objective objective = objective_of(0.999, 30 * DAY);
    struct alert_rule rules[ALERT_RULES];

    (void)state;
    alert_rules(objective.window_minutes, rules);
    /* 14.4 x 0.001: 144 of 10 000. No binary fraction is 0.0144. */
    assert_false(alert_above(&rules[0], &objective, (struct alert_window){9856, 144}));
    assert_true(alert_above(&rules[0], &objective, (struct alert_window){9855, 145}));
    assert_false(alert_above(&rules[0], &objective, (struct alert_window){0, 0}));
    assert_true(alert_above(&rules[0], &objective, (struct alert_window){0, 1}));
    assert_false(alert_above(&rules[0], &objective, (struct alert_window){1, 0}));
}

static void
a_clamped_threshold_is_reached_by_a_total_outage_alone(void **state)
{
    struct slo_objective objective = objective_of(0.9, 30 * DAY);
    struct alert_rule rules[ALERT_RULES];

    (void)state;
    alert_rules(objective.window_minutes, rules);
    assert_true(alert_above(&rules[0], &objective, (struct alert_window){0, 1000}));
    assert_false(alert_above(&rules[0], &objective, (struct alert_window){1, 1000}));
}

static void
no_count_is_too_large(void **state)
{
    struct slo_objective objective = objective_of(0.5, 90 * DAY);
    const uint64_t half = UINT64_C(1) << 55;
    struct alert_rule rules[ALERT_RULES];

    (void)state;
    objective.target = 1e-9; /* nearly everything may fail */
    alert_rules(objective.window_minutes, rules);
    for (size_t r = 0; r < ALERT_RULES; r++) {
        assert_true(alert_above(&rules[r], &objective, (struct alert_window){0, 2 * half}));
        assert_false(alert_above(&rules[r], &objective, (struct alert_window){half, half}));
    }
    assert_close(alert_burn_rate(&objective, (struct alert_window){half, half}), 0.5 / (1 - 1e-9));
}

/* ---- the state machine: what the simulation cannot ask ---- */

static enum err
fail_window(void *arg, int64_t minutes, struct alert_window *out)
{
    int *calls = arg;

    (void)minutes;
    *out = (struct alert_window){0, 100};
    return (*calls)-- == 0 ? ERR_NO_MEMORY : ERR_OK;
}

static void
without_memory_the_states_are_as_they_were(void **state)
{
    const struct slo_objective objective = objective_of(0.999, 30 * DAY);

    (void)state;
    for (int calls = 0; calls < 6; calls++) {
        struct alert_state states[ALERT_SEVERITIES] = {{.status = ALERT_OK}};
        struct alert_state before[ALERT_SEVERITIES];
        bool changed = false;
        int left = calls;

        memcpy(before, states, sizeof(states));
        assert_int_equal(alert_judge(&objective, NOW_MINUTE * INT64_C(60000000), fail_window, &left,
                                     states, &changed),
                         ERR_NO_MEMORY);
        assert_memory_equal(before, states, sizeof(states));
        assert_false(changed);
    }
}

static enum err
count_window(void *arg, int64_t minutes, struct alert_window *out)
{
    int64_t *longest = arg;

    *longest = minutes > *longest ? minutes : *longest;
    *out = (struct alert_window){1000, 0};
    return ERR_OK;
}

static void
a_healthy_service_is_asked_for_its_short_windows_only(void **state)
{
    const struct slo_objective objective = objective_of(0.999, 30 * DAY);
    struct alert_state states[ALERT_SEVERITIES] = {{.status = ALERT_OK}};
    bool changed = false;
    int64_t longest = 0;

    (void)state;
    assert_int_equal(alert_judge(&objective, 1, count_window, &longest, states, &changed), ERR_OK);
    assert_int_equal(longest, 6 * HOUR);
    assert_false(changed);
}

static void
what_is_withdrawn_resolves(void **state)
{
    const struct slo_objective objective = objective_of(0.999, 30 * DAY);
    struct alert_state states[ALERT_SEVERITIES] = {{.status = ALERT_OK}};
    bool changed = false;
    int left = 1000;

    (void)state;
    assert_int_equal(alert_judge(&objective, MINUTE_US, fail_window, &left, states, &changed),
                     ERR_OK);
    assert_true(changed);
    assert_int_equal(states[ALERT_PAGE].status, ALERT_FIRING);
    assert_true(alert_withdraw(states, INT64_C(2) * MINUTE_US));
    assert_int_equal(states[ALERT_PAGE].status, ALERT_RESOLVED);
    assert_int_equal(states[ALERT_PAGE].resolved_us, 2 * MINUTE_US);
    assert_false(alert_withdraw(states, INT64_C(3) * MINUTE_US));
    assert_false(alert_withdraw(states, INT64_C(7) * MINUTE_US));
    assert_int_equal(states[ALERT_PAGE].status, ALERT_NO_DATA);
}

/* ---- words ---- */

static const char *
sentence_of(struct buffer *out, const struct alert_facts *facts)
{
    buffer_clear(out, SIZE_MAX);
    alert_sentence(facts, out);
    buffer_append_char(out, '\0');
    assert_false(out->failed);
    return out->data;
}

static void
sentences_are_plain(void **unused)
{
    struct slo_objective objective = objective_of(0.999, 30 * DAY);
    struct alert_state state = {.status = ALERT_FIRING, .rules = 1, .rule = 0, .fired_us = 1};
    struct alert_rule rules[ALERT_RULES];
    struct buffer out = BUFFER_EMPTY;
    struct alert_facts facts = {
        .service = SPAN_LITERAL("checkout"),
        .objective = &objective,
        .severity = ALERT_PAGE,
        .state = &state,
        .rule = &rules[0],
        .long_window = {978000, 22000},
        .short_window = {9000, 1000},
        .period = {719978000, 22000},
    };

    (void)unused;
    alert_rules(objective.window_minutes, rules);
    /* 698 000 bad events are left, 22 000 an hour are used: 31.7 hours. */
    assert_string_equal(sentence_of(&out, &facts),
                        "checkout: 2.2 % of events failed in the last 1 h, 22 times what 99.9 % "
                        "allows; at this rate the 30-day budget is gone in 1 d 7 h");
    assert_close(alert_budget_spent(&facts), 22.0 / 720.0);

    facts.period = (struct alert_window){978000, 22000};
    assert_string_equal(sentence_of(&out, &facts),
                        "checkout: 2.2 % of events failed in the last 1 h, 22 times what 99.9 % "
                        "allows; the 30-day budget is gone");

    state.no_data = true;
    facts.long_window = (struct alert_window){0, 0};
    assert_string_equal(sentence_of(&out, &facts),
                        "checkout: no events in the last 5 min, so the alert stays as it was");

    state = (struct alert_state){.status = ALERT_RESOLVED, .rule = 0, .fired_us = 1};
    assert_string_equal(sentence_of(&out, &facts),
                        "checkout: 10 % of events failed in the last 5 min, 100 times what 99.9 % "
                        "allows; the page is over");
    facts.short_window = (struct alert_window){0, 0};
    assert_string_equal(sentence_of(&out, &facts), "checkout: the page is over");

    state = (struct alert_state){.status = ALERT_NO_DATA, .rule = ALERT_RULE_NONE};
    assert_string_equal(sentence_of(&out, &facts),
                        "checkout: no events in the last 5 min, so nothing is judged");

    state = (struct alert_state){.status = ALERT_OK, .held_back = true};
    facts.severity = ALERT_TICKET;
    assert_string_equal(sentence_of(&out, &facts),
                        "checkout: held back, since the objective's page fires");

    objective.type = SLO_LATENCY;
    objective.threshold_us = 250500;
    objective.window_minutes = 36 * HOUR;
    state = (struct alert_state){.status = ALERT_FIRING, .rules = 4};
    alert_rules(objective.window_minutes, rules);
    facts.rule = &rules[2];
    facts.long_window = (struct alert_window){0, 2000};
    facts.period = (struct alert_window){9998000, 2000};
    assert_string_equal(sentence_of(&out, &facts),
                        "checkout: 100 % of events took longer than 250.5 ms in the last 463 min, "
                        "1000 times what 99.9 % allows; at this rate the 36-hour budget is gone in "
                        "1 d 6 h");
    buffer_free(&out);
}

static void
durations_have_two_units(void **state)
{
    static const struct {
        double seconds;
        const char *text;
    } TABLE[] = {
        {0, "less than a minute"}, {59.9, "less than a minute"}, {60, "1 min"},
        {3599, "59 min"},          {3600, "1 h 0 min"},          {86399, "23 h 59 min"},
        {86400, "1 d 0 h"},        {176400, "2 d 1 h"},          {1e30, "100000 d 0 h"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(TABLE); i++) {
        struct buffer out = BUFFER_EMPTY;

        alert_duration(&out, TABLE[i].seconds);
        buffer_append_char(&out, '\0');
        assert_string_equal(out.data, TABLE[i].text);
        buffer_free(&out);
    }
}

static void
names_are_the_documented_ones(void **state)
{
    static const char *const STATUSES[] = {"ok", "pending-no-data", "firing", "resolved"};
    enum alert_status status;
    enum alert_severity severity;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(STATUSES); i++) {
        assert_int_equal(alert_status_parse(span_of(STATUSES[i]), &status), ERR_OK);
        assert_int_equal(status, i);
        assert_string_equal(alert_status_name(status), STATUSES[i]);
    }
    assert_int_equal(alert_severity_parse(SPAN_LITERAL("ticket"), &severity), ERR_OK);
    assert_int_equal(severity, ALERT_TICKET);
    assert_int_equal(alert_severity_parse(SPAN_LITERAL("Page"), &severity), ERR_NOT_FOUND);
    assert_int_equal(alert_status_parse(SPAN_LITERAL(""), &status), ERR_NOT_FOUND);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thresholds_are_those_of_the_workbook),
        cmocka_unit_test(exactly_at_the_threshold_is_not_above_it),
        cmocka_unit_test(a_clamped_threshold_is_reached_by_a_total_outage_alone),
        cmocka_unit_test(no_count_is_too_large),
        cmocka_unit_test(without_memory_the_states_are_as_they_were),
        cmocka_unit_test(a_healthy_service_is_asked_for_its_short_windows_only),
        cmocka_unit_test(what_is_withdrawn_resolves),
        cmocka_unit_test(sentences_are_plain),
        cmocka_unit_test(durations_have_two_units),
        cmocka_unit_test(names_are_the_documented_ones),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
