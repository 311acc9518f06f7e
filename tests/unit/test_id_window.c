/* The window of recent ids, compared step by step with a plain list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "wal/id_window.h"

/* Few distinct first bytes: most keys share their place in the table, which is the hard case. */
static struct id_entry
entry_of(uint64_t number, uint32_t places)
{
    struct id_entry entry = {.content_crc = (uint32_t)number * 3, .seq = number};
    uint32_t place = (uint32_t)number % places * 0x9E3779B1U;

    memcpy(entry.key, &place, sizeof(place));
    memcpy(entry.key + 8, &number, sizeof(number));
    return entry;
}

static void
add(struct id_window *window, uint64_t number, uint32_t places)
{
    const struct id_entry entry = entry_of(number, places);

    assert_null(id_window_find(window, entry.key));
    id_window_add(window, &entry);
}

static void
assert_holds(const struct id_window *window, uint64_t first, uint64_t last, uint32_t places)
{
    for (uint64_t number = first > 20 ? first - 20 : 0; number <= last + 20; number++) {
        const struct id_entry entry = entry_of(number, places);
        const struct id_entry *found = id_window_find(window, entry.key);

        if (number < first || number > last) {
            assert_null(found);
        } else {
            assert_non_null(found);
            assert_int_equal(found->seq, number);
            assert_int_equal(found->content_crc, entry.content_crc);
        }
    }
}

static void
it_holds_exactly_the_newest_ids(void **state)
{
    static const uint32_t CAPACITIES[] = {1, 2, 3, 7, 8, 9, 100, 1000};
    static const uint32_t PLACES[] = {1, 2, 5, 1000000007};

    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(CAPACITIES); c++) {
        for (size_t p = 0; p < ARRAY_LEN(PLACES); p++) {
            const uint32_t capacity = CAPACITIES[c];
            struct id_window *window;

            if (PLACES[p] < 5 && capacity > 100) {
                continue;
            }
            assert_int_equal(id_window_new(&window, capacity), ERR_OK);
            for (uint64_t number = 1; number <= 3 * capacity + 5; number++) {
                add(window, number, PLACES[p]);
                assert_int_equal(id_window_count(window), number < capacity ? number : capacity);
                if (number % (capacity / 8 + 1) == 0) {
                    assert_holds(window, number < capacity ? 1 : number - capacity + 1, number,
                                 PLACES[p]);
                }
            }
            id_window_free(window);
        }
    }
}

static void
a_cleared_window_is_as_good_as_new(void **state)
{
    struct id_window *window;

    (void)state;
    assert_int_equal(id_window_new(&window, 10), ERR_OK);
    for (uint64_t number = 1; number <= 17; number++) {
        add(window, number, 3);
    }
    id_window_clear(window);
    assert_int_equal(id_window_count(window), 0);
    assert_holds(window, 100, 99, 3);
    for (uint64_t number = 1; number <= 12; number++) {
        add(window, number, 3);
    }
    assert_holds(window, 3, 12, 3);
    id_window_free(window);
}

static void
freeing_nothing_is_allowed(void **state)
{
    (void)state;
    id_window_free(NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_holds_exactly_the_newest_ids),
        cmocka_unit_test(a_cleared_window_is_as_good_as_new),
        cmocka_unit_test(freeing_nothing_is_allowed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
