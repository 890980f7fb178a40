"""Starting, stopping and removing the containers that an environment has; none is made here.

Invariant: no file is needed, and whoever made a container, it is meant as well.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pylxc.environment.aside import aside
from pylxc.environment.looking import Looking
from pylxc.environment.project import quiet
from pylxc.errors import TimeoutExpired
from pylxc.runtime.waiting import deadline_of, steps_of, waits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pylxc.container import Container
    from pylxc.runtime.waiting import Waiting

SIGKILL = 9


class Living(Looking):
    """A project whose containers can be started and stopped."""

    @waits
    def start(self, *services: str) -> Waiting[None]:
        """Start containers that are there, in the order of dependencies.

        Example:
            >>> environment.start("db")                                             # doctest: +SKIP

        """
        from pylxc.compose.parts import making  # noqa: PLC0415  only here
        from pylxc.compose.parts.found import service_of  # noqa: PLC0415
        from pylxc.compose.running import lifecycle  # noqa: PLC0415

        found, model = self._chosen(services), self._all_services()

        def work(container: Container) -> None:
            if container.status() not in {"running", "paused", "restarting"}:
                making.start(model.get(service_of(container)) or {}, container)

        yield from aside(lambda stop: lifecycle.each_in_order(found, work, dependents_first=False, stop=stop))

    @waits
    def stop(self, *services: str, timeout: float | None = None) -> Waiting[None]:
        """Stop containers, those that depend on others first; ``timeout`` in seconds as of :meth:`Container.stop`.

        Example:
            >>> environment.stop(timeout=3)                                         # doctest: +SKIP

        """
        from pylxc.compose.running import lifecycle  # noqa: PLC0415  only here

        found = self._chosen(services)
        yield from aside(lambda stop: lifecycle.stop_each(found, timeout, quiet, self._all_services(), stop))

    @waits
    def restart(self, *services: str, timeout: float | None = None) -> Waiting[None]:
        """Stop containers and start them again, as they are: what changed in the file is :meth:`up`'s.

        Example:
            >>> environment.restart("web")                                          # doctest: +SKIP

        """
        yield from steps_of(self.stop, *services, timeout=timeout)
        yield from steps_of(self.start, *services)

    def kill(self, *services: str, signal: int | str = SIGKILL) -> None:
        """Send a signal, by number or name, to the running containers.

        Example:
            >>> environment.kill("web", signal="HUP")                               # doctest: +SKIP

        """
        for container in self.ps(*services):
            container.kill(signal)

    @waits
    def rm(self, *services: str, stop: bool = False) -> Waiting[Sequence[str]]:
        """Remove containers that do not run, and return their names; with ``stop`` the others are stopped first.

        Example:
            >>> environment.rm(stop=True)                                           # doctest: +SKIP
            ['shop-db-1', 'shop-web-1']

        """
        from pylxc.compose.running import lifecycle  # noqa: PLC0415  only here

        if stop:
            yield from steps_of(self.stop, *services)
        running = {one.id for one in self.ps(*services)}
        found = [one for one in self._chosen(services) if one.id not in running]
        yield from aside(lambda stopped: lifecycle.remove_each(found, quiet, stopped))
        return [one.name for one in found]

    def pause(self, *services: str) -> None:
        """Stop everything in the containers where it is, until :meth:`unpause`.

        Example:
            >>> environment.pause("db")                                             # doctest: +SKIP

        """
        for container in self.ps(*services):
            container.pause()

    def unpause(self, *services: str) -> None:
        """Let paused containers go on.

        Example:
            >>> environment.unpause()                                               # doctest: +SKIP

        """
        for container in self.ps(*services):
            if container.status() == "paused":
                container.unpause()

    @waits
    def wait(self, *services: str, timeout: float | None = None) -> Waiting[dict[str, int]]:
        """Wait until containers have ended, and return their exit statuses by name.

        Raises TimeoutExpired when ``timeout`` (s) has passed.

        Example:
            >>> environment.wait("migration")                                       # doctest: +SKIP
            {'shop-migration-1': 0}

        """
        deadline = deadline_of(timeout)
        found = {}
        for container in self._chosen(services):
            left = _left(deadline, f"project {self.name}", timeout)
            found[container.name] = yield from steps_of(container.wait, left)
        return found


def _left(deadline: float | None, what: str, timeout: float | None) -> float | None:
    left = None if deadline is None else deadline - time.monotonic()
    if left is not None and left < 0:
        raise TimeoutExpired(what, timeout or 0.0)
    return left
