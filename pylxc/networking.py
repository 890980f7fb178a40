"""What containers have to do with networks: from the names in a spec to links, hosts files and name servers.

Invariant: the row of a network comes before all that it has in the kernel, and goes after it. In the kernel its packet
filter comes before its bridge and goes after it, so a bridge that is there is whole. Who makes or removes holds the
machine's lock: no two processes, of whatever store, choose one subnet. Nothing else need be remembered: a container's
links go with its network namespace, whoever is killed whenever.

Root's networks are on the host, an ordinary user's in a network stack of its store (:mod:`pylxc.runtime.stack`), which
is there only while containers on networks run. So theirs are made in the kernel when a container first needs them.
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import logging
import os
import socket
import time
from contextlib import closing, contextmanager, suppress
from functools import lru_cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from attrs import evolve

from pylxc import subnets
from pylxc.errors import Conflict, NetworkNotFound, SpawnError, SpecError, StoreError, UnsupportedError
from pylxc.identity import own_identity
from pylxc.normalise import HOST_GATEWAY, HOST_NAME
from pylxc.runtime import control, idrange, joining, keeping, network, resolver, rootless, uplink
from pylxc.runtime import stack as stacks
from pylxc.runtime.network import HOST, Links
from pylxc.store import NetworkRow, Wish
from pylxc.store.layout import locked
from pylxc.store.networks import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pylxc.engine import Engine
    from pylxc.launching import Launching
    from pylxc.runtime.network import Stack
    from pylxc.spec import ContainerSpec
    from pylxc.store import End, Store
    from pylxc.subnets import Subnet

_V6 = 6
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
    if not network.has_ipv6() and _V6 in [subnet.version for subnet in row.parsed]:
        remedy = "this host has no IPv6 (sysctl net.ipv6.conf.all.disable_ipv6): leave its IPv6 subnet out"
        raise UnsupportedError(f"network {row.name}", remedy)


def _make(row: NetworkRow, stack: Stack) -> None:
    """Make what a network has in the kernel. Raises UnsupportedError, StoreError."""
    _require_versions(row)
    try:
        network.make_firewall(row.bridge, row.parsed, internal=row.internal, stack=stack)
        if not row.internal and stack is HOST:
            versions = [subnet.version for subnet in row.parsed]
            network.forward([version for version in versions if version != _V6 or _leads_out_v6(HOST)])
            _warn_of_drops()
        addresses = [subnets.address(subnet, subnets.GATEWAY) for subnet in row.parsed]
        mac = subnets.mac(row.parsed, subnets.GATEWAY)
        network.make_bridge(row.bridge, mac, addresses, network.uplink_mtu(stack), stack)
    except OSError as error:
        raise StoreError(f"network {row.name}", f"cannot be made: {error.strerror}") from error


def _unmake(store: Store, row: NetworkRow) -> None:
    keeping.let_be(row.bridge)
    try:
        stack = _stack(store)
        if stack is not None:
            with closing(stack):
                network.remove_link(row.bridge, stack)
                network.remove_firewall(row.bridge, stack)
    except ProcessLookupError:  # a stack that was killed meanwhile
        return
    except OSError as error:
        raise StoreError(f"network {row.name}", f"cannot be removed: {error.strerror}") from error


def _stack(store: Store) -> Stack | None:
    """Return the network stack that bridges are in; None: an ordinary user's is not there now. Raises OSError."""
    return HOST if rootless.is_privileged() else stacks.find(store.layout.root)


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
            with closing(_stack_for(store, [row])) as stack:
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


def _leads_out_v6(stack: Stack) -> bool:
    """Say whether a stack has an IPv6 way out."""
    if stack is HOST:
        return bool(_address_to_the_world(_V6))
    return any(way.to.version == _V6 for way in network.ways_out(stack))


def _address_to_the_world(version: int) -> str:
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


# -- a container on them -----------------------------------------------------------------------------------------------


