#!/bin/sh
# Downloads, as it were: makes the archive, twice, unpacks it and uses what is in it.
# usage: tests/consumer/dist.sh DIRECTORY TARGET, run by `make test-dist`
set -eu

fail() {
    echo "test-dist: $*" >&2
    exit 1
}
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
rm -rf "$1"
mkdir -p "$1/unpacked"
work=$(cd "$1" && pwd)
archive=$(sh "$top/mk/dist.sh" "$work/first" "$2" | tail -n 1)
again=$(sh "$top/mk/dist.sh" "$work/second" "$2" | tail -n 1)
cmp "$archive" "$again" || fail "the archive is another one when it is made again."
(cd "$(dirname "$archive")" && sha256sum --check --quiet ./*.sha256) || fail "the checksum is not that of the archive."

# Sorted, of nobody, of one time, in one directory.
tar --list --verbose --numeric-owner --full-time --file "$archive" >"$work/list"
awk '{ print $2, $4, $5 }' "$work/list" | sort -u >"$work/who-and-when"
[ "$(wc -l <"$work/who-and-when")" -eq 1 ] && grep -q '^0/0 ' "$work/who-and-when" ||
    fail "files have owners or times of their own: $(head -n 3 "$work/who-and-when")"
name=$(basename "$archive" .tar.gz)
tar --list --file "$archive" >"$work/names"
! grep -v "^$name/" "$work/names" || fail "these are not in the directory $name."
for file in README.md LICENSE CHANGELOG.md ABI.md docs/README.md docs/install.md include/sessionstore.h lib/libsessionstore.a \
    lib/libsessionstore.so bin/sstore share/man/man1/sstore.1 share/bash-completion/completions/sstore \
    share/doc/sessionstore/licences.txt bindings/c/examples/spotlight.c; do
    grep -qx "$name/$file" "$work/names" || fail "$file is not in the archive."
done
# A wrapper that the tree has is there too.
for header in $(cd "$top" && git ls-files bindings); do
    grep -qx "$name/$header" "$work/names" || fail "$header is not in the archive."
done

tar --extract --directory "$work/unpacked" --file "$archive"
sh "$here/use.sh" "$work/unpacked/$name" "$work/use"
# The examples that are in it, as its README says.
cmake -S "$work/unpacked/$name/bindings/c" -B "$work/examples" >"$work/last.log" 2>&1 &&
    cmake --build "$work/examples" >"$work/last.log" 2>&1 || { cat "$work/last.log" >&2 && fail "the C examples in it cannot be built."; }

# Its server and its command line, and an example at it.
mkfifo "$work/url"
"$work/unpacked/$name/bin/sstore" serve --port 0 >"$work/url" 2>"$work/server.log" &
server=$!
trap 'kill "$server" 2>/dev/null || :' EXIT
read -r url <"$work/url" || fail "the server did not start; see $work/server.log."
# The example ends with its input, so that stays open until it has told what it pinned.
mkfifo "$work/input" "$work/output"
timeout 60 "$work/examples/pinned_text" "$url" lobby Ana <"$work/input" >"$work/output" 2>&1 &
example=$!
exec 3>"$work/input" 4<"$work/output"
echo 'Welcome!' >&3
told=
while [ "$told" != 'pinned by Ana: Welcome!' ]; do
    read -r told <&4 || fail "an example ended before it told what it pinned; last it said: $told"
done
exec 3>&-
wait "$example" || fail "an example does not end well."
"$work/unpacked/$name/bin/sstore" set --url "$url" --room lobby spotlight '"peer-1"' >"$work/last.log" 2>&1 ||
    { cat "$work/last.log" >&2 && fail "sstore cannot set a key."; }
kill "$server"
wait "$server" || fail "the server does not end well; see $work/server.log."
trap - EXIT
echo "test-dist: $name.tar.gz, made twice alike, unpacked, and used"
