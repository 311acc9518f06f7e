/*
 * user_set.c - distinct users. All integers little-endian:
 *
 *   0  u8   version = 1
 *   1  u8   kind: 0 exact, 1 sketch, 2 thin sketch
 *   2  exact:  u16 count (at most USER_SET_EXACT_MAX), then the hashes, u64 each, ascending
 *      sketch: 65536 registers of one byte, each at most RANK_MAX
 *      thin:   u16 count (at most THIN_MAX), then per register that is not 0, ascending, u16 which
 *              and u8 its content; a sketch has this form whenever it is the shorter one
 *
 * The sketch: the low 16 bits of a hash choose the register, which keeps the largest rank (position
 * of the lowest set bit) of the other 48. The estimator is that of O. Ertl, "New cardinality
 * estimation algorithms for HyperLogLog sketches" (2017), which needs no correction tables and has
 * no bad range between few and many.
 */
#include "core/counts/user_set.h"

#include <math.h>
#include <stdlib.h>

#include "core/base/bytes.h"

enum {
    SET_VERSION = 1,
    KIND_EXACT = 0,
    KIND_SKETCH = 1,
    KIND_THIN = 2,
    HEADER_SIZE = 2,
    EXACT_HEADER_SIZE = HEADER_SIZE + 2,
    THIN_ENTRY_SIZE = 3,
    THIN_MAX = (USER_SET_REGISTERS - 2) / THIN_ENTRY_SIZE,
    TABLE_SIZE_FIRST = 16,
    RANK_BITS = 64 - USER_SET_REGISTER_BITS,
    RANK_MAX = RANK_BITS + 1,
};

/* Registers that no users ever filled can stand for any number, also for one beyond 64 bits. */
#define ESTIMATE_MAX 1e18

_Static_assert(USER_SET_EXACT_MAX <= UINT16_MAX, "the count of an exact set is 16 bits");

uint64_t
user_hash(struct span user_id)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ user_id.len;

    for (size_t i = 0; i < user_id.len; i++) {
        hash = (hash ^ (uint8_t)user_id.data[i]) * UINT64_C(0x100000001b3);
    }
    /* FNV-1a alone leaves its high bits poor; these steps let every bit depend on every other. */
    hash = (hash ^ hash >> 33) * UINT64_C(0xff51afd7ed558ccd);
    hash = (hash ^ hash >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    hash ^= hash >> 33;
    return hash == 0 ? 1 : hash;
}

void
user_set_clear(struct user_set *set)
{
    free(set->table);
    free(set->registers);
    *set = (struct user_set){0};
}

/* Without a branch: whether a register rises is chance, and a wrong guess is dearer than a store.
 */
static void
note_rank(uint8_t *registers, uint64_t hash)
{
    size_t at = hash & (USER_SET_REGISTERS - 1);
    uint64_t rest = hash >> USER_SET_REGISTER_BITS | UINT64_C(1) << RANK_BITS;
    uint8_t rank = (uint8_t)(__builtin_ctzll(rest) + 1);
    uint8_t own = registers[at];

    registers[at] = rank > own ? rank : own;
}

static enum err
become_sketch(struct user_set *set)
{
    uint8_t *registers;

    if (set->registers != NULL) {
        return ERR_OK;
    }
    registers = calloc(USER_SET_REGISTERS, 1);
    if (registers == NULL) {
        return ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < set->table_size; i++) {
        if (set->table[i] != 0) {
            note_rank(registers, set->table[i]);
        }
    }
    user_set_clear(set);
    set->registers = registers;
    return ERR_OK;
}

/* The place of HASH: its own, or the free one where it belongs. The low bits are as good as any. */
static uint32_t
table_slot(const uint64_t *table, uint32_t size, uint64_t hash)
{
    uint32_t slot = (uint32_t)(hash >> 32) & (size - 1);

    while (table[slot] != 0 && table[slot] != hash) {
        slot = (slot + 1) & (size - 1);
    }
    return slot;
}

static enum err
grow_table(struct user_set *set)
{
    uint32_t size = set->table_size == 0 ? TABLE_SIZE_FIRST : set->table_size * 2;
    uint64_t *table = calloc(size, sizeof(*table));

    if (table == NULL) {
        return ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < set->table_size; i++) {
        if (set->table[i] != 0) {
            table[table_slot(table, size, set->table[i])] = set->table[i];
        }
    }
    free(set->table);
    set->table = table;
    set->table_size = size;
    return ERR_OK;
}

