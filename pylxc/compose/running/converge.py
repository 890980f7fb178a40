"""Bringing an environment up: what is there is compared with what is wanted, and only what differs is done.

Invariant: a call either comes back with all that was asked for, or raises, and what it had begun is undone: new
containers are removed, replaced ones stand in their place again. What a killed process has left half done is finished,
or removed, by the next call: two containers for one place are known by their labels.
"""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import frozen

from pylxc.compose.parts import contents, images, labels, making, resources
from pylxc.compose.parts.found import Snapshot, number_of, service_of, status_of
from pylxc.compose.parts.refusals import check, unsupported
from pylxc.compose.parts.services import replicas_of
from pylxc.compose.parts.wiring import anonymous_in, dependencies
from pylxc.compose.running.conditions import await_all
from pylxc.compose.running.order import closure, in_order, side_by_side
from pylxc.compose.running.undo import Undo
from pylxc.errors import PylxcError, SpecError
from pylxc.launching import ALIVE
from pylxc.network import Network
from pylxc.runtime import kept

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pylxc.build.events import BuildEvent
    from pylxc.compose.model import Model
    from pylxc.compose.parts.making import Draft
    from pylxc.container import Container
    from pylxc.engine import Engine
    from pylxc.image import Image

_MOST_REPLICAS = 1000


@frozen(kw_only=True)
class Wishes:
    """How an environment is to come up: the keywords of ``Environment.up``."""

    services: tuple[str, ...] = ()
    detach: bool = False
    build: bool | None = None
    pull: str | None = None
    force_recreate: bool = False
    recreate: bool = True
    always_recreate_deps: bool = False
    renew_volumes: bool = False
    deps: bool = True
    scale: Mapping[str, int] | None = None
    wait: bool = False
    wait_timeout: float | None = None
    timeout: float | None = None
    remove_orphans: bool = False
    start: bool = True
    on_event: Callable[[str, str, str], object] | None = None
    on_build: Callable[[str, BuildEvent], object] | None = None


def find_service(model: Model, name: str) -> dict[str, Any]:
    """Return a service, also one that no active profile asks for. Raises SpecError."""
    services = model.document.get("services") or {}
    found = services.get(name, model.disabled.get(name))
    if found is None:
        raise SpecError("service", name, f"there is no such service; there are {', '.join(sorted(services))}")
    return dict(found)


def needs_of(model: Model, names: Sequence[str], *, deps: bool = True) -> dict[str, set[str]]:
    """Return the services that are meant (none: all that are active), each with those that it needs."""
    chosen = list(names) or list(model.document.get("services") or {})
    direct: dict[str, set[str]] = {}
    rest = list(chosen)
    while rest:
        name = rest.pop()
        if name in direct:
            continue
        service = find_service(model, name)
        direct[name] = set()
        for other, dependency in dependencies(service).items():
            there = other in (model.document.get("services") or {}) or other in model.disabled
            if dependency.required or (there and other not in model.disabled):
                direct[name].add(other)
                rest += [other] if deps else []
    return {name: direct[name] & set(direct) for name in closure(chosen, direct if deps else {})}


