/*
 * A secure connection where Python's TLS cannot go: what TLS has to say by itself while an answer
 * is still with the kernel must leave behind that answer, whole and in its turn.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/slo/slices.h"
#include "http/server.h"
#include "http/tls.h"
#include "tests/fakes/fake_journal.h"

enum {
    PATH_SIZE = 512,
    PATIENCE_S = 30,
    ROUNDS = 60, /* of pages that nobody reads: more than all buffers of the kernel take */
    PAGES = 3,
    KEY_UPDATES = 40,
};

static char dir[PATH_SIZE];
static char cert[PATH_SIZE + 16];
static char key[PATH_SIZE + 16];

static int
group_setup(void **state)
{
    const char *base = getenv("TMPDIR");
    char command[4 * PATH_SIZE];

    (void)state;
    (void)snprintf(dir, sizeof(dir), "%.400s/test-http-tls-XXXXXX", base == NULL ? "/tmp" : base);
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    (void)snprintf(cert, sizeof(cert), "%s/cert.pem", dir);
    (void)snprintf(key, sizeof(key), "%s/key.pem", dir);
    (void)snprintf(command, sizeof(command),
                   "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
                   "-days 7 -subj /CN=localhost -keyout '%s' -out '%s' 2>/dev/null",
                   key, cert);
    return system(command); /* NOLINT(cert-env33-c): the test's own words */
}

static int
group_teardown(void **state)
{
    (void)state;
    (void)unlink(cert);
    (void)unlink(key);
    return rmdir(dir);
}

struct fixture {
    struct fake_journal *journal;
    struct slices *slices;
    struct slo_config slo;
    struct tls *tls;
    struct server *server;
    SSL_CTX *context;
    SSL *ssl;
    int fd;
};

static void
start(struct fixture *f)
{
    const struct fake_journal_config journal = {.partitions = 1, .id_window = 1000};
    const struct slices_config slices = {.series_max = 10, .retain_minutes = 60 * 24 * 31};
    const struct tls_config tls = {.cert_file = cert, .key_file = key};
    const struct server_config config = {
        .host = "127.0.0.1",
        .threads = 1,
        .body_bytes_max = 16 * 1024,
        .event_bytes_max = 2048,
        .bulk_events_max = 100,
        .buffered_bytes_max = 1 << 20,
        .connections_max = 64,
        .read_timeout_ms = 60000,
        .idle_timeout_ms = 60000,
        .future_skew_max_us = 1000000,
    };
    struct buffer problem = BUFFER_EMPTY;
    struct server_deps deps;

    memset(f, 0, sizeof(*f));
    log_setup(LOG_ERROR, LOG_JSON, 2);
    f->journal = fake_journal_new(&journal);
    fake_journal_start(f->journal);
    assert_int_equal(slices_new(&f->slices, &slices), ERR_OK);
    assert_int_equal(tls_open(&f->tls, &tls, &problem), ERR_OK);
    deps = (struct server_deps){
        .journal = fake_journal_port(f->journal),
        .slices = f->slices,
        .slo = &f->slo,
        .clock = clock_system(),
        .tls = f->tls,
    };
    assert_int_equal(server_open(&f->server, &config, &deps), ERR_OK);
    assert_int_equal(server_start(f->server), ERR_OK);
}

static void
finish(struct fixture *f)
{
    SSL_free(f->ssl);
    SSL_CTX_free(f->context);
    (void)close(f->fd);
    server_stop(f->server, 0, 10000);
    fake_journal_free(f->journal);
    server_close(f->server);
    tls_close(f->tls);
    slices_free(f->slices);
}

static void
connect_client(struct fixture *f)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(server_port(f->server))};
    struct timeval patience = {PATIENCE_S, 0};
    int small = 4096;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    f->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(f->fd >= 0);
    assert_int_equal(setsockopt(f->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
    assert_int_equal(setsockopt(f->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    assert_int_equal(setsockopt(f->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)), 0);
    assert_int_equal(connect(f->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    f->context = SSL_CTX_new(TLS_client_method());
    assert_non_null(f->context);
    assert_int_equal(SSL_CTX_set_min_proto_version(f->context, TLS1_3_VERSION), 1);
    f->ssl = SSL_new(f->context);
    assert_non_null(f->ssl);
    assert_int_equal(SSL_set_fd(f->ssl, f->fd), 1);
    assert_int_equal(SSL_connect(f->ssl), 1);
}

static void
send_text(struct fixture *f, const char *text)
{
    assert_int_equal(SSL_write(f->ssl, text, (int)strlen(text)), (int)strlen(text));
}

/* Gives the server time to come to where it should be; nothing fails if it does not. */
static void
pause_ms(long ms)
{
    struct timespec left = {0, ms * 1000000};

    (void)nanosleep(&left, NULL);
}

/* A POST whose body's end stays away, so that the server goes on reading while it cannot write. */
static void
ask_and_change_keys(struct fixture *f, int round)
{
    char half[256];

    for (int i = 0; i < PAGES; i++) {
        send_text(f, "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    (void)snprintf(half, sizeof(half),
                   "POST /events HTTP/1.1\r\nHost: x\r\nIdempotency-Key: r%03d\r\n"
                   "Content-Length: 12\r\n\r\n{\"type\"",
                   round);
    send_text(f, half);
    pause_ms(5);
    for (int i = 0; i < KEY_UPDATES; i++) {
        assert_int_equal(SSL_key_update(f->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(f->ssl), 1);
    }
    pause_ms(2);
    send_text(f, ":\"x\"}");
}

/* Reads to the end of the stream. */
static void
read_all(struct fixture *f, struct buffer *answers)
{
    static char bytes[65536];
    int n;

    while ((n = SSL_read(f->ssl, bytes, sizeof(bytes))) > 0) {
        buffer_append(answers, bytes, (size_t)n);
    }
    assert_int_equal(SSL_get_error(f->ssl, n), SSL_ERROR_ZERO_RETURN);
    assert_false(answers->failed);
}

/* One answer at AT: its status; moves AT behind it. */
static int
take_answer(const struct buffer *answers, size_t *at)
{
    const char *from = answers->data + *at;
    const char *body = memmem(from, answers->len - *at, "\r\n\r\n", 4);
    const char *length = memmem(from, answers->len - *at, "\r\nContent-Length: ", 18);
    size_t len;

    assert_non_null(body);
    assert_true(length != NULL && length < body);
    len = strtoul(length + 18, NULL, 10);
    *at += (size_t)(body - from) + 4 + len;
    assert_true(*at <= answers->len);
    assert_memory_equal(from, "HTTP/1.1 ", 9);
    return (int)strtol(from + 9, NULL, 10);
}

static void
what_tls_says_by_itself_leaves_behind_what_is_on_its_way(void **state)
{
    struct buffer answers = BUFFER_EMPTY;
    struct fixture f;
    size_t at = 0;

    (void)state;
    start(&f);
    connect_client(&f);
    for (int round = 0; round < ROUNDS; round++) {
        ask_and_change_keys(&f, round);
    }
    send_text(&f, "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    read_all(&f, &answers);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < PAGES; i++) {
            assert_int_equal(take_answer(&answers, &at), 200);
        }
        assert_int_equal(take_answer(&answers, &at), 202);
    }
    assert_int_equal(take_answer(&answers, &at), 200);
    assert_int_equal(at, answers.len);
    buffer_free(&answers);
    finish(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_tls_says_by_itself_leaves_behind_what_is_on_its_way),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
