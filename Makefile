# SPDX-License-Identifier: GPL-2.0
#
# What people type; `make help` lists it. The kernel modules themselves are described in Kbuild.
# Everything but `make deps` and `make install` runs in the environment of scripts/env.

SHELL := /bin/bash
COMMA := ,
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

ENV := scripts/env
PYTEST := $(ENV) python3 -m pytest -p no:cacheprovider

# `make` and `make modules` build for the running kernel where that is a supported one of Debian 13, else for
# the virtual machine's.
RUNNING := $(shell uname -r)
NATIVE := $(shell scripts/kernel is-native && echo yes)

.PHONY: all
all: modules apps ## the kernel modules and the programs

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t14
	@echo
	@echo "KERNEL=7.2   another kernel series than the newest supported one"
	@echo "COUNT=1      make demo: count guest instructions per request too"
	@echo "NIC=ixgbe    make vm, demo, test-vm: another NIC than e1000 (ixgbe, x540 and i40e are models of our own, docs/nic-models.md)"
	@echo "QUEUES=2     make demo, test-vm: queues of that NIC, with as many vCPUs and threads"

.PHONY: demo
demo: vm-modules fetch ## phttpd on plain sockets and on a stack port, measured in a virtual machine
	@$(ENV) cargo build -p phttpd $(if $(NIC),-p nicmodel) --release --offline --locked --quiet
	@count=; if [ -n "$(COUNT)" ]; then count="--count $$($(ENV) --net scripts/counter)"; fi; \
	$(ENV) python3 tests/bench/demo.py $$count $(if $(NIC),--nic $(NIC)) $(if $(QUEUES),--queues $(QUEUES))

.PHONY: test
test: test-host test-vm test-nics test-others ## everything: lint, host tests, tests on the newest kernel, some on the others

.PHONY: lint
lint: fetch ## formatting, clippy, shellcheck, checkpatch
	@scripts/lint

.PHONY: test-host
test-host: lint ## unit and property tests, the ABI check
	@$(ENV) cargo test --workspace --offline --locked --quiet

# Runs of pytest, each in an environment (and network) of its own, two at a time. The environment's programs have the terminal to
# themselves, which only one of several runs can: these have none. Ctrl-C ends their shells here, which get the terminal back from
# who had it last, and with a shell goes its run.
define two_at_a_time
@perl -MPOSIX -e '$$SIG{TTOU} = "IGNORE"; tcsetpgrp(0, getpgrp())' 2>/dev/null || :
@$(MAKE) -j2 -k -Oline $(1)
endef
one_of_two = @echo "$(1)"; $(2) $(PYTEST) $(3) </dev/null & wait $$!

# The longest ones first, so that neither half waits for the other one's last.
IN_VM := lifecycle store nic streams models
IN_VM += $(filter-out $(IN_VM),$(patsubst tests/vm/test_%.py,%,$(wildcard tests/vm/test_*.py)))

.PHONY: test-vm
test-vm: vm-modules env-apps ## the tests on the stock kernel, two at a time; TESTS="tests/vm/test_load.py -k name" selects
ifdef TESTS
	@$(PYTEST) $(TESTS)
else
	$(call two_at_a_time,$(IN_VM:%=test-in-vm-%))
endif

test-in-vm-%:
	$(call one_of_two,$*,,tests/vm/test_$*.py)

# What the driver of a NIC and the number of its queues can break.
ON_EACH := tests/vm/test_queues.py
ON_ONE := tests/vm/test_nic.py tests/vm/test_stock.py tests/vm/test_reach.py -k 'reaches or stock or leave or arrive or link_goes or unloads or hostile or changes \
	or host_rings or host_goes'
ON_TWO := tests/vm/test_load.py tests/vm/test_phttpd.py tests/vm/test_streams.py tests/vm/test_lifecycle.py tests/vm/test_netem.py \
	tests/vm/test_slot.py tests/vm/test_offload.py tests/vm/test_nmgen.py -k 'without_netmap or ipv6 or stopped or offloads or 3_mib and stack or killed_under_load_and \
	or flaps or interface or unloads_during or hostile or loss or jumbo or slot or test_offload or nmgen'
# The stack port's own part on one queue and on four: what is in ON_TWO or tested on the e1000, as far as queues may matter.
ON_OTHER := tests/vm/test_streams.py tests/vm/test_phttpd.py tests/vm/test_lifecycle.py tests/vm/test_netem.py \
	-k 'stack and (3_mib or killed_under_load_and) or test_ipv6 or flaps or hostile or loss or rest_of_the_host'
# The X540 has another port than the 82599, and is the same else.
ON_X540 := tests/vm/test_queues.py tests/vm/test_lifecycle.py -k 'with_the_thread or ring_sizes or jumbo'

