# SPDX-License-Identifier: GPL-2.0
"""phttpd with a store in a guest, and nmstore against it from the client's side."""

import contextlib
import fcntl
import socket
import struct
import termios
import time

import vm as vmlib
from phttpd import PORT
from upheaval import reachable, stop

NMSTORE = vmlib.TOP / "build/cargo/release/nmstore"

# Ways to store, each in a folder of its own on persistent memory: phttpd's options, and whether it is a log.
MODES = {
    "zero-copy-log": ("-i eth0 -m -x", True),
    "zero-copy-keys": ("-i eth0 -m -x -B", False),
    "stack-log": ("-i eth0 -m", True),
    "stack-keys": ("-i eth0 -m -B", False),
    "epoll-log": ("-m", True),
    "epoll-keys": ("-m -B", False),
    "written-log": ("", True),
    "synced-keys": ("-m -D -B", False),
}


def start(vm, mode, more="", folder=None, seconds=30):
    """A server of one of MODES; returns when it listens, within so many seconds, and answers where its link was restarted."""
    folder = folder or f"/mnt/pm/{mode}"
    vm.run(f"mkdir -p {folder}")
    job = vm.spawn(f"exec phttpd -P {PORT} -d {folder} {MODES[mode][0]} {more}")
    vm.run(f"n=0; until grep -q 'port {PORT}' /run/job{job.number}.log; do usleep 50000; n=$((n+1)); "
           f"[ $n -lt {20 * seconds} ] && kill -0 {job.pid} || {{ cat /run/job{job.number}.log; exit 1; }}; done", timeout=seconds + 10)
    reachable(vm)
    return job


@contextlib.contextmanager
def serving(vm, mode, more="", folder=None):
    """A server while the block runs."""
    job = start(vm, mode, more, folder)
    try:
        yield job
    except BaseException:
        job.kill(9)
        raise
    stop(job)


def nmstore_command(vm, mode, journal, what, timeout=100, options=""):
    """nmstore's command line."""
    log = "--log" if MODES[mode][1] else ""
    return f"{NMSTORE} {vm.nics[0].guest}:{PORT} {what} -t {timeout} -j {journal} {log} {options}"


def nmstore(vm, mode, journal, what, timeout=100, options=""):
    """Runs nmstore; what it said. It must find everything in order."""
    return vmlib.host(nmstore_command(vm, mode, journal, what, timeout, options), timeout=timeout + 20).out


def url(vm, path="/"):
    """Address of the server in the guest."""
    return f"http://{vm.nics[0].guest}:{PORT}{path}"


def ask(*requests):
    """Requests as one connection pipelines them: method, path, body."""
    return b"".join(f"{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
                    for method, path, body in requests)


def answers(connection, number):
    """So many answers: status and body."""
    with connection.makefile("rb") as source:
        for _ in range(number):
            status = int(source.readline().split()[1])
            length = 0
            while (line := source.readline().strip()):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            yield status, source.read(length)


def connect(vm, port=0):
    """A connection that sends at once what it is given; from this port."""
    connection = socket.create_connection((vm.nics[0].guest, PORT), 20, ("", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def delivered(connection):
    """Waits until the guest has acknowledged everything."""
    end = time.monotonic() + 20
    while struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0]:
        assert time.monotonic() < end
        time.sleep(0.01)
