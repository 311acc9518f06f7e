/*
 * journal.h - the port to the write-ahead log. wal implements it on LMDB; tests/fakes in memory.
 *
 * Life of an event here: journal_append() hands a request's events over, journal_kick() wakes the
 * committer once for all that were handed over, the committer gives sequence numbers, settles
 * duplicates and makes the group durable, tells the observer, raises the durable watermark and
 * calls each append's done(). Only then may anybody be told that the event is stored (P1).
 *
 * Sequence numbers are gap-free, start at 1 and are never reused; 0 means none. They are dealt to
 * partitions in stripes of JOURNAL_STRIPE: partition(seq) = ((seq - 1) / JOURNAL_STRIPE) %
 * partitions.
 */
#ifndef SLUICE_CORE_JOURNAL_H
#define SLUICE_CORE_JOURNAL_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"
#include "core/base/metrics.h"
#include "core/counts/count_store.h"
#include "core/event/event.h"
#include "core/slo/slice.h"

enum {
    JOURNAL_STRIPE = 1024,
    JOURNAL_PARTITIONS_MAX = 64,
    JOURNAL_NODE_ID_SIZE = 16,
};

/* One event on its way into the log. The first part is the producer's, the second the committer's.
 */
struct append_event {
    struct span body; /* event_encode()d bytes, owned by the producer until done() */
    bool has_key;     /* the client chose the id: check and remember KEY */
    uint8_t key[EVENT_KEY_SIZE];
    uint32_t content_crc;

    uint64_t seq;   /* its own, or the first one's when it is a duplicate */
    bool duplicate; /* the key is known: nothing was stored for this event */
    bool mismatch;  /* duplicate whose content differs from the first one's */
};

/*
 * A request's events: logged and answered together. Owned by the journal from a successful
 * journal_append() until done(), which is called exactly once, on the committer's thread, and
 * must only hand the append back to its owner's thread.
 */
struct append {
    struct append *next; /* the journal's while it owns the append */
    struct append_event *events;
    uint32_t count;    /* > 0 */
    size_t body_bytes; /* sum of the bodies' lengths */
    void (*done)(struct append *append);
    void *owner; /* done()'s, the journal does not touch it */
    /*
     * Set before done(): ERR_OK all is durable. ERR_FULL, ERR_FAILED, ERR_CLOSED: surely nothing
     * was stored. ERR_UNKNOWN: the commit's last write failed; a retry with the same id is safe.
     */
    enum err result;
};

enum outcome {
    OUTCOME_STORED,    /* the sink holds its row */
    OUTCOME_DUPLICATE, /* the sink knows the id from before the log's own window */
    OUTCOME_DEAD,      /* the sink refused the row, it holds a dead letter */
};

struct batch_event {
    uint64_t seq;
    struct span body; /* the encoded event; borrows from the batch, as does the next */
    struct event event;
    enum outcome outcome;
    int reject_code;         /* OUTCOME_DEAD: the sink's own error number ... */
    char reject_reason[256]; /* ... and its words */
};

/* Records of one partition, in order: all that partition's records in (after_seq, to_seq]. */
struct batch {
    uint32_t partition;
    uint64_t after_seq;
    uint64_t to_seq;
    struct batch_event *events;
    size_t count;
    size_t capacity;
    struct buffer bytes;           /* what the events borrow from */
    struct slice_set delta;        /* filled by batch_fold() */
    struct count_changes removals; /* likewise: what is not to be counted after all */
};

struct batch_limits {
    size_t events_max;
    size_t bytes_max; /* at least one event is always given */
    uint64_t to_seq;  /* no record beyond this; UINT64_MAX for no bound */
};

/* A batch is reused: clear empties it and keeps its memory, free releases it. */
void batch_clear(struct batch *batch);
void batch_free(struct batch *batch);

/*
 * Fills batch->removals from the repeats (OUTCOME_DUPLICATE) and batch->delta from all other events
 * that are measured. A dead letter counts like a row: its event was acked, and whether MySQL takes
 * it later, by a replay, then changes no figure (P4).
 */
MUST_CHECK enum err batch_fold(struct batch *batch, const struct slice_rules *rules);

/* Forgets what batch_fold() made. */
void batch_unfold(struct batch *batch);

/* A view of EVENTS [first, first + count) of BATCH as a batch of its own; owns only its delta and
 * removals. */
struct batch batch_part(const struct batch *batch, size_t first, size_t count);

struct journal_stats {
    uint64_t durable_seq;
    uint64_t oldest_seq; /* oldest record still in the log, 0 when empty */
    uint64_t pending_events;
    int64_t oldest_pending_us; /* created_at of the oldest record not yet replicated, 0 when none */
    uint64_t bytes;            /* live pages */
    uint64_t bytes_limit;
    uint64_t queued_events;
    uint64_t id_window_events; /* ids the journal can recognise as repeats */
    int64_t oldest_reader_us;  /* age of the oldest open read, 0 when none */
    bool full;
    bool failed;
};

