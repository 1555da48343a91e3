# SPDX-License-Identifier: GPL-2.0
"""What a NIC does of itself in netmap mode: it sums, cuts up long segments, and counts. The modelled ones tell."""

import contextlib
import os
import re

import pytest

from phttpd import nmload
from test_nic import Wire, carrier, counts, receiving, usable
from test_queues import packets
from upheaval import reachable, serving

pytestmark = pytest.mark.skipif(not os.environ.get("NIC"), reason="for modelled NICs")
TRACING = "/sys/kernel/tracing"


def segmented(vm):
    """Long segments that the card cut up until now."""
    return vm.nics[0].model.figures()["segmented"]


@pytest.mark.parametrize("six", [False, True], ids=["ipv4", "ipv6"])
def test_long_segments_of_a_stack_port_are_cut_up_by_the_card(vm, six):
    with serving(vm):
        reachable(vm)
        before = segmented(vm)
        nmload(vm.nics[0], "echo -n 5000000 -c 10", six=six)
        # As nic-setup leaves it.
        assert segmented(vm) == before
        vm.run("ethtool -K eth0 tso on gso on")
        try:
            reachable(vm)
            nmload(vm.nics[0], "echo -n 5000000 -c 10", six=six)
            assert segmented(vm) > before + 100
        finally:
            vm.run("nic-setup eth0")


@contextlib.contextmanager
def sums(vm):
    """A function that tells how many packets the kernel has summed because no card said that they are whole."""
    vm.run(f"mount -t tracefs none {TRACING} 2>/dev/null; cd {TRACING} && "
           "echo 'p:sums __skb_checksum_complete' >kprobe_events && echo 1 >events/kprobes/sums/enable")
    try:
        yield lambda: int(vm.run(f"cat {TRACING}/kprobe_profile").out.split()[1])
    finally:
        vm.run(f"cd {TRACING} && echo 0 >events/kprobes/sums/enable && echo >kprobe_events")


def test_verdict_of_the_card_on_received_sums_is_believed_and_damage_found(vm):
    wrong = "awk '/^Tcp:/ {n = $NF} END {print n}' /proc/net/snmp"
    model = vm.nics[0].model
    with serving(vm), sums(vm) as summed:
        reachable(vm)
        before, frames = summed(), sum(packets(vm, "rx"))
        nmload(vm.nics[0], "echo -n 5000000 -c 10")
        before, frames = summed() - before, sum(packets(vm, "rx")) - frames
        assert frames > 3000 and before < frames // 20, (before, frames)
        before, errors = summed(), int(vm.run(wrong).out)
        model.command("corrupt rx 20000")
        try:
            nmload(vm.nics[0], "echo -n 3000000 -c 10")
        finally:
            model.command("clear")
        assert summed() > before
        assert int(vm.run(wrong).out) > errors
        # Who does not trust the card says so.
        vm.run("ethtool -K eth0 rx off")
        try:
            reachable(vm)
            before, frames = summed(), sum(packets(vm, "rx"))
            nmload(vm.nics[0], "echo -n 3000000 -c 10")
            before, frames = summed() - before, sum(packets(vm, "rx")) - frames
            # Those without payload, and a little, are summed elsewhere.
            assert frames > 2000 and before > frames // 2, (before, frames)
        finally:
            vm.run("nic-setup eth0")


def interface(vm):
    """What `ip -s link` tells of eth0, as {name: number}."""
    found = vm.run("cd /sys/class/net/eth0/statistics && grep . rx_packets rx_bytes tx_packets tx_bytes").out
    return {name: int(number) for name, number in re.findall(r"(\w+):(\d+)", found)}


def figures(vm):
    """The interface's counters, the sums of its queues' ones, and what the card saw on the wire."""
    wire = vm.nics[0].model.figures()
    return {**interface(vm), "rx_queues": sum(packets(vm, "rx")), "tx_queues": sum(packets(vm, "tx")),
            "received": wire["wire_received"], "sent": wire["wire_sent"]}


def grown(vm, before):
    """By how much figures() have grown. The host says something of its own now and then, between two looks as well: up to 20
    frames; all else must agree."""
    now = figures(vm)
    by = {name: now[name] - before[name] for name in now}
    assert abs(by["tx_packets"] - by["sent"]) <= 20, by
    assert -20 <= by["received"] - by["rx_packets"] <= 20, by
    assert abs(by["tx_queues"] - by["tx_packets"]) <= 20, by
    assert abs(by["rx_queues"] - by["rx_packets"]) <= 20, by
    return by


def test_counters_of_interface_and_queues_agree_with_the_wire(vm):
    with serving(vm):
        reachable(vm)
        before = figures(vm)
        nmload(vm.nics[0], "echo -n 2000000 -c 5")
        by = grown(vm, before)
        assert by["rx_packets"] > 1000 and by["rx_bytes"] > 2_000_000, by
        assert by["tx_packets"] > 1000 and by["tx_bytes"] > 2_000_000, by
    carrier(vm)
    before = figures(vm)
    vm.run("nmpkt netmap:eth0 send -n 2000 -l 200")
    by = grown(vm, before)
    assert 2000 <= by["tx_packets"] <= 2040 and 400_000 <= by["tx_bytes"] <= 410_000, by
    job = receiving(vm, "netmap:eth0", "-n 1000 --idle 30")
    before = figures(vm)
    with Wire(vm.nics[0]) as wire:
        wire.send(range(1000), 200)
    assert job.wait() == 0 and counts(job)["received"] == 1000, job.output()
    by = grown(vm, before)
    assert 1000 <= by["rx_packets"] <= 1040 and 200_000 <= by["rx_bytes"] <= 210_000, by
    usable(vm)
