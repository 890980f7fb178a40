"""Publishes a container's ports through its monitor, and reads where they came to lie.

Hides the PUBLISH operation (csrc/pylxc.h) and the file "ports" in the container's directory: a line for each port of
the spec, in its order, with the number that it came to and the kind of its socket (6: IPv6, or both; 4).
Invariant: a container that is started again has the ports that it had before, where they are free.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pylxc.normalise import Port

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pylxc.runtime.plan import Plan

UDP_IDLE = 90.0  # s, as docker's proxy
_NANOSECONDS = 1e9
_PORT = struct.Struct("=16s6i")
_PROTOCOLS = {"tcp": 6, "udp": 17}  # their numbers in IP
_ALL = ("0.0.0.0", "::")  # noqa: S104  shown, and bound when the caller says so


def words(port: Port) -> str:
    """Return what an error calls a port of the host."""
    host = f"[{port.host}]" if ":" in port.host else port.host
    number = f"{port.port}-{port.last}" if port.last else str(port.port)
    return f"port {host}{':' if host else ''}{number}/{port.protocol} of the host"


def add_ports(plan: Plan, ports: Sequence[Port], directory: str) -> None:
    """Let the monitor publish ports. ``directory``: the container's, which may know where they were before."""
    earlier = [number for number, _ in _read(directory)]
    if len(earlier) != len(ports):
        earlier = [0] * len(ports)
    for port, before in zip(ports, earlier, strict=True):
        family, address = _address(port.host)
        numbers = (port.port, port.last or port.port, before, port.container)
        body = _PORT.pack(address, family, _PROTOCOLS[port.protocol], *numbers)
        plan.add_port(body, round(UDP_IDLE * _NANOSECONDS), words(port))


def _address(host: str) -> tuple[int, bytes]:
    if not host:
        return 0, b""
    import ipaddress  # noqa: PLC0415  costs milliseconds, seldom needed

    address = ipaddress.ip_address(host)
    return address.version, address.packed


def published(directory: str, ports: Sequence[Port]) -> list[Port]:
    """Return the ports of a container that runs as they are: with the address and number of each socket.

    Those for all addresses are two, of IPv4 and of IPv6 (one where the host has no IPv6). Nothing where the monitor
    has not said yet.
    """
    found = []
    for port, (number, kind) in zip(ports, _read(directory), strict=False):
        hosts = (port.host,) if port.host else _ALL if kind == 6 else _ALL[:1]  # noqa: PLR2004  IPv6
        found += [Port(port.container, port.protocol, host, number) for host in hosts]
    return found


def _read(directory: str) -> list[tuple[int, int]]:
    try:
        with open(f"{directory}/ports") as file:  # noqa: PTH123
            lines = file.read().splitlines()
    except FileNotFoundError:
        return []
    return [(int(number), int(kind)) for number, kind in map(str.split, lines)]
