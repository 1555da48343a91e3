# SPDX-License-Identifier: GPL-2.0
"""NICs with several queues: a ring and a thread for each, connections on the thread of their queue, and what changes
queues and rings under load."""

import contextlib
import os
import random
import re
import socket

import pytest

import storing
import vm as vmlib
from nicmodel import resets
from phttpd import PORT, nmload, registered, sockets
from test_nic import carrier, receiving, usable
from upheaval import Load, answer, reachable, serving

VM_OPTIONS = dict(nic=os.environ.get("NIC") or "ixgbe", queues=int(os.environ.get("QUEUES") or 2))


def packets(vm, way):
    """Frames of each queue of eth0 until now."""
    found = re.findall(rf"{way}_queue_(\d+)_packets: (\d+)|{way}-(\d+)\.packets: (\d+)", vm.run("ethtool -S eth0").out)
    counts = {int(a or c): int(b or d) for a, b, c, d in found}
    return [counts[number] for number in range(vm.queues)]


def ask(peer):
    """One request and its answer."""
    peer.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    seen = b""
    while b"\r\n\r\n" not in seen or len(seen.partition(b"\r\n\r\n")[2]) < 64:
        more = peer.recv(4096)
        assert more, seen
        seen += more


def used(before, after):
    """The queue of which most was heard."""
    return max(range(len(before)), key=lambda number: after[number] - before[number])


def test_connections_are_with_the_thread_of_their_queue(vm):
    with serving(vm):
        reachable(vm)
        queues = set()
        # RSS has a key of its own at each boot: ports that the kernel would choose, near each other, may all be one queue's.
        for tcp_port in random.sample(range(20_000, 32_000), 12):
            with socket.create_connection((vm.nics[0].guest, PORT), timeout=20, source_address=("", tcp_port)) as peer:
                ask(peer)
                came, went, at = packets(vm, "rx"), packets(vm, "tx"), sockets(vm)
                for _ in range(30):
                    ask(peer)
                came, went = used(came, packets(vm, "rx")), used(went, packets(vm, "tx"))
                assert at == [int(ring == came) for ring in range(vm.queues)], (at, came)
                # Its answers leave there, too: no ring sends on another one's queue.
                assert went == came
                queues.add(came)
            assert registered(vm) == 0
        assert len(queues) > 1 or vm.queues == 1, queues


def test_interrupts_are_on_the_cpus_that_nic_setup_is_told(vm):
    assert vm.run("nic-setup -a x eth0", check=False).rc == 2
    # From 1 on there is no CPU for the last one, which is told, and the others are moved all the same.
    for first in (0, 1):
        assert vm.run(f"nic-setup -a {first} eth0", check=False).rc == first
        for queue in range(vm.queues - first):
            where = vm.run(f"cd /proc/irq; cat $(ls -d */*eth0-TxRx-{queue} | cut -d/ -f1)/smp_affinity_list").out
            assert where.strip() == str(first + queue), (first, queue)
    vm.run("nic-setup -a 0 eth0")


def test_connections_whose_packets_come_in_on_another_queue_go_on(vm):
    with serving(vm), Load(vm.nics[0].guest) as load:
        reachable(vm)
        load.another_round()
        for queue in range(vm.queues):
            weights = " ".join(str(int(queue == number)) for number in range(vm.queues))
            vm.run(f"ethtool -X eth0 weight {weights}")
            load.another_round()
        vm.run("ethtool -X eth0 default")


def test_number_of_queues_changes_under_load(vm):
    with serving(vm), Load(vm.nics[0].guest) as load:
        reachable(vm)
        # Rings that could take more buffers than there are: no queue may be left without.
        vm.run("ethtool -G eth0 rx 4096")
        for number in (1, vm.queues, 1, vm.queues):
            vm.run(f"ethtool -L eth0 combined {number}")
            load.another_round()
        vm.run("ethtool -G eth0 rx 512")
        load.another_round()
        # More queues than rings: all are served.
        assert answer(vm) == 64


def test_more_queues_than_rings(vm):
    with serving(vm, "-p 1 -i eth0"), Load(vm.nics[0].guest) as load:
        reachable(vm)
        load.another_round()
    with serving(vm, f"-p {vm.queues + 1} -i eth0"):
        reachable(vm)
        nmload(vm.nics[0], "echo -n 5000000 -c 20")


