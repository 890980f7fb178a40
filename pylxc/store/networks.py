"""Networks in the index, and which containers have which addresses on them.

Invariant: what a network has in the kernel, its row names: the row is there before and goes after. A row that is being
removed takes no container any more; whoever finds its remover gone goes on with it. An address is a container's from
when the container is added until it goes, and is not given out again before all others were.
"""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from pylxc.errors import Conflict, NetworkNotFound
from pylxc.identity import ProcessIdentity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pylxc.store.database import Database
    from pylxc.subnets import Address, Interface, Subnet

DEFAULT = "bridge"  # the name of the network of containers that ask for none
_SELECT = (
    "SELECT id, name, bridge, subnets, internal, labels, created, owner_pid, owner_start, boot_id, going FROM networks"
)
_END = _SELECT.replace("SELECT id,", "SELECT container, position, number, names, up, id,").replace(
    "FROM networks", "FROM endpoints JOIN networks ON id = network"
)
# On the default network, as in docker, containers do not know each other by name: whatever ends or begins there, nobody
# else need be told, however many there are.
_KNOWN = "(container = ? OR network NOT IN (SELECT id FROM networks WHERE name = 'bridge' AND owner_pid = 0))"
_MINE = "(SELECT network FROM endpoints WHERE container = ?)"
_TAKEN = (
    "SELECT 1 FROM endpoints WHERE network = :network AND number = :number "
    "UNION ALL SELECT 1 FROM lent WHERE network = :network AND number = :number"
)
_USERS = "SELECT name FROM endpoints JOIN containers ON id = container WHERE network = ? ORDER BY name"
_REMEDY = "`pylxc network ls` lists those that there are"
_TO_MAKE = f"{_REMEDY}, `pylxc network create` makes one"


@frozen
class NetworkRow:
    """What the index says of a network. ``owner`` None: it outlives its maker. ``going``: its removal was begun."""

    id: str
    name: str
    bridge: str
    subnets: tuple[str, ...]
    internal: bool = False
    labels: dict[str, str] = field(factory=dict, hash=False)
    created: float = 0.0
    owner: ProcessIdentity | None = None
    going: bool = False

    @property
    def is_shared(self) -> bool:
        """Whether it is the default one, nobody's own: what it has in the kernel comes and goes with its use."""
        return self.name == DEFAULT and self.owner is None

    @property
    def parsed(self) -> tuple[Subnet, ...]:
        """Its subnets as values that can be counted with."""
        from pylxc import subnets  # noqa: PLC0415  most containers are on no network, and it costs milliseconds

        return subnets.parsed(self.subnets)


@frozen
class Wish:
    """That a container is to be on a network, by the network's name, how it is to be known there, and its addresses.

    Without ``addresses`` it gets free ones.
    """

    network: str
    names: tuple[str, ...]
    addresses: tuple[str, ...] = ()


@frozen
class End:
    """A container's place on a network: its ``position`` (0 = the link ``eth0``), its ``number`` in the subnets."""

    container: str
    network: NetworkRow
    position: int
    number: int
    names: tuple[str, ...]
    up: bool

    @property
    def link(self) -> str:
        """The name of its link inside."""
        return f"eth{self.position}"

    @property
    def addresses(self) -> tuple[Interface, ...]:
        """Its addresses, one of each subnet."""
        from pylxc import subnets  # noqa: PLC0415

        return tuple(subnets.address(subnet, self.number) for subnet in self.network.parsed)

    @property
    def gateways(self) -> tuple[Address, ...]:
        """The host's addresses on the network."""
        from pylxc import subnets  # noqa: PLC0415

        return subnets.gateways(self.network.subnets)

    @property
    def mac(self) -> bytes:
        """The hardware address of its link."""
        from pylxc import subnets  # noqa: PLC0415

        return subnets.mac(self.network.parsed, self.number)


