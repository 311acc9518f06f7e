/*
 * One strict scan of the body, then one table look-up per member; what a shape asks for is read
 * from the raw bytes, and nothing is copied unless it has escapes or members must be gathered.
 *
 * Everything that is written into the scratch buffer is borrowed by the event, so room for all of
 * it is made before the first byte: the block must not move underneath.
 */
#include "core/event/decode.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/base/crc32c.h"
#include "core/base/json.h"
#include "core/base/sha256.h"
#include "core/base/timestamp.h"
#include "core/base/uuid.h"

/* The members with a meaning, in order of their length: first_of_len[] below relies on it. */
#define MEMBER_LIST(X)                                                                             \
    X(MEMBER_ID, "id")                                                                             \
    X(MEMBER_TYPE, "type")                                                                         \
    X(MEMBER_TAGS, "tags")                                                                         \
    X(MEMBER_STATUS, "status")                                                                     \
    X(MEMBER_SERVICE, "service")                                                                   \
    X(MEMBER_CHANNEL, "channel")                                                                   \
    X(MEMBER_USER_ID, "user_id")                                                                   \
    X(MEMBER_PAYLOAD, "payload")                                                                   \
    X(MEMBER_EVENT_ID, "event_id")                                                                 \
    X(MEMBER_METADATA, "metadata")                                                                 \
    X(MEMBER_TIMESTAMP, "timestamp")                                                               \
    X(MEMBER_LATENCY, "latency_ms")                                                                \
    X(MEMBER_EVENT_NAME, "event_name")                                                             \
    X(MEMBER_PROPERTIES, "properties")                                                             \
    X(MEMBER_CAMPAIGN_ID, "campaign_id")

enum member {
#define MEMBER_NUMBER(member, text) member,
    MEMBER_LIST(MEMBER_NUMBER)
#undef MEMBER_NUMBER
    MEMBER_COUNT /* also: not one of them */
};

static const struct span member_name[MEMBER_COUNT] = {
#define MEMBER_TEXT(member, text) {text, sizeof(text) - 1},
    MEMBER_LIST(MEMBER_TEXT)
#undef MEMBER_TEXT
};

enum {
    MEMBER_LEN_MAX = 11,
    SCRATCH_FIXED = 1024, /* more than the ids and the braces need beside the body's own bytes */
};

/* The first member whose name is at least so long. */
static const uint8_t first_of_len[MEMBER_LEN_MAX + 2] = {
    MEMBER_ID,      MEMBER_ID,          MEMBER_ID,      MEMBER_TYPE,     MEMBER_TYPE,
    MEMBER_STATUS,  MEMBER_STATUS,      MEMBER_SERVICE, MEMBER_EVENT_ID, MEMBER_TIMESTAMP,
    MEMBER_LATENCY, MEMBER_CAMPAIGN_ID, MEMBER_COUNT,
};

_Static_assert(MEMBER_COUNT <= 32, "a set of members is one uint32_t");

struct decoding {
    const struct decode_input *input;
    struct buffer *scratch;
    struct decode_error *error;
    struct event event;
    uint32_t present; /* sets of members: there, null or not */
    uint32_t valued;  /* there and not null */
    uint32_t used;    /* its value has filled a field, or says that the field is absent */
    bool has_unknown; /* members that are not in the list */
    struct json_value value[MEMBER_COUNT]; /* of each valued member */
    struct json_text text;
};

static uint32_t
bit(enum member member)
{
    return UINT32_C(1) << member;
}

static PRINTF_LIKE(2, 3) enum err refuse(struct decoding *decoding, const char *format, ...)
{
    va_list args;

    decoding->error->code = "validation_error";
    va_start(args, format);
    vsnprintf(decoding->error->message, sizeof(decoding->error->message), format, args);
    va_end(args);
    return ERR_INVALID;
}

static enum err
refuse_member(struct decoding *decoding, enum member member, const char *what)
{
    return refuse(decoding, "%s %s", member_name[member].data, what);
}

