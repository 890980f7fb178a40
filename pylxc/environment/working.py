"""Working in an environment: commands in its containers, and files that go in and out.

Invariant: the first container of a service is meant where none is named; a container that :meth:`Working.run` makes is
gone when it comes back.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pylxc.environment.aside import aside
from pylxc.environment.rising import Rising
from pylxc.errors import SpecError
from pylxc.runtime.waiting import steps_of, waits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pylxc.result import Result
    from pylxc.runtime.waiting import Waiting


class Working(Rising):
    """A project that can be worked in."""

    @waits
    def exec(  # noqa: PLR0913  the keywords of Container.exec that matter here
        self,
        service: str,
        command: str | Sequence[str],
        *,
        index: int | None = None,
        input: bytes | None = None,  # noqa: A002  subprocess's name
        timeout: float | None = None,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        user: str | int | None = None,
        workdir: str | None = None,
    ) -> Waiting[Result]:
        """Run a command in a running container of a service: the first one, or the one with number ``index``.

        The other keywords and the errors are those of :meth:`Container.exec`; ContainerNotFound where it has none.

        Example:
            >>> environment.exec("db", ["pg_isready"]).ok                           # doctest: +SKIP
            True

        """
        self._check_service(service)
        container = self._found().one(service, index)
        steps = steps_of(
            container.exec,
            command,
            input=input,
            timeout=timeout,
            check=check,
            env=env,
            user=user,
            workdir=workdir,
        )
        return (yield from steps)

    @waits
    def run(  # noqa: PLR0913  docker compose's flags
        self,
        service: str,
        command: str | Sequence[str] | None = None,
        *,
        deps: bool = True,
        service_ports: bool = False,
        input: bytes | None = None,  # noqa: A002  subprocess's name
        timeout: float | None = None,
        check: bool = True,
        options: Mapping[str, Any] | None = None,
    ) -> Waiting[Result]:
        """Run a command in a new container of a service, to its end, and remove the container.

        What the service depends on is brought up first, unless ``deps`` is False, and stays. Its ports are published
        with ``service_ports`` only. ``options`` are options of a container, before those of the service. ``input``,
        ``timeout``, ``check`` and the errors are those of :func:`pylxc.run`.

        Example:
            >>> environment.run("web", ["python3", "-m", "app.migrate"]).exit_code  # doctest: +SKIP
            0

        """
        from pylxc import verbs  # noqa: PLC0415  only here

        image, words, found = yield from self._one_off(
            service, command, deps=deps, service_ports=service_ports, options=options or {}
        )
        steps = steps_of(
            verbs.run, image, words, input=input, timeout=timeout, check=check, engine=self._engine, **found
        )
        return (yield from steps)

    def _one_off(
        self,
        service: str,
        command: str | Sequence[str] | None,
        *,
        deps: bool,
        service_ports: bool,
        options: Mapping[str, Any],
    ) -> Waiting[tuple[str, str | Sequence[str] | None, dict[str, Any]]]:
        """Return the image, the command and the options of a container that ``run`` makes; its dependencies are up."""
        from pylxc.compose.running import oneoff  # noqa: PLC0415  only here

        model = self._known()
        call = partial(
            oneoff.prepare,
            self._engine,
            model,
            service,
            command,
            deps=deps,
            service_ports=service_ports,
            options=options,
        )
        return (yield from aside(call))

    @waits
    def cp(
        self, source: str, destination: str, *, index: int | None = None, archive: bool = False, follow: bool = False
    ) -> Waiting[None]:
        """Copy files between this machine and a container: one of the two is ``"SERVICE:PATH"``.

        A copy to a service goes to all its containers, unless ``index`` names one. The rules are those of
        :meth:`Container.copy_in` and :meth:`Container.copy_out`.

        Example:
            >>> environment.cp("seed.sql", "db:/tmp/")                              # doctest: +SKIP

        """
        here, there = source.partition(":"), destination.partition(":")
        out, into = _names_service(source), _names_service(destination)
        if out == into:
            raise SpecError("cp", f"{source} {destination}", 'one of the two is "SERVICE:PATH", and only one')
        if out:
            self._check_service(here[0])
            container = self._found().one(here[0], index)
            yield from steps_of(container.copy_out, here[2], destination, archive=archive, follow=follow)
            return
        self._check_service(there[0])
        first = self._found().one(there[0], index)
        for container in [first] if index is not None else self._found().of_service(there[0]):
            yield from steps_of(container.copy_in, source, there[2], archive=archive, follow=follow)


def _names_service(text: str) -> bool:
    """Say whether a text is "SERVICE:PATH", by docker's rule: a path of this machine begins with / or ."""
    return ":" in text and not text.startswith(("/", "."))
