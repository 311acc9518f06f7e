/*
 * count_names.h - the numbers under which counts know event names, channels and campaigns.
 *
 * Clients choose these words, so their number is bounded (counts.h): an event name beyond the limit
 * has no number, a channel or campaign beyond it counts as COUNT_OTHER. Numbers are given once and
 * never taken back, and whether a word has one never changes after its first event: so a word leads
 * to the same number whenever it is looked up, also after a restart.
 *
 * One thread gives numbers; any thread reads. Words live until count_names_free().
 */
#ifndef SLUICE_CORE_COUNT_NAMES_H
#define SLUICE_CORE_COUNT_NAMES_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/counts/count_store.h"

enum {
    COUNT_NO_NAME = 0,
    COUNT_DIMENSIONS = 2, /* enum counts_dimension: channel, campaign */
};

struct count_names;

/* Absent (data NULL) is a value of its own. */
static inline bool
count_value_equal(struct span a, struct span b)
{
    return a.data == NULL || b.data == NULL ? a.data == b.data : span_equal(a, b);
}

struct count_place {
    uint32_t name; /* COUNT_NO_NAME beyond the limit */
    uint16_t value[COUNT_DIMENSIONS];
};

/* DIMENSION_MAX: values per name; VALUES_MAX over all of them. */
struct count_names_limits {
    uint32_t names_max;
    uint32_t values_max;
    uint16_t dimension_max[COUNT_DIMENSIONS];
};

MUST_CHECK enum err count_names_new(struct count_names **out,
                                    const struct count_names_limits *limits);
void count_names_free(struct count_names *names);

/* Takes back what count_names_put_unsaved() wrote; in the order of the keys, so without gaps. */
MUST_CHECK enum err count_names_load(struct count_names *names, uint32_t number, struct span tenant,
                                     struct span name);
MUST_CHECK enum err count_names_load_value(struct count_names *names, uint32_t number,
                                           uint8_t dimension, uint16_t index, struct span value);

/*
 * The numbers of an event's words; gives new ones. VALUES[].data == NULL: absent, a value like any
 * other. The one thread. ERR_NO_MEMORY.
 */
MUST_CHECK enum err count_names_place(struct count_names *names, struct span tenant,
                                      struct span name, const struct span values[COUNT_DIMENSIONS],
                                      struct count_place *out);

/* The same without giving any. False when the name has no number. */
bool count_names_find(struct count_names *names, struct span tenant, struct span name,
                      uint32_t *number_out);
/* False when the value has none: then, if its name has others, its events count among those. */
bool count_names_find_value(struct count_names *names, uint32_t number, uint8_t dimension,
                            struct span value, uint16_t *index_out);
bool count_names_has_other(struct count_names *names, uint32_t number, uint8_t dimension);

/* Values of a name have the indexes 1 to this (and COUNT_OTHER). */
uint16_t count_names_values(struct count_names *names, uint32_t number, uint8_t dimension);
struct span count_names_value(struct count_names *names, uint32_t number, uint8_t dimension,
                              uint16_t index);
void count_names_text(struct count_names *names, uint32_t number, struct span *tenant_out,
                      struct span *name_out);

/* Names have the numbers 1 to this. */
uint32_t count_names_count(struct count_names *names);
uint32_t count_names_value_total(struct count_names *names);

/* The numbers of TENANT's names in the order of the names' bytes; free() the array. */
MUST_CHECK enum err count_names_of(struct count_names *names, struct span tenant,
                                   uint32_t **numbers_out, size_t *count_out);

/* Writes what is not in the store yet; once that is durable, count_names_saved() with the mark. */
struct count_names_mark {
    uint32_t names;
    size_t values;
};
struct count_names_mark count_names_put_unsaved(struct count_names *names,
                                                struct count_changes *changes);
void count_names_saved(struct count_names *names, struct count_names_mark mark);

#endif
