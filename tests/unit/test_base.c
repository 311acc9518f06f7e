/* The small things everybody stands on: buffers, checksums, ids, log lines, metrics, event bytes.
 */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/buffer.h"
#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/crc32c.h"
#include "core/base/decimal.h"
#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/base/uuid.h"
#include "core/event/event.h"
#include "core/journal.h"

static void
assert_text(struct buffer *buffer, const char *expected)
{
    assert_false(buffer->failed);
    buffer_append_char(buffer, '\0');
    assert_string_equal(buffer->data, expected);
    buffer_free(buffer);
}

/* ---- base and err ---- */

static void
a_broken_assertion_stops_the_process(void **state)
{
    int status;
    pid_t child = fork();

    (void)state;
    assert_true(child >= 0);
    if (child == 0) {
        close(2);
        signal(SIGABRT, SIG_DFL);
        narrow_u16(65536);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void
narrowing_keeps_what_fits(void **state)
{
    (void)state;
    assert_int_equal(narrow_u32(UINT32_MAX), UINT32_MAX);
    assert_int_equal(narrow_u16(UINT16_MAX), UINT16_MAX);
    assert_int_equal(narrow_u8(UINT8_MAX), UINT8_MAX);
}

static void
spans_compare_by_content(void **state)
{
    (void)state;
    assert_true(span_is(SPAN_LITERAL("abc"), "abc"));
    assert_false(span_is(SPAN_LITERAL("abc"), "abcd"));
    assert_false(span_is(SPAN_LITERAL("abc"), "abd"));
    assert_true(span_equal((struct span){NULL, 0}, SPAN_LITERAL("")));
    assert_int_equal(span_of(NULL).len, 0);
    assert_null(span_of(NULL).data);
}

static void
every_error_has_a_name_and_a_sentence(void **state)
{
    (void)state;
#define CHECK(code, text)                                                                          \
    assert_string_equal(err_name(code), #code);                                                    \
    assert_string_equal(err_text(code), text);
    ERR_LIST(CHECK)
#undef CHECK
    assert_string_equal(err_name((enum err)9999), "ERR_?");
    assert_string_equal(err_text((enum err)9999), "unknown error");
}

static void
integers_are_little_endian_on_disk(void **state)
{
    uint8_t raw[8];

    (void)state;
    put_u64(raw, UINT64_C(0x8877665544332211));
    for (int i = 0; i < 8; i++) {
        assert_int_equal(raw[i], 0x11 * (i + 1));
    }
    assert_true(get_u64(raw) == UINT64_C(0x8877665544332211));
    assert_int_equal(get_u32(raw + 1), 0x55443322);
    assert_int_equal(get_u16(raw + 6), 0x8877);
}

/* ---- buffer ---- */

static void
a_buffer_grows_and_keeps_its_content(void **state)
{
    struct buffer buffer = BUFFER_EMPTY;

    (void)state;
    for (int i = 0; i < 100000; i++) {
        buffer_append_char(&buffer, (char)('a' + i % 26));
    }
    assert_int_equal(buffer.len, 100000);
    for (int i = 0; i < 100000; i++) {
        assert_int_equal(buffer.data[i], 'a' + i % 26);
    }
    assert_int_equal(buffer_span(&buffer).len, 100000);
    buffer_clear(&buffer, 1 << 20);
    assert_int_equal(buffer.len, 0);
    assert_true(buffer.capacity >= 100000);
    buffer_clear(&buffer, 1000); /* more than is to be kept */
    assert_int_equal(buffer.capacity, 0);
    assert_null(buffer.data);
    buffer_free(&buffer);
}

static void
a_buffer_without_memory_remembers_it(void **state)
{
    struct buffer buffer = BUFFER_EMPTY;

    (void)state;
    buffer_append_text(&buffer, "kept");
    assert_int_equal(buffer_reserve(&buffer, SIZE_MAX / 2), ERR_NO_MEMORY);
    assert_true(buffer.failed);
    assert_int_equal(buffer.len, 4);
    buffer_append_text(&buffer, "lost");
    buffer_printf(&buffer, "%d", 5);
    assert_int_equal(buffer.len, 4);
    buffer_clear(&buffer, SIZE_MAX);
    assert_false(buffer.failed);
    buffer_append_text(&buffer, "again");
    assert_text(&buffer, "again");
}

static void
a_buffer_prints_integers_at_their_limits(void **state)
{
    struct buffer buffer = BUFFER_EMPTY;

    (void)state;
    buffer_append_u64(&buffer, 0);
    buffer_append_char(&buffer, ' ');
    buffer_append_u64(&buffer, UINT64_MAX);
    buffer_append_char(&buffer, ' ');
    buffer_append_i64(&buffer, INT64_MIN);
    buffer_append_char(&buffer, ' ');
    buffer_append_i64(&buffer, INT64_MAX);
    buffer_append_char(&buffer, ' ');
    buffer_append_i64(&buffer, -1);
    buffer_printf(&buffer, " %s=%05d", "n", 42);
    assert_text(&buffer,
                "0 18446744073709551615 -9223372036854775808 9223372036854775807 -1 n=00042");
}

static void
a_buffer_writes_json_strings(void **state)
{
    struct buffer buffer = BUFFER_EMPTY;

    (void)state;
    buffer_append_json_string(&buffer, SPAN_LITERAL("a\"b\\c\n\t\x01\x7f\0z \xc3\xa4"));
    assert_text(&buffer, "\"a\\\"b\\\\c\\n\\u0009\\u0001\x7f\\u0000z \xc3\xa4\"");
    buffer_append_json_string(&buffer, (struct span){NULL, 0});
    assert_text(&buffer, "\"\"");
}

static void
a_buffer_writes_numbers_that_read_back_the_same(void **state)
{
    static const double VALUES[] = {0.0,
                                    1.0,
                                    -1.5,
                                    0.1,
                                    1.0 / 3,
                                    1e300,
                                    5e-324,
                                    123456,
                                    2.5e-7,
                                    1e21,
                                    9007199254740993.0,
                                    0.30000000000000004};
    struct buffer buffer = BUFFER_EMPTY;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(VALUES); i++) {
        buffer_clear(&buffer, SIZE_MAX);
        buffer_append_json_number(&buffer, VALUES[i]);
        buffer_append_char(&buffer, '\0');
        assert_true(strtod(buffer.data, NULL) == VALUES[i]);
    }
    buffer_free(&buffer);
    buffer_append_json_number(&buffer, 0.1);
    assert_text(&buffer, "0.1");
    buffer_append_json_number(&buffer, (double)NAN);
    buffer_append_json_number(&buffer, (double)INFINITY);
    assert_text(&buffer, "nullnull");
}

static void
assert_same_decimal(double value)
{
    char text[DECIMAL_TEXT_SIZE];
    char expected[DECIMAL_TEXT_SIZE];

    size_t len = decimal_format(value, text);

    assert_int_equal(len, strlen(text));
    len = decimal_format_slowly(value, expected);
    assert_int_equal(len, strlen(expected));
    assert_string_equal(text, expected);
    assert_true(strtod(text, NULL) == value);
}

/* Ratios, sums, quotients of small numbers, random bits, and what is next to round numbers. */
static void
decimals_are_those_of_printf(void **state)
{
    static const double EDGES[] = {0.0, 1e-5, 1e-4, 0.001, 0.01, 0.1,  1.0,    10.0,
                                   0.5, 1e14, 1e15, 1e16,  1e22, 1e23, 0x1p53, 0x1p-10};

    (void)state;
    srand48(19);
    for (size_t i = 0; i < ARRAY_LEN(EDGES); i++) {
        const double edge = EDGES[i];

        assert_same_decimal(edge);
        assert_same_decimal(-edge);
        assert_same_decimal(nextafter(edge, INFINITY));
        assert_same_decimal(nextafter(edge, -INFINITY));
    }
    for (int i = 0; i < 20000; i++) {
        const double of = floor(drand48() * 1e6) + 1;
        const uint64_t bits = (uint64_t)mrand48() << 32 ^ (uint64_t)(uint32_t)mrand48();
        double any;

        assert_same_decimal(floor(drand48() * of) / of);
        assert_same_decimal(floor(drand48() * 1e9) / 1000.0);
        assert_same_decimal((drand48() - 0.5) * pow(10.0, floor(drand48() * 22) - 5));
        memcpy(&any, &bits, sizeof(any));
        assert_same_decimal(isfinite(any) ? any : 1.0);
    }
}

/* ---- crc32c and ids ---- */

static void
crc32c_agrees_with_rfc_3720(void **state)
{
    uint8_t bytes[32];

    (void)state;
    assert_int_equal(crc32c(0, "123456789", 9), 0xE3069283);
    assert_int_equal(crc32c(0, "", 0), 0);
    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x8A9136AA);
    memset(bytes, 0xFF, sizeof(bytes));
    assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x62A8AB43);
    for (uint8_t i = 0; i < 32; i++) {
        bytes[i] = i;
    }
    assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x46DD794E);
    /* In two parts, cut anywhere, from any alignment. */
    for (size_t cut = 0; cut <= 32; cut++) {
        assert_int_equal(crc32c(crc32c(0, bytes, cut), bytes + cut, 32 - cut), 0x46DD794E);
    }
}

