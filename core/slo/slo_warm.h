/*
 * slo_warm.h - the sums a store of slices keeps for the questions to come, made before anyone asks.
 *
 * The first figures of a service add up all its days, the next ones only what has changed. A server
 * asks for all of them once when it has started.
 */
#ifndef SLUICE_CORE_SLO_WARM_H
#define SLUICE_CORE_SLO_WARM_H

#include "core/base/base.h"
#include "core/slo/objective_set.h"
#include "core/slo/slices.h"
#include "core/slo/slo.h"

/*
 * Works out the figures of every service at NOW_US and forgets them. OBJECTIVES may be NULL;
 * without memory some services are left as they are. Any thread.
 */
void slo_warm_up(struct slices *slices, const struct objective_set *objectives,
                 const struct slo_config *defaults, int64_t now_us);

#endif
