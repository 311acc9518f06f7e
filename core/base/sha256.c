/*
 * OpenSSL 3 looks its digest up by name and allocates a context for each one-shot SHA256() call,
 * which costs several times the hashing of 50 bytes (330 ns against 55 ns). The older calls work on
 * a context of the caller; they are marked deprecated there, not removed.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "core/base/sha256.h"

#include <openssl/sha.h>

#include "core/base/base.h"

_Static_assert(SHA256_SIZE == SHA256_DIGEST_LENGTH, "a digest fills the output");

void
sha256(const void *bytes, size_t len, uint8_t out[SHA256_SIZE])
{
    SHA256_CTX context;
    int good = SHA256_Init(&context);

    good = good == 1 ? SHA256_Update(&context, bytes, len) : good;
    good = good == 1 ? SHA256_Final(out, &context) : good;
    ASSERT(good == 1); /* they only fail for arguments */
}
