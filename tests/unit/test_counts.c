/*
 * test_counts.c - the engine on a store in memory: each answer is compared with what a list of all
 * events gives, whatever has been folded, rolled up, removed or read back in between.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/counts/count_cell.h"
#include "core/counts/counts.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_count_store.h"
#include "tests/unit/failing_alloc.h"

enum {
    MODEL_MAX = 200000,
};

#define SECOND INT64_C(1000000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define NOW (INT64_C(1767225600) * SECOND + 13 * HOUR + 37 * MINUTE) /* 2026-01-01 */

struct model_event {
    uint64_t seq;
    int64_t us;
    uint32_t name;
    uint32_t channel; /* 0: absent */
    uint32_t campaign;
    uint32_t user;
    bool removed;
};

struct fixture {
    struct fake_clock clock;
    struct fake_count_store *store;
    struct counts *counts;
    struct model_event *events;
    size_t len;
    uint64_t next_seq;
};

static const char *
text_of(const char *what, uint32_t number, char out[32])
{
    snprintf(out, 32, "%s-%u", what, number);
    return out;
}

static uint32_t
number_of(struct span text)
{
    char copy[32] = {0};

    assert_true(text.len < sizeof(copy));
    memcpy(copy, text.data, text.len);
    return (uint32_t)strtoul(strchr(copy, '-') + 1, NULL, 10);
}

static struct event
event_of(const struct model_event *model, char texts[4][32])
{
    struct event event = {
        .tenant = SPAN_LITERAL("acme"),
        .occurred_at_us = model->us,
    };

    event.name = span_of(text_of("name", model->name, texts[0]));
    if (model->channel != 0) {
        event.channel = span_of(text_of("channel", model->channel, texts[1]));
    }
    if (model->campaign != 0) {
        event.campaign_id = span_of(text_of("campaign", model->campaign, texts[2]));
    }
    if (model->user != 0) {
        event.user_id = span_of(text_of("user", model->user, texts[3]));
    }
    return event;
}

static void
open_counts(struct fixture *f)
{
    const struct counts_config config = {
        .clock = &f->clock.port,
        .store = fake_count_store_port(f->store),
        .history_bytes_max = 1 << 30,
    };

    assert_int_equal(counts_new(&f->counts, &config), ERR_OK);
    counts_begin(f->counts, 0);
}

static int
setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    fake_clock_init(&f->clock, NOW);
    f->store = fake_count_store_new();
    f->events = calloc(MODEL_MAX, sizeof(*f->events));
    assert_non_null(f->events);
    f->next_seq = 1;
    open_counts(f);
    srand48(42);
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    counts_free(f->counts);
    fake_count_store_free(f->store);
    free(f->events);
    free(f);
    return 0;
}

static void
give(struct fixture *f, const struct model_event *model)
{
    char texts[4][32];
    struct event event = event_of(model, texts);

    assert_int_equal(counts_add(f->counts, model->seq, &event), ERR_OK);
}

static void
add(struct fixture *f, struct model_event model)
{
    assert_true(f->len < MODEL_MAX);
    model.seq = f->next_seq++;
    f->events[f->len++] = model;
    give(f, &model);
}

static void
fold(struct fixture *f)
{
    assert_int_equal(counts_fold(f->counts, clock_wall_us(&f->clock.port)), ERR_OK);
}

/* The sink has found that event I is not to be counted. */
static void
remove_event(struct fixture *f, size_t i)
{
    struct count_changes changes = {BUFFER_EMPTY, 0};
    char texts[4][32];
    struct event event = event_of(&f->events[i], texts);

    assert_false(f->events[i].removed);
    f->events[i].removed = true;
    count_removal_put(&changes, f->events[i].seq, &event);
    fake_count_store_apply(f->store, &changes);
    count_changes_free(&changes);
}

/* As after kill -9: what the history does not cover is given again. */
static void
restart(struct fixture *f)
{
    uint64_t counted;

    counts_free(f->counts);
    open_counts(f);
    counted = counts_counted(f->counts);
    for (size_t i = 0; i < f->len; i++) {
        if (f->events[i].seq > counted) {
            give(f, &f->events[i]);
        }
    }
}

