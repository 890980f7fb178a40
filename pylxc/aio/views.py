"""What views of pylxc's objects consist of: each method made of the one of the object behind it.

Invariant: nothing is written twice: arguments, documentation and errors are those of pylxc.
"""

from __future__ import annotations

import functools
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

from pylxc.aio.loop import called, run_steps, until_ready
from pylxc.runtime.waiting import Wait, steps_of, stream_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from types import TracebackType

    from typing_extensions import Self

    from pylxc.aio.loop import Coro
    from pylxc.runtime.waiting import Stream

P = ParamSpec("P")
T = TypeVar("T")
V = TypeVar("V", bound="ScopedView")


class View:
    """Something of pylxc, and what it is called here."""

    _object: Any


class ScopedView(View):
    """A view that an ``async with`` block leaves as ``with`` leaves the object behind it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await run_steps(steps_of(self._object._leave), leaving=True)  # noqa: SLF001  its other half


def awaited(function: Callable[P, T]) -> Callable[P, Coro[T]]:
    """Make an awaitable function of one of pylxc."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Coro[T]:
        return called(function, *args, **kwargs)

    return call


def method(function: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], Coro[T]]:
    """Make an awaitable method of a view of the one of the object behind it."""

    @functools.wraps(function)
    def call(self: View, /, *args: P.args, **kwargs: P.kwargs) -> Coro[T]:
        return called(function, self._object, *args, **kwargs)

    return call


def iterating(
    method: Callable[Concatenate[Any, P], Iterator[T]],
) -> Callable[Concatenate[Any, P], Items[T]]:
    """Make a method of a view that returns an async iterator."""

    @functools.wraps(method)
    def call(self: View, /, *args: P.args, **kwargs: P.kwargs) -> Items[T]:
        return Items(stream_of(method, self._object, *args, **kwargs))

    return call


class Items(Generic[T]):
    """An async iterator over what comes. A cancelled ``anext`` loses nothing: the next one goes on.

    It is closed with its last reference, by ``aclose()``, and at the end of an ``async with`` block.
    """

    def __init__(self, stream: Stream[T]) -> None:
        self._stream = stream
        self._wait: Wait | None = None
        self._busy = False

    def __aiter__(self) -> Items[T]:
        return self

    async def __anext__(self) -> T:
        if self._busy:
            raise RuntimeError("another task waits for the next one already")
        self._busy = True
        try:
            step = self._wait or next(self._stream)
            while isinstance(step, Wait):
                self._wait = step
                ready = await until_ready(step)
                self._wait = None
                step = self._stream.send(ready)
        except StopIteration:
            raise StopAsyncIteration from None
        finally:
            self._busy = False
        return step

    async def aclose(self) -> None:
        """Close it; there is nothing more to come."""
        self._wait = None
        self._stream.close()

    async def __aenter__(self) -> Items[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Making(Coroutine[Any, Any, V]):
    """What is being made: await it, make a task of it, or use it in ``async with``, which ends it with the block.

    Example:
        >>> container = await pylxc.aio.start("redis:seed")                         # doctest: +SKIP
        >>> async with pylxc.aio.start("redis:seed") as container:                  # doctest: +SKIP
        ...     await container.wait_ready(port=6379)

    """

    def __init__(self, view: Callable[[Any], V], make: Callable[[], Coro[object]]) -> None:
        async def viewed() -> V:
            return view(await make())

        self._steps = viewed()
        self._made: V | None = None

    def __await__(self) -> Generator[Any, Any, V]:
        return self._steps.__await__()

    def send(self, value: object, /) -> Any:
        """Go on, as any coroutine does."""
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        """Go on with an exception, as any coroutine does."""
        return self._steps.throw(*error)

    def close(self) -> None:
        """End it, as any coroutine is ended."""
        self._steps.close()

    async def __aenter__(self) -> V:
        self._made = await self
        return self._made

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        made, self._made = self._made, None
        if made is not None:
            await made.__aexit__(kind, error, trace)


def makes(view: Callable[[Any], V], function: Callable[P, Any]) -> Callable[P, Making[V]]:
    """Make a function that returns a view of what one of pylxc returns."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Making[V]:
        return Making(view, functools.partial(called, function, *args, **kwargs))

    return call


def making(
    view: Callable[[Any], V], method: Callable[Concatenate[Any, P], object]
) -> Callable[Concatenate[Any, P], Making[V]]:
    """Make a method of a view of one that returns what there is another view of."""

    @functools.wraps(method)
    def call(self: View, /, *args: P.args, **kwargs: P.kwargs) -> Making[V]:
        return Making(view, functools.partial(called, method, self._object, *args, **kwargs))

    return call
