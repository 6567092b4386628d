#!/bin/sh
# Prints the path of a compiler that has the source of its standard library, for those who compile that too:
# mk/rustc-with-source.sh DIRECTORY
# It is the one in use if it has (`rustup component add rust-src`). Otherwise Debian's, of the same version as its
# source, is unpacked into DIRECTORY, which is absolute, with a `rustc` there. Nothing of the system changes.
set -eu
directory=$1
packages="rustc-web libstd-rust-web-dev rust-web-src"
if [ -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ]; then
    command -v rustc
    exit
fi
if [ -x "$directory/rustc" ]; then
    echo "$directory/rustc"
    exit
fi

if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "The source of the standard library is needed; please install it: rustup component add rust-src" >&2
    exit 1
fi
rm -rf "$directory.new"
mkdir -p "$directory.new/packages"
cd "$directory.new/packages"
# What they need of each other and of LLVM; everything else is there where a C compiler is.
[ "$(id -u)" != 0 ] || apt-get update >/dev/null
# shellcheck disable=SC2086 # One package a word, here and below.
also=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances $packages |
    grep -E '^(libstd-rust-web-[0-9.]+|libllvm[0-9.]+)$' | sort -u)
apt-get download -q -o APT::Sandbox::User=root $packages $also >/dev/null || {
    echo "Debian's packages cannot be had: $packages $also. Install the source of the standard library instead:" \
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
echo "$directory/rustc"
