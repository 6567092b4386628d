#!/bin/sh
# Builds and runs the programs of this directory with what is installed somewhere, by CMake and by pkg-config.
# usage: use.sh PREFIX DIRECTORY [static]
# DIRECTORY is for what is built. With `static` there is no shared library, as some package managers have it.
set -eu

fail() {
    echo "consumer: $*" >&2
    exit 1
}
here=$(cd "$(dirname "$0")" && pwd)
prefix=$1
linkages=${3:-shared static}
rm -rf "$2"
mkdir -p "$2/project"
work=$(cd "$2" && pwd)
run() {
    "$@" >"$work/last.log" 2>&1 || {
        cat "$work/last.log" >&2
        fail "this failed: $*"
    }
}
# What is at the prefix is what counts, and what its packages say is where it is.
unset LD_LIBRARY_PATH CPATH LIBRARY_PATH
libdir=$(dirname "$(find "$prefix/lib" -name libsessionstore.a | head -n 1)")
[ -f "$libdir/pkgconfig/sessionstore.pc" ] || fail "there is no sessionstore.pc beside the libraries under $prefix/lib."
export PKG_CONFIG_PATH="$libdir/pkgconfig"
version=$(pkg-config --modversion sessionstore)
[ ! -f "$prefix/include/sessionstore.hpp" ] || cpp=yes

# Copied away, so that nothing of the tree is near them.
cp "$here"/CMakeLists.txt "$here"/consumer.* "$work/project"
cp -r "$here/versions" "$work/versions"
case $linkages in static) static=ON ;; *) static=OFF ;; esac
run cmake -S "$work/project" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$prefix" "-DLINKAGES=$(echo "$linkages" | tr ' ' ';')" \
    -DSESSIONSTORE_USE_STATIC=$static
run cmake --build "$work/cmake"
run ctest --test-dir "$work/cmake" --output-on-failure --no-tests=error
for linkage in $linkages; do
    grep -q "consumer_$linkage .*Passed" "$work/last.log" || fail "CMake did not run the program with the $linkage library."
done
[ -z "${cpp:-}" ] || grep -q 'consumer_cpp .*Passed' "$work/last.log" || fail "CMake did not run the C++ program."
run cmake -S "$work/versions" -B "$work/cmake-versions" -DCMAKE_PREFIX_PATH="$prefix" -DVERSION="$version"

strict="-Wall -Wextra -Wpedantic -Werror"
cd "$work/project"
# shellcheck disable=SC2046,SC2086 # Flags are several words.
if [ $static = OFF ]; then
    run cc -std=c99 $strict -o "$work/shared" consumer.c $(pkg-config --cflags --libs sessionstore)
    run env LD_LIBRARY_PATH="$libdir" "$work/shared"
    readelf -d "$work/shared" | grep -q 'NEEDED.*\[libsessionstore\.so\.[0-9]*\]' || fail "the program does not need the shared library by its SONAME."
    run cc -std=c99 $strict -o "$work/static" consumer.c $(pkg-config --cflags sessionstore) $(pkg-config --variable=static sessionstore)
    if [ -n "${cpp:-}" ]; then
        run c++ -std=c++17 $strict -o "$work/cpp" consumer.cpp $(pkg-config --cflags --libs sessionstore)
        run env LD_LIBRARY_PATH="$libdir" "$work/cpp"
    fi
else
    run cc -std=c99 $strict -o "$work/static" consumer.c $(pkg-config --static --cflags --libs sessionstore)
fi
run "$work/static"
for program in "$work/static" "$work/cmake/consumer_static"; do
    ! readelf -d "$program" | grep -q 'NEEDED.*sessionstore' || fail "$program needs the shared library."
done
echo "SessionStore $version in $prefix: used by CMake and pkg-config, $linkages, in C${cpp:+ and C++}"
