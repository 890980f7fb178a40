"""kill -9, a full disk and a failing one at every single call that an operation makes to its store.

Whatever happened: the next process finds a whole store, with everything that was acknowledged, and either all of the
operation or nothing; the operation then succeeds, and when all images are removed nothing is left. A fault is named by
what a failure prints; ``PYLXC_CRASHES=number`` repeats the choice of the normal run. All of them: ``-m slow``.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
from collections import Counter
from typing import TYPE_CHECKING

import injection
import oracle
import pytest
from injection import Fault, Outcome, run_in_child
from operations import OPERATIONS, TEMPLATES, Operation, clear, close, copy, make_material, registry, remove

import pylxc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FEW = 3  # of each operation in the normal run
NAMES = [operation.name for operation in OPERATIONS]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SOURCE_DATE_EPOCH", "1700000000")  # what is built has the same layers each time
        bench = Bench(tmp_path_factory.mktemp("crashes"))
        with registry(bench.material):
            yield bench


class Bench:
    """What operations are tried on: templates of stores, and copies of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.material = directory / "material"
        self.material.mkdir()
        make_material(self.material)
        self._numbers = itertools.count()
        self._templates: dict[str, Path] = {}

    def template(self, name: str) -> Path:
        if name not in self._templates:
            self._templates[name] = self.directory / name
            pid = os.fork()  # a process of its own, which may leave rubbish of the dead
            if pid == 0:
                TEMPLATES[name](self.material, self._templates[name])
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        return self._templates[name]

    def copy(self, operation: Operation) -> Path:
        root = self.directory / f"{operation.name}-{next(self._numbers)}"
        copy(self.template(operation.template), root)
        return root

    def remove(self, root: Path) -> None:
        remove(root)
        root.with_suffix(".tar").unlink(missing_ok=True)


class Trials:
    """All that can happen to one operation."""

    def __init__(self, bench: Bench, operation: Operation) -> None:
        self.bench = bench
        self.operation = operation
        self.log = bench.directory / "strace"
        root = bench.copy(operation)
        # Whatever is loaded or made once in a process is so before the first fork.
        self._prepare(root)()
        bench.remove(root)
        root = bench.copy(operation)
        self.before = oracle.state(root)
        self.faults = injection.faults(lambda: self._prepare(root), root, self.log)
        self.after = oracle.state(root)
        bench.remove(root)

    def _prepare(self, root: Path):
        return self.operation.prepare(self.bench.material, root)

    def try_out(self, fault: Fault) -> Outcome:
        """Let a fault happen to the operation on a store of its own, and look at what that leaves."""
        root = self.bench.copy(self.operation)
        outcome = injection.run(lambda: self._prepare(root), fault, self.log)
        try:
            if outcome.how == "failed":
                raise AssertionError(f"an error that is none of pylxc's: {outcome.words}")  # noqa: TRY301
            run_in_child(lambda: self._check(root, outcome))
        except AssertionError as error:
            where = f"{self.operation.name}, {fault} ({outcome.how}: {outcome.words}); the store is {root}"
            raise AssertionError(f"{where}\n{error}") from error
        self.bench.remove(root)
        return outcome

    def _check(self, root: Path, outcome: Outcome) -> None:
        """Do what the next process does, in a process of its own."""
        engine = pylxc.Engine(root)
        assert engine.store is not None
        assert oracle.problems(root) == []
        state = oracle.state(root)
        assert state in (self.before, self.after), "half of it"
        assert outcome.how != "done" or state == self.after, "it was acknowledged"
        try:
            self._prepare(root)()
        except self.operation.again:
            assert state == self.after
        assert oracle.state(root) == self.after, "it was repeated"
        assert oracle.problems(root) == []
        clear(engine)
        assert oracle.problems(root) == []
        assert oracle.names(root / "layers") == set()
        assert oracle.names(root / "oci/blobs/sha256") == set()
        close(engine)


def trials_of(bench: Bench, name: str) -> Trials:
    return Trials(bench, OPERATIONS[NAMES.index(name)])


@pytest.mark.parametrize("name", NAMES)
def test_an_operation_that_dies_or_fails_somewhere(name, bench):
    seed = int(os.environ.get("PYLXC_CRASHES") or random.SystemRandom().randrange(1 << 32))
    trials = trials_of(bench, name)
    chosen = random.Random(seed).sample(trials.faults, min(FEW, len(trials.faults)))
    sys.stdout.write(f"PYLXC_CRASHES={seed} repeats it: {', '.join(map(str, chosen))} of {len(trials.faults)}\n")
    for fault in chosen:
        trials.try_out(fault)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_operation_that_dies_or_fails_at_every_call(name, bench):
    trials = trials_of(bench, name)
    seen: Counter[str] = Counter()
    failures = []
    for fault in trials.faults:
        try:
            outcome = trials.try_out(fault)
            seen[f"{fault.kind} {outcome.how}{'' if outcome.struck else ', not struck'}"] += 1
        except AssertionError as error:
            failures.append(str(error))
            sys.stdout.write(f"{error}\n")
    sys.stdout.write(f"{name}: {len(trials.faults)} faults: {dict(sorted(seen.items()))}\n")
    assert failures == []
