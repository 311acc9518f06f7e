/*
 * dead_letters.c - `sluice dead-letters`: what MySQL refused; looked at, sent again, or discarded.
 *
 * It asks the database alone, so it works beside a live server and without one. What it changes is
 * what POST /dead-letters/{id}/replay and DELETE /dead-letters/{id} change, by the same code: of a
 * command and a request for one letter at once, one wins.
 */
#include "core/query/dead_letters.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "core/base/log.h"
#include "core/base/timestamp.h"
#include "core/base/uuid.h"
#include "storage/mysql_dead_letters.h"

enum dead_letters_flag {
    FLAG_ALL,
    FLAG_STATE,
    FLAG_TENANT,
    FLAG_EVENT_NAME,
    FLAG_REASON,
    FLAG_ERROR_CODE,
    FLAG_LIMIT,
    FLAG_FORMAT,
    FLAG_COUNT,
};

static const struct flag FLAGS[] = {
    [FLAG_ALL] = {"--all", NULL, "replay: every pending letter the filters leave, oldest first"},
    [FLAG_STATE] = {"--state", "STATE", "list: pending, replayed, discarded or all [pending]"},
    [FLAG_TENANT] = {"--tenant", "NAME", "only letters of this tenant"},
    [FLAG_EVENT_NAME] = {"--event-name", "NAME", "only letters of events of this name"},
    [FLAG_REASON] = {"--reason", "TEXT", "only letters whose reason holds TEXT"},
    [FLAG_ERROR_CODE] = {"--error-code", "N", "only letters with this error number of MySQL"},
    [FLAG_LIMIT] = {"--limit", "N", "list: so many letters, newest first [all of them]"},
    [FLAG_FORMAT] = {"--format", "text|ndjson", "how to print [text]"},
};
_Static_assert(ARRAY_LEN(FLAGS) == FLAG_COUNT, "a flag for each");
const struct flag_table DEAD_LETTERS_FLAGS = {FLAGS, ARRAY_LEN(FLAGS)};

enum {
    PAGE_LETTERS = 256, /* asked for at once */
};

/* One run of the command. */
struct run {
    struct options options;
    const char *value[FLAG_COUNT];
    const char **operand; /* the action, then ids */
    size_t operand_count;
    int (*action)(struct run *run);
    uint64_t *ids; /* of the operands behind the action */
    size_t id_count;
    struct dead_letter_filter filter;
    uint64_t limit;
    bool ndjson;
    struct dead_letter_store store;
    struct buffer line;
    uint64_t printed;
    uint64_t replayed;
    uint64_t repeats;
    uint64_t failed;
};

/* ---- printing ---- */

/* What a terminal would obey is shown as a question mark. */
static void
append_plain(struct buffer *out, struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        const char c = text.data[i];

        buffer_append_char(out, (unsigned char)c < ' ' || c == 0x7f ? '?' : c);
    }
}

/* TEXT, and blanks up to WIDTH and one. */
static void
append_column(struct buffer *out, struct span text, size_t width)
{
    append_plain(out, text);
    for (size_t i = text.len; i <= width; i++) {
        buffer_append_char(out, ' ');
    }
}

static void
append_time(struct buffer *out, const char *name, int64_t us)
{
    char text[TIMESTAMP_TEXT_SIZE] = "";

    if (us != 0) {
        (void)timestamp_format(us, text);
        buffer_printf(out, "%s%s", name, text);
    }
}

/* Writes the line out; one that cannot be written ends the command. */
static enum err
put_line(struct run *run)
{
    buffer_append_char(&run->line, '\n');
    if (run->line.failed) {
        return ERR_NO_MEMORY;
    }
    if (fwrite(run->line.data, 1, run->line.len, stdout) != run->line.len) {
        return ERR_CLOSED;
    }
    run->printed++;
    buffer_clear(&run->line, 1 << 20);
    return ERR_OK;
}

