/*
 * GET /metrics: every number of this process in the Prometheus text format; openmetrics.h makes the
 * other format of it.
 *
 * Names follow promtool's rules: base units, _total on counters only, HELP and TYPE once per name.
 */
#include <dirent.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "http/internal.h"

/* ---- small helpers ---- */

static void
one_u64(struct buffer *out, const char *name, enum metric_type type, const char *help,
        uint64_t value)
{
    metrics_family(out, name, type, help);
    metrics_sample_u64(out, name, "", value);
}

static void
one_f64(struct buffer *out, const char *name, const char *help, double value)
{
    metrics_family(out, name, METRIC_GAUGE, help);
    metrics_sample_f64(out, name, "", value);
}

/* LABELS as a C string; without memory "", and OUT has failed, since a sample must not lose its
 * labels. */
static const char *
label_text(struct buffer *labels, struct buffer *out)
{
    buffer_append_char(labels, '\0');
    out->failed = out->failed || labels->failed;
    return labels->failed ? "" : labels->data;
}

static uint64_t
sum_loops(const struct server *server, size_t counter_offset)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < server->loop_count; i++) {
        const char *metrics = (const char *)&server->loops[i].metrics;

        sum +=
            metric_value((const struct metric_counter *)(const void *)(metrics + counter_offset));
    }
    return sum;
}

#define SUM_LOOPS(server, member) sum_loops((server), offsetof(struct loop_metrics, member))

/* ---- HTTP ---- */

static const uint16_t STATUSES[STATUS_COUNT] = {
#define STATUS_NUMBER(status, text) [STATUS_##status] = (status),
    STATUS_LIST(STATUS_NUMBER)
#undef STATUS_NUMBER
};

static void
write_requests_of(const struct server *server, struct buffer *out, size_t route)
{
    const char *path = route == ROUTES_MAX ? "none" : ROUTES[route].path;
    char labels[128];

    for (size_t method = 0; method < METHOD_COUNT; method++) {
        for (size_t status = 0; status < STATUS_COUNT; status++) {
            size_t at = offsetof(struct loop_metrics, requests) +
                        ((route * METHOD_COUNT + method) * STATUS_COUNT + status) *
                            sizeof(struct metric_counter);
            uint64_t count = sum_loops(server, at);

            if (count == 0) {
                continue;
            }
            (void)snprintf(labels, sizeof(labels), "route=\"%s\",method=\"%s\",status=\"%u\"", path,
                           request_method_name((enum request_method)method), STATUSES[status]);
            metrics_sample_u64(out, "sluice_http_requests_total", labels, count);
        }
    }
}

static void
add_histogram(struct metric_histogram *sum, const struct metric_histogram *part)
{
    for (uint32_t b = 0; b <= METRIC_BUCKETS_MAX; b++) {
        sum->bucket[b] += atomic_load_explicit(&part->bucket[b], memory_order_relaxed);
    }
    sum->sum_micro += atomic_load_explicit(&part->sum_micro, memory_order_relaxed);
}

static void
write_durations(const struct server *server, struct buffer *out)
{
    struct metric_histogram sum;

    metric_histogram_init(&sum, METRIC_SECONDS_BOUNDS, METRIC_SECONDS_BOUND_COUNT);
    for (uint32_t i = 0; i < server->loop_count; i++) {
        add_histogram(&sum, &server->loops[i].metrics.seconds);
    }
    metrics_family(out, "sluice_http_request_duration_seconds", METRIC_HISTOGRAM,
                   "From a request's first byte to its answer.");
    metrics_sample_histogram(out, "sluice_http_request_duration_seconds", "", &sum);
}

