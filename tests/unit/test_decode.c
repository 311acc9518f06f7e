/* Request bodies of all four shapes into one event: what is taken, kept and refused. */
#include "core/event/decode.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/crc32c.h"
#include "core/base/json.h"
#include "core/base/timestamp.h"

static const int64_t now_us = INT64_C(1790000000123456); /* 2026-09-21 */

/* One request; the fields are set before run(). */
struct request {
    struct decode_input input;
    struct buffer scratch;
    struct event event;
    struct decode_error error;
    enum err err;
};

static void
start(struct request *request, struct span body)
{
    memset(request, 0, sizeof(*request));
    request->input = (struct decode_input){
        .route = DECODE_EVENTS,
        .body = body,
        .tenant = SPAN_LITERAL("tenant1"),
        .now_us = now_us,
        .future_skew_max_us = 1000000,
    };
}

static void
run(struct request *request)
{
    request->err =
        decode_event(&request->input, &request->scratch, &request->event, &request->error);
}

static void
finish(struct request *request)
{
    buffer_free(&request->scratch);
}

/* Decodes BODY as POST /events; release with finish(). */
static void
accept(struct request *request, const char *body)
{
    start(request, span_of(body));
    run(request);
    if (request->err != ERR_OK) {
        fail_msg("%s: %s", body, request->error.message);
    }
}

static void
assert_span(struct span span, const char *expected)
{
    if (expected == NULL ? span.data != NULL || span.len != 0 : !span_is(span, expected)) {
        fail_msg("'%.*s' instead of '%s'", (int)span.len, span.data == NULL ? "" : span.data,
                 expected == NULL ? "(absent)" : expected);
    }
}

static void
check_refusal(struct request *request, const char *code, const char *message)
{
    struct event before;

    memset(&request->event, 0x5A, sizeof(request->event));
    memcpy(&before, &request->event, sizeof(before));
    buffer_append_text(&request->scratch, "kept");
    run(request);
    if (request->err != ERR_INVALID) {
        fail_msg("'%.*s' was accepted", (int)request->input.body.len, request->input.body.data);
    }
    if (strcmp(request->error.code, code) != 0 || strcmp(request->error.message, message) != 0) {
        fail_msg("'%.*s': %s, %s", (int)request->input.body.len, request->input.body.data,
                 request->error.code, request->error.message);
    }
    assert_memory_equal(&before, &request->event, sizeof(before));
    assert_true(span_is(buffer_span(&request->scratch), "kept"));
    finish(request);
}

static void
assert_refused(const char *body, const char *message)
{
    struct request request;

    start(&request, span_of(body));
    check_refusal(&request, "validation_error", message);
}

static void
assert_ingest_refused(const char *body, const char *message)
{
    struct request request;

    start(&request, span_of(body));
    request.input.route = DECODE_INGEST;
    check_refusal(&request, "validation_error", message);
}

static void
assert_not_json(const char *body, const char *message)
{
    struct request request;

    start(&request, span_of(body));
    check_refusal(&request, "invalid_json", message);
}

static bool
is_uuid_v7(struct span id)
{
    return id.len == 36 && id.data[8] == '-' && id.data[13] == '-' && id.data[14] == '7' &&
           id.data[18] == '-' && id.data[23] == '-';
}

/* ---- the documented requests ---- */

static void
t_as_its_readme_sends_it(void **state)
{
    static const char body[] = "{\"service\":\"billing-api\",\"latency_ms\":178,\"status\":200}";
    static const uint8_t no_key[EVENT_KEY_SIZE];
    struct request request;

    (void)state;
    for (int route = DECODE_INGEST; route <= DECODE_EVENTS; route++) {
        start(&request, span_of(body));
        request.input.route = (enum decode_route)route;
        request.input.trace_id = SPAN_LITERAL("0af7651916cd43dd8448eb211c80319c");
        run(&request);
        assert_int_equal(request.err, ERR_OK);
        assert_int_equal(request.event.shape, EVENT_TELEMETRY);
        assert_span(request.event.tenant, "tenant1");
        assert_span(request.event.service, "billing-api");
        assert_span(request.event.name, "telemetry");
        assert_true(request.event.has_status);
        assert_int_equal(request.event.status, 200);
        assert_true(request.event.has_latency);
        assert_true(request.event.latency_ms == 178);
        assert_true(request.event.occurred_at_us == now_us);
        assert_true(request.event.created_at_us == now_us);
        assert_true(is_uuid_v7(request.event.id));
        assert_false(request.event.id_by_client);
        assert_memory_equal(request.event.key, no_key, EVENT_KEY_SIZE);
        assert_int_equal(request.event.content_crc, crc32c(0, body, sizeof(body) - 1));
        assert_span(request.event.trace_id, "0af7651916cd43dd8448eb211c80319c");
        assert_span(request.event.channel, NULL);
        assert_span(request.event.campaign_id, NULL);
        assert_span(request.event.user_id, NULL);
        assert_span(request.event.tags, NULL);
        assert_span(request.event.properties, NULL);
        finish(&request);
    }
}

