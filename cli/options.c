#include "cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/journal.h"
#include "http/cors.h"

enum option_type {
    TYPE_TEXT,
    TYPE_SECRET, /* text that is never shown */
    TYPE_COUNT,
    TYPE_BYTES,   /* a number, or one with KiB, MiB or GiB */
    TYPE_MINUTES, /* 30m, 12h, 30d */
    TYPE_RATIO,   /* strictly between 0 and 1 */
    TYPE_NUMBER,
    TYPE_RATE, /* 0, or between the limits */
    TYPE_BOOL,
    TYPE_LOG_LEVEL,
    TYPE_LOG_FORMAT,
};

struct option {
    const char *name;
    const char *aliases; /* separated by spaces */
    enum option_type type;
    size_t offset;
    const char *initial; /* NULL: none */
    double min;
    double max;
    const char *help;
};

/* Below it the round trip in which the server asks for the rows costs more than LOAD DATA saves. */
enum {
    LOAD_ROWS_MIN = 100
};

#define AT(member) offsetof(struct options, member)
#define GIB (1024.0 * 1024 * 1024)

static const struct option OPTIONS[] = {
    {"HTTP_HOST", "", TYPE_TEXT, AT(http_host), "0.0.0.0", 0, 0, "address to listen on"},
    {"HTTP_PORT", "PORT SERVICE_API_PORT", TYPE_COUNT, AT(http_port), "8080", 0, 65535,
     "port to listen on; 0: any free one"},
    {"HTTP_THREADS", "", TYPE_COUNT, AT(http_threads), "0", 0, 64,
     "event loops; 0: CPUs - 1, at least 1"},
    {"TLS_CERT_FILE", "", TYPE_TEXT, AT(tls_cert_file), NULL, 0, 0,
     "certificate chain in PEM form; the port then speaks HTTPS. SIGHUP reads all three again"},
    {"TLS_KEY_FILE", "", TYPE_TEXT, AT(tls_key_file), NULL, 0, 0, "its key, without a pass phrase"},
    {"TLS_CLIENT_CA_FILE", "", TYPE_TEXT, AT(tls_client_ca_file), NULL, 0, 0,
     "clients must show a certificate that comes from one of these"},
    {"MAX_BODY_BYTES", "", TYPE_BYTES, AT(max_body_bytes), "16MiB", 1024, GIB,
     "largest request body"},
    {"MAX_EVENT_BYTES", "", TYPE_BYTES, AT(max_event_bytes), "64KiB", 256, 16 * 1024.0 * 1024,
     "largest single event"},
    {"MAX_BULK_EVENTS", "", TYPE_COUNT, AT(max_bulk_events), "10000", 1, 1000000,
     "events in one bulk"},
    {"MAX_BUFFERED_BYTES", "", TYPE_BYTES, AT(max_buffered_bytes), "256MiB", 1024 * 1024.0,
     64 * GIB, "request bodies held at one time, all connections together; beyond it 503"},
    {"MAX_CONNECTIONS", "", TYPE_COUNT, AT(max_connections), "10000", 1, 1000000,
     "open connections"},
    {"HTTP_READ_TIMEOUT_MS", "", TYPE_COUNT, AT(http_read_timeout_ms), "5000", 100, 3600000,
     "a request must be complete this long after its first byte"},
    {"HTTP_IDLE_TIMEOUT_MS", "", TYPE_COUNT, AT(http_idle_timeout_ms), "120000", 100, 86400000,
     "a kept-alive connection is closed after this long without a request"},
    {"SHUTDOWN_TIMEOUT_MS", "", TYPE_COUNT, AT(shutdown_timeout_ms), "10000", 100, 3600000,
     "time for open requests and the drain after SIGTERM"},
    {"MAX_FUTURE_SKEW_MS", "", TYPE_COUNT, AT(max_future_skew_ms), "1000", 0, 86400000,
     "a timestamp further in the future is refused"},
    {"READY_REQUIRES_DB", "", TYPE_BOOL, AT(ready_requires_db), "false", 0, 0,
     "/ready is 503 while MySQL is away"},
    {"API_KEYS", "", TYPE_SECRET, AT(api_keys), NULL, 0, 0,
     "tenant:key,tenant:key; none here and in the file: one tenant, default, without a key"},
    {"API_KEYS_FILE", "", TYPE_TEXT, AT(api_keys_file), NULL, 0, 0,
     "file of further pairs, also tenant:sha256:HEX; SIGHUP reads it again"},
    {"ADMIN_KEY", "", TYPE_SECRET, AT(admin_key), NULL, 0, 0,
     "key that administration needs; also as sha256:HEX"},
    {"RATE_LIMIT_RPS", "", TYPE_RATE, AT(rate_limit_rps), "0", TOKEN_RATE_MIN, TOKEN_RATE_MAX,
     "events a second taken from all tenants together; 0: no limit"},
    {"RATE_LIMIT_BURST", "", TYPE_COUNT, AT(rate_limit_burst), "0", 0, TOKEN_BURST_MAX,
     "events taken at once after a pause; 0: one second's worth"},
    {"TENANT_RATE_LIMIT_RPS", "", TYPE_RATE, AT(tenant_rate_limit_rps), "0", TOKEN_RATE_MIN,
     TOKEN_RATE_MAX, "the same for each tenant"},
    {"TENANT_RATE_LIMIT_BURST", "", TYPE_COUNT, AT(tenant_rate_limit_burst), "0", 0,
     TOKEN_BURST_MAX, "the same for each tenant"},
    {"CORS_ALLOW_ORIGINS", "", TYPE_TEXT, AT(cors_allow_origins), NULL, 0, 0,
     "origins whose pages may use this server, separated by commas, or * for all"},
    {"METRICS_LEGACY_NAMES", "", TYPE_BOOL, AT(metrics_legacy_names), "false", 0, 0,
     "adds events_received_total, events_published_total and the like to /metrics"},
    {"WAL_DIR", "", TYPE_TEXT, AT(wal_dir), "./var/wal", 0, 0, "directory of the log"},
    {"WAL_MAX_BYTES", "", TYPE_BYTES, AT(wal_max_bytes), "8GiB", 1024 * 1024.0, 16384 * GIB,
     "size of the log at which ingest is refused with 503 log_full"},
    {"WAL_RETAIN_BYTES", "", TYPE_BYTES, AT(wal_retain_bytes), "256MiB", 0, 16384 * GIB,
     "replicated records kept for a database that goes back in time"},
    {"COUNTS_MAX_BYTES", "", TYPE_BYTES, AT(counts_max_bytes), "2GiB", 64 * 1024.0, 1024 * GIB,
     "history of counts, beside the log; beyond it the oldest hours go, and answers say so"},
    {"WAL_PARTITIONS", "WORKER_POOL_SIZE", TYPE_COUNT, AT(wal_partitions), "2", 1,
     JOURNAL_PARTITIONS_MAX, "replicators; fixed when the log is created"},
    {"QUEUE_SIZE", "", TYPE_COUNT, AT(queue_size), "65536", 1, 100000000,
     "events waiting for a commit; beyond it 503 backpressure"},
    {"IDEMPOTENCY_WINDOW", "", TYPE_COUNT, AT(idempotency_window), "1000000", 1, 500000000,
     "recent event ids the log itself recognises (41 MB of memory and 26 MB of disk per million); "
     "older ones MySQL does"},
    {"DB_URL", "", TYPE_SECRET, AT(db_url), NULL, 0, 0,
     "mysql://user:pass@host:port/name, or mysql://user@/name?socket=PATH; also "
     "tls=required&ca=FILE"},
    {"DB_HOST", "DBHOST", TYPE_TEXT, AT(db_host), NULL, 0, 0, "the same in parts: host"},
    {"DB_PORT", "", TYPE_COUNT, AT(db_port), "3306", 1, 65535, "port"},
    {"DB_USER", "DBUSER", TYPE_TEXT, AT(db_user), NULL, 0, 0, "user"},
    {"DB_PASS", "DBPASS DB_PASSWORD", TYPE_SECRET, AT(db_password), NULL, 0, 0, "password"},
    {"DB_PASSWORD_FILE", "", TYPE_TEXT, AT(db_password_file), NULL, 0, 0,
     "file that holds the password"},
    {"DB_NAME", "", TYPE_TEXT, AT(db_name), NULL, 0, 0, "database (default: sluice)"},
    {"DB_TIMEOUT_MS", "", TYPE_COUNT, AT(db_timeout_ms), "10000", 1000, 3600000,
     "connecting, reading and writing"},
    {"DB_RETRY_BACKOFF_MS", "", TYPE_COUNT, AT(db_retry_backoff_ms), "100", 1, 3600000,
     "first wait after a failure; doubles, with jitter"},
    {"DB_RETRY_BACKOFF_MAX_MS", "", TYPE_COUNT, AT(db_retry_backoff_max_ms), "30000", 1, 86400000,
     "longest wait"},
    {"BATCH_MAX_EVENTS", "CONSUMER_BATCH_SIZE_MAX", TYPE_COUNT, AT(batch_max_events), "2000", 1,
     100000, "events in one MySQL transaction"},
    {"BATCH_MAX_MS", "", TYPE_COUNT, AT(batch_max_ms), "50", 0, 60000,
     "how long a batch that is not full waits for more"},
    {"SLO_TARGET", "", TYPE_RATIO, AT(slo_target), "0.999", 0, 1,
     "availability objective of a service nobody has defined one for"},
    {"SLO_WINDOW", "", TYPE_MINUTES, AT(slo_window_minutes), "30d", 60, 90 * 1440,
     "its window (1h to 90d)"},
    {"SLO_LATENCY_MS", "", TYPE_NUMBER, AT(slo_latency_ms), "500", 0.001, 4294967,
     "its latency threshold"},
    {"SLO_LATENCY_TARGET", "", TYPE_RATIO, AT(slo_latency_target), "0.99", 0, 1,
     "share of events that must stay within the threshold"},
    {"ALERT_WEBHOOK_URL", "", TYPE_SECRET, AT(alert_webhook_url), NULL, 0, 0,
     "where firing and resolved alerts are posted: Alertmanager's /api/v2/alerts, or a webhook"},
    {"ALERT_WEBHOOK_FORMAT", "", TYPE_TEXT, AT(alert_webhook_format), "auto", 0, 0,
     "alertmanager, json, or auto: the first when the path is /api/v2/alerts"},
    {"ALERT_WEBHOOK_TOKEN", "", TYPE_SECRET, AT(alert_webhook_token), NULL, 0, 0,
     "sent along as Authorization: Bearer"},
    {"ALERT_WEBHOOK_HEADER", "", TYPE_SECRET, AT(alert_webhook_header), NULL, 0, 0,
     "a further header, as Name: value"},
    {"ALERT_WEBHOOK_TIMEOUT_MS", "", TYPE_COUNT, AT(alert_webhook_timeout_ms), "5000", 100, 600000,
     "one attempt to post"},
    {"ALERT_REPEAT_MS", "", TYPE_COUNT, AT(alert_repeat_ms), "60000", 1000, 3600000,
     "how often Alertmanager is told again of what fires"},
    {"ALERT_EXTERNAL_URL", "", TYPE_TEXT, AT(alert_external_url), NULL, 0, 0,
     "this server's address in links (default: http://, the host's name and the port)"},
    {"LOG_LEVEL", "", TYPE_LOG_LEVEL, AT(log_level), "INFO", 0, 0, "DEBUG, INFO, WARN or ERROR"},
    {"LOG_FORMAT", "", TYPE_LOG_FORMAT, AT(log_format), "json", 0, 0, "json or text"},
};

