# SPDX-License-Identifier: GPL-2.0
"""The modules: what `make install` lays where, what modinfo says of it, and what is said when a kernel's source is not the known one."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import vm as vmlib

DRIVERS = ("e1000", "i40e", "ixgbe")
SOURCES = "drivers/net/ethernet/intel"


def kept(command, **options):
    """A command's end, with its output as text."""
    return subprocess.run(command, cwd=vmlib.TOP, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)


def test_installed_modules_come_before_the_distributions_and_say_what_they_are(tmp_path):
    release = vmlib.kernel_folder().name
    modules = tmp_path / "lib/modules" / release
    distribution = vmlib.kernel_folder() / "root/lib/modules" / release
    # What these drivers are among, and the lists that depmod reads.
    shutil.copytree(distribution / "kernel" / SOURCES, modules / "kernel" / SOURCES)
    for name in distribution.glob("modules.[ob]*"):
        shutil.copy(name, modules)
    done = kept(["make", "install", f"RUNNING={release}", f"DESTDIR={tmp_path}"])
    assert done.returncode == 0, done.stdout

    def said(field, driver):
        return kept(["modinfo", "-b", tmp_path, "-k", release, "-F", field, driver]).stdout.strip()

    for driver in DRIVERS:
        assert said("filename", driver).endswith(f"/updates/{driver}.ko")
        assert said("version", driver) == f"{release}-netmap"
        assert said("vermagic", driver).startswith(release)
    # Back to the distribution's, as README.md says.
    for driver in DRIVERS:
        (modules / f"updates/{driver}.ko").unlink()
    kept(["depmod", "-b", tmp_path, release])
    for driver in DRIVERS:
        assert f"/kernel/{SOURCES}/{driver}/" in said("filename", driver)
        assert said("version", driver) == ""


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_hunk_that_does_not_apply_is_named(tmp_path, driver):
    source = tmp_path / "tree" / SOURCES / driver
    shutil.copytree(vmlib.kernel_folder() / "tree" / SOURCES / driver, source)
    # As if an update had changed the outermost line around a hunk, of which patch by itself takes no notice.
    name = f"{driver}_main.c"
    patch = (vmlib.TOP / f"drivers/{driver}/{driver}.patch").read_text()
    edge = re.search(r"^@@.*\n (.*\w.*)$", patch.partition(f"+++ b/{SOURCES}/{driver}/{name}\n")[2], re.MULTILINE)[1]
    text = (source / name).read_text()
    assert edge in text
    (source / name).write_text(text.replace(edge, edge + " /* changed */"))
    release = f"damaged-{os.getpid()}"
    try:
        done = kept(["scripts/modules", tmp_path, release, driver])
    finally:
        shutil.rmtree(Path(vmlib.TOP / "build/kernel") / release)
    assert done.returncode != 0
    assert re.search(r"Hunk #\d+ FAILED at \d+", done.stdout), done.stdout
    # The hunk itself, and the file.
    assert re.search(rf"^--- {re.escape(name)}|^--- .*/{re.escape(name)}", done.stdout, re.MULTILINE), done.stdout
    assert f"drivers/{driver}/{driver}.patch does not apply to {driver} of Linux {release}" in done.stdout