/* ---- members ---- */

static enum member
find_member(const struct json_member *member)
{
    const size_t len = member->name.len;

    if (member->name_escaped) {
        for (size_t i = 0; i < MEMBER_COUNT; i++) {
            if (json_content_is(member->name, true, member_name[i])) {
                return (enum member)i;
            }
        }
        return MEMBER_COUNT;
    }
    if (len > MEMBER_LEN_MAX) {
        return MEMBER_COUNT;
    }
    for (size_t i = first_of_len[len]; i < first_of_len[len + 1]; i++) {
        if (memcmp(member->name.data, member_name[i].data, len) == 0) {
            return (enum member)i;
        }
    }
    return MEMBER_COUNT;
}

static enum err
read_members(struct decoding *decoding)
{
    struct json_walk walk = {0, 0};
    struct json_error error;
    struct json_member member;
    enum err err = json_scan(decoding->input->body, DECODE_DEPTH_MAX, &decoding->text, &error);

    if (err == ERR_OK && decoding->text.value.type != JSON_OBJECT) {
        error = (struct json_error){"an object is expected", 0};
        err = ERR_INVALID;
    }
    if (err == ERR_INVALID) {
        decoding->error->code = "invalid_json";
        snprintf(decoding->error->message, sizeof(decoding->error->message),
                 "invalid JSON payload: %s at byte %zu", error.text, error.offset);
    }
    if (err != ERR_OK) {
        return err;
    }
    while (json_text_next(&decoding->text, &walk, &member)) {
        const enum member number = find_member(&member);

        if (number == MEMBER_COUNT) {
            decoding->has_unknown = true;
            continue;
        }
        decoding->present |= bit(number);
        if (member.value.type != JSON_NULL) {
            decoding->valued |= bit(number);
            decoding->value[number] = member.value;
        }
    }
    return ERR_OK;
}

/* The rule is drawn in decode.h. */
static enum event_shape
find_shape(const struct decoding *decoding)
{
    const uint32_t telemetry = bit(MEMBER_SERVICE) | bit(MEMBER_STATUS);
    const uint32_t channel = bit(MEMBER_CHANNEL) | bit(MEMBER_USER_ID);
    const uint32_t valued = decoding->valued;
    const uint32_t present = decoding->present;

    if (decoding->input->route == DECODE_INGEST || (valued & telemetry) == telemetry) {
        return EVENT_TELEMETRY;
    }
    if ((valued & channel) != 0) {
        return EVENT_CHANNEL;
    }
    if ((valued & bit(MEMBER_EVENT_NAME)) != 0) {
        return EVENT_PRODUCT;
    }
    if ((valued & bit(MEMBER_TYPE)) != 0) {
        return EVENT_GENERIC;
    }
    if ((present & channel) != 0) {
        return EVENT_CHANNEL;
    }
    if ((present & bit(MEMBER_EVENT_NAME)) != 0) {
        return EVENT_PRODUCT;
    }
    return (present & bit(MEMBER_SERVICE)) != 0 ? EVENT_TELEMETRY : EVENT_GENERIC;
}

/* ---- single values ---- */

/* What CONTENT stands for, in scratch if it had escapes. */
static struct span
unescape(struct decoding *decoding, struct span content, bool escaped)
{
    struct buffer *scratch = decoding->scratch;
    char *start = scratch->data + scratch->len;
    size_t len;

    if (!escaped) {
        return content;
    }
    ASSERT(scratch->capacity - scratch->len >= content.len);
    len = json_unescape(content, start);
    scratch->len += len;
    return (struct span){start, len};
}

