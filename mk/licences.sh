#!/bin/sh
# Prints the licences of everything that is linked into the library and sstore: who passes those on passes these on.
# usage: mk/licences.sh [OPTIONS OF cargo tree]
set -eu
cargo=${CARGO:-cargo}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "licences: $*" >&2
    exit 1
}

"$cargo" tree --locked --edges normal --prefix none --format '{p}|{l}' "$@" >"$work/tree"
sed -e 's/ (\*)$//' -e 's/ (proc-macro)//' "$work/tree" | grep -v '^sessionstore ' | sort -u >"$work/packages"
[ -s "$work/packages" ] || fail "cargo tells of no dependencies."

cat <<'END'
libsessionstore and sstore contain these packages, each under its own licence, as each of them says below, and the
standard library of Rust (MIT OR Apache-2.0, https://www.rust-lang.org). SQLite is in the public domain.
END
while IFS='|' read -r package licence; do
    name=${package%% v*}
    version=${package##* v}
    # Where cargo keeps the sources of what it has built.
    found=
    for directory in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$name-$version"; do
        [ ! -d "$directory" ] || found=$directory
    done
    [ -n "$found" ] || fail "the source of $name $version is not where cargo keeps sources."
    printf '\n\n==== %s %s (%s)\n' "$name" "$version" "$licence"
    for text in "$found"/LICEN[CS]E* "$found"/COPYING* "$found"/COPYRIGHT* "$found"/NOTICE* "$found"/UNLICENSE* \
        "$found"/licen[cs]e* "$found"/LICENSES/*; do
        [ -f "$text" ] || continue
        # Many have the same text: it is there once.
        seen=$work/$(cksum <"$text" | tr -d ' ')
        if [ -f "$seen" ]; then
            printf '\n---- %s: the same as %s\n' "${text##*/}" "$(cat "$seen")"
        else
            echo "${text##*/} of $name $version" >"$seen"
            printf '\n---- %s\n\n' "${text##*/}"
            cat "$text"
        fi
    done
done <"$work/packages"
