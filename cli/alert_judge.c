#include "cli/alert_judge.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/base/log.h"
#include "core/base/whole_file.h"

enum {
    SHARE = 20, /* of the time it judges at most one part in so many */
};

#define FILE_BYTES_MAX ((size_t)64 << 20)

struct alert_judge {
    struct alert_judge_config config;
    char path[WHOLE_FILE_PATH_SIZE];
    bool save_failed; /* the last time; the thread's own */
    pthread_t thread;
    pthread_mutex_t lock; /* guards STOPPING */
    pthread_cond_t wake;
    bool stopping;
};

static void
restore(const struct alert_judge *judge)
{
    struct buffer bytes = BUFFER_EMPTY;
    enum err err = whole_file_read(judge->path, FILE_BYTES_MAX, &bytes);

    if (err == ERR_OK) {
        err = alerts_restore(judge->config.alerts, buffer_span(&bytes));
    }
    if (err == ERR_OK) {
        log_info("alerts.restored", LOG_U64("bytes", bytes.len), LOG_END);
    } else if (err != ERR_NOT_FOUND) {
        log_error("alerts.state_lost", LOG_STR("file", judge->path), LOG_ERR(err),
                  LOG_STR("meaning", err_text(err)),
                  LOG_STR("hint", "alerts begin anew; what still burns fires again"), LOG_END);
    }
    buffer_free(&bytes);
}

static void
save(struct alert_judge *judge, const struct alerts_cut *cut)
{
    const struct span bytes = buffer_span(&cut->bytes);
    enum err err = whole_file_write(judge->path, &bytes, 1);

    if (err != ERR_OK) {
        if (!judge->save_failed) {
            log_error("alerts.save_failed", LOG_STR("file", judge->path), LOG_ERR(err),
                      LOG_STR("cause", strerror(errno)), LOG_END);
        }
        alerts_unsaved(judge->config.alerts);
    } else if (judge->save_failed) {
        log_info("alerts.save_recovered", LOG_END);
    }
    judge->save_failed = err != ERR_OK;
}

static void
tell(struct alert_judge *judge, const struct alerts_cut *cut)
{
    const struct notifier *notifier = judge->config.notifier;

    for (size_t i = 0; notifier != NULL && i < cut->notice_count; i++) {
        if (notifier->ops->notify(notifier->self, &cut->notices[i]) != ERR_OK) {
            alerts_untold(judge->config.alerts, &cut->notices[i]); /* counted by the notifier */
        }
    }
}

/* Stores and tells what is due. STOPPING: stores all there is, and begins to tell nothing. */
static void
hand_on(struct alert_judge *judge, bool stopping)
{
    const struct notifier *notifier = judge->config.notifier;
    const int64_t now_us = clock_wall_us(judge->config.clock);
    int64_t repeat_us = notifier == NULL || stopping ? -1 : notifier->repeat_us;
    struct alerts_cut cut;

    do {
        if (alerts_collect(judge->config.alerts, now_us, repeat_us, stopping, &cut) != ERR_OK) {
            return; /* no memory now; nothing has been lost */
        }
        if (cut.bytes_due) {
            save(judge, &cut);
        }
        /* An alert that cannot be stored had better be told twice than not at all. */
        tell(judge, &cut);
        alerts_cut_free(&cut);
    } while (cut.was_full);
}

/* True when it is time to stop. */
static bool
wait_ms(struct alert_judge *judge, int64_t pause_ms)
{
    struct timespec until;
    bool stopping;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += pause_ms / 1000;
    until.tv_nsec += (long)(pause_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&judge->lock);
    while (!judge->stopping &&
           pthread_cond_timedwait(&judge->wake, &judge->lock, &until) != ETIMEDOUT) {
    }
    stopping = judge->stopping;
    pthread_mutex_unlock(&judge->lock);
    return stopping;
}

static void *
run(void *arg)
{
    struct alert_judge *judge = arg;
    const struct clock *clock = judge->config.clock;
    int64_t spent_ms;

    do {
        int64_t began_us = clock_monotonic_us(clock);

        alerts_judge(judge->config.alerts, clock_wall_us(clock));
        spent_ms = (clock_monotonic_us(clock) - began_us) / 1000;
        hand_on(judge, false);
    } while (!wait_ms(judge, spent_ms * SHARE > judge->config.interval_ms
                                 ? spent_ms * SHARE
                                 : judge->config.interval_ms));
    hand_on(judge, true);
    return NULL;
}

static void
judge_free(struct alert_judge *judge)
{
    pthread_mutex_destroy(&judge->lock);
    pthread_cond_destroy(&judge->wake);
    free(judge);
}

enum err
alert_judge_start(struct alert_judge **out, const struct alert_judge_config *config)
{
    struct alert_judge *judge = calloc(1, sizeof(*judge));
    pthread_condattr_t monotonic;

    if (judge == NULL) {
        return ERR_NO_MEMORY;
    }
    judge->config = *config;
    if (snprintf(judge->path, sizeof(judge->path), "%s/alerts.state", config->dir) >=
        WHOLE_FILE_PATH_SIZE) {
        log_error("alerts.path_too_long", LOG_STR("dir", config->dir), LOG_END);
        free(judge);
        return ERR_IO;
    }
    restore(judge);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&judge->lock, NULL);
    pthread_cond_init(&judge->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (pthread_create(&judge->thread, NULL, run, judge) != 0) {
        log_error("alerts.no_thread", LOG_END);
        judge_free(judge);
        return ERR_IO;
    }
    *out = judge;
    return ERR_OK;
}

void
alert_judge_stop(struct alert_judge *judge)
{
    if (judge == NULL) {
        return;
    }
    pthread_mutex_lock(&judge->lock);
    judge->stopping = true;
    pthread_cond_signal(&judge->wake);
    pthread_mutex_unlock(&judge->lock);
    pthread_join(judge->thread, NULL);
    judge_free(judge);
}
