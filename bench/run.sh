#!/bin/bash
# `make bench`: Sluice beside nginx and Redis, and its log beside a bare LMDB; bench/README.md says
# what the numbers mean. One line of key=value pairs per run, a table of ratios at the end.
#
# Every server is private: started here on a port of its own with its data under var/, stopped by
# process id. A service the packages may have started is neither used nor touched.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${BENCH_SECONDS:-2}        # of each run
rounds=${BENCH_ROUNDS:-5}          # how often each is repeated, in turn
rate=${BENCH_RATE:-20000}          # requests per second of the open-loop runs
pending=${BENCH_PENDING:-400000}   # events in the log that is drained
read -r -a connections <<<"${BENCH_CONNECTIONS:-64 250}"

PATH=$PATH:/usr/sbin
built=build/release
work=
results=
machine=
sluice_pid=''
nginx_pid=''
redis_pid=''
sluice_port=''
nginx_port=''
redis_port=''

die() {
    printf 'make bench: %s\n' "$*" >&2
    exit 1
}

# ---- private servers ----

# Stops process $1, a child of this script; the second wait is for the kill.
end() {
    local pid=$1 tries=100
    [ -n "$pid" ] || return 0
    kill -TERM "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null && [ "$tries" -gt 0 ]; do
        sleep 0.1
        tries=$((tries - 1))
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}

clean_up() {
    local status=$?
    trap '' INT TERM HUP
    trap - EXIT
    end "$sluice_pid"
    end "$nginx_pid"
    end "$redis_pid"
    [ ! -d "$work/drain/mariadb" ] || infra/scripts/mariadb.sh kill "$work/drain/mariadb" >/dev/null 2>&1 || true
    [ ! -d "$work/mariadb" ] || infra/scripts/mariadb.sh kill "$work/mariadb" >/dev/null 2>&1 || true
    [ -z "$work" ] || rm -rf "$work"
    exit "$status"
}

# A port nobody listens on, below the range the kernel gives to clients. Another process may still
# take it first: starting is tried again with the next.
free_port() {
    local port
    for _ in {1..50}; do
        port=$((20000 + RANDOM % 10000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            printf '%s\n' "$port"
            return
        fi
    done
    die "no free port"
}

# wait_until PID COMMAND...: false when the process ends first or ten seconds pass.
wait_until() {
    local pid=$1
    shift
    for _ in {1..200}; do
        kill -0 "$pid" 2>/dev/null || return 1
        ! "$@" 2>/dev/null || return 0
        sleep 0.05
    done
    return 1
}

answers() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# The variables that could set up another server than the one measured are taken away.
start_sluice() {
    mkdir "$work/sluice"
    env -i PATH="$PATH" HTTP_HOST=127.0.0.1 HTTP_PORT=0 HTTP_THREADS="$loops" \
        WAL_DIR="$work/sluice/wal" WAL_MAX_BYTES="$wal_bytes" LOG_FORMAT=json \
        setpriv --pdeathsig KILL "$built/sluice" serve >"$work/sluice/log" 2>&1 &
    sluice_pid=$!
    wait_until "$sluice_pid" grep -q '"http.listening"' "$work/sluice/log" || {
        cat "$work/sluice/log" >&2
        die "the server did not start"
    }
    sluice_port=$(sed -nE 's/.*"http.listening".*"port":([0-9]+).*/\1/p' "$work/sluice/log")
}

stop_sluice() {
    end "$sluice_pid"
    sluice_pid=
    rm -rf "$work/sluice"
}

# As many workers as the server has loops. -e: else it would open the log of an installed service.
start_nginx() {
    mkdir "$work/nginx"
    for _ in {1..5}; do
        nginx_port=$(free_port)
        cat >"$work/nginx/conf" <<CONF
daemon off;
worker_processes $loops;
pid $work/nginx/pid;
error_log $work/nginx/log;
events { worker_connections 4096; }
http {
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 120s;
    client_body_temp_path $work/nginx/body;
    proxy_temp_path $work/nginx/proxy;
    fastcgi_temp_path $work/nginx/fastcgi;
    uwsgi_temp_path $work/nginx/uwsgi;
    scgi_temp_path $work/nginx/scgi;
    server {
        listen 127.0.0.1:$nginx_port backlog=4096;
        location / { return 202; }
    }
}
CONF
        setpriv --pdeathsig TERM nginx -e "$work/nginx/log" -p "$work/nginx" -c "$work/nginx/conf" \
            >"$work/nginx/out" 2>&1 &
        nginx_pid=$!
        ! wait_until "$nginx_pid" answers "$nginx_port" || return 0
        end "$nginx_pid"
        nginx_pid=
    done
    cat "$work/nginx/out" "$work/nginx/log" >&2
    die "nginx did not start"
}

start_redis() {
    mkdir "$work/redis"
    for _ in {1..5}; do
        redis_port=$(free_port)
        setpriv --pdeathsig KILL redis-server --bind 127.0.0.1 --port "$redis_port" \
            --dir "$work/redis" --save '' --appendonly yes --appendfsync always \
            --auto-aof-rewrite-percentage 0 --daemonize no >"$work/redis/log" 2>&1 &
        redis_pid=$!
        ! wait_until "$redis_pid" answers "$redis_port" || return 0
        end "$redis_pid"
        redis_pid=
    done
    cat "$work/redis/log" >&2
    die "Redis did not start"
}

# ---- one run each; prints one line ----

# Commits and events of the log so far.
log_counts() {
    local line
    exec 3<>"/dev/tcp/127.0.0.1/$sluice_port"
    printf 'GET /metrics/prometheus HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n' >&3
    while IFS= read -r line <&3; do
        case $line in
        sluice_wal_group_events_count\ *) printf '%s ' "${line##* }" ;;
        sluice_events_acked_total\ *) printf '%s ' "${line##* }" ;;
        esac
    done
    exec 3>&-
}

