# SPDX-License-Identifier: GPL-2.0
#
# What people type. `make help` lists it. The kernel modules themselves are described in Kbuild.

SHELL := /bin/bash
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

ENV := scripts/env

# Modules are built for the running kernel where that is a supported Debian 13 kernel, else for the virtual machine's.
RUNNING := $(shell uname -r)
NATIVE := $(shell scripts/kernel is-native && echo yes)

.PHONY: all
all: modules apps ## kernel modules and programs

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t16

.PHONY: setup
setup: ## fetch the environment and the kernel (done by whatever needs it)
	@scripts/setup
	@$(ENV) --net scripts/kernel prepare >/dev/null

.PHONY: modules
modules: ## netmap.ko and the patched drivers, in build/kernel/RELEASE
ifeq ($(NATIVE),yes)
	@dir=$$(scripts/kernel native) && scripts/modules "$$dir" $(RUNNING)
else
	@dir=$$($(ENV) --net scripts/kernel prepare) && $(ENV) scripts/modules "$$dir" "$$(basename "$$dir")"
endif

.PHONY: apps
apps: ## the programs, in build/cargo/release
	@$(ENV) --net cargo fetch --locked --quiet
	@$(ENV) cargo build --release --offline --locked --quiet

.PHONY: vm
vm: modules ## a virtual machine with all of it, and a shell in it
	@scripts/vm

.PHONY: clean
clean: ## remove what was built (the cache stays)
	rm -rf build
