/*
 * serve.c - the wiring of the server: who is made of what, in which order it starts and stops.
 *
 * Start: slices, counts <- log (history, then what is pending) <- committer <- replicators <- HTTP.
 * Stop is the reverse, so nobody ever works with a part that is gone. The process may also be
 * killed at any line: what was acked is in the log.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "cli/alert_judge.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/ticker.h"
#include "cli/webhook.h"
#include "core/base/log.h"
#include "core/counts/counts.h"
#include "core/query/archive.h"
#include "core/replicator.h"
#include "core/slo/alerts.h"
#include "core/slo/objectives.h"
#include "core/slo/slices.h"
#include "core/slo/slo.h"
#include "core/slo/thresholds.h"
#include "http/server.h"
#include "storage/mysql_archive.h"
#include "storage/mysql_dead_letters.h"
#include "storage/mysql_objectives.h"
#include "storage/mysql_sink.h"
#include "storage/mysql_windows.h"
#include "wal/wal.h"

enum {
    SERIES_MAX = 10000,
    RETAIN_MINUTES = 92 * 1440,
    BATCH_BYTES_MAX = 8 << 20,
    WATCH_INTERVAL_MS = 100,
    TICK_INTERVAL_MS = 5000,
    IDLE_CHECK_MS = 2000,
    JUDGE_INTERVAL_MS = 200,
    WEBHOOK_BACKOFF_MS = 500,
    WEBHOOK_BACKOFF_MAX_MS = 30000,
    WEBHOOK_STOP_GRACE_MS = 1000,
    WEBHOOK_QUEUE_MAX = 1024,
    PATH_SIZE = 4096,
};

struct app {
    struct options options;
    const struct clock *clock;
    struct slo_config slo;
    struct thresholds *thresholds;
    struct slices *slices;
    struct counts *counts;
    struct mysql_objectives *objectives_store;
    struct dead_letter_store dead_letters; /* ops NULL without a database */
    struct objectives *objectives;
    struct mysql_windows_reader *windows;
    struct requests *requests;
    char objectives_file[PATH_SIZE];
    struct wal *wal;
    struct mysql_config mysql;
    struct mysql_owner owner;
    struct replicator *replicators[JOURNAL_PARTITIONS_MAX];
    uint32_t replicator_count;
    struct ticker *ticker;
    struct event_zones *zones;
    struct archive *archive;
    struct alerts *alerts;
    const struct objective_set *alerts_set; /* what the book of alerts last saw, and ... */
    uint64_t alerts_version;                /* ... how often it was another one */
    struct alert_judge *judge;
    struct webhook *webhook; /* NULL: nobody is told of alerts */
    struct buffer external_url;
    struct tenants *tenants;
    struct tls *tls; /* NULL: plain HTTP */
    struct server *server;
};

/* ---- the two sources of slices and of counts ---- */

static void
on_durable(void *self, const struct append_event *appended)
{
    struct app *app = self;
    struct event event;
    enum err err = event_decode(appended->body, &event);

    ASSERT(err == ERR_OK); /* we encoded it a moment ago */
    event_zones_add(app->zones, appended->seq, &event);
    err = counts_add(app->counts, appended->seq, &event);
    if (err != ERR_OK) {
        log_error("counts.add_failed", LOG_U64("seq", appended->seq), LOG_ERR(err), LOG_END);
    }
    if (event_is_measured(&event)) {
        err = slices_add_event(app->slices, &event, appended->seq, clock_wall_us(app->clock));
        if (err != ERR_OK) {
            log_error("slices.add_failed", LOG_U64("seq", appended->seq), LOG_ERR(err), LOG_END);
        }
    }
}

static enum err
load_slice(void *self, const struct slice_key *key, struct span encoded)
{
    struct app *app = self;
    struct slice slice = {0};
    enum err err = slice_decode_add(encoded, &slice);

    if (err == ERR_OK) {
        err = slices_add(app->slices, key, &slice, clock_wall_us(app->clock));
    }
    slice_clear(&slice);
    return err;
}

