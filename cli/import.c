/*
 * import.c - `sluice import`: a file of events into a running server, each exactly once.
 *
 * The log belongs to the server's process, so the events go the way all others go: as bulks over
 * HTTP. Nothing is doubled because every event has an id that is the same in each attempt
 * (import_event.h), and nothing is lost because the state (import_state.h) moves only after the
 * server's answer. Both may thus be killed at any moment; running the command again goes on.
 */
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "cli/commands.h"
#include "cli/import_event.h"
#include "cli/import_file.h"
#include "cli/import_rejects.h"
#include "cli/import_state.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/uploader.h"
#include "core/base/clock.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "core/base/uuid.h"

enum import_flag {
    FLAG_URL,
    FLAG_API_KEY,
    FLAG_CACERT,
    FLAG_FORMAT,
    FLAG_MODE,
    FLAG_NAME,
    FLAG_BATCH,
    FLAG_STATE,
    FLAG_RESTART,
    FLAG_REJECTS,
    FLAG_TIMEOUT,
    FLAG_COUNT,
};

static const struct flag FLAGS[] = {
    [FLAG_URL] = {"--url", "URL", "the server, http or https [http://127.0.0.1:HTTP_PORT]"},
    [FLAG_API_KEY] = {"--api-key", "KEY",
                      "the tenant's key [SLUICE_API_KEY, else the one pair of API_KEYS]"},
    [FLAG_CACERT] = {"--cacert", "FILE", "authorities that https trusts [the system's]"},
    [FLAG_FORMAT] = {"--format", "csv|ndjson", "what FILE holds [its name tells; stdin: ndjson]"},
    [FLAG_MODE] = {"--mode", "partial|atomic",
                   "partial: valid events are stored although others are refused; atomic: nothing "
                   "is sent unless all of FILE is valid [partial]"},
    [FLAG_NAME] =
        {"--name", "TEXT",
         "events without an id get TEXT and their line as one [digest of FILE's content]"},
    [FLAG_BATCH] = {"--batch", "N", "events in one bulk, at most MAX_BULK_EVENTS [5000]"},
    [FLAG_STATE] = {"--state", "PATH", "where to note how far it is [FILE.import-state]"},
    [FLAG_RESTART] = {"--restart", NULL, "forget the state, begin at the first line"},
    [FLAG_REJECTS] = {"--rejects", "PATH", "write refused events and why to PATH, as NDJSON"},
    [FLAG_TIMEOUT] = {"--timeout", "SECONDS",
                      "give up when the server takes nothing for so long [0: wait for ever]"},
};
_Static_assert(ARRAY_LEN(FLAGS) == FLAG_COUNT, "each flag has a row");
const struct flag_table IMPORT_FLAGS = {FLAGS, ARRAY_LEN(FLAGS)};

enum {
    BATCH_EVENTS = 5000,
    BATCH_BYTES_MAX = 4 << 20,
    REJECT_BYTES_MAX = 4 << 20, /* noted for one bulk */
    LINE_EXTRA_BYTES = 512,     /* more than an id adds to an element */
    TOLD_EVERY_US = 10000000,   /* the same reason to wait */
    NAME_BYTES = 16,            /* of the digest, in ids */
};

/* A line of the bulk. */
struct line {
    size_t end; /* in body */
    uint64_t number;
};

struct import {
    struct options options;
    const char *value[FLAG_COUNT];
    const char *path;
    char *api_key; /* owned, as are the next two */
    struct buffer url;
    struct buffer state_path; /* empty: no state is kept */
    enum split_format format;
    bool atomic;
    uint64_t timeout_s;
    uint64_t batch_events;
    size_t batch_bytes;

    struct import_file *file;
    struct uploader *uploader;
    struct progress progress;
    struct import_rejects rejects;
    struct import_state state;
    struct buffer problem;
    struct buffer scratch;
    uint64_t events; /* settled in this run */
    char told[128];  /* the last reason to wait */
    int64_t told_us;

