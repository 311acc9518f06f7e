/*
 * thresholds.h - which latency thresholds each service's events are compared with, and since when.
 *
 * An event is counted several times over: into the slices in memory when it is durable, into a
 * batch's slices for the sink and for the log's history later, and perhaps out of memory again. All
 * must compare it with the same thresholds, or subtracting takes what was never added. So a change
 * counts from a sequence number on: the next one that thresholds_begin() sees. What an event is
 * compared with follows from its number alone, for as long as this process lives. A restart starts
 * over with the thresholds of that day for all that is pending, memory being built anew as well.
 *
 * Versions are kept until everything before them is settled. Any thread, but for
 * thresholds_begin().
 */
#ifndef SLUICE_CORE_THRESHOLDS_H
#define SLUICE_CORE_THRESHOLDS_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/slo/slice.h"

struct objective_set;
struct thresholds;

MUST_CHECK enum err thresholds_new(struct thresholds **out);
void thresholds_free(struct thresholds *thresholds); /* NULL allowed */

/*
 * From the next event on the thresholds are those of SET, which is kept (NULL: no service has its
 * own). SETTLED_SEQ: of the events up to it none will be taken out or folded any more.
 * ERR_NO_MEMORY: all stays as it was.
 */
MUST_CHECK enum err thresholds_set(struct thresholds *thresholds, const struct objective_set *set,
                                   uint64_t settled_seq);

/*
 * The event SEQ is the next to be counted: what was set before holds from it on. Called in the
 * order of SEQ, by the one thread that adds events to the slices, before anybody else can know the
 * event.
 */
void thresholds_begin(const struct slice_rules *rules, uint64_t seq);

/* What the event SEQ of a service is compared with: RULES' own, and those of the service. */
struct slice_rules thresholds_of(const struct slice_rules *rules, uint64_t seq, struct span tenant,
                                 struct span service);

#endif