static void
uuids_have_their_version_variant_and_form(void **state)
{
    uint8_t uuid[UUID_SIZE];
    uint8_t other[UUID_SIZE];
    char text[UUID_TEXT_SIZE];
    char next[UUID_TEXT_SIZE];

    (void)state;
    uuid_v4(uuid);
    uuid_v4(other);
    assert_memory_not_equal(uuid, other, UUID_SIZE);
    assert_int_equal(uuid[6] >> 4, 4);
    assert_int_equal(uuid[8] >> 6, 2);
    for (uint8_t i = 0; i < UUID_SIZE; i++) {
        uuid[i] = (uint8_t)(i * 0x11);
    }
    uuid_text(uuid, text);
    assert_string_equal(text, "00112233-4455-6677-8899-aabbccddeeff");

    uuid_v7_text(INT64_C(0x0123456789AB), text);
    assert_int_equal(strlen(text), 36);
    assert_memory_equal(text, "01234567-89ab-7", 15);
    assert_non_null(strchr("89ab", text[19]));
    for (int i = 0; i < 2000; i++) { /* more than one pool of random bits */
        uuid_v7_text(INT64_C(0x0123456789AB), next);
        assert_string_not_equal(text, next);
        memcpy(text, next, sizeof(text));
    }
    uuid_v7_text(INT64_C(0x0123456789AC), next);
    assert_true(strcmp(text, next) < 0);
}

