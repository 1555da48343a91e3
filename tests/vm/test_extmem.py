# SPDX-License-Identifier: GPL-2.0
"""Ports in memory of the program's own: files on persistent memory (DAX), tmpfs, anonymous memory."""

import os
import re
import shutil
import socket
import threading
import time

import pytest

import vm as vmlib
from upheaval import reachable

VM_OPTIONS = dict(nics=1, smp=2, mem=768, pmem=256, programs=[shutil.which("fallocate")])

POOL = "/mnt/pm/pool"
MIB = 1 << 20


@pytest.fixture
def pm(vm):
    """The machine with an empty pool file on persistent memory. Afterwards nothing is pinned."""
    vm.run(f"mount | grep -q /mnt/pm || pmem-mount mkfs; rm -f {POOL}; fallocate -l {32 * MIB} {POOL}")
    # As quick as the tests ask: each refusal has its line.
    vm.run("sysctl -qw net.core.message_cost=0")
    said(vm)
    yield vm
    vm.run("sysctl -qw net.core.message_cost=5")
    unpinned(vm)


def pins(vm):
    """Pages of processes that are pinned now."""
    # What each CPU has counted by itself, too.
    seen = vm.run("echo 1 >/proc/sys/vm/stat_refresh; cat /proc/vmstat").out
    counts = dict(re.findall(r"nr_foll_pin_(\w+) (\d+)", seen))
    return int(counts["acquired"]) - int(counts["released"])


def unpinned(vm):
    """Nothing is pinned any more, or soon: a port's end is not waited for."""
    end = time.monotonic() + 20
    while pins(vm) and time.monotonic() < end:
        time.sleep(0.5)
    assert pins(vm) == 0


def port(vm, words, memory=f"file:{POOL}", name="pst:0", check=True):
    """Runs nmextmem; what it says, as a dictionary, or its message if it fails and `check` is False."""
    done = vm.run(f"nmextmem {name} -m {memory} {words}", check=False)
    if not check:
        assert done.rc == 1, done.out
        return done.out
    assert done.rc == 0, done.out
    return dict(re.findall(r"(\w+)=(\S*)", done.out))


def said(vm):
    """What the kernel has logged since this was asked last."""
    before = len(vm.log)
    return vm.dmesg()[before:]


class Holding:
    """A port that another process holds for a while, until the block is left."""

    def __init__(self, vm, words="hold 100", memory=f"file:{POOL}", name="pst:0", until="holding"):
        self.job = vm.spawn(f"exec nmextmem {name} -m {memory} {words}")
        vm.run(f"n=0; until grep -q {until} /run/job{self.job.number}.log; do usleep 50000; n=$((n+1)); "
               f"[ $n -lt 200 ] || {{ cat /run/job{self.job.number}.log; exit 1; }}; done")

    def __enter__(self):
        return self.job

    def __exit__(self, *_):
        self.job.kill(9)
        self.job.wait()


def test_buffers_of_an_earlier_life_are_there_again(pm):
    first = port(pm, "-e 5 write 7")
    assert first["formatted"] == "true" and first["sync"] == "true"
    numbers = first["extra"]
    assert len(numbers.split(",")) == 5
    # Given out again, and taken back, but not touched.
    again = port(pm, "-e 5 info")
    assert again["extra"] == numbers and again["formatted"] == "false" and again["id"] == first["id"]
    for _ in range(2):
        assert port(pm, f"-c {numbers} -f existing check 7")["claimed"] == numbers
        pm.run("umount /mnt/pm && pmem-mount")
    # What is claimed goes to nobody else.
    other = port(pm, f"-e 5 -c {numbers} check 7")
    assert not set(other["extra"].split(",")) & set(numbers.split(","))
    port(pm, f"-c {','.join(reversed(numbers.split(',')))} check 7")


def test_other_geometry_is_refused_and_nothing_is_changed(pm):
    numbers = port(pm, "-e 3 write 8")["extra"]
    for words in ("--if-num 3", "--ring-num 6", "--buf-size 4096"):
        assert "Invalid argument" in port(pm, f"{words} info", check=False)
        assert "was formatted as 33554432 bytes with 2 interfaces of 1024" in said(pm)
    pm.run(f"truncate -s {16 * MIB} /mnt/pm/short; dd if={POOL} of=/mnt/pm/short bs=1M count=16 conv=notrunc 2>/dev/null")
    assert "Invalid argument" in port(pm, "info", memory="file:/mnt/pm/short", check=False)
    pm.run("rm /mnt/pm/short")
    port(pm, f"-c {numbers} check 8")
    assert port(pm, "--buf-size 4096 -f anew info")["formatted"] == "true"
    assert "Invalid argument" in port(pm, f"-c {numbers} check 8", check=False)


