# SPDX-License-Identifier: GPL-2.0
"""The initial file system of a virtual machine: busybox, tools with their libraries, kernel modules."""

import lzma
import os
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]

# Real tools: busybox's own of these names are too small for tests.
TOOLS = ["ethtool", "ip", "tc", "ss", "tcpdump", "ping", "curl", "strace", "nstat", "taskset"]

# Stock modules that tests load by name.
STOCK_MODULES = [
    "af_packet_diag", "dummy", "veth", "sch_netem", "sch_fq", "tcp_diag", "inet_diag", "tls", "8021q", "macvlan",
    "bridge", "tun", "virtio_net", "e1000e",
]


def module_name(path):
    """Name by which modprobe knows a module file."""
    return re.sub(r"\.ko(\.xz|\.gz|\.zst)?$", "", os.path.basename(path)).replace("-", "_")


class Initramfs:
    """Collects files and writes them as a cpio archive (format "newc")."""

    def __init__(self):
        self.entries = {}  # guest path -> (mode, bytes)

    def directory(self, path):
        path = path.strip("/")
        while path and path not in self.entries:
            self.entries[path] = (stat.S_IFDIR | 0o755, b"")
            path = os.path.dirname(path)

    def data(self, path, content, mode=0o644):
        self.directory(os.path.dirname(path))
        self.entries[path.strip("/")] = (stat.S_IFREG | mode, content)

    def link(self, path, target):
        self.directory(os.path.dirname(path))
        self.entries[path.strip("/")] = (stat.S_IFLNK | 0o777, target.encode())

    def file(self, path, source):
        self.data(path, Path(source).read_bytes(), stat.S_IMODE(os.stat(source).st_mode))

    def program(self, source, path=None):
        """A program of the environment with the shared libraries that it names."""
        self.file(path or "/usr/bin/" + os.path.basename(source), os.path.realpath(source))
        done = subprocess.run(["ldd", source], capture_output=True, text=True, check=False)
        for library in re.findall(r"(/\S+) \(0x", done.stdout):
            if library.strip("/") not in self.entries:
                self.file(library, os.path.realpath(library))

    def modules(self, root, release, names, own):
        """Stock modules `names` with all they depend on, and the module files `own`, which come first."""
        base = Path(root, "lib/modules", release)
        depends, paths = {}, {}
        for line in (base / "modules.dep").read_text().splitlines():
            path, _, rest = line.partition(":")
            depends[module_name(path)] = [module_name(other) for other in rest.split()]
            paths[module_name(path)] = path
        wanted = []
        for name in names:
            if name in paths:
                wanted += [name, *depends[name]]
        files = {}
        for name in dict.fromkeys(wanted):
            content = (base / paths[name]).read_bytes()
            files[name] = lzma.decompress(content) if paths[name].endswith(".xz") else content
        for source in own:
            name = module_name(source)
            depends.setdefault(name, [])
            # Debug information is most of a module and of no use in the guest.
            with tempfile.NamedTemporaryFile() as stripped:
                subprocess.run(["strip", "--strip-debug", "-o", stripped.name, source], check=True)
                files[name] = Path(stripped.name).read_bytes()
        lines = []
        for name, content in files.items():
            self.data(f"/lib/modules/{release}/{name}.ko", content)
            lines.append(f"{name}.ko: " + " ".join(f"{other}.ko" for other in depends[name] if other in files))
        self.data(f"/lib/modules/{release}/modules.dep", ("\n".join(lines) + "\n").encode())

    def write(self, path):
        with open(path, "wb") as out:
            for inode, (name, (mode, content)) in enumerate(sorted(self.entries.items()), 1):
                self._record(out, inode, name, mode, content)
            self._record(out, 0, "TRAILER!!!", 0, b"")

    @staticmethod
    def _record(out, inode, name, mode, content):
        fields = [inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        out.write(head + b"\0" * (-len(head) % 4) + content + b"\0" * (-len(content) % 4))


def build(path, kernel, release, programs=(), files=None, modules=(), stock=()):
    """Writes the file system of the machine that boots `kernel` (a folder of scripts/kernel).

    Modules of build/ come before those of the kernel package, but for the names in `stock`.
    """
    image = Initramfs()
    for name in ("dev", "proc", "sys", "tmp", "run", "root", "etc", "lib/modules"):
        image.directory(name)
    image.file("/init", TOP / "tests/vm/init")
    image.data("/etc/profile", b"export PS1='guest:\\w# '\n")
    image.data("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
    image.data("/etc/group", b"root:x:0:\nnogroup:x:65534:\n")
    image.data("/etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n")
    image.file("/bin/busybox", shutil.which("busybox"))
    for tool in TOOLS:
        image.program(shutil.which(tool), f"/usr/sbin/{tool}")
    image.program(shutil.which("dash"), "/bin/sh")
    image.file("/opt/bin/job", TOP / "tests/vm/job")
    for tool in ("pmem-mount", "pmem-device"):
        image.file(f"/opt/bin/{tool}", TOP / "tests/vm" / tool)
    image.file("/opt/bin/nic-setup", TOP / "scripts/nic-setup")
    for program in programs:
        image.program(str(program), f"/opt/bin/{os.path.basename(program)}")
    for guest, host in (files or {}).items():
        image.file(guest, host)
    built = sorted((TOP / "build/kernel" / release).glob("*.ko"))
    own = [source for source in built if module_name(source) not in stock]
    image.modules(kernel / "root", release, [*STOCK_MODULES, *modules, *stock], own)
    image.write(path)
