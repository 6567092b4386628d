#!/bin/sh
# The whole thing, end to end: builds the library and the C examples, and plays a session with several
# processes in one room. The exit code says whether everything happened as it should.
set -eu
cd "$(dirname "$0")/.."

command -v cargo >/dev/null || { echo "demo: cargo is missing; install Rust from https://rustup.rs" >&2; exit 1; }
cc=${CC:-cc}
command -v "$cc" >/dev/null || { echo "demo: there is no C compiler ($cc); set CC or install one" >&2; exit 1; }

target=${CARGO_TARGET_DIR:-target}
echo "Building the library (the first time takes a minute or two) and the C examples..."
# Not optimized, which is enough to look at, and there sooner.
cargo build --quiet --lib --no-default-features --features client,server

mkdir -p "$target/demo"
out=$(cd "$target/demo" && pwd)
library=$(cd "$target/debug" && pwd)
# The name that programs look for at run time; see build.rs.
case $(uname -s) in
  Darwin) ln -sf "$library/libsessionstore.dylib" "$out/libsessionstore.0.dylib" ;;
  *) ln -sf "$library/libsessionstore.so" "$out/libsessionstore.so.0" ;;
esac
for source in bindings/c/examples/*.c; do
  program=$(basename "$source" .c)
  "$cc" -std=c99 -O2 -Wall -Wextra -Wpedantic -I include -o "$out/$program" "$source" \
    -L "$library" -lsessionstore -Wl,-rpath,"$out"
done
"$cc" -std=c99 -O2 -Wall -Wextra -Wpedantic -o "$out/conductor" demo/conductor.c

exec "$out/conductor" "$out"
