/*
 * series.c - one series: changes of a minute in all three levels, the slices of other nodes,
 * expiry.
 *
 * A change goes to all three levels or to none: room is reserved in each first.
 */
#include "core/slo/series.h"

#include <stdlib.h>

#include "core/slo/runs.h"

/* ---- life ---- */

struct series *
series_new(struct series_room *room, struct span tenant, struct span service)
{
    struct series *series = calloc(1, sizeof(*series) + tenant.len + service.len);
    char *names;

    if (series == NULL) {
        return NULL;
    }
    if (pthread_mutex_init(&series->lock, NULL) != 0) {
        free(series);
        return NULL;
    }
    series->room = room;
    names = (char *)(series + 1);
    memcpy(names, tenant.data, tenant.len);
    memcpy(names + tenant.len, service.data, service.len);
    series->tenant = (struct span){names, tenant.len};
    series->service = (struct span){names + tenant.len, service.len};
    series->hash = span_pair_hash(tenant, service);
    return series;
}

void
series_free(struct series *series)
{
    for (size_t i = 0; i < series->hours.len; i++) {
        hour_empty(series, line_item(&series->hours, sizeof(struct hour), i));
    }
    for (size_t i = 0; i < series->days.len; i++) {
        struct day *day = line_item(&series->days, sizeof(*day), i);
        slice_clear(&day->sum);
    }
    for (size_t i = 0; i < series->sources.len; i++) {
        struct source *source = line_item(&series->sources, sizeof(*source), i);
        for (size_t j = 0; j < source->slices.len; j++) {
            struct foreign *foreign = line_item(&source->slices, sizeof(*foreign), j);
            free(foreign->bytes);
        }
        line_free(&source->slices);
    }
    line_free(&series->hours);
    line_free(&series->days);
    line_free(&series->sources);
    runs_free(series->runs);
    free(series->limits);
    pthread_mutex_destroy(&series->lock);
    free(series);
}

/* ---- changing one minute in all three levels ---- */

struct place {
    struct day *day;
    struct hour *hour; /* open */
    struct minute *minute;
};

/* Drops what is empty around MINUTE. */
static void
tidy(struct series *series, int64_t minute)
{
    size_t at = line_lower(&series->hours, sizeof(struct hour), minute_floor(minute, HOUR));
    struct hour *hour;
    struct day *day;

    if (at < series->hours.len &&
        line_start(&series->hours, sizeof(*hour), at) == minute_floor(minute, HOUR)) {
        hour = line_item(&series->hours, sizeof(*hour), at);
        if (hour->open != NULL) {
            struct line *minutes = &hour->open->minutes;
            struct minute *item = line_find(minutes, sizeof(*item), minute);
            if (item != NULL && slice_is_empty(&item->slice)) {
                slice_clear(&item->slice);
                line_remove(minutes, sizeof(*item), line_lower(minutes, sizeof(*item), minute), 1);
                hour->minute_count--;
                atomic_fetch_sub_explicit(&series->room->minutes, 1, memory_order_relaxed);
            }
        }
        if (hour->minute_count == 0) {
            hour_empty(series, hour);
            line_remove(&series->hours, sizeof(*hour), at, 1);
        }
    }
    day = line_find(&series->days, sizeof(*day), minute_floor(minute, DAY));
    if (day != NULL && slice_is_empty(&day->sum)) {
        slice_clear(&day->sum);
        line_remove(&series->days, sizeof(*day),
                    line_lower(&series->days, sizeof(*day), minute_floor(minute, DAY)), 1);
    }
}

/* Finds MINUTE in all levels, or ERR_NOT_FOUND; ERR_NO_MEMORY when its hour cannot be opened. */
static enum err
find_place(struct series *series, int64_t minute, struct place *out)
{
    struct hour *hour = line_find(&series->hours, sizeof(*hour), minute_floor(minute, HOUR));
    enum err err;

    if (hour == NULL) {
        return ERR_NOT_FOUND;
    }
    err = hour_open(series, hour);
    if (err != ERR_OK) {
        return err;
    }
    out->hour = hour;
    out->day = line_find(&series->days, sizeof(*out->day), minute_floor(minute, DAY));
    ASSERT(out->day != NULL);
    out->minute = line_find(&hour->open->minutes, sizeof(*out->minute), minute);
    return out->minute == NULL ? ERR_NOT_FOUND : ERR_OK;
}

/* Finds or makes MINUTE in all levels. On ERR_NO_MEMORY the caller calls tidy(). */
static enum err
make_place(struct series *series, int64_t minute, struct place *out)
{
    struct day *day = line_find(&series->days, sizeof(*day), minute_floor(minute, DAY));
    struct hour *hour = line_find(&series->hours, sizeof(*hour), minute_floor(minute, HOUR));
    enum err err;

    if (day == NULL) {
        day = line_insert(&series->days, sizeof(*day), minute_floor(minute, DAY));
    }
    if (hour == NULL) {
        hour = line_insert(&series->hours, sizeof(*hour), minute_floor(minute, HOUR));
    }
    if (day == NULL || hour == NULL) {
        return ERR_NO_MEMORY;
    }
    err = hour_open(series, hour);
    if (err != ERR_OK) {
        return err;
    }
    *out = (struct place){day, hour, NULL};
    out->minute = line_find(&hour->open->minutes, sizeof(*out->minute), minute);
    if (out->minute == NULL) {
        out->minute = line_insert(&hour->open->minutes, sizeof(*out->minute), minute);
        if (out->minute == NULL) {
            return ERR_NO_MEMORY;
        }
        hour->minute_count++;
        atomic_fetch_add_explicit(&series->room->minutes, 1, memory_order_relaxed);
    }
    return ERR_OK;
}

