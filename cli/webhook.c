#include "cli/webhook.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cli/webhook_body.h"
#include "core/base/log.h"
#include "core/base/uuid.h"

enum {
    BATCH_MAX = 64,             /* notices in one post to Alertmanager */
    ANSWER_BYTES_MAX = 1 << 20, /* of an answer nobody reads; beyond, the connection ends */
    POLL_MS = 1000,
    POLL_STOPPING_MS = 50,
};

static const char ALERTMANAGER_PATH[] = "/api/v2/alerts";

struct webhook {
    struct webhook_config config;
    enum webhook_format format; /* never WEBHOOK_AUTO */
    struct notifier notifier;
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers; /* those every request has */
    struct buffer body;         /* the thread's own, as all above but for wake-ups of MULTI */
    size_t answer_bytes;
    pthread_t thread;
    pthread_mutex_t lock; /* guards the next five */
    pthread_cond_t wake;
    struct notice **queue; /* a ring of queue_max */
    uint32_t first;
    uint32_t count;
    bool stopping;
    _Atomic bool stop_seen; /* STOPPING, for the thread while it does not hold LOCK */
    bool joined;
    _Atomic uint64_t sent;
    _Atomic uint64_t failed;
    _Atomic uint64_t refused;
    _Atomic uint64_t dropped;
};

/* ---- addresses ---- */

bool
webhook_url_valid(const char *url, const char **why)
{
    CURLU *parsed = curl_url();
    char *scheme = NULL;
    char *host = NULL;
    bool valid = false;

    *why = "is not a URL";
    if (parsed != NULL && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
        curl_url_get(parsed, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
        *why = "must begin with http:// or https://";
        valid = strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0;
    }
    curl_free(scheme);
    curl_free(host);
    curl_url_cleanup(parsed);
    return valid;
}

enum webhook_format
webhook_format_of(const char *url)
{
    CURLU *parsed = curl_url();
    char *path = NULL;
    enum webhook_format format = WEBHOOK_JSON;

    if (parsed != NULL && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parsed, CURLUPART_PATH, &path, 0) == CURLUE_OK) {
        const size_t len = strlen(path);
        const size_t wanted = sizeof(ALERTMANAGER_PATH) - 1;

        if (len >= wanted && strcmp(path + len - wanted, ALERTMANAGER_PATH) == 0) {
            format = WEBHOOK_ALERTMANAGER;
        }
    }
    curl_free(path);
    curl_url_cleanup(parsed);
    return format;
}

/* ---- the queue ---- */

static struct notice **
slot(struct webhook *webhook, uint32_t at)
{
    return &webhook->queue[(webhook->first + at) % webhook->config.queue_max];
}

static bool
is_same_alert(const struct notice *a, const struct notice *b)
{
    return a->severity == b->severity && span_equal(notice_service(a), notice_service(b)) &&
           span_equal(notice_tenant(a), notice_tenant(b)) &&
           strcmp(a->objective.id, b->objective.id) == 0;
}

/* Alertmanager is told how things stand, not what happened: the older of two is no news. */
static bool
replace_waiting(struct webhook *webhook, const struct notice *notice)
{
    if (webhook->format != WEBHOOK_ALERTMANAGER) {
        return false;
    }
    for (uint32_t i = 0; i < webhook->count; i++) {
        struct notice *waiting = *slot(webhook, i);

        if (is_same_alert(waiting, notice)) {
            *waiting = *notice;
            return true;
        }
    }
    return false;
}

static enum err
push(struct webhook *webhook, const struct notice *notice)
{
    struct notice *copy;

    if (webhook->stopping) {
        return ERR_CLOSED;
    }
    if (replace_waiting(webhook, notice)) {
        return ERR_OK;
    }
    if (webhook->count == webhook->config.queue_max) {
        return ERR_AGAIN;
    }
    copy = malloc(sizeof(*copy));
    if (copy == NULL) {
        return ERR_NO_MEMORY;
    }
    *copy = *notice;
    *slot(webhook, webhook->count++) = copy;
    return ERR_OK;
}

