# SPDX-License-Identifier: GPL-2.0
"""Servers that die, modules and NICs that go and come back, links that flap, all of it under load; and the
rest of the host meanwhile."""

import contextlib
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import vm as vmlib
from phttpd import registered
from upheaval import PORT, Load, Memory, Wrk, answer, reachable, serving, start, stop

VM_OPTIONS = dict(nics=2, smp=2)

# Each is made while data flows, which must go on afterwards.
CHANGES = [
    "ip link set eth0 mtu 1280", "ip link set eth0 mtu 4000", "ip link set eth0 mtu 1500",
    "ethtool -G eth0 rx 128 tx 80", "ethtool -G eth0 rx 2048 tx 2048", "ethtool -G eth0 rx 256 tx 256",
    "ethtool -K eth0 tx off", "ethtool -K eth0 sg off", "ethtool -K eth0 sg on tx on", "ethtool -K eth0 rx on",
    "ethtool -K eth0 tso on gso on gro on", "ethtool -K eth0 rx off",
]


def test_killed_under_load_20_times(vm):
    memory = Memory(vm)
    for number in range(20):
        job = start(vm)
        reachable(vm)
        with Wrk(vm) as load:
            vm.run(f"usleep {number % 10}00000")
            job.kill(9)
            assert job.wait() == 137
            # All at once: nobody waits for them.
            assert registered(vm, 0) == 0
            load.cut_off()
        assert load.requests > 100 and load.failures >= load.connections, vars(load)
        memory.note()
    memory.check()
    with serving(vm):
        reachable(vm)
        assert answer(vm) == 64


def test_module_is_refused_to_unload_while_in_use_and_unloads_after_it_20_rounds(vm):
    memory = Memory(vm)
    for number in range(20):
        job = start(vm)
        assert vm.run(f"curl -s -f -m 10 127.0.0.1:{PORT}/ | wc -c").out.strip() == "64"
        refused = vm.run("strace -e trace=delete_module rmmod netmap", check=False)
        # What the kernel says of a module with references to one who does not wait for them.
        assert refused.rc and "EAGAIN" in refused.out, refused.out
        if number % 2:
            job.kill(9)
            assert job.wait() == 137
        else:
            stop(job)
        left = vm.run("rmmod netmap && cat /proc/modules && ls /sys/kernel/debug && modprobe netmap").out
        assert "netmap" not in left, left
        memory.note()
    memory.check()
    reachable(vm)


def test_detached_and_attached_again_under_load(vm):
    with serving(vm), Load(vm.nics[0].guest) as load:
        reachable(vm)
        load.another_round()
        vm.run("nmattach -p 1500 pst:0 eth0 detach attach detach attach detach attach")
        load.another_round()
        # The host has the NIC in between: the sockets, though registered, go on over it.
        vm.run("nmattach pst:0 eth0 detach")
        load.another_round()
        vm.run("nmattach pst:0 eth0 attach")
        load.another_round()


def test_link_flaps_under_load(vm):
    with serving(vm), Load(vm.nics[0].guest) as load:
        reachable(vm)
        for pause in (0.3, 1, 2):
            vm.link(False)
            time.sleep(pause)
            vm.link(True)
            load.another_round()


def test_interface_goes_down_and_up_under_load(vm):
    nic = vm.nics[0]
    with serving(vm), Load(nic.guest) as load:
        load.flowing()
        for pause in (0, 1, 2):
            vm.run(f"ip link set eth0 down; sleep {pause}; ip link set eth0 up")
            load.another_round()
    vm.nic_up()


def test_settings_change_under_load(vm):
    with serving(vm), Load(vm.nics[0].guest) as load:
        reachable(vm)
        try:
            for change in CHANGES:
                vm.run(change)
                load.another_round()
        finally:
            vm.run("nic-setup eth0")


