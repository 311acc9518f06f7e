/*
 * archive.h - raw events one by one: what MySQL holds and what the log holds beyond it, as one.
 *
 * An acked event is found at once and once, in the log, in MySQL, or on its way (P4): rows and the
 * offsets of this node's partitions change in one transaction, so one snapshot of the store gives
 * both, and of the log exactly the records after those offsets are added. Records behind an offset
 * are rows, dead letters or repeats and are never taken from the log. The log may drop records
 * between the snapshot and the read, if another batch has moved meanwhile; it says so, and the
 * reading starts over with a new snapshot.
 *
 * Without the store (it is away, or none is configured) an answer is what the log still holds,
 * pending and retained; when a store is configured, the answer says that it is DEGRADED. So does
 * one that had to pass over a damaged record.
 *
 * Events have one order: (occurred_at, node, seq). All three of an event never change, so a page
 * that begins behind a position neither repeats nor skips an event that existed before, wherever it
 * has moved since. Times are those a DATETIME can hold, years 0001 to 9999.
 *
 * Any thread may call. A call may take as long as the store's time limit; no lock is held
 * meanwhile.
 */
#ifndef SLUICE_CORE_ARCHIVE_H
#define SLUICE_CORE_ARCHIVE_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/journal.h"
#include "core/query/archive_store.h"
#include "core/query/event_zones.h"

enum {
    ARCHIVE_LIMIT_MAX = 1000, /* events of one page */
};

struct archive;

/*
 * JOURNAL and ZONES are borrowed for the archive's life. ZONES knows what JOURNAL's records may
 * hold; NULL: nobody does, and each answer reads all of them. STORE moves on success and is closed
 * with the archive; NULL: there is none, all events are in the log.
 */
MUST_CHECK enum err archive_new(struct archive **out, struct journal *journal,
                                struct event_zones *zones, const struct archive_store *store);
void archive_free(struct archive *archive); /* NULL allowed; nobody may be calling */

struct archive_request {
    struct archive_filter filter;
    bool descending; /* newest first */
    bool has_after;  /* begin behind AFTER, else at the end the order begins with */
    struct archive_position after;
    uint32_t limit; /* 1 to ARCHIVE_LIMIT_MAX */
};

/*
 * Events in their order. A page may hold fewer than the limit although there are more: events of
 * many bytes end it early.
 */
struct archive_page {
    struct archive_item **items;
    size_t count;
    bool more; /* there are events behind the last one */
    bool degraded;
};

/* One event of a page; everything it points to is the page's. */
struct archive_item {
    struct archive_position position;
    struct event event; /* shape, key and content_crc are not kept by the store: not to be read */
    size_t bytes;       /* of memory */
};

/*
 * Fills *OUT, released with archive_page_clear(). ERR_NO_MEMORY; ERR_TIMEOUT the store took too
 * long, a narrower range may help; ERR_AGAIN too many readers now; ERR_IO the log could not be
 * read. Nothing is to be released then.
 */
MUST_CHECK enum err archive_read_page(struct archive *archive,
                                      const struct archive_request *request,
                                      struct archive_page *out);
void archive_page_clear(struct archive_page *page);

/*
 * For counts by user: gives FN every acked event that matches, exactly once, in no order, as sums
 * over events of equal user, channel and campaign (data NULL: without one) and of one time: see
 * filter->bucket_us. The same group may be given several times. FN's first error ends it and is
 * returned. *DEGRADED_OUT: only what the log still holds was given, or a damaged record was passed
 * over.
 *
 * Errors as archive_read_page(), and: ERR_AGAIN also when FN was given a part of an answer that
 * then broke off (the connection was lost, the log was trimmed): throw that away and call again.
 * Without anything given yet the archive itself starts over. FN may run inside a short read of the
 * log: it must not block or call back.
 */
MUST_CHECK enum err archive_each_user(struct archive *archive, const struct archive_filter *filter,
                                      archive_user_fn *fn, void *arg, bool *degraded_out);

#endif
