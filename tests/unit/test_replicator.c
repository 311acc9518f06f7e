/*
 * test_replicator.c - every answer the sink and the journal can give, and what must come of it.
 *
 * The steps run on the test's own thread with fakes and a clock moved by hand. A world is one
 * process: journal and store outlive it, world_restart() is a crash and a new start, with what
 * w->config says by then. The threads are tested last, with nothing decided by timing: a hang ends
 * in SIGALRM.
 */
#include "core/counts/count_cell.h"
#include "core/replicator.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/log.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_journal.h"
#include "tests/fakes/fake_sink.h"

enum {
    BACKOFF_MS = 100,
    BACKOFF_MAX_MS = 1600,
    BATCH_EVENTS = 16,
    PARTITIONS_MAX = 4,
};
static const int64_t START_US = INT64_C(1700000000) * 1000000;

struct world {
    struct fake_clock clock;
    struct fake_journal *journal;
    struct fake_store *store;
    struct slices_config slices_config;
    struct slices *slices;
    struct replicator_config config;
    uint32_t partitions;
    struct replicator *replicators[PARTITIONS_MAX];
    uint64_t put;       /* events put in so far, names the next one */
    const char *poison; /* service whose rows are refused; NULL none */
    bool dead_refused;
};

/* ---- one process ---- */

static void
on_durable(void *self, const struct append_event *appended)
{
    struct world *w = self;
    struct event event;

    assert_int_equal(event_decode(appended->body, &event), ERR_OK);
    if (event_is_measured(&event)) {
        assert_int_equal(slices_add_event(w->slices, &event, 1, clock_wall_us(&w->clock.port)),
                         ERR_OK);
    }
}

static void
load_pending(void *arg, uint64_t seq, const struct event *event)
{
    struct world *w = arg;

    (void)seq;
    if (event_is_measured(event)) {
        assert_int_equal(slices_add_event(w->slices, event, 1, clock_wall_us(&w->clock.port)),
                         ERR_OK);
    }
}

static void
start_process(struct world *w)
{
    const struct fake_history *history = fake_journal_history(w->journal);

    assert_int_equal(slices_new(&w->slices, &w->slices_config), ERR_OK);
    for (size_t i = 0; i < history->len; i++) {
        struct slice_key key = fake_history_key(&history->entries[i]);

        assert_int_equal(
            slices_add(w->slices, &key, &history->entries[i].slice, clock_wall_us(&w->clock.port)),
            ERR_OK);
    }
    fake_journal_each_pending(w->journal, load_pending, w);
    for (uint32_t p = 0; p < w->partitions; p++) {
        struct replicator_config config = w->config;

        config.partition = p;
        assert_int_equal(replicator_new(&w->replicators[p], &config, fake_journal_port(w->journal),
                                        fake_store_sink(w->store, p), w->slices, &w->clock.port),
                         ERR_OK);
    }
}

static void
end_process(struct world *w)
{
    for (uint32_t p = 0; p < w->partitions; p++) {
        replicator_free(w->replicators[p]);
        w->replicators[p] = NULL;
    }
    slices_free(w->slices);
    w->slices = NULL;
}

static void
world_restart(struct world *w)
{
    end_process(w);
    fake_journal_restart(w->journal);
    start_process(w);
}

static bool
is_poison(void *arg, const struct event *event)
{
    const struct world *w = arg;

    return w->poison != NULL && span_is(event->service, w->poison);
}

static bool
is_dead_refused(void *arg, const struct event *event)
{
    const struct world *w = arg;

    (void)event;
    return w->dead_refused;
}

static struct world *
world_new(uint32_t partitions)
{
    struct world *w = calloc(1, sizeof(*w));
    struct fake_hooks hooks = {.poison = is_poison, .dead_poison = is_dead_refused, .arg = w};

    assert_non_null(w);
    fake_clock_init(&w->clock, START_US);
    w->partitions = partitions;
    w->slices_config = (struct slices_config){
        .rules = {.threshold_us = {300000}, .threshold_count = 1},
        .series_max = 100,
        .retain_minutes = INT64_C(90) * 1440,
    };
    w->config = (struct replicator_config){
        .batch_events_max = BATCH_EVENTS,
        .batch_bytes_max = 1 << 20,
        .backoff_ms = BACKOFF_MS,
        .backoff_max_ms = BACKOFF_MAX_MS,
    };
    w->journal = fake_journal_new(
        &(struct fake_journal_config){.partitions = partitions, .observer = {on_durable, w}});
    w->store = fake_store_new(partitions, &w->slices_config.rules);
    fake_store_set_hooks(w->store, &hooks);
    start_process(w);
    return w;
}

static void
world_free(struct world *w)
{
    end_process(w);
    fake_journal_free(w->journal);
    fake_store_free(w->store);
    free(w);
}

/* ---- events ---- */

static uint64_t
put_event(struct world *w, const char *service, const char *client_id)
{
    char id[32];
    struct event event = {
        .shape = EVENT_TELEMETRY,
        .has_status = true,
        .has_latency = true,
        .status = w->put % 7 == 0 ? 503 : 200,
        .latency_ms = (double)(w->put % 500),
        .occurred_at_us = START_US - (int64_t)(w->put % 5) * 60000000,
        .created_at_us = clock_wall_us(&w->clock.port),
        .tenant = SPAN_LITERAL("acme"),
        .name = SPAN_LITERAL("request"),
        .service = span_of(service),
    };

    (void)snprintf(id, sizeof(id), "auto-%llu", (unsigned long long)w->put);
    event.id = span_of(client_id == NULL ? id : client_id);
    if (client_id != NULL) {
        event.id_by_client = true;
        event_key(event.tenant, event.id, event.key);
        /* Repeats say the same thing. */
        event.status = 200;
        event.latency_ms = 5;
        event.occurred_at_us = START_US;
    }
    if (service == NULL) {
        event.has_status = false;
    }
    w->put++;
    return fake_journal_put(w->journal, &event);
}

static void
put_events(struct world *w, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        (void)put_event(w, i % 3 == 0 ? "api" : "web", NULL);
    }
}

/* ---- looking ---- */

static struct replicator_status
status_of(struct world *w, uint32_t partition)
{
    struct replicator_status status;

    replicator_status(w->replicators[partition], &status);
    return status;
}

static void
assert_state(struct world *w, enum replicator_state state)
{
    struct replicator_status status = status_of(w, 0);

    assert_string_equal(replicator_state_name(status.state), replicator_state_name(state));
}

static int
step(struct world *w)
{
    return replicator_step(w->replicators[0]);
}

/* Steps until there is something to wait for, and returns that. */
static int
run_partition(struct world *w, uint32_t partition)
{
    for (int i = 0; i < 100000; i++) {
        int wait_ms = replicator_step(w->replicators[partition]);

        if (wait_ms != 0) {
            return wait_ms;
        }
    }
    fail_msg("the replicator never waits");
    return 0;
}

static int
run(struct world *w)
{
    return run_partition(w, 0);
}

/* Runs through every wait until nothing is left to send. */
static void
run_to_the_end(struct world *w)
{
    for (uint32_t p = 0; p < w->partitions; p++) {
        int wait_ms = 0;

        for (int i = 0; i < 10000; i++) {
            wait_ms = run_partition(w, p);
            if (wait_ms < 0) {
                break;
            }
            fake_clock_pass_ms(&w->clock, wait_ms);
        }
        assert_true(wait_ms < 0);
    }
}

static void
add_pending(void *arg, uint64_t seq, const struct event *event)
{
    void **args = arg;

    (void)seq;
    if (event_is_measured(event)) {
        fake_history_add_event(args[0], event, args[1]);
    }
}

/* What the slices must say: the journal's history and all that is after it. */
static void
assert_slices_are_history_and_pending(struct world *w)
{
    struct fake_history expected = {0};
    struct fake_history found = {0};
    void *args[2] = {&expected, &w->slices_config.rules};
    struct slice all = {0};

    fake_history_add_all(&expected, fake_journal_history(w->journal));
    fake_journal_each_pending(w->journal, add_pending, args);
    for (size_t i = 0; i < expected.len; i++) {
        struct slice_key key = fake_history_key(&expected.entries[i]);
        struct slice sum = {0};

        assert_int_equal(
            slices_sum(w->slices, key.tenant, key.service, key.minute, key.minute + 1, &sum),
            ERR_OK);
        fake_history_add(&found, &key, &sum);
        slice_clear(&sum);
    }
    assert_true(fake_history_equal(&expected, &found));
    for (size_t i = 0; i < 3; i++) {
        const char *const services[] = {"api", "web", "bad"};

        assert_int_equal(slices_sum(w->slices, SPAN_LITERAL("acme"), span_of(services[i]), 0,
                                    START_US / 60000000 + 100000, &all),
                         ERR_OK);
    }
    assert_int_equal(all.good + all.bad, fake_history_events(&expected));
    slice_clear(&all);
    fake_history_clear(&expected);
    fake_history_clear(&found);
}

