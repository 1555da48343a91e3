# SPDX-License-Identifier: GPL-2.0
"""/dev/netmap: requests, parameters, memory, and processes that misuse what they have mapped."""

import re
import time

import pytest

from upheaval import Memory

PARAMETERS = "/sys/module/netmap/parameters"
DEFAULTS = {
    "admode": 0, "buf_num": 163840, "buf_size": 2048, "if_num": 100, "if_size": 1024, "ring_num": 200,
    "ring_size": 36864, "priv_buf_num": 4098, "priv_buf_size": 2048, "priv_if_num": 2, "priv_if_size": 1024,
    "priv_ring_num": 4, "priv_ring_size": 20480, "no_timestamp": 0, "verbose": 0,
}
READ_ONLY = [f"{pool}_curr_{what}" for pool in ("if", "ring", "buf") for what in ("num", "size")]


def pools(vm):
    """Number and size of the buffers of each pool."""
    listing = vm.run("cat /sys/kernel/debug/netmap/pools").out
    return [(int(num), int(size)) for num, size in re.findall(r"buffers (\d+) of (\d+) bytes", listing)]


def hold(vm, port, seconds=60):
    """A process that has the port open."""
    process = vm.spawn(f"exec nmhostile -d {seconds} {port}")
    end = time.monotonic() + 10
    while not pools(vm):
        assert time.monotonic() < end, process.output()
        time.sleep(0.1)
    return process


@pytest.mark.parametrize("nic", ["", "eth0"], ids=["without a NIC", "with a NIC"])
def test_every_request_gets_its_answer(vm, nic):
    result = vm.run(f"api-errno {nic}", check=False, timeout=120)
    assert result.rc == 0, result.out


def test_requests_of_old_programs_get_their_answers(vm):
    result = vm.run("api-legacy check eth0", check=False)
    assert result.rc == 0, result.out


def test_refused_requests_are_logged_but_do_not_fill_the_log(vm):
    refused = "nmextmem netmap:nosuch0 -m kernel info"
    pause = int(vm.run("sysctl -n net.core.message_cost").out)
    # What other tests have said is not counted any more.
    time.sleep(pause)
    before = len(vm.dmesg())
    assert "No such device or address" in vm.run(refused, check=False).out
    assert vm.dmesg()[before:].count("netmap: REGISTER of 'nosuch0': ENXIO") == 1
    start = time.monotonic()
    vm.run(f"for n in $(seq 100); do {refused} >/dev/null 2>&1; done", check=False)
    windows = (time.monotonic() - start) // pause + 2
    assert 1 < vm.dmesg()[before:].count("'nosuch0'") <= 10 * windows


def test_parameters_have_the_known_values_and_modes(vm):
    for name, value in DEFAULTS.items():
        assert vm.run(f"cat {PARAMETERS}/{name}; stat -c %a {PARAMETERS}/{name}").out.split() == [str(value), "644"]
    for name in READ_ONLY:
        assert vm.run(f"cat {PARAMETERS}/{name}; stat -c %a {PARAMETERS}/{name}").out.split() == ["0", "444"]


def test_private_pool_parameters_hold_for_the_next_port(vm):
    vm.run(f"echo 6000 >{PARAMETERS}/priv_buf_num")
    try:
        process = hold(vm, "pst:7")
        assert pools(vm)[0] == (6000, 2048)
        process.kill(9)
        process.wait()
    finally:
        vm.run(f"echo 4098 >{PARAMETERS}/priv_buf_num")
    assert pools(vm) == []


def test_module_stays_while_a_port_is_open(vm):
    process = hold(vm, "pst:7")
    refused = vm.run("strace -e trace=delete_module rmmod netmap", check=False)
    # EWOULDBLOCK: what the kernel answers as long as anybody refers to a module.
    assert refused.rc and "EAGAIN" in refused.out, refused.out
    process.kill(9)
    process.wait()
    vm.run("rmmod netmap && modprobe netmap")


def test_a_process_that_overwrites_its_port_harms_nobody(vm):
    for seed in range(5):
        vm.run(f"nmhostile -d 2 -s {seed} pst:7", check=False, timeout=30)
    assert pools(vm) == []


def test_a_killed_process_leaves_nothing(vm):
    memory = Memory(vm)
    for _ in range(12):
        process = hold(vm, "pst:7")
        process.kill(9)
        process.wait()
        assert pools(vm) == []
        memory.note()
    memory.check()
