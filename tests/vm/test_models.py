# SPDX-License-Identifier: GPL-2.0
"""The modelled NICs against the stock drivers: a card that a real driver accepts, and that moves every byte."""

import contextlib
import random
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import nicmodel
import vm as vmlib
from vlanpeer import VlanPeer

ECHO = 7000
ETHER_TYPE = 0x88B5

# The X540 differs from the 82599 by its port, so it has only the tests that meet that.
PORT_TESTS = ("test_frames_of_all_sizes", "test_streams_over_both_protocols", "test_jumbo_frames", "test_link_flaps",
              "test_self_checks_of_the_driver", "test_resets", "test_driver_goes_and_comes_back")


def pytest_generate_tests(metafunc):
    """Chooses the cards of a test."""
    if "card" in metafunc.fixturenames:
        # It comes last: pytest groups tests by the place of their card in this list, and the last of a group pulls it out.
        cards = sorted(nicmodel.CARDS, key=lambda card: card == "x540")
        if metafunc.definition.name not in PORT_TESTS:
            cards.remove("x540")
        metafunc.parametrize("card", cards, indirect=True, scope="module")


@pytest.fixture(scope="module")
def card(request):
    """A machine with two vCPUs (so two queues) and one card, driven by the kernel package's driver."""
    driver = nicmodel.driver_of(request.param)
    with vmlib.VM(name=f"models-{request.param}", nic=request.param, smp=2, stock=[driver], modules=["8021q"]) as machine:
        machine.run(f"modprobe 8021q; modprobe {driver}")
        machine.nic_up()
        # One process per connection, with the socket as its input and output: it writes pieces as large as TSO takes.
        machine.spawn(f"exec nc -ll -p {ECHO} -e cat")
        yield machine


@pytest.fixture
def vm(card):
    """The machine; after the test neither the kernel nor the card may complain."""
    yield card
    card.check_log()


def ping(vm, options=""):
    """The host answers, over IPv4 and IPv6."""
    nic = vm.nics[0]
    vm.run(f"for n in $(seq 15); do ping -c 1 -W 1 {nic.host} && exit; done; exit 1")
    vm.run(f"ping -c 3 -i 0.2 -W 2 {options} {nic.host} && ping -c 3 -i 0.2 -W 2 {options} {nic.host6}")


def connection(address):
    """A connection to the echo, which takes one at a time: a byte has come back already."""
    channel = socket.create_connection((address, ECHO), timeout=30)
    channel.sendall(b".")
    assert channel.recv(1) == b"."
    return channel


def echo(channel, size, seed):
    """Sends bytes, takes them back at the same time, and compares."""
    data = random.Random(seed).randbytes(size)
    with channel, ThreadPoolExecutor(1) as pool:
        sending = pool.submit(lambda: (channel.sendall(data), channel.shutdown(socket.SHUT_WR)))
        back = bytearray()
        while piece := channel.recv(1 << 18):
            back += piece
        sending.result()
    assert len(back) == size
    assert back == data, f"first difference at {next(n for n in range(size) if back[n] != data[n])}"


def streams(address, count=4, size=2_000_000):
    """Several echoes at once."""
    channels = [connection(address) for _ in range(count)]
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(echo, channel, size, seed) for seed, channel in enumerate(channels)]:
            done.result()


def statistics(vm):
    """ethtool -S as {name: number}."""
    found = re.findall(r"^ *(\S+): (\d+)$", vm.run("ethtool -S eth0").out, re.MULTILINE)
    return {name: int(number) for name, number in found}


def checksum_errors(vm):
    """Received packets that the card found damaged; each driver has a name of its own for them."""
    found = statistics(vm)
    return found["rx_csum_offload_errors"] if "rx_csum_offload_errors" in found else found["port.rx_csum_bad"]


def carrier(vm, wanted):
    """Waits for the link to be up (1) or down (0)."""
    vm.run(f"for n in $(seq 200); do grep -q {wanted} /sys/class/net/eth0/carrier && exit; usleep 50000; done; exit 1")


@contextlib.contextmanager
def features(vm, text):
    """Features switched for a while; `text` is ethtool's, all of them are on otherwise."""
    vm.run(f"ethtool -K eth0 {text}")
    carrier(vm, 1)
    try:
        yield
    finally:
        vm.run("ethtool -K eth0 " + text.replace("off", "on"))
        carrier(vm, 1)


