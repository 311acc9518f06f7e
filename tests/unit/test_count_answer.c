/*
 * test_count_answer.c - what black-box tests cannot cause: memory that runs out, an
 * archive that breaks off, groups without end. The answers themselves are theirs to check.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/query/count_answer.h"
#include "core/query/count_groups.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_count_store.h"
#include "tests/fakes/fake_journal.h"
#include "tests/unit/failing_alloc.h"

#define START_US (INT64_C(1767225600) * 1000000) /* 2026-01-01 */

/* ---- a store of events that breaks off as often as it is told to ---- */

struct broken_store {
    int breaks;       /* begun answers that end in the middle */
    uint32_t users;   /* given by a whole one */
    uint32_t answers; /* begun so far */
};

static enum err
store_begin(void *self, const uint8_t node_id[JOURNAL_NODE_ID_SIZE], uint32_t partitions,
            uint64_t *after_out, void **snapshot_out)
{
    (void)node_id;
    for (uint32_t p = 0; p < partitions; p++) {
        after_out[p] = 0;
    }
    *snapshot_out = self;
    return ERR_OK;
}

static enum err
store_users(void *snapshot, const struct archive_filter *filter, archive_user_fn *fn, void *arg)
{
    struct broken_store *store = snapshot;
    const bool breaks = store->breaks > 0;
    enum err err = ERR_OK;

    store->answers++;
    for (uint32_t i = 0; err == ERR_OK && i < (breaks ? 1 : store->users); i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "user-%u", i);
        err =
            fn(arg, filter->from_us, 2, span_of(name), SPAN_LITERAL("web"), (struct span){NULL, 0});
    }
    if (err == ERR_OK && breaks) {
        store->breaks--;
        return ERR_UNAVAILABLE;
    }
    return err;
}

static void
store_end(void *snapshot)
{
    (void)snapshot;
}

static const struct archive_store_ops STORE = {
    .begin = store_begin,
    .users = store_users,
    .end = store_end,
    .close = store_end,
};

/* ---- the sources of an answer ---- */

struct fixture {
    struct fake_clock clock;
    struct fake_count_store *store;
    struct fake_journal *journal;
    struct broken_store events;
    struct count_sources sources;
};

static void
add_events(struct counts *counts)
{
    static const char *const CHANNELS[] = {"web", "app", NULL};

    for (uint64_t i = 0; i < 300; i++) {
        char user[16];
        struct event event = {
            .tenant = SPAN_LITERAL("acme"),
            .name = SPAN_LITERAL("buy"),
            .channel = span_of(CHANNELS[i % 3]),
            .occurred_at_us = START_US + (int64_t)i * 600000000,
        };

        (void)snprintf(user, sizeof(user), "user-%u", (unsigned)(i % 7));
        event.user_id = span_of(user);
        assert_int_equal(counts_add(counts, i + 1, &event), ERR_OK);
    }
}

static int
setup(void **state)
{
    static struct fixture f;
    const struct fake_journal_config journal = {.partitions = 1};
    const struct archive_store store = {&STORE, &f.events};
    struct counts_config config = {.history_bytes_max = UINT64_MAX};

    memset(&f, 0, sizeof(f));
    fake_clock_init(&f.clock, START_US + INT64_C(86400000000) * 3);
    f.store = fake_count_store_new();
    f.journal = fake_journal_new(&journal);
    config.clock = &f.clock.port;
    config.store = fake_count_store_port(f.store);
    assert_int_equal(counts_new(&f.sources.counts, &config), ERR_OK);
    counts_begin(f.sources.counts, 0);
    add_events(f.sources.counts);
    assert_int_equal(archive_new(&f.sources.archive, fake_journal_port(f.journal), NULL, &store),
                     ERR_OK);
    f.sources.tenant = SPAN_LITERAL("acme");
    f.sources.zone_dir = TIMEZONE_DIR;
    f.sources.now_us = START_US;
    f.events.users = 3;
    *state = &f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    archive_free(f->sources.archive);
    counts_free(f->sources.counts);
    fake_count_store_free(f->store);
    fake_journal_free(f->journal);
    return 0;
}

static enum err
ask(struct fixture *f, const char *group, const char *user, const char *format, struct buffer *out,
    struct buffer *problem)
{
    const struct count_params params = {
        .event_name = SPAN_LITERAL("buy"),
        .from = SPAN_LITERAL("2026-01-01T00:00:00Z"),
        .to = SPAN_LITERAL("2026-01-04T00:00:00Z"),
        .group_by = span_of(group),
        .tz = SPAN_LITERAL("Europe/Berlin"),
        .user_id = span_of(user),
        .format = span_of(format),
    };
    struct count_query query;
    enum err err = count_query_parse(&params, &query, problem);

    bool degraded = false;

    if (err == ERR_OK) {
        err = count_answer(&f->sources, &query, out, &degraded, problem);
    }
    if (err == ERR_OK && format == NULL) {
        assert_int_equal(degraded, memmem(out->data, out->len, "\"degraded\":true", 15) != NULL);
    }
    return err;
}