/* A name or id, absent when the member is absent, null or the empty string. */
static enum err
take_text(struct decoding *decoding, enum member member, struct span *out)
{
    const struct json_value *value = &decoding->value[member];
    struct span text;

    if ((decoding->valued & bit(member)) == 0) {
        return ERR_OK;
    }
    if (value->type != JSON_STRING) {
        return refuse_member(decoding, member, "must be a string");
    }
    decoding->used |= bit(member);
    text = unescape(decoding, json_content(value->raw), value->escaped);
    if (text.len == 0) {
        return ERR_OK;
    }
    if (text.len > EVENT_NAME_MAX) {
        return refuse_member(decoding, member, "must be 1 to 255 bytes");
    }
    if (value->escaped && memchr(text.data, 0, text.len) != NULL) {
        return refuse_member(decoding, member, "must not contain NUL");
    }
    *out = text;
    return ERR_OK;
}

static enum err
take_required_text(struct decoding *decoding, enum member member, struct span *out)
{
    enum err err = take_text(decoding, member, out);

    if (err == ERR_OK && out->data == NULL) {
        return refuse_member(decoding, member, "required");
    }
    return err;
}

static enum err
take_status(struct decoding *decoding)
{
    const struct json_value *value = &decoding->value[MEMBER_STATUS];
    int64_t status;

    if ((decoding->valued & bit(MEMBER_STATUS)) == 0) {
        return refuse_member(decoding, MEMBER_STATUS, "required");
    }
    if (value->type != JSON_NUMBER || json_integer(value->raw, &status) != ERR_OK || status < 100 ||
        status > 599) {
        return refuse_member(decoding, MEMBER_STATUS, "must be an integer from 100 to 599");
    }
    decoding->used |= bit(MEMBER_STATUS);
    decoding->event.has_status = true;
    decoding->event.status = narrow_u16((uint64_t)status);
    return ERR_OK;
}

static enum err
take_latency(struct decoding *decoding)
{
    const struct json_value *value = &decoding->value[MEMBER_LATENCY];
    double latency_ms;

    if ((decoding->valued & bit(MEMBER_LATENCY)) == 0) {
        return refuse_member(decoding, MEMBER_LATENCY, "required");
    }
    if (value->type != JSON_NUMBER || json_double(value->raw, &latency_ms) != ERR_OK ||
        latency_ms < 0) {
        return refuse_member(decoding, MEMBER_LATENCY, "must be a finite number of at least 0");
    }
    decoding->used |= bit(MEMBER_LATENCY);
    decoding->event.has_latency = true;
    decoding->event.latency_ms = latency_ms + 0.0; /* -0 becomes 0 */
    return ERR_OK;
}

static enum err
take_tags(struct decoding *decoding)
{
    const struct json_value *value = &decoding->value[MEMBER_TAGS];
    struct json_value tag;
    size_t offset = 0;

    if ((decoding->valued & bit(MEMBER_TAGS)) == 0) {
        return ERR_OK;
    }
    if (value->type != JSON_ARRAY) {
        return refuse_member(decoding, MEMBER_TAGS, "must be an array of strings");
    }
    while (json_element_next(value->raw, &offset, &tag)) {
        if (tag.type != JSON_STRING) {
            return refuse_member(decoding, MEMBER_TAGS, "must be an array of strings");
        }
    }
    decoding->used |= bit(MEMBER_TAGS);
    decoding->event.tags = value->raw;
    return ERR_OK;
}

/* ---- timestamps ---- */

/* A's: RFC 3339, required. */
static enum err
require_timestamp_text(struct decoding *decoding)
{
    const struct json_value *value = &decoding->value[MEMBER_TIMESTAMP];

    if ((decoding->valued & bit(MEMBER_TIMESTAMP)) == 0 || span_is(value->raw, "\"\"")) {
        return refuse_member(decoding, MEMBER_TIMESTAMP, "required");
    }
    if (value->type != JSON_STRING) {
        return refuse_member(decoding, MEMBER_TIMESTAMP, "must be RFC3339");
    }
    return ERR_OK;
}

