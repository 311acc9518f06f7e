/*
 * time_range.h - the two bounds of a question about time, as clients write them.
 *
 *   both RFC 3339                [from, to), from before to
 *   both whole seconds since 1970    all of both seconds and what lies between, from not after to
 *
 * A bound that is absent or empty leaves that side open. Any thread.
 */
#ifndef SLUICE_CORE_TIME_RANGE_H
#define SLUICE_CORE_TIME_RANGE_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"

struct time_range {
    bool epoch; /* a bound was given in seconds since 1970 */
    int64_t from_us;
    int64_t to_us; /* [from, to) whatever the bounds mean, within the years 0001 to 9999 */
};

/*
 * RFC 3339 from a query, where '+' stands for a space: an offset east of UTC that was not encoded
 * comes with one. RFC 3339 has none, so nothing else can be meant.
 */
MUST_CHECK enum err time_range_parse_time(struct span text, int64_t *us_out);

/* ERR_INVALID appends a sentence for the client to PROBLEM. */
MUST_CHECK enum err time_range_parse(struct span from, struct span to, struct time_range *out,
                                     struct buffer *problem);

#endif
