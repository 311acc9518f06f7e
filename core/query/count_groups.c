/*
 * Rows have an allocation each, so they stay where they are while the list of them grows and is
 * sorted.
 */
#include "core/query/count_groups.h"

#include <search.h>
#include <stdlib.h>

/* The tree frees nothing: the list does. */
static void
keep(void *row)
{
    (void)row;
}

void
count_groups_free(struct count_groups *groups)
{
    if (groups->tree != NULL) {
        tdestroy(groups->tree, keep);
    }
    for (size_t i = 0; i < groups->count; i++) {
        free(groups->row[i]);
    }
    free((void *)groups->row);
    *groups = (struct count_groups){NULL, 0, 0, NULL};
}

/* Events without a value come after all others. */
static int
compare_values(const void *a, const void *b)
{
    const struct span left = ((const struct count_row *)a)->value;
    const struct span right = ((const struct count_row *)b)->value;
    const size_t len = left.len < right.len ? left.len : right.len;
    int order;

    if (left.data == NULL || right.data == NULL) {
        return (left.data == NULL) - (right.data == NULL);
    }
    order = memcmp(left.data, right.data, len);
    if (order != 0) {
        return order;
    }
    return left.len < right.len ? -1 : left.len > right.len;
}

static enum err
add_row(struct count_groups *groups, struct span value, struct count_row **out)
{
    struct count_row *row;

    if (groups->count == COUNT_VALUES_MAX) {
        return ERR_TOO_BIG;
    }
    if (groups->count == groups->capacity) {
        const size_t wanted = groups->capacity == 0 ? 64 : groups->capacity * 2;
        struct count_row **grown =
            (struct count_row **)realloc((void *)groups->row, wanted * sizeof(struct count_row *));

        if (grown == NULL) {
            return ERR_NO_MEMORY;
        }
        groups->row = grown;
        groups->capacity = wanted;
    }
    row = calloc(1, sizeof(*row) + value.len);
    if (row == NULL) {
        return ERR_NO_MEMORY;
    }
    if (value.data != NULL) {
        char *text = (char *)(row + 1);

        memcpy(text, value.data, value.len);
        row->value = (struct span){text, value.len};
    }
    groups->row[groups->count++] = row;
    *out = row;
    return ERR_OK;
}

enum err
count_groups_value(struct count_groups *groups, struct span value, struct count_row **out)
{
    const struct count_row wanted = {.value = value};
    void *found = tfind(&wanted, &groups->tree, compare_values);
    struct count_row *row;
    enum err err;

    if (found != NULL) {
        *out = *(struct count_row **)found;
        return ERR_OK;
    }
    err = add_row(groups, value, &row);
    if (err != ERR_OK) {
        return err;
    }
    if (tsearch(row, &groups->tree, compare_values) == NULL) {
        return ERR_NO_MEMORY; /* the row is freed with the rest */
    }
    *out = row;
    return ERR_OK;
}

enum err
count_groups_append(struct count_groups *groups, int64_t local_us, struct count_row **out)
{
    enum err err;

    ASSERT(groups->count == 0 || groups->row[groups->count - 1]->local_us < local_us);
    err = add_row(groups, (struct span){NULL, 0}, out);
    if (err == ERR_OK) {
        (*out)->local_us = local_us;
    }
    return err;
}

struct count_row *
count_groups_at(const struct count_groups *groups, int64_t local_us)
{
    size_t low = 0;
    size_t high = groups->count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;

        if (groups->row[middle]->local_us < local_us) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < groups->count && groups->row[low]->local_us == local_us ? groups->row[low] : NULL;
}

static int
compare_ascending(const void *a, const void *b)
{
    const struct count_row *left = *(struct count_row *const *)a;
    const struct count_row *right = *(struct count_row *const *)b;

    if (left->total != right->total) {
        return left->total < right->total ? -1 : 1;
    }
    return compare_values(left, right);
}

static int
compare_descending(const void *a, const void *b)
{
    const struct count_row *left = *(struct count_row *const *)a;
    const struct count_row *right = *(struct count_row *const *)b;

    if (left->total != right->total) {
        return left->total < right->total ? 1 : -1;
    }
    return compare_values(left, right);
}

void
count_groups_order_values(struct count_groups *groups, bool descending)
{
    if (groups->count > 1) {
        qsort((void *)groups->row, groups->count, sizeof(struct count_row *),
              descending ? compare_descending : compare_ascending);
    }
}

void
count_groups_drop_empty(struct count_groups *groups)
{
    size_t kept = 0;

    ASSERT(groups->tree == NULL); /* which would still know them */
    for (size_t i = 0; i < groups->count; i++) {
        if (groups->row[i]->total == 0) {
            free(groups->row[i]);
        } else {
            groups->row[kept++] = groups->row[i];
        }
    }
    groups->count = kept;
}

void
count_groups_reverse(struct count_groups *groups)
{
    for (size_t i = 0; i < groups->count / 2; i++) {
        struct count_row *row = groups->row[i];

        groups->row[i] = groups->row[groups->count - 1 - i];
        groups->row[groups->count - 1 - i] = row;
    }
}
