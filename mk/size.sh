#!/bin/sh
# Builds the library that phones link, prints how large it is and what that is spent on, and compares it with the table
# in docs/size.md: mk/size.sh [record], which writes the table instead.
set -eu
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
record=${1:-}
page=docs/size.md
# Compilers differ by less than this from one version to the next; who adds a dependency adds more.
tolerance=3

fail() {
    echo "size: $*" >&2
    exit 1
}
host=$(rustc -vV | sed -n 's/^host: //p')
arm=aarch64-unknown-linux-gnu
failed=0
rows=

# FEATURES TARGET LIBRARY: builds a shared library and says where it is. LIBRARY is `shipped`, for the standard library
# that comes with the compiler, or `compiled`, for one that is compiled with it, for size, without what backtraces are
# made from and without the places in the source that messages of panics name. Stable compilers do that with
# RUSTC_BOOTSTRAP alone. With its symbols, to see what they are; what phones get is stripped.
build() (
    target=$2 library=$3
    set -- --locked --profile phone --lib --crate-type cdylib --no-default-features --features "$1"
    export CARGO_PROFILE_PHONE_STRIP=none
    if [ "$library" = shipped ]; then
        $cargo rustc "$@" >&2
        echo target/phone/libsessionstore.so
    else
        RUSTC=$(sh mk/rustc-with-source.sh "$PWD/target/tools/debian-rust")
        export RUSTC
        # For the C in ring.
        export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
        RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zlocation-detail=none $cargo rustc "$@" --target "$target" --target-dir target/compiled \
            -Zbuild-std=std,panic_unwind -Zbuild-std-features=optimize_for_size,panic-unwind >&2
        echo "target/compiled/$target/phone/libsessionstore.so"
    fi
)

# One kind of library at a time: as a Rust library too it would not be optimized as a whole.
for what in "client $host shipped" "client,tls $host shipped" "client,tls12 $host shipped" "client,tls $host compiled" \
    "client,tls $arm compiled"; do
    # shellcheck disable=SC2086 # Three words.
    set -- $what
    features=$1 target=$2 library_of=$3
    # shellcheck disable=SC2086 # Three words.
    library=$(build $what)
    stripped=target/phone-stripped.so
    strip=strip
    [ "$target" = "$host" ] || strip=aarch64-linux-gnu-strip
    $strip --strip-all -o "$stripped" "$library"
    bytes=$(wc -c <"$stripped" | tr -d ' ')
    # No server and no command line, whatever the size.
    if nm --defined-only --demangle "$library" | grep -e 'sessionstore::server::' -e 'sessionstore::cli::' | head -n 3 | grep .; then
        fail "the client-only build has parts of the server or the command line."
    fi

    printf '\n--features %s for %s, standard library %s: %s bytes stripped\n\n' "$features" "$target" "$library_of" "$bytes"
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

    row="| \`$features\` | $target | $library_of |"
    recorded=$(sed -n "s/^$row \([0-9,]*\) |.*$/\1/p" "$page" | tr -d ,)
    grouped=$(echo "$bytes" | rev | sed 's/\([0-9]\{3\}\)/\1,/g; s/,$//' | rev)
    rows="$rows$row $grouped |\n"
    if [ "$record" != record ]; then
        if [ -z "$recorded" ]; then
            echo "$page has no row $row: \`make size SIZE_RECORD=record\` writes it." >&2
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
if [ "$record" = record ]; then
    { sed '/^| `client`/,$d' "$page" && printf '%b' "$rows" && sed '1,/^| `client`/d' "$page" | sed '/^| `client/d'; } >"$page.new"
    mv "$page.new" "$page"
fi
exit "$failed"
