/*
 * test_alerts.c - the book of alerts: its bytes, what is due to be told, what becomes of objectives
 * and series that are no more.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/base/log.h"
#include "core/slo/alerts.h"
#include "core/slo/alerts_json.h"
#include "tests/fakes/fake_notifier.h"
#include "tests/unit/failing_alloc.h"

enum {
    DAY = 1440,
    T0 = 29000000, /* minutes */
};

#define MINUTE_US INT64_C(60000000)
#define TENANT SPAN_LITERAL("acme")
#define NOBODY ((struct span){NULL, 0})

static const struct slices_config STORE = {
    .series_max = 2000,
    .retain_minutes = 40 * DAY,
};

struct fixture {
    struct slices *slices;
    struct alerts *alerts;
    struct slo_config objectives;
    uint64_t version;
    const char *defined; /* a service that has definitions, with events or without */
    bool unsettled;
    struct fake_notifier notifier;
    struct buffer stored; /* what a server would have on disk */
    int64_t now_us;
};

static void
give_objectives(void *arg, struct span tenant, struct span service, struct slo_config *out)
{
    const struct fixture *f = arg;

    (void)tenant;
    (void)service;
    *out = f->objectives;
}

static uint64_t
give_version(void *arg)
{
    return ((const struct fixture *)arg)->version;
}

static void
give_defined(void *arg, alerts_series_fn *fn, void *fn_arg)
{
    const struct fixture *f = arg;

    if (f->defined != NULL) {
        fn(fn_arg, TENANT, span_of(f->defined));
    }
}

static bool
is_settled(void *arg)
{
    return !((const struct fixture *)arg)->unsettled;
}

static struct alerts *
open_book(struct fixture *f)
{
    const struct alerts_config config = {.slices = f->slices,
                                         .objectives = give_objectives,
                                         .objectives_version = give_version,
                                         .objectives_arg = f,
                                         .each_defined = give_defined,
                                         .settled = is_settled,
                                         .settled_arg = f};
    struct alerts *alerts;

    assert_int_equal(alerts_new(&alerts, &config), ERR_OK);
    return alerts;
}

static int
setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    assert_int_equal(slices_new(&f->slices, &STORE), ERR_OK);
    f->objectives.objective[0] = (struct slo_objective){
        .id = "one",
        .type = SLO_AVAILABILITY,
        .target = 0.999,
        .window_minutes = 30 * DAY,
        .min_bad_events = 5,
    };
    f->objectives.objective_count = 1;
    f->alerts = open_book(f);
    f->now_us = T0 * MINUTE_US;
    fake_notifier_init(&f->notifier, 0);
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    alerts_free(f->alerts);
    slices_free(f->slices);
    fake_notifier_fini(&f->notifier);
    buffer_free(&f->stored);
    free(f);
    return 0;
}

static void
send(struct fixture *f, const char *service, int good, int bad)
{
    static uint64_t seq;

    for (int i = 0; i < good + bad; i++) {
        const struct event event = {
            .has_status = true,
            .status = i < bad ? 500 : 200,
            .occurred_at_us = f->now_us,
            .tenant = TENANT,
            .service = span_of(service),
        };

        assert_int_equal(slices_add_event(f->slices, &event, ++seq, f->now_us), ERR_OK);
    }
}

static void
store(struct fixture *f, const struct alerts_cut *cut)
{
    if (cut->bytes_due) {
        buffer_clear(&f->stored, SIZE_MAX);
        buffer_append_span(&f->stored, buffer_span(&cut->bytes));
    }
}

/* What the judge's thread does in one turn; returns how many notices the notifier took. */
static size_t
turn(struct fixture *f)
{
    size_t before = f->notifier.count;
    struct alerts_cut cut;

    alerts_judge(f->alerts, f->now_us);
    assert_int_equal(alerts_collect(f->alerts, f->now_us, f->notifier.port.repeat_us, false, &cut),
                     ERR_OK);
    store(f, &cut);
    for (size_t i = 0; i < cut.notice_count; i++) {
        if (f->notifier.port.ops->notify(f->notifier.port.self, &cut.notices[i]) != ERR_OK) {
            alerts_untold(f->alerts, &cut.notices[i]);
        }
    }
    alerts_cut_free(&cut);
    return f->notifier.count - before;
}

