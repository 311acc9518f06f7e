/*
 * series_names.h - the names of many series, copied, so that the store's lock is not held while
 * something is done with each.
 *
 * A value: zeroed it is empty; series_names_clear() frees. One thread at a time.
 */
#ifndef SLUICE_CORE_SERIES_NAMES_H
#define SLUICE_CORE_SERIES_NAMES_H

#include "core/base/base.h"
#include "core/base/buffer.h"

struct series_names {
    struct buffer
        text; /* per series: two length bytes, then both names; failed: some are missing */
};

/* Adds one to ARG, a struct series_names: to be called by slices_each_series() and the like. */
void series_names_add(void *arg, struct span tenant, struct span service);

/* The next one; *AT begins as 0. False after the last. The spans are the list's. */
bool series_names_next(const struct series_names *names, size_t *at, struct span *tenant,
                       struct span *service);

void series_names_clear(struct series_names *names);

#endif
