"""Environments: the containers, networks and volumes of an application, described by one Compose or Fig file.

What callers see; the files are read by ``compose/files/loading.py``, and what is done with them is in ``compose/`` too.
Invariant: an :class:`Environment` knows what its files say; what there is of it the store is asked for with every call,
so any process may see to what another one has brought up.
"""

from __future__ import annotations

import copy
import os
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pylxc.defaults import engine_of
from pylxc.errors import SpecError, TimeoutExpired
from pylxc.runtime.waiting import Work, iterates, steps_of, waits
from pylxc.scoped import Scoped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pylxc.build.events import BuildEvent
    from pylxc.compose.export.graph import Form
    from pylxc.compose.model import Model
    from pylxc.compose.parts.found import Found
    from pylxc.compose.running.converge import Wishes
    from pylxc.compose.running.following import ServiceLine
    from pylxc.compose.running.syncing import Synced
    from pylxc.container import Container
    from pylxc.engine import Engine
    from pylxc.eventstream import Event
    from pylxc.image import Image
    from pylxc.result import Result
    from pylxc.runtime.processes import ProcessInfo
    from pylxc.runtime.waiting import Stream, Waiting

    Path_ = str | os.PathLike[str]

T = TypeVar("T")
SIGKILL = 9


def _quiet(kind: str, name: str, what: str) -> None:
    """Take what is told, where nobody wants to know."""