def test_foreign_contents_are_formatted_unless_something_is_expected(pm):
    pm.run(f"dd if=/dev/urandom of={POOL} bs=1M count=32 conv=notrunc 2>/dev/null")
    assert "Invalid argument" in port(pm, "-f existing info", check=False)
    assert "is not formatted" in said(pm)
    assert "Invalid argument" in port(pm, "-c 2100 info", check=False)
    assert "claimed of memory that is not formatted" in said(pm)
    assert port(pm, "info")["formatted"] == "true"
    assert port(pm, "-f existing info")["formatted"] == "false"
    # One flipped bit in the header, and it is none.
    pm.run(f"printf X | dd of={POOL} bs=1 seek=50 conv=notrunc 2>/dev/null")
    assert "Invalid argument" in port(pm, "-f existing info", check=False)


def test_bad_claims_are_refused_by_number(pm):
    port(pm, "info")
    total = 32 * MIB // 2048
    for bad in ("0", "1", f"{total}", "4294967295"):
        assert f"buffer {bad} claimed: Invalid argument" in port(pm, f"-c 2100,{bad} info", check=False)
    assert "buffer 2100 claimed: Invalid argument" in port(pm, "-c 2100,2101,2100 info", check=False)
    with Holding(pm):
        # The port is open: its rings have the first buffers.
        assert "buffer 3 claimed: " in port(pm, "-c 2100,3 info", check=False)
        # The place of the header is not given out for a second interface.
        assert "Cannot allocate memory" in port(pm, "-c 2100 info", check=False)
    # All or nothing: 2100 is free.
    assert port(pm, "-c 2100 info")["claimed"] == "2100"


def test_any_ordinary_memory_will_do(pm):
    pm.run(f"fallocate -l {16 * MIB} /dev/shm/pool")
    for memory in (f"anon:{16 * MIB}", f"memfd:{16 * MIB}", "file:/dev/shm/pool"):
        got = port(pm, "--if-num 4 -e 100 write 3", memory=memory)
        assert len(got["extra"].split(",")) == 100 and got["sync"] == "false"
        port(pm, "--if-num 4 -e 100 -f anew twice", memory=memory)
    numbers = port(pm, "--if-num 4 -f anew -e 100 write 3", memory="file:/dev/shm/pool")["extra"]
    port(pm, f"--if-num 4 -c {numbers} check 3", memory="file:/dev/shm/pool")
    pm.run("rm /dev/shm/pool")
    # Without memory of one's own there are extra buffers, and no claims.
    assert port(pm, "-e 7 info", memory="kernel")["memsize"] != str(16 * MIB)
    port(pm, "-e 7 twice", memory="kernel")


def test_memory_that_cannot_be_used_is_refused_with_a_reason(pm):
    no = "Operation not supported"
    pm.run("mkdir -p /mnt/huge /mnt/large && echo 8 > /proc/sys/vm/nr_hugepages && mount -t hugetlbfs none /mnt/huge && "
           f"truncate -s {16 * MIB} /mnt/huge/pool && mount -t tmpfs -o huge=always none /mnt/large && "
           f"fallocate -l {16 * MIB} /mnt/large/pool")
    assert no in port(pm, "info", memory="file:/mnt/huge/pool", check=False)
    assert "the pages are huge" in said(pm)
    assert no in port(pm, "info", memory="file:/mnt/large/pool", check=False)
    assert "MADV_NOHUGEPAGE" in said(pm)
    pm.run("rm /mnt/huge/pool /mnt/large/pool; umount /mnt/huge /mnt/large; echo 0 > /proc/sys/vm/nr_hugepages")
    pm.run("umount /mnt/pm && mount -t ext4 -o dax=never /dev/pmem0 /mnt/pm")
    assert no in port(pm, "info", check=False)
    assert "mounted with -o dax" in said(pm)
    pm.run("umount /mnt/pm && pmem-mount")
    assert "Cannot allocate memory" in port(pm, "--buf-num 100000 info", check=False)
    assert "do not fit" in said(pm)
    assert "Invalid argument" in port(pm, "--buf-size 1536 info", check=False)
    assert "cross pages" in said(pm)
    # Sparse, and no room for all of it.
    pm.run("fallocate -l $(($(df -k /mnt/pm | tail -1 | awk '{print $4}') - 3000))K /mnt/pm/filler; truncate -s 40M /mnt/pm/sparse")
    assert "Bad address" in port(pm, "info", memory="file:/mnt/pm/sparse", check=False)
    pm.run("rm /mnt/pm/sparse /mnt/pm/filler")
    port(pm, "info")


def test_memory_in_use_is_refused_to_other_ports(pm):
    with Holding(pm, "--if-num 4 hold 100"):
        assert "busy" in port(pm, "--if-num 4 info", name="pst:1", check=False)
        assert "busy" in port(pm, "--if-num 4 --buf-num 5 info", name="netmap:eth0", check=False)
        # Another process, the same port and memory: a further user of it.
        port(pm, "--if-num 4 -e 5 info")
        assert "busy" in port(pm, "--if-num 5 info", check=False)
        assert "busy" in port(pm, "--if-num 4 info", memory=f"memfd:{32 * MIB}", check=False)
        assert "busy" in pm.run("umount /mnt/pm", check=False).out
    port(pm, "--if-num 4 info", name="pst:1")
    pm.run("umount /mnt/pm && pmem-mount")