/* A run of records of all partitions, for readers that only look. */
struct journal_scan {
    uint64_t from_seq;     /* > 0 */
    const uint64_t *after; /* per partition: records up to after[p] are left out; NULL: none are */
    uint32_t records_max;  /* > 0: so many are walked over, then the read ends */
};

struct journal_scanned {
    uint64_t next_seq; /* from where to go on */
    uint64_t damaged;  /* records, or runs of them, that could not be read and were passed over */
    bool done;         /* nothing durable is left */
};

typedef enum err journal_scan_fn(void *arg, uint64_t seq, const struct event *event);

struct journal_ops {
    /*
     * Hands APPEND over. Any thread. On any error the caller still owns it:
     * ERR_AGAIN queue full, ERR_FULL log full, ERR_FAILED latched, ERR_CLOSED stopping.
     */
    enum err (*append)(void *self, struct append *append);

    /* Wakes the committer; call once after a run of appends. Any thread. */
    void (*kick)(void *self);

    /* Highest seq that survives power loss; only rises. Any thread. */
    uint64_t (*durable_seq)(void *self);

    /*
     * Waits until durable_seq >= SEQ: ERR_OK; ERR_TIMEOUT after TIMEOUT_MS (negative: no limit);
     * ERR_CLOSED when the journal is stopping or has failed.
     */
    enum err (*wait_durable)(void *self, uint64_t seq, int timeout_ms);

    /*
     * Copies records of PARTITION after AFTER_SEQ into *OUT (cleared first) and ends its read
     * before returning. May wait for the committer, two seconds at most and before it reads.
     * ERR_NOT_FOUND: none durable yet. ERR_AGAIN: none can be read at this moment (a full log, a
     * stop, too many readers), ask again later. ERR_CORRUPT: a checksum does not match; logged with
     * its seq. Thread: that partition's replicator.
     */
    enum err (*read)(void *self, uint32_t partition, uint64_t after_seq,
                     const struct batch_limits *limits, struct batch *out);

    /*
     * Gives FN records in order, none of them twice, and ends its read before returning. FN runs
     * inside of that read: it copies what it keeps, must not block nor call the journal; its first
     * error ends the scan and is returned. ERR_NOT_FOUND, nothing given: the first record wanted
     * has been trimmed. ERR_AGAIN as in read(); ERR_IO. Waits as read() does: any thread but the
     * committer's and the HTTP loops'.
     */
    enum err (*scan)(void *self, const struct journal_scan *scan, journal_scan_fn *fn, void *arg,
                     struct journal_scanned *out);

    /* Last seq of PARTITION the journal knows to be in the sink. Any thread. */
    uint64_t (*replicated_seq)(void *self, uint32_t partition);

    /*
     * Notes durably that PARTITION is in the sink up to TO_SEQ and folds DELTA into the log's own
     * history of slices, with REMOVALS (may be NULL) for its history of counts, in one commit;
     * frees space for trimming. Waits for the commit. Works also when the log is full. ERR_FULL:
     * nothing was noted, and the same may be asked again later; ERR_CLOSED stopping; ERR_FAILED or
     * ERR_UNKNOWN latched. Thread: that partition's replicator.
     */
    enum err (*advance)(void *self, uint32_t partition, uint64_t to_seq,
                        const struct slice_set *delta, const struct count_changes *removals);

    void (*stats)(void *self, struct journal_stats *out); /* any thread */
};

struct journal {
    const struct journal_ops *ops;
    void *self;
    uint32_t partitions;
    uint8_t node_id[JOURNAL_NODE_ID_SIZE];
    uint64_t epoch;                          /* raised durably at each start */
    struct metric_histogram *commit_seconds; /* time of one commit; may be NULL */
    struct metric_histogram *group_events;   /* events in one commit; may be NULL */
};

/*
 * Told, on the committer's thread, after a group is durable and before anybody learns of it. Must
 * not block.
 */
struct journal_observer {
    void (*durable)(void *self, const struct append_event *event);
    void *self;
};

static inline uint32_t
journal_partition_of(uint64_t seq, uint32_t partitions)
{
    return (uint32_t)(((seq - 1) / JOURNAL_STRIPE) % partitions);
}

/* First seq from SEQ on that AFTER (as in journal_scan) does not leave out. */
uint64_t journal_scan_first(const struct journal_scan *scan, uint64_t seq, uint32_t partitions);

/* How many sequence numbers in [1, seq] belong to PARTITION. */
uint64_t journal_partition_count(uint64_t seq, uint32_t partition, uint32_t partitions);

#endif
