/*
 * The parser layer: llhttp's callbacks collect one request; parser_feed() turns its pauses into
 * steps.
 */
#include "http/request.h"

#include <ctype.h>
#include <strings.h>

struct field_row {
    const char *name;
    size_t len;
    bool single;
};

static const struct field_row FIELDS[FIELD_COUNT] = {
#define FIELD_ROW(name, text, single) [name] = {(text), sizeof(text) - 1, (single)},
    REQUEST_FIELDS(FIELD_ROW)
#undef FIELD_ROW
};

static const char *const METHOD_NAMES[METHOD_COUNT] = {
#define METHOD_ROW(name, text, number) [name] = (text),
    REQUEST_METHODS(METHOD_ROW)
#undef METHOD_ROW
        [METHOD_OTHER] = "other",
};

/* Framing a client may add per byte of chunked body: "1\r\nx\r\n" is five for one. */
enum {
    CHUNK_OVERHEAD_FACTOR = 8
};

const char *
request_method_name(enum request_method method)
{
    ASSERT((unsigned)method < METHOD_COUNT);
    return METHOD_NAMES[method];
}

static enum request_method
method_of(uint8_t number)
{
    switch (number) {
#define METHOD_CASE(name, text, number)                                                            \
    case number:                                                                                   \
        return name;
        REQUEST_METHODS(METHOD_CASE)
#undef METHOD_CASE
    default: /* llhttp knows more methods than we tell apart */
        return METHOD_OTHER;
    }
}

