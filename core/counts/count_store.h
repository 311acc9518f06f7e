/*
 * count_store.h - the port to where the history of counts is kept: ordered keys and values whose
 * changes the journal makes durable. wal implements it on LMDB; tests/fakes in memory.
 *
 * Keys are at most COUNT_KEY_MAX bytes and ordered as memcmp() orders them, a prefix first. What
 * they and the values mean is core's affair (count_cell.h); guarding the bytes with checksums is
 * the store's.
 */
#ifndef SLUICE_CORE_COUNT_STORE_H
#define SLUICE_CORE_COUNT_STORE_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"

enum {
    COUNT_KEY_MAX = 40,
    COUNT_VALUE_MAX = 1900,  /* two of them fill a page of LMDB */
    COUNT_LAG_MAX = 2 << 20, /* durable events that may wait to become history, in memory */
};

/*
 * Changes to be made together: one list of operations in one block of memory. Owned by whoever
 * made it, reused after count_changes_clear().
 */
struct count_changes {
    struct buffer
        bytes; /* per operation: u8 key length, u16 value length (0: delete), key, value */
    size_t count;
};

void count_changes_put(struct count_changes *changes, struct span key, struct span value);
void count_changes_delete(struct count_changes *changes, struct span key);
void count_changes_clear(struct count_changes *changes);
void count_changes_free(struct count_changes *changes);

/* Takes the next operation off *REST (a copy of the changes' bytes); false at the end. VALUE.len 0:
 * delete. */
bool count_changes_next(struct span *rest, struct span *key, struct span *value);

struct count_store_ops {
    /*
     * A snapshot, with a cursor that stands nowhere. Any thread; each snapshot is used by one. It
     * keeps pages of the log from being reused: short. ERR_AGAIN too many, ERR_IO.
     */
    enum err (*begin)(void *self, void **snapshot_out);
    void (*end)(void *self, void *snapshot);

    /*
     * The first key >= KEY, and the one after the last one given. The spans are valid until end().
     * ERR_NOT_FOUND at the end. ERR_CORRUPT: the value's checksum is wrong; KEY_OUT is set, and the
     * next one can be asked for.
     */
    enum err (*seek)(void *self, void *snapshot, struct span key, struct span *key_out,
                     struct span *value_out);
    enum err (*next)(void *self, void *snapshot, struct span *key_out, struct span *value_out);

    /*
     * Makes CHANGES durable, all or none, in order, and waits for that. COUNTED_SEQ as in hold().
     * ERR_FULL: nothing was changed, it may be tried again later; ERR_CLOSED stopping; ERR_FAILED
     * or ERR_UNKNOWN latched. One thread.
     */
    enum err (*commit)(void *self, const struct count_changes *changes, uint64_t counted_seq);

    /*
     * The history covers records up to COUNTED_SEQ: the journal keeps later ones, and refuses work
     * (ERR_AGAIN) when there are more than COUNT_LAG_MAX of them. Before this call it does neither.
     */
    void (*hold)(void *self, uint64_t counted_seq);

    /* Bytes the store occupies. Any thread. */
    uint64_t (*bytes)(void *self);
};

struct count_store {
    const struct count_store_ops *ops;
    void *self;
};

#endif
