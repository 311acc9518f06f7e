/*
 * clock.h - the clock port: time is always asked of one of these, so tests can move it by hand.
 *
 * Wall time may step in either direction and never decides an order; sequence numbers do.
 * Monotonic time measures durations and timeouts. Any thread may call.
 */
#ifndef SLUICE_CORE_CLOCK_H
#define SLUICE_CORE_CLOCK_H

#include <stdint.h>

struct clock {
    int64_t (*wall_us)(void *self);      /* microseconds since 1970-01-01 UTC */
    int64_t (*monotonic_us)(void *self); /* microseconds since some fixed past moment */
    void *self;
};

/* The machine's clocks (CLOCK_REALTIME, CLOCK_MONOTONIC). Static, never freed. */
const struct clock *clock_system(void);

static inline int64_t
clock_wall_us(const struct clock *clock)
{
    return clock->wall_us(clock->self);
}

static inline int64_t
clock_monotonic_us(const struct clock *clock)
{
    return clock->monotonic_us(clock->self);
}

#endif