static const char *const LOG_LEVEL_NAMES[] = {"DEBUG", "INFO", "WARN", "ERROR"};
static const char *const LOG_FORMAT_NAMES[] = {"json", "text"};

static void *
member(struct options *options, const struct option *option)
{
    return (char *)options + option->offset;
}

/* ---- values ---- */

static bool
parse_u64(const char *text, uint64_t *out, const char **rest)
{
    char *end;

    if (!isdigit((unsigned char)text[0])) {
        return false;
    }
    errno = 0;
    *out = strtoull(text, &end, 10);
    *rest = end;
    return errno == 0;
}

static bool
parse_scaled(const char *text, uint64_t *out, const char *const units[], const uint64_t scale[],
             size_t count)
{
    const char *rest;

    if (!parse_u64(text, out, &rest)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcasecmp(rest, units[i]) == 0) {
            return !__builtin_mul_overflow(*out, scale[i], out);
        }
    }
    return false;
}

static bool
parse_bytes(const char *text, uint64_t *out)
{
    static const char *const UNITS[] = {"", "KiB", "MiB", "GiB", "K", "M", "G"};
    static const uint64_t SCALE[] = {1, 1 << 10, 1 << 20, 1 << 30, 1 << 10, 1 << 20, 1 << 30};

    return parse_scaled(text, out, UNITS, SCALE, ARRAY_LEN(UNITS));
}

