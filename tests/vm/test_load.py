# SPDX-License-Identifier: GPL-2.0
"""Loading and unloading on the stock kernel."""

from upheaval import reachable


def test_kernel_is_the_archives(vm):
    version = vm.run("cat /proc/version").out
    assert "Debian" in version and vm.release in version


def test_module_loads_and_unloads_20_times(vm):
    for _ in range(20):
        vm.run("rmmod netmap && modprobe netmap")
    assert "netmap " in vm.run("lsmod").out


def test_patched_driver_works_without_netmap(vm):
    vm.run("rmmod netmap")
    try:
        vm.run(f"ping -c 3 -i 0.2 {vm.nics[0].host}")
        vm.run(f"ping -6 -c 3 -i 0.2 {vm.nics[0].host6}")
    finally:
        vm.run("modprobe netmap")


def test_patched_driver_unloads_and_loads(vm):
    for _ in range(3):
        vm.run(f"rmmod {vm.driver} && modprobe {vm.driver}")
    vm.nics_ready()
    # The link may go once more after it has come.
    reachable(vm)
    vm.run(f"ping -c 3 -i 0.2 {vm.nics[0].host}")
