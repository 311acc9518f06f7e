/*
 * One pass over the lines of the classic text: the two formats differ in the lines about a family,
 * not in its samples, so nobody who writes metrics has to know of both.
 */
#include "http/openmetrics.h"

#include <stdlib.h>
#include <strings.h>

/* ---- Accept ---- */

static struct span
trim(struct span span)
{
    while (span.len > 0 && (span.data[0] == ' ' || span.data[0] == '\t')) {
        span = (struct span){span.data + 1, span.len - 1};
    }
    while (span.len > 0 && (span.data[span.len - 1] == ' ' || span.data[span.len - 1] == '\t')) {
        span.len--;
    }
    return span;
}

/* Takes what is before MARK (or all) off *REST, without blanks around it. */
static struct span
take_until(struct span *rest, char mark)
{
    const char *end = memchr(rest->data, mark, rest->len);
    size_t len = end == NULL ? rest->len : (size_t)(end - rest->data);
    size_t skip = end == NULL ? len : len + 1;
    struct span part = {rest->data, len};

    *rest = (struct span){rest->data + skip, rest->len - skip};
    return trim(part);
}

static bool
is_nocase(struct span span, const char *text)
{
    return span.len == strlen(text) && strncasecmp(span.data, text, span.len) == 0;
}

/* "0.5" as 500; anything odd counts as 1, as if it were not there. */
static int
weight_of(struct span text)
{
    int weight = 0;
    int unit = 1000;

    if (text.len == 0 || text.len > 5 || (text.data[0] != '0' && text.data[0] != '1') ||
        (text.len > 1 && text.data[1] != '.')) {
        return 1000;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (i == 1) {
            continue;
        }
        if (text.data[i] < '0' || text.data[i] > '9') {
            return 1000;
        }
        weight += (text.data[i] - '0') * unit;
        unit /= 10;
    }
    return weight > 1000 ? 1000 : weight;
}

/* The highest weight ACCEPT gives the media range NAME, in thousandths; 0: none. */
static int
weight_in(struct span accept, const char *name)
{
    int best = 0;

    while (accept.len > 0) {
        struct span range = take_until(&accept, ',');
        bool named = range.len > 0 && is_nocase(take_until(&range, ';'), name);
        int weight = 1000;

        while (named && range.len > 0) {
            struct span parameter = take_until(&range, ';');

            if (parameter.len > 2 && (parameter.data[0] | 0x20) == 'q' &&
                parameter.data[1] == '=') {
                weight = weight_of((struct span){parameter.data + 2, parameter.len - 2});
            }
        }
        best = named && weight > best ? weight : best;
    }
    return best;
}

bool
openmetrics_wanted(struct span accept)
{
    int wanted = weight_in(accept, "application/openmetrics-text");

    return wanted > 0 && wanted >= weight_in(accept, "text/plain");
}

/* ---- the text ---- */

static bool
starts_with(struct span span, const char *text)
{
    size_t len = strlen(text);

    return span.len >= len && memcmp(span.data, text, len) == 0;
}

static bool
ends_with(struct span span, const char *text)
{
    size_t len = strlen(text);

    return span.len > len && memcmp(span.data + span.len - len, text, len) == 0;
}

static void
write_about(struct buffer *out, const char *what, struct span family, struct span rest)
{
    buffer_append_text(out, what);
    buffer_append_span(out, family);
    buffer_append_char(out, ' ');
    buffer_append_span(out, rest);
    buffer_append_char(out, '\n');
}

/*
 * The lines about one family. TYPE says whether it is a counter, but stands after HELP: both are
 * written when TYPE comes.
 */
static void
write_family(struct buffer *out, struct span family, struct span type, struct span help)
{
    static const char *const UNITS[] = {"seconds", "bytes", "ratio"};

    if (span_is(type, "counter") && ends_with(family, "_total")) {
        family.len -= sizeof("_total") - 1;
    }
    write_about(out, "# HELP ", family, help);
    write_about(out, "# TYPE ", family, type);
    for (size_t i = 0; i < ARRAY_LEN(UNITS); i++) {
        size_t len = strlen(UNITS[i]);

        if (ends_with(family, UNITS[i]) && family.data[family.len - len - 1] == '_') {
            write_about(out, "# UNIT ", family, span_of(UNITS[i]));
        }
    }
}

/* A sample as it is, but le="1" as le="1.0": bounds are floats here. */
static void
write_sample(struct buffer *out, struct span line)
{
    static const char LE[] = "le=\"";
    const char *at = memmem(line.data, line.len, LE, sizeof(LE) - 1);
    size_t before;
    size_t digits = 0;

    if (at == NULL || at == line.data || (at[-1] != '{' && at[-1] != ',')) {
        buffer_append_span(out, line);
        return;
    }
    before = (size_t)(at - line.data) + sizeof(LE) - 1;
    while (before + digits < line.len && line.data[before + digits] >= '0' &&
           line.data[before + digits] <= '9') {
        digits++;
    }
    buffer_append(out, line.data, before + digits);
    if (digits > 0 && before + digits < line.len && line.data[before + digits] == '"') {
        buffer_append_text(out, ".0");
    }
    buffer_append(out, line.data + before + digits, line.len - before - digits);
}

void
openmetrics_write(struct span classic, struct buffer *out)
{
    struct span help = SPAN_LITERAL("");

    while (classic.len > 0) {
        const char *end = memchr(classic.data, '\n', classic.len);
        size_t len = end == NULL ? classic.len : (size_t)(end - classic.data);
        size_t skip = end == NULL ? len : len + 1;
        struct span line = {classic.data, len};

        classic = (struct span){classic.data + skip, classic.len - skip};
        if (starts_with(line, "# HELP ")) {
            line = (struct span){line.data + 7, line.len - 7};
            (void)take_until(&line, ' ');
            help = line;
        } else if (starts_with(line, "# TYPE ")) {
            struct span family;

            line = (struct span){line.data + 7, line.len - 7};
            family = take_until(&line, ' ');
            write_family(out, family, line, help);
            help = SPAN_LITERAL("");
        } else if (line.len > 0) {
            write_sample(out, line);
            buffer_append_char(out, '\n');
        }
    }
    buffer_append_text(out, "# EOF\n");
}
