"""``kill -9`` of the owner and of the monitor, at every stage: nothing is left, and the state is told truthfully."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from boxes import NOTHING, await_true, children_of, entries, is_alive, monitors, mounts

import pylxc
from pylxc.identity import boot_id, own_identity
from pylxc.runtime import record

A_SECOND = 1.0
PAYLOAD = ("sh", "-c", "sleep 1234 & echo up; wait")


def owner(engine, script):
    """Start a process that makes containers; returns it when it says "up"."""
    code = "import sys, time, pylxc\nengine = pylxc.Engine(sys.argv[1])\n" + textwrap.dedent(script)
    process = subprocess.Popen([sys.executable, "-c", code, str(engine.root)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"up\n"
    return process


def tree_of(pid: int) -> set[int]:
    """Return a process's descendants."""
    below = children_of(pid)
    return below.union(*(tree_of(child) for child in below)) if below else set()


@pytest.mark.parametrize(
    "script",
    [
        """
        pylxc.run("busybox", ["sh", "-c", "sleep 1234 & echo up; wait"], stdout=pylxc.INHERIT, engine=engine)
        """,
        """
        c = pylxc.start("busybox", ["sh", "-c", "sleep 1234 & echo up; wait"], engine=engine)
        c.wait_ready(log="up")
        print("up", flush=True)
        time.sleep(1000)
        """,
        """
        c = pylxc.start("busybox", ["sleep", "1000"], engine=engine)
        c.exec(["sh", "-c", "sleep 1234 & echo up; wait"], stdout=pylxc.INHERIT)
        """,
        """
        p = pylxc.popen("busybox", ["sh", "-c", "sleep 1234 & echo up; wait"], stdout=pylxc.INHERIT, engine=engine)
        time.sleep(1000)
        """,
    ],
    ids=["run", "start", "exec", "popen"],
)
def test_kill_of_the_owner(box, script):
    before = mounts()
    with owner(box.engine, script) as process:
        everyone = tree_of(process.pid)
        assert len(everyone) >= 3  # the monitor, the main process, its child
        process.kill()
        begin = time.monotonic()
        await_true(lambda: not any(map(is_alive, everyone)), "the end of all processes", timeout=A_SECOND)
        assert time.monotonic() - begin < A_SECOND
    assert mounts() == before
    listing = "import sys, pylxc; print(pylxc.Container.list(all=True, engine=pylxc.Engine(sys.argv[1])))"
    out = subprocess.run([sys.executable, "-c", listing, str(box.engine.root)], check=True, capture_output=True)
    assert out.stdout == b"[]\n"
    assert entries(box.engine) == NOTHING


def test_kill_of_an_owner_that_starts_without_end(box):
    """Whatever the moment: the owner is killed at many points of a start."""
    script = """
    print("up", flush=True)
    while True:
        pylxc.run("busybox", ["sleep", "0.001"], engine=engine)
    """
    before, mounted = monitors(), mounts()
    for number in range(12):
        with owner(box.engine, script) as process:
            time.sleep(0.03 + number * 0.0007)  # not waiting for anything: it picks the moment
            process.kill()
        await_true(lambda: monitors() <= before, "the end of every monitor", timeout=A_SECOND)
    assert mounts() == mounted
    listing = "import sys, pylxc; print(pylxc.Container.list(all=True, engine=pylxc.Engine(sys.argv[1])))"
    out = subprocess.run([sys.executable, "-c", listing, str(box.engine.root)], check=True, capture_output=True)
    assert out.stdout == b"[]\n"
    assert entries(box.engine) == NOTHING


def monitor_of(container) -> int:
    return record.monitor_pid(container._directory())


def test_kill_of_the_monitor_of_a_started_container(box):
    with box.start(*PAYLOAD) as container:
        container.wait_ready(log="up", timeout=10)
        everyone = {container.status().pid, *children_of(container.status().pid)}
        os.kill(monitor_of(container), signal.SIGKILL)
        await_true(lambda: not any(map(is_alive, everyone)), "the end of all processes", timeout=A_SECOND)
        status = container.status()
        assert (status, status.exit_code, status.signal) == ("exited", 137, 9)
        assert container.wait(timeout=1) == 137
        with pytest.raises(pylxc.Conflict):
            container.exec(["true"])
        container.start()  # and it can be started anew
        assert container.status() == "running"


