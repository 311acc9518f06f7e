/*
 * wal_internal.h - the log's own state, shared by the files of this folder only.
 *
 *   wal.c        opening, identity, the port's table
 *   committer.c  the one writer: groups, duplicates, admission, advance, latch
 *   stage.c      the file in which small groups become durable before LMDB has them
 *   trim.c       segments, trimming, how much room is left
 *   counts.c     the history of counts: the port count_store
 *   reader.c     short reads: batches for replicators, scans, what a start needs, statistics
 *   format.c     bytes; id_window.c  recent ids
 */
#ifndef SLUICE_WAL_WAL_INTERNAL_H
#define SLUICE_WAL_WAL_INTERNAL_H

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>

#include "wal/format.h"
#include "wal/id_window.h"
#include "wal/stage.h"
#include "wal/wal.h"

enum {
    READ_SLOTS = 2 * JOURNAL_PARTITIONS_MAX,
    DISK_RESERVE = 8 << 20, /* free bytes on the file system below which appends are refused */
};

/* A closed or still growing run of blocks; the unit of trimming. */
struct segment {
    uint64_t first_seq;
    uint64_t last_seq;
    uint64_t bytes; /* what its blocks occupy in the file */
};

/* Oldest first; the last one is open. A ring whose capacity is a power of two. */
struct segment_list {
    struct segment *ring;
    size_t head;
    size_t count;
    size_t capacity;
    uint64_t bytes; /* sum over all */
};

/* One replicator's request to note progress; lives on its stack until answered. */
struct advance_request {
    struct advance_request *next;
    uint32_t partition;
    uint64_t to_seq;
    const struct slice_set *delta;
    const struct count_changes *removals; /* may be NULL */
    bool answered;
    enum err err;
};

/* The counting thread's request for changes to its history; likewise. */
struct count_request {
    const struct count_changes *changes;
    uint64_t counted_seq;
    bool answered;
    enum err err;
};

struct wal {
    struct wal_config config;
    struct journal journal;
    char *dir;
    int lock_fd;
    uint8_t instance[16];
    uint64_t (*instances)[2]; /* ids of every start so far, read once at open */
    size_t instance_count;

    MDB_env *env;
    MDB_dbi meta, log, segments_db, ids, slices, instances_db, counts;
    uint64_t map_pages;
    uint64_t page_size;

    /* Handing over: any thread pushes, the committer takes all. */
    _Atomic(struct append *) inbox; /* newest first; &inbox_closed once nothing may enter */
    struct append inbox_closed;     /* only its address is used */
    _Atomic uint64_t queued_events;
    atomic_bool sleeping; /* the committer waits on WAKE */
    atomic_bool stopping;
    atomic_bool failed;
    atomic_bool full;

    pthread_mutex_t lock; /* guards advances, count_request, wake, the durable waiters' condition */
    pthread_cond_t wake;
    pthread_cond_t durable_changed;
    pthread_cond_t advance_answered;
    struct advance_request *advances;
    struct count_request *count_request;
    _Atomic uint64_t wake_at_seq; /* lowest durable seq anybody waits for */
    pthread_cond_t logged_changed;

    _Atomic uint64_t durable_seq;
    _Atomic uint64_t logged_seq;     /* up to here LMDB has it; the rest is staged */
    _Atomic uint64_t log_wanted_seq; /* a reader waits until LMDB has this */
    _Atomic int64_t staged_since_us; /* wall time, 0 while nothing is staged */
    _Atomic uint64_t replicated[JOURNAL_PARTITIONS_MAX];
    _Atomic uint64_t counted_seq; /* later records are not in the history of counts yet, and kept;
                                     UINT64_MAX: nobody counts */
    _Atomic uint64_t counts_bytes;
    _Atomic uint64_t live_bytes;
    _Atomic uint64_t oldest_seq;
    _Atomic uint64_t id_count;

    /* Readers: when each open read began, 0 for a free slot. */
    _Atomic int64_t read_began_us[READ_SLOTS];
    pthread_mutex_t foreign_reader_lock; /* guards the next two */
    uint64_t foreign_reader_txn;         /* oldest snapshot another process holds open */
    int64_t foreign_reader_since_us;

    /* The committer's own, touched before its start by open() only. */
    pthread_t committer;
    bool started;
    struct log_state state;
    uint64_t next_seq;
    struct id_window *window;
    uint32_t ids_on_disk;
    struct segment_list segments;
    bool segments_damaged; /* found so when they were last read */
    uint64_t segment_bytes_max;
    uint64_t retain_bytes;     /* the configured window, or what of it the limit has room for */
    uint64_t slices_bytes_max; /* of the history of slices */
    uint64_t first_block_seq;  /* oldest record in the log, 0 when empty */
    struct stage *stage;
    struct buffer staged;    /* frames of the records after logged_seq, in order */
    bool staged_is_in_doubt; /* an append found no room beside it and waits for LMDB's count */
    int64_t staged_mono_us;  /* when the first of them came */
    struct buffer scratch;
    struct id_entry *new_ids; /* of the records in STAGED */
    size_t new_id_count;
    size_t new_id_capacity;
    uint64_t disk_free;
    int64_t none_until_us; /* see room_none(); 0: never */

