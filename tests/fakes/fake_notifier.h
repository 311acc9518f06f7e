/*
 * fake_notifier.h - a notifier in memory: keeps what it is told, refuses on demand.
 *
 * Lives in its owner's memory. One thread at a time.
 */
#ifndef SLUICE_TESTS_FAKES_FAKE_NOTIFIER_H
#define SLUICE_TESTS_FAKES_FAKE_NOTIFIER_H

#include "core/slo/notifier.h"

enum {
    FAKE_NOTICES_MAX = 1024
};

struct fake_notifier {
    struct notifier port; /* give &fake.port to what is tested */
    enum err answer;      /* of notify(); ERR_OK keeps the notice */
    struct notice *notices;
    size_t count;
};

/* REPEAT_US as in struct notifier. FAKE must not move in memory afterwards. */
void fake_notifier_init(struct fake_notifier *fake, int64_t repeat_us);
void fake_notifier_fini(struct fake_notifier *fake);

#endif
