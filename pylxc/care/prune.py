"""Removes what is not in use.

Invariant: what a container, a lease or another living process has is never taken; each thing goes by the same way as
when it is removed by name, so a kill in between leaves what the next process tidies, and a full disk is no obstacle.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from attrs import frozen

from pylxc.care.reports import Pruned
from pylxc.care.usage import room, taken_by
from pylxc.errors import Conflict, NotFound, SpecError
from pylxc.filters import has_label, labels_of
from pylxc.launching import ALIVE
from pylxc.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    from pylxc.engine import Engine


@frozen
class Wanted:
    """What may go: what was made before a time (s since the epoch, None = any), and has these labels, not those."""

    before: float | None
    labels: tuple[str, ...]
    without: tuple[str, ...]

    @classmethod
    def of(cls, until: float | str | None, labels: Sequence[str], without: Sequence[str]) -> Wanted:
        """Return what the options say. Raises SpecError."""
        before = None if until is None else time.time() - parse_duration(until, "until")
        for option, given in (("labels", labels), ("without_labels", without)):
            if isinstance(given, str) or not all(isinstance(one, str) and one.partition("=")[0] for one in given):
                raise SpecError(option, given, 'give a list of "key" or "key=value"')
        return cls(before, tuple(labels), tuple(without))

    def is_old(self, created: float) -> bool:
        """Say whether something was made long enough ago."""
        return self.before is None or created < self.before

    def passes(self, created: float, labels: Mapping[str, str]) -> bool:
        """Say whether something of this age, with these labels, may go."""
        return (
            self.is_old(created)
            and all(has_label(labels, one) for one in self.labels)
            and not any(has_label(labels, one) for one in self.without)
        )


def prune(  # noqa: PLR0913  one for each kind
    engine: Engine,
    wanted: Wanted,
    *,
    containers: bool,
    networks: bool,
    images: bool,
    every: bool,
    volumes: bool | Literal["all"],
    cache: bool,
) -> Pruned:
    """See :meth:`pylxc.Engine.prune`."""
    digests = engine.store.upkeep.digests() if images or cache else ()
    before = {digest: room(engine, [digest]) for digest in digests}
    gone_containers, freed = _containers(engine, wanted) if containers else ((), 0)
    gone_networks = _networks(engine, wanted) if networks else ()
    gone_volumes, emptied = _volumes(engine, wanted, every=volumes == "all") if volumes else ((), 0)
    gone_images, untagged = _images(engine, wanted, every=every) if images else ((), ())
    # What the build cache has bears no labels.
    unlabelled = cache and not (wanted.labels or wanted.without)
    cached = _cache(engine, wanted, every=every) if unlabelled else 0
    mounts, cleared = engine.store.cachemounts.remove_unused(wanted.before, taken_by) if unlabelled else (0, 0)
    left = engine.store.upkeep.digests()
    freed += emptied + cleared + sum(size for digest, size in before.items() if digest not in left)
    return Pruned(gone_containers, gone_images, untagged, gone_volumes, cached + mounts, freed, gone_networks)


def _containers(engine: Engine, wanted: Wanted) -> tuple[tuple[str, ...], int]:
    owners = {row.id: row.owner for row in engine.store.containers.list()}
    gone, freed = [], 0
    for container in engine.containers():
        owner = owners.get(container.id)
        if owner is not None and owner.pid != os.getpid() and not owner.is_gone():
            continue
        with suppress(NotFound, Conflict):  # removed, or started, meanwhile
            if container.status() not in ALIVE and wanted.passes(container.created, labels_of(container)):
                taken = taken_by(engine.container_directory(container.id))
                container.remove()
                gone.append(container.id)
                freed += taken
    return tuple(gone), freed


def _networks(engine: Engine, wanted: Wanted) -> tuple[str, ...]:
    """Remove the networks that no container is on; the default one, which comes and goes by itself, is left."""
    from pylxc import networking  # noqa: PLC0415  only here

    gone = []
    for row in engine.store.networks.list():
        is_anothers = row.owner is not None and row.owner.pid != os.getpid() and not row.owner.is_gone()
        if not (row.is_shared or is_anothers) and wanted.passes(row.created, row.labels):
            with suppress(Conflict):  # there are some, or one has just come
                networking.remove(engine.store, row)
                gone.append(row.name)
    return tuple(gone)


def _volumes(engine: Engine, wanted: Wanted, *, every: bool) -> tuple[tuple[str, ...], int]:
    gone, freed = [], 0
    for row in engine.store.volumes.list():
        if (
            (every or row.anonymous)
            and wanted.passes(row.created, row.labels)
            and not engine.store.volumes.users(row.name)
        ):
            taken = taken_by(engine.store.layout.volume(row.name))
            with suppress(NotFound, Conflict):  # removed, or used, meanwhile
                engine.store.volumes.remove(row.name)
                gone.append(row.name)
                freed += taken
    return tuple(gone), freed


def _images(engine: Engine, wanted: Wanted, *, every: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    gone: list[str] = []
    untagged: list[str] = []
    for row in engine.store.images.list():
        config = row.document.config
        if (every or not row.refs) and wanted.passes(row.document.created, config.labels):
            with suppress(NotFound, Conflict):  # removed meanwhile; a container was made from it
                engine.store.images.remove(row.id)
                gone.append(row.id)
                untagged += row.refs
    return tuple(gone), tuple(untagged)


def _cache(engine: Engine, wanted: Wanted, *, every: bool) -> int:
    """Forget entries of the build cache, and remove the layers that nothing else wants. Returns how many entries."""
    with engine.store.leases.noted(freeing=True):
        forgotten = engine.store.cache.forget(wanted.before, every=every)
        engine.store.layers.remove_unused(engine.store.upkeep.orphans())
    return forgotten
