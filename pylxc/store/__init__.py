"""The store: the only writer of state on disk.

SQLite for the index, directories for content. ``database`` hides SQLite, ``layout`` the directories; ``leases``,
``layers``, ``blobs``, ``images``, ``containers``, ``volumes``, ``networks`` and ``cache`` are the tables with what
belongs to them on disk, ``uppers`` is what containers wrote that has become layers, ``hostsfiles`` is what containers
know each other by, ``cachemounts`` are directories that builds keep, ``claims`` says who makes what several want,
``settling`` puts layers on disk beside the work, ``spares`` are directories for the next containers, ``eventlog`` is
what is told of containers; ``upkeep`` is what a check asks, ``salvage`` makes the index anew.
Invariant: what the index names is there, whole and on disk; what it does not name is rubbish that the next process
removes. But volumes and containers hold what nobody can make again: of those only what a removal has marked is rubbish
(``going``).
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from pylxc.errors import StoreError
from pylxc.identity import boot_id
from pylxc.store.blobs import BlobRow, Blobs
from pylxc.store.cache import BuildCache
from pylxc.store.claims import Claims
from pylxc.store.containers import ContainerRow, Containers
from pylxc.store.database import REMEDY, DamagedIndexError, Database
from pylxc.store.eventlog import EventLog
from pylxc.store.hostsfiles import HostsFiles
from pylxc.store.images import ImageContent, ImageRow, Images, TagMove
from pylxc.store.layers import LayerRow, Layers, Staged
from pylxc.store.layout import Layout, explained
from pylxc.store.leases import Lease, Leases
from pylxc.store.networks import End, NetworkRow, Networks, Wish
from pylxc.store.uppers import Uppers
from pylxc.store.volumes import VolumeRow, Volumes, VolumeUse

if TYPE_CHECKING:
    from collections.abc import Callable

    from pylxc.store.cachemounts import CacheMounts
    from pylxc.store.upkeep import Upkeep

__all__ = [
    "BlobRow",
    "ContainerRow",
    "End",
    "ImageContent",
    "ImageRow",
    "LayerRow",
    "Lease",
    "NetworkRow",
    "Staged",
    "Store",
    "TagMove",
    "VolumeRow",
    "VolumeUse",
    "Wish",
]


class Store:
    """One store, opened. Several processes, and several threads of each, may use it at once.

    ``is_read_only``: its file system is; what is in the store can be read, and all else raises StoreError.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """Open the store at a path; make it where there is none. Raises StoreError."""
        self.layout = Layout(str(root))
        self.is_read_only = self.layout.is_read_only()
        if not self.is_read_only:
            self.layout.make()
        self._refuse_lost_index()
        database = self._database = Database(
            self.layout.database, self.layout.make_room, self.layout.keep_reserve, is_read_only=self.is_read_only
        )
        self.layout.make_once(self.layout.database, database.make)
        self.blobs = Blobs(database, self.layout)
        self.layers = Layers(database, self.layout, self.blobs)
        self.leases = Leases(database, self.layout, self.layers)
        self.claims = Claims(self.layout)
        self.images = Images(database, self.layout, self.layers, self.blobs, self.leases)
        self.volumes = Volumes(database, self.layout)
        self.networks = Networks(database)
        self.containers = Containers(database, self.layout, self.volumes, self.networks, self.leases)
        self.uppers = Uppers(database, self.layout, self.layers, self.leases)
        self.hostsfiles = HostsFiles(self.layout, self.networks)
        self.cache = BuildCache(database)
        self.events = EventLog(self.layout.root)
        if not self.is_read_only:
            with explained(self.layout.root):
                self._tidy()

    def _refuse_lost_index(self) -> None:
        """Keep an index that is lost from being taken for that of a new store, whose directories hold rubbish only."""
        path = self.layout.database
        # In this order: who makes a new store makes the index first.
        if not os.path.exists(path) and self.layout.has_content() and not os.path.exists(path):  # noqa: PTH110
            raise DamagedIndexError(path, f"is not there, and the store is not empty; {REMEDY}")

    @cached_property
    def cachemounts(self) -> CacheMounts:
        """The directories that builds keep."""
        from pylxc.store.cachemounts import CacheMounts  # noqa: PLC0415  few builds have any

        return CacheMounts(self.layout)

    @cached_property
    def upkeep(self) -> Upkeep:
        """What a check asks of the store."""
        from pylxc.store.upkeep import Upkeep  # noqa: PLC0415  only for checks

        return Upkeep(self._database, self.layout)

    def after_transaction(self, work: Callable[[], object]) -> None:
        """Do what a garbage collection asks for, which may come in the middle of a transaction of the same thread."""
        self._database.after_transaction(work)

    def close(self) -> None:
        """Close this process's connection to the index; the next use makes another one."""
        self.containers.spares.drop()
        self._database.close()

    def _tidy(self) -> None:
        """Remove what processes that were killed left. Everything is looked at only when one was, or after a boot."""
        abandoned = self.leases.abandoned()
        is_new_boot = not self.layout.is_known_boot(boot_id())
        if is_new_boot:
            self.layers.forget_unsettled()
        if abandoned or is_new_boot:
            self.uppers.recover()
            self.layers.sweep()
            self.blobs.sweep()
            self.images.sweep()
        self.leases.drop(abandoned)  # only now: a process that is killed up to here leaves the work to the next one
        self.leases.sweep()
        self.layout.sweep_files()
        # What cannot be removed now, a file system still mounted there for instance, keeps nobody from working: it
        # stays in the trash, or without a row, and the next process tries again.
        for remove_rubbish in (
            self.containers.sweep,
            self.containers.spares.sweep,
            self.volumes.sweep,
            self.layout.empty_trash,
        ):
            with suppress(StoreError):
                remove_rubbish()
        self.layout.keep_reserve()
        if is_new_boot:
            self.layout.note_boot(boot_id())
