/*
 * objective.c - one table of members, a reader and a writer that are each other's reverse.
 */
#include "core/slo/objective.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/base/json.h"
#include "core/base/json_member.h"
#include "core/base/timestamp.h"

enum {
    DEPTH_MAX = 8,
    HOUR = 60,
    DAY = 24 * HOUR,
    WINDOW_DAYS_MAX = 90,
    STATUS_FIRST = 100,
    STATUS_LAST = 599,
    MIN_BAD_EVENTS_MAX = 1000000000,
};

#define THRESHOLD_MS_MAX 4294967.0
#define DEFAULT_ID_PREFIX "default-" /* ids of the objectives nobody has defined */

enum member {
    MEMBER_ID,
    MEMBER_TENANT,
    MEMBER_SERVICE,
    MEMBER_TYPE,
    MEMBER_TARGET,
    MEMBER_THRESHOLD,
    MEMBER_GOOD_STATUS,
    MEMBER_WINDOW,
    MEMBER_WINDOWS_DAYS,
    MEMBER_ZONE,
    MEMBER_MIN_BAD,
    MEMBER_HISTORY_FROM, /* from here on the server's own */
    MEMBER_VERSION,
    MEMBER_CREATED_AT,
    MEMBER_UPDATED_AT,
    MEMBER_UPDATED_BY,
    MEMBER_STATUS,
    MEMBER_COUNT,
};

static const struct {
    const char *name;
    enum member member;
} NAMES[] = {
    {"id", MEMBER_ID},
    {"tenant", MEMBER_TENANT},
    {"tenant_id", MEMBER_TENANT},
    {"service_name", MEMBER_SERVICE},
    {"service", MEMBER_SERVICE},
    {"slo_type", MEMBER_TYPE},
    {"type", MEMBER_TYPE},
    {"slo_value", MEMBER_TARGET},
    {"target", MEMBER_TARGET},
    {"threshold_ms", MEMBER_THRESHOLD},
    {"good_status", MEMBER_GOOD_STATUS},
    {"window", MEMBER_WINDOW},
    {"windows_days", MEMBER_WINDOWS_DAYS},
    {"time_zone", MEMBER_ZONE},
    {"min_bad_events", MEMBER_MIN_BAD},
    {"history_from", MEMBER_HISTORY_FROM},
    {"version", MEMBER_VERSION},
    {"created_at", MEMBER_CREATED_AT},
    {"updated_at", MEMBER_UPDATED_AT},
    {"updated_by", MEMBER_UPDATED_BY},
    {"status", MEMBER_STATUS},
};

struct reading {
    struct json_value value[MEMBER_COUNT];
    bool present[MEMBER_COUNT]; /* and not null */
    char *problem;
};

static PRINTF_LIKE(2, 3) enum err refuse(const struct reading *reading, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(reading->problem, OBJECTIVE_PROBLEM_SIZE, format, args);
    va_end(args);
    return ERR_INVALID;
}

int
objective_compare(const struct objective *a, const struct objective *b)
{
    int order = strcmp(a->tenant, b->tenant);

    if (order == 0) {
        order = strcmp(a->service, b->service);
    }
    return order != 0 ? order : strcmp(a->slo.id, b->slo.id);
}

bool
objective_id_is_valid(struct span id)
{
    if (id.len == 0 || id.len >= SLO_ID_SIZE ||
        (id.len >= sizeof(DEFAULT_ID_PREFIX) - 1 &&
         memcmp(id.data, DEFAULT_ID_PREFIX, sizeof(DEFAULT_ID_PREFIX) - 1) == 0)) {
        return false;
    }
    for (size_t i = 0; i < id.len; i++) {
        const char c = id.data[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '_' || c == '-')) {
            return false;
        }
    }
    return true;
}

/* ---- statuses ---- */

/* Three digits, 100-599. */
static bool
read_status(struct span *rest, uint16_t *out)
{
    unsigned status = 0;

    if (rest->len < 3) {
        return false;
    }
    for (size_t i = 0; i < 3; i++) {
        if (rest->data[i] < '0' || rest->data[i] > '9') {
            return false;
        }
        status = status * 10 + (unsigned)(rest->data[i] - '0');
    }
    rest->data += 3;
    rest->len -= 3;
    *out = (uint16_t)status;
    return status >= STATUS_FIRST && status <= STATUS_LAST;
}

