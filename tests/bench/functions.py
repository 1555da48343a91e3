# SPDX-License-Identifier: GPL-2.0
"""Where the instructions of a request go: guest instructions per request by kernel function.

Run by hand:  scripts/env --net scripts/counter; scripts/env python3 tests/bench/functions.py --server stack
"""

import argparse
import bisect
import collections
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vm"))

import vm as vmlib  # noqa: E402
from server import SERVERS, WORKLOADS, Server  # noqa: E402

QEMU = vmlib.CACHE / "qemu-for-counting/usr/bin/qemu-system-x86_64"


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


def main():
    """Measures one turn and prints the largest functions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="stack", choices=SERVERS)
    parser.add_argument("--workload", default="rpc", choices=WORKLOADS)
    parser.add_argument("--options", default="", help="more options for phttpd")
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=60, help="functions to print")
    options = parser.parse_args()
    server = Server(options.server, counting=str(QEMU), blocks=True, workload=options.workload,
                    stores=options.workload != "rpc", more=options.options)
    server.turn(options.connections, 1)
    addresses, names = symbols(server.vm)
    before = server.blocks()
    turn = server.turn(options.connections, options.seconds)
    after = server.blocks()
    server.close()
    functions = collections.Counter()
    for (address, instructions), count in after.items():
        executed = instructions * (count - before.get((address, instructions), 0))
        # The upper half of the address space is the kernel's.
        name = names[max(0, bisect.bisect_right(addresses, address) - 1)] if address >> 63 else "[user]"
        functions[name] += executed
    total = functions.total()
    print(f"{options.workload}, {options.server}, {options.connections} connections: {total / turn.requests:,.0f} instructions per request")
    for name, executed in functions.most_common(options.lines):
        print(f"{executed / turn.requests:9.1f} {100 * executed / total:5.1f}% {name}")


if __name__ == "__main__":
    main()
