#!/bin/sh
# Builds and runs the image of packaging/Dockerfile where there is a Docker daemon. Where there is none, the same is done
# by hand as far as it goes: the file is read, what it sends to the daemon is compiled as far as to see that nothing is
# missing, and the program of this tree is run with the file's settings and asked by its health check.
# usage: packaging/test-docker.sh DIRECTORY
set -eu

fail() {
    echo "test-docker: $*" >&2
    exit 1
}
cd "$(dirname "$0")/.."
rm -rf "$1"
mkdir -p "$1"
work=$(cd "$1" && pwd)
dockerfile=packaging/Dockerfile
cargo=${CARGO:-cargo}

if docker info >/dev/null 2>&1; then
    docker build --file $dockerfile --tag sessionstore-test . >"$work/build.log" 2>&1 || {
        cat "$work/build.log" >&2
        fail "the image cannot be built."
    }
    container=$(docker run --detach --read-only --cap-drop ALL --security-opt no-new-privileges --tmpfs /var/lib/sstore:uid=65532 sessionstore-test)
    trap 'docker rm --force "$container" >/dev/null; docker rmi sessionstore-test >/dev/null' EXIT
    # It says when it listens.
    timeout 60 sh -c "docker logs --follow $container 2>/dev/null | grep -m 1 '^ws://'" >/dev/null || fail "the server in the container does not start."
    docker exec "$container" sstore set --room lobby spotlight '"peer-1"' || fail "the server in the container does not answer."
    docker stop --time 20 "$container" >/dev/null
    [ "$(docker inspect --format '{{.State.ExitCode}}' "$container")" = 0 ] || fail "the server in the container does not end well."
    echo "test-docker: the image was built, run and stopped"
    exit 0
fi

# Instructions in one line each.
sed -e '/^#/d' -e '/^$/d' $dockerfile | sed -e ':more' -e '/\\$/N; s/\\\n *//; tmore' >"$work/instructions"
awk '
    function wrong(what) { print what ": " $0; bad = 1 }
    { instruction = $1 }
    !/^(FROM|WORKDIR|COPY|RUN|USER|ENV|VOLUME|EXPOSE|HEALTHCHECK|STOPSIGNAL|ENTRYPOINT|CMD) / { wrong("unknown instruction") }
    NR == 1 && instruction != "FROM" { wrong("the first is not FROM") }
    instruction == "FROM" {
        user = ""
        if ($2 !~ /:[a-z0-9]/) wrong("no version of the image")
        if ($3 == "AS") stages[$4]
    }
    instruction == "COPY" && match($0, /--from=[a-z]+/) {
        if (!(substr($0, RSTART + 7, RLENGTH - 7) in stages)) wrong("no such stage")
    }
    instruction == "USER" { user = $2 }
    # In the list form, which no shell stands between: signals arrive.
    (instruction == "ENTRYPOINT" || instruction == "CMD") && $2 !~ /^\[/ { wrong("not a list") }
    instruction == "HEALTHCHECK" && $0 !~ /CMD \[".*"\]$/ { wrong("not a list") }
    { seen[instruction]++ }
    END {
        if (user == "" || user ~ /^(0|root)/) { print "it runs as root"; bad = 1 }
        if (seen["ENTRYPOINT"] != 1 || seen["CMD"] != 1 || seen["HEALTHCHECK"] != 1) { print "ENTRYPOINT, CMD, HEALTHCHECK once each"; bad = 1 }
        exit bad
    }' "$work/instructions" >"$work/wrong" || fail "$dockerfile: $(cat "$work/wrong")"

# What .dockerignore lets through: it leaves out everything, then names what is sent.
[ "$(sed -n '/^[^#]/{p;q;}' $dockerfile.dockerignore)" = '*' ] || fail "$dockerfile.dockerignore does not begin with everything."
mkdir "$work/context"
sed -n 's/^!//p' $dockerfile.dockerignore | while read -r path; do
    [ -n "$(git ls-files -- "$path")" ] || fail "$dockerfile.dockerignore names $path, which there is not."
    git ls-files -z -- "$path" | tar --create --null --files-from=- | tar --extract --directory "$work/context"
done
# That the compiler finds all it needs is known without building it: the program that is run is that of this tree.
target=$PWD/target
(cd "$work/context" && $cargo check --locked --bin sstore --target-dir "$target") >"$work/build.log" 2>&1 || {
    tail -n 30 "$work/build.log" >&2
    fail "the files that are sent to Docker are not enough to build from."
}
(cd "$work/context" && CARGO=$cargo sh mk/licences.sh) >"$work/licences.txt" || fail "the licences cannot be collected from the files that are sent to Docker."
grep '^COPY --from=build' "$work/instructions" | tr ' ' '\n' | sed -n 's,^/build/,,p' | while read -r path; do
    case $path in target/*) ;; *) [ -e "$work/context/$path" ] || fail "$dockerfile copies $path, which is not sent to Docker." ;; esac
done

$cargo build --locked --bin sstore >>"$work/build.log" 2>&1 || fail "sstore cannot be built: $(tail -n 30 "$work/build.log")"

# With its settings, its data directory and its port but for where they are.
mkdir "$work/data"
mkfifo "$work/url"
settings=$(sed -n 's/^ENV //p' "$work/instructions" | sed -e "s,=/var/lib/sstore,=$work/data," -e 's/SSTORE_PORT=[0-9]*/SSTORE_PORT=0/' -e 's/SSTORE_ADDRESS=0\.0\.0\.0/SSTORE_ADDRESS=127.0.0.1/')
arguments=$(sed -n 's/^CMD \[\(.*\)\]$/\1/p' "$work/instructions" | tr -d '",')
# shellcheck disable=SC2086 # Several words each.
env $settings "$target/debug/sstore" $arguments >"$work/url" 2>"$work/server.log" &
server=$!
trap 'kill "$server" 2>/dev/null || :' EXIT
read -r url <"$work/url" || fail "the server does not start with the settings of $dockerfile: $(cat "$work/server.log")"
check=$(sed -n 's/^HEALTHCHECK .* CMD \["bash", "-c", "\(.*\)"\]$/\1/p' "$work/instructions")
[ -n "$check" ] || fail "the health check was not recognized."
SSTORE_PORT=${url##*:} timeout 30 bash -c "$check" || fail "the health check fails while the server runs."
[ -n "$(ls -A "$work/data")" ] || fail "the server keeps nothing in the volume."
kill -"$(sed -n 's/^STOPSIGNAL SIG//p' "$work/instructions")" "$server"
wait "$server" || fail "the server does not end well: $(cat "$work/server.log")"
trap - EXIT
! SSTORE_PORT=${url##*:} timeout 30 bash -c "$check" 2>/dev/null || fail "the health check finds a server that has ended."
echo "test-docker: there is no Docker daemon here, so no image was built. Its file was read; the files it sends are enough to build from; sstore was run with its settings and found healthy"
