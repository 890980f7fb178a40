"""Many detached containers at once: what each costs, that nothing but their number counts, and that all of it goes."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
from boxes import cgroups, descriptors

import pylxc
from pylxc.runtime import record

FEW = 10
BOUNDED = 120
MANY = 1000
MOST_MEMORY = 300  # KiB that a monitor may have to itself
MOST_CALLS = 12  # of the system, to see what one container does
ASKS_THE_SYSTEM = ("posix", "fcntl", "select")


class Calls:
    """What a block calls: functions written in C, of which some ask the system, and statements of SQL."""

    def __init__(self, engine: pylxc.Engine) -> None:
        self.functions = 0
        self.system: Counter[str] = Counter()
        self.statements = 0
        self._database = engine.store.containers._database

    def _see(self, _, event, function) -> None:
        if event == "c_call":
            self.functions += 1
            if function.__module__ in ASKS_THE_SYSTEM:
                self.system[function.__name__] += 1

    def _count(self, _: str) -> None:
        self.statements += 1

    @contextmanager
    def counted(self):
        with self._database._locked() as connection:
            assert isinstance(connection, sqlite3.Connection)
            connection.set_trace_callback(self._count)
            sys.setprofile(self._see)
            try:
                yield self
            finally:
                sys.setprofile(None)
                connection.set_trace_callback(None)


def a_start(box) -> tuple[pylxc.Container, int]:
    """Start a container; returns it with the number of functions that this called."""
    with Calls(box.engine).counted() as calls:
        container = box.start("sleep", "1000", detach=True)
    return container, calls.functions


def a_listing(box, expected: int) -> Calls:
    with Calls(box.engine).counted() as calls:
        assert len(pylxc.Container.list(engine=box.engine)) == expected
    return calls


def private_memory(container: pylxc.Container) -> int:
    """Return the KiB that the container's monitor shares with nobody."""
    usage = Path(f"/proc/{record.monitor_pid(container._directory())}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in usage.splitlines() if line.startswith("Private_"))


@contextmanager
def removed_at_the_end(containers: list[pylxc.Container]):
    try:
        yield
    finally:
        for container in containers:
            container.remove(force=True)


def soak(box, count: int) -> None:
    opened, groups = len(descriptors()), cgroups()
    containers: list[pylxc.Container] = []
    with removed_at_the_end(containers):
        starts, listings = [], {}
        for number in range(1, count + 1):
            container, functions = a_start(box)
            containers.append(container)
            starts.append(functions)
            if number in (FEW, count):
                listings[number] = a_listing(box, number)
        # A start costs the same however many run: what varies is how often a range of ids that was tried was taken.
        assert sorted(starts[-FEW:])[FEW // 2] <= sorted(starts[:FEW])[FEW // 2] + count // 10
        assert listings[count].statements == listings[FEW].statements
        per_container = (listings[count].system - listings[FEW].system).total() / (count - FEW)
        assert 4 <= per_container <= MOST_CALLS, listings[count].system  # the kernel is asked about each
        assert len(descriptors()) - opened <= count + FEW  # one each, its monitor's
        if os.geteuid() == 0:  # the kernel shows nobody else the memory of what is not dumpable
            assert max(map(private_memory, containers)) <= MOST_MEMORY
        for container in containers:
            container.stop(0)
            assert container.wait(timeout=10) == 137
            container.remove()
        assert pylxc.Container.list(all=True, engine=box.engine) == []
    # Processes, mounts and descriptors: `box` looks at them.
    assert cgroups() <= groups


def test_a_soak(box):
    soak(box, BOUNDED)


@pytest.mark.slow
def test_a_soak_of_a_thousand(box):
    soak(box, MANY)
