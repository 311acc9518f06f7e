/*
 * record_writes.c - loaded into a server with LD_PRELOAD: writes down, in order, what the server
 * asks of the disk below one directory, and what it sends to its clients.
 *
 * RECORD_DIR is the directory, RECORD_FILE where to write. tests/lib/crash_states.py reads it and
 * builds from it what a power loss could have left. A write is noted before it is made, since it
 * may reach the disk at once; a sync after it has returned, since it promises nothing before; an
 * answer before it is sent. One lock makes the order of the notes an order that happened.
 *
 *   record   0  u8   kind: O opened, W write, D write that is durable once E follows it, S synced,
 *                    T new length (OFFSET), R renamed, A sent on a socket
 *            1  u8   number of the file, from its O
 *            2  u16  zero
 *            4  u32  length of the bytes
 *            8  u64  offset
 *            16      bytes: the file's name (O; "." is the directory itself; R: the new one), what
 * is written
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    FDS = 4096,
    FILES = 200
};

struct known {
    uint8_t kind; /* 0 unknown, 1 file, 2 socket, 3 nothing of ours */
    uint8_t file;
    uint8_t durable; /* opened with O_DSYNC */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct known known[FDS];
static char names[FILES][64];
static unsigned name_count;
static int out = -1;

#define PART(data, len) (&(struct iovec[]){part_of(data, len)}[0])
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void
note(char kind, unsigned file, uint64_t offset, const struct iovec *parts, int count)
{
    static __typeof__(&writev) real;
    uint8_t head[16] = {(uint8_t)kind, (uint8_t)file};
    struct iovec all[65] = {{head, sizeof(head)}};
    uint32_t len = 0;

    if (out < 0 || count > 64) {
        return;
    }
    for (int i = 0; i < count; i++) {
        all[i + 1] = parts[i];
        len += (uint32_t)parts[i].iov_len;
    }
    memcpy(head + 4, &len, sizeof(len));
    memcpy(head + 8, &offset, sizeof(offset));
    real = real == NULL ? REAL(writev) : real;
    pthread_mutex_lock(&lock);
    if (real(out, all, count + 1) != (ssize_t)(sizeof(head) + len)) {
        abort(); /* a trace with a hole proves nothing */
    }
    pthread_mutex_unlock(&lock);
}

static struct iovec
part_of(const void *data, size_t len)
{
    struct iovec part = {NULL, len};

    memcpy(&part.iov_base, &data, sizeof(data)); /* it is only read */
    return part;
}

static unsigned
number_of(const char *name)
{
    unsigned i = 0;

    pthread_mutex_lock(&lock);
    while (i < name_count && strcmp(names[i], name) != 0) {
        i++;
    }
    if (i == name_count) {
        if (i == FILES) {
            abort();
        }
        strncpy(names[name_count++], name, sizeof(names[0]) - 1);
    }
    pthread_mutex_unlock(&lock);
    return i;
}

/* The name PATH has in the directory that is recorded; NULL when it is elsewhere. */
static const char *
name_of(const char *path)
{
    const char *dir = getenv("RECORD_DIR");
    size_t len = dir == NULL ? 0 : strlen(dir);
    const char *name = path + len;

    if (len == 0 || strncmp(path, dir, len) != 0 || (*name != '/' && *name != '\0')) {
        return NULL;
    }
    return *name == '\0' ? "." : name + 1;
}

