"""Stopping, removing and taking down what is there of an environment: those that depend on others go first.

Invariant: nothing here needs the file: order and membership are told by labels, so that any process can take down what
another one has brought up. What is gone already is no error.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from pylxc.compose.parts import contents, labels, making
from pylxc.compose.parts.found import service_of, status_of
from pylxc.compose.running.order import backwards, check_cycles, in_order, side_by_side
from pylxc.errors import Conflict, ContainerNotFound, ImageNotFound, NetworkNotFound, SpecError
from pylxc.launching import ALIVE
from pylxc.runtime import kept

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Any

    from pylxc.compose.parts.found import Found
    from pylxc.container import Container
    from pylxc.network import Network
    from pylxc.volume import Volume

    Tell = Callable[[str, str, str], object]


def needs_among(containers: Sequence[Container]) -> dict[str, set[str]]:
    """Return the services of containers, each with those among them that it needs."""
    needs: dict[str, set[str]] = {service_of(one): set() for one in containers}
    for one in containers:
        others = one.spec.labels.get(labels.DEPENDS_ON, "").split(",")
        needs[service_of(one)] |= (set(others) & set(needs)) - {service_of(one)}
    try:
        check_cycles(needs)
    except SpecError:  # of different times: any order is as good
        return {name: set() for name in needs}
    return needs


def each_in_order(
    containers: Sequence[Container],
    work: Callable[[Container], object],
    *,
    dependents_first: bool,
    stop: threading.Event | None = None,
) -> None:
    """Do something with containers in the order of their services; one that is gone is passed over."""

    def on_one(container: Container) -> None:
        with suppress(ContainerNotFound):
            work(container)

    def on_service(name: str) -> None:
        own = {one.id: one for one in containers if service_of(one) == name}
        side_by_side(own, lambda id: on_one(own[id]), stop)  # noqa: A006

    if containers:
        needs = needs_among(containers)
        in_order(backwards(needs) if dependents_first else needs, on_service, stop)


def stop_each(
    containers: Sequence[Container],
    timeout: float | None,
    tell: Tell,
    services: Mapping[str, Mapping[str, Any]] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Stop containers, those that depend on others first. ``services``: what the file says of them, for its hooks."""

    def work(container: Container) -> None:
        if container.status() in ALIVE:
            service = (services or {}).get(service_of(container)) or {}
            with suppress(Conflict):
                making.hooks(service, "pre_stop", container)
            container.stop(timeout)
            tell("Container", container.name, "Stopped")

    each_in_order(containers, work, dependents_first=True, stop=stop)


def remove_each(containers: Sequence[Container], tell: Tell, stop: threading.Event | None = None) -> None:
    """Remove containers, running or not."""

    def work(container: Container) -> None:
        container.remove(force=True)
        tell("Container", container.name, "Removed")

    each_in_order(containers, work, dependents_first=True, stop=stop)
    kept.collect()  # monitors that were this process's children: who looks at a container by its row does not reap them


def take_down(  # noqa: PLR0913  one for each flag
    found: Found,
    known: Collection[str] | None,
    *,
    services: Collection[str],
    volumes: bool,
    remove_orphans: bool,
    rmi: str | None,
    timeout: float | None,
    tell: Tell,
    hooks: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[str]:
    """Stop and remove a project's containers and networks; return warnings.

    ``known``: the services of the file; containers of others are orphans. None: nobody knows, and all are meant.
    """
    there = found.containers(one_off=True)
    mine = [one for one in there if known is None or service_of(one) in known or remove_orphans]
    if services:
        mine = [one for one in there if service_of(one) in services]
    images = {one.image.id: one for one in mine}
    stop_each(mine, timeout, tell, hooks)
    remove_each(mine, tell)
    if services:
        return []
    warnings = [
        f"container {one.name} is of a service that the file has not, and stays (remove_orphans)"
        for one in there
        if one not in mine
    ]
    warnings += _remove("Network", found.networks(), tell)
    contents.remove(found.engine, found.project)
    if volumes:
        warnings += _remove("Volume", found.volumes(), tell)
    if rmi:
        _remove_images(found, images, tell, every=rmi == "all")
    return warnings


def _remove(kind: str, things: Sequence[Network | Volume], tell: Tell) -> list[str]:
    """Remove networks, or volumes; return why some stay."""
    warnings = []
    for thing in things:
        try:
            thing.remove(force=True)
        except Conflict as error:  # noqa: PERF203  one must not keep the others from going
            warnings.append(str(error))
        except NetworkNotFound:
            continue
        else:
            tell(kind, thing.name, "Removed")
    return warnings


def _remove_images(found: Found, images: Mapping[str, Container], tell: Tell, *, every: bool) -> None:
    """Remove the images of containers that were removed; unless ``every``, those that have no name of their own."""
    for container in images.values():
        reference = container.spec.image
        own = reference.partition(":")[0] == f"{found.project}-{service_of(container)}"
        if reference == "host" or not (own or every):
            continue
        with suppress(Conflict, ImageNotFound):
            found.engine.image(reference).remove()
            tell("Image", reference, "Removed")


def running(containers: Sequence[Container]) -> list[Container]:
    """Return those of containers that have a process, or will have one again."""
    return [one for one in containers if (status_of(one) or "") in ALIVE]