def test_frames_of_all_sizes(vm):
    for size in (0, 18, 500, 1472, 4000):
        ping(vm, f"-s {size}")


def test_streams_over_both_protocols(vm):
    before = vm.nics[0].model.figures()
    streams(vm.nics[0].guest)
    streams(vm.nics[0].guest6)
    after = vm.nics[0].model.figures()
    # Most of the guest's data went out in long pieces that the card cut up.
    assert after["segmented"] - before["segmented"] > 100
    assert checksum_errors(vm) == 0


@pytest.mark.parametrize("text", ["tso off", "gso off tso off gro off", "rx off tx off tso off", "sg off tso off", "gro off"])
def test_streams_with_fewer_offloads(vm, text):
    with features(vm, text):
        streams(vm.nics[0].guest, size=500_000)


def test_statistics_of_driver_and_card_agree(vm):
    def settled():
        vm.run("sleep 2.5")  # the driver reads the registers every two seconds, and after a reset counts from what it finds
        return statistics(vm)

    before = settled()
    streams(vm.nics[0].guest, size=300_000)
    found = {name: value - before[name] for name, value in settled().items()}
    for way in ("rx", "tx"):
        if vm.driver == "ixgbe":
            counted = found[f"{way}_pkts_nic"]
        else:
            counted = sum(found[f"port.{way}_{kind}"] for kind in ("unicast", "multicast", "broadcast"))
        assert found[f"{way}_packets"] > 100
        assert abs(counted - found[f"{way}_packets"]) <= 20, (way, found)


@pytest.mark.parametrize("text", ["", "rxvlan off", "txvlan off", "rxvlan off txvlan off tso off"])
def test_vlan(vm, text):
    vm.run("ip link add link eth0 name eth0.5 type vlan id 5 && ip addr add 10.78.5.2/24 dev eth0.5 && ip link set eth0.5 up")
    try:
        with VlanPeer(vm.nics[0].tap, 5, "10.78.5.1/24"), features(vm, text) if text else contextlib.nullcontext():
            vm.run("for n in $(seq 15); do ping -c 1 -W 1 10.78.5.1 && exit; done; exit 1")
            streams("10.78.5.2", count=2, size=300_000)
    finally:
        vm.run("ip link del eth0.5")
    ping(vm)


def test_queues_are_used_and_can_be_changed(vm):
    def grown(before):
        after = statistics(vm)
        names = [name for name in after if re.fullmatch(r"rx_queue_\d_packets|rx-\d\.packets|rx-\d\.rx_packets", name)]
        return sorted(after[name] - before.get(name, 0) for name in names)

    before = statistics(vm)
    streams(vm.nics[0].guest, count=16, size=100_000)
    assert grown(before)[-2] > 50, grown(before)
    vm.run("ethtool -L eth0 combined 1")
    carrier(vm, 1)
    ping(vm)
    before = statistics(vm)
    streams(vm.nics[0].guest, count=8, size=100_000)
    counts = grown(before)
    assert counts[-1] > 50 and sum(counts[:-1]) == 0, counts
    vm.run("ethtool -L eth0 combined 2")
    carrier(vm, 1)
    ping(vm)
    # The table of the hash decides: here all of it names the first queue.
    vm.run("ethtool -X eth0 equal 1")
    before = statistics(vm)
    streams(vm.nics[0].guest, count=8, size=100_000)
    counts = grown(before)
    vm.run("ethtool -X eth0 default")
    assert counts[-1] > 50 and sum(counts[:-1]) <= 10, counts


@pytest.mark.parametrize("count", [64, 512])
def test_ring_sizes(vm, count):
    vm.run(f"ethtool -G eth0 rx {count} tx {count}")
    carrier(vm, 1)
    streams(vm.nics[0].guest, size=500_000)
    vm.run("ethtool -G eth0 rx 512 tx 512")
    carrier(vm, 1)


def test_jumbo_frames(vm):
    nic = vm.nics[0]
    try:
        vmlib.host(f"ip link set {nic.tap} mtu 9000")
        vm.run("ip link set eth0 mtu 9000")
        carrier(vm, 1)
        ping(vm, "-s 8900")
        vm.run(f"ping -c 1 -W 2 -M do -s 8972 {nic.host}")
        streams(nic.guest, size=3_000_000)
    finally:
        vmlib.host(f"ip link set {nic.tap} mtu 1500")
        vm.run("ip link set eth0 mtu 1500")
    carrier(vm, 1)
    ping(vm)


