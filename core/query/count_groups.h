/*
 * count_groups.h - the groups of a count: a row per value or per bucket of time, in the order asked
 * for.
 *
 * Values are found again by a balanced tree, not by a hash: they are what clients chose, and no
 * choice of theirs makes it slow. One thread at a time.
 */
#ifndef SLUICE_CORE_COUNT_GROUPS_H
#define SLUICE_CORE_COUNT_GROUPS_H

#include "core/base/base.h"
#include "core/base/err.h"

enum {
    COUNT_VALUES_MAX = 200000, /* rows gathered for one answer */
};

struct count_row {
    struct span value; /* data NULL: events without one */
    int64_t local_us;  /* of a bucket of time: see time_buckets.h */
    uint64_t total;
    uint64_t unique;
};

/* Zeros are an empty one; free with count_groups_free(). */
struct count_groups {
    struct count_row **row;
    size_t count;
    size_t capacity;
    void *tree; /* of rows with a value */
};

void count_groups_free(struct count_groups *groups);

/*
 * Finds VALUE's row, or makes one with zeros and a copy of VALUE. The row stays where it is.
 * ERR_TOO_BIG: that would be more than COUNT_VALUES_MAX; ERR_NO_MEMORY.
 */
MUST_CHECK enum err count_groups_value(struct count_groups *groups, struct span value,
                                       struct count_row **out);

/* Appends the row of a bucket of time, which must be later than the last one. */
MUST_CHECK enum err count_groups_append(struct count_groups *groups, int64_t local_us,
                                        struct count_row **out);

/* The row of a bucket of time; NULL when there is none. Only while they are in order of time. */
struct count_row *count_groups_at(const struct count_groups *groups, int64_t local_us);

/*
 * Puts values in order of their totals; equal ones in the order of their bytes, those without a
 * value last.
 */
void count_groups_order_values(struct count_groups *groups, bool descending);

/* Takes the buckets of time away in which nothing was counted. */
void count_groups_drop_empty(struct count_groups *groups);

/* Turns the order round. */
void count_groups_reverse(struct count_groups *groups);

#endif
