/*
 * count_tail.h - the events after the history of counts, one fixed-size entry each, in the order of
 * their sequence numbers.
 *
 * Entries lie in segments of a fixed size and never move: the committer fills the newest segment
 * and raises the tail's last number with a release store, readers pin segments and read what lies
 * below the number they loaded. Adding takes no lock but once in a segment.
 */
#ifndef SLUICE_CORE_COUNT_TAIL_H
#define SLUICE_CORE_COUNT_TAIL_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/counts/count_names.h"

enum {
    TAIL_SEGMENT_BITS = 15,
    TAIL_SEGMENT_ENTRIES = 1 << TAIL_SEGMENT_BITS,
};

struct tail_entry {
    int64_t occurred_us;
    uint64_t user;         /* 0: none */
    struct count_place at; /* name COUNT_NO_NAME: no event to be counted */
};

struct tail_segment {
    struct tail_segment *next;
    uint64_t number;       /* its entries have the numbers NUMBER << TAIL_SEGMENT_BITS onwards */
    _Atomic uint32_t pins; /* one of the tail itself */
    struct tail_entry entries[TAIL_SEGMENT_ENTRIES];
};

struct count_tail {
    _Atomic uint64_t last_seq;   /* entries up to here may be read */
    struct tail_segment *newest; /* the adding thread's */
    pthread_mutex_t lock;        /* guards the list */
    struct tail_segment *oldest;
};

/* Entries after AFTER_SEQ are to come. */
MUST_CHECK enum err count_tail_init(struct count_tail *tail, uint64_t after_seq);
void count_tail_fini(struct count_tail *tail);

/* SEQ above any before; those left out count as nothing. ERR_NO_MEMORY: SEQ was not added. */
MUST_CHECK enum err count_tail_add(struct count_tail *tail, uint64_t seq,
                                   const struct tail_entry *entry);

/* Lets go of the segments all of whose entries are at or below SEQ. */
void count_tail_drop(struct count_tail *tail, uint64_t seq);

static inline uint64_t
count_tail_last(struct count_tail *tail)
{
    return atomic_load_explicit(&tail->last_seq, memory_order_acquire);
}

/* What was in the tail at one moment. */
struct tail_pin {
    struct tail_segment **segments; /* ascending */
    size_t count;
    uint64_t last_seq;
};
MUST_CHECK enum err count_tail_pin(struct count_tail *tail, struct tail_pin *out);
void count_tail_unpin(struct tail_pin *pin);

/* The entries of pinned segment I in (AFTER_SEQ, TO_SEQ], in order; how many. */
size_t count_tail_run(const struct tail_pin *pin, size_t i, uint64_t after_seq, uint64_t to_seq,
                      const struct tail_entry **out);

/* Calls FN for the pinned entries in (AFTER_SEQ, TO_SEQ], in order; its first error ends it. */
MUST_CHECK enum err count_tail_each(const struct tail_pin *pin, uint64_t after_seq, uint64_t to_seq,
                                    enum err (*fn)(void *arg, const struct tail_entry *entry),
                                    void *arg);

#endif