def test_link_flaps(vm):
    for _ in range(2):
        vm.nics[0].model.command("link down")
        carrier(vm, 0)
        vm.nics[0].model.command("link up")
        carrier(vm, 1)
        ping(vm)


def test_self_checks_of_the_driver(vm):
    vm.run("ethtool -t eth0 online")
    found = dict(re.findall(r"^(\w+) test .*\s(\d+)$", vm.run("ethtool -t eth0 offline").out, re.MULTILINE))
    wanted = {"Register", "Eeprom", "Interrupt", "Link"} | ({"Loopback"} if vm.driver == "ixgbe" else set())
    assert set(found) == wanted and not any(int(code) for code in found.values()), found
    if vm.driver == "ixgbe":
        # Its register test switches on queues that have no ring, and moves their tails.
        lines = vm.nics[0].model.complained()
        odd = re.compile(r"rx [0-3]: (enabled with base 0x0, length 0, head 0, tail 0|tail \d+ while the queue is disabled)")
        assert len(lines) == 16 and all(odd.fullmatch(line) for line in lines), lines
    carrier(vm, 1)
    ping(vm)


def test_resets(vm):
    vm.run("ethtool -r eth0", check=False)
    carrier(vm, 1)
    ping(vm)
    vm.run("ip link set eth0 down && ip link set eth0 up")
    carrier(vm, 1)
    vm.run(f"ip -6 addr replace {vm.nics[0].guest6}/64 dev eth0 nodad")
    ping(vm)
    streams(vm.nics[0].guest, size=300_000)


def test_resets_that_the_driver_wants(vm):
    for reset in nicmodel.resets(vm.driver):
        changes = int(vm.run("cat /sys/class/net/eth0/carrier_changes").out)
        vm.run(reset)
        # The driver does it a moment later.
        vm.run(f"n=0; while [ $(cat /sys/class/net/eth0/carrier_changes) = {changes} ]; do usleep 50000; n=$((n+1)); [ $n -lt 200 ]; done")
        carrier(vm, 1)
        ping(vm)
        streams(vm.nics[0].guest, count=2, size=100_000)


def test_driver_goes_and_comes_back(vm):
    vm.run(f"rmmod {vm.driver} && modprobe {vm.driver}", timeout=60)
    vm.nic_up()
    ping(vm)
    streams(vm.nics[0].guest, size=300_000)


def send(vm, to, count=50):
    """Puts frames of no protocol on the wire."""
    frame = bytes.fromhex(to.replace(":", "")) + bytes((2, 0, 0, 0, 0, 9)) + ETHER_TYPE.to_bytes(2, "big") + bytes(46)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((vm.nics[0].tap, 0))
        for _ in range(count):
            wire.send(frame)


def test_address_filters(vm):
    count = "cat /sys/class/net/eth0/statistics/rx_packets"

    def arrive(to):
        before = int(vm.run(count).out)
        send(vm, to)
        # The host says something of its own now and then.
        return (int(vm.run(f"sleep 0.3; {count}").out) - before) // 50

    group, other = "01:00:5e:01:02:03", "02:aa:bb:cc:dd:ee"
    assert arrive(vm.nics[0].mac) == 1
    assert arrive("ff:ff:ff:ff:ff:ff") == 1
    assert arrive(other) == 0
    assert arrive(group) == 0
    vm.run(f"ip maddr add {group} dev eth0")
    assert arrive(group) == 1
    vm.run(f"ip maddr del {group} dev eth0; ip link set eth0 promisc on")
    assert arrive(other) == 1
    vm.run("ip link set eth0 promisc off; ip link set eth0 allmulticast on")
    assert arrive(group) == 1
    assert arrive(other) == 0
    vm.run("ip link set eth0 allmulticast off")


def test_lost_and_late_frames(vm):
    model = vm.nics[0].model
    try:
        model.command("drop rx 20000")
        model.command("drop tx 20000")
        model.command("delay rx 3000")
        streams(vm.nics[0].guest, size=300_000)
        found = model.figures()
        assert found["rx_dropped"] > 0 and found["tx_dropped"] > 0
    finally:
        model.command("clear")


