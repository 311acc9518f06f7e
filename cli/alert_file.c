#include "cli/alert_file.h"

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
read_all(int fd, struct buffer *out)
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
        if (out->len > (size_t)ALERT_FILE_BYTES_MAX) {
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
    return fsync(fd) == 0 ? ERR_OK : errno_err();
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
alert_file_read(const char *dir, const char *name, struct buffer *out)
{
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err err;
    int fd;

    if (dir_fd < 0) {
        return errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
    }
    fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
    err = fd >= 0 ? ERR_OK : errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
    if (fd >= 0) {
        err = read_all(fd, out);
        close_quietly(fd);
    }
    close_quietly(dir_fd);
    return err;
}

enum err
alert_file_write(const char *dir, const char *name, struct span bytes)
{
    char beside[256];
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err err;
    int fd;

    if (dir_fd < 0) {
        return errno_err();
    }
    (void)snprintf(beside, sizeof(beside), "%s.new", name);
    fd = openat(dir_fd, beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    err = fd >= 0 ? write_all(fd, bytes) : errno_err();
    if (fd >= 0) {
        close_quietly(fd);
    }
    if (err == ERR_OK && renameat(dir_fd, beside, dir_fd, name) != 0) {
        err = errno_err();
    }
    if (err == ERR_OK && fsync(dir_fd) != 0) {
        err = errno_err();
    }
    close_quietly(dir_fd);
    return err;
}
