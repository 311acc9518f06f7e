/*
 * One function per way to find the groups; each fills a struct count_result.
 */
#include "core/query/count_answer.h"

#include "core/base/timestamp.h"
#include "core/query/count_render.h"

enum {
    /* Read for one answer that needs users: some seconds of MySQL's time. */
    ANSWER_EVENTS_MAX = 5000000,
    ARCHIVE_ATTEMPTS = 3,
};

struct answer {
    const struct count_sources *sources;
    const struct count_query *query;
    struct time_zone *zone;
    struct time_buckets buckets; /* with COUNT_GROUP_TIME */
    struct count_result result;
    uint64_t events_read;
};

static struct counts_filter
counts_filter_of(const struct answer *answer)
{
    const struct count_query *query = answer->query;

    return (struct counts_filter){
        .tenant = answer->sources->tenant,
        .event_name = query->event_name,
        .channel = query->channel,
        .campaign_id = query->campaign_id,
    };
}

/* ---- from the counts ---- */

static enum err
sum_all(struct counts_view *view, struct answer *answer)
{
    const struct counts_filter filter = counts_filter_of(answer);
    struct counts_sum sum = {0};
    enum err err =
        counts_view_sum(view, &filter, answer->query->from_us, answer->query->to_us, &sum);

    if (err == ERR_OK) {
        answer->result.total = sum.total;
        answer->result.unique = counts_sum_users(&sum);
    }
    counts_sum_clear(&sum);
    return err;
}

static enum err
add_value(void *arg, struct span value, const struct counts_sum *sum)
{
    struct answer *answer = arg;
    struct count_row *row;
    enum err err;

    if (sum->total == 0) {
        return ERR_OK;
    }
    err = count_groups_value(&answer->result.groups, value, &row);
    if (err == ERR_OK) {
        row->total += sum->total;
        row->unique = counts_sum_users(sum);
    }
    return err;
}

static enum err
sum_values(struct counts_view *view, struct answer *answer)
{
    const struct counts_filter filter = counts_filter_of(answer);

    return counts_view_each_value(view, &filter,
                                  answer->query->group == COUNT_GROUP_CHANNEL ? COUNTS_BY_CHANNEL
                                                                              : COUNTS_BY_CAMPAIGN,
                                  answer->query->from_us, answer->query->to_us, add_value, answer);
}

/* Sums the stretches from *AT on that are one bucket, and moves *AT behind them. */
static enum err
sum_bucket(struct counts_view *view, struct answer *answer, size_t *at)
{
    const struct counts_filter filter = counts_filter_of(answer);
    const struct time_stretch *stretch = answer->buckets.stretch;
    const int64_t local_us = stretch[*at].local_us;
    struct counts_sum sum = {0};
    struct count_row *row;
    enum err err = ERR_OK;

    for (; err == ERR_OK && *at < answer->buckets.count && stretch[*at].local_us == local_us;
         ++*at) {
        err = counts_view_sum(view, &filter, stretch[*at].from_us, stretch[*at].to_us, &sum);
    }
    if (err == ERR_OK && (sum.total > 0 || answer->query->fill_zero)) {
        err = count_groups_append(&answer->result.groups, local_us, &row);
        if (err == ERR_OK) {
            row->total = sum.total;
            row->unique = counts_sum_users(&sum);
        }
    }
    counts_sum_clear(&sum);
    return err;
}

static enum err
sum_buckets(struct counts_view *view, struct answer *answer)
{
    size_t at = 0;
    enum err err = ERR_OK;

    while (err == ERR_OK && at < answer->buckets.count) {
        err = sum_bucket(view, answer, &at);
    }
    return err;
}

static enum err
ask_counts(struct answer *answer)
{
    struct counts_view *view;
    enum err err = counts_view_open(answer->sources->counts, &view);

    if (err != ERR_OK) {
        return err;
    }
    err = sum_all(view, answer);
    if (err == ERR_OK) {
        switch (answer->query->group) {
        case COUNT_GROUP_NONE:
        case COUNT_GROUP_USER: /* only the total is wanted of us */
            break;
        case COUNT_GROUP_CHANNEL:
        case COUNT_GROUP_CAMPAIGN:
            err = sum_values(view, answer);
            break;
        case COUNT_GROUP_TIME:
            err = sum_buckets(view, answer);
            break;
        }
    }
    answer->result.degraded = answer->result.degraded || counts_view_degraded(view);
    answer->result.complete_from_us = counts_view_complete_from(view);
    counts_view_close(view);
    return err;
}

