#!/bin/sh
# Builds the library that phones link, prints how large it is and what that is spent on, and compares it with the table
# in docs/size.md: mk/size.sh [record], which writes the table instead.
set -eu
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
page=docs/size.md
# Compilers differ by less than this from one version to the next; who adds a dependency adds more.
tolerance=3

fail() {
    echo "size: $*" >&2
    exit 1
}
host=$(rustc -vV | sed -n 's/^host: //p')
failed=0
rows=
for features in client client,tls; do
    # One kind of library at a time: as a Rust library too it would not be optimized as a whole. With its symbols,
    # to see what they are; what phones get is stripped.
    CARGO_PROFILE_PHONE_STRIP=none $cargo rustc --locked --profile phone --lib --crate-type cdylib --no-default-features \
        --features "$features" >&2
    library=target/phone/libsessionstore.so
    stripped=target/phone/stripped.so
    strip --strip-all -o "$stripped" "$library"
    bytes=$(wc -c <"$stripped" | tr -d ' ')
    # No server and no command line, whatever the size.
    if nm --defined-only --demangle "$library" | grep -e 'sessionstore::server::' -e 'sessionstore::cli::' | head -n 3 | grep .; then
        fail "the client-only build has parts of the server or the command line."
    fi

    printf '\n--features %s: %s bytes stripped\n\n' "$features" "$bytes"
    echo "    of that, by section (KiB):"
    size -A "$stripped" | awk '$2 >= 4096 { printf "%8.0f  %s\n", $2 / 1024, $1 }' | sort -rn | head -n 8
    echo "    code, by the crate that it comes from (KiB):"
    nm --print-size --size-sort --defined-only --demangle "$library" | awk '
        tolower($3) == "t" || tolower($3) == "w" {
            bytes = 0
            digits = $2
            for (i = 1; i <= length(digits); i++) bytes = bytes * 16 + index("0123456789abcdef", substr(digits, i, 1)) - 1
            $1 = $2 = $3 = ""
            name = $0
            sub(/^ +/, "", name)
            # The C API has no crate in its names, and nor have functions of C and assembler, which are of ring.
            if (name ~ /^sessionstore_/) { of["sessionstore"] += bytes; next }
            if (name !~ /::/) { of["(C and assembler of ring)"] += bytes; next }
            # <T as Trait>::function is counted for the type, whatever is around it.
            gsub(/^[<&*(\[]+(mut |const |dyn )?[<&*(\[]*/, "", name)
            sub(/::.*$/, "", name)
            sub(/^.*[^A-Za-z0-9_]/, "", name)
            of[name] += bytes
        }
        END { for (name in of) printf "%8.0f  %s\n", of[name] / 1024, name }' | sort -rn | head -n 20

    recorded=$(sed -n "s/^| \`$features\` | $host | \([0-9,]*\) |.*$/\1/p" "$page" | tr -d ,)
    grouped=$(echo "$bytes" | rev | sed 's/\([0-9]\{3\}\)/\1,/g; s/,$//' | rev)
    rows="$rows| \`$features\` | $host | $grouped |\n"
    if [ "${1:-}" != record ]; then
        if [ -z "$recorded" ]; then
            echo "$page has no row for \`$features\` on $host: \`make size SIZE_RECORD=record\` writes it." >&2
            failed=1
        elif [ $((bytes * 100)) -gt $((recorded * (100 + tolerance))) ]; then
            echo "It has grown from $recorded to $bytes bytes. If that is worth it, \`make size SIZE_RECORD=record\` writes it into $page." >&2
            failed=1
        elif [ $((bytes * 100)) -lt $((recorded * (100 - tolerance))) ]; then
            echo "It has shrunk from $recorded to $bytes bytes: \`make size SIZE_RECORD=record\` writes it into $page." >&2
            failed=1
        fi
    fi
done
if [ "${1:-}" = record ]; then
    { sed '/^| `client`/,$d' "$page" && printf '%b' "$rows" && sed '1,/^| `client,tls`/d' "$page"; } >"$page.new"
    mv "$page.new" "$page"
fi
exit "$failed"
