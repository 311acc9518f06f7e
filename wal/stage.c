#include "wal/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/base/log.h"
#include "wal/format.h"

enum {
    STAGE_MAGIC = 0x54534c53, /* "SLST" */
    STAGE_VERSION = 1,
    CHECKED_FROM = 8, /* what the checksum covers begins here */
};

_Static_assert(STAGE_BYTES % STAGE_ALIGN == 0, "the file is whole blocks");
_Static_assert(STAGE_ENTRY_BYTES_MAX + STAGE_HEADER_SIZE + STAGE_ALIGN <= STAGE_BYTES,
               "the largest entry fits");

struct stage {
    int fd;
    size_t at; /* where the next entry goes */
    struct buffer entry;
    uint8_t node_id[JOURNAL_NODE_ID_SIZE];
};

static size_t
entry_size(size_t frames_len)
{
    return (STAGE_HEADER_SIZE + frames_len + STAGE_ALIGN - 1) / STAGE_ALIGN * STAGE_ALIGN;
}

static void
file_path(const char *dir, char out[4096])
{
    snprintf(out, 4096, "%s/" STAGE_FILE, dir);
}

/* ---- the file ---- */

static int
write_all(int fd, const char *bytes, size_t len, size_t at)
{
    while (len > 0) {
        ssize_t written = pwrite(fd, bytes, len, (off_t)at);

        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return written < 0 ? errno : ENOSPC;
        }
        bytes += written;
        len -= (size_t)written;
        at += (size_t)written;
    }
    return 0;
}

/* Reads up to STAGE_BYTES; a shorter file gives what it has. */
static int
read_all(int fd, struct buffer *bytes)
{
    if (buffer_reserve(bytes, STAGE_BYTES) != ERR_OK) {
        return ENOMEM;
    }
    while (bytes->len < STAGE_BYTES) {
        ssize_t got =
            pread(fd, bytes->data + bytes->len, STAGE_BYTES - bytes->len, (off_t)bytes->len);

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return errno;
        }
        if (got == 0) {
            break;
        }
        bytes->len += (size_t)got;
    }
    return 0;
}

/* Every block is written, so that no later write has to find space or change the file's map. */
static int
lay_out(int fd)
{
    struct stat info;
    char zeros[STAGE_ALIGN] = {0};
    int rc = 0;

    if (fstat(fd, &info) != 0) {
        return errno;
    }
    for (size_t at = (size_t)info.st_size; at < STAGE_BYTES && rc == 0;) {
        size_t len = STAGE_ALIGN - at % STAGE_ALIGN;

        rc = write_all(fd, zeros, len, at);
        at += len;
    }
    if (rc == 0 && info.st_size < STAGE_BYTES && fsync(fd) != 0) {
        rc = errno;
    }
    return rc;
}

static enum err
fail(const char *step, int rc)
{
    log_error("wal.stage_failed", LOG_STR("step", step), LOG_I64("code", rc),
              LOG_STR("cause", strerror(rc)), LOG_END);
    switch (rc) {
    case ENOSPC:
    case EDQUOT:
        return ERR_NO_SPACE;
    case ENOMEM:
        return ERR_NO_MEMORY;
    default:
        return ERR_IO;
    }
}

