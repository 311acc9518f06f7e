/*
 * cors.h - which pages of other origins may use the server from a browser.
 *
 * ORIGINS is CORS_ALLOW_ORIGINS: "*", or origins such as https://app.example.com:8443 separated by
 * commas, compared byte by byte; NULL or "": none. Pure, any thread. No credentials are allowed:
 * keys travel in a header, not in cookies.
 */
#ifndef SLUICE_HTTP_CORS_H
#define SLUICE_HTTP_CORS_H

#include "core/base/base.h"
#include "core/base/buffer.h"

/* What a preflight is told beside its origin; a printf() format that takes the methods. */
#define CORS_PREFLIGHT                                                                             \
    "Access-Control-Allow-Methods: %s\r\n"                                                         \
    "Access-Control-Allow-Headers: Content-Type, Content-Encoding, Idempotency-Key, X-API-Key, "   \
    "X-Request-ID, traceparent\r\n"                                                                \
    "Access-Control-Max-Age: 600\r\n"

/* ORIGINS is "*", or a list of scheme://host[:port] with nothing behind, in lower case. */
bool cors_is_valid(const char *origins);

/* ORIGIN, an Origin header's value, "" when there is none, may read answers. */
bool cors_allows(const char *origins, struct span origin);

/* Appends the header lines an answer to ORIGIN needs; nothing when no origins are configured. */
void cors_write(const char *origins, struct span origin, struct buffer *out);

#endif
