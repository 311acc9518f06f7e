/* From bytes in a format to events, and from events to an append. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "core/bulk.h"
#include "tests/unit/failing_alloc.h"

static const int64_t NOW_US = INT64_C(1790000000000000);

static struct bulk_config
config_of(enum split_format format)
{
    return (struct bulk_config){
        .format = format,
        .event_bytes_max = 1000,
        .elements_max = 10,
        .text_bytes_max = 2000,
        .future_skew_max_us = 1000000,
        .tenant = SPAN_LITERAL("default"),
        .trace_id = SPAN_LITERAL("0af7651916cd43dd8448eb211c80319c"),
    };
}

struct reading {
    struct bulk bulk;
    struct bulk_item item;
    bool fed;
    bool ended;
    struct span text;
};

static void
begin(struct reading *r, const struct bulk_config *config, const char *text)
{
    memset(r, 0, sizeof(*r));
    bulk_init(&r->bulk, config);
    r->text = span_of(text);
}

/* The next step that is not about bytes. */
static enum bulk_step
next(struct reading *r)
{
    for (;;) {
        enum bulk_step step = bulk_next(&r->bulk, &r->item);

        if (step != BULK_MORE) {
            return step;
        }
        if (!r->fed) {
            bulk_feed(&r->bulk, r->text, NOW_US);
            r->fed = true;
        } else {
            assert_false(r->ended);
            bulk_end(&r->bulk);
            r->ended = true;
        }
    }
}

static void
assert_refused(struct reading *r, uint64_t index, const char *code, const char *message)
{
    assert_int_equal(next(r), BULK_REFUSED);
    assert_int_equal(r->item.index, index);
    assert_string_equal(r->item.error.code, code);
    assert_string_equal(r->item.error.message, message);
}

static void
assert_ends(struct reading *r, enum bulk_step step, const char *code, const char *message)
{
    assert_int_equal(next(r), step);
    assert_string_equal(r->item.error.code, code);
    assert_string_equal(r->item.error.message, message);
    bulk_fini(&r->bulk);
    assert_int_equal(bulk_memory(&r->bulk), 0);
}

