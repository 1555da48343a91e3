# SPDX-License-Identifier: GPL-2.0
"""What tests need that disturb a server or a NIC: servers, load that must come out whole, memory."""

import contextlib
import re
import signal
import subprocess
import threading
import time
from pathlib import Path
from statistics import median

import vm as vmlib
from phttpd import PORT, registered

NMLOAD = vmlib.TOP / "build/cargo/release/nmload"


def start(vm, options="-i eth0", port=PORT, inside=""):
    """A server of 64-byte answers; returns when it listens. `inside`: words before the command, such as ip netns exec NAME."""
    threads = "" if "-p" in options.split() else f"-p {vm.queues or 1}"
    job = vm.spawn(f"exec {inside} phttpd -P {port} -l 64 -c {threads} {options}")
    vm.run(f"n=0; until grep -q 'port {port}' /run/job{job.number}.log; do usleep 50000; n=$((n+1)); "
           f"[ $n -lt 200 ] || {{ cat /run/job{job.number}.log; exit 1; }}; done")
    return job


def stop(job):
    """Ends a server, which must have survived until here."""
    assert job.poll() is None, job.output()
    job.kill()
    assert job.wait(20) == 0, job.output()


@contextlib.contextmanager
def serving(vm, options="-i eth0", port=PORT, inside=""):
    """A server while the block runs."""
    job = start(vm, options, port, inside)
    try:
        yield job
    except BaseException:
        print(job.output())
        job.kill(9)
        raise
    stop(job)


def reachable(vm, index=0):
    """Waits until the host answers over a NIC: one that enters or leaves netmap mode restarts its link."""
    vmlib.host(f"n=0; until ping -c 1 -W 1 {vm.nics[index].guest} >/dev/null; do n=$((n+1)); [ $n -lt 20 ]; done")


def answer(vm, port=PORT, index=0, path="/"):
    """Bytes of one answer of a server, from the client's side."""
    return int(vmlib.host(f"curl -s -f -m 20 http://{vm.nics[index].guest}:{port}{path} | wc -c").out)


def established(address, port=PORT):
    """What ss says of each of the client's connections to a server."""
    return vmlib.host(f"ss -HtniO state established dst {address} dport = :{port}").out.splitlines()


class Wrk:
    """wrk while the block runs, whose connections are all live and busy when it begins: requests that were answered, and how
    often a connection failed in reading or writing, are known after it. `count` tells how many connections the server has."""

    def __init__(self, vm, connections=30, index=0, port=PORT, count=registered):
        self.vm = vm
        self.count = count
        self.connections = connections
        self.server = vm.nics[index].guest, port
        self.command = ["wrk", "-t1", f"-c{connections}", "-d60s", f"http://{vm.nics[index].guest}:{port}/"]
        self.counter = Path(f"/sys/class/net/{vm.nics[index].tap}/statistics/rx_packets")
        self.requests = self.failures = 0

    def __enter__(self):
        before = int(self.counter.read_text())
        self.process = subprocess.Popen(self.command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        live = self.count(self.vm, self.connections)
        if live < self.connections:
            self._end()
        assert live >= self.connections, f"{live} connections of wrk"
        # Each answer is a packet, and may have another one that acknowledges its request.
        end = time.monotonic() + 20
        while int(self.counter.read_text()) < before + 500 and time.monotonic() < end:
            time.sleep(0.05)
        return self

    def cut_off(self):
        """Waits until each of its connections, of a server that has ended, has failed."""
        end = time.monotonic() + 20
        while left := established(*self.server):
            assert time.monotonic() < end, left
            time.sleep(0.1)

    def _end(self):
        self.process.send_signal(signal.SIGINT)
        try:
            out = self.process.communicate(timeout=20)[0]
        except subprocess.TimeoutExpired:
            self.process.kill()
            out = self.process.communicate()[0]
        found = re.search(r"(\d+) requests in", out)
        assert found, out
        self.requests = int(found[1])
        failed = re.search(r"read (\d+), write (\d+)", out)
        self.failures = int(failed[1]) + int(failed[2]) if failed else 0

    def __exit__(self, *_):
        self._end()


class Load:
    """Echo of random bodies, every byte compared, again and again until the block is left; then all must have come back."""

    def __init__(self, address, port=PORT, connections=10, size=1_000_000, timeout=60):
        self.command = f"{NMLOAD} {address}:{port} -t {timeout} echo -c {connections} -n {size} -m 60000"
        self.server = address, port
        self.connections = connections
        self.size = size
        self.thread = threading.Thread(target=self._work)
        self.ended = threading.Event()
        self.rounds = 0
        self.failure = None

    def _work(self):
        while not self.ended.is_set() and self.failure is None:
            done = vmlib.host(f"{self.command} -s {self.rounds + 1}", check=False)
            self.rounds += 1
            if done.rc:
                self.failure = done.out

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        assert self.failure is None, f"round {self.rounds}: {self.failure}"

    def _wait(self, condition):
        end = time.monotonic() + 90
        while not condition() and self.failure is None:
            assert time.monotonic() < end, "no round ends"
            time.sleep(0.05)

    def flowing(self):
        """Waits until each connection of a round is beyond its handshake and in its first half. A kernel gives up a handshake whose
        answer is due again while there is no route, as while the interface is down: the client takes it for made, and is reset."""
        def early():
            found = [re.search(r"bytes_received:(\d+)", flow) for flow in established(*self.server)]
            came = [int(each[1]) for each in found if each]
            return len(came) == self.connections and max(came) < self.size // 2

        self._wait(early)

    def another_round(self):
        """Waits until a round has both begun and ended after this call, and the next one flows."""
        target = self.rounds + 2
        self._wait(lambda: self.rounds >= target)
        self.flowing()


# Free memory with what waits on per-CPU lists, which is tens of MiB and comes and goes; slabs that nothing can reclaim.
# Each CPU counts up to half a MiB by itself before it adds that to what all can read, unless it is told to.
MEASURE = r"""
echo 3 >/proc/sys/vm/drop_caches; sleep 0.3; echo 1 >/proc/sys/vm/stat_refresh
lists=$(awk '/pagesets/ {on = 1} /^Node|start_pfn/ {on = 0} on && $1 == "count:" {n += $2} END {print n}' /proc/zoneinfo)
awk -v lists="$lists" '/^MemFree:/ {print $2 + 4 * lists} /^SUnreclaim:/ {print $2}' /proc/meminfo
"""


class Memory:
    """Tells whether rounds of something leave memory (KiB) behind: note() after each round, check() in the end."""

    # Slabs that are kept part-filled come and go by this much, in KiB; a round may leave a seventh of it.
    NOISE = 700

    def __init__(self, vm):
        self.vm = vm
        self.free = []
        self.slab = []

    def note(self):
        """The round's processes have ended: what they wrote is in memory, too, and not looked at any more."""
        free, slab = self.vm.run("rm -f /run/job*\n" + MEASURE).out.split()
        self.free.append(int(free))
        self.slab.append(int(slab))

    def check(self):
        """Compares the last third with the one before: the first warms caches. Medians, as a page that leaves a CPU's list
        between the two looks is counted twice."""
        third = len(self.free) // 3
        grown = median(self.free[third:2 * third]) - median(self.free[-third:])
        assert grown < self.NOISE, f"free memory: {self.free}"
        grown = median(self.slab[-third:]) - median(self.slab[third:2 * third])
        assert grown < self.NOISE // 2, f"slab: {self.slab}"
