#!/bin/bash
# Fuzzes each target named for FUZZ_SECONDS, one after the other. The corpus in fuzz/corpus/<name>
# grows by inputs that reach new code; an input that crashes is kept in fuzz/crashes/<name>.
set -euo pipefail
cd "$(dirname "$0")/../.."

export ASAN_OPTIONS=allow_addr2line=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}
[ $# -gt 0 ] || {
    printf 'fuzz: there is no fuzz target\n' >&2
    exit 1
}

status=0
for name in "$@"; do
    found=$(mktemp -d)
    mkdir -p "fuzz/corpus/$name" "fuzz/crashes/$name"
    options=(-max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 -rss_limit_mb=2048
        -print_final_stats=1 -artifact_prefix="fuzz/crashes/$name/")
    [ ! -f "fuzz/$name.dict" ] || options+=(-dict="fuzz/$name.dict")
    log=$found.log
    if "build/fuzz/fuzz/fuzz_$name" "${options[@]}" "$found" "fuzz/corpus/$name" >"$log" 2>&1; then
        # Only what adds coverage to the corpus at hand joins it.
        "build/fuzz/fuzz/fuzz_$name" -merge=1 "fuzz/corpus/$name" "$found" >>"$log" 2>&1
        printf 'ok      %-20s %s runs, %s new inputs\n' "$name" \
            "$(sed -n 's/^stat::number_of_executed_units: //p' "$log")" \
            "$(sed -n 's/^stat::new_units_added: *//p' "$log")"
        rmdir --ignore-fail-on-non-empty "fuzz/crashes/$name"
    else
        tail -n 60 "$log"
        printf 'FAILED  %-20s the input is in fuzz/crashes/%s\n' "$name" "$name"
        status=1
    fi
    rm -rf "$found" "$log"
done
rmdir --ignore-fail-on-non-empty fuzz/crashes
exit "$status"
