"""A project: what its files say, where they are known, and what there is of it in the store.

Invariant: what the files say is known from the beginning; what there is the store is asked for with every call.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pylxc.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pylxc.compose.model import Model
    from pylxc.compose.parts.found import Found
    from pylxc.container import Container
    from pylxc.engine import Engine


def quiet(kind: str, name: str, what: str) -> None:
    """Take what is told, where nobody wants to know."""


class Project:
    """The name of a project, its files where they are known, and finding what there is of it."""

    name: str
    files: tuple[Path, ...]
    working_dir: Path | None

    def __init__(self, engine: Engine, name: str, model: Model | None, files: Sequence[Path] = ()) -> None:
        self._engine = engine
        self._model = model
        self.name = name
        self.files = tuple(files if model is None else model.files)
        self.working_dir = None if model is None else Path(model.working_dir)

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
        from pylxc.compose.parts.found import service_of  # noqa: PLC0415  only here

        for name in services:
            self._check_service(name)
        found = self._found()
        if self._model is None:
            return found.chosen(services)
        return [one for one in found.containers() if not services or service_of(one) in services]

    def _chosen_services(self, services: Sequence[str]) -> dict[str, Any]:
        known = self._known()
        for name in services:
            self._check_service(name)
        every = self._all_services()
        return {name: every[name] for name in services or known.document.get("services") or {}}
