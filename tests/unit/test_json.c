/* The strict scan: what it takes, what it refuses and where, and cJSON as a second opinion. */
#include "core/base/json.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/buffer.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

enum {
    DEPTH = 64
};

#ifndef SANITIZED
/* Stands in front of glibc's, so a test can run out of memory. */
void *__libc_malloc(size_t size);
static bool malloc_fails;

void *
malloc(size_t size)
{
    return malloc_fails ? NULL : __libc_malloc(size);
}
#endif

static const char early[] = "the text ends too early";

/* A copy on the heap without a byte to spare, so a sanitizer sees any read beyond the text. */
static char *
exact_copy(const char *text, size_t len)
{
    char *copy = malloc(len == 0 ? 1 : len);

    assert_non_null(copy);
    if (len > 0) {
        memcpy(copy, text, len);
    }
    return copy;
}

static void
assert_accepted_bytes(const char *text, size_t len)
{
    char *copy = exact_copy(text, len);
    struct json_text out;
    struct json_error error = {"", 0};

    if (json_scan((struct span){copy, len}, DEPTH, &out, &error) != ERR_OK) {
        fail_msg("%.*s: %s at %zu", (int)len, text, error.text, error.offset);
    }
    free(copy);
}

static void
assert_accepted(const char *text)
{
    assert_accepted_bytes(text, strlen(text));
}

static void
assert_refused(const char *text, const char *why, size_t offset)
{
    char *copy = exact_copy(text, strlen(text));
    struct json_text out;
    struct json_error error = {"", 0};

    if (json_scan((struct span){copy, strlen(text)}, DEPTH, &out, &error) != ERR_INVALID) {
        fail_msg("'%s' was accepted", text);
    }
    if (strcmp(error.text, why) != 0 || error.offset != offset) {
        fail_msg("'%s': %s at %zu", text, error.text, error.offset);
    }
    free(copy);
}

static struct json_text
scan(const char *text)
{
    struct json_text out;
    struct json_error error;

    assert_int_equal(json_scan(span_of(text), DEPTH, &out, &error), ERR_OK);
    return out;
}

static void
assert_span(struct span span, const char *expected)
{
    if (!span_is(span, expected)) {
        fail_msg("'%.*s' instead of '%s'", (int)span.len, span.data, expected);
    }
}

static void
every_kind_of_value_is_taken(void **state)
{
    static const char *const text[] = {
        "null",
        "true",
        "false",
        "0",
        "-0",
        "12.5e-3",
        "\"\"",
        "\"text\"",
        "[]",
        "{}",
        " [ ] ",
        "\t{\n}\r\n",
        "[null,true,false,0,\"\",[],{}]",
        "{\"a\":{\"b\":[{\"c\":null}]}}",
        "[1,2 , 3\t,\n4]",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\uDE00\\u0000\"",
        "\"\x7f\"",
        "\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\"",
        "\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(text); i++) {
        assert_accepted(text[i]);
    }
}

static void
broken_structure_is_refused_where_it_breaks(void **state)
{
    (void)state;
    assert_refused("", early, 0);
    assert_refused("  ", early, 2);
    assert_refused("{", early, 1);
    assert_refused("{\"a\"", early, 4);
    assert_refused("{\"a\":", early, 5);
    assert_refused("{\"a\":1", early, 6);
    assert_refused("{\"a\":1,", early, 7);
    assert_refused("[1", early, 2);
    assert_refused("[1,", early, 3);
    assert_refused("\"abc", early, 4);
    assert_refused("\"abc\\", early, 5);
    assert_refused("{a:1}", "a member name in double quotes is expected", 1);
    assert_refused("{'a':1}", "a member name in double quotes is expected", 1);
    assert_refused("{\"a\":1,}", "a member name in double quotes is expected", 7);
    assert_refused("{\"a\" 1}", "a colon is expected", 5);
    assert_refused("{\"a\":1 \"b\":2}", "a comma or the end of the object is expected", 7);
    assert_refused("[1 2]", "a comma or the end of the array is expected", 3);
    assert_refused("[1}", "a comma or the end of the array is expected", 2);
    assert_refused("[1,]", "a value is expected", 3);
    assert_refused("[,1]", "a value is expected", 1);
    assert_refused("nul", "a value is expected", 0);
    assert_refused("nulL", "a value is expected", 0);
    assert_refused("True", "a value is expected", 0);
    assert_refused("NaN", "a value is expected", 0);
    assert_refused("Infinity", "a value is expected", 0);
    assert_refused("/* */ 1", "a value is expected", 0);
    assert_refused("{} {}", "something follows the end of the value", 3);
    assert_refused("1 2", "something follows the end of the value", 2);
    assert_refused("nullx", "something follows the end of the value", 4);
    assert_refused("\xEF\xBB\xBF{}", "a byte order mark is not allowed", 0);
}

