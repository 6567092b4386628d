#!/bin/sh
# Makes the Debian packages of what is built: packaging/deb.sh CARGO_DEB, run by `make deb`
set -eu
cargo_deb=$1
cd "$(dirname "$0")/.."

fail() {
    echo "deb: $*" >&2
    exit 1
}
for tool in dpkg-architecture dpkg-shlibdeps; do
    command -v $tool >/dev/null || fail "$tool is missing; please install Debian's dpkg-dev."
done
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
abi=$(sed -n 's/^const ABI: u32 = \([0-9]*\);$/\1/p' build.rs)
# What Cargo.toml cannot say in one place.
grep -q "^name = \"libsessionstore$abi\"$" Cargo.toml || fail "Cargo.toml names the library's package after another ABI than $abi."
grep -q "^depends = \"libsessionstore$abi (= $version-1)\"$" Cargo.toml ||
    fail "in Cargo.toml libsessionstore-dev has to depend on \"libsessionstore$abi (= $version-1)\"."

stage=target/debian/stage
rm -rf "$stage" target/debian/packages
make --no-print-directory install-strip CARGO=: DESTDIR="$PWD/$stage" PREFIX=/usr \
    LIBDIR="/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH)"
for variant in library development program; do
    "$cargo_deb" deb --variant "$variant" --no-build --no-strip --no-separate-debug-symbols --output target/debian/packages/
done
