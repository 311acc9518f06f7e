/*
 * alerts_internal.h - the book of alerts as its files see it: alerts.c, alerts_codec.c for its
 * bytes, alerts_tell.c for what leaves it.
 */
#ifndef SLUICE_CORE_ALERTS_INTERNAL_H
#define SLUICE_CORE_ALERTS_INTERNAL_H

#include <pthread.h>

#include "core/slo/alerts.h"

/* A change of one alert, as far as somebody else has got to know it. */
struct told {
    uint8_t status;   /* enum alert_status; ALERT_OK: nothing yet */
    int64_t fired_us; /* which episode */
};

/* One objective of one service. */
struct watched {
    char id[sizeof(((struct slo_objective *)0)->id)];
    bool seen; /* in the present round over all */
    struct alert_state state[ALERT_SEVERITIES];
    struct told told[ALERT_SEVERITIES];   /* confirmed by the receiver */
    struct told queued[ALERT_SEVERITIES]; /* given to the notifier */
    int64_t queued_us[ALERT_SEVERITIES];
};

enum {
    WATCHED_MAX = 2 * SLO_OBJECTIVES_MAX /* per series, with those whose objective is no more */
};

struct watched_series {
    struct span tenant; /* both in one block behind the struct */
    struct span service;
    struct watched *watched;
    uint32_t count;
    uint32_t capacity;
    bool seen;          /* in the present round over all */
    int64_t missing_us; /* when the store of slices was first without it; 0: it is there */
};

struct alerts {
    struct alerts_config config;
    struct metric_histogram judge_seconds;
    pthread_mutex_t lock; /* guards all below; a series of the store may be locked under it */
    struct watched_series **series; /* by (tenant, service) */
    uint32_t count;
    uint32_t capacity;
    bool settled;            /* config.settled() has said so */
    int64_t judged_minute;   /* of the last round over all ... */
    uint64_t judged_version; /* ... and of the objectives then */
    int64_t saved_us;
    bool urgent; /* fired, resolved or confirmed since the last cut */
    bool dirty;  /* anything else changed */
    struct alerts_stats stats;
};

/* NULL when it is not there. Lock held, also for the next. */
struct watched_series *alerts_find_series(const struct alerts *alerts, struct span tenant,
                                          struct span service);
struct watched *alerts_find_watched(const struct watched_series *series, struct span id);

/* Finds or makes a series of the book; NULL without memory. Lock held. */
struct watched_series *alerts_series(struct alerts *alerts, struct span tenant,
                                     struct span service);

/* Makes a place for an objective that is not there yet; NULL without memory. Lock held. */
struct watched *alerts_watch(struct watched_series *series, struct span id);

/* Frees everything in the book. Lock held, or nobody else is there. */
void alerts_clear(struct alerts *alerts);

/* Appends the bytes of the whole book. Lock held. */
void alerts_encode(const struct alerts *alerts, struct buffer *out);

#endif
