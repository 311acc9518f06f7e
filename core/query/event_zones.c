/*
 * A ring of stripes. The lock is held by the adding thread when it enters a stripe, and by readers
 * while they copy one, so that none is given away meanwhile; within a stripe the bounds only widen.
 * Whoever has seen that a record is durable sees its stripe at least as wide as the record made it.
 */
#include "core/query/event_zones.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/base/crc32c.h"
#include "core/counts/user_set.h"

enum {
    USER_BITS_LOG = 13, /* eight for each record of a stripe */
    USER_WORDS = (1 << USER_BITS_LOG) / 64,
    USER_HASHES = 3,
};

_Static_assert((ZONES_MAX & (ZONES_MAX - 1)) == 0 && (ZONES_USERS_MAX & (ZONES_USERS_MAX - 1)) == 0,
               "a number's place is some of its bits");

/* A Bloom filter. */
struct users {
    _Atomic uint64_t bits[USER_WORDS];
};

struct stripe {
    uint64_t number; /* from 1; 0: none. Guarded by the lock */
    _Atomic uint32_t records;
    _Atomic int64_t least_us;
    _Atomic int64_t most_us;
    _Atomic uint64_t tenants; /* a bit for each, and some share it */
    _Atomic uint64_t names;   /* of a tenant, likewise */
};

struct event_zones {
    pthread_mutex_t lock;
    uint64_t entered; /* number of the adding thread's stripe; guarded by the lock for others */
    struct stripe *stripes;
    struct users *users; /* of the newest of them */
};

enum err
event_zones_new(struct event_zones **out)
{
    struct event_zones *zones = calloc(1, sizeof(*zones));

    if (zones == NULL) {
        return ERR_NO_MEMORY;
    }
    zones->stripes = calloc(ZONES_MAX, sizeof(*zones->stripes));
    zones->users = calloc(ZONES_USERS_MAX, sizeof(*zones->users));
    if (zones->stripes == NULL || zones->users == NULL ||
        pthread_mutex_init(&zones->lock, NULL) != 0) {
        free(zones->stripes);
        free(zones->users);
        free(zones);
        return ERR_NO_MEMORY;
    }
    *out = zones;
    return ERR_OK;
}

void
event_zones_free(struct event_zones *zones)
{
    if (zones == NULL) {
        return;
    }
    (void)pthread_mutex_destroy(&zones->lock);
    free(zones->stripes);
    free(zones->users);
    free(zones);
}

static struct stripe *
place_of(struct event_zones *zones, uint64_t number)
{
    return &zones->stripes[number % ZONES_MAX];
}

static struct users *
users_of(struct event_zones *zones, uint64_t number)
{
    return &zones->users[number % ZONES_USERS_MAX];
}

static uint64_t
stripe_number(uint64_t seq)
{
    return (seq - 1) / JOURNAL_STRIPE + 1;
}

static uint64_t
bit_of(uint32_t hash)
{
    return UINT64_C(1) << (hash & 63);
}

static uint32_t
hash_tenant(struct span tenant)
{
    return crc32c(0, tenant.data, tenant.len);
}

static uint32_t
hash_name(uint32_t tenant_hash, struct span name)
{
    return crc32c(tenant_hash, name.data, name.len);
}

static void
enter(struct event_zones *zones, uint64_t number)
{
    struct stripe *stripe = place_of(zones, number);
    struct users *users = users_of(zones, number);

    pthread_mutex_lock(&zones->lock);
    zones->entered = number;
    for (size_t i = 0; i < USER_WORDS; i++) {
        atomic_store_explicit(&users->bits[i], 0, memory_order_relaxed);
    }
    stripe->number = number;
    atomic_store_explicit(&stripe->records, 0, memory_order_relaxed);
    atomic_store_explicit(&stripe->least_us, INT64_MAX, memory_order_relaxed);
    atomic_store_explicit(&stripe->most_us, INT64_MIN, memory_order_relaxed);
    atomic_store_explicit(&stripe->tenants, 0, memory_order_relaxed);
    atomic_store_explicit(&stripe->names, 0, memory_order_relaxed);
    pthread_mutex_unlock(&zones->lock);
}

/* One thread writes, so what it loaded is still there when it stores. */
static void
add_bit(_Atomic uint64_t *bits, uint64_t bit)
{
    const uint64_t before = atomic_load_explicit(bits, memory_order_relaxed);

    atomic_store_explicit(bits, before | bit, memory_order_relaxed);
}

/* The number of bit I of the user with HASH. */
static size_t
user_bit(uint64_t hash, int i)
{
    return (size_t)(hash >> i * USER_BITS_LOG & ((1 << USER_BITS_LOG) - 1));
}

static void
add_user(struct users *users, uint64_t hash)
{
    for (int i = 0; i < USER_HASHES; i++) {
        const size_t bit = user_bit(hash, i);

        add_bit(&users->bits[bit / 64], UINT64_C(1) << bit % 64);
    }
}

