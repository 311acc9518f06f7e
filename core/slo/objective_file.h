/*
 * objective_file.h - the local copy of the definitions: one file, replaced as a whole.
 *
 *   sluice-objectives 1 CRC32C BYTES\n     the checksum (8 hex digits) and length of what follows
 *   {definition}\n                         each as objective_write() writes it
 *   ...
 *
 * A new copy is written beside the old one, made durable, and takes its name: whatever dies in
 * between, one of the two is there, whole. Any thread, one at a time.
 */
#ifndef SLUICE_CORE_OBJECTIVE_FILE_H
#define SLUICE_CORE_OBJECTIVE_FILE_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/slo/objective.h"
#include "core/slo/objective_set.h"

/* ERR_IO, logged, ERR_NO_MEMORY: the old copy is still there. */
MUST_CHECK enum err objective_file_write(const char *path, const struct objective_set *set);

/*
 * Calls FN for each definition. ERR_NOT_FOUND: there is no file; ERR_CORRUPT, ERR_FORMAT (another
 * version), ERR_IO; ERR_NO_MEMORY; FN's first error.
 */
MUST_CHECK enum err objective_file_read(const char *path,
                                        enum err (*fn)(void *arg, const struct objective *),
                                        void *arg);

#endif
