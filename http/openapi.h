/*
 * openapi.h - the description of every route, OpenAPI 3.1, as JSON and as YAML.
 *
 * openapi.json in this folder holds what only a person can say: summaries, shapes, examples. What a
 * table of the program knows is added from that table: the refusals with their codes, texts and
 * headers from problem.h, which of them a route can give from route.h, the version. A route without
 * a description, or a description without a route, fails a test.
 */
#ifndef SLUICE_HTTP_OPENAPI_H
#define SLUICE_HTTP_OPENAPI_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"

enum openapi_form {
    OPENAPI_JSON,
    OPENAPI_YAML,
    OPENAPI_FORMS
};

struct openapi {
    struct buffer text[OPENAPI_FORMS];
};

/* Fills *OUT, zeroed before; release it with openapi_free(), whatever the result. ERR_NO_MEMORY. */
MUST_CHECK enum err openapi_build(struct openapi *out, const char *version);
void openapi_free(struct openapi *openapi);

const char *openapi_type(enum openapi_form form); /* its Content-Type */

#endif
