#include "core/journal.h"

#include <stdlib.h>

#include "core/counts/count_cell.h"
#include "core/slo/thresholds.h"

uint64_t
journal_partition_count(uint64_t seq, uint32_t partition, uint32_t partitions)
{
    const uint64_t round = (uint64_t)JOURNAL_STRIPE * partitions;
    const uint64_t full_rounds = seq / round;
    const uint64_t rest = seq % round;
    const uint64_t before = (uint64_t)JOURNAL_STRIPE * partition;
    uint64_t part = 0;

    ASSERT(partition < partitions);
    if (rest > before) {
        part = rest - before < JOURNAL_STRIPE ? rest - before : JOURNAL_STRIPE;
    }
    return full_rounds * JOURNAL_STRIPE + part;
}

void
batch_unfold(struct batch *batch)
{
    slice_set_clear(&batch->delta);
    count_changes_free(&batch->removals);
}

void
batch_clear(struct batch *batch)
{
    batch->count = 0;
    batch->after_seq = 0;
    batch->to_seq = 0;
    buffer_clear(&batch->bytes, SIZE_MAX);
    batch_unfold(batch);
}

void
batch_free(struct batch *batch)
{
    free(batch->events);
    buffer_free(&batch->bytes);
    batch_unfold(batch);
    *batch = (struct batch){0};
}

enum err
batch_fold(struct batch *batch, const struct slice_rules *rules)
{
    batch_unfold(batch);
    for (size_t i = 0; i < batch->count; i++) {
        const struct batch_event *item = &batch->events[i];
        struct slice_rules own;
        enum err err;

        if (item->outcome == OUTCOME_DUPLICATE) {
            count_removal_put(&batch->removals, item->seq, &item->event);
            continue;
        }
        if (!event_is_measured(&item->event)) {
            continue;
        }
        own = thresholds_of(rules, item->seq, item->event.tenant, item->event.service);
        err = slice_set_add_event(&batch->delta, &item->event, &own);
        if (err != ERR_OK) {
            batch_unfold(batch);
            return err;
        }
    }
    if (batch->removals.bytes.failed) {
        batch_unfold(batch);
        return ERR_NO_MEMORY;
    }
    slice_set_sort(&batch->delta);
    return ERR_OK;
}

struct batch
batch_part(const struct batch *batch, size_t first, size_t count)
{
    struct batch part = {0};

    ASSERT(count > 0);
    ASSERT(first + count <= batch->count);
    part.partition = batch->partition;
    part.events = batch->events + first;
    part.count = count;
    part.after_seq = first == 0 ? batch->after_seq : batch->events[first - 1].seq;
    part.to_seq =
        first + count == batch->count ? batch->to_seq : batch->events[first + count - 1].seq;
    return part;
}

uint64_t
journal_scan_first(const struct journal_scan *scan, uint64_t seq, uint32_t partitions)
{
    uint64_t lowest = UINT64_MAX;

    ASSERT(partitions > 0);
    if (scan->after == NULL) {
        return seq;
    }
    for (uint32_t p = 0; p < partitions; p++) {
        lowest = scan->after[p] < lowest ? scan->after[p] : lowest;
    }
    if (seq <= lowest) {
        seq = lowest + 1;
    }
    for (;;) {
        const uint64_t after = scan->after[journal_partition_of(seq, partitions)];
        const uint64_t stripe_end = seq + (JOURNAL_STRIPE - 1) - (seq - 1) % JOURNAL_STRIPE;

        if (seq > after) {
            return seq;
        }
        seq = (after < stripe_end ? after : stripe_end) + 1;
    }
}
