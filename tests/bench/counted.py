# SPDX-License-Identifier: GPL-2.0
"""The guest's instructions, as the plugin counter.c counts them."""

import bisect
import collections
import itertools
import socket
import subprocess

import vm as vmlib

NUMBERS = itertools.count()


def symbols(machine):
    """The guest kernel's functions: sorted addresses and the names that belong to them."""
    found = []
    for line in machine.run("grep -i ' [tw] ' /proc/kallsyms").out.splitlines():
        address, _, name = line.split(maxsplit=2)
        found.append((int(address, 16), name.replace("\t", " ")))
    found.sort()
    plain = subprocess.run(["c++filt", "--no-strip-underscore", "--format=rust"], text=True, check=True, capture_output=True,
                           input="\n".join(name for _, name in found)).stdout
    return [address for address, _ in found], plain.splitlines()


class Counter:
    """Counts in the machine that is started with its options. `emulator` is what scripts/counter printed."""

    def __init__(self, emulator, blocks=False):
        self.emulator = emulator
        self.blocks_too = blocks
        self.path = f"/tmp/counter-{next(NUMBERS)}"

    def options(self):
        """What the machine must be started with."""
        plugin = f"{vmlib.TOP}/build/counter.so,socket={self.path}" + (",blocks=on" if self.blocks_too else "")
        return {"emulator": self.emulator, "accel": "tcg", "qemu": ["-plugin", plugin], "append": "nokaslr"}

    def _ask(self, what):
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(self.path)
            channel.sendall(what)
            return b"".join(iter(lambda: channel.recv(1 << 20), b""))

    def read(self):
        """(user, kernel) instructions until now."""
        return tuple(int(number) for number in self._ask(b"t").split())

    def blocks(self):
        """{(address, instructions): executions} of the guest's code until now."""
        table = {}
        for line in self._ask(b"b").splitlines():
            address, instructions, count = line.split()
            table[int(address, 16), int(instructions)] = int(count)
        return table

    def functions(self, machine):
        """A function that returns instructions by kernel function since this call. Needs `blocks`."""
        addresses, names = symbols(machine)
        before = self.blocks()

        def count():
            found = collections.Counter()
            for (address, instructions), executions in self.blocks().items():
                # The upper half of the address space is the kernel's.
                name = names[max(0, bisect.bisect_right(addresses, address) - 1)] if address >> 63 else "[user]"
                found[name] += instructions * (executions - before.get((address, instructions), 0))
            return found

        return count