/* Repeats have been taken out of the counts, each once, however often they were sent. */
static void
assert_removals_are_the_repeats(struct world *w)
{
    struct span rest = buffer_span(&fake_journal_removals(w->journal)->bytes);
    struct span key;
    struct span value;
    uint64_t removed = 0;

    while (count_changes_next(&rest, &key, &value)) {
        struct count_removal removal;
        enum fake_kind kind;
        uint64_t seq;

        assert_true(count_parse_removal(key, &seq));
        assert_int_equal(count_removal_decode(value, &removal), ERR_OK);
        kind = fake_store_kind(w->store, journal_partition_of(seq, w->partitions), seq);
        assert_int_equal(kind, FAKE_DUPLICATE);
        removed++;
    }
    assert_int_equal(removed, fake_store_count(w->store, FAKE_DUPLICATE));
}

/* Everything is in the store once, and all who keep sums agree. */
static void
assert_drained(struct world *w)
{
    struct journal *journal = fake_journal_port(w->journal);
    uint64_t durable = journal->ops->durable_seq(journal->self);
    struct fake_history folded = {0};
    struct fake_history summed = {0};

    for (uint64_t seq = 1; seq <= durable; seq++) {
        uint32_t p = journal_partition_of(seq, w->partitions);

        assert_int_not_equal(fake_store_kind(w->store, p, seq), FAKE_ABSENT);
        assert_true(journal->ops->replicated_seq(journal->self, p) >= seq);
    }
    assert_int_equal(fake_store_count(w->store, FAKE_ROW) + fake_store_count(w->store, FAKE_DEAD) +
                         fake_store_count(w->store, FAKE_DUPLICATE),
                     durable);
    for (uint32_t p = 0; p < w->partitions; p++) {
        assert_int_equal(status_of(w, p).lag_events, 0);
        assert_int_equal(fake_store_offset(w->store, p),
                         journal->ops->replicated_seq(journal->self, p));
    }
    fake_store_folded(w->store, &folded);
    fake_store_summed(w->store, &summed);
    assert_true(fake_history_equal(&folded, &summed));
    assert_true(fake_history_equal(&folded, fake_journal_history(w->journal)));
    assert_slices_are_history_and_pending(w);
    assert_removals_are_the_repeats(w);
    fake_history_clear(&folded);
    fake_history_clear(&summed);
}

static void
finish(struct world *w)
{
    run_to_the_end(w);
    assert_state(w, REPLICATOR_STREAMING);
    assert_drained(w);
    world_free(w);
}

/* ---- connecting ---- */

static void
an_unreachable_sink_is_asked_again_after_waits_that_double_up_to_the_limit(void **state)
{
    struct world *w = world_new(1);
    int longest = 0;

    (void)state;
    put_events(w, 1);
    for (uint32_t i = 0; i < 200; i++) {
        int bound = i < 4 ? BACKOFF_MS << i : BACKOFF_MAX_MS;
        int wait_ms = 0;

        fake_store_next_position(w->store, 0, ERR_UNAVAILABLE);
        wait_ms = step(w);
        assert_in_range(wait_ms, 1, bound);
        longest = wait_ms > longest ? wait_ms : longest;
        assert_state(w, REPLICATOR_CONNECTING);
        assert_int_equal(status_of(w, 0).last_error, ERR_UNAVAILABLE);
    }
    assert_true(longest > BACKOFF_MAX_MS / 2);
    assert_int_equal(run(w), -1);
    assert_int_equal(status_of(w, 0).last_error, ERR_OK);
    fake_store_roll_back(w->store, 0, 0);
    put_events(w, 1);
    fake_store_next_position(w->store, 0, ERR_UNAVAILABLE);
    assert_in_range(run(w), 1, 2 * BACKOFF_MS); /* the fenced batch was the first failure */
    finish(w);
}

static void
a_backoff_limit_below_the_first_wait_means_no_growth(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    w->config.backoff_max_ms = 1;
    world_restart(w);
    for (int i = 0; i < 50; i++) {
        fake_store_next_position(w->store, 0, ERR_UNAVAILABLE);
        assert_in_range(step(w), 1, BACKOFF_MS);
    }
    finish(w);
}

static void
repeated_failures_log_one_line_in_ten_seconds(void **state)
{
    struct world *w = world_new(1);
    int fd = memfd_create("log", MFD_CLOEXEC);
    char text[65536];
    ssize_t len = 0;
    size_t lines = 0;

    (void)state;
    assert_true(fd >= 0);
    log_setup(LOG_WARN, LOG_JSON, fd);
    for (int i = 0; i < 21; i++) {
        fake_store_next_position(w->store, 0, ERR_UNAVAILABLE);
        (void)step(w);
        fake_clock_pass_ms(&w->clock, 1000);
    }
    log_setup(LOG_ERROR, LOG_JSON, open("/dev/null", O_WRONLY | O_CLOEXEC));
    len = pread(fd, text, sizeof(text) - 1, 0);
    assert_true(len > 0);
    text[len] = '\0';
    for (const char *at = text; (at = strstr(at, "replicator.retry")) != NULL; at++) {
        lines++;
    }
    assert_int_equal(lines, 3); /* at 0, 10 and 20 seconds */
    assert_non_null(strstr(text, "\"not_logged\":9"));
    (void)close(fd);
    world_free(w);
}

static void
a_final_answer_to_position_stops_and_is_fatal(void **state)
{
    const enum err finals[] = {ERR_FENCED, ERR_IDENTITY};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(finals); i++) {
        struct world *w = world_new(1);

        put_events(w, 3);
        fake_store_next_position(w->store, 0, finals[i]);
        assert_int_equal(step(w), -1);
        assert_state(w, REPLICATOR_STOPPED);
        assert_int_equal(replicator_fatal(w->replicators[0]), finals[i]);
        assert_int_equal(status_of(w, 0).last_error, finals[i]);
        assert_int_equal(step(w), -1);
        assert_int_equal(fake_store_calls(w->store).position, 1);
        assert_int_equal(fake_store_calls(w->store).apply, 0);
        world_free(w);
    }
}

static void
a_schema_too_new_blocks_until_it_is_not(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 3);
    fake_store_next_position(w->store, 0, ERR_FORMAT);
    fake_store_next_position(w->store, 0, ERR_FORMAT);
    assert_int_equal(step(w), BACKOFF_MAX_MS);
    assert_state(w, REPLICATOR_BLOCKED);
    assert_int_equal(step(w), BACKOFF_MAX_MS);
    assert_int_equal(status_of(w, 0).last_error, ERR_FORMAT);
    assert_int_equal(replicator_fatal(w->replicators[0]), ERR_OK);
    finish(w);
}

static void
a_sink_beyond_the_log_is_an_identity_conflict(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 5);
    fake_store_set_offset(w->store, 0, 6);
    assert_int_equal(step(w), -1);
    assert_state(w, REPLICATOR_STOPPED);
    assert_int_equal(replicator_fatal(w->replicators[0]), ERR_IDENTITY);
    assert_int_equal(status_of(w, 0).lag_events, 5); /* nothing is claimed to be in the sink */
    world_free(w);
}

static void
a_sink_at_the_last_seq_of_the_log_is_no_conflict(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 5);
    run_to_the_end(w);
    world_restart(w);
    finish(w);
}

/* ---- nothing to send ---- */

enum {
    IDLE_CHECK_MS = 2000
};

/* A world that asks its sink while idle, drained, with COUNT events in the sink. */
static struct world *
world_idle(size_t count)
{
    struct world *w = world_new(1);

    w->config.idle_check_ms = IDLE_CHECK_MS;
    world_restart(w);
    put_events(w, count);
    assert_int_equal(run(w), -1);
    fake_clock_pass_ms(&w->clock, IDLE_CHECK_MS);
    assert_int_equal(run(w), -1);
    assert_state(w, REPLICATOR_STREAMING);
    return w;
}

