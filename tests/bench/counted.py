# SPDX-License-Identifier: GPL-2.0
"""The guest's instructions, as the plugin counter.c counts them."""

import bisect
import collections
import itertools
import re
import socket
import subprocess

import vm as vmlib

NUMBERS = itertools.count()


def symbols(machine, kinds="tw"):
    """The guest kernel's functions, or data ("bdr"): sorted addresses and the names that belong to them."""
    found = []
    for line in machine.run(f"grep -i ' [{kinds}] ' /proc/kallsyms").out.splitlines():
        address, _, name = line.split(maxsplit=2)
        found.append((int(address, 16), name.replace("\t", " ")))
    found.sort()
    plain = subprocess.run(["c++filt", "--no-strip-underscore", "--format=rust"], text=True, check=True, capture_output=True,
                           input="\n".join(name for _, name in found)).stdout
    return [address for address, _ in found], plain.splitlines()


class Program:
    """The code of a process in the guest, whose program file the host has, too, with line numbers."""

    def __init__(self, machine, pid, path):
        self.path = str(path)
        self.mapped = []
        maps = machine.run(f"cat /proc/{pid}/maps").out
        for line in maps.splitlines():
            found = re.match(r"(\w+)-(\w+) r.x\S+ (\w+) \S+ +\d+ +(\S+)", line)
            if found:
                start, end, offset = (int(number, 16) for number in found.groups()[:3])
                self.mapped.append((start, end, offset, found[4]))
        listing = subprocess.run(["objdump", "-d", "--no-show-raw-insn", self.path], text=True, check=True,
                                 capture_output=True).stdout
        self.code = [int(address, 16) for address in re.findall(r"^ +(\w+):\t", listing, re.MULTILINE)]
        sections = subprocess.run(["readelf", "-lW", self.path], text=True, check=True, capture_output=True).stdout
        # Where the code is in the file, and where it is linked to.
        offset, address = re.search(r"LOAD +0x(\w+) 0x(\w+) .* R E ", sections).groups()
        self.shift = int(address, 16) - int(offset, 16)

    def place(self, address, instructions):
        """The program's own addresses of a block's instructions, or the name of what else it is part of."""
        for start, end, offset, name in self.mapped:
            if start <= address < end:
                if name.rsplit("/", 1)[-1] != self.path.rsplit("/", 1)[-1]:
                    return f"[{name.rsplit('/', 1)[-1]}]"
                first = bisect.bisect_left(self.code, address - start + offset + self.shift)
                return self.code[first:first + instructions]
        return "[user]"

    def names(self, addresses):
        """The function that each address was written in, also where that was inlined; the library's are their callers."""
        out = subprocess.run(["addr2line", "-a", "-f", "-i", "-C", "-e", self.path], text=True, check=True, capture_output=True,
                             input="\n".join(hex(address) for address in addresses)).stdout
        named = {}
        for part in re.split(r"^0x", out, flags=re.MULTILINE)[1:]:
            address, *frames = part.splitlines()
            frames = list(zip(frames[::2], frames[1::2]))
            name, line = next((frame for frame in frames if "/rustc" not in frame[1]), frames[-1])
            place = line.rsplit(":", 1)[0].rsplit("/src/", 1)[-1]
            named[int(address, 16)] = f"{place} {name}"
        return named


class Counter:
    """Counts in the machine that is started with its options. `emulator` is what scripts/counter printed, `more` what the
    plugin is to note besides: "blocks" or "moves"."""

    def __init__(self, emulator, more=""):
        self.emulator = emulator
        self.more = more
        self.path = f"/tmp/counter-{next(NUMBERS)}"

    def options(self):
        """What the machine must be started with."""
        plugin = f"{vmlib.TOP}/build/counter.so,socket={self.path}" + (f",{self.more}=on" if self.more else "")
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

    def note_moves(self):
        """Begins to note which cache lines go from vCPU to vCPU. Needs `moves`."""
        self._ask(b"s")

    def moves(self):
        """Ends that; yields (cache line, virtual address, instruction, the other vCPU's instruction, count)."""
        for line in self._ask(b"w").splitlines():
            *addresses, count = line.split()
            yield *(int(address, 16) for address in addresses), int(count)

    def functions(self, machine, program=None):
        """A function that returns instructions by function, of the kernel and of `program`, since this call. Needs `blocks`."""
        addresses, names = symbols(machine)
        before = self.blocks()

        def count():
            found, inside = collections.Counter(), collections.Counter()
            for (address, instructions), executions in self.blocks().items():
                executions -= before.get((address, instructions), 0)
                # The upper half of the address space is the kernel's.
                if address >> 63:
                    found[names[max(0, bisect.bisect_right(addresses, address) - 1)]] += instructions * executions
                elif executions:
                    place = program.place(address, instructions) if program else "[user]"
                    if isinstance(place, str):
                        found[place] += instructions * executions
                    else:
                        inside.update(dict.fromkeys(place, executions))
            for address, name in (program.names(inside) if inside else {}).items():
                found[f"* {name}"] += inside[address]
            return found

        return count
