/*
 * docs.h - the page that shows and tries the routes, built into the binary. Static, any thread.
 *
 * The page knows no route: it renders /openapi.json.
 */
#ifndef SLUICE_HTTP_DOCS_H
#define SLUICE_HTTP_DOCS_H

#include "core/base/base.h"

enum docs_file {
    DOCS_PAGE,
    DOCS_STYLE,
    DOCS_SCRIPT,
};

struct span docs_bytes(enum docs_file file);
const char *docs_type(enum docs_file file); /* its Content-Type */

#endif
