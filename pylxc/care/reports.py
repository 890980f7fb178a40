"""What is told of a store: problems, repairs, room, and what was removed. Frozen values; no I/O."""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import frozen

ProblemKind: TypeAlias = Literal[
    "index",
    "reference",
    "layer",
    "archive",
    "configuration",
    "manifest",
    "layout",
    "tag",
    "container",
    "volume",
    "stray",
    "lease",
]


@frozen
class Problem:
    """One thing that is wrong with a store.

    ``kind``: "index" (the database as a file), "reference" (a row names another that is not there), "layer" (a tree is
    not what its tar says), "archive" (of a layer), "configuration" and "manifest" (of an image), "layout"
    (``oci/index.json``, ``oci/oci-layout``), "tag" (or its log), "container" and "volume" (a row without a directory),
    "stray" (a file that nothing names), "lease" (of a process that is gone). ``subject``: which one; ``what`` is wrong;
    ``remedy``: what would do. ``repairable``: :meth:`pylxc.Engine.repair` mends it by itself.
    """

    kind: ProblemKind
    subject: str
    what: str
    remedy: str
    repairable: bool = True

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}: {self.what}; {self.remedy}"


@frozen
class CheckReport:
    """What :meth:`pylxc.Engine.check` found. ``layers`` and ``blobs``: how many were looked at."""

    problems: tuple[Problem, ...]
    layers: int = 0
    blobs: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@frozen
class RepairReport:
    """What :meth:`pylxc.Engine.repair` did.

    ``repaired``: what was wrong and no longer is. ``left``: what is still wrong; each says what would do. ``saved``:
    paths of what was moved aside, such as a damaged index: look into them, and remove them by hand.
    """

    repaired: tuple[Problem, ...]
    left: tuple[Problem, ...]
    saved: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong any more."""
        return not self.left


@frozen
class Usage:
    """The room that one kind of thing takes up.

    ``count``; ``active``: how many of them are in use; ``size``: bytes on disk, what is shared counted once;
    ``reclaimable``: bytes of it that removing what is not in use would free.
    """

    count: int
    active: int
    size: int
    reclaimable: int


@frozen
class DiskUsage:
    """The room that a store takes up, as ``docker system df`` has it.

    ``images`` (active: containers were made from them), ``containers`` (active: they run), ``volumes`` (active: a
    container has them), ``build_cache`` (layers that only the build cache wants, and the caches that RUN steps mount;
    active: an image has the layer, a step the cache).
    """

    images: Usage
    containers: Usage
    volumes: Usage
    build_cache: Usage

    @property
    def size(self) -> int:
        """All of it, in bytes."""
        return self.images.size + self.containers.size + self.volumes.size + self.build_cache.size


@frozen
class Pruned:
    """What :meth:`pylxc.Engine.prune` removed: ids of ``containers``, ``images``; names of ``volumes``, ``networks``.

    ``untagged``: the references that went with the images. ``cached``: how many entries of the build cache,
    and of its cache mounts. ``reclaimed``: bytes on disk.
    """

    containers: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    untagged: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    cached: int = 0
    reclaimed: int = 0
    networks: tuple[str, ...] = ()
