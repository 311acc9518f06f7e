/*
 * bench_bulk.c - what a bulk costs one core, without sockets: NDJSON to encoded events, and from
 * there into the log.
 *
 *   bench_bulk DIR SECONDS
 *
 * Events are telemetry of about 120 bytes, in bulks of 10000, fed 64 KiB at a time as a connection
 * would. The first runs only decode and encode; the last hands each bulk to a log in DIR and waits
 * until it is durable. One line per run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/bulk.h"
#include "wal/wal.h"

enum {
    BULK_EVENTS = 10000,
    FEED_BYTES = 64 * 1024,
};

static double
now_s(void)
{
    return (double)clock_monotonic_us(clock_system()) / 1e6;
}

static void
fail(const char *what)
{
    fprintf(stderr, "bench_bulk: %s\n", what);
    exit(1);
}

/* KIND: 0 no ids, 1 ids of the client's own, 2 an extra member that must be gathered. */
static struct buffer
make_lines(int kind)
{
    static const char *const EXTRA[] = {"\"name\":", "\"event_id\":", "\"region\":"};
    struct buffer text = BUFFER_EMPTY;

    for (int i = 0; i < BULK_EVENTS; i++) {
        const char *name = kind == 0 ? "\"event_name\":" : EXTRA[kind];

        buffer_printf(&text,
                      "{\"service\":\"billing-a\",\"status\":200,\"latency_ms\":12.5,"
                      "\"timestamp\":1763720000,%s\"018bcfe5-6800-%09d-4d7c\"}\n",
                      name, i);
    }
    if (text.failed) {
        fail("no memory");
    }
    return text;
}

static void
read_bulk(const struct bulk_config *config, struct span text, struct bulk_pack *pack)
{
    struct bulk bulk;
    struct bulk_item item;
    enum bulk_step step = BULK_MORE;

    bulk_init(&bulk, config);
    while (step != BULK_DONE) {
        size_t len = text.len < FEED_BYTES ? text.len : FEED_BYTES;

        if (len == 0) {
            bulk_end(&bulk);
        } else {
            bulk_feed(&bulk, (struct span){text.data, len}, clock_wall_us(clock_system()));
        }
        text = (struct span){text.data + len, text.len - len};
        while ((step = bulk_next(&bulk, &item)) == BULK_EVENT) {
            if (bulk_pack_add(pack, &item.event) != ERR_OK) {
                fail("no memory");
            }
        }
        if (step != BULK_MORE && step != BULK_DONE) {
            fail("an event was refused");
        }
    }
    bulk_fini(&bulk);
    bulk_pack_seal(pack);
}

static void
note_done(struct append *append)
{
    (void)append;
}

static void
store(struct journal *journal, struct bulk_pack *pack)
{
    static const struct slice_set none = {0};
    struct append append = {.events = pack->events,
                            .count = pack->count,
                            .body_bytes = pack->bytes.len,
                            .done = note_done};
    uint64_t before = journal->ops->durable_seq(journal->self);

    if (journal->ops->append(journal->self, &append) != ERR_OK) {
        fail("the log refused a bulk");
    }
    journal->ops->kick(journal->self);
    if (journal->ops->wait_durable(journal->self, before + pack->count, -1) != ERR_OK) {
        fail("the log failed");
    }
    /* Stands for a sink that keeps up; waits for a commit of its own, after which done() was
     * called. */
    if (journal->ops->advance(journal->self, 0, before + pack->count, &none, NULL) != ERR_OK) {
        fail("the log failed");
    }
}

/* JOURNAL NULL: nothing is stored. */
static void
run(const char *what, int kind, double seconds, struct journal *journal)
{
    const struct bulk_config config = {
        .format = SPLIT_LINES,
        .event_bytes_max = 64 * 1024,
        .elements_max = BULK_EVENTS,
        .text_bytes_max = 16 << 20,
        .future_skew_max_us = 1000000,
        .tenant = SPAN_LITERAL("default"),
    };
    struct buffer text = make_lines(kind);
    double began = now_s();
    uint64_t events = 0;
    double spent;

    while ((spent = now_s() - began) < seconds) {
        struct bulk_pack pack = {0};

        read_bulk(&config, buffer_span(&text), &pack);
        events += pack.count;
        if (journal != NULL) {
            store(journal, &pack);
        }
        bulk_pack_free(&pack);
    }
    printf("bulk server=sluice work=%s event_bytes=%zu events_s=%.0f ns_per_event=%.0f\n", what,
           text.len / BULK_EVENTS, (double)events / spent, spent / (double)events * 1e9);
    fflush(stdout);
    buffer_free(&text);
}

static void
run_with_log(const char *dir, double seconds)
{
    static const char *const FILES[] = {"data.mdb", "lock.mdb", "sluice.lock"};
    const struct wal_config config = {
        .dir = dir,
        .bytes_max = (uint64_t)4 << 30,
        .retain_bytes = 32 << 20,
        .partitions = 1,
        .queue_events = 1 << 20,
        .id_window = 1000,
        .clock = clock_system(),
    };
    struct wal *wal;
    char path[4096];

    if (wal_open(&wal, &config) != ERR_OK || wal_start(wal) != ERR_OK) {
        fail("the log does not open");
    }
    run("durable", 0, seconds, wal_journal(wal));
    wal_close(wal);
    for (size_t i = 0; i < ARRAY_LEN(FILES); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, FILES[i]);
        unlink(path);
    }
    rmdir(dir);
}

int
main(int argc, char **argv)
{
    double seconds = argc == 3 ? atof(argv[2]) : 0;

    if (seconds <= 0) {
        fprintf(stderr, "usage: bench_bulk DIR SECONDS\n");
        return 2;
    }
    log_setup(LOG_WARN, LOG_TEXT, 2);
    run("encode", 0, seconds, NULL);
    run("encode-ids", 1, seconds, NULL);
    run("encode-properties", 2, seconds, NULL);
    run_with_log(argv[1], seconds);
    return 0;
}