def test_truncation_of_persistent_memory_waits_for_the_port(pm):
    with Holding(pm) as job:
        cut = pm.spawn(f"exec truncate -s 0 {POOL}")
        hole = pm.spawn(f"exec fallocate -p -o 0 -l {MIB} {POOL}")
        time.sleep(2)
        assert cut.poll() is None and hole.poll() is None
        # It can be interrupted, and nothing has happened then.
        cut.kill(9)
        assert cut.wait() == 137
        hole.kill(9)
        hole.wait()
        assert job.poll() is None
        assert pm.run(f"stat -c %s {POOL}").out.strip() == str(32 * MIB)
        cut = pm.spawn(f"exec truncate -s 0 {POOL}")
        time.sleep(0.5)
        assert cut.poll() is None
    assert cut.wait() == 0
    assert pm.run(f"stat -c %s {POOL}").out.strip() == "0"


def test_truncated_and_unlinked_files_do_not_disturb_the_port(pm):
    pm.run(f"fallocate -l {32 * MIB} /dev/shm/pool")
    with Holding(pm, memory="file:/dev/shm/pool") as job:
        pm.run("truncate -s 0 /dev/shm/pool; rm /dev/shm/pool; sleep 1")
        assert job.poll() is None
    free = "df -k /mnt/pm | tail -1 | awk '{print $4}'"
    before = int(pm.run(free).out)
    with Holding(pm) as job:
        pm.run(f"rm {POOL}; sync; echo 3 > /proc/sys/vm/drop_caches; sleep 1")
        assert job.poll() is None and int(pm.run(free).out) == before
    pm.run("sync")
    assert int(pm.run(free).out) >= before + 31 * 1024


class Client(threading.Thread):
    """Sends random data in pieces and compares what comes back."""

    def __init__(self, address, tcp_port, pieces, size):
        super().__init__()
        self.socket = socket.create_connection((address, tcp_port), 30)
        self.pieces = [os.urandom(size) for _ in range(pieces)]
        self.done = 0
        self.failure = "not done"

    def run(self):
        """The traffic."""
        try:
            self.socket.settimeout(60)
            for piece in self.pieces:
                self.socket.sendall(piece)
                got = bytearray()
                while len(got) < len(piece):
                    part = self.socket.recv(1 << 16)
                    assert part, "closed"
                    got += part
                assert got == piece, "other bytes came back"
                self.done += 1
            self.failure = None
        except (OSError, AssertionError) as error:
            self.failure = repr(error)
        self.socket.close()


def echo(vm, connections=20, pieces=20, size=20_000):
    """Byte-exact traffic with an echo server in the machine; what was sent."""
    clients = [Client(vm.nics[0].guest, 1500, pieces, size) for _ in range(connections)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert [client.failure for client in clients if client.failure] == []
    return [piece for client in clients for piece in client.pieces]


@pytest.mark.parametrize("memory", [f"file:{POOL}", "file:/dev/shm/pool", f"anon:{32 * MIB}"])
def test_traffic_goes_through_the_memory(pm, memory):
    if "shm" in memory:
        pm.run(f"fallocate -l {32 * MIB} /dev/shm/pool")
    with Holding(pm, "echo eth0 1500 200", memory=memory, until="listening") as job:
        reachable(pm)
        sent = echo(pm)
        assert job.poll() is None, job.output()
    if memory.startswith("file:"):
        # What the network card wrote is in the file: the last packets of the last pieces.
        content = pm.get(memory.removeprefix("file:"))
        assert any(piece[-500:] in content for piece in sent), "none of the payload is in the file"
    pm.run("rm -f /dev/shm/pool")


def test_killed_under_load_and_started_again_at_once(pm):
    numbers = port(pm, "-e 5 write 9")["extra"]
    for _ in range(3):
        job = Holding(pm, f"-c {numbers} echo eth0 1500 200", until="listening").job
        reachable(pm)
        clients = [Client(pm.nics[0].guest, 1500, 1000, 30_000) for _ in range(10)]
        for client in clients:
            client.start()
        end = time.monotonic() + 60
        while not all(client.done for client in clients) and time.monotonic() < end:
            time.sleep(0.1)
        assert [client.done > 0 for client in clients] == [True] * 10, [client.failure for client in clients]
        job.kill(9)
        job.wait()
        port(pm, f"-c {numbers} -f existing check 9")
        for client in clients:
            client.join()
    gone = pm.spawn("umount /mnt/pm")
    try:
        assert gone.wait(30) == 0, gone.output()
    except vmlib.VMError:
        # The network still has pages: who?
        print(pm.run("cat /proc/$(pidof umount)/stack; ss -tanmo; cat /sys/kernel/debug/netmap/pools", check=False).out)
        raise
    pm.run("pmem-mount && rmmod netmap && modprobe netmap")
    port(pm, f"-c {numbers} -f existing check 9")
