# SPDX-License-Identifier: GPL-2.0
"""Streams through a stack port: every byte in order, whatever peers do, and all buffers back in the end."""

import contextlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import vm as vmlib
from phttpd import PORT, nmload, registered, serving

VM_OPTIONS = dict(smp=2, nics=2)

# Features of the driver, as `ethtool -K` takes them: what nic-setup chooses is one of several right choices.
FEATURES = {
    "no-gro": "gro off",
    "tso": "tso on gso on",
    "no-offload": "tx off sg off rx off",
    "all": "tso on gso on gro on rx on rxvlan on txvlan on",
}


@contextlib.contextmanager
def features(vm, wanted):
    """A NIC with other offloads than nic-setup's."""
    nic = vm.nics[0].name
    vm.run(f"ethtool -K {nic} {wanted}")
    try:
        yield
    finally:
        vm.run(f"ethtool -K {nic} tx on && nic-setup {nic}")


def number(output, name):
    """A figure that nmload printed."""
    return int(re.search(rf"{name}=(\d+)", output)[1])


def test_200_mb_come_back_byte_by_byte(vm):
    with serving(vm):
        out = nmload(vm.nics[0], "echo -n 200000000 -c 50", timeout=120)
    assert number(out, "bytes") == 200_000_000, out


@pytest.mark.parametrize("wanted", FEATURES.values(), ids=FEATURES)
def test_echo_with_other_offloads(vm, wanted):
    with features(vm, wanted), serving(vm):
        nmload(vm.nics[0], "echo -n 20000000 -c 20")


def test_offloads_change_under_load(vm):
    nic = vm.nics[0].name
    with serving(vm), ThreadPoolExecutor() as pool:
        load = pool.submit(nmload, vm.nics[0], "echo -n 30000000 -c 20")
        # Some of these make the driver restart the link, so only a few.
        for wanted in FEATURES.values():
            with features(vm, wanted):
                vm.run("usleep 300000")
        load.result()


def test_ipv6(vm):
    with serving(vm):
        nmload(vm.nics[0], "echo -n 30000000", six=True)
        nmload(vm.nics[0], "churn -d 3", six=True)


@pytest.mark.parametrize("how", ["", "--echo", "--never --echo"])
def test_peers_that_do_not_read_are_held_off(vm, how):
    with serving(vm):
        out = nmload(vm.nics[0], f"slow -c 3 -p 1 --most 20000000 {how}")
    # Others are served meanwhile: not a single one waits long.
    assert number(out, "probes") > 10 and number(out, "worst_ms") < 1000, out


def test_slow_peers_beside_a_fast_stream(vm):
    with serving(vm), ThreadPoolExecutor() as pool:
        slow = pool.submit(nmload, vm.nics[0], "slow -c 4 -p 6 --echo --most 20000000")
        nmload(vm.nics[0], "echo -n 20000000 -c 10", timeout=30)
        slow.result()


def test_slow_peers_leave_buffers_to_others(vm):
    """A lent buffer may keep another one from use, with which it shares a page, so free ones may get fewer than those that are not lent."""
    with serving(vm), ThreadPoolExecutor() as pool:
        slow = pool.submit(nmload, vm.nics[0], "slow -c 2 -p 3 --echo --most 20000000")
        seen = []
        while not slow.done():
            listing = vm.run("cat /sys/kernel/debug/netmap/ports").out
            seen.append(tuple(int(re.search(rf"\b{state} (\d+)", listing)[1]) for state in ("free", "lent")))
        slow.result()
    assert max(lent for _, lent in seen) > 400 and min(free for free, _ in seen) > 450, seen


@pytest.mark.parametrize("way", ["half", "reset", "cut", "asked", "empty"])
def test_every_way_to_leave(vm, way):
    with serving(vm):
        out = nmload(vm.nics[0], f"churn -d 1 -c 8 -w {way}")
        assert number(out, "connections") > 20, out
        assert registered(vm) == 0


