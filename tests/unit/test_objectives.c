/*
 * test_objectives.c - definitions as text, in the file beside the log, and against a store that
 * fails on demand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/log.h"
#include "core/slo/objective_file.h"
#include "core/slo/objectives.h"
#include "tests/fakes/fake_clock.h"

#define NOW_US INT64_C(1780000000000000)

/* A table of record in memory. */
struct fake_store {
    struct objective_store port;
    struct objective rows[32];
    size_t len;
    uint64_t generation;
    uint64_t given;
    enum err fails; /* every call's answer, unless ERR_OK */
    uint32_t changes;
};

static enum err
store_load(void *self, bool *changed, enum err (*fn)(void *arg, const struct objective *objective),
           void *arg)
{
    struct fake_store *store = self;
    enum err err = store->fails;

    *changed = *changed || store->generation != store->given;
    for (size_t i = 0; err == ERR_OK && *changed && i < store->len; i++) {
        err = fn(arg, &store->rows[i]);
    }
    store->given = err == ERR_OK ? store->generation : store->given;
    return err;
}

static enum err
store_change(void *self, enum objective_change what, const struct objective *objective)
{
    struct fake_store *store = self;
    size_t at = 0;

    if (store->fails != ERR_OK) {
        return store->fails;
    }
    store->changes++;
    store->generation++;
    while (at < store->len && strcmp(store->rows[at].slo.id, objective->slo.id) != 0) {
        at++;
    }
    if (what == OBJECTIVE_CREATE) {
        store->len++;
    }
    if (what == OBJECTIVE_DELETE) {
        store->rows[at] = store->rows[--store->len];
        return ERR_OK;
    }
    store->rows[at] = *objective;
    return ERR_OK;
}

struct fixture {
    char dir[64];
    char file[128];
    struct fake_clock clock;
    struct fake_store store;
    struct slice_rules rules;
    struct objectives *objectives;
};

static uint64_t
nothing_settled(void *arg)
{
    (void)arg;
    return 0;
}

static void
open_objectives(struct fixture *f, bool with_store)
{
    const struct objectives_config config = {
        .file = f->file,
        .store = with_store ? &f->store.port : NULL,
        .rules = &f->rules,
        .settled_seq = nothing_settled,
        .clock = &f->clock.port,
    };

    objectives_close(f->objectives);
    f->objectives = NULL;
    assert_int_equal(objectives_open(&f->objectives, &config), ERR_OK);
}

static int
setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/sluice-objectives-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->file, sizeof(f->file), "%s/objectives", f->dir);
    fake_clock_init(&f->clock, NOW_US);
    f->store.port = (struct objective_store){store_load, store_change, &f->store};
    f->rules = (struct slice_rules){{500000}, 1, NULL};
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;
    char path[160];

    objectives_close(f->objectives);
    (void)unlink(f->file);
    (void)snprintf(path, sizeof(path), "%s.damaged", f->file);
    (void)unlink(path);
    (void)rmdir(f->dir);
    free(f);
    return 0;
}

static struct objective
read_text(const char *json)
{
    struct objective objective;
    char problem[OBJECTIVE_PROBLEM_SIZE] = "";

    if (objective_read(span_of(json), &objective, problem) != ERR_OK) {
        fail_msg("%s: %s", json, problem);
    }
    (void)snprintf(objective.tenant, sizeof(objective.tenant), "acme");
    (void)snprintf(objective.updated_by, sizeof(objective.updated_by), "test");
    return objective;
}

#define LATENCY(id, ms)                                                                            \
    "{\"id\":\"" id "\",\"service_name\":\"checkout\",\"slo_type\":\"latency\",\"slo_value\":0.9," \
    "\"threshold_ms\":" ms "}"

static enum err
do_change(struct fixture *f, enum objective_change what, const char *json, struct objective *out)
{
    const struct objective objective = read_text(json);
    char problem[OBJECTIVE_PROBLEM_SIZE];
    bool conflict;

    return objectives_change(f->objectives, what, &objective, out, &conflict, problem);
}

static size_t
count_now(struct fixture *f)
{
    const struct objective_set *set = objectives_now(f->objectives);
    const size_t count = objective_set_count(set);

    objective_set_release(set);
    return count;
}

