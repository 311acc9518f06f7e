/*
 * webhook.h - the notifier over HTTP: one thread, one request at a time, by libcurl.
 *
 * Two forms. ALERTMANAGER posts arrays as Alertmanager's POST /api/v2/alerts takes them; a notice
 * that still waits when a newer one of the same alert comes is replaced by it. JSON posts one
 * document per change, in order, with the notice's id in it and as Idempotency-Key.
 *
 * The queue is bounded; what does not fit is refused and counted, and offered again later by the
 * book of alerts. A failed attempt is repeated after an exponential pause with jitter, for ever,
 * unless the receiver says that it will never take this body (400, 405, 413, 415, 422). Redirects
 * are not followed. Nobody waits for any of this: notify() copies and returns.
 */
#ifndef SLUICE_CLI_WEBHOOK_H
#define SLUICE_CLI_WEBHOOK_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/slo/notifier.h"

enum webhook_format {
    WEBHOOK_AUTO, /* by the URL's path: /api/v2/alerts is Alertmanager's */
    WEBHOOK_ALERTMANAGER,
    WEBHOOK_JSON,
};

struct webhook;

struct webhook_config {
    const char *url; /* borrowed, as are all texts here */
    enum webhook_format format;
    const char *token;        /* sent as "Authorization: Bearer ..."; NULL: none */
    const char *header;       /* a further "Name: value"; NULL: none */
    const char *external_url; /* where people reach this server; for links */
    const char *version;      /* for User-Agent */
    int timeout_ms;           /* of one attempt, connecting included */
    int backoff_ms;           /* first pause; doubles */
    int backoff_max_ms;
    int stop_grace_ms;  /* how long a request under way may go on when told to stop */
    int64_t repeat_us;  /* ALERTMANAGER: see notifier.h */
    uint32_t queue_max; /* notices */
    const struct clock *clock;
    void (*told)(void *arg, const struct notice *notice); /* delivered, or refused for good */
    void *told_arg;
};

/* Whether URL can be posted to: http or https, with a host. False: *WHY is a phrase. */
bool webhook_url_valid(const char *url, const char **why);

/* The form AUTO stands for, of a valid URL. */
enum webhook_format webhook_format_of(const char *url);

/* Starts the thread. ERR_NO_MEMORY; ERR_IO, logged. */
MUST_CHECK enum err webhook_start(struct webhook **out, const struct webhook_config *config);

/* The port; lasts as long as the webhook. */
const struct notifier *webhook_notifier(const struct webhook *webhook);

/*
 * Ends the thread within STOP_GRACE_MS; what it has not delivered is given up here and still due
 * for the book. notify() is ERR_CLOSED from now on. NULL allowed.
 */
void webhook_stop(struct webhook *webhook);
void webhook_free(struct webhook *webhook); /* stopped; NULL allowed */

#endif
