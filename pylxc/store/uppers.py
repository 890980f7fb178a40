"""What containers wrote that has become layers: a commit of one that rests gives its upper directory to the store.

Hides where it lies, and who uses it. A row of ``given_uppers`` names the container and the layer. Invariant: what a
container wrote lies in its own directory, or else, where there is none, in the tree of the layer that its row names,
whether that layer has a row or not; so at no moment, whoever is killed in it, is it in neither. A layer that a row
names is kept. Whoever works on the upper directory holds it, in its own place; nobody gives it away meanwhile, nor on
the strength of what was seen of it before.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pylxc.errors import StoreError
from pylxc.identity import boot_id
from pylxc.runtime.waiting import Wait, deadline_of, steps_of, waits
from pylxc.store.layout import explained, rename_as_owner, sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pylxc.runtime.waiting import Waiting
    from pylxc.store.database import Database
    from pylxc.store.layers import Layers, Staged
    from pylxc.store.layout import Layout
    from pylxc.store.leases import Lease, Leases

_MARK = "user.pylxc.commit"  # of the directory "work": nobody has used the upper directory since
_A_MOMENT = 0.01  # s
_GIVE = "INSERT INTO given_uppers VALUES (?, ?) ON CONFLICT (container) DO UPDATE SET layer = excluded.layer"
_FORGET = "DELETE FROM given_uppers WHERE container = ?"


class Uppers:
    """The upper directories of a store's containers."""

    def __init__(self, database: Database, layout: Layout, layers: Layers, leases: Leases) -> None:
        self._database = database
        self._layout = layout
        self._layers = layers
        self._leases = leases

    def place(self, id: str) -> str:  # noqa: A002  docker's name
        """Return the directory that holds what a container wrote, to be read."""
        layer = self.layer_of(id)
        return self._own(id) if layer is None else self._layout.layer(layer)

    def layer_of(self, id: str) -> str | None:  # noqa: A002
        """Return the layer that is what a container wrote; None: that lies in the container's directory."""
        row = self._database.row("SELECT layer FROM given_uppers WHERE container = ?", (id,))
        return None if row is None or os.path.lexists(self._own(id)) else row[0]

    def _own(self, id: str) -> str:  # noqa: A002
        return f"{self._layout.container(id)}/upper"

    def _open_lock(self, id: str) -> int:  # noqa: A002
        """Return a descriptor to lock; -1: nothing was ever written. The upper directory itself comes and goes."""
        try:
            return os.open(f"{self._layout.container(id)}/work", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1

    # -- using ------------------------------------------------------------------------------------------------------

    @waits
    def hold(self, id: str) -> Waiting[int]:  # noqa: A002
        """Keep what a container wrote in the container's own directory until the descriptor is closed (-1: none is)."""
        while True:
            lock = self._open_lock(id)
            if lock < 0:
                return lock
            try:
                fcntl.flock(lock, fcntl.LOCK_SH)  # whoever has the other kind has it for a moment
                with suppress(OSError):
                    os.removexattr(lock, _MARK)
                layer = self.layer_of(id)
            except BaseException:
                os.close(lock)
                raise
            if layer is None:
                return lock
            os.close(lock)
            yield from self._bring_back(id, layer)

    @contextmanager
    def _alone(self, id: str) -> Iterator[int | None]:  # noqa: A002
        """Let nobody use the upper directory for a moment; gives the lock (-1: none is), None where somebody does."""
        lock = self._open_lock(id)
        try:
            is_free = True
            try:
                if lock >= 0:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                is_free = False
            yield lock if is_free else None
        finally:
            if lock >= 0:
                os.close(lock)

    # -- giving -----------------------------------------------------------------------------------------------------

    def mark(self, id: str) -> bytes | None:  # noqa: A002
        """Return a mark that is good until somebody uses the upper directory; None: somebody does.

        None, too, where overlayfs keeps an index of it, which would name what another tree is made of.
        """
        with self._alone(id) as lock:
            if lock is None or lock < 0 or os.path.lexists(f"{self._layout.container(id)}/work/index"):
                return None
            mark = os.urandom(16).hex().encode()
            os.setxattr(lock, _MARK, mark)
            return mark

    def give(self, lease: Lease, id: str, mark: bytes, staged: Staged) -> bool:  # noqa: A002
        """Make the upper directory of a container a layer, by rename; where the layer is there, it stays what it is.

        False, with nothing done, where the mark is good no more. Raises StoreError; nothing has changed then.
        """
        with self._alone(id) as lock:
            if lock is None or lock < 0 or not _has(lock, mark):
                return False
            try:
                # On disk before the rename can be: after a power loss it tells whose the tree is.
                with self._database.writing(durable=True) as connection:
                    connection.execute(_GIVE, (id, staged.digest))
            except sqlite3.IntegrityError:
                return False  # the container is gone, or has just been beaten to it by one that wrote the same
            try:
                self._layers.take_in(lease, staged)
            finally:
                self._settle(id, staged.digest)
        return True

    def _settle(self, id: str, layer: str) -> None:  # noqa: A002
        """Bring the row of a container that nobody uses to what is on disk."""
        if os.path.lexists(self._own(id)):
            self._database.write(_FORGET, (id,))
        elif not self._layers.exists(layer):
            self._put_back(id, layer)

    def _put_back(self, id: str, layer: str) -> None:  # noqa: A002
        """Rename a tree that is no layer any more to what it was."""
        with explained(self._own(id)), suppress(FileNotFoundError):
            rename_as_owner(self._layout.layer(layer), self._own(id))
            sync_directory(self._layout.container(id))
        self._database.write(_FORGET, (id,))

    # -- bringing back ----------------------------------------------------------------------------------------------

    def _bring_back(self, id: str, layer: str) -> Waiting[None]:  # noqa: A002
        """Let a container have what it wrote in its own directory again; whoever asked for it looks again."""
        if self._take_back(id, layer):
            return
        from pylxc.runtime import transfer  # noqa: PLC0415  not on the start path

        with self._leases.take() as lease:
            try:
                lease.protect((layer,))
            except StoreError:
                return  # another process has brought it back meanwhile
            copy = f"{lease.stage()}/tree"
            with explained(copy):
                os.mkdir(copy, 0o755)  # noqa: PTH102
            tree, scaffold = self._layout.layer(layer), f"{self._layout.root}/run"
            yield from steps_of(transfer.copy_layer, tree, copy, scaffold=scaffold, latest=None, left_out=())
            if not self._put(id, layer, copy):
                yield Wait(until=deadline_of(_A_MOMENT))

    def _put(self, id: str, layer: str, copy: str) -> bool:  # noqa: A002
        """Give a copy, which is on disk, the place of the upper directory; False: somebody else is just doing so."""
        with self._alone(id) as lock:
            if lock is None:
                return False
            if self.layer_of(id) == layer:
                with explained(self._own(id)):
                    rename_as_owner(copy, self._own(id))
                    sync_directory(self._layout.container(id))
                self._database.write(_FORGET, (id,))
        return True

    def _take_back(self, id: str, layer: str) -> bool:  # noqa: A002
        """Do without a copy where nothing else wants the layer: it is none any more. False: it is wanted, or in use."""
        with self._leases.noted(freeing=True), self._alone(id) as lock:
            if lock is None or self.layer_of(id) != layer:
                return False
            with self._database.writing(durable=True) as connection:
                is_layer = connection.execute("SELECT 1 FROM layers WHERE digest = ?", (layer,)).fetchone()
                connection.execute(_FORGET, (id,))  # for the look alone: the row stays until the tree is moved
                gone = self._layers.forget_orphans(connection, (layer,)) if is_layer else [layer]
                connection.execute(_GIVE, (id, layer))
            if layer not in gone:
                return False
            self._put_back(id, layer)
            self._layers.clear(gone)
        return True

    # -- after a kill, and after a power loss -----------------------------------------------------------------------

    def recover(self) -> None:
        """Bring the rows to what is on disk, where whoever was changing both was killed.

        A layer that a power loss came upon before it was on disk is none any more; the tree is the container's, which
        is no worse off with it than without a commit.
        """
        for id, layer in self._rows():  # noqa: A001  docker's name
            with self._alone(id) as lock:
                if lock is not None:  # else whoever changes it lives
                    self._forget_unsettled(layer)
                    self._settle(id, layer)

    def amiss(self) -> list[str]:
        """Return the containers whose rows :meth:`recover` would change."""
        found = []
        for id, layer in self._rows():  # noqa: A001  docker's name
            with self._alone(id) as lock:
                if lock is not None and (os.path.lexists(self._own(id)) or not self._layers.exists(layer)):
                    found.append(id)
        return found

    def _rows(self) -> list[tuple[Any, ...]]:
        return self._database.rows("SELECT container, layer FROM given_uppers ORDER BY container")

    def _forget_unsettled(self, layer: str) -> None:
        query = (
            "DELETE FROM layers WHERE digest = ? AND digest IN (SELECT layer FROM unsettled WHERE boot_id != ?)"
            " AND digest NOT IN (SELECT layer FROM image_layers)"
        )
        self._database.write(query, (layer, boot_id()))


def _has(lock: int, mark: bytes) -> bool:
    """Say whether a directory still has a mark."""
    try:
        return os.getxattr(lock, _MARK) == mark
    except OSError:
        return False