static enum err
print_row(struct run *run, const struct dead_letter *letter)
{
    struct buffer *line = &run->line;
    char number[24];

    (void)snprintf(number, sizeof(number), "%" PRIu64, letter->id);
    append_column(line, span_of(number), 8);
    append_column(line, span_of(dead_letter_state_name(dead_letter_state_of(letter))), 9);
    append_time(line, "", letter->created_us);
    buffer_append_char(line, ' ');
    append_column(line, letter->tenant, 12);
    append_column(line, letter->event_name, 16);
    append_column(line, letter->event_id, 36);
    buffer_printf(line, "%" PRIu64 " ", letter->error_code);
    append_plain(line, letter->reason);
    return put_line(run);
}

static enum err
print_in_full(struct run *run, const struct dead_letter *letter)
{
    struct buffer *line = &run->line;
    char node[UUID_TEXT_SIZE];

    uuid_text(letter->node_id, node);
    buffer_printf(line, "%sid          %" PRIu64 "\nstate       %s%s", run->printed > 0 ? "\n" : "",
                  letter->id, dead_letter_state_name(dead_letter_state_of(letter)),
                  letter->duplicate ? ", a repeat of an older row" : "");
    buffer_append_text(line, "\ntenant      ");
    append_plain(line, letter->tenant);
    buffer_append_text(line, "\nevent_id    ");
    append_plain(line, letter->event_id);
    buffer_append_text(line, "\nevent_name  ");
    append_plain(line, letter->event_name);
    buffer_printf(line, "\nlog         node %s, seq %" PRIu64, node, letter->seq);
    append_time(line, "\ncreated_at  ", letter->created_us);
    append_time(line, "\nreplayed    ", letter->replayed_us);
    append_time(line, "\ndiscarded   ", letter->discarded_us);
    buffer_printf(line, "\nreason      %" PRIu64 " ", letter->error_code);
    append_plain(line, letter->reason);
    buffer_append_text(line, "\npayload     ");
    append_plain(line, letter->payload);
    return put_line(run);
}

static enum err
print_json(struct run *run, const struct dead_letter *letter)
{
    dead_letter_write(&run->line, letter);
    return put_line(run);
}

static int
complain(const char *sentence)
{
    fflush(stdout);
    fprintf(stderr, "sluice dead-letters: %s\n", sentence);
    return EXIT_WRONG;
}

/* What a walk through the letters that ended with ERR means for the exit code. */
static int
judge_walk(enum err err)
{
    switch (err) {
    case ERR_OK:
    case ERR_CLOSED: /* the output takes no more: finish() says why */
        return EXIT_GOOD;
    case ERR_UNAVAILABLE:
        return complain("the database cannot be read, or has no dead letters' table yet");
    default:
        return complain(err_text(err));
    }
}

/* ---- list and show ---- */

struct page {
    struct run *run;
    uint64_t ids[PAGE_LETTERS];
    uint32_t count;
    uint64_t last_id;
};

static enum err
list_letter(void *arg, const struct dead_letter *letter)
{
    struct page *page = arg;

    page->count++;
    page->last_id = letter->id;
    return page->run->ndjson ? print_json(page->run, letter) : print_row(page->run, letter);
}

static int
list(struct run *run)
{
    struct dead_letter_request request = {.filter = run->filter, .descending = true};
    struct page page = {.run = run};
    uint64_t left = run->limit;
    enum err err = ERR_OK;

    do {
        request.limit = left < PAGE_LETTERS ? (uint32_t)left : PAGE_LETTERS;
        request.after_id = page.last_id;
        page.count = 0;
        err = run->store.ops->list(run->store.self, &request, list_letter, &page);
        left -= page.count;
    } while (err == ERR_OK && left > 0 && page.count == request.limit);
    return judge_walk(err);
}

static enum err
show_letter(void *arg, const struct dead_letter *letter)
{
    struct page *page = arg;

    page->count++;
    return page->run->ndjson ? print_json(page->run, letter) : print_in_full(page->run, letter);
}

