# Needs a Rust toolchain and a C compiler, nothing else.
.PHONY: demo
demo:
	@sh demo/run.sh
