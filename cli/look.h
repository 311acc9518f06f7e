/*
 * look.h - what the commands that only look have in common: flags, settings, and a child process
 * that may die.
 *
 * LMDB 0.9 trusts its pages: a damaged one can make it fault. So the looking is done in a child; if
 * that ends by a signal of that kind the command says where it was, and that the file is damaged.
 */
#ifndef SLUICE_CLI_LOOK_H
#define SLUICE_CLI_LOOK_H

#include "cli/flags.h"
#include "cli/options.h"
#include "wal/inspect.h"

enum {
    LOOK_FLAGS_MAX = 4
};

struct look {
    const char *name; /* of the subcommand, begins each sentence on stderr */
    struct options options;
    const char *value[LOOK_FLAGS_MAX]; /* as flags_take() gives them */
    struct log_view *view;             /* open while the body runs */
};

/*
 * Reads FLAGS and the settings, opens the log in a child process and runs BODY there, which returns
 * the exit code. CHECK (NULL allowed) may refuse flag values before, in the parent. Returns the
 * command's exit code.
 */
int look_run(const char *name, const struct flag_table *flags, int argc, char **argv,
             enum err (*check)(struct look *look, void *arg, struct buffer *problem),
             int (*body)(struct look *look, void *arg), void *arg);

/* Prints "sluice NAME: PROBLEM" on stderr; EXIT_USAGE when the settings name no readable log, else
 * EXIT_WRONG. */
int look_failed(const struct look *look, enum err err, const struct buffer *problem);

/* Flushes stdout; EXIT_WRONG, with a sentence, instead of CODE when something was not written. */
int look_finish_output(const struct look *look, int code);

#endif
