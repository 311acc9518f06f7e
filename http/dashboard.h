/*
 * dashboard.h - the dashboard's files, built into the binary. Static, any thread.
 */
#ifndef SLUICE_HTTP_DASHBOARD_H
#define SLUICE_HTTP_DASHBOARD_H

#include "core/base/base.h"

enum dashboard_file {
    DASHBOARD_PAGE,
    DASHBOARD_STYLE,
    DASHBOARD_SCRIPT,
};

struct span dashboard_bytes(enum dashboard_file file);
const char *dashboard_type(enum dashboard_file file); /* its Content-Type */

#endif
