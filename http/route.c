/*
 * The table of routes.
 */
#include "http/route.h"

#include "http/dashboard.h"
#include "http/internal.h"

const struct route ROUTES[] = {
    {METHOD_POST, "/events", BODY_EVENT, handle_ingest, DECODE_EVENTS},
    {METHOD_POST, "/events/bulk", BODY_BULK, handle_bulk, 0},
    {METHOD_POST, "/ingest", BODY_EVENT, handle_ingest, DECODE_INGEST},
    {METHOD_GET, "/health", BODY_NONE, handle_health, 0},
    {METHOD_GET, "/livez", BODY_NONE, handle_health, 0},
    {METHOD_GET, "/ready", BODY_NONE, handle_ready, 0},
    {METHOD_GET, "/readyz", BODY_NONE, handle_ready, 0},
    {METHOD_GET, "/metrics", BODY_NONE, handle_metrics, 0},
    {METHOD_GET, "/metrics/prometheus", BODY_NONE, handle_metrics, 0},
    {METHOD_GET, "/slo/status", BODY_NONE, handle_slo_status, 0},
    {METHOD_GET, "/", BODY_NONE, handle_dashboard, DASHBOARD_PAGE},
    {METHOD_GET, "/dashboard.css", BODY_NONE, handle_dashboard, DASHBOARD_STYLE},
    {METHOD_GET, "/dashboard.js", BODY_NONE, handle_dashboard, DASHBOARD_SCRIPT},
};

const uint32_t ROUTE_COUNT = ARRAY_LEN(ROUTES);
_Static_assert(ARRAY_LEN(ROUTES) <= ROUTES_MAX, "the metrics have room for every route");

const struct route *
route_find(enum request_method method, struct span path, uint32_t *allowed)
{
    enum request_method wanted = method == METHOD_HEAD ? METHOD_GET : method;
    const struct route *found = NULL;

    *allowed = 0;
    for (uint32_t i = 0; i < ROUTE_COUNT; i++) {
        if (!span_is(path, ROUTES[i].path)) {
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