static void
write_http(const struct server *server, struct buffer *out)
{
    metrics_family(out, "sluice_http_requests_total", METRIC_COUNTER, "Requests answered.");
    for (size_t route = 0; route < ROUTE_COUNT; route++) {
        write_requests_of(server, out, route);
    }
    write_requests_of(server, out, ROUTES_MAX);
    write_durations(server, out);
    one_u64(out, "sluice_http_connections", METRIC_GAUGE, "Open connections.",
            atomic_load(&server->connections));
    one_u64(out, "sluice_http_connections_limit", METRIC_GAUGE, "Connections allowed at once.",
            server->config.connections_max);
    one_u64(out, "sluice_http_connections_accepted_total", METRIC_COUNTER, "Connections accepted.",
            SUM_LOOPS(server, connections));
    one_u64(out, "sluice_http_connections_refused_total", METRIC_COUNTER,
            "Connections refused, being too many.", SUM_LOOPS(server, connections_refused));
    one_u64(out, "sluice_http_accept_errors_total", METRIC_COUNTER,
            "Connections that could not be accepted.", SUM_LOOPS(server, accept_errors));
    one_u64(out, "sluice_http_timeouts_total", METRIC_COUNTER,
            "Requests and answers given up, the client being too slow.",
            SUM_LOOPS(server, timeouts));
    one_u64(out, "sluice_http_buffered_bytes", METRIC_GAUGE,
            "Request bytes held for all clients together.",
            atomic_load_explicit(&server->budget.used, memory_order_relaxed));
    one_u64(out, "sluice_http_buffered_bytes_limit", METRIC_GAUGE,
            "Request bytes that may be held; beyond it 503.", server->budget.max);
}

static void
write_rejected(const struct server *server, struct buffer *out)
{
    metrics_family(out, "sluice_events_rejected_total", METRIC_COUNTER,
                   "Events refused, by the reason given to the client.");
    for (size_t p = 0; p < PROBLEM_COUNT; p++) {
        const char *code = problem_code((enum problem)p);
        uint64_t count = 0;
        bool first = true;
        char labels[64];

        /* Several problems may share a code: sum them where the code first stands. */
        for (size_t q = 0; q < PROBLEM_COUNT; q++) {
            if (strcmp(problem_code((enum problem)q), code) != 0) {
                continue;
            }
            first = first && q >= p;
            count += sum_loops(server, offsetof(struct loop_metrics, rejected) +
                                           q * sizeof(struct metric_counter));
        }
        if (first && p != PROBLEM_NONE) {
            (void)snprintf(labels, sizeof(labels), "reason=\"%s\"", code);
            metrics_sample_u64(out, "sluice_events_rejected_total", labels, count);
        }
    }
}

static void
write_events(const struct server *server, struct buffer *out)
{
    one_u64(out, "sluice_events_received_total", METRIC_COUNTER, "Events clients have sent.",
            SUM_LOOPS(server, received));
    one_u64(out, "sluice_events_acked_total", METRIC_COUNTER,
            "Events acknowledged as newly stored.", SUM_LOOPS(server, acked));
    one_u64(out, "sluice_events_duplicate_total", METRIC_COUNTER,
            "Events acknowledged as repeats of a stored one.", SUM_LOOPS(server, duplicate));
    write_rejected(server, out);
}

/* ---- keys ---- */

static void
write_keys(const struct server *server, struct buffer *out)
{
    struct tenants_stats stats;

    if (server->deps.tenants == NULL || !tenants_have_keys(server->deps.tenants)) {
        return;
    }
    tenants_stats(server->deps.tenants, &stats);
    one_u64(out, "sluice_api_keys", METRIC_GAUGE, "API keys in force.", stats.keys);
    one_u64(out, "sluice_api_key_tenants", METRIC_GAUGE, "Tenants that have an API key.",
            stats.tenants);
    metrics_family(
        out, "sluice_api_key_reloads_total", METRIC_COUNTER,
        "Times API_KEYS_FILE was read again; after a failure the keys stay as they were.");
    metrics_sample_u64(out, "sluice_api_key_reloads_total", "result=\"ok\"", stats.reloads);
    metrics_sample_u64(out, "sluice_api_key_reloads_total", "result=\"failed\"",
                       stats.reload_failures);
}

/* ---- log ---- */