static void
shapes_mix_in_every_format(void **state)
{
    static const struct {
        enum split_format format;
        const char *text;
    } ROWS[] = {
        {SPLIT_LINES, "{\"service\":\"s\",\"status\":500,\"latency_ms\":2}\n"
                      "{\"event_name\":\"v\",\"channel\":\"web\",\"user_id\":\"u\",\"timestamp\":"
                      "1700000000,\"tags\":[\"a\"],\"region\":\"eu\"}\n"},
        {SPLIT_JSON, "[{\"service\":\"s\",\"status\":500,\"latency_ms\":2},"
                     "{\"event_name\":\"v\",\"channel\":\"web\",\"user_id\":\"u\",\"timestamp\":"
                     "1700000000,\"tags\":[\"a\"],\"region\":\"eu\"}]"},
        {SPLIT_CSV, "service,status,latency_ms,event_name,channel,user_id,timestamp,tags,region\n"
                    "s,500,2,,,,,,\n,,,v,web,u,1700000000,\"[\"\"a\"\"]\",eu\n"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        struct bulk_config config = config_of(ROWS[i].format);
        struct reading r;

        begin(&r, &config, ROWS[i].text);
        assert_int_equal(next(&r), BULK_EVENT);
        assert_int_equal(r.item.index, 0);
        assert_int_equal(r.item.event.shape, EVENT_TELEMETRY);
        assert_int_equal(r.item.event.status, 500);
        assert_false(r.item.event.id_by_client);
        assert_int_equal(r.item.event.created_at_us, NOW_US);
        assert_int_equal(r.item.event.trace_id.len, 32);
        assert_int_equal(next(&r), BULK_EVENT);
        assert_int_equal(r.item.index, 1);
        assert_int_equal(r.item.event.shape, EVENT_CHANNEL);
        assert_true(r.item.event.id_by_client);
        assert_true(span_is(r.item.event.tags, "[\"a\"]"));
        assert_true(span_is(r.item.event.properties, "{\"region\":\"eu\"}"));
        assert_int_equal(next(&r), BULK_DONE);
        bulk_fini(&r.bulk);
    }
}

static void
a_refused_line_has_its_place_and_its_sentence(void **state)
{
    struct bulk_config config = config_of(SPLIT_LINES);
    struct reading r;

    (void)state;
    begin(&r, &config, "{}\n\n{\"event_name\":5}\n{not\n5\n{}");
    assert_int_equal(next(&r), BULK_EVENT);
    assert_refused(&r, 1, "validation_error", "event_name must be a string");
    assert_refused(&r, 2, "invalid_json",
                   "invalid JSON payload: a member name in double quotes is expected at byte 1");
    assert_refused(&r, 3, "invalid_json", "invalid JSON payload: an object is expected at byte 0");
    assert_int_equal(next(&r), BULK_EVENT);
    assert_int_equal(r.item.index, 4);
    assert_int_equal(next(&r), BULK_DONE);
    bulk_fini(&r.bulk);
}

static void
a_json_text_that_is_none_is_broken_but_a_value_that_is_no_event_only_refused(void **state)
{
    struct bulk_config config = config_of(SPLIT_JSON);
    struct reading r;

    (void)state;
    begin(&r, &config, "[5,{\"type\":5},[{}],{\"a\":1,\"a\":2}]");
    assert_refused(&r, 0, "validation_error", "must be an object");
    assert_refused(&r, 1, "validation_error", "type must be a string");
    assert_refused(&r, 2, "validation_error", "must be an object");
    assert_ends(&r, BULK_BROKEN, "invalid_json",
                "invalid JSON payload: a member name that the object already has at byte 7");
    begin(&r, &config, "[{},]");
    assert_int_equal(next(&r), BULK_EVENT);
    assert_ends(&r, BULK_BROKEN, "invalid_json",
                "invalid JSON payload: the text ends too early at byte 0");
    begin(&r, &config, "[{\"a\":[}]");
    assert_ends(&r, BULK_BROKEN, "invalid_json",
                "invalid JSON payload: a value is expected at byte 6");
}

static void
a_cell_that_is_not_utf8_refuses_its_row(void **state)
{
    struct bulk_config config = config_of(SPLIT_CSV);
    struct reading r;

    (void)state;
    begin(&r, &config, "id,type\n1,\xFF\n2,t\n");
    assert_refused(&r, 0, "validation_error", "a cell is not valid UTF-8");
    assert_int_equal(next(&r), BULK_EVENT);
    assert_true(span_is(r.item.event.id, "2"));
    assert_int_equal(next(&r), BULK_DONE);
    bulk_fini(&r.bulk);
}

static void
more_elements_than_allowed_are_too_big(void **state)
{
    struct bulk_config config = config_of(SPLIT_LINES);
    struct reading r;

    (void)state;
    config.elements_max = 2;
    begin(&r, &config, "{}\n{\n{}\n");
    assert_int_equal(next(&r), BULK_EVENT);
    assert_int_equal(next(&r), BULK_REFUSED);
    assert_ends(&r, BULK_TOO_BIG, "body_too_large", "more events in one bulk than MAX_BULK_EVENTS");
}

/* Few bytes of CSV can stand for much JSON: the names are repeated in every row. */
static void
rows_count_as_the_json_they_stand_for(void **state)
{
    struct bulk_config config = config_of(SPLIT_CSV);
    struct reading r;

    (void)state;
    config.text_bytes_max = 2 * sizeof("{\"a_column_with_a_long_name\":\"1\"}") - 2;
    begin(&r, &config, "a_column_with_a_long_name\n1\n2\n3\n");
    assert_int_equal(next(&r), BULK_EVENT);
    assert_int_equal(next(&r), BULK_EVENT);
    assert_ends(&r, BULK_TOO_BIG, "body_too_large",
                "the rows as JSON are larger than MAX_BODY_BYTES");
}

static void
a_timestamp_is_judged_by_the_moment_its_bytes_came(void **state)
{
    struct bulk_config config = config_of(SPLIT_LINES);
    struct bulk_item item;
    struct bulk bulk;

    (void)state;
    bulk_init(&bulk, &config);
    bulk_feed(&bulk, SPAN_LITERAL("{\"timestamp\":1790000100}\n"), NOW_US);
    assert_int_equal(bulk_next(&bulk, &item), BULK_REFUSED);
    assert_int_equal(bulk_next(&bulk, &item), BULK_MORE);
    bulk_feed(&bulk, SPAN_LITERAL("{\"timestamp\":1790000100}\n"), NOW_US + 100000000);
    assert_int_equal(bulk_next(&bulk, &item), BULK_EVENT);
    bulk_fini(&bulk);
}

static void
a_sealed_pack_holds_each_event_in_order(void **state)
{
    struct bulk_config config = config_of(SPLIT_LINES);
    struct bulk_pack pack = {0};
    struct buffer text = BUFFER_EMPTY;
    struct reading r;

    (void)state;
    config.elements_max = 1000;
    config.text_bytes_max = 100000;
    for (int i = 0; i < 1000; i++) {
        buffer_printf(&text, i % 2 == 0 ? "{\"id\":\"e%d\"}\n" : "{\"x\":%d}\n", i);
    }
    buffer_append_char(&text, '\0');
    begin(&r, &config, text.data);
    while (next(&r) == BULK_EVENT) {
        assert_int_equal(bulk_pack_add(&pack, &r.item.event), ERR_OK);
    }
    bulk_fini(&r.bulk);
    bulk_pack_seal(&pack);
    assert_int_equal(pack.count, 1000);
    for (uint32_t i = 0; i < pack.count; i++) {
        struct event event;
        char id[16];

        assert_int_equal(event_decode(pack.events[i].body, &event), ERR_OK);
        assert_int_equal(pack.events[i].has_key, i % 2 == 0);
        assert_memory_equal(pack.events[i].key, event.key, EVENT_KEY_SIZE);
        assert_int_equal(pack.events[i].content_crc, event.content_crc);
        (void)snprintf(id, sizeof(id), "e%u", i);
        assert_int_equal(span_is(event.id, id), i % 2 == 0);
    }
    assert_true(bulk_pack_memory(&pack) >= pack.bytes.len);
    bulk_pack_free(&pack);
    assert_int_equal(bulk_pack_memory(&pack), 0);
    buffer_free(&text);
}

/* Reads all of TEXT in pieces of 7 bytes; BULK_DONE or BULK_NO_MEMORY. */
static enum bulk_step
read_with_little_memory(const struct bulk_config *config, struct span text)
{
    enum bulk_step step = BULK_MORE;
    struct bulk_pack pack = {0};
    struct bulk_item item;
    struct bulk bulk;

    bulk_init(&bulk, config);
    while (step == BULK_MORE) {
        size_t len = text.len < 7 ? text.len : 7;

        if (len == 0) {
            bulk_end(&bulk);
        } else {
            bulk_feed(&bulk, (struct span){text.data, len}, NOW_US);
        }
        text = (struct span){text.data + len, text.len - len};
        while ((step = bulk_next(&bulk, &item)) == BULK_EVENT) {
            if (bulk_pack_add(&pack, &item.event) != ERR_OK) {
                step = BULK_NO_MEMORY;
                break;
            }
        }
    }
    bulk_pack_free(&pack);
    bulk_fini(&bulk);
    return step;
}

static void
want_of_memory_anywhere_is_said_and_leaves_nothing_behind(void **state)
{
    static const char *const TEXTS[] = {
        [SPLIT_JSON] = "{\"a\":{\"b\":1},\"events\":[{\"type\":\"a\\u0041\"},{\"x\":1}]}",
        [SPLIT_LINES] = "{\"type\":\"a\\u0041\"}\n{\"x\":1}\n",
        [SPLIT_CSV] = "id,\"a\"\"b\",properties\n1,\"x\"\"y\",{}\n",
    };

    (void)state;
    if (!FAILING_ALLOC) {
        print_message("the sanitizers bring their own malloc()\n");
        skip();
    }
    for (size_t i = 0; i < ARRAY_LEN(TEXTS); i++) {
        struct bulk_config config = config_of((enum split_format)i);
        enum bulk_step step = BULK_NO_MEMORY;
        long allocations = 0;

        for (; step == BULK_NO_MEMORY && allocations < 1000; allocations++) {
            fail_allocations_after(allocations);
            step = read_with_little_memory(&config, span_of(TEXTS[i]));
            fail_allocations_after(-1);
        }
        assert_int_equal(step, BULK_DONE);
        assert_true(allocations > 3);
    }
}

int
main(void)
{
    static const struct CMUnitTest TESTS[] = {
        cmocka_unit_test(shapes_mix_in_every_format),
        cmocka_unit_test(a_refused_line_has_its_place_and_its_sentence),
        cmocka_unit_test(
            a_json_text_that_is_none_is_broken_but_a_value_that_is_no_event_only_refused),
        cmocka_unit_test(a_cell_that_is_not_utf8_refuses_its_row),
        cmocka_unit_test(more_elements_than_allowed_are_too_big),
        cmocka_unit_test(rows_count_as_the_json_they_stand_for),
        cmocka_unit_test(a_timestamp_is_judged_by_the_moment_its_bytes_came),
        cmocka_unit_test(a_sealed_pack_holds_each_event_in_order),
        cmocka_unit_test(want_of_memory_anywhere_is_said_and_leaves_nothing_behind),
    };

    return cmocka_run_group_tests(TESTS, NULL, NULL);
}
