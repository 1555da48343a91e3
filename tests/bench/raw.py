# SPDX-License-Identifier: GPL-2.0
"""What a frame costs that goes through a NIC's netmap rings, and through the kernel's own path: guest instructions; and how many
frames go through per second.

Run by hand:  qemu=$(scripts/env --net scripts/counter); scripts/env python3 tests/bench/raw.py --count $qemu --nic ixgbe

Instructions are the difference of two runs of different lengths, so that opening, closing and waiting cancel out. Rates are
measured in machines of their own, in which nothing is counted; without --count there are only these. They are those of the
emulated NIC and CPU, whose vCPUs share one core of this machine, and of what floods the NIC from another, and differ from run to
run: medians of three.
"""

import argparse
import contextlib
import itertools
import re
import socket
import sys
import threading
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vm"))

import vm as vmlib  # noqa: E402
from counted import Counter  # noqa: E402

IPV4 = 0x0800

# Descriptors of the receive ring: so many frames are there at each look of a receiver that is slower than the NIC.
RING = 2048

# What pktgen does, most of it while the NIC's ring is full: of its cost only the driver's is asked for.
PKTGEN = ("pktgen_thread_worker [pktgen]", "kthread_should_stop", "__local_bh_enable_ip", "__rcu_read_lock", "__rcu_read_unlock",
          "_raw_spin_lock", "_raw_spin_unlock")

STOCK_TX, STOCK_RX = "stock driver tx (pktgen)", "stock driver rx (XDP_DROP)"


def flood(tap, frames, count=None, until=None):
    """Sends so many of the frames into a tap, round and round, as fast as it goes, or until an event."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
        raw.bind((tap, 0))
        for frame in itertools.islice(itertools.cycle(frames), count):
            while until is None or not until.is_set():
                try:
                    raw.send(frame)
                    break
                except OSError:  # the tap's queue is full
                    time.sleep(0.0002)
            if until is not None and until.is_set():
                break


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
    """One machine with one NIC. `count`: the QEMU that counts, or None."""

    def __init__(self, nic, smp, count, stock, lines=0):
        self.counter = Counter(count, "blocks") if count else None
        self.lines = lines
        self.frames = []
        self.counted = None
        self.rate = 0
        # The XL710 drops what does not fit its packet buffer, which is all that it has until somebody looks: 4,000 frames. A short and
        # a long run have as many bursts, so that the time between them cancels out.
        self.bursts = 22 if nic == "i40e" else 1
        driver = self.driver = vmlib.nicmodel.driver_of(nic)
        self.vm = vmlib.VM(name="raw", mitigations=False, pin=True, nic=nic, smp=smp,
                           stock=[driver] if stock else [], modules=["pktgen"],
                           **(self.counter.options() if count else {}))
        if not stock:
            self.vm.run("modprobe netmap")
        self.vm.run(f"modprobe {driver} && ethtool -G eth0 rx {RING} && nic-setup eth0 {self.vm.nics[0].guest}/24")
        # ixgbe looks at UDP's addresses alone otherwise, and all flows are one queue's; others need not be told, or have one queue.
        self.vm.run("ethtool -N eth0 rx-flow-hash udp4 sdfn", check=False)
        self.queues = int(self.vm.run("ls -d /sys/class/net/eth0/queues/rx-* | wc -l").out)

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
        """nmgen tx, so many on each ring."""
        told = numbers(self.vm.run(f"nmgen tx netmap:eth0 -n {count} -t 120", timeout=180).out)
        self.rate = told["pps"]
        return told["frames"]

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
        job = self.receiver("-p 50")
        self.pour(count)
        # Asking the guest costs it instructions, so it is asked once, when it must have ended.
        time.sleep(12)
        if job.wait(150):
            raise vmlib.VMError(job.output())
        return numbers(job.output())["frames"]

    def receiver(self, options=""):
        """nmgen rx, when the link is up."""
        job = self.vm.spawn(f"exec nmgen rx netmap:eth0 -i 2 -t 120 {options}")
        self.vm.run("sleep 1; until grep -q 1 /sys/class/net/eth0/carrier; do usleep 50000; done; sleep 4")
        return job

    def dropper(self):
        """An XDP program that drops, in the driver where that can, else behind it; when the link is up."""
        where = "generic" if self.driver == "e1000" else "native"
        job = self.vm.spawn(f"exec xdp eth0 drop {where}")
        self.vm.run("sleep 3; until grep -q 1 /sys/class/net/eth0/carrier; do usleep 50000; done; sleep 4")
        if "attached" not in job.output():
            raise vmlib.VMError(job.output())
        return job

    def sent(self, run, count):
        """Frames per second of `run(count)`, as it tells itself: the median of three times."""
        told = []
        for _ in range(3):
            run(count)
            told.append(self.rate)
        return median(told)

    def flooded(self, start):
        """Frames per second that whoever `start` starts gets of more than he can take: the median of three times."""
        return median(self.flooded_once(start) for _ in range(3))

    def flooded_once(self, start):
        """The same once, for two seconds by the guest's clock."""
        job, over = start(), threading.Event()
        sender = threading.Thread(target=flood, args=(self.vm.nics[0].tap, self.frames, None, over))
        sender.start()
        try:
            # The NIC's own count, or its queues': both are up to date when ethtool asks.
            look = r"cut -d' ' -f1 /proc/uptime; ethtool -S eth0 | grep -E '^ *(rx_queue_[0-9]+_packets|rx-[0-9]+.packets)' || " \
                   r"ethtool -S eth0 | grep -E '^ *rx_packets'"
            first, second = (self.look(out) for out in self.vm.run(f"sleep 1; {look}; echo +; sleep 2; {look}").out.split("+"))
        finally:
            over.set()
            sender.join()
            job.kill()
            job.wait()
        return (second[1] - first[1]) / (second[0] - first[0])

    @staticmethod
    def look(out):
        """(seconds, frames) of what flooded() had printed."""
        uptime, counts = out.strip().split("\n", 1)
        return float(uptime), sum(int(count) for count in re.findall(r": (\d+)", counts))

    def drop(self, count):
        """What dropper() starts drops what pour() has."""
        job = self.dropper()
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
        """The kernel's packet generator, through the stock driver: so many frames on each queue, with a CPU each."""
        options = "".join(f"echo {option} > $d; " for option in (
            f"'count {count}'", "'pkt_size 60'", "'delay 0'", "'clone_skb 1000'", "'dst_mac ff:ff:ff:ff:ff:ff'", "'dst 198.18.0.2'",
            "queue_map_min\\ $q", "queue_map_max\\ $q"))
        script = f"""until grep -q 1 /sys/class/net/eth0/carrier; do usleep 50000; done; modprobe pktgen; cd /proc/net/pktgen
            for q in $(seq 0 {self.queues - 1}); do
                d=eth0@$q; echo rem_device_all > kpktgend_$q; echo add_device $d > kpktgend_$q; {options}
            done
            # It does not wait for threads that have yet to begin.
            echo start > pgctrl; n=0
            until [ $(cat eth0@* | grep -c pps) = {self.queues} ]; do usleep 100000; n=$((n+1)); [ $n -lt 600 ] || break; done
            cat eth0@*"""
        out = self.vm.run(script, timeout=180).out
        rates = re.findall(r"(\d+)pps", out)
        if len(rates) != self.queues or out.count(f"pkts-sofar: {count} ") != self.queues:
            raise vmlib.VMError(f"pktgen: {out}")
        self.rate = sum(map(int, rates))
        return count * self.queues


