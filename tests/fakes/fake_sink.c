/*
 * fake_sink.c - arrays of what was stored, per partition in order of seq, under one mutex.
 */
#include "tests/fakes/fake_sink.h"

#include <pthread.h>
#include <stdlib.h>

enum {
    STORE_SCRIPT_MAX = 1024
};

/* What became of one sequence number. */
struct kept {
    uint64_t seq;
    enum fake_kind kind;
    int reject_code;
    char *reject_reason;
    uint64_t id_hash;
    struct buffer body; /* the event, encoded */
};

struct answers {
    int answer[STORE_SCRIPT_MAX];
    size_t next;
    size_t len;
};

struct part {
    uint64_t offset;
    struct kept *kept;
    size_t len;
    size_t capacity;
    struct fake_history folded;
    struct answers position;
    struct answers apply;
    struct answers recover;
};

struct fake_store {
    uint32_t partitions;
    const struct slice_rules *rules;

    pthread_mutex_t mutex; /* guards all below */
    struct part *parts;
    struct fake_hooks hooks;
    bool down;
    size_t events_max;
    uint32_t open_sinks;
    struct fake_store_calls calls;
};

struct fake_sink {
    struct fake_store *store;
    uint32_t partition;
};

static void
lock(struct fake_store *store)
{
    int rc = pthread_mutex_lock(&store->mutex);

    ASSERT(rc == 0);
}

static void
unlock(struct fake_store *store)
{
    int rc = pthread_mutex_unlock(&store->mutex);

    ASSERT(rc == 0);
}

static struct part *
part_of(struct fake_store *store, uint32_t partition)
{
    ASSERT(partition < store->partitions);
    return &store->parts[partition];
}

static void
answers_add(struct answers *answers, int answer)
{
    ASSERT(answers->len < STORE_SCRIPT_MAX);
    answers->answer[answers->len++] = answer;
}

/* False when the script is used up. */
static bool
answers_take(struct answers *answers, int *out)
{
    if (answers->next == answers->len) {
        answers->next = 0;
        answers->len = 0;
        return false;
    }
    *out = answers->answer[answers->next++];
    return true;
}

/* ---- rows ---- */

static uint64_t
id_hash(const struct event *event)
{
    uint64_t hash = 14695981039346656037u;

    for (size_t i = 0; i < EVENT_KEY_SIZE; i++) {
        hash = (hash ^ event->key[i]) * 1099511628211u;
    }
    return hash;
}

static bool
same_id(const struct kept *kept, const struct event *event)
{
    struct event other;
    enum err err = ERR_OK;

    if (kept->kind != FAKE_ROW || kept->id_hash != id_hash(event)) {
        return false;
    }
    err = event_decode(buffer_span(&kept->body), &other);
    ASSERT(err == ERR_OK);
    return other.id_by_client && memcmp(other.key, event->key, EVENT_KEY_SIZE) == 0;
}

/* The unique key: true when a row of any partition has the event's id. */
static bool
is_known(const struct fake_store *store, const struct event *event)
{
    if (!event->id_by_client) {
        return false;
    }
    for (uint32_t i = 0; i < store->partitions; i++) {
        for (size_t j = 0; j < store->parts[i].len; j++) {
            if (same_id(&store->parts[i].kept[j], event)) {
                return true;
            }
        }
    }
    return false;
}

static void
kept_free(struct kept *kept)
{
    free(kept->reject_reason);
    buffer_free(&kept->body);
}

static void
truncate_kept(struct part *part, size_t len)
{
    while (part->len > len) {
        kept_free(&part->kept[--part->len]);
    }
}

static void
keep(struct part *part, const struct batch_event *item, enum fake_kind kind)
{
    struct kept *kept = NULL;

    if (part->len == part->capacity) {
        size_t capacity = part->capacity == 0 ? 256 : part->capacity * 2;
        struct kept *grown = realloc(part->kept, capacity * sizeof(*part->kept));

        ASSERT(grown != NULL);
        part->kept = grown;
        part->capacity = capacity;
    }
    kept = &part->kept[part->len++];
    *kept = (struct kept){
        .seq = item->seq,
        .kind = kind,
        .id_hash = id_hash(&item->event),
        .body = BUFFER_EMPTY,
    };
    event_encode(&item->event, &kept->body);
    ASSERT(!kept->body.failed);
    if (kind == FAKE_DEAD) {
        kept->reject_code = item->reject_code;
        kept->reject_reason = strdup(item->reject_reason);
        ASSERT(kept->reject_reason != NULL);
    }
}

