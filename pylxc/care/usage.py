"""Measures what room a store takes up. Invariant: bytes on disk; what several share is counted once."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from pylxc.care.reports import DiskUsage, Usage
from pylxc.errors import ContainerNotFound
from pylxc.launching import ALIVE
from pylxc.runtime import rootless

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pylxc.engine import Engine

SECTOR = 512  # bytes; st_blocks counts these (stat(2))


def disk_usage(engine: Engine) -> DiskUsage:
    """See :meth:`pylxc.Engine.disk_usage`."""
    return DiskUsage(_images(engine), _containers(engine), _volumes(engine), _build_cache(engine))


def _images(engine: Engine) -> Usage:
    content = engine.store.upkeep.content()
    used = {row.image for row in engine.store.containers.list()}
    active = content.keys() & used
    everything = room(engine, set().union(*content.values()))
    kept = room(engine, set().union(*(content[image] for image in active)))
    return Usage(len(content), len(active), everything, everything - kept)


def _containers(engine: Engine) -> Usage:
    count = active = size = reclaimable = 0
    shared = set().union(*engine.store.upkeep.content().values())
    for container in engine.containers():
        with suppress(ContainerNotFound):  # removed meanwhile
            alive = container.status() in ALIVE
            taken = taken_by(engine.container_directory(container.id))
            given = engine.store.uppers.layer_of(container.id)
            taken += 0 if given is None or given in shared else room(engine, (given,))
            count, active, size = count + 1, active + alive, size + taken
            reclaimable += 0 if alive else taken
    return Usage(count, active, size, reclaimable)


def _volumes(engine: Engine) -> Usage:
    active = size = reclaimable = 0
    rows = engine.store.volumes.list()
    for row in rows:
        taken = taken_by(engine.store.layout.volume(row.name))
        used = bool(engine.store.volumes.users(row.name))
        active, size = active + used, size + taken
        reclaimable += 0 if used else taken
    return Usage(len(rows), active, size, reclaimable)


def _build_cache(engine: Engine) -> Usage:
    entries, used, alone = engine.store.upkeep.cached()
    size = room(engine, alone)
    mounts = engine.store.cachemounts
    taken = [(row.active, taken_by(mounts.path(row.name))) for row in mounts.all()]
    in_use = sum(size for active, size in taken if active)
    size += sum(size for _, size in taken)
    return Usage(entries + len(taken), used + sum(active for active, _ in taken), size, size - in_use)


def room(engine: Engine, digests: Iterable[str]) -> int:
    """Return what the trees and the blobs of these digests take up, in bytes on disk."""
    layout = engine.store.layout
    return sum(taken_by(path) for digest in digests for path in (layout.layer(digest), layout.blob(digest)))


def taken_by(path: str) -> int:
    """Return what a tree takes up, in bytes on disk; 0 when it is not there. Hard links count once."""
    if not os.path.lexists(path):
        return 0
    try:
        return _taken_by(path)
    except PermissionError:
        return rootless.as_owner(_taken_by, path)


def _taken_by(path: str) -> int:
    total, seen = 0, set()
    pending = [path]
    while pending:
        place = pending.pop()
        with suppress(FileNotFoundError, NotADirectoryError):  # it goes while we look
            status = os.lstat(place)
            if status.st_nlink > 1 and (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            total += status.st_blocks * SECTOR
            if stat.S_ISDIR(status.st_mode):
                pending += [f"{place}/{name}" for name in os.listdir(place)]  # noqa: PTH208
    return total
