/*
 * count_view.c - answers from one cut: a snapshot of the history and the tail after it.
 *
 * The tail is pinned first, then the snapshot is taken. Whatever was acked before is at or below
 * the pin's last number; the snapshot names the number up to which it counts, and the pinned
 * entries after that number are the rest. A fold in between only moves that border. Removals of
 * events beyond the pin belong to a later cut and are left out.
 */
#include <stdlib.h>

#include "core/counts/counts_internal.h"

enum {
    GROUP_SLOTS_FIRST = 16,
    ORDER_AFTER_USES = 2, /* a name's tail entries are put in order when asked for again */
    ORDER_BUCKETS_MAX = 1 << 16,
};

/* Far outside of anything that occurs, and far from overflow. */
#define TIME_MAX_US (INT64_C(1) << 61)

struct removed {
    uint32_t name;
    uint16_t value[COUNT_DIMENSIONS];
    int64_t occurred_us;
};

/*
 * Where the pin has the entries of one name, in buckets of time of equal width, a power of two;
 * within a bucket as they came. A series of ranges then looks at each entry about once.
 */
struct tail_order {
    uint32_t *places; /* number of the segment << TAIL_SEGMENT_BITS, and where in it */
    uint32_t *start;  /* of each bucket, and the end of the last; NULL: not made */
    size_t buckets;
    int64_t first_us;
    int shift;
};

struct counts_view {
    struct counts *counts;
    struct count_reader reader;
    struct count_state state; /* of the snapshot */
    struct tail_pin pin;
    struct removed *removed;
    size_t removed_count;
    bool degraded;
    bool cut; /* an answer reached back to what has been dropped */

    /* The tail's entries of one name, put in order once it is asked for again and again. */
    uint32_t tail_name;
    uint32_t tail_uses;
    struct tail_order order;
};

/* ---- groups: the sums being made ---- */

struct group {
    struct span value;
    struct counts_sum sum;
};

struct query {
    struct counts_view *view;
    int64_t from_us;
    int64_t to_us;
    bool split; /* by DIMENSION; else one group for all */
    uint8_t dimension;
    struct group *groups;
    size_t len;
    size_t capacity;
    uint32_t *slots; /* open addressing over the values: group number + 1 */
    size_t slot_count;

    /* The name at hand. */
    uint32_t name;
    uint16_t filter[COUNT_DIMENSIONS]; /* COUNT_ANY or the only value wanted */
    uint32_t *group_of;                /* by value index: group number + 1; the last: COUNT_OTHER */
    size_t group_of_len;
};

static void
query_free(struct query *query)
{
    for (size_t i = 0; i < query->len; i++) {
        counts_sum_clear(&query->groups[i].sum);
    }
    free(query->groups);
    free(query->slots);
    free(query->group_of);
}

static size_t
group_slot(const struct query *query, struct span value)
{
    size_t slot = (size_t)user_hash(value) & (query->slot_count - 1);

    while (query->slots[slot] != 0) {
        if (count_value_equal(query->groups[query->slots[slot] - 1].value, value)) {
            break;
        }
        slot = (slot + 1) & (query->slot_count - 1);
    }
    return slot;
}

static enum err
reserve_group(struct query *query)
{
    size_t count = query->slot_count == 0 ? GROUP_SLOTS_FIRST : query->slot_count * 2;
    struct group *groups;
    uint32_t *slots;

    if ((query->len + 1) * 2 <= query->slot_count) {
        return ERR_OK;
    }
    groups = realloc(query->groups, count / 2 * sizeof(*groups));
    if (groups == NULL) {
        return ERR_NO_MEMORY;
    }
    query->groups = groups;
    slots = calloc(count, sizeof(*slots));
    if (slots == NULL) {
        return ERR_NO_MEMORY;
    }
    free(query->slots);
    query->slots = slots;
    query->slot_count = count;
    for (size_t i = 0; i < query->len; i++) {
        slots[group_slot(query, groups[i].value)] = narrow_u32(i + 1);
    }
    return ERR_OK;
}

static enum err
find_group(struct query *query, struct span value, size_t *number_out)
{
    enum err err = reserve_group(query);
    size_t slot;

    if (err != ERR_OK) {
        return err;
    }
    slot = group_slot(query, value);
    if (query->slots[slot] == 0) {
        query->groups[query->len++] = (struct group){value, {0}};
        query->slots[slot] = narrow_u32(query->len);
    }
    *number_out = query->slots[slot] - 1;
    return ERR_OK;
}

