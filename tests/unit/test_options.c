/*
 * test_options.c - settings from flags, variables, aliases and defaults; what is refused and how.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/options.h"
#include "core/base/log.h"

static struct options options;
static struct buffer problem;

/* Every test begins with an environment that has only what it sets. */
static int
setup(void **state)
{
    (void)state;
    clearenv();
    problem = BUFFER_EMPTY;
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    options_free(&options);
    buffer_free(&problem);
    return 0;
}

static enum err
read_flags(int argc, const char *const *flags)
{
    char *argv[8];
    enum err err;

    assert_true(argc <= 8);
    for (int i = 0; i < argc; i++) {
        argv[i] = strdup(flags[i]);
        assert_non_null(argv[i]);
    }
    options_free(&options);
    buffer_clear(&problem, SIZE_MAX);
    err = options_read(&options, argc, argv, &problem);
    for (int i = 0; i < argc; i++) {
        free(argv[i]);
    }
    return err;
}

#define READ(...)                                                                                  \
    read_flags((int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)),                      \
               (const char *[]){__VA_ARGS__})

static enum err
read_none(void)
{
    return read_flags(0, NULL);
}

static void
assert_problem(const char *text)
{
    buffer_append(&problem, "", 1);
    if (strstr(problem.data, text) == NULL) {
        fail_msg("'%s' does not tell of '%s'", problem.data, text);
    }
}

#define assert_refused(err, text)                                                                  \
    do {                                                                                           \
        assert_int_equal((err), ERR_INVALID);                                                      \
        assert_problem(text);                                                                      \
    } while (0)

static void
the_defaults_are_valid_and_name_no_database(void **state)
{
    (void)state;
    assert_int_equal(read_none(), ERR_OK);
    assert_int_equal(options.http_port, 8080);
    assert_string_equal(options.http_host, "0.0.0.0");
    assert_string_equal(options.wal_dir, "./var/wal");
    assert_int_equal(options.wal_max_bytes, UINT64_C(8) << 30);
    assert_int_equal(options.max_event_bytes, 64 << 10);
    assert_int_equal(options.slo_window_minutes, 30 * 1440);
    assert_true(options.slo_target > 0.9989 && options.slo_target < 0.9991);
    assert_false(options.ready_requires_db);
    assert_int_equal(options.log_level, LOG_INFO);
    assert_int_equal(options.log_format, LOG_JSON);
    assert_false(options_has_db(&options));
    assert_null(options.db_name);
}

static void
a_flag_wins_over_the_variable_over_the_alias_over_the_default(void **state)
{
    (void)state;
    setenv("SERVICE_API_PORT", "1001", 1);
    assert_int_equal(read_none(), ERR_OK);
    assert_int_equal(options.http_port, 1001);
    setenv("PORT", "1002", 1);
    assert_int_equal(read_none(), ERR_OK);
    assert_int_equal(options.http_port, 1002);
    setenv("HTTP_PORT", "1003", 1);
    assert_int_equal(read_none(), ERR_OK);
    assert_int_equal(options.http_port, 1003);
    assert_int_equal(READ("--http-port=1004"), ERR_OK);
    assert_int_equal(options.http_port, 1004);
    assert_int_equal(READ("--http-port=1004", "--http-port", "1005"), ERR_OK);
    assert_int_equal(options.http_port, 1005);
}

static void
an_empty_variable_counts_as_not_set(void **state)
{
    (void)state;
    setenv("HTTP_PORT", "", 1);
    setenv("PORT", "1002", 1);
    setenv("WAL_DIR", "", 1);
    setenv("DB_URL", "", 1);
    setenv("API_KEYS", "", 1);
    assert_int_equal(read_none(), ERR_OK);
    assert_int_equal(options.http_port, 1002);
    assert_string_equal(options.wal_dir, "./var/wal");
    assert_false(options_has_db(&options));
}

static void
an_empty_flag_takes_a_text_away_but_not_one_that_is_needed(void **state)
{
    (void)state;
    setenv("DB_HOST", "db", 1);
    assert_int_equal(READ("--db-host="), ERR_OK);
    assert_false(options_has_db(&options));
    setenv("DB_URL", "mysql://db", 1);
    assert_int_equal(READ("--db-url=", "--db-host="), ERR_OK);
    assert_false(options_has_db(&options));
    assert_refused(READ("--wal-dir="), "WAL_DIR");
    assert_refused(READ("--http-host", ""), "HTTP_HOST");
    assert_refused(READ("--http-port="), "HTTP_PORT");
}

