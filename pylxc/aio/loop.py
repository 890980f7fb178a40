"""Steps that wait (:mod:`pylxc.runtime.waiting`), run by an event loop.

Hides readers, timers, threads and what cancelling means: the only user of asyncio. Invariant: a generator that was
begun is run to its end, whatever becomes of the task.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from pylxc.runtime.waiting import Wait, Work, drive, has_ended, steps_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine
    from typing import Any, TypeAlias

    from pylxc.runtime.waiting import Waiting

P = ParamSpec("P")
T = TypeVar("T")

if TYPE_CHECKING:
    Coro: TypeAlias = Coroutine[Any, Any, T]


async def until_ready(wait: Wait) -> Collection[int]:
    """Wait as :meth:`Wait.poll` does."""
    if isinstance(wait, Work):
        await _made(wait)
        return ()
    loop = asyncio.get_running_loop()
    future, ready = loop.create_future(), set[int]()

    def wake(*fds: int) -> None:
        ready.update(fds)
        if not future.done():
            future.set_result(None)

    left = wait.left()
    timer = None if left is None else loop.call_later(left, wake)
    try:
        for fd in wait.read:
            loop.add_reader(fd, wake, fd)
        for fd in wait.write:
            loop.add_writer(fd, wake, fd)
        await future
    finally:
        for fd in wait.read:
            loop.remove_reader(fd)
        for fd in wait.write:
            loop.remove_writer(fd)
        if timer is not None:
            timer.cancel()
    return ready


async def _made(work: Work) -> None:
    """Let a thread make a call; a task that is cancelled meanwhile stops it, and waits until it has ended."""
    call = asyncio.get_running_loop().run_in_executor(None, work.call)
    cancelled: asyncio.CancelledError | None = None
    while not call.done():
        try:
            await asyncio.wait((call,))
        except asyncio.CancelledError as error:  # noqa: PERF203  as often as it is cancelled
            cancelled = cancelled or error
            work.stop()
    if cancelled is not None:
        call.exception()  # what it ended with is of no interest any more
        raise cancelled
    call.result()


async def run_steps(steps: Waiting[T], *, leaving: bool = False) -> T:
    """Run a generator that waits to its end and return what it returns.

    A task that is cancelled throws that into it, once, and then runs it to its end all the same. ``leaving``: it is
    on its way out already, so that it is told of nothing; the task is cancelled when it has ended.
    """
    cancelled: asyncio.CancelledError | None = None
    try:
        wait = next(steps)
        while True:
            try:
                ready = await until_ready(wait)
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
                if not leaving:
                    leaving = True
                    wait = steps.throw(error)
                    continue
                ready = wait.look()  # else who cancels it again and again keeps it from ever being told
                if not ready and wait.left() != 0:
                    continue
            wait = steps.send(ready)
    except StopIteration as end:
        if cancelled is not None:
            raise cancelled from None
        value: T = end.value
        return value
    except GeneratorExit:  # the loop was closed, or somebody closed the coroutine
        steps.close()
        raise
    except BaseException as error:
        if has_ended(steps):
            raise
        return drive(steps, error)  # the loop cannot wait for this


def called(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Coro[T]:
    """Call a function of pylxc for something to await."""
    if hasattr(function, "__wrapped__"):
        return run_steps(steps_of(function, *args, **kwargs))

    async def at_once() -> T:  # it never waits
        return function(*args, **kwargs)

    return at_once()
