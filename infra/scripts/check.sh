#!/bin/bash
# `make check`: everything about the code that can be judged without running it. One line per step;
# a step that fails shows its output, and the others still run; one that returns 77 is skipped. check.sh STEP... runs only these.
# shellcheck disable=SC2317  # the steps are called by name
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

MAKE=${MAKE:-make}
jobs=$(nproc)
status=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mapfile -t sources < <(find core wal storage http cli tests fuzz bench -name '*.c' 2>/dev/null | sort)
mapfile -t headers < <(find core wal storage http cli tests fuzz bench -name '*.h' 2>/dev/null | sort)
# Contracts stand alone; what tests share among themselves need not.
mapfile -t contracts < <(printf '%s\n' "${headers[@]}" | grep -v '^tests/[iu]')
mapfile -t scripts < <(find infra bench tests .ci -type f \( -name '*.sh' -o -path .ci/run \) \
    2>/dev/null | sort)
# What the server is made of: analysed in depth; tests are only compiled and formatted.
mapfile -t product < <(printf '%s\n' "${sources[@]}" | grep -E '^(core|wal|storage|http|cli)/')

cpp_flags=$($MAKE -s --no-print-directory print-cppflags) || exit 1
read -r -a cpp_flags <<<"$cpp_flags"

each() { # each COMMAND...: runs it for every file read, a few at a time
    xargs -r -P "$jobs" -n 1 "$@"
}

check_format() {
    printf '%s\n' "${sources[@]}" "${headers[@]}" | xargs -r clang-format --dry-run -Werror
}

check_includes() {
    infra/scripts/check_includes.sh
}

# A file that includes one header twice: the header stands alone and has a guard.
check_headers() {
    local compiler header
    mkdir "$work/alone"
    for header in "${contracts[@]}"; do
        printf '#include "%s"\n#include "%s"\n' "$header" "$header" >"$work/alone/${header//\//-}.c"
    done
    for compiler in gcc clang; do
        find "$work/alone" -name '*.c' |
            each "$compiler" -std=c17 -fsyntax-only -Wall -Wextra -Werror "${cpp_flags[@]}" || return 1
    done
}

build_with() {
    "$MAKE" --no-print-directory -k -j"$jobs" CC="$1" CONFIG="$2" WERROR=1 all test-programs bench-programs
}

check_gcc() {
    build_with gcc debug && build_with gcc release
}

check_clang() {
    build_with clang debug && build_with clang release
}

check_tidy() {
    "$MAKE" -s --no-print-directory CC=clang compile_commands.json &&
        printf '%s\n' "${product[@]}" | each clang-tidy --quiet -p . --warnings-as-errors='*' 2>&1 |
        grep -vE '^[0-9]+ warnings? generated|^Suppressed |^Use -header-filter' >"$work/tidy"
    local result=("${PIPESTATUS[@]}")
    cat "$work/tidy"
    [ "${result[1]}" -eq 0 ] && ! grep -q 'error:' "$work/tidy"
}

# Left out: memleak (loses sight of memory stored in a struct literal; the clang analyser and
# LeakSanitizer do not), readdirCalled (glibc's is safe per directory), comparePointers (the bounds of
# embedded files), nullPointer*RedundantCheck and ctunullpointer (do not know that ASSERT ends), shiftNegativeLHS
# (gcc and clang both shift arithmetically).
check_cppcheck() {
    local id left_out=()
    for id in missingIncludeSystem memleak readdirCalled comparePointers \
        nullPointerArithmeticRedundantCheck nullPointerRedundantCheck ctunullpointer shiftNegativeLHS; do
        left_out+=("--suppress=$id")
    done
    cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 --library=posix -j "$jobs" \
        --enable=warning,performance,portability "${left_out[@]}" \
        --template='{file}:{line}: {severity}: {message} [{id}]' -I. "${product[@]}"
}

check_shell() {
    shellcheck -x "${scripts[@]}"
}

# README lists the settings the program has, and no link between the pages is broken.
check_docs() {
    local failed=0 page link
    "$MAKE" --no-print-directory -j"$jobs" CONFIG=debug all || return 1
    build/debug/sluice --help | sed -nE 's/^  ([A-Z][A-Z_]+) .*/\1/p' | sort >"$work/has"
    # shellcheck disable=SC2016  # the backquotes are Markdown's
    sed -nE 's/^\| `([A-Z][A-Z_]+)`.*/\1/p' README.md | sort >"$work/told"
    diff "$work/has" "$work/told" || {
        printf 'README.md does not list the settings of sluice --help\n'
        failed=1
    }
    while IFS=: read -r page link; do
        [ -e "$(dirname "$page")/$link" ] || {
            printf '%s: there is no %s\n' "$page" "$link"
            failed=1
        }
    done < <(grep -oHE '\]\([^)#:]+\)' ./*.md ./*/README.md | sed 's/](//; s/)$//')
    return "$failed"
}

# The container's last stage installs what the server links with. libc6 is in every image.
check_packages() {
    local failed=0 library package path
    "$MAKE" --no-print-directory -j"$jobs" CONFIG=debug all || return 1
    for library in $(objdump -p build/debug/sluice | awk '$1 == "NEEDED" { print $2 }'); do
        path=$(ldd build/debug/sluice | awk -v library="$library" '$1 == library { print $3 }')
        package=$(dpkg-query -S "*$path" 2>/dev/null | sed -n '1s/:.*//p')
        [ "$package" = libc6 ] || grep -qx "container $package" infra/packages.txt || {
            printf 'infra/packages.txt: %s of %s is not in the group container\n' "$library" "${package:-no package}"
            failed=1
        }
    done
    return "$failed"
}

check_openapi() {
    "$MAKE" --no-print-directory -j"$jobs" CONFIG=debug all >/dev/null && infra/scripts/lint_openapi.sh
}

steps=("$@")
[ $# -gt 0 ] || steps=(format includes headers gcc clang tidy cppcheck shell docs packages openapi)
for step in "${steps[@]}"; do
    began=$SECONDS
    code=0
    "check_$step" >"$work/output" 2>&1 || code=$?
    if [ "$code" -eq 0 ]; then
        printf 'ok      %-10s %s s\n' "$step" $((SECONDS - began))
    elif [ "$code" -eq 77 ]; then
        printf 'skipped %-10s %s\n' "$step" "$(tail -n 1 "$work/output")"
    else
        cat "$work/output"
        printf 'FAILED  %-10s %s s\n' "$step" $((SECONDS - began))
        status=1
    fi
done
exit "$status"
