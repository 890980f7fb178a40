"""Attack class 4: masked paths cannot be uncovered or led astray (CVE-2025-31133, CVE-2025-52565)."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from modes import IS_ROOT

import pylxc
from pylxc.runtime import isolation, kernelfiles

MASKED, READ_ONLY = kernelfiles.MASKED, kernelfiles.READ_ONLY


@contextmanager
def without(monkeypatch, name: str):
    """Start containers without the masked, or the read-only, paths."""
    monkeypatch.setattr(kernelfiles, name, ("/nothing/there",))
    kernelfiles.hidden_paths.cache_clear()
    try:
        yield
    finally:
        monkeypatch.undo()
        kernelfiles.hidden_paths.cache_clear()


def test_masked_paths_are_empty(cage, monkeypatch):
    there = [path for path in MASKED if os.path.exists(path)]
    assert there
    script = "; ".join(f"[ -d {path} ] && ls -A {path} || head -c 100 {path}" for path in there) + "; true"
    assert cage.sh(script).stdout == b""
    with cage.start("sleep", "100") as container:
        assert container.exec(["sh", "-c", script]).stdout == b""
    with without(monkeypatch, "MASKED"):
        assert cage.sh(script).stdout != b""


def test_proc_and_sys_are_read_only(cage, monkeypatch):
    there = [path for path in READ_ONLY if os.path.exists(path)]
    lines = cage.run("cat", "/proc/mounts").text.splitlines()
    options = {line.split()[1]: line.split()[3].split(",") for line in lines}
    for path in [*there, "/sys"]:
        assert "ro" in options[path], path
    before = Path("/proc/sys/kernel/core_pattern").read_bytes()
    for name in ("sys/kernel/core_pattern", "sys/vm/drop_caches", "sysrq-trigger", "irq/0/smp_affinity"):
        path = f"/proc/{name}"
        if os.path.exists(path):
            result = cage.sh(f"echo 1 > {path}", check=False)
            assert b"Read-only file system" in result.stderr, path
    assert Path("/proc/sys/kernel/core_pattern").read_bytes() == before
    assert not cage.sh("echo x > /sys/kernel/uevent_helper", check=False).ok


@pytest.mark.root
def test_it_bites_when_they_are_not_read_only(box, monkeypatch):
    """Root of the host's ids writes to the host's settings: here the value that they have."""
    setting = Path("/proc/sys/kernel/core_pipe_limit")
    before = setting.read_text()
    write = f"cat {setting} > /x && cat /x > {setting}"
    assert not box.sh(write, userns="host", check=False).ok
    with without(monkeypatch, "READ_ONLY"):
        assert box.sh(write, userns="host").ok
    assert setting.read_text() == before


def test_masks_cannot_be_taken_off(cage):
    attempts = ("umount /proc/keys", "umount /sys/firmware", "mount -t proc proc /tmp", "mount -o remount,rw /sys")
    for attempt in attempts:
        assert not cage.sh(attempt, check=False).ok
    if cage.mode == "host":  # it bites: with the right to mount, and no filter, one of them succeeds
        powers = {"cap_add": ["SYS_ADMIN"], "seccomp": "unconfined"}
        assert cage.sh(attempts[2], **powers).ok


def test_a_proc_that_a_volume_would_leave_unmasked(cage, canary, image_of, tmp_path, weaken):
    """A link in the image leads /proc through a directory that a volume covers, so the masks would miss it."""

    def change(tree: Path) -> None:
        (tree / "real/proc").mkdir(parents=True)
        (tree / "data").mkdir()
        (tree / "data/x").symlink_to("/real")
        (tree / "proc").symlink_to("data/x/proc")

    image, options = image_of(change), {"volumes": {tmp_path: "/data"}}
    look = "cat /real/proc/interrupts; echo over"
    with pytest.raises(pylxc.SpawnError) as caught:
        cage.sh(look, image=image, **options)
    assert (caught.value.stage, caught.value.errno) == ("mount", errno.ELOOP)
    with weaken("PLAIN_TARGET"):
        assert "CPU0" in cage.sh(look, image=image, **options).text  # what is masked, read


@pytest.mark.parametrize("name", ["null", "console", "zero", "tty"])
def test_nodes_of_the_image_are_not_used(cage, canary, image_of, name):
    """What covers a masked file is the host's /dev/null, never what the image, or a volume, has in its place."""

    def change(tree: Path) -> None:
        (tree / "dev").mkdir()
        (tree / "dev" / name).symlink_to(canary.secret)

    image = image_of(change)
    script = (
        f"echo x > /dev/null; echo x > /dev/{name}; cat /dev/{name} /proc/keys {canary.secret} </dev/null | head -c 64"
    )
    result = cage.sh(script, image=image, check=False, timeout=20)
    assert canary.text not in result.text
    volume = canary.place / "dev"
    volume.mkdir()
    (volume / name).symlink_to(canary.secret)
    assert cage.sh("head -c 64 /proc/keys", volumes={volume: "/dev"}).stdout == b""
    (volume / name).unlink()
    volume.rmdir()


def test_a_device_that_is_exchanged_after_it_was_looked_at(cage, canary, monkeypatch, weaken):
    """CVE-2025-31133: the path that named a device names something else by the time it is mounted."""
    node = canary.place / "node"
    original = isolation.add_devices

    def exchange(plan, spec) -> None:
        original(plan, spec)
        node.unlink()
        node.symlink_to(canary.secret)

    def attack():
        if IS_ROOT:
            os.mknod(node, 0o20666, os.makedev(1, 3))
            node.chmod(0o666)
        else:  # who cannot make a node names one by a link
            node.symlink_to("/dev/null")
        try:
            return cage.run("cat", "/dev/given", devices=[f"{node}:/dev/given"], check=False).text
        finally:
            node.unlink()

    assert attack() == ""
    monkeypatch.setattr(isolation, "add_devices", exchange)
    with pytest.raises(pylxc.SpawnError) as caught:
        attack()
    assert (caught.value.stage, caught.value.errno) == ("device", errno.ENODEV)
    with weaken("DEVICE"):
        # For a container with ids of its own a node is made anew, from numbers alone: nothing of the host's is mounted.
        assert attack() == ("" if cage.mode == "default" else canary.text)


def test_one_container_does_not_see_anothers_files(cage):
    with cage.start("sh", "-c", "echo secret > /secret; sleep 100") as container:
        container.wait_ready(command=["test", "-s", "/secret"], timeout=10)
        assert not cage.run("cat", "/secret", check=False).ok


def test_the_root_cannot_be_left_by_chroot(cage, canary):
    """The classic: a chroot in a chroot, then up and up."""
    up = "../" * 20
    script = (
        f"mkdir -p /jail/{up.replace('../', 'd/')}; chroot /jail true 2>/dev/null; cd {up}; cat .{canary.secret} 2>&1"
    )
    assert "No such file" in cage.sh(script, check=False).text


def test_the_hosts_name_clock_and_processes_are_out_of_reach(cage):
    before = os.uname().nodename
    with subprocess.Popen(["sleep", "100"]) as bystander:
        cage.sh("hostname attacked; kill -9 -1; date -s 2001-01-01; true", check=False)
        assert bystander.poll() is None
        bystander.kill()
    assert os.uname().nodename == before
