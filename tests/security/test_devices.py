"""Devices: those that are given work, none can be made, and the host's nodes cannot be changed from inside."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import pylxc

PLACES = ("/", "/dev", "/dev/shm", "/tmp", "/bind", "/t")
MAKE = "for d in $PLACES; do mknod $d/mine c 1 5 || echo no mknod; head -c 1 $d/mine | wc -c; done"


def everywhere(bind: Path) -> dict[str, object]:
    """Return the options of a container that has all kinds of places to make a node in."""
    return {"volumes": {bind: "/bind"}, "tmpfs": ["/t"], "env": {"PLACES": " ".join(PLACES)}}


def test_nodes_that_a_containers_root_makes_open_nothing(box, tmp_path):
    assert box.sh(MAKE, **everywhere(tmp_path)).text == "no mknod\n0\n" * len(PLACES)


@pytest.mark.root
def test_nodes_that_it_can_make_open_nothing_either(box, tmp_path):
    options = {**everywhere(tmp_path), "userns": "host"}
    result = box.sh(MAKE, **options)
    assert result.text == "0\n" * len(PLACES)
    assert result.stderr.count(b"Permission denied") == len(PLACES)
    # In an exec as well; and on the host itself such a node does open: it bites.
    with box.start("sleep", "100", **options) as container:
        assert container.exec(["sh", "-c", "mknod /x c 1 5; head -c 1 /x | wc -c"]).text == "0\n"
    with (tmp_path / "mine").open("rb") as mine:
        assert mine.read(1) == b"\0"
    (tmp_path / "mine").unlink()


@pytest.mark.root
def test_a_node_in_the_image_opens_nothing(box, busybox_root, tmp_path):
    tree = tmp_path / "tree"
    subprocess.run(["cp", "-a", busybox_root, tree], check=True)
    os.mknod(tree / "zero", 0o20666, os.makedev(1, 5))
    image = pylxc.Image.from_directory(tree, engine=box.engine)
    result = box.sh("head -c 1 /zero", image=image, check=False)
    assert (result.stdout, b"Permission denied" in result.stderr) == (b"", True)


@pytest.mark.parametrize("name", ["null", "zero", "full", "random", "urandom", "tty"])
def test_the_hosts_nodes_cannot_be_changed(box, name):
    """Their inodes are the host's: a container's root must not close /dev/null to the rest of the machine."""
    path = Path("/dev", name)
    before = path.stat()
    script = f"chmod 000 /dev/{name}; chown 1:1 /dev/{name}; touch -t 200101010000 /dev/{name}; rm -f /dev/{name}; true"
    box.sh(script)
    box.sh(script, devices=[f"/dev/{name}:/dev/again"])
    box.sh(script.replace(f"/dev/{name}", "/dev/again"), devices=[f"/dev/{name}:/dev/again"])
    after = path.stat()
    assert [getattr(after, key) for key in ("st_mode", "st_uid", "st_gid", "st_ino", "st_ctime_ns")] == [
        getattr(before, key) for key in ("st_mode", "st_uid", "st_gid", "st_ino", "st_ctime_ns")
    ]


def test_block_devices_of_the_host_are_not_there(box):
    assert box.sh("ls -l /dev | grep -c '^b'", check=False).text == "0\n"


def test_a_terminal_of_the_callers_is_not_the_payloads(box):
    """A session of its own, so no controlling terminal: nothing can be pushed into the caller's (TIOCSTI)."""
    result = box.sh("echo x > /dev/tty", check=False)
    assert b"No such device" in result.stderr


@pytest.mark.root
def test_a_device_for_its_owner_alone_can_be_given(box):
    """A node of the host belongs to nobody in the container's user namespace; what is given is a node like it."""
    path = Path("/dev/pylxc-test")
    os.mknod(path, 0o20660, os.makedev(1, 5))
    path.chmod(0o660)
    os.chown(path, 0, 6)
    try:
        look = "stat -c '%u %g %a' /dev/given; head -c 1 /dev/given | wc -c"
        for options in ({}, {"userns": "host"}):
            assert box.sh(look, devices=[f"{path}:/dev/given"], **options).text == "0 6 660\n1\n"
        denied = box.sh("head -c 1 /dev/given", devices=[f"{path}:/dev/given"], user="nobody", check=False)
        assert b"Permission denied" in denied.stderr
        changed = box.sh("chmod 666 /dev/given", devices=[f"{path}:/dev/given"], check=False)
        assert b"Read-only file system" in changed.stderr
    finally:
        path.unlink()