static void
flags_are_read_in_both_forms_and_unknown_ones_refused(void **state)
{
    (void)state;
    assert_int_equal(READ("--wal-dir", "/a", "--log-level=debug", "--HTTP_PORT=7"), ERR_OK);
    assert_string_equal(options.wal_dir, "/a");
    assert_int_equal(options.log_level, LOG_DEBUG);
    assert_int_equal(options.http_port, 7);
    assert_int_equal(READ("--wal-dir=/a=b"), ERR_OK);
    assert_string_equal(options.wal_dir, "/a=b");
    assert_refused(READ("--no-such-flag=1"), "--no-such-flag");
    assert_refused(READ("--http"), "--http");
    assert_refused(READ("--http-port-x=1"), "--http-port-x");
    assert_refused(READ("stray"), "stray");
    assert_refused(READ("-p", "1"), "-p");
    assert_refused(READ("--"), "--");
    assert_refused(READ("--http-port"), "needs a value");
    assert_refused(READ("--port=1"), "--port"); /* aliases are variables only */
}

static void
each_bad_value_is_refused_in_the_words_of_its_variable(void **state)
{
    static const struct {
        const char *name;
        const char *value;
    } BAD[] = {
        {"HTTP_PORT", "x"},
        {"HTTP_PORT", "-1"},
        {"HTTP_PORT", "+1"},
        {"HTTP_PORT", " 1"},
        {"HTTP_PORT", "1 "},
        {"HTTP_PORT", "1.5"},
        {"HTTP_PORT", "0x10"},
        {"HTTP_PORT", "65536"},
        {"HTTP_PORT", "18446744073709551616"},
        {"HTTP_THREADS", "65"},
        {"WAL_PARTITIONS", "0"},
        {"WAL_PARTITIONS", "65"},
        {"QUEUE_SIZE", "0"},
        {"QUEUE_SIZE", "1k"},
        {"WAL_MAX_BYTES", "8GB"},
        {"WAL_MAX_BYTES", "8 GiB"},
        {"WAL_MAX_BYTES", "GiB"},
        {"WAL_MAX_BYTES", "1.5GiB"},
        {"WAL_MAX_BYTES", "1023KiB"},
        {"WAL_MAX_BYTES", "16385GiB"},
        {"WAL_MAX_BYTES", "17179869184GiB"}, /* 2^64 bytes */
        {"SLO_WINDOW", "30"},
        {"SLO_WINDOW", "30s"},
        {"SLO_WINDOW", "59m"},
        {"SLO_WINDOW", "91d"},
        {"SLO_TARGET", "0"},
        {"SLO_TARGET", "1"},
        {"SLO_TARGET", "99.9"},
        {"SLO_TARGET", "99.9%"},
        {"SLO_TARGET", "nan"},
        {"SLO_TARGET", "-0.5"},
        {"SLO_TARGET", " 0.5"},
        {"SLO_TARGET", "0x.8"},
        {"SLO_LATENCY_MS", "0"},
        {"SLO_LATENCY_MS", "inf"},
        {"SLO_LATENCY_MS", "1e400"},
        {"SLO_LATENCY_MS", "4294968"},
        {"READY_REQUIRES_DB", "maybe"},
        {"METRICS_LEGACY_NAMES", "maybe"},
        {"CORS_ALLOW_ORIGINS", "app.example"},
        {"CORS_ALLOW_ORIGINS", "https://app.example/"},
        {"CORS_ALLOW_ORIGINS", "https://app.example,*"},
        {"READY_REQUIRES_DB", "2"},
        {"LOG_LEVEL", "TRACE"},
        {"LOG_FORMAT", "xml"},
        {"DB_PORT", "0"},
        {"DB_TIMEOUT_MS", "999"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        setenv(BAD[i].name, BAD[i].value, 1);
        assert_refused(read_none(), BAD[i].name);
        assert_problem(BAD[i].value);
        unsetenv(BAD[i].name);
    }
    assert_int_equal(read_none(), ERR_OK);
}

static void
a_range_is_named_in_the_units_of_its_setting(void **state)
{
    (void)state;
    setenv("SLO_WINDOW", "91d", 1);
    assert_refused(read_none(), "SLO_WINDOW must be between 1h and 90d, not '91d'");
    unsetenv("SLO_WINDOW");
    setenv("SLO_TARGET", "1", 1);
    assert_refused(read_none(), "SLO_TARGET must be above 0 and below 1, not '1'");
    unsetenv("SLO_TARGET");
}

static void
the_ends_of_each_range_are_within_it(void **state)
{
    (void)state;
    assert_int_equal(READ("--http-port=0", "--wal-partitions=64", "--slo-window=1h",
                          "--wal-max-bytes=1MiB", "--batch-max-ms=0", "--queue-size=1"),
                     ERR_OK);
    assert_int_equal(options.http_port, 0);
    assert_int_equal(options.wal_partitions, 64);
    assert_int_equal(options.slo_window_minutes, 60);
    assert_int_equal(options.wal_max_bytes, 1 << 20);
    assert_int_equal(READ("--http-port=65535", "--wal-partitions=1", "--slo-window=90d",
                          "--wal-max-bytes=16384GiB", "--slo-latency-ms=0.001"),
                     ERR_OK);
    assert_int_equal(options.http_port, 65535);
    assert_int_equal(options.slo_window_minutes, 90 * 1440);
    assert_int_equal(options.wal_max_bytes, UINT64_C(1) << 44);
}

static void
sizes_durations_numbers_and_words_have_their_forms(void **state)
{
    static const char *const YES[] = {"true", "1", "yes", "on", "TRUE"};
    static const char *const NO[] = {"false", "0", "no", "off", "False"};

    (void)state;
    assert_int_equal(READ("--wal-retain-bytes=0", "--wal-max-bytes=2m", "--max-body-bytes=1048576",
                          "--max-event-bytes=3KIB", "--slo-window=2000m", "--slo-target=9.5e-1",
                          "--slo-latency-ms=12.5"),
                     ERR_OK);
    assert_int_equal(options.wal_retain_bytes, 0);
    assert_int_equal(options.wal_max_bytes, 2 << 20);
    assert_int_equal(options.max_body_bytes, 1 << 20);
    assert_int_equal(options.max_event_bytes, 3 << 10);
    assert_int_equal(options.slo_window_minutes, 2000);
    assert_true(options.slo_target == 0.95);
    assert_true(options.slo_latency_ms == 12.5);
    for (size_t i = 0; i < ARRAY_LEN(YES); i++) {
        setenv("READY_REQUIRES_DB", YES[i], 1);
        assert_int_equal(read_none(), ERR_OK);
        assert_true(options.ready_requires_db);
        setenv("READY_REQUIRES_DB", NO[i], 1);
        assert_int_equal(read_none(), ERR_OK);
        assert_false(options.ready_requires_db);
    }
    assert_int_equal(READ("--log-level=warn", "--log-format=TEXT"), ERR_OK);
    assert_int_equal(options.log_level, LOG_WARN);
    assert_int_equal(options.log_format, LOG_TEXT);
}

static void
an_event_may_not_be_larger_than_a_body(void **state)
{
    (void)state;
    assert_refused(READ("--max-event-bytes=2MiB", "--max-body-bytes=1MiB"), "MAX_EVENT_BYTES");
    assert_int_equal(READ("--max-event-bytes=1MiB", "--max-body-bytes=1MiB"), ERR_OK);
}

static void
a_bad_value_under_an_alias_names_the_alias(void **state)
{
    (void)state;
    setenv("WORKER_POOL_SIZE", "many", 1);
    assert_refused(read_none(), "WORKER_POOL_SIZE must be a whole number, not 'many'");
}

static void
https_needs_certificate_and_key(void **state)
{
    struct tls *tls = NULL;

    (void)state;
    assert_int_equal(read_none(), ERR_OK);
    assert_int_equal(options_tls(&options, &tls, &problem), ERR_OK);
    assert_null(tls);
    assert_refused(READ("--tls-cert-file=c"), "TLS_CERT_FILE needs TLS_KEY_FILE as well");
    setenv("TLS_KEY_FILE", "k", 1);
    assert_refused(read_none(), "TLS_KEY_FILE needs TLS_CERT_FILE as well");
    setenv("TLS_KEY_FILE", "", 1); /* as if it were not set */
    assert_refused(READ("--tls-client-ca-file=ca"), "TLS_CLIENT_CA_FILE needs TLS_CERT_FILE");
    assert_int_equal(READ("--tls-cert-file=/nonexistent/c", "--tls-key-file=/nonexistent/k",
                          "--tls-client-ca-file=/nonexistent/ca"),
                     ERR_OK);
    assert_string_equal(options.tls_cert_file, "/nonexistent/c");
    assert_string_equal(options.tls_key_file, "/nonexistent/k");
    assert_string_equal(options.tls_client_ca_file, "/nonexistent/ca");
    assert_refused(options_tls(&options, &tls, &problem),
                   "TLS_CERT_FILE names a file that cannot be read: /nonexistent/c");
    assert_null(tls);
}

static void
a_rate_is_off_or_within_its_limits(void **state)
{
    (void)state;
    assert_int_equal(read_none(), ERR_OK);
    assert_true(options.rate_limit_rps == 0);
    assert_true(options.tenant_rate_limit_rps == 0);
    assert_int_equal(READ("--rate-limit-rps=2.5", "--rate-limit-burst=7",
                          "--tenant-rate-limit-rps=0.001", "--tenant-rate-limit-burst=1000000000"),
                     ERR_OK);
    assert_true(options.rate_limit_rps == 2.5);
    assert_int_equal(options.rate_limit_burst, 7);
    assert_true(options.tenant_rate_limit_rps == 0.001);
    assert_int_equal(options.tenant_rate_limit_burst, 1000000000);
    assert_int_equal(READ("--rate-limit-rps=0"), ERR_OK);
    assert_refused(READ("--rate-limit-rps=-1"),
                   "RATE_LIMIT_RPS must be 0 or between 0.001 and 1000000000, not '-1'");
    assert_refused(READ("--tenant-rate-limit-rps=0.0009"), "TENANT_RATE_LIMIT_RPS must be 0 or");
    assert_refused(READ("--rate-limit-rps=2e9"), "RATE_LIMIT_RPS must be 0 or");
    assert_refused(READ("--rate-limit-rps=fast"), "RATE_LIMIT_RPS must be a number");
    assert_refused(READ("--rate-limit-burst=1000000001"), "RATE_LIMIT_BURST");
    assert_refused(READ("--tenant-rate-limit-burst=1.5"), "TENANT_RATE_LIMIT_BURST");
}

/* ---- keys ---- */

static void
keys_become_tenants_and_are_then_forgotten(void **state)
{
    struct tenants *tenants;
    struct tenant *tenant;

    (void)state;
    setenv("API_KEYS", "t1:k1", 1);
    setenv("ADMIN_KEY", "root", 1);
    assert_int_equal(READ("--tenant-rate-limit-rps=5", "--tenant-rate-limit-burst=9"), ERR_OK);
    assert_int_equal(options_tenants(&options, clock_system(), &tenants, &problem), ERR_OK);
    options_forget_keys(&options);
    assert_null(options.api_keys);
    assert_null(options.admin_key);
    assert_int_equal(tenants_find(tenants, 0, SPAN_LITERAL("k1"), &tenant), KEY_OF_TENANT);
    assert_int_equal(tenant->bucket.burst, 9);
    assert_int_equal(tenants_find(tenants, 0, SPAN_LITERAL("root"), &tenant), KEY_OF_ADMIN);
    tenants_free(tenants);
    options_forget_keys(&options);
}

static void
keys_that_are_none_are_told_without_the_key(void **state)
{
    struct tenants *tenants;

    (void)state;
    assert_int_equal(READ("--api-keys=secret-without-a-tenant"), ERR_OK);
    assert_refused(options_tenants(&options, clock_system(), &tenants, &problem),
                   "API_KEYS must be \"tenant:key,tenant:key\"");
    assert_null(strstr(problem.data, "secret"));
}

/* ---- the database's address ---- */

static void
assert_db(const char *host, uint64_t port, const char *user, const char *password, const char *name)
{
    assert_true(options_has_db(&options));
    if (host != NULL) {
        assert_string_equal(options.db_host, host);
    } else {
        assert_null(options.db_host);
    }
    assert_int_equal(options.db_port, port);
    assert_string_equal(options.db_user, user);
    assert_string_equal(options.db_password, password);
    assert_string_equal(options.db_name, name);
}

static void
a_url_gives_every_part_or_leaves_the_default(void **state)
{
    (void)state;
    assert_int_equal(READ("--db-url=mysql://u:p@h:3307/n"), ERR_OK);
    assert_db("h", 3307, "u", "p", "n");
    assert_int_equal(READ("--db-url=mysql://h"), ERR_OK);
    assert_db("h", 3306, "root", "", "sluice");
    assert_int_equal(READ("--db-url=mysql://h/"), ERR_OK);
    assert_db("h", 3306, "root", "", "sluice");
    assert_int_equal(READ("--db-url=mysql://u@/n?socket=/run/s"), ERR_OK);
    assert_db(NULL, 3306, "u", "", "n");
    assert_string_equal(options.db_socket, "/run/s");
    assert_int_equal(READ("--db-url=mysql:///n?socket=/run/s"), ERR_OK);
    assert_db(NULL, 3306, "root", "", "n");
    assert_int_equal(READ("--db-url=mysql://u:p@h?tls=required&ca=/etc/passwd"), ERR_OK);
    assert_db("h", 3306, "u", "p", "sluice");
    assert_true(options.db_tls_required);
    assert_string_equal(options.db_tls_ca, "/etc/passwd");
    assert_int_equal(READ("--db-url=mysql://h/n?tls=off"), ERR_OK);
    assert_false(options.db_tls_required);
    assert_refused(READ("--db-url=mysql://h/n?tls=required&ca=/nonexistent/ca"),
                   "DB_URL's ca names a file that cannot be read: /nonexistent/ca");
}

static void
a_url_is_percent_decoded_part_by_part(void **state)
{
    (void)state;
    assert_int_equal(READ("--db-url=mysql://a%40b:p%3A%2f%3F%25@h/n%2Dm?socket=/a%20b"), ERR_OK);
    assert_db("h", 3306, "a@b", "p:/?%", "n-m");
    assert_string_equal(options.db_socket, "/a b");
    assert_int_equal(READ("--db-url=mysql://u:p@ss@h/n"), ERR_OK); /* the last @ ends the user */
    assert_db("h", 3306, "u", "p@ss", "n");
    assert_int_equal(READ("--db-url=mysql://u:p:q@h/n"), ERR_OK); /* the first : ends the name */
    assert_db("h", 3306, "u", "p:q", "n");
}

static void
an_ipv6_address_stands_in_brackets(void **state)
{
    (void)state;
    assert_int_equal(READ("--db-url=mysql://u@[::1]:3307/n"), ERR_OK);
    assert_db("::1", 3307, "u", "", "n");
    assert_int_equal(READ("--db-url=mysql://[fe80::1]/n"), ERR_OK);
    assert_db("fe80::1", 3306, "root", "", "n");
    assert_refused(READ("--db-url=mysql://[::1/n"), "DB_URL");
    assert_refused(READ("--db-url=mysql://[::1]x/n"), "DB_URL");
    assert_refused(READ("--db-url=mysql://::1/n"), "DB_URL");
}

static void
the_url_wins_over_the_parts_and_lacks_are_filled_from_them(void **state)
{
    (void)state;
    setenv("DB_HOST", "part", 1);
    setenv("DB_PORT", "3310", 1);
    setenv("DBUSER", "partuser", 1);
    setenv("DB_PASSWORD", "partpass", 1);
    setenv("DB_NAME", "partname", 1);
    assert_int_equal(read_none(), ERR_OK);
    assert_db("part", 3310, "partuser", "partpass", "partname");
    setenv("DB_URL", "mysql://u@h", 1);
    assert_int_equal(read_none(), ERR_OK);
    assert_db("h", 3310, "u", "partpass", "partname");
    setenv("DB_PASS", "first", 1);
    assert_int_equal(read_none(), ERR_OK);
    assert_db("h", 3310, "u", "first", "partname");
}

static void
a_url_that_is_none_is_refused_without_showing_it(void **state)
{
    static const char *const BAD[] = {
        "postgres://u:hunter2@h/n",
        "mysql:/u:hunter2@h/n",
        "h",
        "mysql://u:hunter2@h:0/n",
        "mysql://u:hunter2@h:65536/n",
        "mysql://u:hunter2@h:x/n",
        "mysql://u:hunter2@h:/n",
        "mysql://u:hunter2%@h/n",
        "mysql://u:hunter2%4@h/n",
        "mysql://u:hunter2%zz@h/n",
        "mysql://u:hunter2%00x@h/n",
        "mysql://u:hunter2@h/n?tls=maybe",
        "mysql://u:hunter2@h/n?tls",
        "mysql://u:hunter2@h/n?sslmode=require",
        "mysql://u:hunter2@h/n?tls=required&&",
        "mysql://u:hunter2@h/n?",
        "mysql://u:hunter2@h/n?ca=/etc/ca.pem", /* would look checked and be plain */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        setenv("DB_URL", BAD[i], 1);
        if (read_none() != ERR_INVALID) {
            fail_msg("accepted %s", BAD[i]);
        }
        assert_problem("DB_URL");
        assert_null(strstr(problem.data, "hunter2"));
    }
}

static void
write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void
secrets_given_as_flags_are_overwritten_where_others_can_list_them(void **state)
{
    char url[] = "--db-url=mysql://app:geheim@db/name";
    char name[] = "--db-pass";
    char password[] = "geheim";
    char host[] = "--db-host=db";
    char *argv[] = {url, name, password, host};

    (void)state;
    assert_int_equal(options_read(&options, 4, argv, &problem), ERR_OK);
    assert_string_equal(options.db_password, "geheim");
    assert_string_equal(url, "--db-url=**************************");
    assert_string_equal(password, "******");
    assert_string_equal(host, "--db-host=db");
}

static void
a_misspelt_flag_is_named_without_its_value(void **state)
{
    (void)state;
    assert_int_equal(READ("--db-pasword=geheim"), ERR_INVALID);
    assert_non_null(strstr(problem.data, "'--db-pasword'"));
    assert_null(strstr(problem.data, "geheim"));
}

static void
the_password_file_holds_one_line_and_wins_over_the_variable(void **state)
{
    char path[] = "/tmp/test_options.XXXXXX";
    char line[2048];
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    setenv("DB_HOST", "h", 1);
    setenv("DB_PASS", "variable", 1);
    setenv("DB_PASSWORD_FILE", path, 1);
    write_file(path, "from file\r\nsecond line\n");
    assert_int_equal(read_none(), ERR_OK);
    assert_string_equal(options.db_password, "from file");
    write_file(path, "no end of line");
    assert_int_equal(read_none(), ERR_OK);
    assert_string_equal(options.db_password, "no end of line");
    write_file(path, "\n"); /* an account without a password */
    assert_int_equal(read_none(), ERR_OK);
    assert_string_equal(options.db_password, "");
    write_file(path, "");
    assert_refused(read_none(), "DB_PASSWORD_FILE");
    memset(line, 'p', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\0';
    write_file(path, line);
    assert_refused(read_none(), "DB_PASSWORD_FILE");
    assert_int_equal(unlink(path), 0);
    assert_refused(read_none(), "DB_PASSWORD_FILE");
    setenv("DB_PASSWORD_FILE", "/tmp", 1);
    assert_refused(read_none(), "DB_PASSWORD_FILE");
}

static void
the_database_config_is_what_the_settings_say(void **state)
{
    struct mysql_config config;

    (void)state;
    assert_int_equal(
        READ("--db-url=mysql://u:p@h:3307/n?tls=required&ca=/dev/null", "--db-timeout-ms=2500"),
        ERR_OK);
    config = options_mysql(&options);
    assert_string_equal(config.host, "h");
    assert_null(config.socket);
    assert_string_equal(config.user, "u");
    assert_string_equal(config.password, "p");
    assert_string_equal(config.database, "n");
    assert_int_equal(config.port, 3307);
    assert_int_equal(config.timeout_ms, 2500);
    assert_int_equal(config.tls, MYSQL_TLS_REQUIRED);
    assert_string_equal(config.tls_ca, "/dev/null");
    assert_int_equal(READ("--db-url=mysql://h/n?socket=/s"), ERR_OK);
    config = options_mysql(&options);
    assert_null(config.host); /* a socket wins */
    assert_string_equal(config.socket, "/s");
    assert_int_equal(config.tls, MYSQL_TLS_OFF);
}

/* ---- showing ---- */

static char *
printed(void (*print)(FILE *out))
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    print(out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void
print_options(FILE *out)
{
    options_print(&options, out);
}

static void
print_help(FILE *out)
{
    options_help(out, NULL);
}

static void
print_some_help(FILE *out)
{
    options_help(out, "WAL_DIR DB_");
}

static void
the_effective_values_are_shown_and_secrets_are_not(void **state)
{
    char *text;

    (void)state;
    assert_int_equal(READ("--db-url=mysql://u:hunter2@h/n", "--db-pass=hunter3", "--http-port=81",
                          "--ready-requires-db=yes", "--slo-window=2h", "--wal-max-bytes=2MiB",
                          "--log-level=error"),
                     ERR_OK);
    text = printed(print_options);
    assert_null(strstr(text, "hunter"));
    assert_non_null(strstr(text, "DB_URL=(set)\n"));
    assert_non_null(strstr(text, "DB_PASS=(set)\n"));
    assert_non_null(strstr(text, "DB_HOST=h\n"));
    assert_non_null(strstr(text, "HTTP_PORT=81\n"));
    assert_non_null(strstr(text, "READY_REQUIRES_DB=true\n"));
    assert_non_null(strstr(text, "SLO_WINDOW=2h\n"));
    assert_non_null(strstr(text, "SLO_LATENCY_TARGET=0.99\n"));
    assert_non_null(strstr(text, "SLO_LATENCY_MS=500\n"));
    assert_non_null(strstr(text, "WAL_MAX_BYTES=2097152\n"));
    assert_non_null(strstr(text, "LOG_LEVEL=ERROR\n"));
    assert_non_null(strstr(text, "LOG_FORMAT=json\n"));
    free(text);
    assert_int_equal(read_none(), ERR_OK);
    text = printed(print_options);
    assert_non_null(strstr(text, "DB_URL=\n"));
    assert_non_null(strstr(text, "DB_PASS=\n"));
    free(text);
}

static void
help_tells_of_all_settings_or_of_those_asked_for(void **state)
{
    char *text = printed(print_help);

    (void)state;
    assert_non_null(strstr(text, "  HTTP_PORT  "));
    assert_non_null(strstr(text, "(also PORT SERVICE_API_PORT)"));
    assert_non_null(strstr(text, "[8080]"));
    assert_non_null(strstr(text, "  LOG_FORMAT  "));
    free(text);
    text = printed(print_some_help);
    assert_non_null(strstr(text, "  WAL_DIR  "));
    assert_non_null(strstr(text, "  DB_URL  "));
    assert_null(strstr(text, "  WAL_MAX_BYTES  "));
    assert_null(strstr(text, "  HTTP_PORT  "));
    free(text);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_defaults_are_valid_and_name_no_database),
        TEST(a_flag_wins_over_the_variable_over_the_alias_over_the_default),
        TEST(an_empty_variable_counts_as_not_set),
        TEST(an_empty_flag_takes_a_text_away_but_not_one_that_is_needed),
        TEST(flags_are_read_in_both_forms_and_unknown_ones_refused),
        TEST(each_bad_value_is_refused_in_the_words_of_its_variable),
        TEST(a_range_is_named_in_the_units_of_its_setting),
        TEST(the_ends_of_each_range_are_within_it),
        TEST(sizes_durations_numbers_and_words_have_their_forms),
        TEST(an_event_may_not_be_larger_than_a_body),
        TEST(a_bad_value_under_an_alias_names_the_alias),
        TEST(https_needs_certificate_and_key),
        TEST(a_rate_is_off_or_within_its_limits),
        TEST(keys_become_tenants_and_are_then_forgotten),
        TEST(keys_that_are_none_are_told_without_the_key),
        TEST(a_url_gives_every_part_or_leaves_the_default),
        TEST(a_url_is_percent_decoded_part_by_part),
        TEST(an_ipv6_address_stands_in_brackets),
        TEST(the_url_wins_over_the_parts_and_lacks_are_filled_from_them),
        TEST(a_url_that_is_none_is_refused_without_showing_it),
        TEST(secrets_given_as_flags_are_overwritten_where_others_can_list_them),
        TEST(a_misspelt_flag_is_named_without_its_value),
        TEST(the_password_file_holds_one_line_and_wins_over_the_variable),
        TEST(the_database_config_is_what_the_settings_say),
        TEST(the_effective_values_are_shown_and_secrets_are_not),
        TEST(help_tells_of_all_settings_or_of_those_asked_for),
    };
#undef TEST

    (void)alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
