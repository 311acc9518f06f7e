/*
 * bench_slo.c - what the SLO engine's answers cost with much history: 1000 services, 30 days with
 * events in every minute (43200 slices each), two objectives each.
 *
 *   bench_slo [SERVICES [SOCKET DIR]]
 *
 * One line per figure: memory held; what a server does in the background when it has started
 * (slo_warm_up() and the first judging of alerts); /slo/status of all services after that, and
 * again with new events in every service, in the same minute and in the next one; of one service,
 * and beside it the same sums made anew from its minutes; the gate of one, and the text of the
 * windows of a week. With the socket of a MariaDB server and a directory, whole ticks: every alert
 * judged and their state stored in DIR, the rows of the minute that has ended written, silent
 * services looked for; and beside them what the server alone takes to sum the same minute.
 * Milliseconds of this thread's CPU, and by the clock.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "core/base/log.h"
#include "core/base/whole_file.h"
#include "core/slo/alerts.h"
#include "core/slo/slo_gate.h"
#include "core/slo/slo_json.h"
#include "core/slo/slo_warm.h"
#include "core/slo/slo_window.h"
#include "storage/mysql_connect.h"
#include "storage/mysql_sink.h"
#include "storage/mysql_windows.h"

enum {
    DAY = 1440,
    DAYS = 30,
    NOW = 28999457, /* 12:17, where a day is cut in the middle: the most hours to add */
    EVENTS_PER_MINUTE = 4,
    KINDS = 997, /* different minutes; the next series begins with another one */
    PARTITIONS = 2,
    TICKS = 5,
};

#define MINUTE_US INT64_C(60000000)
#define SEQ_APART UINT64_C(1000000000) /* of the partitions: no number is used twice */
#define TENANT SPAN_LITERAL("bench")

static const struct slo_config OBJECTIVES = {.objective = {{.id = "a",
                                                            .type = SLO_AVAILABILITY,
                                                            .target = 0.999,
                                                            .min_bad_events = 5,
                                                            .window_minutes = DAYS * DAY},
                                                           {.id = "l",
                                                            .type = SLO_LATENCY,
                                                            .target = 0.99,
                                                            .min_bad_events = 5,
                                                            .threshold_us = 500000,
                                                            .window_minutes = DAYS * DAY}},
                                             .objective_count = 2};

static void
fail(const char *what)
{
    fprintf(stderr, "bench_slo: %s\n", what);
    exit(1);
}

struct stopwatch {
    struct timespec cpu;
    struct timespec wall;
};

static struct stopwatch
start(void)
{
    struct stopwatch now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now.cpu);
    clock_gettime(CLOCK_MONOTONIC, &now.wall);
    return now;
}

static double
ms_between(struct timespec from, struct timespec to)
{
    return (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) / 1e6;
}

static void
print_since(const char *work, struct stopwatch began)
{
    const struct stopwatch now = start();

    printf("slo work=%s cpu_ms=%.2f wall_ms=%.2f", work, ms_between(began.cpu, now.cpu),
           ms_between(began.wall, now.wall));
}

static struct event
event_of(uint64_t seed)
{
    return (struct event){.has_status = true,
                          .has_latency = true,
                          .status = seed % 1000 == 0 ? 500 : 200,
                          .latency_ms = 5.0 + (double)(seed * 2654435761U % 5000) / 10.0,
                          .tenant = TENANT,
                          .service = SPAN_LITERAL("any")};
}

/* The slices of KINDS different minutes. */
static struct slice *
make_kinds(const struct slices *slices)
{
    struct slice *kinds = calloc(KINDS, sizeof(*kinds));

    if (kinds == NULL) {
        fail("no memory");
    }
    for (uint64_t i = 0; i < (uint64_t)KINDS * EVENTS_PER_MINUTE; i++) {
        const struct event event = event_of(i);

        if (slice_add_event(&kinds[i / EVENTS_PER_MINUTE], &event, slices_rules(slices)) !=
            ERR_OK) {
            fail("no memory");
        }
    }
    return kinds;
}

static void
free_kinds(struct slice *kinds)
{
    for (int i = 0; i < KINDS; i++) {
        slice_clear(&kinds[i]);
    }
    free(kinds);
}

static void
add_minute(struct slices *slices, struct span service, int64_t minute, const struct slice *slice)
{
    const struct slice_key key = {TENANT, service, minute};

    if (slices_add(slices, &key, slice, NOW * MINUTE_US) != ERR_OK) {
        fail("no memory");
    }
}

static struct span
name_of(int service, char text[32])
{
    return (struct span){text, (size_t)snprintf(text, 32, "service-%04d", service)};
}

