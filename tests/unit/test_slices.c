/*
 * test_slices.c - the store against a plain list of events.
 *
 * The model keeps every event that should count and adds up what lies in a range, one by one.
 * Whatever the levels, packing, expiry and replacing do, each sum must equal the model's to the
 * byte.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/slo/slices.h"
#include "tests/unit/failing_alloc.h"

enum {
    HOUR = 60,
    DAY = 24 * HOUR,
};

#define TENANT SPAN_LITERAL("acme")
#define SERVICE SPAN_LITERAL("checkout")

static const struct slices_config CONFIG = {
    .rules = {{100000, 500000}, 2, NULL},
    .series_max = 100,
    .retain_minutes = 40 * DAY,
};

static struct slices *
make_store(uint32_t open_hours_max)
{
    struct slices_config config = CONFIG;
    struct slices *slices = NULL;

    config.open_hours_max = open_hours_max;
    assert_int_equal(slices_new(&slices, &config), ERR_OK);
    return slices;
}

static struct event
event_at(int64_t minute, uint16_t status, double latency_ms)
{
    return (struct event){
        .has_status = true,
        .has_latency = latency_ms >= 0,
        .status = status,
        .latency_ms = latency_ms,
        .occurred_at_us = minute * 60000000 + 59999999,
        .tenant = TENANT,
        .service = SERVICE,
    };
}

static int64_t
us(int64_t minute)
{
    return minute * 60000000;
}

static void
add(struct slices *slices, int64_t minute, uint16_t status, double latency_ms, int64_t now)
{
    struct event event = event_at(minute, status, latency_ms);

    assert_int_equal(slices_add_event(slices, &event, 1, us(now)), ERR_OK);
}

static uint64_t
total_in(struct slices *slices, int64_t from, int64_t to)
{
    struct slice sum = {0};
    uint64_t total;

    assert_int_equal(slices_sum(slices, TENANT, SERVICE, from, to, &sum), ERR_OK);
    total = sum.good + sum.bad;
    slice_clear(&sum);
    return total;
}

static void
assert_same(const struct slice *a, const struct slice *b)
{
    struct buffer x = BUFFER_EMPTY;
    struct buffer y = BUFFER_EMPTY;

    slice_encode(a, &x);
    slice_encode(b, &y);
    assert_int_equal(a->good, b->good);
    assert_int_equal(a->bad, b->bad);
    assert_int_equal(x.len, y.len);
    assert_memory_equal(x.data, y.data, x.len);
    buffer_free(&x);
    buffer_free(&y);
}

/* ---- the model ---- */

enum {
    MODEL_EVENTS_MAX = 20000,
    MODEL_FOREIGN_MAX = 1000,
};

struct model_foreign {
    uint64_t source;
    int64_t minute;
    struct slice slice;
};

struct model {
    struct event events[MODEL_EVENTS_MAX];
    size_t len;
    struct model_foreign foreign[MODEL_FOREIGN_MAX];
    size_t foreign_len;
};

static void
model_sum(const struct model *model, int64_t from, int64_t to, struct slice *sum)
{
    for (size_t i = 0; i < model->len; i++) {
        int64_t minute = minute_of_us(model->events[i].occurred_at_us);
        if (minute >= from && minute < to) {
            assert_int_equal(slice_add_event(sum, &model->events[i], &CONFIG.rules), ERR_OK);
        }
    }
    for (size_t i = 0; i < model->foreign_len; i++) {
        if (model->foreign[i].minute >= from && model->foreign[i].minute < to) {
            assert_int_equal(slice_add(sum, &model->foreign[i].slice), ERR_OK);
        }
    }
}

static struct slice *
model_foreign(struct model *model, uint64_t source, int64_t minute)
{
    for (size_t i = 0; i < model->foreign_len; i++) {
        if (model->foreign[i].source == source && model->foreign[i].minute == minute) {
            return &model->foreign[i].slice;
        }
    }
    assert_true(model->foreign_len < MODEL_FOREIGN_MAX);
    model->foreign[model->foreign_len] = (struct model_foreign){source, minute, {0}};
    return &model->foreign[model->foreign_len++].slice;
}

static void
model_expire(struct model *model, int64_t before)
{
    size_t kept = 0;

    for (size_t i = 0; i < model->len; i++) {
        if (minute_of_us(model->events[i].occurred_at_us) >= before) {
            model->events[kept++] = model->events[i];
        }
    }
    model->len = kept;
    kept = 0;
    for (size_t i = 0; i < model->foreign_len; i++) {
        if (model->foreign[i].minute >= before) {
            model->foreign[kept++] = model->foreign[i];
        } else {
            slice_clear(&model->foreign[i].slice);
        }
    }
    model->foreign_len = kept;
}

