#include "cli/ticker.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "core/log.h"
#include "storage/mysql_history.h"

enum {
    EXPIRE_INTERVAL_US = 60000000
};

struct ticker {
    struct ticker_config config;
    struct mysql_history *history;
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

/* The store logs what goes wrong; a refresh that failed is asked for again next time. */
static void
refresh_objectives(struct ticker *ticker)
{
    if (ticker->config.objectives != NULL) {
        enum err err = objectives_refresh(ticker->config.objectives);

        (void)err;
    }
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

    do {
        if (ticker->history != NULL) {
            load_history(ticker, &last);
        }
        refresh_objectives(ticker);
        if (clock_monotonic_us(clock) - expired_us >= EXPIRE_INTERVAL_US) {
            expired_us = clock_monotonic_us(clock);
            slices_expire(ticker->config.slices, clock_wall_us(clock));
        }
    } while (!wait_interval(ticker));
    return NULL;
}

static void
ticker_free(struct ticker *ticker)
{
    mysql_history_close(ticker->history);
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
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&ticker->lock, NULL);
    pthread_cond_init(&ticker->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (config->mysql != NULL) {
        err = mysql_history_open(&ticker->history, config->mysql, config->node_id);
    }
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
