#!/bin/sh
# Runs a command where Swift is: here, if this system has it, or else in a tree of Debian that has it, which is made
# once and kept in the user's cache for all clones. There the project has the same path as here.
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
release=trixie
packages=swiftlang,libc6-dev,g++
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sessionstore
tree=$cache/debian-$release-swift

# Under its name a tree is complete: it is made under another, so that one that was interrupted is nobody's, and two
# that are made at once do not meet.
if [ ! -d "$tree" ]; then
    mkdir -p "$cache"
    new=$tree.$$
    trap 'rm -rf --one-file-system "$new"' EXIT
    trap 'exit 1' INT TERM HUP
    echo "swift: there is no swift on the PATH, so a tree of Debian $release is made for it in $tree, once." >&2
    debian_tree_make "$new" "$release" "$packages" "$cache/debootstrap-swift.log"
    debian_tree_run "$new" "" swift --version >>"$cache/debootstrap-swift.log" 2>&1 ||
        fail "the Swift of Debian $release does not run; see $cache/debootstrap-swift.log."
    rm -f "$new"/var/cache/apt/archives/*.deb
    mv -T "$new" "$tree" 2>/dev/null || [ -d "$tree" ] || fail "the tree cannot be put at $tree."
    rm -rf --one-file-system "$new"
    trap - EXIT INT TERM HUP
fi
debian_tree_run "$tree" "$project" "$@"