def test_kill_of_the_monitor_of_a_run(box):
    killed = []

    def kill(*_):
        killed.append(max(monitors()))
        os.kill(killed[0], signal.SIGKILL)

    result = box.run(*PAYLOAD, on_output=kill, check=False, timeout=30)
    assert (result.exit_code, result.signal, result.stdout) == (137, 9, b"up\n")


def test_kill_of_the_monitor_of_an_exec_leaves_the_container_alone(box):
    with box.start("sleep", "100") as container:
        with container.popen(["sleep", "1234"]) as process:
            before = process.pid
            os.kill(process._child.monitor_pid, signal.SIGKILL)
            assert process.wait(timeout=10) == 137
            await_true(lambda: not is_alive(before), "the end of the command", timeout=A_SECOND)
        assert container.status() == "running"
        assert container.exec(["echo", "well"]).text == "well\n"


def test_a_payload_cannot_outlive_both_its_owner_and_its_monitor(box):
    """A container whose process escapes the death of its monitor is ended by the next process that opens the store."""
    source = "import ctypes, time; ctypes.CDLL(None).prctl(1, 0); print('up', flush=True); time.sleep(1000)"
    script = f"""
    c = pylxc.start("host", ["python3", "-c", {source!r}], engine=engine)
    c.wait_ready(log="up")
    print("up", flush=True)
    time.sleep(1000)
    """
    if not Path("/usr/bin/python3").exists():
        pytest.skip("the machine's own Python is needed: install python3")
    with owner(box.engine, script) as process:
        (monitor,) = children_of(process.pid)
        (payload,) = children_of(monitor)
        process.send_signal(signal.SIGSTOP)
        os.kill(monitor, signal.SIGKILL)
        process.kill()
    listing = "import sys, pylxc; print(pylxc.Container.list(all=True, engine=pylxc.Engine(sys.argv[1])))"
    out = subprocess.run([sys.executable, "-c", listing, str(box.engine.root)], check=True, capture_output=True)
    assert out.stdout == b"[]\n"
    await_true(lambda: not is_alive(payload), "the end of the payload", timeout=A_SECOND)


def test_the_state_file_of_a_container_that_was_not_watched_does_not_fool(box):
    """A record that names a pid which is another process's now is not believed."""
    with box.start("sleep", "100") as container:
        directory = container._directory()
        os.kill(monitor_of(container), signal.SIGKILL)
        await_true(lambda: container.status() == "exited", "the end", timeout=A_SECOND)
        assert record.read(directory).pid == 0
        _, *rest = os.getxattr(directory, record.STATE).split()
        os.setxattr(directory, record.STATE, b" ".join([str(os.getpid()).encode(), *rest]))
        assert container.status() == "exited"


def test_wait_at_the_very_moment_at_which_the_monitor_is_killed(box):
    """The process dies a moment after its monitor, and until then it runs."""
    for _ in range(30):
        with box.start(*PAYLOAD) as container:
            container.wait_ready(log="up", timeout=10)
            os.kill(monitor_of(container), signal.SIGKILL)
            assert container.wait(timeout=10) == 137


@pytest.mark.parametrize("boot", ["an earlier one", "this one"])
def test_what_ran_when_the_machine_went_down(box, boot):
    """After a reboot another process may have its pid, and even its start time: the boot tells them apart."""
    with box.start("sleep", "1000") as container:
        os.kill(monitor_of(container), 9)
        container.wait(timeout=10)
        mine = own_identity()
        words = os.getxattr(container._directory(), record.STATE).split()
        assert words[5].decode() == boot_id()
        told = (mine.pid, mine.start_time, 1, 1_000_000_000, 0, boot_id() if boot == "this one" else "0" * 36)
        os.setxattr(container._directory(), record.STATE, " ".join(map(str, told)).encode())
        status = container.status()
        if boot == "this one":
            assert (status, status.pid) == ("running", mine.pid)  # which it would be taken for
        else:
            assert (status, status.pid, status.exit_code) == ("exited", 0, 137)
        os.setxattr(container._directory(), record.STATE, b" ".join(words))
