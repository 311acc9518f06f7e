/* Raw events out of two places that move under the reader; pages, cursors, every error's path. */
#include "core/query/archive.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/log.h"
#include "core/base/timestamp.h"
#include "core/query/archive_json.h"
#include "tests/fakes/fake_archive_store.h"
#include "tests/fakes/fake_journal.h"

enum {
    PARTITIONS = 2,
    EVENTS = 40,
    SEEN_MAX = 8192,
};
static const int64_t T0_US = INT64_C(1700000000) * 1000000;

struct fixture {
    struct fake_journal *journal;
    struct fake_archive_store *store;
    struct event_zones *zones;
    struct archive *archive;
    uint64_t put;   /* events 1..put are in the log */
    uint64_t moved; /* events 1..moved are in the store */
};

static int
set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct archive_store port;

    assert_non_null(f);
    f->journal = fake_journal_new(&(struct fake_journal_config){.partitions = PARTITIONS});
    f->store = fake_archive_store_new();
    port = fake_archive_store_port(f->store);
    assert_int_equal(event_zones_new(&f->zones), ERR_OK);
    assert_int_equal(archive_new(&f->archive, fake_journal_port(f->journal), f->zones, &port),
                     ERR_OK);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(fake_archive_store_calls(f->store).open, 0);
    archive_free(f->archive);
    fake_archive_store_free(f->store);
    fake_journal_free(f->journal);
    event_zones_free(f->zones);
    free(f);
    return 0;
}

/* Event N: its time goes to and fro as it grows, some share one; three names, four users, two
 * tenants. */
static struct event
event_number(uint64_t n, char id[32])
{
    static const struct span names[] = {
        {"a", 1},
        {"b", 1},
        {"c", 1},
    };
    static const struct span users[] = {
        {"u0", 2},
        {"u1", 2},
        {"u2", 2},
        {NULL, 0},
    };

    (void)snprintf(id, 32, "e%llu", (unsigned long long)n);
    return (struct event){
        .shape = EVENT_PRODUCT,
        .occurred_at_us = T0_US + (int64_t)(n * 7919 % 13 + n / 64) * 1000000,
        .created_at_us = T0_US + (int64_t)n,
        .tenant = n % 10 == 9 ? SPAN_LITERAL("other") : SPAN_LITERAL("acme"),
        .id = {id, strlen(id)},
        .name = names[n % 3],
        .user_id = users[n % 4],
        .channel = n % 2 == 0 ? SPAN_LITERAL("web") : (struct span){NULL, 0},
    };
}

static void
put(struct fixture *f, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        char id[32];
        const struct event event = event_number(++f->put, id);

        event_zones_add(f->zones, f->put, &event);
        assert_int_equal(fake_journal_put(f->journal, &event), f->put);
    }
}

/* The next COUNT events become rows, or nothing (dead letters, repeats); their offsets move. */
static void
move(struct fixture *f, uint64_t count, bool as_rows)
{
    struct journal *journal = fake_journal_port(f->journal);
    const struct slice_set nothing = {0};

    for (uint64_t i = 0; i < count && f->moved < f->put; i++) {
        const uint32_t partition = journal_partition_of(++f->moved, PARTITIONS);
        char id[32];
        const struct event event = event_number(f->moved, id);

        if (as_rows) {
            fake_archive_store_put(f->store, journal->node_id, f->moved, &event);
        }
        fake_archive_store_set_offset(f->store, partition, f->moved);
        assert_int_equal(journal->ops->advance(journal->self, partition, f->moved, &nothing, NULL),
                         ERR_OK);
    }
}

static struct archive_request
all_of(const char *tenant, bool descending, uint32_t limit)
{
    return (struct archive_request){
        .filter = {.tenant = span_of(tenant), .from_us = TIMESTAMP_MIN_US, .to_us = INT64_MAX},
        .descending = descending,
        .limit = limit,
    };
}

struct seen {
    unsigned times[SEEN_MAX];
    size_t count;
    bool degraded;
};