static const struct notice *
last_notice(const struct fixture *f)
{
    assert_true(f->notifier.count > 0);
    return &f->notifier.notices[f->notifier.count - 1];
}

static void
pass_minutes(struct fixture *f, int64_t minutes)
{
    f->now_us += minutes * MINUTE_US;
}

struct found {
    struct alert_state state[ALERT_SEVERITIES];
    uint32_t count;
};

static void
take_state(void *arg, struct span tenant, struct span service, const char *objective,
           enum alert_severity severity, const struct alert_state *state)
{
    struct found *found = arg;

    (void)tenant;
    (void)service;
    (void)objective;
    found->state[severity] = *state;
    found->count++;
}

static struct found
states_of(struct fixture *f, const char *service)
{
    struct found found = {.count = 0};

    alerts_each_state(f->alerts, TENANT, span_of(service), take_state, &found);
    return found;
}

/* ---- telling ---- */

static void
each_change_is_due_once(void **state)
{
    struct fixture *f = *state;

    send(f, "a", 0, 6);
    assert_int_equal(turn(f), 1);
    assert_int_equal(last_notice(f)->status, ALERT_FIRING);
    assert_int_equal(last_notice(f)->severity, ALERT_PAGE);
    assert_int_equal(last_notice(f)->fired_us, f->now_us);
    assert_int_equal(turn(f), 0);
    pass_minutes(f, 1);
    assert_int_equal(turn(f), 0);
    send(f, "a", 10000, 0);
    assert_int_equal(turn(f), 1); /* the ticket's budget is safe too: 0.06 % */
    assert_int_equal(last_notice(f)->status, ALERT_RESOLVED);
    assert_int_equal(last_notice(f)->resolved_us, f->now_us);
    for (int i = 0; i < 20; i++) {
        pass_minutes(f, 1);
        assert_int_equal(turn(f), 0);
    }
}

/* A restart: the state is there, the slices are not all there yet. */
static void
nothing_is_judged_before_the_slices_are_all_there(void **state)
{
    struct fixture *f = *state;

    send(f, "burns", 0, 6);
    assert_int_equal(turn(f), 1);
    alerts_free(f->alerts);
    slices_free(f->slices);
    assert_int_equal(slices_new(&f->slices, &STORE), ERR_OK);
    f->unsettled = true;
    f->alerts = open_book(f);
    assert_int_equal(alerts_restore(f->alerts, buffer_span(&f->stored)), ERR_OK);
    send(f, "burns", 10, 0); /* ours; the bad ones are another node's */
    send(f, "sleeps", 0, 6); /* ours; another node has many good ones */
    for (int i = 0; i < 3; i++) {
        (void)turn(f);
        alerts_refresh(f->alerts, TENANT, f->now_us);
        assert_int_equal(states_of(f, "burns").state[ALERT_PAGE].status, ALERT_FIRING);
        assert_int_equal(states_of(f, "sleeps").count, 0);
        pass_minutes(f, 1);
    }
    send(f, "burns", 0, 6);
    send(f, "sleeps", 10000, 0);
    f->unsettled = false;
    alerts_refresh(f->alerts, TENANT, f->now_us);
    (void)turn(f);
    assert_int_equal(states_of(f, "burns").state[ALERT_PAGE].status, ALERT_FIRING);
    assert_int_equal(states_of(f, "sleeps").state[ALERT_PAGE].status, ALERT_OK);
    f->unsettled = true; /* said once is enough */
    send(f, "late", 0, 6);
    alerts_refresh(f->alerts, TENANT, f->now_us);
    assert_int_equal(states_of(f, "late").state[ALERT_PAGE].status, ALERT_FIRING);
}

