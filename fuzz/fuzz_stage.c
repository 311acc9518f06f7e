/*
 * The file a start reads back after a crash: 8 bytes after_seq, then the stage's bytes, of the log
 * whose node id is sixteen times 'n'.
 *
 * The input's first byte chooses: with bit 0 set every header that looks like an entry's gets its
 * right checksum first, and so do the frames behind it, so that what stands behind them is reached.
 * Whatever the bytes are: what is given out is a run of whole frames without a gap, beginning right
 * after after_seq; damage is said with the records it hides, or none when the file is another's.
 */
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "fuzz/fuzz.h"
#include "wal/format.h"
#include "wal/stage.h"

static void
repair_frames(uint8_t *at, size_t len)
{
    while (len >= FRAME_HEADER_SIZE) {
        size_t body = get_u32(at + 16);

        if (body > len - FRAME_HEADER_SIZE) {
            return;
        }
        put_u32(at + 4, crc32c(0, at + FRAME_HEADER_SIZE, body));
        put_u32(at, crc32c(0, at + 4, FRAME_HEADER_SIZE - 4));
        at += FRAME_HEADER_SIZE + body;
        len -= FRAME_HEADER_SIZE + body;
    }
}

static void
repair(uint8_t *bytes, size_t size)
{
    for (size_t at = 0; at + STAGE_HEADER_SIZE <= size; at += STAGE_ALIGN) {
        size_t len = get_u32(bytes + at + 12);

        if (len <= size - at - STAGE_HEADER_SIZE) {
            repair_frames(bytes + at + STAGE_HEADER_SIZE, len);
            put_u32(bytes + at + 4, crc32c(0, bytes + at + 8, STAGE_HEADER_SIZE - 8 + len));
        }
    }
}

static void
check_content(struct stage_content *content, uint64_t after_seq, enum err err)
{
    struct span rest = buffer_span(&content->frames);
    uint64_t expected = after_seq;
    struct frame frame;
    uint64_t seq;

    ASSERT(err == ERR_OK || err == ERR_CORRUPT);
    while (rest.len > 0) {
        ASSERT(frame_next(&rest, &frame, &seq) == ERR_OK);
        ASSERT(seq == ++expected);
    }
    ASSERT(content->last_seq == expected);
    ASSERT((err == ERR_CORRUPT) == (content->why != NULL));
    if (content->missing_first != 0) {
        ASSERT(err == ERR_CORRUPT);
        ASSERT(content->missing_first == expected + 1);
        ASSERT(content->missing_last >= content->missing_first);
    }
    buffer_free(&content->frames);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t NODE[JOURNAL_NODE_ID_SIZE] = {'n', 'n', 'n', 'n', 'n', 'n', 'n', 'n',
                                                       'n', 'n', 'n', 'n', 'n', 'n', 'n', 'n'};
    struct stage_content content;
    uint8_t *bytes;
    uint64_t after_seq;
    enum err err;

    if (size < 9) {
        return 0;
    }
    after_seq = get_u64(data + 1);
    bytes = malloc(size - 9 + 1); /* of its own, so that reading past its end is seen */
    ASSERT(bytes != NULL);
    memcpy(bytes, data + 9, size - 9);
    if ((data[0] & 1U) != 0) {
        repair(bytes, size - 9);
    }
    err = stage_parse((struct span){(const char *)bytes, size - 9}, NODE, after_seq, &content);
    check_content(&content, after_seq, err);
    free(bytes);
    return 0;
}