static void
write_log(const struct server *server, const struct journal_stats *stats, struct buffer *out)
{
    const struct journal *journal = server->deps.journal;
    double oldest_s = 0;

    if (stats->oldest_pending_us != 0) {
        oldest_s = (double)(clock_wall_us(server->deps.clock) - stats->oldest_pending_us) / 1e6;
    }
    one_u64(out, "sluice_commit_queue_events", METRIC_GAUGE, "Events waiting for a commit.",
            stats->queued_events);
    one_u64(out, "sluice_wal_durable_seq", METRIC_GAUGE,
            "Highest sequence number on stable storage.", stats->durable_seq);
    one_u64(out, "sluice_wal_pending_events", METRIC_GAUGE,
            "Durable events not yet in the database.", stats->pending_events);
    one_u64(out, "sluice_wal_bytes", METRIC_GAUGE, "Bytes of the log in use.", stats->bytes);
    one_u64(out, "sluice_wal_bytes_limit", METRIC_GAUGE, "Bytes in use at which ingest is refused.",
            stats->bytes_limit);
    one_f64(out, "sluice_wal_oldest_pending_seconds",
            "Age of the oldest event not yet in the database.", oldest_s > 0 ? oldest_s : 0);
    one_f64(out, "sluice_wal_oldest_reader_seconds", "Age of the oldest open read of the log.",
            (double)stats->oldest_reader_us / 1e6);
    one_u64(out, "sluice_wal_id_window_events", METRIC_GAUGE,
            "Ids the log itself recognises as repeats.", stats->id_window_events);
    one_u64(out, "sluice_wal_full", METRIC_GAUGE, "1 while ingest is refused for lack of room.",
            stats->full);
    one_u64(out, "sluice_wal_failed", METRIC_GAUGE, "1 once the log takes no more writes.",
            stats->failed);
    if (journal->commit_seconds != NULL) {
        metrics_family(out, "sluice_wal_commit_duration_seconds", METRIC_HISTOGRAM,
                       "Time of one commit, syncs included.");
        metrics_sample_histogram(out, "sluice_wal_commit_duration_seconds", "",
                                 journal->commit_seconds);
    }
    if (journal->group_events != NULL) {
        metrics_family(out, "sluice_wal_group_events", METRIC_HISTOGRAM, "Events in one commit.");
        metrics_sample_histogram(out, "sluice_wal_group_events", "", journal->group_events);
    }
}

/* ---- counts ---- */

static void
write_counts(const struct server *server, struct buffer *out)
{
    struct counts_stats stats;

    if (server->deps.counts == NULL) {
        return;
    }
    counts_stats(server->deps.counts, &stats);
    one_u64(out, "sluice_counts_names", METRIC_GAUGE, "Event names that are counted.", stats.names);
    one_u64(out, "sluice_counts_names_limit", METRIC_GAUGE,
            "Event names that can be counted; events of further ones are left out.",
            COUNTS_NAMES_MAX);
    one_u64(out, "sluice_counts_values", METRIC_GAUGE, "Channels and campaigns that are counted.",
            stats.values);
    one_u64(out, "sluice_counts_values_limit", METRIC_GAUGE,
            "Channels and campaigns that can be counted; further ones count as (other).",
            COUNTS_VALUES_MAX);
    one_u64(out, "sluice_counts_tail_events", METRIC_GAUGE,
            "Events counted in memory, not in the history yet.", stats.tail_events);
    one_u64(out, "sluice_counts_tail_events_limit", METRIC_GAUGE,
            "Events that may be counted in memory; beyond it ingest is refused.", COUNT_LAG_MAX);
    one_u64(out, "sluice_counts_begin_seq", METRIC_GAUGE,
            "Events up to this sequence number are older than the counts and not in them; 0: none.",
            stats.begin_seq);
    one_u64(out, "sluice_counts_history_seq", METRIC_GAUGE,
            "Highest sequence number in the history of counts.", stats.counted_seq);
    one_u64(out, "sluice_counts_history_bytes", METRIC_GAUGE,
            "Bytes the history of counts occupies.", stats.history_bytes);
    one_u64(out, "sluice_counts_history_bytes_limit", METRIC_GAUGE,
            "Bytes beyond which the oldest hours of the history go.", stats.history_bytes_max);
    one_f64(out, "sluice_counts_history_begin_timestamp_seconds",
            "Earlier times have been dropped from the history of counts; 0 when none has.",
            stats.from_us == INT64_MIN ? 0 : (double)stats.from_us / 1e6);
    one_u64(out, "sluice_counts_dropped_events_total", METRIC_COUNTER,
            "Events left out of the counts, their names being beyond the limit.",
            stats.dropped_events);
    one_u64(out, "sluice_counts_other_events_total", METRIC_COUNTER,
            "Events counted as (other), their channel or campaign being beyond the limit.",
            stats.other_events);
}

/* ---- replicators ---- */

enum {
    PARTITION_LABEL_SIZE = 32
};

static const char *
partition_label(char text[PARTITION_LABEL_SIZE], uint32_t partition)
{
    (void)snprintf(text, PARTITION_LABEL_SIZE, "partition=\"%u\"", partition);
    return text;
}

/* Nothing before they were first counted: 0 would be a claim. */
static void
write_letters(const struct server *server, struct buffer *out)
{
    const struct dead_letter_store *store = server->deps.dead_letters;
    const int64_t pending = store == NULL ? -1 : store->ops->pending(store->self);

    if (pending >= 0) {
        one_u64(out, "sluice_dead_letters_pending", METRIC_GAUGE,
                "Dead letters of all nodes neither replayed nor discarded, as last counted.",
                (uint64_t)pending);
    }
}

