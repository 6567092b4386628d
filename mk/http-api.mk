# The HTTP API: its document, and whether the server keeps to it.

.PHONY: openapi test-http-api http-api-tools
HTTP_API_SECONDS ?= 30
# The same requests each time, so that what failed fails again; the long run may have others.
HTTP_API_SEED ?= 1

# Writes docs/openapi.json.
openapi:
	UPDATE_OPENAPI=1 $(CARGO) test --test http_api the_checked_in_document_is_current

http-api-tools:
	@if python3 -c 'import venv, ensurepip' 2>/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3 python3-venv; \
	else echo "The tests of the HTTP API need these packages, please install them: python3 python3-venv" >&2; exit 1; fi

# Every request that the document allows, and many that it does not. HTTP_API_SECONDS=600 HTTP_API_SEED=7 is the long run.
test-http-api: http-api-tools
	$(CARGO) build --bin sstore --profile $(PROFILE)
	sh tests/http-api/run.sh "$(CURDIR)/$(PROFILE_DIR)/sstore" "$(CURDIR)/target/http-api" $(HTTP_API_SECONDS) $(HTTP_API_SEED)