/* ---- comparing ---- */

struct wanted {
    uint32_t name; /* 0 in each: any */
    uint32_t channel;
    uint32_t campaign;
    int64_t from_us;
    int64_t to_us;
};

static bool
matches(const struct model_event *event, const struct wanted *wanted)
{
    return !event->removed && event->us >= wanted->from_us && event->us < wanted->to_us &&
           (wanted->name == 0 || event->name == wanted->name) &&
           (wanted->channel == 0 || event->channel == wanted->channel) &&
           (wanted->campaign == 0 || event->campaign == wanted->campaign);
}

static struct counts_filter
filter_of(const struct wanted *wanted, char texts[3][32])
{
    struct counts_filter filter = {.tenant = SPAN_LITERAL("acme")};

    if (wanted->name != 0) {
        filter.event_name = span_of(text_of("name", wanted->name, texts[0]));
    }
    if (wanted->channel != 0) {
        filter.channel = span_of(text_of("channel", wanted->channel, texts[1]));
    }
    if (wanted->campaign != 0) {
        filter.campaign_id = span_of(text_of("campaign", wanted->campaign, texts[2]));
    }
    return filter;
}

/* Removed users may stay in the history for a moment, so USERS_EXACT is for quiet times. */
static void
check_sum(struct fixture *f, struct counts_view *view, const struct wanted *wanted,
          bool users_exact)
{
    struct counts_sum sum = {0};
    struct user_set users = {0};
    uint64_t total = 0;
    char texts[3][32];
    struct counts_filter filter = filter_of(wanted, texts);

    for (size_t i = 0; i < f->len; i++) {
        if (matches(&f->events[i], wanted)) {
            char text[32];

            total++;
            if (f->events[i].user != 0) {
                assert_int_equal(
                    user_set_add(&users,
                                 user_hash(span_of(text_of("user", f->events[i].user, text)))),
                    ERR_OK);
            }
        }
    }
    assert_int_equal(counts_view_sum(view, &filter, wanted->from_us, wanted->to_us, &sum), ERR_OK);
    assert_int_equal(sum.total, total);
    if (users_exact) {
        assert_int_equal(counts_sum_users(&sum), user_set_count(&users));
    } else {
        assert_true(counts_sum_users(&sum) >= user_set_count(&users));
    }
    counts_sum_clear(&sum);
    user_set_clear(&users);
}

struct checking {
    struct fixture *f;
    struct wanted wanted;
    enum counts_dimension dimension;
    uint64_t total;
    bool users_exact;
};

static enum err
check_value(void *arg, struct span value, const struct counts_sum *sum)
{
    struct checking *checking = arg;
    struct fixture *f = checking->f;
    struct user_set users = {0};
    uint32_t number = value.data == NULL ? 0 : number_of(value);
    uint64_t total = 0;

    for (size_t i = 0; i < f->len; i++) {
        const struct model_event *event = &f->events[i];
        bool by_channel = checking->dimension == COUNTS_BY_CHANNEL;

        if (matches(event, &checking->wanted) &&
            (by_channel ? event->channel : event->campaign) == number) {
            total++;
            if (event->user != 0) {
                char user[32];

                assert_int_equal(
                    user_set_add(&users, user_hash(span_of(text_of("user", event->user, user)))),
                    ERR_OK);
            }
        }
    }
    assert_int_equal(sum->total, total);
    if (checking->users_exact) {
        assert_int_equal(counts_sum_users(sum), user_set_count(&users));
    }
    user_set_clear(&users);
    checking->total += total;
    return ERR_OK;
}

static void
check_split(struct fixture *f, struct counts_view *view, const struct wanted *wanted,
            enum counts_dimension dimension, bool users_exact)
{
    struct checking checking = {f, *wanted, dimension, 0, users_exact};
    char texts[3][32];
    struct counts_filter filter = filter_of(wanted, texts);
    uint64_t total = 0;

    for (size_t i = 0; i < f->len; i++) {
        total += matches(&f->events[i], wanted) ? 1 : 0;
    }
    assert_int_equal(counts_view_each_value(view, &filter, dimension, wanted->from_us,
                                            wanted->to_us, check_value, &checking),
                     ERR_OK);
    assert_int_equal(checking.total, total);
}

