/*
 * counts_internal.h - the engine's own state, shared by its files only.
 *
 *   counts.c        life, adding, the thread
 *   count_fold.c    from the tail into the history; removals; dropping the oldest
 *   count_rollup.c  which buckets are to be rolled up, and doing it
 *   count_view.c    answers
 */
#ifndef SLUICE_CORE_COUNTS_INTERNAL_H
#define SLUICE_CORE_COUNTS_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/counts/count_cell.h"
#include "core/counts/count_names.h"
#include "core/counts/count_reader.h"
#include "core/counts/count_tail.h"
#include "core/counts/counts.h"

enum {
    FOLD_EVENTS_MAX = 65536, /* at most so many in one commit */
    FOLD_CELLS_MAX = 4096,   /* and so many minutes of names, unless it is a single event */
    DENSE_MIN = 512,         /* entries of one minute in one fold that are filed by the second */
    ROLLUP_MIN = 512,        /* a bucket with fewer events is as quickly read entry by entry */
    TODO_MAX = 200000,       /* buckets waiting to be rolled up */
};

/* A bucket whose roll-up is missing. */
struct todo {
    enum count_level level;
    uint32_t name;
    int64_t bucket_us;
    int64_t touched_us; /* wall clock, when it last changed; 0 before this start */
    bool saved;
};

struct todo_list {
    struct todo *items;
    size_t len;
    size_t capacity;
    uint32_t *slots; /* open addressing: item number + 1 */
    size_t slot_count;
};

struct counts {
    struct counts_config config;
    struct count_names *names;
    struct count_tail tail;
    _Atomic uint64_t counted_seq;
    _Atomic uint64_t begin_seq;
    _Atomic int64_t from_us;
    _Atomic uint64_t dropped_events;
    _Atomic uint64_t other_events;

    /* The engine's thread, or whoever folds while it does not run. */
    struct count_state state;
    bool has_begun;
    bool state_saved; /* the store knows where the history begins */
    struct count_changes changes;
    struct tail_entry *entries; /* of the fold at hand */
    size_t entry_count;
    struct buffer chunk;
    struct todo_list todo;
    bool todo_overflowed;
    uint64_t dropping; /* entries of the name at hand that are being dropped */

    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    bool stopping;
};

/* count_fold.c. Each makes one commit, or answers ERR_NOT_FOUND when there is nothing to do. */
MUST_CHECK enum err count_fold_tail(struct counts *counts, int64_t now_us);
MUST_CHECK enum err count_fold_removals(struct counts *counts, int64_t now_us);
MUST_CHECK enum err count_drop_oldest(struct counts *counts, int64_t now_us);

/* The index of a value, COUNT_OTHER when it has none. Any thread. */
uint16_t count_value_index(struct counts *counts, uint32_t name, uint8_t dimension,
                           struct span value);

/* Commits counts->changes together with the state and the buckets not marked yet. */
MUST_CHECK enum err count_commit(struct counts *counts, const struct count_state *state);

/* count_rollup.c */
/* Notes that a bucket's roll-up is gone. */
MUST_CHECK enum err todo_mark(struct todo_list *list, enum count_level level, uint32_t name,
                              int64_t bucket_us, int64_t now_us, bool saved, bool *overflowed_out);
void todo_free(struct todo_list *list);
/* Rolls up some of the buckets that are due; one commit. ERR_NOT_FOUND: none is. */
MUST_CHECK enum err count_rollup_due(struct counts *counts, int64_t now_us);

#endif
