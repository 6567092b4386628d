#!/bin/sh
# The HTTP API against its own document, by schemathesis: requests of every kind that the document allows, and many
# that it does not, each answered as the document says.
# usage: run.sh SSTORE DIRECTORY [SECONDS [SEED]]
set -eu

fail() {
    echo "http-api: $*" >&2
    exit 1
}
sstore=$1
directory=$2
seconds=${3:-30}
seed=${4:-1}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$directory"

server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || :
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

# The versions are fixed, so that what is asked does not change under the server.
python=$directory/python
if ! cmp -s "$here/requirements.txt" "$python/requirements.txt"; then
    rm -rf "$python"
    python3 -m venv "$python" || fail "python3 with venv is needed (Debian: python3-venv)"
    "$python/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt" || fail "schemathesis cannot be installed"
    cp "$here/requirements.txt" "$python/requirements.txt"
fi

SSTORE_API_SECRET=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
export SSTORE_API_SECRET
mkfifo "$directory/said.$$"
"$sstore" serve --port 0 >"$directory/said.$$" 2>"$directory/server.log" &
server=$!
read -r said <"$directory/said.$$" || fail "the server did not start: $(cat "$directory/server.log")"
rm -f "$directory/said.$$"
url=$(echo "$said" | sed -n 's|.*ws://\([0-9.:]*\).*|http://\1|p')
[ -n "$url" ] || fail "the server said: $said"
token=$("$sstore" token --api --scope read,write,manage --lifetime 1h)

# Not by schemathesis: the stream of events, which does not end; tests/http_api.rs has it. And not asked: whether all that the
# document allows is taken, because what a room holds decides as well, a version, a lock, a peer that is not there; whether what
# was removed is not found, because an absent key reads as null; whether what was made is still there, because a room that
# nobody joins ends.
cd "$directory"
"$python/bin/schemathesis" run "$url/v1/openapi.json" \
    --header "Authorization: Bearer $token" \
    --exclude-path '/v1/rooms/{room}/watch' \
    --exclude-checks positive_data_acceptance,use_after_free,ensure_resource_availability \
    --seed "$seed" --max-time "$seconds" --request-timeout 20 --warnings off --no-color
kill -0 "$server" 2>/dev/null || fail "the server has gone: $(cat "$directory/server.log")"