static void
g_as_its_readme_sends_it(void **state)
{
    struct request request;

    (void)state;
    accept(&request,
           "{\"id\":\"e-1\",\"type\":\"user.signup\",\"timestamp\":\"2025-12-31T10:00:00Z\","
           "\"payload\":{\"user\":\"u1\",\"plan\":\"pro\"}}");
    assert_int_equal(request.event.shape, EVENT_GENERIC);
    assert_span(request.event.id, "e-1");
    assert_true(request.event.id_by_client);
    assert_span(request.event.name, "user.signup");
    assert_span(request.event.properties, "{\"user\":\"u1\",\"plan\":\"pro\"}");
    assert_true(request.event.occurred_at_us == INT64_C(1767175200000000));
    assert_false(request.event.has_status);
    assert_false(request.event.has_latency);
    assert_span(request.event.service, NULL);
    finish(&request);

    accept(&request, "{\"type\":\"test\"}");
    assert_span(request.event.name, "test");
    assert_false(request.event.id_by_client);
    assert_true(is_uuid_v7(request.event.id));
    assert_true(request.event.occurred_at_us == now_us);
    finish(&request);

    accept(&request, "{}");
    assert_int_equal(request.event.shape, EVENT_GENERIC);
    assert_span(request.event.name, "event");
    assert_span(request.event.properties, NULL);
    finish(&request);

    /* What a Go client sends that never set its fields. */
    accept(&request, "{\"id\":\"\",\"type\":\"\",\"timestamp\":\"0001-01-01T00:00:00Z\","
                     "\"payload\":null}");
    assert_span(request.event.name, "event");
    assert_false(request.event.id_by_client);
    assert_true(request.event.occurred_at_us == now_us);
    assert_span(request.event.properties, NULL);
    finish(&request);
}

static void
a_as_its_readme_sends_it(void **state)
{
    struct request request;
    uint8_t key[EVENT_KEY_SIZE];

    (void)state;
    accept(&request,
           "{\"event_id\":\"evt-1\",\"event_name\":\"page_view\","
           "\"timestamp\":\"2026-02-16T12:00:00+01:00\",\"properties\":{\"page\":\"/home\"}}");
    assert_int_equal(request.event.shape, EVENT_PRODUCT);
    assert_span(request.event.id, "evt-1");
    assert_true(request.event.id_by_client);
    event_key(SPAN_LITERAL("tenant1"), SPAN_LITERAL("evt-1"), key);
    assert_memory_equal(request.event.key, key, EVENT_KEY_SIZE);
    assert_span(request.event.name, "page_view");
    assert_span(request.event.properties, "{\"page\":\"/home\"}");
    assert_true(request.event.occurred_at_us == INT64_C(1771239600000000));
    finish(&request);

    accept(&request, "{\"event_name\":\"signup\",\"timestamp\":\"2026-02-16T12:00:00Z\"}");
    assert_span(request.event.properties, NULL);
    assert_false(request.event.id_by_client);
    finish(&request);
}

static void
c_as_its_readme_sends_it(void **state)
{
    static const char *const same_id[] = {
        "{\"event_name\":\"product_view\",\"channel\":\"web\",\"campaign_id\":\"cmp_987\","
        "\"user_id\":\"user_123\",\"timestamp\":1723475612,\"tags\":[\"electronics\",\"homepage\"],"
        "\"metadata\":{\"product_id\":\"prod-789\",\"price\":129.99}}",
        /* Tags and metadata are no part of the id, nor is the order or the spelling. */
        "{\"user_id\":\"user\\u005f123\",\"timestamp\":1723475612,\"channel\":\"web\","
        "\"campaign_id\":\"cmp_987\",\"event_name\":\"product_view\"}",
    };
    struct request request;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(same_id); i++) {
        accept(&request, same_id[i]);
        assert_int_equal(request.event.shape, EVENT_CHANNEL);
        assert_span(request.event.name, "product_view");
        assert_span(request.event.channel, "web");
        assert_span(request.event.campaign_id, "cmp_987");
        assert_span(request.event.user_id, "user_123");
        assert_true(request.event.occurred_at_us == INT64_C(1723475612000000));
        assert_span(request.event.tags, i == 0 ? "[\"electronics\",\"homepage\"]" : NULL);
        assert_span(request.event.properties,
                    i == 0 ? "{\"product_id\":\"prod-789\",\"price\":129.99}" : NULL);
        /* printf 'user_123|product_view|1723475612|cmp_987|web' | sha256sum */
        assert_span(request.event.id,
                    "69b4dc88c9b5fd463142fdf6d17c368403dfa2c9c35776e15ec10cf28a7b3930");
        assert_true(request.event.id_by_client);
        finish(&request);
    }
    /* printf 'u|p|1||w' | sha256sum: an absent campaign leaves its place empty. */
    accept(&request, "{\"event_name\":\"p\",\"channel\":\"w\",\"user_id\":\"u\",\"timestamp\":1}");
    assert_span(request.event.id,
                "c6d6a24ae0e2726d3c9373171c404d0ebb4caf71bc263e3a082914ede07c7180");
    assert_span(request.event.campaign_id, NULL);
    finish(&request);
    accept(&request, "{\"event_name\":\"p\",\"channel\":\"w\",\"user_id\":\"u\",\"timestamp\":1,"
                     "\"campaign_id\":\"\",\"tags\":null,\"metadata\":null}");
    assert_span(request.event.id,
                "c6d6a24ae0e2726d3c9373171c404d0ebb4caf71bc263e3a082914ede07c7180");
    assert_span(request.event.campaign_id, NULL);
    assert_span(request.event.properties, NULL);
    finish(&request);
}

/* ---- shapes ---- */

static void
the_members_tell_the_shape(void **state)
{
    static const struct {
        const char *body;
        enum event_shape shape;
    } rows[] = {
        {"{\"service\":\"s\",\"status\":200,\"latency_ms\":1,\"channel\":\"c\",\"event_name\":"
         "\"n\"}",
         EVENT_TELEMETRY},
        {"{\"event_name\":\"n\",\"channel\":\"c\",\"user_id\":\"u\",\"timestamp\":1,\"type\":"
         "\"t\"}",
         EVENT_CHANNEL},
        {"{\"event_name\":\"n\",\"timestamp\":\"2025-01-01T00:00:00Z\",\"type\":\"t\"}",
         EVENT_PRODUCT},
        {"{\"event_name\":\"n\",\"timestamp\":\"2025-01-01T00:00:00Z\",\"service\":\"s\"}",
         EVENT_PRODUCT},
        {"{\"type\":\"t\",\"service\":\"s\"}", EVENT_GENERIC},
        {"{\"status\":200,\"latency_ms\":3}", EVENT_GENERIC},
        {"{\"anything\":1}", EVENT_GENERIC},
        /* Null members do not count. */
        {"{\"service\":null,\"status\":200,\"type\":\"t\"}", EVENT_GENERIC},
        {"{\"channel\":null,\"user_id\":null,\"event_name\":\"n\","
         "\"timestamp\":\"2025-01-01T00:00:00Z\"}",
         EVENT_PRODUCT},
        {"{\"event_name\":null,\"type\":\"t\"}", EVENT_GENERIC},
    };
    struct request request;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        accept(&request, rows[i].body);
        assert_int_equal(request.event.shape, rows[i].shape);
        finish(&request);
    }
    /* Nothing fits: the refusal names what was meant. */
    assert_refused("{\"service\":\"s\",\"latency_ms\":5}", "status required");
    assert_refused("{\"service\":null}", "service required");
    assert_refused("{\"event_name\":null}", "event_name required");
    assert_refused("{\"channel\":null}", "event_name required");
    assert_refused("{\"user_id\":\"u\"}", "event_name required");
}

