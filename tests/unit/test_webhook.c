/*
 * test_webhook.c - what a receiver gets, addresses, the queue. How receivers that fail, hang
 * and go away are dealt with is asked of a whole server in tests/blackbox.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "cli/webhook.h"
#include "cli/webhook_body.h"
#include "core/base/log.h"

#define T0_US INT64_C(1767323045000000) /* 2026-01-02T03:04:05Z */

static struct notice
notice_of(const char *service, enum alert_status status)
{
    static const char SENTENCE[] = "s: \"quoted\"";
    struct notice notice = {
        .id = "00112233445566778899aabbccddeeff",
        .severity = ALERT_PAGE,
        .status = status,
        .tenant_len = 4,
        .tenant = "acme",
        .objective = {.id = "one", .type = SLO_LATENCY, .target = 0.99, .window_minutes = 10080},
        .fired_us = T0_US,
        .resolved_us = status == ALERT_RESOLVED ? T0_US + 1500000 : 0,
        .threshold = 6.72,
        .burn_long = 10.5,
        .burn_short = status == ALERT_FIRING ? 20 : 0.0 / 0.0,
        .budget_spent = 0.05,
    };
    struct alert_rule rules[ALERT_RULES];

    alert_rules(10080, rules);
    notice.rule = rules[0];
    notice.service_len = (uint8_t)strlen(service);
    memcpy(notice.service, service, strlen(service));
    notice.sentence_len = sizeof(SENTENCE) - 1;
    memcpy(notice.sentence, SENTENCE, sizeof(SENTENCE) - 1);
    return notice;
}

static void
assert_text(struct buffer *out, const char *expected)
{
    buffer_append_char(out, '\0');
    assert_false(out->failed);
    assert_string_equal(out->data, expected);
    buffer_free(out);
}

static void
alertmanagers_form_is_complete(void **state)
{
    const struct notice firing = notice_of("a/b", ALERT_FIRING);
    const struct notice resolved = notice_of("c", ALERT_RESOLVED);
    const struct notice *both[] = {&firing, &resolved};
    struct buffer out = BUFFER_EMPTY;

    (void)state;
    webhook_body_alertmanager(&out, both, 2, "http://here:1/", T0_US + 60000000, 60000000);
    assert_text(
        &out,
        "[{\"labels\":{\"alertname\":\"SluiceSloBurnRate\",\"tenant\":\"acme\",\"service\":\"a/b\","
        "\"objective\":\"one\",\"severity\":\"page\",\"slo_type\":\"latency\"},"
        "\"annotations\":{\"summary\":\"s: \\\"quoted\\\"\",\"slo_window\":\"7d\","
        "\"slo_target\":\"0.99\",\"long_window\":\"30m\",\"short_window\":\"3m\","
        "\"threshold\":\"6.72\",\"burn_rate_long\":\"10.5\",\"burn_rate_short\":\"20\","
        "\"budget_spent\":\"0.05\"},"
        "\"startsAt\":\"2026-01-02T03:04:05Z\",\"endsAt\":\"2026-01-02T03:09:05Z\","
        "\"generatorURL\":\"http://here:1/slo/alerts?service=a%2Fb\"},"
        "{\"labels\":{\"alertname\":\"SluiceSloBurnRate\",\"tenant\":\"acme\",\"service\":\"c\","
        "\"objective\":\"one\",\"severity\":\"page\",\"slo_type\":\"latency\"},"
        "\"annotations\":{\"summary\":\"s: \\\"quoted\\\"\",\"slo_window\":\"7d\","
        "\"slo_target\":\"0.99\",\"long_window\":\"30m\",\"short_window\":\"3m\","
        "\"threshold\":\"6.72\",\"burn_rate_long\":\"10.5\",\"burn_rate_short\":\"no data\","
        "\"budget_spent\":\"0.05\"},"
        "\"startsAt\":\"2026-01-02T03:04:05Z\",\"endsAt\":\"2026-01-02T03:04:06.500Z\","
        "\"generatorURL\":\"http://here:1/slo/alerts?service=c\"}]");
}

static void
the_json_form_is_complete(void **state)
{
    const struct notice notice = notice_of("c", ALERT_RESOLVED);
    struct buffer out = BUFFER_EMPTY;

    (void)state;
    webhook_body_json(&out, &notice, "http://here:1");
    assert_text(
        &out, "{\"version\":1,\"id\":\"00112233445566778899aabbccddeeff\",\"state\":\"resolved\","
              "\"severity\":\"page\",\"tenant\":\"acme\",\"service\":\"c\",\"objective\":\"one\","
              "\"type\":\"latency\",\"target\":0.99,\"window\":\"7d\","
              "\"fired_at\":\"2026-01-02T03:04:05Z\",\"resolved_at\":\"2026-01-02T03:04:06.500Z\","
              "\"long_window\":\"30m\",\"short_window\":\"3m\",\"threshold\":6.72,"
              "\"burn_rate\":{\"long\":10.5,\"short\":null},\"budget_spent\":0.05,"
              "\"summary\":\"s: \\\"quoted\\\"\","
              "\"url\":\"http://here:1/slo/alerts?service=c\"}\n");
}

static void
any_name_makes_good_json(void **state)
{
    struct notice notice = notice_of("c", ALERT_FIRING);
    const struct notice *one[] = {&notice};

    (void)state;
    for (int c = 0; c < 128; c++) {
        struct buffer out = BUFFER_EMPTY;
        cJSON *document;

        notice.service[0] = (char)c;
        webhook_body_json(&out, &notice, "http://here");
        document = cJSON_ParseWithLength(out.data, out.len);
        assert_non_null(document);
        cJSON_Delete(document);
        buffer_clear(&out, SIZE_MAX);
        webhook_body_alertmanager(&out, one, 1, "http://here", T0_US, 1000000);
        document = cJSON_ParseWithLength(out.data, out.len);
        assert_non_null(document);
        cJSON_Delete(document);
        buffer_free(&out);
    }
}

