"""``kill -9`` of owners, monitors and PIDs 1, and of several of them in the same moment, at moments of chance.

Each round is one life of a container, told by its owner as it goes on; somewhere on the way some of the three are
killed. A round is made of one number: what a failed one prints repeats it (``PYLXC_KILLS=number``), as far as chance
allows. Kills at each operation of a start: tests/security/test_class_18_kills.py.
"""

from __future__ import annotations

import fcntl
import os
import random
import select
import signal
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import attrs
import pytest
from boxes import NOTHING, await_true, cgroups, children_of, entries, is_alive, mounts

import pylxc
from pylxc.runtime import cgroup, idrange, native

if TYPE_CHECKING:
    from pathlib import Path

MODES = {"default": {}, "host": {"userns": "host"}} if os.geteuid() == 0 else {"rootless": {}}
FEW_ROUNDS = 8
MANY_ROUNDS = 200
A_WHILE = 5.0  # s; the machine does other things meanwhile
PATIENCE = 30.0  # s, for what has no time limit of its own
FAILED = 70  # exit status of an owner whose life raised what it must not
EXIT_CODE = 7
KILLED = 137
VICTIMS = ("owner", "monitor", "PID 1")
MOMENTS = ("begun", "starting", "running", "writing", "ending", "stopping", "removing")
RUN_MOMENTS = ("begun", "starting", "writing")
RUNS = ("running", "paused")
LIMITS = {"memory": "64m", "pids_limit": 50} if os.geteuid() == 0 else {}
FLOCK = struct.Struct("hhqqi4x")
# Writes numbered lines, and after each its number into a file that the test can read.
PAYLOAD = """
i=0
while [ ! -e /shared/end ]; do
    i=$((i + 1)); echo "$i $PADDING"; echo $i >> /shared/count
done
exit 7
"""


@attrs.frozen
class Plan:
    """What happens in a round, all of it made of its seed."""

    seed: int
    verb: str  # "run" or "start"
    detached: bool
    ending: str  # how the life ends: "ending" by itself, or "stopping"
    moment: str
    delay: float  # s after the owner has told that this moment begins
    padding: int  # characters of each line: of long ones many wait in the pipe
    victims: tuple[str, ...]  # in the order in which they are killed

    @classmethod
    def of(cls, seed: int) -> Plan:
        chance = random.Random(seed)
        verb = chance.choice(("run", "start", "start", "start"))
        moment = chance.choice(RUN_MOMENTS if verb == "run" else MOMENTS)
        ending = moment if moment in ("ending", "stopping") else chance.choice(("ending", "stopping"))
        victims = chance.sample(VICTIMS, chance.choice((1, 1, 2, 3)))
        padding = chance.choice((0, 0, 4000))
        detached = verb == "start" and chance.random() < 0.5
        return cls(seed, verb, detached, ending, moment, chance.uniform(0, 0.008), padding, tuple(victims))


@attrs.frozen
class Seen:
    """What is said of a container: its state, how it ended, how many lines it wrote."""

    state: str
    exit_code: int | None
    lines: int

    @classmethod
    def of(cls, container: pylxc.Container, plan: Plan) -> Seen:
        status = container.status()
        return cls(str(status), status.exit_code, number_of([line.data for line in container.logs()], plan))


def number_of(lines: list[bytes], plan: Plan) -> int:
    """Return how many lines there are, which are those that were written, one after the other."""
    assert lines == [b"%d %s\n" % (number, b"." * plan.padding) for number in range(1, len(lines) + 1)]
    return len(lines)


class Shared:
    """A directory that the payload writes to and the test reads."""

    def __init__(self, directory: Path) -> None:
        self.path = directory
        directory.mkdir()
        directory.chmod(0o777)  # the container's root is somebody else on the host

    def count(self) -> int:
        """Return the number of the last line that was written for sure."""
        with suppress(FileNotFoundError):
            whole = (self.path / "count").read_bytes().rpartition(b"\n")[0]
            return int(whole.rpartition(b"\n")[2] or 0)
        return 0

    def end(self) -> None:
        (self.path / "end").touch()


def run(plan, shared, options, say) -> None:
    say("starting")
    try:
        result = pylxc.run("busybox", ["sh", "-c", PAYLOAD], check=False, **options, **LIMITS)
    except pylxc.SpawnError:
        say("not started")
        return
    say("running")
    say(f"saw exited {result.exit_code} {number_of(result.stdout.splitlines(keepends=True), plan)}")


