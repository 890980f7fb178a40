"""What there is of an environment in the store, whoever made it: told by labels, at the moment of asking.

Invariant: nothing is remembered between two questions but what never changes; a container that another process removes
meanwhile is not among the answers, or its methods say so.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from pylxc.compose.parts import labels
from pylxc.container import Container
from pylxc.errors import ContainerNotFound, SpecError
from pylxc.network import Network
from pylxc.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Collection

    from pylxc.engine import Engine
    from pylxc.status import Status


class Found:
    """The things of one project."""

    def __init__(self, engine: Engine, project: str) -> None:
        self.engine = engine
        self.project = project

    def containers(self, *, one_off: bool = False) -> list[Container]:
        """Return the project's containers by service and number; with ``one_off`` those that ``run`` made as well."""
        wanted = {"label": f"{labels.PROJECT}={self.project}"}
        found = Container.list(all=True, filters=wanted, engine=self.engine)
        return sorted((one for one in found if one_off or not is_one_off(one)), key=_rank)

    def of_service(self, name: str) -> list[Container]:
        """Return the containers of a service by number."""
        return [one for one in self.containers() if service_of(one) == name]

    def chosen(self, services: Collection[str]) -> list[Container]:
        """Return the containers of these services; of all where none is given. Raises SpecError for one without any."""
        found = self.containers()
        for name in services:
            if not any(service_of(one) == name for one in found):
                raise SpecError("service", name, f"it has no container in project {self.project}; bring it up first")
        return [one for one in found if not services or service_of(one) in services]

    def one(self, service: str, index: int | None = None) -> Container:
        """Return one container of a service: the n-th, or the first one. Raises ContainerNotFound."""
        for container in self.of_service(service):
            if index is None or number_of(container) == index:
                return container
        name = f"{self.project}-{service}-{index or 1}"
        raise ContainerNotFound(name, f"bring service {service} up first")

    def networks(self) -> list[Network]:
        """Return the project's networks by name."""
        return Network.list({"label": f"{labels.PROJECT}={self.project}"}, engine=self.engine)

    def volumes(self) -> list[Volume]:
        """Return the project's volumes by name, but for that of secrets and configs."""
        found = Volume.list({"label": f"{labels.PROJECT}={self.project}"}, engine=self.engine)
        return [one for one in found if labels.CONTENTS not in one.labels]


def projects(engine: Engine) -> list[str]:
    """Return the names of all projects that have a container in a store."""
    found = Container.list(all=True, filters={"label": labels.PROJECT}, engine=engine)
    return sorted({one.spec.labels[labels.PROJECT] for one in found if labels.PROJECT in one.spec.labels})


def status_of(container: Container) -> Status | None:
    """Return the status of a container; None where it was removed."""
    with suppress(ContainerNotFound):
        return container.status()
    return None


def service_of(container: Container) -> str:
    """Return the service that a container is of."""
    return container.spec.labels.get(labels.SERVICE, "")


def number_of(container: Container) -> int:
    """Return which of its service's containers it is, from 1."""
    text = container.spec.labels.get(labels.NUMBER, "")
    return int(text) if text.isdecimal() else 0


def is_one_off(container: Container) -> bool:
    """Say whether ``run`` made it."""
    return container.spec.labels.get(labels.ONE_OFF) == "True"


def _rank(container: Container) -> tuple[str, int, float]:
    return service_of(container), number_of(container), container.created


class Snapshot(Found):
    """The same as it was at one moment, with what its holder has done since: for whoever asks often."""

    def __init__(self, engine: Engine, project: str) -> None:
        super().__init__(engine, project)
        self._there = super().containers()

    def containers(self, *, one_off: bool = False) -> list[Container]:
        """Return the containers that were there, or were put to it; see :meth:`Found.containers`."""
        return super().containers(one_off=True) if one_off else list(self._there)

    def add(self, container: Container) -> None:
        """Put a container to it."""
        self._there = sorted([*self._there, container], key=_rank)

    def drop(self, container: Container) -> None:
        """Take a container out of it."""
        self._there = [one for one in self._there if one.id != container.id]
