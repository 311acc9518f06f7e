/*
 * requests.h - the server as its own first tenant: its own requests, folded per minute.
 *
 * Each HTTP loop notes its answers in a shard of its own. The SLO ticker collects them: counts per
 * endpoint, method and status for table api_requests, and a slice for service "sluice" of tenant
 * "_sluice" in the store of slices, where it has objectives, figures and metrics like any other.
 * Nothing of it is an event: the log does not grow, nothing is acknowledged, and noting cannot lead
 * to more noting. What a process had not written when it was killed is lost, at most the running
 * minute, or as much as the database was away.
 *
 * Routes that only watch the server (probes, metrics, SLO figures, pages) are counted per endpoint
 * but are not measured: looking at the figures must not make them better.
 */
#ifndef SLUICE_CORE_REQUESTS_H
#define SLUICE_CORE_REQUESTS_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/slo/slices.h"

#define REQUESTS_TENANT "_sluice"
#define REQUESTS_SERVICE "sluice"

enum {
    REQUESTS_SHARDS = 64,
    REQUESTS_MINUTES_MAX = 1440, /* kept while the database is away; older ones are dropped */
};

struct requests_entry {
    const char *endpoint; /* static strings: compared by address */
    const char *method;
    uint16_t status;
    uint64_t count;
    double latency_ms_sum;
    double latency_ms_max;
};

/* What was noted in one minute. */
struct requests_fold {
    struct requests_fold *next;
    int64_t minute;
    struct requests_entry *entries;
    uint32_t len;
    uint32_t capacity;
    struct slice slice; /* of the measured ones */
};

struct requests;

/* Borrows SLICES for its life. ERR_NO_MEMORY. */
MUST_CHECK enum err requests_new(struct requests **out, struct slices *slices);
void requests_free(struct requests *requests); /* NULL allowed */

/*
 * Notes one answer. SHARD < REQUESTS_SHARDS is the caller's thread. ENDPOINT and METHOD live for
 * ever. Without memory the answer goes uncounted. Any thread; NULL REQUESTS allowed.
 */
void requests_note(struct requests *requests, uint32_t shard, const struct requests_entry *answer,
                   bool measured, int64_t now_us);

/*
 * Gathers what the shards hold and adds the measured ones to the slices. One thread (the
 * ticker's), as for the next two.
 */
void requests_collect(struct requests *requests, int64_t now_us);

/* The oldest gathered minute before BEFORE, NULL when there is none; and forgets it. */
const struct requests_fold *requests_oldest(const struct requests *requests, int64_t before);
void requests_drop_oldest(struct requests *requests);

#endif
