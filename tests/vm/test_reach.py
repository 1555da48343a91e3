# SPDX-License-Identifier: GPL-2.0
"""Memory above 4 GiB, where a server's persistent memory is: e1000 reaches the first 4 GiB only, the other NICs all of it."""

import re
import shutil

import pytest

from test_extmem import MIB, Holding, echo, port, said, unpinned
from upheaval import reachable

VM_OPTIONS = {"nics": 1, "mem": 4608, "pmem": 64, "programs": [shutil.which("fallocate")]}

POOL = "/mnt/pm/pool"
ECHO = "echo eth0 1500 200"


@pytest.fixture
def high(vm):
    """The machine with an empty pool file above 4 GiB; afterwards nothing is pinned."""
    start = int(re.search(r"([0-9a-f]+)-.*Persistent Memory", vm.run("cat /proc/iomem").out)[1], 16)
    assert start >= 1 << 32, hex(start)
    vm.run(f"mount | grep -q /mnt/pm || pmem-mount mkfs; rm -f {POOL}; fallocate -l {32 * MIB} {POOL}")
    said(vm)
    yield vm
    unpinned(vm)


def test_a_nic_reaches_all_of_the_memory_or_is_refused(high):
    memory = f"file:{POOL}"
    if high.driver == "e1000":
        assert "os error 5" in port(high, ECHO, memory=memory, check=False)
        assert said(high).count("this NIC's DMA cannot reach all of the pool's memory") == 1
        # It stays with the host, and takes a pool that it reaches.
        reachable(high)
        memory = "kernel"
    with Holding(high, ECHO, memory=memory, until="listening") as job:
        reachable(high)
        echo(high)
        assert job.poll() is None, job.output()