static enum err
check_name(void *arg, struct span name, uint64_t total, int64_t last_us)
{
    struct checking *checking = arg;
    struct fixture *f = checking->f;
    uint64_t expected = 0;
    int64_t last = INT64_MIN;

    for (size_t i = 0; i < f->len; i++) {
        if (f->events[i].name == number_of(name)) {
            expected += f->events[i].removed ? 0 : 1;
            last = f->events[i].us > last ? f->events[i].us : last;
        }
    }
    assert_int_equal(total, expected);
    assert_int_equal(last_us, last);
    checking->total += total;
    return ERR_OK;
}

static int64_t
random_time(int64_t from, int64_t width)
{
    return from + (int64_t)(drand48() * (double)width);
}

/* Bounds at minutes, hours, days, and anywhere. */
static struct wanted
random_wanted(int64_t from, int64_t width)
{
    static const int64_t steps[] = {1, SECOND, MINUTE, HOUR, DAY};
    struct wanted wanted = {
        .name = (uint32_t)(drand48() * 4),
        .channel = drand48() < 0.5 ? 0 : (uint32_t)(drand48() * 5),
        .campaign = drand48() < 0.5 ? 0 : (uint32_t)(drand48() * 7),
    };
    int64_t a = random_time(from, width);
    int64_t b =
        drand48() < 0.3 ? a + (int64_t)(drand48() * (double)MINUTE) : random_time(from, width);

    wanted.from_us = count_floor(a < b ? a : b, steps[(size_t)(drand48() * 5)]);
    wanted.to_us = count_floor(a < b ? b : a, steps[(size_t)(drand48() * 5)]);
    return wanted;
}

static void
check_all(struct fixture *f, int64_t from, int64_t width, int rounds, bool users_exact)
{
    struct counts_view *view;
    struct checking names = {.f = f};
    uint64_t total = 0;

    assert_int_equal(counts_view_open(f->counts, &view), ERR_OK);
    for (int i = 0; i < rounds; i++) {
        struct wanted wanted = random_wanted(from, width);

        check_sum(f, view, &wanted, users_exact);
        check_split(f, view, &wanted, COUNTS_BY_CHANNEL, users_exact);
        check_split(f, view, &wanted, COUNTS_BY_CAMPAIGN, users_exact);
    }
    for (size_t i = 0; i < f->len; i++) {
        total += f->events[i].removed ? 0 : 1;
    }
    assert_int_equal(counts_view_each_name(view, SPAN_LITERAL("acme"), check_name, &names), ERR_OK);
    assert_int_equal(names.total, total);
    assert_false(counts_view_degraded(view));
    counts_view_close(view);
}

static struct model_event
random_event(int64_t from, int64_t width)
{
    return (struct model_event){
        .us = random_time(from, width),
        .name = 1 + (uint32_t)(drand48() * 3),
        .channel = (uint32_t)(drand48() * 4),
        .campaign = (uint32_t)(drand48() * drand48() * 6),
        .user = drand48() < 0.1 ? 0 : 1 + (uint32_t)(drand48() * 3000),
    };
}

/* ---- tests ---- */

static void
an_event_is_counted_the_moment_it_is_added_and_once_after_it_is_folded(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 20; i++) {
        add(f, random_event(NOW - DAY, DAY));
        check_all(f, NOW - 2 * DAY, 2 * DAY, 3, true);
        if (i % 3 == 0) {
            fold(f);
            check_all(f, NOW - 2 * DAY, 2 * DAY, 3, true);
        }
    }
}

static void
bounds_are_exact_to_the_microsecond_in_a_dense_minute(void **state)
{
    struct fixture *f = *state;
    const int64_t minute = count_floor(NOW - HOUR, MINUTE);

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 4000; i++) {
            struct model_event event = random_event(minute, MINUTE);

            event.us = i % 10 == 0 ? minute + 7 * SECOND + i % 3 : event.us;
            add(f, event);
        }
        check_all(f, minute - SECOND, MINUTE + 2 * SECOND, 20, true);
        fold(f);
        check_all(f, minute - SECOND, MINUTE + 2 * SECOND, 20, true);
        fake_clock_pass_ms(&f->clock, 5000);
        fold(f);
        assert_true(fake_count_store_keys(f->store, 'U') > 0);
        check_all(f, minute - SECOND, MINUTE + 2 * SECOND, 20, true);
        check_all(f, minute + 7 * SECOND - 2, 6, 20, true);
    }
}

