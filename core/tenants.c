/*
 * From pairs to a snapshot, and the lookup in it.
 *
 *   snapshot:  start[]  bucket -> first entry      entry[]  digests in the order of their buckets,
 *                                                           then PROBES empty ones
 *
 * PROBES is the fullest bucket's size. A lookup compares PROBES entries from its bucket's start,
 * also when the bucket is smaller: the further ones belong to other buckets and do no harm.
 */
#include "core/tenants.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/base/sha256.h"
#include "core/event/event.h"

enum {
    FILE_BYTES_FIRST = 64 << 10,
    FILE_BYTES_MAX = 64 << 20,
    CACHE_LINE = 64,
};

#define DIGEST_MARK "sha256:"
#define PAIR_FORM "\"tenant:key,tenant:key\""

struct key_entry {
    uint8_t digest[SHA256_SIZE];
    struct tenant *tenant; /* NULL in the empty ones */
};

struct snapshot {
    uint64_t multiplier; /* secret: places digests in buckets */
    uint32_t shift;
    uint32_t probes;
    uint32_t keys;
    uint32_t tenants;
    uint32_t *start;
    struct key_entry *entry;
};

/* One cache line per reader, so that lookups of different loops share nothing they write. */
struct reader_slot {
    _Atomic(const struct snapshot *) reads;
    char pad[CACHE_LINE - sizeof(void *)];
};

struct record {
    struct tenant tenant; /* first: the name tree's key */
    struct record *next;
    uint64_t counted_in; /* the last snapshot that counted it */
    char name[EVENT_NAME_MAX];
};

struct key_list {
    struct key_entry *entry;
    uint32_t count;
    uint32_t capacity;
};

struct tenants {
    const struct clock *clock;
    double rate;
    uint64_t burst;
    char *keys_file;
    bool have_keys;
    bool have_admin;
    uint8_t admin[SHA256_SIZE];
    struct key_list base; /* of API_KEYS; the file's come on top */
    struct record *records;
    uint32_t record_count;
    void *by_name; /* tsearch()'s tree of records */
    struct record *everybody;
    uint64_t generation;
    _Atomic(const struct snapshot *) current;
    _Atomic uint32_t keys;
    _Atomic uint32_t tenant_count;
    _Atomic uint64_t reloads;
    _Atomic uint64_t reload_failures;
    struct reader_slot slot[TENANTS_READERS_MAX];
};

/* ---- tenants ---- */

static int
compare_names(const void *a, const void *b)
{
    const struct span x = ((const struct tenant *)a)->name;
    const struct span y = ((const struct tenant *)b)->name;
    int order = memcmp(x.data, y.data, x.len < y.len ? x.len : y.len);

    return order != 0 ? order : (x.len > y.len) - (x.len < y.len);
}

/* The record of NAME, a new one if need be. ERR_TOO_BIG: too many. */
static enum err
find_record(struct tenants *tenants, struct span name, struct record **out)
{
    const struct tenant wanted = {.name = name};
    void *found = tfind(&wanted, &tenants->by_name, compare_names);
    struct record *record;

    if (found != NULL) {
        *out = *(struct record **)found;
        return ERR_OK;
    }
    if (tenants->record_count == TENANTS_MAX) {
        return ERR_TOO_BIG;
    }
    record = calloc(1, sizeof(*record));
    if (record == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(record->name, name.data, name.len);
    record->tenant.name = (struct span){record->name, name.len};
    token_bucket_init(&record->tenant.bucket, tenants->rate, tenants->burst,
                      clock_monotonic_us(tenants->clock));
    if (tsearch(record, &tenants->by_name, compare_names) == NULL) {
        free(record);
        return ERR_NO_MEMORY;
    }
    record->next = tenants->records;
    tenants->records = record;
    tenants->record_count++;
    *out = record;
    return ERR_OK;
}

/* ---- pairs ---- */

/* Where a text comes from, for the sentence about what is wrong in it. */
struct source {
    const char *variable;
    const char *path; /* NULL: the variable itself */
    uint32_t line;
    uint32_t pair; /* in the line */
};

static enum err
refuse(struct buffer *problem, const struct source *source, const char *why)
{
    if (source->path == NULL) {
        buffer_printf(problem, "%s must be " PAIR_FORM "; in pair %u %s", source->variable,
                      source->pair, why);
    } else {
        buffer_printf(problem,
                      "%s must hold " PAIR_FORM ", or a pair per line; in line %u of %s %s",
                      source->variable, source->line, source->path, why);
    }
    return ERR_INVALID;
}

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct span
trimmed(struct span text)
{
    while (text.len > 0 && is_blank(text.data[0])) {
        text.data++;
        text.len--;
    }
    while (text.len > 0 && is_blank(text.data[text.len - 1])) {
        text.len--;
    }
    return text;
}

static bool
is_visible(struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < 0x21 || text.data[i] > 0x7e) {
            return false;
        }
    }
    return text.len > 0;
}

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool
parse_hex(struct span text, uint8_t digest[SHA256_SIZE])
{
    if (text.len != (size_t)SHA256_SIZE * 2) {
        return false;
    }
    for (size_t i = 0; i < SHA256_SIZE; i++) {
        int high = hex_digit(text.data[2 * i]);
        int low = hex_digit(text.data[2 * i + 1]);

        if (high < 0 || low < 0) {
            return false;
        }
        digest[i] = narrow_u8((uint64_t)high * 16 + (uint64_t)low);
    }
    return true;
}