static void
what_found_no_room_is_due_again(void **state)
{
    struct fixture *f = *state;

    f->notifier.answer = ERR_AGAIN;
    send(f, "a", 0, 6);
    assert_int_equal(turn(f), 0);
    assert_int_equal(turn(f), 0);
    f->notifier.answer = ERR_OK;
    assert_int_equal(turn(f), 1);
    assert_int_equal(turn(f), 0);
}

static void
an_episode_nobody_heard_of_is_not_told_when_it_is_long_over(void **state)
{
    struct fixture *f = *state;

    f->notifier.answer = ERR_AGAIN;
    send(f, "a", 0, 6);
    assert_int_equal(turn(f), 0);
    send(f, "a", 10000, 0);
    assert_int_equal(turn(f), 0);
    pass_minutes(f, 6);
    f->notifier.answer = ERR_OK;
    assert_int_equal(turn(f), 0);
}

static void
a_receiver_that_forgets_is_told_again(void **state)
{
    struct fixture *f = *state;

    f->notifier.port.repeat_us = MINUTE_US;
    send(f, "a", 0, 6);
    assert_int_equal(turn(f), 1);
    f->now_us += MINUTE_US - 1;
    assert_int_equal(turn(f), 0);
    f->now_us += 1;
    assert_int_equal(turn(f), 1);
    send(f, "a", 10000, 0);
    assert_int_equal(turn(f), 1);
    assert_int_equal(last_notice(f)->status, ALERT_RESOLVED);
    for (int i = 1; i < 5; i++) { /* five minutes from the end, which is not counted */
        pass_minutes(f, 1);
        assert_int_equal(turn(f), 1);
        assert_int_equal(last_notice(f)->status, ALERT_RESOLVED);
    }
    for (int i = 0; i < 5; i++) {
        pass_minutes(f, 1);
        assert_int_equal(turn(f), 0);
    }
}

static void
an_id_belongs_to_one_change(void **state)
{
    struct fixture *f = *state;
    struct notice first;

    send(f, "a", 0, 6);
    send(f, "b", 0, 6);
    assert_int_equal(turn(f), 2);
    first = f->notifier.notices[0];
    assert_int_equal(strlen(first.id), NOTICE_ID_SIZE - 1);
    assert_string_not_equal(first.id, f->notifier.notices[1].id);
    alerts_untold(f->alerts, &first);
    pass_minutes(f, 1);
    assert_int_equal(turn(f), 1);
    assert_string_equal(last_notice(f)->id, first.id);
    send(f, "a", 10000, 0);
    assert_int_equal(turn(f), 1);
    assert_string_not_equal(last_notice(f)->id, first.id);
}

static void
many_notices_come_in_several_cuts(void **state)
{
    struct fixture *f = *state;
    size_t told = 0;
    char name[16];

    for (int i = 0; i < ALERTS_COLLECT_MAX + 44; i++) {
        snprintf(name, sizeof(name), "s%d", i);
        send(f, name, 0, 6);
    }
    told += turn(f);
    assert_int_equal(told, ALERTS_COLLECT_MAX);
    told += turn(f);
    assert_int_equal(told, ALERTS_COLLECT_MAX + 44);
    assert_int_equal(turn(f), 0);
}

/* ---- what is no more ---- */

static void
an_objective_that_is_deleted_resolves_and_goes(void **state)
{
    struct fixture *f = *state;

    send(f, "a", 0, 6);
    assert_int_equal(turn(f), 1);
    strcpy(f->objectives.objective[0].id, "another");
    assert_int_equal(turn(f), 0); /* nobody said that they have changed */
    f->version++;
    assert_int_equal(turn(f), 2); /* the old one ends, the new one pages */
    assert_int_equal(states_of(f, "a").count, 4);
    pass_minutes(f, 6);
    assert_int_equal(turn(f), 0);
    assert_int_equal(states_of(f, "a").count, 2);
}

