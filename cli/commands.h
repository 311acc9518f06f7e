/*
 * commands.h - the subcommands. Each takes the arguments after its name and returns the exit code:
 * 0 good, 1 found something wrong or failed, 2 usage or configuration.
 */
#ifndef SLUICE_CLI_COMMANDS_H
#define SLUICE_CLI_COMMANDS_H

#include "cli/flags.h"

#define SLUICE_VERSION "0.1.0"

enum {
    EXIT_GOOD = 0,
    EXIT_WRONG = 1,
    EXIT_USAGE = 2,
};

int command_serve(int argc, char **argv);
int command_check_config(int argc, char **argv);
int command_inspect(int argc, char **argv);
int command_cat(int argc, char **argv);
int command_verify(int argc, char **argv);
int command_dead_letters(int argc, char **argv);
int command_import(int argc, char **argv);
int command_version(int argc, char **argv);

/* Flags a subcommand has beside the settings. */
extern const struct flag_table INSPECT_FLAGS;
extern const struct flag_table CAT_FLAGS;
extern const struct flag_table VERIFY_FLAGS;
extern const struct flag_table DEAD_LETTERS_FLAGS;
extern const struct flag_table IMPORT_FLAGS;

#endif
