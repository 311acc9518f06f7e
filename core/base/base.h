/*
 * base.h - the few words every file uses: checked results, asserts, borrowed bytes, narrowing.
 *
 * ASSERT states what only a bug of ours could break and stays on in every build: a server that
 * keeps a log must rather stop than go on with a broken invariant. Input never reaches one.
 */
#ifndef SLUICE_CORE_BASE_H
#define SLUICE_CORE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))
#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))

#define ASSERT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            assert_failed(__FILE__, __LINE__, #condition);                                         \
        }                                                                                          \
    } while (0)

/* Prints the place and the broken condition on stderr and aborts. Any thread. */
_Noreturn void assert_failed(const char *file, int line, const char *condition);

/* Bytes somebody else owns; not NUL-terminated. data == NULL means "absent", len is then 0. */
struct span {
    const char *data;
    size_t len;
};

#define SPAN_LITERAL(text) ((struct span){(text), sizeof(text) - 1})

static inline struct span
span_of(const char *text)
{
    return (struct span){text, text == NULL ? 0 : strlen(text)};
}

static inline bool
span_equal(struct span a, struct span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool
span_is(struct span a, const char *text)
{
    return span_equal(a, span_of(text));
}

/* FNV-1a over two strings, each with its length before it: for tables of (tenant, name). Any
 * thread. */
uint64_t span_pair_hash(struct span first, struct span second);

/* Narrowing that cannot lose bits unseen: in a log nearly every integer is a length or a position.
 */
static inline uint32_t
narrow_u32(uint64_t value)
{
    ASSERT(value <= UINT32_MAX);
    return (uint32_t)value;
}

static inline uint16_t
narrow_u16(uint64_t value)
{
    ASSERT(value <= UINT16_MAX);
    return (uint16_t)value;
}

static inline uint8_t
narrow_u8(uint64_t value)
{
    ASSERT(value <= UINT8_MAX);
    return (uint8_t)value;
}

#endif
