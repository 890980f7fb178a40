"""Attack class 18: ``kill -9`` of the caller, the monitor or PID 1, at every stage: nothing leaks, nobody is lied to.

A build of the helper's own (NO_PAUSE in csrc/defence.h's words) stands still before one operation of a plan; whoever is
the victim is killed then. Kills at random moments, and of owners in their own programs: tests/runtime/test_kill.py.
"""

from __future__ import annotations

import os
import signal
import struct
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from boxes import NOTHING, await_true, cgroups, children, children_of, entries, is_alive, mounts
from modes import IS_ROOT

import pylxc
from pylxc.runtime import cgroup, native, record
from pylxc.runtime import plan as p

A_SECOND = 1.0
A_WHILE = 5.0  # for what is done two hundred times, on a machine that does other things meanwhile
PATIENCE = 20.0  # s, for what has no time limit of its own
NEVER = -1
FAILED = 70  # exit status of a process whose function raised
RESERVED = slice(p._HEAD.size - 16, p._HEAD.size - 12)  # of struct pylxc_plan
STILL = b"pylxc-still\n"  # what a process is called that stands still (csrc/helper/launch.c)
PAYLOAD = ("sleep", "1000")
# Cgroups are not everybody's to make; a limit of the kernel's other kind is.
LIMITS = {"memory": "64m", "pids_limit": 50} if IS_ROOT else {"ulimits": {"nofile": 100}}
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


def namespaces() -> set[str]:
    """Return all namespaces that any process is in whom this one may look into: an ordinary user, its own."""
    found = set()
    for entry in os.listdir("/proc"):
        for name in NAMESPACES if entry.isdigit() else ():
            try:
                found.add(os.readlink(f"/proc/{entry}/ns/{name}"))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
    return found


def elsewhere(function) -> int:
    """Return what a function returns in a process of its own: its exit status."""
    pid = os.fork()
    if pid == 0:
        status = FAILED
        try:
            status = function()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def reap_orphans(own: set[int]) -> None:
    """Reap what has been left to this process, where it is the init of its pid namespace."""
    for pid in children() - own if os.getpid() == 1 else ():
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


@pytest.fixture
def nothing_leaks(cage, monkeypatch):
    """Check that all is as before in the end: processes and namespaces, mounts, cgroups, directories."""
    monkeypatch.setattr(cgroup, "PREFIX", f"pylxc-kills-{os.getpid()}-{os.urandom(4).hex()}-")  # nobody else's
    before, own = (set(mounts()), cgroups(), namespaces()), children()
    left: list[set] = []

    def as_before() -> bool:
        reap_orphans(own)
        left[:] = [now - then for now, then in zip((set(mounts()), cgroups(), namespaces()), before, strict=True)]
        return not any((*left, children() - own))

    yield
    # Who was killed cannot tidy up: what it left goes when somebody opens the store.
    assert elsewhere(lambda: len(pylxc.Engine(cage.engine.root).containers())) == 0
    with suppress(AssertionError):
        await_true(as_before, "all as it was", timeout=5)
    assert (left, children() - own) == ([set()] * 3, set())
    assert entries(cage.engine) == NOTHING


@pytest.fixture
def pausing(monkeypatch, weaken):
    """Say before which operation starts are to stand still: with this build they do."""
    encode = p.Plan.encode

    def at(index: int) -> None:
        def encoded(plan: p.Plan) -> bytes:
            data = bytearray(encode(plan))
            data[RESERVED] = struct.pack("=i", index)
            return bytes(data)

        monkeypatch.setattr(p.Plan, "encode", encoded)

    at(NEVER)
    with weaken("NO_PAUSE"):
        yield at


