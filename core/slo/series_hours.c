/*
 * series_hours.c - the hours of a series: open ones, which are written to, and packed ones, which
 * are one block of encoded slices and take a tenth of the room.
 */
#include "core/slo/series.h"

#include <stdlib.h>

static void
free_open(struct open_hour *open)
{
    if (open == NULL) {
        return;
    }
    for (size_t i = 0; i < open->minutes.len; i++) {
        struct minute *minute = line_item(&open->minutes, sizeof(*minute), i);
        slice_clear(&minute->slice);
    }
    line_free(&open->minutes);
    slice_clear(&open->sum);
    free(open);
}

void
hour_empty(struct series *series, struct hour *hour)
{
    if (hour->open != NULL) {
        series->open_count--;
        atomic_fetch_sub_explicit(&series->room->open_hours, 1, memory_order_relaxed);
    }
    atomic_fetch_sub_explicit(&series->room->minutes, hour->minute_count, memory_order_relaxed);
    free_open(hour->open);
    free(hour->packed);
}

static void
pack_slice(struct buffer *scratch, struct buffer *out, const struct slice *slice)
{
    uint8_t length[LENGTH_BYTES];

    buffer_clear(scratch, SIZE_MAX);
    slice_encode(slice, scratch);
    if (scratch->failed) {
        out->failed = true;
        return;
    }
    if (scratch->len < LENGTH_SHORT) {
        buffer_append_char(out, (char)scratch->len);
    } else {
        buffer_append_char(out, (char)LENGTH_SHORT);
        put_u32(length, narrow_u32(scratch->len));
        buffer_append(out, length, sizeof(length));
    }
    buffer_append_span(out, buffer_span(scratch));
}

void
hour_pack(struct series *series, struct hour *hour)
{
    struct buffer scratch = BUFFER_EMPTY;
    struct buffer bytes = BUFFER_EMPTY;
    const struct line *minutes = &hour->open->minutes;
    char *exact;

    limits_count_hour(series->limits, hour);
    pack_slice(&scratch, &bytes, &hour->open->sum);
    for (size_t i = 0; i < minutes->len; i++) {
        const struct minute *minute = line_item(minutes, sizeof(*minute), i);
        buffer_append_char(&bytes, (char)(minute->start - hour->start));
        pack_slice(&scratch, &bytes, &minute->slice);
    }
    exact = bytes.failed || bytes.len > UINT32_MAX ? NULL : malloc(bytes.len);
    if (exact != NULL) {
        memcpy(exact, bytes.data, bytes.len);
        hour->packed = exact;
        hour->packed_len = narrow_u32(bytes.len);
        free_open(hour->open);
        hour->open = NULL;
        series->open_count--;
        atomic_fetch_sub_explicit(&series->room->open_hours, 1, memory_order_relaxed);
    }
    buffer_free(&bytes);
    buffer_free(&scratch);
}

/* Keeps the number of open hours bounded before one more opens: packs the series' least used. */
static void
make_room(struct series *series)
{
    struct hour *victim = NULL;

    if (series->open_count < OPEN_PER_SERIES ||
        atomic_load_explicit(&series->room->open_hours, memory_order_relaxed) <
            series->room->open_hours_max) {
        return;
    }
    for (size_t i = 0; i < series->hours.len; i++) {
        struct hour *hour = line_item(&series->hours, sizeof(*hour), i);
        if (hour->open != NULL && (victim == NULL || hour->used < victim->used)) {
            victim = hour;
        }
    }
    ASSERT(victim != NULL);
    hour_pack(series, victim);
}

static enum err
unpack_into(const struct hour *hour, struct open_hour *open)
{
    struct span rest = packed_minutes(hour);
    struct span bytes;
    int64_t start;
    enum err err = slice_decode_add(packed_sum(hour), &open->sum);

    while (err == ERR_OK && unpack_minute(hour, &rest, &start, &bytes)) {
        struct minute *minute = line_insert(&open->minutes, sizeof(*minute), start);
        err = minute == NULL ? ERR_NO_MEMORY : slice_decode_add(bytes, &minute->slice);
    }
    return err;
}

enum err
hour_open(struct series *series, struct hour *hour)
{
    struct open_hour *open;

    if (hour->open != NULL) {
        return ERR_OK;
    }
    make_room(series);
    open = calloc(1, sizeof(*open));
    if (open == NULL) {
        return ERR_NO_MEMORY;
    }
    if (hour->packed != NULL) {
        enum err err = unpack_into(hour, open);
        if (err != ERR_OK) {
            ASSERT(err == ERR_NO_MEMORY); /* the bytes are our own */
            free_open(open);
            return err;
        }
        free(hour->packed);
        hour->packed = NULL;
        hour->packed_len = 0;
    }
    hour->open = open;
    series->open_count++;
    atomic_fetch_add_explicit(&series->room->open_hours, 1, memory_order_relaxed);
    return ERR_OK;
}

size_t
series_first_hour(const struct series *series, int64_t from)
{
    const struct line *hours = &series->hours;
    const int64_t start = minute_floor(from, HOUR);
    int64_t back;

    if (hours->len > 0) {
        back = (line_start(hours, sizeof(struct hour), hours->len - 1) - start) / HOUR;
        if (back > 0 && back < (int64_t)hours->len) {
            const size_t at = hours->len - 1 - (size_t)back;
            if (line_start(hours, sizeof(struct hour), at) == start) {
                return at;
            }
        }
    }
    return line_lower(hours, sizeof(struct hour), start);
}

struct hour *
series_next_hour(const struct series *series, size_t *at, int64_t to)
{
    struct hour *hour;

    if (*at >= series->hours.len) {
        return NULL;
    }
    hour = line_item(&series->hours, sizeof(*hour), *at);
    (*at)++;
    return hour->start < to ? hour : NULL;
}

bool
hour_is_most(const struct hour *hour, int64_t from, int64_t to)
{
    const struct line *minutes;
    size_t first;
    size_t end;

    if (hour->open == NULL) {
        return range_is_most(hour->start, HOUR, from, to);
    }
    minutes = &hour->open->minutes;
    first = line_lower(minutes, sizeof(struct minute), from);
    end = line_lower(minutes, sizeof(struct minute), to);
    return (end - first) * 2 > minutes->len;
}
