#include "http/cors.h"

#include <ctype.h>

#define EXPOSED                                                                                    \
    "Access-Control-Expose-Headers: X-Request-ID, Retry-After, Allow, RateLimit, RateLimit-Policy" \
    "\r\n"

static bool
is_any(const char *origins)
{
    return strcmp(origins, "*") == 0;
}

/* The list's next origin without blanks around it; false at its end. */
static bool
next_origin(const char **list, struct span *out)
{
    size_t len;
    const char *at = *list;

    if (at == NULL) {
        return false;
    }
    at += strspn(at, " \t");
    len = strcspn(at, ",");
    *list = at[len] == ',' ? at + len + 1 : NULL;
    while (len > 0 && (at[len - 1] == ' ' || at[len - 1] == '\t')) {
        len--;
    }
    *out = (struct span){at, len};
    return true;
}

static bool
is_origin(struct span text)
{
    const char *mark = memmem(text.data, text.len, "://", 3);
    size_t host_at;

    if (mark == NULL || mark == text.data) {
        return false;
    }
    host_at = (size_t)(mark - text.data) + 3;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];

        if (i >= host_at ? !(islower(c) || isdigit(c) || strchr(".-_:[]", c) != NULL)
                         : !(islower(c) || isdigit(c) || strchr("+-.:/", c) != NULL)) {
            return false;
        }
    }
    return host_at < text.len;
}

bool
cors_is_valid(const char *origins)
{
    struct span origin;

    if (is_any(origins)) {
        return true;
    }
    while (next_origin(&origins, &origin)) {
        if (!is_origin(origin)) {
            return false;
        }
    }
    return true;
}

bool
cors_allows(const char *origins, struct span origin)
{
    struct span allowed;

    if (origins == NULL || origin.len == 0) {
        return false;
    }
    if (is_any(origins)) {
        return true;
    }
    while (next_origin(&origins, &allowed)) {
        if (span_equal(allowed, origin)) {
            return true;
        }
    }
    return false;
}

void
cors_write(const char *origins, struct span origin, struct buffer *out)
{
    if (origins == NULL || origins[0] == '\0') {
        return;
    }
    if (is_any(origins)) {
        buffer_append_text(out, "Access-Control-Allow-Origin: *\r\n" EXPOSED);
        return;
    }
    /* Also when it is not allowed: a cache must not give this answer to one that is. */
    buffer_append_text(out, "Vary: Origin\r\n");
    if (cors_allows(origins, origin)) {
        buffer_append_text(out, "Access-Control-Allow-Origin: ");
        buffer_append_span(out, origin);
        buffer_append_text(out, "\r\n" EXPOSED);
    }
}
