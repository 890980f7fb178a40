"""Subnets of networks, and the addresses in them: values, chosen and checked.

Invariant: a network's subnets are one of IPv4, one of IPv6, or one of each; an address is a number in all of them. The
host has number 1.
"""

from __future__ import annotations

import ipaddress
import secrets
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from pylxc.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
Interface: TypeAlias = "ipaddress.IPv4Interface | ipaddress.IPv6Interface"
Subnet: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

# Where subnets are taken from, and how long their prefix is: what docker and podman take from last, and what home
# networks have last of all. RFC 1918.
POOLS = (("10.192.0.0/10", 20), ("172.16.0.0/12", 20), ("192.168.0.0/16", 24))
GATEWAY, FIRST = 1, 2  # numbers: of the host, and of the first container
MOST = 1 << 20  # containers on a network, however large the subnet is
V4, V6 = 4, 6
_LEAST_BITS = 2  # of a host's number: one for the host, one for a container, and the two that are nobody's
_LOCAL_MAC = bytes((0x02, 0x50))  # locally administered


def parse(value: Any, option: str = "subnet") -> tuple[Subnet, ...]:
    """Return the subnets that a user names: one as text, or several, at most one of each IP version.

    Raises SpecError.
    """
    items = [value] if isinstance(value, (str, ipaddress.IPv4Network, ipaddress.IPv6Network)) else list(value)
    found = [_parse(option, item) for item in items]
    if len({subnet.version for subnet in found}) != len(found) or not found:
        raise SpecError(option, value, "give one subnet of IPv4, one of IPv6, or one of each")
    return tuple(sorted(found, key=lambda subnet: subnet.version))


def _parse(option: str, value: Any) -> Subnet:
    try:
        subnet = ipaddress.ip_network(value)
    except ValueError as error:
        hint = "" if "host bits" not in str(error) else f" (did you mean {ipaddress.ip_network(value, strict=False)}?)"
        raise SpecError(option, value, f'give a subnet such as "10.5.0.0/24" or "fd00:5::/64"{hint}') from error
    if subnet.is_multicast or subnet.is_loopback or subnet.is_link_local or subnet.is_unspecified:
        raise SpecError(option, value, "addresses of this kind cannot be a network's; give a private subnet")
    if subnet.max_prefixlen - subnet.prefixlen < _LEAST_BITS:
        most = subnet.max_prefixlen - _LEAST_BITS
        raise SpecError(option, value, f"there is no room for a container in it; give a prefix of at most /{most}")
    return subnet


@lru_cache(maxsize=1024)
def parsed(texts: tuple[str, ...]) -> tuple[Subnet, ...]:
    """Return the subnets that were written down as text."""
    return tuple(map(ipaddress.ip_network, texts))


def choose(taken: Iterable[Subnet], *, ipv6: bool) -> tuple[Subnet, ...]:
    """Return subnets that overlap with none of those that are taken. Raises SpecError when there is none left."""
    others = tuple(taken)
    chosen: Subnet = _choose_v4([subnet for subnet in others if isinstance(subnet, ipaddress.IPv4Network)])
    return (chosen, _choose_v6(others)) if ipv6 else (chosen,)


def _choose_v4(taken: Sequence[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
    bounds = [(int(subnet.network_address), int(subnet.broadcast_address)) for subnet in taken]
    for candidate in _candidates():
        low, high = int(candidate.network_address), int(candidate.broadcast_address)
        if not any(first <= high and low <= last for first, last in bounds):
            return candidate
    remedy = "every subnet that pylxc takes from by itself overlaps with a route of this host or a network; give one"
    raise SpecError("subnet", None, remedy)


def _candidates() -> Iterator[ipaddress.IPv4Network]:
    for pool, prefix in POOLS:
        yield from ipaddress.IPv4Network(pool).subnets(new_prefix=prefix)


def _choose_v6(taken: Sequence[Subnet]) -> ipaddress.IPv6Network:
    """Return a unique local subnet of chance (RFC 4193)."""
    while True:
        packed = b"\xfd" + secrets.token_bytes(7) + bytes(8)
        candidate = ipaddress.IPv6Network((packed, 64))
        if not any(candidate.overlaps(other) for other in taken if other.version == V6):
            return candidate


def overlapping(subnet: Subnet, others: Iterable[Subnet]) -> Subnet | None:
    """Return the first of the others that a subnet overlaps with."""
    return next((other for other in others if other.version == subnet.version and subnet.overlaps(other)), None)


def last_number(subnets: Sequence[Subnet]) -> int:
    """Return the last number that a container can have: the last address of IPv4 is for all (broadcast)."""
    return min(MOST, *(subnet.num_addresses - (2 if subnet.version == V4 else 1) for subnet in subnets))


def address(subnet: Subnet, number: int) -> Interface:
    """Return the address of a number in a subnet, with its prefix."""
    return ipaddress.ip_interface((int(subnet.network_address) + number, subnet.prefixlen))


@lru_cache(maxsize=1024)
def gateways(texts: tuple[str, ...]) -> tuple[Address, ...]:
    """Return the host's addresses in the subnets that were written down as text."""
    return tuple(address(subnet, GATEWAY).ip for subnet in parsed(texts))


def number_of(subnets: Sequence[Subnet], given: Sequence[str], option: str = "address") -> int:
    """Return the number of addresses that a user names, of one subnet or of each. Raises SpecError."""
    found: set[int] = set()
    for text in given:
        named = ipaddress.ip_address(text)
        subnet = next((one for one in subnets if one.version == named.version and named in one), None)
        if subnet is None:
            words = " or ".join(map(str, subnets))
            raise SpecError(option, text, f"it is not the network's; give one of {words}")
        number = int(named) - int(subnet.network_address)
        last = last_number(subnets)
        if not FIRST <= number <= last:
            first, end = (address(subnet, which).ip for which in (FIRST, last))
            raise SpecError(option, text, f"give one from {first} to {end}")
        found.add(number)
    if len(found) != 1:
        words = ", ".join(str(address(subnet, min(found)).ip) for subnet in subnets)
        raise SpecError(option, tuple(given), f"addresses of one container have one number in all subnets: {words}")
    return found.pop()


def mac(subnets: Sequence[Subnet], number: int) -> bytes:
    """Return a hardware address made of an address: whoever remembers one under the other is not misled."""
    return _LOCAL_MAC + address(subnets[0], number).ip.packed[-4:]