def start_and_end(plan, shared, options, say) -> None:
    container = pylxc.create("busybox", ["sh", "-c", PAYLOAD], detach=plan.detached, **options)
    say("starting")
    try:
        container.start()
        say("running")
        while container.status() in RUNS and shared.count() < 3:
            time.sleep(0.001)
        say("writing")
        say(plan.ending)
        if plan.ending == "ending":
            shared.end()
            container.wait()
        else:
            container.stop(0.02)
    except pylxc.SpawnError:
        say("not started")
    seen = Seen.of(container, plan)
    say(f"saw {seen.state} {seen.exit_code} {seen.lines}")
    if plan.moment == "removing":
        say("removing")
        container.remove(force=True)


class Owner:
    """A process that leads a container through its life and tells how far it is."""

    def __init__(self, engine: pylxc.Engine, plan: Plan, shared: Shared, options: dict[str, str]) -> None:
        self.told, tell = os.pipe()
        self.seen: list[str] = []
        self._rest = b""
        self.pid = os.fork()
        if self.pid == 0:
            status = FAILED
            try:
                self._live(engine, plan, shared, options, tell)
                status = 0
            finally:
                os._exit(status)
        os.close(tell)
        self.fd = native.pidfd_open(self.pid)

    @staticmethod
    def _live(engine, plan, shared, options, tell) -> None:
        def say(word: str) -> None:
            os.write(tell, f"{word}\n".encode())

        say("begun")
        given = {**options, "volumes": {str(shared.path): "/shared"}, "env": {"PADDING": "." * plan.padding}}
        (run if plan.verb == "run" else start_and_end)(plan, shared, {**given, "engine": engine}, say)
        say("done")

    def await_word(self, word: str) -> None:
        """Read what the owner tells until it says this, or has nothing more to say."""
        while word not in self.seen:
            ready = select.select([self.told], [], [], PATIENCE)[0]
            assert ready, f"{word}: the owner said {self.seen} and nothing for {PATIENCE} s"
            data = os.read(self.told, 4096)
            if not data:
                return
            *words, self._rest = (self._rest + data).split(b"\n")
            self.seen += [one.decode() for one in words]

    def end(self) -> None:
        """Wait for the owner's end. One that was not killed has ended well."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.told)
        os.close(self.fd)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, -signal.SIGKILL), f"the owner ended with {code} after {self.seen}"


def kill(owner: Owner, plan: Plan) -> tuple[set[str], set[int]]:
    """Kill those of the victims that are there; returns who was, and the pids of all that must end."""
    monitor = next(iter(sorted(children_of(owner.pid))), 0)
    inner = sorted(children_of(monitor)) if monitor else []
    found = {"owner": owner.pid, "monitor": monitor, "PID 1": inner[0] if inner else 0}
    handles = {}
    for victim in plan.victims:
        with suppress(ProcessLookupError):
            if found[victim]:
                handles[victim] = native.pidfd_open(found[victim])
    killed = set()
    for victim, handle in handles.items():
        # The number may have become somebody else's before it was opened; who is still a child there is who was meant.
        parent = {"owner": os.getpid(), "monitor": owner.pid, "PID 1": monitor}[victim]
        if victim == "owner" or found[victim] in children_of(parent) or killed:
            native.send_signal(handle, signal.SIGKILL)
            killed.add(victim)
        os.close(handle)
    return killed, {monitor, *inner} - {0}


def the_container(engine: pylxc.Engine) -> pylxc.Container | None:
    found = pylxc.Container.list(all=True, engine=engine)
    assert len(found) <= 1
    return found[0] if found else None


def elsewhere(engine: pylxc.Engine) -> None:
    """Open the store in a new process: what was left of those that were killed goes."""
    pid = os.fork()
    if pid == 0:
        status = FAILED
        try:
            pylxc.Container.list(all=True, engine=pylxc.Engine(engine.root))
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def check(seen: Seen, plan: Plan, owner: Owner, killed: set[str], least: int) -> None:
    """Compare what is said of a container that does not run with what was done to it."""
    assert seen.state not in RUNS
    if seen.state == "created":
        assert "running" not in owner.seen
        return
    may_end_itself = plan.verb == "run" or "ending" in owner.seen
    if not killed & {"monitor", "PID 1"}:
        assert seen.exit_code == (EXIT_CODE if may_end_itself else KILLED)
    assert seen.exit_code in ((KILLED, EXIT_CODE) if may_end_itself else (KILLED,))
    assert seen.lines >= least


def is_range_held(directory: Path) -> bool:
    """Say whether any range of ids is locked."""
    with suppress(FileNotFoundError), (directory / "ids").open("r+b") as file:
        asked = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        return FLOCK.unpack(fcntl.fcntl(file, fcntl.F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK
    return False


class Rounds:
    """What the rounds have in common, and what must be as before after each of them."""

    def __init__(self, box, options: dict[str, str], directory: Path) -> None:
        self.engine, self.options, self.directory = box.engine, options, directory
        self.before = set(mounts())

    def play(self, number: int, seed: int) -> None:
        plan = Plan.of(seed)
        shared = Shared(self.directory / f"shared-{number}")
        owner = Owner(self.engine, plan, shared, self.options)
        try:
            self._kill_and_look(owner, plan, shared)
            self._nothing_is_left()
        except Exception as error:
            with suppress(ProcessLookupError):
                os.kill(owner.pid, signal.SIGKILL)
            raise AssertionError(f"PYLXC_KILLS={seed} repeats it: {plan}; the owner said {owner.seen}") from error

    def _kill_and_look(self, owner: Owner, plan: Plan, shared: Shared) -> None:
        if (plan.verb, plan.moment) == ("run", "writing"):
            await_true(shared.count, "the first line", timeout=PATIENCE)
        else:
            owner.await_word(plan.moment)
        time.sleep(plan.delay)  # not waiting for anything: it picks the moment
        container = the_container(self.engine)
        kept = 0
        with suppress(pylxc.ContainerNotFound):  # it has a row, and no directory yet; or it is just being removed
            kept = Seen.of(container, plan).lines if container is not None and plan.verb == "start" else 0
        killed, family = kill(owner, plan)
        if plan.verb == "run":
            shared.end()
        owner.await_word("done")
        owner.end()
        if not plan.detached or killed & {"monitor", "PID 1"}:
            await_true(lambda: not any(map(is_alive, family)), "the end of all processes", timeout=A_WHILE)
        # What a monitor that is killed has not read yet goes with the pipe, as with any process's.
        least = kept if "monitor" in killed and plan.verb == "start" else shared.count()
        for word in owner.seen:
            if word.startswith("saw "):
                _, state, code, lines = word.split()
                check(Seen(state, None if code == "None" else int(code), int(lines)), plan, owner, killed, least)
        elsewhere(self.engine)
        self._look_at_what_stays(owner, plan, shared, killed, least)

    def _look_at_what_stays(self, owner: Owner, plan: Plan, shared: Shared, killed: set[str], least: int) -> None:
        container = the_container(self.engine)
        if container is None:
            assert not plan.detached or "removing" in owner.seen or "starting" not in owner.seen
            return
        assert plan.detached
        seen = []  # its monitor may just be carrying a stop out: then it has ended, and the record says so in a moment
        await_true(
            lambda: seen.append(container.status()) or seen[-1] not in RUNS or is_alive(seen[-1].pid), "the truth"
        )
        status = seen[-1]
        if status in RUNS:
            assert killed == {"owner"}
            container.stop(0)
            assert container.status().exit_code == KILLED
            least = shared.count()
        else:
            assert container.status() == "created" or container.wait(timeout=A_WHILE) == status.exit_code
            check(Seen.of(container, plan), plan, owner, killed, least)
        container.remove()

    def _nothing_is_left(self) -> None:
        assert entries(self.engine) == NOTHING
        left: set[str] = set()

        def none_left() -> bool:
            left.clear()
            left.update(set(mounts()) - self.before, cgroups())
            return not left

        with suppress(AssertionError):
            await_true(none_left, "the end of mounts and cgroups", timeout=A_WHILE)
        assert left == set()
        await_true(lambda: not is_range_held(self.directory), "the end of the range of ids", timeout=A_WHILE)


@pytest.fixture(params=MODES)
def rounds(box, request, monkeypatch, tmp_path):
    monkeypatch.setattr(cgroup, "PREFIX", f"pylxc-rounds-{os.getpid()}-{os.urandom(4).hex()}-")  # nobody else's
    monkeypatch.setattr(idrange, "DIRECTORY", str(tmp_path))
    return Rounds(box, MODES[request.param], tmp_path)


def play(rounds: Rounds, count: int) -> None:
    given = os.environ.get("PYLXC_KILLS")
    seeds = [int(given)] * count if given else [random.randrange(2**32) for _ in range(count)]
    for number, seed in enumerate(seeds):
        rounds.play(number, seed)


def test_kills_at_moments_of_chance(rounds):
    play(rounds, FEW_ROUNDS)


@pytest.mark.slow
def test_many_kills_at_moments_of_chance(rounds):
    play(rounds, MANY_ROUNDS)
