#include "tests/fakes/fake_archive_store.h"

#include <stdlib.h>

struct item {
    struct archive_position position;
    struct event event;
    struct buffer bytes; /* what the event borrows from */
};

struct fault {
    enum err err;
    size_t given;
    int times;
};

struct fake_archive_store {
    struct item *items;
    size_t count;
    size_t capacity;
    uint64_t offset[JOURNAL_PARTITIONS_MAX];
    void (*on_begin)(void *arg);
    void *on_begin_arg;
    struct fault begin_fault;
    struct fault walk_fault;
    struct fake_archive_store_calls calls;
};

struct snapshot {
    struct fake_archive_store *fake;
    size_t count;
};

struct fake_archive_store *
fake_archive_store_new(void)
{
    struct fake_archive_store *fake = calloc(1, sizeof(*fake));

    ASSERT(fake != NULL);
    return fake;
}

void
fake_archive_store_free(struct fake_archive_store *fake)
{
    if (fake == NULL) {
        return;
    }
    for (size_t i = 0; i < fake->count; i++) {
        buffer_free(&fake->items[i].bytes);
    }
    free(fake->items);
    free(fake);
}

void
fake_archive_store_put(struct fake_archive_store *fake, const uint8_t node_id[JOURNAL_NODE_ID_SIZE],
                       uint64_t seq, const struct event *event)
{
    struct item *item;
    enum err err;

    if (fake->count == fake->capacity) {
        fake->capacity = fake->capacity == 0 ? 64 : fake->capacity * 2;
        fake->items = realloc(fake->items, fake->capacity * sizeof(*fake->items));
        ASSERT(fake->items != NULL);
    }
    item = &fake->items[fake->count++];
    *item = (struct item){.position = {.occurred_us = event->occurred_at_us, .seq = seq}};
    memcpy(item->position.node_id, node_id, JOURNAL_NODE_ID_SIZE);
    event_encode(event, &item->bytes);
    ASSERT(!item->bytes.failed);
    err = event_decode(buffer_span(&item->bytes), &item->event);
    ASSERT(err == ERR_OK);
}

void
fake_archive_store_set_offset(struct fake_archive_store *fake, uint32_t partition, uint64_t seq)
{
    fake->offset[partition] = seq;
}

void
fake_archive_store_on_begin(struct fake_archive_store *fake, void (*fn)(void *arg), void *arg)
{
    fake->on_begin = fn;
    fake->on_begin_arg = arg;
}

void
fake_archive_store_fail_begin(struct fake_archive_store *fake, enum err err, int times)
{
    fake->begin_fault = (struct fault){err, 0, times};
}

void
fake_archive_store_fail_walk(struct fake_archive_store *fake, enum err err, size_t given, int times)
{
    fake->walk_fault = (struct fault){err, given, times};
}

struct fake_archive_store_calls
fake_archive_store_calls(const struct fake_archive_store *fake)
{
    return fake->calls;
}

/* ---- the port ---- */

static bool
take_fault(struct fault *fault)
{
    if (fault->times == 0) {
        return false;
    }
    fault->times--;
    return true;
}

static enum err
op_begin(void *self, const uint8_t node_id[JOURNAL_NODE_ID_SIZE], uint32_t partitions,
         uint64_t *after_out, void **snapshot_out)
{
    struct fake_archive_store *fake = self;
    struct snapshot *snapshot;

    (void)node_id;
    fake->calls.begin++;
    if (take_fault(&fake->begin_fault)) {
        return fake->begin_fault.err;
    }
    snapshot = malloc(sizeof(*snapshot));
    ASSERT(snapshot != NULL);
    *snapshot = (struct snapshot){fake, fake->count};
    memcpy(after_out, fake->offset, partitions * sizeof(*after_out));
    *snapshot_out = snapshot;
    fake->calls.open++;
    if (fake->on_begin != NULL) {
        fake->on_begin(fake->on_begin_arg);
    }
    return ERR_OK;
}

static bool
fits(struct span wanted, struct span value)
{
    return wanted.data == NULL || (value.data != NULL && span_equal(wanted, value));
}

