#include "cli/import_rejects.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    TOLD_MAX = 20,
    KEEP_MAX = 1 << 20,
};

static enum err
complain(const struct import_rejects *rejects, struct buffer *problem)
{
    buffer_printf(problem, "%s: %s", rejects->path, strerror(errno));
    return ERR_IO;
}

enum err
import_rejects_open(struct import_rejects *rejects, struct progress *progress, const char *path,
                    uint64_t keep_bytes, struct buffer *problem)
{
    struct stat status;

    *rejects = (struct import_rejects){.progress = progress, .path = path, .fd = -1};
    if (path == NULL) {
        return ERR_OK;
    }
    rejects->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (rejects->fd < 0 || fstat(rejects->fd, &status) != 0) {
        return complain(rejects, problem);
    }
    rejects->bytes = keep_bytes < (uint64_t)status.st_size ? keep_bytes : (uint64_t)status.st_size;
    if (ftruncate(rejects->fd, (off_t)rejects->bytes) != 0 ||
        lseek(rejects->fd, (off_t)rejects->bytes, SEEK_SET) < 0) {
        return complain(rejects, problem);
    }
    return ERR_OK;
}

void
import_rejects_close(struct import_rejects *rejects)
{
    if (rejects->fd >= 0) {
        close(rejects->fd);
        rejects->fd = -1;
    }
    buffer_free(&rejects->pending);
}

/* TEXT may be any bytes: those that are no UTF-8 stay as they came, to be found and corrected. */
static void
append_any_text(struct buffer *out, struct span text)
{
    buffer_append_char(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        const unsigned char c = (unsigned char)text.data[i];

        if (c == '"' || c == '\\') {
            buffer_append_char(out, '\\');
        }
        if (c < 0x20) {
            buffer_printf(out, "\\u%04x", c);
        } else {
            buffer_append_char(out, (char)c);
        }
    }
    buffer_append_char(out, '"');
}

void
import_rejects_add(struct import_rejects *rejects, uint64_t line, struct span code,
                   struct span message, struct span text)
{
    struct buffer *out = &rejects->pending;

    if (rejects->told < TOLD_MAX) {
        progress_say(rejects->progress, "line %llu: %.*s", (unsigned long long)line,
                     (int)message.len, message.data);
    } else if (rejects->told == TOLD_MAX) {
        progress_say(rejects->progress, "further lines are refused; %s",
                     rejects->path == NULL ? "--rejects=FILE keeps them all" : rejects->path);
    }
    rejects->told++;
    if (rejects->fd < 0) {
        return;
    }
    buffer_printf(out, "{\"line\":%llu,\"code\":\"", (unsigned long long)line);
    buffer_append_span(out, code);
    buffer_append_text(out, "\",\"message\":\"");
    buffer_append_span(out, message);
    buffer_append_char(out, '"');
    if (text.data != NULL) {
        buffer_append_text(out, ",\"text\":");
        append_any_text(out, text);
    }
    buffer_append_text(out, "}\n");
}

enum err
import_rejects_flush(struct import_rejects *rejects, struct buffer *problem)
{
    struct span left = buffer_span(&rejects->pending);

    if (rejects->pending.failed) {
        buffer_append_text(problem, err_text(ERR_NO_MEMORY));
        return ERR_NO_MEMORY;
    }
    if (left.len == 0) {
        return ERR_OK;
    }
    while (left.len > 0) {
        const ssize_t wrote = write(rejects->fd, left.data, left.len);

        if (wrote < 0 && errno == EINTR) {
            continue;
        }
        if (wrote < 0) {
            return complain(rejects, problem);
        }
        rejects->bytes += (uint64_t)wrote;
        left = (struct span){left.data + wrote, left.len - (size_t)wrote};
    }
    buffer_clear(&rejects->pending, KEEP_MAX);
    return fsync(rejects->fd) == 0 ? ERR_OK : complain(rejects, problem);
}