static const struct kept *
find_kept(const struct part *part, uint64_t seq)
{
    size_t low = 0;
    size_t high = part->len;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (part->kept[middle].seq < seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < part->len && part->kept[low].seq == seq ? &part->kept[low] : NULL;
}

/* ---- the port ---- */

static enum err
op_position(void *self, uint64_t *seq_out)
{
    struct fake_sink *sink = self;
    struct fake_store *store = sink->store;
    struct part *part = NULL;
    int scripted = ERR_OK;
    enum err err = ERR_OK;

    lock(store);
    part = part_of(store, sink->partition);
    store->calls.position++;
    if (store->down) {
        err = ERR_UNAVAILABLE;
    } else if (answers_take(&part->position, &scripted)) {
        err = (enum err)scripted;
    } else if (store->hooks.position != NULL) {
        err = store->hooks.position(store->hooks.arg, sink->partition);
    }
    if (err == ERR_OK) {
        *seq_out = part->offset;
    }
    unlock(store);
    return err;
}

static enum sink_result
reject_as(struct sink_reject *reject, int code, const char *reason)
{
    *reject = (struct sink_reject){.code = code};
    memcpy(reject->reason, reason, strlen(reason) + 1);
    return SINK_REJECTED;
}

/* Judges the events in order, as inserting them would; what was found out before a refusal stays.
 */
static enum sink_result
judge(const struct fake_store *store, struct batch *batch, struct sink_reject *reject)
{
    const struct fake_hooks *hooks = &store->hooks;

    for (size_t i = 0; i < batch->count; i++) {
        struct batch_event *item = &batch->events[i];

        ASSERT(item->outcome != OUTCOME_DUPLICATE);
        if (item->outcome == OUTCOME_DEAD) {
            if (hooks->dead_poison != NULL && hooks->dead_poison(hooks->arg, &item->event)) {
                return reject_as(reject, 1146, "no such table");
            }
        } else if (hooks->poison != NULL && hooks->poison(hooks->arg, &item->event)) {
            return reject_as(reject, 3819, "check constraint violated");
        } else if (is_known(store, &item->event)) {
            item->outcome = OUTCOME_DUPLICATE;
        }
    }
    return SINK_APPLIED;
}

/* Stores what has been judged good: rows, duplicates, dead letters, slices, offset. */
static enum sink_result
store_batch(struct fake_store *store, struct part *part, struct batch *batch)
{
    enum err err = ERR_OK;

    for (size_t i = 0; i < batch->count; i++) {
        struct batch_event *item = &batch->events[i];

        ASSERT(part->len == 0 || part->kept[part->len - 1].seq < item->seq);
        if (item->outcome == OUTCOME_DEAD) {
            keep(part, item, FAKE_DEAD);
        } else if (is_known(store, &item->event)) {
            item->outcome = OUTCOME_DUPLICATE;
            keep(part, item, FAKE_DUPLICATE);
        } else {
            item->outcome = OUTCOME_STORED;
            keep(part, item, FAKE_ROW);
        }
    }
    err = batch_fold(batch, store->rules);
    ASSERT(err == ERR_OK);
    fake_history_add_set(&part->folded, &batch->delta);
    part->offset = batch->to_seq;
    return SINK_APPLIED;
}

static enum fake_apply
next_fault(struct fake_store *store, struct part *part, const struct batch *batch)
{
    int scripted = FAKE_APPLY_WELL;

    if (store->down) {
        return FAKE_APPLY_RETRY;
    }
    if (answers_take(&part->apply, &scripted)) {
        return (enum fake_apply)scripted;
    }
    if (store->hooks.apply != NULL) {
        return store->hooks.apply(store->hooks.arg, batch);
    }
    return FAKE_APPLY_WELL;
}

static enum sink_result
apply_locked(struct fake_store *store, struct part *part, struct batch *batch,
             struct sink_reject *reject)
{
    enum fake_apply fault = next_fault(store, part, batch);
    enum sink_result result = SINK_APPLIED;

    switch (fault) {
    case FAKE_APPLY_RETRY:
        return SINK_RETRY;
    case FAKE_APPLY_UNKNOWN_LOST:
        return SINK_UNKNOWN;
    case FAKE_APPLY_TOO_BIG:
        return SINK_TOO_BIG;
    case FAKE_APPLY_REJECTED:
        return reject_as(reject, 1366, "incorrect value");
    case FAKE_APPLY_FENCED:
        return SINK_FENCED;
    case FAKE_APPLY_WELL:
    case FAKE_APPLY_UNKNOWN_STORED:
        break;
    }
    if (part->offset != batch->after_seq) {
        return SINK_FENCED;
    }
    if (store->events_max != 0 && batch->count > store->events_max) {
        return SINK_TOO_BIG;
    }
    result = judge(store, batch, reject);
    if (result == SINK_APPLIED) {
        result = store_batch(store, part, batch);
    }
    return result == SINK_APPLIED && fault == FAKE_APPLY_UNKNOWN_STORED ? SINK_UNKNOWN : result;
}

static enum sink_result
op_apply(void *self, struct batch *batch, struct sink_reject *reject)
{
    struct fake_sink *sink = self;
    struct fake_store *store = sink->store;
    enum sink_result result = SINK_APPLIED;

    ASSERT(batch->partition == sink->partition);
    ASSERT(batch->count > 0);
    ASSERT(batch->after_seq < batch->events[0].seq);
    ASSERT(batch->events[batch->count - 1].seq <= batch->to_seq);
    lock(store);
    store->calls.apply++;
    store->calls.last_apply_count = batch->count;
    result = apply_locked(store, part_of(store, sink->partition), batch, reject);
    unlock(store);
    return result;
}

static void
recover_one(const struct part *part, struct batch_event *item)
{
    const struct kept *kept = find_kept(part, item->seq);

    /* As with the real one, a seq behind the offset with neither row nor letter was a repeat. */
    item->outcome = OUTCOME_DUPLICATE;
    if (kept != NULL && kept->kind == FAKE_ROW) {
        item->outcome = OUTCOME_STORED;
    } else if (kept != NULL && kept->kind == FAKE_DEAD) {
        item->outcome = OUTCOME_DEAD;
    }
}

static enum err
op_recover(void *self, struct batch *batch)
{
    struct fake_sink *sink = self;
    struct fake_store *store = sink->store;
    struct part *part = NULL;
    int scripted = ERR_OK;
    enum err err = ERR_OK;

    ASSERT(batch->partition == sink->partition);
    lock(store);
    part = part_of(store, sink->partition);
    store->calls.recover++;
    if (store->down || batch->to_seq > part->offset) {
        err = ERR_UNAVAILABLE;
    } else if (answers_take(&part->recover, &scripted)) {
        err = (enum err)scripted;
    } else if (store->hooks.recover != NULL) {
        err = store->hooks.recover(store->hooks.arg, batch);
    }
    for (size_t i = 0; err == ERR_OK && i < batch->count; i++) {
        recover_one(part, &batch->events[i]);
    }
    unlock(store);
    return err;
}

static void
op_close(void *self)
{
    struct fake_sink *sink = self;

    lock(sink->store);
    sink->store->calls.close++;
    ASSERT(sink->store->open_sinks > 0);
    sink->store->open_sinks--;
    unlock(sink->store);
    free(sink);
}

static const struct sink_ops FAKE_SINK_OPS = {
    .position = op_position,
    .apply = op_apply,
    .recover = op_recover,
    .close = op_close,
};

/* ---- life ---- */

struct fake_store *
fake_store_new(uint32_t partitions, const struct slice_rules *rules)
{
    struct fake_store *store = calloc(1, sizeof(*store));
    int rc = 0;

    ASSERT(store != NULL);
    store->partitions = partitions;
    store->rules = rules;
    store->parts = calloc(partitions, sizeof(*store->parts));
    ASSERT(store->parts != NULL);
    rc = pthread_mutex_init(&store->mutex, NULL);
    ASSERT(rc == 0);
    return store;
}

void
fake_store_free(struct fake_store *store)
{
    if (store == NULL) {
        return;
    }
    ASSERT(store->open_sinks == 0);
    for (uint32_t i = 0; i < store->partitions; i++) {
        truncate_kept(&store->parts[i], 0);
        free(store->parts[i].kept);
        fake_history_clear(&store->parts[i].folded);
    }
    free(store->parts);
    (void)pthread_mutex_destroy(&store->mutex);
    free(store);
}

struct sink
fake_store_sink(struct fake_store *store, uint32_t partition)
{
    struct fake_sink *sink = calloc(1, sizeof(*sink));

    ASSERT(sink != NULL);
    *sink = (struct fake_sink){store, partition};
    lock(store);
    (void)part_of(store, partition);
    store->open_sinks++;
    unlock(store);
    return (struct sink){&FAKE_SINK_OPS, sink};
}

void
fake_store_set_hooks(struct fake_store *store, const struct fake_hooks *hooks)
{
    lock(store);
    store->hooks = *hooks;
    unlock(store);
}

void
fake_store_next_position(struct fake_store *store, uint32_t partition, enum err err)
{
    lock(store);
    answers_add(&part_of(store, partition)->position, (int)err);
    unlock(store);
}

void
fake_store_next_apply(struct fake_store *store, uint32_t partition, enum fake_apply what)
{
    lock(store);
    answers_add(&part_of(store, partition)->apply, (int)what);
    unlock(store);
}

void
fake_store_next_recover(struct fake_store *store, uint32_t partition, enum err err)
{
    lock(store);
    answers_add(&part_of(store, partition)->recover, (int)err);
    unlock(store);
}

void
fake_store_set_down(struct fake_store *store, bool down)
{
    lock(store);
    store->down = down;
    unlock(store);
}

void
fake_store_set_events_max(struct fake_store *store, size_t events_max)
{
    lock(store);
    store->events_max = events_max;
    unlock(store);
}

void
fake_store_set_offset(struct fake_store *store, uint32_t partition, uint64_t seq)
{
    lock(store);
    part_of(store, partition)->offset = seq;
    unlock(store);
}

static void
add_rows(const struct fake_store *store, const struct part *part, struct fake_history *out)
{
    for (size_t i = 0; i < part->len; i++) {
        struct event event;
        enum err err = event_decode(buffer_span(&part->kept[i].body), &event);

        ASSERT(err == ERR_OK);
        if (part->kept[i].kind != FAKE_DUPLICATE && event_is_measured(&event)) {
            fake_history_add_event(out, &event, store->rules);
        }
    }
}

void
fake_store_roll_back(struct fake_store *store, uint32_t partition, uint64_t seq)
{
    struct part *part = NULL;
    size_t len = 0;

    lock(store);
    part = part_of(store, partition);
    ASSERT(seq <= part->offset);
    while (len < part->len && part->kept[len].seq <= seq) {
        len++;
    }
    truncate_kept(part, len);
    part->offset = seq;
    fake_history_clear(&part->folded);
    add_rows(store, part, &part->folded);
    unlock(store);
}

/* ---- looking ---- */

enum fake_kind
fake_store_kind(struct fake_store *store, uint32_t partition, uint64_t seq)
{
    const struct kept *kept = NULL;
    enum fake_kind kind = FAKE_ABSENT;

    lock(store);
    kept = find_kept(part_of(store, partition), seq);
    if (kept != NULL) {
        kind = kept->kind;
    }
    unlock(store);
    return kind;
}

int
fake_store_reject(struct fake_store *store, uint32_t partition, uint64_t seq,
                  const char **reason_out)
{
    const struct kept *kept = NULL;
    int code = 0;

    lock(store);
    kept = find_kept(part_of(store, partition), seq);
    ASSERT(kept != NULL);
    ASSERT(kept->kind == FAKE_DEAD);
    *reason_out = kept->reject_reason;
    code = kept->reject_code;
    unlock(store);
    return code;
}

uint64_t
fake_store_offset(struct fake_store *store, uint32_t partition)
{
    uint64_t offset = 0;

    lock(store);
    offset = part_of(store, partition)->offset;
    unlock(store);
    return offset;
}

uint64_t
fake_store_count(struct fake_store *store, enum fake_kind kind)
{
    uint64_t count = 0;

    lock(store);
    for (uint32_t i = 0; i < store->partitions; i++) {
        for (size_t j = 0; j < store->parts[i].len; j++) {
            count += store->parts[i].kept[j].kind == kind ? 1 : 0;
        }
    }
    unlock(store);
    return count;
}

void
fake_store_folded(struct fake_store *store, struct fake_history *out)
{
    lock(store);
    fake_history_clear(out);
    for (uint32_t i = 0; i < store->partitions; i++) {
        fake_history_add_all(out, &store->parts[i].folded);
    }
    unlock(store);
}

void
fake_store_summed(struct fake_store *store, struct fake_history *out)
{
    lock(store);
    fake_history_clear(out);
    for (uint32_t i = 0; i < store->partitions; i++) {
        add_rows(store, &store->parts[i], out);
    }
    unlock(store);
}

struct fake_store_calls
fake_store_calls(struct fake_store *store)
{
    struct fake_store_calls calls;

    lock(store);
    calls = store->calls;
    unlock(store);
    return calls;
}
