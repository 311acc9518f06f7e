#include "storage/mysql_rows.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/base/uuid.h"

/* Times DATETIME cannot hold are stored at its edge, and exactly in occurred_at_us beside it. */
static int64_t
clamp_datetime(int64_t us)
{
    if (us < MYSQL_DATETIME_MIN_US) {
        return MYSQL_DATETIME_MIN_US;
    }
    return us > MYSQL_DATETIME_MAX_US ? MYSQL_DATETIME_MAX_US : us;
}

/* The bytes of the first 16 digits of ID, if it is a version 7 UUID as uuid.h writes them. */
static bool
take_uuid_time(struct span id, uint8_t out[8])
{
    size_t digits = 0;

    if (id.len != UUID_TEXT_SIZE - 1 || id.data[14] != '7') {
        return false;
    }
    for (size_t i = 0; i < id.len; i++) {
        const char c = id.data[i];
        const bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;
        unsigned value;

        if (c >= '0' && c <= '9') {
            value = (unsigned)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            value = (unsigned)(c - 'a') + 10;
        } else if (is_dash && c == '-') {
            continue;
        } else {
            return false;
        }
        if (is_dash) {
            return false;
        }
        if (digits < 16) {
            out[digits / 2] = (uint8_t)(digits % 2 == 0 ? value << 4 : out[digits / 2] | value);
        }
        digits++;
    }
    return true;
}

void
mysql_rows_settle_key(struct event *event)
{
    uint8_t time[EVENT_KEY_SIZE / 2];

    if (take_uuid_time(event->id, time)) {
        event_key(event->tenant, event->id, event->key);
        memmove(event->key + sizeof(time), event->key, sizeof(time));
        memcpy(event->key, time, sizeof(time));
    }
}

bool
mysql_rows_has_key(const struct event *event)
{
    static const uint8_t NONE[EVENT_KEY_SIZE];

    return memcmp(event->key, NONE, sizeof(NONE)) != 0;
}

/* Where values go: into a VALUES list, which a session escapes for, or into a line of LOAD DATA. */
struct writer {
    struct buffer *out;
    struct mysql_session *session; /* NULL: a line */
};

static void
put_separator(const struct writer *to)
{
    buffer_append_char(to->out, to->session != NULL ? ',' : '\t');
}

static void
put_null(const struct writer *to)
{
    buffer_append_text(to->out, to->session != NULL ? "NULL" : "\\N");
}

static void
put_texts(const struct writer *to, const struct span *texts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (to->session != NULL) {
            mysql_append_string(to->out, to->session, texts[i]);
        } else {
            mysql_append_field(to->out, texts[i]);
        }
        put_separator(to);
    }
}

static void
put_datetime(const struct writer *to, int64_t us)
{
    const char *const quote = to->session != NULL ? "'" : "";

    buffer_append_text(to->out, quote);
    mysql_append_datetime(to->out, us);
    buffer_append_text(to->out, quote);
    put_separator(to);
}

static void
put_measures(const struct writer *to, const struct event *event)
{
    if (event->has_status) {
        buffer_append_u64(to->out, event->status);
    } else {
        put_null(to);
    }
    put_separator(to);
    if (event->has_latency) {
        /* 17 digits give the same double back. */
        buffer_printf(to->out, "%.17g", event->latency_ms);
    } else {
        put_null(to);
    }
    put_separator(to);
    if (event_is_measured(event)) {
        buffer_append_char(to->out, event_is_good(event) ? '1' : '0');
    } else {
        put_null(to);
    }
    put_separator(to);
}

/* MYSQL_ROWS_COLUMNS, and a separator. */
static void
put_columns(const struct writer *to, const struct batch_event *item)
{
    const struct event *event = &item->event;
    const struct span names[] = {event->tenant, event->id, event->name, event->service};
    const struct span texts[] = {event->channel, event->campaign_id, event->user_id,
                                 event->tags,    event->properties,  event->trace_id};
    const int64_t occurred_us = clamp_datetime(event->occurred_at_us);

    buffer_append_u64(to->out, item->seq);
    put_separator(to);
    put_texts(to, names, ARRAY_LEN(names));
    put_measures(to, event);
    put_texts(to, texts, ARRAY_LEN(texts));
    put_datetime(to, occurred_us);
    if (occurred_us == event->occurred_at_us) {
        put_null(to);
    } else {
        buffer_append_i64(to->out, event->occurred_at_us);
    }
    put_separator(to);
    put_datetime(to, clamp_datetime(event->created_at_us));
}

void
mysql_rows_append_event(struct buffer *sql, struct mysql_session *session, struct span identity,
                        const struct batch_event *item)
{
    const struct writer to = {sql, session};

    buffer_append_char(sql, '(');
    buffer_append_span(sql, identity);
    put_columns(&to, item);
    if (mysql_rows_has_key(&item->event)) {
        mysql_append_hex(sql, item->event.key, EVENT_KEY_SIZE);
    } else {
        put_null(&to);
    }
    buffer_append_char(sql, ')');
}

void
mysql_rows_append_line(struct buffer *line, const struct batch_event *item)
{
    const struct writer to = {line, NULL};

    put_columns(&to, item);
    if (mysql_rows_has_key(&item->event)) {
        mysql_append_hex_digits(line, item->event.key, EVENT_KEY_SIZE);
    } else {
        put_null(&to);
    }
    buffer_append_char(line, '\n');
}

