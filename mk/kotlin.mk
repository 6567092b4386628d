# The Kotlin wrapper: its tests, and its reference.

.PHONY: kotlin-tools test-kotlin kotlin-everyone kotlin-reference

# A cache of Maven's own is in ~/.m2. Every version is fixed in bindings/kotlin/pom.xml.
MAVEN := mvn --batch-mode --no-transfer-progress --file bindings/kotlin/pom.xml

kotlin-tools:
	@missing=; for tool in javac:openjdk-17-jdk-headless mvn:maven cc:gcc readelf:binutils; do \
	    command -v "$${tool%%:*}" >/dev/null || missing="$$missing $${tool##*:}"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if ! apt-cache show openjdk-17-jdk-headless >/dev/null 2>&1; then missing="$${missing/openjdk-17-jdk-headless/default-jdk-headless}"; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing; \
	else echo "The Kotlin wrapper needs these packages, please install them:$$missing" >&2; exit 1; fi

# The reference too: a public item without a sentence is a warning, and fails. Maven says much; it is shown when something fails, and otherwise how the tests ended.
test-kotlin: kotlin-tools
	$(CARGO) build --lib --profile $(PROFILE)
	@mkdir -p build
	@$(MAVEN) clean verify dokka:dokka -Dsessionstore.lib="$(CURDIR)/$(PROFILE_DIR)" >build/kotlin.log 2>&1 || { cat build/kotlin.log >&2; exit 1; }
	@grep -E '(Tests run:.*Time elapsed|^.INFO. Tests run: [0-9]+, )' build/kotlin.log

# What bindings/kotlin/everyone starts, if the tests have not built it since its sources changed. The directories are
# looked at too: they change when a file is removed.
KOTLIN_EVERYONE := bindings/kotlin/target/test-classes/sessionstore/EveryoneKt.class
kotlin-everyone: kotlin-tools
	@mkdir -p build
	@if [ -f $(KOTLIN_EVERYONE) ] && \
	    [ -z "$$(find bindings/kotlin/src bindings/kotlin/pom.xml -newer $(KOTLIN_EVERYONE))" ]; then exit 0; fi; \
	    $(MAVEN) test-compile >build/kotlin-everyone.log 2>&1 || { cat build/kotlin-everyone.log >&2; exit 1; }

kotlin-reference: kotlin-tools
	@mkdir -p build
	@$(MAVEN) compile dokka:dokka >build/kotlin-reference.log 2>&1 || { cat build/kotlin-reference.log >&2; exit 1; }
	@echo "bindings/kotlin/target/dokka/index.html"