enum err
user_set_add(struct user_set *set, uint64_t hash)
{
    uint32_t slot;

    ASSERT(hash != 0);
    if (set->registers != NULL) {
        note_rank(set->registers, hash);
        return ERR_OK;
    }
    if ((set->len + 1) * 2 > set->table_size) {
        enum err err = grow_table(set);

        if (err != ERR_OK) {
            return err;
        }
    }
    slot = table_slot(set->table, set->table_size, hash);
    if (set->table[slot] == hash) {
        return ERR_OK;
    }
    if (set->len == USER_SET_EXACT_MAX) {
        enum err err = become_sketch(set);

        if (err == ERR_OK) {
            note_rank(set->registers, hash);
        }
        return err;
    }
    set->table[slot] = hash;
    set->len++;
    return ERR_OK;
}

static void
raise_registers(uint8_t *into, const uint8_t *from)
{
    for (size_t i = 0; i < USER_SET_REGISTERS; i++) {
        into[i] = from[i] > into[i] ? from[i] : into[i];
    }
}

static enum err
union_registers(struct user_set *into, const uint8_t *from)
{
    enum err err = become_sketch(into);

    if (err == ERR_OK) {
        raise_registers(into->registers, from);
    }
    return err;
}

enum err
user_set_union(struct user_set *into, const struct user_set *from)
{
    ASSERT(into != from);
    if (from->registers != NULL) {
        return union_registers(into, from->registers);
    }
    for (uint32_t i = 0; i < from->table_size; i++) {
        if (from->table[i] != 0) {
            enum err err = user_set_add(into, from->table[i]);

            if (err != ERR_OK) {
                return err;
            }
        }
    }
    return ERR_OK;
}

/* ---- the estimate ---- */

static double
sigma(double x)
{
    double y = 1;
    double z = x;
    double before;

    if (x >= 1) {
        return INFINITY;
    }
    do {
        x *= x;
        before = z;
        z += x * y;
        y += y;
    } while (z > before);
    return z;
}

static double
tau(double x)
{
    double y = 1;
    double z = 1 - x;
    double before;

    if (x <= 0 || x >= 1) {
        return 0;
    }
    do {
        x = sqrt(x);
        before = z;
        y *= 0.5;
        z -= (1 - x) * (1 - x) * y;
    } while (z < before);
    return z / 3;
}

/* Four histograms, since equal neighbours would otherwise wait for each other's increment. */
static void
count_ranks(const uint8_t *registers, uint32_t counts[RANK_MAX + 1])
{
    uint32_t part[4][RANK_MAX + 1] = {{0}};

    for (size_t i = 0; i < USER_SET_REGISTERS; i += 4) {
        part[0][registers[i]]++;
        part[1][registers[i + 1]]++;
        part[2][registers[i + 2]]++;
        part[3][registers[i + 3]]++;
    }
    for (size_t rank = 0; rank <= RANK_MAX; rank++) {
        counts[rank] = part[0][rank] + part[1][rank] + part[2][rank] + part[3][rank];
    }
}

uint64_t
user_set_count(const struct user_set *set)
{
    const double m = USER_SET_REGISTERS;
    uint32_t counts[RANK_MAX + 1];
    double estimate;
    double sum;

    if (set->registers == NULL) {
        return set->len;
    }
    count_ranks(set->registers, counts);
    sum = m * tau(1 - counts[RANK_MAX] / m);
    for (int rank = RANK_BITS; rank >= 1; rank--) {
        sum = 0.5 * (sum + counts[rank]);
    }
    sum += m * sigma(counts[0] / m);
    estimate = m * m / (2 * log(2) * sum) + 0.5;
    return estimate < ESTIMATE_MAX ? (uint64_t)estimate : (uint64_t)ESTIMATE_MAX;
}

/* ---- bytes ---- */

static int
compare_hashes(const void *left, const void *right)
{
    uint64_t a;
    uint64_t b;

    memcpy(&a, left, sizeof(a));
    memcpy(&b, right, sizeof(b));
    return a < b ? -1 : a > b;
}

static void
encode_exact(const struct user_set *set, struct buffer *out)
{
    uint8_t raw[8];
    uint64_t *sorted = malloc((set->len + 1) * sizeof(*sorted));
    size_t len = 0;

    if (sorted == NULL) {
        out->failed = true;
        return;
    }
    for (uint32_t i = 0; i < set->table_size; i++) {
        if (set->table[i] != 0) {
            sorted[len++] = set->table[i];
        }
    }
    ASSERT(len == set->len);
    qsort(sorted, len, sizeof(*sorted), compare_hashes);
    put_u16(raw, narrow_u16(len));
    buffer_append(out, raw, 2);
    for (size_t i = 0; i < len; i++) {
        put_u64(raw, sorted[i]);
        buffer_append(out, raw, sizeof(raw));
    }
    free(sorted);
}

