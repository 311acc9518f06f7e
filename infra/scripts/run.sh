#!/bin/bash
# `make run`: a private MariaDB and the release server, both under var/, until Ctrl-C or SIGTERM.
#
# What is started here is stopped here, by process id and in order: the server first, which finishes
# its requests and drains its log, then the database. Both have sessions of their own, so a
# Ctrl-C reaches this script alone. Data survives: the next run goes on with the same log and
# database, also after a kill -9 of all three.
set -euo pipefail
cd "$(dirname "$0")/../.."

export HTTP_HOST=${HTTP_HOST:-127.0.0.1}
export HTTP_PORT=${HTTP_PORT:-8080}
export WAL_DIR=${WAL_DIR:-./var/wal}
shutdown_ms=${SHUTDOWN_TIMEOUT_MS:-10000}
[[ $shutdown_ms =~ ^[0-9]+$ ]] || shutdown_ms=10000 # the server will name the mistake

server=build/release/sluice
mariadb=infra/scripts/mariadb.sh
probe=infra/scripts/probe.sh
database=var/mariadb
pid_file=var/sluice.pid

server_pid=
own_database=
stop=

say() {
    printf '%s\n' "$*"
}

die() {
    printf 'make run: %s\n' "$*" >&2
    exit 1
}

# The server of process id $1: alive, and this build's, since an id can be used again.
is_our_server() {
    [ -n "$1" ] && kill -0 "$1" 2>/dev/null &&
        [[ "$(readlink "/proc/$1/exe" 2>/dev/null)" == "$PWD"/build/release/sluice* ]]
}

# Asks process $1 to stop and waits until it is gone; past its own deadline it is killed, which
# loses nothing that was acknowledged.
end_server() {
    local pid=$1 tries=$(((shutdown_ms + 15000) / 100))
    is_our_server "$pid" || return 0
    kill -TERM "$pid" 2>/dev/null || true
    while is_our_server "$pid" && [ "$tries" -gt 0 ]; do
        sleep 0.1
        tries=$((tries - 1))
    done
    if is_our_server "$pid"; then
        say "make run: the server did not stop in time; killing process $pid"
        kill -KILL "$pid" 2>/dev/null || true
    fi
}

clean_up() {
    local status=$?
    trap '' INT TERM HUP
    trap - EXIT
    if [ -n "$server_pid" ]; then
        say "make run: stopping the server"
        end_server "$server_pid"
        wait "$server_pid" 2>/dev/null || true
        rm -f "$pid_file"
    fi
    if [ -n "$own_database" ]; then
        say "make run: stopping MariaDB"
        "$mariadb" stop "$database" || status=1
    fi
    exit "$status"
}

start_database() {
    local port=auto
    mkdir -p "$database"
    own_database=1
    if [ -s "$database/port" ]; then
        port=$(cat "$database/port")
    fi
    # The port of last time, unless somebody else has it now.
    "$mariadb" start "$database" --port "$port" 2>/dev/null ||
        "$mariadb" start "$database" --port auto ||
        die "MariaDB did not start; its log is $database/err.log"
    mariadb --no-defaults -uroot --socket="$PWD/$database/s" \
        -e 'CREATE DATABASE IF NOT EXISTS sluice CHARACTER SET utf8mb4 COLLATE utf8mb4_bin'
    DB_URL=$("$mariadb" url "$database")
    export DB_URL
}

banner() {
    local host=$HTTP_HOST
    [[ $host != *:* ]] || host="[$host]" # an IPv6 address
    local base=http://$host:$HTTP_PORT curl=curl
    if [ -n "${TLS_CERT_FILE:-}" ]; then
        base=https://$host:$HTTP_PORT
        curl="curl --cacert $TLS_CERT_FILE"
        [ -z "${TLS_CLIENT_CA_FILE:-}" ] || curl+=" --cert CLIENT.pem --key CLIENT.key"
    fi
    cat <<TEXT

  Sluice is up.

    dashboard   $base/
    metrics     $base/metrics
    SLO status  $base/slo/status

    $curl -i $base/ingest -H 'Content-Type: application/json' \\
      -d '{"service":"checkout","status":200,"latency_ms":42}'

  Log: $WAL_DIR   Database: $1
  Ctrl-C stops both; the next \`make run\` goes on with the same data.

TEXT
}

[ -x "$server" ] || die "$server is missing; make CONFIG=release builds it"
mkdir -p var
exec 9>var/run.lock
flock -n 9 || die "already running here (var/run.lock is held)"

trap clean_up EXIT
trap 'stop=1' INT TERM HUP

# A run that was killed may have left its server; MariaDB is found again by its own script.
if [ -s "$pid_file" ]; then
    old=$(cat "$pid_file")
    if is_our_server "$old"; then
        say "make run: stopping the server an earlier run left behind (process $old)"
        end_server "$old"
    fi
    rm -f "$pid_file"
fi

if (exec 3<>"/dev/tcp/$HTTP_HOST/$HTTP_PORT") 2>/dev/null; then
    die "$HTTP_HOST:$HTTP_PORT is taken by another program; choose another: HTTP_PORT=8081 make run"
fi

if [ -n "${DB_URL:-}${DB_HOST:-}${DBHOST:-}" ]; then
    where="yours, as configured"
else
    start_database 9>&-
    where="mariadb -uroot --socket=$database/s sluice"
fi
[ -z "$stop" ] || exit 0

# The death signal stops the server too if this script is killed outright.
setsid setpriv --pdeathsig TERM "$server" serve 9>&- &
server_pid=$!
printf '%s\n' "$server_pid" >"$pid_file"

tries=600
until "$probe" "$HTTP_HOST" "$HTTP_PORT" /ready; do
    [ -z "$stop" ] || exit 0
    if ! kill -0 "$server_pid" 2>/dev/null; then
        status=0
        wait "$server_pid" || status=$?
        server_pid=
        rm -f "$pid_file"
        die "the server ended with exit code $status before it was ready"
    fi
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || die "the server is not ready after a minute"
    sleep 0.1
done
banner "$where"

# wait returns early for every signal; only the server's end or a wish to stop ends the loop.
status=0
while [ -z "$stop" ] && kill -0 "$server_pid" 2>/dev/null; do
    status=0
    wait "$server_pid" || status=$?
done
if [ -z "$stop" ]; then
    server_pid=
    rm -f "$pid_file"
    [ "$status" -eq 0 ] || die "the server ended by itself with exit code $status"
fi
