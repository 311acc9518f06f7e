/*
 * event_zones.h - which times, names and users each stretch of the log may hold, so that a page of
 * events reads the stretches that can have a part in it and no others.
 *
 * A stretch is a stripe of sequence numbers (journal.h), and so of one partition. Of each the zones
 * know the least and the greatest occurred_at and, in a few bits, which tenants and names; 48 bytes
 * per JOURNAL_STRIPE records, for the newest ZONES_MAX stripes; of the newest ZONES_USERS_MAX also,
 * in 1 KB and with one wrong yes in 30, which users. A stripe not all of whose records
 * were given, as around a start or before it, is not known and counts as one that may hold
 * anything: what is wrong here costs time and never an event.
 *
 * Events come about in the order of their times, mostly; then a page is a stripe or two however
 * much is pending. Where they do not, as in an import out of order, stripes overlap and more of
 * them are read.
 *
 * Threads: event_zones_add() is the committer's (at start, whoever loads the log); the rest any.
 */
#ifndef SLUICE_CORE_EVENT_ZONES_H
#define SLUICE_CORE_EVENT_ZONES_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/event/event.h"
#include "core/journal.h"
#include "core/query/archive_store.h"

enum {
    ZONES_MAX = 1 << 17,       /* 134 million records; 6 MB when all are in use */
    ZONES_USERS_MAX = 1 << 14, /* 16 million; 16 MB */
};

struct event_zones;

MUST_CHECK enum err event_zones_new(struct event_zones **out);
void event_zones_free(struct event_zones *zones); /* NULL allowed */

/* Record SEQ, before anybody can know that it is durable. SEQ rises. */
void event_zones_add(struct event_zones *zones, uint64_t seq, const struct event *event);

/* Records FROM_SEQ to TO_SEQ; not known: the times are INT64_MIN and INT64_MAX. */
struct event_zone {
    uint64_t from_seq;
    uint64_t to_seq;
    int64_t least_us;
    int64_t most_us;
};

/*
 * The stretches of SCAN up to TO_SEQ, which is durable, that may hold events of FILTER (of which
 * the tenant, the name, the user and the times are looked at), in the order of their numbers;
 * free() the array. ERR_NO_MEMORY.
 */
MUST_CHECK enum err event_zones_find(struct event_zones *zones, const struct journal_scan *scan,
                                     uint32_t partitions, uint64_t to_seq,
                                     const struct archive_filter *filter, struct event_zone **out,
                                     size_t *count_out);

#endif
