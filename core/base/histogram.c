/*
 * histogram.c - finding a bucket without a logarithm.
 *
 * log2() is not exact at bucket bounds; a value on a bound could land on either side depending on
 * the machine. The exponent comes from the number's own bits, and the place inside the octave from
 * comparing with the 32 correctly rounded bounds, so equal values share a bucket everywhere.
 */
#include "core/base/histogram.h"

#include <math.h>

/* 2^(k/32 - 1), correctly rounded: the bounds inside one octave of frexp()'s [0.5, 1). */
static const double BOUND[HISTOGRAM_PER_OCTAVE] = {
    0x1.0000000000000p-1, 0x1.059b0d3158574p-1, 0x1.0b5586cf9890fp-1, 0x1.11301d0125b51p-1,
    0x1.172b83c7d517bp-1, 0x1.1d4873168b9aap-1, 0x1.2387a6e756238p-1, 0x1.29e9df51fdee1p-1,
    0x1.306fe0a31b715p-1, 0x1.371a7373aa9cbp-1, 0x1.3dea64c123422p-1, 0x1.44e086061892dp-1,
    0x1.4bfdad5362a27p-1, 0x1.5342b569d4f82p-1, 0x1.5ab07dd485429p-1, 0x1.6247eb03a5585p-1,
    0x1.6a09e667f3bcdp-1, 0x1.71f75e8ec5f74p-1, 0x1.7a11473eb0187p-1, 0x1.82589994cce13p-1,
    0x1.8ace5422aa0dbp-1, 0x1.93737b0cdc5e5p-1, 0x1.9c49182a3f090p-1, 0x1.a5503b23e255dp-1,
    0x1.ae89f995ad3adp-1, 0x1.b7f76f2fb5e47p-1, 0x1.c199bdd85529cp-1, 0x1.cb720dcef9069p-1,
    0x1.d5818dcfba487p-1, 0x1.dfc97337b9b5fp-1, 0x1.ea4afa2a490dap-1, 0x1.f50765b6e4540p-1,
};

int32_t
histogram_index(double value_ms)
{
    int exponent;
    double fraction;
    int32_t below = 0; /* bounds below FRACTION, 0-32 */

    if (!(value_ms > HISTOGRAM_MIN_MS)) {
        return HISTOGRAM_ZERO;
    }
    if (value_ms >= HISTOGRAM_MAX_MS) {
        return HISTOGRAM_INDEX_MAX;
    }
    fraction = frexp(value_ms, &exponent);
    for (int32_t step = HISTOGRAM_PER_OCTAVE / 2; step > 0; step /= 2) {
        below += fraction > BOUND[below + step - 1] ? step : 0;
    }
    below += fraction > BOUND[below] ? 1 : 0;
    return (exponent - 1) * HISTOGRAM_PER_OCTAVE + below - 1;
}

/* 2^(POWER/32) from the same table, so that a bound and the search for it agree to the bit. */
static double
power(int32_t exponent_32nds)
{
    int32_t octave = exponent_32nds >> HISTOGRAM_SCHEMA; /* arithmetic shift: rounds down */
    int32_t place = exponent_32nds - octave * HISTOGRAM_PER_OCTAVE;

    return ldexp(BOUND[place], octave + 1);
}

double
histogram_upper_ms(int32_t index)
{
    ASSERT(index >= HISTOGRAM_ZERO);
    ASSERT(index <= HISTOGRAM_INDEX_MAX);
    return power(index + 1);
}

double
histogram_lower_ms(int32_t index)
{
    return index == HISTOGRAM_ZERO ? 0.0 : histogram_upper_ms(index - 1);
}

double
histogram_value_ms(int32_t index)
{
    if (index == HISTOGRAM_ZERO) {
        return 0.0;
    }
    return sqrt(histogram_lower_ms(index) * histogram_upper_ms(index));
}

double
histogram_quantile_ms(const struct sparse *buckets, uint32_t per_mille)
{
    uint64_t total = sparse_total(buckets);
    uint64_t rank;
    uint64_t seen = 0;

    ASSERT(per_mille >= 1);
    ASSERT(per_mille <= 1000);
    if (total == 0) {
        return NAN;
    }
    /* ceil(total x per_mille / 1000) in integers: 0.07 x 100 is not 7 in binary fractions. */
    rank = total / 1000 * per_mille + (total % 1000 * per_mille + 999) / 1000;
    for (uint32_t i = 0; i < buckets->len; i++) {
        seen += buckets->entries[i].count;
        if (seen >= rank) {
            return histogram_value_ms((int32_t)buckets->entries[i].key);
        }
    }
    ASSERT(seen == total); /* unreachable: rank <= total */
    return NAN;
}
