"""Attack class 5: what the runtime writes to /proc goes to the kernel's procfs, nowhere else (CVE-2025-52881)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

import pylxc

if TYPE_CHECKING:
    from pathlib import Path

KEY, PLACE = "net.ipv4.ip_forward", "sys/net/ipv4/ip_forward"


def links(tree: Path) -> None:
    (tree / "link").symlink_to("/proc/sys/kernel")
    (tree / "other").symlink_to("proc")


@pytest.fixture
def false_proc(canary):
    """A directory that looks like /proc, with a file of the host's in the place of a setting."""
    place = canary.place / "proc"
    setting = place / PLACE
    setting.parent.mkdir(parents=True)
    setting.write_text("host")
    setting.chmod(0o666)
    for directory in (place, *setting.parents[:4]):
        directory.chmod(0o777)
    yield place
    setting.unlink()
    for directory in list(setting.parents)[:4]:
        directory.rmdir()


def test_a_bind_on_proc_is_refused(cage, canary):
    for target in ("/proc", "/proc/self/attr", "/proc/sys/kernel"):
        with pytest.raises(pylxc.SpecError, match="/proc"):
            cage.run("true", volumes={canary.place: target})
        with pytest.raises(pylxc.SpecError, match="/proc"):
            cage.run("true", tmpfs=[target])


def test_a_bind_on_proc_through_a_link_is_refused(cage, canary, image_of, weaken):
    image = image_of(links)
    look = "cat /proc/sys/kernel/secret; ls -d /proc/bus/secret"
    for option in (
        {"volumes": {canary.place: "/link"}},
        {"tmpfs": ["/link"]},
        {"volumes": {canary.place: "/other/bus"}},
    ):
        with pytest.raises(pylxc.SpawnError) as caught:
            cage.sh(look, image=image, **option)
        assert (caught.value.stage, caught.value.errno) == ("mount", errno.EPERM)
    with weaken("PROC_MOUNT"):
        assert cage.sh(look, image=image, volumes={canary.place: "/link"}, check=False).text == canary.text


def test_a_sysctl_is_written_to_the_kernel_alone(cage, false_proc, image_of, weaken):
    """Two walls: nothing is mounted on /proc, and a file that is not procfs's is not written to."""
    options = {"image": image_of(links), "volumes": {false_proc: "/other"}, "sysctls": {KEY: "1"}}
    setting = false_proc / PLACE
    with pytest.raises(pylxc.SpawnError) as caught:
        cage.run("true", **options)
    assert (caught.value.stage, caught.value.errno) == ("mount", errno.EPERM)
    with weaken("PROC_MOUNT"), pytest.raises(pylxc.SpawnError) as caught:
        cage.run("true", **options)
    assert (caught.value.stage, caught.value.errno) == ("sysctl", errno.EXDEV)
    assert setting.read_text() == "host"
    with weaken("PROC_MOUNT", "PROC_WRITE"):
        cage.run("true", **options)
    assert setting.read_text() == "1ost"
