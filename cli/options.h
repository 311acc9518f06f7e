/*
 * options.h - one table of settings: environment variables, flags, --help and check-config.
 *
 * A value comes from the flag, else from the variable or one of its aliases, else from the table's
 * default. One that does not parse is an error that names the variable; nothing falls back
 * silently.
 */
#ifndef SLUICE_CLI_OPTIONS_H
#define SLUICE_CLI_OPTIONS_H

#include <stdio.h>

#include "cli/webhook.h"
#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/tenants.h"
#include "http/tls.h"
#include "storage/mysql_config.h"

struct options {
    char *http_host;
    uint64_t http_port;
    uint64_t http_threads; /* 0: CPUs - 1, at least 1 */
    uint64_t max_body_bytes;
    uint64_t max_event_bytes;
    uint64_t max_bulk_events;
    uint64_t max_buffered_bytes;
    uint64_t max_connections;
    uint64_t http_read_timeout_ms;
    uint64_t http_idle_timeout_ms;
    uint64_t shutdown_timeout_ms;
    uint64_t max_future_skew_ms;
    bool ready_requires_db;
    char *cors_allow_origins;
    bool metrics_legacy_names;
    char *tls_cert_file;
    char *tls_key_file;
    char *tls_client_ca_file;

    char *api_keys;
    char *api_keys_file;
    char *admin_key;
    double rate_limit_rps; /* 0: off, here and below */
    uint64_t rate_limit_burst;
    double tenant_rate_limit_rps;
    uint64_t tenant_rate_limit_burst;

    char *wal_dir;
    uint64_t wal_max_bytes;
    uint64_t wal_retain_bytes;
    uint64_t counts_max_bytes;
    uint64_t wal_partitions;
    uint64_t queue_size;
    uint64_t idempotency_window;

    char *db_url;
    char *db_host;
    uint64_t db_port;
    char *db_socket;
    char *db_user;
    char *db_password;
    char *db_password_file;
    char *db_name;
    bool db_tls_required;
    char *db_tls_ca;
    uint64_t db_timeout_ms;
    uint64_t db_retry_backoff_ms;
    uint64_t db_retry_backoff_max_ms;
    uint64_t batch_max_events;
    uint64_t batch_max_ms;

    double slo_target;
    uint64_t slo_window_minutes;
    double slo_latency_ms;
    double slo_latency_target;

    char *alert_webhook_url;
    char *alert_webhook_format;
    char *alert_webhook_token;
    char *alert_webhook_header;
    uint64_t alert_webhook_timeout_ms;
    uint64_t alert_repeat_ms;
    char *alert_external_url;

    uint64_t log_level;  /* enum log_level */
    uint64_t log_format; /* enum log_format */
};

/*
 * Fills *OUT from flags ARGV[0..ARGC) and the environment. On ERR_INVALID a sentence that names the
 * variable is in PROBLEM. Secrets in ARGV are overwritten, since a process's arguments can be
 * listed by others. Whatever the result, release *OUT with options_free().
 */
MUST_CHECK enum err options_read(struct options *out, int argc, char **argv,
                                 struct buffer *problem);
void options_free(struct options *options);

/*
 * Prints the table: names, aliases, defaults and meanings. ONLY: beginnings of names, separated by
 * spaces; NULL for all, "" for none.
 */
void options_help(FILE *out, const char *only);

/* Prints the effective values, passwords hidden. */
void options_print(const struct options *options, FILE *out);

/*
 * The tenants and their keys. ERR_INVALID: a sentence about API_KEYS, API_KEYS_FILE or ADMIN_KEY is
 * in PROBLEM, as there is after any other error.
 */
MUST_CHECK enum err options_tenants(const struct options *options, const struct clock *clock,
                                    struct tenants **out, struct buffer *problem);

/*
 * What HTTPS needs; *OUT is NULL where it is not configured. Borrows paths from OPTIONS.
 * ERR_INVALID: a sentence about TLS_CERT_FILE, TLS_KEY_FILE or TLS_CLIENT_CA_FILE is in PROBLEM, as
 * there is after any other error.
 */
MUST_CHECK enum err options_tls(const struct options *options, struct tls **out,
                                struct buffer *problem);

/* Overwrites the texts of the keys: once the tenants are open, digests do. */
void options_forget_keys(struct options *options);

/* The form alerts are told in, an enum webhook_format. Only with a webhook. */
enum webhook_format options_webhook_format(const struct options *options);

/* True when a database is configured. */
bool options_has_db(const struct options *options);

/* How to reach it; borrows from OPTIONS. Only when one is configured. */
struct mysql_config options_mysql(const struct options *options);

#endif
