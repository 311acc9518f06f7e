/*
 * test_tls.c - the module against OpenSSL's own client in memory: every byte between the two goes
 * through the test's hands. Certificates are made by the openssl command.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "http/tls.h"

enum {
    PATH_SIZE = 512,
    BIG = 300 * 1000, /* many records */
};

static char dir[PATH_SIZE];

static void run(const char *format, ...) PRINTF_LIKE(1, 2);

static void
run(const char *format, ...)
{
    char command[4 * PATH_SIZE];
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    assert_true(len > 0 && (size_t)len < sizeof(command));
    if (system(command) != 0) { /* NOLINT(cert-env33-c): the test's own words */
        fail_msg("failed: %s", command);
    }
}

static const char *
path_of(const char *name)
{
    static char paths[8][PATH_SIZE];
    static unsigned next;
    char *path = paths[next++ % 8];

    (void)snprintf(path, PATH_SIZE, "%.400s/%.80s", dir, name);
    return path;
}

/* A key and a certificate that signs itself: NAME.key, NAME.pem. */
static void
make_certificate(const char *name)
{
    run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 7 "
        "-subj /CN=%s -addext subjectAltName=DNS:localhost -keyout '%s/%s.key' -out '%s/%s.pem' "
        "2>/dev/null",
        name, dir, name, dir, name);
}

/* A certificate NAME of the authority CA. */
static void
make_signed(const char *name, const char *ca)
{
    run("cd '%s' && openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
        "-subj /CN=%s -keyout %s.key -out %s.csr 2>/dev/null && "
        "openssl x509 -req -in %s.csr -CA %s.pem -CAkey %s.key -days 7 -out %s.pem 2>/dev/null",
        dir, name, name, name, name, ca, ca, name);
}

static int
group_setup(void **state)
{
    const char *base = getenv("TMPDIR");

    (void)state;
    (void)snprintf(dir, sizeof(dir), "%.400s/test-tls-XXXXXX", base == NULL ? "/tmp" : base);
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    make_certificate("server");
    make_certificate("other");
    make_certificate("ca");
    make_signed("friend", "ca");
    make_signed("stranger", "other");
    return 0;
}

static int
group_teardown(void **state)
{
    (void)state;
    run("rm -rf '%s'", dir);
    return 0;
}

/* ---- the two ends ---- */

struct fixture {
    struct tls *tls;
    struct tls_session *session;
    SSL_CTX *client_context;
    SSL *client;
    BIO *to_client;   /* what the client reads */
    BIO *from_client; /* what it wrote */
    struct buffer sealed;
    struct buffer plain;  /* what the session has understood */
    struct buffer answer; /* what the client has understood */
    enum tls_result result;
};

static struct tls *
open_tls(const char *cert, const char *key, const char *ca)
{
    struct buffer problem = BUFFER_EMPTY;
    /* Paths are borrowed for the life of it; each test opens one. */
    static char paths[3][PATH_SIZE];
    struct tls_config config = {.cert_file = paths[0], .key_file = paths[1]};
    struct tls *tls = NULL;

    (void)snprintf(paths[0], PATH_SIZE, "%s", path_of(cert));
    (void)snprintf(paths[1], PATH_SIZE, "%s", path_of(key));
    if (ca != NULL) {
        (void)snprintf(paths[2], PATH_SIZE, "%s", path_of(ca));
        config.client_ca_file = paths[2];
    }
    assert_int_equal(tls_open(&tls, &config, &problem), ERR_OK);
    buffer_free(&problem);
    return tls;
}

static void
connect_client(struct fixture *f)
{
    f->session = tls_session_new(f->tls);
    assert_non_null(f->session);
    f->client = SSL_new(f->client_context);
    f->to_client = BIO_new(BIO_s_mem());
    f->from_client = BIO_new(BIO_s_mem());
    assert_non_null(f->client);
    BIO_set_mem_eof_return(f->to_client, -1);
    SSL_set_bio(f->client, f->to_client, f->from_client);
    SSL_set_connect_state(f->client);
    f->result = TLS_OPEN;
}

static void
start(struct fixture *f, const char *ca)
{
    memset(f, 0, sizeof(*f));
    f->tls = open_tls("server.pem", "server.key", ca);
    f->client_context = SSL_CTX_new(TLS_client_method());
    assert_non_null(f->client_context);
    assert_int_equal(SSL_CTX_load_verify_file(f->client_context, path_of("server.pem")), 1);
    SSL_CTX_set_verify(f->client_context, SSL_VERIFY_PEER, NULL);
}