static void
random_bytes_fill_any_length(void **state)
{
    uint8_t bytes[1000];
    size_t zeros = 0;

    (void)state;
    memset(bytes, 0, sizeof(bytes));
    random_bytes(bytes, sizeof(bytes) - 1);
    assert_int_equal(bytes[999], 0);
    for (size_t i = 0; i < sizeof(bytes) - 1; i++) {
        zeros += bytes[i] == 0;
    }
    assert_true(zeros < 100);
}

static void
the_system_clock_is_of_this_century_and_never_steps_back(void **state)
{
    int64_t before = clock_monotonic_us(clock_system());

    (void)state;
    assert_true(clock_wall_us(clock_system()) > INT64_C(1600000000000000));
    assert_true(clock_monotonic_us(clock_system()) >= before);
}

/* ---- log ---- */

static void
read_lines(int fd, char *out, size_t size)
{
    ssize_t len = pread(fd, out, size - 1, 0);

    assert_true(len >= 0);
    out[len] = '\0';
    assert_int_equal(ftruncate(fd, 0), 0);
}

static void
log_lines_have_one_form_in_json_and_one_in_text(void **state)
{
    FILE *file = tmpfile();
    int fd = file == NULL ? -1 : fileno(file);
    char lines[2048];
    int end = 0;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_APPEND), 0);
    log_setup(LOG_INFO, LOG_JSON, fd);
    log_info("part.fact", LOG_STR("text", "a \"b\"\n"), LOG_STR("none", NULL), LOG_I64("i", -5),
             LOG_U64("u", UINT64_MAX), LOG_F64("f", 0.25), LOG_BOOL("yes", true),
             LOG_BOOL("no", false), LOG_ERR(ERR_FULL), LOG_END);
    read_lines(fd, lines, sizeof(lines));
    assert_int_equal(sscanf(lines, "{\"time\":\"%*4d-%*2d-%*2dT%*2d:%*2d:%*2d.%*3dZ\",%n", &end),
                     0);
    assert_true(end > 0);
    assert_string_equal(lines + end,
                        "\"level\":\"info\",\"event\":\"part.fact\",\"text\":\"a \\\"b\\\"\\n\","
                        "\"none\":\"\",\"i\":-5,\"u\":18446744073709551615,\"f\":0.25,"
                        "\"yes\":true,\"no\":false,\"error\":\"ERR_FULL\"}\n");

    log_setup(LOG_WARN, LOG_TEXT, fd);
    log_info("part.unseen", LOG_END);
    log_warn("part.seen", LOG_STR("dir", "/x y"), LOG_END);
    log_error("part.bare", LOG_END);
    read_lines(fd, lines, sizeof(lines));
    assert_null(strstr(lines, "unseen"));
    assert_non_null(strstr(lines, "Z warn  part.seen dir=\"/x y\"\n"));
    assert_non_null(strstr(lines, "Z error part.bare\n"));
    assert_false(log_enabled(LOG_INFO));
    assert_true(log_enabled(LOG_ERROR));
    log_setup(LOG_INFO, LOG_TEXT, 2);
    fclose(file);
}