static void
an_idle_sink_is_asked_as_often_as_told_and_not_more(void **state)
{
    struct world *w = world_idle(5);
    uint64_t asked = fake_store_calls(w->store).position;

    (void)state;
    for (uint64_t i = 1; i <= 3; i++) {
        fake_clock_pass_ms(&w->clock, IDLE_CHECK_MS - 1);
        assert_int_equal(run(w), -1);
        assert_int_equal(fake_store_calls(w->store).position, asked + i - 1);
        fake_clock_pass_ms(&w->clock, 1);
        assert_int_equal(run(w), -1);
        assert_int_equal(run(w), -1);
        assert_int_equal(fake_store_calls(w->store).position, asked + i);
        assert_int_equal(status_of(w, 0).connected_us, clock_wall_us(&w->clock.port));
    }
    /* Sending is an answer too. */
    fake_clock_pass_ms(&w->clock, IDLE_CHECK_MS);
    put_events(w, 1);
    assert_int_equal(step(w), 0);
    assert_int_equal(step(w), 0);
    assert_int_equal(fake_store_calls(w->store).position, asked + 3);
    finish(w);
}

static void
an_idle_check_of_zero_never_asks(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 5);
    assert_int_equal(run(w), -1);
    fake_clock_pass_ms(&w->clock, 24 * 3600 * 1000);
    assert_int_equal(run(w), -1);
    assert_int_equal(fake_store_calls(w->store).position, 1);
    finish(w);
}

static void
a_sink_gone_while_idle_is_noticed_and_asked_until_it_is_back(void **state)
{
    struct world *w = world_idle(5);

    (void)state;
    fake_store_set_down(w->store, true);
    assert_int_equal(run(w), -1); /* not time to ask yet */
    fake_clock_pass_ms(&w->clock, IDLE_CHECK_MS);
    for (int i = 0; i < 5; i++) {
        int wait_ms = run(w);

        assert_in_range(wait_ms, 1, BACKOFF_MAX_MS);
        assert_state(w, REPLICATOR_CONNECTING);
        assert_int_equal(status_of(w, 0).last_error, ERR_UNAVAILABLE);
        fake_clock_pass_ms(&w->clock, wait_ms);
    }
    fake_store_set_down(w->store, false);
    assert_int_equal(run(w), -1);
    assert_int_equal(status_of(w, 0).last_error, ERR_OK);
    assert_int_equal(status_of(w, 0).retries, 0);
    finish(w);
}

static void
an_offset_put_back_while_idle_is_replayed(void **state)
{
    struct world *w = world_idle(40);

    (void)state;
    fake_store_roll_back(w->store, 0, 7);
    assert_int_equal(run(w), -1);
    assert_int_equal(fake_store_offset(w->store, 0), 7);
    fake_clock_pass_ms(&w->clock, IDLE_CHECK_MS);
    assert_int_equal(run(w), -1);
    assert_int_equal(status_of(w, 0).replayed, 33);
    assert_int_equal(status_of(w, 0).stored, 40);
    finish(w);
}

static void
an_offset_moved_beyond_the_log_while_idle_is_an_identity_conflict(void **state)
{
    struct world *w = world_idle(5);

    (void)state;
    fake_store_set_offset(w->store, 0, 6);
    fake_clock_pass_ms(&w->clock, IDLE_CHECK_MS);
    assert_int_equal(run(w), -1);
    assert_state(w, REPLICATOR_STOPPED);
    assert_int_equal(replicator_fatal(w->replicators[0]), ERR_IDENTITY);
    world_free(w);
}

static void
a_final_answer_while_idle_stops_and_is_fatal(void **state)
{
    const enum err finals[] = {ERR_FENCED, ERR_IDENTITY};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(finals); i++) {
        struct world *w = world_idle(5);

        fake_store_next_position(w->store, 0, finals[i]);
        fake_clock_pass_ms(&w->clock, IDLE_CHECK_MS);
        assert_int_equal(run(w), -1);
        assert_state(w, REPLICATOR_STOPPED);
        assert_int_equal(replicator_fatal(w->replicators[0]), finals[i]);
        world_free(w);
    }
}

static void
a_schema_too_new_while_idle_blocks_until_it_is_not(void **state)
{
    struct world *w = world_idle(5);

    (void)state;
    fake_store_next_position(w->store, 0, ERR_FORMAT);
    fake_clock_pass_ms(&w->clock, IDLE_CHECK_MS);
    assert_int_equal(run(w), BACKOFF_MAX_MS);
    assert_state(w, REPLICATOR_BLOCKED);
    put_events(w, 3);
    finish(w);
}

/* ---- streaming ---- */

static void
streaming_sends_every_event_once_in_batches_within_the_limits(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 100);
    (void)put_event(w, NULL, NULL);
    assert_int_equal(status_of(w, 0).lag_events, 101);
    assert_int_equal(run(w), -1);
    assert_int_equal(fake_store_calls(w->store).apply, (101 + BATCH_EVENTS - 1) / BATCH_EVENTS);
    assert_int_equal(status_of(w, 0).stored, 101);
    assert_int_equal(status_of(w, 0).offset, 101);
    assert_int_equal(status_of(w, 0).connected_us, START_US);
    assert_int_equal(fake_journal_calls(w->journal).advance, fake_store_calls(w->store).apply);
    finish(w);
}

static void
each_partition_sends_its_own_stripes(void **state)
{
    struct world *w = world_new(3);

    (void)state;
    w->config.batch_events_max = 300;
    world_restart(w);
    put_events(w, 4 * JOURNAL_STRIPE + 10);
    assert_int_equal(status_of(w, 0).lag_events, JOURNAL_STRIPE + JOURNAL_STRIPE);
    assert_int_equal(status_of(w, 1).lag_events, JOURNAL_STRIPE + 10);
    assert_int_equal(status_of(w, 2).lag_events, JOURNAL_STRIPE);
    finish(w);
}

static void
a_batch_that_is_not_full_waits_for_more_but_not_longer_than_told(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    w->config.batch_wait_ms = 50;
    world_restart(w);
    put_events(w, 1);
    assert_int_equal(step(w), 0);
    assert_int_equal(step(w), 50);
    fake_clock_pass_ms(&w->clock, 30);
    put_events(w, 1);
    assert_int_equal(step(w), 20);
    assert_int_equal(fake_store_calls(w->store).apply, 0);
    fake_clock_pass_ms(&w->clock, 20);
    assert_int_equal(run(w), -1);
    assert_int_equal(fake_store_calls(w->store).apply, 1);
    put_events(w, 1);
    assert_int_equal(run(w), 50); /* a new wait, not the rest of the old one */
    finish(w);
}

static void
a_full_batch_and_what_it_leaves_do_not_wait(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    w->config.batch_wait_ms = 50;
    world_restart(w);
    put_events(w, BATCH_EVENTS);
    assert_int_equal(run(w), -1);
    assert_int_equal(fake_store_calls(w->store).apply, 1);

    w->config.batch_bytes_max = 1; /* one event fills a batch */
    world_restart(w);
    put_events(w, 5);
    assert_int_equal(run(w), 50);
    fake_clock_pass_ms(&w->clock, 50);
    assert_int_equal(run(w), -1);
    assert_int_equal(fake_store_calls(w->store).apply, 6);
    finish(w);
}

static void
events_the_sink_knows_leave_the_slices(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    (void)put_event(w, "api", "same");
    (void)put_event(w, "api", "other");
    (void)put_event(w, "api", "same");
    (void)put_event(w, NULL, "same");
    assert_int_equal(run(w), -1);
    assert_int_equal(status_of(w, 0).stored, 2);
    assert_int_equal(status_of(w, 0).duplicates, 2);
    assert_int_equal(fake_history_events(fake_journal_history(w->journal)), 2);
    finish(w);
}

/* ---- answers to apply() ---- */

static void
a_batch_not_stored_is_sent_again_after_a_wait(void **state)
{
    struct world *w = world_new(1);
    uint64_t positions = 0;

    (void)state;
    put_events(w, 5);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_RETRY);
    assert_in_range(run(w), 1, BACKOFF_MS);
    assert_state(w, REPLICATOR_CONNECTING);
    assert_int_equal(status_of(w, 0).retries, 1);
    assert_int_equal(status_of(w, 0).last_error, ERR_UNAVAILABLE);
    assert_int_equal(status_of(w, 0).lag_events, 5);
    positions = fake_store_calls(w->store).position;
    assert_int_equal(run(w), -1);
    assert_int_equal(fake_store_calls(w->store).position, positions + 1);
    finish(w);
}

