#!/bin/bash
# Installs what is missing of the package groups named (see infra/packages.txt):
#   dependencies.sh build test
# Asks dpkg first, so it costs nothing when all is there; refreshes apt's lists only when an
# installation from the lists at hand fails.
set -euo pipefail

list=$(dirname "$0")/../packages.txt

die() {
    printf 'dependencies: %s\n' "$*" >&2
    exit 1
}

[ $# -gt 0 ] || die "usage: dependencies.sh GROUP..."

wanted=()
for group in "$@"; do
    mapfile -t packages < <(awk -v group="$group" '$1 == group { print $2 }' "$list")
    [ "${#packages[@]}" -gt 0 ] || die "no group '$group' in infra/packages.txt"
    wanted+=("${packages[@]}")
done

# Elsewhere than on Debian the packages have other names; the compiler will say what is missing.
if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    printf 'dependencies: no apt here; make sure these are installed: %s\n' "${wanted[*]}" >&2
    exit 0
fi

installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null |
    awk '$1 == "installed" { print $2 }' || true)
mapfile -t missing < <(printf '%s\n' "${wanted[@]}" | sort -u |
    grep -vxF -f <(printf '%s\n' "${installed:-none}") || true)
[ "${#missing[@]}" -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null ||
        die "neither root nor sudo; as root run: apt-get install ${missing[*]}"
    as_root=(sudo)
fi

apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" </dev/null
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
printf 'dependencies: installing %s\n' "${missing[*]}"
if ! apt install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
    apt update
    apt install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1 || {
        cat "$log" >&2
        die "apt-get could not install: ${missing[*]}"
    }
fi
