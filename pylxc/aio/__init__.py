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

import functools
from typing import TYPE_CHECKING, ParamSpec

from pylxc import eventstream, verbs
from pylxc.aio.container import Attachment, Container, StandardInput
from pylxc.aio.environment import Environment
from pylxc.aio.process import Process, Reader, Writer
from pylxc.aio.views import Items, Making, awaited, makes
from pylxc.runtime.waiting import Wait, deadline_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pylxc.eventstream import Event, EventStream
    from pylxc.runtime.waiting import Stream

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
run = awaited(verbs.run)
start = makes(Container, verbs.start)
create = makes(Container, verbs.create)
popen = makes(Process, verbs.popen)