def wishes_of(container: Launching, name: str) -> Sequence[Wish]:
    """Return the networks that a container of this name is to be on. The default one may have to be made first."""
    spec = container.spec
    wanted = spec.networks()
    if not wanted:
        return ()
    if joining.other(spec)[0] and not rootless.is_privileged():
        remedy = (
            "it has rights over one container's namespaces only; let both be on networks and share none, or share all"
        )
        raise UnsupportedError("networks of a container that shares another one's namespaces", remedy)
    names = (name, *spec.aliases, *((spec.hostname,) if spec.hostname else ()), container.id[:12])
    addresses = tuple(filter(None, (spec.ip, spec.ip6)))
    return [Wish(each, tuple(dict.fromkeys(names)), addresses) for each in wanted]


def prepare(engine: Engine, container: Launching, *, is_listed: bool) -> Links | None:
    """Make the networks of a container that is about to start ready; None: it has none of its own.

    While it is being started ``join`` of what is returned must follow, for one that is not in the store yet after it
    was added: it has its addresses from then on. Raises OSError, NetworkNotFound.
    """
    name, flags = joining.other(container.spec)
    if flags & joining.NEWNET:
        return _links_of_other(engine, name)
    if not container.spec.networks():
        return None
    store = engine.store
    ends = store.networks.ends(container.id) if is_listed else None
    rows = _wanted(store, container.spec) if ends is None else [end.network for end in ends]
    stack, held = _stack_for(store, rows), -1
    try:
        for row in rows:
            held = max(held, bring_up(engine, row, stack))
        if ends is not None:
            if any(store.networks.has_moved(row) for row in rows if row.is_shared):
                ends = store.networks.ends(container.id)
            with suppress(FileNotFoundError):
                os.unlink(_changed(engine, container.id))  # noqa: PTH108  the plan has them all
        links = _links(container.spec, rows, stack, store.hostsfiles.path(container.id), held)
        if ends is not None:
            return evolve(links, endpoints=tuple(_encoded(ends, stack)), join=partial(_join, engine, container, ends))
        late = partial(_join_late, engine, container, rows, stack)
        return evolve(links, endpoints=(network.BLANK,) * len(rows), join=late, late=True)
    except BaseException:
        stack.close()
        if held >= 0:
            os.close(held)
        raise


def _stack_for(store: Store, rows: Sequence[NetworkRow]) -> Stack:
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


def _wanted(store: Store, spec: ContainerSpec) -> list[NetworkRow]:
    """Return the networks that a container asks for. Raises NetworkNotFound."""
    return [default_row(store) if name == DEFAULT else store.networks.wanted(name) for name in spec.networks()]


def _links(spec: ContainerSpec, rows: Sequence[NetworkRow], stack: Stack, hosts: str, held: int) -> Links:
    """Return what a container on these networks, which are in that stack, gets beside its ends. ``hosts``: its file."""
    has_v6 = any(subnet.version == _V6 for row in rows for subnet in row.parsed)
    shared = stack if isinstance(stack, stacks.Shared) else None
    forwarder = uplink.DNS if shared is not None and shared.answers_dns else ""
    resolv_conf = resolver.content(spec, ipv6=has_v6, forwarder=forwarder)
    return Links((), resolv_conf, hosts, held, shared=shared)


def _join(engine: Engine, container: Launching, ends: Sequence[End]) -> Sequence[bytes]:
    """Let a container that is being started be known on its networks, and know the others.

    Raises OSError. Should it not start after all, ``hostsfiles.leave`` must follow.
    """
    engine.store.hostsfiles.join(container.id, header_of(container.spec, ends), ends)
    return ()


def _join_late(engine: Engine, container: Launching, rows: Sequence[NetworkRow], stack: Stack) -> Iterator[bytes]:
    """Do the same for a container that has only just got its addresses; yield its ends on these networks before."""
    ends = engine.store.networks.ends(container.id)[: len(rows)]  # somebody may have connected it to more
    yield from _encoded(ends, stack)  # first: to make links takes longest
    _join(engine, container, ends)


