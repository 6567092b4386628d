# The benchmarks. Nothing else should run on the machine meanwhile.

.PHONY: bench bench-peers bench-tools test-bench test-bench-all

# Floor and ours side by side, with the peers also ours without io_uring, and a floor with our bytes; then the client's price, and what the core's
# own work costs.
bench: BENCH_PEERS =
bench-peers: BENCH_PEERS = --peers redis,mosquitto,without-io-uring,floor-with-our-bytes
bench-peers: bench-tools
bench bench-peers:
	$(CARGO) build --release
	PATH="$$PATH:/usr/sbin" target/release/sstore bench $(BENCH_PEERS) --markdown docs/benchmarks.md --json target/benchmarks.json
	@mkdir -p docs/benchmarks
	$(CARGO) bench --profile release --bench plots -- ratios "$(CURDIR)/target/benchmarks.json" "$(CURDIR)/docs/benchmarks/ratios.svg"
	$(CARGO) bench --profile release --bench client
	$(CARGO) bench --profile release --bench costs

# The servers that ours is compared with, by Debian package.
bench-tools:
	@missing=; PATH="$$PATH:/usr/sbin"; for tool in redis-server mosquitto; do \
	    command -v "$$tool" >/dev/null || missing="$$missing $$tool"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing; \
	else echo "The comparison needs these packages, please install them:$$missing" >&2; exit 1; fi

# All workloads, briefly: nothing may be lost.
test-bench:
	$(CARGO) build --release
	target/release/sstore bench --quick

# And the measurements of how cost grows, and of the client, which take some minutes more.
test-bench-all: test-bench
	target/release/sstore bench growth --most 10 --repetitions 1
	$(CARGO) bench --profile release --bench client -- --quick