static bool
take_char(struct span *rest, char c)
{
    if (rest->len == 0 || rest->data[0] != c) {
        return false;
    }
    rest->data++;
    rest->len--;
    return true;
}

/* Appends 200-299 or 404; ranges must ascend, so that one rule has one form. */
static bool
read_range(struct span *rest, struct slice_status_rule *rule)
{
    struct slice_status_range range;

    if (rule->range_count == SLICE_RANGES_MAX || !read_status(rest, &range.first)) {
        return false;
    }
    range.last = range.first;
    if (take_char(rest, '-') && !read_status(rest, &range.last)) {
        return false;
    }
    if (range.last < range.first ||
        (rule->range_count > 0 && rule->range[rule->range_count - 1].last >= range.first)) {
        return false;
    }
    rule->range[rule->range_count++] = range;
    return true;
}

enum err
objective_parse_status(struct span text, struct slice_status_rule *out)
{
    struct slice_status_rule rule = {0};

    if (span_is(text, "lt400")) {
        rule.range_count = 1;
        rule.range[0] = (struct slice_status_range){STATUS_FIRST, 399};
        *out = rule;
        return ERR_OK;
    }
    if (!span_is(text, "lt500")) {
        do {
            if (!read_range(&text, &rule)) {
                return ERR_INVALID;
            }
        } while (take_char(&text, ','));
        if (text.len != 0) {
            return ERR_INVALID;
        }
    }
    *out = rule;
    return ERR_OK;
}

void
objective_status_text(const struct slice_status_rule *rule, char out[OBJECTIVE_STATUS_SIZE])
{
    size_t len = 0;

    if (rule->range_count == 0) {
        (void)snprintf(out, OBJECTIVE_STATUS_SIZE, "lt500");
        return;
    }
    if (rule->range_count == 1 && rule->range[0].first == STATUS_FIRST &&
        rule->range[0].last == 399) {
        (void)snprintf(out, OBJECTIVE_STATUS_SIZE, "lt400");
        return;
    }
    for (uint32_t i = 0; i < rule->range_count; i++) {
        const struct slice_status_range *range = &rule->range[i];
        const char *mark = i == 0 ? "" : ",";
        int n = range->first == range->last
                    ? snprintf(out + len, OBJECTIVE_STATUS_SIZE - len, "%s%u", mark, range->first)
                    : snprintf(out + len, OBJECTIVE_STATUS_SIZE - len, "%s%u-%u", mark,
                               range->first, range->last);

        ASSERT(n > 0 && (size_t)n < OBJECTIVE_STATUS_SIZE - len);
        len += (size_t)n;
    }
}

/* ---- windows ---- */

enum err
objective_parse_window(struct span text, enum slo_window *window, int64_t *minutes)
{
    int64_t number = 0;
    int64_t unit;

    if (span_is(text, "week") || span_is(text, "month")) {
        *window = text.data[0] == 'w' ? SLO_WEEK : SLO_MONTH;
        *minutes = (*window == SLO_WEEK ? 7 : 30) * INT64_C(1440);
        return ERR_OK;
    }
    if (text.len < 2 || text.len > 5) {
        return ERR_INVALID;
    }
    unit = text.data[text.len - 1] == 'h' ? HOUR : text.data[text.len - 1] == 'd' ? DAY : 0;
    for (size_t i = 0; i + 1 < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return ERR_INVALID;
        }
        number = number * 10 + (text.data[i] - '0');
    }
    if (number * unit < HOUR || number * unit > INT64_C(1) * WINDOW_DAYS_MAX * DAY) {
        return ERR_INVALID;
    }
    *window = SLO_ROLLING;
    *minutes = number * unit;
    return ERR_OK;
}

void
objective_window_text(const struct slo_objective *slo, char out[OBJECTIVE_WINDOW_SIZE])
{
    const int64_t minutes = slo->window_minutes;

    if (slo->window != SLO_ROLLING) {
        (void)snprintf(out, OBJECTIVE_WINDOW_SIZE, "%s",
                       slo->window == SLO_WEEK ? "week" : "month");
    } else if (minutes % DAY == 0) {
        (void)snprintf(out, OBJECTIVE_WINDOW_SIZE, "%lldd", (long long)(minutes / DAY));
    } else if (minutes % HOUR == 0) {
        (void)snprintf(out, OBJECTIVE_WINDOW_SIZE, "%lldh", (long long)(minutes / HOUR));
    } else {
        (void)snprintf(out, OBJECTIVE_WINDOW_SIZE, "%lldm", (long long)minutes);
    }
}

