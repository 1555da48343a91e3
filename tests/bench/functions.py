# SPDX-License-Identifier: GPL-2.0
"""Where the instructions of a request go: guest instructions per request by function.

Those of phttpd are marked with a star and named as they were written, with their file, also where they were inlined.

Run by hand:  qemu=$(scripts/env --net scripts/counter); scripts/env python3 tests/bench/functions.py --count $qemu
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vm"))

import vm as vmlib  # noqa: E402
from counted import Program  # noqa: E402
from server import SERVERS, WORKLOADS, Server  # noqa: E402


def main():
    """Measures one turn and prints the largest functions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", default="qemu-system-x86_64", metavar="QEMU", help="the one that scripts/counter named")
    parser.add_argument("--server", default="stack", choices=SERVERS)
    parser.add_argument("--workload", default="rpc", choices=WORKLOADS)
    parser.add_argument("--nic", default="e1000", help="as vm.VM knows it")
    parser.add_argument("--queues", type=int, default=1, help="of the NIC; as many threads and vCPUs")
    parser.add_argument("--options", default="", help="more options for phttpd")
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=60, help="functions to print")
    options = parser.parse_args()
    server = Server(options.server, counting=options.count, noting="blocks", nic=options.nic, queues=options.queues,
                    workload=options.workload, stores=WORKLOADS[options.workload][0] is not None, more=options.options)
    server.warm_up()
    program = Program(server.vm, server.job.pid, vmlib.TOP / "build/cargo/release/phttpd")
    count = server.counter.functions(server.vm, program)
    turn = server.turn(options.connections, options.seconds)
    functions = count()
    server.close()
    total = functions.total()
    print(f"{options.workload}, {options.server}, {options.connections} connections: {total / turn.requests:,.0f} instructions per request")
    for name, executed in functions.most_common(options.lines):
        print(f"{executed / turn.requests:9.1f} {100 * executed / total:5.1f}% {name}")


if __name__ == "__main__":
    main()