/* ---- from the events ---- */

static enum err
find_row(struct answer *answer, int64_t occurred_us, struct span user_id, struct span channel,
         struct span campaign_id, struct count_row **out)
{
    struct count_groups *groups = &answer->result.groups;

    *out = NULL;
    switch (answer->query->group) {
    case COUNT_GROUP_NONE:
        return ERR_OK;
    case COUNT_GROUP_CHANNEL:
        return count_groups_value(groups, channel, out);
    case COUNT_GROUP_CAMPAIGN:
        return count_groups_value(groups, campaign_id, out);
    case COUNT_GROUP_USER:
        return count_groups_value(groups, user_id, out);
    case COUNT_GROUP_TIME:
        *out =
            count_groups_at(groups, time_bucket_of(answer->zone, answer->query->unit, occurred_us));
        return ERR_OK;
    }
    assert_failed(__FILE__, __LINE__, "a group of the list");
}

static enum err
add_events(void *arg, int64_t occurred_us, uint64_t count, struct span user_id, struct span channel,
           struct span campaign_id)
{
    struct answer *answer = arg;
    struct count_result *result = &answer->result;
    struct count_row *row;
    enum err err;

    if (occurred_us < answer->query->from_us || occurred_us >= answer->query->to_us) {
        return ERR_OK; /* so that a bucket is there for what follows */
    }
    if (++answer->events_read > ANSWER_EVENTS_MAX) {
        return ERR_TOO_BIG;
    }
    err = find_row(answer, occurred_us, user_id, channel, campaign_id, &row);
    if (err != ERR_OK) {
        return err;
    }
    result->total += count;
    if (row != NULL) { /* of one user at most: it groups by users, or one was asked for */
        row->total += count;
        row->unique = user_id.data != NULL ? 1 : 0;
    }
    return ERR_OK;
}

/* A row per bucket, so that events can come in any order. */
static enum err
make_bucket_rows(struct answer *answer)
{
    const struct time_buckets *buckets = &answer->buckets;
    enum err err = ERR_OK;

    for (size_t i = 0; err == ERR_OK && i < buckets->count; i++) {
        struct count_row *row;

        if (i == 0 || buckets->stretch[i].local_us != buckets->stretch[i - 1].local_us) {
            err = count_groups_append(&answer->result.groups, buckets->stretch[i].local_us, &row);
        }
    }
    return err;
}

static uint64_t
count_users(const struct answer *answer)
{
    uint64_t users = 0;

    if (answer->query->group != COUNT_GROUP_USER) {
        return answer->result.total > 0 ? 1 : 0; /* the one asked for */
    }
    for (size_t i = 0; i < answer->result.groups.count; i++) {
        users += answer->result.groups.row[i]->unique;
    }
    return users;
}

static enum err
ask_archive(struct answer *answer)
{
    const struct count_query *query = answer->query;
    const struct archive_filter filter = {
        .tenant = answer->sources->tenant,
        .event_name = query->event_name,
        .channel = query->channel,
        .campaign_id = query->campaign_id,
        .user_id = query->user_id,
        .from_us = query->from_us,
        .to_us = query->to_us,
        .bucket_us = query->group == COUNT_GROUP_TIME ? 0 : ARCHIVE_NO_TIME,
    };
    bool degraded = false;
    enum err err = ERR_AGAIN;

    for (int attempt = 0; err == ERR_AGAIN && attempt < ARCHIVE_ATTEMPTS; attempt++) {
        /* A part of an answer that broke off is no use. */
        count_groups_free(&answer->result.groups);
        answer->result.total = 0;
        answer->events_read = 0;
        err = query->group == COUNT_GROUP_TIME ? make_bucket_rows(answer) : ERR_OK;
        if (err == ERR_OK) {
            err =
                archive_each_user(answer->sources->archive, &filter, add_events, answer, &degraded);
        }
    }
    if (err != ERR_OK) {
        return err;
    }
    answer->result.unique = count_users(answer);
    answer->result.degraded = answer->result.degraded || degraded;
    if (degraded && query->user_id.data == NULL) {
        /* The users MySQL alone knows are missing, but how many there are is known. */
        return ask_counts(answer);
    }
    return ERR_OK;
}

/* ---- the whole ---- */

