"""Networks: made, brought up, removed; the default one; what stands against them on this host.

Invariant: the row of a network comes before all that it has in the kernel, and goes after it. In the kernel its packet
filter comes before its bridge and goes after it, so a bridge that is there is whole. Who makes or removes holds the
machine's lock: no two processes, of whatever store, choose one subnet.

Root's networks are on the host, an ordinary user's in a network stack of its store (:mod:`pylxc.runtime.stack`), which
is there only while containers on networks run. So theirs are made in the kernel when a container first needs them.
"""

from __future__ import annotations

import fcntl
import ipaddress
import logging
import os
import socket
import time
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from attrs import evolve

from pylxc import subnets
from pylxc.errors import Conflict, NetworkNotFound, SpawnError, SpecError, StoreError, UnsupportedError
from pylxc.identity import own_identity
from pylxc.runtime import idrange, joining, keeping, network, resolver, rootless, uplink
from pylxc.runtime import stack as stacks
from pylxc.runtime.network import HOST
from pylxc.store import NetworkRow
from pylxc.store.layout import locked
from pylxc.store.networks import DEFAULT
from pylxc.subnets import V6

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pylxc.engine import Engine
    from pylxc.runtime.network import Stack
    from pylxc.store import Store
    from pylxc.subnets import Subnet

_SOMEWHERE = {4: (socket.AF_INET, "203.0.113.1"), 6: (socket.AF_INET6, "2000::1")}  # any far away: nothing is sent


# -- networks ----------------------------------------------------------------------------------------------------------


@contextmanager
def _lock(store: Store) -> Iterator[None]:
    """Hold the lock under which networks of this machine, or an ordinary user's of this store, are made and removed."""
    if not rootless.is_privileged():
        with locked(f"{store.layout.root}/run"):
            yield
        return
    os.makedirs(idrange.DIRECTORY, mode=0o700, exist_ok=True)  # noqa: PTH103
    path = f"{idrange.DIRECTORY}/networks"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(path, f"cannot be written ({error.strerror}); networks are made under its lock") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
        fcntl.flock(fd, fcntl.LOCK_UN)  # said, for a fork of this process may hold a copy of the descriptor
    finally:
        os.close(fd)


def create(  # noqa: PLR0913  what a network is made of
    engine: Engine,
    name: str,
    wanted: Sequence[Subnet],
    *,
    internal: bool = False,
    labels: dict[str, str] | None = None,
    owned: bool = False,
) -> NetworkRow:
    """Make a network, with a free subnet unless some are given. Raises Conflict, SpecError, UnsupportedError."""
    is_root = rootless.is_privileged()
    if not (is_root or internal):
        require_uplink()
    id = os.urandom(32).hex()  # noqa: A001  docker's name
    owner = own_identity() if owned else None
    store = engine.store  # opened before: whoever opens it may have to remove networks first
    sweep(store)
    with _lock(store):
        rows = store.networks.list()
        if any(row.name == name for row in rows):
            raise Conflict(name, "there is a network of this name; remove it, or choose another name")
        others = [subnet for row in rows for subnet in row.parsed]
        chosen = _free(name, wanted, others)
        bridge = f"{network.BRIDGE_PREFIX}{id[:9]}"
        row = NetworkRow(id, name, bridge, tuple(map(str, chosen)), internal, dict(labels or {}), time.time(), owner)
        store.networks.add(row)
        try:
            if owned and is_root:
                keeping.keep(bridge)  # before there is anything to be kept
            _require_versions(row)
            if is_root:
                _make(row, HOST)
        except BaseException:
            _unmake(store, row)
            if store.networks.begin_removal(id):
                store.networks.end_removal(id)
            raise
    return row


def _free(name: str, wanted: Sequence[Subnet], others: Sequence[Subnet]) -> tuple[Subnet, ...]:
    """Return subnets that lead nowhere yet on this host. Raises Conflict for one that is wanted and does."""
    routes = [route.to for route in network.routes() if route.to.prefixlen]
    for subnet in wanted:
        other = subnets.overlapping(subnet, routes)
        if other is not None:
            raise Conflict(name, f"its subnet {subnet} overlaps with {other}, to which this host has a route")
    if wanted:
        return tuple(wanted)
    servers = [server for server in resolver.servers(resolver.read()) if resolver.is_reachable(server, ipv6=True)]
    taken = (*others, *routes, *(ipaddress.ip_network(server) for server in servers))
    return subnets.choose(taken, ipv6=network.has_ipv6())


def _require_versions(row: NetworkRow) -> None:
    if not network.has_ipv6() and V6 in [subnet.version for subnet in row.parsed]:
        remedy = "this host has no IPv6 (sysctl net.ipv6.conf.all.disable_ipv6): leave its IPv6 subnet out"
        raise UnsupportedError(f"network {row.name}", remedy)


