/*
 * server.h - the HTTP front: llhttp on libuv loops, one thread per loop, SO_REUSEPORT listeners
 * that speak HTTP or, with TLS, HTTPS.
 *
 * A connection belongs to one loop for its whole life; nobody else touches it. A request that
 * stores something travels to the journal as a struct append and comes back to its loop by one
 * queue and one wake-up per group. Every size, count and time has a limit here and a refusal of its
 * own.
 */
#ifndef SLUICE_HTTP_SERVER_H
#define SLUICE_HTTP_SERVER_H

#include "core/base/base.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/counts/counts.h"
#include "core/journal.h"
#include "core/query/archive.h"
#include "core/query/dead_letters.h"
#include "core/replicator.h"
#include "core/slo/alerts.h"
#include "core/slo/notifier.h"
#include "core/slo/objectives.h"
#include "core/slo/requests.h"
#include "core/slo/slices.h"
#include "core/slo/slo.h"
#include "core/slo/slo_window.h"
#include "core/tenants.h"
#include "http/tls.h"

struct server_config {
    const char *host;
    uint16_t port; /* 0: the kernel picks one, see server_port() */
    uint32_t threads;
    size_t body_bytes_max;
    size_t event_bytes_max;
    uint32_t bulk_events_max;  /* elements of one bulk */
    size_t buffered_bytes_max; /* request bodies of all connections together; beyond it 503 */
    uint32_t connections_max;  /* all loops together */
    int read_timeout_ms;       /* a request must be complete this long after its first byte */
    int idle_timeout_ms;       /* between requests; also for taking what is owed, in all */
    int write_timeout_ms; /* a client must take some of its answer this often; 0: as read_timeout_ms
                           */
    int64_t future_skew_max_us;
    double rate;         /* events a second of all tenants together; 0: no limit */
    uint64_t rate_burst; /* 0: one second's worth */
    bool ready_requires_db;
    bool metrics_legacy_names; /* also the names of an older ingestor */
    const char *cors_origins;  /* see cors.h; NULL: none. Borrowed for the server's life */
    bool has_db;
    const char *version; /* for sluice_build_info; NULL: "unknown" */
};

/* What the routes work with; all borrowed for the server's life. */
struct server_deps {
    struct journal *journal;
    struct slices *slices;
    struct alerts *alerts;             /* NULL: /slo/alerts is empty */
    const struct notifier *notifier;   /* NULL: nobody is told of alerts */
    const struct slo_config *slo;      /* of services without definitions */
    struct objectives *objectives;     /* the definitions; NULL: there are none, nor can be */
    const struct slo_history *history; /* rows of slo_windows; NULL without a database */
    struct requests *requests;         /* told of every answer; NULL allowed */
    struct counts *counts;             /* NULL: no counts, 503 */
    const struct clock *clock;
    struct tls *tls;                              /* NULL: plain HTTP */
    const struct dead_letter_store *dead_letters; /* NULL without a database */
    struct archive *archive;                      /* NULL: no raw events, 503, and no counts */
    struct tenants *tenants; /* NULL: one tenant "default", no keys, no limit of its own */
    struct replicator *const *replicators; /* one per partition; count 0 without a database */
    uint32_t replicator_count;
};

struct server;

/* Binds and listens; ERR_IO (logged) when the address cannot be had. Accepts nothing yet. */
MUST_CHECK enum err server_open(struct server **out, const struct server_config *config,
                                const struct server_deps *deps);

/* Starts the loops' threads. */
MUST_CHECK enum err server_start(struct server *server);

/* The port listened on. */
uint16_t server_port(const struct server *server);

/*
 * Graceful stop: /ready answers 503 at once; after GRACE_MS the listeners close, idle connections
 * are closed, open requests get at most DEADLINE_MS to finish. Then the loops end and are joined.
 * The journal must still be running.
 */
void server_stop(struct server *server, int grace_ms, int deadline_ms);

/*
 * Frees it all. Stopped or never started; NULL allowed. The journal must have given back every
 * append (be stopped, or idle): one that outlived server_stop()'s deadline still belongs to it
 * until then.
 */
void server_close(struct server *server);

#endif
