/*
 * OpenSSL 3 behind tls.h. A BIO of our own reads from the bytes just received, in place, and writes
 * to the caller's buffer, so a session at rest keeps no buffer of either direction.
 *
 * Who uses a context is counted here and not by OpenSSL's own counter alone, so that the last user,
 * whichever thread that is, sees all the others did with it.
 */
#include "http/tls.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

enum {
    TICKET_LIFE_S = 3600,
    CLIENT_CHAIN_BYTES_MAX = 32 * 1024, /* of certificates taken from a client nobody knows yet */
};

/* What one reading of the files gave. */
struct context {
    SSL_CTX *ssl;
    int64_t expires_s;
    _Atomic uint32_t users;
};

struct tls {
    struct tls_config config;
    BIO_METHOD *method;
    pthread_mutex_t mutex; /* guards CURRENT */
    struct context *current;
};

struct tls_session {
    struct context *context;
    SSL *ssl;
    struct span in;     /* received and not read yet; only during a call, as is OUT */
    struct buffer *out; /* where to write */
    /*
     * OpenSSL's own word for it is taken back while a later message of the handshake's kind is half
     * here, which is the client's choice.
     */
    bool established;
    bool failed;
    enum tls_fault fault; /* valid with FAILED */
};

/* ---- the BIO ---- */

static int
read_received(BIO *bio, char *out, int size)
{
    struct tls_session *session = BIO_get_data(bio);
    size_t len = session->in.len;

    BIO_clear_retry_flags(bio);
    if (size <= 0 || len == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    if (len > (size_t)size) {
        len = (size_t)size;
    }
    memcpy(out, session->in.data, len);
    session->in.data += len;
    session->in.len -= len;
    return (int)len;
}

static int
write_to_buffer(BIO *bio, const char *bytes, int len)
{
    struct tls_session *session = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    ASSERT(session->out != NULL);
    if (len <= 0) {
        return 0;
    }
    buffer_append(session->out, bytes, (size_t)len);
    return session->out->failed ? -1 : len;
}

static long
control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH; /* nothing is held back; whatever else is asked: no */
}

static BIO_METHOD *
new_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "sluice");

    if (method != NULL && (BIO_meth_set_read(method, read_received) != 1 ||
                           BIO_meth_set_write(method, write_to_buffer) != 1 ||
                           BIO_meth_set_ctrl(method, control) != 1)) {
        BIO_meth_free(method);
        return NULL;
    }
    return method;
}

/* ---- reading the files ---- */

/* A key behind a pass phrase must not make a server ask its terminal. */
static int
no_pass_phrase(char *out, int size, int writing, void *arg)
{
    (void)writing;
    (void)arg;
    if (size > 0) {
        out[0] = '\0';
    }
    return -1;
}