static void
names_have_a_default_and_an_order(void **state)
{
    static const struct {
        const char *body;
        const char *name;
        const char *properties;
    } rows[] = {
        {"{\"service\":\"s\",\"status\":200,\"latency_ms\":1,\"type\":\"t\"}", "t", NULL},
        {"{\"service\":\"s\",\"status\":200,\"latency_ms\":1,\"event_name\":\"n\"}", "n", NULL},
        {"{\"service\":\"s\",\"status\":200,\"latency_ms\":1,\"event_name\":\"n\",\"type\":\"t\"}",
         "n", "{\"type\":\"t\"}"},
        {"{\"service\":\"s\",\"status\":200,\"latency_ms\":1,\"event_name\":null,\"type\":\"\"}",
         "telemetry", NULL},
    };
    struct request request;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        accept(&request, rows[i].body);
        assert_span(request.event.name, rows[i].name);
        assert_span(request.event.properties, rows[i].properties);
        finish(&request);
    }
}

/* ---- refusals ---- */

static void
broken_json_is_told_apart_and_located(void **state)
{
    struct request request;

    (void)state;
    assert_not_json("", "invalid JSON payload: the text ends too early at byte 0");
    assert_not_json("{\"type\":", "invalid JSON payload: the text ends too early at byte 8");
    assert_not_json("{\"a\":01}",
                    "invalid JSON payload: a number must not have leading zeros at byte 5");
    assert_not_json("{\"type\":\"\xff\"}",
                    "invalid JSON payload: bytes that are not valid UTF-8 at byte 9");
    assert_not_json("{\"type\":\"a\",\"type\":\"b\"}",
                    "invalid JSON payload: a member name that the object already has at byte 12");
    assert_not_json("{\"payload\":{\"a\":1,\"a\":2}}",
                    "invalid JSON payload: a member name that the object already has at byte 18");
    assert_not_json("{\"payload\":{\"a\":1e400}}",
                    "invalid JSON payload: a number beyond the range of a double at byte 16");
    assert_not_json("[]", "invalid JSON payload: an object is expected at byte 0");
    assert_not_json("\"text\"", "invalid JSON payload: an object is expected at byte 0");
    assert_not_json("null", "invalid JSON payload: an object is expected at byte 0");
    start(&request, (struct span){NULL, 0});
    check_refusal(&request, "invalid_json",
                  "invalid JSON payload: the text ends too early at byte 0");
}

static void
nesting_is_bounded(void **state)
{
    struct request request;
    char body[300];
    const int inner = DECODE_DEPTH_MAX - 2; /* below the body and the payload */

    (void)state;
    for (int more = 0; more <= 1; more++) {
        char brackets[DECODE_DEPTH_MAX + 1];
        char ends[DECODE_DEPTH_MAX + 1];

        memset(brackets, '[', sizeof(brackets));
        memset(ends, ']', sizeof(ends));
        snprintf(body, sizeof(body), "{\"x\":1,\"payload\":{\"a\":%.*s%.*s}}", inner + more,
                 brackets, inner + more, ends);
        start(&request, span_of(body));
        run(&request);
        assert_int_equal(request.err, more == 0 ? ERR_OK : ERR_INVALID);
        finish(&request);
    }
    assert_non_null(strstr(request.error.message, "nested too deeply"));
}

static void
t_is_refused_by_the_first_member_at_fault(void **state)
{
    static const char status[] = "status must be an integer from 100 to 599";
    static const char latency[] = "latency_ms must be a finite number of at least 0";

    (void)state;
    assert_ingest_refused("{}", "service required");
    assert_ingest_refused("{\"service\":\"\"}", "service required");
    assert_ingest_refused("{\"service\":null}", "service required");
    assert_ingest_refused("{\"type\":\"t\"}", "service required");
    assert_ingest_refused("{\"service\":5}", "service must be a string");
    assert_ingest_refused("{\"service\":\"s\"}", "status required");
    assert_ingest_refused("{\"service\":\"s\",\"status\":null}", "status required");
    assert_ingest_refused("{\"service\":\"s\",\"status\":99}", status);
    assert_ingest_refused("{\"service\":\"s\",\"status\":600}", status);
    assert_ingest_refused("{\"service\":\"s\",\"status\":-200}", status);
    assert_ingest_refused("{\"service\":\"s\",\"status\":200.0}", status);
    assert_ingest_refused("{\"service\":\"s\",\"status\":2e2}", status);
    assert_ingest_refused("{\"service\":\"s\",\"status\":\"200\"}", status);
    assert_ingest_refused("{\"service\":\"s\",\"status\":true}", status);
    assert_ingest_refused("{\"service\":\"s\",\"status\":18446744073709551816}", status);
    assert_ingest_refused("{\"service\":\"s\",\"status\":200}", "latency_ms required");
    assert_ingest_refused("{\"service\":\"s\",\"status\":200,\"latency_ms\":null}",
                          "latency_ms required");
    assert_ingest_refused("{\"service\":\"s\",\"status\":200,\"latency_ms\":-0.001}", latency);
    assert_ingest_refused("{\"service\":\"s\",\"status\":200,\"latency_ms\":\"1\"}", latency);
    assert_ingest_refused("{\"service\":\"s\",\"status\":200,\"latency_ms\":[1]}", latency);
    assert_ingest_refused("{\"service\":\"s\",\"status\":200,\"latency_ms\":1,\"type\":5}",
                          "type must be a string");
    assert_ingest_refused("{\"service\":\"s\",\"status\":200,\"latency_ms\":1,\"event_name\":[]}",
                          "event_name must be a string");
    assert_ingest_refused("{\"service\":\"s\",\"status\":200,\"latency_ms\":1,\"properties\":[]}",
                          "properties must be an object");
}