static void
write_replicators(const struct server *server, struct buffer *out)
{
    struct replicator_status status[JOURNAL_PARTITIONS_MAX];
    uint32_t count = server->deps.replicator_count;
    uint64_t stored = 0;
    uint64_t dead = 0;
    char label[PARTITION_LABEL_SIZE];

    ASSERT(count <= JOURNAL_PARTITIONS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        replicator_status(server->deps.replicators[i], &status[i]);
        stored += status[i].stored;
        dead += status[i].dead;
    }
    one_u64(out, "sluice_events_replicated_total", METRIC_COUNTER,
            "Events stored in the database since start.", stored);
    one_u64(out, "sluice_events_dead_lettered_total", METRIC_COUNTER,
            "Events the database refused, kept as dead letters, since start.", dead);
    write_letters(server, out);
    if (count == 0) {
        return;
    }
#define WRITE_EACH(name, type, help, member)                                                       \
    metrics_family(out, (name), (type), (help));                                                   \
    for (uint32_t i = 0; i < count; i++) {                                                         \
        metrics_sample_u64(out, (name), partition_label(label, i), status[i].member);              \
    }
    WRITE_EACH("sluice_replicator_offset", METRIC_GAUGE, "Last sequence number in the database.",
               offset)
    WRITE_EACH("sluice_replicator_lag_events", METRIC_GAUGE,
               "Durable events of the partition not yet in the database.", lag_events)
    WRITE_EACH("sluice_replicator_retries_total", METRIC_COUNTER,
               "Batches that had to be sent again.", retries)
    WRITE_EACH("sluice_replicator_streaming", METRIC_GAUGE, "1 while the partition drains.",
               state == REPLICATOR_STREAMING)
#undef WRITE_EACH
    metrics_family(out, "sluice_replicator_batch_duration_seconds", METRIC_HISTOGRAM,
                   "Time the database took for one batch.");
    for (uint32_t i = 0; i < count; i++) {
        metrics_sample_histogram(out, "sluice_replicator_batch_duration_seconds",
                                 partition_label(label, i),
                                 replicator_batch_seconds(server->deps.replicators[i]));
    }
}

/* ---- audit ---- */

/* What the replicators report as settled: rows, dead letters, repeats the database knew. */
static uint64_t
audit_settled(const struct server_deps *deps)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < deps->replicator_count; i++) {
        struct replicator_status status;

        replicator_status(deps->replicators[i], &status);
        sum += status.stored + status.dead + status.duplicates;
    }
    return sum;
}

/*
 * Accepted less pending less settled: what was replicated before this process, so a constant. The
 * parts come from different threads, and a batch leaves "pending" a moment before its replicator
 * reports it: for that moment the balance is too high. Hence the least of a few looks.
 */
double
audit_balance(const struct server_deps *deps)
{
    enum {
        LOOKS = 8
    };
    struct journal_stats stats;
    double least = INFINITY;

    memset(&stats, 0, sizeof(stats));
    for (int look = 0; look < LOOKS; look++) {
        double settled = (double)audit_settled(deps); /* first: the error has one direction */
        double balance;

        deps->journal->ops->stats(deps->journal->self, &stats);
        balance = (double)stats.durable_seq - (double)stats.pending_events - settled;
        least = fmin(least, balance);
        (void)sched_yield();
    }
    return least;
}

/* ---- SLO ---- */

struct series_name {
    uint32_t tenant_at;
    uint32_t tenant_len;
    uint32_t service_at;
    uint32_t service_len;
};

/* The names of all series, copied: the store's lock is not held while figures are computed. */
struct series_list {
    struct buffer text;
    struct buffer names; /* of struct series_name */
};

static void
add_series(void *arg, struct span tenant, struct span service)
{
    struct series_list *list = arg;
    struct series_name name = {
        narrow_u32(list->text.len),
        narrow_u32(tenant.len),
        narrow_u32(list->text.len + tenant.len),
        narrow_u32(service.len),
    };

    buffer_append_span(&list->text, tenant);
    buffer_append_span(&list->text, service);
    if (!list->text.failed) {
        buffer_append(&list->names, &name, sizeof(name));
    }
}

