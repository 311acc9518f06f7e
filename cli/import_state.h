/*
 * import_state.h - how far an import has come, in a small file beside its input.
 *
 * Written whole after each bulk the server has answered (new file, fsync, rename, fsync of the
 * directory), so a kill at any moment leaves the old state or the new one. It may be behind what
 * the server has stored by the one bulk whose answer was on its way; that one is sent again with
 * the same ids.
 */
#ifndef SLUICE_CLI_IMPORT_STATE_H
#define SLUICE_CLI_IMPORT_STATE_H

#include "cli/import_file.h"

enum {
    IMPORT_NAME_MAX = 200, /* bytes of what ids begin with */
    IMPORT_URL_MAX = 1000,
};

struct import_state {
    struct import_identity identity;
    char name[IMPORT_NAME_MAX + 1]; /* what ids begin with */
    char url[IMPORT_URL_MAX + 1];   /* of the server that has the events before PLACE */
    struct import_place place;
    uint64_t accepted; /* duplicates among them */
    uint64_t duplicates;
    uint64_t rejected;
    uint64_t rejects_bytes; /* of the file of rejects: what is behind was written by a killed run */
    bool done;
};

/* ERR_NOT_FOUND when there is none; after any other error a sentence is in PROBLEM. */
MUST_CHECK enum err import_state_load(const char *path, struct import_state *out,
                                      struct buffer *problem);

/* On stable storage when it returns ERR_OK; else a sentence is in PROBLEM. */
MUST_CHECK enum err import_state_save(const char *path, const struct import_state *state,
                                      struct buffer *problem);

#endif
