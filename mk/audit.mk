# What is known of the dependencies: licences, sources, faults.

# The checks of cargo-deny; deny.toml says what is wanted. Not a part of `make test`: to build the tool takes
# longer than most of the tests, and faults become known without a change here, so that a build that passed
# yesterday would fail today. `cargo test` checks licences and sources by itself (tests/dependencies.rs), and looks
# for faults in the copy of their list that is checked in.
DENY_VERSION := 0.20.2
ADVISORIES_URL := https://github.com/RustSec/advisory-db
# Where cargo-deny keeps its copy of the advisories.
ADVISORIES_DIR := $(or $(CARGO_HOME),$(HOME)/.cargo)/advisory-dbs

.PHONY: audit audit-tools audit-offline advisories

audit: audit-offline
	@if timeout 60 git ls-remote --quiet $(ADVISORIES_URL) HEAD >/dev/null 2>&1; then \
	    $(CARGO) deny check advisories; \
	elif ls -d $(ADVISORIES_DIR)/*/crates >/dev/null 2>&1; then \
	    echo "$(ADVISORIES_URL) cannot be reached; this is a copy that may be old: $(ADVISORIES_DIR)"; \
	    $(CARGO) deny --offline check advisories; \
	else \
	    echo "$(ADVISORIES_URL) cannot be reached; this is the copy of tests/advisories.toml, which may be old:"; \
	    head -n 1 tests/advisories.toml; \
	    $(CARGO) test --test dependencies; \
	fi

# What needs no network.
audit-offline: audit-tools
	$(CARGO) deny check licenses bans sources

audit-tools:
	@if ! $(CARGO) deny --version >/dev/null 2>&1; then \
	    echo "cargo-deny is built first, which takes some minutes."; \
	    $(CARGO) install --locked --version $(DENY_VERSION) cargo-deny; \
	fi

# Writes tests/advisories.toml anew, from the list of today.
advisories:
	rm -rf target/advisory-db
	git clone --quiet --depth 1 $(ADVISORIES_URL) target/advisory-db
	UPDATE_ADVISORIES="$(CURDIR)/target/advisory-db" $(CARGO) test --test dependencies
