"""Limits of memory, processors and processes, what a container uses, pausing: kept by the kernel, seen from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from boxes import await_true

import pylxc
from pylxc.errors import Conflict, SpawnError, SpecError, UnsupportedError
from pylxc.runtime import cgroup

HOG = "x=a; while true; do x=$x$x; done"
BUSY = "while true; do :; done"


def left_of(identity: str) -> list[str]:
    found = cgroup.hierarchies()
    roots = {found.v2, *found.v1.values()} - {""}
    return [path for root in roots if os.path.isdir(path := f"{root}/{cgroup.PREFIX}{identity}")]


def everything() -> set[str]:
    """Return all cgroups of containers on this machine."""
    found = cgroup.hierarchies()
    roots = [Path(root) for root in {found.v2, *found.v1.values()} - {""}]
    return {str(path) for root in roots for path in root.glob("pylxc*")}


@pytest.fixture(autouse=True)
def no_cgroup_is_left():
    before = everything()
    yield
    await_true(lambda: everything() <= before, "the end of every cgroup")


@pytest.mark.cgroups
def test_a_hog_is_killed_and_it_is_said_why(box):
    result = box.sh(HOG, memory="64m", check=False)
    assert (result.exit_code, result.signal, result.oom_killed) == (137, signal.SIGKILL, True)
    quiet = box.run("true", memory="64m")
    assert not quiet.oom_killed


@pytest.mark.cgroups
def test_a_hog_in_a_started_container(box):
    with box.start("sh", "-c", HOG, memory="64m") as container:
        assert container.wait() == 137
        assert container.status().oom_killed
        assert container.inspect()["State"]["OOMKilled"] is True


@pytest.mark.cgroups
def test_a_killed_child_is_no_end(box):
    """On v1 the kernel kills one process, the container goes on, and its end says so (``oom_kill``, not ``oom``).

    On v2 it kills all that is in the cgroup (memory.oom.group).
    """
    result = box.sh(f"sh -c '{HOG}'; echo $?", memory="64m", check=False)
    whole = "memory" in cgroup.hierarchies().v2_controllers
    assert (result.exit_code, result.oom_killed) == (137 if whole else 0, True)
    assert result.text == ("" if whole else "137\n")


@pytest.mark.cgroups
def test_a_fork_bomb_leaves_the_host_alone(box):
    bomb = "f() { f | f & }; f; sleep 100"
    with box.start("sh", "-c", bomb, pids_limit=64) as container:
        await_true(lambda: container.stats().pids >= 60, "the bomb")
        for _ in range(20):
            assert container.stats().pids <= 64
            subprocess.run(["true"], check=True)  # the canary: the host forks as ever
    assert left_of(container.id) == []


@pytest.mark.cgroups
def test_half_a_processor(box):
    """By the kernel's own account. On a machine with more to do it may get less for a while, or be looked at late."""
    with box.start("sh", "-c", BUSY, cpus=0.5) as container:
        directory = Path(cgroup.hierarchies().directory("cpu", container.id))
        quota = directory / "cpu.max"
        if quota.exists():
            assert quota.read_text() == "50000 100000\n"
        else:
            assert (directory / "cpu.cfs_quota_us").read_text() == "50000\n"
        used = 0.0
        for _ in range(10):
            first = container.stats()
            time.sleep(1)
            used = container.stats().cpu_percent(first)
            if 45 <= used <= 55:
                break
    assert 45 <= used <= 55


@pytest.mark.cgroups
def test_shares_and_processors(box):
    script = "grep Cpus_allowed_list /proc/self/status"
    assert box.sh(script, cpuset="0").text.split() == ["Cpus_allowed_list:", "0"]
    with box.start("sleep", "100", cpu_shares=512) as container:
        directory = cgroup.hierarchies().directory("cpu", container.id)
        shares, weight = Path(directory, "cpu.shares"), Path(directory, "cpu.weight")
        assert (shares.read_text() if shares.exists() else weight.read_text()) in {"512\n", "20\n"}


@pytest.mark.cgroups
def test_swap(box):
    with box.start("sleep", "100", memory="64m", memory_swap="80m") as container:
        directory = Path(cgroup.hierarchies().directory("memory", container.id))
        if (directory / "memory.max").exists():
            assert (directory / "memory.swap.max").read_text() == f"{16 << 20}\n"
        else:
            assert (directory / "memory.memsw.limit_in_bytes").read_text() == f"{80 << 20}\n"
    with pytest.raises(UnsupportedError, match="memory_swap without memory"):
        box.run("true", memory_swap="80m")


