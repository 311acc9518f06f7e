/*
 * Runs one fuzz target over files, and over all files of folders, without a fuzzing engine:
 *
 *   replay_<target> FILE|FOLDER ...
 *
 * Linked with one fuzz_<target>.c. Each input runs in its own process, so one that aborts is named
 * and the rest still run. Exit codes: 0 all ran, 1 some failed or could not be read, 2 usage.
 */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz/fuzz.h"

enum {
    INPUT_MAX = 64 << 20,
    PATH_SIZE = 4096,
};

struct tally {
    size_t ran;
    size_t failed;
};

/* The heap block is exactly as long as the input, so a sanitizer sees one byte too far. */
static bool
run_file(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = size <= INPUT_MAX ? malloc(size == 0 ? 1 : size) : NULL;
    bool good = file != NULL && data != NULL && fread(data, 1, size, file) == size;

    if (good) {
        LLVMFuzzerTestOneInput(data, size);
    }
    if (file != NULL) {
        fclose(file);
    }
    free(data);
    return good;
}

static void
run_apart(const char *path, size_t size, struct tally *tally)
{
    int status = 1;
    pid_t child;

    fflush(NULL);
    child = fork();
    if (child == 0) {
        exit(run_file(path, size) ? 0 : 1);
    }
    if (child > 0 && waitpid(child, &status, 0) == child && status == 0) {
        tally->ran++;
        return;
    }
    fprintf(stderr, "FAILED %s\n", path);
    tally->failed++;
}

static void run_path(const char *path, bool may_descend, struct tally *tally);

static void
run_folder(const char *path, struct tally *tally)
{
    DIR *folder = opendir(path);
    struct dirent *entry;

    if (folder == NULL) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        tally->failed++;
        return;
    }
    while ((entry = readdir(folder)) != NULL) {
        char name[PATH_SIZE];
        int len = snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);

        if (entry->d_name[0] == '.') {
            continue;
        }
        if (len < 0 || len >= PATH_SIZE) {
            tally->failed++;
            continue;
        }
        run_path(name, false, tally);
    }
    closedir(folder);
}

/* Runs the file PATH, or each file in it; folders inside are left alone. */
static void
run_path(const char *path, bool may_descend, struct tally *tally)
{
    struct stat info;

    if (stat(path, &info) != 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        tally->failed++;
    } else if (!S_ISDIR(info.st_mode)) {
        run_apart(path, (size_t)info.st_size, tally);
    } else if (may_descend) {
        run_folder(path, tally);
    }
}

int
main(int argc, char **argv)
{
    struct tally tally = {0, 0};

    if (argc < 2) {
        fprintf(stderr, "usage: %s FILE|FOLDER ...\n", argv[0]);
        return 2;
    }
    for (int i = 1; i < argc; i++) {
        run_path(argv[i], true, &tally);
    }
    printf("%zu inputs ran, %zu failed\n", tally.ran, tally.failed);
    return tally.failed == 0 ? 0 : 1;
}