static void
any_mixture_of_folds_roll_ups_removals_and_restarts_counts_the_same(void **state)
{
    struct fixture *f = *state;
    const int64_t from = NOW - 9 * DAY;
    size_t removed_to = 0;

    for (int round = 0; round < 25; round++) {
        /* Sometimes all over the days, sometimes all in one hour, sometimes now. */
        int64_t start = round % 3 == 0 ? from : random_time(from, 8 * DAY);
        int64_t width = round % 3 == 0 ? 9 * DAY : round % 3 == 1 ? HOUR : 20 * SECOND;

        for (int i = 0; i < 1000; i++) {
            add(f, random_event(start, width));
        }
        if (drand48() < 0.6) {
            fold(f);
        }
        for (; removed_to < f->len; removed_to += 1 + (size_t)(drand48() * 60)) {
            remove_event(f, removed_to);
        }
        check_all(f, from - DAY, 11 * DAY, 4, false);
        if (drand48() < 0.3) {
            restart(f);
            check_all(f, from - DAY, 11 * DAY, 2, false);
        }
        fake_clock_pass_ms(&f->clock, 5000);
        if (drand48() < 0.5) {
            fold(f);
            check_all(f, from - DAY, 11 * DAY, 4, true);
        }
    }
    fold(f);
    assert_int_equal(fake_count_store_keys(f->store, 'R'), 0);
    check_all(f, from - DAY, 11 * DAY, 30, true);
    fake_clock_pass_ms(&f->clock, 48 * 3600 * 1000);
    fold(f);
    assert_int_equal(fake_count_store_keys(f->store, 'X'), 0);
    check_all(f, from - DAY, 11 * DAY, 30, true);
}

static void
times_before_1970_are_counted_as_any_other(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 3000; i++) {
        add(f, random_event(-3 * HOUR, 6 * HOUR));
    }
    fold(f);
    fold(f);
    check_all(f, -4 * HOUR, 8 * HOUR, 30, true);
}

static void
a_refused_commit_loses_nothing(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 2000; i++) {
        add(f, random_event(NOW - DAY, DAY));
    }
    fake_count_store_fail(f->store, ERR_FULL, 1);
    assert_int_equal(counts_fold(f->counts, NOW), ERR_FULL);
    check_all(f, NOW - 2 * DAY, 2 * DAY, 5, true);
    fold(f);
    check_all(f, NOW - 2 * DAY, 2 * DAY, 5, true);
    assert_int_equal(fake_count_store_held(f->store), 2000);
    fake_clock_pass_ms(&f->clock, 24 * 3600 * 1000);
    fake_count_store_fail(f->store, ERR_FULL, 1);
    assert_int_equal(counts_fold(f->counts, clock_wall_us(&f->clock.port)), ERR_FULL);
    fold(f);
    check_all(f, NOW - 2 * DAY, 2 * DAY, 5, true);
    restart(f);
    check_all(f, NOW - 2 * DAY, 2 * DAY, 5, true);
}

static void
what_the_history_costs_to_read_follows_time_and_not_events(void **state)
{
    struct fixture *f = *state;
    const struct counts_filter filter = {
        SPAN_LITERAL("acme"), SPAN_LITERAL("name-1"), {NULL, 0}, {NULL, 0}};
    uint64_t reads[2];

    for (int round = 0; round < 2; round++) {
        struct counts_view *view;
        struct counts_sum sum = {0};

        for (int i = 0; i < (round == 0 ? 20000 : 60000); i++) {
            struct model_event event = random_event(NOW - 10 * DAY, 9 * DAY);

            event.name = 1;
            add(f, event);
        }
        fold(f);
        fake_clock_pass_ms(&f->clock, 10000);
        fold(f);
        assert_int_equal(counts_view_open(f->counts, &view), ERR_OK);
        reads[round] = fake_count_store_reads(f->store);
        assert_int_equal(counts_view_sum(view, &filter, NOW - 11 * DAY, NOW, &sum), ERR_OK);
        reads[round] = fake_count_store_reads(f->store) - reads[round];
        assert_int_equal(sum.total, round == 0 ? 20000 : 80000);
        counts_sum_clear(&sum);
        counts_view_close(view);
    }
    assert_true(reads[0] < 700);
    assert_true(reads[1] < reads[0] * 2);
}

