#include "core/base/metrics.h"

#include <math.h>

const double METRIC_SECONDS_BOUNDS[] = {
    0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02,
    0.05,    0.1,    0.2,    0.5,    1.0,   2.0,   5.0,   10.0,
};
const uint32_t METRIC_SECONDS_BOUND_COUNT = ARRAY_LEN(METRIC_SECONDS_BOUNDS);
const double METRIC_COUNT_BOUNDS[] = {1, 4, 16, 64, 256, 1024, 4096, 16384, 65536};
const uint32_t METRIC_COUNT_BOUND_COUNT = ARRAY_LEN(METRIC_COUNT_BOUNDS);

void
metric_add(struct metric_counter *counter, uint64_t amount)
{
    atomic_fetch_add_explicit(&counter->value, amount, memory_order_relaxed);
}

uint64_t
metric_value(const struct metric_counter *counter)
{
    return atomic_load_explicit(&counter->value, memory_order_relaxed);
}

void
metric_histogram_init(struct metric_histogram *histogram, const double *bounds,
                      uint32_t bound_count)
{
    ASSERT(bound_count <= METRIC_BUCKETS_MAX);
    histogram->bounds = bounds;
    histogram->bound_count = bound_count;
    for (uint32_t i = 0; i <= METRIC_BUCKETS_MAX; i++) {
        atomic_init(&histogram->bucket[i], 0);
    }
    atomic_init(&histogram->sum_micro, 0);
}

void
metric_observe(struct metric_histogram *histogram, double value)
{
    uint32_t i = 0;

    while (i < histogram->bound_count && value > histogram->bounds[i]) {
        i++;
    }
    atomic_fetch_add_explicit(&histogram->bucket[i], 1, memory_order_relaxed);
    if (value > 0) {
        atomic_fetch_add_explicit(&histogram->sum_micro, (uint64_t)llround(value * 1e6),
                                  memory_order_relaxed);
    }
}

static const char *
type_name(enum metric_type type)
{
    switch (type) {
    case METRIC_COUNTER:
        return "counter";
    case METRIC_GAUGE:
        return "gauge";
    case METRIC_HISTOGRAM:
        return "histogram";
    }
    return "untyped";
}

void
metrics_family(struct buffer *out, const char *name, enum metric_type type, const char *help)
{
    buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type_name(type));
}

static void
append_name(struct buffer *out, const char *name, const char *suffix, const char *labels)
{
    buffer_append_text(out, name);
    buffer_append_text(out, suffix);
    if (labels[0] != '\0') {
        buffer_append_char(out, '{');
        buffer_append_text(out, labels);
        buffer_append_char(out, '}');
    }
    buffer_append_char(out, ' ');
}

static void
append_number(struct buffer *out, double value)
{
    if (isfinite(value)) {
        buffer_append_json_number(out, value);
    } else {
        buffer_append_text(out, isnan(value) ? "NaN" : (value > 0 ? "+Inf" : "-Inf"));
    }
}

void
metrics_sample_u64(struct buffer *out, const char *name, const char *labels, uint64_t value)
{
    append_name(out, name, "", labels);
    buffer_append_u64(out, value);
    buffer_append_char(out, '\n');
}

void
metrics_sample_f64(struct buffer *out, const char *name, const char *labels, double value)
{
    append_name(out, name, "", labels);
    append_number(out, value);
    buffer_append_char(out, '\n');
}

void
metrics_sample_histogram(struct buffer *out, const char *name, const char *labels,
                         const struct metric_histogram *histogram)
{
    const char *comma = labels[0] == '\0' ? "" : ",";
    uint64_t count = 0;
    uint64_t sum = atomic_load_explicit(&histogram->sum_micro, memory_order_relaxed);

    for (uint32_t i = 0; i <= histogram->bound_count; i++) {
        count += atomic_load_explicit(&histogram->bucket[i], memory_order_relaxed);
        buffer_printf(out, "%s_bucket{%s%sle=\"", name, labels, comma);
        append_number(out, i < histogram->bound_count ? histogram->bounds[i] : INFINITY);
        buffer_append_text(out, "\"} ");
        buffer_append_u64(out, count);
        buffer_append_char(out, '\n');
    }
    append_name(out, name, "_sum", labels);
    append_number(out, (double)sum / 1e6);
    buffer_append_char(out, '\n');
    append_name(out, name, "_count", labels);
    buffer_append_u64(out, count);
    buffer_append_char(out, '\n');
}

void
metrics_label(struct buffer *labels, const char *name, struct span value)
{
    if (labels->len > 0) {
        buffer_append_char(labels, ',');
    }
    buffer_append_text(labels, name);
    buffer_append_text(labels, "=\"");
    for (size_t i = 0; i < value.len; i++) {
        char c = value.data[i];

        if (c == '\n') {
            buffer_append_text(labels, "\\n");
            continue;
        }
        if (c == '"' || c == '\\') {
            buffer_append_char(labels, '\\');
        }
        buffer_append_char(labels, c);
    }
    buffer_append_char(labels, '"');
}
