.DEFAULT_GOAL := test

include mk/test.mk
include mk/demo.mk