static int64_t
random_below(int64_t limit)
{
    return (int64_t)(drand48() * (double)limit);
}

static void
compare_range(struct slices *slices, const struct model *model, int64_t from, int64_t to)
{
    struct slice expected = {0};
    struct slice sum = {0};
    struct slice counts = {0};

    model_sum(model, from, to, &expected);
    assert_int_equal(slices_sum(slices, TENANT, SERVICE, from, to, &sum), ERR_OK);
    assert_same(&sum, &expected);
    assert_int_equal(slices_sum_counts(slices, TENANT, SERVICE, from, to, &counts), ERR_OK);
    sparse_clear(&expected.latency);
    assert_same(&counts, &expected);
    slice_clear(&expected);
    slice_clear(&sum);
    slice_clear(&counts);
}

struct minute_check {
    const struct model *model;
    int64_t next;
    uint64_t events;
    uint64_t violations;
    struct slices_limit limit;
};

static void
check_minute(void *arg, int64_t minute, uint64_t good, uint64_t bad)
{
    struct minute_check *check = arg;
    struct slice expected = {0};

    assert_true(minute >= check->next);
    check->next = minute + 1;
    model_sum(check->model, minute, minute + 1, &expected);
    assert_int_equal(good, expected.good);
    assert_int_equal(bad, expected.bad);
    assert_true(good + bad > 0);
    check->events += good + bad;
    slice_good_bad(&expected, &check->limit.measure, &good, &bad);
    check->violations += slices_limit_broken(check->limit, good, bad) ? 1 : 0;
    slice_clear(&expected);
}

static void
compare_minutes(struct slices *slices, const struct model *model, int64_t from, int64_t to)
{
    static const struct slices_limit limits[] = {{{0, {0}}, 1000000},
                                                 {{0, {0}}, 300000000},
                                                 {{100000, {0}}, 500000000},
                                                 {{500000, {0}}, 10000000}};

    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        struct minute_check check = {model, from, 0, 0, limits[i]};
        slices_each_minute(slices, TENANT, SERVICE, from, to, check_minute, &check);
        assert_int_equal(check.events, total_in(slices, from, to));
        /* Twice: counted, then remembered. */
        for (int again = 0; again < 2; again++) {
            assert_int_equal(slices_violations(slices, TENANT, SERVICE, from, to, limits[i]),
                             check.violations);
        }
    }
}

static void
step_add(struct slices *slices, struct model *model, int64_t now)
{
    static const uint16_t statuses[] = {200, 200, 200, 404, 500, 503};
    /* Mostly now, some late by minutes, a few by weeks. */
    double luck = drand48();
    int64_t late = luck < 0.5 ? 0 : luck < 0.8 ? random_below(3 * HOUR) : random_below(35 * DAY);
    struct event event = event_at(now - late, statuses[random_below(6)],
                                  drand48() < 0.2 ? -1.0 : drand48() * 1000.0);

    assert_int_equal(slices_add_event(slices, &event, 1, us(now)), ERR_OK);
    model->events[model->len++] = event;
}

static void
step_remove(struct slices *slices, struct model *model, int64_t now)
{
    size_t at;

    if (model->len == 0) {
        return;
    }
    at = (size_t)random_below((int64_t)model->len);
    assert_int_equal(slices_remove_event(slices, &model->events[at], 1, us(now)), ERR_OK);
    model->events[at] = model->events[--model->len];
}

static void
step_foreign(struct slices *slices, struct model *model, int64_t now)
{
    int64_t minute = now - random_below(4) * 7 * DAY - random_below(5);
    uint64_t source = drand48() < 0.5 ? 1 : UINT64_MAX;
    struct slice_key key = {TENANT, SERVICE, minute};
    struct slice slice = {0};
    struct slice *kept;

    for (int64_t i = random_below(6); i > 0; i--) { /* also none: takes it out */
        struct event event = event_at(minute, drand48() < 0.5 ? 200 : 500, drand48() * 1000.0);
        assert_int_equal(slice_add_event(&slice, &event, &CONFIG.rules), ERR_OK);
    }
    assert_int_equal(slices_set_foreign(slices, source, &key, &slice, us(now)), ERR_OK);
    assert_int_equal(slices_set_foreign(slices, source, &key, &slice, us(now)), ERR_OK);
    kept = model_foreign(model, source, minute);
    slice_clear(kept);
    *kept = slice;
}

