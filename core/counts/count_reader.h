/*
 * count_reader.h - one event name's history over a range of time, with as few reads as it takes.
 *
 * A range is covered by the largest roll-ups that lie in it; what none covers is read a level
 * lower, down to the entries themselves, whose times are compared one by one. What is read follows
 * the length of the range and its edges, not the number of events (count_cell.h).
 */
#ifndef SLUICE_CORE_COUNT_READER_H
#define SLUICE_CORE_COUNT_READER_H

#include "core/counts/count_cell.h"
#include "core/counts/count_store.h"

struct count_reader {
    const struct count_store *store;
    void *snapshot;
    struct buffer joined; /* a roll-up put together */
    bool damaged;         /* something was left out because its bytes are damaged */
};

/* FN's first error ends the walk. ROLLUP may use the reader; ENTRY may not. */
struct count_visitor {
    enum err (*entry)(void *arg, const struct count_entry *entry);
    enum err (*rollup)(void *arg, enum count_level level, int64_t bucket_us);
    void *arg;
};

MUST_CHECK enum err count_reader_begin(struct count_reader *reader,
                                       const struct count_store *store);
void count_reader_end(struct count_reader *reader);

/* One value; ERR_NOT_FOUND. Valid until count_reader_end(). */
MUST_CHECK enum err count_reader_get(struct count_reader *reader, const struct count_key *key,
                                     struct span *value_out);

/*
 * Visits NAME's history in [FROM_US, TO_US), each event once, as an entry or as part of a roll-up
 * of at most level TOP.
 */
MUST_CHECK enum err count_reader_range(struct count_reader *reader, uint32_t name,
                                       enum count_level top, int64_t from_us, int64_t to_us,
                                       const struct count_visitor *visitor);

/* Visits the entries in slots of WIDTH only. */
MUST_CHECK enum err count_reader_entries(struct count_reader *reader, uint32_t name,
                                         enum count_width width, int64_t from_us, int64_t to_us,
                                         const struct count_visitor *visitor);

/*
 * The first node of a bucket's roll-up at or after (CHANNEL, CAMPAIGN), with its bytes put
 * together; valid until the next call. ERR_NOT_FOUND: none. count_reader_first_piece() gives the
 * first piece of its bytes only. Damaged: data NULL.
 */
struct count_node {
    uint16_t channel;
    uint16_t campaign;
    struct span bytes;
};
MUST_CHECK enum err count_reader_first_piece(struct count_reader *reader, enum count_level level,
                                             uint32_t name, int64_t bucket_us, uint16_t channel,
                                             uint16_t campaign, struct count_node *out);
MUST_CHECK enum err count_reader_node(struct count_reader *reader, enum count_level level,
                                      uint32_t name, int64_t bucket_us, uint16_t channel,
                                      uint16_t campaign, struct count_node *out);

/* Gives FN the keys of a bucket's roll-up; none when there is no such roll-up. */
MUST_CHECK enum err count_reader_rollup_keys(struct count_reader *reader, enum count_level level,
                                             uint32_t name, int64_t bucket_us,
                                             void (*fn)(void *arg, struct span key), void *arg);

/* The node after (CHANNEL, CAMPAIGN); false when there can be none. */
bool count_next_node(uint16_t *channel, uint16_t *campaign);

#endif
