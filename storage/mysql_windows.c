#include "storage/mysql_windows.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/log.h"
#include "core/base/timestamp.h"
#include "storage/mysql_connect.h"
#include "storage/mysql_errors.h"

enum {
    CHANGES_MAX = 2000, /* slices of a source read at once, when one batch had no more; and so many
                           of all end a transaction */
    STEPS_MAX = 4,      /* transactions of one update that had anything to do */
    SOURCES_MAX = 1024,
    KEYS_MAX = 200, /* of one statement */
    SILENT_MAX = 500,
};

#define MINUTE_US INT64_C(60000000)
#define LOCK_NAME "CONCAT('sluice.windows.', MD5(DATABASE()))"

struct source {
    uint8_t node_id[16];
    uint32_t partition;
    uint64_t offset; /* everything up to it is in slo_slices */
    uint64_t cursor; /* and up to here in slo_windows */
    uint64_t next;   /* the cursor once the running transaction is committed */
};

/* One (tenant, service, minute) that changed; the names are in the block behind KEYS. */
struct key {
    size_t tenant_at;
    size_t tenant_len;
    size_t service_at;
    size_t service_len;
    int64_t minute;
    uint64_t last_seq;
};

struct mysql_windows {
    struct mysql_config config;
    struct mysql_session session;
    struct buffer sql;
    struct source sources[SOURCES_MAX];
    size_t source_count;
    size_t first; /* source the next update begins with: none waits for ever */
    struct buffer names;
    struct key *keys;
    size_t key_count;
    size_t key_capacity;
};

/* ---- sessions, shared by writer and reader ---- */

static enum err
connect(struct mysql_session *session, const struct mysql_config *config)
{
    if (session->mysql != NULL && mysql_ping(session->mysql) != 0) {
        mysql_session_close(session);
    }
    return session->mysql != NULL ? ERR_OK : mysql_session_open(session, config);
}

static enum err
unavailable(struct mysql_session *session, unsigned number, const char *step)
{
    const bool no_tables = mysql_classify(number) == MYSQL_CLASS_SCHEMA;

    if (!no_tables) {
        mysql_session_log_error(session, "mysql.windows_failed", step, true);
    }
    mysql_session_close(session); /* an open transaction is rolled back, the lock let go */
    return no_tables ? ERR_NOT_FOUND : ERR_UNAVAILABLE;
}

static void
append_time(struct buffer *sql, int64_t minute)
{
    buffer_append_char(sql, '\'');
    mysql_append_datetime(sql, minute * MINUTE_US);
    buffer_append_char(sql, '\'');
}

/* "tenant,service,start,end" of a row. */
static void
append_row_key(struct buffer *sql, struct span tenant, struct span service, int64_t minute)
{
    mysql_append_hex(sql, tenant.data, tenant.len);
    buffer_append_char(sql, ',');
    mysql_append_hex(sql, service.data, service.len);
    buffer_append_char(sql, ',');
    append_time(sql, minute);
    buffer_append_char(sql, ',');
    append_time(sql, minute + 1);
}

/* ---- life of the writer ---- */

enum err
mysql_windows_open(struct mysql_windows **out, const struct mysql_config *config)
{
    struct mysql_windows *windows = calloc(1, sizeof(*windows));

    if (windows == NULL) {
        return ERR_NO_MEMORY;
    }
    windows->config = *config;
    *out = windows;
    return ERR_OK;
}

void
mysql_windows_close(struct mysql_windows *windows)
{
    if (windows == NULL) {
        return;
    }
    mysql_session_close(&windows->session);
    buffer_free(&windows->sql);
    buffer_free(&windows->names);
    free(windows->keys);
    free(windows);
}

/* Runs what is in SQL. */
static unsigned
run(struct mysql_windows *windows, MYSQL_RES **result_out)
{
    return mysql_session_run(&windows->session, buffer_span(&windows->sql), result_out);
}

/* ---- what has changed ---- */