static bool
has(const struct buffer *out, const char *text)
{
    return memmem(out->data, out->len, text, strlen(text)) != NULL;
}

static void
memory_may_run_out_anywhere(void **state)
{
    static const struct {
        const char *group;
        const char *user;
        const char *format;
    } ROWS[] = {
        /* The fake store of counts is not for this: answers out of the archive. */
        {"user_id", NULL, NULL}, {"user_id", NULL, "csv"}, {"channel", "u", NULL},
        {"day", "u", NULL},      {NULL, "u", NULL},        {"campaign_id", "u", "csv"},
    };
    struct fixture *f = *state;

    if (!FAILING_ALLOC) {
        print_message("a sanitizer has the allocator\n");
        skip();
    }
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        enum err err = ERR_NO_MEMORY;
        long left = 0;

        for (; err != ERR_OK; left++) {
            struct buffer out = BUFFER_EMPTY;
            struct buffer problem = BUFFER_EMPTY;

            fail_allocations_after(left);
            err = ask(f, ROWS[i].group, ROWS[i].user, ROWS[i].format, &out, &problem);
            fail_allocations_after(-1);
            if (err != ERR_OK) {
                assert_int_equal(err, ERR_NO_MEMORY);
            } else {
                assert_true(out.len > 0);
            }
            buffer_free(&out);
            buffer_free(&problem);
        }
        assert_true(left > 2);
    }
}

static void
an_answer_that_broke_off_is_begun_again_and_counts_nothing_twice(void **state)
{
    struct fixture *f = *state;
    struct buffer out = BUFFER_EMPTY;
    struct buffer problem = BUFFER_EMPTY;

    f->events.breaks = 2;
    assert_int_equal(ask(f, "user_id", NULL, NULL, &out, &problem), ERR_OK);
    assert_true(f->events.answers >= 3);
    assert_true(has(&out, "\"total_count\":6,\"unique_count\":3,\"group_by\":\"user_id\""));
    assert_true(has(&out, "{\"group_value\":\"user-0\",\"total_count\":2,\"unique_count\":1}"));
    buffer_free(&out);
    /* It gives up in the end, and says that it is not the question's fault. */
    f->events.breaks = 1000;
    assert_int_equal(ask(f, "user_id", NULL, NULL, &out, &problem), ERR_AGAIN);
    assert_int_equal(problem.len, 0);
    f->events.breaks = 0;
    buffer_free(&out);
}

static void
more_users_than_an_answer_holds_are_refused(void **state)
{
    struct fixture *f = *state;
    struct buffer out = BUFFER_EMPTY;
    struct buffer problem = BUFFER_EMPTY;

    f->events.users = COUNT_VALUES_MAX + 1;
    assert_int_equal(ask(f, "user_id", NULL, NULL, &out, &problem), ERR_INVALID);
    assert_true(has(&problem, "too many events or groups for one answer"));
    assert_int_equal(out.len, 0);
    buffer_free(&problem);
    /* As many as it holds are ordered; the answer shows the first of them and how many there are.
     */
    f->events.users = COUNT_VALUES_MAX;
    assert_int_equal(ask(f, "user_id", NULL, NULL, &out, &problem), ERR_OK);
    assert_true(has(&out, "\"group_count\":200000,"));
    buffer_free(&out);
    buffer_free(&problem);
}

static void
groups_are_in_the_order_asked_for(void **state)
{
    static const struct {
        const char *value;
        uint64_t total;
    } ROWS[] = {{"b", 2}, {"ab", 5}, {NULL, 5}, {"a", 5}, {"c", 9}, {"B", 2}};
    static const char *const DOWN[] = {"c", "a", "ab", NULL, "B", "b"};
    static const char *const UP[] = {"B", "b", "a", "ab", NULL, "c"};
    struct count_groups groups = {NULL, 0, 0, NULL};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        struct count_row *row;
        struct count_row *again;

        assert_int_equal(count_groups_value(&groups, span_of(ROWS[i].value), &row), ERR_OK);
        assert_int_equal(row->total, 0);
        row->total = ROWS[i].total;
        assert_int_equal(count_groups_value(&groups, span_of(ROWS[i].value), &again), ERR_OK);
        assert_ptr_equal(row, again);
    }
    for (int descending = 0; descending < 2; descending++) {
        count_groups_order_values(&groups, descending == 1);
        for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
            const char *want = descending == 1 ? DOWN[i] : UP[i];

            assert_true((groups.row[i]->value.data == NULL) == (want == NULL));
            assert_true(span_equal(groups.row[i]->value, span_of(want)));
        }
    }
    count_groups_free(&groups);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(memory_may_run_out_anywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(
            an_answer_that_broke_off_is_begun_again_and_counts_nothing_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(more_users_than_an_answer_holds_are_refused, setup,
                                        teardown),
        cmocka_unit_test(groups_are_in_the_order_asked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
