/*
 * thresholds.c - versions in the order of their first sequence number; the last one is in force.
 *
 * Nearly always there is one version, and it names no service: then a look costs one atomic load.
 */
#include "core/slo/thresholds.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/slo/objective_set.h"

enum {
    VERSIONS_MAX = 1024, /* beyond, the oldest one goes; a person would have to make so many */
};

struct version {
    uint64_t from_seq;
    const struct objective_set *set; /* NULL: no service has thresholds of its own */
};

struct thresholds {
    pthread_rwlock_t lock; /* guards the next three */
    struct version *versions;
    size_t len;
    struct version next; /* set, but no event has come since */
    _Atomic bool has_next;
    _Atomic bool any; /* some version names a service */
};

enum err
thresholds_new(struct thresholds **out)
{
    struct thresholds *thresholds = calloc(1, sizeof(*thresholds));

    if (thresholds == NULL) {
        return ERR_NO_MEMORY;
    }
    if (pthread_rwlock_init(&thresholds->lock, NULL) != 0) {
        free(thresholds);
        return ERR_NO_MEMORY;
    }
    *out = thresholds;
    return ERR_OK;
}

void
thresholds_free(struct thresholds *thresholds)
{
    if (thresholds == NULL) {
        return;
    }
    for (size_t i = 0; i < thresholds->len; i++) {
        objective_set_release(thresholds->versions[i].set);
    }
    objective_set_release(thresholds->next.set);
    free(thresholds->versions);
    pthread_rwlock_destroy(&thresholds->lock);
    free(thresholds);
}

/* Drops the first COUNT versions; the one after them then holds for their events too. */
static void
drop_versions(struct thresholds *thresholds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        objective_set_release(thresholds->versions[i].set);
    }
    thresholds->len -= count;
    if (count > 0) {
        memmove(thresholds->versions, thresholds->versions + count,
                thresholds->len * sizeof(struct version));
    }
}

/* Versions none of whose events is asked for any more. */
static size_t
count_settled(const struct thresholds *thresholds, uint64_t settled_seq)
{
    size_t count = 0;

    while (count + 1 < thresholds->len &&
           thresholds->versions[count + 1].from_seq <= settled_seq + 1) {
        count++;
    }
    if (count == 0 && thresholds->len >= VERSIONS_MAX) {
        count = 1;
    }
    return count;
}

enum err
thresholds_set(struct thresholds *thresholds, const struct objective_set *set, uint64_t settled_seq)
{
    struct version *grown;

    pthread_rwlock_wrlock(&thresholds->lock);
    drop_versions(thresholds, count_settled(thresholds, settled_seq));
    /* Room is made here, so that thresholds_begin() cannot fail. */
    grown = realloc(thresholds->versions, (thresholds->len + 1) * sizeof(*grown));
    if (grown == NULL) {
        pthread_rwlock_unlock(&thresholds->lock);
        return ERR_NO_MEMORY;
    }
    thresholds->versions = grown;
    objective_set_release(thresholds->next.set);
    thresholds->next.set = objective_set_keep(set);
    atomic_store_explicit(&thresholds->has_next, true, memory_order_release);
    pthread_rwlock_unlock(&thresholds->lock);
    return ERR_OK;
}

void
thresholds_begin(const struct slice_rules *rules, uint64_t seq)
{
    struct thresholds *thresholds = rules->by_service;

    if (thresholds == NULL || !atomic_load_explicit(&thresholds->has_next, memory_order_acquire)) {
        return;
    }
    pthread_rwlock_wrlock(&thresholds->lock);
    if (objective_set_has_thresholds(thresholds->next.set)) {
        atomic_store_explicit(&thresholds->any, true, memory_order_relaxed);
    }
    thresholds->versions[thresholds->len++] = (struct version){seq, thresholds->next.set};
    thresholds->next.set = NULL;
    atomic_store_explicit(&thresholds->has_next, false, memory_order_relaxed);
    pthread_rwlock_unlock(&thresholds->lock);
}

/* The version SEQ falls under; what came before the first one is taken for its own. */
static const struct objective_set *
set_at(const struct thresholds *thresholds, uint64_t seq)
{
    for (size_t i = thresholds->len; i > 1; i--) {
        if (thresholds->versions[i - 1].from_seq <= seq) {
            return thresholds->versions[i - 1].set;
        }
    }
    return thresholds->len > 0 ? thresholds->versions[0].set : NULL;
}

struct slice_rules
thresholds_of(const struct slice_rules *rules, uint64_t seq, struct span tenant,
              struct span service)
{
    struct thresholds *thresholds = rules->by_service;
    struct slice_rules out = *rules;

    if (thresholds == NULL || !atomic_load_explicit(&thresholds->any, memory_order_relaxed)) {
        return out;
    }
    pthread_rwlock_rdlock(&thresholds->lock);
    objective_set_add_thresholds(set_at(thresholds, seq), tenant, service, &out);
    pthread_rwlock_unlock(&thresholds->lock);
    return out;
}