/* As the log's history gives it at a start: one series after the other. */
static void
load(struct slices *slices, const struct slice *kinds, int services)
{
    const struct stopwatch began = start();
    struct rusage usage;
    char text[32];

    for (int s = 0; s < services; s++) {
        for (int64_t minute = NOW - DAYS * DAY; minute < NOW; minute++) {
            add_minute(slices, name_of(s, text), minute, &kinds[(minute + s * 131) % KINDS]);
        }
    }
    slices_expire(slices, NOW * MINUTE_US);
    getrusage(RUSAGE_SELF, &usage);
    print_since("load", began);
    printf(" services=%d days=%d rss_mib=%ld kib_per_service=%ld\n", services, DAYS,
           usage.ru_maxrss / 1024, usage.ru_maxrss / services);
}

static void
add_to_each(struct slices *slices, const struct slice *kinds, int services, int round,
            int64_t minute)
{
    char text[32];

    for (int s = 0; s < services; s++) {
        add_minute(slices, name_of(s, text), minute, &kinds[(s + round) % KINDS]);
    }
}

/* As the route does it: alerts that events have touched are judged first. */
static void
status(const char *what, struct slo_status_request *request)
{
    struct buffer out = BUFFER_EMPTY;
    const struct stopwatch began = start();

    alerts_refresh(request->alerts, request->tenant, request->now_us);
    slo_status_json(request, &out);
    if (out.failed) {
        fail("no memory");
    }
    print_since(what, began);
    printf(" bytes=%zu\n", out.len);
    buffer_free(&out);
}

/* What a server does in the background when it has started. */
static void
warm_up(const struct slo_status_request *request)
{
    const struct stopwatch began = start();

    slo_warm_up(request->slices, NULL, &OBJECTIVES, request->now_us);
    alerts_judge(request->alerts, request->now_us);
    print_since("warm_up", began);
    printf("\n");
}

struct resum {
    struct slice sum;
    uint64_t violations;
};

static void
add_slice(void *arg, int64_t minute, const struct slice *slice)
{
    const struct slices_limit limit = slo_limit(&OBJECTIVES.objective[0]);
    struct resum *resum = arg;

    (void)minute;
    resum->violations += slices_limit_broken(limit, slice->good, slice->bad) ? 1 : 0;
    if (slice_add(&resum->sum, slice) != ERR_OK) {
        fail("no memory");
    }
}

/* The peer: what the figures of one service cost without sums, and whether they are the same. */
static void
resum_one(struct slices *slices)
{
    const int64_t from = slo_window_from(&OBJECTIVES.objective[0], NOW * MINUTE_US);
    const struct stopwatch began = start();
    struct resum resum = {{0}, 0};
    struct slo_service figures;
    char text[32];

    if (slices_each_slice(slices, TENANT, name_of(0, text), from, NOW + 1, add_slice, &resum) !=
        ERR_OK) {
        fail("no memory");
    }
    print_since("resum_one", began);
    printf("\n");
    if (slo_service_figures(slices, &OBJECTIVES, TENANT, name_of(0, text), NOW * MINUTE_US,
                            &figures) != ERR_OK ||
        figures.good != resum.sum.good || figures.bad != resum.sum.bad ||
        figures.figures[0].violations != resum.violations) {
        fail("the sums are not those of the minutes");
    }
    slice_clear(&resum.sum);
}

static void
gate_and_windows(struct slo_status_request *request)
{
    struct buffer out = BUFFER_EMPTY;
    struct stopwatch began = start();

    (void)slo_gate_json(request, &out);
    print_since("gate_one", began);
    printf(" bytes=%zu\n", out.len);
    buffer_clear(&out, 0);
    began = start();
    slo_windows_json(request, NULL, NOW - SLO_WINDOWS_MAX, NOW, &out);
    print_since("windows_week", began);
    printf(" bytes=%zu\n", out.len);
    if (out.failed) {
        fail("no memory");
    }
    buffer_free(&out);
}

/* ---- the objectives of every service, as the book of alerts and a new series ask for them ---- */

static void
objectives_of(void *arg, struct span tenant, struct span service, struct slo_config *out)
{
    (void)arg;
    (void)tenant;
    (void)service;
    *out = OBJECTIVES;
}

static uint32_t
limits_of(void *arg, struct span tenant, struct span service, struct slices_limit *limits,
          uint32_t max)
{
    (void)arg;
    (void)tenant;
    (void)service;
    (void)max;
    return slo_limits(&OBJECTIVES, limits);
}

/* ---- whole ticks ---- */

struct database {
    struct mysql_config config;
    struct mysql_session session;
    struct sink sinks[PARTITIONS];
    uint64_t seq[PARTITIONS];
    struct mysql_windows *windows;
    const char *dir;
};

