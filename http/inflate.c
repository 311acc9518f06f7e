#define ZLIB_CONST /* next_in points to const */

#include "http/inflate.h"

#include <stdlib.h>
#include <zlib.h>

enum {
    PIECE_BYTES = 16 * 1024,
    WINDOW_BITS_GZIP = 15 + 16, /* zlib's way to ask for the gzip format and nothing else */
};

_Static_assert(PIECE_BYTES + 48 * 1024 <= INFLATER_BYTES, "zlib takes some 40 KiB");

struct inflater {
    z_stream stream;
    size_t left; /* bytes that may still be given out */
    bool begun;  /* inside a member */
    bool any;    /* at least one member was whole */
    bool wrong;
    unsigned char piece[PIECE_BYTES];
};

enum err
inflater_new(struct inflater **out, size_t bytes_max)
{
    struct inflater *inflater = calloc(1, sizeof(*inflater));

    if (inflater == NULL) {
        return ERR_NO_MEMORY;
    }
    if (inflateInit2(&inflater->stream, WINDOW_BITS_GZIP) != Z_OK) {
        free(inflater);
        return ERR_NO_MEMORY;
    }
    inflater->left = bytes_max;
    *out = inflater;
    return ERR_OK;
}

void
inflater_free(struct inflater *inflater)
{
    if (inflater != NULL) {
        (void)inflateEnd(&inflater->stream);
        free(inflater);
    }
}

/* Unpacks until the piece is full, the input is used or a member ends. */
static enum problem
unpack(struct inflater *inflater)
{
    z_stream *stream = &inflater->stream;
    int rc;

    stream->next_out = inflater->piece;
    stream->avail_out = PIECE_BYTES;
    inflater->begun = true;
    rc = inflate(stream, Z_NO_FLUSH);
    if (rc == Z_MEM_ERROR) {
        return PROBLEM_BACKPRESSURE;
    }
    if (rc == Z_STREAM_END) {
        inflater->begun = false;
        inflater->any = true;
        rc = inflateReset(stream);
    }
    /* Z_BUF_ERROR: nothing could be done with what there is, which is no error. */
    inflater->wrong = rc != Z_OK && rc != Z_BUF_ERROR;
    return PROBLEM_NONE;
}

enum problem
inflater_feed(struct inflater *inflater, struct span bytes,
              enum problem (*take)(void *arg, struct span piece), void *arg)
{
    z_stream *stream = &inflater->stream;
    bool full = false;

    stream->next_in = (const Bytef *)bytes.data;
    stream->avail_in = narrow_u32(bytes.len);
    while (!inflater->wrong && (stream->avail_in > 0 || full)) {
        enum problem why = unpack(inflater);
        const size_t len = PIECE_BYTES - stream->avail_out;

        full = stream->avail_out == 0;
        if (why == PROBLEM_NONE && len > inflater->left) {
            why = PROBLEM_BODY_TOO_LARGE;
        }
        if (why == PROBLEM_NONE && len > 0) {
            inflater->left -= len;
            why = take(arg, (struct span){(const char *)inflater->piece, len});
        }
        if (why != PROBLEM_NONE) {
            return why;
        }
        if (!inflater->begun && stream->avail_in == 0) {
            break;
        }
    }
    return PROBLEM_NONE;
}

const char *
inflater_complaint(const struct inflater *inflater)
{
    if (inflater->wrong) {
        return "the body is not valid gzip";
    }
    return inflater->begun || !inflater->any ? "the gzip body is cut short" : NULL;
}
