/*
 * Reading is: open a snapshot of the store, take what it gives, add the log after its offsets. A
 * page keeps only its best events while it is being read, copied into blocks of their own: of the
 * two sources, and of the store's names, each gives its own order, or none (the log). Of the log
 * only the stretches are read that event_zones.h cannot rule out.
 */
#include "core/query/archive.h"

#include <stdlib.h>

#include "core/base/timestamp.h"

enum {
    TRIES_MAX = 4,            /* snapshots taken for one answer when the log is trimmed meanwhile */
    SCAN_RECORDS = 4096,      /* of one read of the log: about a millisecond */
    NAMES_MAX = 256,          /* asked one by one; a tenant with more is asked for as a whole */
    PAGE_BYTES_MAX = 4 << 20, /* of one page's events, but one event at least */
};

struct archive {
    struct journal *journal;
    struct event_zones *zones;
    struct archive_store store;
    bool has_store;
};

enum err
archive_new(struct archive **out, struct journal *journal, struct event_zones *zones,
            const struct archive_store *store)
{
    struct archive *archive = calloc(1, sizeof(*archive));

    if (archive == NULL) {
        return ERR_NO_MEMORY;
    }
    archive->journal = journal;
    archive->zones = zones;
    archive->has_store = store != NULL;
    if (store != NULL) {
        archive->store = *store;
    }
    *out = archive;
    return ERR_OK;
}

void
archive_free(struct archive *archive)
{
    if (archive == NULL) {
        return;
    }
    if (archive->has_store) {
        archive->store.ops->close(archive->store.self);
    }
    free(archive);
}

/* ---- the order ---- */

int
archive_position_compare(const struct archive_position *a, const struct archive_position *b)
{
    int order;

    if (a->occurred_us != b->occurred_us) {
        return a->occurred_us < b->occurred_us ? -1 : 1;
    }
    order = memcmp(a->node_id, b->node_id, sizeof(a->node_id));
    if (order != 0) {
        return order;
    }
    return a->seq == b->seq ? 0 : a->seq < b->seq ? -1 : 1;
}

static int64_t
clamp_time(int64_t us)
{
    if (us < TIMESTAMP_MIN_US) {
        return TIMESTAMP_MIN_US;
    }
    return us > TIMESTAMP_MAX_US ? TIMESTAMP_MAX_US : us;
}

/* ---- what matches ---- */

static bool
accepts(struct span wanted, struct span value)
{
    return wanted.data == NULL || (value.data != NULL && span_equal(wanted, value));
}

static bool
matches(const struct archive_filter *filter, const struct event *event, int64_t occurred_us)
{
    return occurred_us >= filter->from_us && occurred_us < filter->to_us &&
           accepts(filter->tenant, event->tenant) && accepts(filter->event_name, event->name) &&
           accepts(filter->service, event->service) && accepts(filter->channel, event->channel) &&
           accepts(filter->campaign_id, event->campaign_id) &&
           accepts(filter->user_id, event->user_id);
}

/* ---- the best events so far ---- */

/*
 * A heap whose root is the last event in the request's order. Once an event had to go, nothing at
 * or behind it may enter: the page must have no hole.
 */
struct selection {
    const struct archive_request *request;
    struct archive_item **items;
    size_t count;
    size_t bytes;
    bool has_bound;
    struct archive_position bound;
};

static bool
is_before(const struct selection *selection, const struct archive_position *a,
          const struct archive_position *b)
{
    const int order = archive_position_compare(a, b);

    return selection->request->descending ? order > 0 : order < 0;
}

static MUST_CHECK enum err
selection_init(struct selection *selection, const struct archive_request *request)
{
    /* One more than the limit: an event enters before the last one leaves. */
    *selection = (struct selection){
        .request = request,
        .items = calloc((size_t)request->limit + 1, sizeof(struct archive_item *)),
    };
    return selection->items == NULL ? ERR_NO_MEMORY : ERR_OK;
}

static void
selection_clear(struct selection *selection)
{
    for (size_t i = 0; i < selection->count; i++) {
        free(selection->items[i]);
    }
    selection->count = 0;
    selection->bytes = 0;
    selection->has_bound = false;
}

static void
copy_span(struct span *span, char **room)
{
    if (span->data == NULL) {
        return;
    }
    if (span->len > 0) {
        memcpy(*room, span->data, span->len);
    }
    span->data = *room;
    *room += span->len;
}