static void
compare_random_ranges(struct slices *slices, const struct model *model, int64_t now)
{
    for (int i = 0; i < 12; i++) {
        int64_t to = now + 1 - random_below(i % 2 == 0 ? 2 : 20 * DAY);
        int64_t length = i % 3 == 0   ? random_below(3 * HOUR)
                         : i % 3 == 1 ? random_below(3 * DAY)
                                      : random_below(45 * DAY);
        compare_range(slices, model, to - length, to);
    }
    compare_range(slices, model, INT64_MIN, INT64_MAX);
    compare_range(slices, model, now, now);
    compare_range(slices, model, now, now - 5);
    compare_minutes(slices, model, now - random_below(35 * DAY), now + 1);
}

static void
run_against_model(uint32_t open_hours_max, long seed)
{
    static struct model model;
    struct slices *slices = make_store(open_hours_max);
    struct slices_stats stats;
    int64_t now = 28000000 + seed * 977;

    srand48(seed);
    for (int step = 0; step < 4000; step++) {
        double luck = drand48();
        if (luck < 0.75) {
            step_add(slices, &model, now);
        } else if (luck < 0.9) {
            step_remove(slices, &model, now);
        } else {
            step_foreign(slices, &model, now);
        }
        if (step % 40 == 0) {
            now += random_below(step % 800 == 0 ? 6 * DAY : 2 * HOUR);
        }
        if (step % 100 == 0) {
            int64_t cutoff = (now - CONFIG.retain_minutes) / DAY * DAY;
            slices_expire(slices, us(now));
            model_expire(&model, cutoff);
        }
        if (step % 250 == 0) {
            compare_random_ranges(slices, &model, now);
        }
    }
    compare_random_ranges(slices, &model, now);
    slices_stats(slices, &stats);
    assert_int_equal(stats.dropped_events, 0);
    assert_true(stats.open_hours <= (open_hours_max < 3 ? 3 : open_hours_max));

    model_expire(&model, INT64_MAX);
    slices_expire(slices, us(now + 100 * DAY));
    slices_stats(slices, &stats);
    assert_int_equal(stats.slices, 0);
    assert_int_equal(stats.series, 0);
    assert_int_equal(stats.open_hours, 0);
    slices_free(slices);
}

static void
sums_equal_a_list_of_events_with_hours_open(void **state)
{
    (void)state;
    run_against_model(2000, 1);
    run_against_model(2000, 2);
}

static void
sums_equal_a_list_of_events_with_hours_packed_at_once(void **state)
{
    (void)state;
    run_against_model(1, 3);
    run_against_model(1, 4);
}

/* ---- windows that slide ---- */

static const int64_t LENGTHS[] = {5, 30, HOUR, 6 * HOUR, 3 * DAY, 7 * DAY, 30 * DAY};

static uint32_t
told_limits(void *arg, struct span tenant, struct span service, struct slices_limit *limits,
            uint32_t max)
{
    (void)arg;
    (void)service;
    assert_true(span_equal(tenant, TENANT));
    assert_true(max >= 2);
    limits[0] = (struct slices_limit){.budget_ppb = 300000000};
    limits[1] = (struct slices_limit){{500000, {0}}, 400000000};
    return 2;
}

static void
compare_windows(struct slices *slices, const struct model *model, int64_t end)
{
    struct slices_window windows[ARRAY_LEN(LENGTHS)] = {0};

    for (size_t i = 0; i < ARRAY_LEN(LENGTHS); i++) {
        windows[i].from_minute = end - LENGTHS[i];
        windows[i].with_latency = i % 2 == 0;
    }
    assert_int_equal(
        slices_sum_windows(slices, TENANT, SERVICE, end + 5, windows, ARRAY_LEN(LENGTHS)), ERR_OK);
    for (size_t i = 0; i < ARRAY_LEN(LENGTHS); i++) {
        struct slice expected = {0};

        model_sum(model, windows[i].from_minute, end + 5, &expected);
        if (!windows[i].with_latency) {
            sparse_clear(&expected.latency);
        }
        assert_same(&windows[i].sum, &expected);
        slice_clear(&windows[i].sum);
        slice_clear(&expected);
    }
}

/* Those the store was told of, and more others than it can remember. */
static void
compare_violations(struct slices *slices, const struct model *model, int64_t end)
{
    struct slices_limit limits[20];

    for (uint32_t i = 0; i < ARRAY_LEN(limits); i++) {
        limits[i] = (struct slices_limit){{i % 2 == 0 ? 0 : 100000, {0}}, 50000000 * (i + 1)};
    }
    (void)told_limits(NULL, TENANT, SERVICE, limits, 2);
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        const int64_t from = end - LENGTHS[i % ARRAY_LEN(LENGTHS)];
        struct minute_check check = {model, from, 0, 0, limits[i]};

        slices_each_minute(slices, TENANT, SERVICE, from, end, check_minute, &check);
        assert_int_equal(slices_violations(slices, TENANT, SERVICE, from, end, limits[i]),
                         check.violations);
    }
}

