/*
 * slo_gate.h - may a service be changed now? What GET /slo/gate answers, for a deployment to ask.
 *
 * Freeze when some objective's error budget is spent, or when one incident took more than a fifth
 * of it. An incident is a run of violations with at most INCIDENT_GAP quiet minutes between two of
 * them, and of at least the objective's min_bad_events. A service that has no events in the window
 * is free to go: nothing speaks against it, and the answer says that nothing speaks for it. Any
 * thread.
 */
#ifndef SLUICE_CORE_SLO_GATE_H
#define SLUICE_CORE_SLO_GATE_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/slo/slo_json.h"

enum slo_gate {
    SLO_GATE_GO,
    SLO_GATE_FREEZE,
    SLO_GATE_UNKNOWN, /* nobody has sent an event of that service, nor defined an objective */
};

#define SLO_GATE_INCIDENT_SHARE 0.2

enum {
    SLO_GATE_INCIDENT_GAP = 5, /* minutes */
};

struct slo_incident {
    int64_t from_minute;
    int64_t to_minute; /* the minute after its last */
    uint64_t bad;
    double share; /* of the objective's budget */
};

/* The incident of the window that took the most; BAD is 0 when there is none. */
struct slo_incident slo_worst_incident(struct slices *slices, struct span tenant,
                                       struct span service, const struct slo_figures *figures,
                                       int64_t end_minute);

/*
 * Decides on request->service and appends the document to OUT (nothing for SLO_GATE_UNKNOWN). Out
 * of memory sets OUT's failed flag.
 */
enum slo_gate slo_gate_json(const struct slo_status_request *request, struct buffer *out);

#endif
