# The tests. `make test` installs what it lacks and runs it all.

SHELL := /bin/bash
CARGO ?= cargo
RUST_TARGET := $(shell rustc -vV | sed -n 's/^host: //p')
# The tests are run as cargo builds by default; PROFILE=release tests what is shipped.
PROFILE ?= dev
PROFILE_DIR := target/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
FUZZ_SECONDS ?= 5

.PHONY: test test-tools test-rust test-otel test-network test-docs test-c test-asan test-thread-sanitizer test-valgrind test-fuzz test-delays
.PHONY: fuzz delays header native-static-libs history faults test-simulation simulation test-kills kills soak miri

# In the order in which it is cheapest to fail; each part can be run alone. What is built alike stands together: cargo
# keeps one build of the library, so that parts with another one take turns with those before and after. The last three
# have one of their own each.
test: test-tools test-rust test-network test-kills test-docs test-c test-cpp test-kotlin test-swift test-web test-inspector test-http-api test-original test-everyone test-valgrind test-delays test-abi test-docker test-asan test-thread-sanitizer test-install test-dist test-deb test-bench test-instructions test-simulation test-fuzz test-otel conformance demo
	@echo "make test: every part passed."

# Programs the tests need, by Debian package.
test-tools:
	@missing=; for tool in gcc:gcc g++:g++ cmake:cmake make:make valgrind:valgrind readelf:binutils ip:iproute2 openssl:openssl curl:curl; do \
	    command -v "$${tool%%:*}" >/dev/null || missing="$$missing $${tool##*:}"; done; \
	[ -e /usr/include/jansson.h ] || missing="$$missing libjansson-dev"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing; \
	else echo "The tests need these packages, please install them:$$missing" >&2; exit 1; fi

test-rust:
	$(CARGO) test

# The build with OpenTelemetry, which no other part has: that spans come out.
test-otel:
	$(CARGO) test --features otel --test otel

# A server and clients in network namespaces, with links that break; where the system forbids that, it is said here.
test-network: test-tools
	$(CARGO) test --test network -- --nocapture

# The long run of what `cargo test` does in a few rounds: is what many clients are answered explained by one
# store that does one thing after the other?
HISTORY_ROUNDS ?= 1000
history:
	SESSIONSTORE_HISTORY_ROUNDS=$(HISTORY_ROUNDS) $(CARGO) test --release --test linearizable

# The same with Rust and C peers whose connections break in every way that networks have.
FAULT_ROUNDS ?= 300
faults:
	SESSIONSTORE_FAULT_ROUNDS=$(FAULT_ROUNDS) $(CARGO) test --release --test linearizable faults -- --nocapture

# A server that is killed under load, again and again, and goes on from its data directory.
KILLS ?= 100
test-kills:
	SESSIONSTORE_KILLS=$(KILLS) $(CARGO) test --test linearizable killed -- --nocapture

# The same, with more of them in the same time.
kills:
	SESSIONSTORE_KILLS=$(KILLS) $(CARGO) test --release --test linearizable killed -- --nocapture

# Rooms that come and go: do memory, descriptors and threads stay where they were?
SECONDS ?= 600
soak:
	SESSIONSTORE_SOAK_SECONDS=$(SECONDS) $(CARGO) test --release --test soak -- --nocapture

# The simulation with many seeds; `cargo test` has a few of them. One seed: SESSIONSTORE_SEED=17 cargo test
# --test simulation.
SEEDS ?= 2000
test-simulation simulation:
	SESSIONSTORE_SEEDS=$(SEEDS) $(CARGO) test --release --test simulation

# Every public item documented, every link alive.
test-docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps

# Writes include/sessionstore.h.
header:
	UPDATE_HEADER=1 $(CARGO) test --test header the_checked_in_header_is_current

# Writes what programs that link the static library must link too.
native-static-libs:
	$(CARGO) rustc --lib --crate-type staticlib -- --print native-static-libs 2>&1 | \
	    sed -n 's/^note: native-static-libs: //p' | grep . >tests/c/native-static-libs.txt