static int
show(struct run *run)
{
    int code = EXIT_GOOD;

    for (size_t i = 0; i < run->id_count; i++) {
        const struct dead_letter_request request = {
            .filter = {.id = run->ids[i], .state = LETTER_STATES}, .limit = 1};
        struct page page = {.run = run};
        const enum err err = run->store.ops->list(run->store.self, &request, show_letter, &page);

        if (err != ERR_OK) {
            return judge_walk(err);
        }
        if (page.count == 0) {
            fflush(stdout);
            fprintf(stderr, "sluice dead-letters: there is no letter %" PRIu64 "\n", run->ids[i]);
            code = EXIT_WRONG;
        }
    }
    return code;
}

/* ---- replay and discard ---- */

static const char *
result_text(enum dead_letter_change what, enum dead_letter_result result, bool duplicate)
{
    switch (result) {
    case LETTER_DONE:
        if (what == LETTER_DISCARD) {
            return "discarded";
        }
        return duplicate ? "replayed, a repeat of an older row" : "replayed";
    case LETTER_UNKNOWN:
        return "there is no such letter";
    case LETTER_ENDED:
        return "was replayed or discarded before";
    case LETTER_REFUSED:
        return "still refused";
    case LETTER_UNAVAILABLE:
        return "the database cannot be reached or is busy; nothing was changed";
    case LETTER_IN_DOUBT:
        return "the answer was lost: changed or not; asking again is safe";
    }
    assert_failed(__FILE__, __LINE__, "a result of the list");
}

static enum err
print_result(struct run *run, uint64_t id, enum dead_letter_change what,
             enum dead_letter_result result, const struct dead_letter_verdict *verdict)
{
    const char *text = result_text(what, result, verdict->duplicate);
    struct buffer *line = &run->line;

    if (run->ndjson) {
        buffer_printf(line, "{\"id\":%" PRIu64 ",\"done\":%s,\"duplicate\":%s,\"result\":\"%s\"",
                      id, result == LETTER_DONE ? "true" : "false",
                      verdict->duplicate ? "true" : "false", text);
        if (result == LETTER_REFUSED) {
            buffer_printf(line, ",\"error_code\":%u,\"reason\":", verdict->error_code);
            buffer_append_json_string(line, span_of(verdict->reason));
        }
        buffer_append_char(line, '}');
    } else {
        buffer_printf(line, "%" PRIu64 " %s", id, text);
        if (result == LETTER_REFUSED) {
            buffer_printf(line, ": %u %s", verdict->error_code, verdict->reason);
        }
    }
    return put_line(run);
}

/* Changes one letter. False: there is no use in going on. */
static bool
change(struct run *run, uint64_t id, enum dead_letter_change what, bool ended_is_fine)
{
    struct dead_letter_verdict verdict = {0};
    const enum dead_letter_result result =
        run->store.ops->change(run->store.self, id, what, &verdict);
    const enum err err = print_result(run, id, what, result, &verdict);

    run->replayed += result == LETTER_DONE;
    run->repeats += result == LETTER_DONE && verdict.duplicate;
    run->failed += result != LETTER_DONE && !(result == LETTER_ENDED && ended_is_fine);
    return err == ERR_OK && result != LETTER_UNAVAILABLE && result != LETTER_IN_DOUBT;
}

static int
change_named(struct run *run, enum dead_letter_change what)
{
    for (size_t i = 0; i < run->id_count && change(run, run->ids[i], what, false); i++) {
    }
    return run->failed > 0 ? EXIT_WRONG : EXIT_GOOD;
}

static enum err
note_id(void *arg, const struct dead_letter *letter)
{
    struct page *page = arg;

    page->ids[page->count++] = letter->id;
    page->last_id = letter->id;
    return ERR_OK;
}

