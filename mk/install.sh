#!/bin/sh
# Lays down what was built, or takes it away again: mk/install.sh install|uninstall
# `make install` sets the variables; docs/install.md says what they are.
set -eu

fail() {
    echo "install: $*" >&2
    exit 1
}

# A directory under the prefix, as seen from it.
beneath() {
    case $1 in
    "${PREFIX%/}"/*) echo "${1#"${PREFIX%/}"/}" ;;
    *) fail "$1 is not under the prefix $PREFIX, so what is installed could not be moved." ;;
    esac
}
libdir=$(beneath "$LIBDIR")
includedir=$(beneath "$INCLUDEDIR")
bindir=$(beneath "$BINDIR")
datadir=$(beneath "$DATADIR")
root=${DESTDIR:-}${PREFIX%/}
top=$(cd "$(dirname "$0")/.." && pwd)

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$top/Cargo.toml" | head -n 1)
abi=$(sed -n 's/^const ABI: u32 = \([0-9]*\);$/\1/p' "$top/build.rs")
[ -n "$version" ] && [ -n "$abi" ] || fail "the version is not in Cargo.toml, or the number of the ABI not in build.rs."

# What the linker looks for, what programs look for when they start, and the file itself.
case $(uname -s) in
Darwin)
    link=libsessionstore.dylib
    soname=libsessionstore.$abi.dylib
    file=libsessionstore.$version.dylib
    ;;
*)
    link=libsessionstore.so
    soname=libsessionstore.so.$abi
    file=libsessionstore.so.$version
    ;;
esac

bash=$datadir/bash-completion/completions
zsh=$datadir/zsh/site-functions
fish=$datadir/fish/vendor_completions.d
man=$datadir/man/man1
doc=$datadir/doc/sessionstore
cmake=$libdir/cmake/SessionStore

uninstall() {
    cd "$root" 2>/dev/null || return 0
    rm -f "$libdir/$link" "$libdir/$soname" "$libdir/$file" "$libdir/libsessionstore.a" \
        "$libdir/pkgconfig/sessionstore.pc" \
        "$includedir/sessionstore.h" "$includedir/sessionstore.hpp" \
        "$bindir/sstore" "$man/sstore.1" "$man"/sstore-*.1 "$bash/sstore" "$zsh/_sstore" "$fish/sstore.fish"
    rm -rf "$cmake" "$doc"
}

# $1: path under the prefix, $2: mode; the content comes on stdin.
put() {
    mkdir -p "$root/$(dirname "$1")"
    # A new file: programs that run with the old one keep it.
    rm -f "$root/$1"
    cat >"$root/$1"
    chmod "$2" "$root/$1"
}

# $1: options of strip, $2: path under the prefix.
slim() {
    # shellcheck disable=SC2086 # Several options.
    [ -z "${STRIP:-}" ] || "$STRIP" $1 "$root/$2"
}

# The way up to the prefix from a directory under it.
up() {
    echo "$1" | sed 's,[^/][^/]*,..,g'
}

fill() {
    sed -e "s|@VERSION@|$version|g" -e "s|@LIBDIR@|$libdir|g" -e "s|@INCLUDEDIR@|$includedir|g" \
        -e "s|@PREFIX_FROM_PC@|$(up "$libdir/pkgconfig")|g" -e "s|@PREFIX_FROM_CMAKE@|$(up "$cmake")|g" \
        -e "s|@SHARED_FILE@|$file|g" -e "s|@SONAME@|$soname|g" -e "s|@POINTER_BYTES@|$pointer|g" \
        -e "s|@SYSTEM_LIBRARIES@|$libraries|g" -e "s|@SYSTEM_LIBRARIES_LIST@|$(echo "$libraries" | tr ' ' ';')|g" \
        "$top/bindings/c/package/$1.in"
}

install() {
    for built in "$LIBRARIES/$link" "$LIBRARIES/libsessionstore.a" "$LIBRARIES/licences.txt" "$PROGRAM"; do
        [ -f "$built" ] || fail "there is no $built: run \`make libraries\` first."
    done
    # What the static library needs of the system is recorded in one place.
    libraries=$(cat "$top/tests/c/native-static-libs.txt")
    pointer=$(echo __SIZEOF_POINTER__ | "${CC:-cc}" -E -P - | tr -d '[:space:]')

    put "$libdir/$file" 755 <"$LIBRARIES/$link"
    ln -sf "$file" "$root/$libdir/$soname"
    ln -sf "$soname" "$root/$libdir/$link"
    put "$libdir/libsessionstore.a" 644 <"$LIBRARIES/libsessionstore.a"
    put "$includedir/sessionstore.h" 644 <"$top/include/sessionstore.h"
    if [ -f "$top/bindings/cpp/include/sessionstore.hpp" ]; then
        put "$includedir/sessionstore.hpp" 644 <"$top/bindings/cpp/include/sessionstore.hpp"
    fi
    fill sessionstore.pc | put "$libdir/pkgconfig/sessionstore.pc" 644
    fill SessionStoreConfig.cmake | put "$cmake/SessionStoreConfig.cmake" 644
    fill SessionStoreConfigVersion.cmake | put "$cmake/SessionStoreConfigVersion.cmake" 644
    put "$bindir/sstore" 755 <"$PROGRAM"
    case $(uname -s) in
    Darwin)
        slim -x "$libdir/$file"
        slim -S "$libdir/libsessionstore.a"
        slim -x "$bindir/sstore"
        ;;
    *)
        slim --strip-unneeded "$libdir/$file"
        slim --strip-debug "$libdir/libsessionstore.a"
        slim --strip-all "$bindir/sstore"
        ;;
    esac

    mkdir -p "$root/$man"
    rm -f "$root/$man/sstore.1" "$root/$man"/sstore-*.1
    "$SSTORE" man "$root/$man"
    chmod 644 "$root/$man/sstore.1" "$root/$man"/sstore-*.1
    "$SSTORE" completions bash | put "$bash/sstore" 644
    "$SSTORE" completions zsh | put "$zsh/_sstore" 644
    "$SSTORE" completions fish | put "$fish/sstore.fish" 644
    put "$doc/LICENSE" 644 <"$top/LICENSE"
    put "$doc/licences.txt" 644 <"$LIBRARIES/licences.txt"
}

case ${1:-} in
install | uninstall) "$1" ;;
*) fail "usage: mk/install.sh install|uninstall" ;;
esac
