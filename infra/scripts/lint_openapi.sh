#!/bin/bash
# Reads /openapi.json and /openapi.yaml of a running build/debug/sluice with the public linter named in
# infra/openapi/package.json, installed under build/ by its lock file. Exit 77, with the reason: not to
# be had here.
set -euo pipefail
cd "$(dirname "$0")/../.."

tool=build/openapi
work=$(mktemp -d)
server=
finish() {
    if [ -n "$server" ]; then
        kill "$server"
        wait "$server" || true
    fi
    rm -rf "$work"
}
trap finish EXIT

command -v npm >/dev/null || {
    printf 'npm is not installed\n'
    exit 77
}
if ! cmp -s infra/openapi/package-lock.json "$tool/installed.json"; then
    mkdir -p "$tool"
    cp infra/openapi/package.json infra/openapi/package-lock.json "$tool/"
    if ! npm ci --prefix "$tool" --no-audit --no-fund --ignore-scripts >"$work/npm" 2>&1; then
        tail -n 5 "$work/npm"
        printf 'the linter could not be installed\n'
        exit 77
    fi
    cp infra/openapi/package-lock.json "$tool/installed.json"
fi

: >"$work/log"
env -i PATH="$PATH" WAL_DIR="$work/wal" HTTP_HOST=127.0.0.1 HTTP_PORT=0 \
    build/debug/sluice serve >"$work/log" 2>&1 &
server=$!
port=
for _ in $(seq 100); do
    port=$(sed -nE 's/.*"event":"server.listening".*"port":([0-9]+).*/\1/p' "$work/log")
    [ -z "$port" ] || break
    sleep 0.1
done
[ -n "$port" ] || {
    cat "$work/log"
    exit 1
}
for form in json yaml; do
    python3 - "http://127.0.0.1:$port/openapi.$form" >"$work/openapi.$form" <<'END'
import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
sys.stdout.buffer.write(opener.open(sys.argv[1], timeout=30).read())
END
done
# A warning counts: the description is to be clean.
if ! REDOCLY_SUPPRESS_UPDATE_NOTICE=true "$tool/node_modules/.bin/redocly" lint \
    --config infra/openapi/redocly.yaml --max-problems 1000 "$work/openapi.json" "$work/openapi.yaml" \
    >"$work/lint" 2>&1 || grep -qE '(warning|error)s?\.$' "$work/lint"; then
    cat "$work/lint"
    exit 1
fi
