/*
 * objectives.c - one pointer to the set in force, and the order in which it may change.
 *
 * STORE_LOCK is held over the store's and the file's I/O: loads and changes must not overtake each
 * other, or an older set could replace a newer one. Nobody who only reads takes it.
 */
#include "core/slo/objectives.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/log.h"
#include "core/slo/objective_file.h"

enum {
    PATH_SIZE = 4096,
};

struct objectives {
    struct objectives_config config;
    pthread_mutex_t store_lock;      /* see above */
    pthread_mutex_t lock;            /* guards NOW */
    const struct objective_set *now; /* never NULL */
    _Atomic bool stale;
    bool refused; /* what was last loaded is not in force. Guarded by STORE_LOCK */
};

/* Definitions being gathered; the first error ends it. */
struct gathering {
    struct objective *items;
    size_t len;
    size_t capacity;
};

static enum err
gather(void *arg, const struct objective *objective)
{
    struct gathering *gathering = arg;

    if (gathering->len == gathering->capacity) {
        const size_t capacity = gathering->capacity == 0 ? 16 : gathering->capacity * 2;
        struct objective *items = realloc(gathering->items, capacity * sizeof(*items));

        if (items == NULL) {
            return ERR_NO_MEMORY;
        }
        gathering->items = items;
        gathering->capacity = capacity;
    }
    gathering->items[gathering->len++] = *objective;
    return ERR_OK;
}

static enum err
gather_set(struct gathering *gathering, const struct objective_set *set)
{
    enum err err = ERR_OK;

    for (size_t i = 0; i < objective_set_count(set) && err == ERR_OK; i++) {
        err = gather(gathering, objective_set_at(set, i));
    }
    return err;
}

/* ---- the set in force ---- */

const struct objective_set *
objectives_now(struct objectives *objectives)
{
    const struct objective_set *set;

    if (objectives == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&objectives->lock);
    set = objective_set_keep(objectives->now);
    pthread_mutex_unlock(&objectives->lock);
    return set;
}

bool
objectives_stale(const struct objectives *objectives)
{
    return objectives != NULL && atomic_load_explicit(&objectives->stale, memory_order_relaxed);
}

/* Puts SET in force and takes its reference over; on ERR_NO_MEMORY the caller keeps it. */
static enum err
install(struct objectives *objectives, const struct objective_set *set)
{
    const struct objectives_config *config = &objectives->config;
    const struct objective_set *former;

    if (config->rules->by_service != NULL) {
        enum err err = thresholds_set(config->rules->by_service, set,
                                      config->settled_seq(config->settled_arg));

        if (err != ERR_OK) {
            return err;
        }
    }
    pthread_mutex_lock(&objectives->lock);
    former = objectives->now;
    objectives->now = set;
    pthread_mutex_unlock(&objectives->lock);
    objective_set_release(former);
    return ERR_OK;
}

/* What the file holds may be used; what is damaged is kept aside for a person to look at. */
static enum err
read_file(struct objectives *objectives, struct gathering *gathering)
{
    const char *file = objectives->config.file;
    char aside[PATH_SIZE];
    enum err err = file == NULL ? ERR_NOT_FOUND : objective_file_read(file, gather, gathering);

    if (err == ERR_NOT_FOUND) {
        return ERR_OK;
    }
    if (err == ERR_CORRUPT) {
        (void)snprintf(aside, sizeof(aside), "%s.damaged", file);
        log_error("objectives.file_damaged", LOG_STR("file", file), LOG_STR("kept_as", aside),
                  LOG_BOOL("kept", rename(file, aside) == 0), LOG_END);
        gathering->len = 0;
        return ERR_OK;
    }
    return err;
}