class Environment(Scoped):
    """An application of several containers, as one file describes it. Made by :meth:`load` or :meth:`get`.

    ``name`` is the project's: containers are called ``NAME-SERVICE-1``, networks ``NAME_default``, volumes
    ``NAME_KEY``. ``files`` and ``working_dir`` are where it was read from. Methods that take ``services`` mean all of
    them where none
    is named; those that the file has not raise SpecError.

    What :meth:`up` makes belongs to the calling process, and ends with it, unless ``detach=True``; volumes stay. As a
    context manager it is taken down when the block is left, unless it came up with ``detach=True``.

    Example:
        >>> with pylxc.Environment.load("compose.yaml") as environment:             # doctest: +SKIP
        ...     environment.up(wait=True)
        ...     print(environment.port("web", 80))
        ('127.0.0.1', 8000)

    """

    name: str
    files: tuple[Path, ...]
    working_dir: Path | None

    def __init__(self, engine: Engine, name: str, model: Model | None, files: Sequence[Path] = ()) -> None:
        self._engine = engine
        self._model = model
        self._outlives = False
        self.name = name
        self.files = tuple(files if model is None else model.files)
        self.working_dir = None if model is None else Path(model.working_dir)

    # -- finding -----------------------------------------------------------------------------------------------------

    @classmethod
    def load(  # noqa: PLR0913  what docker compose's global flags say
        cls,
        file: Path_ | Sequence[Path_] = "compose.yaml",
        project: str | None = None,
        profiles: Sequence[str] = (),
        *,
        env_files: Sequence[Path_] | None = None,
        environment: Mapping[str, str] | None = None,
        working_dir: Path_ | None = None,
        engine: Engine | None = None,
    ) -> Environment:
        """Read Compose files, or a Fig file of 2013; nothing is started.

        Args:
            file: a file, or several of which each overrides those before it.
            project: its name (default: the file's ``name``, COMPOSE_PROJECT_NAME, or its directory's name).
            profiles: services of these profiles are meant as well; ``"*"``: of all.
            env_files: files of variables for ``${...}`` (default: ``.env`` beside the first file).
            environment: variables for ``${...}``, before those of files (default: this process's).
            working_dir: what relative paths begin at (default: the directory of the first file).
            engine: the store to use.

        Raises ComposeError, naming file, line and key.

        Example:
            >>> pylxc.Environment.load(["compose.yaml", "compose.test.yaml"], project="test").name  # doctest: +SKIP
            'test'

        """
        from pylxc.compose.files.loading import load  # noqa: PLC0415  only here

        given = [file] if isinstance(file, (str, os.PathLike)) else list(file)
        model = load(
            [Path(one) for one in given],
            project=project,
            profiles=tuple(profiles),
            env_files=None if env_files is None else [Path(one) for one in env_files],
            environment=environment,
            working_dir=None if working_dir is None else Path(working_dir),
        )
        return cls(engine_of(engine), model.name, model)

    @classmethod
    def get(cls, project: str, *, engine: Engine | None = None) -> Environment:
        """Return an environment that some process has brought up, by its name, without its files.

        It can do whatever needs no file: all but ``config``, ``up``, ``create``, ``run``, ``scale``, ``build``,
        ``pull``, ``push`` and ``watch``. Raises NotFound when there is none of this name.

        Example:
            >>> pylxc.Environment.get("shop").down()                                # doctest: +SKIP

        """
        from pylxc.compose.parts import labels  # noqa: PLC0415  only here
        from pylxc.errors import NotFound  # noqa: PLC0415

        made = cls(engine_of(engine), project, None)
        there = made._found().containers(one_off=True)
        if not there and not made._found().networks():
            raise NotFound(project, "no project of this name has a container; `pylxc compose ls` lists those that have")
        for container in there[:1]:
            files = container.spec.labels.get(labels.FILES, "")
            made.files = tuple(Path(one) for one in files.split(",") if one)
            made.working_dir = Path(container.spec.labels.get(labels.WORKING_DIR, "."))
        return made

    @classmethod
    def list(cls, *, engine: Engine | None = None) -> list[Environment]:
        """Return all environments that have a container, running or not, by name, without their files' content.

        Example:
            >>> [environment.name for environment in pylxc.Environment.list()]      # doctest: +SKIP
            ['shop', 'test']

        """
        from pylxc.compose.parts.found import projects  # noqa: PLC0415  only here

        chosen = engine_of(engine)
        return [cls.get(name, engine=chosen) for name in projects(chosen)]

    @property
    def services(self) -> tuple[str, ...]:
        """The names of the services that are active, sorted; () where the files are not known."""
        return () if self._model is None else tuple(sorted(self._model.document.get("services") or {}))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was odd about the files."""
        return () if self._model is None else tuple(self._model.warnings)

    def config(self) -> dict[str, Any]:
        """Return what the files say as one dict, in the form of ``docker compose config --format json``.

        Variables are filled in, files merged, short forms made long. It is the caller's own copy.

        Example:
            >>> environment.config()["services"]["web"]["ports"]                    # doctest: +SKIP
            [{'mode': 'ingress', 'target': 80, 'published': '8000', 'protocol': 'tcp'}]

        """
        return copy.deepcopy(self._known().document)

    def to_kubernetes(self) -> Sequence[dict[str, Any]]:
        """Return the application as Kubernetes manifests (a list of dicts), in the order in which they are applied.

        Deployments, Services, ConfigMaps, Secrets and PersistentVolumeClaims. Volumes ask for 1 GiB, or for what their
        ``x-kubernetes-size`` says. Raises UnsupportedError for what no manifest can say.

        Example:
            >>> [manifest["kind"] for manifest in environment.to_kubernetes()]      # doctest: +SKIP
            ['Service', 'Deployment']

        """
        from pylxc.compose.export.kubernetes import manifests  # noqa: PLC0415  only here

        return manifests(self._known())

    def graph(self, form: Form = "auto") -> str:
        """Return a picture of the services, networks and volumes, as text.

        ``form``: "svg", "dot", "text" (a tree), or "auto": the first of these that can be made here. Raises
        UnsupportedError where what makes it (the graphviz package) is not installed.

        Example:
            >>> print(environment.graph("text"))                                    # doctest: +SKIP
            shop
            ├── db (postgres:16)
            └── web (built) :8080 -> 80/tcp
                └── needs db (healthy)

        """
        from pylxc.compose.export.graph import graph  # noqa: PLC0415  only here

        return graph(self._known(), form)

    # -- up and down -------------------------------------------------------------------------------------------------

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
        found = yield from _work(lambda stop: Up(self._engine, model, wishes, stop).run())
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
            yield from _work(
                lambda _: lifecycle.take_down(
                    self._found(),
                    self._all_names(),
                    services=services,
                    volumes=volumes,
                    remove_orphans=remove_orphans,
                    rmi=rmi,
                    timeout=timeout,
                    tell=on_event or _quiet,
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

    # -- looking -----------------------------------------------------------------------------------------------------

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

    # -- living ------------------------------------------------------------------------------------------------------

    @waits
    def start(self, *services: str) -> Waiting[None]:
        """Start containers that are there, in the order of dependencies.

        Example:
            >>> environment.start("db")                                             # doctest: +SKIP

        """
        from pylxc.compose.parts import making  # noqa: PLC0415  only here
        from pylxc.compose.running import lifecycle  # noqa: PLC0415  only here

        found, model = self._chosen(services), self._all_services()

        def work(container: Container) -> None:
            if container.status() not in {"running", "paused", "restarting"}:
                making.start(model.get(_service_of(container)) or {}, container)

        yield from _work(lambda stop: lifecycle.each_in_order(found, work, dependents_first=False, stop=stop))

    @waits
    def stop(self, *services: str, timeout: float | None = None) -> Waiting[None]:
        """Stop containers, those that depend on others first; ``timeout`` in seconds as of :meth:`Container.stop`.

        Example:
            >>> environment.stop(timeout=3)                                         # doctest: +SKIP

        """
        from pylxc.compose.running import lifecycle  # noqa: PLC0415  only here

        found = self._chosen(services)
        yield from _work(lambda stop: lifecycle.stop_each(found, timeout, _quiet, self._all_services(), stop))

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
        yield from _work(lambda stopped: lifecycle.remove_each(found, _quiet, stopped))
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
        from pylxc.runtime.waiting import deadline_of  # noqa: PLC0415

        deadline = deadline_of(timeout)
        found = {}
        for container in self._chosen(services):
            left = _left(deadline, f"project {self.name}", timeout)
            found[container.name] = yield from steps_of(container.wait, left)
        return found

    # -- working in it -----------------------------------------------------------------------------------------------

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
        return (yield from _work(call))

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

    # -- images ------------------------------------------------------------------------------------------------------

    @waits
    def build(
        self,
        *services: str,
        no_cache: bool = False,
        pull: bool = False,
        args: Mapping[str, str] | None = None,
        on_build: Callable[[str, BuildEvent], object] | None = None,
    ) -> Waiting[dict[str, Image]]:
        """Build the images of services that have a recipe, side by side, and return them by service.

        The keywords and errors are those of :meth:`Image.build`; ``args`` go before those of the file.

        Example:
            >>> environment.build(no_cache=True)["web"].refs                        # doctest: +SKIP
            ('shop-web:latest',)

        """
        from pylxc.compose.parts import images  # noqa: PLC0415  only here

        model, chosen = self._known(), self._chosen_services(services)
        built = {name: service for name, service in chosen.items() if service.get("build")}

        def work(name: str) -> Image:
            return images.build_one(
                self._engine,
                model,
                name,
                built[name],
                no_cache=no_cache,
                pull=pull,
                args=args,
                on_event=None if on_build is None else partial(on_build, name),
            )

        return (yield from _for_each(built, work))

    @waits
    def pull(self, *services: str, policy: str = "always") -> Waiting[dict[str, Image]]:
        """Pull the images of services that are not built here, side by side, and return them by service.

        ``policy``: "always" or "missing". Raises ImageNotFound, AuthError, RegistryError.

        Example:
            >>> environment.pull("db")["db"].digest                                 # doctest: +SKIP
            'sha256:…'

        """
        from pylxc.compose.parts import images  # noqa: PLC0415  only here

        model, chosen = self._known(), self._chosen_services(services)
        pulled = {name: one for name, one in chosen.items() if one.get("image") and not one.get("build")}

        def work(name: str) -> Image:
            return images.obtain(self._engine, model, name, pulled[name], pull=policy)

        return (yield from _for_each(pulled, work))

    @waits
    def push(self, *services: str) -> Waiting[Sequence[str]]:
        """Push the images of services that are built here and have a name of their own; return their names.

        Raises ImageNotFound, AuthError, RegistryError.

        Example:
            >>> environment.push()                                                  # doctest: +SKIP
            ['registry.example/shop/web:1']

        """
        chosen = self._chosen_services(services)
        pushed = {str(one["image"]): name for name, one in chosen.items() if one.get("image") and one.get("build")}
        yield from _for_each(pushed, lambda reference: self._engine.image(reference).push(reference))
        return sorted(pushed)

    @iterates
    def watch(self, *services: str, up: bool = True, detach: bool = False) -> Stream[Synced]:
        """Bring services up and then bring changes of their sources into them, as ``develop.watch`` says, for ever.

        Yields what was done about each change. ``up``: False only watches. Raises SpecError where nothing is to
        be watched; UnsupportedError where the kernel watches no more.

        Example:
            >>> for change in environment.watch():                                  # doctest: +SKIP
            ...     print(change.service, change.action, change.paths)

        """
        from pylxc.compose.running import syncing  # noqa: PLC0415  only here
        from pylxc.runtime.waiting import Wait  # noqa: PLC0415

        rules = syncing.rules_of(self._known(), self._chosen_services(services))
        if not rules:
            raise SpecError("develop", None, "no service says what is to be watched; give it develop.watch")
        if up:
            yield from steps_of(self.up, *services, detach=detach)
        found = self._found()
        rebuild = partial(self._rebuild, detach=detach)
        watcher = syncing.Watcher(rules, found.of_service, rebuild)
        try:
            yield from watcher.initial()
            while True:
                yield Wait((watcher.fileno(),))
                yield from watcher.act()
        finally:
            watcher.close()

    def _rebuild(self, service: str, *, detach: bool) -> None:
        self.up(service, build=True, deps=False, detach=detach)

    # -- plumbing ----------------------------------------------------------------------------------------------------

    def _found(self) -> Found:
        from pylxc.compose.parts.found import Found as FoundClass  # noqa: PLC0415  only here

        return FoundClass(self._engine, self.name)

    def _known(self) -> Model:
        if self._model is None:
            remedy = "its files are not known here; load them with Environment.load"
            raise SpecError("project", self.name, remedy)
        return self._model

    def _all_services(self) -> dict[str, Any]:
        model = self._model
        return {} if model is None else {**(model.document.get("services") or {}), **model.disabled}

    def _all_names(self) -> set[str] | None:
        return None if self._model is None else set(self._all_services())

    def _check_service(self, name: str) -> None:
        known = self._all_names()
        if known is not None and name not in known:
            raise SpecError("service", name, f"there is no such service; there are {', '.join(sorted(known))}")

    def _chosen(self, services: Sequence[str]) -> Sequence[Container]:
        for name in services:
            self._check_service(name)
        found = self._found()
        if self._model is None:
            return found.chosen(services)
        return [one for one in found.containers() if not services or _service_of(one) in services]

    def _chosen_services(self, services: Sequence[str]) -> dict[str, Any]:
        known = self._known()
        for name in services:
            self._check_service(name)
        every = self._all_services()
        return {name: every[name] for name in services or known.document.get("services") or {}}

    @waits
    def _leave(self) -> Waiting[None]:
        """Take it down, unless it was to outlive this process."""
        if not self._outlives:
            yield from steps_of(self.down)

    def __repr__(self) -> str:
        return f"<Environment {self.name} {' '.join(self.services)}>"


def _work(call: Callable[[threading.Event], T]) -> Waiting[T]:
    """Make a call that takes its time: in place, or by a thread where the caller is an event loop."""
    found: list[T] = []
    stop = threading.Event()
    yield Work(lambda: found.append(call(stop)), stop.set)
    return found[0]


def _for_each(names: Mapping[str, object], work: Callable[[str], T]) -> Waiting[dict[str, T]]:
    """Do something for each name, side by side; return what it returned by name."""
    from pylxc.compose.running.order import side_by_side  # noqa: PLC0415  only here

    found: dict[str, T] = {}

    def on_one(name: str) -> None:
        found[name] = work(name)

    if names:
        yield from _work(lambda stop: side_by_side(names, on_one, stop))
    return found


def _left(deadline: float | None, what: str, timeout: float | None) -> float | None:
    import time  # noqa: PLC0415

    left = None if deadline is None else deadline - time.monotonic()
    if left is not None and left < 0:
        raise TimeoutExpired(what, timeout or 0.0)
    return left


def _service_of(container: Container) -> str:
    from pylxc.compose.parts.found import service_of  # noqa: PLC0415

    return service_of(container)


def _names_service(text: str) -> bool:
    """Say whether a text is "SERVICE:PATH", by docker's rule: a path of this machine begins with / or ."""
    return ":" in text and not text.startswith(("/", "."))
