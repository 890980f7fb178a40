"""Layers: trees on disk, named by the digest of their tar, each directly usable as a lower directory of overlayfs.

Invariant: a layer with a row has a complete tree, which is on disk unless the layer is marked as unsettled; of those,
no image is made, and what another boot left so is forgotten. A tree without a row is rubbish, whoever made it.
What was found damaged is marked: nothing starts on it until a repair, or the same layer coming anew, replaces it.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Any

from attrs import frozen

from pylxc.errors import StoreError
from pylxc.identity import boot_id, is_locked
from pylxc.runtime import record
from pylxc.store.blobs import names_of
from pylxc.store.layout import explained, rename_as_owner, sync_directory, sync_filesystem

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from pylxc.store.blobs import BlobRow, Blobs
    from pylxc.store.database import Database
    from pylxc.store.layout import Layout
    from pylxc.store.leases import Lease

NO_TREE = "its tree is not there"
HEAL = "`pylxc store repair` says more; a load, a pull or a build of its image mends it"


@frozen
class LayerRow:
    """What the index says of a layer: ``size`` in bytes of its tar, ``passthrough`` for the host image's own layer."""

    digest: str
    size: int
    created_by: str
    created: float
    passthrough: tuple[str, ...] = ()


@frozen
class Staged:
    """A tree that is to become a layer, as :class:`LayerRow` has it; ``archive`` is in ``archive_file``, if it came."""

    tree: str
    digest: str
    size: int
    created_by: str
    passthrough: tuple[str, ...] = ()
    archive_file: str = ""
    archive: BlobRow | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The digests that name something in the store once it is a layer."""
        return (self.digest,) if self.archive is None else (self.digest, self.archive.digest)


class Layers:
    """All layers of a store."""

    def __init__(self, database: Database, layout: Layout, blobs: Blobs) -> None:
        self._database = database
        self._layout = layout
        self._blobs = blobs
        self._passthrough: dict[str, tuple[str, ...]] = {}

    def passthrough(self, digest: str) -> tuple[str, ...]:
        """Return what a layer passes through of the host: asked once, for what has a digest never changes."""
        found = self._passthrough.get(digest)
        if found is None:
            found = self._passthrough[digest] = self.get(digest).passthrough
        return found

    def path(self, digest: str) -> str:
        """Return the directory of a layer's tree."""
        return self._layout.layer(digest)

    def exists(self, digest: str) -> bool:
        """Say whether a layer is there."""
        return self._database.row("SELECT 1 FROM layers WHERE digest = ?", (digest,)) is not None

    def is_usable(self, digest: str) -> bool:
        """Say whether a layer is there with its tree, which is not known to be damaged."""
        return self.exists(digest) and is_tree(self.path(digest)) and digest not in self.damaged()

    def get(self, digest: str) -> LayerRow:
        """Return a layer's row. Raises StoreError when it is not there."""
        found = self._database.row(f"{SELECT} WHERE digest = ?", (digest,))
        if found is None:
            raise StoreError(self._layout.root, f"layer {digest} is missing; build or import the image again")
        return to_row(found)

    def commit(  # noqa: PLR0913, PLR0917  the fields of a layer
        self, lease: Lease, tree: str, digest: str, size: int, created_by: str, passthrough: tuple[str, ...] = ()
    ) -> LayerRow:
        """Make a staged tree a layer; see :meth:`take_in`."""
        return self.take_in(lease, Staged(tree, digest, size, created_by, passthrough))

    def take_in(self, lease: Lease, staged: Staged) -> LayerRow:
        """Make a staged tree a layer, by rename; it is kept while the lease lasts.

        It can be used at once, and is put on disk beside that; an image over it waits until it is. Where the layer is
        there already, the staged tree is left for the lease to discard, unless the one that is there is known to be
        damaged, or lost: then this one takes its place. Several processes may commit one layer at once.

        Raises StoreError when a layer is to be replaced that somebody uses at the moment.
        """
        try:
            with explained(self._layout.root):
                row, is_new = self._add(lease, staged)
        except BaseException:
            self.clear(staged.names)
            raise
        if is_new:
            lease.settle_beside()
        else:
            if not self.is_usable(staged.digest):
                self.replace(lease, staged.tree, staged.digest)
            if staged.archive is not None:
                self._blobs.keep(staged.archive_file, staged.archive)
        return row

    def _add(self, lease: Lease, staged: Staged) -> tuple[LayerRow, bool]:
        """Give a staged layer its name and row, where it has none. Returns the row, and whether it is new."""
        buried: list[str] = []
        try:
            with self._database.writing(durable=False) as connection:
                found = connection.execute(f"{SELECT} WHERE digest = ?", (staged.digest,)).fetchone()
                is_new = found is None
                if is_new:
                    buried = self._place(staged.tree, staged.digest)
                    passthrough = "\n".join(staged.passthrough)
                    found = (staged.digest, staged.size, staged.created_by, time.time(), passthrough)
                    connection.execute("INSERT INTO layers VALUES (?, ?, ?, ?, ?)", found)
                    connection.execute("INSERT INTO unsettled VALUES (?, ?)", (staged.digest, boot_id()))
                    if staged.archive is not None:
                        self._blobs.add(connection, staged.archive_file, staged.archive)
                connection.execute("INSERT OR IGNORE INTO leased VALUES (?, ?)", (lease.id, staged.digest))
        finally:
            self._layout.empty(buried)
        return to_row(found), is_new

    # -- settling ---------------------------------------------------------------------------------------------------

    def settle(self, digests: Iterable[str]) -> None:
        """Put those of the layers on disk, with their archives, that are not: by one sync. Raises StoreError."""
        unsettled = {row[0] for row in self._database.rows("SELECT layer FROM unsettled")}
        wanted = unsettled.intersection(digests) if unsettled else ()
        if wanted:
            with explained(self._layout.root):
                sync_filesystem(f"{self._layout.root}/layers")
            # Nothing is lost where this does not survive: a layer is forgotten then, which no image has yet.
            with self._database.writing(durable=False) as connection:
                connection.executemany("DELETE FROM unsettled WHERE layer = ?", [(digest,) for digest in wanted])

    def forget_unsettled(self) -> None:
        """Forget the layers that a power loss came upon before they were on disk; their trees are for the sweep."""
        query = "SELECT layer FROM unsettled WHERE boot_id != ?"
        with self._database.writing(durable=True, freeing=True) as connection:
            lost = connection.execute(query, (boot_id(),)).fetchall()
            connection.executemany("DELETE FROM leased WHERE layer = ?", lost)
            self.forget_unused(connection, [digest for (digest,) in lost])

    # -- damage -----------------------------------------------------------------------------------------------------

    def damaged(self) -> dict[str, str]:
        """Return the layers whose trees are known to be damaged, and how."""
        return dict(self._database.rows("SELECT layer, reason FROM damaged"))

    def mark(self, digest: str, reason: str) -> None:
        """Remember that a layer's tree is damaged: nothing starts on it, no build uses it, until it is replaced."""
        with self._database.writing(durable=True, freeing=True) as connection:
            query = "INSERT OR REPLACE INTO damaged SELECT digest, ? FROM layers WHERE digest = ?"
            connection.execute(query, (reason, digest))
            connection.execute("DELETE FROM cache WHERE layer = ?", (digest,))

    def unmark(self, digest: str) -> None:
        """Forget that a layer's tree was damaged."""
        with self._database.writing(durable=True, freeing=True) as connection:
            connection.execute("DELETE FROM damaged WHERE layer = ?", (digest,))

    def require_whole(self, digests: Iterable[str]) -> None:
        """Raise StoreError when one of these layers is known to be damaged."""
        damaged = self.damaged()
        for digest in damaged and digests:
            if digest in damaged:
                raise StoreError(self.path(digest), f"the layer is damaged ({damaged[digest]}); {HEAL}")

    def require_trees(self, digests: Iterable[str]) -> None:
        """Raise StoreError when the tree of one of these layers is lost, which is known to be damaged from then on.

        That looks at each: it is for who has found that something is wrong, or has time.
        """
        for digest in digests:
            if not is_tree(self.path(digest)) and self.exists(digest):
                self.mark(digest, NO_TREE)
                self.require_whole([digest])

    def replace(self, lease: Lease, tree: str, digest: str) -> None:
        """Put a staged tree in the place of one that is marked as damaged. The old one goes with the lease.

        Raises StoreError, naming them, when containers run on the old one: their files must not go from under them.
        """
        target, old = self._layout.layer(digest), f"{lease.stage()}/old"
        before = self._containers_of(digest)
        with explained(target):
            sync_filesystem(os.path.dirname(tree))  # noqa: PTH120  the tree itself may be closed to its maker
            self._refuse_users(lease, digest, ())
            with self._database.writing(durable=True, freeing=True) as connection:
                # Nobody starts on what is marked. Who had begun before it was has mounted the old tree by now, and is
                # seen to run; or is about to mount the new one.
                moved = os.path.lexists(target)
                if moved:
                    rename_as_owner(target, old)
                try:
                    rename_as_owner(tree, target)
                    sync_directory(os.path.dirname(target))  # noqa: PTH120
                    self._refuse_users(lease, digest, set(self._containers_of(digest)) - set(before))
                except BaseException:
                    if os.path.lexists(target):
                        rename_as_owner(target, tree)
                    if moved:
                        rename_as_owner(old, target)
                    raise
                connection.execute("DELETE FROM damaged WHERE layer = ?", (digest,))

    def _refuse_users(self, lease: Lease, digest: str, others: Iterable[str]) -> None:
        """Raise StoreError when containers run on a layer, or somebody else's work relies on it."""
        running = [id for id in self._containers_of(digest) if _runs(self._layout.container(id))]  # noqa: A001  docker's
        users = [f"container {id[:12]}" for id in sorted({*running, *others})]  # noqa: A001
        query = "SELECT 1 FROM leased WHERE layer = ? AND lease != ?"
        if self._database.row(query, (digest, lease.id)) is not None:
            users.append("a build or a transfer")
        if users:
            reason = f"the layer is damaged, and in use by {', '.join(users)}; repair it when that has ended"
            raise StoreError(self._layout.layer(digest), reason)

    def _containers_of(self, digest: str) -> list[str]:
        query = "SELECT id FROM containers WHERE image IN (SELECT image FROM image_layers WHERE layer = ?)"
        return [row[0] for row in self._database.rows(query, (digest,))]

    # -- removing ---------------------------------------------------------------------------------------------------

    def _place(self, tree: str, digest: str) -> list[str]:
        """Give a tree its name, not yet on disk. What lies there without a row is of a removal that did not end."""
        target = self._layout.layer(digest)
        buried = self._layout.bury([target])
        rename_as_owner(tree, target)
        return buried

    def forget_unused(self, connection: sqlite3.Connection, candidates: Iterable[str]) -> list[str]:
        """Delete the rows of those layers that no image, lease or container uses, and what the build cache has of them.

        Returns their digests and those of their archives, for :meth:`clear` to be called with when the transaction is
        through.
        """
        unused = [digest for digest in candidates if not _is_used(connection, digest)]
        blobs = [blob for digest in unused for blob in names_of(connection, digest)]
        connection.executemany("DELETE FROM layers WHERE digest = ?", [(digest,) for digest in unused])
        return [*unused, *blobs]

    def forget_orphans(self, connection: sqlite3.Connection, candidates: Iterable[str]) -> list[str]:
        """Do as :meth:`forget_unused`, but leave what the build cache may still want."""
        query = "SELECT 1 FROM cache WHERE layer = ? LIMIT 1"
        uncached = [digest for digest in candidates if connection.execute(query, (digest,)).fetchone() is None]
        return self.forget_unused(connection, uncached)

    def remove_unused(self, candidates: Iterable[str]) -> None:
        """Remove those of the layers that no image and no lease uses."""
        with self._database.writing(durable=False, freeing=True) as connection:
            unused = self.forget_unused(connection, candidates)
        self.clear(unused)

    def clear(self, digests: Iterable[str]) -> None:
        """Remove the trees of those layers that have no row and are no container's, and the archives that have none."""
        digests = list(digests)
        with self._layout.sweeping_later():
            # In a transaction, so that nobody commits a layer anew between the look and the rename.
            with self._database.writing(durable=False) as connection:
                gone = [digest for digest in digests if not _has_owner(connection, digest)]
                buried = self._layout.bury(map(self._layout.layer, gone))
            self._layout.empty(buried)
            self._blobs.clear(digests)

    def sweep(self) -> None:
        """Remove every tree that has no row and is no container's: looks at all of them."""
        with self._database.writing(durable=False) as connection:
            buried = self._layout.bury_strays("layers", connection.execute(TREES))
        self._layout.empty(buried)


