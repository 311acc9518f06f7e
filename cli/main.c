/*
 * main.c - picks the subcommand. `serve` is the default.
 */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "core/base/base.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const struct flag_table *flags; /* NULL: none of its own */
    const char *settings;           /* as for options_help() */
    const char *help;
};

static const struct command COMMANDS[] = {
    {"serve", command_serve, NULL, NULL, "run the server (the default)"},
    {"check-config", command_check_config, NULL, NULL,
     "check the settings and print the effective ones"},
    {"inspect", command_inspect, &INSPECT_FLAGS, "WAL_DIR",
     "show what the log holds; also beside a live server"},
    {"cat", command_cat, &CAT_FLAGS, "WAL_DIR",
     "print the log's events, one JSON object per line; also beside a live server"},
    {"verify", command_verify, &VERIFY_FLAGS, "WAL_DIR DB_",
     "check all the log holds, and that nothing is lost on the way to MySQL; also beside a live "
     "server"},
    {"dead-letters", command_dead_letters, &DEAD_LETTERS_FLAGS, "DB_",
     "list, show, replay or discard events that MySQL refused; also beside a live server"},
    {"import", command_import, &IMPORT_FLAGS, "HTTP_PORT MAX_EVENT_BYTES MAX_BULK_EVENTS",
     "send the events of FILE.csv, FILE.ndjson or - (stdin) to a running server, each once; "
     "killed, "
     "it goes on where it was"},
    {"version", command_version, NULL, "", "print the version"},
};

int
command_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("sluice %s\n", SLUICE_VERSION);
    return EXIT_GOOD;
}

int
command_check_config(int argc, char **argv)
{
    struct buffer problem = BUFFER_EMPTY;
    struct tenants *tenants = NULL;
    struct tls *tls = NULL;
    struct options options;
    enum err err = options_read(&options, argc, argv, &problem);

    if (err == ERR_OK) {
        err = options_tenants(&options, clock_system(), &tenants, &problem);
    }
    if (err == ERR_OK) {
        err = options_tls(&options, &tls, &problem);
    }
    if (err == ERR_OK) {
        options_print(&options, stdout);
    } else {
        fprintf(stderr, "sluice: %.*s\n", (int)problem.len,
                problem.data == NULL ? "" : problem.data);
    }
    tls_close(tls);
    tenants_free(tenants);
    options_free(&options);
    buffer_free(&problem);
    return err == ERR_OK ? EXIT_GOOD : EXIT_USAGE;
}

static void
usage(FILE *out)
{
    fputs("usage: sluice [SUBCOMMAND] [--setting=value ...]\n\n", out);
    for (size_t i = 0; i < ARRAY_LEN(COMMANDS); i++) {
        fprintf(out, "  %-14s %s\n", COMMANDS[i].name, COMMANDS[i].help);
    }
    fputs("\nsluice SUBCOMMAND --help tells of its own flags.\n\n", out);
    options_help(out, NULL);
}

/* What stands behind the name, beside flags. */
static const char *
operands_of(const struct command *command)
{
    if (command->run == command_dead_letters) {
        return " list|show|replay|discard [ID ...]";
    }
    return command->run == command_import ? " FILE" : "";
}

static void
usage_of(const struct command *command, FILE *out)
{
    fprintf(out, "usage: sluice %s%s%s%s\n\n%s\n\n", command->name, operands_of(command),
            command->flags == NULL ? "" : " [FLAG ...]",
            command->settings != NULL && command->settings[0] == '\0' ? ""
                                                                      : " [--setting=value ...]",
            command->help);
    if (command->flags != NULL) {
        fputs("Flags:\n\n", out);
        flags_help(command->flags, out);
        fputc('\n', out);
    }
    options_help(out, command->settings);
}

static const struct command *
find_command(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(COMMANDS); i++) {
        if (strcmp(COMMANDS[i].name, name) == 0) {
            return &COMMANDS[i];
        }
    }
    return NULL;
}

int
main(int argc, char **argv)
{
    const bool named = argc > 1 && argv[1][0] != '-';
    const char *name = named ? argv[1] : "serve";
    const int skip = named ? 2 : 1;
    const struct command *command = find_command(name);

    if (command == NULL) {
        fprintf(stderr, "sluice: there is no subcommand '%s'; see --help\n", name);
        return EXIT_USAGE;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        return command_version(0, NULL);
    }
    for (int i = skip; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            if (named) {
                usage_of(command, stdout);
            } else {
                usage(stdout);
            }
            return EXIT_GOOD;
        }
    }
    return command->run(argc - skip, argv + skip);
}
