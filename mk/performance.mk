# The pictures and the table of docs/performance.md. Nothing else should run on the machine meanwhile.

.PHONY: performance flame-graph
GROWTH := target/growth

performance: flame-graph
	$(CARGO) build --release
	target/release/sstore bench growth --markdown docs/performance.md --json $(GROWTH)
	for chart in $(GROWTH)/*.json; do \
	    $(CARGO) bench --profile release --bench plots -- growth "$(CURDIR)/$$chart" "$(CURDIR)/docs/performance/$$(basename "$$chart" .json).svg" || exit 1; done

flame-graph:
	$(CARGO) build --release
	test -x target/tools/bin/inferno-flamegraph || $(CARGO) install inferno --version 0.12.8 --locked --root target/tools
	@mkdir -p docs/performance
	sh mk/flame-graph.sh docs/performance/fan-out.svg
