/*
 * format.h - what the log's LMDB file holds, byte by byte. All integers little-endian.
 *
 * Database "log": key u64 = seq of the block's first record (MDB_INTEGERKEY, only appended and
 * trimmed from the front), value = one block: frames one after the other, at most BLOCK_MAX bytes
 * unless a single frame is larger. Blocks of that size fill LMDB's leaf pages two by two and never
 * use overflow pages, which fragment the file.
 *
 *   frame    0  u32  CRC32C of bytes 4..23
 *            4  u32  CRC32C of the body
 *            8  u64  seq
 *            16 u32  length of the body
 *            20 u8   frame version = 1
 *            21 u8   kind = 1 (event, core/event/event_codec.c)
 *            22 u16  zero
 *            24      body
 *
 * Database "segments": key u64 = first seq of a closed run of blocks. The unit of trimming; lets a
 * start know the log's size without reading it.
 *
 *   value    0  u32  CRC32C of the key and bytes 4..23
 *            4  u32  zero
 *            8  u64  last seq
 *            16 u64  bytes its blocks occupy
 *
 * Database "ids": key u64 = seq of the first entry, value = one id block: the idempotency keys of
 * recent events, appended with each group, dropped from the front. One sequential write per group
 * instead of one random page per event.
 *
 *   id block 0  u32  CRC32C of the key and bytes 4..end
 *            4  u16  version = 1
 *            6  u16  number of entries
 *            8       entries of 24 bytes: u8[16] key, u32 content CRC, u32 seq minus the block's
 * key
 *
 * Database "slices": the history of slices of everything replicated, for reads without MySQL.
 * Key: i64 minute, big-endian with the sign bit flipped, then 16 bytes SHA-256 of the names
 * (event_key).
 *
 *   value    0  u32  CRC32C of the key and bytes 4..end
 *            4  u8   length of tenant, tenant, u8 length of service, service, slice
 * (core/slo/slice.c)
 *
 * Database "counts": the history of counts (core/counts/count_cell.h draws its keys and values).
 *
 *   value    0  u32  CRC32C of the key and bytes 4..end
 *            4       what core wrote
 *
 * Database "instances": key u64 epoch, value 16 bytes, the random id of that start.
 *
 * Database "meta": key "state", value
 *            0  u32  CRC32C of bytes 4..end
 *            4  u32  format version = 2; 1 had no stage (wal/stage.h) beside it, and is read too
 *            8  u8[16] node id
 *            24 u64  epoch
 *            32 u32  partitions n
 *            36 u32  zero
 *            40 u64  first seq this log may hand out (1 for a new log)
 *            48 u64[n] last replicated seq per partition
 */
#ifndef SLUICE_WAL_FORMAT_H
#define SLUICE_WAL_FORMAT_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"
#include "core/counts/count_store.h"
#include "core/event/event.h"
#include "core/journal.h"
#include "core/slo/slice.h"

enum {
    FORMAT_VERSION = 1,
    STATE_VERSION = 2,
    FRAME_VERSION = 1,
    FRAME_KIND_EVENT = 1,
    FRAME_HEADER_SIZE = 24,
    BLOCK_MAX = 2022, /* largest value LMDB 0.9 keeps inside a 4 KiB leaf with an 8-byte key */
    ID_ENTRY_SIZE = 24,
    ID_BLOCK_HEADER_SIZE = 8,
    ID_BLOCK_ENTRIES_MAX = (BLOCK_MAX - ID_BLOCK_HEADER_SIZE) / ID_ENTRY_SIZE,
    SLICE_KEY_SIZE = 24,
    SEGMENT_VALUE_SIZE = 24,
    STATE_FIXED_SIZE = 48,
    COUNTS_CRC_SIZE = 4,
};

struct frame {
    uint64_t seq;
    struct span body; /* borrows */
};

/* Bytes of the frame that REST, our own and good, begins with. */
size_t frame_size(struct span rest);

/* Appends one frame. */
void frame_append(struct buffer *block, uint64_t seq, struct span body);

/*
 * Takes the next frame off *REST. ERR_NOT_FOUND at the end of the block; ERR_FORMAT for an unknown
 * version; ERR_CORRUPT when a checksum or a length is wrong: then *SEQ_OUT is the seq the frame
 * claims, or 0 when not even its header can be believed. After a corrupt body *REST stands behind
 * it, after a corrupt header *REST is empty.
 */
MUST_CHECK enum err frame_next(struct span *rest, struct frame *out, uint64_t *seq_out);

struct id_entry {
    uint8_t key[EVENT_KEY_SIZE];
    uint32_t content_crc;
    uint64_t seq;
};

/* Encodes COUNT entries (at most ID_BLOCK_ENTRIES_MAX) relative to the first one's seq into OUT. */
size_t id_block_encode(const struct id_entry *entries, size_t count, uint8_t out[BLOCK_MAX]);

/* Gives each entry to FN. ERR_CORRUPT or ERR_FORMAT before any call. */
MUST_CHECK enum err id_block_decode(struct span block, uint64_t first_seq,
                                    void (*fn)(void *arg, const struct id_entry *entry), void *arg);

/* Number of entries, for trimming. */
MUST_CHECK enum err id_block_count(struct span block, uint64_t first_seq, uint32_t *count_out);

/*
 * Bytes a block of LEN bytes occupies in the file: its share of a leaf page, or overflow pages of
 * its own. Counted instead of its length so that the retained window is bounded in the same
 * currency as the log's limit.
 */
uint64_t block_footprint(size_t len, uint64_t page_size);

void segment_value_encode(uint64_t first_seq, uint64_t last_seq, uint64_t bytes,
                          uint8_t out[SEGMENT_VALUE_SIZE]);
MUST_CHECK enum err segment_value_decode(uint64_t first_seq, struct span value,
                                         uint64_t *last_seq_out, uint64_t *bytes_out);

void slice_key_encode(const struct slice_key *key, uint8_t out[SLICE_KEY_SIZE]);
/* The minute a key claims, to name a damaged value by; 0 when it is no key at all. */
int64_t slice_key_minute(struct span db_key);
void slice_value_encode(const struct slice_key *key, const struct slice *slice, struct buffer *out);

/* KEY_OUT borrows from VALUE; *ENCODED_OUT is the slice's own bytes. */
MUST_CHECK enum err slice_value_decode(struct span db_key, struct span value,
                                       struct slice_key *key_out, struct span *encoded_out);

/* VALUE with its checksum in front; returns the length. */
size_t counts_value_encode(struct span db_key, struct span value,
                           uint8_t out[COUNTS_CRC_SIZE + COUNT_VALUE_MAX]);
/* *OUT borrows from VALUE. ERR_CORRUPT. */
MUST_CHECK enum err counts_value_decode(struct span db_key, struct span value, struct span *out);

struct log_state {
    uint8_t node_id[JOURNAL_NODE_ID_SIZE];
    uint64_t epoch;
    uint64_t first_seq;
    uint32_t partitions;
    uint64_t replicated[JOURNAL_PARTITIONS_MAX];
};

size_t log_state_encode(const struct log_state *state,
                        uint8_t out[STATE_FIXED_SIZE + 8 * JOURNAL_PARTITIONS_MAX]);
MUST_CHECK enum err log_state_decode(struct span bytes, struct log_state *out);

#endif
