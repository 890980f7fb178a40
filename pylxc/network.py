"""Networks: what containers reach each other on, and the world.

Invariant: a :class:`Network` holds what never changes; which containers are on it the store is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from pylxc import containernetworks, networking, subnets
from pylxc.defaults import engine_of
from pylxc.errors import Conflict, NetworkNotFound
from pylxc.filters import checked_filters, has_label, passes, says
from pylxc.normalise import NORMAL, network_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from pylxc.care.reports import Pruned
    from pylxc.container import Container
    from pylxc.engine import Engine
    from pylxc.store import NetworkRow


@frozen
class Member:
    """A container on a network: its id, its name, its addresses there, and what else it is known by (``aliases``)."""

    container: str
    name: str
    addresses: tuple[str, ...]
    aliases: tuple[str, ...] = ()


class Network:
    r"""A network of this machine: containers on it reach each other, by name too.

    ``id`` (64 hex digits), ``name``, ``subnets`` (``("10.192.0.0/20", "fd3f:…::/64")``), ``gateways`` (the host's
    addresses on it), ``internal`` (nothing leads out of it), ``labels``, ``created`` (s since the epoch) and ``bridge``
    (the name of its link on the host) never change.

    Containers on it reach what the host reaches, with the host's address (NAT), unless it is ``internal``; nobody
    reaches them by routing through the host, and containers of other networks do not. Those of an ordinary user are in
    a network namespace of the user's own, and there is nothing of the host's there. As a context manager it is
    removed when the block is left; that raises Conflict when containers are still on it.

    Example:
        >>> with pylxc.Network.create("shop") as network:                           # doctest: +SKIP
        ...     with pylxc.start("redis:seed", network="shop", name="cache"):
        ...         pylxc.run("redis:seed", ["redis-cli", "-h", "cache", "ping"], network="shop").text
        'PONG\n'

    """

    id: str
    name: str
    subnets: tuple[str, ...]
    gateways: tuple[str, ...]
    internal: bool
    labels: dict[str, str]
    created: float
    bridge: str

    def __init__(self, engine: Engine, row: NetworkRow) -> None:
        self._engine = engine
        self._row = row
        self.id = row.id
        self.name = row.name
        self.subnets = row.subnets
        self.gateways = tuple(str(subnets.address(subnet, subnets.GATEWAY).ip) for subnet in row.parsed)
        self.internal = row.internal
        self.labels = row.labels
        self.created = row.created
        self.bridge = row.bridge

    @classmethod
    def create(  # noqa: PLR0913  the public contract
        cls,
        name: str,
        subnet: str | Sequence[str] | None = None,
        internal: bool = False,  # noqa: FBT001, FBT002  the public contract
        *,
        labels: Mapping[str, str] | Sequence[str] | None = None,
        detach: bool = False,
        engine: Engine | None = None,
    ) -> Network:
        """Make a network.

        Args:
            name: what containers ask for it by.
            subnet: such as ``"10.5.0.0/24"``, or one of IPv4 and one of IPv6; by default both are chosen so that they
                overlap with no other network and no route of this host's.
            internal: containers on it reach each other and this host, and nothing else.
            labels: of your own.
            detach: it outlives the calling process. Otherwise it goes with that, also when it is killed.
            engine: the store (default: ``Engine.default()``).

        Raises SpecError for a name or a subnet that cannot be; Conflict when the name or the subnet is taken;
        UnsupportedError where the kernel has no nftables, and for an ordinary user without pasta or slirp4netns unless
        it is ``internal``.

        Example:
            >>> pylxc.Network.create("lab", subnet="10.5.0.0/24", internal=True).gateways   # doctest: +SKIP
            ('10.5.0.1',)

        """
        chosen = engine_of(engine)
        checked = network_name(name)
        wanted = () if subnet is None else subnets.parse(subnet)
        given: dict[str, str] = {} if labels is None else NORMAL["labels"]("labels", labels)
        row = networking.create(chosen, checked, wanted, internal=bool(internal), labels=given, owned=not detach)
        return cls(chosen, row)

    @classmethod
    def get(cls, name_or_id: str, *, engine: Engine | None = None) -> Network:
        """Return the network with this name, id or beginning of an id; ``"bridge"`` is made when it is missing.

        Raises NetworkNotFound; Conflict when several ids begin so.
        """
        chosen = engine_of(engine)
        return cls(chosen, networking.find(chosen, name_or_id))

    @classmethod
    def list(cls, filters: Mapping[str, str] | None = None, *, engine: Engine | None = None) -> list[Network]:
        """Return all networks, by name.

        ``filters``: ``{"name": part of it, "id": its beginning, "label": "key" or "key=value", "internal": "true" or
        "false", "dangling": "true" (no container is on it) or "false"}``. Raises SpecError for a filter that does not
        exist.
        """
        chosen = engine_of(engine)
        wanted = checked_filters(filters, FILTERS)
        networking.sweep(chosen.store)
        found = (cls(chosen, row) for row in chosen.store.networks.list())
        return [network for network in found if passes(network, wanted, FILTERS)]

    @classmethod
    def prune(
        cls,
        *,
        until: float | str | None = None,
        labels: Sequence[str] = (),
        without_labels: Sequence[str] = (),
        engine: Engine | None = None,
    ) -> Pruned:
        """Remove the networks that no container is on, running or not; the default one is left.

        ``until``: only those that were made longer ago (s, or "24h"); ``labels``: only those that have each of these
        ("key" or "key=value"); ``without_labels``: only those that have none of these. Raises SpecError, StoreError.

        Example:
            >>> pylxc.Network.prune(until="24h").networks                           # doctest: +SKIP
            ('lab',)

        """
        return engine_of(engine).prune(
            containers=False,
            images=False,
            cache=False,
            until=until,
            labels=labels,
            without_labels=without_labels,
        )

    def members(self) -> Sequence[Member]:
        """Return the containers on it, whether they run or not, by address."""
        found = []
        for end in self._engine.store.networks.members(self.id):
            name, *aliases = end.names
            addresses = tuple(str(address.ip) for address in end.addresses)
            found.append(Member(end.container, name, addresses, tuple(aliases)))
        return found

    def connect(
        self,
        container: Container | str,
        *,
        aliases: Sequence[str] = (),
        address: str | Sequence[str] | None = None,
    ) -> None:
        """Let a container be on this network, too, at once when it runs, and from now on.

        ``aliases``: further names for it here. ``address``: the one that it is to have (``"10.5.0.9"``), or one of each
        subnet; not on the default network. Raises ContainerNotFound, NetworkNotFound; Conflict when it is on it
        already, or has no network of its own (``network="none"``, ``"host"`` or another container's); SpecError.

        Example:
            >>> pylxc.Network.get("shop").connect("cache", aliases=["redis"])       # doctest: +SKIP

        """
        names = NORMAL["aliases"]("aliases", list(aliases)) if aliases else ()
        given = () if address is None else NORMAL["dns"]("address", address)
        containernetworks.connect(self._engine, self._container(container), self.name, names, given)

    def disconnect(self, container: Container | str) -> None:
        """Take a container off this network, at once when it runs, and from now on.

        Raises ContainerNotFound; Conflict when it is not on it.
        """
        containernetworks.disconnect(self._engine, self._container(container), self._row)

    def _container(self, container: Container | str) -> Container:
        return self._engine.container(container) if isinstance(container, str) else container

    def remove(self, force: bool = False) -> None:  # noqa: FBT001, FBT002  docker-py's signature
        """Remove the network. Raises Conflict when containers are on it, running or not.

        One that is gone already raises NetworkNotFound, unless ``force``.
        """
        if self._engine.store.networks.find(self.name) is None and not force:
            raise NetworkNotFound(self.name, "it was removed")
        networking.remove(self._engine.store, self._row)

    def detach(self) -> None:
        """Let the network outlive this process, as if made with ``detach=True``."""
        networking.disown(self._engine.store, self._row)

    def __enter__(self) -> Network:  # noqa: PYI034  Self is not in Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.remove(force=True)
        except Conflict:
            if kind is None:  # else that is why containers are left
                raise

    def __repr__(self) -> str:
        return f"<Network {self.name} {self.id[:12]} {' '.join(self.subnets)}>"


FILTERS: dict[str, Callable[[Network, str], bool]] = {
    "dangling": lambda network, value: says(not network.members(), value, "dangling"),
    "id": lambda network, value: network.id.startswith(value),
    "internal": lambda network, value: says(network.internal, value, "internal"),
    "label": lambda network, value: has_label(network.labels, value),
    "name": lambda network, value: value in network.name,
}