static enum err
load_pending(void *self, uint64_t seq, const struct event *event)
{
    struct app *app = self;

    event_zones_add(app->zones, seq, event);
    if (!event_is_measured(event)) {
        return ERR_OK;
    }
    return slices_add_event(app->slices, event, seq, clock_wall_us(app->clock));
}

static enum err
load_uncounted(void *self, uint64_t seq, const struct event *event)
{
    struct app *app = self;

    return counts_add(app->counts, seq, event);
}

/* ---- start ---- */

static void
set_objectives(struct app *app)
{
    const struct options *options = &app->options;
    const int64_t window = (int64_t)options->slo_window_minutes;

    app->slo.objective[0] = (struct slo_objective){
        .id = "default-availability",
        .type = SLO_AVAILABILITY,
        .target = options->slo_target,
        .window_minutes = window,
        .min_bad_events = SLO_MIN_BAD_EVENTS_DEFAULT,
    };
    app->slo.objective[1] = (struct slo_objective){
        .id = "default-latency",
        .type = SLO_LATENCY,
        .target = options->slo_latency_target,
        .threshold_us = (uint32_t)(options->slo_latency_ms * 1000 + 0.5),
        .window_minutes = window,
        .min_bad_events = SLO_MIN_BAD_EVENTS_DEFAULT,
    };
    app->slo.objective_count = 2;
    app->slo.future_us = (int64_t)options->max_future_skew_ms * 1000;
}

/* What the counts' own history does not cover yet is read from the log again. */
static enum err
load_counts(struct app *app)
{
    const struct counts_config config = {
        .clock = app->clock,
        .store = wal_count_store(app->wal),
        .history_bytes_max = app->options.counts_max_bytes,
    };
    const struct journal *journal = wal_journal(app->wal);
    enum err err = counts_new(&app->counts, &config);

    if (err != ERR_OK) {
        return err;
    }
    counts_begin(app->counts, journal->ops->durable_seq(journal->self));
    return wal_each_after(app->wal, counts_counted(app->counts), load_uncounted, app);
}

/* Up to here every partition is in the database and noted to be. */
static uint64_t
settled_seq(void *arg)
{
    const struct app *app = arg;
    struct journal *journal = wal_journal(app->wal);
    uint64_t least = UINT64_MAX;

    for (uint32_t p = 0; p < journal->partitions; p++) {
        uint64_t seq = journal->ops->replicated_seq(journal->self, p);

        least = seq < least ? seq : least;
    }
    return least;
}

/* The definitions of the local copy: in force before the first event is counted. */
static enum err
open_objectives(struct app *app)
{
    struct objectives_config config = {
        .file = app->objectives_file,
        .rules = slices_rules(app->slices),
        .settled_seq = settled_seq,
        .settled_arg = app,
        .future_us = app->slo.future_us,
        .clock = app->clock,
    };

    if (snprintf(app->objectives_file, sizeof(app->objectives_file), "%s/objectives",
                 app->options.wal_dir) >= PATH_SIZE) {
        return ERR_INVALID;
    }
    if (options_has_db(&app->options)) {
        enum err err;

        app->mysql = options_mysql(&app->options);
        err = mysql_objectives_open(&app->objectives_store, &app->mysql,
                                    wal_journal(app->wal)->node_id);
        if (err != ERR_OK) {
            return err;
        }
        config.store = mysql_objectives_store(app->objectives_store);
        err = mysql_windows_reader_open(&app->windows, &app->mysql);
        if (err != ERR_OK) {
            return err;
        }
        err = mysql_dead_letters_new(&app->dead_letters, &app->mysql);
        if (err != ERR_OK) {
            return err;
        }
    }
    return objectives_open(&app->objectives, &config);
}

/* What a service's violations are: counted from the first of its slices on. */
static uint32_t
limits_of(void *arg, struct span tenant, struct span service, struct slices_limit *limits,
          uint32_t max)
{
    const struct app *app = arg;
    const struct objective_set *set = objectives_now(app->objectives);
    const uint32_t count =
        slo_limits(objective_set_config(set, &app->slo, tenant, service), limits);

    ASSERT(count <= max);
    objective_set_release(set);
    return count;
}

