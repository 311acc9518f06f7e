/*
 * cat.c - `sluice cat`: the log's events as NDJSON that POST /events takes again.
 *
 * Member names are those of a request. tags and properties are the bytes that came, except that
 * line ends between their tokens become spaces: one event is one line. A channel event keeps its
 * timestamp as epoch seconds, the only form its shape has; all other times are RFC 3339.
 */
#include <inttypes.h>
#include <stdio.h>

#include "cli/commands.h"
#include "cli/look.h"
#include "core/base/json_member.h"

enum cat_flag {
    FLAG_FROM,
    FLAG_TO,
};

static const struct flag FLAGS[] = {
    [FLAG_FROM] = {"--from", "SEQ", "first sequence number [the oldest]"},
    [FLAG_TO] = {"--to", "SEQ", "last sequence number [the newest]"},
};
const struct flag_table CAT_FLAGS = {FLAGS, ARRAY_LEN(FLAGS)};

enum {
    LINE_KEEP_MAX = 1 << 20
};

struct cat {
    uint64_t from;
    uint64_t to;
    struct buffer line;
    bool damaged;
};

static enum err
check_range(struct look *look, void *arg, struct buffer *problem)
{
    struct cat *cat = arg;
    enum err err = ERR_OK;

    if (look->value[FLAG_FROM] != NULL) {
        err = flags_seq(&FLAGS[FLAG_FROM], look->value[FLAG_FROM], &cat->from, problem);
    }
    if (err == ERR_OK && look->value[FLAG_TO] != NULL) {
        err = flags_seq(&FLAGS[FLAG_TO], look->value[FLAG_TO], &cat->to, problem);
    }
    if (err == ERR_OK && cat->from > cat->to) {
        buffer_append_text(problem, "--from must not be after --to");
        err = ERR_INVALID;
    }
    return err;
}

/* What an event does not have is left out: what is printed can be sent again. */
static void
append_text(struct buffer *line, const char *name, struct span value)
{
    if (value.data != NULL) {
        json_member_text(line, name, value);
    }
}

static void
append_raw(struct buffer *line, const char *name, struct span value)
{
    if (value.data != NULL) {
        json_member_raw(line, name, value);
    }
}

static void
append_event(struct buffer *line, uint64_t seq, const struct event *event)
{
    buffer_printf(line, "{\"seq\":%" PRIu64, seq);
    append_text(line, "event_id", event->id);
    append_text(line, "event_name", event->name);
    if (event->shape == EVENT_CHANNEL) {
        buffer_printf(line, ",\"timestamp\":%" PRId64, event->occurred_at_us / 1000000);
    } else {
        json_member_time(line, "timestamp", event->occurred_at_us);
    }
    append_text(line, "service", event->service);
    if (event->has_status) {
        buffer_printf(line, ",\"status\":%u", (unsigned)event->status);
    }
    if (event->has_latency) {
        buffer_append_text(line, ",\"latency_ms\":");
        buffer_append_json_number(line, event->latency_ms);
    }
    append_text(line, "channel", event->channel);
    append_text(line, "user_id", event->user_id);
    append_text(line, "campaign_id", event->campaign_id);
    append_raw(line, "tags", event->tags);
    append_raw(line, "properties", event->properties);
    append_text(line, "trace_id", event->trace_id);
    append_text(line, "tenant", event->tenant);
    json_member_time(line, "created_at", event->created_at_us);
    buffer_append_text(line, "}\n");
}

static void
complain(struct cat *cat, const struct log_item *item)
{
    cat->damaged = true;
    if (item->seq == item->last_seq) {
        fprintf(stderr, "sluice cat: seq %" PRIu64 ": %s\n", item->seq, item->why);
    } else {
        fprintf(stderr, "sluice cat: seq %" PRIu64 " to %" PRIu64 ": %s\n", item->seq,
                item->last_seq, item->why);
    }
}

static enum err
print_item(void *arg, const struct log_item *item)
{
    struct cat *cat = arg;

    if (item->kind == LOG_ITEM_TRIMMED) {
        return ERR_OK;
    }
    if (item->kind != LOG_ITEM_RECORD) {
        complain(cat, item);
        return ERR_OK;
    }
    buffer_clear(&cat->line, LINE_KEEP_MAX);
    append_event(&cat->line, item->seq, &item->event);
    if (cat->line.failed) {
        return ERR_NO_MEMORY;
    }
    /* An output that takes no more ends it; look_finish_output() says why. */
    return fwrite(cat->line.data, 1, cat->line.len, stdout) == cat->line.len ? ERR_OK : ERR_CLOSED;
}

static int
print_events(struct look *look, void *arg)
{
    struct cat *cat = arg;
    struct buffer problem = BUFFER_EMPTY;
    enum err err = log_view_each(look->view, cat->from, cat->to, print_item, cat, &problem);
    int code = cat->damaged ? EXIT_WRONG : EXIT_GOOD;

    if (err != ERR_OK && err != ERR_CLOSED) {
        look_failed(look, err, &problem);
        code = EXIT_WRONG;
    }
    buffer_free(&cat->line);
    buffer_free(&problem);
    return code;
}

int
command_cat(int argc, char **argv)
{
    struct cat cat = {.from = 1, .to = UINT64_MAX, .line = BUFFER_EMPTY};

    return look_run("cat", &CAT_FLAGS, argc, argv, check_range, print_events, &cat);
}