/* C's: a whole number of seconds since 1970, required, 0 meaning absent. */
static enum err
require_timestamp_seconds(struct decoding *decoding)
{
    const struct json_value *value = &decoding->value[MEMBER_TIMESTAMP];
    enum err err = ERR_INVALID;
    int64_t seconds = 0;

    if ((decoding->valued & bit(MEMBER_TIMESTAMP)) == 0) {
        return refuse_member(decoding, MEMBER_TIMESTAMP, "required");
    }
    if (value->type == JSON_NUMBER) {
        err = json_integer(value->raw, &seconds);
    }
    if (err != ERR_OK) {
        return refuse_member(decoding, MEMBER_TIMESTAMP, "must be an integer, in epoch seconds");
    }
    if (seconds == 0) {
        return refuse_member(decoding, MEMBER_TIMESTAMP, "required");
    }
    return ERR_OK;
}

static enum err
parse_timestamp_text(struct decoding *decoding, const char *what, int64_t *us_out)
{
    const struct json_value *value = &decoding->value[MEMBER_TIMESTAMP];
    const struct span text = unescape(decoding, json_content(value->raw), value->escaped);

    if (timestamp_parse(text, us_out) != ERR_OK) {
        return refuse_member(decoding, MEMBER_TIMESTAMP, what);
    }
    return ERR_OK;
}

static enum err
parse_timestamp_seconds(struct decoding *decoding, int64_t *us_out)
{
    const int64_t second_us = 1000000;
    int64_t seconds;
    enum err err = json_integer(decoding->value[MEMBER_TIMESTAMP].raw, &seconds);

    ASSERT(err == ERR_OK); /* require_timestamp_seconds() has seen it */
    if (seconds < TIMESTAMP_MIN_US / second_us) {
        return refuse_member(decoding, MEMBER_TIMESTAMP, "is out of range");
    }
    if (seconds > TIMESTAMP_MAX_US / second_us) {
        return refuse_member(decoding, MEMBER_TIMESTAMP, "cannot be in the future");
    }
    *us_out = seconds * second_us;
    return ERR_OK;
}

/* T's and G's: RFC 3339 or a number; stays now when unset. */
static enum err
parse_timestamp_any(struct decoding *decoding, int64_t *us_out)
{
    static const char expected[] = "must be RFC3339 or an epoch number";
    const struct json_value *value = &decoding->value[MEMBER_TIMESTAMP];
    int64_t us = 0;

    if ((decoding->valued & bit(MEMBER_TIMESTAMP)) == 0) {
        return ERR_OK;
    }
    if (value->type == JSON_STRING) {
        enum err err = parse_timestamp_text(decoding, expected, &us);

        if (err == ERR_OK && us != TIMESTAMP_MIN_US) {
            *us_out = us;
        }
        return err;
    }
    if (value->type != JSON_NUMBER || timestamp_from_number(value->raw, &us) != ERR_OK) {
        return refuse_member(decoding, MEMBER_TIMESTAMP, expected);
    }
    *us_out = us == 0 ? *us_out : us;
    return ERR_OK;
}

static enum err
take_timestamp(struct decoding *decoding)
{
    const struct decode_input *input = decoding->input;
    int64_t us = input->now_us;
    enum err err = ERR_OK;

    decoding->used |= bit(MEMBER_TIMESTAMP) & decoding->valued;
    switch (decoding->event.shape) {
    case EVENT_TELEMETRY:
    case EVENT_GENERIC:
        err = parse_timestamp_any(decoding, &us);
        break;
    case EVENT_PRODUCT:
        err = parse_timestamp_text(decoding, "must be RFC3339", &us);
        break;
    case EVENT_CHANNEL:
        err = parse_timestamp_seconds(decoding, &us);
        break;
    }
    if (err != ERR_OK) {
        return err;
    }
    if (us > input->now_us && us - input->now_us > input->future_skew_max_us) {
        return refuse_member(decoding, MEMBER_TIMESTAMP, "cannot be in the future");
    }
    decoding->event.occurred_at_us = us;
    return ERR_OK;
}

/* ---- event id ---- */

