#include "core/slo/runs.h"

#include <stdlib.h>

enum {
    MOVE_MAX = 24 * 60, /* minutes: farther off is another window */
    MOVE_SHARE = 4,     /* and so is what is off by more than this part of the length */
};

struct runs {
    uint32_t tick;
    int64_t end; /* no run reaches beyond: most changes are there */
    struct run item[RUNS_MAX];
};

static bool
is_run(const struct run *run)
{
    return run->from != run->to;
}

static void
drop(struct run *run)
{
    slice_clear(&run->sum);
    run->from = run->to = 0;
}

/* Takes [FROM, TO) out of RUN, or adds [TO, FROM) when it is the other way round. */
static enum err
move_edge(struct run *run, int64_t from, int64_t to, run_sum_fn *fn, void *arg)
{
    const bool out = from < to;
    struct slice part = {0};
    enum err err;

    if (from == to) {
        return ERR_OK;
    }
    err = fn(arg, out ? from : to, out ? to : from, run->with_latency, &part);
    if (err == ERR_OK && out) {
        slice_subtract(&run->sum, &part);
    } else if (err == ERR_OK) {
        err = slice_add(&run->sum, &part);
    }
    slice_clear(&part);
    run->known = 0;
    return err;
}

/* How far RUN is off, or -1 when it is too far to be moved: both ends by less than its length. */
static int64_t
distance(const struct run *run, int64_t from, int64_t to, bool with_latency)
{
    const int64_t off = llabs(run->from - from) + llabs(run->to - to);

    if (!is_run(run) || (with_latency && !run->with_latency) || off > MOVE_MAX ||
        off > (to - from) / MOVE_SHARE || off > (run->to - run->from) / MOVE_SHARE) {
        return -1;
    }
    return off;
}

/* The nearest run that can be moved, or else the one to give up, dropped. */
static struct run *
choose(struct runs *runs, int64_t from, int64_t to, bool with_latency)
{
    struct run *oldest = &runs->item[0];
    struct run *nearest = NULL;
    int64_t least = INT64_MAX;

    for (size_t i = 0; i < RUNS_MAX && least > 0; i++) {
        struct run *run = &runs->item[i];
        const int64_t off = distance(run, from, to, with_latency);

        if (off >= 0 && off < least) {
            nearest = run;
            least = off;
        }
        /* One of the same range without latencies makes way for one with them. */
        if (!is_run(run) || (run->from == from && run->to == to)) {
            oldest = run;
        } else if (is_run(oldest) && run->used < oldest->used) {
            oldest = run;
        }
    }
    if (nearest == NULL) {
        drop(oldest);
        return oldest;
    }
    return nearest;
}

struct run *
runs_find(struct runs **runs, int64_t from, int64_t to, bool with_latency, run_sum_fn *fn,
          void *arg)
{
    struct run *run;
    enum err err;

    ASSERT(from < to);
    if (*runs == NULL) {
        *runs = calloc(1, sizeof(**runs));
    }
    if (*runs == NULL) {
        return NULL;
    }
    run = choose(*runs, from, to, with_latency);
    if (is_run(run)) {
        err = move_edge(run, to, run->to, fn, arg);
        if (err == ERR_OK) {
            err = move_edge(run, run->from, from, fn, arg);
        }
    } else {
        run->with_latency = with_latency;
        run->known = 0;
        err = fn(arg, from, to, with_latency, &run->sum);
    }
    if (err != ERR_OK) {
        drop(run);
        return NULL;
    }
    run->from = from;
    run->to = to;
    run->used = ++(*runs)->tick;
    (*runs)->end = (*runs)->end > to ? (*runs)->end : to;
    return run;
}

/* ---- changes ---- */

/* What a run keeps of SLICE; borrows. */
static struct slice
kept_part(const struct run *run, const struct slice *slice)
{
    struct slice part = *slice;

    if (!run->with_latency) {
        part.latency = (struct sparse){NULL, 0, 0};
    }
    return part;
}

static bool
is_inside(const struct run *run, int64_t minute)
{
    return minute >= run->from && minute < run->to;
}

void
runs_added(struct runs *runs, int64_t minute, const struct slice *slice)
{
    if (runs == NULL || minute >= runs->end) {
        return;
    }
    for (size_t i = 0; i < RUNS_MAX; i++) {
        struct run *run = &runs->item[i];

        if (is_inside(run, minute)) {
            const struct slice part = kept_part(run, slice);

            run->known = 0;
            if (slice_add(&run->sum, &part) != ERR_OK) {
                drop(run); /* the next question makes it anew */
            }
        }
    }
}

void
runs_subtracted(struct runs *runs, int64_t minute, const struct slice *slice)
{
    if (runs == NULL || minute >= runs->end) {
        return;
    }
    for (size_t i = 0; i < RUNS_MAX; i++) {
        struct run *run = &runs->item[i];

        if (is_inside(run, minute)) {
            const struct slice part = kept_part(run, slice);

            run->known = 0;
            slice_subtract(&run->sum, &part);
        }
    }
}

void
runs_expire(struct runs *runs, int64_t before)
{
    for (size_t i = 0; runs != NULL && i < RUNS_MAX; i++) {
        if (is_run(&runs->item[i]) && runs->item[i].from < before) {
            drop(&runs->item[i]);
        }
    }
}

void
runs_forget_limit(struct runs *runs, uint32_t at)
{
    for (size_t i = 0; runs != NULL && i < RUNS_MAX; i++) {
        runs->item[i].known &= (uint16_t) ~(1U << at);
    }
}

void
runs_free(struct runs *runs)
{
    for (size_t i = 0; runs != NULL && i < RUNS_MAX; i++) {
        drop(&runs->item[i]);
    }
    free(runs);
}
