# SPDX-License-Identifier: GPL-2.0
"""Streams over a bad network: loss, reordering, duplicates and corruption, in both directions.

The client is a machine of its own, because netem is a module that the machine which runs the tests may lack.
The two are connected by routes over their taps.
"""

import re

import pytest

import vm as vmlib
from phttpd import serving, server
from test_streams import FEATURES, features

VM_OPTIONS = dict(smp=1)

NETEM = {
    "loss": "delay 2ms loss 2%",
    "reorder": "delay 4ms reorder 20% 50%",
    "duplicate": "delay 1ms duplicate 5%",
    "corrupt": "delay 1ms corrupt 2%",
    "all": "delay 3ms 2ms reorder 5% loss 1% duplicate 1% corrupt 1%",
}

# What it takes to let incoming packets pass netem, too.
REDIRECT = ("ifb", "sch_ingress", "cls_matchall", "act_mirred")


@pytest.fixture(scope="module")
def client():
    """A machine with plain drivers whose packets, coming and going, pass netem."""
    with vmlib.VM(name="client", nic="virtio-net-pci", modules=REDIRECT) as machine:
        for module in ("virtio_net", "sch_netem", *REDIRECT):
            machine.run(f"modprobe {module}")
        machine.nic_up()
        nic = machine.nics[0]
        vmlib.host("echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
        machine.run(f"ip route add default via {nic.host}; ip -6 route add default via {nic.host6}; "
                    f"ethtool -K {nic.name} tso off gso off gro off; ip link set ifb0 up && "
                    f"tc qdisc add dev {nic.name} ingress && "
                    f"tc filter add dev {nic.name} ingress matchall action mirred egress redirect dev ifb0")
        yield machine


@pytest.fixture
def far(vm, client):
    """A function that runs nmload on the client, over a network that does as netem is told."""
    nic = vm.nics[0]
    vm.run(f"ip route replace default via {nic.host}; ip -6 route replace default via {nic.host6}")

    def load(netem, what, timeout=60, six=False):
        devices = (client.nics[0].name, "ifb0")
        for device in devices:
            client.run(f"tc qdisc replace dev {device} root netem limit 2000 {netem}")
        try:
            out = client.run(f"nmload {server(nic, six)} {what} -t {timeout}", timeout=timeout + 20).out
            for device in devices:
                passed = re.search(r"netem.*\n.* (\d+) pkt", client.run(f"tc -s qdisc show dev {device}").out)
                assert int(passed[1]) > 500, f"{device}: netem saw {passed[1]} packets"
        finally:
            for device in devices:
                client.run(f"tc qdisc del dev {device} root")
        return out

    return load


@pytest.mark.parametrize("netem", NETEM.values(), ids=NETEM)
def test_echo_over_a_bad_network(vm, far, netem):
    with serving(vm):
        far(netem, "echo -n 4000000 -c 20 -m 100000")


@pytest.mark.parametrize("wanted", FEATURES.values(), ids=FEATURES)
def test_echo_over_a_bad_network_with_other_offloads(vm, far, wanted):
    with features(vm, wanted), serving(vm):
        far(NETEM["all"], "echo -n 2000000 -c 20 -m 100000")


def test_ipv6_over_a_bad_network(vm, far):
    with serving(vm):
        far(NETEM["all"], "echo -n 2000000 -c 20 -m 100000", six=True)


def test_connections_come_and_go_over_a_bad_network(vm, far):
    with serving(vm):
        far(NETEM["all"], "churn -d 4 -c 20")
