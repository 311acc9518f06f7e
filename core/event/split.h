/*
 * split.h - a stream of bytes into the elements of a bulk, one at a time.
 *
 * Three formats behind one interface: a JSON array or an object whose member `events` is one
 * (split_json.c), one JSON text per line (split_lines.c), and CSV, whose rows become JSON objects
 * (split_csv.c). What is inside an element is checked by its reader, not here.
 *
 * Bytes are fed in pieces of any size; where they are cut changes nothing. At most one element, of
 * at most element_bytes_max bytes, is kept. One thread at a time.
 */
#ifndef SLUICE_CORE_SPLIT_H
#define SLUICE_CORE_SPLIT_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"

enum split_format {
    SPLIT_JSON,
    SPLIT_LINES, /* empty lines are skipped */
    SPLIT_CSV,   /* RFC 4180; LF ends a row too; the first row names the members */
};

enum split_step {
    SPLIT_MORE,      /* every byte is used: feed the next, or end */
    SPLIT_ELEMENT,   /* one element's JSON text */
    SPLIT_BAD,       /* an element that cannot be used; the next ones can */
    SPLIT_BROKEN,    /* where the next element begins cannot be told: the last step */
    SPLIT_DONE,      /* after split_end(): there are no more */
    SPLIT_NO_MEMORY, /* the last step */
};

struct split_error {
    const char *code; /* API.md's, static */
    const char *text; /* a sentence without the client's values, static */
};

/* Where a JSON text stands. */
struct split_json {
    int place;  /* split_json.c's */
    bool known; /* `events` has been met */
    bool in_object;
    bool in_value;
    bool in_string;
    bool after_backslash;
    bool scalar; /* the value has neither quotes nor brackets: it ends where it cannot go on */
    size_t depth;
};

struct split_column {
    size_t at; /* of `"name":` in NAMES */
    size_t len;
    int kind; /* split_csv.c's */
};

/* Where a CSV text stands. */
struct split_csv {
    int place;   /* split_csv.c's */
    bool named;  /* the header row has been read */
    size_t mark; /* bytes of a byte order mark met at the very start */
    struct split_column *columns;
    size_t column_count;
    size_t column_capacity;
    struct buffer names;
    struct buffer cell;
    struct buffer json; /* the row as an object */
};

struct splitter {
    enum split_format format;
    size_t element_bytes_max;
    const char *at; /* of the bytes fed, what is not used yet */
    const char *end;
    bool ended;
    bool given;         /* HELD was handed out and is to be emptied */
    bool too_long;      /* the element has outgrown the limit: its bytes are thrown away */
    struct buffer held; /* an element that began in bytes fed earlier */
    struct split_error error;
    struct split_json json;
    struct split_csv csv;
};

void split_init(struct splitter *splitter, enum split_format format, size_t element_bytes_max);
void split_fini(struct splitter *splitter);

/* Lends BYTES until they are used; only after SPLIT_MORE or at the start. */
void split_feed(struct splitter *splitter, struct span bytes);

/* No more bytes will come; only after SPLIT_MORE or at the start. */
void split_end(struct splitter *splitter);

/*
 * The next step. SPLIT_ELEMENT: *OUT lives until the next call, and no longer than the bytes fed.
 * SPLIT_BAD and SPLIT_BROKEN: splitter->error says why.
 */
MUST_CHECK enum split_step split_next(struct splitter *splitter, struct span *out);

/* Bytes of heap it has. */
size_t split_memory(const struct splitter *splitter);

/* ---- for the formats ---- */

enum split_step split_json_next(struct splitter *splitter, struct span *out);
enum split_step split_lines_next(struct splitter *splitter, struct span *out);
enum split_step split_csv_next(struct splitter *splitter, struct span *out);
void split_csv_fini(struct splitter *splitter);

/* Keeps [FROM, end) of the element being read, whose end has not come. SPLIT_MORE or NO_MEMORY. */
enum split_step split_hold(struct splitter *splitter, const char *from);

/* The element is what was held and [FROM, TO). SPLIT_ELEMENT, BAD when too long, or NO_MEMORY. */
enum split_step split_take(struct splitter *splitter, const char *from, const char *to,
                           struct span *out);

/* An element has begun in bytes that are gone. */
bool split_is_holding(const struct splitter *splitter);

enum split_step split_fail(struct splitter *splitter, enum split_step step, const char *code,
                           const char *text);

#endif
