/*
 * counts.c - the engine's life: what a start reads back, what each event costs, and the thread that
 * folds.
 *
 * The thread is the only one that changes the history, so it reads a snapshot, works out what is to
 * become of it, and hands over a list of changes; the committer only writes them down. The one
 * exception are removals, which the committer adds by itself: new keys that nobody else writes.
 */
#include "core/counts/counts.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "core/base/log.h"
#include "core/counts/counts_internal.h"

enum {
    FOLD_EVENTS = 32768,  /* so many wake the thread */
    FOLD_WAIT_MS = 1000,  /* and fewer wait so long */
    RETRY_WAIT_MS = 1000, /* after a refusal */
    WAKE_EVERY = 4096,
};

/* ---- adding ---- */

enum err
counts_add(struct counts *counts, uint64_t seq, const struct event *event)
{
    const struct span values[COUNT_DIMENSIONS] = {event->channel, event->campaign_id};
    struct tail_entry entry = {
        .occurred_us = event->occurred_at_us,
        .user = event->user_id.data == NULL ? 0 : user_hash(event->user_id),
    };
    enum err err = count_names_place(counts->names, event->tenant, event->name, values, &entry.at);

    if (err != ERR_OK || entry.at.name == COUNT_NO_NAME) {
        atomic_fetch_add_explicit(&counts->dropped_events, 1, memory_order_relaxed);
        entry.at.name = COUNT_NO_NAME;
    } else if (entry.at.value[0] == COUNT_OTHER || entry.at.value[1] == COUNT_OTHER) {
        atomic_fetch_add_explicit(&counts->other_events, 1, memory_order_relaxed);
    }
    if (err == ERR_OK) {
        err = count_tail_add(&counts->tail, seq, &entry);
        if (err != ERR_OK && entry.at.name != COUNT_NO_NAME) {
            atomic_fetch_add_explicit(&counts->dropped_events, 1, memory_order_relaxed);
        }
    }
    if (seq % WAKE_EVERY == 0 && seq - atomic_load(&counts->counted_seq) >= FOLD_EVENTS) {
        pthread_cond_signal(&counts->wake); /* one that is missed costs FOLD_WAIT_MS */
    }
    return err;
}

/* ---- the thread ---- */

/* What else there is to do than to fold; answers as counts_fold_once(). */
static enum err
tidy_once(struct counts *counts, int64_t now_us)
{
    enum err err = count_fold_removals(counts, now_us);

    if (err == ERR_NOT_FOUND) {
        err = count_drop_oldest(counts, now_us);
    }
    if (err == ERR_NOT_FOUND) {
        err = count_rollup_due(counts, now_us);
    }
    return err;
}

enum err
counts_fold_once(struct counts *counts, int64_t now_us)
{
    enum err err = counts->state_saved ? ERR_NOT_FOUND : count_commit(counts, &counts->state);

    if (err == ERR_NOT_FOUND) {
        err = count_fold_tail(counts, now_us);
    }
    return err == ERR_NOT_FOUND ? tidy_once(counts, now_us) : err;
}

enum err
counts_fold(struct counts *counts, int64_t now_us)
{
    enum err err;

    ASSERT(!counts->has_thread);
    do {
        err = counts_fold_once(counts, now_us);
    } while (err == ERR_OK);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

static bool
is_behind(struct counts *counts)
{
    return count_tail_last(&counts->tail) - counts->state.counted_seq >= FOLD_EVENTS;
}

/* False once the engine is to stop. */
static bool
wait_for_work(struct counts *counts, int wait_ms)
{
    struct timespec until;
    bool stopping;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)wait_ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&counts->lock);
    if (!counts->stopping && !is_behind(counts)) {
        (void)pthread_cond_timedwait(&counts->wake, &counts->lock, &until);
    }
    stopping = counts->stopping;
    pthread_mutex_unlock(&counts->lock);
    return !stopping;
}

/* True while a further try makes sense. */
static bool
note_failure(enum err err)
{
    switch (err) {
    case ERR_AGAIN:
    case ERR_FULL:
    case ERR_NO_MEMORY:
    case ERR_IO:
        log_warn("counts.fold_waits", LOG_ERR(err), LOG_END);
        return true;
    case ERR_CLOSED:
    case ERR_FAILED:
    case ERR_UNKNOWN:
        return false; /* the log is at its end and has said so */
    default:
        log_error("counts.fold_stopped", LOG_ERR(err), LOG_END);
        return false;
    }
}

/*
 * One fold of what there is, further ones only while much is left: under steady traffic there
 * always is something, and a commit for each handful would cost the appends dearly.
 */
