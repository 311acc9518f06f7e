#!/bin/bash
# Is the server up? probe.sh [HOST [PORT [PATH]]] exits 0 when the path answers 200 within 2 seconds.
# Plain bash, so neither a container nor a start script needs an HTTP client for it; with
# TLS_CERT_FILE set it asks through openssl, and does not check a certificate that is its own.
# Where clients need a certificate (TLS_CLIENT_CA_FILE) this one has none: there the answer that plain
# HTTP gets on an HTTPS port shows that the server is alive, and no more.
set -u
host=${1:-127.0.0.1}
port=${2:-${HTTP_PORT:-8080}}
path=${3:-/ready}
wanted=200
tls=${TLS_CERT_FILE:-}
if [ -n "$tls" ] && [ -n "${TLS_CLIENT_CA_FILE:-}" ]; then
    tls=
    wanted=400
fi

request() {
    printf 'GET %s HTTP/1.1\r\nHost: %s:%s\r\nConnection: close\r\n\r\n' "$path" "$host" "$port"
}

status=
if [ -n "$tls" ]; then
    [[ $host != *:* ]] || host="[$host]" # an IPv6 address
    read -r -t 2 _ status _ < <(request | timeout 2 openssl s_client -quiet -connect "$host:$port" 2>/dev/null) ||
        exit 1
else
    # The redirection of a failed exec would end the script with bash's own message.
    { exec 3<>"/dev/tcp/$host/$port"; } 2>/dev/null || exit 1
    request >&3 || exit 1
    read -r -t 2 _ status _ <&3 || exit 1
fi
[ "$status" = "$wanted" ]
