/*
 * count_query.h - what a count asks for: parameters as they came to a checked question, or a
 * refusal.
 *
 *   event_name, from, to   required; the bounds as time_range.h reads them
 *   group_by     channel, campaign_id, user_id; or minute, hour, day, week, month, for which the
 *                range is bounded
 *   tz           the IANA zone whose clock makes the buckets of time; UTC
 *   limit        at most so many groups, after ordering
 *   order        asc or desc: values by their count (desc), buckets by time (asc)
 *   fill         zero: buckets of time without an event are there too
 *   format       json or csv
 *   filter[channel], filter[campaign_id], filter[user_id]
 *
 * An empty parameter counts as absent, but an empty filter is refused: ignoring it would count more
 * than was meant. The sentences are those of the systems whose requests these are. Any thread.
 */
#ifndef SLUICE_CORE_COUNT_QUERY_H
#define SLUICE_CORE_COUNT_QUERY_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"
#include "core/base/time_buckets.h"

enum {
    COUNT_GROUPS_MAX = 20000, /* in one answer */
};

/* Decoded values; data NULL: not given. */
struct count_params {
    struct span event_name;
    struct span from;
    struct span to;
    struct span group_by;
    struct span tz;
    struct span limit;
    struct span order;
    struct span fill;
    struct span format;
    struct span channel; /* of filter[channel], and so on */
    struct span campaign_id;
    struct span user_id;
};

enum count_group {
    COUNT_GROUP_NONE,
    COUNT_GROUP_CHANNEL,
    COUNT_GROUP_CAMPAIGN,
    COUNT_GROUP_USER,
    COUNT_GROUP_TIME, /* by unit */
};

/* Spans are those of the parameters. */
struct count_query {
    struct span event_name;
    struct span channel; /* absent: any; so are the next two */
    struct span campaign_id;
    struct span user_id;
    struct span from_text; /* as they came */
    struct span to_text;
    bool epoch;      /* seconds since 1970, both ends in */
    int64_t from_us; /* [from, to) whatever the bounds mean, within the years 0001 to 9999 */
    int64_t to_us;
    enum count_group group;
    struct span group_text; /* the parameter */
    enum time_unit unit;    /* with COUNT_GROUP_TIME */
    struct span tz;         /* "UTC" when not given */
    uint32_t limit;
    bool descending;
    bool fill_zero;
    bool csv;
};

/*
 * Checks all that can be checked without the zone. ERR_INVALID appends a sentence for the client to
 * PROBLEM.
 */
MUST_CHECK enum err count_query_parse(const struct count_params *params, struct count_query *out,
                                      struct buffer *problem);

/*
 * The rest: with buckets of time, the range must not be longer than its unit allows, by the clock
 * of UTC or of ZONE, whichever is kinder. ERR_INVALID as above.
 */
MUST_CHECK enum err count_query_check_range(const struct count_query *query,
                                            const struct time_zone *zone, struct buffer *problem);

#endif