/* Eight objectives with windows of their own each, and the end of a ninth in the same cut. */
static void
the_most_objectives_there_can_be_are_judged_and_told(void **state)
{
    struct fixture *f = *state;

    send(f, "a", 0, 6);
    assert_int_equal(turn(f), 1);
    f->objectives.objective_count = SLO_OBJECTIVES_MAX;
    for (int i = 0; i < SLO_OBJECTIVES_MAX; i++) {
        f->objectives.objective[i] = f->objectives.objective[0];
        f->objectives.objective[i].window_minutes = (i + 5) * DAY + 60 * i;
        snprintf(f->objectives.objective[i].id, sizeof(f->objectives.objective[i].id), "n%d", i);
    }
    f->version++;
    assert_int_equal(turn(f), SLO_OBJECTIVES_MAX + 1);
    assert_int_equal(states_of(f, "a").count, 2 * (SLO_OBJECTIVES_MAX + 1));
}

static void
a_series_that_is_gone_resolves_after_a_while(void **state)
{
    struct fixture *f = *state;
    struct alerts_stats stats;

    send(f, "a", 0, 6);
    assert_int_equal(turn(f), 1);
    slices_expire(f->slices, f->now_us + 60 * DAY * MINUTE_US);
    pass_minutes(f, 1);
    assert_int_equal(turn(f), 0); /* perhaps another node's, not yet read back */
    assert_int_equal(states_of(f, "a").state[ALERT_PAGE].status, ALERT_FIRING);
    pass_minutes(f, 15);
    assert_int_equal(turn(f), 1);
    assert_int_equal(last_notice(f)->status, ALERT_RESOLVED);
    pass_minutes(f, 6);
    assert_int_equal(turn(f), 0);
    alerts_stats(f->alerts, &stats);
    assert_int_equal(stats.watched, 0);
    assert_int_equal(states_of(f, "a").count, 0);
}

static void
a_defined_service_is_watched_before_its_first_event(void **state)
{
    struct fixture *f = *state;

    f->defined = "silent";
    alerts_refresh(f->alerts, TENANT, f->now_us);
    assert_int_equal(states_of(f, "silent").count, 0); /* nobody said that anything has changed */
    f->version++;
    alerts_refresh(f->alerts, TENANT, f->now_us);
    assert_int_equal(states_of(f, "silent").count, 2);
    assert_int_equal(states_of(f, "silent").state[ALERT_PAGE].status, ALERT_NO_DATA);
    assert_true(states_of(f, "silent").state[ALERT_PAGE].no_data);
    pass_minutes(f, 30);
    assert_int_equal(turn(f), 0); /* silence is nothing to tell */
    assert_int_equal(states_of(f, "silent").count, 2);
    send(f, "silent", 0, 6);
    assert_int_equal(turn(f), 1);
    f->defined = NULL;
    f->version++;
    assert_int_equal(turn(f), 0); /* it has events now, so it stays */
    assert_int_equal(states_of(f, "silent").state[ALERT_PAGE].status, ALERT_FIRING);
}

static void
a_definition_of_a_silent_service_goes_with_it(void **state)
{
    struct fixture *f = *state;

    f->defined = "silent";
    assert_int_equal(turn(f), 0);
    assert_int_equal(states_of(f, "silent").count, 2);
    f->defined = NULL;
    f->version++;
    assert_int_equal(turn(f), 0);
    pass_minutes(f, 16);
    assert_int_equal(turn(f), 0);
    assert_int_equal(states_of(f, "silent").count, 0);
}

static void
objectives_come_and_go_without_bound(void **state)
{
    struct fixture *f = *state;

    send(f, "a", 0, 6);
    for (int i = 0; i < 100; i++) {
        snprintf(f->objectives.objective[0].id, sizeof(f->objectives.objective[0].id), "o%d", i);
        alerts_judge(f->alerts, f->now_us);
        send(f, "a", 0, 1);
    }
    assert_in_range(states_of(f, "a").count, 2, 2 * 2 * SLO_OBJECTIVES_MAX);
}

