/*
 * The parser layer without sockets: the same bytes cut at every place must give the same requests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "http/request.h"
#include "http/route.h"

enum {
    BODY_MAX = 64
};

static const struct request_limits LIMITS = {1024, 256, 8};

/* What a run of bytes came to: each request in a line, then how it ended. */
struct outcome {
    char text[2048];
    size_t len;
};

static void note(struct outcome *outcome, const char *format, ...) PRINTF_LIKE(2, 3);

static void
note(struct outcome *outcome, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(outcome->text + outcome->len, sizeof(outcome->text) - outcome->len, format, args);
    va_end(args);
    assert_true(n >= 0 && (size_t)n < sizeof(outcome->text) - outcome->len);
    outcome->len += (size_t)n;
}

struct reader {
    struct parser parser;
    struct budget budget;
    struct request request;
    struct outcome outcome;
    bool begun;
    bool refused;
};

static void
reader_init(struct reader *reader)
{
    memset(reader, 0, sizeof(*reader));
    reader->budget.max = 1 << 20;
    parser_init(&reader->parser, &LIMITS, &reader->budget);
}

static void
reader_fini(struct reader *reader)
{
    request_free(&reader->request, &reader->budget);
    assert_int_equal(reader->budget.used, 0);
}

static void
read_bytes(struct reader *reader, const char *data, size_t len)
{
    /* A heap copy of the exact size lets the sanitizer see a step beyond the end. */
    char *copy = malloc(len == 0 ? 1 : len);
    size_t at = 0;

    assert_non_null(copy);
    memcpy(copy, data, len);
    while (!reader->refused) {
        enum problem why = PROBLEM_NONE;
        size_t used = 0;
        enum parse_step step;

        if (!reader->begun) {
            if (at == len) {
                break;
            }
            parser_begin(&reader->parser, &reader->request);
            reader->begun = true;
        }
        step = parser_feed(&reader->parser, (struct span){copy + at, len - at}, &used, &why);
        at += used;
        if (step == PARSE_MORE) {
            break;
        }
        if (step == PARSE_HEAD) {
            reader->request.body_max = BODY_MAX;
        } else if (step == PARSE_COMPLETE) {
            struct span path = request_path(&reader->request);
            struct span body = request_body(&reader->request);

            note(&reader->outcome, "%s %.*s [%.*s]%s\n",
                 request_method_name(reader->request.method), (int)path.len, path.data,
                 (int)body.len, body.len == 0 ? "" : body.data,
                 reader->request.keep_alive ? "" : " close");
            request_reset(&reader->request, &reader->budget, 64);
            reader->begun = false;
        } else {
            note(&reader->outcome, "%u\n", problem_status(why));
            reader->refused = true;
        }
    }
    free(copy);
}

static void
assert_reads(const char *data, size_t len, const char *expected)
{
    for (size_t cut = 0; cut <= len; cut++) {
        struct reader reader;

        reader_init(&reader);
        read_bytes(&reader, data, cut);
        read_bytes(&reader, data + cut, len - cut);
        if (strcmp(reader.outcome.text, expected) != 0) {
            print_error("cut at %zu of: %.*s\n", cut, (int)len, data);
        }
        assert_string_equal(reader.outcome.text, expected);
        reader_fini(&reader);
    }
}

static void
assert_reads_byte_by_byte(const char *data, size_t len, const char *expected)
{
    struct reader reader;

    reader_init(&reader);
    for (size_t i = 0; i < len; i++) {
        read_bytes(&reader, data + i, 1);
    }
    assert_string_equal(reader.outcome.text, expected);
    reader_fini(&reader);
}

struct reading {
    const char *data;
    size_t len;
    const char *expected;
};

#define READING(data, expected)                                                                    \
    {                                                                                              \
        (data), sizeof(data) - 1, (expected)                                                       \
    }
#define H "Host: h\r\n"

