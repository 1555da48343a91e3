# SPDX-License-Identifier: GPL-2.0
"""A virtual machine that boots the stock kernel: start it, run commands in it, judge its kernel log.

Everything here runs inside the environment (scripts/env), whose namespaces end with it, so that no
machine, tap or address is ever left behind.
"""

import base64
import fcntl
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import initramfs
import nicmodel

TOP = Path(__file__).resolve().parents[2]
CACHE = Path("/cache")

# A line of the kernel log with one of these is a failure, whatever a test says.
BAD_LOG = re.compile(
    r"BUG[: ]|WARNING:|Oops|general protection|Call Trace|stack guard|refcount|list_(add|del) corruption"
    r"|Bad page|bad page|KASAN|UBSAN|KCSAN|lockdep|possible recursive|circular locking|inconsistent lock"
    r"|rcu: INFO|rcu_sched|suspicious RCU|soft lockup|hard LOCKUP|hung_task|blocked for more than"
    r"|Kernel panic|unregister_netdevice: waiting|DMA-API|scheduling while atomic|sleeping function"
    r"|Tx Unit Hang|memory leak|page allocation failure|Out of memory|protection fault|unable to handle"
)

# Said by the stock kernel on this platform without any fault.
HARMLESS_LOG = re.compile(r"Spectre|RETBleed|MDS CPU bug|TAA CPU bug|MMIO Stale Data CPU bug|mitigation")

# Said by a kernel that dies of a race in QEMU's emulated CPU: now and then it still runs a breakpoint, by which the kernel
# patches its own code, when the code behind it is there again. A machine that dies so before it is ready, that is before any
# code of this project is in it, is started once more. Later it is a failure like others.
STALE_CODE = "Oops: int3"


# What persistent memory needs (virtual machines made with pmem=).
PMEM_MODULES = ["nd_e820", "nd_pmem", "ext4", "device_dax", "dax_pmem"]
# MiB of memory above it: QEMU puts the initramfs and tables of the firmware at the end of the memory, with each start.
PMEM_ABOVE = 256


class Result(NamedTuple):
    """Exit status and output (stdout and stderr together) of a command."""

    rc: int
    out: str


class VMError(Exception):
    """The machine died, or did not answer in time."""


class CommandError(VMError):
    """A command that should have succeeded did not."""


class Nic(NamedTuple):
    """One emulated NIC: its guest name, the host's tap, both ends' addresses, and its process if it is a modelled one."""

    name: str
    tap: str
    host: str
    guest: str
    host6: str
    guest6: str
    mac: str
    model: nicmodel.Model | None = None


def host(command, check=True, timeout=120, **options):
    """Runs a shell command on the client side, in this run's own network namespace."""
    done = subprocess.run(
        command, shell=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, **options
    )
    if check and done.returncode:
        raise CommandError(f"{command}: status {done.returncode}\n{done.stdout}")
    return Result(done.returncode, done.stdout)


def kernel_folder():
    """The prepared kernel that this run uses, as scripts/kernel made it; the release is its name."""
    named = os.environ.get("KERNEL_RELEASE")
    if not named:
        known = CACHE / ("release-" + (os.environ.get("KERNEL") or "newest"))
        named = known.read_text().strip()
    return CACHE / "kernel" / named


