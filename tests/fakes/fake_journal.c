/*
 * fake_journal.c - a growing array of records behind the journal port, under one mutex.
 *
 * A group is taken from the queue under the mutex, completed outside of it, as the log does: done()
 * may take locks of its own, and the observer runs before the watermark rises.
 */
#include "tests/fakes/fake_journal.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum {
    SCRIPT_MAX = 1024
};

struct record {
    char *body; /* NULL once trimmed */
    size_t len;
    int64_t created_at_us;
    bool corrupt;
    bool missing;
};

struct known_key {
    uint8_t key[EVENT_KEY_SIZE];
    uint32_t content_crc;
    uint64_t seq; /* 0: the place is free */
    uint64_t ordinal;
};

struct script_step {
    enum err err;
    bool stored;
};

struct script {
    struct script_step step[SCRIPT_MAX];
    size_t next;
    size_t len;
};

struct fake_journal {
    struct journal port;
    struct fake_journal_config config;
    pthread_t thread;
    bool has_thread;

    pthread_mutex_t mutex;  /* guards all below */
    pthread_cond_t changed; /* any of it */
    struct append *queue_head;
    struct append *queue_tail;
    uint64_t queued_events;
    bool kicked;
    bool held;
    bool closed;
    bool failed;
    bool full;
    struct record *records; /* records[i] has seq i + 1 */
    uint64_t last_seq;
    uint64_t capacity;
    uint64_t durable_seq;
    uint64_t trimmed_seq;
    uint64_t bytes;
    struct known_key *keys; /* open addressing, a power of two places */
    uint64_t key_places;
    uint64_t key_count;
    uint64_t replicated_seq[JOURNAL_PARTITIONS_MAX];
    struct fake_history history;
    struct count_changes removals; /* of all advances */
    struct fake_journal_calls calls;
    struct script append_script;
    struct script commit_script;
    struct script read_script;
    struct script scan_script;
    struct script advance_script;
};

static void
lock(struct fake_journal *fake)
{
    int rc = pthread_mutex_lock(&fake->mutex);

    ASSERT(rc == 0);
}

static void
unlock(struct fake_journal *fake)
{
    int rc = pthread_mutex_unlock(&fake->mutex);

    ASSERT(rc == 0);
}

static void
wake_all(struct fake_journal *fake)
{
    int rc = pthread_cond_broadcast(&fake->changed);

    ASSERT(rc == 0);
}

static void
wait_change(struct fake_journal *fake)
{
    int rc = pthread_cond_wait(&fake->changed, &fake->mutex);

    ASSERT(rc == 0);
}

static void
script_add(struct script *script, enum err err, bool stored)
{
    ASSERT(script->len < SCRIPT_MAX);
    script->step[script->len++] = (struct script_step){err, stored};
}

static struct script_step
script_take(struct script *script)
{
    struct script_step step = {ERR_OK, true};

    if (script->next < script->len) {
        step = script->step[script->next++];
    }
    if (script->next == script->len) {
        script->next = 0;
        script->len = 0;
    }
    return step;
}

/* ---- duplicates ---- */

static uint64_t
key_hash(const uint8_t key[EVENT_KEY_SIZE])
{
    uint64_t hash = 14695981039346656037u;

    for (size_t i = 0; i < EVENT_KEY_SIZE; i++) {
        hash = (hash ^ key[i]) * 1099511628211u;
    }
    return hash ^ (hash >> 32);
}

/* The place of KEY, or the free place where it belongs. */
static struct known_key *
key_place(struct fake_journal *fake, const uint8_t key[EVENT_KEY_SIZE])
{
    uint64_t i = key_hash(key);

    for (;; i++) {
        struct known_key *place = &fake->keys[i & (fake->key_places - 1)];

        if (place->seq == 0 || memcmp(place->key, key, EVENT_KEY_SIZE) == 0) {
            return place;
        }
    }
}