/* ---- metrics ---- */

static void
metrics_are_written_in_the_prometheus_text_format(void **state)
{
    static const double BOUNDS[] = {0.5, 1, 2.5};
    struct metric_histogram histogram;
    struct metric_counter counter = {0};
    struct buffer out = BUFFER_EMPTY;
    struct buffer labels = BUFFER_EMPTY;

    (void)state;
    metric_add(&counter, 40);
    metric_add(&counter, 2);
    assert_int_equal(metric_value(&counter), 42);
    metric_histogram_init(&histogram, BOUNDS, 3);
    metric_observe(&histogram, 0.5); /* a bound belongs to its bucket */
    metric_observe(&histogram, 0.75);
    metric_observe(&histogram, 2);
    metric_observe(&histogram, 100);
    metrics_label(&labels, "a", SPAN_LITERAL("x\"y\\z\nw"));
    metrics_label(&labels, "b", SPAN_LITERAL(""));
    buffer_append_char(&labels, '\0');

    metrics_family(&out, "c_total", METRIC_COUNTER, "Help.");
    metrics_sample_u64(&out, "c_total", "", metric_value(&counter));
    metrics_family(&out, "g", METRIC_GAUGE, "Help.");
    metrics_sample_f64(&out, "g", labels.data, 0.1);
    metrics_sample_f64(&out, "g", "", (double)INFINITY);
    metrics_sample_f64(&out, "g", "", -(double)INFINITY);
    metrics_sample_f64(&out, "g", "", (double)NAN);
    metrics_family(&out, "h", METRIC_HISTOGRAM, "Help.");
    metrics_sample_histogram(&out, "h", "k=\"v\"", &histogram);
    assert_text(&out, "# HELP c_total Help.\n# TYPE c_total counter\nc_total 42\n"
                      "# HELP g Help.\n# TYPE g gauge\n"
                      "g{a=\"x\\\"y\\\\z\\nw\",b=\"\"} 0.1\ng +Inf\ng -Inf\ng NaN\n"
                      "# HELP h Help.\n# TYPE h histogram\n"
                      "h_bucket{k=\"v\",le=\"0.5\"} 1\nh_bucket{k=\"v\",le=\"1\"} 2\n"
                      "h_bucket{k=\"v\",le=\"2.5\"} 3\nh_bucket{k=\"v\",le=\"+Inf\"} 4\n"
                      "h_sum{k=\"v\"} 103.25\nh_count{k=\"v\"} 4\n");
    buffer_free(&labels);
}