/* One buffer per family, since a family's samples must stand together. */
enum slo_family {
    FAMILY_AVAILABILITY,
    FAMILY_LATENCY,
    FAMILY_BUDGET,
    FAMILY_BURN,
    FAMILY_OBJECTIVE,
    FAMILY_COUNT
};

static const struct {
    const char *name;
    const char *type;
    const char *help;
} FAMILIES[FAMILY_COUNT] = {
    [FAMILY_AVAILABILITY] = {"sluice_slo_availability_ratio", "gauge",
                             "Good events per event over the longest window."},
    /* A quantile label is allowed on summaries only. */
    [FAMILY_LATENCY] = {"sluice_slo_latency_seconds", "summary",
                        "Latency quantiles over the longest window, within 1.09 %."},
    [FAMILY_BUDGET] = {"sluice_slo_error_budget_remaining_ratio", "gauge",
                       "Share of the error budget left; negative when overspent."},
    [FAMILY_BURN] = {"sluice_slo_burn_rate", "gauge",
                     "Speed at which the budget is spent; 1 spends it in exactly its window."},
    [FAMILY_OBJECTIVE] = {"sluice_slo_objective_ratio", "gauge", "The objective's target."},
};

/* Appends `base,NAME="VALUE"` to LABELS, which is emptied first. */
static const char *
with_label(struct buffer *labels, struct span base, const char *name, struct span value,
           struct buffer *out)
{
    buffer_clear(labels, KEEP_BYTES_MAX);
    buffer_append_span(labels, base);
    metrics_label(labels, name, value);
    return label_text(labels, out);
}

static void
write_figures(struct buffer family[FAMILY_COUNT], const struct slo_figures *figures,
              struct span base, struct buffer *labels)
{
    struct buffer objective = BUFFER_EMPTY;
    const char *text = with_label(labels, base, "objective", span_of(figures->objective->id),
                                  &family[FAMILY_OBJECTIVE]);

    buffer_append_text(&objective, text);
    metrics_sample_f64(&family[FAMILY_OBJECTIVE], FAMILIES[FAMILY_OBJECTIVE].name, text,
                       figures->objective->target);
    if (!isnan(figures->error_budget_remaining)) {
        metrics_sample_f64(&family[FAMILY_BUDGET], FAMILIES[FAMILY_BUDGET].name, text,
                           figures->error_budget_remaining);
    }
    for (size_t w = 0; w < SLO_BURN_WINDOWS; w++) {
        if (!isnan(figures->burn_rate[w])) {
            text = with_label(labels, buffer_span(&objective), "window",
                              span_of(SLO_BURN_WINDOW_NAME[w]), &family[FAMILY_BURN]);
            metrics_sample_f64(&family[FAMILY_BURN], FAMILIES[FAMILY_BURN].name, text,
                               figures->burn_rate[w]);
        }
    }
    if (objective.failed) {
        family[FAMILY_BURN].failed = true;
    }
    buffer_free(&objective);
}

static void
write_service(struct buffer family[FAMILY_COUNT], const struct slo_service *service,
              struct span base, struct buffer *labels)
{
    static const char *const QUANTILES[] = {"0.5", "0.9", "0.95", "0.99"};

    if (!isnan(service->availability)) {
        buffer_clear(labels, KEEP_BYTES_MAX);
        buffer_append_span(labels, base);
        metrics_sample_f64(&family[FAMILY_AVAILABILITY], FAMILIES[FAMILY_AVAILABILITY].name,
                           label_text(labels, &family[FAMILY_AVAILABILITY]), service->availability);
    }
    for (size_t q = 0; q < ARRAY_LEN(QUANTILES); q++) {
        if (!isnan(service->latency_ms[q])) {
            metrics_sample_f64(&family[FAMILY_LATENCY], FAMILIES[FAMILY_LATENCY].name,
                               with_label(labels, base, "quantile", span_of(QUANTILES[q]),
                                          &family[FAMILY_LATENCY]),
                               service->latency_ms[q] / 1e3);
        }
    }
    for (uint32_t i = 0; i < service->figure_count; i++) {
        write_figures(family, &service->figures[i], base, labels);
    }
}

static void
write_series(const struct server *server, const struct series_list *list,
             struct buffer family[FAMILY_COUNT])
{
    struct buffer base = BUFFER_EMPTY;
    struct buffer labels = BUFFER_EMPTY;
    const struct objective_set *objectives = objectives_now(server->deps.objectives);
    int64_t now_us = clock_wall_us(server->deps.clock);
    size_t count = list->names.len / sizeof(struct series_name);

