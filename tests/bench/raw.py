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

# Descriptors of the receive ring: so many frames are there at each look of a receiver that is slower than the NIC.
RING = 2048

# What pktgen does, most of it while the NIC's ring is full: of its cost only the driver's is asked for.
PKTGEN = ("pktgen_thread_worker [pktgen]", "kthread_should_stop", "__local_bh_enable_ip", "__rcu_read_lock", "__rcu_read_unlock",
          "_raw_spin_lock", "_raw_spin_unlock")


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
        self.counter = Counter(count, "blocks")
        self.lines = lines
        self.frames = []
        self.counted = None
        # The XL710 drops what does not fit its packet buffer, which is all that it has until somebody looks: 4,000 frames. A short and
        # a long run have as many bursts, so that the time between them cancels out.
        self.bursts = 22 if nic == "i40e" else 1
        driver = self.driver = vmlib.nicmodel.driver_of(nic)
        self.vm = vmlib.VM(name="raw", mitigations=False, pin=True, nic=nic, smp=smp,
                           stock=[driver] if stock else [], modules=["pktgen"],
                           **self.counter.options())
        if not stock:
            self.vm.run("modprobe netmap")
        self.vm.run(f"modprobe {driver} && ethtool -G eth0 rx {RING} && nic-setup eth0 {self.vm.nics[0].guest}/24")

    def close(self):
        """Ends the machine, after a look at its kernel log."""
        try:
            self.vm.check_log()
        finally:
            self.vm.close()

    def cost(self, run, counts, skip=()):
        """(instructions per frame,) of `run(count)`, which returns how many frames it were."""
        seen = []
        for count in counts:
            self.counted = self.counter.functions(self.vm)
            frames = run(count)
            seen.append((frames, self.counted()))
        (few, short), (many, long) = seen
        long.subtract(short)
        for name in skip:
            del long[name]
        # Where the shorter run spent more it waited for something.
        long = +long
        print(f"{run.__name__}:")
        for name, executed in long.most_common(self.lines):
            print(f"{executed / (many - few):9.1f} {name}")
        return (long.total() / (many - few),)

    def send(self, count):
        """nmgen tx."""
        return numbers(self.vm.run(f"nmgen tx netmap:eth0 -n {count} -t 120", timeout=180).out)["frames"]

    def pour(self, count):
        """So many frames for the guest, all of which wait before the first one gets in: what receives them is never ahead.

        What was counted until then is forgotten, since getting ready differs from run to run.
        """
        tap = self.vm.nics[0].tap
        vmlib.host(f"ip link set {tap} txqueuelen {count + 1000}")
        self.counted = self.counter.functions(self.vm)
        for burst in range(self.bursts):
            if burst:
                time.sleep(0.6)
            self.vm.monitor("stop")
            flood(tap, self.frames, count // self.bursts)
            self.vm.monitor("cont")

    def receive(self, count):
        """nmgen rx, of what pour() has for it once the link is up; two seconds after the last frame it ends.

        It pauses between its looks, so that it finds the ring nearly full each time as under a load that is too much for it. Otherwise
        the emulated NIC, which is slower than any receiver, would decide what a frame costs.
        """
        job = self.vm.spawn("exec nmgen rx netmap:eth0 -i 2 -p 50 -t 120")
        self.vm.run("sleep 1; until grep -q 1 /sys/class/net/eth0/carrier; do usleep 50000; done; sleep 4")
        self.pour(count)
        # Asking the guest costs it instructions, so it is asked once, when it must have ended.
        time.sleep(12)
        if job.wait(150):
            raise vmlib.VMError(job.output())
        return numbers(job.output())["frames"]

    def drop(self, count):
        """An XDP program that drops what pour() has: in the driver where that can, else behind it."""
        where = "generic" if self.driver == "e1000" else "native"
        job = self.vm.spawn(f"exec xdp eth0 drop {where}")
        self.vm.run("sleep 3; until grep -q 1 /sys/class/net/eth0/carrier; do usleep 50000; done; sleep 4")
        if "attached" not in job.output():
            raise vmlib.VMError(job.output())
        received = "cat /sys/class/net/eth0/statistics/rx_packets"
        before = int(self.vm.run(received).out)
        self.pour(count)
        # Some drivers look at the NIC's counters every two seconds.
        time.sleep(8)
        frames = int(self.vm.run(received).out) - before
        job.kill()
        job.wait()
        return frames

    def pktgen(self, count):
        """The kernel's packet generator, through the stock driver."""
        script = f"""modprobe pktgen; cd /proc/net/pktgen; echo rem_device_all > kpktgend_0; echo add_device eth0 > kpktgend_0
            for x in 'count {count}' 'pkt_size 60' 'delay 0' 'clone_skb 1000' 'dst_mac ff:ff:ff:ff:ff:ff' 'dst 198.18.0.2'; do
            echo $x > eth0; done; echo start > pgctrl; cat eth0"""
        out = self.vm.run(script, timeout=180).out
        if "pps" not in out:
            raise vmlib.VMError(f"pktgen: {out}")
        return count


def main():
    """Measures both directions and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", default="qemu-system-x86_64", metavar="QEMU", help="the one that scripts/counter named")
    parser.add_argument("--nic", default="e1000", help="e1000, ixgbe, x540 or i40e")
    parser.add_argument("--smp", type=int, default=1, help="CPUs of the machine, and queues of a NIC that has several")
    parser.add_argument("--frames", type=int, default=200_000, help="frames of the longer run that sends")
    parser.add_argument("--lines", type=int, default=0, help="kernel functions to print for each figure")
    options = parser.parse_args()
    counts = (options.frames // 5, options.frames)
    arriving = (8_800, 88_000)
    lines = []
    bench = Bench(options.nic, options.smp, options.count, stock=False, lines=options.lines)
    lines.append(("netmap tx", *bench.cost(bench.send, counts)))
    bench.frames = capture(bench.vm.nics[0].tap, bench.vm, 1000)
    frames = bench.frames
    lines.append(("netmap rx", *bench.cost(bench.receive, arriving)))
    bench.close()
    bench = Bench(options.nic, options.smp, options.count, stock=True, lines=options.lines)
    bench.frames = frames
    lines.append(("stock driver tx (pktgen)", *bench.cost(bench.pktgen, counts, skip=PKTGEN)))
    lines.append(("stock driver rx (XDP_DROP)", *bench.cost(bench.drop, arriving)))
    bench.close()
    for name, cost in lines:
        print(f"{options.nic}, 60-byte frames, {name:26} {cost:9.1f} instructions per frame")


if __name__ == "__main__":
    main()