/* The group of the value INDEX of the dimension it is split by. */
static enum err
group_of_value(struct query *query, uint16_t index, struct counts_sum **out)
{
    const size_t at = index == COUNT_OTHER ? query->group_of_len - 1 : index;
    size_t number = 0;

    if (at >= query->group_of_len) {
        return ERR_CORRUPT; /* a value that was never given a number */
    }
    if (query->group_of[at] == 0) {
        struct span value = index == COUNT_OTHER
                                ? SPAN_LITERAL(COUNTS_OTHER)
                                : count_names_value(query->view->counts->names, query->name,
                                                    query->dimension, index);
        enum err err = find_group(query, value, &number);

        if (err != ERR_OK) {
            return err;
        }
        query->group_of[at] = narrow_u32(number + 1);
        query->view->degraded = query->view->degraded || index == COUNT_OTHER;
    }
    *out = &query->groups[query->group_of[at] - 1].sum;
    return ERR_OK;
}

static bool
is_filtered(const struct query *query, uint16_t channel, uint16_t campaign)
{
    return (query->filter[0] != COUNT_ANY && query->filter[0] != channel) ||
           (query->filter[1] != COUNT_ANY && query->filter[1] != campaign);
}

/* The sum events with these values belong to; NULL for none. Valid until the next group is made. */
static inline enum err
sum_of(struct query *query, uint16_t channel, uint16_t campaign, struct counts_sum **out)
{
    *out = NULL;
    if (is_filtered(query, channel, campaign)) {
        return ERR_OK;
    }
    if (!query->split) {
        *out = &query->groups[0].sum;
        return ERR_OK;
    }
    return group_of_value(query, query->dimension == COUNTS_BY_CHANNEL ? channel : campaign, out);
}

static inline enum err
add_one(struct query *query, uint16_t channel, uint16_t campaign, uint64_t user)
{
    struct counts_sum *sum;
    enum err err = sum_of(query, channel, campaign, &sum);

    if (err != ERR_OK || sum == NULL) {
        return err;
    }
    sum->total++;
    return user == 0 ? ERR_OK : user_set_add(&sum->users, user);
}

/* ---- the history ---- */

static enum err
visit_entry(void *arg, const struct count_entry *entry)
{
    return add_one(arg, entry->channel, entry->campaign, entry->user);
}

static enum err
decode_node(struct counts_view *view, const struct count_node *node, uint64_t *total,
            struct user_set *users)
{
    enum err err =
        node->bytes.data == NULL ? ERR_CORRUPT : count_rollup_decode(node->bytes, total, users);

    if (err == ERR_CORRUPT || err == ERR_FORMAT) {
        view->reader.damaged = true;
        err = ERR_OK;
    }
    return err;
}

/*
 * Adds a node of which PIECE is known. The first one of a sum is left unread: mostly nothing else
 * follows, as in a series of hours, and users are most of a roll-up's bytes.
 */
static enum err
add_node(struct query *query, enum count_level level, int64_t bucket_us,
         const struct count_node *piece, struct counts_sum *sum)
{
    struct counts_view *view = query->view;
    struct count_node node;
    uint64_t total;
    uint64_t users;
    enum err err;

    if (piece->bytes.data != NULL && count_rollup_peek(piece->bytes, &total, &users) &&
        (users == 0 || (!sum->lone.present && user_set_is_empty(&sum->users)))) {
        sum->total += total;
        if (users > 0) {
            sum->lone = (struct counts_part){
                .present = true,
                .level = (uint8_t)level,
                .channel = piece->channel,
                .campaign = piece->campaign,
                .name = query->name,
                .bucket_us = bucket_us,
                .users = users,
            };
        }
        return ERR_OK;
    }
    err = count_reader_node(&view->reader, level, query->name, bucket_us, piece->channel,
                            piece->campaign, &node);
    return err != ERR_OK ? err : decode_node(view, &node, &sum->total, &sum->users);
}

