/*
 * inflate.h - gzip bodies (RFC 1952), unpacked while they arrive and never beyond a bound.
 *
 * Members may follow each other, as gzip files that were joined do; anything else behind the end is
 * an error. One thread at a time.
 */
#ifndef SLUICE_HTTP_INFLATE_H
#define SLUICE_HTTP_INFLATE_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "http/problem.h"

struct inflater;

enum {
    INFLATER_BYTES = 64 * 1024 /* of heap one has, at most */
};

/* At most BYTES_MAX bytes will be given out. ERR_NO_MEMORY. */
MUST_CHECK enum err inflater_new(struct inflater **out, size_t bytes_max);

void inflater_free(struct inflater *inflater); /* NULL allowed */

/*
 * Unpacks BYTES and gives the result to TAKE, piece by piece; a refusal of TAKE ends it and is
 * returned. PROBLEM_BODY_TOO_LARGE beyond the bound. What is no gzip is remembered for
 * inflater_complaint(), and the bytes after it are ignored.
 */
MUST_CHECK enum problem inflater_feed(struct inflater *inflater, struct span bytes,
                                      enum problem (*take)(void *arg, struct span piece),
                                      void *arg);

/* After the last byte: NULL when all was whole and right, else a sentence for the client. */
const char *inflater_complaint(const struct inflater *inflater);

#endif
