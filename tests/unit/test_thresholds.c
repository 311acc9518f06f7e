/*
 * test_thresholds.c - thresholds that change while events come and go: every count of an event
 * compares it with the same ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/journal.h"
#include "core/slo/objective_set.h"
#include "core/slo/slices.h"
#include "core/slo/thresholds.h"

#define TENANT SPAN_LITERAL("acme")
#define SERVICE SPAN_LITERAL("checkout")
#define MINUTE_US INT64_C(60000000)

enum {
    NOW = 29000000,
    EVENTS = 2000,
    VERSIONS = 40,
};

/* One latency objective of SERVICE; THRESHOLD_US 0: none. */
static const struct objective_set *
set_of(uint32_t threshold_us)
{
    struct objective item = {.slo = {.id = "one",
                                     .type = SLO_LATENCY,
                                     .target = 0.9,
                                     .threshold_us = threshold_us,
                                     .window_minutes = 1440},
                             .tenant = "acme",
                             .service = "checkout"};
    const struct objective_set *set = NULL;
    char problem[OBJECTIVE_PROBLEM_SIZE];

    assert_int_equal(objective_set_new(&set, &item, threshold_us == 0 ? 0 : 1, 0, problem), ERR_OK);
    return set;
}

static void
set_threshold(struct thresholds *thresholds, uint32_t threshold_us, uint64_t settled)
{
    const struct objective_set *set = set_of(threshold_us);

    assert_int_equal(thresholds_set(thresholds, set, settled), ERR_OK);
    objective_set_release(set);
}

static void
a_change_counts_from_the_next_event_on(void **state)
{
    struct slice_rules rules = {{500000}, 1, NULL};
    struct slice_rules seen;

    (void)state;
    assert_int_equal(thresholds_new(&rules.by_service), ERR_OK);
    thresholds_begin(&rules, 1);
    assert_int_equal(thresholds_of(&rules, 1, TENANT, SERVICE).threshold_count, 1);
    set_threshold(rules.by_service, 300000, 0);
    assert_int_equal(thresholds_of(&rules, 7, TENANT, SERVICE).threshold_count, 1); /* not begun */
    thresholds_begin(&rules, 8);
    seen = thresholds_of(&rules, 8, TENANT, SERVICE);
    assert_int_equal(seen.threshold_count, 2);
    assert_int_equal(seen.threshold_us[0], 300000);
    assert_int_equal(seen.threshold_us[1], 500000);
    assert_true(slice_rules_valid(&seen));
    set_threshold(rules.by_service, 700000, 0);
    thresholds_begin(&rules, 20);
    assert_int_equal(thresholds_of(&rules, 19, TENANT, SERVICE).threshold_us[0], 300000);
    assert_int_equal(thresholds_of(&rules, 20, TENANT, SERVICE).threshold_us[1], 700000);
    assert_int_equal(thresholds_of(&rules, 20, TENANT, SPAN_LITERAL("other")).threshold_count, 1);
    assert_int_equal(thresholds_of(&rules, 20, SPAN_LITERAL("beta"), SERVICE).threshold_count, 1);
    /* What is settled is forgotten; what is not stays. */
    set_threshold(rules.by_service, 0, 19);
    thresholds_begin(&rules, 30);
    assert_int_equal(thresholds_of(&rules, 29, TENANT, SERVICE).threshold_us[1], 700000);
    assert_int_equal(thresholds_of(&rules, 30, TENANT, SERVICE).threshold_count, 1);
    thresholds_free(rules.by_service);
}

static struct event
random_event(uint64_t seq)
{
    return (struct event){.has_status = true,
                          .has_latency = true,
                          .status = drand48() < 0.1 ? 500 : 200,
                          .latency_ms = (double)(lrand48() % 1000),
                          .occurred_at_us = (NOW - (int64_t)(seq % 7)) * MINUTE_US,
                          .tenant = TENANT,
                          .service = SERVICE};
}

/*
 * Events are added under changing thresholds; later, as batches, they are folded for the sink, and
 * some are taken out of memory again: memory must then equal the sum of what was folded.
 */
static void
memory_and_batches_agree_whenever_thresholds_change(void **state)
{
    struct slices_config config = {
        .rules = {{500000}, 1, NULL}, .series_max = 10, .retain_minutes = 40 * 1440};
    static struct batch_event items[EVENTS];
    struct batch batch = {.events = items, .count = EVENTS};
    struct slice memory = {0};
    struct slice folded = {0};
    struct slices *slices;

    (void)state;
    srand48(7);
    assert_int_equal(thresholds_new(&config.rules.by_service), ERR_OK);
    assert_int_equal(slices_new(&slices, &config), ERR_OK);
    for (uint64_t i = 0; i < EVENTS; i++) {
        if (i % (EVENTS / VERSIONS) == 0) {
            set_threshold(config.rules.by_service, (uint32_t)(lrand48() % 900000) + 1, 0);
        }
        items[i] = (struct batch_event){.seq = i + 1, .event = random_event(i + 1)};
        assert_int_equal(slices_add_event(slices, &items[i].event, i + 1, NOW * MINUTE_US), ERR_OK);
    }
    for (size_t i = 0; i < EVENTS; i++) {
        if (drand48() < 0.2) {
            items[i].outcome = OUTCOME_DUPLICATE;
            assert_int_equal(
                slices_remove_event(slices, &items[i].event, items[i].seq, NOW * MINUTE_US),
                ERR_OK);
        }
    }
    assert_int_equal(batch_fold(&batch, slices_rules(slices)), ERR_OK);
    for (size_t i = 0; i < batch.delta.len; i++) {
        assert_int_equal(slice_add(&folded, &batch.delta.entries[i].slice), ERR_OK);
    }
    assert_int_equal(slices_sum(slices, TENANT, SERVICE, NOW - 10, NOW + 1, &memory), ERR_OK);
    assert_true(folded.threshold.len > 2 * VERSIONS - 4);
    assert_true(slice_covers(&memory, &folded));
    assert_true(slice_covers(&folded, &memory));
    slice_clear(&memory);
    slice_clear(&folded);
    batch_unfold(&batch);
    slices_free(slices);
    thresholds_free(config.rules.by_service);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_change_counts_from_the_next_event_on),
        cmocka_unit_test(memory_and_batches_agree_whenever_thresholds_change),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
