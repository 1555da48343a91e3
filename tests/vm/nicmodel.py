# SPDX-License-Identifier: GPL-2.0
"""A modelled NIC of a virtual machine: the process that is the card (docs/nic-models.md)."""

import fcntl
import json
import os
import socket
import struct
import subprocess
import time
from typing import NamedTuple

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000


class Card(NamedTuple):
    """What a value of VM's `nic` means: the program's model and the driver's module."""

    model: str
    driver: str


CARDS = {
    "ixgbe": Card("82599", "ixgbe"),
    "x540": Card("x540", "ixgbe"),
    "i40e": Card("xl710", "i40e"),
}


def driver_of(nic):
    """The module that drives a NIC of this name."""
    return CARDS[nic].driver if nic in CARDS else nic


def resets(driver):
    """Commands in the guest that have a driver reset its card: ixgbe knows one kind, i40e that of the function, the core, all."""
    if driver == "ixgbe":
        return ["for f in /sys/kernel/debug/ixgbe/*/netdev_ops; do echo tx_timeout >$f; done"] * 2
    return [f"for f in /sys/kernel/debug/i40e/*/command; do echo {kind} >$f; done" for kind in ("pfr", "corer", "globr")]


class Model:
    """A running model. `program`: the executable; `folder`: for its logs; `tap`: the wire."""

    def __init__(self, program, nic, folder, number, tap, mac):
        self.path = f"/tmp/{folder.name}.nic{number}"
        self.control = self.path + ".control"
        self.complaints = folder / f"nic{number}.complaints"
        self.errors = folder / f"nic{number}.log"
        self.judged = 0
        wire = os.open("/dev/net/tun", os.O_RDWR)
        try:
            fcntl.ioctl(wire, TUNSETIFF, struct.pack("16sH22x", tap.encode(), IFF_TAP | IFF_NO_PI))
            with open(self.errors, "w", encoding="utf-8") as log:
                self.process = subprocess.Popen(
                    [program, "--model", CARDS[nic].model, "--socket", self.path, "--control", self.control,
                     "--log", self.complaints, "--mac", mac], stdin=wire, stdout=log, stderr=log)
        finally:
            os.close(wire)
        end = time.monotonic() + 10
        while not os.path.exists(self.path):
            if time.monotonic() > end or self.process.poll() is not None:
                self.end()
                raise OSError(f"the model of {nic} did not start:\n" + self.errors.read_text())
            time.sleep(0.01)

    def arguments(self, number):
        """QEMU's arguments for the card, in a slot of its own."""
        device = {"driver": "vfio-user-pci", "id": f"nic{number}", "bus": f"slot{number}",
                  "socket": {"type": "unix", "path": self.path}}
        return ["-device", f"pcie-root-port,id=slot{number},chassis={number + 1}", "-device", json.dumps(device)]

    def command(self, text):
        """Gives the model a command (tests/nic/src/control.rs lists them); its answer without the last line."""
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(10)
            channel.connect(self.control)
            channel.sendall(text.encode() + b"\n")
            answer = b""
            while not answer.endswith(b"ok\n"):
                data = channel.recv(1 << 16)
                answer += data
                if not data or answer.startswith(b"error"):
                    raise OSError(f"{text}: {answer.decode()}")
        return answer[:-3].decode()

    def figures(self):
        """The answer to `show` as {name: number}."""
        return {name: int(number) for name, number in (line.split() for line in self.command("show").splitlines())}

    def complained(self):
        """New complaints about the driver; each is told once."""
        lines = self.complaints.read_text().splitlines()[self.judged:] if self.complaints.exists() else []
        self.judged += len(lines)
        return lines

    def alive(self):
        """Whether it still runs."""
        return self.process.poll() is None

    def end(self):
        """Ends the process, if it has not ended with QEMU."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        for path in (self.path, self.control):
            if os.path.exists(path):
                os.unlink(path)
