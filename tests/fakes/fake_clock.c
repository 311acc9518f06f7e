/*
 * fake_clock.c - two atomics behind the clock port.
 */
#include "tests/fakes/fake_clock.h"

#include "core/base/base.h"

static int64_t
fake_wall_us(void *self)
{
    struct fake_clock *fake = self;

    return atomic_load(&fake->wall_us);
}

static int64_t
fake_monotonic_us(void *self)
{
    struct fake_clock *fake = self;

    return atomic_load(&fake->monotonic_us);
}

void
fake_clock_init(struct fake_clock *fake, int64_t wall_us)
{
    fake->port = (struct clock){fake_wall_us, fake_monotonic_us, fake};
    atomic_init(&fake->wall_us, wall_us);
    atomic_init(&fake->monotonic_us, 1000000);
}

void
fake_clock_pass_ms(struct fake_clock *fake, int64_t ms)
{
    ASSERT(ms >= 0);
    atomic_fetch_add(&fake->wall_us, ms * 1000);
    atomic_fetch_add(&fake->monotonic_us, ms * 1000);
}

void
fake_clock_step_wall_us(struct fake_clock *fake, int64_t us)
{
    atomic_fetch_add(&fake->wall_us, us);
}
