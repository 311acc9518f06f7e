/*
 * dead_letters.h - events the database refused, kept beside the rows: the port to where they are,
 * and what answers show of them.
 *
 * A letter is pending until it is replayed (its event is a row by now, under its own node and
 * sequence number, or was found to repeat an older row) or discarded. Both are final, and the
 * letter stays: it is part of the account accepted = rows + dead letters + repeats + pending (P9).
 * Its event has been counted since its ack and still is, whatever becomes of the letter (P4), so
 * neither change touches a figure.
 *
 * storage implements the port on MySQL. Any thread may call; a call may take as long as the store's
 * time limit.
 */
#ifndef SLUICE_CORE_DEAD_LETTERS_H
#define SLUICE_CORE_DEAD_LETTERS_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"
#include "core/journal.h"

enum {
    DEAD_LETTERS_LIMIT_MAX = 1000, /* letters of one page */
    DEAD_LETTER_REASON_SIZE = 256,
};

enum dead_letter_state {
    LETTER_PENDING,
    LETTER_REPLAYED,
    LETTER_DISCARDED,
    LETTER_STATES, /* as a wish: any of them */
};

/* One letter; spans are the store's for the call. Times are microseconds, 0: has not happened. */
struct dead_letter {
    uint64_t id;
    uint8_t node_id[JOURNAL_NODE_ID_SIZE];
    uint64_t seq;
    struct span tenant;
    struct span event_id;
    struct span event_name; /* absent where an older build wrote the letter */
    struct span reason;     /* the database's words, as printable ASCII */
    uint64_t error_code;    /* and its number */
    struct span payload;    /* the whole event as JSON */
    int64_t created_us;
    int64_t replayed_us;
    int64_t discarded_us;
    bool duplicate; /* replayed, and found to repeat an older row */
};

/* Which letters. Spans are borrowed for the call; data NULL: any. */
struct dead_letter_filter {
    uint64_t id; /* this one alone; 0: any */
    enum dead_letter_state state;
    struct span tenant;
    struct span event_name;
    struct span reason; /* a part of it */
    bool has_code;
    uint32_t error_code;
};

/* In the order of their ids, which is that in which the database refused them. */
struct dead_letter_request {
    struct dead_letter_filter filter;
    bool descending;   /* newest first */
    uint64_t after_id; /* only what is behind it; 0: from the beginning */
    uint32_t limit;    /* > 0 */
};

enum dead_letter_change {
    LETTER_REPLAY,
    LETTER_DISCARD,
};

enum dead_letter_result {
    LETTER_DONE,
    LETTER_UNKNOWN,     /* there is none with that id */
    LETTER_ENDED,       /* somebody replayed or discarded it before */
    LETTER_REFUSED,     /* the database still refuses the event: see the verdict, which the letter
                           now shows as well */
    LETTER_UNAVAILABLE, /* the database cannot be reached, or was busy; nothing was changed */
    LETTER_IN_DOUBT,    /* the answer to the commit was lost, and could not be asked for: the change
                           happened or did not; to ask for it again is safe */
};

struct dead_letter_verdict {
    bool duplicate; /* LETTER_DONE: it repeats an older row, nothing was stored */
    uint32_t error_code;
    char reason[DEAD_LETTER_REASON_SIZE];
};

typedef enum err dead_letter_fn(void *arg, const struct dead_letter *letter);

struct dead_letter_store_ops {
    /*
     * Gives FN the first letters of REQUEST's order. FN's first error ends it and is returned.
     * ERR_UNAVAILABLE, ERR_TIMEOUT (a narrower question may help), ERR_NO_MEMORY.
     */
    enum err (*list)(void *self, const struct dead_letter_request *request, dead_letter_fn *fn,
                     void *arg);

    /*
     * Replays or discards the letter with ID, in one transaction: of several who ask at once one
     * gets LETTER_DONE and the others LETTER_ENDED.
     */
    enum dead_letter_result (*change)(void *self, uint64_t id, enum dead_letter_change what,
                                      struct dead_letter_verdict *out);

    /* Counts the pending letters anew. ERR_UNAVAILABLE, ERR_NO_MEMORY. */
    enum err (*count)(void *self);

    /* How many were pending when last counted, -1 before. Never waits. */
    int64_t (*pending)(void *self);

    void (*close)(void *self); /* nobody may be calling */
};

struct dead_letter_store {
    const struct dead_letter_store_ops *ops;
    void *self;
};

const char *dead_letter_state_name(enum dead_letter_state state); /* a state of the list */
enum dead_letter_state dead_letter_state_of(const struct dead_letter *letter);

/* pending, replayed, discarded; all. ERR_INVALID. */
MUST_CHECK enum err dead_letter_state_parse(struct span text, enum dead_letter_state *out);

/* An id, or a cursor: decimal digits alone, at least 1. ERR_INVALID. */
MUST_CHECK enum err dead_letter_id_parse(struct span text, uint64_t *out);

/* Appends the letter as one JSON object, on one line. */
void dead_letter_write(struct buffer *out, const struct dead_letter *letter);

/*
 * Appends a page as the answer of GET /dead-letters: {"dead_letters":[..],"next_cursor":..}. A page
 * may hold fewer than the limit although there are more: letters of many bytes end it early. Errors
 * as list(); *OUT is of no use then.
 */
MUST_CHECK enum err dead_letters_page(const struct dead_letter_store *store,
                                      const struct dead_letter_request *request,
                                      struct buffer *out);

#endif
