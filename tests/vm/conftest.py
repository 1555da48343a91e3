# SPDX-License-Identifier: GPL-2.0
"""Fixtures of the tests in a virtual machine.

A test module gets one machine, made with its VM_OPTIONS (keyword arguments of vm.VM) if it has them. The environment's
NIC (see vm.VM) and QUEUES are for modules that name none themselves.
After each test the kernel log must be clean and every buffer back where it was; a machine that failed
there is replaced, so that one fault is not reported by the tests that follow.
"""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import vm as vmlib  # noqa: E402
from accounting import buffers, settled  # noqa: E402


class Holder:
    """The machine of a test module, started again after a fault."""

    def __init__(self, name, options):
        self.name = name
        self.options = {"nic": os.environ.get("NIC") or "e1000", "queues": int(os.environ.get("QUEUES") or 0), **options}
        self.machine = None

    def get(self):
        """A running machine with the modules loaded, the NICs up and set up by scripts/nic-setup."""
        if self.machine is None or not self.machine.alive():
            self.drop()
            self.machine = vmlib.VM(name=self.name, **self.options)
            self.machine.load()
            self.machine.nics_ready()
        return self.machine

    def drop(self):
        """Ends the machine, if there is one."""
        if self.machine is not None:
            self.machine.close()
            self.machine = None


@pytest.fixture(scope="module")
def holder(request):
    """Keeps the machine of a test module."""
    made = Holder(request.module.__name__, getattr(request.module, "VM_OPTIONS", {}))
    yield made
    made.drop()


@pytest.fixture
def vm(holder, request):
    """The machine of the test module. A test marked `log(allow=[...])` may leave lines that match those expressions."""
    machine = holder.get()
    before = buffers(machine)
    yield machine
    mark = request.node.get_closest_marker("log")
    try:
        if not request.node.stash.get(restarted, False):
            machine.check_log(allow=mark.kwargs["allow"] if mark else ())
            after = settled(machine, before)
            assert after == before, f"buffers before the test: {before}, after it: {after}"
    except BaseException:
        holder.drop()
        raise


# Set in a test's stash by one that ends its machine on purpose: nothing is left to judge.
restarted = pytest.StashKey()


def pytest_configure(config):
    """Names the marks that tests here use."""
    config.addinivalue_line("markers", "log(allow): kernel log lines that this test may cause")
    config.addinivalue_line("markers", "slow: takes more than a minute")
