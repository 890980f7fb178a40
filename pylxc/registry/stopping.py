"""How a transfer is stopped, and the threads that it has.

Hides that a thread in recv(2) hears nothing: the sockets that it waits on are shut down by whoever stops it. Invariant:
when the block of a :class:`Crew` is left, by an exception too, none of its threads is running.
"""

from __future__ import annotations

import socket
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Self

T = TypeVar("T")
R = TypeVar("R")


class Stopped(Exception):  # noqa: N818  not a failure: somebody wanted it
    """The work was given up on; never seen by callers of this package."""


class Stop:
    """A word that work is to end, for its threads and for those of the work inside it."""

    def __init__(self, outer: Stop | None = None) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._inner: weakref.WeakSet[Stop] = weakref.WeakSet()
        if outer is not None:
            outer.adopt(self)

    def adopt(self, inner: Stop) -> None:
        """Let another stop be set with this one."""
        with self._lock:
            self._inner.add(inner)
        if self._event.is_set():
            inner.set()

    def set(self) -> None:
        """Say it: whoever waits for a socket, or for a time, stops waiting."""
        self._event.set()
        with self._lock:
            sockets, inner = list(self._sockets), list(self._inner)
        for each in sockets:
            _shut(each)
        for stop in inner:
            stop.set()

    def is_set(self) -> bool:
        """Say whether it was said."""
        return self._event.is_set()

    def watch(self, waited_on: socket.socket) -> None:
        """Shut this socket down when the word is said."""
        with self._lock:
            self._sockets.add(waited_on)
        if self._event.is_set():
            _shut(waited_on)

    def forget(self, sockets: Iterable[socket.socket]) -> None:
        """Leave these sockets alone from now on."""
        with self._lock:
            self._sockets.difference_update(sockets)

    def sleep(self, seconds: float) -> None:
        """Wait. Raises Stopped as soon as the word is said."""
        if self._event.wait(seconds):
            raise Stopped

    def check(self) -> None:
        """Raise Stopped if the word was said."""
        if self._event.is_set():
            raise Stopped


def _shut(each: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        # Not the method of SSLSocket, which takes the session away from under the thread that reads.
        socket.socket.shutdown(each, socket.SHUT_RDWR)


class Crew:
    """Threads that do one piece of work, and are gone when its block is left.

    The first failure stops the others; :meth:`wait` raises it. ``changed`` is for their common state.
    """

    def __init__(self, outer: Stop | None = None) -> None:
        self.stop = Stop(outer)
        self.changed = threading.Condition()
        self._failure: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._running = 0

    def start(self, work: Callable[[], None], count: int) -> None:
        """Start some threads on the same work."""
        for number in range(count):
            # A daemon: a thread that still connects must not keep the interpreter from ending.
            thread = threading.Thread(target=self._run, args=(work,), name=f"pylxc-registry-{number}", daemon=True)
            with self.changed:
                self._running += 1
            self._threads.append(thread)
            thread.start()

    def _run(self, work: Callable[[], None]) -> None:
        failure: BaseException | None = None
        try:
            work()
        except BaseException as error:  # noqa: BLE001  it is raised where the caller waits
            failure = error
        with self.changed:
            self._running -= 1
            # A thread that was stopped is no cause; the one that failed first is.
            self._failure = self._failure or failure
            self.changed.notify_all()
        if failure is not None:
            self.stop.set()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait, with ``changed`` held, until something is so. Raises what a thread failed with."""
        self.changed.wait_for(lambda: self._failure is not None or self.stop.is_set() or condition())
        if self._failure is not None:
            raise self._failure
        self.stop.check()

    def wait(self) -> None:
        """Wait for the end of all threads. Raises what the first one failed with."""
        with self.changed:
            self.wait_for(lambda: self._running == 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        with self.changed:
            self.changed.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()


def share(items: Iterable[T], work: Callable[[T, Stop], R], most: int, outer: Stop | None = None) -> list[R]:
    """Do some work on each item, in so many threads at most; return what came of each, in their order.

    The first failure, or an interrupt of the caller, ends the others, and is raised when no thread is left.
    """
    given = list(items)
    results: dict[int, R] = {}
    waiting = iter(enumerate(given))
    with Crew(outer) as crew:

        def run() -> None:
            while not crew.stop.is_set():
                with crew.changed:
                    number, item = next(waiting, (-1, None))
                if number < 0:
                    return
                results[number] = work(cast("T", item), crew.stop)

        crew.start(run, min(len(given), most))
        crew.wait()
    return [results[number] for number in range(len(given))]
