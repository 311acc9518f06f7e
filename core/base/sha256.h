/*
 * sha256.h - SHA-256 of one short text, on the way of every event with an id of its own.
 */
#ifndef SLUICE_CORE_SHA256_H
#define SLUICE_CORE_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum {
    SHA256_SIZE = 32
};

/* FIPS 180-4 over LEN bytes. Cannot fail and takes no memory. Any thread. */
void sha256(const void *bytes, size_t len, uint8_t out[SHA256_SIZE]);

#endif