/* The sources that have more than their cursor says, SOURCES_MAX at most. */
static enum err
find_sources(struct mysql_windows *windows)
{
    MYSQL_RES *result;
    MYSQL_ROW row;
    const unsigned number = mysql_session_run_text(
        &windows->session,
        "SELECT o.node_id, o.partition_id, o.last_seq, COALESCE(c.last_seq,0) "
        "FROM replication_offsets o LEFT JOIN slo_window_cursors c "
        "ON c.node_id = o.node_id AND c.partition_id = o.partition_id "
        "WHERE o.last_seq > COALESCE(c.last_seq,0)",
        &result);

    windows->source_count = 0;
    if (number != 0) {
        return unavailable(&windows->session, number, "find sources");
    }
    while ((row = mysql_fetch_row(result)) != NULL && windows->source_count < SOURCES_MAX) {
        const struct span node = mysql_row_span(result, row, 0);
        struct source *source = &windows->sources[windows->source_count];

        if (node.len == sizeof(source->node_id)) {
            memcpy(source->node_id, node.data, sizeof(source->node_id));
            source->partition = narrow_u32(mysql_row_u64(row, 1));
            source->offset = mysql_row_u64(row, 2);
            source->cursor = mysql_row_u64(row, 3);
            source->next = source->cursor;
            windows->source_count++;
        }
    }
    mysql_free_result(result);
    return ERR_OK;
}

static enum err
add_key(struct mysql_windows *windows, MYSQL_RES *result, MYSQL_ROW row)
{
    const struct span tenant = mysql_row_span(result, row, 0);
    const struct span service = mysql_row_span(result, row, 1);
    struct key *key;

    if (windows->key_count == windows->key_capacity) {
        const size_t capacity = windows->key_capacity == 0 ? 256 : windows->key_capacity * 2;
        struct key *keys = realloc(windows->keys, capacity * sizeof(*keys));

        if (keys == NULL) {
            return ERR_NO_MEMORY;
        }
        windows->keys = keys;
        windows->key_capacity = capacity;
    }
    key = &windows->keys[windows->key_count++];
    *key = (struct key){
        .tenant_at = windows->names.len,
        .tenant_len = tenant.len,
        .service_at = windows->names.len + tenant.len,
        .service_len = service.len,
        .minute = row[2] == NULL ? 0 : strtoll(row[2], NULL, 10),
        .last_seq = mysql_row_u64(row, 3),
    };
    buffer_append_span(&windows->names, tenant);
    buffer_append_span(&windows->names, service);
    return windows->names.failed ? ERR_NO_MEMORY : ERR_OK;
}

static struct span
tenant_of(const struct mysql_windows *windows, const struct key *key)
{
    return (struct span){windows->names.data + key->tenant_at, key->tenant_len};
}

static struct span
service_of(const struct mysql_windows *windows, const struct key *key)
{
    return (struct span){windows->names.data + key->service_at, key->service_len};
}

/* Appends the condition for the slices of SOURCE beyond its cursor. */
static void
append_beyond(struct buffer *sql, const struct source *source)
{
    buffer_append_text(sql, " FROM slo_slices WHERE node_id = ");
    mysql_append_hex(sql, source->node_id, sizeof(source->node_id));
    buffer_printf(sql, " AND partition_id = %u AND last_seq > %llu", source->partition,
                  (unsigned long long)source->cursor);
}

/*
 * Up to which last_seq to read now. A batch writes all its slices with one, and is read whole: a
 * cursor never stands inside it. *MORE_OUT: there are slices beyond.
 */
static enum err
find_bound(struct mysql_windows *windows, const struct source *source, uint64_t *bound_out,
           bool *more_out)
{
    struct buffer *sql = &windows->sql;
    unsigned number;

    buffer_clear(sql, SIZE_MAX);
    buffer_append_text(sql, "SELECT last_seq");
    append_beyond(sql, source);
    buffer_printf(sql, " ORDER BY last_seq LIMIT 1 OFFSET %d", CHANGES_MAX);
    buffer_append_char(sql, '\0');
    if (sql->failed) {
        return ERR_NO_MEMORY;
    }
    number = mysql_session_number(&windows->session, sql->data, UINT64_MAX, bound_out);
    if (number != 0) {
        return unavailable(&windows->session, number, "bound changes");
    }
    *more_out = *bound_out != UINT64_MAX;
    return ERR_OK;
}