/* ---- reading ---- */

static enum err
find_members(struct reading *reading, const struct json_text *text)
{
    struct json_walk walk = {0, 0};
    struct json_member member;

    while (json_text_next(text, &walk, &member)) {
        size_t at = 0;

        while (at < ARRAY_LEN(NAMES) &&
               !json_content_is(member.name, member.name_escaped, span_of(NAMES[at].name))) {
            at++;
        }
        if (at == ARRAY_LEN(NAMES)) {
            return refuse(reading, "%.*s is not a member of an objective",
                          member.name.len > 64 ? 64 : (int)member.name.len, member.name.data);
        }
        if (reading->present[NAMES[at].member]) {
            return refuse(reading, "%s is given under two names", NAMES[at].name);
        }
        reading->value[NAMES[at].member] = member.value;
        reading->present[NAMES[at].member] = member.value.type != JSON_NULL;
    }
    return ERR_OK;
}

/* A string of at least one byte and at most SIZE - 1, without control characters. */
static enum err
read_text(const struct reading *reading, enum member member, const char *name, char *out,
          size_t size)
{
    const struct json_value *value = &reading->value[member];
    struct span content;
    char text[OBJECTIVE_BODY_MAX];
    size_t len;

    if (value->type != JSON_STRING) {
        return refuse(reading, "%s must be a string", name);
    }
    content = json_content(value->raw);
    ASSERT(content.len <= sizeof(text));
    len = json_unescape(content, text);
    if (len == 0 || len >= size) {
        return refuse(reading, "%s must be of 1 to %zu bytes", name, size - 1);
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            return refuse(reading, "%s must not have control characters", name);
        }
    }
    memcpy(out, text, len);
    out[len] = '\0';
    return ERR_OK;
}

static enum err
read_number(const struct reading *reading, enum member member, const char *name, double *out)
{
    const struct json_value *value = &reading->value[member];

    if (value->type != JSON_NUMBER || json_double(value->raw, out) != ERR_OK) {
        return refuse(reading, "%s must be a number", name);
    }
    return ERR_OK;
}

static enum err
read_integer(const struct reading *reading, enum member member, const char *name, int64_t min,
             int64_t max, int64_t *out)
{
    const struct json_value *value = &reading->value[member];

    if (value->type != JSON_NUMBER || json_integer(value->raw, out) != ERR_OK || *out < min ||
        *out > max) {
        return refuse(reading, "%s must be an integer from %lld to %lld", name, (long long)min,
                      (long long)max);
    }
    return ERR_OK;
}

static enum err
read_names(const struct reading *reading, struct objective *out)
{
    enum err err = ERR_OK;

    if (reading->present[MEMBER_ID]) {
        err = read_text(reading, MEMBER_ID, "id", out->slo.id, sizeof(out->slo.id));
        if (err == ERR_OK && !objective_id_is_valid(span_of(out->slo.id))) {
            return refuse(reading, "id must be 1 to 63 of A-Z, a-z, 0-9, '.', '_', '-', and not "
                                   "begin with " DEFAULT_ID_PREFIX);
        }
    }
    if (err == ERR_OK && reading->present[MEMBER_TENANT]) {
        err = read_text(reading, MEMBER_TENANT, "tenant", out->tenant, sizeof(out->tenant));
    }
    if (err == ERR_OK && !reading->present[MEMBER_SERVICE]) {
        return refuse(reading, "service_name is required");
    }
    if (err == ERR_OK) {
        err =
            read_text(reading, MEMBER_SERVICE, "service_name", out->service, sizeof(out->service));
    }
    return err;
}

static enum err
read_type_and_target(const struct reading *reading, struct slo_objective *out)
{
    char type[16];
    enum err err;

    if (!reading->present[MEMBER_TYPE] || !reading->present[MEMBER_TARGET]) {
        return refuse(reading, "slo_type and slo_value are required");
    }
    err = read_text(reading, MEMBER_TYPE, "slo_type", type, sizeof(type));
    if (err != ERR_OK) {
        return err;
    }
    if (strcmp(type, "availability") != 0 && strcmp(type, "latency") != 0) {
        return refuse(reading, "slo_type must be availability or latency");
    }
    out->type = type[0] == 'a' ? SLO_AVAILABILITY : SLO_LATENCY;
    return read_number(reading, MEMBER_TARGET, "slo_value", &out->target);
}

