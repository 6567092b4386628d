# make test    everything that is tested; installs what it lacks
# make demo    a session with five C programs, played and checked
# make test-cpp  the C++ header
# make c-reference, make cpp-reference   the references of the two headers, by Doxygen
# make header  include/sessionstore.h from src/ffi
# make bench, make bench-peers   the server against a floor without a store, and against Redis and Mosquitto
# make test-instructions, make instructions   instruction counts compared, and written down anew
# make performance   how cost grows and where the time goes, for docs/performance.md
# make audit, make advisories   licences, sources and known faults of the dependencies; the copy of those that tests look into
# make conformance   the server's WebSocket against the Autobahn|Testsuite; as root on Debian, makes a tree for Python 2.7
# make swift-everyone, make swift-docs   the Swift peer of the test of all languages; the reference in build/swift/docs
# make install, make uninstall   PREFIX=/usr/local DESTDIR=; docs/install.md
# make dist, make deb   what users download: an archive, Debian packages
# make abi-record, make size   ABI.md, docs/size.md
# make fuzz    every fuzz target, FUZZ_SECONDS each
# make test-kotlin, make kotlin-reference   the Kotlin wrapper; its reference, by Dokka
# make web, make test-web   the TypeScript client, in bindings/web/dist; its tests, in Node and in Chromium
# make demo-web   a page where browsers share a room; DEMO_ADDRESS=0.0.0.0 lets colleagues in
# make test-everyone   a peer of each language in one room
# make test-original   the hosted original's web client, unmodified, in Chromium

.DEFAULT_GOAL := test

include mk/demo.mk
include mk/kotlin.mk
include mk/test.mk
include mk/install.mk
include mk/cpp.mk
include mk/conformance.mk
include mk/instructions.mk
include mk/bench.mk
include mk/performance.mk
include mk/audit.mk
include mk/swift.mk
include mk/web.mk
include mk/everyone.mk
include mk/original.mk
