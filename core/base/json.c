/*
 * One recursive pass over the text, one table of byte classes, and a word-at-a-time skip over the
 * plain ASCII that most strings are made of.
 *
 * Names are checked for repeats per object: up to NAMES_LINEAR of them against each other as they
 * come, which is faster than anything else and needs no memory; larger objects by sorting once at
 * their end, so hostile input costs O(n log n). The names of all open objects share one stack.
 */
#include "core/base/json.h"

#include <math.h>
#include <stdlib.h>

enum {
    NAMES_INLINE = 32,       /* names on the scanner's own stack before the heap is used */
    NAMES_LINEAR = 16,       /* names of one object compared pair by pair */
    NUMBER_SAFE_LEN = 200,   /* a shorter number with an exponent of two digits is finite */
    DOUBLE_DIGITS_MAX = 800, /* 767 significant digits decide any double, the rest is "not zero" */
};

enum byte_class {
    BYTE_PLAIN,     /* printable ASCII without a meaning in a string */
    BYTE_QUOTE,     /* "    */
    BYTE_BACKSLASH, /* \    */
    BYTE_CONTROL,   /* below 0x20: never raw in a string */
    BYTE_LEAD2,     /* 0xC2-0xDF: first of two bytes */
    BYTE_LEAD3,     /* 0xE0-0xEF */
    BYTE_LEAD4,     /* 0xF0-0xF4 */
    BYTE_BAD,       /* 0x80-0xC1, 0xF5-0xFF: cannot start a character */
};

#define REPEAT4(x) x, x, x, x
#define REPEAT16(x) REPEAT4(x), REPEAT4(x), REPEAT4(x), REPEAT4(x)

/* clang-format off */
static const uint8_t byte_class[256] = {
    REPEAT16(BYTE_CONTROL), REPEAT16(BYTE_CONTROL),
    BYTE_PLAIN, BYTE_PLAIN, BYTE_QUOTE, BYTE_PLAIN,
    REPEAT4(BYTE_PLAIN), REPEAT4(BYTE_PLAIN), REPEAT4(BYTE_PLAIN),
    REPEAT16(BYTE_PLAIN), REPEAT16(BYTE_PLAIN),
    REPEAT4(BYTE_PLAIN), REPEAT4(BYTE_PLAIN), REPEAT4(BYTE_PLAIN),
    BYTE_BACKSLASH, BYTE_PLAIN, BYTE_PLAIN, BYTE_PLAIN,
    REPEAT16(BYTE_PLAIN), REPEAT16(BYTE_PLAIN),
    REPEAT16(BYTE_BAD), REPEAT16(BYTE_BAD), REPEAT16(BYTE_BAD), REPEAT16(BYTE_BAD),
    BYTE_BAD, BYTE_BAD, BYTE_LEAD2, BYTE_LEAD2,
    REPEAT4(BYTE_LEAD2), REPEAT4(BYTE_LEAD2), REPEAT4(BYTE_LEAD2),
    REPEAT16(BYTE_LEAD2),
    REPEAT16(BYTE_LEAD3),
    REPEAT4(BYTE_LEAD4), BYTE_LEAD4, BYTE_BAD, BYTE_BAD, BYTE_BAD,
    REPEAT4(BYTE_BAD), REPEAT4(BYTE_BAD),
};
/* clang-format on */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "first_special() counts from bit 0");

/* A member's name while its object is open. */
struct name {
    uint64_t prefix; /* its first 8 bytes unescaped, zero filled: settles most comparisons */
    const char *data;
    uint32_t len;
    bool escaped;
};

struct scanner {
    const uint8_t *at;
    const uint8_t *end;
    const uint8_t *start;
    uint32_t depth;
    uint32_t depth_max;
    struct json_text *out;
    const char *error; /* set once scanning has failed, except for want of memory */
    const uint8_t *error_at;
    struct name *names; /* inline_names or a heap block */
    size_t name_count;
    size_t name_capacity;
    struct name inline_names[NAMES_INLINE];
};

static bool scan_value(struct scanner *scanner, struct json_value *out);

static bool
fail(struct scanner *scanner, const uint8_t *at, const char *text)
{
    scanner->error = at >= scanner->end ? "the text ends too early" : text;
    scanner->error_at = at;
    return false;
}

