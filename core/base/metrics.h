/*
 * metrics.h - counters and histograms that any thread may raise, and the Prometheus text format.
 *
 * Each module keeps its own metrics beside its state; only the exposition is shared. Format:
 * Prometheus text format 0.0.4, and OpenMetrics 1.0 where the writer is told so.
 */
#ifndef SLUICE_CORE_METRICS_H
#define SLUICE_CORE_METRICS_H

#include <stdatomic.h>

#include "core/base/base.h"
#include "core/base/buffer.h"

struct metric_counter {
    _Atomic uint64_t value;
};

/* Any thread, relaxed order: a scrape sees each counter whole, not all of one moment. */
void metric_add(struct metric_counter *counter, uint64_t amount);
uint64_t metric_value(const struct metric_counter *counter);

enum {
    METRIC_BUCKETS_MAX = 24
};

/* Classic histogram with fixed upper bounds; bucket counts are not cumulative in memory. */
struct metric_histogram {
    const double *bounds; /* ascending, static */
    uint32_t bound_count;
    _Atomic uint64_t bucket[METRIC_BUCKETS_MAX + 1]; /* the last one is +Inf */
    _Atomic uint64_t sum_micro;                      /* sum of the observations, in millionths */
};

/* 50 us to 10 s, for durations in seconds. */
extern const double METRIC_SECONDS_BOUNDS[];
extern const uint32_t METRIC_SECONDS_BOUND_COUNT;
/* 1 to 65536 in powers of four, for sizes of groups. */
extern const double METRIC_COUNT_BOUNDS[];
extern const uint32_t METRIC_COUNT_BOUND_COUNT;

void metric_histogram_init(struct metric_histogram *histogram, const double *bounds,
                           uint32_t bound_count);
void metric_observe(struct metric_histogram *histogram, double value); /* any thread */

enum metric_type {
    METRIC_COUNTER,
    METRIC_GAUGE,
    METRIC_HISTOGRAM,
};

/*
 * Writing an exposition: metrics_family() once per name, then its samples. LABELS is "" or
 * the inside of the braces, already escaped (metrics_label()).
 */
void metrics_family(struct buffer *out, const char *name, enum metric_type type, const char *help);
void metrics_sample_u64(struct buffer *out, const char *name, const char *labels, uint64_t value);
void metrics_sample_f64(struct buffer *out, const char *name, const char *labels, double value);
void metrics_sample_histogram(struct buffer *out, const char *name, const char *labels,
                              const struct metric_histogram *histogram);

/* Appends NAME="VALUE" with the value escaped, after a comma when LABELS is not empty. */
void metrics_label(struct buffer *labels, const char *name, struct span value);

#endif
