# The hosted original's web client, unmodified, in a browser, with a peer in C.

.PHONY: test-original original-tools
original-tools:
	@missing=; for tool in node:nodejs npm:npm chromium:chromium openssl:openssl; do \
	    command -v "$${tool%%:*}" >/dev/null || missing="$$missing $${tool##*:}"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing; \
	else echo "The tests in a browser need these packages, please install them:$$missing" >&2; exit 1; fi

test-original: test-tools original-tools
	$(CARGO) build --lib --bin sstore --profile $(PROFILE)
	$(call cmake_build,tests/c,build/c-tests,$(PROFILE_DIR),,companion_shared)
	cd tests/original && npm ci --no-fund --no-audit --loglevel=error
	cd tests/original && SSTORE="$(CURDIR)/$(PROFILE_DIR)/sstore" COMPANION="$(CURDIR)/build/c-tests/companion_shared" \
	    CHROMIUM="$$(command -v chromium)" npm test --silent
