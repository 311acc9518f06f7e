/*
 * objectives.h - the definitions in force: where they come from, who changes them.
 *
 * The table of record is the store's (MySQL's); a copy in a file beside the log keeps them in force
 * when the store is away, also after a restart. A change goes to the store first, and only when it
 * is durable there into memory and the file; with the store away it is refused and nothing has
 * changed. Changes by others (another node, a person with SQL) are found by objectives_refresh(),
 * which the SLO ticker calls. Without a store (no database configured) the file is the record.
 *
 * Reading never waits for the store. Any thread.
 */
#ifndef SLUICE_CORE_OBJECTIVES_H
#define SLUICE_CORE_OBJECTIVES_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/slo/objective.h"
#include "core/slo/objective_set.h"
#include "core/slo/thresholds.h"

enum objective_change {
    OBJECTIVE_CREATE,
    OBJECTIVE_UPDATE,
    OBJECTIVE_DELETE,
};

/* The port to the table of record. Calls are made one at a time, from any thread. */
struct objective_store {
    /*
     * Calls FN for each definition when any has changed since the last load that worked, or when
     * *CHANGED is true before; it is true after if FN was called. The first made come first, and no
     * more than OBJECTIVES_TOTAL_MAX. Rows that make no sense are left out and logged.
     * ERR_UNAVAILABLE, ERR_NOT_FOUND (no tables yet), or FN's error.
     */
    enum err (*load)(void *self, bool *changed,
                     enum err (*fn)(void *arg, const struct objective *objective), void *arg);

    /*
     * Makes one change durable, together with a line in the store's own list of changes.
     * OBJECTIVE_CREATE: ERR_INVALID when the id is taken. Else: ERR_NOT_FOUND. ERR_UNAVAILABLE:
     * nothing was changed; ERR_UNKNOWN: the connection was lost at a moment when it may have been.
     */
    enum err (*change)(void *self, enum objective_change what, const struct objective *objective);
    void *self;
};

struct objectives_config {
    const char *file;                    /* the copy's path, borrowed; NULL: none is kept */
    const struct objective_store *store; /* borrowed; NULL: the file is the record */
    const struct slice_rules *rules;     /* borrowed; its by_service is told what to count */
    uint64_t (*settled_seq)(void *arg);  /* for thresholds_set() */
    void *settled_arg;
    int64_t future_us;
    const struct clock *clock;
};

struct objectives;

/*
 * Puts the copy's definitions in force. ERR_CORRUPT: the file is damaged, logged; ERR_IO;
 * ERR_NO_MEMORY.
 */
MUST_CHECK enum err objectives_open(struct objectives **out,
                                    const struct objectives_config *config);
void objectives_close(struct objectives *objectives); /* NULL allowed */

/* The set in force, with a reference for the caller to release; NULL OBJECTIVES have none. */
const struct objective_set *objectives_now(struct objectives *objectives);

/* The definitions may be older than the store's: it did not answer when last asked. */
bool objectives_stale(const struct objectives *objectives);

/* Asks the store for changes. Errors as its load(); what was in force stays then. May block. */
MUST_CHECK enum err objectives_refresh(struct objectives *objectives);

/*
 * Makes one change; OBJECTIVE is valid, has an id, a tenant and updated_by; its version, unless 0,
 * must be the one that OBJECTIVE_UPDATE changes; version and times are set here, and *OUT is what
 * is in force then (OBJECTIVE_DELETE: what was). Of OBJECTIVE_DELETE only id, tenant and updated_by
 * count. A definition of another tenant is ERR_NOT_FOUND, but for an empty tenant, which stands for
 * any. ERR_INVALID: PROBLEM says, as when the id is taken or the version is another (CONFLICT is
 * then true); ERR_UNAVAILABLE: nothing was changed; ERR_UNKNOWN; ERR_IO: the file, without a store.
 * May block.
 */
MUST_CHECK enum err objectives_change(struct objectives *objectives, enum objective_change what,
                                      const struct objective *objective, struct objective *out,
                                      bool *conflict, char problem[OBJECTIVE_PROBLEM_SIZE]);

#endif