static void
see(struct seen *seen, const struct archive_request *request, const struct archive_page *page)
{
    for (size_t i = 0; i < page->count; i++) {
        const struct archive_item *item = page->items[i];
        char text[32];
        const struct event expected = event_number(item->position.seq, text);

        assert_true(item->position.seq < SEEN_MAX);
        assert_true(span_equal(item->event.id, expected.id));
        assert_true(span_equal(item->event.name, expected.name));
        assert_true(span_equal(item->event.user_id, expected.user_id));
        assert_int_equal(item->event.occurred_at_us, expected.occurred_at_us);
        if (i > 0) {
            const int order =
                archive_position_compare(&page->items[i - 1]->position, &item->position);

            assert_true(request->descending ? order > 0 : order < 0);
        }
        seen->times[item->position.seq]++;
    }
    seen->count += page->count;
    seen->degraded = seen->degraded || page->degraded;
}

/* All pages; between two of them BETWEEN happens. */
static void
walk(struct fixture *f, struct archive_request request, struct seen *seen,
     void (*between)(struct fixture *f))
{
    for (;;) {
        struct archive_page page;
        bool more;

        assert_int_equal(archive_read_page(f->archive, &request, &page), ERR_OK);
        see(seen, &request, &page);
        more = page.more;
        if (more) {
            assert_true(page.count > 0);
            request.after = page.items[page.count - 1]->position;
            request.has_after = true;
        }
        archive_page_clear(&page);
        if (!more) {
            return;
        }
        if (between != NULL) {
            between(f);
        }
    }
}

/* Events FROM to TO of the tenant "acme" were seen once each, and no other. */
static void
expect(const struct seen *seen, uint64_t from, uint64_t to)
{
    for (uint64_t n = 0; n < SEEN_MAX; n++) {
        const unsigned wanted = n >= from && n <= to && n % 10 != 9 ? 1 : 0;

        if (seen->times[n] != wanted) {
            fail_msg("event %llu was seen %u times", (unsigned long long)n, seen->times[n]);
        }
    }
}

static void
expect_all(struct fixture *f, bool degraded, uint64_t from, uint64_t to)
{
    for (int order = 0; order < 2; order++) {
        struct seen *seen = calloc(1, sizeof(*seen));

        assert_non_null(seen);
        walk(f, all_of("acme", order == 1, 7), seen, NULL);
        expect(seen, from, to);
        assert_int_equal(seen->degraded, degraded);
        free(seen);
    }
}

/* ---- both places ---- */

static void
move_some(struct fixture *f)
{
    put(f, 3);
    move(f, 5, true);
    fake_journal_trim(f->journal, f->moved);
}

/* Both orders, while batches move and the log is trimmed; most stripes are in no page's way. */
static void
a_page_reads_the_stretches_of_the_log_that_it_needs(void **state)
{
    struct fixture *f = *state;
    enum {
        STRIPES = 6,
        LIMIT = 500,
        PAGES = 16,
        SCANS_OF_PAGE = 5, /* two or three stripes, the one that is being filled, and the probe */
    };

    put(f, STRIPES * JOURNAL_STRIPE + 100);
    for (int order = 0; order < 2; order++) {
        const uint64_t there = f->put;
        const uint64_t before = fake_journal_calls(f->journal).scan;
        struct seen *seen = calloc(1, sizeof(*seen));

        assert_non_null(seen);
        walk(f, all_of("acme", order == 1, LIMIT), seen, order == 0 ? NULL : move_some);
        assert_false(seen->degraded);
        for (uint64_t n = 1; n <= there; n++) {
            assert_int_equal(seen->times[n], n % 10 != 9);
        }
        if (order == 0) {
            assert_true(seen->count / LIMIT < PAGES);
            assert_true(fake_journal_calls(f->journal).scan - before < PAGES * SCANS_OF_PAGE);
        }
        free(seen);
    }
    move(f, 2 * JOURNAL_STRIPE + 7, true);
    fake_journal_trim(f->journal, f->moved);
    for (int order = 0; order < 2; order++) {
        const uint64_t there = f->put;
        struct seen *seen = calloc(1, sizeof(*seen));

        assert_non_null(seen);
        walk(f, all_of("acme", order == 1, LIMIT), seen, NULL);
        expect(seen, 1, there);
        free(seen);
    }
}

