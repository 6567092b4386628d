#!/bin/sh
# Runs every fuzz target for a while, as many at once as there are cores: tests/fuzz/run.sh SECONDS
#
# Begins with the checked-in seeds, which stay as they are; what a run learns goes to corpus/. With a number above 0 in
# FUZZ_SEED the inputs are drawn from it, else anew each time.
# Ends with 0 when nothing was found.
set -eu

case "${1:-}" in
'' | *[!0-9]* | 0)
    echo "usage: tests/fuzz/run.sh SECONDS (for each target)" >&2
    exit 2
    ;;
esac
seconds=$1
# The script calls itself with the one target to run.
target=${2:-}
cd "$(dirname "$0")/../.."

# The sanitizer is a nightly option; this lets the toolchain in use take it.
export RUSTC_BOOTSTRAP=1
# Built on all cores: the build takes longer than the short runs.
options="--fuzz-dir tests/fuzz --codegen-units 16"

if [ -z "$target" ]; then
    # Not optimized: it only starts what is.
    cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked --debug

    targets=$(cargo fuzz list --fuzz-dir tests/fuzz)
    [ -n "$targets" ] || { echo "There are no fuzz targets in tests/fuzz." >&2; exit 1; }
    # shellcheck disable=SC2086 # Several words.
    cargo fuzz build $options
    # The first that fails ends it.
    echo "$targets" | xargs -n 1 -P "$(nproc)" sh tests/fuzz/run.sh "$seconds"
    exit
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# For xargs 255 is to start no more.
fail() {
    cat "$log" >&2
    echo "$*" >&2
    exit 255
}
corpus=tests/fuzz/corpus/$target
seeds=tests/fuzz/seeds/$target
mkdir -p "$corpus"
[ -d "$seeds" ] || fail "The fuzz target $target has no seeds in $seeds."
# 10 s for one input and 1 GiB are far beyond what any input needs, also on a busy machine.
# shellcheck disable=SC2086 # Several words.
cargo fuzz run $options "$target" "$corpus" "$seeds" -- \
    -max_total_time="$seconds" -seed="${FUZZ_SEED:-0}" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 >"$log" 2>&1 ||
    fail "The fuzz target $target found a fault; the input is named above, under tests/fuzz/artifacts/$target."
runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
# A target that ran nothing has shown nothing.
[ "${runs:-0}" -gt 0 ] || fail "The fuzz target $target did not run."
echo "$target: $runs inputs in $seconds s, no fault"