/* Reads the users left unread, now that others have joined them. */
static enum err
settle(struct counts_view *view, struct counts_sum *sum)
{
    const struct counts_part lone = sum->lone;
    struct count_node node;
    uint64_t total = 0;
    enum err err;

    if (!lone.present || user_set_is_empty(&sum->users)) {
        return ERR_OK;
    }
    sum->lone.present = false;
    err = count_reader_node(&view->reader, (enum count_level)lone.level, lone.name, lone.bucket_us,
                            lone.channel, lone.campaign, &node);
    return err != ERR_OK ? err : decode_node(view, &node, &total, &sum->users);
}

static enum err
visit_total(struct query *query, enum count_level level, int64_t bucket_us)
{
    struct count_node node;
    enum err err = count_reader_first_piece(&query->view->reader, level, query->name, bucket_us,
                                            query->filter[0], query->filter[1], &node);

    if (err == ERR_NOT_FOUND || (err == ERR_OK && (node.channel != query->filter[0] ||
                                                   node.campaign != query->filter[1]))) {
        return ERR_OK;
    }
    return err != ERR_OK ? err : add_node(query, level, bucket_us, &node, &query->groups[0].sum);
}

/*
 * Where a walk over the nodes (channel, campaign) goes on after NODE: with the channels free, only
 * those with the campaign of the filter are wanted, and the others are skipped.
 */
static bool
after_node(const struct query *query, const struct count_node *node, uint16_t *channel,
           uint16_t *campaign)
{
    const bool by_channel = query->dimension == COUNTS_BY_CHANNEL;

    *channel = node->channel;
    *campaign = node->campaign;
    if (!by_channel) {
        return count_next_node(channel, campaign) && *channel == query->filter[0];
    }
    if (node->campaign < query->filter[1]) {
        *campaign = query->filter[1];
        return true;
    }
    *campaign = query->filter[1];
    (*channel)++;
    return *channel != 0;
}

static enum err
visit_split(struct query *query, enum count_level level, int64_t bucket_us)
{
    const bool by_channel = query->dimension == COUNTS_BY_CHANNEL;
    uint16_t channel = by_channel ? 1 : query->filter[0];
    uint16_t campaign = by_channel ? query->filter[1] : 1;
    struct count_node node;

    do {
        struct counts_sum *sum;
        enum err err = count_reader_first_piece(&query->view->reader, level, query->name, bucket_us,
                                                channel, campaign, &node);

        if (err == ERR_NOT_FOUND ||
            (err == ERR_OK && !by_channel && node.channel != query->filter[0])) {
            return ERR_OK;
        }
        if (err == ERR_OK && (!by_channel || node.campaign == query->filter[1])) {
            err = sum_of(query, by_channel ? node.channel : query->filter[0],
                         by_channel ? query->filter[1] : node.campaign, &sum);
            if (err == ERR_OK && sum != NULL) {
                err = add_node(query, level, bucket_us, &node, sum);
            }
        }
        if (err != ERR_OK) {
            return err;
        }
    } while (after_node(query, &node, &channel, &campaign));
    return ERR_OK;
}

static enum err
visit_rollup(void *arg, enum count_level level, int64_t bucket_us)
{
    struct query *query = arg;

    return query->split ? visit_split(query, level, bucket_us)
                        : visit_total(query, level, bucket_us);
}

/* ---- the tail ---- */

/*
 * The tail is as long as folding lags behind, and bounded (COUNT_LAG_MAX). Aggregating it on the
 * way would cost each event more than a reader saves: users have to be kept for every value, and a
 * sketch is as long to add as some ten thousand events.
 */
static inline enum err
add_entry(struct query *query, const struct tail_entry *entry)
{
    if (entry->at.name != query->name || entry->occurred_us < query->from_us ||
        entry->occurred_us >= query->to_us) {
        return ERR_OK;
    }
    return add_one(query, entry->at.value[0], entry->at.value[1], entry->user);
}

static size_t
tail_run(const struct counts_view *view, size_t i, const struct tail_entry **out)
{
    return count_tail_run(&view->pin, i, view->state.counted_seq, UINT64_MAX, out);
}

static enum err
add_whole_tail(struct query *query)
{
    enum err err = ERR_OK;

    for (size_t i = 0; err == ERR_OK && i < query->view->pin.count; i++) {
        const struct tail_entry *run = NULL;
        const size_t count = tail_run(query->view, i, &run);

        for (size_t at = 0; err == ERR_OK && at < count; at++) {
            err = add_entry(query, &run[at]);
        }
    }
    return err;
}