class Networks:
    """All networks of a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- networks -----------------------------------------------------------------------------------------------------

    def add(self, row: NetworkRow) -> NetworkRow:
        """Add a network. Raises Conflict when its name is taken, or its subnet overlaps with that of another."""
        from pylxc import subnets  # noqa: PLC0415

        owner = row.owner or ProcessIdentity(0, 0, "")
        with self._database.writing(durable=False) as connection:
            for other in map(_to_row, connection.execute(_SELECT).fetchall()):
                if other.name == row.name:
                    raise Conflict(row.name, "there is a network of this name; remove it, or choose another name")
                for subnet in row.parsed:
                    if subnets.overlapping(subnet, other.parsed) is not None:
                        raise Conflict(row.name, f"its subnet {subnet} overlaps with that of network {other.name}")
            values = (row.id, row.name, row.bridge, " ".join(row.subnets), row.internal)
            rest = (json.dumps(row.labels), row.created, owner.pid, owner.start_time, owner.boot_id)
            connection.execute("INSERT INTO networks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 0, 0)", (*values, *rest))
        return row

    def get(self, name_or_id: str) -> NetworkRow:
        """Return the network with a name, an id or the beginning of one. Raises NetworkNotFound, Conflict."""
        found = self.find(name_or_id)
        if found is not None:
            return found
        rows = []
        if name_or_id and not name_or_id.strip("0123456789abcdef"):
            bounds = (name_or_id, name_or_id + "g")  # "g" sorts behind every hexadecimal digit
            rows = self._database.rows(f"{_SELECT} WHERE id >= ? AND id < ? LIMIT 2", bounds)
        if len(rows) > 1:
            raise Conflict(name_or_id, "several networks' ids begin so; give more of it")
        if not rows:
            raise NetworkNotFound(name_or_id, _REMEDY)
        return _to_row(rows[0])

    def wanted(self, name: str) -> NetworkRow:
        """Return the network of a name that a container may come to. Raises NetworkNotFound."""
        found = self.find(name)
        if found is None or found.going:
            raise NetworkNotFound(name, _TO_MAKE)
        return found

    def find(self, name: str) -> NetworkRow | None:
        """Return the network of a name; None: there is none."""
        found = self._database.row(f"{_SELECT} WHERE name = ?", (name,))
        return None if found is None else _to_row(found)

    def default(self) -> NetworkRow | None:
        """Return the default network, which belongs to nobody; None: it was not needed yet."""
        found = self.find(DEFAULT)
        return found if found is not None and found.is_shared else None

    def list(self) -> list[NetworkRow]:
        """Return all networks, by name."""
        return [_to_row(row) for row in self._database.rows(f"{_SELECT} ORDER BY name")]

    def abandoned(self) -> Sequence[NetworkRow]:
        """Return the networks whose owner is gone, and those whose removal was begun."""
        rows = map(_to_row, self._database.rows(f"{_SELECT} WHERE owner_pid != 0 OR going"))
        return [row for row in rows if row.going or (row.owner is not None and row.owner.is_gone())]

    def move(self, id: str, subnets: Sequence[str]) -> None:  # noqa: A002  docker's name
        """Give a network that nobody is on now, though containers may have places there, other subnets."""
        self._database.write("UPDATE networks SET subnets = ? WHERE id = ?", (" ".join(subnets), id))

    def disown(self, id: str) -> None:  # noqa: A002  docker's name
        """Let a network outlive the process that it belongs to."""
        self._database.write("UPDATE networks SET owner_pid = 0, owner_start = 0, boot_id = '' WHERE id = ?", (id,))

    def begin_removal(self, id: str) -> bool:  # noqa: A002
        """Let no container on a network any more; False: it is gone already.

        Raises Conflict when there is one. What it has in the kernel goes next, then :meth:`end_removal`.
        """
        with self._database.writing(durable=False, freeing=True) as connection:
            row = connection.execute("SELECT name FROM networks WHERE id = ?", (id,)).fetchone()
            if row is None:
                return False
            users = [name for (name,) in connection.execute(_USERS, (id,))]
            if connection.execute("SELECT 1 FROM lent WHERE network = ?", (id,)).fetchone() is not None:
                users.append("a build")
            if users:
                reason = f"containers are on it ({', '.join(users[:4])}{', …' if len(users) > 4 else ''})"  # noqa: PLR2004
                raise Conflict(row[0], f"{reason}; disconnect or remove them first")
            connection.execute("UPDATE networks SET going = 1 WHERE id = ?", (id,))
        return True

    def end_removal(self, id: str) -> None:  # noqa: A002
        """Remove the row of a network of which nothing is left."""
        self._database.write("DELETE FROM networks WHERE id = ? AND going", (id,))

    # -- builds on them ----------------------------------------------------------------------------------------------

    def lend(self, name: str, lease: str) -> End:
        """Give a step of a build a place on a network until :meth:`give_back`, or the end of its lease.

        Raises NetworkNotFound, Conflict.
        """
        with self._database.writing(durable=False) as connection:
            row = self._wanted(connection, name)
            number = _take_number(connection, row)
            connection.execute("INSERT INTO lent VALUES (?, ?, ?)", (row.id, number, lease))
        return End("", row, 0, number, (), up=False)

    def give_back(self, end: End) -> None:
        """Take the place of a step of a build away."""
        values = (end.network.id, end.number)
        self._database.write("DELETE FROM lent WHERE network = ? AND number = ?", values)

    # -- containers on them -------------------------------------------------------------------------------------------

    def attach(self, connection: sqlite3.Connection, container: str, wishes: Iterable[Wish], first: int = 0) -> None:
        """Give a container its places, inside a transaction. Raises NetworkNotFound, Conflict."""
        for position, wish in enumerate(wishes, first):
            row = self._wanted(connection, wish.network)
            number = _wanted_number(connection, row, wish) if wish.addresses else _take_number(connection, row)
            values = (container, row.id, position, number, " ".join(wish.names))
            connection.execute("INSERT INTO endpoints VALUES (?, ?, ?, ?, ?, 0)", values)

    @staticmethod
    def _wanted(connection: sqlite3.Connection, name: str) -> NetworkRow:
        found = connection.execute(f"{_SELECT} WHERE name = ? AND NOT going", (name,)).fetchone()
        if found is None:
            raise NetworkNotFound(name, _TO_MAKE)
        return _to_row(found)

    def connect(self, container: str, wish: Wish) -> End:
        """Give a container one more place. Raises NetworkNotFound; Conflict when it has one on that network."""
        try:
            with self._database.writing(durable=False) as connection:
                query = "SELECT COALESCE(MAX(position) + 1, 0) FROM endpoints WHERE container = ?"
                (first,) = connection.execute(query, (container,)).fetchone()
                self.attach(connection, container, [wish], first)
        except sqlite3.IntegrityError as error:
            raise Conflict(wish.network, f"{wish.names[0]} is on this network already, or was removed") from error
        return next(end for end in self.ends(container) if end.network.name == wish.network)

    def disconnect(self, end: End) -> None:
        """Take a container's place away, which others have still to hear of. One that is gone is no error."""
        with self._database.writing(durable=False) as connection:
            values = (end.container, end.network.id)
            connection.execute("DELETE FROM endpoints WHERE container = ? AND network = ?", values)
            connection.execute("UPDATE networks SET untold = 1 WHERE id = ?", (end.network.id,))

    def ends(self, container: str) -> Sequence[End]:
        """Return the places of a container, by position."""
        return self._ends("container = ? ORDER BY position", (container,))

    def members(self, network: str) -> Sequence[End]:
        """Return the places of all containers on a network, by number."""
        return self._ends("network = ? ORDER BY number", (network,))

    def _ends(self, condition: str, values: Sequence[Any]) -> Sequence[End]:
        known: dict[str, NetworkRow] = {}  # of a thousand members of one network it is made once
        return [_to_end(row, known) for row in self._database.rows(f"{_END} WHERE {condition}", values)]

    def change_names(self, container: str, *, up: bool) -> tuple[Sequence[End], bool]:
        """Let a container be known by its names, or not any more, on all its networks.

        Returns the places of those that are known there, and whether an earlier change was cut short before all of
        them had heard of it. Until :meth:`names_are_told` this one counts as such, too.
        """
        with self._database.writing(durable=False, freeing=not up) as connection:  # an end is told on a full disk, too
            connection.execute("UPDATE endpoints SET up = ? WHERE container = ?", (up, container))
            query = f"SELECT COALESCE(MAX(untold), 0) FROM networks WHERE id IN {_MINE}"  # noqa: S608  ours
            (untold,) = connection.execute(query, (container,)).fetchone()
            query = f"{_END} WHERE up AND network IN {_MINE} AND {_KNOWN}"
            found = connection.execute(query, (container, container)).fetchall()
            if any(row[0] != container for row in found):
                connection.execute(f"UPDATE networks SET untold = 1 WHERE id IN {_MINE}", (container,))  # noqa: S608
        known: dict[str, NetworkRow] = {}
        return [_to_end(row, known) for row in found], bool(untold)

    def has_others(self, container: str) -> bool:
        """Say whether others are known on the networks of a container."""
        query = f"SELECT 1 FROM endpoints WHERE up AND container != ? AND network IN {_MINE} AND {_KNOWN} LIMIT 1"  # noqa: S608  ours
        return self._database.row(query, (container, container, container)) is not None

    def known_to(self, end: End) -> Sequence[End]:
        """Return the places of those whom a container knows by name on a network, itself among them."""
        return [end] if end.network.is_shared else [member for member in self.members(end.network.id) if member.up]

    def names_are_told(self, networks: Iterable[str]) -> None:
        """Note that all members of these networks have heard of all names."""
        with self._database.writing(durable=False, freeing=True) as connection:
            connection.executemany("UPDATE networks SET untold = 0 WHERE id = ?", [(network,) for network in networks])


