# The Swift package, where mk/swift.sh finds Swift: here, or in a tree of Debian that has it.

.PHONY: test-swift swift-everyone swift-docs

# In language modes 5 and 6, and the code of docs/swift.md.
test-swift: test-tools
	$(CARGO) build --lib --profile $(PROFILE)
	sh bindings/swift/test.sh "$(CURDIR)/$(PROFILE_DIR)"

# The Swift peer of the test of all languages; bindings/swift/everyone.sh runs it.
swift-everyone: test-tools
	$(CARGO) build --lib --profile $(PROFILE)
	sh bindings/swift/test.sh "$(CURDIR)/$(PROFILE_DIR)" everyone

# The references as DocC makes them, of each module in a directory of build/swift/docs.
swift-docs: test-tools
	$(CARGO) build --lib --profile $(PROFILE)
	sh bindings/swift/test.sh "$(CURDIR)/$(PROFILE_DIR)" docs
