#!/bin/sh
# Unpacks Debian's Rust compiler and the source of its standard library, of the same version, into a directory of
# its own, and writes a `rustc` there: mk/debian-rust.sh DIRECTORY PACKAGE...
# Nothing of the system changes. DIRECTORY is absolute.
set -eu
directory=$1
shift
[ ! -x "$directory/rustc" ] || exit 0

if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "The source of the standard library is needed; please install it: rustup component add rust-src" >&2
    exit 1
fi
rm -rf "$directory.new"
mkdir -p "$directory.new/packages"
cd "$directory.new/packages"
# What they need of each other and of LLVM; everything else is there where a C compiler is.
[ "$(id -u)" != 0 ] || apt-get update >/dev/null
also=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$@" |
    grep -E '^(libstd-rust-web-[0-9.]+|libllvm[0-9.]+)$' | sort -u)
# shellcheck disable=SC2086 # One package a word.
apt-get download -q -o APT::Sandbox::User=root "$@" $also >/dev/null || {
    echo "Debian's packages cannot be had: $* $also. Install the source of the standard library instead:" \
        "rustup component add rust-src" >&2
    exit 1
}
for package in *.deb; do dpkg-deb --extract "$package" ../root; done
cd ..
rm -rf packages
cat >rustc <<'END'
#!/bin/sh
root=$(dirname "$0")/root/usr
LD_LIBRARY_PATH=$root/lib/$(uname -m)-linux-gnu:$root/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec "$root/bin/rustc" "$@"
END
chmod +x rustc
./rustc -vV >/dev/null
mv "$directory.new" "$directory"
