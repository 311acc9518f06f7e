/*
 * count_render.h - a count's answer as JSON or CSV.
 *
 * CSV is RFC 4180. Its readers are spreadsheets too, which take a cell that begins with = + - @ (or
 * a tab or CR) for a formula, and values are what clients sent: such a value gets an apostrophe
 * before it. JSON has values as they are. Any thread.
 */
#ifndef SLUICE_CORE_COUNT_RENDER_H
#define SLUICE_CORE_COUNT_RENDER_H

#include "core/base/buffer.h"
#include "core/query/count_groups.h"
#include "core/query/count_query.h"

struct count_result {
    uint64_t total;
    uint64_t unique;
    struct count_groups groups;
    int64_t as_of_us;
    uint64_t pending; /* events in the log that MySQL does not have yet; they are counted */
    bool degraded;
    int64_t complete_from_us; /* the question reached further back; INT64_MIN: it did not */
};

struct count_name {
    struct span name;
    uint64_t total;
    int64_t last_us;
};

/* In the form QUERY asks for. Out of memory sets OUT's failed flag. */
void count_render(const struct count_query *query, const struct count_result *result,
                  struct buffer *out);

/* ,"as_of":..,"pending":..,"degraded":.., and "complete_from" where something has been dropped */
void count_render_state(int64_t as_of_us, uint64_t pending, bool degraded, int64_t complete_from_us,
                        struct buffer *out);

#endif