def counters(vm, *names):
    """What the guest's TCP has counted until now."""
    said = vm.run(f"nstat -az {' '.join(names)}").out
    return [int(re.search(rf"{name}\s+(\d+)", said)[1]) for name in names]


def lost(nic, vm):
    """Frames that neither side took until now."""
    dropped = Path(f"/sys/class/net/{nic.tap}/statistics/tx_dropped").read_text(encoding="ascii")
    missed = vm.run(f"cat /sys/class/net/{nic.name}/statistics/rx_missed_errors /sys/class/net/{nic.name}/statistics/rx_dropped").out
    return sum(int(count) for count in [dropped, *missed.split()])


def test_storm_of_connections(vm):
    nic, names = vm.nics[0], ("TcpExtTCPChallengeACK", "TcpExtTCPOFOQueue")
    with serving(vm):
        before, gone = counters(vm, *names), lost(nic, vm)
        out = nmload(nic, "churn -d 5 -c 50")
        challenged, unordered = (after - now for after, now in zip(counters(vm, *names), before))
        gone = lost(nic, vm) - gone
    connections = number(out, "connections")
    assert connections > 1000, out
    # TCP sees resets behind what came before them. It does ask whether one is meant where frames are lost, and a few are.
    assert challenged < connections // 50 + 10, (challenged, connections)
    assert unordered == 0 or gone, (unordered, connections)


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_with_a_ring_each(vm, threads):
    with serving(vm, options=f"-l 64 -c -p {threads}"):
        nmload(vm.nics[0], "echo -n 20000000 -c 50")
        nmload(vm.nics[0], "churn -d 2 -c 20")
        nmload(vm.nics[0], "slow -c 2 -p 1 --most 20000000")


@pytest.mark.parametrize("threads", [1, 2])
def test_two_nics_on_one_port(vm, threads):
    with serving(vm, nics=("eth0", "eth1"), options=f"-l 64 -c -p {threads}"), ThreadPoolExecutor() as pool:
        loads = [pool.submit(nmload, nic, "echo -n 20000000 -c 20") for nic in vm.nics]
        for load in loads:
            load.result()


@contextlib.contextmanager
def serving_host():
    """phttpd over plain sockets on the client's side."""
    port = PORT + 1
    pid = vmlib.host(f"/src/build/cargo/release/phttpd -P {port} >/tmp/phttpd.log 2>&1 & echo $!").out.strip()
    try:
        vmlib.host(f"for n in $(seq 50); do curl -s -o /dev/null http://127.0.0.1:{port}/ && exit; sleep 0.1; done; "
                   "cat /tmp/phttpd.log; exit 1")
        yield port
    finally:
        vmlib.host(f"kill {pid}", check=False)


@pytest.mark.parametrize("six", [False, True], ids=["ipv4", "ipv6"])
def test_connected_clients(vm, six):
    nic = vm.nics[0]
    with serving_host() as port:
        server = f"[{nic.host6}]:{port}" if six else f"{nic.host}:{port}"
        out = vm.run(f"nmconnect {server} -i {nic.name} -c 20 -n 10000000 -t 50").out
    assert number(out, "bytes") == 10_000_000, out


@pytest.mark.parametrize("gro", ["on", "off"])
def test_tcp_sees_segments_that_follow_each_other_as_one(vm, gro, tmp_path):
    def come():
        """Frames, and TCP's segments."""
        return int(vm.run("cat /sys/class/net/eth0/statistics/rx_packets").out), *counters(vm, "TcpInSegs")

    (tmp_path / "body").write_bytes(os.urandom(4_000_000))
    with features(vm, f"gro {gro}"), serving(vm):
        before = come()
        upload = f"curl -sS -m 60 --data-binary @{tmp_path}/body -H Expect: http://{vm.nics[0].guest}:{PORT}/echo"
        vmlib.host(f"{upload} | cmp - {tmp_path}/body")
        frames, segments = (now - then for now, then in zip(come(), before))
    # Of the frames those that only acknowledge stay as they are.
    assert (frames > 1.2 * segments) if gro == "on" else (frames < 1.1 * segments), (frames, segments)