static bool
parse_minutes(const char *text, uint64_t *out)
{
    static const char *const UNITS[] = {"m", "h", "d"};
    static const uint64_t SCALE[] = {1, 60, 1440};

    return parse_scaled(text, out, UNITS, SCALE, ARRAY_LEN(UNITS));
}

static bool
parse_number(const char *text, double *out)
{
    char *end;

    if (text[strspn(text, "0123456789.eE+-")] != '\0') {
        return false; /* strtod() also takes blanks, hexadecimal and words */
    }
    errno = 0;
    *out = strtod(text, &end);
    return end != text && *end == '\0' && errno == 0 && isfinite(*out);
}

static bool
parse_bool(const char *text, bool *out)
{
    static const char *const YES[] = {"true", "1", "yes", "on"};
    static const char *const NO[] = {"false", "0", "no", "off"};

    for (size_t i = 0; i < ARRAY_LEN(YES); i++) {
        if (strcasecmp(text, YES[i]) == 0 || strcasecmp(text, NO[i]) == 0) {
            *out = strcasecmp(text, YES[i]) == 0;
            return true;
        }
    }
    return false;
}

static bool
parse_name(const char *text, const char *const names[], size_t count, uint64_t *out)
{
    for (size_t i = 0; i < count; i++) {
        if (strcasecmp(text, names[i]) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

static const char *
expected(enum option_type type)
{
    switch (type) {
    case TYPE_TEXT:
    case TYPE_SECRET:
        return "text";
    case TYPE_COUNT:
        return "a whole number";
    case TYPE_BYTES:
        return "a size such as 1048576, 64KiB, 16MiB or 8GiB";
    case TYPE_MINUTES:
        return "a duration such as 90m, 12h or 30d";
    case TYPE_RATIO:
        return "a ratio such as 0.999, above 0 and below 1";
    case TYPE_NUMBER:
    case TYPE_RATE:
        return "a number";
    case TYPE_BOOL:
        return "true or false";
    case TYPE_LOG_LEVEL:
        return "DEBUG, INFO, WARN or ERROR";
    case TYPE_LOG_FORMAT:
        return "json or text";
    }
    return "";
}

enum {
    FIGURE_MAX = 32
};

/* In the largest unit that divides it. */
static const char *
minutes_text(char text[FIGURE_MAX], uint64_t minutes)
{
    static const struct {
        uint64_t minutes;
        char name;
    } UNITS[] = {{UINT64_C(24) * 60, 'd'}, {60, 'h'}, {1, 'm'}};
    size_t i = 0;

    while (minutes % UNITS[i].minutes != 0) {
        i++;
    }
    (void)snprintf(text, FIGURE_MAX, "%llu%c", (unsigned long long)(minutes / UNITS[i].minutes),
                   UNITS[i].name);
    return text;
}

/* With as few digits as read back to the same number. */
static const char *
number_text(char text[FIGURE_MAX], double number)
{
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, FIGURE_MAX, "%.*g", digits, number);
        if (strtod(text, NULL) == number) {
            break;
        }
    }
    return text;
}

static void
refuse_range(const struct option *option, const char *name, const char *text,
             struct buffer *problem)
{
    char min[FIGURE_MAX];
    char max[FIGURE_MAX];

    if (option->type == TYPE_RATIO) {
        buffer_printf(problem, "%s must be above 0 and below 1, not '%s'", name, text);
    } else if (option->type == TYPE_MINUTES) {
        buffer_printf(problem, "%s must be between %s and %s, not '%s'", name,
                      minutes_text(min, (uint64_t)option->min),
                      minutes_text(max, (uint64_t)option->max), text);
    } else {
        buffer_printf(problem, "%s must be %sbetween %.15g and %.15g, not '%s'", name,
                      option->type == TYPE_RATE ? "0 or " : "", option->min, option->max, text);
    }
}

static bool
in_range(const struct option *option, double value)
{
    if (option->type == TYPE_RATIO) {
        return value > 0 && value < 1;
    }
    if (option->type == TYPE_RATE && value == 0) {
        return true;
    }
    return option->max == 0 || (value >= option->min && value <= option->max);
}

static enum err
set_text(char **at, const char *text)
{
    char *copy = strdup(text);

    if (copy == NULL) {
        return ERR_NO_MEMORY;
    }
    free(*at);
    *at = copy;
    return ERR_OK;
}

/* Sets OPTION from TEXT; NAME is how the user called it. */
static enum err
set_value(struct options *options, const struct option *option, const char *name, const char *text,
          struct buffer *problem)
{
    void *at = member(options, option);
    bool good = false;
    double value = 0;

    switch (option->type) {
    case TYPE_TEXT:
    case TYPE_SECRET:
        if (text[0] == '\0' && option->initial != NULL) {
            buffer_printf(problem, "%s must not be empty", name);
            return ERR_INVALID;
        }
        if (text[0] == '\0') { /* means "none", as an empty variable does */
            free(*(char **)at);
            *(char **)at = NULL;
            return ERR_OK;
        }
        return set_text(at, text);
    case TYPE_COUNT: {
        const char *rest;

        good = parse_u64(text, at, &rest) && *rest == '\0';
        value = (double)*(uint64_t *)at;
        break;
    }
    case TYPE_BYTES:
        good = parse_bytes(text, at);
        value = (double)*(uint64_t *)at;
        break;
    case TYPE_MINUTES:
        good = parse_minutes(text, at);
        value = (double)*(uint64_t *)at;
        break;
    case TYPE_RATIO:
    case TYPE_NUMBER:
    case TYPE_RATE:
        good = parse_number(text, at);
        value = *(double *)at;
        break;
    case TYPE_BOOL:
        good = parse_bool(text, at);
        break;
    case TYPE_LOG_LEVEL:
        good = parse_name(text, LOG_LEVEL_NAMES, ARRAY_LEN(LOG_LEVEL_NAMES), at);
        break;
    case TYPE_LOG_FORMAT:
        good = parse_name(text, LOG_FORMAT_NAMES, ARRAY_LEN(LOG_FORMAT_NAMES), at);
        break;
    }
    if (!good) {
        buffer_printf(problem, "%s must be %s, not '%s'", name, expected(option->type), text);
        return ERR_INVALID;
    }
    if (!in_range(option, value)) {
        refuse_range(option, name, text, problem);
        return ERR_INVALID;
    }
    return ERR_OK;
}

/* ---- sources ---- */

/* "--http-port" and "HTTP_PORT" are the same name. */
static bool
flag_matches(const char *flag, size_t len, const char *name)
{
    if (strlen(name) != len) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        char c = flag[i] == '-' ? '_' : (char)toupper((unsigned char)flag[i]);

        if (c != name[i]) {
            return false;
        }
    }
    return true;
}

