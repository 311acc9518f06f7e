/*
 * The two forms of an answer.
 */
#include "core/query/count_render.h"

#include "core/base/timestamp.h"

static size_t
rows_shown(const struct count_query *query, const struct count_result *result)
{
    return result->groups.count < query->limit ? result->groups.count : query->limit;
}

/* As it came, but with the '+' that a query turns into a space. */
static void
append_date_time(struct span text, struct buffer *out)
{
    for (size_t i = 0; i < text.len; i++) {
        buffer_append_char(out, text.data[i] == ' ' ? '+' : text.data[i]);
    }
}

static void
append_bound(const struct count_query *query, struct span text, int64_t us, struct buffer *out)
{
    if (query->epoch) { /* what came may have leading zeros */
        buffer_append_i64(out, us / 1000000);
    } else {
        append_date_time(text, out);
    }
}

static void
append_bounds(const struct count_query *query, const char *between, struct buffer *out)
{
    append_bound(query, query->from_text, query->from_us, out);
    buffer_append_text(out, between);
    append_bound(query, query->to_text, query->to_us - (query->epoch ? 1000000 : 0), out);
}

/* ---- JSON ---- */

static void
json_row(const struct count_query *query, const struct count_row *row, struct buffer *out)
{
    char name[TIME_BUCKET_NAME_SIZE];

    buffer_append_text(out, "{\"group_value\":");
    if (query->group == COUNT_GROUP_TIME) {
        time_bucket_name(query->unit, row->local_us, name);
        buffer_append_json_string(out, span_of(name));
    } else if (row->value.data == NULL) {
        buffer_append_text(out, "null");
    } else {
        buffer_append_json_string(out, row->value);
    }
    buffer_append_text(out, ",\"total_count\":");
    buffer_append_u64(out, row->total);
    buffer_append_text(out, ",\"unique_count\":");
    buffer_append_u64(out, row->unique);
    buffer_append_char(out, '}');
}

static void
json_groups(const struct count_query *query, const struct count_result *result, struct buffer *out)
{
    buffer_append_text(out, ",\"group_by\":");
    buffer_append_json_string(out, query->group_text);
    if (query->group == COUNT_GROUP_TIME) {
        buffer_append_text(out, ",\"tz\":");
        buffer_append_json_string(out, query->tz);
    }
    buffer_append_text(out, ",\"group_count\":");
    buffer_append_u64(out, result->groups.count);
    buffer_append_text(out, ",\"groups\":[");
    for (size_t i = 0; i < rows_shown(query, result); i++) {
        buffer_append_text(out, i == 0 ? "" : ",");
        json_row(query, result->groups.row[i], out);
    }
    buffer_append_char(out, ']');
}

void
count_render_state(int64_t as_of_us, uint64_t pending, bool degraded, int64_t complete_from_us,
                   struct buffer *out)
{
    char time[TIMESTAMP_TEXT_SIZE];

    buffer_append_text(out, ",\"as_of\":\"");
    buffer_append(out, time, timestamp_format(as_of_us, time));
    buffer_append_text(out, "\",\"pending\":");
    buffer_append_u64(out, pending);
    buffer_append_text(out, degraded ? ",\"degraded\":true" : ",\"degraded\":false");
    if (complete_from_us != INT64_MIN) {
        buffer_append_text(out, ",\"complete_from\":\"");
        buffer_append(out, time, timestamp_format(complete_from_us, time));
        buffer_append_char(out, '"');
    }
}

static void
render_json(const struct count_query *query, const struct count_result *result, struct buffer *out)
{
    buffer_append_text(out, "{\"event_name\":");
    buffer_append_json_string(out, query->event_name);
    if (query->epoch) {
        buffer_append_text(out, ",\"from\":");
        append_bounds(query, ",\"to\":", out);
        buffer_append_text(out, ",\"bounds\":\"[from,to]\",\"count\":");
    } else {
        buffer_append_text(out, ",\"from\":\"");
        append_bounds(query, "\",\"to\":\"", out);
        buffer_append_text(out, "\",\"bounds\":\"[from,to)\",\"count\":");
    }
    buffer_append_u64(out, result->total);
    buffer_append_text(out, ",\"total_count\":");
    buffer_append_u64(out, result->total);
    buffer_append_text(out, ",\"unique_count\":");
    buffer_append_u64(out, result->unique);
    if (query->group != COUNT_GROUP_NONE) {
        json_groups(query, result, out);
    }
    count_render_state(result->as_of_us, result->pending, result->degraded,
                       result->complete_from_us, out);
    buffer_append_text(out, "}\n");
}

/* ---- CSV ---- */

static bool
needs_quotes(char c)
{
    return c == '"' || c == ',' || c == '\r' || c == '\n';
}

static void
csv_cell(struct span text, struct buffer *out)
{
    static const char formula[] = "=+-@\t\r";
    bool quoted = false;

    for (size_t i = 0; i < text.len; i++) {
        quoted = quoted || needs_quotes(text.data[i]);
    }
    if (quoted) {
        buffer_append_char(out, '"');
    }
    if (text.len > 0 && memchr(formula, text.data[0], sizeof(formula) - 1) != NULL) {
        buffer_append_char(out, '\'');
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == '"') {
            buffer_append_char(out, '"');
        }
        buffer_append_char(out, text.data[i]);
    }
    if (quoted) {
        buffer_append_char(out, '"');
    }
}

static void
csv_counts(uint64_t total, uint64_t unique, struct buffer *out)
{
    buffer_append_char(out, ',');
    buffer_append_u64(out, total);
    buffer_append_char(out, ',');
    buffer_append_u64(out, unique);
    buffer_append_text(out, "\r\n");
}

static void
render_csv(const struct count_query *query, const struct count_result *result, struct buffer *out)
{
    if (query->group == COUNT_GROUP_NONE) {
        buffer_append_text(out, "event_name,from,to,total_count,unique_count\r\n");
        csv_cell(query->event_name, out);
        buffer_append_char(out, ',');
        append_bounds(query, ",", out);
        csv_counts(result->total, result->unique, out);
        return;
    }
    buffer_append_text(out, "group_value,total_count,unique_count\r\n");
    for (size_t i = 0; i < rows_shown(query, result); i++) {
        const struct count_row *row = result->groups.row[i];
        char name[TIME_BUCKET_NAME_SIZE];

        if (query->group == COUNT_GROUP_TIME) {
            time_bucket_name(query->unit, row->local_us, name);
            buffer_append_text(out, name);
        } else {
            csv_cell(row->value, out);
        }
        csv_counts(row->total, row->unique, out);
    }
}

void
count_render(const struct count_query *query, const struct count_result *result, struct buffer *out)
{
    if (query->csv) {
        render_csv(query, result, out);
    } else {
        render_json(query, result, out);
    }
}