    struct buffer body; /* the bulk */
    struct line *lines; /* batch_events of them */
    size_t count;
    uint64_t refused;          /* met while it was read */
    struct import_place place; /* behind it */
};

/* ---- arguments ---- */

static enum err
read_count(const struct import *import, enum import_flag flag, uint64_t min, uint64_t max,
           uint64_t *out, struct buffer *problem)
{
    const char *text = import->value[flag];
    char *end = NULL;
    unsigned long long value = 0;

    if (text == NULL) {
        return ERR_OK;
    }
    errno = 0;
    if (isdigit((unsigned char)text[0])) {
        value = strtoull(text, &end, 10);
    }
    if (end == NULL || *end != '\0' || errno != 0 || value < min || value > max) {
        buffer_printf(problem, "%s must be a number from %llu to %llu, not '%s'", FLAGS[flag].name,
                      (unsigned long long)min, (unsigned long long)max, text);
        return ERR_INVALID;
    }
    *out = value;
    return ERR_OK;
}

static enum err
take_file(struct import *import, int *argc, char **argv, struct buffer *problem)
{
    const char **operands = calloc((size_t)*argc + 1, sizeof(*operands));
    enum err err = ERR_OK;
    size_t count;

    if (operands == NULL) {
        return ERR_NO_MEMORY;
    }
    count = flags_take_operands(argc, argv, operands);
    import->path = operands[0];
    if (count == 0) {
        buffer_append_text(problem, "which FILE? see --help");
        err = ERR_INVALID;
    } else if (count > 1) {
        buffer_printf(problem, "one FILE at a time: '%s' and '%s'", operands[0], operands[1]);
        err = ERR_INVALID;
    }
    free(operands);
    return err;
}

static bool
ends_with(const char *text, const char *end)
{
    const size_t len = strlen(text);
    const size_t end_len = strlen(end);

    return len >= end_len && strcasecmp(text + len - end_len, end) == 0;
}

static enum err
choose_format(struct import *import, struct buffer *problem)
{
    const char *given = import->value[FLAG_FORMAT];

    if (given == NULL && (strcmp(import->path, "-") == 0 || ends_with(import->path, ".ndjson") ||
                          ends_with(import->path, ".jsonl"))) {
        given = "ndjson";
    } else if (given == NULL && ends_with(import->path, ".csv")) {
        given = "csv";
    }
    if (given == NULL) {
        buffer_printf(problem, "%s is neither .csv nor .ndjson: --format tells what it holds",
                      import->path);
        return ERR_INVALID;
    }
    import->format = strcmp(given, "csv") == 0 ? SPLIT_CSV : SPLIT_LINES;
    if (import->format == SPLIT_LINES && strcmp(given, "ndjson") != 0) {
        buffer_printf(problem, "--format must be csv or ndjson, not '%s'", given);
        return ERR_INVALID;
    }
    return ERR_OK;
}

static enum err
choose_mode(struct import *import, struct buffer *problem)
{
    const char *mode = import->value[FLAG_MODE];

    import->atomic = mode != NULL && strcmp(mode, "atomic") == 0;
    if (mode != NULL && !import->atomic && strcmp(mode, "partial") != 0) {
        buffer_printf(problem, "--mode must be partial or atomic, not '%s'", mode);
        return ERR_INVALID;
    }
    if (strcmp(import->path, "-") != 0) {
        return ERR_OK;
    }
    if (import->atomic || import->value[FLAG_STATE] != NULL ||
        import->value[FLAG_RESTART] != NULL) {
        buffer_append_text(problem, "stdin can be read only once: no --mode=atomic, --state or "
                                    "--restart");
        return ERR_INVALID;
    }
    return ERR_OK;
}

/* The key of API_KEYS when that holds exactly one, and the key itself. */
static const char *
only_key(const char *keys)
{
    const char *colon = keys == NULL ? NULL : strchr(keys, ':');

    if (colon == NULL || strchr(keys, ',') != NULL || strncmp(colon + 1, "sha256:", 7) == 0) {
        return NULL;
    }
    return colon + 1;
}