static enum err
prepare(struct answer *answer, struct buffer *problem)
{
    const struct count_query *query = answer->query;
    enum err err = timezone_load(answer->sources->zone_dir, query->tz, &answer->zone);

    if (err == ERR_NOT_FOUND || err == ERR_CORRUPT) {
        buffer_append_text(problem, "unknown time zone");
        if (query->tz.len <= TIMEZONE_NAME_MAX) {
            buffer_append_text(problem, ": ");
            buffer_append_span(problem, query->tz);
        }
        buffer_append_text(problem, " (tz takes an IANA name such as Europe/Berlin)");
        return ERR_INVALID;
    }
    if (err != ERR_OK || query->group != COUNT_GROUP_TIME) {
        return err;
    }
    err = count_query_check_range(query, answer->zone, problem);
    if (err != ERR_OK) {
        return err;
    }
    return time_buckets_cut(answer->zone, query->unit, query->from_us, query->to_us,
                            &answer->buckets);
}

static enum err
gather(struct answer *answer)
{
    const struct count_query *query = answer->query;
    struct count_groups *groups = &answer->result.groups;
    bool by_user = query->group == COUNT_GROUP_USER || query->user_id.data != NULL;
    enum err err = by_user ? ask_archive(answer) : ask_counts(answer);

    if (err != ERR_OK) {
        return err;
    }
    if (query->group != COUNT_GROUP_TIME) {
        count_groups_order_values(groups, query->descending);
        return ERR_OK;
    }
    if (!query->fill_zero) {
        count_groups_drop_empty(groups);
    }
    if (query->descending) {
        count_groups_reverse(groups);
    }
    return ERR_OK;
}

enum err
count_answer(const struct count_sources *sources, const struct count_query *query,
             struct buffer *out, bool *degraded_out, struct buffer *problem)
{
    struct answer answer = {
        .sources = sources,
        .query = query,
        .result = {.as_of_us = sources->now_us,
                   .pending = sources->pending_events,
                   .degraded = sources->degraded,
                   .complete_from_us = INT64_MIN},
    };
    enum err err = prepare(&answer, problem);

    if (err == ERR_OK) {
        err = gather(&answer);
        if (err == ERR_TOO_BIG) {
            buffer_append_text(problem,
                               "too many events or groups for one answer; ask for a shorter range "
                               "or set a filter");
            err = ERR_INVALID;
        }
    }
    if (err == ERR_OK) {
        count_render(query, &answer.result, out);
        *degraded_out = answer.result.degraded;
        err = out->failed ? ERR_NO_MEMORY : ERR_OK;
    }
    count_groups_free(&answer.result.groups);
    time_buckets_free(&answer.buckets);
    timezone_free(answer.zone);
    return err;
}

/* ---- names ---- */

struct names {
    struct buffer *out;
    uint64_t count;
};

static enum err
add_name(void *arg, struct span name, uint64_t total, int64_t last_us)
{
    struct names *names = arg;
    struct buffer *out = names->out;
    char time[TIMESTAMP_TEXT_SIZE];

    buffer_append_text(out, names->count++ == 0 ? "{\"event_name\":" : ",{\"event_name\":");
    buffer_append_json_string(out, name);
    buffer_append_text(out, ",\"total_count\":");
    buffer_append_u64(out, total);
    buffer_append_text(out, ",\"last_seen\":\"");
    buffer_append(out, time, timestamp_format(last_us, time));
    buffer_append_text(out, "\"}");
    return out->failed ? ERR_NO_MEMORY : ERR_OK;
}

enum err
count_names(const struct count_sources *sources, struct buffer *out)
{
    struct names names = {out, 0};
    struct counts_view *view;
    int64_t complete_from_us;
    bool degraded;
    enum err err = counts_view_open(sources->counts, &view);

    if (err != ERR_OK) {
        return err;
    }
    buffer_append_text(out, "{\"names\":[");
    err = counts_view_each_name(view, sources->tenant, add_name, &names);
    degraded = sources->degraded || counts_view_degraded(view);
    complete_from_us = counts_view_complete_from(view);
    counts_view_close(view);
    if (err != ERR_OK) {
        return err;
    }
    buffer_append_char(out, ']');
    count_render_state(sources->now_us, sources->pending_events, degraded, complete_from_us, out);
    buffer_append_text(out, "}\n");
    return out->failed ? ERR_NO_MEMORY : ERR_OK;
}
