# The C++ header: its tests as C++17, 20 and 23 by GCC and by Clang, without exceptions, and under AddressSanitizer.
CLANGXX ?= clang++-19

.PHONY: test-cpp test-cpp-tools c-reference cpp-reference

test-cpp-tools: test-tools
	@missing=; [ -e /usr/include/doctest/doctest.h ] || missing="$$missing doctest-dev"; \
	[ -e /usr/include/nlohmann/json.hpp ] || missing="$$missing nlohmann-json3-dev"; \
	command -v doxygen >/dev/null || missing="$$missing doxygen"; \
	command -v "$(CLANGXX)" >/dev/null || missing="$$missing clang-19"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing; \
	else echo "The tests of the C++ header need these packages, please install them:$$missing" >&2; exit 1; fi

# The references of the two headers, in which whatever is public must be documented.
c-reference cpp-reference: %-reference: test-cpp-tools
	@mkdir -p build/$@
	doxygen bindings/$*/Doxyfile
	@echo "build/$@/html/index.html"

test-cpp: c-reference cpp-reference
	$(CARGO) build --lib --profile $(PROFILE)
	$(call cmake_tests,bindings/cpp/tests,build/cpp,$(PROFILE_DIR))
	$(call cmake_tests,bindings/cpp/tests,build/cpp-clang,$(PROFILE_DIR),-DCMAKE_CXX_COMPILER=$(CLANGXX))
	$(call cmake_tests,bindings/cpp/tests,build/cpp-asan,$(PROFILE_DIR),-DSESSIONSTORE_SANITIZER=address -DSESSIONSTORE_STANDARDS=20)
