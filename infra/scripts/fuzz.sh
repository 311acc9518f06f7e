#!/bin/bash
# Fuzzes each target named for FUZZ_SECONDS, one after the other, from the seeds in
# fuzz/corpus/<name>. What reaches new code is kept in build/fuzz-found/<name> and tried again the next
# time; an input that crashes the target goes to build/fuzz-crashes/<name>, to be added to the
# corpus with its fix.
set -euo pipefail
cd "$(dirname "$0")/../.."

export ASAN_OPTIONS=allow_addr2line=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}
[ $# -gt 0 ] || {
    printf 'fuzz: there is no fuzz target\n' >&2
    exit 1
}

status=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for name in "$@"; do
    found=build/fuzz-found/$name
    crashes=build/fuzz-crashes/$name
    mkdir -p "$found" "$crashes"
    options=(-max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 -rss_limit_mb=2048
        -print_final_stats=1 -artifact_prefix="$crashes/")
    [ ! -f "fuzz/$name.dict" ] || options+=(-dict="fuzz/$name.dict")
    if "build/fuzz/fuzz/fuzz_$name" "${options[@]}" "$found" "fuzz/corpus/$name" >"$log" 2>&1; then
        printf 'ok      %-16s %s runs, %s new inputs\n' "$name" \
            "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
            "$(sed -n 's/^stat::new_units_added: *//p' "$log")"
    else
        tail -n 60 "$log"
        printf 'FAILED  %-16s the input is in %s\n' "$name" "$crashes"
        status=1
    fi
done
exit "$status"