@contextmanager
def lent_links(engine: Engine, spec: ContainerSpec, lease: str) -> Iterator[Links | None]:
    """Give a RUN step its place on the network that its spec names; None: it is on none.

    Nobody else can ask for it by a name. Raises NetworkNotFound, Conflict, UnsupportedError, StoreError.
    """
    if not spec.networks():
        yield None
        return
    (name,) = spec.networks()
    if name == DEFAULT:
        default_row(engine.store)
    end = engine.store.networks.lend(name, lease)
    try:
        with closing(_stack_for(engine.store, [end.network])) as stack:
            held = bring_up(engine, end.network, stack)
            try:
                end = evolve(end, network=engine.store.networks.get(end.network.id))
                links = _links(spec, [end.network], stack, "", held)
                gateways = tuple(_addresses_of_host([end]))
                yield evolve(links, endpoints=tuple(_encoded([end], stack)), gateways=gateways)
            finally:
                if held >= 0:
                    os.close(held)
    finally:
        engine.store.networks.give_back(end)


def _links_of_other(engine: Engine, name: str) -> Links | None:
    """Return what a container has that shares another one's network: its files, and no links of its own."""
    other = engine.container(name)
    if not other.spec.networks():
        return None
    with closing(_stack(engine.store) or HOST) as stack:
        ends = engine.store.networks.ends(other.id)
        rows = [end.network for end in ends]
        return evolve(_links(other.spec, rows, stack, engine.store.hostsfiles.path(other.id), -1), shared=None)


def _encoded(ends: Sequence[End], stack: Stack) -> Iterator[bytes]:
    """Yield the ends as the kernel is asked for them. The way out is by the first network that has one."""
    way_out = next((end for end in ends if not end.network.internal), None)
    for end in ends:
        yield _endpoint(end, stack, is_way_out=end is way_out).encode()


def _endpoint(end: End, stack: Stack, *, is_way_out: bool) -> network.Endpoint:
    gateways = end.gateways if is_way_out else ()
    if any(gateway.version == _V6 for gateway in gateways) and not _leads_out_v6(stack):
        gateways = tuple(gateway for gateway in gateways if gateway.version != _V6)
    return network.Endpoint(
        name=end.link,
        bridge=end.network.bridge,
        mac=end.mac,
        addresses=end.addresses,
        gateways=gateways,
    )


def header_of(spec: ContainerSpec, ends: Sequence[End]) -> list[str]:
    """Return the lines of a container's hosts file that never change."""
    hosts = _addresses_of_host(ends)
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += [f"{each}\t{HOST_NAME}" for each in hosts]
    for name, address in spec.extra_hosts.items():
        lines += [f"{each}\t{name}" for each in (hosts if address == HOST_GATEWAY else [address])]
    return lines


def _addresses_of_host(ends: Sequence[End]) -> list[str]:
    """Return the addresses by which a container with these ends reaches the host.

    That is the gateway of the first; for an ordinary user, whose gateways are not on the host, what the host has.
    """
    if rootless.is_privileged() or not ends:
        return [str(gateway) for gateway in ends[0].gateways] if ends else []
    versions = {subnet.version for end in ends if not end.network.internal for subnet in end.network.parsed}
    return [address for address in map(_address_to_the_world, sorted(versions)) if address]


# -- while it runs -----------------------------------------------------------------------------------------------------


def _changed(engine: Engine, container: str) -> str:
    """Return the file with the ends of a container that was connected or disconnected since its start.

    Its monitor starts it again on these (csrc/helper/netns.c).
    """
    return f"{engine.container_directory(container)}/endpoints"


def _note_change(engine: Engine, container: str, stack: Stack) -> None:
    path = _changed(engine, container)
    with open(f"{path}.new", "wb") as file:  # noqa: PTH123
        file.write(b"".join(_encoded(engine.store.networks.ends(container), stack)))
    os.rename(f"{path}.new", path)  # noqa: PTH104