static enum err
count_other(void *arg, struct span value, const struct counts_sum *sum)
{
    uint64_t *others = arg;

    if (span_is(value, COUNTS_OTHER)) {
        *others += sum->total;
    }
    return ERR_OK;
}

static void
campaigns_beyond_the_limit_count_as_others_and_the_totals_stay_exact(void **state)
{
    struct fixture *f = *state;
    const struct counts_filter filter = {
        SPAN_LITERAL("acme"), SPAN_LITERAL("name-1"), {NULL, 0}, {NULL, 0}};
    const struct counts_filter late = {
        SPAN_LITERAL("acme"), SPAN_LITERAL("name-1"), {NULL, 0}, SPAN_LITERAL("campaign-1500")};

    for (int round = 0; round < 2; round++) {
        struct counts_view *view;
        struct counts_sum sum = {0};
        uint64_t others = 0;

        for (uint32_t i = 1; round == 0 && i <= 2000; i++) {
            add(f, (struct model_event){
                       .us = NOW - HOUR, .name = 1, .campaign = i, .user = i % 1000 + 1});
        }
        assert_int_equal(counts_view_open(f->counts, &view), ERR_OK);
        assert_int_equal(counts_view_sum(view, &filter, NOW - DAY, NOW, &sum), ERR_OK);
        assert_int_equal(sum.total, 2000);
        assert_int_equal(counts_sum_users(&sum), 1000);
        assert_false(counts_view_degraded(view));
        counts_sum_clear(&sum);
        assert_int_equal(counts_view_each_value(view, &filter, COUNTS_BY_CAMPAIGN, NOW - DAY, NOW,
                                                count_other, &others),
                         ERR_OK);
        assert_int_equal(others, 2000 - COUNTS_CAMPAIGNS_MAX);
        assert_true(counts_view_degraded(view));
        counts_view_close(view);
        assert_int_equal(counts_view_open(f->counts, &view), ERR_OK);
        assert_int_equal(counts_view_sum(view, &late, NOW - DAY, NOW, &sum), ERR_OK);
        assert_int_equal(sum.total, 0);
        assert_true(counts_view_degraded(view));
        counts_sum_clear(&sum);
        counts_view_close(view);
        fold(f);
        restart(f);
    }
}

static void
names_beyond_the_limit_are_left_out_and_said_to_be(void **state)
{
    struct fixture *f = *state;
    const struct counts_filter any = {SPAN_LITERAL("acme"), {NULL, 0}, {NULL, 0}, {NULL, 0}};
    struct counts_stats stats;
    struct counts_view *view;
    struct counts_sum sum = {0};

    for (uint32_t i = 1; i <= COUNTS_NAMES_MAX + 5; i++) {
        add(f, (struct model_event){.us = NOW - HOUR, .name = i, .user = 1});
    }
    fold(f);
    counts_stats(f->counts, &stats);
    assert_int_equal(stats.names, COUNTS_NAMES_MAX);
    assert_int_equal(stats.dropped_events, 5);
    assert_int_equal(stats.tail_events, 0);
    assert_int_equal(counts_view_open(f->counts, &view), ERR_OK);
    assert_int_equal(counts_view_sum(view, &any, NOW - DAY, NOW, &sum), ERR_OK);
    assert_int_equal(sum.total, COUNTS_NAMES_MAX);
    assert_true(counts_view_degraded(view));
    counts_sum_clear(&sum);
    counts_view_close(view);

    restart(f); /* which forgets how many were left out */
    for (int known = 0; known < 2; known++) {
        const struct counts_filter one = {
            SPAN_LITERAL("acme"),
            span_of(known != 0 ? "name-10000" : "name-10001"),
            {NULL, 0},
            {NULL, 0},
        };

        assert_int_equal(counts_view_open(f->counts, &view), ERR_OK);
        assert_int_equal(counts_view_sum(view, &one, NOW - DAY, NOW, &sum), ERR_OK);
        assert_int_equal(sum.total, known);
        assert_int_equal(counts_view_degraded(view), known == 0);
        counts_sum_clear(&sum);
        counts_view_close(view);
    }
}

