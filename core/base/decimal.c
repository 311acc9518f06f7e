/*
 * decimal.c - digits by one multiplication, tested by one division.
 *
 * Answers hold figures by the thousand, and printing each up to three times, and reading it back,
 * was a third of their cost. The mantissa of a long double has 64 bits, 11 more than a double's, so
 * one operation on exact operands is off by half of its last bit. Whatever comes so near to a half
 * that this could matter, or is outside of the everyday range, is printed the slow way: both ways
 * always give the same text.
 */
#include "core/base/decimal.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    DIGITS_MIN = 15,
    DIGITS_MAX = 17,
    POWER_MAX = DIGITS_MAX - 1 + 4, /* of ten that a value from FAST_MIN on is multiplied with */
};

#define FAST_MIN 1e-4 /* below, %g writes an exponent */
#define FAST_BELOW 1e15

/* The error of a product below 10^17, whose last bit is 2^-7, twice. */
#define NEAR_HALF 0x1p-7L

/* All exact: 5^20 has 47 bits. */
static const long double POWER_OF_TEN[POWER_MAX + 1] = {
    1e0L,  1e1L,  1e2L,  1e3L,  1e4L,  1e5L,  1e6L,  1e7L,  1e8L,  1e9L, 1e10L,
    1e11L, 1e12L, 1e13L, 1e14L, 1e15L, 1e16L, 1e17L, 1e18L, 1e19L, 1e20L};

size_t
decimal_format_slowly(double value, char text[DECIMAL_TEXT_SIZE])
{
    int len = 0;

    for (int digits = DIGITS_MIN; digits <= DIGITS_MAX; digits++) {
        len = snprintf(text, DECIMAL_TEXT_SIZE, "%.*g", digits, value);
        if (strtod(text, NULL) == value) {
            break;
        }
    }
    ASSERT(len > 0 && len < DECIMAL_TEXT_SIZE);
    return (size_t)len;
}

/* The E with 10^E <= VALUE < 10^(E+1). 0.1 to 0.0001 as doubles are above those numbers. */
static int
exponent_of(double value)
{
    int exponent = 0;

    if (value < 1.0) {
        return value >= 0.1 ? -1 : value >= 0.01 ? -2 : value >= 0.001 ? -3 : -4;
    }
    while ((long double)value >= POWER_OF_TEN[exponent + 1]) {
        exponent++;
    }
    return exponent;
}

enum verdict {
    YES,
    NO,
    UNSURE,
};

/* Whether DIGITS / 10^POWER reads back as VALUE. */
static enum verdict
reads_back(uint64_t digits, int power, double value)
{
    const uint64_t below_double = 0x7ff; /* the bits of the quotient that a double has not */
    const uint64_t half = 0x400;
    const long double quotient = (long double)digits / POWER_OF_TEN[power];
    uint64_t mantissa;

    memcpy(&mantissa, &quotient, sizeof(mantissa));
    if ((mantissa & below_double) == half) {
        return UNSURE; /* the first rounding may have hidden on which side of the half it is */
    }
    return (double)quotient == value ? YES : NO;
}

/* DIGITS / 10^POWER, above 0, without zeros at the end. */
static size_t
write_fixed(uint64_t digits, int power, char *text)
{
    char reversed[DECIMAL_TEXT_SIZE] = {0};
    size_t len = 0;
    int count = 0;

    while (power > 0 && digits % 10 == 0) {
        digits /= 10;
        power--;
    }
    /* Digits behind the point, the point, at least one digit in front of it. */
    while (digits > 0 || count <= power) {
        if (count == power && power > 0) {
            reversed[len++] = '.';
        }
        reversed[len++] = (char)('0' + digits % 10);
        digits /= 10;
        count++;
    }
    for (size_t i = 0; i < len; i++) {
        text[i] = reversed[len - 1 - i];
    }
    text[len] = '\0';
    return len;
}

/* 0: not this way. */
static size_t
format_fast(double value, char *text)
{
    const int exponent = exponent_of(value);

    for (int count = DIGITS_MIN; count <= DIGITS_MAX; count++) {
        const int power = count - 1 - exponent;
        const long double product = (long double)value * POWER_OF_TEN[power];
        const uint64_t digits = (uint64_t)(product + 0.5L);
        const long double off = product - (long double)digits;
        enum verdict verdict;

        if (fabsl(fabsl(off) - 0.5L) < NEAR_HALF) {
            return 0;
        }
        verdict = reads_back(digits, power, value);
        if (verdict == YES) {
            return write_fixed(digits, power, text);
        }
        if (verdict == UNSURE) {
            return 0;
        }
    }
    return 0;
}

size_t
decimal_format(double value, char text[DECIMAL_TEXT_SIZE])
{
    const double size = fabs(value);
    size_t len = 0;

    ASSERT(isfinite(value));
    if (LDBL_MANT_DIG == 64 && size >= FAST_MIN && size < FAST_BELOW) {
        text[0] = '-';
        len = format_fast(size, text + (value < 0 ? 1 : 0));
    } else if (value == 0.0 && !signbit(value)) {
        text[0] = '0';
        text[1] = '\0';
        return 1;
    }
    if (len == 0) {
        return decimal_format_slowly(value, text);
    }
    return len + (value < 0 ? 1 : 0);
}
