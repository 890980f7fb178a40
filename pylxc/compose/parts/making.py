"""One container of an environment: its options, its making, its start.

Invariant: a container has the label of the digest of all that it was made of, so that any process can say later whether
it is still what the file asks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import asdict, evolve, frozen

from pylxc import verbs
from pylxc.compose.parts import labels
from pylxc.compose.parts.contents import contents_of
from pylxc.compose.parts.resources import digest
from pylxc.compose.parts.services import command_of, explained, options_of
from pylxc.compose.parts.wiring import (
    Link,
    dependencies,
    links_of,
    links_to_networks,
    mounts_of,
    namespaces,
    network_option,
)
from pylxc.errors import SpecError
from pylxc.network import Network

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pylxc.compose.model import Model
    from pylxc.compose.parts.contents import Content
    from pylxc.compose.parts.found import Found
    from pylxc.container import Container
    from pylxc.image import Image
    from pylxc.mounts import Mount


@frozen
class Draft:
    """What a service's containers are made of, but for their number. ``networks``: its places by name."""

    name: str
    service: Mapping[str, Any]
    image: Image
    reference: str
    command: list[str] | None
    options: dict[str, Any]
    networks: dict[str, Link]

    @property
    def hash(self) -> str:
        """The digest of all of it, the image left out."""
        return digest([self.command, self.options, {name: asdict(link) for name, link in self.networks.items()}])


def draft_of(found: Found, model: Model, name: str, service: Mapping[str, Any], image: Image) -> Draft:
    """Return what a service's containers are made of; its dependencies are there. Raises ComposeError and others."""
    try:
        return _draft(found, model, name, service, image)
    except SpecError as error:
        raise explained(model, name, error) from error


def _draft(found: Found, model: Model, name: str, service: Mapping[str, Any], image: Image) -> Draft:
    options = options_of(model, name, service)
    env, hosts = links_of(found, service)
    if env or options.get("env"):
        options["env"] = {**env, **options.get("env", {})}
    if hosts or options.get("extra_hosts"):
        options["extra_hosts"] = {**hosts, **options.get("extra_hosts", {})}
    contents = contents_of(model, name, service)
    mounts = [*mounts_of(found, model, name, service), *(one.mount(model.name) for one in contents)]
    if mounts:
        options["mounts"] = mounts
    options.update(namespaces(found, model, name, service))
    networks = links_to_networks(model, service)
    options.update(_network_options(name, networks) or {"network": network_option(found, model, name, service)})
    reference = labels.image_name(model.name, service, name)
    return Draft(name, service, image, reference, command_of(service), options, networks)


def _network_options(name: str, networks: Mapping[str, Link]) -> dict[str, Any]:
    """Return the options of a service's container on networks; see :func:`connect` for those that they cannot say."""
    if not networks:
        return {}
    first, *others = networks.values()
    is_plain = not first.addresses and all(link == Link() for link in others)
    addresses = {"ip": first.ipv4, "ip6": first.ipv6}
    return {
        "aliases": [name, *first.aliases],
        "network": list(networks) if is_plain else next(iter(networks)),
        **{option: address for option, address in addresses.items() if address},
    }


def contents_in(model: Model, services: Mapping[str, Mapping[str, Any]]) -> list[Content]:
    """Return the secrets and configs of services. Raises ComposeError."""
    found: list[Content] = []
    for name, service in services.items():
        try:
            found += contents_of(model, name, service)
        except SpecError as error:  # noqa: PERF203  each names its service
            raise explained(model, name, error) from error
    return found


def marks_of(model: Model, draft: Draft, number: int, *, one_off: bool = False) -> dict[str, str]:
    """Return the labels of a container."""
    return {
        **draft.options.get("labels", {}),
        labels.PROJECT: model.name,
        labels.SERVICE: draft.name,
        labels.NUMBER: str(number),
        labels.ONE_OFF: str(one_off),
        labels.HASH: draft.hash,
        labels.IMAGE: draft.image.id,
        labels.DEPENDS_ON: ",".join(sorted(dependencies(draft.service))),
        labels.FILES: ",".join(map(str, model.files)),
        labels.WORKING_DIR: str(model.working_dir),
        labels.EXPOSED: ",".join(str(port) for port in draft.service.get("expose") or ()),
    }


def make(  # noqa: PLR0913  what a container is made of
    found: Found,
    model: Model,
    draft: Draft,
    number: int,
    *,
    detach: bool,
    inherited: Mapping[str, str] | None = None,
) -> Container:
    """Make the n-th container of a service, on all its networks. ``inherited``: its anonymous volumes by target."""
    options = dict(draft.options)
    options["labels"] = marks_of(model, draft, number)
    options["name"] = labels.container_name(model.name, draft.service, draft.name, number)
    if inherited:
        options["mounts"] = with_inherited(options.get("mounts", ()), inherited)
    try:
        container = verbs.create(
            draft.reference, draft.command, engine=found.engine, detach=detach, pull="never", **options
        )
    except SpecError as error:
        raise explained(model, draft.name, error) from error
    try:
        connect(found, draft, container)
    except BaseException:
        container.remove(force=True)
        raise
    return container


def connect(found: Found, draft: Draft, container: Container) -> None:
    """Let a container be on those networks that it has not been put on when it was made."""
    for name, link in draft.networks.items():
        if name not in container.spec.networks():
            network = Network.get(name, engine=found.engine)
            network.connect(container, aliases=[draft.name, *link.aliases], address=link.addresses or None)


def with_inherited(mounts: tuple[Mount, ...] | list[Mount], inherited: Mapping[str, str]) -> list[Mount]:
    """Return mounts with the anonymous volumes of the container whose place is taken."""
    from pylxc.mounts import Mount as MountClass  # noqa: PLC0415  as a value

    found = [
        evolve(mount, source=inherited[mount.target])
        if mount.type == "volume" and not mount.source and mount.target in inherited
        else mount
        for mount in mounts
    ]
    taken = {mount.target for mount in found}
    return found + [
        MountClass(type="volume", source=name, target=target)
        for target, name in inherited.items()
        if target not in taken
    ]


def is_as_wanted(found: Found, draft: Draft, container: Container) -> bool:
    """Say whether a container is what its service asks for now."""
    marks = container.spec.labels
    if marks.get(labels.HASH) != draft.hash or marks.get(labels.IMAGE) != draft.image.id:
        return False
    ends = found.engine.store.networks.ends(container.id)
    return not draft.networks or {end.network.name for end in ends} == set(draft.networks)


def start(service: Mapping[str, Any], container: Container) -> None:
    """Start a container, and do in it what its service says is to be done after that. Raises ExitError, SpawnError."""
    container.start()
    hooks(service, "post_start", container)


def hooks(service: Mapping[str, Any], key: str, container: Container) -> None:
    """Carry out the commands that a service has for a moment of its life."""
    for hook in service.get(key) or ():
        env = {name: str(value) for name, value in (hook.get("environment") or {}).items() if value is not None}
        user, workdir = hook.get("user") or None, hook.get("working_dir") or None
        container.exec(hook["command"], env=env, user=user, workdir=workdir)
