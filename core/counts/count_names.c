#include "core/counts/count_names.h"

#include <pthread.h>
#include <stdlib.h>

#include "core/counts/count_cell.h"

enum {
    INDEX_SIZE_FIRST = 16,
};

/* Words of one dimension of one name; index i is values[i - 1]. */
struct value_table {
    struct span *values;
    uint16_t *slots; /* open addressing: indexes, 0 is free */
    uint32_t slot_count;
    uint16_t len;
    uint16_t capacity;
    bool has_other;
};

struct named {
    struct span tenant; /* both in one block, the tenant's first */
    struct span name;
    struct value_table tables[COUNT_DIMENSIONS];
};

struct unsaved_value {
    uint32_t name;
    uint8_t dimension;
    uint16_t index;
};

struct count_names {
    struct count_names_limits limits;
    pthread_rwlock_t lock; /* written under it by the one thread, which alone reads without */
    struct named **named;  /* number n is named[n - 1] */
    uint32_t len;
    uint32_t capacity;
    uint32_t *slots; /* numbers, 0 is free */
    uint32_t slot_count;
    uint32_t values; /* over all names */

    uint32_t saved_names;
    struct unsaved_value *unsaved;
    size_t unsaved_len;
    size_t unsaved_capacity;
};

static void
read_lock(struct count_names *names)
{
    int rc = pthread_rwlock_rdlock(&names->lock);

    ASSERT(rc == 0);
}

static void
write_lock(struct count_names *names)
{
    int rc = pthread_rwlock_wrlock(&names->lock);

    ASSERT(rc == 0);
}

static void
unlock(struct count_names *names)
{
    int rc = pthread_rwlock_unlock(&names->lock);

    ASSERT(rc == 0);
}

/* ---- values of one name ---- */

static uint64_t
hash_value(struct span value)
{
    return user_hash(value) ^ (value.data == NULL ? 1 : 0);
}

static uint32_t
value_slot(const struct value_table *table, struct span value)
{
    uint32_t slot = (uint32_t)hash_value(value) & (table->slot_count - 1);

    while (table->slots[slot] != 0 &&
           !count_value_equal(table->values[table->slots[slot] - 1], value)) {
        slot = (slot + 1) & (table->slot_count - 1);
    }
    return slot;
}

/* 0 when VALUE has no index. */
static uint16_t
value_find(const struct value_table *table, struct span value)
{
    return table->slot_count == 0 ? 0 : table->slots[value_slot(table, value)];
}

static enum err
value_reserve(struct value_table *table)
{
    if (table->len == table->capacity) {
        uint16_t capacity = table->capacity == 0 ? 4 : narrow_u16((uint64_t)table->capacity * 2);
        struct span *values = realloc(table->values, capacity * sizeof(*values));

        if (values == NULL) {
            return ERR_NO_MEMORY;
        }
        table->values = values;
        table->capacity = capacity;
    }
    if ((table->len + 1U) * 2 > table->slot_count) {
        uint32_t count = table->slot_count == 0 ? INDEX_SIZE_FIRST : table->slot_count * 2;
        uint16_t *slots = calloc(count, sizeof(*slots));

        if (slots == NULL) {
            return ERR_NO_MEMORY;
        }
        free(table->slots);
        table->slots = slots;
        table->slot_count = count;
        for (uint16_t i = 0; i < table->len; i++) {
            slots[value_slot(table, table->values[i])] = (uint16_t)(i + 1);
        }
    }
    return ERR_OK;
}

