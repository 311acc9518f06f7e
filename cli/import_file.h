/*
 * import_file.h - a file of events as numbered elements, from any element on.
 *
 * Reads NDJSON or CSV piece by piece with the server's own splitter: memory is one piece and one
 * element, whatever the file. An element knows the line it ends on and the offset behind it, and
 * reading can begin again at such an offset. One thread.
 */
#ifndef SLUICE_CLI_IMPORT_FILE_H
#define SLUICE_CLI_IMPORT_FILE_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"
#include "core/base/sha256.h"
#include "core/event/split.h"

/* Between two elements. Zeros are the file's beginning. */
struct import_place {
    uint64_t offset; /* bytes before it */
    uint64_t lines;  /* line ends before it */
};

/* What tells a file from another one, or from itself after a change. */
struct import_identity {
    uint64_t size;
    uint8_t digest[SHA256_SIZE]; /* of all its bytes */
};

enum import_step {
    IMPORT_ELEMENT, /* element->text */
    IMPORT_BAD,     /* not an element: element->error says why; the next ones may be */
    IMPORT_END,
    IMPORT_FAILED, /* the rest cannot be read: a sentence is in PROBLEM; the last step */
};

struct import_element {
    struct span text; /* one JSON text; lives until the next call */
    uint64_t line;    /* it ends on, from 1 */
    struct split_error error;
};

struct import_file;

/*
 * Opens PATH; "-" is stdin, which has no identity and cannot be rewound. A file is locked until
 * close: ERR_LOCKED when another import reads it. After any error a sentence is in PROBLEM.
 */
MUST_CHECK enum err import_file_open(struct import_file **out, const char *path,
                                     enum split_format format, size_t element_bytes_max,
                                     struct buffer *problem);
void import_file_close(struct import_file *file); /* NULL allowed */

bool import_file_is_stdin(const struct import_file *file);

/* Bytes it has; 0 for stdin. */
uint64_t import_file_size(const struct import_file *file);

/* Reads all of it once. Not for stdin. */
MUST_CHECK enum err import_file_identify(struct import_file *file, struct import_identity *out,
                                         struct buffer *problem);

/* Goes to a place that import_file_place() gave, of the same content. Not for stdin. */
MUST_CHECK enum err import_file_seek(struct import_file *file, const struct import_place *place,
                                     struct buffer *problem);

/* The next element. */
MUST_CHECK enum import_step import_file_next(struct import_file *file, struct import_element *out,
                                             struct buffer *problem);

/* Behind the element given last. */
struct import_place import_file_place(const struct import_file *file);

/* Whether the file has the size and time of modification it was opened with. True for stdin. */
bool import_file_is_unchanged(const struct import_file *file);

#endif
