"""What a container of an environment has of others: networks, links, volumes, shared namespaces.

Invariant: whatever is taken from another container (its address, its namespaces, its volumes) is taken from one that is
there when this one is made, and is part of its options: when it changes, the container is made anew.

Source: https://docs.docker.com/engine/network/links/ (the variables of links)
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from pylxc.compose.parts import labels
from pylxc.compose.parts.refusals import unsupported
from pylxc.errors import Conflict, ContainerNotFound, SpecError
from pylxc.mounts import Mount
from pylxc.volumeuse import volumes_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Literal

    from pylxc.compose.model import Model
    from pylxc.compose.parts.found import Found
    from pylxc.container import Container
    from pylxc.engine import Engine

_LONGEST_RANGE = 4096  # ports that one line may expose in variables


# -- dependencies ------------------------------------------------------------------------------------------------------


@frozen
class Dependency:
    """That a service needs another one: in what condition, and what else follows from it."""

    condition: str = "service_started"
    required: bool = True
    restart: bool = False


def dependencies(service: Mapping[str, Any]) -> dict[str, Dependency]:
    """Return what a service depends on, said by depends_on or by what it takes of others."""
    found = {
        name: Dependency(
            (given or {}).get("condition") or "service_started",
            bool((given or {}).get("required", True)),
            bool((given or {}).get("restart", False)),
        )
        for name, given in (service.get("depends_on") or {}).items()
    }
    for key in ("network_mode", "pid", "ipc"):
        kind, _, name = str(service.get(key) or "").partition(":")
        if kind == "service":
            found.setdefault(name, Dependency())
    for source in service.get("volumes_from") or ():
        name = str(source).partition(":")[0]
        if name != "container":
            found.setdefault(name, Dependency())
    for link in service.get("links") or ():
        found.setdefault(str(link).partition(":")[0], Dependency())
    return found


# -- networks ----------------------------------------------------------------------------------------------------------


@frozen
class Link:
    """A service's place on a network: its further ``aliases`` there, and the addresses it is to have, "" = any."""

    aliases: tuple[str, ...] = ()
    ipv4: str = ""
    ipv6: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Those that were asked for."""
        return tuple(filter(None, (self.ipv4, self.ipv6)))


def links_to_networks(model: Model, service: Mapping[str, Any]) -> dict[str, Link]:
    """Return a service's places by the networks' names, the first one first."""
    if service.get("network_mode"):
        return {}
    given: dict[str, Any] = service.get("networks") or {"default": None}

    def rank(key: str) -> tuple[int, int, str]:
        one = given[key] or {}
        return -int(one.get("gw_priority") or 0), -int(one.get("priority") or 0), key

    declared = model.document.get("networks") or {}
    found = {}
    for key in sorted(given, key=rank):
        one = given[key] or {}
        name = (declared.get(key) or {}).get("name") or f"{model.name}_{key}"
        addresses = (str(one.get(f"ipv{version}_address") or "") for version in (4, 6))
        found[name] = Link(tuple(one.get("aliases") or ()), *addresses)
    return found


def network_option(found: Found, model: Model, name: str, service: Mapping[str, Any]) -> str | list[str]:
    """Return the option ``network`` of a service."""
    mode = service.get("network_mode")
    if not mode:
        return list(links_to_networks(model, service))
    if mode == "default":
        return "bridge"
    return _shared(found, model, name, "network_mode", mode)


def namespaces(found: Found, model: Model, name: str, service: Mapping[str, Any]) -> dict[str, str]:
    """Return the options ``pid`` and ``ipc`` of a service."""
    keys = ("pid", "ipc")
    return {key: _shared(found, model, name, key, service[key]) for key in keys if service.get(key)}


def _shared(found: Found, model: Model, name: str, key: str, value: str) -> str:
    kind, _, other = value.partition(":")
    if kind == "container":
        return f"container:{found.engine.container(other).id}"
    if kind != "service":
        return str(value)
    containers = found.of_service(other)
    if not containers:
        file = str(model.files[0]) if model.files else model.name
        raise Conflict(f"{file}: services.{name}.{key}", f"service {other} has no container")
    return f"container:{containers[0].id}"


# -- links -------------------------------------------------------------------------------------------------------------


def links_of(found: Found, service: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the variables and the hosts that a service gets by its links.

    Raises ContainerNotFound for an external one.
    """
    env: dict[str, str] = {}
    hosts: dict[str, str] = {}
    for link in service.get("links") or ():
        other, _, alias = str(link).partition(":")
        for container in found.of_service(other):
            number = container.spec.labels.get(labels.NUMBER, "1")
            first = number == "1"
            names = [*([alias or other] if first else []), f"{other}_{number}", f"{found.project}_{other}_{number}"]
            _add_link(found.engine, container, names, env, hosts)
    for link in service.get("external_links") or ():
        other, _, alias = str(link).partition(":")
        _add_link(found.engine, found.engine.container(other), [alias or other], env, hosts)
    return env, hosts