static void
t_takes_the_whole_range_of_status_and_latency(void **state)
{
    static const struct {
        const char *latency;
        double expected;
    } rows[] = {{"0", 0}, {"-0", 0}, {"-0.0", 0}, {"0.25", 0.25}, {"1e3", 1000}, {"1e308", 1e308}};
    struct request request;
    char body[100];

    (void)state;
    for (int status = 100; status <= 599; status += 499) {
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            snprintf(body, sizeof(body), "{\"service\":\"s\",\"status\":%d,\"latency_ms\":%s}",
                     status, rows[i].latency);
            accept(&request, body);
            assert_int_equal(request.event.status, status);
            assert_true(request.event.latency_ms == rows[i].expected);
            assert_false(signbit(request.event.latency_ms));
            finish(&request);
        }
    }
}

static void
a_is_refused_in_its_own_words_and_order(void **state)
{
    (void)state;
    assert_refused("{\"event_name\":\"\"}", "event_name required");
    assert_refused("{\"event_name\":\"\",\"timestamp\":\"bad\"}", "event_name required");
    assert_refused("{\"event_name\":5}", "event_name must be a string");
    assert_refused("{\"event_name\":\"n\"}", "timestamp required");
    assert_refused("{\"event_name\":\"n\",\"timestamp\":null}", "timestamp required");
    assert_refused("{\"event_name\":\"n\",\"timestamp\":\"\"}", "timestamp required");
    assert_refused("{\"event_name\":\"n\",\"timestamp\":\"yesterday\"}",
                   "timestamp must be RFC3339");
    assert_refused("{\"event_name\":\"n\",\"timestamp\":\"2025-01-01T00:00:00\"}",
                   "timestamp must be RFC3339");
    assert_refused("{\"event_name\":\"n\",\"timestamp\":1700000000}", "timestamp must be RFC3339");
    assert_refused("{\"event_name\":\"n\",\"timestamp\":{}}", "timestamp must be RFC3339");
    assert_refused("{\"event_name\":\"n\",\"timestamp\":\"bad\",\"properties\":[]}",
                   "properties must be an object");
    assert_refused("{\"event_name\":\"n\",\"timestamp\":\"bad\",\"properties\":\"{}\"}",
                   "properties must be an object");
}

static void
c_is_refused_by_the_member_at_fault(void **state)
{
    static const char integer[] = "timestamp must be an integer, in epoch seconds";
    static const struct {
        const char *rest;
        const char *message;
    } rows[] = {
        {"", "timestamp required"},
        {",\"timestamp\":0", "timestamp required"},
        {",\"timestamp\":-0", "timestamp required"},
        {",\"timestamp\":null", "timestamp required"},
        {",\"timestamp\":1.5", integer},
        {",\"timestamp\":1e9", integer},
        {",\"timestamp\":\"1700000000\"", integer},
        {",\"timestamp\":\"2025-01-01T00:00:00Z\"", integer},
        {",\"timestamp\":9223372036854775808", integer},
        {",\"timestamp\":1700000000000", "timestamp cannot be in the future"},
        {",\"timestamp\":9223372036854775807", "timestamp cannot be in the future"},
        {",\"timestamp\":253402300800", "timestamp cannot be in the future"},
        {",\"timestamp\":-62135596801", "timestamp is out of range"},
        {",\"timestamp\":-9223372036854775808", "timestamp is out of range"},
        {",\"timestamp\":1,\"tags\":\"a\"", "tags must be an array of strings"},
        {",\"timestamp\":1,\"tags\":{}", "tags must be an array of strings"},
        {",\"timestamp\":1,\"tags\":[\"a\",1]", "tags must be an array of strings"},
        {",\"timestamp\":1,\"tags\":[null]", "tags must be an array of strings"},
        {",\"timestamp\":1,\"tags\":[[\"a\"]]", "tags must be an array of strings"},
        {",\"timestamp\":1,\"metadata\":[]", "metadata must be an object"},
        {",\"timestamp\":1,\"metadata\":\"x\"", "metadata must be an object"},
        {",\"timestamp\":1,\"metadata\":{},\"payload\":1", "payload must be an object"},
        {",\"timestamp\":1,\"campaign_id\":7", "campaign_id must be a string"},
        {",\"timestamp\":1,\"campaign_id\":\"a\\u0000b\"", "campaign_id must not contain NUL"},
    };
    char body[300];

    (void)state;
    assert_refused("{\"channel\":\"c\"}", "event_name required");
    assert_refused("{\"channel\":\"c\",\"event_name\":\"n\"}", "user_id required");
    assert_refused("{\"user_id\":\"u\",\"event_name\":\"n\"}", "channel required");
    assert_refused("{\"user_id\":\"\",\"channel\":\"c\",\"event_name\":\"n\"}", "user_id required");
    assert_refused("{\"user_id\":7,\"channel\":\"c\",\"event_name\":\"n\"}",
                   "user_id must be a string");
    assert_refused("{\"user_id\":\"u\",\"channel\":false,\"event_name\":\"n\"}",
                   "channel must be a string");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        snprintf(body, sizeof(body), "{\"event_name\":\"n\",\"channel\":\"c\",\"user_id\":\"u\"%s}",
                 rows[i].rest);
        assert_refused(body, rows[i].message);
    }
}