def test_ring_sizes_change_and_the_driver_resets_under_load(vm):
    with serving(vm), Load(vm.nics[0].guest) as load:
        reachable(vm)
        for change in ("ethtool -G eth0 rx 256 tx 256", "ethtool -G eth0 rx 512 tx 512", *resets(vm.driver)):
            vm.run(change)
            load.another_round()


def test_raw_rings_of_all_queues(vm):
    # So that the client need not ask for an address that nobody will tell.
    reachable(vm)
    job = receiving(vm, "netmap:eth0", "-n 300 --loss 300 --other 64 --idle 30")
    # Connections that nobody answers spread over the queues.
    for port in range(64):
        with socket.socket() as peer:
            peer.setblocking(False)
            peer.connect_ex((vm.nics[0].guest, 5000 + port))
    job.wait()
    other = int(re.search(r"other=(\d+)", job.output())[1])
    assert other >= 64, job.output()
    usable(vm)


def test_raw_port_is_told_that_its_queues_are_others_now(vm):
    if vm.queues == 1:
        pytest.skip("one queue cannot become fewer")
    job = receiving(vm, "netmap:eth0", "-n 300 --idle 15")
    vm.run("ethtool -L eth0 combined 1")
    assert job.wait(20) != 0
    assert "the port has failed" in job.output(), job.output()
    vm.run(f"ethtool -L eth0 combined {vm.queues}")
    carrier(vm)
    usable(vm)


def test_long_frames_come_in_several_slots(vm):
    nic = vm.nics[0]
    vmlib.host(f"ip link set {nic.tap} mtu 9000")
    vm.run("ip link set eth0 mtu 9000")
    try:
        carrier(vm)
        job = receiving(vm, "netmap:eth0", "-n 300 --loss 300 --other 200 --idle 30")
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((nic.tap, 0))
            frame = bytes.fromhex(nic.mac.replace(":", "")) + bytes((2, 0, 0, 0, 0, 9, 0x88, 0xB6))
            for _ in range(50):
                raw.send(frame.ljust(8000, b"x"))
        job.wait()
        # 8000 bytes take four buffers of 2048; a few other frames come, too.
        other = int(re.search(r"other=(\d+)", job.output())[1])
        assert 200 <= other < 250, job.output()
        usable(vm)
    finally:
        vm.run("ip link set eth0 mtu 1500")
        vmlib.host(f"ip link set {nic.tap} mtu 1500")
    carrier(vm)
    usable(vm)


def test_what_another_thread_has_stored_is_whole_or_not_there(vm):
    """While that one makes its batch durable in parts, as with each record that it is to drop."""
    if vm.queues == 1:
        pytest.skip("one thread only")
    folder = "/dev/shm/whole"
    try:
        with storing.serving(vm, "zero-copy-log", f"-L 48 -p {vm.queues} -e 50000000", folder) as job, contextlib.ExitStack() as stack:

            def store(peer, body=b"o" * 600):
                peer.sendall(storing.ask(("POST", "/", body)))
                head = b""
                while b"ghijkl" not in head:
                    head += peer.recv(4096)
                return int(re.search(rb"Location: /(\d+)", head)[1])

            threads = {}
            for port in random.sample(range(20_000, 32_000), 40):
                peer = stack.enter_context(storing.connect(vm, port))
                threads.setdefault(store(peer) % vm.queues, peer)
                if len(threads) == 2:
                    break
            writer, reader = threads.values()
            # With the record in one segment, whose buffer is the ring's until all of it has been looked at; and in the one before.
            for apart in (False, True):
                old = [store(writer) for _ in range(10)]
                new, body = f"/{old[-1] + vm.queues}", os.urandom(600)
                vm.run(f"kill -STOP {job.pid}")
                post, drops = storing.ask(("POST", "/", body)), storing.ask(*(("DELETE", f"/{number}", b"") for number in old))
                for part in (post, drops) if apart else (post + drops,):
                    writer.sendall(part)
                    storing.delivered(writer)
                vm.run(f"kill -CONT {job.pid}")
                status = 404
                while status == 404:
                    reader.sendall(storing.ask(("GET", new, b"")))
                    (status, got), = storing.answers(reader, 1)
                assert (status, got) == (200, body), apart
                assert [status for status, _ in storing.answers(writer, 11)] == [200] * 11
    finally:
        vm.run(f"rm -rf {folder}")
