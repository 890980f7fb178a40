"""Containers on the loop, and what they write as they write it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

import pylxc.attachment
import pylxc.container
from pylxc.aio.process import Process
from pylxc.aio.views import ScopedView, View, iterating, making, method

if TYPE_CHECKING:
    from types import TracebackType

    from pylxc.aio.loop import Coro
    from pylxc.aio.views import Items
    from pylxc.attachment import Output
    from pylxc.image import Image
    from pylxc.spec import ContainerSpec
    from pylxc.stats import Stats


class StandardInput(View):
    """A container's standard input: a view of the one of :class:`pylxc.Attachment`."""

    def __init__(self, stdin: pylxc.attachment.StandardInput) -> None:
        self._object = stdin

    write = method(pylxc.attachment.StandardInput.write)
    close = method(pylxc.attachment.StandardInput.close)


class Attachment(ScopedView):
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

    read = method(pylxc.attachment.Attachment.read)
    wait = method(pylxc.attachment.Attachment.wait)
    resize = method(pylxc.attachment.Attachment.resize)
    close = method(pylxc.attachment.Attachment.close)

    def __aiter__(self) -> Attachment:
        return self

    async def __anext__(self) -> Output:
        output = await self.read()
        if output is None:
            raise StopAsyncIteration
        return output

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.attachment.close()


class Container(ScopedView):
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

    status = method(pylxc.container.Container.status)
    inspect = method(pylxc.container.Container.inspect)
    top = method(pylxc.container.Container.top)
    diff = method(pylxc.container.Container.diff)
    commit = method(pylxc.container.Container.commit)
    logs = iterating(pylxc.container.Container.logs)

    start = method(pylxc.container.Container.start)
    stop = method(pylxc.container.Container.stop)
    kill = method(pylxc.container.Container.kill)
    detach = method(pylxc.container.Container.detach)
    restart = method(pylxc.container.Container.restart)
    pause = method(pylxc.container.Container.pause)
    unpause = method(pylxc.container.Container.unpause)
    update = method(pylxc.container.Container.update)
    wait = method(pylxc.container.Container.wait)
    remove = method(pylxc.container.Container.remove)

    exec = method(pylxc.container.Container.exec)
    connect = method(pylxc.container.Container.connect)
    ports = method(pylxc.container.Container.ports)
    address = method(pylxc.container.Container.address)
    exposed_ports = method(pylxc.container.Container.exposed_ports)
    call = method(pylxc.container.Container.call)
    attach = making(Attachment, pylxc.container.Container.attach)
    popen = making(Process, pylxc.container.Container.popen)
    wait_ready = method(pylxc.container.Container.wait_ready)
    copy_in = method(pylxc.container.Container.copy_in)
    copy_out = method(pylxc.container.Container.copy_out)

    _stats_now = method(pylxc.container.Container._stats)  # noqa: SLF001  two forms of one method
    _stats_stream = iterating(pylxc.container.Container._stats_stream)  # noqa: SLF001

    @overload
    def stats(self, stream: Literal[False] = False) -> Coro[Stats]: ...  # noqa: FBT002
    @overload
    def stats(self, stream: Literal[True]) -> Items[Stats]: ...
    def stats(self, stream: bool = False) -> Coro[Stats] | Items[Stats]:  # noqa: FBT001, FBT002  as pylxc's
        """Return what the container uses now, to be awaited; with ``stream`` an async iterator of it, once a second.

        See :meth:`pylxc.Container.stats`.
        """
        return self._stats_stream() if stream else self._stats_now()

    def __repr__(self) -> str:
        return f"<aio.Container {self.name} {self.id[:12]} of {self.spec.image}>"
