/*
 * archive_json.h - a page of raw events as the answer of GET /events, and its cursor.
 *
 * A cursor is the position of a page's last event, with a digest of the question: it goes on only
 * with the same filter and order (the limit may change). It is hexadecimal, checked when it comes
 * back, and says nothing a client could not read in the events themselves, so it is not signed:
 *
 *   version 1 (1)  descending (1)  digest of the filter (4)  occurred_us (8)  node (16)  seq (8)
 *   CRC-32C of what came before (4)      integers little-endian
 *
 * Any thread.
 */
#ifndef SLUICE_CORE_ARCHIVE_JSON_H
#define SLUICE_CORE_ARCHIVE_JSON_H

#include "core/base/buffer.h"
#include "core/query/archive.h"

enum {
    ARCHIVE_CURSOR_BYTES = 42,
    ARCHIVE_CURSOR_LEN = 2 * ARCHIVE_CURSOR_BYTES, /* as text */
};

/* Appends the cursor that goes on behind AT with REQUEST's filter and order. */
void archive_cursor_write(const struct archive_request *request, const struct archive_position *at,
                          struct buffer *out);

/*
 * Sets request->after from TEXT; filter and order must be set. ERR_INVALID: not one of our cursors;
 * ERR_NOT_FOUND: one of another question.
 */
MUST_CHECK enum err archive_cursor_read(struct span text, struct archive_request *request);

struct archive_answer {
    const struct archive_request *request;
    const struct archive_page *page;
    int64_t now_us;
    uint64_t pending_events;
};

/* Appends the answer's body. */
void archive_page_json(const struct archive_answer *answer, struct buffer *out);

#endif