static void
an_event_left_out_without_memory_is_said_to_be(void **state)
{
    struct fixture *f = *state;
    struct counts_stats stats;
    struct counts_view *view;
    struct counts_sum sum = {0};
    const struct counts_filter filter = {.tenant = SPAN_LITERAL("default")};
    const struct event event = {
        .tenant = SPAN_LITERAL("default"), .name = SPAN_LITERAL("first"), .occurred_at_us = NOW};
    enum err err;

    if (!FAILING_ALLOC) {
        print_message("the sanitizers bring their own malloc()\n");
        skip();
    }
    assert_int_equal(counts_add(f->counts, 1, &event), ERR_OK);
    fail_allocations_after(0);
    err =
        counts_add(f->counts, UINT64_C(1) << 40, &event); /* far on: there is no room for it yet */
    fail_allocations_after(-1);
    assert_int_equal(err, ERR_NO_MEMORY);
    counts_stats(f->counts, &stats);
    assert_int_equal(stats.dropped_events, 1);
    assert_int_equal(counts_view_open(f->counts, &view), ERR_OK);
    assert_int_equal(counts_view_sum(view, &filter, INT64_MIN, INT64_MAX, &sum), ERR_OK);
    assert_int_equal(sum.total, 1);
    assert_true(counts_view_degraded(view));
    counts_sum_clear(&sum);
    counts_view_close(view);
}

static void
the_oldest_goes_when_the_history_is_too_large(void **state)
{
    struct fixture *f = *state;
    const struct counts_filter any = {SPAN_LITERAL("acme"), {NULL, 0}, {NULL, 0}, {NULL, 0}};
    struct counts_view *view;
    struct counts_stats stats;
    struct counts_sum sum = {0};
    uint64_t kept = 0;
    int i;

    for (i = 0; i < 20000; i++) {
        add(f, random_event(NOW - 3 * DAY, 2 * DAY));
    }
    fold(f);
    fake_count_store_set_bytes(f->store, UINT64_C(2) << 30);
    for (i = 0; i < 4; i++) {
        fake_count_store_fail(f->store, ERR_FULL, 0);
        assert_int_equal(counts_fold_once(f->counts, NOW), ERR_OK);
    }
    fake_count_store_set_bytes(f->store, 0);
    fold(f);
    counts_stats(f->counts, &stats);
    assert_true(stats.from_us > NOW - 3 * DAY);
    assert_true(stats.from_us < NOW - DAY);
    for (size_t at = 0; at < f->len; at++) {
        kept += f->events[at].us >= stats.from_us ? 1 : 0;
    }
    assert_int_equal(counts_view_open(f->counts, &view), ERR_OK);
    assert_int_equal(counts_view_sum(view, &any, INT64_MIN, INT64_MAX, &sum), ERR_OK);
    assert_int_equal(sum.total, kept);
    assert_true(counts_view_degraded(view));
    assert_int_equal(counts_view_complete_from(view), stats.from_us);
    counts_sum_clear(&sum);
    counts_view_close(view);

    assert_int_equal(counts_view_open(f->counts, &view), ERR_OK);
    assert_int_equal(counts_view_sum(view, &any, stats.from_us, INT64_MAX, &sum), ERR_OK);
    assert_int_equal(sum.total, kept);
    assert_false(counts_view_degraded(view));
    assert_int_equal(counts_view_complete_from(view), INT64_MIN);
    counts_sum_clear(&sum);
    assert_int_equal(
        counts_view_sum(view, &any, stats.from_us - 2 * HOUR, stats.from_us - HOUR, &sum), ERR_OK);
    assert_int_equal(sum.total, 0);
    assert_int_equal(counts_view_complete_from(view), stats.from_us);
    counts_view_close(view);
}

