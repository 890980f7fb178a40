"""Leases: what keeps unfinished work from being taken for rubbish.

A lease is a row naming a process, a staging directory with a file that the process holds locked, and the layers that the
work relies on. Invariant: while the process lives, nothing under its lease is removed; once it is gone, anybody may.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from pylxc.errors import StoreError
from pylxc.identity import ProcessIdentity, own_identity
from pylxc.store.layout import explain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pylxc.store.database import Database
    from pylxc.store.layout import Layout


class Lease:
    """Work under way. ``id`` names it; ``stage()`` gives it room."""

    def __init__(self, id: str, directory: str, database: Database) -> None:  # noqa: A002  the row's name
        self.id = id
        self.directory = directory
        self._database = database
        self._staged = 0

    def stage(self) -> str:
        """Return a new, empty directory for something to be made in."""
        self._staged += 1
        path = f"{self.directory}/{self._staged}"
        try:
            os.mkdir(path, 0o700)  # noqa: PTH102
        except OSError as error:
            raise StoreError(path, explain(error)) from error
        return path

    def protect(self, digests: Iterable[str]) -> None:
        """Keep these layers while the lease lasts."""
        with self._database.writing(durable=False) as connection:
            connection.executemany("INSERT OR IGNORE INTO leased VALUES (?, ?)", [(self.id, one) for one in digests])


class Leases:
    """All leases of a store."""

    def __init__(self, database: Database, layout: Layout) -> None:
        self._database = database
        self._layout = layout

    @contextlib.contextmanager
    def take(self) -> Iterator[Lease]:
        """Give a lease for the length of a block; what was staged and not committed is discarded at its end."""
        owner, name = own_identity(), os.urandom(8).hex()
        directory = f"{self._layout.root}/staging/{name}"
        with self._database.writing(durable=False) as connection:
            row = (name, owner.pid, owner.start_time, owner.boot_id)
            connection.execute("INSERT INTO leases VALUES (?, ?, ?, ?)", row)
        lock = -1
        try:
            try:
                os.mkdir(directory, 0o700)  # noqa: PTH102
                lock = os.open(f"{directory}/lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                raise StoreError(directory, explain(error)) from error
            yield Lease(name, directory, self._database)
        finally:
            self._drop(name)
            self._layout.discard([directory])
            if lock >= 0:
                os.close(lock)

    def _drop(self, name: str) -> None:
        with self._database.writing(durable=False) as connection:
            connection.execute("DELETE FROM leases WHERE id = ?", (name,))

    def sweep(self) -> None:
        """Discard the staging of processes that are gone."""
        directory = f"{self._layout.root}/staging"
        present = os.listdir(directory)  # noqa: PTH208  read before the rows: a lease has its row first
        rows = self._database.rows("SELECT id, pid, start_time, boot_id FROM leases")
        dead = [row[0] for row in rows if not ProcessIdentity(*row[1:]).is_alive() and not self._is_locked(row[0])]
        for name in dead:
            self._drop(name)
        alive = {row[0] for row in rows} - set(dead)
        known = {row[0] for row in self._database.rows("SELECT id FROM leases")} | alive
        strays = [f"{directory}/{name}" for name in present if name not in known and not name.startswith(".")]
        self._layout.discard(strays)

    def _is_locked(self, name: str) -> bool:
        try:
            fd = os.open(f"{self._layout.root}/staging/{name}/lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False
