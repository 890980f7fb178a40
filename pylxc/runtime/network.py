"""The outer side of networks in the kernel: bridges, containers' ends of them, packet filters, routes.

Hides the extension's structures. Invariant: every function does one thing and asks the kernel anew; what is to be
removed and is not there is no error. Failures are ``OSError`` with words for what was tried. All happens in
the :class:`Stack` that is named, the host's unless another one is.

Source: rtnetlink(7), veth(4), nft(8).
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from attrs import frozen

from pylxc._native import ffi, lib
from pylxc.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pylxc.runtime.stack import Shared
    from pylxc.subnets import Address, Interface, Subnet

BRIDGE_PREFIX = "pylxc-"  # of the names of all networks' bridges: what tells other networks from other links
_UNICAST = 1  # RTN_UNICAST of rtnetlink(7): routes that lead somewhere
_LOCAL_TABLE = 255


class Stack:
    """A network stack that bridges are in, by the sockets on which the kernel is asked: the host's own."""

    def route(self) -> int:
        """Return its NETLINK_ROUTE socket, which stays its own; -1: one is made whenever it is needed."""
        return -1

    def netfilter(self) -> int:
        """Return the same of NETLINK_NETFILTER."""
        return -1

    def close(self) -> None:
        """Keep it no longer; the host's stays."""


HOST = Stack()
BLANK = bytes(ffi.sizeof("struct pylxc_endpoint"))  # takes the place of an end that is not known yet


@frozen(kw_only=True)
class Endpoint:
    """A container's end of a network: the link's ``name`` inside, its ``addresses`` and the ``gateways`` by default.

    ``mtu`` 0: that of the bridge.
    """

    name: str
    bridge: str
    mac: bytes
    mtu: int = 0
    addresses: tuple[Interface, ...] = ()
    gateways: tuple[Address, ...] = ()

    def encode(self) -> bytes:
        """Return it as the extension's ``struct pylxc_endpoint``."""
        made = ffi.new("struct pylxc_endpoint *")
        _fill_link(made, self.mac, self.mtu, self.addresses)
        made.name, made.bridge = self.name.encode(), self.bridge.encode()
        for place, address in zip(made.gateway, self.gateways, strict=False):
            _fill(place, address, 0)
        return bytes(ffi.buffer(made))


@frozen
class Links:
    """What a container on networks starts with: its ends (encoded), its resolv.conf, the path of its hosts file.

    ``held``: a descriptor that the monitor keeps open (-1: none), ``shared``: the stack that the bridges are in, where
    that is not the host's; :meth:`let_go` closes both here. Without a hosts file its names are the plan's; ``gateways``
    are the host's addresses. ``join``: what is to be done before its process runs, so that the others know it; where
    the ends are ``late``, those here only take their places, and it gives them first.
    """

    endpoints: tuple[bytes, ...]
    resolv_conf: str
    hosts: str
    held: int = -1
    gateways: tuple[str, ...] = ()
    shared: Shared | None = None
    join: Callable[[], Iterable[bytes]] | None = None
    late: bool = False

    def let_go(self) -> None:
        """Close what was opened for the monitor, which has its own by now or does not come."""
        if self.held >= 0:
            os.close(self.held)
        if self.shared is not None:
            self.shared.close()


@frozen
class Route:
    """A route of the host's: where it leads ``to``, by the link with this ``index`` (0: by none)."""

    to: Subnet
    index: int
    metric: int
    is_main: bool


def _fill(place: Any, address: Address, prefix: int) -> None:
    place.family, place.prefix = address.version, prefix
    ffi.memmove(place.bytes, address.packed, len(address.packed))


def _fill_link(made: Any, mac: bytes, mtu: int, addresses: Sequence[Interface]) -> None:
    ffi.memmove(made.mac, mac, len(mac))
    made.mtu = mtu
    for place, address in zip(made.own, addresses, strict=False):
        _fill(place, address.ip, address.network.prefixlen)


