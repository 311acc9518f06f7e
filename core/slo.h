/*
 * slo.h - from slices to SLO figures: availability, budgets, burn rates, percentiles.
 *
 * Pure arithmetic on sums of slices at a given moment; the formulas are SLO.md's (Google SRE
 * Workbook, chapter 5). Ratios are formed once, from sums. No traffic is "no data", never 100 %.
 */
#ifndef SLUICE_CORE_SLO_H
#define SLUICE_CORE_SLO_H

#include "core/base.h"
#include "core/err.h"
#include "core/slices.h"

enum slo_type {
    SLO_AVAILABILITY,
    SLO_LATENCY,
};

struct slo_objective {
    char id[64]; /* "default-availability", "default-latency", or the definition's id */
    enum slo_type type;
    double target;         /* (0, 1) */
    uint32_t threshold_us; /* SLO_LATENCY: counted exactly, must be one of the slice rules */
    int64_t window_minutes;
};

/* The objectives a service has before anyone defines some. Borrowed, constant while used. */
struct slo_config {
    struct slo_objective objective[8];
    uint32_t objective_count;
};

/* Order is severity: a higher value is worse and is listed first. */
enum slo_health {
    SLO_NO_DATA,
    SLO_HEALTHY,
    SLO_AT_RISK, /* a burn rate that ends the budget within the window, or less than a quarter of it
                    left */
    SLO_VIOLATED, /* the budget is spent */
};

enum {
    SLO_BURN_WINDOWS = 5
}; /* 5m 30m 1h 6h 3d */
extern const char *const SLO_BURN_WINDOW_NAME[SLO_BURN_WINDOWS];
extern const int64_t SLO_BURN_WINDOW_MINUTES[SLO_BURN_WINDOWS];

/* NAN stands for "no data"; JSON shows it as null. */
struct slo_figures {
    const struct slo_objective *objective;
    enum slo_health health;
    uint64_t good;
    uint64_t bad;
    double attained;               /* good / (good + bad) */
    double error_budget_remaining; /* 1 - (bad/total)/(1-T), signed */
    double events_left;            /* bad events the budget still allows, signed */
    double minutes_left; /* budget left as minutes of total outage at the window's mean traffic */
    double burn_rate[SLO_BURN_WINDOWS];
    double time_to_exhaustion_s; /* at the 1 h burn rate; NAN when it never ends */
    uint64_t violations;         /* minutes in which the ratio was below target */
};

struct slo_service {
    enum slo_health health; /* the worst of its objectives */
    uint64_t good;
    uint64_t bad;
    double availability;
    double error_rate;
    double latency_ms[4]; /* p50 p90 p95 p99, NAN without latencies */
    struct slo_figures figures[8];
    uint32_t figure_count;
};

/* Computes one service's figures at NOW_US. ERR_NO_MEMORY leaves *OUT untouched. Any thread. */
MUST_CHECK enum err slo_service_figures(struct slices *slices, const struct slo_config *config,
                                        struct span tenant, struct span service, int64_t now_us,
                                        struct slo_service *out);

const char *slo_health_name(
    enum slo_health health);                   /* "no_data", "healthy", "at_risk", "violated" */
const char *slo_type_name(enum slo_type type); /* "availability", "latency" */

#endif