/* Each letter is tried once: the walk follows the ids upwards. */
static int
replay_all(struct run *run)
{
    struct dead_letter_request request = {.filter = run->filter, .limit = PAGE_LETTERS};
    struct page page = {.run = run};
    bool going_on = true;
    enum err err;

    do {
        request.after_id = page.last_id;
        page.count = 0;
        err = run->store.ops->list(run->store.self, &request, note_id, &page);
        for (uint32_t i = 0; i < page.count && going_on; i++) {
            /* Somebody else may be replaying too. */
            going_on = change(run, page.ids[i], LETTER_REPLAY, true);
        }
    } while (err == ERR_OK && going_on && page.count == PAGE_LETTERS);
    if (!run->ndjson) {
        printf("%" PRIu64 " replayed, %" PRIu64 " of them repeats; %" PRIu64 " not\n",
               run->replayed, run->repeats, run->failed);
    }
    return run->failed > 0 ? EXIT_WRONG : judge_walk(err);
}

static int
replay(struct run *run)
{
    return run->value[FLAG_ALL] != NULL ? replay_all(run) : change_named(run, LETTER_REPLAY);
}

static int
discard(struct run *run)
{
    return change_named(run, LETTER_DISCARD);
}

/* ---- arguments ---- */

static const struct action {
    const char *name;
    int (*run)(struct run *run);
    bool wants_ids;
    bool may_filter;
} ACTIONS[] = {
    {"list", list, false, true},
    {"show", show, true, false},
    {"replay", replay, true, false},
    {"discard", discard, true, false},
};

static enum err
refuse(struct buffer *problem, const char *sentence)
{
    buffer_append_text(problem, sentence);
    return ERR_INVALID;
}

static enum err
read_ids(struct run *run, struct buffer *problem)
{
    run->ids = calloc(run->operand_count, sizeof(*run->ids));
    if (run->ids == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 1; i < run->operand_count; i++) {
        if (dead_letter_id_parse(span_of(run->operand[i]), &run->ids[run->id_count++]) != ERR_OK) {
            buffer_printf(problem, "'%s' is no letter's id: a whole number from 1",
                          run->operand[i]);
            return ERR_INVALID;
        }
    }
    return ERR_OK;
}

/* A whole number of at least 1 and at most MAX; *OUT is left alone when it is not given. */
static enum err
read_number(const struct run *run, enum dead_letters_flag flag, uint64_t max, uint64_t *out,
            struct buffer *problem)
{
    uint64_t value;

    if (run->value[flag] == NULL) {
        return ERR_OK;
    }
    if (dead_letter_id_parse(span_of(run->value[flag]), &value) != ERR_OK || value > max) {
        buffer_printf(problem, "%s must be a whole number from 1", FLAGS[flag].name);
        return ERR_INVALID;
    }
    *out = value;
    return ERR_OK;
}

static struct span
value_span(const struct run *run, enum dead_letters_flag flag)
{
    return run->value[flag] == NULL ? (struct span){NULL, 0} : span_of(run->value[flag]);
}

static enum err
read_filter(struct run *run, struct buffer *problem)
{
    struct dead_letter_filter *filter = &run->filter;
    uint64_t code = 0;
    enum err err;

    filter->tenant = value_span(run, FLAG_TENANT);
    filter->event_name = value_span(run, FLAG_EVENT_NAME);
    filter->reason = value_span(run, FLAG_REASON);
    if (run->value[FLAG_STATE] != NULL &&
        dead_letter_state_parse(span_of(run->value[FLAG_STATE]), &filter->state) != ERR_OK) {
        return refuse(problem, "--state must be pending, replayed, discarded or all");
    }
    err = read_number(run, FLAG_ERROR_CODE, INT32_MAX, &code, problem);
    filter->error_code = (uint32_t)code;
    filter->has_code = run->value[FLAG_ERROR_CODE] != NULL;
    run->limit = UINT64_MAX;
    return err == ERR_OK ? read_number(run, FLAG_LIMIT, UINT64_MAX, &run->limit, problem) : err;
}