/*
 * The same lengths again and again while time goes on, mostly by minutes: sums are moved, not made
 * anew, and late events, removals, other nodes and expiry change what they cover.
 */
static void
sliding_windows_equal_a_list_of_events(void **state)
{
    static struct model model;
    struct slices_config config = CONFIG;
    struct slices *slices = NULL;
    int64_t now = 28000000;

    (void)state;
    srand48(7);
    config.limits = told_limits;
    config.open_hours_max = 4;
    assert_int_equal(slices_new(&slices, &config), ERR_OK);
    for (int round = 0; round < 250; round++) {
        for (int i = 0; i < 4; i++) {
            step_add(slices, &model, now);
        }
        if (round % 3 == 0) {
            step_remove(slices, &model, now);
        }
        if (round % 5 == 0) {
            step_foreign(slices, &model, now);
        }
        compare_windows(slices, &model, now + 1);
        if (round % 10 == 0) {
            compare_violations(slices, &model, now + 1);
            slices_expire(slices, us(now));
            model_expire(&model, (now - CONFIG.retain_minutes) / DAY * DAY);
        }
        now += round % 40 == 39 ? random_below(4 * DAY) : random_below(round % 7 == 0 ? 90 : 3);
    }
    model_expire(&model, INT64_MAX);
    slices_free(slices);
}

static void
removing_every_event_leaves_nothing(void **state)
{
    struct slices *slices = make_store(0);
    struct slices_stats stats;
    const int64_t now = 28000000;

    (void)state;
    for (int round = 0; round < 2; round++) {
        for (int64_t i = 0; i < 500; i++) {
            struct event event = event_at(now - i * 13, 200, (double)i);
            enum err err = round == 0 ? slices_add_event(slices, &event, 1, us(now))
                                      : slices_remove_event(slices, &event, 1, us(now));
            assert_int_equal(err, ERR_OK);
        }
        slices_expire(slices, us(now)); /* the second round takes out of packed hours */
    }
    slices_stats(slices, &stats);
    assert_int_equal(stats.slices, 0);
    assert_int_equal(stats.series, 0);
    assert_int_equal(stats.open_hours, 0);
    slices_free(slices);
}

static void
what_was_dropped_is_ignored_when_it_is_removed(void **state)
{
    struct slices *slices = make_store(0);
    const int64_t now = 28000000;
    struct event old = event_at(now - 41 * DAY - DAY, 200, 5.0);
    struct event never_added = event_at(now, 503, 5.0);
    struct event unknown = event_at(now, 200, 5.0);
    struct event unmeasured = event_at(now, 200, 5.0);
    struct slices_stats stats;

    (void)state;
    add(slices, now, 200, 5.0, now);
    assert_int_equal(slices_add_event(slices, &old, 1, us(now)), ERR_OK);
    slices_stats(slices, &stats);
    assert_int_equal(stats.dropped_events, 1);
    assert_int_equal(slices_remove_event(slices, &old, 1, us(now)), ERR_OK);
    assert_int_equal(slices_remove_event(slices, &never_added, 1, us(now)), ERR_OK);
    unknown.service = SPAN_LITERAL("nobody");
    assert_int_equal(slices_remove_event(slices, &unknown, 1, us(now)), ERR_OK);
    unmeasured.has_status = false;
    assert_int_equal(slices_add_event(slices, &unmeasured, 1, us(now)), ERR_OK);
    assert_int_equal(slices_remove_event(slices, &unmeasured, 1, us(now)), ERR_OK);
    assert_int_equal(total_in(slices, INT64_MIN, INT64_MAX), 1);
    slices_free(slices);
}

/* The own node's event was dropped for being of one series too many; another node counted one just
 * like it. */
static void
removing_takes_nothing_from_other_nodes(void **state)
{
    struct slices *slices = make_store(0);
    const int64_t now = 28000000;
    struct event event = event_at(now, 200, 5.0);
    struct slice_key key = {TENANT, SERVICE, now};
    struct slice foreign = {0};
    struct slice nothing = {0};

    (void)state;
    assert_int_equal(slice_add_event(&foreign, &event, &CONFIG.rules), ERR_OK);
    assert_int_equal(slices_set_foreign(slices, 7, &key, &foreign, us(now)), ERR_OK);
    assert_int_equal(slices_remove_event(slices, &event, 1, us(now)), ERR_OK);
    assert_int_equal(total_in(slices, now, now + 1), 1);
    assert_int_equal(slices_add_event(slices, &event, 1, us(now)), ERR_OK);
    assert_int_equal(slices_remove_event(slices, &event, 1, us(now)), ERR_OK);
    assert_int_equal(total_in(slices, now, now + 1), 1);
    assert_int_equal(slices_set_foreign(slices, 7, &key, &nothing, us(now)), ERR_OK);
    assert_int_equal(total_in(slices, now, now + 1), 0);
    assert_int_equal(slices_set_foreign(slices, 7, &key, &nothing, us(now)), ERR_OK);
    slice_clear(&foreign);
    slices_free(slices);
}