static enum err
add_key(struct key_list *list, const struct key_entry *entry)
{
    if (list->count == list->capacity) {
        uint32_t capacity = list->capacity == 0 ? 16 : list->capacity * 2;
        struct key_entry *larger = realloc(list->entry, capacity * sizeof(*larger));

        if (larger == NULL) {
            return ERR_NO_MEMORY;
        }
        list->entry = larger;
        list->capacity = capacity;
    }
    list->entry[list->count++] = *entry;
    return ERR_OK;
}

static enum err
parse_key(struct span key, uint8_t digest[SHA256_SIZE], const char **why)
{
    const size_t mark = sizeof(DIGEST_MARK) - 1;

    if (key.len >= mark && memcmp(key.data, DIGEST_MARK, mark) == 0) {
        key.data += mark;
        key.len -= mark;
        *why = "sha256: is not followed by 64 hex digits";
        return parse_hex(key, digest) ? ERR_OK : ERR_INVALID;
    }
    *why = "the key is not 1 to 255 visible characters";
    if (!is_visible(key) || key.len > API_KEY_MAX) {
        return ERR_INVALID;
    }
    sha256(key.data, key.len, digest);
    return ERR_OK;
}

static enum err
parse_pair(struct tenants *tenants, struct span pair, const struct source *source,
           struct key_list *list, struct buffer *problem)
{
    const char *colon = memchr(pair.data, ':', pair.len);
    struct key_entry entry;
    struct record *record;
    struct span name;
    struct span key;
    const char *why;
    enum err err;

    if (colon == NULL) {
        return refuse(problem, source, "there is no colon");
    }
    name = trimmed((struct span){pair.data, (size_t)(colon - pair.data)});
    key = trimmed((struct span){colon + 1, pair.len - (size_t)(colon + 1 - pair.data)});
    if (!is_visible(name) || name.len > EVENT_NAME_MAX) {
        return refuse(problem, source, "the tenant is not 1 to 255 visible characters");
    }
    if (name.data[0] == '_') {
        return refuse(problem, source, "the tenant begins with '_', which is reserved");
    }
    if (parse_key(key, entry.digest, &why) != ERR_OK) {
        return refuse(problem, source, why);
    }
    if (list->count == API_KEYS_MAX) {
        return refuse(problem, source, "there are too many keys");
    }
    err = find_record(tenants, name, &record);
    if (err == ERR_TOO_BIG) {
        return refuse(problem, source, "there are too many tenants");
    }
    if (err != ERR_OK) {
        return err;
    }
    entry.tenant = &record->tenant;
    return add_key(list, &entry);
}

static struct span
without_comment(struct span line)
{
    for (size_t i = 0; i < line.len; i++) {
        if (line.data[i] == '#' && (i == 0 || is_blank(line.data[i - 1]))) {
            line.len = i;
        }
    }
    return line;
}

