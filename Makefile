include mk/demo.mk
