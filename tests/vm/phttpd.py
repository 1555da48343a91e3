# SPDX-License-Identifier: GPL-2.0
"""phttpd in a guest, and nmload against it from the client's side."""

import contextlib
import re
import time

import vm as vmlib

# Not among those that clients take, of whom some still wait for their end when a server starts.
PORT = 6000
NMLOAD = "/src/build/cargo/release/nmload"


@contextlib.contextmanager
def serving(vm, nics=("eth0",), options="-l 64 -c"):
    """A running server over a stack port on `nics`; on leaving it must end with status 0 on SIGTERM."""
    if "-p" not in options.split():
        options += f" -p {vm.queues or 1}"
    job = vm.spawn(f"exec phttpd -P {PORT} {options} " + " ".join(f"-i {nic}" for nic in nics))
    try:
        vm.run(f"for n in $(seq 100); do grep -q 'port {PORT}' /run/job{job.number}.log && exit; usleep 50000; done; exit 1")
        # A NIC that enters netmap mode restarts its link.
        for nic in vm.nics:
            vmlib.host(f"for n in $(seq 15); do ping -c 1 -W 1 {nic.guest} >/dev/null && exit; done; exit 1")
        yield job
        assert job.poll() is None, job.output()
    finally:
        job.kill()
    assert job.wait() == 0, job.output()


def server(nic, six=False):
    """Where a server is heard on a NIC, as ADDRESS:PORT."""
    return f"[{nic.guest6}]:{PORT}" if six else f"{nic.guest}:{PORT}"


def nmload(nic, what, timeout=60, six=False):
    """Runs nmload against a server in the guest; what it said. It must find everything in order."""
    return vmlib.host(f"{NMLOAD} {server(nic, six)} {what} -t {timeout}", timeout=timeout + 20).out


def sockets(vm):
    """Sockets of each ring of all stack ports."""
    return [int(count) for count in re.findall(r"ring \d+ sockets (\d+)", vm.run("cat /sys/kernel/debug/netmap/ports").out)]


def awaited(look, wanted, timeout):
    """What `look` counts, after a while in which that may become `wanted`."""
    end = time.monotonic() + timeout
    while (count := look()) != wanted and time.monotonic() < end:
        time.sleep(0.2)
    return count


def registered(vm, wanted=0, timeout=10):
    """Sockets of all stack ports, after a while in which they may become `wanted`."""
    return awaited(lambda: sum(sockets(vm)), wanted, timeout)


def accepted(vm, wanted=0, timeout=10):
    """Connections that servers in the guest have, over stack ports or not, after a while in which they may become `wanted`."""
    # Those that nobody has accepted yet have no inode.
    listing = f"ss -tenH state established 'sport = :{PORT}'"
    return awaited(lambda: len(re.findall(r" ino:[1-9]", vm.run(listing).out)), wanted, timeout)