static void
grow_keys(struct fake_journal *fake)
{
    struct known_key *old = fake->keys;
    uint64_t old_places = fake->key_places;

    if ((fake->key_count + 1) * 2 <= old_places) {
        return;
    }
    fake->key_places = old_places == 0 ? 64 : old_places * 2;
    fake->keys = calloc(fake->key_places, sizeof(*fake->keys));
    ASSERT(fake->keys != NULL);
    for (uint64_t i = 0; i < old_places; i++) {
        if (old[i].seq != 0) {
            *key_place(fake, old[i].key) = old[i];
        }
    }
    free(old);
}

/* True when EVENT repeats a key in the window; then its seq and mismatch are set. */
static bool
settle_repeat(struct fake_journal *fake, struct append_event *event)
{
    struct known_key *place = NULL;

    if (!event->has_key || fake->config.id_window == 0) {
        return false;
    }
    grow_keys(fake);
    place = key_place(fake, event->key);
    if (place->seq != 0 && fake->key_count - place->ordinal <= fake->config.id_window) {
        event->duplicate = true;
        event->mismatch = place->content_crc != event->content_crc;
        event->seq = place->seq;
        return true;
    }
    *place = (struct known_key){
        .content_crc = event->content_crc, .seq = fake->last_seq + 1, .ordinal = fake->key_count++};
    memcpy(place->key, event->key, EVENT_KEY_SIZE);
    return false;
}

/* ---- committing ---- */

static void
store_record(struct fake_journal *fake, struct append_event *event)
{
    struct record record = {.len = event->body.len};
    struct event decoded;

    if (fake->last_seq == fake->capacity) {
        uint64_t capacity = fake->capacity == 0 ? 256 : fake->capacity * 2;
        struct record *grown = realloc(fake->records, capacity * sizeof(*fake->records));

        ASSERT(grown != NULL);
        fake->records = grown;
        fake->capacity = capacity;
    }
    record.body = malloc(event->body.len + 1);
    ASSERT(record.body != NULL);
    memcpy(record.body, event->body.data, event->body.len);
    if (event_decode(event->body, &decoded) == ERR_OK) {
        record.created_at_us = decoded.created_at_us;
    }
    fake->records[fake->last_seq++] = record;
    fake->bytes += event->body.len;
    event->seq = fake->last_seq;
}

static void
store_group(struct fake_journal *fake, struct append *group)
{
    for (struct append *append = group; append != NULL; append = append->next) {
        for (uint32_t i = 0; i < append->count; i++) {
            struct append_event *event = &append->events[i];

            event->duplicate = false;
            event->mismatch = false;
            if (!settle_repeat(fake, event)) {
                store_record(fake, event);
            }
        }
    }
}

static void
tell_observer(const struct journal_observer *observer, const struct append *group)
{
    if (observer->durable == NULL) {
        return;
    }
    for (const struct append *append = group; append != NULL; append = append->next) {
        for (uint32_t i = 0; i < append->count; i++) {
            if (!append->events[i].duplicate) {
                observer->durable(observer->self, &append->events[i]);
            }
        }
    }
}

static size_t
complete_group(struct append *group, enum err result)
{
    size_t count = 0;

    while (group != NULL) {
        struct append *next = group->next;

        group->next = NULL;
        group->result = result;
        group->done(group);
        group = next;
        count++;
    }
    return count;
}

/* Takes all that is queued; mutex held. */
static struct append *
take_group(struct fake_journal *fake)
{
    struct append *group = fake->queue_head;

    fake->queue_head = NULL;
    fake->queue_tail = NULL;
    fake->queued_events = 0;
    fake->kicked = false;
    return group;
}

