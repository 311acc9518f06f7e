/*
 * bulk.h - a stream of bytes in any bulk format into canonical events, one at a time.
 *
 * A reader takes bytes in pieces and gives an item per element: an event, or why there is none.
 * A pack collects encoded events for one append. Both keep no more than they are told to: the
 * reader one element, the pack what its owner puts into it. One thread at a time.
 */
#ifndef SLUICE_CORE_BULK_H
#define SLUICE_CORE_BULK_H

#include "core/event/decode.h"
#include "core/event/split.h"
#include "core/journal.h"

struct bulk_config {
    enum split_format format;
    size_t event_bytes_max;  /* of an element */
    uint64_t elements_max;   /* good and bad ones together */
    uint64_t text_bytes_max; /* of all elements' JSON: rows of CSV grow by their members' names */
    int64_t future_skew_max_us;
    struct span tenant;   /* as in decode.h; borrowed for the reader's life */
    struct span trace_id; /* every event's; borrowed too */
};

enum bulk_step {
    BULK_MORE,      /* every byte is used: feed the next, or end */
    BULK_EVENT,     /* item->event */
    BULK_REFUSED,   /* the element is no event: item->error */
    BULK_DONE,      /* after bulk_end(): there are no more */
    BULK_BROKEN,    /* the bytes are not in the format, item->error; the last step */
    BULK_TOO_BIG,   /* beyond a limit of the config, item->error; the last step */
    BULK_NO_MEMORY, /* the last step */
};

struct bulk_item {
    uint64_t index; /* of the element, from 0 */
    struct event event;
    struct decode_error error; /* the code may also be "body_too_large" */
};

struct bulk {
    struct bulk_config config;
    struct splitter splitter;
    struct buffer scratch; /* what the event given last borrows from */
    uint64_t elements;     /* met so far */
    uint64_t text_bytes;
    int64_t now_us;
};

void bulk_init(struct bulk *bulk, const struct bulk_config *config);
void bulk_fini(struct bulk *bulk); /* its numbers may still be read; may be called again */

/* Lends BYTES until BULK_MORE; only after BULK_MORE or at the start. NOW_US: as in decode.h. */
void bulk_feed(struct bulk *bulk, struct span bytes, int64_t now_us);

/* No more bytes will come. */
void bulk_end(struct bulk *bulk);

/* The next step; what *ITEM borrows lives until the next call. */
MUST_CHECK enum bulk_step bulk_next(struct bulk *bulk, struct bulk_item *item);

/* Bytes of heap it has. */
size_t bulk_memory(const struct bulk *bulk);

/* Encoded events, on their way to be one append; zeros are an empty one. */
struct bulk_pack {
    struct buffer bytes;
    struct append_event *events;
    uint32_t count;
    uint32_t capacity;
};

/* Encodes EVENT into PACK. ERR_NO_MEMORY: it can then only be freed. */
MUST_CHECK enum err bulk_pack_add(struct bulk_pack *pack, const struct event *event);

/* Makes PACK's events ready for an append; nothing may be added after that. */
void bulk_pack_seal(struct bulk_pack *pack);

void bulk_pack_free(struct bulk_pack *pack);
size_t bulk_pack_memory(const struct bulk_pack *pack);

#endif
