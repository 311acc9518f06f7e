/*
 * import_rejects.h - what a file's elements were refused for: lines on stderr and a file of its
 * own.
 *
 * The file is NDJSON, {"line","code","message","text"}; text is the element as it would have been
 * sent, so that `jq -r .text` gives lines to correct and import. It is on stable storage before the
 * state says how long it is; what a killed run wrote behind that is cut off. One thread.
 */
#ifndef SLUICE_CLI_IMPORT_REJECTS_H
#define SLUICE_CLI_IMPORT_REJECTS_H

#include "cli/progress.h"
#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"

struct import_rejects {
    struct progress *progress; /* stderr's */
    const char *path;          /* NULL: no file */
    int fd;
    uint64_t bytes;        /* in the file */
    struct buffer pending; /* on their way to it */
    uint64_t told;         /* lines on stderr */
};

/* Keeps the first KEEP_BYTES of what is in PATH (NULL allowed). ERR_IO: a sentence is in PROBLEM.
 */
MUST_CHECK enum err import_rejects_open(struct import_rejects *rejects, struct progress *progress,
                                        const char *path, uint64_t keep_bytes,
                                        struct buffer *problem);
void import_rejects_close(struct import_rejects *rejects); /* zeros with fd -1 allowed */

/* Notes an element. CODE and MESSAGE are as in an answer's JSON, between the quotes. */
void import_rejects_add(struct import_rejects *rejects, uint64_t line, struct span code,
                        struct span message, struct span text);

/* Makes what was noted durable. ERR_IO or ERR_NO_MEMORY: a sentence is in PROBLEM. */
MUST_CHECK enum err import_rejects_flush(struct import_rejects *rejects, struct buffer *problem);

#endif
