# SPDX-License-Identifier: GPL-2.0
"""Buffer accounting of netmap.ko as tests see it."""


def buffers(machine):
    """Buffers per state of each port and in all, as the module reports them; what is not there does not count.

    Every test that ends must find the numbers with which it began.
    """
    listing = machine.run("cat /sys/kernel/debug/netmap/buffers 2>/dev/null", check=False)
    return listing.out