@pytest.mark.parametrize("mtu", [4000, 9000])
def test_jumbo_frames_reach_their_sockets(vm, mtu):
    nic = vm.nics[0]
    vmlib.host(f"ip link set {nic.tap} mtu {mtu}")
    try:
        with serving(vm):
            reachable(vm)
            vm.run(f"ip link set eth0 mtu {mtu}")
            reachable(vm)
            with Load(nic.guest) as load, ThreadPoolExecutor() as pool:
                # Frames above the buffers' 2048 bytes really come and go.
                long = [pool.submit(vmlib.host, f"timeout 60 tcpdump -Z root -i {nic.tap} -c 50 tcp and greater 2100 and {way} host {nic.guest}")
                        for way in ("src", "dst")]
                load.another_round()
                for seen in long:
                    seen.result()
            # Those for others, too.
            vmlib.host(f"ping -c 3 -i 0.2 -W 2 -M do -s {mtu - 28} {nic.guest}")
            # Frames of several buffers are gone with the MTU.
            vmlib.host(f"ip link set {nic.tap} mtu 1500")
            vm.run("ip link set eth0 mtu 1500")
            with Load(nic.guest) as load:
                load.another_round()
    finally:
        vmlib.host(f"ip link set {nic.tap} mtu 1500")
        vm.run("ip link set eth0 mtu 1500")


def test_driver_unloads_during_use_and_comes_back(vm):
    with serving(vm):
        reachable(vm)
        for _ in range(3):
            with Wrk(vm) as load:
                vm.run(f"usleep 500000; rmmod {vm.driver}")
                assert registered(vm, load.connections) == load.connections
            assert load.requests > 100, vars(load)
            # The server is still there for the rest of the host, and takes the NIC when it is back.
            assert vm.run(f"curl -s -f -m 10 127.0.0.1:{PORT}/ | wc -c").out.strip() == "64"
            vm.run(f"modprobe {vm.driver}")
            vm.nics_ready()
            reachable(vm)
            assert answer(vm) == 64
            vm.run("nmattach pst:0 eth0 attach")
            reachable(vm)
            assert answer(vm) == 64


def test_hostile_program_harms_neither_another_port_nor_the_host(vm):
    good, bad = vm.nics
    packets = "/sys/class/net/eth1/statistics/rx_packets"
    with serving(vm), Load(good.guest) as load:
        for seed in range(3):
            # A ring for each queue, and once one more.
            rings = (vm.queues or 1) + seed % 2
            hostile = vm.spawn(f"exec nmhostile -i eth1 -l 7000 -d 10 -s {seed} -r {rings} pst:1")
            reachable(vm)
            before = load.rounds
            reachable(vm, 1)
            first = int(vm.run(f"cat {packets}").out)
            arrived = 0
            # Through the rings that are being overwritten; some drivers bring the link back, and count, seconds later.
            while arrived <= 20 and hostile.poll() is None:
                vmlib.host(f"for n in 1 2 3 4; do timeout 1 wrk -t1 -c20 -d1s http://{bad.guest}:7000/ >/dev/null; done", check=False)
                arrived = int(vm.run(f"cat {packets}").out) - first
            assert arrived > 20, (arrived, seed, hostile.output())
            vm.run("ping -c 2 -i 0.2 127.0.0.1")
            assert hostile.wait(90) == 0, hostile.output()
            took = re.search(r"registered=([\d,]+)", hostile.output())[1].split(",")
            assert len(took) == rings and "0" not in took, hostile.output()
            load.another_round()
            assert load.rounds > before
    # The NIC of the hostile program is the host's again, and as good as before.
    vm.run("nic-setup eth1")
    reachable(vm, 1)
    with serving(vm, "-i eth1"), Load(bad.guest) as load:
        load.another_round()