static void
waits_grow_while_position_answers_but_apply_does_not(void **state)
{
    struct world *w = world_new(1);
    int longest = 0;

    (void)state;
    put_events(w, 5);
    for (int i = 0; i < 60; i++) {
        int wait_ms = 0;

        fake_store_next_apply(w->store, 0, FAKE_APPLY_RETRY);
        wait_ms = run(w);
        longest = wait_ms > longest ? wait_ms : longest;
    }
    assert_true(longest > BACKOFF_MAX_MS / 2);
    finish(w);
}

static void
a_lost_commit_that_was_stored_is_not_sent_again(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    (void)put_event(w, "api", "same");
    (void)put_event(w, "api", "same");
    (void)put_event(w, "bad", NULL);
    w->poison = "bad";
    run_to_the_end(w);
    (void)put_event(w, "api", "same");
    (void)put_event(w, "api", NULL);
    (void)put_event(w, "api", NULL);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_UNKNOWN_STORED);
    assert_int_equal(step(w), 0); /* read */
    assert_int_equal(step(w), 0); /* apply: asked again at once */
    assert_state(w, REPLICATOR_CONNECTING);
    assert_int_equal(status_of(w, 0).last_error, ERR_UNKNOWN);
    assert_int_equal(step(w), 0);
    assert_state(w, REPLICATOR_CATCHING_UP);
    assert_int_equal(status_of(w, 0).lag_events, 0);
    assert_int_equal(step(w), 0);
    assert_state(w, REPLICATOR_STREAMING);
    assert_int_equal(status_of(w, 0).stored, 3);
    assert_int_equal(status_of(w, 0).duplicates, 2);
    assert_int_equal(status_of(w, 0).dead, 1);
    assert_int_equal(fake_store_calls(w->store).recover, 1);
    finish(w);
}

static void
a_lost_commit_that_was_not_stored_is_sent_again(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 5);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_UNKNOWN_LOST);
    assert_int_equal(run(w), -1);
    assert_int_equal(fake_store_calls(w->store).apply, 2);
    assert_int_equal(fake_store_calls(w->store).recover, 0);
    assert_int_equal(status_of(w, 0).retries, 1);
    finish(w);
}

static void
commits_lost_again_and_again_are_not_hammered(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 5);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_UNKNOWN_LOST);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_UNKNOWN_LOST);
    assert_in_range(run(w), 1, 2 * BACKOFF_MS);
    assert_int_equal(fake_store_calls(w->store).apply, 2);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_FENCED);
    assert_in_range(run(w), 1, 4 * BACKOFF_MS);
    finish(w);
}

static void
one_poison_event_becomes_a_dead_letter_and_the_rest_rows(void **state)
{
    struct world *w = world_new(1);
    uint64_t poison = 0;
    const char *reason = NULL;

    (void)state;
    w->poison = "bad";
    put_events(w, 6);
    poison = put_event(w, "bad", NULL);
    put_events(w, 6);
    assert_int_equal(run(w), -1);
    assert_int_equal(fake_store_kind(w->store, 0, poison), FAKE_DEAD);
    assert_int_equal(fake_store_reject(w->store, 0, poison, &reason), 3819);
    assert_string_equal(reason, "check constraint violated");
    assert_int_equal(fake_store_count(w->store, FAKE_DEAD), 1);
    assert_int_equal(fake_store_count(w->store, FAKE_ROW), 12);
    assert_int_equal(status_of(w, 0).dead, 1);
    assert_int_equal(status_of(w, 0).stored, 12);
    assert_int_equal(status_of(w, 0).retries, 0);
    assert_int_equal(fake_history_events(fake_journal_history(w->journal)), 13); /* all acked */
    finish(w);
}

static void
a_batch_of_nothing_but_poison_becomes_dead_letters(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    w->poison = "bad";
    for (int i = 0; i < 40; i++) {
        (void)put_event(w, "bad", NULL);
    }
    assert_int_equal(run(w), -1);
    assert_int_equal(fake_store_count(w->store, FAKE_DEAD), 40);
    assert_int_equal(fake_history_events(fake_journal_history(w->journal)), 40);
    finish(w);
}

static void
a_refused_dead_letter_is_tried_for_ever_and_never_dropped(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    w->poison = "bad";
    w->dead_refused = true;
    put_events(w, 2);
    (void)put_event(w, "bad", NULL);
    put_events(w, 2);
    for (int i = 0; i < 30; i++) {
        assert_in_range(run(w), 1, BACKOFF_MAX_MS);
        assert_int_equal(status_of(w, 0).last_error, ERR_INVALID);
        assert_int_equal(fake_store_offset(w->store, 0), 2);
    }
    assert_int_equal(status_of(w, 0).retries, 30);
    w->dead_refused = false;
    run_to_the_end(w);
    assert_int_equal(fake_store_kind(w->store, 0, 3), FAKE_DEAD);
    finish(w);
}

static void
a_batch_too_big_is_halved_until_it_fits(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, BATCH_EVENTS);
    fake_store_set_events_max(w->store, 3);
    assert_int_equal(run(w), -1);
    /* 16 8 4 2 2 4 2 2 8 4 2 2 4 2 2 */
    assert_int_equal(fake_store_calls(w->store).apply, 15);
    assert_int_equal(fake_journal_calls(w->journal).advance, 8);
    assert_int_equal(fake_journal_calls(w->journal).read, 1);
    assert_int_equal(status_of(w, 0).retries, 0);
    finish(w);
}

static void
one_event_too_big_waits_for_the_sink_to_allow_it(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 1);
    for (int i = 0; i < 10; i++) {
        fake_store_next_apply(w->store, 0, FAKE_APPLY_TOO_BIG);
        assert_in_range(run(w), 1, BACKOFF_MAX_MS);
        assert_int_equal(status_of(w, 0).last_error, ERR_TOO_BIG);
    }
    assert_int_equal(fake_store_count(w->store, FAKE_DEAD), 0);
    finish(w);
}

static void
a_failure_between_halves_keeps_what_was_stored(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 8);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_TOO_BIG);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_WELL);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_UNKNOWN_STORED);
    assert_int_equal(run(w), -1);
    assert_int_equal(fake_store_calls(w->store).apply, 3);
    assert_int_equal(status_of(w, 0).stored, 8);

    put_events(w, 8);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_TOO_BIG);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_WELL);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_RETRY);
    assert_true(run(w) > 0);
    assert_int_equal(fake_store_offset(w->store, 0), 12);
    assert_int_equal(status_of(w, 0).lag_events, 4);
    finish(w);
}

static void
findings_of_an_attempt_that_was_refused_are_forgotten(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    w->poison = "bad";
    (void)put_event(w, "api", "same");
    (void)put_event(w, "api", "same");
    (void)put_event(w, "bad", NULL);
    /* The fake sink insists on being given events without findings. */
    assert_int_equal(run(w), -1);
    assert_int_equal(fake_store_count(w->store, FAKE_DUPLICATE), 1);
    finish(w);
}

static void
a_fenced_batch_asks_the_sink_where_it_stands(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 5);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_FENCED);
    assert_int_equal(step(w), 0);
    assert_int_equal(step(w), 0);
    assert_int_equal(step(w), 0);
    assert_state(w, REPLICATOR_CONNECTING);
    assert_int_equal(replicator_fatal(w->replicators[0]), ERR_OK);
    fake_store_next_position(w->store, 0, ERR_FENCED);
    assert_int_equal(step(w), -1);
    assert_int_equal(replicator_fatal(w->replicators[0]), ERR_FENCED);
    world_free(w);
}

/* ---- catching up ---- */

static void
a_restart_before_the_note_catches_up_without_sending(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    w->poison = "bad";
    (void)put_event(w, "api", "same");
    (void)put_event(w, "api", "same");
    (void)put_event(w, "bad", NULL);
    put_events(w, 40);
    run_to_the_end(w);
    put_events(w, 3);
    (void)put_event(w, "api", "same");
    put_events(w, 3);
    fake_journal_next_advance(w->journal, ERR_FAILED, false);
    assert_int_equal(run(w), -1);
    assert_state(w, REPLICATOR_STOPPED);
    world_restart(w);
    assert_int_equal(step(w), 0);
    assert_state(w, REPLICATOR_CATCHING_UP);
    assert_int_equal(step(w), 0);
    assert_state(w, REPLICATOR_STREAMING);
    assert_int_equal(status_of(w, 0).stored, 6);
    assert_int_equal(status_of(w, 0).duplicates, 1);
    finish(w);
}

