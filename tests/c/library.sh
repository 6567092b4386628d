#!/bin/sh
# What the shared library must be, whoever built it: tests/c/library.sh LIB_DIR INCLUDE_DIR
#
# Its exported symbols are the functions of the header, no more and no less; its SONAME has the number
# of the ABI; it stays loaded after dlclose(); its segments load where pages are 16 KB.
set -eu
[ $# -eq 2 ] || { echo "usage: tests/c/library.sh LIB_DIR INCLUDE_DIR" >&2; exit 2; }
library=$1/libsessionstore.so
header=$2/sessionstore.h
failed=0
fail() { echo "FAILED: $1" >&2; failed=1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

nm -D --defined-only "$library" | awk '{ print $NF }' | sed 's/@.*//' | sort >"$work/exported"
# The compiler says what the header declares; comments have code of their own.
printf '#include "%s"\n' "$header" | cc -E -P -x c - | tr '\n' ' ' | tr ';' '\n' |
    sed -n 's/^.*[ *]\(sessionstore_[a-z0-9_]*\)(.*$/\1/p' | sort -u >"$work/declared"
[ -s "$work/exported" ] || fail "$library exports nothing"
[ "$(wc -l <"$work/declared")" -gt 50 ] || fail "the functions of $header were not recognized"
comm -23 "$work/exported" "$work/declared" >"$work/hidden"
comm -13 "$work/exported" "$work/declared" >"$work/missing"
[ ! -s "$work/hidden" ] || fail "exported, but not in the header: $(tr '\n' ' ' <"$work/hidden")"
[ ! -s "$work/missing" ] || fail "in the header, but not exported: $(tr '\n' ' ' <"$work/missing")"

readelf -dW "$library" >"$work/dynamic"
grep -q 'SONAME.*\[libsessionstore\.so\.0\]' "$work/dynamic" || fail "the SONAME is not libsessionstore.so.0"
grep -q 'FLAGS_1.*NODELETE' "$work/dynamic" || fail "the library is not marked NODELETE"
# Programs must run where only these are.
needed=$(sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' "$work/dynamic" |
    grep -v -x -e 'libc\.so\.6' -e 'libm\.so\.6' -e 'libgcc_s\.so\.1' -e 'libpthread\.so\.0' -e 'libdl\.so\.2' \
        -e 'librt\.so\.1' -e 'ld-linux.*' | tr '\n' ' ') || true
[ -z "$needed" ] || fail "the library needs other libraries than the system's: $needed"

readelf -lW "$library" | awk '$1 == "LOAD" { print $NF }' >"$work/alignments"
[ -s "$work/alignments" ] || fail "the library has no segments to load"
grep -v -x '0x4000' "$work/alignments" >"$work/misaligned" || true
[ ! -s "$work/misaligned" ] || fail "segments are not aligned to 16 KB: $(tr '\n' ' ' <"$work/misaligned")"

[ "$failed" -eq 0 ] && echo "$library: $(wc -l <"$work/exported") functions, as the header says"
exit "$failed"
