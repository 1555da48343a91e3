# SPDX-License-Identifier: GPL-2.0
"""nmgen: what its sender sends arrives, and its receiver sees what is missing."""

import contextlib
import re
import socket
import time

from test_nic import carrier

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


def test_gaps_in_what_was_sent_are_told(vm):
    with tap(vm.nics[0]) as raw:
        job = vm.spawn("exec nmgen tx netmap:eth0 -n 3000 -r 3000 -f 3 -l 200 -t 60")
        frames = capture(raw, 3000)
        assert job.wait() == 0, job.output()
        assert (totals(job)["frames"], totals(job)["bytes"]) == (3000, 600_000)
        numbers = [[], [], []]
        for frame in frames:
            assert len(frame) == 200
            numbers[int.from_bytes(frame[46:50], "big")].append(int.from_bytes(frame[50:58], "big"))
        # No frame is missing or late, more often round a ring than it has slots.
        assert [sorted(flow) for flow in numbers] == [list(range(len(flow))) for flow in numbers]
        assert sum(map(len, numbers)) == 3000

        job = vm.spawn("exec nmgen rx netmap:eth0 -t 60 -i 3")
        time.sleep(1)
        carrier(vm)
        left_out = {7, 8, 9, 1000, 2000}
        for at, frame in enumerate(frames):
            if at not in left_out:
                raw.send(frame)
            if at % 16 == 15:
                time.sleep(0.004)
        assert job.wait() == 0, job.output()
    seen = totals(job)
    assert (seen["frames"], seen["lost"], seen["flows"]) == (3000 - len(left_out), len(left_out), 3), job.output()


def test_misuse_is_told(vm):
    for words, message in [
        ("tx netmap:nosuch0", "netmap:nosuch0"),
        ("tx netmap:eth0 -l 59", "lengths go from 60"),
        ("tx netmap:eth0 -f 0", "flows from 1"),
        ("rx eth0:x:y", "nmgen:"),
    ]:
        result = vm.run(f"nmgen {words}", check=False)
        assert result.rc == 1 and message in result.out, result