static size_t
zones_of(struct fixture *f, const char *tenant, const char *name, const char *user, int64_t from_us,
         int64_t to_us)
{
    const struct journal_scan scan = {.from_seq = 1, .records_max = 1};
    const struct archive_filter filter = {
        .tenant = span_of(tenant),
        .event_name = name == NULL ? (struct span){NULL, 0} : span_of(name),
        .user_id = user == NULL ? (struct span){NULL, 0} : span_of(user),
        .from_us = from_us,
        .to_us = to_us,
    };
    struct event_zone *zones = NULL;
    size_t count = 0;

    assert_int_equal(event_zones_find(f->zones, &scan, PARTITIONS, f->put, &filter, &zones, &count),
                     ERR_OK);
    for (size_t i = 1; i < count; i++) {
        assert_true(zones[i].from_seq > zones[i - 1].to_seq);
    }
    free(zones);
    return count;
}

static void
a_stretch_is_ruled_out_by_its_times_tenants_names_and_users(void **state)
{
    struct fixture *f = *state;

    put(f, 4 * JOURNAL_STRIPE + 1); /* of 16 seconds each and 13 to and fro */
    assert_int_equal(zones_of(f, "acme", NULL, NULL, INT64_MIN, INT64_MAX), 5);
    assert_int_equal(zones_of(f, "acme", "b", NULL, INT64_MIN, INT64_MAX), 5);
    assert_int_equal(zones_of(f, "acme", NULL, "u1", INT64_MIN, INT64_MAX), 5);
    /* What is not known whole may hold anything. */
    assert_int_equal(zones_of(f, "nobody", NULL, NULL, INT64_MIN, INT64_MAX), 1);
    assert_int_equal(zones_of(f, "acme", "absent", NULL, INT64_MIN, INT64_MAX), 1);
    assert_int_equal(zones_of(f, "acme", NULL, NULL, INT64_MIN, T0_US), 1);
    assert_int_equal(zones_of(f, "acme", NULL, NULL, T0_US, T0_US + 1), 2);
    assert_int_equal(zones_of(f, "acme", NULL, NULL, T0_US + 40000000, T0_US + 41000000), 3);
    assert_int_equal(zones_of(f, "acme", NULL, "somebody", INT64_MIN, INT64_MAX), 1);
}

static void
an_event_is_given_once_wherever_it_is(void **state)
{
    struct fixture *f = *state;

    put(f, EVENTS);
    for (uint64_t i = 0; i <= EVENTS; i++) {
        expect_all(f, false, 1, EVENTS);
        move(f, 1, true);
        if (i % 3 == 0) {
            fake_journal_trim(f->journal, f->moved);
        }
    }
}

static void
a_walk_neither_repeats_nor_skips_what_was_there_while_all_moves(void **state)
{
    struct fixture *f = *state;

    put(f, 1200); /* both partitions */
    for (int order = 0; order < 2; order++) {
        struct seen *seen = calloc(1, sizeof(*seen));
        const uint64_t before = f->put;

        assert_non_null(seen);
        walk(f, all_of("acme", order == 1, 11), seen, move_some);
        for (uint64_t n = 1; n <= f->put; n++) {
            assert_true(seen->times[n] <= 1);
            assert_true(n > before || seen->times[n] == (n % 10 != 9 ? 1 : 0));
        }
        assert_false(seen->degraded);
        free(seen);
    }
}

static void
dead_letters_and_repeats_are_gone_once_the_offset_is_behind_them(void **state)
{
    struct fixture *f = *state;

    put(f, EVENTS);
    move(f, 10, false);
    expect_all(f, false, 11, EVENTS);
}

static void
rows_of_other_nodes_are_there_too(void **state)
{
    struct fixture *f = *state;
    const uint8_t other[JOURNAL_NODE_ID_SIZE] = {0xee};

    put(f, 4);
    for (uint64_t n = 5; n <= 8; n++) {
        char id[32];
        const struct event event = event_number(n, id);

        fake_archive_store_put(f->store, other, n, &event);
    }
    expect_all(f, false, 1, 8);
}