static enum err
read_threshold(const struct reading *reading, struct slo_objective *out)
{
    double ms = 0.0;
    enum err err;

    if (out->type != SLO_LATENCY) {
        return reading->present[MEMBER_THRESHOLD]
                   ? refuse(reading, "threshold_ms belongs to a latency objective")
                   : ERR_OK;
    }
    if (!reading->present[MEMBER_THRESHOLD]) {
        return refuse(reading, "threshold_ms is required for a latency objective");
    }
    err = read_number(reading, MEMBER_THRESHOLD, "threshold_ms", &ms);
    if (err != ERR_OK) {
        return err;
    }
    if (!(ms >= 0.001 && ms <= THRESHOLD_MS_MAX)) {
        return refuse(reading, "threshold_ms must be from 0.001 to %.0f", THRESHOLD_MS_MAX);
    }
    out->threshold_us = (uint32_t)round(ms * 1000.0);
    if ((double)out->threshold_us / 1000.0 != ms) {
        return refuse(reading, "threshold_ms must have at most three decimals");
    }
    return ERR_OK;
}

/* ["200-299", "404"] or [[200, 299], 404]: as the text 200-299,404. */
static enum err
read_status_list(const struct reading *reading, struct span array, struct slice_status_rule *out)
{
    struct buffer text = BUFFER_EMPTY;
    struct json_value item;
    size_t offset = 0;
    enum err err = ERR_OK;

    while (json_element_next(array, &offset, &item)) {
        struct json_value bound;
        size_t inner = 0;

        if (text.len > 0) {
            buffer_append_char(&text, ',');
        }
        if (item.type == JSON_STRING) {
            buffer_append_span(&text, json_content(item.raw));
        } else if (item.type == JSON_ARRAY) {
            for (int i = 0; json_element_next(item.raw, &inner, &bound); i++) {
                if (i > 0) {
                    buffer_append_char(&text, '-');
                }
                buffer_append_span(&text, bound.raw);
            }
        } else {
            buffer_append_span(&text, item.raw);
        }
    }
    if (text.failed) {
        err = ERR_NO_MEMORY;
    } else if (objective_parse_status(buffer_span(&text), out) != ERR_OK || out->range_count == 0) {
        err = refuse(reading,
                     "good_status must be lt500, lt400 or at most %d ranges of statuses "
                     "from 100 to 599 in ascending order, such as [\"200-299\", 404]",
                     SLICE_RANGES_MAX);
    }
    buffer_free(&text);
    return err;
}

static enum err
read_good_status(const struct reading *reading, struct slo_objective *out)
{
    const struct json_value *value = &reading->value[MEMBER_GOOD_STATUS];

    if (!reading->present[MEMBER_GOOD_STATUS]) {
        return ERR_OK;
    }
    if (out->type != SLO_AVAILABILITY) {
        return refuse(reading, "good_status belongs to an availability objective");
    }
    if (value->type == JSON_STRING &&
        objective_parse_status(json_content(value->raw), &out->good_status) == ERR_OK) {
        return ERR_OK;
    }
    return read_status_list(reading, value->type == JSON_ARRAY ? value->raw : SPAN_LITERAL("[]"),
                            &out->good_status);
}

/* A window's length in days, as far as there are whole ones. */
static int64_t
whole_days(int64_t minutes)
{
    return (minutes + DAY - 1) / DAY;
}

/* An answer has both members, and either may have been edited in it: they must agree. */
static enum err
read_window(const struct reading *reading, struct slo_objective *out)
{
    char text[OBJECTIVE_WINDOW_SIZE] = "30d";
    int64_t days = 0;
    enum err err = ERR_OK;

    if (reading->present[MEMBER_WINDOWS_DAYS]) {
        err = read_integer(reading, MEMBER_WINDOWS_DAYS, "windows_days", 1, WINDOW_DAYS_MAX, &days);
        (void)snprintf(text, sizeof(text), "%dd", (int)days);
    }
    if (err == ERR_OK && reading->present[MEMBER_WINDOW]) {
        err = read_text(reading, MEMBER_WINDOW, "window", text, sizeof(text));
    }
    if (err != ERR_OK) {
        return err;
    }
    if (objective_parse_window(span_of(text), &out->window, &out->window_minutes) != ERR_OK) {
        return refuse(reading, "window must be from 1h to 90d, or week or month");
    }
    if (days != 0 && days != whole_days(out->window_minutes)) {
        return refuse(reading,
                      "window is %s and windows_days %d: leave one out, or make them agree", text,
                      (int)days);
    }
    if (out->window == SLO_ROLLING) {
        return reading->present[MEMBER_ZONE]
                   ? refuse(reading, "time_zone belongs to a window of week or month")
                   : ERR_OK;
    }
    (void)snprintf(out->zone, sizeof(out->zone), "UTC");
    if (reading->present[MEMBER_ZONE]) {
        err = read_text(reading, MEMBER_ZONE, "time_zone", out->zone, sizeof(out->zone));
        if (err == ERR_OK && !slo_zone_is_known(out->zone)) {
            return refuse(reading, "time_zone is not a time zone this server knows");
        }
    }
    return err;
}

