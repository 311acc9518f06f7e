/*
 * histogram.h - base-2 exponential buckets for latencies: mergeable, with a stated error.
 *
 * Schema (scale) 5: bucket i covers (2^(i/32), 2^((i+1)/32)] milliseconds, upper bound inclusive.
 * These are the buckets of OpenTelemetry's exponential histogram (metrics data model,
 * "ExponentialHistogram", same index) and of Prometheus' native histograms (whose index is one
 * higher). Counts merge by addition, without loss, since every histogram has the same bounds.
 *
 * Range: (2^-10 ms, 2^30 ms], about 1 us to 12 days, in 1280 buckets, so a histogram is bounded. At
 * or below it lies the zero bucket, shown as 0 ms; above it values count in the last bucket. Within
 * the range a quantile is off by at most sqrt(2^(1/32)) - 1 = 1.09 %.
 *
 * Pure functions. Any thread.
 */
#ifndef SLUICE_CORE_HISTOGRAM_H
#define SLUICE_CORE_HISTOGRAM_H

#include "core/base/base.h"
#include "core/base/sparse.h"

enum {
    HISTOGRAM_SCHEMA = 5,
    HISTOGRAM_PER_OCTAVE = 1 << HISTOGRAM_SCHEMA,
    HISTOGRAM_INDEX_MIN = -10 * HISTOGRAM_PER_OCTAVE,
    HISTOGRAM_INDEX_MAX = 30 * HISTOGRAM_PER_OCTAVE - 1,
    HISTOGRAM_ZERO = HISTOGRAM_INDEX_MIN - 1, /* the zero bucket's index, ours alone */
    HISTOGRAM_BUCKETS = HISTOGRAM_INDEX_MAX - HISTOGRAM_ZERO + 1,
};

#define HISTOGRAM_MIN_MS 0x1p-10
#define HISTOGRAM_MAX_MS 0x1p30
#define HISTOGRAM_MAX_RELATIVE_ERROR 0.0109

/* The bucket of VALUE_MS. Total: what is not above the range's lower end (NAN too) is
 * HISTOGRAM_ZERO. */
int32_t histogram_index(double value_ms);

/* Bounds of bucket INDEX in milliseconds; (0, HISTOGRAM_MIN_MS) for HISTOGRAM_ZERO. */
double histogram_lower_ms(int32_t index);
double histogram_upper_ms(int32_t index);

/* The value that stands for bucket INDEX: the geometric middle, 0 for HISTOGRAM_ZERO. */
double histogram_value_ms(int32_t index);

/*
 * The quantile PER_MILLE / 1000 (1-1000; 990 is p99) by nearest rank: the value of the bucket
 * holding the ceil(count x q)-th smallest. NAN when empty. BUCKETS holds bucket indices only.
 */
double histogram_quantile_ms(const struct sparse *buckets, uint32_t per_mille);

#endif
