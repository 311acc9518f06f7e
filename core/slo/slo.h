/*
 * slo.h - from slices to SLO figures: availability, budgets, burn rates, percentiles.
 *
 * Pure arithmetic on sums of slices at a given moment; the formulas are SLO.md's (Google SRE
 * Workbook, chapter 5). Ratios are formed once, from sums. No traffic is "no data", never 100 %.
 *
 * A window of W minutes at some moment is the running minute and the W - 1 before it, and whatever
 * has been accepted with a timestamp after that: an acked event is never missing. Targets are
 * taken as decimal fractions of nine digits, and whether one is met is decided in integers: 999 of
 * 1000 meets 0.999, though no binary fraction is 0.999.
 */
#ifndef SLUICE_CORE_SLO_H
#define SLUICE_CORE_SLO_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/slo/slices.h"

enum slo_type {
    SLO_AVAILABILITY, /* good: a status of good_status */
    SLO_LATENCY,      /* good: at or below the threshold; events without a latency do not count */
};

enum slo_window {
    SLO_ROLLING,
    SLO_WEEK,  /* from Monday, of ZONE's calendar */
    SLO_MONTH, /* from the first, of ZONE's calendar */
};

enum {
    SLO_ID_SIZE = 64,   /* with the NUL, as the next one */
    SLO_ZONE_SIZE = 64, /* an IANA name */
    SLO_MIN_BAD_EVENTS_DEFAULT = 5,
};

struct slo_objective {
    char id[SLO_ID_SIZE]; /* "default-availability", "default-latency", or the definition's id */
    enum slo_type type;
    double target;         /* (0, 1) */
    uint32_t threshold_us; /* SLO_LATENCY: counted exactly, must be one of the slice rules */
    struct slice_status_rule good_status; /* SLO_AVAILABILITY */
    enum slo_window window;
    int64_t window_minutes;   /* its length; nominal (7 or 30 days) for a calendar window */
    char zone[SLO_ZONE_SIZE]; /* of a calendar window */
    uint32_t min_bad_events;  /* fewer never page, and are no incident */
    int64_t counted_from_us;  /* SLO_LATENCY: events that came before were not compared with the
                                 threshold; 0: all were */
};

enum {
    SLO_OBJECTIVES_MAX = 8
};

/* The objectives a service has before anyone defines some. Borrowed, constant while used. */
struct slo_config {
    struct slo_objective objective[SLO_OBJECTIVES_MAX];
    uint32_t objective_count;
    int64_t future_us; /* how far ahead of the clock accepted events may be */
};

/* Order is severity: a higher value is worse and is listed first. */
enum slo_health {
    SLO_NO_DATA, /* no events in the window */
    SLO_HEALTHY,
    SLO_AT_RISK,  /* less than a quarter of the budget left, or the 1 h burn rate is above 1 and,
                     kept  up, ends the budget within the window's length */
    SLO_VIOLATED, /* the budget is overspent: the target is not met. Spent to zero is still at risk
                   */
};

enum {
    SLO_BURN_WINDOWS = 5
}; /* 5m 30m 1h 6h 3d */
extern const char *const SLO_BURN_WINDOW_NAME[SLO_BURN_WINDOWS];
extern const int64_t SLO_BURN_WINDOW_MINUTES[SLO_BURN_WINDOWS];

/* NAN stands for "no data"; JSON shows it as null. */
struct slo_figures {
    const struct slo_objective *objective; /* in the config given */
    enum slo_health health;
    int64_t from_minute; /* first of the window */
    uint64_t good;
    uint64_t bad;
    uint64_t uncounted; /* SLO_LATENCY: timed events nobody compared with the threshold */
    double attained;    /* good / (good + bad) */
    double error_budget_remaining; /* 1 - (bad/total)/(1-T), signed */
    double events_left;            /* bad events the budget still allows, signed, not rounded */
    double minutes_left; /* budget left as minutes of total outage at the window's mean traffic */
    double burn_rate[SLO_BURN_WINDOWS]; /* (bad/total)/(1-T) of each window */
    double time_to_exhaustion_s;        /* events_left over the bad events per second of the last
                                           hour; 0 when spent, NAN when that hour had none: never */
    uint64_t violations;                /* minutes in which the ratio was below target */
};

enum {
    SLO_QUANTILES = 4
};
extern const char *const SLO_QUANTILE_NAME[SLO_QUANTILES]; /* p50 p90 p95 p99 */

/* Counts, ratios and percentiles are those of the longest objective window. */
struct slo_service {
    enum slo_health health; /* the worst of its objectives */
    uint64_t good;          /* status rule < 500 */
    uint64_t bad;
    double availability;
    double error_rate;
    double
        latency_ms[SLO_QUANTILES]; /* NAN without latencies; error: HISTOGRAM_MAX_RELATIVE_ERROR */
    struct slo_figures figures[SLO_OBJECTIVES_MAX];
    uint32_t figure_count;
};

/* Whether calendar windows can be of this zone. */
bool slo_zone_is_known(const char *zone);

/* First minute of OBJECTIVE's window at NOW_US. */
int64_t slo_window_from(const struct slo_objective *objective, int64_t now_us);

/* What slices count as good and bad for OBJECTIVE, and when a minute is a violation of it. */
struct slice_measure slo_measure(const struct slo_objective *objective);
struct slices_limit slo_limit(const struct slo_objective *objective);

/* The limits of all objectives of CONFIG, of which LIMITS has room for SLO_OBJECTIVES_MAX. */
uint32_t slo_limits(const struct slo_config *config, struct slices_limit *limits);

/* Computes one service's figures at NOW_US. ERR_NO_MEMORY leaves *OUT untouched. Any thread. */
MUST_CHECK enum err slo_service_figures(struct slices *slices, const struct slo_config *config,
                                        struct span tenant, struct span service, int64_t now_us,
                                        struct slo_service *out);

/* 1 - TARGET in parts per 10^9, at least 1: what slices_violations() compares with. */
uint32_t slo_budget_ppb(double target);

const char *slo_health_name(
    enum slo_health health);                   /* "no_data", "healthy", "at_risk", "violated" */
const char *slo_type_name(enum slo_type type); /* "availability", "latency" */

#endif