static void
filters_hold_in_both_places(void **state)
{
    struct fixture *f = *state;

    put(f, EVENTS);
    for (int half = 0; half < 2; half++) {
        struct archive_request request = all_of("acme", true, 1000);
        struct archive_page page;

        request.filter.event_name = SPAN_LITERAL("b");
        request.filter.user_id = SPAN_LITERAL("u1");
        request.filter.from_us = T0_US + 3000000;
        request.filter.to_us = T0_US + 9000000;
        assert_int_equal(archive_read_page(f->archive, &request, &page), ERR_OK);
        assert_false(page.more);
        for (uint64_t n = 1; n <= EVENTS; n++) {
            char id[32];
            const struct event event = event_number(n, id);
            size_t found = 0;

            for (size_t i = 0; i < page.count; i++) {
                found += page.items[i]->position.seq == n ? 1 : 0;
            }
            assert_int_equal(found, n % 3 == 1 && n % 4 == 1 && n % 10 != 9 &&
                                            event.occurred_at_us >= request.filter.from_us &&
                                            event.occurred_at_us < request.filter.to_us
                                        ? 1
                                        : 0);
        }
        archive_page_clear(&page);
        move(f, EVENTS / 2, true);
    }
}

static void
a_page_of_long_events_ends_early_and_goes_on(void **state)
{
    struct fixture *f = *state;
    char *text = malloc(300000);
    struct archive_request request = all_of("acme", false, 1000);
    uint64_t total = 0;
    int pages = 0;
    bool more = true;

    assert_non_null(text);
    memset(text, ' ', 300000);
    text[0] = '{';
    text[299999] = '}';
    for (int i = 0; i < 40; i++) {
        struct event event = event_number(1, (char[32]){0});

        event.id = SPAN_LITERAL("x");
        event.occurred_at_us = T0_US - i;
        event.properties = (struct span){text, 300000};
        (void)fake_journal_put(f->journal, &event);
    }
    while (more) {
        struct archive_page page;

        assert_int_equal(archive_read_page(f->archive, &request, &page), ERR_OK);
        assert_in_range(page.count, 1, 13);
        total += page.count;
        request.after = page.items[page.count - 1]->position;
        request.has_after = true;
        more = page.more;
        archive_page_clear(&page);
        pages++;
    }
    assert_int_equal(total, 40);
    assert_true(pages > 2);
    free(text);
}

static void
many_names_are_asked_for_as_a_whole(void **state)
{
    struct fixture *f = *state;
    struct archive_request request = all_of("acme", true, 1000);
    struct archive_page page;

    for (int i = 0; i < 300; i++) {
        char text[32];
        struct event event = event_number(1, text);
        char name[24];

        (void)snprintf(name, sizeof(name), "name-%d", i);
        event.name = span_of(name);
        event.occurred_at_us = T0_US + i;
        fake_archive_store_put(f->store, fake_journal_port(f->journal)->node_id, (uint64_t)i + 1,
                               &event);
    }
    fake_archive_store_set_offset(f->store, 0, 300);
    assert_int_equal(archive_read_page(f->archive, &request, &page), ERR_OK);
    assert_int_equal(page.count, 300);
    assert_int_equal(fake_archive_store_calls(f->store).rows, 1);
    archive_page_clear(&page);
}

/* ---- trimming meanwhile ---- */

static void
trim_once(void *arg)
{
    struct fixture *f = arg;

    fake_archive_store_on_begin(f->store, NULL, NULL);
    move(f, 10, true);
    fake_journal_trim(f->journal, f->moved);
}

static void
a_log_trimmed_after_the_snapshot_makes_the_reading_start_over(void **state)
{
    struct fixture *f = *state;
    struct archive_request request = all_of("acme", true, 1000);
    struct seen *seen = calloc(1, sizeof(*seen));

    assert_non_null(seen);
    put(f, EVENTS);
    move(f, 5, true);
    fake_archive_store_on_begin(f->store, trim_once, f);
    walk(f, request, seen, NULL);
    assert_int_equal(fake_archive_store_calls(f->store).begin, 2);
    expect(seen, 1, EVENTS);
    assert_false(seen->degraded);
    free(seen);
}