def _failed(what: str) -> OSError:
    return OSError(ffi.errno, f"{what}: {os.strerror(ffi.errno)}")


def is_there(name: str, stack: Stack = HOST) -> bool:
    """Say whether there is a link of this name."""
    ret = ffi.new("uint32_t *")
    lib.pylxc_link_index(stack.route(), name.encode(), ret)
    return int(ret[0]) > 0


def make_bridge(name: str, mac: bytes, addresses: Sequence[Interface], mtu: int = 0, stack: Stack = HOST) -> None:
    """Make a bridge and bring it up. One of that name is left as it is. Raises OSError."""
    made = ffi.new("struct pylxc_bridge *")
    made.name = name.encode()
    _fill_link(made, mac, mtu, addresses)
    if lib.pylxc_bridge_make(stack.route(), made) < 0 and ffi.errno != errno.EEXIST:
        raise _failed(f"make the bridge {name}")


def remove_link(name: str, stack: Stack = HOST) -> None:
    """Remove a link. Raises OSError."""
    if lib.pylxc_link_remove(stack.route(), name.encode()) < 0:
        raise _failed(f"remove the link {name}")


def ports(bridge: str, stack: Stack = HOST) -> int:
    """Return how many links are on a bridge. Raises OSError (ENODEV: it is not there)."""
    ret = ffi.new("int *")
    if lib.pylxc_bridge_ports(stack.route(), bridge.encode(), ret) < 0:
        raise _failed(f"look at the bridge {bridge}")
    return int(ret[0])


def attach(pid_fd: int, netns: int, endpoint: Endpoint, stack: Stack = HOST) -> None:
    """Give a running process's network namespace (a pidfd, a descriptor of it) a link to a network. Raises OSError."""
    encoded = ffi.from_buffer("struct pylxc_endpoint *", endpoint.encode())
    if lib.pylxc_endpoint_attach(stack.route(), pid_fd, netns, encoded) < 0:
        raise _failed(f"make {endpoint.name} on {endpoint.bridge}")


def detach(pid_fd: int, name: str) -> None:
    """Take a link out of a running process's network namespace. Raises OSError."""
    if lib.pylxc_endpoint_detach(pid_fd, name.encode()) < 0:
        raise _failed(f"remove {name}")


def routes(stack: Stack = HOST) -> list[Route]:
    """Return the routes of both families that lead somewhere, in all tables. Raises OSError."""
    most, count = 256, ffi.new("size_t *")
    while True:
        found = ffi.new("struct pylxc_route[]", most)
        if lib.pylxc_routes(stack.route(), found, most, count) < 0:
            raise _failed("list the routes")
        if count[0] <= most:
            return [_to_route(found[k]) for k in range(count[0]) if found[k].type == _UNICAST]
        most = count[0] + 64


def _to_route(found: Any) -> Route:
    import ipaddress  # noqa: PLC0415  costs milliseconds, seldom needed

    family = found.to.family
    packed = bytes(ffi.buffer(found.to.bytes))[: 4 if family == 4 else 16]  # noqa: PLR2004  IP versions
    to = ipaddress.ip_network((packed, found.to.prefix), strict=False)
    return Route(to, found.index, found.metric, found.table == 254)  # noqa: PLR2004  RT_TABLE_MAIN


def ways_out(stack: Stack = HOST) -> list[Route]:
    """Return the default routes by links, the one that is used first. Raises OSError."""
    ways = [route for route in routes(stack) if route.is_main and not route.to.prefixlen and route.index]
    return sorted(ways, key=lambda route: (route.to.version, route.metric))


def uplink_mtu(stack: Stack = HOST) -> int:
    """Return the MTU of the link that the default route leads to; 0 where there is none."""
    return next(filter(None, (_mtu(way.index, stack) for way in ways_out(stack))), 0)


def _mtu(index: int, stack: Stack) -> int:
    ret = ffi.new("uint32_t *")
    return int(ret[0]) if lib.pylxc_link_mtu(stack.route(), index, ret) == 0 else 0


