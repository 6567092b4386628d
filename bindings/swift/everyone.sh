#!/bin/sh
# The Swift peer of the test of all languages, wherever Swift is: everyone.sh URL ROOM NAME COUNT
# `make swift-everyone` builds it.
set -eu
project=$(cd "$(dirname "$0")/../.." && pwd)
[ -x "$project/build/swift/6/debug/everyone" ] || {
    echo "everyone: it is not built yet: make swift-everyone" >&2
    exit 1
}
exec sh "$project/mk/swift.sh" "$project/build/swift/6/debug/everyone" "$@"
