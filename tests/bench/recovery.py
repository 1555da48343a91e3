# SPDX-License-Identifier: GPL-2.0
"""How long phttpd takes to recover a store of a gigabyte, and what memory it needs: over plain sockets, on tmpfs, no machine emulated.
With --vm: one whose objects are in packet buffers, on a virtual machine's persistent memory.

Run by hand:  make env-apps && scripts/env python3 tests/bench/recovery.py
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vm"))

import storing  # noqa: E402
import vm as vmlib  # noqa: E402

PROGRAMS = vmlib.TOP / "build/cargo/release"
# Kinds of stores: phttpd's options, and nmstore's.
KINDS = {"log, mapped": ("-m", "--log"), "keys, mapped": ("-m -B", ""), "log, written": ("", "--log")}


def megabytes(status, field):
    """A line of a process's `status` in /proc, in MB."""
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def seconds_of(stat):
    """(user, kernel) seconds of a CPU, of a process's `stat` in /proc."""
    fields = stat.rsplit(")", 1)[1].split()
    return int(fields[11]) / 100, int(fields[12]) / 100


class Server:
    """phttpd, ready to serve."""

    def __init__(self, folder, options):
        start = time.monotonic()
        # pylint: disable-next=consider-using-with
        self.job = subprocess.Popen([PROGRAMS / "phttpd", "-P", "0", "-A", "127.0.0.1", "-d", folder, *options.split()],
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.said = ""
        for line in self.job.stdout:
            self.said += line
            if found := re.search(r"port (\d+)", line):
                self.port = int(found[1])
                break
        else:
            raise RuntimeError(self.said)
        self.seconds = time.monotonic() - start

    def memory(self, field):
        """A line of /proc/PID/status, in MB."""
        return megabytes(Path(f"/proc/{self.job.pid}/status").read_text(encoding="ascii"), field)

    def processor(self):
        """Seconds of a CPU that it has used."""
        return sum(seconds_of(Path(f"/proc/{self.job.pid}/stat").read_text(encoding="ascii")))

    def stop(self):
        """Ends it."""
        self.job.terminate()
        assert self.job.wait(60) == 0


def in_machine(stored, objects):
    """Fills a zero-copy log with `stored` MB in a virtual machine, and prints a line about its recovery."""
    mode = "zero-copy-log"
    # Half of a buffer of 2048 bytes is free on average where an object ends; rings have buffers, too.
    size = stored * 9 // 5 + 20
    machine = vmlib.VM(name="recovery", mem=700, pmem=-(-size * 6 // 5 // 128) * 128)
    try:
        machine.load()
        machine.nic_up()
        machine.run("nic-setup eth0; pmem-mount mkfs")
        job = storing.start(machine, mode, f"-L {size}", seconds=300)
        storing.nmstore(machine, mode, Path("/tmp/journal"), "put", timeout=900, options=f"-n {objects} -m 65536")
        storing.stop(job)
        start = time.monotonic()
        job = storing.start(machine, mode, seconds=300)
        seconds = time.monotonic() - start
        found = re.search(r"(\d+) objects, (\d+) bytes, in (\d+) packet buffers", job.output())
        user, kernel = seconds_of(machine.run(f"cat /proc/{job.pid}/stat").out)
        status = machine.run(f"cat /proc/{job.pid}/status").out
        storing.stop(job)
        machine.check_log()
    finally:
        machine.close()
    print(f"log, zero copy, in a machine: {found[1]} objects, {int(found[2]) / 1e6:.0f} MB in {found[3]} buffers: {seconds:.1f} s "
          f"(user {user:.1f} s, kernel {kernel:.1f} s), {megabytes(status, 'RssAnon'):.1f} MB are not the mapped file")


def main():
    """Fills a store of each kind, and prints a line about its recovery."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000, help="of objects, of 3.9 KB on average and 64 KB at most")
    parser.add_argument("--vm", action="store_true", help="in packet buffers, in a virtual machine")
    options = parser.parse_args()
    objects = options.megabytes * 1_000_000 // 3900
    if options.vm:
        in_machine(options.megabytes, objects)
        return
    for kind, (server, client) in KINDS.items():
        folder = tempfile.mkdtemp(dir="/dev/shm", prefix="recovery-")
        try:
            # Blocks are not all filled, and have lines.
            first = Server(folder, f"{server} -L {options.megabytes * 3 // 2 + 20}")
            subprocess.run([PROGRAMS / "nmstore", f"127.0.0.1:{first.port}", "put", "-n", str(objects), "-m", "65536",
                            "-t", "600", "-j", f"{folder}/journal", *client.split()], check=True, stdout=subprocess.DEVNULL)
            first.stop()
            again = Server(folder, server)
            found = re.search(r"(\d+) objects, (\d+) bytes", again.said)
            print(f"{kind}: {found[1]} objects, {int(found[2]) / 1e6:.0f} MB: {again.seconds:.2f} s ({again.processor():.2f} s of a CPU), "
                  f"VmHWM {again.memory('VmHWM'):.0f} MB, of which {again.memory('RssAnon'):.1f} MB are not the mapped file", flush=True)
            again.stop()
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