static void
sources_replace_their_own_slice_only(void **state)
{
    struct slices *slices = make_store(0);
    const int64_t now = 28000000;
    struct event event = event_at(now, 500, -1.0);
    struct slice_key key = {TENANT, SERVICE, now};
    struct slice slice = {0};

    (void)state;
    add(slices, now, 200, 5.0, now);
    for (uint64_t i = 1; i <= 3; i++) {
        assert_int_equal(slice_add_event(&slice, &event, &CONFIG.rules), ERR_OK);
        assert_int_equal(slices_set_foreign(slices, 1, &key, &slice, us(now)), ERR_OK);
        assert_int_equal(total_in(slices, now, now + 1), 1 + i);
    }
    assert_int_equal(slices_set_foreign(slices, 2, &key, &slice, us(now)), ERR_OK);
    assert_int_equal(total_in(slices, now, now + 1), 7);
    assert_int_equal(slices_set_foreign(slices, 2, &key, &slice, us(now + 60 * DAY)), ERR_OK);
    slices_expire(slices, us(now + 60 * DAY));
    assert_int_equal(total_in(slices, now, now + 1), 0);
    slice_clear(&slice);
    slices_free(slices);
}

static void
history_and_events_add_up(void **state)
{
    struct slices *slices = make_store(0);
    const int64_t now = 28000000;
    struct event event = event_at(now, 500, 200.0);
    struct slice_key key = {TENANT, SERVICE, now};
    struct slice_key nameless = {TENANT, {NULL, 0}, now};
    struct slice history = {0};

    (void)state;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(slice_add_event(&history, &event, &CONFIG.rules), ERR_OK);
    }
    assert_int_equal(slices_add(slices, &key, &history, us(now)), ERR_OK);
    assert_int_equal(slices_add_event(slices, &event, 1, us(now)), ERR_OK);
    assert_int_equal(total_in(slices, now, now + 1), 6);
    key.minute = now - 50 * DAY; /* older than is kept: ignored */
    assert_int_equal(slices_add(slices, &key, &history, us(now)), ERR_OK);
    assert_int_equal(total_in(slices, INT64_MIN, INT64_MAX), 6);
    assert_int_equal(slices_add(slices, &nameless, &history, us(now)), ERR_INVALID);
    slice_clear(&history);
    slices_free(slices);
}

static void
a_history_beyond_the_limit_is_refused_whole(void **state)
{
    struct slices *slices = make_store(0);
    const int64_t now = 28000000;
    struct slice_key key = {TENANT, SERVICE, now};
    struct sparse_entry entry = {200, SLICE_TOTAL_MAX};
    struct slice most = {.good = SLICE_TOTAL_MAX, .status = {&entry, 1, 1}};
    struct slices_stats stats;

    (void)state;
    add(slices, now, 200, 5.0, now);
    key.minute = now - 1;
    assert_int_equal(slices_add(slices, &key, &most, us(now)), ERR_CORRUPT);
    assert_int_equal(slices_set_foreign(slices, 1, &key, &most, us(now)), ERR_CORRUPT);
    assert_int_equal(total_in(slices, INT64_MIN, INT64_MAX), 1);
    slices_stats(slices, &stats);
    assert_int_equal(stats.slices, 1);
    slices_free(slices);
}

static void
a_series_beyond_the_limit_is_dropped_and_counted(void **state)
{
    struct slices *slices = make_store(0);
    const int64_t now = 28000000;
    struct slices_stats stats;
    struct slice slice = {0};

    (void)state;
    for (int i = 0; i < 120; i++) {
        char name[32];
        struct event event = event_at(now, 200, 5.0);
        snprintf(name, sizeof(name), "service-%d", i);
        event.service = span_of(name);
        assert_int_equal(slices_add_event(slices, &event, 1, us(now)), ERR_OK);
        if (i == 119) {
            struct slice_key key = {TENANT, event.service, now};
            assert_int_equal(slices_remove_event(slices, &event, 1, us(now)), ERR_OK);
            assert_int_equal(slice_add_event(&slice, &event, &CONFIG.rules), ERR_OK);
            assert_int_equal(slices_set_foreign(slices, 1, &key, &slice, us(now)), ERR_OK);
        }
    }
    slices_stats(slices, &stats);
    assert_int_equal(stats.series, 100);
    assert_int_equal(stats.slices, 100);
    assert_int_equal(stats.dropped_events, 20);
    slice_clear(&slice);
    slices_free(slices);
}