/* The key in the header, absent when the header is absent or blank. */
static enum err
take_header_key(struct decoding *decoding, struct span *out)
{
    static const char expected[] = "Idempotency-Key must be 1 to 255 printable ASCII characters";
    struct buffer *scratch = decoding->scratch;
    struct span key = decoding->input->idempotency_key;
    char *start = scratch->data + scratch->len;
    bool quoted;
    size_t len = 0;

    while (key.len > 0 && (*key.data == ' ' || *key.data == '\t')) {
        key = (struct span){key.data + 1, key.len - 1};
    }
    while (key.len > 0 && (key.data[key.len - 1] == ' ' || key.data[key.len - 1] == '\t')) {
        key.len--;
    }
    if (key.len == 0) {
        return ERR_OK;
    }
    quoted = key.data[0] == '"';
    if (quoted) {
        if (key.len < 2 || key.data[key.len - 1] != '"') {
            return refuse(decoding, "Idempotency-Key has an opening quote but no closing one");
        }
        key = (struct span){key.data + 1, key.len - 2};
    }
    for (size_t i = 0; i < key.len; i++) {
        char c = key.data[i];

        if (quoted && (c == '"' || c == '\\')) { /* RFC 8941: only after a backslash */
            i++;
            if (c == '"' || i == key.len || (key.data[i] != '"' && key.data[i] != '\\')) {
                return refuse(decoding, "Idempotency-Key is not a valid quoted string");
            }
            c = key.data[i];
        }
        if (c < 0x20 || c > 0x7E || len == EVENT_NAME_MAX) {
            return refuse(decoding, expected);
        }
        start[len++] = c;
    }
    if (len == 0) {
        return refuse(decoding, expected);
    }
    scratch->len += len;
    *out = (struct span){start, len};
    return ERR_OK;
}

static char *
append_text(char *out, struct span text, char after)
{
    if (text.len > 0) {
        memcpy(out, text.data, text.len);
    }
    out[text.len] = after;
    return out + text.len + 1;
}

/* C's content hash, in scratch. */
static struct span
hash_content(struct decoding *decoding)
{
    static const char hex[] = "0123456789abcdef";
    const struct event *event = &decoding->event;
    const struct span timestamp = decoding->value[MEMBER_TIMESTAMP].raw;
    struct buffer *scratch = decoding->scratch;
    char text[4 * (EVENT_NAME_MAX + 1) + 32];
    uint8_t digest[SHA256_SIZE];
    char *out = scratch->data + scratch->len;
    char *at = text;

    ASSERT(timestamp.len <= 20); /* an int64_t without leading zeros */
    at = append_text(at, event->user_id, '|');
    at = append_text(at, event->name, '|');
    at = append_text(at, timestamp, '|');
    at = append_text(at, event->campaign_id, '|');
    at = append_text(at, event->channel, '|') - 1;
    sha256(text, (size_t)(at - text), digest);
    for (size_t i = 0; i < sizeof(digest); i++) {
        out[2 * i] = hex[digest[i] >> 4];
        out[2 * i + 1] = hex[digest[i] & 15];
    }
    scratch->len += 2 * sizeof(digest);
    return (struct span){out, 2 * sizeof(digest)};
}

static enum err
take_id(struct decoding *decoding)
{
    struct event *event = &decoding->event;
    enum err err = take_header_key(decoding, &event->id);

    if (err == ERR_OK && event->id.data == NULL) {
        err = take_text(decoding, MEMBER_EVENT_ID, &event->id);
    }
    if (err == ERR_OK && event->id.data == NULL) {
        err = take_text(decoding, MEMBER_ID, &event->id);
    }
    return err;
}

/* After the timestamp is known to be good: it is part of C's hash. */
static void
settle_id(struct decoding *decoding)
{
    struct event *event = &decoding->event;
    struct buffer *scratch = decoding->scratch;
    char *start = scratch->data + scratch->len;

    if (event->id.data == NULL && event->shape == EVENT_CHANNEL) {
        event->id = hash_content(decoding);
    }
    if (event->id.data == NULL) {
        uuid_v7_text(decoding->input->now_us / 1000, start);
        scratch->len += UUID_TEXT_SIZE;
        event->id = (struct span){start, UUID_TEXT_SIZE - 1};
        return;
    }
    event->id_by_client = true;
    event_key(event->tenant, event->id, event->key);
}

