#!/usr/bin/env bash
# A private MariaDB server in one directory: for `make run` and for every test that needs a real
# database. Needs only the packages mariadb-server-core and mariadb-client-core, and no running
# service. As root the server runs as nobody, if nobody can reach the directory; otherwise as
# whoever calls.
#
# The directory then holds: data/ (the database), s (the socket), pid, port (when it listens on TCP)
# and err.log. The account is root without a password: reachable by socket, and by TCP from this
# machine only.
set -euo pipefail

# Where Debian puts mariadbd; an ordinary user's PATH does not have it.
export PATH=$PATH:/usr/local/sbin:/usr/sbin

usage() {
    cat <<'TEXT'
usage: mariadb.sh start DIR [--port N|auto] [-- MARIADBD_OPTION...]
       mariadb.sh stop|kill|status|url|env DIR

  start   makes the database if DIR has none, starts the server, returns when it answers;
          without --port it listens on the socket DIR/s alone. Started already: nothing to do.
  stop    clean shutdown, returns when the process is gone
  kill    SIGKILL, as a crash would; start recovers
  status  prints running or stopped; exit code 0 or 1
  url     prints the DB_URL by which sluice reaches it
  env     prints the variables by which the integration tests reach it, as shell assignments

A freshly made database is kept as a template to copy, in SLUICE_MARIADB_TEMPLATES
(default: build/mariadb-template of this source tree; empty: none).
TEXT
}

die() {
    printf 'mariadb.sh: %s\n' "$*" >&2
    exit 1
}

need() {
    command -v "$1" >/dev/null 2>&1 || die "$1 not found (package $2)"
}

# Runs a command as the account the server runs under.
as_server() {
    "${as_prefix[@]}" "$@"
}

# The recorded process, only if it is a mariadbd of this very directory: a pid can be used again.
running_pid() {
    local pid
    pid=$(cat "$dir/pid" 2>/dev/null) || return 1
    [ -n "$pid" ] && [ -r "/proc/$pid/cmdline" ] || return 1
    # Not grep -q: it may end before tr does, and pipefail would call that a miss.
    tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -xF -- "--datadir=$dir/data" >/dev/null ||
        return 1
    printf '%s\n' "$pid"
}

answers() {
    mariadb --no-defaults -uroot --socket="$dir/s" --connect-timeout=2 -e 'SELECT 1' >/dev/null 2>&1
}

# A TCP port nobody uses, below those the kernel gives to outgoing connections. Another process may
# still take it first: start then tries the next one.
free_port() {
    local port
    for _ in $(seq 50); do
        port=$((20000 + RANDOM % 12000))
        if awk -v port="$(printf ':%04X' "$port")" \
            'substr($2, length($2) - 4) == port { used = 1 } END { exit used }' \
            /proc/net/tcp /proc/net/tcp6 2>/dev/null; then
            printf '%s\n' "$port"
            return
        fi
    done
    die "no free TCP port found"
}

# Fills DIR/data: a copy of the template takes milliseconds, making one takes most of a second.
make_data() {
    local templates template
    templates=${SLUICE_MARIADB_TEMPLATES-$root/build/mariadb-template}
    template=$templates/$(mariadbd --version | cksum | cut -d' ' -f1)
    rm -rf "$dir/data.new"
    if [ -n "$templates" ] && [ -d "$template" ]; then
        cp -r "$template" "$dir/data.new"
    else
        as_server mariadb-install-db --no-defaults "${account[@]}" --datadir="$dir/data.new" \
            --auth-root-authentication-method=normal --skip-test-db >"$dir/install.log" 2>&1 ||
            die "mariadb-install-db failed, see $dir/install.log"
        if [ -n "$templates" ] && mkdir -p "$templates" 2>/dev/null; then
            # Moved into place whole, so that a second start at the same time copies all or nothing.
            if ! { cp -r "$dir/data.new" "$template.$$" && mv -T "$template.$$" "$template"; } 2>/dev/null; then
                rm -rf "$template.$$"
            fi
        fi
    fi
    mv -T "$dir/data.new" "$dir/data"
}

