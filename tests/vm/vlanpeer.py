# SPDX-License-Identifier: GPL-2.0
"""The client's side of a VLAN, where the host's kernel need not know VLANs: tags are put on and taken off here."""

import fcntl
import os
import select
import socket
import struct
import threading

import nicmodel
import vm as vmlib

ETH_P_ALL = 0x0003
SOL_PACKET, PACKET_AUXDATA = 263, 8
TP_STATUS_VLAN_VALID = 1 << 4


class VlanPeer:
    """An interface of the host whose frames cross `tap` with the tag `number`; it has `address`."""

    def __init__(self, tap, number, address):
        self.name = f"{tap}v{number}"
        self.tag = struct.pack("!HH", 0x8100, number)
        self.number = number
        vmlib.host(f"ip tuntap add {self.name} mode tap")
        self.inside = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self.inside, nicmodel.TUNSETIFF,
                    struct.pack("16sH22x", self.name.encode(), nicmodel.IFF_TAP | nicmodel.IFF_NO_PI))
        vmlib.host(f"ip addr add {address} dev {self.name} && ip link set {self.name} up")
        self.outside = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.outside.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.outside.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 20)
        self.outside.bind((tap, ETH_P_ALL))
        self.wake, self.waker = os.pipe()
        self.thread = threading.Thread(target=self._relay)

    def _relay(self):
        while True:
            ready, _, _ = select.select([self.inside, self.outside, self.wake], [], [])
            if self.wake in ready:
                return
            if self.inside in ready:
                frame = os.read(self.inside, 1 << 16)
                self.outside.send(frame[:12] + self.tag + frame[12:])
            if self.outside in ready:
                self._inward()

    def _inward(self):
        frame, extra, _, address = self.outside.recvmsg(1 << 16, 256)
        if address[2] == socket.PACKET_OUTGOING:
            return
        for level, kind, data in extra:
            if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
                status, *_, control, _ = struct.unpack("IIIHHHH", data)
                if status & TP_STATUS_VLAN_VALID and control & 0xFFF == self.number:
                    os.write(self.inside, frame)
                    return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        os.write(self.waker, b".")
        self.thread.join()
        for descriptor in (self.inside, self.wake, self.waker):
            os.close(descriptor)
        self.outside.close()
        vmlib.host(f"ip link del {self.name}", check=False)