/* One group from queue to done(). Only one thread at a time commits, as with the log. */
size_t
fake_journal_commit(struct fake_journal *fake)
{
    struct append *group = NULL;
    struct script_step step = {ERR_OK, true};
    uint64_t last_seq = 0;

    lock(fake);
    group = take_group(fake);
    if (group == NULL) {
        unlock(fake);
        return 0;
    }
    fake->calls.commit++;
    step =
        fake->failed ? (struct script_step){ERR_FAILED, false} : script_take(&fake->commit_script);
    if (step.err == ERR_OK || (step.err == ERR_UNKNOWN && step.stored)) {
        store_group(fake, group);
    }
    if (step.err == ERR_FAILED || step.err == ERR_UNKNOWN) {
        fake->failed = true;
    }
    last_seq = fake->last_seq;
    unlock(fake);

    if (step.err == ERR_OK) {
        tell_observer(&fake->config.observer, group);
        lock(fake);
        fake->durable_seq = last_seq;
        wake_all(fake);
        unlock(fake);
    }
    return complete_group(group, step.err);
}

static void *
committer_main(void *arg)
{
    struct fake_journal *fake = arg;

    for (;;) {
        bool ends = false;

        lock(fake);
        while (!fake->closed && (fake->held || !fake->kicked)) {
            wait_change(fake);
        }
        ends = fake->closed && fake->queue_head == NULL;
        fake->kicked = false;
        unlock(fake);
        if (ends) {
            return NULL;
        }
        (void)fake_journal_commit(fake);
    }
}

/* ---- the port ---- */

static enum err
op_append(void *self, struct append *append)
{
    struct fake_journal *fake = self;
    enum err err = ERR_OK;

    ASSERT(append->count > 0);
    ASSERT(append->done != NULL);
    lock(fake);
    fake->calls.append++;
    err = script_take(&fake->append_script).err;
    if (err != ERR_OK) {
        /* scripted */
    } else if (fake->failed) {
        err = ERR_FAILED;
    } else if (fake->closed) {
        err = ERR_CLOSED;
    } else if (fake->full ||
               (fake->config.bytes_max != 0 && fake->bytes >= fake->config.bytes_max)) {
        err = ERR_FULL;
    } else if (fake->config.queue_events != 0 && fake->queued_events > 0 &&
               fake->queued_events + append->count > fake->config.queue_events) {
        err = ERR_AGAIN;
    } else {
        append->next = NULL;
        if (fake->queue_tail == NULL) {
            fake->queue_head = append;
        } else {
            fake->queue_tail->next = append;
        }
        fake->queue_tail = append;
        fake->queued_events += append->count;
        wake_all(fake);
    }
    unlock(fake);
    return err;
}

static void
op_kick(void *self)
{
    struct fake_journal *fake = self;

    lock(fake);
    fake->calls.kick++;
    fake->kicked = true;
    wake_all(fake);
    unlock(fake);
}

static uint64_t
op_durable_seq(void *self)
{
    struct fake_journal *fake = self;
    uint64_t seq = 0;

    lock(fake);
    seq = fake->durable_seq;
    unlock(fake);
    return seq;
}

static struct timespec
deadline_after(int timeout_ms)
{
    struct timespec at = {0, 0};
    int rc = clock_gettime(CLOCK_MONOTONIC, &at);

    ASSERT(rc == 0);
    at.tv_sec += timeout_ms / 1000;
    at.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_nsec -= 1000000000;
        at.tv_sec += 1;
    }
    return at;
}

static enum err
op_wait_durable(void *self, uint64_t seq, int timeout_ms)
{
    struct fake_journal *fake = self;
    struct timespec deadline =
        timeout_ms < 0 ? (struct timespec){0, 0} : deadline_after(timeout_ms);
    enum err err = ERR_OK;
    int rc = 0;

    lock(fake);
    while (fake->durable_seq < seq && !fake->closed && rc == 0) {
        if (timeout_ms < 0) {
            wait_change(fake);
        } else {
            rc = pthread_cond_timedwait(&fake->changed, &fake->mutex, &deadline);
        }
    }
    if (fake->durable_seq >= seq) {
        err = ERR_OK;
    } else if (fake->closed) {
        err = ERR_CLOSED;
    } else {
        err = ERR_TIMEOUT;
    }
    unlock(fake);
    return err;
}