def _add_link(
    engine: Engine, container: Container, names: Sequence[str], env: dict[str, str], hosts: dict[str, str]
) -> None:
    address = _address(engine, container)
    if not address:
        return  # it has another one's network, or the host's
    for name in names:
        env.update(_variables(container, name, address))
        hosts[name] = address


def _address(engine: Engine, container: Container) -> str:
    for end in engine.store.networks.ends(container.id):
        for address in end.addresses:
            if address.version == 4:  # noqa: PLR2004
                return str(address.ip)
    return ""


def _variables(container: Container, name: str, address: str) -> dict[str, str]:
    head = re.sub(r"[^A-Z0-9_]", "_", name.upper())
    found = {f"{head}_NAME": f"/{container.name}/{name}"}
    exposed = sorted(_exposed(container))
    for port, protocol in exposed:
        key = f"{head}_PORT_{port}_{protocol.upper()}"
        url = f"{protocol}://{address}:{port}"
        found.update({key: url, f"{key}_ADDR": address, f"{key}_PORT": str(port), f"{key}_PROTO": protocol})
    if exposed:
        port, protocol = exposed[0]
        found[f"{head}_PORT"] = f"{protocol}://{address}:{port}"
    given = {**container.image.config.env, **container.spec.env}
    found.update({f"{head}_ENV_{key}": value for key, value in given.items() if key not in ("PATH", "HOME")})
    return found


def _exposed(container: Container) -> set[tuple[int, str]]:
    """Return the ports that a container has said that it listens on."""
    found = {(port.container, port.protocol) for port in container.spec.ports}
    told = container.spec.labels.get(labels.EXPOSED, "")
    for text in (*container.image.config.exposed_ports, *told.split(",")):
        found.update(ports_of(text))
    return found


def ports_of(text: str) -> Iterator[tuple[int, str]]:
    """Yield the ports of a text such as "80", "53/udp" or "3000-3005"; nothing for what is none."""
    match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/([a-z]+))?", text.strip())
    if match:
        first, last, protocol = int(match[1]), int(match[2] or match[1]), match[3] or "tcp"
        yield from ((port, protocol) for port in range(first, min(last, first + _LONGEST_RANGE) + 1))


# -- volumes -----------------------------------------------------------------------------------------------------------


def mounts_of(found: Found, model: Model, name: str, service: Mapping[str, Any]) -> list[Mount]:
    """Return the mounts of a service; for one target the service's own go before those of ``volumes_from``."""
    own = [_mount(model, name, number, given) for number, given in enumerate(service.get("volumes") or ())]
    mounts = {mount.target: mount for mount in _mounts_from(found, model, name, service)}
    mounts.update({mount.target: mount for mount in own})
    return list(mounts.values())


def _mount(model: Model, name: str, number: int, given: Mapping[str, Any]) -> Mount:
    path = f"services.{name}.volumes[{number}]"
    kind = given.get("type")
    known = {"type", "source", "target", "read_only", "consistency", kind}
    for key, value in given.items():
        if value and key not in known:
            raise unsupported(model, f"{path}.{key}", f"it is not for a mount of type {kind}")
    made = _MOUNTS.get(str(kind))
    if made is None:
        raise unsupported(model, f"{path}.type: {kind}", "give bind, volume or tmpfs")
    return made(model, path, given)