def test_resets_leave_before_the_port_is_closed(vm):
    nic = vm.nics[0]
    vm.run("modprobe sch_netem")
    with contextlib.ExitStack() as clients:
        job = start(vm)
        reachable(vm)
        job.kill(19)
        waiting = [clients.enter_context(socket.create_connection((nic.guest, PORT))) for _ in range(10)]
        for client in waiting:
            client.sendall(b"GET / HTTP/1.1\r\n")
            client.settimeout(20)
        # None is accepted, all data is acknowledged.
        vm.run(f"n=0; until [ $(ss -tnH state established 'sport = :{PORT}' | awk '$1 == 16' | wc -l) = 10 ]; do usleep 50000; "
               "n=$((n+1)); [ $n -lt 100 ]; done; tc qdisc replace dev eth0 root netem delay 20ms")
        try:
            job.kill(9)
            assert job.wait() == 137
        finally:
            vm.run("tc qdisc del dev eth0 root")
        for client in waiting:
            with pytest.raises(ConnectionResetError):
                client.recv(1)


@pytest.mark.parametrize("stopped", [False, True], ids=["while it serves", "while it is stopped"])
def test_rest_of_the_host_works(vm, stopped, tmp_path):
    nic = vm.nics[0]
    vm.run("mkdir -p /tmp/www; head -c 2000000 /dev/urandom >/tmp/www/data; httpd -p 8080 -h /tmp/www")
    try:
        with serving(vm) as job:
            reachable(vm)
            load = Load(nic.guest)
            with contextlib.nullcontext() if stopped else load:
                if stopped:
                    job.kill(19)
                    # Requests that wait in the sockets of the stopped server must not disturb anybody.
                    vmlib.host(f"timeout 5 wrk -t1 -c20 -d3s http://{nic.guest}:{PORT}/ >/dev/null 2>&1 & sleep 1", check=False)
                vmlib.host(f"ping -c 10 -i 0.1 -W 2 {nic.guest}")
                vmlib.host(f"ping -c 5 -i 0.1 -W 2 {nic.guest6}")
                vm.run(f"ping -c 5 -i 0.1 -W 2 {nic.host}")
                vmlib.host(f"ip neigh flush dev {nic.tap}; ping -c 2 -W 3 {nic.guest}")
                # A server and a client of the host's own, as an ssh session would be.
                vmlib.host(f"curl -s -f -m 40 http://{nic.guest}:8080/data -o {tmp_path}/data")
                assert (tmp_path / "data").read_bytes() == vm.get("/tmp/www/data")
                taker = vm.spawn("nc -l -p 8081 >/tmp/taken")
                vm.run("n=0; until ss -tln | grep -q :8081; do usleep 50000; n=$((n+1)); [ $n -lt 100 ]; done")
                vmlib.host(f"timeout 40 nc -N {nic.guest} 8081 <{tmp_path}/data")
                assert taker.wait(40) == 0
                vm.run("cmp /tmp/taken /tmp/www/data")
                if stopped:
                    job.kill(18)
                    assert answer(vm) == 64
    finally:
        vm.run("for p in $(pidof httpd); do kill $p; done; rm -rf /tmp/www /tmp/taken", check=False)


def test_tcpdump_sees_the_packets_and_no_byte_changes(vm):
    nic = vm.nics[0]
    with serving(vm), Load(nic.guest) as load:
        reachable(vm)
        for _ in range(3):
            dump = vm.spawn(f"exec tcpdump -Z root -i eth0 -n -s 200 -c 3000 tcp port {PORT} 2>&1 >/tmp/packets")
            vm.run(f"n=0; until grep -q listening /run/job{dump.number}.log; do usleep 50000; n=$((n+1)); [ $n -lt 400 ]; done")
            load.another_round()
            dump.kill(2)
            dump.wait()
            to = int(vm.run(f"grep -c '> {nic.guest}.{PORT}:' /tmp/packets", check=False).out)
            sent = int(vm.run(f"grep -c 'IP {nic.guest}.{PORT} >' /tmp/packets", check=False).out)
            assert to > 100 and sent > 100, dump.output()
    vm.run("rm -f /tmp/packets")


