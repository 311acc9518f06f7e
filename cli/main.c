/*
 * main.c - picks the subcommand. `serve` is the default.
 */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "core/base.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
};

static const struct command COMMANDS[] = {
    {"serve", command_serve, "run the server (the default)"},
    {"check-config", command_check_config, "check the settings and print the effective ones"},
    {"version", command_version, "print the version"},
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
    struct options options;
    enum err err = options_read(&options, argc, argv, &problem);

    if (err == ERR_OK) {
        options_print(&options, stdout);
    } else {
        fprintf(stderr, "sluice: %.*s\n", (int)problem.len,
                problem.data == NULL ? "" : problem.data);
    }
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
    fputc('\n', out);
    options_help(out);
}

int
main(int argc, char **argv)
{
    const char *name = "serve";
    int skip = 1;

    if (argc > 1 && argv[1][0] != '-') {
        name = argv[1];
        skip = 2;
    }
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            usage(stdout);
            return EXIT_GOOD;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(COMMANDS); i++) {
        if (strcmp(COMMANDS[i].name, name) == 0) {
            return COMMANDS[i].run(argc - skip, argv + skip);
        }
    }
    fprintf(stderr, "sluice: there is no subcommand '%s'; see --help\n", name);
    return EXIT_USAGE;
}