static uint64_t
next_of_partition(uint64_t after_seq, uint32_t partition, uint32_t partitions)
{
    uint64_t seq = after_seq + 1;

    while (journal_partition_of(seq, partitions) != partition) {
        seq = ((seq - 1) / JOURNAL_STRIPE + 1) * JOURNAL_STRIPE + 1;
    }
    return seq;
}

/* Makes room for one more event in BATCH. */
static struct batch_event *
batch_add(struct batch *batch)
{
    if (batch->count == batch->capacity) {
        size_t capacity = batch->capacity == 0 ? 64 : batch->capacity * 2;
        struct batch_event *grown = realloc(batch->events, capacity * sizeof(*batch->events));

        ASSERT(grown != NULL);
        batch->events = grown;
        batch->capacity = capacity;
    }
    memset(&batch->events[batch->count], 0, sizeof(batch->events[0]));
    return &batch->events[batch->count++];
}

/* Copies records; the events are decoded afterwards, when the bytes no longer move. Mutex held. */
static enum err
copy_records(struct fake_journal *fake, const struct batch_limits *limits, struct batch *out)
{
    uint32_t partitions = fake->port.partitions;
    uint64_t bound = limits->to_seq < fake->durable_seq ? limits->to_seq : fake->durable_seq;
    uint64_t seq = next_of_partition(out->after_seq, out->partition, partitions);

    while (seq <= fake->trimmed_seq) {
        seq = next_of_partition(seq, out->partition, partitions);
    }
    while (seq <= bound) {
        const struct record *record = &fake->records[seq - 1];

        if (record->corrupt && out->count == 0) {
            return ERR_CORRUPT;
        }
        if (record->corrupt || out->count >= limits->events_max ||
            (out->count > 0 && out->bytes.len + record->len > limits->bytes_max)) {
            break;
        }
        if (!record->missing) {
            batch_add(out)->seq = seq;
            buffer_append(&out->bytes, record->body, record->len);
            ASSERT(!out->bytes.failed);
            out->to_seq = seq;
        }
        seq = next_of_partition(seq, out->partition, partitions);
    }
    return out->count == 0 ? ERR_NOT_FOUND : ERR_OK;
}

static enum err
decode_records(const struct fake_journal *fake, struct batch *out)
{
    size_t at = 0;

    for (size_t i = 0; i < out->count; i++) {
        size_t len = fake->records[out->events[i].seq - 1].len;
        enum err err =
            event_decode((struct span){out->bytes.data + at, len}, &out->events[i].event);

        if (err != ERR_OK) {
            return err;
        }
        at += len;
    }
    return ERR_OK;
}

static enum err
op_read(void *self, uint32_t partition, uint64_t after_seq, const struct batch_limits *limits,
        struct batch *out)
{
    struct fake_journal *fake = self;
    enum err err = ERR_OK;

    ASSERT(partition < fake->port.partitions);
    batch_clear(out);
    out->partition = partition;
    out->after_seq = after_seq;
    out->to_seq = after_seq;
    lock(fake);
    fake->calls.read++;
    err = script_take(&fake->read_script).err;
    if (err == ERR_OK) {
        err = copy_records(fake, limits, out);
    }
    if (err == ERR_OK) {
        err = decode_records(fake, out);
    }
    unlock(fake);
    return err;
}

/* FN runs under the mutex, which is one way of not being allowed to call back. */
static enum err
op_scan(void *self, const struct journal_scan *scan, journal_scan_fn *fn, void *arg,
        struct journal_scanned *out)
{
    struct fake_journal *fake = self;
    const uint32_t partitions = fake->port.partitions;
    struct journal_scanned scanned = {0};
    enum err err;

