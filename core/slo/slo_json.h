/*
 * slo_json.h - the document GET /slo/status answers with.
 *
 * Services are listed worst first: by health, then by the least error budget remaining, then by
 * name. Figures are the present ones, of one tenant. NAN becomes null. A service that has
 * definitions is listed also before its first event.
 */
#ifndef SLUICE_CORE_SLO_JSON_H
#define SLUICE_CORE_SLO_JSON_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/slo/alerts.h"
#include "core/slo/objective_set.h"
#include "core/slo/slices.h"
#include "core/slo/slo.h"

struct slo_status_request {
    struct slices *slices;
    struct alerts *alerts;                  /* NULL: none are listed */
    const struct slo_config *config;        /* of services without definitions */
    const struct objective_set *objectives; /* the definitions; NULL: none */
    struct span tenant;
    struct span service; /* absent: all services of the tenant */
    int64_t now_us;
    bool degraded;           /* the history may be older than now_us */
    uint64_t pending_events; /* in the log, not yet in the sink */
};

/*
 * Appends the document to OUT. A service nobody has sent events for: "services" is empty and
 * "health" is no_data. Out of memory sets OUT's failed flag, and its content is then useless. Any
 * thread.
 */
void slo_status_json(const struct slo_status_request *request, struct buffer *out);

#endif