# emit KEY=VALUE...: shows a run and keeps it for the table.
emit() {
    printf '%s %s\n' "$machine" "$*" | tee -a "$results"
}

# The rest of the one line that starts with word $1 of a load generator's output.
line_of() {
    sed -n "s/^$1 //p" "$2"
}

# measured SERVER LABEL COMMAND...: runs a load generator and adds the log's own counts to its line.
measured() {
    local server=$1 word=$2 before=() after=() line extra='' status=0
    shift 2
    [ "$server" != sluice ] || read -r -a before < <(log_counts)
    timeout --foreground $((seconds * 2 + 20)) "$@" >"$work/output" 2>&1 || status=$?
    line=$(line_of "$word" "$work/output")
    if [ "$status" -ne 0 ] || [ -z "$line" ] || [[ $line != *errors=0* ]]; then
        cat "$work/output" >&2
        die "the load on $server failed or had errors (exit code $status)"
    fi
    if [ "$server" = sluice ]; then
        read -r -a after < <(log_counts)
        extra=$(awk -v a="${before[*]}" -v b="${after[*]}" -v s="$seconds" 'BEGIN {
            split(a, x); split(b, y); acked = y[1] - x[1]; commits = y[2] - x[2]
            printf " commits_s=%.0f per_commit=%.1f", commits / s, commits ? acked / commits : 0
        }')
    fi
    printf '%s%s\n' "$line" "$extra"
}

run_wrk() { # SERVER CONNECTIONS fixed|ids ROUND
    local port=${1}_port line
    line=$(measured "$1" wrk wrk -t 1 -c "$2" -d "${seconds}s" --timeout 10s \
        -s bench/post.lua "http://127.0.0.1:${!port}/ingest" -- "$3" \
        "$(printf 'run-%06d-%03d-%04d' $$ "$4" "$2")")
    emit "round=$4 load=closed server=$1 body=$3 connections=$2 $line"
}

run_load() { # SERVER CONNECTIONS ROUND
    local port=${1}_port line
    line=$(measured "$1" load "$built/bench/load" "${!port}" "$2" "$rate" "$seconds")
    emit "round=$3 load=open server=$1 body=fixed connections=$2 rate=$rate $line"
}