def _wanted_number(connection: sqlite3.Connection, row: NetworkRow, wish: Wish) -> int:
    """Return the number of the addresses that a container is to have. Raises SpecError; Conflict: they are taken."""
    from pylxc import subnets  # noqa: PLC0415

    number = subnets.number_of(row.parsed, wish.addresses)
    if connection.execute(_TAKEN, {"network": row.id, "number": number}).fetchone() is None:
        return number
    query = "SELECT name FROM endpoints JOIN containers ON id = container WHERE network = ? AND number = ?"
    holder = connection.execute(query, (row.id, number)).fetchone()
    who = f"container {holder[0]}" if holder is not None else "a build"
    raise Conflict(", ".join(wish.addresses), f"the address is taken by {who} on network {row.name}; give another one")


def _take_number(connection: sqlite3.Connection, row: NetworkRow) -> int:
    """Return the next free number after the last that was given, beginning anew at the end."""
    from pylxc import subnets  # noqa: PLC0415

    (last,) = connection.execute("SELECT last FROM networks WHERE id = ?", (row.id,)).fetchone()
    count = subnets.last_number(row.parsed) - subnets.FIRST + 1
    for step in range(count):
        number: int = subnets.FIRST + (last + 1 - subnets.FIRST + step) % count
        if connection.execute(_TAKEN, {"network": row.id, "number": number}).fetchone() is None:
            connection.execute("UPDATE networks SET last = ? WHERE id = ?", (number, row.id))
            return number
    raise Conflict(row.name, f"all {count} addresses of the network are taken; remove containers, or make another one")


def _to_row(values: Sequence[Any]) -> NetworkRow:
    id, name, bridge, given, internal, labels, created, pid, start_time, boot_id, going = values  # noqa: A001  docker's name
    owner = ProcessIdentity(pid, start_time, boot_id) if pid else None
    return NetworkRow(
        id, name, bridge, tuple(given.split()), bool(internal), json.loads(labels), created, owner, bool(going)
    )


def _to_end(values: Sequence[Any], known: dict[str, NetworkRow]) -> End:
    container, position, number, names, up, *rest = values
    row = known.get(rest[0])
    if row is None:
        row = known[rest[0]] = _to_row(rest)
    return End(container, row, position, number, tuple(names.split()), bool(up))