static enum err
start_log(struct app *app)
{
    const struct options *options = &app->options;
    struct slices_config slices = {
        .limits = limits_of,
        .limits_arg = app,
        .rules = {.threshold_us = {app->slo.objective[1].threshold_us}, .threshold_count = 1},
        .series_max = SERIES_MAX,
        .retain_minutes = RETAIN_MINUTES,
    };
    const struct wal_config wal = {
        .dir = options->wal_dir,
        .bytes_max = options->wal_max_bytes,
        .retain_bytes = options->wal_retain_bytes,
        .partitions = (uint32_t)options->wal_partitions,
        .queue_events = (uint32_t)options->queue_size,
        .id_window = (uint32_t)options->idempotency_window,
        .counts_bytes_max = options->counts_max_bytes,
        .clock = app->clock,
        .observer = {on_durable, app},
    };
    enum err err = thresholds_new(&app->thresholds);

    if (err == ERR_OK) {
        slices.rules.by_service = app->thresholds;
        err = slices_new(&app->slices, &slices);
    }
    if (err == ERR_OK) {
        err = requests_new(&app->requests, app->slices);
    }
    if (err == ERR_OK) {
        err = event_zones_new(&app->zones);
    }
    if (err == ERR_OK) {
        err = wal_open(&app->wal, &wal);
    }
    if (err == ERR_OK) {
        err = open_objectives(app);
    }
    if (err == ERR_OK) {
        err = wal_each_slice(app->wal, load_slice, app);
    }
    if (err == ERR_OK) {
        err = wal_each_pending(app->wal, load_pending, app);
    }
    if (err == ERR_OK) {
        err = load_counts(app);
    }
    if (err == ERR_OK) {
        err = wal_start(app->wal);
    }
    if (err == ERR_OK) {
        err = counts_start(app->counts);
    }
    return err;
}

static enum err
start_replicator(struct app *app, uint32_t partition)
{
    const struct options *options = &app->options;
    const struct replicator_config config = {
        .partition = partition,
        .batch_events_max = (uint32_t)options->batch_max_events,
        .batch_bytes_max = BATCH_BYTES_MAX,
        .batch_wait_ms = (int)options->batch_max_ms,
        .backoff_ms = (int)options->db_retry_backoff_ms,
        .backoff_max_ms = (int)options->db_retry_backoff_max_ms,
        .idle_check_ms = IDLE_CHECK_MS,
    };
    struct replicator *replicator;
    struct sink sink;
    enum err err =
        mysql_sink_new(&sink, &app->mysql, &app->owner, partition, slices_rules(app->slices));

    if (err != ERR_OK) {
        return err;
    }
    err =
        replicator_new(&replicator, &config, wal_journal(app->wal), sink, app->slices, app->clock);
    if (err != ERR_OK) {
        sink.ops->close(sink.self);
        return err;
    }
    app->replicators[app->replicator_count++] = replicator;
    return replicator_start(replicator);
}