static void
order_free(struct tail_order *order)
{
    free(order->places);
    free(order->start);
    *order = (struct tail_order){0};
}

static size_t
bucket_of(const struct tail_order *order, int64_t us)
{
    return (size_t)((uint64_t)(us - order->first_us) >> order->shift);
}

/* How many entries the name has; when, and so how wide a bucket must be. */
static size_t
measure_tail(const struct counts_view *view, struct tail_order *order)
{
    int64_t least_us = INT64_MAX;
    int64_t most_us = INT64_MIN;
    size_t len = 0;

    for (size_t i = 0; i < view->pin.count; i++) {
        const struct tail_entry *run = NULL;
        const size_t count = tail_run(view, i, &run);

        for (size_t at = 0; at < count; at++) {
            if (run[at].at.name == view->tail_name) {
                const int64_t us = run[at].occurred_us;

                least_us = us < least_us ? us : least_us;
                most_us = us > most_us ? us : most_us;
                len++;
            }
        }
    }
    *order = (struct tail_order){.first_us = least_us};
    if (len > 0) {
        while (bucket_of(order, most_us) >= ORDER_BUCKETS_MAX) {
            order->shift++;
        }
        order->buckets = bucket_of(order, most_us) + 1;
    }
    return len;
}

/* Counts, then places: each bucket's start becomes its end, which is the start of the next. */
static void
place_tail(const struct counts_view *view, struct tail_order *order)
{
    uint32_t *next = order->start + 1;

    for (int placing = 0; placing < 2; placing++) {
        for (size_t i = 0; i < view->pin.count; i++) {
            const struct tail_entry *run = NULL;
            const size_t count = tail_run(view, i, &run);
            const size_t first = count > 0 ? (size_t)(run - view->pin.segments[i]->entries) : 0;

            for (size_t at = 0; at < count; at++) {
                size_t bucket;

                if (run[at].at.name != view->tail_name) {
                    continue;
                }
                bucket = bucket_of(order, run[at].occurred_us);
                if (placing == 0) {
                    next[bucket + 1]++;
                } else {
                    order->places[next[bucket]++] =
                        (uint32_t)(i << TAIL_SEGMENT_BITS | (first + at));
                }
            }
        }
        for (size_t bucket = 1; placing == 0 && bucket <= order->buckets; bucket++) {
            next[bucket] += next[bucket - 1];
        }
    }
}

static enum err
order_tail(struct counts_view *view)
{
    struct tail_order order;
    const size_t len = measure_tail(view, &order);

    ASSERT(view->pin.count <= UINT32_MAX >> TAIL_SEGMENT_BITS);
    order.places = malloc((len + 1) * sizeof(*order.places));
    order.start = calloc(order.buckets + 2, sizeof(*order.start)); /* one to spare while counting */
    if (order.places == NULL || order.start == NULL) {
        order_free(&order);
        return ERR_NO_MEMORY;
    }
    place_tail(view, &order);
    view->order = order;
    return ERR_OK;
}

static enum err
add_ordered_tail(struct query *query)
{
    const struct tail_pin *pin = &query->view->pin;
    const struct tail_order *order = &query->view->order;
    enum err err = ERR_OK;
    const int64_t from_us = query->from_us > order->first_us ? query->from_us : order->first_us;
    size_t first;
    size_t last;

    if (order->buckets == 0 || query->to_us <= from_us) {
        return ERR_OK;
    }
    first = bucket_of(order, from_us);
    last = bucket_of(order, query->to_us - 1);
    last = last < order->buckets ? last : order->buckets - 1;
    if (first > last) {
        return ERR_OK;
    }
    for (size_t i = order->start[first]; err == ERR_OK && i < order->start[last + 1]; i++) {
        const uint32_t place = order->places[i];

        err = add_entry(query, &pin->segments[place >> TAIL_SEGMENT_BITS]
                                    ->entries[place & (TAIL_SEGMENT_ENTRIES - 1)]);
    }
    return err;
}

static enum err
add_tail(struct query *query)
{
    struct counts_view *view = query->view;

    if (view->tail_name != query->name) {
        order_free(&view->order);
        view->tail_name = query->name;
        view->tail_uses = 0;
    }
    if (++view->tail_uses <= ORDER_AFTER_USES) {
        return add_whole_tail(query);
    }
    if (view->order.start == NULL) {
        enum err err = order_tail(view);

        if (err != ERR_OK) {
            return err;
        }
    }
    return add_ordered_tail(query);
}

