/*
 * alert_file.h - one small file that is always whole: replaced at once, or as it was.
 *
 * Written beside its place, synced, renamed over it, and the directory synced: power loss leaves
 * the old bytes or the new ones. What the bytes mean, and whether they are good, is the caller's
 * business. One thread at a time.
 */
#ifndef SLUICE_CLI_ALERT_FILE_H
#define SLUICE_CLI_ALERT_FILE_H

#include "core/base.h"
#include "core/buffer.h"
#include "core/err.h"

enum {
    ALERT_FILE_BYTES_MAX = 64 << 20
};

/* Appends the whole file to OUT. ERR_NOT_FOUND; ERR_TOO_BIG; ERR_NO_MEMORY; ERR_IO, with errno. */
MUST_CHECK enum err alert_file_read(const char *dir, const char *name, struct buffer *out);

/* ERR_NO_SPACE, ERR_IO, with errno: the former file is still there, or already the new one. */
MUST_CHECK enum err alert_file_write(const char *dir, const char *name, struct span bytes);

#endif