static void
what_is_written_reads_back_the_same(void **state)
{
    static const char *const TEXTS[] = {
        "{\"service\":\"a\\\"b\\u00fc\",\"type\":\"availability\",\"target\":0.999}",
        "{\"service\":\"s\",\"type\":\"availability\",\"target\":0.5,\"good_status\":\"lt400\"}",
        "{\"service\":\"s\",\"type\":\"availability\",\"target\":0.5,\"good_status\":[[200,299],"
        "\"404\"],"
        "\"window\":\"month\"}",
        "{\"service\":\"s\",\"type\":\"latency\",\"target\":0.123456789,\"threshold_ms\":0.001,"
        "\"window\":\"1h\",\"min_bad_events\":0}",
        "{\"service\":\"s\",\"type\":\"latency\",\"target\":0.9,\"threshold_ms\":4294967,"
        "\"windows_days\":90}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(TEXTS); i++) {
        struct objective objective = read_text(TEXTS[i]);
        struct objective back;
        struct buffer first = BUFFER_EMPTY;
        struct buffer second = BUFFER_EMPTY;
        char problem[OBJECTIVE_PROBLEM_SIZE];

        (void)snprintf(objective.slo.id, sizeof(objective.slo.id), "id-%zu", i);
        objective.version = 3;
        objective.created_us = NOW_US;
        objective.updated_us = NOW_US + 1;
        objective.slo.counted_from_us = objective.slo.type == SLO_LATENCY ? NOW_US : 0;
        objective_write(&first, &objective);
        assert_int_equal(objective_read_stored(buffer_span(&first), &back, problem), ERR_OK);
        objective_write(&second, &back);
        assert_true(span_equal(buffer_span(&first), buffer_span(&second)));
        assert_int_equal(back.version, 3);
        assert_true(back.slo.target == objective.slo.target);
        assert_int_equal(back.slo.threshold_us, objective.slo.threshold_us);
        assert_int_equal(back.slo.window_minutes, objective.slo.window_minutes);
        assert_memory_equal(&back.slo.good_status, &objective.slo.good_status,
                            sizeof(back.slo.good_status));
        buffer_free(&first);
        buffer_free(&second);
    }
}

static void
a_change_is_in_force_in_the_store_and_in_the_file(void **state)
{
    struct fixture *f = *state;
    struct objective out;

    open_objectives(f, true);
    assert_int_equal(do_change(f, OBJECTIVE_CREATE, LATENCY("one", "300"), &out), ERR_OK);
    assert_int_equal(out.version, 1);
    assert_int_equal(out.slo.counted_from_us, NOW_US);
    fake_clock_pass_ms(&f->clock, 1000);
    /* The threshold of another definition, and the default one, have been counted before. */
    assert_int_equal(do_change(f, OBJECTIVE_CREATE, LATENCY("two", "300"), &out), ERR_OK);
    assert_int_equal(out.slo.counted_from_us, NOW_US);
    assert_int_equal(do_change(f, OBJECTIVE_CREATE, LATENCY("three", "500"), &out), ERR_OK);
    assert_int_equal(out.slo.counted_from_us, 0);
    assert_int_equal(do_change(f, OBJECTIVE_UPDATE, LATENCY("one", "400"), &out), ERR_OK);
    assert_int_equal(out.version, 2);
    assert_int_equal(out.created_us, NOW_US);
    assert_int_equal(out.slo.counted_from_us, NOW_US + 1000000);
    assert_int_equal(do_change(f, OBJECTIVE_CREATE, LATENCY("one", "400"), &out), ERR_INVALID);
    assert_int_equal(do_change(f, OBJECTIVE_UPDATE, LATENCY("none", "400"), &out), ERR_NOT_FOUND);
    assert_int_equal(do_change(f, OBJECTIVE_DELETE, LATENCY("three", "1"), &out), ERR_OK);
    assert_int_equal(f->store.len, 2);
    assert_int_equal(count_now(f), 2);
    /* Again from the file alone, with the store away. */
    f->store.fails = ERR_UNAVAILABLE;
    open_objectives(f, true);
    assert_int_equal(count_now(f), 2);
    assert_int_equal(objectives_refresh(f->objectives), ERR_UNAVAILABLE);
    assert_true(objectives_stale(f->objectives));
    assert_int_equal(count_now(f), 2);
}

static void
with_the_store_away_nothing_changes(void **state)
{
    static const enum err FAILURES[] = {ERR_UNAVAILABLE, ERR_NOT_FOUND};
    struct fixture *f = *state;
    struct objective out;

    open_objectives(f, true);
    assert_int_equal(do_change(f, OBJECTIVE_CREATE, LATENCY("one", "300"), &out), ERR_OK);
    for (size_t i = 0; i < ARRAY_LEN(FAILURES); i++) {
        f->store.fails = FAILURES[i];
        assert_int_equal(do_change(f, OBJECTIVE_CREATE, LATENCY("two", "1"), &out),
                         ERR_UNAVAILABLE);
        assert_int_equal(do_change(f, OBJECTIVE_DELETE, LATENCY("one", "1"), &out),
                         ERR_UNAVAILABLE);
        assert_int_equal(count_now(f), 1);
        assert_int_equal(f->store.changes, 1);
    }
    f->store.fails = ERR_OK;
    open_objectives(f, true);
    assert_int_equal(count_now(f), 1);
}

static void
changes_of_others_are_taken_up_and_nonsense_is_not(void **state)
{
    struct fixture *f = *state;
    const struct objective_set *before;

    open_objectives(f, true);
    before = objectives_now(f->objectives);
    f->store.rows[0] = read_text(LATENCY("one", "300"));
    f->store.len = 1;
    f->store.generation = 7;
    assert_int_equal(objectives_refresh(f->objectives), ERR_OK);
    assert_int_equal(count_now(f), 1);
    assert_int_equal(objective_set_count(before), 0); /* whoever holds a set keeps it */
    objective_set_release(before);
    f->store.rows[1] = f->store.rows[0]; /* an id twice */
    f->store.len = 2;
    f->store.generation = 8;
    assert_int_equal(objectives_refresh(f->objectives), ERR_INVALID);
    assert_int_equal(count_now(f), 1);
    assert_true(objectives_stale(f->objectives));
    assert_int_equal(objectives_refresh(f->objectives), ERR_INVALID); /* it did not forget */
    assert_true(objectives_stale(f->objectives));
    f->store.len = 1;
    assert_int_equal(objectives_refresh(f->objectives), ERR_OK);
    assert_false(objectives_stale(f->objectives));
}