@contextmanager
def owner(function):
    """Run a function in a process of its own, for as long as the block at most; yields that process's pid."""
    pid = os.fork()
    if pid == 0:
        status = FAILED
        try:
            status = function()
        finally:
            os._exit(status)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def stands_still(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_bytes() == STILL
    except (FileNotFoundError, ProcessLookupError):
        return False


def executes(pid: int, program: str) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(program.encode())
    except (FileNotFoundError, ProcessLookupError):
        return False


def family(caller: int, ready) -> tuple[int, int]:
    """Return the monitor and the process that it watches, as soon as that is ready."""
    found: list[int] = []

    def there() -> bool:
        found[:] = [one for child in children_of(caller) for one in (child, *children_of(child))]
        return len(found) == 2 and ready(found[1])

    await_true(there, "the start", timeout=PATIENCE)
    return found[0], found[1]


def a_run(cage, **options):
    """Return what the caller does: exit status 0 when the start went well, 1 when it failed as a start may."""

    def run() -> int:
        try:
            cage.run(*PAYLOAD, check=False, **options)
        except pylxc.SpawnError as error:
            return 1 if error.stage in ("helper", "mount", "root", "namespaces") else 71
        return 0

    return run


def number_of_operations(cage, monkeypatch, **options) -> int:
    """Return how many operations the plan of such a start has."""
    found: list[int] = []
    begin = native.begin

    def counting(plan, fds):
        found.append(len(plan._operations))
        return begin(plan, fds)

    with monkeypatch.context() as patch:
        patch.setattr(native, "begin", counting)
        cage.run("true", **options)
    return found[-1]


VICTIMS = ("caller", "monitor", "PID 1")


def kill(  # noqa: PLR0913  the three of them
    victim: str, caller: int, monitor: int, payload: int, within: float = A_SECOND, *, stop: bool = True
) -> None:
    """Kill one of the three. The two inside end soon, and without the caller's help: it is stopped."""
    if victim != "caller" and stop:
        os.kill(caller, signal.SIGSTOP)
    os.kill({"caller": caller, "monitor": monitor, "PID 1": payload}[victim], signal.SIGKILL)
    everyone = (caller, monitor, payload) if victim == "caller" else (monitor, payload)
    await_true(lambda: not any(map(is_alive, everyone)), f"the end of all after {victim}", timeout=within)
    os.kill(caller, signal.SIGCONT)


@pytest.mark.parametrize(
    ("victim", "operations"),
    [
        *(pytest.param(victim, slice(turn, None, len(VICTIMS)), id=victim) for turn, victim in enumerate(VICTIMS)),
        *(pytest.param(victim, slice(None), id=f"all-{victim}", marks=pytest.mark.slow) for victim in VICTIMS),
    ],
)
def test_a_kill_before_every_operation_of_a_start(cage, monkeypatch, nothing_leaks, pausing, victim, operations):  # noqa: PLR0913, PLR0917  fixtures
    """The three take turns: each operation is met by the end of one of them."""
    count = number_of_operations(cage, monkeypatch, **LIMITS)
    assert count > 20
    for index in range(count)[operations]:
        pausing(index)
        with owner(a_run(cage, **LIMITS)) as caller:
            # Until its caller has released it, a monitor waits for the caller alone (csrc/helper/begin.c).
            kill(victim, caller, *family(caller, stands_still), within=A_WHILE, stop=victim != "PID 1")
            # Those that are left tidy up and end by themselves.
            await_true(lambda pid=caller: not is_alive(pid), "the caller's end", timeout=PATIENCE)
        pausing(NEVER)


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("options", [{}, LIMITS, {"init": True}], ids=["plain", "limits", "init"])
def test_a_kill_while_it_runs(cage, nothing_leaks, victim, options):
    program = "" if options.get("init") else PAYLOAD[0]
    with owner(a_run(cage, **options)) as caller:
        monitor, payload = family_of_running(caller, program)
        kill(victim, caller, monitor, payload)


def family_of_running(caller: int, program: str) -> tuple[int, int]:
    """With an init, PID 1 is the helper itself, and its payload is its child."""
    if program:
        return family(caller, lambda pid: executes(pid, program))
    found: list[int] = []

    def there() -> bool:
        found[:] = [one for child in children_of(caller) for one in (child, *children_of(child))]
        return len(found) == 2 and any(executes(pid, PAYLOAD[0]) for pid in children_of(found[1]))

    await_true(there, "the start", timeout=PATIENCE)
    return found[0], found[1]


def ended_by_a_kill(container: pylxc.Container) -> int:
    status = container.status()
    assert (status, status.exit_code, status.signal, status.pid) == ("exited", 137, 9, 0)
    assert container.wait(timeout=1) == 137
    with pytest.raises(pylxc.Conflict):
        container.exec(["true"])
    return 0


@pytest.mark.parametrize("victim", ["monitor", "PID 1"])
def test_the_state_is_told_truthfully(cage, nothing_leaks, victim):
    with cage.start(*PAYLOAD) as container:
        assert container.status() == "running"
        pid = container.status().pid
        monitor = record.monitor_pid(container._directory())
        os.kill(pid if victim == "PID 1" else monitor, signal.SIGKILL)
        await_true(lambda: not (is_alive(pid) or is_alive(monitor)), "the end of both", timeout=A_SECOND)
        ended_by_a_kill(container)
        # And so it is for everybody else.
        root, name = cage.engine.root, container.id
        assert elsewhere(lambda: ended_by_a_kill(pylxc.Container.get(name, engine=pylxc.Engine(root)))) == 0
        container.start()
        assert container.exec(["echo", "again"]).text == "again\n"


def test_a_kill_during_an_exec(cage, nothing_leaks):
    """The command ends with its monitor or its caller; the container and its state are as before."""
    with cage.start(*PAYLOAD) as container:
        own = children()
        for victim in VICTIMS:
            with owner(lambda: container.exec(["sleep", "1000"], check=False).exit_code & 1) as caller:
                kill(victim, caller, *family(caller, lambda pid: executes(pid, "sleep")))
            reap_orphans(own)
            assert container.status() == "running"
            assert container.exec(["echo", "well"]).text == "well\n"


# -- it bites ---------------------------------------------------------------------------------------------------------


def survivor(payload: int) -> None:
    """Assert that a process is still there after the time in which it should have gone, and end it."""
    deadline = time.monotonic() + A_SECOND
    while time.monotonic() < deadline:
        assert is_alive(payload)
        time.sleep(0.05)
    os.kill(payload, signal.SIGKILL)
    await_true(lambda: not is_alive(payload), "its end", timeout=PATIENCE)


def test_it_bites_without_the_parents_death_signal(cage, nothing_leaks, weaken):
    with weaken("PARENT_DEATH"), owner(a_run(cage)) as caller:
        monitor, payload = family(caller, lambda pid: executes(pid, PAYLOAD[0]))
        os.kill(caller, signal.SIGSTOP)  # it would end what is left
        os.kill(monitor, signal.SIGKILL)
        survivor(payload)


def test_it_bites_without_the_look_for_the_monitor(cage, monkeypatch, nothing_leaks, pausing, weaken):
    """A monitor that dies before the death signal is asked for: only a look finds out."""
    last = number_of_operations(cage, monkeypatch) - 1
    with weaken("NO_PAUSE", "PARENT_GONE"):
        pausing(last)
        with owner(a_run(cage)) as caller:
            monitor, payload = family(caller, stands_still)
            os.kill(caller, signal.SIGSTOP)  # it would end what is left
            os.kill(monitor, signal.SIGKILL)
            await_true(lambda: executes(payload, PAYLOAD[0]), "the payload", timeout=PATIENCE)
            survivor(payload)


def test_it_bites_without_an_owner(cage, nothing_leaks, monkeypatch):
    monkeypatch.setattr(native, "tie_to_caller", lambda _plan: None)
    with owner(a_run(cage)) as caller:
        _, payload = family(caller, lambda pid: executes(pid, PAYLOAD[0]))
        os.kill(caller, signal.SIGKILL)
        survivor(payload)
