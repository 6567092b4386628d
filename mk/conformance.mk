# How the server treats WebSocket frames of any kind, right and wrong: the cases of the Autobahn|Testsuite.

.PHONY: conformance
CONFORMANCE_CASES ?= *

# The server that says again what it is told is built apart, so that no other build has it.
conformance:
	RUSTFLAGS="$(RUSTFLAGS) --cfg sessionstore_echo" CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) build --bin sstore \
	    --target-dir target/conformance
	sh tests/conformance/run.sh target/conformance/debug/sstore target/conformance '$(CONFORMANCE_CASES)'