static enum err
choose_key(struct import *import, struct buffer *problem)
{
    const char *key = import->value[FLAG_API_KEY];

    if (key == NULL) {
        key = getenv("SLUICE_API_KEY");
    }
    if (key == NULL || key[0] == '\0') {
        key = only_key(import->options.api_keys);
    }
    if (key == NULL) {
        return ERR_OK;
    }
    for (const char *at = key; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7F) {
            buffer_append_text(problem, "--api-key must be one line");
            return ERR_INVALID;
        }
    }
    import->api_key = strdup(key);
    return import->api_key == NULL ? ERR_NO_MEMORY : ERR_OK;
}

static enum err
choose_url(struct import *import, struct buffer *problem)
{
    const char *given = import->value[FLAG_URL];

    if (given == NULL && import->options.http_port == 0) {
        buffer_append_text(problem, "HTTP_PORT is 0: --url must say where the server is");
        return ERR_INVALID;
    }
    if (given == NULL) {
        buffer_printf(&import->url, "http://127.0.0.1:%llu",
                      (unsigned long long)import->options.http_port);
    } else if (strlen(given) > IMPORT_URL_MAX ||
               (strncasecmp(given, "http://", 7) != 0 && strncasecmp(given, "https://", 8) != 0)) {
        buffer_printf(problem, "--url must look like http://host:port, not '%s'", given);
        return ERR_INVALID;
    } else {
        buffer_append_text(&import->url, given);
    }
    buffer_append_char(&import->url, '\0');
    return import->url.failed ? ERR_NO_MEMORY : ERR_OK;
}

static enum err
check_name(const struct import *import, struct buffer *problem)
{
    const char *name = import->value[FLAG_NAME];
    const size_t len = name == NULL ? 1 : strlen(name);

    if (len == 0 || len > IMPORT_NAME_MAX) {
        buffer_printf(problem, "--name must have 1 to %d bytes", IMPORT_NAME_MAX);
        return ERR_INVALID;
    }
    for (const char *at = name; at != NULL && *at != '\0'; at++) {
        if (*at <= 0x20 || *at >= 0x7F || *at == '"' || *at == '\\') {
            buffer_append_text(problem, "--name must be printable ASCII without space, quotes or "
                                        "backslashes");
            return ERR_INVALID;
        }
    }
    return ERR_OK;
}

static enum err
choose_state(struct import *import)
{
    if (strcmp(import->path, "-") == 0) {
        return ERR_OK;
    }
    if (import->value[FLAG_STATE] != NULL) {
        buffer_append_text(&import->state_path, import->value[FLAG_STATE]);
    } else {
        buffer_printf(&import->state_path, "%s.import-state", import->path);
    }
    buffer_append_char(&import->state_path, '\0');
    return import->state_path.failed ? ERR_NO_MEMORY : ERR_OK;
}

/* What processes show of their arguments is everybody's to read. */
static void
hide_key(char **argv, int argc)
{
    for (int i = 0; i < argc; i++) {
        const size_t len = strlen(FLAGS[FLAG_API_KEY].name);
        char *key = NULL;

        if (strncmp(argv[i], FLAGS[FLAG_API_KEY].name, len) == 0 && argv[i][len] == '=') {
            key = argv[i] + len + 1;
        } else if (i > 0 && strcmp(argv[i - 1], FLAGS[FLAG_API_KEY].name) == 0) {
            key = argv[i];
        }
        if (key != NULL) {
            memset(key, '*', strlen(key));
        }
    }
}

