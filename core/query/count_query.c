/*
 * Parameters are checked in the order a person would mend them: those that must be there, the two
 * bounds, then the rest.
 */
#include "core/query/count_query.h"

#include "core/base/json.h"
#include "core/base/time_range.h"
#include "core/event/event.h"

enum {
    TOLD_BYTES_MAX = 64 /* of a value in a sentence about it */
};

static const int64_t second_us = INT64_C(1000000);
static const int64_t day_us = INT64_C(86400000000);

static const struct {
    const char *name;
    enum count_group group;
    enum time_unit unit;
    const char *adverb;
    int64_t days_max;
} GROUPS[] = {
    {"channel", COUNT_GROUP_CHANNEL, TIME_MINUTE, NULL, 0},
    {"hour", COUNT_GROUP_TIME, TIME_HOUR, "hourly", 90},
    {"day", COUNT_GROUP_TIME, TIME_DAY, "daily", 3660},
    {"minute", COUNT_GROUP_TIME, TIME_MINUTE, "minute", 7},
    {"week", COUNT_GROUP_TIME, TIME_WEEK, "weekly", 36600},
    {"month", COUNT_GROUP_TIME, TIME_MONTH, "monthly", 36600},
    {"user_id", COUNT_GROUP_USER, TIME_MINUTE, NULL, 0},
    {"campaign_id", COUNT_GROUP_CAMPAIGN, TIME_MINUTE, NULL, 0},
};

static enum err
refuse(struct buffer *problem, const char *sentence)
{
    buffer_append_text(problem, sentence);
    return ERR_INVALID;
}

static bool
is_given(struct span value)
{
    return value.len > 0;
}

/* All values are text; NAME is told when one is not. */
static enum err
check_text(const struct count_params *params, struct buffer *problem)
{
    const struct {
        const char *name;
        struct span value;
        bool is_event_text; /* compared with what events hold */
    } rows[] = {
        {"event_name", params->event_name, true},
        {"from", params->from, false},
        {"to", params->to, false},
        {"group_by", params->group_by, false},
        {"tz", params->tz, false},
        {"limit", params->limit, false},
        {"order", params->order, false},
        {"fill", params->fill, false},
        {"format", params->format, false},
        {"filter[channel]", params->channel, true},
        {"filter[campaign_id]", params->campaign_id, true},
        {"filter[user_id]", params->user_id, true},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct span value = rows[i].value;

        if (!json_is_utf8(value)) {
            buffer_printf(problem, "%s is not valid UTF-8", rows[i].name);
            return ERR_INVALID;
        }
        if (rows[i].is_event_text && value.data != NULL &&
            (value.len == 0 || value.len > EVENT_NAME_MAX)) {
            buffer_printf(problem, "%s must be 1 to %d bytes", rows[i].name, EVENT_NAME_MAX);
            return ERR_INVALID;
        }
    }
    return ERR_OK;
}

static enum err
parse_bounds(const struct count_params *params, struct count_query *query, struct buffer *problem)
{
    struct time_range range;
    enum err err = time_range_parse(params->from, params->to, &range, problem);

    if (err != ERR_OK) {
        return err;
    }
    query->from_text = params->from;
    query->to_text = params->to;
    query->epoch = range.epoch;
    query->from_us = range.from_us;
    query->to_us = range.to_us;
    return ERR_OK;
}

static enum err
parse_group(struct span text, struct count_query *query, struct buffer *problem)
{
    query->group_text = text;
    if (!is_given(text)) {
        return ERR_OK;
    }
    for (size_t i = 0; i < ARRAY_LEN(GROUPS); i++) {
        if (span_is(text, GROUPS[i].name)) {
            query->group = GROUPS[i].group;
            query->unit = GROUPS[i].unit;
            return ERR_OK;
        }
    }
    buffer_append_text(problem, "invalid group_by value");
    if (text.len <= TOLD_BYTES_MAX) {
        buffer_append_text(problem, ": ");
        buffer_append_span(problem, text);
    }
    buffer_append_text(problem, " (supported: ");
    for (size_t i = 0; i < ARRAY_LEN(GROUPS); i++) {
        buffer_append_text(problem, i == 0 ? "" : ", ");
        buffer_append_text(problem, GROUPS[i].name);
    }
    buffer_append_char(problem, ')');
    return ERR_INVALID;
}