    for (size_t i = 0; i < count; i++) {
        struct series_name name;
        struct slo_service service;
        struct span tenant_text;
        struct span service_text;

        memcpy(&name, list->names.data + i * sizeof(name), sizeof(name));
        tenant_text = (struct span){list->text.data + name.tenant_at, name.tenant_len};
        service_text = (struct span){list->text.data + name.service_at, name.service_len};
        buffer_clear(&base, KEEP_BYTES_MAX);
        metrics_label(&base, "tenant", tenant_text);
        metrics_label(&base, "service", service_text);
        if (base.failed ||
            slo_service_figures(
                server->deps.slices,
                objective_set_config(objectives, server->deps.slo, tenant_text, service_text),
                tenant_text, service_text, now_us, &service) != ERR_OK) {
            family[0].failed = true;
            break;
        }
        write_service(family, &service, buffer_span(&base), &labels);
    }
    objective_set_release(objectives);
    buffer_free(&base);
    buffer_free(&labels);
}

static void
write_slo(const struct server *server, struct buffer *out)
{
    struct series_list list = {BUFFER_EMPTY, BUFFER_EMPTY};
    struct buffer family[FAMILY_COUNT];
    struct slices_stats stats;

    memset(family, 0, sizeof(family));
    slices_each_series(server->deps.slices, add_series, &list);
    write_series(server, &list, family);
    for (size_t f = 0; f < FAMILY_COUNT; f++) {
        buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", FAMILIES[f].name, FAMILIES[f].help,
                      FAMILIES[f].name, FAMILIES[f].type);
        buffer_append_span(out, buffer_span(&family[f]));
        out->failed = out->failed || family[f].failed;
        buffer_free(&family[f]);
    }
    out->failed = out->failed || list.text.failed || list.names.failed;
    buffer_free(&list.text);
    buffer_free(&list.names);
    slices_stats(server->deps.slices, &stats);
    one_u64(out, "sluice_slo_series", METRIC_GAUGE, "Services measured, of all tenants.",
            stats.series);
    one_u64(out, "sluice_slo_dropped_events_total", METRIC_COUNTER,
            "Events stored but not measured: too many series, or too old.", stats.dropped_events);
}

/* ---- alerts ---- */

struct alert_samples {
    struct buffer *out;
    struct buffer labels;
};

static void
add_alert(void *arg, struct span tenant, struct span service, const char *objective,
          enum alert_severity severity, const struct alert_state *state)
{
    struct alert_samples *samples = arg;
    struct buffer *labels = &samples->labels;

    buffer_clear(labels, KEEP_BYTES_MAX);
    metrics_label(labels, "tenant", tenant);
    metrics_label(labels, "service", service);
    metrics_label(labels, "objective", span_of(objective));
    metrics_label(labels, "severity", span_of(alert_severity_name(severity)));
    metrics_sample_u64(samples->out, "sluice_slo_alert_firing", label_text(labels, samples->out),
                       state->status == ALERT_FIRING);
}

static void
write_notifier(const struct notifier *notifier, struct buffer *out)
{
    struct notifier_stats stats;

    if (notifier == NULL) {
        return;
    }
    notifier->ops->stats(notifier->self, &stats);
    metrics_family(out, "sluice_alert_notices_total", METRIC_COUNTER,
                   "Notices of alerts: sent, refused by the receiver for good, dropped for want of "
                   "room (and offered again later).");
    metrics_sample_u64(out, "sluice_alert_notices_total", "result=\"sent\"", stats.sent);
    metrics_sample_u64(out, "sluice_alert_notices_total", "result=\"refused\"", stats.refused);
    metrics_sample_u64(out, "sluice_alert_notices_total", "result=\"dropped\"", stats.dropped);
    one_u64(out, "sluice_alert_webhook_failures_total", METRIC_COUNTER,
            "Attempts to post alerts that failed and were repeated.", stats.failed);
    one_u64(out, "sluice_alert_queue_notices", METRIC_GAUGE, "Notices waiting to be posted.",
            stats.queued);
}

