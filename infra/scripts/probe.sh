#!/bin/bash
# Is the server up? probe.sh [HOST [PORT [PATH]]] exits 0 when the path answers 200 within 2 seconds.
# Plain bash, so neither a container nor a start script needs an HTTP client for it.
set -u
host=${1:-127.0.0.1}
port=${2:-${HTTP_PORT:-8080}}
path=${3:-/ready}

# The redirection of a failed exec would end the script with bash's own message.
{ exec 3<>"/dev/tcp/$host/$port"; } 2>/dev/null || exit 1
printf 'GET %s HTTP/1.1\r\nHost: %s:%s\r\nConnection: close\r\n\r\n' "$path" "$host" "$port" >&3 || exit 1
read -r -t 2 _ status _ <&3 || exit 1
[ "$status" = 200 ]