/* The event in one block with all it points to. NULL: no memory. */
static struct archive_item *
item_new(const struct archive_position *position, const struct event *event)
{
    struct event copy = *event;
    struct span *const spans[] = {&copy.tenant,  &copy.id,          &copy.name,    &copy.service,
                                  &copy.channel, &copy.campaign_id, &copy.user_id, &copy.trace_id,
                                  &copy.tags,    &copy.properties};
    struct archive_item *item;
    size_t bytes = sizeof(*item) + 1; /* so that an empty text has an address */
    char *room;

    for (size_t i = 0; i < ARRAY_LEN(spans); i++) {
        bytes += spans[i]->len;
    }
    item = malloc(bytes);
    if (item == NULL) {
        return NULL;
    }
    room = (char *)(item + 1);
    for (size_t i = 0; i < ARRAY_LEN(spans); i++) {
        copy_span(spans[i], &room);
    }
    *item = (struct archive_item){.position = *position, .event = copy, .bytes = bytes};
    return item;
}

static void
sift_up(struct selection *selection, size_t at)
{
    struct archive_item **items = selection->items;

    while (at > 0) {
        const size_t parent = (at - 1) / 2;
        struct archive_item *item = items[at];

        if (!is_before(selection, &items[parent]->position, &item->position)) {
            break;
        }
        items[at] = items[parent];
        items[parent] = item;
        at = parent;
    }
}

static void
sift_down(struct selection *selection)
{
    struct archive_item **items = selection->items;
    size_t at = 0;

    for (;;) {
        const size_t left = 2 * at + 1;
        size_t last = at;
        struct archive_item *item = items[at];

        for (size_t child = left; child <= left + 1 && child < selection->count; child++) {
            if (is_before(selection, &items[last]->position, &items[child]->position)) {
                last = child;
            }
        }
        if (last == at) {
            return;
        }
        items[at] = items[last];
        items[last] = item;
        at = last;
    }
}

static struct archive_item *
pop_last(struct selection *selection)
{
    struct archive_item *item = selection->items[0];

    selection->count--;
    selection->bytes -= item->bytes;
    selection->items[0] = selection->items[selection->count];
    if (selection->count > 0) {
        sift_down(selection);
    }
    return item;
}

static bool
may_enter(const struct selection *selection, const struct archive_position *position)
{
    const struct archive_request *request = selection->request;

    if (request->has_after && !is_before(selection, &request->after, position)) {
        return false;
    }
    return !selection->has_bound || is_before(selection, position, &selection->bound);
}

static enum err
offer(struct selection *selection, const struct archive_position *position,
      const struct event *event)
{
    struct archive_item *item;

    if (!matches(&selection->request->filter, event, position->occurred_us) ||
        !may_enter(selection, position)) {
        return ERR_OK;
    }
    item = item_new(position, event);
    if (item == NULL) {
        return ERR_NO_MEMORY;
    }
    selection->items[selection->count++] = item;
    selection->bytes += item->bytes;
    sift_up(selection, selection->count - 1);
    while (selection->count > selection->request->limit ||
           (selection->bytes > PAGE_BYTES_MAX && selection->count > 1)) {
        struct archive_item *gone = pop_last(selection);

        selection->has_bound = true;
        selection->bound = gone->position;
        free(gone);
    }
    return ERR_OK;
}

/* The heap's memory becomes the page's. */
static void
selection_finish(struct selection *selection, struct archive_page *out)
{
    const size_t count = selection->count;

    /* The last one goes to the end again and again: what a heap sort does. */
    for (size_t left = count; left > 0; left--) {
        struct archive_item *item = pop_last(selection);

        selection->items[left - 1] = item;
    }
    out->items = selection->items;
    out->count = count;
    out->more = selection->has_bound;
}

void
archive_page_clear(struct archive_page *page)
{
    for (size_t i = 0; i < page->count; i++) {
        free(page->items[i]);
    }
    free(page->items);
    *page = (struct archive_page){0};
}

/* ---- the two sources, for whoever reads ---- */

/*
 * What is done with an answer's parts. take_store() reads from an open snapshot; take_record() gets
 * each of the log's records that may match FILTER, and others; start_over() forgets both, or says
 * that it cannot. wants_zone(), NULL: all, is asked before a stretch of the log is read, those
 * first in which the order begins.
 */
struct reading {
    enum err (*take_store)(struct reading *reading, const struct archive_store *store,
                           void *snapshot);
    enum err (*take_record)(struct reading *reading, const struct archive_position *position,
                            const struct event *event);
    bool (*start_over)(struct reading *reading);
    bool (*wants_zone)(const struct reading *reading, const struct event_zone *zone);
    const struct archive_filter *filter;
    bool descending;
    const struct archive *archive;
    uint64_t to_seq; /* of the stretch that is being read */
    bool degraded;
};

