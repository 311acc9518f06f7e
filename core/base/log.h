/*
 * log.h - one line per fact on stdout, JSON or text, with keys and no payloads or secrets.
 *
 *   log_info("wal.opened", LOG_STR("dir", dir), LOG_U64("last_seq", seq), LOG_END);
 *
 * What a client can cause is counted in metrics, not logged. The logger is the one mutable global.
 * Any thread may call; a line is written with one write(2), so lines never mix.
 */
#ifndef SLUICE_CORE_LOG_H
#define SLUICE_CORE_LOG_H

#include "core/base/base.h"
#include "core/base/err.h"

enum log_level {
    LOG_DEBUG,
    LOG_INFO,
    LOG_WARN,
    LOG_ERROR,
};

enum log_format {
    LOG_JSON,
    LOG_TEXT,
};

enum log_type {
    LOG_TYPE_END,
    LOG_TYPE_STR,
    LOG_TYPE_I64,
    LOG_TYPE_U64,
    LOG_TYPE_F64,
    LOG_TYPE_BOOL,
};

struct log_field {
    const char *key;
    enum log_type type;
    union {
        const char *str; /* NULL prints as an empty string */
        int64_t i64;
        uint64_t u64;
        double f64;
        bool boolean;
    } value;
};

#define LOG_STR(name, v) ((struct log_field){(name), LOG_TYPE_STR, {.str = (v)}})
#define LOG_I64(name, v) ((struct log_field){(name), LOG_TYPE_I64, {.i64 = (v)}})
#define LOG_U64(name, v) ((struct log_field){(name), LOG_TYPE_U64, {.u64 = (v)}})
#define LOG_F64(name, v) ((struct log_field){(name), LOG_TYPE_F64, {.f64 = (v)}})
#define LOG_BOOL(name, v) ((struct log_field){(name), LOG_TYPE_BOOL, {.boolean = (v)}})
#define LOG_ERR(v) LOG_STR("error", err_name(v))
#define LOG_END ((struct log_field){NULL, LOG_TYPE_END, {.u64 = 0}})

/* Call once, before other threads exist. FD is where lines go (1 in the server). */
void log_setup(enum log_level level, enum log_format format, int fd);

/* True when a line of LEVEL would be written: lets a caller skip costly fields. */
bool log_enabled(enum log_level level);

/* Writes {"time":..,"level":..,"event":EVENT,..fields}; EVENT is "module.fact". */
void log_write(enum log_level level, const char *event, const struct log_field *fields);

#define log_debug(event, ...) log_write(LOG_DEBUG, (event), (const struct log_field[]){__VA_ARGS__})
#define log_info(event, ...) log_write(LOG_INFO, (event), (const struct log_field[]){__VA_ARGS__})
#define log_warn(event, ...) log_write(LOG_WARN, (event), (const struct log_field[]){__VA_ARGS__})
#define log_error(event, ...) log_write(LOG_ERROR, (event), (const struct log_field[]){__VA_ARGS__})

#endif
