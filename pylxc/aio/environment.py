"""Environments on the loop."""

from __future__ import annotations

import pylxc.environment
from pylxc.aio.views import ScopedView, iterating, method


class Environment(ScopedView):
    """An environment on the loop: a view of the :class:`pylxc.Environment` in ``environment``.

    What brings it up, builds and takes it down is done by threads while the task waits; a cancelled :meth:`up` is
    undone. As an async context manager it is taken down when the block is left, unless it came up with ``detach=True``.

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

    config = method(pylxc.environment.Environment.config)
    to_kubernetes = method(pylxc.environment.Environment.to_kubernetes)
    graph = method(pylxc.environment.Environment.graph)
    up = method(pylxc.environment.Environment.up)
    create = method(pylxc.environment.Environment.create)
    down = method(pylxc.environment.Environment.down)
    scale = method(pylxc.environment.Environment.scale)
    ps = method(pylxc.environment.Environment.ps)
    logs = iterating(pylxc.environment.Environment.logs)
    events = iterating(pylxc.environment.Environment.events)
    top = method(pylxc.environment.Environment.top)
    images = method(pylxc.environment.Environment.images)
    port = method(pylxc.environment.Environment.port)
    start = method(pylxc.environment.Environment.start)
    stop = method(pylxc.environment.Environment.stop)
    restart = method(pylxc.environment.Environment.restart)
    kill = method(pylxc.environment.Environment.kill)
    rm = method(pylxc.environment.Environment.rm)
    pause = method(pylxc.environment.Environment.pause)
    unpause = method(pylxc.environment.Environment.unpause)
    wait = method(pylxc.environment.Environment.wait)
    exec = method(pylxc.environment.Environment.exec)
    run = method(pylxc.environment.Environment.run)
    cp = method(pylxc.environment.Environment.cp)
    build = method(pylxc.environment.Environment.build)
    pull = method(pylxc.environment.Environment.pull)
    push = method(pylxc.environment.Environment.push)
    watch = iterating(pylxc.environment.Environment.watch)

    def __repr__(self) -> str:
        return f"<aio.{repr(self.environment)[1:]}"