static void
g_is_refused_for_wrong_types_only(void **state)
{
    static const char timestamp[] = "timestamp must be RFC3339 or an epoch number";

    (void)state;
    assert_refused("{\"type\":5}", "type must be a string");
    assert_refused("{\"type\":\"t\",\"id\":5}", "id must be a string");
    assert_refused("{\"event_id\":{}}", "event_id must be a string");
    assert_refused("{\"payload\":\"text\"}", "payload must be an object");
    assert_refused("{\"timestamp\":\"\"}", timestamp);
    assert_refused("{\"timestamp\":\"2025-02-30T00:00:00Z\"}", timestamp);
    assert_refused("{\"timestamp\":true}", timestamp);
    assert_refused("{\"timestamp\":[]}", timestamp);
    assert_refused("{\"timestamp\":1e40}", timestamp);
    assert_refused("{\"type\":\"a\\u0000b\"}", "type must not contain NUL");
    assert_refused("{\"id\":\"\\u0000\"}", "id must not contain NUL");
}

static void
names_and_ids_are_1_to_255_bytes(void **state)
{
    static const char *const members[] = {"service", "event_name", "event_id", "id",
                                          "type",    "channel",    "user_id",  "campaign_id"};
    char text[260];
    char body[800];
    char message[64];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        for (int len = 255; len <= 256; len++) {
            /* 'v' stands for the member under test; each body has the others it needs. */
            const char *form = i == 0   ? "\"status\":200,\"latency_ms\":1"
                               : i == 1 ? "\"timestamp\":\"2025-01-01T00:00:00Z\""
                               : i == 5 ? "\"event_name\":\"n\",\"user_id\":\"u\",\"timestamp\":1"
                               : i == 6 ? "\"event_name\":\"n\",\"channel\":\"c\",\"timestamp\":1"
                               : i == 7
                                   ? "\"event_name\":\"n\",\"channel\":\"c\",\"user_id\":\"u\","
                                     "\"timestamp\":1"
                                   : "\"x\":1";
            struct request request;

            memset(text, 'v', (size_t)len);
            text[len] = 0;
            snprintf(body, sizeof(body), "{\"%s\":\"%s\",%s}", members[i], text, form);
            if (len == 255) {
                accept(&request, body);
                finish(&request);
            } else {
                snprintf(message, sizeof(message), "%s must be 1 to 255 bytes", members[i]);
                assert_refused(body, message);
            }
        }
    }
}

static void
lengths_are_counted_after_unescaping(void **state)
{
    struct buffer body = BUFFER_EMPTY;
    struct request request;

    (void)state;
    for (int count = 127; count <= 128; count++) { /* two bytes each */
        buffer_clear(&body, 10000);
        buffer_append_text(&body, "{\"type\":\"x");
        for (int i = 0; i < count; i++) {
            buffer_append_text(&body, "\\u00e9");
        }
        buffer_append_text(&body, "\"}");
        start(&request, buffer_span(&body));
        run(&request);
        assert_int_equal(request.err, count == 127 ? ERR_OK : ERR_INVALID);
        if (count == 127) {
            assert_int_equal(request.event.name.len, 255);
            assert_memory_equal(request.event.name.data, "x\xc3\xa9\xc3\xa9", 5);
        }
        finish(&request);
    }
    buffer_free(&body);
}

/* ---- timestamps ---- */

static void
t_and_g_take_every_form_of_time(void **state)
{
    static const struct {
        const char *timestamp;
        int64_t us;
    } rows[] = {
        {"\"2025-12-31T10:00:00Z\"", INT64_C(1767175200000000)},
        {"\"2025-12-31T12:00:00.25+02:00\"", INT64_C(1767175200250000)},
        {"\"2025-12-31T10:00:00\\u005A\"", INT64_C(1767175200000000)},
        {"1767175200", INT64_C(1767175200000000)},
        {"1767175200.5", INT64_C(1767175200500000)},
        {"1767175200123", INT64_C(1767175200123000)},
        {"1767175200123456", INT64_C(1767175200123456)},
        {"1767175200123456789", INT64_C(1767175200123456)},
        {"-1", -1000000},
        {"\"1970-01-01T00:00:00Z\"", 0},
        {"null", INT64_C(1790000000123456)},
        {"0", INT64_C(1790000000123456)},
        {"\"0001-01-01T00:00:00Z\"", INT64_C(1790000000123456)},
    };
    static const char *const members[] = {"\"type\":\"t\"",
                                          "\"service\":\"s\",\"status\":200,\"latency_ms\":1"};
    struct request request;
    char body[200];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t k = 0; k < ARRAY_LEN(members); k++) {
            snprintf(body, sizeof(body), "{%s,\"timestamp\":%s}", members[k], rows[i].timestamp);
            accept(&request, body);
            assert_true(request.event.occurred_at_us == rows[i].us);
            assert_span(request.event.properties, NULL);
            finish(&request);
        }
    }
}

static void
the_future_begins_after_the_skew(void **state)
{
    static const char *const forms[] = {
        "{\"type\":\"t\",\"timestamp\":\"%s\"}",
        "{\"service\":\"s\",\"status\":200,\"latency_ms\":1,\"timestamp\":\"%s\"}",
        "{\"event_name\":\"n\",\"timestamp\":\"%s\"}",
    };
    struct request request;
    char text[TIMESTAMP_TEXT_SIZE];
    char body[200];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        for (int64_t over = 0; over <= 1; over++) {
            const char *place = strstr(forms[i], "%s");

            timestamp_format(now_us + 1000000 + over, text);
            snprintf(body, sizeof(body), "%.*s%s%s", (int)(place - forms[i]), forms[i], text,
                     place + 2);
            if (over == 0) {
                accept(&request, body);
                assert_true(request.event.occurred_at_us == now_us + 1000000);
                finish(&request);
            } else {
                assert_refused(body, "timestamp cannot be in the future");
            }
        }
    }
    start(&request, span_of("{\"type\":\"t\",\"timestamp\":\"9999-12-31T23:59:59Z\"}"));
    request.input.future_skew_max_us = INT64_MAX; /* no limit, and no overflow */
    run(&request);
    assert_int_equal(request.err, ERR_OK);
    finish(&request);
    start(&request, span_of("{\"type\":\"t\",\"timestamp\":\"0001-01-01T00:00:00.000001Z\"}"));
    request.input.future_skew_max_us = 0;
    run(&request);
    assert_int_equal(request.err, ERR_OK);
    finish(&request);
}

