#!/bin/bash
# unpack.sh: lays the programs of the group `unpacked` (infra/packages.txt) under build/unpacked. They
# come from packages that start a service when they are installed, and the tests want the programs alone.
# Costs nothing when they are there. Where it cannot (no apt, no network) it says so and exits with 0:
# the tests that need a program skip, and name it.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

mapfile -t packages < <(awk '$1 == "unpacked" { print $2 }' infra/packages.txt)
into=$PWD/build/unpacked
# A package counts as there when all its programs are: its mark is made last.
missing=()
for package in "${packages[@]}"; do
    [ -e "$into/.$package" ] || missing+=("$package")
done
[ "${#missing[@]}" -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    printf 'unpack: no apt here, without %s\n' "${missing[*]}" >&2
    exit 0
fi

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Not into build/ itself: root's apt fetches as another user, who may not be able to write there.
fetch() {
    chmod 755 "$work"
    (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "${missing[@]}") >"$work/log" 2>&1 </dev/null
}

printf 'unpack: fetching %s\n' "${missing[*]}"
fetch || { "${as_root[@]}" apt-get -qq update >/dev/null 2>&1 </dev/null && fetch; } || {
    cat "$work/log" >&2
    printf 'unpack: without %s\n' "${missing[*]}" >&2
    exit 0
}
mkdir -p "$into"
for package in "${missing[@]}"; do
    if dpkg-deb --fsys-tarfile "$work/$package"_*.deb | tar -x -C "$into" ./usr/bin; then
        : >"$into/.$package"
    else
        printf 'unpack: without %s\n' "$package" >&2
    fi
done