static enum err
start_replicators(struct app *app)
{
    const struct options *options = &app->options;
    const struct journal *journal = wal_journal(app->wal);

    if (!options_has_db(options)) {
        log_warn("serve.no_database", LOG_STR("hint", "events stay in the log; set DB_URL"),
                 LOG_END);
        return ERR_OK;
    }
    if (app->mysql.tls == MYSQL_TLS_REQUIRED && app->mysql.tls_ca == NULL) {
        log_warn("serve.database_not_verified",
                 LOG_STR("hint", "encrypted, but with whom is not checked; add ca=FILE to DB_URL"),
                 LOG_END);
    }
    app->owner.epoch = journal->epoch;
    app->owner.known_instance = wal_knows_instance;
    app->owner.arg = app->wal;
    memcpy(app->owner.node_id, journal->node_id, sizeof(app->owner.node_id));
    memcpy(app->owner.instance, wal_instance(app->wal), sizeof(app->owner.instance));
    for (uint32_t p = 0; p < journal->partitions; p++) {
        enum err err = start_replicator(app, p);

        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

static enum err
start_ticker(struct app *app)
{
    struct ticker_config config = {
        .slices = app->slices,
        .objectives = app->objectives,
        .slo = &app->slo,
        .requests = app->requests,
        .epoch = wal_journal(app->wal)->epoch,
        .clock = app->clock,
        .mysql = options_has_db(&app->options) ? &app->mysql : NULL,
        .dead_letters = app->dead_letters.ops == NULL ? NULL : &app->dead_letters,
        .interval_ms = TICK_INTERVAL_MS,
    };

    memcpy(config.node_id, wal_journal(app->wal)->node_id, sizeof(config.node_id));
    return ticker_start(&app->ticker, &config);
}

static enum err
start_archive(struct app *app)
{
    struct archive_store store;
    enum err err;

    if (!options_has_db(&app->options)) {
        return archive_new(&app->archive, wal_journal(app->wal), app->zones, NULL);
    }
    err = mysql_archive_new(&store, &app->mysql);
    if (err != ERR_OK) {
        return err;
    }
    err = archive_new(&app->archive, wal_journal(app->wal), app->zones, &store);
    if (err != ERR_OK) {
        store.ops->close(store.self);
    }
    return err;
}

/* ---- alerts ---- */

static void
objectives_of(void *arg, struct span tenant, struct span service, struct slo_config *out)
{
    const struct app *app = arg;
    const struct objective_set *set = objectives_now(app->objectives);

    *out = *objective_set_config(set, &app->slo, tenant, service);
    objective_set_release(set);
}

/* The set seen last is kept, so no other one can have its address. */
static uint64_t
objectives_version(void *arg)
{
    struct app *app = arg;
    const struct objective_set *set = objectives_now(app->objectives);

    if (set != app->alerts_set) {
        objective_set_release(app->alerts_set);
        app->alerts_set = set;
        app->alerts_version++;
    } else {
        objective_set_release(set);
    }
    return app->alerts_version;
}

static bool
is_settled(void *arg)
{
    const struct app *app = arg;

    return ticker_settled(app->ticker);
}

static void
each_defined(void *arg, alerts_series_fn *fn, void *fn_arg)
{
    const struct app *app = arg;
    const struct objective_set *set = objectives_now(app->objectives);

    objective_set_each_series(set, fn, fn_arg);
    objective_set_release(set);
}

static void
on_told(void *arg, const struct notice *notice)
{
    const struct app *app = arg;

    alerts_told(app->alerts, notice);
}

/* Where people reach this server, as a C string in app->external_url. */
static void
set_external_url(struct app *app)
{
    const struct options *options = &app->options;
    char host[256] = "localhost";

    if (options->alert_external_url != NULL) {
        buffer_append_text(&app->external_url, options->alert_external_url);
    } else {
        (void)gethostname(host, sizeof(host) - 1);
        buffer_printf(&app->external_url, "%s://%s:%llu",
                      options->tls_cert_file == NULL ? "http" : "https", host,
                      (unsigned long long)options->http_port);
    }
    buffer_append_char(&app->external_url, '\0');
}

static enum err
start_webhook(struct app *app)
{
    const struct options *options = &app->options;
    struct webhook_config config = {
        .url = options->alert_webhook_url,
        .format = options_webhook_format(options),
        .token = options->alert_webhook_token,
        .header = options->alert_webhook_header,
        .version = SLUICE_VERSION,
        .timeout_ms = (int)options->alert_webhook_timeout_ms,
        .backoff_ms = WEBHOOK_BACKOFF_MS,
        .backoff_max_ms = WEBHOOK_BACKOFF_MAX_MS,
        .stop_grace_ms = WEBHOOK_STOP_GRACE_MS,
        .repeat_us = (int64_t)options->alert_repeat_ms * 1000,
        .queue_max = WEBHOOK_QUEUE_MAX,
        .clock = app->clock,
        .told = on_told,
        .told_arg = app,
    };

    if (options->alert_webhook_url == NULL) {
        return ERR_OK;
    }
    set_external_url(app);
    if (app->external_url.failed) {
        return ERR_NO_MEMORY;
    }
    config.external_url = app->external_url.data;
    return webhook_start(&app->webhook, &config);
}

static enum err
start_alerts(struct app *app)
{
    const struct alerts_config book = {
        .slices = app->slices,
        .objectives = objectives_of,
        .objectives_version = objectives_version,
        .objectives_arg = app,
        .each_defined = each_defined,
        .settled = is_settled,
        .settled_arg = app,
    };
    struct alert_judge_config config = {
        .clock = app->clock,
        .dir = app->options.wal_dir,
        .interval_ms = JUDGE_INTERVAL_MS,
    };
    enum err err = alerts_new(&app->alerts, &book);

    if (err == ERR_OK) {
        err = start_webhook(app);
    }
    if (err == ERR_OK) {
        config.alerts = app->alerts;
        config.notifier = app->webhook == NULL ? NULL : webhook_notifier(app->webhook);
        err = alert_judge_start(&app->judge, &config);
    }
    return err;
}

static uint32_t
http_threads(const struct options *options)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    if (options->http_threads > 0) {
        return (uint32_t)options->http_threads;
    }
    return cpus > 2 ? (uint32_t)(cpus - 1) : 1;
}

static enum err
start_http(struct app *app)
{
    const struct options *options = &app->options;
    const struct server_config config = {
        .host = options->http_host,
        .port = (uint16_t)options->http_port,
        .threads = http_threads(options),
        .body_bytes_max = options->max_body_bytes,
        .event_bytes_max = options->max_event_bytes,
        .bulk_events_max = (uint32_t)options->max_bulk_events,
        .buffered_bytes_max = options->max_buffered_bytes,
        .connections_max = (uint32_t)options->max_connections,
        .read_timeout_ms = (int)options->http_read_timeout_ms,
        .idle_timeout_ms = (int)options->http_idle_timeout_ms,
        .future_skew_max_us = (int64_t)options->max_future_skew_ms * 1000,
        .rate = options->rate_limit_rps,
        .rate_burst = options->rate_limit_burst,
        .ready_requires_db = options->ready_requires_db,
        .metrics_legacy_names = options->metrics_legacy_names,
        .cors_origins = options->cors_allow_origins,
        .has_db = options_has_db(options),
        .version = SLUICE_VERSION,
    };
    const struct server_deps deps = {
        .journal = wal_journal(app->wal),
        .slices = app->slices,
        .slo = &app->slo,
        .counts = app->counts,
        .alerts = app->alerts,
        .notifier = app->webhook == NULL ? NULL : webhook_notifier(app->webhook),
        .objectives = app->objectives,
        .requests = app->requests,
        .history = app->windows == NULL ? NULL : mysql_windows_history(app->windows),
        .clock = app->clock,
        .archive = app->archive,
        .dead_letters = app->dead_letters.ops == NULL ? NULL : &app->dead_letters,
        .tenants = app->tenants,
        .tls = app->tls,
        .replicators = app->replicators,
        .replicator_count = app->replicator_count,
    };
    enum err err = server_open(&app->server, &config, &deps);

    if (err == ERR_OK) {
        err = server_start(app->server);
    }
    if (err == ERR_OK) {
        log_info("server.listening", LOG_STR("host", options->http_host),
                 LOG_U64("port", server_port(app->server)), LOG_U64("threads", config.threads),
                 LOG_BOOL("tls", app->tls != NULL), LOG_I64("pid", getpid()), LOG_END);
    }
    return err;
}

/* ---- while it runs ---- */

static void
block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit shows as an error of the write */
}

