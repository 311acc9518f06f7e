/*
 * fake_clock.h - a clock that moves only when a test says so.
 *
 * Lives in its owner's memory. Any thread may read and move it.
 */
#ifndef SLUICE_TESTS_FAKES_FAKE_CLOCK_H
#define SLUICE_TESTS_FAKES_FAKE_CLOCK_H

#include <stdatomic.h>

#include "core/base/clock.h"

struct fake_clock {
    struct clock port; /* give &fake.port to what is tested */
    _Atomic int64_t wall_us;
    _Atomic int64_t monotonic_us;
};

/* Starts both clocks; FAKE must not move in memory afterwards. */
void fake_clock_init(struct fake_clock *fake, int64_t wall_us);

/* Lets time pass: both clocks move. MS >= 0. */
void fake_clock_pass_ms(struct fake_clock *fake, int64_t ms);

/* Steps the wall clock alone, in either direction. */
void fake_clock_step_wall_us(struct fake_clock *fake, int64_t us);

#endif
