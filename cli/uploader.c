#include "cli/uploader.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cli/commands.h"
#include "core/base/clock.h"
#include "core/base/json.h"
#include "core/base/uuid.h"

enum {
    CONNECT_TIMEOUT_MS = 10000,
    SILENCE_TIMEOUT_S = 60, /* neither bytes sent nor received */
    WAIT_FIRST_MS = 100,
    WAIT_MAX_MS = 5000,
    RETRY_AFTER_MAX_S = 60,
    ANSWER_BYTES_MAX = 64 << 20,
    ANSWER_DEPTH_MAX = 8,
};

struct uploader {
    struct uploader_config config;
    CURL *curl;
    struct curl_slist *headers;
    struct buffer answer;
    struct json_text text; /* of the answer */
    char why[CURL_ERROR_SIZE + 64];
    char curl_said[CURL_ERROR_SIZE];
};

static size_t
take_answer(char *bytes, size_t size, size_t count, void *arg)
{
    struct uploader *uploader = arg;
    const size_t len = size * count;

    if (len > ANSWER_BYTES_MAX - uploader->answer.len) {
        return 0; /* ends the transfer */
    }
    buffer_append(&uploader->answer, bytes, len);
    return uploader->answer.failed ? 0 : len;
}

static bool
add_header(struct uploader *uploader, const char *text)
{
    struct curl_slist *longer = curl_slist_append(uploader->headers, text);

    if (longer != NULL) {
        uploader->headers = longer;
    }
    return longer != NULL;
}

static bool
add_headers(struct uploader *uploader)
{
    struct buffer key = BUFFER_EMPTY;
    bool good = add_header(uploader, "Content-Type: application/x-ndjson") &&
                add_header(uploader, "Accept: application/json") &&
                add_header(uploader, "Expect:"); /* a refusal comes before the body's end anyway */

    if (uploader->config.api_key != NULL) {
        buffer_printf(&key, "X-API-Key: %s", uploader->config.api_key);
        buffer_append_char(&key, '\0');
        good = good && !key.failed && add_header(uploader, key.data);
        if (key.data != NULL) {
            explicit_bzero(key.data, key.capacity);
        }
    }
    buffer_free(&key);
    return good;
}

static bool
set_options(struct uploader *uploader)
{
    const struct uploader_config *config = &uploader->config;
    struct buffer url = BUFFER_EMPTY;
    size_t len = strlen(config->url);
    CURL *curl = uploader->curl;
    bool good;

    while (len > 0 && config->url[len - 1] == '/') {
        len--;
    }
    buffer_append(&url, config->url, len);
    buffer_append_text(&url, "/events/bulk?mode=partial&ids=0");
    buffer_append_char(&url, '\0');
    good = !url.failed && curl_easy_setopt(curl, CURLOPT_URL, url.data) == CURLE_OK;
    buffer_free(&url);
    good = good && curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
    good = good && curl_easy_setopt(curl, CURLOPT_POST, 1L) == CURLE_OK;
    good = good && curl_easy_setopt(curl, CURLOPT_HTTPHEADER, uploader->headers) == CURLE_OK;
    good = good && curl_easy_setopt(curl, CURLOPT_USERAGENT, "sluice/" SLUICE_VERSION) == CURLE_OK;
    good = good && curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_answer) == CURLE_OK;
    good = good && curl_easy_setopt(curl, CURLOPT_WRITEDATA, uploader) == CURLE_OK;
    good = good && curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, uploader->curl_said) == CURLE_OK;
    good = good && curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) == CURLE_OK;
    good = good &&
           curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS) == CURLE_OK;
    good = good && curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L) == CURLE_OK;
    good =
        good && curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)SILENCE_TIMEOUT_S) == CURLE_OK;
    if (good && config->ca_file != NULL) {
        good = curl_easy_setopt(curl, CURLOPT_CAINFO, config->ca_file) == CURLE_OK;
    }
    return good;
}

