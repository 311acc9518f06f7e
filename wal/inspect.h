/*
 * inspect.h - a read-only view of a log directory, also while a server works in it.
 *
 * Nothing is created, changed or locked against the server: LMDB is opened read-only, each read
 * transaction copies at most some thousand records out and ends before they are looked at, so the
 * server's reuse of pages is never held up for longer than a copy takes. What is read this way is
 * not one cut: the log goes on meanwhile. Each function says what that means for it. The stage is
 * copied before LMDB is read, so that no record slips through between the two.
 *
 * Where there is no lock.mdb, no server can be running: the file is then not created either.
 *
 * A damaged page of the tree may make LMDB itself fault (0.9 has no page checksums). Whoever wants
 * to survive that runs the view in a child process and tells it by log_view_watch() where it was.
 *
 * One thread. Sentences about what is wrong are appended to PROBLEM, without a full stop.
 */
#ifndef SLUICE_WAL_INSPECT_H
#define SLUICE_WAL_INSPECT_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"
#include "core/event/event.h"
#include "wal/format.h"

struct log_view;

/*
 * Opens the log in DIR. ERR_NOT_FOUND: there is none; ERR_INVALID: DIR may not be read by this
 * user; ERR_FORMAT: a newer build wrote it; ERR_CORRUPT: its first pages or its state record are
 * damaged; ERR_NO_MEMORY; ERR_AGAIN: too many readers; ERR_IO.
 */
MUST_CHECK enum err log_view_open(struct log_view **out, const char *dir, struct buffer *problem);

/* NULL allowed. */
void log_view_close(struct log_view *view);

/* Where a view is, for whoever has to explain its sudden end; may be in shared memory. */
struct log_progress {
    char step[32];
    uint64_t seq; /* the last record looked at, 0 none */
};

/* Keeps *PROGRESS up to date from now on; NULL ends it. Borrowed. */
void log_view_watch(struct log_view *view, struct log_progress *progress);

struct log_summary {
    struct log_state state;
    uint64_t oldest_seq; /* 0 when the log has no records */
    uint64_t last_seq;   /* state.first_seq - 1 when it never had any */
    uint64_t records;
    uint64_t staged;           /* of those, in the stage and not in LMDB yet ... */
    uint64_t staged_ids;       /* ... and of these, with an id of the client's */
    int64_t oldest_created_us; /* INT64_MIN when there is none or it cannot be read */
    uint64_t pending[JOURNAL_PARTITIONS_MAX];
    uint64_t pending_events; /* sum of the above */
    uint64_t blocks;
    uint64_t slices;
    uint64_t counts; /* entries of the history of counts */
    uint64_t starts;
    uint64_t live_bytes; /* pages of records: what WAL_MAX_BYTES limits */
    uint64_t file_bytes;
    uint64_t page_size;
    uint64_t pages;      /* ever used */
    uint64_t free_pages; /* of those, ready for reuse */
};

/* Reads the whole summary in one snapshot. ERR_CORRUPT, ERR_FORMAT, ERR_IO with PROBLEM. */
MUST_CHECK enum err log_view_summary(struct log_view *view, struct log_summary *out,
                                     struct buffer *problem);

/*
 * Highest seq up to which everything is in the sink by what STATE says, at most LAST_SEQ. Below it
 * records may have been trimmed.
 */
uint64_t log_state_replicated_prefix(const struct log_state *state, uint64_t last_seq);

/* ---- records ---- */

enum log_item_kind {
    LOG_ITEM_RECORD,    /* checksums match, EVENT is filled */
    LOG_ITEM_DAMAGED,   /* [seq, last_seq] cannot be read, WHY says how */
    LOG_ITEM_MISSING,   /* [seq, last_seq] is not there although it was not trimmed */
    LOG_ITEM_MISPLACED, /* its block has another key or its seq goes back; may not be found */
    LOG_ITEM_TRIMMED,   /* [seq, last_seq] is in the sink and was dropped, before or meanwhile */
};

struct log_item {
    enum log_item_kind kind;
    uint64_t seq;
    uint64_t last_seq;
    const char *why; /* static text */
    uint64_t block;  /* key of the block a record is in, and the bytes of that block; 0 staged */
    size_t block_size;
    struct event event; /* borrows from the view, until the callback returns */
};

/*
 * Gives every seq in [FROM, TO], at most to where the log ended at the call, to FN once, in order
 * (a LOG_ITEM_MISPLACED comes beside). What FN returns other than ERR_OK ends it and is returned.
 * ERR_IO, ERR_AGAIN, ERR_NO_MEMORY with PROBLEM.
 */
MUST_CHECK enum err log_view_each(struct log_view *view, uint64_t from, uint64_t to,
                                  enum err (*fn)(void *arg, const struct log_item *item), void *arg,
                                  struct buffer *problem);

/* ---- the other databases ---- */

enum log_table {
    LOG_TABLE_META,
    LOG_TABLE_RECORDS,
    LOG_TABLE_SEGMENTS,
    LOG_TABLE_IDS,
    LOG_TABLE_SLICES,
    LOG_TABLE_INSTANCES,
    LOG_TABLE_COUNTS, /* absent from logs of older builds: then empty */
    LOG_TABLE_COUNT,
};

/*
 * Gives each entry of TABLE to FN in key order; entries that come or go meanwhile may be seen or
 * not. KEY and VALUE borrow until FN returns. ERR_CORRUPT when the keys are not in order; else as
 * log_view_each().
 */
MUST_CHECK enum err log_view_each_entry(struct log_view *view, enum log_table table,
                                        enum err (*fn)(void *arg, struct span key,
                                                       struct span value),
                                        void *arg, struct buffer *problem);

/*
 * Checks in one snapshot that LMDB's list of free pages is well formed, names no page twice and
 * that, with the pages in use, there are not more than the file has: a page both free and in use
 * would be overwritten. ERR_CORRUPT with PROBLEM.
 */
MUST_CHECK enum err log_view_check_space(struct log_view *view, uint64_t *used_out,
                                         uint64_t *free_out, struct buffer *problem);

#endif