def _bind(model: Model, path: str, given: Mapping[str, Any]) -> Mount:
    inner = given.get("bind") or {}
    _only(model, f"{path}.bind", inner, {"create_host_path", "propagation", "recursive", "selinux"})
    source = os.path.join(model.working_dir, os.path.expanduser(given["source"]))  # noqa: PTH111, PTH118
    if inner.get("create_host_path", False) and not os.path.lexists(source):
        os.makedirs(source, exist_ok=True)  # noqa: PTH103  as docker does
    if not os.path.exists(source):  # noqa: PTH110
        raise SpecError(path, source, "this path of the host is not there; make it, or give create_host_path")
    propagation: Literal["rprivate"] = inner.get("propagation") or "rprivate"
    return Mount(
        type="bind",
        source=source,
        target=given["target"],
        read_only=bool(given.get("read_only")),
        propagation=propagation,
        recursive=inner.get("recursive") != "disabled",
    )


def _volume(model: Model, path: str, given: Mapping[str, Any]) -> Mount:
    inner = given.get("volume") or {}
    _only(model, f"{path}.volume", inner, {"nocopy", "subpath"})
    key = given.get("source") or ""
    declared = (model.document.get("volumes") or {}).get(key) or {}
    directory = directory_of(model, key, declared)
    if directory:
        return Mount(type="bind", source=directory, target=given["target"], read_only=bool(given.get("read_only")))
    return Mount(
        type="volume",
        source=(declared.get("name") or f"{model.name}_{key}") if key else "",
        target=given["target"],
        read_only=bool(given.get("read_only")),
        nocopy=bool(inner.get("nocopy")),
        subpath=inner.get("subpath") or "",
    )


def directory_of(model: Model, key: str, declared: Mapping[str, Any]) -> str:
    """Return the host's directory that a volume is bound to by its driver_opts, "" where it is a volume."""
    options = declared.get("driver_opts") or {}
    if not options:
        return ""
    words = str(options.get("o") or "").split(",")
    if set(options) - {"type", "o", "device"} or not {"bind", "rbind"} & set(words) or not options.get("device"):
        remedy = "a volume is a directory of the store; of driver_opts it takes {type: none, o: bind, device: /path}"
        raise unsupported(model, f"volumes.{key}.driver_opts", remedy)
    return os.path.join(model.working_dir, str(options["device"]))  # noqa: PTH118


def _tmpfs(model: Model, path: str, given: Mapping[str, Any]) -> Mount:
    inner = given.get("tmpfs") or {}
    _only(model, f"{path}.tmpfs", inner, {"size", "mode"})
    data = [f"size={inner['size']}"] if inner.get("size") else []
    data += [f"mode={int(inner['mode']):o}"] if inner.get("mode") else []
    return Mount(type="tmpfs", target=given["target"], read_only=bool(given.get("read_only")), data=",".join(data))


_MOUNTS = {"bind": _bind, "volume": _volume, "tmpfs": _tmpfs}


def _only(model: Model, path: str, given: Mapping[str, Any], known: set[str]) -> None:
    for key, value in given.items():
        if value and key not in known:
            raise unsupported(model, f"{path}.{key}", f"it is not carried out; there are {', '.join(sorted(known))}")


def _mounts_from(found: Found, model: Model, name: str, service: Mapping[str, Any]) -> Iterator[Mount]:
    for source in service.get("volumes_from") or ():
        words = str(source).removeprefix("container:").split(":")
        try:
            if str(source).startswith("container:"):
                others = [found.engine.container(words[0])]
            else:
                others = list(found.of_service(words[0])[:1])
        except ContainerNotFound as error:
            raise unsupported(model, f"services.{name}.volumes_from: {source}", "there is no such container") from error
        for other in others:
            for mount in mounts_in(found.engine, other):
                yield evolve(mount, read_only=True) if words[-1] == "ro" and len(words) > 1 else mount


def mounts_in(engine: Engine, container: Container) -> Iterator[Mount]:
    """Yield the binds and volumes of a container, its anonymous volumes by their names."""
    uses = {use.target: use.volume for use in engine.store.volumes.uses_of(container.id)}
    contents = labels.contents_name(container.spec.labels.get(labels.PROJECT, ""))
    for mount in (*container.spec.mounts, *container.spec.volumes):
        if mount.type == "bind":
            yield mount
    for mount in volumes_for(container.spec, container.image.config.volumes):
        if mount.source != contents and mount.target in uses:
            yield evolve(mount, source=uses[mount.target])


def anonymous_in(engine: Engine, container: Container) -> dict[str, str]:
    """Return target -> name of the anonymous volumes of a container: the one that takes its place gets them."""
    return {use.target: use.volume for use in engine.store.volumes.uses_of(container.id) if use.anonymous}
