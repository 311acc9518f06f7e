/*
 * embed.h - a file of this folder as bytes of the binary: the assembler reads it in, so what is
 * served is what the editor saw. Paths are relative to the root, where make runs.
 */
#ifndef SLUICE_HTTP_EMBED_H
#define SLUICE_HTTP_EMBED_H

#include "core/base/base.h"

/* Makes EMBEDDED(name) of the file at PATH; NAME is unique in the program. */
#define EMBED(name, path)                                                                          \
    __asm__(".section .rodata\n"                                                                   \
            ".global " #name "\n" #name ":\n"                                                      \
            ".incbin \"" path "\"\n"                                                               \
            ".global " #name "_end\n" #name "_end:\n"                                              \
            ".byte 0\n"                                                                            \
            ".previous\n");                                                                        \
    extern const char name[];                                                                      \
    extern const char name##_end[]

/* The bytes as a span; a zero byte stands behind them. */
#define EMBEDDED(name) ((struct span){name, (size_t)(name##_end - name)})

#endif