static void
a_nul_byte_is_never_the_end_of_the_text(void **state)
{
    struct json_text out;
    struct json_error error;

    (void)state;
    assert_int_equal(json_scan(SPAN_LITERAL("{}\0"), DEPTH, &out, &error), ERR_INVALID);
    assert_int_equal(error.offset, 2);
    assert_int_equal(json_scan(SPAN_LITERAL("\"a\0b\""), DEPTH, &out, &error), ERR_INVALID);
    assert_int_equal(error.offset, 2);
    assert_int_equal(json_scan(SPAN_LITERAL("\"\\\0\""), DEPTH, &out, &error), ERR_INVALID);
    assert_int_equal(json_scan((struct span){NULL, 0}, DEPTH, &out, &error), ERR_INVALID);
    assert_string_equal(error.text, early);
}

static void
numbers_follow_the_grammar(void **state)
{
    static const char *const good[] = {"0",    "-0",   "10",      "1.0",  "0.0001", "1e5",    "1E5",
                                       "1e+5", "1e-5", "1.5E-10", "0e99", "1e99",   "-1.25e1"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_accepted(good[i]);
    }
    assert_refused("01", "a number must not have leading zeros", 0);
    assert_refused("-01", "a number must not have leading zeros", 1);
    assert_refused("[00]", "a number must not have leading zeros", 1);
    assert_refused("[1.]", "a digit is expected after the decimal point", 3);
    assert_refused("1.", early, 2);
    assert_refused("[1.e5]", "a digit is expected after the decimal point", 3);
    assert_refused(".5", "a value is expected", 0);
    assert_refused("+1", "a value is expected", 0);
    assert_refused("[-]", "a digit is expected", 2);
    assert_refused("-", early, 1);
    assert_refused("[--1]", "a digit is expected", 2);
    assert_refused("[1e]", "a digit is expected in the exponent", 3);
    assert_refused("[1e+]", "a digit is expected in the exponent", 4);
    assert_refused("1e", early, 2);
    assert_refused("0x10", "something follows the end of the value", 1);
    assert_refused("1_000", "something follows the end of the value", 1);
}

static void
numbers_beyond_a_double_are_refused(void **state)
{
    static const char why[] = "a number beyond the range of a double";
    char digits[400];

    (void)state;
    assert_accepted("1e308");
    assert_accepted("1.7976931348623157e308");
    assert_accepted("1.7976931348623158e308"); /* rounds down to the largest double */
    assert_accepted("1e-400");                 /* rounds to zero */
    assert_accepted("0e400");
    assert_accepted("0.0001e310");
    assert_refused("1e309", why, 0);
    assert_refused("[-1e400]", why, 1);
    assert_refused("{\"a\":[1.7976931348623159e308]}", why, 6);
    assert_refused("1e99999999999999999999999999", why, 0);
    memset(digits, '9', sizeof(digits));
    digits[308] = 0;
    assert_accepted(digits);
    digits[308] = '9';
    digits[309] = 0;
    assert_refused(digits, why, 0);
}