static void
place_changed(struct series *series, const struct place *place)
{
    place->hour->used = ++series->tick;
    atomic_store_explicit(&series->changed, true, memory_order_release);
    place->hour->open->dirty |= UINT64_C(1) << (place->minute->start - place->hour->start);
    place->hour->known = 0;
    place->day->known = 0;
}

static void
place_subtract(struct series *series, const struct place *place, const struct slice *slice)
{
    slice_subtract(&place->minute->slice, slice);
    slice_subtract(&place->hour->open->sum, slice);
    slice_subtract(&place->day->sum, slice);
    runs_subtracted(series->runs, place->minute->start, slice);
    place_changed(series, place);
}

static void
place_add(struct series *series, const struct place *place, const struct slice *slice)
{
    slice_add_reserved(&place->minute->slice, slice);
    slice_add_reserved(&place->hour->open->sum, slice);
    slice_add_reserved(&place->day->sum, slice);
    runs_added(series->runs, place->minute->start, slice);
    place_changed(series, place);
}

/* Room in all levels; the day first, whose total is the largest. */
static enum err
place_reserve(const struct place *place, const struct slice *slice)
{
    enum err err = slice_reserve(&place->day->sum, slice);

    if (err == ERR_OK) {
        err = slice_reserve(&place->hour->open->sum, slice);
    }
    if (err == ERR_OK) {
        err = slice_reserve(&place->minute->slice, slice);
    }
    return err;
}

enum err
series_add(struct series *series, int64_t minute, const struct slice *slice)
{
    struct place place;
    enum err err = make_place(series, minute, &place);

    if (err == ERR_OK) {
        err = place_reserve(&place, slice);
    }
    if (err != ERR_OK) {
        tidy(series, minute);
        return err;
    }
    place_add(series, &place, slice);
    return ERR_OK;
}

/* What other nodes have given for MINUTE, added to *SUM. ERR_NO_MEMORY. */
static enum err
sum_foreign(const struct series *series, int64_t minute, struct slice *sum)
{
    enum err err = ERR_OK;

    for (size_t i = 0; err == ERR_OK && i < series->sources.len; i++) {
        const struct source *source = line_item(&series->sources, sizeof(*source), i);
        const struct foreign *foreign = line_find(&source->slices, sizeof(*foreign), minute);
        if (foreign != NULL) {
            err = slice_decode_add((struct span){foreign->bytes, foreign->len}, sum);
        }
    }
    return err;
}

enum err
series_subtract_own(struct series *series, int64_t minute, const struct slice *slice)
{
    struct slice kept = {0};
    struct place place;
    enum err err = find_place(series, minute, &place);

    if (err == ERR_NOT_FOUND) {
        return ERR_OK;
    }
    if (err == ERR_OK) {
        err = sum_foreign(series, minute, &kept);
    }
    if (err == ERR_OK) {
        err = slice_add(&kept, slice);
    }
    if (err == ERR_OK && slice_covers(&place.minute->slice, &kept)) {
        place_subtract(series, &place, slice);
        tidy(series, minute);
    }
    slice_clear(&kept);
    return err;
}

/* ---- other nodes ---- */

/* The encoded form in a block of its own; ERR_NO_MEMORY. */
static enum err
encode_exact(const struct slice *slice, char **bytes_out, size_t *len_out)
{
    struct buffer buffer = BUFFER_EMPTY;
    char *bytes;

    slice_encode(slice, &buffer);
    bytes = buffer.failed ? NULL : malloc(buffer.len);
    if (bytes == NULL) {
        buffer_free(&buffer);
        return ERR_NO_MEMORY;
    }
    memcpy(bytes, buffer.data, buffer.len);
    *bytes_out = bytes;
    *len_out = buffer.len;
    buffer_free(&buffer);
    return ERR_OK;
}

/* Finds or makes the entry of (ID, MINUTE); a new one has no bytes. NULL without memory. */
static struct foreign *
foreign_entry(struct series *series, int64_t id, int64_t minute)
{
    struct source *source = line_find(&series->sources, sizeof(*source), id);
    struct foreign *foreign;

    if (source == NULL) {
        source = line_insert(&series->sources, sizeof(*source), id);
    }
    if (source == NULL) {
        return NULL;
    }
    foreign = line_find(&source->slices, sizeof(*foreign), minute);
    if (foreign == NULL) {
        foreign = line_insert(&source->slices, sizeof(*foreign), minute);
    }
    return foreign;
}