static enum err
notify(void *self, const struct notice *notice)
{
    struct webhook *webhook = self;
    enum err err;

    pthread_mutex_lock(&webhook->lock);
    err = push(webhook, notice);
    pthread_cond_signal(&webhook->wake);
    pthread_mutex_unlock(&webhook->lock);
    if (err != ERR_OK && err != ERR_CLOSED) {
        atomic_fetch_add_explicit(&webhook->dropped, 1, memory_order_relaxed);
    }
    return err;
}

static void
stats(void *self, struct notifier_stats *out)
{
    struct webhook *webhook = self;

    out->sent = atomic_load_explicit(&webhook->sent, memory_order_relaxed);
    out->failed = atomic_load_explicit(&webhook->failed, memory_order_relaxed);
    out->refused = atomic_load_explicit(&webhook->refused, memory_order_relaxed);
    out->dropped = atomic_load_explicit(&webhook->dropped, memory_order_relaxed);
    pthread_mutex_lock(&webhook->lock);
    out->queued = webhook->count;
    pthread_mutex_unlock(&webhook->lock);
}

static const struct notifier_ops OPS = {notify, stats};

/* Waits for notices and takes those of one post out of the queue; 0: it is time to stop. */
static size_t
take(struct webhook *webhook, struct notice *batch[BATCH_MAX])
{
    const uint32_t most = webhook->format == WEBHOOK_ALERTMANAGER ? BATCH_MAX : 1;
    uint32_t count = 0;

    pthread_mutex_lock(&webhook->lock);
    while (webhook->count == 0 && !webhook->stopping) {
        pthread_cond_wait(&webhook->wake, &webhook->lock);
    }
    while (!webhook->stopping && count < most && webhook->count > 0) {
        batch[count++] = *slot(webhook, 0);
        webhook->first = (webhook->first + 1) % webhook->config.queue_max;
        webhook->count--;
    }
    pthread_mutex_unlock(&webhook->lock);
    return count;
}

/* Sleeps unless told to stop. */
static void
pause_ms(struct webhook *webhook, int64_t ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&webhook->lock);
    while (!webhook->stopping &&
           pthread_cond_timedwait(&webhook->wake, &webhook->lock, &until) == 0) {
    }
    pthread_mutex_unlock(&webhook->lock);
}

/* ---- one attempt ---- */

enum outcome_of_post {
    POST_DELIVERED,
    POST_FAILED,  /* try again */
    POST_REFUSED, /* the receiver will never take this body */
    POST_STOPPED,
};

struct attempt {
    CURLcode code;
    long status;
    curl_off_t retry_after_s;
};

static size_t
swallow(void *bytes, size_t size, size_t count, void *arg)
{
    struct webhook *webhook = arg;

    (void)bytes;
    webhook->answer_bytes += size * count;
    return webhook->answer_bytes > ANSWER_BYTES_MAX ? 0 : size * count;
}

/* Until the request is over; false: stopping, and it took too long. */
static bool
run_request(struct webhook *webhook)
{
    const struct clock *clock = webhook->config.clock;
    int64_t stop_us = 0; /* when it was first seen that it is time to stop */
    int running = 1;

    for (;;) {
        bool stopping = atomic_load_explicit(&webhook->stop_seen, memory_order_acquire);

        if (curl_multi_perform(webhook->multi, &running) != CURLM_OK || running == 0) {
            return true;
        }
        if (stopping && stop_us == 0) {
            stop_us = clock_monotonic_us(clock);
        }
        if (stopping &&
            clock_monotonic_us(clock) - stop_us >= (int64_t)webhook->config.stop_grace_ms * 1000) {
            return false;
        }
        (void)curl_multi_poll(webhook->multi, NULL, 0, stopping ? POLL_STOPPING_MS : POLL_MS, NULL);
    }
}

