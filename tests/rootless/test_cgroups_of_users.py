"""Cgroups of an ordinary user's containers: what was delegated is used, and where nothing was it is said how to get it.

On most machines a login is given nothing; tests/kernel runs these where systemd's user@UID.service would have been.
"""

from __future__ import annotations

import pytest

import pylxc
from pylxc.runtime import cgroup

pytestmark = pytest.mark.ordinary_user

SCRIPT = "trap 'exit 7' TERM; mkdir /sys/fs/cgroup/below && echo $$ > /sys/fs/cgroup/below/cgroup.procs && echo ready; "
WAIT = "while true; do sleep 0.01; done"


def left_of(container: pylxc.Container) -> tuple[str, ...]:
    return cgroup.directories(container.id)


def test_a_system_container(box):
    if not cgroup.hierarchies().v2:
        with pytest.raises(pylxc.UnsupportedError, match='init="system"') as caught:
            box.start("sh", "-c", SCRIPT + WAIT, init="system")
        assert "systemd-run --user --scope -p Delegate=yes" in caught.value.remedy
        return
    with box.start("sh", "-c", SCRIPT + WAIT, init="system") as container:
        container.wait_ready(log="ready", timeout=30)
        for pid in ("1", "self"):
            assert container.exec(["cat", f"/proc/{pid}/cgroup"]).text.splitlines()[-1] == "0::/below"
        container.stop(timeout=30)
        assert container.status().exit_code == 7
        assert left_of(container) == ()
        assert box.sh("poweroff -f; sleep 100", init="system").exit_code == 0


def test_pausing(box):
    with box.start("sleep", "100") as container:
        if cgroup.hierarchies().v2:
            container.pause()
            assert container.status() == "paused"
            container.unpause()
            assert container.status() == "running"
        else:
            with pytest.raises(pylxc.UnsupportedError, match="pausing this container") as caught:
                container.pause()
            assert "Delegate=" in caught.value.remedy
    assert left_of(container) == ()


def test_limits(box):
    offered = cgroup.hierarchies().v2_controllers
    limits = {"memory": ("64m", "memory"), "pids_limit": (50, "pids"), "cpuset": ("0", "cpuset")}
    for option, (value, controller) in limits.items():
        if controller in offered:
            assert box.run("true", **{option: value}).ok
        else:
            with pytest.raises(pylxc.UnsupportedError, match=option) as caught:
                box.run("true", **{option: value})
            assert "Delegate=cpu cpuset io memory pids" in caught.value.remedy


def test_devices_are_given_without_a_filter(box):
    """An ordinary user may set none; what was promised in part is refused, not given whole."""
    assert box.sh("echo x > /dev/given", devices=["/dev/null:/dev/given"]).ok
    with pytest.raises(pylxc.UnsupportedError, match="permissions of devices"):
        box.run("true", devices=["/dev/null:/dev/given:r"])