static void
catching_up_ends_exactly_at_the_position_and_spans_batches(void **state)
{
    struct world *w = world_new(1);
    struct journal *journal = NULL;

    (void)state;
    put_events(w, 8);
    fake_journal_next_advance(w->journal, ERR_FAILED, false);
    run_to_the_end(w);
    put_events(w, 8);
    w->config.batch_events_max = 3;
    world_restart(w);
    journal = fake_journal_port(w->journal);
    for (uint64_t i = 0; i < 3; i++) {
        const uint64_t noted[] = {3, 6, 8};

        if (i == 0) {
            assert_int_equal(step(w), 0);
        }
        assert_state(w, REPLICATOR_CATCHING_UP);
        assert_int_equal(step(w), 0);
        assert_int_equal(journal->ops->replicated_seq(journal->self, 0), noted[i]);
    }
    assert_state(w, REPLICATOR_STREAMING);
    assert_int_equal(fake_store_calls(w->store).apply, 1);
    finish(w);
}

static void
a_position_past_the_last_own_seq_is_caught_up_with(void **state)
{
    struct world *w = world_new(2);

    (void)state;
    w->config.batch_events_max = 2000;
    world_restart(w);
    put_events(w, JOURNAL_STRIPE + 20);
    fake_journal_next_advance(w->journal, ERR_FAILED, false);
    assert_int_equal(run_partition(w, 0), -1);
    world_restart(w);
    fake_store_set_offset(w->store, 0, JOURNAL_STRIPE + 5);
    assert_int_equal(step(w), 0);
    assert_state(w, REPLICATOR_CATCHING_UP);
    assert_int_equal(step(w), 0);
    assert_state(w, REPLICATOR_STREAMING);
    assert_int_equal(run(w), -1);
    put_events(w,
               JOURNAL_STRIPE); /* on to partition 0 again: batches start where the sink stands */
    run_to_the_end(w);
    assert_drained(w);
    world_free(w);
}

static void
a_sink_that_goes_away_while_catching_up_is_asked_again(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 5);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_UNKNOWN_STORED);
    fake_store_next_recover(w->store, 0, ERR_UNAVAILABLE);
    assert_in_range(run(w), 1, 2 * BACKOFF_MS);
    assert_state(w, REPLICATOR_CONNECTING);
    assert_int_equal(status_of(w, 0).last_error, ERR_UNAVAILABLE);
    finish(w);
}

static void
a_sink_that_goes_back_while_catching_up_is_not_believed(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 5);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_UNKNOWN_STORED);
    while (status_of(w, 0).state != REPLICATOR_CATCHING_UP) {
        assert_int_equal(step(w), 0);
    }
    fake_store_roll_back(w->store, 0, 0);
    assert_true(step(w) > 0);
    assert_state(w, REPLICATOR_CONNECTING);
    assert_int_equal(status_of(w, 0).duplicates, 0);
    finish(w);
}

static void
fenced_while_catching_up_is_final(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 5);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_UNKNOWN_STORED);
    fake_store_next_recover(w->store, 0, ERR_FENCED);
    assert_int_equal(run(w), -1);
    assert_state(w, REPLICATOR_STOPPED);
    assert_int_equal(replicator_fatal(w->replicators[0]), ERR_FENCED);
    world_free(w);
}

/* ---- replaying ---- */

static void
a_sink_that_went_back_gets_the_window_again_and_nothing_is_counted_twice(void **state)
{
    struct world *w = world_new(1);
    uint64_t advances = 0;

    (void)state;
    w->poison = "bad";
    put_events(w, 20);
    (void)put_event(w, "bad", NULL);
    (void)put_event(w, "api", "same");
    (void)put_event(w, "api", "same");
    put_events(w, 20);
    run_to_the_end(w);
    fake_store_roll_back(w->store, 0, 10);
    put_events(w, 5);
    advances = fake_journal_calls(w->journal).advance;

    assert_int_equal(step(w), 0); /* read */
    assert_int_equal(step(w), 0); /* apply: fenced */
    assert_int_equal(step(w), 0);
    assert_state(w, REPLICATOR_REPLAYING);
    assert_int_equal(status_of(w, 0).lag_events, 38);
    while (status_of(w, 0).state == REPLICATOR_REPLAYING) {
        assert_int_equal(fake_journal_calls(w->journal).advance, advances);
        assert_int_equal(step(w), 0);
    }
    assert_state(w, REPLICATOR_STREAMING);
    assert_int_equal(status_of(w, 0).offset, 43); /* exactly where the notes end */
    assert_int_equal(status_of(w, 0).replayed, 33);
    assert_int_equal(status_of(w, 0).stored, 41);
    finish(w);
}

static void
failures_while_replaying_start_from_the_position_again(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 60);
    run_to_the_end(w);
    fake_store_roll_back(w->store, 0, 0);
    world_restart(w);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_TOO_BIG);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_WELL);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_UNKNOWN_STORED);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_WELL);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_UNKNOWN_LOST);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_RETRY);
    run_to_the_end(w);
    assert_int_equal(status_of(w, 0).stored, 0);
    finish(w);
}

static void
a_sink_that_went_back_further_than_the_log_blocks_until_it_is_restored(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 40);
    run_to_the_end(w);
    fake_journal_trim(w->journal, 20);
    fake_store_set_offset(w->store, 0, 19);
    world_restart(w);
    put_events(w, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(run(w), BACKOFF_MAX_MS);
        assert_state(w, REPLICATOR_BLOCKED);
        assert_int_equal(status_of(w, 0).last_error, ERR_NOT_FOUND);
        assert_int_equal(replicator_fatal(w->replicators[0]), ERR_OK);
    }
    assert_int_equal(fake_store_calls(w->store).apply, 3);
    fake_store_set_offset(w->store, 0, 40);
    finish(w);
}

static void
a_log_trimmed_to_nothing_blocks_too(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 4);
    run_to_the_end(w);
    fake_journal_trim(w->journal, 4);
    fake_store_set_offset(w->store, 0, 3);
    world_restart(w);
    assert_int_equal(run(w), BACKOFF_MAX_MS);
    assert_state(w, REPLICATOR_BLOCKED);
    fake_store_set_offset(w->store, 0, 4);
    finish(w);
}

static void
a_sink_just_within_the_retained_window_is_replayed(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 40);
    run_to_the_end(w);
    fake_journal_trim(w->journal, 20);
    fake_store_roll_back(w->store, 0, 20);
    world_restart(w);
    finish(w);
}

/* ---- the journal's failures ---- */

static void
a_corrupt_record_blocks_and_is_never_skipped(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 10);
    fake_journal_set_corrupt(w->journal, 4, true);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(run(w), BACKOFF_MAX_MS);
        assert_state(w, REPLICATOR_BLOCKED);
        assert_int_equal(status_of(w, 0).last_error, ERR_CORRUPT);
        assert_int_equal(fake_store_offset(w->store, 0), 3);
    }
    assert_int_equal(status_of(w, 0).lag_events, 7);
    fake_journal_set_corrupt(w->journal, 4, false);
    finish(w);
}

static void
a_read_that_fails_for_now_is_tried_again(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 10);
    fake_journal_next_read(w->journal, ERR_NO_MEMORY);
    assert_in_range(run(w), 1, BACKOFF_MS);
    assert_int_equal(status_of(w, 0).last_error, ERR_NO_MEMORY);
    finish(w);
}

static void
a_gap_in_what_the_journal_gives_blocks_and_is_never_skipped(void **state)
{
    const uint64_t missing[] = {1, 5, 10};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(missing); i++) {
        struct world *w = world_new(1);

        put_events(w, 10);
        fake_journal_set_missing(w->journal, missing[i], true);
        assert_int_equal(run(w), BACKOFF_MAX_MS);
        assert_state(w, REPLICATOR_BLOCKED);
        /* The last one is not found at all, the others leave a hole. */
        assert_int_equal(status_of(w, 0).last_error,
                         missing[i] == 10 ? ERR_NOT_FOUND : ERR_CORRUPT);
        assert_true(fake_store_offset(w->store, 0) < missing[i]);
        fake_journal_set_missing(w->journal, missing[i], false);
        finish(w);
    }
}

