# SPDX-License-Identifier: GPL-2.0
"""phttpd with a store in a guest, and nmstore against it from the client's side."""

import contextlib

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
