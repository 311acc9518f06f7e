/*
 * route.h - the one table of routes: routing, Allow, metric labels and body rules come from it.
 *
 * A path is matched as it came: exactly, but for one part in braces, which stands for any one
 * segment that is not empty. HEAD is answered by GET's row. Each row has its description in
 * openapi.json. Any thread.
 */
#ifndef SLUICE_HTTP_ROUTE_H
#define SLUICE_HTTP_ROUTE_H

#include "core/base/base.h"
#include "core/event/decode.h"
#include "http/request.h"

struct exchange;

enum {
    ROUTES_MAX = 64
};

enum route_body {
    BODY_NONE,  /* a body is read and ignored */
    BODY_EVENT, /* one JSON event, at most event_bytes_max */
    BODY_BULK,  /* many, taken while they arrive, at most body_bytes_max */
    BODY_JSON,  /* one document that is no event, at most JSON_BYTES_MAX */
};

/* What a request must show. Without keys configured: nothing, unless there is an admin key. */
enum route_auth {
    AUTH_NONE,
    AUTH_TENANT, /* a tenant's key; the request sees and writes that tenant alone */
    AUTH_ADMIN,  /* the admin's key */
    AUTH_READER, /* a tenant's key, or the admin's, which names the tenant it wants to see */
};

struct route {
    enum request_method method;
    const char *path; /* also the metric label */
    enum route_auth auth;
    enum route_body body;
    void (*handle)(struct exchange *exchange);
    int detail; /* the handler's: which of its variants */
};

extern const struct route ROUTES[];
extern const uint32_t ROUTE_COUNT;

/* The requests of ROUTE bring events. */
static inline bool
route_takes_events(const struct route *route)
{
    return route->body == BODY_EVENT || route->body == BODY_BULK;
}

/*
 * The row for METHOD and PATH, else NULL; *ALLOWED gets a bit per method PATH has (0: no such
 * path), with HEAD and OPTIONS.
 */
const struct route *route_find(enum request_method method, struct span path, uint32_t *allowed);

/* What stands in PATH, which ROUTE was found for, where its row has braces. */
struct span route_parameter(const struct route *route, struct span path);

#endif