static struct span
span_between(const uint8_t *from, const uint8_t *to)
{
    return (struct span){(const char *)from, (size_t)(to - from)};
}

/* ---- strings ---- */

/*
 * Marks the bytes of WORD that are a quote, a backslash, a control or not ASCII with their high
 * bit. A borrow can spoil only bytes above a marked one, so the lowest mark is always right.
 */
static uint64_t
mark_special(uint64_t word)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t highs = UINT64_C(0x8080808080808080);
    const uint64_t quote = word ^ (ones * '"');
    const uint64_t backslash = word ^ (ones * '\\');

    return ((word - ones * 0x20) | (quote - ones) | (backslash - ones) | word) & highs;
}

/* The first byte that is not BYTE_PLAIN, or END. */
static const uint8_t *
skip_plain(const uint8_t *at, const uint8_t *end)
{
    while (end - at >= 8) {
        uint64_t word;
        uint64_t marks;

        memcpy(&word, at, sizeof(word));
        marks = mark_special(word);
        if (marks != 0) {
            return at + __builtin_ctzll(marks) / 8;
        }
        at += 8;
    }
    while (at < end && byte_class[*at] == BYTE_PLAIN) {
        at++;
    }
    return at;
}

static bool
is_continuation(uint8_t byte)
{
    return (byte & 0xC0) == 0x80;
}

/* Length of the well-formed character at AT (Unicode table 3-7), which is not ASCII; else 0. */
static size_t
utf8_len(const uint8_t *at, const uint8_t *end)
{
    const size_t left = (size_t)(end - at);

    switch ((enum byte_class)byte_class[at[0]]) {
    case BYTE_LEAD2:
        return left >= 2 && is_continuation(at[1]) ? 2 : 0;
    case BYTE_LEAD3:
        if (left < 3 || !is_continuation(at[1]) || !is_continuation(at[2]) ||
            (at[0] == 0xE0 && at[1] < 0xA0) ||  /* overlong */
            (at[0] == 0xED && at[1] >= 0xA0)) { /* surrogate */
            return 0;
        }
        return 3;
    case BYTE_LEAD4:
        if (left < 4 || !is_continuation(at[1]) || !is_continuation(at[2]) ||
            !is_continuation(at[3]) || (at[0] == 0xF0 && at[1] < 0x90) || /* overlong */
            (at[0] == 0xF4 && at[1] >= 0x90)) {                           /* above U+10FFFF */
            return 0;
        }
        return 4;
    case BYTE_PLAIN:
    case BYTE_QUOTE:
    case BYTE_BACKSLASH:
    case BYTE_CONTROL:
    case BYTE_BAD:
        break;
    }
    return 0;
}

bool
json_is_utf8(struct span text)
{
    const uint8_t *at = (const uint8_t *)text.data;
    size_t left = text.len;

    while (left > 0) {
        const size_t len = at[0] < 0x80 ? 1 : utf8_len(at, at + left);

        if (len == 0) {
            return false;
        }
        at += len;
        left -= len;
    }
    return true;
}

