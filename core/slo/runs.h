/*
 * runs.h - sums of ranges of one series that were asked for and will be asked for again.
 *
 * Windows slide: what is asked about a 30-day window now is nearly what was asked a minute ago. A
 * run keeps such a sum. Asked again with other ends it takes out what the window has left behind
 * and adds what it has come to, so neither the days inside nor the edge are read again; a change
 * inside is made in the run as well. All in integers: a run is always what adding up anew would
 * give.
 *
 * Bounded: RUNS_MAX per series, each one slice. One thread at a time (the series' lock).
 */
#ifndef SLUICE_CORE_RUNS_H
#define SLUICE_CORE_RUNS_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/slo/slice.h"

enum {
    RUNS_MAX = 16,       /* windows of different length a series is asked about */
    RUN_LIMITS_MAX = 16, /* limits whose violations a run knows */
};

/* The sum over minutes [from, to); both equal: none. */
struct run {
    int64_t from;
    int64_t to;
    bool with_latency;
    uint16_t known; /* bit i: VIOLATIONS of limit i are counted */
    uint32_t used;  /* tick of the last question */
    struct slice sum;
    uint32_t violations[RUN_LIMITS_MAX];
};

struct runs;

/* Adds minutes [FROM, TO) to *SUM, or leaves it as it was. */
typedef enum err run_sum_fn(void *arg, int64_t from, int64_t to, bool with_latency,
                            struct slice *sum);

/*
 * The run over [FROM, TO), FROM < TO: the one that is there, one near it moved, or a new one in the
 * place of the one not asked about for longest. *RUNS is made when it is NULL. NULL: without
 * memory, or FN failed. Valid until the next call.
 */
struct run *runs_find(struct runs **runs, int64_t from, int64_t to, bool with_latency,
                      run_sum_fn *fn, void *arg);

/* SLICE was added to MINUTE, or taken out. RUNS may be NULL, as in the following. */
void runs_added(struct runs *runs, int64_t minute, const struct slice *slice);
void runs_subtracted(struct runs *runs, int64_t minute, const struct slice *slice);

/* Minutes before BEFORE are gone. */
void runs_expire(struct runs *runs, int64_t before);

/* Nothing is known any more of limit AT. */
void runs_forget_limit(struct runs *runs, uint32_t at);

void runs_free(struct runs *runs);

#endif
