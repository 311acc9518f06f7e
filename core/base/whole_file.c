#include "core/base/whole_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static enum err
errno_err(void)
{
    return errno == ENOSPC || errno == EDQUOT ? ERR_NO_SPACE : ERR_IO;
}

static enum err
read_all(int fd, size_t bytes_max, struct buffer *out)
{
    for (;;) {
        char piece[16384];
        ssize_t got = read(fd, piece, sizeof(piece));

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return ERR_IO;
        }
        if (got == 0) {
            return out->failed ? ERR_NO_MEMORY : ERR_OK;
        }
        buffer_append(out, piece, (size_t)got);
        if (out->len > bytes_max) {
            return ERR_TOO_BIG;
        }
    }
}

static enum err
write_all(int fd, struct span bytes)
{
    while (bytes.len > 0) {
        ssize_t put = write(fd, bytes.data, bytes.len);

        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return errno_err();
        }
        bytes.data += put;
        bytes.len -= (size_t)put;
    }
    return ERR_OK;
}

/* Closes FD without losing the errno of what failed before. */
static void
close_quietly(int fd)
{
    int kept = errno;

    (void)close(fd);
    errno = kept;
}

enum err
whole_file_read(const char *path, size_t bytes_max, struct buffer *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    enum err err;

    if (fd < 0) {
        return errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
    }
    err = read_all(fd, bytes_max, out);
    close_quietly(fd);
    return err;
}

static enum err
write_beside(const char *path, const struct span *parts, size_t count)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    enum err err = ERR_OK;

    if (fd < 0) {
        return errno_err();
    }
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        err = write_all(fd, parts[i]);
    }
    if (err == ERR_OK && fsync(fd) != 0) {
        err = errno_err();
    }
    close_quietly(fd);
    return err;
}

/* The name itself is durable only with its directory. */
static enum err
sync_directory(const char *path)
{
    char dir[WHOLE_FILE_PATH_SIZE];
    enum err err;
    char *slash;
    int fd;

    (void)snprintf(dir, sizeof(dir), "%s", path);
    slash = strrchr(dir, '/');
    if (slash != NULL) {
        slash[slash == dir ? 1 : 0] = '\0';
    }
    fd = open(slash == NULL ? "." : dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return errno_err();
    }
    err = fsync(fd) == 0 ? ERR_OK : errno_err();
    close_quietly(fd);
    return err;
}

enum err
whole_file_write(const char *path, const struct span *parts, size_t count)
{
    char beside[WHOLE_FILE_PATH_SIZE];
    enum err err;

    if (snprintf(beside, sizeof(beside), "%s.new", path) >= (int)sizeof(beside)) {
        errno = ENAMETOOLONG;
        return ERR_IO;
    }
    err = write_beside(beside, parts, count);
    if (err == ERR_OK && rename(beside, path) != 0) {
        err = errno_err();
    }
    return err == ERR_OK ? sync_directory(path) : err;
}
