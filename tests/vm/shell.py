# SPDX-License-Identifier: GPL-2.0
"""scripts/vm: a virtual machine for developers, see its --help."""

import argparse
import sys

import nicmodel
import vm

parser = argparse.ArgumentParser(
    prog="scripts/vm",
    description="Boots the stock kernel with the modules built, eth0 up and a tap to it (10.77.0.1 here, 10.77.0.2 there).",
)
parser.add_argument("run", nargs="*", metavar="COMMAND",
                    help="run this in the guest and end; without it: a shell (Ctrl-D ends, Ctrl-A C is QEMU's monitor)")
parser.add_argument("--bare", action="store_true", help="load no module and set up no NIC")
parser.add_argument("--host", metavar="COMMAND", help="run this beside it, on the client's side, instead of in the guest")
parser.add_argument("--timeout", type=int, default=600, help="seconds that COMMAND may take (default 600)")
parser.add_argument("--smp", type=int, default=1, help="vCPUs (default 1)")
parser.add_argument("--mem", type=int, default=1024, help="MiB of memory (default 1024)")
parser.add_argument("--pmem", type=int, default=0, metavar="MIB", help="so much persistent memory, an ext4 with DAX on /mnt/pm")
parser.add_argument("--nics", type=int, default=1, help="NICs, each on a tap of its own (default 1)")
parser.add_argument("--nic", default="e1000", choices=["e1000", *nicmodel.CARDS], help="kind of NIC (default e1000)")
parser.add_argument("--stock", action="store_true", help="the kernel package's driver, not the patched one")
parser.add_argument("--append", default="", help="more kernel arguments")
options = parser.parse_args()

command = " ".join(options.run)
machine = vm.VM(name="shell", smp=options.smp, mem=options.mem, nics=options.nics, nic=options.nic,
                pmem=options.pmem, append=options.append, stock=[nicmodel.driver_of(options.nic)] if options.stock else [],
                shell=not command and not options.host)
status = 0
with machine:
    if not options.bare:
        machine.load()
        for index in range(options.nics):
            machine.nic_up(index)
    if options.pmem:
        machine.run("pmem-mount mkfs")
    if command:
        status, out = machine.run(command, timeout=options.timeout, check=False)
        print(out, end="")
    if options.host:
        status, out = vm.host(options.host, check=False, timeout=options.timeout)
        print(out, end="")
    if command or options.host:
        machine.check_log()
    else:
        machine.process.wait()
sys.exit(status)
