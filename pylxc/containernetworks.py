"""A container's places on networks: from the names in its spec to links, hosts files and name servers.

Invariant: its row has its addresses before it has links, and as long as it is there. Its links go with its network
namespace, whoever is killed whenever, so that nothing of them need be remembered.
"""

from __future__ import annotations

import errno
import os
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import evolve

from pylxc.errors import Conflict, SpecError, UnsupportedError
from pylxc.networking import (
    address_to_the_world,
    bring_up,
    default_row,
    leads_out_v6,
    stack_for,
    stack_of,
)
from pylxc.normalise import HOST_GATEWAY, HOST_NAME
from pylxc.runtime import control, joining, network, resolver, rootless, uplink
from pylxc.runtime import stack as stacks
from pylxc.runtime.network import HOST, Links
from pylxc.store import Wish
from pylxc.store.networks import DEFAULT
from pylxc.subnets import V6

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pylxc.engine import Engine
    from pylxc.launching import Launching
    from pylxc.runtime.network import Stack
    from pylxc.spec import ContainerSpec
    from pylxc.store import End, NetworkRow, Store


# -- before it starts --------------------------------------------------------------------------------------------------


def wishes_of(container: Launching, name: str) -> Sequence[Wish]:
    """Return the networks that a container of this name is to be on. The default one may have to be made first."""
    spec = container.spec
    if joining.other(spec)[0] and not rootless.is_privileged():
        remedy = (
            "it has rights over one container's namespaces only; let both be on networks and share none, or share all"
        )
        raise UnsupportedError("networks of a container that shares another one's namespaces", remedy)
    names = (name, *spec.aliases, *((spec.hostname,) if spec.hostname else ()), container.id[:12])
    addresses = tuple(filter(None, (spec.ip, spec.ip6)))
    return [Wish(each, tuple(dict.fromkeys(names)), addresses) for each in spec.networks()]


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
    stack, held = stack_for(store, rows), -1
    try:
        for row in rows:
            held = max(held, bring_up(engine, row, stack))
        if ends is not None:
            if any(row.is_shared for row in rows):
                ends = store.networks.ends(container.id)  # it may have got other addresses
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


def _wanted(store: Store, spec: ContainerSpec) -> list[NetworkRow]:
    """Return the networks that a container asks for. Raises NetworkNotFound."""
    return [default_row(store) if name == DEFAULT else store.networks.wanted(name) for name in spec.networks()]


def _links(spec: ContainerSpec, rows: Sequence[NetworkRow], stack: Stack, hosts: str, held: int) -> Links:
    """Return what a container on these networks, which are in that stack, gets beside its ends. ``hosts``: its file."""
    has_v6 = any(subnet.version == V6 for row in rows for subnet in row.parsed)
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
        with closing(stack_for(engine.store, [end.network])) as stack:
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
    with closing(stack_of(engine.store) or HOST) as stack:
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
    if any(gateway.version == V6 for gateway in gateways) and not leads_out_v6(stack):
        gateways = tuple(gateway for gateway in gateways if gateway.version != V6)
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
    return [address for address in map(address_to_the_world, sorted(versions)) if address]


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
                with closing(stack_for(engine.store, [end.network])) as stack:
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
        with closing(stack_of(engine.store) or HOST) as stack:  # a container that runs keeps it
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