static enum err
found_fatal(struct app *app)
{
    enum err err = wal_failure(app->wal);

    for (uint32_t i = 0; err == ERR_OK && i < app->replicator_count; i++) {
        err = replicator_fatal(app->replicators[i]);
    }
    return err;
}

static void
log_keys(const char *event, const struct tenants *tenants)
{
    struct tenants_stats stats;

    tenants_stats(tenants, &stats);
    log_info(event, LOG_U64("keys", stats.keys), LOG_U64("tenants", stats.tenants), LOG_END);
}

static void
log_certificate(const struct app *app, const char *event)
{
    const int64_t now_s = clock_wall_us(app->clock) / 1000000;
    const int64_t left_s = tls_expires_s(app->tls) - now_s;

    log_info(event, LOG_STR("cert_file", app->options.tls_cert_file),
             LOG_BOOL("client_certificates", app->options.tls_client_ca_file != NULL),
             LOG_I64("days_left", left_s / 86400), LOG_END);
    if (left_s <= 0) {
        log_warn("serve.certificate_expired", LOG_STR("cert_file", app->options.tls_cert_file),
                 LOG_END);
    }
}

/* What a file did not bring stays as it was; EVENT says so. */
static void
log_kept(const char *event, enum err err, struct buffer *problem)
{
    buffer_append_char(problem, '\0');
    log_error(event, LOG_ERR(err), LOG_STR("cause", problem->failed ? "" : problem->data), LOG_END);
}

