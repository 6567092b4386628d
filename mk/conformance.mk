# How the server treats WebSocket frames of any kind, right and wrong: the cases of the Autobahn|Testsuite.

.PHONY: conformance
CONFORMANCE_CASES ?= *

# The server that says again what it is told is put apart. Cargo builds another one when it is asked without the variable.
conformance:
	SESSIONSTORE_BUILD_FOR_CONFORMANCE=1 $(CARGO) build --bin sstore --profile $(PROFILE)
	@mkdir -p target/conformance
	mv $(PROFILE_DIR)/sstore target/conformance/sstore
	sh tests/conformance/run.sh target/conformance/sstore target/conformance '$(CONFORMANCE_CASES)'
