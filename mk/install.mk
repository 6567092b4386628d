# Installing, and the archive and packages that are downloaded; docs/install.md is for their users.

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DATADIR ?= $(PREFIX)/share
# What is installed, where cargo put it, and the program that writes manual pages and completions: another one where
# what is installed is for another machine.
LIBRARIES ?= target/libraries/release
PROGRAM ?= target/release/sstore
SSTORE ?= $(PROGRAM)

.PHONY: libraries install install-strip uninstall

# All that `install` needs of cargo. As root, without cargo: `make install CARGO=:`
# The libraries are built apart: together with the Rust library they would not be optimized as a whole, and the static
# one would be five times as large.
libraries:
	$(CARGO) rustc --locked --release --lib --crate-type cdylib,staticlib --target-dir target/libraries
	$(CARGO) build --locked --release --bin sstore
	$(if $(filter :,$(CARGO)),,CARGO="$(CARGO)" sh mk/licences.sh >$(LIBRARIES)/licences.txt)

install_sh = DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" BINDIR="$(BINDIR)" LIBDIR="$(LIBDIR)" INCLUDEDIR="$(INCLUDEDIR)" \
    DATADIR="$(DATADIR)" LIBRARIES="$(LIBRARIES)" PROGRAM="$(PROGRAM)" SSTORE="$(SSTORE)" CC="$(CC)" STRIP="$(1)" sh mk/install.sh $(2)

install: libraries
	$(call install_sh,,install)

# Without symbols that only debuggers use.
install-strip: libraries
	$(call install_sh,strip,install)

uninstall:
	$(call install_sh,,uninstall)

# What a user does who installs it and builds programs with it.
test-install: install-tools libraries
	sh tests/consumer/run.sh build/consumer

.PHONY: test-install install-tools
install-tools:
	@missing=; for tool in gcc:gcc g++:g++ cmake:cmake make:make pkg-config:pkg-config readelf:binutils man:man-db abidiff:abigail-tools; do \
	    command -v "$${tool%%:*}" >/dev/null || missing="$$missing $${tool##*:}"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing; \
	else echo "These packages are needed, please install them:$$missing" >&2; exit 1; fi

# The archive that users download: target/dist/sessionstore-VERSION-TARGET.tar.gz
.PHONY: dist test-dist
dist: libraries
	sh mk/dist.sh target/dist $(RUST_TARGET)

test-dist: install-tools libraries
	sh tests/consumer/dist.sh build/dist $(RUST_TARGET)

# The Debian packages: target/debian/packages. cargo-deb is built once, without optimizing, which takes longer than it
# would save.
CARGO_DEB_VERSION := 3.8.0
CARGO_DEB := target/tools/bin/cargo-deb

.PHONY: deb deb-tools test-deb test-docker
deb: deb-tools libraries
	sh packaging/deb.sh $(CARGO_DEB)

deb-tools:
	@if [ "$$($(CARGO_DEB) --version 2>/dev/null)" != "cargo-deb $(CARGO_DEB_VERSION)" ]; then \
	    $(CARGO) install --debug --locked --version $(CARGO_DEB_VERSION) --root target/tools cargo-deb; \
	fi

test-deb: deb
	sh packaging/test-deb.sh target/debian

test-docker:
	sh packaging/test-docker.sh build/docker

# What ABI.md promises.
.PHONY: test-abi abi-record
test-abi: install-tools
	$(CARGO) build --lib --profile $(PROFILE)
	sh tests/abi/run.sh $(PROFILE_DIR)

# Writes down the ABI of the header as that of its minor version.
abi-record: install-tools
	sh tests/abi/record.sh

# How large the library is that phones link; `make size SIZE_RECORD=record` writes it into docs/size.md.
.PHONY: size size-tools
size-tools:
	@missing=; command -v aarch64-linux-gnu-gcc >/dev/null || missing="gcc-aarch64-linux-gnu libc6-dev-arm64-cross"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing; \
	else echo "The sizes need these packages, please install them: $$missing" >&2; exit 1; fi

size: size-tools
	sh mk/size.sh $(SIZE_RECORD)