def test_loopback_traffic_to_registered_sockets(vm):
    with serving(vm):
        for address in ("127.0.0.1", "[::1]", vm.nics[0].guest):
            out = vm.run(f"for n in 1 2 3 4 5; do curl -s -f -m 10 http://{address}:{PORT}/; done | wc -c").out
            assert out.strip() == str(5 * 64)
        vm.run(f"nmload 127.0.0.1:{PORT} -t 60 echo -c 10 -n 5000000 -m 300000", timeout=90)
        vm.run(f"nmload 127.0.0.1:{PORT} -t 60 churn -c 4 -d 2", timeout=90)


def test_two_ports_serve_two_nics_side_by_side(vm):
    first, second = vm.nics
    with serving(vm), serving(vm, "-i eth1 --stack-port pst:1", port=PORT + 1):
        reachable(vm, 0)
        reachable(vm, 1)
        with Load(first.guest) as one, Load(second.guest, PORT + 1) as two:
            one.another_round()
            two.another_round()
            # A socket's packets may come over another port's NIC, if the host lets them.
            assert answer(vm, PORT, 1) == 64
            assert answer(vm, PORT + 1, 0) == 64


def test_one_port_serves_two_nics(vm):
    first, second = vm.nics
    with serving(vm, "-i eth0 -i eth1"):
        reachable(vm, 0)
        reachable(vm, 1)
        with Load(first.guest) as one, Load(second.guest) as two:
            one.another_round()
            two.another_round()
            vm.run("nmattach -p 500 pst:0 eth1 detach attach")
            one.another_round()
            two.another_round()


def test_namespaces_have_ports_of_their_own(vm):
    first, second = vm.nics
    vm.run("ip netns add other && ip link set eth1 netns other && ip -n other link set lo up && "
           f"ip -n other addr add {second.guest}/24 dev eth1 && ip -n other link set eth1 up")
    inside = "ip netns exec other"
    try:
        # One name, one TCP port, two namespaces: two ports.
        with serving(vm), serving(vm, "-i eth1", inside=inside):
            listing = vm.run("cat /sys/kernel/debug/netmap/ports").out
            assert listing.count("port pst:0 ") == 2, listing
            reachable(vm, 0)
            reachable(vm, 1)
            with Load(first.guest) as one, Load(second.guest) as two:
                one.another_round()
                two.another_round()
        refused = vm.run(f"phttpd -P {PORT} -i eth1", check=False, timeout=10)
        assert refused.rc == 1, refused
        # A NIC that moves to another namespace leaves its port.
        with serving(vm, "-i eth1", inside=inside):
            vm.run("ip -n other link set eth1 netns 1")
            assert "nic " not in vm.run("cat /sys/kernel/debug/netmap/ports").out
            assert vm.run(f"{inside} curl -s -f -m 10 127.0.0.1:{PORT}/ | wc -c").out.strip() == "64"
        vm.nic_up(1)
        reachable(vm, 1)
        # A namespace without a name lives as long as its processes and ports.
        vm.run(f"ip link set eth1 netns other && ip -n other addr add {second.guest}/24 dev eth1 && ip -n other link set eth1 up")
        job = start(vm, "-i eth1", inside=inside)
        reachable(vm, 1)
        vm.run("ip netns del other")
        with Load(second.guest) as load:
            load.another_round()
            load.another_round()
        job.kill(9)
        job.wait()
        # With the last one it goes, and its NIC is the first namespace's again.
        vm.run("n=0; until [ -e /sys/class/net/eth1 ]; do usleep 100000; n=$((n+1)); [ $n -lt 100 ]; done")
    finally:
        vm.run("ip -n other link set eth1 netns 1; ip netns del other", check=False)
        vm.nic_up(1)
        vm.run("nic-setup eth1")
    reachable(vm, 1)
