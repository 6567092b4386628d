#!/bin/sh
# Writes down the ABI of include/sessionstore.h as that of its minor version: tests/abi/MAJOR.MINOR
set -eu
here=$(cd "$(dirname "$0")" && pwd)
header=$here/../../include/sessionstore.h
version=$(sed -n 's/^#define SESSIONSTORE_VERSION "\([0-9]*\.[0-9]*\)\..*"$/\1/p' "$header")
[ -n "$version" ] || { echo "the header has no version" >&2; exit 1; }
record=$here/$version
# What an earlier release of this minor version promised is promised still.
if [ -f "$record/sessionstore.abi" ] && ! sh "$here/compare.sh" "$record" "$header"; then
    echo "Nothing was written: that would break what $record promises. ABI.md says how to do that on purpose." >&2
    exit 1
fi
mkdir -p "$record"
cp "$header" "$record/sessionstore.h"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sh "$here/declared.sh" "$header" "$work/declared.so"
abidw --no-architecture --no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed --no-parameter-names \
    --type-id-style hash --out-file "$record/sessionstore.abi" "$work/declared.so"
echo "$record has the ABI of $version"