static void
strings_must_be_utf8_without_raw_controls(void **state)
{
    static const char *const bad[] = {"\"\x80\"",
                                      "\"\xbf\"",
                                      "\"\xc0\x80\"",
                                      "\"\xc1\xbf\"",
                                      "\"\xc2\"",
                                      "\"\xc2 \"",
                                      "\"\xe0\x9f\xbf\"",
                                      "\"\xe2\x82\"",
                                      "\"\xed\xa0\x80\"",
                                      "\"\xed\xbf\xbf\"",
                                      "\"\xf0\x8f\xbf\xbf\"",
                                      "\"\xf4\x90\x80\x80\"",
                                      "\"\xf5\x80\x80\"",
                                      "\"\xff\"",
                                      "\"\xfe\"",
                                      "\"\xf0\x90\x80\"",
                                      "\"\xe2(\xa1\"",
                                      "\"\xf0(\x8c\xbc\""};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_refused(bad[i], "bytes that are not valid UTF-8", 1);
    }
    assert_refused("\"abcdefgh\xff\"", "bytes that are not valid UTF-8", 9);
    assert_refused("{\"\xff\":1}", "bytes that are not valid UTF-8", 2);
    assert_refused("\"\xc3\xa4\xc3\xa4\xc3(\"", "bytes that are not valid UTF-8", 5);
    for (char c = 1; c < 0x20; c++) {
        const char text[] = {'"', 'a', c, '"', 0};

        assert_refused(text, "a control character in a string must be escaped", 2);
    }
    assert_refused("\"a\nb\"", "a control character in a string must be escaped", 2);
}

/* Puts each of the 256 byte values at each place of a longer string: no place is skipped over. */
static void
special_bytes_are_seen_at_every_alignment(void **state)
{
    (void)state;
    for (size_t place = 1; place < 25; place++) {
        for (int byte = 0; byte < 256; byte++) {
            char text[] = "\"abcdefghijklmnopqrstuvwxyz\"";
            struct json_text out;
            struct json_error error;
            enum err err;

            text[place] = (char)byte;
            err = json_scan((struct span){text, sizeof(text) - 1}, DEPTH, &out, &error);
            if (byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\') {
                assert_int_equal(err, ERR_OK);
            } else if (byte == '\\' && strchr("bfnrt", text[place + 1]) != NULL) {
                assert_int_equal(err, ERR_OK);
            } else {
                assert_int_equal(err, ERR_INVALID);
                assert_int_equal(error.offset, byte == '"' ? place + 1 : place);
            }
        }
    }
}

static void
escapes_are_the_eight_of_json_and_whole_characters(void **state)
{
    (void)state;
    assert_refused("\"\\x41\"", "an escape that JSON does not have", 1);
    assert_refused("\"\\'\"", "an escape that JSON does not have", 1);
    assert_refused("\"\\U0041\"", "an escape that JSON does not have", 1);
    assert_refused("\"\\u12\"", "\\u needs four hex digits", 1);
    assert_refused("\"\\u12g4\"", "\\u needs four hex digits", 1);
    assert_refused("\"\\u123", "\\u needs four hex digits", 1);
    assert_refused("\"\\udc00\"", "an escaped low surrogate without a high one before it", 1);
    assert_refused("\"\\ud800\"", "an escaped high surrogate without a low one after it", 1);
    assert_refused("\"\\ud800\\n12345\"", "an escaped high surrogate without a low one after it",
                   1);
    assert_refused("\"\\ud800\\ud800\"", "an escaped high surrogate without a low one after it", 1);
    assert_refused("\"\\uDBFF\\uE000\"", "an escaped high surrogate without a low one after it", 1);
    assert_accepted("\"\\ud800\\udc00\\uDBFF\\uDFFF\"");
}

static void
nesting_ends_at_the_given_depth(void **state)
{
    char text[2 * JSON_DEPTH_LIMIT + 3];
    struct json_text out;
    struct json_error error;

    (void)state;
    for (uint32_t depth = 1; depth <= JSON_DEPTH_LIMIT; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        assert_int_equal(json_scan((struct span){text, 2 * depth}, depth, &out, &error), ERR_OK);
        memset(text, '[', depth + 1);
        memset(text + depth + 1, ']', depth + 1);
        assert_int_equal(json_scan((struct span){text, 2 * depth + 2}, depth, &out, &error),
                         ERR_INVALID);
        assert_string_equal(error.text, "nested too deeply");
        assert_int_equal(error.offset, depth);
    }
    assert_int_equal(json_scan(SPAN_LITERAL("7"), 1, &out, &error), ERR_OK);
    assert_int_equal(json_scan(SPAN_LITERAL("[[],[],{},{}]"), 2, &out, &error), ERR_OK);
}

