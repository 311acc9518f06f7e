/*
 * verify.h - checks everything a log directory holds, beside a live server too.
 *
 * Checked: the state record; each record's two checksums, its event, and that the idempotency key
 * belongs to its id; that the sequence has no gap from the oldest record to where the log ended at
 * the call, and that nothing before the oldest is missing which the sink does not have; the keys
 * of the blocks; the sums of the segments; id blocks; slices; counts; starts; the list of free
 * pages.
 *
 * Records that the server trims while this reads are not missed: the state of the same snapshot
 * says that the sink has them.
 */
#ifndef SLUICE_WAL_VERIFY_H
#define SLUICE_WAL_VERIFY_H

#include "wal/inspect.h"

/* Sequence numbers the log should hold and does not give. */
struct log_range {
    uint64_t first;
    uint64_t last;
};

struct log_verified {
    struct log_summary start; /* read first: the log's end and progress at that moment */
    uint64_t oldest_seq;      /* first record read, 0 none */
    uint64_t trimmed_to;      /* records up to here were trimmed, before or meanwhile; 0 none */
    uint64_t records;         /* records read and found good */
    uint64_t blocks;
    uint64_t segments;
    uint64_t id_blocks;
    uint64_t ids;
    uint64_t slices;
    uint64_t counts; /* entries of the history of counts */
    uint64_t starts;
    uint64_t pages_used;
    uint64_t pages_free;
    uint64_t findings;
    struct buffer lost; /* of struct log_range, in order, DAMAGED and MISSING; free with
                           log_verified_free() */
};

/*
 * Checks it all; gives each finding to FINDING as a sentence and the first seq concerned (0: none).
 * ERR_OK whatever was found; an error, with PROBLEM, when the checks could not be finished: then
 * what was counted so far is in *OUT, too.
 */
MUST_CHECK enum err log_verify(struct log_view *view,
                               void (*finding)(void *arg, uint64_t seq, const char *text),
                               void *arg, struct log_verified *out, struct buffer *problem);

void log_verified_free(struct log_verified *verified);

/* How many of the seqs of PARTITION in (AFTER, TO] are in LOST. */
uint64_t log_verified_lost(const struct log_verified *verified, uint32_t partition, uint64_t after,
                           uint64_t to);

#endif
