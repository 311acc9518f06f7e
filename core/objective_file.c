#include "core/objective_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/crc32c.h"
#include "core/log.h"

enum {
    VERSION = 1,
    PATH_SIZE = 4096,
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

static bool
write_all(int fd, struct span bytes)
{
    while (bytes.len > 0) {
        ssize_t n = write(fd, bytes.data, bytes.len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        bytes.data += n;
        bytes.len -= (size_t)n;
    }
    return true;
}

/* The name itself is durable only with its directory. */
static bool
sync_directory(const char *path)
{
    char dir[PATH_SIZE];
    char *slash;
    bool good;
    int fd;

    (void)snprintf(dir, sizeof(dir), "%s", path);
    slash = strrchr(dir, '/');
    if (slash != NULL) {
        slash[slash == dir ? 1 : 0] = '\0';
    }
    fd = open(slash == NULL ? "." : dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    good = fsync(fd) == 0;
    (void)close(fd);
    return good;
}

static enum err
replace(const char *path, struct span head, struct span body)
{
    char fresh[PATH_SIZE];
    bool good;
    int fd;

    if (snprintf(fresh, sizeof(fresh), "%s.new", path) >= (int)sizeof(fresh)) {
        errno = ENAMETOOLONG;
        return failed(path, "name");
    }
    fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0) {
        return failed(fresh, "open");
    }
    good = write_all(fd, head) && write_all(fd, body) && fsync(fd) == 0;
    if (close(fd) != 0 || !good) {
        return failed(fresh, "write");
    }
    if (rename(fresh, path) != 0) {
        return failed(path, "rename");
    }
    return sync_directory(path) ? ERR_OK : failed(path, "sync the directory");
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
        int len = snprintf(head, sizeof(head), "sluice-objectives %d %08x %zu\n", VERSION,
                           crc32c(0, body.data, body.len), body.len);

        err = replace(path, (struct span){head, (size_t)len}, buffer_span(&body));
    }
    buffer_free(&body);
    return err;
}

/* ---- reading ---- */

static enum err
read_all(const char *path, struct buffer *out)
{
    FILE *file = fopen(path, "re");
    char block[4096];
    size_t n;
    bool good;

    if (file == NULL) {
        return errno == ENOENT ? ERR_NOT_FOUND : failed(path, "open");
    }
    while ((n = fread(block, 1, sizeof(block), file)) > 0 && out->len <= FILE_BYTES_MAX) {
        buffer_append(out, block, n);
    }
    good = ferror(file) == 0;
    (void)fclose(file);
    if (!good) {
        return failed(path, "read");
    }
    return out->failed ? ERR_NO_MEMORY : out->len > FILE_BYTES_MAX ? ERR_CORRUPT : ERR_OK;
}

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
    enum err err = read_all(path, &bytes);

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