enum err
uploader_new(struct uploader **out, const struct uploader_config *config, struct buffer *problem)
{
    struct uploader *uploader = calloc(1, sizeof(*uploader));

    if (uploader == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(uploader);
        buffer_append_text(problem, err_text(ERR_NO_MEMORY));
        return ERR_NO_MEMORY;
    }
    uploader->config = *config;
    uploader->curl = curl_easy_init();
    if (uploader->curl == NULL || !add_headers(uploader) || !set_options(uploader)) {
        uploader_free(uploader);
        buffer_append_text(problem, err_text(ERR_NO_MEMORY));
        return ERR_NO_MEMORY;
    }
    *out = uploader;
    return ERR_OK;
}

void
uploader_free(struct uploader *uploader)
{
    if (uploader == NULL) {
        return;
    }
    curl_easy_cleanup(uploader->curl);
    curl_slist_free_all(uploader->headers);
    buffer_free(&uploader->answer);
    curl_global_cleanup();
    free(uploader);
}

/* ---- answers ---- */

static struct span
member(const struct json_text *text, const char *name, enum json_type type)
{
    struct json_walk walk = {0, 0};
    struct json_member found;

    while (json_text_next(text, &walk, &found)) {
        if (span_is(found.name, name) && found.value.type == type) {
            return found.value.raw;
        }
    }
    return (struct span){NULL, 0};
}

static bool
take_count(const struct json_text *text, const char *name, uint64_t *out)
{
    const struct span raw = member(text, name, JSON_NUMBER);
    int64_t value;

    if (raw.data == NULL || json_integer(raw, &value) != ERR_OK || value < 0) {
        return false;
    }
    *out = (uint64_t)value;
    return true;
}

static uint64_t
count_elements(struct span array)
{
    struct json_value value;
    size_t offset = 0;
    uint64_t count = 0;

    while (json_element_next(array, &offset, &value)) {
        count++;
    }
    return count;
}

static bool
scan_answer(struct uploader *uploader)
{
    struct json_error error;

    return json_scan(buffer_span(&uploader->answer), ANSWER_DEPTH_MAX, &uploader->text, &error) ==
           ERR_OK;
}

/* The counts of a 202; or of a 400 that refuses each event by itself. */
static bool
take_counts(struct uploader *uploader, long status, uint64_t count, struct upload_answer *out)
{
    const struct json_text *text = &uploader->text;
    struct upload_answer answer = {0};

    if (!scan_answer(uploader)) {
        return false;
    }
    answer.errors = member(text, "errors", JSON_ARRAY);
    if (answer.errors.data == NULL) {
        return false;
    }
    if (status == 400) {
        answer.rejected = count;
    } else if (!take_count(text, "accepted", &answer.accepted) ||
               !take_count(text, "duplicates", &answer.duplicates) ||
               !take_count(text, "rejected", &answer.rejected)) {
        return false;
    }
    if (answer.accepted + answer.rejected != count || answer.duplicates > answer.accepted ||
        count_elements(answer.errors) != answer.rejected) {
        return false;
    }
    *out = answer;
    return true;
}

/* "503 log_full: the log is full": what the server said, as far as it did. */
static void
describe_answer(struct uploader *uploader, long status)
{
    struct span code = {NULL, 0};
    struct span text = {NULL, 0};

    if (scan_answer(uploader)) {
        code = member(&uploader->text, "error", JSON_STRING);
        text = member(&uploader->text, "message", JSON_STRING);
    }
    if (code.data != NULL && text.data != NULL) {
        snprintf(uploader->why, sizeof(uploader->why), "the server answers %ld %.*s: %.*s", status,
                 (int)code.len - 2, code.data + 1, (int)text.len - 2, text.data + 1);
    } else {
        snprintf(uploader->why, sizeof(uploader->why), "the server answers %ld", status);
    }
}

/* What waiting does not cure. */
static bool
is_final(CURLcode code)
{
    return code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL ||
           code == CURLE_SSL_CACERT_BADFILE || code == CURLE_PEER_FAILED_VERIFICATION ||
           code == CURLE_SSL_CERTPROBLEM || code == CURLE_SSL_CIPHER ||
           code == CURLE_SSL_ISSUER_ERROR || code == CURLE_WRITE_ERROR;
}

enum attempt {
    ATTEMPT_STORED,
    ATTEMPT_TOO_MANY,
    ATTEMPT_REFUSED,
    ATTEMPT_LATER,
};