/* Rows made with SQL: the ninth of a service is left out, and keeps nothing else out of force. */
static void
rows_beyond_eight_of_a_service_are_left_out_the_youngest_first(void **state)
{
    struct fixture *f = *state;
    const struct objective_set *set;

    open_objectives(f, true);
    for (size_t i = 0; i < 10; i++) {
        f->store.rows[i] = read_text(LATENCY("x", "300"));
        (void)snprintf(f->store.rows[i].slo.id, sizeof(f->store.rows[i].slo.id), "x%zu", i);
        f->store.rows[i].created_us = NOW_US - (int64_t)i;
    }
    f->store.rows[10] = read_text(LATENCY("other", "300"));
    (void)snprintf(f->store.rows[10].service, sizeof(f->store.rows[10].service), "zebra");
    f->store.len = 11;
    f->store.generation = 7;
    assert_int_equal(objectives_refresh(f->objectives), ERR_OK);
    assert_false(objectives_stale(f->objectives));
    set = objectives_now(f->objectives);
    assert_int_equal(objective_set_count(set), SLO_OBJECTIVES_MAX + 1);
    assert_null(objective_set_find(set, SPAN_LITERAL("x0")));
    assert_null(objective_set_find(set, SPAN_LITERAL("x1")));
    assert_non_null(objective_set_find(set, SPAN_LITERAL("x9")));
    assert_non_null(objective_set_find(set, SPAN_LITERAL("other")));
    objective_set_release(set);
}

static void
a_damaged_file_is_kept_aside(void **state)
{
    struct fixture *f = *state;
    struct objective out;
    char aside[160];
    FILE *file;

    open_objectives(f, false);
    assert_int_equal(do_change(f, OBJECTIVE_CREATE, LATENCY("one", "300"), &out), ERR_OK);
    open_objectives(f, false);
    assert_int_equal(count_now(f), 1);
    file = fopen(f->file, "r+e");
    assert_non_null(file);
    assert_int_equal(fseek(file, -4, SEEK_END), 0);
    assert_int_equal(fputc('#', file), '#');
    assert_int_equal(fclose(file), 0);
    open_objectives(f, false);
    assert_int_equal(count_now(f), 0);
    (void)snprintf(aside, sizeof(aside), "%s.damaged", f->file);
    assert_int_equal(access(aside, R_OK), 0);
}

static void
a_service_has_at_most_eight_and_defaults_without_any(void **state)
{
    static const struct slo_config DEFAULTS = {.objective_count = 1};
    struct fixture *f = *state;
    const struct objective_set *set;
    struct objective out;
    char json[256];

    open_objectives(f, false);
    for (int i = 0; i < SLO_OBJECTIVES_MAX; i++) {
        (void)snprintf(
            json, sizeof(json),
            "{\"id\":\"n%d\",\"service\":\"checkout\",\"type\":\"latency\",\"target\":0.9,"
            "\"threshold_ms\":%d}",
            i, i + 1);
        assert_int_equal(do_change(f, OBJECTIVE_CREATE, json, &out), ERR_OK);
    }
    assert_int_equal(do_change(f, OBJECTIVE_CREATE, LATENCY("n9", "300"), &out), ERR_INVALID);
    set = objectives_now(f->objectives);
    assert_int_equal(
        objective_set_config(set, &DEFAULTS, SPAN_LITERAL("acme"), SPAN_LITERAL("checkout"))
            ->objective_count,
        SLO_OBJECTIVES_MAX);
    assert_ptr_equal(
        objective_set_config(set, &DEFAULTS, SPAN_LITERAL("beta"), SPAN_LITERAL("checkout")),
        &DEFAULTS);
    assert_ptr_equal(
        objective_set_config(NULL, &DEFAULTS, SPAN_LITERAL("acme"), SPAN_LITERAL("checkout")),
        &DEFAULTS);
    objective_set_release(set);
}

int
main(void)
{
#define FILE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_reads_back_the_same),
        FILE_TEST(a_change_is_in_force_in_the_store_and_in_the_file),
        FILE_TEST(with_the_store_away_nothing_changes),
        FILE_TEST(changes_of_others_are_taken_up_and_nonsense_is_not),
        FILE_TEST(rows_beyond_eight_of_a_service_are_left_out_the_youngest_first),
        FILE_TEST(a_damaged_file_is_kept_aside),
        FILE_TEST(a_service_has_at_most_eight_and_defaults_without_any),
    };

    log_setup(LOG_ERROR, LOG_TEXT, 2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
