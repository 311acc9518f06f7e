/*
 * tls.h - TLS without sockets: sealed bytes in, plain bytes out, and the other way round.
 *
 * A struct tls is what a server shows to its clients: certificate chain, key, and the CA that
 * clients' certificates must come from. Reading the files again makes a new context; sessions that
 * exist go on with the one they began with. Tickets are sealed with a key of their context, so a
 * session cannot be resumed past a reload: a CA that is withdrawn is withdrawn at once.
 *
 * A struct tls_session is one connection's. It knows no socket and keeps no bytes but a record that
 * is not complete yet: what is to be sent is appended to a buffer of the caller's, and what comes
 * in is taken whole. TLS 1.2 and 1.3, forward secret ciphers with AEAD, ALPN http/1.1 and http/1.0,
 * no renegotiation, no compression, no early data.
 *
 * open, reload and close: one thread. A session belongs to one thread; it may be made and freed on
 * any while the struct tls is open.
 */
#ifndef SLUICE_HTTP_TLS_H
#define SLUICE_HTTP_TLS_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"

enum {
    TLS_RECORD_BYTES_MAX = 17 * 1024, /* of an incomplete record, and more than its content */
};

/* Paths of PEM files, borrowed until the close: a reload reads them again. */
struct tls_config {
    const char *cert_file;      /* the server's certificate, then those that lead to its root */
    const char *key_file;       /* its key, without a pass phrase */
    const char *client_ca_file; /* clients must have a certificate from these; NULL: none asked */
};

struct tls;

/*
 * Reads the files. ERR_INVALID: a sentence that names TLS_CERT_FILE, TLS_KEY_FILE or
 * TLS_CLIENT_CA_FILE is in PROBLEM, and nothing of what they hold.
 */
MUST_CHECK enum err tls_open(struct tls **out, const struct tls_config *config,
                             struct buffer *problem);
void tls_close(struct tls *tls); /* no session is left; NULL allowed */

/* Reads the files again. On any error all stays as it was; ERR_INVALID as above. */
MUST_CHECK enum err tls_reload(struct tls *tls, struct buffer *problem);

/* When the certificate in use ends, in seconds since 1970; any thread. */
int64_t tls_expires_s(struct tls *tls);

struct tls_session;

/* A session that waits for the client's first bytes. NULL: out of memory. */
struct tls_session *tls_session_new(struct tls *tls);
void tls_session_free(struct tls_session *session); /* NULL allowed */

enum tls_result {
    TLS_OPEN,  /* more may come */
    TLS_ENDED, /* the client has said that it sends no more; PLAIN holds the last of it */
    TLS_FAULT, /* over: see tls_session_fault(); of PLAIN nothing may be believed */
};

/* Why a session failed. */
enum tls_fault {
    TLS_FAULT_PROTOCOL,           /* no common version or cipher, or no TLS at all */
    TLS_FAULT_CLIENT_CERTIFICATE, /* none, or not one of client_ca_file's */
    TLS_FAULT_ALERT,              /* the client gave up, for example since it does not trust ours */
};

/*
 * Takes all of SEALED. Writes what it held to PLAIN, which has room for SEALED's length and
 * TLS_RECORD_BYTES_MAX, and appends what the client must be sent to OUT, also when it fails.
 * Out of memory is TLS_FAULT; OUT may then be incomplete (out->failed).
 */
MUST_CHECK enum tls_result tls_session_receive(struct tls_session *session, struct span sealed,
                                               char *plain, size_t *plain_len_out,
                                               struct buffer *out);

/* Only after TLS_FAULT. */
enum tls_fault tls_session_fault(const struct tls_session *session);

/* The handshake is done: plain bytes may be sent. */
bool tls_session_is_established(const struct tls_session *session);

/* The handshake took up an earlier session. */
bool tls_session_is_resumed(const struct tls_session *session);

/* Appends PLAIN, sealed, to OUT. Only when established; false: no memory, the session is over. */
MUST_CHECK bool tls_session_send(struct tls_session *session, struct span plain,
                                 struct buffer *out);

/* Appends the word that nothing more follows (close_notify) to OUT, where there is one to say. */
void tls_session_end(struct tls_session *session, struct buffer *out);

#endif
