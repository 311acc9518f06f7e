#include "core/slo/requests.h"

#include <pthread.h>
#include <stdlib.h>

#include "core/base/log.h"
#include "core/event/event.h"
#include "core/slo/thresholds.h"

enum {
    SHARD_FOLDS_MAX = 60, /* minutes a shard holds when nobody collects */
};

struct shard {
    pthread_mutex_t lock; /* guards the rest */
    struct requests_fold *newest;
    uint32_t count;
    char pad[64]; /* loops share no cache line */
};

struct requests {
    struct slices *slices;
    struct shard shards[REQUESTS_SHARDS];
    struct requests_fold *pending; /* the ticker's: gathered, oldest first */
    uint32_t pending_count;
};

static void
free_fold(struct requests_fold *fold)
{
    slice_clear(&fold->slice);
    free(fold->entries);
    free(fold);
}

static void
free_folds(struct requests_fold *fold)
{
    while (fold != NULL) {
        struct requests_fold *next = fold->next;

        free_fold(fold);
        fold = next;
    }
}

enum err
requests_new(struct requests **out, struct slices *slices)
{
    struct requests *requests = calloc(1, sizeof(*requests));

    if (requests == NULL) {
        return ERR_NO_MEMORY;
    }
    requests->slices = slices;
    for (size_t i = 0; i < REQUESTS_SHARDS; i++) {
        pthread_mutex_init(&requests->shards[i].lock, NULL);
    }
    *out = requests;
    return ERR_OK;
}

void
requests_free(struct requests *requests)
{
    if (requests == NULL) {
        return;
    }
    for (size_t i = 0; i < REQUESTS_SHARDS; i++) {
        free_folds(requests->shards[i].newest);
        pthread_mutex_destroy(&requests->shards[i].lock);
    }
    free_folds(requests->pending);
    free(requests);
}

/* ---- noting ---- */

/* Adds ANSWER to the entry of its kind; without memory it is not counted. */
static void
add_entry(struct requests_fold *fold, const struct requests_entry *answer)
{
    struct requests_entry *entry;

    for (uint32_t i = 0; i < fold->len; i++) {
        entry = &fold->entries[i];
        if (entry->endpoint == answer->endpoint && entry->method == answer->method &&
            entry->status == answer->status) {
            entry->count += answer->count;
            entry->latency_ms_sum += answer->latency_ms_sum;
            if (answer->latency_ms_max > entry->latency_ms_max) {
                entry->latency_ms_max = answer->latency_ms_max;
            }
            return;
        }
    }
    if (fold->len == fold->capacity) {
        const uint32_t capacity = fold->capacity == 0 ? 8 : fold->capacity * 2;
        struct requests_entry *entries = realloc(fold->entries, capacity * sizeof(*entries));

        if (entries == NULL) {
            return;
        }
        fold->entries = entries;
        fold->capacity = capacity;
    }
    fold->entries[fold->len++] = *answer;
}

/* The shard's fold of MINUTE; NULL without memory or room. */
static struct requests_fold *
fold_of(struct shard *shard, int64_t minute)
{
    struct requests_fold *fold = shard->newest;

    if (fold != NULL && fold->minute == minute) {
        return fold;
    }
    if (shard->count >= SHARD_FOLDS_MAX) {
        return NULL;
    }
    fold = calloc(1, sizeof(*fold));
    if (fold != NULL) {
        fold->minute = minute;
        fold->next = shard->newest;
        shard->newest = fold;
        shard->count++;
    }
    return fold;
}

static void
add_measured(const struct requests *requests, struct requests_fold *fold,
             const struct requests_entry *answer)
{
    const struct slice_rules rules =
        thresholds_of(slices_rules(requests->slices), UINT64_MAX, SPAN_LITERAL(REQUESTS_TENANT),
                      SPAN_LITERAL(REQUESTS_SERVICE));
    const struct event event = {
        .has_status = true,
        .has_latency = true,
        .status = answer->status,
        .latency_ms = answer->latency_ms_sum,
        .tenant = SPAN_LITERAL(REQUESTS_TENANT),
        .service = SPAN_LITERAL(REQUESTS_SERVICE),
    };
    enum err err = slice_add_event(&fold->slice, &event, &rules);

    (void)err; /* without memory the answer goes unmeasured */
}

void
requests_note(struct requests *requests, uint32_t shard_number, const struct requests_entry *answer,
              bool measured, int64_t now_us)
{
    struct shard *shard;
    struct requests_fold *fold;

    if (requests == NULL) {
        return;
    }
    ASSERT(shard_number < REQUESTS_SHARDS);
    ASSERT(answer->count == 1);
    shard = &requests->shards[shard_number];
    pthread_mutex_lock(&shard->lock);
    fold = fold_of(shard, minute_of_us(now_us));
    if (fold != NULL) {
        add_entry(fold, answer);
        if (measured) {
            add_measured(requests, fold, answer);
        }
    }
    pthread_mutex_unlock(&shard->lock);
}

/* ---- collecting ---- */

/* Merges FOLD into the pending ones and frees it, or puts it in its place among them. */
static void
add_pending(struct requests *requests, struct requests_fold *fold)
{
    struct requests_fold **at = &requests->pending;

    while (*at != NULL && (*at)->minute < fold->minute) {
        at = &(*at)->next;
    }
    if (*at == NULL || (*at)->minute != fold->minute) {
        fold->next = *at;
        *at = fold;
        requests->pending_count++;
        return;
    }
    for (uint32_t i = 0; i < fold->len; i++) {
        add_entry(*at, &fold->entries[i]);
    }
    if (slice_add(&(*at)->slice, &fold->slice) != ERR_OK) {
        log_warn("requests.fold_lost", LOG_I64("minute", fold->minute), LOG_END);
    }
    free_fold(fold);
}

static struct requests_fold *
take_folds(struct shard *shard)
{
    struct requests_fold *taken;

    pthread_mutex_lock(&shard->lock);
    taken = shard->newest;
    shard->newest = NULL;
    shard->count = 0;
    pthread_mutex_unlock(&shard->lock);
    return taken;
}

void
requests_collect(struct requests *requests, int64_t now_us)
{
    for (size_t i = 0; i < REQUESTS_SHARDS; i++) {
        struct requests_fold *fold = take_folds(&requests->shards[i]);

        while (fold != NULL) {
            struct requests_fold *next = fold->next;
            const struct slice_key key = {SPAN_LITERAL(REQUESTS_TENANT),
                                          SPAN_LITERAL(REQUESTS_SERVICE), fold->minute};

            if (slices_add(requests->slices, &key, &fold->slice, now_us) != ERR_OK) {
                log_warn("requests.slice_lost", LOG_I64("minute", fold->minute), LOG_END);
            }
            add_pending(requests, fold);
            fold = next;
        }
    }
    while (requests->pending_count > REQUESTS_MINUTES_MAX) {
        requests_drop_oldest(requests);
    }
}

const struct requests_fold *
requests_oldest(const struct requests *requests, int64_t before)
{
    return requests->pending != NULL && requests->pending->minute < before ? requests->pending
                                                                           : NULL;
}

void
requests_drop_oldest(struct requests *requests)
{
    struct requests_fold *oldest = requests->pending;

    ASSERT(requests->pending_count > 0);
    requests->pending = oldest->next;
    requests->pending_count--;
    free_fold(oldest);
}
