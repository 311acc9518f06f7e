#include "cli/ticker.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "core/base/log.h"
#include "core/slo/slo_warm.h"
#include "storage/mysql_history.h"
#include "storage/mysql_requests.h"
#include "storage/mysql_windows.h"

enum {
    EXPIRE_INTERVAL_US = 60000000,
    OWN_HISTORY_MINUTES = 92 * 1440,
    SETTLE_MAX_US = 60000000,
    SILENT_BACK_MAX = 10, /* minutes looked back for rows without traffic */
};

struct ticker {
    struct ticker_config config;
    struct mysql_history *history;
    struct mysql_windows *windows;
    int64_t windows_minute; /* the running minute when windows were last brought up to date */
    bool windows_more;      /* and that was not all */
    struct mysql_requests *requests;
    int64_t requests_minute; /* the running minute when they were last written */
    int64_t silent_minute;   /* rows without traffic are there for all minutes before this */
    int64_t started_us;      /* of the monotonic clock */
    _Atomic bool asked;      /* the database for other nodes' slices, whatever it answered */
    pthread_t thread;
    pthread_mutex_t lock; /* guards STOPPING */
    pthread_cond_t wake;
    bool stopping;
};

static enum err
take_slice(void *arg, uint64_t source, const struct slice_key *key, struct span encoded)
{
    struct ticker *ticker = arg;
    struct slice slice = {0};
    enum err err = slice_decode_add(encoded, &slice);

    if (err == ERR_OK) {
        err = slices_set_foreign(ticker->config.slices, source, key, &slice,
                                 clock_wall_us(ticker->config.clock));
    }
    if (err != ERR_OK && err != ERR_NO_MEMORY) {
        log_error("ticker.slice_damaged", LOG_I64("minute", key->minute), LOG_ERR(err), LOG_END);
        err = ERR_OK; /* one bad row must not hide the others */
    }
    slice_clear(&slice);
    return err;
}

static void
load_history(struct ticker *ticker, enum err *last)
{
    enum err err = mysql_history_load(ticker->history, take_slice, ticker);

    if (err != *last) {
        *last = err;
        if (err == ERR_OK) {
            log_info("ticker.history_loaded", LOG_END);
        } else if (err != ERR_NOT_FOUND) {
            log_warn("ticker.history_unavailable", LOG_ERR(err), LOG_END);
        }
    }
}

/* The store logs what goes wrong. */
static void
count_letters(struct ticker *ticker)
{
    const struct dead_letter_store *store = ticker->config.dead_letters;

    if (store != NULL) {
        enum err err = store->ops->count(store->self);

        (void)err;
    }
}

/* The store logs what goes wrong; a refresh that failed is asked for again next time. */
static void
refresh_objectives(struct ticker *ticker)
{
    if (ticker->config.objectives != NULL) {
        enum err err = objectives_refresh(ticker->config.objectives);

        (void)err;
    }
}

/* ---- slo_windows ---- */

struct series_name {
    size_t tenant_at;
    size_t tenant_len;
    size_t service_at;
    size_t service_len;
};

/* The names of all series, copied: the store's lock is not held while they are written. */
struct series_list {
    struct buffer text;
    struct buffer names; /* of struct series_name */
};

static void
add_series(void *arg, struct span tenant, struct span service)
{
    struct series_list *list = arg;
    const size_t at = list->text.len;

    if (span_is(tenant, REQUESTS_TENANT)) {
        return; /* no events, no rows */
    }
    buffer_append_span(&list->text, tenant);
    buffer_append_span(&list->text, service);
    buffer_append(&list->names, &(struct series_name){at, tenant.len, at + tenant.len, service.len},
                  sizeof(struct series_name));
}

/* The list as spans, in a block of its own; NULL without memory. */
static struct mysql_windows_series *
series_of(const struct series_list *list, size_t count)
{
    struct mysql_windows_series *series = calloc(count + 1, sizeof(*series));

    for (size_t i = 0; series != NULL && i < count; i++) {
        struct series_name name;

        memcpy(&name, list->names.data + i * sizeof(name), sizeof(name));
        series[i].tenant = (struct span){list->text.data + name.tenant_at, name.tenant_len};
        series[i].service = (struct span){list->text.data + name.service_at, name.service_len};
    }
    return series;
}