static enum err
parse_limit(struct span text, uint32_t *out, struct buffer *problem)
{
    uint32_t value = 0;

    *out = COUNT_GROUPS_MAX;
    if (!is_given(text)) {
        return ERR_OK;
    }
    for (size_t i = 0; i < text.len && value <= COUNT_GROUPS_MAX; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            value = 0;
            break;
        }
        value = value * 10 + (uint32_t)(text.data[i] - '0');
    }
    if (value < 1 || value > COUNT_GROUPS_MAX) {
        buffer_printf(problem, "limit must be a whole number from 1 to %d", COUNT_GROUPS_MAX);
        return ERR_INVALID;
    }
    *out = value;
    return ERR_OK;
}

/* One of two words; *SECOND stays as it is when the parameter is not given. */
static enum err
parse_word(const char *name, struct span text, const char *first_word, const char *second_word,
           bool *second, struct buffer *problem)
{
    if (!is_given(text)) {
        return ERR_OK;
    }
    if (!span_is(text, first_word) && !span_is(text, second_word)) {
        buffer_printf(problem, "%s must be %s or %s", name, first_word, second_word);
        return ERR_INVALID;
    }
    *second = span_is(text, second_word);
    return ERR_OK;
}

enum err
count_query_parse(const struct count_params *params, struct count_query *out,
                  struct buffer *problem)
{
    struct count_query query = {
        .event_name = params->event_name,
        .channel = params->channel,
        .campaign_id = params->campaign_id,
        .user_id = params->user_id,
        .tz = is_given(params->tz) ? params->tz : SPAN_LITERAL("UTC"),
    };

    if (!is_given(params->event_name) || !is_given(params->from) || !is_given(params->to)) {
        return refuse(problem, "event_name, from, to are required");
    }
    if (check_text(params, problem) != ERR_OK || parse_bounds(params, &query, problem) != ERR_OK ||
        parse_group(params->group_by, &query, problem) != ERR_OK ||
        parse_limit(params->limit, &query.limit, problem) != ERR_OK) {
        return ERR_INVALID;
    }
    query.descending = query.group != COUNT_GROUP_TIME;
    if (parse_word("order", params->order, "asc", "desc", &query.descending, problem) != ERR_OK ||
        parse_word("fill", params->fill, "none", "zero", &query.fill_zero, problem) != ERR_OK ||
        parse_word("format", params->format, "json", "csv", &query.csv, problem) != ERR_OK) {
        return ERR_INVALID;
    }
    if (query.fill_zero && query.group != COUNT_GROUP_TIME) {
        return refuse(problem, "fill=zero needs a group_by of minute, hour, day, week or month");
    }
    *out = query;
    return ERR_OK;
}

enum err
count_query_check_range(const struct count_query *query, const struct time_zone *zone,
                        struct buffer *problem)
{
    const int64_t last_us = query->epoch ? query->to_us - second_us : query->to_us;
    int64_t length_us = last_us - query->from_us;
    size_t row = 0;
    int64_t local_us;

    if (query->group != COUNT_GROUP_TIME) {
        return ERR_OK;
    }
    /* So that so many days from midnight to midnight are never too long. */
    local_us = time_local_us(zone, last_us) - time_local_us(zone, query->from_us);
    length_us = local_us < length_us ? local_us : length_us;
    while (GROUPS[row].group != COUNT_GROUP_TIME || GROUPS[row].unit != query->unit) {
        row++;
    }
    if (length_us <= GROUPS[row].days_max * day_us) {
        return ERR_OK;
    }
    buffer_printf(problem, "time range too large for %s grouping (max %lld days, got %lld days)",
                  GROUPS[row].adverb, (long long)GROUPS[row].days_max,
                  (long long)((length_us + day_us - 1) / day_us));
    return ERR_INVALID;
}