/* Drops the entry of (ID, MINUTE) when it has no bytes, and the source when it was the last. */
static void
tidy_foreign(struct series *series, int64_t id, int64_t minute)
{
    size_t source_at = line_lower(&series->sources, sizeof(struct source), id);
    struct source *source = line_find(&series->sources, sizeof(*source), id);
    struct foreign *foreign;

    if (source == NULL) {
        return;
    }
    foreign = line_find(&source->slices, sizeof(*foreign), minute);
    if (foreign != NULL && foreign->bytes == NULL) {
        line_remove(&source->slices, sizeof(*foreign),
                    line_lower(&source->slices, sizeof(*foreign), minute), 1);
    }
    if (source->slices.len == 0) {
        line_free(&source->slices);
        line_remove(&series->sources, sizeof(*source), source_at, 1);
    }
}

/* Puts SLICE, not empty, in the place of what FOREIGN holds, in all levels. */
static enum err
foreign_replace(struct series *series, struct foreign *foreign, const struct slice *slice)
{
    struct slice old = {0};
    struct place place;
    char *bytes = NULL;
    size_t len = 0;
    enum err err = encode_exact(slice, &bytes, &len);

    if (err == ERR_OK && foreign->bytes != NULL) {
        if (len == foreign->len && memcmp(bytes, foreign->bytes, len) == 0) {
            free(bytes); /* mostly nothing has changed since the last reading */
            return ERR_OK;
        }
        err = slice_decode_add((struct span){foreign->bytes, foreign->len}, &old);
    }
    if (err == ERR_OK) {
        err = make_place(series, foreign->start, &place);
    }
    if (err == ERR_OK) {
        err = place_reserve(&place, slice);
    }
    if (err == ERR_OK) {
        place_subtract(series, &place, &old);
        place_add(series, &place, slice);
        free(foreign->bytes);
        foreign->bytes = bytes;
        foreign->len = len;
        bytes = NULL;
    }
    tidy(series, foreign->start);
    slice_clear(&old);
    free(bytes);
    return err;
}

/* Takes FOREIGN's slice out of all levels. */
static enum err
foreign_remove(struct series *series, struct foreign *foreign)
{
    struct slice old = {0};
    struct place place;
    enum err err;

    if (foreign->bytes == NULL) {
        return ERR_OK;
    }
    err = slice_decode_add((struct span){foreign->bytes, foreign->len}, &old);
    if (err == ERR_OK) {
        err = find_place(series, foreign->start, &place);
        ASSERT(err != ERR_NOT_FOUND);
    }
    if (err == ERR_OK) {
        place_subtract(series, &place, &old);
        tidy(series, foreign->start);
        free(foreign->bytes);
        foreign->bytes = NULL;
    }
    slice_clear(&old);
    return err;
}

enum err
series_set_foreign(struct series *series, int64_t id, int64_t minute, const struct slice *slice)
{
    struct foreign *foreign = foreign_entry(series, id, minute);
    enum err err = ERR_NO_MEMORY;

    if (foreign != NULL) {
        err = slice_is_empty(slice) ? foreign_remove(series, foreign)
                                    : foreign_replace(series, foreign, slice);
    }
    tidy_foreign(series, id, minute);
    return err;
}

/* ---- expiry ---- */

static void
expire_sources(struct series *series, int64_t before)
{
    size_t kept = 0;

    for (size_t i = 0; i < series->sources.len; i++) {
        struct source *source = line_item(&series->sources, sizeof(*source), i);
        size_t gone = line_lower(&source->slices, sizeof(struct foreign), before);
        for (size_t j = 0; j < gone; j++) {
            struct foreign *foreign = line_item(&source->slices, sizeof(*foreign), j);
            free(foreign->bytes);
        }
        line_remove(&source->slices, sizeof(struct foreign), 0, gone);
        if (source->slices.len == 0) {
            line_free(&source->slices);
        } else {
            *(struct source *)line_item(&series->sources, sizeof(*source), kept++) = *source;
        }
    }
    series->sources.len = kept;
}

void
series_expire(struct series *series, int64_t before, int64_t pack_before)
{
    size_t hours = line_lower(&series->hours, sizeof(struct hour), before);
    size_t days = line_lower(&series->days, sizeof(struct day), before);

    for (size_t i = 0; i < hours; i++) {
        hour_empty(series, line_item(&series->hours, sizeof(struct hour), i));
    }
    line_remove(&series->hours, sizeof(struct hour), 0, hours);
    for (size_t i = 0; i < days; i++) {
        struct day *day = line_item(&series->days, sizeof(*day), i);
        slice_clear(&day->sum);
    }
    line_remove(&series->days, sizeof(struct day), 0, days);
    expire_sources(series, before);
    runs_expire(series->runs, before);
    for (size_t i = 0; i < series->hours.len && series->open_count > 0; i++) {
        struct hour *hour = line_item(&series->hours, sizeof(*hour), i);
        if (hour->open != NULL && hour->start + HOUR <= pack_before) {
            hour_pack(series, hour);
        }
    }
}
