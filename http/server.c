/*
 * The server as a whole: listeners, threads, stop.
 */
#include "http/server.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core/base/log.h"
#include "http/internal.h"

/*
 * SHARED: SO_REUSEPORT, so that each loop has a listener of its own and the kernel deals
 * connections out. Alone it would also let a second server take the same port unnoticed.
 */
static int
open_listener(const struct addrinfo *address, bool shared)
{
    int on = 1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -1;
    }
    /* Accepted sockets inherit TCP_NODELAY. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        (shared && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0) ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0 ||
        bind(fd, address->ai_addr, address->ai_addrlen) != 0) {
        int saved = errno;

        (void)close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

static uint16_t
bound_port(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    char port[8];

    if (getsockname(fd, (struct sockaddr *)&address, &len) != 0 ||
        getnameinfo((struct sockaddr *)&address, len, NULL, 0, port, sizeof(port),
                    NI_NUMERICSERV) != 0) {
        return 0;
    }
    return narrow_u16(strtoul(port, NULL, 10));
}

/* A socket bound to the server's address; the first one settles the port. -1: logged. */
static int
bind_one(struct server *server, bool shared)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    const char *why;
    char port[8];
    int fd = -1;
    int rc;

    (void)snprintf(port, sizeof(port), "%u", server->port);
    rc = getaddrinfo(server->config.host, port, &hints, &found);
    why = rc == 0 ? NULL : gai_strerror(rc);
    for (struct addrinfo *a = found; a != NULL && fd < 0; a = a->ai_next) {
        fd = open_listener(a, shared);
    }
    if (fd < 0) {
        log_error("http.bind_failed", LOG_STR("host", server->config.host),
                  LOG_U64("port", server->port),
                  LOG_STR("cause", why != NULL ? why : strerror(errno)), LOG_END);
    } else if (server->port == 0) {
        server->port = bound_port(fd);
    }
    if (found != NULL) {
        freeaddrinfo(found);
    }
    return fd;
}

static enum err
open_loops(struct server *server)
{
    bool shared = server->config.threads > 1;

    if (shared) {
        /* One socket that shares with nobody first: it fails when the port is somebody else's. */
        int probe = bind_one(server, false);

        if (probe < 0) {
            return ERR_IO;
        }
        (void)close(probe);
    }
    for (uint32_t i = 0; i < server->config.threads; i++) {
        int fd = bind_one(server, shared);
        enum err err;

        if (fd < 0) {
            return ERR_IO;
        }
        err = loop_init(&server->loops[i], server, i, fd);
        if (err != ERR_OK) {
            log_error("http.listen_failed", LOG_U64("port", server->port), LOG_ERR(err), LOG_END);
            return err;
        }
        server->loop_count++;
    }
    return ERR_OK;
}

const char *
server_version(const struct server *server)
{
    return server->config.version != NULL ? server->config.version : "unknown";
}

enum err
server_open(struct server **out, const struct server_config *config, const struct server_deps *deps)
{
    struct server *server = calloc(1, sizeof(*server));
    enum err err;

    ASSERT(config->threads > 0);
    ASSERT(config->threads <= TENANTS_READERS_MAX);
    ASSERT(config->connections_max > 0);
    ASSERT(config->read_timeout_ms > 0);
    ASSERT(config->idle_timeout_ms > 0);
    if (server == NULL) {
        return ERR_NO_MEMORY;
    }
    server->config = *config;
    server->deps = *deps;
    if (server->config.write_timeout_ms <= 0) {
        server->config.write_timeout_ms = config->read_timeout_ms;
    }
    server->limits = (struct request_limits){HEAD_BYTES_MAX, URL_BYTES_MAX, FIELDS_MAX};
    server->budget.max = config->buffered_bytes_max;
    server->answers.max = config->buffered_bytes_max;
    server->port = config->port;
    token_bucket_init(&server->rate, config->rate, config->rate_burst,
                      clock_monotonic_us(deps->clock));
    server->started_wall_us = clock_wall_us(deps->clock);
    server->audit_base = audit_balance(deps);
    server->loops = calloc(config->threads, sizeof(*server->loops));
    err = server->loops == NULL ? ERR_NO_MEMORY
                                : openapi_build(&server->openapi, server_version(server));
    if (err == ERR_OK) {
        err = open_loops(server);
    }
    if (err != ERR_OK) {
        server_close(server);
        return err;
    }
    log_info("http.listening", LOG_STR("host", config->host), LOG_U64("port", server->port),
             LOG_U64("threads", config->threads), LOG_END);
    *out = server;
    return ERR_OK;
}

static void *
thread_main(void *arg)
{
    loop_run(arg);
    return NULL;
}

enum err
server_start(struct server *server)
{
    for (uint32_t i = 0; i < server->loop_count; i++) {
        struct loop *loop = &server->loops[i];
        int rc = pthread_create(&loop->thread, NULL, thread_main, loop);

        if (rc != 0) {
            log_error("http.thread_failed", LOG_STR("cause", strerror(rc)), LOG_END);
            server_stop(server, 0, 0);
            return ERR_IO;
        }
        loop->started = true;
    }
    return ERR_OK;
}

uint16_t
server_port(const struct server *server)
{
    return server->port;
}

static void
sleep_ms(int ms)
{
    struct timespec left = {ms / 1000, (long)(ms % 1000) * 1000000L};

    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

void
server_stop(struct server *server, int grace_ms, int deadline_ms)
{
    atomic_store(&server->phase, SERVER_NOT_READY);
    if (grace_ms > 0) {
        sleep_ms(grace_ms);
    }
    atomic_store(&server->drain_ms, deadline_ms > 0 ? deadline_ms : 0);
    atomic_store(&server->phase, SERVER_DRAINING);
    for (uint32_t i = 0; i < server->loop_count; i++) {
        if (server->loops[i].started) {
            (void)uv_async_send(&server->loops[i].wake);
        }
    }
    for (uint32_t i = 0; i < server->loop_count; i++) {
        if (server->loops[i].started) {
            (void)pthread_join(server->loops[i].thread, NULL);
            server->loops[i].started = false;
        }
    }
}

void
server_close(struct server *server)
{
    if (server == NULL) {
        return;
    }
    for (uint32_t i = 0; i < server->loop_count; i++) {
        ASSERT(!server->loops[i].started);
        loop_fini(&server->loops[i]);
    }
    ASSERT(atomic_load(&server->budget.used) == 0);
    openapi_free(&server->openapi);
    ASSERT(atomic_load(&server->answers.used) == 0);
    free(server->loops);
    free(server);
}
