/*
 * The dashboard's files as they lie in this folder: the assembler reads them in, so what is served
 * is what the editor saw. The paths are relative to the root, where make runs.
 */
#include "http/dashboard.h"

#define EMBED(name, path)                                                                          \
    __asm__(".section .rodata\n"                                                                   \
            ".global " #name "\n" #name ":\n"                                                      \
            ".incbin \"" path "\"\n"                                                               \
            ".global " #name "_end\n" #name "_end:\n"                                              \
            ".byte 0\n"                                                                            \
            ".previous\n");                                                                        \
    extern const char name[];                                                                      \
    extern const char name##_end[]

EMBED(dashboard_page, "http/dashboard.html");
EMBED(dashboard_style, "http/dashboard.css");
EMBED(dashboard_script, "http/dashboard.js");

struct span
dashboard_bytes(enum dashboard_file file)
{
    switch (file) {
    case DASHBOARD_PAGE:
        return (struct span){dashboard_page, (size_t)(dashboard_page_end - dashboard_page)};
    case DASHBOARD_STYLE:
        return (struct span){dashboard_style, (size_t)(dashboard_style_end - dashboard_style)};
    case DASHBOARD_SCRIPT:
        return (struct span){dashboard_script, (size_t)(dashboard_script_end - dashboard_script)};
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