static const struct reading GOOD[] = {
    READING("GET / HTTP/1.1\r\n" H "\r\n", "GET / []\n"),
    READING("GET /a?b=c HTTP/1.1\r\n" H "\r\n", "GET /a []\n"),
    READING("GET http://h:1/a?b HTTP/1.1\r\n" H "\r\n", "GET /a []\n"),
    READING("GET http://h HTTP/1.1\r\n" H "\r\n", "GET / []\n"),
    READING("GET / HTTP/1.0\r\n\r\n", "GET / [] close\n"),
    READING("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET / []\n"),
    READING("GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\n", "GET / [] close\n"),
    READING("\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n", "GET / []\n"),
    READING("POST /p HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc", "POST /p [abc]\n"),
    READING("POST /p HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n", "POST /p []\n"),
    READING("POST /p HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
            "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: x\r\n\r\n",
            "POST /p [abcde]\n"),
    READING("POST /p HTTP/1.1\r\n" H "Transfer-Encoding: Chunked \r\n\r\n0\r\n\r\n",
            "POST /p []\n"),
    READING("GET / HTTP/1.1\r\n" H "\r\nPOST /p HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\nx"
            "DELETE /d HTTP/1.1\r\n" H "\r\n",
            "GET / []\nPOST /p [x]\nDELETE /d []\n"),
    READING("GET / HTTP/1.1\r\n" H "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
            "GET /b HTTP/1.1\r\n" H "\r\n",
            "GET / []\nGET /b []\n"),
    READING("GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET / []\n"),
    READING("LOCK / HTTP/1.1\r\n" H "\r\n", "other / []\n"),
    READING("CONNECT h:1 HTTP/1.1\r\n" H "\r\n", "other h:1 [] close\n"),
};

static const struct reading BAD[] = {
    /* TOOLBOX's table of what may pass a parser. */
    READING("GET / HTTP/1.1\r\n" H "X: a\rTransfer-Encoding: chunked\r\n\r\n", "400\n"),
    READING("GET / HTTP/1.1\r\n" H "X: a\r\n\rX", "400\n"),
    READING("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabcXX0\r\n\r\n",
            "400\n"),
    READING("POST / HTTP/1.1\r\n" H "Content-Length:\r\n 3\r\n\r\nabc", "400\n"),
    READING("POST / HTTP/1.1\r\n" H "X: one\r\n two\r\nContent-Length: 0\r\n\r\n", "400\n"),
    READING("GET / HTTP/1.1\r\n" H "X: one\r\n\ttwo\r\n\r\n", "400\n"),
    READING("GET / HTTP/1.1\r\n X: a\r\n" H "\r\n", "400\n"),
    READING("POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "400\n"),
    READING("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            "400\n"),
    READING("POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "400\n"),
    READING("POST / HTTP/1.1\r\n" H "Content-Length: +3\r\n\r\nabc", "400\n"),
    READING("POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n", "400\n"),
    READING("POST / HTTP/1.1\r\n" H "Content-Length : 3\r\n\r\nabc", "400\n"),
    READING("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            "400\n"),
    READING("POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "400\n"),
    READING("POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"
            "\r\n0\r\n\r\n",
            "400\n"),
    READING("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400\n"),
    READING("GET / HTTP/1.1\n" H "\r\n", "400\n"),
    READING("GET / HTTP/1.1\r\n" H "X: a\0b\r\n\r\n", "400\n"),
    READING("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n",
            "400\n"),
    READING("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3;a\nabc\r\n0\r\n\r\n",
            "400\n"),
    READING("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
            "413\n|400\n"),
    READING("GET / HTTP/9.9\r\n" H "\r\n", "400\n"),
    /* Ours on top of it. */
    READING("GET / HTTP/1.1\r\n\r\n", "400\n"),
    READING("GET / HTTP/0.9\r\n" H "\r\n", "400\n"),
    READING("GET / HTTP/2.0\r\n" H "\r\n", "400\n"),
    READING("GET / HTTP/1.1\r\n" H H "\r\n", "400\n"),
    READING("GET / HTTP/1.1\r\n" H "Content-Type: a\r\ncontent-type: b\r\n\r\n", "400\n"),
    READING("GET / HTTP/1.1\r\n" H "Idempotency-Key: a\r\nIdempotency-Key: b\r\n\r\n", "400\n"),
    READING("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400\n"),
    READING("hello\r\n\r\n", "400\n"),
    READING("\x16\x03\x01\x02", "400\n"),
    READING("GET / HTTP/1.1\r\n" H
            "1: 1\r\n2: 2\r\n3: 3\r\n4: 4\r\n5: 5\r\n6: 6\r\n7: 7\r\n8: 8\r\n"
            "\r\n",
            "431\n"),
    READING("POST /p HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n41\r\n", "413\n"),
    READING("POST /p HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n40\r\n"
            "0123456789012345678901234567890123456789012345678901234567890123\r\n1\r\n",
            "413\n"),
};

static void
well_formed_requests_read_the_same_wherever_they_are_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(GOOD); i++) {
        assert_reads(GOOD[i].data, GOOD[i].len, GOOD[i].expected);
        assert_reads_byte_by_byte(GOOD[i].data, GOOD[i].len, GOOD[i].expected);
    }
}

static void
smuggling_and_malformed_requests_are_refused_wherever_they_are_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        const char *expected = BAD[i].expected;

        if (strcmp(expected, "413\n|400\n") == 0) { /* either is a refusal; llhttp decides */
            struct reader reader;

            reader_init(&reader);
            read_bytes(&reader, BAD[i].data, BAD[i].len);
            assert_true(reader.refused);
            reader_fini(&reader);
            continue;
        }
        assert_reads(BAD[i].data, BAD[i].len, expected);
        assert_reads_byte_by_byte(BAD[i].data, BAD[i].len, expected);
    }
}

/* Appends TEXT COUNT times. */
static void
repeat(struct buffer *out, const char *text, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        buffer_append_text(out, text);
    }
}