static void
reload_keys(struct app *app)
{
    struct buffer problem = BUFFER_EMPTY;
    enum err err = tenants_reload(app->tenants, &problem);

    if (err == ERR_OK) {
        log_keys("serve.keys_reloaded", app->tenants);
    } else {
        log_kept("serve.keys_kept", err, &problem);
    }
    buffer_free(&problem);
}

static void
reload_certificate(struct app *app)
{
    struct buffer problem = BUFFER_EMPTY;
    enum err err = tls_reload(app->tls, &problem);

    if (err == ERR_OK) {
        log_certificate(app, "serve.certificate_reloaded");
    } else {
        log_kept("serve.certificate_kept", err, &problem);
    }
    buffer_free(&problem);
}

/* SIGHUP: who is given a key or loses one needs no restart, nor does a new certificate. */
static void
reload(struct app *app)
{
    if (app->options.api_keys_file != NULL) {
        reload_keys(app);
    }
    if (app->tls != NULL) {
        reload_certificate(app);
    }
    if (app->options.api_keys_file == NULL && app->tls == NULL) {
        log_info("serve.nothing_to_reload",
                 LOG_STR("hint", "API_KEYS_FILE and TLS_CERT_FILE are not set"), LOG_END);
    }
}

/* Waits for a signal to stop (ERR_OK) or for something the process must not go on with. */
static enum err
watch(struct app *app, const sigset_t *set)
{
    const struct timespec interval = {0, WATCH_INTERVAL_MS * 1000000L};

    for (;;) {
        int signal_number = sigtimedwait(set, NULL, &interval);
        enum err err;

        if (signal_number == SIGTERM || signal_number == SIGINT) {
            log_info("serve.stopping", LOG_I64("signal", signal_number), LOG_END);
            return ERR_OK;
        }
        if (signal_number == SIGHUP) {
            reload(app);
        }
        err = found_fatal(app);
        if (err != ERR_OK) {
            log_error("serve.fatal", LOG_ERR(err), LOG_STR("meaning", err_text(err)), LOG_END);
            return err;
        }
    }
}

/* ---- stop ---- */

/*
 * A replicator may be stuck in a call to a hung MySQL for as long as DB_TIMEOUT_MS. Everything
 * acked is in the log, so when time is up the process simply ends.
 */
struct stop_guard {
    struct timespec limit;
    int exit_code;
};

static void *
guard_stop(void *arg)
{
    struct stop_guard *guard = arg;

    while (nanosleep(&guard->limit, &guard->limit) != 0 && errno == EINTR) {
    }
    log_warn("serve.stop_forced", LOG_STR("hint", "what is not in MySQL yet is in the log"),
             LOG_END);
    _exit(guard->exit_code);
}

static void
start_stop_guard(uint64_t timeout_ms, int exit_code)
{
    static struct stop_guard guard; /* outlives everything */
    pthread_t thread;

    guard.limit.tv_sec = (time_t)(timeout_ms / 1000);
    guard.limit.tv_nsec = (long)(timeout_ms % 1000) * 1000000L;
    guard.exit_code = exit_code;
    if (pthread_create(&thread, NULL, guard_stop, &guard) == 0) {
        pthread_detach(thread);
    }
}

