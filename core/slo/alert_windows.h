/*
 * alert_windows.h - the windows of one series at one moment, each fetched once and only when asked
 * for, and what readers see of an alert by them.
 *
 * On the caller's stack; one thread.
 */
#ifndef SLUICE_CORE_ALERT_WINDOWS_H
#define SLUICE_CORE_ALERT_WINDOWS_H

#include "core/slo/alerts.h"

enum {
    /* A service has that many objectives at most, and one that is no more may be told of. */
    ALERT_WINDOWS_MAX = (SLO_OBJECTIVES_MAX + 1) * (2 * ALERT_RULES + 1)
};

struct alert_window_sum {
    int64_t minutes;
    struct slice sum;
};

struct alert_windows {
    struct slices *slices;
    struct span tenant;
    struct span service;
    int64_t now_us;
    int64_t now; /* first minute after the running one: windows count back from here ... */
    int64_t end; /* ... and reach to the last minute an accepted event may be in */
    struct alert_window_sum item[ALERT_WINDOWS_MAX];
    uint32_t count;
    const struct slo_objective *objective; /* whose sense of good is asked for */
};

/* SLICES and the names are borrowed; FUTURE_US is how far ahead of NOW_US events may be. */
void alert_windows_open(struct alert_windows *windows, struct slices *slices, struct span tenant,
                        struct span service, int64_t now_us, int64_t future_us);
void alert_windows_close(struct alert_windows *windows);

/* An alert_window_fn over a struct alert_windows, in the sense of its OBJECTIVE. */
MUST_CHECK enum err alert_windows_get(void *arg, int64_t minutes, struct alert_window *out);

/* Fills *VIEW: one alert with all its windows. ERR_NO_MEMORY. */
MUST_CHECK enum err alert_view_fill(struct alert_view *view, struct alert_windows *windows,
                                    const struct slo_objective *objective,
                                    enum alert_severity severity, const struct alert_state *state);

#endif
