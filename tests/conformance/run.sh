#!/bin/sh
# Autobahn|Testsuite against the server: its sockets, its handshake, its frames and the queue of a connection,
# with a server that says again what it is told in place of a room's answers (`ECHOES` in src/frames.rs).
#
# The suite needs Python 2.7, which is gone from current systems. So it lives in a Debian 11 tree of its own,
# which is made once, with the mirror that apt uses and the package index that pip uses.
# usage: run.sh SSTORE DIRECTORY [CASES]
set -eu

fail() {
    echo "conformance: $*" >&2
    exit 1
}
sstore=$1
mkdir -p "$2"
directory=$(cd "$2" && pwd)
cases=${3:-*}
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../../mk/debian-tree.sh"
# This very version, so that the cases do not change under the server.
suite=autobahntestsuite==25.10.1

server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || :
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

has_suite() {
    # The network and the package index as they are set up outside.
    for file in /etc/resolv.conf /etc/pip.conf /etc/ssl/certs/ca-certificates.crt ${PIP_CERT:+"$PIP_CERT"}; do
        if [ -f "$file" ]; then
            mkdir -p "$1$(dirname "$file")"
            cp "$file" "$1$file"
        fi
    done
    # The suite's own dependencies are installed by the pip they need, which is not Debian's changed one.
    debian_tree_run "$1" "" sh -c '
        pip=$(echo /usr/share/python-wheels/pip-*.whl)
        PYTHONPATH=$pip python2 -m pip install --no-cache-dir pip==20.3.4 && python2 -m pip install --no-cache-dir "$1"
    ' sh "$suite"
}

debian_tree_cached "${suite##*==}-autobahn" bullseye \
    python2,python2-dev,python-pip-whl,python-setuptools,gcc,libc6-dev,libffi-dev,libssl-dev,ca-certificates has_suite

in_tree() {
    debian_tree_run "$debian_tree" "$directory" "$@"
}

# The largest message of the cases has 16 MiB. All else is as it is by default.
fifo=$directory/url
rm -rf "$fifo" "$directory/report"
mkfifo "$fifo"
"$sstore" serve --port 0 --max-message-bytes 16777216 >"$fifo" 2>"$directory/server.log" &
server=$!
read -r url <"$fifo" || fail "the server did not start; see $directory/server.log."

# 12 and 13 are about compression, which the server does not offer.
cat >"$directory/fuzzingclient.json" <<END
{
    "outdir": "$directory/report",
    "servers": [{"agent": "sessionstore", "url": "$url/ws?room=echo"}],
    "cases": ["$cases"],
    "exclude-cases": ["12.*", "13.*"],
    "exclude-agent-cases": {}
}
END
in_tree wstest --mode fuzzingclient --spec "$directory/fuzzingclient.json" >"$directory/suite.log" 2>&1 ||
    fail "the suite could not be run; see $directory/suite.log."
kill -0 "$server" 2>/dev/null || fail "the server has ended meanwhile; see $directory/server.log."
cp "$here/check.py" "$directory/check.py"
# Of all cases but those excluded there are 301: a run of fewer shows less than it seems to.
fewest=1
[ "$cases" != '*' ] || fewest=301
in_tree python2 "$directory/check.py" "$directory/report/index.json" "$fewest" || fail "what was said in each case is in $directory/report/index.html."