static void
a_store_that_went_back_further_than_the_log_reaches_is_said(void **state)
{
    struct fixture *f = *state;

    put(f, EVENTS);
    move(f, 20, false);
    fake_journal_trim(f->journal, 20);
    fake_archive_store_set_offset(f->store, 0, 0); /* its rows are gone, and the log's records */
    expect_all(f, true, 21, EVENTS);
}

/* ---- the store away ---- */

static void
without_the_store_the_log_gives_what_it_holds_and_says_so(void **state)
{
    struct fixture *f = *state;

    put(f, EVENTS);
    move(f, 20, true);
    fake_archive_store_fail_begin(f->store, ERR_UNAVAILABLE, 1000);
    expect_all(f, true, 1, EVENTS); /* retained */
    fake_journal_trim(f->journal, 15);
    expect_all(f, true, 16, EVENTS);
    fake_archive_store_fail_begin(f->store, ERR_OK, 0);
    expect_all(f, false, 1, EVENTS);
}

static void
a_connection_lost_on_the_way_gives_nothing_twice(void **state)
{
    struct fixture *f = *state;

    put(f, EVENTS);
    move(f, 20, true);
    for (size_t given = 0; given < 6; given++) {
        fake_archive_store_fail_walk(f->store, ERR_UNAVAILABLE, given, 1000);
        expect_all(f, true, 1, EVENTS);
    }
}

static void
a_snapshot_that_breaks_off_is_taken_again(void **state)
{
    struct fixture *f = *state;
    struct archive_request request = all_of("acme", true, 1000);
    struct archive_page page;

    put(f, EVENTS);
    move(f, 20, true);
    fake_archive_store_fail_walk(f->store, ERR_AGAIN, 3, 2);
    assert_int_equal(archive_read_page(f->archive, &request, &page), ERR_OK);
    assert_int_equal(page.count, EVENTS - EVENTS / 10);
    assert_false(page.degraded);
    archive_page_clear(&page);
    assert_int_equal(fake_archive_store_calls(f->store).begin, 3);
    fake_archive_store_fail_walk(f->store, ERR_AGAIN, 3, 1000);
    assert_int_equal(archive_read_page(f->archive, &request, &page), ERR_AGAIN);
    fake_archive_store_fail_walk(f->store, ERR_OK, 0, 0);
    fake_archive_store_fail_begin(f->store, ERR_AGAIN, 1000);
    assert_int_equal(archive_read_page(f->archive, &request, &page), ERR_AGAIN);
}

static void
other_failures_are_handed_up(void **state)
{
    struct fixture *f = *state;
    const enum err errors[] = {ERR_TIMEOUT, ERR_NO_MEMORY};
    struct archive_request request = all_of("acme", true, 1000);
    struct archive_page page;

    put(f, EVENTS);
    move(f, 20, true);
    for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
        fake_archive_store_fail_walk(f->store, errors[i], 2, 1);
        assert_int_equal(archive_read_page(f->archive, &request, &page), errors[i]);
        fake_archive_store_fail_begin(f->store, errors[i], 1);
        assert_int_equal(archive_read_page(f->archive, &request, &page), errors[i]);
    }
    fake_journal_next_scan(f->journal, ERR_OK); /* looks whether the log was trimmed */
    fake_journal_next_scan(f->journal, ERR_IO);
    assert_int_equal(archive_read_page(f->archive, &request, &page), ERR_IO);
    for (int tries = 0; tries < 5; tries++) {
        fake_journal_next_scan(f->journal, ERR_AGAIN);
    }
    assert_int_equal(archive_read_page(f->archive, &request, &page), ERR_AGAIN);
    expect_all(f, false, 1, EVENTS);
}

static void
a_damaged_record_is_passed_over_and_said(void **state)
{
    struct fixture *f = *state;
    struct seen *seen = calloc(1, sizeof(*seen));

    assert_non_null(seen);
    put(f, EVENTS);
    move(f, 20, true);
    fake_journal_set_corrupt(f->journal, 30, true);
    walk(f, all_of("acme", false, 7), seen, NULL);
    assert_int_equal(seen->times[30], 0);
    assert_int_equal(seen->count, EVENTS - EVENTS / 10 - 1);
    assert_true(seen->degraded);
    fake_journal_set_corrupt(f->journal, 30, false);
    fake_journal_set_corrupt(f->journal, 3, true); /* behind the offset: a row, nobody looks */
    expect_all(f, false, 1, EVENTS);
    free(seen);
}