    lock(fake);
    fake->calls.scan++;
    err = script_take(&fake->scan_script).err;
    scanned.next_seq = journal_scan_first(scan, scan->from_seq, partitions);
    scanned.done = scanned.next_seq > fake->durable_seq;
    if (err == ERR_OK && !scanned.done && scanned.next_seq <= fake->trimmed_seq) {
        err = ERR_NOT_FOUND;
    }
    for (uint32_t walked = 0; err == ERR_OK && !scanned.done && walked < scan->records_max;
         walked++) {
        const struct record *record = &fake->records[scanned.next_seq - 1];
        struct event event;

        if (record->corrupt) {
            scanned.damaged++;
        } else {
            err = event_decode((struct span){record->body, record->len}, &event);
            ASSERT(err == ERR_OK);
            err = fn(arg, scanned.next_seq, &event);
        }
        scanned.next_seq = journal_scan_first(scan, scanned.next_seq + 1, partitions);
        scanned.done = scanned.next_seq > fake->durable_seq;
    }
    if (err == ERR_OK) {
        *out = scanned;
    }
    unlock(fake);
    return err;
}

static uint64_t
op_replicated_seq(void *self, uint32_t partition)
{
    struct fake_journal *fake = self;
    uint64_t seq = 0;

    ASSERT(partition < fake->port.partitions);
    lock(fake);
    seq = fake->replicated_seq[partition];
    unlock(fake);
    return seq;
}

static enum err
op_advance(void *self, uint32_t partition, uint64_t to_seq, const struct slice_set *delta,
           const struct count_changes *removals)
{
    struct fake_journal *fake = self;
    struct script_step step = {ERR_FAILED, false};

    ASSERT(partition < fake->port.partitions);
    lock(fake);
    fake->calls.advance++;
    if (!fake->failed) {
        step = script_take(&fake->advance_script);
    }
    if (step.err == ERR_OK || step.stored) {
        ASSERT(to_seq > fake->replicated_seq[partition]);
        ASSERT(to_seq <= fake->durable_seq);
        fake->replicated_seq[partition] = to_seq;
        fake_history_add_set(&fake->history, delta);
        if (removals != NULL) {
            buffer_append_span(&fake->removals.bytes, buffer_span(&removals->bytes));
            fake->removals.count += removals->count;
        }
    }
    unlock(fake);
    return step.err;
}

static void
op_stats(void *self, struct journal_stats *out)
{
    struct fake_journal *fake = self;

    lock(fake);
    *out = (struct journal_stats){
        .durable_seq = fake->durable_seq,
        .oldest_seq = fake->trimmed_seq < fake->last_seq ? fake->trimmed_seq + 1 : 0,
        .bytes = fake->bytes,
        .bytes_limit = fake->config.bytes_max,
        .queued_events = fake->queued_events,
        .id_window_events =
            fake->key_count < fake->config.id_window ? fake->key_count : fake->config.id_window,
        .full =
            fake->full || (fake->config.bytes_max != 0 && fake->bytes >= fake->config.bytes_max),
        .failed = fake->failed,
    };
    for (uint64_t seq = fake->trimmed_seq + 1; seq <= fake->durable_seq; seq++) {
        if (seq > fake->replicated_seq[journal_partition_of(seq, fake->port.partitions)]) {
            if (out->pending_events == 0) {
                out->oldest_pending_us = fake->records[seq - 1].created_at_us;
            }
            out->pending_events++;
        }
    }
    unlock(fake);
}

static const struct journal_ops FAKE_JOURNAL_OPS = {
    .append = op_append,
    .kick = op_kick,
    .durable_seq = op_durable_seq,
    .wait_durable = op_wait_durable,
    .read = op_read,
    .scan = op_scan,
    .replicated_seq = op_replicated_seq,
    .advance = op_advance,
    .stats = op_stats,
};

/* ---- life ---- */

