# SPDX-License-Identifier: GPL-2.0
"""What a frame costs that goes through a NIC's netmap rings, and through the kernel's own path: guest instructions.

Run by hand:  qemu=$(scripts/env --net scripts/counter); scripts/env python3 tests/bench/raw.py --count $qemu --nic ixgbe

Each figure is the difference of two runs of different lengths, so that opening, closing and waiting cancel out.
"""

import argparse
import contextlib
import itertools
import re
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vm"))

import vm as vmlib  # noqa: E402
from counted import Counter  # noqa: E402

IPV4 = 0x0800


def flood(tap, frames, count):
    """Sends so many of the frames into a tap, round and round, as fast as it goes."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
        raw.bind((tap, 0))
        for frame in itertools.islice(itertools.cycle(frames), count):
            while True:
                try:
                    raw.send(frame)
                    break
                except OSError:  # the tap's queue is full
                    time.sleep(0.0002)


def numbers(text):
    """The NAME=VALUE words of a program's last line."""
    return {name: float(value) for name, value in re.findall(r"(\w+)=([0-9.]+)", text.splitlines()[-1])}


def capture(tap, machine, count):
    """Some frames of nmgen, as they came out of the NIC."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(IPV4)) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        raw.bind((tap, IPV4))
        raw.settimeout(5)
        machine.run(f"nmgen tx netmap:eth0 -n {count} -f 16 -t 60", timeout=90)
        frames = []
        with contextlib.suppress(TimeoutError):
            while len(frames) < count:
                data, address = raw.recvfrom(2048)
                if address[2] != socket.PACKET_OUTGOING and data[42:46] == b"nmgn":
                    frames.append(data)
    return frames


class Bench:
    """One machine with one NIC."""

    def __init__(self, nic, smp, count, stock, lines):
        self.counter = Counter(count, blocks=True)
        self.lines = lines
        self.frames = []
        driver = vmlib.nicmodel.driver_of(nic)
        self.vm = vmlib.VM(name="raw", mitigations=False, pin=True, nic=nic, smp=smp,
                           stock=[driver] if stock else [], modules=["pktgen"],
                           **self.counter.options())
        if not stock:
            self.vm.run("modprobe netmap")
        self.vm.run(f"modprobe {driver} && nic-setup eth0 {self.vm.nics[0].guest}/24")

    def close(self):
        """Ends the machine, after a look at its kernel log."""
        try:
            self.vm.check_log()
        finally:
            self.vm.close()

    def cost(self, run, counts):
        """(instructions per frame, frames per second) of `run(count)`, which returns (frames, seconds)."""
        seen = []
        for count in counts:
            counted = self.counter.functions(self.vm)
            frames, seconds = run(count)
            seen.append((frames, counted(), seconds))
        (few, short, _), (many, long, seconds) = seen
        long.subtract(short)
        print(f"{run.__name__}:")
        for name, executed in long.most_common(self.lines):
            print(f"{executed / (many - few):9.1f} {name}")
        return long.total() / (many - few), many / seconds

    def send(self, count):
        """nmgen tx."""
        result = numbers(self.vm.run(f"nmgen tx netmap:eth0 -n {count} -t 120", timeout=180).out)
        return result["frames"], result["seconds"]

    def receive(self, count):
        """nmgen rx, of what flood() sends once the link is up; a second after the last frame it ends."""
        job = self.vm.spawn("exec nmgen rx netmap:eth0 -i 1 -t 120")
        self.vm.run("sleep 1; until grep -q 1 /sys/class/net/eth0/carrier; do usleep 50000; done; sleep 4")
        start = time.monotonic()
        flood(self.vm.nics[0].tap, self.frames, count)
        seconds = time.monotonic() - start
        # Asking the guest costs it instructions, so it is asked once, when it must have ended.
        time.sleep(5)
        if job.wait(150):
            raise vmlib.VMError(job.output())
        return numbers(job.output())["frames"], seconds

    def pktgen(self, count):
        """The kernel's packet generator, through the stock driver."""
        script = f"""modprobe pktgen; cd /proc/net/pktgen; echo rem_device_all > kpktgend_0; echo add_device eth0 > kpktgend_0
            for x in 'count {count}' 'pkt_size 60' 'delay 0' 'clone_skb 1000' 'dst_mac ff:ff:ff:ff:ff:ff' 'dst 198.18.0.2'; do
            echo $x > eth0; done; echo start > pgctrl; cat eth0"""
        out = self.vm.run(script, timeout=180).out
        found = re.search(r"(\d+)pps", out)
        if not found:
            raise vmlib.VMError(f"pktgen: {out}")
        return count, count / int(found[1])


def main():
    """Measures both directions and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", default="qemu-system-x86_64", metavar="QEMU", help="the one that scripts/counter named")
    parser.add_argument("--nic", default="e1000", help="e1000, ixgbe, x540 or i40e")
    parser.add_argument("--smp", type=int, default=1, help="CPUs of the machine, and queues of a NIC that has several")
    parser.add_argument("--frames", type=int, default=200_000, help="frames of the longer run")
    parser.add_argument("--lines", type=int, default=0, help="kernel functions to print for each figure")
    options = parser.parse_args()
    counts = (options.frames // 5, options.frames)
    lines = []
    bench = Bench(options.nic, options.smp, options.count, stock=False, lines=options.lines)
    lines.append(("netmap tx", *bench.cost(bench.send, counts)))
    bench.frames = capture(bench.vm.nics[0].tap, bench.vm, 1000)
    lines.append(("netmap rx", *bench.cost(bench.receive, counts)))
    bench.close()
    bench = Bench(options.nic, options.smp, options.count, stock=True, lines=options.lines)
    lines.append(("pktgen tx, stock driver", *bench.cost(bench.pktgen, counts)))
    bench.close()
    for name, cost, rate in lines:
        print(f"{options.nic}, 60-byte frames, {name:24} {cost:9.1f} instructions per frame, {rate:12,.0f} frames/s")


if __name__ == "__main__":
    main()