/* A client that speaks nothing we know is told so: it may be talking to the wrong server. */
static int
select_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                const unsigned char *in, unsigned in_len, void *arg)
{
    static const unsigned char OURS[] = "\x08http/1.1\x08http/1.0";
    unsigned char *chosen = NULL;

    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto(&chosen, out_len, OURS, sizeof(OURS) - 1, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static enum err
refuse_file(const char *name, const char *what, const char *path, struct buffer *problem)
{
    const unsigned long error = ERR_peek_last_error();
    const char *reason = error == 0 ? NULL : ERR_reason_error_string(error);

    buffer_printf(problem, "%s holds no usable %s in PEM form: %s", name, what, path);
    if (reason != NULL) {
        buffer_printf(problem, " (%s)", reason);
    }
    ERR_clear_error();
    return ERR_INVALID;
}

static enum err
check_readable(const char *name, const char *path, struct buffer *problem)
{
    FILE *file = fopen(path, "re");

    if (file == NULL) {
        buffer_printf(problem, "%s names a file that cannot be read: %s (%s)", name, path,
                      strerror(errno));
        return ERR_INVALID;
    }
    (void)fclose(file);
    return ERR_OK;
}

static enum err
load_own(SSL_CTX *ssl, const struct tls_config *config, struct buffer *problem)
{
    enum err err = check_readable("TLS_CERT_FILE", config->cert_file, problem);

    if (err == ERR_OK) {
        err = check_readable("TLS_KEY_FILE", config->key_file, problem);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (SSL_CTX_use_certificate_chain_file(ssl, config->cert_file) != 1) {
        return refuse_file("TLS_CERT_FILE", "certificate", config->cert_file, problem);
    }
    if (SSL_CTX_use_PrivateKey_file(ssl, config->key_file, SSL_FILETYPE_PEM) != 1 &&
        ERR_GET_REASON(ERR_peek_last_error()) != X509_R_KEY_VALUES_MISMATCH) {
        return refuse_file("TLS_KEY_FILE", "key without a pass phrase", config->key_file, problem);
    }
    if (SSL_CTX_check_private_key(ssl) != 1) { /* a key of another kind was taken until now */
        buffer_printf(problem, "TLS_KEY_FILE is not the key of TLS_CERT_FILE's certificate: %s",
                      config->key_file);
        ERR_clear_error();
        return ERR_INVALID;
    }
    return ERR_OK;
}

static enum err
load_client_ca(SSL_CTX *ssl, const char *path, struct buffer *problem)
{
    enum err err = check_readable("TLS_CLIENT_CA_FILE", path, problem);
    STACK_OF(X509_NAME) *names = NULL;

    if (err != ERR_OK) {
        return err;
    }
    if (SSL_CTX_load_verify_file(ssl, path) == 1) {
        names = SSL_load_client_CA_file(path);
    }
    if (names == NULL) {
        return refuse_file("TLS_CLIENT_CA_FILE", "certificate", path, problem);
    }
    SSL_CTX_set_client_CA_list(ssl, names); /* moves NAMES */
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return ERR_OK;
}

static bool
set_up(SSL_CTX *ssl)
{
    static const unsigned char NAME[] = "sluice";

    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF); /* the client keeps its ticket */
    SSL_CTX_set_timeout(ssl, TICKET_LIFE_S);
    SSL_CTX_set_max_cert_list(ssl, CLIENT_CHAIN_BYTES_MAX);
    SSL_CTX_set_alpn_select_cb(ssl, select_protocol, NULL);
    SSL_CTX_set_default_passwd_cb(ssl, no_pass_phrase);
    return SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(ssl, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1 &&
           SSL_CTX_set_session_id_context(ssl, NAME, sizeof(NAME) - 1) == 1;
}

static int64_t
certificate_end(const SSL_CTX *ssl)
{
    struct tm tm;

    if (ASN1_TIME_to_tm(X509_get0_notAfter(SSL_CTX_get0_certificate(ssl)), &tm) != 1) {
        return 0;
    }
    return timegm(&tm);
}

static void
context_drop(struct context *context)
{
    if (context != NULL &&
        atomic_fetch_sub_explicit(&context->users, 1, memory_order_acq_rel) == 1) {
        SSL_CTX_free(context->ssl);
        free(context);
    }
}

static enum err
context_new(struct context **out, const struct tls_config *config, struct buffer *problem)
{
    struct context *context = calloc(1, sizeof(*context));
    enum err err = ERR_NO_MEMORY;

    if (context == NULL) {
        return ERR_NO_MEMORY;
    }
    atomic_store(&context->users, 1);
    ERR_clear_error();
    context->ssl = SSL_CTX_new(TLS_server_method());
    if (context->ssl != NULL && set_up(context->ssl)) {
        err = load_own(context->ssl, config, problem);
        if (err == ERR_OK && config->client_ca_file != NULL) {
            err = load_client_ca(context->ssl, config->client_ca_file, problem);
        }
    }
    if (err != ERR_OK) {
        context_drop(context);
        return err;
    }
    context->expires_s = certificate_end(context->ssl);
    *out = context;
    return ERR_OK;
}

/* The context of now, with one user more. */
static struct context *
context_take(struct tls *tls)
{
    struct context *context;

    pthread_mutex_lock(&tls->mutex);
    context = tls->current;
    atomic_fetch_add_explicit(&context->users, 1, memory_order_relaxed);
    pthread_mutex_unlock(&tls->mutex);
    return context;
}

enum err
tls_open(struct tls **out, const struct tls_config *config, struct buffer *problem)
{
    struct tls *tls = calloc(1, sizeof(*tls));
    enum err err;

    ASSERT(config->cert_file != NULL);
    ASSERT(config->key_file != NULL);
    if (tls == NULL) {
        return ERR_NO_MEMORY;
    }
    tls->config = *config;
    (void)pthread_mutex_init(&tls->mutex, NULL);
    tls->method = new_method();
    err = tls->method == NULL ? ERR_NO_MEMORY : context_new(&tls->current, config, problem);
    if (err != ERR_OK) {
        tls_close(tls);
        return err;
    }
    *out = tls;
    return ERR_OK;
}

void
tls_close(struct tls *tls)
{
    if (tls == NULL) {
        return;
    }
    ASSERT(tls->current == NULL || atomic_load(&tls->current->users) == 1);
    context_drop(tls->current);
    BIO_meth_free(tls->method);
    (void)pthread_mutex_destroy(&tls->mutex);
    free(tls);
}

enum err
tls_reload(struct tls *tls, struct buffer *problem)
{
    struct context *context;
    struct context *old;
    enum err err = context_new(&context, &tls->config, problem);

    if (err != ERR_OK) {
        return err;
    }
    pthread_mutex_lock(&tls->mutex);
    old = tls->current;
    tls->current = context;
    pthread_mutex_unlock(&tls->mutex);
    context_drop(old);
    return ERR_OK;
}

int64_t
tls_expires_s(struct tls *tls)
{
    struct context *context = context_take(tls);
    int64_t expires_s = context->expires_s;

    context_drop(context);
    return expires_s;
}

/* ---- one connection ---- */

struct tls_session *
tls_session_new(struct tls *tls)
{
    struct tls_session *session = calloc(1, sizeof(*session));
    BIO *bio = NULL;

    if (session == NULL) {
        return NULL;
    }
    session->context = context_take(tls);
    session->ssl = SSL_new(session->context->ssl);
    if (session->ssl != NULL) {
        bio = BIO_new(tls->method);
    }
    if (bio == NULL) {
        ERR_clear_error();
        tls_session_free(session);
        return NULL;
    }
    BIO_set_data(bio, session);
    BIO_set_init(bio, 1);
    SSL_set_bio(session->ssl, bio, bio); /* moves BIO */
    SSL_set_accept_state(session->ssl);
    return session;
}

void
tls_session_free(struct tls_session *session)
{
    if (session != NULL) {
        SSL_free(session->ssl);
        context_drop(session->context);
        free(session);
    }
}

static enum tls_fault
fault_of(unsigned long error)
{
    const int reason = ERR_GET_REASON(error);

    if (ERR_GET_LIB(error) != ERR_LIB_SSL) {
        return TLS_FAULT_PROTOCOL;
    }
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED ||
        reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
        return TLS_FAULT_CLIENT_CERTIFICATE;
    }
    return reason >= SSL_AD_REASON_OFFSET ? TLS_FAULT_ALERT : TLS_FAULT_PROTOCOL;
}

static enum tls_result
fail(struct tls_session *session)
{
    session->failed = true;
    session->fault = fault_of(ERR_peek_error());
    ERR_clear_error();
    return TLS_FAULT;
}

enum tls_result
tls_session_receive(struct tls_session *session, struct span sealed, char *plain,
                    size_t *plain_len_out, struct buffer *out)
{
    const size_t room = sealed.len + TLS_RECORD_BYTES_MAX;
    enum tls_result result = TLS_OPEN;
    size_t len = 0;
    int n;

    ASSERT(!session->failed);
    session->in = sealed;
    session->out = out;
    ERR_clear_error();
    do {
        n = SSL_read(session->ssl, plain + len, (int)narrow_u32(room - len));
        len += n > 0 ? (size_t)n : 0;
    } while (n > 0 && len < room);
    if (n <= 0) {
        int error = SSL_get_error(session->ssl, n);

        if (error == SSL_ERROR_ZERO_RETURN) {
            result = TLS_ENDED;
        } else if (error != SSL_ERROR_WANT_READ) {
            result = fail(session);
        }
    } else {
        result = fail(session); /* a record never holds more than it is long */
    }
    session->established = session->established || SSL_is_init_finished(session->ssl) == 1;
    session->in = (struct span){NULL, 0};
    session->out = NULL;
    *plain_len_out = len;
    return result;
}

enum tls_fault
tls_session_fault(const struct tls_session *session)
{
    ASSERT(session->failed);
    return session->fault;
}

bool
tls_session_is_established(const struct tls_session *session)
{
    return session->established;
}

bool
tls_session_is_resumed(const struct tls_session *session)
{
    return SSL_session_reused(session->ssl) == 1;
}

bool
tls_session_send(struct tls_session *session, struct span plain, struct buffer *out)
{
    size_t written = 0;
    bool good;

    ASSERT(!session->failed);
    ASSERT(session->established);
    if (plain.len == 0) {
        return true;
    }
    session->out = out;
    ERR_clear_error();
    good = SSL_write_ex(session->ssl, plain.data, plain.len, &written) == 1;
    session->out = NULL;
    if (!good) {
        (void)fail(session);
    }
    return good;
}

void
tls_session_end(struct tls_session *session, struct buffer *out)
{
    if (session->failed || !session->established) {
        return;
    }
    session->out = out;
    (void)SSL_shutdown(session->ssl); /* it need not be answered: HTTP says where a message ends */
    ERR_clear_error();
    session->out = NULL;
}
