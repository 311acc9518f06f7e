/*
 * uploader.h - sends bulks to a server until it has answered, one at a time over one connection.
 *
 * Whatever leaves it open whether a bulk was stored (no connection, no answer, 429, 503, any 5xx)
 * is waited for and the same bytes are sent again: every event must carry an id. One thread.
 */
#ifndef SLUICE_CLI_UPLOADER_H
#define SLUICE_CLI_UPLOADER_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"

struct uploader;

struct uploader_config {
    const char *url;     /* http://host:port, without a route */
    const char *api_key; /* NULL: none */
    const char *ca_file; /* NULL: the system's authorities */
    uint64_t timeout_ms; /* a bulk is given up after so long; 0: never */
    /* Told why it waits, each time it does. */
    void (*waiting)(void *arg, const char *why);
    void *arg;
};

enum upload_result {
    UPLOAD_STORED,   /* answered: each event was taken or refused */
    UPLOAD_TOO_MANY, /* more than the server takes at once: nothing was stored, send fewer */
    UPLOAD_REFUSED,  /* no retry will help: a sentence is in PROBLEM */
    UPLOAD_GIVEN_UP, /* not answered in time: it may be stored; a sentence is in PROBLEM */
};

struct upload_answer {
    uint64_t accepted; /* duplicates among them */
    uint64_t duplicates;
    uint64_t rejected;
    struct span errors; /* the JSON array that tells the rejected ones; lives until the next send */
};

/* Borrows CONFIG's texts for its life. ERR_INVALID: the URL or FILE is none, see PROBLEM. */
MUST_CHECK enum err uploader_new(struct uploader **out, const struct uploader_config *config,
                                 struct buffer *problem);
void uploader_free(struct uploader *uploader); /* NULL allowed */

/* Sends BODY, which is COUNT lines of NDJSON; valid ones are stored although others are not. */
MUST_CHECK enum upload_result uploader_send(struct uploader *uploader, struct span body,
                                            uint64_t count, struct upload_answer *out,
                                            struct buffer *problem);

#endif