static void
records_missing_while_catching_up_block(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 2);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_UNKNOWN_STORED);
    assert_int_equal(step(w), 0);
    assert_int_equal(step(w), 0);
    assert_int_equal(step(w), 0);
    fake_journal_set_missing(w->journal, 1, true);
    fake_journal_set_missing(w->journal, 2, true);
    assert_int_equal(run(w), BACKOFF_MAX_MS);
    assert_state(w, REPLICATOR_BLOCKED);
    assert_int_equal(status_of(w, 0).last_error, ERR_NOT_FOUND);
    fake_journal_set_missing(w->journal, 1, false);
    fake_journal_set_missing(w->journal, 2, false);
    finish(w);
}

static void
a_log_that_takes_no_note_stops_the_process_and_the_next_one_catches_up(void **state)
{
    const enum err errs[] = {ERR_FAILED, ERR_UNKNOWN};

    (void)state;
    for (size_t i = 0; i < 2 * ARRAY_LEN(errs); i++) {
        struct world *w = world_new(1);

        put_events(w, 5);
        fake_journal_next_advance(w->journal, errs[i / 2], i % 2 == 1);
        assert_int_equal(run(w), -1);
        assert_state(w, REPLICATOR_STOPPED);
        assert_int_equal(status_of(w, 0).last_error, errs[i / 2]);
        assert_int_equal(replicator_fatal(w->replicators[0]), errs[i / 2]);
        assert_int_equal(step(w), -1);
        world_restart(w);
        finish(w);
    }
}

static void
a_latched_log_is_fatal_too(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 5);
    fake_journal_set_failed(w->journal);
    assert_int_equal(run(w), -1);
    assert_int_equal(replicator_fatal(w->replicators[0]), ERR_FAILED);
    world_restart(w);
    finish(w);
}

static void
a_closed_journal_stops_without_being_fatal(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    put_events(w, 5);
    fake_journal_next_advance(w->journal, ERR_CLOSED, false);
    assert_int_equal(run(w), -1);
    assert_state(w, REPLICATOR_STOPPED);
    assert_int_equal(replicator_fatal(w->replicators[0]), ERR_OK);
    world_restart(w);
    finish(w);
}

static void
a_note_refused_for_now_is_given_again_and_nothing_else_is_done_twice(void **state)
{
    const enum err errs[] = {ERR_AGAIN, ERR_FULL, ERR_NO_MEMORY};
    struct world *w = world_new(1);

    (void)state;
    (void)put_event(w, "api", "same");
    (void)put_event(w, "api", "same");
    (void)put_event(w, "api", "same");
    put_events(w, 3);
    for (size_t i = 0; i < ARRAY_LEN(errs); i++) {
        fake_journal_next_advance(w->journal, errs[i], false);
    }
    for (size_t i = 0; i < ARRAY_LEN(errs); i++) {
        assert_in_range(run(w), 1, BACKOFF_MS << i);
        assert_state(w, REPLICATOR_STREAMING);
        assert_int_equal(status_of(w, 0).last_error, errs[i]);
        assert_int_equal(status_of(w, 0).stored, 0);
    }
    assert_int_equal(run(w), -1);
    assert_int_equal(fake_store_calls(w->store).apply, 1);
    assert_int_equal(status_of(w, 0).duplicates, 2);
    finish(w);
}

static void
a_note_refused_while_catching_up_is_given_again(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    (void)put_event(w, "api", "same");
    (void)put_event(w, "api", "same");
    fake_store_next_apply(w->store, 0, FAKE_APPLY_UNKNOWN_STORED);
    fake_journal_next_advance(w->journal, ERR_AGAIN, false);
    assert_true(run(w) > 0);
    assert_state(w, REPLICATOR_CATCHING_UP);
    assert_int_equal(run(w), -1);
    assert_int_equal(fake_store_calls(w->store).recover, 1);
    finish(w);
}

static void
a_store_taken_back_while_a_note_waits_is_replayed(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    (void)put_event(w, "api", "same");
    (void)put_event(w, "api", "same");
    fake_journal_next_advance(w->journal, ERR_AGAIN, false);
    assert_true(run(w) > 0);
    fake_store_roll_back(w->store, 0, 0);
    assert_int_equal(run(w), -1);
    put_events(w, 1);
    finish(w);
}

/* ---- everything at once ---- */

struct chaos {
    struct world *w;
    uint64_t random;
    bool faults;
    int64_t due_ms[PARTITIONS_MAX]; /* when the partition's wait is over */
    uint64_t trimmed;
};

static uint64_t
chaos_below(struct chaos *chaos, uint64_t bound)
{
    chaos->random ^= chaos->random << 13;
    chaos->random ^= chaos->random >> 7;
    chaos->random ^= chaos->random << 17;
    return (chaos->random >> 11) % bound;
}

static bool
chaos_percent(struct chaos *chaos, uint64_t percent)
{
    return chaos->faults && chaos_below(chaos, 100) < percent;
}

static enum err
chaos_position(void *arg, uint32_t partition)
{
    (void)partition;
    return chaos_percent(arg, 10) ? ERR_UNAVAILABLE : ERR_OK;
}

static enum err
chaos_recover(void *arg, const struct batch *batch)
{
    (void)batch;
    return chaos_percent(arg, 10) ? ERR_UNAVAILABLE : ERR_OK;
}

static enum fake_apply
chaos_apply(void *arg, const struct batch *batch)
{
    const enum fake_apply faults[] = {FAKE_APPLY_RETRY, FAKE_APPLY_UNKNOWN_STORED,
                                      FAKE_APPLY_UNKNOWN_LOST, FAKE_APPLY_TOO_BIG,
                                      FAKE_APPLY_FENCED};

    (void)batch;
    if (!chaos_percent(arg, 15)) {
        return FAKE_APPLY_WELL;
    }
    return faults[chaos_below(arg, ARRAY_LEN(faults))];
}

static bool
chaos_poison(void *arg, const struct event *event)
{
    (void)arg;
    return span_is(event->service, "bad");
}

/*
 * Repeats are made within a partition only: which of two partitions stores a shared id first may
 * change when both are replayed.
 */
static void
chaos_put(struct chaos *chaos)
{
    struct world *w = chaos->w;
    struct journal *journal = fake_journal_port(w->journal);
    uint64_t count = 1 + chaos_below(chaos, 60);

    for (uint64_t i = 0; i < count; i++) {
        uint64_t next = journal->ops->durable_seq(journal->self) + 1;
        uint64_t dice = chaos_below(chaos, 100);
        char id[64];

        (void)snprintf(id, sizeof(id), "p%u-%llu", journal_partition_of(next, w->partitions),
                       (unsigned long long)chaos_below(chaos, 400));
        if (dice < 3) {
            (void)put_event(w, "bad", NULL);
        } else if (dice < 5) {
            (void)put_event(w, NULL, NULL);
        } else {
            (void)put_event(w, dice % 2 == 0 ? "api" : "web", dice < 35 ? id : NULL);
        }
    }
}

static void
chaos_restart(struct chaos *chaos)
{
    world_restart(chaos->w);
    memset(chaos->due_ms, 0, sizeof(chaos->due_ms));
}

static void
chaos_roll_back(struct chaos *chaos)
{
    struct world *w = chaos->w;
    uint32_t p = (uint32_t)chaos_below(chaos, w->partitions);
    uint64_t offset = fake_store_offset(w->store, p);

    if (offset > chaos->trimmed) {
        fake_store_roll_back(w->store, p,
                             chaos->trimmed + chaos_below(chaos, offset - chaos->trimmed + 1));
    }
}

/* Drops a part of what both the notes and the store have. */
static void
chaos_trim(struct chaos *chaos)
{
    struct world *w = chaos->w;
    struct journal *journal = fake_journal_port(w->journal);
    uint64_t bound = journal->ops->durable_seq(journal->self);

    for (uint32_t p = 0; p < w->partitions; p++) {
        uint64_t noted = journal->ops->replicated_seq(journal->self, p);
        uint64_t stored = fake_store_offset(w->store, p);
        uint64_t safe = noted < stored ? noted : stored;

        /* Numbers of other partitions right after SAFE are theirs to decide. */
        while (safe < bound && journal_partition_of(safe + 1, w->partitions) != p) {
            safe++;
        }
        bound = safe < bound ? safe : bound;
    }
    if (bound > chaos->trimmed) {
        chaos->trimmed += chaos_below(chaos, bound - chaos->trimmed + 1);
        fake_journal_trim(w->journal, chaos->trimmed);
    }
}

