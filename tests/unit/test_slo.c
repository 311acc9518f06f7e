/*
 * test_slo.c - figures against examples worked out by hand, and the status document.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "core/base/histogram.h"
#include "core/slo/slo.h"
#include "core/slo/slo_json.h"
#include "tests/unit/failing_alloc.h"

enum {
    HOUR = 60,
    DAY = 24 * HOUR,
    NOW = 29000000, /* minutes; 2025-02-19T21:20Z */
};

#define TENANT SPAN_LITERAL("acme")
#define SERVICE SPAN_LITERAL("checkout")

static const struct slices_config STORE = {
    .rules = {{300000, 500000}, 2, NULL},
    .series_max = 2000,
    .retain_minutes = 40 * DAY,
};

static const struct slo_config CONFIG = {
    .objective =
        {
            {.id = "default-availability",
             .type = SLO_AVAILABILITY,
             .target = 0.999,
             .window_minutes = 30 * DAY},
            {.id = "default-latency",
             .type = SLO_LATENCY,
             .target = 0.99,
             .threshold_us = 500000,
             .window_minutes = 30 * DAY},
        },
    .objective_count = 2,
};

static int
store_setup(void **state)
{
    struct slices *slices = NULL;

    assert_int_equal(slices_new(&slices, &STORE), ERR_OK);
    *state = slices;
    return 0;
}

static int
store_teardown(void **state)
{
    slices_free(*state);
    return 0;
}

/* COUNT events of STATUS and LATENCY_MS (negative: none), AGO minutes before NOW, for NAME. */
static void
send_to(struct slices *slices, struct span name, int64_t ago, int count, uint16_t status,
        double latency_ms)
{
    for (int i = 0; i < count; i++) {
        struct event event = {
            .has_status = true,
            .has_latency = latency_ms >= 0,
            .status = status,
            .latency_ms = latency_ms,
            .occurred_at_us = (NOW - ago) * INT64_C(60000000),
            .tenant = TENANT,
            .service = name,
        };
        assert_int_equal(slices_add_event(slices, &event, 1, NOW * INT64_C(60000000)), ERR_OK);
    }
}

static void
send(struct slices *slices, int64_t ago, int count, uint16_t status, double latency_ms)
{
    send_to(slices, SERVICE, ago, count, status, latency_ms);
}

static struct slo_service
figures_of(struct slices *slices, const struct slo_config *config)
{
    struct slo_service service;

    assert_int_equal(slo_service_figures(slices, config, TENANT, SERVICE,
                                         NOW * INT64_C(60000000) + 59999999, &service),
                     ERR_OK);
    return service;
}

/* One availability objective of TARGET over WINDOW_MINUTES. */
static struct slo_config
availability(double target, int64_t window_minutes)
{
    return (struct slo_config){
        .objective = {{.id = "one",
                       .type = SLO_AVAILABILITY,
                       .target = target,
                       .window_minutes = window_minutes}},
        .objective_count = 1,
    };
}

static void
assert_close(double got, double expected)
{
    if (!(fabs(got - expected) <= 1e-12 * fabs(expected))) {
        print_error("%.17g is not %.17g\n", got, expected);
    }
    assert_true(fabs(got - expected) <= 1e-12 * fabs(expected));
}

/*
 * 10 000 events in 30 days, 4 bad, T = 0.999: the budget allows 10 bad events. 2 of the bad ones
 * were among 1000 events half an hour ago, the other 2 among 1000 events two days ago.
 */
static void
an_event_accepted_ahead_of_the_clock_counts_at_once(void **state)
{
    struct slo_config config = availability(0.9, HOUR);
    struct slo_service service;

    send(*state, 0, 1, 200, 1);
    send(*state, -1, 1, 500, 1); /* figures_of() asks in the last microsecond of NOW */
    send(*state, -2, 1, 500, 1);
    service = figures_of(*state, &config);
    assert_int_equal(service.good + service.bad, 1);
    config.future_us = 1000000;
    service = figures_of(*state, &config);
    assert_int_equal(service.good, 1);
    assert_int_equal(service.bad, 1);
    assert_int_equal(service.figures[0].violations, 1);
    assert_close(service.figures[0].burn_rate[0], 5);
    send(*state, HOUR - 1, 1, 200, 1); /* the window still begins where it did */
    send(*state, HOUR, 1, 200, 1);
    assert_int_equal(figures_of(*state, &config).good, 2);
}

