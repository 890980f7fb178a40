"""Carries out the stages of a build side by side, each once, and brings all to an end when one fails.

Hides the threads. Invariant: when :meth:`Schedule.run` returns or raises, no thread of it is left and no process that
it was told of; what is raised is what went wrong first.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from signal import SIGKILL
from typing import TYPE_CHECKING, Generic, TypeVar

from pylxc.runtime import native

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

MOST_AT_ONCE = 32  # stages: each may have a process that runs

T = TypeVar("T")


class StoppedError(Exception):
    """Another stage failed; nobody but :class:`Schedule` sees this."""


class Schedule(Generic[T]):
    """The stages of one build, by number, and what each came to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._results: dict[int, Future[T]] = {}
        self._shared: dict[Hashable, Future[str]] = {}
        self._running: set[int] = set()
        self._failure: BaseException | None = None
        self._stopped = False

    def run(self, order: Sequence[int], carry_out: Callable[[int], T]) -> T:
        """Carry out stages; those that one needs come before it in ``order``. Returns what the last one came to."""
        self._results = {index: Future() for index in order}
        if len(order) == 1:
            return carry_out(order[0])
        # In this order a stage waits only for those that have a thread, or had one: however few there are, it goes on.
        pool = ThreadPoolExecutor(min(len(order), MOST_AT_ONCE), "pylxc-build")
        try:
            for future in as_completed([pool.submit(self._carry_out, index, carry_out) for index in order]):
                future.result()
        except BaseException as error:
            self._stop(error)
            if self._failure is not None and self._failure is not error:
                raise self._failure from None  # the other one only followed from it
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return self._results[order[-1]].result()

    def _carry_out(self, index: int, carry_out: Callable[[int], T]) -> None:
        try:
            self.check()
            self._results[index].set_result(carry_out(index))
        except BaseException as error:
            self._stop(error)
            self._results[index].set_exception(StoppedError())
            raise

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
        return self._results[index].result()

    def once(self, key: Hashable, make: Callable[[], str]) -> tuple[str, bool]:
        """Make what has this key, or wait for whoever is making it; say whether it was made here."""
        with self._lock:
            found = self._shared.get(key)
            if found is None:
                mine = self._shared[key] = Future()
        if found is not None:
            return found.result(), False
        try:
            made = make()
        except BaseException:
            mine.set_exception(StoppedError())
            raise
        mine.set_result(made)
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
