/*
 * The dashboard's files as they lie in this folder.
 */
#include "http/dashboard.h"

#include "http/embed.h"

EMBED(dashboard_page, "http/dashboard.html");
EMBED(dashboard_style, "http/dashboard.css");
EMBED(dashboard_script, "http/dashboard.js");

struct span
dashboard_bytes(enum dashboard_file file)
{
    switch (file) {
    case DASHBOARD_PAGE:
        return EMBEDDED(dashboard_page);
    case DASHBOARD_STYLE:
        return EMBEDDED(dashboard_style);
    case DASHBOARD_SCRIPT:
        return EMBEDDED(dashboard_script);
    }
    assert_failed(__FILE__, __LINE__, "a dashboard file");
}

const char *
dashboard_type(enum dashboard_file file)
{
    switch (file) {
    case DASHBOARD_PAGE:
        return "text/html; charset=utf-8";
    case DASHBOARD_STYLE:
        return "text/css; charset=utf-8";
    case DASHBOARD_SCRIPT:
        return "text/javascript; charset=utf-8";
    }
    assert_failed(__FILE__, __LINE__, "a dashboard file");
}
