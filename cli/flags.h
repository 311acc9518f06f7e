/*
 * flags.h - flags of one subcommand beside the settings, and its --help, from one table.
 */
#ifndef SLUICE_CLI_FLAGS_H
#define SLUICE_CLI_FLAGS_H

#include <stdio.h>

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"

struct flag {
    const char *name;     /* "--from" */
    const char *argument; /* what --help calls its value; NULL: it takes none */
    const char *help;
};

struct flag_table {
    const struct flag *flags;
    size_t count;
};

/*
 * Takes the flags of TABLE out of ARGV (both "--name value" and "--name=value"), the rest moves up
 * and *ARGC shrinks. VALUES[i] is the value of flag i, "" for one without a value, NULL when it was
 * not given. ERR_INVALID with a sentence in PROBLEM.
 */
MUST_CHECK enum err flags_take(const struct flag_table *table, int *argc, char **argv,
                               const char **values, struct buffer *problem);

/*
 * Takes what is neither a setting nor, behind one without "=", its value out of ARGV into OPERANDS,
 * which has room for *ARGC; the rest moves up and *ARGC shrinks. Returns how many they are.
 */
size_t flags_take_operands(int *argc, char **argv, const char **operands);

/* Reads a sequence number of at least 1. ERR_INVALID with a sentence that names FLAG. */
MUST_CHECK enum err flags_seq(const struct flag *flag, const char *text, uint64_t *out,
                              struct buffer *problem);

/* One line per flag. */
void flags_help(const struct flag_table *table, FILE *out);

#endif
