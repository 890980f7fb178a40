"""The verbs and the objects of pylxc on an event loop (asyncio): nothing is written twice, and only a pull has threads.

Each function here is the steps of the one of the same name in :mod:`pylxc` (:mod:`pylxc.runtime.waiting`), run by the
loop's readers, writers and timers in place of poll(2): it takes the same arguments and raises the same errors.
:class:`Container` and :class:`Process` are views of the objects that they come from.

What waits for a process, a stream, a file or time leaves the loop free. What the disk or the kernel does at once is
done at once: a few small files and rows of SQLite, the system calls of a start; together about 2 ms for each start, and
less than one for the others. An image that has to be pulled first is pulled by a thread. Reading an image, pulling it
for its own sake and building have no form here: use ``asyncio.to_thread``.

Invariant: a task that is cancelled while it waits here (as by ``asyncio.timeout``, ``asyncio.wait_for``, task groups)
ends what it had begun, waits for that, and leaves nothing: no process, descriptor, reader, directory or row.

Example::

    async def main():
        results = await asyncio.gather(*(pylxc.aio.run("host", ["hostname"]) for _ in range(10)))
        async with pylxc.aio.start("redis:seed") as container:
            await container.wait_ready(port=6379)
            async for line in container.logs(follow=True):
                print(line.data)

"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, overload

import pylxc.attachment
import pylxc.container
import pylxc.environment
import pylxc.process
from pylxc import eventstream, verbs
from pylxc.runtime import process as runtime
from pylxc.runtime.waiting import Wait, Work, deadline_of, drive, has_ended, readable, steps_of, stream_of, writable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator
    from types import TracebackType
    from typing import IO, TypeAlias

    from pylxc.attachment import Output
    from pylxc.eventstream import Event, EventStream
    from pylxc.image import Image
    from pylxc.runtime.waiting import Stream, Waiting
    from pylxc.spec import ContainerSpec
    from pylxc.stats import Stats

__all__ = [
    "Attachment",
    "Container",
    "Environment",
    "Items",
    "Making",
    "Process",
    "Reader",
    "StandardInput",
    "Writer",
    "create",
    "events",
    "popen",
    "run",
    "start",
]

P = ParamSpec("P")
T = TypeVar("T")
V = TypeVar("V", bound="Container | Process | Attachment")

if TYPE_CHECKING:
    Coro: TypeAlias = Coroutine[Any, Any, T]


# -- running steps on a loop -----------------------------------------------------------------------------------------


async def _ready(wait: Wait) -> Collection[int]:
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


async def _run(steps: Waiting[T], *, leaving: bool = False) -> T:
    """Run a generator that waits to its end and return what it returns.

    A task that is cancelled throws that into it, once, and then runs it to its end all the same. ``leaving``: it is
    on its way out already, so that it is told of nothing; the task is cancelled when it has ended.
    """
    cancelled: asyncio.CancelledError | None = None
    try:
        wait = next(steps)
        while True:
            try:
                ready = await _ready(wait)
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


def _called(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Coro[T]:
    """Call a function of pylxc for something to await."""
    if hasattr(function, "__wrapped__"):
        return _run(steps_of(function, *args, **kwargs))

    async def at_once() -> T:  # it never waits
        return function(*args, **kwargs)

    return at_once()


def _awaited(function: Callable[P, T]) -> Callable[P, Coro[T]]:
    """Make an awaitable function of one of pylxc."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Coro[T]:
        return _called(function, *args, **kwargs)

    return call


def _method(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], Coro[T]]:
    """Make an awaitable method of a view of the one of the object behind it."""

    @functools.wraps(method)
    def call(self: _View, /, *args: P.args, **kwargs: P.kwargs) -> Coro[T]:
        return _called(method, self._object, *args, **kwargs)

    return call


def _iterating(
    method: Callable[Concatenate[Any, P], Iterator[T]],
) -> Callable[Concatenate[Any, P], Items[T]]:
    """Make a method of a view that returns an async iterator."""

    @functools.wraps(method)
    def call(self: _View, /, *args: P.args, **kwargs: P.kwargs) -> Items[T]:
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
                ready = await _ready(step)
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