bool
budget_take(struct budget *budget, size_t bytes)
{
    size_t used = atomic_load_explicit(&budget->used, memory_order_relaxed);

    do {
        if (used > budget->max || bytes > budget->max - used) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&budget->used, &used, used + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

void
budget_give(struct budget *budget, size_t bytes)
{
    size_t before = atomic_fetch_sub_explicit(&budget->used, bytes, memory_order_relaxed);

    ASSERT(before >= bytes);
}

/* ---- llhttp's callbacks ---- */

/* Ends the parse with a reason; HPE_USER is what llhttp wants to hear. */
static int
refuse(struct parser *parser, enum problem why)
{
    parser->why = why;
    return HPE_USER;
}

static int
append_slot(struct parser *parser, struct request_slot *slot, const char *at, size_t len)
{
    struct request *request = parser->request;

    if (!slot->present) {
        slot->present = true;
        slot->at = narrow_u32(request->head.len);
        slot->len = 0;
    }
    if (request->head.len + len > parser->limits->head_bytes_max) {
        return refuse(parser, PROBLEM_HEADERS_TOO_LARGE);
    }
    buffer_append(&request->head, at, len);
    if (request->head.failed) {
        return refuse(parser, PROBLEM_BACKPRESSURE);
    }
    slot->len = narrow_u32(slot->len + len);
    return 0;
}

static int
on_url(llhttp_t *llhttp, const char *at, size_t len)
{
    struct parser *parser = llhttp->data;

    if (parser->request->url.len + len > parser->limits->url_bytes_max) {
        return refuse(parser, PROBLEM_URI_TOO_LONG);
    }
    return append_slot(parser, &parser->request->url, at, len);
}

static int
on_header_field(llhttp_t *llhttp, const char *at, size_t len)
{
    struct parser *parser = llhttp->data;

    if (parser->in_body) { /* a trailer: bounded by wire_bytes, read by nobody */
        return 0;
    }
    if (parser->name_len == 0) {
        parser->fields++;
        if (parser->fields > parser->limits->fields_max) {
            return refuse(parser, PROBLEM_HEADERS_TOO_LARGE);
        }
    }
    if (len <= sizeof(parser->name) && parser->name_len <= sizeof(parser->name) - len) {
        memcpy(parser->name + parser->name_len, at, len);
        parser->name_len += len;
    } else {
        parser->name_len = sizeof(parser->name) + 1;
    }
    return 0;
}

static enum request_field
field_of(const char *name, size_t len)
{
    for (uint32_t i = 0; i < FIELD_COUNT; i++) {
        if (FIELDS[i].len == len && strncasecmp(FIELDS[i].name, name, len) == 0) {
            return (enum request_field)i;
        }
    }
    return FIELD_COUNT;
}

static int
on_header_value(llhttp_t *llhttp, const char *at, size_t len)
{
    struct parser *parser = llhttp->data;
    struct request *request = parser->request;

    if (parser->in_body) {
        return 0;
    }
    if (!parser->in_value) {
        parser->in_value = true;
        parser->current = FIELD_COUNT;
        if (parser->name_len <= sizeof(parser->name)) {
            parser->current = field_of(parser->name, parser->name_len);
        }
        if (parser->current != FIELD_COUNT && request->field[parser->current].present) {
            request->repeated |= 1U << parser->current;
            parser->current = FIELD_COUNT; /* the first one stands */
        }
    }
    if (parser->current == FIELD_COUNT) {
        return 0;
    }
    return append_slot(parser, &request->field[parser->current], at, len);
}

static int
on_header_value_complete(llhttp_t *llhttp)
{
    struct parser *parser = llhttp->data;

    parser->name_len = 0;
    parser->in_value = false;
    return 0;
}

static int
on_headers_complete(llhttp_t *llhttp)
{
    struct parser *parser = llhttp->data;
    struct request *request = parser->request;

    request->method = method_of(llhttp->method);
    request->http_1_1 = llhttp->http_major == 1 && llhttp->http_minor == 1;
    request->http_1_0 = llhttp->http_major == 1 && llhttp->http_minor == 0;
    request->keep_alive = llhttp_should_keep_alive(llhttp) != 0 && llhttp->method != HTTP_CONNECT;
    request->chunked = (llhttp->flags & F_CHUNKED) != 0;
    request->has_length = (llhttp->flags & F_CONTENT_LENGTH) != 0;
    request->content_length = request->has_length ? llhttp->content_length : 0;
    return HPE_PAUSED;
}

enum problem
request_keep_body(struct request *request, struct budget *budget, struct span bytes)
{
    if (!budget_take(budget, bytes.len)) {
        return PROBLEM_BACKPRESSURE;
    }
    request->charged += bytes.len;
    buffer_append_span(&request->body, bytes);
    return request->body.failed ? PROBLEM_BACKPRESSURE : PROBLEM_NONE;
}

static int
keep_body(struct parser *parser, const char *at, size_t len)
{
    enum problem why = request_keep_body(parser->request, parser->budget, (struct span){at, len});

    return why == PROBLEM_NONE ? 0 : refuse(parser, why);
}

/* Moves a body that began in the caller's bytes to memory of our own. */
static int
settle_body(struct parser *parser)
{
    struct span piece = parser->request->in_place;

    parser->request->in_place = (struct span){NULL, 0};
    return piece.data == NULL ? 0 : keep_body(parser, piece.data, piece.len);
}

static int
on_body(llhttp_t *llhttp, const char *at, size_t len)
{
    struct parser *parser = llhttp->data;
    struct request *request = parser->request;

    if (len > request->body_max || request->body_len > request->body_max - len) {
        return refuse(parser, PROBLEM_BODY_TOO_LARGE);
    }
    if (request->discard) {
        request->body_len += len;
        return 0;
    }
    if (request->take != NULL) {
        enum problem why = request->take(request->take_arg, (struct span){at, len});

        request->body_len += len;
        return why == PROBLEM_NONE ? 0 : refuse(parser, why);
    }
    if (request->body_len == 0) {
        request->in_place = (struct span){at, len};
        request->body_len = len;
        return 0;
    }
    if (settle_body(parser) != 0 || keep_body(parser, at, len) != 0) {
        return HPE_USER;
    }
    request->body_len += len;
    return 0;
}

/* Known as soon as a chunk's size line is read: refuse before its bytes come. */
static int
on_chunk_header(llhttp_t *llhttp)
{
    struct parser *parser = llhttp->data;
    struct request *request = parser->request;

    if (llhttp->content_length > request->body_max ||
        request->body_len > request->body_max - llhttp->content_length) {
        return refuse(parser, PROBLEM_BODY_TOO_LARGE);
    }
    return 0;
}

static int
on_message_complete(llhttp_t *llhttp)
{
    (void)llhttp;
    return HPE_PAUSED;
}

static const llhttp_settings_t SETTINGS = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_header_value_complete = on_header_value_complete,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_chunk_header = on_chunk_header,
    .on_message_complete = on_message_complete,
};

/* ---- steps ---- */

void
parser_init(struct parser *parser, const struct request_limits *limits, struct budget *budget)
{
    memset(parser, 0, sizeof(*parser));
    llhttp_init(&parser->llhttp, HTTP_REQUEST, &SETTINGS);
    parser->llhttp.data = parser;
    parser->limits = limits;
    parser->budget = budget;
}

void
parser_begin(struct parser *parser, struct request *request)
{
    request->method = METHOD_OTHER; /* until the head says */
    parser->request = request;
    parser->why = PROBLEM_MALFORMED;
    parser->in_body = false;
    parser->last = '\0';
    parser->head_bytes = 0;
    parser->wire_bytes = 0;
    parser->fields = 0;
    parser->name_len = 0;
    parser->in_value = false;
}

/*
 * True when a line of the head starts with a blank, an obsolete fold that llhttp would join to the
 * value before it, or ends without CR, where a proxy may see another line structure. Works on raw
 * bytes, so it does not matter where the reads were cut.
 */
static bool
has_odd_line(struct parser *parser, struct span head)
{
    const char *end = head.data + head.len;
    const char *at = head.data;

    if (head.len == 0) {
        return false;
    }
    if (parser->last == '\n' && (*at == ' ' || *at == '\t')) {
        return true;
    }
    while ((at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        if ((at == head.data ? parser->last : at[-1]) != '\r') {
            return true;
        }
        at++;
        if (at == end) {
            break;
        }
        if (*at == ' ' || *at == '\t') {
            return true;
        }
    }
    parser->last = end[-1];
    return false;
}

/* What the grammar allows and this server does not. */
static enum problem
check_head(const struct request *request)
{
    struct span coding = request_field(request, FIELD_TRANSFER_ENCODING);

    for (uint32_t i = 0; i < FIELD_COUNT; i++) {
        if (FIELDS[i].single && request_field_repeated(request, (enum request_field)i)) {
            return PROBLEM_REPEATED;
        }
    }
    if (request->http_1_1 && !request->field[FIELD_HOST].present) {
        return PROBLEM_MALFORMED;
    }
    if (!request->http_1_1 && !request->http_1_0) { /* llhttp takes 0.9 and 2.0 as well */
        return PROBLEM_MALFORMED;
    }
    if (request->field[FIELD_TRANSFER_ENCODING].present &&
        (!request->http_1_1 || !request->chunked || request->has_length ||
         coding.len != sizeof("chunked") - 1 ||
         strncasecmp(coding.data, "chunked", coding.len) != 0)) {
        return PROBLEM_MALFORMED;
    }
    return PROBLEM_NONE;
}

static enum parse_step
head_step(struct parser *parser, struct span used, bool complete, enum problem *why)
{
    parser->head_bytes += used.len;
    if (has_odd_line(parser, used)) {
        *why = PROBLEM_MALFORMED;
        return PARSE_REFUSED;
    }
    if (parser->head_bytes > parser->limits->head_bytes_max) {
        *why = PROBLEM_HEADERS_TOO_LARGE;
        return PARSE_REFUSED;
    }
    if (!complete) {
        return PARSE_MORE;
    }
    *why = check_head(parser->request);
    if (*why != PROBLEM_NONE) {
        return PARSE_REFUSED;
    }
    parser->in_body = true;
    return PARSE_HEAD;
}

static enum parse_step
body_step(struct parser *parser, size_t used, bool complete, enum problem *why)
{
    size_t body = parser->request->body_len;

    parser->wire_bytes += used;
    if (parser->wire_bytes > body &&
        parser->wire_bytes - body > parser->limits->head_bytes_max + CHUNK_OVERHEAD_FACTOR * body) {
        *why = PROBLEM_BODY_TOO_LARGE; /* endless chunk extensions or trailers */
        return PARSE_REFUSED;
    }
    if (complete) {
        return PARSE_COMPLETE;
    }
    if (settle_body(parser) != 0) {
        *why = parser->why;
        return PARSE_REFUSED;
    }
    return PARSE_MORE;
}

enum parse_step
parser_feed(struct parser *parser, struct span bytes, size_t *used, enum problem *why)
{
    static const char NOTHING[1] = "";
    const char *data = bytes.data == NULL ? NOTHING : bytes.data;
    const char *at = data;
    llhttp_errno_t rc;

    ASSERT(parser->request != NULL);
    if (parser->paused) {
        llhttp_resume(&parser->llhttp);
        parser->paused = false;
    }
    rc = llhttp_execute(&parser->llhttp, at, bytes.len);
    while (rc == HPE_PAUSED_UPGRADE) { /* we stay with HTTP/1.1: the next bytes are a request */
        at = llhttp_get_error_pos(&parser->llhttp);
        llhttp_resume_after_upgrade(&parser->llhttp);
        rc = llhttp_execute(&parser->llhttp, at, bytes.len - (size_t)(at - data));
    }
    if (rc != HPE_OK && rc != HPE_PAUSED) {
        *used = bytes.len;
        *why = parser->why; /* malformed, unless a callback said otherwise */
        return PARSE_REFUSED;
    }
    parser->paused = rc == HPE_PAUSED;
    *used = parser->paused ? (size_t)(llhttp_get_error_pos(&parser->llhttp) - data) : bytes.len;
    ASSERT(*used <= bytes.len);
    if (parser->in_body) {
        return body_step(parser, *used, parser->paused, why);
    }
    return head_step(parser, (struct span){data, *used}, parser->paused, why);
}

/* ---- what was asked ---- */

void
request_reset(struct request *request, struct budget *budget, size_t keep_max)
{
    struct buffer head = request->head;
    struct buffer body = request->body;

    budget_give(budget, request->charged);
    buffer_clear(&head, keep_max);
    buffer_clear(&body, keep_max);
    memset(request, 0, sizeof(*request));
    request->head = head;
    request->body = body;
}

void
request_drop_body(struct request *request, struct budget *budget, size_t keep_max)
{
    budget_give(budget, request->charged);
    request->charged = 0;
    request->in_place = (struct span){NULL, 0};
    buffer_clear(&request->body, keep_max);
}

void
request_free(struct request *request, struct budget *budget)
{
    budget_give(budget, request->charged);
    request->charged = 0;
    buffer_free(&request->head);
    buffer_free(&request->body);
}

static struct span
slot_span(const struct request *request, struct request_slot slot)
{
    if (!slot.present) {
        return (struct span){NULL, 0};
    }
    return slot.len == 0 ? SPAN_LITERAL("") : (struct span){request->head.data + slot.at, slot.len};
}

/* llhttp leaves blanks after a value in it. */
static struct span
trimmed(struct span span)
{
    while (span.len > 0 && (span.data[0] == ' ' || span.data[0] == '\t')) {
        span.data++;
        span.len--;
    }
    while (span.len > 0 && (span.data[span.len - 1] == ' ' || span.data[span.len - 1] == '\t')) {
        span.len--;
    }
    return span;
}

struct span
request_field(const struct request *request, enum request_field field)
{
    return trimmed(slot_span(request, request->field[field]));
}

bool
request_field_repeated(const struct request *request, enum request_field field)
{
    return (request->repeated & (1U << field)) != 0;
}

static bool
starts_with_nocase(struct span span, const char *text)
{
    size_t len = strlen(text);

    return span.len >= len && strncasecmp(span.data, text, len) == 0;
}

/* The target from its path on: "/a?b" of "http://host/a?b". */
static struct span
origin_form(const struct request *request)
{
    struct span url = slot_span(request, request->url);
    size_t skip = 0;

    if (starts_with_nocase(url, "http://")) {
        skip = sizeof("http://") - 1;
    } else if (starts_with_nocase(url, "https://")) {
        skip = sizeof("https://") - 1;
    }
    if (skip == 0) {
        return url;
    }
    while (skip < url.len && url.data[skip] != '/' && url.data[skip] != '?') {
        skip++;
    }
    return (struct span){url.data + skip, url.len - skip};
}

struct span
request_target(const struct request *request)
{
    return slot_span(request, request->url);
}

struct span
request_path(const struct request *request)
{
    struct span target = origin_form(request);
    size_t len = 0;

    while (len < target.len && target.data[len] != '?' && target.data[len] != '#') {
        len++;
    }
    if (len == 0) { /* "http://host" means its root */
        return SPAN_LITERAL("/");
    }
    return (struct span){target.data, len};
}

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static enum err
append_decoded(struct buffer *out, struct span raw)
{
    for (size_t i = 0; i < raw.len; i++) {
        char c = raw.data[i];

        if (c == '+') {
            c = ' ';
        } else if (c == '%') {
            int high = i + 1 < raw.len ? hex_digit(raw.data[i + 1]) : -1;
            int low = i + 2 < raw.len ? hex_digit(raw.data[i + 2]) : -1;

            if (high < 0 || low < 0) {
                return ERR_INVALID;
            }
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (c == '\0') {
            return ERR_INVALID;
        }
        buffer_append_char(out, c);
    }
    return out->failed ? ERR_NO_MEMORY : ERR_OK;
}

/* What stands after the target's question mark. */
static struct span
query_of(const struct request *request)
{
    struct span target = origin_form(request);
    const char *mark = target.len == 0 ? NULL : memchr(target.data, '?', target.len);

    if (mark == NULL) {
        return (struct span){NULL, 0};
    }
    return (struct span){mark + 1, target.len - (size_t)(mark + 1 - target.data)};
}

/* The member of QUERY at *AT, not decoded; moves *AT behind it. */
static struct span
take_member(struct span query, size_t *at)
{
    const char *begin = query.data + *at;
    const size_t left = query.len - *at;
    const char *end = memchr(begin, '&', left);
    const size_t len = end == NULL ? left : (size_t)(end - begin);

    *at += end == NULL ? len : len + 1;
    return (struct span){begin, len};
}

/* Cuts MEMBER, not decoded, at its first '='; *VALUE is absent when it has none. */
static struct span
cut_member(struct span member, struct span *value)
{
    const char *equals = member.len == 0 ? NULL : memchr(member.data, '=', member.len);
    const size_t len = equals == NULL ? member.len : (size_t)(equals - member.data);

    *value =
        equals == NULL ? (struct span){NULL, 0} : (struct span){equals + 1, member.len - len - 1};
    return (struct span){member.data, len};
}

/* RAW, percent-encoded or not, stands for NAME. */
static bool
is_name(struct span raw, const char *name)
{
    size_t at = 0;

    while (at < raw.len && *name != '\0') {
        char c = raw.data[at++];

        if (c == '%' && raw.len - at >= 2 && hex_digit(raw.data[at]) >= 0 &&
            hex_digit(raw.data[at + 1]) >= 0) {
            c = (char)(hex_digit(raw.data[at]) * 16 + hex_digit(raw.data[at + 1]));
            at += 2;
        }
        if (c != *name++) {
            return false;
        }
    }
    return at == raw.len && *name == '\0';
}

enum err
request_query(const struct request *request, const char *name, struct buffer *out)
{
    const struct span query = query_of(request);
    struct span found = {NULL, 0};
    bool is_found = false;
    size_t at = 0;

    while (at < query.len) {
        struct span value;

        if (!is_name(cut_member(take_member(query, &at), &value), name)) {
            continue;
        }
        if (is_found) { /* whichever was meant, the other would be left out */
            return ERR_INVALID;
        }
        is_found = true;
        found = value;
    }
    return is_found ? append_decoded(out, found) : ERR_NOT_FOUND;
}

enum err
request_query_next(const struct request *request, size_t *at, struct buffer *name,
                   struct buffer *value)
{
    const struct span query = query_of(request);

    while (*at < query.len) {
        const struct span member = take_member(query, at);
        struct span raw;
        enum err err;

        if (member.len == 0) {
            continue;
        }
        err = append_decoded(name, cut_member(member, &raw));
        if (err == ERR_OK) {
            err = append_decoded(value, raw);
        }
        return err;
    }
    return ERR_NOT_FOUND;
}

struct span
request_body(const struct request *request)
{
    return request->in_place.data != NULL ? request->in_place : buffer_span(&request->body);
}

bool
request_has_body(const struct request *request)
{
    return request->chunked || request->content_length > 0;
}

bool
request_expects_continue(const struct request *request)
{
    struct span expect = request_field(request, FIELD_EXPECT);

    return request->http_1_1 && expect.len == sizeof("100-continue") - 1 &&
           starts_with_nocase(expect, "100-continue");
}

/* The media type without its parameters. */
static struct span
media_type(const struct request *request)
{
    struct span type = request_field(request, FIELD_CONTENT_TYPE);
    size_t len = 0;

    while (len < type.len && type.data[len] != ';' && type.data[len] != ' ' &&
           type.data[len] != '\t') {
        len++;
    }
    type.len = len;
    return type;
}

static bool
is_nocase(struct span span, const char *text)
{
    return span.len == strlen(text) && starts_with_nocase(span, text);
}

bool
request_is_lines(const struct request *request)
{
    static const char *const TYPES[] = {"application/x-ndjson", "application/ndjson",
                                        "application/jsonlines", "application/x-jsonlines",
                                        "application/jsonl"};
    struct span type = media_type(request);

    for (size_t i = 0; i < ARRAY_LEN(TYPES); i++) {
        if (is_nocase(type, TYPES[i])) {
            return true;
        }
    }
    return false;
}

bool
request_is_csv(const struct request *request)
{
    return is_nocase(media_type(request), "text/csv");
}

bool
request_is_gzip(const struct request *request)
{
    struct span coding = request_field(request, FIELD_CONTENT_ENCODING);

    return is_nocase(coding, "gzip") || is_nocase(coding, "x-gzip");
}

bool
request_is_json(const struct request *request)
{
    struct span type = media_type(request);

    if (request_field(request, FIELD_CONTENT_TYPE).len == 0) {
        return true;
    }
    if (!starts_with_nocase(type, "application/")) {
        return false;
    }
    if (type.len == sizeof("application/json") - 1 &&
        starts_with_nocase(type, "application/json")) {
        return true;
    }
    return type.len > sizeof("application/+json") - 1 &&
           strncasecmp(type.data + type.len - 5, "+json", 5) == 0;
}

bool
request_is_identity(const struct request *request)
{
    struct span coding = request_field(request, FIELD_CONTENT_ENCODING);

    return coding.len == 0 ||
           (coding.len == sizeof("identity") - 1 && starts_with_nocase(coding, "identity"));
}

static bool
lower_hex(struct span span, bool *all_zero)
{
    *all_zero = true;
    for (size_t i = 0; i < span.len; i++) {
        char c = span.data[i];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
            return false;
        }
        if (c != '0') {
            *all_zero = false;
        }
    }
    return true;
}

/* version "-" trace-id "-" parent-id "-" flags; later versions may go on after another "-". */
struct span
request_trace_id(const struct request *request)
{
    enum {
        VERSION = 0,
        TRACE = 3,
        PARENT = 36,
        FLAGS = 53,
        LEN = 55
    };
    struct span value = request_field(request, FIELD_TRACEPARENT);
    struct span none = {NULL, 0};
    const char *d = value.data;
    bool zero;

    if (value.len < LEN || request_field_repeated(request, FIELD_TRACEPARENT) ||
        d[TRACE - 1] != '-' || d[PARENT - 1] != '-' || d[FLAGS - 1] != '-') {
        return none;
    }
    if (!lower_hex((struct span){d + VERSION, 2}, &zero) || (d[0] == 'f' && d[1] == 'f')) {
        return none;
    }
    if (value.len > LEN && (zero || d[LEN] != '-')) {
        return none;
    }
    if (!lower_hex((struct span){d + PARENT, 16}, &zero) || zero ||
        !lower_hex((struct span){d + FLAGS, 2}, &zero)) {
        return none;
    }
    if (!lower_hex((struct span){d + TRACE, 32}, &zero) || zero) {
        return none;
    }
    return (struct span){d + TRACE, 32};
}
