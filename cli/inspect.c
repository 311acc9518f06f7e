/*
 * inspect.c - `sluice inspect`: what is in the log, in one snapshot.
 */
#include <inttypes.h>
#include <stdio.h>

#include "cli/commands.h"
#include "cli/look.h"
#include "core/base/clock.h"
#include "core/base/timestamp.h"
#include "core/base/uuid.h"

enum inspect_flag {
    FLAG_FORMAT
};

static const struct flag FLAGS[] = {
    [FLAG_FORMAT] = {"--format", "text|json", "how to print it [text]"},
};
const struct flag_table INSPECT_FLAGS = {FLAGS, ARRAY_LEN(FLAGS)};

/* The single figures: one line of text or one member of JSON each. */
struct figure {
    const char *name;
    const char *label;
    const char *unit;
    uint64_t value;
};

static enum err
check_format(struct look *look, void *arg, struct buffer *problem)
{
    bool *json = arg;
    const char *format = look->value[FLAG_FORMAT];

    *json = format != NULL && strcmp(format, "json") == 0;
    if (format == NULL || *json || strcmp(format, "text") == 0) {
        return ERR_OK;
    }
    buffer_printf(problem, "--format must be text or json, not '%s'", format);
    return ERR_INVALID;
}

static enum err
count_ids(void *arg, struct span key, struct span value)
{
    uint64_t *ids = arg;
    uint32_t count = 0;
    uint64_t first;

    if (key.len != sizeof(first)) {
        return ERR_OK;
    }
    memcpy(&first, key.data, sizeof(first));
    if (id_block_count(value, first, &count) == ERR_OK) { /* verify tells of damaged ones */
        *ids += count;
    }
    return ERR_OK;
}

static bool
oldest_time(const struct log_summary *summary, char text[TIMESTAMP_TEXT_SIZE], double *age_s)
{
    const int64_t created_us = summary->oldest_created_us;

    if (created_us < TIMESTAMP_MIN_US || created_us > TIMESTAMP_MAX_US) {
        return false;
    }
    timestamp_format(created_us, text);
    *age_s = (double)(clock_wall_us(clock_system()) - created_us) / 1e6;
    return true;
}

static void
print_json(const struct log_summary *summary, const struct figure *figures, size_t count)
{
    const struct log_state *state = &summary->state;
    char node[UUID_TEXT_SIZE];
    char time[TIMESTAMP_TEXT_SIZE];
    double age_s;

    uuid_text(state->node_id, node);
    printf("{\"node_id\":\"%s\"", node);
    for (size_t i = 0; i < count; i++) {
        printf(",\"%s\":%" PRIu64, figures[i].name, figures[i].value);
    }
    if (oldest_time(summary, time, &age_s)) {
        printf(",\"oldest_created_at\":\"%s\",\"oldest_age_seconds\":%.3f", time, age_s);
    } else {
        printf(",\"oldest_created_at\":null,\"oldest_age_seconds\":null");
    }
    printf(",\"partitions\":[");
    for (uint32_t p = 0; p < state->partitions; p++) {
        printf("%s{\"partition\":%" PRIu32 ",\"replicated_seq\":%" PRIu64
               ",\"pending_events\":%" PRIu64 "}",
               p == 0 ? "" : ",", p, state->replicated[p], summary->pending[p]);
    }
    printf("]}\n");
}

static void
print_text(const struct log_summary *summary, const struct figure *figures, size_t count)
{
    const struct log_state *state = &summary->state;
    char node[UUID_TEXT_SIZE];
    char time[TIMESTAMP_TEXT_SIZE];
    double age_s;

    uuid_text(state->node_id, node);
    printf("%-20s %s\n", "node id", node);
    for (size_t i = 0; i < count; i++) {
        printf("%-20s %" PRIu64 "%s\n", figures[i].label, figures[i].value, figures[i].unit);
    }
    if (oldest_time(summary, time, &age_s)) {
        printf("%-20s %s, %.3f s ago\n", "oldest record", time, age_s);
    } else {
        printf("%-20s %s\n", "oldest record", summary->records == 0 ? "none" : "unreadable");
    }
    for (uint32_t p = 0; p < state->partitions; p++) {
        printf("partition %-10" PRIu32 " replicated to %" PRIu64 ", %" PRIu64 " pending\n", p,
               state->replicated[p], summary->pending[p]);
    }
}

static int
inspect(struct look *look, void *arg)
{
    const bool *json = arg;
    struct buffer problem = BUFFER_EMPTY;
    struct log_summary summary;
    uint64_t ids = 0;
    enum err err = log_view_summary(look->view, &summary, &problem);
    int code = EXIT_GOOD;

    if (err == ERR_OK) {
        err = log_view_each_entry(look->view, LOG_TABLE_IDS, count_ids, &ids, &problem);
    }
    if (err == ERR_OK) {
        const struct figure figures[] = {
            {"format_version", "format version", "", STATE_VERSION},
            {"epoch", "epoch", "", summary.state.epoch},
            {"starts", "starts", "", summary.starts},
            {"oldest_seq", "oldest seq", "", summary.oldest_seq},
            {"last_seq", "last seq", "", summary.last_seq},
            {"records", "records", "", summary.records},
            {"staged", "of them staged", "", summary.staged},
            {"pending_events", "pending", "", summary.pending_events},
            {"ids", "ids remembered", "", ids + summary.staged_ids},
            {"slices", "slices of history", "", summary.slices},
            {"counts", "entries of counts", "", summary.counts},
            {"blocks", "blocks", "", summary.blocks},
            {"live_bytes", "live", " bytes", summary.live_bytes},
            {"file_bytes", "file", " bytes", summary.file_bytes},
            {"page_bytes", "page", " bytes", summary.page_size},
            {"pages", "pages", "", summary.pages},
            {"free_pages", "free pages", "", summary.free_pages},
        };

        (*json ? print_json : print_text)(&summary, figures, ARRAY_LEN(figures));
    } else {
        code = look_failed(look, err, &problem);
    }
    buffer_free(&problem);
    return code;
}

int
command_inspect(int argc, char **argv)
{
    bool json = false;

    return look_run("inspect", &INSPECT_FLAGS, argc, argv, check_format, inspect, &json);
}
