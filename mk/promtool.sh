#!/bin/sh
# Unpacks promtool of Debian's package `prometheus` into a directory: mk/promtool.sh DIRECTORY
# Nothing of the system changes; to install the package would start a server. DIRECTORY is absolute.
set -eu
directory=$1
[ ! -x "$directory/promtool" ] || exit 0

if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "promtool checks the metrics; please install Prometheus, so that there is /usr/bin/promtool" >&2
    exit 1
fi
# Tests run side by side.
new=$directory.$$
rm -rf "$new"
mkdir -p "$new"
cd "$new"
[ "$(id -u)" != 0 ] || apt-get update >/dev/null || true
apt-get download -q -o APT::Sandbox::User=root prometheus >/dev/null || {
    echo "Debian's package prometheus cannot be had; please install it, so that there is /usr/bin/promtool" >&2
    exit 1
}
dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool
mv usr/bin/promtool .
rm -rf usr prometheus_*.deb
mkdir -p "$directory"
mv promtool "$directory/promtool"
rmdir "$new"