def test_oom_score(box):
    assert box.run("cat", "/proc/self/oom_score_adj", oom_score_adj=500).text == "500\n"
    with box.start("sleep", "100", oom_score_adj=300) as container:
        assert container.exec(["cat", "/proc/self/oom_score_adj"]).text == "300\n"


@pytest.mark.cgroups
def test_a_processor_that_is_not_there(box):
    """Version 2 takes one that could be plugged in, and would use the others in its place."""
    online = {number for number in range(4096) if Path(f"/sys/devices/system/cpu/cpu{number}").is_dir()}
    online &= os.sched_getaffinity(0)
    with pytest.raises(UnsupportedError, match="cpuset"):
        box.run("true", cpuset=f"0,{max(online) + 1}")
    with box.start("sleep", "100", cpuset="0") as container, pytest.raises(UnsupportedError, match="cpuset"):
        container.update(cpuset=f"{max(online) + 1}")


@pytest.mark.parametrize("limit", [{"cpuset": "4000"}, {"cpus": 100000.0}])
def test_what_this_machine_does_not_have(box, limit):
    with pytest.raises((UnsupportedError, SpecError, SpawnError)) as caught:
        box.run("true", **limit)
    assert next(iter(limit)) in str(caught.value)


def test_a_controller_that_is_not_there(box, monkeypatch):
    monkeypatch.setattr(cgroup, "hierarchies", cgroup.Hierarchies)
    with pytest.raises(UnsupportedError, match="memory") as caught:
        box.run("true", memory="64m")
    assert "leave memory out" in caught.value.remedy
    assert box.run("true").ok


@pytest.mark.cgroups
def test_update(box):
    with box.start("sleep", "100", memory="64m") as container:
        container.update(memory="32m", pids_limit=10)
        stats = container.stats()
        assert (stats.memory_limit, stats.pids_limit) == (32 << 20, 10)
        container.update(memory="128m")
        assert container.stats().memory_limit == 128 << 20
        again = pylxc.Container.get(container.id, engine=box.engine)
        assert (again.spec.memory, again.spec.pids_limit) == (128 << 20, 10)
        with pytest.raises(SpecError, match="cannot be updated"):
            container.update(user="nobody")
        with pytest.raises(SpecError):
            container.update(memory="lots")
        assert container.spec.memory == 128 << 20
        container.stop(0)
        container.update(pids_limit=20)
        container.start()
        assert container.stats().pids_limit == 20


def test_a_first_limit_of_a_controller_while_it_runs(box):
    """A cgroup of version 2 has all that its parent passes on, at any time; of version 1 it has what it was made in."""
    on_v2 = "cpuset" in cgroup.hierarchies().v2_controllers
    with box.start("sleep", "100") as container:
        if on_v2:
            container.update(cpuset="0")
        else:
            with pytest.raises(UnsupportedError, match="started without a cgroup"):
                container.update(cpuset="0")
        allowed = container.exec(["grep", "Cpus_allowed_list", "/proc/1/status"]).text.split()[1]
    assert (allowed == "0") is on_v2


def test_bytes_written(box):
    """Counted where it costs nothing more: on version 2."""
    with box.start("sleep", "100") as container:
        container.exec(["dd", "if=/dev/zero", "of=/file", "bs=64k", "count=64", "conv=fsync"])
        written = container.stats().io_written
    if "io" in cgroup.hierarchies().v2_controllers:
        assert 4 << 20 <= written < 8 << 20
    else:
        assert written is None


@pytest.mark.cgroups
def test_stats(box):
    with box.start("sh", "-c", f"({BUSY}) & sleep 100") as container:
        await_true(lambda: container.stats().cpu > 0.05, "processor time")
        stats = container.stats()
        assert 2 <= stats.pids <= 4
        assert 0 < stats.memory <= stats.memory_peak < 1 << 30
        assert stats.memory_limit is None
        if Path(f"{cgroup.hierarchies().v2}/cgroup.pressure").exists() or stats.pressure:
            assert 0 <= stats.pressure["cpu"].some[0] <= 100
        assert stats.network["lo"].rx_bytes == 0
        assert stats.io_read is None or stats.io_read >= 0
        stream = container.stats(stream=True)
        assert next(stream).cpu <= next(stream).cpu
        container.kill()
        assert list(stream) == []
        with pytest.raises(Conflict, match="uses nothing"):
            container.stats()


