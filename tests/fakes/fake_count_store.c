#include "tests/fakes/fake_count_store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct pair {
    char key[COUNT_KEY_MAX];
    size_t key_len;
    char *value;
    size_t value_len;
};

/* Never changed once it is there: a commit makes a new one. Values are shared and freed at the end.
 */
struct table {
    struct pair *pairs;
    size_t len;
    uint32_t pins;
};

struct fake_count_store {
    pthread_mutex_t mutex; /* guards all */
    struct table *table;
    char **values; /* every value ever made */
    size_t value_count;
    size_t value_capacity;
    enum err fail_err;
    int fail_count;
    uint64_t bytes;
    char damaged;
    uint64_t held;
    _Atomic uint64_t reads;
};

struct snapshot {
    struct table *table;
    size_t at;
};

static void
lock(struct fake_count_store *fake)
{
    int rc = pthread_mutex_lock(&fake->mutex);

    ASSERT(rc == 0);
}

static void
unlock(struct fake_count_store *fake)
{
    int rc = pthread_mutex_unlock(&fake->mutex);

    ASSERT(rc == 0);
}

static void
unpin(struct table *table)
{
    if (--table->pins == 0) {
        free(table->pairs);
        free(table);
    }
}

static int
compare_keys(struct span a, struct span b)
{
    int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);

    if (order != 0) {
        return order;
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

/* The first pair whose key is at or after KEY. */
static size_t
lower_bound(const struct table *table, struct span key)
{
    size_t low = 0;
    size_t high = table->len;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct pair *pair = &table->pairs[middle];

        if (compare_keys((struct span){pair->key, pair->key_len}, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static char *
keep_value(struct fake_count_store *fake, struct span value)
{
    char *copy = malloc(value.len);

    ASSERT(copy != NULL);
    memcpy(copy, value.data, value.len);
    if (fake->value_count == fake->value_capacity) {
        fake->value_capacity = fake->value_capacity == 0 ? 256 : fake->value_capacity * 2;
        fake->values = realloc(fake->values, fake->value_capacity * sizeof(*fake->values));
        ASSERT(fake->values != NULL);
    }
    fake->values[fake->value_count++] = copy;
    return copy;
}

static void
change(struct fake_count_store *fake, struct table *table, struct span key, struct span value)
{
    size_t at = lower_bound(table, key);
    struct pair *pair = &table->pairs[at];
    bool found = at < table->len && compare_keys((struct span){pair->key, pair->key_len}, key) == 0;

    if (value.len == 0) {
        if (found) {
            memmove(pair, pair + 1, (table->len - at - 1) * sizeof(*pair));
            table->len--;
        }
        return;
    }
    if (!found) {
        memmove(pair + 1, pair, (table->len - at) * sizeof(*pair));
        table->len++;
        memcpy(pair->key, key.data, key.len);
        pair->key_len = key.len;
    }
    pair->value = keep_value(fake, value);
    pair->value_len = value.len;
}

static void
apply(struct fake_count_store *fake, const struct count_changes *changes)
{
    struct table *next = calloc(1, sizeof(*next));
    struct span rest = buffer_span(&changes->bytes);
    struct span key;
    struct span value;
    size_t count = 0;

    ASSERT(next != NULL);
    next->pairs = malloc((fake->table->len + changes->count + 1) * sizeof(*next->pairs));
    ASSERT(next->pairs != NULL);
    if (fake->table->len > 0) {
        memcpy(next->pairs, fake->table->pairs, fake->table->len * sizeof(*next->pairs));
    }
    next->len = fake->table->len;
    next->pins = 1;
    while (count_changes_next(&rest, &key, &value)) {
        change(fake, next, key, value);
        count++;
    }
    ASSERT(count == changes->count);
    unpin(fake->table);
    fake->table = next;
}

static enum err
op_begin(void *self, void **snapshot_out)
{
    struct fake_count_store *fake = self;
    struct snapshot *snapshot = calloc(1, sizeof(*snapshot));

    ASSERT(snapshot != NULL);
    lock(fake);
    snapshot->table = fake->table;
    snapshot->table->pins++;
    unlock(fake);
    *snapshot_out = snapshot;
    return ERR_OK;
}

static void
op_end(void *self, void *arg)
{
    struct fake_count_store *fake = self;
    struct snapshot *snapshot = arg;

    lock(fake);
    unpin(snapshot->table);
    unlock(fake);
    free(snapshot);
}

static enum err
give(struct fake_count_store *fake, const struct snapshot *snapshot, struct span *key_out,
     struct span *value_out)
{
    const struct pair *pair;

    atomic_fetch_add(&fake->reads, 1);
    if (snapshot->at >= snapshot->table->len) {
        return ERR_NOT_FOUND;
    }
    pair = &snapshot->table->pairs[snapshot->at];
    *key_out = (struct span){pair->key, pair->key_len};
    *value_out = (struct span){pair->value, pair->value_len};
    return pair->key[0] == fake->damaged ? ERR_CORRUPT : ERR_OK;
}

static enum err
op_seek(void *self, void *arg, struct span key, struct span *key_out, struct span *value_out)
{
    struct snapshot *snapshot = arg;

    snapshot->at = lower_bound(snapshot->table, key);
    return give(self, snapshot, key_out, value_out);
}

static enum err
op_next(void *self, void *arg, struct span *key_out, struct span *value_out)
{
    struct snapshot *snapshot = arg;

    snapshot->at++;
    return give(self, snapshot, key_out, value_out);
}

static enum err
op_commit(void *self, const struct count_changes *changes, uint64_t counted_seq)
{
    struct fake_count_store *fake = self;
    enum err err = ERR_OK;

    lock(fake);
    if (fake->fail_count > 0) {
        fake->fail_count--;
        err = fake->fail_err;
    } else {
        apply(fake, changes);
        ASSERT(fake->held == UINT64_MAX || counted_seq >= fake->held);
        fake->held = counted_seq;
    }
    unlock(fake);
    return err;
}

static void
op_hold(void *self, uint64_t counted_seq)
{
    struct fake_count_store *fake = self;

    lock(fake);
    fake->held = counted_seq;
    unlock(fake);
}

static uint64_t
op_bytes(void *self)
{
    struct fake_count_store *fake = self;
    uint64_t bytes;

    lock(fake);
    bytes = fake->bytes;
    unlock(fake);
    return bytes;
}

static const struct count_store_ops FAKE_OPS = {
    .begin = op_begin,
    .end = op_end,
    .seek = op_seek,
    .next = op_next,
    .commit = op_commit,
    .hold = op_hold,
    .bytes = op_bytes,
};

struct fake_count_store *
fake_count_store_new(void)
{
    struct fake_count_store *fake = calloc(1, sizeof(*fake));
    int rc;

    ASSERT(fake != NULL);
    rc = pthread_mutex_init(&fake->mutex, NULL);
    ASSERT(rc == 0);
    fake->table = calloc(1, sizeof(*fake->table));
    ASSERT(fake->table != NULL);
    fake->table->pins = 1;
    fake->held = UINT64_MAX;
    return fake;
}

void
fake_count_store_free(struct fake_count_store *fake)
{
    ASSERT(fake->table->pins == 1);
    unpin(fake->table);
    for (size_t i = 0; i < fake->value_count; i++) {
        free(fake->values[i]);
    }
    free(fake->values);
    (void)pthread_mutex_destroy(&fake->mutex);
    free(fake);
}

struct count_store
fake_count_store_port(struct fake_count_store *fake)
{
    return (struct count_store){&FAKE_OPS, fake};
}

void
fake_count_store_apply(struct fake_count_store *fake, const struct count_changes *changes)
{
    lock(fake);
    apply(fake, changes);
    unlock(fake);
}

void
fake_count_store_fail(struct fake_count_store *fake, enum err err, int count)
{
    lock(fake);
    fake->fail_err = err;
    fake->fail_count = count;
    unlock(fake);
}

void
fake_count_store_set_bytes(struct fake_count_store *fake, uint64_t bytes)
{
    lock(fake);
    fake->bytes = bytes;
    unlock(fake);
}

void
fake_count_store_damage(struct fake_count_store *fake, char kind)
{
    fake->damaged = kind;
}

uint64_t
fake_count_store_held(struct fake_count_store *fake)
{
    uint64_t held;

    lock(fake);
    held = fake->held;
    unlock(fake);
    return held;
}

size_t
fake_count_store_keys(struct fake_count_store *fake, char kind)
{
    size_t count = 0;

    lock(fake);
    for (size_t i = 0; i < fake->table->len; i++) {
        count += kind == 0 || fake->table->pairs[i].key[0] == kind ? 1 : 0;
    }
    unlock(fake);
    return count;
}

uint64_t
fake_count_store_reads(struct fake_count_store *fake)
{
    return atomic_load(&fake->reads);
}
