"""Bringing an environment up and down.

Invariant: what :meth:`Rising.up` had begun is undone when it fails; :meth:`Rising.down` needs no file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylxc.environment.aside import aside
from pylxc.environment.project import Project, quiet
from pylxc.errors import SpecError
from pylxc.runtime.waiting import steps_of, waits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pylxc.build.events import BuildEvent
    from pylxc.compose.running.converge import Wishes
    from pylxc.container import Container
    from pylxc.runtime.waiting import Waiting


class Rising(Project):
    """A project that can be brought up and down."""

    _outlives = False  # what the last ``up`` was told

    @waits
    def up(  # noqa: PLR0913  docker compose's flags
        self,
        *services: str,
        detach: bool = False,
        build: bool | None = None,
        pull: str | None = None,
        force_recreate: bool = False,
        recreate: bool = True,
        always_recreate_deps: bool = False,
        renew_volumes: bool = False,
        deps: bool = True,
        scale: Mapping[str, int] | None = None,
        wait: bool = False,
        wait_timeout: float | None = None,
        timeout: float | None = None,
        remove_orphans: bool = False,
        on_event: Callable[[str, str, str], object] | None = None,
        on_build: Callable[[str, BuildEvent], object] | None = None,
    ) -> Waiting[Sequence[Container]]:
        """Bring services up, with all that they depend on, and return their containers.

        In the order of dependencies, side by side where that allows; what runs and is as the file says is left alone,
        and what has changed (the file, its image, a secret) is made anew. Anonymous volumes pass to the new container.
        When
        something fails, what this call had begun is undone: a container that was being replaced runs again.

        Args:
            services: those that are meant.
            detach: let it outlive this process.
            build: True builds images anew, False never; None builds those that are not there.
            pull: "always", "missing" or "never", before what the file says.
            force_recreate: make the containers anew, changed or not.
            recreate: False leaves containers as they are, changed or not.
            always_recreate_deps: with ``force_recreate``, what they depend on, too.
            renew_volumes: let anonymous volumes begin anew.
            deps: False leaves what they depend on alone.
            scale: how many containers a service is to have, before what the file says.
            wait: come back when all run, and are healthy where something checks that.
            wait_timeout: seconds that this may take.
            timeout: seconds in which containers that are replaced may stop; default as their service has it.
            remove_orphans: remove containers of services that the file has not any more.
            on_event: called with (kind, name, what happened), such as ("Container", "shop-web-1", "Started"), one at a
                time, by whichever thread works.
            on_build: called with the service and a :class:`~pylxc.BuildEvent` for everything that happens.

        Raises ExitError when what is waited for has ended or is unhealthy, with its last words; TimeoutExpired;
        ComposeError and UnsupportedError, before anything is done, for what cannot be carried out; whatever
        :func:`pylxc.start`, :meth:`Image.build` and :meth:`Network.create` raise.

        Example:
            >>> environment.up("web", build=True, wait=True)                        # doctest: +SKIP
            [<Container shop-db-1 …>, <Container shop-web-1 …>]

        """
        from pylxc.compose.running.converge import Wishes  # noqa: PLC0415  only here

        wishes = Wishes(
            services=services,
            detach=detach,
            build=build,
            pull=pull,
            force_recreate=force_recreate,
            recreate=recreate,
            always_recreate_deps=always_recreate_deps,
            renew_volumes=renew_volumes,
            deps=deps,
            scale=scale,
            wait=wait,
            wait_timeout=wait_timeout,
            timeout=timeout,
            remove_orphans=remove_orphans,
            on_event=on_event,
            on_build=on_build,
        )
        return (yield from self._bring_up(wishes))

    @waits
    def create(
        self,
        *services: str,
        build: bool | None = None,
        pull: str | None = None,
        force_recreate: bool = False,
        scale: Mapping[str, int] | None = None,
        detach: bool = False,
    ) -> Waiting[Sequence[Container]]:
        """Make the containers of services without starting them; :meth:`start` does. Arguments are those of :meth:`up`.

        Example:
            >>> environment.create(); environment.start()                           # doctest: +SKIP

        """
        from pylxc.compose.running.converge import Wishes  # noqa: PLC0415  only here

        wishes = Wishes(
            services=services,
            build=build,
            pull=pull,
            force_recreate=force_recreate,
            scale=scale,
            detach=detach,
            start=False,
        )
        return (yield from self._bring_up(wishes))

    def _bring_up(self, wishes: Wishes) -> Waiting[Sequence[Container]]:
        from pylxc.compose.running.converge import Up  # noqa: PLC0415  only here

        model = self._known()
        found = yield from aside(lambda stop: Up(self._engine, model, wishes, stop).run())
        self._outlives = wishes.detach
        return found

    @waits
    def down(
        self,
        *services: str,
        volumes: bool = False,
        remove_orphans: bool = False,
        rmi: str | None = None,
        timeout: float | None = None,
        on_event: Callable[[str, str, str], object] | None = None,
    ) -> Waiting[Sequence[str]]:
        """Stop and remove the containers and networks, whoever made them; return what is to be known, as warnings.

        Args:
            services: only these; networks stay then.
            volumes: remove the volumes of the file, too. Anonymous ones go in any case.
            remove_orphans: remove containers of services that the file has not any more.
            rmi: "all" removes the images of the services, too, "local" those that have no name of their own.
            timeout: seconds that each container may take to stop; default as its service has it.
            on_event: as of :meth:`up`.

        What is gone already is no error.

        Example:
            >>> environment.down(volumes=True)                                      # doctest: +SKIP
            []

        """
        from pylxc.compose.running import lifecycle  # noqa: PLC0415  only here

        if rmi not in (None, "all", "local"):
            raise SpecError("rmi", rmi, 'give "all" or "local"')
        for name in services:
            self._check_service(name)
        return (
            yield from aside(
                lambda _: lifecycle.take_down(
                    self._found(),
                    self._all_names(),
                    services=services,
                    volumes=volumes,
                    remove_orphans=remove_orphans,
                    rmi=rmi,
                    timeout=timeout,
                    tell=on_event or quiet,
                    hooks=self._all_services(),
                )
            )
        )

    @waits
    def scale(self, service: str, number: int, *, timeout: float | None = None) -> Waiting[Sequence[Container]]:
        """Let a service have so many containers; those with the highest numbers go. Errors are those of :meth:`up`.

        Example:
            >>> len(environment.scale("worker", 3))                                 # doctest: +SKIP
            3

        """
        detach = any(one.spec.detach for one in self._found().containers())
        self._check_service(service)
        return (
            yield from steps_of(
                self.up, service, deps=False, scale={service: number}, detach=detach, recreate=False, timeout=timeout
            )
        )