static void
repeated_names_are_refused_at_every_level(void **state)
{
    static const char why[] = "a member name that the object already has";

    (void)state;
    assert_refused("{\"a\":1,\"a\":2}", why, 7);
    assert_refused("{\"\":1,\"\":2}", why, 6);
    assert_refused("{\"x\":[{\"a\":1,\"b\":2,\"a\":3}]}", why, 19);
    assert_refused("{\"a\":1,\"\\u0061\":2}", why, 7);
    assert_refused("{\"\\u0061\":1,\"a\":2}", why, 12);
    assert_refused("{\"caf\xc3\xa9\":1,\"caf\\u00E9\":2}", why, 11);
    assert_refused("{\"\xf0\x9f\x98\x80\":1,\"\\ud83d\\uDE00\":2}", why, 10);
    assert_refused("{\"a/b\":1,\"a\\/b\":2}", why, 9);
    assert_refused("{\"longer than eight\":1,\"longer than eight\":2}", why, 23);
    assert_accepted("{\"longer than eight\":1,\"longer than nine\":2}");
    assert_accepted("{\"longer than eight\":1,\"longer than eight \":2}");
    assert_accepted("{\"a\":{\"a\":{\"a\":1}},\"b\":{\"a\":1}}");
    assert_accepted("{\"a\":1,\"A\":2,\"a\\u0000\":3,\"\":4,\"\\u0000\":5}");
    assert_accepted("[{\"a\":1},{\"a\":1}]");
}

/* An object of COUNT members, of which number TWIN repeats the name of number FIRST. */
static struct buffer
large_object(size_t count, size_t first, size_t twin, const char *prefix)
{
    struct buffer text = BUFFER_EMPTY;

    buffer_append_char(&text, '{');
    for (size_t i = 0; i < count; i++) {
        buffer_append_text(&text, i == 0 ? "\"" : ",\"");
        buffer_append_text(&text, prefix);
        buffer_append_u64(&text, i == twin ? first : i);
        buffer_append_text(&text, "\":0");
    }
    buffer_append_char(&text, '}');
    assert_false(text.failed);
    return text;
}

static void
repeated_names_are_found_in_objects_of_every_size(void **state)
{
    static const char *const prefixes[] = {"", "a long common prefix ", "\\u006e"};

    (void)state;
    for (size_t f = 0; f < ARRAY_LEN(prefixes); f++) {
        for (size_t count = 2; count < 80; count++) {
            struct buffer text = large_object(count, 0, SIZE_MAX, prefixes[f]);

            assert_accepted_bytes(text.data, text.len);
            buffer_free(&text);
            for (size_t first = 0; first + 1 < count; first += 1 + count / 7) {
                struct json_text out;
                struct json_error error = {"", 0};

                text = large_object(count, first, count - 1, prefixes[f]);
                assert_int_equal(json_scan(buffer_span(&text), DEPTH, &out, &error), ERR_INVALID);
                assert_string_equal(error.text, "a member name that the object already has");
                /* The later of the two is named: the last, as long as the first, before `":0}`. */
                assert_int_equal(error.offset, text.len - 5 - strlen(prefixes[f]) -
                                                   (size_t)snprintf(NULL, 0, "%zu", first));
                buffer_free(&text);
            }
        }
    }
}

/* Pairwise comparison would need some 10^11 steps here and never end. */
static void
half_a_million_members_are_no_trouble(void **state)
{
    struct buffer text = large_object(500000, 0, SIZE_MAX, "the very same prefix ");
    struct json_text out;
    struct json_error error;

    (void)state;
    assert_int_equal(json_scan(buffer_span(&text), DEPTH, &out, &error), ERR_OK);
    assert_int_equal(out.member_count, 500000);
    buffer_free(&text);
    text = large_object(500000, 17, 499999, "the very same prefix ");
    assert_int_equal(json_scan(buffer_span(&text), DEPTH, &out, &error), ERR_INVALID);
    buffer_free(&text);
}

