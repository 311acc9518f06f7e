#include "cli/flags.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

/* The flag ARG is, with or without "=value"; COUNT when none. */
static size_t
find(const struct flag *flags, size_t count, const char *arg)
{
    const size_t len = strcspn(arg, "=");
    size_t i = 0;

    while (i < count && (strlen(flags[i].name) != len || strncmp(flags[i].name, arg, len) != 0)) {
        i++;
    }
    return i;
}

enum err
flags_take(const struct flag_table *table, int *argc, char **argv, const char **values,
           struct buffer *problem)
{
    const struct flag *flags = table->flags;
    const size_t count = table->count;
    int kept = 0;

    for (size_t i = 0; i < count; i++) {
        values[i] = NULL;
    }
    for (int at = 0; at < *argc; at++) {
        const size_t i = find(flags, count, argv[at]);
        const char *equals = strchr(argv[at], '=');

        if (i == count) {
            argv[kept++] = argv[at];
        } else if (flags[i].argument == NULL) {
            if (equals != NULL) {
                buffer_printf(problem, "%s takes no value", flags[i].name);
                return ERR_INVALID;
            }
            values[i] = "";
        } else if (equals != NULL) {
            values[i] = equals + 1;
        } else if (++at < *argc) {
            values[i] = argv[at];
        } else {
            buffer_printf(problem, "%s needs a value", flags[i].name);
            return ERR_INVALID;
        }
    }
    *argc = kept;
    return ERR_OK;
}

size_t
flags_take_operands(int *argc, char **argv, const char **operands)
{
    size_t count = 0;
    int kept = 0;

    for (int i = 0; i < *argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0) {
            operands[count++] = argv[i];
            continue;
        }
        argv[kept++] = argv[i];
        if (strchr(argv[i], '=') == NULL && i + 1 < *argc) {
            argv[kept++] = argv[++i];
        }
    }
    *argc = kept;
    return count;
}

enum err
flags_seq(const struct flag *flag, const char *text, uint64_t *out, struct buffer *problem)
{
    char *end = NULL;

    errno = 0;
    if (isdigit((unsigned char)text[0])) {
        *out = strtoull(text, &end, 10);
    }
    if (end == NULL || *end != '\0' || errno != 0 || *out == 0) {
        buffer_printf(problem, "%s must be a sequence number of at least 1, not '%s'", flag->name,
                      text);
        return ERR_INVALID;
    }
    return ERR_OK;
}

void
flags_help(const struct flag_table *table, FILE *out)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct flag *flag = &table->flags[i];
        char name[48];

        snprintf(name, sizeof(name), "%s%s%s", flag->name, flag->argument == NULL ? "" : "=",
                 flag->argument == NULL ? "" : flag->argument);
        fprintf(out, "  %-24s %s\n", name, flag->help);
    }
}