def test_frames_are_as_late_as_told(vm):
    nic = vm.nics[0]
    for way in ("rx", "tx"):
        nic.model.command(f"delay {way} 50000")
        shortest = re.search(r"= ([\d.]+)/", vmlib.host(f"ping -c 3 -i 0.2 -W 10 {nic.guest}").out)[1]
        nic.model.command("clear")
        assert float(shortest) >= 50


def test_damage_on_the_way_out_is_found_by_the_other_end(vm):
    def found():
        return int(vmlib.host("nstat -asz TcpInCsumErrors").out.split()[-2])

    before = found()
    try:
        vm.nics[0].model.command("corrupt tx 30000")
        streams(vm.nics[0].guest, size=500_000)
    finally:
        vm.nics[0].model.command("clear")
    assert found() > before


def test_damaged_frames_are_found_out(vm):
    model = vm.nics[0].model
    before = checksum_errors(vm)
    try:
        model.command("corrupt rx 30000")
        streams(vm.nics[0].guest, size=500_000)
        assert model.figures()["rx_corrupted"] > 0
    finally:
        model.command("clear")
    # Most of the damage is in what a TCP checksum covers, and the card says so.
    assert checksum_errors(vm) > before


def test_a_stalled_receive_queue_goes_on(vm):
    model = vm.nics[0].model
    model.command("stall rx 0")
    model.command("stall rx 1")
    nic = vm.nics[0]
    assert vmlib.host(f"ping -c 1 -W 1 {nic.guest}", check=False).rc != 0
    model.command("clear")
    vmlib.host(f"ping -c 3 -i 0.2 -W 2 {nic.guest}")


def test_a_stalled_transmit_queue_goes_on(vm):
    nic = vm.nics[0]
    for queue in (0, 1):
        nic.model.command(f"stall tx {queue}")
    try:
        # Not for so long that ixgbe would take it for a hang: docs/nic-models.md says why.
        assert vmlib.host(f"ping -c 2 -i 0.2 -W 1 {nic.guest}", check=False).rc != 0
    finally:
        nic.model.command("clear")
    carrier(vm, 1)
    ping(vm)


def test_interrupts_are_as_rare_as_told(vm):
    nic = vm.nics[0]
    # 82599 and X540 have one time for both directions of a vector.
    vm.run("ethtool -C eth0 rx-usecs 900" + (" tx-usecs 900 adaptive-rx off adaptive-tx off" if vm.driver == "i40e" else ""))
    carrier(vm, 1)
    ping(vm)
    before, begun = nic.model.figures()["interrupts"], time.monotonic()
    # Each packet as soon as the one before is answered.
    vmlib.host(f"ping -f -c 1000 {nic.guest}")
    count, seconds = nic.model.figures()["interrupts"] - before, time.monotonic() - begun
    vm.run("ethtool -C eth0 rx-usecs 1" if vm.driver == "ixgbe" else "ethtool -C eth0 adaptive-rx on adaptive-tx on")
    # Two queues, and a few for other reasons.
    assert count <= 2 * seconds / 900e-6 + 20, (count, seconds)


def test_a_mistake_of_a_driver_fails_a_test(card):
    """A doorbell of a queue that is off, rung by hand."""
    device = card.run("readlink -f /sys/class/net/eth0/device").out.strip()
    base = int(card.run(f"cat {device}/resource").out.split()[0], 16)
    card.check_log()
    card.run(f"rmmod {card.driver} && echo 1 >{device}/enable")
    card.run(f"devmem {base + (0x6018 if card.driver == 'ixgbe' else 0x108000):#x} 32 5")
    with pytest.raises(AssertionError, match="tx 0: tail 5 while|queue 0: doorbell 5 while"):
        card.check_log()
    card.run(f"echo 0 >{device}/enable; modprobe {card.driver}")
    card.nic_up()
    card.check_log()


def test_a_card_that_is_pulled_out(card):
    """The last test of a machine: the card does not come back."""
    card.nics[0].model.command("remove")
    # The driver finds out by its next look at the card.
    card.run("ethtool -S eth0 >/dev/null; sleep 3", check=False)
    # QEMU 11.1 ends with a failed assertion if it is told (device_del), so the guest is.
    card.run("echo 1 >/sys/class/net/eth0/device/remove")
    assert "eth0" not in card.run("ls /sys/class/net").out
    card.check_log()
