# The hosted original's web client, unmodified, in a browser, with a peer in C.

.PHONY: test-original
test-original: test-tools web-tools web-browser
	$(CARGO) build --lib --bin sstore --profile $(PROFILE)
	$(call cmake_build,tests/c,build/c-tests,$(PROFILE_DIR),,companion_shared)
	cd tests/original && $(NPM) ci
	cd tests/original && SSTORE="$(CURDIR)/$(PROFILE_DIR)/sstore" COMPANION="$(CURDIR)/build/c-tests/companion_shared" \
	    CHROMIUM="$$(command -v chromium)" npm test --silent
