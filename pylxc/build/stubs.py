"""The mount points of a RUN's mounts, which must not stay in its layer.

Hides which of them were made for the mounts, and what making them left behind. Invariant: only what is empty, below a
path where the image had nothing, is taken out of a layer, and directories that came along unchanged; the layer is at
rest, and it is walked by descriptors without following a link, so nothing outside is touched whatever the step made of
the way.
"""

from __future__ import annotations

import errno
import functools
import os
import posixpath
import stat
import time
from typing import TYPE_CHECKING

from attrs import frozen

from pylxc.runtime import rootless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pylxc.layerview import LayerView

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_OPAQUE = "user.overlay.opaque"
_OVERLAY = "user.overlay."


@frozen
class Stubs:
    """What mounts make in a layer: paths that are ``missing`` in the image, and the ``ways`` to them, which it has.

    ``begin``: when they were looked for (ns since the epoch). Paths have no links in them.
    """

    missing: tuple[str, ...] = ()
    ways: tuple[str, ...] = ()
    begin: int = 0

    @classmethod
    def of(cls, view: LayerView, targets: Iterable[str]) -> Stubs:
        """Look at an image, before anything is mounted, for what targets (absolute, normalised) it does not have."""
        missing: set[str] = set()
        ways: set[str] = set()
        begin = time.time_ns()
        for target in targets:
            way, tail = _split(view, view.place(target))
            for name in tail:
                if way != "/":
                    ways.add(way)
                way = posixpath.join(way, name)
                missing.add(way)
        ways |= {parent for way in ways for parent in _parents(way)}
        return cls(tuple(sorted(missing)), tuple(sorted(ways - missing)), begin)

    def remove(self, upper: str, view: LayerView) -> None:
        """Take out of a layer, which nothing writes to any more, what the mounts left in it. Raises OSError."""
        if self.missing:
            rootless.as_owner(self._remove, upper, view)

    def _remove(self, upper: str, view: LayerView) -> None:
        top = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for path in reversed(self.missing):  # sorted: what lies below a path comes after it
                _in_parent(top, path, _remove_empty)
            for path in reversed(self.ways):
                below = view.locate(path)
                if below is not None:
                    _in_parent(top, path, functools.partial(self._remove_unchanged, below))
        finally:
            os.close(top)

    def _remove_unchanged(self, below: str, parent: int, name: str) -> None:
        """Remove an empty directory that came into the layer only because something was made in it."""
        fd = os.open(name, _OPEN_DIRECTORY, dir_fd=parent)
        try:
            mine, theirs = os.fstat(fd), os.lstat(below)
            fields = ("st_mode", "st_uid", "st_gid")
            same = all(getattr(mine, one) == getattr(theirs, one) for one in fields)
            # A time from before the mounts were made is one that the step gave it.
            same = same and (mine.st_mtime_ns >= self.begin or mine.st_mtime_ns == theirs.st_mtime_ns)
            same = same and _OPAQUE not in os.listxattr(fd) and _attributes(fd) == _attributes(below)
        finally:
            os.close(fd)
        if same:
            _keeping_time(parent, lambda: os.rmdir(name, dir_fd=parent))


def _parents(path: str) -> list[str]:
    parts = path.strip("/").split("/")
    return ["/" + "/".join(parts[:count]) for count in range(1, len(parts))]


def _split(view: LayerView, target: str) -> tuple[str, list[str]]:
    """Return what there is of a path, links followed, and the names of what there is not."""
    parts = target.strip("/").split("/")
    for count in range(len(parts), 0, -1):
        found = view.resolve("/" + "/".join(parts[:count]))
        if found is not None:
            return found, parts[count:]
    return "/", parts


def _in_parent(top: int, path: str, act: Callable[[int, str], object]) -> None:
    """Call ``act(parent, name)`` with the directory that a path of the layer lies in; nothing where there is none."""
    *way, name = path.strip("/").split("/")
    at = os.dup(top)
    try:
        for part in way:
            following = os.open(part, _OPEN_DIRECTORY, dir_fd=at)
            os.close(at)
            at = following
        act(at, name)
    except OSError as error:
        if error.errno not in (*_GONE, errno.ENOTEMPTY, errno.EEXIST):
            raise
    finally:
        os.close(at)


def _remove_empty(parent: int, name: str) -> None:
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        _keeping_time(parent, lambda: os.rmdir(name, dir_fd=parent))
    elif stat.S_ISREG(status.st_mode) and not status.st_size:
        _keeping_time(parent, lambda: os.unlink(name, dir_fd=parent))


def _keeping_time(directory: int, change: Callable[[], object]) -> None:
    before = os.fstat(directory)
    change()
    os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))


def _attributes(file: int | str) -> dict[str, bytes]:
    """Return the extended attributes of a directory, without overlayfs's notes."""
    return {name: os.getxattr(file, name) for name in os.listxattr(file) if not name.startswith(_OVERLAY)}