static void
chaos_step(struct chaos *chaos)
{
    struct world *w = chaos->w;
    uint32_t p = (uint32_t)chaos_below(chaos, w->partitions);
    int64_t now_ms = clock_monotonic_us(&w->clock.port) / 1000;
    int wait_ms = 0;

    if (now_ms < chaos->due_ms[p]) {
        fake_clock_pass_ms(&w->clock, chaos->due_ms[p] - now_ms);
    }
    wait_ms = replicator_step(w->replicators[p]);
    assert_true(wait_ms <= BACKOFF_MAX_MS);
    chaos->due_ms[p] = clock_monotonic_us(&w->clock.port) / 1000 + (wait_ms > 0 ? wait_ms : 0);
    if (status_of(w, p).state == REPLICATOR_STOPPED) {
        assert_int_equal(replicator_fatal(w->replicators[p]), ERR_FAILED);
        chaos_restart(chaos);
    }
}

/* What the slices say holds whenever no part waits for its note. */
static void
chaos_look(struct chaos *chaos)
{
    for (uint32_t p = 0; p < chaos->w->partitions; p++) {
        struct replicator_status status = status_of(chaos->w, p);

        if (status.last_error == ERR_AGAIN) {
            return;
        }
        assert_int_not_equal(status.state, REPLICATOR_BLOCKED);
    }
    assert_slices_are_history_and_pending(chaos->w);
}

static void
chaos_move(struct chaos *chaos)
{
    struct world *w = chaos->w;
    uint64_t dice = chaos_below(chaos, 1000);

    if (dice < 60) {
        chaos_put(chaos);
    } else if (dice < 66) {
        chaos_restart(chaos);
    } else if (dice < 72) {
        chaos_roll_back(chaos);
    } else if (dice < 80) {
        chaos_trim(chaos);
    } else if (dice < 84) {
        fake_journal_next_read(w->journal, ERR_NO_MEMORY);
    } else if (dice < 90) {
        fake_journal_next_advance(w->journal, ERR_AGAIN, false);
    } else if (dice < 94) {
        fake_journal_next_advance(w->journal, ERR_FAILED, dice % 2 == 0);
    } else if (dice < 100) {
        chaos_look(chaos);
    } else {
        chaos_step(chaos);
    }
}

/* All in one thread: the race detector, under which it takes minutes, has little to see. */
#ifdef __SANITIZE_THREAD__
#define CHAOS_SEEDS 2
#else
#define CHAOS_SEEDS 12
#endif

static void
run_chaos(uint64_t seed, int moves)
{
    struct chaos chaos = {.w = world_new(2), .random = seed * 2654435761u + 1, .faults = true};
    struct fake_hooks hooks = {
        .position = chaos_position,
        .apply = chaos_apply,
        .recover = chaos_recover,
        .poison = chaos_poison,
        .arg = &chaos,
    };

    fake_store_set_hooks(chaos.w->store, &hooks);
    for (int i = 0; i < moves; i++) {
        chaos_move(&chaos);
    }
    chaos.faults = false;
    for (int i = 0; i < 20000; i++) {
        chaos_step(&chaos); /* uses up what is still scripted for the journal */
    }
    run_to_the_end(chaos.w);
    assert_drained(chaos.w);
    assert_true(fake_store_count(chaos.w->store, FAKE_DEAD) > 0);
    assert_true(fake_store_count(chaos.w->store, FAKE_DUPLICATE) > 0);
    world_free(chaos.w);
}

static void
whatever_fails_in_whatever_order_every_event_ends_up_once_and_all_sums_agree(void **state)
{
    const char *repeat = getenv("REPLICATOR_SEED");

    (void)state;
    if (repeat != NULL) {
        run_chaos(strtoull(repeat, NULL, 10), 5000);
        return;
    }
    for (uint64_t seed = 1; seed <= CHAOS_SEEDS; seed++) {
        print_message("REPLICATOR_SEED=%llu\n", (unsigned long long)seed);
        run_chaos(seed, 5000);
    }
}

/* ---- the thread ---- */

enum {
    HOUR_MS = 3600 * 1000
};

/* A process whose replicators have threads and the machine's clock. */
static struct world *
threaded_world_new(int backoff_ms)
{
    struct world *w = world_new(2);

    w->config.backoff_ms = backoff_ms;
    w->config.backoff_max_ms = backoff_ms;
    w->config.batch_wait_ms = 1;
    for (uint32_t p = 0; p < w->partitions; p++) {
        struct replicator_config config = w->config;

        replicator_free(w->replicators[p]);
        config.partition = p;
        assert_int_equal(replicator_new(&w->replicators[p], &config, fake_journal_port(w->journal),
                                        fake_store_sink(w->store, p), w->slices, clock_system()),
                         ERR_OK);
    }
    fake_journal_start(w->journal);
    return w;
}

static void
start_threads(struct world *w)
{
    for (uint32_t p = 0; p < w->partitions; p++) {
        assert_int_equal(replicator_start(w->replicators[p]), ERR_OK);
    }
}

static void
stop_threads(struct world *w, int drain_ms)
{
    for (uint32_t p = 0; p < w->partitions; p++) {
        replicator_stop(w->replicators[p], drain_ms);
        assert_int_equal(status_of(w, p).state, REPLICATOR_STOPPED);
    }
    fake_journal_stop(w->journal);
}

/* What the threads left is finished by steps. */
static void
finish_threaded(struct world *w)
{
    w->config.backoff_ms = BACKOFF_MS;
    w->config.backoff_max_ms = BACKOFF_MAX_MS;
    w->config.batch_wait_ms = 0;
    world_restart(w);
    finish(w);
}

static void
pause_ms(long ms)
{
    const struct timespec time = {ms / 1000, ms % 1000 * 1000000};

    (void)nanosleep(&time, NULL);
}

struct watcher {
    struct world *w;
    _Atomic bool ends;
    pthread_t thread;
};

static void *
watch(void *arg)
{
    struct watcher *watcher = arg;
    uint64_t offset = 0;

    while (!watcher->ends) {
        struct replicator_status status = status_of(watcher->w, 0);

        assert_true(status.offset >= offset);
        assert_int_equal(replicator_fatal(watcher->w->replicators[0]), ERR_OK);
        offset = status.offset;
        pause_ms(1);
    }
    return NULL;
}

static void
threads_drain_what_comes_in_and_what_is_left_at_stop(void **state)
{
    struct world *w = threaded_world_new(10);
    struct watcher watcher = {.w = w};

    (void)state;
    put_events(w, 100);
    start_threads(w);
    assert_int_equal(pthread_create(&watcher.thread, NULL, watch, &watcher), 0);
    for (int i = 0; i < 40; i++) {
        put_events(w, 50);
        fake_store_next_apply(w->store, 0, FAKE_APPLY_UNKNOWN_STORED);
    }
    stop_threads(w, HOUR_MS);
    watcher.ends = true;
    assert_int_equal(pthread_join(watcher.thread, NULL), 0);
    assert_drained(w);
    finish_threaded(w);
}

static void
stop_ends_a_wait_for_an_unreachable_sink_at_once(void **state)
{
    struct world *w = threaded_world_new(HOUR_MS);

    (void)state;
    put_events(w, 10);
    fake_store_set_down(w->store, true);
    start_threads(w);
    while (status_of(w, 0).last_error != ERR_UNAVAILABLE) {
        pause_ms(1);
    }
    stop_threads(w, HOUR_MS);
    assert_int_equal(status_of(w, 0).lag_events, 10);
    assert_int_equal(status_of(w, 0).last_error, ERR_UNAVAILABLE);
    fake_store_set_down(w->store, false);
    finish_threaded(w);
}

static void
stop_ends_a_wait_after_a_failed_batch_and_still_drains(void **state)
{
    struct world *w = threaded_world_new(HOUR_MS);

    (void)state;
    put_events(w, 10);
    fake_store_next_apply(w->store, 0, FAKE_APPLY_RETRY);
    start_threads(w);
    while (status_of(w, 0).retries == 0) {
        pause_ms(1);
    }
    stop_threads(w, HOUR_MS);
    assert_int_equal(status_of(w, 0).lag_events, 0);
    finish_threaded(w);
}