static enum err
on_record(void *arg, uint64_t seq, const struct event *event)
{
    struct reading *reading = arg;
    struct archive_position position = {
        .occurred_us = clamp_time(event->occurred_at_us),
        .seq = seq,
    };

    if (seq > reading->to_seq) {
        return ERR_OK; /* the next stretch gives it, if it is wanted */
    }
    memcpy(position.node_id, reading->archive->journal->node_id, sizeof(position.node_id));
    return reading->take_record(reading, &position, event);
}

/* Records of SCAN up to TO_SEQ; ERR_NOT_FOUND when one is gone. */
static enum err
read_stretch(struct reading *reading, struct journal_scan scan, uint64_t to_seq)
{
    const struct journal *journal = reading->archive->journal;
    struct journal_scanned scanned = {.next_seq = scan.from_seq};

    reading->to_seq = to_seq;
    while (!scanned.done && scanned.next_seq <= to_seq) {
        const enum err err = journal->ops->scan(journal->self, &scan, on_record, reading, &scanned);

        if (err != ERR_OK) {
            return err;
        }
        reading->degraded = reading->degraded || scanned.damaged > 0;
        scan.from_seq = scanned.next_seq;
    }
    return ERR_OK;
}

static int
compare_most(const void *left, const void *right)
{
    const struct event_zone *a = left;
    const struct event_zone *b = right;

    return a->most_us > b->most_us ? -1 : a->most_us < b->most_us;
}

static int
compare_least(const void *left, const void *right)
{
    const struct event_zone *a = left;
    const struct event_zone *b = right;

    return a->least_us < b->least_us ? -1 : a->least_us > b->least_us;
}

/* Records beyond AFTER (NULL: all) from FROM_SEQ on; ERR_NOT_FOUND when one is gone. */
static enum err
read_log(struct reading *reading, const uint64_t *after, uint64_t from_seq)
{
    const struct journal *journal = reading->archive->journal;
    struct journal_scan scan = {
        .from_seq = from_seq,
        .after = after,
        .records_max = SCAN_RECORDS,
    };
    struct event_zone *zones = NULL;
    size_t count = 0;
    enum err err;

    if (reading->archive->zones == NULL) {
        return read_stretch(reading, scan, UINT64_MAX);
    }
    err =
        event_zones_find(reading->archive->zones, &scan, journal->partitions,
                         journal->ops->durable_seq(journal->self), reading->filter, &zones, &count);
    if (err == ERR_OK && count > 0 && reading->wants_zone != NULL) {
        qsort(zones, count, sizeof(*zones), reading->descending ? compare_most : compare_least);
    }
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        if (reading->wants_zone != NULL && !reading->wants_zone(reading, &zones[i])) {
            continue;
        }
        scan.from_seq = zones[i].from_seq;
        scan.records_max = narrow_u32(zones[i].to_seq - zones[i].from_seq + 1);
        err = read_stretch(reading, scan, zones[i].to_seq);
    }
    free(zones);
    return err;
}

static enum err
pass_over(void *arg, uint64_t seq, const struct event *event)
{
    (void)arg;
    (void)seq;
    (void)event;
    return ERR_OK;
}

/* ERR_NOT_FOUND before anything is given, if the log lacks the first record beyond AFTER. */
static enum err
probe_log(const struct journal *journal, const uint64_t *after)
{
    const struct journal_scan scan = {.from_seq = 1, .after = after, .records_max = 1};
    struct journal_scanned scanned;

    return journal->ops->scan(journal->self, &scan, pass_over, NULL, &scanned);
}

/* What the log has, from its oldest record on. */
static enum err
read_held_log(struct reading *reading, const uint64_t *after)
{
    struct journal_stats stats;
    uint64_t from_seq;

    memset(&stats, 0, sizeof(stats));
    reading->archive->journal->ops->stats(reading->archive->journal->self, &stats);
    from_seq = stats.oldest_seq == 0 ? stats.durable_seq + 1 : stats.oldest_seq;
    return read_log(reading, after, from_seq);
}

/* One snapshot and the log after it. ERR_UNAVAILABLE: no store; ERR_NOT_FOUND: the log is trimmed.
 */
static enum err
read_once(struct reading *reading, const struct archive_store *store, bool any_log)
{
    const struct journal *journal = reading->archive->journal;
    uint64_t after[JOURNAL_PARTITIONS_MAX] = {0};
    void *snapshot;
    enum err err =
        store->ops->begin(store->self, journal->node_id, journal->partitions, after, &snapshot);

    if (err != ERR_OK) {
        return err;
    }
    err = any_log ? ERR_OK : probe_log(journal, after);
    if (err == ERR_OK) {
        err = reading->take_store(reading, store, snapshot);
    }
    store->ops->end(snapshot);
    if (err != ERR_OK) {
        return err;
    }
    return any_log ? read_held_log(reading, after) : read_log(reading, after, 1);
}