enum err
objectives_open(struct objectives **out, const struct objectives_config *config)
{
    struct objectives *objectives = calloc(1, sizeof(*objectives));
    const struct objective_set *set = NULL;
    struct gathering gathering = {0};
    char problem[OBJECTIVE_PROBLEM_SIZE] = "";
    enum err err;

    if (objectives == NULL) {
        return ERR_NO_MEMORY;
    }
    objectives->config = *config;
    pthread_mutex_init(&objectives->lock, NULL);
    pthread_mutex_init(&objectives->store_lock, NULL);
    err = read_file(objectives, &gathering);
    if (err == ERR_OK) {
        err = objective_set_new(&set, gathering.items, gathering.len, config->future_us, problem);
    }
    if (err == ERR_OK) {
        err = install(objectives, set);
    }
    free(gathering.items);
    if (err != ERR_OK) {
        log_error("objectives.open_failed", LOG_ERR(err), LOG_STR("cause", problem), LOG_END);
        objective_set_release(set);
        objectives_close(objectives);
        return err;
    }
    *out = objectives;
    return ERR_OK;
}

void
objectives_close(struct objectives *objectives)
{
    if (objectives == NULL) {
        return;
    }
    objective_set_release(objectives->now);
    pthread_mutex_destroy(&objectives->lock);
    pthread_mutex_destroy(&objectives->store_lock);
    free(objectives);
}

/* ---- the store's changes ---- */

/* STORE_LOCK held. With a store the file is a copy: without it the definitions are still true. */
static enum err
install_and_copy(struct objectives *objectives, const struct objective_set *set)
{
    const struct objectives_config *config = &objectives->config;
    enum err err = ERR_OK;

    if (config->file != NULL) {
        err = objective_file_write(config->file, set);
        if (err != ERR_OK && config->store == NULL) {
            return err;
        }
    }
    return install(objectives, set);
}

static int
compare_age(const void *left, const void *right)
{
    const struct objective *a = left;
    const struct objective *b = right;
    int order = strcmp(a->tenant, b->tenant);

    if (order == 0) {
        order = strcmp(a->service, b->service);
    }
    if (order == 0) {
        order = (a->created_us > b->created_us) - (a->created_us < b->created_us);
    }
    return order != 0 ? order : strcmp(a->slo.id, b->slo.id);
}

/*
 * With SQL a service can be given more definitions than it may have. The oldest count; one row too
 * many must not keep all the others out of force.
 */
static void
leave_out_excess(struct gathering *gathering)
{
    struct objective *items = gathering->items;
    size_t kept = 0;
    size_t of_service = 0;

    if (gathering->len > 0) {
        qsort(items, gathering->len, sizeof(*items), compare_age);
    }
    for (size_t i = 0; i < gathering->len; i++) {
        if (kept == 0 || strcmp(items[kept - 1].tenant, items[i].tenant) != 0 ||
            strcmp(items[kept - 1].service, items[i].service) != 0) {
            of_service = 0;
        }
        if (of_service == SLO_OBJECTIVES_MAX) {
            log_warn("objectives.left_out", LOG_STR("id", items[i].slo.id),
                     LOG_STR("tenant", items[i].tenant), LOG_STR("service", items[i].service),
                     LOG_STR("hint", "its service has as many objectives as there can be"),
                     LOG_END);
            continue;
        }
        of_service++;
        items[kept++] = items[i];
    }
    gathering->len = kept;
}

/* STORE_LOCK held. */
static enum err
refresh(struct objectives *objectives)
{
    const struct objective_store *store = objectives->config.store;
    const struct objective_set *set = NULL;
    struct gathering gathering = {0};
    char problem[OBJECTIVE_PROBLEM_SIZE] = "";
    bool changed = objectives->refused;
    enum err err;

    if (store == NULL) {
        return ERR_OK;
    }
    err = store->load(store->self, &changed, gather, &gathering);
    if (err == ERR_OK && changed) {
        leave_out_excess(&gathering);
        err = objective_set_new(&set, gathering.items, gathering.len, objectives->config.future_us,
                                problem);
        if (err == ERR_OK) {
            err = install_and_copy(objectives, set);
        }
        if (err == ERR_OK) {
            log_info("objectives.loaded", LOG_U64("objectives", gathering.len), LOG_END);
        } else {
            log_error("objectives.load_refused", LOG_ERR(err), LOG_STR("cause", problem), LOG_END);
            objective_set_release(set);
        }
        objectives->refused = err != ERR_OK;
    }
    /* A database without tables has no definitions either. */
    atomic_store_explicit(&objectives->stale, err != ERR_OK && err != ERR_NOT_FOUND,
                          memory_order_relaxed);
    free(gathering.items);
    return err;
}