static void
disconnect(struct fixture *f)
{
    if (f->client != NULL) { /* or OpenSSL would hold its tickets for bad */
        SSL_set_shutdown(f->client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    }
    SSL_free(f->client);
    tls_session_free(f->session);
    f->client = NULL;
    f->session = NULL;
    buffer_clear(&f->sealed, 0);
    buffer_clear(&f->plain, 0);
    buffer_clear(&f->answer, 0);
}

static void
finish(struct fixture *f)
{
    disconnect(f);
    tls_close(f->tls);
    SSL_CTX_free(f->client_context);
    buffer_free(&f->sealed);
    buffer_free(&f->plain);
    buffer_free(&f->answer);
    ERR_clear_error();
}

/* Gives the session BYTES in pieces of at most PIECE. */
static void
feed(struct fixture *f, struct span bytes, size_t piece)
{
    static char plain[1 << 20];

    while (bytes.len > 0 && f->result == TLS_OPEN) {
        size_t take = bytes.len < piece ? bytes.len : piece;
        size_t len = 0;

        assert_true(take + TLS_RECORD_BYTES_MAX <= sizeof(plain));
        f->result = tls_session_receive(f->session, (struct span){bytes.data, take}, plain, &len,
                                        &f->sealed);
        buffer_append(&f->plain, plain, len);
        bytes.data += take;
        bytes.len -= take;
    }
}

/* Carries what the two have to say over; true if there was anything. */
static bool
carry(struct fixture *f, size_t piece)
{
    char *data;
    long len = BIO_get_mem_data(f->from_client, &data);
    bool any = len > 0 || f->sealed.len > 0;

    if (len > 0) {
        struct buffer copy = BUFFER_EMPTY;

        buffer_append(&copy, data, (size_t)len);
        assert_int_equal(BIO_reset(f->from_client), 1);
        feed(f, buffer_span(&copy), piece);
        buffer_free(&copy);
    }
    if (f->sealed.len > 0) {
        assert_int_equal(BIO_write(f->to_client, f->sealed.data, (int)f->sealed.len),
                         (int)f->sealed.len);
        buffer_clear(&f->sealed, 0);
    }
    return any;
}

/* Lets the client read all there is. */
static void
client_read(struct fixture *f)
{
    static char bytes[65536];
    int n;

    while ((n = SSL_read(f->client, bytes, sizeof(bytes))) > 0) {
        buffer_append(&f->answer, bytes, (size_t)n);
    }
}

static void
talk(struct fixture *f, size_t piece)
{
    do {
        client_read(f);
    } while (carry(f, piece) && f->result == TLS_OPEN);
    client_read(f);
}

static void
send_answer(struct fixture *f, const char *bytes, size_t len)
{
    assert_true(tls_session_send(f->session, (struct span){bytes, len}, &f->sealed));
}

static void
exchange(struct fixture *f, size_t piece)
{
    assert_int_equal(SSL_write(f->client, "question", 8), 8);
    talk(f, piece);
    assert_int_equal(f->plain.len, 8);
    assert_memory_equal(f->plain.data, "question", 8);
    send_answer(f, "answer", 6);
    talk(f, piece);
    assert_int_equal(f->answer.len, 6);
    assert_memory_equal(f->answer.data, "answer", 6);
}

/* ---- tests ---- */

static void
both_versions_shake_hands_and_talk(void **state)
{
    static const int VERSIONS[] = {TLS1_2_VERSION, TLS1_3_VERSION};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(VERSIONS); i++) {
        struct fixture f;

        start(&f, NULL);
        assert_int_equal(SSL_CTX_set_max_proto_version(f.client_context, VERSIONS[i]), 1);
        connect_client(&f);
        assert_false(tls_session_is_established(f.session));
        talk(&f, SIZE_MAX);
        assert_true(tls_session_is_established(f.session));
        assert_false(tls_session_is_resumed(f.session));
        assert_int_equal(SSL_version(f.client), VERSIONS[i]);
        exchange(&f, SIZE_MAX);
        finish(&f);
    }
}

static void
a_byte_at_a_time_is_as_good(void **state)
{
    struct fixture f;

    (void)state;
    start(&f, NULL);
    connect_client(&f);
    talk(&f, 1);
    exchange(&f, 1);
    finish(&f);
}

