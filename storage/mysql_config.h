/*
 * mysql_config.h - where the database is and how to reach it; shared by all that opens a session.
 */
#ifndef SLUICE_STORAGE_MYSQL_CONFIG_H
#define SLUICE_STORAGE_MYSQL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

enum mysql_tls {
    MYSQL_TLS_OFF,
    MYSQL_TLS_REQUIRED, /* encrypted or not at all; whom with, only tls_ca makes sure */
};

/* Strings are borrowed for the life of whatever is opened with it. */
struct mysql_config {
    const char *host;   /* NULL with a socket */
    const char *socket; /* NULL with a host */
    const char *user;
    const char *password; /* "" for none */
    const char *database;
    uint32_t port;
    int timeout_ms; /* > 0; bounds connect and each read and write, in whole seconds rounded up */
    enum mysql_tls tls;
    const char
        *tls_ca;     /* PEM file: the server's certificate must come from it and bear the host's
                        name. NULL: any certificate does, as with MySQL's own ssl-mode=REQUIRED */
    bool must_exist; /* a missing database is an error, not made */
    uint32_t load_rows_min; /* batches of so many rows go by LOAD DATA where allowed; 0: none */
};

/*
 * The client library's process-wide state. Call mysql_library_start() once in main() before any
 * thread uses storage, mysql_library_stop() once after all of it is closed.
 */
void mysql_library_start(void);
void mysql_library_stop(void);

/*
 * Releases what the client library keeps for the calling thread (Oracle's library does, MariaDB's
 * does not). A thread that has used a sink, a history or an audit may call it last; leaving it out
 * costs a few bytes per ended thread.
 */
void mysql_library_thread_stop(void);

#endif
