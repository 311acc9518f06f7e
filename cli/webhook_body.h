/*
 * webhook_body.h - notices as the bytes a receiver gets. Pure; any thread.
 */
#ifndef SLUICE_CLI_WEBHOOK_BODY_H
#define SLUICE_CLI_WEBHOOK_BODY_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/slo/notifier.h"

/*
 * Appends COUNT notices as Alertmanager's postableAlerts. One that fires ends at NOW_US + 4 x
 * REPEAT_US: if this server dies, Alertmanager lets go of it by itself, as with Prometheus. Links
 * lead to EXTERNAL_URL.
 */
void webhook_body_alertmanager(struct buffer *out, const struct notice *const notices[],
                               size_t count, const char *external_url, int64_t now_us,
                               int64_t repeat_us);

/* Appends one notice as a document of our own; described in README.md. */
void webhook_body_json(struct buffer *out, const struct notice *notice, const char *external_url);

#endif
