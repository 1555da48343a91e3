# SPDX-License-Identifier: GPL-2.0
"""nmgen: what its sender sends arrives, and its receiver sees what is missing; on NICs with several queues on all of them."""

import contextlib
import re
import socket
import time

from test_nic import carrier
from test_queues import packets

VM_OPTIONS = dict(smp=2)
IPV4 = 0x0800
MARK = b"nmgn"


def tap(nic):
    """A socket for frames on the client's end."""
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(IPV4))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 20)
    raw.bind((nic.tap, IPV4))
    return raw


def totals(job):
    """The numbers of the last line."""
    return {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)\b", job.output().splitlines()[-1])}


def capture(raw, count):
    """Up to `count` of nmgen's frames, until there are none for a while."""
    frames = []
    raw.settimeout(10)
    with contextlib.suppress(TimeoutError):
        while len(frames) < count:
            data, address = raw.recvfrom(2048)
            if address[2] != socket.PACKET_OUTGOING and data[42:46] == MARK:
                frames.append(data)
    return frames


def identity(data):
    """Flow of a frame, and its number in it."""
    return int.from_bytes(data[46:50], "big"), int.from_bytes(data[50:58], "big")


def test_gaps_in_what_was_sent_are_told(vm):
    rings = vm.queues or 1
    flows, count = 30 * rings, 3000 * rings
    if vm.driver == "ixgbe":
        # Of UDP it looks at the addresses alone otherwise, and all flows are one queue's.
        vm.run("ethtool -N eth0 rx-flow-hash udp4 sdfn")
    with tap(vm.nics[0]) as raw:
        before = packets(vm, "tx")
        job = vm.spawn("exec nmgen tx netmap:eth0 -n 3000 -r 3000 -f 30 -l 200 -t 60")
        frames = capture(raw, count)
        assert job.wait() == 0, job.output()
        assert (totals(job)["frames"], totals(job)["bytes"]) == (count, 200 * count)
        assert {len(frame) for frame in frames} == {200}
        numbers = [[] for _ in range(flows)]
        for frame in frames:
            flow, number = identity(frame)
            numbers[flow].append(number)
        # No frame is missing or late, more often round a ring than it has slots.
        assert [sorted(flow) for flow in numbers] == [list(range(len(flow))) for flow in numbers]
        assert len(frames) == count and min(map(len, numbers)) > 60
        # Each ring has sent its thread's.
        assert all(now - then >= 3000 for then, now in zip(before, packets(vm, "tx"), strict=True))

        before = packets(vm, "rx")
        job = vm.spawn("exec nmgen rx netmap:eth0 -t 60 -i 3")
        time.sleep(1)
        carrier(vm)
        left_out = {(0, 7), (0, 8), (0, 9), (1, 50), (flows - 1, 20)}
        for at, frame in enumerate(frames):
            if identity(frame) not in left_out:
                raw.send(frame)
            if at % 16 == 15:
                time.sleep(0.004)
        assert job.wait() == 0, job.output()
        # The flows came in on all rings.
        assert all(now - then >= 100 for then, now in zip(before, packets(vm, "rx"), strict=True))
    seen = totals(job)
    assert (seen["frames"], seen["lost"], seen["flows"]) == (count - len(left_out), len(left_out), flows), job.output()


def test_misuse_is_told(vm):
    for words, message in [
        ("tx netmap:nosuch0", "netmap:nosuch0"),
        ("tx netmap:eth0 -l 59", "lengths go from 60"),
        ("tx netmap:eth0 -f 0", "flows from 1"),
        ("rx eth0:x:y", "nmgen:"),
    ]:
        result = vm.run(f"nmgen {words}", check=False)
        assert result.rc == 1 and message in result.out, result