static void
the_standard_bounds_rise(void **state)
{
    (void)state;
    assert_true(METRIC_SECONDS_BOUND_COUNT <= METRIC_BUCKETS_MAX);
    assert_true(METRIC_COUNT_BOUND_COUNT <= METRIC_BUCKETS_MAX);
    for (uint32_t i = 1; i < METRIC_SECONDS_BOUND_COUNT; i++) {
        assert_true(METRIC_SECONDS_BOUNDS[i - 1] < METRIC_SECONDS_BOUNDS[i]);
    }
    for (uint32_t i = 1; i < METRIC_COUNT_BOUND_COUNT; i++) {
        assert_true(METRIC_COUNT_BOUNDS[i - 1] < METRIC_COUNT_BOUNDS[i]);
    }
}

/* ---- partitions and batches ---- */

static void
partition_counts_agree_with_counting(void **state)
{
    static const uint32_t PARTITIONS[] = {1, 2, 3, 7, 64};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(PARTITIONS); i++) {
        uint64_t counted[64] = {0};

        for (uint64_t seq = 1; seq <= 3 * 64 * JOURNAL_STRIPE / 8; seq++) {
            uint32_t own = journal_partition_of(seq, PARTITIONS[i]);

            counted[own]++;
            assert_true(journal_partition_count(seq, own, PARTITIONS[i]) == counted[own]);
        }
        for (uint32_t p = 0; p < PARTITIONS[i]; p++) {
            assert_int_equal(journal_partition_count(0, p, PARTITIONS[i]), 0);
            assert_int_equal(journal_partition_count(3 * 64 * JOURNAL_STRIPE / 8, p, PARTITIONS[i]),
                             counted[p]);
        }
    }
}

static void
a_part_of_a_batch_covers_its_own_numbers(void **state)
{
    struct batch_event events[4] = {{.seq = 3}, {.seq = 4}, {.seq = 9}, {.seq = 10}};
    const struct batch batch = {
        .partition = 5, .after_seq = 1, .to_seq = 12, .events = events, .count = 4};
    struct batch part = batch_part(&batch, 0, 2);

    (void)state;
    assert_int_equal(part.after_seq, 1);
    assert_int_equal(part.to_seq, 4);
    assert_int_equal(part.partition, 5);
    part = batch_part(&batch, 2, 2);
    assert_int_equal(part.after_seq, 4);
    assert_int_equal(part.to_seq, 12);
    assert_int_equal(part.count, 2);
    assert_int_equal(part.events[0].seq, 9);
}

/* ---- the event's bytes ---- */

static struct event
full_event(void)
{
    struct event event = {
        .shape = EVENT_CHANNEL,
        .has_status = true,
        .has_latency = true,
        .id_by_client = true,
        .status = 599,
        .latency_ms = 0.125,
        .occurred_at_us = INT64_MIN,
        .created_at_us = INT64_MAX,
        .content_crc = 0xDEADBEEF,
        .tenant = SPAN_LITERAL("tenant"),
        .id = SPAN_LITERAL("id"),
        .name = SPAN_LITERAL("name"),
        .service = SPAN_LITERAL("service"),
        .channel = SPAN_LITERAL("channel"),
        .campaign_id = SPAN_LITERAL("campaign"),
        .user_id = SPAN_LITERAL("user"),
        .trace_id = SPAN_LITERAL("0123456789abcdef0123456789abcdef"),
        .tags = SPAN_LITERAL("[\"a\"]"),
        .properties = SPAN_LITERAL("{\"k\":1}"),
    };

    event_key(event.tenant, event.id, event.key);
    return event;
}