def test_processes(box):
    script = "sleep 1234 & sleep 5678 & wait"
    with box.start("sh", "-c", script, user="65534") as container:
        sleeping = {("sleep", "1234"), ("sleep", "5678")}
        await_true(lambda: {one.command for one in container.top()} >= sleeping, "its three processes")
        first, *others = container.top()
        assert (first.pid, first.inside, first.user) == (container.status().pid, 1, 65534)
        assert first.command == ("sh", "-c", script)
        assert {(one.command, one.parent) for one in others} == {
            (("sleep", "1234"), first.pid),
            (("sleep", "5678"), first.pid),
        }
        assert abs(first.started - container.status().started_at) < 2
        container.stop(0)
        with pytest.raises(Conflict, match="no processes"):
            container.top()


@pytest.mark.cgroups
def test_pausing(box):
    with box.start("sh", "-c", BUSY) as container:
        container.pause()
        assert container.status() == "paused"
        assert container.status().describe().endswith("(Paused)")
        before = container.stats().cpu
        time.sleep(0.1)
        assert container.stats().cpu == before
        assert container in pylxc.Container.list(engine=box.engine) or container.id in {
            one.id for one in pylxc.Container.list(engine=box.engine)
        }
        container.unpause()
        assert container.status() == "running"
        await_true(lambda: container.stats().cpu > before, "its going on")
        with pytest.raises(Conflict, match="not paused"):
            container.unpause()
        container.pause()
        container.stop(0)
        assert container.status() == "exited"
        with pytest.raises(Conflict, match="not running"):
            container.pause()


@pytest.mark.cgroups
def test_a_paused_container_can_be_removed(box):
    with box.start("sleep", "100") as container:
        container.pause()
    assert left_of(container.id) == []


@pytest.mark.cgroups
def test_an_exec_counts_as_the_containers(box):
    with box.start("sleep", "100", memory="64m") as container:
        result = container.exec(["sh", "-c", HOG], check=False)
        assert result.exit_code == 137


@pytest.mark.cgroups
def test_a_failed_start_leaves_no_cgroup(box):
    with pytest.raises(SpawnError):
        box.run("/no/such/program", memory="64m")
    with pytest.raises(SpawnError):
        box.start("/no/such/program")


@pytest.mark.cgroups
@pytest.mark.parametrize("victim", ["owner", "both"])
def test_a_killed_owner_leaves_no_cgroup(box, victim):
    program = f"""
import os, pylxc, time
engine = pylxc.Engine({str(box.engine.root)!r})
c = pylxc.start("busybox", ["sleep", "1000"], memory="64m", engine=engine)
from pylxc.runtime import record
print(c.id, record.monitor_pid(c._directory()), flush=True)
time.sleep(1000)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(pylxc.__file__).parent.parent)}
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment)
    identity, monitor = owner.stdout.readline().split()
    assert left_of(identity)
    if victim == "both":
        os.kill(int(monitor), signal.SIGKILL)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    opening = [sys.executable, "-c", f"import pylxc; pylxc.Engine({str(box.engine.root)!r}).store"]
    if victim == "both":
        subprocess.run(opening, check=True, env=environment)  # tidies up
    await_true(lambda: left_of(identity) == [], "the removal of its cgroups")
    subprocess.run(opening, check=True, env=environment)


def test_mounts_of_cgroups_as_they_are_read():
    hybrid = """30 20 0:1 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:2 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:3 /part /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 30 0:4 / /nowhere/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw,nsdelegate
"""
    found = cgroup.parse_mounts(hybrid)
    assert found.kind() == "hybrid"
    assert found.directory("cpuacct", "x") == "/sys/fs/cgroup/cpu,cpuacct/pylxc-x"
    assert found.directory("memory", "x") == ""
    assert (found.v2, found.v2_controllers) == ("/nowhere/unified", frozenset())
    assert cgroup.parse_mounts("").kind() == "none"
