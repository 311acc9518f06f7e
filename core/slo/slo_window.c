#include "core/slo/slo_window.h"

#include <math.h>
#include <stdlib.h>

#include "core/base/histogram.h"
#include "core/base/timestamp.h"

#define MINUTE_US INT64_C(60000000)

static const uint32_t PER_MILLE[SLO_QUANTILES] = {500, 900, 950, 990};

struct slo_window_row
slo_window_row(int64_t minute, const struct slice *slice, const struct slo_config *config)
{
    struct slo_window_row row = {.minute = minute, .good = slice->good, .bad = slice->bad};

    for (uint32_t i = 0; i < SLO_QUANTILES; i++) {
        row.latency_ms[i] = histogram_quantile_ms(&slice->latency, PER_MILLE[i]);
    }
    for (uint32_t i = 0; i < config->objective_count; i++) {
        const struct slices_limit limit = slo_limit(&config->objective[i]);
        uint64_t good;
        uint64_t bad;

        slice_good_bad(slice, &limit.measure, &good, &bad);
        row.violated = row.violated || slices_limit_broken(limit, good, bad);
    }
    return row;
}

/* ---- the document ---- */

/* The rows of an answer, one per minute, silent until told otherwise. */
struct table {
    struct slo_window_row *rows;
    int64_t from;
    int64_t to;
    const struct slo_config *config;
};

static void
silence(struct table *table)
{
    static const struct slice nothing = {0};
    static const struct slo_config none = {0};

    for (int64_t minute = table->from; minute < table->to; minute++) {
        table->rows[minute - table->from] = slo_window_row(minute, &nothing, &none);
    }
}

static enum err
take_row(void *arg, const struct slo_window_row *row)
{
    struct table *table = arg;

    if (row->minute >= table->from && row->minute < table->to) {
        table->rows[row->minute - table->from] = *row;
    }
    return ERR_OK;
}

static void
take_slice(void *arg, int64_t minute, const struct slice *slice)
{
    struct table *table = arg;

    table->rows[minute - table->from] = slo_window_row(minute, slice, table->config);
}

static void
write_row(struct buffer *out, const struct slo_window_row *row)
{
    const uint64_t total = row->good + row->bad;
    char start[TIMESTAMP_TEXT_SIZE];
    char end[TIMESTAMP_TEXT_SIZE];

    (void)timestamp_format(row->minute * MINUTE_US, start);
    (void)timestamp_format((row->minute + 1) * MINUTE_US, end);
    buffer_printf(out,
                  "{\"window_start\":\"%s\",\"window_end\":\"%s\",\"good\":%llu,\"bad\":%llu,"
                  "\"availability\":",
                  start, end, (unsigned long long)row->good, (unsigned long long)row->bad);
    buffer_append_json_number(out, total == 0 ? NAN : (double)row->good / (double)total);
    buffer_append_text(out, ",\"latency_ms\":{");
    for (uint32_t i = 0; i < SLO_QUANTILES; i++) {
        buffer_printf(out, "%s\"%s\":", i == 0 ? "" : ",", SLO_QUANTILE_NAME[i]);
        buffer_append_json_number(out, row->latency_ms[i]);
    }
    buffer_printf(out, "},\"violated\":%s}", row->violated ? "true" : "false");
}

static void
write_table(struct buffer *out, const struct slo_status_request *request, const struct table *table,
            bool from_memory)
{
    uint64_t good = 0;
    uint64_t bad = 0;
    uint64_t violations = 0;
    char text[3][TIMESTAMP_TEXT_SIZE];

    for (int64_t i = 0; i < table->to - table->from; i++) {
        good += table->rows[i].good;
        bad += table->rows[i].bad;
        violations += table->rows[i].violated ? 1 : 0;
    }
    (void)timestamp_format(request->now_us, text[0]);
    (void)timestamp_format(table->from * MINUTE_US, text[1]);
    (void)timestamp_format(table->to * MINUTE_US, text[2]);
    buffer_printf(out, "{\"as_of\":\"%s\",\"degraded\":%s,\"source\":\"%s\",\"service\":", text[0],
                  request->degraded ? "true" : "false", from_memory ? "memory" : "database");
    buffer_append_json_string(out, request->service);
    buffer_printf(out,
                  ",\"from\":\"%s\",\"to\":\"%s\",\"good\":%llu,\"bad\":%llu,\"violations\":%llu,"
                  "\"max_relative_error\":",
                  text[1], text[2], (unsigned long long)good, (unsigned long long)bad,
                  (unsigned long long)violations);
    buffer_append_json_number(out, HISTOGRAM_MAX_RELATIVE_ERROR);
    buffer_append_text(out, ",\"windows\":[");
    for (int64_t i = 0; i < table->to - table->from; i++) {
        if (i > 0) {
            buffer_append_char(out, ',');
        }
        write_row(out, &table->rows[i]);
    }
    buffer_append_text(out, "]}\n");
}

void
slo_windows_json(const struct slo_status_request *request, const struct slo_history *history,
                 int64_t from_minute, int64_t to_minute, struct buffer *out)
{
    struct slo_status_request answered = *request;
    struct table table = {
        .from = from_minute,
        .to = to_minute,
        .config = objective_set_config(request->objectives, request->config, request->tenant,
                                       request->service),
    };
    bool from_memory = history == NULL;

    ASSERT(to_minute >= from_minute);
    ASSERT(to_minute - from_minute <= SLO_WINDOWS_MAX);
    table.rows = calloc((size_t)(to_minute - from_minute) + 1, sizeof(*table.rows));
    if (table.rows == NULL) {
        out->failed = true;
        return;
    }
    silence(&table);
    if (history != NULL && history->read(history->self, request->tenant, request->service,
                                         from_minute, to_minute, take_row, &table) != ERR_OK) {
        silence(&table);
        answered.degraded = true;
        from_memory = true;
    }
    if (from_memory && slices_each_slice(request->slices, request->tenant, request->service,
                                         from_minute, to_minute, take_slice, &table) != ERR_OK) {
        out->failed = true;
    }
    write_table(out, &answered, &table, from_memory);
    free(table.rows);
}