def _makes(view: Callable[[Any], V], function: Callable[P, Any]) -> Callable[P, Making[V]]:
    """Make a function that returns a view of what one of pylxc returns."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Making[V]:
        return Making(view, functools.partial(_called, function, *args, **kwargs))

    return call


def _making(
    view: Callable[[Any], V], method: Callable[Concatenate[Any, P], object]
) -> Callable[Concatenate[Any, P], Making[V]]:
    """Make a method of a view of one that returns what there is another view of."""

    @functools.wraps(method)
    def call(self: _View, /, *args: P.args, **kwargs: P.kwargs) -> Making[V]:
        return Making(view, functools.partial(_called, method, self._object, *args, **kwargs))

    return call


# -- the objects -----------------------------------------------------------------------------------------------------


class _View:
    """Something of pylxc, and what it is called here."""

    _object: Any


class Process(_View):
    r"""A process whose streams are read and written on the loop: a view of the :class:`pylxc.Process` in ``process``.

    ``stdin`` is a :class:`Writer`, ``stdout`` and ``stderr`` are :class:`Reader`, or None where they were not pipes.
    As an async context manager it ends with the block: what still runs then is killed.

    Example:
        >>> async with pylxc.aio.popen("host", ["cat"]) as process:                 # doctest: +SKIP
        ...     await process.stdin.write(b"hello\n")
        ...     await process.stdout.readline()
        b'hello\n'

    """

    def __init__(self, process: pylxc.process.Process) -> None:
        self.process = self._object = process
        self.stdin = None if process.stdin is None else Writer(process.stdin)
        self.stdout = None if process.stdout is None else Reader(process.stdout)
        self.stderr = None if process.stderr is None else Reader(process.stderr)

    @property
    def args(self) -> tuple[str, ...]:
        """What is executed."""
        return self.process.args

    @property
    def pid(self) -> int:
        """Its pid on the host."""
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, 128 + n for signal n; None until :meth:`wait` or :meth:`communicate` has come back."""
        return self.process.returncode

    @property
    def container(self) -> Container:
        """The container that it runs in."""
        return Container(self.process.container)

    wait = _method(pylxc.process.Process.wait)
    send_signal = _method(pylxc.process.Process.send_signal)
    terminate = _method(pylxc.process.Process.terminate)
    kill = _method(pylxc.process.Process.kill)
    resize = _method(pylxc.process.Process.resize)

    async def communicate(self, input: bytes | None = None, timeout: float | None = None) -> tuple[bytes, bytes]:  # noqa: A002  pylxc's
        """Feed ``input``, read both streams to their end, wait. See :meth:`pylxc.Process.communicate`.

        What a Reader has taken from the pipe and not given out comes first.
        """
        stdout, stderr = await _run(steps_of(self.process.communicate, input, timeout))
        rest = [b"" if reader is None else reader.take() for reader in (self.stdout, self.stderr)]
        return rest[0] + stdout, rest[1] + stderr

    async def __aenter__(self) -> Process:  # noqa: PYI034  Self is not in Python 3.10
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await _run(steps_of(self.process._leave), leaving=True)  # noqa: SLF001  its other half

    def __repr__(self) -> str:
        return f"<aio.{repr(self.process)[1:]}"


class Reader:
    """Reads what a process writes, on the loop. An async iterator over the lines."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._buffer = b""
        os.set_blocking(file.fileno(), False)

    def take(self) -> bytes:
        """Return what was taken from the pipe already, and not given out."""
        taken, self._buffer = self._buffer, b""
        return taken

    async def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes as soon as there are some, b"" at the end; without ``size`` all that comes."""
        if size < 0:
            while await self._more():
                pass
            return self.take()
        if size and not self._buffer:
            await self._more()
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    async def readline(self) -> bytes:
        r"""Return a line with its ``\n``; the last one may have none; b"" at the end."""
        looked = 0
        while (at := self._buffer.find(b"\n", looked)) < 0:
            looked = len(self._buffer)
            if not await self._more():
                return self.take()
        line, self._buffer = self._buffer[: at + 1], self._buffer[at + 1 :]
        return line

    async def _more(self) -> bool:
        """Wait for more and add it to the buffer; False at the end."""
        while True:
            await _run(readable(self._file.fileno(), None))
            try:
                chunk = runtime.read_or_end(self._file.fileno(), runtime.CHUNK)
            except BlockingIOError:  # another task was faster
                continue
            self._buffer += chunk
            return bool(chunk)

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line