static enum err
read_arguments(struct import *import, int argc, char **argv, struct buffer *problem)
{
    const struct options *options = &import->options;
    enum err err = flags_take(&IMPORT_FLAGS, &argc, argv, import->value, problem);

    if (err == ERR_OK) {
        err = take_file(import, &argc, argv, problem);
    }
    if (err == ERR_OK) {
        err = options_read(&import->options, argc, argv, problem);
    }
    if (err == ERR_OK) {
        err = choose_format(import, problem);
    }
    if (err == ERR_OK) {
        err = choose_mode(import, problem);
    }
    if (err == ERR_OK) {
        err = check_name(import, problem);
    }
    if (err == ERR_OK) {
        err = choose_key(import, problem);
    }
    if (err == ERR_OK) {
        err = choose_url(import, problem);
    }
    if (err == ERR_OK) {
        err = choose_state(import);
    }
    if (err == ERR_OK) {
        err = read_count(import, FLAG_TIMEOUT, 0, 31536000, &import->timeout_s, problem);
    }
    import->batch_events = options->max_bulk_events < BATCH_EVENTS ? options->max_bulk_events
                                                                 : BATCH_EVENTS;
    import->batch_bytes = options->max_body_bytes < BATCH_BYTES_MAX
                              ? (size_t)options->max_body_bytes : BATCH_BYTES_MAX;
    if (err == ERR_OK) {
        err = read_count(import, FLAG_BATCH, 1, options->max_bulk_events, &import->batch_events,
                         problem);
    }
    return err;
}

/* ---- where to begin ---- */

static void
write_name(char out[IMPORT_NAME_MAX + 1], const uint8_t bytes[NAME_BYTES])
{
    for (size_t i = 0; i < NAME_BYTES; i++) {
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    }
}

static enum err
refuse_state(struct import *import, const char *what)
{
    buffer_printf(&import->problem, "%s %s; --restart begins anew", import->path, what);
    return ERR_INVALID;
}

/* Goes on where STATE says, if it is about the same file, ids and server. */
static enum err
resume(struct import *import, const struct import_state *fresh)
{
    struct import_state old;
    enum err err = import_state_load(import->state_path.data, &old, &import->problem);

    if (err == ERR_NOT_FOUND) {
        return ERR_OK;
    }
    if (err == ERR_FORMAT) {
        buffer_append_text(&import->problem, "; --restart begins anew");
    }
    if (err != ERR_OK) {
        return err;
    }
    if (old.identity.size != fresh->identity.size ||
        memcmp(old.identity.digest, fresh->identity.digest, SHA256_SIZE) != 0) {
        buffer_printf(&import->problem,
                      "%s has changed since its import began (%llu bytes then, "
                      "%llu now); --restart sends it from its first line",
                      import->path, (unsigned long long)old.identity.size,
                      (unsigned long long)fresh->identity.size);
        return ERR_INVALID;
    }
    if (strcmp(old.name, fresh->name) != 0) {
        return refuse_state(import, "was begun with another --name");
    }
    if (strcmp(old.url, fresh->url) != 0) {
        return refuse_state(import, "was begun with another server (--url)");
    }
    import->state = old;
    return old.done ? ERR_OK : import_file_seek(import->file, &old.place, &import->problem);
}

static enum err
find_beginning(struct import *import)
{
    struct import_state *state = &import->state;
    uint8_t random[NAME_BYTES];
    enum err err = ERR_OK;

    if (import_file_is_stdin(import->file)) {
        random_bytes(random, sizeof(random));
        write_name(state->name, random);
    } else {
        err = import_file_identify(import->file, &state->identity, &import->problem);
        write_name(state->name, state->identity.digest);
    }
    if (import->value[FLAG_NAME] != NULL) {
        snprintf(state->name, sizeof(state->name), "%s", import->value[FLAG_NAME]);
    }
    snprintf(state->url, sizeof(state->url), "%s", import->url.data);
    if (err == ERR_OK && import->state_path.len > 0 && import->value[FLAG_RESTART] == NULL) {
        const struct import_state fresh = *state;

        err = resume(import, &fresh);
    }
    return err;
}

/* ---- reading ---- */

/* As long as a bulk may be. */
static bool
has_room(const struct import *import)
{
    return import->count < import->batch_events && import->rejects.pending.len < REJECT_BYTES_MAX &&
           (import->count == 0 ||
            import->body.len + (size_t)import->options.max_event_bytes + LINE_EXTRA_BYTES <=
                import->batch_bytes);
}

static void
refuse_element(struct import *import, uint64_t line, const char *code, const char *message,
               struct span text)
{
    import->refused++;
    import_rejects_add(&import->rejects, line, span_of(code), span_of(message), text);
}