static enum attempt
judge(struct uploader *uploader, long status, bool has_retry_after, uint64_t count,
      struct upload_answer *out)
{
    if (status == 202 || status == 400) {
        if (take_counts(uploader, status, count, out)) {
            return ATTEMPT_STORED;
        }
        if (status == 202) {
            snprintf(uploader->why, sizeof(uploader->why), "this is not the answer of a Sluice");
            return ATTEMPT_REFUSED;
        }
    }
    describe_answer(uploader, status);
    /* 429 without a time: more at once than the limit ever allows. */
    if (status == 413 || (status == 429 && !has_retry_after)) {
        return ATTEMPT_TOO_MANY;
    }
    return status == 408 || status == 429 || status >= 500 ? ATTEMPT_LATER : ATTEMPT_REFUSED;
}

static enum attempt
try_once(struct uploader *uploader, struct span body, uint64_t count, struct upload_answer *out,
         uint64_t *retry_after_ms)
{
    curl_off_t retry_after_s = 0;
    long status = 0;
    CURLcode code;

    buffer_clear(&uploader->answer, SIZE_MAX);
    uploader->curl_said[0] = '\0';
    curl_easy_setopt(uploader->curl, CURLOPT_POSTFIELDS, body.data);
    curl_easy_setopt(uploader->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.len);
    code = curl_easy_perform(uploader->curl);
    if (code != CURLE_OK) {
        snprintf(uploader->why, sizeof(uploader->why), "%s",
                 uploader->curl_said[0] == '\0' ? curl_easy_strerror(code) : uploader->curl_said);
        return is_final(code) ? ATTEMPT_REFUSED : ATTEMPT_LATER;
    }
    curl_easy_getinfo(uploader->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(uploader->curl, CURLINFO_RETRY_AFTER, &retry_after_s);
    if (retry_after_s > 0) {
        *retry_after_ms = 1000 * (uint64_t)(retry_after_s < RETRY_AFTER_MAX_S ? retry_after_s
                                                                              : RETRY_AFTER_MAX_S);
    }
    return judge(uploader, status, retry_after_s > 0, count, out);
}

static void
sleep_ms(uint64_t ms)
{
    const struct timespec time = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};

    nanosleep(&time, NULL);
}

/* Doubles the wait, and returns it less up to half, so that importers do not come back together. */
static uint64_t
next_wait(uint64_t *wait_ms)
{
    const uint64_t wait = *wait_ms;
    uint32_t chance;

    *wait_ms = wait * 2 < WAIT_MAX_MS ? wait * 2 : WAIT_MAX_MS;
    random_bytes(&chance, sizeof(chance));
    return wait - chance % (wait / 2);
}

enum upload_result
uploader_send(struct uploader *uploader, struct span body, uint64_t count,
              struct upload_answer *out, struct buffer *problem)
{
    const int64_t began_us = clock_monotonic_us(clock_system());
    const uint64_t timeout_ms = uploader->config.timeout_ms;
    uint64_t wait_ms = WAIT_FIRST_MS;

    for (;;) {
        uint64_t pause_ms = 0;
        uint64_t spent_ms;
        uint64_t wait;

        switch (try_once(uploader, body, count, out, &pause_ms)) {
        case ATTEMPT_STORED:
            return UPLOAD_STORED;
        case ATTEMPT_TOO_MANY:
            buffer_append_text(problem, uploader->why);
            return UPLOAD_TOO_MANY;
        case ATTEMPT_REFUSED:
            buffer_append_text(problem, uploader->why);
            return UPLOAD_REFUSED;
        case ATTEMPT_LATER:
            break;
        }
        wait = next_wait(&wait_ms);
        pause_ms = pause_ms > wait ? pause_ms : wait;
        spent_ms = (uint64_t)(clock_monotonic_us(clock_system()) - began_us) / 1000;
        if (timeout_ms > 0 && spent_ms >= timeout_ms) {
            buffer_printf(problem, "given up after %llu s: %s",
                          (unsigned long long)(spent_ms / 1000), uploader->why);
            return UPLOAD_GIVEN_UP;
        }
        if (timeout_ms > 0 && pause_ms > timeout_ms - spent_ms) {
            pause_ms = timeout_ms - spent_ms;
        }
        uploader->config.waiting(uploader->config.arg, uploader->why);
        sleep_ms(pause_ms);
    }
}