class Writer:
    """Writes to a process's standard input, on the loop."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        os.set_blocking(file.fileno(), False)

    async def write(self, data: bytes) -> None:
        """Write all of ``data``; comes back when the pipe has taken it. Raises BrokenPipeError: nobody reads it."""
        rest = memoryview(data)
        while rest:
            await _run(writable(self._file.fileno()))
            try:
                rest = rest[os.write(self._file.fileno(), rest[: runtime.CHUNK]) :]
            except BlockingIOError:  # another task was faster
                continue

    def close(self) -> None:
        """Close it: the process reads its end. A second time does nothing."""
        self._file.close()


class StandardInput(_View):
    """A container's standard input: a view of the one of :class:`pylxc.Attachment`."""

    def __init__(self, stdin: pylxc.attachment.StandardInput) -> None:
        self._object = stdin

    write = _method(pylxc.attachment.StandardInput.write)
    close = _method(pylxc.attachment.StandardInput.close)


class Attachment(_View):
    r"""What a container writes as it writes it: a view of the :class:`pylxc.Attachment` in ``attachment``.

    An async iterator over :class:`pylxc.Output`; ``stdin`` is a :class:`StandardInput` or None. As an async context
    manager it is closed when the block is left; the container goes on.

    Example:
        >>> async with container.attach() as attachment:                            # doctest: +SKIP
        ...     await attachment.stdin.write(b"status\n")
        ...     async for output in attachment:
        ...         print(output.stream, output.data)

    """

    def __init__(self, attachment: pylxc.attachment.Attachment) -> None:
        self.attachment = self._object = attachment
        self.stdin = None if attachment.stdin is None else StandardInput(attachment.stdin)

    read = _method(pylxc.attachment.Attachment.read)
    wait = _method(pylxc.attachment.Attachment.wait)
    resize = _method(pylxc.attachment.Attachment.resize)
    close = _method(pylxc.attachment.Attachment.close)

    def __aiter__(self) -> Attachment:
        return self

    async def __anext__(self) -> Output:
        output = await self.read()
        if output is None:
            raise StopAsyncIteration
        return output

    async def __aenter__(self) -> Attachment:  # noqa: PYI034  Self is not in Python 3.10
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.attachment.close()


class Container(_View):
    r"""A container whose methods are awaited: a view of the :class:`pylxc.Container` in ``container``.

    Made by :func:`start` and :func:`create`, or of any container: ``pylxc.aio.Container(pylxc.Container.get("web"))``.
    As an async context manager it is removed, running or not, when the block is left. ``logs`` and
    ``stats(stream=True)`` are async iterators.

    Copies between this machine and the container leave the loop free where both sides are paths; a stream of the
    caller's is read and written at the pace of that stream.

    Example:
        >>> async with pylxc.aio.start("redis:seed") as container:                  # doctest: +SKIP
        ...     (await container.exec(["redis-cli", "ping"])).text
        'PONG\n'

    """

    def __init__(self, container: pylxc.container.Container) -> None:
        self.container = self._object = container

    @property
    def id(self) -> str:
        """The container's id, 64 hex digits."""
        return self.container.id

    @property
    def name(self) -> str:
        """The container's name."""
        return self.container.name

    @property
    def image(self) -> Image:
        """The image that it was made from."""
        return self.container.image

    @property
    def spec(self) -> ContainerSpec:
        """Its options."""
        return self.container.spec

    @property
    def created(self) -> float:
        """When it was made, in s since the epoch."""
        return self.container.created

    status = _method(pylxc.container.Container.status)
    inspect = _method(pylxc.container.Container.inspect)
    top = _method(pylxc.container.Container.top)
    diff = _method(pylxc.container.Container.diff)
    commit = _method(pylxc.container.Container.commit)
    logs = _iterating(pylxc.container.Container.logs)

    start = _method(pylxc.container.Container.start)
    stop = _method(pylxc.container.Container.stop)
    kill = _method(pylxc.container.Container.kill)
    detach = _method(pylxc.container.Container.detach)
    restart = _method(pylxc.container.Container.restart)
    pause = _method(pylxc.container.Container.pause)
    unpause = _method(pylxc.container.Container.unpause)
    update = _method(pylxc.container.Container.update)
    wait = _method(pylxc.container.Container.wait)
    remove = _method(pylxc.container.Container.remove)

    exec = _method(pylxc.container.Container.exec)
    connect = _method(pylxc.container.Container.connect)
    ports = _method(pylxc.container.Container.ports)
    address = _method(pylxc.container.Container.address)
    exposed_ports = _method(pylxc.container.Container.exposed_ports)
    call = _method(pylxc.container.Container.call)
    attach = _making(Attachment, pylxc.container.Container.attach)
    popen = _making(Process, pylxc.container.Container.popen)
    wait_ready = _method(pylxc.container.Container.wait_ready)
    copy_in = _method(pylxc.container.Container.copy_in)
    copy_out = _method(pylxc.container.Container.copy_out)

    _stats_now = _method(pylxc.container.Container._stats)  # noqa: SLF001  two forms of one method
    _stats_stream = _iterating(pylxc.container.Container._stats_stream)  # noqa: SLF001

    @overload
    def stats(self, stream: Literal[False] = False) -> Coro[Stats]: ...  # noqa: FBT002
    @overload
    def stats(self, stream: Literal[True]) -> Items[Stats]: ...
    def stats(self, stream: bool = False) -> Coro[Stats] | Items[Stats]:  # noqa: FBT001, FBT002  as pylxc's
        """Return what the container uses now, to be awaited; with ``stream`` an async iterator of it, once a second.

        See :meth:`pylxc.Container.stats`.
        """
        return self._stats_stream() if stream else self._stats_now()

    async def __aenter__(self) -> Container:  # noqa: PYI034  Self is not in Python 3.10
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await _run(steps_of(self.container._leave), leaving=True)  # noqa: SLF001  its other half

    def __repr__(self) -> str:
        return f"<aio.Container {self.name} {self.id[:12]} of {self.spec.image}>"


