#include "tests/fakes/fake_notifier.h"

#include <stdlib.h>

static enum err
notify(void *self, const struct notice *notice)
{
    struct fake_notifier *fake = self;

    if (fake->answer == ERR_OK) {
        ASSERT(fake->count < FAKE_NOTICES_MAX);
        fake->notices[fake->count++] = *notice;
    }
    return fake->answer;
}

static void
stats(void *self, struct notifier_stats *out)
{
    const struct fake_notifier *fake = self;

    *out = (struct notifier_stats){.sent = fake->count};
}

static const struct notifier_ops OPS = {notify, stats};

void
fake_notifier_init(struct fake_notifier *fake, int64_t repeat_us)
{
    *fake = (struct fake_notifier){.port = {&OPS, fake, repeat_us}, .answer = ERR_OK};
    fake->notices = calloc(FAKE_NOTICES_MAX, sizeof(struct notice));
    ASSERT(fake->notices != NULL);
}

void
fake_notifier_fini(struct fake_notifier *fake)
{
    free(fake->notices);
}