/* USERS of them in [FIRST, FIRST + USERS), one event each and hour, so that there is a roll-up. */
static void
add_hour(struct fixture *f, int64_t hour_us, uint32_t first, uint32_t users)
{
    for (uint32_t i = 0; i < users; i++) {
        add(f, (struct model_event){
                   .us = hour_us + i * (HOUR / 1000), .name = 1, .channel = 1, .user = first + i});
    }
}

static uint64_t
users_between(struct counts_view *view, int64_t from_us, int64_t middle_us, int64_t to_us)
{
    const struct counts_filter filter = {
        SPAN_LITERAL("acme"), SPAN_LITERAL("name-1"), {NULL, 0}, {NULL, 0}};
    struct counts_sum sum = {0};
    uint64_t users;

    assert_int_equal(counts_view_sum(view, &filter, from_us, middle_us, &sum), ERR_OK);
    assert_int_equal(counts_view_sum(view, &filter, middle_us, to_us, &sum), ERR_OK);
    users = counts_sum_users(&sum);
    counts_sum_clear(&sum);
    return users;
}

static void
a_roll_up_that_stands_alone_has_the_users_it_has_among_others(void **state)
{
    struct fixture *f = *state;
    const int64_t first_us = NOW / HOUR * HOUR - 5 * HOUR;
    const int64_t second_us = first_us + HOUR;
    struct counts_view *view;
    uint64_t reads;

    add_hour(f, first_us, 1, 600);
    add_hour(f, second_us, 401, 600);
    fold(f);
    fake_clock_pass_ms(&f->clock, 10000);
    fold(f);
    for (int tail = 0; tail < 2; tail++) {
        assert_int_equal(counts_view_open(f->counts, &view), ERR_OK);
        reads = fake_count_store_reads(f->store);
        assert_int_equal(users_between(view, first_us, second_us, second_us), 600 + tail);
        if (tail == 0) {
            assert_true(fake_count_store_reads(f->store) - reads < 10);
        }
        assert_int_equal(users_between(view, first_us, first_us, second_us + HOUR), 1000 + tail);
        assert_int_equal(users_between(view, first_us, second_us, second_us + HOUR), 1000 + tail);
        assert_int_equal(users_between(view, second_us, second_us + HOUR, second_us + 2 * HOUR),
                         600);
        assert_int_equal(users_between(view, first_us + 1, second_us, second_us), 599 + tail);
        counts_view_close(view);
        add(f, (struct model_event){.us = second_us - 1, .name = 1, .user = 5000});
    }
}

static void
a_roll_up_of_an_older_build_is_read_as_before(void **state)
{
    static const char encoded[] = "\1\7\0\0\0\0\0\0\0\1\0\1\0\3\0\0\0\0\0\0\0";
    const struct span bytes = {encoded, sizeof(encoded) - 1};
    struct user_set users = {0};
    uint64_t total = 1;
    uint64_t count;

    (void)state;
    assert_false(count_rollup_peek(bytes, &total, &count));
    assert_int_equal(count_rollup_decode(bytes, &total, &users), ERR_OK);
    assert_int_equal(total, 8);
    assert_int_equal(user_set_count(&users), 1);
    user_set_clear(&users);
}

static void
damaged_history_is_left_out_and_said_to_be(void **state)
{
    struct fixture *f = *state;
    const struct counts_filter any = {SPAN_LITERAL("acme"), {NULL, 0}, {NULL, 0}, {NULL, 0}};
    struct counts_view *view;
    struct counts_sum sum = {0};

    for (int i = 0; i < 100; i++) {
        add(f, random_event(NOW - DAY, DAY));
    }
    fold(f);
    add(f, random_event(NOW - DAY, DAY));
    fake_count_store_damage(f->store, 'E');
    assert_int_equal(counts_view_open(f->counts, &view), ERR_OK);
    assert_int_equal(counts_view_sum(view, &any, INT64_MIN, INT64_MAX, &sum), ERR_OK);
    assert_int_equal(sum.total, 1);
    assert_true(counts_view_degraded(view));
    counts_sum_clear(&sum);
    counts_view_close(view);
    fake_count_store_damage(f->store, 0);
}

