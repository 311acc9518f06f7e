#include "cli/import_file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PIECE_BYTES = 256 * 1024,
    MARK_LEN = 3,
};

static const char BYTE_ORDER_MARK[] = "\xEF\xBB\xBF";

struct import_file {
    const char *path;
    int fd;
    bool is_stdin;
    struct stat opened;
    enum split_format format;
    size_t element_bytes_max;
    struct splitter splitter;
    uint64_t piece_offset; /* of piece[0] in the file */
    uint64_t lines;        /* line ends before COUNTED */
    const char *counted;
    bool line_open; /* the byte before COUNTED ends no line */
    char piece[PIECE_BYTES];
};

static enum err
complain(const struct import_file *file, struct buffer *problem)
{
    buffer_printf(problem, "%s: %s", file->path, strerror(errno));
    return ERR_IO;
}

static void
begin_at(struct import_file *file, const struct import_place *place)
{
    split_fini(&file->splitter);
    split_init(&file->splitter, file->format, file->element_bytes_max);
    file->piece_offset = place->offset;
    file->lines = place->lines;
    file->counted = file->piece;
    file->line_open = false;
    split_feed(&file->splitter, (struct span){file->piece, 0});
}

static enum err
open_file(struct import_file *file, struct buffer *problem)
{
    file->is_stdin = strcmp(file->path, "-") == 0;
    if (file->is_stdin) {
        file->path = "stdin";
        file->fd = STDIN_FILENO;
        return ERR_OK;
    }
    file->fd = open(file->path, O_RDONLY | O_CLOEXEC);
    if (file->fd < 0 || fstat(file->fd, &file->opened) != 0) {
        return complain(file, problem);
    }
    if (!S_ISREG(file->opened.st_mode)) {
        buffer_printf(problem, "%s is not a file; - reads from stdin", file->path);
        return ERR_INVALID;
    }
    if (flock(file->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        buffer_printf(problem, "%s is being imported by another process", file->path);
        return ERR_LOCKED;
    }
    return ERR_OK;
}

enum err
import_file_open(struct import_file **out, const char *path, enum split_format format,
                 size_t element_bytes_max, struct buffer *problem)
{
    struct import_file *file = calloc(1, sizeof(*file));
    enum err err;

    if (file == NULL) {
        buffer_append_text(problem, err_text(ERR_NO_MEMORY));
        return ERR_NO_MEMORY;
    }
    file->path = path;
    file->fd = -1;
    file->format = format;
    file->element_bytes_max = element_bytes_max;
    split_init(&file->splitter, format, element_bytes_max);
    err = open_file(file, problem);
    if (err != ERR_OK) {
        import_file_close(file);
        return err;
    }
    begin_at(file, &(struct import_place){0, 0});
    *out = file;
    return ERR_OK;
}

void
import_file_close(struct import_file *file)
{
    if (file == NULL) {
        return;
    }
    if (file->fd >= 0 && !file->is_stdin) {
        close(file->fd);
    }
    split_fini(&file->splitter);
    free(file);
}

bool
import_file_is_stdin(const struct import_file *file)
{
    return file->is_stdin;
}

uint64_t
import_file_size(const struct import_file *file)
{
    return file->is_stdin ? 0 : (uint64_t)file->opened.st_size;
}

bool
import_file_is_unchanged(const struct import_file *file)
{
    struct stat now;

    return file->is_stdin || (fstat(file->fd, &now) == 0 && now.st_size == file->opened.st_size &&
                              now.st_mtim.tv_sec == file->opened.st_mtim.tv_sec &&
                              now.st_mtim.tv_nsec == file->opened.st_mtim.tv_nsec);
}

/* Fills the piece as far as the file goes. Negative: errno says why not. */
static ssize_t
read_piece(struct import_file *file)
{
    size_t len = 0;

    while (len < PIECE_BYTES) {
        const ssize_t got = read(file->fd, file->piece + len, PIECE_BYTES - len);

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return -1;
        }
        if (got == 0 || (file->is_stdin && got > 0)) {
            return (ssize_t)(len + (size_t)got); /* who writes to a pipe need not wait for more */
        }
        len += (size_t)got;
    }
    return (ssize_t)len;
}

static enum err
rewind_to(struct import_file *file, uint64_t offset, struct buffer *problem)
{
    ASSERT(!file->is_stdin);
    return lseek(file->fd, (off_t)offset, SEEK_SET) < 0 ? complain(file, problem) : ERR_OK;
}

