/*
 * count_answer.h - answers a count: asks the counts, or the events one by one where a user matters.
 *
 * Every acknowledged event is counted once, the moment it is acknowledged: total and groups come
 * from one cut. Counts do not know single users, so group_by=user_id and filter[user_id] read the
 * events themselves, out of MySQL and the log; they cost by the number of events, and while MySQL
 * is away such groups hold only what the log still has, and the answer is degraded. Any thread; may
 * take long.
 */
#ifndef SLUICE_CORE_COUNT_ANSWER_H
#define SLUICE_CORE_COUNT_ANSWER_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/counts/counts.h"
#include "core/query/archive.h"
#include "core/query/count_query.h"

struct count_sources {
    struct counts *counts;
    struct archive *archive;
    struct span tenant;
    const char *zone_dir;    /* TIMEZONE_DIR */
    int64_t now_us;          /* when it was asked */
    uint64_t pending_events; /* in the log, not yet in MySQL */
    bool degraded;           /* MySQL is away */
};

/*
 * Appends the answer to OUT, in the form QUERY asks for; *DEGRADED_OUT is what its JSON says, since
 * CSV has no place for it. ERR_INVALID: appends a sentence for the
 * client to PROBLEM (no such zone, a range too long, too many groups); other errors are the
 * sources'.
 */
MUST_CHECK enum err count_answer(const struct count_sources *sources,
                                 const struct count_query *query, struct buffer *out,
                                 bool *degraded_out, struct buffer *problem);

/* Appends the tenant's event names with their counts, in the order of their bytes, as JSON. */
MUST_CHECK enum err count_names(const struct count_sources *sources, struct buffer *out);

#endif
