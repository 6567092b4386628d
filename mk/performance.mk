# The pictures and the table of docs/performance.md. Nothing else should run on the machine meanwhile.

.PHONY: performance flame-graph
GROWTH := target/growth
# The figures are the least of so many.
REPETITIONS ?= 3

performance: flame-graph
	$(CARGO) build --release
	target/release/sstore bench growth --repetitions $(REPETITIONS) --markdown docs/performance.md --json $(GROWTH)
	for chart in $(GROWTH)/*.json; do \
	    $(CARGO) bench --profile release --bench plots -- growth "$(CURDIR)/$$chart" "$(CURDIR)/docs/performance/$$(basename "$$chart" .json).svg" || exit 1; done

# perf is the system's; inferno is no dependency, and goes under target/.
flame-graph:
	@command -v perf >/dev/null || { echo "The flame graph needs perf (Debian: linux-perf), please install it." >&2; exit 1; }
	@perf record --quiet --event cpu-clock --output /dev/null true 2>/dev/null || \
	    { echo "perf may not be used: be root, or set kernel.perf_event_paranoid to 1 or less." >&2; exit 1; }
	$(CARGO) build --release
	test -x target/tools/bin/inferno-flamegraph || $(CARGO) install inferno --version 0.12.8 --locked --root target/tools
	@mkdir -p docs/performance
	for what in fan-out joins; do \
	    sh mk/flame-graph.sh target/release/sstore target/tools/bin $$what docs/performance/$$what.svg || exit 1; done