/* ---- removals that are not worked into the history yet ---- */

static enum err
take_removed(struct query *query)
{
    struct counts_view *view = query->view;

    for (size_t i = 0; i < view->removed_count; i++) {
        const struct removed *removed = &view->removed[i];
        struct counts_sum *sum;
        enum err err;

        if (removed->name != query->name || removed->occurred_us < query->from_us ||
            removed->occurred_us >= query->to_us) {
            continue;
        }
        err = sum_of(query, removed->value[0], removed->value[1], &sum);
        if (err != ERR_OK) {
            return err;
        }
        if (sum != NULL && sum->total > 0) {
            sum->total--;
        } else if (sum != NULL) {
            view->degraded = true; /* its event was in a damaged part */
        }
    }
    return ERR_OK;
}

/* ---- queries ---- */

/* Fills in the filter's indexes; false when no event of the name can match. */
static bool
resolve_filter(struct query *query, const struct counts_filter *filter)
{
    const struct span wanted[COUNT_DIMENSIONS] = {filter->channel, filter->campaign_id};
    struct count_names *names = query->view->counts->names;

    for (int dimension = 0; dimension < COUNT_DIMENSIONS; dimension++) {
        query->filter[dimension] = COUNT_ANY;
        if (wanted[dimension].data == NULL) {
            continue;
        }
        if (!count_names_find_value(names, query->name, (uint8_t)dimension, wanted[dimension],
                                    &query->filter[dimension])) {
            /* Its events, if there are any, are among the others. */
            if (count_names_has_other(names, query->name, (uint8_t)dimension)) {
                query->view->degraded = true;
            }
            return false;
        }
    }
    return true;
}

static enum err
count_name(struct query *query, const struct counts_filter *filter, uint32_t name)
{
    const struct count_visitor visitor = {visit_entry, visit_rollup, query};
    enum err err;

    query->name = name;
    if (!resolve_filter(query, filter)) {
        return ERR_OK;
    }
    if (query->split) {
        uint16_t values = count_names_values(query->view->counts->names, name, query->dimension);

        free(query->group_of);
        query->group_of_len = (size_t)values + 2; /* from 1, and COUNT_OTHER */
        query->group_of = calloc(query->group_of_len, sizeof(*query->group_of));
        if (query->group_of == NULL) {
            return ERR_NO_MEMORY;
        }
    }
    err = count_reader_range(&query->view->reader, name, COUNT_DAY, query->from_us, query->to_us,
                             &visitor);
    if (err == ERR_OK) {
        err = add_tail(query);
    }
    return err != ERR_OK ? err : take_removed(query);
}

static enum err
count_all_names(struct query *query, const struct counts_filter *filter)
{
    uint32_t *names = NULL;
    size_t count = 0;
    enum err err = count_names_of(query->view->counts->names, filter->tenant, &names, &count);

    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        err = count_name(query, filter, names[i]);
    }
    free(names);
    return err;
}

static int64_t
clamp_time(int64_t us)
{
    if (us < -TIME_MAX_US) {
        return -TIME_MAX_US;
    }
    return us > TIME_MAX_US ? TIME_MAX_US : us;
}

static enum err
run_query(struct query *query, const struct counts_filter *filter, int64_t from_us, int64_t to_us)
{
    struct counts_view *view = query->view;
    uint32_t name;
    enum err err = ERR_OK;

    query->from_us = clamp_time(from_us > view->state.from_us ? from_us : view->state.from_us);
    query->to_us = clamp_time(to_us);
    view->cut = view->cut || (from_us < view->state.from_us && from_us < to_us);
    if (atomic_load_explicit(&view->counts->dropped_events, memory_order_relaxed) > 0) {
        view->degraded = true;
    }
    if (query->from_us >= query->to_us) {
        return ERR_OK;
    }
    if (filter->event_name.data == NULL) {
        err = count_all_names(query, filter);
    } else if (count_names_find(view->counts->names, filter->tenant, filter->event_name, &name)) {
        err = count_name(query, filter, name);
    } else if (count_names_count(view->counts->names) >= COUNTS_NAMES_MAX) {
        view->degraded =
            true; /* its events, if there are any, were left out, also before a start */
    }
    for (size_t i = 0; err == ERR_OK && i < query->len; i++) {
        err = settle(view, &query->groups[i].sum);
    }
    view->degraded = view->degraded || view->reader.damaged;
    return err;
}

