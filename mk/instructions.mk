# Instruction counts: what the product's own code executes, compared with benches/instructions.toml.

.PHONY: test-instructions instructions

# Built as what is shipped. Callgrind comes with valgrind, which the tests need anyway.
INSTRUCTIONS := $(CARGO) bench --profile release --bench instructions --

test-instructions: test-tools
	$(INSTRUCTIONS)

# Writes benches/instructions.toml.
instructions: test-tools
	$(INSTRUCTIONS) --update