# redis-benchmark takes a number of requests, not a time: a short run first says how many. Its own
# summary has no p999, so that is read from its list of percentiles.
redis_load() { # CONNECTIONS REQUESTS [PIPELINE]
    timeout --foreground $((seconds * 4 + 20)) redis-benchmark -h 127.0.0.1 -p "$redis_port" -c "$1" -n "$2" -P "${3:-1}" \
        XADD log '*' service billing-a status 200 latency_ms 12.5 id run-000000-000-000000 2>&1 |
        tr '\r' '\n' | awk '
        /error/ { bad++ }
        /throughput summary:/ { rps = $3 }
        / milliseconds \(cumulative count/ {
            share = $1 + 0
            if (share >= 50 && p50 == "") p50 = $3 * 1000
            if (share >= 99 && p99 == "") p99 = $3 * 1000
            if (share >= 99.9 && p999 == "") p999 = $3 * 1000
            max = $3 * 1000
        }
        END {
            if (rps == "" || max == "") exit 1
            printf "req_s=%.0f p50_us=%.0f p99_us=%.0f p999_us=%.0f max_us=%.0f errors=%d\n",
                rps, p50, p99, p999, max, bad
        }'
}

run_redis() { # CONNECTIONS ROUND [PIPELINE]
    local line requests=${redis_requests[$1/${3:-1}]:-} result load=closed
    if [ -z "$requests" ]; then
        line=$(redis_load "$1" 10000 "${3:-1}")
        requests=$(awk -v line="$line" -v s="$seconds" 'BEGIN {
            sub(/req_s=/, "", line); printf "%d", line * s + 1
        }')
        redis_requests[$1/${3:-1}]=$requests
    fi
    line=$(redis_load "$1" "$requests" "${3:-1}") || die "redis-benchmark failed"
    [[ $line == *errors=0* ]] || die "Redis answered with errors"
    result=$(redis-cli -h 127.0.0.1 -p "$redis_port" del log) # or its memory only grows
    [ "$result" = 1 ] || die "Redis did not keep what was sent"
    if [ -n "${3:-}" ]; then
        load="bulk per_request=$3"
        line="events_s=${line#req_s=}"
    fi
    emit "round=$2 load=$load server=redis body=fixed connections=$1 $line"
}

run_bulk() { # CONNECTIONS ROUND EVENTS
    local line
    line=$(measured sluice wrk wrk -t 1 -c "$1" -d "${seconds}s" --timeout 10s \
        -s bench/post.lua "http://127.0.0.1:$sluice_port/events/bulk?ids=0" -- bulk "$3")
    line=$(awk -v line="$line" -v n="$3" 'BEGIN {
        rate = line; sub(/req_s=/, "", rate); sub(/[^ ]* /, "", line)
        printf "events_s=%d %s", rate * n, line
    }')
    emit "round=$2 load=bulk per_request=$3 server=sluice body=ndjson connections=$1 $line"
}

run_bulk_reading() { # ROUND
    local line output
    mkdir "$work/log"
    output=$(timeout --foreground $((seconds * 8 + 60)) "$built/bench/bench_bulk" "$work/log/wal" "$seconds")
    rm -rf "$work/log"
    while read -r line; do
        emit "round=$1 load=reading ${line#bulk }"
    done <<<"$output"
}

run_wal() { # ROUND
    local line output
    mkdir "$work/log"
    output=$(timeout --foreground $((seconds * 20 + 60)) "$built/bench/bench_wal" "$work/log" "$seconds")
    rm -rf "$work/log"
    while read -r line; do
        emit "round=$1 load=log ${line#wal }"
    done <<<"$output"
}

run_counts() {
    local line output
    mkdir "$work/log"
    output=$(timeout --foreground 300 "$built/bench/bench_counts" "$work/log")
    rm -rf "$work/log"
    if command -v mariadbd >/dev/null; then
        output+=$'\n'$(timeout --foreground 300 bench/counts_peer.sh "$work/mariadb")
        rm -rf "$work/mariadb"
    fi
    while read -r line; do
        emit "round=1 load=counts ${line#counts }"
    done <<<"$output"
}

run_slo() {
    local line output
    mkdir "$work/mariadb" "$work/slo"
    infra/scripts/mariadb.sh start "$work/mariadb" >"$work/output" 2>&1 || {
        cat "$work/output" >&2
        die "MariaDB did not start"
    }
    output=$(timeout --foreground 300 "$built/bench/bench_slo" 1000 "$work/mariadb/s" "$work/slo")
    infra/scripts/mariadb.sh stop "$work/mariadb" >/dev/null
    rm -rf "$work/mariadb" "$work/slo"
    while read -r line; do
        emit "round=1 load=slo ${line#slo }"
    done <<<"$output"
}

run_drain() {
    local line output
    mkdir "$work/drain"
    chmod 755 "$work/drain" # the database may run as another user
    output=$(timeout --foreground $((300 + pending / 2000)) python3 bench/drain.py "$built/sluice" "$work/drain" "$pending" 3)
    rm -rf "$work/drain"
    while read -r line; do
        emit "round=1 load=drain ${line#drain }"
    done <<<"$output"
}

# ---- the whole ----

describe_machine() {
    local cpu cores kind load
    cpu=$(sed -nE 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
    cores=$(nproc)
    load=$(cut -d ' ' -f 1 /proc/loadavg)
    kind=$(findmnt -no FSTYPE -T "$work" 2>/dev/null || printf 'unknown')
    [ "$kind" != tmpfs ] || die "var/ is on tmpfs, where a sync costs nothing: nothing to measure"
    machine="machine=$cores*$(printf '%s' "${cpu:-unknown}" | tr -cs 'A-Za-z0-9.\n' '-' | sed 's/-$//')/$kind"
    printf '# %s, %s cores, Linux %s, %s\n' "${cpu:-unknown}" "$cores" "$(uname -r)" "$kind"
    printf '# %s; %s; %s; %s\n' "$("$built/sluice" version | head -n 1)" \
        "$(nginx -v 2>&1 | sed -E 's/.*: //')" \
        "$(redis-server --version | sed -E 's/^(.*) sha=.*/\1/')" \
        "$(wrk -v 2>&1 | sed -nE 's/^(wrk [^ ]+ ?[^ ]+).*/\1/p')"
    printf '# %s s per run, %s rounds, %s loop(s) and as many nginx workers; load average %s\n' \
        "$seconds" "$rounds" "$loops" "$load"
    awk -v load="$load" 'BEGIN { exit !(load > 0.5) }' &&
        printf '# The machine is busy with other work: take no figure of this run for good.\n'
    return 0
}

[[ $seconds =~ ^[0-9]+$ && $seconds -gt 0 ]] || die "BENCH_SECONDS must be a whole number above 0"
[[ $rounds =~ ^[0-9]+$ && $rounds -gt 0 ]] || die "BENCH_ROUNDS must be a whole number above 0"
[[ $rate =~ ^[0-9]+$ && $rate -gt 0 ]] || die "BENCH_RATE must be a whole number above 0"
[[ $pending =~ ^[0-9]+$ && $pending -ge 100000 ]] || die "BENCH_PENDING must be a whole number from 100000"
for count in "${connections[@]}"; do
    [[ $count =~ ^[0-9]+$ && $count -gt 0 && $count -le 4000 ]] ||
        die "BENCH_CONNECTIONS must be numbers from 1 to 4000"
done
"${MAKE:-make}" -s --no-print-directory CONFIG=release all bench-programs
loops=$(($(nproc) > 1 ? $(nproc) - 1 : 1))
# A round's events without a database to drain into: 200000 a second of 512 bytes, with room.
# A bulk run adds a million and more.
wal_bytes=$(((1 + seconds + 4 * ${#connections[@]} * seconds / 8) << 30))
declare -A redis_requests=()

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
mkdir -p var
work=$(mktemp -d -p "$PWD/var" bench.XXXXXX)
chmod 755 "$work" # a worker of nginx started by root is nobody
results=$work/results
: >"$results"
describe_machine

run_wal 1
run_slo
run_drain
run_bulk_reading 1
run_counts
start_nginx
start_redis
for ((round = 1; round <= rounds; round++)); do
    start_sluice # with an empty log each round
    for count in "${connections[@]}"; do
        run_wrk sluice "$count" fixed "$round"
        run_wrk nginx "$count" fixed "$round"
        run_redis "$count" "$round"
        run_wrk sluice "$count" ids "$round"
        run_wrk nginx "$count" ids "$round"
        if [ "$round" -le $(((rounds + 1) / 2)) ]; then
            run_load sluice "$count" "$round"
            run_load nginx "$count" "$round"
        fi
    done
    run_bulk 16 "$round" 1000
    run_redis 64 "$round" 32
    stop_sluice
done
end "$nginx_pid"
nginx_pid=
end "$redis_pid"
redis_pid=
run_wal 2
awk -f bench/ratios.awk "$results"