static void
want_of_memory_is_reported_and_is_not_a_refusal(void **state)
{
#ifndef SANITIZED
    struct buffer small = large_object(30, 0, SIZE_MAX, "");
    struct buffer large = large_object(40, 0, SIZE_MAX, "");
    struct json_text out;
    struct json_error error = {NULL, 0};
    enum err small_err;
    enum err large_err;

    (void)state;
    malloc_fails = true;
    small_err = json_scan(buffer_span(&small), DEPTH, &out, &error);
    large_err = json_scan(buffer_span(&large), DEPTH, &out, &error);
    malloc_fails = false;
    assert_int_equal(small_err, ERR_OK);
    assert_int_equal(large_err, ERR_NO_MEMORY);
    assert_null(error.text);
    buffer_free(&small);
    buffer_free(&large);
#else
    (void)state;
    print_message("the sanitizers bring their own malloc()\n");
    skip();
#endif
}

static void
members_are_walked_in_order_with_their_raw_bytes(void **state)
{
    struct json_text text =
        scan(" { \"a\" : 1 , \"b\\n\":\"x\\ty\",\"c\":[ 1, 2 ],\"d\":{\"e\": 9},"
             "\"f\":null,\"g\":true,\"\":-0.50} ");
    static const struct {
        const char *name;
        const char *raw;
        enum json_type type;
    } expected[] = {
        {"a", "1", JSON_NUMBER},       {"b\\n", "\"x\\ty\"", JSON_STRING},
        {"c", "[ 1, 2 ]", JSON_ARRAY}, {"d", "{\"e\": 9}", JSON_OBJECT},
        {"f", "null", JSON_NULL},      {"g", "true", JSON_BOOL},
        {"", "-0.50", JSON_NUMBER},
    };
    struct json_walk walk = {0, 0};
    struct json_member member;

    (void)state;
    assert_int_equal(text.value.type, JSON_OBJECT);
    assert_int_equal(text.member_count, ARRAY_LEN(expected));
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        assert_true(json_text_next(&text, &walk, &member));
        assert_span(member.name, expected[i].name);
        assert_span(member.value.raw, expected[i].raw);
        assert_int_equal(member.value.type, expected[i].type);
        assert_int_equal(member.name_escaped, i == 1);
        assert_int_equal(member.value.escaped, i == 1);
    }
    assert_false(json_text_next(&text, &walk, &member));
    assert_false(json_text_next(&text, &walk, &member));
}

static void
members_beyond_the_remembered_ones_are_walked_too(void **state)
{
    for (size_t count = 0; count < 3 * JSON_MEMBERS_KEPT; count++) {
        struct buffer text = large_object(count, 0, SIZE_MAX, "");
        struct json_walk walk = {0, 0};
        struct json_member member;
        struct json_text out;
        struct json_error error;

        (void)state;
        assert_int_equal(json_scan(buffer_span(&text), DEPTH, &out, &error), ERR_OK);
        assert_int_equal(out.member_count, count);
        for (size_t i = 0; i < count; i++) {
            char name[24];

            snprintf(name, sizeof(name), "%zu", i);
            assert_true(json_text_next(&out, &walk, &member));
            assert_span(member.name, name);
            assert_span(member.value.raw, "0");
        }
        assert_false(json_text_next(&out, &walk, &member));
        buffer_free(&text);
    }
}

static void
elements_are_walked_past_brackets_in_strings(void **state)
{
    static const char *const expected[] = {"\"]\"", "[\"}\",[]]", "{\"[\":\"\\\"]\"}",
                                           "1.5",   "false",      "null",
                                           "true",  "{ }",        "\"\\\\\""};
    struct json_text text =
        scan("[ \"]\" ,[\"}\",[]],{\"[\":\"\\\"]\"},1.5, false,null,true,{ },\"\\\\\" ]");
    struct json_value value;
    size_t offset = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        assert_true(json_element_next(text.value.raw, &offset, &value));
        assert_span(value.raw, expected[i]);
    }
    assert_int_equal(value.escaped, true);
    assert_false(json_element_next(text.value.raw, &offset, &value));
    text = scan("[ ]");
    offset = 0;
    assert_false(json_element_next(text.value.raw, &offset, &value));
    text = scan("{ }");
    offset = 0;
    assert_false(json_member_next(text.value.raw, &offset, &(struct json_member){0}));
}

