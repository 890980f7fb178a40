"""Layers: trees on disk, named by the digest of their tar, each directly usable as a lower directory of overlayfs.

Invariant: a layer with a row has a complete tree that is on disk. A tree without a row is rubbish, whoever made it.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from attrs import frozen

from pylxc.errors import StoreError
from pylxc.store.layout import explain, sync_directory, sync_filesystem

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from pylxc.store.database import Database
    from pylxc.store.layout import Layout
    from pylxc.store.leases import Lease


@frozen
class LayerRow:
    """What the index says of a layer: ``size`` in bytes of its tar, ``passthrough`` for the host image's own layer."""

    digest: str
    size: int
    created_by: str
    created: float
    passthrough: tuple[str, ...] = ()


class Layers:
    """All layers of a store."""

    def __init__(self, database: Database, layout: Layout) -> None:
        self._database = database
        self._layout = layout

    def path(self, digest: str) -> str:
        """Return the directory of a layer's tree."""
        return self._layout.layer(digest)

    def get(self, digest: str) -> LayerRow:
        """Return a layer's row. Raises StoreError when it is not there."""
        found = self._database.row(f"{SELECT} WHERE digest = ?", (digest,))
        if found is None:
            raise StoreError(self._layout.root, f"layer {digest} is missing; build or import the image again")
        return to_row(found)

    def commit(  # noqa: PLR0913  the fields of a layer
        self, lease: Lease, tree: str, digest: str, size: int, created_by: str, passthrough: tuple[str, ...] = ()
    ) -> LayerRow:
        """Make a staged tree a layer, by rename; it is kept while the lease lasts.

        Where the layer is there already, the staged tree is left for the lease to discard. Several processes may commit
        one layer at once.
        """
        row = LayerRow(digest, size, created_by, time.time(), passthrough)
        try:
            sync_filesystem(tree)
            with self._database.writing(durable=True) as connection:
                found = connection.execute(f"{SELECT} WHERE digest = ?", (digest,)).fetchone()
                if found is None:
                    self._place(tree, digest)
                    values = (digest, size, created_by, row.created, "\n".join(passthrough))
                    connection.execute("INSERT INTO layers VALUES (?, ?, ?, ?, ?)", values)
                connection.execute("INSERT OR IGNORE INTO leased VALUES (?, ?)", (lease.id, digest))
        except OSError as error:
            raise StoreError(self._layout.root, explain(error)) from error
        return row if found is None else to_row(found)

    def _place(self, tree: str, digest: str) -> None:
        target = self._layout.layer(digest)
        if os.path.lexists(target):
            self._layout.discard([target])  # no row: a removal that did not come to its end
        os.rename(tree, target)  # noqa: PTH104
        sync_directory(os.path.dirname(target))  # noqa: PTH120

    def remove_unused(self, candidates: Iterable[str]) -> None:
        """Remove those of the layers that no image and no lease uses, and what the build cache knows of them."""
        dropped = []
        with self._database.writing(durable=False) as connection:
            for digest in candidates:
                if not _is_used(connection, digest):
                    connection.execute("DELETE FROM layers WHERE digest = ?", (digest,))
                    dropped.append(digest)
        if not dropped:
            return
        # In a transaction of its own, so that nobody commits the layer anew between the look and the rename.
        with self._database.writing(durable=False) as connection:
            query = "SELECT 1 FROM layers WHERE digest = ?"
            gone = [digest for digest in dropped if connection.execute(query, (digest,)).fetchone() is None]
            self._layout.discard([self._layout.layer(digest) for digest in gone])


SELECT = "SELECT digest, size, created_by, created, passthrough FROM layers"


def to_row(values: tuple[object, ...]) -> LayerRow:
    """Return a row of SELECT as a value."""
    *fields, passthrough = values
    return LayerRow(*fields, tuple(str(passthrough).split("\n")) if passthrough else ())  # type: ignore[arg-type]


def _is_used(connection: sqlite3.Connection, digest: str) -> bool:
    query = "SELECT 1 FROM image_layers WHERE layer = ?1 UNION ALL SELECT 1 FROM leased WHERE layer = ?1 LIMIT 1"
    return connection.execute(query, (digest,)).fetchone() is not None