static bool
knows_instance(void *arg, const uint8_t instance[16])
{
    (void)arg;
    (void)instance;
    return false;
}

static void
run_sql(struct database *database, const char *sql)
{
    if (mysql_session_run_text(&database->session, sql, NULL) != 0) {
        mysql_session_log_error(&database->session, "bench", sql, true);
        fail("the database refuses");
    }
}

static void
open_database(struct database *database, const char *socket, const char *dir,
              const struct slice_rules *rules)
{
    struct mysql_owner owner = {.epoch = 1, .known_instance = knows_instance};

    *database = (struct database){.config = {.socket = socket,
                                             .user = "root",
                                             .password = "",
                                             .database = "sluice_bench",
                                             .timeout_ms = 20000},
                                  .dir = dir};
    memset(owner.node_id, 0x11, sizeof(owner.node_id));
    memset(owner.instance, 0x22, sizeof(owner.instance));
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        if (mysql_sink_new(&database->sinks[p], &database->config, &owner, p, rules) != ERR_OK ||
            database->sinks[p].ops->position(database->sinks[p].self, &database->seq[p]) !=
                ERR_OK) {
            fail("no database");
        }
    }
    if (mysql_windows_open(&database->windows, &database->config) != ERR_OK ||
        mysql_session_open(&database->session, &database->config) != ERR_OK) {
        fail("no database");
    }
    run_sql(database, "CREATE TABLE peer LIKE slo_windows");
}

static void
close_database(struct database *database)
{
    run_sql(database, "DROP DATABASE sluice_bench");
    mysql_windows_close(database->windows);
    mysql_session_close(&database->session);
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        database->sinks[p].ops->close(database->sinks[p].self);
    }
}

/* Stores events of MINUTE of every service, as the replicator of partition P does. */
static void
store_minute(struct database *database, uint32_t p, int64_t minute, int services, char (*names)[32])
{
    const size_t count = (size_t)services * EVENTS_PER_MINUTE / PARTITIONS;
    struct sink *sink = &database->sinks[p];
    struct sink_reject reject;
    const uint64_t first = database->seq[p] + 1 + (database->seq[p] == 0 ? p * SEQ_APART : 0);
    struct batch batch = {.partition = p,
                          .after_seq = database->seq[p],
                          .to_seq = first + count - 1,
                          .count = count,
                          .events = calloc(count, sizeof(*batch.events))};

    if (batch.events == NULL) {
        fail("no memory");
    }
    for (size_t i = 0; i < count; i++) {
        struct event *event = &batch.events[i].event;

        batch.events[i].seq = first + i;
        *event = event_of((uint64_t)minute * 31 + i);
        event->shape = EVENT_GENERIC;
        event->id = SPAN_LITERAL("fresh");
        event->name = SPAN_LITERAL("telemetry");
        event->service = span_of(names[i % (size_t)services]);
        event->occurred_at_us = minute * MINUTE_US;
        event->created_at_us = minute * MINUTE_US;
    }
    if (sink->ops->apply(sink->self, &batch, &reject) != SINK_APPLIED) {
        fail("a batch was not stored");
    }
    database->seq[p] = batch.to_seq;
    batch_free(&batch);
}

static void
judge(struct database *database, struct alerts *alerts, int64_t now_us)
{
    char path[WHOLE_FILE_PATH_SIZE];
    struct alerts_cut cut;
    struct span bytes;

    alerts_judge(alerts, now_us);
    if (alerts_collect(alerts, now_us, -1, true, &cut) != ERR_OK) {
        fail("no memory");
    }
    bytes = buffer_span(&cut.bytes);
    (void)snprintf(path, sizeof(path), "%s/alerts.state", database->dir);
    if (cut.bytes_due && whole_file_write(path, &bytes, 1) != ERR_OK) {
        fail("the alerts' state cannot be stored");
    }
    alerts_cut_free(&cut);
}

static void
write_windows(struct database *database, int64_t now_minute)
{
    const struct mysql_windows_rules rules = {NULL, &OBJECTIVES, now_minute};
    bool more = true;

    while (more) {
        if (mysql_windows_update(database->windows, &rules, &more) != ERR_OK) {
            fail("slo_windows cannot be written");
        }
    }
}

/* The peer: a hand-written statement for the same minute, without percentiles and violations. */
static void
sum_in_sql(struct database *database, int64_t minute)
{
    char sql[512];

    (void)snprintf(
        sql, sizeof(sql),
        "INSERT INTO peer (tenant_id,service,window_start,window_end,good_count,bad_count,"
        "availability,updated_at) SELECT tenant_id,service,"
        "'1970-01-01'+INTERVAL %lld MINUTE,'1970-01-01'+INTERVAL %lld MINUTE,SUM(good),SUM(bad),"
        "SUM(good)/SUM(total),UTC_TIMESTAMP(6) FROM slo_slices WHERE minute=%lld GROUP BY 1,2",
        (long long)minute, (long long)minute + 1, (long long)minute);
    run_sql(database, sql);
}

