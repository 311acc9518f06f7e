/*
 * timezone.h - IANA time zones by name: how far local time is from UTC, and until when.
 *
 * A reader of our own for the system's tzdata (TZif of RFC 8536, version 2 and later, with the
 * POSIX rule at its end for the years the table does not reach). libc's would need the process's TZ
 * variable, which is one for all threads. A zone is read when it is asked for and not kept: that
 * costs less than any answer it is for, holds no memory, and an updated tzdata counts at once.
 *
 * The struct is not called timezone because libc has one of that name. A zone does not change and
 * any thread may use it.
 */
#ifndef SLUICE_CORE_TIMEZONE_H
#define SLUICE_CORE_TIMEZONE_H

#include "core/base/base.h"
#include "core/base/err.h"

#define TIMEZONE_DIR "/usr/share/zoneinfo"

enum {
    TIMEZONE_BYTES_MAX = 64 * 1024, /* of one file; the largest of tzdata has 4 KiB */
    TIMEZONE_NAME_MAX = 64,
};

struct time_zone;

/*
 * The zone NAME ("Europe/Berlin") out of DIR; free it with timezone_free(). UTC needs no file.
 * ERR_NOT_FOUND: no zone has that name, or it is no name at all (a path out of DIR);
 * ERR_CORRUPT: the file is not one timezone_parse() takes; ERR_IO; ERR_NO_MEMORY.
 */
MUST_CHECK enum err timezone_load(const char *dir, struct span name, struct time_zone **out);

/*
 * A file's bytes. ERR_CORRUPT when they are anything but one whole TZif file of version 2 or later;
 * also when it counts leap seconds, which the timestamps here do not. ERR_NO_MEMORY.
 */
MUST_CHECK enum err timezone_parse(struct span bytes, struct time_zone **out);

/* NULL allowed. */
void timezone_free(struct time_zone *zone);

/*
 * Seconds east of UTC at the instant UTC_S, which is within timestamp.h's years. *UNTIL_S: the same
 * holds for every later instant before that one (it need not change there); INT64_MAX: for ever.
 */
int32_t timezone_offset_s(const struct time_zone *zone, int64_t utc_s, int64_t *until_s);

#endif