static void
json_and_shape_are_judged_before_the_time(void **state)
{
    (void)state;
    assert_not_json("{\"event_name\":\"n\",\"timestamp\":\"9999-01-01T00:00:00Z\",}",
                    "invalid JSON payload: a member name in double quotes is expected at byte 53");
    assert_refused("{\"type\":\"t\",\"timestamp\":\"9999-01-01T00:00:00Z\",\"id\":1}",
                   "id must be a string");
    assert_refused("{\"type\":\"t\",\"timestamp\":\"9999-01-01T00:00:00Z\",\"payload\":1}",
                   "payload must be an object");
}

/* ---- event ids ---- */

static void
assert_id(const char *body, const char *header, const char *id, const char *properties)
{
    struct request request;
    uint8_t key[EVENT_KEY_SIZE];

    start(&request, span_of(body));
    request.input.idempotency_key = span_of(header);
    run(&request);
    if (request.err != ERR_OK) {
        fail_msg("%s: %s", body, request.error.message);
    }
    assert_span(request.event.id, id);
    assert_true(request.event.id_by_client);
    event_key(request.input.tenant, span_of(id), key);
    assert_memory_equal(request.event.key, key, EVENT_KEY_SIZE);
    assert_span(request.event.properties, properties);
    finish(&request);
}

static void
ids_have_an_order_and_the_outranked_are_kept(void **state)
{
    (void)state;
    assert_id("{\"event_id\":\"e\",\"id\":\"i\"}", "h", "h", "{\"event_id\":\"e\",\"id\":\"i\"}");
    assert_id("{\"event_id\":\"e\",\"id\":\"i\"}", NULL, "e", "{\"id\":\"i\"}");
    assert_id("{\"event_id\":\"e\",\"id\":42}", NULL, "e", "{\"id\":42}");
    assert_id("{\"id\":\"i\"}", NULL, "i", NULL);
    assert_id("{\"event_id\":\"\",\"id\":\"i\"}", NULL, "i", NULL);
    assert_id("{\"event_id\":null,\"id\":\"i\"}", "", "i", NULL);
    assert_id(
        "{\"event_name\":\"n\",\"channel\":\"c\",\"user_id\":\"u\",\"timestamp\":1,\"id\":\"i\"}",
        " \t ", "i", NULL);
    assert_id("{\"id\":\"caf\\u00e9\"}", NULL, "caf\xc3\xa9", NULL);
    assert_id("{}", "k", "k", NULL);
}

static void
the_header_key_is_bare_or_quoted(void **state)
{
    char key[300];

    (void)state;
    assert_id("{}", "example1", "example1", NULL);
    assert_id("{}", "  example1\t", "example1", NULL);
    assert_id("{}", "\"example1\"", "example1", NULL);
    assert_id("{}", " \"example1\" ", "example1", NULL);
    assert_id("{}", "\"a\\\"b\\\\c\"", "a\"b\\c", NULL);
    assert_id("{}", "a\"b\\c", "a\"b\\c", NULL);
    assert_id("{}", "!~", "!~", NULL);
    assert_id("{}", "a b", "a b", NULL); /* RFC 8941 has blanks in strings, A took any value */
    assert_id("{}", "\" a b \"", " a b ", NULL);
    memset(key, 'k', sizeof(key));
    key[255] = 0;
    assert_id("{}", key, key, NULL);
}

static void
bad_header_keys_are_refused(void **state)
{
    static const char printable[] = "Idempotency-Key must be 1 to 255 printable ASCII characters";
    static const char open[] = "Idempotency-Key has an opening quote but no closing one";
    static const char quoted[] = "Idempotency-Key is not a valid quoted string";
    static const struct {
        const char *header;
        const char *message;
    } rows[] = {
        {"\"\"", printable},  {"a\x7f", printable}, {"caf\xc3\xa9", printable},
        {"a\tb", printable},  {"a\x01", printable}, {"\"a\tb\"", printable},
        {"\"", open},         {"\"abc", open},      {"\"a\"b\"", quoted},
        {"\"a\\b\"", quoted}, {"\"a\\\"", quoted},
    };
    struct request request;
    char key[300];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        start(&request, SPAN_LITERAL("{}"));
        request.input.idempotency_key = span_of(rows[i].header);
        check_refusal(&request, "validation_error", rows[i].message);
    }
    memset(key, 'k', sizeof(key));
    key[256] = 0;
    start(&request, SPAN_LITERAL("{}"));
    request.input.idempotency_key = span_of(key);
    check_refusal(&request, "validation_error", printable);
    start(&request, SPAN_LITERAL("{}"));
    request.input.idempotency_key = SPAN_LITERAL("a\0b");
    check_refusal(&request, "validation_error", printable);
}

/* ---- properties ---- */

