# SPDX-License-Identifier: GPL-2.0
"""What a poll() costs that finds nothing, in guest instructions, with none and with many idle sockets on the port.

Run by hand:  qemu=$(scripts/env --net scripts/counter); scripts/env python3 tests/bench/idle.py --count $qemu
"""

import argparse
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vm"))

from server import SERVERS, Server  # noqa: E402

# Instructions per second above which the guest is at work.
BUSY = 20_000_000


def rate(server):
    """Instructions per second now."""
    before, start = sum(server.instructions()), time.monotonic()
    time.sleep(0.5)
    return (sum(server.instructions()) - before) / (time.monotonic() - start)


def until(server, busy, timeout=600):
    """Waits until the guest is busy, or idle, without asking it anything."""
    end = time.monotonic() + timeout
    while (rate(server) > BUSY) != busy:
        assert time.monotonic() < end


def measured(server, sockets, polls):
    """((user, kernel) instructions of a poll, bytes of a socket)."""
    job = server.vm.spawn(f"exec nmidle -n {sockets} -p {polls} -i eth0 --pause 8 -t 900")
    while "start" not in job.output():
        assert job.poll() is None, job.output()
        time.sleep(1)
    until(server, busy=False)
    before = server.instructions()
    until(server, busy=True)
    until(server, busy=False)
    after = server.instructions()
    assert job.wait() == 0, job.output()
    size = int(re.search(r"bytes_per_socket=(\d+)", job.output())[1])
    return [(b - a) / polls for a, b in zip(before, after)], size


def main():
    """Measures and prints a line for each number of sockets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sockets", default="0,10000", help="how many are registered, several with commas")
    parser.add_argument("--count", default="qemu-system-x86_64", metavar="QEMU", help="the one that scripts/counter named")
    parser.add_argument("--polls", type=int, default=400_000)
    options = parser.parse_args()
    # A machine with a patched NIC that nobody uses yet.
    SERVERS["idle"] = SERVERS["epoll"]
    server = Server("idle", counting=options.count)
    server.job.kill()
    server.job.wait()
    for sockets in map(int, options.sockets.split(",")):
        (user, kernel), size = measured(server, sockets, options.polls)
        print(f"{sockets:6} idle sockets: {user + kernel:7.1f} instructions per empty poll() ({user:.1f} user, {kernel:.1f} kernel)"
              + (f", {size} bytes of kernel memory per socket" if sockets else ""), flush=True)
    server.close()


if __name__ == "__main__":
    main()