/* ---- properties ---- */

/* The first member that may be the object, or MEMBER_COUNT; all that are there must be objects. */
static enum err
find_object(struct decoding *decoding, enum member *out)
{
    static const enum member candidate[] = {MEMBER_PROPERTIES, MEMBER_PAYLOAD, MEMBER_METADATA};
    enum member found = MEMBER_COUNT;

    for (size_t i = 0; i < ARRAY_LEN(candidate); i++) {
        if ((decoding->valued & bit(candidate[i])) == 0) {
            continue;
        }
        if (decoding->value[candidate[i]].type != JSON_OBJECT) {
            return refuse_member(decoding, candidate[i], "must be an object");
        }
        found = found == MEMBER_COUNT ? candidate[i] : found;
    }
    *out = found;
    return ERR_OK;
}

/* Appends the members that fill no field, each after a comma unless it is the first of all. */
static void
append_leftovers(struct decoding *decoding, bool first)
{
    struct buffer *scratch = decoding->scratch;
    struct json_walk walk = {0, 0};
    struct json_member member;

    while (json_text_next(&decoding->text, &walk, &member)) {
        const enum member number = find_member(&member);

        if (number != MEMBER_COUNT && (decoding->valued & ~decoding->used & bit(number)) == 0) {
            continue;
        }
        if (!first) {
            buffer_append_char(scratch, ',');
        }
        first = false;
        buffer_append_char(scratch, '"');
        buffer_append_span(scratch, member.name);
        buffer_append(scratch, "\":", 2);
        buffer_append_span(scratch, member.value.raw);
    }
}

/* One object of the members of OBJECT (its raw bytes, may be absent) and those that fill no field.
 */
static struct span
gather_properties(struct decoding *decoding, struct span object)
{
    struct buffer *scratch = decoding->scratch;
    const size_t start = scratch->len;
    struct json_member member;
    bool first = true;
    size_t offset = 0;

    buffer_append_char(scratch, '{');
    if (object.data != NULL && json_member_next(object, &offset, &member)) {
        buffer_append_span(scratch, json_content(object)); /* what stands between the braces */
        first = false;
    }
    append_leftovers(decoding, first);
    buffer_append_char(scratch, '}');
    return (struct span){scratch->data + start, scratch->len - start};
}

static enum err
take_properties(struct decoding *decoding, enum member object)
{
    struct span *properties = &decoding->event.properties;
    const size_t start = decoding->scratch->len;
    struct span raw = {NULL, 0};
    struct json_text text;
    struct json_error error;
    enum err err;

    if (object != MEMBER_COUNT) {
        raw = decoding->value[object].raw;
        decoding->used |= bit(object);
    }
    if (!decoding->has_unknown && (decoding->valued & ~decoding->used) == 0) {
        *properties = raw;
        return ERR_OK;
    }
    *properties = gather_properties(decoding, raw);
    if (raw.data == NULL) {
        return ERR_OK;
    }
    /* Every part is valid alone, so all the scan can find is a name that both sides have. */
    err = json_scan(*properties, DECODE_DEPTH_MAX, &text, &error);
    if (err == ERR_INVALID) {
        decoding->scratch->len = start;
        decoding->used &= ~bit(object);
        *properties = gather_properties(decoding, (struct span){NULL, 0});
        err = ERR_OK;
    }
    return err;
}

/* ---- shapes ---- */

static enum err
take_name(struct decoding *decoding, const char *otherwise)
{
    struct span *name = &decoding->event.name;
    enum err err = take_text(decoding, MEMBER_EVENT_NAME, name);

    if (err == ERR_OK && name->data == NULL) {
        err = take_text(decoding, MEMBER_TYPE, name);
    }
    if (err == ERR_OK && name->data == NULL) {
        *name = span_of(otherwise);
    }
    return err;
}