static void
figures_are_those_worked_out_by_hand(void **state)
{
    struct slices *slices = *state;
    struct slo_service service;
    const struct slo_figures *figures = &service.figures[0];

    send(slices, 20 * DAY, 8000, 200, 100.0);
    send(slices, 2 * DAY, 998, 200, 100.0);
    send(slices, 2 * DAY, 2, 500, 100.0);
    send(slices, 29, 998, 404, 100.0);
    send(slices, 29, 2, 503, 600.0);
    service = figures_of(slices, &CONFIG);
    assert_int_equal(service.good, 9996);
    assert_int_equal(service.bad, 4);
    assert_close(service.availability, 0.9996);
    assert_close(service.error_rate, 0.0004);
    assert_int_equal(figures->good, 9996);
    assert_int_equal(figures->bad, 4);
    assert_close(figures->attained, 0.9996);
    assert_close(figures->error_budget_remaining, 0.6); /* 1 - 0.0004/0.001 */
    assert_close(figures->events_left, 6.0);
    assert_close(figures->minutes_left, 6.0 / (10000.0 / 43200.0));
    assert_true(isnan(figures->burn_rate[0])); /* 5 m: no traffic */
    assert_close(figures->burn_rate[1], 2.0);  /* 30 m: 2/1000 over 0.001 */
    assert_close(figures->burn_rate[2], 2.0);  /* 1 h */
    assert_close(figures->burn_rate[3], 2.0);  /* 6 h */
    assert_close(figures->burn_rate[4], 2.0);  /* 3 d: 4/2000 */
    assert_close(figures->time_to_exhaustion_s, 6.0 / 2.0 * 3600.0);
    assert_int_equal(figures->violations, 2);
    assert_int_equal(figures->health, SLO_AT_RISK); /* 3 hours at this rate */

    figures = &service.figures[1]; /* latency: 2 above 500 ms, 100 allowed */
    assert_int_equal(figures->good, 9998);
    assert_int_equal(figures->bad, 2);
    assert_close(figures->error_budget_remaining, 0.98);
    assert_close(figures->events_left, 98.0);
    assert_close(figures->burn_rate[2], 0.2);
    assert_int_equal(figures->violations, 0); /* 998/1000 is not below 0.99 */
    assert_int_equal(figures->health, SLO_HEALTHY);
    assert_int_equal(service.health, SLO_AT_RISK); /* the worst */
    for (int i = 0; i < SLO_QUANTILES; i++) {
        assert_true(fabs(service.latency_ms[i] / 100.0 - 1.0) < HISTOGRAM_MAX_RELATIVE_ERROR);
    }
}

static void
no_traffic_is_no_data(void **state)
{
    struct slices *slices = *state;
    struct slo_service service = figures_of(slices, &CONFIG);

    assert_int_equal(service.health, SLO_NO_DATA);
    assert_true(isnan(service.availability));
    assert_true(isnan(service.error_rate));
    assert_true(isnan(service.latency_ms[0]));
    assert_true(isnan(service.figures[0].attained));
    assert_true(isnan(service.figures[0].error_budget_remaining));
    assert_true(isnan(service.figures[0].events_left));
    assert_true(isnan(service.figures[0].minutes_left));
    assert_true(isnan(service.figures[0].time_to_exhaustion_s));
    assert_true(isnan(service.figures[0].burn_rate[4]));

    /* Events without a latency: the latency objective alone has no data. */
    send(slices, 5, 10, 200, -1.0);
    service = figures_of(slices, &CONFIG);
    assert_int_equal(service.figures[0].health, SLO_HEALTHY);
    assert_int_equal(service.figures[1].health, SLO_NO_DATA);
    assert_int_equal(service.health, SLO_HEALTHY);
    assert_true(isnan(service.latency_ms[3]));
}

