# SPDX-License-Identifier: GPL-2.0
"""A NIC's own rings, and the host's, without a stack port: `netmap:eth0`."""

import contextlib
import re
import socket
import struct
import time

import pytest

import vm as vmlib
from upheaval import Load, reachable, serving

VM_OPTIONS = dict(nics=2, smp=2)
ETHER_TYPE = 0x88B5
SOURCE = bytes((2, 0, 0, 0, 0, 9))
WORD = (1 << 64) - 1


def usable(vm, index=0):
    """The host has the NIC as ever."""
    reachable(vm, index)
    nic = vm.nics[index]
    vm.run(f"ping -c 2 -i 0.2 -W 2 {nic.host}; ping -c 2 -i 0.2 -W 2 {nic.host6}")
    assert nic.name not in vm.run("cat /sys/kernel/debug/netmap/ports").out


def sum_of(number, payload):
    """nmpkt's check of a frame."""
    a, b = number, 0
    for byte in payload:
        a = (a + byte + 1) & WORD
        b = (b + a) & WORD
    return b


def frame(number, length, to):
    """A frame that nmpkt recognises."""
    payload = bytes((number * 7 + at) & 0xFF for at in range(length - 30))
    return to + SOURCE + struct.pack("!HQQ", ETHER_TYPE, number, sum_of(number, payload)) + payload


class Wire:
    """The client's side of a NIC as frames of nmpkt's kind."""

    def __init__(self, nic):
        self.nic = nic
        self.to = bytes.fromhex(nic.mac.replace(":", ""))
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHER_TYPE))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 20)
        self.socket.bind((nic.tap, ETHER_TYPE))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, numbers, length=0):
        """Sends frames of `length` bytes (0: of all sizes) at a pace that the emulated NIC takes."""
        for number in numbers:
            self.socket.send(frame(number, length or 60 + number * 37 % 1455, self.to))
            if number % 16 == 15:
                time.sleep(0.004)

    def foreign(self, count):
        """Sends frames that are not of nmpkt's kind."""
        for _ in range(count):
            self.socket.send(self.to + SOURCE + struct.pack("!H", ETHER_TYPE + 1) + bytes(100))

    def receive(self, count, idle=5):
        """Receives until there are `count` good frames or none for a while; their numbers, in order."""
        numbers = []
        self.socket.settimeout(idle)
        with contextlib.suppress(TimeoutError):
            while len(numbers) < count:
                data, address = self.socket.recvfrom(2048)
                if address[2] == socket.PACKET_OUTGOING:
                    continue
                number, check = struct.unpack_from("!QQ", data, 14)
                # Of short frames padding is nobody's content; nmpkt makes none.
                assert check == sum_of(number, data[30:]), f"frame {number} of {len(data)} bytes is broken"
                numbers.append(number)
        return numbers


def receiving(vm, port, options):
    """nmpkt that receives; returns when its NIC is ready."""
    # The link may take long on a busy machine, which is no fault.
    job = vm.spawn(f"exec nmpkt {port} recv --begin 60 {options}")
    vm.run(f"n=0; until grep -q receiving /run/job{job.number}.log; do usleep 50000; n=$((n+1)); [ $n -lt 200 ]; done")
    carrier(vm)
    return job


def carrier(vm, name="eth0"):
    """Waits for the link, which a change of mode restarts, some drivers a while later: until it is up for a second."""
    vm.run(f"""sleep 0.5; n=0; same=0; before=
        until [ $same = 20 ]; do
            now=$(cat /sys/class/net/{name}/carrier /sys/class/net/{name}/carrier_changes 2>/dev/null)
            case "$now" in 1*) [ "$now" = "$before" ] && same=$((same+1)) || same=0;; *) same=0;; esac
            before=$now; usleep 50000; n=$((n+1)); [ $n -lt 300 ]
        done""")


def counts(job):
    """The numbers that nmpkt printed."""
    return {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)\b", job.output())}