    struct metric_histogram commit_seconds;
    struct metric_histogram group_events;
};

/* committer.c */
void *committer_run(void *wal);
/* Gives each of a list its answer. */
void answer_all(struct wal *wal, struct append *first, enum err result);
void answer_advances(struct wal *wal, struct advance_request *first, enum err err);
enum err wal_append(void *self, struct append *append);
void wal_kick(void *self);
enum err wal_wait_durable(void *self, uint64_t seq, int timeout_ms);
enum err wal_advance(void *self, uint32_t partition, uint64_t to_seq, const struct slice_set *delta,
                     const struct count_changes *removals);
/*
 * Waits until LMDB has every record up to SEQ, which is durable: readers read LMDB alone. Returns
 * the highest seq it then has, lower than SEQ only when the log has failed, stopped or is full: a
 * full log is waited for only by the PATIENT, two seconds at most.
 */
uint64_t wal_log_up_to(struct wal *wal, uint64_t seq, bool patient);
/* Remembers the key of the event in FRAME, which a start found in the stage. */
MUST_CHECK enum err remember_staged(struct wal *wal, const struct frame *frame);

/* counts.c */
int put_count_changes(struct wal *wal, MDB_txn *txn, const struct count_changes *changes);
void answer_counts(struct wal *wal, struct count_request *request, enum err err);

/* reader.c. A read in progress, whose age is watched; short. */
struct open_read {
    MDB_txn *txn;
    size_t slot;
};
MUST_CHECK enum err read_begin(struct wal *wal, struct open_read *read);
void read_end(struct wal *wal, struct open_read *read);
enum err wal_read(void *self, uint32_t partition, uint64_t after_seq,
                  const struct batch_limits *limits, struct batch *out);
enum err wal_scan(void *self, const struct journal_scan *scan, journal_scan_fn *fn, void *arg,
                  struct journal_scanned *out);
void wal_stats(void *self, struct journal_stats *out);

/* Oldest LMDB snapshot any reader of any process holds; UINT64_MAX when there is none. */
uint64_t oldest_snapshot(struct wal *wal);

/* wal.c. Reads the id window again from the log. */
MUST_CHECK enum err ids_load(struct wal *wal, MDB_txn *txn);

/* trim.c. Those with a TXN run inside the committer's write transaction (or open()'s). */
MUST_CHECK enum err segment_list_push(struct segment_list *list, struct segment segment);
void segment_list_free(struct segment_list *list);
/* Reads the closed segments again and sizes what came after them. TXN may be a read. */
int segments_load(struct wal *wal, MDB_txn *txn);
/* Notes a block of LEN bytes holding [FIRST, LAST]; closes the open segment when it is large
 * enough. */
int segments_note_block(struct wal *wal, MDB_txn *txn, uint64_t first, uint64_t last, size_t len);
/* Drops at most BLOCKS_MAX blocks that are replicated and outside the retained window. */
int trim_some(struct wal *wal, MDB_txn *txn, uint32_t blocks_max);
/* True while there is a segment to drop. */
bool trim_is_due(const struct wal *wal);
/* Drops id blocks that lie before the window. */
int trim_ids(struct wal *wal, MDB_txn *txn);
/* Drops the oldest minutes of the history of slices when it is larger than its bound. */
int trim_slices(struct wal *wal, MDB_txn *txn);
/* Bytes of the pages that hold the history of counts. */
uint64_t count_bytes(struct wal *wal, MDB_txn *txn);
/* Highest W such that every record up to W is replicated. */
uint64_t replicated_prefix(const struct wal *wal);

/* Bytes of the pages that hold records, as TXN sees them. */
uint64_t log_bytes(struct wal *wal, MDB_txn *txn);
/* Decides anew whether the log is full. LIVE is log_bytes() of the last commit. No transaction of
 * this thread may be open. */
void room_update(struct wal *wal, uint64_t live);
/* LMDB itself has refused a group: the log counts as full for a second. */
void room_none(struct wal *wal);
bool room_is_none(const struct wal *wal);
/* True when an append of BYTES may still enter beside GROUP_BYTES already taken. */
bool room_for(struct wal *wal, uint64_t group_bytes, uint64_t bytes);

/* First seq of PARTITION after SEQ. */
uint64_t next_seq_of_partition(uint64_t seq, uint32_t partition, uint32_t partitions);

static inline MDB_val
val_of(const void *data, size_t len)
{
    MDB_val val = {len, NULL};

    memcpy(&val.mv_data, &data, sizeof(data)); /* LMDB takes plain pointers but only reads them */
    return val;
}

static inline struct span
span_of_val(MDB_val val)
{
    return (struct span){val.mv_data, val.mv_size};
}

#endif
