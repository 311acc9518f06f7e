/*
 * fake_history.h - sums of slices by (tenant, service, minute), as the log and the database keep
 * them.
 *
 * Both fakes fold deltas into one of these, so a test can ask whether two histories are the same.
 * One thread at a time. Out of memory aborts the test.
 */
#ifndef SLUICE_TESTS_FAKES_FAKE_HISTORY_H
#define SLUICE_TESTS_FAKES_FAKE_HISTORY_H

#include "core/slo/slice.h"

struct fake_history_entry {
    char *tenant;
    size_t tenant_len;
    char *service;
    size_t service_len;
    int64_t minute;
    struct slice slice;
};

/* A zeroed history is empty. */
struct fake_history {
    struct fake_history_entry *entries;
    size_t len;
    size_t capacity;
};

void fake_history_clear(struct fake_history *history);
void fake_history_add(struct fake_history *history, const struct slice_key *key,
                      const struct slice *slice);
void fake_history_add_set(struct fake_history *history, const struct slice_set *set);
void fake_history_add_all(struct fake_history *history, const struct fake_history *other);
void fake_history_add_event(struct fake_history *history, const struct event *event,
                            const struct slice_rules *rules);

/* The slice's key, borrowed from the history. */
struct slice_key fake_history_key(const struct fake_history_entry *entry);

/* Same sums for the same keys; slices without events do not count. */
bool fake_history_equal(const struct fake_history *a, const struct fake_history *b);

/* Good and bad events of all slices. */
uint64_t fake_history_events(const struct fake_history *history);

#endif