static void
check_rows(struct database *database, int services)
{
    uint64_t rows = 0;
    uint64_t unlike = 0;

    if (mysql_session_number(&database->session, "SELECT COUNT(*) FROM slo_windows", 0, &rows) !=
            0 ||
        mysql_session_number(&database->session,
                             "SELECT COUNT(*) FROM slo_windows LEFT JOIN peer USING "
                             "(tenant_id,service,window_start,good_count,bad_count) "
                             "WHERE peer.window_end IS NULL",
                             0, &unlike) != 0 ||
        rows != (uint64_t)services * TICKS || unlike != 0) {
        fail("the rows are not those of the server's own sums");
    }
}

static void
ticks(struct database *database, const struct slo_status_request *request,
      const struct slice *kinds, int services)
{
    char(*names)[32] = calloc((size_t)services, sizeof(*names));
    struct mysql_windows_series *series = calloc((size_t)services, sizeof(*series));
    struct stopwatch began;
    struct stopwatch part;

    if (names == NULL || series == NULL) {
        fail("no memory");
    }
    for (int s = 0; s < services; s++) {
        series[s].service = name_of(s, names[s]);
        series[s].tenant = TENANT;
    }
    for (int64_t minute = NOW + 1; minute <= NOW + TICKS; minute++) {
        for (int s = 0; s < services; s++) {
            add_minute(request->slices, series[s].service, minute, &kinds[(s + minute) % KINDS]);
        }
        for (uint32_t p = 0; p < PARTITIONS; p++) {
            store_minute(database, p, minute, services, names);
        }
        began = part = start();
        judge(database, request->alerts, (minute + 1) * MINUTE_US);
        print_since("tick_judge_all", part);
        part = start();
        write_windows(database, minute + 1);
        printf("\n");
        print_since("tick_windows", part);
        part = start();
        if (mysql_windows_add_silent(database->windows, minute, series, (size_t)services) !=
            ERR_OK) {
            fail("rows without traffic cannot be written");
        }
        printf("\n");
        print_since("tick_silence", part);
        part = start();
        slices_expire(request->slices, (minute + 1) * MINUTE_US);
        printf("\n");
        print_since("tick_expire", part);
        printf("\n");
        print_since("tick_whole", began);
        printf(" services=%d partitions=%d\n", services, PARTITIONS);
        part = start();
        sum_in_sql(database, minute);
        print_since("tick_peer_sql", part);
        printf("\n");
    }
    check_rows(database, services);
    free(names);
    free(series);
}

int
main(int argc, char **argv)
{
    const int services = argc > 1 ? atoi(argv[1]) : 1000;
    const struct slices_config store = {.rules = {{300000, 500000}, 2, NULL},
                                        .limits = limits_of,
                                        .series_max = 100000,
                                        .retain_minutes = 92 * DAY};
    struct alerts_config book = {.objectives = objectives_of};
    struct slo_status_request request = {
        .config = &OBJECTIVES, .tenant = TENANT, .now_us = NOW * MINUTE_US};
    struct slice *kinds;
    char text[32];

    log_setup(LOG_ERROR, LOG_TEXT, 2); /* alerts that fire are no news here */
    mysql_library_start();
    if (services < 1 || argc == 3 || slices_new(&request.slices, &store) != ERR_OK) {
        fail("usage: bench_slo [SERVICES [SOCKET DIR]]");
    }
    book.slices = request.slices;
    if (alerts_new(&request.alerts, &book) != ERR_OK) {
        fail("no memory");
    }
    kinds = make_kinds(request.slices);
    load(request.slices, kinds, services);
    warm_up(&request);
    status("status_all_first", &request);
    for (int round = 0; round < 3; round++) {
        add_to_each(request.slices, kinds, services, round, NOW);
        status("status_all_again", &request);
    }
    request.now_us += MINUTE_US;
    add_to_each(request.slices, kinds, services, 3, NOW + 1);
    status("status_all_next_minute", &request);
    request.now_us -= MINUTE_US;
    request.service = name_of(0, text);
    status("status_one", &request);
    resum_one(request.slices);
    gate_and_windows(&request);
    if (argc > 3) {
        struct database database;

        open_database(&database, argv[2], argv[3], &store.rules);
        ticks(&database, &request, kinds, services);
        close_database(&database);
    }
    free_kinds(kinds);
    alerts_free(request.alerts);
    slices_free(request.slices);
    mysql_library_stop();
    return 0;
}
