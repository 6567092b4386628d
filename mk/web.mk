# The TypeScript client: its tests, in Node and in Chromium.

.PHONY: web-tools test-web web web-everyone demo-web

NPM := npm --no-audit --no-fund --no-update-notifier --loglevel=error

web-tools:
	@missing=; for tool in node:nodejs npm:npm; do \
	    command -v "$${tool%%:*}" >/dev/null || missing="$$missing $${tool##*:}"; done; \
	if [ -z "$$missing" ]; then \
	    node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || \
	        { echo "The TypeScript client needs Node 20 or later; this is $$(node --version)." >&2; exit 1; }; exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing; \
	else echo "The TypeScript client needs these packages, please install them:$$missing" >&2; exit 1; fi

# The tests open pages in it; without it they say so and fail.
.PHONY: web-browser
web-browser:
	@if command -v chromium >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; \
	else echo "The tests of the TypeScript client need this package, please install it: chromium" >&2; exit 1; fi

# What users install, in bindings/web/dist. Every version is fixed in package-lock.json.
web: web-tools
	cd bindings/web && $(NPM) ci && $(NPM) run build

test-web: web web-browser
	$(CARGO) build --bin sstore --profile $(PROFILE)
	cd bindings/web && $(NPM) run typecheck
	cd bindings/web && SSTORE="$(CURDIR)/$(PROFILE_DIR)/sstore" $(NPM) test
	cd bindings/web-react && $(NPM) ci && $(NPM) run build
	cd bindings/web-react && SSTORE="$(CURDIR)/$(PROFILE_DIR)/sstore" $(NPM) test

# The inspector: its types, and its page in Chromium, with peers in Node.
.PHONY: test-inspector inspector-tests inspector-screenshots
test-inspector: inspector-tests
	cd tests/inspector && $(NPM) run --silent typecheck
	cd tests/inspector && $(INSPECTOR_PROGRAMS) $(NPM) test --silent

INSPECTOR_PROGRAMS = SSTORE="$(CURDIR)/$(PROFILE_DIR)/sstore" CHROMIUM="$$(command -v chromium)"
inspector-tests: web web-browser
	$(CARGO) build --bin sstore --profile $(PROFILE)
	cd tests/inspector && $(NPM) ci

# Writes docs/inspector/*.png anew; look at them.
inspector-screenshots: inspector-tests
	cd tests/inspector && $(INSPECTOR_PROGRAMS) node screenshots.mjs

# A page where browsers share a room; prints its address. DEMO_ADDRESS=0.0.0.0 lets colleagues in.
DEMO_ADDRESS ?= 127.0.0.1
demo-web: web
	$(CARGO) build --bin sstore --profile $(PROFILE)
	cd bindings/web && node demo/serve.js "$(CURDIR)/$(PROFILE_DIR)/sstore" "$(DEMO_ADDRESS)"

# What the JavaScript peer of the test of all languages needs, if it is not there already.
web-everyone: web-tools
	@[ -f bindings/web/dist/sessionstore.js ] && [ -d bindings/web/node_modules/ws ] || $(MAKE) web
