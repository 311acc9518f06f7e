/*
 * The file is one JSON object, for people to look at; a version stands first.
 */
#include "cli/import_state.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/json.h"

enum {
    STATE_VERSION = 1,
    STATE_BYTES_MAX = 4096,
    DEPTH_MAX = 2,
};

static enum err
complain(const char *path, struct buffer *problem)
{
    buffer_printf(problem, "%s: %s", path, strerror(errno));
    return ERR_IO;
}

/* ---- reading ---- */

static struct span
find(const struct json_text *text, const char *name, enum json_type type)
{
    struct json_walk walk = {0, 0};
    struct json_member member;

    while (json_text_next(text, &walk, &member)) {
        if (span_is(member.name, name) && member.value.type == type) {
            return member.value.raw;
        }
    }
    return (struct span){NULL, 0};
}

static bool
take_u64(const struct json_text *text, const char *name, uint64_t *out)
{
    const struct span raw = find(text, name, JSON_NUMBER);
    int64_t value;

    if (raw.data == NULL || json_integer(raw, &value) != ERR_OK || value < 0) {
        return false;
    }
    *out = (uint64_t)value;
    return true;
}

static bool
take_digest(const struct json_text *text, uint8_t out[SHA256_SIZE])
{
    const struct span raw = find(text, "sha256", JSON_STRING);

    if (raw.len != 2 * SHA256_SIZE + 2) {
        return false;
    }
    for (size_t i = 0; i < SHA256_SIZE; i++) {
        const char digits[] = {raw.data[1 + 2 * i], raw.data[2 + 2 * i], '\0'};
        char *end;

        out[i] = (uint8_t)strtoul(digits, &end, 16);
        if (*end != '\0') {
            return false;
        }
    }
    return true;
}

/* OUT has room for LEN_MAX bytes and a NUL. */
static bool
take_text(const struct json_text *text, const char *name, size_t len_max, char *out)
{
    const struct span raw = find(text, name, JSON_STRING);
    size_t len;

    if (raw.data == NULL || raw.len > len_max + 2) {
        return false;
    }
    len = json_unescape(json_content(raw), out);
    out[len] = '\0';
    return len > 0 && strlen(out) == len;
}

static bool
parse(struct span bytes, struct import_state *out)
{
    struct json_text text;
    struct json_error error;
    uint64_t version = 0;

    *out = (struct import_state){0};
    if (json_scan(bytes, DEPTH_MAX, &text, &error) != ERR_OK ||
        !take_u64(&text, "version", &version) || version != STATE_VERSION) {
        return false;
    }
    out->done = find(&text, "done", JSON_BOOL).len == strlen("true");
    return take_text(&text, "name", IMPORT_NAME_MAX, out->name) &&
           take_text(&text, "url", IMPORT_URL_MAX, out->url) &&
           take_digest(&text, out->identity.digest) &&
           take_u64(&text, "size", &out->identity.size) &&
           take_u64(&text, "offset", &out->place.offset) &&
           take_u64(&text, "lines", &out->place.lines) &&
           take_u64(&text, "accepted", &out->accepted) &&
           take_u64(&text, "duplicates", &out->duplicates) &&
           take_u64(&text, "rejected", &out->rejected) &&
           take_u64(&text, "rejects_bytes", &out->rejects_bytes);
}

enum err
import_state_load(const char *path, struct import_state *out, struct buffer *problem)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    char bytes[STATE_BYTES_MAX];
    ssize_t got;

    if (fd < 0) {
        return errno == ENOENT ? ERR_NOT_FOUND : complain(path, problem);
    }
    got = read(fd, bytes, sizeof(bytes));
    if (got < 0) {
        complain(path, problem);
        close(fd);
        return ERR_IO;
    }
    close(fd);
    if (!parse((struct span){bytes, (size_t)got}, out)) {
        buffer_printf(problem, "%s is not the state of an import of this version", path);
        return ERR_FORMAT;
    }
    return ERR_OK;
}

/* ---- writing ---- */

static void
append_count(struct buffer *out, const char *name, uint64_t value)
{
    buffer_printf(out, ",\"%s\":%llu", name, (unsigned long long)value);
}

static void
format(const struct import_state *state, struct buffer *out)
{
    buffer_printf(out, "{\"version\":%d,\"name\":", STATE_VERSION);
    buffer_append_json_string(out, span_of(state->name));
    buffer_append_text(out, ",\"url\":");
    buffer_append_json_string(out, span_of(state->url));
    buffer_append_text(out, ",\"sha256\":\"");
    for (size_t i = 0; i < SHA256_SIZE; i++) {
        buffer_printf(out, "%02x", state->identity.digest[i]);
    }
    buffer_append_char(out, '"');
    append_count(out, "size", state->identity.size);
    append_count(out, "offset", state->place.offset);
    append_count(out, "lines", state->place.lines);
    append_count(out, "accepted", state->accepted);
    append_count(out, "duplicates", state->duplicates);
    append_count(out, "rejected", state->rejected);
    append_count(out, "rejects_bytes", state->rejects_bytes);
    buffer_append_text(out, state->done ? ",\"done\":true}\n" : ",\"done\":false}\n");
}

static enum err
write_new(const char *path, struct span bytes, struct buffer *problem)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool good;

    if (fd < 0) {
        return complain(path, problem);
    }
    errno = ENOSPC; /* what a short write means */
    good = write(fd, bytes.data, bytes.len) == (ssize_t)bytes.len && fsync(fd) == 0;
    if (!good) {
        complain(path, problem);
    }
    if (close(fd) != 0 && good) {
        return complain(path, problem);
    }
    return good ? ERR_OK : ERR_IO;
}

static enum err
sync_directory(const char *path, struct buffer *problem)
{
    char *copy = strdup(path);
    int fd = copy == NULL ? -1 : open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err err = fd >= 0 && fsync(fd) == 0 ? ERR_OK : complain(path, problem);

    if (fd >= 0) {
        close(fd);
    }
    free(copy);
    return err;
}

enum err
import_state_save(const char *path, const struct import_state *state, struct buffer *problem)
{
    struct buffer text = BUFFER_EMPTY;
    struct buffer fresh = BUFFER_EMPTY;
    enum err err = ERR_NO_MEMORY;

    format(state, &text);
    buffer_printf(&fresh, "%s.new", path);
    buffer_append_char(&fresh, '\0');
    if (!text.failed && !fresh.failed) {
        err = write_new(fresh.data, buffer_span(&text), problem);
        if (err == ERR_OK && rename(fresh.data, path) != 0) {
            err = complain(path, problem);
        }
        if (err == ERR_OK) {
            err = sync_directory(path, problem);
        }
    } else {
        buffer_append_text(problem, err_text(ERR_NO_MEMORY));
    }
    buffer_free(&text);
    buffer_free(&fresh);
    return err;
}
