"""The store: the only writer of state on disk.

SQLite for the index, directories for content. ``database`` hides SQLite, ``layout`` the directories; ``leases``, ``layers``,
``images``, ``containers`` and ``cache`` are the tables with what belongs to them on disk. Invariant: what the index names is
there, whole and on disk; what it does not name is rubbish that the next process removes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylxc.store.cache import BuildCache
from pylxc.store.containers import ContainerRow, Containers
from pylxc.store.database import Database
from pylxc.store.images import ImageRow, Images, TagMove
from pylxc.store.layers import LayerRow, Layers
from pylxc.store.layout import Layout
from pylxc.store.leases import Lease, Leases

if TYPE_CHECKING:
    import os

__all__ = ["ContainerRow", "ImageRow", "LayerRow", "Lease", "Store", "TagMove"]


class Store:
    """One store, opened. Several processes, and several threads of each, may use it at once."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """Open the store at a path; make it where there is none. Raises StoreError."""
        self.layout = Layout(str(root))
        self.layout.make()
        database = Database(self.layout.database)
        self.leases = Leases(database, self.layout)
        self.layers = Layers(database, self.layout)
        self.images = Images(database, self.layout, self.layers)
        self.containers = Containers(database, self.layout)
        self.cache = BuildCache(database)
        self.leases.sweep()
        self.containers.sweep()
        self.layout.empty_trash()