/* Rows for the minutes in which a service said nothing. */
static enum err
write_silence(struct ticker *ticker, int64_t now_minute)
{
    struct series_list list = {BUFFER_EMPTY, BUFFER_EMPTY};
    struct mysql_windows_series *series = NULL;
    enum err err = ERR_NO_MEMORY;
    size_t count;

    if (ticker->silent_minute < now_minute - SILENT_BACK_MAX) {
        ticker->silent_minute = now_minute - SILENT_BACK_MAX;
    }
    slices_each_series(ticker->config.slices, add_series, &list);
    count = list.names.len / sizeof(struct series_name);
    if (!list.text.failed && !list.names.failed) {
        series = series_of(&list, count);
        err = series == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    while (err == ERR_OK && ticker->silent_minute < now_minute) {
        err = mysql_windows_add_silent(ticker->windows, ticker->silent_minute, series, count);
        ticker->silent_minute += err == ERR_OK ? 1 : 0;
    }
    free(series);
    buffer_free(&list.text);
    buffer_free(&list.names);
    return err;
}

/* Once a minute, and at each tick while there is something to catch up with. */
static void
update_windows(struct ticker *ticker)
{
    const int64_t now_minute = minute_of_us(clock_wall_us(ticker->config.clock));
    const struct objective_set *objectives = objectives_now(ticker->config.objectives);
    const struct mysql_windows_rules rules = {objectives, ticker->config.slo, now_minute};
    enum err err;

    if (now_minute != ticker->windows_minute || ticker->windows_more) {
        err = mysql_windows_update(ticker->windows, &rules, &ticker->windows_more);
        if (err == ERR_OK && !ticker->windows_more) {
            err = write_silence(ticker, now_minute);
        }
        if (err == ERR_OK) {
            ticker->windows_minute = now_minute;
        }
    }
    objective_set_release(objectives);
}

/* ---- the server's own requests ---- */

static enum err
take_own_slice(void *arg, bool own, uint64_t source, int64_t minute, struct span encoded)
{
    struct ticker *ticker = arg;
    const int64_t now_us = clock_wall_us(ticker->config.clock);
    const struct slice_key key = {SPAN_LITERAL(REQUESTS_TENANT), SPAN_LITERAL(REQUESTS_SERVICE),
                                  minute};
    struct slice slice = {0};
    enum err err = slice_decode_add(encoded, &slice);

    if (err == ERR_OK && own) {
        err = slices_add(ticker->config.slices, &key, &slice, now_us);
    } else if (err == ERR_OK) {
        err = slices_set_foreign(ticker->config.slices, source, &key, &slice, now_us);
    }
    slice_clear(&slice);
    if (err == ERR_CORRUPT || err == ERR_FORMAT) {
        log_error("ticker.own_slice_damaged", LOG_I64("minute", minute), LOG_ERR(err), LOG_END);
        err = ERR_OK;
    }
    return err;
}

/* Writes the gathered minutes before BEFORE. */
static enum err
write_requests(struct ticker *ticker, int64_t before)
{
    const struct requests_fold *fold;
    enum err err = ERR_OK;

    while (err == ERR_OK && (fold = requests_oldest(ticker->config.requests, before)) != NULL) {
        err = mysql_requests_add(ticker->requests, fold);
        if (err == ERR_OK || err == ERR_UNKNOWN) { /* twice would be worse than not at all */
            requests_drop_oldest(ticker->config.requests);
        }
    }
    return err;
}

/* At each tick into memory, once a minute into the database and from other processes. */
static void
update_requests(struct ticker *ticker)
{
    const int64_t now_us = clock_wall_us(ticker->config.clock);
    const int64_t now_minute = minute_of_us(now_us);
    enum err err;

    requests_collect(ticker->config.requests, now_us);
    if (ticker->requests == NULL || now_minute == ticker->requests_minute) {
        return;
    }
    err = mysql_requests_load(ticker->requests, now_minute - OWN_HISTORY_MINUTES, take_own_slice,
                              ticker);
    if (err == ERR_OK) {
        err = write_requests(ticker, now_minute);
    }
    if (err == ERR_OK) {
        ticker->requests_minute = now_minute;
    }
}

/* What this process has noted last; with the database away it is lost. */
static void
finish_requests(struct ticker *ticker)
{
    if (ticker->requests != NULL) {
        enum err err;

        requests_collect(ticker->config.requests, clock_wall_us(ticker->config.clock));
        err = write_requests(ticker, INT64_MAX);
        if (err != ERR_OK) {
            log_warn("ticker.requests_lost", LOG_ERR(err), LOG_END);
        }
    }
}

/* Before the first reader asks, if it can be. */
static void
warm_up(struct ticker *ticker)
{
    const struct objective_set *objectives = objectives_now(ticker->config.objectives);

    slo_warm_up(ticker->config.slices, objectives, ticker->config.slo,
                clock_wall_us(ticker->config.clock));
    objective_set_release(objectives);
}

/* True when it is time to stop. */
static bool
wait_interval(struct ticker *ticker)
{
    struct timespec until;
    bool stopping;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ticker->config.interval_ms / 1000;
    until.tv_nsec += (long)(ticker->config.interval_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&ticker->lock);
    while (!ticker->stopping &&
           pthread_cond_timedwait(&ticker->wake, &ticker->lock, &until) != ETIMEDOUT) {
    }
    stopping = ticker->stopping;
    pthread_mutex_unlock(&ticker->lock);
    return stopping;
}

static void *
run(void *arg)
{
    struct ticker *ticker = arg;
    const struct clock *clock = ticker->config.clock;
    int64_t expired_us = clock_monotonic_us(clock);
    enum err last = ERR_TIMEOUT; /* so that the first answer, good or bad, is logged */

    if (ticker->config.slo != NULL) {
        warm_up(ticker);
    }
    do {
        if (ticker->history != NULL) {
            load_history(ticker, &last);
        }
        atomic_store_explicit(&ticker->asked, true, memory_order_release);
        if (last == ERR_OK) {
            count_letters(ticker);
        }
        refresh_objectives(ticker);
        if (ticker->windows != NULL) {
            update_windows(ticker);
        }
        if (ticker->config.requests != NULL) {
            update_requests(ticker);
        }
        if (clock_monotonic_us(clock) - expired_us >= EXPIRE_INTERVAL_US) {
            expired_us = clock_monotonic_us(clock);
            slices_expire(ticker->config.slices, clock_wall_us(clock));
        }
    } while (!wait_interval(ticker));
    finish_requests(ticker);
    return NULL;
}

static void
ticker_free(struct ticker *ticker)
{
    mysql_history_close(ticker->history);
    mysql_windows_close(ticker->windows);
    mysql_requests_close(ticker->requests);
    pthread_mutex_destroy(&ticker->lock);
    pthread_cond_destroy(&ticker->wake);
    free(ticker);
}

enum err
ticker_start(struct ticker **out, const struct ticker_config *config)
{
    struct ticker *ticker = calloc(1, sizeof(*ticker));
    pthread_condattr_t monotonic;
    enum err err = ERR_OK;

    if (ticker == NULL) {
        return ERR_NO_MEMORY;
    }
    ticker->config = *config;
    ticker->started_us = clock_monotonic_us(config->clock);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&ticker->lock, NULL);
    pthread_cond_init(&ticker->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (config->mysql != NULL) {
        err = mysql_history_open(&ticker->history, config->mysql, config->node_id);
    }
    if (err == ERR_OK && config->mysql != NULL && config->slo != NULL) {
        err = mysql_windows_open(&ticker->windows, config->mysql);
    }
    if (err == ERR_OK && config->mysql != NULL && config->requests != NULL) {
        err = mysql_requests_open(&ticker->requests, config->mysql, config->node_id, config->epoch);
    }
    ticker->silent_minute = minute_of_us(clock_wall_us(config->clock));
    if (err == ERR_OK && pthread_create(&ticker->thread, NULL, run, ticker) != 0) {
        err = ERR_IO;
    }
    if (err != ERR_OK) {
        ticker_free(ticker);
        return err;
    }
    *out = ticker;
    return ERR_OK;
}

bool
ticker_settled(const struct ticker *ticker)
{
    return ticker->history == NULL || atomic_load_explicit(&ticker->asked, memory_order_acquire) ||
           clock_monotonic_us(ticker->config.clock) - ticker->started_us >= SETTLE_MAX_US;
}

void
ticker_stop(struct ticker *ticker)
{
    if (ticker == NULL) {
        return;
    }
    pthread_mutex_lock(&ticker->lock);
    ticker->stopping = true;
    pthread_cond_signal(&ticker->wake);
    pthread_mutex_unlock(&ticker->lock);
    pthread_join(ticker->thread, NULL);
    ticker_free(ticker);
}
