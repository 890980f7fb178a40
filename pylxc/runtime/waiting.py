"""What waits, as generators: they say what for, and whoever runs them waits for it in a way of his own.

A function that waits is written once, as a generator that yields a :class:`Wait` and is sent the descriptors that are
ready (none: its time is over). :func:`drive` runs it with poll(2); ``pylxc.aio`` runs the same one on an event loop.
``@waits`` makes an ordinary function of it, and :func:`steps_of` gives the generator back to those that wait for it in
the middle of their own.

Invariant: whoever stops waiting (KeyboardInterrupt, a cancelled task) throws that into the generator and runs it to its
end, so its ``finally`` may wait too, with :func:`steps_of`: for the end of a process that it kills. A descriptor in a
Wait belongs to the one that waits, for as long as it waits: what others may close, or wait for as well, is duplicated.

Example:
    >>> @waits
    ... def wait(self, timeout: float | None = None) -> Waiting[bool]:              # doctest: +SKIP
    ...     return (yield from readable(self.fd, timeout))

"""

from __future__ import annotations

import functools
import os
import select
import sys
import time
from collections.abc import Callable, Collection, Generator, Iterator
from typing import Any, ParamSpec, TypeAlias, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Wait:
    """What a generator waits for: one of ``read`` to be readable, one of ``write`` to be writable, ``until`` to pass.

    Descriptors; ``until`` in ``time.monotonic()``'s seconds (None: for ever). ``blocking``: the call that follows waits
    as well, so that who may block need not wait here (it costs a start 5 µs).
    """

    __slots__ = ("blocking", "read", "until", "write")

    def __init__(
        self,
        read: Collection[int] = (),
        write: Collection[int] = (),
        until: float | None = None,
        *,
        blocking: bool = False,
    ) -> None:
        self.blocking = blocking
        self.read = read
        self.write = write
        self.until = until

    def left(self) -> float | None:
        """Return the seconds that are left, None for ever."""
        return None if self.until is None else max(0.0, self.until - time.monotonic())

    def look(self) -> Collection[int]:
        """Return what is ready now."""
        return Wait(self.read, self.write, 0).poll()

    def poll(self) -> Collection[int]:
        """Wait; return what is ready."""
        if self.blocking:
            return self.read
        poll = select.poll()
        for fd in self.read:
            poll.register(fd, select.POLLIN)
        for fd in self.write:
            poll.register(fd, select.POLLOUT | (select.POLLIN if fd in self.read else 0))
        left = self.left()
        return [fd for fd, _ in poll.poll(None if left is None else left * 1000)]


class Work(Wait):
    """A wait for a call that takes its time and says of no descriptor when it is done: a pull, for instance.

    Who may block makes the ``call`` in place; a loop has a thread make it, and calls ``stop`` (in another thread) where
    the task is cancelled, so that the call ends soon. Nothing is sent to the generator; what the call raises is thrown.
    """

    __slots__ = ("call", "stop")

    def __init__(self, call: Callable[[], object], stop: Callable[[], object]) -> None:
        super().__init__()
        self.call = call
        self.stop = stop

    def poll(self) -> Collection[int]:
        """Make the call."""
        self.call()
        return ()


Waiting: TypeAlias = Generator[Wait, Collection[int], T]
Stream: TypeAlias = Generator[Wait | T, Any, None]  # is sent what is ready after a Wait, None after an item


def drive(steps: Waiting[T], thrown: BaseException | None = None) -> T:
    """Run a generator that waits to its end and return what it returns. ``thrown`` is thrown into it first."""
    try:
        wait = next(steps) if thrown is None else steps.throw(thrown)
        while True:
            wait = steps.send(wait.poll())
    except StopIteration as end:
        value: T = end.value
        return value
    except BaseException as error:
        if has_ended(steps):
            raise
        return drive(steps, error)  # it came from outside, between two steps


def has_ended(steps: Any) -> bool:
    """Say whether a generator has returned or raised."""
    return steps.gi_frame is None


def items(stream: Stream[T]) -> Iterator[T]:
    """Yield the items of a stream, and wait where it waits."""
    try:
        step = next(stream)
        while True:
            if isinstance(step, Wait):
                step = stream.send(step.poll())
            else:
                yield step
                step = next(stream)
    except StopIteration:
        return
    finally:
        stream.close()


def waits(function: Callable[P, Waiting[T]]) -> Callable[P, T]:
    """Make a function that waits of one that says what it waits for."""

    @functools.wraps(function)
    def driven(*args: P.args, **kwargs: P.kwargs) -> T:
        return drive(function(*args, **kwargs))

    _shows(function, "Waiting", "")
    return driven


def iterates(function: Callable[P, Stream[T]]) -> Callable[P, Iterator[T]]:
    """Make a function that returns an iterator of one that says, between the items, what it waits for."""

    @functools.wraps(function)
    def driven(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return items(function(*args, **kwargs))

    _shows(function, "Stream", "Iterator")
    return driven


def _shows(function: Callable[..., Any], written: str, shown: str) -> None:
    """Let ``help`` show what callers get: it looks at the function inside, whose annotations are text."""
    inside = function.__annotations__["return"].removeprefix(f"{written}[").removesuffix("]")
    function.__annotations__["return"] = f"{shown}[{inside}]" if shown else inside


def steps_of(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Waiting[T]:
    """Call a function made by :func:`waits` for its steps: ``yield from`` them, where the caller's own are.

    A generator that is thrown away (GeneratorExit) may not yield any more: what it still has to wait for in its
    ``finally`` is waited for here.
    """
    made: Any = function
    owner = getattr(made, "__self__", None)
    steps: Waiting[T] = made.__wrapped__(*args, **kwargs) if owner is None else made.__wrapped__(owner, *args, **kwargs)
    return steps if sys.exc_info()[0] is not GeneratorExit else _done(drive(steps))


def _done(value: T) -> Waiting[T]:
    yield from ()
    return value


def stream_of(function: Callable[P, Iterator[T]], *args: P.args, **kwargs: P.kwargs) -> Stream[T]:
    """Call a function made by :func:`iterates` for its stream."""
    made: Any = function
    owner = getattr(made, "__self__", None)
    stream: Stream[T] = made.__wrapped__(*args, **kwargs) if owner is None else made.__wrapped__(owner, *args, **kwargs)
    return stream


def deadline_of(timeout: float | None) -> float | None:
    """Return when a timeout (s) that begins now is over."""
    return None if timeout is None else time.monotonic() + timeout


def readable(fd: int, timeout: float | None) -> Waiting[bool]:
    """Wait until a descriptor (a pidfd: until the process has ended) is readable; False when ``timeout`` (s) passed."""
    own = _copy(fd)
    try:
        return bool((yield Wait((own,), until=deadline_of(timeout))))
    finally:
        if own != fd:
            os.close(own)


def writable(fd: int) -> Waiting[None]:
    """Wait until a descriptor is writable."""
    own = _copy(fd)
    try:
        yield Wait(write=(own,))
    finally:
        if own != fd:
            os.close(own)


def _copy(fd: int) -> int:
    """Return a copy of a descriptor; itself where there are too many, for processes are waited for then, too."""
    try:
        return os.dup(fd)
    except OSError:
        return fd
