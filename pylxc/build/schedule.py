"""Carries out the stages of a build side by side, each once, and brings all to an end when one fails.

Hides the threads. Invariant: when :meth:`Schedule.run` returns or raises, no thread of it is left and no process that
it was told of; what is raised is what went wrong first.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

from pylxc.runtime import native

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

MOST_AT_ONCE = 32  # stages: each may have a process that runs
SIGKILL = 9

T = TypeVar("T")


class StoppedError(Exception):
    """Another stage failed; nobody but :class:`Schedule` sees this."""


class _Promise(Generic[T]):
    """What somebody is making, for all who wait for it: concurrent.futures takes 12 ms to import."""

    def __init__(self) -> None:
        self._is_over = threading.Event()
        self._values: list[T] = []

    def keep(self, value: T) -> None:
        """Give those who wait the value."""
        self._values.append(value)
        self._is_over.set()

    def give_up(self) -> None:
        """Let those who wait stop: there will be no value."""
        self._is_over.set()

    def value(self) -> T:
        """Wait for the value. Raises StoppedError where there will be none."""
        self._is_over.wait()
        if not self._values:
            raise StoppedError
        return self._values[0]


class Schedule(Generic[T]):
    """The stages of one build, by number, and what each came to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._results: dict[int, _Promise[T]] = {}
        self._shared: dict[Hashable, _Promise[str]] = {}
        self._running: set[int] = set()
        self._failure: BaseException | None = None
        self._stopped = False

    def run(self, order: Sequence[int], carry_out: Callable[[int], T]) -> T:
        """Carry out stages; those that one needs come before it in ``order``. Returns what the last one came to."""
        self._results = {index: _Promise() for index in order}
        if len(order) == 1:
            return carry_out(order[0])
        from concurrent.futures import ThreadPoolExecutor, as_completed  # noqa: PLC0415  most builds have one stage

        # In this order a stage waits only for those that have a thread, or had one: however few there are, it goes on.
        pool = ThreadPoolExecutor(min(len(order), MOST_AT_ONCE), "pylxc-build")
        try:
            for _ in as_completed([pool.submit(self._carry_out, index, carry_out) for index in order]):
                if self._stopped:
                    break
        except BaseException as error:  # noqa: BLE001  raised below
            self._stop(error)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        self._raise_failure()
        return self._results[order[-1]].value()

    def _raise_failure(self) -> None:
        """Raise what went wrong first. Nothing here refers to it then: what it carries goes when its owner drops it."""
        failure, self._failure = self._failure, None
        try:
            if failure is not None:
                raise failure
        finally:
            del failure

    def _carry_out(self, index: int, carry_out: Callable[[int], T]) -> None:
        try:
            self.check()
            self._results[index].keep(carry_out(index))
        except BaseException as error:  # noqa: BLE001  raised by the thread that waits for all
            self._stop(error)
            self._results[index].give_up()

    def _stop(self, error: BaseException) -> None:
        with self._lock:
            if not self._stopped:
                self._failure = error
            self._stopped = True
            for pid_fd in self._running:
                native.send_signal(pid_fd, SIGKILL)

    def check(self) -> None:
        """Raise StoppedError when another stage has failed."""
        if self._stopped:
            raise StoppedError

    def result(self, index: int) -> T:
        """Wait for a stage, and return what it came to."""
        return self._results[index].value()

    def once(self, key: Hashable, make: Callable[[], str]) -> tuple[str, bool]:
        """Make what has this key, or wait for whoever is making it; say whether it was made here."""
        with self._lock:
            found = self._shared.get(key)
            if found is None:
                mine = self._shared[key] = _Promise()
        if found is not None:
            return found.value(), False
        try:
            made = make()
        except BaseException:
            mine.give_up()
            raise
        mine.keep(made)
        return made, True

    @contextmanager
    def ending(self, pid_fd: int) -> Iterator[None]:
        """Kill a process when another stage fails within the block; then StoppedError is raised at its end."""
        own = os.dup(pid_fd)  # the process's own descriptor is closed within
        try:
            with self._lock:
                self._running.add(own)
                if self._stopped:
                    native.send_signal(own, SIGKILL)
            yield
        finally:
            with self._lock:
                self._running.discard(own)
            os.close(own)
        self.check()