enum err
counts_view_sum(struct counts_view *view, const struct counts_filter *filter, int64_t from_us,
                int64_t to_us, struct counts_sum *sum)
{
    struct group group = {{NULL, 0}, *sum};
    struct query query = {.view = view, .groups = &group, .len = 1};
    enum err err = run_query(&query, filter, from_us, to_us);

    *sum = group.sum;
    return err;
}

enum err
counts_view_each_value(struct counts_view *view, const struct counts_filter *filter,
                       enum counts_dimension dimension, int64_t from_us, int64_t to_us,
                       enum err (*fn)(void *arg, struct span value, const struct counts_sum *sum),
                       void *arg)
{
    struct query query = {.view = view, .split = true, .dimension = (uint8_t)dimension};
    enum err err = run_query(&query, filter, from_us, to_us);

    for (size_t i = 0; err == ERR_OK && i < query.len; i++) {
        if (query.groups[i].sum.total > 0) {
            err = fn(arg, query.groups[i].value, &query.groups[i].sum);
        }
    }
    query_free(&query);
    return err;
}

/* ---- names ---- */

struct name_total {
    uint32_t name;
    struct count_total total;
};

struct name_totals {
    struct counts_view *view;
    uint32_t *index; /* by name: its place + 1 */
    size_t index_len;
    struct name_total *totals;
};

static struct name_total *
total_of(const struct name_totals *totals, uint32_t name)
{
    if (name >= totals->index_len || totals->index[name] == 0) {
        return NULL;
    }
    return &totals->totals[totals->index[name] - 1];
}

static enum err
total_tail(void *arg, const struct tail_entry *entry)
{
    const struct name_totals *totals = arg;
    struct name_total *total = total_of(totals, entry->at.name);

    if (total != NULL && entry->occurred_us >= totals->view->state.from_us) {
        total->total.total++;
        if (entry->occurred_us > total->total.last_us) {
            total->total.last_us = entry->occurred_us;
        }
    }
    return ERR_OK;
}

static enum err
load_total(struct counts_view *view, struct name_total *total)
{
    struct count_key key = count_key_total(total->name);
    struct span value;
    enum err err = count_reader_get(&view->reader, &key, &value);

    total->total = (struct count_total){0, INT64_MIN};
    if (err == ERR_OK) {
        err = count_total_decode(value, &total->total);
    }
    if (err == ERR_CORRUPT || err == ERR_FORMAT) {
        view->degraded = true;
        total->total = (struct count_total){0, INT64_MIN};
    }
    return err == ERR_AGAIN || err == ERR_IO ? err : ERR_OK;
}

static enum err
total_names(struct name_totals *totals, const uint32_t *names, size_t count)
{
    struct counts_view *view = totals->view;
    enum err err = ERR_OK;

    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        totals->totals[i].name = names[i];
        totals->index[names[i]] = narrow_u32(i + 1);
        err = load_total(view, &totals->totals[i]);
    }
    if (err == ERR_OK) {
        err = count_tail_each(&view->pin, view->state.counted_seq, UINT64_MAX, total_tail, totals);
    }
    for (size_t i = 0; err == ERR_OK && i < view->removed_count; i++) {
        struct name_total *total = total_of(totals, view->removed[i].name);

        if (total != NULL && total->total.total > 0) {
            total->total.total--;
        }
    }
    return err;
}

enum err
counts_view_each_name(struct counts_view *view, struct span tenant,
                      enum err (*fn)(void *arg, struct span name, uint64_t total, int64_t last_us),
                      void *arg)
{
    struct name_totals totals = {.view = view};
    uint32_t *names = NULL;
    size_t count = 0;
    enum err err = count_names_of(view->counts->names, tenant, &names, &count);

    if (err != ERR_OK) {
        return err;
    }
    view->cut = view->cut || view->state.from_us > INT64_MIN;
    if (count_names_count(view->counts->names) >= COUNTS_NAMES_MAX) {
        view->degraded = true;
    }
    totals.index_len = (size_t)count_names_count(view->counts->names) + 1;
    totals.index = calloc(totals.index_len, sizeof(*totals.index));
    totals.totals = calloc(count + 1, sizeof(*totals.totals));
    err = totals.index == NULL || totals.totals == NULL ? ERR_NO_MEMORY
                                                        : total_names(&totals, names, count);
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        const struct name_total *total = &totals.totals[i];
        struct span name_tenant;
        struct span name;

        if (total->total.total > 0) {
            count_names_text(view->counts->names, total->name, &name_tenant, &name);
            err = fn(arg, name, total->total.total, total->total.last_us);
        }
    }
    free(totals.index);
    free(totals.totals);
    free(names);
    return err;
}