def make_firewall(bridge: str, subnets: Sequence[Subnet], *, internal: bool, stack: Stack = HOST) -> None:
    """Make a network's packet filter, in one transaction; one that is there is replaced.

    Raises UnsupportedError where the kernel has no nftables; OSError.
    """
    made = ffi.new("struct pylxc_firewall *")
    made.bridge, made.prefix, made.internal = bridge.encode(), BRIDGE_PREFIX.encode(), internal
    made.strays = stack is not HOST
    for place, subnet in zip(made.subnet, subnets, strict=False):
        _fill(place, subnet.network_address, subnet.prefixlen)
    if lib.pylxc_firewall_make(stack.netfilter(), made) == 0:
        return
    if ffi.errno == errno.ENOTSUP:
        remedy = "the kernel lacks nftables or a part of it (NF_TABLES_INET, NFT_MASQ, NFT_CT): `modprobe nf_tables`"
        raise UnsupportedError("networks", remedy)
    raise _failed(f"make the packet filter of {bridge}")


def remove_firewall(bridge: str, stack: Stack = HOST) -> None:
    """Remove a network's packet filter. Raises OSError."""
    if lib.pylxc_firewall_remove(stack.netfilter(), bridge.encode()) < 0 and ffi.errno != errno.ENOTSUP:
        raise _failed(f"remove the packet filter of {bridge}")


_FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}


def nftables_drops() -> str:
    """Return the chain of nftables that drops forwarded packets by its policy, as nft names it; "". Raises OSError."""
    ret = ffi.new("struct pylxc_chain *")
    if lib.pylxc_nftables_forward_drops(ret) < 0:
        raise _failed("list the chains of nftables")
    table, name = (ffi.string(text).decode("utf-8", "replace") for text in (ret.table, ret.name))
    return f"{_FAMILIES[ret.family]} {table} {name}" if table else ""


def legacy_drops(version: int) -> bool:
    """Say whether iptables-legacy (of IPv4 or IPv6) drops forwarded packets by its chain's policy. Raises OSError."""
    ret = ffi.new("int *")
    if lib.pylxc_legacy_forward_drops(version, ret) < 0:
        raise _failed("read the tables of iptables-legacy")
    return bool(ret[0])


_SYSCTLS = "/proc/sys/net"


def has_ipv6() -> bool:
    """Say whether links of this host can have IPv6 addresses."""
    return _sysctl("ipv6/conf/default/disable_ipv6") == "0" and _sysctl("ipv6/conf/all/disable_ipv6") == "0"


def _sysctl(name: str) -> str:
    try:
        with open(f"{_SYSCTLS}/{name}") as file:  # noqa: PTH123
            return file.read().strip()
    except FileNotFoundError:
        return ""


def _set(name: str, value: str) -> None:
    if _sysctl(name) != value:
        with open(f"{_SYSCTLS}/{name}", "w") as file:  # noqa: PTH123
            file.write(value)


def forward(versions: Sequence[int]) -> None:
    """Let this host pass packets on between its links (IP versions 4 and 6). Raises OSError.

    A host that passes on IPv6 does not listen to routers any more, unless it is told to (accept_ra 2, see the kernel's
    ip-sysctl.rst): links that did go on doing so.
    """
    if 4 in versions:  # noqa: PLR2004  an IP version
        _set("ipv4/ip_forward", "1")
    if 6 in versions and _sysctl("ipv6/conf/all/forwarding") != "1":  # noqa: PLR2004
        for link in os.listdir(f"{_SYSCTLS}/ipv6/conf"):  # noqa: PTH208  names only
            if link not in ("all", "lo") and _sysctl(f"ipv6/conf/{link}/accept_ra") == "1":
                _set(f"ipv6/conf/{link}/accept_ra", "2")
        _set("ipv6/conf/all/forwarding", "1")
