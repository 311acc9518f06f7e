#include "core/base/log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "core/base/buffer.h"

/* The one mutable global: set once before threads start, read by all of them. */
static struct {
    _Atomic int level;
    enum log_format format;
    int fd;
} logger = {LOG_INFO, LOG_TEXT, 2};

static const char *const LEVEL_NAME[] = {
    [LOG_DEBUG] = "debug",
    [LOG_INFO] = "info",
    [LOG_WARN] = "warn",
    [LOG_ERROR] = "error",
};

void
log_setup(enum log_level level, enum log_format format, int fd)
{
    logger.format = format;
    logger.fd = fd;
    atomic_store(&logger.level, (int)level);
}

bool
log_enabled(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&logger.level, memory_order_relaxed);
}

static void
append_time(struct buffer *line)
{
    struct timespec now;
    struct tm utc;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    buffer_printf(line, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ", utc.tm_year + 1900, utc.tm_mon + 1,
                  utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, now.tv_nsec / 1000000);
}

static void
append_value(struct buffer *line, const struct log_field *field)
{
    switch (field->type) {
    case LOG_TYPE_END:
        break;
    case LOG_TYPE_STR:
        buffer_append_json_string(line, span_of(field->value.str));
        break;
    case LOG_TYPE_I64:
        buffer_append_i64(line, field->value.i64);
        break;
    case LOG_TYPE_U64:
        buffer_append_u64(line, field->value.u64);
        break;
    case LOG_TYPE_F64:
        buffer_append_json_number(line, field->value.f64);
        break;
    case LOG_TYPE_BOOL:
        buffer_append_text(line, field->value.boolean ? "true" : "false");
        break;
    }
}

void
log_write(enum log_level level, const char *event, const struct log_field *fields)
{
    struct buffer line = BUFFER_EMPTY;
    bool json = logger.format == LOG_JSON;

    if (!log_enabled(level)) {
        return;
    }
    if (json) {
        buffer_append_text(&line, "{\"time\":\"");
        append_time(&line);
        buffer_printf(&line, "\",\"level\":\"%s\",\"event\":\"%s\"", LEVEL_NAME[level], event);
    } else {
        append_time(&line);
        buffer_printf(&line, " %-5s %s", LEVEL_NAME[level], event);
    }
    for (; fields->type != LOG_TYPE_END; fields++) {
        buffer_printf(&line, json ? ",\"%s\":" : " %s=", fields->key);
        append_value(&line, fields);
    }
    buffer_append_text(&line, json ? "}\n" : "\n");
    if (!line.failed) {
        /* A log line that cannot be written has nowhere else to go. */
        ssize_t written = write(logger.fd, line.data, line.len);
        (void)written;
    }
    buffer_free(&line);
}
