/*
 * objective_set.h - all definitions at one moment: immutable, shared by counting references.
 *
 * Whoever looks at one keeps it meanwhile; a change makes a new one. Any thread.
 */
#ifndef SLUICE_CORE_OBJECTIVE_SET_H
#define SLUICE_CORE_OBJECTIVE_SET_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/slo/objective.h"

enum {
    OBJECTIVES_TOTAL_MAX = 10000,
};

struct objective_set;

/*
 * A set of the COUNT definitions at ITEMS, in any order, copied; the caller holds the one
 * reference. ERR_INVALID: an id twice, or more than SLO_OBJECTIVES_MAX of one service: PROBLEM
 * says. ERR_FULL: more than OBJECTIVES_TOTAL_MAX. ERR_NO_MEMORY. FUTURE_US is what slo_config has
 * of that name.
 */
MUST_CHECK enum err objective_set_new(const struct objective_set **out,
                                      const struct objective *items, size_t count,
                                      int64_t future_us, char problem[OBJECTIVE_PROBLEM_SIZE]);

/* One more reference to SET, and one less. NULL allowed. */
const struct objective_set *objective_set_keep(const struct objective_set *set);
void objective_set_release(const struct objective_set *set);

/* The definitions in the order of objective_compare(). Of NULL there are none. */
size_t objective_set_count(const struct objective_set *set);
const struct objective *objective_set_at(const struct objective_set *set, size_t at);

/* NULL when there is none. */
const struct objective *objective_set_find(const struct objective_set *set, struct span id);

/* The objectives of a service; DEFAULTS when it has no definitions. */
const struct slo_config *objective_set_config(const struct objective_set *set,
                                              const struct slo_config *defaults, struct span tenant,
                                              struct span service);

/* Some service has a latency objective. */
bool objective_set_has_thresholds(const struct objective_set *set);

/* Adds the service's thresholds to RULES, of which there is room for all. */
void objective_set_add_thresholds(const struct objective_set *set, struct span tenant,
                                  struct span service, struct slice_rules *rules);

/* Calls FN for each service of TENANT that has definitions, in the order of names. */
void objective_set_each_service(const struct objective_set *set, struct span tenant,
                                void (*fn)(void *arg, struct span service), void *arg);

/* Calls FN for each service that has definitions, of all tenants, in the order of names. */
void objective_set_each_series(const struct objective_set *set,
                               void (*fn)(void *arg, struct span tenant, struct span service),
                               void *arg);

#endif