static enum err
read_time(const struct reading *reading, enum member member, const char *name, int64_t *out)
{
    if (!reading->present[member]) {
        return ERR_OK;
    }
    if (reading->value[member].type != JSON_STRING ||
        timestamp_parse(json_content(reading->value[member].raw), out) != ERR_OK) {
        return refuse(reading, "%s must be a time", name);
    }
    return ERR_OK;
}

/* What the server sets, of a text it has written. */
static enum err
read_stored(const struct reading *reading, struct objective *out)
{
    enum err err =
        read_time(reading, MEMBER_HISTORY_FROM, "history_from", &out->slo.counted_from_us);

    if (err == ERR_OK) {
        err = read_time(reading, MEMBER_CREATED_AT, "created_at", &out->created_us);
    }
    if (err == ERR_OK) {
        err = read_time(reading, MEMBER_UPDATED_AT, "updated_at", &out->updated_us);
    }
    if (err == ERR_OK && !reading->present[MEMBER_VERSION]) {
        return refuse(reading, "version is required");
    }
    if (err == ERR_OK && reading->present[MEMBER_UPDATED_BY]) {
        err = read_text(reading, MEMBER_UPDATED_BY, "updated_by", out->updated_by,
                        sizeof(out->updated_by));
    }
    return err;
}

/* The column that takes a row of table slo out of force. Here that is DELETE. */
static enum err
read_status_word(const struct reading *reading)
{
    const struct json_value *value = &reading->value[MEMBER_STATUS];

    if (value->type != JSON_STRING || !span_is(json_content(value->raw), "active")) {
        return refuse(reading, "status can only be active: delete what is not to be in force");
    }
    return ERR_OK;
}

static enum err
read_definition(const struct reading *reading, struct objective *out)
{
    int64_t min_bad_events = SLO_MIN_BAD_EVENTS_DEFAULT;
    int64_t version = 0;
    const char *why = "";
    enum err err = read_names(reading, out);

    if (err == ERR_OK) {
        err = read_type_and_target(reading, &out->slo);
    }
    if (err == ERR_OK) {
        err = read_threshold(reading, &out->slo);
    }
    if (err == ERR_OK) {
        err = read_good_status(reading, &out->slo);
    }
    if (err == ERR_OK) {
        err = read_window(reading, &out->slo);
    }
    if (err == ERR_OK && reading->present[MEMBER_STATUS]) {
        err = read_status_word(reading);
    }
    if (err == ERR_OK && reading->present[MEMBER_VERSION]) {
        err = read_integer(reading, MEMBER_VERSION, "version", 1, UINT32_MAX, &version);
        out->version = (uint32_t)version;
    }
    if (err == ERR_OK && reading->present[MEMBER_MIN_BAD]) {
        err = read_integer(reading, MEMBER_MIN_BAD, "min_bad_events", 0, MIN_BAD_EVENTS_MAX,
                           &min_bad_events);
    }
    if (err == ERR_OK) {
        out->slo.min_bad_events = (uint32_t)min_bad_events;
        if (!objective_is_valid(out, &why)) {
            return refuse(reading, "%s", why);
        }
    }
    return err;
}