static void
append_member_text(struct buffer *json, const char *name, struct span value)
{
    if (value.data != NULL) {
        buffer_printf(json, ",\"%s\":", name);
        buffer_append_json_string(json, value);
    }
}

static void
append_member_raw(struct buffer *json, const char *name, struct span value)
{
    if (value.data != NULL) {
        buffer_printf(json, ",\"%s\":", name);
        buffer_append_span(json, value);
    }
}

void
mysql_rows_append_json(struct buffer *json, const uint8_t node_id[JOURNAL_NODE_ID_SIZE],
                       const struct batch_event *item)
{
    const struct event *event = &item->event;
    char node[UUID_TEXT_SIZE];

    uuid_text(node_id, node);
    buffer_printf(json,
                  "{\"node_id\":\"%s\",\"seq\":%" PRIu64 ",\"shape\":%d,\"id_by_client\":%s,"
                  "\"occurred_at_us\":%" PRId64 ",\"created_at_us\":%" PRId64,
                  node, item->seq, (int)event->shape, event->id_by_client ? "true" : "false",
                  event->occurred_at_us, event->created_at_us);
    append_member_text(json, "tenant_id", event->tenant);
    append_member_text(json, "event_id", event->id);
    append_member_text(json, "event_name", event->name);
    append_member_text(json, "service", event->service);
    if (event->has_status) {
        buffer_printf(json, ",\"status\":%u", (unsigned)event->status);
    }
    if (event->has_latency) {
        buffer_printf(json, ",\"latency_ms\":%.17g", event->latency_ms);
    }
    append_member_text(json, "channel", event->channel);
    append_member_text(json, "campaign_id", event->campaign_id);
    append_member_text(json, "user_id", event->user_id);
    append_member_text(json, "trace_id", event->trace_id);
    append_member_raw(json, "tags", event->tags);
    append_member_raw(json, "properties", event->properties);
    buffer_append_char(json, '}');
}

void
mysql_rows_append_dead_letter(struct buffer *sql, struct buffer *json,
                              struct mysql_session *session,
                              const uint8_t node_id[JOURNAL_NODE_ID_SIZE], struct span identity,
                              const struct batch_event *item)
{
    buffer_clear(json, SIZE_MAX);
    mysql_rows_append_json(json, node_id, item);
    buffer_append_text(sql, "INSERT INTO dead_letters (node_id,seq,tenant_id,event_id,event_name,"
                            "reason,error_code,payload,record,created_at) VALUES (");
    buffer_append_span(sql, identity);
    buffer_append_u64(sql, item->seq);
    buffer_append_char(sql, ',');
    mysql_append_string(sql, session, item->event.tenant);
    buffer_append_char(sql, ',');
    mysql_append_string(sql, session, item->event.id);
    buffer_append_char(sql, ',');
    mysql_append_string(sql, session, item->event.name);
    buffer_append_char(sql, ',');
    mysql_append_string(sql, session, span_of(item->reject_reason));
    buffer_printf(sql, ",%d,", item->reject_code);
    mysql_append_string(sql, session, buffer_span(json));
    buffer_append_char(sql, ',');
    mysql_append_hex(sql, item->body.data, item->body.len);
    buffer_append_text(sql, ",UTC_TIMESTAMP(6))");
}

void
mysql_rows_append_slice_key(struct buffer *sql, const struct slice_key *key)
{
    mysql_append_hex(sql, key->tenant.data, key->tenant.len);
    buffer_append_char(sql, ',');
    mysql_append_hex(sql, key->service.data, key->service.len);
    buffer_append_char(sql, ',');
    buffer_append_i64(sql, key->minute);
}

void
mysql_rows_append_slice(struct buffer *sql, struct buffer *detail, struct span identity,
                        uint32_t partition, const struct slice_key *key, const struct slice *slice,
                        uint64_t last_seq)
{
    buffer_clear(detail, SIZE_MAX);
    slice_encode(slice, detail);
    mysql_rows_append_slice_key(sql, key);
    buffer_append_char(sql, ',');
    buffer_append_span(sql, identity);
    buffer_printf(sql, "%" PRIu32 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",", partition, slice->good,
                  slice->bad, slice->good + slice->bad);
    mysql_append_hex(sql, detail->data, detail->len);
    buffer_printf(sql, ",%" PRIu64 ",UTC_TIMESTAMP(6)", last_seq);
}

void
mysql_rows_append_range(struct buffer *sql, struct span identity, const struct batch *batch,
                        size_t first, size_t end)
{
    ASSERT(first < end);
    ASSERT(identity.len > 1);
    buffer_append_text(sql, "node_id = ");
    buffer_append(sql, identity.data, identity.len - 1); /* without its comma */
    buffer_append_text(sql, " AND (");
    for (size_t i = first; i < end;) {
        size_t last = i;

        /* Sequence numbers of a partition come in runs: one range for each. */
        while (last + 1 < end && batch->events[last + 1].seq == batch->events[last].seq + 1) {
            last++;
        }
        buffer_printf(sql, "%sseq BETWEEN %" PRIu64 " AND %" PRIu64, i > first ? " OR " : "",
                      batch->events[i].seq, batch->events[last].seq);
        i = last + 1;
    }
    buffer_append_char(sql, ')');
}