def connect(
    engine: Engine, container: Launching, name: str, aliases: Sequence[str], addresses: Sequence[str] = ()
) -> None:
    """Let a container, running or not, be on one more network. Raises Conflict, NetworkNotFound, SpecError."""
    if addresses and name == DEFAULT:
        raise SpecError(
            "address", tuple(addresses), "addresses can be had on a network of your own, not on the default"
        )
    if not container.spec.networks():
        remedy = "has a network of another kind; start it on a network to connect it to others"
        raise Conflict(container.name, f"{remedy} (network={container.spec.network!r})")
    names = (container.name, *aliases, container.id[:12])
    end = engine.store.networks.connect(container.id, Wish(name, tuple(dict.fromkeys(names)), tuple(addresses)))
    try:
        held = bring_up(engine, end.network, HOST) if rootless.is_privileged() else -1
        if held >= 0:
            control.hold(engine.container_directory(container.id), held)
            os.close(held)
            end = next(each for each in engine.store.networks.ends(container.id) if each.network.id == end.network.id)
        with _inside(container) as place:
            if place is not None:
                with closing(_stack_for(engine.store, [end.network])) as stack:
                    _attach(engine, end, place, stack)
    except BaseException as error:
        engine.store.networks.disconnect(end)
        if isinstance(error, OSError):
            raise Conflict(container.name, f"cannot be connected to {name}: {error.strerror}") from error
        raise


def _attach(engine: Engine, end: End, place: tuple[int, int], stack: Stack) -> None:
    if stack is not HOST:
        bring_up(engine, end.network, stack)
    network.attach(*place, _endpoint(end, stack, is_way_out=_is_way_out(engine, end)), stack)
    engine.store.hostsfiles.come(end)
    _note_change(engine, end.container, stack)


def _is_way_out(engine: Engine, end: End) -> bool:
    ends = engine.store.networks.ends(end.container)
    return next((each.network.id for each in ends if not each.network.internal), "") == end.network.id


def disconnect(engine: Engine, container: Launching, row: NetworkRow) -> None:
    """Take a container, running or not, off a network. Raises Conflict when it is not on it."""
    end = next((end for end in engine.store.networks.ends(container.id) if end.network.id == row.id), None)
    if end is None:
        raise Conflict(container.name, f"is not on network {row.name}")
    was_way_out = _is_way_out(engine, end)
    with _inside(container) as place:
        if place is not None:
            network.detach(place[0], end.link)
        engine.store.hostsfiles.go(end)
        if place is None:
            return
        rest = engine.store.networks.ends(container.id)
        other = next((each for each in rest if not each.network.internal), None)
        with closing(_stack(engine.store) or HOST) as stack:  # a container that runs keeps it
            if was_way_out and other is not None:  # it leads out by this one from now on
                network.detach(place[0], other.link)
                network.attach(*place, _endpoint(other, stack, is_way_out=True), stack)
            _note_change(engine, container.id, stack)


@contextmanager
def _inside(container: Launching) -> Iterator[tuple[int, int] | None]:
    """Give a pidfd of a container's main process, and its network namespace; None when it does not run."""
    try:
        pid_fd = container._pid_fd()  # noqa: SLF001  its other half
    except Conflict:
        yield None
        return
    netns = -1
    try:
        try:
            netns = os.open(f"/proc/{container.status().pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise Conflict(container.name, "ended meanwhile; try again") from error
        yield pid_fd, netns
    except OSError as error:
        if error.errno == errno.ESRCH:
            raise Conflict(container.name, "ended meanwhile; try again") from error
        raise
    finally:
        for fd in (pid_fd, netns):
            if fd >= 0:
                os.close(fd)


def described_ends(ends: Sequence[End]) -> dict[str, Any]:
    """Return a container's places on networks as ``docker inspect`` has them."""
    return {end.network.name: _described(end) for end in ends}


def _described(end: End) -> dict[str, Any]:
    found: dict[str, Any] = {"NetworkID": end.network.id, "MacAddress": end.mac.hex(":")}
    found["Aliases"] = list(end.names[1:])
    keys = {4: ("IPAddress", "IPPrefixLen", "Gateway"), 6: ("GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPv6Gateway")}
    for address, gateway in zip(end.addresses, end.gateways, strict=True):
        values = (str(address.ip), address.network.prefixlen, "" if end.network.internal else str(gateway))
        found.update(zip(keys[address.version], values, strict=True))
    return found


def find(engine: Engine, name_or_id: str) -> NetworkRow:
    """Return the row of a network; the default one is made where it is missing. Raises NetworkNotFound, Conflict."""
    try:
        return engine.store.networks.get(name_or_id)
    except NetworkNotFound:
        if name_or_id != DEFAULT:
            raise
        return default_row(engine.store)