/* Adds to the keys which slices of SOURCE changed after its cursor, in order. */
static enum err
read_changes(struct mysql_windows *windows, const struct source *source, bool *more_out)
{
    struct buffer *sql = &windows->sql;
    uint64_t bound = 0;
    MYSQL_RES *result;
    MYSQL_ROW row;
    unsigned number;
    enum err err = find_bound(windows, source, &bound, more_out);

    if (err != ERR_OK) {
        return err;
    }
    buffer_clear(sql, SIZE_MAX);
    buffer_append_text(sql, "SELECT tenant_id, service, minute, last_seq");
    append_beyond(sql, source);
    buffer_printf(sql, " AND last_seq <= %llu ORDER BY last_seq", (unsigned long long)bound);
    if (sql->failed) {
        return ERR_NO_MEMORY;
    }
    number = run(windows, &result);
    if (number != 0) {
        return unavailable(&windows->session, number, "read changes");
    }
    while (err == ERR_OK && (row = mysql_fetch_row(result)) != NULL) {
        err = add_key(windows, result, row);
    }
    mysql_free_result(result);
    return err;
}

/* ---- rows ---- */

static bool
is_representable(int64_t minute)
{
    return minute >= TIMESTAMP_MIN_US / MINUTE_US && minute < TIMESTAMP_MAX_US / MINUTE_US - 1;
}

static void
append_number(struct buffer *sql, double value)
{
    if (isnan(value)) {
        buffer_append_text(sql, ",NULL");
    } else {
        buffer_printf(sql, ",%.17g", value);
    }
}

static void
append_row(struct mysql_windows *windows, const struct key *key, const struct slice *slice,
           const struct mysql_windows_rules *rules)
{
    struct buffer *sql = &windows->sql;
    const struct span tenant = tenant_of(windows, key);
    const struct span service = service_of(windows, key);
    const struct slo_config *config =
        objective_set_config(rules->objectives, rules->defaults, tenant, service);
    const struct slo_window_row row = slo_window_row(key->minute, slice, config);
    const uint64_t total = row.good + row.bad;

    buffer_append_char(sql, '(');
    append_row_key(sql, tenant, service, key->minute);
    buffer_printf(sql, ",%llu,%llu", (unsigned long long)row.good, (unsigned long long)row.bad);
    append_number(sql, total == 0 ? NAN : (double)row.good / (double)total);
    for (uint32_t i = 0; i < SLO_QUANTILES; i++) {
        append_number(sql, row.latency_ms[i]);
    }
    buffer_printf(sql, ",%d,UTC_TIMESTAMP(6))", row.violated ? 1 : 0);
}