/*
 * Reads all of it, once. A snapshot may be broken off by somebody, or be older than a table; the
 * next one is not. A log that lacks what the snapshot's offsets say is not in the store has
 * either been trimmed since, then the next snapshot knows more; or the store went back in time
 * further than the log reaches, and what there is is the answer.
 */
static enum err
read_all(const struct archive *archive, struct reading *reading)
{
    enum err err = ERR_UNAVAILABLE;

    reading->archive = archive;
    reading->degraded = false;
    if (!archive->has_store) {
        err = read_held_log(reading, NULL);
        return err == ERR_NOT_FOUND ? ERR_AGAIN : err; /* nothing is replicated, so never trimmed */
    }
    for (int tries = 0; tries <= TRIES_MAX; tries++) {
        const bool last = tries == TRIES_MAX;

        if (tries > 0 && !reading->start_over(reading)) {
            return ERR_AGAIN;
        }
        reading->degraded = last;
        err = read_once(reading, &archive->store, last);
        if (err == ERR_UNAVAILABLE) {
            break;
        }
        if (err != ERR_NOT_FOUND && (err != ERR_AGAIN || last)) {
            return err;
        }
    }
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        if (!reading->start_over(reading)) {
            return ERR_AGAIN;
        }
        reading->degraded = true;
        err = read_held_log(reading, NULL);
        if (err != ERR_NOT_FOUND) {
            return err;
        }
    }
    return ERR_AGAIN;
}

/* ---- pages ---- */

struct page_reading {
    struct reading reading; /* first */
    struct selection selection;
    const struct archive_store *store;
    void *snapshot;
};

static enum err
on_row(void *arg, const struct archive_position *position, const struct event *event)
{
    return offer(arg, position, event);
}

/* The rows that could enter the page, of one name or of all. */
static enum err
take_rows(struct page_reading *page, struct span name, bool padded)
{
    const struct selection *selection = &page->selection;
    const struct archive_request *request = selection->request;
    struct archive_rows rows = {
        .filter = request->filter,
        .name_padded = padded,
        .descending = request->descending,
        .has_after = request->has_after,
        .after = request->after,
        .has_until = selection->has_bound,
        .until = selection->bound,
        .limit = request->limit + 1, /* whether there is one more is to be known */
    };

    rows.filter.event_name = name;
    return page->store->ops->rows(page->snapshot, &rows, on_row, &page->selection);
}

/* A tenant's names, kept while rows are read: the session can do one thing at a time. */
struct names {
    struct buffer bytes; /* a length byte before each */
    uint32_t count;
};

_Static_assert(EVENT_NAME_MAX <= UINT8_MAX, "a name's length fits a byte");

static enum err
keep_name(void *arg, struct span name)
{
    struct names *names = arg;

    if (name.len == 0 || name.len > EVENT_NAME_MAX) {
        return ERR_OK; /* none of ours */
    }
    buffer_append_char(&names->bytes, (char)(uint8_t)name.len);
    buffer_append_span(&names->bytes, name);
    names->count++;
    return names->bytes.failed ? ERR_NO_MEMORY : ERR_OK;
}

static enum err
take_names(struct page_reading *page, const struct names *names)
{
    size_t at = 0;
    enum err err = ERR_OK;

    while (err == ERR_OK && at < names->bytes.len) {
        const size_t len = (uint8_t)names->bytes.data[at];

        err = take_rows(page, (struct span){names->bytes.data + at + 1, len}, true);
        at += 1 + len;
    }
    return err;
}

/*
 * The store has events by name and time. So a page of all names is put together from the first rows
 * of each; what is in already bounds what is asked of the next name.
 */
static enum err
take_page_rows(struct reading *reading, const struct archive_store *store, void *snapshot)
{
    struct page_reading *page = (struct page_reading *)reading;
    const struct archive_filter *filter = &page->selection.request->filter;
    struct names names = {BUFFER_EMPTY, 0};
    enum err err;

    page->store = store;
    page->snapshot = snapshot;
    if (filter->event_name.data != NULL) {
        return take_rows(page, filter->event_name, false);
    }
    err = store->ops->names(snapshot, filter->tenant, NAMES_MAX + 1, keep_name, &names);
    if (err == ERR_OK) {
        err = names.count > NAMES_MAX ? take_rows(page, filter->event_name, false)
                                      : take_names(page, &names);
    }
    buffer_free(&names.bytes);
    return err;
}

