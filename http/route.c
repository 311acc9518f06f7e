/*
 * The table of routes.
 */
#include "http/route.h"

#include "http/dashboard.h"
#include "http/docs.h"
#include "http/internal.h"
#include "http/openapi.h"

const struct route ROUTES[] = {
    {METHOD_POST, "/events", AUTH_TENANT, BODY_EVENT, handle_ingest, DECODE_EVENTS},
    {METHOD_GET, "/events", AUTH_TENANT, BODY_NONE, handle_events, 0},
    {METHOD_POST, "/events/bulk", AUTH_TENANT, BODY_BULK, handle_bulk, 0},
    {METHOD_POST, "/ingest", AUTH_TENANT, BODY_EVENT, handle_ingest, DECODE_INGEST},
    {METHOD_GET, "/health", AUTH_NONE, BODY_NONE, handle_health, 0},
    {METHOD_GET, "/livez", AUTH_NONE, BODY_NONE, handle_health, 0},
    {METHOD_GET, "/ready", AUTH_NONE, BODY_NONE, handle_ready, 0},
    {METHOD_GET, "/readyz", AUTH_NONE, BODY_NONE, handle_ready, 0},
    {METHOD_GET, "/metrics", AUTH_NONE, BODY_NONE, handle_metrics, METRICS_OR_COUNTS},
    {METHOD_GET, "/metrics/prometheus", AUTH_NONE, BODY_NONE, handle_metrics, METRICS_ALONE},
    {METHOD_GET, "/v1/counts", AUTH_TENANT, BODY_NONE, handle_counts, 0},
    {METHOD_GET, "/events/names", AUTH_TENANT, BODY_NONE, handle_names, 0},
    {METHOD_GET, "/slo/status", AUTH_READER, BODY_NONE, handle_slo_status, 0},
    {METHOD_GET, "/slo/alerts", AUTH_READER, BODY_NONE, handle_slo_alerts, 0},
    {METHOD_GET, "/slo/windows", AUTH_READER, BODY_NONE, handle_slo_windows, 0},
    {METHOD_GET, "/slo/gate", AUTH_READER, BODY_NONE, handle_slo_gate, 0},
    {METHOD_GET, "/slo/objectives", AUTH_READER, BODY_NONE, handle_objectives_list, 0},
    {METHOD_POST, "/slo/objectives", AUTH_ADMIN, BODY_JSON, handle_objective_create, 0},
    {METHOD_GET, "/slo/objectives/{id}", AUTH_READER, BODY_NONE, handle_objective_get, 0},
    {METHOD_PUT, "/slo/objectives/{id}", AUTH_ADMIN, BODY_JSON, handle_objective_put, 0},
    {METHOD_DELETE, "/slo/objectives/{id}", AUTH_ADMIN, BODY_NONE, handle_objective_delete, 0},
    {METHOD_GET, "/dead-letters", AUTH_ADMIN, BODY_NONE, handle_dead_letters, 0},
    {METHOD_POST, "/dead-letters/{id}/replay", AUTH_ADMIN, BODY_NONE, handle_dead_letter_replay, 0},
    {METHOD_DELETE, "/dead-letters/{id}", AUTH_ADMIN, BODY_NONE, handle_dead_letter_discard, 0},
    {METHOD_GET, "/openapi.json", AUTH_NONE, BODY_NONE, handle_openapi, OPENAPI_JSON},
    {METHOD_GET, "/openapi.yaml", AUTH_NONE, BODY_NONE, handle_openapi, OPENAPI_YAML},
    {METHOD_GET, "/docs", AUTH_NONE, BODY_NONE, handle_docs, DOCS_PAGE},
    {METHOD_GET, "/docs/index.html", AUTH_NONE, BODY_NONE, handle_docs, DOCS_PAGE},
    {METHOD_GET, "/docs/doc.json", AUTH_NONE, BODY_NONE, handle_openapi, OPENAPI_JSON},
    {METHOD_GET, "/docs.css", AUTH_NONE, BODY_NONE, handle_docs, DOCS_STYLE},
    {METHOD_GET, "/docs.js", AUTH_NONE, BODY_NONE, handle_docs, DOCS_SCRIPT},
    {METHOD_GET, "/", AUTH_NONE, BODY_NONE, handle_dashboard, DASHBOARD_PAGE},
    {METHOD_GET, "/dashboard.css", AUTH_NONE, BODY_NONE, handle_dashboard, DASHBOARD_STYLE},
    {METHOD_GET, "/dashboard.js", AUTH_NONE, BODY_NONE, handle_dashboard, DASHBOARD_SCRIPT},
};

const uint32_t ROUTE_COUNT = ARRAY_LEN(ROUTES);
_Static_assert(ARRAY_LEN(ROUTES) <= ROUTES_MAX, "the metrics have room for every route");

/* A row's path, cut at its braces; AFTER is NULL when it has none. */
struct pattern {
    struct span before;
    struct span after;
};

static struct pattern
pattern_of(const char *path)
{
    const char *open = strchr(path, '{');
    const char *end = open == NULL ? NULL : strchr(open, '}');

    if (open == NULL) {
        return (struct pattern){span_of(path), {NULL, 0}};
    }
    ASSERT(end != NULL);
    return (struct pattern){{path, (size_t)(open - path)}, span_of(end + 1)};
}

/* What the braces stand for in PATH; absent when it is not of this pattern. */
static struct span
parameter_of(const struct pattern *pattern, struct span path)
{
    struct span parameter;

    if (path.len <= pattern->before.len + pattern->after.len ||
        memcmp(path.data, pattern->before.data, pattern->before.len) != 0 ||
        !span_equal((struct span){path.data + path.len - pattern->after.len, pattern->after.len},
                    pattern->after)) {
        return (struct span){NULL, 0};
    }
    parameter = (struct span){path.data + pattern->before.len,
                              path.len - pattern->before.len - pattern->after.len};
    return memchr(parameter.data, '/', parameter.len) == NULL ? parameter : (struct span){NULL, 0};
}

static bool
is_of_route(const struct route *route, struct span path)
{
    const struct pattern pattern = pattern_of(route->path);

    return pattern.after.data == NULL ? span_equal(path, pattern.before)
                                      : parameter_of(&pattern, path).data != NULL;
}

struct span
route_parameter(const struct route *route, struct span path)
{
    const struct pattern pattern = pattern_of(route->path);

    ASSERT(pattern.after.data != NULL);
    return parameter_of(&pattern, path);
}

const struct route *
route_find(enum request_method method, struct span path, uint32_t *allowed)
{
    enum request_method wanted = method == METHOD_HEAD ? METHOD_GET : method;
    const struct route *found = NULL;

    *allowed = 0;
    for (uint32_t i = 0; i < ROUTE_COUNT; i++) {
        if (!is_of_route(&ROUTES[i], path)) {
            continue;
        }
        *allowed |= 1U << ROUTES[i].method | 1U << METHOD_OPTIONS;
        if (ROUTES[i].method == METHOD_GET) {
            *allowed |= 1U << METHOD_HEAD;
        }
        if (ROUTES[i].method == wanted) {
            found = &ROUTES[i];
        }
    }
    return found;
}