static void
properties_lose_nothing(void **state)
{
    static const struct {
        const char *body;
        const char *properties;
    } rows[] = {
        /* As they came, spaces included. */
        {"{\"type\":\"t\",\"payload\":{ \"n\" : 9007199254740993 }}",
         "{ \"n\" : 9007199254740993 }"},
        {"{\"type\":\"t\",\"payload\":{}}", "{}"},
        {"{\"type\":\"t\",\"payload\":{\"a\":\"\\u0000\\u00e9\",\"\\u0000\":-0.0,\"e\":1E+2}}",
         "{\"a\":\"\\u0000\\u00e9\",\"\\u0000\":-0.0,\"e\":1E+2}"},
        {"{\"type\":\"t\",\"payload\":{\"\xe6\x97\xa5\":\"\xf0\x9f\x98\x80\"}}",
         "{\"\xe6\x97\xa5\":\"\xf0\x9f\x98\x80\"}"},
        {"{\"type\":\"t\",\"properties\":{\"a\":1}}", "{\"a\":1}"},
        {"{\"type\":\"t\",\"metadata\":{\"a\":1}}", "{\"a\":1}"},
        /* Unknown members alone. */
        {"{\"type\":\"t\",\"n\":9007199254740993,\"s\" : \"x\" }",
         "{\"n\":9007199254740993,\"s\":\"x\"}"},
        {"{\"service\":\"s\",\"status\":200,\"latency_ms\":1,\"region\":\"eu\",\"nil\":null}",
         "{\"region\":\"eu\",\"nil\":null}"},
        {"{\"na\\u006de\":1}", "{\"na\\u006de\":1}"},
        /* Members without a role in their shape. */
        {"{\"service\":\"s\",\"status\":200,\"latency_ms\":1,\"user_id\":7,\"tags\":{\"a\":1}}",
         "{\"user_id\":7,\"tags\":{\"a\":1}}"},
        {"{\"type\":\"t\",\"status\":\"open\",\"channel\":null}", "{\"status\":\"open\"}"},
        {"{\"event_name\":\"n\",\"timestamp\":\"2025-01-01T00:00:00Z\",\"campaign_id\":\"c\"}",
         "{\"campaign_id\":\"c\"}"},
        {"{\"event_name\":\"n\",\"channel\":\"c\",\"user_id\":\"u\",\"timestamp\":1,\"x\":[1]}",
         "{\"x\":[1]}"},
        /* Both: the object's first. */
        {"{\"x\":1,\"type\":\"t\",\"payload\":{\"a\": 1},\"y\":2}", "{\"a\": 1,\"x\":1,\"y\":2}"},
        {"{\"x\":1,\"type\":\"t\",\"payload\":{ }}", "{\"x\":1}"},
        {"{\"type\":\"t\",\"properties\":{\"a\":1},\"payload\":{\"a\":2},\"metadata\":{}}",
         "{\"a\":1,\"payload\":{\"a\":2},\"metadata\":{}}"},
        /* A name on both sides: the object stays closed. */
        {"{\"x\":1,\"type\":\"t\",\"payload\":{\"x\":2},\"y\":3}",
         "{\"x\":1,\"payload\":{\"x\":2},\"y\":3}"},
        {"{\"x\":1,\"type\":\"t\",\"payload\":{\"\\u0078\":2}}",
         "{\"x\":1,\"payload\":{\"\\u0078\":2}}"},
    };
    struct request request;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        accept(&request, rows[i].body);
        assert_span(request.event.properties, rows[i].properties);
        finish(&request);
    }
}

static void
many_members_and_many_conflicts_are_gathered(void **state)
{
    struct buffer body = BUFFER_EMPTY;
    struct request request;
    struct json_member member;
    size_t offset = 0;
    size_t count = 0;

    (void)state;
    buffer_append_text(&body, "{\"type\":\"t\",\"payload\":{\"z\":0");
    for (int i = 0; i < 2000; i++) {
        buffer_printf(&body, ",\"p%d\":%d", i, i);
    }
    buffer_append_text(&body, "}");
    for (int i = 0; i < 2000; i++) {
        buffer_printf(&body, ",\"u%d\":%d", i, i);
    }
    buffer_append_text(&body, "}");
    start(&request, buffer_span(&body));
    run(&request);
    assert_int_equal(request.err, ERR_OK);
    while (json_member_next(request.event.properties, &offset, &member)) {
        count++;
    }
    assert_int_equal(count, 4001);
    finish(&request);
    buffer_free(&body);
}

static void
escaped_member_names_are_known_too(void **state)
{
    struct request request;

    (void)state;
    accept(&request, "{\"event\\u005Fname\":\"n\",\"\\u0074imestamp\":\"2025-01-01T00:00:00Z\","
                     "\"pro\\u0070erties\":{}}");
    assert_int_equal(request.event.shape, EVENT_PRODUCT);
    assert_span(request.event.name, "n");
    assert_span(request.event.properties, "{}");
    finish(&request);
    /* Close to a known name is not known. */
    accept(&request, "{\"event_names\":1,\"Type\":2,\"campaign_idx\":3,\"\":4,\"statuz\":5}");
    assert_span(request.event.properties,
                "{\"event_names\":1,\"Type\":2,\"campaign_idx\":3,\"\":4,\"statuz\":5}");
    finish(&request);
}

static void
known_members_are_found_behind_many_others(void **state)
{
    struct buffer body = BUFFER_EMPTY;
    struct request request;

    (void)state;
    buffer_append_char(&body, '{');
    for (int i = 0; i < 2 * JSON_MEMBERS_KEPT; i++) {
        buffer_printf(&body, "\"x%d\":{\"a\":\"}\"},", i);
    }
    buffer_append_text(&body, "\"service\":\"s\",\"status\":503,\"latency_ms\":2.5}");
    start(&request, buffer_span(&body));
    run(&request);
    assert_int_equal(request.err, ERR_OK);
    assert_int_equal(request.event.status, 503);
    assert_true(request.event.latency_ms == 2.5);
    assert_int_equal(request.event.properties.len,
                     body.len - strlen(",\"service\":\"s\",\"status\":503,\"latency_ms\":2.5"));
    finish(&request);
    buffer_free(&body);
}

/* ---- memory ---- */