static void
without_any_store_all_is_in_the_log(void **state)
{
    struct fixture *f = *state;

    archive_free(f->archive);
    assert_int_equal(archive_new(&f->archive, fake_journal_port(f->journal), f->zones, NULL),
                     ERR_OK);
    expect_all(f, false, 1, 0);
    put(f, EVENTS);
    expect_all(f, false, 1, EVENTS);
}

/* ---- sums by user ---- */

struct sums {
    uint64_t by_user[4];
    uint64_t total;
    int64_t bucket_us;
    size_t fail_at;
    size_t calls;
};

static enum err
add(void *arg, int64_t occurred_us, uint64_t count, struct span user_id, struct span channel,
    struct span campaign_id)
{
    struct sums *sums = arg;

    (void)channel;
    (void)campaign_id;
    if (++sums->calls == sums->fail_at) {
        return ERR_TOO_BIG;
    }
    if (sums->bucket_us > 0 && sums->bucket_us != ARCHIVE_NO_TIME) {
        assert_int_equal(occurred_us % sums->bucket_us, 0);
    }
    sums->by_user[user_id.data == NULL ? 3 : user_id.data[1] - '0'] += count;
    sums->total += count;
    return ERR_OK;
}

static void
sums_by_user_hold_every_event_once(void **state)
{
    struct fixture *f = *state;

    put(f, EVENTS);
    for (uint64_t i = 0; i <= EVENTS; i += 4) {
        const struct archive_request request = all_of("acme", true, 1);
        struct sums sums = {.total = 0};
        uint64_t expected[4] = {0};
        bool degraded = true;

        for (uint64_t n = 1; n <= EVENTS; n++) {
            expected[n % 4] += n % 10 != 9 ? 1 : 0;
        }
        assert_int_equal(archive_each_user(f->archive, &request.filter, add, &sums, &degraded),
                         ERR_OK);
        assert_false(degraded);
        assert_memory_equal(sums.by_user, expected, sizeof(expected));
        move(f, 4, true);
        fake_journal_trim(f->journal, f->moved / 2);
    }
}

static void
times_are_rounded_down_also_before_1970(void **state)
{
    struct fixture *f = *state;
    struct archive_filter filter = all_of("acme", true, 1).filter;
    struct sums sums = {.bucket_us = 60000000};
    struct event event = event_number(1, (char[32]){0});
    bool degraded;

    event.id = SPAN_LITERAL("old");
    event.occurred_at_us = -1;
    (void)fake_journal_put(f->journal, &event);
    filter.bucket_us = sums.bucket_us;
    assert_int_equal(archive_each_user(f->archive, &filter, add, &sums, &degraded), ERR_OK);
    assert_int_equal(sums.total, 1);
}

static void
sums_that_broke_off_are_said_to_be_worthless(void **state)
{
    struct fixture *f = *state;
    const struct archive_request request = all_of("acme", true, 1);
    struct sums sums = {.total = 0};
    bool degraded = false;

    put(f, EVENTS);
    move(f, 20, true);
    fake_archive_store_fail_walk(f->store, ERR_UNAVAILABLE, 2, 1);
    assert_int_equal(archive_each_user(f->archive, &request.filter, add, &sums, &degraded),
                     ERR_AGAIN);
    fake_archive_store_fail_walk(f->store, ERR_UNAVAILABLE, 0, 1);
    sums = (struct sums){.total = 0};
    assert_int_equal(archive_each_user(f->archive, &request.filter, add, &sums, &degraded), ERR_OK);
    assert_true(degraded);
    assert_int_equal(sums.total, EVENTS - EVENTS / 10);
    for (size_t i = 1; i < 30; i += 7) {
        sums = (struct sums){.fail_at = i};
        assert_int_equal(archive_each_user(f->archive, &request.filter, add, &sums, &degraded),
                         ERR_TOO_BIG);
    }
}

/* ---- cursors and the answer ---- */

