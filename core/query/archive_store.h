/*
 * archive_store.h - the port to stored events, as archive.h reads them. storage implements it on
 * MySQL; tests/fakes in memory.
 *
 * A snapshot is one moment of the store: the offsets it gives and the rows it shows belong
 * together. The store may be used by any thread, a snapshot by one.
 */
#ifndef SLUICE_CORE_ARCHIVE_STORE_H
#define SLUICE_CORE_ARCHIVE_STORE_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/event/event.h"
#include "core/journal.h"

#define ARCHIVE_NO_TIME INT64_MAX
#define ARCHIVE_DAY_US INT64_C(86400000000)

/* Which events. Spans are borrowed for the call; data NULL: any. Bytes are compared, all of them.
 */
struct archive_filter {
    struct span tenant; /* required */
    struct span event_name;
    struct span service;
    struct span channel;
    struct span campaign_id;
    struct span user_id;
    int64_t from_us; /* occurred_at in [from, to) */
    int64_t to_us;
    /*
     * For archive_each_user(): 0, times are given exactly; a divisor of a day, they are rounded
     * down to multiples of it; ARCHIVE_NO_TIME, all are given as from_us. The coarser the fewer
     * groups.
     */
    int64_t bucket_us;
};

struct archive_position {
    int64_t occurred_us;
    uint8_t node_id[JOURNAL_NODE_ID_SIZE];
    uint64_t seq;
};

/* < 0, 0, > 0 as A is before, at or after B in ascending order. */
int archive_position_compare(const struct archive_position *a, const struct archive_position *b);

/* The first LIMIT events of a range of the order; how they come does not matter. */
struct archive_rows {
    struct archive_filter filter;
    bool name_padded; /* event_name stands for all names that differ by trailing spaces only */
    bool descending;
    bool has_after;
    struct archive_position after; /* only what is behind it */
    bool has_until;
    struct archive_position until; /* only what is before it */
    uint32_t limit;
};

typedef enum err archive_row_fn(void *arg, const struct archive_position *position,
                                const struct event *event);
typedef enum err archive_name_fn(void *arg, struct span name);
typedef enum err archive_user_fn(void *arg, int64_t occurred_us, uint64_t count,
                                 struct span user_id, struct span channel, struct span campaign_id);

/*
 * What is given to a function borrows from the call. The function's first error ends the walk and
 * is returned. Else: ERR_UNAVAILABLE the store is away, or was lost on the way; ERR_TIMEOUT it took
 * too long; ERR_NO_MEMORY. After any error only end() may follow.
 */
struct archive_store_ops {
    /*
     * Opens a snapshot and gives the last seq stored of each of NODE's PARTITIONS. ERR_AGAIN too
     * many are open; ERR_UNAVAILABLE, ERR_NO_MEMORY.
     */
    enum err (*begin)(void *self, const uint8_t node_id[JOURNAL_NODE_ID_SIZE], uint32_t partitions,
                      uint64_t *after_out, void **snapshot_out);

    /*
     * Names of a tenant's events, at most MAX. Of names that differ by trailing spaces only, one
     * may stand for all.
     */
    enum err (*names)(void *snapshot, struct span tenant, uint32_t max, archive_name_fn *fn,
                      void *arg);

    enum err (*rows)(void *snapshot, const struct archive_rows *rows, archive_row_fn *fn,
                     void *arg);

    /* As archive_each_user(). */
    enum err (*users)(void *snapshot, const struct archive_filter *filter, archive_user_fn *fn,
                      void *arg);

    void (*end)(void *snapshot);
    void (*close)(void *self); /* no snapshot is open */
};

struct archive_store {
    const struct archive_store_ops *ops;
    void *self;
};

#endif