static void
an_event_comes_back_from_its_bytes(void **state)
{
    struct event event = full_event();
    struct event back;
    struct buffer bytes = BUFFER_EMPTY;

    (void)state;
    event_encode(&event, &bytes);
    assert_int_equal(event_decode(buffer_span(&bytes), &back), ERR_OK);
    assert_int_equal(back.shape, EVENT_CHANNEL);
    assert_true(back.has_status && back.has_latency && back.id_by_client);
    assert_int_equal(back.status, 599);
    assert_true(back.latency_ms == 0.125);
    assert_true(back.occurred_at_us == INT64_MIN);
    assert_true(back.created_at_us == INT64_MAX);
    assert_int_equal(back.content_crc, 0xDEADBEEF);
    assert_memory_equal(back.key, event.key, EVENT_KEY_SIZE);
    assert_true(span_equal(back.tenant, event.tenant));
    assert_true(span_equal(back.id, event.id));
    assert_true(span_equal(back.name, event.name));
    assert_true(span_equal(back.service, event.service));
    assert_true(span_equal(back.channel, event.channel));
    assert_true(span_equal(back.campaign_id, event.campaign_id));
    assert_true(span_equal(back.user_id, event.user_id));
    assert_true(span_equal(back.trace_id, event.trace_id));
    assert_true(span_equal(back.tags, event.tags));
    assert_true(span_equal(back.properties, event.properties));
    buffer_free(&bytes);
}

static void
what_an_event_lacks_comes_back_as_absent(void **state)
{
    char longest[EVENT_NAME_MAX];
    struct event event = {
        .shape = EVENT_GENERIC, .tenant = SPAN_LITERAL("t"), .id = SPAN_LITERAL("i")};
    struct event back;
    struct buffer bytes = BUFFER_EMPTY;

    (void)state;
    memset(longest, 'n', sizeof(longest));
    event.name = (struct span){longest, sizeof(longest)};
    event_encode(&event, &bytes);
    assert_int_equal(event_decode(buffer_span(&bytes), &back), ERR_OK);
    assert_int_equal(back.name.len, EVENT_NAME_MAX);
    assert_null(back.service.data);
    assert_null(back.channel.data);
    assert_null(back.campaign_id.data);
    assert_null(back.user_id.data);
    assert_null(back.trace_id.data);
    assert_null(back.tags.data);
    assert_null(back.properties.data);
    assert_false(back.has_status || back.has_latency || back.id_by_client);
    assert_false(event_is_measured(&back));
    buffer_free(&bytes);
}

static void
an_event_cut_or_lengthened_is_no_event(void **state)
{
    struct event event = full_event();
    struct event back = {.status = 1};
    struct buffer bytes = BUFFER_EMPTY;

    (void)state;
    event_encode(&event, &bytes);
    for (size_t len = 0; len < bytes.len; len++) {
        char *copy = malloc(len == 0 ? 1 : len);

        assert_non_null(copy);
        memcpy(copy, bytes.data, len);
        assert_int_equal(event_decode((struct span){copy, len}, &back), ERR_CORRUPT);
        free(copy);
    }
    buffer_append_char(&bytes, 'x');
    assert_int_equal(event_decode(buffer_span(&bytes), &back), ERR_CORRUPT);
    assert_int_equal(back.status, 1);
    buffer_free(&bytes);
}