/* ---- bytes ---- */

/* What a server that stops now would leave. The fixture's. */
static struct buffer *
bytes_of(struct fixture *f)
{
    struct alerts_cut cut;

    assert_int_equal(alerts_collect(f->alerts, f->now_us, -1, true, &cut), ERR_OK);
    store(f, &cut);
    alerts_cut_free(&cut);
    assert_true(f->stored.len > 0);
    return &f->stored;
}

static void
a_restored_book_goes_on_as_if_nothing_had_happened(void **state)
{
    struct fixture *f = *state;
    struct found before;
    struct found after;
    struct buffer *bytes;

    send(f, "a", 0, 6);
    send(f, "quiet", 6, 0);
    assert_int_equal(turn(f), 1);
    alerts_told(f->alerts, last_notice(f));
    bytes = bytes_of(f);
    before = states_of(f, "a");
    alerts_free(f->alerts);
    f->alerts = open_book(f);
    assert_int_equal(alerts_restore(f->alerts, buffer_span(bytes)), ERR_OK);
    after = states_of(f, "a");
    assert_int_equal(after.count, 2);
    for (int s = 0; s < ALERT_SEVERITIES; s++) {
        assert_int_equal(after.state[s].status, before.state[s].status);
        assert_int_equal(after.state[s].rules, before.state[s].rules);
        assert_int_equal(after.state[s].rule, before.state[s].rule);
        assert_int_equal(after.state[s].held_back, before.state[s].held_back);
        assert_int_equal(after.state[s].since_us, before.state[s].since_us);
        assert_int_equal(after.state[s].fired_us, before.state[s].fired_us);
    }
    assert_int_equal(turn(f), 0); /* it was confirmed before */
    send(f, "a", 10000, 0);
    assert_int_equal(turn(f), 1);
}

static void
what_was_not_confirmed_is_told_again_after_a_restart(void **state)
{
    struct fixture *f = *state;
    struct buffer *bytes;

    send(f, "a", 0, 6);
    assert_int_equal(turn(f), 1);
    bytes = bytes_of(f);
    alerts_free(f->alerts);
    f->alerts = open_book(f);
    assert_int_equal(alerts_restore(f->alerts, buffer_span(bytes)), ERR_OK);
    assert_int_equal(turn(f), 1);
    assert_string_equal(f->notifier.notices[0].id, f->notifier.notices[1].id);
}

static void
damaged_bytes_leave_an_empty_book(void **state)
{
    struct fixture *f = *state;
    struct buffer *bytes;

    send(f, "a", 0, 6);
    alerts_judge(f->alerts, f->now_us);
    bytes = bytes_of(f);
    alerts_free(f->alerts);
    f->alerts = open_book(f);
    for (size_t i = 0; i < bytes->len; i++) {
        enum err err;

        bytes->data[i] = (char)(bytes->data[i] ^ 0x20);
        err = alerts_restore(f->alerts, buffer_span(bytes));
        assert_true(err == ERR_CORRUPT || (err == ERR_FORMAT && i >= 8 && i < 12));
        assert_int_equal(alerts_restore(f->alerts, (struct span){bytes->data, i}), ERR_CORRUPT);
        bytes->data[i] = (char)(bytes->data[i] ^ 0x20);
        assert_int_equal(states_of(f, "a").count, 0);
    }
    assert_int_equal(alerts_restore(f->alerts, buffer_span(bytes)), ERR_OK);
}

/* Whatever has a right checksum is taken or refused, never believed blindly. */
static void
bytes_that_make_no_sense_are_refused(void **state)
{
    struct fixture *f = *state;
    struct buffer *bytes;

    send(f, "a", 0, 6);
    alerts_judge(f->alerts, f->now_us);
    bytes = bytes_of(f);
    for (size_t i = 16; i < bytes->len; i++) {
        for (int value = 0; value < 256; value++) {
            const char kept = bytes->data[i];
            struct alerts *book = open_book(f);
            enum err err;

            bytes->data[i] = (char)value;
            put_u32((uint8_t *)bytes->data + 12, crc32c(0, bytes->data + 16, bytes->len - 16));
            err = alerts_restore(book, buffer_span(bytes));
            assert_true(err == ERR_OK || err == ERR_CORRUPT);
            if (err == ERR_OK) {
                alerts_judge(book, f->now_us);
            }
            bytes->data[i] = kept;
            alerts_free(book);
        }
    }
}