static void
a_cursor_goes_on_with_its_own_question_only(void **state)
{
    struct archive_request request = all_of("acme", true, 10);
    struct archive_request again = request;
    const struct archive_position at = {T0_US, {1, 2, 3}, 77};
    struct buffer text = BUFFER_EMPTY;

    (void)state;
    request.filter.event_name = SPAN_LITERAL("a");
    archive_cursor_write(&request, &at, &text);
    assert_int_equal(text.len, ARCHIVE_CURSOR_LEN);
    assert_int_equal(archive_cursor_read(buffer_span(&text), &again), ERR_NOT_FOUND);
    again.filter.event_name = SPAN_LITERAL("a");
    again.limit = 20;
    assert_int_equal(archive_cursor_read(buffer_span(&text), &again), ERR_OK);
    assert_true(again.has_after);
    assert_int_equal(archive_position_compare(&again.after, &at), 0);
    again.descending = false;
    assert_int_equal(archive_cursor_read(buffer_span(&text), &again), ERR_NOT_FOUND);
    again.descending = true;
    again.filter.tenant = SPAN_LITERAL("other");
    assert_int_equal(archive_cursor_read(buffer_span(&text), &again), ERR_NOT_FOUND);
    for (size_t i = 0; i < text.len; i++) {
        const char was = text.data[i];

        text.data[i] = was == '0' ? '1' : '0';
        assert_int_equal(archive_cursor_read(buffer_span(&text), &request), ERR_INVALID);
        text.data[i] = 'g';
        assert_int_equal(archive_cursor_read(buffer_span(&text), &request), ERR_INVALID);
        text.data[i] = was;
    }
    assert_int_equal(archive_cursor_read((struct span){text.data, text.len - 2}, &request),
                     ERR_INVALID);
    assert_int_equal(archive_cursor_read(SPAN_LITERAL(""), &request), ERR_INVALID);
    buffer_free(&text);
}

static void
a_cursor_with_an_impossible_time_is_refused(void **state)
{
    struct archive_request request = all_of("acme", true, 10);
    const int64_t times[] = {INT64_MIN, TIMESTAMP_MIN_US - 1, TIMESTAMP_MAX_US + 1, INT64_MAX};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        const struct archive_position at = {times[i], {0}, 1};
        struct buffer text = BUFFER_EMPTY;

        archive_cursor_write(&request, &at, &text);
        assert_int_equal(archive_cursor_read(buffer_span(&text), &request), ERR_INVALID);
        buffer_free(&text);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_event_is_given_once_wherever_it_is),
        TEST(a_page_reads_the_stretches_of_the_log_that_it_needs),
        TEST(a_stretch_is_ruled_out_by_its_times_tenants_names_and_users),
        TEST(a_walk_neither_repeats_nor_skips_what_was_there_while_all_moves),
        TEST(dead_letters_and_repeats_are_gone_once_the_offset_is_behind_them),
        TEST(rows_of_other_nodes_are_there_too),
        TEST(filters_hold_in_both_places),
        TEST(a_page_of_long_events_ends_early_and_goes_on),
        TEST(many_names_are_asked_for_as_a_whole),
        TEST(a_log_trimmed_after_the_snapshot_makes_the_reading_start_over),
        TEST(a_store_that_went_back_further_than_the_log_reaches_is_said),
        TEST(without_the_store_the_log_gives_what_it_holds_and_says_so),
        TEST(a_connection_lost_on_the_way_gives_nothing_twice),
        TEST(a_snapshot_that_breaks_off_is_taken_again),
        TEST(other_failures_are_handed_up),
        TEST(a_damaged_record_is_passed_over_and_said),
        TEST(without_any_store_all_is_in_the_log),
        TEST(sums_by_user_hold_every_event_once),
        TEST(times_are_rounded_down_also_before_1970),
        TEST(sums_that_broke_off_are_said_to_be_worthless),
        cmocka_unit_test(a_cursor_goes_on_with_its_own_question_only),
        cmocka_unit_test(a_cursor_with_an_impossible_time_is_refused),
    };

    (void)alarm(120);
    log_setup(LOG_ERROR, LOG_JSON, STDERR_FILENO);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
