"""Volumes: directories of the store that outlive the containers which have them.

Invariant: a :class:`Volume` is a value; what it says was true when it was asked for. Files in a volume have the ids
that containers see, whichever range a container has on the host.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

from pylxc.defaults import engine_of
from pylxc.errors import VolumeNotFound
from pylxc.filters import checked_filters, has_label, passes, says
from pylxc.mounts import volume_name
from pylxc.normalise import NORMAL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pylxc.care.reports import Pruned
    from pylxc.engine import Engine
    from pylxc.store import VolumeRow


@frozen
class Volume:
    r"""A volume: a directory that outlives the containers which have it.

    ``name``; ``labels``; ``created`` (s since the epoch); ``anonymous`` (it was made for one container, and goes with
    it); ``path`` (where it lies on the host: for backups and for looking; the store's owner alone may go there).

    A volume is used by its name: ``volumes={"data": "/var/lib/data"}``. One that is not there yet is made then. When a
    container starts for the first time with a volume that is empty, the volume gets what the image has at the target,
    with owners, modes and attributes (``"/var/lib/data:nocopy"`` leaves it empty). Without a name
    (``volumes=["/var/lib/data"]``, or a VOLUME of the image), it is made for the container and removed with it.

    Example:
        >>> pylxc.run("host", ["sh", "-c", "echo kept >/data/file"], volumes={"shelf": "/data"})  # doctest: +SKIP
        >>> pylxc.run("host", ["cat", "/data/file"], volumes={"shelf": "/data:ro"}).text
        'kept\n'
        >>> pylxc.Volume.get("shelf").remove()

    """

    name: str
    created: float
    labels: dict[str, str] = field(eq=False)
    anonymous: bool = field(eq=False)
    path: Path = field(eq=False)
    _engine: Engine = field(eq=False, repr=False)

    @classmethod
    def create(
        cls,
        name: str | None = None,
        *,
        labels: Mapping[str, str] | Sequence[str] | None = None,
        engine: Engine | None = None,
    ) -> Volume:
        """Make an empty volume; without a name it gets one of 64 hexadecimal digits.

        One that is there already is returned as it is, as by ``docker volume create``. Raises SpecError for what
        cannot be a name; Conflict when a volume of that name has other labels than those that are given.

        Example:
            >>> pylxc.Volume.create("data", labels={"tier": "db"}).path             # doctest: +SKIP
            PosixPath('/var/lib/pylxc/volumes/data/data')

        """
        chosen = engine_of(engine)
        checked = os.urandom(32).hex() if name is None else volume_name(name, "name")
        given: dict[str, str] = {} if labels is None else NORMAL["labels"]("labels", labels)
        return _of(chosen, chosen.store.volumes.add(checked, given))

    @classmethod
    def get(cls, name: str, *, engine: Engine | None = None) -> Volume:
        """Return the volume of this name. Raises VolumeNotFound."""
        chosen = engine_of(engine)
        return _of(chosen, chosen.store.volumes.get(name))

    @classmethod
    def list(cls, filters: Mapping[str, str] | None = None, *, engine: Engine | None = None) -> list[Volume]:
        """Return all volumes, by name.

        ``filters``: ``{"name": part of it, "label": "key" or "key=value", "dangling": "true" (no container has it) or
        "false"}``. Raises SpecError for a filter that does not exist.
        """
        chosen = engine_of(engine)
        wanted = checked_filters(filters, FILTERS)
        found = (_of(chosen, row) for row in chosen.store.volumes.list())
        return [volume for volume in found if passes(volume, wanted, FILTERS)]

    @classmethod
    def prune(
        cls,
        *,
        all: bool = False,  # noqa: A002  docker's name
        labels: Sequence[str] = (),
        without_labels: Sequence[str] = (),
        engine: Engine | None = None,
    ) -> Pruned:
        """Remove the anonymous volumes that no container has, with ``all`` the others, too, as docker does.

        ``labels``: only those that have each of these ("key" or "key=value"); ``without_labels``: only those that have
        none of these. Raises SpecError, StoreError.

        Example:
            >>> pylxc.Volume.prune(all=True, without_labels=["keep"]).volumes       # doctest: +SKIP
            ('data',)

        """
        return engine_of(engine).prune(
            containers=False,
            images=False,
            cache=False,
            networks=False,
            volumes="all" if all else True,
            labels=labels,
            without_labels=without_labels,
        )

    def snapshot(self, name: str, *, labels: Mapping[str, str] | Sequence[str] | None = None) -> Volume:
        """Make a volume with what this one has now, with owners, modes, attributes, times, hard links and holes.

        Where the file system can (btrfs, xfs) the two share their blocks until one is written to; else it is a copy.
        ``labels``: by default this one's.

        Containers may write to it meanwhile: each file is then what it was at some moment, though not all at the same
        one. For a state of one moment pause them (:meth:`Container.pause`), or let them write what they hold first, as
        a database does for a backup.

        Raises SpecError for what cannot be a name; Conflict when it is taken; VolumeNotFound when this one is gone;
        StoreError.

        Example:
            >>> pylxc.Volume.get("data").snapshot("data-before").path               # doctest: +SKIP
            PosixPath('/var/lib/pylxc/volumes/data-before/data')

        """
        given = None if labels is None else NORMAL["labels"]("labels", labels)
        store = self._engine.store
        with store.leases.take() as lease:
            return _of(self._engine, store.volumes.snapshot(lease, self.name, volume_name(name, "name"), given))

    def containers(self) -> Sequence[str]:
        """Return the ids of the containers that have it, whether they run or not."""
        return self._engine.store.volumes.users(self.name)

    def remove(self, force: bool = False) -> None:  # noqa: FBT001, FBT002  docker-py's signature
        """Remove the volume with all that is in it.

        Raises Conflict when a container has it, running or not; VolumeNotFound when it is gone already, unless
        ``force``.
        """
        try:
            self._engine.store.volumes.remove(self.name)
        except VolumeNotFound:
            if not force:
                raise


FILTERS: dict[str, Callable[[Volume, str], bool]] = {
    "dangling": lambda volume, value: says(not volume.containers(), value, "dangling"),
    "label": lambda volume, value: has_label(volume.labels, value),
    "name": lambda volume, value: value in volume.name,
}


def _of(engine: Engine, row: VolumeRow) -> Volume:
    path = Path(engine.store.layout.volume(row.name), "data")
    return Volume(row.name, row.created, row.labels, row.anonymous, path, engine)