static void
stop(struct app *app, bool drain)
{
    const int timeout_ms = (int)app->options.shutdown_timeout_ms;
    const int64_t began_us = clock_monotonic_us(app->clock);

    if (app->server != NULL) {
        server_stop(app->server, drain ? timeout_ms / 20 : 0, timeout_ms / 2);
    }
    webhook_stop(app->webhook); /* before the judge, which stores what has been told */
    alert_judge_stop(app->judge);
    for (uint32_t i = 0; i < app->replicator_count; i++) {
        int64_t spent_ms = (clock_monotonic_us(app->clock) - began_us) / 1000;
        int64_t left_ms = timeout_ms * 9 / 10 - spent_ms;

        replicator_stop(app->replicators[i], drain && left_ms > 0 ? (int)left_ms : 0);
    }
    ticker_stop(app->ticker);
    counts_stop(app->counts);
    if (app->wal != NULL) {
        wal_stop(app->wal);
    }
}

static void
release(struct app *app)
{
    server_close(app->server);
    archive_free(app->archive);
    for (uint32_t i = 0; i < app->replicator_count; i++) {
        replicator_free(app->replicators[i]);
    }
    counts_free(app->counts);
    wal_close(app->wal);
    webhook_free(app->webhook);
    alerts_free(app->alerts);
    objective_set_release(app->alerts_set);
    buffer_free(&app->external_url);
    requests_free(app->requests);
    event_zones_free(app->zones);
    slices_free(app->slices);
    objectives_close(app->objectives);
    mysql_objectives_close(app->objectives_store);
    mysql_windows_reader_close(app->windows);
    if (app->dead_letters.ops != NULL) {
        app->dead_letters.ops->close(app->dead_letters.self);
    }
    thresholds_free(app->thresholds);
    tenants_free(app->tenants);
    tls_close(app->tls);
    options_free(&app->options);
}

int
command_serve(int argc, char **argv)
{
    struct app app = {.clock = clock_system()};
    struct buffer problem = BUFFER_EMPTY;
    sigset_t signals;
    enum err err = options_read(&app.options, argc, argv, &problem);
    int code;

    if (err == ERR_OK) {
        err = options_tenants(&app.options, app.clock, &app.tenants, &problem);
        options_forget_keys(&app.options);
    }
    if (err == ERR_OK) {
        err = options_tls(&app.options, &app.tls, &problem);
    }
    if (err != ERR_OK) {
        fprintf(stderr, "sluice: %.*s\n", (int)problem.len,
                problem.data == NULL ? "" : problem.data);
        buffer_free(&problem);
        tenants_free(app.tenants);
        options_free(&app.options);
        return EXIT_USAGE;
    }
    log_setup((enum log_level)app.options.log_level, (enum log_format)app.options.log_format, 1);
    block_signals(&signals);
    mysql_library_start();
    set_objectives(&app);
    if (tenants_have_keys(app.tenants)) {
        log_keys("serve.keys_loaded", app.tenants);
    }
    if (app.tls != NULL) {
        log_certificate(&app, "serve.certificate_loaded");
    }
    err = start_log(&app);
    if (err == ERR_OK) {
        err = start_replicators(&app);
    }
    if (err == ERR_OK) {
        err = start_ticker(&app);
    }
    if (err == ERR_OK) {
        err = start_archive(&app);
    }
    if (err == ERR_OK) {
        err = start_alerts(&app);
    }
    if (err == ERR_OK) {
        err = start_http(&app);
    }
    if (err == ERR_OK) {
        err = watch(&app, &signals);
    } else {
        log_error("serve.start_failed", LOG_ERR(err), LOG_STR("meaning", err_text(err)), LOG_END);
    }
    code = err == ERR_OK ? EXIT_GOOD : EXIT_WRONG;
    start_stop_guard(app.options.shutdown_timeout_ms, code);
    stop(&app, err == ERR_OK);
    release(&app);
    mysql_library_stop();
    log_info("serve.stopped", LOG_I64("code", code), LOG_END);
    return code;
}
