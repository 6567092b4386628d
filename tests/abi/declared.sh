#!/bin/sh
# Builds a shared library in C that has what a header declares, each function empty, with full debug information:
# the ABI as programs see it, in a form that libabigail reads. ABI.md says why it is not the library itself.
# usage: tests/abi/declared.sh HEADER LIBRARY.so
set -eu
abi=$(sed -n 's/^const ABI: u32 = \([0-9]*\);$/\1/p' "$(dirname "$0")/../../build.rs")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$1" "$work/sessionstore.h"
{
    echo '#include "sessionstore.h"'
    # A declaration that ends with `);` at the outermost level is a function's; what it returns can be 0.
    "${CC:-cc}" -E -P "$work/sessionstore.h" | tr '\n' ' ' | sed 's/;/;\n/g' |
        sed -n -e 's/^ *\(void sessionstore_[a-z0-9_]*(.*)\);$/\1 {}/p' \
            -e 's/^ *\([a-z][a-z0-9_ ]*[ *]sessionstore_[a-z0-9_]*(.*)\);$/\1 { return 0; }/p'
} >"$work/declared.c"
# From its own directory, so that the debug information has no path of a machine.
output=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
(cd "$work" && "${CC:-cc}" -std=c99 -g -O0 -w -shared -fPIC -Wl,-soname,"libsessionstore.so.$abi" -o "$output" declared.c)
