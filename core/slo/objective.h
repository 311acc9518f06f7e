/*
 * objective.h - the definition of one objective: what the API takes and gives, in JSON, checked.
 *
 *   {"id":"checkout-fast","tenant":"acme","service_name":"checkout","slo_type":"latency",
 *    "slo_value":0.95,"threshold_ms":300,"window":"7d","min_bad_events":5}
 *
 * Pure functions. Any thread.
 */
#ifndef SLUICE_CORE_OBJECTIVE_H
#define SLUICE_CORE_OBJECTIVE_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"
#include "core/slo/slo.h"

enum {
    OBJECTIVE_NAME_SIZE = 256, /* of a tenant or a service, with the NUL */
    OBJECTIVE_ACTOR_SIZE = 128,
    OBJECTIVE_BODY_MAX = 16 * 1024,
    OBJECTIVE_PROBLEM_SIZE = 200,
    OBJECTIVE_STATUS_SIZE = 96, /* a status rule as text */
    OBJECTIVE_WINDOW_SIZE = 32, /* a window as text */
};

struct objective {
    struct slo_objective slo;
    char tenant[OBJECTIVE_NAME_SIZE];
    char service[OBJECTIVE_NAME_SIZE];
    uint32_t version; /* 1 when made, one more with each change */
    int64_t created_us;
    int64_t updated_us;
    char updated_by[OBJECTIVE_ACTOR_SIZE]; /* who: "admin" or "anyone", and the request's id */
};

/* Order of definitions: tenant, service, id. */
int objective_compare(const struct objective *a, const struct objective *b);

/*
 * Fills *OUT from a JSON object. Members: service_name, slo_type, slo_value (also called service,
 * type, target), threshold_ms with latency, good_status with availability, window or windows_days,
 * time_zone with a calendar window, min_bad_events, and id, tenant and version, which are left
 * empty when missing. Members that only an answer has are passed over, so that what was read can be
 * sent back.
 * ERR_INVALID: a sentence is in PROBLEM. ERR_NO_MEMORY.
 */
MUST_CHECK enum err objective_read(struct span json, struct objective *out,
                                   char problem[OBJECTIVE_PROBLEM_SIZE]);

/* The same with the members only the server sets: what objective_write() has written. */
MUST_CHECK enum err objective_read_stored(struct span json, struct objective *out,
                                          char problem[OBJECTIVE_PROBLEM_SIZE]);

/* True when every member is within its bounds, as objective_read() leaves them; else *WHY says. */
bool objective_is_valid(const struct objective *objective, const char **why);

void objective_write(struct buffer *out, const struct objective *objective);

/* 1-63 of A-Z a-z 0-9 . _ -, and not of the names kept for the defaults. */
bool objective_id_is_valid(struct span id);

/* lt500, lt400 or ranges such as 200-299,404. ERR_INVALID. */
MUST_CHECK enum err objective_parse_status(struct span text, struct slice_status_rule *out);
void objective_status_text(const struct slice_status_rule *rule, char out[OBJECTIVE_STATUS_SIZE]);

/* 1h to 90d, week or month. ERR_INVALID. */
MUST_CHECK enum err objective_parse_window(struct span text, enum slo_window *window,
                                           int64_t *minutes);
void objective_window_text(const struct slo_objective *slo, char out[OBJECTIVE_WINDOW_SIZE]);

#endif