static void
bad_configurations_are_refused(void **state)
{
    struct slices_config config = CONFIG;
    struct slices *slices = NULL;

    (void)state;
    config.series_max = 0;
    assert_int_equal(slices_new(&slices, &config), ERR_INVALID);
    config = CONFIG;
    config.retain_minutes = 5;
    assert_int_equal(slices_new(&slices, &config), ERR_INVALID);
    config.retain_minutes = INT64_MAX;
    assert_int_equal(slices_new(&slices, &config), ERR_INVALID);
    config = CONFIG;
    config.rules.threshold_us[1] = 1;
    assert_int_equal(slices_new(&slices, &config), ERR_INVALID);
    assert_null(slices);
    slices_free(NULL);
}

/* ---- walking the series ---- */

struct walk {
    struct slices *slices;
    char names[200];
    size_t count;
};

static void
note_service(void *arg, struct span service)
{
    struct walk *walk = arg;
    struct slice sum = {0};

    /* Calling back must neither deadlock nor disturb the walk, even when it adds a series. */
    if (walk->slices != NULL) {
        struct event event = event_at(28000000, 200, 5.0);
        event.service = SPAN_LITERAL("added-meanwhile");
        assert_int_equal(slices_add_event(walk->slices, &event, 1, us(28000000)), ERR_OK);
        assert_int_equal(slices_sum(walk->slices, TENANT, service, 0, INT64_MAX, &sum), ERR_OK);
        assert_true(sum.good > 0);
        slice_clear(&sum);
    }
    strncat(walk->names, service.data, service.len);
    strcat(walk->names, " ");
    walk->count++;
}

static void
count_series(void *arg, struct span tenant, struct span service)
{
    struct walk *walk = arg;

    assert_true(tenant.len > 0);
    assert_true(service.len > 0);
    walk->count++;
}

static void
services_are_listed_by_tenant_in_name_order(void **state)
{
    static const char *const names[][2] = {{"acme", "b"}, {"acme", "a"},    {"acme", "a1"},
                                           {"acm", "x"},  {"acmes", "y"},   {"acme", "B"},
                                           {"acme", "z"}, {"other", "none"}};
    struct slices *slices = make_store(0);
    struct walk walk = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct event event = event_at(28000000, 200, 5.0);
        event.tenant = span_of(names[i][0]);
        event.service = span_of(names[i][1]);
        assert_int_equal(slices_add_event(slices, &event, 1, us(28000000)), ERR_OK);
    }
    slices_each_service(slices, TENANT, note_service, &walk);
    assert_string_equal(walk.names, "B a a1 b z ");
    walk = (struct walk){.slices = slices};
    slices_each_service(slices, TENANT, note_service, &walk);
    assert_string_equal(walk.names, "B a a1 added-meanwhile b z ");
    walk = (struct walk){0};
    slices_each_service(slices, SPAN_LITERAL("nobody"), note_service, &walk);
    slices_each_service(slices, (struct span){NULL, 0}, note_service, &walk);
    assert_int_equal(walk.count, 0);
    slices_each_series(slices, count_series, &walk);
    assert_int_equal(walk.count, 9);
    slices_free(slices);
}

/* A limit that takes the place of another must not be given what was counted for that one. */
static void
more_limits_than_are_remembered_are_told_apart(void **state)
{
    struct slices *slices = make_store(0);

    (void)state;
    for (int minute = 0; minute < 20; minute++) {
        for (int i = 0; i < 20; i++) {
            add(slices, minute, i < minute ? 500 : 200, 1, DAY);
        }
    }
    add(slices, DAY, 200, 1, DAY); /* time has gone on: what lies before is settled */
    for (int round = 0; round < 2; round++) {
        for (uint32_t bad = 1; bad < 20; bad++) { /* of 20 */
            const struct slices_limit limit = {.budget_ppb = bad * 50000000};

            assert_int_equal(slices_violations(slices, TENANT, SERVICE, 0, 200, limit), 19 - bad);
        }
    }
    slices_free(slices);
}