static enum fake_apply
always_retry(void *arg, const struct batch *batch)
{
    (void)arg;
    (void)batch;
    return FAKE_APPLY_RETRY;
}

static void
stop_gives_up_at_its_deadline(void **state)
{
    struct world *w = threaded_world_new(HOUR_MS);

    (void)state;
    put_events(w, 10);
    fake_store_set_hooks(w->store, &(struct fake_hooks){.apply = always_retry});
    start_threads(w);
    stop_threads(w, 20);
    assert_int_equal(status_of(w, 0).lag_events, 10);
    fake_store_set_hooks(w->store, &(struct fake_hooks){0});
    finish_threaded(w);
}

static void
stop_without_time_to_drain_leaves_the_rest_in_the_log(void **state)
{
    struct world *w = threaded_world_new(10);

    (void)state;
    put_events(w, 500);
    start_threads(w);
    stop_threads(w, 0);
    replicator_stop(w->replicators[0], 0); /* once more does nothing */
    finish_threaded(w);
}

static void
a_thread_outlives_a_journal_that_closed_before_it(void **state)
{
    struct world *w = threaded_world_new(10);

    (void)state;
    start_threads(w);
    put_events(w, 50);
    fake_journal_stop(w->journal);
    while (status_of(w, 0).lag_events > 0) {
        pause_ms(1);
    }
    stop_threads(w, HOUR_MS);
    assert_drained(w);
    finish_threaded(w);
}

static void
a_thread_that_met_something_final_ends_and_can_be_stopped(void **state)
{
    struct world *w = threaded_world_new(10);

    (void)state;
    put_events(w, 5);
    fake_store_next_position(w->store, 0, ERR_FENCED);
    start_threads(w);
    while (replicator_fatal(w->replicators[0]) == ERR_OK) {
        pause_ms(1);
    }
    stop_threads(w, HOUR_MS);
    assert_int_equal(status_of(w, 0).last_error, ERR_FENCED);
    finish_threaded(w);
}

static void
a_replicator_never_started_is_stopped_and_freed_without_a_word(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    replicator_stop(w->replicators[0], HOUR_MS);
    assert_state(w, REPLICATOR_CONNECTING);
    assert_int_equal(replicator_batch_seconds(w->replicators[0])->bound_count,
                     METRIC_SECONDS_BOUND_COUNT);
    replicator_free(NULL);
    assert_int_equal(fake_store_calls(w->store).close, 0);
    world_restart(w);
    assert_int_equal(fake_store_calls(w->store).close, 1);
    world_free(w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            an_unreachable_sink_is_asked_again_after_waits_that_double_up_to_the_limit),
        cmocka_unit_test(a_backoff_limit_below_the_first_wait_means_no_growth),
        cmocka_unit_test(repeated_failures_log_one_line_in_ten_seconds),
        cmocka_unit_test(a_final_answer_to_position_stops_and_is_fatal),
        cmocka_unit_test(a_schema_too_new_blocks_until_it_is_not),
        cmocka_unit_test(a_sink_beyond_the_log_is_an_identity_conflict),
        cmocka_unit_test(a_sink_at_the_last_seq_of_the_log_is_no_conflict),
        cmocka_unit_test(an_idle_sink_is_asked_as_often_as_told_and_not_more),
        cmocka_unit_test(an_idle_check_of_zero_never_asks),
        cmocka_unit_test(a_sink_gone_while_idle_is_noticed_and_asked_until_it_is_back),
        cmocka_unit_test(an_offset_put_back_while_idle_is_replayed),
        cmocka_unit_test(an_offset_moved_beyond_the_log_while_idle_is_an_identity_conflict),
        cmocka_unit_test(a_final_answer_while_idle_stops_and_is_fatal),
        cmocka_unit_test(a_schema_too_new_while_idle_blocks_until_it_is_not),
        cmocka_unit_test(streaming_sends_every_event_once_in_batches_within_the_limits),
        cmocka_unit_test(each_partition_sends_its_own_stripes),
        cmocka_unit_test(a_batch_that_is_not_full_waits_for_more_but_not_longer_than_told),
        cmocka_unit_test(a_full_batch_and_what_it_leaves_do_not_wait),
        cmocka_unit_test(events_the_sink_knows_leave_the_slices),
        cmocka_unit_test(a_batch_not_stored_is_sent_again_after_a_wait),
        cmocka_unit_test(waits_grow_while_position_answers_but_apply_does_not),
        cmocka_unit_test(a_lost_commit_that_was_stored_is_not_sent_again),
        cmocka_unit_test(a_lost_commit_that_was_not_stored_is_sent_again),
        cmocka_unit_test(commits_lost_again_and_again_are_not_hammered),
        cmocka_unit_test(one_poison_event_becomes_a_dead_letter_and_the_rest_rows),
        cmocka_unit_test(a_batch_of_nothing_but_poison_becomes_dead_letters),
        cmocka_unit_test(a_refused_dead_letter_is_tried_for_ever_and_never_dropped),
        cmocka_unit_test(a_batch_too_big_is_halved_until_it_fits),
        cmocka_unit_test(one_event_too_big_waits_for_the_sink_to_allow_it),
        cmocka_unit_test(a_failure_between_halves_keeps_what_was_stored),
        cmocka_unit_test(findings_of_an_attempt_that_was_refused_are_forgotten),
        cmocka_unit_test(a_fenced_batch_asks_the_sink_where_it_stands),
        cmocka_unit_test(a_restart_before_the_note_catches_up_without_sending),
        cmocka_unit_test(catching_up_ends_exactly_at_the_position_and_spans_batches),
        cmocka_unit_test(a_position_past_the_last_own_seq_is_caught_up_with),
        cmocka_unit_test(a_sink_that_goes_away_while_catching_up_is_asked_again),
        cmocka_unit_test(a_sink_that_goes_back_while_catching_up_is_not_believed),
        cmocka_unit_test(fenced_while_catching_up_is_final),
        cmocka_unit_test(a_sink_that_went_back_gets_the_window_again_and_nothing_is_counted_twice),
        cmocka_unit_test(failures_while_replaying_start_from_the_position_again),
        cmocka_unit_test(a_sink_that_went_back_further_than_the_log_blocks_until_it_is_restored),
        cmocka_unit_test(a_log_trimmed_to_nothing_blocks_too),
        cmocka_unit_test(a_sink_just_within_the_retained_window_is_replayed),
        cmocka_unit_test(a_corrupt_record_blocks_and_is_never_skipped),
        cmocka_unit_test(a_read_that_fails_for_now_is_tried_again),
        cmocka_unit_test(a_gap_in_what_the_journal_gives_blocks_and_is_never_skipped),
        cmocka_unit_test(records_missing_while_catching_up_block),
        cmocka_unit_test(a_log_that_takes_no_note_stops_the_process_and_the_next_one_catches_up),
        cmocka_unit_test(a_latched_log_is_fatal_too),
        cmocka_unit_test(a_closed_journal_stops_without_being_fatal),
        cmocka_unit_test(a_note_refused_for_now_is_given_again_and_nothing_else_is_done_twice),
        cmocka_unit_test(a_note_refused_while_catching_up_is_given_again),
        cmocka_unit_test(a_store_taken_back_while_a_note_waits_is_replayed),
        cmocka_unit_test(
            whatever_fails_in_whatever_order_every_event_ends_up_once_and_all_sums_agree),
        cmocka_unit_test(threads_drain_what_comes_in_and_what_is_left_at_stop),
        cmocka_unit_test(stop_ends_a_wait_for_an_unreachable_sink_at_once),
        cmocka_unit_test(stop_ends_a_wait_after_a_failed_batch_and_still_drains),
        cmocka_unit_test(stop_gives_up_at_its_deadline),
        cmocka_unit_test(stop_without_time_to_drain_leaves_the_rest_in_the_log),
        cmocka_unit_test(a_thread_outlives_a_journal_that_closed_before_it),
        cmocka_unit_test(a_thread_that_met_something_final_ends_and_can_be_stopped),
        cmocka_unit_test(a_replicator_never_started_is_stopped_and_freed_without_a_word),
    };

    (void)alarm(300);
    log_setup(LOG_ERROR, LOG_JSON, open("/dev/null", O_WRONLY | O_CLOEXEC));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
