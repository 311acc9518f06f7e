/*
 * test_histogram.c - buckets against their definition, quantiles against sorted values.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/histogram.h"

static void
every_bound_belongs_to_the_bucket_below_it(void **state)
{
    (void)state;
    for (int32_t i = HISTOGRAM_INDEX_MIN; i <= HISTOGRAM_INDEX_MAX; i++) {
        double upper = histogram_upper_ms(i);
        assert_int_equal(histogram_index(upper), i);
        assert_int_equal(histogram_index(nextafter(upper, 0.0)), i);
        if (i < HISTOGRAM_INDEX_MAX) {
            assert_int_equal(histogram_index(nextafter(upper, INFINITY)), i + 1);
        }
        assert_true(histogram_lower_ms(i) < upper);
    }
}

static void
bounds_are_the_powers_of_two_to_the_32nd(void **state)
{
    (void)state;
    for (int32_t i = HISTOGRAM_INDEX_MIN; i <= HISTOGRAM_INDEX_MAX; i++) {
        double expected = exp2((i + 1) / 32.0);
        assert_true(fabs(histogram_upper_ms(i) / expected - 1.0) < 1e-15);
    }
    assert_true(histogram_upper_ms(-1) == 1.0);
    assert_true(histogram_upper_ms(HISTOGRAM_INDEX_MAX) == HISTOGRAM_MAX_MS);
    assert_true(histogram_lower_ms(HISTOGRAM_INDEX_MIN) == HISTOGRAM_MIN_MS);
}

/* OpenTelemetry's data model, scale 0 and positive scales: 1 is in bucket -1, 2 the last of octave
 * 0. */
static void
indices_are_those_of_opentelemetry(void **state)
{
    (void)state;
    assert_int_equal(histogram_index(1.0), -1);
    assert_int_equal(histogram_index(nextafter(1.0, 2.0)), 0);
    assert_int_equal(histogram_index(2.0), 31);
    assert_int_equal(histogram_index(4.0), 63);
    assert_int_equal(histogram_index(500.0), 286); /* log2(500) x 32 = 286.9 */
    assert_int_equal(histogram_index(0.5), -33);
}

static void
values_outside_of_the_range_are_clamped(void **state)
{
    (void)state;
    assert_int_equal(histogram_index(0.0), HISTOGRAM_ZERO);
    assert_int_equal(histogram_index(-1.0), HISTOGRAM_ZERO);
    assert_int_equal(histogram_index(NAN), HISTOGRAM_ZERO);
    assert_int_equal(histogram_index(HISTOGRAM_MIN_MS), HISTOGRAM_ZERO);
    assert_int_equal(histogram_index(5e-324), HISTOGRAM_ZERO);
    assert_int_equal(histogram_index(nextafter(HISTOGRAM_MIN_MS, 1.0)), HISTOGRAM_INDEX_MIN);
    assert_int_equal(histogram_index(1e300), HISTOGRAM_INDEX_MAX);
    assert_int_equal(histogram_index(INFINITY), HISTOGRAM_INDEX_MAX);
    assert_true(histogram_value_ms(HISTOGRAM_ZERO) == 0.0);
    assert_true(histogram_lower_ms(HISTOGRAM_ZERO) == 0.0);
    assert_true(histogram_upper_ms(HISTOGRAM_ZERO) == HISTOGRAM_MIN_MS);
}

static void
a_buckets_value_is_within_the_stated_error_of_all_it_holds(void **state)
{
    (void)state;
    for (int32_t i = HISTOGRAM_INDEX_MIN; i <= HISTOGRAM_INDEX_MAX; i++) {
        double value = histogram_value_ms(i);
        double lower = histogram_lower_ms(i);
        double upper = histogram_upper_ms(i);
        assert_true((value - lower) / lower < HISTOGRAM_MAX_RELATIVE_ERROR);
        assert_true((upper - value) / upper < HISTOGRAM_MAX_RELATIVE_ERROR);
    }
}

static int
compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static void
count_value(struct sparse *buckets, double value)
{
    assert_int_equal(sparse_reserve_keys(buckets, 1), ERR_OK);
    sparse_add_one(buckets, histogram_index(value), 1);
}

static void
quantiles_are_within_the_error_of_the_sorted_values(void **state)
{
    enum {
        COUNT_MAX = 3000
    };
    static double values[COUNT_MAX];
    const uint32_t per_mille[] = {1, 10, 250, 500, 900, 950, 990, 999, 1000};

    (void)state;
    srand48(7);
    for (int round = 0; round < 40; round++) {
        struct sparse buckets = {NULL, 0, 0};
        uint64_t count = 1 + (uint64_t)(drand48() * (COUNT_MAX - 1));
        for (uint64_t i = 0; i < count; i++) {
            values[i] = exp2(drand48() * 38.0 - 9.5); /* the whole range */
            count_value(&buckets, values[i]);
        }
        qsort(values, count, sizeof(values[0]), compare_doubles);
        for (size_t q = 0; q < ARRAY_LEN(per_mille); q++) {
            uint64_t rank = (count * per_mille[q] + 999) / 1000;
            double exact = values[rank - 1];
            double got = histogram_quantile_ms(&buckets, per_mille[q]);
            assert_true(fabs(got - exact) / exact < HISTOGRAM_MAX_RELATIVE_ERROR);
        }
        sparse_clear(&buckets);
    }
}

static void
a_quantile_is_the_nearest_rank(void **state)
{
    struct sparse buckets = {NULL, 0, 0};

    (void)state;
    assert_true(isnan(histogram_quantile_ms(&buckets, 500)));
    count_value(&buckets, 0.0);
    assert_true(histogram_quantile_ms(&buckets, 500) == 0.0);
    assert_true(histogram_quantile_ms(&buckets, 1000) == 0.0);
    count_value(&buckets, 100.0);
    /* The first of two is the median, the second everything above. */
    assert_true(histogram_quantile_ms(&buckets, 500) == 0.0);
    assert_true(fabs(histogram_quantile_ms(&buckets, 501) - 100.0) < 1.09);
    sparse_clear(&buckets);
}

static void
a_quantile_of_huge_counts_does_not_overflow(void **state)
{
    struct sparse buckets = {NULL, 0, 0};

    (void)state;
    assert_int_equal(sparse_reserve_keys(&buckets, 2), ERR_OK);
    sparse_add_one(&buckets, 0, UINT64_C(1) << 62);
    sparse_add_one(&buckets, 320, 1);
    assert_true(histogram_quantile_ms(&buckets, 999) == histogram_value_ms(0));
    assert_true(histogram_quantile_ms(&buckets, 1000) == histogram_value_ms(320));
    sparse_clear(&buckets);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_bound_belongs_to_the_bucket_below_it),
        cmocka_unit_test(bounds_are_the_powers_of_two_to_the_32nd),
        cmocka_unit_test(indices_are_those_of_opentelemetry),
        cmocka_unit_test(values_outside_of_the_range_are_clamped),
        cmocka_unit_test(a_buckets_value_is_within_the_stated_error_of_all_it_holds),
        cmocka_unit_test(quantiles_are_within_the_error_of_the_sorted_values),
        cmocka_unit_test(a_quantile_is_the_nearest_rank),
        cmocka_unit_test(a_quantile_of_huge_counts_does_not_overflow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