enum err
objectives_refresh(struct objectives *objectives)
{
    enum err err;

    pthread_mutex_lock(&objectives->store_lock);
    err = refresh(objectives);
    pthread_mutex_unlock(&objectives->store_lock);
    return err;
}

/* ---- our own changes ---- */

static bool
is_default_threshold(const struct objectives *objectives, uint32_t threshold_us)
{
    const struct slice_rules *rules = objectives->config.rules;

    for (uint32_t i = 0; i < rules->threshold_count; i++) {
        if (rules->threshold_us[i] == threshold_us) {
            return true;
        }
    }
    return false;
}

/* Since when events of the service have been compared with the threshold of OBJECTIVE. */
static int64_t
counted_from(const struct objectives *objectives, const struct objective *objective, int64_t now_us)
{
    int64_t from_us = now_us;

    if (objective->slo.type != SLO_LATENCY ||
        is_default_threshold(objectives, objective->slo.threshold_us)) {
        return 0;
    }
    for (size_t i = 0; i < objective_set_count(objectives->now); i++) {
        const struct objective *other = objective_set_at(objectives->now, i);

        if (other->slo.type == SLO_LATENCY &&
            other->slo.threshold_us == objective->slo.threshold_us &&
            strcmp(other->service, objective->service) == 0 &&
            strcmp(other->tenant, objective->tenant) == 0 && other->slo.counted_from_us < from_us) {
            from_us = other->slo.counted_from_us;
        }
    }
    return from_us;
}

/* The definition that *NEXT replaces, by place; gathering->len for none or another tenant's. */
static size_t
find_former(const struct gathering *gathering, const struct objective *next)
{
    size_t at = 0;

    while (at < gathering->len &&
           (strcmp(gathering->items[at].slo.id, next->slo.id) != 0 ||
            (next->tenant[0] != '\0' && strcmp(gathering->items[at].tenant, next->tenant) != 0))) {
        at++;
    }
    return at;
}

/* Makes the change in GATHERING and completes *NEXT. ERR_INVALID: it is of another version. */
static enum err
apply_change(const struct objectives *objectives, enum objective_change what,
             struct gathering *gathering, struct objective *next,
             char problem[OBJECTIVE_PROBLEM_SIZE])
{
    const int64_t now_us = clock_wall_us(objectives->config.clock);
    const size_t at = find_former(gathering, next);

    if (what == OBJECTIVE_CREATE) {
        next->version = 1;
        next->created_us = now_us;
        next->updated_us = now_us;
        next->slo.counted_from_us = counted_from(objectives, next, now_us);
        return gather(gathering, next);
    }
    if (at == gathering->len) {
        return ERR_NOT_FOUND;
    }
    if (what == OBJECTIVE_UPDATE) {
        const uint32_t version = gathering->items[at].version;

        /* Who sends back what was read must not undo what somebody else has changed since. */
        if (next->version != 0 && next->version != version) {
            (void)snprintf(problem, OBJECTIVE_PROBLEM_SIZE,
                           "version %u is in force, not %u: read it again, or leave version out",
                           version, next->version);
            return ERR_INVALID;
        }
        memcpy(next->tenant, gathering->items[at].tenant, sizeof(next->tenant));
        next->version = version + 1;
        next->created_us = gathering->items[at].created_us;
        next->updated_us = now_us;
        next->slo.counted_from_us = counted_from(objectives, next, now_us);
        gathering->items[at] = *next;
        return ERR_OK;
    }
    memcpy(gathering->items[at].updated_by, next->updated_by, sizeof(next->updated_by));
    *next = gathering->items[at];
    gathering->items[at] = gathering->items[--gathering->len];
    return ERR_OK;
}