static enum err
work(struct counts *counts)
{
    enum err err;

    if (!counts->state_saved) {
        err = count_commit(counts, &counts->state);
        if (err != ERR_OK) {
            return err;
        }
    }
    do {
        err = count_fold_tail(counts, clock_wall_us(counts->config.clock));
    } while (err == ERR_OK && is_behind(counts));
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        return err;
    }
    do {
        err = tidy_once(counts, clock_wall_us(counts->config.clock));
    } while (err == ERR_OK && !is_behind(counts));
    return err;
}

static void *
counts_main(void *arg)
{
    struct counts *counts = arg;
    int wait_ms = FOLD_WAIT_MS;

    while (wait_for_work(counts, wait_ms)) {
        enum err err = work(counts);

        wait_ms = FOLD_WAIT_MS;
        if (err != ERR_OK && err != ERR_NOT_FOUND) {
            if (!note_failure(err)) {
                break;
            }
            wait_ms = RETRY_WAIT_MS;
        }
    }
    return NULL;
}

enum err
counts_start(struct counts *counts)
{
    ASSERT(!counts->has_thread);
    if (!counts->state_saved) {
        /* Before the first event, or a crash would let a later start begin after it. */
        enum err err = count_commit(counts, &counts->state);

        if (err != ERR_OK && err != ERR_FULL) {
            return err;
        }
    }
    if (pthread_create(&counts->thread, NULL, counts_main, counts) != 0) {
        return ERR_NO_MEMORY;
    }
    counts->has_thread = true;
    return ERR_OK;
}

void
counts_stop(struct counts *counts)
{
    enum err err;

    if (counts == NULL || !counts->has_thread) {
        return;
    }
    pthread_mutex_lock(&counts->lock);
    counts->stopping = true;
    pthread_cond_signal(&counts->wake);
    pthread_mutex_unlock(&counts->lock);
    pthread_join(counts->thread, NULL);
    counts->has_thread = false;
    do {
        err = count_fold_tail(counts, clock_wall_us(counts->config.clock));
    } while (err == ERR_OK);
    if (err != ERR_NOT_FOUND) {
        log_warn("counts.tail_left", LOG_ERR(err),
                 LOG_STR("hint", "the next start reads it from the log"), LOG_END);
    }
}

/* ---- start ---- */

static enum err
load_state(struct counts *counts, struct count_reader *reader, bool *found_out)
{
    struct count_key key = count_key_state();
    struct span value;
    enum err err = count_reader_get(reader, &key, &value);

    *found_out = err == ERR_OK;
    if (err == ERR_NOT_FOUND) {
        counts->state.from_us = INT64_MIN;
        return ERR_OK;
    }
    return err != ERR_OK ? err : count_state_decode(value, &counts->state);
}

/* Gives each pair whose key begins with KIND to FN. */
static enum err
each_of_kind(struct counts *counts, struct count_reader *reader, char kind,
             enum err (*fn)(struct counts *counts, struct span key, struct span value))
{
    const struct count_store *store = reader->store;
    struct span key;
    struct span value;
    enum err err =
        store->ops->seek(store->self, reader->snapshot, (struct span){&kind, 1}, &key, &value);