static void
opened(int fd, const char *path, int flags)
{
    const char *name = name_of(path);

    if (fd < 0 || fd >= FDS) {
        return;
    }
    known[fd] = (struct known){3, 0, 0};
    if (name == NULL) {
        return;
    }
    if (out < 0) {
        out = REAL(open)(getenv("RECORD_FILE"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    }
    known[fd] = (struct known){1, (uint8_t)number_of(name), (flags & O_DSYNC) != 0};
    note('O', known[fd].file, 0, PART(name, strlen(name)), 1);
}

int
open(const char *path, int flags, ...)
{
    va_list rest;
    mode_t mode;
    int fd;

    va_start(rest, flags);
    mode = va_arg(rest, mode_t);
    va_end(rest);
    fd = REAL(open)(path, flags, mode);
    opened(fd, path, flags);
    return fd;
}

int
open64(const char *path, int flags, ...)
{
    va_list rest;
    mode_t mode;
    int fd;

    va_start(rest, flags);
    mode = va_arg(rest, mode_t);
    va_end(rest);
    fd = REAL(open64)(path, flags, mode);
    opened(fd, path, flags);
    return fd;
}

int
rename(const char *from, const char *to)
{
    const char *name = name_of(from);

    if (name != NULL) {
        note('R', number_of(name), 0, PART(name_of(to), strlen(name_of(to))), 1);
    }
    return REAL(rename)(from, to);
}

int
close(int fd)
{
    static __typeof__(&close) real;

    if (fd >= 0 && fd < FDS) {
        known[fd] = (struct known){0, 0, 0};
    }
    real = real == NULL ? REAL(close) : real;
    return real(fd);
}

static struct known
look(int fd)
{
    struct stat info;

    if (fd < 0 || fd >= FDS) {
        return (struct known){3, 0, 0};
    }
    if (known[fd].kind == 0) {
        known[fd].kind = fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode) ? 2 : 3;
    }
    return known[fd];
}

/* What every writing call does first; the file or 3. */
static struct known
before(int fd, off_t offset, const struct iovec *parts, int count)
{
    struct known what = look(fd);

    if (what.kind == 1) {
        if (offset < 0) {
            offset = lseek(fd, 0, SEEK_CUR);
        }
        note(what.durable ? 'D' : 'W', what.file, (uint64_t)offset, parts, count);
    } else if (what.kind == 2) {
        note('A', 0, 0, parts, count);
    }
    return what;
}

/* Short and failed writes are not expected; one would make the trace claim too much. */
static ssize_t
after(struct known what, ssize_t done)
{
    if (what.kind == 1 && what.durable && done >= 0) {
        note('E', what.file, 0, NULL, 0);
    }
    return done;
}

ssize_t
pwrite(int fd, const void *data, size_t len, off_t offset)
{
    struct known what = before(fd, offset, PART(data, len), 1);

    return after(what, REAL(pwrite)(fd, data, len, offset));
}

ssize_t
pwrite64(int fd, const void *data, size_t len, off64_t offset)
{
    struct known what = before(fd, offset, PART(data, len), 1);

    return after(what, REAL(pwrite64)(fd, data, len, offset));
}

ssize_t
write(int fd, const void *data, size_t len)
{
    struct known what = before(fd, -1, PART(data, len), 1);

    return after(what, REAL(write)(fd, data, len));
}

ssize_t
writev(int fd, const struct iovec *parts, int count)
{
    struct known what = before(fd, -1, parts, count);

    return after(what, REAL(writev)(fd, parts, count));
}

ssize_t
pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    struct known what = before(fd, offset, parts, count);

    return after(what, REAL(pwritev)(fd, parts, count, offset));
}

ssize_t
send(int fd, const void *data, size_t len, int flags)
{
    before(fd, -1, PART(data, len), 1);
    return REAL(send)(fd, data, len, flags);
}

ssize_t
sendmsg(int fd, const struct msghdr *message, int flags)
{
    before(fd, -1, message->msg_iov, (int)message->msg_iovlen);
    return REAL(sendmsg)(fd, message, flags);
}

static int
synced(int fd, int rc)
{
    struct known what = look(fd);

    if (rc == 0 && what.kind == 1) {
        note('S', what.file, 0, NULL, 0);
    }
    return rc;
}

int
fdatasync(int fd)
{
    return synced(fd, REAL(fdatasync)(fd));
}

int
fsync(int fd)
{
    return synced(fd, REAL(fsync)(fd));
}

int
ftruncate(int fd, off_t len)
{
    struct known what = look(fd);

    if (what.kind == 1) {
        note('T', what.file, (uint64_t)len, NULL, 0);
    }
    return REAL(ftruncate)(fd, len);
}
