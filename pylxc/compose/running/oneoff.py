"""One-off containers of a service: what ``run`` makes.

Invariant: such a container has its service's options but for its ports and its name, is labelled as a one-off, and is
never counted among the service's own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pylxc.compose.parts import contents, images, making, resources
from pylxc.compose.parts.found import Found
from pylxc.compose.parts.refusals import check
from pylxc.compose.parts.wiring import dependencies
from pylxc.compose.running.conditions import await_all
from pylxc.compose.running.converge import Up, Wishes, find_service

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence

    from pylxc.compose.model import Model
    from pylxc.engine import Engine


def prepare(  # noqa: PLR0913  one for each flag
    engine: Engine,
    model: Model,
    name: str,
    command: str | Sequence[str] | None,
    stop: threading.Event,
    *,
    deps: bool,
    service_ports: bool,
    options: Mapping[str, Any],
) -> tuple[str, str | Sequence[str] | None, dict[str, Any]]:
    """Return the image, the command and the options for a one-off container; what it needs is up."""
    service = find_service(model, name)
    check(model, {name: service})
    found = Found(engine, model.name)
    detach = bool(options.get("detach")) or any(one.spec.detach for one in found.containers())
    needed = {other: one for other, one in dependencies(service).items() if other in _services(model)}
    if needed and deps:
        Up(engine, model, Wishes(services=tuple(needed), detach=detach, recreate=False), stop).run()
        for other, dependency in needed.items():
            await_all(found.of_service(other), dependency.condition, stop)
    image = images.obtain(engine, model, name, service)
    for network, given in resources.wanted_networks(model, {name: service}).items():
        resources.make_network(found, model, network, given, detach=detach)
    resources.make_volumes(found, model, {name: service})
    contents.keep(engine, model.name, making.contents_in(model, {name: service}))
    draft = making.draft_of(found, model, name, service, image)
    made = {**draft.options, "labels": making.marks_of(model, draft, 1, one_off=True)}
    if draft.networks:
        made["network"] = list(draft.networks)
        for option in ("aliases", "ip", "ip6"):  # who asks for the service means its own containers
            made.pop(option, None)
    if not service_ports:
        made.pop("ports", None)
    for option in ("restart", "healthcheck"):
        made.pop(option, None)
    given = dict(options)
    made["env"] = {**made.get("env", {}), **given.pop("env", {})}
    made["name"] = f"{model.name}-{name}-run-{os.urandom(6).hex()}"
    return draft.reference, draft.command if command is None else command, {**made, "pull": "never", **given}


def _services(model: Model) -> Mapping[str, Any]:
    return {**(model.document.get("services") or {}), **model.disabled}