static enum err
take_element(struct import *import, const struct import_element *element)
{
    struct decode_error error;
    enum err err = import_event_append(element->text, import->state.name, element->line,
                                       &import->scratch, &import->body, &error);

    if (err == ERR_OK) {
        import->lines[import->count++] = (struct line){import->body.len, element->line};
    } else if (err == ERR_INVALID) {
        refuse_element(import, element->line, error.code, error.message, element->text);
        err = ERR_OK;
    } else {
        buffer_append_text(&import->problem, err_text(err));
    }
    return err;
}

/* The next bulk into BODY and LINES. ERR_NOT_FOUND: it is the last; other errors: so too. */
static enum err
read_bulk(struct import *import)
{
    enum err err = ERR_OK;

    buffer_clear(&import->body, SIZE_MAX);
    import->count = 0;
    import->refused = 0;
    while (err == ERR_OK && has_room(import)) {
        struct import_element element;

        switch (import_file_next(import->file, &element, &import->problem)) {
        case IMPORT_ELEMENT:
            err = take_element(import, &element);
            break;
        case IMPORT_BAD:
            refuse_element(import, element.line, element.error.code, element.error.text,
                           (struct span){NULL, 0});
            break;
        case IMPORT_END:
            err = ERR_NOT_FOUND;
            break;
        case IMPORT_FAILED:
            return ERR_IO;
        }
        if (err == ERR_OK || err == ERR_NOT_FOUND) {
            import->place = import_file_place(import->file);
        }
    }
    return err;
}