/* A window of 5 minutes is the running minute and the four before it. */
static void
windows_include_the_running_minute(void **state)
{
    struct slices *slices = *state;
    struct slo_config config = availability(0.5, 60);
    struct slo_service service;

    send(slices, 0, 1, 500, -1.0);
    send(slices, 4, 1, 200, -1.0);
    send(slices, 5, 2, 200, -1.0);  /* outside of 5 m */
    send(slices, 59, 4, 200, -1.0); /* just inside of 1 h */
    send(slices, 60, 8, 500, -1.0); /* just outside */
    service = figures_of(slices, &config);
    assert_int_equal(service.figures[0].good, 7);
    assert_int_equal(service.figures[0].bad, 1);
    assert_close(service.figures[0].burn_rate[0], 1.0);
    assert_close(service.figures[0].burn_rate[2], 0.25);
    assert_close(service.figures[0].burn_rate[3], 9.0 / 16.0 / 0.5);
    assert_int_equal(service.figures[0].violations, 1);
}

static void
a_budget_spent_exactly_is_at_risk_and_one_more_violates(void **state)
{
    static const struct {
        double target;
        int total;
        int allowed;
    } cases[] = {{0.9, 10, 1}, {0.99, 100, 1}, {0.999, 1000, 1}, {0.95, 60, 3}, {0.7, 10, 3}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct slices *slices = NULL;
        struct slo_config config = availability(cases[i].target, 7 * DAY);
        struct slo_service service;
        assert_int_equal(slices_new(&slices, &STORE), ERR_OK);
        send(slices, DAY, cases[i].total - cases[i].allowed, 200, -1.0);
        send(slices, DAY, cases[i].allowed, 500, -1.0);
        service = figures_of(slices, &config);
        assert_int_equal(service.health, SLO_AT_RISK);
        assert_true(service.figures[0].error_budget_remaining == 0.0);
        assert_true(service.figures[0].events_left == 0.0);
        assert_true(service.figures[0].time_to_exhaustion_s == 0.0);
        assert_int_equal(service.figures[0].violations, 0);
        send(slices, DAY, 1, 500, -1.0);
        service = figures_of(slices, &config);
        assert_int_equal(service.health, SLO_VIOLATED);
        assert_true(service.figures[0].error_budget_remaining < 0.0);
        assert_true(service.figures[0].events_left < 0.0);
        assert_true(service.figures[0].minutes_left < 0.0);
        assert_int_equal(service.figures[0].violations, 1);
        slices_free(slices);
    }
}

static void
a_total_outage_is_violated_with_the_highest_burn(void **state)
{
    struct slices *slices = *state;
    struct slo_config config = availability(0.99, 7 * DAY);
    struct slo_service service;

    send(slices, 1, 3, 500, -1.0);
    service = figures_of(slices, &config);
    assert_close(service.figures[0].burn_rate[0], 100.0); /* 1/(1-T), the most there can be */
    assert_close(service.figures[0].error_budget_remaining, -99.0);
    assert_int_equal(service.health, SLO_VIOLATED);
}

static void
a_quarter_of_the_budget_is_the_edge_of_risk(void **state)
{
    struct slices *slices = *state;
    struct slo_config config = availability(0.96, 7 * DAY);

    send(slices, DAY, 97, 200, -1.0);
    send(slices, DAY, 3, 500, -1.0); /* 3 of 4: exactly a quarter is left */
    assert_int_equal(figures_of(slices, &config).health, SLO_HEALTHY);
    send(slices, DAY, 1, 500, -1.0);
    assert_int_equal(figures_of(slices, &config).health, SLO_AT_RISK);
}

/* One bad event in a quiet hour burns fast but would take months to spend the budget. */
static void
a_high_burn_that_spends_nothing_in_the_window_is_healthy(void **state)
{
    struct slices *slices = *state;
    struct slo_config config = availability(0.99, 7 * DAY);
    struct slo_service service;

    send(slices, DAY, 30000, 200, -1.0); /* 300 bad ones allowed, 168 hours in the window */
    send(slices, 10, 1, 500, -1.0);
    service = figures_of(slices, &config);
    assert_close(service.figures[0].burn_rate[2], 100.0);
    assert_true(service.figures[0].time_to_exhaustion_s > 7 * DAY * 60.0);
    assert_int_equal(service.health, SLO_HEALTHY);
    send(slices, 10, 1, 500, -1.0); /* twice as fast: 149 hours */
    service = figures_of(slices, &config);
    assert_true(service.figures[0].time_to_exhaustion_s < 7 * DAY * 60.0);
    assert_int_equal(service.health, SLO_AT_RISK);
}

