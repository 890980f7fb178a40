"""Looking at an environment: its containers, what they write, and what happens to them.

Invariant: nothing here changes anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylxc.environment.project import Project
from pylxc.runtime.waiting import iterates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pylxc.compose.running.following import ServiceLine
    from pylxc.container import Container
    from pylxc.eventstream import Event
    from pylxc.image import Image
    from pylxc.runtime.processes import ProcessInfo
    from pylxc.runtime.waiting import Stream


class Looking(Project):
    """A project that can be looked at."""

    def ps(self, *services: str, all: bool = False) -> Sequence[Container]:  # noqa: A002  docker's name
        """Return the running containers by service and number; with ``all`` those that have ended, too.

        Example:
            >>> [container.name for container in environment.ps()]                  # doctest: +SKIP
            ['shop-db-1', 'shop-web-1']

        """
        from pylxc.compose.running import lifecycle  # noqa: PLC0415  only here

        found = self._chosen(services)
        return found if all else lifecycle.running(found)

    @iterates
    def logs(
        self,
        *services: str,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        timestamps: bool = False,
    ) -> Stream[ServiceLine]:
        """Yield what the containers wrote, by time, each line with its service and container.

        ``tail``: only the last so many lines of each. ``since``: only lines from that time on (s since the epoch).
        ``follow``: go on until all have ended; those that start meanwhile are followed, too. ``timestamps``: each line
        begins with its time.

        Example:
            >>> for line in environment.logs("web", follow=True):                   # doctest: +SKIP
            ...     print(line.container, "|", line.log.text, end="")

        """
        from pylxc.compose.running import following  # noqa: PLC0415  only here

        yield from following.logs(
            self._found(),
            services,
            self._chosen(services),
            follow=follow,
            tail=tail,
            since=since,
            timestamps=timestamps,
        )

    @iterates
    def events(
        self, *services: str, follow: bool = True, since: float | None = None, until: float | None = None
    ) -> Stream[Event]:
        """Yield what happens to the containers, as :func:`pylxc.events` tells it.

        Example:
            >>> for event in environment.events(follow=False):                      # doctest: +SKIP
            ...     print(event.name, event.kind)

        """
        from pylxc.compose.running import following  # noqa: PLC0415  only here
        from pylxc.eventstream import EventStream  # noqa: PLC0415

        stream = EventStream(self._engine, follow=follow, since=since, until=until, filters={})
        yield from following.events(self._found(), services, stream)

    def top(self, *services: str) -> dict[str, Sequence[ProcessInfo]]:
        """Return the processes of each running container, by its name.

        Example:
            >>> environment.top("db")["shop-db-1"][0].command                       # doctest: +SKIP
            ('postgres',)

        """
        return {one.name: one.top() for one in self.ps(*services)}

    def images(self, *services: str) -> dict[str, Image]:
        """Return the image of each container, running or not, by the container's name.

        Example:
            >>> environment.images()["shop-db-1"].refs                              # doctest: +SKIP
            ('postgres:16',)

        """
        return {one.name: one.image for one in self._chosen(services)}

    def port(
        self, service: str, private_port: int, *, protocol: str = "tcp", index: int | None = None
    ) -> tuple[str, int]:
        """Return the (host, port) at which a port of a service is reached from this machine.

        ``index``: which of its containers (default: the first). Raises NotFound where it is not published.

        Example:
            >>> environment.port("web", 80)                                         # doctest: +SKIP
            ('127.0.0.1', 8000)

        """
        self._check_service(service)
        return self._found().one(service, index).address(f"{private_port}/{protocol}")
