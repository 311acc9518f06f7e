/*
 * objective_set.c - two sorted arrays: the definitions, and a group for each service of theirs.
 */
#include "core/slo/objective_set.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* A service's definitions, ready for the two who ask often: figures and the counting of events. */
struct group {
    const struct objective *first;
    struct slo_config config;
    struct slice_rules rules; /* of its latency objectives alone */
};

struct objective_set {
    _Atomic uint32_t references;
    struct objective *items;
    size_t count;
    struct group *groups;
    size_t group_count;
    bool has_thresholds;
};

static void
free_set(struct objective_set *set)
{
    free(set->items);
    free(set->groups);
    free(set);
}

/* The references are the one thing about a set that changes. */
static struct objective_set *
writable(const struct objective_set *set)
{
    return (struct objective_set *)(uintptr_t)set;
}

const struct objective_set *
objective_set_keep(const struct objective_set *set)
{
    if (set != NULL) {
        atomic_fetch_add_explicit(&writable(set)->references, 1, memory_order_relaxed);
    }
    return set;
}

void
objective_set_release(const struct objective_set *set)
{
    if (set != NULL &&
        atomic_fetch_sub_explicit(&writable(set)->references, 1, memory_order_acq_rel) == 1) {
        free_set(writable(set));
    }
}

static int
compare_items(const void *left, const void *right)
{
    return objective_compare(left, right);
}

static int
compare_ids(const void *left, const void *right)
{
    const struct objective *const *a = left;
    const struct objective *const *b = right;

    return strcmp((*a)->slo.id, (*b)->slo.id);
}

/* An id names one definition of all tenants. */
static enum err
check_ids(const struct objective_set *set, char problem[OBJECTIVE_PROBLEM_SIZE])
{
    const struct objective **by_id = calloc(set->count + 1, sizeof(struct objective *));
    enum err err = ERR_OK;

    if (by_id == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < set->count; i++) {
        by_id[i] = &set->items[i];
    }
    qsort(by_id, set->count, sizeof(struct objective *), compare_ids);
    for (size_t i = 1; i < set->count && err == ERR_OK; i++) {
        if (strcmp(by_id[i - 1]->slo.id, by_id[i]->slo.id) == 0) {
            (void)snprintf(problem, OBJECTIVE_PROBLEM_SIZE, "the id %s is taken", by_id[i]->slo.id);
            err = ERR_INVALID;
        }
    }
    free(by_id);
    return err;
}

/* Puts THRESHOLD_US into its place in RULES, unless it is there. */
static void
add_threshold(struct slice_rules *rules, uint32_t threshold_us)
{
    uint32_t at = 0;

    while (at < rules->threshold_count && rules->threshold_us[at] < threshold_us) {
        at++;
    }
    if (at < rules->threshold_count && rules->threshold_us[at] == threshold_us) {
        return;
    }
    ASSERT(rules->threshold_count < SLICE_THRESHOLDS_MAX);
    memmove(&rules->threshold_us[at + 1], &rules->threshold_us[at],
            (rules->threshold_count - at) * sizeof(rules->threshold_us[0]));
    rules->threshold_us[at] = threshold_us;
    rules->threshold_count++;
}

_Static_assert(SLICE_THRESHOLDS_MAX >= SLO_OBJECTIVES_MAX + 1, "all of a service and the default");

static bool
same_service(const struct objective *a, const struct objective *b)
{
    return strcmp(a->service, b->service) == 0 && strcmp(a->tenant, b->tenant) == 0;
}

static enum err
make_groups(struct objective_set *set, int64_t future_us, char problem[OBJECTIVE_PROBLEM_SIZE])
{
    struct group *group = NULL;

    for (size_t i = 0; i < set->count; i++) {
        const struct objective *item = &set->items[i];

        if (group == NULL || !same_service(group->first, item)) {
            group = &set->groups[set->group_count++];
            group->first = item;
            group->config.future_us = future_us;
        }
        if (group->config.objective_count == SLO_OBJECTIVES_MAX) {
            (void)snprintf(problem, OBJECTIVE_PROBLEM_SIZE, "a service has at most %d objectives",
                           SLO_OBJECTIVES_MAX);
            return ERR_INVALID;
        }
        group->config.objective[group->config.objective_count++] = item->slo;
        if (item->slo.type == SLO_LATENCY) {
            add_threshold(&group->rules, item->slo.threshold_us);
            set->has_thresholds = true;
        }
    }
    return ERR_OK;
}