static const struct option *
find_flag(const char *flag, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(OPTIONS); i++) {
        if (flag_matches(flag, len, OPTIONS[i].name)) {
            return &OPTIONS[i];
        }
    }
    return NULL;
}

static enum err
read_flags(struct options *options, int argc, char **argv, struct buffer *problem)
{
    for (int i = 0; i < argc; i++) {
        char *flag = argv[i];
        const struct option *option;
        char *value;
        size_t len;
        enum err err;

        if (strncmp(flag, "--", 2) != 0) {
            buffer_printf(problem, "'%s' is not a flag; see --help", flag);
            return ERR_INVALID;
        }
        len = strcspn(flag + 2, "=");
        option = find_flag(flag + 2, len);
        if (option == NULL) {
            /* Without its value: it may be a password behind a misspelt name. */
            buffer_printf(problem, "there is no flag '%.*s'; see --help", (int)len + 2, flag);
            return ERR_INVALID;
        }
        value = flag[2 + len] == '=' ? flag + 3 + len : NULL;
        if (value == NULL) {
            if (++i == argc) {
                buffer_printf(problem, "%s needs a value", flag);
                return ERR_INVALID;
            }
            value = argv[i];
        }
        err = set_value(options, option, option->name, value, problem);
        if (err != ERR_OK) {
            return err;
        }
        if (option->type == TYPE_SECRET) {
            memset(value, '*', strlen(value)); /* ps shows a process's arguments to everybody */
        }
    }
    return ERR_OK;
}

