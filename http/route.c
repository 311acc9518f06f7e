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
    {METHOD_POST, "/events/bulk", AUTH_TENANT, BODY_BULK, handle_bulk, 0},
    {METHOD_POST, "/ingest", AUTH_TENANT, BODY_EVENT, handle_ingest, DECODE_INGEST},
    {METHOD_GET, "/health", AUTH_NONE, BODY_NONE, handle_health, 0},
    {METHOD_GET, "/livez", AUTH_NONE, BODY_NONE, handle_health, 0},
    {METHOD_GET, "/ready", AUTH_NONE, BODY_NONE, handle_ready, 0},
    {METHOD_GET, "/readyz", AUTH_NONE, BODY_NONE, handle_ready, 0},
    {METHOD_GET, "/metrics", AUTH_NONE, BODY_NONE, handle_metrics, 0},
    {METHOD_GET, "/metrics/prometheus", AUTH_NONE, BODY_NONE, handle_metrics, 0},
    {METHOD_GET, "/slo/status", AUTH_TENANT, BODY_NONE, handle_slo_status, 0},
    {METHOD_GET, "/slo/alerts", AUTH_TENANT, BODY_NONE, handle_slo_alerts, 0},
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