    while (err == ERR_OK && key.data[0] == kind) {
        err = fn(counts, key, value);
        if (err != ERR_OK) {
            return err;
        }
        err = store->ops->next(store->self, reader->snapshot, &key, &value);
    }
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

static enum err
load_name(struct counts *counts, struct span key, struct span value)
{
    struct span tenant;
    struct span name;
    uint32_t number;
    enum err err = count_name_decode(value, &tenant, &name);

    if (err != ERR_OK) {
        return err;
    }
    return count_parse_name(key, &number) ? count_names_load(counts->names, number, tenant, name)
                                          : ERR_CORRUPT;
}

static enum err
load_value(struct counts *counts, struct span key, struct span value)
{
    struct count_value_key parsed;
    struct span text;
    enum err err = count_value_decode(value, &text);

    if (err != ERR_OK) {
        return err;
    }
    return count_parse_value(key, &parsed)
               ? count_names_load_value(counts->names, parsed.name, parsed.dimension, parsed.index,
                                        text)
               : ERR_CORRUPT;
}

static enum err
load_todo(struct counts *counts, struct span key, struct span value)
{
    struct count_rollup_key parsed;

    (void)value;
    return count_parse_todo(key, &parsed)
               ? todo_mark(&counts->todo, parsed.level, parsed.name, parsed.bucket_us, 0, true,
                           &counts->todo_overflowed)
               : ERR_CORRUPT;
}

static enum err
load(struct counts *counts, bool *found_out)
{
    struct count_reader reader;
    enum err err = count_reader_begin(&reader, &counts->config.store);

    if (err == ERR_OK) {
        err = load_state(counts, &reader, found_out);
    }
    if (err == ERR_OK) {
        err = each_of_kind(counts, &reader, 'N', load_name);
    }
    if (err == ERR_OK) {
        err = each_of_kind(counts, &reader, 'V', load_value);
    }
    if (err == ERR_OK) {
        err = each_of_kind(counts, &reader, 'X', load_todo);
    }
    count_reader_end(&reader);
    if (err != ERR_OK) {
        log_error("counts.history_unreadable", LOG_ERR(err), LOG_END);
    }
    return err;
}

static enum err
init_locks(struct counts *counts)
{
    pthread_condattr_t monotonic;

    if (pthread_condattr_init(&monotonic) != 0) {
        return ERR_NO_MEMORY;
    }
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&counts->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return pthread_mutex_init(&counts->lock, NULL) == 0 ? ERR_OK : ERR_NO_MEMORY;
}

enum err
counts_new(struct counts **out, const struct counts_config *config)
{
    const struct count_names_limits limits = {
        .names_max = COUNTS_NAMES_MAX,
        .values_max = COUNTS_VALUES_MAX,
        .dimension_max = {COUNTS_CHANNELS_MAX, COUNTS_CAMPAIGNS_MAX},
    };
    struct counts *counts = calloc(1, sizeof(*counts));
    bool found = false;
    enum err err;

    if (counts == NULL) {
        return ERR_NO_MEMORY;
    }
    counts->config = *config;
    err = init_locks(counts);
    if (err == ERR_OK) {
        err = count_names_new(&counts->names, &limits);
    }
    if (err == ERR_OK) {
        err = load(counts, &found);
    }
    if (err == ERR_OK) {
        err = count_tail_init(&counts->tail, counts->state.counted_seq);
    }
    if (err != ERR_OK) {
        counts_free(counts);
        return err;
    }
    atomic_store(&counts->counted_seq, counts->state.counted_seq);
    atomic_store(&counts->begin_seq, counts->state.begin_seq);
    atomic_store(&counts->from_us, counts->state.from_us);
    if (found) {
        config->store.ops->hold(config->store.self, counts->state.counted_seq);
    }
    counts->has_begun = found;
    counts->state_saved = found;
    *out = counts;
    return ERR_OK;
}

void
counts_begin(struct counts *counts, uint64_t seq)
{
    if (counts->has_begun) {
        return;
    }
    ASSERT(count_tail_last(&counts->tail) == 0);
    counts->has_begun = true;
    counts->state.counted_seq = seq;
    counts->state.begin_seq = seq;
    atomic_store(&counts->counted_seq, seq);
    atomic_store(&counts->begin_seq, seq);
    atomic_store(&counts->tail.last_seq, seq);
    counts->config.store.ops->hold(counts->config.store.self, seq);
    if (seq > 0) {
        log_info("counts.begin", LOG_U64("after_seq", seq),
                 LOG_STR("meaning", "events before it are not in the counts"), LOG_END);
    }
}

void
counts_free(struct counts *counts)
{
    if (counts == NULL) {
        return;
    }
    counts_stop(counts);
    count_names_free(counts->names);
    count_tail_fini(&counts->tail);
    count_changes_free(&counts->changes);
    buffer_free(&counts->chunk);
    todo_free(&counts->todo);
    free(counts->entries);
    (void)pthread_cond_destroy(&counts->wake);
    (void)pthread_mutex_destroy(&counts->lock);
    free(counts);
}

uint64_t
counts_counted(struct counts *counts)
{
    return atomic_load(&counts->counted_seq);
}

void
counts_stats(struct counts *counts, struct counts_stats *out)
{
    uint64_t counted = atomic_load(&counts->counted_seq);
    uint64_t last = count_tail_last(&counts->tail);

    *out = (struct counts_stats){
        .names = count_names_count(counts->names),
        .values = count_names_value_total(counts->names),
        .tail_events = last > counted ? last - counted : 0,
        .counted_seq = counted,
        .begin_seq = atomic_load(&counts->begin_seq),
        .from_us = atomic_load(&counts->from_us),
        .history_bytes = counts->config.store.ops->bytes(counts->config.store.self),
        .history_bytes_max = counts->config.history_bytes_max,
        .dropped_events = atomic_load(&counts->dropped_events),
        .other_events = atomic_load(&counts->other_events),
    };
}

void
counts_sum_clear(struct counts_sum *sum)
{
    user_set_clear(&sum->users);
    *sum = (struct counts_sum){0};
}

uint64_t
counts_sum_users(const struct counts_sum *sum)
{
    ASSERT(!sum->lone.present || user_set_is_empty(&sum->users));
    return sum->lone.present ? sum->lone.users : user_set_count(&sum->users);
}
