# SPDX-License-Identifier: GPL-2.0
"""A NIC in netmap mode and what else wants it: XDP, VLANs, and whoever unbinds its driver or pulls it out of its slot."""

import contextlib
import subprocess
import time
from pathlib import Path

import pytest

import vm as vmlib
from accounting import buffers, settled
from conftest import restarted
from phttpd import NMLOAD, PORT, nmload, registered
from test_nic import carrier, receiving, usable
from upheaval import Load, answer, reachable, serving
from vlanpeer import VlanPeer

VLAN = 100
OFFLOADS = "ethtool -k eth0 | grep vlan-offload"


@contextlib.contextmanager
def xdp(vm, what, where):
    """An XDP program on eth0 while the block runs."""
    job = vm.spawn(f"exec xdp eth0 {what} {where}")
    vm.run(f"n=0; until grep -q attached /run/job{job.number}.log; do usleep 50000; n=$((n+1)); "
           f"[ $n -lt 100 ] || {{ cat /run/job{job.number}.log; exit 1; }}; done")
    yield
    job.kill()
    job.wait()


def test_xdp_and_netmap_mode_exclude_each_other(vm):
    refusal = "EBUSY" if vm.nics[0].model else "EOPNOTSUPP"
    with serving(vm):
        reachable(vm)
        refused = vm.run("xdp eth0 pass native", check=False)
        assert (refused.rc, refused.out) == (1, f"attach: {refusal}\n")
        refused = vm.run("xdp eth0 socket native", check=False)
        assert (refused.rc, refused.out) == (1, f"bind: {refusal}\n")
        assert answer(vm) == 64
    job = receiving(vm, "netmap:eth0", "-n 1 --idle 30")
    refused = vm.run("xdp eth0 pass native", check=False)
    assert (refused.rc, refused.out) == (1, f"attach: {refusal}\n")
    job.kill()
    job.wait()
    carrier(vm)
    if vm.nics[0].model:
        told = [line for line in vm.dmesg().splitlines() if "no XDP in netmap mode" in line]
        assert len(told) == 3, told
        for what in ("pass", "socket"):
            with xdp(vm, what, "native"):
                refused = vm.run("phttpd -i eth0", check=False, timeout=10)
                assert refused.rc == 1 and "busy" in refused.out, refused.out
        with xdp(vm, "pass", "native"):
            refused = vm.run("nmpkt netmap:eth0 recv -n 1 --idle 0", check=False, timeout=10)
            assert refused.rc == 1 and "busy" in refused.out, refused.out
            reachable(vm)
        carrier(vm)
    with serving(vm):
        reachable(vm)
        assert answer(vm) == 64
    usable(vm)


def test_xdp_behind_the_driver_sees_what_a_stack_port_receives(vm):
    with serving(vm), Load(vm.nics[0].guest) as load:
        reachable(vm)
        load.another_round()
        with xdp(vm, "pass", "generic"):
            load.another_round()
        with xdp(vm, "drop", "generic"):
            assert vmlib.host(f"ping -c 2 -i 0.2 -W 1 {vm.nics[0].guest}", check=False).rc != 0
        load.another_round()


@contextlib.contextmanager
def vlan(vm):
    """Both ends of a VLAN over eth0 while the block runs; the host's and the guest's address in it."""
    subnet = vm.nics[0].guest.split(".")[2]
    host, guest = f"10.78.{subnet}.1", f"10.78.{subnet}.2"
    vm.run(f"modprobe 8021q; ip link add link eth0 name eth0.{VLAN} type vlan id {VLAN}; "
           f"ip addr add {guest}/24 dev eth0.{VLAN}; ip link set eth0.{VLAN} up")
    try:
        with VlanPeer(vm.nics[0].tap, VLAN, f"{host}/24"):
            yield host, guest
    finally:
        vm.run(f"ip link del eth0.{VLAN}")


def pings(vm, host, guest):
    """Packets go both ways, with and without a tag."""
    vmlib.host(f"n=0; until ping -c 1 -W 1 {guest} >/dev/null; do n=$((n+1)); [ $n -lt 20 ]; done")
    vmlib.host(f"ping -c 5 -i 0.1 -W 2 -s 1400 {guest}; ping -c 3 -i 0.1 -W 2 {vm.nics[0].guest}")
    vm.run(f"ping -c 5 -i 0.1 -W 2 -s 1400 {host}")


def test_tagged_frames_reach_the_host_through_raw_rings(vm):
    before = vm.run(OFFLOADS).out
    with vlan(vm) as (host, guest):
        pings(vm, host, guest)
        job = vm.spawn("exec nmpkt netmap:eth0* bridge -d 60")
        carrier(vm)
        pings(vm, host, guest)
        # In the slots tags are where they are on the wire.
        assert " on" not in vm.run(OFFLOADS).out
        job.kill()
        job.wait()
        carrier(vm)
        assert vm.run(OFFLOADS).out == before
        pings(vm, host, guest)
    usable(vm)


