"""Reads what a stack of layers shows as one tree, for a COPY from a stage or an image.

Invariant: links are followed inside the image's root only, and nothing outside the layers (and what the host image
passes through) is opened. Layers never change, so what was found once is remembered.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from typing import IO, TYPE_CHECKING, ClassVar

from pylxc.build.confined import KINDS, ConfinedTree, open_regular
from pylxc.layerview import LayerView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pylxc.build.confined import Kind

_OVERLAY = ("user.overlay.", "trusted.overlay.")  # marks of the store's own


class LayerTree(ConfinedTree):
    """Layers, the topmost first, in the manner of a :class:`ConfinedTree`; ``called`` is what errors call them."""

    kinds: ClassVar[dict[int, Kind]] = {**KINDS, stat.S_IFCHR: "character", stat.S_IFBLK: "block"}

    def __init__(self, lowers: Sequence[str], passthrough: Sequence[str], called: str) -> None:  # no root to open
        self.called = called
        self._view = LayerView(lowers, passthrough)
        self._known: dict[str, tuple[str, ...]] = {"": tuple(lowers)}  # directories

    def close(self) -> None:
        """Do nothing: no descriptor is kept."""

    def _places(self, path: str) -> tuple[str, ...]:
        """Return where a path without links lies. Raises FileNotFoundError."""
        found = self._known.get(path)
        if found is None:
            parent, name = posixpath.split(path)
            above = self._places(parent)
            if parent not in self._known:  # it may be a link, which would lead anywhere
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            found = self._view.child(above, name, f"/{path}")
            if not found:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            if stat.S_ISDIR(os.lstat(found[0]).st_mode):
                self._known[path] = found
        return found

    def _place(self, path: str) -> str:
        places = self._places(path)
        return places[0] if places else "/"  # the root of "scratch" is a directory, too, of which no more is asked

    def lstat(self, path: str) -> os.stat_result:
        """Give a path's status; of a link, the link's own."""
        return os.lstat(self._place(path))

    def readlink(self, path: str) -> str:
        """Give a link's text."""
        return os.readlink(self._place(path))  # noqa: PTH115

    def names(self, path: str) -> list[str]:
        """Give the names in a directory, in byte order."""
        places = self._places(path)
        if path not in self._known:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return sorted(self._view.names(places), key=os.fsencode)

    def open_file(self, path: str, stamp: tuple[int, int, int] | None = None) -> IO[bytes]:  # noqa: ARG002  never changes
        """Open a regular file."""
        return open_regular(self._place(path), path, os.O_NOFOLLOW)

    def listed(self, path: str) -> list[tuple[str, os.stat_result]]:
        """Give the names in a directory with their status, in byte order."""
        return [(name, self.lstat(posixpath.join(path, name))) for name in self.names(path)]

    def read_file(self, path: str, stamp: tuple[int, int, int], size: int) -> bytes:
        """Give the content of a small regular file."""
        with self.open_file(path, stamp) as stream:
            return stream.read(size)

    def attributes(self, path: str) -> tuple[tuple[str, bytes], ...]:
        """Give the extended attributes of a path, by name; those of overlayfs are the store's affair."""
        place = self._place(path)
        names = [name for name in os.listxattr(place, follow_symlinks=False) if not name.startswith(_OVERLAY)]
        return tuple((name, os.getxattr(place, name, follow_symlinks=False)) for name in sorted(names))