static void
an_hour_without_bad_events_never_exhausts(void **state)
{
    struct slices *slices = *state;
    struct slo_service service;

    send(slices, 2 * DAY, 1, 500, -1.0);
    send(slices, 2 * DAY, 100000, 200, -1.0);
    send(slices, 1, 10, 200, -1.0);
    service = figures_of(slices, &CONFIG);
    assert_true(isnan(service.figures[0].time_to_exhaustion_s));
    assert_true(service.figures[0].burn_rate[2] == 0.0);
}

/* Thresholds that earlier events were never compared with: those do not count at all, not as bad.
 */
static void
a_threshold_counts_from_its_first_comparison(void **state)
{
    struct slices *slices = *state;
    struct slo_config config = CONFIG;
    struct slo_service service;

    send(slices, 5, 10, 200, 100.0);
    config.objective[1].threshold_us = 123000;
    service = figures_of(slices, &config);
    assert_int_equal(service.figures[1].health, SLO_NO_DATA);
    assert_int_equal(service.figures[1].good + service.figures[1].bad, 0);
}

static void
objectives_of_several_windows_have_each_their_own_sum(void **state)
{
    struct slices *slices = *state;
    struct slo_config config = {
        .objective = {{.id = "week", .target = 0.9, .window_minutes = 7 * DAY},
                      {.id = "month", .target = 0.9, .window_minutes = 28 * DAY},
                      {.id = "hour", .target = 0.9, .window_minutes = 60}},
        .objective_count = 3,
    };
    struct slo_service service;

    send(slices, 20 * DAY, 4, 500, 40.0);
    send(slices, 3 * DAY, 2, 500, 40.0);
    send(slices, 3, 1, 200, 40.0);
    service = figures_of(slices, &config);
    assert_int_equal(service.figures[0].bad, 2);
    assert_int_equal(service.figures[1].bad, 6);
    assert_int_equal(service.figures[2].bad, 0);
    assert_int_equal(service.bad, 6); /* the longest window's */
    assert_true(!isnan(service.latency_ms[0]));
    config.objective_count = 0;
    service = figures_of(slices, &config);
    assert_int_equal(service.health, SLO_NO_DATA);
    assert_int_equal(service.figure_count, 0);
}

static void
budgets_are_decimal_fractions(void **state)
{
    (void)state;
    assert_int_equal(slo_budget_ppb(0.999), 1000000);
    assert_int_equal(slo_budget_ppb(0.9), 100000000);
    assert_int_equal(slo_budget_ppb(0.99999), 10000);
    assert_int_equal(slo_budget_ppb(0.9999999999), 1);
    assert_int_equal(slo_budget_ppb(1.0), 1);
    assert_int_equal(slo_budget_ppb(0.0), 1000000000);
    assert_int_equal(slo_budget_ppb(-5.0), 1000000000);
    assert_int_equal(slo_budget_ppb(NAN), 1);
}

static void
names_are_the_documented_ones(void **state)
{
    (void)state;
    assert_string_equal(slo_health_name(SLO_NO_DATA), "no_data");
    assert_string_equal(slo_health_name(SLO_HEALTHY), "healthy");
    assert_string_equal(slo_health_name(SLO_AT_RISK), "at_risk");
    assert_string_equal(slo_health_name(SLO_VIOLATED), "violated");
    assert_string_equal(slo_type_name(SLO_AVAILABILITY), "availability");
    assert_string_equal(slo_type_name(SLO_LATENCY), "latency");
}

/* ---- the document ---- */

static struct slo_status_request
request_of(struct slices *slices)
{
    return (struct slo_status_request){
        .slices = slices,
        .config = &CONFIG,
        .tenant = TENANT,
        .now_us = NOW * INT64_C(60000000) + 1234567,
        .pending_events = 42,
    };
}

static cJSON *
document_of(const struct slo_status_request *request)
{
    struct buffer out = BUFFER_EMPTY;
    cJSON *document;

    slo_status_json(request, &out);
    assert_false(out.failed);
    document = cJSON_ParseWithLength(out.data, out.len);
    assert_non_null(document);
    buffer_free(&out);
    return document;
}

