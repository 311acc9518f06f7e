/*
 * The documentation page's files as they lie in this folder.
 */
#include "http/docs.h"

#include "http/embed.h"

EMBED(docs_page, "http/docs.html");
EMBED(docs_style, "http/docs.css");
EMBED(docs_script, "http/docs.js");

struct span
docs_bytes(enum docs_file file)
{
    switch (file) {
    case DOCS_PAGE:
        return EMBEDDED(docs_page);
    case DOCS_STYLE:
        return EMBEDDED(docs_style);
    case DOCS_SCRIPT:
        return EMBEDDED(docs_script);
    }
    assert_failed(__FILE__, __LINE__, "a file of the page");
}

const char *
docs_type(enum docs_file file)
{
    switch (file) {
    case DOCS_PAGE:
        return "text/html; charset=utf-8";
    case DOCS_STYLE:
        return "text/css; charset=utf-8";
    case DOCS_SCRIPT:
        return "text/javascript; charset=utf-8";
    }
    assert_failed(__FILE__, __LINE__, "a file of the page");
}
