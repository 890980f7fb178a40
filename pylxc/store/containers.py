"""Containers in the index: a row and a directory each.

Invariant: the row comes first and goes first; it keeps the image. The directory of a container that goes with a
process, or is being removed, is marked; any other is kept though it has no row. Who is the owner is a process's whole
identity, so a container whose owner is gone is known as such for ever.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from attrs import frozen

from pylxc.errors import Conflict, ContainerNotFound, StoreError
from pylxc.identity import ProcessIdentity, is_locked
from pylxc.runtime import native
from pylxc.store.going import MARKED, is_marked, mark, unmark
from pylxc.store.layout import PRIVATE, explain, explained
from pylxc.store.spares import WORK, Spares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pylxc.store.database import Database
    from pylxc.store.layout import Layout
    from pylxc.store.leases import Leases
    from pylxc.store.networks import Networks, Wish
    from pylxc.store.volumes import Volumes, VolumeUse

_SELECT = "SELECT id, name, image, spec, created, owner_pid, owner_start, boot_id FROM containers"
_INSERT = "INSERT INTO containers VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


@frozen
class ContainerRow:
    """What the index says of a container. ``owner`` None: it outlives whoever made it."""

    id: str
    name: str
    image: str
    spec: str
    created: float
    owner: ProcessIdentity | None = None


class Containers:
    """All containers of a store."""

    def __init__(
        self, database: Database, layout: Layout, volumes: Volumes, networks: Networks, leases: Leases
    ) -> None:
        self._database = database
        self._layout = layout
        self._volumes = volumes
        self._networks = networks
        self._leases = leases
        self.spares = Spares(layout)

    def add(self, row: ContainerRow, uses: Sequence[VolumeUse] = (), wishes: Sequence[Wish] = ()) -> None:
        """Add a container and its directory; its anonymous volumes are made, its others and its networks are there.

        Raises Conflict, naming the holder, when the name is taken; NetworkNotFound.
        """
        owner = row.owner or ProcessIdentity(0, 0, "")
        values = (row.id, row.name, row.image, row.spec, row.created, owner.pid, owner.start_time, owner.boot_id)
        try:
            if uses or wishes:
                self._add_with(values, uses, wishes)
            else:
                self._database.write(_INSERT, values)
        except sqlite3.IntegrityError as error:
            holder = self._database.row("SELECT id FROM containers WHERE name = ?", (row.name,))
            if holder is None:
                missing = "the image, or one of the volumes, was removed meanwhile; make it again"
                raise Conflict(row.image, missing) from error
            reason = f"the name is taken by container {holder[0][:12]}; remove that one or choose another name"
            raise Conflict(row.name, reason) from error
        try:
            self._make_directory(row.id, MARKED if row.owner else PRIVATE)
        except OSError as error:
            self.remove(row.id)
            raise StoreError(self._layout.container(row.id), explain(error)) from error

    def _add_with(self, values: tuple[Any, ...], uses: Sequence[VolumeUse], wishes: Sequence[Wish]) -> None:
        with self._database.writing(durable=False) as connection:
            connection.execute(_INSERT, values)
            self._volumes.attach(connection, values[0], uses)
            self._networks.attach(connection, values[0], wishes)

    def get(self, name_or_id: str) -> ContainerRow:
        """Return the container with a name, an id or the beginning of one. Raises ContainerNotFound, Conflict."""
        for condition in ("name = ?", "id = ?"):
            found = self._database.row(f"{_SELECT} WHERE {condition}", (name_or_id,))
            if found is not None:
                return _to_row(found)
        if not name_or_id or name_or_id.strip("0123456789abcdef"):
            raise ContainerNotFound(name_or_id, "`pylxc ps -a` lists those that there are")
        bounds = (name_or_id, name_or_id + "g")  # "g" sorts behind every hexadecimal digit
        rows = self._database.rows(f"{_SELECT} WHERE id >= ? AND id < ? LIMIT 2", bounds)
        if len(rows) > 1:
            raise Conflict(name_or_id, "several containers' ids begin so; give more of it")
        if not rows:
            raise ContainerNotFound(name_or_id, "`pylxc ps -a` lists those that there are")
        return _to_row(rows[0])

    def list(self) -> list[ContainerRow]:
        """Return all containers, the newest first."""
        rows = self._database.rows(f"{_SELECT} ORDER BY created DESC")
        return [_to_row(row) for row in rows]

    def orphans(self) -> Sequence[ContainerRow]:
        """Return the containers whose owner is gone."""
        rows = self._database.rows(f"{_SELECT} WHERE owner_pid != 0")
        return [row for row in map(_to_row, rows) if row.owner is not None and row.owner.is_gone()]

    def change(self, id: str, spec: str) -> None:  # noqa: A002  docker's name
        """Replace what a container's row says of its spec. One that is gone is no error: it will not start again."""
        self._database.write("UPDATE containers SET spec = ? WHERE id = ?", (spec, id))

    def rename(self, id: str, name: str) -> None:  # noqa: A002  docker's name
        """Give a container another name; it is known on its networks by the old one. Raises Conflict (it is taken)."""
        try:
            self._database.write("UPDATE containers SET name = ? WHERE id = ?", (name, id))
        except sqlite3.IntegrityError as error:
            raise Conflict(name, "the name is taken by another container; remove that one") from error

    def disown(self, id: str, spec: str) -> None:  # noqa: A002  docker's name
        """Let a container outlive the process that it belongs to."""
        unmark(self._layout.container(id))
        self._database.write(
            "UPDATE containers SET spec = ?, owner_pid = 0, owner_start = 0, boot_id = '' WHERE id = ?", (spec, id)
        )

    def remove(self, id: str) -> None:  # noqa: A002  docker's name
        """Remove a container's row, then its directory. One that is gone already is no error."""
        if self._database.row("SELECT 1 FROM containers WHERE id = ?", (id,)) is not None:
            self.forget(id)
        self.remove_directory(id)

    def remove_directory(self, id: str, *, spare: bool = False) -> None:  # noqa: A002
        """Remove the directory of a container that was forgotten: the second half of :meth:`remove`.

        ``spare``: it may be kept for the next one.
        """
        if spare and self.spares.keep(id):
            return
        with suppress(OSError):
            with suppress(FileNotFoundError):
                os.rmdir(self._layout.container(id))  # noqa: PTH106  an ephemeral one's is empty: its monitor saw to that
            return
        self._layout.remove_below(f"{self._layout.root}/containers", [id])

    def help_to_remove(self, id: str, *, spare: bool = False) -> None:  # noqa: A002
        """Remove of a forgotten container's directory what can be had at once; :meth:`remove_directory` must follow.

        ``spare``: all but what makes it one.
        """
        with suppress(OSError):
            path = self._layout.container(id) if spare else f"{self._layout.root}/containers"
            directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if spare:
                    native.empty_tree(directory, WORK)
                else:
                    native.remove_tree(directory, id)
            finally:
                os.close(directory)

    def forget(self, id: str) -> ContainerRow | None:  # noqa: A002  docker's name
        """Remove a container's row, its anonymous volumes and the layer only it kept: the first half of :meth:`remove`.

        That is still to be called. Returns the row, if there was one: of several processes that remove it, one gets it.
        """
        with self._database.writing(durable=False, freeing=True) as connection:
            anonymous = self._volumes.anonymous_of(connection, id)
            found = connection.execute(f"{_SELECT} WHERE id = ?", (id,)).fetchone()
            kept = self._leases.take_over(connection, id)
            mark(self._layout.container(id))
            connection.execute("DELETE FROM containers WHERE id = ?", (id,))
            forgotten = self._volumes.forget(connection, anonymous)
        self._volumes.clear(forgotten)
        self._leases.drop(kept)
        return None if found is None else _to_row(found)

    def sweep(self) -> None:
        """Remove the marked directories whose row is gone, and make those that rows lack.

        Their removal, or their making, was cut short. Whoever is just about to make one finds it made. A container that
        still runs, though its row was lost, is left alone.
        """
        directory = f"{self._layout.root}/containers"
        present = set(os.listdir(directory))  # noqa: PTH208  read before the rows: a container has its row first
        known = {row[0] for row in self._database.rows("SELECT id FROM containers")}
        marked = [id for id in sorted(present - known) if is_marked(f"{directory}/{id}")]  # noqa: A001  docker's name
        self._layout.remove_below(directory, [id for id in marked if not is_locked(f"{directory}/{id}")])  # noqa: A001
        for id in known - present:  # noqa: A001  docker's name
            self._make_missing(id)

    def _make_missing(self, id: str) -> None:  # noqa: A002  docker's name
        """Make a container's directory, unless its row goes: whoever removes that removes the directory after it."""
        with self._database.writing(durable=False) as connection, explained(self._layout.container(id)):
            row = connection.execute("SELECT owner_pid FROM containers WHERE id = ?", (id,)).fetchone()
            if row is not None:
                self._make_directory(id, MARKED if row[0] else PRIVATE)

    def _make_directory(self, id: str, mode: int) -> None:  # noqa: A002
        if self.spares.take(id, mode):
            return
        with suppress(FileExistsError):
            os.mkdir(self._layout.container(id), mode)  # noqa: PTH102


def _to_row(values: tuple[Any, ...]) -> ContainerRow:
    id, name, image, spec, created, pid, start_time, boot_id = values  # noqa: A001  docker's name
    owner = ProcessIdentity(pid, start_time, boot_id) if pid else None
    return ContainerRow(id, name, image, spec, created, owner)
