/*
 * mysql_rows.h - events, dead letters and slices as the text of SQL statements.
 *
 * Nothing here talks to the server; the session is only asked to escape. Out of memory is found in
 * the buffer's FAILED. IDENTITY is "0x<node id>,", the first value of a row.
 */
#ifndef SLUICE_STORAGE_MYSQL_ROWS_H
#define SLUICE_STORAGE_MYSQL_ROWS_H

#include "core/journal.h"
#include "core/slo/slice.h"
#include "storage/mysql_connect.h"

/* The columns of events between node_id and dedupe_key. */
#define MYSQL_ROWS_COLUMNS                                                                         \
    "seq,tenant_id,event_id,event_name,service,status,latency_ms,is_good,channel,campaign_id,"     \
    "user_id,tags,properties,trace_id,occurred_at,occurred_at_us,created_at"

#define MYSQL_ROWS_INSERT "INSERT INTO events (node_id," MYSQL_ROWS_COLUMNS ",dedupe_key) VALUES "

/* IDENTITY, without its comma, follows. utf8mb4 and not binary, of which MySQL takes no JSON. */
#define MYSQL_ROWS_LOAD                                                                            \
    "LOAD DATA LOCAL INFILE 'batch' INTO TABLE events CHARACTER SET utf8mb4 (" MYSQL_ROWS_COLUMNS  \
    ",@dedupe_key) SET dedupe_key = UNHEX(@dedupe_key), node_id = "

#define MYSQL_ROWS_SLICE_INSERT                                                                    \
    "INSERT INTO slo_slices (tenant_id,service,minute,node_id,partition_id,good,bad,total,"        \
    "detail,last_seq,updated_at) VALUES "

#define MYSQL_ROWS_SLICE_UPDATE                                                                    \
    " ON DUPLICATE KEY UPDATE good=VALUES(good),bad=VALUES(bad),total=VALUES(total),"              \
    "detail=VALUES(detail),last_seq=VALUES(last_seq),updated_at=VALUES(updated_at)"

/*
 * Makes EVENT's key that of its row, which no other row may have: event_key(), except that an id in
 * the form of a version 7 UUID lends its first 8 bytes, its time, in place of the hash's last 8.
 * So the ids the server makes are known again when a client sends one back, and cost next to
 * nothing: their keys arrive in order, and a random one would cost a quarter of the insert rate.
 * What is left of the hash and the id's own 12 random bits tell ids of one millisecond apart.
 * Zeros: none. May be called again.
 */
void mysql_rows_settle_key(struct event *event);
bool mysql_rows_has_key(const struct event *event);

/* Appends "(...)", the row of one event whose key is settled. */
void mysql_rows_append_event(struct buffer *sql, struct mysql_session *session,
                             struct span identity, const struct batch_event *item);

/* Appends the same row as a line for MYSQL_ROWS_LOAD. */
void mysql_rows_append_line(struct buffer *line, const struct batch_event *item);

/* Appends the whole INSERT of one dead letter. JSON is scratch for its payload. */
void mysql_rows_append_dead_letter(struct buffer *sql, struct buffer *json,
                                   struct mysql_session *session,
                                   const uint8_t node_id[JOURNAL_NODE_ID_SIZE],
                                   struct span identity, const struct batch_event *item);

/*
 * Appends the whole event as one JSON object: every member needed to send it again as it was, tags
 * and properties as the bytes that came.
 */
void mysql_rows_append_json(struct buffer *json, const uint8_t node_id[JOURNAL_NODE_ID_SIZE],
                            const struct batch_event *item);

/* Appends "tenant,service,minute". */
void mysql_rows_append_slice_key(struct buffer *sql, const struct slice_key *key);

/* Appends the values of one row of slo_slices, without parentheses. DETAIL is scratch. */
void mysql_rows_append_slice(struct buffer *sql, struct buffer *detail, struct span identity,
                             uint32_t partition, const struct slice_key *key,
                             const struct slice *slice, uint64_t last_seq);

/* Appends a condition that holds for the rows of the events [FIRST, END), and no others. */
void mysql_rows_append_range(struct buffer *sql, struct span identity, const struct batch *batch,
                             size_t first, size_t end);

#endif