static const cJSON *
member(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

    assert_non_null(item);
    return item;
}

static const char *
text(const cJSON *object, const char *name)
{
    const char *value = cJSON_GetStringValue(member(object, name));

    assert_non_null(value);
    return value;
}

static void
an_unknown_service_is_an_empty_list_without_data(void **state)
{
    struct slo_status_request request = request_of(*state);
    struct buffer out = BUFFER_EMPTY;

    send(*state, 1, 1, 200, 5.0);
    request.service = SPAN_LITERAL("nobody");
    request.degraded = true;
    slo_status_json(&request, &out);
    buffer_append_char(&out, '\0');
    assert_string_equal(out.data, "{\"as_of\":\"2025-02-19T21:20:01.234567Z\",\"degraded\":true,"
                                  "\"pending_events\":42,\"health\":\"no_data\",\"services\":[]}");
    buffer_free(&out);
}

static void
the_document_has_the_documented_members(void **state)
{
    struct slo_status_request request = request_of(*state);
    cJSON *document;
    const cJSON *service;
    const cJSON *objective;
    int count = 0;

    send(*state, 1, 3, 200, 100.0);
    send_to(*state, SPAN_LITERAL("other"), 1, 1, 200, 5.0);
    request.service = SERVICE;
    document = document_of(&request);
    assert_string_equal(text(document, "health"), "healthy");
    assert_true(cJSON_IsFalse(member(document, "degraded")));
    assert_int_equal(cJSON_GetArraySize(member(document, "services")), 1);
    service = cJSON_GetArrayItem(member(document, "services"), 0);
    assert_string_equal(text(service, "service"), "checkout");
    assert_true(member(service, "total")->valueint == 3);
    assert_true(member(service, "availability")->valuedouble == 1.0);
    assert_true(member(service, "error_rate")->valuedouble == 0.0);
    assert_true(member(member(service, "latency_ms"), "max_relative_error")->valuedouble == 0.0109);
    assert_true(cJSON_IsNumber(member(member(service, "latency_ms"), "p99")));
    cJSON_ArrayForEach(objective, member(service, "objectives"))
    {
        bool latency = strcmp(text(objective, "type"), "latency") == 0;
        static const char *const members[] = {"id",
                                              "type",
                                              "target",
                                              "window",
                                              "window_start",
                                              "good",
                                              "bad",
                                              "attained",
                                              "error_budget_remaining",
                                              "events_left",
                                              "minutes_left",
                                              "burn_rate",
                                              "time_to_exhaustion_s",
                                              "alerts",
                                              "violations",
                                              "health"};
        for (size_t i = 0; i < ARRAY_LEN(members); i++) {
            (void)member(objective, members[i]);
        }
        assert_int_equal(cJSON_GetArraySize(objective), latency ? 17 : 16);
        assert_string_equal(text(objective, "window"), "30d");
        assert_true(cJSON_IsNull(member(objective, "time_to_exhaustion_s")));
        assert_true(cJSON_IsArray(member(objective, "alerts")));
        for (int i = 0; i < SLO_BURN_WINDOWS; i++) {
            assert_true(
                cJSON_IsNumber(member(member(objective, "burn_rate"), SLO_BURN_WINDOW_NAME[i])));
        }
        if (latency) {
            assert_true(member(objective, "threshold_ms")->valuedouble == 500.0);
        }
        count++;
    }
    assert_int_equal(count, 2);
    cJSON_Delete(document);
}

static void
services_are_listed_worst_first(void **state)
{
    struct slo_status_request request = request_of(*state);
    static const char *const expected[] = {"broken", "also-bad", "a-fine", "b-fine", "stale"};
    cJSON *document;

    send_to(*state, SPAN_LITERAL("stale"), 35 * DAY, 1, 500, -1.0); /* before the window */
    send_to(*state, SPAN_LITERAL("b-fine"), 1, 1, 200, -1.0);
    send_to(*state, SPAN_LITERAL("a-fine"), 1, 1, 200, -1.0);
    send_to(*state, SPAN_LITERAL("also-bad"), 1, 1, 500, -1.0);
    send_to(*state, SPAN_LITERAL("also-bad"), 1, 1, 200, -1.0);
    send_to(*state, SPAN_LITERAL("broken"), 1, 1, 500, -1.0);
    document = document_of(&request);
    assert_string_equal(text(document, "health"), "violated");
    assert_int_equal(cJSON_GetArraySize(member(document, "services")), 5);
    for (int i = 0; i < 5; i++) {
        const cJSON *service = cJSON_GetArrayItem(member(document, "services"), i);
        assert_string_equal(text(service, "service"), expected[i]);
    }
    cJSON_Delete(document);
}

