/*
 * One JSON text per line. A line that is whole in the bytes at hand is given where it lies.
 */
#include "core/event/split.h"

static bool
is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct span
trimmed(struct span line)
{
    while (line.len > 0 && is_space(line.data[line.len - 1])) {
        line.len--;
    }
    while (line.len > 0 && is_space(line.data[0])) {
        line = (struct span){line.data + 1, line.len - 1};
    }
    return line;
}

enum split_step
split_lines_next(struct splitter *splitter, struct span *out)
{
    for (;;) {
        const char *start = splitter->at;
        const size_t left = (size_t)(splitter->end - start);
        const char *newline = left == 0 ? NULL : memchr(start, '\n', left);
        struct span line;
        enum split_step step;

        if (newline == NULL && !splitter->ended) {
            return left == 0 ? SPLIT_MORE : split_hold(splitter, start);
        }
        if (newline == NULL && left == 0 && !split_is_holding(splitter)) {
            return SPLIT_DONE;
        }
        splitter->at = newline == NULL ? splitter->end : newline + 1;
        step = split_take(splitter, start, newline == NULL ? splitter->end : newline, &line);
        if (step != SPLIT_ELEMENT) {
            return step;
        }
        *out = trimmed(line);
        if (out->len > 0) {
            return SPLIT_ELEMENT;
        }
        if (splitter->given) {
            splitter->given = false;
            buffer_clear(&splitter->held, SIZE_MAX);
        }
    }
}
