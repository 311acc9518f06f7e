/*
 * json.h - a strict check of a JSON text (RFC 8259) that leaves the text where it is.
 *
 * There is no tree: json_scan() reads the whole text once, refuses what any reader might take
 * differently, and remembers where the members of the top-level object lie. Values stay the bytes
 * that came, so nothing is lost in a re-print. Beyond the RFC's grammar it refuses, at every level:
 * invalid UTF-8, escapes of lone surrogates, two members of one name (compared unescaped), numbers
 * beyond a double's range, a byte order mark, and nesting deeper than the caller allows.
 *
 * Time is O(n log n) in the worst case. Memory is taken from the heap only for objects that hold
 * more than some thirty names at once, and given back before the call returns.
 * Spans handed out borrow from the text. Any thread.
 */
#ifndef SLUICE_CORE_JSON_H
#define SLUICE_CORE_JSON_H

#include "core/base/base.h"
#include "core/base/err.h"

enum {
    JSON_DEPTH_LIMIT = 256, /* largest depth a caller may ask for: the scan recurses */
    JSON_MEMBERS_KEPT = 24, /* top-level members remembered by the scan; later ones are re-read */
};

enum json_type {
    JSON_NULL,
    JSON_BOOL,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
};

struct json_value {
    enum json_type type;
    bool escaped;    /* a string that holds escapes; false for every other type */
    struct span raw; /* exactly its bytes, a string with its quotes */
};

struct json_member {
    struct span name; /* between the quotes, as it came */
    bool name_escaped;
    struct json_value value;
};

struct json_error {
    const char *text; /* what is wrong, a static phrase */
    size_t offset;    /* of the byte it is wrong at; the text's length when it ends too early */
};

/* A checked text. Borrows from it. */
struct json_text {
    struct json_value value; /* the top-level value, without the space around it */
    size_t member_count;     /* members of the top-level value if it is an object, else 0 */
    struct json_member members[JSON_MEMBERS_KEPT]; /* the first of them, in their order */
};

/*
 * Checks all of BYTES. DEPTH_MAX (1 to JSON_DEPTH_LIMIT) is the number of arrays and objects that
 * may be open at once. ERR_INVALID fills *ERROR; ERR_NO_MEMORY does not. After a failure *OUT holds
 * nothing of use.
 */
MUST_CHECK enum err json_scan(struct span bytes, uint32_t depth_max, struct json_text *out,
                              struct json_error *error);

/* Where a walk over the members of a text stands; start with zeros. */
struct json_walk {
    size_t index;
    size_t offset;
};

/* The next member of the top-level object; false after the last. */
MUST_CHECK bool json_text_next(const struct json_text *text, struct json_walk *walk,
                               struct json_member *out);

/*
 * The next member of OBJECT, or element of ARRAY: the raw bytes of a value that json_scan() has
 * accepted, alone or as part of a text. *OFFSET starts at 0. False after the last.
 */
MUST_CHECK bool json_member_next(struct span object, size_t *offset, struct json_member *out);
MUST_CHECK bool json_element_next(struct span array, size_t *offset, struct json_value *out);

/* The bytes between the quotes of a string's raw bytes. */
static inline struct span
json_content(struct span raw)
{
    ASSERT(raw.len >= 2);
    return (struct span){raw.data + 1, raw.len - 2};
}

/*
 * Writes the UTF-8 that CONTENT (between the quotes, accepted by json_scan) stands for and returns
 * its length, which is never more than content.len, the room OUT must have. It may hold NUL.
 */
size_t json_unescape(struct span content, char *out);

/* Whether CONTENT (as above, ESCAPED if it holds escapes) stands for exactly TEXT. */
bool json_content_is(struct span content, bool escaped, struct span text);

/*
 * The value of an accepted number that is written as an integer. ERR_INVALID when it has a fraction
 * or an exponent (1.0 is not an integer), ERR_TOO_BIG when int64_t cannot hold it.
 */
MUST_CHECK enum err json_integer(struct span number, int64_t *out);

/*
 * The double nearest to an accepted number, of any length; too small becomes 0, and -0 stays -0.
 * ERR_TOO_BIG when it is beyond the largest double (json_scan lets no such number pass).
 */
MUST_CHECK enum err json_double(struct span number, double *out);

/* Whether TEXT is valid UTF-8 (Unicode table 3-7), as all strings must be that go into JSON. */
bool json_is_utf8(struct span text);

#endif