static void
an_objective_tells_its_own_health(void **state)
{
    struct slo_status_request request = request_of(*state);
    cJSON *document;
    const cJSON *objectives;

    send(*state, 1, 1, 500, 1.0); /* failed, but fast */
    document = document_of(&request);
    assert_string_equal(text(document, "health"), "violated");
    objectives = member(cJSON_GetArrayItem(member(document, "services"), 0), "objectives");
    assert_string_equal(text(cJSON_GetArrayItem(objectives, 0), "type"), "availability");
    assert_string_equal(text(cJSON_GetArrayItem(objectives, 0), "health"), "violated");
    assert_string_equal(text(cJSON_GetArrayItem(objectives, 1), "health"), "healthy");
    cJSON_Delete(document);
}

static void
windows_are_named_by_their_largest_unit(void **state)
{
    struct slo_status_request request = request_of(*state);
    static const int64_t minutes[] = {7 * DAY, 36 * HOUR, 90};
    static const char *const names[] = {"7d", "36h", "90m"};

    send(*state, 1, 1, 200, -1.0);
    for (size_t i = 0; i < ARRAY_LEN(minutes); i++) {
        struct slo_config config = availability(0.9, minutes[i]);
        cJSON *document;
        const cJSON *service;
        request.config = &config;
        document = document_of(&request);
        service = cJSON_GetArrayItem(member(document, "services"), 0);
        assert_string_equal(text(cJSON_GetArrayItem(member(service, "objectives"), 0), "window"),
                            names[i]);
        cJSON_Delete(document);
    }
}

static void
without_memory_the_answer_is_marked_as_failed(void **state)
{
    struct slo_status_request request = request_of(*state);
    bool failed = true;
    long allowed = 0;

    if (!FAILING_ALLOC) {
        print_message("the sanitizers bring their own malloc()\n");
        skip();
    }
    send(*state, 1, 10, 200, 70.0);
    send(*state, 2 * DAY, 10, 500, 90.0);
    for (; failed; allowed++) {
        struct buffer out = BUFFER_EMPTY;
        fail_allocations_after(allowed);
        slo_status_json(&request, &out);
        fail_allocations_after(-1);
        failed = out.failed;
        buffer_free(&out);
        assert_true(allowed < 1000);
    }
    assert_true(allowed > 10);
}

int
main(void)
{
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, store_setup, store_teardown)
    const struct CMUnitTest tests[] = {
        STORE_TEST(an_event_accepted_ahead_of_the_clock_counts_at_once),
        STORE_TEST(figures_are_those_worked_out_by_hand),
        STORE_TEST(no_traffic_is_no_data),
        STORE_TEST(windows_include_the_running_minute),
        cmocka_unit_test(a_budget_spent_exactly_is_at_risk_and_one_more_violates),
        STORE_TEST(a_total_outage_is_violated_with_the_highest_burn),
        STORE_TEST(a_quarter_of_the_budget_is_the_edge_of_risk),
        STORE_TEST(a_high_burn_that_spends_nothing_in_the_window_is_healthy),
        STORE_TEST(an_hour_without_bad_events_never_exhausts),
        STORE_TEST(a_threshold_counts_from_its_first_comparison),
        STORE_TEST(objectives_of_several_windows_have_each_their_own_sum),
        cmocka_unit_test(budgets_are_decimal_fractions),
        cmocka_unit_test(names_are_the_documented_ones),
        STORE_TEST(an_unknown_service_is_an_empty_list_without_data),
        STORE_TEST(the_document_has_the_documented_members),
        STORE_TEST(services_are_listed_worst_first),
        STORE_TEST(an_objective_tells_its_own_health),
        STORE_TEST(windows_are_named_by_their_largest_unit),
        STORE_TEST(without_memory_the_answer_is_marked_as_failed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