static void
read_result(struct webhook *webhook, struct attempt *attempt)
{
    CURLMsg *message;
    int left;

    *attempt = (struct attempt){CURLE_FAILED_INIT, 0, 0};
    while ((message = curl_multi_info_read(webhook->multi, &left)) != NULL) {
        if (message->msg == CURLMSG_DONE) {
            attempt->code = message->data.result;
        }
    }
    (void)curl_easy_getinfo(webhook->easy, CURLINFO_RESPONSE_CODE, &attempt->status);
    (void)curl_easy_getinfo(webhook->easy, CURLINFO_RETRY_AFTER, &attempt->retry_after_s);
}

static enum outcome_of_post
judge_attempt(const struct attempt *attempt)
{
    if (attempt->code != CURLE_OK) {
        return POST_FAILED;
    }
    if (attempt->status >= 200 && attempt->status < 300) {
        return POST_DELIVERED;
    }
    switch (attempt->status) {
    case 400:
    case 405:
    case 413:
    case 415:
    case 422:
        return POST_REFUSED;
    default:
        return POST_FAILED; /* also 401 and 404: somebody will notice and mend it */
    }
}

static void
write_body(struct webhook *webhook, struct notice *const batch[], size_t count)
{
    const struct webhook_config *config = &webhook->config;

    buffer_clear(&webhook->body, SIZE_MAX);
    if (webhook->format == WEBHOOK_ALERTMANAGER) {
        webhook_body_alertmanager(&webhook->body, (const struct notice *const *)batch, count,
                                  config->external_url, clock_wall_us(config->clock),
                                  config->repeat_us);
    } else {
        webhook_body_json(&webhook->body, batch[0], config->external_url);
    }
}

/* The common headers, and in JSON the notice's id; NULL without memory. */
static struct curl_slist *
request_headers(const struct webhook *webhook, const struct notice *notice)
{
    struct curl_slist *headers = NULL;
    char key[64];

    for (const struct curl_slist *at = webhook->headers; at != NULL; at = at->next) {
        struct curl_slist *longer = curl_slist_append(headers, at->data);

        if (longer == NULL) {
            curl_slist_free_all(headers);
            return NULL;
        }
        headers = longer;
    }
    if (webhook->format == WEBHOOK_JSON) {
        struct curl_slist *longer;

        snprintf(key, sizeof(key), "Idempotency-Key: %s", notice->id);
        longer = curl_slist_append(headers, key);
        if (longer == NULL) {
            curl_slist_free_all(headers);
        }
        headers = longer;
    }
    return headers;
}