/* Flags that would have no effect are refused: whoever gives --tenant expects it to count. */
static enum err
check_flags(const struct run *run, const struct action *action, struct buffer *problem)
{
    const bool all = run->value[FLAG_ALL] != NULL;

    if (all && action->run != replay) {
        return refuse(problem, "--all belongs to replay");
    }
    if (all && run->id_count > 0) {
        return refuse(problem, "either ids or --all");
    }
    if (action->wants_ids && !all && run->id_count == 0) {
        return refuse(problem, action->run == replay ? "which letters? Give their ids, or --all"
                                                     : "which letters? Give their ids");
    }
    if (!action->wants_ids && run->id_count > 0) {
        return refuse(problem, "list takes no ids; show does");
    }
    for (size_t i = FLAG_STATE; i <= FLAG_LIMIT; i++) {
        const bool lists = i == FLAG_STATE || i == FLAG_LIMIT;

        if (run->value[i] != NULL && !action->may_filter && (!all || lists)) {
            buffer_printf(problem, "%s does not go with %s", FLAGS[i].name, action->name);
            return ERR_INVALID;
        }
    }
    return ERR_OK;
}

static enum err
read_action(struct run *run, struct buffer *problem)
{
    const char *name = run->operand_count > 0 ? run->operand[0] : "";
    const struct span format = value_span(run, FLAG_FORMAT);
    const struct action *action = NULL;
    enum err err;

    for (size_t i = 0; i < ARRAY_LEN(ACTIONS); i++) {
        action = strcmp(ACTIONS[i].name, name) == 0 ? &ACTIONS[i] : action;
    }
    if (action == NULL) {
        return refuse(problem, "what is to be done? list, show, replay or discard; see --help");
    }
    run->action = action->run;
    run->ndjson = span_is(format, "ndjson");
    if (format.data != NULL && !run->ndjson && !span_is(format, "text")) {
        return refuse(problem, "--format must be text or ndjson");
    }
    err = read_ids(run, problem);
    if (err == ERR_OK) {
        err = check_flags(run, action, problem);
    }
    return err == ERR_OK ? read_filter(run, problem) : err;
}

static enum err
read_arguments(struct run *run, int argc, char **argv, struct buffer *problem)
{
    enum err err = flags_take(&DEAD_LETTERS_FLAGS, &argc, argv, run->value, problem);

    if (err != ERR_OK) {
        return err;
    }
    run->operand = calloc((size_t)argc + 1, sizeof(*run->operand));
    if (run->operand == NULL) {
        return ERR_NO_MEMORY;
    }
    run->operand_count = flags_take_operands(&argc, argv, run->operand);
    err = read_action(run, problem);
    if (err == ERR_OK) {
        err = options_read(&run->options, argc, argv, problem);
    }
    if (err == ERR_OK && !options_has_db(&run->options)) {
        return refuse(problem, "dead letters are in the database: set DB_URL or DB_HOST");
    }
    return err;
}

static int
finish(struct run *run)
{
    const struct mysql_config config = options_mysql(&run->options);
    int code = EXIT_WRONG;

    mysql_library_start();
    if (mysql_dead_letters_new(&run->store, &config) == ERR_OK) {
        code = run->action(run);
        run->store.ops->close(run->store.self);
    }
    mysql_library_stop();
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        code = complain("the output cannot be written");
    }
    return code;
}

int
command_dead_letters(int argc, char **argv)
{
    struct run run = {.line = BUFFER_EMPTY};
    struct buffer problem = BUFFER_EMPTY;
    int code = EXIT_USAGE;
    enum err err;

    log_setup(LOG_WARN, LOG_TEXT, STDERR_FILENO);
    err = read_arguments(&run, argc, argv, &problem);
    if (err == ERR_OK) {
        code = finish(&run);
    } else {
        buffer_append_char(&problem, '\0');
        (void)complain(problem.len > 1 ? problem.data : err_text(err));
    }
    options_free(&run.options);
    buffer_free(&run.line);
    buffer_free(&problem);
    free(run.operand);
    free(run.ids);
    return code;
}