def is_tree(path: str) -> bool:
    """Say whether a directory is there; a link to one is none."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _runs(directory: str) -> bool:
    """Say whether a container's monitor lives, or a process that it left."""
    return is_locked(directory) or record.read(directory).state == "running"


SELECT = "SELECT digest, size, created_by, created, passthrough FROM layers"


# The digests of all trees that are to be there.
TREES = "SELECT digest FROM layers UNION SELECT layer FROM given_uppers"


def to_row(values: tuple[Any, ...]) -> LayerRow:
    """Return a row of SELECT as a value."""
    digest, size, created_by, created, passthrough = values
    return LayerRow(digest, size, created_by, created, tuple(passthrough.split("\n")) if passthrough else ())


def _has_owner(connection: sqlite3.Connection, digest: str) -> bool:
    query = "SELECT 1 FROM layers WHERE digest = ?1 UNION ALL SELECT 1 FROM given_uppers WHERE layer = ?1 LIMIT 1"
    return connection.execute(query, (digest,)).fetchone() is not None


def _is_used(connection: sqlite3.Connection, digest: str) -> bool:
    query = (
        "SELECT 1 FROM image_layers WHERE layer = ?1 UNION ALL SELECT 1 FROM leased WHERE layer = ?1"
        " UNION ALL SELECT 1 FROM given_uppers WHERE layer = ?1 LIMIT 1"
    )
    return connection.execute(query, (digest,)).fetchone() is not None