static void
write_alerts(const struct server *server, struct buffer *out)
{
    struct alert_samples samples = {out, BUFFER_EMPTY};
    struct alerts_stats stats;

    if (server->deps.alerts == NULL) {
        return;
    }
    metrics_family(out, "sluice_slo_alert_firing", METRIC_GAUGE,
                   "1 while the alert fires, also while it is frozen for want of events.");
    alerts_each_state(server->deps.alerts, (struct span){NULL, 0}, (struct span){NULL, 0},
                      add_alert, &samples);
    buffer_free(&samples.labels);
    alerts_stats(server->deps.alerts, &stats);
    metrics_family(out, "sluice_slo_alert_changes_total", METRIC_COUNTER,
                   "Alerts that began to fire, and that resolved.");
    metrics_sample_u64(out, "sluice_slo_alert_changes_total", "state=\"firing\"", stats.fired);
    metrics_sample_u64(out, "sluice_slo_alert_changes_total", "state=\"resolved\"", stats.resolved);
    one_u64(out, "sluice_slo_alert_judged_total", METRIC_COUNTER,
            "Objectives of services, as often as their alerts were judged.", stats.judged);
    one_u64(out, "sluice_slo_alert_unsaved_total", METRIC_COUNTER,
            "Times the state of the alerts could not be stored.", stats.unsaved);
    metrics_family(out, "sluice_slo_alert_judge_duration_seconds", METRIC_HISTOGRAM,
                   "Time of one round of judging.");
    metrics_sample_histogram(out, "sluice_slo_alert_judge_duration_seconds", "",
                             alerts_judge_seconds(server->deps.alerts));
    write_notifier(server->deps.notifier, out);
}

/* ---- process ---- */

static uint64_t
count_open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    uint64_t count = 0;

    if (dir == NULL) {
        return 0;
    }
    while (readdir(dir) != NULL) {
        count++;
    }
    (void)closedir(dir);
    return count > 3 ? count - 3 : 0; /* ".", "..", and the directory itself */
}

/* Pages of virtual and resident memory, from /proc/self/statm. */
static void
memory_pages(uint64_t *virtual_out, uint64_t *resident_out)
{
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long total = 0;
    unsigned long resident = 0;

    if (file != NULL) {
        if (fscanf(file, "%lu %lu", &total, &resident) != 2) {
            total = 0;
            resident = 0;
        }
        (void)fclose(file);
    }
    *virtual_out = total;
    *resident_out = resident;
}

static void
write_tls(const struct server *server, struct buffer *out)
{
    static const char *const RESUMED[] = {"resumed=\"false\"", "resumed=\"true\""};
    static const char *const REASONS[HANDSHAKE_ERRORS] = {
        [HANDSHAKE_PROTOCOL] = "reason=\"protocol\"",
        [HANDSHAKE_CLIENT_CERTIFICATE] = "reason=\"client_certificate\"",
        [HANDSHAKE_ALERT] = "reason=\"alert\"",
        [HANDSHAKE_PLAIN_HTTP] = "reason=\"plain_http\"",
        [HANDSHAKE_TIMEOUT] = "reason=\"timeout\"",
        [HANDSHAKE_CLOSED] = "reason=\"closed\"",
    };

    if (server->deps.tls == NULL) {
        return;
    }
    metrics_family(out, "sluice_tls_handshakes_total", METRIC_COUNTER,
                   "TLS handshakes that were completed, anew or from a ticket.");
    for (size_t i = 0; i < ARRAY_LEN(RESUMED); i++) {
        metrics_sample_u64(out, "sluice_tls_handshakes_total", RESUMED[i],
                           SUM_LOOPS(server, handshakes[i]));
    }
    metrics_family(out, "sluice_tls_handshake_errors_total", METRIC_COUNTER,
                   "TLS handshakes that came to nothing, by reason.");
    for (size_t i = 0; i < HANDSHAKE_ERRORS; i++) {
        metrics_sample_u64(out, "sluice_tls_handshake_errors_total", REASONS[i],
                           SUM_LOOPS(server, handshake_errors[i]));
    }
    one_f64(out, "sluice_tls_certificate_expiry_timestamp_seconds",
            "End of the certificate in use, seconds since 1970.",
            (double)tls_expires_s(server->deps.tls));
}

static void
write_process(const struct server *server, struct buffer *out)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct rusage usage;
    struct rlimit files;
    uint64_t virtual_pages;
    uint64_t resident_pages;

    memset(&usage, 0, sizeof(usage));
    (void)getrusage(RUSAGE_SELF, &usage);
    memory_pages(&virtual_pages, &resident_pages);
    metrics_family(out, "process_cpu_seconds_total", METRIC_COUNTER,
                   "User and system CPU time spent.");
    metrics_sample_f64(out, "process_cpu_seconds_total", "",
                       (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    one_u64(out, "process_resident_memory_bytes", METRIC_GAUGE, "Resident memory.",
            resident_pages * page);
    one_u64(out, "process_virtual_memory_bytes", METRIC_GAUGE, "Virtual memory.",
            virtual_pages * page);
    one_u64(out, "process_open_fds", METRIC_GAUGE, "Open file descriptors.", count_open_fds());
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        one_u64(out, "process_max_fds", METRIC_GAUGE, "File descriptors allowed.", files.rlim_cur);
    }
    one_f64(out, "process_start_time_seconds", "Start of the process, seconds since 1970.",
            (double)server->started_wall_us / 1e6);
}