def _make(row: NetworkRow, stack: Stack) -> None:
    """Make what a network has in the kernel. Raises UnsupportedError, StoreError."""
    _require_versions(row)
    try:
        network.make_firewall(row.bridge, row.parsed, internal=row.internal, stack=stack)
        if not row.internal and stack is HOST:
            versions = [subnet.version for subnet in row.parsed]
            network.forward([version for version in versions if version != V6 or leads_out_v6(HOST)])
            _warn_of_drops()
        addresses = [subnets.address(subnet, subnets.GATEWAY) for subnet in row.parsed]
        mac = subnets.mac(row.parsed, subnets.GATEWAY)
        network.make_bridge(row.bridge, mac, addresses, network.uplink_mtu(stack), stack)
    except OSError as error:
        raise StoreError(f"network {row.name}", f"cannot be made: {error.strerror}") from error


def _unmake(store: Store, row: NetworkRow) -> None:
    keeping.let_be(row.bridge)
    try:
        stack = stack_of(store)
        if stack is not None:
            with closing(stack):
                network.remove_link(row.bridge, stack)
                network.remove_firewall(row.bridge, stack)
    except ProcessLookupError:  # a stack that was killed meanwhile
        return
    except OSError as error:
        raise StoreError(f"network {row.name}", f"cannot be removed: {error.strerror}") from error


def stack_of(store: Store) -> Stack | None:
    """Return the network stack that bridges are in; None: an ordinary user's is not there now. Raises OSError."""
    return HOST if rootless.is_privileged() else stacks.find(store.layout.root)


def stack_for(store: Store, rows: Sequence[NetworkRow]) -> Stack:
    """Return the stack that these networks are, or are to be, in; an ordinary user's is made where it is missing.

    Raises UnsupportedError, OSError.
    """
    if rootless.is_privileged():
        return HOST
    with _lock(store):
        shared = stacks.get(store.layout.root)
    if not shared.has_uplink and any(not row.internal for row in rows):
        shared.close()
        require_uplink()
        remedy = "it is older than pasta is here: stop all containers on networks of this store first"
        raise UnsupportedError("a way out of the network stack that is there", remedy)
    return shared


def bring_up(engine: Engine, row: NetworkRow, stack: Stack) -> int:
    """Make sure that a network has its bridge: after a boot it has not, nor in an ordinary user's new stack.

    Returns a descriptor that keeps the default network of the host as long as it is open, -1 for others. Raises
    OSError, UnsupportedError, StoreError.
    """
    is_kept = row.is_shared and stack is HOST  # else it goes with the stack
    held = keeping.hold(keeping.place_of(engine.scaffold), row.bridge) if is_kept else -1
    try:
        if not network.is_there(row.bridge, stack):
            with _lock(engine.store):
                if not network.is_there(row.bridge, stack):
                    _make(_moved(engine.store, row) if row.is_shared else row, stack)
    except BaseException:
        if held >= 0:
            os.close(held)
        raise
    return held


def _moved(store: Store, row: NetworkRow) -> NetworkRow:
    """Return the default network with other subnets, where its own lead somewhere else by now: it was not in use."""
    routes = [route.to for route in network.routes() if route.to.prefixlen]
    if not any(subnets.overlapping(subnet, routes) for subnet in row.parsed):
        return row
    others = [subnet for other in store.networks.list() if other.id != row.id for subnet in other.parsed]
    moved = evolve(row, subnets=tuple(map(str, _free(row.name, (), others))))
    store.networks.move(row.id, moved.subnets)
    return moved


# -- the default one ---------------------------------------------------------------------------------------------------


def default_network(engine: Engine, otherwise: str = "none", options: Mapping[str, Any] = MappingProxyType({})) -> str:
    """Return the network of containers that ask for none, and of RUN steps: ``"bridge"`` where it can be had.

    ``otherwise``: what they have where it cannot: nobody asked for it, so that is no error (``doctor`` says why).
    ``options``: the container's others.
    """
    if not has_default() or (_share(options) and not rootless.is_privileged()):
        return otherwise
    return DEFAULT if _can_have_default(engine) else otherwise


def _share(options: Mapping[str, Any]) -> bool:
    """Say whether these options share namespaces with another container."""
    return any(str(options.get(name) or "").startswith(joining.PREFIX) for name in joining.FLAGS)


def has_default() -> bool:
    """Say whether there is a default network for who this process is, where the machine can make one."""
    return rootless.is_privileged() or not uplink.lack()


_found_possible: dict[str, bool] = {}  # by the place of its locks


def _can_have_default(engine: Engine) -> bool:
    """Say whether the default network can be made here: that is known when it was made once."""
    store = engine.store
    place = keeping.place_of(engine.scaffold)
    if place not in _found_possible:
        try:
            row = default_row(store)
            with closing(stack_for(store, [row])) as stack:
                held = bring_up(engine, row, stack)
            if held >= 0:
                os.close(held)
            _found_possible[place] = True
        except (UnsupportedError, StoreError, SpecError, SpawnError, OSError) as error:
            logging.getLogger("pylxc").info("containers have no network by default: %s", error)
            _found_possible[place] = False
            _forget_default(store)
    return _found_possible[place]