static void
bytes_are_due_at_once_after_news_and_else_after_a_minute(void **state)
{
    struct fixture *f = *state;
    struct alerts_cut cut;

    send(f, "a", 1, 0);
    alerts_judge(f->alerts, f->now_us);
    assert_int_equal(alerts_collect(f->alerts, f->now_us, -1, false, &cut), ERR_OK);
    assert_true(cut.bytes_due); /* never stored so far */
    assert_int_equal(cut.notice_count, 0);
    alerts_cut_free(&cut);
    send(f, "b", 1, 0);
    alerts_judge(f->alerts, f->now_us);
    assert_int_equal(alerts_collect(f->alerts, f->now_us, -1, false, &cut), ERR_OK);
    assert_false(cut.bytes_due);
    alerts_cut_free(&cut);
    send(f, "b", 0, 6);
    alerts_judge(f->alerts, f->now_us);
    assert_int_equal(alerts_collect(f->alerts, f->now_us, -1, false, &cut), ERR_OK);
    assert_true(cut.bytes_due);
    alerts_cut_free(&cut);
    alerts_unsaved(f->alerts);
    assert_int_equal(alerts_collect(f->alerts, f->now_us, -1, false, &cut), ERR_OK);
    assert_false(cut.bytes_due);
    alerts_cut_free(&cut);
    pass_minutes(f, 1);
    assert_int_equal(alerts_collect(f->alerts, f->now_us, -1, false, &cut), ERR_OK);
    assert_true(cut.bytes_due);
    alerts_cut_free(&cut);
}

/* ---- reading ---- */

static void
only_what_changed_is_judged_within_a_minute(void **state)
{
    struct fixture *f = *state;
    struct alerts_stats stats;
    char name[16];

    for (int i = 0; i < 50; i++) {
        snprintf(name, sizeof(name), "s%d", i);
        send(f, name, 1, 0);
    }
    alerts_judge(f->alerts, f->now_us);
    alerts_stats(f->alerts, &stats);
    assert_int_equal(stats.judged, 100); /* what changed, and then all: the first time */
    alerts_judge(f->alerts, f->now_us);
    send(f, "s7", 1, 0);
    alerts_judge(f->alerts, f->now_us);
    alerts_stats(f->alerts, &stats);
    assert_int_equal(stats.judged, 101);
    pass_minutes(f, 1);
    alerts_judge(f->alerts, f->now_us);
    alerts_stats(f->alerts, &stats);
    assert_int_equal(stats.judged, 151);
}

static void
a_reader_sees_what_was_acked(void **state)
{
    struct fixture *f = *state;

    send(f, "a", 0, 6);
    alerts_refresh(f->alerts, SPAN_LITERAL("globex"), f->now_us);
    assert_int_equal(states_of(f, "a").count, 0);
    alerts_refresh(f->alerts, TENANT, f->now_us);
    assert_int_equal(states_of(f, "a").state[ALERT_PAGE].status, ALERT_FIRING);
}

static cJSON *
document_of(struct fixture *f, struct alerts_filter filter)
{
    struct buffer out = BUFFER_EMPTY;
    cJSON *document;

    alerts_json(f->alerts, &filter, f->now_us, &out);
    assert_false(out.failed);
    document = cJSON_ParseWithLength(out.data, out.len);
    assert_non_null(document);
    buffer_free(&out);
    return document;
}

