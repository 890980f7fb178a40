"""Where a container is reached, and what it reaches: host names, addresses, networks, ports.

Hides docker's short forms of them. Invariant: no name is looked up; an address has the form that inet_ntop(3) gives it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import asdict, fields_dict, frozen

from pylxc.errors import SpecError, UnsupportedError
from pylxc.normalise.forms import items_of, matching, number_in, pairs_of

if TYPE_CHECKING:
    from pylxc.normalise.forms import Normalise

_HOST_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_HOST_NAME_MAX = 64  # sethostname(2)
_KNOWN_AS = r"[a-zA-Z0-9_](?:[a-zA-Z0-9_.-]{0,252}[a-zA-Z0-9_])?"
_NETWORK_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]*"
HOST_NAME = "host.pylxc.internal"  # of this host, in containers that can reach it
_NOT_NAMES = ("none", "host", "default")  # of networks
HOST_GATEWAY = "host-gateway"  # in extra_hosts: this host, as it is reached from the container's network
CONTAINER = r"[a-zA-Z0-9][a-zA-Z0-9_.-]*"
_PORT_LIMIT = 65535


@frozen
class Port:
    """A published port: ``container`` over ``protocol``, reached at ``port`` (0: any free one) of address ``host``.

    ``host`` "": all addresses of the host. ``last``: any free one from ``port`` to that; 0: just that one.
    """

    container: int
    protocol: str = "tcp"
    host: str = ""
    port: int = 0
    last: int = 0


_dns_option = matching(r"[a-z][a-z0-9-]*(:[0-9]{1,5})?", 'give options of resolv.conf(5), such as "ndots:2" or "edns0"')
_PORT_FIELDS = frozenset(fields_dict(Port))


def hostname(option: str, value: Any) -> str:
    """Return a host's own name."""
    labels = value.split(".") if isinstance(value, str) else [""]
    if not all(re.fullmatch(_HOST_LABEL, label) for label in labels) or len(value) > _HOST_NAME_MAX:
        raise SpecError(
            option, value, f"give letters, digits, '-' and '.' (RFC 1123), {_HOST_NAME_MAX} characters at most"
        )
    return str(value)


def hostnames(option: str, value: Any) -> tuple[str, ...]:
    """Return names that a host is known by."""
    return tuple(_known_as(option, item) for item in items_of(option, value))


