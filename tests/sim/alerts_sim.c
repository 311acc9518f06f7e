/*
 * alerts_sim.c - the book of alerts in simulated time, driven over a text protocol.
 *
 *   objective TYPE TARGET PERIOD_MINUTES MIN_BAD   first of all; TYPE availability or latency
 *   event MINUTE GOOD BAD                          events of that minute
 *   judge MINUTE                                   moves the book on to the middle of that minute
 *   restart                                        a new book from the old one's bytes
 *
 * Each judge answers one line: for page and for ticket STATUS:FLAGS:SINCE:FIRED:RESOLVED, times in
 * minutes (- for never), FLAGS of n (no data) and h (held back). Anything else ends the program
 * with 2.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/log.h"
#include "core/slo/alerts.h"

#define MINUTE_US INT64_C(60000000)

enum {
    LATENCY_US = 100000
};

static const struct slices_config STORE = {
    .rules = {.threshold_us = {LATENCY_US}, .threshold_count = 1},
    .series_max = 10,
    .retain_minutes = INT64_C(100) * 24 * 60,
};

static struct slo_config config;
static struct slices *slices;
static struct alerts *alerts;
static struct buffer stored; /* what a server would have on disk */

static void
give_objectives(void *arg, struct span tenant, struct span service, struct slo_config *out)
{
    (void)arg;
    (void)tenant;
    (void)service;
    *out = config;
}

static void
must(enum err err, const char *what)
{
    if (err != ERR_OK) {
        fprintf(stderr, "%s: %s\n", what, err_name(err));
        exit(2);
    }
}

static void
open_book(void)
{
    const struct alerts_config book = {.slices = slices, .objectives = give_objectives};

    must(alerts_new(&alerts, &book), "alerts_new");
}

static void
set_objective(const char *type, double target, int64_t minutes, unsigned min_bad)
{
    config.objective_count = 1;
    config.objective[0] = (struct slo_objective){
        .id = "one",
        .type = strcmp(type, "latency") == 0 ? SLO_LATENCY : SLO_AVAILABILITY,
        .target = target,
        .threshold_us = LATENCY_US,
        .window_minutes = minutes,
        .min_bad_events = min_bad,
    };
}

/* A slow answer is a bad event of the latency objective only, and the other way round. */
static void
add_events(int64_t minute, long good, long bad)
{
    static uint64_t seq;
    const bool by_latency = config.objective[0].type == SLO_LATENCY;

    for (long i = 0; i < good + bad; i++) {
        const bool is_bad = i < bad;
        const struct event event = {
            .has_status = true,
            .has_latency = true,
            .status = is_bad && !by_latency ? 500 : 200,
            .latency_ms = is_bad && by_latency ? 200.0 : 50.0,
            .occurred_at_us = minute * MINUTE_US + i % MINUTE_US,
            .tenant = SPAN_LITERAL("acme"),
            .service = SPAN_LITERAL("checkout"),
        };

        must(slices_add_event(slices, &event, ++seq, minute * MINUTE_US), "slices_add_event");
    }
}

static void
print_minute(int64_t us)
{
    if (us == 0) {
        printf(":-");
    } else {
        printf(":%" PRId64, us / MINUTE_US);
    }
}

static void
print_state(void *arg, struct span tenant, struct span service, const char *objective,
            enum alert_severity severity, const struct alert_state *state)
{
    (void)arg;
    (void)tenant;
    (void)service;
    (void)objective;
    printf("%s%s:%s%s", severity == ALERT_PAGE ? "" : " ", alert_status_name(state->status),
           state->no_data ? "n" : "", state->held_back ? "h" : "");
    print_minute(state->since_us);
    print_minute(state->fired_us);
    print_minute(state->resolved_us);
}

/* Stores what is due, as the server does after each judging; ALL as when it stops. */
static void
store(bool all)
{
    struct alerts_cut cut;

    must(alerts_collect(alerts, 0, -1, all, &cut), "alerts_collect");
    if (cut.bytes_due) {
        buffer_clear(&stored, SIZE_MAX);
        buffer_append_span(&stored, buffer_span(&cut.bytes));
    }
    alerts_cut_free(&cut);
}

static void
restart(void)
{
    store(true);
    alerts_free(alerts);
    open_book();
    if (stored.len > 0) {
        must(alerts_restore(alerts, buffer_span(&stored)), "alerts_restore");
    }
}

int
main(void)
{
    char line[256];

    log_setup(LOG_ERROR, LOG_TEXT, 2);
    must(slices_new(&slices, &STORE), "slices_new");
    open_book();
    while (fgets(line, sizeof(line), stdin) != NULL) {
        char type[16];
        double target;
        int64_t minute;
        unsigned min_bad;
        long good;
        long bad;

        if (sscanf(line, "objective %15s %lf %" SCNd64 " %u", type, &target, &minute, &min_bad) ==
            4) {
            set_objective(type, target, minute, min_bad);
        } else if (sscanf(line, "event %" SCNd64 " %ld %ld", &minute, &good, &bad) == 3) {
            add_events(minute, good, bad);
        } else if (sscanf(line, "judge %" SCNd64, &minute) == 1) {
            alerts_judge(alerts, minute * MINUTE_US + MINUTE_US / 2);
            alerts_each_state(alerts, (struct span){NULL, 0}, (struct span){NULL, 0}, print_state,
                              NULL);
            printf("\n");
            fflush(stdout);
        } else if (strcmp(line, "restart\n") == 0) {
            restart();
        } else {
            fprintf(stderr, "not understood: %s", line);
            return 2;
        }
    }
    alerts_free(alerts);
    slices_free(slices);
    buffer_free(&stored);
    return 0;
}