static enum err
read_json(struct span json, bool stored, struct objective *out,
          char *problem) /* NOLINT(readability-non-const-parameter): READING writes through it */
{
    struct reading reading = {.problem = problem};
    struct json_text text;
    struct json_error error;
    struct objective objective = {0};
    enum err err;

    if (json.len > OBJECTIVE_BODY_MAX) {
        return refuse(&reading, "an objective has at most %d bytes", OBJECTIVE_BODY_MAX);
    }
    err = json_scan(json, DEPTH_MAX, &text, &error);
    if (err == ERR_INVALID) {
        return refuse(&reading, "the body is not valid JSON: %s at byte %zu", error.text,
                      error.offset);
    }
    if (err == ERR_OK && text.value.type != JSON_OBJECT) {
        return refuse(&reading, "the body must be a JSON object");
    }
    if (err == ERR_OK) {
        err = find_members(&reading, &text);
    }
    if (err == ERR_OK) {
        err = read_definition(&reading, &objective);
    }
    if (err == ERR_OK && stored) {
        err = read_stored(&reading, &objective);
    }
    if (err == ERR_OK) {
        *out = objective;
    }
    return err;
}

enum err
objective_read(struct span json, struct objective *out, char problem[OBJECTIVE_PROBLEM_SIZE])
{
    return read_json(json, false, out, problem);
}

enum err
objective_read_stored(struct span json, struct objective *out, char problem[OBJECTIVE_PROBLEM_SIZE])
{
    return read_json(json, true, out, problem);
}

bool
objective_is_valid(const struct objective *objective, const char **why)
{
    const struct slo_objective *slo = &objective->slo;

    *why = NULL;
    if (objective->service[0] == '\0') {
        *why = "service_name must not be empty";
    } else if (!(slo->target > 0.0 && slo->target <= 0.999999999)) {
        *why = "slo_value must be above 0 and at most 0.999999999";
    } else if (slo->type == SLO_LATENCY && slo->threshold_us == 0) {
        *why = "threshold_ms is required for a latency objective";
    } else if (slo->window_minutes < HOUR ||
               slo->window_minutes > INT64_C(1) * WINDOW_DAYS_MAX * DAY) {
        *why = "window must be from 1h to 90d, or week or month";
    } else if (slo->window != SLO_ROLLING && !slo_zone_is_known(slo->zone)) {
        *why = "time_zone is not a time zone this server knows";
    }
    return *why == NULL;
}

/* ---- writing ---- */

static void
write_good_status(struct buffer *out, const struct slice_status_rule *rule)
{
    char text[OBJECTIVE_STATUS_SIZE];

    objective_status_text(rule, text);
    if (text[0] == 'l') {
        json_member_text(out, "good_status", span_of(text));
        return;
    }
    buffer_append_text(out, ",\"good_status\":[\"");
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == ',') {
            buffer_append_text(out, "\",\"");
        } else {
            buffer_append_char(out, *c);
        }
    }
    buffer_append_text(out, "\"]");
}

void
objective_write(struct buffer *out, const struct objective *objective)
{
    const struct slo_objective *slo = &objective->slo;
    char window[OBJECTIVE_WINDOW_SIZE];

    buffer_append_text(out, "{\"id\":");
    buffer_append_json_string(out, span_of(slo->id));
    json_member_text(out, "tenant", span_of(objective->tenant));
    json_member_text(out, "service_name", span_of(objective->service));
    json_member_text(out, "slo_type", span_of(slo_type_name(slo->type)));
    buffer_append_text(out, ",\"slo_value\":");
    buffer_append_json_number(out, slo->target);
    if (slo->type == SLO_LATENCY) {
        buffer_append_text(out, ",\"threshold_ms\":");
        buffer_append_json_number(out, (double)slo->threshold_us / 1000.0);
    } else {
        write_good_status(out, &slo->good_status);
    }
    objective_window_text(slo, window);
    json_member_text(out, "window", span_of(window));
    buffer_printf(out, ",\"windows_days\":%lld", (long long)whole_days(slo->window_minutes));
    if (slo->window != SLO_ROLLING) {
        json_member_text(out, "time_zone", span_of(slo->zone));
    }
    buffer_printf(out, ",\"min_bad_events\":%u", slo->min_bad_events);
    if (slo->counted_from_us != 0) {
        json_member_time(out, "history_from", slo->counted_from_us);
    }
    buffer_printf(out, ",\"version\":%u", objective->version);
    json_member_time(out, "created_at", objective->created_us);
    json_member_time(out, "updated_at", objective->updated_us);
    if (objective->updated_by[0] != '\0') {
        json_member_text(out, "updated_by", span_of(objective->updated_by));
    }
    buffer_append_char(out, '}');
}
