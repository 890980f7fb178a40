"""What a container's published ports are, to those who ask: an address to connect to, docker's form, and errors.

Invariant: what is told is what the monitor listens on now; a container that does not run has no ports.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from pylxc.errors import Conflict, NotFound, PylxcError, SpawnError, SpecError
from pylxc.normalise import NORMAL, Port
from pylxc.runtime import ports

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pylxc.container import Container
    from pylxc.containerwork import Working

# Where a socket for all addresses is reached from this machine.
_REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  not bound


def wanted(port: int | str) -> Port:
    """Return a port of a container as a caller names it: 6379, "53/udp". Raises SpecError."""
    found: Sequence[Port] = ()
    if isinstance(port, (int, str)) and ":" not in str(port):
        found = NORMAL["ports"]("port", [port])
    if len(found) != 1:
        raise SpecError("port", port, 'give one port of the container, such as 6379 or "53/udp"')
    return found[0]


def address(container: Working, port: int | str) -> tuple[str, int]:
    """Return the host and port at which a port of the container is reached from this machine."""
    asked = wanted(port)
    if container.spec.network == "host":
        return "127.0.0.1", asked.container
    for each in container.ports():
        if (each.container, each.protocol) == (asked.container, asked.protocol):
            return _REACHED_AT.get(each.host, each.host), each.port
    name = f"{asked.container}/{asked.protocol}"
    if any((each.container, each.protocol) == (asked.container, asked.protocol) for each in container.spec.ports):
        raise Conflict(container.name, f"is not running ({container.status()}); start it first")
    remedy = f"give ports={{{port!r}: 0}} when the container is made, or use connect"
    raise NotFound(f"port {name} of container {container.name}", f"it is not published; {remedy}")


def described(exposed: Sequence[str], published: Sequence[Port]) -> dict[str, Any]:
    """Return ports in docker's form: {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "90/tcp": None}."""
    found: dict[str, Any] = {}
    for port in published:
        place = {"HostIp": port.host, "HostPort": str(port.port)}
        found.setdefault(f"{port.container}/{port.protocol}", []).append(place)
    return {**{name: None for name in exposed if name not in found}, **found}


def explained(error: SpawnError, container: Container) -> PylxcError:
    """Return what is raised in place of an error of a start: a port that is in use is a Conflict, and named."""
    named = [port for port in container.spec.ports if ports.words(port) == error.subject]
    if not named:
        return error
    if error.errno in (errno.EACCES, errno.EPERM):
        remedy = "an ordinary user may have those from 1024 on; see the sysctl net.ipv4.ip_unprivileged_port_start"
        return SpawnError(error.stage, error.errno, f"{error.subject} ({remedy})")
    if error.errno == errno.EADDRNOTAVAIL:
        return SpawnError(error.stage, error.errno, f"{error.subject} (the host has no such address)")
    if error.errno != errno.EADDRINUSE:
        return error
    holder = _holder(container, named[0])
    by = f"container {holder} publishes it" if holder else "another program listens there"
    return Conflict(error.subject, f"is in use: {by}; give another one, or 0 for any that is free")


def _holder(container: Container, port: Port) -> str:
    """Return the name of the container that holds a port of the host; "" for none of this store."""
    numbers = range(port.port, (port.last or port.port) + 1)
    for other in container._engine.containers():  # noqa: SLF001  one of the object model
        if other.id == container.id or not other.spec.ports:
            continue
        try:
            published = other.ports()
        except NotFound:
            continue  # removed meanwhile
        if any(each.protocol == port.protocol and each.port in numbers for each in published):
            return other.name
    return ""
