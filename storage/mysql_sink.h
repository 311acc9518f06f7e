/*
 * mysql_sink.h - the sink port on MySQL 8 or MariaDB.
 *
 * One object, one connection, one partition. A batch is one transaction: compare-and-set of the
 * offset row, rows, dead letters, slices, COMMIT. Auto-reconnect stays off.
 */
#ifndef SLUICE_STORAGE_MYSQL_SINK_H
#define SLUICE_STORAGE_MYSQL_SINK_H

#include "core/base.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/journal.h"
#include "core/sink.h"
#include "core/slice.h"

enum mysql_tls {
    MYSQL_TLS_OFF,
    MYSQL_TLS_REQUIRED, /* encrypted, and the server's certificate checked against tls_ca */
};

/* Where the database is. Strings are borrowed for the life of whatever is opened with it. */
struct mysql_config {
    const char *host;   /* NULL with a socket */
    const char *socket; /* NULL with a host */
    const char *user;
    const char *password; /* "" for none */
    const char *database;
    uint32_t port;
    int timeout_ms; /* connect, read and write */
    enum mysql_tls tls;
    const char *tls_ca; /* file, NULL for the system's */
};

/* Who writes. INSTANCE is random per process start; KNOWN says whether this log has had an
 * instance. */
struct mysql_owner {
    uint8_t node_id[JOURNAL_NODE_ID_SIZE];
    uint64_t epoch;
    uint8_t instance[16];
    bool (*known_instance)(void *arg, const uint8_t instance[16]);
    void *arg;
};

/* Makes a sink for PARTITION; connects nothing yet. RULES are borrowed. sink.ops->close frees it.
 */
MUST_CHECK enum err mysql_sink_new(struct sink *out, const struct mysql_config *config,
                                   const struct mysql_owner *owner, uint32_t partition,
                                   const struct slice_rules *rules);

#endif