static int
hex_digit(uint8_t byte)
{
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* The four hex digits at AT as a number, or -1. */
static int32_t
hex4(const uint8_t *at, const uint8_t *end)
{
    int32_t value = 0;

    if (end - at < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(at[i]);

        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    return value;
}

static bool
is_high_surrogate(int32_t unit)
{
    return unit >= 0xD800 && unit <= 0xDBFF;
}

static bool
is_low_surrogate(int32_t unit)
{
    return unit >= 0xDC00 && unit <= 0xDFFF;
}

/* Checks the escape at scanner->at and steps over it. */
static bool
scan_escape(struct scanner *scanner)
{
    const uint8_t *at = scanner->at;
    int32_t unit;

    if (at + 1 == scanner->end) {
        return fail(scanner, scanner->end, "");
    }
    if (at[1] != 'u') {
        if (at[1] == 0 || strchr("\"\\/bfnrt", at[1]) == NULL) {
            return fail(scanner, at, "an escape that JSON does not have");
        }
        scanner->at += 2;
        return true;
    }
    unit = hex4(at + 2, scanner->end);
    if (unit < 0) {
        return fail(scanner, at, "\\u needs four hex digits");
    }
    scanner->at += 6;
    if (is_low_surrogate(unit)) {
        return fail(scanner, at, "an escaped low surrogate without a high one before it");
    }
    if (is_high_surrogate(unit)) {
        if (scanner->end - scanner->at < 6 || scanner->at[0] != '\\' || scanner->at[1] != 'u' ||
            !is_low_surrogate(hex4(scanner->at + 2, scanner->end))) {
            return fail(scanner, at, "an escaped high surrogate without a low one after it");
        }
        scanner->at += 6;
    }
    return true;
}

/* Steps over the string whose opening quote is at scanner->at. */
static bool
scan_string(struct scanner *scanner, bool *escaped_out)
{
    bool escaped = false;

    scanner->at++;
    for (;;) {
        size_t len;

        scanner->at = skip_plain(scanner->at, scanner->end);
        if (scanner->at == scanner->end) {
            return fail(scanner, scanner->end, "");
        }
        switch ((enum byte_class)byte_class[*scanner->at]) {
        case BYTE_QUOTE:
            scanner->at++;
            *escaped_out = escaped;
            return true;
        case BYTE_BACKSLASH:
            escaped = true;
            if (!scan_escape(scanner)) {
                return false;
            }
            break;
        case BYTE_CONTROL:
            return fail(scanner, scanner->at, "a control character in a string must be escaped");
        case BYTE_LEAD2:
        case BYTE_LEAD3:
        case BYTE_LEAD4:
        case BYTE_BAD:
            do { /* text of other scripts is a run of such characters */
                len = utf8_len(scanner->at, scanner->end);
                if (len == 0) {
                    return fail(scanner, scanner->at, "bytes that are not valid UTF-8");
                }
                scanner->at += len;
            } while (scanner->at < scanner->end && *scanner->at >= 0x80);
            break;
        case BYTE_PLAIN:
            break; /* not after skip_plain() */
        }
    }
}

/* Writes the UTF-8 of CODE and returns its length. */
static size_t
put_utf8(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

/* Decodes the checked escape at *AT, steps over it and returns how many bytes it wrote, 1 to 4. */
static size_t
take_escape(const uint8_t **at, const uint8_t *end, char out[4])
{
    static const char letters[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    const uint8_t *escape = *at;
    int32_t unit;
    int32_t low;

    ASSERT(end - escape >= 2);
    if (escape[1] != 'u') {
        const char *letter = strchr(letters, escape[1]);

        ASSERT(letter != NULL);
        out[0] = meanings[letter - letters];
        *at += 2;
        return 1;
    }
    unit = hex4(escape + 2, end);
    ASSERT(unit >= 0);
    *at += 6;
    if (!is_high_surrogate(unit)) {
        return put_utf8((uint32_t)unit, out);
    }
    ASSERT(end - escape >= 12);
    low = hex4(escape + 8, end);
    ASSERT(is_low_surrogate(low));
    *at += 6;
    return put_utf8(0x10000 + ((uint32_t)(unit - 0xD800) << 10) + (uint32_t)(low - 0xDC00), out);
}

size_t
json_unescape(struct span content, char *out)
{
    const uint8_t *at = (const uint8_t *)content.data;
    const uint8_t *end = at + content.len;
    size_t len = 0;

    while (at < end) {
        if (*at == '\\') {
            char bytes[4];
            size_t count = take_escape(&at, end, bytes);

            memcpy(out + len, bytes, count);
            len += count;
        } else {
            out[len++] = (char)*at++;
        }
    }
    return len;
}

/* The bytes a string's content stands for, one at a time. */
struct byte_reader {
    const uint8_t *at;
    const uint8_t *end;
    char pending[4]; /* of the last escape */
    size_t pending_len;
    size_t pending_read;
};

static struct byte_reader
byte_reader_of(struct span content)
{
    const uint8_t *at = (const uint8_t *)content.data;

    return (struct byte_reader){.at = at, .end = at + content.len};
}

/* The next byte, or -1 at the end. */
static int
next_byte(struct byte_reader *reader)
{
    if (reader->pending_read < reader->pending_len) {
        return (uint8_t)reader->pending[reader->pending_read++];
    }
    if (reader->at == reader->end) {
        return -1;
    }
    if (*reader->at != '\\') {
        return *reader->at++;
    }
    reader->pending_len = take_escape(&reader->at, reader->end, reader->pending);
    reader->pending_read = 1;
    return (uint8_t)reader->pending[0];
}

bool
json_content_is(struct span content, bool escaped, struct span text)
{
    struct byte_reader reader;

    if (!escaped) {
        return span_equal(content, text);
    }
    reader = byte_reader_of(content);
    for (size_t i = 0; i < text.len; i++) {
        if (next_byte(&reader) != (uint8_t)text.data[i]) {
            return false;
        }
    }
    return next_byte(&reader) < 0;
}

/* ---- names ---- */

static int
compare_content(const struct name *a, const struct name *b)
{
    struct byte_reader left;
    struct byte_reader right;

    if (!a->escaped && !b->escaped) {
        const size_t len = a->len < b->len ? a->len : b->len;
        const int order = memcmp(a->data, b->data, len);

        if (order != 0) {
            return order;
        }
        return (a->len > b->len) - (a->len < b->len);
    }
    left = byte_reader_of((struct span){a->data, a->len});
    right = byte_reader_of((struct span){b->data, b->len});
    for (;;) {
        const int x = next_byte(&left);
        const int y = next_byte(&right);

        if (x != y) {
            return x < y ? -1 : 1;
        }
        if (x < 0) {
            return 0;
        }
    }
}

/* Orders names by prefix, then by what they stand for; equal ones in the order they came. */
static int
compare_names(const void *left, const void *right)
{
    const struct name *a = left;
    const struct name *b = right;
    int order;

    if (a->prefix != b->prefix) {
        return a->prefix < b->prefix ? -1 : 1;
    }
    order = compare_content(a, b);
    if (order != 0) {
        return order;
    }
    return (a->data > b->data) - (a->data < b->data);
}

static uint64_t
name_prefix(const struct scanner *scanner, struct span content, bool escaped)
{
    struct byte_reader reader;
    uint64_t prefix = 0;

    if (!escaped && content.len > 0 && scanner->end - (const uint8_t *)content.data >= 8) {
        memcpy(&prefix, content.data, sizeof(prefix));
        return content.len >= 8 ? prefix : prefix & ((UINT64_C(1) << content.len * 8) - 1);
    }
    reader = byte_reader_of(content);
    for (unsigned shift = 0; shift < 64; shift += 8) {
        const int byte = next_byte(&reader);

        if (byte < 0) {
            break;
        }
        prefix |= (uint64_t)byte << shift;
    }
    return prefix;
}

static bool
reserve_name(struct scanner *scanner)
{
    const size_t capacity = scanner->name_capacity * 2;
    struct name *names;

    if (scanner->name_count < scanner->name_capacity) {
        return true;
    }
    names = malloc(capacity * sizeof(*names));
    if (names == NULL) {
        return false; /* without an error text: ERR_NO_MEMORY */
    }
    memcpy(names, scanner->names, scanner->name_count * sizeof(*names));
    if (scanner->names != scanner->inline_names) {
        free(scanner->names);
    }
    scanner->names = names;
    scanner->name_capacity = capacity;
    return true;
}

static const char repeated_name[] = "a member name that the object already has";

/* Adds a name to the innermost object, whose first is number BASE. */
static bool
add_name(struct scanner *scanner, size_t base, struct span content, bool escaped)
{
    const uint8_t *quote = (const uint8_t *)content.data - 1;
    struct name name;

    if (content.len > UINT32_MAX) {
        return fail(scanner, quote, "a member name of 4 GiB or more");
    }
    if (!reserve_name(scanner)) {
        return false;
    }
    name.prefix = name_prefix(scanner, content, escaped);
    name.data = content.data;
    name.len = narrow_u32(content.len);
    name.escaped = escaped;
    if (scanner->name_count - base < NAMES_LINEAR) {
        for (size_t i = base; i < scanner->name_count; i++) {
            if (scanner->names[i].prefix == name.prefix &&
                compare_content(&scanner->names[i], &name) == 0) {
                return fail(scanner, quote, repeated_name);
            }
        }
    }
    scanner->names[scanner->name_count++] = name;
    return true;
}

/* Ends the innermost object: a large one is only now searched for repeated names. */
static bool
drop_names(struct scanner *scanner, size_t base)
{
    struct name *names = scanner->names + base;
    const size_t count = scanner->name_count - base;

    scanner->name_count = base;
    if (count <= NAMES_LINEAR) {
        return true;
    }
    qsort(names, count, sizeof(*names), compare_names);
    for (size_t i = 1; i < count; i++) {
        if (names[i].prefix == names[i - 1].prefix &&
            compare_content(&names[i], &names[i - 1]) == 0) {
            return fail(scanner, (const uint8_t *)names[i].data - 1, repeated_name);
        }
    }
    return true;
}

/* ---- numbers ---- */

static bool
is_digit(const uint8_t *at, const uint8_t *end)
{
    return at < end && *at >= '0' && *at <= '9';
}

static const uint8_t *
skip_digits(const uint8_t *at, const uint8_t *end)
{
    while (is_digit(at, end)) {
        at++;
    }
    return at;
}

/* Steps over the number at scanner->at. */
static bool
scan_number(struct scanner *scanner)
{
    const uint8_t *start = scanner->at;
    const uint8_t *end = scanner->end;
    const uint8_t *at = start;
    ptrdiff_t exponent_digits = 0;
    double value;

    at += *at == '-' ? 1 : 0;
    if (!is_digit(at, end)) {
        return fail(scanner, at, "a digit is expected");
    }
    if (*at == '0' && is_digit(at + 1, end)) {
        return fail(scanner, at, "a number must not have leading zeros");
    }
    at = skip_digits(at, end);
    if (at < end && *at == '.') {
        at++;
        if (!is_digit(at, end)) {
            return fail(scanner, at, "a digit is expected after the decimal point");
        }
        at = skip_digits(at, end);
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        const uint8_t *digits = at + 1;

        digits += digits < end && (*digits == '+' || *digits == '-') ? 1 : 0;
        if (!is_digit(digits, end)) {
            return fail(scanner, digits, "a digit is expected in the exponent");
        }
        at = skip_digits(digits, end);
        exponent_digits = at - digits;
    }
    if ((at - start > NUMBER_SAFE_LEN || exponent_digits > 2) &&
        json_double(span_between(start, at), &value) != ERR_OK) {
        return fail(scanner, start, "a number beyond the range of a double");
    }
    scanner->at = at;
    return true;
}

enum err
json_integer(struct span number, int64_t *out)
{
    const bool negative = number.data[0] == '-';
    uint64_t magnitude = 0;
    bool too_big = false;

    for (size_t i = negative ? 1 : 0; i < number.len; i++) {
        const char c = number.data[i];

        if (c < '0' || c > '9') {
            return ERR_INVALID;
        }
        too_big = too_big || magnitude > (UINT64_MAX - 9) / 10;
        if (!too_big) {
            magnitude = magnitude * 10 + (uint64_t)(c - '0');
        }
    }
    if (too_big || magnitude > (uint64_t)INT64_MAX + (negative ? 1 : 0)) {
        return ERR_TOO_BIG;
    }
    *out = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return ERR_OK;
}

/* A number as digits times ten to an exponent. */
struct decimal {
    bool negative;
    bool sticky;      /* digits that were left out are not all zero */
    size_t count;     /* significant digits, without leading zeros */
    int64_t exponent; /* of the last digit */
    uint64_t leading; /* the first 19 of them as an integer */
    char digits[DOUBLE_DIGITS_MAX];
};

/* The exponent after "e", clamped far outside of any double but far inside of int64_t. */
static int64_t
take_exponent(const uint8_t *at, const uint8_t *end)
{
    const int64_t clamp = INT64_C(1000000000000000);
    const bool negative = *at == '-';
    int64_t value = 0;

    at += *at == '-' || *at == '+' ? 1 : 0;
    for (; at < end; at++) {
        if (value < clamp) {
            value = value * 10 + (*at - '0');
        }
    }
    return negative ? -value : value;
}

static void
decimal_add_digit(struct decimal *decimal, uint8_t digit, bool fraction)
{
    if (decimal->count == DOUBLE_DIGITS_MAX) {
        decimal->sticky = decimal->sticky || digit != '0';
        decimal->exponent += fraction ? 0 : 1;
        return;
    }
    decimal->exponent -= fraction ? 1 : 0;
    if (decimal->count == 0 && digit == '0') {
        return;
    }
    if (decimal->count < 19) {
        decimal->leading = decimal->leading * 10 + (uint64_t)(digit - '0');
    }
    decimal->digits[decimal->count++] = (char)digit;
}

static void
decimal_read(struct decimal *decimal, struct span number)
{
    const uint8_t *at = (const uint8_t *)number.data;
    const uint8_t *end = at + number.len;
    bool fraction = false;

    decimal->negative = *at == '-';
    decimal->sticky = false;
    decimal->count = 0;
    decimal->exponent = 0;
    decimal->leading = 0;
    for (at += decimal->negative ? 1 : 0; at < end; at++) {
        if (*at == '.') {
            fraction = true;
        } else if (*at == 'e' || *at == 'E') {
            decimal->exponent += take_exponent(at + 1, end);
            break;
        } else {
            decimal_add_digit(decimal, *at, fraction);
        }
    }
}

/* The general case, rounded by the C library. Only digits and "e" go in, so no locale matters. */
static double
decimal_round(const struct decimal *decimal)
{
    char text[DOUBLE_DIGITS_MAX + 32];
    int64_t exponent = decimal->exponent;
    size_t len = decimal->count;

    memcpy(text, decimal->digits, len);
    if (decimal->sticky) {
        text[len++] = '1'; /* whatever was left out, it only matters that it is not zero */
        exponent--;
    }
    exponent = exponent > 99999 ? 99999 : exponent < -99999 ? -99999 : exponent;
    text[len++] = 'e';
    text[len++] = exponent < 0 ? '-' : '+';
    exponent = exponent < 0 ? -exponent : exponent;
    for (int64_t unit = 10000; unit > 0; unit /= 10) {
        text[len++] = (char)('0' + exponent / unit % 10);
    }
    text[len] = 0;
    return strtod(text, NULL);
}

enum err
json_double(struct span number, double *out)
{
    /* Powers of ten that a double holds exactly; see W. D. Clinger, "How to Read Floating Point
     * Numbers Accurately", 1990: one rounding of two exact operands is the nearest double. */
    static const double power[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                   1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                   1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const int64_t power_max = (int64_t)ARRAY_LEN(power) - 1;
    struct decimal decimal;
    double value;

    decimal_read(&decimal, number);
    if (decimal.count == 0) {
        value = 0;
    } else if (decimal.count <= 19 && decimal.leading <= UINT64_C(1) << 53 &&
               decimal.exponent >= -power_max && decimal.exponent <= power_max) {
        value = (double)decimal.leading;
        value = decimal.exponent < 0 ? value / power[-decimal.exponent]
                                     : value * power[decimal.exponent];
    } else {
        value = decimal_round(&decimal);
    }
    if (!isfinite(value)) {
        return ERR_TOO_BIG;
    }
    *out = decimal.negative ? -value : value;
    return ERR_OK;
}

/* ---- values ---- */

static bool
is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t';
}

static const uint8_t *
skip_space(const uint8_t *at, const uint8_t *end)
{
    while (at < end && is_space(*at)) {
        at++;
    }
    return at;
}

/* The next byte that is not space, where scanner->at then stands, or -1 at the end. */
static int
peek(struct scanner *scanner)
{
    scanner->at = skip_space(scanner->at, scanner->end);
    return scanner->at < scanner->end ? *scanner->at : -1;
}

static bool
scan_literal(struct scanner *scanner, struct span literal)
{
    if ((size_t)(scanner->end - scanner->at) < literal.len ||
        memcmp(scanner->at, literal.data, literal.len) != 0) {
        return fail(scanner, scanner->at, "a value is expected");
    }
    scanner->at += literal.len;
    return true;
}

static bool
scan_member(struct scanner *scanner, size_t names_base)
{
    struct json_member member;
    const uint8_t *name;

    if (peek(scanner) != '"') {
        return fail(scanner, scanner->at, "a member name in double quotes is expected");
    }
    name = scanner->at + 1;
    if (!scan_string(scanner, &member.name_escaped)) {
        return false;
    }
    member.name = span_between(name, scanner->at - 1);
    if (!add_name(scanner, names_base, member.name, member.name_escaped)) {
        return false;
    }
    if (peek(scanner) != ':') {
        return fail(scanner, scanner->at, "a colon is expected");
    }
    scanner->at++;
    if (!scan_value(scanner, &member.value)) {
        return false;
    }
    if (scanner->depth == 1) {
        if (scanner->out->member_count < JSON_MEMBERS_KEPT) {
            scanner->out->members[scanner->out->member_count] = member;
        }
        scanner->out->member_count++;
    }
    return true;
}

static bool
scan_object(struct scanner *scanner)
{
    const size_t names_base = scanner->name_count;

    scanner->at++;
    if (peek(scanner) == '}') {
        scanner->at++;
        return true;
    }
    for (;;) {
        if (!scan_member(scanner, names_base)) {
            return false;
        }
        switch (peek(scanner)) {
        case ',':
            scanner->at++;
            break;
        case '}':
            scanner->at++;
            return drop_names(scanner, names_base);
        default:
            return fail(scanner, scanner->at, "a comma or the end of the object is expected");
        }
    }
}

static bool
scan_array(struct scanner *scanner)
{
    struct json_value element;

    scanner->at++;
    if (peek(scanner) == ']') {
        scanner->at++;
        return true;
    }
    for (;;) {
        if (!scan_value(scanner, &element)) {
            return false;
        }
        switch (peek(scanner)) {
        case ',':
            scanner->at++;
            break;
        case ']':
            scanner->at++;
            return true;
        default:
            return fail(scanner, scanner->at, "a comma or the end of the array is expected");
        }
    }
}

static bool
scan_nested(struct scanner *scanner, bool (*scan)(struct scanner *scanner))
{
    bool good;

    if (scanner->depth == scanner->depth_max) {
        return fail(scanner, scanner->at, "nested too deeply");
    }
    scanner->depth++;
    good = scan(scanner);
    scanner->depth--;
    return good;
}

/* Steps over the value at scanner->at and the space before it. */
static bool
scan_value(struct scanner *scanner, struct json_value *out)
{
    const uint8_t *start = scanner->at = skip_space(scanner->at, scanner->end);
    bool good;

    if (start == scanner->end) {
        return fail(scanner, start, "");
    }
    out->escaped = false;
    switch (*start) {
    case '"':
        out->type = JSON_STRING;
        good = scan_string(scanner, &out->escaped);
        break;
    case '{':
        out->type = JSON_OBJECT;
        good = scan_nested(scanner, scan_object);
        break;
    case '[':
        out->type = JSON_ARRAY;
        good = scan_nested(scanner, scan_array);
        break;
    case 't':
        out->type = JSON_BOOL;
        good = scan_literal(scanner, SPAN_LITERAL("true"));
        break;
    case 'f':
        out->type = JSON_BOOL;
        good = scan_literal(scanner, SPAN_LITERAL("false"));
        break;
    case 'n':
        out->type = JSON_NULL;
        good = scan_literal(scanner, SPAN_LITERAL("null"));
        break;
    default:
        if (*start != '-' && !is_digit(start, scanner->end)) {
            return fail(scanner, start, "a value is expected");
        }
        out->type = JSON_NUMBER;
        good = scan_number(scanner);
        break;
    }
    out->raw = span_between(start, scanner->at);
    return good;
}

static bool
scan_text(struct scanner *scanner)
{
    const size_t len = (size_t)(scanner->end - scanner->start);

    if (len >= 3 && memcmp(scanner->start, "\xEF\xBB\xBF", 3) == 0) {
        return fail(scanner, scanner->start, "a byte order mark is not allowed");
    }
    if (!scan_value(scanner, &scanner->out->value)) {
        return false;
    }
    scanner->at = skip_space(scanner->at, scanner->end);
    if (scanner->at != scanner->end) {
        return fail(scanner, scanner->at, "something follows the end of the value");
    }
    return true;
}

enum err
json_scan(struct span bytes, uint32_t depth_max, struct json_text *out, struct json_error *error)
{
    const uint8_t *start = bytes.data == NULL ? (const uint8_t *)"" : (const uint8_t *)bytes.data;
    struct scanner scanner;
    bool good;

    ASSERT(depth_max >= 1);
    ASSERT(depth_max <= JSON_DEPTH_LIMIT);
    scanner.at = start; /* field by field: the inline names need no clearing */
    scanner.start = start;
    scanner.end = start + bytes.len;
    scanner.depth = 0;
    scanner.depth_max = depth_max;
    scanner.out = out;
    scanner.error = NULL;
    scanner.error_at = start;
    scanner.names = scanner.inline_names;
    scanner.name_count = 0;
    scanner.name_capacity = NAMES_INLINE;
    out->member_count = 0;

    good = scan_text(&scanner);
    if (scanner.names != scanner.inline_names) {
        free(scanner.names);
    }
    if (good) {
        return ERR_OK;
    }
    if (scanner.error == NULL) {
        return ERR_NO_MEMORY;
    }
    error->text = scanner.error;
    error->offset = (size_t)(scanner.error_at - start);
    return ERR_INVALID;
}

/* ---- walking over what has been checked ---- */

/* Steps over a checked string; *ESCAPED_OUT tells whether it holds escapes. */
static const uint8_t *
walk_string(const uint8_t *at, const uint8_t *end, bool *escaped_out)
{
    *escaped_out = false;
    for (at++; at < end && *at != '"'; at++) {
        if (*at == '\\') {
            *escaped_out = true;
            at++;
        }
    }
    ASSERT(at < end);
    return at + 1;
}

static const uint8_t *
walk_nested(const uint8_t *at, const uint8_t *end)
{
    size_t depth = 0;
    bool escaped;

    while (at < end) {
        switch (*at) {
        case '"':
            at = walk_string(at, end, &escaped);
            continue;
        case '{':
        case '[':
            depth++;
            break;
        case '}':
        case ']':
            depth--;
            if (depth == 0) {
                return at + 1;
            }
            break;
        default:
            break;
        }
        at++;
    }
    ASSERT(depth == 0);
    return at;
}

static const uint8_t *
walk_value(const uint8_t *at, const uint8_t *end, struct json_value *out)
{
    const uint8_t *start = at;

    ASSERT(at < end);
    out->escaped = false;
    switch (*at) {
    case '"':
        out->type = JSON_STRING;
        at = walk_string(at, end, &out->escaped);
        break;
    case '{':
        out->type = JSON_OBJECT;
        at = walk_nested(at, end);
        break;
    case '[':
        out->type = JSON_ARRAY;
        at = walk_nested(at, end);
        break;
    case 'n':
        out->type = JSON_NULL;
        at += 4;
        break;
    case 't':
        out->type = JSON_BOOL;
        at += 4;
        break;
    case 'f':
        out->type = JSON_BOOL;
        at += 5;
        break;
    default:
        out->type = JSON_NUMBER;
        while (at < end && !is_space(*at) && *at != ',' && *at != ']' && *at != '}') {
            at++;
        }
        break;
    }
    out->raw = span_between(start, at);
    return at;
}

/* Steps over the opening bracket, the comma and the space before the next item. */
static const uint8_t *
walk_to_item(struct span nested, size_t offset)
{
    const uint8_t *at = (const uint8_t *)nested.data + offset;
    const uint8_t *end = (const uint8_t *)nested.data + nested.len;

    at += offset == 0 ? 1 : 0;
    at = skip_space(at, end);
    if (at < end && *at == ',') {
        at = skip_space(at + 1, end);
    }
    ASSERT(at < end);
    return at;
}

bool
json_member_next(struct span object, size_t *offset, struct json_member *out)
{
    const uint8_t *start = (const uint8_t *)object.data;
    const uint8_t *end = start + object.len;
    const uint8_t *at = walk_to_item(object, *offset);
    const uint8_t *name = at + 1;

    if (*at == '}') {
        return false;
    }
    at = walk_string(at, end, &out->name_escaped);
    out->name = span_between(name, at - 1);
    at = skip_space(at, end); /* to the colon */
    at = skip_space(at + 1, end);
    at = walk_value(at, end, &out->value);
    *offset = (size_t)(at - start);
    return true;
}

bool
json_element_next(struct span array, size_t *offset, struct json_value *out)
{
    const uint8_t *start = (const uint8_t *)array.data;
    const uint8_t *at = walk_to_item(array, *offset);

    if (*at == ']') {
        return false;
    }
    at = walk_value(at, start + array.len, out);
    *offset = (size_t)(at - start);
    return true;
}

bool
json_text_next(const struct json_text *text, struct json_walk *walk, struct json_member *out)
{
    const char *start = text->value.raw.data;

    if (walk->index == text->member_count) {
        return false;
    }
    if (walk->index >= JSON_MEMBERS_KEPT) {
        walk->index++;
        return json_member_next(text->value.raw, &walk->offset, out);
    }
    *out = text->members[walk->index++];
    walk->offset = (size_t)(out->value.raw.data + out->value.raw.len - start);
    return true;
}
