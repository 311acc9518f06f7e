/*
 * alert_judge.h - the thread that judges alerts, keeps their state and passes the news on.
 *
 * A few times a second it judges what has changed; a round that took long is followed by a longer
 * pause, so judging costs one CPU a twentieth at most. What has fired or resolved is in the state
 * file (alerts.state in the log's directory) before the notifier hears of it. It waits for that
 * file's sync and for nothing else: neither for MySQL nor for the network.
 */
#ifndef SLUICE_CLI_ALERT_JUDGE_H
#define SLUICE_CLI_ALERT_JUDGE_H

#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/slo/alerts.h"
#include "core/slo/notifier.h"

struct alert_judge;

struct alert_judge_config {
    struct alerts *alerts; /* borrowed, as are the next three; a new book */
    const struct clock *clock;
    const char *dir;
    const struct notifier *notifier; /* NULL: nobody is told */
    int interval_ms;
};

/*
 * Restores the book and starts the thread. A state file that is missing, damaged or of another
 * version is no error: the book starts empty, and the log says so. ERR_NO_MEMORY, ERR_IO (logged).
 */
MUST_CHECK enum err alert_judge_start(struct alert_judge **out,
                                      const struct alert_judge_config *config);

/* Stops and joins it; the state is stored as it is. NULL allowed. */
void alert_judge_stop(struct alert_judge *judge);

#endif
