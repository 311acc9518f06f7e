#include "core/base/clock.h"

#include <stddef.h>
#include <time.h>

static int64_t
read_us(clockid_t id)
{
    struct timespec now;

    clock_gettime(id, &now); /* cannot fail for these two clocks */
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int64_t
system_wall_us(void *self)
{
    (void)self;
    return read_us(CLOCK_REALTIME);
}

static int64_t
system_monotonic_us(void *self)
{
    (void)self;
    return read_us(CLOCK_MONOTONIC);
}

const struct clock *
clock_system(void)
{
    static const struct clock system = {system_wall_us, system_monotonic_us, NULL};

    return &system;
}
