"""Work on services in the order of what they depend on, side by side where that allows.

Invariant: a service's work begins when that of all it depends on has ended. After the first error nothing more begins;
what runs is asked to stop, and has ended when the call comes back.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pylxc.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

WIDEST = 16  # threads


class StoppedError(Exception):
    """The work was given up, for somebody else's failed or the caller asked for it."""


def closure(names: Iterable[str], needs: Mapping[str, Collection[str]]) -> set[str]:
    """Return names and all that they need, directly or not."""
    found: set[str] = set()
    rest = list(names)
    while rest:
        name = rest.pop()
        if name not in found:
            found.add(name)
            rest += needs.get(name, ())
    return found


def backwards(needs: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
    """Return who needs each: for work that goes from those that depend to those that they depend on."""
    found: dict[str, set[str]] = {name: set() for name in needs}
    for name, others in needs.items():
        for other in others:
            if other in found:
                found[other].add(name)
    return found


def check_cycles(needs: Mapping[str, Collection[str]]) -> None:
    """Raise SpecError where services wait for each other."""
    left = {name: set(others) & set(needs) for name, others in needs.items()}
    while left:
        ready = {name for name, others in left.items() if not others & set(left)}
        if not ready:
            raise SpecError("depends_on", ", ".join(sorted(left)), "these services wait for each other")
        for name in ready:
            del left[name]


class Schedule:
    """Runs work for each name; ``needs``: what has to come before each. ``stop`` is set after the first error."""

    def __init__(
        self, needs: Mapping[str, Collection[str]], work: Callable[[str], object], stop: threading.Event
    ) -> None:
        check_cycles(needs)
        self._left = {name: set(others) & set(needs) for name, others in needs.items()}
        self._work = work
        self._stop = stop
        self._changed = threading.Condition()
        self._running = 0
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do all of it. Raises the first error."""
        try:
            self._start_ready()
        except BaseException:  # an interrupt, too: nothing goes on when this has come back
            self._stop.set()
            self._await_all()
            raise
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # an error whose frame knows it would stay for the collector
        if self._left:
            raise StoppedError

    def _start_ready(self) -> None:
        with self._changed:
            while (self._left and not self._stop.is_set()) or self._running:
                for name in self._ready():
                    self._left[name] = {name}  # nobody else takes it
                    self._running += 1
                    threading.Thread(target=self._do, args=(name,), name=f"pylxc {name}", daemon=True).start()
                self._changed.wait()

    def _ready(self) -> list[str]:
        if self._stop.is_set():
            return []
        ready = [name for name, others in self._left.items() if not others]
        return ready[: WIDEST - self._running]

    def _await_all(self) -> None:
        with self._changed:
            while self._running:
                self._changed.wait()

    def _do(self, name: str) -> None:
        error: BaseException | None = None
        try:
            self._work(name)
        except BaseException as raised:  # noqa: BLE001  raised again in the caller's thread
            error = raised
            self._stop.set()
        with self._changed:
            if error is not None and (self._error is None or isinstance(self._error, StoppedError)):
                self._error = error
            self._left.pop(name)
            for others in self._left.values():
                others.discard(name)
            self._running -= 1
            self._changed.notify_all()


def in_order(
    needs: Mapping[str, Collection[str]], work: Callable[[str], object], stop: threading.Event | None = None
) -> None:
    """Do work for each name, after that of what it needs; the first error is raised when all has ended.

    Raises StoppedError when ``stop`` was set before all was done; SpecError where names need each other.
    """
    if stop is not None and stop.is_set():
        raise StoppedError
    if len(needs) == 1:
        work(next(iter(needs)))
        return
    Schedule(needs, work, stop or threading.Event()).run()


def side_by_side(names: Iterable[str], work: Callable[[str], object], stop: threading.Event | None = None) -> None:
    """Do work for each name, in any order."""
    in_order(dict.fromkeys(names, ()), work, stop)