def test_connections_over_a_vlan_of_a_stack_port(vm):
    before = vm.run(OFFLOADS).out
    with vlan(vm) as (host, guest):
        with serving(vm):
            reachable(vm)
            pings(vm, host, guest)
            done = vmlib.host(f"/src/build/cargo/release/nmload {guest}:{PORT} -t 60 echo -n 5000000 -c 10")
            assert done.rc == 0
            nmload(vm.nics[0], "echo -n 5000000 -c 10")
            assert " on" not in vm.run(OFFLOADS).out
        carrier(vm)
        assert vm.run(OFFLOADS).out == before
        pings(vm, host, guest)
    usable(vm)


def away_and_back(vm, way):
    """Shell commands by which eth0 goes, and comes back."""
    if way == "unbound":
        driver = f"/sys/bus/pci/drivers/{vm.driver}"
        slot = vm.run("basename $(readlink -f /sys/class/net/eth0/device)").out.strip()
        return f"echo {slot} >{driver}/unbind", f"echo {slot} >{driver}/bind"
    return "echo 1 >/sys/class/net/eth0/device/remove", "echo 1 >/sys/bus/pci/rescan"


@pytest.mark.parametrize("way", ["unbound", "removed"])
def test_a_nic_goes_and_comes_back(vm, way):
    away, back = away_and_back(vm, way)
    job = receiving(vm, "netmap:eth0*", "-n 1 --idle 30")
    vm.run(away)
    assert job.wait(10) != 0
    assert "the port has failed" in job.output(), job.output()
    vm.run(back)
    vm.nics_ready()
    with serving(vm), Load(vm.nics[0].guest) as load:
        reachable(vm)
        load.another_round()
        vm.run(away)
        assert "nic 1 eth0" not in vm.run("cat /sys/kernel/debug/netmap/ports").out
        vm.run(back)
        # First the host has it, then the port, as ever: the sockets have stayed.
        vm.nic_up()
        load.another_round()
        vm.run("nmattach pst:0 eth0 attach")
        load.another_round()
    usable(vm)


@pytest.mark.parametrize("port", ["pst:0", "netmap:eth0"])
def test_a_card_is_pulled_out_of_its_slot(vm, holder, request, port):
    nic = vm.nics[0]
    if not nic.model:
        pytest.skip("only modelled NICs can be pulled out")
    # It does not come back, so this machine ends here, and is judged here.
    request.node.stash[restarted] = True
    before = buffers(vm)
    try:
        if port == "pst:0":
            with serving(vm):
                reachable(vm)
                pings = vm.spawn(f"while :; do ping -c 1 -W 1 {nic.host}; done")
                with flood(vm, 10) as load:
                    pull(vm)
                    # The data that was on its way waits in the sockets. TCP gives up after a quarter of an hour; here it is sooner.
                    assert unacknowledged(vm)
                    vm.run("cd /proc/sys/net/ipv4; echo 3 >tcp_retries2; echo 2 >tcp_orphan_retries")
                    end = time.monotonic() + 60
                    while left := unacknowledged(vm):
                        assert time.monotonic() < end, left
                        time.sleep(0.5)
                    # The server has been told of each of them, and has closed it.
                    assert registered(vm, 0, timeout=2) < 10
                    # It is still there for other NICs.
                    assert vm.run(f"curl -s -f -m 10 127.0.0.1:{PORT}/ | wc -c").out.strip() == "64"
                    # The client misses its answers.
                    assert load.wait(60) != 0
                pings.kill()
        else:
            job = receiving(vm, port, "-n 1 --idle 60")
            sender = vm.spawn(f"exec nmpkt {port} send -n 1000000 -w 0 -r 1000")
            pull(vm)
            for each in (job, sender):
                assert each.wait(20) != 0
                assert "the port has failed" in each.output(), each.output()
        assert settled(vm, before) == before
        vm.check_log()
    finally:
        holder.drop()


@contextlib.contextmanager
def flood(vm, connections):
    """Echo that does not end before half a minute is over: data flows on all connections when the block begins."""
    nic = vm.nics[0]
    answers = Path(f"/sys/class/net/{nic.tap}/statistics/rx_packets")
    load = subprocess.Popen([NMLOAD, f"{nic.guest}:{PORT}", "-t", "30", "echo", "-n", "4000000000", "-c", str(connections)])
    try:
        assert registered(vm, connections) == connections
        before, end = int(answers.read_text()), time.monotonic() + 20
        while int(answers.read_text()) < before + 2000:
            assert time.monotonic() < end and load.poll() is None
            time.sleep(0.05)
        yield load
    finally:
        load.kill()
        load.wait()


def unacknowledged(vm):
    """Connections of the server whose peer has not acknowledged all data."""
    return [line for line in vm.run(f"ss -tnH 'sport = :{PORT}'").out.splitlines() if line.split()[2] != "0"]


def pull(vm):
    """The card is gone; the driver finds out by its next look at it, and then so does the system."""
    vm.nics[0].model.command("remove")
    vm.run("ethtool -S eth0 >/dev/null; sleep 2", check=False)
    vm.run("echo 1 >/sys/class/net/eth0/device/remove", timeout=120)
    assert "eth0" not in vm.run("ls /sys/class/net").out