static enum err
copy_span(struct span from, struct span *out)
{
    char *bytes;

    if (from.data == NULL) {
        *out = from;
        return ERR_OK;
    }
    bytes = malloc(from.len + 1);
    if (bytes == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(bytes, from.data, from.len);
    *out = (struct span){bytes, from.len};
    return ERR_OK;
}

static void
free_span(struct span span)
{
    free((void *)(uintptr_t)span.data); /* the block copy_span() made */
}

static enum err
value_add(struct value_table *table, struct span value)
{
    struct span copy;
    enum err err = value_reserve(table);

    if (err == ERR_OK) {
        err = copy_span(value, &copy);
    }
    if (err != ERR_OK) {
        return err;
    }
    table->values[table->len] = copy;
    table->slots[value_slot(table, copy)] = (uint16_t)(table->len + 1);
    table->len++;
    return ERR_OK;
}

static void
free_named(struct named *named)
{
    for (int dimension = 0; dimension < COUNT_DIMENSIONS; dimension++) {
        struct value_table *table = &named->tables[dimension];

        for (uint16_t i = 0; i < table->len; i++) {
            free_span(table->values[i]);
        }
        free(table->values);
        free(table->slots);
    }
    free_span(named->tenant);
    free(named);
}

/* ---- names ---- */

static uint32_t
name_slot(const struct count_names *names, struct span tenant, struct span name)
{
    uint32_t slot = (uint32_t)span_pair_hash(tenant, name) & (names->slot_count - 1);

    while (names->slots[slot] != 0) {
        const struct named *named = names->named[names->slots[slot] - 1];

        if (span_equal(named->name, name) && span_equal(named->tenant, tenant)) {
            break;
        }
        slot = (slot + 1) & (names->slot_count - 1);
    }
    return slot;
}

static uint32_t
find_name(const struct count_names *names, struct span tenant, struct span name)
{
    return names->slot_count == 0 ? COUNT_NO_NAME : names->slots[name_slot(names, tenant, name)];
}

static enum err
reserve_name(struct count_names *names)
{
    if (names->len == names->capacity) {
        uint32_t capacity = names->capacity == 0 ? INDEX_SIZE_FIRST : names->capacity * 2;
        struct named **named = realloc(names->named, capacity * sizeof(struct named *));

        if (named == NULL) {
            return ERR_NO_MEMORY;
        }
        names->named = named;
        names->capacity = capacity;
    }
    if ((names->len + 1) * 2 > names->slot_count) {
        uint32_t count = names->slot_count == 0 ? 2 * INDEX_SIZE_FIRST : names->slot_count * 2;
        uint32_t *slots = calloc(count, sizeof(*slots));

        if (slots == NULL) {
            return ERR_NO_MEMORY;
        }
        free(names->slots);
        names->slots = slots;
        names->slot_count = count;
        for (uint32_t i = 0; i < names->len; i++) {
            slots[name_slot(names, names->named[i]->tenant, names->named[i]->name)] = i + 1;
        }
    }
    return ERR_OK;
}

static enum err
new_named(struct span tenant, struct span name, struct named **out)
{
    struct named *named = calloc(1, sizeof(*named));
    char *bytes = malloc(tenant.len + name.len + 1);

    if (named == NULL || bytes == NULL) {
        free(named);
        free(bytes);
        return ERR_NO_MEMORY;
    }
    memcpy(bytes, tenant.data, tenant.len);
    memcpy(bytes + tenant.len, name.data, name.len);
    named->tenant = (struct span){bytes, tenant.len};
    named->name = (struct span){bytes + tenant.len, name.len};
    *out = named;
    return ERR_OK;
}

static enum err
add_name(struct count_names *names, struct span tenant, struct span name)
{
    struct named *named;
    enum err err = new_named(tenant, name, &named);

    if (err != ERR_OK) {
        return err;
    }
    write_lock(names);
    err = reserve_name(names);
    if (err == ERR_OK) {
        names->slots[name_slot(names, named->tenant, named->name)] = names->len + 1;
        names->named[names->len++] = named;
    }
    unlock(names);
    if (err != ERR_OK) {
        free_named(named);
    }
    return err;
}

enum err
count_names_load(struct count_names *names, uint32_t number, struct span tenant, struct span name)
{
    enum err err;

    if (number != names->len + 1 || tenant.data == NULL || name.data == NULL ||
        find_name(names, tenant, name) != COUNT_NO_NAME) {
        return ERR_CORRUPT;
    }
    err = add_name(names, tenant, name);
    if (err == ERR_OK) {
        names->saved_names = names->len;
    }
    return err;
}

enum err
count_names_load_value(struct count_names *names, uint32_t number, uint8_t dimension,
                       uint16_t index, struct span value)
{
    struct value_table *table;
    enum err err;

    if (number == COUNT_NO_NAME || number > names->len || dimension >= COUNT_DIMENSIONS) {
        return ERR_CORRUPT;
    }
    table = &names->named[number - 1]->tables[dimension];
    if (index == COUNT_OTHER) {
        table->has_other = true;
        return ERR_OK;
    }
    if (index != table->len + 1 || value_find(table, value) != 0) {
        return ERR_CORRUPT;
    }
    write_lock(names);
    err = value_add(table, value);
    names->values += err == ERR_OK ? 1 : 0;
    unlock(names);
    return err;
}

/* Notes for the next fold that a word has got its number. Under the lock. */
static enum err
note_unsaved(struct count_names *names, uint32_t number, uint8_t dimension, uint16_t index)
{
    if (names->unsaved_len == names->unsaved_capacity) {
        size_t capacity = names->unsaved_capacity == 0 ? 64 : names->unsaved_capacity * 2;
        struct unsaved_value *unsaved = realloc(names->unsaved, capacity * sizeof(*unsaved));

        if (unsaved == NULL) {
            return ERR_NO_MEMORY;
        }
        names->unsaved = unsaved;
        names->unsaved_capacity = capacity;
    }
    names->unsaved[names->unsaved_len++] = (struct unsaved_value){number, dimension, index};
    return ERR_OK;
}

/* False also for ever after: nothing is taken back. */
static bool
has_room(const struct count_names *names, const struct value_table *table, uint8_t dimension)
{
    return table->len < names->limits.dimension_max[dimension] &&
           names->values < names->limits.values_max;
}

/* Under the lock. */
static enum err
give_value(struct count_names *names, uint32_t number, uint8_t dimension, struct span value,
           uint16_t *index_out)
{
    struct value_table *table = &names->named[number - 1]->tables[dimension];
    enum err err = ERR_OK;

    if (!has_room(names, table, dimension)) {
        if (!table->has_other) {
            err = note_unsaved(names, number, dimension, COUNT_OTHER);
            table->has_other = err == ERR_OK;
        }
        *index_out = COUNT_OTHER;
        return err;
    }
    err = note_unsaved(names, number, dimension, (uint16_t)(table->len + 1));
    if (err == ERR_OK) {
        err = value_add(table, value);
        if (err != ERR_OK) {
            names->unsaved_len--;
            return err;
        }
        names->values++;
        *index_out = table->len;
    }
    return err;
}

static enum err
place_value(struct count_names *names, uint32_t number, uint8_t dimension, struct span value,
            uint16_t *index_out)
{
    const struct value_table *table = &names->named[number - 1]->tables[dimension];
    uint16_t index = value_find(table, value);
    enum err err;

    if (index != 0) {
        *index_out = index;
        return ERR_OK;
    }
    if (table->has_other && !has_room(names, table, dimension)) {
        *index_out = COUNT_OTHER;
        return ERR_OK;
    }
    write_lock(names);
    err = give_value(names, number, dimension, value, index_out);
    unlock(names);
    return err;
}

enum err
count_names_place(struct count_names *names, struct span tenant, struct span name,
                  const struct span values[COUNT_DIMENSIONS], struct count_place *out)
{
    uint32_t number = find_name(names, tenant, name);

    *out = (struct count_place){.name = COUNT_NO_NAME};
    if (number == COUNT_NO_NAME) {
        enum err err;

        if (names->len >= names->limits.names_max) {
            return ERR_OK;
        }
        err = add_name(names, tenant, name);
        if (err != ERR_OK) {
            return err;
        }
        number = names->len;
    }
    for (int dimension = 0; dimension < COUNT_DIMENSIONS; dimension++) {
        enum err err = place_value(names, number, (uint8_t)dimension, values[dimension],
                                   &out->value[dimension]);

        if (err != ERR_OK) {
            return err;
        }
    }
    out->name = number;
    return ERR_OK;
}

/* ---- looking ---- */

bool
count_names_find(struct count_names *names, struct span tenant, struct span name,
                 uint32_t *number_out)
{
    read_lock(names);
    *number_out = find_name(names, tenant, name);
    unlock(names);
    return *number_out != COUNT_NO_NAME;
}

bool
count_names_find_value(struct count_names *names, uint32_t number, uint8_t dimension,
                       struct span value, uint16_t *index_out)
{
    read_lock(names);
    *index_out = value_find(&names->named[number - 1]->tables[dimension], value);
    unlock(names);
    return *index_out != 0;
}

bool
count_names_has_other(struct count_names *names, uint32_t number, uint8_t dimension)
{
    bool has_other;

    read_lock(names);
    has_other = names->named[number - 1]->tables[dimension].has_other;
    unlock(names);
    return has_other;
}

uint16_t
count_names_values(struct count_names *names, uint32_t number, uint8_t dimension)
{
    uint16_t len;

    read_lock(names);
    len = names->named[number - 1]->tables[dimension].len;
    unlock(names);
    return len;
}

struct span
count_names_value(struct count_names *names, uint32_t number, uint8_t dimension, uint16_t index)
{
    struct span value;

    read_lock(names);
    ASSERT(index >= 1);
    ASSERT(index <= names->named[number - 1]->tables[dimension].len);
    value = names->named[number - 1]->tables[dimension].values[index - 1];
    unlock(names);
    return value;
}

void
count_names_text(struct count_names *names, uint32_t number, struct span *tenant_out,
                 struct span *name_out)
{
    read_lock(names);
    ASSERT(number >= 1);
    ASSERT(number <= names->len);
    *tenant_out = names->named[number - 1]->tenant;
    *name_out = names->named[number - 1]->name;
    unlock(names);
}

uint32_t
count_names_count(struct count_names *names)
{
    uint32_t len;

    read_lock(names);
    len = names->len;
    unlock(names);
    return len;
}

uint32_t
count_names_value_total(struct count_names *names)
{
    uint32_t values;

    read_lock(names);
    values = names->values;
    unlock(names);
    return values;
}

static int
compare_bytes(struct span a, struct span b)
{
    int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);

    if (order != 0) {
        return order;
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

static int
compare_numbers(const void *left, const void *right, void *arg)
{
    const struct count_names *names = arg;
    uint32_t a;
    uint32_t b;

    memcpy(&a, left, sizeof(a));
    memcpy(&b, right, sizeof(b));
    return compare_bytes(names->named[a - 1]->name, names->named[b - 1]->name);
}

enum err
count_names_of(struct count_names *names, struct span tenant, uint32_t **numbers_out,
               size_t *count_out)
{
    uint32_t *numbers;
    size_t count = 0;

    read_lock(names);
    numbers = malloc((names->len + 1) * sizeof(*numbers));
    if (numbers != NULL) {
        for (uint32_t i = 0; i < names->len; i++) {
            if (span_equal(names->named[i]->tenant, tenant)) {
                numbers[count++] = i + 1;
            }
        }
        qsort_r(numbers, count, sizeof(*numbers), compare_numbers, names);
    }
    unlock(names);
    if (numbers == NULL) {
        return ERR_NO_MEMORY;
    }
    *numbers_out = numbers;
    *count_out = count;
    return ERR_OK;
}

/* ---- the store ---- */

static void
put_name(const struct count_names *names, uint32_t number, struct count_changes *changes,
         struct buffer *value)
{
    struct count_key key = count_key_name(number);

    buffer_clear(value, SIZE_MAX);
    count_name_encode(names->named[number - 1]->tenant, names->named[number - 1]->name, value);
    count_changes_put(changes, count_key_span(&key), buffer_span(value));
}

static void
put_value(const struct count_names *names, const struct unsaved_value *unsaved,
          struct count_changes *changes, struct buffer *value)
{
    const struct value_table *table = &names->named[unsaved->name - 1]->tables[unsaved->dimension];
    struct count_key key = count_key_value(unsaved->name, unsaved->dimension, unsaved->index);

    buffer_clear(value, SIZE_MAX);
    count_value_encode(unsaved->index == COUNT_OTHER ? (struct span){NULL, 0}
                                                     : table->values[unsaved->index - 1],
                       value);
    count_changes_put(changes, count_key_span(&key), buffer_span(value));
}

struct count_names_mark
count_names_put_unsaved(struct count_names *names, struct count_changes *changes)
{
    struct count_names_mark mark;
    struct buffer value = BUFFER_EMPTY;

    read_lock(names);
    if (buffer_reserve(&value, COUNT_VALUE_MAX) != ERR_OK) {
        changes->bytes.failed = true;
    } else {
        for (uint32_t number = names->saved_names + 1; number <= names->len; number++) {
            put_name(names, number, changes, &value);
        }
        for (size_t i = 0; i < names->unsaved_len; i++) {
            put_value(names, &names->unsaved[i], changes, &value);
        }
    }
    mark = (struct count_names_mark){names->len, names->unsaved_len};
    unlock(names);
    buffer_free(&value);
    return mark;
}

void
count_names_saved(struct count_names *names, struct count_names_mark mark)
{
    write_lock(names);
    ASSERT(mark.values <= names->unsaved_len);
    names->saved_names = mark.names;
    names->unsaved_len -= mark.values;
    if (names->unsaved_len > 0) {
        memmove(names->unsaved, names->unsaved + mark.values,
                names->unsaved_len * sizeof(*names->unsaved));
    }
    unlock(names);
}

enum err
count_names_new(struct count_names **out, const struct count_names_limits *limits)
{
    struct count_names *names = calloc(1, sizeof(*names));

    if (names == NULL) {
        return ERR_NO_MEMORY;
    }
    if (pthread_rwlock_init(&names->lock, NULL) != 0) {
        free(names);
        return ERR_NO_MEMORY;
    }
    names->limits = *limits;
    *out = names;
    return ERR_OK;
}

void
count_names_free(struct count_names *names)
{
    if (names == NULL) {
        return;
    }
    for (uint32_t i = 0; i < names->len; i++) {
        free_named(names->named[i]);
    }
    (void)pthread_rwlock_destroy(&names->lock);
    free(names->named);
    free(names->slots);
    free(names->unsaved);
    free(names);
}