/* ---- the names of an older ingestor ---- */

const double LEGACY_MS_BOUNDS[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512};
const uint32_t LEGACY_MS_BOUND_COUNT = ARRAY_LEN(LEGACY_MS_BOUNDS);

/* Requests by status alone, of all routes. */
static void
write_legacy_requests(const struct server *server, struct buffer *out)
{
    metrics_family(out, "http_requests_total", METRIC_COUNTER,
                   "Total HTTP requests by status code");
    for (size_t status = 0; status < STATUS_COUNT; status++) {
        uint64_t count = 0;
        char label[32];

        for (size_t at = status; at < (size_t)(ROUTES_MAX + 1) * METHOD_COUNT * STATUS_COUNT;
             at += STATUS_COUNT) {
            count += sum_loops(server, offsetof(struct loop_metrics, requests) +
                                           at * sizeof(struct metric_counter));
        }
        if (count > 0) {
            (void)snprintf(label, sizeof(label), "status=\"%u\"", STATUSES[status]);
            metrics_sample_u64(out, "http_requests_total", label, count);
        }
    }
}

/*
 * Dashboards and alerts made for the Go ingestor go on working. "Published" is what reached the
 * database, "failed" what it refused.
 */
static void
write_legacy(const struct server *server, const struct journal_stats *stats, struct buffer *out)
{
    struct metric_histogram latency;
    uint64_t stored = 0;
    uint64_t dead = 0;

    for (uint32_t i = 0; i < server->deps.replicator_count; i++) {
        struct replicator_status status;

        replicator_status(server->deps.replicators[i], &status);
        stored += status.stored;
        dead += status.dead;
    }
    metric_histogram_init(&latency, LEGACY_MS_BOUNDS, LEGACY_MS_BOUND_COUNT);
    for (uint32_t i = 0; i < server->loop_count; i++) {
        add_histogram(&latency, &server->loops[i].metrics.ingest_ms);
    }
    one_u64(out, "events_received_total", METRIC_COUNTER,
            "Total number of events received via HTTP", SUM_LOOPS(server, received));
    one_u64(out, "events_published_total", METRIC_COUNTER,
            "Total number of events successfully published to the database", stored);
    one_u64(out, "events_failed_total", METRIC_COUNTER,
            "Total number of events that failed to process", dead);
    one_u64(out, "ingest_queue_size", METRIC_GAUGE,
            "Current number of events in the internal buffer", stats->queued_events);
    metrics_family(out, "ingest_latency_ms", METRIC_HISTOGRAM,
                   "Latency of event processing from ingestion to the durable answer");
    metrics_sample_histogram(out, "ingest_latency_ms", "", &latency);
    write_legacy_requests(server, out);
}

void
exposition_write(const struct server *server, struct buffer *out)
{
    struct journal *journal = server->deps.journal;
    struct buffer labels = BUFFER_EMPTY;
    struct journal_stats stats;

    memset(&stats, 0, sizeof(stats));
    journal->ops->stats(journal->self, &stats);
    metrics_label(&labels, "version", span_of(server_version(server)));
    metrics_family(out, "sluice_build_info", METRIC_GAUGE, "What is running; always 1.");
    metrics_sample_u64(out, "sluice_build_info", label_text(&labels, out), 1);
    buffer_free(&labels);
    write_events(server, out);
    write_http(server, out);
    write_tls(server, out);
    write_keys(server, out);
    write_log(server, &stats, out);
    write_counts(server, out);
    write_replicators(server, out);
    one_f64(out, "sluice_audit_difference_events",
            "Events accepted less those replicated, dead-lettered, known and pending; 0 when all "
            "are accounted for.",
            audit_balance(&server->deps) - server->audit_base);
    write_slo(server, out);
    write_alerts(server, out);
    write_process(server, out);
    if (server->config.metrics_legacy_names) {
        write_legacy(server, &stats, out);
    }
}
