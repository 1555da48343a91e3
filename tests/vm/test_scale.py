# SPDX-License-Identifier: GPL-2.0
"""Ten thousand connections on one stack port."""

from phttpd import nmload, registered, serving

VM_OPTIONS = dict(mem=1536)


def test_10000_connections_are_held_and_used(vm):
    vm.run("echo 16384 >/proc/sys/net/core/somaxconn; echo 16384 >/proc/sys/net/ipv4/tcp_max_syn_backlog")
    with serving(vm):
        out = nmload(vm.nics[0], "hold -c 10000 -i 2 -e 10", timeout=100)
        assert "hold ok: connections=10000" in out, out
        # They are closed all at once; the server goes on.
        nmload(vm.nics[0], "echo -n 5000000 -c 10")
        assert registered(vm) == 0