/* ---- opening ---- */

static enum err
push_removed(struct counts_view *view, const struct count_removal *removal, size_t *capacity)
{
    struct counts *counts = view->counts;
    struct removed *removed;
    uint32_t name;

    if (removal->occurred_us < view->state.from_us ||
        !count_names_find(counts->names, removal->tenant, removal->name, &name)) {
        return ERR_OK;
    }
    if (view->removed_count == *capacity) {
        size_t wanted = *capacity == 0 ? 64 : *capacity * 2;
        struct removed *grown = realloc(view->removed, wanted * sizeof(*grown));

        if (grown == NULL) {
            return ERR_NO_MEMORY;
        }
        view->removed = grown;
        *capacity = wanted;
    }
    removed = &view->removed[view->removed_count++];
    removed->name = name;
    removed->occurred_us = removal->occurred_us;
    removed->value[0] = count_value_index(counts, name, 0, removal->channel);
    removed->value[1] = count_value_index(counts, name, 1, removal->campaign_id);
    return ERR_OK;
}

static enum err
load_removals(struct counts_view *view)
{
    const struct count_store *store = &view->counts->config.store;
    const uint64_t last =
        view->pin.last_seq > view->state.counted_seq ? view->pin.last_seq : view->state.counted_seq;
    struct count_key first = count_key_removal(view->state.begin_seq + 1);
    size_t capacity = 0;
    struct span key;
    struct span value;
    uint64_t seq;
    enum err err =
        store->ops->seek(store->self, view->reader.snapshot, count_key_span(&first), &key, &value);

    while ((err == ERR_OK || err == ERR_CORRUPT) && count_parse_removal(key, &seq) && seq <= last) {
        struct count_removal removal;

        if (err == ERR_OK) {
            err = count_removal_decode(value, &removal);
        }
        if (err != ERR_OK) {
            view->degraded = true;
        } else {
            err = push_removed(view, &removal, &capacity);
            if (err != ERR_OK) {
                return err;
            }
        }
        err = store->ops->next(store->self, view->reader.snapshot, &key, &value);
    }
    return err == ERR_NOT_FOUND || err == ERR_CORRUPT ? ERR_OK : err;
}

static enum err
load_state(struct counts_view *view)
{
    struct count_key key = count_key_state();
    struct span value;
    enum err err = count_reader_get(&view->reader, &key, &value);

    if (err == ERR_NOT_FOUND) {
        /* Nothing has been folded yet. */
        uint64_t begin = atomic_load(&view->counts->begin_seq);

        view->state = (struct count_state){begin, begin, INT64_MIN};
        return ERR_OK;
    }
    return err != ERR_OK ? err : count_state_decode(value, &view->state);
}

enum err
counts_view_open(struct counts *counts, struct counts_view **out)
{
    struct counts_view *view = calloc(1, sizeof(*view));
    enum err err;

    if (view == NULL) {
        return ERR_NO_MEMORY;
    }
    view->counts = counts;
    err = count_tail_pin(&counts->tail, &view->pin);
    if (err == ERR_OK) {
        err = count_reader_begin(&view->reader, &counts->config.store);
    }
    if (err == ERR_OK) {
        err = load_state(view);
    }
    if (err == ERR_OK) {
        err = load_removals(view);
    }
    if (err != ERR_OK) {
        counts_view_close(view);
        return err;
    }
    *out = view;
    return ERR_OK;
}

void
counts_view_close(struct counts_view *view)
{
    if (view == NULL) {
        return;
    }
    count_reader_end(&view->reader);
    count_tail_unpin(&view->pin);
    free(view->removed);
    order_free(&view->order);
    free(view);
}

bool
counts_view_degraded(const struct counts_view *view)
{
    return view->degraded || view->cut;
}

int64_t
counts_view_complete_from(const struct counts_view *view)
{
    return view->cut ? view->state.from_us : INT64_MIN;
}
