#include "core/base/crc32c.h"

#include <string.h>

#if defined(__SSE4_2__)

#include <nmmintrin.h>

uint32_t
crc32c(uint32_t crc, const void *bytes, size_t len)
{
    const unsigned char *at = bytes;
    uint64_t state = crc ^ 0xFFFFFFFFU;

    for (; len >= 8; len -= 8, at += 8) {
        uint64_t word;

        memcpy(&word, at, sizeof(word));
        state = _mm_crc32_u64(state, word);
    }
    for (; len > 0; len--, at++) {
        state = _mm_crc32_u8((uint32_t)state, *at);
    }
    return (uint32_t)state ^ 0xFFFFFFFFU;
}

#else

/* Bit by bit: slow but right, for processors without the instruction. */
uint32_t
crc32c(uint32_t crc, const void *bytes, size_t len)
{
    const unsigned char *at = bytes;

    crc ^= 0xFFFFFFFFU;
    for (; len > 0; len--, at++) {
        crc ^= *at;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (0x82F63B78U & (0U - (crc & 1U)));
        }
    }
    return crc ^ 0xFFFFFFFFU;
}

#endif