@pytest.mark.parametrize("port", ["netmap:eth0", "netmap:eth0-0", "netmap:eth0*"])
def test_frames_leave_through_the_tx_ring(vm, port):
    with Wire(vm.nics[0]) as wire:
        job = vm.spawn(f"exec nmpkt {port} send -n 5000 -l 0 -r 4000")
        numbers = wire.receive(5000, idle=15)
        assert job.wait() == 0, job.output()
    assert numbers == list(range(5000))
    usable(vm)


def test_frame_longer_than_the_mtu_allows_is_refused(vm):
    """Not even a NIC that takes longer ones sends it. A VLAN tag has room."""
    send = "exec nmpkt netmap:eth0 send -n 10 -l"
    try:
        vm.run("ip link set eth0 mtu 1300")
        with Wire(vm.nics[0]) as wire:
            job = vm.spawn(f"{send} 1319")
            assert job.wait() != 0
            assert "the port has failed" in job.output(), job.output()
            assert wire.receive(1, idle=1) == []
            job = vm.spawn(f"{send} 1318")
            assert wire.receive(10, idle=15) == list(range(10))
            assert job.wait() == 0, job.output()
    finally:
        vm.run("ip link set eth0 mtu 1500")
    usable(vm)


@pytest.mark.parametrize("port", ["netmap:eth0", "netmap:eth0-0", "netmap:eth0/R"])
def test_frames_arrive_in_the_rx_ring(vm, port):
    job = receiving(vm, port, "-n 3000 --idle 30")
    with Wire(vm.nics[0]) as wire:
        wire.send(range(3000))
    assert job.wait() == 0, job.output()
    seen = counts(job)
    assert (seen["received"], seen["late"], seen["broken"]) == (3000, 0, 0), job.output()
    usable(vm)


def test_program_in_c_with_the_old_calls_sends_and_receives(vm):
    with Wire(vm.nics[0]) as wire:
        job = vm.spawn("exec api-legacy send netmap:eth0 500")
        wire.socket.settimeout(15)
        frames = []
        while len(frames) < 500:
            data, address = wire.socket.recvfrom(2048)
            if address[2] != socket.PACKET_OUTGOING:
                frames.append(data)
        assert job.wait() == 0, job.output()
        assert all(len(data) == 200 and set(data[14:]) == {number % 256} for number, data in enumerate(frames))
        job = vm.spawn("exec api-legacy recv netmap:eth0 1000")
        vm.run(f"n=0; until grep -q open /run/job{job.number}.log; do usleep 50000; n=$((n+1)); [ $n -lt 200 ]; done")
        carrier(vm)
        wire.send(range(1000))
    assert job.wait() == 0, job.output()
    usable(vm)


def test_ring_that_nobody_reads_loses_frames_and_goes_on(vm):
    job = receiving(vm, "netmap:eth0", "-n 500 --idle 30")
    with Wire(vm.nics[0]) as wire:
        job.kill(19)
        # More than the ring has slots, and numbers that do not count later.
        wire.send(range(10_000, 11_000), 60)
        job.kill(18)
        time.sleep(1)
        wire.send(range(500))
        job.wait()
    assert counts(job)["received"] == 500, job.output()
    usable(vm)


def test_host_rings_carry_the_hosts_packets(vm):
    nic = vm.nics[0]
    # From the stack into the ring.
    job = vm.spawn("exec nmpkt netmap:eth0^ recv -n 1 --loss 1 --idle 4")
    vm.run(f"sleep 1; ping -c 5 -i 0.2 -W 1 {nic.host}", check=False)
    assert job.wait() == 0, job.output()
    assert counts(job)["other"] >= 1, job.output()
    # From the ring into the stack.
    dump = vm.spawn("exec tcpdump -Z root -i eth0 -n -e -c 100 ether proto 0x88b5 2>&1")
    vm.run(f"n=0; until grep -q listening /run/job{dump.number}.log; do usleep 50000; n=$((n+1)); [ $n -lt 200 ]; done")
    vm.run("nmpkt netmap:eth0^ send -n 100 -w 0 -r 500")
    assert dump.wait() == 0, dump.output()
    usable(vm)


