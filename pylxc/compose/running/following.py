"""What an environment's containers write and what happens to them, as one stream each.

Hides how several things are waited for at once: each is a stream that says what it waits for, and a merged one waits
for all of that. Invariant: the lines of one container keep their order; a container that starts while the log is
followed is followed as well.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from attrs import frozen

from pylxc.compose.parts import labels
from pylxc.compose.parts.found import is_one_off, service_of
from pylxc.errors import ContainerNotFound
from pylxc.eventstream import EventStream
from pylxc.runtime.waiting import Wait, stream_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from pylxc.compose.parts.found import Found
    from pylxc.container import Container
    from pylxc.eventstream import Event
    from pylxc.runtime.logs import LogLine
    from pylxc.runtime.waiting import Stream


@frozen
class ServiceLine:
    r"""A line that a container of an environment wrote: its ``service``, its name, and the :class:`~pylxc.LogLine`.

    Example:
        >>> for line in environment.logs():                                         # doctest: +SKIP
        ...     print(line.container, line.log.text, end="")

    """

    service: str
    container: str
    log: LogLine


class _Source:
    """A stream among others: what it waits for, and the items that have come and not been given out."""

    def __init__(self, container: Container, stream: Stream[LogLine]) -> None:
        self.container = container
        self.stream = stream
        self.wait: Wait | None = None
        self.ended = False
        self.last: float | None = None  # when the last line that was given out was written

    def take(self) -> Iterator[ServiceLine]:
        """Yield what there is without waiting."""
        service, name = service_of(self.container), self.container.name
        try:
            step: Any = next(self.stream) if self.wait is None else self.stream.send(self.wait.look())
            while not isinstance(step, Wait):
                self.last = step.time
                yield ServiceLine(service, name, step)
                step = next(self.stream)
            self.wait = step
        except (StopIteration, ContainerNotFound):
            self.ended = True


def logs(  # noqa: PLR0913  the public method's keywords
    found: Found,
    services: Collection[str],
    containers: Sequence[Container],
    *,
    follow: bool,
    tail: int | None,
    since: float | None,
    timestamps: bool,
) -> Stream[ServiceLine]:
    """Yield what containers of services (none: of all) wrote, by time; see ``Environment.logs``."""

    def source(container: Container, lines: int | None = None, begin: float | None = None) -> _Source:
        stream = stream_of(type(container).logs, container, follow, lines, begin, timestamps=timestamps)
        return _Source(container, stream)

    sources = [source(container, tail, since) for container in containers]
    if not follow:
        every = [line for one in sources for line in one.take()]
        yield from sorted(every, key=_time)
        return
    with EventStream(found.engine, follow=True, since=None, until=None, filters={"kind": "started"}) as events:
        while True:
            known = {one.container.id: one for one in sources}
            for event in events.take():
                new = _new(found, services, event)
                if new is not None and (event.container not in known or known[event.container].ended):
                    sources = [one for one in sources if one.container.id != new.id]
                    # One that has started again goes on behind what was shown of it.
                    last = known[new.id].last if new.id in known else None
                    sources.append(source(new, begin=None if last is None else math.nextafter(last, math.inf)))
            yield from sorted((line for one in sources if not one.ended for line in one.take()), key=_time)
            waits = [one.wait for one in sources if not one.ended and one.wait is not None]
            if not waits:
                return
            yield _both(waits, events.fileno())


def _new(found: Found, services: Collection[str], event: Event) -> Container | None:
    try:
        container = found.engine.container(event.container)
    except ContainerNotFound:
        return None
    mine = container.spec.labels.get(labels.PROJECT) == found.project and not is_one_off(container)
    return container if mine and (not services or service_of(container) in services) else None


def _time(line: ServiceLine) -> float:
    return line.log.time


def _both(waits: list[Wait], *others: int) -> Wait:
    ends = [wait.until for wait in waits if wait.until is not None]
    return Wait((*(fd for wait in waits for fd in wait.read), *others), until=min(ends, default=None))


def events(found: Found, services: Collection[str], stream: EventStream) -> Stream[Event]:
    """Yield the events of the project's containers."""
    mine: dict[str, bool] = {}
    with stream:
        while True:
            for event in stream.take():
                if event.container not in mine:
                    mine[event.container] = _is_mine(found, services, event)
                if mine[event.container]:
                    yield event
            if stream.ended:
                return
            left = stream.left()
            yield Wait((stream.fileno(),), until=None if left is None else time.monotonic() + left)


def _is_mine(found: Found, services: Collection[str], event: Event) -> bool:
    """Say whether an event is of the project: by the labels of its container, by its name where that is gone."""
    try:
        container = found.engine.container(event.container)
    except ContainerNotFound:
        head, _, number = event.name.rpartition("-")
        if not number.isdecimal() or not head.startswith(f"{found.project}-"):
            return False
        return not services or head.removeprefix(f"{found.project}-") in services
    if container.spec.labels.get(labels.PROJECT) != found.project:
        return False
    return not services or service_of(container) in services