on_nic = $(call one_of_two,$(@:test-on-%=%)$(COMMA) queues: $(1),NIC=$(@:test-on-%=%) QUEUES=$(1),$(2))

.PHONY: test-nics
test-nics: vm-modules env-apps ## drivers and queues, on the modelled NICs, two at a time; NIC=ixgbe selects one
	$(call two_at_a_time,$(addprefix test-on-,$(or $(NIC),ixgbe i40e x540)))

test-on-%:
	$(call on_nic,2,$(ON_TWO))
	$(call on_nic,1,$(ON_ONE))
	$(call on_nic,1,$(ON_OTHER))
	$(call on_nic,1,$(ON_EACH))
	$(call on_nic,2,$(ON_EACH))
	$(call on_nic,4,$(ON_EACH))
	$(call on_nic,4,$(ON_OTHER))

test-on-x540:
	$(call on_nic,2,$(ON_X540))

.PHONY: test-crash
test-crash: vm-modules env-apps ## stores of 100,000 objects through deaths and reboots, 100 crashes under load; CRASH_SEED=n for other ones
	@$(ENV) env STORE_OBJECTS=$(or $(STORE_OBJECTS),100000) CRASH_POINTS=$(or $(CRASH_POINTS),100) CRASH_SEED=$(or $(CRASH_SEED),1) \
		python3 -m pytest -p no:cacheprovider tests/vm/test_store.py tests/vm/test_crash.py -k "restart or crash"

SHORT := tests/vm/test_load.py tests/vm/test_phttpd.py tests/vm/test_store.py \
	-k 'archives or driver_unloads or stack and (get_and_post or 3_mib) or survive_a_restart and zero-copy'
SHORT_ON_NIC := tests/vm/test_queues.py -k 'thread_of or ring_sizes'

.PHONY: test-others
test-others: ## modules for the other supported kernels, and a short test on each
	@others=$$($(ENV) --net scripts/kernel others) || exit; \
	for series in $$others; do \
		$(MAKE) KERNEL=$$series TESTS="$(SHORT)" test-vm || exit; \
		for nic in ixgbe i40e; do \
			$(MAKE) KERNEL=$$series NIC=$$nic TESTS="$(SHORT_ON_NIC)" test-vm || exit; \
		done; \
	done

.PHONY: setup
setup: fetch ## fetch the environment, the kernel and the crates (whatever needs them does it too)
	@$(ENV) --net scripts/kernel prepare >/dev/null

.PHONY: modules
ifeq ($(NATIVE),yes)
modules: ## netmap.ko and the patched NIC drivers, in build/kernel/RELEASE
	@dir=$$(scripts/kernel native) && scripts/modules "$$dir" $(RUNNING)
else
modules: vm-modules
endif

.PHONY: vm-modules
vm-modules:
	@dir=$$($(ENV) --net scripts/kernel prepare) && $(ENV) scripts/modules "$$dir" "$$(basename "$$dir")"

# Programs in C, as their subject is the headers, too.
IN_C := for name in api-errno api-legacy xdp; do \
	cc -O2 -Wall -Wextra -Werror -I include -o build/cargo/release/$$name tests/tools/$$name.c || exit; done

.PHONY: apps
ifeq ($(NATIVE),yes)
apps: ## the programs, in build/cargo/release
	@CARGO_TARGET_DIR=build/cargo cargo build --workspace --release --locked --quiet
	@$(IN_C)
else
apps: env-apps
endif

.PHONY: env-apps
env-apps: fetch
	@$(ENV) cargo build --workspace --release --offline --locked --quiet
	@$(ENV) cargo build -p netmap --example echo --release --offline --locked --quiet
	@$(ENV) sh -c '$(IN_C)'

.PHONY: fetch
fetch:
	@$(ENV) --net cargo fetch --locked --quiet

.PHONY: vm
vm: vm-modules env-apps ## a virtual machine with all of it, and a shell in it
	@scripts/vm $(if $(NIC),--nic $(NIC))

.PHONY: deps
deps: ## on a Debian 13 server: install what building the modules there needs
	apt-get install --no-install-recommends $$(sed -n '/^# kernel modules/,/^$$/{/^[a-z]/p}' scripts/packages)

.PHONY: install
install: ## on a Debian 13 server: install the modules for the running kernel
	@[ -e build/kernel/$(RUNNING)/netmap.ko ] || { echo "no modules for $(RUNNING) yet: run make first" >&2; exit 1; }
	install -d $(DESTDIR)/lib/modules/$(RUNNING)/updates
	install -m 644 build/kernel/$(RUNNING)/*.ko $(DESTDIR)/lib/modules/$(RUNNING)/updates/
	depmod $(if $(DESTDIR),-b $(DESTDIR)) $(RUNNING)

.PHONY: clean
clean: ## remove what was built (the cache stays)
	rm -rf build
