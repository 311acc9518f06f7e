#include "cli/webhook_body.h"

#include "core/base/json_member.h"
#include "core/base/timestamp.h"
#include "core/slo/objective.h"

#define ALERT_NAME "SluiceSloBurnRate"

static void
append_time(struct buffer *out, int64_t us)
{
    char text[TIMESTAMP_TEXT_SIZE];
    size_t len = timestamp_format(us, text);

    buffer_append_char(out, '"');
    buffer_append(out, text, len);
    buffer_append_char(out, '"');
}

static void
append_window(struct buffer *out, const char *key, int64_t minutes)
{
    buffer_printf(out, ",\"%s\":\"", key);
    alert_window_name(out, minutes);
    buffer_append_char(out, '"');
}

static void
append_period(struct buffer *out, const char *key, const struct slo_objective *objective)
{
    char window[OBJECTIVE_WINDOW_SIZE];

    objective_window_text(objective, window);
    json_member_text(out, key, span_of(window));
}

/* EXTERNAL_URL/slo/alerts?service=NAME, every unusual byte escaped. */
static void
append_link(struct buffer *out, const char *external_url, struct span service)
{
    static const char PLAIN[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
    size_t len = strlen(external_url);

    while (len > 0 && external_url[len - 1] == '/') {
        len--;
    }
    buffer_append_char(out, '"');
    buffer_append(out, external_url, len);
    buffer_append_text(out, "/slo/alerts?service=");
    for (size_t i = 0; i < service.len; i++) {
        const char c = service.data[i];

        if (c != '\0' && strchr(PLAIN, c) != NULL) {
            buffer_append_char(out, c);
        } else {
            buffer_printf(out, "%%%02X", (unsigned char)c);
        }
    }
    buffer_append_char(out, '"');
}

static struct span
sentence_of(const struct notice *notice)
{
    return (struct span){notice->sentence, notice->sentence_len};
}

/* An annotation is text: 14.4, or "no data". */
static void
append_figure_text(struct buffer *out, const char *key, double value)
{
    if (value == value) {
        buffer_printf(out, ",\"%s\":\"%.6g\"", key, value);
    } else {
        buffer_printf(out, ",\"%s\":\"no data\"", key);
    }
}

static void
append_alertmanager(struct buffer *out, const struct notice *notice, const char *external_url,
                    int64_t now_us, int64_t repeat_us)
{
    const struct slo_objective *objective = &notice->objective;

    buffer_append_text(out, "{\"labels\":{\"alertname\":\"" ALERT_NAME "\"");
    json_member_text(out, "tenant", notice_tenant(notice));
    json_member_text(out, "service", notice_service(notice));
    json_member_text(out, "objective", span_of(objective->id));
    json_member_text(out, "severity", span_of(alert_severity_name(notice->severity)));
    json_member_text(out, "slo_type", span_of(slo_type_name(objective->type)));
    buffer_append_text(out, "},\"annotations\":{\"summary\":");
    buffer_append_json_string(out, sentence_of(notice));
    append_period(out, "slo_window", objective);
    append_figure_text(out, "slo_target", objective->target);
    append_window(out, "long_window", notice->rule.long_minutes);
    append_window(out, "short_window", notice->rule.short_minutes);
    append_figure_text(out, "threshold", notice->threshold);
    append_figure_text(out, "burn_rate_long", notice->burn_long);
    append_figure_text(out, "burn_rate_short", notice->burn_short);
    append_figure_text(out, "budget_spent", notice->budget_spent);
    buffer_append_text(out, "},\"startsAt\":");
    append_time(out, notice->fired_us);
    buffer_append_text(out, ",\"endsAt\":");
    append_time(out, notice->status == ALERT_FIRING ? now_us + 4 * repeat_us : notice->resolved_us);
    buffer_append_text(out, ",\"generatorURL\":");
    append_link(out, external_url, notice_service(notice));
    buffer_append_char(out, '}');
}

void
webhook_body_alertmanager(struct buffer *out, const struct notice *const notices[], size_t count,
                          const char *external_url, int64_t now_us, int64_t repeat_us)
{
    buffer_append_char(out, '[');
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            buffer_append_char(out, ',');
        }
        append_alertmanager(out, notices[i], external_url, now_us, repeat_us);
    }
    buffer_append_char(out, ']');
}

static void
append_number(struct buffer *out, const char *key, double value)
{
    buffer_printf(out, "\"%s\":", key);
    buffer_append_json_number(out, value);
}

void
webhook_body_json(struct buffer *out, const struct notice *notice, const char *external_url)
{
    const struct slo_objective *objective = &notice->objective;

    buffer_printf(out, "{\"version\":1,\"id\":\"%s\"", notice->id);
    json_member_text(out, "state", span_of(alert_status_name(notice->status)));
    json_member_text(out, "severity", span_of(alert_severity_name(notice->severity)));
    json_member_text(out, "tenant", notice_tenant(notice));
    json_member_text(out, "service", notice_service(notice));
    json_member_text(out, "objective", span_of(objective->id));
    json_member_text(out, "type", span_of(slo_type_name(objective->type)));
    buffer_append_char(out, ',');
    append_number(out, "target", objective->target);
    append_period(out, "window", objective);
    buffer_append_text(out, ",\"fired_at\":");
    append_time(out, notice->fired_us);
    buffer_append_text(out, ",\"resolved_at\":");
    if (notice->status == ALERT_FIRING) {
        buffer_append_text(out, "null");
    } else {
        append_time(out, notice->resolved_us);
    }
    append_window(out, "long_window", notice->rule.long_minutes);
    append_window(out, "short_window", notice->rule.short_minutes);
    buffer_append_char(out, ',');
    append_number(out, "threshold", notice->threshold);
    buffer_append_text(out, ",\"burn_rate\":{");
    append_number(out, "long", notice->burn_long);
    buffer_append_char(out, ',');
    append_number(out, "short", notice->burn_short);
    buffer_append_text(out, "},");
    append_number(out, "budget_spent", notice->budget_spent);
    buffer_append_text(out, ",\"summary\":");
    buffer_append_json_string(out, sentence_of(notice));
    buffer_append_text(out, ",\"url\":");
    append_link(out, external_url, notice_service(notice));
    buffer_append_text(out, "}\n");
}
