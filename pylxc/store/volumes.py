"""Volumes: directories that outlive containers, and which container has which.

Invariant: the row comes first and goes first. A directory without a row is rubbish where a removal has marked it, and
else somebody's data, which a volume of its name has again. What a volume is filled with comes under a lock and a mark
of its own: where that is found without a holder of the lock, the filling was cut short and begins anew. A volume that a
container has, running or not, is not removed; an anonymous one goes with the last that has it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from pylxc.errors import Conflict, VolumeNotFound
from pylxc.runtime import native, rootless
from pylxc.store.going import is_marked, mark, unmark
from pylxc.store.layout import explained, locked, sync_directory, sync_filesystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pylxc.store.database import Database
    from pylxc.store.layout import Layout
    from pylxc.store.leases import Lease

_SELECT = "SELECT name, labels, created, anonymous FROM volumes"
_REMEDY = "`pylxc volume ls` lists those that there are"


@frozen
class VolumeRow:
    """What the index says of a volume. ``anonymous``: it was made with a container, and goes with it."""

    name: str
    labels: dict[str, str] = field(hash=False)
    created: float = 0.0
    anonymous: bool = False


@frozen
class VolumeUse:
    """That a container has a volume at a ``target``. ``copy``: it is to be filled from the image at the first start."""

    target: str
    volume: str
    copy: bool
    anonymous: bool = False


class Volumes:
    """All volumes of a store."""

    def __init__(self, database: Database, layout: Layout) -> None:
        self._database = database
        self._layout = layout

    # -- rows -------------------------------------------------------------------------------------------------------

    def add(self, name: str, labels: Mapping[str, str] | None = None) -> VolumeRow:
        """Add a volume and its directory; one that is there already is returned as it is.

        Raises Conflict when that one has other labels than those that are given.
        """
        found = self._find(name)
        if found is None:
            found = self._insert(name, dict(labels or {}))
        if labels and found.labels != dict(labels):
            raise Conflict(name, "the volume is there, with other labels; remove it, or choose another name")
        self.directory(name)
        return found

    def _insert(self, name: str, labels: dict[str, str]) -> VolumeRow:
        # Durable: a row that a power loss took back would make rubbish of what was written to the volume meanwhile.
        row = VolumeRow(name, labels, time.time())
        buried: list[str] = []
        try:
            with self._database.writing(durable=True) as connection:
                found = connection.execute(f"{_SELECT} WHERE name = ?", (name,)).fetchone()
                if found is None:
                    buried = self._bury_marked(name)
                    values = (name, json.dumps(labels), row.created, False)
                    connection.execute("INSERT INTO volumes VALUES (?, ?, ?, ?)", values)
        finally:
            self._layout.empty(buried)
        return row if found is None else _to_row(found)

    def _bury_marked(self, name: str) -> list[str]:
        """Bury what a removal that was cut short left of a volume; give what is returned to :meth:`Layout.empty`."""
        place = self._layout.volume(name)
        return self._layout.bury([place]) if is_marked(place) else []

    def _find(self, name: str) -> VolumeRow | None:
        found = self._database.row(f"{_SELECT} WHERE name = ?", (name,))
        return None if found is None else _to_row(found)

    def get(self, name: str) -> VolumeRow:
        """Return the volume of this name. Raises VolumeNotFound."""
        found = self._find(name)
        if found is None:
            raise VolumeNotFound(name, _REMEDY)
        return found

    def list(self) -> list[VolumeRow]:
        """Return all volumes, by name."""
        return [_to_row(row) for row in self._database.rows(f"{_SELECT} ORDER BY name")]

    def users(self, name: str) -> Sequence[str]:
        """Return the ids of the containers that have a volume."""
        query = "SELECT DISTINCT container FROM container_volumes WHERE volume = ? ORDER BY container"
        return [row[0] for row in self._database.rows(query, (name,))]

    def remove(self, name: str) -> None:
        """Remove a volume with all that is in it. Raises VolumeNotFound; Conflict when a container has it."""
        try:
            with self._database.writing(durable=True, freeing=True) as connection:
                gone = connection.execute("DELETE FROM volumes WHERE name = ?", (name,)).rowcount
                if gone:
                    mark(self._layout.volume(name))
        except sqlite3.IntegrityError as error:
            users = ", ".join(id[:12] for id in self.users(name))  # noqa: A001  docker's name
            raise Conflict(name, f"the volume is in use by container {users}; remove that first") from error
        if not gone:
            raise VolumeNotFound(name, _REMEDY)
        self.clear([name])

    def snapshot(self, lease: Lease, source: str, name: str, labels: Mapping[str, str] | None) -> VolumeRow:
        """Add a volume with what another one has now. ``labels`` None: those of the other, too.

        Raises VolumeNotFound, Conflict (the name is taken), StoreError.
        """
        from pylxc.store.duplicate import duplicate  # noqa: PLC0415  only here

        row = self.get(source)
        self._require_free(name)
        data, staged = self.directory(source), lease.stage()
        with explained(data):
            with locked(self._layout.volume(source)):
                pass  # whoever fills it at a first start is waited for
            os.mkdir(f"{staged}/data")  # noqa: PTH102
            rootless.as_owner(duplicate, data, f"{staged}/data")
            sync_filesystem(staged)
        self.get(source)  # else it was removed meanwhile, and what was copied is a part of it
        return self._insert_made(VolumeRow(name, dict(row.labels if labels is None else labels), time.time()), staged)

    def _require_free(self, name: str) -> None:
        if self._find(name) is not None:
            raise Conflict(name, "there is a volume of this name; remove it, or choose another name")
        place = self._layout.volume(name)
        if os.path.lexists(place) and not is_marked(place):
            reason = f"{place} is there, and no volume; make it one with `pylxc store repair`, or choose another name"
            raise Conflict(name, reason)

    def _insert_made(self, row: VolumeRow, staged: str) -> VolumeRow:
        """Add the row of a volume whose directory is made; killed in between, that is one for the sweep."""
        place = self._layout.volume(row.name)
        buried: list[str] = []
        try:
            with self._database.writing(durable=True) as connection, explained(place):
                self._require_free(row.name)
                buried = self._bury_marked(row.name)
                mark(staged)
                os.rename(staged, place)  # noqa: PTH104
                sync_directory(os.path.dirname(place))  # noqa: PTH120
                connection.execute(
                    "INSERT INTO volumes VALUES (?, ?, ?, ?)", (row.name, json.dumps(row.labels), row.created, False)
                )
            unmark(place)
        finally:
            self._layout.empty(buried)
        return row

    # -- the volumes of a container ---------------------------------------------------------------------------------

    def attach(self, connection: sqlite3.Connection, container: str, uses: Iterable[VolumeUse]) -> None:
        """Note which volumes a container has; the anonymous ones are made. Raises sqlite3.IntegrityError."""
        for use in uses:
            if use.anonymous:
                values = (use.volume, "{}", time.time(), True)
                connection.execute("INSERT INTO volumes VALUES (?, ?, ?, ?)", values)
            row = (container, use.target, use.volume, use.copy)
            connection.execute("INSERT INTO container_volumes VALUES (?, ?, ?, ?)", row)

    def uses_of(self, container: str) -> Sequence[VolumeUse]:
        """Return the volumes that a container has."""
        query = (
            "SELECT target, volume, copy, anonymous FROM container_volumes JOIN volumes ON name = volume"
            " WHERE container = ? ORDER BY target"
        )
        rows = self._database.rows(query, (container,))
        return [VolumeUse(target, volume, bool(copy), bool(anonymous)) for target, volume, copy, anonymous in rows]

    def note_copied(self, container: str) -> None:
        """Note that nothing is to be filled at later starts of a container."""
        self._database.write("UPDATE container_volumes SET copy = 0 WHERE container = ?", (container,))

    def anonymous_of(self, connection: sqlite3.Connection, container: str) -> Sequence[str]:
        """Return the anonymous volumes of a container that is about to be forgotten, for :meth:`forget`."""
        query = "SELECT volume FROM container_volumes JOIN volumes ON name = volume WHERE container = ? AND anonymous"
        return [row[0] for row in connection.execute(query, (container,))]

    def forget(self, connection: sqlite3.Connection, names: Iterable[str]) -> Sequence[str]:
        """Delete the rows of those volumes that no container has; give what is returned to :meth:`clear` later."""
        query = "DELETE FROM volumes WHERE name = ?1 AND NOT EXISTS (SELECT 1 FROM container_volumes WHERE volume = ?1)"
        gone = [name for name in names if connection.execute(query, (name,)).rowcount]
        for name in gone:
            mark(self._layout.volume(name))
        return gone

    # -- directories ------------------------------------------------------------------------------------------------

    def directory(self, name: str) -> str:
        """Return the directory of a volume's content; it is made where it is missing, with the mode 0755."""
        place = self._layout.volume(name)
        data = f"{place}/data"
        if os.path.isdir(data):  # noqa: PTH112
            return data
        with explained(place):
            os.makedirs(place, mode=0o700, exist_ok=True)  # noqa: PTH103
            with locked(place):
                if not os.path.isdir(data):  # noqa: PTH112
                    _make_open(data)
            sync_directory(place)
            sync_directory(os.path.dirname(place))  # noqa: PTH120
        return data

    @contextmanager
    def filling(self, use: VolumeUse, is_running: Callable[[str], bool], container: str) -> Iterator[int]:
        """Let a block fill a volume that is empty; gives a descriptor that holds its lock, -1 where it has content.

        Who fills it otherwise waits, and finds content. A block that fails, or whose process is killed, leaves a mark,
        and the next one finds the volume empty again; unless another container runs with it: then nothing is taken from
        that one, and it is filled over. Whatever writes to it on the block's behalf keeps the descriptor open.
        """
        place = self._layout.volume(use.volume)
        data, mark = f"{place}/data", f"{place}/filling"
        # In this order: while the volume is being filled, the mark is there before the content and after it.
        if _has_entries(data) and not os.path.exists(mark):  # noqa: PTH110
            yield -1
            return
        with explained(place), locked(place) as lock:
            if os.path.exists(mark):  # noqa: PTH110
                if not any(is_running(other) for other in self.users(use.volume) if other != container):
                    rootless.as_owner(_empty, data)
            elif _has_entries(data):
                yield -1
                return
            os.close(os.open(mark, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            yield lock
            if not use.anonymous and _has_entries(data):
                sync_filesystem(place)  # the content may be closed to an ordinary user
            os.unlink(mark)  # noqa: PTH108

    def clear(self, names: Sequence[str]) -> None:
        """Remove the directories of those volumes that have no row; the others' have no mark then."""
        if not names:
            return
        # In a transaction, so that nobody makes a volume of that name between the look and the rename.
        with self._database.writing(durable=False, freeing=True) as connection:
            kept = {row[0] for row in connection.execute("SELECT name FROM volumes")}.intersection(names)
            for name in kept:
                unmark(self._layout.volume(name))
            buried = self._layout.bury(self._layout.volume(name) for name in names if name not in kept)
        self._layout.empty(buried)

    def sweep(self) -> None:
        """Remove the directories of volumes whose removal was cut short."""
        present = os.listdir(f"{self._layout.root}/volumes")  # noqa: PTH208
        self.clear([name for name in present if is_marked(self._layout.volume(name))])


def _to_row(values: tuple[Any, ...]) -> VolumeRow:
    name, labels, created, anonymous = values
    return VolumeRow(name, json.loads(labels), created, bool(anonymous))


def _empty(path: str) -> None:
    parent = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in os.listdir(parent):  # noqa: PTH208  by descriptor
            native.remove_tree(parent, name)
    finally:
        os.close(parent)


def _has_entries(path: str) -> bool:
    """Say whether a directory holds anything; one that is not ours to look into has been given to somebody inside."""
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is not None
    except PermissionError:
        return True


def _make_open(path: str) -> None:
    """Make a directory of the mode 0755, whatever the caller's umask, whole or not at all."""
    temporary = f"{path}.new"
    os.makedirs(temporary, exist_ok=True)  # noqa: PTH103
    os.chmod(temporary, 0o755)  # noqa: PTH101, S103  inside a private directory
    os.rename(temporary, path)  # noqa: PTH104