def costs(options, counts, arriving):
    """(name, instructions per frame) of each way, counted."""
    bench = Bench(options.nic, options.smp, options.count, stock=False, lines=options.lines)
    yield "netmap tx", *bench.cost(bench.send, counts)
    frames = bench.frames = capture(bench.vm.nics[0].tap, bench.vm, 1000)
    yield "netmap rx", *bench.cost(bench.receive, arriving)
    bench.close()
    bench = Bench(options.nic, options.smp, options.count, stock=True, lines=options.lines)
    bench.frames = frames
    yield STOCK_TX, *bench.cost(bench.pktgen, counts, skip=PKTGEN)
    yield STOCK_RX, *bench.cost(bench.drop, arriving)
    bench.close()


def rates(options, count):
    """(name, frames per second, queues) of each way, with nothing else to do."""
    bench = Bench(options.nic, options.smp, None, stock=False)
    yield "netmap tx", bench.sent(bench.send, count), bench.queues
    frames = bench.frames = capture(bench.vm.nics[0].tap, bench.vm, 1000)
    yield "netmap rx", bench.flooded(bench.receiver), bench.queues
    bench.close()
    bench = Bench(options.nic, options.smp, None, stock=True)
    bench.frames = frames
    yield STOCK_TX, bench.sent(bench.pktgen, count), bench.queues
    yield STOCK_RX, bench.flooded(bench.dropper), bench.queues
    bench.close()


def main():
    """Measures both directions and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", metavar="QEMU", help="the one that scripts/counter named; else nothing is counted")
    parser.add_argument("--nic", default="e1000", help="e1000, ixgbe, x540 or i40e")
    parser.add_argument("--smp", type=int, default=1, help="CPUs of the machine, and queues of a NIC that has several")
    parser.add_argument("--frames", type=int, default=200_000, help="frames of the longer run that sends")
    parser.add_argument("--lines", type=int, default=0, help="kernel functions to print for each figure")
    options = parser.parse_args()
    found = dict(costs(options, (options.frames // 5, options.frames), (8_800, 88_000))) if options.count else {}
    for name, rate, queues in list(rates(options, options.frames)):
        cost = f" {found[name]:9.1f} instructions per frame" if found else ""
        print(f"{options.nic}, queues: {queues}, 60-byte frames, {name:26} {rate:11,.0f} frames/s{cost}")


if __name__ == "__main__":
    main()