static void
scratch_is_appended_to_and_may_be_reused(void **state)
{
    struct request request;

    (void)state;
    start(&request, span_of("{\"type\":\"caf\\u00e9\",\"x\":1}"));
    buffer_append_text(&request.scratch, "before");
    for (int i = 0; i < 100; i++) {
        run(&request);
        assert_int_equal(request.err, ERR_OK);
        assert_span(request.event.name, "caf\xc3\xa9");
        assert_span(request.event.properties, "{\"x\":1}");
        assert_true(is_uuid_v7(request.event.id));
        assert_memory_equal(request.scratch.data, "before", 6);
    }
    finish(&request);
}

static void
want_of_memory_is_an_error_of_its_own(void **state)
{
    struct request request;

    (void)state;
    start(&request, (struct span){"{}", SIZE_MAX / 8}); /* refused before it is read */
    run(&request);
    assert_int_equal(request.err, ERR_NO_MEMORY);
    finish(&request);
}

static void
every_accepted_event_survives_its_encoding(void **state)
{
    static const char *const bodies[] = {
        "{\"service\":\"s\",\"status\":200,\"latency_ms\":1.5,\"x\":1}",
        "{\"event_name\":\"n\",\"channel\":\"c\",\"user_id\":\"u\",\"timestamp\":1,\"tags\":[\"a\"]"
        ","
        "\"campaign_id\":\"k\",\"metadata\":{\"n\":9007199254740993}}",
        "{}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        struct buffer bytes = BUFFER_EMPTY;
        struct request request;
        struct event back;

        accept(&request, bodies[i]);
        event_encode(&request.event, &bytes);
        assert_int_equal(event_decode(buffer_span(&bytes), &back), ERR_OK);
        assert_int_equal(back.shape, request.event.shape);
        assert_true(span_equal(back.id, request.event.id));
        assert_true(span_equal(back.tags, request.event.tags));
        assert_true(span_equal(back.properties, request.event.properties));
        assert_int_equal(back.content_crc, request.event.content_crc);
        buffer_free(&bytes);
        finish(&request);
    }
}

/* Random edits of valid requests: either an event within its limits or a sentence, never a trap. */
static void
random_bodies_are_decoded_or_refused(void **state)
{
    static const char *const bodies[] = {
        "{\"service\":\"api\",\"status\":200,\"latency_ms\":1.5,\"timestamp\":1700000000,\"x\":[1]"
        "}",
        "{\"event_name\":\"n\",\"timestamp\":\"2025-01-01T00:00:00Z\",\"properties\":{\"a\":1},"
        "\"a\":2}",
        "{\"event_name\":\"n\",\"channel\":\"c\",\"user_id\":\"u\",\"timestamp\":17,\"tags\":[\"\"]"
        "}",
        "{\"id\":\"\\u0041\",\"type\":\"t\",\"payload\":{\"b\":null},\"b\":{},\"event_id\":null}",
    };
    uint64_t seed = 7;
    size_t accepted = 0;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        const size_t len = strlen(bodies[i % 4]);
        char *body = malloc(len);
        struct request request;

        assert_non_null(body);
        memcpy(body, bodies[i % 4], len);
        for (int edit = 0; edit <= i % 3; edit++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
            body[(seed >> 33) % len] =
                (char)(seed >> 20 & 3 ? ' ' + (int)(seed >> 50) % 95 : (int)(seed >> 24 & 255));
        }
        start(&request, (struct span){body, len});
        request.input.route = i % 7 == 0 ? DECODE_INGEST : DECODE_EVENTS;
        run(&request);
        if (request.err == ERR_OK) {
            accepted++;
            assert_true(request.event.id.len >= 1 && request.event.id.len <= EVENT_NAME_MAX);
            assert_true(request.event.name.len >= 1 && request.event.name.len <= EVENT_NAME_MAX);
            assert_true(request.event.occurred_at_us <= now_us + 1000000);
        } else {
            assert_int_equal(request.err, ERR_INVALID);
            assert_non_null(request.error.code);
            assert_true(request.error.message[0] != 0);
        }
        finish(&request);
        free(body);
    }
    assert_true(accepted > 1000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(t_as_its_readme_sends_it),
        cmocka_unit_test(g_as_its_readme_sends_it),
        cmocka_unit_test(a_as_its_readme_sends_it),
        cmocka_unit_test(c_as_its_readme_sends_it),
        cmocka_unit_test(the_members_tell_the_shape),
        cmocka_unit_test(names_have_a_default_and_an_order),
        cmocka_unit_test(broken_json_is_told_apart_and_located),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(t_is_refused_by_the_first_member_at_fault),
        cmocka_unit_test(t_takes_the_whole_range_of_status_and_latency),
        cmocka_unit_test(a_is_refused_in_its_own_words_and_order),
        cmocka_unit_test(c_is_refused_by_the_member_at_fault),
        cmocka_unit_test(g_is_refused_for_wrong_types_only),
        cmocka_unit_test(names_and_ids_are_1_to_255_bytes),
        cmocka_unit_test(lengths_are_counted_after_unescaping),
        cmocka_unit_test(t_and_g_take_every_form_of_time),
        cmocka_unit_test(the_future_begins_after_the_skew),
        cmocka_unit_test(json_and_shape_are_judged_before_the_time),
        cmocka_unit_test(ids_have_an_order_and_the_outranked_are_kept),
        cmocka_unit_test(the_header_key_is_bare_or_quoted),
        cmocka_unit_test(bad_header_keys_are_refused),
        cmocka_unit_test(properties_lose_nothing),
        cmocka_unit_test(many_members_and_many_conflicts_are_gathered),
        cmocka_unit_test(escaped_member_names_are_known_too),
        cmocka_unit_test(known_members_are_found_behind_many_others),
        cmocka_unit_test(scratch_is_appended_to_and_may_be_reused),
        cmocka_unit_test(want_of_memory_is_an_error_of_its_own),
        cmocka_unit_test(every_accepted_event_survives_its_encoding),
        cmocka_unit_test(random_bodies_are_decoded_or_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