/* Cuts the text before END_CHAR off *REST; false when nothing is left. */
static bool
take_until(struct span *rest, char end_char, struct span *out)
{
    const char *end;

    if (rest->data == NULL) {
        return false;
    }
    end = rest->len == 0 ? NULL : memchr(rest->data, end_char, rest->len);
    *out = (struct span){rest->data, end == NULL ? rest->len : (size_t)(end - rest->data)};
    if (end == NULL) {
        *rest = (struct span){NULL, 0};
    } else {
        rest->data += out->len + 1;
        rest->len -= out->len + 1;
    }
    return true;
}

static enum err
parse_line(struct tenants *tenants, struct span line, struct source *source, struct key_list *list,
           struct buffer *problem)
{
    struct span pair;

    source->pair = 0;
    while (take_until(&line, ',', &pair)) {
        enum err err = ERR_OK;

        source->pair++;
        pair = trimmed(pair);
        if (pair.len > 0) {
            err = parse_pair(tenants, pair, source, list, problem);
        }
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

/* Only a file has lines; in the variable a line end is a blank. */
static enum err
parse_text(struct tenants *tenants, struct span text, struct source *source, struct key_list *list,
           struct buffer *problem)
{
    struct span line;
    enum err err = ERR_OK;

    if (source->path == NULL) {
        return parse_line(tenants, text, source, list, problem);
    }
    while (err == ERR_OK && take_until(&text, '\n', &line)) {
        source->line++;
        err = parse_line(tenants, without_comment(line), source, list, problem);
    }
    return err;
}

/* ---- the file ---- */

static void
wipe(struct buffer *text)
{
    if (text->data != NULL) {
        OPENSSL_cleanse(text->data, text->capacity);
    }
    buffer_free(text);
}

/* Makes room in TEXT. By hand, since a block that realloc() leaves behind could not be wiped. */
static enum err
grow(struct buffer *text)
{
    struct buffer larger = BUFFER_EMPTY;

    if (text->len >= FILE_BYTES_MAX) {
        return ERR_TOO_BIG;
    }
    if (buffer_reserve(&larger, text->len * 2 + FILE_BYTES_FIRST) != ERR_OK) {
        return ERR_NO_MEMORY;
    }
    buffer_append_span(&larger, buffer_span(text));
    wipe(text);
    *text = larger;
    return ERR_OK;
}

static enum err
read_stream(FILE *file, struct buffer *out, int *errno_out)
{
    for (;;) {
        enum err err = out->len == out->capacity ? grow(out) : ERR_OK;
        size_t room = out->capacity - out->len;
        size_t got;

        if (err != ERR_OK) {
            return err;
        }
        got = fread(out->data + out->len, 1, room, file);
        out->len += got;
        if (got < room) {
            *errno_out = errno;
            return ferror(file) ? ERR_IO : ERR_OK;
        }
    }
}

/* ERR_IO with *ERRNO_OUT, ERR_TOO_BIG, ERR_NO_MEMORY; what was read is in OUT all the same. */
static enum err
read_whole(const char *path, struct buffer *out, int *errno_out)
{
    FILE *file = fopen(path, "re");
    enum err err;

    if (file == NULL) {
        *errno_out = errno;
        return ERR_IO;
    }
    (void)setvbuf(file, NULL, _IONBF, 0); /* no further copy of the keys */
    err = read_stream(file, out, errno_out);
    (void)fclose(file);
    return err;
}

static enum err
parse_file(struct tenants *tenants, struct key_list *list, struct buffer *problem)
{
    struct source source = {"API_KEYS_FILE", tenants->keys_file, 0, 0};
    struct buffer text = BUFFER_EMPTY;
    int cause = 0;
    enum err err = read_whole(tenants->keys_file, &text, &cause);

    if (err == ERR_IO) {
        buffer_printf(problem, "API_KEYS_FILE names a file that cannot be read: %s: %s",
                      tenants->keys_file, strerror(cause));
        err = ERR_INVALID;
    } else if (err == ERR_TOO_BIG) {
        buffer_printf(problem, "API_KEYS_FILE names a file that is too large: %s",
                      tenants->keys_file);
        err = ERR_INVALID;
    } else if (err == ERR_OK) {
        err = parse_text(tenants, buffer_span(&text), &source, list, problem);
    }
    wipe(&text);
    return err;
}

/* ---- snapshots ---- */

static void
snapshot_free(const struct snapshot *snapshot)
{
    if (snapshot != NULL) {
        free(snapshot->start);
        free(snapshot->entry);
        free((void *)(uintptr_t)snapshot);
    }
}

static int
compare_digests(const void *a, const void *b)
{
    return memcmp(((const struct key_entry *)a)->digest, ((const struct key_entry *)b)->digest,
                  SHA256_SIZE);
}

/* Drops pairs given twice. One key for two tenants, or for the admin too, is refused. */
static enum err
settle_keys(const struct tenants *tenants, struct key_list *list, struct buffer *problem)
{
    uint32_t kept = 0;

    qsort(list->entry, list->count, sizeof(*list->entry), compare_digests);
    for (uint32_t i = 0; i < list->count; i++) {
        const struct key_entry *entry = &list->entry[i];
        const struct key_entry *before = kept > 0 ? &list->entry[kept - 1] : NULL;

        if (tenants->have_admin && memcmp(entry->digest, tenants->admin, SHA256_SIZE) == 0) {
            buffer_printf(problem, "ADMIN_KEY must not be a key of a tenant too (of %.*s)",
                          (int)entry->tenant->name.len, entry->tenant->name.data);
            return ERR_INVALID;
        }
        if (before != NULL && compare_digests(before, entry) == 0) {
            if (before->tenant != entry->tenant) {
                buffer_printf(problem, "API_KEYS gives one key to two tenants: %.*s and %.*s",
                              (int)before->tenant->name.len, before->tenant->name.data,
                              (int)entry->tenant->name.len, entry->tenant->name.data);
                return ERR_INVALID;
            }
            continue;
        }
        list->entry[kept++] = *entry;
    }
    list->count = kept;
    return ERR_OK;
}

/* Multiply and shift over eight bytes of the digest, which are as good as random already. */
static uint32_t
bucket_of(const struct snapshot *snapshot, const uint8_t digest[SHA256_SIZE])
{
    uint64_t word;

    memcpy(&word, digest, sizeof(word));
    return (uint32_t)((word * snapshot->multiplier) >> snapshot->shift);
}

static uint32_t
count_tenants(struct tenants *tenants, const struct key_list *list)
{
    uint32_t count = 0;

    tenants->generation++;
    for (uint32_t i = 0; i < list->count; i++) {
        struct record *record = (struct record *)(void *)list->entry[i].tenant;

        count += record->counted_in != tenants->generation;
        record->counted_in = tenants->generation;
    }
    return count;
}

/* Counting sort by bucket: start[b] first counts bucket b, then is its end, then its start. */
static void
place_entries(struct snapshot *snapshot, const struct key_list *list, uint32_t buckets)
{
    uint32_t at = 0;

    for (uint32_t i = 0; i < list->count; i++) {
        uint32_t *size = &snapshot->start[bucket_of(snapshot, list->entry[i].digest)];

        *size += 1;
        snapshot->probes = *size > snapshot->probes ? *size : snapshot->probes;
    }
    for (uint32_t b = 0; b < buckets; b++) {
        at += snapshot->start[b];
        snapshot->start[b] = at;
    }
    for (uint32_t i = list->count; i > 0; i--) {
        const struct key_entry *entry = &list->entry[i - 1];

        snapshot->entry[--snapshot->start[bucket_of(snapshot, entry->digest)]] = *entry;
    }
}

static enum err
snapshot_new(const struct snapshot **out, struct tenants *tenants, const struct key_list *list)
{
    struct snapshot *snapshot = calloc(1, sizeof(*snapshot));
    uint32_t bits = 1;
    uint32_t buckets;

    if (snapshot == NULL) {
        return ERR_NO_MEMORY;
    }
    if (RAND_bytes((unsigned char *)&snapshot->multiplier, sizeof(snapshot->multiplier)) != 1) {
        snapshot_free(snapshot);
        return ERR_IO;
    }
    while ((1U << bits) < list->count * 2) {
        bits++;
    }
    buckets = 1U << bits;
    snapshot->multiplier |= 1;
    snapshot->shift = 64 - bits;
    snapshot->keys = list->count;
    snapshot->start = calloc(buckets, sizeof(*snapshot->start));
    /* PROBES is at most the number of keys, so twice as many hold the empty ones too. */
    snapshot->entry = calloc((size_t)list->count * 2 + 1, sizeof(*snapshot->entry));
    if (snapshot->start == NULL || snapshot->entry == NULL) {
        snapshot_free(snapshot);
        return ERR_NO_MEMORY;
    }
    place_entries(snapshot, list, buckets);
    snapshot->tenants = count_tenants(tenants, list);
    *out = snapshot;
    return ERR_OK;
}

/* The keys of API_KEYS and of the file as a new snapshot. */
static enum err
load(struct tenants *tenants, const struct snapshot **out, struct buffer *problem)
{
    struct key_list list = {0};
    enum err err = ERR_OK;

    for (uint32_t i = 0; err == ERR_OK && i < tenants->base.count; i++) {
        err = add_key(&list, &tenants->base.entry[i]);
    }
    if (err == ERR_OK && tenants->keys_file != NULL) {
        err = parse_file(tenants, &list, problem);
    }
    if (err == ERR_OK && list.count == 0) {
        buffer_printf(problem, "%s holds no key; no keys at all would be no protection",
                      tenants->keys_file != NULL ? "API_KEYS_FILE" : "API_KEYS");
        err = ERR_INVALID;
    }
    if (err == ERR_OK) {
        err = settle_keys(tenants, &list, problem);
    }
    if (err == ERR_OK) {
        err = snapshot_new(out, tenants, &list);
    }
    free(list.entry);
    return err;
}

/* Nobody can begin to read OLD any more; waits for those who have begun. */
static void
wait_for_readers(struct tenants *tenants, const struct snapshot *old)
{
    const struct timespec moment = {0, 100000};

    for (size_t i = 0; i < TENANTS_READERS_MAX; i++) {
        while (atomic_load(&tenants->slot[i].reads) == old) {
            (void)nanosleep(&moment, NULL); /* a lookup takes a microsecond, unless preempted */
        }
    }
}

static void
publish(struct tenants *tenants, const struct snapshot *snapshot)
{
    const struct snapshot *old;

    atomic_store(&tenants->keys, snapshot->keys);
    atomic_store(&tenants->tenant_count, snapshot->tenants);
    old = atomic_exchange(&tenants->current, snapshot);
    if (old != NULL) {
        wait_for_readers(tenants, old);
        snapshot_free(old);
    }
}

/* ---- the whole ---- */

static bool
is_given(const char *text)
{
    return text != NULL && text[0] != '\0';
}

static enum err
take_admin_key(struct tenants *tenants, const char *text, struct buffer *problem)
{
    struct span key = trimmed(span_of(text));
    const char *why;

    if (parse_key(key, tenants->admin, &why) != ERR_OK) {
        buffer_append_text(problem, "ADMIN_KEY must be 1 to 255 visible characters, or sha256: and "
                                    "64 hex digits");
        return ERR_INVALID;
    }
    tenants->have_admin = true;
    return ERR_OK;
}

static enum err
load_first(struct tenants *tenants, const struct tenants_config *config, struct buffer *problem)
{
    struct source source = {"API_KEYS", NULL, 0, 0};
    const struct snapshot *snapshot;
    enum err err = ERR_OK;

    if (is_given(config->keys)) {
        err = parse_text(tenants, span_of(config->keys), &source, &tenants->base, problem);
    }
    if (err == ERR_OK && is_given(config->keys_file)) {
        tenants->keys_file = strdup(config->keys_file);
        err = tenants->keys_file == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    if (err == ERR_OK) {
        err = load(tenants, &snapshot, problem);
    }
    if (err == ERR_OK) {
        publish(tenants, snapshot);
    }
    return err;
}

enum err
tenants_open(struct tenants **out, const struct tenants_config *config, struct buffer *problem)
{
    struct tenants *tenants = calloc(1, sizeof(*tenants));
    enum err err = ERR_OK;

    if (tenants == NULL) {
        return ERR_NO_MEMORY;
    }
    tenants->clock = config->clock;
    tenants->rate = config->rate;
    tenants->burst = config->burst;
    tenants->have_keys = is_given(config->keys) || is_given(config->keys_file);
    if (is_given(config->admin_key)) {
        err = take_admin_key(tenants, config->admin_key, problem);
    }
    if (err == ERR_OK && tenants->have_keys) {
        err = load_first(tenants, config, problem);
    }
    if (err == ERR_OK && !tenants->have_keys) {
        err = find_record(tenants, SPAN_LITERAL("default"), &tenants->everybody);
    }
    if (err != ERR_OK) {
        tenants_free(tenants);
        return err;
    }
    *out = tenants;
    return ERR_OK;
}

static void
keep_node(void *node)
{
    (void)node; /* the list of records frees them */
}

void
tenants_free(struct tenants *tenants)
{
    if (tenants == NULL) {
        return;
    }
    snapshot_free(atomic_load(&tenants->current));
    tdestroy(tenants->by_name, keep_node);
    while (tenants->records != NULL) {
        struct record *record = tenants->records;

        tenants->records = record->next;
        free(record);
    }
    free(tenants->base.entry);
    free(tenants->keys_file);
    free(tenants);
}

enum err
tenants_reload(struct tenants *tenants, struct buffer *problem)
{
    const struct snapshot *snapshot;
    enum err err;

    if (tenants->keys_file == NULL) { /* nothing can have changed */
        return ERR_OK;
    }
    err = load(tenants, &snapshot, problem);
    if (err != ERR_OK) {
        atomic_fetch_add(&tenants->reload_failures, 1);
        return err;
    }
    publish(tenants, snapshot);
    atomic_fetch_add(&tenants->reloads, 1);
    return ERR_OK;
}

bool
tenants_have_keys(const struct tenants *tenants)
{
    return tenants->have_keys;
}

bool
tenants_have_admin(const struct tenants *tenants)
{
    return tenants->have_admin;
}

struct tenant *
tenants_default(struct tenants *tenants)
{
    ASSERT(!tenants->have_keys);
    return &tenants->everybody->tenant;
}

/*
 * Says in SLOT which snapshot is about to be read. Looking again after saying so settles the race
 * with a reload: either it sees the slot, or this sees the new snapshot.
 */
static const struct snapshot *
enter(struct tenants *tenants, struct reader_slot *slot)
{
    const struct snapshot *snapshot = atomic_load(&tenants->current);

    for (;;) {
        const struct snapshot *again;

        atomic_store(&slot->reads, snapshot);
        again = atomic_load(&tenants->current);
        if (again == snapshot) {
            return snapshot;
        }
        snapshot = again;
    }
}

static struct tenant *
search(const struct snapshot *snapshot, const uint8_t digest[SHA256_SIZE])
{
    const struct key_entry *entry = snapshot->entry + snapshot->start[bucket_of(snapshot, digest)];
    uintptr_t found = 0;

    for (uint32_t i = 0; i < snapshot->probes; i++) {
        uintptr_t equal = CRYPTO_memcmp(entry[i].digest, digest, SHA256_SIZE) == 0;

        found |= (uintptr_t)entry[i].tenant & (0 - equal);
    }
    return (struct tenant *)found;
}

enum key_owner
tenants_find(struct tenants *tenants, uint32_t reader, struct span key, struct tenant **tenant_out)
{
    struct tenant *found = NULL;
    uint8_t digest[SHA256_SIZE];
    bool is_admin;

    ASSERT(reader < TENANTS_READERS_MAX);
    if (key.len == 0 || key.len > API_KEY_MAX) {
        return KEY_OF_NOBODY;
    }
    sha256(key.data, key.len, digest);
    is_admin = (CRYPTO_memcmp(digest, tenants->admin, SHA256_SIZE) == 0) & tenants->have_admin;
    if (tenants->have_keys) {
        struct reader_slot *slot = &tenants->slot[reader];

        found = search(enter(tenants, slot), digest);
        atomic_store_explicit(&slot->reads, NULL, memory_order_release);
    }
    if (found != NULL) {
        *tenant_out = found;
        return KEY_OF_TENANT;
    }
    return is_admin ? KEY_OF_ADMIN : KEY_OF_NOBODY;
}

void
tenants_stats(const struct tenants *tenants, struct tenants_stats *out)
{
    out->keys = atomic_load(&tenants->keys);
    out->tenants = atomic_load(&tenants->tenant_count);
    out->reloads = atomic_load(&tenants->reloads);
    out->reload_failures = atomic_load(&tenants->reload_failures);
}