/* Reads all that is left, sending nothing. *REFUSED_OUT: how many elements are none. */
static enum err
check_all(struct import *import, uint64_t *refused_out)
{
    enum err err = ERR_OK;

    *refused_out = 0;
    while (err == ERR_OK) {
        err = read_bulk(import);
        *refused_out += import->refused;
        if (import_rejects_flush(&import->rejects, &import->problem) != ERR_OK) {
            return ERR_IO;
        }
    }
    if (err == ERR_NOT_FOUND && *refused_out == 0) {
        return import_file_seek(import->file, &import->state.place, &import->problem);
    }
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

/* ---- sending ---- */

static void
tell_waiting(void *arg, const char *why)
{
    struct import *import = arg;
    const int64_t now_us = clock_monotonic_us(clock_system());

    if (strncmp(import->told, why, sizeof(import->told) - 1) == 0 &&
        now_us - import->told_us < TOLD_EVERY_US) {
        return;
    }
    snprintf(import->told, sizeof(import->told), "%s", why);
    import->told_us = now_us;
    progress_say(&import->progress, "waiting for %s: %s", import->url.data, why);
}

static size_t
start_of(const struct import *import, size_t line)
{
    return line == 0 ? 0 : import->lines[line - 1].end;
}

static struct span
member_of(struct span object, const char *name)
{
    struct json_member member;
    size_t offset = 0;

    while (json_member_next(object, &offset, &member)) {
        if (span_is(member.name, name)) {
            return member.value.raw;
        }
    }
    return (struct span){NULL, 0};
}

/* What the server refused of lines [FIRST, FIRST + COUNT). False: it speaks of others. */
static bool
note_refused(struct import *import, size_t first, size_t count, struct span errors)
{
    struct json_value item;
    size_t offset = 0;

    while (json_element_next(errors, &offset, &item)) {
        const struct span index =
            item.type == JSON_OBJECT ? member_of(item.raw, "index") : (struct span){NULL, 0};
        struct span code;
        struct span message;
        int64_t at;
        size_t line;

        if (index.data == NULL || json_integer(index, &at) != ERR_OK || at < 0 ||
            (uint64_t)at >= count) {
            return false;
        }
        code = member_of(item.raw, "code");
        message = member_of(item.raw, "message");
        if (code.len < 2 || message.len < 2 || code.data[0] != '"' || message.data[0] != '"') {
            return false;
        }
        line = first + (size_t)at;
        import_rejects_add(&import->rejects, import->lines[line].number, json_content(code),
                           json_content(message),
                           (struct span){import->body.data + start_of(import, line),
                                         import->lines[line].end - start_of(import, line) - 1});
    }
    return true;
}

/* Lines [FIRST, FIRST + COUNT) in one request. */
static enum upload_result
send_lines(struct import *import, size_t first, size_t count)
{
    const size_t start = start_of(import, first);
    const struct span body = {import->body.data + start, start_of(import, first + count) - start};
    struct import_state *state = &import->state;
    struct upload_answer answer;
    enum upload_result result =
        uploader_send(import->uploader, body, count, &answer, &import->problem);

    if (result == UPLOAD_TOO_MANY && count == 1) {
        struct buffer message = BUFFER_EMPTY;

        buffer_append_json_string(&message, buffer_span(&import->problem));
        if (message.failed) {
            return UPLOAD_REFUSED;
        }
        state->rejected++;
        import_rejects_add(&import->rejects, import->lines[first].number,
                           SPAN_LITERAL("body_too_large"), json_content(buffer_span(&message)),
                           (struct span){body.data, body.len - 1});
        buffer_free(&message);
        buffer_clear(&import->problem, SIZE_MAX);
        import->events++;
        return UPLOAD_STORED;
    }
    if (result == UPLOAD_STORED && !note_refused(import, first, count, answer.errors)) {
        buffer_append_text(&import->problem, "this is not the answer of a Sluice");
        return UPLOAD_REFUSED;
    }
    if (result == UPLOAD_STORED) {
        state->accepted += answer.accepted;
        state->duplicates += answer.duplicates;
        state->rejected += answer.rejected;
        import->events += count;
        import->told[0] = '\0';
    }
    return result;
}

/* All lines of the bulk, in as few requests as the server bears. */
static bool
send_bulk(struct import *import)
{
    size_t at_once = import->count;
    size_t done = 0;

    while (done < import->count) {
        const size_t left = import->count - done;
        const size_t count = left < at_once ? left : at_once;

        switch (send_lines(import, done, count)) {
        case UPLOAD_STORED:
            done += count;
            break;
        case UPLOAD_TOO_MANY:
            at_once = count / 2;
            import->batch_events = at_once;
            buffer_clear(&import->problem, SIZE_MAX);
            break;
        case UPLOAD_REFUSED:
        case UPLOAD_GIVEN_UP:
            return false;
        }
    }
    return true;
}

/* The bulk is answered: what it came to is made durable, then how far the import is. */
static bool
keep_place(struct import *import, bool done)
{
    struct import_state *state = &import->state;

    state->rejected += import->refused;
    import->events += import->refused;
    if (import_rejects_flush(&import->rejects, &import->problem) != ERR_OK) {
        return false;
    }
    state->place = import->place;
    state->rejects_bytes = import->rejects.bytes;
    state->done = done;
    return import->state_path.len == 0 ||
           import_state_save(import->state_path.data, state, &import->problem) == ERR_OK;
}

/* Sends all that is left. */
static bool
send_all(struct import *import)
{
    enum err err = ERR_OK;

    while (err == ERR_OK) {
        bool last;

        err = read_bulk(import);
        last = err == ERR_NOT_FOUND;
        if (last && !import_file_is_unchanged(import->file)) {
            buffer_printf(&import->problem, "%s was changed while it was read", import->path);
            return false;
        }
        /* Of a file that breaks off, what stands before that is stored. */
        if (!send_bulk(import) || !keep_place(import, last)) {
            return false;
        }
        progress_show(&import->progress, import->place.offset, import->events);
    }
    return err == ERR_NOT_FOUND;
}

/* ---- the command ---- */

static int
finish(struct import *import, bool good)
{
    const struct import_state *state = &import->state;

    progress_end(&import->progress);
    if (!good) {
        progress_say(&import->progress, "%.*s", (int)import->problem.len,
                     import->problem.data == NULL ? "" : import->problem.data);
    }
    printf("accepted=%llu duplicates=%llu rejected=%llu\n", (unsigned long long)state->accepted,
           (unsigned long long)state->duplicates, (unsigned long long)state->rejected);
    if (!good && import->state_path.len > 0) {
        progress_say(&import->progress, "stopped behind line %llu; the same command goes on there",
                     (unsigned long long)state->place.lines);
    }
    return good && state->rejected == 0 && fflush(stdout) == 0 ? EXIT_GOOD : EXIT_WRONG;
}

static int
run(struct import *import)
{
    struct import_state *state = &import->state;
    uint64_t refused = 0;

    if (state->done) {
        progress_say(&import->progress,
                     "%s was imported before (%s); --restart would send it again", import->path,
                     import->state_path.data);
        return finish(import, true);
    }
    if (state->place.offset > 0) {
        progress_say(&import->progress, "going on behind line %llu",
                     (unsigned long long)state->place.lines);
    }
    if (import->atomic) {
        if (check_all(import, &refused) != ERR_OK) {
            return finish(import, false);
        }
        if (refused > 0) {
            state->rejected += refused;
            buffer_append_text(&import->problem, "not all of it is valid: nothing was sent");
            return finish(import, false);
        }
    }
    return finish(import, send_all(import));
}

static enum err
open_parts(struct import *import)
{
    const struct uploader_config config = {
        .url = import->url.data,
        .api_key = import->api_key,
        .ca_file = import->value[FLAG_CACERT],
        .timeout_ms = import->timeout_s * 1000,
        .waiting = tell_waiting,
        .arg = import,
    };
    enum err err = import_file_open(&import->file, import->path, import->format,
                                    (size_t)import->options.max_event_bytes, &import->problem);

    if (err == ERR_OK) {
        err = uploader_new(&import->uploader, &config, &import->problem);
    }
    import->lines = calloc(import->batch_events, sizeof(*import->lines));
    if (err == ERR_OK && import->lines == NULL) {
        err = ERR_NO_MEMORY;
    }
    if (err == ERR_OK) {
        err = find_beginning(import);
    }
    if (err == ERR_OK) {
        progress_begin(&import->progress, "import", import->state.place.offset,
                       import_file_size(import->file));
        err = import_rejects_open(&import->rejects, &import->progress, import->value[FLAG_REJECTS],
                                  import->state.rejects_bytes, &import->problem);
    }
    return err;
}

static void
close_parts(struct import *import)
{
    import_rejects_close(&import->rejects);
    uploader_free(import->uploader);
    import_file_close(import->file);
    free(import->lines);
    if (import->api_key != NULL) {
        explicit_bzero(import->api_key, strlen(import->api_key));
        free(import->api_key);
    }
    buffer_free(&import->url);
    buffer_free(&import->state_path);
    buffer_free(&import->problem);
    buffer_free(&import->scratch);
    buffer_free(&import->body);
    options_free(&import->options);
}

static int
complain(const struct import *import, enum err err, int code)
{
    const char *text = import->problem.len == 0 ? err_text(err) : import->problem.data;

    fprintf(stderr, "sluice import: %.*s\n",
            (int)(import->problem.len == 0 ? strlen(text) : import->problem.len), text);
    return code;
}

int
command_import(int argc, char **argv)
{
    struct import import = {.rejects.fd = -1};
    char **arguments = calloc((size_t)argc + 1, sizeof(*arguments));
    enum err err = ERR_NO_MEMORY;
    int code;

    log_setup(LOG_WARN, LOG_TEXT, STDERR_FILENO);
    signal(SIGPIPE, SIG_IGN);
    if (arguments != NULL) {
        memcpy(arguments, argv, (size_t)argc * sizeof(*arguments));
        err = read_arguments(&import, argc, arguments, &import.problem);
    }
    if (err != ERR_OK) {
        code = complain(&import, err, EXIT_USAGE);
    } else {
        hide_key(argv, argc);
        err = open_parts(&import);
        code = err == ERR_OK ? run(&import) : complain(&import, err, EXIT_WRONG);
    }
    close_parts(&import);
    free(arguments);
    return code;
}