static bool
may_have_user(struct users *users, uint64_t hash)
{
    for (int i = 0; i < USER_HASHES; i++) {
        const size_t bit = user_bit(hash, i);

        if ((atomic_load_explicit(&users->bits[bit / 64], memory_order_relaxed) &
             UINT64_C(1) << bit % 64) == 0) {
            return false;
        }
    }
    return true;
}

void
event_zones_add(struct event_zones *zones, uint64_t seq, const struct event *event)
{
    const uint64_t number = stripe_number(seq);
    const int64_t us = event->occurred_at_us;
    const uint32_t tenant = hash_tenant(event->tenant);
    struct stripe *stripe = place_of(zones, number);

    ASSERT(number >= zones->entered);
    if (number != zones->entered) {
        enter(zones, number);
    }
    if (us < atomic_load_explicit(&stripe->least_us, memory_order_relaxed)) {
        atomic_store_explicit(&stripe->least_us, us, memory_order_relaxed);
    }
    if (us > atomic_load_explicit(&stripe->most_us, memory_order_relaxed)) {
        atomic_store_explicit(&stripe->most_us, us, memory_order_relaxed);
    }
    add_bit(&stripe->tenants, bit_of(tenant));
    add_bit(&stripe->names, bit_of(hash_name(tenant, event->name)));
    if (event->user_id.data != NULL) {
        add_user(users_of(zones, number), user_hash(event->user_id));
    }
    atomic_store_explicit(&stripe->records,
                          atomic_load_explicit(&stripe->records, memory_order_relaxed) + 1,
                          memory_order_release);
}

/* What is looked for, as bits; 0: anything. */
struct wanted {
    uint64_t tenant;
    uint64_t name;
    uint64_t user; /* user_hash(), likewise */
    int64_t from_us;
    int64_t to_us;
};

/* Fills in the times of ZONE, which lies in stripe NUMBER; false: nothing of it is wanted. */
static bool
look_at(struct event_zones *zones, uint64_t number, const struct wanted *wanted,
        struct event_zone *zone)
{
    struct stripe *stripe = place_of(zones, number);
    bool may_hold = true;

    zone->least_us = INT64_MIN;
    zone->most_us = INT64_MAX;
    pthread_mutex_lock(&zones->lock);
    if (stripe->number == number &&
        atomic_load_explicit(&stripe->records, memory_order_acquire) == JOURNAL_STRIPE) {
        zone->least_us = atomic_load_explicit(&stripe->least_us, memory_order_relaxed);
        zone->most_us = atomic_load_explicit(&stripe->most_us, memory_order_relaxed);
        may_hold =
            zone->least_us < wanted->to_us && zone->most_us >= wanted->from_us &&
            (atomic_load_explicit(&stripe->tenants, memory_order_relaxed) & wanted->tenant) != 0 &&
            (wanted->name == 0 ||
             (atomic_load_explicit(&stripe->names, memory_order_relaxed) & wanted->name) != 0) &&
            (wanted->user == 0 || zones->entered - number >= ZONES_USERS_MAX ||
             may_have_user(users_of(zones, number), wanted->user));
    }
    pthread_mutex_unlock(&zones->lock);
    return may_hold;
}

static enum err
push(struct event_zone **zones, size_t *count, size_t *capacity, const struct event_zone *zone)
{
    if (*count == *capacity) {
        const size_t wanted = *capacity == 0 ? 64 : *capacity * 2;
        struct event_zone *grown = realloc(*zones, wanted * sizeof(*grown));

        if (grown == NULL) {
            return ERR_NO_MEMORY;
        }
        *zones = grown;
        *capacity = wanted;
    }
    (*zones)[(*count)++] = *zone;
    return ERR_OK;
}

enum err
event_zones_find(struct event_zones *zones, const struct journal_scan *scan, uint32_t partitions,
                 uint64_t to_seq, const struct archive_filter *filter, struct event_zone **out,
                 size_t *count_out)
{
    const uint32_t tenant = hash_tenant(filter->tenant);
    const struct wanted wanted = {
        .tenant = bit_of(tenant),
        .name = filter->event_name.data == NULL ? 0 : bit_of(hash_name(tenant, filter->event_name)),
        .user = filter->user_id.data == NULL ? 0 : user_hash(filter->user_id),
        .from_us = filter->from_us,
        .to_us = filter->to_us,
    };
    struct event_zone *found = NULL;
    size_t count = 0;
    size_t capacity = 0;
    uint64_t seq = journal_scan_first(scan, scan->from_seq, partitions);

    while (seq <= to_seq) {
        const uint64_t number = stripe_number(seq);
        struct event_zone zone = {.from_seq = seq, .to_seq = number * JOURNAL_STRIPE};

        zone.to_seq = zone.to_seq < to_seq ? zone.to_seq : to_seq;
        if (look_at(zones, number, &wanted, &zone)) {
            enum err err = push(&found, &count, &capacity, &zone);

            if (err != ERR_OK) {
                free(found);
                return err;
            }
        }
        seq = journal_scan_first(scan, zone.to_seq + 1, partitions);
    }
    *out = found;
    *count_out = count;
    return ERR_OK;
}
