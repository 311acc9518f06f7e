/*
 * stage.h - a small file of fixed size in which a group becomes durable with one sync.
 *
 * An LMDB commit waits for the disk twice, for its pages and then for its meta page, and it makes
 * the file grow, which the file system has to journal. A small group is therefore written here
 * first: over blocks that already exist, with one fdatasync, and is acknowledged. Its records enter
 * LMDB later, many groups in one commit; until then they are this file's, and a start reads them
 * back.
 *
 * The file holds entries one after the other, each beginning on a block of its own, so that
 * writing one never touches the block of another that was acknowledged. Once LMDB has everything,
 * the next entry is written at the start again. What is left of earlier rounds behind it is told by
 * its sequence numbers, which only rise. All integers little-endian:
 *
 *   entry    0  u32  magic "SLST"
 *            4  u32  CRC32C of bytes 8 to the end of the frames
 *            8  u32  version = 1
 *            12 u32  length of the frames
 *            16 u8[16] node id of the log
 *            32 u64  seq of the first frame
 *            40 u32  number of frames, whose seqs have no gap
 *            44 u32  zero
 *            48      frames, as in a block (wal/format.h)
 *
 * A stage belongs to one thread at a time; the other functions are pure or open the file anew.
 */
#ifndef SLUICE_WAL_STAGE_H
#define SLUICE_WAL_STAGE_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"
#include "core/journal.h"

enum {
    STAGE_BYTES = 512 << 10,          /* of the file */
    STAGE_ENTRY_BYTES_MAX = 64 << 10, /* a larger group gains nothing from being written twice */
    STAGE_ALIGN = 4096,
    STAGE_HEADER_SIZE = 48,
};

/* Its name in the log's directory. */
#define STAGE_FILE "stage.bin"

struct stage;

/*
 * Opens the file in DIR, making it (all its blocks written and synced) when it is missing or short.
 * ERR_NO_SPACE, ERR_IO, ERR_NO_MEMORY; logged with the cause. The caller syncs DIR.
 */
MUST_CHECK enum err stage_open(struct stage **out, const char *dir,
                               const uint8_t node_id[JOURNAL_NODE_ID_SIZE]);
void stage_close(struct stage *stage); /* NULL allowed */

/* True when an entry of LEN bytes of frames may be appended. */
bool stage_has_room(const struct stage *stage, size_t len);

/*
 * Writes FRAMES, the records [FIRST_SEQ, FIRST_SEQ + COUNT), and syncs. There must be room
 * (asserted). Returns 0 or an errno: then a later start may or may not find the entry, and nothing
 * may be appended any more.
 */
MUST_CHECK int stage_append(struct stage *stage, uint64_t first_seq, uint32_t count,
                            struct span frames);

/* The next entry goes to the start: LMDB durably holds all that was appended. */
void stage_reset(struct stage *stage);

/* What a stage holds after the last record LMDB has. */
struct stage_content {
    struct buffer frames; /* of the records after that one, in order; free with buffer_free() */
    uint64_t last_seq;    /* of the last of them; that one itself when there are none */
    const char *why;      /* after ERR_CORRUPT: what is wrong; static text */
    uint64_t missing_first, missing_last; /* ... and the records that cannot be read; 0 none */
};

/*
 * At a start: fills *OUT with what follows AFTER_SEQ, the last record LMDB has. What is found is
 * written once more in its place and synced, since after a failed sync the kernel shows bytes that
 * the disk does not have. ERR_CORRUPT: see stage_parse(); ERR_IO (logged), ERR_NO_MEMORY.
 */
MUST_CHECK enum err stage_recover(struct stage *stage, uint64_t after_seq,
                                  struct stage_content *out);

/*
 * Copies the file's bytes, for those who only look, also beside a server; a missing file has none.
 * Copy before LMDB's snapshot is taken: what leaves the stage meanwhile is in the snapshot. ERR_IO,
 * ERR_INVALID (may not be read), ERR_NO_MEMORY.
 */
MUST_CHECK enum err stage_copy(const char *dir, struct buffer *bytes);

/*
 * Finds in BYTES, a stage's file, the records after AFTER_SEQ. An entry cut short by a crash was
 * never acknowledged and simply ends the list. ERR_CORRUPT: an entry that was acknowledged is
 * damaged, since later ones stand behind it, or the file is not this log's or a newer build's; *OUT
 * then holds what comes before the damage, and says what is wrong. ERR_NO_MEMORY.
 */
MUST_CHECK enum err stage_parse(struct span bytes, const uint8_t node_id[JOURNAL_NODE_ID_SIZE],
                                uint64_t after_seq, struct stage_content *out);

#endif
