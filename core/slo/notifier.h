/*
 * notifier.h - the port through which alerts are told to people: cli's webhook implements it over
 * HTTP, tests/fakes in memory.
 *
 * Telling is at least once. notify() copies a notice into a bounded queue and returns; the notifier
 * then delivers it, which may take days while the receiver is down, and calls told(). A notice is
 * one change of one alert, with an id that is the same whenever the same change is told again.
 */
#ifndef SLUICE_CORE_NOTIFIER_H
#define SLUICE_CORE_NOTIFIER_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/event/event.h"
#include "core/slo/alert.h"

enum {
    NOTICE_ID_SIZE = 33,       /* 32 hex digits and the NUL */
    NOTICE_SENTENCE_MAX = 640, /* a service's name is at most 255 of it */
};

struct notice {
    char id[NOTICE_ID_SIZE];
    enum alert_severity severity;
    enum alert_status status; /* ALERT_FIRING or ALERT_RESOLVED */
    uint8_t tenant_len;
    uint8_t service_len;
    uint16_t sentence_len;
    char tenant[EVENT_NAME_MAX];
    char service[EVENT_NAME_MAX];
    char sentence[NOTICE_SENTENCE_MAX];
    struct slo_objective objective;
    struct alert_rule rule; /* the one told of */
    int64_t fired_us;
    int64_t resolved_us; /* 0 while it fires */
    double threshold;
    double burn_long; /* NAN without events, as are the next two */
    double burn_short;
    double budget_spent;
};

static inline struct span
notice_tenant(const struct notice *notice)
{
    return (struct span){notice->tenant, notice->tenant_len};
}

static inline struct span
notice_service(const struct notice *notice)
{
    return (struct span){notice->service, notice->service_len};
}

/* For metrics. */
struct notifier_stats {
    uint64_t sent;    /* notices delivered */
    uint64_t failed;  /* attempts that failed, and will be or were repeated */
    uint64_t refused; /* notices the receiver will never take; given up */
    uint64_t dropped; /* notices there was no room for */
    uint64_t queued;  /* waiting now */
};

struct notifier_ops {
    /* Queues a copy. ERR_AGAIN: no room; ERR_NO_MEMORY; ERR_CLOSED: stopping. Any thread. */
    enum err (*notify)(void *self, const struct notice *notice);

    void (*stats)(void *self, struct notifier_stats *out); /* any thread */
};

struct notifier {
    const struct notifier_ops *ops;
    void *self;
    /*
     * Above 0: the receiver forgets (Alertmanager's does), so what fires is told again this often,
     * and what has resolved for ALERT_RESOLVED_US. 0: each change is told once.
     */
    int64_t repeat_us;
};

#endif