static bool
matches(const struct archive_filter *filter, const struct event *event)
{
    return fits(filter->tenant, event->tenant) && fits(filter->event_name, event->name) &&
           fits(filter->service, event->service) && fits(filter->channel, event->channel) &&
           fits(filter->campaign_id, event->campaign_id) && fits(filter->user_id, event->user_id) &&
           event->occurred_at_us >= filter->from_us && event->occurred_at_us < filter->to_us;
}

static enum err
op_names(void *self, struct span tenant, uint32_t max, archive_name_fn *fn, void *arg)
{
    const struct snapshot *snapshot = self;
    enum err err = ERR_OK;

    for (size_t i = 0; err == ERR_OK && i < snapshot->count && max > 0; i++) {
        const struct event *event = &snapshot->fake->items[i].event;
        size_t first = 0;

        if (!span_equal(event->tenant, tenant)) {
            continue;
        }
        while (!span_equal(snapshot->fake->items[first].event.tenant, tenant) ||
               !span_equal(snapshot->fake->items[first].event.name, event->name)) {
            first++;
        }
        if (first == i) {
            err = fn(arg, event->name);
            max--;
        }
    }
    return err;
}

static int
ascending(const void *a, const void *b)
{
    return archive_position_compare(&(*(struct item *const *)a)->position,
                                    &(*(struct item *const *)b)->position);
}

static bool
in_range(const struct archive_rows *rows, const struct archive_position *position)
{
    const int sign = rows->descending ? -1 : 1;

    return (!rows->has_after || sign * archive_position_compare(position, &rows->after) > 0) &&
           (!rows->has_until || sign * archive_position_compare(position, &rows->until) < 0);
}

static enum err
op_rows(void *self, const struct archive_rows *rows, archive_row_fn *fn, void *arg)
{
    const struct snapshot *snapshot = self;
    struct fake_archive_store *fake = snapshot->fake;
    struct item **sorted = calloc(snapshot->count + 1, sizeof(struct item *));
    const bool fails = take_fault(&fake->walk_fault);
    size_t count = 0;
    size_t limit = rows->limit;
    enum err err = ERR_OK;

    ASSERT(sorted != NULL);
    fake->calls.rows++;
    for (size_t i = 0; i < snapshot->count; i++) {
        if (matches(&rows->filter, &fake->items[i].event) &&
            in_range(rows, &fake->items[i].position)) {
            sorted[count++] = &fake->items[i];
        }
    }
    qsort(sorted, count, sizeof(struct item *), ascending);
    if (fails && fake->walk_fault.given < limit) {
        limit = fake->walk_fault.given;
    }
    for (size_t i = 0; err == ERR_OK && i < count && i < limit; i++) {
        const struct item *item = sorted[rows->descending ? count - 1 - i : i];

        err = fn(arg, &item->position, &item->event);
    }
    free(sorted);
    return err == ERR_OK && fails ? fake->walk_fault.err : err;
}

/* Each event is a group of its own. */
static enum err
op_users(void *self, const struct archive_filter *filter, archive_user_fn *fn, void *arg)
{
    const struct snapshot *snapshot = self;
    struct fake_archive_store *fake = snapshot->fake;
    const bool fails = take_fault(&fake->walk_fault);
    size_t given = 0;
    enum err err = ERR_OK;

    for (size_t i = 0; err == ERR_OK && i < snapshot->count; i++) {
        const struct event *event = &fake->items[i].event;

        if (fails && given == fake->walk_fault.given) {
            return fake->walk_fault.err;
        }
        if (matches(filter, event)) {
            given++;
            err = fn(arg, event->occurred_at_us, 1, event->user_id, event->channel,
                     event->campaign_id);
        }
    }
    return err == ERR_OK && fails ? fake->walk_fault.err : err;
}

static void
op_end(void *self)
{
    struct snapshot *snapshot = self;

    snapshot->fake->calls.open--;
    free(snapshot);
}

static void
op_close(void *self)
{
    (void)self;
}

static const struct archive_store_ops FAKE_STORE_OPS = {
    .begin = op_begin,
    .names = op_names,
    .rows = op_rows,
    .users = op_users,
    .end = op_end,
    .close = op_close,
};

struct archive_store
fake_archive_store_port(struct fake_archive_store *fake)
{
    return (struct archive_store){&FAKE_STORE_OPS, fake};
}