enum err
import_file_identify(struct import_file *file, struct import_identity *out, struct buffer *problem)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    enum err err = rewind_to(file, 0, problem);
    ssize_t got = 0;
    bool good = context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;

    out->size = 0;
    while (good && err == ERR_OK && (got = read_piece(file)) > 0) {
        out->size += (uint64_t)got;
        good = EVP_DigestUpdate(context, file->piece, (size_t)got) == 1;
    }
    if (err == ERR_OK && got < 0) {
        err = complain(file, problem);
    } else if (err == ERR_OK && (!good || EVP_DigestFinal_ex(context, out->digest, NULL) != 1)) {
        buffer_append_text(problem, err_text(ERR_NO_MEMORY));
        err = ERR_NO_MEMORY;
    }
    EVP_MD_CTX_free(context);
    if (err == ERR_OK) {
        err = import_file_seek(file, &(struct import_place){0, 0}, problem);
    }
    return err;
}

/* ---- elements ---- */

/* Counts the line ends up to what the splitter has used. */
static void
count_lines(struct import_file *file)
{
    const char *to = file->splitter.at;

    if (to > file->counted) {
        file->line_open = to[-1] != '\n';
    }
    while (file->counted < to) {
        const char *newline = memchr(file->counted, '\n', (size_t)(to - file->counted));

        if (newline == NULL) {
            break;
        }
        file->lines++;
        file->counted = newline + 1;
    }
    file->counted = to;
}

/* The next bytes to the splitter, or their end. */
static enum err
feed(struct import_file *file, struct buffer *problem)
{
    const uint64_t used = (uint64_t)(file->splitter.at - file->piece);
    size_t mark = 0;
    ssize_t got;

    file->piece_offset += used;
    got = read_piece(file);
    if (got < 0) {
        return complain(file, problem);
    }
    file->counted = file->piece;
    if (file->format == SPLIT_LINES && file->piece_offset == 0 && got >= MARK_LEN &&
        memcmp(file->piece, BYTE_ORDER_MARK, MARK_LEN) == 0) {
        mark = MARK_LEN; /* the splitter of CSV knows it, that of lines does not */
    }
    split_feed(&file->splitter, (struct span){file->piece + mark, (size_t)got - mark});
    if (got == 0) {
        split_end(&file->splitter);
    }
    return ERR_OK;
}

enum import_step
import_file_next(struct import_file *file, struct import_element *out, struct buffer *problem)
{
    for (;;) {
        const enum split_step step = split_next(&file->splitter, &out->text);

        count_lines(file);
        out->line = file->lines + (file->line_open ? 1 : 0);
        switch (step) {
        case SPLIT_MORE:
            if (feed(file, problem) != ERR_OK) {
                return IMPORT_FAILED;
            }
            break;
        case SPLIT_ELEMENT:
            return IMPORT_ELEMENT;
        case SPLIT_BAD:
            out->error = file->splitter.error;
            return IMPORT_BAD;
        case SPLIT_DONE:
            return IMPORT_END;
        case SPLIT_BROKEN:
            buffer_printf(problem, "%s, line %llu: %s", file->path, (unsigned long long)out->line,
                          file->splitter.error.text);
            return IMPORT_FAILED;
        case SPLIT_NO_MEMORY:
            buffer_append_text(problem, err_text(ERR_NO_MEMORY));
            return IMPORT_FAILED;
        }
    }
}

struct import_place
import_file_place(const struct import_file *file)
{
    return (struct import_place){
        .offset = file->piece_offset + (uint64_t)(file->splitter.at - file->piece),
        .lines = file->lines,
    };
}

/* Byte by byte, so that the splitter uses nothing behind the row that names the members. */
static enum err
read_header(struct import_file *file, struct buffer *problem)
{
    struct span none;

    while (!file->splitter.csv.named) {
        const ssize_t got = read(file->fd, file->piece, 1);

        if (got < 0) {
            return complain(file, problem);
        }
        split_feed(&file->splitter, (struct span){file->piece, (size_t)got});
        if (got == 0 || split_next(&file->splitter, &none) != SPLIT_MORE) {
            buffer_printf(problem, "%s: the header row cannot be read", file->path);
            return ERR_INVALID;
        }
    }
    return ERR_OK;
}

enum err
import_file_seek(struct import_file *file, const struct import_place *place, struct buffer *problem)
{
    enum err err = rewind_to(file, 0, problem);

    begin_at(file, &(struct import_place){0, 0});
    if (err == ERR_OK && place->offset > 0 && file->format == SPLIT_CSV) {
        err = read_header(file, problem);
    }
    if (err == ERR_OK) {
        err = rewind_to(file, place->offset, problem);
    }
    if (err == ERR_OK) {
        file->piece_offset = place->offset;
        file->lines = place->lines;
        file->counted = file->piece;
        file->line_open = false;
        split_feed(&file->splitter, (struct span){file->piece, 0});
    }
    return err;
}