struct fake_journal *
fake_journal_new(const struct fake_journal_config *config)
{
    struct fake_journal *fake = calloc(1, sizeof(*fake));
    pthread_condattr_t attr;
    int rc = 0;

    ASSERT(fake != NULL);
    ASSERT(config->partitions <= JOURNAL_PARTITIONS_MAX);
    fake->config = *config;
    rc = pthread_mutex_init(&fake->mutex, NULL);
    ASSERT(rc == 0);
    rc = pthread_condattr_init(&attr);
    ASSERT(rc == 0);
    rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    ASSERT(rc == 0);
    rc = pthread_cond_init(&fake->changed, &attr);
    ASSERT(rc == 0);
    rc = pthread_condattr_destroy(&attr);
    ASSERT(rc == 0);
    fake->port = (struct journal){
        .ops = &FAKE_JOURNAL_OPS,
        .self = fake,
        .partitions = config->partitions == 0 ? 1 : config->partitions,
        .epoch = 1,
    };
    memset(fake->port.node_id, 0x5a, sizeof(fake->port.node_id));
    return fake;
}

void
fake_journal_free(struct fake_journal *fake)
{
    if (fake == NULL) {
        return;
    }
    fake_journal_stop(fake);
    for (uint64_t i = 0; i < fake->last_seq; i++) {
        free(fake->records[i].body);
    }
    free(fake->records);
    free(fake->keys);
    fake_history_clear(&fake->history);
    count_changes_free(&fake->removals);
    (void)pthread_cond_destroy(&fake->changed);
    (void)pthread_mutex_destroy(&fake->mutex);
    free(fake);
}

struct journal *
fake_journal_port(struct fake_journal *fake)
{
    return &fake->port;
}

void
fake_journal_start(struct fake_journal *fake)
{
    int rc = 0;

    ASSERT(!fake->has_thread);
    rc = pthread_create(&fake->thread, NULL, committer_main, fake);
    ASSERT(rc == 0);
    fake->has_thread = true;
}

void
fake_journal_stop(struct fake_journal *fake)
{
    lock(fake);
    fake->closed = true;
    wake_all(fake);
    unlock(fake);
    if (fake->has_thread) {
        int rc = pthread_join(fake->thread, NULL);

        ASSERT(rc == 0);
        fake->has_thread = false;
    }
    (void)fake_journal_commit(fake);
}

void
fake_journal_hold(struct fake_journal *fake)
{
    lock(fake);
    fake->held = true;
    unlock(fake);
}

void
fake_journal_release(struct fake_journal *fake)
{
    lock(fake);
    fake->held = false;
    fake->kicked = true;
    wake_all(fake);
    unlock(fake);
}

void
fake_journal_wait_queued(struct fake_journal *fake, uint64_t count)
{
    lock(fake);
    while (fake->queued_events < count) {
        wait_change(fake);
    }
    unlock(fake);
}

/* ---- putting one event in ---- */

struct put {
    pthread_mutex_t mutex;
    pthread_cond_t done;
    bool is_done;
};

static void
put_done(struct append *append)
{
    struct put *put = append->owner;

    (void)pthread_mutex_lock(&put->mutex);
    put->is_done = true;
    (void)pthread_cond_signal(&put->done);
    (void)pthread_mutex_unlock(&put->mutex);
}

uint64_t
fake_journal_put(struct fake_journal *fake, const struct event *event)
{
    struct put put = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    struct buffer body = BUFFER_EMPTY;
    struct append_event one = {.has_key = event->id_by_client, .content_crc = event->content_crc};
    struct append append = {.events = &one, .count = 1, .done = put_done, .owner = &put};
    enum err err = ERR_OK;

    event_encode(event, &body);
    ASSERT(!body.failed);
    one.body = buffer_span(&body);
    memcpy(one.key, event->key, EVENT_KEY_SIZE);
    append.body_bytes = body.len;
    err = op_append(fake, &append);
    ASSERT(err == ERR_OK);
    if (fake->has_thread) {
        op_kick(fake);
    } else {
        (void)fake_journal_commit(fake);
    }
    (void)pthread_mutex_lock(&put.mutex);
    while (!put.is_done) {
        (void)pthread_cond_wait(&put.done, &put.mutex);
    }
    (void)pthread_mutex_unlock(&put.mutex);
    ASSERT(append.result == ERR_OK);
    buffer_free(&body);
    (void)pthread_cond_destroy(&put.done);
    (void)pthread_mutex_destroy(&put.mutex);
    return one.seq;
}