static void
an_unknown_series_adds_nothing(void **state)
{
    struct slices *slices = make_store(0);
    struct slice sum = {0};
    struct slices_limit limit = {.budget_ppb = 1000000};

    (void)state;
    assert_int_equal(slices_sum(slices, TENANT, SERVICE, 0, 10, &sum), ERR_OK);
    assert_true(slice_is_empty(&sum));
    assert_int_equal(slices_violations(slices, TENANT, SERVICE, 0, 10, limit), 0);
    slices_each_minute(slices, TENANT, SERVICE, 0, 10, check_minute, NULL);
    assert_int_equal(slices_sum(slices, (struct span){NULL, 0}, SERVICE, 0, 10, &sum), ERR_OK);
    slices_free(slices);
}

static void
limits_are_compared_in_integers(void **state)
{
    struct slices_limit one_in_thousand = {.budget_ppb = 1000000};
    struct slices_limit one_in_ten = {.budget_ppb = 100000000};

    (void)state;
    assert_false(slices_limit_broken(one_in_thousand, 999, 1));
    assert_true(slices_limit_broken(one_in_thousand, 998, 1));
    assert_false(slices_limit_broken(one_in_ten, 9, 1));
    assert_false(slices_limit_broken(one_in_ten, 0, 0));
    assert_true(slices_limit_broken(one_in_ten, UINT64_MAX / 2, UINT64_MAX / 2));
}

/* ---- memory ---- */

static void
without_memory_nothing_changes(void **state)
{
    const int64_t now = 28000000;
    struct slices *slices = make_store(1);
    struct slice_key key = {TENANT, SERVICE, now};
    struct slice slice = {0};

    (void)state;
    if (!FAILING_ALLOC) {
        slices_free(slices);
        print_message("the sanitizers bring their own malloc()\n");
        skip();
    }
    for (int64_t i = 0; i < 30; i++) {
        struct event event = event_at(now, (uint16_t)(200 + i), (double)(i * i));
        add(slices, now - i * 47, 200, (double)(i * i), now);
        assert_int_equal(slice_add_event(&slice, &event, &CONFIG.rules), ERR_OK);
    }
    slices_expire(slices, us(now + 2 * DAY)); /* packs all: every change must open first */
    for (int way = 0; way < 5; way++) {
        struct event event = event_at(now - way * 47, 503, 1e5);
        long allowed = 0;
        for (enum err err = ERR_NO_MEMORY; err != ERR_OK; allowed++) {
            uint64_t before = total_in(slices, INT64_MIN, INT64_MAX);
            uint64_t hour = total_in(slices, now / HOUR * HOUR, now / HOUR * HOUR + HOUR);
            struct slice sum = {0};
            fail_allocations_after(allowed);
            switch (way) {
            case 0:
                err = slices_set_foreign(slices, 1, &key, &slice, us(now));
                break;
            case 1:
                err = slices_add(slices, &key, &slice, us(now));
                break;
            case 2:
                err = slices_add_event(slices, &event, 1, us(now));
                break;
            case 3:
                event = event_at(now - 47 * 29, 200, 29.0 * 29.0);
                err = slices_remove_event(slices, &event, 1, us(now));
                break;
            default:
                err = slices_sum(slices, TENANT, SERVICE, now - DAY, now + 1, &sum);
                break;
            }
            fail_allocations_after(-1);
            if (err != ERR_OK) {
                assert_int_equal(err, ERR_NO_MEMORY);
                assert_true(slice_is_empty(&sum));
                assert_int_equal(total_in(slices, INT64_MIN, INT64_MAX), before);
                assert_int_equal(total_in(slices, now / HOUR * HOUR, now / HOUR * HOUR + HOUR),
                                 hour);
            }
            slice_clear(&sum);
        }
        assert_true(allowed > 1);
        slices_expire(slices, us(now + 2 * DAY));
    }
    slice_clear(&slice);
    slices_free(slices);
}

static void
without_memory_a_new_series_or_store_is_refused(void **state)
{
    const int64_t now = 28000000;
    long allowed = 0;

    (void)state;
    if (!FAILING_ALLOC) {
        print_message("the sanitizers bring their own malloc()\n");
        skip();
    }
    for (enum err err = ERR_NO_MEMORY; err != ERR_OK; allowed++) {
        struct slices *slices = NULL;
        fail_allocations_after(allowed);
        err = slices_new(&slices, &CONFIG);
        fail_allocations_after(-1);
        slices_free(slices);
    }
    assert_int_equal(allowed, 4);
    allowed = 0;
    for (enum err err = ERR_NO_MEMORY; err != ERR_OK; allowed++) {
        struct slices *slices = make_store(0);
        struct slices_stats stats;
        struct event event = event_at(now, 200, 5.0);
        for (int i = 0; i < 32; i++) { /* the next one makes the table grow */
            char name[32];
            struct event other = event;
            snprintf(name, sizeof(name), "s%d", i);
            other.service = span_of(name);
            assert_int_equal(slices_add_event(slices, &other, 1, us(now)), ERR_OK);
        }
        fail_allocations_after(allowed);
        err = slices_add_event(slices, &event, 1, us(now));
        fail_allocations_after(-1);
        slices_stats(slices, &stats);
        assert_int_equal(stats.slices, err == ERR_OK ? 33 : 32);
        assert_int_equal(total_in(slices, now, now + 1), err == ERR_OK ? 1 : 0);
        slices_free(slices);
    }
    assert_true(allowed > 5);
}