def _known_as(option: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(_KNOWN_AS, value):
        raise SpecError(option, value, "give a host name of letters, digits, '-', '_' and '.'")
    return value


def _address(option: str, value: Any) -> str:
    import ipaddress  # noqa: PLC0415  costs milliseconds, seldom needed

    try:
        return str(ipaddress.ip_address(str(value)))  # a number is none, though ipaddress takes it for one
    except ValueError as error:
        raise SpecError(option, value, 'give an IP address, such as "192.0.2.1" or "2001:db8::1"') from error


def domains(option: str, value: Any) -> tuple[str, ...]:
    """Return domains that names are looked for in; ``(".",)``: in none."""
    found = tuple(items_of(option, value))
    return found if found == (".",) else hostnames(option, found)


def dns_options(option: str, value: Any) -> tuple[str, ...]:
    """Return options of resolv.conf(5)."""
    return tuple(_dns_option(option, item) for item in items_of(option, value))


def addresses(option: str, value: Any) -> tuple[str, ...]:
    """Return IP addresses."""
    return tuple(_address(option, item) for item in items_of(option, value))


def one_address(version: int) -> Normalise:
    """Make a form of one address of IPv4, or IPv6."""
    example = "10.5.0.9" if version == 4 else "fd00:5::9"  # noqa: PLR2004  IP versions

    def normalise(option: str, value: Any) -> str:
        text = _address(option, value)
        if (":" in text) != (version != 4) or "%" in text:  # noqa: PLR2004
            raise SpecError(option, value, f'give an address of IPv{version}, such as "{example}"')
        return text

    return normalise


def expose(option: str, value: Any) -> tuple[str, ...]:
    """Return ports of a container, each with its protocol, ranges spelled out."""
    found: dict[str, None] = {}
    for item in [value] if isinstance(value, int) else items_of(option, value):
        first, last, protocol = _container_ports(option, item)
        found.update({f"{port}/{protocol}": None for port in range(first, last + 1)})
    return tuple(found)


def network_name(value: Any, option: str = "name") -> str:
    """Return the name of a network. Raises SpecError for what cannot be one."""
    if not isinstance(value, str) or not re.fullmatch(_NETWORK_NAME, value) or value in _NOT_NAMES:
        remedy = f"a name has [a-zA-Z0-9_.-], and starts with a letter or a digit; {_NOT_NAMES} mean something else"
        raise SpecError(option, value, remedy)
    return value


def network(option: str, value: Any) -> str | tuple[str, ...]:
    """Return with whom a container shares its network, or which networks it is on."""
    if isinstance(value, str):
        prefix, colon, name = value.partition(":")
        if colon and (prefix != "container" or not re.fullmatch(CONTAINER, name)):
            raise SpecError(option, value, 'give "none", "host", "container:NAME" or the name of a network')
        return value if colon or value in _NOT_NAMES else network_name(value, option)
    if not isinstance(value, Sequence) or not value:
        raise SpecError(option, value, 'give "none", "host", the name of a network, or a list of names')
    names = tuple(network_name(item, option) for item in value)
    if len(set(names)) != len(names):
        raise SpecError(option, value, "a network is in it twice")
    return names if len(names) > 1 else names[0]


def extra_hosts(option: str, value: Any) -> dict[str, str]:
    """Return addresses by the names of hosts."""
    hosts = {}
    for name, address in pairs_of(option, value, ":="):
        if address == HOST_GATEWAY:
            hosts[_known_as(option, name)] = HOST_GATEWAY
            continue
        text = address[1:-1] if isinstance(address, str) and address[:1] == "[" and address[-1:] == "]" else address
        hosts[_known_as(option, name)] = _address(option, text)
    return hosts


def ports(option: str, value: Any) -> tuple[Port, ...]:
    """Return ports that are published, ranges spelled out."""
    if isinstance(value, int):
        value = [value]
    if not isinstance(value, Mapping):
        return tuple(port for item in items_of(option, value) for port in _port_items(option, item))
    ports: list[Port] = []
    for container, where in value.items():
        for place in where if isinstance(where, list) else [where]:
            ports += _published(option, container, place)
    return tuple(ports)


def _port_items(option: str, item: Any) -> Iterable[Port]:
    if isinstance(item, Port):
        item = asdict(item)
    if isinstance(item, Mapping) and {"container", "protocol", "host", "port"} <= set(item) <= _PORT_FIELDS:
        container: Any = f"{item['container']}/{item['protocol']}"
        last = item.get("last")
        where: Any = (item["host"], f"{item['port']}-{last}" if last else item["port"])
    else:  # docker's [[address:]port:]container[/protocol]
        place, _, container = str(item).rpartition(":")
        where = place or 0
    return _published(option, container, where)


def _published(option: str, container: Any, where: Any) -> Iterable[Port]:
    """Yield the ports of one item: as many as its range in the container has (docker's rules)."""
    first, last, protocol = _container_ports(option, container)
    host, low, high = _host_ports(option, where)
    if low and high > low and first == last:
        yield Port(first, protocol, host, low, high)
        return
    if low and high - low != last - first:
        raise SpecError(option, {container: where}, "the two ranges must be of one length")
    for number in range(first, last + 1):
        yield Port(number, protocol, host, low and low + number - first)


def _container_ports(option: str, value: Any) -> tuple[int, int, str]:
    text, _, protocol = str(value).partition("/")
    protocol = (protocol or "tcp").lower()
    if protocol == "sctp":
        raise UnsupportedError(f"{option}={value!r}", 'ports of "tcp" and "udp" can be published')
    if protocol not in ("tcp", "udp"):
        raise SpecError(option, value, 'the protocol is "tcp" or "udp"')
    return *_port_range(option, text, 1), protocol


def _host_ports(option: str, value: Any) -> tuple[str, int, int]:
    if value is None:
        return "", 0, 0
    if isinstance(value, str) and ":" in value:
        value = value.rpartition(":")[::2]
    if isinstance(value, (tuple, list)):
        if len(value) not in (1, 2):
            raise SpecError(option, value, 'give (address, port), such as ("127.0.0.1", 8080), or (address,)')
        address, port = (*value, 0)[:2]
        text = address.strip("[]") if isinstance(address, str) else address
        host = _address(option, text) if text else ""
        if "%" in host:
            raise SpecError(option, value, "an address of one link only cannot be given; give another, or none")
        return host, *_port_range(option, port if port != "" else 0, 0)
    return "", *_port_range(option, value, 0)


def _port_range(option: str, value: Any, low: int) -> tuple[int, int]:
    begin, dash, end = str(value).partition("-")
    if not dash or isinstance(value, int):
        number = _port_number(option, value, low)
        return number, number
    first, last = _port_number(option, begin, 1), _port_number(option, end, 1)
    if last < first:
        raise SpecError(option, value, "a range goes from the lower port to the higher one")
    return first, last


def _port_number(option: str, value: Any, low: int) -> int:
    number = -1 if isinstance(value, bool) else number_in(str(value), low, _PORT_LIMIT)
    if number < 0:
        raise SpecError(option, value, f"a port is a number from {low} to {_PORT_LIMIT}")
    return number
