# SPDX-License-Identifier: GPL-2.0
"""A patched driver outside of netmap mode is the kernel's own: the same interface, the same traffic."""

import os

import pytest

import nicmodel
import vm as vmlib
from phttpd import nmload
from upheaval import start, stop

NICS = [os.environ["NIC"]] if os.environ.get("NIC") else ["e1000", "ixgbe", "i40e"]


def behaviour(nic, stock):
    """What the interface says of itself, after it has carried some traffic."""
    driver = nicmodel.driver_of(nic)
    with vmlib.VM(name=f"stock-{nic}", nic=nic, smp=2, stock=[driver] if stock else []) as machine:
        machine.run(f"modprobe {driver}")
        machine.nic_up()
        card = machine.nics[0]
        patched = "netmap" in machine.run(f"cat /sys/module/{driver}/version", check=False).out
        assert patched != stock
        job = start(machine, "-p 2")
        nmload(card, "echo -c 20 -n 10000000")
        nmload(card, "churn -d 1 -c 10")
        said = machine.run(f"ethtool -k {card.name}; ethtool -l {card.name}; ethtool -g {card.name}; ethtool -c {card.name}; "
                           f"ip -d link show {card.name} | grep -o 'mtu .*'; ls /sys/class/net/{card.name}/queues", check=False).out
        vmlib.host(f"ip link set {card.tap} mtu 9000")
        machine.run(f"ip link set {card.name} mtu 9000")
        machine.nic_up()
        vmlib.host(f"n=0; until ping -c 1 -W 1 -M do -s 8000 {card.guest} >/dev/null; do n=$((n+1)); [ $n -lt 20 ]; done; "
                   f"ping -c 5 -i 0.1 -M do -s 8000 {card.guest}")
        nmload(card, "echo -c 20 -n 10000000")
        stop(job)
        machine.run(f"ip link set {card.name} down; rmmod {driver}")
        machine.check_log()
        return said


@pytest.mark.parametrize("nic", NICS)
def test_patched_driver_is_like_the_stock_one(nic):
    assert behaviour(nic, stock=False) == behaviour(nic, stock=True)