/* ---- failing ---- */

void
fake_journal_next_append(struct fake_journal *fake, enum err err)
{
    lock(fake);
    script_add(&fake->append_script, err, false);
    unlock(fake);
}

void
fake_journal_next_commit(struct fake_journal *fake, enum err result, bool stored)
{
    lock(fake);
    script_add(&fake->commit_script, result, stored);
    unlock(fake);
}

void
fake_journal_next_read(struct fake_journal *fake, enum err err)
{
    lock(fake);
    script_add(&fake->read_script, err, false);
    unlock(fake);
}

void
fake_journal_next_scan(struct fake_journal *fake, enum err err)
{
    lock(fake);
    script_add(&fake->scan_script, err, false);
    unlock(fake);
}

void
fake_journal_next_advance(struct fake_journal *fake, enum err err, bool stored)
{
    lock(fake);
    script_add(&fake->advance_script, err, stored);
    unlock(fake);
}

void
fake_journal_set_full(struct fake_journal *fake, bool full)
{
    lock(fake);
    fake->full = full;
    unlock(fake);
}

void
fake_journal_set_failed(struct fake_journal *fake)
{
    lock(fake);
    fake->failed = true;
    unlock(fake);
}

void
fake_journal_set_corrupt(struct fake_journal *fake, uint64_t seq, bool corrupt)
{
    lock(fake);
    ASSERT(seq > 0);
    ASSERT(seq <= fake->last_seq);
    fake->records[seq - 1].corrupt = corrupt;
    unlock(fake);
}

void
fake_journal_set_missing(struct fake_journal *fake, uint64_t seq, bool missing)
{
    lock(fake);
    ASSERT(seq > 0);
    ASSERT(seq <= fake->last_seq);
    fake->records[seq - 1].missing = missing;
    unlock(fake);
}

void
fake_journal_restart(struct fake_journal *fake)
{
    ASSERT(!fake->has_thread);
    lock(fake);
    ASSERT(fake->queue_head == NULL);
    fake->closed = false;
    fake->failed = false;
    fake->held = false;
    fake->durable_seq = fake->last_seq;
    fake->port.epoch++;
    wake_all(fake);
    unlock(fake);
}

void
fake_journal_trim(struct fake_journal *fake, uint64_t seq)
{
    lock(fake);
    for (uint64_t at = fake->trimmed_seq + 1; at <= seq; at++) {
        ASSERT(at <= fake->replicated_seq[journal_partition_of(at, fake->port.partitions)]);
        fake->bytes -= fake->records[at - 1].len;
        free(fake->records[at - 1].body);
        fake->records[at - 1].body = NULL;
        fake->trimmed_seq = at;
    }
    unlock(fake);
}

/* ---- looking ---- */

void
fake_journal_each_pending(struct fake_journal *fake,
                          void (*fn)(void *arg, uint64_t seq, const struct event *event), void *arg)
{
    lock(fake);
    for (uint64_t seq = fake->trimmed_seq + 1; seq <= fake->durable_seq; seq++) {
        const struct record *record = &fake->records[seq - 1];
        struct event event;
        enum err err = ERR_OK;

        if (seq <= fake->replicated_seq[journal_partition_of(seq, fake->port.partitions)]) {
            continue;
        }
        err = event_decode((struct span){record->body, record->len}, &event);
        ASSERT(err == ERR_OK);
        fn(arg, seq, &event);
    }
    unlock(fake);
}

const struct fake_history *
fake_journal_history(struct fake_journal *fake)
{
    return &fake->history;
}

const struct count_changes *
fake_journal_removals(struct fake_journal *fake)
{
    return &fake->removals;
}

struct fake_journal_calls
fake_journal_calls(struct fake_journal *fake)
{
    struct fake_journal_calls calls;

    lock(fake);
    calls = fake->calls;
    unlock(fake);
    return calls;
}
