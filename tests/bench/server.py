# SPDX-License-Identifier: GPL-2.0
"""A machine that serves, and one measured turn of wrk against it."""

import json
import os
import re
import time
from typing import NamedTuple

import vm as vmlib
from counted import Counter

PORT = 60000
REPORT = os.path.join(os.path.dirname(__file__), "report.lua")

# MiB of emulated persistent memory of a machine whose server stores.
PMEM = 512
# Requests after which any thread's store is full: so that what is measured is a log whose pages are mapped, and which drops its
# oldest record for each new one.
FILLED = 4000

# How each server is run in the guest. The same program with the same options, but for where its bytes come from ...
SERVERS = {"epoll": "", "epoll-each": "", "uring": "--uring", "stack-copy": "-i eth0", "stack": "-i eth0"}
# ... and, where bodies are stored, where each thread keeps them, some 3,700 of them. With -x all have one pool, most of which are
# buffers of the kernel.
STORES = {"epoll": "-L 4", "epoll-each": "-L 4 --each", "uring": "-L 4", "stack-copy": "-L 4", "stack": "-L {pool} -x"}
# Options for each workload, and what wrk does.
WORKLOADS = {
    "rpc": (None, ""),
    "post": (None, "post 1156"),
    "upload": (None, "post 65536"),
    "wal": ("", "post 1156"),
    "wal+10us": ("-e 10000", "post 1156"),
}


def command(kind, workload, queues):
    """The server's command line; each queue has a vCPU and a thread of its own."""
    line = f"phttpd -P {PORT} -l 64 -c {SERVERS[kind]}"
    stored, _ = WORKLOADS[workload]
    if stored is not None:
        line += f" -d /mnt/pm -m {STORES[kind].format(pool=16 * queues)} --recycle --format {stored}"
    if queues > 1:
        line += f" -p {queues} -a 0"
    return line


class Turn(NamedTuple):
    """What one run of wrk gave. Instructions are None where they were not counted."""

    requests: int
    rps: float
    latency_mean_us: float
    latency_p99_us: float
    cpu_us_per_request: float
    instructions_user: float | None
    instructions_kernel: float | None


class Server:
    """A virtual machine with one server in it, paused except during its turns.

    Those over plain sockets run on the stock driver of the kernel package, the stack port on the patched one.
    """

    def __init__(self, kind, counting=None, noting="", nic="e1000", queues=1, workload="rpc", stores=False, more=""):
        self.kind = kind
        self.workload = self.job = None
        self.queues = queues
        self.more = more
        self.counter = Counter(counting, noting) if counting else None
        options = self.counter.options() if counting else {}
        if stores:
            options["pmem"] = PMEM
        driver = vmlib.nicmodel.driver_of(nic)
        stack_port = "-i" in SERVERS[kind].split()
        self.vm = vmlib.VM(name=f"bench-{kind}", mitigations=False, pin=True, stock=[] if stack_port else [driver],
                           nic=nic, smp=queues, **options)
        nic = self.vm.nics[0]
        if stack_port:
            self.vm.run("modprobe netmap")
        self.vm.run(f"modprobe {driver} && nic-setup {'-a 0 ' if queues > 1 else ''}{nic.name} {nic.guest}/24")
        if not stack_port:
            # The driver's GRO has nothing to merge in requests of one segment, and costs instructions.
            self.vm.run(f"ethtool -K {nic.name} gro off")
        if stores:
            self.vm.run("pmem-mount mkfs")
        self.url = f"http://{nic.guest}:{PORT}/"
        self.serve(workload)

    def serve(self, workload):
        """Runs the server for another workload."""
        if self.job is not None:
            self.resume()
            self.job.kill()
            if self.job.wait():
                raise vmlib.VMError(f"{self.kind}: ended badly; its output:\n{self.job.output()}")
        self.workload = workload
        self.job = self.vm.spawn(f"exec {command(self.kind, workload, self.queues)} {self.more}")
        self._wait()

    def _wait(self):
        end = time.monotonic() + 30
        while vmlib.host(f"curl -s -o /dev/null -m 2 {self.url}", check=False).rc:
            if time.monotonic() > end or self.job.poll() is not None:
                raise vmlib.VMError(f"{self.kind}: no answer; its output:\n{self.job.output()}")
            time.sleep(0.2)

    def pause(self):
        """Stops the server, so that it takes no time from the other one's turn."""
        self.vm.run(f"kill -STOP {self.job.pid}")

    def resume(self):
        """Lets it go on."""
        self.vm.run(f"kill -CONT {self.job.pid}")

    def instructions(self):
        """(user, kernel) instructions of the guest until now."""
        return self.counter.read() if self.counter else None

    def turn(self, connections, seconds):
        """One run of wrk: `connections` that each have one request under way, for `seconds`."""
        # On a machine that has no time for us a short one may give nothing.
        for length in (seconds, 5 * seconds, 10 * seconds):
            turn = self._turn(connections, length)
            if turn.requests:
                return turn
        raise vmlib.VMError(f"{self.kind}: no answers; its output:\n{self.job.output()}")

    def _turn(self, connections, seconds):
        cores = sorted(os.sched_getaffinity(0))
        # The client has its own core where there are two; the machine's vCPU has the first.
        pin = f"taskset -c {cores[-1]} " if len(cores) > 1 else ""
        before, counted = self.vm.cpu_time(), self.instructions()
        how = WORKLOADS[self.workload][1]
        out = vmlib.host(f"{pin}wrk -t1 -c{connections} -d{seconds} --latency -s {REPORT} {self.url} -- {how}",
                         timeout=seconds + 60).out
        after, counted_after = self.vm.cpu_time(), self.instructions()
        found = re.search(r"^RESULT (.*)$", out, re.MULTILINE)
        if not found:
            raise vmlib.VMError(f"{self.kind}: wrk gave no result:\n{out}")
        result = json.loads(found[1])
        requests = result["requests"]
        if result["errors"]:
            raise vmlib.VMError(f"{self.kind}: {requests} requests, {result['errors']} errors:\n{out}\n{self.job.output()}")
        user = kernel = None
        if counted:
            user, kernel = ((b - a) / max(1, requests) for a, b in zip(counted, counted_after))
        return Turn(requests, requests / result["seconds"], result["mean_us"], result["p99_us"],
                    (after - before) * 1e6 / max(1, requests), user, kernel)

    def warm_up(self):
        """Turns that count for nothing: for caches, translated code, TCP's own measurements, and until the log is full."""
        wanted = FILLED * self.queues if WORKLOADS[self.workload][0] is not None else 1
        while wanted > 0:
            wanted -= self.turn(50, 1).requests

    def close(self):
        """Ends the machine, after a look at its kernel log."""
        try:
            self.vm.check_log()
        finally:
            self.vm.close()
