# A peer of each language in one room at once.

.PHONY: test-everyone
# A line each: the peer's name and the program that plays it; tests/everyone.rs starts them and plays in Rust.
define EVERYONE
c=$(CURDIR)/build/c-tests/everyone_shared
cpp=$(CURDIR)/build/cpp/everyone
kotlin=$(CURDIR)/bindings/kotlin/everyone
swift=sh $(CURDIR)/bindings/swift/everyone.sh
web=node $(CURDIR)/bindings/web/test/everyone.js
endef
export EVERYONE
test-everyone: test-tools test-cpp-tools kotlin-everyone swift-everyone web-everyone
	$(CARGO) build --lib --profile $(PROFILE)
	$(call cmake_build,tests/c,build/c-tests,$(PROFILE_DIR),,everyone_shared)
	$(call cmake_build,bindings/cpp/tests,build/cpp,$(PROFILE_DIR),,everyone)
	SESSIONSTORE_EVERYONE="$$EVERYONE" SESSIONSTORE_LIB_DIR="$(CURDIR)/$(PROFILE_DIR)" \
	    $(CARGO) test --test everyone -- --nocapture