/* False when the long form is the shorter one. */
static bool
encode_thin(const struct user_set *set, struct buffer *out)
{
    size_t start = out->len;
    size_t count = 0;
    uint8_t raw[THIN_ENTRY_SIZE];

    for (size_t i = 0; i < USER_SET_REGISTERS; i++) {
        count += set->registers[i] != 0 ? 1 : 0;
    }
    if (count > THIN_MAX || buffer_reserve(out, 3 + count * THIN_ENTRY_SIZE) != ERR_OK) {
        return count <= THIN_MAX;
    }
    buffer_append_char(out, KIND_THIN);
    put_u16(raw, narrow_u16(count));
    buffer_append(out, raw, 2);
    for (size_t i = 0; i < USER_SET_REGISTERS; i++) {
        if (set->registers[i] != 0) {
            put_u16(raw, narrow_u16(i));
            raw[2] = set->registers[i];
            buffer_append(out, raw, sizeof(raw));
        }
    }
    ASSERT(out->len == start + 3 + count * THIN_ENTRY_SIZE);
    return true;
}

void
user_set_encode(const struct user_set *set, struct buffer *out)
{
    buffer_append_char(out, SET_VERSION);
    if (set->registers != NULL) {
        if (!encode_thin(set, out)) {
            buffer_append_char(out, KIND_SKETCH);
            buffer_append(out, set->registers, USER_SET_REGISTERS);
        }
        return;
    }
    buffer_append_char(out, KIND_EXACT);
    encode_exact(set, out);
}

static enum err
decode_exact(const uint8_t *raw, size_t len, struct user_set *into)
{
    size_t count;
    uint64_t previous = 0;

    if (len < EXACT_HEADER_SIZE) {
        return ERR_CORRUPT;
    }
    count = get_u16(raw + HEADER_SIZE);
    if (count > USER_SET_EXACT_MAX || len != EXACT_HEADER_SIZE + count * 8) {
        return ERR_CORRUPT;
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t hash = get_u64(raw + EXACT_HEADER_SIZE + i * 8);

        if (hash <= previous) {
            return ERR_CORRUPT;
        }
        previous = hash;
    }
    for (size_t i = 0; i < count; i++) {
        enum err err = user_set_add(into, get_u64(raw + EXACT_HEADER_SIZE + i * 8));

        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

static enum err
decode_sketch(const uint8_t *raw, size_t len, struct user_set *into)
{
    uint8_t highest = 0;

    if (len != HEADER_SIZE + USER_SET_REGISTERS) {
        return ERR_CORRUPT;
    }
    for (size_t i = 0; i < USER_SET_REGISTERS; i++) {
        highest = raw[HEADER_SIZE + i] > highest ? raw[HEADER_SIZE + i] : highest;
    }
    return highest > RANK_MAX ? ERR_CORRUPT : union_registers(into, raw + HEADER_SIZE);
}

static enum err
decode_thin(const uint8_t *raw, size_t len, struct user_set *into)
{
    const uint8_t *at = raw + EXACT_HEADER_SIZE;
    int32_t previous = -1;
    size_t count;
    enum err err;

    if (len < EXACT_HEADER_SIZE) {
        return ERR_CORRUPT;
    }
    count = get_u16(raw + HEADER_SIZE);
    if (count > THIN_MAX || len != EXACT_HEADER_SIZE + count * THIN_ENTRY_SIZE) {
        return ERR_CORRUPT;
    }
    for (size_t i = 0; i < count; i++, at += THIN_ENTRY_SIZE) {
        int32_t which = get_u16(at);

        if (which <= previous || at[2] == 0 || at[2] > RANK_MAX) {
            return ERR_CORRUPT;
        }
        previous = which;
    }
    err = become_sketch(into);
    if (err != ERR_OK) {
        return err;
    }
    at = raw + EXACT_HEADER_SIZE;
    for (size_t i = 0; i < count; i++, at += THIN_ENTRY_SIZE) {
        uint8_t *own = &into->registers[get_u16(at)];

        *own = at[2] > *own ? at[2] : *own;
    }
    return ERR_OK;
}

enum err
user_set_decode_union(struct span bytes, struct user_set *into)
{
    const uint8_t *raw = (const uint8_t *)bytes.data;

    if (bytes.len < HEADER_SIZE) {
        return ERR_CORRUPT;
    }
    if (raw[0] != SET_VERSION) {
        return ERR_FORMAT;
    }
    switch (raw[1]) {
    case KIND_EXACT:
        return decode_exact(raw, bytes.len, into);
    case KIND_SKETCH:
        return decode_sketch(raw, bytes.len, into);
    case KIND_THIN:
        return decode_thin(raw, bytes.len, into);
    default:
        return ERR_CORRUPT;
    }
}
