"""Environments: the containers, networks and volumes of an application, described by one Compose or Fig file.

What callers see, by what it is for: ``rising`` (up and down), ``looking``, ``living`` (start and stop), ``working`` (in
it), ``building`` (its images); all of them are a ``project``, and what takes its time is done ``aside``. The files are
read, and all is carried out, in ``compose/``.
Invariant: an :class:`Environment` knows what its files say; what there is of it the store is asked for with every call,
so any process may see to what another one has brought up.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pylxc.defaults import engine_of
from pylxc.environment.building import Building
from pylxc.environment.living import Living
from pylxc.environment.working import Working
from pylxc.runtime.waiting import steps_of, waits
from pylxc.scoped import Scoped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pylxc.compose.export.graph import Form
    from pylxc.engine import Engine
    from pylxc.runtime.waiting import Waiting

    Path_ = str | os.PathLike[str]


class Environment(Living, Working, Building, Scoped):
    """An application of several containers, as one file describes it. Made by :meth:`load` or :meth:`get`.

    ``name`` is the project's: containers are called ``NAME-SERVICE-1``, networks ``NAME_default``, volumes
    ``NAME_KEY``. ``files`` and ``working_dir`` are where it was read from. Methods that take ``services`` mean all of
    them where none is named; those that the file has not raise SpecError.

    What :meth:`up` makes belongs to the calling process, and ends with it, unless ``detach=True``; volumes stay. As a
    context manager it is taken down when the block is left, unless it came up with ``detach=True``.

    Example:
        >>> with pylxc.Environment.load("compose.yaml") as environment:             # doctest: +SKIP
        ...     environment.up(wait=True)
        ...     print(environment.port("web", 80))
        ('127.0.0.1', 8000)

    """

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

    @waits
    def _leave(self) -> Waiting[None]:
        """Take it down, unless it was to outlive this process."""
        if not self._outlives:
            yield from steps_of(self.down)

    def __repr__(self) -> str:
        return f"<Environment {self.name} {' '.join(self.services)}>"
