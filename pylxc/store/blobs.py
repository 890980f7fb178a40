"""The files of ``oci/blobs``: configurations, manifests, and the archives of layers.

A layer's archive is kept as it came, so that the image can go out again with the digests it came with; that of a layer
which was made here is there once somebody wanted it. Invariant: a blob with a row is on disk, whole; what no image, no
manifest and no row here names is rubbish. An archive's row ends with its layer.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from attrs import frozen

from pylxc.store.layout import explained, sync_directory, sync_file

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from pylxc.store.database import Database
    from pylxc.store.layout import Layout


@frozen
class BlobRow:
    """A layer's archive: ``layer`` is its diff id, ``size`` in bytes as it lies there.

    ``made``: it was packed here, and can be again.
    """

    digest: str
    layer: str
    media_type: str
    size: int
    made: bool


class Blobs:
    """All blobs of a store."""

    def __init__(self, database: Database, layout: Layout) -> None:
        self._database = database
        self._layout = layout

    def path(self, digest: str) -> str:
        """Return the file of a blob."""
        return self._layout.blob(digest)

    def get(self, digest: str) -> BlobRow | None:
        """Return the row of a layer's archive, None when it is not kept."""
        found = self._database.row(f"{_SELECT} WHERE digest = ?", (digest,))
        return None if found is None else _to_row(found)

    def of_layer(self, layer: str) -> list[BlobRow]:
        """Return the archives that are kept of a layer; those that came from elsewhere first."""
        rows = self._database.rows(f"{_SELECT} WHERE layer = ? ORDER BY made, digest", (layer,))
        return [_to_row(row) for row in rows]

    def keep(self, staged: str, row: BlobRow) -> None:
        """Give a staged file its name, in place of one that may be damaged. A lease keeps the layer meanwhile."""
        target = self._layout.blob(row.digest)
        try:
            with explained(target):
                sync_file(staged)
                with self._database.writing(durable=True) as connection:
                    self.add(connection, staged, row)
                    self.sync_names()
        except BaseException:
            self.clear([row.digest])
            raise

    def add(self, connection: sqlite3.Connection, staged: str, row: BlobRow) -> None:
        """Give a staged file, which is on disk, its name and its row; :meth:`sync_names` comes before the commit."""
        target = self._layout.blob(row.digest)
        try:
            os.rename(staged, target)  # noqa: PTH104
        except IsADirectoryError:  # by damage
            self._layout.discard([target])
            os.rename(staged, target)  # noqa: PTH104
        values = (row.digest, row.layer, row.media_type, row.size, row.made)
        connection.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?, ?)", values)

    def sync_names(self) -> None:
        """Put the names of all blobs on disk."""
        sync_directory(f"{self._layout.root}/oci/blobs/sha256")

    def clear(self, digests: Iterable[str]) -> None:
        """Remove the files of those blobs that nothing names."""
        with self._layout.sweeping_later():
            with self._database.writing(durable=False) as connection:
                gone = [digest for digest in digests if not _is_named(connection, digest)]
                buried = self._layout.bury(map(self._layout.blob, gone))
            self._layout.empty(buried)

    def sweep(self) -> None:
        """Remove every file that nothing names: looks at all of them."""
        with self._database.writing(durable=False) as connection:
            buried = self._layout.bury_strays("oci/blobs/sha256", connection.execute(NAMED))
        self._layout.empty(buried)


def names_of(connection: sqlite3.Connection, layer: str) -> list[str]:
    """Return the digests of the archives that are kept of a layer."""
    return [row[0] for row in connection.execute("SELECT digest FROM blobs WHERE layer = ?", (layer,))]


def _to_row(values: tuple[Any, ...]) -> BlobRow:
    digest, layer, media_type, size, made = values
    return BlobRow(digest, layer, media_type, size, bool(made))


_SELECT = "SELECT digest, layer, media_type, size, made FROM blobs"
NAMED = "SELECT id FROM images UNION SELECT digest FROM manifests UNION SELECT digest FROM blobs"


def _is_named(connection: sqlite3.Connection, digest: str) -> bool:
    query = (
        "SELECT 1 FROM images WHERE id = ?1 UNION ALL SELECT 1 FROM manifests WHERE digest = ?1"
        " UNION ALL SELECT 1 FROM blobs WHERE digest = ?1"
    )
    return connection.execute(query, (digest,)).fetchone() is not None
