# SPDX-License-Identifier: GPL-2.0
"""One connection on a stack port, taken through single situations step by step."""

import contextlib
import re
import socket
import time

import vm as vmlib
from accounting import buffers
from upheaval import reachable

PORT = 7100
PATTERN = bytes((at * 167 + (at >> 8) * 13) & 0xFF for at in range(65536))


def pattern(start, size):
    """Bytes of nmpeer's stream."""
    start %= len(PATTERN)
    return (PATTERN * (size // len(PATTERN) + 2))[start:start + size]


class Peer:
    """nmpeer in the guest."""

    def __init__(self, vm):
        self.vm = vm
        self.seen = 0
        vm.run("rm -f /run/peer; mkfifo /run/peer")
        self.job = vm.spawn(f"exec nmpeer -i eth0 -l {PORT} <>/run/peer")
        self.until("listening")

    def until(self, word, timeout=60):
        """Waits for a line; returns the lines since the last call."""
        end = time.monotonic() + timeout
        while True:
            lines = self.job.output().splitlines()
            if word in lines[self.seen:]:
                at = lines.index(word, self.seen)
                new, self.seen = lines[self.seen:at], at + 1
                return new
            assert self.job.poll() is None and time.monotonic() < end, "\n".join(lines)
            time.sleep(0.05)

    def do(self, *commands):
        """Runs commands, one after the other; what they said."""
        self.vm.run("printf '%s\\n' " + " ".join(f"'{command}'" for command in commands) + " >/run/peer")
        return [line for _ in commands for line in self.until("ok")]

    def number(self, command, name):
        """Runs a command and returns a number that it said."""
        said = self.do(command)
        return int(next(line for line in said if line.startswith(name)).split()[1])


@contextlib.contextmanager
def connected(vm, room=0):
    """(nmpeer, the other end of its connection), whose receive buffer is about `room` bytes."""
    peer = Peer(vm)
    try:
        reachable(vm)
        with socket.socket() as client:
            if room:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
            client.settimeout(20)
            client.connect((vm.nics[0].guest, PORT))
            peer.until("accepted")
            yield peer, client
        peer.vm.run("echo end >/run/peer")
        assert peer.job.wait() == 0, peer.job.output()
    finally:
        peer.job.kill(9)


def read(client, size):
    """Exactly `size` bytes."""
    data = bytearray()
    while len(data) < size:
        more = client.recv(min(65536, size - len(data)))
        assert more, f"closed after {len(data)} bytes"
        data += more
    return bytes(data)


def unsent(vm):
    """Bytes in the guest's send queue of the connection."""
    line = vm.run(f"ss -tnH 'sport = :{PORT}'").out
    return int(line.split()[2]) if line.strip() else 0


def test_news_of_room_comes_though_room_comes_and_goes(vm):
    with connected(vm, room=20000) as (peer, client):
        peer.do("sndbuf 200000")
        total = peer.number("fill", "full")
        # The peer makes room, which the socket tells of; nobody polls yet.
        read(client, total - 60000)
        time.sleep(1)
        left = unsent(vm)
        assert 20000 < left < 200000
        # It is gone again when somebody does.
        peer.do("sndbuf 5000")
        assert peer.do("poll 500") == ["received 0"]
        assert "wants-room" in vm.run("cat /sys/kernel/debug/netmap/ports").out
        # And comes back.
        read(client, 60000)
        assert "writable" in peer.do("poll 5000")
        assert "wants-room" not in vm.run("cat /sys/kernel/debug/netmap/ports").out
        peer.do("send 1000")
        peer.do("poll 100")
        assert read(client, 1000) == pattern(total, 1000)


def test_kept_buffers_are_sent_again_and_again(vm):
    with connected(vm) as (peer, client):
        peer.do("share 16")
        block = b"".join(pattern(number * 1000, 1400) for number in range(16))
        for _ in range(5):
            before = buffers(vm)[0]
            peer.do("keep 10")
            assert read(client, 10 * len(block)) == block * 10
            peer.do("poll 100")
            # They are the application's all the time.
            assert buffers(vm)[0]["user"] == before["user"]


def test_kept_buffers_survive_being_given_back_while_the_peer_waits(vm):
    with connected(vm, room=5000) as (peer, client):
        peer.do("sndbuf 200000")
        peer.do("share 16")
        block = b"".join(pattern(number * 1000, 1400) for number in range(16))
        peer.do("keep 10")
        assert unsent(vm) > 100000
        # The kernel gets them with references of TCP, and needs buffers: every received frame takes one.
        peer.do("unshare")
        peer.do("give")
        sent = 0
        for _ in range(15):
            client.sendall(bytes(200000))
            sent += 200000
            peer.do(*["poll 50"] * 4)
        assert peer.number("left", "left") == 0
        end = time.monotonic() + 20
        while peer.number("poll 100", "received") < sent:
            assert time.monotonic() < end
        assert read(client, 10 * len(block)) == block * 10


def test_lent_buffers_come_back_to_an_idle_port(vm):
    with connected(vm, room=500000) as (peer, client):
        start = buffers(vm)[0]
        peer.do("sndbuf 1000000")
        total = peer.number("fill", "full")
        assert buffers(vm)[0]["lent"] > start["lent"] + 100
        assert read(client, total) == pattern(0, total)
        # The last acknowledgements are on their way.
        for _ in range(20):
            peer.do("poll 300")
            end = buffers(vm)[0]
            if end["lent"] <= start["lent"] + 16:
                break
        assert end["lent"] <= start["lent"] + 16, (start, end)
        assert end["free"] >= start["free"] - 16, (start, end)


def test_pool_that_was_low_is_not_low_for_ever(vm):
    limit = vm.run("cat /proc/sys/net/core/wmem_max; echo 8000000 >/proc/sys/net/core/wmem_max").out.strip()
    with connected(vm, room=500000) as (peer, client):
        start = buffers(vm)[0]
        peer.do("sndbuf 4000000")
        total = peer.number("fill", "full")
        low = buffers(vm)[0]
        # Half of them are lent, and the rest of the 4 MB was copied.
        assert low["lent"] > start["free"] // 3 and low["free"] < 2 * start["free"] // 3, (start, low)
        assert total > 2 * 2048 * low["lent"]
        assert read(client, total) == pattern(0, total)
        assert "writable" in peer.do("poll 5000")
        # Without a poll() that finds nothing to do nobody has time to look for lent buffers but those who copy. The
        # last of them are let go when the NIC has sent what they were in.
        for _ in range(10):
            peer.do("send 40000", "sync")
            assert read(client, 40000) == pattern(total, 40000)
            total += 40000
            now = buffers(vm)[0]
            if now["free"] > low["free"] + low["lent"] // 2:
                break
        assert now["free"] > low["free"] + low["lent"] // 2, (low, now)
    vm.run(f"echo {limit} >/proc/sys/net/core/wmem_max")