static void
addresses_are_checked_and_tell_the_form(void **state)
{
    static const struct {
        const char *url;
        bool valid;
        enum webhook_format format;
    } TABLE[] = {
        {"http://am:9093/api/v2/alerts", true, WEBHOOK_ALERTMANAGER},
        {"https://user:pass@am/prefix/api/v2/alerts?x=1", true, WEBHOOK_ALERTMANAGER},
        {"http://am:9093/api/v2/alerts/", true, WEBHOOK_JSON},
        {"http://am/?next=/api/v2/alerts", true, WEBHOOK_JSON},
        {"http://[::1]:8/hook", true, WEBHOOK_JSON},
        {"ftp://am/api/v2/alerts", false, WEBHOOK_ALERTMANAGER},
        {"file:///etc/passwd", false, WEBHOOK_JSON},
        {"am:9093/x", false, WEBHOOK_JSON},
        {"http://", false, WEBHOOK_JSON},
        {"", false, WEBHOOK_JSON},
        {"http://a b/", false, WEBHOOK_JSON},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(TABLE); i++) {
        const char *why = NULL;

        if (webhook_url_valid(TABLE[i].url, &why) != TABLE[i].valid) {
            fail_msg("%s", TABLE[i].url);
        }
        if (TABLE[i].valid) {
            assert_int_equal(webhook_format_of(TABLE[i].url), TABLE[i].format);
        }
    }
}

/* ---- the queue, with nobody at the other end ---- */

static void
ignore(void *arg, const struct notice *notice)
{
    (void)arg;
    (void)notice;
}

static struct webhook *
start(enum webhook_format format)
{
    const struct webhook_config config = {
        .url = "http://127.0.0.1:1/", /* refuses */
        .format = format,
        .external_url = "http://here",
        .version = "test",
        .timeout_ms = 1000,
        .backoff_ms = 600000, /* the first notice waits for its second attempt */
        .backoff_max_ms = 600000,
        .stop_grace_ms = 100,
        .repeat_us = 60000000,
        .queue_max = 4,
        .clock = clock_system(),
        .told = ignore,
    };
    struct webhook *webhook;

    assert_int_equal(webhook_start(&webhook, &config), ERR_OK);
    return webhook;
}

/* Waits until the first notice has left the queue and failed. */
static void
wait_failed(const struct notifier *notifier)
{
    const struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};
    struct notifier_stats stats = {0};

    for (int i = 0; i < 6000 && stats.failed == 0; i++) {
        nanosleep(&pause, NULL);
        notifier->ops->stats(notifier->self, &stats);
    }
    assert_int_equal(stats.failed, 1);
    assert_int_equal(stats.queued, 0);
}

static void
a_full_queue_refuses_and_counts(void **state)
{
    struct webhook *webhook = start(WEBHOOK_JSON);
    const struct notifier *notifier = webhook_notifier(webhook);
    const struct notice notice = notice_of("a", ALERT_FIRING);
    struct notifier_stats stats;

    (void)state;
    assert_int_equal(notifier->repeat_us, 0);
    assert_int_equal(notifier->ops->notify(notifier->self, &notice), ERR_OK);
    wait_failed(notifier);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(notifier->ops->notify(notifier->self, &notice), ERR_OK);
    }
    assert_int_equal(notifier->ops->notify(notifier->self, &notice), ERR_AGAIN);
    notifier->ops->stats(notifier->self, &stats);
    assert_int_equal(stats.queued, 4);
    assert_int_equal(stats.dropped, 1);
    assert_int_equal(stats.sent, 0);
    webhook_stop(webhook);
    assert_int_equal(notifier->ops->notify(notifier->self, &notice), ERR_CLOSED);
    webhook_free(webhook);
}

static void
alertmanagers_queue_keeps_the_latest_of_each_alert(void **state)
{
    struct webhook *webhook = start(WEBHOOK_ALERTMANAGER);
    const struct notifier *notifier = webhook_notifier(webhook);
    const struct notice a = notice_of("a", ALERT_FIRING);
    const struct notice over = notice_of("a", ALERT_RESOLVED);
    const struct notice b = notice_of("b", ALERT_FIRING);
    struct notifier_stats stats;

    (void)state;
    assert_int_equal(notifier->repeat_us, 60000000);
    assert_int_equal(notifier->ops->notify(notifier->self, &a), ERR_OK);
    wait_failed(notifier);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(notifier->ops->notify(notifier->self, &a), ERR_OK);
        assert_int_equal(notifier->ops->notify(notifier->self, &b), ERR_OK);
        assert_int_equal(notifier->ops->notify(notifier->self, &over), ERR_OK);
    }
    notifier->ops->stats(notifier->self, &stats);
    assert_int_equal(stats.queued, 2);
    assert_int_equal(stats.dropped, 0);
    webhook_stop(webhook);
    webhook_free(webhook);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alertmanagers_form_is_complete),
        cmocka_unit_test(the_json_form_is_complete),
        cmocka_unit_test(any_name_makes_good_json),
        cmocka_unit_test(addresses_are_checked_and_tell_the_form),
        cmocka_unit_test(a_full_queue_refuses_and_counts),
        cmocka_unit_test(alertmanagers_queue_keeps_the_latest_of_each_alert),
    };

    log_setup(LOG_ERROR, LOG_TEXT, 2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