def default_row(store: Store) -> NetworkRow:
    """Return the default network; it is added to the store where it is missing, and made when it is used."""
    found = store.networks.find(DEFAULT)
    if found is not None and not found.going:
        return found
    if not rootless.is_privileged():
        require_uplink()
    sweep(store)
    with _lock(store):
        found = store.networks.find(DEFAULT)
        if found is None:
            taken = [subnet for row in store.networks.list() for subnet in row.parsed]
            chosen = tuple(map(str, _free(DEFAULT, (), taken)))
            id = os.urandom(32).hex()  # noqa: A001  docker's name
            row = NetworkRow(id, DEFAULT, f"{network.BRIDGE_PREFIX}{id[:9]}", chosen, created=time.time())
            found = store.networks.add(row)
    return found


def _forget_default(store: Store) -> None:
    """Remove a default network that cannot be made, unless something is on it."""
    row = store.networks.default()
    if row is not None:
        with suppress(Conflict, UnsupportedError, StoreError):
            remove(store, row)


def remove(store: Store, row: NetworkRow) -> None:
    """Remove a network, and all it has in the kernel. Raises Conflict when there are containers on it."""
    with _lock(store):
        if store.networks.begin_removal(row.id):
            _unmake(store, row)
            store.networks.end_removal(row.id)


def disown(store: Store, row: NetworkRow) -> None:
    """Let a network outlive the process that it belongs to."""
    store.networks.disown(row.id)
    keeping.let_be(row.bridge)


def sweep(store: Store) -> None:
    """Remove the networks of processes that were killed. Those with containers of others on them wait for their end."""
    for row in store.networks.abandoned():
        with suppress(Conflict):
            remove(store, row)


def require_uplink() -> None:
    """Raise UnsupportedError for an ordinary user who has nothing that leads out of the host."""
    lack = uplink.lack()
    if lack:
        remedy = f'{lack}; or give network="none" (published ports work) or an internal network'
        raise UnsupportedError("networks that lead out of the host", remedy)


def try_firewall() -> None:
    """Make a packet filter that filters nothing, and remove it. Raises UnsupportedError, StoreError."""
    name = f"{network.BRIDGE_PREFIX}{os.urandom(4).hex()}"
    try:
        network.make_firewall(name, (), internal=False)
        network.remove_firewall(name)
    except OSError as error:
        raise StoreError("nftables", f"cannot be changed: {error.strerror}") from error


def forwarding_finding() -> tuple[str, str]:
    """Return what is to be known of a host that drops what it forwards, and the remedy; else ""."""
    with suppress(OSError):  # only root may look
        for version, program in ((4, "iptables-legacy"), (6, "ip6tables-legacy")):
            if network.legacy_drops(version):
                drops = f"{program} drops what this host forwards (policy of chain FORWARD), whatever nftables allow"
                return drops, f"{_iptables_rules(program)} let containers' packets through"
        chain = network.nftables_drops()
        if chain:
            drops = f"chain {chain} of nftables drops what this host forwards (its policy), whatever other chains allow"
            return drops, f"{_nft_rules(chain)} let containers' packets through, as long as that chain is not made anew"
    return "", ""


def _iptables_rules(program: str) -> str:
    back = "-m conntrack --ctstate ESTABLISHED,RELATED"
    rules = (f"-i {network.BRIDGE_PREFIX}+ -j ACCEPT", f"-o {network.BRIDGE_PREFIX}+ {back} -j ACCEPT")
    return " and ".join(f"`{program} -I FORWARD {rule}`" for rule in rules)


def _nft_rules(chain: str) -> str:
    link = f'"{network.BRIDGE_PREFIX}*"'
    rules = (f"iifname {link} accept", f"oifname {link} ct state established,related accept")
    return " and ".join(f"`nft 'insert rule {chain} {rule}'`" for rule in rules)


@lru_cache(maxsize=1)
def _warn_of_drops_once(finding: str, remedy: str) -> None:
    words = "containers on networks may not get out of this host: %s; %s"
    logging.getLogger("pylxc").warning(words, finding, remedy)


def _warn_of_drops() -> None:
    finding, remedy = forwarding_finding()
    if finding:
        _warn_of_drops_once(finding, remedy)


def leads_out_v6(stack: Stack) -> bool:
    """Say whether a stack has an IPv6 way out."""
    if stack is HOST:
        return bool(address_to_the_world(V6))
    return any(way.to.version == V6 for way in network.ways_out(stack))


def address_to_the_world(version: int) -> str:
    """Return the host's own address on its way out; "" where it has none.

    It is asked of the kernel for one destination, however many routes there are.
    """
    family, somewhere = _SOMEWHERE[version]
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((somewhere, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def find(engine: Engine, name_or_id: str) -> NetworkRow:
    """Return the row of a network; the default one is made where it is missing. Raises NetworkNotFound, Conflict."""
    try:
        return engine.store.networks.get(name_or_id)
    except NetworkNotFound:
        if name_or_id != DEFAULT:
            raise
        return default_row(engine.store)