static void
many_records_pass_in_both_directions(void **state)
{
    static char bytes[BIG];
    struct fixture f;

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (char)(i * 7 + i / 251);
    }
    start(&f, NULL);
    connect_client(&f);
    talk(&f, SIZE_MAX);
    assert_int_equal(SSL_write(f.client, bytes, BIG), BIG);
    talk(&f, 65536); /* as a socket is read: records end anywhere */
    assert_int_equal(f.plain.len, BIG);
    assert_memory_equal(f.plain.data, bytes, BIG);
    send_answer(&f, bytes, BIG);
    talk(&f, SIZE_MAX);
    assert_int_equal(f.answer.len, BIG);
    assert_memory_equal(f.answer.data, bytes, BIG);
    finish(&f);
}

static void
old_versions_and_weak_ciphers_are_refused(void **state)
{
    struct fixture f;

    (void)state;
    start(&f, NULL);
    SSL_CTX_set_security_level(f.client_context, 0);
    assert_int_equal(SSL_CTX_set_min_proto_version(f.client_context, TLS1_VERSION), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(f.client_context, TLS1_1_VERSION), 1);
    connect_client(&f);
    talk(&f, SIZE_MAX);
    assert_int_equal(f.result, TLS_FAULT);
    assert_int_equal(tls_session_fault(f.session), TLS_FAULT_PROTOCOL);
    disconnect(&f);

    assert_int_equal(SSL_CTX_set_max_proto_version(f.client_context, TLS1_2_VERSION), 1);
    assert_int_equal(SSL_CTX_set_cipher_list(f.client_context, "ECDHE-ECDSA-AES128-SHA"), 1);
    connect_client(&f);
    talk(&f, SIZE_MAX);
    assert_int_equal(f.result, TLS_FAULT);
    assert_false(tls_session_is_established(f.session));
    finish(&f);
}

static void
garbage_is_a_fault_and_is_answered_by_an_alert(void **state)
{
    static const char GARBAGE[] = "\x16\x03\x01\x00\x05 this is no hello";
    struct fixture f;

    (void)state;
    start(&f, NULL);
    connect_client(&f);
    feed(&f, SPAN_LITERAL(GARBAGE), SIZE_MAX);
    assert_int_equal(f.result, TLS_FAULT);
    assert_int_equal(tls_session_fault(f.session), TLS_FAULT_PROTOCOL);
    assert_true(f.sealed.len > 0);
    assert_int_equal(f.sealed.data[0], 21); /* an alert */
    buffer_clear(&f.sealed, 0);
    tls_session_end(f.session, &f.sealed);
    assert_int_equal(f.sealed.len, 0); /* nothing can be said any more */
    finish(&f);
}

static void
a_changed_byte_is_a_fault(void **state)
{
    struct fixture f;
    char *data;
    long len;

    (void)state;
    start(&f, NULL);
    connect_client(&f);
    talk(&f, SIZE_MAX);
    assert_int_equal(SSL_write(f.client, "question", 8), 8);
    len = BIO_get_mem_data(f.from_client, &data);
    assert_true(len > 10);
    data[len - 1] = (char)(data[len - 1] ^ 1);
    feed(&f, (struct span){data, (size_t)len}, SIZE_MAX);
    assert_int_equal(f.result, TLS_FAULT);
    assert_int_equal(f.plain.len, 0);
    finish(&f);
}

static void
the_end_is_told_in_both_directions(void **state)
{
    struct fixture f;

    (void)state;
    start(&f, NULL);
    connect_client(&f);
    talk(&f, SIZE_MAX);
    assert_int_equal(SSL_write(f.client, "last", 4), 4);
    assert_int_equal(SSL_shutdown(f.client), 0);
    (void)carry(&f, SIZE_MAX);
    assert_int_equal(f.result, TLS_ENDED);
    assert_int_equal(f.plain.len, 4);
    send_answer(&f, "answer", 6); /* what is owed still goes out */
    tls_session_end(f.session, &f.sealed);
    (void)carry(&f, SIZE_MAX);
    client_read(&f);
    assert_int_equal(f.answer.len, 6);
    assert_int_equal(SSL_get_shutdown(f.client) & SSL_RECEIVED_SHUTDOWN, SSL_RECEIVED_SHUTDOWN);
    finish(&f);
}