static void
assert_refused_with(const struct buffer *data, uint16_t status)
{
    char expected[16];

    (void)snprintf(expected, sizeof(expected), "%u\n", status);
    assert_false(data->failed);
    for (int by_byte = 0; by_byte < 2; by_byte++) {
        struct reader reader;

        reader_init(&reader);
        for (size_t i = 0; by_byte && i < data->len; i++) {
            read_bytes(&reader, data->data + i, 1);
        }
        if (!by_byte) {
            read_bytes(&reader, data->data, data->len);
        }
        assert_string_equal(reader.outcome.text, expected);
        reader_fini(&reader);
    }
}

static void
everything_a_client_can_make_long_has_a_limit(void **state)
{
    struct buffer data = BUFFER_EMPTY;

    (void)state;
    buffer_append_text(&data, "GET /");
    repeat(&data, "x", LIMITS.url_bytes_max);
    assert_refused_with(&data, 414);

    buffer_clear(&data, SIZE_MAX);
    buffer_append_text(&data, "GET / HTTP/1.1\r\nX: ");
    repeat(&data, "x", LIMITS.head_bytes_max);
    assert_refused_with(&data, 431);

    buffer_clear(&data, SIZE_MAX);
    buffer_append_text(&data, "GET / HTTP/1.1\r\nX");
    repeat(&data, "x", LIMITS.head_bytes_max);
    assert_refused_with(&data, 431);

    buffer_clear(&data, SIZE_MAX);
    buffer_append_text(&data, "GET / HTTP/1.1\r\nAccept: ");
    repeat(&data, "x", LIMITS.head_bytes_max);
    assert_refused_with(&data, 431);

    buffer_clear(&data, SIZE_MAX);
    buffer_append_text(&data, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1;");
    repeat(&data, "x", LIMITS.head_bytes_max);
    assert_refused_with(&data, 413);

    buffer_clear(&data, SIZE_MAX);
    buffer_append_text(&data, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n");
    repeat(&data, "T: x\r\n", LIMITS.head_bytes_max);
    assert_refused_with(&data, 413);
    buffer_free(&data);
}

static void
a_body_in_pieces_is_charged_to_the_budget_and_given_back(void **state)
{
    static const char HEAD[] = "POST / HTTP/1.1\r\n" H "Content-Length: 20\r\n\r\n0123456789";
    struct reader reader;

    (void)state;
    reader_init(&reader);
    read_bytes(&reader, HEAD, sizeof(HEAD) - 1);
    assert_int_equal(reader.budget.used, 10);
    read_bytes(&reader, "01234", 5);
    assert_int_equal(reader.budget.used, 15);
    reader_fini(&reader);

    reader_init(&reader);
    reader.budget.max = 12;
    read_bytes(&reader, HEAD, sizeof(HEAD) - 1);
    assert_false(reader.refused);
    read_bytes(&reader, "01234", 5);
    assert_string_equal(reader.outcome.text, "503\n");
    reader_fini(&reader);
}

/* A request with the header LINE, its head read. */
static void
read_head(struct reader *reader, const char *line)
{
    char data[512];
    int n =
        snprintf(data, sizeof(data), "POST /p?%s HTTP/1.1\r\n" H "%s\r\nContent-Length: 1\r\n\r\n",
                 strchr(line, ':') == NULL ? line : "", strchr(line, ':') == NULL ? "X: x" : line);

    assert_true(n > 0 && (size_t)n < sizeof(data));
    reader_init(reader);
    read_bytes(reader, data, (size_t)n);
    assert_false(reader->refused);
}

static void
only_json_is_taken_as_json(void **state)
{
    static const struct {
        const char *line;
        bool json;
    } ROWS[] = {
        {"X: x", true},
        {"Content-Type:", true},
        {"Content-Type: application/json", true},
        {"Content-Type: Application/JSON ; charset=utf-8", true},
        {"Content-Type: application/json;charset=utf-8", true},
        {"Content-Type: application/cloudevents+json", true},
        {"Content-Type: application/+json", false},
        {"Content-Type: text/json", false},
        {"Content-Type: application/jsonx", false},
        {"Content-Type: text/plain", false},
        {"Content-Type: application/x-www-form-urlencoded", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        struct reader reader;

        read_head(&reader, ROWS[i].line);
        if (request_is_json(&reader.request) != ROWS[i].json) {
            print_error("%s\n", ROWS[i].line);
        }
        assert_int_equal(request_is_json(&reader.request), ROWS[i].json);
        reader_fini(&reader);
    }
}

static void
only_a_well_formed_traceparent_gives_a_trace_id(void **state)
{
#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define PARENT "b7ad6b7169203331"
    static const struct {
        const char *line;
        bool found;
    } ROWS[] = {
        {"traceparent: 00-" TRACE "-" PARENT "-01", true},
        {"Traceparent:  00-" TRACE "-" PARENT "-00 ", true},
        {"traceparent: cc-" TRACE "-" PARENT "-01-what-the-future-brings", true},
        {"traceparent: cc-" TRACE "-" PARENT "-01", true},
        {"traceparent: 00-" TRACE "-" PARENT "-01-more", false},
        {"traceparent: cc-" TRACE "-" PARENT "-01.more", false},
        {"traceparent: ff-" TRACE "-" PARENT "-01", false},
        {"traceparent: 00-0AF7651916CD43DD8448EB211C80319C-" PARENT "-01", false},
        {"traceparent: 00-00000000000000000000000000000000-" PARENT "-01", false},
        {"traceparent: 00-" TRACE "-0000000000000000-01", false},
        {"traceparent: 00-" TRACE "-" PARENT, false},
        {"traceparent: 00_" TRACE "-" PARENT "-01", false},
        {"traceparent: 00-" TRACE "-" PARENT "-0g", false},
        {"traceparent:", false},
        {"traceparent: 00-" TRACE "-" PARENT "-01\r\ntraceparent: 00-" TRACE "-" PARENT "-01",
         false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        struct reader reader;
        struct span trace;

        read_head(&reader, ROWS[i].line);
        trace = request_trace_id(&reader.request);
        if ((trace.data != NULL) != ROWS[i].found) {
            print_error("%s\n", ROWS[i].line);
        }
        assert_int_equal(trace.data != NULL, ROWS[i].found);
        assert_true(trace.data == NULL || span_is(trace, TRACE));
        reader_fini(&reader);
    }
}

static void
query_values_are_decoded_or_refused(void **state)
{
    static const struct {
        const char *query;
        const char *value;
        enum err err;
    } ROWS[] = {
        {"service=api", "api", ERR_OK},
        {"a=b&service=api%20two+three", "api two three", ERR_OK},
        {"service=%c3%A9", "\xc3\xa9", ERR_OK},
        {"s%65rvice=a&service%=b", "a", ERR_OK},
        {"service=", "", ERR_OK},
        {"service", "", ERR_OK},
        {"xservice=a", "", ERR_NOT_FOUND},
        {"services=a&servic=b&s%65=c&=d&&", "", ERR_NOT_FOUND},
        {"service=a&service=a", "", ERR_INVALID},
        {"service=a&%73ervice", "", ERR_INVALID},
        {"service=%", "", ERR_INVALID},
        {"service=%0", "", ERR_INVALID},
        {"service=%zz", "", ERR_INVALID},
        {"service=a%00b", "", ERR_INVALID},
        {"", "", ERR_NOT_FOUND},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        struct reader reader;
        struct buffer value = BUFFER_EMPTY;

        read_head(&reader, ROWS[i].query);
        assert_int_equal(request_query(&reader.request, "service", &value), ROWS[i].err);
        assert_true(ROWS[i].err != ERR_OK || span_is(buffer_span(&value), ROWS[i].value));
        buffer_free(&value);
        reader_fini(&reader);
    }
}

static void
the_query_is_walked_member_by_member(void **state)
{
    static const struct {
        const char *name;
        const char *value;
        enum err err;
    } ROWS[] = {
        {"a", "1 2", ERR_OK},  {"filter[x]", "=\xc3\xa9", ERR_OK},
        {"alone", "", ERR_OK}, {"", "no name", ERR_OK},
        {"", "", ERR_INVALID}, {"last", "", ERR_OK},
    };
    struct reader reader;
    size_t at = 0;

    (void)state;
    read_head(&reader, "a=1+2&filter%5Bx]==%C3%A9&&alone&=no+name&%zz=1&last=");
    for (size_t i = 0; i <= ARRAY_LEN(ROWS); i++) {
        struct buffer name = BUFFER_EMPTY;
        struct buffer value = BUFFER_EMPTY;
        const enum err err = request_query_next(&reader.request, &at, &name, &value);

        if (i == ARRAY_LEN(ROWS)) {
            assert_int_equal(err, ERR_NOT_FOUND);
        } else {
            assert_int_equal(err, ROWS[i].err);
            assert_true(err != ERR_OK || span_is(buffer_span(&name), ROWS[i].name));
            assert_true(err != ERR_OK || span_is(buffer_span(&value), ROWS[i].value));
        }
        buffer_free(&name);
        buffer_free(&value);
    }
    reader_fini(&reader);
}

static void
expectations_and_codings_are_seen(void **state)
{
    struct reader reader;

    (void)state;
    read_head(&reader, "Expect: 100-Continue");
    assert_true(request_expects_continue(&reader.request));
    assert_true(request_is_identity(&reader.request));
    reader_fini(&reader);
    read_head(&reader, "Expect: something else");
    assert_false(request_expects_continue(&reader.request));
    reader_fini(&reader);
    read_head(&reader, "Content-Encoding: gzip");
    assert_false(request_is_identity(&reader.request));
    reader_fini(&reader);
    read_head(&reader, "Content-Encoding: Identity");
    assert_true(request_is_identity(&reader.request));
    reader_fini(&reader);
}

static void
routes_know_their_methods(void **state)
{
    uint32_t allowed;

    (void)state;
    assert_non_null(route_find(METHOD_POST, SPAN_LITERAL("/events"), &allowed));
    assert_non_null(route_find(METHOD_HEAD, SPAN_LITERAL("/health"), &allowed));
    assert_int_equal(allowed, 1U << METHOD_GET | 1U << METHOD_HEAD | 1U << METHOD_OPTIONS);
    assert_null(route_find(METHOD_GET, SPAN_LITERAL("/ingest"), &allowed));
    assert_int_equal(allowed, 1U << METHOD_POST | 1U << METHOD_OPTIONS);
    assert_null(route_find(METHOD_GET, SPAN_LITERAL("/health/"), &allowed));
    assert_int_equal(allowed, 0);
}

static void
each_journal_error_has_the_refusal_a_client_needs(void **state)
{
    (void)state;
    assert_int_equal(problem_of_err(ERR_AGAIN), PROBLEM_BACKPRESSURE);
    assert_int_equal(problem_of_err(ERR_FULL), PROBLEM_LOG_FULL);
    assert_int_equal(problem_of_err(ERR_CLOSED), PROBLEM_SHUTTING_DOWN);
    assert_int_equal(problem_of_err(ERR_FAILED), PROBLEM_LOG_FAILED);
    assert_int_equal(problem_of_err(ERR_UNKNOWN), PROBLEM_OUTCOME_UNKNOWN);
    assert_int_equal(problem_of_err(ERR_IO), PROBLEM_OUTCOME_UNKNOWN);
    for (size_t p = 0; p < PROBLEM_COUNT; p++) {
        bool unavailable = problem_status((enum problem)p) == 503;

        assert_true(!unavailable || problem_retry_after_s((enum problem)p) > 0);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(well_formed_requests_read_the_same_wherever_they_are_cut),
        cmocka_unit_test(smuggling_and_malformed_requests_are_refused_wherever_they_are_cut),
        cmocka_unit_test(everything_a_client_can_make_long_has_a_limit),
        cmocka_unit_test(a_body_in_pieces_is_charged_to_the_budget_and_given_back),
        cmocka_unit_test(only_json_is_taken_as_json),
        cmocka_unit_test(only_a_well_formed_traceparent_gives_a_trace_id),
        cmocka_unit_test(query_values_are_decoded_or_refused),
        cmocka_unit_test(the_query_is_walked_member_by_member),
        cmocka_unit_test(expectations_and_codings_are_seen),
        cmocka_unit_test(routes_know_their_methods),
        cmocka_unit_test(each_journal_error_has_the_refusal_a_client_needs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