static void
strings_are_unescaped_to_utf8(void **state)
{
    static const struct {
        const char *content;
        struct span expected;
    } rows[] = {
        {"plain", {"plain", 5}},
        {"", {"", 0}},
        {"\\\"\\\\\\/\\b\\f\\n\\r\\t", {"\"\\/\b\f\n\r\t", 8}},
        {"\\u0041\\u00e9\\u20AC\\ud83d\\ude00", {"A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10}},
        {"a\\u0000b", {"a\0b", 3}},
        {"\xc3\xa9\\u007f\\uFFFF", {"\xc3\xa9\x7f\xef\xbf\xbf", 6}},
        {"\\uDBFF\\uDFFF", {"\xf4\x8f\xbf\xbf", 4}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct span content = span_of(rows[i].content);
        char out[64];
        size_t len = json_unescape(content, out);

        assert_int_equal(len, rows[i].expected.len);
        assert_memory_equal(out, rows[i].expected.data, len);
        assert_true(json_content_is(content, true, rows[i].expected));
        assert_false(json_content_is(content, true, span_of("other")));
        if (len > 0) {
            assert_false(json_content_is(content, true, (struct span){out, len - 1}));
        }
    }
    assert_true(json_content_is(span_of("service"), false, span_of("service")));
    assert_false(json_content_is(span_of("\\u0073"), false, span_of("s")));
}

static void
integers_are_exact_or_refused(void **state)
{
    static const struct {
        const char *text;
        enum err err;
        int64_t value;
    } rows[] = {
        {"0", ERR_OK, 0},
        {"-0", ERR_OK, 0},
        {"9007199254740993", ERR_OK, INT64_C(9007199254740993)},
        {"9223372036854775807", ERR_OK, INT64_MAX},
        {"-9223372036854775808", ERR_OK, INT64_MIN},
        {"9223372036854775808", ERR_TOO_BIG, 0},
        {"-9223372036854775809", ERR_TOO_BIG, 0},
        {"18446744073709551616", ERR_TOO_BIG, 0},
        {"99999999999999999999999999", ERR_TOO_BIG, 0},
        {"1.0", ERR_INVALID, 0},
        {"1e3", ERR_INVALID, 0},
        {"99999999999999999999999999.5", ERR_INVALID, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t value = 42;

        assert_int_equal(json_integer(span_of(rows[i].text), &value), rows[i].err);
        assert_true(value == (rows[i].err == ERR_OK ? rows[i].value : 42));
    }
}

static void
assert_double(const char *text, double expected)
{
    double value;

    assert_int_equal(json_double(span_of(text), &value), ERR_OK);
    if (memcmp(&value, &expected, sizeof(value)) != 0) {
        fail_msg("%s: %.17g instead of %.17g", text, value, expected);
    }
}

static void
doubles_are_the_nearest_ones(void **state)
{
    char text[2000];
    double value = 42;

    (void)state;
    assert_double("0", 0.0);
    assert_double("-0", -0.0);
    assert_double("-0.0e5", -0.0);
    assert_double("178", 178);
    assert_double("0.1", 0.1);
    assert_double("123456789.125", 123456789.125);
    assert_double("9007199254740993", 9007199254740992.0);
    assert_double("9007199254740993.00000000000000000001", 9007199254740994.0);
    assert_double("1e22", 1e22);
    assert_double("1e23", 1e23);
    assert_double("5e-324", 5e-324);
    assert_double("2.4e-324", 0);
    assert_double("2.2250738585072011e-308", 2.2250738585072011e-308);
    assert_double("1.7976931348623157e308", 1.7976931348623157e308);
    assert_double("0.000000000000000000000000000000000001e36", 1);
    assert_int_equal(json_double(span_of("1.8e308"), &value), ERR_TOO_BIG);
    assert_int_equal(json_double(span_of("-1e999999999999999999999"), &value), ERR_TOO_BIG);
    assert_true(value == 42);

    /* Half way between two doubles, decided by a digit far behind what is kept. */
    snprintf(text, sizeof(text), "9007199254740993.%01000d", 0);
    assert_double(text, 9007199254740992.0);
    text[strlen(text) - 1] = '1';
    assert_double(text, 9007199254740994.0);
    snprintf(text, sizeof(text), "0.%0900d1e901", 0);
    assert_double(text, 1);
    memset(text, '1', 1500);
    strcpy(text + 1500, "e-1499");
    assert_double(text, 1.1111111111111112);
}

static void
doubles_agree_with_libc_on_random_numbers(void **state)
{
    uint64_t seed = 99;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        char text[64];
        double value;

        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
        switch (i % 3) {
        case 0: /* any finite double */
            memcpy(&value, &seed, sizeof(value));
            if (!isfinite(value)) {
                continue;
            }
            snprintf(text, sizeof(text), "%.*e", (int)(seed % 20), value);
            break;
        case 1: /* like a latency */
            snprintf(text, sizeof(text), "%u.%03u", (unsigned)(seed >> 50),
                     (unsigned)(seed >> 20) % 1000);
            break;
        default:
            snprintf(text, sizeof(text), "%llue%d", (unsigned long long)(seed >> 8),
                     (int)(seed % 60) - 30);
            break;
        }
        if (!isfinite(strtod(text, NULL))) {
            continue; /* rounding to few digits went beyond the largest */
        }
        assert_double(text, strtod(text, NULL));
    }
}

/* Random edits of valid texts: no crash, no read beyond, and cJSON agrees with every acceptance. */
static void
whatever_is_accepted_cjson_accepts(void **state)
{
    static const char *const seeds[] = {
        "{\"service\":\"billing-api\",\"latency_ms\":178.5,\"status\":200,\"a\":[1,-2e3,null]}",
        "[{\"a\\u00e9\":\"\\ud83d\\ude00\",\"b\":{\"c\":[true,false]}},\"\xe2\x82\xac\",0.1]",
    };
    static const char alphabet[] = "{}[]\",:0123456789.eE+-\\u\x80\xc3\xa9 \ntrufalsn\0\x1f\xff";
    uint64_t seed = 2024;
    size_t accepted = 0;

    (void)state;
    for (int i = 0; i < 300000; i++) {
        char text[128];
        size_t len = strlen(seeds[i % 2]);
        struct json_text out;
        struct json_error error = {NULL, 0};
        char *copy;
        enum err err;

        memcpy(text, seeds[i % 2], len);
        for (int edit = 0; edit <= i % 3; edit++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
            text[(seed >> 33) % len] = alphabet[(seed >> 10) % (sizeof(alphabet) - 1)];
        }
        len = i % 5 == 0 ? (size_t)(seed >> 40) % len : len;
        copy = exact_copy(text, len);
        err = json_scan((struct span){copy, len}, DEPTH, &out, &error);
        if (err == ERR_OK) {
            cJSON *item = cJSON_ParseWithLength(copy, len);

            assert_non_null(item);
            cJSON_Delete(item);
            accepted++;
        } else {
            assert_int_equal(err, ERR_INVALID);
            assert_non_null(error.text);
            assert_true(error.offset <= len);
        }
        free(copy);
    }
    assert_true(accepted > 1000); /* the test would prove little otherwise */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_value_is_taken),
        cmocka_unit_test(broken_structure_is_refused_where_it_breaks),
        cmocka_unit_test(a_nul_byte_is_never_the_end_of_the_text),
        cmocka_unit_test(numbers_follow_the_grammar),
        cmocka_unit_test(numbers_beyond_a_double_are_refused),
        cmocka_unit_test(strings_must_be_utf8_without_raw_controls),
        cmocka_unit_test(special_bytes_are_seen_at_every_alignment),
        cmocka_unit_test(escapes_are_the_eight_of_json_and_whole_characters),
        cmocka_unit_test(nesting_ends_at_the_given_depth),
        cmocka_unit_test(repeated_names_are_refused_at_every_level),
        cmocka_unit_test(repeated_names_are_found_in_objects_of_every_size),
        cmocka_unit_test(half_a_million_members_are_no_trouble),
        cmocka_unit_test(want_of_memory_is_reported_and_is_not_a_refusal),
        cmocka_unit_test(members_are_walked_in_order_with_their_raw_bytes),
        cmocka_unit_test(members_beyond_the_remembered_ones_are_walked_too),
        cmocka_unit_test(elements_are_walked_past_brackets_in_strings),
        cmocka_unit_test(strings_are_unescaped_to_utf8),
        cmocka_unit_test(integers_are_exact_or_refused),
        cmocka_unit_test(doubles_are_the_nearest_ones),
        cmocka_unit_test(doubles_agree_with_libc_on_random_numbers),
        cmocka_unit_test(whatever_is_accepted_cjson_accepts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
