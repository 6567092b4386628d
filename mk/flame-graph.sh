#!/bin/sh
# Where the time of a fan-out goes: a server with 1,000 observers is sampled while every set goes to all of them.
#   mk/flame-graph.sh OUT.svg
# Needs Linux, perf (Debian: linux-perf), and inferno, which `make flame-graph` installs.
set -eu
out=$1
program=target/release/sstore
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
command -v perf >/dev/null || { echo "perf takes the samples; on Debian it is in the package linux-perf." >&2; exit 1; }

# The server ends with its input.
mkfifo "$work/input"
"$program" bench-serve --core 0 <"$work/input" >"$work/port" &
server=$!
exec 3>"$work/input"
until grep -q . "$work/port"; do kill -0 "$server"; sleep 0.1; done
url="ws://127.0.0.1:$(cat "$work/port")"

perf record --quiet --pid "$server" --freq 499 --call-graph dwarf,16384 --output "$work/samples" &
recorder=$!
"$program" bench w2one --observers 1000 --repetitions 2 --url "$url" >/dev/null
kill -INT "$recorder"
wait "$recorder" || true
exec 3>&-
wait "$server"

perf script --no-inline --input "$work/samples" >"$work/stacks"
target/tools/bin/inferno-collapse-perf "$work/stacks" >"$work/folded"
target/tools/bin/inferno-flamegraph --title "A change on its way to 1,000 observers" --subtitle "samples of the server's thread, by what it was doing" \
    --minwidth 0.3 --width 1200 --nametype Function: "$work/folded" >"$out"
