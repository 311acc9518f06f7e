/*
 * uuid.h - UUIDs of RFC 9562: version 4 (random) for node ids, version 7 (time-ordered) for events.
 */
#ifndef SLUICE_CORE_UUID_H
#define SLUICE_CORE_UUID_H

#include <stddef.h>
#include <stdint.h>

enum {
    UUID_SIZE = 16,
    UUID_TEXT_SIZE = 37 /* with the NUL */
};

/* Fills OUT with bytes from the kernel's generator; aborts when there is none. Any thread. */
void random_bytes(void *out, size_t len);

void uuid_v4(uint8_t out[UUID_SIZE]);

/* Lower-case 8-4-4-4-12 form. */
void uuid_text(const uint8_t uuid[UUID_SIZE], char out[UUID_TEXT_SIZE]);

/*
 * A version 7 UUID as text. Random bits come from a per-thread pool, so a call costs no system call
 * as a rule. Any thread.
 */
void uuid_v7_text(int64_t unix_ms, char out[UUID_TEXT_SIZE]);

#endif
