#include "core/base/base.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void
assert_failed(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, condition);
    abort();
}

static uint64_t
hash_bytes(uint64_t hash, struct span bytes)
{
    hash ^= bytes.len;
    for (size_t i = 0; i < bytes.len; i++) {
        hash = (hash ^ (uint8_t)bytes.data[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/* FNV-1a's low bits are its good ones; folding the high half in keeps a mask of few bits even. */
uint64_t
span_pair_hash(struct span first, struct span second)
{
    uint64_t hash = hash_bytes(hash_bytes(UINT64_C(0xcbf29ce484222325), first), second);

    return hash ^ hash >> 32;
}