def folder(name):
    """A folder for a machine's files, and the lock on it while it is open. It alone of what a run makes is seen by other runs,
    all of which are process 2 of their own name space, or so: a folder that another one works in is left to it."""
    for number in VM.numbers:
        made = TOP / "build/vm" / f"{name}-{number}"
        made.mkdir(parents=True, exist_ok=True)
        lock = open(made / "lock", "w", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return made, lock
    raise AssertionError("numbers do not end")


def own_programs():
    """The project's programs, as far as they have been built."""
    built = TOP / "build/cargo/release"
    if not built.is_dir():
        return []
    return [f for f in sorted(built.iterdir())
            if f.is_file() and os.access(f, os.X_OK) and f.suffix == "" and f.name != "nicmodel"]


class Process:
    """A command that runs in the background of a guest."""

    def __init__(self, vm, number):
        self.vm = vm
        self.number = number
        self.pid = int(vm.run(f"while ! cat /run/job{number}.pid 2>/dev/null; do usleep 10000; done").out)

    def poll(self):
        """Exit status, or None while it runs."""
        text = self.vm.run(f"cat /run/job{self.number}.status 2>/dev/null", check=False).out
        return int(text) if text.strip() else None

    def wait(self, timeout=60):
        """Exit status, when it has ended."""
        end = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > end:
                raise VMError(f"job {self.number} still runs after {timeout} s:\n{self.output()}")
            time.sleep(0.1)
        return status

    def kill(self, sig=signal.SIGTERM):
        """Sends a signal; a process that has ended already is no error."""
        self.vm.run(f"kill -{int(sig)} {self.pid}", check=False)

    def output(self):
        """What it has written so far."""
        return self.vm.run(f"cat /run/job{self.number}.log", check=False).out


class VM:
    """A running virtual machine.

    nics: number of NICs; nic: QEMU's model, or one of nicmodel.CARDS ("ixgbe", "x540", "i40e");
    smp, mem (MiB); queues: of each NIC, 0 for what the driver makes of it; append: more kernel arguments;
    modules: more stock modules to carry; programs: more programs; files: {guest path: host path};
    mitigations: False for figures that are to be compared with published ones;
    pin: vCPU on one core, all other threads on the other; shell: a shell on this terminal besides;
    stock: modules that are taken from the kernel package, not from build/ (for example e1000);
    emulator: the QEMU to run; qemu: more arguments for it;
    pmem: MiB of persistent memory, /dev/pmem0 (pmem-mount mounts it); what is in it is lost with the machine.
    """

    numbers = itertools.count()
    _subnets = set()

    def __init__(self, name="vm", nics=1, nic="e1000", smp=1, queues=0, mem=1024, append="", modules=(), programs=(), files=None,
                 mitigations=True, pin=False, accel=None, boot_timeout=120, shell=False, stock=(),
                 emulator="qemu-system-x86_64", qemu=(), pmem=0):
        self.dir, self.lock = folder(name)
        self.kernel = kernel_folder()
        self.release = self.kernel.name
        self.accel = accel or accelerator()
        self.emulator = emulator
        self.log = ""
        self.judged = 0
        self.jobs = itertools.count()
        self.requests = itertools.count()
        self.buffer = b""
        self.nics = []
        self.subnets = []
        self.driver = nicmodel.driver_of(nic)
        self.queues = queues
        # Drivers do not make more queues than there are CPUs.
        smp = max(smp, queues)
        self.process = self.channel = None
        if pmem:
            modules = [*modules, *PMEM_MODULES]
            programs = [*programs, shutil.which("mkfs.ext4")]
            # A part of the guest's memory that the firmware, as it were, calls persistent.
            append += f" memmap={pmem}M!{mem}M"
            mem += pmem + PMEM_ABOVE
        initramfs.build(self.dir / "initramfs", self.kernel, self.release,
                        programs=[*own_programs(), *programs], files=files,
                        modules=[*modules, self.driver], stock=stock)
        if pmem and (self.dir / "initramfs").stat().st_size > (PMEM_ABOVE - 16) << 20:
            raise VMError("the initramfs would lie in persistent memory: PMEM_ABOVE must be more")
        try:
            options = nics, nic, smp, mem, append, mitigations, boot_timeout, shell, qemu
            try:
                self._start(*options)
            except VMError:
                if self.accel == "kvm" or STALE_CODE not in self.console():
                    raise
                warnings.warn(f"{self.dir.name}: QEMU ran code of the booting kernel that was no longer there; started again")
                self.kill()
                self._start(*options)
            if pin:
                self._pin()
        except BaseException:
            self.kill()
            raise

    def _start(self, nics, nic, smp, mem, append, mitigations, boot_timeout, shell, qemu):
        path = f"/tmp/{self.dir.name}.command"
        arguments = ["console=ttyS0", "loglevel=5", "panic=-1", "net.ifnames=0", "random.trust_cpu=on"]
        command = [self.emulator, "-name", f"{self.dir.name},debug-threads=on", "-nodefaults", "-no-reboot",
                   "-display", "none", "-smp", str(smp), "-m", str(mem)]
        if nic in nicmodel.CARDS:
            # The models reach the guest's memory through its file; their cards want slots of PCI Express.
            command += ["-M", "q35,memory-backend=mem0",
                        "-object", f"memory-backend-memfd,id=mem0,size={mem}M,share=on"]
        else:
            command += ["-M", "pc"]
        if self.accel == "kvm":
            command += ["-accel", "kvm", "-cpu", "host"]
        else:
            command += ["-accel", "tcg,thread=multi", "-cpu", "max"]
            # The emulated TSC is good, the HPET that would be chosen instead is slow to read.
            arguments += ["tsc=reliable", "clocksource=tsc"]
        if not mitigations:
            arguments.append("mitigations=off")
        if shell:
            arguments.append("netmap.shell")
        command += ["-kernel", str(self.kernel / "vmlinuz"), "-initrd", str(self.dir / "initramfs"),
                    "-append", " ".join(arguments) + " " + append,
                    "-serial", "mon:stdio" if shell else f"file:{self.dir}/console.log",
                    "-device", "virtio-serial-pci", "-chardev", f"socket,id=command,path={path},server=on,wait=off",
                    "-device", "virtserialport,chardev=command,name=command"]
        if not shell:
            command += ["-monitor", f"unix:/tmp/{self.dir.name}.monitor,server=on,wait=off"]
        for index in range(nics):
            made = self._tap(index)
            if nic in nicmodel.CARDS:
                program = TOP / "build/cargo/release/nicmodel"
                made = made._replace(model=nicmodel.Model(program, nic, self.dir, index, made.tap, made.mac))
                command += made.model.arguments(index)
            else:
                command += ["-netdev", f"tap,id=net{index},ifname={made.tap},script=no,downscript=no",
                            "-device", f"{nic},netdev=net{index},mac={made.mac},romfile="]
            self.nics.append(made)
        with open(self.dir / "qemu.log", "w", encoding="utf-8") as log:
            terminal = {} if shell else {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            self.process = subprocess.Popen([*command, *qemu], **terminal)
        self.channel = socket.socket(socket.AF_UNIX)
        end = time.monotonic() + 20
        while True:
            try:
                self.channel.connect(path)
                break
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise VMError("QEMU did not start:\n" + (self.dir / "qemu.log").read_text()) from None
                time.sleep(0.02)
        self._answer("ready", boot_timeout)

    def _tap(self, index):
        subnet = next(n for n in itertools.count() if n not in VM._subnets)
        VM._subnets.add(subnet)
        self.subnets.append(subnet)
        made = Nic(f"eth{index}", f"nm{subnet}", f"10.77.{subnet}.1", f"10.77.{subnet}.2", f"fd77:{subnet}::1",
                   f"fd77:{subnet}::2", f"52:54:00:77:{subnet:02x}:02")
        host(f"ip tuntap add {made.tap} mode tap && ip addr add {made.host}/24 dev {made.tap} && "
             f"ip addr add {made.host6}/64 dev {made.tap} nodad && ip link set {made.tap} up")
        return made

    def _pin(self):
        """Gives the vCPUs a core of their own where there are two, so that client and machine do not disturb each other."""
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            return
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            comm = Path(f"/proc/{self.process.pid}/task/{task}/comm").read_text()
            os.sched_setaffinity(int(task), {cores[0]} if comm.startswith("CPU") else set(cores[1:]))
        for model in self.models():
            for task in os.listdir(f"/proc/{model.process.pid}/task"):
                os.sched_setaffinity(int(task), set(cores[1:]))

    def models(self):
        """The processes of its modelled NICs."""
        return [nic.model for nic in self.nics if nic.model]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def alive(self):
        """Whether the machine still runs."""
        return self.process is not None and self.process.poll() is None

    def console(self):
        """All that the kernel printed on the serial console (warnings and worse)."""
        try:
            return (self.dir / "console.log").read_text(errors="replace")
        except OSError:
            return ""

    def _receive(self, end):
        self.channel.settimeout(max(0.01, end - time.monotonic()))
        try:
            data = self.channel.recv(1 << 16)
        except TimeoutError:
            raise VMError("no answer in time; console:\n" + self.console()[-4000:]) from None
        except OSError:
            data = b""
        if not data:
            raise VMError("the machine died; console:\n" + self.console()[-6000:])
        self.buffer += data

    def _answer(self, request, timeout):
        end = time.monotonic() + timeout
        while True:
            while b"\n" not in self.buffer:
                self._receive(end)
            line, _, self.buffer = self.buffer.partition(b"\n")
            number, status, size = line.split()
            while len(self.buffer) < int(size):
                self._receive(end)
            out, self.buffer = self.buffer[: int(size)], self.buffer[int(size):]
            # An answer to a request that was given up is read and dropped.
            if number.decode() == request:
                return int(status), out

    def run_bytes(self, command, timeout=60):
        """Runs a shell script in the guest; (status, output as bytes). Status 143: it took longer than `timeout`."""
        number = str(next(self.requests))
        script = f"timeout {timeout} /bin/sh -c {quote(command)}\n"
        self.channel.settimeout(timeout)
        self.channel.sendall(f"{number} {base64.b64encode(script.encode()).decode()}\n".encode())
        return self._answer(number, timeout + 20)

    def run(self, command, timeout=60, check=True):
        """Runs a shell script in the guest; raises CommandError on a status other than 0, unless check is False."""
        status, out = self.run_bytes(command, timeout)
        result = Result(status, out.decode(errors="replace"))
        if check and status:
            raise CommandError(f"{command}: status {status}\n{result.out}")
        return result

    def spawn(self, command):
        """Starts a shell script in the background of the guest. `exec` in it makes the Process's pid the program's."""
        number = next(self.jobs)
        self.put(command.encode(), f"/run/job{number}.sh")
        self.run(f"setsid job {number} >/dev/null 2>&1 &")
        return Process(self, number)

    def put(self, content, path):
        """Writes bytes to a guest file."""
        text = base64.b64encode(content).decode()
        status, out = self.run_bytes(f"echo {text} | base64 -d >{quote(path)}")
        if status:
            raise CommandError(f"put {path}: {out.decode(errors='replace')}")

    def get(self, path):
        """Reads a guest file."""
        status, out = self.run_bytes(f"cat {quote(path)}")
        if status:
            raise CommandError(f"get {path}: {out.decode(errors='replace')}")
        return out

    def nic_up(self, index=0, options=""):
        """Gives a NIC its addresses and waits for the link."""
        nic = self.nics[index]
        self.run(f"ip addr replace {nic.guest}/24 dev {nic.name}; ip link set {nic.name} up {options}; "
                 f"ip -6 addr replace {nic.guest6}/64 dev {nic.name} nodad; "
                 f"n=0; until grep -q 1 /sys/class/net/{nic.name}/carrier; do usleep 50000; n=$((n+1)); [ $n -lt 200 ]; done")

    def link(self, up, index=0):
        """Plugs a NIC's cable in, or pulls it out."""
        model = self.nics[index].model
        if model:
            model.command("link up" if up else "link down")
        else:
            self.monitor(f"set_link net{index} {'on' if up else 'off'}")

    def monitor(self, line):
        """Has QEMU's monitor run a command; what it prints is not looked at."""
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(10)
            channel.connect(f"/tmp/{self.dir.name}.monitor")
            for text in (b"", line.encode() + b"\n"):
                channel.sendall(text)
                seen = b""
                while b"(qemu) " not in seen:
                    more = channel.recv(4096)
                    if not more:
                        raise VMError("the monitor is gone")
                    seen += more

    def nics_ready(self):
        """Brings all NICs up, with the queues wanted, and sets them up as users do."""
        for index, nic in enumerate(self.nics):
            if self.queues:
                self.run(f"ethtool -L {nic.name} combined {self.queues}", check=False)
            self.nic_up(index)
            self.run(f"nic-setup {nic.name}")

    def load(self):
        """Loads netmap.ko and the NICs' driver (the patched one, if there is one in build/)."""
        self.run(f"modprobe netmap && modprobe {self.driver}")

    def dmesg(self):
        """The kernel log from the boot until now."""
        if self.alive():
            self.log += self.run("dmesg -c").out
        return self.log

    def check_log(self, allow=()):
        """Fails on a kernel log line that tells of a fault. Each line is judged once."""
        try:
            lines = self.dmesg().splitlines()[self.judged:]
            self.judged += len(lines)
        except VMError:
            lines = self.console().splitlines()
        bad = [line for line in lines if BAD_LOG.search(line) and not HARMLESS_LOG.search(line)
               and not any(re.search(pattern, line) for pattern in allow)]
        if bad:
            (self.dir / "dmesg.log").write_text(self.log)
            raise AssertionError("the kernel log tells of a fault:\n" + "\n".join(lines[-80:]))
        if not self.alive():
            raise AssertionError("the machine died; console:\n" + self.console()[-4000:])
        self.check_models()

    def check_models(self):
        """Fails if a modelled NIC has seen the driver do what it must not."""
        for nic in self.nics:
            if nic.model:
                lines = nic.model.complained()
                assert not lines, f"the model of {nic.name} complains:\n" + "\n".join(lines)
                assert nic.model.alive(), f"the model of {nic.name} died:\n" + nic.model.errors.read_text()

    def cpu_time(self):
        """Host CPU seconds of the vCPU threads until now."""
        ticks = 0
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            comm, _, rest = Path(f"/proc/{self.process.pid}/task/{task}/stat").read_text().rpartition(")")
            if "(CPU" in comm:
                ticks += sum(int(field) for field in rest.split()[11:13])
        return ticks / os.sysconf("SC_CLK_TCK")

    def kill(self):
        """Ends the machine at once, as a power failure does."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.channel is not None:
            self.channel.close()
        for model in self.models():
            model.end()
        for nic in self.nics:
            host(f"ip link del {nic.tap}", check=False)
        for subnet in self.subnets:
            VM._subnets.discard(subnet)
        self.nics, self.subnets = [], []

    def close(self):
        """Ends the machine and keeps its logs."""
        if self.alive():
            try:
                self.dmesg()
            except VMError:
                pass
        (self.dir / "dmesg.log").write_text(self.log)
        self.kill()
        (self.dir / "initramfs").unlink(missing_ok=True)
        self.lock.close()


def quote(text):
    """A word for the guest's shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def accelerator():
    """"kvm" where it runs the stock kernel (tried once per host kernel and kept in the cache), else "tcg"."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    known = CACHE / f"accelerator-{os.uname().release}"
    if not known.exists():
        try:
            VM(name="probe", nics=0, accel="kvm", boot_timeout=20).close()
            known.write_text("kvm")
        except VMError:
            known.write_text("tcg")
    return known.read_text().strip()
