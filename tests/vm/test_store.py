# SPDX-License-Identifier: GPL-2.0
"""phttpd's stores: nothing that was acknowledged is lost, and what goes wrong is said."""

import contextlib
import os
import re
import shutil
import signal
import socket
import time

import pytest

import vm as vmlib
from accounting import buffers
from storing import MODES, NMSTORE, PORT, answers, ask, connect, delivered, nmstore, nmstore_command, serving, start, url
from upheaval import stop

# Objects that are stored over 50 connections; `make test-crash` takes 100,000.
OBJECTS = int(os.environ.get("STORE_OBJECTS", "2000"))
# MB of a store that has room for them.
SIZE = max(24, OBJECTS * 5 // 1000)

# Persistent memory comes in pieces of 128 MiB.
VM_OPTIONS = {"pmem": max(384, -(-SIZE * 5 // 4 // 128) * 128), "mem": 768, "programs": [shutil.which("xfs_io")]}


@pytest.fixture(autouse=True)
def mounted(vm):
    """Persistent memory with an empty file system, mounted with DAX."""
    vm.run("grep -q /mnt/pm /proc/mounts || pmem-mount mkfs")
    yield
    vm.run("rm -rf /mnt/pm/*; umount /mnt/pm")


@pytest.mark.parametrize("mode", MODES)
def test_objects_survive_a_restart(vm, mode, tmp_path):
    journal = tmp_path / "journal"
    options = "--again 10 --delete 5" if not MODES[mode][1] else ""
    with serving(vm, mode, f"-L {SIZE}"):
        nmstore(vm, mode, journal, "put", options=f"-n {OBJECTS} {options}", timeout=400)
        nmstore(vm, mode, journal, "verify", timeout=400)
    with serving(vm, mode) as job:
        out = nmstore(vm, mode, journal, "verify", options=f"--least {OBJECTS}", timeout=400)
        assert re.search(r"phttpd: /mnt/pm/\S+: .*\d+ objects", job.output()), job.output()
    assert "verify ok" in out


def test_a_dax_store_is_flushed_by_the_cpu_alone(vm):
    with serving(vm, "zero-copy-log", "-L 24") as job:
        assert re.search(r"mapped, (clwb|clflushopt|clflush)\b", job.output()), job.output()
    with serving(vm, "epoll-log", "-L 24 -D", folder="/mnt/pm/synced") as job:
        assert "fdatasync" in job.output(), job.output()
    with serving(vm, "epoll-log", "-L 24 -F", folder="/mnt/pm/unflushed") as job:
        assert "mapped, no flush" in job.output(), job.output()


def faults(job):
    """Page faults of a process until now."""
    return int(job.vm.run(f"cat /proc/{job.pid}/stat").out.rpartition(")")[2].split()[7])


def test_requests_do_not_wait_for_page_faults(vm, tmp_path):
    with serving(vm, "stack-log", "-L 24") as job:
        # Its heap and tables.
        nmstore(vm, "stack-log", tmp_path / "first", "put", options="-n 100 -m 1024")
        before = faults(job)
        nmstore(vm, "stack-log", tmp_path / "then", "put", options="-n 4000 -f 100 -m 1024")
        # Were the log's pages not there yet: one for each 4 KiB, 500 in all.
        assert faults(job) - before < 100


@pytest.mark.parametrize("mode", ["zero-copy-log", "epoll-keys", "written-log"])
def test_without_persistent_memory_a_tmpfs_does(vm, mode, tmp_path):
    journal = tmp_path / "journal"
    folder = f"/dev/shm/{mode}"
    try:
        with serving(vm, mode, "-L 24", folder):
            nmstore(vm, mode, journal, "put", options="-n 1000")
        with serving(vm, mode, folder=folder):
            nmstore(vm, mode, journal, "verify", options="--least 1000")
    finally:
        vm.run(f"rm -rf {folder}")


@pytest.mark.parametrize("mode", ["zero-copy-keys", "epoll-keys"])
def test_large_bodies_of_many_segments_are_one_object(vm, mode, tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "sent").write_bytes(data)
    curl = "curl -s -f -m 60 -H Expect:"
    with serving(vm, mode, "-L 48"):
        vmlib.host(f"{curl} -T {tmp_path}/sent {url(vm, '/plain')}")
        vmlib.host(f"{curl} -H 'Transfer-Encoding: chunked' -T {tmp_path}/sent {url(vm, '/chunked')}")
    with serving(vm, mode):
        for path in ("/plain", "/chunked"):
            vmlib.host(f"{curl} -o {tmp_path}/got {url(vm, path)}")
            assert (tmp_path / "got").read_bytes() == data, path
            head = vmlib.host(f"{curl} -I {url(vm, path)}").out
            assert "Content-Length: 3000000" in head, head
        vmlib.host(f"{curl} -X DELETE {url(vm, '/plain')}")
        status = vmlib.host(f"curl -s -m 10 -o /dev/null -w '%{{http_code}}' {url(vm, '/plain')}").out
        assert status == "404"


@pytest.mark.parametrize("mode", ["zero-copy-log", "zero-copy-keys", "epoll-log", "epoll-keys"])
def test_a_full_store_says_507_and_serves_on(vm, mode, tmp_path):
    journal = tmp_path / "journal"
    with serving(vm, mode, "-L 12" if "zero" in mode else "-L 1"):
        out = nmstore(vm, mode, journal, "put", options="-n 3000 --full")
        refused = int(re.search(r"refused=(\d+)", out)[1])
        assert refused > 100, out
        out = nmstore(vm, mode, journal, "verify")
        # What is given up makes room.
        if MODES[mode][1]:
            last = max(int(line.split()[4]) for line in journal.read_text().splitlines() if "yes" in line)
            vmlib.host(f"curl -s -f -m 10 -X DELETE {url(vm, f'/{last}')}")
        else:
            for number in range(100):
                vmlib.host(f"curl -s -m 10 -o /dev/null -X DELETE {url(vm, f'/object/{number}')}")
        fresh = tmp_path / "fresh"
        nmstore(vm, mode, fresh, "put", options="-n 50 -f 100000 -m 1000")
        nmstore(vm, mode, fresh, "verify", options="--least 50 -m 1000")


def test_the_oldest_records_make_room_for_ever(vm, tmp_path):
    journal = tmp_path / "journal"
    mode = "zero-copy-log"
    with serving(vm, mode, "-L 12 --recycle"):
        # Several times what there is room for.
        out = nmstore(vm, mode, journal, "put", options="-n 6000 -m 1400")
        assert "acknowledged=6000 refused=0" in out, out
        last = max(int(line.split()[4]) for line in journal.read_text().splitlines())
        for number, wanted in ((1, "404"), (last, "200")):
            status = vmlib.host(f"curl -s -m 10 -o /dev/null -w '%{{http_code}}' {url(vm, f'/{number}')}").out
            assert status == wanted, number


def test_values_that_are_sent_are_not_overwritten_when_they_go(vm, tmp_path):
    """Readers of large values, beside others that replace and delete them: each answer is one whole value."""
    mode = "zero-copy-keys"
    with serving(vm, mode, "-L 24"):
        writer = nmstore_command(vm, mode, tmp_path / "writer", "put",
                                 options="-n 1500 -m 20000 -c 8 --again 40 --delete 30 --full")
        # One key, two values: a reader that gets anything else has met a buffer in use.
        (tmp_path / "a").write_bytes(b"a" * 40000)
        (tmp_path / "b").write_bytes(b"b" * 40000)
        vmlib.host(f"""
            set -e
            {writer} & writer=$!
            seen=0
            while kill -0 $writer 2>/dev/null; do
                for which in a b; do
                    curl -s -f -m 20 -o /dev/null -H Expect: -T {tmp_path}/$which {url(vm, '/both')} || exit 1
                    curl -s -f -m 20 -o {tmp_path}/got {url(vm, '/both')} & reader=$!
                    curl -s -m 20 -o /dev/null -X DELETE {url(vm, '/both')}
                    if wait $reader; then cmp {tmp_path}/got {tmp_path}/$which; seen=$((seen+1)); fi
                done
            done
            wait $writer
            [ $seen -gt 0 ]""", timeout=150)
        nmstore(vm, mode, tmp_path / "writer", "verify", options="-m 20000")


@pytest.mark.parametrize("mode", ["epoll-log", "zero-copy-log", "zero-copy-keys"])
def test_threads_have_a_log_each_and_share_a_map(vm, mode, tmp_path):
    """Also those whose packet buffers are in one pool; killed, they are recovered."""
    journal = tmp_path / "journal"
    job = start(vm, mode, "-L 40 -p 3")
    again = "" if MODES[mode][1] else "--again 30 --delete 10"
    nmstore(vm, mode, journal, "put", options=f"-n 600 {again}")
    nmstore(vm, mode, journal, "verify", options="--least 600")
    job.kill(9)
    assert job.wait(20) == 137
    files = ["log.0", "log.1", "log.2"] if MODES[mode][1] else ["map"]
    assert vm.run(f"cd /mnt/pm/{mode} && ls | grep -v pool").out.split() == files
    if not MODES[mode][1]:
        assert "fewer threads" in refused(vm, f"-i eth0 -m -x -B -d /mnt/pm/{mode} -p 4")
    with serving(vm, mode, "-p 3"):
        nmstore(vm, mode, journal, "verify", options="--least 600")


@pytest.mark.parametrize("threads", [1, 3])
def test_the_kernel_has_enough_buffers_to_copy_nothing(vm, threads):
    """However many of them the store keeps."""
    with serving(vm, "zero-copy-log", f"-L {12 * threads} -p {threads} --recycle"), contextlib.ExitStack() as stack:
        for _ in range(10):
            connection = stack.enter_context(connect(vm))
            connection.sendall(ask(*[("POST", "/", os.urandom(1000))] * 20))
            assert [status for status, _ in answers(connection, 20)] == [200] * 20
        listing = vm.run("cat /sys/kernel/debug/netmap/ports").out
    assert "nic 1 eth0 copied 0\n" in listing, listing


@pytest.mark.parametrize("mode", ["zero-copy-keys", "stack-keys"])
def test_zero_copy_answers_from_the_buffers_that_the_store_keeps(vm, mode):
    """TCP holds those of the ring until the peer has taken them: of heads alone, or also of what was copied."""
    bodies = [os.urandom(20000) for _ in range(20)]
    with serving(vm, mode, "-L 24"), connect(vm) as reader:
        for number, body in enumerate(bodies):
            reader.sendall(ask(("PUT", f"/{number}", body)))
        assert [status for status, _ in answers(reader, 20)] == [200] * 20
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.sendall(ask(*[("GET", f"/{number}", b"") for number in range(20)]))
        # Until the connection is full.
        time.sleep(2)
        lent = sum(pool["lent"] for pool in buffers(vm))
        assert [*answers(reader, 20)] == [(200, body) for body in bodies]
    assert (lent <= 20) if mode == "zero-copy-keys" else (lent > 40), lent


def test_what_is_asked_for_where_it_comes_is_answered(vm):
    """A request for what came before it in the same segment, whose buffer is not yet among those that are kept."""
    with serving(vm, "zero-copy-keys", "-L 24"), connect(vm) as connection:
        for size in (100, 500, 1000):
            body = os.urandom(size)
            connection.sendall(ask(("PUT", "/same", body), ("GET", "/same", b""), ("GET", "/none", b"")))
            assert [*answers(connection, 3)][1:] == [(200, body), (404, b"404 Not Found\n")], size
        connection.sendall(ask(("PUT", "/last", body), ("GET", "/last", b"")))
        assert [*answers(connection, 2)][1] == (200, body)
        connection.sendall(ask(("PUT", "/gone", body), ("DELETE", "/gone", b""), ("GET", "/gone", b"")))
        assert [status for status, _ in answers(connection, 3)] == [200, 200, 404]


@pytest.mark.parametrize("each", ["", "--each"])
def test_a_buffer_that_is_sent_and_given_up_in_one_round_is_not_used_in_it(vm, each):
    mode = "zero-copy-keys"
    with serving(vm, mode, f"-L 24 {each}") as job, contextlib.ExitStack() as stack:
        reader, *writers = [stack.enter_context(connect(vm)) for _ in range(9)]
        for turn in range(5):
            old = bytes([turn]) * 1000
            reader.sendall(ask(("PUT", "/old", old)))
            assert [*answers(reader, 1)][0][0] == 200
            # All of it comes in one round.
            vm.run(f"kill -STOP {job.pid}")
            reader.sendall(ask(("GET", "/old", b""), ("DELETE", "/old", b"")))
            delivered(reader)
            for number, writer in enumerate(writers):
                writer.sendall(ask(("PUT", f"/new{number}", b"n" * 1000)))
                delivered(writer)
            vm.run(f"kill -CONT {job.pid}")
            assert [*answers(reader, 2)][0] == (200, old)
            for writer in writers:
                assert [*answers(writer, 1)][0][0] == 200


def test_a_server_that_dies_while_it_makes_its_files_makes_them_again(vm, tmp_path):
    for mode, blocks in [("zero-copy-log", 5000), ("stack-keys", 5000), ("written-log", 0)]:
        journal = tmp_path / mode
        vm.run(f"mkdir -p /mnt/pm/{mode}")
        # The system kills it when it writes more than that to a file.
        server = f"phttpd -P {PORT} -d /mnt/pm/{mode} {MODES[mode][0]} -L 24"
        status, out = vm.run(f"ulimit -f {blocks}; timeout 20 {server}", check=False)
        assert status == 128 + signal.SIGXFSZ, out
        with serving(vm, mode, "-L 24") as job:
            assert "interrupted" in job.output()
            nmstore(vm, mode, journal, "put", options="-n 100")
        with serving(vm, mode) as job:
            assert "interrupted" not in job.output()
            nmstore(vm, mode, journal, "verify", options="--least 100")


def power_fails(vm, job):
    """The file system takes nothing more, a process ends, and it is mounted again with what had reached the journal until then,
    which from now on is written when somebody waits for it only."""
    vm.run("xfs_io -x -c shutdown /mnt/pm")
    job.kill(signal.SIGKILL)
    assert job.wait() == 137
    # One under strace ends after it.
    vm.run("while pidof phttpd >/dev/null; do usleep 20000; done")
    vm.run("umount /mnt/pm && pmem-mount && mount -o remount,commit=300 /mnt/pm")


@pytest.mark.parametrize("mode", ["zero-copy-log", "zero-copy-keys", "epoll-keys", "written-log"])
def test_a_new_store_is_there_when_the_power_fails_before_the_journal_is_written(vm, mode, tmp_path):
    vm.run(f"mount -o remount,commit=300 /mnt/pm; mkdir /mnt/pm/{mode}; sync")
    for number, options in enumerate(("-L 24", "--format -L 32")):
        journal = tmp_path / f"journal-{number}"
        job = start(vm, mode, options)
        nmstore(vm, mode, journal, "put", options="-n 100")
        power_fails(vm, job)
        with serving(vm, mode) as job:
            assert "interrupted" not in job.output()
            nmstore(vm, mode, journal, "verify", options="--least 100")


@pytest.mark.parametrize("mode", ["zero-copy-log", "epoll-keys", "written-log"])
def test_power_fails_while_a_store_is_made(vm, mode, tmp_path):
    vm.run("mount -o remount,commit=300 /mnt/pm")
    points = 0
    for call in ("fsync", "fdatasync", "unlink", "fallocate", "ftruncate"):
        for number in range(1, 20):
            folder = f"/mnt/pm/{call}-{number}"
            vm.run(f"mkdir {folder}; sync")
            job = vm.spawn(f"exec strace -f -qq --kill-on-exit -o /dev/null -e trace={call} -e inject={call}:signal=KILL:when={number} "
                           f"phttpd -P {PORT} -d {folder} {MODES[mode][0]} -L 16")
            vm.run(f"n=0; until grep -q 'port {PORT}' /run/job{job.number}.log || ! kill -0 {job.pid}; "
                   f"do usleep 20000; n=$((n+1)); [ $n -lt 500 ]; done")
            survived = job.poll() is None
            power_fails(vm, job)
            if survived:
                break
            points += 1
            journal = tmp_path / f"{call}-{number}"
            with serving(vm, mode, "-L 16", folder=folder):
                nmstore(vm, mode, journal, "put", options="-n 20")
                nmstore(vm, mode, journal, "verify", options="--least 20")
            vm.run(f"rm -r {folder}")
    assert points > 4, points


def refused(vm, options):
    """What phttpd says when it does not start."""
    status, out = vm.run(f"timeout 20 phttpd -P {PORT} {options}", check=False)
    assert status == 1, out
    return out


def test_files_that_cannot_be_used_are_told(vm, tmp_path):
    mode, folder = "zero-copy-log", "/mnt/pm/zero-copy-log"
    options = f"-d {folder} {MODES[mode][0]}"
    journal = tmp_path / "journal"
    job = start(vm, mode, "-L 16")
    nmstore(vm, mode, journal, "put", options="-n 500")
    # In use, by the lock and by its pages.
    assert "in use" in refused(vm, options)
    assert "in use" in refused(vm, f"-d {folder}/log.0 -m")
    stop(job)
    kept = vm.run(f"sha256sum {folder}/*").out
    for more, words in [("-L 32", "-L"), ("-p 2", "2 thread"), ("-B", "--format")]:
        assert words in refused(vm, f"{options} {more}"), more
    assert "copy" in refused(vm, f"-d {folder} -m")
    # Whatever was refused has changed nothing.
    assert vm.run(f"sha256sum {folder}/*").out == kept
    for name, damage, words in [
        ("log.0", "truncate -s 100000", "bytes of"),
        ("log.0", "truncate -s 0", "log.0"),
        ("pool", "truncate -s 1000000", "pool"),
        ("pool", "dd if=/dev/zero bs=64 count=1 conv=notrunc of=", "pool"),
        ("log.0", "dd if=/dev/zero bs=64 count=1 conv=notrunc of=", "not a store"),
    ]:
        vm.run(f"cp {folder}/{name} /tmp/kept && {damage}{'' if damage.endswith('=') else ' '}{folder}/{name}")
        assert words in refused(vm, options), (name, damage)
        vm.run(f"cat /tmp/kept >{folder}/{name}")
    vm.run("rm /tmp/kept")
    with serving(vm, mode):
        nmstore(vm, mode, journal, "verify", options="--least 500")
    # A log of another pool.
    with serving(vm, mode, "-L 16", folder="/mnt/pm/other"):
        pass
    vm.run(f"cp /mnt/pm/other/log.0 {folder}/log.0")
    assert "pool" in refused(vm, options)


def test_no_space_is_told(vm):
    for options in ("", "-m", "-i eth0 -m -x"):
        assert "No space left" in refused(vm, f"-d /mnt/pm/large -L 2000 {options}")
        vm.run("rm -f /mnt/pm/large*")
    # Nor is what was there lost, then.
    folder = "/mnt/pm/stays"
    for mode in ("zero-copy-log", "epoll-keys", "written-log"):
        with serving(vm, mode, "-L 16", folder=folder):
            pass
        kept = vm.run(f"sha256sum {folder}/*").out
        assert "No space left" in refused(vm, f"-d {folder} --format -L 2000 {MODES[mode][0]}")
        assert vm.run(f"sha256sum {folder}/*").out == kept
        vm.run(f"rm -r {folder}")
    assert os.access(NMSTORE, os.X_OK)