enum err
stage_open(struct stage **out, const char *dir, const uint8_t node_id[JOURNAL_NODE_ID_SIZE])
{
    struct stage *stage = calloc(1, sizeof(*stage));
    char path[4096];
    int rc;

    if (stage == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(stage->node_id, node_id, sizeof(stage->node_id));
    file_path(dir, path);
    stage->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    rc = stage->fd < 0 ? errno : lay_out(stage->fd);
    if (rc == 0 && buffer_reserve(&stage->entry, entry_size(STAGE_ENTRY_BYTES_MAX)) != ERR_OK) {
        rc = ENOMEM;
    }
    if (rc != 0) {
        stage_close(stage);
        return fail("open", rc);
    }
    *out = stage;
    return ERR_OK;
}

void
stage_close(struct stage *stage)
{
    if (stage == NULL) {
        return;
    }
    if (stage->fd >= 0) {
        close(stage->fd);
    }
    buffer_free(&stage->entry);
    free(stage);
}

/* ---- writing ---- */

bool
stage_has_room(const struct stage *stage, size_t len)
{
    return len <= STAGE_ENTRY_BYTES_MAX && entry_size(len) <= STAGE_BYTES - stage->at;
}

int
stage_append(struct stage *stage, uint64_t first_seq, uint32_t count, struct span frames)
{
    static const char ZEROS[STAGE_ALIGN];
    const size_t size = entry_size(frames.len);
    uint8_t header[STAGE_HEADER_SIZE] = {0};
    int rc;

    ASSERT(stage_has_room(stage, frames.len));
    put_u32(header, STAGE_MAGIC);
    put_u32(header + 8, STAGE_VERSION);
    put_u32(header + 12, narrow_u32(frames.len));
    memcpy(header + 16, stage->node_id, sizeof(stage->node_id));
    put_u64(header + 32, first_seq);
    put_u32(header + 40, count);
    put_u32(header + 4, crc32c(crc32c(0, header + CHECKED_FROM, sizeof(header) - CHECKED_FROM),
                               frames.data, frames.len));
    buffer_clear(&stage->entry, STAGE_BYTES);
    buffer_append(&stage->entry, header, sizeof(header));
    buffer_append_span(&stage->entry, frames);
    buffer_append(&stage->entry, ZEROS, size - sizeof(header) - frames.len);
    ASSERT(!stage->entry.failed); /* reserved at open */
    rc = write_all(stage->fd, stage->entry.data, size, stage->at);
    if (rc == 0 && fdatasync(stage->fd) != 0) {
        rc = errno;
    }
    if (rc == 0) {
        stage->at += size;
    }
    return rc;
}

void
stage_reset(struct stage *stage)
{
    stage->at = 0;
}

/* ---- reading ---- */

struct entry {
    struct span frames;
    size_t size; /* with the padding */
    uint64_t first_seq;
    uint32_t count;
    bool newer;   /* has a version this build does not know */
    bool foreign; /* another log's */
};

/* False when no whole entry begins at AT. */
static bool
entry_at(struct span bytes, size_t at, const uint8_t node_id[JOURNAL_NODE_ID_SIZE],
         struct entry *out)
{
    uint8_t header[STAGE_HEADER_SIZE];
    size_t len;

    if (at > bytes.len || bytes.len - at < sizeof(header)) {
        return false;
    }
    memcpy(header, bytes.data + at, sizeof(header));
    len = get_u32(header + 12);
    if (get_u32(header) != STAGE_MAGIC || len == 0 || len > bytes.len - at - sizeof(header)) {
        return false;
    }
    out->frames = (struct span){bytes.data + at + sizeof(header), len};
    if (get_u32(header + 4) !=
        crc32c(crc32c(0, header + CHECKED_FROM, sizeof(header) - CHECKED_FROM), out->frames.data,
               out->frames.len)) {
        return false;
    }
    out->size = entry_size(len);
    out->first_seq = get_u64(header + 32);
    out->count = get_u32(header + 40);
    out->newer = get_u32(header + 8) != STAGE_VERSION;
    out->foreign = memcmp(header + 16, node_id, JOURNAL_NODE_ID_SIZE) != 0;
    return out->count > 0 && out->first_seq > 0 && out->first_seq <= UINT64_MAX - out->count;
}

/* True when ENTRY's frames are what its header says. */
static bool
frames_are_good(const struct entry *entry)
{
    struct span rest = entry->frames;
    struct frame frame;
    uint64_t seq;

    for (uint32_t i = 0; i < entry->count; i++) {
        if (frame_next(&rest, &frame, &seq) != ERR_OK || seq != entry->first_seq + i) {
            return false;
        }
    }
    return rest.len == 0;
}

static enum err
damaged(struct stage_content *out, const char *why, uint64_t first, uint64_t last)
{
    out->why = why;
    out->missing_first = first;
    out->missing_last = last;
    return ERR_CORRUPT;
}

/*
 * As stage_parse(); *END_OUT is where the records found end. Entries of the newest round lie one
 * behind the other and go on where LMDB ends; what does not reach beyond the last record found is
 * in LMDB or of an earlier round.
 */
static enum err
parse(struct span bytes, const uint8_t node_id[JOURNAL_NODE_ID_SIZE], uint64_t after_seq,
      struct stage_content *out, size_t *end_out)
{
    struct entry entry;

    *out = (struct stage_content){.frames = BUFFER_EMPTY, .last_seq = after_seq};
    *end_out = 0;
    for (size_t at = 0; at < bytes.len; at += entry.size) {
        uint64_t last;

        if (!entry_at(bytes, at, node_id, &entry)) {
            entry.size = STAGE_ALIGN; /* torn, damaged or never written */
            continue;
        }
        last = entry.first_seq + entry.count - 1;
        if (entry.foreign) {
            return damaged(out, "the stage is another log's", 0, 0);
        }
        if (last <= out->last_seq) {
            continue;
        }
        if (entry.first_seq > out->last_seq + 1) {
            return damaged(out, "records are missing in the stage, or between it and the log",
                           out->last_seq + 1, entry.first_seq - 1);
        }
        if (entry.newer) {
            return damaged(out, "the stage is a newer build's", out->last_seq + 1, last);
        }
        /* LMDB takes an entry whole or not at all. */
        if (entry.first_seq <= out->last_seq || !frames_are_good(&entry)) {
            return damaged(out, "an entry of the stage is not what it says", out->last_seq + 1,
                           last);
        }
        buffer_append_span(&out->frames, entry.frames);
        if (out->frames.failed) {
            return ERR_NO_MEMORY;
        }
        out->last_seq = last;
        *end_out = at + entry.size;
    }
    return ERR_OK;
}

enum err
stage_parse(struct span bytes, const uint8_t node_id[JOURNAL_NODE_ID_SIZE], uint64_t after_seq,
            struct stage_content *out)
{
    size_t end;

    return parse(bytes, node_id, after_seq, out, &end);
}

enum err
stage_recover(struct stage *stage, uint64_t after_seq, struct stage_content *out)
{
    struct buffer bytes = BUFFER_EMPTY;
    size_t end = 0;
    enum err err = ERR_OK;
    int rc = read_all(stage->fd, &bytes);

    if (rc == 0) {
        err = parse(buffer_span(&bytes), stage->node_id, after_seq, out, &end);
    }
    if (rc == 0 && err == ERR_OK && end > 0) {
        rc = write_all(stage->fd, bytes.data, end, 0);
        if (rc == 0 && fdatasync(stage->fd) != 0) {
            rc = errno;
        }
        stage->at = end;
    }
    buffer_free(&bytes);
    return rc == 0 ? err : fail("recover", rc);
}

/* Reads one block, or what there is of it; the rest is zeros. */
static int
read_block(int fd, char *out, size_t at)
{
    size_t len = 0;

    while (len < STAGE_ALIGN) {
        ssize_t got = pread(fd, out + len, STAGE_ALIGN - len, (off_t)(at + len));

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return errno;
        }
        if (got == 0) {
            break;
        }
        len += (size_t)got;
    }
    memset(out + len, 0, STAGE_ALIGN - len);
    return 0;
}

/*
 * The last block first. A writer that goes on meanwhile writes forwards, so what stands before an
 * entry that was seen is read later and is there, or has been overwritten by the next round, and
 * then LMDB has both. Read forwards, an entry could be there and the one before it missing.
 */
static int
read_backwards(int fd, struct buffer *bytes)
{
    if (buffer_reserve(bytes, STAGE_BYTES) != ERR_OK) {
        return ENOMEM;
    }
    for (size_t at = STAGE_BYTES; at > 0; at -= STAGE_ALIGN) {
        int rc = read_block(fd, bytes->data + at - STAGE_ALIGN, at - STAGE_ALIGN);

        if (rc != 0) {
            return rc;
        }
    }
    bytes->len = STAGE_BYTES;
    return 0;
}

enum err
stage_copy(const char *dir, struct buffer *bytes)
{
    char path[4096];
    int fd;
    int rc;

    file_path(dir, path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? ERR_OK : errno == EACCES ? ERR_INVALID : ERR_IO;
    }
    rc = read_backwards(fd, bytes);
    close(fd);
    return rc == 0 ? ERR_OK : rc == ENOMEM ? ERR_NO_MEMORY : ERR_IO;
}
