# SPDX-License-Identifier: GPL-2.0
"""The harness itself: what the other tests rely on."""

import itertools

import pytest

import vm as vmlib


def test_status_and_output_come_back(vm):
    assert vm.run("echo out; echo err >&2; exit 3", check=False) == (3, "out\nerr\n")


def test_output_of_any_bytes_and_size(vm):
    data = vm.run_bytes("head -c 300000 /dev/urandom | tee /tmp/random")[1]
    assert len(data) == 300000 and data == vm.get("/tmp/random")


def test_file_goes_in_unchanged(vm):
    data = bytes(range(256)) * 100
    vm.put(data, "/tmp/a file")
    assert vm.get("/tmp/a file") == data


def test_command_that_hangs_is_ended(vm):
    assert vm.run("sleep 100", timeout=1, check=False).rc == 143
    assert vm.run("echo on").out == "on\n"


def test_background_job(vm):
    job = vm.spawn("echo begun; exec sleep 100")
    assert job.poll() is None and job.output() == "begun\n"
    assert vm.run(f"cat /proc/{job.pid}/comm").out == "sleep\n"
    job.kill(9)
    assert job.wait() == 137


def test_client_reaches_the_guest(vm):
    vmlib.host(f"ping -c 1 {vm.nics[0].guest} && ping -c 1 {vm.nics[0].guest6}")


@pytest.mark.log(allow=["BUG: planted"])
def test_fault_in_the_kernel_log_is_seen(vm):
    vm.run("echo '<3>BUG: planted' >/dev/kmsg")
    with pytest.raises(AssertionError, match="BUG: planted"):
        vm.check_log()


def test_log_gate_knows_faults_and_boot_messages():
    for line in ("BUG: kernel NULL pointer dereference", "WARNING: CPU: 0 PID: 1 at net/core/dev.c", "Oops: 0000 [#1]",
                 "rcu: INFO: rcu_preempt detected stalls", "list_add corruption. prev->next", "refcount_t: underflow",
                 "BUG: Bad page state in process x", "WARNING: possible recursive locking detected"):
        assert vmlib.BAD_LOG.search(line), line
    for line in ("Kernel command line: panic=-1", "rcu: Hierarchical RCU implementation.", "e1000: eth0 NIC Link is Up"):
        assert not vmlib.BAD_LOG.search(line), line


def test_runs_side_by_side_have_folders_of_their_own(monkeypatch):
    monkeypatch.setattr(vmlib.VM, "numbers", itertools.count())
    ours, lock = vmlib.folder("side-by-side")
    with lock:
        # Another run counts from 0, too.
        monkeypatch.setattr(vmlib.VM, "numbers", itertools.count())
        theirs, other = vmlib.folder("side-by-side")
        other.close()
    assert theirs != ours


@pytest.mark.parametrize("said, starts", [("Oops: int3: 0000 [#1] SMP NOPTI", 2), ("Oops: 0000 [#1] SMP NOPTI", 1)])
def test_machine_that_the_emulator_killed_is_started_again(monkeypatch, said, starts):
    start = vmlib.VM._start
    seen = []

    def die_first(machine, *options):
        start(machine, *options)
        seen.append(machine.process.pid)
        if len(seen) == 1:
            (machine.dir / "console.log").write_text(said)
            raise vmlib.VMError("the machine died")

    monkeypatch.setattr(vmlib.VM, "_start", die_first)
    monkeypatch.setattr(vmlib, "accelerator", lambda: "tcg")
    if starts == 2:
        with pytest.warns(UserWarning, match="started again"):
            machine = vmlib.VM(name="again")
        with machine:
            assert machine.run("echo on").out == "on\n"
    else:
        with pytest.raises(vmlib.VMError, match="died"):
            vmlib.VM(name="again")
    assert len(seen) == starts
