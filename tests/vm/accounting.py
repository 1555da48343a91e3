# SPDX-License-Identifier: GPL-2.0
"""Buffer accounting of netmap.ko as tests see it: the files in /sys/kernel/debug/netmap."""

import re
import time

FOLDER = "/sys/kernel/debug/netmap"


def buffers(machine):
    """Buffers per state, one dictionary per pool, in a stable order; empty without the module."""
    listing = machine.run(f"cat {FOLDER}/pools 2>/dev/null", check=False).out
    pools = []
    for line in re.findall(r"^ *buffers (total .*)$", listing, re.MULTILINE):
        words = line.split()
        pools.append({state: int(count) for state, count in zip(words[::2], words[1::2])})
    for pool in pools:
        owned = sum(count for state, count in pool.items() if state != "total")
        assert owned == pool["total"], f"buffers do not add up: {pool}"
    return sorted(pools, key=lambda pool: sorted(pool.items()))


def settled(machine, before, timeout=30):
    """Waits until the buffers are where they were; returns where they are in the end.

    Sent data is lent until the peer has acknowledged it, so a test that ends may have to wait a little.
    """
    end = time.monotonic() + timeout
    while (now := buffers(machine)) != before and time.monotonic() < end:
        time.sleep(0.5)
    return now
