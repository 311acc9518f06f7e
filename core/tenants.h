/*
 * tenants.h - who a request speaks for: API keys to tenants, and each tenant's rate limit.
 *
 * Keys are kept as SHA-256 digests only. A lookup hashes the key it is given and compares that with
 * a number of digests that is the same for every key, found or not, each compare in constant time;
 * which digests those are follows from the hash and a random number of this process, so time tells
 * nothing about the keys.
 *
 * The key table is an immutable snapshot behind one atomic pointer. Each reader (an HTTP loop) has
 * a slot in which it says which snapshot it looks at, for the length of the lookup;
 * tenants_reload() puts the new one in place, waits until no slot names the old one, and frees it.
 * Readers never wait. A tenant's record lives as long as the whole, so a request may hold it across
 * a reload, and a reload does not refill buckets.
 *
 * open, reload and free: one thread. find: any thread, each with a reader number of its own.
 */
#ifndef SLUICE_CORE_TENANTS_H
#define SLUICE_CORE_TENANTS_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/base/token_bucket.h"

enum {
    TENANTS_READERS_MAX = 64,
    TENANTS_MAX = 100000,  /* names ever seen by one process */
    API_KEYS_MAX = 200000, /* at one time */
    API_KEY_MAX = 255,     /* bytes of a key */
};

struct tenant {
    struct span name; /* 1-255 bytes of visible ASCII */
    struct token_bucket bucket;
};

struct tenants_config {
    const char *keys;      /* "tenant:key,tenant:key"; NULL or "": none */
    const char *keys_file; /* its path; NULL or "": none. Borrowed: a reload reads it again */
    const char *admin_key; /* NULL or "": nobody is the admin */
    double rate;           /* events a second and tenant; 0: no limit */
    uint64_t burst;        /* 0: one second's worth */
    const struct clock *clock;
};

struct tenants;

/*
 * Without keys and file there is one tenant, "default", for everybody. ERR_INVALID: a sentence that
 * names API_KEYS, API_KEYS_FILE or ADMIN_KEY, and no key, is in PROBLEM. The texts of CONFIG are
 * not kept, but for the file's path.
 *
 * Pairs are separated by commas and, in the file, by lines; blanks around their parts do not count,
 * empty pairs are skipped, and a '#' at a line's start or after a blank begins a comment. A key is
 * 1-255 bytes of visible ASCII without a comma, or "sha256:" and 64 hex digits of one's digest.
 * Names that begin with '_' are this server's own.
 */
MUST_CHECK enum err tenants_open(struct tenants **out, const struct tenants_config *config,
                                 struct buffer *problem);
void tenants_free(struct tenants *tenants); /* no reader is inside; NULL allowed */

/* Reads the file again. On any error the keys stay as they were; ERR_INVALID as above. */
MUST_CHECK enum err tenants_reload(struct tenants *tenants, struct buffer *problem);

/* Keys are asked for; settled at open. */
bool tenants_have_keys(const struct tenants *tenants);

/* There is an admin key; settled at open. */
bool tenants_have_admin(const struct tenants *tenants);

/* The tenant of everybody, without keys. */
struct tenant *tenants_default(struct tenants *tenants);

enum key_owner {
    KEY_OF_NOBODY,
    KEY_OF_TENANT,
    KEY_OF_ADMIN,
};

/* Whose KEY is; *TENANT_OUT only with KEY_OF_TENANT. READER < TENANTS_READERS_MAX. */
enum key_owner tenants_find(struct tenants *tenants, uint32_t reader, struct span key,
                            struct tenant **tenant_out);

/* For metrics; any thread. */
struct tenants_stats {
    uint32_t keys;
    uint32_t tenants; /* that have a key */
    uint64_t reloads; /* that worked */
    uint64_t reload_failures;
};
void tenants_stats(const struct tenants *tenants, struct tenants_stats *out);

#endif
