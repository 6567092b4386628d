#!/bin/sh
# What of an older ABI a header breaks: a line for each, and exit code 1. New functions, constants and members at the
# end of a struct break nothing.
# usage: tests/abi/compare.sh RECORD HEADER, where RECORD is a directory such as tests/abi/0.1
set -eu
record=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
broken=0
tell() {
    sed "s/^/$1: /" "$2"
    broken=1
}
# What is in the older list and not in the newer one.
gone() {
    comm -23 "$work/old" "$work/new" >"$work/gone"
    [ ! -s "$work/gone" ] || tell "$1" "$work/gone"
}

mkdir "$work/header"
cp "$2" "$work/header/sessionstore.h"
sh "$here/constants.sh" "$record/sessionstore.h" >"$work/old"
sh "$here/constants.sh" "$work/header/sessionstore.h" >"$work/new"
[ -s "$work/old" ] || { echo "$record: no constants were recognized" >&2; exit 2; }
gone "a constant is gone or has another value"

sh "$here/layouts.sh" "$record/sessionstore.h" | sort >"$work/old"
sh "$here/layouts.sh" "$work/header/sessionstore.h" | sort >"$work/new"
grep -q 'at 0, 4 bytes' "$work/old" || { echo "$record: no structs were recognized" >&2; exit 2; }
gone "a member of a struct is gone, elsewhere, or of another size"
# The next member would be put there, where an older program has nothing or anything.
grep 'ends with bytes' "$work/new" >"$work/ends" && tell "no room for a later member" "$work/ends"

# Functions, their parameters and results, those of callbacks too. abidiff cannot tell members at the end of a struct
# from a break, so it is shown the structs without the members that the older header has not; that they are at the end
# was looked at above.
cut -d ' ' -f 1 "$work/old" >"$work/known"
awk 'FNR == NR { known[$1]; sub(/\..*/, "", $1); structs[$1]; next }
    /^typedef struct \{/ { count = 0; inside = 1 }
    !inside { print; next }
    { lines[++count] = $0 }
    /^} sessionstore_/ {
        inside = 0
        name = $2
        sub(/;.*/, "", name)
        for (i = 1; i <= count; i++) {
            member = lines[i]
            if (name in structs && member ~ /^  [a-z]/) {
                if (member ~ /\(\*/) { sub(/^[^(]*\(\*/, "", member); sub(/\).*$/, "", member) }
                else { sub(/;.*$/, "", member); sub(/^.*[ *]/, "", member) }
                if (!((name "." member) in known)) continue
            }
            print lines[i]
        }
    }' "$work/known" "$work/header/sessionstore.h" >"$work/trimmed.h"
sh "$here/declared.sh" "$work/trimmed.h" "$work/declared.so"
code=0
abidiff --no-architecture --no-added-syms "$record/sessionstore.abi" "$work/declared.so" \
    >"$work/differences" 2>&1 || code=$?
if [ "$((code & 3))" -ne 0 ]; then
    cat "$work/differences" >&2
    echo "abidiff could not compare" >&2
    exit 2
fi
[ "$code" -eq 0 ] || tell abidiff "$work/differences"
exit "$broken"