static const char *
change_name(enum objective_change what)
{
    switch (what) {
    case OBJECTIVE_CREATE:
        return "create";
    case OBJECTIVE_UPDATE:
        return "update";
    case OBJECTIVE_DELETE:
        return "delete";
    }
    assert_failed(__FILE__, __LINE__, "a change of the list");
}

/* The audit's line in the log; the store keeps its own. */
static void
log_change(enum objective_change what, const struct objective *objective)
{
    struct buffer text = BUFFER_EMPTY;

    objective_write(&text, objective);
    buffer_append_char(&text, '\0');
    log_info("objectives.changed", LOG_STR("change", change_name(what)),
             LOG_STR("id", objective->slo.id), LOG_STR("tenant", objective->tenant),
             LOG_STR("by", objective->updated_by), LOG_U64("version", objective->version),
             LOG_STR("definition", text.failed ? "" : text.data), LOG_END);
    buffer_free(&text);
}

/* STORE_LOCK held, the set in force is the store's. */
static enum err
change(struct objectives *objectives, enum objective_change what, struct objective *next,
       bool *conflict, char problem[OBJECTIVE_PROBLEM_SIZE])
{
    const struct objective_store *store = objectives->config.store;
    const struct objective_set *set = NULL;
    struct gathering gathering = {0};
    enum err err = gather_set(&gathering, objectives->now);

    if (err == ERR_OK && what == OBJECTIVE_CREATE &&
        objective_set_find(objectives->now, span_of(next->slo.id)) != NULL) {
        *conflict = true;
        (void)snprintf(problem, OBJECTIVE_PROBLEM_SIZE, "the id %s is taken", next->slo.id);
        err = ERR_INVALID;
    }
    if (err == ERR_OK) {
        err = apply_change(objectives, what, &gathering, next, problem);
        *conflict = err == ERR_INVALID;
    }
    if (err == ERR_OK) {
        err = objective_set_new(&set, gathering.items, gathering.len, objectives->config.future_us,
                                problem);
        err = err == ERR_FULL ? ERR_INVALID : err;
    }
    if (err == ERR_OK && store != NULL) {
        err = store->change(store->self, what, next);
        if (err == ERR_INVALID) { /* somebody else was faster */
            *conflict = true;
            (void)snprintf(problem, OBJECTIVE_PROBLEM_SIZE, "the id %s is taken", next->slo.id);
        }
    }
    if (err == ERR_OK) {
        err = install_and_copy(objectives, set);
        if (err != ERR_OK && store != NULL) { /* durable all the same: the next refresh sees it */
            atomic_store_explicit(&objectives->stale, true, memory_order_relaxed);
            objective_set_release(set);
            set = NULL;
            err = ERR_OK;
        }
    }
    if (err == ERR_OK) {
        log_change(what, next);
    } else {
        objective_set_release(set);
    }
    free(gathering.items);
    return err;
}

enum err
objectives_change(struct objectives *objectives, enum objective_change what,
                  const struct objective *objective, struct objective *out, bool *conflict,
                  char problem[OBJECTIVE_PROBLEM_SIZE])
{
    struct objective next = *objective;
    enum err err;

    *conflict = false;
    pthread_mutex_lock(&objectives->store_lock);
    err = refresh(objectives);
    if (err == ERR_NOT_FOUND) {
        err = ERR_UNAVAILABLE; /* no tables yet */
    } else if (err == ERR_OK) {
        err = change(objectives, what, &next, conflict, problem);
    }
    pthread_mutex_unlock(&objectives->store_lock);
    if (err == ERR_OK) {
        *out = next;
    }
    return err;
}
