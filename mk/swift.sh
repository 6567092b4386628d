#!/bin/sh
# Runs a command where Swift is: here, if this system has it, or else in a tree of Debian that has it, which is made
# once. There the project has the same path as here.
# usage: swift.sh COMMAND...
set -eu

fail() {
    echo "swift: $*" >&2
    exit 1
}
[ "$#" -gt 0 ] || fail "usage: swift.sh COMMAND..."

! command -v swift >/dev/null || exec "$@"

project=$(cd "$(dirname "$0")/.." && pwd)
. "$project/mk/debian-tree.sh"
has_swift() {
    debian_tree_run "$1" "" swift --version
}
debian_tree_cached swift trixie swiftlang,libc6-dev,g++ has_swift
debian_tree_run "$debian_tree" "$project" "$@"