# $(1) sources, $(2) build directory, $(3) library directory, $(4) more for cmake, $(5) the target, if not all
define cmake_build
	@mkdir -p build
	cmake -S $(1) -B $(2) -DSESSIONSTORE_LIB_DIR="$(CURDIR)/$(3)" $(4) >$(2).log || { cat $(2).log >&2; exit 1; }
	cmake --build $(2) --parallel $(shell nproc) $(if $(5),--target $(5)) >$(2).log || { cat $(2).log >&2; exit 1; }
endef

# $(1) to $(4) as above, $(5) environment of the tests
define cmake_tests
	$(call cmake_build,$(1),$(2),$(3),$(4))
	$(5) ctest --test-dir $(2) --parallel $(shell nproc) --output-on-failure --no-tests=error
endef

# The C tests against the shared and the static library, as C and as C++.
test-c: test-tools
	$(CARGO) build --lib --profile $(PROFILE)
	$(call cmake_tests,tests/c,build/c-tests,$(PROFILE_DIR))

# The same under AddressSanitizer, the Rust code instrumented too. The runtime is the C compiler's:
# there is one for the whole process.
ASAN_LIB_DIR := target/asan/$(RUST_TARGET)/debug
test-asan: test-tools
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address $(CARGO) build --lib --no-default-features --features client,server,tls,durable,io-uring \
	    --target $(RUST_TARGET) --target-dir target/asan
	@nm -D $(ASAN_LIB_DIR)/libsessionstore.so | grep -q ' U __asan_init' || \
	    { echo "The library in $(ASAN_LIB_DIR) is not instrumented." >&2; exit 1; }
	$(call cmake_tests,tests/c,build/c-asan,$(ASAN_LIB_DIR),-DSESSIONSTORE_LANGUAGES=c -DSESSIONSTORE_SANITIZER=address \
	    -DCMAKE_C_FLAGS="-fsanitize=address -fno-omit-frame-pointer" -DCMAKE_CXX_FLAGS=-fsanitize=address \
	    -DCMAKE_EXE_LINKER_FLAGS=-fsanitize=address -DSESSIONSTORE_FINDS_FAULT=heap-use-after-free \
	    -DSESSIONSTORE_FINDS_LEAK="detected memory leaks",SESSIONSTORE_LEAKS_CHECKED=1 ASAN_OPTIONS=detect_leaks=1)

# The same under valgrind, with fewer rounds of what is only repeated.
MEMCHECK := valgrind;--quiet;--error-exitcode=99;--leak-check=full;--show-leak-kinds=definite,indirect;--errors-for-leak-kinds=definite,indirect;--fair-sched=yes;--vgdb=no;--suppressions=$(CURDIR)/tests/c/valgrind.supp;--trace-children=yes;--trace-children-skip=/bin/sh
test-valgrind: test-tools
	$(CARGO) build --lib --profile $(PROFILE)
	$(call cmake_tests,tests/c,build/c-valgrind,$(PROFILE_DIR),-DSESSIONSTORE_LANGUAGES=c -DSESSIONSTORE_LINKAGES=shared \
	    "-DSESSIONSTORE_TEST_WRAPPER=$(MEMCHECK)" "-DSESSIONSTORE_FINDS_FAULT=Invalid read" \
	    "-DSESSIONSTORE_FINDS_LEAK=definitely lost",SESSIONSTORE_LEAKS_CHECKED=1 SESSIONSTORE_SLOW_MACHINE=1)