static enum err
take_telemetry(struct decoding *decoding)
{
    enum err err = take_required_text(decoding, MEMBER_SERVICE, &decoding->event.service);

    if (err == ERR_OK) {
        err = take_status(decoding);
    }
    if (err == ERR_OK) {
        err = take_latency(decoding);
    }
    return err == ERR_OK ? take_name(decoding, "telemetry") : err;
}

static enum err
take_product(struct decoding *decoding)
{
    enum err err = take_required_text(decoding, MEMBER_EVENT_NAME, &decoding->event.name);

    return err == ERR_OK ? require_timestamp_text(decoding) : err;
}

static enum err
take_channel(struct decoding *decoding)
{
    struct event *event = &decoding->event;
    enum err err = take_required_text(decoding, MEMBER_EVENT_NAME, &event->name);

    if (err == ERR_OK) {
        err = take_required_text(decoding, MEMBER_CHANNEL, &event->channel);
    }
    if (err == ERR_OK) {
        err = take_text(decoding, MEMBER_CAMPAIGN_ID, &event->campaign_id);
    }
    if (err == ERR_OK) {
        err = take_required_text(decoding, MEMBER_USER_ID, &event->user_id);
    }
    if (err == ERR_OK) {
        err = require_timestamp_seconds(decoding);
    }
    return err == ERR_OK ? take_tags(decoding) : err;
}

static enum err
take_shape(struct decoding *decoding)
{
    switch (decoding->event.shape) {
    case EVENT_TELEMETRY:
        return take_telemetry(decoding);
    case EVENT_GENERIC:
        return take_name(decoding, "event");
    case EVENT_PRODUCT:
        return take_product(decoding);
    case EVENT_CHANNEL:
        break;
    }
    return take_channel(decoding);
}

static enum err
take_all(struct decoding *decoding)
{
    enum member object = MEMBER_COUNT;
    enum err err = read_members(decoding);

    if (err == ERR_OK) {
        decoding->event.shape = find_shape(decoding);
        err = take_shape(decoding);
    }
    if (err == ERR_OK) {
        err = find_object(decoding, &object);
    }
    if (err == ERR_OK) {
        err = take_id(decoding);
    }
    if (err == ERR_OK) {
        err = take_timestamp(decoding);
    }
    if (err == ERR_OK) {
        settle_id(decoding);
        err = take_properties(decoding, object);
    }
    return err;
}

enum err
decode_event(const struct decode_input *input, struct buffer *scratch, struct event *out,
             struct decode_error *error)
{
    struct decoding
        decoding; /* filled by parts: clearing all of it would cost more than scanning */
    const size_t scratch_len = scratch->len;
    const char *scratch_data;
    enum err err;

    ASSERT(input->tenant.len >= 1);
    ASSERT(input->tenant.len <= EVENT_NAME_MAX);
    ASSERT(input->trace_id.len == 0 || input->trace_id.len == EVENT_TRACE_MAX);
    /* At most the body twice: every string unescaped, every member gathered. */
    err = buffer_reserve(scratch, 2 * input->body.len + SCRATCH_FIXED);
    if (err != ERR_OK) {
        return err;
    }
    scratch_data = scratch->data;
    decoding.input = input;
    decoding.scratch = scratch;
    decoding.error = error;
    decoding.event = (struct event){
        .tenant = input->tenant, .trace_id = input->trace_id, .created_at_us = input->now_us};
    decoding.present = 0;
    decoding.valued = 0;
    decoding.used = 0;
    decoding.has_unknown = false;

    err = take_all(&decoding);
    if (err != ERR_OK) {
        scratch->len = scratch_len;
        return err;
    }
    ASSERT(scratch->data == scratch_data);
    decoding.event.content_crc = crc32c(0, input->body.data, input->body.len);
    *out = decoding.event;
    return ERR_OK;
}
