"""Layers: what one step of a build, or one import, added to an image.

Invariant: a layer is named by its content (the diff id, OCI image-spec, layer.md) and never changes.
"""

from __future__ import annotations

import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pylxc.values import field, frozen

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from typing import BinaryIO

    from pylxc.engine import Engine


@frozen
class LayerEntry:
    """One entry of a layer.

    ``path`` (relative), ``kind`` ("file", "directory", "symlink", "whiteout", "other"), ``mode`` (permission bits),
    ``size`` (bytes of a file, or of a symbolic link's text; else 0), ``uid``, ``gid``.
    """

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

        It may be left before its end. Raises SpawnError (stage "pack") on leaving the block when the tree could not be
        read; IntegrityError when the layer came from elsewhere and its archive is gone.
        """
        import errno  # noqa: PLC0415  not on the start path

        from pylxc.errors import SpawnError  # noqa: PLC0415
        from pylxc.exchange import plain  # noqa: PLC0415

        try:
            with plain.opened(self._engine, self.digest) as stream:
                yield stream
        except SpawnError as error:
            if error.errno != errno.EPIPE:  # the packer's, when nobody reads on
                raise

    def entries(self) -> Iterator[LayerEntry]:
        """Yield the layer's entries in the order of its tar: a directory before what it holds, names in byte order.

        Raises OSError when the tree cannot be read.
        """
        from pylxc.runtime import rootless  # noqa: PLC0415  not on the start path

        if rootless.is_privileged():
            yield from self._entries()
        else:
            yield from rootless.as_owner(lambda: [*self._entries()])

    def _entries(self) -> Iterator[LayerEntry]:
        import os  # noqa: PLC0415  not on the start path

        top = self._engine.layer_directory(self.digest)
        pending = _children(top)
        while pending:
            path = pending.pop()
            entry = _entry(path[len(top) + 1 :], os.lstat(path))
            yield entry
            if entry.kind == "directory":
                pending += _children(path)


def _children(directory: str) -> list[str]:
    """Return the paths in a directory, the last one first."""
    import os  # noqa: PLC0415

    names = sorted(os.listdir(directory), key=os.fsencode, reverse=True)  # noqa: PTH208
    return [f"{directory}/{name}" for name in names]


def _entry(path: str, status: os.stat_result) -> LayerEntry:
    kind = _kind(status)
    size = status.st_size if kind in ("file", "symlink") else 0
    return LayerEntry(path, kind, stat.S_IMODE(status.st_mode), size, status.st_uid, status.st_gid)


def _kind(status: os.stat_result) -> str:
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
        return "whiteout"
    kinds = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"), (stat.S_ISLNK, "symlink"))
    return next((name for check, name in kinds if check(status.st_mode)), "other")
