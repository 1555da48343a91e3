# SPDX-License-Identifier: GPL-2.0
"""Which memory two queues share: phttpd with two threads, each with a queue and a vCPU of its own, in the steady state.

Prints how often per frame sent a cache line had to go from one vCPU to the other, by the function that needed it and the
one that had it: what the project's code did (its functions have a star), where it met the kernel's, and the kernel's own.

Run by hand:  qemu=$(scripts/env --net scripts/counter); scripts/env python3 tests/bench/sharing.py --count $qemu
"""

import argparse
import bisect
import collections
import json
import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vm"))

import vm as vmlib  # noqa: E402
from counted import Program, symbols  # noqa: E402
from server import SERVERS, Server  # noqa: E402

QUEUES = 2
# Frames that the guest sends before memory is looked at, for what only the start of a connection does.
SETTLE = 3000


def placed(server):
    """Looks where nic-setup and phttpd have put interrupts and threads; {interrupt: queue}."""
    text = server.vm.run("cat /proc/interrupts").out
    found = {int(irq): int(queue) for irq, queue in re.findall(r"^ *(\d+):.*eth0-TxRx-(\d+)$", text, re.MULTILINE)}
    if sorted(found.values()) != list(range(QUEUES)):
        raise vmlib.VMError("not an interrupt for each queue:\n" + text)
    for irq, queue in found.items():
        vcpu = server.vm.run(f"cat /proc/irq/{irq}/smp_affinity_list").out.strip()
        if vcpu != str(queue):
            raise vmlib.VMError(f"queue {queue} interrupts vCPU {vcpu}")
    for line in server.vm.run(f"grep Cpus_allowed_list /proc/{server.job.pid}/task/*/status").out.splitlines():
        print(f"thread {line.split('/')[4]}: vCPU {line.split()[-1]}")
    return found


def interrupts(server, numbers):
    """How often each vCPU was interrupted by each queue."""
    table = {}
    for line in server.vm.run("cat /proc/interrupts").out.splitlines():
        number, _, rest = line.strip().partition(":")
        if number.isdigit() and int(number) in numbers:
            table[int(number)] = [int(text) for text in rest.split()[:QUEUES]]
    return table


def frames(server):
    """Frames that the guest has sent until now."""
    out = vmlib.host(f"ip -s -j link show {server.vm.nics[0].tap}").out
    return json.loads(out)[0]["stats64"]["rx"]["packets"]


def wait_frames(server, wanted, load):
    """Until the guest has sent that many more; how many it then has."""
    start = frames(server)
    while (sent := frames(server) - start) < wanted:
        if load.poll() is not None:
            raise vmlib.VMError(f"wrk ended before the guest had sent {wanted} frames")
        time.sleep(0.05)
    return sent


def note(server, connections, wanted):
    """Notes moves of cache lines while about `wanted` frames are sent; how many there were, and the moves."""
    load = subprocess.Popen(["wrk", "-t1", f"-c{connections}", "-d600", server.url], stdout=subprocess.DEVNULL)
    try:
        wait_frames(server, SETTLE, load)
        server.counter.note_moves()
        sent = wait_frames(server, wanted, load)
        return sent, list(server.counter.moves())
    finally:
        load.terminate()
        load.wait()


class Names:
    """What addresses in the guest are called."""

    def __init__(self, server):
        self.code = symbols(server.vm)
        self.data = symbols(server.vm, "bdr")
        self.program = Program(server.vm, server.job.pid, vmlib.TOP / "build/cargo/release/phttpd")

    @staticmethod
    def _nearest(table, address):
        addresses, names = table
        place = bisect.bisect_right(addresses, address) - 1
        return names[place], address - addresses[place]

    def function(self, address):
        """The kernel's function there, marked if it is the project's; phttpd, or the library that it uses."""
        if address >> 63:
            name = self._nearest(self.code, address)[0]
            return f"* {name}" if re.search(r"\[(netmap|e1000|ixgbe|i40e)\]", name) else name
        place = self.program.place(address, 1)
        return place if isinstance(place, str) else "* phttpd"

    def place(self, address):
        """The variable there, or what kind of memory it is."""
        if not address >> 63:
            return "of the program"
        # Above is the kernel's image, and its modules; below is memory that was allocated.
        if address >= 0xFFFFFFFF80000000:
            name, offset = self._nearest(self.data, address)
            return f"{name}+{offset}"
        return "allocated"


class Moves:
    """Of cache lines, from one function to another one."""

    def __init__(self):
        self.count = 0
        self.lines = set()
        self.places = collections.Counter()

    def add(self, line, place, count):
        """Of one line."""
        self.count += count
        self.lines.add(line)
        self.places[place] += count

    def place(self):
        """Where most of them are."""
        return self.places.most_common(1)[0][0]


def main():
    """Measures once and prints the moves of cache lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", default="qemu-system-x86_64", metavar="QEMU", help="the one that scripts/counter named")
    parser.add_argument("--server", default="stack", choices=SERVERS)
    parser.add_argument("--nic", default="ixgbe", help="as vm.VM knows it, with several queues")
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--frames", type=int, default=5000, help="for how many to look")
    parser.add_argument("--lines", type=int, default=20, help="how many to print of each kind")
    options = parser.parse_args()
    server = Server(options.server, counting=options.count, noting="moves", nic=options.nic, queues=QUEUES)
    queues = placed(server)
    before = interrupts(server, queues)
    sent, noted = note(server, options.connections, options.frames)
    for number, counts in interrupts(server, queues).items():
        print(f"queue {queues[number]}: interrupts on each vCPU {[b - a for a, b in zip(before[number], counts)]}")
    names = Names(server)
    server.close()
    kinds = ["both the kernel's", "the project's and the kernel's", "both the project's"]
    found = [collections.defaultdict(Moves) for _ in kinds]
    for line, address, instruction, other, count in noted:
        pair = names.function(instruction), names.function(other)
        found[sum(name.startswith("*") for name in pair)][pair].add(line, names.place(address), count)
    print(f"{options.server}, {options.nic}, {options.connections} connections, {sent} frames sent")
    for kind, pairs in reversed(list(zip(kinds, found))):
        total = sum(moves.count for moves in pairs.values())
        print(f"{kind}: {total / sent:.4f} moves per frame")
        for (needs, has), moves in sorted(pairs.items(), key=lambda item: -item[1].count)[:options.lines]:
            print(f"  {moves.count / sent:7.4f} of {len(moves.lines):4} lines ({moves.place()}): {needs} <- {has}")


if __name__ == "__main__":
    main()