/* The variable's own name first, then its aliases; an empty value counts as not set. */
static const char *
find_variable(const struct option *option, char name_out[64])
{
    const char *at = option->aliases;
    const char *value = getenv(option->name);

    snprintf(name_out, 64, "%s", option->name);
    while ((value == NULL || value[0] == '\0') && *at != '\0') {
        size_t len = strcspn(at, " ");

        snprintf(name_out, 64, "%.*s", (int)len, at);
        value = getenv(name_out);
        at += len;
        at += *at == ' ';
    }
    return value != NULL && value[0] != '\0' ? value : NULL;
}

static enum err
read_environment(struct options *options, struct buffer *problem)
{
    for (size_t i = 0; i < ARRAY_LEN(OPTIONS); i++) {
        char name[64];
        const char *value = find_variable(&OPTIONS[i], name);
        enum err err;

        if (value == NULL) {
            value = OPTIONS[i].initial;
        }
        if (value == NULL) {
            continue;
        }
        err = set_value(options, &OPTIONS[i], name, value, problem);
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

/* ---- the database's address ---- */

static bool
unescape_percent(char *text)
{
    char *out = text;

    for (; *text != '\0'; text++) {
        if (*text == '%') {
            char hex[3] = {0};

            if (!isxdigit((unsigned char)text[1]) || !isxdigit((unsigned char)text[2])) {
                return false;
            }
            hex[0] = text[1];
            hex[1] = text[2];
            *out = (char)strtol(hex, NULL, 16);
            if (*out++ == '\0') {
                return false; /* the rest would be cut off unseen */
            }
            text += 2;
        } else {
            *out++ = *text;
        }
    }
    *out = '\0';
    return true;
}

/* Copies [FROM, TO) to *AT, percent-decoded; an empty part leaves what is there. */
static bool
url_part(char **at, const char *from, const char *to)
{
    char *copy;

    if (from == to) {
        return true;
    }
    copy = strndup(from, (size_t)(to - from));
    if (copy == NULL || !unescape_percent(copy)) {
        free(copy);
        return false;
    }
    free(*at);
    *at = copy;
    return true;
}

static bool
url_parameter(struct options *options, const char *name, size_t name_len, const char *value,
              const char *end)
{
    if (name_len == 6 && strncmp(name, "socket", 6) == 0) {
        return url_part(&options->db_socket, value, end);
    }
    if (name_len == 2 && strncmp(name, "ca", 2) == 0) {
        return url_part(&options->db_tls_ca, value, end);
    }
    if (name_len == 3 && strncmp(name, "tls", 3) == 0) {
        options->db_tls_required = end - value == 8 && strncmp(value, "required", 8) == 0;
        return options->db_tls_required || (end - value == 3 && strncmp(value, "off", 3) == 0);
    }
    return false;
}

static bool
parse_authority(struct options *options, const char *at, const char *end)
{
    const char *user_end = memrchr(at, '@', (size_t)(end - at));
    const char *host_end = NULL; /* of an address in brackets */
    const char *colon;

    if (user_end != NULL) {
        colon = memchr(at, ':', (size_t)(user_end - at));
        if (!url_part(&options->db_user, at, colon == NULL ? user_end : colon) ||
            (colon != NULL && !url_part(&options->db_password, colon + 1, user_end))) {
            return false;
        }
        at = user_end + 1;
    }
    if (at < end && *at == '[') { /* an IPv6 address has colons of its own */
        host_end = memchr(at, ']', (size_t)(end - at));
        if (host_end == NULL || (host_end + 1 != end && host_end[1] != ':')) {
            return false;
        }
        at++;
    }
    colon = memrchr(host_end == NULL ? at : host_end, ':',
                    (size_t)(end - (host_end == NULL ? at : host_end)));
    if (colon != NULL) {
        const char *rest;

        if (!parse_u64(colon + 1, &options->db_port, &rest) || rest != end ||
            options->db_port < 1 || options->db_port > 65535) {
            return false;
        }
        end = colon;
    }
    if (host_end == NULL && memchr(at, ':', (size_t)(end - at)) != NULL) {
        return false;
    }
    return url_part(&options->db_host, at, host_end == NULL ? end : host_end);
}

static bool
parse_db_url(struct options *options)
{
    static const char SCHEME[] = "mysql://";
    const char *at = options->db_url;
    const char *end;

    if (strncmp(at, SCHEME, sizeof(SCHEME) - 1) != 0) {
        return false;
    }
    at += sizeof(SCHEME) - 1;
    end = at + strcspn(at, "/?");
    if (!parse_authority(options, at, end)) {
        return false;
    }
    at = end;
    if (*at == '/') {
        end = at + strcspn(at, "?");
        if (!url_part(&options->db_name, at + 1, end)) {
            return false;
        }
        at = end;
    }
    while (*at == '?' || *at == '&') {
        size_t name_len = strcspn(++at, "=&");
        const char *value = at + name_len + (at[name_len] == '=');

        end = value + strcspn(value, "&");
        if (!url_parameter(options, at, name_len, value, end)) {
            return false;
        }
        at = end;
    }
    return *at == '\0';
}

static enum err
read_password_file(struct options *options, struct buffer *problem)
{
    char line[1024];
    FILE *file = fopen(options->db_password_file, "re");
    bool good = file != NULL && fgets(line, sizeof(line), file) != NULL;
    bool whole = good && (strchr(line, '\n') != NULL || fgetc(file) == EOF);

    if (file != NULL) {
        fclose(file);
    }
    if (!good) {
        buffer_printf(problem, "DB_PASSWORD_FILE names a file that cannot be read or is empty: %s",
                      options->db_password_file);
        return ERR_INVALID;
    }
    if (!whole) {
        buffer_printf(problem, "DB_PASSWORD_FILE names a file whose first line is too long: %s",
                      options->db_password_file);
        return ERR_INVALID;
    }
    line[strcspn(line, "\r\n")] = '\0';
    return set_text(&options->db_password, line);
}

static enum err
finish_db(struct options *options, struct buffer *problem)
{
    enum err err = ERR_OK;

    if (options->db_password_file != NULL) {
        err = read_password_file(options, problem);
    }
    if (err == ERR_OK && options->db_url != NULL && !parse_db_url(options)) {
        buffer_printf(problem, "DB_URL must look like mysql://user:pass@host:port/name or "
                               "mysql://user@/name?socket=PATH (tls=required or off, ca=FILE)");
        return ERR_INVALID;
    }
    if (err == ERR_OK && options->db_tls_ca != NULL && !options->db_tls_required) {
        buffer_append_text(problem, "DB_URL has ca=FILE without tls=required, which would check "
                                    "nothing");
        return ERR_INVALID;
    }
    if (err == ERR_OK && options->db_tls_ca != NULL && access(options->db_tls_ca, R_OK) != 0) {
        buffer_printf(problem, "DB_URL's ca names a file that cannot be read: %s (%s)",
                      options->db_tls_ca, strerror(errno));
        return ERR_INVALID;
    }
    if (err == ERR_OK && options_has_db(options)) {
        if (options->db_name == NULL) {
            err = set_text(&options->db_name, "sluice");
        }
        if (err == ERR_OK && options->db_user == NULL) {
            err = set_text(&options->db_user, "root");
        }
        if (err == ERR_OK && options->db_password == NULL) {
            err = set_text(&options->db_password, "");
        }
    }
    return err;
}

static enum err
finish_tls(const struct options *options, struct buffer *problem)
{
    if ((options->tls_cert_file == NULL) != (options->tls_key_file == NULL)) {
        buffer_printf(problem, "%s needs %s as well",
                      options->tls_cert_file != NULL ? "TLS_CERT_FILE" : "TLS_KEY_FILE",
                      options->tls_cert_file != NULL ? "TLS_KEY_FILE" : "TLS_CERT_FILE");
        return ERR_INVALID;
    }
    if (options->tls_client_ca_file != NULL && options->tls_cert_file == NULL) {
        buffer_append_text(problem,
                           "TLS_CLIENT_CA_FILE needs TLS_CERT_FILE and TLS_KEY_FILE as well");
        return ERR_INVALID;
    }
    return ERR_OK;
}

/* Visible ASCII and blanks: what cannot end a header line early. */
static bool
is_header_text(const char *text)
{
    while (*text >= ' ' && *text <= '~') {
        text++;
    }
    return *text == '\0';
}

static bool
is_header(const char *text)
{
    size_t name = strcspn(text, ": ");

    return is_header_text(text) && name > 0 && text[name] == ':';
}

enum webhook_format
options_webhook_format(const struct options *options)
{
    static const char *const NAMES[] = {"auto", "alertmanager", "json"};
    static const enum webhook_format FORMATS[] = {WEBHOOK_AUTO, WEBHOOK_ALERTMANAGER, WEBHOOK_JSON};
    uint64_t at = 0;

    (void)parse_name(options->alert_webhook_format, NAMES, ARRAY_LEN(NAMES), &at);
    return FORMATS[at];
}

static enum err
finish_webhook(const struct options *options, struct buffer *problem)
{
    static const char *const NAMES[] = {"auto", "alertmanager", "json"};
    const char *why;
    uint64_t at;

    /* The address may hold a secret, so it is not repeated. */
    if (options->alert_webhook_url != NULL &&
        !webhook_url_valid(options->alert_webhook_url, &why)) {
        buffer_printf(problem, "ALERT_WEBHOOK_URL %s", why);
        return ERR_INVALID;
    }
    if (!parse_name(options->alert_webhook_format, NAMES, ARRAY_LEN(NAMES), &at)) {
        buffer_printf(problem, "ALERT_WEBHOOK_FORMAT must be auto, alertmanager or json, not '%s'",
                      options->alert_webhook_format);
        return ERR_INVALID;
    }
    if (options->alert_webhook_token != NULL && !is_header_text(options->alert_webhook_token)) {
        buffer_append_text(problem, "ALERT_WEBHOOK_TOKEN must be visible ASCII");
        return ERR_INVALID;
    }
    if (options->alert_webhook_header != NULL && !is_header(options->alert_webhook_header)) {
        buffer_append_text(problem, "ALERT_WEBHOOK_HEADER must look like Name: value");
        return ERR_INVALID;
    }
    if (options->alert_external_url != NULL &&
        !webhook_url_valid(options->alert_external_url, &why)) {
        buffer_printf(problem, "ALERT_EXTERNAL_URL %s", why);
        return ERR_INVALID;
    }
    return ERR_OK;
}

enum err
options_read(struct options *out, int argc, char **argv, struct buffer *problem)
{
    enum err err;

    *out = (struct options){0};
    err = read_environment(out, problem);
    if (err == ERR_OK) {
        err = read_flags(out, argc, argv, problem);
    }
    if (err == ERR_OK) {
        err = finish_db(out, problem);
    }
    if (err == ERR_OK) {
        err = finish_tls(out, problem);
    }
    if (err == ERR_OK) {
        err = finish_webhook(out, problem);
    }
    if (err == ERR_OK && out->max_event_bytes > out->max_body_bytes) {
        buffer_append_text(problem, "MAX_EVENT_BYTES must not be larger than MAX_BODY_BYTES");
        return ERR_INVALID;
    }
    if (err == ERR_OK && out->cors_allow_origins != NULL &&
        !cors_is_valid(out->cors_allow_origins)) {
        buffer_printf(problem,
                      "CORS_ALLOW_ORIGINS must be * or origins such as https://app.example.com, "
                      "separated by commas, not '%s'",
                      out->cors_allow_origins);
        return ERR_INVALID;
    }
    return err;
}

void
options_free(struct options *options)
{
    for (size_t i = 0; i < ARRAY_LEN(OPTIONS); i++) {
        if (OPTIONS[i].type == TYPE_TEXT || OPTIONS[i].type == TYPE_SECRET) {
            char **at = member(options, &OPTIONS[i]);

            free(*at);
            *at = NULL;
        }
    }
    free(options->db_socket); /* these two come from DB_URL only */
    free(options->db_tls_ca);
    options->db_socket = NULL;
    options->db_tls_ca = NULL;
}

static void
forget(char **secret)
{
    if (*secret != NULL) {
        explicit_bzero(*secret, strlen(*secret));
        free(*secret);
        *secret = NULL;
    }
}

void
options_forget_keys(struct options *options)
{
    forget(&options->api_keys);
    forget(&options->admin_key);
}

enum err
options_tenants(const struct options *options, const struct clock *clock, struct tenants **out,
                struct buffer *problem)
{
    const struct tenants_config config = {
        .keys = options->api_keys,
        .keys_file = options->api_keys_file,
        .admin_key = options->admin_key,
        .rate = options->tenant_rate_limit_rps,
        .burst = options->tenant_rate_limit_burst,
        .clock = clock,
    };
    enum err err = tenants_open(out, &config, problem);

    if (err != ERR_OK && err != ERR_INVALID) {
        buffer_printf(problem, "API_KEYS cannot be read: %s", err_text(err));
    }
    return err;
}

enum err
options_tls(const struct options *options, struct tls **out, struct buffer *problem)
{
    const struct tls_config config = {
        .cert_file = options->tls_cert_file,
        .key_file = options->tls_key_file,
        .client_ca_file = options->tls_client_ca_file,
    };
    enum err err;

    *out = NULL;
    if (config.cert_file == NULL) {
        return ERR_OK;
    }
    err = tls_open(out, &config, problem);
    if (err != ERR_OK && err != ERR_INVALID) {
        buffer_printf(problem, "TLS_CERT_FILE cannot be used: %s", err_text(err));
    }
    return err;
}

bool
options_has_db(const struct options *options)
{
    return options->db_host != NULL || options->db_socket != NULL;
}

struct mysql_config
options_mysql(const struct options *options)
{
    ASSERT(options_has_db(options));
    return (struct mysql_config){
        .host = options->db_socket == NULL ? options->db_host : NULL,
        .socket = options->db_socket,
        .user = options->db_user,
        .password = options->db_password,
        .database = options->db_name,
        .port = (uint32_t)options->db_port,
        .timeout_ms = (int)options->db_timeout_ms,
        .tls = options->db_tls_required ? MYSQL_TLS_REQUIRED : MYSQL_TLS_OFF,
        .tls_ca = options->db_tls_ca,
        .load_rows_min = LOAD_ROWS_MIN,
    };
}

/* ---- showing ---- */

/* True when NAME begins with one of the words of ONLY. */
static bool
is_wanted(const char *name, const char *only)
{
    if (only == NULL) {
        return true;
    }
    while (*only != '\0') {
        const size_t len = strcspn(only, " ");

        if (strncmp(name, only, len) == 0) {
            return true;
        }
        only += len;
        only += *only == ' ';
    }
    return false;
}

void
options_help(FILE *out, const char *only)
{
    if (only != NULL && only[0] == '\0') {
        return;
    }
    fputs("Settings, each an environment variable and a flag of the same name "
          "(HTTP_PORT, --http-port):\n\n",
          out);
    for (size_t i = 0; i < ARRAY_LEN(OPTIONS); i++) {
        const struct option *option = &OPTIONS[i];

        if (!is_wanted(option->name, only)) {
            continue;
        }
        fprintf(out, "  %-24s %s", option->name, option->help);
        if (option->initial != NULL) {
            fprintf(out, " [%s]", option->initial);
        }
        if (option->aliases[0] != '\0') {
            fprintf(out, " (also %s)", option->aliases);
        }
        fputc('\n', out);
    }
}

void
options_print(const struct options *options, FILE *out)
{
    for (size_t i = 0; i < ARRAY_LEN(OPTIONS); i++) {
        const struct option *option = &OPTIONS[i];
        const char *at = (const char *)options + option->offset;
        char figure[FIGURE_MAX];
        const char *text;
        uint64_t count;
        double number;
        bool flag;

        memcpy(&text, at, sizeof(text));
        memcpy(&count, at, sizeof(count));
        memcpy(&number, at, sizeof(number));
        memcpy(&flag, at, sizeof(flag));
        fprintf(out, "%s=", option->name);
        switch (option->type) {
        case TYPE_TEXT:
            fprintf(out, "%s\n", text == NULL ? "" : text);
            break;
        case TYPE_SECRET:
            fprintf(out, "%s\n", text == NULL || text[0] == '\0' ? "" : "(set)");
            break;
        case TYPE_COUNT:
        case TYPE_BYTES:
            fprintf(out, "%llu\n", (unsigned long long)count);
            break;
        case TYPE_MINUTES:
            fprintf(out, "%s\n", minutes_text(figure, count));
            break;
        case TYPE_RATIO:
        case TYPE_NUMBER:
        case TYPE_RATE:
            fprintf(out, "%s\n", number_text(figure, number));
            break;
        case TYPE_BOOL:
            fprintf(out, "%s\n", flag ? "true" : "false");
            break;
        case TYPE_LOG_LEVEL:
            fprintf(out, "%s\n", LOG_LEVEL_NAMES[count]);
            break;
        case TYPE_LOG_FORMAT:
            fprintf(out, "%s\n", LOG_FORMAT_NAMES[count]);
            break;
        }
    }
}
