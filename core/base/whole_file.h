/*
 * whole_file.h - one small file that is always whole: replaced at once, or as it was.
 *
 * Written beside its place (PATH.new), synced, renamed over it, and the directory synced: power
 * loss leaves the old bytes or the new ones. What the bytes mean, and whether they are good, is the
 * caller's business, as is what to log: errno says why. One thread at a time and file.
 */
#ifndef SLUICE_CORE_WHOLE_FILE_H
#define SLUICE_CORE_WHOLE_FILE_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"

enum {
    WHOLE_FILE_PATH_SIZE = 4096
};

/* Appends the whole file to OUT. ERR_NOT_FOUND; ERR_TOO_BIG: over BYTES_MAX; ERR_NO_MEMORY; ERR_IO.
 */
MUST_CHECK enum err whole_file_read(const char *path, size_t bytes_max, struct buffer *out);

/*
 * Makes the file the PARTS, one after the other. ERR_NO_SPACE, ERR_IO: the former file is still
 * there, or already the new one.
 */
MUST_CHECK enum err whole_file_write(const char *path, const struct span *parts, size_t count);

#endif