static void
an_event_with_an_impossible_field_is_no_event(void **state)
{
    static const struct {
        size_t at;
        uint8_t value;
        enum err err;
    } CASES[] = {
        {0, 2, ERR_FORMAT},      /* version */
        {1, 0, ERR_CORRUPT},     /* shape */
        {1, 5, ERR_CORRUPT},     /* ... */
        {2, 8, ERR_CORRUPT},     /* flags */
        {5, 0, ERR_CORRUPT},     /* status 87 */
        {5, 3, ERR_CORRUPT},     /* status 855 */
        {6, 7, ERR_CORRUPT},     /* a tenant longer than it is */
        {23, 1, ERR_CORRUPT},    /* properties of 16 MiB */
        {55, 0xBF, ERR_CORRUPT}, /* a latency below zero */
    };
    struct event event = full_event();
    struct event back;
    struct buffer bytes = BUFFER_EMPTY;
    uint64_t infinity = UINT64_C(0x7FF0000000000000);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        buffer_clear(&bytes, SIZE_MAX);
        event_encode(&event, &bytes);
        bytes.data[CASES[i].at] = (char)CASES[i].value;
        assert_int_equal(event_decode(buffer_span(&bytes), &back), CASES[i].err);
    }
    buffer_clear(&bytes, SIZE_MAX);
    event_encode(&event, &bytes);
    memcpy(bytes.data + 48, &infinity, sizeof(infinity));
    assert_int_equal(event_decode(buffer_span(&bytes), &back), ERR_CORRUPT);
    buffer_free(&bytes);
}

static void
an_idempotency_key_tells_tenant_and_id_apart(void **state)
{
    uint8_t a[EVENT_KEY_SIZE];
    uint8_t b[EVENT_KEY_SIZE];
    /* printf 't\0i' | sha256sum */
    static const uint8_t EXPECTED[EVENT_KEY_SIZE] = {0xce, 0xee, 0x44, 0xe3, 0x49, 0x28,
                                                     0x3b, 0xe3, 0x19, 0x2f, 0x46, 0xbb,
                                                     0x9a, 0xec, 0xaa, 0xee};

    (void)state;
    event_key(SPAN_LITERAL("ab"), SPAN_LITERAL("c"), a);
    event_key(SPAN_LITERAL("a"), SPAN_LITERAL("bc"), b);
    assert_memory_not_equal(a, b, EVENT_KEY_SIZE);
    event_key(SPAN_LITERAL("t"), SPAN_LITERAL("i"), a);
    assert_memory_equal(a, EXPECTED, EVENT_KEY_SIZE);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_broken_assertion_stops_the_process),
        cmocka_unit_test(narrowing_keeps_what_fits),
        cmocka_unit_test(spans_compare_by_content),
        cmocka_unit_test(every_error_has_a_name_and_a_sentence),
        cmocka_unit_test(integers_are_little_endian_on_disk),
        cmocka_unit_test(a_buffer_grows_and_keeps_its_content),
        cmocka_unit_test(a_buffer_without_memory_remembers_it),
        cmocka_unit_test(a_buffer_prints_integers_at_their_limits),
        cmocka_unit_test(a_buffer_writes_json_strings),
        cmocka_unit_test(a_buffer_writes_numbers_that_read_back_the_same),
        cmocka_unit_test(decimals_are_those_of_printf),
        cmocka_unit_test(crc32c_agrees_with_rfc_3720),
        cmocka_unit_test(uuids_have_their_version_variant_and_form),
        cmocka_unit_test(random_bytes_fill_any_length),
        cmocka_unit_test(the_system_clock_is_of_this_century_and_never_steps_back),
        cmocka_unit_test(log_lines_have_one_form_in_json_and_one_in_text),
        cmocka_unit_test(metrics_are_written_in_the_prometheus_text_format),
        cmocka_unit_test(the_standard_bounds_rise),
        cmocka_unit_test(partition_counts_agree_with_counting),
        cmocka_unit_test(a_part_of_a_batch_covers_its_own_numbers),
        cmocka_unit_test(an_event_comes_back_from_its_bytes),
        cmocka_unit_test(what_an_event_lacks_comes_back_as_absent),
        cmocka_unit_test(an_event_cut_or_lengthened_is_no_event),
        cmocka_unit_test(an_event_with_an_impossible_field_is_no_event),
        cmocka_unit_test(an_idempotency_key_tells_tenant_and_id_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