def test_host_goes_on_through_a_program_between_it_and_the_nic(vm):
    nic = vm.nics[0]
    job = vm.spawn("exec nmpkt netmap:eth0* bridge -d 12")
    vm.run(f"n=0; until grep -q bridging /run/job{job.number}.log; do usleep 50000; n=$((n+1)); [ $n -lt 200 ]; done")
    reachable(vm)
    vmlib.host(f"ping -c 10 -i 0.1 -W 2 {nic.guest}")
    vm.run("head -c 300000 /dev/urandom >/tmp/data; httpd -p 8080 -h /tmp")
    try:
        vmlib.host(f"curl -s -f -m 8 http://{nic.guest}:8080/data -o /tmp/data")
        with open("/tmp/data", "rb") as got:
            assert got.read() == vm.get("/tmp/data")
    finally:
        vm.run("for p in $(pidof httpd); do kill $p; done")
    assert job.wait() == 0, job.output()
    # At least ten pings, and what begins and ends a connection; the file's segments. How many of these share an
    # acknowledgement is the client's affair.
    seen = counts(job)
    assert seen["to_host"] > 15 and seen["to_nic"] > 200, job.output()
    usable(vm)


def test_two_programs_share_a_nic_unless_one_wants_it_alone(vm):
    job = receiving(vm, "netmap:eth0", "-n 100 --idle 30")
    refused = vm.run("nmpkt netmap:eth0/x recv -n 1 --idle 0", check=False)
    assert refused.rc and "busy" in refused.out, refused.out
    # A NIC is in a port or has rings of its own, not both.
    refused = vm.run("phttpd -i eth0", check=False, timeout=10)
    assert refused.rc == 1 and "busy" in refused.out, refused.out
    vm.run("nmpkt netmap:eth0 recv -n 1 --loss 1 --idle 0")
    with Wire(vm.nics[0]) as wire:
        wire.send(range(100))
    assert job.wait() == 0, job.output()
    usable(vm)


def test_killed_programs_give_the_nic_back(vm):
    for port in ("netmap:eth0", "netmap:eth0*", "netmap:eth0^"):
        job = vm.spawn(f"exec nmpkt {port} send -n 1000000 -w 0")
        vm.run("sleep 1")
        job.kill(9)
        assert job.wait() == 137
    usable(vm)


@pytest.mark.parametrize("change", [
    "ip link set eth0 down; sleep 0.5; ip link set eth0 up", "ip link set eth0 mtu 1400; ip link set eth0 mtu 1500",
    "ethtool -G eth0 rx 512 tx 128; ethtool -G eth0 rx 256 tx 256", "ethtool -K eth0 rx on; ethtool -K eth0 rx off",
    "ethtool -r eth0",
], ids=["down and up", "mtu", "ring sizes", "features", "negotiation"])
def test_changes_while_the_rings_are_in_use(vm, change):
    hostile = vm.spawn("exec nmhostile -d 4 netmap:eth0*")
    vm.run("sleep 1")
    vm.run(change)
    with Wire(vm.nics[0]) as wire:
        # Those that wait until the link is up may find the next program.
        wire.foreign(300)
    assert hostile.wait() == 0, hostile.output()
    # The next one has good rings.
    job = receiving(vm, "netmap:eth0", "-n 300 --idle 30")
    vm.run(change)
    carrier(vm)
    with Wire(vm.nics[0]) as wire:
        wire.send(range(300))
    if job.wait():
        # A program learns by POLLERR that its rings stood still meanwhile.
        assert "the port has failed" in job.output(), job.output()
    vm.nic_up()
    usable(vm)


