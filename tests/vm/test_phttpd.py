# SPDX-License-Identifier: GPL-2.0
"""phttpd in its modes, as curl, wrk and nmload see it."""

import contextlib
import hashlib
import os
import re
import socket

import pytest

import vm as vmlib
from phttpd import PORT, accepted, nmload, registered, sockets
from upheaval import Wrk, reachable, start

VM_OPTIONS = dict(programs=[vmlib.TOP / "build/cargo/release/examples/echo"])
MODES = {"epoll": "", "uring": "--uring", "stack": "-i eth0"}


@contextlib.contextmanager
def serving(vm, mode, options="-l 64 -c"):
    """A running server; on leaving it must end with status 0 on SIGTERM."""
    job = vm.spawn(f"exec phttpd -P {PORT} -p {vm.queues or 1} {options} {MODES[mode]}")
    try:
        vm.run(f"n=0; until grep -q 'port {PORT}' /run/job{job.number}.log; do usleep 50000; n=$((n+1)); [ $n -lt 100 ]; done")
        reachable(vm)
        yield job
        assert job.poll() is None, job.output()
    finally:
        job.kill()
    assert job.wait() == 0, job.output()


@pytest.fixture(params=["epoll", "stack"])
def mode(request):
    """Where the server's bytes come from."""
    return request.param


def url(vm, path="/", six=False):
    """Address of the server in the guest."""
    nic = vm.nics[0]
    return f"http://[{nic.guest6}]:{PORT}{path}" if six else f"http://{nic.guest}:{PORT}{path}"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("six", [False, True], ids=["ipv4", "ipv6"])
def test_get_and_post(vm, mode, six):
    with serving(vm, mode):
        for _ in range(3):
            out = vmlib.host(f"curl -s -m 10 -w '%{{http_code}} %{{size_download}}' -o /dev/null '{url(vm, '/', six)}'").out
            assert out == "200 64"
        out = vmlib.host(f"curl -s -m 10 -d {'x' * 1000} -w '%{{http_code}} %{{size_download}}' -o /dev/null '{url(vm, '/', six)}'").out
        assert out == "200 64"
        out = vmlib.host(f"curl -s -m 10 -w '%{{http_code}}' -o /dev/null '{url(vm, '/nothing', six)}'").out
        assert out == "404"


def test_echo_of_3_mib_is_byte_exact(vm, mode, tmp_path):
    data = os.urandom(3 << 20)
    (tmp_path / "sent").write_bytes(data)
    with serving(vm, mode):
        vmlib.host(f"curl -s -f -m 60 -H 'Expect:' --data-binary @{tmp_path}/sent -o {tmp_path}/got {url(vm, '/echo')}")
    got = (tmp_path / "got").read_bytes()
    assert hashlib.sha256(got).hexdigest() == hashlib.sha256(data).hexdigest()


def test_echo_is_byte_exact_with_the_offloads_of_the_driver_on(vm, mode, tmp_path):
    data = os.urandom(1 << 20)
    (tmp_path / "sent").write_bytes(data)
    vm.run("for f in tso gso gro rx rxvlan txvlan; do ethtool -K eth0 $f on; done", check=False)
    try:
        with serving(vm, mode):
            vmlib.host(f"curl -s -f -m 20 -H 'Expect:' --data-binary @{tmp_path}/sent -o {tmp_path}/got {url(vm, '/echo')}")
    finally:
        vm.run("nic-setup eth0")
    assert (tmp_path / "got").read_bytes() == data


@pytest.mark.parametrize("how", ["", "--echo"])
def test_peers_that_do_not_read_are_held_off_by_uring(vm, how):
    with serving(vm, "uring"):
        nmload(vm.nics[0], f"slow -c 3 -p 1 --most 20000000 {how}")


@pytest.mark.parametrize("mode", MODES)
def test_wrk_of_50_connections_has_no_errors(vm, mode):
    with serving(vm, mode):
        out = vmlib.host(f"wrk -t1 -c50 -d3s {url(vm)}").out
    assert "Socket errors" not in out and "Non-2xx" not in out, out
    assert int(re.search(r"(\d+) requests in", out)[1]) > 1000, out


def test_ping_goes_on_while_the_server_is_stopped(vm, mode):
    with serving(vm, mode) as job:
        job.kill(19)
        vmlib.host(f"ping -c 5 -i 0.2 -W 2 {vm.nics[0].guest}")
        vmlib.host(f"ping -c 5 -i 0.2 -W 2 {vm.nics[0].guest6}")
        job.kill(18)
        assert vmlib.host(f"curl -s -m 10 {url(vm)} | wc -c").out.strip() == "64"


def test_killed_under_load_and_started_again(vm, mode):
    count = {"epoll": accepted, "stack": registered}[mode]
    for _ in range(3):
        job = start(vm, MODES[mode])
        reachable(vm)
        with Wrk(vm, connections=20, count=count) as load:
            if mode == "stack" and vm.queues > 1:
                # RSS and steering have given more than one thread something to lose.
                assert sum(ring > 0 for ring in sockets(vm)) > 1, sockets(vm)
            job.kill(9)
            assert job.wait() == 137
            assert registered(vm, 0) == 0
            load.cut_off()
        assert load.requests > 100 and load.failures >= load.connections, vars(load)
    with serving(vm, mode):
        assert vmlib.host(f"curl -s -m 10 {url(vm)} | wc -c").out.strip() == "64"


def test_echo_server_of_the_library(vm):
    """apps/netmap/examples/echo.rs, as its readers would try it."""
    job = vm.spawn("exec /opt/bin/echo eth0 7")
    try:
        vmlib.host(f"n=0; until nc -z -w 1 {vm.nics[0].guest} 7; do n=$((n+1)); [ $n -lt 30 ]; done")
        for address in (vm.nics[0].guest, vm.nics[0].guest6):
            with socket.create_connection((address, 7), timeout=20) as peer:
                for size in [1, 100, 5_000, *[60_000] * 20]:
                    data = os.urandom(size)
                    peer.sendall(data)
                    got = b""
                    while len(got) < size:
                        more = peer.recv(size)
                        assert more, (len(got), job.output())
                        got += more
                    assert got == data
        assert job.poll() is None, job.output()
    finally:
        job.kill(9)
        job.wait()
