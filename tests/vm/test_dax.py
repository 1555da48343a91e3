# SPDX-License-Identifier: GPL-2.0
"""Persistent memory in other forms than files on ext4: files on xfs, and device DAX."""

import shutil
import signal

import pytest

from storing import nmstore, serving
from test_extmem import Holding, echo, port, said, unpinned
from upheaval import reachable

# A file system of xfs has 300 MB or more.
VM_OPTIONS = {"pmem": 384, "mem": 768, "modules": ["xfs"],
              "programs": [shutil.which(name) for name in ("mkfs.xfs", "xfs_io", "fallocate")]}

POOL = "/mnt/pm/pool"
MIB = 1 << 20


@pytest.fixture
def xfs(vm, request):
    """The machine with a new xfs on its persistent memory; a parameter is an option of mkfs.xfs."""
    vm.run(f"pmem-mount mkfs xfs {getattr(request, 'param', '')}")
    said(vm)
    yield vm
    vm.run("umount /mnt/pm")
    assert "xfs" not in vm.run("cat /proc/mounts").out


@pytest.mark.parametrize(("mode", "xfs"), [("zero-copy-log", ""), ("stack-keys", ""), ("zero-copy-log", "-m reflink=0")], indirect=["xfs"])
def test_stores_on_xfs_survive_a_kill(xfs, mode, tmp_path):
    journal = tmp_path / "journal"
    with serving(xfs, mode, "-L 48") as job:
        # By the processor alone: the kernel granted MAP_SYNC.
        assert "mapped, cl" in job.output(), job.output()
        nmstore(xfs, mode, journal, "put", options="-n 500")
        job.kill(signal.SIGKILL)
        assert job.wait(20) == 137
        xfs.run("umount /mnt/pm && pmem-mount '' xfs")
        # For the end of the block.
        job.poll, job.wait = lambda: None, lambda _: 0
    with serving(xfs, mode):
        nmstore(xfs, mode, journal, "verify", options="--least 500")


def test_a_pool_on_xfs_is_a_pool(xfs):
    xfs.run(f"fallocate -l {32 * MIB} {POOL}")
    first = port(xfs, "-e 5 write 7")
    assert first["sync"] == "true"
    numbers = first["extra"]
    with Holding(xfs, f"-c {numbers} echo eth0 1500 200", until="listening") as job:
        reachable(xfs)
        echo(xfs)
        # Who cuts it waits.
        cut = xfs.spawn(f"exec truncate -s 0 {POOL}")
        assert "busy" in xfs.run("umount /mnt/pm", check=False).out
        assert cut.poll() is None and job.poll() is None
        cut.kill(9)
        assert cut.wait() == 137
    port(xfs, f"-c {numbers} -f existing check 7")
    # A copy that shares its blocks keeps what was in them.
    xfs.run(f"xfs_io -f -c 'reflink {POOL}' /mnt/pm/copy")
    port(xfs, f"-c {numbers} write 8")
    port(xfs, f"-c {numbers} check 7", memory="file:/mnt/pm/copy")
    port(xfs, f"-c {numbers} check 8")


def test_device_dax_with_small_pages_is_a_pool(vm):
    device = vm.run("pmem-device 4096").out.split()[-1]
    memory = f"file:{device},{16 * MIB}"
    first = port(vm, "-e 5 -f anew write 7", memory=memory)
    assert first["sync"] == "true" and first["formatted"] == "true"
    numbers = first["extra"]
    with Holding(vm, f"-c {numbers} echo eth0 1500 200", memory=memory, until="listening") as job:
        assert "persistent" in vm.run("cat /sys/kernel/debug/netmap/pools").out
        reachable(vm)
        # More packets than there are buffers: they are used again.
        echo(vm, pieces=40)
        assert job.poll() is None, job.output()
    port(vm, f"-c {numbers} -f existing check 7", memory=memory)
    # The device stays as long as a port uses it.
    with Holding(vm, memory=memory) as job:
        gone = vm.spawn("for d in /sys/bus/dax/drivers/device_dax/dax*; do echo ${d##*/} >/sys/bus/dax/drivers/device_dax/unbind; done")
        vm.run("n=0; until cat /proc/[0-9]*/stack 2>/dev/null | grep -q memunmap; do usleep 50000; n=$((n+1)); [ $n -lt 100 ]; done")
        assert gone.poll() is None and job.poll() is None
    assert gone.wait() == 0
    unpinned(vm)


def test_device_dax_with_large_pages_is_refused_and_told_why(vm):
    device = vm.run(f"pmem-device {2 * MIB}").out.split()[-1]
    assert "create-namespace" in port(vm, "info", memory=f"file:{device}", check=False)
