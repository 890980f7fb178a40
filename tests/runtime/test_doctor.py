"""What doctor says of this machine, and of machines where something is missing: each lack is made for the test."""

from __future__ import annotations

import builtins
import io
import os

import pytest

import pylxc
from pylxc.runtime import cgroup, rootless, subordinate


def test_this_machine_runs_containers(box):
    found = pylxc.doctor(engine=box.engine)
    assert found.ok, str(found)
    assert found.get("container").level == "ok"
    assert found.get("kernel").found.startswith(f"Linux {os.uname().release}")
    assert "user namespaces: " in str(found)
    with pytest.raises(KeyError):
        found.get("nothing")


def test_a_store_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    found = pylxc.doctor(engine=pylxc.Engine(tmp_path / "file"))
    assert not found.ok
    assert {one.name for one in found.findings if one.level == "error"} == {"store", "container"}
    assert "PYLXC_ROOT" in found.get("store").remedy


SETTINGS = {
    "kernel/apparmor_restrict_unprivileged_userns": "1\n",
    "kernel/unprivileged_userns_clone": "0\n",
    "user/max_user_namespaces": "0\n",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_shuts_ordinary_users_out_is_named(monkeypatch, name):
    """The machines that have these settings are others: the kernel's file is made for the test, no more."""
    real = builtins.open

    def read(path, *rest, **more):
        if path == f"/proc/sys/{name}":
            return io.StringIO(SETTINGS[name])
        return real(path, *rest, **more)

    monkeypatch.setattr(builtins, "open", read)
    assert rootless.remedy().startswith(f"{name.replace('/', '.')} is {SETTINGS[name].strip()}; as root: sysctl -w ")
    assert name.replace("/", ".") in str(rootless.refusal(1))


def test_nothing_stands_in_the_way_here():
    assert rootless.remedy() == ""


def test_what_a_user_lacks_is_said_with_the_remedy(tmp_path, monkeypatch):
    names = subordinate.names_of(os.geteuid())
    granted = tmp_path / "granted"
    granted.write_text(
        f"# a comment\nother:1:5\n{names[0]}:100000:65536\n{names[1]}:300000:1000\nbad:x:y\n{names[0]}:7\n"
    )
    monkeypatch.setattr(subordinate, "FILES", (str(granted), str(granted)))
    assert subordinate.granted(str(granted), names) == [(100000, 65536), (300000, 1000)]
    own = os.geteuid()
    assert subordinate.lack(own) == ""
    assert [(one.inside, one.outside, one.count) for one in subordinate.extents(str(granted), own, names)] == [
        (0, own, 1),
        (1, 100000, 65536),
        (65537, 300000, 1000),
    ]
    granted.write_text("other:1:5\n")
    assert "usermod --add-subuids" in subordinate.lack(own)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "newuidmap and newgidmap not found" in subordinate.lack(own)


def test_controllers_that_are_missing(box, monkeypatch):
    monkeypatch.setattr(cgroup, "hierarchies", lambda: cgroup.Hierarchies({}, "", restricted=True))
    found = pylxc.doctor(engine=box.engine).get("cgroups")
    assert (found.level, found.found) == ("warning", "none: memory, cpu, cpuset, pids cannot be limited")
    assert "Delegate" in found.remedy


def test_programs_that_are_missing(box, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "mmdebstrap" in pylxc.doctor(engine=box.engine).get("bootstrap").remedy
