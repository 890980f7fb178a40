"""Eight processes do by chance all that can be done to images, and are killed by chance; nothing acknowledged is lost.

``PYLXC_SOAK=number`` repeats the choices of a run, as far as chance allows; ``-m slow`` runs five minutes.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import oracle
import pytest
from injection import run_in_child
from operations import archive, clear, close, layer, make_material, registry
from worker import ARCHIVES, Event, Worker, events

import pylxc
from pylxc.reference import Reference

if TYPE_CHECKING:
    from pathlib import Path

WORKERS = 8
A_WHILE = 6.0  # s
LONG = 300.0  # s
PAUSE = (0.02, 0.6)  # s between two kills
PATIENCE = 120.0  # s, for all to come to their end
FAILED = 70  # exit status of a worker that raised what it must not
MAKING = ("load", "build", "pull", "keep")
MOVES = "SELECT ref, new FROM tag_log ORDER BY number"


class Crew:
    """The processes at work; who dies is replaced."""

    def __init__(self, seed: int, directory: Path) -> None:
        self.chance = random.Random(seed)
        self.directory = directory
        self.root = directory / "store"
        self.material = directory / "material"
        self.end = directory / "end"
        self.logs: list[Path] = []
        self.alive: dict[int, Path] = {}
        self.kills = 0
        self._numbers = itertools.count()

    def hire(self) -> None:
        number = next(self._numbers)
        log = self.directory / "logs" / str(number)
        worker = Worker(number, self.chance.randrange(1 << 32), self.root, self.material, log, self.end)
        pid = os.fork()
        if pid == 0:
            _work(worker)
        self.logs.append(log)
        self.alive[pid] = log

    def kill_one(self) -> None:
        pid = self.chance.choice(list(self.alive))
        os.kill(pid, signal.SIGKILL)
        self.reap(pid, -signal.SIGKILL)
        self.kills += 1

    def reap(self, pid: int, expected: int) -> None:
        log = self.alive.pop(pid)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        error = log.with_suffix(".error")
        assert status == expected, f"{log}: {status}\n{error.read_text() if error.exists() else ''}"

    def look(self) -> None:
        """See that nobody ended by itself."""
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in self.alive:
            error = self.alive[pid].with_suffix(".error")
            raise AssertionError(f"{self.alive[pid]}: {status}\n{error.read_text() if error.exists() else ''}")

    def end_all(self) -> None:
        self.end.touch()
        deadline = time.monotonic() + PATIENCE
        while self.alive and time.monotonic() < deadline:
            for pid in list(self.alive):
                if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                    self.reap(pid, 0)
            time.sleep(0.01)
        assert not self.alive, f"they hang: {self.alive}"

    def fire_all(self) -> None:
        for pid in self.alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _work(worker: Worker) -> None:
    """In the fork: work. Never returns."""
    status = FAILED
    try:
        worker.run()
        status = 0
    except BaseException:  # noqa: BLE001  told to the parent
        worker.log.with_suffix(".error").write_text(traceback.format_exc())
    finally:
        sys.stderr.flush()
        os._exit(status)


def soak(seed: int, directory: Path, length: float) -> None:
    crew = Crew(seed, directory)
    for name in ("logs", "material"):
        (directory / name).mkdir()
    make_material(crew.material)
    for number in range(ARCHIVES):
        layers = (layer("below"), layer(f"layer{number % 4}"), layer(f"layer{number % 3 + 2}", without="below"))
        names = (f"docker.io/library/archive{number}:1", f"docker.io/library/moving:{number % 4}")
        archive(crew.material / f"archive{number}.tar", (names, layers, ("", "gzip", "zstd")[number % 3]))
    with registry(crew.material):
        try:
            for _ in range(WORKERS):
                crew.hire()
            deadline = time.monotonic() + length
            while time.monotonic() < deadline:
                time.sleep(crew.chance.uniform(*PAUSE))
                crew.look()
                crew.kill_one()
                crew.hire()
            crew.end_all()
        finally:
            crew.fire_all()
    logs = {log.name: events(log) for log in crew.logs}
    run_in_child(lambda: check(crew.root, logs))
    done = [event.verb for log in logs.values() for event in log if event.end and not event.refused]
    sys.stdout.write(f"{crew.kills} kills; {len(done)} done: {dict(Counter(done))}\n")
    assert crew.kills > length / 2
    assert len(done) > crew.kills, "hardly anything was done"


def check(root: Path, logs: dict[str, list[Event]]) -> None:
    """Do what the next process does, and compare with what was acknowledged."""
    engine = pylxc.Engine(root)
    assert engine.store is not None
    assert oracle.problems(root) == []
    images = {image.id for image in pylxc.Image.list(engine=engine)}
    everything = [event for log in logs.values() for event in log]
    for event in everything:
        if event.verb in ("remove", "drop") and event.end and not event.refused and event.image in images:
            made = [other for other in everything if other.verb in MAKING and (other.end or sys.maxsize) > event.begin]
            assert [other for other in made if other.image in (event.image, "")], f"{event} was acknowledged"
    moves = oracle.rows(root, MOVES)
    tags = dict(oracle.rows(root, "SELECT ref, image FROM tags"))
    for log in logs.values():
        for event in log:
            ref = Reference.parse(event.ref).canonical if event.ref else ""
            if event.verb in ("tag", "build", "keep") and event.end and not event.refused:
                assert (ref, event.image) in moves, f"{event} was acknowledged"
        kept = {event.ref: event.image for event in log if event.verb == "keep" and event.end and not event.refused}
        for event in log:
            if event.verb == "drop":
                image = kept.pop(event.ref)
                assert event.end is None or image not in images, f"{event} was acknowledged"
        for ref, image in kept.items():
            assert tags.get(Reference.parse(ref).canonical) == image, f"{ref} was acknowledged"
    clear(engine)
    assert oracle.problems(root) == []
    assert oracle.names(root / "layers") == oracle.names(root / "oci/blobs/sha256") == set()
    close(engine)


def chosen_seed() -> int:
    seed = int(os.environ.get("PYLXC_SOAK") or random.SystemRandom().randrange(1 << 32))
    sys.stdout.write(f"PYLXC_SOAK={seed} repeats it\n")
    return seed


def test_eight_processes_that_are_killed(tmp_path):
    soak(chosen_seed(), tmp_path, A_WHILE)


@pytest.mark.slow
def test_eight_processes_that_are_killed_for_long(tmp_path):
    soak(chosen_seed(), tmp_path, LONG)