static enum outcome_of_post
post(struct webhook *webhook, struct notice *const batch[], size_t count, struct attempt *attempt)
{
    struct curl_slist *headers = request_headers(webhook, batch[0]);
    bool finished = true;

    *attempt = (struct attempt){CURLE_OUT_OF_MEMORY, 0, 0};
    write_body(webhook, batch, count);
    if (headers == NULL || webhook->body.failed) {
        curl_slist_free_all(headers);
        return POST_FAILED;
    }
    webhook->answer_bytes = 0;
    curl_easy_setopt(webhook->easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(webhook->easy, CURLOPT_POSTFIELDS, webhook->body.data);
    curl_easy_setopt(webhook->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)webhook->body.len);
    if (curl_multi_add_handle(webhook->multi, webhook->easy) == CURLM_OK) {
        finished = run_request(webhook);
        read_result(webhook, attempt);
        (void)curl_multi_remove_handle(webhook->multi, webhook->easy);
    }
    curl_easy_setopt(webhook->easy, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    return finished ? judge_attempt(attempt) : POST_STOPPED;
}

/* ---- the thread ---- */

/* The address may hold a secret, so it is not logged. */
static void
log_attempt(const char *event, const struct attempt *attempt, uint64_t tries)
{
    log_warn(event, LOG_I64("status", attempt->status),
             LOG_STR("cause", attempt->code == CURLE_OK ? "" : curl_easy_strerror(attempt->code)),
             LOG_U64("attempts", tries), LOG_END);
}

/* Half of the pause and a random part of the other half; at least what the receiver asks for. */
static int64_t
backoff_ms(const struct webhook *webhook, uint64_t tries, const struct attempt *attempt)
{
    const int64_t max = webhook->config.backoff_max_ms;
    int64_t pause = webhook->config.backoff_ms;
    uint32_t random;

    for (uint64_t i = 1; i < tries && pause < max; i++) {
        pause *= 2;
    }
    pause = pause < max ? pause : max;
    random_bytes(&random, sizeof(random));
    pause = pause / 2 + (int64_t)(random % (uint32_t)(pause / 2 + 1));
    if (attempt->retry_after_s > 0) {
        int64_t asked =
            attempt->retry_after_s < max / 1000 + 1 ? attempt->retry_after_s * 1000 : max;

        pause = pause > asked ? pause : asked < max ? asked : max;
    }
    return pause;
}

static bool
deliver(struct webhook *webhook, struct notice *const batch[], size_t count)
{
    for (uint64_t tries = 1;; tries++) {
        struct attempt attempt;

        switch (post(webhook, batch, count, &attempt)) {
        case POST_DELIVERED:
            atomic_fetch_add_explicit(&webhook->sent, count, memory_order_relaxed);
            if (tries > 1) {
                log_info("webhook.recovered", LOG_U64("attempts", tries), LOG_END);
            }
            return true;
        case POST_REFUSED:
            atomic_fetch_add_explicit(&webhook->refused, count, memory_order_relaxed);
            log_attempt("webhook.refused", &attempt, tries);
            return true;
        case POST_STOPPED:
            return false;
        case POST_FAILED:
            atomic_fetch_add_explicit(&webhook->failed, 1, memory_order_relaxed);
            if (tries == 1) { /* once per outage */
                log_attempt("webhook.failed", &attempt, tries);
            }
            pause_ms(webhook, backoff_ms(webhook, tries, &attempt));
            if (atomic_load_explicit(&webhook->stop_seen, memory_order_acquire)) {
                return false;
            }
            break;
        }
    }
}

static void *
run(void *arg)
{
    struct webhook *webhook = arg;
    struct notice *batch[BATCH_MAX];
    size_t count;

    while ((count = take(webhook, batch)) > 0) {
        bool settled = deliver(webhook, batch, count);

        for (size_t i = 0; i < count; i++) {
            if (settled) {
                webhook->config.told(webhook->config.told_arg, batch[i]);
            }
            free(batch[i]);
        }
    }
    return NULL;
}

/* ---- start and stop ---- */

static bool
add_header(struct webhook *webhook, const char *name, const char *value)
{
    struct buffer line = BUFFER_EMPTY;
    struct curl_slist *longer = NULL;

    buffer_printf(&line, "%s%s", name, value);
    buffer_append_char(&line, '\0');
    if (!line.failed) {
        longer = curl_slist_append(webhook->headers, line.data);
        explicit_bzero(line.data, line.len);
    }
    buffer_free(&line);
    webhook->headers = longer != NULL ? longer : webhook->headers;
    return longer != NULL;
}

static bool
set_up_curl(struct webhook *webhook)
{
    const struct webhook_config *config = &webhook->config;
    char agent[64];

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return false;
    }
    webhook->multi = curl_multi_init();
    webhook->easy = curl_easy_init();
    if (webhook->multi == NULL || webhook->easy == NULL ||
        !add_header(webhook, "Content-Type: ", "application/json") ||
        !add_header(webhook, "Expect:", "") ||
        (config->token != NULL && !add_header(webhook, "Authorization: Bearer ", config->token)) ||
        (config->header != NULL && !add_header(webhook, "", config->header))) {
        return false;
    }
    snprintf(agent, sizeof(agent), "sluice/%s", config->version);
    return curl_easy_setopt(webhook->easy, CURLOPT_URL, config->url) == CURLE_OK &&
           curl_easy_setopt(webhook->easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
           curl_easy_setopt(webhook->easy, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl_easy_setopt(webhook->easy, CURLOPT_USERAGENT, agent) == CURLE_OK &&
           curl_easy_setopt(webhook->easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           /* A resolver's thread that hangs must not hold up the end of the process. */
           curl_easy_setopt(webhook->easy, CURLOPT_QUICK_EXIT, 1L) == CURLE_OK &&
           curl_easy_setopt(webhook->easy, CURLOPT_TIMEOUT_MS, (long)config->timeout_ms) ==
               CURLE_OK &&
           curl_easy_setopt(webhook->easy, CURLOPT_WRITEFUNCTION, swallow) == CURLE_OK &&
           curl_easy_setopt(webhook->easy, CURLOPT_WRITEDATA, webhook) == CURLE_OK &&
           curl_easy_setopt(webhook->easy, CURLOPT_POST, 1L) == CURLE_OK;
}

enum err
webhook_start(struct webhook **out, const struct webhook_config *config)
{
    struct webhook *webhook = calloc(1, sizeof(*webhook));
    pthread_condattr_t monotonic;

    ASSERT(config->queue_max > 0 && config->backoff_ms > 0);
    if (webhook == NULL) {
        return ERR_NO_MEMORY;
    }
    webhook->config = *config;
    webhook->format =
        config->format == WEBHOOK_AUTO ? webhook_format_of(config->url) : config->format;
    webhook->notifier = (struct notifier){
        &OPS, webhook, webhook->format == WEBHOOK_ALERTMANAGER ? config->repeat_us : 0};
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&webhook->lock, NULL);
    pthread_cond_init(&webhook->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    webhook->joined = true;
    webhook->queue = calloc(config->queue_max, sizeof(struct notice *));
    if (webhook->queue == NULL || !set_up_curl(webhook)) {
        log_error("webhook.start_failed", LOG_END);
        webhook_free(webhook);
        return ERR_NO_MEMORY;
    }
    if (pthread_create(&webhook->thread, NULL, run, webhook) != 0) {
        log_error("webhook.no_thread", LOG_END);
        webhook_free(webhook);
        return ERR_IO;
    }
    webhook->joined = false;
    log_info("webhook.started",
             LOG_STR("format", webhook->format == WEBHOOK_ALERTMANAGER ? "alertmanager" : "json"),
             LOG_END);
    *out = webhook;
    return ERR_OK;
}

const struct notifier *
webhook_notifier(const struct webhook *webhook)
{
    return &webhook->notifier;
}

void
webhook_stop(struct webhook *webhook)
{
    if (webhook == NULL || webhook->joined) {
        return;
    }
    pthread_mutex_lock(&webhook->lock);
    webhook->stopping = true;
    atomic_store_explicit(&webhook->stop_seen, true, memory_order_release);
    pthread_cond_signal(&webhook->wake);
    pthread_mutex_unlock(&webhook->lock);
    (void)curl_multi_wakeup(webhook->multi);
    pthread_join(webhook->thread, NULL);
    webhook->joined = true;
}

void
webhook_free(struct webhook *webhook)
{
    if (webhook == NULL) {
        return;
    }
    ASSERT(webhook->joined);
    for (uint32_t i = 0; i < webhook->count; i++) {
        free(*slot(webhook, i));
    }
    free(webhook->queue);
    curl_easy_cleanup(webhook->easy);
    curl_multi_cleanup(webhook->multi);
    curl_slist_free_all(webhook->headers);
    curl_global_cleanup();
    buffer_free(&webhook->body);
    pthread_mutex_destroy(&webhook->lock);
    pthread_cond_destroy(&webhook->wake);
    free(webhook);
}
