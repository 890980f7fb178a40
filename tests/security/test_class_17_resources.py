"""Attack class 17: a container that takes all it can get, or will not end, harms neither the host nor its caller."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from boxes import await_true

import pylxc
import pylxc.container
from pylxc.runtime import cgroup, record

BOMB = "f() { f | f & }; f; sleep 100"
# As many as the bite may safely have. A shell ends when it cannot fork, so it is not the main process.
MANY = "sh -c 'for n in $(seq 200); do sleep 100 & done'; exec sleep 100"
HOG = "exec dd if=/dev/zero of=/dev/null bs=512M count=1"
DEAF = "trap '' TERM INT HUP; echo up; while :; do sleep 0.05; done"
MUTE = "exec 0<&- 1>&- 2>&-; sleep 1; exit 7"
FLOOD = "while :; do echo 0123456789abcdefghijklmnopqrstuvwxyz; done"
MIB = 1 << 20
A_FORK = 1.0  # s, far above what it takes on a loaded machine
TICK = os.sysconf("SC_CLK_TCK")


def unlimited(monkeypatch) -> None:
    """Make the cgroups, and write no limits."""
    monkeypatch.setattr(cgroup, "apply", lambda _spec, _id: None)


def longest_fork(count: int) -> float:
    """How long the slowest of so many processes took to be made, to run, and to end: the canary of a fork bomb."""
    slowest = 0.0
    for _ in range(count):
        begin = time.monotonic()
        _, status = os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
        assert status == 0
        slowest = max(slowest, time.monotonic() - begin)
    return slowest


def monitor_of(container: pylxc.Container) -> int:
    return record.monitor_pid(container._directory())


def processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident(pid: int) -> int:
    return next(
        int(line.split()[1]) * 1024
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )


@pytest.mark.root
def test_a_fork_bomb_leaves_the_host_alone(cage):
    assert longest_fork(20) < A_FORK
    with cage.start("sh", "-c", BOMB, pids_limit=64) as container:
        await_true(lambda: container.stats().pids >= 60, "the bomb", timeout=20)
        for _ in range(5):
            assert container.stats().pids <= 64
            assert longest_fork(20) < A_FORK
        assert cage.run("echo", "well").text == "well\n"
        container.stop(0)
        assert container.wait(timeout=20) == 137


@pytest.mark.root
def test_processes_are_counted_by_the_limit_alone(cage, monkeypatch):
    """It bites: what a limit stops at 50 is 200 without it."""
    with cage.start("sh", "-c", MANY, pids_limit=50) as container:
        await_true(lambda: container.stats().pids >= 49, "the processes", timeout=20)
        assert container.stats().pids <= 50
    unlimited(monkeypatch)
    with cage.start("sh", "-c", MANY, pids_limit=50) as container:
        await_true(lambda: container.stats().pids >= 200, "the processes", timeout=20)


@pytest.mark.root
def test_a_memory_hog_is_killed_and_it_is_said_why(cage, monkeypatch):
    result = cage.sh(HOG, memory="64m", check=False)
    assert (result.exit_code, result.signal, result.oom_killed) == (137, 9, True)
    with cage.start("sh", "-c", HOG, memory="64m") as container:
        assert container.wait(timeout=60) == 137
        status = container.status()
        assert (status, status.exit_code, status.oom_killed) == ("exited", 137, True)
    unlimited(monkeypatch)  # it bites: as much memory is there without the limit
    result = cage.sh(HOG, memory="64m", check=False)
    assert (result.exit_code, result.oom_killed) == (0, False)


def test_a_container_that_ignores_every_signal_is_stopped(cage, weaken):
    for init in (False, True):
        with cage.start("sh", "-c", DEAF, init=init) as container:
            container.wait_ready(log="up", timeout=20)
            begin = time.monotonic()
            container.stop(0.3)
            assert 0.3 <= time.monotonic() - begin < 5
            status = container.status()
            assert (status, status.exit_code, status.signal) == ("exited", 137, 9)
    with weaken("STOP_KILL"), cage.start("sh", "-c", DEAF) as container, ThreadPoolExecutor(1) as pool:
        container.wait_ready(log="up", timeout=20)  # it bites: asking again does not end it
        stopping = pool.submit(container.stop, 0.1)
        with pytest.raises(pylxc.TimeoutExpired):
            container.wait(timeout=1)
        container.kill(9)
        stopping.result(timeout=20)


def test_a_run_that_ignores_every_signal_ends_in_time(cage):
    begin = time.monotonic()
    with pytest.raises(pylxc.TimeoutExpired) as caught:
        cage.sh(DEAF, timeout=0.5)
    assert time.monotonic() - begin < 5
    assert caught.value.stdout == b"up\n"


@pytest.mark.parametrize("init", [False, True])
def test_a_container_that_closes_its_streams_is_seen_to_its_end(cage, init):
    """In a run, in an exec and in a started container; nobody's loop spins over what is closed."""
    busy = time.process_time()
    result = cage.sh(MUTE, check=False, init=init)
    assert (result.exit_code, result.stdout, result.stderr) == (7, b"", b"")
    assert result.duration >= 1
    with cage.start("sleep", "100") as container:
        assert container.exec(["sh", "-c", MUTE], check=False).exit_code == 7
    assert time.process_time() - busy < 0.5


def test_the_monitor_of_closed_streams_is_idle(cage, weaken):
    with cage.start("sh", "-c", MUTE) as container:
        monitor = monitor_of(container)
        time.sleep(0.8)  # what is measured is the processor time of this while
        assert processor_time(monitor) < 0.1
        assert container.wait(timeout=20) == 7
    with weaken("STREAM_END"), cage.start("sh", "-c", MUTE) as container:  # it bites: it spins
        monitor = monitor_of(container)
        time.sleep(0.8)
        assert processor_time(monitor) >= 0.1


def log_of(container: pylxc.Container) -> Path:
    return Path(container._directory(), "log")


def test_a_container_that_floods_its_log(cage):
    """The monitor stays small and heeds everything else; what is in the log is whole."""
    with cage.start("sh", "-c", FLOOD) as container:
        log, monitor = log_of(container), monitor_of(container)
        await_true(lambda: log.exists() and log.stat().st_size > 8 * MIB, "the flood", timeout=60)
        assert resident(monitor) < MIB
        assert container.exec(["echo", "well"]).text == "well\n"
        assert cage.run("echo", "well").text == "well\n"
        begin = time.monotonic()
        container.stop(0)
        assert container.wait(timeout=20) == 137
        assert time.monotonic() - begin < 5
        lines = [line.data for line in container.logs(tail=1000)]
        assert set(lines[:-1]) == {b"0123456789abcdefghijklmnopqrstuvwxyz\n"}


def test_a_log_that_somebody_else_goes_on_flooding(cage, weaken):
    """A container may hand its pipe to a process elsewhere: its own end is its end all the same."""

    def end_under_flood(timeout: float) -> int:
        over = threading.Event()

        def flood() -> None:
            with Path(f"/proc/{container.status().pid}/fd/1").open("wb", buffering=0) as pipe:
                opened.set()
                while not over.is_set():
                    try:
                        pipe.write(b"x" * 4096)
                    except BrokenPipeError:
                        return

        opened = threading.Event()
        with cage.start("sleep", "100") as container:
            writer = threading.Thread(target=flood)
            writer.start()
            try:
                assert opened.wait(20)
                container.kill()
                return container.wait(timeout)
            finally:
                over.set()
                writer.join()

    assert end_under_flood(20) == 137
    with weaken("DRAIN_LIMIT"), pytest.raises(pylxc.TimeoutExpired):  # it bites
        end_under_flood(1)
