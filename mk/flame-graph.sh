#!/bin/sh
# Draws where the server's time goes: `fan-out`, while one set after the other is told to 1,000 observers; `joins`, while
# peers join a room with 64 KB of state and leave it.
#
#     sh mk/flame-graph.sh SSTORE INFERNO_BIN_DIR fan-out|joins OUT.svg
#
# Also prints how the samples divide between the kernel and the product's own code.
set -eu
sstore=$1 inferno=$2 what=$3 out=$4
# What is left out of the picture is what is not of the work: of the fan-out, the peers that join while perf starts.
case $what in
fan-out) title="One set to 1,000 observers" workload="w2one --observers 1000" there_first=1000 left_out=acceptor::receive ;;
joins) title="Peers join, receive 64 KB of state, and leave" workload=w6 there_first=0 left_out='^$' ;;
*) echo "There is no picture of $what." >&2; exit 1 ;;
esac
work=$(mktemp -d)
server= perf= bench=
clean_up() {
    for process in $bench $perf $server; do kill "$process" 2>/dev/null || true; done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

# The server ends with its input, which this shell holds open.
mkfifo "$work/input" "$work/port"
exec 3<>"$work/input" 4<>"$work/port"
"$sstore" bench-serve --core 0 <"$work/input" >"$work/port" &
server=$!
read -r port <&4

# By the clock, which virtual machines have too. DWARF, since the release has no frame pointers; 8 KiB
# of stack hold the deepest of the server's.
for repetition in 1 2 3; do
    # shellcheck disable=SC2086 # Several words.
    taskset --cpu-list 1 "$sstore" bench --url "ws://127.0.0.1:$port" $workload --repetitions 1 >"$work/bench" 2>&1 &
    bench=$!
    # Of the fan-out, everybody has joined: what that costs is another matter.
    until [ "$(find "/proc/$server/fd" -type l | wc -l)" -gt "$there_first" ]; do
        kill -0 "$bench" 2>/dev/null || { cat "$work/bench" >&2; exit 1; }
        sleep 0.02
    done
    perf record --quiet --event cpu-clock --freq 1999 --call-graph dwarf,8192 --pid "$server" --output "$work/perf.data" &
    perf=$!
    wait "$bench" || { cat "$work/bench" >&2; exit 1; }
    bench=
    kill -INT "$perf"
    wait "$perf" || true
    perf=
    # Without periods, so that what is counted are samples.
    perf script --no-inline --fields comm,tid,time,event,ip,sym,dso --input "$work/perf.data" 2>/dev/null >>"$work/samples"
done

"$inferno/inferno-collapse-perf" --all <"$work/samples" | grep -v "$left_out" >"$work/stacks"
[ -s "$work/stacks" ] || { echo "perf took no samples of the server." >&2; exit 1; }
# Narrower than 0.3 % could not be read anyway.
"$inferno/inferno-flamegraph" --title "$title: the server's time" --countname samples \
    --width 1200 --minwidth 0.3 --hash <"$work/stacks" >"$out"

# inferno marks the kernel's functions with _[k]; a sample is where its innermost function is.
awk '{ n = $NF; all += n; if ($0 ~ /_\[k\] [0-9]+$/) kernel += n }
    END { printf "%d samples: %.1f %% in the kernel, %.1f %% in user space\n", all, 100 * kernel / all, 100 * (all - kernel) / all }' \
    "$work/stacks"
# For a closer look, in a directory.
[ -z "${STACKS:-}" ] || cp "$work/stacks" "$STACKS/$what"