def test_link_goes_and_comes_while_the_rings_are_in_use(vm):
    job = receiving(vm, "netmap:eth0", "-n 300 --idle 30")
    vm.link(False)
    time.sleep(1)
    vm.link(True)
    carrier(vm)
    time.sleep(1)
    with Wire(vm.nics[0]) as wire:
        wire.send(range(300))
    assert job.wait() == 0, job.output()
    usable(vm)


def test_link_goes_and_comes_while_a_program_sends(vm):
    """What leaves meanwhile is lost; the ring does not stay full."""
    with Wire(vm.nics[0]) as wire:
        job = vm.spawn("exec nmpkt netmap:eth0-0 send -n 16000 -l 100 -r 2000")
        numbers = wire.receive(500, idle=15)
        vm.link(False)
        # Longer than it takes to fill the ring.
        time.sleep(2)
        assert job.poll() is None, "it has ended too early to see the link go"
        vm.link(True)
        numbers += wire.receive(16000 - len(numbers), idle=15)
        assert job.wait(30) == 0, job.output()
    assert numbers == sorted(set(numbers)) and numbers[-1] == 15999
    usable(vm)


def test_driver_unloads_while_the_rings_are_in_use(vm):
    for port in ("netmap:eth0", "netmap:eth0*"):
        job = receiving(vm, port, "-n 1 --idle 30")
        vm.run(f"rmmod {vm.driver}")
        # The rings have gone; who waited for them is told.
        assert job.wait(10) != 0
        assert "the port has failed" in job.output(), job.output()
        vm.run(f"modprobe {vm.driver}")
        vm.nics_ready()
    usable(vm)


def test_program_that_does_not_let_go_of_a_nic_that_has_gone_keeps_it_from_nobody(vm):
    job = receiving(vm, "netmap:eth0", "-n 1 --idle 30")
    job.kill(19)
    try:
        vm.run(f"rmmod {vm.driver} && modprobe {vm.driver}")
        vm.nics_ready()
        reachable(vm)
        vm.run("nmpkt netmap:eth0 send -n 100 -l 60")
        reachable(vm)
    finally:
        job.kill(18)
    assert job.wait(10) != 0
    assert "the port has failed" in job.output(), job.output()
    usable(vm)


def test_name_leads_to_who_has_it_now(vm):
    sent = "cat /sys/class/net/{}/statistics/tx_packets"
    job = receiving(vm, "netmap:eth0", "-n 1 --idle 60")
    try:
        vm.run("ip link set eth0 name old0 && ip link set eth1 name eth0")
        try:
            carrier(vm, "eth0")
            before = int(vm.run(sent.format("old0")).out), int(vm.run(sent.format("eth0")).out)
            vm.run("nmpkt netmap:eth0 send -n 500 -l 60")
            after = int(vm.run(sent.format("old0")).out), int(vm.run(sent.format("eth0")).out)
            assert after[0] - before[0] < 50 and after[1] - before[1] >= 500, (before, after)
        finally:
            vm.run("ip link set eth0 name eth1; ip link set old0 name eth0")
    finally:
        job.kill(9)
        job.wait()
    for index in (0, 1):
        carrier(vm, f"eth{index}")
        usable(vm, index)


def test_hostile_program_on_raw_rings_harms_nobody(vm):
    with serving(vm), Load(vm.nics[0].guest) as load:
        for seed, port in enumerate(("netmap:eth1", "netmap:eth1*", "netmap:eth1^")):
            hostile = vm.spawn(f"exec nmhostile -d 4 -s {seed} {port}")
            vm.run("sleep 1")
            with Wire(vm.nics[1]) as wire:
                wire.send(range(1000), 60)
            vm.run(f"ping -c 3 -i 0.2 -W 1 {vm.nics[1].host}", check=False)
            assert hostile.wait() == 0, hostile.output()
            load.another_round()
    usable(vm, 1)
