# SPDX-License-Identifier: GPL-2.0
"""How long phttpd takes to recover a store of a gigabyte, and what memory it needs: over plain sockets, on tmpfs, no machine emulated.

Run by hand:  make env-apps && scripts/env python3 tests/bench/recovery.py
"""

import argparse
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PROGRAMS = TOP / "build/cargo/release"
# Kinds of stores: phttpd's options, and nmstore's.
KINDS = {"log, mapped": ("-m", "--log"), "keys, mapped": ("-m -B", ""), "log, written": ("", "--log")}


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
        status = Path(f"/proc/{self.job.pid}/status").read_text(encoding="ascii")
        return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024 / 1e6

    def processor(self):
        """Seconds of a CPU that it has used."""
        fields = Path(f"/proc/{self.job.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def stop(self):
        """Ends it."""
        self.job.terminate()
        assert self.job.wait(60) == 0


def main():
    """Fills a store of each kind, and prints a line about its recovery."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000, help="of objects, of 3.9 KB on average and 64 KB at most")
    options = parser.parse_args()
    objects = options.megabytes * 1_000_000 // 3900
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