static void
what_fires_is_listed_first(void **state)
{
    struct fixture *f = *state;
    const struct alerts_filter all = {TENANT, NOBODY, -1, -1};
    static const char *const ORDER[] = {"c", "b", "b", "a", "a", "c"};
    cJSON *document;
    cJSON *list;

    send(f, "b", 5, 0);
    send(f, "a", 5, 0);
    alerts_judge(f->alerts, f->now_us);
    pass_minutes(f, 1);
    send(f, "b", 5, 5); /* fires a minute before c */
    alerts_judge(f->alerts, f->now_us);
    pass_minutes(f, 1);
    send(f, "c", 0, 6);
    alerts_judge(f->alerts, f->now_us);
    document = document_of(f, all);
    list = cJSON_GetObjectItem(document, "alerts");
    assert_int_equal(cJSON_GetArraySize(list), 6);
    assert_int_equal(cJSON_GetObjectItem(document, "firing")->valueint, 2);
    assert_string_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(list, 0), "service")->valuestring,
                        ORDER[0]);
    assert_string_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(list, 1), "service")->valuestring,
                        ORDER[1]);
    assert_string_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(list, 5), "state")->valuestring,
                        "ok");
    cJSON_Delete(document);
}

static void
without_memory_nothing_is_lost(void **state)
{
    struct fixture *f = *state;
    struct alerts_cut cut;
    enum err err = ERR_NO_MEMORY;
    long allowed = 0;

    if (!FAILING_ALLOC) {
        print_message("the sanitizers bring their own malloc()\n");
        skip();
    }
    send(f, "a", 0, 6);
    for (; err != ERR_OK || cut.notice_count == 0; allowed++) {
        pass_minutes(f, 1);
        send(f, "a", 0, 1);
        fail_allocations_after(allowed);
        alerts_judge(f->alerts, f->now_us);
        err = alerts_collect(f->alerts, f->now_us, 0, false, &cut);
        fail_allocations_after(-1);
        if (err == ERR_OK && cut.notice_count == 0) {
            alerts_cut_free(&cut);
        }
        assert_true(allowed < 1000);
    }
    assert_int_equal(cut.notice_count, 1);
    assert_int_equal(cut.notices[0].status, ALERT_FIRING);
    alerts_cut_free(&cut);
    assert_true(allowed > 5);
}

int
main(void)
{
#define BOOK_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        BOOK_TEST(each_change_is_due_once),
        BOOK_TEST(nothing_is_judged_before_the_slices_are_all_there),
        BOOK_TEST(what_found_no_room_is_due_again),
        BOOK_TEST(an_episode_nobody_heard_of_is_not_told_when_it_is_long_over),
        BOOK_TEST(a_receiver_that_forgets_is_told_again),
        BOOK_TEST(an_id_belongs_to_one_change),
        BOOK_TEST(many_notices_come_in_several_cuts),
        BOOK_TEST(an_objective_that_is_deleted_resolves_and_goes),
        BOOK_TEST(the_most_objectives_there_can_be_are_judged_and_told),
        BOOK_TEST(a_series_that_is_gone_resolves_after_a_while),
        BOOK_TEST(a_defined_service_is_watched_before_its_first_event),
        BOOK_TEST(a_definition_of_a_silent_service_goes_with_it),
        BOOK_TEST(objectives_come_and_go_without_bound),
        BOOK_TEST(a_restored_book_goes_on_as_if_nothing_had_happened),
        BOOK_TEST(what_was_not_confirmed_is_told_again_after_a_restart),
        BOOK_TEST(damaged_bytes_leave_an_empty_book),
        BOOK_TEST(bytes_that_make_no_sense_are_refused),
        BOOK_TEST(bytes_are_due_at_once_after_news_and_else_after_a_minute),
        BOOK_TEST(only_what_changed_is_judged_within_a_minute),
        BOOK_TEST(a_reader_sees_what_was_acked),
        BOOK_TEST(what_fires_is_listed_first),
        BOOK_TEST(without_memory_nothing_is_lost),
    };

    log_setup(LOG_ERROR, LOG_TEXT, 2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
