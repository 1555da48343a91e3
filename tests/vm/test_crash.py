# SPDX-License-Identifier: GPL-2.0
"""Crashes, at seeded points under load and of full stores: of phttpd, and of the whole machine, whose memory is a file and so
outlives it.

Persistent memory that is a file knows no missing flushes: what is tested here is recovery. The order in which lines
become persistent is tested by the model in apps/storage.
"""

import os
import random
import re
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

import vm as vmlib
from accounting import buffers
from storing import MODES, nmstore, nmstore_command, start
from upheaval import stop

# Crash points; `make test-crash` takes 100.
POINTS = int(os.environ.get("CRASH_POINTS", "6"))
SEED = int(os.environ.get("CRASH_SEED", "1"))
# Stores that take turns.
TURNS = ["zero-copy-log", "epoll-log", "zero-copy-keys", "written-log", "stack-keys"]
MEM, PMEM = 640, 512
# Requests that must be acknowledged before each crash, or it tests nothing.
SENSIBLE = 50

# Objects that each kind of store is filled with over 50 connections; `make test-crash` takes 100,000.
OBJECTS = int(os.environ.get("STORE_OBJECTS", "1000"))
SIZE = max(16, OBJECTS * 5 // 1000)
# Kinds of stores, and how their file system is mounted: mapped and flushed by the CPU; or through the page cache, where what was not
# waited for is lost with the machine.
DAX, PAGES = "dax=always", "dax=never"
KINDS = [*((DAX, mode) for mode in MODES), (PAGES, "synced-keys"), (PAGES, "epoll-keys"), (PAGES, "written-log")]
# In the short form one of each way to keep and to flush, all on one machine; else all, with a machine each.
GROUPS = [[kind] for kind in KINDS] if OBJECTS > 1000 else [
    [(DAX, "zero-copy-log"), (DAX, "zero-copy-keys"), (DAX, "epoll-log"), (PAGES, "epoll-keys"), (PAGES, "written-log")]]


class Machine:
    """A machine that can be killed and started again with the same memory."""

    def __init__(self, mem=MEM, pmem=PMEM):
        self.mem, self.pmem = mem, pmem
        self.dir = tempfile.TemporaryDirectory(dir="/dev/shm", prefix="crash-")
        self.memory = Path(self.dir.name) / "ram"
        self.vm = None

    def boot(self):
        """Starts it; the first time with an empty file system on its persistent memory."""
        first = not self.memory.exists()
        backend = f"memory-backend-file,id=ram,size={self.mem + self.pmem + vmlib.PMEM_ABOVE}M,mem-path={self.memory},share=on"
        self.vm = vmlib.VM(name="crash", mem=self.mem, pmem=self.pmem, qemu=["-object", backend, "-machine", "memory-backend=ram"])
        self.vm.load()
        self.vm.nic_up()
        self.vm.run("nic-setup eth0")
        self.vm.run("pmem-mount mkfs" if first else "pmem-mount")

    def reboot(self):
        """Has the guest end in order, and starts it again."""
        self.vm.check_log()
        self.vm.run("umount /mnt/pm")
        self.vm.run("(sleep 0.2; reboot -f) >/dev/null 2>&1 &")
        self.vm.process.wait(30)
        self.vm.kill()
        self.boot()

    def crash(self):
        """Kills QEMU and starts it again."""
        self.vm.check_log()
        self.vm.kill()
        self.boot()

    def close(self):
        """Ends it for good."""
        if self.vm is not None:
            self.vm.close()
        self.dir.cleanup()


def load(vm, mode, journal, first):
    """Puts that go on until the server dies; returns when some have been acknowledged."""
    again = "" if MODES[mode][1] else "--again 20 --delete 10"
    command = nmstore_command(vm, mode, journal, "put", timeout=60,
                              options=f"-f {first} -n 50000 -m 3000 -c 20 -w 5 --until-death --full --tell {SENSIBLE} {again}")
    client = subprocess.Popen(command, shell=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    # Nothing but that, or its end.
    line = client.stdout.readline()
    assert "going on" in line, line + client.communicate()[0]
    return client


def test_what_was_acknowledged_survives_every_crash(tmp_path):
    dice = random.Random(SEED)
    machine = Machine()
    try:
        machine.boot()
        before = buffers(machine.vm)
        for point in range(POINTS):
            mode = TURNS[point % len(TURNS)]
            journal = tmp_path / mode
            job = started(machine.vm, mode, journal)
            # Room for what comes: only what the turn before has stored remains.
            if point >= 2 * len(TURNS):
                nmstore(machine.vm, mode, journal, "forget", options=f"-b {100_000 * (point - len(TURNS))}")
            client = load(machine.vm, mode, journal, 100_000 * point)
            time.sleep(dice.uniform(0, 1.2))
            assert client.poll() is None, client.communicate()[0]
            whole = point % 3 == 2
            if whole:
                machine.vm.kill()
            else:
                job.kill(9)
            out, _ = client.communicate(timeout=60)
            assert client.returncode == 0, out
            print(f"point {point}: {mode}, {'machine' if whole else 'server'}: {out.strip()}")
            assert int(re.search(r"acknowledged=(\d+)", out)[1]) >= SENSIBLE, out
            if whole:
                machine.boot()
            else:
                assert job.wait() == 137
                machine.vm.check_log()
        for mode in sorted(path.name for path in tmp_path.iterdir()):
            stop(started(machine.vm, mode, tmp_path / mode))
        machine.vm.check_log()
        assert buffers(machine.vm) == before
    finally:
        machine.close()


def started(vm, mode, journal):
    """A server that has recovered everything that the journal tells of."""
    if not journal.exists():
        return start(vm, mode, "-L 64")
    job = start(vm, mode)
    print(nmstore(vm, mode, journal, "verify", options="-m 3000").strip())
    return job


@pytest.mark.parametrize("kinds", GROUPS, ids=lambda kinds: "+".join(" ".join(kind) for kind in kinds))
def test_objects_survive_a_dead_server_a_dead_machine_and_a_reboot(kinds, tmp_path):
    machine = Machine(768, max(384, -(-SIZE * len(kinds) * 5 // 4 // 128) * 128))

    def place(kind):
        """Journal and folder of a kind."""
        name = kind[1] + kind[0].removeprefix("dax=")
        return tmp_path / name, f"/mnt/pm/{name}"

    def whole(kind):
        """A server that has everything that the journal tells of; each byte of it came by GET."""
        journal, folder = place(kind)
        job = start(machine.vm, kind[1], folder=folder, seconds=120)
        out = nmstore(machine.vm, kind[1], journal, "verify", options=f"--least {OBJECTS}", timeout=400)
        assert "verify ok" in out, out
        return job

    def killed(job):
        job.kill(9)
        assert job.wait() == 137

    try:
        machine.boot()
        # Nothing is written because of its age.
        machine.vm.run("echo 0 >/proc/sys/vm/dirty_writeback_centisecs")
        for kind in kinds:
            mount, mode = kind
            machine.vm.run(f"umount /mnt/pm; mount -o {mount},commit=300 /dev/pmem0 /mnt/pm")
            journal, folder = place(kind)
            job = start(machine.vm, mode, f"-L {SIZE}", folder, seconds=120)
            options = "" if MODES[mode][1] else "--again 10 --delete 5"
            nmstore(machine.vm, mode, journal, "put", options=f"-n {OBJECTS} {options}", timeout=400)
            # The last one's machine dies with the last answer.
            if kind != kinds[-1]:
                killed(job)
                killed(whole(kind))
        machine.crash()
        for kind in kinds:
            killed(whole(kind))
        killed(whole(kinds[-1]))
        machine.reboot()
        for kind in kinds:
            stop(whole(kind))
        machine.vm.check_log()
    finally:
        machine.close()