# The same under ThreadSanitizer, fewer rounds of what is only repeated. What is not instrumented would be reported
# although nothing is wrong, so the standard library is compiled too, which needs its source: that of the toolchain
# in use (`rustup component add rust-src`), or else Debian's compiler with its source, unpacked beside what is built.
# The runtime is the C compiler's, as above; it has memcpy under its usual name only.
TSAN_DIR := target/tsan
TSAN_LIB_DIR := $(TSAN_DIR)/$(RUST_TARGET)/debug
test-thread-sanitizer: test-tools
	@set -e; RUSTC="$$(sh mk/rustc-with-source.sh "$(CURDIR)/target/tools/debian-rust")"; export RUSTC; \
	RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread -Cllvm-args=-tsan-instrument-memintrinsics=0" \
	    CARGO_PROFILE_DEV_DEBUG=line-tables-only $(CARGO) rustc -Zbuild-std=std,panic_unwind --lib --crate-type cdylib \
	    --no-default-features --features client,server,tls,durable,io-uring --target $(RUST_TARGET) --target-dir $(TSAN_DIR)
	@nm -D $(TSAN_LIB_DIR)/libsessionstore.so | grep -q ' U __tsan_init' || \
	    { echo "The library in $(TSAN_LIB_DIR) is not instrumented." >&2; exit 1; }
	$(call cmake_tests,tests/c,build/c-tsan,$(TSAN_LIB_DIR),-DSESSIONSTORE_LANGUAGES=c -DSESSIONSTORE_LINKAGES=shared \
	    -DSESSIONSTORE_SANITIZER=thread -DCMAKE_C_FLAGS="-fsanitize=thread -fno-omit-frame-pointer" \
	    -DCMAKE_EXE_LINKER_FLAGS=-fsanitize=thread "-DSESSIONSTORE_FINDS_RACE=ThreadSanitizer: (data race|heap-use-after-free)",\
	    SESSIONSTORE_SLOW_MACHINE=1 TSAN_OPTIONS="halt_on_error=1 atexit_sleep_ms=100")

# The same with threads that are held up at random where they meet: what happens in another order then than usual, as it
# does on a busy machine, must be right too. A planted order must be found. `make delays` is the long run, the Rust tests
# with it.
DELAYS_DIR := build/c-delays
test-delays delays: test-tools
	$(CARGO) build --lib --profile $(PROFILE)
	$(call cmake_build,tests/c,$(DELAYS_DIR),$(PROFILE_DIR),-DSESSIONSTORE_LANGUAGES=c -DSESSIONSTORE_LINKAGES=shared \
	    -DSESSIONSTORE_DELAYS=ON "-DSESSIONSTORE_FINDS_ORDER=[1-9][0-9]+ of 1000 times too early")
	@set -e; for round in $$(seq $(DELAY_ROUNDS)); do \
	    LD_PRELOAD="$(CURDIR)/$(DELAYS_DIR)/libdelays.so" \
	    ctest --test-dir $(DELAYS_DIR) --parallel $(shell nproc) --output-on-failure --no-tests=error; done
	$(if $(filter delays,$@),CARGO_TARGET_$(RUST_TARGET_IN_CAPITALS)_RUNNER="env LD_PRELOAD=$(CURDIR)/$(DELAYS_DIR)/libdelays.so" $(CARGO) test)

test-delays: DELAY_ROUNDS ?= 1
delays: DELAY_ROUNDS ?= 20
RUST_TARGET_IN_CAPITALS := $(shell echo $(RUST_TARGET) | tr a-z- A-Z_)

# The core and what of the C API works without threads and sockets, under Miri. It comes with nightly toolchains of
# rustup only, so it is no part of `make test`. Some tests read files.
MIRI_TOOLCHAIN ?= nightly
miri:
	@$(CARGO) +$(MIRI_TOOLCHAIN) miri --version >/dev/null 2>&1 || \
	    { echo "Nothing was run: Miri is missing. Please install it:" \
	        "rustup toolchain install $(MIRI_TOOLCHAIN) --component miri --component rust-src" >&2; exit 1; }
	MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=4 $(CARGO) +$(MIRI_TOOLCHAIN) miri test --lib \
	    --no-default-features --features client -- core:: ffi::

# Every fuzz target, for FUZZ_SECONDS each; `make fuzz FUZZ_SECONDS=3600` is the long run, which draws something else
# each time. The short one draws the same, so that what it says is due to the change.
test-fuzz: FUZZ_SEED ?= 1
test-fuzz fuzz:
	FUZZ_SEED=$(FUZZ_SEED) sh tests/fuzz/run.sh $(FUZZ_SECONDS)
