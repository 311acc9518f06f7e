/*
 * fuzz.h - the one function every fuzz target defines, called by libFuzzer or by replay.c.
 */
#ifndef SLUICE_FUZZ_FUZZ_H
#define SLUICE_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Runs the target over one input; always returns 0. A broken promise aborts. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
