#!/bin/bash
# Every arrow points at core: which folder may include what. Prints each line that breaks the rule.
set -euo pipefail
cd "$(dirname "$0")/../.."

broken=0

# refuse REASON PATTERN PLACE...: no file in these folders, or among these files, may include what matches PATTERN.
refuse() {
    local reason=$1 pattern=$2 folder folders=()
    shift 2
    for folder in "$@"; do
        [ ! -e "$folder" ] || folders+=("$folder")
    done
    [ "${#folders[@]}" -gt 0 ] || return 0
    if grep -rnE --include='*.[ch]' "^[[:space:]]*#[[:space:]]*include[[:space:]]*$pattern" \
        "${folders[@]}"; then
        printf '  ^ %s\n' "$reason"
        broken=1
    fi
}

refuse "core/base includes only core/base" '"core/(event|counts|slo|query|[^/]*\.h)' core/base
refuse "core/event includes only core/base" '"core/(counts|slo|query|[^/]*\.h)' core/event
refuse "core/counts includes only core/event and core/base" '"core/(slo|query|[^/]*\.h)' core/counts
refuse "core/slo includes only core/event and core/base" '"core/(counts|query|[^/]*\.h)' core/slo
refuse "only answers include core/query" '"core/query/' core/*.[ch]
refuse "core includes only core" '"(wal|storage|http|cli)/' core
refuse "wal includes only wal and core" '"(storage|http|cli)/' wal
refuse "storage includes only storage and core" '"(wal|http|cli)/' storage
refuse "http includes only http and core" '"(wal|storage|cli)/' http
refuse "nobody includes cli but its tests" '"cli/' fuzz bench tests/fakes
refuse "nobody includes fuzz or bench" '"(fuzz|bench)/' core wal storage http cli tests
refuse "the server does not include its tests" '"tests/' core wal storage http cli
refuse "LMDB is known to wal alone" '<lmdb\.h>' core storage http cli
refuse "the database client is known to storage alone" '<(mysql|mariadb)' core wal http cli
refuse "libuv and llhttp are known to http alone" '<(uv|llhttp)[./]' core wal storage cli
refuse "includes are written from the root" '"[^/]*"' core wal storage http cli tests fuzz bench

exit "$broken"
