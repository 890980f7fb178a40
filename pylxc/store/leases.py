"""Leases: what keeps unfinished work from being taken for rubbish.

A lease is a row naming a process, a staging directory with a file that the process holds locked, and the layers that
the work relies on. A note is the row alone. Invariant: while the process lives, nothing under its lease is removed;
once it is gone, anybody may; whoever finds a row of a process that is gone knows that the store has to be tidied.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import sqlite3
from typing import TYPE_CHECKING

from pylxc.errors import StoreError
from pylxc.identity import ProcessIdentity, is_locked, own_identity
from pylxc.runtime import rootless
from pylxc.store.layout import explained, make_in_good_place, make_spread, sync_filesystem
from pylxc.store.settling import Settling

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pylxc.store.database import Database
    from pylxc.store.layers import Layers
    from pylxc.store.layout import Layout


class Lease:
    """Work under way. ``id`` names it; ``stage()`` gives it room."""

    def __init__(  # noqa: PLR0913  made in one place
        self,
        id: str,  # noqa: A002  the row's name
        directory: str,
        database: Database,
        layers: Layers,
        *,
        is_spread: bool,
        freeing: bool,
    ) -> None:
        self.id = id
        self.directory = directory
        self._is_spread = is_spread
        self._freeing = freeing
        self._database = database
        self._layers = layers
        self._numbers = itertools.count(1)
        self._settling = Settling(lambda: layers.settle(self._digests()))
        self._writing = Settling(self._write)

    def stage(self) -> str:
        """Return a new, empty directory for something to be made in. Threads may ask at once."""
        path = f"{self.directory}/{next(self._numbers)}"
        with explained(path):
            if self._is_spread:
                return make_in_good_place(path)
            os.mkdir(path, 0o700)  # noqa: PTH102
        return path

    def protect(self, digests: Iterable[str]) -> None:
        """Keep these layers while the lease lasts. Raises StoreError when one is not there."""
        if self._database.is_read_only:
            return
        rows = [(self.id, digest) for digest in digests]
        try:
            with self._database.writing(durable=False, freeing=self._freeing) as connection:
                connection.executemany("INSERT OR IGNORE INTO leased VALUES (?, ?)", rows)
        except sqlite3.IntegrityError as error:
            reason = "a layer was removed meanwhile; build or import the image again"
            raise StoreError(self._database.path, reason) from error

    def _digests(self) -> list[str]:
        return [row[0] for row in self._database.rows("SELECT layer FROM leased WHERE lease = ?", (self.id,))]

    def settle_beside(self) -> None:
        """Begin to put on disk the layers that came under this lease, beside the work that goes on."""
        if rootless.is_privileged():  # what an ordinary user's forks change must not have threads around
            self._settling.begin()

    def write_beside(self) -> None:
        """Begin to put on disk what was staged, beside the work that goes on: what is made of it is there sooner."""
        if rootless.is_privileged():
            self._writing.begin()

    def settle(self) -> None:
        """Put all layers that this lease keeps on disk. Raises StoreError when that, or the beginning of it, failed."""
        self._writing.require_whole()
        self._settling.require_whole()
        self._layers.settle(self._digests())

    def end(self) -> None:
        """Wait for what goes on beside."""
        self._writing.end()
        self._settling.end()

    def _write(self) -> None:
        with explained(self.directory):
            sync_filesystem(self.directory)


class Leases:
    """All leases of a store."""

    def __init__(self, database: Database, layout: Layout, layers: Layers) -> None:
        self._database = database
        self._layout = layout
        self._layers = layers

    @contextlib.contextmanager
    def take(self, *, freeing: bool = False) -> Iterator[Lease]:
        """Give a lease for the length of a block; what was staged and not committed is discarded at its end.

        ``freeing``: the block is what people free a full disk by, so it must begin on one.
        """
        name = os.urandom(8).hex()
        directory = f"{self._layout.root}/staging/{name}"
        if freeing and self._database.is_read_only:  # nothing that is read can be removed meanwhile
            yield Lease(name, directory, self._database, self._layers, is_spread=False, freeing=freeing)
            return
        owner, lock = os.getpid(), -1
        self._add(name, freeing=freeing)
        try:
            with explained(directory), self._layout.room() if freeing else contextlib.nullcontext():
                is_spread = make_spread(directory)
                lock = os.open(f"{directory}/lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                fcntl.flock(lock, fcntl.LOCK_EX)
            lease = Lease(name, directory, self._database, self._layers, is_spread=is_spread, freeing=freeing)
            try:
                yield lease
            finally:
                if os.getpid() == owner:
                    lease.end()
        finally:
            if os.getpid() == owner:  # a fork that leaves the block takes nothing from its parent
                self._end(name, directory)
            if lock >= 0:
                os.close(lock)

    def _end(self, name: str, directory: str) -> None:
        """End a lease. The staging goes first: on a full disk that makes room for the rest."""
        try:
            self._layout.discard([directory])
        finally:
            self._drop(name)

    @contextlib.contextmanager
    def noted(self, *, freeing: bool = False) -> Iterator[None]:
        """Leave a note for the length of a block that changes files and rows together.

        When this process is killed in it, the next one to open the store finds the note and tidies. ``freeing``: the
        block removes something, so it must work on a full disk.
        """
        name, owner = os.urandom(8).hex(), os.getpid()
        self._add(name, freeing=freeing)
        try:
            yield
        finally:
            if os.getpid() == owner:
                self._drop(name)

    def _add(self, name: str, *, freeing: bool) -> None:
        with self._database.writing(durable=False, freeing=freeing) as connection:
            _insert(connection, name)

    def take_over(self, connection: sqlite3.Connection, container: str) -> list[str]:
        """Keep the layer that is what a container wrote, if one is: the container is removed in this transaction.

        Returns what to give to :meth:`drop` when that is through.
        """
        row = connection.execute("SELECT layer FROM given_uppers WHERE container = ?", (container,)).fetchone()
        if row is None:
            return []
        name = os.urandom(8).hex()
        _insert(connection, name)
        connection.execute("INSERT INTO leased SELECT ?, digest FROM layers WHERE digest = ?", (name, *row))
        return [name]

    def _drop(self, name: str) -> None:
        """Remove a lease's row, after those of its layers that came to nothing: no image, no cache names them."""
        keeps_layers = self._database.row("SELECT 1 FROM leased WHERE lease = ?", (name,)) is not None
        # Durable where layers may go: their rows must not come back, after a power loss, when their trees are gone.
        with self._database.writing(durable=keeps_layers, freeing=True) as connection:
            layers = [row[0] for row in connection.execute("SELECT layer FROM leased WHERE lease = ?", (name,))]
            connection.execute("DELETE FROM leased WHERE lease = ?", (name,))
            orphans = self._layers.forget_orphans(connection, layers)
            if not orphans:
                connection.execute("DELETE FROM leases WHERE id = ?", (name,))
                return
        self._layers.clear(orphans)
        with self._database.writing(durable=False, freeing=True) as connection:
            connection.execute("DELETE FROM leases WHERE id = ?", (name,))

    def abandoned(self) -> list[str]:
        """Return the leases and notes of processes that are gone."""
        rows = self._database.rows("SELECT id, pid, start_time, boot_id FROM leases")
        dead = [id for id, *owner in rows if not ProcessIdentity(*owner).is_alive()]  # noqa: A001
        return [id for id in dead if not is_locked(f"{self._layout.root}/staging/{id}/lock")]  # noqa: A001

    def drop(self, names: Iterable[str]) -> None:
        """Drop leases and notes, of processes that are gone or of one's own."""
        for name in names:
            self._drop(name)

    def sweep(self) -> None:
        """Discard the staging that belongs to no lease."""
        directory = f"{self._layout.root}/staging"
        present = os.listdir(directory)  # noqa: PTH208  read before the rows: a lease has its row first
        if present:
            known = {row[0] for row in self._database.rows("SELECT id FROM leases")}
            strays = [name for name in present if name not in known and not name.startswith(".")]
            self._layout.discard(f"{directory}/{name}" for name in strays)


def _insert(connection: sqlite3.Connection, name: str) -> None:
    """Add a lease of this process."""
    owner = own_identity()
    row = (name, owner.pid, owner.start_time, owner.boot_id)
    connection.execute("INSERT INTO leases VALUES (?, ?, ?, ?)", row)
