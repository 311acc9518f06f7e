#include "core/counts/count_tail.h"

#include <stdlib.h>

static void
lock(struct count_tail *tail)
{
    int rc = pthread_mutex_lock(&tail->lock);

    ASSERT(rc == 0);
}

static void
unlock(struct count_tail *tail)
{
    int rc = pthread_mutex_unlock(&tail->lock);

    ASSERT(rc == 0);
}

enum err
count_tail_init(struct count_tail *tail, uint64_t after_seq)
{
    memset(tail, 0, sizeof(*tail));
    atomic_store(&tail->last_seq, after_seq);
    return pthread_mutex_init(&tail->lock, NULL) == 0 ? ERR_OK : ERR_NO_MEMORY;
}

static void
let_go(struct tail_segment *segment)
{
    if (atomic_fetch_sub_explicit(&segment->pins, 1, memory_order_acq_rel) == 1) {
        free(segment);
    }
}

void
count_tail_fini(struct count_tail *tail)
{
    while (tail->oldest != NULL) {
        struct tail_segment *segment = tail->oldest;

        tail->oldest = segment->next;
        let_go(segment);
    }
    (void)pthread_mutex_destroy(&tail->lock);
}

/* A segment is zeroed, and a zeroed entry counts as nothing. */
static enum err
enter_segment(struct count_tail *tail, uint64_t number)
{
    struct tail_segment *segment = calloc(1, sizeof(*segment));

    if (segment == NULL) {
        return ERR_NO_MEMORY;
    }
    segment->number = number;
    atomic_store(&segment->pins, 1);
    lock(tail);
    if (tail->oldest == NULL) {
        tail->oldest = segment;
    } else {
        tail->newest->next = segment;
    }
    tail->newest = segment;
    unlock(tail);
    return ERR_OK;
}

enum err
count_tail_add(struct count_tail *tail, uint64_t seq, const struct tail_entry *entry)
{
    uint64_t number = seq >> TAIL_SEGMENT_BITS;

    ASSERT(seq > atomic_load_explicit(&tail->last_seq, memory_order_relaxed));
    if (tail->newest == NULL || tail->newest->number != number) {
        enum err err = enter_segment(tail, number);

        if (err != ERR_OK) {
            return err;
        }
    }
    tail->newest->entries[seq & (TAIL_SEGMENT_ENTRIES - 1)] = *entry;
    atomic_store_explicit(&tail->last_seq, seq, memory_order_release);
    return ERR_OK;
}

/* The newest segment stays, the adding thread still writes into it. */
void
count_tail_drop(struct count_tail *tail, uint64_t seq)
{
    for (;;) {
        struct tail_segment *oldest;

        lock(tail);
        oldest = tail->oldest;
        if (oldest == NULL || oldest == tail->newest ||
            ((oldest->number + 1) << TAIL_SEGMENT_BITS) - 1 > seq) {
            oldest = NULL;
        } else {
            tail->oldest = oldest->next;
        }
        unlock(tail);
        if (oldest == NULL) {
            return;
        }
        let_go(oldest);
    }
}

enum err
count_tail_pin(struct count_tail *tail, struct tail_pin *out)
{
    enum err err = ERR_OK;
    size_t count = 0;

    *out = (struct tail_pin){0};
    lock(tail);
    for (struct tail_segment *at = tail->oldest; at != NULL; at = at->next) {
        count++;
    }
    if (count > 0) {
        out->segments = malloc(count * sizeof(struct tail_segment *));
        err = out->segments == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    if (err == ERR_OK) {
        for (struct tail_segment *at = tail->oldest; at != NULL; at = at->next) {
            atomic_fetch_add_explicit(&at->pins, 1, memory_order_relaxed);
            out->segments[out->count++] = at;
        }
        out->last_seq = count_tail_last(tail);
    }
    unlock(tail);
    return err;
}

void
count_tail_unpin(struct tail_pin *pin)
{
    for (size_t i = 0; i < pin->count; i++) {
        let_go(pin->segments[i]);
    }
    free(pin->segments);
    *pin = (struct tail_pin){0};
}

size_t
count_tail_run(const struct tail_pin *pin, size_t i, uint64_t after_seq, uint64_t to_seq,
               const struct tail_entry **out)
{
    const struct tail_segment *segment = pin->segments[i];
    const uint64_t first = segment->number << TAIL_SEGMENT_BITS;
    const uint64_t end = first + TAIL_SEGMENT_ENTRIES;
    const uint64_t last = to_seq < pin->last_seq ? to_seq : pin->last_seq;
    const uint64_t from = after_seq >= first ? after_seq + 1 : first;
    const uint64_t until = last < end ? last + 1 : end;

    if (from >= until) {
        return 0;
    }
    *out = &segment->entries[from - first];
    return (size_t)(until - from);
}

enum err
count_tail_each(const struct tail_pin *pin, uint64_t after_seq, uint64_t to_seq,
                enum err (*fn)(void *arg, const struct tail_entry *entry), void *arg)
{
    for (size_t i = 0; i < pin->count; i++) {
        const struct tail_entry *run = NULL;
        const size_t count = count_tail_run(pin, i, after_seq, to_seq, &run);

        for (size_t at = 0; at < count; at++) {
            enum err err = run[at].at.name == COUNT_NO_NAME ? ERR_OK : fn(arg, &run[at]);

            if (err != ERR_OK) {
                return err;
            }
        }
    }
    return ERR_OK;
}
