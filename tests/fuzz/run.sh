#!/bin/sh
# Runs every fuzz target for a while: tests/fuzz/run.sh SECONDS
#
# Begins with the checked-in seeds, which stay as they are; what a run learns goes to corpus/.
# Ends with 0 when nothing was found.
set -eu

case "${1:-}" in
'' | *[!0-9]* | 0)
    echo "usage: tests/fuzz/run.sh SECONDS (for each target)" >&2
    exit 2
    ;;
esac
seconds=$1
cd "$(dirname "$0")/../.."

cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked

# The sanitizer is a nightly option; this lets the toolchain in use take it.
export RUSTC_BOOTSTRAP=1
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Built on all cores: the build takes longer than the short runs.
options="--fuzz-dir tests/fuzz --codegen-units 16"

targets=$(cargo fuzz list --fuzz-dir tests/fuzz)
[ -n "$targets" ] || { echo "There are no fuzz targets in tests/fuzz." >&2; exit 1; }
# shellcheck disable=SC2086 # Several words, here and below.
cargo fuzz build $options

for target in $targets; do
    corpus=tests/fuzz/corpus/$target
    seeds=tests/fuzz/seeds/$target
    mkdir -p "$corpus"
    [ -d "$seeds" ] || { echo "The fuzz target $target has no seeds in $seeds." >&2; exit 1; }
    # 10 s for one input and 1 GiB are far beyond what any input needs, also on a busy machine.
    if ! cargo fuzz run $options "$target" "$corpus" "$seeds" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 >"$log" 2>&1; then
        cat "$log" >&2
        echo "The fuzz target $target found a fault; the input is named above, under tests/fuzz/artifacts/$target." >&2
        exit 1
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "$target: ${runs:-no} inputs in $seconds s, no fault"
    # A target that ran nothing has shown nothing.
    [ "${runs:-0}" -gt 0 ] || { cat "$log" >&2; echo "The fuzz target $target did not run." >&2; exit 1; }
done