start() {
    local port=''
    while [ $# -gt 0 ]; do
        case $1 in
        --port)
            [ $# -ge 2 ] || die "--port needs a number or auto"
            port=$2
            shift 2
            ;;
        --)
            shift
            break
            ;;
        *) die "unknown option $1" ;;
        esac
    done
    need mariadbd mariadb-server-core
    need mariadb-install-db mariadb-server-core
    need mariadb mariadb-client-core
    if running_pid >/dev/null; then
        return 0
    fi
    export TMPDIR=$dir # the caller's need not be open to nobody
    [ ${#dir} -le 100 ] || die "the path $dir is too long for a socket in it"
    if [ "$(id -u)" = 0 ]; then
        need setpriv util-linux
        chown nobody:nogroup "$dir"
        if ! as_server test -x "$dir"; then
            # A folder above is closed, as in a clone under /root: then only root can get there.
            as_prefix=()
            account=(--user=root)
        fi
    fi
    [ -d "$dir/data" ] || make_data
    if [ "${#as_prefix[@]}" -gt 0 ]; then
        # Copied from a template, or made by root when a folder above was closed.
        find "$dir/data" -not -user nobody -exec chown nobody:nogroup {} +
    fi
    rm -f "$dir/port"
    if [ "$port" = auto ]; then
        for _ in 1 2 3 4 5; do
            port=$(free_port)
            if launch --port="$port" --bind-address=127.0.0.1 "$@"; then
                printf '%s\n' "$port" >"$dir/port"
                return 0
            fi
            grep -q 'Address already in use' "$dir/err.log" || break
        done
    elif [ -n "$port" ]; then
        if launch --port="$port" --bind-address=127.0.0.1 "$@"; then
            printf '%s\n' "$port" >"$dir/port"
            return 0
        fi
    elif launch --skip-networking "$@"; then
        return 0
    fi
    tail -n 5 "$dir/err.log" >&2 2>/dev/null || true
    die "the server did not start, see $dir/err.log"
}

# Starts the process with these options; true once it answers, false when it ended or says nothing for 30 s.
launch() {
    local pid
    # A session of its own: a Ctrl-C meant for the caller must not take the database down first.
    (
        cd /
        exec setsid "${as_prefix[@]}" mariadbd --no-defaults --datadir="$dir/data" --socket="$dir/s" \
            --pid-file="$dir/server.pid" --log-error="$dir/err.log" --skip-name-resolve \
            --innodb-buffer-pool-size=64M --innodb-log-file-size=16M \
            --character-set-server=utf8mb4 --collation-server=utf8mb4_bin "${account[@]}" "$@"
    ) </dev/null >/dev/null 2>&1 &
    pid=$!
    disown "$pid" 2>/dev/null || true
    printf '%s\n' "$pid" >"$dir/pid"
    for _ in $(seq 600); do
        if answers; then
            return 0
        fi
        kill -0 "$pid" 2>/dev/null || return 1
        sleep 0.05
    done
    return 1
}

# Signals the server and waits until it is gone.
end() {
    local signal=$1 pid
    pid=$(running_pid) || return 0
    kill "-$signal" "$pid"
    # A stopped process takes its signal only when it goes on.
    kill -CONT "$pid" 2>/dev/null || true
    for _ in $(seq 600); do
        running_pid >/dev/null || return 0
        sleep 0.05
    done
    die "process $pid does not end"
}

case ${1-} in
-h | --help | help)
    usage
    exit 0
    ;;
esac
if [ $# -lt 2 ]; then
    usage >&2
    exit 2
fi
action=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
[ "$action" != start ] || mkdir -p "$2"
[ -d "$2" ] || die "there is no directory $2"
dir=$(cd "$2" && pwd)
shift 2
as_prefix=()
account=()
if [ "$(id -u)" = 0 ]; then
    as_prefix=(setpriv --reuid=nobody --regid=nogroup --clear-groups --)
fi
case $action in
start) start "$@" ;;
stop) end TERM ;;
kill) end KILL ;;
status)
    if pid=$(running_pid) && answers; then
        printf 'running, process %s, socket %s/s%s\n' "$pid" "$dir" \
            "$([ ! -f "$dir/port" ] || printf ', port %s' "$(cat "$dir/port")")"
    else
        printf 'stopped\n'
        exit 1
    fi
    ;;
url) printf 'mysql://root@/sluice?socket=%s/s\n' "$dir" ;;
env)
    printf "export TEST_DB_SOCKET='%s/s'\nexport TEST_DB_USER='root'\nexport TEST_DB_PASSWORD=''\n" "$dir"
    ;;
*)
    usage >&2
    exit 2
    ;;
esac