class Environment(_View):
    """An environment on the loop: a view of the :class:`pylxc.Environment` in ``environment``.

    What brings it up, builds and takes it down is done by threads while the task waits; a cancelled :meth:`up` is
    undone.
    As an async context manager it is taken down when the block is left, unless it came up with ``detach=True``.

    Example:
        >>> async with pylxc.aio.Environment(pylxc.Environment.load()) as environment:      # doctest: +SKIP
        ...     await environment.up(wait=True)
        ...     async for line in environment.logs(follow=True):
        ...         print(line.container, line.log.text, end="")

    """

    def __init__(self, environment: pylxc.environment.Environment) -> None:
        self.environment = self._object = environment

    @property
    def name(self) -> str:
        """The project's name."""
        return self.environment.name

    @property
    def services(self) -> tuple[str, ...]:
        """The names of the services that are active."""
        return self.environment.services

    config = _method(pylxc.environment.Environment.config)
    to_kubernetes = _method(pylxc.environment.Environment.to_kubernetes)
    graph = _method(pylxc.environment.Environment.graph)
    up = _method(pylxc.environment.Environment.up)
    create = _method(pylxc.environment.Environment.create)
    down = _method(pylxc.environment.Environment.down)
    scale = _method(pylxc.environment.Environment.scale)
    ps = _method(pylxc.environment.Environment.ps)
    logs = _iterating(pylxc.environment.Environment.logs)
    events = _iterating(pylxc.environment.Environment.events)
    top = _method(pylxc.environment.Environment.top)
    images = _method(pylxc.environment.Environment.images)
    port = _method(pylxc.environment.Environment.port)
    start = _method(pylxc.environment.Environment.start)
    stop = _method(pylxc.environment.Environment.stop)
    restart = _method(pylxc.environment.Environment.restart)
    kill = _method(pylxc.environment.Environment.kill)
    rm = _method(pylxc.environment.Environment.rm)
    pause = _method(pylxc.environment.Environment.pause)
    unpause = _method(pylxc.environment.Environment.unpause)
    wait = _method(pylxc.environment.Environment.wait)
    exec = _method(pylxc.environment.Environment.exec)
    run = _method(pylxc.environment.Environment.run)
    cp = _method(pylxc.environment.Environment.cp)
    build = _method(pylxc.environment.Environment.build)
    pull = _method(pylxc.environment.Environment.pull)
    push = _method(pylxc.environment.Environment.push)
    watch = _iterating(pylxc.environment.Environment.watch)

    async def __aenter__(self) -> Environment:  # noqa: PYI034  Self is not in Python 3.10
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await _run(steps_of(self.environment._leave), leaving=True)  # noqa: SLF001  its other half

    def __repr__(self) -> str:
        return f"<aio.{repr(self.environment)[1:]}"


# -- the verbs -------------------------------------------------------------------------------------------------------


def _events_of(stream: EventStream) -> Stream[Event]:
    with stream:
        while True:
            yield from stream.take()
            if stream.ended:
                return
            yield Wait((stream.fileno(),), until=deadline_of(stream.left()))


def _following(function: Callable[P, EventStream]) -> Callable[P, Items[Event]]:
    """Make a function that returns an async iterator over the events of one of pylxc."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Items[Event]:
        return Items(_events_of(function(*args, **kwargs)))

    return call


events = _following(eventstream.events)
run = _awaited(verbs.run)
start = _makes(Container, verbs.start)
create = _makes(Container, verbs.create)
popen = _makes(Process, verbs.popen)
