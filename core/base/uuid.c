#include "core/base/uuid.h"

#include <string.h>
#include <sys/random.h>

#include "core/base/base.h"

void
random_bytes(void *out, size_t len)
{
    char *at = out;

    while (len > 0) {
        size_t part = len < 256 ? len : 256; /* up to 256 bytes are never cut short by a signal */

        ASSERT(getrandom(at, part, 0) == (ssize_t)part);
        at += part;
        len -= part;
    }
}

static void
set_version(uint8_t uuid[UUID_SIZE], uint8_t version)
{
    uuid[6] = (uint8_t)((uuid[6] & 0x0FU) | (unsigned)(version << 4));
    uuid[8] = (uint8_t)((uuid[8] & 0x3FU) | 0x80U);
}

void
uuid_v4(uint8_t out[UUID_SIZE])
{
    random_bytes(out, UUID_SIZE);
    set_version(out, 4);
}

void
uuid_text(const uint8_t uuid[UUID_SIZE], char out[UUID_TEXT_SIZE])
{
    static const char HEX[] = "0123456789abcdef";
    char *at = out;

    for (int i = 0; i < UUID_SIZE; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *at++ = '-';
        }
        *at++ = HEX[uuid[i] >> 4];
        *at++ = HEX[uuid[i] & 15];
    }
    *at = '\0';
}

/* Random bits bought 4 KiB at a time: getrandom() per event would cost more than the event. */
struct random_pool {
    uint8_t bytes[4096];
    size_t left;
};

void
uuid_v7_text(int64_t unix_ms, char out[UUID_TEXT_SIZE])
{
    static _Thread_local struct random_pool pool;
    uint8_t uuid[UUID_SIZE];

    if (pool.left < 10) {
        random_bytes(pool.bytes, sizeof(pool.bytes));
        pool.left = sizeof(pool.bytes);
    }
    pool.left -= 10;
    memcpy(uuid + 6, pool.bytes + pool.left, 10);
    for (int i = 0; i < 6; i++) {
        uuid[i] = (uint8_t)((uint64_t)unix_ms >> (40 - 8 * i));
    }
    set_version(uuid, 7);
    uuid_text(uuid, out);
}
