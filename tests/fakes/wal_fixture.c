#include "tests/fakes/wal_fixture.h"

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/crc32c.h"

enum {
    SERVICES = 3
};

static const struct slice_rules RULES = {.threshold_us = {500000}, .threshold_count = 1};

void
wal_fixture_init(struct wal_fixture *fixture)
{
    const char *tmp = getenv("TMPDIR");

    *fixture = (struct wal_fixture){0};
    snprintf(fixture->dir, sizeof(fixture->dir), "%s/sluice-wal-XXXXXX",
             tmp == NULL ? "/tmp" : tmp);
    ASSERT(mkdtemp(fixture->dir) != NULL);
    fixture->config = (struct wal_config){
        .dir = fixture->dir,
        .bytes_max = 64 << 20,
        .retain_bytes = 0,
        .partitions = 2,
        .queue_events = 65536,
        .id_window = 10000,
        .clock = clock_system(),
    };
}

static int
remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

void
wal_fixture_fini(struct wal_fixture *fixture)
{
    wal_fixture_close(fixture);
    nftw(fixture->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

void
wal_fixture_open(struct wal_fixture *fixture)
{
    ASSERT(wal_open(&fixture->wal, &fixture->config) == ERR_OK);
    fixture->journal = wal_journal(fixture->wal);
}

void
wal_fixture_start(struct wal_fixture *fixture)
{
    if (fixture->wal == NULL) {
        wal_fixture_open(fixture);
    }
    ASSERT(wal_start(fixture->wal) == ERR_OK);
}

void
wal_fixture_close(struct wal_fixture *fixture)
{
    wal_close(fixture->wal);
    fixture->wal = NULL;
    fixture->journal = NULL;
}

void
wal_fixture_restart(struct wal_fixture *fixture)
{
    wal_fixture_close(fixture);
    wal_fixture_start(fixture);
}

/* ---- requests ---- */

static void
request_done(struct append *append)
{
    struct request *request = (struct request *)append;

    pthread_mutex_lock(&request->lock);
    request->answered = true;
    request->answers++;
    pthread_cond_signal(&request->changed);
    pthread_mutex_unlock(&request->lock);
}

static void
encode(struct buffer *out, uint64_t number, size_t body_size, bool keyed, struct append_event *item)
{
    char id[32];
    char service[32];
    struct buffer filling = BUFFER_EMPTY;
    struct event event = {
        .shape = EVENT_TELEMETRY,
        .has_status = true,
        .has_latency = true,
        .id_by_client = keyed,
        .status = number % 10 == 0 ? 500 : 200,
        .latency_ms = (double)(number % 1000),
        .occurred_at_us = INT64_C(1700000000000000) + (int64_t)(number % 600) * 1000000,
        .created_at_us = INT64_C(1700000000000000) + (int64_t)number,
        .tenant = SPAN_LITERAL("tenant"),
        .name = SPAN_LITERAL("telemetry"),
    };
    size_t start = out->len;

    snprintf(id, sizeof(id), "event-%012llu", (unsigned long long)number);
    snprintf(service, sizeof(service), "service-%llu", (unsigned long long)(number % SERVICES));
    event.id = span_of(id);
    event.service = span_of(service);
    event.content_crc = crc32c(0, &number, sizeof(number));
    if (keyed) {
        event_key(event.tenant, event.id, event.key);
    }
    event_encode(&event, out);
    if (out->len - start < body_size) {
        size_t more = body_size - (out->len - start);

        out->len = start;
        ASSERT(buffer_reserve(&filling, more) == ERR_OK);
        memset(filling.data, 'x', more);
        filling.len = more;
        event.properties = buffer_span(&filling);
        event_encode(&event, out);
    }
    buffer_free(&filling);
    ASSERT(!out->failed);
    *item = (struct append_event){
        .body = {NULL, out->len - start}, .has_key = keyed, .content_crc = event.content_crc};
    memcpy(item->key, event.key, EVENT_KEY_SIZE);
}

struct request *
request_new(uint64_t first, uint32_t count, size_t body_size, bool keyed)
{
    struct request *request = calloc(1, sizeof(*request));
    size_t offset = 0;

    ASSERT(request != NULL);
    pthread_mutex_init(&request->lock, NULL);
    pthread_cond_init(&request->changed, NULL);
    request->append.events = calloc(count, sizeof(*request->append.events));
    ASSERT(request->append.events != NULL);
    for (uint32_t i = 0; i < count; i++) {
        encode(&request->bodies, first + i, body_size, keyed, &request->append.events[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct span *body = &request->append.events[i].body;

        body->data = request->bodies.data + offset;
        offset += body->len;
    }
    request->append.count = count;
    request->append.body_bytes = offset;
    request->append.done = request_done;
    return request;
}

void
request_drop(struct request *request)
{
    buffer_free(&request->bodies);
    free(request->append.events);
    pthread_mutex_destroy(&request->lock);
    pthread_cond_destroy(&request->changed);
    free(request);
}

void
request_set_key(struct request *request, uint32_t i, uint64_t number)
{
    char id[32];

    snprintf(id, sizeof(id), "event-%012llu", (unsigned long long)number);
    event_key(SPAN_LITERAL("tenant"), span_of(id), request->append.events[i].key);
    request->append.events[i].has_key = true;
}

enum err
request_send(struct request *request, struct wal_fixture *fixture)
{
    const struct journal *journal = fixture->journal;
    enum err err;

    request->answered = false;
    request->answers = 0;
    err = journal->ops->append(journal->self, &request->append);
    journal->ops->kick(journal->self);
    return err;
}

enum err
request_wait(struct request *request)
{
    pthread_mutex_lock(&request->lock);
    while (!request->answered) {
        pthread_cond_wait(&request->changed, &request->lock);
    }
    ASSERT(request->answers == 1);
    pthread_mutex_unlock(&request->lock);
    return request->append.result;
}

enum err
wal_fixture_append(struct wal_fixture *fixture, uint64_t first, uint32_t count, size_t body_size)
{
    struct request *request = request_new(first, count, body_size, true);
    enum err err = request_send(request, fixture);

    if (err == ERR_OK) {
        err = request_wait(request);
    }
    request_drop(request);
    return err;
}

uint64_t
event_number(const struct event *event)
{
    char id[32] = {0};

    ASSERT(event->id.len == 18);
    memcpy(id, event->id.data, event->id.len);
    return strtoull(id + 6, NULL, 10);
}

/* ---- reading ---- */

static void
check_batch(const struct batch *batch, uint64_t after_seq, uint32_t partitions)
{
    uint64_t last = after_seq;

    ASSERT(batch->count > 0);
    for (size_t i = 0; i < batch->count; i++) {
        uint64_t seq = batch->events[i].seq;

        ASSERT(seq > last);
        ASSERT(journal_partition_of(seq, partitions) == batch->partition);
        ASSERT(journal_partition_count(seq, batch->partition, partitions) ==
               journal_partition_count(last, batch->partition, partitions) + 1);
        last = seq;
    }
    ASSERT(batch->to_seq == last);
}

/* Reads as a replicator does: what cannot be read at the moment is asked for again. */
static enum err
read_patiently(struct wal_fixture *fixture, uint32_t partition, uint64_t after_seq,
               const struct batch_limits *limits, struct batch *batch)
{
    const struct journal *journal = fixture->journal;
    enum err err = ERR_AGAIN;

    for (int tries = 0; err == ERR_AGAIN && tries < 100; tries++) {
        err = journal->ops->read(journal->self, partition, after_seq, limits, batch);
        if (err == ERR_AGAIN && wal_failure(fixture->wal) != ERR_OK) {
            return ERR_NOT_FOUND; /* what a failed log has staged only a restart can read */
        }
        if (err == ERR_AGAIN) {
            usleep(50000);
        }
    }
    return err;
}

uint64_t
wal_fixture_count(struct wal_fixture *fixture, uint32_t partition, uint64_t after_seq)
{
    const struct journal *journal = fixture->journal;
    const struct batch_limits limits = {1000, 1 << 20, UINT64_MAX};
    struct batch batch = {0};
    uint64_t total = 0;
    enum err err;

    while ((err = read_patiently(fixture, partition, after_seq, &limits, &batch)) == ERR_OK) {
        check_batch(&batch, after_seq, journal->partitions);
        after_seq = batch.to_seq;
        total += batch.count;
    }
    ASSERT(err == ERR_NOT_FOUND);
    batch_free(&batch);
    return total;
}

uint64_t
wal_fixture_drain(struct wal_fixture *fixture, uint32_t partition, size_t events_max,
                  size_t batches_max)
{
    const struct journal *journal = fixture->journal;
    const struct batch_limits limits = {events_max, SIZE_MAX, UINT64_MAX};
    struct batch batch = {0};
    uint64_t total = 0;

    for (size_t i = 0; i < batches_max; i++) {
        uint64_t after = journal->ops->replicated_seq(journal->self, partition);
        enum err err = journal->ops->read(journal->self, partition, after, &limits, &batch);

        if (err == ERR_NOT_FOUND || err == ERR_AGAIN) {
            break;
        }
        ASSERT(err == ERR_OK);
        check_batch(&batch, after, journal->partitions);
        ASSERT(batch_fold(&batch, &RULES) == ERR_OK);
        err = journal->ops->advance(journal->self, partition, batch.to_seq, &batch.delta,
                                    &batch.removals);
        ASSERT(err == ERR_OK);
        total += batch.count;
    }
    batch_free(&batch);
    return total;
}

uint64_t
wal_fixture_drain_all(struct wal_fixture *fixture)
{
    const struct journal *journal = fixture->journal;
    struct journal_stats stats;
    uint64_t total = 0;

    /* In a full log one partition's records may have to wait for the room another one makes. */
    for (int passes = 0; passes < 10; passes++) {
        for (uint32_t p = 0; p < journal->partitions; p++) {
            total += wal_fixture_drain(fixture, p, 5000, SIZE_MAX);
        }
        journal->ops->stats(journal->self, &stats);
        if (stats.pending_events == 0) {
            break;
        }
    }
    return total;
}

static enum err
add_slice(void *arg, const struct slice_key *key, struct span encoded)
{
    struct slice slice = {0};
    uint64_t *total = arg;

    ASSERT(key->tenant.len > 0);
    ASSERT(slice_decode_add(encoded, &slice) == ERR_OK);
    *total += slice.good + slice.bad;
    slice_clear(&slice);
    return ERR_OK;
}

static enum err
add_event(void *arg, uint64_t seq, const struct event *event)
{
    uint64_t *total = arg;

    ASSERT(seq > 0);
    ASSERT(event->id.len > 0);
    ++*total;
    return ERR_OK;
}

uint64_t
wal_fixture_stored_events(struct wal_fixture *fixture)
{
    uint64_t total = 0;

    ASSERT(wal_each_slice(fixture->wal, add_slice, &total) == ERR_OK);
    return total;
}

uint64_t
wal_fixture_pending_events(struct wal_fixture *fixture)
{
    uint64_t total = 0;

    ASSERT(wal_each_pending(fixture->wal, add_event, &total) == ERR_OK);
    return total;
}

/* ---- files ---- */

void
wal_fixture_path(const struct wal_fixture *fixture, const char *name, char out[512])
{
    snprintf(out, 512, "%s/%s", fixture->dir, name);
}

uint64_t
wal_fixture_file_bytes(const struct wal_fixture *fixture)
{
    char path[512];
    struct stat file;

    wal_fixture_path(fixture, "data.mdb", path);
    ASSERT(stat(path, &file) == 0);
    return (uint64_t)file.st_size;
}

size_t
wal_fixture_flip(const struct wal_fixture *fixture, const void *bytes, size_t len, long at)
{
    char path[512];
    uint64_t size = wal_fixture_file_bytes(fixture);
    char *file = malloc(size);
    size_t found = 0;
    int fd;

    wal_fixture_path(fixture, "data.mdb", path);
    fd = open(path, O_RDWR);
    ASSERT(fd >= 0);
    ASSERT(file != NULL);
    ASSERT(pread(fd, file, size, 0) == (ssize_t)size);
    for (char *hit = file; (hit = memmem(hit, size - (size_t)(hit - file), bytes, len)) != NULL;
         hit += len) {
        char byte = (char)(hit[at] ^ 4);

        ASSERT(pwrite(fd, &byte, 1, hit - file + at) == 1);
        found++;
    }
    close(fd);
    free(file);
    return found;
}