class Up:
    """One call of ``up``."""

    def __init__(self, engine: Engine, model: Model, wishes: Wishes, stop: threading.Event) -> None:
        self._engine = engine
        self._model = model
        self._wishes = wishes
        self._stop = stop
        self._needs = needs_of(model, wishes.services, deps=wishes.deps)
        self._services = {name: find_service(model, name) for name in self._needs}
        self._found = Snapshot(engine, model.name)
        self._undo = Undo()
        self._images: dict[str, Image] = {}
        self._renewed: set[str] = set()
        self._lock = threading.Lock()

    def run(self) -> list[Container]:
        """Do it; return the containers of the services that were meant."""
        resources.check_project(self._model.name)
        for warning in check(self._model, self._services):
            self._warn(warning)
        self._check_scale()
        secrets = making.contents_in(self._model, self._services)
        try:
            side_by_side(self._services, self._obtain, self._stop)
            self._make_resources()
            contents.keep(self._engine, self._model.name, secrets)
            in_order(self._needs, self._converge, self._stop)
            if self._wishes.wait and self._wishes.start:
                self._await_ready()
        except BaseException:
            self._undo.back()
            raise
        finally:
            kept.collect()
        self._undo.keep()
        self._see_to_orphans()
        self._sweep_contents()
        kept.collect()
        return [one for one in self._found.containers() if service_of(one) in self._services]

    # -- before ------------------------------------------------------------------------------------------------------

    def _warn(self, text: str) -> None:
        logging.getLogger("pylxc").warning("%s", text)

    def _tell(self, kind: str, name: str, what: str) -> None:
        if self._wishes.on_event is not None:
            with self._lock:
                self._wishes.on_event(kind, name, what)

    def _check_scale(self) -> None:
        for name in self._wishes.scale or {}:
            find_service(self._model, name)
        for name, service in self._services.items():
            number = self._replicas(name)
            if not 0 <= number <= _MOST_REPLICAS:
                raise SpecError("scale", {name: number}, f"give a number from 0 to {_MOST_REPLICAS}")
            if number > 1 and service.get("container_name"):
                remedy = f"of {number} containers only one can have it; leave it out, or give scale: 1"
                raise unsupported(self._model, f"services.{name}.container_name", remedy)

    def _replicas(self, name: str) -> int:
        wanted = (self._wishes.scale or {}).get(name)
        return replicas_of(self._services[name]) if wanted is None else wanted

    def _obtain(self, name: str) -> None:
        wishes = self._wishes
        meant = not wishes.services or name in wishes.services
        image = images.obtain(
            self._engine,
            self._model,
            name,
            self._services[name],
            build=wishes.build if meant or wishes.build is False else None,
            pull=wishes.pull,
            on_event=None if wishes.on_build is None else partial(wishes.on_build, name),
        )
        with self._lock:
            self._images[name] = image

    def _make_resources(self) -> None:
        wanted = resources.wanted_networks(self._model, self._services)
        for network in resources.changed_networks(self._found, wanted):
            for member in network.members():
                container = self._engine.container(member.container)
                self._remove(container)
            network.remove(force=True)
        for name, given in wanted.items():
            made = resources.make_network(self._found, self._model, name, given, detach=self._wishes.detach)
            if made is not None:
                self._undo.note(lambda made=made: made.remove(force=True))  # type: ignore[misc]
                self._tell("Network", name, "Created")
        if self._wishes.detach:
            for network in self._found.networks():
                network.detach()
        for warning in resources.make_volumes(self._found, self._model, self._services):
            self._warn(warning)

    def _remove(self, container: Container) -> None:
        container.stop(self._wishes.timeout)
        container.remove(force=True)
        self._found.drop(container)

    # -- one service -------------------------------------------------------------------------------------------------

    def _converge(self, name: str) -> None:
        service = self._services[name]
        if self._wishes.start and self._wishes.deps:
            self._await_dependencies(service)
        draft = making.draft_of(self._found, self._model, name, service, self._images[name])
        there = self._in_place(draft)
        number = self._replicas(name)
        for extra in sorted(set(there) - set(range(1, number + 1)), reverse=True):
            self._dismiss(there.pop(extra))
        places = {str(place): there.get(place) for place in range(1, number + 1)}
        side_by_side(places, lambda place: self._fill(draft, int(place), places[place]), self._stop)

    def _await_dependencies(self, service: Mapping[str, Any]) -> None:
        for other, dependency in dependencies(service).items():
            if other not in self._services:
                continue
            try:
                await_all(self._found.of_service(other), dependency.condition, self._stop)
            except PylxcError as error:
                if dependency.required:
                    raise
                self._warn(f"{other} is not {dependency.condition.removeprefix('service_')}: {error}")

    def _in_place(self, draft: Draft) -> dict[int, Container]:
        """Return the service's containers by number; what a killed process left beside them is removed."""
        there: dict[int, Container] = {}
        for container in self._found.of_service(draft.name):
            place = number_of(container)
            name = labels.container_name(self._model.name, draft.service, draft.name, place)
            other = there.get(place)
            if other is not None:
                loser = other if container.name == name else container
                self._remove(loser)
                if loser is container:
                    continue
            there[place] = container
        for place, container in there.items():
            name = labels.container_name(self._model.name, draft.service, draft.name, place)
            if container.name != name and container.name == _aside(container, name):
                self._engine.store.containers.rename(container.id, name)
                container.name = name
        return there

    def _dismiss(self, container: Container) -> None:
        self._tell("Container", container.name, "Removing")
        self._remove(container)
        self._tell("Container", container.name, "Removed")

    def _fill(self, draft: Draft, place: int, container: Container | None) -> None:
        if container is None:
            made = making.make(self._found, self._model, draft, place, detach=self._wishes.detach)
            self._found.add(made)
            self._undo.note(lambda: self._take_back(made))
            self._tell("Container", made.name, "Created")
            self._start(draft, made)
        elif self._is_to_be_renewed(draft, container):
            self._renew(draft, place, container)
        else:
            self._go_on(draft, container)

    def _is_to_be_renewed(self, draft: Draft, container: Container) -> bool:
        wishes = self._wishes
        meant = not wishes.services or draft.name in wishes.services
        if not wishes.recreate:
            return False
        if wishes.force_recreate if meant else wishes.always_recreate_deps:
            return True
        return not making.is_as_wanted(self._found, draft, container)

    def _take_back(self, made: Container) -> None:
        made.remove(force=True)
        self._found.drop(made)

    def _start(self, draft: Draft, container: Container) -> None:
        if self._wishes.start:
            making.start(draft.service, container)
            self._tell("Container", container.name, "Started")

    def _go_on(self, draft: Draft, container: Container) -> None:
        """Let a container that is as it should be run, if it does not."""
        if self._wishes.detach and not container.spec.detach:
            container.detach()
        if not self._wishes.start:
            return
        status = container.status()
        if status == "paused":
            container.unpause()
        elif status not in ALIVE:
            self._start(draft, container)
            self._undo.note(container.stop)
        elif any(other in self._renewed and one.restart for other, one in dependencies(draft.service).items()):
            container.restart(self._wishes.timeout)
            self._tell("Container", container.name, "Restarted")
        else:
            self._tell("Container", container.name, "Running")

    def _renew(self, draft: Draft, place: int, old: Container) -> None:
        """Put a new container in the place of one that is not what it should be any more."""
        name = old.name
        ran = status_of(old) in ALIVE
        self._engine.store.containers.rename(old.id, _aside(old, name))
        self._undo.note(lambda: self._restore(old, name, ran=ran), later=lambda: old.remove(force=True))
        self._tell("Container", name, "Recreate")
        inherited = {} if self._wishes.renew_volumes else anonymous_in(self._engine, old)
        self._free_addresses(draft, old)
        made = making.make(self._found, self._model, draft, place, detach=self._wishes.detach, inherited=inherited)
        self._undo.note(lambda: self._take_back(made))
        self._found.drop(old)
        self._found.add(made)
        making.hooks(draft.service, "pre_stop", old) if ran and draft.service.get("pre_stop") else None
        old.stop(self._wishes.timeout)
        self._start(draft, made)
        with self._lock:
            self._renewed.add(draft.name)
        self._tell("Container", name, "Recreated")

    def _free_addresses(self, draft: Draft, old: Container) -> None:
        """Take a container off the networks on which the next one is to have its very address."""
        for end in self._engine.store.networks.ends(old.id):
            link = draft.networks.get(end.network.name)
            if link is None or not set(link.addresses) & {str(one.ip) for one in end.addresses}:
                continue
            network = Network.get(end.network.name, engine=self._engine)
            aliases = [one for one in end.names if one != old.name]
            back = partial(network.connect, old, aliases=aliases, address=link.addresses)
            network.disconnect(old)
            self._undo.note(back)

    def _restore(self, old: Container, name: str, *, ran: bool) -> None:
        self._engine.store.containers.rename(old.id, name)
        self._found.add(old)
        if ran:
            old.start()

    # -- after -------------------------------------------------------------------------------------------------------

    def _await_ready(self) -> None:
        timeout = self._wishes.wait_timeout
        deadline = None if not timeout else time.monotonic() + timeout
        for name in self._services:
            await_all(self._found.of_service(name), "running_or_healthy", self._stop, deadline)

    def _see_to_orphans(self) -> None:
        known = {*(self._model.document.get("services") or {}), *self._model.disabled}
        orphans = [one for one in self._found.containers() if service_of(one) not in known]
        if not orphans:
            return
        if self._wishes.remove_orphans:
            for orphan in orphans:
                self._dismiss(orphan)
            return
        names = ", ".join(one.name for one in orphans)
        self._warn(
            f"project {self._model.name} has containers of services that the file has not (remove_orphans): {names}"
        )

    def _sweep_contents(self) -> None:
        used = {
            name
            for one in self._found.containers(one_off=True)
            for name in contents.used_by(one.spec.mounts, self._model.name)
        }
        contents.sweep(self._engine, self._model.name, used)


def _aside(container: Container, name: str) -> str:
    """Return the name of a container that is being replaced by one of this name."""
    return f"{container.id[:12]}_{name}"
