/*
 * decimal.h - a double as the shortest decimal that reads back the same.
 *
 * Pure functions. Any thread.
 */
#ifndef SLUICE_CORE_DECIMAL_H
#define SLUICE_CORE_DECIMAL_H

#include "core/base/base.h"

enum {
    DECIMAL_TEXT_SIZE = 32
};

/*
 * Writes VALUE, finite, with as few of 15 to 17 digits as read back as VALUE, in the form of
 * printf's %g, with a NUL, and returns the length.
 */
size_t decimal_format(double value, char text[DECIMAL_TEXT_SIZE]);

/* The same by printing and reading back, which takes a microsecond or two: what tests compare. */
size_t decimal_format_slowly(double value, char text[DECIMAL_TEXT_SIZE]);

#endif
