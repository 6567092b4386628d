# Everything that is tested, in the order in which it is cheapest to fail. Each part can be run alone.
.PHONY: test test-rust test-docs test-fuzz test-bench bench fuzz

test: test-tools test-rust test-docs test-c test-asan test-valgrind test-fuzz test-bench demo
	@echo "make test: every part passed."

# The core, the client, the server, the command line, the header, README's programs.
test-rust:
	cargo test

# Every public item documented, every link alive.
test-docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

# A short run of each fuzz target; `make fuzz FUZZ_SECONDS=3600` is the long one.
FUZZ_SECONDS ?= 5
test-fuzz fuzz:
	sh tests/fuzz/run.sh $(FUZZ_SECONDS)

# All workloads, briefly: nothing may be lost. `make bench` measures properly; nothing else should
# run on the machine meanwhile.
test-bench:
	cargo build --release
	target/release/sstore bench --quick

bench:
	cargo build --release
	target/release/sstore bench
	cargo bench
