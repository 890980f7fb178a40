"""Layers: what one step of a build, or one import, added to an image.

Invariant: a layer is named by its content (the diff id, OCI image-spec, layer.md) and never changes.
"""

from __future__ import annotations

import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from pylxc.engine import Engine


@frozen
class LayerEntry:
    """One entry of a layer: ``path`` (relative), ``kind`` ("file", "directory", "symlink", "whiteout", "other"), ``mode``
    (permission bits), ``size`` (bytes), ``uid``, ``gid``."""

    path: str
    kind: str
    mode: int
    size: int
    uid: int
    gid: int


@frozen
class Layer:
    """A layer. ``digest`` is its diff id, ``size`` the bytes of its tar, ``created_by`` the step that made it.

    Example:
        >>> [layer.created_by for layer in image.layers]                            # doctest: +SKIP

    """

    digest: str
    size: int
    created_by: str
    _engine: Engine = field(repr=False, eq=False)

    @contextmanager
    def tar(self) -> Iterator[BinaryIO]:
        """Give a stream of the layer as an uncompressed OCI layer tar, byte for byte what ``digest`` names.

        Raises SpawnError (stage "pack") on leaving the block when the tree could not be read.
        """
        from pylxc.runtime import transfer  # noqa: PLC0415  not on the start path

        with transfer.packed(self._engine.layer_directory(self.digest), scaffold=self._engine.scaffold) as stream:
            yield stream

    def entries(self) -> Iterator[LayerEntry]:
        """Yield the layer's entries, parents before children, sorted by name."""
        import os  # noqa: PLC0415

        top = self._engine.layer_directory(self.digest)
        for directory, names, files in os.walk(top):
            names.sort()
            for name in sorted([*names, *files]):
                path = os.path.join(directory, name)  # noqa: PTH118
                status = os.lstat(path)
                yield LayerEntry(
                    path[len(top) + 1 :],
                    _kind(status),
                    stat.S_IMODE(status.st_mode),
                    status.st_size,
                    status.st_uid,
                    status.st_gid,
                )


def _kind(status: object) -> str:
    mode: int = status.st_mode  # type: ignore[attr-defined]
    if stat.S_ISCHR(mode) and status.st_rdev == 0:  # type: ignore[attr-defined]
        return "whiteout"
    kinds = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"), (stat.S_ISLNK, "symlink"))
    return next((name for check, name in kinds if check(mode)), "other")