static int
compare_names(struct span a, struct span b)
{
    const int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);

    if (order != 0) {
        return order;
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

/* Order by (tenant, service, minute). */
static int
compare_key(const struct mysql_windows *windows, const struct key *key, struct span tenant,
            struct span service, int64_t minute)
{
    int order = compare_names(tenant_of(windows, key), tenant);

    if (order == 0) {
        order = compare_names(service_of(windows, key), service);
    }
    if (order == 0) {
        order = key->minute < minute ? -1 : key->minute > minute;
    }
    return order;
}

static int
compare_keys(const void *left, const void *right, void *arg)
{
    const struct mysql_windows *windows = arg;
    const struct key *key = right;

    return compare_key(windows, left, tenant_of(windows, key), service_of(windows, key),
                       key->minute);
}

/* Puts the keys in order, each once: sources mostly have the same services. */
static void
sort_keys(struct mysql_windows *windows)
{
    struct key *keys = windows->keys;
    size_t kept = 0;

    if (windows->key_count == 0) {
        return;
    }
    qsort_r(keys, windows->key_count, sizeof(*keys), compare_keys, windows);
    for (size_t i = 1; i < windows->key_count; i++) {
        if (compare_keys(&keys[kept], &keys[i], windows) != 0) {
            keys[++kept] = keys[i];
        }
    }
    windows->key_count = kept + 1;
}

/* Number of the key among sorted ones; COUNT: none. */
static size_t
find_key(const struct mysql_windows *windows, const struct key *keys, size_t count,
         struct span tenant, struct span service, int64_t minute)
{
    size_t low = 0;
    size_t high = count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = compare_key(windows, &keys[middle], tenant, service, minute);

        if (order == 0) {
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return count;
}

/* Sums what all sources hold for KEYS [FIRST, FIRST + COUNT). */
static enum err
sum_slices(struct mysql_windows *windows, size_t first, size_t count, struct slice *sums)
{
    struct buffer *sql = &windows->sql;
    MYSQL_RES *result;
    MYSQL_ROW row;
    unsigned number;
    enum err err = ERR_OK;

    buffer_clear(sql, SIZE_MAX);
    buffer_append_text(sql, "SELECT tenant_id, service, minute, detail FROM slo_slices WHERE "
                            "(tenant_id, service, minute) IN (");
    for (size_t i = 0; i < count; i++) {
        const struct key *key = &windows->keys[first + i];
        const struct span tenant = tenant_of(windows, key);
        const struct span service = service_of(windows, key);

        buffer_append_text(sql, i > 0 ? ",(" : "(");
        mysql_append_hex(sql, tenant.data, tenant.len);
        buffer_append_char(sql, ',');
        mysql_append_hex(sql, service.data, service.len);
        buffer_printf(sql, ",%lld)", (long long)key->minute);
    }
    buffer_append_char(sql, ')');
    if (sql->failed) {
        return ERR_NO_MEMORY;
    }
    number = run(windows, &result);
    if (number != 0) {
        return unavailable(&windows->session, number, "read slices");
    }
    while (err == ERR_OK && (row = mysql_fetch_row(result)) != NULL) {
        const struct span tenant = mysql_row_span(result, row, 0);
        const struct span service = mysql_row_span(result, row, 1);
        const int64_t minute = row[2] == NULL ? 0 : strtoll(row[2], NULL, 10);

        const size_t at = find_key(windows, &windows->keys[first], count, tenant, service, minute);

        if (at < count) {
            err = slice_decode_add(mysql_row_span(result, row, 3), &sums[at]);
        }
        if (err == ERR_CORRUPT || err == ERR_FORMAT) { /* one bad row must not stop the others */
            log_error("mysql.window_slice_damaged", LOG_I64("minute", minute), LOG_ERR(err),
                      LOG_END);
            err = ERR_OK;
        }
    }
    mysql_free_result(result);
    return err;
}

static enum err
write_rows(struct mysql_windows *windows, size_t first, size_t count,
           const struct mysql_windows_rules *rules)
{
    struct slice sums[KEYS_MAX] = {0};
    unsigned number = 0;
    enum err err;

    ASSERT(count <= KEYS_MAX);
    err = sum_slices(windows, first, count, sums);
    if (err == ERR_OK) {
        buffer_clear(&windows->sql, SIZE_MAX);
        buffer_append_text(&windows->sql,
                           "INSERT INTO slo_windows (tenant_id,service,window_start,window_end,"
                           "good_count,bad_count,availability,latency_p50,latency_p90,latency_p95,"
                           "latency_p99,violated,updated_at) VALUES ");
        for (size_t i = 0; i < count; i++) {
            if (i > 0) {
                buffer_append_char(&windows->sql, ',');
            }
            append_row(windows, &windows->keys[first + i], &sums[i], rules);
        }
        buffer_append_text(
            &windows->sql,
            " ON DUPLICATE KEY UPDATE good_count=VALUES(good_count),bad_count=VALUES(bad_count),"
            "availability=VALUES(availability),latency_p50=VALUES(latency_p50),"
            "latency_p90=VALUES(latency_p90),latency_p95=VALUES(latency_p95),"
            "latency_p99=VALUES(latency_p99),violated=VALUES(violated),"
            "updated_at=VALUES(updated_at)");
        err = windows->sql.failed ? ERR_NO_MEMORY : ERR_OK;
    }
    if (err == ERR_OK) {
        number = run(windows, NULL);
        err = number == 0 ? ERR_OK : unavailable(&windows->session, number, "write windows");
    }
    for (size_t i = 0; i < count; i++) {
        slice_clear(&sums[i]);
    }
    return err;
}

/*
 * Of the keys from FIRST on, which are SOURCE's, leaves those of finished minutes and gives the
 * cursor that may be noted for them: before the first slice of a minute that still runs, which has
 * to be seen again.
 */
static uint64_t
drop_unfinished(struct mysql_windows *windows, size_t first, const struct source *source,
                int64_t now_minute, bool more)
{
    uint64_t cursor = source->cursor;
    bool all = true;
    size_t kept = first;

    for (size_t i = first; i < windows->key_count; i++) {
        const struct key key = windows->keys[i];

        if (key.minute >= now_minute) {
            all = false;
        } else if (is_representable(key.minute)) {
            windows->keys[kept++] = key;
        }
        if (all) {
            cursor = key.last_seq;
        } else if (cursor >= key.last_seq) { /* of one batch with the unfinished one */
            cursor = key.last_seq - 1;
        }
    }
    windows->key_count = kept;
    /* Events that are not measured move the offset and leave no slice. */
    return all && !more && source->offset > cursor ? source->offset : cursor;
}

static enum err
note_cursors(struct mysql_windows *windows)
{
    struct buffer *sql = &windows->sql;
    size_t noted = 0;
    unsigned number;

    buffer_clear(sql, SIZE_MAX);
    buffer_append_text(sql, "INSERT INTO slo_window_cursors (node_id,partition_id,last_seq) "
                            "VALUES ");
    for (size_t i = 0; i < windows->source_count; i++) {
        const struct source *source = &windows->sources[i];

        if (source->next != source->cursor) {
            buffer_append_text(sql, noted++ > 0 ? ",(" : "(");
            mysql_append_hex(sql, source->node_id, sizeof(source->node_id));
            buffer_printf(sql, ",%u,%llu)", source->partition, (unsigned long long)source->next);
        }
    }
    if (noted == 0) {
        return ERR_OK;
    }
    buffer_append_text(sql, " ON DUPLICATE KEY UPDATE last_seq=VALUES(last_seq)");
    if (sql->failed) {
        return ERR_NO_MEMORY;
    }
    number = run(windows, NULL);
    return number == 0 ? ERR_OK : unavailable(&windows->session, number, "note the cursors");
}

static enum err
run_step(struct mysql_windows *windows, const char *sql)
{
    const unsigned number = mysql_session_run_text(&windows->session, sql, NULL);

    return number == 0 ? ERR_OK : unavailable(&windows->session, number, sql);
}

/*
 * Reads sources from number *DONE on, in the order of this update, until there are enough keys.
 * *DONE is moved behind those that have been read to their ends.
 */
static enum err
read_sources(struct mysql_windows *windows, int64_t now_minute, size_t *done)
{
    enum err err = ERR_OK;

    windows->key_count = 0;
    buffer_clear(&windows->names, SIZE_MAX);
    while (err == ERR_OK && *done < windows->source_count && windows->key_count < CHANGES_MAX) {
        const size_t at = (windows->first + *done) % windows->source_count;
        const size_t first = windows->key_count;
        struct source *source = &windows->sources[at];
        bool more = false;

        err = read_changes(windows, source, &more);
        if (err != ERR_OK) {
            return err;
        }
        source->next = drop_unfinished(windows, first, source, now_minute, more);
        if (more && source->next != source->cursor) {
            return ERR_OK; /* what is beyond comes with the next transaction */
        }
        *done += 1; /* at its end, or the running minute is in the way: nothing to do before that */
    }
    return err;
}

/* One transaction: some changes of some sources. */
static enum err
take_up(struct mysql_windows *windows, const struct mysql_windows_rules *rules, size_t *done)
{
    size_t read = *done;
    enum err err = run_step(windows, "START TRANSACTION");

    if (err == ERR_OK) {
        err = read_sources(windows, rules->now_minute, &read);
    }
    if (err == ERR_OK) {
        sort_keys(windows);
    }
    for (size_t i = 0; err == ERR_OK && i < windows->key_count; i += KEYS_MAX) {
        const size_t left = windows->key_count - i;

        err = write_rows(windows, i, left < KEYS_MAX ? left : KEYS_MAX, rules);
    }
    if (err == ERR_OK) {
        err = note_cursors(windows);
    }
    if (err == ERR_OK) {
        err = run_step(windows, "COMMIT");
    } else if (windows->session.mysql != NULL) {
        mysql_session_close(&windows->session);
    }
    for (size_t i = 0; i < windows->source_count; i++) {
        struct source *source = &windows->sources[i];

        source->cursor = err == ERR_OK ? source->next : source->cursor;
        source->next = source->cursor;
    }
    *done = err == ERR_OK ? read : *done;
    return err;
}

static enum err
take_lock(struct mysql_windows *windows)
{
    uint64_t locked = 0;
    unsigned number;
    enum err err = connect(&windows->session, &windows->config);

    if (err != ERR_OK) {
        return err;
    }
    number =
        mysql_session_number(&windows->session, "SELECT GET_LOCK(" LOCK_NAME ", 0)", 0, &locked);
    if (number != 0) {
        return unavailable(&windows->session, number, "lock");
    }
    return locked == 1 ? ERR_OK : ERR_AGAIN;
}

static void
give_lock(struct mysql_windows *windows)
{
    uint64_t ignored;

    if (windows->session.mysql != NULL &&
        mysql_session_number(&windows->session, "SELECT RELEASE_LOCK(" LOCK_NAME ")", 0,
                             &ignored) != 0) {
        mysql_session_close(&windows->session);
    }
}

/* All sources, as far as the steps of one update go. */
static enum err
take_up_sources(struct mysql_windows *windows, const struct mysql_windows_rules *rules,
                bool *more_out)
{
    size_t steps = 0;
    size_t done = 0;
    enum err err = find_sources(windows);

    while (err == ERR_OK && done < windows->source_count && steps < STEPS_MAX) {
        err = take_up(windows, rules, &done);
        steps += windows->key_count > 0 ? 1 : 0;
    }
    if (err == ERR_OK && done < windows->source_count) {
        windows->first = (windows->first + done) % windows->source_count;
        *more_out = true;
    }
    return err;
}

enum err
mysql_windows_update(struct mysql_windows *windows, const struct mysql_windows_rules *rules,
                     bool *more_out)
{
    enum err err = take_lock(windows);

    *more_out = false;
    if (err == ERR_OK) {
        err = take_up_sources(windows, rules, more_out);
        give_lock(windows);
    }
    return err;
}

enum err
mysql_windows_add_silent(struct mysql_windows *windows, int64_t minute,
                         const struct mysql_windows_series *series, size_t count)
{
    struct buffer *sql = &windows->sql;
    enum err err = connect(&windows->session, &windows->config);

    for (size_t i = 0; err == ERR_OK && i < count; i += SILENT_MAX) {
        unsigned number;

        buffer_clear(sql, SIZE_MAX);
        buffer_append_text(sql, "INSERT IGNORE INTO slo_windows (tenant_id,service,window_start,"
                                "window_end,good_count,bad_count,updated_at) VALUES ");
        for (size_t j = i; j < count && j < i + SILENT_MAX; j++) {
            buffer_append_text(sql, j > i ? ",(" : "(");
            append_row_key(sql, series[j].tenant, series[j].service, minute);
            buffer_append_text(sql, ",0,0,UTC_TIMESTAMP(6))");
        }
        if (sql->failed) {
            return ERR_NO_MEMORY;
        }
        number = run(windows, NULL);
        err = number == 0 ? ERR_OK : unavailable(&windows->session, number, "write silence");
    }
    return err;
}

/* ---- reading ---- */

struct mysql_windows_reader {
    struct mysql_config config;
    struct slo_history history;
    pthread_mutex_t lock; /* guards the rest; held over a query, since there is one session */
    struct mysql_session session;
    struct buffer sql;
};

static enum err read_rows(void *self, struct span tenant, struct span service, int64_t from_minute,
                          int64_t to_minute, slo_window_fn *fn, void *arg);

enum err
mysql_windows_reader_open(struct mysql_windows_reader **out, const struct mysql_config *config)
{
    struct mysql_windows_reader *reader = calloc(1, sizeof(*reader));

    if (reader == NULL) {
        return ERR_NO_MEMORY;
    }
    reader->config = *config;
    reader->history = (struct slo_history){read_rows, reader};
    pthread_mutex_init(&reader->lock, NULL);
    *out = reader;
    return ERR_OK;
}

void
mysql_windows_reader_close(struct mysql_windows_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    mysql_session_close(&reader->session);
    buffer_free(&reader->sql);
    pthread_mutex_destroy(&reader->lock);
    free(reader);
}

const struct slo_history *
mysql_windows_history(const struct mysql_windows_reader *reader)
{
    return &reader->history;
}

static double
row_number(MYSQL_ROW row, unsigned column)
{
    return row[column] == NULL ? NAN : strtod(row[column], NULL);
}

static enum err
give_rows(struct mysql_windows_reader *reader, slo_window_fn *fn, void *arg)
{
    MYSQL_RES *result;
    MYSQL_ROW row;
    enum err err = ERR_OK;
    unsigned number = mysql_session_run(&reader->session, buffer_span(&reader->sql), &result);

    if (number != 0) {
        return unavailable(&reader->session, number, "read windows");
    }
    while (err == ERR_OK && (row = mysql_fetch_row(result)) != NULL) {
        struct slo_window_row item = {
            .minute = row[0] == NULL ? 0 : strtoll(row[0], NULL, 10),
            .good = mysql_row_u64(row, 1),
            .bad = mysql_row_u64(row, 2),
            .violated = mysql_row_u64(row, 3) != 0,
        };

        for (unsigned i = 0; i < SLO_QUANTILES; i++) {
            item.latency_ms[i] = row_number(row, 4 + i);
        }
        err = fn(arg, &item);
    }
    mysql_free_result(result);
    return err;
}

static enum err
read_rows(void *self, struct span tenant, struct span service, int64_t from_minute,
          int64_t to_minute, slo_window_fn *fn, void *arg)
{
    struct mysql_windows_reader *reader = self;
    struct buffer *sql = &reader->sql;
    enum err err;

    if (!is_representable(from_minute) || !is_representable(to_minute)) {
        return ERR_OK; /* no row can be there */
    }
    pthread_mutex_lock(&reader->lock);
    err = connect(&reader->session, &reader->config);
    if (err == ERR_OK) {
        buffer_clear(sql, SIZE_MAX);
        buffer_append_text(
            sql, "SELECT TIMESTAMPDIFF(MINUTE,'1970-01-01',window_start),good_count,bad_count,"
                 "violated,latency_p50,latency_p90,latency_p95,latency_p99 FROM slo_windows "
                 "WHERE tenant_id=");
        mysql_append_hex(sql, tenant.data, tenant.len);
        buffer_append_text(sql, " AND service=");
        mysql_append_hex(sql, service.data, service.len);
        buffer_append_text(sql, " AND window_start>=");
        append_time(sql, from_minute);
        buffer_append_text(sql, " AND window_start<");
        append_time(sql, to_minute);
        buffer_append_text(sql, " ORDER BY window_start");
        err = sql->failed ? ERR_NO_MEMORY : give_rows(reader, fn, arg);
    }
    pthread_mutex_unlock(&reader->lock);
    return err;
}