static enum err
take_page_record(struct reading *reading, const struct archive_position *position,
                 const struct event *event)
{
    return offer(&((struct page_reading *)reading)->selection, position, event);
}

/* Whether an event of ZONE could enter the page. */
static bool
page_wants_zone(const struct reading *reading, const struct event_zone *zone)
{
    const struct selection *selection = &((const struct page_reading *)reading)->selection;
    const struct archive_request *request = selection->request;
    const int64_t least_us = clamp_time(zone->least_us);
    const int64_t most_us = clamp_time(zone->most_us);

    if (request->descending) {
        return (!request->has_after || least_us <= request->after.occurred_us) &&
               (!selection->has_bound || most_us >= selection->bound.occurred_us);
    }
    return (!request->has_after || most_us >= request->after.occurred_us) &&
           (!selection->has_bound || least_us <= selection->bound.occurred_us);
}

static bool
page_start_over(struct reading *reading)
{
    selection_clear(&((struct page_reading *)reading)->selection);
    return true;
}

enum err
archive_read_page(struct archive *archive, const struct archive_request *request,
                  struct archive_page *out)
{
    struct page_reading page = {
        .reading = {.take_store = take_page_rows,
                    .take_record = take_page_record,
                    .start_over = page_start_over,
                    .wants_zone = page_wants_zone,
                    .filter = &request->filter,
                    .descending = request->descending},
    };
    enum err err;

    ASSERT(request->limit >= 1);
    ASSERT(request->limit <= ARCHIVE_LIMIT_MAX);
    ASSERT(request->filter.tenant.data != NULL);
    err = selection_init(&page.selection, request);
    if (err != ERR_OK) {
        return err;
    }
    err = read_all(archive, &page.reading);
    if (err != ERR_OK) {
        selection_clear(&page.selection);
        free(page.selection.items);
        return err;
    }
    selection_finish(&page.selection, out);
    out->degraded = page.reading.degraded;
    return ERR_OK;
}

/* ---- sums by user ---- */

struct user_reading {
    struct reading reading; /* first */
    const struct archive_filter *filter;
    archive_user_fn *fn;
    void *arg;
    bool given;
};

static enum err
on_users(void *arg, int64_t occurred_us, uint64_t count, struct span user_id, struct span channel,
         struct span campaign_id)
{
    struct user_reading *users = arg;

    users->given = true;
    return users->fn(users->arg, occurred_us, count, user_id, channel, campaign_id);
}

static enum err
take_user_rows(struct reading *reading, const struct archive_store *store, void *snapshot)
{
    struct user_reading *users = (struct user_reading *)reading;

    return store->ops->users(snapshot, users->filter, on_users, users);
}

/* Down to a multiple of BUCKET_US, also before 1970. */
static int64_t
round_down(int64_t us, int64_t bucket_us)
{
    const int64_t rest = us % bucket_us;

    return us - (rest < 0 ? rest + bucket_us : rest);
}

static enum err
take_user_record(struct reading *reading, const struct archive_position *position,
                 const struct event *event)
{
    struct user_reading *users = (struct user_reading *)reading;
    const struct archive_filter *filter = users->filter;
    int64_t us = position->occurred_us;

    if (!matches(filter, event, us)) {
        return ERR_OK;
    }
    if (filter->bucket_us == ARCHIVE_NO_TIME) {
        us = filter->from_us;
    } else if (filter->bucket_us > 0) {
        us = round_down(us, filter->bucket_us);
    }
    return on_users(users, us, 1, event->user_id, event->channel, event->campaign_id);
}

static bool
users_start_over(struct reading *reading)
{
    return !((const struct user_reading *)reading)->given;
}

enum err
archive_each_user(struct archive *archive, const struct archive_filter *filter, archive_user_fn *fn,
                  void *arg, bool *degraded_out)
{
    struct user_reading users = {
        .reading = {.take_store = take_user_rows,
                    .take_record = take_user_record,
                    .start_over = users_start_over,
                    .filter = filter},
        .filter = filter,
        .fn = fn,
        .arg = arg,
    };
    enum err err;

    ASSERT(filter->tenant.data != NULL);
    ASSERT(filter->bucket_us == 0 || filter->bucket_us == ARCHIVE_NO_TIME ||
           ARCHIVE_DAY_US % filter->bucket_us == 0);
    err = read_all(archive, &users.reading);
    if (err == ERR_OK) {
        *degraded_out = users.reading.degraded;
    }
    return err;
}
