#include "core/slo/objective_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/crc32c.h"
#include "core/base/log.h"
#include "core/base/whole_file.h"

enum {
    VERSION = 1,
    HEAD_MAX = 64,
    FILE_BYTES_MAX = 64 << 20,
};

static enum err
failed(const char *path, const char *step)
{
    log_error("objectives.file_failed", LOG_STR("file", path), LOG_STR("step", step),
              LOG_STR("cause", strerror(errno)), LOG_END);
    return ERR_IO;
}

enum err
objective_file_write(const char *path, const struct objective_set *set)
{
    struct buffer body = BUFFER_EMPTY;
    char head[HEAD_MAX];
    enum err err = ERR_NO_MEMORY;

    for (size_t i = 0; i < objective_set_count(set); i++) {
        objective_write(&body, objective_set_at(set, i));
        buffer_append_char(&body, '\n');
    }
    if (!body.failed) {
        const int len = snprintf(head, sizeof(head), "sluice-objectives %d %08x %zu\n", VERSION,
                                 crc32c(0, body.data, body.len), body.len);
        const struct span parts[] = {{head, (size_t)len}, buffer_span(&body)};

        err = whole_file_write(path, parts, ARRAY_LEN(parts));
        if (err != ERR_OK) {
            err = failed(path, "replace");
        }
    }
    buffer_free(&body);
    return err;
}

/* ---- reading ---- */

/* Takes the first line, without its end, off *REST. False when there is no whole one. */
static bool
take_line(struct span *rest, struct span *line)
{
    const char *end = rest->len == 0 ? NULL : memchr(rest->data, '\n', rest->len);

    if (end == NULL) {
        return false;
    }
    *line = (struct span){rest->data, (size_t)(end - rest->data)};
    rest->data += line->len + 1;
    rest->len -= line->len + 1;
    return true;
}

static enum err
check_head(struct span line, struct span body)
{
    char head[HEAD_MAX];
    int version;
    unsigned crc;
    size_t len;

    if (line.len >= sizeof(head)) {
        return ERR_CORRUPT;
    }
    memcpy(head, line.data, line.len);
    head[line.len] = '\0';
    if (sscanf(head, "sluice-objectives %d %8x %zu", &version, &crc, &len) != 3) {
        return ERR_CORRUPT;
    }
    if (version != VERSION) {
        return ERR_FORMAT;
    }
    return len == body.len && crc == crc32c(0, body.data, body.len) ? ERR_OK : ERR_CORRUPT;
}

enum err
objective_file_read(const char *path, enum err (*fn)(void *arg, const struct objective *),
                    void *arg)
{
    struct buffer bytes = BUFFER_EMPTY;
    struct span rest;
    struct span line;
    enum err err = whole_file_read(path, FILE_BYTES_MAX, &bytes);

    if (err == ERR_IO) {
        (void)failed(path, "read");
    } else if (err == ERR_TOO_BIG) {
        err = ERR_CORRUPT;
    }
    rest = buffer_span(&bytes);
    if (err == ERR_OK) {
        err = take_line(&rest, &line) ? check_head(line, rest) : ERR_CORRUPT;
    }
    while (err == ERR_OK && take_line(&rest, &line)) {
        char problem[OBJECTIVE_PROBLEM_SIZE];
        struct objective objective;

        err = objective_read_stored(line, &objective, problem);
        if (err == ERR_INVALID) {
            log_error("objectives.file_line_refused", LOG_STR("file", path),
                      LOG_STR("cause", problem), LOG_END);
            err = ERR_OK; /* a zone that is gone must not hide the others */
            continue;
        }
        if (err == ERR_OK) {
            err = fn(arg, &objective);
        }
    }
    buffer_free(&bytes);
    return err;
}