/* Without its names nobody could tell what the entries are of, and new numbers would mix with old.
 */
static void
a_history_whose_names_are_damaged_is_refused(void **state)
{
    struct fixture *f = *state;
    const struct counts_config config = {
        .clock = &f->clock.port,
        .store = fake_count_store_port(f->store),
        .history_bytes_max = 1 << 30,
    };
    const char kinds[] = {'M', 'N', 'V'};
    struct counts *counts = NULL;

    add(f, random_event(NOW - DAY, DAY));
    fold(f);
    for (size_t i = 0; i < sizeof(kinds); i++) {
        fake_count_store_damage(f->store, kinds[i]);
        assert_int_equal(counts_new(&counts, &config), ERR_CORRUPT);
        assert_null(counts);
    }
    fake_count_store_damage(f->store, 0);
}

static void
a_store_that_has_never_counted_begins_where_it_is_told(void **state)
{
    struct fixture *f = *state;
    struct counts_stats stats;

    counts_free(f->counts);
    fake_count_store_free(f->store);
    f->store = fake_count_store_new();
    {
        const struct counts_config config = {
            .clock = &f->clock.port,
            .store = fake_count_store_port(f->store),
            .history_bytes_max = 1 << 30,
        };
        assert_int_equal(counts_new(&f->counts, &config), ERR_OK);
    }
    assert_int_equal(fake_count_store_held(f->store), UINT64_MAX);
    counts_begin(f->counts, 500);
    assert_int_equal(fake_count_store_held(f->store), 500);
    f->next_seq = 501;
    fold(f); /* nothing came, and yet the beginning is noted */
    restart(f);
    counts_begin(f->counts, 900);
    add(f, random_event(NOW - DAY, DAY));
    add(f, random_event(NOW - DAY, DAY));
    remove_event(f, 0);
    f->events[f->len++] = (struct model_event){.seq = 400, .us = NOW - HOUR, .name = 1};
    remove_event(f, 2); /* was never counted */
    check_all(f, NOW - 2 * DAY, 2 * DAY, 3, false);
    fold(f);
    check_all(f, NOW - 2 * DAY, 2 * DAY, 3, true);
    counts_stats(f->counts, &stats);
    assert_int_equal(stats.begin_seq, 500);
    assert_int_equal(stats.counted_seq, 502);
}

static void
other_tenants_are_other_names(void **state)
{
    struct fixture *f = *state;
    const struct counts_filter other = {
        SPAN_LITERAL("other"), SPAN_LITERAL("name-1"), {NULL, 0}, {NULL, 0}};
    struct counts_view *view;
    struct counts_sum sum = {0};

    add(f, (struct model_event){.us = NOW, .name = 1, .user = 1});
    assert_int_equal(counts_view_open(f->counts, &view), ERR_OK);
    assert_int_equal(counts_view_sum(view, &other, INT64_MIN, INT64_MAX, &sum), ERR_OK);
    assert_int_equal(sum.total, 0);
    counts_view_close(view);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_event_is_counted_the_moment_it_is_added_and_once_after_it_is_folded),
        TEST(bounds_are_exact_to_the_microsecond_in_a_dense_minute),
        TEST(any_mixture_of_folds_roll_ups_removals_and_restarts_counts_the_same),
        TEST(times_before_1970_are_counted_as_any_other),
        TEST(a_refused_commit_loses_nothing),
        TEST(what_the_history_costs_to_read_follows_time_and_not_events),
        TEST(campaigns_beyond_the_limit_count_as_others_and_the_totals_stay_exact),
        TEST(names_beyond_the_limit_are_left_out_and_said_to_be),
        TEST(an_event_left_out_without_memory_is_said_to_be),
        TEST(the_oldest_goes_when_the_history_is_too_large),
        TEST(a_roll_up_that_stands_alone_has_the_users_it_has_among_others),
        TEST(a_roll_up_of_an_older_build_is_read_as_before),
        TEST(damaged_history_is_left_out_and_said_to_be),
        TEST(a_history_whose_names_are_damaged_is_refused),
        TEST(a_store_that_has_never_counted_begins_where_it_is_told),
        TEST(other_tenants_are_other_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
