/*
 * bench_slo.c - what the SLO engine's answers cost with much history: 1000 services, 30 days of
 * minutes, two objectives each.
 *
 *   bench_slo [SERVICES]
 *
 * One line per figure: memory held, /slo/status of one service and of all (first, then again with
 * new events in every service), the gate of one, the text of the windows of a week, and the part of
 * a tick that depends on their number. CPU milliseconds of one thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "core/slo/slo_gate.h"
#include "core/slo/slo_json.h"
#include "core/slo/slo_window.h"

enum {
    DAY = 1440,
    DAYS = 30,
    NOW = 29000000,
    EVENTS_PER_MINUTE = 4,
    EVERY = 5, /* minutes: a service has events in one minute of so many */
};

#define MINUTE_US INT64_C(60000000)
#define TENANT SPAN_LITERAL("bench")

static void
fail(const char *what)
{
    fprintf(stderr, "bench_slo: %s\n", what);
    exit(1);
}

static double
cpu_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static struct event
event_of(struct span service, int64_t minute, uint64_t seed)
{
    return (struct event){.has_status = true,
                          .has_latency = true,
                          .status = seed % 1000 == 0 ? 500 : 200,
                          .latency_ms = 5.0 + (double)(seed * 2654435761U % 5000) / 10.0,
                          .occurred_at_us = minute * MINUTE_US,
                          .tenant = TENANT,
                          .service = service};
}

/* The slice of one minute, as the log's history gives it at a start. */
static void
add_minute(struct slices *slices, struct span service, int64_t minute, uint64_t seed)
{
    struct slice_key key = {TENANT, service, minute};
    struct slice slice = {0};

    for (uint64_t i = 0; i < EVENTS_PER_MINUTE; i++) {
        const struct event event = event_of(service, minute, seed * EVENTS_PER_MINUTE + i);

        if (slice_add_event(&slice, &event, slices_rules(slices)) != ERR_OK) {
            fail("no memory");
        }
    }
    if (slices_add(slices, &key, &slice, NOW * MINUTE_US) != ERR_OK) {
        fail("no memory");
    }
    slice_clear(&slice);
}

static struct span
name_of(int service, char text[32])
{
    return (struct span){text, (size_t)snprintf(text, 32, "service-%04d", service)};
}

static void
status(const char *what, struct slo_status_request *request)
{
    struct buffer out = BUFFER_EMPTY;
    const double began = cpu_ms();

    slo_status_json(request, &out);
    if (out.failed) {
        fail("no memory");
    }
    printf("slo work=%s cpu_ms=%.2f bytes=%zu\n", what, cpu_ms() - began, out.len);
    buffer_free(&out);
}

static void
gate_and_windows(struct slo_status_request *request)
{
    struct buffer out = BUFFER_EMPTY;
    double began = cpu_ms();

    (void)slo_gate_json(request, &out);
    printf("slo work=gate_one cpu_ms=%.2f bytes=%zu\n", cpu_ms() - began, out.len);
    buffer_clear(&out, 0);
    began = cpu_ms();
    slo_windows_json(request, NULL, NOW - SLO_WINDOWS_MAX, NOW, &out);
    printf("slo work=windows_week cpu_ms=%.2f bytes=%zu\n", cpu_ms() - began, out.len);
    if (out.failed) {
        fail("no memory");
    }
    buffer_free(&out);
}

/* What a tick does for each service's last minute: the sum and its row; and packing old hours. */
static void
tick(struct slices *slices, const struct slo_config *config, int services)
{
    double began = cpu_ms();

    for (int s = 0; s < services; s++) {
        char text[32];
        struct slice sum = {0};

        if (slices_sum(slices, TENANT, name_of(s, text), NOW, NOW + 1, &sum) != ERR_OK) {
            fail("no memory");
        }
        (void)slo_window_row(NOW, &sum, config);
        slice_clear(&sum);
    }
    printf("slo work=tick_rows cpu_ms=%.2f\n", cpu_ms() - began);
    began = cpu_ms();
    slices_expire(slices, NOW * MINUTE_US);
    printf("slo work=tick_expire cpu_ms=%.2f\n", cpu_ms() - began);
}

int
main(int argc, char **argv)
{
    const int services = argc > 1 ? atoi(argv[1]) : 1000;
    const struct slices_config store = {
        .rules = {{300000, 500000}, 2, NULL}, .series_max = 100000, .retain_minutes = 92 * DAY};
    const struct slo_config config = {.objective = {{.id = "a",
                                                     .type = SLO_AVAILABILITY,
                                                     .target = 0.999,
                                                     .window_minutes = DAYS * DAY},
                                                    {.id = "l",
                                                     .type = SLO_LATENCY,
                                                     .target = 0.99,
                                                     .threshold_us = 500000,
                                                     .window_minutes = DAYS * DAY}},
                                      .objective_count = 2};
    struct slo_status_request request = {
        .config = &config, .tenant = TENANT, .now_us = NOW * MINUTE_US};
    struct rusage usage;
    char text[32];

    if (services < 1 || slices_new(&request.slices, &store) != ERR_OK) {
        fail("SERVICES is a number");
    }
    for (int64_t minute = NOW - DAYS * DAY; minute < NOW; minute++) {
        for (int s = (int)(minute % EVERY); s < services; s += EVERY) {
            add_minute(request.slices, name_of(s, text), minute, (uint64_t)(minute * services + s));
        }
    }
    slices_expire(request.slices, NOW * MINUTE_US);
    getrusage(RUSAGE_SELF, &usage);
    printf("slo work=load services=%d days=%d rss_mib=%ld\n", services, DAYS,
           usage.ru_maxrss / 1024);
    status("status_all_first", &request);
    for (int round = 0; round < 2; round++) {
        for (int s = 0; s < services; s++) {
            add_minute(request.slices, name_of(s, text), NOW, (uint64_t)s);
        }
        status("status_all_again", &request);
    }
    request.service = name_of(0, text);
    status("status_one", &request);
    gate_and_windows(&request);
    tick(request.slices, &config, services);
    slices_free(request.slices);
    return 0;
}