enum err
objective_set_new(const struct objective_set **out, const struct objective *items, size_t count,
                  int64_t future_us, char problem[OBJECTIVE_PROBLEM_SIZE])
{
    struct objective_set *set;
    enum err err;

    if (count > OBJECTIVES_TOTAL_MAX) {
        (void)snprintf(problem, OBJECTIVE_PROBLEM_SIZE, "there are at most %d objectives",
                       OBJECTIVES_TOTAL_MAX);
        return ERR_FULL;
    }
    set = calloc(1, sizeof(*set));
    if (set == NULL) {
        return ERR_NO_MEMORY;
    }
    atomic_init(&set->references, 1);
    set->items = calloc(count + 1, sizeof(*set->items));
    set->groups = calloc(count + 1, sizeof(*set->groups));
    if (set->items == NULL || set->groups == NULL) {
        free_set(set);
        return ERR_NO_MEMORY;
    }
    if (count > 0) {
        memcpy(set->items, items, count * sizeof(*items));
        qsort(set->items, count, sizeof(*items), compare_items);
    }
    set->count = count;
    err = check_ids(set, problem);
    if (err == ERR_OK) {
        err = make_groups(set, future_us, problem);
    }
    if (err != ERR_OK) {
        free_set(set);
        return err;
    }
    *out = set;
    return ERR_OK;
}

size_t
objective_set_count(const struct objective_set *set)
{
    return set == NULL ? 0 : set->count;
}

const struct objective *
objective_set_at(const struct objective_set *set, size_t at)
{
    ASSERT(at < set->count);
    return &set->items[at];
}

const struct objective *
objective_set_find(const struct objective_set *set, struct span id)
{
    for (size_t i = 0; i < objective_set_count(set); i++) {
        if (span_is(id, set->items[i].slo.id)) {
            return &set->items[i];
        }
    }
    return NULL;
}

static int
compare_name(struct span a, const char *text)
{
    const struct span b = span_of(text);
    const int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);

    if (order != 0) {
        return order;
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

/* The first group at or after (TENANT, SERVICE). */
static size_t
lower_group(const struct objective_set *set, struct span tenant, struct span service)
{
    size_t low = 0;
    size_t high = set == NULL ? 0 : set->group_count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const struct objective *first = set->groups[middle].first;
        int order = compare_name(tenant, first->tenant);

        if (order == 0) {
            order = compare_name(service, first->service);
        }
        if (order > 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static const struct group *
find_group(const struct objective_set *set, struct span tenant, struct span service)
{
    const size_t at = lower_group(set, tenant, service);

    if (set == NULL || at == set->group_count || !span_is(tenant, set->groups[at].first->tenant) ||
        !span_is(service, set->groups[at].first->service)) {
        return NULL;
    }
    return &set->groups[at];
}

const struct slo_config *
objective_set_config(const struct objective_set *set, const struct slo_config *defaults,
                     struct span tenant, struct span service)
{
    const struct group *group = find_group(set, tenant, service);

    return group == NULL ? defaults : &group->config;
}

bool
objective_set_has_thresholds(const struct objective_set *set)
{
    return set != NULL && set->has_thresholds;
}

void
objective_set_add_thresholds(const struct objective_set *set, struct span tenant,
                             struct span service, struct slice_rules *rules)
{
    const struct group *group =
        objective_set_has_thresholds(set) ? find_group(set, tenant, service) : NULL;

    for (uint32_t i = 0; group != NULL && i < group->rules.threshold_count; i++) {
        add_threshold(rules, group->rules.threshold_us[i]);
    }
}

void
objective_set_each_service(const struct objective_set *set, struct span tenant,
                           void (*fn)(void *arg, struct span service), void *arg)
{
    size_t at = lower_group(set, tenant, SPAN_LITERAL(""));

    for (; set != NULL && at < set->group_count; at++) {
        const struct objective *first = set->groups[at].first;

        if (!span_is(tenant, first->tenant)) {
            break;
        }
        fn(arg, span_of(first->service));
    }
}

void
objective_set_each_series(const struct objective_set *set,
                          void (*fn)(void *arg, struct span tenant, struct span service), void *arg)
{
    for (size_t at = 0; set != NULL && at < set->group_count; at++) {
        const struct objective *first = set->groups[at].first;

        fn(arg, span_of(first->tenant), span_of(first->service));
    }
}