/* ---- threads ---- */

enum {
    WRITERS = 3,
    EVENTS_PER_WRITER = 6000,
};

struct shared {
    struct slices *slices;
    _Atomic int writing;
};

static void *
write_events(void *arg)
{
    struct shared *shared = arg;
    const int64_t now = 28000000;

    for (int64_t i = 0; i < EVENTS_PER_WRITER; i++) {
        struct event event = event_at(now - i % 300, i % 50 == 0 ? 500 : 200, (double)(i % 700));
        struct event extra = event_at(now - i % 7, 200, 1.0);
        if (i % 3 == 0) {
            event.service = SPAN_LITERAL("search");
        }
        extra.service = SPAN_LITERAL("passing");
        if (slices_add_event(shared->slices, &event, 1, us(now)) != ERR_OK) {
            abort();
        }
        /* A service that comes and goes, together with its series. */
        if (slices_add_event(shared->slices, &extra, 1, us(now)) != ERR_OK ||
            slices_remove_event(shared->slices, &extra, 1, us(now)) != ERR_OK) {
            abort();
        }
    }
    atomic_fetch_sub(&shared->writing, 1);
    return NULL;
}

static void *
keep_house(void *arg)
{
    struct shared *shared = arg;

    while (atomic_load(&shared->writing) > 0) {
        slices_expire(shared->slices, us(28000000));
    }
    return NULL;
}

static void
sums_only_rise_while_threads_add(void **state)
{
    struct shared shared = {make_store(1), WRITERS};
    pthread_t threads[WRITERS + 1];
    struct slices_limit limit = {.budget_ppb = 1000000};
    struct slices_stats stats;
    uint64_t last = 0;
    struct walk walk;

    (void)state;
    for (size_t i = 0; i <= WRITERS; i++) {
        assert_int_equal(
            pthread_create(&threads[i], NULL, i < WRITERS ? write_events : keep_house, &shared), 0);
    }
    while (atomic_load(&shared.writing) > 0) {
        uint64_t total = total_in(shared.slices, INT64_MIN, INT64_MAX);
        assert_true(total >= last);
        last = total;
        (void)slices_violations(shared.slices, TENANT, SERVICE, 0, INT64_MAX, limit);
        memset(&walk, 0, sizeof(walk));
        slices_each_service(shared.slices, TENANT, note_service, &walk);
        assert_true(walk.count <= 3);
    }
    for (size_t i = 0; i <= WRITERS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(total_in(shared.slices, INT64_MIN, INT64_MAX),
                     WRITERS * EVENTS_PER_WRITER * 2 / 3);
    slices_expire(shared.slices, us(28000000));
    slices_stats(shared.slices, &stats);
    assert_int_equal(stats.series, 2);
    assert_int_equal(stats.dropped_events, 0);
    slices_free(shared.slices);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_equal_a_list_of_events_with_hours_open),
        cmocka_unit_test(sums_equal_a_list_of_events_with_hours_packed_at_once),
        cmocka_unit_test(sliding_windows_equal_a_list_of_events),
        cmocka_unit_test(removing_every_event_leaves_nothing),
        cmocka_unit_test(what_was_dropped_is_ignored_when_it_is_removed),
        cmocka_unit_test(removing_takes_nothing_from_other_nodes),
        cmocka_unit_test(sources_replace_their_own_slice_only),
        cmocka_unit_test(history_and_events_add_up),
        cmocka_unit_test(a_history_beyond_the_limit_is_refused_whole),
        cmocka_unit_test(a_series_beyond_the_limit_is_dropped_and_counted),
        cmocka_unit_test(bad_configurations_are_refused),
        cmocka_unit_test(services_are_listed_by_tenant_in_name_order),
        cmocka_unit_test(an_unknown_series_adds_nothing),
        cmocka_unit_test(limits_are_compared_in_integers),
        cmocka_unit_test(more_limits_than_are_remembered_are_told_apart),
        cmocka_unit_test(without_memory_nothing_changes),
        cmocka_unit_test(without_memory_a_new_series_or_store_is_refused),
        cmocka_unit_test(sums_only_rise_while_threads_add),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