/* Whatever else belongs to a handshake and comes later must not stop what is under way. */
static void
keys_may_be_changed_at_any_time(void **state)
{
    struct fixture f;
    char *data;
    long len;

    (void)state;
    start(&f, NULL);
    connect_client(&f);
    talk(&f, SIZE_MAX);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(SSL_key_update(f.client, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(f.client), 1);
    }
    exchange(&f, SIZE_MAX);

    /* Half of one: the session stays what it was. */
    assert_int_equal(SSL_key_update(f.client, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
    assert_int_equal(SSL_do_handshake(f.client), 1);
    len = BIO_get_mem_data(f.from_client, &data);
    assert_true(len > 1);
    feed(&f, (struct span){data, (size_t)len - 1}, SIZE_MAX);
    assert_int_equal(f.result, TLS_OPEN);
    assert_true(tls_session_is_established(f.session));
    send_answer(&f, "more", 4);
    feed(&f, (struct span){data + len - 1, 1}, SIZE_MAX);
    assert_int_equal(f.result, TLS_OPEN);
    finish(&f);
}

static void
a_second_handshake_is_refused(void **state)
{
    struct fixture f;

    (void)state;
    start(&f, NULL);
    assert_int_equal(SSL_CTX_set_max_proto_version(f.client_context, TLS1_2_VERSION), 1);
    connect_client(&f);
    talk(&f, SIZE_MAX);
    assert_int_equal(SSL_renegotiate(f.client), 1);
    (void)SSL_do_handshake(f.client);
    (void)carry(&f, SIZE_MAX);
    assert_int_not_equal(SSL_do_handshake(f.client), 1);
    assert_int_equal(ERR_GET_REASON(ERR_peek_last_error()), SSL_R_NO_RENEGOTIATION);
    finish(&f);
}

static void
the_protocol_is_http_1(void **state)
{
    struct fixture f;
    const unsigned char *chosen;
    unsigned len;

    (void)state;
    start(&f, NULL);
    assert_int_equal(
        SSL_CTX_set_alpn_protos(f.client_context, (const unsigned char *)"\x02h2\x08http/1.1", 12),
        0);
    connect_client(&f);
    talk(&f, SIZE_MAX);
    SSL_get0_alpn_selected(f.client, &chosen, &len);
    assert_int_equal(len, 8);
    assert_memory_equal(chosen, "http/1.1", 8);
    exchange(&f, SIZE_MAX);
    disconnect(&f);

    assert_int_equal(SSL_CTX_set_alpn_protos(f.client_context, (const unsigned char *)"\x02h2", 3),
                     0);
    connect_client(&f);
    talk(&f, SIZE_MAX);
    assert_int_equal(f.result, TLS_FAULT);
    finish(&f);
}

static void
use_client_certificate(struct fixture *f, const char *name)
{
    char file[64];

    (void)snprintf(file, sizeof(file), "%s.pem", name);
    assert_int_equal(
        SSL_CTX_use_certificate_file(f->client_context, path_of(file), SSL_FILETYPE_PEM), 1);
    (void)snprintf(file, sizeof(file), "%s.key", name);
    assert_int_equal(
        SSL_CTX_use_PrivateKey_file(f->client_context, path_of(file), SSL_FILETYPE_PEM), 1);
}

static void
clients_need_a_certificate_of_the_authority(void **state)
{
    struct fixture f;

    (void)state;
    start(&f, "ca.pem");
    connect_client(&f);
    talk(&f, SIZE_MAX);
    assert_int_equal(f.result, TLS_FAULT);
    assert_int_equal(tls_session_fault(f.session), TLS_FAULT_CLIENT_CERTIFICATE);
    assert_int_equal(f.plain.len, 0);
    disconnect(&f);

    use_client_certificate(&f, "stranger");
    connect_client(&f);
    talk(&f, SIZE_MAX);
    assert_int_equal(f.result, TLS_FAULT);
    assert_int_equal(tls_session_fault(f.session), TLS_FAULT_CLIENT_CERTIFICATE);
    disconnect(&f);

    use_client_certificate(&f, "friend");
    connect_client(&f);
    talk(&f, SIZE_MAX);
    assert_true(tls_session_is_established(f.session));
    exchange(&f, SIZE_MAX);
    finish(&f);
}

static void
a_client_that_does_not_trust_us_gives_up(void **state)
{
    struct fixture f;

    (void)state;
    start(&f, NULL);
    SSL_CTX_free(f.client_context);
    f.client_context = SSL_CTX_new(TLS_client_method());
    assert_non_null(f.client_context);
    SSL_CTX_set_verify(f.client_context, SSL_VERIFY_PEER, NULL);
    connect_client(&f);
    talk(&f, SIZE_MAX);
    assert_int_equal(f.result, TLS_FAULT);
    assert_int_equal(tls_session_fault(f.session), TLS_FAULT_ALERT);
    finish(&f);
}

static SSL_SESSION *ticket;

static int
keep_ticket(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(ticket);
    ticket = session;
    return 1;
}

static void
connect_with_ticket(struct fixture *f)
{
    SSL_SESSION *taken = ticket;

    ticket = NULL;
    connect_client(f);
    assert_int_equal(SSL_set_session(f->client, taken), 1);
    SSL_SESSION_free(taken);
    talk(f, SIZE_MAX);
    assert_true(tls_session_is_established(f->session));
    exchange(f, SIZE_MAX);
}

static void
a_ticket_resumes_until_the_files_are_read_again(void **state)
{
    static const int VERSIONS[] = {TLS1_2_VERSION, TLS1_3_VERSION};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(VERSIONS); i++) {
        struct buffer problem = BUFFER_EMPTY;
        struct fixture f;

        start(&f, "ca.pem");
        use_client_certificate(&f, "friend");
        assert_int_equal(SSL_CTX_set_max_proto_version(f.client_context, VERSIONS[i]), 1);
        SSL_CTX_set_session_cache_mode(f.client_context,
                                       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(f.client_context, keep_ticket);
        connect_client(&f);
        talk(&f, SIZE_MAX);
        exchange(&f, SIZE_MAX);
        assert_non_null(ticket);
        disconnect(&f);
        connect_with_ticket(&f);
        assert_true(tls_session_is_resumed(f.session));
        disconnect(&f);
        if (ticket == NULL) { /* TLS 1.2 hands out a new one only now and then */
            connect_client(&f);
            talk(&f, SIZE_MAX);
            disconnect(&f);
        }
        assert_non_null(ticket);
        assert_int_equal(tls_reload(f.tls, &problem), ERR_OK);
        connect_with_ticket(&f);
        assert_false(tls_session_is_resumed(f.session));
        SSL_SESSION_free(ticket);
        ticket = NULL;
        finish(&f);
        buffer_free(&problem);
    }
}

static void
replace(const char *name, const char *by)
{
    run("cp '%s/%s' '%s/%s'", dir, by, dir, name);
}

static void
a_reload_is_for_new_sessions_alone(void **state)
{
    struct buffer problem = BUFFER_EMPTY;
    struct tls_session *old_session;
    struct fixture f;
    SSL *old_client;
    int64_t expires_s;

    (void)state;
    replace("current.pem", "server.pem");
    replace("current.key", "server.key");
    start(&f, NULL);
    tls_close(f.tls);
    f.tls = open_tls("current.pem", "current.key", NULL);
    expires_s = tls_expires_s(f.tls);
    assert_true(expires_s > time(NULL) + 6 * 86400 && expires_s < time(NULL) + 8 * 86400);
    connect_client(&f);
    talk(&f, SIZE_MAX);
    old_session = f.session;
    old_client = f.client;

    replace("current.pem", "other.pem"); /* and not its key */
    assert_int_equal(tls_reload(f.tls, &problem), ERR_INVALID);
    buffer_append_char(&problem, '\0');
    assert_non_null(strstr(problem.data, "TLS_KEY_FILE is not the key of TLS_CERT_FILE's"));
    connect_client(&f);
    talk(&f, SIZE_MAX);
    assert_true(tls_session_is_established(f.session));
    disconnect(&f);

    replace("current.key", "other.key");
    assert_int_equal(tls_reload(f.tls, &problem), ERR_OK);
    connect_client(&f);
    talk(&f, SIZE_MAX);
    assert_int_equal(f.result, TLS_FAULT); /* the client trusts the old one only */
    disconnect(&f);
    assert_int_equal(SSL_CTX_load_verify_file(f.client_context, path_of("other.pem")), 1);
    connect_client(&f);
    talk(&f, SIZE_MAX);
    exchange(&f, SIZE_MAX);
    disconnect(&f);

    f.session = old_session;
    f.client = old_client;
    f.to_client = SSL_get_rbio(old_client);
    f.from_client = SSL_get_wbio(old_client);
    f.result = TLS_OPEN;
    exchange(&f, SIZE_MAX);
    finish(&f);
    buffer_free(&problem);
}

static void
files_that_do_not_do_are_named(void **state)
{
    static const struct {
        const char *cert;
        const char *key;
        const char *ca;
        const char *says;
    } CASES[] = {
        {"none", "server.key", NULL, "TLS_CERT_FILE names a file that cannot be read"},
        {"server.pem", "none", NULL, "TLS_KEY_FILE names a file that cannot be read"},
        {"server.pem", "server.key", "none", "TLS_CLIENT_CA_FILE names a file that cannot be read"},
        {"empty", "server.key", NULL, "TLS_CERT_FILE holds no usable certificate"},
        {"server.key", "server.key", NULL, "TLS_CERT_FILE holds no usable certificate"},
        {"server.pem", "server.pem", NULL, "TLS_KEY_FILE holds no usable key"},
        {"server.pem", "empty", NULL, "TLS_KEY_FILE holds no usable key"},
        {"server.pem", "locked.key", NULL, "TLS_KEY_FILE holds no usable key"},
        {"server.pem", "other.key", NULL, "TLS_KEY_FILE is not the key"},
        {"server.pem", "rsa.key", NULL, "TLS_KEY_FILE is not the key"},
        {"server.pem", "server.key", "empty", "TLS_CLIENT_CA_FILE holds no usable certificate"},
        {"server.pem", "server.key", "server.key", "TLS_CLIENT_CA_FILE holds no usable"},
        {".", "server.key", NULL, "TLS_CERT_FILE holds no usable certificate"},
        {"cut.pem", "server.key", NULL, "TLS_CERT_FILE holds no usable certificate"},
    };

    (void)state;
    run("cd '%s' && : >empty && openssl genrsa -out rsa.key 2048 2>/dev/null && "
        "head -c 300 server.pem >cut.pem && "
        "openssl ec -in server.key -aes128 -passout pass:secret -out locked.key 2>/dev/null",
        dir);
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct buffer problem = BUFFER_EMPTY;
        struct tls *tls = NULL;
        const struct tls_config config = {
            .cert_file = path_of(CASES[i].cert),
            .key_file = path_of(CASES[i].key),
            .client_ca_file = CASES[i].ca == NULL ? NULL : path_of(CASES[i].ca),
        };

        assert_int_equal(tls_open(&tls, &config, &problem), ERR_INVALID);
        assert_null(tls);
        buffer_append_char(&problem, '\0');
        if (strstr(problem.data, CASES[i].says) != problem.data) {
            fail_msg("'%s' does not begin with '%s'", problem.data, CASES[i].says);
        }
        buffer_free(&problem);
        assert_int_equal(ERR_peek_error(), 0);
    }
}

struct reloader {
    struct tls *tls;
    int count;
};

static void *
reload_often(void *arg)
{
    struct reloader *reloader = arg;
    struct buffer problem = BUFFER_EMPTY;

    for (int i = 0; i < reloader->count; i++) {
        if (tls_reload(reloader->tls, &problem) != ERR_OK) {
            reloader->count = -1;
        }
    }
    buffer_free(&problem);
    return NULL;
}

static void
sessions_begin_and_end_while_another_thread_reloads(void **state)
{
    struct reloader reloader = {.count = 50};
    struct fixture f;
    pthread_t thread;

    (void)state;
    start(&f, NULL);
    reloader.tls = f.tls;
    assert_int_equal(pthread_create(&thread, NULL, reload_often, &reloader), 0);
    for (int i = 0; i < 30; i++) {
        connect_client(&f);
        talk(&f, SIZE_MAX);
        exchange(&f, SIZE_MAX);
        disconnect(&f);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(reloader.count, 50);
    finish(&f);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test(name)
    const struct CMUnitTest tests[] = {
        TEST(both_versions_shake_hands_and_talk),
        TEST(a_byte_at_a_time_is_as_good),
        TEST(many_records_pass_in_both_directions),
        TEST(old_versions_and_weak_ciphers_are_refused),
        TEST(garbage_is_a_fault_and_is_answered_by_an_alert),
        TEST(a_changed_byte_is_a_fault),
        TEST(the_end_is_told_in_both_directions),
        TEST(keys_may_be_changed_at_any_time),
        TEST(a_second_handshake_is_refused),
        TEST(the_protocol_is_http_1),
        TEST(clients_need_a_certificate_of_the_authority),
        TEST(a_client_that_does_not_trust_us_gives_up),
        TEST(a_ticket_resumes_until_the_files_are_read_again),
        TEST(a_reload_is_for_new_sessions_alone),
        TEST(files_that_do_not_do_are_named),
        TEST(sessions_begin_and_end_while_another_thread_reloads),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
